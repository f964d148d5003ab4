"""Every cell of the README's comparison table, in its order.

What others do may improve any day: these tests run weekly, by ``pytest -m peers``.
"""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from sk_batchnorm import BatchNorm1dTransformer

pytestmark = pytest.mark.peers

NAN = np.array([[1.0], [np.nan], [2.0]])
INFINITE = np.array([[1.0], [np.inf], [2.0]])
LARGE = np.array([[1e300], [-1e300], [0.5e300]])
CONSTANT = np.full((1000, 1), 10_000_001, dtype=np.float32)


def ours(data, **settings):
    return BatchNorm1dTransformer(**settings).partial_fit(data)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def river_scaler():
    return pytest.importorskip("river.preprocessing").AdaptiveStandardScaler()


def torch_layer(torch, *batches, momentum=0.1):
    layer = torch.nn.BatchNorm1d(1, momentum=momentum, dtype=torch.float64)
    for batch in batches:
        layer(torch.from_numpy(batch))
    return layer


def learn_rows(scaler, data):
    for x in data[:, 0].tolist():
        scaler.learn_one({"x": x})
    return scaler.means["x"].get(), scaler.vars["x"].get()


def test_the_table_has_these_rows():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = readme.split("## How it compares")[1].split("## ")[0]
    rows = re.findall(r"^\| ([^|\s].*?) \|", table, flags=re.MULTILINE)
    tests = [name for name in globals() if re.match(r"test_\d\d_", name)]
    assert len(tests) == len(rows)
    for test, row in zip(tests, rows, strict=True):
        words = re.sub(r"\W+", "_", row.lower()).strip("_")
        assert words.startswith(test[8:]), (test, row)


def test_01_forgets_old_data(torch, river_scaler):
    # 200 mini-batches around 0, then 50 around 100.
    rng = np.random.default_rng(0)
    batches = [rng.normal(0, 1, (16, 1)) for _ in range(200)]
    batches += [rng.normal(100, 1, (16, 1)) for _ in range(50)]
    bn, scaler = BatchNorm1dTransformer(), StandardScaler()
    for batch in batches:
        bn.partial_fit(batch)
        scaler.partial_fit(batch)
    assert abs(bn.running_mean_[0] - 100) < 1
    assert abs(torch_layer(torch, *batches).running_mean.item() - 100) < 1
    assert abs(learn_rows(river_scaler, np.concatenate(batches))[0] - 100) < 2
    assert scaler.mean_[0] < 25


def test_02_learns_a_mini_batch_of_rows_in_one_call(torch, river_scaler):
    data = np.arange(10.0)[:, None]
    assert torch_layer(torch, data).num_batches_tracked == 1
    assert StandardScaler().partial_fit(data).n_samples_seen_ == 10
    assert not hasattr(river_scaler, "learn_many")
    assert ours(data).num_batches_tracked_ == 1


def test_03_learns_a_single_row(torch, river_scaler):
    row = np.array([[3.0]])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch_layer(torch, row)
    assert StandardScaler().partial_fit(row).mean_ == 3.0
    assert learn_rows(river_scaler, row)[0] == 3.0
    assert ours(row, variance="total", bias_correction=True).running_mean_ == 3.0
    assert ours(row, halflife=5).running_mean_ == 3.0


def test_04_forgets_by_the_time_between_rows(torch, river_scaler):
    learners = torch_layer(torch).forward, StandardScaler.partial_fit
    for learn in (*learners, river_scaler.learn_one):
        assert not {"times", "t"} & set(inspect.signature(learn).parameters)
    bn = BatchNorm1dTransformer(halflife=1).fit([[0.0], [3.0]], times=[0, 1])
    assert_allclose(bn.running_mean_, 2.0, rtol=1e-15)


def test_05_lives_in_a_scikit_learn_pipeline(torch, river_scaler):
    assert isinstance(BatchNorm1dTransformer(), BaseEstimator)
    assert isinstance(StandardScaler(), BaseEstimator)
    for peer in (torch_layer(torch), river_scaler):
        assert not hasattr(peer, "fit")
        assert not hasattr(peer, "get_params")


def test_06_weight_and_bias_after_scaling(torch, river_scaler):
    assert torch_layer(torch).weight is not None
    assert ours(LARGE[1:]).weight_ is not None
    for peer in (StandardScaler().fit(CONSTANT), river_scaler):
        assert not hasattr(peer, "bias_")
        assert not hasattr(peer, "bias")


def test_07_inverse_transform(torch, river_scaler):
    assert hasattr(StandardScaler, "inverse_transform")
    assert hasattr(BatchNorm1dTransformer, "inverse_transform")
    assert not hasattr(torch.nn.BatchNorm1d, "inverse_transform")
    assert not hasattr(river_scaler, "inverse_transform_one")


def test_08_sample_weights(torch, river_scaler):
    def parameters(function):
        return {*inspect.signature(function).parameters}

    assert "sample_weight" in parameters(StandardScaler.partial_fit)
    assert "sample_weight" in parameters(BatchNorm1dTransformer.partial_fit)
    assert parameters(river_scaler.learn_one) == {"x"}
    assert parameters(torch.nn.BatchNorm1d(1).forward) == {"input"}


def test_09_missing_values(torch, river_scaler):
    assert torch_layer(torch, NAN).running_mean.isnan().all()
    assert StandardScaler().partial_fit(NAN).mean_ == 1.5
    assert np.isnan(learn_rows(river_scaler, NAN)[0])
    assert ours(NAN, momentum=1.0).running_mean_ == 1.5


def test_10_sparse_data(torch, river_scaler):
    data = sparse.csr_matrix(np.eye(3))
    with pytest.raises(AttributeError):
        torch_layer(torch)(data)
    assert StandardScaler(with_mean=False).fit(data).n_samples_seen_ == 3
    with pytest.raises(AttributeError):
        river_scaler.learn_one(data)
    assert ours(data, with_mean=False).num_batches_tracked_ == 1
    for transformer in (StandardScaler(), BatchNorm1dTransformer()):
        with pytest.raises(ValueError, match="Cannot center sparse matrices"):
            transformer.fit(data)


def test_11_samples_by_channels_by_time_points(torch, river_scaler):
    data = np.arange(24.0).reshape(4, 1, 6)
    assert torch_layer(torch, data).num_batches_tracked == 1
    assert ours(data).transform(data).shape == data.shape
    with pytest.raises(ValueError, match="dim 3"):
        StandardScaler().fit(data)
    with pytest.raises(AttributeError):
        river_scaler.learn_one(data)


def test_12_an_infinity_in_the_data(torch, river_scaler):
    assert not torch_layer(torch, INFINITE).running_mean.isfinite().any()
    with pytest.raises(ValueError, match="infinity"):
        StandardScaler().partial_fit(INFINITE)
    assert not np.isfinite(learn_rows(river_scaler, INFINITE)[0])
    bn = ours(CONSTANT)
    with pytest.raises(ValueError, match="infinity"):
        bn.partial_fit(INFINITE)
    assert bn.num_batches_tracked_ == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_13_values_as_large_as_1e300(torch, river_scaler):
    assert not torch_layer(torch, LARGE).running_var.isfinite().any()
    with np.errstate(all="ignore"):
        assert not np.isfinite(StandardScaler().partial_fit(LARGE).var_).any()
        assert not np.isfinite(learn_rows(river_scaler, LARGE)[1])
    bn = ours(LARGE)
    assert np.isfinite(bn.running_mean_).all()
    assert np.isfinite(bn.running_var_).all()


def test_14_variance_of_a_constant_float32_column(torch, river_scaler):
    layer = torch.nn.BatchNorm1d(1, momentum=1.0)
    layer(torch.from_numpy(CONSTANT))
    assert layer.running_var.item() > 1
    assert StandardScaler().partial_fit(CONSTANT).var_ == 0
    assert learn_rows(river_scaler, CONSTANT)[1] == 0
    assert ours(CONSTANT, momentum=1.0).running_var_ == 0


def test_calibration_of_a_pipeline_in_onnx():
    """When skl2onnx mends it, the page of sk_batchnorm.onnx is to be mended."""
    skl2onnx = pytest.importorskip("skl2onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("sk_batchnorm.onnx")
    X = np.random.default_rng(0).normal(3.0, 2.0, (60, 4)).astype(np.float32)
    y = X[:, 0] + X[:, 1] > 6
    classifier = LogisticRegression()
    wrong = CalibratedClassifierCV(make_pipeline(MinMaxScaler(), classifier), cv=2)
    right = make_pipeline(
        BatchNorm1dTransformer(), CalibratedClassifierCV(classifier, cv=2)
    )
    errors = []
    for model in (wrong.fit(X, y), right.fit(X, y)):
        graph = skl2onnx.to_onnx(model, X)
        session = runtime.InferenceSession(graph.SerializeToString())
        _, probability = session.run(None, {"X": X})
        probability = [list(each.values()) for each in probability]
        errors.append(np.abs(probability - model.predict_proba(X)).max())
    assert errors[0] > 0.1
    assert errors[1] < 1e-5
