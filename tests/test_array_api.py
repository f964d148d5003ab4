"""Arrays of other namespaces go in and come out as what they are.

The numbers are those of NumPy; state and output are where the data are.
"""

import gc
import os
import pickle
import re
import sys
import tracemalloc
from contextlib import suppress
from copy import copy, deepcopy
from fractions import Fraction
from subprocess import run

import numpy as np
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils import estimator_checks

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm._compat import largest_float, namespace_of, to_numpy

from .laws import (
    batch_moments,
    mean_of,
    moments,
    seeds,
    unchanged,
    variances,
    with_value,
)

# conftest.py sets it, as SciPy reads it once, when it is imported.
if os.environ.get("SCIPY_ARRAY_API") != "1":
    pytest.skip("needs SCIPY_ARRAY_API=1", allow_module_level=True)

NAMESPACES = ["array_api_strict", "torch"]
RNG = np.random.default_rng(0)
X = RNG.normal([1.0, -20.0, 300.0], [0.5, 4.0, 30.0], (100, 3))


@pytest.fixture(params=NAMESPACES)
def xp(request):
    return pytest.importorskip(request.param)


def devices():
    """A device of each namespace that is not the default, too."""
    cases = [(name, None) for name in NAMESPACES]
    with suppress(ImportError):
        import array_api_strict

        cases.append(("array_api_strict", array_api_strict.Device("device1")))
    with suppress(ImportError):
        import torch

        if torch.cuda.is_available():
            cases.append(("torch", "cuda"))
    return cases


CONFIGURATIONS = [
    BatchNorm(),
    BatchNorm(affine=False, variance="total", batch_size=7),
    BatchNorm(with_mean=False, momentum=None),
    BatchNorm(bias_correction=True, weight_init=2.0, bias_init=-1.0),
]


# test_sklearn.py runs those checks that are not of values.
@pytest.mark.parametrize("estimator", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sample_weight", [False, True])
def test_scikit_learns_check_of_values(xp, estimator, dtype, sample_weight):
    estimator_checks.check_array_api_input_and_values(
        "BatchNorm1dTransformer",
        estimator,
        array_namespace=xp.__name__,
        dtype_name=dtype,
        **({"check_sample_weight": True} if sample_weight else {}),
    )


@st.composite
def streams(draw):
    """Mini-batches, perhaps with gaps, perhaps of three dimensions, and weights."""
    rng = np.random.default_rng(draw(seeds))
    shape = (draw(st.integers(4, 40)), draw(st.integers(1, 5)))
    if draw(st.booleans()):
        shape += (draw(st.integers(1, 6)),)
    batches = rng.normal(rng.normal(0, 100), rng.uniform(0.1, 9), (3, *shape))
    if draw(st.booleans()):
        batches[rng.random(batches.shape) < 0.2] = np.nan
    if draw(st.booleans()):
        batches[:, :, 0] = 1 / 3  # constant
    weight = rng.integers(0, 3, shape[0]) if draw(st.booleans()) else None
    if weight is not None:
        weight[:3] = 2
    return batches, weight


@pytest.mark.parametrize("name", NAMESPACES)
@given(
    stream=streams(),
    variance=variances,
    momentum=st.floats(0, 1) | st.none(),
    batch_size=st.integers(2, 20) | st.none(),
    with_mean=st.booleans(),
    track_running_stats=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:Too few observed values")
def test_the_numbers_are_numpys(
    name, stream, variance, momentum, batch_size, with_mean, track_running_stats
):
    xp = pytest.importorskip(name)
    batches, weight = stream
    there = BatchNorm(
        variance=variance,
        momentum=momentum,
        batch_size=batch_size,
        with_mean=with_mean,
        track_running_stats=track_running_stats,
        weight_init=1.5,
        bias_init=0.5,
    )
    here = clone(there)
    # Values of up to some 300, and deviations of them that round in another order.
    tolerance = {"rtol": 1e-11, "atol": 1e-10}

    def compare():
        for key, value in here.state_dict().items():
            assert_allclose(there.state_dict()[key], value, **tolerance)
        constant = batches[0, :, 0]
        if (constant == 1 / 3).all() and track_running_stats:
            assert float(there.running_var_[0]) == float(here.running_var_[0])

    with config_context(array_api_dispatch=True):
        for method, batch in zip(["fit", "partial_fit"], batches, strict=False):
            getattr(here, method)(batch, sample_weight=weight)
            getattr(there, method)(xp.asarray(batch), sample_weight=weight)
            compare()
        expected = here.transform(batches[2])
        Y = there.transform(xp.asarray(batches[2]))
        # Without eps's help a feature of hardly any variance magnifies rounding.
        assert_allclose(to_numpy(Y), expected, rtol=1e-7, atol=1e-7)
        if track_running_stats:
            back = there.inverse_transform(Y)
            assert_allclose(to_numpy(back), batches[2], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("name", NAMESPACES)
@given(
    seed=seeds,
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    n_times=st.none() | st.integers(1, 4),
    gaps=st.booleans(),
    weighted=st.booleans(),
)
def test_what_mini_batches_say(name, seed, lengths, n_times, gaps, weighted):
    """Of what is not observed, too: nothing, which is 0."""
    xp = pytest.importorskip(name)
    rng = np.random.default_rng(seed)
    bounds = np.cumsum([0, *lengths])
    shape = (bounds[-1], 3) if n_times is None else (bounds[-1], 3, n_times)
    data = rng.normal(5.0, 2.0, shape)
    if gaps:
        data[rng.random(shape) < 0.5] = np.nan
    weight = rng.uniform(0.5, 2.0, len(data)) if weighted else None
    here = batch_moments(data, bounds, weight)
    there = batch_moments(xp.asarray(data), bounds, weight)
    assert_allclose(there.n_samples, here.n_samples, rtol=1e-14)
    count = np.broadcast_to(here.count, there.count.shape)
    assert_allclose(there.count, count, rtol=1e-14)
    assert_allclose(mean_of(there), mean_of(here), rtol=1e-13)
    # Of values of 5² each, where the squares are 0 but for rounding.
    assert_allclose(there.squares, here.squares, rtol=1e-12, atol=1e-25)
    for numbers in (there.shift, there.residual, there.squares):
        assert (numbers[np.broadcast_to(count, numbers.shape) == 0] == 0).all()


def test_an_outlier_does_not_cost_digits(xp):
    """The deviations are from the first value, which is far from all others.

    With a gap, they are from the largest one.
    """
    column = np.random.default_rng(0).normal(size=30_000)
    column[0] = 1e6
    exact = [Fraction(x) for x in column]
    mean = sum(exact) / len(exact)
    squares = float(sum((x - mean) ** 2 for x in exact))
    for values in (column, np.append(column, np.nan)):
        there = xp.asarray(values[:, None])
        assert_allclose(moments(there).squares, squares, rtol=1e-13)


def test_what_overflows_is_not_called_infinite(xp):

    there = xp.asarray(np.array([[1.7e308], [-1.7e308]]))
    assert moments(there).count == 2.0
    bn = BatchNorm(momentum=1.0)
    with config_context(array_api_dispatch=True), np.errstate(all="raise"):
        for learn in (bn.partial_fit, bn.fit):
            with pytest.raises(ValueError, match="mean of feature x0 overflows"):
                learn(there)
            learn(there / 2)
            assert to_numpy(bn.running_mean_) == 0.0
            assert to_numpy(bn.running_var_) == np.finfo(float).max


def device_without_float64(xp):
    try:
        device = xp.Device("no_float64")
    except ValueError:
        pytest.skip("array-api-strict has no device without float64")
    with config_context(array_api_dispatch=True):
        if largest_float(xp, device) != xp.float32:
            pytest.skip("scikit-learn does not ask the device")
    return device


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_device_without_float64(dtype, weighted):
    xp = pytest.importorskip("array_api_strict")
    device = device_without_float64(xp)
    data = (10 * X).astype(dtype)
    data3 = data.reshape(20, 5, 3).transpose(0, 2, 1)
    weight = np.arange(20.0) if weighted else None
    here, there = (BatchNorm(bias_init=0.3) for _ in range(2))
    here.fit(data).partial_fit(data3, sample_weight=weight)
    with config_context(array_api_dispatch=True):
        there.fit(xp.asarray(data, device=device))
        there.partial_fit(xp.asarray(data3, device=device), sample_weight=weight)
        for array in (data, data3):
            Y = there.transform(xp.asarray(array, device=device))
            back = there.inverse_transform(Y)
            assert Y.dtype == back.dtype == there.running_mean_.dtype == xp.float32
            assert Y.device == back.device == there.running_mean_.device == device
            # Sums of a hundred values of up to 4000, and the digits of their mean.
            assert_allclose(to_numpy(Y), here.transform(array), rtol=1e-4, atol=1e-4)
            assert_allclose(to_numpy(back), array, rtol=1e-4, atol=1e-2)
    for key, value in here.state_dict().items():
        assert_allclose(there.state_dict()[key], value, rtol=1e-5)


@pytest.mark.parametrize("learned_there", [True, False])
@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_a_large_mean_on_a_device_without_float64(learned_there, n_dimensions):
    """One float32 holds a mean of 1e5 standard deviations to thousandths of one."""
    xp = pytest.importorskip("array_api_strict")
    device = device_without_float64(xp)
    data = np.random.default_rng(0).normal(1e5 + 0.123, 1.0, (1000, 2))
    data = data.astype(np.float32)  # rounded already, by as much: no fault of ours
    if n_dimensions == 3:
        data = data.reshape(100, 10, 2).transpose(0, 2, 1)
    here = BatchNorm(eps=0, bias_init=1e5 + 0.123).fit(data)
    expected = here.transform(data.astype(np.float64))
    with config_context(array_api_dispatch=True):
        there = xp.asarray(data, device=device)
        bn = deepcopy(here)
        if learned_there:
            bn.fit(there)
        assert_allclose(to_numpy(bn.transform(there)), expected, rtol=0, atol=0.01)
        bn.bias_ = xp.zeros(2, device=device) if learned_there else np.zeros(2)
        Y = to_numpy(bn.transform(there))
        # Of values up to 5, and 24 bits of each, after three operations.
        assert_allclose(Y, expected - (1e5 + 0.123), rtol=0, atol=2e-6)
        back = to_numpy(bn.inverse_transform(bn.transform(there)))
    assert_array_equal(back, data)


@pytest.mark.parametrize(("name", "device"), devices())
@pytest.mark.parametrize("affine", [True, False])
def test_state_and_output_are_where_the_data_are(name, device, affine):
    xp = pytest.importorskip(name)
    bn = BatchNorm(affine=affine)
    with config_context(array_api_dispatch=True):
        there = xp.asarray(X, device=device)
        place = namespace_of(there)
        for batch in (there[:50, :], there[50:, :]):
            bn.partial_fit(batch)
        outputs = [bn.transform(there), bn.inverse_transform(there)]
        arrays = [bn.running_mean_, bn.running_var_, *outputs]
        if affine:
            arrays += [bn.weight_, bn.bias_]
        for array in arrays:
            assert namespace_of(array) == place
            assert array.dtype == xp.float64
        gaps = xp.asarray(np.where(X > 0, X, np.nan), device=device)
        assert namespace_of(bn.partial_fit(gaps).num_batches_tracked_) == place
        assert xp.all(bn.num_batches_tracked_ == xp.asarray([3, 2, 3], device=device))
    # Still there after the context is over, and in a copy.
    assert namespace_of(bn.running_mean_) == place
    copied = pickle.loads(pickle.dumps(bn))
    assert namespace_of(copied.running_mean_) == place
    # A checkpoint is one of NumPy, for all who come.
    assert all(type(array) is np.ndarray for array in bn.state_dict().values())


@pytest.mark.parametrize(
    "given_dtype", ["float32", "float64", "int32", "uint8", "bool"]
)
def test_dtypes(xp, given_dtype):

    data = (np.abs(X) % 7).astype(given_dtype)
    with config_context(array_api_dispatch=True):
        there = xp.asarray(data)
        bn = BatchNorm().fit(there)
        Y = bn.transform(there)
    assert Y.dtype == (xp.float32 if given_dtype == "float32" else xp.float64)
    assert bn.running_mean_.dtype == xp.float64
    expected = BatchNorm().fit(data).transform(data)
    assert_allclose(to_numpy(Y), expected, rtol=1e-6, atol=1e-6)


def test_float16_of_pytorch():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float16, torch.bfloat16):
        tensor = torch.tensor(X / 100, dtype=dtype)
        with config_context(array_api_dispatch=True):
            Y = BatchNorm().fit(tensor).transform(tensor)
        assert Y.dtype == torch.float32
        data = tensor.double().numpy()
        expected = BatchNorm().fit(data).transform(data)
        assert_allclose(Y, expected, rtol=1e-5, atol=1e-6)


# scikit-learn's own checks make the tensor an array, of which PyTorch warns.
@pytest.mark.filterwarnings("ignore:torch.asarray:UserWarning")
def test_tensors_that_want_a_gradient():
    torch = pytest.importorskip("torch")
    X = torch.arange(12.0, dtype=torch.float64).reshape(6, 2).requires_grad_()
    expected = BatchNorm().fit(X.detach().numpy())
    with config_context(array_api_dispatch=True):
        bn = BatchNorm().fit(X).partial_fit(X)
        assert not bn.running_mean_.requires_grad
        Y = bn.fit(X).transform(X)
    assert_array_equal(bn.running_mean_, expected.running_mean_)
    # It flows through transform.
    Y.sum().backward()
    slope = 1 / np.sqrt(expected.running_var_ + 1e-5)
    assert_allclose(X.grad, np.tile(slope, (6, 1)), rtol=1e-14)


def test_without_dispatch_tensors_are_numpy_arrays():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(X)
    bn = BatchNorm().fit(tensor)
    assert type(bn.transform(tensor)) is type(bn.running_mean_) is np.ndarray
    # Also what has learned from tensors: as everywhere in scikit-learn.
    with config_context(array_api_dispatch=True):
        bn.fit(tensor)
    assert type(bn.transform(tensor)) is np.ndarray
    assert_allclose(bn.transform(tensor), bn.transform(X))


def test_without_scipys_switch_tensors_are_arrays():
    pytest.importorskip("torch")
    code = (
        "import numpy as np, torch\n"
        "from sk_batchnorm import BatchNorm1dTransformer as BatchNorm\n"
        "X = np.arange(6.0).reshape(3, 2)\n"
        "bn = BatchNorm(weight_init=torch.tensor([2.0, 3.0]))\n"
        "bn.fit(X, sample_weight=torch.tensor([1.0, 2.0, 1.0]))\n"
        "expected = bn.transform(X)\n"
        "bn.weight_ = torch.tensor([2.0, 3.0])\n"
        "assert type(bn.weight_) is torch.Tensor\n"
        "assert np.array_equal(bn.transform(X), expected)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "SCIPY_ARRAY_API"}
    run([sys.executable, "-c", code], env=environment, check=True)


def test_training_goes_on_without_dispatch(xp):
    with config_context(array_api_dispatch=True):
        bn = BatchNorm(weight_init=2.0).fit(xp.asarray(X))
    here = BatchNorm(weight_init=2.0).fit(X)
    assert_allclose(bn.forward(X), here.forward(X))
    assert_allclose(bn.backward(X**2), here.backward(X**2))
    with config_context(array_api_dispatch=True):
        bn.weight_ -= 0.1 * bn.weight_grad_  # both where the state is
        bn.bias_ -= 0.1 * bn.bias_grad_
    assert namespace_of(bn.weight_) == namespace_of(bn.running_mean_)
    assert_allclose(to_numpy(bn.weight_), 2 - 0.1 * here.weight_grad_)


def test_a_checkpoint_is_loaded_there(xp):
    checkpoint = BatchNorm().fit(X).state_dict()
    with config_context(array_api_dispatch=True):
        there = xp.asarray(X)
        bn = BatchNorm().fit(there[:10, :]).load_state_dict(checkpoint)
        assert namespace_of(bn.weight_) == namespace_of(there)
        expected = BatchNorm().fit(X).transform(X)
        assert_allclose(to_numpy(bn.transform(there)), expected, rtol=1e-12)


def test_starting_values_of_the_namespace(xp):
    with config_context(array_api_dispatch=True):
        there = xp.asarray(X)
        bn = BatchNorm(weight_init=xp.asarray([1.0, 2.0, 3.0]))
        bn.fit(there)
        assert namespace_of(bn.weight_) == namespace_of(there)
    assert_array_equal(to_numpy(bn.weight_), [1.0, 2.0, 3.0])


def test_copies_are_where_the_transformer_is(xp):
    with config_context(array_api_dispatch=True):
        bn = BatchNorm().fit(xp.asarray(X))
    assert copy(bn).weight_ is bn.weight_
    for copied in (copy(bn), deepcopy(bn)):
        assert namespace_of(copied.weight_) == namespace_of(bn.weight_)
        assert namespace_of(copied.running_mean_) == namespace_of(bn.running_mean_)
        assert copied.get_params() == bn.get_params()
        for key, value in bn.state_dict().items():
            assert copied.state_dict()[key].tobytes() == value.tobytes()


@pytest.mark.xdist_group("memory")
@pytest.mark.parametrize("method", ["partial_fit", "fit", "transform"])
def test_steps_keep_no_memory(xp, method):
    """array-api-compat keeps for ever whatever is asked for the dtypes of a device."""
    with config_context(array_api_dispatch=True):
        there = xp.asarray(X)
        bn = BatchNorm().fit(there)
        call = getattr(bn, method)

        def calls(number):
            for _ in range(number):
                call(there)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = calls(10)
            kept = calls(100) - before
        finally:
            tracemalloc.stop()
    # NumPy and Python keep some small blocks for later, but not for each call. What
    # is kept of each question to a device has some 490 bytes.
    assert kept < 100 * 250


# Errors


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform"])
def test_bad_arrays_change_nothing(xp, method):
    too_large = re.escape(f"infinity or a value too large for {xp.float64!r}")
    cases = [
        (with_value(X, (7, 1), -np.inf), too_large),
        (np.zeros((4, 3, 0)), "0 timepoint"),
        (X.astype(complex), "[Cc]omplex|real number"),
    ]
    if method != "fit":
        cases.append((np.zeros((5, 4)), "X has 4 features, but"))
    with config_context(array_api_dispatch=True):
        bn = BatchNorm().fit(xp.asarray(X))
        for bad, message in cases:
            with unchanged(bn), pytest.raises(ValueError, match=message):
                getattr(bn, method)(xp.asarray(bad))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform"])
def test_masked_arrays_under_dispatch(method):
    pytest.importorskip("scipy", minversion="1.14")  # what dispatch needs
    bn = BatchNorm().fit(X)
    masked = np.ma.masked_greater(X, 300.0)
    error = pytest.raises(ValueError, match="Fill the masked values")
    with config_context(array_api_dispatch=True), error:
        getattr(bn, method)(masked)


@pytest.mark.parametrize("method", ["partial_fit", "transform", "inverse_transform"])
def test_arrays_from_elsewhere(xp, method):
    message = rf"BatchNorm1dTransformer\.{method}\(\) must use the same namespace"
    with config_context(array_api_dispatch=True):
        bn = BatchNorm().fit(xp.asarray(X))
        with unchanged(bn), pytest.raises(ValueError, match=message) as error:
            getattr(bn, method)(X)
        # The way out that the message names.
        code = str(error.value).partition("anywhere: ")[2].removesuffix(".")
        there = eval(code, {"sklearn": sklearn, "bn": bn})
        getattr(there, method)(X)


@pytest.mark.parametrize(("name", "device"), devices())
@pytest.mark.parametrize("method", ["partial_fit", "transform", "inverse_transform"])
@pytest.mark.parametrize("track_running_stats", [True, False])
def test_statistics_on_the_host_go_with_all_arrays(
    name, device, method, track_running_stats
):
    if method == "inverse_transform" and not track_running_stats:
        pytest.skip("nothing to invert with")
    xp = pytest.importorskip(name)
    bn = BatchNorm(track_running_stats=track_running_stats)
    bn.fit(X).load_state_dict(bn.state_dict())
    expected = getattr(copy(bn), method)(X)
    with config_context(array_api_dispatch=True):
        for there in (xp.asarray(X, device=device), xp.asarray(X.T, device=device).T):
            learned = copy(bn)
            result = getattr(learned, method)(there)
            if method != "partial_fit":
                assert namespace_of(result) == namespace_of(there)
                assert_allclose(to_numpy(result), expected, rtol=1e-12, atol=1e-12)
                continue
            assert type(learned.weight_) is np.ndarray
            for key, value in expected.state_dict().items():
                assert_allclose(learned.state_dict()[key], value, rtol=1e-12)


def test_a_layer_of_pytorch_and_tensors():
    torch = pytest.importorskip("torch")
    from sk_batchnorm.torch import from_torch

    layer = torch.nn.BatchNorm1d(3, dtype=torch.float64)
    tensor = torch.tensor(X)
    layer(tensor)
    layer.eval()
    bn = from_torch(layer)
    with config_context(array_api_dispatch=True):
        Y = bn.transform(tensor)
        assert type(Y) is torch.Tensor
        assert_allclose(Y, layer(tensor).detach(), rtol=1e-12, atol=1e-12)
        assert_allclose(bn.transform(X), Y, rtol=1e-12, atol=1e-12)


def test_another_device():
    xp = pytest.importorskip("array_api_strict")
    with config_context(array_api_dispatch=True):
        bn = BatchNorm().fit(xp.asarray(X))
        elsewhere = xp.asarray(X, device=xp.Device("device1"))
        with pytest.raises(ValueError, match="the same device.*device1"):
            bn.transform(elsewhere)


def test_forward_says_what_it_takes(xp):
    with config_context(array_api_dispatch=True):
        bn = BatchNorm()
        with pytest.raises(TypeError, match="forward takes NumPy arrays"):
            bn.forward(xp.asarray(X))
    assert not hasattr(bn, "running_mean_")


@pytest.mark.skipif(
    not hasattr(estimator_checks, "check_array_api_same_namespace"),
    reason="a function of scikit-learn 1.9",
)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("loaded", [True, False])
def test_scikit_learn_moves_the_transformer(xp, affine, loaded):
    from sklearn.utils._array_api import move_estimator_to

    bn = BatchNorm(affine=affine).fit(X)
    expected = bn.transform(X)
    if loaded:
        bn = clone(bn).load_state_dict(bn.state_dict())
    with config_context(array_api_dispatch=True):
        there = xp.asarray(X)
        moved = move_estimator_to(bn, *namespace_of(there))
        assert_allclose(to_numpy(moved.transform(there)), expected, rtol=1e-14)
        back = move_estimator_to(moved, np, None)
    assert_array_equal(back.transform(X), expected)


@pytest.mark.parametrize(("name", "device"), devices())
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("n_dimensions", [2, 3])
@pytest.mark.parametrize("bounds", [{"clip": 0.7}, {"handle_missing": "mean"}, {}])
def test_limited_and_filled_as_in_numpy(name, device, dtype, n_dimensions, bounds):
    xp = pytest.importorskip(name)
    bounds = bounds or {"clip": 0.7, "handle_missing": "mean"}
    data = X.copy()
    if dtype != "int64":
        data[np.random.default_rng(0).random(data.shape) < 0.2] = np.nan
    data = data.astype(dtype)
    if n_dimensions == 3:
        data = data.reshape(20, 5, 3).transpose(0, 2, 1)
    for settings in (
        {"weight_init": [2.0, -3.0, 0.0], "bias_init": 0.3},
        {"affine": False, "with_mean": False},
        {"track_running_stats": False, "with_mean": False},
    ):
        bn = BatchNorm(**settings, **bounds).fit(X)
        expected = bn.transform(data)
        if "clip" in bounds:
            assert np.nanmax(np.abs(expected)) <= 0.7 * 3 + 0.3
        with config_context(array_api_dispatch=True):
            there = xp.asarray(data, device=device)
            Y = bn.transform(there)
            assert Y.dtype == (xp.float32 if dtype == "float32" else xp.float64)
        tolerance = 1e-6 if dtype == "float32" else 1e-12
        assert_allclose(to_numpy(Y), expected, rtol=tolerance, atol=tolerance)
        assert_array_equal(to_numpy(there), data)


def test_limited_on_a_device_without_float64():
    xp = pytest.importorskip("array_api_strict")
    device = device_without_float64(xp)
    data = X.astype(np.float32)
    data[::3, 1] = np.nan
    for with_mean in (True, False):
        bn = BatchNorm(
            with_mean=with_mean, bias_init=5.0, clip=0.7, handle_missing="mean"
        ).fit(X)
        with config_context(array_api_dispatch=True):
            Y = bn.transform(xp.asarray(data, device=device))
        assert_allclose(to_numpy(Y), bn.transform(data), rtol=1e-5)
