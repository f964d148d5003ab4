"""Is it acceptable? Checks of what a user passes, and the words where it isn't."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.utils import check_array
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    check_non_negative,
    validate_data,
)

from sk_batchnorm._compat import (
    check_parameters,
    feature_names_of,
    namespace_of,
    to_numpy,
)
from sk_batchnorm._inputs import ACCEPTED, Dense, Input, Series, input_of, is_of_host
from sk_batchnorm._kernels.numpy import LARGEST, Floats, InfiniteValueError
from sk_batchnorm._normalize import is_zero
from sk_batchnorm._rule import (
    WEIGHT_ROUNDING,
    Clock,
    Count,
    Rule,
    Weight,
    is_duration,
    rule_of,
    span_of,
)
from sk_batchnorm._running_stats import MeanOverflowError, RunningStats

# What the arithmetic raises, which knows no names of features; see naming_features.
NAMELESS_ERRORS = (InfiniteValueError, MeanOverflowError)

# Names of features that a message holds.
_MOST_NAMES = 5

_MASKED_X = (
    "Fill the masked values with NaN, which stands for missing values: "
    "X.filled(np.nan)."
)

# In scikit-learn's and NumPy's words.
_WHY_NOT_REAL = {
    "c": ": Complex data not supported",
    "U": ": could not convert string to float",
}

_NOTHING_MISSING = "It can't have missing values."

MASKED_WEIGHT = "A weight of 0 leaves a row out: sample_weight.filled(0)."


# X


def check_input(
    bn: Any, X: Any, method: str, *, reset: bool = False, accept_sparse: bool = True
) -> Input:
    """X as one of its kind, if a transformer may learn from it or transform it.

    With `reset` the transformer takes over the number of features and their names, and
    where it does not know these yet their names alone. So it is a draft, of which
    nothing remains if X is refused.
    """
    refuse_mask("X", X, _MASKED_X)
    X = as_numbers(X, keep_sparse=accept_sparse and not bn.with_mean)
    if not reset:
        if not bn._knows_names:
            _learn_names(bn, X)
        _check_width(X, bn.n_features_in_, type(bn).__name__)
    accepted = ACCEPTED if accept_sparse else ACCEPTED | {"accept_sparse": False}
    data = input_of(validate_data(bn, X, reset=reset, **accepted), type(bn).__name__)
    _check_with_mean(bn, data, "center")
    if reset:
        bn._template = data.template
    else:
        _check_namespace(bn, data, method)
    shape = data.array.shape
    if bn.num_features not in (None, shape[1]):
        raise ValueError(
            f"X has {shape[1]} features, but {type(bn).__name__} was made for "
            f"num_features={bn.num_features}.{_shape_hint(shape, bn.num_features)}"
        )
    return data


def check_output(bn: Any, X: Any) -> Input:
    """X as one of its kind, if it may be what a transformer has put out."""
    refuse_mask("X", X, _MASKED_X)
    X = as_numbers(X, keep_sparse=not bn.with_mean)
    name, n_features = type(bn).__name__, bn.n_features_in_
    _check_width(X, n_features, name)
    if hasattr(bn, "feature_names_in_") and feature_names_of(X) is not None:
        # An array is as welcome: transform's output has lost the names.
        validate_data(bn, X, reset=False, skip_check_array=True)
    data = input_of(check_array(X, **ACCEPTED), name)
    _check_with_mean(bn, data, "uncenter")
    if data.array.shape[1] != n_features:
        raise ValueError(_other_width(data.array.shape, n_features, name))
    _check_namespace(bn, data, "inverse_transform")
    return data


def check_array_input(X: Any) -> Input:
    """X as a NumPy array of two or three dimensions, for a function without state."""
    refuse_mask("X", X, "Fill it: X.filled(value).")
    X = check_array(
        as_numbers(X, keep_sparse=False), ensure_all_finite=False, allow_nd=True
    )
    if not is_of_host(X):
        raise TypeError(
            "batch_norm and its gradient take NumPy arrays, and the transformer's "
            f"partial_fit and transform arrays of other namespaces too; got {type(X)}."
        )
    if X.ndim > 3 or not X.size or X.dtype.kind not in "biuf":
        raise ValueError(
            f"X must hold real numbers in 2 or 3 dimensions; got dtype {X.dtype} "
            f"and shape {X.shape}."
        )
    return Dense(X) if X.ndim == 2 else Series(X)


def _learn_names(bn: Any, X: Any) -> None:
    """Take the names of X's features for those that are not known yet."""
    names = feature_names_of(X)
    if names is not None and len(names) == bn.n_features_in_:
        bn.feature_names_in_ = names
        del bn._knows_names


def _check_width(X: Any, n_features: int, name: str) -> None:
    """Refuse an X whose features are along another axis, with a hint."""
    shape = tuple(getattr(X, "shape", ()))
    if shape[1:2] != (n_features,) and _shape_hint(shape, n_features):
        raise ValueError(_other_width(shape, n_features, name))


def _other_width(shape: tuple[int, ...], n_features: int, name: str) -> str:
    # In scikit-learn's words.
    return (
        f"X has {shape[1]} features, but {name} is expecting {n_features} features "
        "as input." + _shape_hint(shape, n_features)
    )


def _shape_hint(shape: tuple[int, ...], n_features: int) -> str:
    """What to do with an X whose features are along another axis, or nothing."""
    if len(shape) == 2 and shape[0] == n_features:
        return (
            f" X has shape {shape}: if its features are its rows, pass X.T; if it is "
            "one sample of shape (n_channels, n_timepoints), pass X[None]."
        )
    if len(shape) == 3 and shape[2] == n_features:
        return (
            f" X has shape {shape}: if its last axis is that of the channels, pass "
            "X.transpose(0, 2, 1)."
        )
    return ""


def _check_with_mean(bn: Any, data: Input, action: str) -> None:
    if data.is_sparse and bn.with_mean:
        raise ValueError(
            f"Cannot {action} sparse matrices: pass `with_mean=False` instead. "
            "See docstring for motivation and alternatives."
        )


def _check_namespace(bn: Any, data: Input, method: str) -> None:
    """Refuse arrays that are elsewhere than the statistics.

    Those that are NumPy's are sent to wherever X is. scikit-learn's checks allow that
    of no others.
    """
    if is_of_host(bn._template) or not get_config()["array_api_dispatch"]:
        return
    wanted, given = namespace_of(bn._template), namespace_of(data.array)
    if wanted != given:
        raise ValueError(
            f"Inputs passed to {type(bn).__name__}.{method}() must use the same "
            "namespace and the same device as those that it has learned from: "
            f"{wanted[0].__name__} on {wanted[1]}; got {given[0].__name__} on "
            f"{given[1]}. One whose statistics are NumPy arrays takes arrays from "
            "anywhere: sklearn.base.clone(bn).load_state_dict(bn.state_dict())."
        )


def as_numbers(X: Any, *, keep_sparse: bool) -> Any:
    """X in a form whose numbers scikit-learn's checks read as they are.

    X itself where there is nothing to do; a DataFrame of the same library and with the
    same columns; what a dask collection is once it is computed; or an ndarray. With
    `keep_sparse`, a DataFrame of sparse columns, whose zeros are what is not stored,
    may become a sparse matrix.
    """
    if is_of_host(X):
        return _without_missing_objects(X) if X.dtype == object else X
    pandas = sys.modules.get("pandas")  # else X is none of its frames
    if pandas is not None and isinstance(X, pandas.DataFrame):
        return _numbers_of_frame(pandas, X, keep_sparse=keep_sparse)
    dask = sys.modules.get("dask")
    if dask is not None and dask.is_dask_collection(X):
        warn_user(
            f"X is a dask {type(X).__name__}, all of which is loaded into memory now. "
            "To leave its chunks where they lie, use fit, partial_fit and transform of "
            "sk_batchnorm.dask.DaskBatchNorm1dTransformer; if all of X fits into "
            "memory, pass X.compute()."
        )
        return as_numbers(X.compute(), keep_sparse=keep_sparse)
    if hasattr(X, "shape"):  # another library's array or frame
        polars: Any = sys.modules.get("polars")
        is_polars = polars is not None and isinstance(X, polars.DataFrame)
        if is_polars and polars.Object in X.dtypes:
            values = _without_missing_objects(np.asarray(X)).astype(np.float64)
            return polars.DataFrame(values, schema=X.columns)
        return X
    return _array_of(X)


def _numbers_of_frame(pandas: Any, X: Any, *, keep_sparse: bool) -> Any:
    """A pandas DataFrame whose columns hold numbers and NaN, with the zeros meant."""
    is_sparse = [isinstance(dtype, pandas.SparseDtype) for dtype in X.dtypes]
    if is_sparse and all(is_sparse):
        # scikit-learn would take what is not stored for 0, whatever fills it.
        of_zeros = all(dtype.fill_value == 0 for dtype in X.dtypes)
        return X if keep_sparse and of_zeros else X.sparse.to_dense()
    # A column of dates that are all missing holds no date.
    if any(getattr(dtype, "kind", "O") in "OmM" for dtype in X.dtypes):
        values = _without_missing_objects(X.to_numpy(dtype=object))
        return pandas.DataFrame(values, index=X.index, columns=X.columns)
    return X


def _without_missing_objects(values: NDArray[Any]) -> NDArray[Any]:
    """A copy with NaN in place of None, pd.NA and NaT."""
    pandas = sys.modules.get("pandas")
    # Only NaN and NaT differ from themselves; None becomes NaN with a dtype.
    missing = values != values if pandas is None else pandas.isna(values)
    values = values.copy()
    values[missing] = np.nan
    return values


def _array_of(X: Any) -> NDArray[Any]:
    """An array of a list, or of what gives one by a protocol."""
    other = hasattr(X, "__array__") or hasattr(X, "__array_interface__")
    values = np.from_dlpack(X) if hasattr(X, "__dlpack__") and not other else None
    if values is None:
        values = np.asarray(X)
    if values.ndim == 0 and values.dtype == object:
        kind = f"{type(X).__module__}.{type(X).__name__}".removeprefix("builtins.")
        raise ValueError(
            f"X is a {kind}, of which NumPy can't make an array. Pass an array or a "
            "DataFrame: list(X) of a generator, pd.DataFrame(X) of a dict, "
            "X.collect() or X.compute() of what is lazy, X.to_numpy() or X.to_pandas() "
            "of what has it."
        )
    return _without_missing_objects(values) if values.dtype == object else values


# Vectors


def check_vector(
    name: str,
    values: Any,
    shape: tuple[int, ...],
    *,
    allow_nan: bool = False,
    copy: bool = False,
    instead: str = _NOTHING_MISSING,
    expected: str = "",
) -> Floats:
    """Real numbers of a shape in float64, finite or with `allow_nan` not infinite.

    `instead` says what to do instead of passing a masked array, and `expected` which
    shape was expected.
    """
    vector = as_real(name, values, instead, shape, expected).astype(
        np.float64, copy=copy
    )
    if not np.isfinite(vector).all():
        has_nan = np.isnan(vector).any()
        if np.isinf(vector).any() or not allow_nan:
            raise ValueError(f"{name} contains {'NaN' if has_nan else 'infinity'}.")
    return vector


def as_real(
    name: str,
    values: Any,
    instead: str = _NOTHING_MISSING,
    shape: tuple[int, ...] | None = None,
    expected: str = "",
) -> NDArray[Any]:
    """Real numbers as an array, of a shape if one is given; else ValueError."""
    if type(values) is not np.ndarray:
        refuse_mask(name, values, instead)
        if hasattr(values, "toarray"):
            raise TypeError(
                f"Sparse data was passed for {name}, but dense data is required: pass "
                "its toarray()."
            )
        try:
            values = np.asarray(to_numpy(values))
        except (OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{name} can't be made a NumPy array: {error}") from error
    if shape is not None and values.shape != shape:
        expected = expected or f", expected {shape}"
        raise ValueError(f"{name} has shape {values.shape}{expected}.")
    if values.dtype == object and not any(
        each is None or isinstance(each, str | bytes) for each in values.flat
    ):
        # Numbers that NumPy has no dtype for.
        with suppress(OverflowError, TypeError, ValueError):
            values = values.astype(np.float64)
    if values.dtype.kind not in "biuf":
        hint = _WHY_NOT_REAL.get(values.dtype.kind, "")
        raise ValueError(
            f"{name} has dtype {values.dtype}, which is not a real number{hint}."
        )
    array: NDArray[Any] = values
    return array


def refuse_mask(name: str, values: Any, instead: str) -> None:
    """Refuse a masked array, and say what to do instead."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} is a masked array, whose mask would be lost. {instead}"
        )


def check_gradient(grad_output: Any, shape: tuple[int, ...]) -> Floats:
    """Gradient with respect to the output, in float64."""
    return check_vector(
        "grad_output",
        grad_output,
        shape,
        instead="Fill it: grad_output.filled(0).",
        expected=f", but the X that it is the gradient for has shape {shape}",
    )


def starting_vector(name: str, value: Any, default: float, n_features: int) -> Floats:
    """A copy of what `weight_init` or `bias_init` says."""
    value = to_numpy(value)
    if value is None or isinstance(value, Real):
        value = np.full(n_features, default if value is None else float(value))
    expected = f", but X has {n_features} features"
    return check_vector(name, value, (n_features,), expected=expected, copy=True)


def check_sample_weight(sample_weight: Any, n_samples: int) -> Floats:
    """Weights of the rows; one number is seen n_samples times."""
    sample_weight = to_numpy(sample_weight)
    refuse_mask("sample_weight", sample_weight, MASKED_WEIGHT)
    if np.asarray(sample_weight).ndim == 0:
        sample_weight = np.broadcast_to(np.asarray(sample_weight), n_samples)
    if np.asarray(sample_weight).dtype.kind == "c":
        raise ValueError("Complex data not supported in sample_weight.")
    weight: Floats = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weight.ndim != 1:
        raise ValueError(
            f"sample_weight must be 1D array or scalar, got {weight.ndim}D array."
        )
    check_consistent_length(np.broadcast_to(0, n_samples), weight)
    check_non_negative(weight, "sample_weight")
    if not weight.any():
        raise ValueError("sample_weight must have at least one non-zero number.")
    if not np.isfinite(weight.sum()):
        raise ValueError("The sum of sample_weight overflows float64.")
    return weight


def check_times(bn: Any, times: Any, data: Input) -> NDArray[Any] | None:
    """Times of the rows, that do not decrease and go on where the stream has ended.

    In float64 or, of dates, in nanoseconds.
    """
    check_timing(bn, is_timed=times is not None)
    if times is None:
        return None
    checked = _as_times(times, data.array.shape[0])
    if is_duration(bn.halflife) != (checked.dtype.kind == "M"):
        kind, wanted = "numbers", "a number"
        if checked.dtype.kind == "M":
            kind, wanted = "dates", "a timedelta"
        raise ValueError(
            f"times are {kind}, but halflife={bn.halflife!r}: pass {wanted} for it."
        )
    stats = vars(bn).get("_running_stats")
    last = stats.clock if stats is not None and stats.is_timed else checked[0]
    if isinstance(last, np.datetime64) != (checked.dtype.kind == "M"):
        raise ValueError(
            f"times are of another kind than before, when the last one was {last}: to "
            "change it, start anew with fit."
        )
    is_wrapped = checked[-1] > last and span_of(checked[-1] - last) < 0
    if is_wrapped:
        raise ValueError("times are more than 292 years apart.")
    before = np.concatenate([np.asarray([last], dtype=checked.dtype), checked[:-1]])
    if (falls := np.flatnonzero(checked < before)).size:
        row = falls[0]
        raise ValueError(
            f"times must not decrease, but row {row} has {checked[row]}, after "
            f"{before[row]}."
        )
    return checked


def check_timing(bn: Any, *, is_timed: bool) -> None:
    """Refuse times without a half-life, and in mid-stream another kind of clock."""
    if bn.halflife is None:
        if is_timed:
            raise ValueError("times have a meaning with halflife only, which is None.")
        return
    stats = vars(bn).get("_running_stats")
    was_timed = stats is not None and stats.is_timed
    counted = False
    if stats is not None and not was_timed:
        clock = stats.clock
        counted = clock > 0 if isinstance(clock, int) else bool(clock.any())
        if not counted and np.any(np.greater(stats.num_batches, 0)):
            raise ValueError(
                "What was learned by momentum has no weight among rows that fade by a "
                "halflife: start anew with fit, or load a state with its total_weight "
                "and clock."
            )
    if is_timed and counted:
        raise ValueError(
            "times are passed, but the rows of this stream had none so far. To begin "
            "with times, start anew with fit."
        )
    if was_timed and not is_timed:
        raise ValueError(
            "times is missing: the rows of this stream had times so far. To count rows "
            "from now on, start anew with fit."
        )
    if is_duration(bn.halflife) and not is_timed:
        raise ValueError(
            f"halflife={bn.halflife!r} is a span of time: pass times of the rows."
        )


def _as_dates(times: Any) -> NDArray[Any]:
    """Dates of Python or pandas, which may have a time zone; what they are, if none."""
    pandas = sys.modules.get("pandas")
    with suppress(TypeError, ValueError):
        if pandas is not None:
            dates = pandas.DatetimeIndex(pandas.to_datetime(times, utc=True))
            return np.asarray(dates.tz_localize(None))
        return np.asarray(times).astype("M8[us]")
    return np.asarray(times)


def _as_times(times: Any, n_samples: int) -> NDArray[Any]:
    """Numbers as float64, dates as datetime64[ns]."""
    refuse_mask("times", times, "Leave rows without a time out.")
    values = np.asarray(to_numpy(times))
    if values.dtype.kind in "US" or any(isinstance(t, str) for t in values.flat[:1]):
        raise ValueError(
            "times are strings: pass numbers, or dates, as of pandas.to_datetime."
        )
    if values.dtype == object and values.size:
        is_number = isinstance(values.flat[0], Real)
        values = _without_missing_objects(values) if is_number else _as_dates(times)
    if values.shape != (n_samples,):
        raise ValueError(f"times has shape {values.shape}, expected {(n_samples,)}.")
    if values.dtype.kind == "M":
        lacks = np.isnat(values)
        first, end = np.datetime64("1678", "Y"), np.datetime64("2262", "Y")
        if ((values < first) | (values >= end)).any():
            raise ValueError("times must be from 1678 to 2261, which nanoseconds hold.")
        values = values.astype("M8[ns]")
    else:
        values = as_real("times", values).astype(np.float64)
        lacks = ~np.isfinite(values)
    if lacks.any():
        row = np.flatnonzero(lacks)[0]
        raise ValueError(f"times contains {values[row]}, in row {row}.")
    return values


def check_feature_names(names: ArrayLike, n_features: int) -> NDArray[np.object_]:
    """Different strings, one for each feature."""
    checked = np.array(names, dtype=object)
    if (
        checked.shape != (n_features,)
        or not all(isinstance(name, str) for name in checked)
        or len(set(checked)) < n_features
    ):
        raise ValueError(
            f"feature_names must be {n_features} different strings; got {names!r}."
        )
    return checked


# What was learned


class State(NamedTuple):
    """What a transformer has learned, of one moment."""

    stats: RunningStats | None
    weight: Floats | None
    bias: Floats | None


def state_of(bn: Any) -> State:
    """What a transformer has learned; `weight_` and `bias_` may be anything by now."""
    attributes = vars(bn)
    is_usual = type(bn.eps) is float and 0 <= bn.eps < inf and type(bn.copy) is bool
    if not (is_usual and bn.clip is None and bn.handle_missing == "keep"):
        check_parameters(bn)
    if "_running_stats" not in attributes:
        check_is_fitted(bn)
    shape = (bn.n_features_in_,)
    affine = []
    for name in ("weight_", "bias_"):
        values = attributes[name]
        if values is not None:
            if type(values) is not np.ndarray or values.dtype != np.float64:
                values = np.asarray(to_numpy(values), dtype=np.float64)
            if values.shape != shape:
                raise ValueError(f"{name} has shape {values.shape}, expected {shape}.")
        affine.append(values)
    return State(attributes["_running_stats"], *affine)


def check_keys(
    state: Mapping[str, Any], expected: list[str], *, optional: list[str]
) -> None:
    """Refuse a state dict with other keys."""
    if not isinstance(state, Mapping):
        raise ValueError(
            f"The state must be a mapping of names to arrays; got {type(state)}."
        )
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected + optional]
    if missing or unknown:
        raise ValueError(
            f"The state does not fit this transformer: missing {missing}, unknown "
            f"{unknown}. affine, bias and track_running_stats decide which keys there "
            "are."
        )


def has_usual_weight(stats: RunningStats, momentum: Any) -> bool:
    """Whether the number of mini-batches tells the weight."""
    try:
        is_usual = Rule(momentum).has_usual(stats.num_batches, stats.weight)
    except (TypeError, ValueError):  # of a momentum that is none
        return False
    return bool(np.all(is_usual))


def check_stats(
    state: Mapping[str, Any],
    n_features: int,
    momentum: Any,
    *,
    copy: bool,
) -> RunningStats:
    """Running statistics of a state dict; without a copy, its arrays become read-only.

    Without a total weight, that of as many mini-batches by the momentum.
    """
    shape = (n_features,)
    mean, var = (
        check_vector(key, state[key], shape, allow_nan=True, copy=copy)
        for key in ("running_mean", "running_var")
    )
    count: Count = 0
    if "num_batches_tracked" in state:
        count = _check_count(state["num_batches_tracked"], n_features)
    if (var < 0).any():
        raise ValueError("running_var has a negative value.")
    for key, values, other in (("running_mean", mean, var), ("running_var", var, mean)):
        unknown = np.isnan(values)
        if (unknown & (np.greater(count, 0) | ~np.isnan(other))).any():
            raise ValueError(
                f"{key} contains NaN, which both may where num_batches_tracked is 0, "
                "of a feature that was never observed."
            )
    start_weight = _check_weight("start_weight", state.get("start_weight", 0.0), shape)
    weight: Weight = 1.0
    if "total_weight" in state:
        weight = _check_weight("total_weight", state["total_weight"], shape, LARGEST)
    else:
        with suppress(TypeError, ValueError):  # of a momentum that is none
            weight = Rule(momentum).weight(count)
    clock = _check_clock(state.get("clock", 0), shape)
    return RunningStats(mean, var, count, weight, start_weight, clock)


def _check_count(value: Any, n_features: int) -> Count:
    """A number of mini-batches, or an array where the features differ."""
    count = as_real("num_batches_tracked", value)
    if (
        count.shape not in ((), (n_features,))
        or count.dtype.kind not in "iu"
        or int(count.min()) < 0
        or int(count.max()) > np.iinfo(np.int64).max
    ):
        raise ValueError(
            "num_batches_tracked must be an integer, 0 or more, or one for each of "
            f"{n_features} features; got {value!r}."
        )
    return int(count.min()) if np.ptp(count) == 0 else count.astype(np.int64)


def _check_weight(key: str, value: Any, shape: tuple[int], most: float = 1.0) -> Weight:
    """A weight from 0 to the most there is, or one for each feature."""
    weight = as_real(key, value).astype(np.float64)
    is_weight = (weight >= 0) & (weight <= most)
    if weight.shape not in ((), shape) or not is_weight.all():
        raise ValueError(
            f"{key} must be {'from 0 to 1' if most == 1 else '0 or more'}, or so for "
            f"each of {shape[0]} features; got {value!r}."
        )
    return weight if weight.ndim else float(weight)


def _check_clock(value: Any, shape: tuple[int]) -> Clock:
    """A number of rows, or one for each feature, or a time."""
    clock = np.asarray(to_numpy(value))
    kind = clock.dtype.kind
    is_rows = kind in "iu" and clock.shape in ((), shape) and bool((clock >= 0).all())
    is_time = kind in "fM" and clock.shape == () and bool(np.isfinite(clock))
    if not (is_rows or is_time):
        raise ValueError(
            "clock must be a number of rows, or one for each feature, or a time; got "
            f"{value!r}."
        )
    if is_time:
        return clock.astype("M8[ns]" if kind == "M" else np.float64)[()]
    return clock.astype(np.int64) if clock.ndim else int(clock)


# What a pickle holds of running statistics, as much as the version that wrote it knew.
_PICKLED = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "start_weight",
    "total_weight",
    "clock",
)


def check_loaded(attributes: Mapping[str, Any]) -> RunningStats | None:
    """Statistics of a file, from which nothing comes that a state dict can't hold."""
    needed = ("n_features_in_", "weight_", "bias_")
    missing = [name for name in needed if name not in attributes]
    if missing:
        raise ValueError(f"The state does not fit this transformer: missing {missing}.")
    n_features = attributes["n_features_in_"]
    names = attributes.get("feature_names_in_")
    if names is not None and np.shape(names) != (n_features,):
        raise ValueError(
            f"feature_names_in_ has shape {np.shape(names)}, expected {(n_features,)}."
        )
    for key in ("weight", "bias"):
        values = attributes[f"{key}_"]
        if values is not None:
            check_vector(key, values, (n_features,))
    stats = attributes["_running_stats"]
    if stats is None:
        return None
    if len(stats) < 3:
        raise ValueError("The state does not fit this transformer: _running_stats.")
    state = dict(zip(_PICKLED, stats, strict=False))
    return check_stats(state, n_features, attributes.get("momentum"), copy=False)


def to_pickle(stats: RunningStats) -> tuple[Any, ...]:
    """Arrays and numbers in place of a class of ours.

    skops would have to be told to trust it, and pickles would tie it to its place.
    """
    return (
        stats.mean,
        stats.var,
        stats.num_batches,
        stats.start_weight,
        stats.weight,
        stats.clock if isinstance(stats.clock, int) else np.asarray(stats.clock),
    )


# What is said


def warn_user(message: str) -> None:
    """Warn at the line of the caller outside of this package and those around it."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(frame.f_globals["__name__"]):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("joblib", "sk_batchnorm", "sklearn")


def names_in_words(names: Sequence[Any] | NDArray[Any]) -> str:
    """Say "feature a, b", or "feature a, b, c, d, e and 3 others"."""
    some = ", ".join(map(str, names[:_MOST_NAMES]))
    if (n_more := len(names) - _MOST_NAMES) > 0:
        some += f" and {n_more} other{'s' * (n_more > 1)}"
    return f"feature {some}"


def naming_features(
    error: ValueError, data: Input | None, weight: Floats | None, names: ArrayLike
) -> ValueError:
    """One of NAMELESS_ERRORS, but with the names of the features that it is about.

    Rows of weight 0 may hold infinity.
    """
    if isinstance(error, MeanOverflowError):
        return ValueError(
            f"The mean of {names_in_words(np.asarray(names)[error.features])} "
            "overflows float64. Scale the feature down before it gets here."
        )
    assert data is not None
    features, row = _where_infinite(data, weight)
    return ValueError(
        f"{error}, in {names_in_words(np.asarray(names)[features])}, first in row "
        f"{row}."
    )


def _where_infinite(
    data: Input, weight: Floats | None
) -> tuple[NDArray[np.bool_], int]:
    """Features with infinity in a row of positive weight, and the first such row."""
    first_row, n_features = data.array.shape[:2]
    features = np.zeros(n_features, dtype=bool)
    for start, rows, of_features in data.infinities():
        counts = slice(None) if weight is None else weight[start + rows] > 0
        features[of_features[counts]] = True
        first_row = min([first_row, *(start + rows[counts])])
    return features, int(first_row)


# Traps that raise no error

# Weight of the start that makes no difference to speak of.
FADED = 0.1


def _warn_once(bn: Any, trap: str, message: str) -> None:
    """Warn of a trap that the transformer has not warned of yet."""
    if trap not in bn._warned:
        warn_user(message)
        bn._warned += (trap,)


def warn_of_start(bn: Any, stats: RunningStats) -> None:
    """Say that the start is not forgotten yet, where something was learned."""
    if isinstance(stats.start_weight, float) and stats.start_weight <= FADED:
        return
    there = np.greater(stats.start_weight, FADED)
    there = there & np.greater(stats.num_batches, 0)
    if not there.any():
        return
    which = "the output"
    if there.ndim:
        which += f" of {names_in_words(bn.get_feature_names_out()[there])}"
    weight = np.max(np.where(there, stats.start_weight, 0.0))
    _warn_once(
        bn,
        "start",
        f"PyTorch's start, mean 0 and variance 1, still has {weight:.0%} of the "
        f"weight in the running statistics, so that {which} may be far from "
        "centred. Pass bias_correction=True, with which the start has no weight, "
        "or learn from more mini-batches first.",
    )


def warn_of_small(bn: Any, stats: RunningStats) -> None:
    """Name the features whose variance is nothing beside `eps`."""
    var = stats.var
    small = (var < bn.eps) & ~is_zero(stats.mean, var)
    if not small.any():
        return
    names, var = bn.get_feature_names_out()[small], var[small].max()
    _warn_once(
        bn,
        "eps",
        f"The variance of {names_in_words(names)} is below eps={bn.eps:g} "
        f"({var:.2g} at most), so that the output has a standard deviation of "
        f"{np.sqrt(var / (var + bn.eps)):.2g} or less, not 1. Pass a smaller "
        "eps, such as 0, or change the units.",
    )


def warn_of_light_weights(bn: Any, weight: Floats | None) -> None:
    """Say that weights count as so many samples, where they are shares."""
    if weight is not None:
        total, n_rows = float(weight.sum()), int(np.count_nonzero(weight))
        warn_of_low_sum(bn, total, n_rows)


def warn_of_low_sum(bn: Any, total: float, n_rows: int) -> None:
    """As :func:`warn_of_light_weights`, of so many rows."""
    rule = rule_of(bn.momentum, bn.variance, bn.bias_correction, bn.halflife)
    if rule.ddof and total < n_rows * (1 - WEIGHT_ROUNDING):
        _warn_once(
            bn,
            "weights",
            f"sample_weight sums to {total:g} over {n_rows} samples: with "
            f"variance={rule.variance!r} a weight counts as that many samples, and the "
            "variance is divided by their sum less 1. Scale the weights to the "
            "number of samples that they stand for, or pass variance='total', for "
            "which their scale does not matter.",
        )


def warn_of_unobserved(bn: Any, stats: RunningStats | None) -> None:
    """Name the features that the first mini-batches said nothing of."""
    if stats is None or np.all(stats.num_batches):
        return
    names = bn.get_feature_names_out()
    names = names[np.broadcast_to(np.equal(stats.num_batches, 0), names.shape)]
    has_start = np.any(stats.start_weight)
    what = "are 0 and 1" if has_start else "are NaN, and so is its output"
    if bn.handle_missing == "mean" and not has_start:
        what = "are NaN, and its output is its bias, 0 without one"
    warn_user(
        f"Too few observed values in {names_in_words(names)} to learn from: until "
        f"there are, its running mean and variance {what}."
    )
