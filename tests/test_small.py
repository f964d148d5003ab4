"""Small steps and outputs have the bits of the general way, with nothing unusual."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sk_batchnorm import BatchNorm1dTransformer, _small
from sk_batchnorm._kernels import dispatch

from .laws import seeds

pytestmark = [
    pytest.mark.skipif(dispatch.KERNELS != "compiled", reason="has no small steps"),
    pytest.mark.filterwarnings("ignore"),  # of data drawn at random
]

UNUSUAL = {
    "a value is missing": lambda X: X.__setitem__((3, 1), np.nan),
    "a feature is missing": lambda X: X.__setitem__((slice(None), 1), np.nan),
    "a value is infinite": lambda X: X.__setitem__((3, 1), np.inf),
    "squares overflow": lambda X: np.multiply(X, 1e200, out=X),
    "the mean overflows": lambda X: X.__setitem__((slice(None), 1), 1.7e308),
}


def general(bn):
    """Let the next call take the general way."""
    stats = vars(bn).get("_running_stats")
    if stats is not None:
        stats._cache.clear()
    return bn


def result(call):
    """What a call returns, or says."""
    try:
        return call()
    except ValueError as error:
        return str(error)


def bits(stats):
    """All that running statistics are, to the bit, and of which types."""
    return [(type(v), np.asarray(v).tobytes()) for v in stats.__reduce__()[1]]


def draw(rng, n_features, dtype):
    """Mini-batch of some size, scale and layout, now and then an unusual one."""
    n_rows = rng.integers(1, 40)
    X = rng.normal(size=(n_rows, n_features)) * 10.0 ** rng.integers(-3, 4)
    X = (X + rng.choice([0, 1e6])).astype(dtype)
    kind = rng.integers(10)
    if kind == 0:
        X[rng.integers(n_rows), rng.integers(n_features)] = np.nan
    if kind == 1:
        X[:, 0] = 5
    if kind == 2:
        X = np.asfortranarray(X)
    if kind == 3:
        X = np.repeat(X, 2, axis=1)[:, ::2]
    if kind == 4 and dtype == "f8":
        X *= 1e300
    if kind == 5:
        X = np.stack([X, X[::-1]], axis=2)  # of two time points
    if kind == 6:
        X = np.broadcast_to(X[0], X.shape)
    if kind == 7:
        X = X[::-1]
    return X


@given(
    seed=seeds,
    n_features=st.integers(1, 30),
    dtype=st.sampled_from(["f4", "f8"]),
    momentum=st.sampled_from([0.1, 0.9, 1.0, 0.0, None]),
    halflife=st.sampled_from([None, 2.0, 50.0, np.inf]),
    variance=st.sampled_from(["within", "total"]),
    bias_correction=st.booleans(),
    eps=st.sampled_from([0.0, 1e-5]),
    affine=st.booleans(),
    with_mean=st.booleans(),
)
def test_small_steps_have_the_bits_of_the_general_way(
    seed, n_features, dtype, **params
):
    if params["halflife"] is not None:
        params["variance"] = "auto"
    rng = np.random.default_rng(seed)
    small, other = (BatchNorm1dTransformer(**params) for _ in range(2))
    for _ in range(6):
        X = draw(rng, n_features, dtype)
        said = result(lambda: small.partial_fit(X) and None)  # noqa: B023
        assert result(lambda: general(other).partial_fit(X) and None) == said  # noqa: B023
        if "_running_stats" not in vars(small):
            continue
        assert bits(small._running_stats) == bits(other._running_stats)
        Y = result(lambda: small.transform(X))  # noqa: B023
        expected = result(lambda: general(other).transform(X))  # noqa: B023
        assert type(Y) is type(expected)
        if isinstance(Y, str):
            assert expected == Y
            continue
        assert (Y.dtype, Y.strides, Y.tobytes()) == (
            expected.dtype,
            expected.strides,
            expected.tobytes(),
        )


def streaming(rng, **params):
    """A transformer whose next step may be small."""
    bn = BatchNorm1dTransformer(**params)
    for _ in range(3):
        bn.partial_fit(rng.normal(size=(30, 4)))
    return bn


def takes_small_step(bn, X):
    before = bn._running_stats
    taken = _small._take_step(bn, X)
    assert (bn._running_stats is not before) == taken
    return taken


@pytest.mark.parametrize("params", [{}, {"halflife": 9}, {"variance": "total"}])
def test_a_step_like_those_before_is_small(params):
    rng = np.random.default_rng(0)
    bn = streaming(rng, **params)
    for X in (rng.normal(size=(5, 4)), rng.normal(size=(30, 4)).astype(np.float32)):
        assert takes_small_step(bn, X)
    series = rng.normal(size=(3, 4, 5))  # whose values differ in age
    assert takes_small_step(bn, series) == ("halflife" not in params)
    assert _small._output(bn, series) is not None or "halflife" not in params
    for _ in range(30):
        bn.partial_fit(rng.normal(size=(30, 4)))
    assert _small._output(bn, X).dtype == np.float32


@pytest.mark.parametrize("params", [{}, {"halflife": 9}, {"variance": "total"}])
@pytest.mark.parametrize("spoil", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_values_take_the_general_way(spoil, params):
    rng = np.random.default_rng(0)
    bn = streaming(rng, **params)
    X = rng.normal(size=(30, 4))
    spoil(X)
    assert not takes_small_step(bn, X)


def test_rows_that_are_one_in_memory():
    rng = np.random.default_rng(0)
    bn = streaming(rng, halflife=9)
    row = rng.normal(size=4)
    rows = np.broadcast_to(row, (30, 4))
    assert np.array_equal(bn.transform(rows), np.tile(bn.transform([row]), (30, 1)))
    wide = np.broadcast_to(rng.normal(size=40), (30, 40))
    bn = BatchNorm1dTransformer(halflife=9).partial_fit(rng.normal(size=(9, 40)))
    bn.partial_fit(rng.normal(size=(9, 40)))
    assert np.array_equal(bn.transform(wide), np.tile(bn.transform(wide[:1]), (30, 1)))


def set_names(bn):
    bn.feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)


@pytest.mark.parametrize(
    "change",
    [
        lambda bn: bn.set_params(momentum=0.2),
        lambda bn: bn.set_params(momentum=-1.0),
        lambda bn: bn.set_params(halflife=3),
        lambda bn: bn.reset_running_stats(),
        general,
        set_names,
    ],
    ids=["momentum", "bad", "halflife", "reset", "not checked", "names"],
)
def test_after_a_change_the_general_way_checks_again(change):
    rng = np.random.default_rng(0)
    bn = streaming(rng)
    change(bn)
    assert not takes_small_step(bn, rng.normal(size=(30, 4)))


def test_other_kinds_of_x_take_the_general_way():
    rng = np.random.default_rng(0)
    bn = streaming(rng)
    X = rng.normal(size=(30, 4))
    for other in (X.tolist(), X.astype(">f8"), X.astype(int), X[:, :3], X[:0], X[0]):
        assert not takes_small_step(bn, other)
        assert _small._output(bn, other) is None
    assert not takes_small_step(bn, X[:1])  # one row, which "within" refuses
    assert not takes_small_step(bn, np.ma.masked_less(X, 0))


@pytest.mark.parametrize(
    "params", [{"clip": 3.0}, {"handle_missing": "mean"}, {"copy": False}]
)
def test_other_outputs_take_the_general_way(params):
    rng = np.random.default_rng(0)
    bn = streaming(rng, halflife=9, **params)
    assert _small._output(bn, rng.normal(size=(30, 4))) is None


def test_a_weight_that_was_assigned_is_seen():
    rng = np.random.default_rng(0)
    bn = streaming(rng, halflife=9)
    X = rng.normal(size=(30, 4))
    plain = bn.transform(X)
    bn.weight_[0] = 2.0
    assert np.array_equal(bn.transform(X)[:, 0], 2.0 * plain[:, 0])
    bn.weight_ = np.ones(3)
    with pytest.raises(ValueError, match="weight_ has shape"):
        bn.transform(X)


def test_infinity_is_named_as_ever():
    rng = np.random.default_rng(0)
    bn = streaming(rng, halflife=9)
    with pytest.raises(ValueError, match="infinity .* in feature x1, first in row 2"):
        bn.transform([[0, 0, 0, 0], [0, 0, 0, 0], [0, np.inf, 0, 0]])
    X = rng.normal(size=(30, 4))
    X[2, 1] = np.inf
    for call in (bn.transform, bn.partial_fit):
        with pytest.raises(
            ValueError, match="infinity .* in feature x1, first in row 2"
        ):
            call(X)


def test_pytorchs_start_still_warns():
    bn = streaming(np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="PyTorch's start"):
            bn.transform(np.zeros((3, 4)))
