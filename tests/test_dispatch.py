"""The compiled loops and NumPy's, on any number of threads, say the same.

Of every dtype and layout, with and without gaps and weights: the same moments but for
rounding, and the same bits of what is written.
"""

import os
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal

import sk_batchnorm
from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm._kernels import dispatch
from sk_batchnorm._kernels import numpy as plain

from .laws import LAYOUTS, batch_moments, laid_out, mean_of, moments, normalize, seeds

KERNELS = ["numpy", "compiled"]
# What chooses the kernels may live as long as all examples.
one_fixture = settings(suppress_health_check=["function_scoped_fixture"])


@pytest.fixture
def choose(monkeypatch):
    """Choose the kernels for the rest of a test, which is skipped without them."""

    def choose_kernels(kernels):
        if kernels == "compiled" and not dispatch.ARE_THERE:
            pytest.skip("the compiled loops are not installed")
        monkeypatch.setattr(dispatch, "KERNELS", kernels)

    return choose_kernels


@pytest.fixture
def small_tasks(monkeypatch):
    """Several tasks in arrays that are hardly large."""
    monkeypatch.setattr(dispatch, "TASK_VALUES", dispatch._LARGE // 4)


def numbers(rng, n_rows, n_features, kind, dtype="f8", order="C"):
    """Columns that are hard to take the variance of."""
    X = rng.standard_normal((n_rows, n_features))
    if kind == "far from zero":
        X += 10.0 ** rng.uniform(0, 12, n_features)
    elif kind == "constant":
        X[:] = rng.standard_normal(n_features) * 10.0 ** rng.integers(-30, 30)
    elif kind == "drift":
        X += np.linspace(0, 1e4, n_rows)[:, None]
    elif kind == "outlier first":
        X[0] = 1e8
    elif kind == "missing":
        X[rng.random(X.shape) < 0.1] = np.nan
        X[n_rows // 3 : n_rows // 2, 0] = np.nan
    return np.asarray(X, dtype=dtype, order=order)


KINDS = ["plain", "far from zero", "constant", "drift", "outlier first", "missing"]


@one_fixture
@given(
    seed=seeds,
    n_features=st.integers(1, 80) | st.sampled_from([1000, 2048, 2500]),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["f4", "f8"]),
    layout=st.sampled_from(LAYOUTS),
)
def test_both_kernels_find_the_same_moments(
    choose, seed, n_features, kind, dtype, layout
):
    choose("compiled")
    rng = np.random.default_rng(seed)
    n_rows = int(rng.integers(1, 40 if n_features > 80 else 700))
    X = laid_out(numbers(rng, n_rows, n_features, kind, dtype), layout)
    bounds = np.unique([0, *rng.integers(0, n_rows + 1, 3), n_rows])
    for weight in (None, rng.integers(0, 3, n_rows) * rng.uniform(0.5, 2)):
        if weight is not None:
            X[weight == 0] = np.inf  # a row that is not there
        with np.errstate(all="ignore"):
            expected = plain.moments(X, bounds, weight)
        actual = dispatch.moments(X, bounds, weight, 2)
        assert_same_moments(actual, expected)
        if kind == "constant":
            assert_array_equal(actual[3], 0.0)


def assert_same_moments(actual, expected, rtol=1e-11):
    count, shift, residual, squares = actual
    # Of 100,000 weights, whose sums are rounded in another order.
    assert_allclose(*np.broadcast_arrays(count, expected[0]), rtol=1e-12)
    # The means, of two doubles each, to a part of the standard deviation.
    error = (shift - expected[1]) + (residual - expected[2])
    std = np.sqrt(expected[3] / np.maximum(expected[0], 1e-300))
    assert (np.abs(error) <= rtol * std).all()
    # Squares beside those of an outlier are known to its digits.
    assert_allclose(squares, expected[3], rtol=rtol)


@one_fixture
@given(
    seed=seeds,
    n_samples=st.integers(1, 40),
    n_channels=st.integers(1, 40),
    n_times=st.integers(1, 40) | st.sampled_from([64, 511, 512, 3000]),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["f4", "f8"]),
    weighted=st.booleans(),
)
def test_moments_in_three_dimensions(
    choose, seed, n_samples, n_channels, n_times, kind, dtype, weighted
):
    choose("compiled")
    rng = np.random.default_rng(seed)
    n_channels = min(n_channels, max(1, 100_000 // (n_samples * n_times)))
    rows = numbers(rng, n_samples * n_times, n_channels, kind, dtype)
    X = rows.reshape(n_samples, n_times, n_channels).transpose(0, 2, 1)
    X = np.ascontiguousarray(X)
    weight = flat_weight = None
    if weighted:
        weight = rng.integers(0, 3, n_samples) * rng.uniform(0.5, 2)
        weight[0] = 1.0
        flat_weight = np.repeat(weight, n_times)
        X[weight == 0] = rows[flat_weight == 0] = np.inf
    cuts = rng.integers(0, n_samples + 1, 2)
    # Stretches of weight 0 alone are not asked for.
    bounds = np.unique([0, *(() if weighted else cuts), n_samples])
    with np.errstate(all="ignore"):
        expected = plain.moments(rows, bounds * n_times, flat_weight)
    if dispatch.is_taken_as_it_is(X):
        assert_same_moments(dispatch.moments(X, bounds, weight, 2), expected)
    else:
        assert n_times == 1
    several = X.transpose(0, 2, 1).copy().transpose(0, 2, 1)  # the other order
    for layout in (X, several, X[::-1][::-1]):
        batches = batch_moments(layout, bounds, weight)
        n_samples_each = np.add.reduceat(
            np.ones(len(rows)) if weight is None else flat_weight, bounds[:-1] * n_times
        )
        assert_allclose(batches.n_samples[:, 0], n_samples_each)


@one_fixture
@given(
    seed=seeds,
    n_rows=st.integers(1, 400),
    n_features=st.integers(1, 40) | st.sampled_from([1024, 1025, 2500]),
    kind=st.sampled_from(KINDS),
    halflife=st.sampled_from([0.5, 20.0, np.inf]),
    weighted=st.booleans(),
)
def test_both_kernels_let_values_fade_alike(
    choose, seed, n_rows, n_features, kind, halflife, weighted
):
    rng = np.random.default_rng(seed)
    X = numbers(rng, min(n_rows, 10**5 // n_features), n_features, kind)
    weight = rng.integers(0, 3, len(X)) * rng.uniform(0.5, 2) if weighted else None
    if weighted:
        X[weight == 0] = np.inf  # a row that is not there
    decay = np.exp2(-np.arange(len(X)) / halflife)
    factor = rng.uniform(0.1, 1.0, n_features)
    found = []
    for kernels in KERNELS:
        choose(kernels)
        with np.errstate(all="ignore"):
            found.append(dispatch.faded_moments(X.copy(), weight, decay, factor))
    (expected, observed), (actual, also_observed) = found
    assert_same_moments(actual, expected, rtol=1e-10)
    assert_array_equal(also_observed, observed)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("layout", [*LAYOUTS, "three"])
def test_infinities_of_a_column_or_at_its_ends(choose, kernels, layout):
    """Their deviations from their mean are NaN, as those of missing values."""
    choose(kernels)
    for where, bad in product(
        (slice(None), slice(0, 1), slice(-1, None)), (np.inf, -np.inf)
    ):
        X = numbers(np.random.default_rng(0), 60, 40, "missing")
        X[where, 3] = bad
        if layout == "three":
            X = np.ascontiguousarray(X.reshape(12, 5, 40).transpose(0, 2, 1))
        else:
            X = laid_out(X, layout)
        bn, one = BatchNorm1dTransformer(halflife=9), np.ones(40)
        for call, *args in (
            *[(moments, X), (moments, X, np.ones(len(X)))],
            *[(bn.partial_fit, X), (bn.partial_fit, X, None, np.ones(len(X)))],
        ):
            with pytest.raises(ValueError, match="infinity"):
                call(*args)
        for copy in (True, False):
            with pytest.raises(ValueError, match="infinity"):
                normalize(X, None, one, None, copy=copy)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "i8"])
def test_both_kernels_write_the_same_bits(choose, small_tasks, layout, dtype):
    kind = "plain" if dtype[0] == "i" else "missing"
    for shape in [
        (1, 1),
        (1, 300),
        (40, 7),
        (40, 300),
        (9000, 1),
        (900, 7),
        (500, 300),
    ]:
        rng = np.random.default_rng(shape[1])
        with np.errstate(under="ignore"):
            X = laid_out(numbers(rng, *shape, kind).astype(dtype), layout)
        for in_place in (False, True):
            written = write_by_both(choose, X, in_place)
            assert written == (in_place and dtype in ("f4", "f8") and X.dtype.isnative)


@pytest.mark.parametrize(
    "shape",
    [(1, 62, 25), (9, 3, 1), (2, 3, 64), (40, 5, 2), (3, 2500, 2), (2, 2, 9999)],
)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_the_same_bits_in_three_dimensions(choose, shape, dtype):
    kind = "plain" if dtype[0] == "i" else "missing"
    rng = np.random.default_rng(0)
    data = numbers(rng, shape[0] * shape[1], shape[2], kind).reshape(shape)
    for axes in [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 0, 2)]:
        X = data.astype(dtype).transpose(axes).copy().transpose(np.argsort(axes))
        for in_place in (False, True):
            write_by_both(choose, X, in_place)


def write_by_both(choose, X, in_place):
    """Check that the bits are the same; return whether all were written in place."""
    rng = np.random.default_rng(0)
    centre, scale, offset = rng.normal(size=(3, X.shape[1]))
    limit, fill = np.abs(rng.normal(size=(2, X.shape[1])))
    written = set()
    for c, o, *bounds in [
        *[(centre, offset), (None, offset), (centre, None), (None, None)],
        *[(centre, offset, limit), (None, None, limit), (centre, offset, None, fill)],
        *[(centre, None, None, fill), (centre, offset, limit, fill)],
    ]:
        results = []
        for kernels in KERNELS:
            choose(kernels)
            data = X.copy(order="K") if X.flags.forc else again(X)
            out = normalize(data, c, scale, o, *bounds, copy=not in_place, n_jobs=2)
            written.add(out is data)
            results.append(np.ascontiguousarray(out))
        ours, theirs = results
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes()
    (in_all,) = written
    return in_all


def again(X):
    """A copy with the strides of X."""
    last = sum(abs(step) * (n - 1) for step, n in zip(X.strides, X.shape, strict=True))
    memory = np.zeros(last + X.itemsize, np.uint8)
    first = sum(
        -step * (n - 1) for step, n in zip(X.strides, X.shape, strict=True) if step < 0
    )
    copy = np.ndarray(X.shape, X.dtype, memory, first, X.strides)
    copy[...] = X
    return copy


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_depends_on_the_number_of_threads(
    choose, small_tasks, kernels, order, kind
):
    choose(kernels)
    X = numbers(np.random.default_rng(0), 9000, 20, kind, order=order)
    weight = np.random.default_rng(1).integers(0, 3, len(X)) * 1.0

    def learned(n_jobs):
        bn = BatchNorm1dTransformer(n_jobs=n_jobs, batch_size=150)
        state = bn.fit(X).partial_fit(X).partial_fit(X, sample_weight=weight)
        return {**state.state_dict(), "out": bn.transform(X)}

    alone = learned(None)
    with parallel_config(n_jobs=2):
        context = learned(None)
    for others in (learned(2), learned(3), learned(-1), context):
        for key, values in alone.items():
            assert values.tobytes() == others[key].tobytes()


def test_threads_take_each_task_once():
    taken = deque()
    n_tasks = 50_000  # so many that threads without a GIL meet
    for _ in range(20 if sysconfig.get_config_var("Py_GIL_DISABLED") else 1):
        taken.clear()
        dispatch.in_threads(range(n_tasks), 4, taken.append)
        assert sorted(taken) == list(range(n_tasks))


def test_threads_are_joblibs_number_of_them(monkeypatch):
    names = set()

    def task(number):
        names.add(threading.current_thread().name)
        barrier.wait(timeout=30)
        return number

    barrier = threading.Barrier(3)
    assert dispatch.in_threads([1, 2, 3], 3, task) == [1, 2, 3]
    assert len(names) == 3
    barrier = threading.Barrier(1)
    names.clear()
    assert dispatch.in_threads([1, 2, 3], None, task) == [1, 2, 3]
    assert names == {threading.current_thread().name}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("n_jobs", "bad"), [(None, np.inf), (2, -np.inf)])
def test_infinity_in_a_large_array(choose, small_tasks, kernels, order, n_jobs, bad):
    choose(kernels)
    X = numbers(np.random.default_rng(0), 9000, 20, "plain", order=order)
    bn = BatchNorm1dTransformer(n_jobs=n_jobs).fit(X)
    X[8990, 13], X[8991, 13] = bad, np.nan
    before = X.copy()
    for call in (bn.fit, bn.partial_fit, bn.transform, bn.inverse_transform):
        with pytest.raises(ValueError, match=r"infinity.*dtype\('float64'\)"):
            call(X)
    bn.set_params(copy=False)
    for call in (bn.transform, bn.inverse_transform):
        with pytest.raises(ValueError, match="infinity"):
            call(X)
        assert_array_equal(X, before)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_values_of_1e300_in_a_large_array(choose, small_tasks, kernels, n_jobs):
    choose(kernels)
    X = np.full((60_000, 3), 1e300)
    X[::2, 1] = -1e300
    X[:, 2] = 1.0
    bn = BatchNorm1dTransformer(momentum=1.0, n_jobs=n_jobs).partial_fit(X)
    # The second is what rounding leaves of a sum of 1e300s.
    assert_allclose(bn.running_mean_, [1e300, 0.0, 1.0], rtol=0, atol=1e285)
    assert_array_equal(bn.running_mean_[[0, 2]], [1e300, 1.0])
    assert_array_equal(bn.running_var_, [0.0, np.finfo(float).max, 0.0])
    # No thread warns of what overflows.
    bn.weight_[:] = 1e200
    assert np.isinf(bn.transform(X)[:, 1]).all()
    X[:, 1] = 1.7e308
    with pytest.raises(ValueError, match="feature x1 overflows"):
        bn.partial_fit(X)


def test_mini_batches_of_a_large_array():
    X = numbers(np.random.default_rng(0), 50_000, 10, "far from zero")
    bounds = np.r_[0, np.sort(np.random.default_rng(1).integers(1, 50_000, 9)), 50_000]
    together = batch_moments(X, bounds)
    for k, (start, stop) in enumerate(pairwise(bounds)):
        alone = moments(X[start:stop])
        assert_allclose(together.squares[[k]], alone.squares, rtol=1e-11)
        assert_allclose(mean_of(together)[[k]], mean_of(alone), rtol=1e-15)


def test_kernels_are_asked_for_by_the_environment(monkeypatch):
    for there, wanted, kernels in [
        *[(True, "numpy", "numpy"), (True, "compiled", "compiled")],
        *[(True, "", "compiled"), (False, "", "numpy"), (False, "numpy", "numpy")],
    ]:
        monkeypatch.setattr(dispatch, "ARE_THERE", there)
        monkeypatch.setenv("SK_BATCHNORM_KERNELS", wanted)
        assert dispatch._chosen() == kernels
    monkeypatch.setenv("SK_BATCHNORM_KERNELS", "compiled")
    with pytest.raises(ImportError, match="the compiled loops are missing"):
        dispatch._chosen()
    monkeypatch.setenv("SK_BATCHNORM_KERNELS", "fortran")
    with pytest.raises(ValueError, match="must be 'numpy' or 'compiled'"):
        dispatch._chosen()


def test_without_the_compiled_loops_there_are_numpys():
    code = (
        "import sys\n"
        "sys.modules['sk_batchnorm._kernels.compiled'] = None\n"
        "import sk_batchnorm\n"
        "sk_batchnorm.show_versions()\n"
    )
    environment = os.environ | {"SK_BATCHNORM_KERNELS": ""}
    command = [sys.executable, "-c", code]
    out = subprocess.check_output(command, env=environment, text=True)
    assert "kernels: numpy, as the compiled ones are not installed" in out


def test_show_versions_names_what_matters(capsys):
    sk_batchnorm.show_versions()
    out = capsys.readouterr().out
    for name in ("python", "sk-batchnorm", "numpy", "scipy", "scikit-learn"):
        assert f"{name}: " in out
    assert f"kernels: {dispatch.KERNELS}" in out
