"""What one mini-batch says: count, mean and squared deviations per feature.

Each kind of data is a function of its own behind :func:`moments`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_batchnorm._kernels.numpy import (
    SMALLEST,
    Floats,
    block_moments,
    blocks,
    refuse_infinity,
)

# Weights such as ten times 0.1 sum to their total only within rounding.
WEIGHT_ROUNDING = 1e-9

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
    n_samples : float
        Number of rows, or the sum of their weights, missing values included.
    count : float, or ndarray of shape (n_features,) where values are missing
        Number of observed values, or the sum of their weights.
    mean, mean_low : ndarray of shape (n_features,)
        0 where nothing was observed.
    squares : ndarray of shape (n_features,)
        Sum of squared deviations from the mean.
    """

    n_samples: float
    count: float | Floats
    mean: Floats
    mean_low: Floats
    squares: Floats

    @property
    def biased_variance(self) -> Floats:
        """Variance with ddof=0, what a batch norm layer normalises with."""
        return self._variance(ddof=0)

    @property
    def unbiased_variance(self) -> Floats:
        """Variance with ddof=1, what a batch norm layer remembers."""
        return self._variance(ddof=1)

    def _variance(self, ddof: int) -> Floats:
        # 0 / 0 where too little was observed; who asks looks at the count.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return saturate(self.squares / (self.count - ddof))


def moments(
    X: NDArray[Any] | sparse.spmatrix, sample_weight: Floats | None = None
) -> Moments:
    """Moments of the rows of X.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features) or (n_samples, n_channels, \
n_timepoints), or CSR or CSC of shape (n_samples, n_features)
        Numbers of any real dtype. NaN is a missing value.
    sample_weight : ndarray of shape (n_samples,) or None
        Frequency weights, at least one of them positive: a row of weight 2
        is that row twice, a row of weight 0 is not there.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If X contains infinity.
    """
    # Squares of deviations beyond 1e154 overflow; see saturate.
    with np.errstate(over="ignore", invalid="ignore"):
        if sparse.issparse(X):
            return _of_sparse(X, sample_weight)
        rows = _rows_of_3d if X.ndim == 3 else _rows_of_2d
        return _of_blocks(rows(X, sample_weight))


def cut(
    n_samples: int, batch_size: int | None, sample_weight: Floats | None = None
) -> Iterator[slice]:
    """Cut rows, in order, into mini-batches.

    Each mini-batch holds ``batch_size`` rows of non-zero weight; a last one of
    a single row, or whose weights sum to no more than one row's, joins the one
    before it.

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
    start = last = 0
    if batch_size is not None:
        # One behind, as only the last one is looked at.
        for end in _batch_ends(n_samples, batch_size, sample_weight):
            if last:
                yield slice(start, last)
            start, last = last, end
        if last and (
            sample_weight is None or sample_weight[last:].sum() > 1 + WEIGHT_ROUNDING
        ):
            yield slice(start, last)
            start = last
    yield slice(start, n_samples)


def _batch_ends(
    n_samples: int, batch_size: int, sample_weight: Floats | None
) -> Iterator[int]:
    """Row after which each mini-batch but the last one ends."""
    if sample_weight is None or sample_weight.all():
        yield from range(batch_size, n_samples - 1, batch_size)
        return
    # A chunk at a time: an index of all rows would be as large as a column.
    n_rows = int(np.count_nonzero(sample_weight))
    ends = iter(range(batch_size, n_rows - 1, batch_size))
    end = next(ends, None)
    seen = 0
    for (chunk,) in blocks((n_samples,)):
        rows = chunk.start + np.flatnonzero(sample_weight[chunk])
        while end is not None and end < seen + len(rows):
            yield int(rows[end - seen])
            end = next(ends, None)
        seen += len(rows)


def saturate(var: Floats) -> Floats:
    """``var`` with the largest double in place of what overflowed.

    Values beyond 1e154 have a variance beyond float64. Infinity would stay in
    a running average for ever; the largest double fades as any other value.
    """
    # fmin takes the number where the other is NaN, as infinity less itself is.
    return np.fmin(var, _LARGEST)


Rows = Iterator[tuple[NDArray[Any], Floats | None]]


def _rows_of_2d(X: NDArray[Any], sample_weight: Floats | None) -> Rows:
    for index in blocks(X.shape):
        yield X[index], None if sample_weight is None else sample_weight[index[0]]


def _rows_of_3d(X: NDArray[Any], sample_weight: Floats | None) -> Rows:
    """Every time point of every sample as a row of channels."""
    for index in blocks(X.shape):
        block = X[index].transpose(0, 2, 1)
        weight = None
        if sample_weight is not None:
            weight = np.repeat(sample_weight[index[0]], block.shape[1])
        yield block.reshape(-1, X.shape[1]), weight


def _of_blocks(rows: Rows) -> Moments:
    total: Moments | None = None
    scratch: Floats | None = None
    for block, weight in rows:
        if scratch is None:
            scratch = np.empty(block.shape)
        if weight is not None and not weight.all():
            block, weight = block[weight > 0], weight[weight > 0]
        if not len(block):
            continue
        n_samples = float(len(block) if weight is None else weight.sum())
        count, shift, residual, squares = block_moments(block, weight, scratch)
        part = Moments(n_samples, count, *_two_sum(shift, residual), squares)
        total = part if total is None else _merge(total, part)
    assert total is not None, "no row of positive weight"
    return total


def _of_sparse(X: Any, sample_weight: Floats | None) -> Moments:
    """Moments from the stored values and the weight of the zeros.

    The corrected two-pass algorithm, as for a dense block.
    """
    if sample_weight is None:
        sample_weight = np.ones(X.shape[0])
    elif not sample_weight.all():
        X, sample_weight = X[sample_weight > 0], sample_weight[sample_weight > 0]
    refuse_infinity(X.data)
    if not X.has_canonical_format:
        X = X.astype(np.float64)  # a copy, in which sums don't wrap around
        X.sum_duplicates()
    n_samples = float(sample_weight.sum())
    n_rows, n_features = X.shape
    values, rows, features = _stored(X)
    weight = sample_weight[rows]

    def sums(terms: Floats) -> Floats:
        total = np.bincount(features, terms, minlength=n_features)
        return total.astype(np.float64, copy=False)

    # Exactly 0 where every value is stored, whatever the weights sum to.
    all_stored = np.bincount(features, minlength=n_features) == n_rows
    zeros = np.where(all_stored, 0.0, np.maximum(n_samples - sums(weight), 0.0))
    missing = np.isnan(values)
    if missing.any():
        observed = ~missing
        values, features, weight = (
            values[observed],
            features[observed],
            weight[observed],
        )
    count = sums(weight) + zeros
    divisor = np.maximum(count, SMALLEST)

    shift = sums(weight * values) / divisor
    # A constant column deviates by exactly 0 from one of its own values.
    own = np.zeros(n_features)
    own[features] = values
    varies = np.bincount(features, values != own[features], minlength=n_features)
    shift = np.where((zeros == 0) & (varies == 0), own, shift)

    deviations = values - shift[features]
    residual = (sums(weight * deviations) - zeros * shift) / divisor
    squares = sums(weight * deviations**2) + zeros * shift**2 - count * residual**2
    return Moments(
        n_samples, count, *_two_sum(shift, residual), np.maximum(squares, 0.0)
    )


def _stored(X: Any) -> tuple[Floats, NDArray[np.integer], NDArray[np.integer]]:
    """Stored values of a CSR or CSC matrix, their rows and their features."""
    outer = np.repeat(np.arange(len(X.indptr) - 1), np.diff(X.indptr))
    rows, features = (outer, X.indices) if X.format == "csr" else (X.indices, outer)
    return X.data.astype(np.float64, copy=False), rows, features


def _merge(a: Moments, b: Moments) -> Moments:
    """Moments of two sets of rows together.

    Chan, Golub and LeVeque (1983), eq. 1.5, on means of two doubles.
    """
    count = a.count + b.count
    share = b.count / np.maximum(count, SMALLEST)
    delta = (b.mean - a.mean) + (b.mean_low - a.mean_low)
    mean, mean_low = _two_sum(a.mean, a.mean_low + delta * share)
    squares = a.squares + b.squares + delta * delta * (a.count * share)
    if np.ndim(a.count) or np.ndim(b.count):
        # Where a has nothing, all of b, its low part too.
        nothing = np.asarray(a.count) == 0
        mean = np.where(nothing, b.mean, mean)
        mean_low = np.where(nothing, b.mean_low, mean_low)
    return Moments(a.n_samples + b.n_samples, count, mean, mean_low, squares)


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """``a + b`` as a rounded sum and its rounding error (Knuth's TwoSum)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)
