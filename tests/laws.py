"""What several files of tests say in one way: states, bits, kinds of X, moments."""

import pickle
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sk_batchnorm._inputs import input_of
from sk_batchnorm._kernels.numpy import AffineMap, ignore_float_errors
from sk_batchnorm._rule import Rule
from sk_batchnorm._running_stats import RunningStats

momenta = st.floats(0, 1)
any_momenta = momenta | st.none()
variances = st.sampled_from(["within", "total"])
rules = st.builds(Rule, any_momenta, variances, st.booleans())
seeds = st.integers(0, 2**32 - 1)
# The parameters of a rule, as a transformer takes them.
rule_params = st.fixed_dictionaries(
    {
        "momentum": st.sampled_from([0.0, 0.1, 0.7, 1.0, None]),
        "variance": variances,
        "bias_correction": st.booleans(),
    }
)


def params_of(rule):
    """The parameters of a transformer that learns by a rule."""
    return {
        "momentum": rule.momentum,
        "variance": rule.variance,
        "bias_correction": rule.bias_correction,
    }


# Data


def with_gaps(rng, shape, share=0.4):
    """Normal numbers, of which about a share is missing."""
    X = rng.normal(3.0, 2.0, shape)
    X[rng.random(shape) < share] = np.nan
    return X


def with_value(X, index, value):
    """A copy of X, in which one number is another: infinity, or NaN."""
    X = X.copy()
    X[index] = value
    return X


LAYOUTS = ["C", "F", "rows apart", "columns apart", "backwards", "other bytes"]


def laid_out(X, layout):
    """The same values in another order of memory or bytes."""
    if layout in ("C", "F"):
        return np.asarray(X, order=layout)
    if layout == "other bytes":
        return X.astype(X.dtype.newbyteorder())
    if layout == "backwards":
        return X[::-1, ::-1].copy()[::-1, ::-1]
    steps = (3, 1) if layout == "rows apart" else (1, 2)
    wide = np.full(
        [n * step for n, step in zip(X.shape, steps, strict=True)], 9, X.dtype
    )
    view = wide[:: steps[0], :: steps[1]]
    view[:] = X
    return view


# Of estimators


def bits(estimator):
    """All that an estimator is, to the bit."""
    return pickle.dumps(vars(estimator))


@contextmanager
def unchanged(*estimators):
    """Whatever happens inside leaves the estimators as they were, to the bit."""
    before = [bits(estimator) for estimator in estimators]
    yield
    assert [bits(estimator) for estimator in estimators] == before


def assert_same_state(bn, other, size=10.0, rtol=1e-12):
    """Equal but for the rounding of numbers of about ``size``."""
    assert_allclose(bn.running_mean_, other.running_mean_, rtol=rtol, atol=1e-14 * size)
    assert_allclose(
        bn.running_var_, other.running_var_, rtol=10 * rtol, atol=1e-14 * size**2
    )
    assert_array_equal(bn.num_batches_tracked_, other.num_batches_tracked_)


def run_check(estimator, check, excused):
    """One of scikit-learn's checks; one that is excused has to fail.

    Of pytest's own xfail, each traceback would be formatted, for longer than the check
    takes.
    """
    if check.func.__name__ in excused:
        with pytest.raises((AssertionError, ValueError)):
            check(estimator)
    else:
        check(estimator)


# Of the internals, without NumPy's float errors


@ignore_float_errors
def batch_moments(X, bounds, weight=None, n_jobs=None):
    """Moments of consecutive mini-batches of the rows of X."""
    return input_of(X, "a test").moments(bounds, weight, n_jobs)


def moments(X, weight=None, n_jobs=None):
    """Moments of one mini-batch, of all rows of X."""
    return batch_moments(X, None, weight, n_jobs)


@ignore_float_errors
def mean_of(batches):
    """Mean of each mini-batch as one double, of shape (k, n_features)."""
    return batches.shift + batches.residual


@ignore_float_errors
def variance_of(batch, ddof):
    """Variance of one mini-batch, as it is learned; NaN where too little is there."""
    return RunningStats.of(batch, Rule(1.0, "within" if ddof else "total")).var


@ignore_float_errors
def normalize(X, centre, scale, offset, limit=None, fill=None, *, copy, n_jobs=None):
    """``(X - centre) * scale + offset``, of the kind of X."""
    data = input_of(X, "a test")
    by = AffineMap(centre, scale, offset, limit, fill)
    return data.normalized(by, copy=copy, n_jobs=n_jobs)


@ignore_float_errors
def learned(batches, rule):
    """Statistics of consecutive mini-batches alone."""
    return RunningStats.of(batches, rule)


@ignore_float_errors
def then(earlier, later, rule):
    """Statistics of two stretches, one after the other."""
    return earlier.then(later, rule)


def step(stats, batch, rule):
    """Statistics after one more mini-batch, or several."""
    return then(stats, learned(batch, rule), rule)


def stream(batches, rule):
    """Statistics after mini-batches of rows, one by one, from PyTorch's start."""
    stats = RunningStats.start(batches[0].shape[1])
    for batch in batches:
        stats = step(stats, moments(batch), rule)
    return stats


@ignore_float_errors
def factor(earlier, later, rule):
    """Share of so many mini-batches after so many others, all by one rule."""
    return rule.factor(earlier, rule.weight(earlier), later, rule.weight(later))[0]
