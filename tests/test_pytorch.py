"""Parity with torch.nn.BatchNorm1d: the same numbers after the same batches.

Golden vectors, made by tests/data/make_pytorch_golden.py, prove it without
PyTorch; where PyTorch is installed, random layers prove it again.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sk_batchnorm import BatchNorm1dTransformer

from .laws import seeds

GOLDEN = np.load(Path(__file__).parent / "data" / "pytorch_batch_norm_1d.npz")
RTOL = {"float64": 1e-12, "float32": 1e-5}


def assert_close(actual, expected, rtol, size):
    """Equal to ``rtol`` of the numbers that went into the result.

    Where those cancel (a mean near 0, an output near 0), each side is left
    with the rounding of what cancelled, which no relative tolerance of the
    result itself can allow for. Likewise a float32 layer rounds 1 − momentum
    to float32, which near momentum 1 is all that an old, large value is
    multiplied with. ``size`` is how large those numbers are.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.float64) - expected)
    assert (error <= rtol * np.maximum(np.abs(expected), size)).all(), error.max()


def assert_same_layer(bn, batches, X, state, output):
    """``bn`` after ``batches`` is a PyTorch layer of ``state`` and ``output``."""
    rtol, axes = RTOL[X.dtype.name], (0, *range(2, X.ndim))
    largest = np.max([np.abs(each).max(axis=axes) for each in (*batches, X)], axis=0)
    if "running_mean" in state:
        assert_close(
            bn.running_mean_, state["running_mean"], rtol, largest.astype(float)
        )
        variances = [batch.var(axis=axes, ddof=1, dtype=float) for batch in batches]
        largest_var = np.max([np.ones(X.shape[1]), *variances], axis=0)
        assert_close(bn.running_var_, state["running_var"], rtol, largest_var)
        assert bn.num_batches_tracked_ == state["num_batches_tracked"]
        mean, var = bn.running_mean_, bn.running_var_
    else:
        assert bn.running_mean_ is bn.running_var_ is bn.num_batches_tracked_ is None
        mean, var = X.mean(axis=axes, dtype=float), X.var(axis=axes, dtype=float)
    weight, bias = (1.0, 0.0) if bn.weight_ is None else (bn.weight_, bn.bias_)
    # PyTorch computes x·α + (bias − mean·α) with α = weight / sqrt(var + eps).
    alpha = np.abs(weight) / np.sqrt(var + bn.eps)
    result = bn.transform(X)
    assert result.dtype == X.dtype
    features_last = np.moveaxis(np.abs(X), 1, -1)
    size = (features_last + np.abs(mean)) * alpha + np.abs(bias)
    assert_close(result, output, rtol, np.moveaxis(size, -1, 1))


@pytest.mark.parametrize(
    "case", sorted({key.split("/")[0] for key in GOLDEN if key.startswith("case")})
)
def test_golden_vectors(case):
    settings = json.loads(str(GOLDEN[f"{case}/settings"]))
    prefix = f"{case}/state/"
    state = {k.removeprefix(prefix): GOLDEN[k] for k in GOLDEN if k.startswith(prefix)}
    *batches, X = GOLDEN[f"{case}/batches"]
    bn = BatchNorm1dTransformer(
        weight_init=state.get("weight"), bias_init=state.get("bias"), **settings
    )
    for batch in batches:
        bn.partial_fit(batch)
    assert_same_layer(bn, batches, X, state, GOLDEN[f"{case}/output"])
    # The checkpoint itself loads, and gives the same output.
    loaded = BatchNorm1dTransformer(num_features=X.shape[1], **settings)
    loaded.load_state_dict(state)
    assert_same_layer(loaded, batches, X, state, GOLDEN[f"{case}/output"])


@st.composite
def layers(draw):
    """Parameters of a layer, and mini-batches of two or three dimensions."""
    settings = {
        "momentum": draw(st.floats(0, 1) | st.none()),
        "eps": draw(st.floats(1e-12, 1.0)),
        "affine": draw(st.booleans()),
        "track_running_stats": draw(st.booleans()),
    }
    trailing = draw(st.just(()) | st.tuples(st.integers(2, 30)))
    n_features = draw(st.integers(1, 5 if trailing else 50))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    n_rows = st.integers(2, 9 if trailing else 300)
    rows = draw(st.lists(n_rows, min_size=2, max_size=31))
    rng = np.random.default_rng(draw(seeds))
    loc, scale = rng.normal(0, 5, n_features), rng.uniform(0.1, 5, n_features)
    draws = [rng.normal(loc, scale, (n, *trailing, n_features)) for n in rows]
    batches = [np.moveaxis(each, -1, 1).astype(dtype) for each in draws]
    weight, bias = rng.normal(size=(2, n_features)).astype(dtype)
    return settings, batches, weight, bias


@given(layers())
def test_random_layers(layer):
    torch = pytest.importorskip("torch")
    settings, (*batches, X), weight, bias = layer
    peer = torch.nn.BatchNorm1d(
        X.shape[1], dtype=getattr(torch, X.dtype.name), **settings
    )
    bn = BatchNorm1dTransformer(weight_init=weight, bias_init=bias, **settings)
    if settings["affine"]:
        with torch.no_grad():
            peer.weight.copy_(torch.from_numpy(weight))
            peer.bias.copy_(torch.from_numpy(bias))
    for batch in batches:
        peer(torch.from_numpy(batch))
        bn.partial_fit(batch)
    peer.eval()
    with torch.no_grad():
        output = peer(torch.from_numpy(X)).numpy()
    state = {key: value.numpy() for key, value in peer.state_dict().items()}
    assert_same_layer(bn, batches, X, state, output)


@given(
    seed=seeds,
    momentum=st.floats(0.2, 1),
    n_rows=st.integers(2, 60),
    batch_size=st.integers(2, 20),
)
def test_fit_is_where_repeated_epochs_arrive(seed, momentum, n_rows, batch_size):
    torch = pytest.importorskip("torch")
    X = np.random.default_rng(seed).normal(3.0, 2.0, (n_rows, 2))
    bn = BatchNorm1dTransformer(momentum=momentum, batch_size=batch_size).fit(X)
    parts = np.array_split(X, max(1, n_rows // batch_size))
    mini_batches = list(map(torch.from_numpy, parts))
    assert bn.num_batches_tracked_ == len(mini_batches)
    layer = torch.nn.BatchNorm1d(2, momentum=momentum, dtype=torch.float64)
    # 0.8**200 < 1e-19: no trace of the start is left.
    while layer.num_batches_tracked < 200:
        for batch in mini_batches:
            layer(batch)
    # 200 steps of rounding on both sides.
    assert_close(bn.running_mean_, layer.running_mean, 1e-12, np.abs(X).max())
    assert_close(bn.running_var_, layer.running_var, 1e-12, 1.0)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track_running_stats", [True, False])
def test_checkpoints_move_both_ways(affine, track_running_stats):
    torch = pytest.importorskip("torch")
    settings = {"affine": affine, "track_running_stats": track_running_stats}
    X = np.random.default_rng(0).normal(2.0, 3.0, (5, 16, 4))
    layer = torch.nn.BatchNorm1d(4, dtype=torch.float64, **settings)
    bn = BatchNorm1dTransformer(4, **settings).load_state_dict(layer.state_dict())
    for batch in X[:2]:
        layer(torch.from_numpy(batch))
        bn.partial_fit(batch)
    # Over to PyTorch in mid-stream, and on.
    heir = torch.nn.BatchNorm1d(4, dtype=torch.float64, **settings)
    heir.load_state_dict({k: torch.from_numpy(v) for k, v in bn.state_dict().items()})
    for batch in X[2:4]:
        layer(torch.from_numpy(batch))
        heir(torch.from_numpy(batch))
    layer.eval()
    heir.eval()
    with torch.no_grad():
        x = torch.from_numpy(X[4])
        np.testing.assert_allclose(heir(x), layer(x), rtol=1e-12, atol=1e-12)
