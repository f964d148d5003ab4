"""What is acceptable as X, and in which words it isn't.

Infinity is named by feature and row, what is no array by its kind and a remedy.
"""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm import _validation, functional
from sk_batchnorm._validation import names_in_words
from sk_batchnorm.pipeline import make_streaming_pipeline

from .laws import unchanged

NUMBERS = np.random.default_rng(0).normal(5.0, 2.0, (12, 2))


def learned(X, **params):
    """The mini-batch's own mean, by `fit` and by `partial_fit`, and the output."""
    params = {"momentum": 1.0} | params
    bn = BatchNorm(**params)
    fitted = clone(bn).fit(X)
    streamed = clone(bn).partial_fit(X).partial_fit(X)
    assert_array_equal(fitted.running_mean_, streamed.running_mean_)
    assert_array_equal(fitted.running_var_, streamed.running_var_)
    return fitted.running_mean_, fitted.running_var_, fitted.transform(X)


def assert_same_numbers(X, dense, **params):
    for actual, expected in zip(
        learned(X, **params), learned(dense, **params), strict=True
    ):
        actual = actual.toarray() if sparse.issparse(actual) else actual
        assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


# Missing values that are objects


def columns_with(missing):
    return pd.DataFrame({"a": [1, missing, 3], "b": [4.0, 8.0, missing]}, dtype=object)


DENSE = np.array([[1.0, 4.0], [np.nan, 8.0], [3.0, np.nan]])
OBJECTS = {
    "pd.NA": columns_with(pd.NA),
    "pd.NaT": columns_with(pd.NaT),
    "None": columns_with(None),
    "NaN": columns_with(np.nan),
    "all of them": pd.DataFrame(
        {"a": [1, pd.NA, 3], "b": [4.0, 8, np.datetime64("NaT")]}, dtype=object
    ),
    "inferred": pd.DataFrame({"a": [1, pd.NA, 3], "b": [4.0, 8.0, None]}),
    "array": columns_with(pd.NA).to_numpy(),
    "list": [[1, 4], [pd.NA, 8], [3, None]],
    "nullable": pd.DataFrame({"a": [1, pd.NA, 3], "b": [4, 8, pd.NA]}, dtype="Int64"),
    "nullable, other dtypes": pd.DataFrame(
        {"a": pd.array([1, pd.NA, 3], "Int64"), "b": pd.array([4, 8, None], "Float32")}
    ),
    "nullable, transposed twice": pd.DataFrame(
        {"a": pd.array([1, pd.NA, 3], "Int64"), "b": [4.0, 8.0, np.nan]}
    ).T.T,
    "nullable, concatenated": pd.concat(
        [
            pd.DataFrame({"a": [1, pd.NA], "b": [4, 8]}, dtype="Int64"),
            pd.DataFrame({"a": [3], "b": [pd.NA]}, dtype=object),
        ]
    ),
    "polars": pl.DataFrame({"a": [1, None, 3], "b": [4.0, 8.0, None]}),
    "polars objects": pl.DataFrame(
        {"a": pl.Series([1, pd.NA, 3], dtype=pl.Object), "b": [4.0, 8.0, None]}
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("with_mean", [True, False])
def test_missing_objects_are_missing_values(name, with_mean):
    given = copy.deepcopy(OBJECTS[name])
    rule = {"with_mean": with_mean, "variance": "total"}
    assert_same_numbers(given, DENSE, **rule)
    if isinstance(given, pd.DataFrame):
        pd.testing.assert_frame_equal(given, OBJECTS[name])  # not written into
        bn = BatchNorm(copy=False, **rule).fit(given)
        assert list(bn.feature_names_in_) == ["a", "b"]
        bn.transform(given)
        pd.testing.assert_frame_equal(given, OBJECTS[name])


def test_a_column_of_missing_dates():
    frame = pd.DataFrame({"a": [1.0, 3.0], "b": pd.to_datetime([None, None])})
    with pytest.warns(UserWarning, match="Too few observed values in feature b"):
        bn = BatchNorm().fit(frame)
    assert_array_equal(bn.running_mean_, [2.0, np.nan])
    assert_array_equal(np.isnan(bn.transform(frame)), [[False, True]] * 2)
    frame.loc[0, "b"] = pd.Timestamp("2026-01-01")
    with pytest.raises(TypeError, match="Timestamp"):
        bn.partial_fit(frame)


def test_missing_objects_through_a_streaming_pipeline():
    pipe = make_streaming_pipeline(
        BatchNorm(variance="total", bias_correction=True), StandardScaler()
    )
    pipe.partial_fit(OBJECTS["inferred"])
    assert_array_equal(pipe[0].running_mean_, [2.0, 6.0])


def test_other_objects_are_no_numbers():
    for bad, error in (("x", ValueError), ({}, TypeError)):
        for X in ([[1, bad], [2, 3]], pd.DataFrame({"a": [1, bad]})):
            with pytest.raises(error, match="float|numeric"):
                BatchNorm().fit(X)


def test_objects_where_pandas_was_never_imported(monkeypatch):
    monkeypatch.setattr(_validation, "sys", SimpleNamespace(modules={}))
    objects = np.array([[1, 4.0], [None, np.nan], [3, np.datetime64("NaT")]], object)
    bn = BatchNorm(momentum=1, variance="total").fit(objects)
    assert_array_equal(bn.running_mean_, [2.0, 4.0])


# DataFrames of sparse columns


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize(
    "fills", [(0, 0), (1, 1), (np.nan, np.nan), (0, 1), (np.nan, 2)]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sparse_columns_are_what_they_are_dense(fills, dtype, with_mean):
    dense = np.array([[1, 0], [1, 2], [0, 2], [2, 1], [1, 0]], dtype=dtype)
    if np.isnan(fills[0]):
        dense[1:3, 0] = np.nan
    columns = {
        name: pd.arrays.SparseArray(column, fill_value=value)
        for name, column, value in zip("ab", dense.T, fills, strict=True)
    }
    frame = pd.DataFrame(columns)
    assert_same_numbers(frame, dense, variance="total", with_mean=with_mean)
    bn = BatchNorm(variance="total", with_mean=with_mean).fit(frame)
    assert list(bn.feature_names_in_) == ["a", "b"]
    back = bn.inverse_transform(bn.transform(frame))
    back = back.toarray() if sparse.issparse(back) else back
    assert_allclose(back, dense, rtol=1e-6, atol=1e-6)
    # What the zeros of are not stored stays so where nothing is subtracted.
    stays_sparse = fills == (0, 0) and not with_mean
    assert sparse.issparse(bn.transform(frame)) == stays_sparse


def test_sparse_columns_in_training_mode():
    dense = np.array([[1.0], [1], [0], [2]])
    frame = pd.DataFrame({"a": pd.arrays.SparseArray(dense[:, 0], fill_value=1)})
    bn = BatchNorm()
    assert_array_equal(bn.forward(frame), clone(bn).forward(dense))


# Arrays by other protocols


class ByArray:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


class ByInterface:
    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


class ByDlpack:
    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **kwargs):
        return self.values.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class ByDataFrame:
    def __init__(self, values):
        self.values = pd.DataFrame(values)

    def __dataframe__(self, *args, **kwargs):
        return self.values.__dataframe__(*args, **kwargs)


@pytest.mark.parametrize("kind", [ByArray, ByInterface, ByDlpack])
@pytest.mark.parametrize("values", [NUMBERS, NUMBERS.reshape(4, 2, 3)])
def test_arrays_by_protocols(kind, values):
    X = kind(values)
    assert_same_numbers(X, values)
    bn = BatchNorm().fit(values)
    assert_array_equal(bn.inverse_transform(X), bn.inverse_transform(values))
    assert_array_equal(clone(bn).forward(X), clone(bn).forward(values))
    assert_array_equal(
        functional.batch_norm(X, None, None, training=True),
        functional.batch_norm(values, None, None, training=True),
    )


def test_bytes_by_the_array_interface():
    pixels = NUMBERS.astype(np.uint8)
    assert_same_numbers(ByInterface(pixels), pixels)


def test_arrow_tables():
    pa = pytest.importorskip("pyarrow")
    columns = {"a": [1, None, 3], "b": [4.0, 8.0, None]}
    for table in (pa.table(columns), pa.record_batch(columns)):
        assert_same_numbers(table, DENSE, variance="total")


NO_ARRAYS = [
    pl.DataFrame(NUMBERS).lazy(),
    {"a": [1.0, 2.0], "b": [3.0, 4.0]},
    {1.0, 2.0},
    (row for row in NUMBERS),
    ByDataFrame(NUMBERS),
    object(),
    None,
]


@pytest.mark.parametrize(
    "method", ["fit", "partial_fit", "forward", "transform", "inverse_transform"]
)
def test_of_what_is_no_array_the_remedy_is_named(method):
    bn = BatchNorm()
    if "transform" in method:
        bn.fit(NUMBERS)
    for no_array in NO_ARRAYS:
        message = rf"{type(no_array).__name__}, of which NumPy .*X.collect\(\)"
        with unchanged(bn), pytest.raises(ValueError, match=message):
            getattr(bn, method)(no_array)


# Where infinity is


@pytest.mark.parametrize(
    "kind",
    [
        *[np.asarray, np.asfortranarray, np.float32, np.atleast_3d],
        *[sparse.csr_array, sparse.csc_array],
    ],
)
@pytest.mark.parametrize(
    "method", ["fit", "partial_fit", "transform", "inverse_transform"]
)
@pytest.mark.parametrize("n_rows", [40, 60_000])
def test_infinity_is_named_by_feature_and_row(kind, method, n_rows):
    X = np.ones((n_rows, 3))
    X[::2] = 2.0
    is_sparse = kind in (sparse.csr_array, sparse.csc_array)
    bn = BatchNorm(with_mean=not is_sparse, copy=False).fit(kind(X))
    X[[17, 21], [2, 0]] = np.inf, -np.inf
    bad, message = kind(X), "infinity.*, in feature x0, x2, first in row 17"
    with unchanged(bn), pytest.raises(ValueError, match=message):
        getattr(bn, method)(bad)
    if "transform" not in method:
        weight = np.ones(n_rows)
        weight[17] = 0.0  # that row is not there
        with pytest.raises(ValueError, match="in feature x0, first in row 21"):
            getattr(bn, method)(bad, sample_weight=weight)


def test_infinity_is_named_by_the_names_of_a_frame():
    frame = pd.DataFrame(NUMBERS, columns=["volts", "amperes"])
    bn = BatchNorm().fit(frame)
    frame.iloc[3, 1] = np.inf
    for call in (bn.fit, bn.partial_fit, bn.transform, bn.forward):
        with pytest.raises(ValueError, match="in feature amperes, first in row 3"):
            call(frame)
    with pytest.raises(ValueError, match="in feature 1, first in row 3"):
        functional.batch_norm(frame.to_numpy(), None, None, training=True)


def test_infinity_in_tensors():
    torch = pytest.importorskip("torch")
    import sklearn

    with sklearn.config_context(array_api_dispatch=True):
        X = torch.ones((40, 3))
        bn = BatchNorm().fit(X)
        X[17, 1] = torch.inf
        for call in (bn.fit, bn.partial_fit, bn.transform):
            with pytest.raises(ValueError, match="in feature x1, first in row 17"):
                call(X)


def test_a_mean_that_overflows_is_named():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [1.7e308, 1.7e308]})
    bn = BatchNorm()
    for call in (bn.fit, bn.partial_fit, bn.forward):
        with pytest.raises(ValueError, match="The mean of feature b overflows float64"):
            call(frame)
    assert not hasattr(bn, "n_features_in_")


# Features along another axis


def test_features_in_rows_are_shown_the_way():
    X = np.random.default_rng(0).normal(size=(25, 62))
    bn = BatchNorm(62).fit(X)
    for call in (bn.partial_fit, bn.transform, bn.inverse_transform, bn.fit):
        with pytest.raises(ValueError, match=r"X has 25 features.*X\.T.*X\[None\]"):
            call(X.T)
        with pytest.raises(ValueError, match=r"X has 25 features.*X\.T"):
            call(pd.DataFrame(X.T))
        with pytest.raises(ValueError, match=r"X has 7 features.*transpose\(0, 2, 1\)"):
            call(np.ones((4, 7, 62)))
        with pytest.raises(ValueError, match="X has 61 features") as error:
            call(X[:, :61])
        assert "X.T" not in str(error.value)
    bn.partial_fit(X[None].transpose(0, 2, 1))


@given(st.integers(1, 9))
def test_names_in_words(n):
    words = names_in_words([f"x{i}" for i in range(n)])
    assert words.startswith("feature x0")
    assert words.count("x") == min(n, 5)
    assert ("other" in words) == (n > 5)
