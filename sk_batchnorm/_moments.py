"""What mini-batches say: count, mean and squared deviations per feature.

Each kind of data is a function of its own behind :func:`moments`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_batchnorm._compat import from_numpy, largest_float, namespace_of, to_numpy
from sk_batchnorm._kernels import dispatch
from sk_batchnorm._kernels import numpy as kernels
from sk_batchnorm._kernels.numpy import (
    SMALLEST,
    Floats,
    InfiniteValueError,
    blocks,
    ignore_float_errors,
    refuse_infinity,
)

# The moments of several mini-batches at once take no more than 2 MB.
_STACK_VALUES = 65_536

_LARGEST = np.finfo(np.float64).max

Bounds = NDArray[np.int64]


@dataclass(eq=False, slots=True)
class Moments:
    """Count, mean and squared deviations of some rows, per feature.

    The mean is kept as the unevaluated sum ``shift + residual`` of two doubles.
    Where the mean is 1e12 standard deviations away from 0, one double holds
    it to a ten-thousandth of a standard deviation only, and merging blocks by
    such means would cost the variance most of its digits.

    Of k mini-batches at once each attribute has an axis more, the first: k for
    all of them, and 1 in place of n_features where all features have the same.

    Attributes
    ----------
    n_samples : float
        Number of rows, or the sum of their weights, missing values included.
    count : float, or ndarray of shape (n_features,) where values are missing
        Number of observed values, or the sum of their weights.
    shift, residual : ndarray of shape (n_features,)
        0 where nothing was observed.
    squares : ndarray of shape (n_features,)
        Sum of squared deviations from the mean, in units of `unit`.
    unit : float
        A power of 2 near the largest weight, so that neither large nor small weights
        take `squares` out of the range of float64.
    """

    n_samples: float | Floats
    count: float | Floats
    shift: Floats
    residual: Floats
    squares: Floats
    unit: float | Floats = 1.0

    # What is computed from sums that overflow is for the caller to ignore, and so
    # is 0 / 0 where too little was observed.

    @property
    def mean(self) -> Floats:
        """The mean as one double."""
        return self.shift + self.residual

    @property
    def biased_variance(self) -> Floats:
        """Variance with ddof=0, what a batch norm layer normalises with."""
        return saturate(self.squares / (self.count / self.unit))

    @property
    def unbiased_variance(self) -> Floats:
        """Variance with ddof=1, what a batch norm layer remembers."""
        return saturate(self.squares / ((self.count - 1) / self.unit))


@ignore_float_errors  # squares of deviations beyond 1e154; see saturate
def moments(
    X: NDArray[Any] | sparse.spmatrix,
    sample_weight: Floats | None = None,
    n_jobs: int | None = None,
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
    n_jobs : int or None
        Threads for a large array. The result does not depend on them.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If X contains infinity.
    """
    unit: float | Floats = 1.0
    if sample_weight is not None:
        sample_weight, unit = _in_units(sample_weight, np.array([0, X.shape[0]]))
    if sparse.issparse(X):
        result = _of_sparse(X, sample_weight)
    elif not isinstance(X, np.ndarray):
        bounds = np.array([0, X.shape[0]])
        result = _of_all(iter([_of_namespace(X, bounds, sample_weight)]))
    elif X.ndim == 3:
        result = _of_3d(X, sample_weight)
    else:
        result = _of_2d(X, sample_weight, n_jobs)
    return _of_units(result, unit)


@ignore_float_errors
def batch_moments(
    X: NDArray[Any] | sparse.spmatrix,
    bounds: Bounds,
    sample_weight: Floats | None = None,
    n_jobs: int | None = None,
) -> Moments:
    """Moments of consecutive mini-batches of rows of X.

    Parameters
    ----------
    X, sample_weight, n_jobs
        As for :func:`moments`. X is not CSC.
    bounds : ndarray of shape (n_batches + 1,)
        Mini-batch k holds the rows from ``bounds[k]`` up to ``bounds[k + 1]``,
        of which at least one has a positive weight.

    Returns
    -------
    Moments
        With a first axis of length n_batches.

    Raises
    ------
    ValueError
        If X contains infinity.
    """
    is_sparse, is_host = sparse.issparse(X), isinstance(X, np.ndarray)
    is_short = np.diff(bounds).max() <= dispatch.rows_at_once(X) if is_host else False
    if is_sparse or (is_host and not (X.ndim == 2 and is_short)):
        return _stack(
            [
                moments(
                    X[start:stop],
                    None if sample_weight is None else sample_weight[start:stop],
                    n_jobs,
                )
                for start, stop in pairwise(bounds)
            ]
        )
    scaled, unit = _in_units(sample_weight, bounds)
    if scaled is not sample_weight:
        X, bounds = X[bounds[0] : bounds[-1], ...], bounds - bounds[0]
    if is_host:
        result = _of_stretches(X, bounds, scaled, n_jobs)
    else:
        result = _of_namespace(X, bounds, scaled)
    return _of_units(result, unit)


@ignore_float_errors
def merge(parts: Iterable[Moments]) -> Moments:
    """Moments of the rows of several mini-batches together.

    Parameters
    ----------
    parts : iterable of Moments
        At least one, each of one mini-batch.

    Returns
    -------
    Moments
    """
    return _of_all(_stack([part]) for part in parts)


def cut(
    shape: tuple[int, ...],
    batch_size: int | None,
    sample_weight: Floats | None = None,
    *,
    n_together: int | None = None,
) -> Iterator[Bounds]:
    """Cut rows, in order, into mini-batches.

    Into ``n // batch_size`` of them, at least one, that are as equal in the number of
    their rows as ``np.array_split`` makes them. Rows of weight 0 do not count.

    Parameters
    ----------
    shape : (n_samples, n_features, ...)
    batch_size : int or None
        None makes one mini-batch of everything.
    sample_weight : ndarray of shape (n_samples,) or None
    n_together : int or None
        Mini-batches to look at together; None is as many as their moments may take
        memory for.

    Yields
    ------
    ndarray of int64
        Bounds of the next mini-batches; they go on where those before have ended.
    """
    n_rows = shape[0]
    if sample_weight is not None:
        n_rows = int(np.count_nonzero(sample_weight))
    n_batches = max(1, n_rows // batch_size) if batch_size else 1
    size, n_larger = divmod(n_rows, n_batches)
    n_together = n_together or max(1, _STACK_VALUES // shape[1])
    start = 0
    for first in range(0, n_batches, n_together):
        number = np.arange(first + 1, min(first + n_together, n_batches) + 1)
        ends = number * size + np.minimum(number, n_larger)
        if sample_weight is not None and n_rows < shape[0]:
            ends = _rows_before(ends, sample_weight)
        yield np.array([start, *ends])
        start = int(ends[-1])


def _rows_before(ranks: Bounds, sample_weight: Floats) -> Bounds:
    """Row after the last of so many rows of non-zero weight, and those of zero there.

    A block at a time: an index of all rows would be as large as a column.
    """
    rows = np.full(len(ranks), len(sample_weight))
    seen = 0
    for (block,) in blocks(sample_weight.shape):
        there = block.start + np.flatnonzero(sample_weight[block])
        here = (seen <= ranks) & (ranks < seen + len(there))
        rows[here] = there[ranks[here] - seen]
        seen += len(there)
    return rows


def saturate(var: Floats) -> Floats:
    """``var`` with the largest double in place of what overflowed.

    Values beyond 1e154 have a variance beyond float64. Infinity would stay in
    a running average for ever; the largest double fades as any other value.
    """
    # fmin takes the number where the other is NaN, as infinity less itself is.
    return np.fmin(var, _LARGEST)


def _in_units(
    sample_weight: Floats | None, bounds: Bounds
) -> tuple[Floats | None, float | Floats]:
    """Weights of the rows of mini-batches, and the units that they are in.

    So that a large weight times a large value, or a small one times a small one, does
    not leave float64 on the way to a mean that is of the size of the values. Powers of
    2 change no digit. The weights themselves, if all their units are 1.
    """
    if sample_weight is None:
        return None, 1.0
    rows = sample_weight[bounds[0] : bounds[-1]]
    _, exponent = np.frexp(np.maximum.reduceat(rows, bounds[:-1] - bounds[0]))
    if ((exponent > -64) & (exponent <= 1)).all():
        return sample_weight, 1.0
    unit = np.ldexp(1.0, exponent - 1)
    return rows / np.repeat(unit, np.diff(bounds)), unit[:, None]


def _of_units(batch: Moments, unit: float | Floats) -> Moments:
    """Moments of rows whose weights are so many times as large."""
    if isinstance(unit, float) and unit == 1:
        return batch
    if not isinstance(batch.n_samples, np.ndarray):  # of a single mini-batch
        unit = float(np.max(unit))
    return Moments(
        batch.n_samples * unit,
        batch.count * unit,
        batch.shift,
        batch.residual,
        batch.squares,
        unit,
    )


def _of_2d(X: NDArray[Any], weight: Floats | None, n_jobs: int | None) -> Moments:
    if X.size <= kernels.BLOCK_VALUES and not dispatch.is_compiled(X):
        if len(X) == 1 and weight is None:
            row = X[0].astype(np.float64)
            if kernels.all_finite(row):
                # Its own mean, with nothing to sum.
                return Moments(1.0, 1.0, row, np.zeros(len(row)), np.zeros(len(row)))
        return _of_block(X, weight)
    n_rows = dispatch.rows_at_once(X)
    bounds = np.append(np.arange(0, len(X), n_rows), len(X))
    n_together = max(1, _STACK_VALUES // X.shape[1])
    return _of_all(
        _of_stretches(X, bounds[i : i + n_together + 1], weight, n_jobs)
        for i in range(0, len(bounds) - 1, n_together)
    )


def _of_stretches(
    X: NDArray[Any], bounds: Bounds, weight: Floats | None, n_jobs: int | None
) -> Moments:
    """Moments of stretches of rows none of which is too long for a kernel."""
    if weight is None:
        n_samples = np.diff(bounds).astype(np.float64)
    else:
        n_samples = np.add.reduceat(weight[: bounds[-1]], bounds[:-1])
    return Moments(n_samples[:, None], *dispatch.moments(X, bounds, weight, n_jobs))


def _of_block(block: NDArray[Any], weight: Floats | None) -> Moments:
    """Moments of rows few enough for one block."""
    if weight is None:
        n_samples = float(len(block))
    else:
        if not weight.all():
            block, weight = block[weight > 0], weight[weight > 0]
        n_samples = float(weight.sum())
    return Moments(n_samples, *kernels.block_moments(block, weight))


def _of_3d(X: NDArray[Any], weight: Floats | None) -> Moments:
    """Moments of the channels: every time point of every sample is a row."""
    return _of_all(_stack([part]) for part in _parts_of_3d(X, weight))


def _parts_of_3d(X: NDArray[Any], sample_weight: Floats | None) -> Iterator[Moments]:
    for index in blocks(X.shape):
        block = X[index].transpose(0, 2, 1)
        weight = None
        if sample_weight is not None:
            weight = np.repeat(sample_weight[index[0]], block.shape[1])
            if not weight.any():
                continue
        yield _of_block(block.reshape(-1, X.shape[1]), weight)


def _of_sparse(X: Any, weight: Floats | None) -> Moments:
    """Moments from the stored values and the weight of the zeros.

    The corrected two-pass algorithm, as for a dense block.
    """
    if weight is not None and not weight.all():
        X, weight = X[weight > 0], weight[weight > 0]
    if not X.has_canonical_format:
        refuse_infinity(X.data)  # before infinities cancel
        # A copy, in which sums don't wrap around; SciPy's astype sums before.
        parts = X.data.astype(np.float64), X.indices.copy(), X.indptr.copy()
        X = type(X)(parts, shape=X.shape)
        X.sum_duplicates()
    n_rows = X.shape[0]
    n_samples = float(n_rows if weight is None else weight.sum())
    sums = dispatch.stored_sums(X, weight)
    if not kernels.all_finite(sums.values):
        refuse_infinity(X.data)

    # Exactly 0 where every value is stored, whatever the weights sum to.
    zeros = np.where(sums.number == n_rows, 0.0, n_samples - sums.stored)
    zeros = np.maximum(zeros, 0.0)
    count = sums.count + zeros
    divisor = np.maximum(count, SMALLEST)
    shift = sums.values / divisor
    # As for a dense block: a constant column deviates by exactly 0.
    rounding = 2 * n_rows * np.finfo(np.float64).eps
    near = np.abs(sums.own - shift) <= rounding * np.abs(sums.own)
    near &= zeros == 0
    if near.any():
        own = np.where(near, sums.own, shift)
        _, squares = dispatch.stored_deviations(X, weight, own)
        shift = np.where(near & (squares == 0), own, shift)

    deviations, squares = dispatch.stored_deviations(X, weight, shift)
    residual = (deviations - zeros * shift) / divisor
    # Grouped so that where there is no zero it adds 0 however large the shift.
    squares = squares + (zeros * shift) * shift - count * residual**2
    return Moments(n_samples, count, shift, residual, np.maximum(squares, 0.0))


def _of_namespace(X: Any, bounds: Bounds, sample_weight: Floats | None) -> Moments:
    """Moments of mini-batches of an array of another namespace, on its device.

    What comes back to the host are numbers per feature. The deviations are from a
    value of each feature, so that those of a constant one are exactly 0.
    """
    parts = [
        _of_even_batches(X, start, n_batches, n_rows, sample_weight)
        for start, n_batches, n_rows in _even_runs(bounds)
    ]
    return _concatenate(parts)


def _even_runs(bounds: Bounds) -> Iterator[tuple[int, int, int]]:
    """First row, number and length of consecutive mini-batches of one length."""
    start = int(bounds[0])
    for n_rows, batches in groupby(np.diff(bounds).tolist()):
        n_batches = len(list(batches))
        yield start, n_batches, n_rows
        start += n_batches * n_rows


def _of_even_batches(
    X: Any, start: int, n_batches: int, n_rows: int, sample_weight: Floats | None
) -> Moments:
    xp, device = namespace_of(X)
    dtype = largest_float(xp, device)
    rows = slice(start, start + n_batches * n_rows)
    part = X[rows, ...]
    n_features = part.shape[1]
    if part.ndim == 3:
        part = xp.permute_dims(part, (0, 2, 1))
    values = xp.astype(xp.reshape(part, (n_batches, -1, n_features)), dtype)
    n_values = values.shape[1]  # of each feature, missing ones included
    if sample_weight is None:
        sums = _sums_without_gaps(xp, values)
        if np.isfinite(sums[1]).all():  # else there may be NaN, or infinity
            number = np.full((n_batches, 1), float(n_values))
            return Moments(number, number, *sums)
        weight = np.ones((n_batches, n_values, 1))
    else:
        weight = np.repeat(sample_weight[rows], n_values // n_rows)
        weight = weight.reshape(n_batches, n_values, 1)
    share = from_numpy(weight, xp, device, dtype)

    is_missing = xp.isnan(values) | (share == 0)
    share = xp.where(is_missing, xp.zeros_like(values), share)
    lowest = xp.asarray(-np.inf, dtype=dtype, device=device)
    shift = xp.max(xp.where(is_missing, lowest, values), axis=1, keepdims=True)
    shift = xp.where(shift == lowest, xp.zeros_like(shift), shift)
    values = xp.where(is_missing, shift, values)
    count = xp.sum(share, axis=1, keepdims=True)
    divisor = xp.where(count == 0, xp.ones_like(count), count)
    deviation = values - shift
    residual = xp.sum(share * deviation, axis=1, keepdims=True) / divisor
    deviation = deviation - residual
    drift = xp.sum(share * deviation, axis=1, keepdims=True)
    squares = xp.sum(share * deviation * deviation, axis=1, keepdims=True)
    if not bool(xp.all(xp.isfinite(residual))) and bool(xp.any(xp.isinf(values))):
        raise InfiniteValueError(kernels.INFINITE.format(X.dtype))

    on_host = (
        to_numpy(array[:, 0, :]).astype(np.float64)
        for array in (count, shift, residual, squares, drift)
    )
    counts, shifts, residuals, all_squares, drifts = on_host
    all_squares -= drifts * (drifts / np.maximum(counts, SMALLEST))
    return Moments(
        weight.sum(axis=1), counts, shifts, residuals, np.maximum(all_squares, 0.0)
    )


def _sums_without_gaps(xp: Any, values: Any) -> tuple[Floats, Floats, Floats]:
    """Shift, residual and squares of values none of which is missing.

    In few operations, as each takes longer to start than a small mini-batch does.
    """
    shift = values[:, :1, :]
    deviation = values - shift
    residual = xp.mean(deviation, axis=1, keepdims=True)
    deviation = deviation - residual
    drift = xp.sum(deviation, axis=1, keepdims=True)
    squares = xp.sum(deviation * deviation, axis=1, keepdims=True)
    numbers = xp.concat([shift, residual, drift, squares], axis=1)
    on_host = to_numpy(numbers).astype(np.float64)
    shifts, residuals, drifts, all_squares = np.moveaxis(on_host, 1, 0)
    all_squares = all_squares - drifts * (drifts / values.shape[1])
    return shifts, residuals, np.maximum(all_squares, 0.0)


def _of_all(stacks: Iterator[Moments]) -> Moments:
    """Moments of all rows of several stacks together."""
    total: Moments | None = None
    for stack in stacks:
        stack = stack if total is None else _concatenate([total, stack])
        total = stack if len(stack.shift) == 1 else _merge(stack)
    assert total is not None, "no row of positive weight"
    n_samples, count = np.asarray(total.n_samples), np.asarray(total.count)
    return Moments(
        float(n_samples[0, 0]),
        float(count[0, 0]) if count.shape[1] == 1 else count[0],
        total.shift[0],
        total.residual[0],
        total.squares[0],
        float(np.ravel(total.unit)[0]),
    )


def _merge(stack: Moments) -> Moments:
    """A stack of one: the moments of all rows of a stack together.

    Chan, Golub and LeVeque (1983), eq. 1.5, for any number of sets of rows and
    on means of two doubles.
    """
    count = np.asarray(stack.count)
    total = count.sum(axis=0)
    # Deviations from a mean that was observed, lest the rest lose their digits.
    first = np.broadcast_to((count > 0).argmax(axis=0), stack.shift.shape[1:])
    index = first, np.arange(len(first))
    shift, residual = stack.shift[index], stack.residual[index]
    delta = (stack.shift - shift) + (stack.residual - residual)
    step = (count / np.maximum(total, SMALLEST) * delta).sum(axis=0)
    delta -= step
    unit = np.max(stack.unit)
    squares = (stack.unit / unit * stack.squares).sum(axis=0)
    squares += (count / unit * delta * delta).sum(axis=0)
    n_samples = np.asarray(stack.n_samples).sum(axis=0)
    return Moments(
        n_samples[None],
        total[None],
        shift[None],
        (residual + step)[None],
        squares[None],
        unit,
    )


def _stack(batches: list[Moments]) -> Moments:
    """Several mini-batches with a first axis."""
    return _concatenate(
        [
            Moments(
                np.reshape(batch.n_samples, (1, 1)),
                np.reshape(batch.count, (1, -1)),
                batch.shift[None],
                batch.residual[None],
                batch.squares[None],
                np.reshape(batch.unit, (1, 1)),
            )
            for batch in batches
        ]
    )


def _concatenate(stacks: list[Moments]) -> Moments:
    width = max(np.shape(stack.count)[1] for stack in stacks)
    counts = [np.asarray(stack.count) for stack in stacks]
    return Moments(
        np.concatenate([np.asarray(stack.n_samples) for stack in stacks]),
        np.concatenate([np.broadcast_to(c, (len(c), width)) for c in counts]),
        np.concatenate([stack.shift for stack in stacks]),
        np.concatenate([stack.residual for stack in stacks]),
        np.concatenate([stack.squares for stack in stacks]),
        np.concatenate(
            [np.broadcast_to(stack.unit, (len(stack.squares), 1)) for stack in stacks]
        ),
    )
