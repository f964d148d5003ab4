"""The hot loops in plain NumPy.

Both work on blocks of rows that fit into a core's cache, so that an array far
larger than the cache is read from memory once, and the only scratch space is
one block of float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Half a megabyte of float64: fits the L2 cache of current cores with room for
# the block it was read from.
BLOCK_VALUES = 65_536

Floats = NDArray[np.float64]


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Cut ``n_rows`` rows of ``n_columns`` values into cache-sized blocks."""
    step = max(1, BLOCK_VALUES // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def block_moments(
    block: NDArray[np.generic], weight: Floats | None, scratch: Floats
) -> tuple[float, Floats, Floats, Floats]:
    """Count, mean and squared deviations of one block, by two passes.

    This is the corrected two-pass algorithm of Chan, Golub and LeVeque
    (1983), "Algorithms for computing the sample variance", eq. 1.7: the first
    pass finds a value close to the mean, the second sums the deviations from
    it and their squares.

    Parameters
    ----------
    block : ndarray of shape (n_rows, n_features)
        Finite numbers of any real dtype.
    weight : ndarray of shape (n_rows,) or None
        Positive frequency weights; None is 1 for every row.
    scratch : ndarray of shape (>= n_rows, n_features)
        C-ordered float64 work space, overwritten.

    Returns
    -------
    count : float
        Number of rows, or sum of their weights.
    shift, residual : ndarray of shape (n_features,)
        The mean is ``shift + residual``; the sum of the two carries about
        twice the digits of either.
    squares : ndarray of shape (n_features,)
        Sum of squared deviations from the mean.
    """
    n_rows = block.shape[0]
    scratch = scratch[:n_rows]
    if weight is None:
        weight, count = np.ones(n_rows), float(n_rows)
    else:
        count = float(weight.sum())

    values: Floats = scratch
    if block.dtype == np.float64:
        values = block  # type: ignore[assignment]
    else:
        np.copyto(scratch, block, casting="same_kind")
    shift = (weight @ values) / count

    # Any shift near the mean will do. The block's own first value, where it is
    # within rounding of the mean, makes all deviations of a constant column
    # exactly 0.
    first = values[0].astype(np.float64)
    rounding = 2 * n_rows * np.finfo(np.float64).eps
    shift = np.where(np.abs(first - shift) <= rounding * np.abs(first), first, shift)

    deviations = np.subtract(values, shift, out=scratch)
    residual = (weight @ deviations) / count
    np.multiply(deviations, deviations, out=deviations)
    squares = (weight @ deviations) - count * residual * residual
    return count, shift, residual, np.maximum(squares, 0.0)


def centre_and_scale(
    X: NDArray[np.generic],
    centre: Floats | None,
    scale: Floats,
    offset: Floats | None,
    out: NDArray[np.floating],
) -> None:
    """Write ``(X - centre) * scale + offset`` into ``out``.

    Computed in float64 and rounded once to the dtype of ``out``.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        Numbers of any real dtype.
    centre, offset : ndarray of shape (n_features,) or None
        None stands for 0 and costs nothing.
    scale : ndarray of shape (n_features,)
    out : ndarray of shape (n_rows, n_features)
        float32 or float64; may be ``X`` itself.
    """
    n_rows, n_columns = X.shape
    direct = out.dtype == np.float64
    scratch = None
    for rows in row_blocks(n_rows, n_columns):
        block, target = X[rows], out[rows]
        if direct:
            work = target
        else:
            if scratch is None:
                scratch = np.empty(block.shape)
            work = scratch[: len(block)]
        if centre is None:
            np.multiply(block, scale, out=work, casting="same_kind")
        else:
            np.subtract(block, centre, out=work, casting="same_kind")
            np.multiply(work, scale, out=work)
        if offset is not None:
            np.add(work, offset, out=work)
        if not direct:
            np.copyto(target, work, casting="same_kind")
