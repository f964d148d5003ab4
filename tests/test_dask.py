"""On a cluster: the state of one machine, whoever computes what and when."""

import inspect
import math
import multiprocessing
import os
import pickle
import re
import threading
import time
from datetime import timedelta
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from sk_batchnorm import BatchNorm1dTransformer

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")  # which distributed brings
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

from dask.bag import from_sequence  # noqa: E402
from dask.callbacks import Callback  # noqa: E402

from sk_batchnorm.dask import DaskBatchNorm1dTransformer  # noqa: E402

from .laws import assert_same_state, bits, unchanged  # noqa: E402

pytestmark = pytest.mark.xdist_group("cluster")

rules = {
    "momentum": st.floats(0, 1) | st.none(),
    "variance": st.sampled_from(["within", "total"]),
}


@pytest.fixture(autouse=True)
def synchronous():
    """Without a cluster, except in the tests that name one."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def two_workers():
    # Nor is a chunk moved to a worker that is idle; see below.
    config = {"distributed.scheduler.work-stealing": False}
    if "forkserver" in multiprocessing.get_all_start_methods():
        # Workers are forks of a process that has imported all they need.
        multiprocessing.set_forkserver_preload(["distributed", "sk_batchnorm.dask"])
        forkserver.ensure_running()
        config["distributed.worker.multiprocessing-method"] = "forkserver"
    with (
        dask.config.set(config),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def cluster(two_workers):
    with dask.config.set(scheduler="distributed"), two_workers.as_current():
        yield two_workers


def state_bits(bn):
    return {name: array.tobytes() for name, array in bn.state_dict().items()}


def random_rows(n_rows, seed=0, n_features=3):
    rng = np.random.default_rng(seed)
    return rng.normal(
        rng.normal(0, 5, n_features), rng.uniform(0.1, 3, n_features), (n_rows, 3)
    )


def streamed(batches, weights=None, **params):
    """What the docs promise, one mini-batch after the other."""
    bn = BatchNorm1dTransformer(bias_correction=True, **params)
    for k, batch in enumerate(batches):
        bn.partial_fit(batch, sample_weight=None if weights is None else weights[k])
    return bn


def as_dense(X):
    return X.toarray() if sparse.issparse(X) else X


def no_compute(X):
    """A lazy copy of X that must not be computed."""

    def fail(chunk):
        raise AssertionError("computed")

    return X.map_blocks(fail, dtype=X.dtype, meta=X._meta)


# The state of one machine


@given(
    seed=st.integers(0, 2**32 - 1),
    n_batches=st.integers(1, 40),
    batch_size=st.integers(2, 20),
    batches_per_chunk=st.integers(1, 4),
    split_every=st.integers(2, 5),
    gaps=st.booleans(),
    weighted=st.booleans(),
    **rules,
)
def test_chunks_of_whole_mini_batches(
    seed, n_batches, batch_size, batches_per_chunk, split_every, gaps, weighted, **rule
):
    n_rows = n_batches * batch_size
    X = random_rows(n_rows, seed)
    rng = np.random.default_rng(seed)
    if gaps:
        X[rng.random(X.shape) < 0.3] = np.nan
        X[:2] = 1.0  # something of each feature
    weight = rng.integers(1, 4, n_rows) * 1.0 if weighted else None
    chunks = (batches_per_chunk * batch_size, 3)
    bn = DaskBatchNorm1dTransformer(batch_size=batch_size, **rule)
    with dask.config.set(split_every=split_every):
        bn.fit(da.from_array(X, chunks=chunks), sample_weight=weight)
    local = BatchNorm1dTransformer(batch_size=batch_size, **rule)
    assert_same_state(bn, local.fit(X, sample_weight=weight))


@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=9),
    batch_size=st.integers(2, 20),
    weighted=st.booleans(),
    split_every=st.integers(2, 5),
    **rules,
)
def test_each_chunk_is_cut_as_fit_cuts_x(
    seed, lengths, batch_size, weighted, split_every, **rule
):
    """A chunk shorter than a mini-batch joins its neighbour; here, none follows one."""
    lengths = [batch_size + n if n < batch_size and n else n for n in lengths]
    lengths = [*lengths, batch_size]
    X = random_rows(sum(lengths), seed)
    weight = np.ones(len(X))
    if weighted:
        weight = np.random.default_rng(seed).uniform(1.0, 3.0, len(X))
    ends = np.cumsum(lengths)
    batches = []
    for start, end in zip(ends - lengths, ends, strict=True):
        if start < end:
            parts = np.arange(start, end), max(1, (end - start) // batch_size)
            batches += np.array_split(*parts)
    bn = DaskBatchNorm1dTransformer(batch_size=batch_size, **rule)
    with dask.config.set(split_every=split_every):
        bn.fit(
            da.from_array(X, chunks=(tuple(lengths), 3)),
            sample_weight=weight if weighted else None,
        )
    rows, weights = ([data[part] for part in batches] for data in (X, weight))
    assert_same_state(bn, streamed(rows, weights if weighted else None, **rule))


@pytest.mark.parametrize(("variance", "split_every"), [("within", 2), ("total", 16)])
@pytest.mark.parametrize(
    ("lengths", "ends"),
    [
        ((20, 1), [21]),
        ((1, 20), [21]),
        ((1, 1, 1), [3]),
        ((20, 3, 20), [20, 43]),
        ((3, 45, 3), [26, 51]),
        ((20, 20, 3), [20, 43]),
        ((20, 20, 20, 20, 3), [20, 40, 60, 83]),
        ((19, 19, 20), [38, 58]),
        ((20, 0, 1, 0, 20, 0), [20, 41]),
    ],
)
def test_a_short_chunk_joins_its_neighbour(lengths, ends, split_every, variance):
    X = random_rows(sum(lengths))
    batches = np.split(X, ends[:-1])
    bn = DaskBatchNorm1dTransformer(batch_size=20, variance=variance)
    with dask.config.set(split_every=split_every):
        bn.fit(da.from_array(X, chunks=(lengths, 3)))
    assert_same_state(bn, streamed(batches, variance=variance))
    weight = (np.arange(2 * len(X)) % 2) * 1.0  # of each row twice, one is there
    chunks = da.from_array(
        np.repeat(X, 2, axis=0), chunks=(tuple(2 * n for n in lengths), 3)
    )
    with dask.config.set(split_every=split_every):
        bn.fit(chunks, sample_weight=weight)
    assert_same_state(bn, streamed(batches, variance=variance))


@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=20),
    batch_size=st.integers(2, 20),
    split_every=st.integers(2, 5),
)
def test_no_mini_batch_is_short_or_long(seed, lengths, batch_size, split_every):
    """So that no row weighs much more than in a perfect cut."""
    X = random_rows(sum(lengths), seed)
    bn = DaskBatchNorm1dTransformer(batch_size=batch_size)
    with dask.config.set(split_every=split_every):
        bn.fit(da.from_array(X, chunks=(tuple(lengths), 3)))
    n_batches = bn.num_batches_tracked_
    # A mini-batch of less than two takes in less than one at its front, and the last
    # one another at its end.
    assert len(X) / (4 * batch_size) <= n_batches <= max(1, len(X) / batch_size)


@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=8),
    bias_correction=st.booleans(),
    **rules,
)
@example(
    seed=0, lengths=[1] * 40, bias_correction=True, momentum=0.1, variance="within"
)
def test_one_mini_batch_of_all_chunks(seed, lengths, bias_correction, **rule):
    X = random_rows(sum(lengths), seed)
    weight = np.random.default_rng(seed).integers(0, 3, len(X)) * 1.0
    weight[:2] = 1.0
    chunks = da.from_array(X, chunks=(tuple(lengths), 3))
    params = rule | {"batch_size": None, "bias_correction": bias_correction}
    bn = DaskBatchNorm1dTransformer(**params)
    local = BatchNorm1dTransformer(**params)
    assert_same_state(bn.fit(chunks, None, weight), local.fit(X, None, weight))
    # And one step of the rule, from the start and from where that ended.
    for _ in range(2):
        assert_same_state(bn.partial_fit(chunks), local.partial_fit(X))
    assert_same_state(clone(bn).partial_fit(chunks), clone(local).partial_fit(X))


def test_means_far_from_zero_keep_their_digits():
    """Chunks are merged by means of two doubles, as blocks in memory are."""
    X = 1e12 + np.arange(4000.0).reshape(-1, 1) % 2
    bn = DaskBatchNorm1dTransformer(batch_size=None).fit(da.from_array(X, chunks=250))
    assert_allclose(bn.running_var_, 1000 / 3999, rtol=1e-12)
    constant = da.full((4000, 1), 0.1, chunks=300)
    for params in ({}, {"variance": "total"}, {"batch_size": None}):
        bn = DaskBatchNorm1dTransformer(**params).fit(constant)
        assert (bn.running_mean_[0], bn.running_var_[0]) == (0.1, 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_dtypes(dtype):
    X = (random_rows(200) * 10).astype(dtype)
    chunks = da.from_array(X, chunks=(50, 3))
    bn = DaskBatchNorm1dTransformer(batch_size=25).fit(chunks)
    local = BatchNorm1dTransformer(batch_size=25).fit(X)
    assert_same_state(bn, local, size=100)
    Y = bn.transform(chunks)
    assert Y.dtype == Y.compute().dtype == local.transform(X).dtype
    assert_allclose(Y.compute(), local.transform(X), rtol=1e-6, atol=1e-6)


def test_three_dimensions():
    X = np.random.default_rng(0).normal(size=(64, 3, 7))
    chunks = da.from_array(X, chunks=(16, 3, 7))
    bn = DaskBatchNorm1dTransformer(batch_size=8)
    local = BatchNorm1dTransformer(batch_size=8)
    assert_same_state(bn.fit(chunks), local.fit(X))
    Y = bn.transform(chunks)
    assert Y.chunks == chunks.chunks
    assert_allclose(Y.compute(), local.transform(X), rtol=1e-12, atol=1e-12)
    assert_allclose(bn.inverse_transform(Y).compute(), X, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix])
def test_sparse_chunks(kind):
    X = sparse.random(100, 5, density=0.3, format="csr", random_state=0)
    chunks = da.from_array(X.toarray(), chunks=(20, 5)).map_blocks(kind)
    params = {"batch_size": 10, "with_mean": False}
    bn = DaskBatchNorm1dTransformer(**params).fit(chunks)
    local = BatchNorm1dTransformer(**params).fit(X)
    assert_same_state(bn, local)
    Y = bn.transform(chunks)
    assert sparse.issparse(Y.compute())
    assert_allclose(Y.compute().toarray(), local.transform(X).toarray(), rtol=1e-12)
    with pytest.raises(ValueError, match="Cannot center sparse matrices"):
        DaskBatchNorm1dTransformer().fit(no_compute(chunks))


def test_a_feature_never_observed_is_named():
    X = random_rows(40)
    X[:, 1] = np.nan
    bn = DaskBatchNorm1dTransformer(batch_size=10)
    with pytest.warns(UserWarning, match="Too few observed values in feature x1"):
        bn.fit(da.from_array(X, chunks=(10, 3)))
    assert_array_equal(bn.num_batches_tracked_, [4, 0, 4])
    assert np.isnan([bn.running_mean_[1], bn.running_var_[1]]).all()
    Y = bn.transform(da.from_array(random_rows(40), chunks=(10, 3))).compute()
    assert np.isnan(Y[:, 1]).all()
    assert np.isfinite(Y[:, ::2]).all()


# Chunks of unknown size, of one row, of none


def test_unknown_chunk_sizes():
    X = random_rows(200)
    known = da.from_array(X, chunks=(50, 3))
    unknown = known[known[:, 0] < np.inf]
    assert np.isnan(unknown.chunks[0]).all()
    bn = DaskBatchNorm1dTransformer(batch_size=25)
    local = BatchNorm1dTransformer(batch_size=25).fit(X)
    assert_same_state(bn.fit(unknown), local)
    assert_allclose(bn.transform(unknown).compute(), local.transform(X), atol=1e-12)
    weight = np.arange(200.0) % 3 + 1
    local.fit(X, sample_weight=weight)
    lazy_weight = da.from_array(weight, chunks=50)
    bn.fit(unknown, sample_weight=lazy_weight[lazy_weight < 9])
    assert_same_state(bn, local)
    chosen = known[:, da.from_array([True, True, False], chunks=3)]
    for rows, its_weight, message in [
        (unknown, weight, r"compute_chunk_sizes\(\)"),
        (unknown, lazy_weight.rechunk(25), "4 chunks of unknown sizes.* has 8"),
        (unknown, lazy_weight[:199].rechunk((60, 40, 50, 49)), "inconsistent numbers"),
        (chosen, None, "number of features of X is unknown"),
    ]:
        with unchanged(bn), pytest.raises(ValueError, match=message):
            bn.fit(rows, sample_weight=its_weight)


def test_what_is_advised_for_a_weight_in_memory():
    X = random_rows(50)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    partitions = dd.from_pandas(frame, npartitions=4)
    weight = np.arange(50.0) % 3 + 1
    bn = DaskBatchNorm1dTransformer(batch_size=None)
    for sample_weight in (weight, weight.tolist(), pd.Series(weight)):
        with pytest.raises(ValueError, match="chunk sizes") as error:
            bn.fit(partitions, sample_weight=sample_weight)
        assert not hasattr(partitions, "compute_chunk_sizes")
        assert "compute_chunk_sizes" not in str(error.value)
    advice = re.search(r"da\.from_array\(.*\)", str(error.value))[0]
    names = {"da": da, "sample_weight": weight, "X": partitions}
    bn.fit(partitions, sample_weight=eval(advice, names))
    local = BatchNorm1dTransformer(batch_size=None)
    assert_same_state(bn, local.fit(frame, sample_weight=weight))


def test_chunks_that_a_filter_has_emptied():
    X = random_rows(200)
    keep = (np.arange(200) < 60) | (np.arange(200) >= 150)
    chunks = da.from_array(X, chunks=(50, 3))[da.from_array(keep, chunks=50)]
    bn = DaskBatchNorm1dTransformer(batch_size=10).fit(chunks)
    local = BatchNorm1dTransformer(batch_size=10).fit(X[keep])
    assert_same_state(bn, local)
    assert_allclose(bn.transform(chunks).compute(), local.transform(X[keep]), 1e-12)
    # Nor are rows of weight 0 there.
    bn.fit(da.from_array(X, chunks=(50, 3)), sample_weight=keep * 1.0)
    assert_same_state(bn, local)


@pytest.mark.parametrize("variance", ["within", "total"])
def test_too_few_rows(variance):
    bn = DaskBatchNorm1dTransformer(variance=variance)
    if variance == "within":
        for method in (bn.fit, bn.partial_fit):
            with pytest.raises(ValueError, match="n_samples=1 has no unbiased"):
                method(da.ones((1, 3)))
    else:
        assert clone(bn).fit(da.ones((1, 3))).num_batches_tracked_ == 1
    for nothing in (da.ones((0, 3)), da.ones((8, 3), chunks=4)[da.zeros(8) > 0]):
        with pytest.raises(ValueError, match="X has no rows"):
            bn.fit(nothing)
        with pytest.raises(ValueError, match="X has no rows"):
            bn.partial_fit(nothing)
    with pytest.raises(ValueError, match="none of a positive sample_weight"):
        bn.fit(da.ones((8, 3)), sample_weight=np.zeros(8))
    assert not hasattr(bn, "n_features_in_")


# DataFrames


@pytest.fixture
def frame():
    X = pd.DataFrame(random_rows(120), columns=["a", "b", "c"])
    X["b"] = X["b"].astype(np.float32)
    X["c"] = pd.array([None, *range(119)], dtype="Int64")
    X.index = pd.date_range("2026-01-01", periods=120, freq="h")
    return X


def test_dataframes(frame):
    partitions = dd.from_pandas(frame, npartitions=4)
    local = BatchNorm1dTransformer(batch_size=10).fit(frame)
    bn = DaskBatchNorm1dTransformer(batch_size=10).fit(partitions)
    assert_same_state(bn, local, size=1000)
    assert_array_equal(bn.feature_names_in_, ["a", "b", "c"])
    Y = bn.transform(partitions)
    assert isinstance(Y, da.Array)
    assert_allclose(Y.compute(), local.transform(frame), rtol=1e-12, atol=1e-12)
    back = bn.inverse_transform(Y).compute()
    assert_allclose(back, frame.to_numpy(float, na_value=np.nan), 1e-6, 1e-6)

    weight = pd.Series(np.arange(120.0) % 3, index=frame.index)
    for method in ("fit", "partial_fit"):
        params = {"batch_size": None}
        lazy = getattr(DaskBatchNorm1dTransformer(**params), method)(
            partitions,
            sample_weight=dd.from_pandas(weight, npartitions=4),
        )
        here = getattr(BatchNorm1dTransformer(**params), method)
        assert_same_state(lazy, here(frame, sample_weight=weight), size=1000)


@pytest.mark.parametrize("as_strings", [True, False])
def test_columns_of_numbers_without_a_dtype_of_numbers(as_strings):
    """What is taken in memory is taken here; dask makes strings of objects."""
    columns = [
        pd.Series([0.1, 2, 3, 4] * 5, dtype=object),
        pd.Series([pd.NA, 2, 3, 4] * 5, dtype=object),
        pd.Series([None, 2, 3, 4] * 5, dtype=object),
        pd.Series(["0.1", "2", "3", None] * 5),
        pd.Series(["0.1", "2", "3", None] * 5, dtype="string"),
        pd.Series(pd.Categorical([0.5, 2, 3, None] * 5)),
        pd.Series(pd.Categorical(["0.5", "2", "3", "2"] * 5)),
        pd.Series(pd.Categorical([3, 2, 1, 0] * 5, categories=[0, 1, 2, 3, 4])),
        pd.Series(np.arange(20, dtype=np.float32)),
    ]
    frame = pd.DataFrame(dict(zip("abcdefghi", columns, strict=True)))
    local = BatchNorm1dTransformer(batch_size=5).fit(frame)
    with dask.config.set({"dataframe.convert-string": as_strings}):
        partitions = dd.from_pandas(frame, npartitions=4)
        bn = DaskBatchNorm1dTransformer(batch_size=5).fit(partitions)
        assert_same_state(bn, local)
        Y = bn.transform(partitions)
        frames = bn.set_output(transform="pandas").transform(partitions)
        assert_allclose(Y.compute(), local.transform(frame), atol=1e-12)
        assert Y.dtype == Y.compute().dtype
        pd.testing.assert_series_equal(frames.dtypes, frames.compute().dtypes)
        assert_allclose(frames.compute(), local.transform(frame), atol=1e-12)


@pytest.mark.parametrize("dtype", ["str", "category", object])
def test_text_is_refused_by_the_chunk_that_holds_it(dtype):
    values = pd.Series(["1"] * 9 + ["x"])
    partitions = dd.from_pandas(
        pd.DataFrame({"a": values.astype(dtype)}), npartitions=5
    )
    bn = DaskBatchNorm1dTransformer(variance="total")
    with pytest.raises(ValueError, match="In chunk 4 of X: .* float: 'x'"):
        bn.fit(partitions)
    assert not bn.__sklearn_is_fitted__()
    bn.fit(pd.DataFrame({"a": [1.0, 2.0]}))
    with pytest.raises(ValueError, match="In chunk 4 of X: .* float: 'x'"):
        bn.transform(partitions).compute()


def test_an_array_after_a_dataframe_is_warned_of_once(frame):
    bn = DaskBatchNorm1dTransformer().fit(dd.from_pandas(frame, npartitions=4))
    chunks = da.from_array(frame.to_numpy(float, na_value=np.nan), chunks=(30, 3))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        Y = bn.transform(chunks)
    assert Y.compute().shape == (120, 3)  # and no warning, which were an error


def test_set_output_makes_dask_dataframes(frame):
    partitions = dd.from_pandas(frame, npartitions=4)
    local = BatchNorm1dTransformer().set_output(transform="pandas")
    bn = DaskBatchNorm1dTransformer().set_output(transform="pandas").fit(partitions)
    local.load_state_dict(bn.state_dict())
    local.feature_names_in_ = bn.feature_names_in_
    Y = bn.transform(partitions)
    assert isinstance(Y, dd.DataFrame)
    pd.testing.assert_frame_equal(Y.compute(), local.transform(frame))
    assert Y.index.dtype == frame.index.dtype
    assert Y.divisions == partitions.divisions
    Y = bn.fit_transform(partitions)
    pd.testing.assert_frame_equal(Y.compute(), local.transform(frame))
    # What is configured here is so in the process that runs the task, too.
    with config_context(transform_output="pandas"):
        Y = DaskBatchNorm1dTransformer().fit(partitions).transform(partitions)
    pd.testing.assert_frame_equal(Y.compute(), local.transform(frame))
    few = partitions[partitions["a"] > partitions["a"].max()]
    assert bn.transform(few).compute().shape == (0, 3)

    X = random_rows(60)
    chunks = da.from_array(X, chunks=(20, 3))
    Y = bn.fit(chunks).transform(chunks)
    assert isinstance(Y, dd.DataFrame)
    expected = bn.to_local().transform(X)
    pd.testing.assert_frame_equal(Y.compute(), expected, check_index_type=False)

    pytest.importorskip("polars")
    bn.set_output(transform="polars")
    with pytest.raises(ValueError, match="dask has no polars DataFrames"):
        bn.transform(chunks)


@pytest.mark.parametrize(
    ("container", "kind", "message"),
    [
        ("polars", "rows", "dask has no polars DataFrames"),
        ("polars", "frame", "dask has no polars DataFrames"),
        ("pandas", "three dimensions", "Three-dimensional output"),
        ("pandas", "sparse", "Sparse output"),
        ("default", "sparse", "bias_"),
    ],
)
def test_fit_transform_that_can_not_transform(container, kind, message):
    if container == "polars":
        pytest.importorskip("polars")
    lazy = no_compute(da.ones((60, 3), chunks=(20, 3)))
    X = {
        "rows": lazy,
        "frame": dd.from_dask_array(lazy, columns=["a", "b", "c"]),
        "three dimensions": no_compute(da.ones((60, 3, 2), chunks=(20, 3, 2))),
        "sparse": no_compute(
            da.ones((60, 3), chunks=(20, 3)).map_blocks(sparse.csr_matrix)
        ),
    }[kind]
    bn = DaskBatchNorm1dTransformer(with_mean=kind != "sparse", bias_init=1.0)
    bn.set_output(transform=container)
    with pytest.raises(ValueError, match=message):
        bn.fit_transform(X)
    with pytest.raises(NotFittedError):
        bn.transform(random_rows(5))
    bn.set_output(transform="default").partial_fit(np.eye(3))
    bn.set_output(transform=container)
    with unchanged(bn), pytest.raises(ValueError, match=message):
        bn.fit_transform(X)


# The plain class, which has no chunks


@pytest.mark.parametrize("kind", ["array", "frame", "objects", "sparse", "delayed"])
def test_the_plain_class_warns_that_it_loads_all_of_x(kind):
    X = random_rows(40)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    in_memory, lazy = {
        "array": lambda: (X, da.from_array(X, chunks=(10, 3))),
        "frame": lambda: (frame, dd.from_pandas(frame, npartitions=4)),
        "objects": lambda: (
            frame.astype(object).mask(frame > 5, pd.NA),
            dd.from_pandas(frame.astype(object).mask(frame > 5, pd.NA), npartitions=4),
        ),
        "sparse": lambda: (
            sparse.csr_matrix(X),
            da.from_array(X, chunks=(10, 3)).map_blocks(sparse.csr_matrix),
        ),
        "delayed": lambda: (X, dask.delayed(X)),
    }[kind]()
    bn = BatchNorm1dTransformer(with_mean=kind != "sparse", bias_correction=True)
    same = clone(bn)
    warns = pytest.warns(
        UserWarning, match="X is a dask .* loaded into memory .*DaskBatchNorm1dTransf"
    )
    for method in ("partial_fit", "fit", "transform", "inverse_transform"):
        with warns as record:
            got = getattr(bn, method)(lazy)
        assert {warning.filename for warning in record} == {__file__}
        expected = getattr(same, method)(in_memory)
        assert state_bits(bn) == state_bits(same)
        if "transform" in method:
            assert type(got) is type(expected)
            assert_array_equal(as_dense(got), as_dense(expected))


@pytest.mark.parametrize(
    "transformer", [BatchNorm1dTransformer, DaskBatchNorm1dTransformer]
)
def test_forward_warns_that_it_loads_all_of_x(transformer):
    X = random_rows(40)
    with pytest.warns(UserWarning, match="X is a dask Array, all of which is loaded"):
        got = transformer().forward(da.from_array(X, chunks=(10, 3)))
    assert_array_equal(got, BatchNorm1dTransformer().forward(X))


def test_a_warning_that_is_an_error_loads_nothing():
    X = no_compute(da.ones((40, 3), chunks=(10, 3)))
    bn = BatchNorm1dTransformer(bias_correction=True).partial_fit(random_rows(10))
    for method in ("fit", "partial_fit", "transform", "fit_transform", "forward"):
        with unchanged(bn), pytest.raises(UserWarning, match="X is a dask Array"):
            getattr(bn, method)(X)


def test_nobody_asks_whether_numpy_is_of_dask(monkeypatch):
    monkeypatch.setattr(dask, "is_dask_collection", None)
    bn = BatchNorm1dTransformer(bias_correction=True)
    bn.fit(random_rows(10)).partial_fit(random_rows(10)).forward(random_rows(10))
    bn.transform(random_rows(10))


# Lazy


def test_transform_computes_nothing_until_asked():
    X = random_rows(100)
    chunks = da.from_array(X, chunks=(30, 3))
    bn = DaskBatchNorm1dTransformer(copy=False).fit(chunks)
    for method in (bn.transform, bn.inverse_transform):
        Y = method(no_compute(chunks))
        assert Y.chunks == chunks.chunks
        with pytest.raises(AssertionError, match="computed"):
            Y.compute()
    Y = bn.transform(chunks)
    assert len(dict(Y.__dask_graph__())) <= 2 * 4 + 1  # and the array itself
    expected = bn.to_local().transform(X)
    bn.fit(chunks + 1)  # what comes later does not show
    assert_allclose(Y.compute(), expected, rtol=1e-12)
    here = X.copy()
    one = da.map_blocks(lambda: here, chunks=((100,), (3,)), dtype=float, meta=X[:0])
    bn.transform(one, copy=False).compute()
    assert_array_equal(here, X)


def test_without_running_stats_all_chunks_count():
    X = random_rows(100)
    chunks = da.from_array(X, chunks=(30, 3))
    bn = DaskBatchNorm1dTransformer(track_running_stats=False).fit(chunks)
    local = BatchNorm1dTransformer(track_running_stats=False).fit(X)
    assert_allclose(bn.transform(chunks).compute(), local.transform(X), 1e-9, 1e-12)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    bn.fit(dd.from_pandas(frame, npartitions=3)).set_output(transform="pandas")
    Y = bn.transform(dd.from_pandas(frame, npartitions=3)).compute()
    assert_allclose(Y, local.transform(X), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="keeps none"):
        bn.inverse_transform(chunks)
    bn.set_output(transform="default").fit(chunks)
    with pytest.raises(ValueError, match="needs more than 1 sample"):
        bn.transform(chunks[:1]).compute()


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("kind", ["array", "frame", "sparse", "three dimensions"])
def test_chunks_are_limited_and_filled(track, kind):
    X = random_rows(100)
    X[::7, 1] = np.nan
    bounds = {"clip": 0.7, "handle_missing": "mean", "bias_init": 0.0}
    bounds |= {"with_mean": kind != "sparse", "track_running_stats": track}
    bn, local = DaskBatchNorm1dTransformer(**bounds), BatchNorm1dTransformer(**bounds)
    if kind == "three dimensions":
        X = X.reshape(20, 5, 3).transpose(0, 2, 1)
    chunks = da.from_array(X, chunks=(30, *X.shape[1:]))
    if kind == "frame":
        chunks = dd.from_pandas(pd.DataFrame(X, columns=["a", "b", "c"]), npartitions=3)
    elif kind == "sparse":
        chunks = chunks.map_blocks(sparse.csr_matrix)
    expected = local.fit(X).transform(X)
    out = bn.fit(chunks).transform(chunks)
    assert not np.isnan(expected).any()
    assert_allclose(as_dense(out.compute()), expected, rtol=1e-9, atol=1e-12)
    # What is set later does not show.
    bn.set_params(clip=None, handle_missing="keep")
    assert_allclose(as_dense(out.compute()), expected, rtol=1e-9, atol=1e-12)


# Bad input: a clear error, and the state as it was


def test_what_can_be_told_without_computing():
    X = no_compute(da.ones((100, 3), chunks=(30, 3)))
    good = da.random.default_rng(0).normal(size=(100, 3), chunks=(30, 3))
    bn = DaskBatchNorm1dTransformer(3)
    with pytest.raises(NotFittedError):
        bn.transform(X)
    bn.fit(good)
    for bad, message in [
        (X.rechunk((30, 2)), r"X.rechunk\(\{1: -1\}\)"),
        (X[:, 0], "Expected 2D array, got 1D array"),
        (X[:, :2], "X has 2 features"),
        (X[:, :, None, None], "Found array with dim 4"),
        (X.astype(complex), "Complex data not supported"),
        (from_sequence([1.0]), "X is a dask Bag"),
        (dask.delayed(np.ones)((100, 3)), "X is a dask Delayed"),
        (dd.from_dask_array(good)[0], "X is a dask Series"),
        (
            dd.from_pandas(
                pd.DataFrame({"a": [1.0], "b": [pd.Timestamp(0)]}), npartitions=1
            ),
            "Column b has dtype",
        ),
    ]:
        for method in (bn.fit, bn.partial_fit, bn.transform, bn.inverse_transform):
            with unchanged(bn), pytest.raises(ValueError, match=message):
                method(bad)
    for weight, message in [
        (-1.0, "Negative values"),
        (np.ones(99), "inconsistent numbers of samples"),
        (np.ones((100, 2)), "must be 1D array or scalar, got 2D"),
        (da.ones(99), "inconsistent numbers of samples"),
        (np.ma.masked_less(np.arange(100), 5), r"filled\(0\)"),
    ]:
        with unchanged(bn), pytest.raises(ValueError, match=message):
            bn.fit(X, sample_weight=weight)
    bn.weight_ = np.array([1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="weight_ of 0, which feature x1"):
        bn.inverse_transform(X)
    bn.set_params(momentum=2.0)
    with unchanged(bn), pytest.raises(ValueError, match="momentum"):
        bn.fit(X)


def test_what_a_chunk_refuses():
    X = random_rows(100)
    bn = DaskBatchNorm1dTransformer().fit(da.from_array(X, chunks=(30, 3)))
    infinite = X.copy()
    infinite[70, 1] = np.inf
    weight = np.ones(100)
    weight[70] = -1
    for rows, w, message in [
        (infinite, None, "infinity"),
        (X, weight, "Negative values"),
        (np.ma.masked_greater(X, 1.0), None, "masked array"),
        (np.full((100, 3), 1.7e308), None, "overflow"),
    ]:
        chunks = da.from_array(rows, chunks=(30, 3), asarray=False)
        for method in (bn.fit, bn.partial_fit):
            if message == "overflow":
                chunks = da.concatenate([chunks, -chunks])
            with unchanged(bn), pytest.raises(ValueError, match=message):
                method(chunks, sample_weight=w)


@pytest.mark.skipif(
    not hasattr(DaskBatchNorm1dTransformer, "set_callbacks"),
    reason="scikit-learn 1.9 brought callbacks",
)
def test_callbacks_need_not_bear_to_be_copied():
    class Locked:
        def __init__(self):
            self.lock = threading.Lock()

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context, *, X, y, metadata): ...
        def on_fit_task_end(self, estimator, context, *, X, fitted_estimator): ...

    X = random_rows(100)
    chunks = da.from_array(X, chunks=(50, 3))
    bn = DaskBatchNorm1dTransformer(batch_size=50).set_callbacks(Locked()).fit(chunks)
    expected = BatchNorm1dTransformer(batch_size=50).fit(X).transform(X)
    assert_allclose(bn.transform(chunks), expected, rtol=1e-12, atol=1e-12)


# A plain transformer


def test_to_local_hands_out_a_plain_transformer():
    X = random_rows(100)
    chunks = da.from_array(X, chunks=(30, 3))
    bn = DaskBatchNorm1dTransformer(weight_init=2.0).fit(chunks)
    local = bn.to_local()
    assert type(local) is BatchNorm1dTransformer
    assert local.get_params() == bn.get_params()
    assert state_bits(local) == state_bits(bn)
    assert b"dask" not in pickle.dumps(local)
    with unchanged(bn):
        local.partial_fit(X)
        local.weight_[:] = 5.0
    assert not hasattr(DaskBatchNorm1dTransformer().to_local(), "running_mean_")
    bn.forward(X)
    with pytest.raises(ValueError, match="needs a forward before it"):
        bn.to_local().backward(X)
    bn.backward(X)


def test_data_in_memory_are_learned_from_as_ever():
    X = random_rows(100)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    bn, local = DaskBatchNorm1dTransformer(), BatchNorm1dTransformer()
    for data in (X, frame):
        for method in ("fit", "partial_fit"):
            pair = (getattr(each, method)(data) for each in (bn, local))
            assert len({*map(bits, pair)}) == 1
        assert_array_equal(bn.transform(data), local.transform(data))
        assert_array_equal(bn.fit_transform(data), local.fit_transform(data))
        assert_array_equal(bn.inverse_transform(X), local.inverse_transform(X))
    for each in (bn, local):
        each.set_output(transform="pandas")
    pd.testing.assert_frame_equal(bn.transform(frame), local.transform(frame))
    assert inspect.signature(DaskBatchNorm1dTransformer) == inspect.signature(
        BatchNorm1dTransformer
    )


@parametrize_with_checks(
    [DaskBatchNorm1dTransformer()],
    expected_failed_checks=lambda bn: {
        "check_sample_weight_equivalence_on_sparse_data": (
            "scikit-learn 1.6 runs it whatever the sparse tag says (its issue 30139)"
        )
    },
)
@pytest.mark.filterwarnings("default")  # the checks bring warnings of their own
def test_check_estimator(estimator, check):
    check(estimator)


# Two processes


def delayed_rows(X, length, folder, seconds):
    """Chunks of X that take a while, and note in a folder that they were made."""

    def load(block_id):
        (Path(folder) / f"{block_id[0]}-{time.time_ns()}").touch()
        time.sleep(seconds(block_id[0]))
        return X[block_id[0] * length : (block_id[0] + 1) * length]

    lengths = (length,) * (len(X) // length)
    return da.map_blocks(
        load, chunks=(lengths, (X.shape[1],)), dtype=X.dtype, meta=X[:0]
    )


def test_any_workers_in_any_order_give_the_same_bits(cluster, tmp_path):
    X = random_rows(40 * 20)
    batches = {"batch_size": 10}
    with dask.config.set(scheduler="synchronous"):  # one after the other
        here = DaskBatchNorm1dTransformer(**batches)
        here.fit(da.from_array(X, chunks=(20, 3)))
    assert_same_state(here, BatchNorm1dTransformer(**batches).fit(X))
    for seconds in (lambda k: 0.001 * (40 - k), lambda k: 0.03 * (k % 5 == 0)):
        chunks = delayed_rows(X, 20, tmp_path, seconds)
        two = DaskBatchNorm1dTransformer(**batches).fit(chunks)
        assert state_bits(two) == state_bits(here)
    with dask.config.set(scheduler="threads", num_workers=3):
        threads = DaskBatchNorm1dTransformer(**batches).fit(chunks)
    assert state_bits(threads) == state_bits(here)


def test_a_worker_killed_in_mid_fit(cluster, tmp_path):
    X = random_rows(40 * 20)
    chunks = delayed_rows(X, 20, tmp_path, lambda k: 0.03)
    bn = DaskBatchNorm1dTransformer(batch_size=10)

    def learn():
        with cluster.as_current():
            bn.fit(chunks)

    learning = threading.Thread(target=learn)
    victim = min(cluster.run(os.getpid).values())
    learning.start()
    while len(list(tmp_path.iterdir())) < 10:
        assert learning.is_alive(), "it raised"
        time.sleep(0.005)
    psutil.Process(victim).kill()
    assert learning.is_alive()
    learning.join(timeout=300)
    assert len(list(tmp_path.iterdir())) > 40  # some chunks were learned again
    here = DaskBatchNorm1dTransformer(batch_size=10)
    here.fit(da.from_array(X, chunks=(20, 3)))
    assert state_bits(bn) == state_bits(here)
    cluster.wait_for_workers(2, timeout=300)


def test_a_task_that_kills_its_workers(cluster):
    def die(chunk):
        os._exit(1)

    X = da.from_array(random_rows(40))  # one chunk, which kills one worker
    bn = DaskBatchNorm1dTransformer().fit(X)
    before = state_bits(bn)

    def allow(n, dask_scheduler):
        dask_scheduler.allowed_failures = n

    cluster.run_on_scheduler(allow, 0)
    with unchanged(bn), pytest.raises(distributed.scheduler.KilledWorker):
        bn.fit(X.map_blocks(die, meta=np.empty((0, 3))))
    cluster.run_on_scheduler(allow, 3)
    cluster.wait_for_workers(2, timeout=300)
    assert state_bits(bn.fit(X)) == before


def test_chunks_stay_where_they_lie(cluster):
    """What travels are vectors as long as a row, whatever the number of rows."""
    n_features, length, n_chunks = 10, 4096, 8

    def outgoing(dask_worker):
        return dask_worker.transfer_outgoing_bytes_total

    X = da.random.default_rng(0).normal(
        size=(n_chunks * length, n_features), chunks=(length, n_features)
    )
    X = cluster.persist(X)
    distributed.wait(X)
    assert all(len(places) == 1 for places in cluster.who_has(X).values())
    before = sum(cluster.run(outgoing).values())
    bn = DaskBatchNorm1dTransformer().fit(X)
    moved = sum(cluster.run(outgoing).values()) - before
    assert moved < length * n_features * 8  # not a single chunk
    assert_same_state(bn, BatchNorm1dTransformer().fit(X.compute()))


@pytest.mark.parametrize("kind", ["array", "frame", "weighted"])
def test_tasks_bear_the_names_of_what_they_do(kind):
    """As the dashboard shows ``sum``, ``sum-partial`` and ``sum-aggregate``."""
    X = da.ones((200, 2), chunks=(4, 2))
    weight = da.ones(200, chunks=4) if kind == "weighted" else None
    if kind == "frame":
        X = dd.from_dask_array(X, columns=["a", "b"])
    done = set()

    def note(key, *_):
        done.add(dask.utils.key_split(key))

    bn = DaskBatchNorm1dTransformer(2)
    with Callback(posttask=note):
        bn.fit(X, sample_weight=weight)
    learning = {name for name in done if "learn" in name}
    assert {"learn-partial", "learn-aggregate"} < learning
    assert not any("join" in name or "as_it_is" in name for name in done)
    for container in ("default", "pandas"):
        done.clear()
        with Callback(posttask=note):
            bn.set_output(transform=container).transform(X).compute()
        assert any("transform" in name for name in done), done
        assert not any("transform_chunk" in name for name in done), done


@pytest.mark.parametrize("n_chunks", [1, 16, 17, 500])
def test_a_task_per_chunk_and_a_fifteenth_to_join(n_chunks):
    """A task that makes a chunk learns from it too."""
    X = da.ones((4 * n_chunks, 2), chunks=(4, 2)) + 1
    done = []
    with Callback(posttask=lambda key, *_: done.append(key)):
        DaskBatchNorm1dTransformer().fit(X)
    # Each level of the tree rounds up; a part alone in its group has two names.
    n_levels = max(1, math.ceil(math.log(n_chunks, 16)))
    assert n_chunks < len(done) <= n_chunks + n_chunks / 15 + n_levels + 1


# Half-life: any chunks, the same result


HALF_LIFE = np.random.default_rng(5)
HALF_LIFE_ROWS = HALF_LIFE.normal([5.0, -3.0, 0.0], [2.0, 1.0, 0.1], (500, 3))
HALF_LIFE_ROWS[HALF_LIFE.random(HALF_LIFE_ROWS.shape) < 0.1] = np.nan
HALF_LIFE_WEIGHT = HALF_LIFE.integers(0, 3, 500) * 0.5
HALF_LIFE_TIMES = np.sort(HALF_LIFE.integers(0, 10**6, 500)).astype("M8[s]")


@pytest.mark.parametrize("halflife", [40.0, np.inf, timedelta(hours=9)])
@pytest.mark.parametrize("chunks", [500, 7, (1, 299, 150, 50)])
def test_halflife_in_any_chunks(halflife, chunks):
    weight, times = HALF_LIFE_WEIGHT, None
    X = da.from_array(HALF_LIFE_ROWS, chunks=(chunks, 3))
    lazy = {"sample_weight": da.from_array(weight, chunks=(X.chunks[0],))}
    if isinstance(halflife, timedelta):
        times = HALF_LIFE_TIMES
        lazy["times"] = da.from_array(times, chunks=(X.chunks[0],))
    local = BatchNorm1dTransformer(halflife=halflife)
    local.fit(HALF_LIFE_ROWS, sample_weight=weight, times=times)
    bn = DaskBatchNorm1dTransformer(halflife=halflife)
    frame = dd.from_dask_array(X, columns=["a", "b", "c"])
    for learned in (clone(bn).fit(frame, **lazy), clone(bn).partial_fit(X, **lazy)):
        state, expected = learned.state_dict(), local.state_dict()
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            if value.dtype.kind == "f":
                assert_allclose(state[key], value, rtol=1e-12)
            else:
                assert_array_equal(state[key], value)


def test_times_that_do_not_fit_the_stream():
    bn = DaskBatchNorm1dTransformer(halflife=3.0)
    X, times = da.ones((6, 2), chunks=(3, 2)), np.arange(6.0)
    bn.fit(X, times=times)
    for bad, match in [
        (times, "a chunk begins with 0.0, after 5.0"),
        (None, "times is missing"),
        (times[::-1] + 9, "In chunk . of X: times must not decrease"),
        ([7.0, 8, 9, 6, 7, 8], "a chunk begins with 6.0, after 9.0"),
    ]:
        with unchanged(bn), pytest.raises(ValueError, match=match):
            bn.partial_fit(X, times=bad)
    with pytest.raises(ValueError, match="with halflife only"):
        DaskBatchNorm1dTransformer().fit(X, times=times)
