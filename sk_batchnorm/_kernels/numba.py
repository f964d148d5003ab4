"""The hot loops, compiled by numba.

An array is seen as a flat buffer, of which a *part* is ``n_rows`` rows of
``width`` features, ``stride`` values apart: the rows of a C-contiguous array,
or a tile of some of its columns, or in Fortran order one column (width 1,
stride 1). Where rows are short, ``together`` of them are seen as one long row,
so that the inner loops, which run along rows, are worth vectorising.

Nothing here is reassociated by the compiler; "contract", in the sums, lets it
use fused multiply-adds, which round once in place of twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sk_batchnorm._kernels.numpy import (
    SMALLEST,
    Floats,
    Stack,
    StoredSums,
    refuse_infinity,
)

# What :func:`_moments` has met, bits of what it returns.
MISSING = 1  # NaN in a row of positive weight
NOT_FINITE = 2  # infinity, or an overflow of a sum

# Values in a long row, about. Its sums and shifts fit the L1 cache.
_LONG_ROW = 512

# Features looked at together; the columns of wider arrays are tiled.
_WIDEST = 2048

# Values after which sums are looked at. If they are no good, the values are
# read again, from the L2 cache.
_BLOCK_VALUES = 32_768

# Rows whose mean is a first guess of the mean of a stretch.
_GUESS_ROWS = 4

# The part of the squares of deviations from a shift that may be due to its
# distance from the mean: 3 standard deviations, which costs 1 of 16 digits.
_FAR = 0.9

_EPS = np.finfo(np.float64).eps
_LARGEST = np.finfo(np.float64).max


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function at its first call, or take it from numba's cache."""

    def compile_later(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[..., Any]
        try:
            compiled = njit(function, nogil=True, cache=True, **options)
        except RuntimeError:  # no folder that the cache may be written to
            compiled = njit(function, nogil=True, **options)
        return compiled

    return compile_later


def moments(
    X: NDArray[Any],
    bounds: NDArray[np.int64],
    weight: Floats | None,
    for_each: Callable[[Callable[[slice], int]], list[int]],
) -> Stack:
    """Moments of stretches of rows; see :func:`sk_batchnorm._kernels.numpy.moments`.

    X is float32 or float64, in C or Fortran order. A stretch may be of any length.
    ``for_each`` calls a function for slices of the stretches, perhaps in threads.
    """
    n_rows, n_features = X.shape
    out = np.empty((len(bounds) - 1, 4, n_features))
    flat, by_column = _flat(X), not X.flags.c_contiguous
    bounds = _read_only(bounds)

    def kernel(task: slice) -> int:
        some, task_weight = bounds[task.start : task.stop + 1], _NONE
        if weight is not None:
            task_weight = _read_only(np.ascontiguousarray(weight[some[0] : some[-1]]))
        flags: int = _moments(
            flat, n_rows, n_features, by_column, some, task_weight, out[task]
        )
        if flags & NOT_FINITE:
            # Infinity, or else an overflow. A task is small enough for a copy.
            there = X[some[0] : some[-1]]
            refuse_infinity(there if weight is None else there[task_weight > 0])
        return flags

    flags = for_each(kernel)
    count = out[:, 0]
    if (weight is None and not any(flags)) or (count == count[:, :1]).all():
        count = count[:, :1]
    return count, out[:, 1], out[:, 2], out[:, 3]


def stored_sums(X: Any, weight: Floats | None) -> StoredSums:
    """First pass over a sparse matrix, as that of the NumPy kernels."""
    n_features = X.shape[1]
    sums = np.zeros((n_features, 5))  # those of a feature side by side
    weight = _NONE if weight is None else _read_only(np.ascontiguousarray(weight))
    _add_stored(*_sparse_parts(X), weight, sums)
    return StoredSums(*np.ascontiguousarray(sums.T))


def stored_deviations(
    X: Any, weight: Floats | None, shift: Floats
) -> tuple[Floats, Floats]:
    """Second pass over a sparse matrix, as that of the NumPy kernels."""
    sums = np.zeros((X.shape[1], 2))
    weight = _NONE if weight is None else _read_only(np.ascontiguousarray(weight))
    _add_stored_deviations(*_sparse_parts(X), weight, _read_only(shift), sums)
    deviations, squares = np.ascontiguousarray(sums.T)
    return deviations, squares


def _sparse_parts(X: Any) -> tuple[Any, ...]:
    parts = (_read_only(part) for part in (X.data, X.indices, X.indptr))
    return (*parts, X.format == "csc")


@compiled()
def _add_stored(data, indices, indptr, by_column, weight, sums):
    for outer in range(indptr.size - 1):
        for i in range(indptr[outer], indptr[outer + 1]):
            row, feature = outer, indices[i]
            if by_column:
                row, feature = indices[i], outer
            w = weight[row] if weight.size else 1.0
            sums[feature, 0] += w
            sums[feature, 3] += 1.0
            value = np.float64(data[i])
            if value == value:
                sums[feature, 1] += w
                sums[feature, 2] += w * value
                sums[feature, 4] = value


@compiled()
def _add_stored_deviations(data, indices, indptr, by_column, weight, shift, sums):
    for outer in range(indptr.size - 1):
        for i in range(indptr[outer], indptr[outer + 1]):
            row, feature = outer, indices[i]
            if by_column:
                row, feature = indices[i], outer
            value = np.float64(data[i])
            if value == value:
                deviation = value - shift[feature]
                w = weight[row] if weight.size else 1.0
                sums[feature, 0] += w * deviation
                sums[feature, 1] += w * deviation * deviation


def parts(X: NDArray[Any], n_values: int) -> Iterator[slice]:
    """Contiguous parts of about n_values, as slices of the flat array.

    In C order they are of whole rows, in Fortran order of one column.
    """
    if X.flags.c_contiguous:
        size, step = X.size, max(1, n_values // X.shape[1]) * X.shape[1]
    else:
        size, step = X.shape[0], n_values
    for start in range(0, X.size, size):
        for first in range(start, start + size, step):
            yield slice(first, min(first + step, start + size))


def centre_and_scale_part(
    X: NDArray[Any],
    part: slice,
    centre: Floats | None,
    scale: Floats,
    offset: Floats | None,
    limit: Floats | None,
    fill: Floats | None,
    out: NDArray[np.floating],
) -> bool:
    """Apply an affine map to one of the parts; return whether it contains infinity."""
    if X.flags.c_contiguous:
        features = slice(0, X.shape[1])
    else:
        feature = part.start // X.shape[0]
        features = slice(feature, feature + 1)
    width = features.stop - features.start
    target = out if X.flags.c_contiguous else out.T

    def vector(values: Floats | None, nothing: float) -> Floats:
        return _read_only(
            np.full(width, nothing) if values is None else values[features]
        )

    infinite: bool = _centre_and_scale(
        _flat(X)[part],
        width,
        vector(centre, 0.0),
        vector(scale, 1.0),
        vector(offset, -0.0),
        limit is not None or fill is not None,
        vector(limit, inf),
        vector(fill, nan),
        target.reshape(-1)[part],
    )
    return infinite


def _flat(X: NDArray[Any]) -> NDArray[Any]:
    return _read_only((X if X.flags.c_contiguous else X.T).reshape(-1))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of the one type that the loops are compiled for."""
    view = array.view()
    view.flags.writeable = False
    return view


_NONE = _read_only(np.empty(0))


def any_infinite_part(X: NDArray[Any], part: slice) -> bool:
    """Return whether one of the parts contains infinity."""
    infinite: bool = _any_infinite(_flat(X)[part])
    return infinite


class Scratch(NamedTuple):
    """Work space, vectors of one long row each.

    Attributes
    ----------
    shift
        A value near the mean of each feature.
    counts, sums, squares
        Of a block: observed weight, sum of deviations from the shift, and sum
        of their squares.
    all_counts, all_sums, all_squares
        The same of all blocks since the shift was last changed.
    weight
        Weight of each value of a long row.
    """

    shift: Floats
    counts: Floats
    sums: Floats
    squares: Floats
    all_counts: Floats
    all_sums: Floats
    all_squares: Floats
    weight: Floats


@compiled()
def _moments(flat, n_rows, n_features, by_column, bounds, weight, out):
    """Moments of consecutive stretches of rows.

    Parameters
    ----------
    flat : read-only float32 or float64 array of n_rows * n_features values
    n_rows, n_features : int
    by_column : bool
        Whether ``flat`` is in Fortran order.
    bounds : read-only int64 array of n_stretches + 1 row numbers
    weight : read-only float64 array of the weights of the rows between the first
        and the last of the bounds, or an empty one
    out : float64 C-contiguous array of shape (n_stretches, 4, n_features)
        Written: count, shift, residual and squares.

    Returns
    -------
    int
        MISSING and NOT_FINITE.
    """
    flags = 0
    width = 1 if by_column else min(n_features, _WIDEST)
    longest = 0
    for k in range(bounds.size - 1):
        longest = max(longest, bounds[k + 1] - bounds[k])
    together = _rows_together(longest, width)
    work = np.empty((8, together * width))
    scratch = Scratch(
        work[0], work[1], work[2], work[3], work[4], work[5], work[6], work[7]
    )
    for first in range(0, n_features, width):
        width = min(width, n_features - first)
        for k in range(bounds.size - 1):
            row, length = bounds[k], bounds[k + 1] - bounds[k]
            if by_column:
                start, stride = first * n_rows + row, 1
            else:
                start, stride = row * n_features + first, n_features
            here = row - bounds[0]
            own = weight[here : here + length] if weight.size else weight
            result = out[k, :, first : first + width]
            # Of this stretch's length, lest others make a difference to it. The
            # rows of a tile of the columns don't lie end to end.
            whole = by_column or width == n_features
            together = _rows_together(length, width) if whole else 1
            flags |= _stretch(
                flat, start, length, stride, width, together, own, scratch, result
            )
    return flags


@compiled()
def _rows_together(n_rows, width):
    """Rows to see as one, a power of 2; 8 or more of those long rows if possible."""
    together = 1
    while together * width < _LONG_ROW and together * 16 <= n_rows:
        together *= 2
    return together


@compiled()
def _stretch(flat, start, n_rows, stride, width, together, weight, scratch, out):
    """Moments of a part, from the deviations from a value near the mean."""
    out[:] = 0.0
    if n_rows == 0:
        return 0
    guess_rows = min(n_rows, _GUESS_ROWS)
    flags = _find_shift(
        flat, start, guess_rows, stride, width, together, weight, scratch
    )
    _forget(scratch)
    block_rows = max(together, _BLOCK_VALUES // width // together * together)
    for row in range(0, n_rows, block_rows):
        length = min(block_rows, n_rows - row)
        here = start + row * stride
        own = weight[row : row + length] if weight.size else weight
        _sum(flat, here, length, stride, width, together, own, flags, scratch)
        finite, near = _judge(width, scratch)
        if not finite and flags == 0:
            flags = MISSING
            _sum(flat, here, length, stride, width, together, own, flags, scratch)
            finite, near = _judge(width, scratch)
        if not finite:
            flags |= NOT_FINITE
        if not near:
            _merge(width, scratch, out)
            _forget(scratch)
            flags |= _find_shift(
                flat, here, length, stride, width, together, own, scratch
            )
            _sum(flat, here, length, stride, width, together, own, flags, scratch)
        for j in range(width):
            scratch.all_counts[j] += scratch.counts[j]
            scratch.all_sums[j] += scratch.sums[j]
            scratch.all_squares[j] += scratch.squares[j]
    _merge(width, scratch, out)
    return flags


@compiled()
def _find_shift(flat, start, n_rows, stride, width, together, weight, scratch):
    """Set the shift to the mean of a few rows; return MISSING or 0."""
    count, sums, first = scratch.counts, scratch.sums, scratch.squares
    count[:width] = 0.0
    sums[:width] = 0.0
    first[:width] = 0.0
    missing = 0
    for i in range(n_rows - 1, -1, -1):
        if weight.size and weight[i] == 0.0:
            continue
        row = flat[start + i * stride : start + i * stride + width]
        for j in range(width):
            value = np.float64(row[j])
            observed = value == value
            count[j] += 1.0 if observed else 0.0
            sums[j] += value if observed else 0.0
            first[j] = value if observed else first[j]
            missing |= 0 if observed else 1
    for j in range(width):
        mean = sums[j] / max(count[j], 1.0)
        # One of the values themselves, where it is within rounding of the mean,
        # makes all deviations of a constant feature exactly 0.
        rounding = 2.0 * n_rows * _EPS * abs(first[j])
        scratch.shift[j] = first[j] if abs(first[j] - mean) <= rounding else mean
    _repeat(scratch.shift, width, together)
    return MISSING if missing else 0


@compiled()
def _repeat(vector, width, together):
    """Lay the first ``width`` values end to end ``together`` times."""
    filled = width
    while filled < width * together:
        for j in range(filled):
            vector[filled + j] = vector[j]
        filled *= 2


@compiled()
def _fold(vector, width, together):
    """Undo _repeat, by adding."""
    half = width * together // 2
    while half >= width:
        for j in range(half):
            vector[j] += vector[half + j]
        half //= 2


@compiled()
def _forget(scratch):
    scratch.all_counts[:] = 0.0
    scratch.all_sums[:] = 0.0
    scratch.all_squares[:] = 0.0


@compiled()
def _judge(width, scratch):
    """Whether all sums are finite, and whether the shifts are near the means."""
    infinite = far = 0
    for j in range(width):
        sums = scratch.all_sums[j] + scratch.sums[j]
        squares = scratch.all_squares[j] + scratch.squares[j]
        count = scratch.all_counts[j] + scratch.counts[j]
        is_finite = abs(sums) <= _LARGEST
        infinite |= 0 if is_finite else 1
        # Of all squares, those that are due to the distance from the mean.
        due = sums * (sums / max(count, SMALLEST))
        is_far = squares > _LARGEST or due > _FAR * squares
        far |= 1 if is_finite and is_far else 0
    return infinite == 0, far == 0


@compiled()
def _merge(width, scratch, out):
    """Merge the sums of all blocks into what was found with other shifts.

    Chan, Golub and LeVeque (1983), eq. 1.5, on means of two doubles.
    """
    for j in range(width):
        count = scratch.all_counts[j]
        if not count > 0.0:
            continue
        shift = scratch.shift[j]
        residual = scratch.all_sums[j] / count
        squares = scratch.all_squares[j] - scratch.all_sums[j] * residual
        if squares < 0.0:
            squares = 0.0
        elif squares != squares:
            squares = inf  # overflow in both
        before = out[0, j]
        if before == 0.0:
            out[1, j] = shift
            out[2, j] = residual
        else:
            delta = (shift - out[1, j]) + (residual - out[2, j])
            step = count / (before + count) * delta
            out[2, j] += step
            squares += before * delta * step
        out[0, j] += count
        out[3, j] += squares


@compiled()
def _sum(flat, start, n_rows, stride, width, together, weight, flags, scratch):
    """Count, sums and squares of a block."""
    long = width * together
    n_long = n_rows // together
    rest = width * (n_rows - n_long * together)
    if together > 1:
        stride = long
    scratch.sums[:] = 0.0
    scratch.squares[:] = 0.0
    end = start + n_long * long
    if weight.size:
        scratch.counts[:] = 0.0
        _add_weighted(flat, start, n_long, stride, long, width, weight, scratch)
        if rest:
            own = weight[n_long * together :]
            _add_weighted(flat, end, 1, stride, rest, width, own, scratch)
        _fold(scratch.counts, width, together)
    elif flags:
        scratch.counts[:] = 0.0
        _add_observed(flat, start, n_long, stride, long, scratch)
        if rest:
            _add_observed(flat, end, 1, stride, rest, scratch)
        _fold(scratch.counts, width, together)
    else:
        scratch.counts[:width] = n_rows
        _add(flat, start, n_long, stride, long, scratch)
        if rest:
            _add(flat, end, 1, stride, rest, scratch)
    _fold(scratch.sums, width, together)
    _fold(scratch.squares, width, together)


@compiled(fastmath={"contract"})
def _add(flat, start, n_rows, stride, width, scratch):
    """Add rows without missing values to the sums."""
    shift, sums, squares = scratch.shift, scratch.sums, scratch.squares
    in_fours = n_rows - n_rows % 4
    for i in range(0, in_fours, 4):
        # Four rows at a time, as each time the sums are read and written.
        p = start + i * stride
        row_a = flat[p : p + width]
        row_b = flat[p + stride : p + stride + width]
        row_c = flat[p + 2 * stride : p + 2 * stride + width]
        row_d = flat[p + 3 * stride : p + 3 * stride + width]
        for j in range(width):
            a = row_a[j] - shift[j]
            b = row_b[j] - shift[j]
            c = row_c[j] - shift[j]
            d = row_d[j] - shift[j]
            sums[j] += (a + b) + (c + d)
            squares[j] += (a * a + b * b) + (c * c + d * d)
    for i in range(in_fours, n_rows):
        row = flat[start + i * stride : start + i * stride + width]
        for j in range(width):
            a = row[j] - shift[j]
            sums[j] += a
            squares[j] += a * a


@compiled(fastmath={"contract"})
def _add_observed(flat, start, n_rows, stride, width, scratch):
    """Add rows, of which NaN is left out, to the sums."""
    shift = scratch.shift
    count, sums, squares = scratch.counts, scratch.sums, scratch.squares
    for i in range(n_rows):
        row = flat[start + i * stride : start + i * stride + width]
        for j in range(width):
            a = row[j] - shift[j]
            observed = row[j] == row[j]
            a = a if observed else 0.0
            count[j] += 1.0 if observed else 0.0
            sums[j] += a
            squares[j] += a * a


@compiled(fastmath={"contract"})
def _add_weighted(flat, start, n_rows, stride, width, n_features, weight, scratch):
    """Add weighted rows; NaN and rows of weight 0 are left out."""
    shift, spread = scratch.shift, scratch.weight
    count, sums, squares = scratch.counts, scratch.sums, scratch.squares
    together = width // n_features
    for i in range(n_rows):
        for k in range(together):
            w = weight[i * together + k]
            for j in range(k * n_features, (k + 1) * n_features):
                spread[j] = w
        row = flat[start + i * stride : start + i * stride + width]
        for j in range(width):
            observed = (row[j] == row[j]) & (spread[j] > 0.0)
            w = spread[j] if observed else 0.0
            a = row[j] - shift[j] if observed else 0.0
            count[j] += w
            sums[j] += w * a
            squares[j] += w * a * a


@compiled()
def _centre_and_scale(flat, width, centre, scale, offset, is_limited, limit, fill, out):
    """Write ``(flat - centre) * scale + offset``, rounded once, into ``out``.

    Parameters
    ----------
    flat : read-only float32 or float64 array
        Rows of ``width`` values each.
    width : int
    centre, scale, offset : read-only float64 arrays of ``width`` values
        A centre of 0 and an offset of -0.0 change nothing.
    is_limited : bool
        Whether the next two change anything.
    limit, fill : read-only float64 arrays of ``width`` values
        See :class:`~sk_batchnorm._kernels.numpy.AffineMap`. A limit of inf and a fill
        of NaN change nothing.
    out : array as ``flat``, or that itself

    Returns
    -------
    bool
        Whether ``flat`` contains infinity.
    """
    together = 1
    while together * width < _LONG_ROW and together * width < flat.size:
        together *= 2
    long = together * width
    vectors = np.empty((5, long))
    for k, vector in enumerate((centre, scale, offset, limit, fill)):
        vectors[k, :width] = vector
        _repeat(vectors[k], width, together)
    infinite = 0
    for start in range(0, flat.size, long):
        stop = min(start + long, flat.size)
        row, target = flat[start:stop], out[start:stop]
        if is_limited:
            infinite |= _limited_row(
                row, vectors[0], vectors[1], vectors[2], vectors[3], vectors[4], target
            )
        else:
            infinite |= _centre_and_scale_row(
                row, vectors[0], vectors[1], vectors[2], target
            )
    return infinite != 0


@compiled()
def _centre_and_scale_row(row, centre, scale, offset, out):
    infinite = 0
    for j in range(row.size):
        value = row[j]
        infinite |= 1 if abs(value) == inf else 0
        out[j] = (np.float64(value) - centre[j]) * scale[j] + offset[j]
    return infinite


@compiled()
def _limited_row(row, centre, scale, offset, limit, fill, out):
    """As above, of products that are filled and limited before the offset."""
    infinite = 0
    for j in range(row.size):
        value = row[j]
        infinite |= 1 if abs(value) == inf else 0
        product = (np.float64(value) - centre[j]) * scale[j]
        product = product if product == product else fill[j]
        # NaN is neither above nor below, and stays.
        product = limit[j] if product > limit[j] else product
        product = -limit[j] if product < -limit[j] else product
        out[j] = product + offset[j]
    return infinite


@compiled()
def _any_infinite(flat):
    """Whether a read-only float32 or float64 array contains infinity."""
    infinite = 0
    for i in range(flat.size):
        infinite |= 1 if abs(flat[i]) == inf else 0
    return infinite != 0
