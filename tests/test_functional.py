"""Training mode and its gradient: PyTorch's autograd, and finite differences.

The functions without state are the transformer; what is bad changes nothing.
"""

import copy
import pickle
from functools import partial

import joblib
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm.functional import batch_norm, batch_norm_backward

from .laws import seeds, unchanged, with_value

# What a gradient may differ by, relative to the largest of its numbers: sums of a
# few hundred terms whose rounding each side does in its own order.
RTOL = {"float64": 1e-10, "float32": 1e-4}


def assert_close(actual, expected, dtype):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    atol = RTOL[dtype] * max(1.0, np.abs(expected).max())
    assert_allclose(actual, expected, rtol=RTOL[dtype], atol=atol)


@st.composite
def problems(draw):
    """X, the gradient of a loss, weight and bias, in two or three dimensions."""
    n_features = draw(st.integers(1, 8))
    n_samples = draw(st.integers(4, 60))
    shape = (n_samples, n_features)
    if draw(st.booleans()):
        shape += (draw(st.integers(1, 9)),)
    dtype = draw(st.sampled_from(["float64", "float32"]))
    rng = np.random.default_rng(draw(seeds))
    X = rng.normal(rng.normal(), rng.uniform(0.5, 3.0), shape).astype(dtype)
    grad = rng.normal(size=shape).astype(dtype)
    weight, bias = rng.normal(size=(2, n_features)).astype(dtype)
    return X, grad, weight, bias


@given(
    problem=problems(),
    affine=st.booleans(),
    track_running_stats=st.booleans(),
    momentum=st.floats(0, 1) | st.none(),
    eps=st.floats(1e-8, 1.0),
    n_steps=st.integers(1, 4),
)
def test_a_layer_that_learns_is_pytorchs(
    problem, affine, track_running_stats, momentum, eps, n_steps
):
    torch = pytest.importorskip("torch")
    X, grad, weight, bias = problem
    dtype = X.dtype.name
    settings = {
        "affine": affine,
        "track_running_stats": track_running_stats,
        "momentum": momentum,
        "eps": eps,
    }
    layer = torch.nn.BatchNorm1d(X.shape[1], dtype=getattr(torch, dtype), **settings)
    bn = BatchNorm(weight_init=weight, bias_init=bias, **settings)
    if affine:
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    # Steps of gradient descent, each on another mini-batch.
    for step in range(n_steps):
        batch = (X * (1 + step / 4) + step).astype(dtype)
        x = torch.tensor(batch, requires_grad=True)
        layer.zero_grad()
        y = layer(x)
        y.backward(torch.from_numpy(grad))
        assert_close(bn.forward(batch), y.detach(), dtype)
        grad_input = bn.backward(grad)
        assert grad_input.dtype == X.dtype
        assert_close(grad_input, x.grad, dtype)
        if affine:
            assert_close(bn.weight_grad_, layer.weight.grad, dtype)
            assert_close(bn.bias_grad_, layer.bias.grad, dtype)
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter -= 0.01 * parameter.grad
            bn.weight_ -= 0.01 * bn.weight_grad_
            bn.bias_ -= 0.01 * bn.bias_grad_
        else:
            assert bn.weight_grad_ is bn.bias_grad_ is None
    for key, value in layer.state_dict().items():
        assert_close(bn.state_dict()[key], value, dtype)


@given(
    problem=problems(),
    affine=st.booleans(),
    momentum=st.floats(0, 1),
    eps=st.floats(1e-8, 1.0),
    defaults=st.booleans(),
)
def test_functional_is_the_transformer(problem, affine, momentum, eps, defaults):
    X, grad, weight, bias = problem
    n_features = X.shape[1]
    settings = {} if defaults else {"momentum": momentum, "eps": eps}
    bn = BatchNorm(affine=affine, **settings)
    state = {"num_batches_tracked": 0}
    if affine:
        state |= {"weight": weight, "bias": bias}
    else:
        weight = bias = None
    mean, var = np.linspace(-1, 1, n_features), np.linspace(0.5, 2, n_features)
    bn.load_state_dict(state | {"running_mean": mean, "running_var": var})
    eps = {} if defaults else {"eps": eps}

    assert_array_equal(batch_norm(X, mean, var, weight, bias, **eps), bn.transform(X))
    # In eval mode the output is an affine map of X, of the weight and of the bias.
    grads = batch_norm_backward(grad, X, mean, var, weight, **eps)
    axes = (0,) if X.ndim == 2 else (0, 2)
    zeros, ones = np.zeros(n_features), np.ones(n_features)
    slope = batch_norm(np.ones_like(X), zeros, var, weight, **eps)
    assert_close(grads[0], grad * slope, X.dtype.name)
    normalised = batch_norm(X.astype(float), mean, var, ones, zeros, **eps)
    assert_close(grads[1], (grad * normalised).sum(axis=axes), "float64")
    assert_close(grads[2], grad.sum(axis=axes, dtype=float), "float64")

    before, narrow = (mean.copy(), var.copy()), (mean.astype("f4"), var.astype("f4"))
    untracked = batch_norm(X, None, None, weight, bias, training=True, **eps)
    tracked = batch_norm(X, mean, var, weight, bias, training=True, **settings)
    Y = bn.forward(X)
    assert_array_equal(tracked, Y)
    assert_array_equal(untracked, Y)
    assert_array_equal(mean, bn.running_mean_)
    assert_array_equal(var, bn.running_var_)
    assert_array_equal(
        batch_norm(X, *narrow, weight, bias, training=True, **settings), Y
    )
    for actual, wide in zip(narrow, (mean, var), strict=True):
        assert actual.dtype == np.float32
        assert_close(actual, wide, "float32")
    grad_input = bn.backward(grad)
    for stats in ((None, None), before):
        grads = batch_norm_backward(grad, X, *stats, weight, training=True, **eps)
        assert_array_equal(grads[0], grad_input)
        if affine:
            assert_array_equal(grads[1], bn.weight_grad_)
            assert_array_equal(grads[2], bn.bias_grad_)


def numerical_gradient(loss, array, step=1e-6):
    """Central differences."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = loss()
        array[index] = value - step
        gradient[index] = (above - loss()) / (2 * step)
        array[index] = value
    return gradient


@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"with_mean": False},
        {"affine": False},
        {"affine": False, "with_mean": False},
        {"track_running_stats": False},
        {"variance": "total"},
        {"eps": 0.0},
        {"momentum": None, "bias_correction": True, "eps": 0.5},
    ],
    ids=str,
)
def test_finite_differences(shape, settings):
    rng = np.random.default_rng(0)
    X = rng.normal([[[2.0], [-1.0], [0.5]]], 1.5, (shape[0], 3, 5))
    X = X if len(shape) == 3 else X[..., 0].copy()
    grad = rng.normal(size=X.shape)
    weight, bias = rng.normal(size=(2, 3))
    bn = BatchNorm(weight_init=weight, bias_init=bias, **settings)
    bn.fit(X)

    def loss():
        return (copy.deepcopy(bn).forward(X) * grad).sum()

    bn.forward(X)
    grad_input = bn.backward(grad)
    # Differences over 2e-6 lose ten of the loss's sixteen digits.
    tolerance = {"rtol": 1e-5, "atol": 1e-7}
    assert_allclose(grad_input, numerical_gradient(loss, X), **tolerance)
    if bn.affine:
        for name in ("weight", "bias"):
            expected = numerical_gradient(loss, getattr(bn, f"{name}_"))
            assert_allclose(getattr(bn, f"{name}_grad_"), expected, **tolerance)


@given(problems())
def test_the_gradient_is_at_right_angles_to_shifts(problem):
    # The output does not change when X is shifted, nor, without eps, when it is
    # scaled; so the gradient has nothing in these directions.
    X, grad, weight, bias = (array.astype(np.float64) for array in problem)
    axes = (0,) if X.ndim == 2 else (0, 2)
    bn = BatchNorm(weight_init=weight, bias_init=bias, eps=0)
    bn.forward(X)
    grad_input = bn.backward(grad)
    size = np.abs(grad_input).sum() * (1 + np.abs(X).max()) + 1
    assert_allclose(grad_input.sum(axis=axes), 0, atol=1e-12 * size)
    assert_allclose((grad_input * X).sum(axis=axes), 0, atol=1e-12 * size)


@given(
    problem=problems(),
    variance=st.sampled_from(["within", "total"]),
    bias_correction=st.booleans(),
    with_mean=st.booleans(),
    affine=st.booleans(),
)
def test_forward_is_a_step_and_its_own_transform(
    problem, variance, bias_correction, with_mean, affine
):
    X, _, weight, bias = problem
    bn = BatchNorm(
        weight_init=weight,
        bias_init=bias,
        variance=variance,
        bias_correction=bias_correction,
        with_mean=with_mean,
        affine=affine,
    )
    stepped = clone(bn).partial_fit(X).partial_fit(2 * X)
    alone = clone(bn).set_params(track_running_stats=False).fit(X)
    assert_array_equal(bn.forward(X), alone.transform(X))
    bn.forward(2 * X)
    for key, value in stepped.state_dict().items():
        assert_array_equal(bn.state_dict()[key], value)


def test_integers_and_float16():
    X = np.array([[1, 5], [3, 9], [8, 2]])
    grad = np.array([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]])
    bn = BatchNorm()
    for given_dtype, dtype in [
        ("int16", "float64"),
        ("float16", "float32"),
        ("longdouble", "float64"),
    ]:
        batch = X.astype(given_dtype)
        assert bn.forward(batch).dtype == dtype
        grad_input = bn.backward(grad)
        assert grad_input.dtype == dtype
        assert bn.weight_grad_.dtype == bn.bias_grad_.dtype == np.float64
        bn.forward(X.astype(np.float64))
        assert_close(grad_input, bn.backward(grad), dtype)
        grads = batch_norm_backward(grad, batch, None, None, training=True)
        assert [each.dtype for each in grads] == [dtype, "float64", "float64"]


@example(seed=0, dtype="object")
@given(
    seed=seeds,
    dtype=st.sampled_from(["float16", "float32", "longdouble", "int8", "object"]),
)
def test_weight_bias_and_statistics_count_as_float64(seed, dtype):
    """Of whatever dtype they are, to the bit."""
    # Thirds, which have digits that a double hasn't.
    given = np.random.default_rng(seed).uniform(1, 9, (4, 4)) / np.longdouble(3)
    mean, var, weight, bias = given.astype(dtype)
    wide_mean, wide_var, wide_weight, wide_bias = given.astype(dtype).astype(float)
    assert_array_equal(
        batch_norm(X, mean, var, weight, bias),
        batch_norm(X, wide_mean, wide_var, wide_weight, wide_bias),
    )
    for training in (True, False):
        narrow = batch_norm_backward(GRAD, X, mean, var, weight, training=training)
        wide = batch_norm_backward(
            GRAD, X, wide_mean, wide_var, wide_weight, training=training
        )
        for actual, expected in zip(narrow, wide, strict=True):
            assert actual.dtype == np.float64
            assert_array_equal(actual, expected)


def test_a_constant_feature_without_eps():
    X, grad = np.array([[3.0], [3.0], [3.0]]), np.array([[1.0], [2.0], [6.0]])
    bn = BatchNorm(eps=0)
    assert_array_equal(bn.forward(X), np.zeros((3, 1)))
    # Divided by 1: all that is left is the mean of what was subtracted.
    assert_array_equal(bn.backward(grad), [[-2.0], [-1.0], [3.0]])


# What is remembered


def fitted():
    bn = BatchNorm().partial_fit(X)
    return bn, bn.forward(X)


RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, (20, 4))
GRAD = RNG.normal(size=X.shape)


def test_the_callers_arrays_may_change():
    bn, _ = fitted()
    expected = bn.backward(GRAD)
    batch = X.copy()
    bn = BatchNorm().partial_fit(X)
    Y = bn.forward(batch)
    batch[:], Y[:], bn.weight_[:] = 0, 0, 7
    assert_array_equal(bn.backward(GRAD), expected)


def test_evaluation_and_learning_come_between():
    bn, _ = fitted()
    expected = copy.deepcopy(bn)
    expected.forward(X)
    bn.forward(X)
    bn.transform(X[:1])
    bn.partial_fit(5 * X)
    assert_array_equal(bn.backward(GRAD), expected.backward(GRAD))


def test_what_starts_anew_forgets_the_gradients():
    for start in ("fit", "reset_parameters"):
        bn, _ = fitted()
        bn.backward(GRAD)
        bn.fit(X[:, :2]) if start == "fit" else bn.reset_parameters()
        assert not hasattr(bn, "weight_grad_")
        assert not hasattr(bn, "bias_grad_")


@pytest.mark.parametrize(
    "copied",
    [clone, copy.copy, copy.deepcopy, lambda bn: pickle.loads(pickle.dumps(bn))],
)
def test_copies_do_not_remember(copied):
    bn, _ = fitted()
    other = copied(bn)
    if copied is clone:
        other.fit(X)
    size = len(pickle.dumps(bn))
    bn.backward(GRAD)
    # Two gradients of four numbers, and their names.
    assert abs(len(pickle.dumps(bn)) - size) < 200
    with pytest.raises(ValueError, match="needs a forward before it"):
        other.backward(GRAD)


def test_joblib_does_not_store_the_mini_batch(tmp_path):
    bn = BatchNorm()
    bn.forward(np.random.default_rng(0).normal(size=(10_000, 2)))
    joblib.dump(bn, tmp_path / "bn")
    assert (tmp_path / "bn").stat().st_size < 5000


# Errors


BAD_GRADIENTS = [
    (GRAD[:-1], r"grad_output has shape \(19, 4\), but .* shape \(20, 4\)"),
    (GRAD[..., None], r"grad_output has shape \(20, 4, 1\)"),
    (GRAD[0], r"grad_output has shape \(4,\)"),
    (np.where(GRAD > 0, np.nan, GRAD), "^grad_output contains NaN"),
    (np.where(GRAD > 0, np.inf, GRAD), "^grad_output contains infinity"),
]


@pytest.mark.parametrize(("grad", "message"), BAD_GRADIENTS)
@pytest.mark.parametrize("kind", [np.asarray, np.float32, np.ndarray.tolist])
def test_bad_gradients_change_nothing(grad, message, kind):
    bn, _ = fitted()
    with unchanged(bn), pytest.raises(ValueError, match=message):
        bn.backward(kind(grad))
    bn.backward(GRAD)  # the forward is still there
    with pytest.raises(ValueError, match=message):
        batch_norm_backward(kind(grad), X, None, None, training=True)


def test_a_sparse_gradient():
    bn, _ = fitted()
    with pytest.raises(TypeError, match="for grad_output"):
        bn.backward(sparse.csr_array(GRAD))
    assert bn.backward(GRAD).shape == X.shape


def test_what_is_no_gradient_changes_nothing():
    bn, _ = fitted()
    masked = r"grad_output is a masked array.* Fill it: grad_output\.filled\(0\)\.$"
    for grad, message in [
        (np.ma.masked_greater(GRAD, 0), masked),
        (None, r"grad_output has shape \(\)"),
        (1.0, r"grad_output has shape \(\)"),
    ]:
        with unchanged(bn), pytest.raises(ValueError, match=message):
            bn.backward(grad)


def test_backward_needs_a_forward_for_itself():
    with pytest.raises(NotFittedError):
        BatchNorm().backward(GRAD)
    bn = BatchNorm().fit(X)
    with unchanged(bn), pytest.raises(ValueError, match="needs a forward before it"):
        bn.backward(GRAD)
    bn.forward(X)
    bn.backward(GRAD)
    message = "each forward serves one backward"
    with unchanged(bn), pytest.raises(ValueError, match=message):
        bn.backward(GRAD)


NAN, INF = (with_value(X, (3, 2), value) for value in (np.nan, np.inf))
BAD_BATCHES = [
    (NAN, ValueError, "contains NaN, whose gradient is undefined"),
    (INF, ValueError, "contains infinity"),
    (X[:1], ValueError, r"more than 1 value per feature; X has shape \(1, 4\)"),
    (X[:, :2], ValueError, "X has 2 features, but .* is expecting 4"),
    (X[..., None, None], ValueError, "dim 4"),
    (sparse.csr_matrix(X), TypeError, "[Ss]parse"),
]


@pytest.mark.parametrize("variance", ["within", "total"])
def test_bad_mini_batches_change_nothing(variance):
    bn = BatchNorm(variance=variance, with_mean=False).fit(X)
    bn.forward(X)
    fresh = BatchNorm(num_features=4)
    for batch, error, message in BAD_BATCHES:
        with unchanged(bn), pytest.raises(error, match=message):
            bn.forward(batch)
        with unchanged(fresh), pytest.raises(error):
            fresh.forward(batch)


def test_one_sample_of_several_time_points():
    signals = X.T[None]
    Y = BatchNorm().forward(signals)
    assert_allclose(Y.mean(axis=(0, 2)), 0, atol=1e-14)


def test_a_weight_of_another_shape():
    bn = BatchNorm().fit(X)
    bn.weight_ = np.ones(3)
    with pytest.raises(ValueError, match=r"weight_ has shape \(3,\), expected \(4,\)"):
        bn.forward(X)


STATS = {"running_mean": np.zeros(4), "running_var": np.ones(4)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": NAN}, "contains NaN"),
        ({"X": INF}, "contains infinity"),
        ({"X": X[:1]}, "more than 1 value"),
        ({"X": X.astype(complex)}, "[Cc]omplex"),
        ({"X": X[0]}, "Expected 2D array"),
        ({"X": np.zeros((3, 4, 0))}, "2 or 3 dimensions"),
        ({"X": X[..., None, None]}, "2 or 3 dimensions"),
        (
            {"X": np.ma.masked_greater(X, 2)},
            r"^X is a masked array.* Fill it: X\.filled\(value\)\.$",
        ),
        ({"weight": np.ones(3)}, r"weight has shape \(3,\), but X has 4 features"),
        ({"bias": np.full(4, np.nan)}, "bias contains NaN"),
        ({"running_mean": None}, "must both be given"),
        ({"running_var": None}, "must both be given"),
        ({"running_mean": np.zeros(3)}, r"^running_mean has shape \(3,\)"),
        ({"running_var": np.zeros(3)}, r"^running_var has shape \(3,\)"),
        ({"running_var": -np.ones(4)}, r"^running_var has a negative value\.$"),
        ({"running_mean": [0.0] * 4}, "running_mean is updated in place"),
        ({"running_var": np.ones(4, dtype=int)}, "running_var is updated in place"),
    ],
)
def test_bad_arguments_change_nothing(change, message):

    stats = {key: array.copy() for key, array in STATS.items()}
    arguments = {"X": X, **stats} | change
    with pytest.raises(ValueError, match=message):
        batch_norm(**arguments, training=True)
    for key, array in stats.items():
        assert_array_equal(array, STATS[key])


@pytest.mark.parametrize(
    ("scale", "name"), [(1e25, "running_var"), (1e40, "running_mean")]
)
def test_statistics_beyond_their_dtype(scale, name):
    """The variance overflows, or both do: the first is named."""
    mean, var = np.zeros(4, dtype=np.float32), np.ones(4, dtype=np.float32)
    message = f"^{name} would have a number too large for float32"
    with pytest.raises(ValueError, match=message):
        batch_norm(scale * X, mean, var, training=True)
    assert_array_equal(mean, 0)
    assert_array_equal(var, 1)


def test_infinity_in_eval_mode():
    for function in (batch_norm, partial(batch_norm_backward, GRAD)):
        with pytest.raises(ValueError, match="X contains infinity"):
            function(INF, np.zeros(4), np.ones(4))


def test_tensors_under_dispatch():
    torch = pytest.importorskip("torch")
    expected = batch_norm_backward(GRAD, X, None, None, np.arange(4.0), training=True)
    with config_context(array_api_dispatch=True):
        with pytest.raises(TypeError, match="batch_norm and its gradient take NumPy"):
            batch_norm(torch.tensor(X), None, None, training=True)
        grads = batch_norm_backward(
            torch.tensor(GRAD), X, None, None, torch.arange(4.0), training=True
        )
    for actual, grad in zip(grads, expected, strict=True):
        assert_array_equal(actual, grad)


def test_a_mean_beyond_float64_changes_nothing():
    mean, var = np.array([1.7e308]), np.ones(1)
    with pytest.raises(ValueError, match="overflows float64"):
        batch_norm([[-1.7e308], [-1.7e308]], mean, var, training=True)
    assert mean[0] == 1.7e308
    assert var[0] == 1


EXTREMES = [0.0, 1.0, 5e-324, -1e-300, 1e154, 1e300, -1e300, 1.7e308, -1.7e308]


@example(np.full((4, 2), 1.7e308), np.ones((4, 2)), None, 0.0)
@given(
    X=arrays(float, (4, 2), elements=st.sampled_from(EXTREMES)),
    grad=arrays(float, (4, 2), elements=st.sampled_from(EXTREMES)),
    weight=st.none() | arrays(float, 2, elements=st.sampled_from([0.0, 1.0, -3.0])),
    eps=st.sampled_from([0.0, 1e-5]),
)
def test_extreme_values_warn_of_nothing(X, grad, weight, eps):
    """A mean that overflows is an error only where it would be remembered."""
    mean, var = np.array([[-1e300, 1.0], [0.0, 1e300]])
    settings = {"weight": weight, "eps": eps}
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for training in (True, False):
            stats = (None, None) if training else (mean, var)
            Y = batch_norm(X, *stats, training=training, **settings)
            grads = batch_norm_backward(grad, X, *stats, training=training, **settings)
            assert Y.shape == grads[0].shape == X.shape
        bn = BatchNorm(eps=eps, weight_init=weight)
        try:
            bn.forward(X)
        except ValueError as error:
            assert "overflows float64" in str(error)  # noqa: PT017
        else:
            assert bn.backward(grad).shape == X.shape


def test_a_read_only_running_mean():
    mean, var = np.zeros(4), np.ones(4)
    var.flags.writeable = False
    with pytest.raises(ValueError, match="running_var is updated in place"):
        batch_norm(X, mean, var, training=True)
    assert_array_equal(mean, 0)
    batch_norm(X, mean, var)  # eval mode only reads


def test_eval_mode_needs_statistics():
    with pytest.raises(ValueError, match="must both be given"):
        batch_norm(X, None, None)
    with pytest.raises(ValueError, match="must both be given"):
        batch_norm_backward(GRAD, X, None, None)


def test_eval_mode_keeps_missing_values():
    Y = batch_norm(NAN, np.zeros(4), np.ones(4))
    assert np.isnan(Y).sum() == 1


@pytest.mark.parametrize(
    "change", [{"momentum": 1.5}, {"momentum": None}, {"eps": -1}, {"training": 3}]
)
def test_parameters_out_of_range(change):
    stats = np.zeros(4), np.ones(4)
    message = f"The '{next(iter(change))}' parameter of batch_norm must"
    with pytest.raises(InvalidParameterError, match=message):
        batch_norm(X, *stats, **change)
    if "momentum" not in change:
        message = message.replace("batch_norm", "batch_norm_backward")
        with pytest.raises(InvalidParameterError, match=message):
            batch_norm_backward(GRAD, X, *stats, **change)


@pytest.mark.parametrize("training", [True, False])
def test_bad_arguments_of_batch_norm_backward(training):
    for change, message in [
        ({"X": X.astype(complex)}, "[Cc]omplex"),
        ({"X": np.zeros((3, 4, 0))}, "2 or 3 dimensions"),
        ({"weight": np.ones(3)}, r"^weight has shape \(3,\), but X has 4 features"),
        ({"weight": np.full(4, np.inf)}, "weight contains infinity"),
    ]:
        arguments = {"grad_output": GRAD, "X": X, **STATS} | change
        with pytest.raises(ValueError, match=message):
            batch_norm_backward(**arguments, training=training)
