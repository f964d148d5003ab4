"""Is it acceptable? Checks of what a user passes, and the words where it isn't."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_batchnorm._compat import to_numpy
from sk_batchnorm._kernels.numpy import Floats, InfiniteValueError, blocks
from sk_batchnorm._running_stats import MeanOverflowError

# Names of features that a message holds.
_MOST_NAMES = 5


def as_numbers(X: Any, *, keep_sparse: bool) -> Any:
    """X in a form whose numbers scikit-learn's checks read as they are.

    Parameters
    ----------
    X : anything
    keep_sparse : bool
        Whether a DataFrame of sparse columns, whose zeros are what is not stored, may
        become a sparse matrix.

    Returns
    -------
    X itself where there is nothing to do; a DataFrame of the same library and with the
    same columns; what a dask collection is once it is computed; or an ndarray

    Raises
    ------
    ValueError
        If X is something that NumPy can't make an array of.
    """
    if isinstance(X, np.ndarray):
        return _without_missing_objects(X) if X.dtype == object else X
    if sparse.issparse(X):
        return X
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


@contextmanager
def naming_features(
    X: Any, weight: Floats | None, names: Callable[[], NDArray[Any]]
) -> Iterator[None]:
    """Say in which feature of X is what the arithmetic refuses.

    Parameters
    ----------
    X : validated array of any kind
    weight : ndarray of shape (n_samples,) or None
        Rows of weight 0 may hold infinity.
    names : callable
        Returns the names of the features.

    Raises
    ------
    ValueError
        In place of InfiniteValueError and MeanOverflowError.
    """
    try:
        yield
    except InfiniteValueError as error:
        features, row = _where_infinite(X, weight)
        where = f"{names_in_words(names()[features])}, first in row {row}"
        raise ValueError(f"{error}, in {where}.") from None
    except MeanOverflowError as error:
        raise ValueError(
            f"The mean of {names_in_words(names()[error.features])} overflows float64. "
            "Scale the feature down before it gets here."
        ) from None


def _where_infinite(X: Any, weight: Floats | None) -> tuple[NDArray[np.bool_], int]:
    """Features with infinity in a row of positive weight, and the first such row."""
    features = np.zeros(X.shape[1], dtype=bool)
    first_row = X.shape[0]
    for start, rows, of_features in _infinities(X):
        counts = slice(None) if weight is None else weight[start + rows] > 0
        features[of_features[counts]] = True
        first_row = min([first_row, *(start + rows[counts])])
    return features, int(first_row)


def _infinities(
    X: Any,
) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
    """First row of a block, and rows and features of the infinities in it."""
    if sparse.issparse(X):
        X = X.tocoo()
        infinite = np.isinf(X.data)
        yield 0, X.row[infinite], X.col[infinite]
        return
    X = to_numpy(X)
    for index in blocks(X.shape):
        rows, features, *_ = np.nonzero(np.isinf(X[index]))
        yield index[0].start, rows, features


def shape_hint(shape: tuple[int, ...], n_features: int) -> str:
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
