"""Layers move between scikit-learn and PyTorch, and go on training."""

import io
import sys
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm.pipeline import make_streaming_pipeline

torch = pytest.importorskip("torch")

from torch.nn.utils import prune  # noqa: E402
from torch.nn.utils.parametrizations import weight_norm  # noqa: E402

from sk_batchnorm.torch import from_torch, to_torch  # noqa: E402

from .laws import unchanged  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal([5.0, -100.0, 0.01], [2.0, 10.0, 0.5], (64, 3))


def tensor(array, dtype=torch.float64):
    return torch.from_numpy(np.asarray(array)).to(dtype)


def output(layer, data, dtype=torch.float64):
    """What a layer in eval mode makes of data."""
    was_training = layer.training
    with torch.no_grad():
        Y = layer.eval()(tensor(data, dtype)).to(torch.float64).numpy()
    layer.train(was_training)
    return Y


def trained(layer, dtype=torch.float64, n_steps=3):
    layer.to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += torch.linspace(0.5, 1.5, 3, dtype=dtype)
        for step in range(n_steps):
            layer(tensor(X[step::3], dtype))
    return layer


@given(
    n_steps=st.integers(0, 5),
    momentum=st.floats(0, 1) | st.none(),
    eps=st.floats(1e-8, 1.0),
    affine=st.booleans(),
    bias=st.booleans(),
    track_running_stats=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_a_layer_moves_over_and_back(
    n_steps, momentum, eps, affine, bias, track_running_stats, dtype
):
    settings = {
        "momentum": momentum,
        "eps": eps,
        "affine": affine,
        "track_running_stats": track_running_stats,
    }
    layer = trained(torch.nn.BatchNorm1d(3, bias=bias, **settings), dtype, n_steps)
    bn = from_torch(layer)
    assert {name: bn.get_params()[name] for name in settings} == settings
    # The layer's sums x·α + (bias − mean·α) round at the size of their terms: of
    # |X| / std, which is some 110 where the variance is still that of the start.
    rtol, size = (1e-12, 200) if dtype == torch.float64 else (1e-5, 200)
    assert_allclose(
        bn.transform(X), output(layer, X, dtype), rtol=rtol, atol=rtol * size
    )
    # There and back, nothing is lost: every float32 is a float64.
    back = to_torch(bn, dtype=dtype)
    assert back.training
    assert back.extra_repr().startswith(f"3, eps={eps}, momentum={momentum}")
    state = back.state_dict()
    for key, value in layer.state_dict().items():
        assert state[key].dtype == value.dtype
        assert torch.equal(state[key], value)
    assert state.keys() == layer.state_dict().keys()
    assert (bn.bias, bn.bias_ is None) == (bias or not affine, not (affine and bias))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_dtype(dtype):
    assert to_torch(BatchNorm1dTransformer().fit(X)).weight.dtype == torch.float32
    layer = torch.nn.BatchNorm1d(3, dtype=dtype)
    with torch.no_grad():
        layer.running_mean += tensor([1.0, 2.0, 1 / 3], dtype)
    bn = from_torch(layer)
    assert bn.running_mean_.dtype == np.float64
    assert bn.running_mean_[2] == float(tensor([1 / 3], dtype)[0])
    back = to_torch(bn, dtype=dtype, device="cpu")
    assert torch.equal(back.running_mean, layer.running_mean)
    assert back.num_batches_tracked.dtype == torch.int64


def test_the_kinds_of_layers():
    expected = output(trained(torch.nn.BatchNorm1d(3)), X)
    lazy = torch.nn.LazyBatchNorm1d()
    lazy(torch.zeros(2, 3))
    lazy.reset_running_stats()
    assert_array_equal(output(trained(lazy), X), expected)
    assert_allclose(from_torch(lazy).transform(X), expected, rtol=1e-12, atol=1e-10)
    # A SyncBatchNorm trains on GPUs only; its state is that of the others.
    sync = torch.nn.SyncBatchNorm.convert_sync_batchnorm(trained(lazy))
    assert isinstance(sync, torch.nn.SyncBatchNorm)
    assert_array_equal(from_torch(sync).running_var_, from_torch(lazy).running_var_)


def test_the_transformer_is_no_view_of_the_layer():
    layer = trained(torch.nn.BatchNorm1d(3))
    bn = from_torch(layer)  # of float64: nothing to convert
    start = bn.weight_.copy()
    with unchanged(bn):
        trained(layer)
        trained(to_torch(bn, dtype=torch.float64))
    assert_array_equal(bn.fit(X).weight_, start)


def network_of_wine(n_steps=60):
    """A network trained on wine, its data, and its linear layer as a classifier."""
    data, target = load_wine(return_X_y=True)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.BatchNorm1d(13), torch.nn.Linear(13, 3)
    ).double()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    rng = np.random.default_rng(0)
    for _ in range(n_steps):
        rows = rng.permutation(len(data))[:32]
        loss = torch.nn.functional.cross_entropy(
            network(tensor(data[rows])), torch.from_numpy(target[rows])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    linear = network[1]
    classifier = LogisticRegression()
    classifier.classes_ = np.unique(target)
    classifier.coef_ = linear.weight.detach().numpy()
    classifier.intercept_ = linear.bias.detach().numpy()
    return network, data, target, classifier


@pytest.mark.parametrize("affine", [True, False])
def test_a_stream_is_handed_over_and_goes_on(affine):
    rng = np.random.default_rng(0)
    batches = rng.normal(3.0, 2.0, (6, 16, 3))
    grads = rng.normal(size=batches.shape)

    def step(bn, batch, grad):
        bn.forward(batch)
        bn.backward(grad)
        if affine:
            bn.weight_ -= 0.1 * bn.weight_grad_
            bn.bias_ -= 0.1 * bn.bias_grad_

    bn = BatchNorm1dTransformer(affine=affine).fit(X)
    for batch, grad in zip(batches[:3], grads[:3], strict=True):
        step(bn, batch, grad)
    layer = to_torch(bn, dtype=torch.float64)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1) if affine else None
    for batch, grad in zip(batches[3:], grads[3:], strict=True):
        step(bn, batch, grad)
        y = layer(tensor(batch))
        if optimiser is not None:
            optimiser.zero_grad()
            y.backward(tensor(grad))
            optimiser.step()
    for key, value in layer.state_dict().items():
        # Three steps of rounding on numbers of about 100.
        assert_allclose(bn.state_dict()[key], value, rtol=1e-12, atol=1e-11)
    assert_allclose(bn.transform(X), output(layer, X), rtol=1e-11, atol=1e-11)


# In a Pipeline


@pytest.mark.parametrize("bias", [True, False])
def test_the_affine_map_survives_fit_and_clone(bias):
    layer = trained(torch.nn.BatchNorm1d(3, bias=bias))
    bn = from_torch(layer)
    y = X[:, 0] > 5
    pipe = make_pipeline(bn, LogisticRegression()).fit(X, y)
    search = GridSearchCV(pipe, {"batchnorm1dtransformer__batch_size": [16]}).fit(X, y)
    for fitted in (pipe[0], search.best_estimator_[0], clone(bn).partial_fit(X)):
        assert_array_equal(fitted.weight_, layer.weight.detach())
        if bias:
            assert_array_equal(fitted.bias_, layer.bias.detach())
    # Training in place changes what is learned, not where it starts.
    bn.weight_ *= 2
    assert_array_equal(bn.weight_init, layer.weight.detach())


def test_a_network_a_stream_and_back_and_to_onnx():
    """Trained in PyTorch, adapted to rows without labels, put back, exported."""
    network, data, target, classifier = network_of_wine()
    norm, linear = network
    stream = make_streaming_pipeline(from_torch(norm), FrozenEstimator(classifier))
    close = {"rtol": 1e-10, "atol": 1e-10}  # sums of 13 terms
    assert_allclose(stream.decision_function(data), output(network, data), **close)
    assert stream.score(data, target) > 0.9

    # The sensors drift; nobody has labelled what they see.
    drifted = 1.5 * data + 10
    rng = np.random.default_rng(0)
    network.train()
    network[1].eval()
    for batch in np.array_split(drifted[rng.permutation(len(data))], 8):
        stream.partial_fit(batch)
        with torch.no_grad():
            norm(tensor(batch))
    expected = output(network, drifted)
    assert_allclose(stream.decision_function(drifted), expected, **close)

    put_back = torch.nn.Sequential(torch.nn.BatchNorm1d(13), linear).double().eval()
    assert to_torch(stream[0], into=put_back[0]) is put_back[0]
    assert_allclose(output(put_back, drifted), expected, **close)

    runtime = pytest.importorskip("onnxruntime")
    to_onnx = pytest.importorskip("skl2onnx").to_onnx
    import sk_batchnorm.onnx  # noqa: F401, registers

    graph = to_onnx(stream, drifted, options={id(stream): {"zipmap": False}})
    session = runtime.InferenceSession(graph.SerializeToString())
    labels, probabilities = session.run(None, {"X": drifted})
    assert_array_equal(labels, expected.argmax(axis=1))
    assert_allclose(probabilities, softmax(expected, axis=1), rtol=1e-9, atol=1e-12)


# Into a layer that is there


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [torch.nn.BatchNorm1d, torch.nn.SyncBatchNorm])
def test_into_a_layer(kind, dtype):
    layer = kind(3, dtype=dtype).eval()
    layer.bias.requires_grad_(False)
    before = dict(layer.named_parameters()), dict(layer.named_buffers())
    bn = BatchNorm1dTransformer(
        momentum=None, eps=0.5, weight_init=[1.0, 2.0, 3.0], bias_init=7.0
    ).fit(X)
    assert to_torch(bn, into=layer) is layer
    assert not layer.training
    assert (layer.eps, layer.momentum) == (0.5, None)
    # The same tensors, which an optimizer may hold.
    assert (dict(layer.named_parameters()), dict(layer.named_buffers())) == before
    assert (layer.weight.requires_grad, layer.bias.requires_grad) == (True, False)
    for key, value in to_torch(bn, dtype=dtype).state_dict().items():
        assert layer.state_dict()[key].dtype == value.dtype
        assert torch.equal(layer.state_dict()[key], value)


def test_a_layer_without_a_count():
    """As in checkpoints from before PyTorch 0.4.1."""
    layer = torch.nn.BatchNorm1d(3, dtype=torch.float64)
    layer.num_batches_tracked = None
    assert from_torch(layer).num_batches_tracked_ == 0
    bn = BatchNorm1dTransformer(momentum=None).fit(X)
    to_torch(bn, into=layer)
    layer(tensor(X[:10]))
    bn.partial_fit(X[:10])
    assert_allclose(layer.running_mean, bn.running_mean_, rtol=1e-12)
    assert int(layer.num_batches_tracked) == bn.num_batches_tracked_


@pytest.mark.parametrize(
    ("layer", "settings", "error", "message"),
    [
        (torch.nn.BatchNorm1d(4), {}, ValueError, "4 features, the transformer 3"),
        (torch.nn.BatchNorm1d(3, affine=False), {}, ValueError, "The layer has"),
        (torch.nn.BatchNorm1d(3), {"bias": False}, ValueError, "The layer has"),
        (torch.nn.BatchNorm1d(3), {"track_running_stats": False}, ValueError, "has"),
        (torch.nn.BatchNorm1d(3), {"scale": 1e30}, ValueError, "too large"),
        (torch.nn.Linear(3, 3), {}, TypeError, "got Linear"),
        (
            torch.nn.utils.parametrizations.weight_norm(torch.nn.BatchNorm1d(3)),
            {},
            TypeError,
            "computes its weight",
        ),
        (
            prune.l1_unstructured(torch.nn.BatchNorm1d(3), "weight", 1),
            {},
            TypeError,
            "computes its weight",
        ),
    ],
)
def test_into_a_layer_that_does_not_fit(layer, settings, error, message):
    settings = dict(settings)
    data = settings.pop("scale", 1.0) * X
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    bn = BatchNorm1dTransformer(momentum=0.7, **settings).fit(data)
    with pytest.raises(error, match=message):
        to_torch(bn, into=layer)
    assert getattr(layer, "momentum", 0.1) == 0.1
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key])


# More than a plain layer


class WithReLU(torch.nn.BatchNorm1d):
    def forward(self, input):
        return super().forward(input).relu()


class CalledWithReLU(torch.nn.BatchNorm1d):
    def __call__(self, input):
        return super().__call__(input).relu()


def hooked(register):
    layer = torch.nn.BatchNorm1d(3)
    getattr(layer, register)(lambda *args: None)
    return layer


def patched():
    layer = torch.nn.BatchNorm1d(3)
    layer.forward = lambda input: input
    return layer


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: WithReLU(3), TypeError, "WithReLU has a forward of its own"),
        (lambda: CalledWithReLU(3), TypeError, "CalledWithReLU has a forward of"),
        (patched, TypeError, "a forward of its own"),
        (lambda: hooked("register_forward_hook"), TypeError, "a forward hook"),
        (lambda: hooked("register_forward_pre_hook"), TypeError, "a forward hook"),
        (lambda: torch.nn.BatchNorm1d(3, device="meta"), ValueError, "load_state_dict"),
        (lambda: torch.compile(torch.nn.BatchNorm1d(3)), TypeError, "`_orig_mod`"),
        (
            lambda: torch.jit.script(torch.nn.BatchNorm1d(3)),
            TypeError,
            r"load_state_dict\(layer.state_dict\(\)\)",
        ),
    ],
)
def test_what_is_more_than_a_plain_layer(make, error, message):
    layer = make()
    with pytest.raises(error, match=message):
        from_torch(layer)
    with pytest.raises(error, match=message):
        to_torch(BatchNorm1dTransformer().fit(X), into=layer)


def test_a_subclass_that_computes_the_same():
    class Named(torch.nn.BatchNorm1d):
        """Has a name of its own, and the parent's forward."""

    layer = trained(Named(3))
    assert_allclose(from_torch(layer).transform(X), output(layer, X), atol=1e-10)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        torch.nn.utils.weight_norm,
        weight_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 1),
        lambda layer: prune.l1_unstructured(layer, "bias", 1),
    ],
    ids=["weight_norm", "parametrized", "pruned weight", "pruned bias"],
)
def test_a_weight_that_is_computed(wrap):
    layer = wrap(trained(torch.nn.BatchNorm1d(3)))
    with torch.no_grad():  # as a step of an optimizer, after the last forward pass
        for parameter in layer.parameters():
            parameter *= 1.5
    before = dict(vars(layer))
    bn = from_torch(layer)
    assert all(vars(layer)[name] is value for name, value in before.items())
    assert_allclose(bn.transform(X), output(layer, X), rtol=1e-12, atol=1e-10)


def test_lazy_layers_that_know_too_little():
    lazy = torch.nn.LazyBatchNorm1d(dtype=torch.float64)
    lazy.load_state_dict(trained(torch.nn.BatchNorm1d(3)).state_dict())
    with pytest.raises(ValueError, match="in eval mode"):
        from_torch(lazy)
    expected = output(lazy, X)
    assert_allclose(from_torch(lazy).transform(X), expected, rtol=1e-12, atol=1e-10)
    assert to_torch(BatchNorm1dTransformer().fit(X), into=lazy) is lazy
    # PyTorch does not keep the number of features if nothing is learned.
    layer = torch.nn.LazyBatchNorm1d(affine=False, track_running_stats=False).double()
    expected = layer(tensor(X))
    with pytest.raises(ValueError, match=r"`layer.num_features = 3`"):
        from_torch(layer)
    layer.num_features = 3
    assert_allclose(from_torch(layer).transform(X), expected, atol=1e-10)


# Checkpoints


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float16, torch.bfloat16]
    + [getattr(torch, name) for name in dir(torch) if name.startswith("float8")],
)
def test_tensors_of_any_dtype_in_a_state_dict(dtype):
    state = {
        "weight": torch.tensor([1.0, 2.0, 4.0]).to(dtype),
        "bias": torch.tensor([1.0, 0.5, 2.0]).to(dtype).double().requires_grad_(),
        "running_mean": torch.nn.Parameter(torch.tensor([0.5, 1.0, 1.0])),
        "running_var": torch.tensor([4.0, 1.0, 1.0]).to(dtype),
        "num_batches_tracked": torch.tensor(3),
    }
    loaded = BatchNorm1dTransformer().load_state_dict(state).state_dict()
    for key, value in state.items():
        assert_array_equal(loaded[key], value.detach().double().numpy())


@pytest.mark.parametrize("settings", [{}, {"affine": False}], ids=str)
def test_state_dict_through_torch_save(settings):
    bn = BatchNorm1dTransformer(3, **settings).fit(X)
    state = bn.state_dict()
    file = io.BytesIO()
    torch.save({key: torch.from_numpy(state[key]) for key in state}, file)
    file.seek(0)
    loaded = BatchNorm1dTransformer(3, **settings)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert_array_equal(loaded.transform(X), bn.transform(X))
    assert loaded.num_batches_tracked_ == bn.num_batches_tracked_


def test_state_dict_through_safetensors():
    numpy = pytest.importorskip("safetensors.numpy")
    gaps = np.where(RNG.random(X.shape) < 0.3, np.nan, X)
    gaps[32:, 0] = np.nan
    bn = BatchNorm1dTransformer(batch_size=8).fit(gaps)
    assert bn.num_batches_tracked_.tolist() == [4, 8, 8]
    loaded = BatchNorm1dTransformer().load_state_dict(
        numpy.load(numpy.save(bn.state_dict()))
    )
    for key, value in bn.state_dict().items():
        assert_array_equal(loaded.state_dict()[key], value)
        assert loaded.state_dict()[key].dtype == value.dtype


# Errors


def test_what_is_no_layer():
    with pytest.raises(TypeError, match="got Linear"):
        from_torch(torch.nn.Linear(3, 3))
    with pytest.raises(TypeError, match="got BatchNorm2d"):
        from_torch(torch.nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="LazyBatchNorm1d does not know"):
        from_torch(torch.nn.LazyBatchNorm1d())
    layer = torch.nn.BatchNorm1d(3)
    layer.running_mean[1] = float("nan")
    with pytest.raises(ValueError, match="running_mean contains NaN"):
        from_torch(layer)
    state = BatchNorm1dTransformer().fit(X).state_dict()
    state["weight"] = torch.ones(3, dtype=torch.complex64)
    with pytest.raises(ValueError, match="weight has dtype complex64"):
        BatchNorm1dTransformer().load_state_dict(state)


FITTED = BatchNorm1dTransformer().fit(X)


@pytest.mark.parametrize(
    ("transformer", "options", "error", "message"),
    [
        (StandardScaler().fit(X), {}, TypeError, "got StandardScaler"),
        (torch.nn.BatchNorm1d(3), {}, TypeError, "got BatchNorm1d"),
        (BatchNorm1dTransformer(), {}, NotFittedError, "not fitted"),
        (clone(FITTED).fit(X).set_params(eps=-1.0), {}, InvalidParameterError, "eps"),
        (
            clone(FITTED).fit(X).set_params(momentum=7.0),
            {},
            InvalidParameterError,
            "momentum",
        ),
        (
            clone(FITTED).fit(1e30 * X),
            {},
            ValueError,
            r"running_var .* too large for torch.float32",
        ),
        *[
            (FITTED, {"into": torch.nn.BatchNorm1d(3), **other}, ValueError, "its own")
            for other in ({"dtype": torch.float64}, {"device": "cpu"})
        ],
    ],
)
def test_what_has_no_layer(transformer, options, error, message):
    with pytest.raises(error, match=message):
        to_torch(transformer, **options)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_a_layer_has_a_floating_point_dtype(dtype, affine):
    with pytest.raises(ValueError, match=f"floating-point.*{dtype}"):
        to_torch(BatchNorm1dTransformer(affine=affine).fit(X), dtype=dtype)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variance": "total"}, r"variance='within'.*set_params\(variance='within'\)"),
        ({"with_mean": False}, "with_mean=False and a mean other than 0"),
        ({"with_mean": False, "track_running_stats": False}, "with_mean=False"),
        (
            {"bias_correction": True},
            r"still acts after 6 mini-batches.*set_params\(bias_correction=False\)",
        ),
        ({"bias_correction": True, "momentum": 0}, "bias_correction=False"),
        ({"clip": 3.0}, r"has clip=3\.0.*set_params\(clip=None\)"),
        ({"clip": 3.0, "track_running_stats": False}, "does not clip"),
        (
            {"handle_missing": "mean"},
            r"leaves NaN as it is.*set_params\(handle_missing='keep'\)",
        ),
    ],
    ids=str,
)
def test_what_pytorch_can_not_express(settings, message):
    bn = BatchNorm1dTransformer(batch_size=10, **settings).fit(X)
    with pytest.raises(ValueError, match=message):
        to_torch(bn)


@pytest.mark.parametrize(
    "settings",
    [
        {"variance": "total", "momentum": 0},  # frozen, by whichever rule
        {"variance": "total", "track_running_stats": False},
        {"bias_correction": True, "momentum": None},  # always corrected
        {"bias_correction": True, "momentum": 1},  # nothing to correct
    ],
    ids=str,
)
def test_settings_that_change_no_output(settings):
    bn = BatchNorm1dTransformer(batch_size=10, **settings).fit(X)
    layer = to_torch(bn, dtype=torch.float64)
    for batch in (X[:20], X[20:]):
        bn.partial_fit(batch)
        layer(tensor(batch))
        assert_allclose(bn.transform(X), output(layer, X), rtol=1e-11, atol=1e-11)


def test_a_correction_that_has_faded_is_no_error():
    bn = BatchNorm1dTransformer(bias_correction=True, momentum=0.5)
    for _ in range(54):  # 1 − 0.5**54 is 1
        bn.partial_fit(X)
    layer = to_torch(bn, dtype=torch.float64)
    bn.partial_fit(X[:10])
    layer(tensor(X[:10]))
    assert_allclose(bn.running_var_, layer.running_var, rtol=1e-12)


def test_zero_variance_without_eps():
    constant = np.ones((4, 3))
    with pytest.raises(ValueError, match="would divide a feature by 0"):
        to_torch(BatchNorm1dTransformer(eps=0).fit(constant))
    # float32 has no such small numbers.
    tiny = BatchNorm1dTransformer(eps=1e-60).fit(constant)
    with pytest.raises(ValueError, match=r"eps=1e-60 is 0 in torch\.float32"):
        to_torch(tiny)
    to_torch(tiny, dtype=torch.float64)
    to_torch(BatchNorm1dTransformer(eps=0).fit(X))
    noise = np.random.default_rng(0).random((100, 3))
    noise = (noise + 0.3) - noise  # 0.3, but for rounding
    with pytest.raises(ValueError, match=r"by what rounding has left of it.* x0, x1"):
        to_torch(BatchNorm1dTransformer(eps=0, batch_size=None).fit(noise))


def test_a_feature_never_observed():
    gaps = X.copy()
    gaps[:, 1] = np.nan
    with pytest.warns(UserWarning, match="Too few observed values in feature x1"):
        bn = BatchNorm1dTransformer(bias_correction=True).partial_fit(gaps)
    with pytest.raises(ValueError, match="feature x1 was never observed"):
        to_torch(bn)
    # By PyTorch's rule it is where PyTorch starts.
    with pytest.warns(UserWarning, match="Too few observed values in feature x1"):
        bn = BatchNorm1dTransformer().partial_fit(gaps)
    layer = to_torch(bn, dtype=torch.float64)
    assert (layer.running_mean[1], layer.running_var[1]) == (0.0, 1.0)


@pytest.mark.parametrize("track_running_stats", [True, False])
def test_without_a_bias_training_goes_on(track_running_stats):
    layer = torch.nn.BatchNorm1d(
        3, bias=False, track_running_stats=track_running_stats, dtype=torch.float64
    )
    with torch.no_grad():
        layer.weight.copy_(tensor([2.0, -1.0, 0.5]))
    bn = from_torch(layer)
    assert bn.bias_ is None
    assert "bias" not in bn.state_dict()
    x = tensor(X).requires_grad_()
    layer(x).square().sum().backward()
    grad_input = bn.backward(2 * bn.forward(X))
    assert_allclose(grad_input, x.grad, atol=1e-10)
    assert_allclose(bn.weight_grad_, layer.weight.grad, rtol=1e-10)
    assert bn.bias_grad_ is None
    back = to_torch(bn, dtype=torch.float64)
    assert back.bias is None
    assert_allclose(bn.transform(X), output(layer, X), rtol=1e-10, atol=1e-12)
    assert_allclose(output(back, X), output(layer, X), rtol=1e-10, atol=1e-12)


def test_a_checkpoint_from_before_batches_were_counted():
    """PyTorch 0.4.1 brought num_batches_tracked, and loads what lacks it."""
    layer = trained(torch.nn.BatchNorm1d(3), torch.float32, 5)
    state = {k: v for k, v in layer.state_dict().items() if k != "num_batches_tracked"}
    theirs = torch.nn.BatchNorm1d(3)
    state_of_old = type(layer.state_dict())(state)  # without metadata, of version 1
    theirs.load_state_dict(state_of_old)
    bn = BatchNorm1dTransformer().load_state_dict(state)
    assert bn.num_batches_tracked_ == int(theirs.num_batches_tracked) == 0
    assert_allclose(bn.running_mean_, theirs.running_mean)
    bn.partial_fit(X)
    theirs(tensor(X, torch.float32))
    assert_allclose(bn.running_mean_, theirs.running_mean, rtol=1e-5)
    assert_allclose(bn.running_var_, theirs.running_var, rtol=1e-5)


def test_counts_that_differ():
    gaps = X.copy()
    gaps[:10, 0] = np.nan
    bn = BatchNorm1dTransformer(batch_size=10).fit(gaps)
    assert bn.num_batches_tracked_.tolist() == [5, 6, 6]
    layer = to_torch(bn, dtype=torch.float64)
    assert int(layer.num_batches_tracked) == 6
    bn.partial_fit(X)
    layer(tensor(X))
    assert_allclose(bn.running_var_, layer.running_var, rtol=1e-12)
    with pytest.raises(ValueError, match="PyTorch has one number for all features"):
        to_torch(bn.set_params(momentum=None, batch_size=10).fit(gaps))


def test_without_pytorch_an_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "sk_batchnorm.torch")
    with pytest.raises(ImportError, match=r'pip install "sk-batchnorm\[torch\]"'):
        import_module("sk_batchnorm.torch")
