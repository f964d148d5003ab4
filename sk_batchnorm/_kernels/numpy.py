"""The hot loops in plain NumPy.

Both work on blocks that fit into a core's cache, so that an array far larger
than the cache is read from memory once, and the only scratch space is one block
of float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Half a megabyte of float64: fits the L2 cache of current cores with room for
# the block it was read from.
BLOCK_VALUES = 65_536

# Divides nothing, a sum of 0, where nothing was observed.
SMALLEST = np.finfo(np.float64).tiny

Floats = NDArray[np.float64]


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cut an array of ``shape`` into cache-sized blocks of whole features.

    Parameters
    ----------
    shape : (n_samples, ...) or (n_samples, n_channels, n_timepoints)
        The last axis is cut too where a single sample fills a block.

    Yields
    ------
    tuple of slice
        Index of a block. The first one is the largest.
    """
    n_rows = max(1, BLOCK_VALUES // max(1, prod(shape[1:])))
    n_times = shape[2] if len(shape) == 3 else 1
    step = min(n_times, max(1, BLOCK_VALUES // shape[1])) if n_times > 1 else 1
    for row in range(0, shape[0], n_rows):
        rows = slice(row, min(row + n_rows, shape[0]))
        if step == n_times:
            yield (rows,)
        else:
            for time in range(0, n_times, step):
                times = slice(time, min(time + step, n_times))
                yield rows, slice(None), times


def block_moments(
    block: NDArray[Any], weight: Floats | None, scratch: Floats
) -> tuple[float | Floats, Floats, Floats, Floats]:
    """Count, mean and squared deviations of one block, by two passes.

    This is the corrected two-pass algorithm of Chan, Golub and LeVeque
    (1983), "Algorithms for computing the sample variance", eq. 1.7: the first
    pass finds a value close to the mean, the second sums the deviations from
    it and their squares.

    Parameters
    ----------
    block : ndarray of shape (n_rows, n_features)
        Numbers of any real dtype; NaN is a missing value.
    weight : ndarray of shape (n_rows,) or None
        Positive frequency weights; None is 1 for every row.
    scratch : ndarray of shape (>= n_rows, n_features)
        C-ordered float64 work space, overwritten.

    Returns
    -------
    count : float, or ndarray of shape (n_features,) where values are missing
        Number of observed values, or sum of their weights.
    shift, residual : ndarray of shape (n_features,)
        The mean is ``shift + residual``; the sum of the two carries about
        twice the digits of either. 0 where nothing was observed.
    squares : ndarray of shape (n_features,)
        Sum of squared deviations from the mean.

    Raises
    ------
    ValueError
        If the block contains infinity.
    """
    n_rows = block.shape[0]
    scratch = scratch[:n_rows]
    count: float | Floats
    if weight is None:
        weight, count = np.ones(n_rows), float(n_rows)
    else:
        count = float(weight.sum())

    values: Floats = scratch
    if block.dtype == np.float64:
        values = block
    else:
        np.copyto(scratch, block, casting="same_kind")
    sums = weight @ values
    first = values[0]
    missing = None
    if not all_finite(sums):
        refuse_infinity(block)
        missing = np.isnan(values)
        # The first observed value of each feature, if it has one.
        first = values[missing.argmin(axis=0), np.arange(values.shape[1])]
        first = np.where(np.isnan(first), 0.0, first)
        np.copyto(scratch, values)
        scratch[missing] = 0.0
        values = scratch
        count = weight @ ~missing
        sums = weight @ values
    shift = sums / np.maximum(count, SMALLEST)

    # Any shift near the mean will do. One of the block's own values, where it
    # is within rounding of the mean, makes all deviations of a constant column
    # exactly 0.
    rounding = 2 * n_rows * np.finfo(np.float64).eps
    shift = np.where(np.abs(first - shift) <= rounding * np.abs(first), first, shift)

    deviations = np.subtract(values, shift, out=scratch)
    if missing is not None:
        deviations[missing] = 0.0
    residual = (weight @ deviations) / np.maximum(count, SMALLEST)
    np.multiply(deviations, deviations, out=deviations)
    squares = (weight @ deviations) - count * residual * residual
    return count, shift, residual, np.maximum(squares, 0.0)


def centre_and_scale(
    block: NDArray[Any],
    centre: Floats | None,
    scale: Floats,
    offset: Floats | None,
    out: NDArray[np.floating],
    scratch: Floats | None,
) -> None:
    """Write ``(block - centre) * scale + offset`` into ``out``.

    Computed in float64 and rounded once to the dtype of ``out``.

    Parameters
    ----------
    block : ndarray
        Numbers of any real dtype.
    centre, scale, offset : ndarray that broadcasts against block
        None, for centre and offset, stands for 0 and costs nothing.
    out : ndarray of the shape of block
        float32 or float64; may be ``block`` itself.
    scratch : ndarray of the shape of block, or None
        float64 work space; not needed where ``out`` is float64.
    """
    work: NDArray[Any] = out if scratch is None else scratch
    if centre is None:
        np.multiply(block, scale, out=work, casting="same_kind")
    else:
        np.subtract(block, centre, out=work, casting="same_kind")
        np.multiply(work, scale, out=work)
    if offset is not None:
        np.add(work, offset, out=work)
    if work is not out:
        np.copyto(out, work, casting="same_kind")


def all_finite(values: NDArray[np.floating]) -> bool:
    """Whether a vector has neither NaN nor infinity; ignore overflow around it."""
    # A sum of squares is finite only if all of its terms are. The other way
    # round it may overflow, and only then is there more to look at.
    return isfinite(np.dot(values, values)) or bool(np.isfinite(values).all())


def refuse_infinity(X: NDArray[Any]) -> None:
    """Raise if X contains infinity, without a mask of the size of X.

    Parameters
    ----------
    X : ndarray
        Numbers of any real dtype.

    Raises
    ------
    ValueError
        In scikit-learn's words.
    """
    if X.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        small = X.size <= BLOCK_VALUES and X.flags.c_contiguous
        if small and all_finite(X.reshape(-1)):
            return
        for index in blocks(X.shape):
            block = X[index]
            # A sum is finite only if all of its terms are.
            if not np.isfinite(block.sum()) and np.isinf(block).any():
                raise ValueError(
                    f"Input X contains infinity or a value too large for {X.dtype!r}."
                )
