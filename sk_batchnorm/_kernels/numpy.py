"""The hot loops in plain NumPy.

Both work on blocks that fit into a core's cache, so that an array far larger
than the cache is read from memory once, and the only scratch space is one block
of float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from itertools import pairwise
from math import isfinite, prod
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

# Half a megabyte of float64: fits the L2 cache of current cores with room for
# the block it was read from.
BLOCK_VALUES = 65_536

# Values that keep NumPy's inner loop busy.
_LONG_ROW = 2048

# Divides nothing, a sum of 0, where nothing was observed.
SMALLEST = float(np.finfo(np.float64).tiny)

LARGEST = float(np.finfo(np.float64).max)

Floats = NDArray[np.float64]

# Count, shift, residual and squares of several stretches of rows; see moments.
Stack = tuple[Floats, Floats, Floats, Floats]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


INFINITE = "Input X contains infinity or a value too large for {!r}"


class InfiniteValueError(ValueError):
    """Infinity among the values of a block; whose feature it is, the caller knows."""


def ignore_float_errors(
    function: Callable[Parameters, Result],
) -> Callable[Parameters, Result]:
    """Let no overflow, underflow or 0 / 0 within a function warn or raise.

    What comes of them is looked at where it matters. ``numpy.errstate`` itself, as a
    decorator, is not safe in threads before NumPy 2.
    """

    @wraps(function)
    def ignoring(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return ignoring


def blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Indices of the cache-sized blocks of whole features of an array.

    The last axis of three is cut too where a single sample fills a block. The first
    block is the largest.
    """
    n_rows = max(1, BLOCK_VALUES // max(1, prod(shape[1:])))
    n_rows = 1 << n_rows.bit_length() - 1  # see _rows_together
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


def moments(X: NDArray[Any], bounds: NDArray[np.int64], weight: Floats | None) -> Stack:
    """Count, shift, residual and squares of consecutive stretches of rows.

    Stretch k holds the rows of two-dimensional X from ``bounds[k]`` up to ``bounds[k +
    1]``, no more than fit a block. The results have the shapes of the attributes of
    :class:`~sk_batchnorm._moments.Moments`.
    """
    parts = []
    scratch, near = None, None
    for start, stop in pairwise(bounds.tolist()):
        block, block_weight = X[start:stop], None
        if weight is not None:
            block_weight = weight[start:stop]
            if not block_weight.all():
                there = block_weight > 0
                block, block_weight = block[there], block_weight[there]
        if scratch is None or len(block) > len(scratch):
            scratch = np.empty(block.shape)
        parts.append(block_moments(block, block_weight, near, scratch))
        if len(block):
            near = parts[-1][1]
    if len(parts) == 1:
        ((count, shift, residual, squares),) = parts
        return np.array(count, ndmin=2), shift[None], residual[None], squares[None]
    counts, shifts, residuals, all_squares = zip(*parts, strict=True)
    width = max(map(np.size, counts))
    return (
        np.array([np.broadcast_to(count, width) for count in counts]),
        np.array(shifts),
        np.array(residuals),
        np.array(all_squares),
    )


def block_moments(
    block: NDArray[Any],
    weight: Floats | None = None,
    near: Floats | None = None,
    scratch: Floats | None = None,
) -> tuple[float | Floats, Floats, Floats, Floats]:
    """Count, mean and squared deviations of one block.

    This is the corrected two-pass algorithm of Chan, Golub and LeVeque (1983),
    "Algorithms for computing the sample variance", eq. 1.7: the first pass finds a
    value close to the mean, the second sums the deviations from it and their squares.
    Where such a value is known, `near`, from the block before, one pass is enough.
    `scratch` is C-ordered work space of as many rows or more.
    """
    n_rows = block.shape[0]
    scratch = np.empty(block.shape) if scratch is None else scratch[:n_rows]
    if not n_rows:
        return 0.0, *np.zeros((3, block.shape[1]))
    if weight is None:
        if n_rows == 1 and all_finite(row := block[0].astype(np.float64)):
            return 1.0, row, *np.zeros((2, len(row)))  # its own mean
        weight, count = np.ones(n_rows), float(n_rows)
    else:
        count = float(weight.sum())
    if near is not None:
        result = _moments_near(near, block, weight, count, scratch)
        if result is not None:
            return result
    values = block
    if block.dtype != np.float64:
        values = scratch
        np.copyto(values, block, casting="same_kind")
    near = (weight @ values) / count
    result = _moments_near(near, values, weight, count, scratch)
    return result or _careful_moments(block, weight, scratch)


def _moments_near(
    shift: Floats, block: NDArray[Any], weight: Floats, count: float, scratch: Floats
) -> tuple[float, Floats, Floats, Floats] | None:
    """Moments from the deviations from a value near the mean, or None.

    Near means within 0.7 standard deviations: then the correction takes no more
    than half of the squares away, which costs one bit. None also where a value
    is missing or infinite, or a square is.
    """
    if block.size > _LONG_ROW:
        _subtract(block, shift, out=scratch)
    else:
        np.subtract(block, shift, out=scratch, casting="same_kind")
    sums = weight @ scratch
    np.multiply(scratch, scratch, out=scratch)
    squares = weight @ scratch
    residual = sums / count
    correction = sums * residual
    is_finite = isfinite(squares @ squares) or np.isfinite(squares).all()
    if not (is_finite and (correction <= 0.5 * squares).all()):
        return None
    return count, shift, residual, squares - correction


def _careful_moments(
    block: NDArray[Any], weight: Floats, scratch: Floats
) -> tuple[float | Floats, Floats, Floats, Floats]:
    """Moments where values are missing, overflow or hardly differ."""
    refuse_infinity(block)
    n_rows = block.shape[0]
    np.copyto(scratch, block, casting="same_kind")
    count: float | Floats = float(weight.sum())
    missing = np.isnan(scratch)
    first = scratch[0]
    if missing.any():
        # The first observed value of each feature, if it has one.
        first = scratch[missing.argmin(axis=0), np.arange(block.shape[1])]
        first = np.where(np.isnan(first), 0.0, first)
        scratch[missing] = 0.0
        count = weight @ ~missing
    divisor = np.maximum(count, SMALLEST)
    shift = (weight @ scratch) / divisor

    # One of the block's own values, where it is within rounding of the mean,
    # makes all deviations of a constant column exactly 0.
    rounding = 2 * n_rows * np.finfo(np.float64).eps
    shift = np.where(np.abs(first - shift) <= rounding * np.abs(first), first, shift)

    deviations = np.subtract(scratch, shift, out=scratch)
    deviations[missing] = 0.0
    residual = (weight @ deviations) / divisor
    np.multiply(deviations, deviations, out=deviations)
    squares = (weight @ deviations) - count * residual * residual
    return count, shift, residual, np.maximum(squares, 0.0)


@dataclass(eq=False)
class StoredSums:
    """Sums over the stored values of each feature of a sparse matrix."""

    stored: Floats  # weight of the stored values, missing ones included
    count: Floats  # weight of the observed values among them
    values: Floats  # their weighted sum
    number: Floats  # how many are stored
    example: Floats  # one of the observed values, 0 where there is none


def faded_moments(
    X: Floats, weight: Floats | None, decay: Floats, factor: Floats
) -> tuple[Stack, NDArray[np.int64]]:
    """Moments of rows whose values fade by their age, and how many are observed.

    The age is the number of observed values of the feature that come after. ``decay``
    is the weight at each age, and ``factor`` that of each feature.
    """
    refuse_infinity(X if weight is None else X[weight > 0])
    there = ~np.isnan(X)
    if weight is not None:
        there &= weight[:, None] > 0
    n_observed = there.sum(axis=0)
    share = decay[n_observed - np.maximum(np.cumsum(there, axis=0), 1)] * factor
    share *= there if weight is None else there * weight[:, None]
    count = share.sum(axis=0)
    divisor = np.maximum(count, SMALLEST)
    values = np.where(there, X, 0.0)
    shift = (share * values).sum(axis=0) / divisor
    # As in all kernels: a constant column deviates by exactly 0.
    last = len(X) - 1 - there[::-1].argmax(axis=0)
    last_value = values[last, np.arange(values.shape[1])]
    rounding = 2 * len(X) * np.finfo(np.float64).eps
    near = np.abs(last_value - shift) <= rounding * np.abs(last_value)
    shift = np.where(near, last_value, shift)
    deviations = np.where(there, values - shift, 0.0)
    residual = (share * deviations).sum(axis=0) / divisor
    squares = (share * deviations * deviations).sum(axis=0) - count * residual**2
    squares = np.maximum(squares, 0.0)
    return (count[None], shift[None], residual[None], squares[None]), n_observed


def stored_sums(X: Any, weight: Floats | None) -> StoredSums:
    """First pass over a CSR or CSC matrix; rows have a weight, or 1."""
    values, features, weight = _stored(X, weight)
    n_features = X.shape[1]
    number = _bincount(features, None, n_features)
    stored = _bincount(features, weight, n_features)
    count = stored
    observed = ~np.isnan(values)
    if not observed.all():
        values, features = values[observed], features[observed]
        weight = None if weight is None else weight[observed]
        count = _bincount(features, weight, n_features)
    example = np.zeros(n_features)
    example[features] = values
    terms = values if weight is None else weight * values
    return StoredSums(
        stored, count, _bincount(features, terms, n_features), number, example
    )


def stored_deviations(
    X: Any, weight: Floats | None, shift: Floats
) -> tuple[Floats, Floats]:
    """Second pass: sums of the deviations from a shift, and of their squares."""
    values, features, weight = _stored(X, weight)
    deviations = values - shift[features]
    deviations[np.isnan(values)] = 0.0
    terms = deviations if weight is None else weight * deviations
    return (
        _bincount(features, terms, X.shape[1]),
        _bincount(features, terms * deviations, X.shape[1]),
    )


def _bincount(
    features: NDArray[np.integer], terms: Floats | None, n_features: int
) -> Floats:
    sums = np.bincount(features, terms, minlength=n_features)
    return sums.astype(np.float64, copy=False)


def _stored(
    X: Any, weight: Floats | None
) -> tuple[Floats, NDArray[np.integer], Floats | None]:
    """Stored values of a CSR or CSC matrix, their features and weights."""
    values = X.data.astype(np.float64, copy=False)
    if X.format == "csr":
        features = X.indices
        if weight is not None:
            weight = np.repeat(weight, np.diff(X.indptr))
    else:
        features = np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
        if weight is not None:
            weight = weight[X.indices]
    return values, features, weight


def _subtract(block: NDArray[Any], row: Floats, out: NDArray[Any]) -> None:
    """Subtract a row from each row of a block."""
    together = _rows_together(block, out)
    if together > 1:
        wide = (len(block) // together, -1)
        block, row, out = block.reshape(wide), np.tile(row, together), out.reshape(wide)
    np.subtract(block, row, out=out, casting="same_kind")


def _rows_together(block: NDArray[Any], out: NDArray[Any]) -> int:
    """Rows that may be seen as one long row, a power of 2.

    NumPy's inner loop runs along a row; where rows are short, one of several
    rows laid end to end saves most of the loop's overhead.
    """
    n_rows, width = len(block), int(block.shape[1])
    if not (block.flags.c_contiguous and out.flags.c_contiguous):
        return 1
    together = n_rows & -n_rows  # the largest power of 2 that divides n_rows
    while together * width > _LONG_ROW:
        together //= 2
    return max(1, together)


class AffineMap(NamedTuple):
    """``(x - centre) * scale + offset``, of vectors; None stands for 0.

    Before the offset is added, a product that is NaN becomes `fill`, and then all are
    limited to [-limit, limit]; None for either changes nothing.
    """

    centre: Floats | None
    scale: Floats
    offset: Floats | None
    limit: Floats | None = None
    fill: Floats | None = None

    def repeated(self, function: Callable[[Floats], Floats]) -> AffineMap:
        """The same of vectors that a function has repeated."""
        vectors = (None if vector is None else function(vector) for vector in self)
        return AffineMap(*vectors)  # type: ignore[arg-type]


def centre_and_scale(X: NDArray[Any], by: AffineMap, out: NDArray[np.floating]) -> None:
    """Write X by an affine map into ``out``, which may be X.

    Of two dimensions or three, computed in float64 and rounded once to the dtype of
    ``out``. If X contains infinity, a part of
    ``out`` has been written when this raises.
    """
    if X.ndim == 2 and X.size <= _LONG_ROW and out.dtype == np.float64:
        flat = X.ravel()
        if X.dtype.kind == "f" and not isfinite(flat @ flat):
            refuse_infinity(X)
        _apply(X, by, out)
        return
    if X.ndim == 3:
        by = by.repeated(lambda row: row[:, None])
    rows = by
    together = 1
    scratch = np.empty(0)
    for index in blocks(X.shape):
        block, target = X[index], out[index]
        refuse_infinity(block)
        if X.ndim == 2:
            # Several rows laid end to end, see _rows_together.
            if together != (together := _rows_together(block, target)):
                tiles = partial(np.tile, reps=together)
                rows = by.repeated(tiles)
            wide = (len(block) // together, together * X.shape[1])
            block, target = block.reshape(wide), target.reshape(wide)
        work: NDArray[Any] = target
        if out.dtype != np.float64:
            if scratch.size < block.size:
                scratch = np.empty(block.size)
            work = scratch[: block.size].reshape(block.shape)
        _apply(block, rows, work)
        if work is not target:
            np.copyto(target, work, casting="same_kind")


def _apply(block: NDArray[Any], rows: AffineMap, out: NDArray[Any]) -> None:
    if rows.centre is None:
        np.multiply(block, rows.scale, out=out, casting="same_kind")
    else:
        np.subtract(block, rows.centre, out=out, casting="same_kind")
        np.multiply(out, rows.scale, out=out)
    if rows.limit is not None or rows.fill is not None:
        fill_and_limit(out, rows.limit, rows.fill)
    if rows.offset is not None:
        np.add(out, rows.offset, out=out)


def fill_and_limit(
    products: NDArray[np.floating], limit: Floats | None, fill: Floats | None
) -> None:
    """Replace NaN, then limit what is there, in place; see :class:`AffineMap`."""
    if fill is not None:
        np.copyto(products, fill, where=np.isnan(products))
    if limit is not None:  # NaN stays NaN
        np.minimum(products, limit, out=products)
        np.maximum(products, -limit, out=products)


def all_finite(values: NDArray[np.floating]) -> bool:
    """Whether a vector has neither NaN nor infinity; ignore overflow around it."""
    # A sum of squares is finite only if all of its terms are. The other way
    # round it may overflow, and only then is there more to look at.
    return isfinite(np.dot(values, values)) or bool(np.isfinite(values).all())


@ignore_float_errors
def refuse_infinity(X: NDArray[Any]) -> None:
    """Raise InfiniteValueError if X contains infinity, without a mask of its size."""
    if X.dtype.kind != "f":
        return
    # BLAS would wake its threads for more.
    if X.size <= _LONG_ROW and X.flags.c_contiguous and all_finite(X.ravel()):
        return
    for index in blocks(X.shape):
        block = X[index]
        # A sum is finite only if all of its terms are.
        if not np.isfinite(block.sum()) and np.isinf(block).any():
            raise InfiniteValueError(INFINITE.format(X.dtype))
