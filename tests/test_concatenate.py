"""What several transformers learned, as one would have from all of the stretches."""

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm import concatenate

from .laws import bits, unchanged

RNG = np.random.default_rng(0)
X = RNG.normal([5.0, -3.0, 1e3], [2.0, 1.0, 5.0], (600, 3))
TIMES = np.sort(RNG.integers(0, 10**6, 600)).astype("M8[s]")

RULES = [
    {"halflife": 50.0},
    {"halflife": np.inf},
    {"momentum": 0.1, "bias_correction": True},
    {"momentum": 0.1, "variance": "total", "bias_correction": True},
    {"momentum": None},
    {"momentum": None, "variance": "total"},
    {"momentum": 0.0, "bias_correction": True},
]


def streamed(parts, bn, **options):
    for part in parts:
        bn.partial_fit(part, **options)
    return bn


def assert_same(joined, whole):
    # A few roundings, of means of up to 1e3 with standard deviations of 1 and more.
    assert_allclose(joined.running_mean_, whole.running_mean_, rtol=1e-13)
    assert_allclose(joined.running_var_, whole.running_var_, rtol=1e-10)
    assert_array_equal(joined.num_batches_tracked_, whole.num_batches_tracked_)


@given(
    rule=st.sampled_from(RULES),
    gaps=st.booleans(),
    cuts=st.lists(st.integers(1, 29), max_size=5, unique=True),
)
def test_stretches_are_the_stream(rule, gaps, cuts):
    data = X.copy()
    if gaps:
        data[np.random.default_rng(1).random(X.shape) < 0.4] = np.nan
    batches = np.array_split(data, 30)
    bn = BatchNorm(**rule)
    bounds = [0, *sorted(cuts), 30]
    parts = [
        streamed(batches[start:stop], clone(bn)) for start, stop in pairwise(bounds)
    ]
    joined = concatenate(parts)
    assert_same(joined, streamed(batches, clone(bn)))
    # And so does what it learns from then on.
    assert_same(joined.partial_fit(X), streamed([*batches, X], clone(bn)))


@pytest.mark.parametrize("rule", [{}, *RULES])
def test_shards_that_fit_has_learned(rule):
    """Of one mini-batch each, so that fit of a shard is a step."""
    bn = BatchNorm(batch_size=None, **rule)
    joined = concatenate([clone(bn).fit(shard) for shard in np.split(X, 4)])
    whole = clone(bn).set_params(bias_correction=True)
    assert_same(joined, streamed(np.split(X, 4), whole))


def test_shards_are_one_fit():
    """Of as many rows as mini-batches take, so that these are the same."""
    bn = BatchNorm(batch_size=50)
    joined = concatenate([clone(bn).fit(shard) for shard in np.split(X, 4)])
    assert_same(joined, clone(bn).fit(X))


def test_the_first_may_have_the_start():
    batches = np.split(X, 6)
    bn = BatchNorm(batch_size=100)
    first = streamed(batches[:3], clone(bn))
    later = [clone(bn).fit(batch) for batch in batches[3:]]
    assert_same(concatenate([first, *later]), streamed(batches, clone(bn)))
    with pytest.raises(ValueError, match="number 1 has PyTorch's start"):
        concatenate([later[0], first])


@pytest.mark.parametrize(
    ("rule", "times"),
    [
        ({"halflife": np.inf}, [None] * 4),
        ({"momentum": None}, [None] * 4),
        ({"halflife": timedelta(hours=5)}, np.split(TIMES, 4)),
    ],
    ids=["halflife", "momentum", "times"],
)
@given(order=st.permutations(range(4)))
def test_order_does_not_matter(rule, times, order):
    """Where nothing fades, or rows have times."""
    bn = BatchNorm(batch_size=None, **rule)
    shards = [
        clone(bn).fit(shard, times=when)
        for shard, when in zip(np.split(X, 4), times, strict=True)
    ]
    assert_same(concatenate([shards[k] for k in order]), concatenate(shards))


@given(
    halflife=st.floats(0.5, 1e4) | st.just(np.inf),
    cuts=st.lists(st.integers(1, 599), min_size=3, max_size=3, unique=True),
    timed=st.booleans(),
)
def test_brackets_do_not_matter(halflife, cuts, timed):
    bn, bounds = BatchNorm(halflife=halflife), [0, *sorted(cuts), 600]
    a, b, c, d = (
        clone(bn).fit(
            X[start:stop], times=np.arange(start, stop) * 1.5 if timed else None
        )
        for start, stop in pairwise(bounds)
    )
    left = concatenate([concatenate([concatenate([a, b]), c]), d])
    for other in (
        concatenate([a, concatenate([b, concatenate([c, d])])]),
        concatenate([concatenate([a, b]), concatenate([c, d])]),
        concatenate([a, b, c, d]),
    ):
        # Relative to the data of up to 1e3; the clock is exact.
        assert_allclose(other.running_mean_, left.running_mean_, rtol=1e-12, atol=1e-12)
        assert_allclose(other.running_var_, left.running_var_, rtol=1e-9, atol=1e-9)
        assert other.state_dict()["clock"] == left.state_dict()["clock"]


def test_momentum_after_halflife():
    """By half-life all is learned in full; by momentum rows have no weight."""
    bn = BatchNorm(halflife=20).fit(X)
    mean = bn.running_mean_
    bn.set_params(halflife=None, momentum=0.1, bias_correction=True)
    bn.partial_fit(X[:50])
    expected = 0.9 * mean + 0.1 * X[:50].mean(axis=0)
    assert_allclose(bn.running_mean_, expected, rtol=1e-12)
    before = bn.state_dict()
    bn.set_params(halflife=20)
    with pytest.raises(ValueError, match="learned by momentum has no weight"):
        bn.partial_fit(X)
    assert_array_equal(bn.running_var_, before["running_var"])


def test_sites_whose_rows_interleave_in_time():
    bn = BatchNorm(halflife=timedelta(hours=5))
    sites = [clone(bn).fit(X[k::3], times=TIMES[k::3]) for k in range(3)]
    whole = clone(bn).fit(X, times=TIMES)
    joined = concatenate(sites)
    assert_allclose(joined.running_mean_, whole.running_mean_, rtol=1e-13)
    assert_allclose(joined.running_var_, whole.running_var_, rtol=1e-10)
    state, expected = joined.state_dict(), whole.state_dict()
    assert state["clock"] == expected["clock"]
    assert_allclose(state["total_weight"], expected["total_weight"], rtol=1e-13)


def test_nothing_is_changed_or_shared():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    bn = BatchNorm(halflife=9, weight_init=[1.0, 2.0, 3.0])
    parts = [clone(bn).fit(half) for half in (frame[:300], frame[300:])]
    with unchanged(*parts):
        joined = concatenate(iter(parts))
        assert joined.feature_names_in_.tolist() == ["a", "b", "c"]
        joined.partial_fit(frame)
        joined.weight_ *= 2.0


def test_one_is_a_copy():
    bn = BatchNorm().partial_fit(X)
    joined = concatenate([bn])
    assert joined is not bn
    assert bits(joined) == bits(bn)


OTHER_AFFINE = BatchNorm(halflife=9).fit(X)
OTHER_AFFINE.bias_ = OTHER_AFFINE.bias_ + 1


@pytest.mark.parametrize(
    ("others", "error", "match"),
    [
        ([], ValueError, "nothing to concatenate"),
        ([1], TypeError, "got int"),
        ([BatchNorm(halflife=9)], NotFittedError, "not fitted"),
        ([BatchNorm(halflife=8).fit(X)], ValueError, "halflife=8"),
        ([BatchNorm(halflife=9, clip=2).fit(X)], ValueError, "clip=2"),
        ([BatchNorm(halflife=9).fit(X[:, :2])], ValueError, "features"),
        ([OTHER_AFFINE], ValueError, "affine maps"),
        (
            [BatchNorm(track_running_stats=False).fit(X)],
            ValueError,
            "keeps no running statistics",
        ),
    ],
)
def test_errors(others, error, match):
    first = [BatchNorm(halflife=9).fit(X)] if others else []
    if others and not getattr(others[0], "track_running_stats", True):
        first = []
    with pytest.raises(error, match=match):
        concatenate([*first, *others])


def test_a_single_transformer_is_no_list():
    with pytest.raises(TypeError, match="takes a list"):
        concatenate(BatchNorm(halflife=9).fit(X))


def test_a_mean_that_overflows_is_named():
    # The difference of the means is beyond float64.
    parts = [BatchNorm(halflife=9).fit([[x]]) for x in (-1e308, 1.7e308)]
    with (
        np.errstate(all="raise"),
        pytest.raises(ValueError, match="mean of feature x0"),
    ):
        concatenate(parts)


def test_n_jobs_and_copy_may_differ():
    parts = [
        BatchNorm(halflife=9, n_jobs=1, copy=True).fit(X),
        BatchNorm(halflife=9, n_jobs=2, copy=False).fit(X),
    ]
    assert concatenate(parts).num_batches_tracked_ == 2
