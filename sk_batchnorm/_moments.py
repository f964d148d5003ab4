"""What one mini-batch says: count, mean and squared deviations per feature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sk_batchnorm._kernels.numpy import Floats, block_moments, row_blocks

_LARGEST = np.finfo(np.float64).max


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and squared deviations of some rows, per feature.

    The mean is kept as the unevaluated sum ``mean + mean_low`` of two doubles.
    Where the mean is 1e12 standard deviations away from 0, one double holds
    it to a ten-thousandth of a standard deviation only, and merging blocks by
    such means would cost the variance most of its digits.

    Attributes
    ----------
    count : float
        Number of rows, or the sum of their weights.
    mean, mean_low : ndarray of shape (n_features,)
    squares : ndarray of shape (n_features,)
        Sum of squared deviations from the mean.
    """

    count: float
    mean: Floats
    mean_low: Floats
    squares: Floats

    @property
    def biased_variance(self) -> Floats:
        """Variance with ddof=0, what a batch norm layer normalises with."""
        return saturate(self.squares / self.count)

    @property
    def unbiased_variance(self) -> Floats:
        """Variance with ddof=1, what a batch norm layer remembers."""
        return saturate(self.squares / (self.count - 1.0))


def moments(X: NDArray[np.generic], sample_weight: Floats | None = None) -> Moments:
    """Moments of the rows of a dense array.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Finite numbers of any real dtype.
    sample_weight : ndarray of shape (n_samples,) or None
        Frequency weights, at least one of them positive: a row of weight 2
        is that row twice, a row of weight 0 is not there.

    Returns
    -------
    Moments
    """
    n_samples, n_features = X.shape
    total: Moments | None = None
    scratch: Floats | None = None
    # Squares of deviations beyond 1e154 overflow; see saturate.
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in row_blocks(n_samples, n_features):
            block, weight = X[rows], None
            if sample_weight is not None:
                weight = sample_weight[rows]
                if not weight.all():
                    block, weight = block[weight > 0], weight[weight > 0]
                if not weight.size:
                    continue
            if scratch is None:
                scratch = np.empty((rows.stop - rows.start, n_features))
            count, shift, residual, squares = block_moments(block, weight, scratch)
            part = Moments(count, *_two_sum(shift, residual), squares)
            total = part if total is None else _merge(total, part)
    assert total is not None, "no row of positive weight"
    return total


def cut(
    n_samples: int, batch_size: int | None, sample_weight: Floats | None = None
) -> Iterator[slice]:
    """Cut rows, in order, into mini-batches.

    Each mini-batch holds ``batch_size`` rows of non-zero weight; a last one of
    a single row joins the one before it.

    Parameters
    ----------
    n_samples : int
    batch_size : int or None
        None makes one mini-batch of everything.
    sample_weight : ndarray of shape (n_samples,) or None

    Yields
    ------
    slice
        Rows of one mini-batch; together they cover every row once.
    """
    rows = None if sample_weight is None else np.flatnonzero(sample_weight)
    n_rows = n_samples if rows is None else len(rows)
    size = n_rows if batch_size is None else batch_size
    n_batches = max(1, n_rows // size + (n_rows % size > 1)) if size else 1
    start = 0
    for batch in range(1, n_batches + 1):
        if batch == n_batches:
            stop = n_samples
        else:
            stop = batch * size if rows is None else int(rows[batch * size])
        yield slice(start, stop)
        start = stop


def saturate(var: Floats) -> Floats:
    """``var`` with the largest double in place of what overflowed.

    Values beyond 1e154 have a variance beyond float64. Infinity would stay in
    a running average for ever; the largest double fades as any other value.
    """
    return np.where(var <= _LARGEST, var, _LARGEST)


def _merge(a: Moments, b: Moments) -> Moments:
    """Moments of two sets of rows together.

    Chan, Golub and LeVeque (1983), eq. 1.5, on means of two doubles.
    """
    count = a.count + b.count
    share = b.count / count
    delta = (b.mean - a.mean) + (b.mean_low - a.mean_low)
    mean, mean_low = _two_sum(a.mean, a.mean_low + delta * share)
    squares = a.squares + b.squares + delta * delta * (a.count * share)
    return Moments(count, mean, mean_low, squares)


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """``a + b`` as a rounded sum and its rounding error (Knuth's TwoSum)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)
