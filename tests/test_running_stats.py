"""The state: the formulas of the docs, and how two stretches of a stream join.

Whatever the values, statistics are finite numbers, or an error that names the feature.
"""

import copy
import pickle
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm._rule import WEIGHT_ROUNDING, Rule
from sk_batchnorm._running_stats import RunningStats

from .laws import (
    any_momenta,
    batch_moments,
    factor,
    learned,
    mean_of,
    momenta,
    moments,
    params_of,
    rules,
    seeds,
    step,
    stream,
    then,
    variances,
)


def with_correction(rule):
    return replace(rule, bias_correction=True)


def random_batches(seed, n_batches, n_rows, n_features=2):
    rng = np.random.default_rng(seed)
    loc, scale = rng.normal(0, 10, n_features), rng.uniform(0.1, 10, n_features)
    return list(rng.normal(loc, scale, (n_batches, n_rows, n_features)))


# The formula


@given(seed=seeds, rule=rules)
def test_what_nothing_is_learned_of_stays_as_it_is(seed, rule):
    """A feature that a mini-batch did not observe, and all with momentum 0."""
    rng = np.random.default_rng(seed)
    X = rng.normal(0.3, 1.0, (2, 5, 2)) * 10.0 ** rng.integers(-20, 20, 2)
    stats = step(RunningStats.start(2), moments(X[0]), rule)
    X[1, :, 0] = np.nan
    later = step(stats, moments(X[1]), rule)
    assert (later.mean[0], later.var[0]) == (stats.mean[0], stats.var[0])
    frozen = step(stats, moments(X[0] + 1), Rule(0.0, rule.variance))
    assert_array_equal(frozen.mean, stats.mean)
    assert_array_equal(frozen.var, stats.var)


@given(seed=seeds, n_batches=st.integers(1, 10), rule=rules)
def test_step_is_the_formula_of_the_docs(seed, n_batches, rule):
    """The formulas in exact arithmetic on the mini-batches' own moments."""
    batches = random_batches(seed, n_batches, 5, 1)
    mean, var = Fraction(0), Fraction(1)
    for t, batch in enumerate(batches, 1):
        f = Fraction(factor(t - 1, 1, rule))
        x = [Fraction(v) for v in batch[:, 0]]
        m = sum(x) / len(x)
        squares = sum((v - m) ** 2 for v in x)
        if rule.variance == "within":
            mean = (1 - f) * mean + f * m
            var = (1 - f) * var + f * squares / (len(x) - 1)
        else:
            d = m - mean
            var = (1 - f) * (var + f * d**2) + f * squares / len(x)
            mean = mean + f * d
    stats = stream(batches, rule)
    # Rounding is relative to the numbers averaged, up to about 50.
    assert stats.mean[0] == pytest.approx(float(mean), rel=1e-13, abs=1e-13)
    assert stats.var[0] == pytest.approx(float(var), rel=1e-13, abs=1e-13)
    assert stats.num_batches == n_batches


@given(seed=seeds, n_rows=st.integers(1, 60), momentum=st.floats(1e-3, 1))
def test_total_row_by_row_is_pandas_ewm(seed, n_rows, momentum):
    rows = np.random.default_rng(seed).normal(3.0, 2.0, n_rows)
    ewm = pd.Series(rows).ewm(alpha=momentum, adjust=True)
    stats, rule = RunningStats.start(1), Rule(momentum, "total", True)
    for x, mean, var in zip(rows, ewm.mean(), ewm.var(bias=True), strict=True):
        stats = step(stats, moments(np.array([[x]])), rule)
        # Both round in each row; the rows are of about the size of 10.
        assert_allclose(stats.mean[0], mean, rtol=1e-12, atol=1e-14)
        assert_allclose(stats.var[0], var, rtol=1e-11, atol=1e-13)


@given(
    seed=seeds,
    n_batches=st.integers(1, 20),
    n_rows=st.integers(1, 20),
    bias_correction=st.booleans(),
)
def test_a_cumulative_average_is_that_of_all_rows(
    seed, n_batches, n_rows, bias_correction
):
    """Reversed, or cut into other mini-batches, the rows are the same rows."""
    rule = Rule(None, "total", bias_correction)
    batches = np.array(random_batches(seed, n_batches, n_rows))
    rows = batches.reshape(-1, 2)
    for cut in (batches, batches[::-1], rows[::-1, None], rows.reshape(n_rows, -1, 2)):
        stats = stream(cut, rule)
        # Rows of about the size of 10, whose mean rounds in each step.
        assert_allclose(stats.mean, rows.mean(axis=0), rtol=1e-12, atol=1e-13)
        assert_allclose(stats.var, rows.var(axis=0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variance", ["within", "total"])
def test_corrected_average_forgets_the_start_exactly(variance):
    tiny = np.array([[1e-150], [3e-150]])
    stats = stream([tiny], Rule(0.1, variance, True))
    ddof = 1 if variance == "within" else 0
    assert stats.mean[0] == 2e-150
    expected = float((tiny * 1e150).var(ddof=ddof)) * 1e-300
    assert float(stats.var[0]) == pytest.approx(expected, rel=1e-15, abs=0)


@given(value=st.floats(-1e300, 1e300), momentum=any_momenta)
def test_a_constant_stream_keeps_its_value(value, momentum):
    for variance in ("within", "total"):
        batches = [np.full((3, 1), value)] * 5
        stats = stream(batches, Rule(momentum, variance, True))
        assert stats.mean[0] == value
        assert stats.var[0] == 0.0


@pytest.mark.parametrize("variance", ["within", "total"])
@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
def test_values_of_1e300_stream_for_ever(variance, bias_correction, momentum):
    rule = Rule(momentum, variance, bias_correction)
    batch = np.array([[1e300, 1e300], [1e300, -1e300], [1e300, 0.5e300]])
    stats = stream([batch] * 1000, rule)
    assert_allclose(stats.mean, [1e300, 1e300 / 6], rtol=1e-12)
    assert np.isfinite(stats.var).all()
    # The variance of the second column, 1e600, is beyond float64.
    assert stats.var[1] > 1e307


@pytest.mark.parametrize("variance", ["within", "total"])
def test_momentum_one_keeps_nothing_of_an_outlier(variance):
    rule = Rule(1.0, variance)
    batch = moments(np.array([[1e-3], [3e-3]]))
    stats = stream([np.array([[1e15], [2e15]])], rule)
    assert step(stats, batch, rule).mean == mean_of(batch)


def test_a_saturated_variance_fades_again():
    batches = [np.array([[1e300], [-1e300]])] + 3000 * [np.array([[0.0], [2.0]])]
    stats = stream(batches, Rule(0.5))
    assert_allclose(stats.mean, 1.0)
    assert_allclose(stats.var, 2.0)


def test_a_mean_beyond_float64_is_an_error():
    batch = moments(np.array([[1.0, 1.7e308], [2.0, 1.7e308]]))
    with pytest.raises(ValueError, match="mean overflows float64") as error:
        step(RunningStats.start(2), batch, Rule(0.1))
    assert error.value.features.tolist() == [1]


@pytest.mark.parametrize("variance", ["within", "total"])
@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.7])
def test_means_too_far_apart_are_an_error(variance, momentum):
    rule = Rule(momentum, variance)
    low, high = (
        RunningStats(np.array([m]), np.ones(1), 1, rule.weight(1))
        for m in (-1.7e308, 1.7e308)
    )
    with pytest.raises(ValueError, match="overflows float64"):
        then(low, high, rule)
    X = np.array([[0.9e308], [np.nan], [0.8e308]])
    with pytest.raises(ValueError, match="overflows float64"):
        step(low, moments(X), rule)
    # Nor does a careful user's NumPy raise something else.
    bn = BatchNorm(momentum=momentum, variance=variance, affine=False)
    bn.load_state_dict({"running_mean": [-1.7e308], "running_var": [1.0]})
    with np.errstate(all="raise"), pytest.raises(ValueError, match="x0 overflows"):
        bn.partial_fit(X)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_statistics_are_read_only_in_copies_too(duplicate):

    values = [[3.0, 0.0], [1.0, 1.0], [2, 1], [0.75, 0.5], [0.25, 0.5]]
    stats = duplicate(RunningStats(*map(np.array, values)))
    names = ["mean", "var", "num_batches", "weight", "start_weight"]
    for name, expected in zip(names, values, strict=True):
        array = getattr(stats, name)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5.0
        with pytest.raises(AttributeError):
            setattr(stats, name, 3)
        assert_array_equal(array, expected)


# Two stretches of a stream, one after the other


@given(
    seed=seeds,
    lengths=st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 6)),
    gaps=st.booleans(),
    rule=rules,
)
def test_stretches_compose_to_the_stream(seed, lengths, gaps, rule):
    rng = np.random.default_rng(seed)
    batches = rng.normal(3.0, 2.0, (sum(lengths), 5, 4))
    if gaps:
        batches[rng.random(batches.shape) < 0.5] = np.nan
    # Later stretches are streamed apart, without a start of their own.
    apart = with_correction(rule)
    whole, a, b, c = (RunningStats.start(4) for _ in range(4))
    for batch in batches:
        whole = step(whole, moments(batch), rule)
    first, second = lengths[0], lengths[0] + lengths[1]
    for batch in batches[:first]:
        a = step(a, moments(batch), rule)
    for batch in batches[first:second]:
        b = step(b, moments(batch), apart)
    for batch in batches[second:]:
        c = step(c, moments(batch), apart)
    left = then(then(a, b, rule), c, rule)
    right = then(a, then(b, c, apart), rule)
    for joined in (left, right):
        assert_allclose(joined.mean, whole.mean, rtol=1e-11, atol=1e-12)
        assert_allclose(joined.var, whole.var, rtol=1e-11, atol=1e-12)
        assert_array_equal(joined.num_batches, whole.num_batches)
        # Each join rounds, and so does 1 less what is left of the start.
        weights = np.broadcast_arrays(joined.weight, whole.weight, np.ones(4))
        assert_allclose(weights[0], weights[1], rtol=1e-13)
        starts = np.broadcast_arrays(joined.start_weight, whole.start_weight)
        assert_allclose(starts[0], starts[1], rtol=1e-9, atol=1e-13)


@example(0, 20, True, True, 0.3, "within")
@example(1, 20, True, False, 0.3, "total")
@given(
    seed=seeds,
    n_batches=st.integers(1, 40),
    gaps=st.booleans(),
    weighted=st.booleans(),
    momentum=any_momenta,
    variance=variances,
)
def test_a_stretch_is_the_steps_one_by_one(
    seed, n_batches, gaps, weighted, momentum, variance
):
    rng = np.random.default_rng(seed)
    X = rng.normal([3.0, 1e3, 0.0], [2.0, 1.0, 1e-3], (5 * n_batches, 3))
    X[:, 2] = 0.1  # constant
    if gaps:
        X[rng.random(X.shape) < 0.5] = np.nan
    weight = rng.integers(1, 4, len(X)) * 1.0 if weighted else None
    bounds = np.arange(0, len(X) + 1, 5)
    rule = Rule(momentum, variance, bias_correction=True)
    one_by_one = RunningStats.start(3)
    for rows in map(slice, bounds, bounds[1:]):
        batch = moments(X[rows], None if weight is None else weight[rows])
        one_by_one = step(one_by_one, batch, rule)
    together = step(RunningStats.start(3), batch_moments(X, bounds, weight), rule)
    assert_allclose(together.mean, one_by_one.mean, rtol=1e-14, atol=1e-14)
    # A difference of means of 1e3 is known to 1e-13.
    assert_allclose(together.var, one_by_one.var, rtol=1e-12, atol=1e-12)
    assert type(together.num_batches) is type(one_by_one.num_batches)
    assert_array_equal(together.num_batches, one_by_one.num_batches)
    assert_array_equal(together.weight, one_by_one.weight)
    if np.broadcast_to(together.num_batches, 3)[2]:
        assert together.mean[2] == 0.1
        assert together.var[2] == 0.0


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e7 + 0.1, 8e307])
@pytest.mark.parametrize("variance", ["within", "total"])
def test_a_constant_feature_with_gaps(value, variance):

    for unobserved in ([1], [4, 5], [0, 2, 4, 5], [0, 1, 3, 5]):
        X = np.full((6, 2, 1), value)
        X[unobserved] = np.nan
        if variance == "within":
            X[unobserved, 0] = -2 * value  # one is too few
        batches = batch_moments(X.reshape(12, 1), np.arange(0, 13, 2))
        stretch = learned(batches, Rule(0.3, variance))
        assert (stretch.mean[0], stretch.var[0]) == (value, 0.0)


@pytest.mark.parametrize("variance", ["within", "total"])
def test_nothing_is_known_of_what_is_not_observed(variance):
    X = np.column_stack([np.arange(6.0), np.full(6, np.nan)])
    for batches in (batch_moments(X, np.array([0, 3, 6])), moments(X)):
        stats = learned(batches, Rule(0.1, variance))
        assert np.isnan([stats.mean[1], stats.var[1]]).all()
        assert stats.num_batches[1] == stats.weight[1] == 0


@given(
    seed=seeds,
    n_unobserved=st.integers(1, 4),
    later=st.sampled_from([(0.3, False), (0.3, True), (None, False), (0.0, False)]),
    rule=rules,
)
def test_what_a_feature_is_first_seen_with(seed, n_unobserved, later, rule):
    """Whatever rule comes after, there is no start to average with.

    By PyTorch's rule there is one, mean 0 and variance 1.
    """
    X = np.random.default_rng(seed).normal(5.0, 2.0, (n_unobserved + 1, 6, 2))
    X[:n_unobserved, :, 1] = np.nan
    stats = stream(X[:n_unobserved], rule)
    assert stats.num_batches.tolist() == [n_unobserved, 0]
    if rule.momentum is not None and not rule.bias_correction:
        assert (stats.mean[1], stats.var[1]) == (0.0, 1.0)
        return
    assert np.isnan([stats.mean[1], stats.var[1]]).all()
    momentum, bias_correction = later
    rule = Rule(momentum, rule.variance, bias_correction)
    stats = step(stats, moments(X[-1]), rule)
    alone = learned(moments(X[-1]), rule)
    assert (stats.mean[1], stats.var[1]) == (alone.mean[1], alone.var[1])
    assert stats.num_batches.tolist() == [n_unobserved + 1, 1]


@given(seed=seeds, steps=st.lists(momenta, max_size=8))
def test_weight_of_the_start(seed, steps):
    """So the mean is what was learned, and (1 - weight) of what it will be."""
    stats = RunningStats.start(1)
    batch = np.random.default_rng(seed).normal(5.0, 2.0, (3, 1))
    for momentum in steps:
        stats = step(stats, moments(batch), Rule(momentum))
    left = np.prod([1 - momentum for momentum in steps])
    assert stats.start_weight == pytest.approx(left, rel=1e-12)
    assert stats.weight == pytest.approx(1 - left, rel=1e-12, abs=1e-15)
    mean = (1 - left) * mean_of(moments(batch))[0]
    assert_allclose(stats.mean, mean, rtol=1e-12, atol=1e-14)
    corrected = step(stats, moments(batch), Rule(None, bias_correction=True))
    assert corrected.start_weight < 1


def test_start_has_weight_feature_by_feature():
    rule = Rule(0.1)
    X = np.arange(6.0).reshape(3, 2)
    gaps = np.column_stack([X[:, 0], np.full(3, np.nan)])
    stats = stream([X], rule)
    assert stats.start_weight == pytest.approx(0.9)
    later = step(stats, moments(gaps), rule)
    assert_allclose(later.start_weight, [0.81, 0.9])
    assert_allclose(later.weight, [0.19, 0.1])
    assert learned(moments(X), rule).start_weight == 0.0


@given(seed=seeds, eps=st.sampled_from([0.0, 1e-5, 1.0]))
def test_scale_is_that_of_now(seed, eps):
    rng = np.random.default_rng(seed)
    stats = RunningStats(rng.normal(size=3), rng.uniform(0.1, 2.0, 3), 1, 0.1)
    weight = rng.uniform(1.0, 2.0, 3)
    for _ in range(2):
        expected = weight / np.sqrt(stats.var + eps)
        assert_allclose(stats.scale(eps, weight), expected, rtol=1e-15)
        inverse = stats.scale(eps, weight, inverse=True)
        assert_allclose(inverse, 1 / expected, rtol=1e-15)
        some = np.array([2, 0, 2])
        assert_array_equal(
            stats.scale(eps, weight, some), stats.scale(eps, weight)[some]
        )
        assert_array_equal(stats.scale(eps, weight, some, inverse=True), inverse[some])
        assert_allclose(stats.scale(2.0, None), 1 / np.sqrt(stats.var + 2), rtol=1e-15)
        weight[1] = 3.0  # in place


def test_scale_is_computed_once():
    stats = RunningStats(np.zeros(3), np.ones(3), 1, 0.1)
    weight = np.full(3, 2.0)
    first = stats.scale(1e-5, weight)
    assert stats.scale(1e-5, weight.copy()) is first
    assert not first.flags.writeable


@pytest.mark.parametrize(
    ("first", "message"),
    [(1.0, "n_samples=1 "), (0.5, "n_samples=0.5 "), (1 + WEIGHT_ROUNDING, "=1 ")],
)
def test_a_stretch_of_too_few_samples(first, message):
    X, weight = np.arange(3.0)[:, None], np.array([first, 1.0, 1.0])
    batches = batch_moments(X, np.array([0, 1, 3]), weight)
    for too_few in (batches, moments(X[:1], weight[:1])):
        with pytest.raises(ValueError, match=f"{message}has no unbiased variance, whi"):
            learned(too_few, Rule(0.1, "within"))


@given(
    seed=seeds,
    exponent=st.integers(-1022, 900),
    gaps=st.booleans(),
    stretch=st.booleans(),
)
def test_scale_of_weights_does_not_matter_to_total(seed, exponent, gaps, stretch):
    """Any positive sum will do, to the bit where the scale is a power of 2."""
    rng = np.random.default_rng(seed)
    X = rng.normal(3.0, 2.0, (20, 2))
    if gaps:
        X[rng.random(X.shape) < 0.4] = np.nan
    weight = rng.uniform(1.0, 2.0, 20)

    bounds = np.array([0, 7, 20] if stretch else [0, 20])
    expected, actual = (
        learned(batch_moments(X, bounds, w), Rule(0.3, "total"))
        for w in (weight, weight * 2.0**exponent)
    )
    assert_array_equal(actual.mean, expected.mean)
    assert_array_equal(actual.var, expected.var)
    assert_array_equal(actual.num_batches, expected.num_batches)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0, None])
@pytest.mark.parametrize("variance", ["within", "total"])
def test_a_stretch_of_values_of_1e300(momentum, variance):
    X = np.full((400, 2), 1e300)
    X[::3, 1] = -1e300
    rule = Rule(momentum, variance)
    stretch = learned(batch_moments(X, np.arange(0, 401, 4)), rule)
    assert (stretch.mean[0], stretch.var[0]) == (1e300, 0.0)
    assert abs(stretch.mean[1]) < 1e300
    assert 1e307 < stretch.var[1] < np.inf
    calm = X.copy()
    calm[-4:] = [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
    if momentum == 1:
        last = learned(batch_moments(calm, np.arange(0, 401, 4)), rule)
        assert_array_equal(last.mean, [2.0, 3.0])
        assert_allclose(last.var, 4 / 3 if variance == "within" else 1.0)


def test_many_steps_drift_by_no_more_than_rounding():
    """A stationary stream of two mini-batches in turn, and values of 1e300.

    The exact running mean of the alternation is known in closed form. Each step
    rounds once, to 1.1e-16 of the mean; the factor 1 − momentum shrinks old
    errors, so that no more than 1/momentum of them are ever alive.
    """
    batches = [
        moments(np.array([[1e6 + k, 1e300, 0.1], [1e6 + k + 2, 1e300, 0.1]]))
        for k in (0, 1)
    ]
    for variance, momentum in [("within", 0.1), ("total", 0.1), ("total", None)]:
        rule = Rule(momentum, variance, bias_correction=True)
        apart = [learned(batch, rule) for batch in batches]
        stats, n_steps = RunningStats.start(3), 6666
        with np.errstate(all="ignore"):  # once, as it takes as long as a step
            for k in range(n_steps):
                stats = stats.then(apart[k % 2], rule)
        # The last mini-batch was number 1, whose mean is 1 above number 0's.
        late = 0.5 if momentum is None else 1 / (2 - momentum)
        n_alive = n_steps if momentum is None else 1 / momentum
        assert abs(stats.mean[0] - (1e6 + 1 + late)) < n_alive * 1.2e-10
        assert stats.mean[1] == 1e300
        assert stats.mean[2] == 0.1
        assert (stats.var[1:] == 0).all()
        if variance == "within":
            assert_allclose(stats.var[0], 2.0, rtol=1e-15)
        assert stats.num_batches == n_steps


def test_denormals():
    """Squares underflow to 0; means keep what a denormal can hold."""
    tiny = np.array([[5e-324, 1e-310], [1.5e-323, 3e-310]])
    stats = stream([tiny], Rule(0.1, "total", True))
    assert_array_equal(stats.mean, [1e-323, 2e-310])
    assert_array_equal(stats.var, [0.0, 0.0])


EXTREMES = [0.0, 1.0, 5e-324, -1e-300, 1e154, 1e300, -1e300, 1.7e308, -1.7e308, np.nan]


# Of which those of weight 1 / 2 are observed: weights that sum to 1, or just more.
JUST_ENOUGH = np.array([[np.nan, 1e154, 0.0, np.nan, 0.0, 0.0], np.ones(6)]).T

HARDLY_THERE = np.array([[np.nan, 1e154, 0.0, np.nan, np.nan, np.nan], np.ones(6)]).T


@pytest.mark.filterwarnings("ignore:Too few observed values")
@pytest.mark.filterwarnings("ignore:sample_weight sums to")
@example(JUST_ENOUGH, np.array([0, 0.5, 0.5, 0, 0, 0]), Rule(0.1, "within", True))
@example(JUST_ENOUGH, np.array([0, 0.5, 0.5, 0, 1e-9, 0]), Rule(0.1, "within", True))
@example(HARDLY_THERE, np.array([0, 0.5, 0.5, 0, 1, 1]), Rule(0.1, "within", True))
@example(np.full((6, 2), 1.7e308), None, Rule(0.0, "within"))
@given(
    X=arrays(float, (6, 2), elements=st.sampled_from(EXTREMES)),
    weight=st.none()
    | arrays(float, 6, elements=st.sampled_from([0.0, 1e-9, 0.5, 1.0, 2.0])),
    rule=rules,
)
def test_extreme_values_make_numbers_or_an_error(X, weight, rule):
    """A mean that overflows is an error; so is a mini-batch of too little weight."""
    if weight is not None:
        weight = weight + np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    bn = BatchNorm(**params_of(rule), batch_size=3)

    def stretches(bounds):
        batches = batch_moments(X, np.array(bounds), weight)
        return step(RunningStats.start(2), batches, rule)

    def learned_by(method):
        with np.errstate(all="raise"):
            new = clone(bn)
            getattr(new, method)(X, sample_weight=weight)
            new.transform(X)
        return new._running_stats

    calls = {
        lambda: stretches([0, 6]): rule,
        lambda: stretches([0, 3, 6]): rule,
        lambda: learned_by("partial_fit"): rule,
        lambda: learned_by("fit"): with_correction(rule),
    }
    for learn, by in calls.items():
        try:
            stats = learn()
        except ValueError as error:
            assert re.search("overflows float64|mini-batch", str(error))  # noqa: PT017
        else:
            known = np.broadcast_to(stats.num_batches, 2) > 0
            known |= by.momentum is not None and not by.bias_correction
            assert np.isfinite(stats.mean[known]).all()
            assert np.isfinite(stats.var[known]).all()
            assert (stats.var[known] >= 0).all()
            assert np.isnan(stats.mean[~known]).all()
            assert np.isnan(stats.var[~known]).all()


@pytest.mark.filterwarnings("ignore:Too few observed values")
@pytest.mark.filterwarnings("ignore:sample_weight sums to")
@given(
    seed=seeds,
    gaps=st.booleans(),
    weighted=st.booleans(),
    n_before=st.integers(0, 3),
    rule=rules,
)
def test_one_mini_batch_is_a_stretch_to_the_bit(seed, gaps, weighted, n_before, rule):
    """By the short way, where each feature has enough, too, and in partial_fit."""
    rng = np.random.default_rng(seed)
    batches = rng.normal(3.0, 2.0, (n_before + 1, 4, 3))
    if gaps:
        batches[rng.random(batches.shape) < 0.5] = np.nan
    weight = rng.choice([0.5, 1.0, 2.0], 4) if weighted else None
    bn = BatchNorm(**params_of(rule))
    stats = RunningStats.start(3)
    for batch in batches:
        one = moments(batch, weight)
        stretch = learned(one, rule)
        # The long way, as where the counts differ.
        wide = replace(one, count=np.broadcast_to(one.count, (1, 3)))
        stats = then(stats, learned(wide, rule), rule)
        stepped = bn.partial_fit(batch, sample_weight=weight)._running_stats
        for short, long in ((stretch, learned(wide, rule)), (stepped, stats)):
            assert_array_equal(short.mean, long.mean)
            assert_array_equal(short.var, long.var)
            assert type(short.num_batches) is type(long.num_batches)
            assert_array_equal(short.num_batches, long.num_batches)
            assert_array_equal(short.weight, long.weight)
        # What was observed is what a column without gaps says.
        there = ~np.isnan(batch)
        count = there.sum(axis=0) if weight is None else weight @ there
        observed = count > 1 if rule.variance == "within" else count > 0
        assert_array_equal(np.broadcast_to(stretch.num_batches, 3), observed)
