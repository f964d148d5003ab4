"""Every kind of data says what the same numbers say as a dense float64 array.

Missing values are not there; the order of rows and features does not matter.
"""

import pickle
import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm

from .laws import (
    LAYOUTS,
    assert_same_state,
    laid_out,
    mean_of,
    moments,
    rule_params,
    seeds,
    unchanged,
    with_gaps,
)


def stream(bn, batches, weights=None):
    bn = clone(bn)
    for i, batch in enumerate(batches):
        bn.partial_fit(batch, sample_weight=None if weights is None else weights[i])
    return bn


# Missing values


@pytest.mark.filterwarnings("ignore:Too few observed values")
@given(
    seed=seeds, rule=rule_params, weighted=st.booleans(), n_batches=st.integers(1, 8)
)
def test_a_column_with_gaps_is_that_column_without(seed, rule, weighted, n_batches):
    rng = np.random.default_rng(seed)
    batches = with_gaps(rng, (n_batches, 6, 5))
    batches[rng.integers(n_batches), :, 0] = np.nan
    weights = rng.integers(0, 4, (n_batches, 6)) + np.eye(1, 6, dtype=int) * 2
    weights = weights.astype(float) if weighted else None
    bn = BatchNorm(**rule)
    together = stream(bn, batches, weights)
    for column in range(5):
        alone = BatchNorm(**rule).load_state_dict(START)
        for i, batch in enumerate(batches):
            there = ~np.isnan(batch[:, column])
            weight = np.ones(6) if weights is None else weights[i]
            n = weight[there].sum()
            if n > (1 if rule["variance"] == "within" else 0):
                alone.partial_fit(
                    batch[there, column][:, None],
                    sample_weight=None if weights is None else weight[there],
                )
        count = np.broadcast_to(together.num_batches_tracked_, 5)[column]
        assert count == alone.num_batches_tracked_
        if count == 0 and (rule["momentum"] is None or rule["bias_correction"]):
            assert np.isnan(together.running_mean_[column])  # it has no start
            continue
        assert_allclose(
            together.running_mean_[column], alone.running_mean_[0], rtol=1e-12
        )
        assert_allclose(
            together.running_var_[column], alone.running_var_[0], rtol=1e-11, atol=1e-14
        )


START = {
    "weight": np.ones(1),
    "bias": np.zeros(1),
    "running_mean": np.zeros(1),
    "running_var": np.ones(1),
    "num_batches_tracked": 0,
}


def test_the_count_is_an_array_once_features_differ():
    X = np.arange(12.0).reshape(6, 2)
    some = X.copy()
    some[0, 0] = np.nan
    bn = BatchNorm().partial_fit(X).partial_fit(some)
    assert bn.num_batches_tracked_ == 2
    assert isinstance(bn.num_batches_tracked_, int)
    most = X.copy()
    most[1:, 0] = np.nan
    bn.partial_fit(most)
    assert_array_equal(bn.num_batches_tracked_, [2, 3])
    assert bn.num_batches_tracked_.dtype.kind == "i"
    # One observed value is enough for "total".
    total = BatchNorm(variance="total").partial_fit(most)
    assert total.num_batches_tracked_ == 1
    # And the array goes through a checkpoint.
    resumed = BatchNorm().load_state_dict(bn.state_dict())
    assert pickle.dumps(resumed.partial_fit(X).state_dict()) == pickle.dumps(
        bn.partial_fit(X).state_dict()
    )


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_feature_never_observed_is_named_once(method, bias_correction):
    X = pd.DataFrame(
        {"a": [1.0, 2.0, 3.0], "b": [np.nan] * 3, "c": [np.nan, 1, np.nan]}
    )
    bn = BatchNorm(bias_correction=bias_correction)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "PyTorch's start")
        getattr(bn, method)(X)
        bn.partial_fit(X)
        out = bn.transform(X.fillna(5.0))
    assert len(record) == 1
    assert "feature b, c to" in str(record[0].message)
    assert record[0].filename == __file__
    if method == "partial_fit" and not bias_correction:  # PyTorch's start
        assert (bn.running_mean_[1], bn.running_var_[1]) == (0.0, 1.0)
        assert_allclose(out[:, 1], 5.0 / np.sqrt(1 + 1e-5))
    else:
        assert np.isnan([bn.running_mean_[1], bn.running_var_[1]]).all()
        assert np.isnan(out[:, 1]).all()
    assert np.isfinite(out[:, 0]).all()


def test_a_warning_that_is_an_error_changes_nothing():
    for bn in (BatchNorm(), BatchNorm().fit(np.eye(3))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with unchanged(bn), pytest.raises(UserWarning, match="Too few observed"):
                bn.fit([[1.0, np.nan], [2.0, np.nan]])


@given(seed=seeds, track=st.booleans())
def test_missing_values_stay_missing(seed, track):
    rng = np.random.default_rng(seed)
    X = with_gaps(rng, (20, 3))
    X[:2] = rng.normal(3.0, 2.0, (2, 3))
    bn = BatchNorm(track_running_stats=track).fit(X)
    out = bn.transform(X)
    assert_array_equal(np.isnan(out), np.isnan(X))
    if track:
        # Near 0, rounding is that of the mean, about 3, that was added.
        assert_allclose(bn.inverse_transform(out), X, rtol=1e-12, atol=1e-14)
        assert_array_equal(out[:1], bn.transform(X[:1]))
    else:
        for column, result in zip(X.T, out.T, strict=True):
            there = ~np.isnan(column)
            expected = bn.transform(np.tile(column[there], (3, 1)).T)[:, 0]
            assert_allclose(result[there], expected, rtol=1e-12, atol=1e-13)


def test_an_unobserved_feature_that_is_not_tracked():
    X = np.array([[1.0, np.nan], [3.0, np.nan], [5.0, np.nan]])
    out = BatchNorm(track_running_stats=False, eps=0).fit_transform(X)
    assert_allclose(out[:, 0], [-np.sqrt(1.5), 0.0, np.sqrt(1.5)])
    assert np.isnan(out[:, 1]).all()


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_infinity_is_found_beside_anything(method, order):
    X = np.asarray(np.random.default_rng(0).normal(size=(5000, 20)), order=order)
    bn = BatchNorm().fit(X)
    for X[4321, 7] in (np.inf, -np.inf):
        for beside in (-np.inf, np.inf, np.nan, 1.0):
            X[4321, 8] = X[4320, 7] = beside
            with unchanged(bn), pytest.raises(ValueError, match="contains infinity"):
                getattr(bn, method)(X)


def test_a_mini_batch_without_a_value():
    bn = BatchNorm().fit(np.eye(3))
    state = bn.state_dict()
    bn.partial_fit(np.full((4, 3), np.nan))
    for key, values in bn.state_dict().items():
        assert_array_equal(values, state[key])
        assert values.shape == state[key].shape
    with pytest.warns(UserWarning, match="x0, x1, x2"):
        empty = BatchNorm().partial_fit(np.full((4, 3), np.nan))
    # An integer still, so that PyTorch can load it.
    assert empty.num_batches_tracked_ == 0
    assert empty.state_dict()["num_batches_tracked"].shape == ()


def test_counts_are_read_only_and_copied():
    X = np.arange(12.0).reshape(6, 2)
    X[1:, 0] = np.nan
    with pytest.warns(UserWarning, match="x0"):
        bn = BatchNorm().partial_fit(X)
    with pytest.raises(ValueError, match="read-only"):
        bn.num_batches_tracked_[0] = 5
    state = bn.state_dict()
    state["num_batches_tracked"][0] = 5
    assert_array_equal(bn.num_batches_tracked_, [0, 1])
    loaded = BatchNorm().load_state_dict(state)
    state["num_batches_tracked"][0] = 7
    assert_array_equal(loaded.num_batches_tracked_, [5, 1])


@pytest.mark.parametrize("variance", ["within", "total"])
@pytest.mark.parametrize("correction", [True, False])
def test_momentum_one_keeps_the_last_values_exactly(variance, correction):
    bn = BatchNorm(momentum=1.0, variance=variance, bias_correction=correction)
    first = np.array([[1e15, 1.0], [3e15, 3.0]])
    second = np.array([[1e-3, np.nan], [3e-3, np.nan]])
    bn.partial_fit(first).partial_fit(second)
    ddof = 1 if variance == "within" else 0
    assert_array_equal(bn.running_mean_, [second[:, 0].mean(), 2.0])
    assert_allclose(bn.running_var_, [1e-6 * (1 + ddof), 1.0 + ddof], rtol=1e-14)


def test_rows_are_too_few_even_if_values_are_missing():
    bn = BatchNorm().fit(np.eye(3))
    with pytest.raises(ValueError, match="n_samples=1"):
        bn.partial_fit([[1.0, np.nan, 2.0]])


@pytest.mark.parametrize("block_values", [8, 65_536])
def test_gaps_do_not_cost_digits(monkeypatch, block_values):
    """A column at 1e12 standard deviations whose first block is missing."""
    from sk_batchnorm._kernels import numpy as kernels

    monkeypatch.setattr(kernels, "BLOCK_VALUES", block_values)
    column = 1e12 + np.random.default_rng(0).normal(size=60)
    X = np.full((80, 2), np.nan)
    X[20:, 0] = column
    X[::2, 1] = 0.1
    bn = BatchNorm(momentum=1.0).partial_fit(X)
    exact = [Fraction(x) for x in column]
    mean = sum(exact) / 60
    var = sum((x - mean) ** 2 for x in exact) / 59
    assert abs(bn.running_var_[0] / float(var) - 1) < 1e-12
    assert bn.running_mean_[1] == 0.1
    assert bn.running_var_[1] == 0.0


# Sparse


def random_sparse(rng, n_rows, n_features, format, container, nan=False):
    """Explicit zeros, duplicates and unsorted indices among the stored values."""
    n = n_rows * n_features // 2
    rows, columns = rng.integers(0, n_rows, n), rng.integers(0, n_features, n)
    values = rng.normal(2.0, 3.0, n) * rng.integers(0, 2, n)
    if nan:
        values[rng.random(n) < 0.1] = np.nan
    # One column is constant, one is stored throughout.
    if n_features > 2:
        keep = columns > 1
        every = np.arange(n_rows)
        rows = np.concatenate([rows[keep], every, every])
        columns = np.concatenate([columns[keep], every * 0, every * 0 + 1])
        values = np.concatenate(
            [values[keep], every * 0 + 0.1, rng.normal(size=n_rows)]
        )
    order = rng.permutation(len(values))
    rows, columns, values = rows[order], columns[order], values[order]
    outer, inner = (rows, columns) if format == "csr" else (columns, rows)
    order = np.argsort(outer, kind="stable")
    n_outer = n_rows if format == "csr" else n_features
    indptr = np.searchsorted(outer[order], np.arange(n_outer + 1))
    kind = getattr(sparse, f"{format}_{container}")
    return kind((values[order], inner[order], indptr), shape=(n_rows, n_features))


containers = st.sampled_from(["matrix", "array"])


@pytest.mark.filterwarnings("ignore:Too few observed values")
@pytest.mark.parametrize("format", ["csr", "csc"])
@given(
    container=containers,
    seed=seeds,
    rule=rule_params,
    nan=st.booleans(),
    weighted=st.booleans(),
    wide=st.booleans(),
)
def test_sparse_is_dense(format, container, seed, rule, nan, weighted, wide):
    rng = np.random.default_rng(seed)
    X = random_sparse(rng, 30, 40 if wide else 4, format, container, nan)
    before = X.copy()
    weight = None
    if weighted:
        # Fractions, integers, zeros; enough of them in every mini-batch.
        weight = rng.integers(0, 3, 30) + rng.integers(0, 2, 30) * rng.random(30)
        weight[(weight > 0) & (weight < 1)] += 1
        weight[:2] = 1.5
    bn = BatchNorm(with_mean=False, batch_size=7, **rule)
    dense = X.toarray()
    for method in ("fit", "partial_fit"):
        a, b = clone(bn), clone(bn)
        getattr(a, method)(X, sample_weight=weight)
        getattr(b, method)(dense, sample_weight=weight)
        assert_same_state(a, b)
        for transform in ("transform", "inverse_transform"):
            out = getattr(a, transform)(X)
            assert type(out) is type(X)
            assert_allclose(
                out.toarray(), getattr(a, transform)(dense), rtol=1e-12, atol=1e-14
            )
            assert out.nnz == X.nnz
        # Stored or not, the column of 0.1 is constant, and so is its variance.
        if not wide and not nan and rule["momentum"] not in (0.0, 0.1, 0.7):
            assert a.running_var_[0] == 0.0
    for part in ("data", "indices", "indptr"):
        assert_array_equal(getattr(X, part), getattr(before, part))


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "bool", "longdouble"])
def test_sparse_dtypes(index, dtype):
    rng = np.random.default_rng(0)
    dense = (rng.random((50, 6)) < 0.3) * rng.integers(1, 9, (50, 6))
    X = sparse.csr_array(dense.astype("float32"))
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    if dtype != "float16":  # SciPy has no float16
        X = X.astype(dtype)
        dense = dense.astype(dtype)
    bn = BatchNorm(with_mean=False).fit(X)
    assert_same_state(bn, BatchNorm().fit(dense.astype(float)))
    out = bn.transform(X)
    assert out.dtype == ("float32" if dtype.startswith("float") else "float64")
    wide = bn.transform(dense.astype("float64"))
    assert_array_equal(out.toarray(), wide.astype(out.dtype))


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_sparse_in_place(method):
    X = sparse.random(30, 5, density=0.4, format="csc", random_state=0)
    bn = BatchNorm(with_mean=False).fit(X)
    expected = getattr(bn, method)(X)
    out = getattr(bn, method)(X, copy=False)
    assert np.shares_memory(out.data, X.data)
    assert_array_equal(out.toarray(), expected.toarray())


@pytest.mark.parametrize("format", ["csr", "csc"])
@pytest.mark.parametrize("outlier", [0.0, 100.0])
def test_sparse_keeps_twelve_digits(format, outlier):
    """The first and the last value are no better start than any other."""
    n_rows = 30_000
    rng = np.random.default_rng(0)
    dense = np.zeros((n_rows, 2))
    dense[:, 0] = 1e12 + rng.normal(size=n_rows)
    dense[[0, -1], 0] += outlier
    X = sparse.csr_array(dense).asformat(format)
    deviations = dense[:, 0] - 1e12  # exact, as close numbers subtract
    result = moments(X)
    assert_allclose(result.squares[0, 0], n_rows * deviations.var(), rtol=1e-12)
    mean = Fraction(10**12) + sum(map(Fraction, deviations)) / n_rows
    # The two parts of the mean hold more than a double.
    error = Fraction(result.shift[0, 0]) + Fraction(result.residual[0, 0]) - mean
    assert abs(error) < mean * Fraction(1, 10**20)
    assert (mean_of(result)[0, 1], result.squares[0, 1]) == (0.0, 0.0)


def duplicates(values, dtype):
    """One row that stores several values for one feature, above others."""
    data = np.array([*values, 1, 2], dtype=dtype)
    indices, indptr = (
        np.zeros(len(data), dtype=int),
        [0, len(values), *range(len(values) + 1, len(data) + 1)],
    )
    return sparse.csr_array((data, indices, indptr), shape=(3, 1))


def test_sparse_duplicates_do_not_wrap_around():
    X = duplicates([100, 100], np.int8)
    bn = BatchNorm(with_mean=False, eps=0).fit(X)
    plain = np.array([[200.0], [1.0], [2.0]])
    assert_same_state(bn, BatchNorm().fit(plain))
    assert_allclose(bn.transform(X).toarray(), bn.transform(plain), rtol=1e-15)


def test_infinities_that_cancel_are_infinity():
    X = duplicates([np.inf, -np.inf], float)
    for track in (True, False):
        bn = BatchNorm(with_mean=False, track_running_stats=track)
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match="infinity"):
                getattr(bn, method)(X)


def test_sparse_output_shares_nothing_with_the_input():
    X = sparse.random(30, 5, density=0.4, format="csr", random_state=0)
    out = BatchNorm(with_mean=False).fit_transform(X)
    for part in ("data", "indices", "indptr"):
        assert not np.shares_memory(getattr(out, part), getattr(X, part))


def test_other_sparse_formats_are_converted():
    X = sparse.random(30, 5, density=0.4, format="csr", random_state=0)
    bn = BatchNorm(with_mean=False)
    expected = clone(bn).fit(X)
    for format in ("coo", "lil", "dok", "bsr"):
        assert_same_state(clone(bn).fit(X.asformat(format)), expected)


def test_sparse_errors_change_nothing():
    X = sparse.random(30, 3, density=0.5, format="csr", random_state=0)
    infinite = X.copy()
    infinite.data[3] = -np.inf
    for bn in (BatchNorm(), BatchNorm().fit(X.toarray())):
        for method in ("fit", "partial_fit"):
            error = pytest.raises(ValueError, match="Cannot center sparse matrices")
            with unchanged(bn), error:
                getattr(bn, method)(X)
    with pytest.raises(ValueError, match="Cannot center sparse matrices"):
        bn.transform(X)
    with pytest.raises(ValueError, match="Cannot uncenter sparse matrices"):
        bn.inverse_transform(X)
    for track in (True, False):
        bn = BatchNorm(with_mean=False, track_running_stats=track).fit(X)
        for method in ("fit", "partial_fit", "transform"):
            with unchanged(bn), pytest.raises(ValueError, match="infinity"):
                getattr(bn, method)(infinite)
        bn.set_params(bias_init=1.0).reset_parameters()
        with pytest.raises(ValueError, match=r"bias_ other than 0"):
            bn.transform(X)
    bn.set_params(track_running_stats=True).fit(X)
    with pytest.raises(ValueError, match=r"bias_ other than 0"):
        bn.inverse_transform(X)


# Three dimensions


def flat(X):
    return X.transpose(0, 2, 1).reshape(-1, X.shape[1])


@pytest.mark.filterwarnings("ignore:Too few observed values")
@pytest.mark.parametrize("block_values", [30, 65_536])
@given(
    seed=seeds,
    rule=rule_params,
    shape=st.tuples(st.integers(2, 8), st.integers(1, 5), st.integers(1, 20)),
    nan=st.booleans(),
    weighted=st.booleans(),
)
def test_three_dimensions_are_two_flattened(
    block_values, seed, rule, shape, nan, weighted
):
    from sk_batchnorm._kernels import numpy as kernels

    rng = np.random.default_rng(seed)
    X = with_gaps(rng, shape) if nan else rng.normal(3.0, 2.0, shape)
    weight = rng.integers(1, 4, shape[0]).astype(float) if weighted else None
    flat_weight = None if weight is None else np.repeat(weight, shape[2])
    bn = BatchNorm(bias_init=0.5, batch_size=None, **rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "BLOCK_VALUES", block_values)
        for method in ("fit", "partial_fit"):
            three, two = clone(bn), clone(bn)
            getattr(three, method)(X, sample_weight=weight)
            getattr(two, method)(flat(X), sample_weight=flat_weight)
            assert_same_state(three, two)
            assert three.n_features_in_ == shape[1]
            for transform in ("transform", "inverse_transform"):
                out = getattr(three, transform)(X)
                assert out.shape == shape
                assert_allclose(
                    flat(out), getattr(two, transform)(flat(X)), rtol=1e-9, atol=1e-12
                )
            own = clone(bn).set_params(track_running_stats=False).fit(X)
            assert_allclose(
                flat(own.transform(X)), own.transform(flat(X)), rtol=1e-9, atol=1e-9
            )


def test_fit_cuts_three_dimensions_by_samples():
    X = np.random.default_rng(0).normal(size=(20, 3, 8))
    bn = BatchNorm(batch_size=6)
    fitted = clone(bn).fit(X)
    streamed = clone(bn).set_params(bias_correction=True)
    for samples in np.array_split(X, 3):
        streamed.partial_fit(samples)
    # Means near 0 of values of about 1.
    assert_allclose(fitted.running_mean_, streamed.running_mean_, atol=1e-15, rtol=0)
    assert fitted.num_batches_tracked_ == 3


def test_one_sample_of_several_time_points_is_enough():
    X = np.arange(12.0).reshape(1, 2, 6)
    bn = BatchNorm().fit(X)
    assert_allclose(bn.running_mean_, [2.5, 8.5])
    assert BatchNorm(track_running_stats=False).fit_transform(X).shape == (1, 2, 6)
    with pytest.raises(ValueError, match="n_samples=1"):
        BatchNorm().partial_fit(X[:, :, :1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_dimensions_in_place(dtype):
    X = np.random.default_rng(0).normal(size=(50, 3, 8)).astype(dtype)
    bn = BatchNorm().fit(X)
    expected = bn.transform(X)
    out = bn.transform(X, copy=False)
    assert out is X
    assert_array_equal(out, expected)


def test_dimension_errors_change_nothing():
    X = np.random.default_rng(0).normal(size=(10, 3, 4))
    two = BatchNorm().fit(X[:, :, 0])
    for bn in (BatchNorm(), two, BatchNorm().fit(X)):
        for data, message in [
            (X[..., None], "array with dim 4"),
            (X[:, :, :0], r"0 timepoint\(s\)"),
            (X[:, :0], "0 feature"),
            (X[:0], r"0 sample\(s\)"),
        ]:
            for method in ("fit", "partial_fit"):
                with unchanged(bn), pytest.raises(ValueError, match=message):
                    getattr(bn, method)(data)
    with pytest.raises(ValueError, match="X has 2 features.*expecting 3"):
        two.partial_fit(X[:, :2])
    # Channels are features: 3-D after 2-D is fine.
    assert two.partial_fit(X).transform(X).shape == X.shape


def test_a_time_series_container():
    datasets = pytest.importorskip("sktime.datasets")
    X, _ = datasets.load_basic_motions(split="train", return_type="numpy3D")
    bn = BatchNorm(batch_size=None, eps=0)
    out = bn.fit_transform(X)
    assert out.shape == X.shape == (40, 6, 100)
    assert_allclose(out.mean(axis=(0, 2)), 0.0, atol=1e-12)
    assert_allclose(out.std(axis=(0, 2), ddof=1), 1.0, rtol=1e-3)


# Dtypes, layouts, containers


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float32", "float64", "longdouble", "bool", ">f4", ">f8", ">i4"]
    + [f"{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64)],
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_real_dtype(dtype, ndim):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2 if dtype == "bool" else 100, (40, 3, 5)[:ndim]).astype(dtype)
    bn = BatchNorm(batch_size=11)
    wide = X.astype(np.float64)
    assert_same_state(clone(bn).fit(X), clone(bn).fit(wide), size=100)
    fitted = clone(bn).fit(X)
    out = fitted.transform(X)
    small = ("float16", "float32", ">f4")
    assert out.dtype == ("float32" if dtype in small else "float64")
    assert_array_equal(out, fitted.transform(wide).astype(out.dtype))
    assert fitted.inverse_transform(out).dtype == out.dtype


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("gaps", [True, False])
def test_every_layout(layout, read_only, gaps):
    rng = np.random.default_rng(0)
    X = with_gaps(rng, (300, 4), 0.2) if gaps else rng.normal(3.0, 2.0, (300, 4))
    view = laid_out(X, layout)
    view.flags.writeable = not read_only
    bn = BatchNorm(batch_size=50).fit(X)
    assert_same_state(clone(bn).fit(view), bn)
    expected = bn.transform(X)
    assert_allclose(bn.transform(view), expected, rtol=1e-15)
    assert_allclose(bn.transform(view, copy=False), expected, rtol=1e-15)


def test_memory_mapped(tmp_path):
    X = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    bn = BatchNorm().fit(mapped)
    assert_array_equal(bn.running_var_, BatchNorm().fit(X).running_var_)
    out = bn.transform(mapped, copy=False)
    assert type(out) is np.ndarray
    assert_array_equal(mapped, X)
    writable = np.load(tmp_path / "X.npy", mmap_mode="r+")
    bn.transform(writable, copy=False)
    del writable
    assert_array_equal(np.load(tmp_path / "X.npy"), out)


@pytest.mark.parametrize("dtype", ["Float64", "Float32", "Int64", "boolean"])
def test_nullable_pandas_columns(dtype):
    values = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0]]
    frame = pd.DataFrame(values, columns=["a", "b"]).astype(dtype)
    frame.iloc[2, 0] = pd.NA
    plain = np.array(values)
    plain[2, 0] = np.nan
    bn = BatchNorm().set_output(transform="pandas").fit(frame)
    assert_same_state(bn, BatchNorm().fit(plain))
    out = bn.transform(frame)
    assert np.isnan(out.loc[2, "a"])
    assert list(out.columns) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_sparse_long_double_beyond_float64():
    X = sparse.csr_array(np.full((3, 2), 2 * np.longdouble(np.finfo(float).max)))
    bn = BatchNorm(with_mean=False).fit(np.eye(2))
    for method in (bn.fit, bn.partial_fit, bn.transform):
        with pytest.raises(ValueError, match="infinity"):
            method(X)


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        ([[1, None], [2, 3], [4, 5]], [[1, np.nan], [2, 3], [4, 5]]),
        ([[Fraction(1, 2), 1], [2, 2**70]], [[0.5, 1], [2, 2.0**70]]),
        (
            np.array([[1, 2.5], [3, np.nan], [True, 4]], object),
            [[1, 2.5], [3, np.nan], [1, 4]],
        ),
    ],
)
def test_objects_that_are_numbers(data, plain):
    bn, expected = BatchNorm().fit(data), BatchNorm().fit(np.array(plain, float))
    assert_same_state(bn, expected)
    assert_array_equal(bn.transform(data), expected.transform(np.array(plain, float)))


def test_masked_arrays_are_an_error():
    X = np.ma.masked_greater(np.arange(12.0).reshape(6, 2), 9)
    for bn in (BatchNorm(), BatchNorm().fit(np.eye(2))):
        for method in ("fit", "partial_fit"):
            with unchanged(bn), pytest.raises(ValueError, match=r"filled\(np.nan\)"):
                getattr(bn, method)(X)
    for method in ("transform", "inverse_transform"):
        with pytest.raises(ValueError, match=r"filled\(np.nan\)"):
            getattr(bn, method)(X)
    # A mask that hides nothing loses nothing.
    assert bn.fit(np.ma.array(np.eye(2), mask=False)).n_features_in_ == 2


# Laws of order, scale and cuts


@given(seed=seeds, rule=rule_params, nan=st.booleans())
def test_the_order_of_rows_does_not_matter(seed, rule, nan):
    rng = np.random.default_rng(seed)
    batches = with_gaps(rng, (4, 30, 3), 0.1 if nan else 0.0)
    shuffled = [rng.permutation(batch) for batch in batches]
    bn = BatchNorm(**rule)
    assert_same_state(stream(bn, batches), stream(bn, shuffled))


@given(seed=seeds, rule=rule_params)
def test_permuting_features_permutes_the_state(seed, rule):
    rng = np.random.default_rng(seed)
    batches = with_gaps(rng, (4, 30, 5), 0.1)
    order = rng.permutation(5)
    bn = BatchNorm(**rule)
    a, b = stream(bn, batches), stream(bn, batches[:, :, order])
    assert_allclose(a.running_mean_[order], b.running_mean_, rtol=1e-13)
    assert_allclose(a.running_var_[order], b.running_var_, rtol=1e-12)
    assert_allclose(
        a.transform(batches[0])[:, order], b.transform(batches[0][:, order]), rtol=1e-9
    )


@given(seed=seeds, rule=rule_params, power=st.integers(-30, 30))
def test_scaling_by_a_power_of_two_is_exact(seed, rule, power):
    rule = rule | {"bias_correction": True}  # the start does not scale
    batches = np.random.default_rng(seed).normal(3.0, 2.0, (4, 30, 2))
    bn = BatchNorm(eps=0, **rule)
    a, b = stream(bn, batches), stream(bn, np.ldexp(batches, power))
    assert_array_equal(np.ldexp(a.running_mean_, power), b.running_mean_)
    assert_array_equal(np.ldexp(a.running_var_, 2 * power), b.running_var_)
    assert_array_equal(
        a.transform(batches[0]), b.transform(np.ldexp(batches[0], power))
    )


@given(seed=seeds, rule=rule_params, shift=st.floats(-1e6, 1e6))
def test_shifting_moves_the_mean_and_nothing_else(seed, rule, shift):
    rule = rule | {"bias_correction": True}
    batches = np.random.default_rng(seed).normal(3.0, 2.0, (4, 30, 2))
    bn = BatchNorm(**rule)
    a, b = stream(bn, batches), stream(bn, batches + shift)
    # The shifted rows are rounded to doubles of their size, and so is the mean.
    assert_allclose(a.running_mean_ + shift, b.running_mean_, rtol=1e-14, atol=1e-9)
    assert_allclose(a.running_var_, b.running_var_, rtol=1e-8)


# clip and handle_missing


BOUNDS = {"clip": 0.8, "handle_missing": "mean"}


def limited_by_hand(bn, dense):
    """What transform is to put out, in float64, of a transformer without centring."""
    std = np.sqrt(bn.running_var_ + bn.eps)
    values = np.where(np.isnan(dense), bn.running_mean_, dense)
    return np.clip(values / std, -bn.clip, bn.clip) * bn.weight_


@pytest.mark.parametrize("format", ["csr", "csc"])
@given(
    container=containers,
    seed=seeds,
    wide=st.booleans(),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_sparse_is_limited_and_filled_as_dense(format, container, seed, wide, dtype):
    """Duplicates too, whose sum is limited, not they."""
    rng = np.random.default_rng(seed)
    n_features = 40 if wide else 4
    bn = BatchNorm(with_mean=False, bias=False, **BOUNDS)
    bn.weight_init = rng.normal(size=n_features)
    bn.fit(rng.normal(1.0, 3.0, (30, n_features)))
    for n_rows in (1, 30):  # of one row, fewer values are stored than features
        X = random_sparse(rng, n_rows, n_features, format, container, nan=True)
        X.data = X.data.astype(dtype)  # SciPy's own astype adds duplicates up
        before = X.copy()
        dense = X.copy().astype("f8").toarray()
        out = bn.transform(X)
        assert (type(out), out.dtype) == (type(X), X.dtype)
        tolerance = 1e-6 if dtype == "f4" else 1e-12
        expected = limited_by_hand(bn, dense)
        assert_allclose(out.toarray(), expected, rtol=tolerance, atol=tolerance)
        # What is not stored is 0, and not missing.
        stored = X.copy()
        stored.sum_duplicates()
        assert out.nnz == stored.nnz
        for part in ("data", "indices", "indptr"):
            assert_array_equal(getattr(X, part), getattr(before, part))
        if n_rows > 1:
            own = BatchNorm(**bn.get_params() | {"track_running_stats": False}).fit(X)
            got = own.transform(X).toarray()
            assert_allclose(got, own.transform(dense), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sparse_is_limited_in_place(dtype):
    dense = np.array([[0.0, 9.0, np.nan], [-9.0, 0.0, 0.1]], dtype=dtype)
    bn = BatchNorm(with_mean=False, **BOUNDS)
    bn.fit(np.random.default_rng(0).normal(5.0, 1.0, (30, 3)))
    X = sparse.csr_array(dense)
    out = bn.transform(X, copy=False)
    assert np.shares_memory(out.data, X.data)
    expected = limited_by_hand(bn, dense.astype("f8")).astype(dtype)
    assert_allclose(out.toarray(), expected, rtol=1e-6)
    assert_array_equal(bn.transform(sparse.csc_array(dense)).toarray(), out.toarray())
    doubled = sparse.csr_array(([6.0, 6.0], [0, 0], [0, 2, 2]), shape=(2, 3))
    out = bn.transform(doubled, copy=False)
    assert out.toarray()[0, 0] == 0.8
    assert_array_equal(doubled.data, 6.0)
    small = duplicates([100, 100], np.int8)  # whose sum would wrap around
    narrow = BatchNorm(with_mean=False, clip=1e3).fit([[0.0], [9.0]])
    expected = narrow.transform([[200.0], [1.0], [2.0]])
    assert_allclose(narrow.transform(small).toarray(), expected, rtol=1e-15)
    bad = sparse.csr_array(np.array([[np.inf, 1.0, 0.0]]))
    with pytest.raises(ValueError, match="contains infinity"):
        bn.transform(bad, copy=False)
    assert_array_equal(bad.data, [np.inf, 1.0])


FRAMES = {
    "pandas": lambda X: pd.DataFrame(X),
    "nullable": lambda X: pd.DataFrame(X).astype("Float64"),
    "objects": lambda X: pd.DataFrame(X).astype(object).where(~np.isnan(X), None),
    "polars": lambda X: pl.DataFrame(
        [pl.Series(f"x{i}", x).fill_nan(None) for i, x in enumerate(X.T)]
    ),
    "list": lambda X: X.tolist(),
    "None in it": lambda X: np.where(np.isnan(X), None, X.astype(object)).tolist(),
    "sparse columns": lambda X: pd.DataFrame(X).astype(pd.SparseDtype(float, 0.0)),
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_frames_are_limited_and_filled_as_arrays(frame, with_mean, track):
    X = with_gaps(np.random.default_rng(0), (50, 3))
    X[:2] = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]
    bn = BatchNorm(
        with_mean=with_mean, track_running_stats=track, weight_init=2.0, **BOUNDS
    )
    expected = bn.fit_transform(X)
    assert not np.isnan(expected).any()
    assert np.abs(expected).max() == 1.6
    data = FRAMES[frame](X)
    out = bn.fit_transform(data)
    out = out.toarray() if sparse.issparse(out) else out
    assert_allclose(out, expected, rtol=1e-12)
    if frame not in ("list", "None in it", "sparse columns"):
        bn.set_output(transform="polars" if frame == "polars" else "pandas")
        assert_allclose(bn.fit_transform(data).to_numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_large_arrays_are_limited_and_filled(order, n_jobs, dtype):
    rng = np.random.default_rng(0)
    X = np.asarray(with_gaps(rng, (60_000, 20), 0.01), dtype=dtype, order=order)
    bn = BatchNorm(n_jobs=n_jobs, bias_init=1.0, **BOUNDS).fit(X[:1000])
    expected = np.concatenate([bn.transform(rows) for rows in np.split(X, 300)])
    assert_array_equal(bn.transform(X), expected)
    assert_array_equal(bn.transform(X, copy=False), expected)
    assert_array_equal(X, expected)
