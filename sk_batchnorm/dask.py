"""The transformer for dask arrays and dataframes: a chunk is learned where it lies.

Each chunk becomes a :class:`Stretch`, some vectors as long as a row; a tree joins
them in order. The shape of the tree depends on the number of chunks alone, so the
result does not depend on who computes what, or when.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial, reduce
from math import inf, isnan
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sk_batchnorm._compat import callbacks_of, check_parameters, output_container
from sk_batchnorm._draft import commit, draft_of
from sk_batchnorm._inputs import Input, cut
from sk_batchnorm._kernels.numpy import Floats, ignore_float_errors
from sk_batchnorm._moments import Moments, merge
from sk_batchnorm._rule import Rule, rule_of
from sk_batchnorm._running_stats import RunningStats
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import (
    MASKED_WEIGHT,
    NAMELESS_ERRORS,
    check_input,
    check_sample_weight,
    check_times,
    check_timing,
    naming_features,
    refuse_mask,
    warn_of_low_sum,
    warn_of_small,
    warn_of_unobserved,
)
from sk_batchnorm.functional import MINI_BATCH

try:
    import dask.array as da
    from dask.base import is_dask_collection
    from dask.config import get as get_option
    from dask.delayed import delayed
    from dask.layers import ArrayBlockIdDep
except ImportError as error:
    raise ImportError(
        'sk_batchnorm.dask needs dask: pip install "sk-batchnorm[dask]".'
    ) from error

__all__ = ["DaskBatchNorm1dTransformer"]

# Parts that one task joins, where dask's configuration does not say: little
# enough for any worker, and the tree adds 1/15 of a task per chunk.
_SPLIT_EVERY = 16


class _LazyTransform:
    """The methods whose result scikit-learn would turn into a pandas DataFrame.

    It wraps ``transform`` in the classes of its own that define it, for
    ``set_output``; of a dask collection that would compute all of X. So they are
    defined outside of such a class, and heed ``set_output`` themselves.
    """

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Normalise X with the running statistics and apply the affine map.

        Parameters
        ----------
        X : dask array or dask DataFrame, or what \
:meth:`.BatchNorm1dTransformer.transform` takes
            Of shape (n_samples, n_features) or (n_samples, n_channels,
            n_timepoints).

        copy : bool, default=None
            As for :class:`.BatchNorm1dTransformer`. Chunks of a dask collection
            are never written into.

        Returns
        -------
        dask array, or dask DataFrame if ``set_output(transform="pandas")`` says so
            Lazy, chunk by chunk, with the running statistics at the time of the call.
            For data in memory, what :class:`.BatchNorm1dTransformer` returns.

        Raises
        ------
        NotFittedError
            Before anything was learned.
        ValueError
            If X does not have the features that were learned from.
        """
        if not is_dask_collection(X):
            return super().transform(X, copy)  # type: ignore[misc]
        return _chunkwise(self, "transform", X)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Learn from X, then transform it.

        Parameters
        ----------
        X : as for :meth:`fit`
            A dask collection is computed once to learn from it and once more when
            the result is; ``X.persist()`` keeps it in the workers' memory.

        y : None
            Ignored.

        **fit_params : dict
            `sample_weight`, for :meth:`fit`.

        Returns
        -------
        as for :meth:`transform`

        Raises
        ------
        ValueError
            As from :meth:`fit` and :meth:`transform`. The transformer is then as it
            was before both.
        InvalidParameterError
            If a parameter is out of range.
        """
        if not is_dask_collection(X):
            return super().fit_transform(X, y, **fit_params)  # type: ignore[misc]
        # What transform refuses shows before a pass over X, and before fit has
        # replaced what was learned.
        check_parameters(self)
        draft = self._started_on(X)  # type: ignore[attr-defined]
        _chunkwise(draft, "transform", X)
        return self.fit(X, y, **fit_params).transform(X)  # type: ignore[attr-defined]


class DaskBatchNorm1dTransformer(_LazyTransform, BatchNorm1dTransformer):
    """:class:`.BatchNorm1dTransformer` for dask arrays and dask DataFrames.

    :meth:`fit` and :meth:`partial_fit` summarise each chunk on the worker that
    holds it, and join the summaries in order; only vectors as long as a row travel.
    :meth:`transform` and :meth:`inverse_transform` are lazy. All parameters,
    attributes and other methods are those of :class:`.BatchNorm1dTransformer`,
    and data in memory are handled as there.

    Read more in the :ref:`user guide <clusters>`.

    Parameters
    ----------
    num_features, eps, momentum, affine, bias, track_running_stats, halflife, \
variance, bias_correction, weight_init, bias_init, with_mean, batch_size, clip, \
handle_missing, n_jobs, copy
        As for :class:`.BatchNorm1dTransformer`. `n_jobs` counts the threads
        within a task, and None is one. Chunks are not written into, whatever
        `copy` is.

    See Also
    --------
    sk_batchnorm.BatchNorm1dTransformer : The transformer for data in memory;
        :meth:`to_local` makes one.

    Notes
    -----
    ``fit`` cuts each chunk into mini-batches as :class:`.BatchNorm1dTransformer` cuts
    X, and a chunk of fewer than `batch_size` rows joins its neighbour: the chunk
    after it, or at the end the mini-batch before it. So the running statistics are
    those of the in-memory ``fit``, except for rounding, if the length of each chunk is
    a multiple of `batch_size`, as ``X.rechunk({0: k * batch_size})`` makes it of all
    but the last. Chunks without rows, and rows of weight 0, are left out. With
    ``batch_size=None``, and for :meth:`partial_fit`, all chunks together are one
    mini-batch. With a `halflife`, chunks of any lengths give the running statistics of
    one machine, except for rounding.

    Chunk sizes need not be known. X must have a single chunk along all axes but the
    first. :meth:`~.BatchNorm1dTransformer.forward` loads X into memory, with a
    warning, and callbacks are called only if X is in memory already.

    The tasks are those of dask's own reductions, and its option ``split_every``
    sets how many summaries a task joins, 16 by default. The same chunks give the
    same bits, whatever the number of workers, the order in which they finish, and
    how many of them die.

    Examples
    --------
    >>> import dask.array as da
    >>> from sk_batchnorm.dask import DaskBatchNorm1dTransformer
    >>> X = da.arange(4000, chunks=1000, dtype=float).reshape(-1, 2)
    >>> bn = DaskBatchNorm1dTransformer(batch_size=100).fit(X)
    >>> bn.num_batches_tracked_, bn.running_mean_.round(1)
    (20, array([2652.6, 2653.6]))
    >>> bn.transform(X)
    dask.array<transform, shape=(2000, 2), dtype=float64, chunksize=(500, 2), \
chunktype=numpy.ndarray>
    >>> type(bn.to_local())
    <class 'sk_batchnorm._transformer.BatchNorm1dTransformer'>
    """

    @ignore_float_errors
    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, times: Any = None
    ) -> Self:
        """Forget everything and learn from X.

        Parameters
        ----------
        X : dask array or dask DataFrame, or what \
:meth:`.BatchNorm1dTransformer.fit` takes
            Of shape (n_samples, n_features) or (n_samples, n_channels,
            n_timepoints), and one chunk along all axes but the first.

        y : None
            Ignored.

        sample_weight : float, array-like, dask array or dask Series of shape \
(n_samples,), default=None
            Frequency weights. If chunk sizes are unknown, a dask array or Series
            with the chunks of X.

        times : array-like, dask array or dask Series of shape (n_samples,), \
default=None
            As for :class:`.BatchNorm1dTransformer`, cut as `sample_weight` is.

        Returns
        -------
        DaskBatchNorm1dTransformer
            The fitted transformer itself.

        Raises
        ------
        ValueError
            If X or sample_weight is not what it must be. The transformer is
            then as it was, as with any error on the cluster.
        InvalidParameterError
            If a parameter is out of range.
        """
        if not is_dask_collection(X):
            super().fit(X, y, sample_weight, times)
            return self
        check_parameters(self)
        draft = self._started_on(X, sample_weight)
        rule = rule_of(self.momentum, self.variance, True, self.halflife)
        batch_size = self.batch_size if self.halflife is None else None
        whole = draft._joined(X, sample_weight, times, batch_size, rule)
        try:
            stats = whole.close(batch_size, rule)
        except NAMELESS_ERRORS as error:
            raise draft._named(error) from None
        warn_of_small(draft, stats)
        if self.track_running_stats:
            warn_of_unobserved(draft, stats)
            draft._running_stats = stats
        return commit(self, draft)

    @ignore_float_errors
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, times: Any = None
    ) -> Self:
        """Learn from one mini-batch: all of X, one step of the rule.

        Parameters
        ----------
        X, y, sample_weight, times
            As for :meth:`fit`.

        Returns
        -------
        DaskBatchNorm1dTransformer
            The transformer itself.

        Raises
        ------
        ValueError
            If X or sample_weight is not what it must be, or has too few
            samples for the rule. The transformer is then as it was.
        InvalidParameterError
            If a parameter is out of range.
        """
        if not is_dask_collection(X):
            super().partial_fit(X, y, sample_weight, times)
            return self
        check_parameters(self)
        is_first = not self.__sklearn_is_fitted__()
        if is_first:
            draft = self._started_on(X, sample_weight)
        else:
            draft = draft_of(self)
            draft._check_example(X, sample_weight, reset=False)
        rule = rule_of(
            self.momentum, self.variance, self.bias_correction, self.halflife
        )
        whole = draft._joined(X, sample_weight, times, None, rule)
        later = whole.close(None, rule) if rule.halflife is not None else None
        stats = draft._running_stats
        try:
            if stats is not None:
                later = later or RunningStats.of(whole.only_batch, rule)
                stats = stats.then(later, rule)
        except NAMELESS_ERRORS as error:
            raise draft._named(error) from None
        if is_first:
            warn_of_unobserved(draft, stats)
            is_faded = rule.halflife is not None
            warn_of_small(
                draft,
                later
                if is_faded and later is not None
                else RunningStats.of(whole.only_batch, MINI_BATCH),
            )
        draft._running_stats = stats
        return commit(self, draft)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Undo the normalisation.

        Parameters
        ----------
        X, copy
            As for :meth:`transform`.

        Returns
        -------
        dask array
            Lazy, chunk by chunk. For data in memory, what
            :class:`.BatchNorm1dTransformer` returns.

        Raises
        ------
        NotFittedError
            Before anything was learned.
        ValueError
            If a weight is 0, or if there are no running statistics to invert with
            (``track_running_stats=False``).
        """
        if not is_dask_collection(X):
            return super().inverse_transform(X, copy)
        return _chunkwise(self, "inverse_transform", X)

    def to_local(self) -> BatchNorm1dTransformer:
        """Return a plain transformer, which does not need dask.

        Returns
        -------
        BatchNorm1dTransformer
            With the same parameters and a copy of the current state, without
            callbacks.
        """
        draft = draft_of(self)
        if callbacks_of(draft):
            draft.set_callbacks()  # which may not bear to be copied
        local = BatchNorm1dTransformer()
        # As in a pickle: without the mini-batch that backward would need.
        local.__setstate__(deepcopy(draft.__getstate__()))
        return local

    def _started_on(self, X: Any, sample_weight: Any = None) -> Self:
        """Draft that has forgotten everything and knows the features of X."""
        draft = draft_of(self)
        draft._check_example(X, sample_weight, reset=True)
        draft._start()
        return draft

    def _check_example(self, X: Any, sample_weight: Any, *, reset: bool) -> None:
        """Check all that can be told of X, and of the weight, without computing."""
        data = check_input(self, _example_of(X), "fit", reset=reset)
        if isinstance(sample_weight, Real):
            check_sample_weight(sample_weight, data.array.shape[0])

    def _joined(
        self,
        X: Any,
        sample_weight: Any,
        times: Any,
        batch_size: int | None,
        rule: Rule,
    ) -> Stretch:
        """What the chunks of a checked X say together."""
        check_timing(self, is_timed=times is not None)
        whole: Stretch
        lazy = _joined(self, X, sample_weight, batch_size, rule, times)
        (whole,) = lazy.compute().flat
        if not whole.parts:
            raise ValueError("X has no rows, or none of a positive sample_weight.")
        if times is not None and self._running_stats is not None:
            _check_order(self._running_stats.clock, whole.begin)
        warn_of_low_sum(self, whole.weight, whole.n_rows)
        return whole


class Batch(NamedTuple):
    """A mini-batch that may still get more rows."""

    n_rows: int
    moments: Moments


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive rows of X, learned before what lies beside them is known.

    Attributes
    ----------
    parts : tuple of Batch and RunningStats
        In order. The first mini-batch and the last one may still get more rows, and
        so may fewer than `batch_size` rows after that; all between is closed.
    n_rows, weight : float
        Number of rows of non-zero weight, and the sum of their weights.
    begin : float, datetime64 or None
        Time of the first row, if rows have times.
    """

    parts: tuple[Batch | RunningStats, ...]
    n_rows: int
    weight: float
    begin: Any = None

    @classmethod
    def of_rows(
        cls,
        data: Input,
        sample_weight: Floats | None,
        batch_size: int | None,
        rule: Rule,
        n_jobs: int | None = None,
        times: Any = None,
    ) -> Stretch:
        """Cut rows into mini-batches, as ``fit`` does, and learn from them.

        `batch_size` is None where all rows, of other stretches too, are one mini-batch.
        """
        shape = data.array.shape
        n_rows, weight = shape[0], float(shape[0])
        if sample_weight is not None:
            n_rows = int(np.count_nonzero(sample_weight))
            weight = float(sample_weight.sum())
        if rule.halflife is not None:
            faded, clock = data.faded_moments(rule, sample_weight, times, n_jobs)
            begin = None if times is None else times[0]
            return cls((RunningStats.of(faded, rule, clock),), n_rows, weight, begin)

        def batch(start: int, stop: int) -> Batch:
            n_rows = stop - start
            if sample_weight is not None:
                n_rows = int(np.count_nonzero(sample_weight[start:stop]))
            bounds = np.array([start, stop])
            return Batch(n_rows, data.moments(bounds, sample_weight, n_jobs))

        parts: list[Batch | RunningStats] = []
        for bounds in cut(shape, batch_size, sample_weight):
            is_first, is_last = not parts, bounds[-1] == shape[0]
            if is_first:
                parts.append(batch(*bounds[:2]))
            between = bounds[is_first : len(bounds) - is_last]
            if len(between) > 1:
                batches = data.moments(between, sample_weight, n_jobs)
                parts.append(RunningStats.of(batches, rule))
            if is_last and len(bounds) - is_first > 1:
                parts.append(batch(*bounds[-2:]))
        return cls(tuple(parts), n_rows, weight)

    def then(self, later: Stretch, batch_size: int | None, rule: Rule) -> Stretch:
        """Join these rows and those that follow them."""
        parts: list[Batch | RunningStats] = []
        for part in (*self.parts, *later.parts):
            before = parts[-1] if parts else None
            if (
                isinstance(before, Batch)
                and isinstance(part, Batch)
                and before.n_rows < (batch_size or inf)
            ):
                parts[-1] = _merged(before, part)
            else:
                parts.append(part)
        if rule.halflife is not None and parts:
            if self.parts and later.begin is not None:
                _check_order(self.parts[-1].clock, later.begin)  # type: ignore[union-attr]
            parts = [_closed(parts, rule)]
        elif len(parts) > 3:
            parts[1:-2] = [_closed(parts[1:-2], rule)]
        return Stretch(
            tuple(parts),
            self.n_rows + later.n_rows,
            self.weight + later.weight,
            later.begin if self.begin is None else self.begin,
        )

    def close(self, batch_size: int | None, rule: Rule) -> RunningStats:
        """Statistics where nothing comes before and nothing after."""
        *before, last = self.parts
        if before and isinstance(last, Batch) and last.n_rows < (batch_size or inf):
            *before, neighbour = before
            assert isinstance(neighbour, Batch)
            last = _merged(neighbour, last)
        return _closed([*before, last], rule)

    @property
    def only_batch(self) -> Moments:
        """Moments of all rows, where `batch_size` is None."""
        (batch,) = self.parts
        assert isinstance(batch, Batch)
        return batch.moments


def _check_order(end: Any, begin: Any) -> None:
    if isinstance(end, type(begin)) and begin < end:
        raise ValueError(
            f"times must not decrease, but a chunk begins with {begin}, after {end}."
        )


def _merged(earlier: Batch, later: Batch) -> Batch:
    return Batch(earlier.n_rows + later.n_rows, merge([earlier.moments, later.moments]))


def _closed(parts: list[Batch | RunningStats], rule: Rule) -> RunningStats:
    """Statistics of consecutive mini-batches, with bias correction.

    With a half-life, all rows are one mini-batch.
    """
    stretches = [
        RunningStats.of(part.moments, rule) if isinstance(part, Batch) else part
        for part in parts
    ]
    start = RunningStats.start(len(stretches[0].mean))
    stats = reduce(lambda earlier, later: earlier.then(later, rule), stretches, start)
    if rule.halflife is None:
        return stats
    number: Any = np.minimum(stats.num_batches, 1)
    return replace(stats, num_batches=number if np.ndim(number) else int(number))


def _joined(
    bn: DaskBatchNorm1dTransformer,
    X: Any,
    sample_weight: Any,
    batch_size: int | None,
    rule: Rule,
    times: Any = None,
) -> Any:
    """Lazily, an array of a single value: the Stretch of all chunks."""
    is_frame = not isinstance(X, da.Array)
    # Unfitted, but it knows the features.
    checker = clone(bn.to_local())
    check_input(checker, _example_of(X), "fit", reset=True)
    chunks = _chunks(X)
    weight = _aligned("sample_weight", sample_weight, chunks, is_frame=is_frame)
    times = _aligned("times", times, chunks, is_frame=is_frame)
    axes = "ijk"[: chunks.ndim]
    as_objects: dict[str, Any] = {
        "dtype": object,
        "meta": np.empty((0,) * chunks.ndim, dtype=object),
    }
    parts = da.blockwise(
        _learn_chunk,
        axes,
        *(chunks, axes),
        *(weight, "i" if isinstance(weight, da.Array) else None),
        *(times, "i" if isinstance(times, da.Array) else None),
        *(ArrayBlockIdDep(chunks.chunks), axes),
        checker=checker,
        batch_size=batch_size,
        rule=rule,
        adjust_chunks=dict.fromkeys(axes, 1),
        align_arrays=False,  # which asks for chunk sizes
        token="learn",
        **as_objects,
    )
    return da.reduction(
        parts,
        chunk=_as_it_is,
        aggregate=partial(_join, batch_size=batch_size, rule=rule),
        axis=0,
        keepdims=True,
        split_every=get_option("split_every", _SPLIT_EVERY),
        # Of the tasks that learn, too: dask fuses them with this first step.
        name="learn",
        **as_objects,
    )


@contextmanager
def _in_chunk(number: int) -> Iterator[None]:
    """Say in which chunk it is that something is wrong."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"In chunk {number} of X: {error}") from error


@ignore_float_errors
def _learn_chunk(
    chunk: Any,
    sample_weight: Any,
    times: Any,
    block_id: tuple[int, ...],
    *,
    checker: BatchNorm1dTransformer,
    batch_size: int | None,
    rule: Rule,
) -> NDArray[Any]:
    """What a chunk says, in an array of as many axes."""
    if isinstance(sample_weight, np.ndarray):
        check_consistent_length(chunk, sample_weight)
    is_there = sample_weight is None or np.any(sample_weight)
    if not (chunk.shape[0] and is_there):
        return _boxed(Stretch((), 0, 0.0), chunk.ndim)
    with _in_chunk(block_id[0]):
        data = check_input(checker, chunk, "fit").by_rows()
        weight = None
        if sample_weight is not None:
            weight = check_sample_weight(sample_weight, data.array.shape[0])
        try:
            if times is not None:
                times = check_times(checker, times, data)
            stretch = Stretch.of_rows(
                data, weight, batch_size, rule, checker.n_jobs, times
            )
        except NAMELESS_ERRORS as error:
            names = checker.get_feature_names_out()
            raise naming_features(error, data, weight, names) from None
    return _boxed(stretch, chunk.ndim)


@ignore_float_errors
def _join(
    parts: NDArray[Any], *, axis: Any, keepdims: bool, **options: Any
) -> NDArray[Any]:
    """Join stretches that follow each other; dask passes the axis."""
    whole = reduce(lambda part, later: part.then(later, **options), parts.flat)
    return _boxed(whole, parts.ndim)


def _boxed(stretch: Stretch, ndim: int) -> NDArray[Any]:
    box = np.empty((1,) * ndim, dtype=object)
    box[(0,) * ndim] = stretch
    return box


def _as_it_is(part: Any, **kwargs: Any) -> Any:
    return part


def _chunkwise(bn: Any, method: str, X: Any) -> Any:
    """A method of the plain transformer on each chunk, lazily."""
    check_is_fitted(bn)
    local = bn.to_local()
    # All that is wrong with the kind of X, or with the state, shows here and now.
    example = getattr(local, method)(_example_of(X), copy=True)
    is_array = isinstance(example, np.ndarray) or sparse.issparse(example)
    if not (is_array or hasattr(example, "iloc")):
        raise ValueError(
            f"dask has no {output_container(bn)} DataFrames: "
            "set_output(transform='pandas'), or 'default' for dask arrays."
        )
    bn._warned = local._warned  # the example has warned for all chunks
    names = local.get_feature_names_out()
    options: dict[str, Any] = {"local": local, "method": method}
    whole = None
    if local.running_mean_ is None:
        whole = delayed(_joined(bn, X, None, None, MINI_BATCH))
    if not is_array and not isinstance(X, da.Array):
        # Whatever the configuration of the process that runs the task.
        local.set_output(transform="pandas")
        options["empty"] = empty = example.iloc[:0].set_axis(X._meta.index)
        return X.map_partitions(
            _transform_chunk, whole, meta=empty, token=method, **options
        )
    local.set_output(transform="default")
    if isinstance(X, da.Array):
        vars(local).pop("feature_names_in_", None)  # the example has warned, once
    if not is_array:
        example = example.to_numpy()
    options["empty"] = empty = example[:0]
    chunks = _chunks(X)
    axes = "ijk"[: chunks.ndim]
    Y = da.blockwise(
        _transform_chunk,
        axes,
        *(chunks, axes),
        *(whole, None),
        *(ArrayBlockIdDep(chunks.chunks), axes),
        token=method,
        align_arrays=False,  # a block id has no chunk size
        meta=empty,
        **options,
    )
    if is_array:
        return Y
    from dask.dataframe import from_dask_array

    return from_dask_array(Y, columns=names)


@ignore_float_errors
def _transform_chunk(
    chunk: Any,
    whole: NDArray[Any] | None,
    block_id: tuple[int, ...] = (0,),
    *,
    local: BatchNorm1dTransformer,
    method: str,
    empty: Any,
    partition_info: Any = None,
) -> Any:
    if not chunk.shape[0]:  # as a filter may leave it
        return empty
    if whole is not None:
        (stretch,) = whole.flat
        local = _normalising_by(local, stretch.only_batch)
    with _in_chunk(partition_info["number"] if partition_info else block_id[0]):
        return getattr(local, method)(chunk, copy=True)


def _normalising_by(
    local: BatchNorm1dTransformer, batch: Moments
) -> BatchNorm1dTransformer:
    """With the mean and biased variance of a batch, where nothing is tracked."""
    if (batch.n_samples <= 1).any():
        raise ValueError(
            "transform with track_running_stats=False needs more than 1 sample; got "
            f"n_samples={batch.n_samples.item():g}."
        )
    local = draft_of(local)
    local._running_stats = RunningStats.of(batch, MINI_BATCH)
    return local


def _example_of(X: Any) -> Any:
    """Two rows of zeros, of the kind that X is."""
    if isinstance(X, da.Array):
        return _example_of_array(X)
    if getattr(getattr(X, "_meta", None), "ndim", None) != 2:
        raise ValueError(
            f"X is a dask {type(X).__name__}; expected a dask array or DataFrame."
        )
    pandas: Any = sys.modules["pandas"]  # of which the partitions of X are
    dtypes = dict(enumerate(X.dtypes))
    for k, dtype in dtypes.items():
        is_category = isinstance(dtype, pandas.CategoricalDtype)
        if is_category or pandas.api.types.is_string_dtype(dtype):
            # Of numbers, perhaps, which each chunk finds out: dask makes strings of
            # objects, and objects are what numbers with pd.NA among them are.
            dtypes[k] = np.dtype(object)
        elif getattr(dtype, "kind", "O") not in "biufc":
            raise ValueError(
                f"Column {X.columns[k]} has dtype {dtype}, which is not a real number."
            )
    example = X._meta.reset_index(drop=True).set_axis(range(len(dtypes)), axis=1)
    example = example.astype(dtypes).reindex([0, 1], fill_value=0)
    return example.set_axis(X.columns, axis=1)


def _example_of_array(X: Any) -> Any:
    if any(n_chunks > 1 for n_chunks in X.numblocks[1:]):
        raise ValueError(
            f"X is cut into {X.numblocks} chunks, but may be cut along the first axis "
            f"only: X.rechunk({dict.fromkeys(range(1, X.ndim), -1)})."
        )
    if X.ndim > 1 and isnan(X.shape[1]):
        raise ValueError(
            "The number of features of X is unknown: X.compute_chunk_sizes()."
        )
    shape = (2, *(1 if isnan(length) else length for length in X.shape[1:]))
    if sparse.issparse(X._meta):
        return type(X._meta)(shape, dtype=X.dtype)
    return np.zeros(shape, dtype=X.dtype)


def _chunks(X: Any) -> Any:
    """X as a dask array, whose chunks are DataFrames if X is one."""
    if isinstance(X, da.Array):
        return X
    meta = np.empty((0, len(X.columns)))
    return X.map_partitions(_as_it_is, meta=meta, enforce_metadata=False, token="chunk")


_CUT_AS_AN_ARRAY = (
    "pass a dask array or Series with the chunks of X, or call X.compute_chunk_sizes()."
)

_CUT_AS_A_FRAME = (
    "pass a dask Series with the partitions of X, or a dask array, "
    "da.from_array(sample_weight, chunks=(tuple(X.map_partitions(len).compute()),))."
)


def _aligned(name: str, values: Any, X: Any, *, is_frame: bool) -> Any:
    """sample_weight or times in the chunks of X."""
    if values is None or isinstance(values, Real):
        return values
    if hasattr(values, "to_dask_array"):
        values = values.to_dask_array()
    if not isinstance(values, da.Array):
        if isnan(X.shape[0]):
            raise ValueError(
                f"The chunk sizes of X are unknown, so that {name} can't be cut as X "
                f"is: {_CUT_AS_A_FRAME if is_frame else _CUT_AS_AN_ARRAY}"
            )
        refuse_mask(name, values, MASKED_WEIGHT)
        values = da.from_array(np.asarray(values))
    if values.ndim != 1:
        raise ValueError(
            f"{name} must be 1D array or scalar, got {values.ndim}D array."
        )
    lengths = X.shape[0], values.shape[0]
    if not any(map(isnan, lengths)):
        if lengths[0] != lengths[1]:
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"{list(lengths)}"
            )
        return values.rechunk((X.chunks[0],))
    if X.numblocks[0] != values.numblocks[0]:
        raise ValueError(
            f"X has {X.numblocks[0]} chunks of unknown sizes, and {name} has "
            f"{values.numblocks[0]}: cut one as the other."
        )
    return values
