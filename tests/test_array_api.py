"""Arrays of other namespaces go in and come out as what they are."""

import os
import pickle
import sys
from subprocess import run

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils import estimator_checks

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm._compat import namespace_of, to_numpy

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
    try:
        import array_api_strict

        cases.append(("array_api_strict", array_api_strict.Device("device1")))
    except ImportError:
        pass
    try:
        import torch

        if torch.cuda.is_available():
            cases.append(("torch", "cuda"))
    except ImportError:
        pass
    return cases


CONFIGURATIONS = [
    BatchNorm1dTransformer(),
    BatchNorm1dTransformer(affine=False, variance="total", batch_size=7),
    BatchNorm1dTransformer(with_mean=False, momentum=None),
    BatchNorm1dTransformer(bias_correction=True, weight_init=2.0, bias_init=-1.0),
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
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
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
    variance=st.sampled_from(["within", "total"]),
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
    there = BatchNorm1dTransformer(
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


@pytest.mark.parametrize(("name", "device"), devices())
@pytest.mark.parametrize("affine", [True, False])
def test_state_and_output_are_where_the_data_are(name, device, affine):
    xp = pytest.importorskip(name)
    bn = BatchNorm1dTransformer(affine=affine)
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
    ("given_dtype", "expected"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        ("int32", "float64"),
        ("uint8", "float64"),
        ("bool", "float64"),
    ],
)
def test_dtypes(xp, given_dtype, expected):
    data = (np.abs(X) % 7).astype(given_dtype)
    with config_context(array_api_dispatch=True):
        there = xp.asarray(data)
        bn = BatchNorm1dTransformer().fit(there)
        Y = bn.transform(there)
    assert Y.dtype == getattr(xp, expected)
    assert bn.running_mean_.dtype == xp.float64
    expected = BatchNorm1dTransformer().fit(data).transform(data)
    assert_allclose(to_numpy(Y), expected, rtol=1e-6, atol=1e-6)


def test_float16_of_pytorch():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float16, torch.bfloat16):
        tensor = torch.tensor(X / 100, dtype=dtype)
        with config_context(array_api_dispatch=True):
            Y = BatchNorm1dTransformer().fit(tensor).transform(tensor)
        assert Y.dtype == torch.float32
        data = tensor.double().numpy()
        expected = BatchNorm1dTransformer().fit(data).transform(data)
        assert_allclose(Y, expected, rtol=1e-5, atol=1e-6)


def test_without_dispatch_tensors_are_numpy_arrays():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(X)
    bn = BatchNorm1dTransformer().fit(tensor)
    assert type(bn.transform(tensor)) is type(bn.running_mean_) is np.ndarray
    # Also what has learned from tensors: as everywhere in scikit-learn.
    with config_context(array_api_dispatch=True):
        bn.fit(tensor)
    assert type(bn.transform(tensor)) is np.ndarray
    assert_allclose(bn.transform(tensor), bn.transform(X))


def test_without_scipys_switch_tensors_are_numpy_arrays():
    pytest.importorskip("torch")
    code = (
        "import numpy as np, torch\n"
        "from sk_batchnorm import BatchNorm1dTransformer\n"
        "X = np.arange(6.0).reshape(3, 2)\n"
        "bn = BatchNorm1dTransformer(weight_init=torch.tensor([2.0, 3.0]))\n"
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
        bn = BatchNorm1dTransformer(weight_init=2.0).fit(xp.asarray(X))
    here = BatchNorm1dTransformer(weight_init=2.0).fit(X)
    assert_allclose(bn.forward(X), here.forward(X))
    assert_allclose(bn.backward(X**2), here.backward(X**2))
    with config_context(array_api_dispatch=True):
        bn.weight_ -= 0.1 * bn.weight_grad_  # both where the state is
        bn.bias_ -= 0.1 * bn.bias_grad_
    assert namespace_of(bn.weight_) == namespace_of(bn.running_mean_)
    assert_allclose(to_numpy(bn.weight_), 2 - 0.1 * here.weight_grad_)


def test_a_checkpoint_is_loaded_where_the_transformer_is(xp):
    checkpoint = BatchNorm1dTransformer().fit(X).state_dict()
    with config_context(array_api_dispatch=True):
        there = xp.asarray(X)
        bn = BatchNorm1dTransformer().fit(there[:10, :]).load_state_dict(checkpoint)
        assert namespace_of(bn.weight_) == namespace_of(there)
        expected = BatchNorm1dTransformer().fit(X).transform(X)
        assert_allclose(to_numpy(bn.transform(there)), expected, rtol=1e-12)


def test_starting_values_of_the_namespace(xp):
    with config_context(array_api_dispatch=True):
        there = xp.asarray(X)
        bn = BatchNorm1dTransformer(weight_init=xp.asarray([1.0, 2.0, 3.0]))
        bn.fit(there)
        assert namespace_of(bn.weight_) == namespace_of(there)
    assert_array_equal(to_numpy(bn.weight_), [1.0, 2.0, 3.0])


# Errors


def bits(bn):
    state = bn.state_dict()
    return {key: value.tobytes() for key, value in state.items()}, bn.get_params()


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform"])
def test_bad_arrays_change_nothing(xp, method):
    infinite, wide = X.copy(), np.zeros((5, 4))
    infinite[7, 1] = -np.inf
    with config_context(array_api_dispatch=True):
        bn = BatchNorm1dTransformer().fit(xp.asarray(X))
        before = bits(bn)
        cases = [(infinite, "infinity"), (np.zeros((4, 3, 0)), "0 timepoint")]
        if method != "fit":
            cases.append((wide, "X has 4 features, but"))
        for bad, message in cases:
            with pytest.raises(ValueError, match=message):
                getattr(bn, method)(xp.asarray(bad))
            assert bits(bn) == before
        with pytest.raises(ValueError, match="[Cc]omplex|real number"):
            getattr(bn, method)(xp.asarray(X.astype(complex)))
        assert bits(bn) == before


@pytest.mark.parametrize("method", ["partial_fit", "transform", "inverse_transform"])
def test_arrays_from_elsewhere(xp, method):
    message = rf"BatchNorm1dTransformer\.{method}\(\) must use the same namespace"
    with config_context(array_api_dispatch=True):
        for bn, other in [
            (BatchNorm1dTransformer().fit(xp.asarray(X)), X),
            (BatchNorm1dTransformer().fit(X), xp.asarray(X)),
        ]:
            before = bits(bn)
            with pytest.raises(ValueError, match=message):
                getattr(bn, method)(other)
            assert bits(bn) == before


def test_another_device():
    xp = pytest.importorskip("array_api_strict")
    with config_context(array_api_dispatch=True):
        bn = BatchNorm1dTransformer().fit(xp.asarray(X))
        elsewhere = xp.asarray(X, device=xp.Device("device1"))
        with pytest.raises(ValueError, match="the same device.*device1"):
            bn.transform(elsewhere)


def test_forward_says_what_it_takes(xp):
    with config_context(array_api_dispatch=True):
        bn = BatchNorm1dTransformer()
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

    bn = BatchNorm1dTransformer(affine=affine).fit(X)
    expected = bn.transform(X)
    if loaded:
        bn = clone(bn).load_state_dict(bn.state_dict())
    with config_context(array_api_dispatch=True):
        there = xp.asarray(X)
        moved = move_estimator_to(bn, *namespace_of(there))
        assert_allclose(to_numpy(moved.transform(there)), expected, rtol=1e-14)
        back = move_estimator_to(moved, np, None)
    assert_array_equal(back.transform(X), expected)
