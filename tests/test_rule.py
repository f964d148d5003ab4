"""The rule: what a mini-batch weighs, and how older weight decays.

By exact arithmetic, and whatever rule came before.
"""

import copy
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm._kernels.numpy import ignore_float_errors
from sk_batchnorm._rule import Rule
from sk_batchnorm._running_stats import RunningStats

from .laws import factor, mean_of, momenta, moments, params_of, rules, seeds, step

# A momentum that changes from one mini-batch to the next

# Some of which forget everything, and some of which learn nothing.
changing_momenta = st.sampled_from([0.0, 1.0]) | momenta


def reloaded(bn):
    """A new transformer of the same parameters, with what the other has learned."""
    return BatchNorm1dTransformer(**bn.get_params()).load_state_dict(bn.state_dict())


@ignore_float_errors
def one_more(stats, rule):
    """Share of one more mini-batch, and the weight of all then."""
    return rule.factor(stats.num_batches, stats.weight, 1, rule.weight(1))


@pytest.mark.parametrize("bias_correction", [True, False])
@given(t=st.integers(1, 1000))
def test_cumulative_factor_is_one_over_t(bias_correction, t):
    assert factor(t - 1, 1, Rule(None, bias_correction=bias_correction)) == 1 / t


@example(1, 0.061)  # 1 - (1 - momentum) is another double
@example(1, 0.226)
@given(t=st.integers(1, 1000), momentum=momenta)
def test_uncorrected_factor_is_the_momentum(t, momentum):
    assert factor(t - 1, 1, Rule(momentum)) == momentum


@given(t=st.integers(1, 40), momentum=st.floats(1e-9, 1))
def test_corrected_factor_is_the_closed_form(t, momentum):
    mu = Fraction(momentum)
    exact = mu / (1 - (1 - mu) ** t)
    rule = Rule(momentum, bias_correction=True)
    assert factor(t - 1, 1, rule) == pytest.approx(float(exact), rel=1e-14, abs=0)


@given(t=st.integers(1, 10**6), momentum=st.floats(0, 1e-300))
def test_corrected_factor_tends_to_one_over_t(t, momentum):
    rule = Rule(momentum, bias_correction=True)
    assert factor(t - 1, 1, rule) == pytest.approx(1 / t, rel=1e-12, abs=0)


@given(momentum=momenta)
def test_corrected_factor_replaces_the_start_exactly(momentum):
    assert factor(0, 1, Rule(momentum, bias_correction=True)) == 1.0


@given(rule=rules)
def test_nothing_after_anything_has_no_weight(rule):

    for earlier in (0, 7):
        assert factor(earlier, 0, rule) == 0.0
    some = np.array([0, 7])
    assert_array_equal(factor(some, 0 * some, rule), 0.0)


@given(
    steps=st.lists(st.tuples(changing_momenta, st.booleans()), min_size=1, max_size=12),
    seed=seeds,
)
@example([(0.0, True), (0.0, False), (0.0, True)], 0)
@example([(0.0, True), (0.0, False), (0.3, False), (0.0, True), (0.7, True)], 0)
@example([(0.3, True), (0.3, False), (1.0, False), (0.3, True)], 0)
def test_what_a_mini_batch_weighs(steps, seed):
    """The corrected mean is the normalised average, with one momentum or with many.

    If all are 0, it is the limit of equal ones that tend to 0: the average of all.
    The second feature is missing where a step says so, and as if there was no step.
    """
    values = np.random.default_rng(seed).normal(0, 10, len(steps))
    stats = RunningStats.start(2)
    for (momentum, is_observed), value in zip(steps, values, strict=True):
        batch = np.array([[value, value if is_observed else np.nan]] * 2)
        rule = Rule(momentum, bias_correction=True)
        stats = step(stats, moments(batch), rule)
    seen = [list(range(len(steps))), [i for i, (_, there) in enumerate(steps) if there]]
    for feature, here in enumerate(seen):
        mus = [Fraction(steps[i][0]) for i in here]
        weights = [mu * prod(1 - m for m in mus[i + 1 :]) for i, mu in enumerate(mus)]
        total = 1 - prod(1 - mu for mu in mus)
        assert sum(weights) == total
        # Two roundings in each step, of a sum of positive terms.
        weight = np.broadcast_to(stats.weight, 2)[feature]
        assert weight == pytest.approx(float(total), rel=1e-14, abs=0)
        if not here:
            assert np.isnan(stats.mean[feature])
            continue
        if total == 0:
            weights, total = [Fraction(1)] * len(here), len(here)
        terms = (w * Fraction(values[i]) for w, i in zip(weights, here, strict=True))
        # Each of 12 steps rounds numbers of up to about 50, to 2e-14 or so.
        exact = float(sum(terms) / total)
        assert stats.mean[feature] == pytest.approx(exact, abs=3e-13)


@pytest.mark.parametrize(
    "in_mid_stream", [copy.deepcopy, lambda bn: bn, reloaded], ids=["copy", "", "load"]
)
def test_a_small_momentum_after_a_large_one(in_mid_stream):
    """It does not count the mini-batches before as if they had weighed as little."""
    bn = BatchNorm1dTransformer(momentum=0.5, bias_correction=True)
    zeros, ones = np.zeros((2, 1)), np.ones((2, 1))
    for _ in range(20):
        bn.partial_fit(zeros)
    for k in range(100):
        if k in (0, 50):
            bn = in_mid_stream(bn)
        bn.set_params(momentum=0.001).partial_fit(ones)
    left = 0.999**100
    # 0.0952, but for the 2^-20 that the zeros lack to a weight of 1.
    assert bn.running_mean_[0] == pytest.approx(1 - left, rel=2**-20)
    exact = (1 - left) / (1 - left * 0.5**20)
    assert bn.running_mean_[0] == pytest.approx(exact, rel=1e-12, abs=0)


@given(past=st.lists(rules, max_size=12), bias_correction=st.booleans(), seed=seeds)
def test_a_cumulative_step_takes_one_over_all(past, bias_correction, seed):
    """All mini-batches since the reset count, by whatever rule they were learned."""
    bn = BatchNorm1dTransformer().partial_fit(np.eye(2)).reset_running_stats()
    batches = np.random.default_rng(seed).normal(0, 10, (len(past) + 1, 2, 2))
    stats = RunningStats.start(2)
    for rule, batch in zip(past, batches, strict=False):
        stats = step(stats, moments(batch), rule)
        bn.set_params(**params_of(rule)).partial_fit(batch)
    before = bn.running_mean_
    assert_array_equal(before, stats.mean)
    t = len(past) + 1
    rule = Rule(None, bias_correction=bias_correction)
    assert one_more(stats, rule)[0] == 1 / t
    bn.set_params(momentum=None, bias_correction=bias_correction)
    bn.set_params(variance="within").partial_fit(batches[-1])
    expected = before + (mean_of(moments(batches[-1]))[0] - before) / t
    # Numbers of up to about 50 are rounded a few times, to 7e-15.
    assert_allclose(bn.running_mean_, expected, rtol=0, atol=5e-14)


@given(past=st.lists(rules, max_size=12), momentum=changing_momenta, seed=seeds)
@example([Rule(0.5, bias_correction=True)], 0.061, 0)  # as above
def test_an_uncorrected_step_takes_the_momentum(past, momentum, seed):
    batches = np.random.default_rng(seed).normal(0, 10, (len(past) + 1, 2, 2))
    stats = RunningStats.start(2)
    for rule, batch in zip(past, batches, strict=False):
        stats = step(stats, moments(batch), rule)
    rule = Rule(momentum)
    assert one_more(stats, rule)[0] == momentum
    after = step(stats, moments(batches[-1]), rule)
    assert after.start_weight == stats.start_weight * (1 - momentum)


@given(
    in_mid_stream=st.sampled_from([copy.deepcopy, lambda bn: bn, reloaded]),
    t=st.integers(1, 40),
    momentum=st.floats(1e-9, 1),
)
def test_an_unchanged_momentum_stays_in_closed_form(in_mid_stream, t, momentum):
    """After any number of steps and a checkpoint: no rounding adds up.

    The running mean of mini-batches of zeros and a last one of ones is the factor.
    """
    bn = BatchNorm1dTransformer(momentum=momentum, bias_correction=True)
    rule = Rule(momentum, bias_correction=True)
    stats = RunningStats.start(1)
    for _ in range(t - 1):
        bn.partial_fit(np.zeros((2, 1)))
        stats = step(stats, moments(np.zeros((2, 1))), rule)
    if t > 1:
        assert "total_weight" not in bn.state_dict()
        bn = in_mid_stream(bn)
    bn.partial_fit(np.ones((2, 1)))
    exact = Fraction(momentum) / (1 - (1 - Fraction(momentum)) ** t)
    share, weight = one_more(stats, rule)
    assert weight == rule.weight(t)
    # The logarithm, a product, the exponential and the quotient round once each.
    assert share == pytest.approx(float(exact), rel=1e-15, abs=0)
    assert bn.running_mean_[0] == pytest.approx(float(exact), rel=1e-15, abs=0)


@given(
    momentum=st.floats(1e-3, 1),
    corrected=st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_bias_correction_may_come_and_go(momentum, corrected):
    """The momentum has not changed, so that the count tells the weight."""
    bn = BatchNorm1dTransformer(momentum=momentum)
    for bias_correction in [*corrected, True]:
        bn.set_params(bias_correction=bias_correction).partial_fit([[1.0], [3.0]])
    assert "total_weight" not in bn.state_dict()
