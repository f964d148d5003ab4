"""What holds through every door: what one transformer puts out, all do."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm import fold
from sk_batchnorm.pipeline import make_streaming_pipeline

from .laws import with_value

ROWS = np.random.default_rng(0).normal([5.0, -3.0, 0.3], [2.0, 0.5, 1.0], (64, 3))


def loaded(bn, X):
    fresh = BatchNorm(**bn.get_params())
    return fresh.load_state_dict(bn.state_dict()).transform(X)


def streamed(bn, X):
    pipe = make_streaming_pipeline(bn, FunctionTransformer())
    return pipe.transform(X)


def unobserved():
    """Rows of which feature x1 is missing."""
    return with_value(ROWS, (slice(None), 1), np.nan)


def noise_in_x1():
    """Rows of which feature x1 is 0.3, but for rounding."""
    a = np.random.default_rng(0).random(len(ROWS))
    noise = with_value(ROWS, (slice(None), 1), (a + 0.3) - a)
    assert np.ptp(noise[:, 1]) > 0
    return noise


def by_onnx(bn, X):
    pytest.importorskip("skl2onnx")
    runtime = pytest.importorskip("onnxruntime")
    import sk_batchnorm.onnx  # noqa: F401, registers

    graph = pytest.importorskip("skl2onnx").to_onnx(bn, X)
    session = runtime.InferenceSession(graph.SerializeToString())
    return session.run(None, {"X": X})[0]


def by_dask(bn, X):
    da = pytest.importorskip("dask.array")
    pytest.importorskip("distributed")
    from sk_batchnorm.dask import DaskBatchNorm1dTransformer

    there = DaskBatchNorm1dTransformer(**bn.get_params())
    there.load_state_dict(bn.state_dict())
    chunks = da.from_array(X, chunks=(7, 3))
    return there.transform(chunks).compute(scheduler="synchronous")


def by_tensors(bn, X):
    torch = pytest.importorskip("torch")
    with sklearn.config_context(array_api_dispatch=True):
        there = BatchNorm(**bn.get_params()).fit(torch.from_numpy(ROWS))
        there.load_state_dict(bn.state_dict())
        return there.transform(torch.from_numpy(X)).numpy()


def by_fold(bn, X):
    models = LinearRegression().fit(np.eye(3), np.eye(3))
    models.coef_, models.intercept_ = np.eye(3), np.zeros(3)
    return fold(bn, models).predict(X)


DOORS = {
    "pickle": lambda bn, X: pickle.loads(pickle.dumps(bn)).transform(X),
    "deepcopy": lambda bn, X: copy.deepcopy(bn).transform(X),
    "state dict": loaded,
    "pipeline": streamed,
    "ONNX": by_onnx,
    "dask": by_dask,
    "tensors": by_tensors,
    "fold": by_fold,
}
NO_START = [
    {"bias_correction": True},
    {"momentum": None},
    {"momentum": None, "variance": "total"},
    {"bias_correction": True, "with_mean": False},
]


@pytest.mark.filterwarnings("ignore:Too few observed values in feature x1")
@pytest.mark.parametrize("door", [name for name in DOORS if name != "fold"])
@pytest.mark.parametrize("rule", NO_START, ids=str)
def test_a_feature_never_observed_is_missing(door, rule):
    bn = BatchNorm(**rule).partial_fit(unobserved())
    assert np.isnan([bn.running_mean_[1], bn.running_var_[1]]).all()
    assert_array_equal(bn.num_batches_tracked_, [1, 0, 1])
    out = DOORS[door](bn, ROWS)
    assert np.isnan(out[:, 1]).all()
    assert_allclose(out[:, ::2], bn.transform(ROWS)[:, ::2], rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Too few observed values in feature x1")
def test_a_feature_never_observed_goes_on():
    """Where its state dict is loaded."""
    bn = BatchNorm(bias_correction=True).fit(unobserved())
    for correction in (True, False):
        fresh = BatchNorm(bias_correction=correction)
        fresh.load_state_dict(bn.state_dict()).partial_fit(ROWS)
        assert fresh.running_mean_[1] == pytest.approx(ROWS[:, 1].mean())
        assert fresh.running_var_[1] == pytest.approx(ROWS[:, 1].var(ddof=1))


@pytest.mark.filterwarnings("ignore:Too few observed values in feature x1")
def test_a_feature_never_observed_can_not_be_folded():
    bn = BatchNorm(bias_correction=True).partial_fit(unobserved())
    with pytest.raises(ValueError, match="feature x1 was never observed"):
        by_fold(bn, ROWS)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("variance", ["within", "total"])
def test_rounding_noise_is_not_amplified(door, variance):
    """Without eps, a variance that rounding of the mean can make counts as 0."""
    noise = noise_in_x1()
    bn = BatchNorm(eps=0, variance=variance, batch_size=None).fit(noise)
    X = with_value(noise, (slice(None), 1), 0.31)
    out = DOORS[door](bn, X)
    assert_allclose(out[:, 1], 0.01, rtol=1e-10)
    assert_allclose(out, bn.transform(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("door", ["ONNX", "tensors", "dask"])
def test_rounding_noise_of_x_alone_is_not_amplified(door):
    """Where X is normalised by its own statistics."""
    noise = noise_in_x1()
    bn = BatchNorm(eps=0, track_running_stats=False).fit(noise)
    out = DOORS[door](bn, noise)
    assert np.abs(out[:, 1]).max() < 1e-15
    assert_allclose(out, bn.transform(noise), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("rule", [{}, {"variance": "total", "weight_init": 2.0}])
def test_without_a_bias(door, rule):
    bn = BatchNorm(bias=False, **rule).fit(ROWS)
    assert bn.bias_ is None
    assert "bias" not in bn.state_dict()
    expected = BatchNorm(**rule).fit(ROWS).transform(ROWS)
    assert_allclose(DOORS[door](bn, ROWS), expected, rtol=1e-10, atol=1e-12)
    bias = {"bias": np.zeros(3)}
    with pytest.raises(ValueError, match=r"unknown \['bias'\]"):
        bn.load_state_dict(bn.state_dict() | bias)


@pytest.mark.parametrize("door", [name for name in DOORS if name != "fold"])
@pytest.mark.parametrize("with_mean", [True, False])
def test_limited_and_filled(door, with_mean):
    bn = BatchNorm(
        with_mean=with_mean, weight_init=-2.0, clip=0.6, handle_missing="mean"
    ).fit(ROWS)
    X = with_value(ROWS, (slice(None, None, 3), 1), np.nan)
    out = DOORS[door](bn, X)
    assert np.abs(out).max() == 1.2
    assert_allclose(out, bn.transform(X), rtol=1e-10, atol=1e-12)


def test_sparse_columns_on_dask():
    dd = pytest.importorskip("dask.dataframe")
    pytest.importorskip("distributed")
    from sk_batchnorm.dask import DaskBatchNorm1dTransformer

    dense = np.array([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0], [2.0, 1.0]] * 5)
    frame = pd.DataFrame(
        {
            "a": pd.arrays.SparseArray(dense[:, 0], fill_value=1),
            "b": pd.arrays.SparseArray(dense[:, 1], fill_value=0),
        }
    )
    for with_mean in (True, False):
        bn = DaskBatchNorm1dTransformer(with_mean=with_mean, batch_size=None)
        bn.fit(dd.from_pandas(frame, npartitions=2))
        assert_allclose(bn.running_mean_, dense.mean(axis=0), rtol=1e-12)
