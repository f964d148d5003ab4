"""`halflife` and `times`: rows fade by their age, however they are cut.

What is learned is the weighted mean and variance of all rows, whatever the kind of
data; a stream is resumed to the bit, and what is refused changes nothing.
"""

import copy
import io
import itertools
import pickle
from datetime import UTC, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

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
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm import fold
from sk_batchnorm._compat import to_numpy
from sk_batchnorm.pipeline import StreamingPipeline

from .laws import unchanged, with_value

pytestmark = pytest.mark.filterwarnings("ignore:Too few observed values")

INF = float("inf")
RNG = np.random.default_rng(0)
X = RNG.normal([1.0, -20.0, 300.0], [0.5, 4.0, 30.0], (60, 3))
GAPS = np.where(RNG.random(X.shape) < 0.3, np.nan, X)
TIMES = np.cumsum(RNG.exponential(1.0, 60).round(3))
START = np.datetime64("2026-03-01T12:00:00", "ns")
DATES = START + (TIMES * 3.6e12).astype("m8[ns]")  # hours
HOUR = timedelta(hours=1)
STREAMS = {  # halflife, data, times
    "rows": (7.0, X, None),
    "rows with gaps": (7.0, GAPS, None),
    "numbers": (2.5, GAPS, TIMES),
    "dates": (HOUR, GAPS, DATES),
}
streams = pytest.mark.parametrize(("halflife", "data", "times"), STREAMS.values())


def of_rows(start, stop, **metadata):
    """Keywords of some rows."""
    return {k: v[start:stop] for k, v in metadata.items() if v is not None}


def learn(bn, X, cuts=(), make=np.asarray, **metadata):
    """A clone that has learned from rows cut so; pieces of weight 0 are no batches."""
    bn = clone(bn)
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(X)]):
        some = of_rows(start, stop, **metadata)
        if stop > start and np.any(some.get("sample_weight", 1)):
            bn.partial_fit(make(X[start:stop]), **some)
    return bn


def assert_same(bn, other, X=X, rtol=1e-12):
    """Means agree relative to the data, variances relative to themselves."""
    size = np.nanmax(np.abs(X), initial=1e-300)
    mean, var = to_numpy(bn.running_mean_), to_numpy(bn.running_var_)
    assert_allclose(mean, other.running_mean_, rtol=0, atol=rtol * size)
    assert_allclose(var, other.running_var_, rtol=rtol)


def naive(X, halflife, sample_weight=None, times=None):
    """Mean and variance of each column, exact sums of weights that are doubles."""
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    result = []
    for x in np.asarray(X, dtype=float).T:
        there = ~np.isnan(x) & (weight > 0)
        age = np.arange(there.sum())[::-1] if times is None else times[there]
        age = age if times is None else (age[-1:] - age) / np.ones(1, age.dtype)[0]
        w = [Fraction(float(v)) for v in weight[there] * 0.5 ** (age / halflife)]
        v = [Fraction(float(value)) for value in x[there]]
        mean = sum(a * b for a, b in zip(w, v, strict=True)) / sum(w)
        squares = sum(a * (b - mean) ** 2 for a, b in zip(w, v, strict=True))
        result.append((float(mean), float(squares / sum(w))))
    return np.array(result).T


@st.composite
def cases(draw):
    """Rows, perhaps with gaps, weights and times, and two ways to cut them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(2, 40))
    data = rng.normal(rng.normal(0, 9, 3), rng.uniform(0.5, 9), (n, 3))
    data[rng.random(data.shape) < draw(st.sampled_from([0, 0.3]))] = np.nan
    data[[0, -1]] = 1.0, 2.0, 3.0  # something to know of each feature
    weight = (
        rng.integers(0, 3, n) * rng.uniform(0.1, 5) if draw(st.booleans()) else None
    )
    if weight is not None:
        weight[[0, -1]] = 1.5
    times = rng.integers(0, 4, n).cumsum() * 0.7 if draw(st.booleans()) else None
    cuts = st.lists(st.integers(0, n)) | st.just(range(n))
    # Shorter half-lives leave one row, in whose variance all digits may be rounding.
    halflife = draw(st.floats(1, 1e3) | st.just(INF))
    metadata = {"sample_weight": weight, "times": times}
    return BatchNorm(halflife=halflife), data, metadata, draw(cuts), draw(cuts)


# However cut, the same; and what it is


@given(cases())
def test_any_cuts_agree_with_exact_sums(case):
    bn, X, metadata, cuts, other = case
    one, two = learn(bn, X, cuts, **metadata), learn(bn, X, other, **metadata)
    assert_same(one, two, X)
    # The exponent a / h, at most 40, is rounded: 40 * ln 2 * eps, twice.
    mean, var = naive(X, bn.halflife, **metadata)
    assert_allclose(one.running_mean_, mean, rtol=0, atol=1e-12 * np.nanmax(abs(X)))
    assert_allclose(one.running_var_, var, rtol=1e-12)
    once = learn(bn, X, **metadata).state_dict()
    there = {k: v for k, v in metadata.items() if v is not None}
    for key, value in clone(bn).fit(X, **there).state_dict().items():
        assert_array_equal(value, once[key])
    if metadata["sample_weight"] is not None:  # the scale of weights does not matter
        metadata["sample_weight"] = metadata["sample_weight"] * 1e-200
        assert_same(learn(bn, X, cuts, **metadata), two, X)


def test_weights_of_any_scale():
    bn, weight = BatchNorm(halflife=5), np.arange(60.0) % 4
    for data, scale in itertools.product([X, GAPS], [1e-300, 1e300]):
        expected = learn(bn, data, sample_weight=weight)
        for cuts in [(), (3, 20), range(60)]:
            assert_same(learn(bn, data, cuts, sample_weight=weight * scale), expected)


@streams
def test_many_rows_in_random_cuts(halflife, data, times):
    n, rng = 20_000, np.random.default_rng(1)
    data = data[rng.integers(0, 60, n)]
    times = None if times is None else times[0] + (times[1] - times[0]) * np.arange(n)
    weight = rng.integers(0, 3, n)
    weight[-1] = 1
    if times is not None:  # close enough for thousands of rows to count
        halflife = 1000 * (times[1] - times[0])
        halflife = halflife if times.dtype == float else pd.Timedelta(halflife)
    bn, metadata = BatchNorm(halflife=halflife), {"times": times}
    for metadata["sample_weight"] in (None, weight):
        cuts = rng.integers(0, n, 40)
        one = learn(bn, data, [*cuts, *(cuts[:10] + 1)], **metadata)
        assert_same(one, learn(bn, data, **metadata))


def test_a_column_with_gaps_is_that_column_without():
    for cuts in [(), (5, 6, 31), range(60)]:
        bn = learn(BatchNorm(halflife=4), GAPS, cuts)
        for i, x in enumerate(GAPS.T):
            x = x[~np.isnan(x)][:, None]
            alone = BatchNorm(halflife=4).fit(x)
            assert_allclose(bn.running_mean_[[i]], alone.running_mean_, rtol=1e-12)
            assert_allclose(bn.running_var_[[i]], alone.running_var_, rtol=1e-12)
            assert bn.state_dict()["clock"][i] == len(x)


@pytest.mark.parametrize("times", [None, TIMES], ids=["rows", "times"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_three_dimensions(times, missing, weighted):
    rng = np.random.default_rng(0)
    cube = rng.normal(5, 2, (60, 3, 4))
    if missing:
        cube[rng.random(cube.shape) < 0.3] = np.nan
    weight = np.arange(60) % 3 if weighted else None
    rows = cube.transpose(0, 2, 1).reshape(-1, 3)
    flat = {k: np.repeat(v, 4) for k, v in [("times", times)] if v is not None}
    flat["sample_weight"] = np.repeat(weight, 4) if weighted else None
    bn = BatchNorm(halflife=9.0)
    expected = learn(bn, rows, **flat)
    for cuts in [(), (7, 8, 30)]:
        one = learn(bn, cube, cuts, times=times, sample_weight=weight)
        assert_same(one, expected, rows)
    assert_array_equal(one.state_dict()["clock"], expected.state_dict()["clock"])


def _of_namespace(name):
    def make(X):
        return pytest.importorskip(name).asarray(X)

    return make


def _with_explicit_zeros(format):
    def make(X):
        kept = np.ones_like(X)
        kept[::2] = X[::2] != 0  # stored zeros in every other row
        rows, columns = np.nonzero(kept)
        stored = X[rows, columns], (rows, columns)
        return getattr(sparse, f"{format}_array")(sparse.coo_array(stored, X.shape))

    return make


KINDS = {
    "float32": lambda X: X.astype("f4"),
    "Fortran": np.asfortranarray,
    "lists": np.ndarray.tolist,
    "pandas": pd.DataFrame,
    "polars": lambda X: pl.DataFrame(X, schema=list("abc")),
    "csr": _with_explicit_zeros("csr"),
    "csc": _with_explicit_zeros("csc"),
    "torch": _of_namespace("torch"),
    "array_api_strict": _of_namespace("array_api_strict"),
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_data(kind, missing):
    is_zero = np.random.default_rng(3).random(X.shape) < 0.4
    data = np.where(is_zero, 0.0, X).astype("f4").astype("f8")
    data = np.where(np.isnan(GAPS), np.nan, data) if missing else data
    bn, weight = BatchNorm(halflife=6, with_mean=False), np.arange(60) % 4
    dispatch = kind in ("torch", "array_api_strict")
    if dispatch:
        pytest.importorskip(kind)
    for times, sample_weight in itertools.product([None, TIMES], [None, weight]):
        metadata = {"times": times, "sample_weight": sample_weight}
        expected = learn(bn, data, **metadata)
        for cuts in [(), (1, 2, 30)]:
            with config_context(array_api_dispatch=dispatch):
                one = learn(bn, data, cuts, KINDS[kind], **metadata)
            assert_same(one, expected)


@streams
def test_one_row_at_a_time_it_is_pandas_ewm(halflife, data, times):
    series = pd.DataFrame(data)
    if times is None:
        ewm = series.ewm(halflife=halflife, ignore_na=True)
    else:
        # pandas wants dates, and rounds them to float64: 256 ns in 2026, 0 in 1970.
        dates = times if times is DATES else np.rint(times * 1e9).astype("M8[ns]")
        span = halflife if times is DATES else pd.Timedelta(halflife, "s")
        ewm = series.ewm(halflife=span, times=dates)
    mean, var = ewm.mean().to_numpy(), None
    if times is None:  # pandas has no variance with times
        var = ewm.var(bias=True).to_numpy()
    bn = BatchNorm(halflife=halflife)
    for i in range(60):
        bn.partial_fit(data[i : i + 1], **of_rows(i, i + 1, times=times))
        # pandas sums without care, and its variances are of 300 ± 30.
        assert_allclose(bn.running_mean_, mean[i], rtol=1e-11)
        if var is not None:
            assert_allclose(bn.running_var_, var[i], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("times", [None, TIMES], ids=["rows", "times"])
def test_infinity_forgets_nothing_and_knows_no_order(times):
    bn, order = BatchNorm(halflife=INF), np.random.default_rng(0).permutation(60)
    for data in (X, X[order]):
        one = learn(bn, data, [4, 5, 40], times=times)
        assert_allclose(one.running_mean_, X.mean(axis=0), rtol=1e-13)
        assert_allclose(one.running_var_, X.var(axis=0), rtol=1e-12)
    scaler = StandardScaler().fit(GAPS)
    assert_allclose(learn(bn, GAPS, [9]).running_var_, scaler.var_, rtol=1e-12)


def test_a_constant_has_no_variance():
    data = np.full((60, 3), [1 / 3, 1e10 / 3, -0.1])
    for cuts, gaps in itertools.product([(), (3, 30), range(60)], [False, True]):
        rows = np.where(np.isnan(GAPS), np.nan, data) if gaps else data
        bn = learn(BatchNorm(halflife=3.3), rows, cuts, sample_weight=np.arange(60) % 7)
        assert_array_equal(bn.running_mean_, data[0])
        assert_array_equal(bn.running_var_, 0)


# Long gaps


def test_many_rows_that_fade_fast():
    data = np.random.default_rng(2).normal(3, 2, (30_000, 2))
    for data[::7, 0] in (0.0, np.nan):
        last = BatchNorm(halflife=5).fit(data[-10_000:])  # all that is left of 2**-1074
        assert_same(BatchNorm(halflife=5).fit(data), last, data)


@pytest.mark.parametrize("jump", [1e4, 1e300])
def test_after_a_long_gap_only_the_new_counts(jump):
    bn = BatchNorm(halflife=0.5).fit(X, times=TIMES)
    bn.partial_fit(X[:5] + 7, times=np.full(5, jump))
    assert_same(bn, BatchNorm(halflife=0.5).fit(X[:5] + 7, times=np.full(5, jump)))
    at_once = np.r_[X, X[:5] + 7], np.r_[TIMES, np.full(5, jump)]
    assert_same(BatchNorm(halflife=0.5).fit(at_once[0], times=at_once[1]), bn)


@pytest.mark.parametrize("gap", [20.0, 60.0, 1000.0])
def test_the_variance_after_a_gap_keeps_its_digits(gap):
    # Two rows, a gap apart: of 1 - f, where f is nearly 1, few digits would be left.
    bn, times = BatchNorm(halflife=1.1), np.array([0.0, gap])
    for cuts in [(), (1,)]:
        one = learn(bn, np.array([[0.0], [1.0]]), cuts, times=times)
        share = 0.5 ** (gap / 1.1) / (1 + 0.5 ** (gap / 1.1))
        # The exponent is rounded: 1000 * eps.
        assert_allclose(one.running_var_, share * (1 - share), rtol=1e-12)


@pytest.mark.parametrize("times", [TIMES, DATES], ids=["times", "dates"])
@pytest.mark.parametrize(
    "data", [X, GAPS, sparse.csr_array(X)], ids=["X", "GAPS", "csr"]
)
def test_rows_of_weight_0_are_not_there_however_late(data, times):
    halflife = (times[1] - times[0]) / 1e6  # so that no double is 2 to their age
    halflife = pd.Timedelta(halflife) if times is DATES else halflife
    bn = BatchNorm(halflife=halflife, with_mean=False)
    expected = clone(bn).fit(data, times=times)
    late = times[-1] + (times[-1] - times[0]) * np.array([9, 99])
    weight = np.r_[np.ones(60), 0, 0]
    bn.fit(data[[*range(60), 3, 4]], sample_weight=weight, times=np.r_[times, late])
    assert_same(bn, expected)


@pytest.mark.parametrize("cuts", [(), (1,), (1, 2)])
def test_a_feature_not_observed_for_ages(cuts):
    data = np.array([[1.0, 3.0], [np.nan, 4.0], [np.nan, 5.0]])
    times = np.array([0.0, 1e6, 1e6])
    bn = learn(BatchNorm(halflife=1), data, cuts, times=times)
    assert_array_equal(bn.running_mean_, [1.0, 4.5])
    bn.partial_fit([[2.0, 4.0]], times=[1e6])
    assert_allclose(bn.running_mean_, [2.0, 13 / 3], rtol=1e-15)


# A stream is resumed to the bit


def _by_arrays(bn):
    with io.BytesIO() as file:  # as a checkpoint is kept, without pickles
        np.savez(file, **bn.state_dict())
        file.seek(0)
        return clone(bn).load_state_dict(dict(np.load(file, allow_pickle=False)))


def _by_skops(bn):
    skops = pytest.importorskip("skops.io")
    known = {"sk_batchnorm._transformer.BatchNorm1dTransformer", "datetime.timedelta"}
    known |= {"numpy.timedelta64", "numpy.datetime64"}
    data = skops.dumps(bn)
    trusted = skops.get_untrusted_types(data=data)
    assert set(trusted) <= known
    return skops.loads(data, trusted=trusted)


WAYS = [_by_arrays, _by_skops, copy.deepcopy, lambda bn: pickle.loads(pickle.dumps(bn))]


@streams
@pytest.mark.parametrize("way", WAYS)
def test_resumes_to_the_bit(way, halflife, data, times):
    bn = BatchNorm(halflife=halflife)
    bn = learn(bn, data[:30], [10], **of_rows(0, 30, times=times))
    again = way(bn)
    for start in (30, 45):
        some = of_rows(start, start + 15, times=times)
        for each in (bn, again):
            each.partial_fit(data[start : start + 15], **some)
        for key, value in bn.state_dict().items():
            assert_array_equal(again.state_dict()[key], value)
            assert again.state_dict()[key].dtype == value.dtype


@streams
def test_what_the_state_dict_holds(halflife, data, times):
    bn = BatchNorm(halflife=halflife).fit(data, **of_rows(0, 60, times=times))
    state = bn.state_dict()
    keys = "weight bias running_mean running_var num_batches_tracked total_weight clock"
    assert list(state) == keys.split()
    seen = (~np.isnan(data)).sum(axis=0)
    if times is not None:
        age = (times[-1] - times) / (
            np.timedelta64(1, "h") if halflife is HOUR else halflife
        )
        weight = 0.5**age @ ~np.isnan(data)
        assert state["clock"] == times[-1]
    else:
        weight = (1 - 0.5 ** (seen / 7)) / (1 - 0.5 ** (1 / 7))
        assert_array_equal(np.broadcast_to(state["clock"], 3), seen)
    assert_allclose(np.broadcast_to(state["total_weight"], 3), weight, rtol=1e-12)


BAD_STATES = [("total_weight", v) for v in (-1.0, np.nan, INF, [1.0, 2.0], "a", None)]
BAD_STATES += [("clock", v) for v in (-1, np.nan, [1, 2], [[1, 2, 3]], "a", None)]


def test_bad_states_are_refused():
    bn = BatchNorm(halflife=3).fit(X)
    for key, bad in [*BAD_STATES, ("clock", INF), ("clock", np.datetime64("NaT"))]:
        state = bn.state_dict() | {key: bad}
        assert_refused(bn, key, bn.load_state_dict, state)


def test_states_lacking_what_halflife_needs():
    bn, plain = BatchNorm(halflife=3).fit(X), BatchNorm().fit(X)
    assert_refused(bn, "total_weight", bn.load_state_dict, plain.state_dict())
    assert_refused(plain, "clock", plain.load_state_dict, bn.state_dict())


# Errors, and the state as it was


def assert_refused(bn, match, method, *args, **kwargs):
    with unchanged(bn), pytest.raises(ValueError, match=match):
        method(*args, **kwargs)


NUMBERS, SPAN = BatchNorm(halflife=2.5), BatchNorm(halflife=HOUR)
LATER, LATE = TIMES + TIMES[-1], DATES + (DATES[-1] - DATES[0])
ERRORS = {  # transformer, times so far, times now, what the error names
    "span, no times": (SPAN, DATES, None, "times"),
    "span, numbers": (SPAN, DATES, LATER, "times are numbers"),
    "number, dates": (NUMBERS, TIMES, LATE, "times are dates"),
    "no halflife": (BatchNorm(), None, TIMES, "halflife"),
    "no times any more": (NUMBERS, TIMES, None, "times is missing"),
    "times from now on": (NUMBERS, None, TIMES, "had none so far"),
    "going back": (NUMBERS, TIMES, TIMES, "row 0"),
    "falling": (NUMBERS, TIMES, with_value(LATER, 7, 1.0), "row 7"),
    "falling dates": (SPAN, DATES, with_value(LATE, 7, START), "row 7"),
    "NaN": (NUMBERS, TIMES, with_value(LATER, 3, np.nan), "row 3"),
    "inf": (NUMBERS, TIMES, with_value(LATER, 59, INF), "row 59"),
    "-inf": (NUMBERS, TIMES, with_value(LATER, 0, -INF), "row 0"),
    "NaT": (SPAN, DATES, with_value(LATE, 3, "NaT"), "row 3"),
    "null": (SPAN, DATES, pl.Series([None, *LATE[1:].tolist()]), "row 0|numbers"),
    "NA": (NUMBERS, TIMES, pd.Series([1, None] * 30, dtype="Int64"), "row 1"),
    "too few": (NUMBERS, TIMES, LATER[1:], "shape"),
    "a column": (NUMBERS, TIMES, LATER[:, None], "shape"),
    "one time": (NUMBERS, TIMES, 1e3, "shape"),
    "text": (NUMBERS, TIMES, ["2026-01-05"] * 60, "times are strings: pass numbers"),
    "texts of pandas": (SPAN, DATES, pd.Series(["2026-01-05"] * 60), "are strings"),
    "complex": (NUMBERS, TIMES, LATER + 0j, "times"),
    "masked": (NUMBERS, TIMES, np.ma.masked_less(LATER, LATER[5]), "times"),
}


@pytest.mark.parametrize(("bn", "past", "times", "match"), ERRORS.values(), ids=ERRORS)
def test_times_that_are_refused(bn, past, times, match):
    fresh, bn = clone(bn), learn(bn, X, times=past)
    assert_refused(bn, match, bn.partial_fit, X, times=times)
    # From nothing the past is no matter.
    if match not in ("times is missing", "had none so far", "row 0") or times is None:
        match = "times" if match == "times is missing" else match
        if not (times is None and past is TIMES):
            assert_refused(bn, match, bn.fit, X, times=times)
            assert_refused(fresh, match, fresh.partial_fit, X, times=times)


def test_bad_rows_change_nothing():
    for row, weight in [(59, None), (0, None), (3, np.ones(60))]:
        bad = with_value(X, (row, 1), INF)
        for past, times in [(None, None), (TIMES, LATER)]:
            bn = BatchNorm(halflife=0.01).partial_fit(X, times=past)
            metadata = {"sample_weight": weight, "times": times}
            assert_refused(bn, "infinity", bn.partial_fit, bad, **metadata)


BAD_HALFLIVES = [0, -1.0, np.nan, -INF, "7", "1h", [1.0], timedelta(0), -HOUR]
BAD_HALFLIVES += [np.timedelta64(*a) for a in ((0, "s"), (-1, "h"), ("NaT",), (5,))]


def test_half_lives_that_are_refused():
    for bad in BAD_HALFLIVES:
        bn = BatchNorm(halflife=HOUR).fit(X, times=DATES).set_params(halflife=bad)
        for method in (bn.fit, bn.partial_fit):
            assert_refused(bn, "halflife", method, X, times=LATE)


def test_within_has_no_halflife():
    bn = BatchNorm(halflife=3).fit(X).set_params(variance="within")
    for method in (bn.fit, bn.partial_fit, bn.forward):
        assert_refused(bn, "within.*halflife", method, X)
    for variance in ("auto", "total"):
        same = BatchNorm(halflife=3, variance=variance, momentum=0.7, batch_size=2)
        assert_same(same.fit(X), BatchNorm(halflife=3).fit(X))
    assert_same(BatchNorm(variance="auto").fit(X), BatchNorm(variance="within").fit(X))


@pytest.mark.parametrize(("old", "new"), [(1.0, HOUR), (HOUR, 1.0)])
def test_dates_do_not_become_numbers_in_mid_stream(old, new):
    times = {HOUR: (DATES, LATE), 1.0: (TIMES, LATER * 1e30)}
    bn = BatchNorm(halflife=old).fit(X, times=times[old][0]).set_params(halflife=new)
    assert_refused(bn, "times", bn.partial_fit, X, times=times[new][1])


# What times may be

SECONDS = START.astype("M8[s]") + np.arange(60).astype("m8[s]") * 600
STAMPS = [time.replace(tzinfo=UTC) for time in SECONDS.tolist()]
OF_DATES = {
    "ns": SECONDS.astype("M8[ns]"),
    "us": SECONDS.astype("M8[us]"),
    "m": SECONDS.astype("M8[m]"),
    "Series": pd.Series(SECONDS, index=range(7, 67)),
    "DatetimeIndex": pd.DatetimeIndex(SECONDS),
    "tz": pd.DatetimeIndex(SECONDS, tz="UTC").tz_convert("America/New_York"),
    "polars Series": pl.Series(SECONDS.tolist()),
    "polars ms": pl.Series(SECONDS.tolist(), dtype=pl.Datetime("ms")),
    "polars tz": pl.Series(STAMPS, dtype=pl.Datetime("us", "Europe/Berlin")),
    "datetime": SECONDS.tolist(),
    "aware": [time.astimezone(ZoneInfo("America/New_York")) for time in STAMPS],
    "Timestamp": list(pd.DatetimeIndex(SECONDS)),
}
OF_DATES["tz Series"] = pd.Series(OF_DATES["tz"])
SPANS = [timedelta(hours=2), pd.Timedelta("2h"), np.timedelta64(7200, "s")]


@pytest.mark.parametrize("kind", OF_DATES)
def test_kinds_of_dates(kind):
    numbers = BatchNorm(halflife=12).fit(X, times=np.arange(60))
    bn = BatchNorm(halflife=SPANS[0]).partial_fit(X, times=OF_DATES[kind])
    assert_same(bn, numbers, rtol=1e-14)
    assert bn.state_dict()["clock"] == SECONDS[-1]
    bn.partial_fit(X[:1], times=OF_DATES[kind][-1:])  # equal times are fine


def test_kinds_of_spans():
    numbers = BatchNorm(halflife=12).fit(X, times=np.arange(60))
    for span in SPANS:
        bn = BatchNorm(halflife=span).fit(X, times=SECONDS)
        assert_same(bn, numbers, rtol=1e-14)
        assert "halflife" in repr(bn)


def test_kinds_of_numbers():
    rows = BatchNorm(halflife=12).fit(X)
    kinds = [
        range(60),
        list(range(60)),
        np.arange(60, dtype="f4"),
        pl.Series(range(60)),
    ]
    kinds += [pd.Series(range(60), dtype="Int64"), np.arange(60, dtype=object)]
    for times in kinds:
        assert_same(BatchNorm(halflife=12).fit(X, times=times), rows, rtol=1e-14)


@pytest.mark.parametrize("years", [(1700, 2200), (2262, 2263)])
@pytest.mark.parametrize("unit", ["s", "us"])
def test_dates_that_nanoseconds_cannot_tell(years, unit):
    days = np.array([f"{year:04}-01-01" for year in years], dtype="M8[D]")
    bn, times = BatchNorm(halflife=HOUR), days.astype(f"M8[{unit}]")
    for cuts in [(), (1,)]:
        with pytest.raises(ValueError, match="from 1678 to 2261|292 years apart"):
            learn(bn, X[:2], cuts, times=times)


# In mid-stream


def test_a_new_halflife_keeps_the_weight():
    bn = BatchNorm(halflife=5).fit(X[:20]).set_params(halflife=11).partial_fit(X[20:])
    weight = 0.5 ** (np.arange(20)[::-1] / 5 + 40 / 11)
    weight = np.r_[weight, 0.5 ** (np.arange(40)[::-1] / 11)]
    mean = np.average(X, axis=0, weights=weight)
    assert_allclose(bn.running_mean_, mean, rtol=1e-12)
    var = np.average((X - mean) ** 2, axis=0, weights=weight)
    assert_allclose(bn.running_var_, var, rtol=1e-12)
    assert_allclose(bn.state_dict()["total_weight"], weight.sum(), rtol=1e-12)


@pytest.mark.parametrize("times", [None, TIMES], ids=["rows", "times"])
def test_without_halflife_from_now_on(times):
    bn = BatchNorm(halflife=50).fit(X, times=times).set_params(halflife=None)
    for again in (pickle.loads(pickle.dumps(bn)), _by_arrays(bn)):
        assert_array_equal(again.running_var_, bn.running_var_)
        again.set_params(halflife=None).partial_fit(X)
        # By PyTorch's rule, the mini-batch has the weight of the momentum.
        old, new = bn.running_mean_, X.mean(axis=0)
        assert_allclose(again.running_mean_, 0.9 * old + 0.1 * new, rtol=1e-12)
    corrected = BatchNorm(halflife=50, bias_correction=True).fit(X, times=times)
    corrected.set_params(halflife=None)
    assert pickle.loads(pickle.dumps(corrected)).num_batches_tracked_ == 1
    _by_arrays(corrected)


# With the rest of scikit-learn, and of this package


def _stream():
    bn, clf = BatchNorm(halflife=2.5), SGDClassifier(random_state=0)
    return StreamingPipeline([("bn", bn), ("clf", clf)])


Y = (X[:, 0] > 1).astype(int)


@pytest.mark.parametrize("keyword", ["times", "bn__times"])
def test_pipelines_pass_times_on(keyword):
    expected, pipe = BatchNorm(halflife=2.5).fit(X, times=TIMES), _stream()
    for part in np.array_split(np.arange(60), 3):
        pipe.partial_fit(X[part], Y[part], classes=[0, 1], **{keyword: TIMES[part]})
    assert_same(pipe[0], expected)
    for kind in (StreamingPipeline, Pipeline):
        assert_same(kind(_stream().steps).fit(X, Y, bn__times=TIMES)[0], expected)


def test_times_are_routed():
    expected = BatchNorm(halflife=2.5).fit(X, times=TIMES)
    with config_context(enable_metadata_routing=True):
        pipe = _stream()
        with pytest.raises(ValueError, match=r"times.*not explicitly set"):
            pipe.partial_fit(X, Y, classes=[0, 1], times=TIMES)
        pipe["bn"].set_partial_fit_request(times=True).set_fit_request(times="when")
        pipe["clf"].set_partial_fit_request(classes=True)
        assert_same(pipe.partial_fit(X, Y, classes=[0, 1], times=TIMES)[0], expected)
        assert_same(pipe.fit(X, Y, when=TIMES)[0], expected)
        steps = Pipeline(pipe.steps)
        search = GridSearchCV(steps, {"bn__halflife": [1, 50.0]}, cv=2)
        best = search.fit(X, Y, when=TIMES).best_estimator_[0]
        assert_same(best, clone(best).fit(X, times=TIMES))


def test_grid_search_over_halflife():
    pipe = make_pipeline(BatchNorm(), LogisticRegression())
    grid = {"batchnorm1dtransformer__halflife": [None, 3, 30.0, INF]}
    search = GridSearchCV(pipe, grid, cv=3, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 4


def test_fold_and_pytorch():
    bn = BatchNorm(halflife=5).fit(X)
    Z = bn.transform(X)
    model = Ridge().fit(Z, Y)
    assert_allclose(fold(bn, model).predict(X), model.predict(Z), rtol=1e-9)
    pytest.importorskip("torch")
    from sk_batchnorm.torch import from_torch, to_torch

    with pytest.raises(ValueError, match="halflife"):
        to_torch(bn)
    layer = to_torch(bn.set_params(halflife=None))
    assert_array_equal(from_torch(layer).running_mean_, bn.running_mean_.astype("f4"))


def test_onnx():
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("skl2onnx")
    from skl2onnx import to_onnx

    import sk_batchnorm.onnx  # noqa: F401

    bn = BatchNorm(halflife=HOUR).fit(X, times=DATES)
    session = runtime.InferenceSession(to_onnx(bn, X[:1]).SerializeToString())
    (out,) = session.run(None, {"X": X})
    assert_allclose(out, bn.transform(X), rtol=1e-12, atol=1e-13)


def test_the_display_shows_rows_that_fade():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    from sk_batchnorm.plot import RunningStatsDisplay

    bn = BatchNorm(halflife=5, batch_size=10)
    display = RunningStatsDisplay.from_estimator(bn, GAPS)
    for k in range(6):
        bn.partial_fit(GAPS[10 * k : 10 * k + 10])
        assert_array_equal(display.running_mean[k], bn.running_mean_)
        assert_array_equal(display.running_std[k], np.sqrt(bn.running_var_))
    plt.close("all")


def test_the_display_has_no_times_to_go_by():
    plot = pytest.importorskip("sk_batchnorm.plot")
    bn = BatchNorm(halflife=HOUR, batch_size=10)
    with pytest.raises(ValueError, match="halflife"):
        plot.RunningStatsDisplay.from_estimator(bn, X)


def test_callbacks():
    pytest.importorskip("sklearn.callback")
    from .test_callbacks import Diary

    diary = Diary()
    bn = BatchNorm(halflife=5, batch_size=10).set_callbacks(diary).fit(X, times=TIMES)
    assert diary.lines.count("end mini-batch") == 1  # batch_size is not used
    assert_same(bn, BatchNorm(halflife=5).fit(X, times=TIMES))
    bn.partial_fit(X, times=LATER)
    assert diary.lines[-1] == "teardown partial_fit"


@pytest.mark.parametrize("data", [X, X.reshape(20, 3, 3)], ids=["2-D", "3-D"])
def test_forward_learns_as_partial_fit(data):
    bn = BatchNorm(halflife=5).fit(data)
    other, plain = copy.deepcopy(bn), BatchNorm()
    assert_array_equal(bn.forward(data), plain.forward(data))
    assert_array_equal(bn.backward(data), plain.backward(data))
    assert_same(bn, other.partial_fit(data))
    timed = BatchNorm(halflife=2.5).fit(X, times=TIMES)
    assert_refused(timed, "times", timed.forward, X)


def test_without_running_statistics():
    bn = BatchNorm(halflife=5, track_running_stats=False)
    assert bn.partial_fit(X).fit(X, times=TIMES).running_mean_ is None
    assert_allclose(bn.transform(X).std(axis=0), 1, rtol=1e-4)  # eps


def test_set_output_and_reset():
    frame = pd.DataFrame(X, columns=list("abc"))
    bn = BatchNorm(halflife=5).set_output(transform="pandas")
    assert list(bn.fit_transform(frame).columns) == list("abc")
    assert_array_equal(bn.transform(frame), BatchNorm(halflife=5).fit_transform(X))
    timed = clone(bn).fit(X, times=TIMES)
    timed.reset_running_stats().partial_fit(X)  # anew, in rows
    assert_same(timed, bn)


# NumPy's error state


@streams
def test_error_state_never_bites(halflife, data, times):
    weight = np.r_[1e-300, np.arange(59) % 3, 1e200][:60]
    metadata = {"times": times, "sample_weight": weight}
    bn = BatchNorm(halflife=halflife / 1000)
    expected = learn(bn, data, [20], **metadata)
    with np.errstate(all="raise"):
        one = learn(bn, data, [20], **metadata)
        again = pickle.loads(pickle.dumps(one)).load_state_dict(one.state_dict())
    assert_array_equal(again.running_mean_, expected.running_mean_)
    assert_array_equal(again.running_var_, expected.running_var_)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_a_missing_value_of_next_to_no_weight(make):
    """Of its column, older rows are as old as they are without it."""
    data = np.array([[1.0, 1.0], [np.nan, 5.0], [3.0, 3.0]])
    bn = BatchNorm(halflife=1, with_mean=False)
    bn.fit(make(data), sample_weight=[1.0, 1e-20, 1.0])
    assert_allclose(bn.running_mean_, [(0.5 + 3) / 1.5, (0.25 + 3) / 1.25], rtol=1e-15)
    long = np.ones((2000, 2))
    long[0, 0] = np.nan
    clock = bn.fit(make(long)).state_dict()["clock"]
    assert_array_equal(clock, [1999, 2000])
