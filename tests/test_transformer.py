"""The transformer: what each parameter does, what a state is, what bad input says.

A call that raises, or that is interrupted, changes nothing; a reader in another thread
sees the state of one moment.
"""

import copy
import pickle
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import sk_batchnorm
from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm import _transformer
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm._kernels import dispatch
from sk_batchnorm._validation import state_of

from .laws import (
    assert_same_state,
    bits,
    rule_params,
    seeds,
    unchanged,
    variances,
    with_value,
)

RNG = np.random.default_rng(0)
X = RNG.normal([1.0, -20.0, 300.0], [0.5, 4.0, 30.0], (100, 3))
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])


def pickle_and_load(bn):
    return pickle.loads(pickle.dumps(bn))


# Learning


def test_the_readme_formula():
    bn = BatchNorm(weight_init=[2.0, 3.0, 4.0], bias_init=0.5).fit(X)
    expected = (X - bn.running_mean_) / np.sqrt(bn.running_var_ + 1e-5)
    # Where the bias cancels most of an output, its rounding is what is left.
    expected = expected * [2.0, 3.0, 4.0] + 0.5
    assert_allclose(bn.transform(X), expected, rtol=1e-13, atol=1e-15)


def test_fit_on_one_mini_batch():
    bn = BatchNorm(batch_size=None).fit(X)
    assert_allclose(bn.running_mean_, X.mean(axis=0), rtol=1e-14)
    assert_allclose(bn.running_var_, X.var(axis=0, ddof=1), rtol=1e-13)


def test_fit_forgets_everything():
    bn = BatchNorm().fit(FRAME).partial_fit(FRAME)
    bn.weight_ *= 3
    again = bn.fit(X[:, :2])
    fresh = BatchNorm().fit(X[:, :2])
    assert bits(again) == bits(fresh)
    assert not hasattr(bn, "feature_names_in_")


@given(
    n_rows=st.integers(2, 100),
    batch_size=st.integers(2, 40),
    variance=variances,
    momentum=st.sampled_from([0.0, 0.3, 1.0, None]),
    weighted=st.booleans(),
)
def test_fit_is_corrected_steps_over_array_split(
    n_rows, batch_size, weighted, variance, momentum
):
    """Of the rows that have weight, in closed form: equal but for rounding."""
    rule = {"variance": variance, "momentum": momentum}
    rows, weight = X[:n_rows], None
    if weighted:
        weight = np.random.default_rng(n_rows).integers(0, 2, n_rows) * 1.0
        weight[:2] = 1.0
    fitted = BatchNorm(batch_size=batch_size, **rule)
    fitted.fit(rows, sample_weight=weight)
    rows = rows if weight is None else rows[weight > 0]
    streamed = BatchNorm(bias_correction=True, **rule)
    for batch in np.array_split(rows, max(1, len(rows) // batch_size)):
        streamed.partial_fit(batch)
    assert_same_state(fitted, streamed, size=300)


def test_fit_transform_is_fit_then_transform():
    bn = BatchNorm(batch_size=7)
    assert_array_equal(bn.fit_transform(X), clone(bn).fit(X).transform(X))


@given(
    seed=seeds,
    variance=variances,
    momentum=st.sampled_from([0.1, None]),
    method=st.sampled_from(["fit", "partial_fit"]),
)
def test_integer_sample_weight_is_repeated_rows(seed, variance, momentum, method):
    weight = np.random.default_rng(seed).integers(0, 4, len(X))
    rule = {"variance": variance, "momentum": momentum, "batch_size": None}
    a, b = BatchNorm(**rule), BatchNorm(**rule)
    getattr(a, method)(X, sample_weight=weight)
    getattr(b, method)(np.repeat(X, weight, axis=0))
    assert_same_state(a, b, size=300)


def test_sample_weight_may_be_one_number():
    b = BatchNorm().partial_fit(np.repeat(X, 2, axis=0))
    for weight in (2, np.float32(2), np.array(2.0)):
        a = BatchNorm().partial_fit(X, sample_weight=weight)
        assert_allclose(a.running_var_, b.running_var_, rtol=1e-13)


def test_partial_fit_after_fit_goes_on():
    bn = BatchNorm(momentum=0.5, batch_size=None).fit(X[:50])
    bn.partial_fit(X[50:])
    mean = 0.5 * X[:50].mean(axis=0) + 0.5 * X[50:].mean(axis=0)
    assert_allclose(bn.running_mean_, mean, rtol=1e-13)
    assert bn.num_batches_tracked_ == 2


# Parameters


def test_signature_is_the_contract():
    assert BatchNorm().get_params() == {
        "num_features": None,
        "eps": 1e-5,
        "momentum": 0.1,
        "affine": True,
        "bias": True,
        "track_running_stats": True,
        "halflife": None,
        "variance": "auto",
        "bias_correction": False,
        "weight_init": None,
        "bias_init": None,
        "with_mean": True,
        "batch_size": 256,
        "clip": None,
        "handle_missing": "keep",
        "n_jobs": None,
        "copy": True,
    }
    assert BatchNorm(3).num_features == 3
    with pytest.raises(TypeError):
        BatchNorm(3, 1e-5)


BAD_PARAMETERS = [
    *[{"num_features": 0}, {"num_features": 2.0}],
    *[{"eps": -1e-9}, {"eps": np.nan}, {"eps": None}],
    *[{"momentum": 1.1}, {"momentum": -0.1}, {"momentum": np.nan}, {"momentum": "0.1"}],
    *[{"affine": "yes"}, {"affine": 1}, {"track_running_stats": None}],
    *[{"variance": "between"}, {"bias_correction": 0.5}],
    *[{"weight_init": "ones"}, {"bias_init": object()}, {"with_mean": None}],
    *[{"batch_size": 1}, {"batch_size": 2.5}, {"copy": "no"}],
    *[{"clip": bad} for bad in (0.0, -1.0, np.inf, np.nan, "3")],
    *[{"handle_missing": "zero"}, {"handle_missing": None}],
]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_parameters_out_of_range(method):
    for bad in BAD_PARAMETERS:
        for bn in (BatchNorm(), BatchNorm().partial_fit(X)):
            error = pytest.raises(InvalidParameterError, match=next(iter(bad)))
            with unchanged(bn.set_params(**bad)), error:
                getattr(bn, method)(X)


def test_parameters_out_of_range_in_transform():
    bn = BatchNorm().fit(X)
    for bad in (
        {"eps": -1.0},
        {"eps": np.inf},
        {"eps": np.nan},
        {"eps": "x"},
        {"copy": 3},
        {"clip": 0},
        {"clip": np.inf},
        {"clip": "x"},
        {"handle_missing": "x"},
        {"handle_missing": True},
    ):
        defaults = {"eps": 1e-5, "copy": True, "clip": None, "handle_missing": "keep"}
        bn.set_params(**defaults | bad)
        for call in (bn.transform, bn.inverse_transform):
            with pytest.raises(InvalidParameterError, match=next(iter(bad))):
                call(X)
    bn.set_params(**defaults)
    # An integer and a NumPy number are real numbers too.
    for eps in (0, np.float32(0.5)):
        expected = bn.set_params(eps=float(eps), copy=True).transform(X)
        assert_array_equal(bn.set_params(eps=eps).transform(X), expected)


def test_num_features_is_checked_against_the_data():
    assert BatchNorm(3).fit(X).n_features_in_ == 3
    with pytest.raises(ValueError, match="X has 3 features.*num_features=4"):
        BatchNorm(4).fit(X)
    bn = BatchNorm().fit(X).set_params(num_features=4)
    with pytest.raises(ValueError, match="num_features=4"):
        bn.partial_fit(X)


def test_weight_and_bias_start_where_they_are_told():
    bn = BatchNorm(weight_init=2.0, bias_init=[1, 2, 3]).fit(X)
    assert_array_equal(bn.weight_, [2.0, 2.0, 2.0])
    assert_array_equal(bn.bias_, [1.0, 2.0, 3.0])
    assert bn.weight_.dtype == bn.bias_.dtype == np.float64
    plain = BatchNorm(affine=False).fit(X)
    assert plain.weight_ is plain.bias_ is None
    given = np.ones(3)
    bn = BatchNorm(weight_init=given).fit(X)
    bn.weight_ *= 5
    assert_array_equal(given, 1.0)


@pytest.mark.parametrize("kind", [list, tuple, pd.Series])
def test_weight_and_bias_may_be_any_array_like(kind):
    data = np.tile(X, (100, 1))  # larger than what is looked at closely
    expected = BatchNorm().fit(data)
    bn = BatchNorm().fit(data)
    expected.weight_ = expected.bias_ = np.array([2.0, 3.0, 4.0])
    bn.weight_ = bn.bias_ = kind([2, 3, 4])
    for method in ("transform", "inverse_transform", "forward"):
        assert_array_equal(getattr(bn, method)(data), getattr(expected, method)(data))
    for key, value in bn.state_dict().items():
        assert_array_equal(value, expected.state_dict()[key])


def test_affine_false_is_weight_one_and_bias_zero():
    assert_array_equal(
        BatchNorm(affine=False).fit_transform(X),
        BatchNorm(affine=True).fit_transform(X),
    )


def test_eps_zero_divides_a_constant_feature_by_one():
    constant = np.column_stack([X[:, 0], np.full(100, 7.0)])
    for track in (True, False):
        bn = BatchNorm(eps=0, batch_size=None, track_running_stats=track)
        assert_array_equal(bn.fit_transform(constant)[:, 1], 0.0)
        assert_array_equal(bn.transform(constant + 2)[:, 1], 2.0 if track else 0.0)


def test_with_mean_false_scales_only():
    bn = BatchNorm(with_mean=False, bias_init=1.0).fit(X)
    assert_allclose(
        bn.transform(X), X / np.sqrt(bn.running_var_ + 1e-5) + 1.0, rtol=1e-13
    )
    assert_array_equal(bn.running_mean_, BatchNorm().fit(X).running_mean_)
    assert_allclose(bn.inverse_transform(bn.transform(X)), X, rtol=1e-12)


def test_without_running_statistics_by_those_of_x():
    bn = BatchNorm(track_running_stats=False).fit(X).partial_fit(X)
    assert bn.running_mean_ is bn.running_var_ is bn.num_batches_tracked_ is None
    new = X[:30] * 5 + 3
    expected = (new - new.mean(axis=0)) / np.sqrt(new.var(axis=0) + 1e-5)
    assert_allclose(bn.transform(new), expected, atol=1e-12)
    with pytest.raises(ValueError, match="more than 1 sample"):
        bn.transform(X[:1])
    with pytest.raises(ValueError, match="track_running_stats=False"):
        bn.inverse_transform(X)


# What a model can't take: clip and handle_missing


@st.composite
def limits(draw):
    """A fitted transformer, other rows of any floating dtype with gaps, and a clip."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    trailing = draw(st.sampled_from([(), (6,)]))
    settings = {
        "eps": draw(st.sampled_from([0, 1e-5, 3.0])),
        "affine": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "with_mean": draw(st.booleans()),
        "track_running_stats": draw(st.booleans()),
    }
    weight, bias = rng.normal(size=(2, 3))
    weight[draw(st.integers(0, 2))] = 0.0
    bn = BatchNorm(weight_init=weight, bias_init=bias, **settings)
    shape = (draw(st.integers(3, 60)), 3, *trailing)
    data = rng.normal(2.0, 3.0, (2, *shape))
    data[0, :, 1] = 5.0  # of which the variance is 0
    data[1][rng.random(shape) < 0.3] = np.nan
    data[1, :2] = rng.normal(2.0, 3.0, (2, *shape[1:]))
    dtype = draw(st.sampled_from(["float16", "float32", "float64", ">f8"]))
    return bn.fit(data[0]), data[1].astype(dtype), draw(st.floats(1e-3, 5))


def affine_map_of(bn, ndim):
    """Weight and bias, as wide as X."""
    wide = (3, 1) if ndim == 3 else (3,)
    weight = np.ones(3) if bn.weight_ is None else bn.weight_
    bias = np.zeros(3) if bn.bias_ is None else bn.bias_
    return weight.reshape(wide), bias.reshape(wide)


def assert_rounded_once(bn, data, wide):
    """The output is that in float64, as if rounded once; in place, too."""
    out = bn.transform(data)
    if bn.running_mean_ is not None:
        assert_array_equal(out, wide.astype(out.dtype))
    else:  # of statistics that the loops for another dtype have found
        assert_allclose(out, wide, rtol=1e-6, atol=1e-6)
    assert_array_equal(bn.transform(data.copy(), copy=False), out)


@given(limits())
def test_clip_limits_before_the_affine_map(case):
    bn, data, clip = case
    weight, bias = affine_map_of(bn, data.ndim)
    wide = data.astype(np.float64)
    unlimited = bn.transform(wide)
    weight_, bias_ = bn.weight_, bn.bias_
    bn.weight_ = bn.bias_ = None
    normalised = bn.transform(wide)
    bn.weight_, bn.bias_ = weight_, bias_
    out = bn.set_params(clip=clip).transform(wide)

    # The scale holds the weight, with a rounding of its own.
    expected = np.clip(normalised, -clip, clip) * weight + bias
    assert_allclose(out, expected, rtol=1e-13, atol=1e-13)
    # Beyond the limits, and within them, to the bit.
    with np.errstate(invalid="ignore"):
        beyond = np.abs(normalised) > clip * (1 + 1e-12)
        within = np.abs(normalised) < clip * (1 - 1e-12)
    at_limit = np.sign(normalised) * (clip * weight) + bias
    assert_array_equal(out[beyond], at_limit[beyond])
    assert_array_equal(out[within], unlimited[within])
    assert_array_equal(np.isnan(out), np.isnan(wide))
    assert_rounded_once(bn, data, out)


@given(limits(), st.booleans())
def test_a_missing_value_is_what_the_running_mean_is(case, clipped):
    bn, data, clip = case
    weight, bias = affine_map_of(bn, data.ndim)
    wide = data.astype(np.float64)
    bn.set_params(clip=clip if clipped else None)
    kept = bn.transform(wide)
    out = bn.set_params(handle_missing="mean").transform(wide)
    missing = np.isnan(wide)
    assert_array_equal(out[~missing], kept[~missing])
    if bn.with_mean:
        assert_array_equal(out[missing], np.broadcast_to(bias, wide.shape)[missing])
    else:
        axes = (0, 2) if wide.ndim == 3 else 0
        mean, std = np.nanmean(wide, axes), np.sqrt(np.nanvar(wide, axes) + bn.eps)
        if bn.running_mean_ is not None:
            mean, std = bn.running_mean_, np.sqrt(bn.running_var_ + bn.eps)
        std[std == 0] = 1.0
        normalised = (mean / std).reshape(bias.shape)
        if clipped:
            normalised = np.clip(normalised, -clip, clip)
        expected = np.broadcast_to(normalised * weight + bias, wide.shape)[missing]
        assert_allclose(out[missing], expected, rtol=1e-12, atol=1e-12)
    if bn.running_mean_ is not None:  # to the bit
        mean = bn.running_mean_.reshape(bias.shape)
        bn.set_params(handle_missing="keep")
        assert_array_equal(bn.transform(np.where(missing, mean, wide)), out)
        bn.set_params(handle_missing="mean")
    assert_rounded_once(bn, data, out)


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("track", [True, False])
def test_a_feature_never_observed_is_the_bias(with_mean, track):
    gaps = np.column_stack([X[:, 0], np.full(100, np.nan)])
    bn = BatchNorm(
        with_mean=with_mean,
        track_running_stats=track,
        bias_init=[1.0, 2.0],
        clip=3.0,
        handle_missing="mean",
    )
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        bn.fit(gaps)
    messages = [str(each.message) for each in record]
    assert [
        each.endswith("its output is its bias, 0 without one.") for each in messages
    ] == ([True] if track else [])
    out = bn.transform(gaps)
    assert_array_equal(out[:, 1], 2.0)
    if track:
        assert_array_equal(bn.transform(np.nan_to_num(gaps, nan=1013.0))[:, 1], 2.0)
    bn.set_params(handle_missing="keep")
    assert np.isnan(bn.transform(gaps)[:, 1]).all()
    assert_array_equal(bn.transform(gaps)[:, 0], out[:, 0])


def test_inverse_of_a_clipped_value_is_the_limit():
    bn = BatchNorm(
        clip=2.0, handle_missing="mean", weight_init=[2.0, -3.0, 1.0], bias_init=0.5
    ).fit(X)
    mean, std = bn.running_mean_, np.sqrt(bn.running_var_ + 1e-5)
    data = np.array([mean + 100 * std, mean - 100 * std, mean + std, 3 * [np.nan]])
    expected = [mean + 2 * std, mean - 2 * std, mean + std, mean]
    assert_allclose(bn.inverse_transform(bn.transform(data)), expected, rtol=1e-13)
    # Neither does anything on the way back.
    far = np.array([[100.0, np.nan, -7.0]])
    plain = clone(bn).set_params(clip=None, handle_missing="keep").fit(X)
    assert_array_equal(bn.inverse_transform(far), plain.inverse_transform(far))


def test_forward_and_what_is_learned_do_not_clip():
    settings = {"weight_init": 2.0, "momentum": 0.5}
    plain = BatchNorm(**settings)
    limited = BatchNorm(clip=0.1, handle_missing="mean", **settings)
    assert_array_equal(limited.forward(X), plain.forward(X))
    assert_array_equal(limited.backward(X), plain.backward(X))
    with pytest.raises(ValueError, match="contains NaN"):
        limited.forward(np.where(X > 300, np.nan, X))
    gaps = np.where(X > 300, np.nan, X)
    for method in ("partial_fit", "fit"):
        a, b = (getattr(bn, method)(gaps) for bn in (limited, plain))
        for key, value in a.state_dict().items():
            assert_array_equal(value, b.state_dict()[key])


def test_what_overflows_is_clipped():
    bn = BatchNorm(clip=10.0, weight_init=[2.0, 0.0, 1.0]).fit(X)
    data = np.array([[1.7e308, 1.0, -1.7e308]])
    for weight in ([2.0, 0.0, 1.0], [1e200, 0.0, 1.0]):
        bn.weight_ = weight
        with np.errstate(all="raise"):
            assert_array_equal(bn.transform(data)[0], [10 * weight[0], 0.0, -10.0])


def test_clip_is_any_real_number():
    for clip in (2, np.float32(2), np.int64(2)):
        bn = BatchNorm(clip=clip).fit(X)
        assert bn.transform([[1e9, 0.0, 0.0]])[0, 0] == 2.0


def test_infinity_but_in_rows_of_weight_zero():
    bad = X.copy()
    bad[3, 1] = np.inf
    weight = np.ones(100)
    for track in (True, False):
        bn = BatchNorm(track_running_stats=track)
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match="infinity"):
                getattr(bn, method)(bad)
            assert not hasattr(bn, "n_features_in_")
        # A row of weight 0 is not there, whatever it holds.
        weight[3] = 0.0
        for method in ("fit", "partial_fit"):
            getattr(clone(bn), method)(bad, sample_weight=weight)
        weight[3] = 1.0


# Transforming


@given(
    seed=st.integers(0, 2**32 - 1),
    eps=st.floats(0, 10),
    affine=st.booleans(),
    with_mean=st.booleans(),
)
def test_inverse_transform_undoes_transform(seed, eps, affine, with_mean):
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.1, 5, 3) * rng.choice([-1, 1], 3)
    bn = BatchNorm(
        eps=eps,
        affine=affine,
        with_mean=with_mean,
        weight_init=weight,
        bias_init=rng.normal(size=3),
    ).fit(X)
    # A large eps or a small weight shrinks x before the bias is added, which
    # then costs it digits: |bias| sqrt(var + eps) / |weight| is up to 1e3.
    assert_allclose(bn.inverse_transform(bn.transform(X)), X, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_copy_false_writes_into_x(method):
    bn = BatchNorm().fit(X)
    expected = getattr(bn, method)(X)
    for by_parameter in (True, False):
        data = X.copy()
        bn.set_params(copy=not by_parameter)
        result = getattr(bn, method)(data, copy=None if by_parameter else False)
        assert np.shares_memory(result, data)
        assert_array_equal(result, expected)
    bn.set_params(copy=False)
    data = X.copy()
    getattr(bn, method)(data, copy=True)
    assert_array_equal(data, X)
    data.flags.writeable = False
    assert_array_equal(getattr(bn, method)(data), expected)
    assert_array_equal(data, X)


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_what_raises_leaves_x_as_it_was(method):
    bn = BatchNorm().fit(X)
    for bad in (np.ones(2), np.ones((3, 1)), 1.0):
        for name in ("weight_", "bias_"):
            broken, data = copy.deepcopy(bn), X.copy()
            setattr(broken, name, bad)
            with pytest.raises(ValueError, match=f"{name} has shape"):
                getattr(broken, method)(data, copy=False)
            assert_array_equal(data, X)
    before = with_value(X, (17, 1), np.inf)
    for bounds in ({}, {"clip": 1.0, "handle_missing": "mean"}):
        bn.set_params(**bounds)
        data = before.copy()
        with unchanged(bn), pytest.raises(ValueError, match="infinity"):
            getattr(bn, method)(data, copy=False)
        assert_array_equal(data, before)


def test_what_overflows_does_not_stop_half_way():
    bn = BatchNorm(weight_init=1e200).fit(X)
    data = X.copy()
    data[1] = 1e300
    with np.errstate(all="raise"):
        expected = bn.transform(data)
        assert_array_equal(bn.transform(data, copy=False), expected)
    assert np.isinf(expected[1]).all()
    assert np.isfinite(expected[2:]).all()


def test_inverse_transform_names_features_of_weight_0():
    bn = BatchNorm(weight_init=[1.0, 0.0, 0.0]).fit(FRAME)
    with pytest.raises(ValueError, match="weight_ of 0, which feature b, c has"):
        bn.inverse_transform(X)


def test_transform_leaves_the_transformer_alone():
    bn = BatchNorm().fit(X)
    with unchanged(bn):
        bn.transform(X)
        bn.inverse_transform(X)
        bn.state_dict()["running_mean"][:] = 7


# Resetting, saving, loading


def test_reset_running_stats_and_parameters():
    bn = BatchNorm(weight_init=2.0).fit(X)
    bn.weight_ += 1
    bn.reset_running_stats()
    assert_array_equal(bn.running_mean_, 0.0)
    assert_array_equal(bn.running_var_, 1.0)
    assert bn.num_batches_tracked_ == 0
    assert_array_equal(bn.weight_, 3.0)
    bn.partial_fit(X).reset_parameters()
    assert bn.num_batches_tracked_ == 0
    assert_array_equal(bn.weight_, 2.0)
    fresh = BatchNorm(weight_init=2.0).partial_fit(X)
    assert bits(bn.partial_fit(X)) == bits(fresh)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track_running_stats", [True, False])
def test_state_dict_round_trip(affine, track_running_stats):
    settings = {"affine": affine, "track_running_stats": track_running_stats}
    bn = BatchNorm(weight_init=2.0, **settings).fit(X)
    state = bn.state_dict()
    assert list(state) == (
        ["weight", "bias"] * affine
        + ["running_mean", "running_var", "num_batches_tracked"] * track_running_stats
    )
    loaded = BatchNorm(3, **settings).load_state_dict(state)
    assert loaded.n_features_in_ == 3
    assert_array_equal(loaded.transform(X), bn.transform(X))


@pytest.mark.parametrize(
    "move",
    [
        pickle_and_load,
        copy.deepcopy,
        lambda bn: clone(bn).load_state_dict(bn.state_dict()),
    ],
    ids=["pickle", "deepcopy", "state_dict"],
)
@given(rule=rule_params, n_before=st.integers(1, 9))
def test_a_stream_resumes_with_the_same_bits(rule, n_before, move):
    bn = BatchNorm(**rule)
    batches = np.split(X, 10)
    for batch in batches[:n_before]:
        bn.partial_fit(batch)
    resumed = move(bn)
    for batch in batches[n_before:]:
        bn.partial_fit(batch)
        resumed.partial_fit(batch)
    for key, value in bn.state_dict().items():
        assert resumed.state_dict()[key].tobytes() == value.tobytes()
    assert resumed.transform(X).tobytes() == bn.transform(X).tobytes()


def good_state(**changes):
    state = BatchNorm().fit(X).state_dict() | changes
    return {key: value for key, value in state.items() if value is not None}


with np.errstate(over="ignore"):
    # For a float64; infinity where a long double is no longer than that.
    TOO_LARGE = 2 * np.longdouble(np.finfo(np.float64).max)


class Unreadable:
    """As a tensor that still needs its gradient."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("requires grad")


BAD_STATES = [
    ({}, "missing"),
    (good_state(bias=None), r"missing \['bias'\]"),
    (good_state(running_mean=None), r"missing \['running_mean'\]"),
    (
        good_state(running_mean=[np.nan, 1, 2], running_var=[np.nan, 1, 2]),
        "running_mean contains NaN, which both may where",
    ),
    (
        good_state(running_mean=[np.nan, 1, 2], num_batches_tracked=0),
        "running_mean contains NaN",
    ),
    (
        good_state(running_var=[np.nan, 1, 2], num_batches_tracked=[0, 1, 1]),
        "running_var contains NaN",
    ),
    (good_state(extra=np.ones(3)), r"unknown \['extra'\]"),
    (good_state(weight=np.ones(2)), "bias has shape|weight has shape"),
    (good_state(running_var=np.ones((1, 3))), "running_var has shape"),
    (good_state(running_mean=np.ones(())), "running_mean has shape"),
    (good_state(running_var=[1.0, -1.0, 1.0]), "negative"),
    (good_state(running_var=[1.0, np.inf, 1.0]), "infinity"),
    (good_state(running_var=[1.0, np.nan, 1.0]), "NaN"),
    (good_state(running_mean=[1.0, np.nan, 1.0]), "NaN"),
    (good_state(weight=[1.0, np.nan, 1.0]), "NaN"),
    (good_state(bias=np.array(["a", "b", "c"])), "not a real number"),
    (good_state(bias=np.ones(3, complex)), "not a real number"),
    (good_state(bias=np.array([1.0, None, 2.0])), "not a real number"),
    (good_state(bias=np.ma.masked_less([1.0, 2.0, 3.0], 2)), "mask would be lost"),
    (good_state(bias=Unreadable()), "bias can't be made.*requires grad"),
    (good_state(running_var=np.array([1, 2, TOO_LARGE])), "infinity"),
    ([("weight", np.ones(3))], "mapping"),
    (None, "mapping"),
    *[
        (good_state(num_batches_tracked=bad), "num_batches_tracked")
        for bad in (-1, 1.5, np.uint64(2**63), 2**70, np.ones(2, int))
    ],
]


def test_a_bad_state_changes_nothing():
    for state, message in BAD_STATES:
        for bn in (BatchNorm(), BatchNorm().fit(X)):
            with unchanged(bn), pytest.raises(ValueError, match=message):
                bn.load_state_dict(state)


def test_a_state_of_other_features():
    state = BatchNorm().fit(X[:, :2]).state_dict()
    for bn in (BatchNorm().fit(X), BatchNorm(3)):
        with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\)"):
            bn.load_state_dict(state)
    assert BatchNorm().load_state_dict(state).n_features_in_ == 2


def test_a_loaded_count_is_a_number_where_equal():
    for count in (np.full(3, 7), 7, np.array(7)):
        bn = BatchNorm().load_state_dict(good_state(num_batches_tracked=count))
        assert bn.num_batches_tracked_ == 7
        assert isinstance(bn.num_batches_tracked_, int)
    bn.load_state_dict(good_state(num_batches_tracked=[7, 0, 7]))
    assert_array_equal(bn.num_batches_tracked_, [7, 0, 7])


def test_a_state_without_a_count_has_seen_nothing():
    """As PyTorch wrote it before 0.4.1, and loads it."""
    state = good_state(num_batches_tracked=None)
    bn = BatchNorm().load_state_dict(state)
    assert bn.num_batches_tracked_ == 0
    assert_array_equal(bn.running_mean_, state["running_mean"])
    bn.set_params(bias_correction=True).partial_fit(X[:10])
    assert_allclose(bn.running_mean_, X[:10].mean(axis=0), rtol=1e-14)


def test_names_come_with_a_state():
    state = BatchNorm().fit(FRAME).state_dict()
    for names in (["a", "b", "c"], np.array(["a", "b", "c"]), FRAME.columns):
        bn = BatchNorm().load_state_dict(state, feature_names=names)
        assert list(bn.feature_names_in_) == list(bn.get_feature_names_out())
        assert list(bn.feature_names_in_) == ["a", "b", "c"]
        bn.transform(FRAME)  # without a warning
        for method in (bn.transform, bn.partial_fit, bn.inverse_transform):
            with pytest.raises(ValueError, match="feature names should match"):
                method(FRAME[["b", "a", "c"]])
    # Those that it has are kept, and may be replaced.
    assert list(bn.load_state_dict(state).feature_names_in_) == ["a", "b", "c"]
    bn.load_state_dict(state, feature_names=list("xyz"))
    assert list(bn.feature_names_in_) == ["x", "y", "z"]


def test_bad_names_of_a_state_change_nothing():
    state = BatchNorm().fit(X).state_dict()
    for names in (["a", "b"], ["a", "b", "b"], ["a", "b", 3], "abc", [list("abc")], 5):
        for bn in (BatchNorm(), BatchNorm().fit(FRAME)):
            error = pytest.raises(ValueError, match="feature_names must be 3 different")
            with unchanged(bn), error:
                bn.load_state_dict(state, feature_names=names)


@pytest.mark.parametrize("method", ["partial_fit", "forward"])
def test_names_come_with_the_first_dataframe(method):
    state = BatchNorm().fit(FRAME).state_dict()
    bn = BatchNorm().load_state_dict(state)
    for frame in (FRAME, FRAME[["b", "a", "c"]], pl.DataFrame(X), X):
        bn.transform(frame)  # without a warning that it was fitted without names
        bn.inverse_transform(frame)
    assert not hasattr(bn, "feature_names_in_")
    assert not hasattr(pickle.loads(pickle.dumps(bn)), "feature_names_in_")
    before = bits(bn)
    bad = FRAME.copy()
    bad.iloc[3, 1] = np.inf
    with pytest.raises(ValueError, match="infinity.* in feature b, first in row 3"):
        getattr(bn, method)(bad)
    assert bits(bn) == before
    bn.partial_fit(X)
    assert not hasattr(bn, "feature_names_in_")
    getattr(bn, method)(FRAME)
    assert list(bn.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        bn.transform(FRAME[["b", "a", "c"]])
    # As of any transformer that is fitted without names.
    with pytest.warns(UserWarning, match="fitted without feature names"):
        BatchNorm().fit(X).transform(FRAME)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_inverse_transform_of_a_frame(output):
    bn = BatchNorm().set_output(transform=output).fit(FRAME)
    Y = bn.transform(FRAME)
    assert_allclose(bn.inverse_transform(Y), X, rtol=1e-12)
    assert_allclose(bn.inverse_transform(np.asarray(Y)), X, rtol=1e-12)


def test_an_empty_state_needs_the_number_of_features():
    bn = BatchNorm(affine=False, track_running_stats=False)
    with pytest.raises(ValueError, match="num_features"):
        bn.load_state_dict({})
    assert bn.set_params(num_features=3).load_state_dict({}).n_features_in_ == 3


def test_before_fitting():
    bn = BatchNorm()
    for attribute in ("running_mean_", "running_var_", "num_batches_tracked_"):
        assert not hasattr(bn, attribute)
        with pytest.raises(NotFittedError, match=f"has no {attribute} before it has"):
            getattr(bn, attribute)
    for name, *args in (
        *[("transform", X), ("inverse_transform", X), ("state_dict",)],
        *[("reset_running_stats",), ("reset_parameters",), ("get_feature_names_out",)],
    ):
        with unchanged(bn), pytest.raises(NotFittedError):
            getattr(bn, name)(*args)


# Bad input: a clear error, the transformer unchanged to the bit


BAD_DATA = {
    "strings": (np.array([["a", "b", "c"], ["d", "e", "f"]]), ValueError, "numeric"),
    "objects": (np.array([[1, {}, 2], [1, 2, 3]], object), TypeError, "float"),
    "object strings": (np.array([["a", 1, 2], [1, 2, 3]], object), ValueError, "float"),
    "complex": (X + 1j, ValueError, "Complex data not supported"),
    "dates": (np.full((3, 3), "2026-01-01", "M8[D]"), ValueError, "real number"),
    "infinity": (with_value(X, (17, 1), np.inf), ValueError, "infinity"),
    "minus infinity": (with_value(X, (17, 1), -np.inf), ValueError, "infinity"),
    "too large a long double": (np.full((3, 3), TOO_LARGE), ValueError, "infinity"),
    "no rows": (X[:0], ValueError, "0 sample"),
    "no features": (X[:, :0], ValueError, "0 feature"),
    "one dimension": (X[0], ValueError, "Expected 2D array"),
    "a scalar": (3.0, ValueError, "Expected 2D array"),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], ValueError, "inhomogeneous"),
    "None": (None, ValueError, "NoneType|Expected 2D"),
}


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize(
    "method", ["fit", "partial_fit", "transform", "inverse_transform"]
)
@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(name, method):
    data, error, message = BAD_DATA[name]
    fresh = BatchNorm()
    for bn in (fresh, clone(fresh).fit(X), clone(fresh).fit(FRAME)):
        if bn is fresh and "transform" in method:
            continue
        with unchanged(bn), pytest.raises(error, match=message):
            getattr(bn, method)(data)


CUBE = X.reshape(10, 3, 10)
CSR = sparse.csr_array(X)
SPARSE = {"with_mean": False}
AS_PANDAS, AS_POLARS = {"transform": "pandas"}, {"transform": "polars"}
BAD_OUTPUT = [
    ({}, AS_PANDAS, CUBE, "Three-dimensional.*pandas"),
    ({}, AS_POLARS, CUBE, "Three-dimensional.*polars"),
    (SPARSE, AS_PANDAS, CSR, "Sparse.*pandas"),
    (SPARSE | {"bias_init": 1.0}, {}, CSR, "bias_"),
]


@pytest.mark.parametrize(("params", "output", "data", "message"), BAD_OUTPUT)
def test_what_can_not_come_out_changes_nothing(params, output, data, message):
    """Neither the transformer nor, without a copy, the data."""
    fresh = BatchNorm(copy=False, **params).set_output(**output)
    fitted = clone(fresh).set_output(**output).fit(data)
    for call in (fitted.transform, fitted.fit_transform, fresh.fit_transform):
        given = data.copy()
        with unchanged(call.__self__), pytest.raises(ValueError, match=message):
            call(given)
        assert pickle.dumps(given) == pickle.dumps(data.copy())


def test_a_subclass_that_wants_no_dataframes():
    class Plain(BatchNorm, auto_wrap_output_keys=None):
        pass

    with config_context(transform_output="pandas"):
        assert Plain().fit_transform(CUBE).shape == CUBE.shape
        with pytest.raises(ValueError, match="pandas"):
            BatchNorm().fit_transform(CUBE)


def test_fit_transform_is_all_or_nothing():
    bn = BatchNorm(track_running_stats=False)
    with unchanged(bn), pytest.raises(ValueError, match="more than 1 sample"):
        bn.fit_transform(X[:1], sample_weight=2)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_one_row_under_within(method):
    for bn in (BatchNorm(), BatchNorm().fit(X)):
        message = "1 sample|n_samples=1"
        with unchanged(bn), pytest.raises(ValueError, match=message) as error:
            getattr(bn, method)(X[:1])
        if method == "partial_fit":
            assert "variance='total'" in str(error.value)


@pytest.mark.parametrize("weight", [None, [1.0], [0.3]])
@pytest.mark.parametrize("row", [X[:1], CUBE[:1, :, :1], sparse.csr_array(X[:1])])
def test_one_row_is_enough_under_total(row, weight):
    bn = BatchNorm(variance="total", with_mean=not sparse.issparse(row))
    for method in ("fit", "partial_fit"):
        learned = getattr(clone(bn), method)(row, sample_weight=weight)
        if method == "fit":
            assert_array_equal(
                learned.running_mean_,
                np.ravel(row.toarray()) if sparse.issparse(row) else np.ravel(row),
            )
            assert_array_equal(learned.running_var_, 0.0)


@pytest.mark.parametrize("method", ["partial_fit", "transform", "inverse_transform"])
def test_other_feature_names_or_column_order(method):
    bn = BatchNorm().fit(FRAME)
    renamed = FRAME.rename(columns={"b": "z"})
    for frame in (renamed, FRAME[["b", "a", "c"]], FRAME[["a", "c"]]):
        for data in (frame, pl.DataFrame(frame.to_dict("list"))):
            error = pytest.raises(ValueError, match="feature names should match")
            with unchanged(bn), error:
                getattr(bn, method)(data)


@pytest.mark.parametrize("method", ["partial_fit", "transform", "inverse_transform"])
def test_another_number_of_features(method):
    bn, message = BatchNorm().fit(X), "X has 2 features.*expecting 3"
    with unchanged(bn), pytest.raises(ValueError, match=message):
        getattr(bn, method)(X[:, :2])


BAD_WEIGHTS = [
    (np.ones(99), "inconsistent numbers of samples"),
    (np.ones((100, 1)), "1D array"),
    (-np.ones(100), "Negative values"),
    (np.r_[-1e-9, np.ones(99)], "Negative values"),
    (np.full(100, np.nan), "sample_weight contains NaN"),
    (np.full(100, np.inf), "sample_weight contains infinity"),
    (["a"] * 100, "could not convert string"),
    ([1j] * 100, "Complex"),
    (1j, "Complex"),
    (np.zeros(100), "non-zero"),
    (np.full(100, 0.01), "n_samples=1 .*scale sample_weight up.* variance='total'"),
    (np.full(100, 0.001), "n_samples=0.1 .*scale sample_weight up.* variance='total'"),
    (np.full(100, 1e308), "sum of sample_weight overflows"),
    (np.ma.masked_less(np.arange(100.0), 5), r"filled\(0\)"),
]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_sample_weight(method):
    for weight, message in BAD_WEIGHTS:
        for bn in (BatchNorm(), BatchNorm().fit(X)):
            with unchanged(bn), pytest.raises(ValueError, match=message):
                getattr(bn, method)(X, sample_weight=weight)


def test_a_mini_batch_of_too_little_weight():
    bn = BatchNorm(batch_size=10)
    light = np.r_[np.full(10, 0.01), np.full(90, 2.0)]
    for weight in (light, light[::-1]):
        with pytest.raises(ValueError, match="variance='total'"):
            bn.fit(X, sample_weight=weight)
        assert not hasattr(bn, "n_features_in_")
        clone(bn).set_params(variance="total").fit(X, sample_weight=weight)


BAD_INITS = [
    ([1.0, 2.0], r"shape \(2,\)"),
    ([[1.0, 2.0, 3.0]], r"shape \(1, 3\)"),
    ([1.0, np.nan, 2.0], "NaN"),
    (np.inf, "infinity"),
    (["a", "b", "c"], "could not convert string"),
    (np.array([1j, 2.0, 3.0]), "Complex"),
    ([1j, 2.0, 3.0], "Complex"),
    (np.array(2.0), r"shape \(\)"),
]


@pytest.mark.parametrize("name", ["weight_init", "bias_init"])
def test_bad_start_of_the_affine_map(name):
    fresh, fitted = BatchNorm(), BatchNorm().fit(X)
    for value, message in BAD_INITS:
        for call, *args in (
            *[(fresh.fit, X), (fresh.partial_fit, X)],
            *[(fitted.fit, X), (fitted.reset_parameters,)],
        ):
            bn = call.__self__.set_params(**{name: value})
            with unchanged(bn), pytest.raises(ValueError, match=message):
                call(*args)


PACKAGE = str(Path(sk_batchnorm.__file__).parent)


def raise_at_line(stop, error):
    """Trace function that raises at a line, counted as this package runs."""
    line = 0

    def trace(frame, event, _):
        nonlocal line
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            line += 1
            if line == stop:
                raise error
        return trace

    return trace


@pytest.mark.parametrize("method", ["fit", "partial_fit", "load_state_dict"])
@pytest.mark.parametrize("fitted", [True, False])
def test_interrupted_at_any_line(method, fitted):
    """Raise at every line that a call executes in this package, in turn.

    The state is that of before or after. The errors take turns: KeyboardInterrupt,
    which no ``except Exception`` stops, and MemoryError, which one would.
    """
    start = BatchNorm(batch_size=40)
    if fitted:
        start.fit(FRAME[["a", "b"]] if method == "fit" else FRAME)
    argument = FRAME
    if method == "load_state_dict":
        argument = BatchNorm().partial_fit(X).state_dict()
    before = bits(start)
    after = bits(getattr(copy.deepcopy(start), method)(argument))
    for stop in range(1, 1000):
        bn = copy.deepcopy(start)
        error = [KeyboardInterrupt, MemoryError][(stop + fitted) % 2]
        previous = sys.gettrace()
        sys.settrace(raise_at_line(stop, error))
        try:
            getattr(bn, method)(argument)
        except error:
            assert bits(bn) in (before, after)
        else:
            break
        finally:
            sys.settrace(previous)
    assert bits(bn) == after
    assert stop > 20


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
@pytest.mark.parametrize("data", [X, X.tolist()])
def test_a_fit_during_transform(method, data, monkeypatch):
    """Transform sees the state of one moment, whichever way X takes."""
    bn = BatchNorm().fit(X)
    expected = getattr(bn, method)(data)
    bn._running_stats._cache.clear()  # which would spare it the general way

    def interrupted(view):
        state = state_of(view)
        bn.fit(X[:, :2])
        return state

    monkeypatch.setattr(_transformer, "state_of", interrupted)
    assert_array_equal(getattr(bn, method)(data), expected)
    assert bn.n_features_in_ == 2


# Threads


def test_readers_see_no_mixture_of_states():
    """Mini-batch k has mean k and standard deviation k; momentum is 1."""
    n_steps = 300
    two = np.array([[-1.0], [1.0]]) / np.sqrt(2)
    batches = [k + k * two for k in range(1, n_steps + 1)]
    probe = np.array([[1000.0], [-3.0]])
    bn = BatchNorm(momentum=1.0, eps=0).partial_fit(batches[0])
    allowed = {
        clone(bn).partial_fit(batch).transform(probe).tobytes() for batch in batches
    }
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(bn.transform(probe).tobytes())

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    stop = time.monotonic() + 60
    while len(seen) < 10 and time.monotonic() < stop:
        for batch in batches:
            bn.partial_fit(batch)
    done.set()
    for reader in readers:
        reader.join()
    assert len(allowed) == n_steps
    assert len(seen) >= 10
    assert seen <= allowed


@pytest.mark.parametrize("data", [FRAME, X.tolist(), X[:, :, None]])
def test_a_later_step_touches_only_the_statistics(data):
    """What is set meanwhile, in another thread or by X itself, stays."""

    class Setting:
        shape = np.shape(data)

        def __array__(self, *args, **kwargs):
            bn.eps = 0.5
            return np.asarray(data)

    bn = BatchNorm().fit(data)
    attributes = vars(bn)
    if not isinstance(data, pd.DataFrame):
        bn.partial_fit(Setting())
        assert bn.eps == 0.5
    bn.partial_fit(data)
    assert vars(bn) is attributes


def test_parameters_as_class_attributes():
    class Fixed(BatchNorm):
        num_features = None
        eps, momentum, affine, bias = 1e-5, 0.1, True, True

        def __init__(self, variance="within"):
            self.variance = variance

        track_running_stats, bias_correction, with_mean = True, False, True
        weight_init, bias_init, batch_size, n_jobs, copy = None, None, 256, None, True

    bn, plain = Fixed(), BatchNorm()
    for _ in range(2):
        assert_array_equal(
            bn.partial_fit(X).transform(X), plain.partial_fit(X).transform(X)
        )


# The short way through validation


@st.composite
def candidates(draw):
    """What a user may pass to a transformer of three features."""
    shapes = [(4, 3), (1, 3), (0, 3), (4, 2), (4, 0), (3,), (), (4, 3, 2), (1, 4, 3)]
    shape = draw(st.sampled_from(shapes))
    dtypes = ["f4", "f8", ">f4", ">f8", "f2", "g", "i4", "u1"]
    dtypes += ["?", "c16", "O", "U3", "M8[s]"]
    data = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    data = data.astype(draw(st.sampled_from(dtypes)))
    if data.size and data.dtype.kind in "fc":
        data.flat[-1] = draw(st.sampled_from([1.0, np.nan, np.inf]))
    kinds = [
        lambda a: a,
        np.asfortranarray,
        lambda a: a[::-1],
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a.tolist(),
        lambda a: np.ma.array(a),
        lambda a: np.ma.array(a, mask=a == a),
        lambda a: a.view(type("Subclass", (np.ndarray,), {})),
    ]
    if data.ndim == 2:
        kinds += [np.asmatrix, pd.DataFrame]
        kinds += [lambda a: pd.DataFrame(a, columns=["a", "b", "c"][: a.shape[1]])]
    return draw(st.sampled_from(kinds))(data) if data.ndim else data


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("method", ["partial_fit", "transform"])
@given(data=candidates(), named=st.booleans())
def test_the_short_way_is_the_long_way(named, method, data):
    def outcome(long):
        bn = BatchNorm().fit(FRAME if named else X)
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(record=True, action="always") as record,
        ):
            if long:
                patch.setattr(_transformer, "plain_input", lambda *_: None)
            try:
                result = getattr(bn, method)(copy.deepcopy(data))
            except (ValueError, TypeError) as error:
                result = type(error), str(error)
        if method == "transform" and isinstance(result, np.ndarray):
            result = result.dtype.str, result.shape, result.tobytes()
        elif result is bn:
            result = None
        return result, bits(bn), [str(each.message) for each in record]

    assert outcome(long=False) == outcome(long=True)


def calls_of_ours(method, data):
    """Names of the package's functions that a call runs through."""
    names, package = [], str(Path(_transformer.__file__).parent)

    def note(frame, event, arg):
        if event == "call" and frame.f_code.co_filename.startswith(package):
            names.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        method(data)
    finally:
        sys.setprofile(None)
    return names


@pytest.mark.parametrize(
    ("method", "most", "with_numpy"), [("partial_fit", 9, 19), ("transform", 5, 13)]
)
def test_a_small_step_takes_few_calls(method, most, with_numpy):
    """Each takes as long as the arithmetic on a row."""
    most = most if dispatch.KERNELS == "compiled" else with_numpy
    bn, rows = BatchNorm(), np.random.default_rng(0).normal(size=(32, 20))
    for _ in range(30):
        bn.partial_fit(rows).transform(rows)
    bn.partial_fit(rows)
    assert len(calls_of_ours(getattr(bn, method), rows)) <= most


# What is silently something else than meant: a warning, once


def small_units(rng, n_rows=1000):
    return rng.normal(0, [20e-6, 1.0, 20e-6], (n_rows, 3))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
@pytest.mark.parametrize("variance", ["within", "total"])
def test_a_variance_below_eps_is_named(method, variance):
    data = small_units(np.random.default_rng(0))
    bn = BatchNorm(variance=variance)
    with pytest.warns(UserWarning, match="feature x0, x2 is below eps=1e-05") as record:
        getattr(bn, method)(data)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert "standard deviation of 0.0065 or less" in str(record[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bn.partial_fit(data)
        # A constant does not vary, and eps=0 has no such feature.
        clone(bn).set_params(bias_correction=True).partial_fit(np.full((4, 2), 0.3))
        BatchNorm(eps=0).fit(data)
        BatchNorm().fit(X)


def test_many_features_are_counted():
    data = np.random.default_rng(0).normal(0, 1e-6, (100, 8))
    with pytest.warns(UserWarning, match="feature x0, x1, x2, x3, x4 and 3 others is"):
        BatchNorm().fit(data)
    with pytest.warns(UserWarning, match="feature x0, x1, x2, x3, x4 and 1 other is"):
        BatchNorm().fit(data[:, :6])


@pytest.mark.parametrize("learn", ["partial_fit", "forward"])
def test_the_start_is_warned_of(learn):
    bn = BatchNorm()
    getattr(bn, learn)(X)
    with pytest.warns(UserWarning, match="still has 90% of the weight") as record:
        bn.transform(X)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert "bias_correction" in str(record[0].message)
    before = bits(bn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bn.transform(X)  # once
        pickle.loads(pickle.dumps(bn)).transform(X)
        assert bits(bn) == before
    for n_steps in (21, 22):
        bn = BatchNorm()
        for _ in range(n_steps):
            getattr(bn, learn)(X)
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            bn.transform(X)
        assert len(record) == (0.9**n_steps > 0.1)


def test_no_start_is_warned_of_where_there_is_none():
    state = BatchNorm().partial_fit(X).state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BatchNorm().fit(X).transform(X)
        BatchNorm().fit(X).partial_fit(X).transform(X)
        BatchNorm(bias_correction=True).partial_fit(X).transform(X)
        BatchNorm(momentum=None).partial_fit(X).transform(X)
        BatchNorm(momentum=1).partial_fit(X).transform(X)
        BatchNorm().load_state_dict(state).transform(X)
        BatchNorm().load_state_dict(state).partial_fit(X).transform(X)
        BatchNorm(track_running_stats=False).partial_fit(X).transform(X)
        bn = BatchNorm().partial_fit(X)
        bn.fit(X).transform(X)


def test_the_start_is_that_of_a_feature():
    """One that was observed late, among others that were observed long enough."""
    bn = BatchNorm()
    gaps = X.copy()
    gaps[:, 1] = np.nan
    with pytest.warns(UserWarning, match="Too few observed values in feature x1"):
        bn.partial_fit(gaps)
    for _ in range(30):
        bn.partial_fit(gaps)
    bn.partial_fit(X)
    with pytest.warns(
        UserWarning, match="still has 90% .*the output of feature x1 may"
    ):
        bn.transform(X)


def test_a_warning_as_an_error_changes_nothing():
    bn = BatchNorm().partial_fit(X)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with unchanged(bn), pytest.raises(UserWarning, match="PyTorch's start"):
                bn.transform(X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_weights_below_one_are_warned_of(method):
    weight = np.full(100, 1.01 / 100)
    bn = BatchNorm()
    with pytest.warns(UserWarning, match=r"sums to 1.01 over 100 samples") as record:
        getattr(bn, method)(X, sample_weight=weight)
    assert len(record) == 1
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bn.partial_fit(X, sample_weight=weight)  # once
        for good in (np.ones(100), np.r_[np.zeros(50), np.ones(50)], np.full(100, 0.1)):
            variance = "total" if good[-1] == 0.1 else "within"
            getattr(BatchNorm(variance=variance), method)(
                X, sample_weight=good * (100 * 0.1 / (100 * 0.1))
            )


# NumPy's error state


def every_call(bn, X, make=np.asarray):
    """All that a transformer does to X, and what it learns of it, to the bit."""
    with_mean = bn.with_mean
    results = []
    for data in (X, X * 1e-160, X * 1e160, np.tile(X, (3000, 1))):
        data = make(data)
        learned = clone(bn).fit(data).partial_fit(data)
        out = learned.transform(data)
        back = learned.inverse_transform(out)
        results += [learned.running_mean_, learned.running_var_]
        results += [
            each.data if sparse.issparse(each) else each for each in (out, back)
        ]
        if with_mean and not np.isnan(X).any():
            results += [learned.forward(data), learned.backward(data)]
            results += [learned.weight_grad_, learned.bias_grad_]
        again = clone(bn).load_state_dict(learned.state_dict())
        results.append(again.transform(data).data)
    return [np.asarray(result).tobytes() for result in results]


@pytest.mark.filterwarnings("ignore:The variance of")
@pytest.mark.parametrize("make", [np.asarray, np.asfortranarray, sparse.csr_array])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    "rule",
    [
        *[{}, {"momentum": 0.5}, {"variance": "total", "momentum": None, "eps": 0}],
        {"clip": 1.5, "handle_missing": "mean"},
    ],
)
def test_numpys_error_state_changes_no_bit(make, gaps, rule):
    data = np.random.default_rng(0).normal(3.0, 2.0, (40, 3))
    if gaps:
        data[::3, 1] = np.nan
    bn = BatchNorm(with_mean=make is not sparse.csr_array, **rule)
    if make is sparse.csr_array:
        bn.set_params(bias=False)
    with np.errstate(all="ignore"):
        expected = every_call(bn, data, make)
    with np.errstate(all="raise"):
        assert every_call(bn, data, make) == expected


def test_what_underflows_in_a_long_stream():
    """The weight of what is old underflows, and so does a variance that fades."""
    bn, batch = (BatchNorm(momentum=0.5), np.array([[1.0, 5], [2, 5], [4, 5]]))
    with np.errstate(all="raise"):
        bn.set_params(batch_size=3).fit(np.tile(batch, (1200, 1)))
        bn.reset_running_stats()
        for _ in range(1200):
            bn.partial_fit(batch)
    assert_allclose(bn.running_mean_, [7 / 3, 5.0])
    assert bn.running_var_[1] < 1e-300


# A variance that is rounding of the mean


def as_noise(value, n_rows=1000, n_features=2):
    """A constant, but for the rounding of a sum and a difference."""
    a = 3 * value * np.random.default_rng(0).random((n_rows, n_features))
    return (a + value) - a


@pytest.mark.parametrize(
    "kind",
    [np.asarray, np.asfortranarray, sparse.csr_array, sparse.csc_array, np.atleast_3d],
)
@pytest.mark.parametrize("variance", ["within", "total"])
@pytest.mark.parametrize("value", [0.3, -0.3, 1e8 + 0.1])
def test_rounding_noise_is_not_amplified_without_eps(kind, variance, value):
    assert np.ptp(as_noise(value)) > 0
    with_mean = kind not in (sparse.csr_array, sparse.csc_array)
    bn = BatchNorm(batch_size=None, variance=variance, eps=0, with_mean=with_mean)
    row = kind(np.full((1, 2), 1.1 * value))
    out = bn.fit(kind(as_noise(value))).transform(row)
    expected = (0.1 if with_mean else 1.1) * value
    there, back = (
        each.toarray() if sparse.issparse(each) else each
        for each in (out, bn.inverse_transform(out))
    )
    assert_allclose(there.ravel(), expected, rtol=1e-12)
    assert_allclose(back.ravel(), 1.1 * value, rtol=1e-12)


def test_rounding_noise_without_running_statistics():
    data = as_noise(0.3)
    bn = BatchNorm(eps=0)
    assert np.abs(bn.forward(data)).max() < 1e-15
    assert np.abs(bn.backward(np.ones_like(data))).max() < 1e-12
    bn = BatchNorm(eps=0, track_running_stats=False).fit(data)
    assert np.abs(bn.transform(data)).max() < 1e-15


@given(st.floats(-1e300, 1e300), st.floats(1e-12, 1e12))
def test_a_variance_beyond_rounding_is_one(mean, ratio):
    """As in the spec: var <= (10 * eps * mean)**2 counts as 0."""
    std = 2.220446049250313e-15 * abs(mean)
    for factor in (0.99, 1.01):
        if not 1e-150 < std < 1e150:
            continue
        var = (factor * std) ** 2
        state = {"running_mean": [mean], "running_var": [var]}
        bn = BatchNorm(affine=False, eps=0).load_state_dict(state)
        [[out]] = bn.transform([[mean + ratio]])
        scale = 1.0 if factor < 1 else 1 / np.sqrt(var)
        assert out == pytest.approx((mean + ratio - mean) * scale, rel=1e-12)
