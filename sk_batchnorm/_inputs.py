"""The kinds of X, one class each behind one interface, chosen once.

A new kind is a subclass of :class:`Input`, and a line in :func:`input_of`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from copy import copy as shallow_copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from math import prod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import get_config
from sklearn.utils import check_array

from sk_batchnorm._compat import (
    from_numpy,
    has_namespace,
    largest_float,
    namespace_of,
    to_numpy,
)
from sk_batchnorm._kernels import dispatch
from sk_batchnorm._kernels import numpy as kernels
from sk_batchnorm._kernels.numpy import (
    INFINITE,
    SMALLEST,
    AffineMap,
    Floats,
    InfiniteValueError,
    blocks,
    refuse_infinity,
)
from sk_batchnorm._moments import (
    Bounds,
    Moments,
    concatenate,
    merge,
    scale_weights_down,
    scale_weights_up,
)
from sk_batchnorm._normalize import output_dtype
from sk_batchnorm._rule import Clock, Rule, span_of

# The moments of several mini-batches at once take no more than 2 MB.
_STACK_VALUES = 65_536

# In place of an array of another namespace that was learned from.
_ON_HOST = np.empty(0)

# Half-lives after which a weight is nothing in float64.
_FADED_AWAY = 1100

# Rows whose weights are worth remembering.
FEW_ROWS = 4096

# Relative difference between sums of weights that is more than rounding.
_WEIGHTS_DIFFER = 1e-13

# Values of which an offset of 0 is worth finding, and a choice of kernels.
_WORTH_A_LOOK = 10_000


@dataclass(slots=True)
class Input(ABC):
    """Rows of data that have passed all checks but that for infinity.

    Attributes
    ----------
    array : array of shape (n_samples, n_features, ...)
        Of real numbers. NaN is a missing value.
    """

    array: Any

    # Why it can't become a DataFrame, if so.
    no_frame: ClassVar[str] = ""
    is_sparse: ClassVar[bool] = False
    is_numpy: ClassVar[bool] = True
    # Of the values of a feature, and what repeats a vector along them.
    axes: ClassVar[tuple[int, ...]] = (0,)
    each: ClassVar[tuple[slice | None, ...]] = (slice(None),)
    # Features of the stored values, if a scale is needed of these alone.
    few_features: ClassVar[NDArray[np.integer] | None] = None

    @property
    def n_values(self) -> int:
        """Number of values of each feature, missing ones included."""
        return int(self.array.shape[0])

    def rows(self, start: int, stop: int) -> Self:
        """Some of the rows."""
        return type(self)(self.array[start:stop, ...])

    @property
    def template(self) -> Any:
        """An empty array of the namespace and on the device of X."""
        return _ON_HOST

    def by_rows(self) -> Self:
        """The same, of which rows can be cut out in no time."""
        return self

    def without_duplicates(self) -> Self:
        """The same, in which each value is stored once."""
        return self

    def moments(
        self,
        bounds: Bounds | None = None,
        weight: Floats | None = None,
        n_jobs: int | None = None,
    ) -> Moments:
        """Moments of consecutive mini-batches, or of one of all rows.

        Mini-batch k holds the rows from ``bounds[k]`` up to ``bounds[k + 1]``, of which
        at least one has a positive weight. A row of weight 2 is that row twice, a row
        of weight 0 is not there. The result does not depend on `n_jobs`, the number of
        threads.

        Raises InfiniteValueError if a row of positive weight contains infinity.
        """
        if bounds is None:
            bounds = np.array([0, self.array.shape[0]])
        if weight is None:
            return self._moments(bounds, None, n_jobs)
        scaled, unit = scale_weights_down(weight, bounds)
        data = self
        if scaled is not weight:
            data = self.rows(*bounds[[0, -1]])
            bounds = bounds - bounds[0]
        return scale_weights_up(data._moments(bounds, scaled, n_jobs), unit)

    def faded_moments(
        self,
        rule: Rule,
        weight: Floats | None = None,
        times: Any = None,
        n_jobs: int | None = None,
    ) -> tuple[Moments, Clock]:
        """Moments of all rows, which fade by their age, and the clock at their end.

        In rows, the age of a value is the number of observed values of its feature that
        come after it; in three dimensions every time point of every sample is a row.
        Rows of weight 0 are not there.
        """
        unit: float | Floats = 1.0
        bounds = np.array([0, self.array.shape[0]])
        if weight is not None:
            weight, unit = scale_weights_down(weight, bounds)
        if times is not None:
            last = times[-1] if weight is None else times[weight > 0][-1]
            # Rows after the last that weighs anything are not there.
            age = span_of(last - np.minimum(times, last))
            share = _product(rule.decay(age), weight)
            moments, clock = self._moments(bounds, share, n_jobs), last
        else:
            moments, clock = self._faded_by_row(rule, bounds, weight, n_jobs)
        return scale_weights_up(moments, unit), clock

    def _faded_by_row(
        self, rule: Rule, bounds: Bounds, weight: Floats | None, n_jobs: int | None
    ) -> tuple[Moments, Clock]:
        """As :meth:`faded_moments` in rows, with one weight a row if that will do."""
        n_rows = int(self.array.shape[0])
        if self._may_differ_in_age():
            return self._faded_by_value(rule, weight)
        if weight is None:
            fading = fading_of_few if n_rows <= FEW_ROWS else _fading
            share, n_faint = fading(n_rows, rule)
        else:
            n_faint = n_rows  # any row may weigh little
            there = weight > 0
            age = np.cumsum(there[::-1], dtype=np.float64)[::-1] - there
            share, n_rows = rule.decay(age) * weight, int(np.count_nonzero(there))
        if n_faint and self.rows(0, n_faint)._has_nan():
            return self._faded_by_value(rule, weight)
        moments = self._moments(bounds, share, n_jobs)
        if _has_missing(moments):
            return self._faded_by_value(rule, weight)
        return moments, n_rows

    def _has_nan(self) -> bool:
        """Whether a value is missing, or perhaps, as infinities make NaN too."""
        X = self.array
        return X.dtype.kind == "f" and bool(np.isnan(X.sum(dtype=np.float64)))

    def _may_differ_in_age(self) -> bool:
        """Whether the values of a sample are known to differ in age."""
        return self.n_values > int(self.array.shape[0])

    def _faded_by_value(
        self, rule: Rule, weight: Floats | None
    ) -> tuple[Moments, Clock]:
        """As :meth:`faded_moments`, where the values of a row may differ in age."""
        later = np.zeros(self.array.shape[1], dtype=np.int64)
        parts: list[Moments] = []
        decay = np.empty(0)
        for rows, row_weight in self._rows_from_the_end(weight):
            if len(decay) < len(rows):
                decay = rule.decay(np.arange(float(len(rows))))
            # What is too old weighs nothing, but is counted.
            factor = rule.decay(later.astype(np.float64))
            stack, n_rows = dispatch.faded_moments(rows, row_weight, decay, factor)
            if not parts or later.min() < _FADED_AWAY * (rule.halflife or 0):
                parts.append(Moments(np.array([[float(len(rows))]]), *stack))
            later = later + n_rows
        return merge(reversed(parts)), _one_clock(later)

    def _rows_from_the_end(
        self, weight: Floats | None
    ) -> Iterator[tuple[Floats, Floats | None]]:
        """Blocks of rows in float64, the last ones first, and their weights."""
        raise NotImplementedError

    def _moments(
        self, bounds: Bounds, weight: Floats | None, n_jobs: int | None
    ) -> Moments:
        """Moments of mini-batches whose weights are near 1."""
        return concatenate(
            [
                self._moments_of_one(start, stop, weight, n_jobs)
                for start, stop in pairwise(bounds.tolist())
            ]
        )

    def _moments_of_one(
        self, start: int, stop: int, weight: Floats | None, n_jobs: int | None
    ) -> Moments:
        raise NotImplementedError

    @abstractmethod
    def normalized(
        self, by: AffineMap, *, copy: bool, n_jobs: int | None = None
    ) -> Any:
        """X by an affine map, in float32 or float64, of the kind of X.

        Filled and limited, where the map says so, in the same pass. Centring first
        keeps the digits of a column whose mean is large against its standard deviation,
        where ``X * scale + (offset - centre * scale)`` would cancel them. With
        ``copy=False``, the result is written into X if its dtype and its memory allow
        that.

        Raises InfiniteValueError if X contains infinity. X is then as it was.
        """

    def infinities(
        self,
    ) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
        """First row of a block, and rows and features of the infinities in it."""
        X = to_numpy(self.array)
        for index in blocks(X.shape):
            rows, features, *_ = np.nonzero(np.isinf(X[index]))
            yield index[0].start, rows, features


class NumPyInput(Input):
    """A NumPy array."""

    __slots__ = ()

    def _rows_from_the_end(
        self, weight: Floats | None
    ) -> Iterator[tuple[Floats, Floats | None]]:
        X = self.array
        for index in reversed(list(_blocks_of_samples(X.shape))):
            rows = X[index]
            row_weight = None if weight is None else weight[index]
            if X.ndim == 3:
                if row_weight is not None:
                    row_weight = np.repeat(row_weight, X.shape[2])
                rows = rows.transpose(0, 2, 1).reshape(-1, X.shape[1])
            yield rows.astype(np.float64, order="C"), row_weight

    def _moments(
        self, bounds: Bounds, weight: Floats | None, n_jobs: int | None
    ) -> Moments:
        X = self.array
        n_rows = bounds[1:] - bounds[:-1]
        if (
            X.size > kernels.BLOCK_VALUES
            and n_rows.max() > dispatch.rows_at_once(X)
            and n_rows.max() > 1
        ):
            return super()._moments(bounds, weight, n_jobs)
        if weight is None:
            n_samples = n_rows.astype(np.float64)
        else:
            n_samples = np.add.reduceat(weight[: bounds[-1]], bounds[:-1])
        if X.ndim == 3:
            n_samples *= X.shape[2]
        stack = dispatch.moments(X, bounds, weight, n_jobs)
        return Moments(n_samples[:, None], *stack)

    def _moments_of_one(
        self, start: int, stop: int, weight: Floats | None, n_jobs: int | None
    ) -> Moments:
        """Moments of a mini-batch, in blocks that a kernel takes."""
        at_once = dispatch.rows_at_once(self.array)
        bounds = np.append(np.arange(start, stop, at_once), stop)
        n_together = max(1, _STACK_VALUES // self.array.shape[1])
        return merge(
            self._moments(bounds[i : i + n_together + 1], weight, n_jobs)
            for i in range(0, len(bounds) - 1, n_together)
        )

    def normalized(
        self, by: AffineMap, *, copy: bool, n_jobs: int | None = None
    ) -> NDArray[np.floating]:
        """See :meth:`Input.normalized`."""
        X = self.array
        is_large = X.size > _WORTH_A_LOOK
        if is_large and by.offset is not None and not by.offset.any():
            by = by._replace(offset=None)
        out = _output(X, copy=copy)
        dispatch.centre_and_scale(X, by, out, n_jobs)
        return out


class Dense(NumPyInput):
    """A NumPy array of shape (n_samples, n_features)."""

    __slots__ = ()


class Series(NumPyInput):
    """A NumPy array of shape (n_samples, n_channels, n_timepoints)."""

    __slots__ = ()

    no_frame = "Three-dimensional"
    axes = (0, 2)
    each = (slice(None), None)

    @property
    def n_values(self) -> int:
        """Number of values of each channel: every time point is a row."""
        return int(self.array.shape[0] * self.array.shape[2])

    def _moments(
        self, bounds: Bounds, weight: Floats | None, n_jobs: int | None
    ) -> Moments:
        if dispatch.is_taken_as_it_is(self.array):
            return super()._moments(bounds, weight, n_jobs)
        return concatenate(
            [
                merge(self._parts(start, stop, weight))
                for start, stop in pairwise(bounds.tolist())
            ]
        )

    def _parts(
        self, start: int, stop: int, sample_weight: Floats | None
    ) -> Iterator[Moments]:
        """Moments of blocks of a mini-batch, of which every time point is a row."""
        X = self.array[start:stop]
        if sample_weight is not None:
            sample_weight = sample_weight[start:stop]
        for index in blocks(X.shape):
            block = X[index].transpose(0, 2, 1)
            weight = None
            if sample_weight is not None:
                weight = np.repeat(sample_weight[index[0]], block.shape[1])
                if not weight.any():
                    continue
            yield Dense(block.reshape(-1, X.shape[1]))._moments(
                np.array([0, block.shape[0] * block.shape[1]]), weight, None
            )


class Sparse(Input):
    """A CSR or CSC matrix or array of shape (n_samples, n_features)."""

    __slots__ = ()

    no_frame = "Sparse"
    is_sparse = True
    is_numpy = False

    def rows(self, start: int, stop: int) -> Self:
        """Some of the rows."""
        return type(self)(self.array[start:stop])

    def without_duplicates(self) -> Self:
        """The same, in which no two stored values add up."""
        X = self.array
        if X.has_canonical_format:
            return self
        dtype = output_dtype(X.dtype)
        X = _without_duplicates(X)
        X.data = X.data.astype(dtype, copy=False)
        return type(self)(X)

    def by_rows(self) -> Self:
        """CSR, as rows of CSC can't be cut out without a search.

        An object of its own, as SciPy notes in it what it finds out about the order.
        """
        return type(self)(shallow_copy(self.array.tocsr()))

    def _moments_of_one(
        self, start: int, stop: int, weight: Floats | None, n_jobs: int | None
    ) -> Moments:
        """Moments from the stored values and the weight of the zeros.

        The corrected two-pass algorithm, as for a dense block.
        """
        X = self.array
        if stop - start < X.shape[0]:
            X = X[start:stop]
            weight = None if weight is None else weight[start:stop]
        if weight is not None and not weight.all():
            X, weight = X[weight > 0], weight[weight > 0]
        if not X.has_canonical_format:
            X = _without_duplicates(X)
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
        near = np.abs(sums.example - shift) <= rounding * np.abs(sums.example)
        near &= zeros == 0
        if near.any():
            example = np.where(near, sums.example, shift)
            _, squares = dispatch.stored_deviations(X, weight, example)
            shift = np.where(near & (squares == 0), example, shift)

        deviations, squares = dispatch.stored_deviations(X, weight, shift)
        residual = (deviations - zeros * shift) / divisor
        # Grouped so that where there is no zero it adds 0 however large the shift.
        squares = squares + (zeros * shift) * shift - count * residual**2
        return Moments(
            np.array([[n_samples]]),
            count[None],
            shift[None],
            residual[None],
            np.maximum(squares, 0.0)[None],
        )

    def _faded_by_value(
        self, rule: Rule, weight: Floats | None
    ) -> tuple[Moments, Clock]:
        """Features with missing values are made dense, some at a time."""
        X = self.array.tocsc()
        stored = np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
        has_gaps = np.zeros(X.shape[1], dtype=bool)
        has_gaps[stored[np.isnan(X.data)]] = True
        full, clock = Sparse(X[:, ~has_gaps]).faded_moments(rule, weight)
        n_rows = np.full(X.shape[1], clock)
        parts = np.zeros((4, 1, X.shape[1]))
        whole = Moments(full.n_samples, parts[0], parts[1], parts[2], parts[3])
        for name in ("count", "shift", "residual", "squares"):
            getattr(whole, name)[:, ~has_gaps] = getattr(full, name)
        for feature in np.flatnonzero(has_gaps):
            column = Dense(X[:, [feature]].toarray())
            part, n_rows[feature] = column._faded_by_value(rule, weight)
            for name in ("count", "shift", "residual", "squares"):
                getattr(whole, name)[:, feature] = getattr(part, name)[:, 0]
        return whole, _one_clock(n_rows)

    def normalized(
        self, by: AffineMap, *, copy: bool, n_jobs: int | None = None
    ) -> Any:
        """Scale the stored values; the zeros stay what they are."""
        X = self.array
        refuse_infinity(X.data)
        data = _output(X.data, copy=copy)
        scale = self._per_value(by.scale)
        if by.limit is by.fill is None:
            np.multiply(X.data, scale, out=data, casting="same_kind")
        else:
            products = data if data.dtype == np.float64 else np.empty(data.shape)
            np.multiply(X.data, scale, out=products, casting="same_kind")
            limit, fill = self._per_value(by.limit), self._per_value(by.fill)
            kernels.fill_and_limit(products, limit, fill)
            np.copyto(data, products, casting="same_kind")
        if data is X.data:
            return X
        return type(X)((data, X.indices.copy(), X.indptr.copy()), shape=X.shape)

    def _per_value(self, vector: Floats | None) -> Any:
        """The entry of its feature for each stored value."""
        X = self.array
        if vector is None or len(vector) < X.shape[1]:  # see few_features
            return vector
        if X.format == "csr":
            return vector[X.indices]
        return np.repeat(vector, np.diff(X.indptr))

    def _has_nan(self) -> bool:
        return bool(np.isnan(self.array.data).any())

    @property
    def few_features(self) -> NDArray[np.integer] | None:  # type: ignore[override]
        """Features of the stored values, if a scale is needed of these alone."""
        X = self.array
        return X.indices if X.format == "csr" and X.nnz < X.shape[1] else None

    def infinities(
        self,
    ) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
        """See :meth:`Input.infinities`."""
        X = self.array.tocoo()
        infinite = np.isinf(X.data)
        yield 0, X.row[infinite], X.col[infinite]


def _without_duplicates(X: Any) -> Any:
    refuse_infinity(X.data)  # before infinities cancel
    # A copy, in which sums don't wrap around; SciPy's astype sums before.
    parts = X.data.astype(np.float64), X.indices.copy(), X.indptr.copy()
    X = type(X)(parts, shape=X.shape)
    X.sum_duplicates()
    return X


def _one_clock(n_rows: Any) -> Clock:
    """One number of rows where the features agree."""
    n_rows = np.atleast_1d(n_rows)
    return int(n_rows[0]) if (n_rows == n_rows[0]).all() else n_rows


def _fading(n_rows: int, rule: Rule) -> tuple[Floats, int]:
    """Weights of so many rows, the last of which weighs 1.

    And how many of the oldest weigh so little that their sum does not tell whether one
    of them is missing.
    """
    share: Floats = rule.decay(np.arange(n_rows - 1, -1, -1.0))
    share.flags.writeable = False
    least = 10 * _WEIGHTS_DIFFER * share.sum()
    return share, int(np.searchsorted(share, least))


# As a stream repeats them.
fading_of_few = lru_cache(maxsize=16)(_fading)


def _has_missing(moments: Moments) -> bool:
    """Whether the weights of the observed values are not those of all."""
    if moments.count.size == 1:
        share = moments.count.item() / moments.n_samples.item()
        return bool(abs(share - 1) > _WEIGHTS_DIFFER)
    return bool((abs(moments.count / moments.n_samples - 1) > _WEIGHTS_DIFFER).any())


def _product(share: Floats, weight: Floats | None) -> Floats:
    return share if weight is None else share * weight


def _blocks_of_samples(shape: tuple[int, ...]) -> Iterator[slice]:
    n_rows = max(1, kernels.BLOCK_VALUES // prod(shape[1:]))
    for start in range(0, shape[0], n_rows):
        yield slice(start, start + n_rows)


class OtherNamespace(Input):
    """An array of another namespace than NumPy's, which stays on its device.

    Of two or three dimensions. What comes to the host are numbers per feature.
    """

    __slots__ = ()

    is_numpy = False

    @property
    def no_frame(self) -> str:  # type: ignore[override]
        """Why it can't become a DataFrame, if so."""
        return "" if self.array.ndim == 2 else Series.no_frame

    @property
    def n_values(self) -> int:
        """Number of values of each feature, missing ones included."""
        n_samples, _, *n_timepoints = self.array.shape
        return int(prod([n_samples, *n_timepoints]))

    @property
    def template(self) -> Any:
        """An empty array of the namespace and on the device of X."""
        xp, device = namespace_of(self.array)
        return xp.empty(0, dtype=largest_float(xp, device), device=device)

    def _has_nan(self) -> bool:
        return False  # which _may_differ_in_age has ruled out

    def _may_differ_in_age(self) -> bool:
        # Where sums are in float32, they do not tell.
        X = self.array
        xp, _ = namespace_of(X)
        if X.ndim == 3:
            return True
        is_floating = bool(xp.isdtype(X.dtype, "real floating"))
        return is_floating and bool(xp.any(xp.isnan(X)))

    def _faded_by_value(
        self, rule: Rule, weight: Floats | None
    ) -> tuple[Moments, Clock]:
        """The ages are counted on the host, where only what is missing goes."""
        X = self.array
        xp, device = namespace_of(X)
        if X.ndim == 3:
            X = xp.permute_dims(X, (0, 2, 1))
        values = xp.astype(
            xp.reshape(X, (1, -1, X.shape[-1])), largest_float(xp, device)
        )
        observed = ~to_numpy(xp.isnan(values))
        if weight is not None:
            weight = np.repeat(weight, values.shape[1] // len(weight))[None, :, None]
            observed &= weight > 0
        n_rows = observed.sum(axis=1)
        age = n_rows[:, None] - np.cumsum(observed, axis=1)
        share = _product(rule.decay(age) * observed, weight)
        sums = _sums_with_gaps(xp, values, from_numpy(share, xp, device, values.dtype))
        if sums is None:
            raise InfiniteValueError(INFINITE.format(self.array.dtype))
        n_samples = np.array([[float(values.shape[1])]])
        return Moments(n_samples, *sums), _one_clock(n_rows[0])

    def _moments(
        self, bounds: Bounds, weight: Floats | None, n_jobs: int | None
    ) -> Moments:
        """Moments from the deviations from a value of each feature.

        Those of a constant one are exactly 0.
        """
        return concatenate(
            [
                self._moments_of_even(start, n_batches, n_rows, weight)
                for start, n_batches, n_rows in _even_runs(bounds)
            ]
        )

    def _moments_of_even(
        self, start: int, n_batches: int, n_rows: int, sample_weight: Floats | None
    ) -> Moments:
        """Moments of mini-batches of one length."""
        xp, device = namespace_of(self.array)
        dtype = largest_float(xp, device)
        rows = slice(start, start + n_batches * n_rows)
        part = self.array[rows, ...]
        n_features = part.shape[1]
        if part.ndim == 3:
            part = xp.permute_dims(part, (0, 2, 1))
        values = xp.astype(xp.reshape(part, (n_batches, -1, n_features)), dtype)
        n_values = values.shape[1]  # of each feature, missing ones included
        if sample_weight is None:
            plain = _sums_without_gaps(xp, values)
            if np.isfinite(plain[1]).all():  # else there may be NaN, or infinity
                number = np.full((n_batches, 1), float(n_values))
                return Moments(number, number, *plain)
            weight = np.ones((n_batches, n_values, 1))
        else:
            weight = np.repeat(sample_weight[rows], n_values // n_rows)
            weight = weight.reshape(n_batches, n_values, 1)
        sums = _sums_with_gaps(xp, values, from_numpy(weight, xp, device, dtype))
        if sums is None:
            raise InfiniteValueError(INFINITE.format(self.array.dtype))
        return Moments(weight.sum(axis=1), *sums)

    def normalized(
        self, by: AffineMap, *, copy: bool, n_jobs: int | None = None
    ) -> Any:
        """A new array, on the device of X."""
        X = self.array
        xp, device = namespace_of(X)
        is_floating = xp.isdtype(X.dtype, "real floating")
        if is_floating and bool(xp.any(xp.isinf(X))):
            raise InfiniteValueError(INFINITE.format(X.dtype))
        dtype = largest_float(xp, device)

        # One copy to the device, of all that is sent.
        vectors = [by.scale]
        is_double = dtype == xp.float64
        for values in (by.centre, by.offset):
            if values is not None:
                vectors += [values] if is_double else _halves(values)
        n_affine = len(vectors)
        vectors += [values for values in (by.limit, by.fill) if values is not None]
        sent = from_numpy(np.stack(vectors), xp, device, dtype)
        rows = [
            sent[i, :] if X.ndim == 2 else sent[i, :, None] for i in range(len(vectors))
        ]
        n_parts = 1 if is_double else 2
        centres = rows[1 : 1 + n_parts] if by.centre is not None else []
        offsets = rows[1 + len(centres) : n_affine]

        Y = xp.astype(X, dtype)  # a copy, to be written to
        for row in centres:
            Y -= row
        Y *= rows[0]
        if by.fill is not None:
            Y = xp.where(xp.isnan(Y), rows[-1], Y)
        if by.limit is not None:
            limit = rows[n_affine]
            Y = xp.where(limit < Y, limit, Y)  # NaN is neither above nor below
            Y = xp.where(-limit > Y, -limit, Y)
        for row in reversed(offsets):
            Y += row
        if is_floating and xp.finfo(X.dtype).bits <= 32:
            Y = xp.astype(Y, xp.float32)
        return Y


def _even_runs(bounds: Bounds) -> Iterator[tuple[int, int, int]]:
    """First row, number and length of consecutive mini-batches of one length."""
    start = int(bounds[0])
    for n_rows, batches in groupby(np.diff(bounds).tolist()):
        n_batches = len(list(batches))
        yield start, n_batches, n_rows
        start += n_batches * n_rows


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


def _sums_with_gaps(
    xp: Any, values: Any, weight: Any
) -> tuple[Floats, Floats, Floats, Floats] | None:
    """Count, shift, residual and squares, or None if there is infinity.

    NaN, and what weighs nothing, is missing.
    """
    is_missing = xp.isnan(values) | (weight == 0)
    weight = xp.where(is_missing, xp.zeros_like(values), weight)
    lowest = xp.full_like(values[:, :1, :], -np.inf)
    shift = xp.max(xp.where(is_missing, lowest, values), axis=1, keepdims=True)
    shift = xp.where(shift == lowest, xp.zeros_like(shift), shift)
    values = xp.where(is_missing, shift, values)
    count = xp.sum(weight, axis=1, keepdims=True)
    divisor = xp.where(count == 0, xp.ones_like(count), count)
    deviation = values - shift
    residual = xp.sum(weight * deviation, axis=1, keepdims=True) / divisor
    deviation = deviation - residual
    drift = xp.sum(weight * deviation, axis=1, keepdims=True)
    squares = xp.sum(weight * deviation * deviation, axis=1, keepdims=True)
    if not bool(xp.all(xp.isfinite(residual))) and bool(xp.any(xp.isinf(values))):
        return None
    counts, shifts, residuals, all_squares, drifts = (
        to_numpy(array[:, 0, :]).astype(np.float64)
        for array in (count, shift, residual, squares, drift)
    )
    all_squares -= drifts * (drifts / np.maximum(counts, SMALLEST))
    return counts, shifts, residuals, np.maximum(all_squares, 0.0)


def _halves(values: Floats) -> list[Floats]:
    """What a float32 holds of values, and the rest, for a device without float64.

    Where the mean is 1e5 standard deviations away from 0, a float32 is off by some
    thousandths of one.
    """
    first = values.astype(np.float32).astype(np.float64)
    return [first, np.where(np.isfinite(first), values - first, 0.0)]


def _output(X: NDArray[Any], *, copy: bool) -> NDArray[np.floating]:
    """Where the result goes: X itself, or a new array."""
    dtype = output_dtype(X.dtype)
    if not copy and X.dtype == dtype and X.flags.writeable and not _overlaps(X):
        return X
    return np.empty_like(X, dtype=dtype, subok=False)


def _overlaps(X: NDArray[Any]) -> bool:
    """Whether two elements of X may share memory, as in a sliding window."""
    extent = X.itemsize
    for stride, size in sorted(zip(map(abs, X.strides), X.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return True
            extent += stride * (size - 1)
    return False


# The choice


def is_of_host(X: Any) -> bool:
    """Whether X is a NumPy array or a sparse matrix."""
    return isinstance(X, np.ndarray) or sparse.issparse(X)


def input_of(X: Any, owner: str) -> Input:
    """X as one of its kind.

    X has passed scikit-learn's ``check_array``, and is for the estimator or function
    that an error names.
    """
    if X.ndim > 3:
        raise ValueError(
            f"Found array with dim {X.ndim}. {owner} expected X of shape (n_samples, "
            "n_features) or (n_samples, n_channels, n_timepoints)."
        )
    if X.ndim == 3 and 0 in X.shape:
        lacking = "timepoint(s)" if X.shape[1] else "feature(s)"
        raise ValueError(
            f"Found array with 0 {lacking} (shape={tuple(X.shape)}) while a minimum of "
            f"1 is required by {owner}."
        )
    if not is_of_host(X):
        xp, _ = namespace_of(X)
        _check_real(X, xp.isdtype(X.dtype, ("bool", "integral", "real floating")))
        return OtherNamespace(X)
    if X.dtype in (object, np.longdouble):
        # Objects of a list with None in it, or of numbers that NumPy has no dtype
        # for. A long double may be too large for float64.
        X = check_array(X, **(ACCEPTED | {"dtype": np.float64}))
    _check_real(X, X.dtype.kind in "biuf")
    if sparse.issparse(X):
        return Sparse(X)
    return Dense(X) if X.ndim == 2 else Series(X)


def plain_input(attributes: Mapping[str, Any], X: Any) -> Input | None:
    """X as one of its kind, if it is what a stream repeats, with nothing to check.

    An array of the width that a transformer of these attributes has learned from, in
    which scikit-learn's way through the checks would change nothing: of two dimensions,
    or of three of NumPy's.
    """
    kind: type[Input] = Dense
    template = attributes.get("_template", _ON_HOST)
    if type(X) is np.ndarray and type(template) is np.ndarray:
        if not (X.dtype.char in "fd" and X.dtype.isnative):
            return None
        if X.ndim == 3 and X.shape[2] > 0:
            kind = Series
    elif not is_of_host(X) and _is_float_array(X):
        kind = OtherNamespace
        if not is_of_host(template) and namespace_of(template) != namespace_of(X):
            return None
    else:
        return None
    width = attributes.get("n_features_in_")
    is_plain = (
        (X.ndim == 2 or kind is Series)
        and X.shape[1] == width
        and X.shape[0] > 0
        and attributes.get("num_features", 0) in (None, width)
        and "feature_names_in_" not in attributes
    )
    return kind(X) if is_plain else None


# Infinity is refused block by block, where the data are read anyway.
ACCEPTED: dict[str, Any] = {
    "accept_sparse": ("csr", "csc"),
    "dtype": "numeric",
    "ensure_all_finite": False,
    "allow_nd": True,
}


def _check_real(X: Any, is_real: Any) -> None:
    if not is_real:
        raise ValueError(f"X has dtype {X.dtype}, which is not a real number.")


def _is_float_array(X: Any) -> bool:
    """Whether X is float32 or float64 in another namespace, and is to stay there."""
    if not hasattr(X, "__dlpack__") or not get_config()["array_api_dispatch"]:
        return False
    xp, _ = namespace_of(X)
    return has_namespace(X) and X.dtype in (xp.float32, xp.float64)


def cut(
    shape: tuple[int, ...],
    batch_size: int | None,
    sample_weight: Floats | None = None,
    *,
    n_together: int | None = None,
) -> Iterator[Bounds]:
    """Cut rows, in order, into mini-batches.

    Into ``n // batch_size`` of them, at least one, that are as equal in the number of
    their rows as ``np.array_split`` makes them. Rows of weight 0 do not count. Yields
    the bounds of as many mini-batches as their moments may take memory for, or
    `n_together`; they go on where those before have ended.
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
