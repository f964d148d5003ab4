"""NumPy's loops and numba's, on any number of threads, say the same."""

import os
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from functools import partial
from itertools import pairwise

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

from .laws import batch_moments, mean_of, moments, normalize

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def fast():
    pytest.importorskip("numba")
    from sk_batchnorm._kernels import numba

    return numba


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


@settings(suppress_health_check=["function_scoped_fixture"], max_examples=200)
@given(
    seed=SEEDS,
    n_features=st.integers(1, 80) | st.sampled_from([1000, 2048, 2500]),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["f4", "f8"]),
    order=st.sampled_from(["C", "F"]),
    weighted=st.booleans(),
)
def test_both_kernels_find_the_same_moments(
    fast, seed, n_features, kind, dtype, order, weighted
):
    rng = np.random.default_rng(seed)
    n_rows = int(rng.integers(1, 40 if n_features > 80 else 700))
    X = numbers(rng, n_rows, n_features, kind, dtype, order)
    weight = rng.integers(0, 3, n_rows) * rng.uniform(0.5, 2) if weighted else None
    if weighted:
        X[weight == 0] = np.inf  # a row that is not there
    bounds = np.unique([0, *rng.integers(0, n_rows + 1, 3), n_rows])
    with np.errstate(all="ignore"):
        expected = plain.moments(X, bounds, weight)
    tasks = [slice(k, k + 2) for k in range(0, len(bounds) - 1, 2)]
    for_each = partial(dispatch.in_threads, tasks, 2)
    count, shift, residual, squares = fast.moments(X, bounds, weight, for_each)
    assert_allclose(*np.broadcast_arrays(count, expected[0]), rtol=1e-13)
    # The means, of two doubles each, to a part of the standard deviation.
    error = (shift - expected[1]) + (residual - expected[2])
    std = np.sqrt(expected[3] / np.maximum(expected[0], 1e-300))
    assert (np.abs(error) <= 1e-11 * std).all()
    # Squares beside those of an outlier are known to its digits.
    assert_allclose(squares, expected[3], rtol=1e-11)
    if kind == "constant":
        assert_array_equal(squares, 0.0)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n_features", [1, 2, 7, 64, 300])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("in_place", [False, True])
def test_both_kernels_write_the_same_bits(
    fast, monkeypatch, order, n_features, dtype, in_place
):
    rng = np.random.default_rng(n_features)
    X = numbers(rng, 9000, n_features, "missing", dtype, order)
    centre, scale, offset = rng.normal(size=(3, n_features))
    limit, fill = np.abs(rng.normal(size=(2, n_features)))
    for c, o, *bounds in [
        *[(centre, offset), (None, offset), (centre, None), (None, None)],
        *[(centre, offset, limit), (None, None, limit), (centre, offset, None, fill)],
        *[(centre, None, None, fill), (centre, offset, limit, fill)],
    ]:
        results = []
        for kernels in ("numpy", "numba"):
            monkeypatch.setattr(dispatch, "KERNELS", kernels)
            monkeypatch.setattr(dispatch, "LEAST_COMPILED", 1)
            data = X.copy(order="K")
            out = normalize(data, c, scale, o, *bounds, copy=not in_place, n_jobs=2)
            assert (out is data) == in_place
            results.append(out)
        assert_array_equal(
            results[0].view(f"i{X.itemsize}"), results[1].view(f"i{X.itemsize}")
        )


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_depends_on_the_number_of_threads(monkeypatch, kernels, order, kind):
    if kernels == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(dispatch, "KERNELS", kernels)
    X = numbers(np.random.default_rng(0), 60_000, 20, kind, order=order)
    weight = np.random.default_rng(1).integers(0, 3, len(X)) * 1.0

    def learned(n_jobs):
        bn = BatchNorm1dTransformer(n_jobs=n_jobs, batch_size=1000)
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


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinity_anywhere_in_a_large_array(monkeypatch, kernels, n_jobs, order, bad):
    if kernels == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(dispatch, "KERNELS", kernels)
    X = numbers(np.random.default_rng(0), 30_000, 20, "plain", order=order)
    bn = BatchNorm1dTransformer(n_jobs=n_jobs).fit(X)
    X[29_990, 13] = bad
    X[29_991, 13] = np.nan
    before = X.copy()
    for call in (bn.fit, bn.partial_fit, bn.transform, bn.inverse_transform):
        with pytest.raises(ValueError, match=r"infinity.*dtype\('float64'\)"):
            call(X)
    bn.set_params(copy=False)
    for call in (bn.transform, bn.inverse_transform):
        with pytest.raises(ValueError, match="infinity"):
            call(X)
        assert_array_equal(X, before)


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_values_of_1e300_in_a_large_array(monkeypatch, kernels, n_jobs):
    if kernels == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(dispatch, "KERNELS", kernels)
    X = np.full((200_000, 3), 1e300)
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


def test_mini_batches_of_a_large_array_are_those_of_its_parts():
    X = numbers(np.random.default_rng(0), 50_000, 10, "far from zero")
    bounds = np.r_[0, np.sort(np.random.default_rng(1).integers(1, 50_000, 9)), 50_000]
    together = batch_moments(X, bounds)
    for k, (start, stop) in enumerate(pairwise(bounds)):
        alone = moments(X[start:stop])
        assert_allclose(together.squares[[k]], alone.squares, rtol=1e-11)
        assert_allclose(mean_of(together)[[k]], mean_of(alone), rtol=1e-15)


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_kernels_are_asked_for_by_the_environment():
    code = "import sk_batchnorm; sk_batchnorm.show_versions()"
    assert "kernels: numpy" in run(code, SK_BATCHNORM_KERNELS="numpy").stdout
    wrong = run(code, SK_BATCHNORM_KERNELS="fortran")
    assert "SK_BATCHNORM_KERNELS must be 'numpy' or 'numba'" in wrong.stderr
    blocked = "import sys; sys.modules['numba'] = None\n" + code
    assert "needs numba" in run(blocked, SK_BATCHNORM_KERNELS="numba").stderr
    assert "kernels: numpy" in run(blocked, SK_BATCHNORM_KERNELS="").stdout


def test_numba_is_imported_when_first_needed():
    pytest.importorskip("numba")
    code = """
import sys
import numpy as np
from sk_batchnorm import BatchNorm1dTransformer
bn = BatchNorm1dTransformer().fit(np.eye(20)).partial_fit(np.eye(20))
bn.transform(np.eye(20))
print("numba" in sys.modules)
bn.partial_fit(np.ones((10_000, 20)))
print("numba" in sys.modules)
"""
    assert run(code, SK_BATCHNORM_KERNELS="").stdout.split() == ["False", "True"]


def test_without_a_folder_for_the_cache():
    pytest.importorskip("numba")
    code = """
import numpy as np, numba.core.caching as caching
class Nowhere(caching._CacheLocator):
    @classmethod
    def from_function(cls, *args): return None
for name in ("CacheImpl", "CompileResultCacheImpl", "CodeLibraryCacheImpl"):
    getattr(caching, name)._locator_classes = [Nowhere]
from sk_batchnorm import BatchNorm1dTransformer
bn = BatchNorm1dTransformer(momentum=1).partial_fit(np.ones((10_000, 20)))
print(bn.running_mean_[0])
"""
    result = run(code, SK_BATCHNORM_KERNELS="numba")
    assert result.stdout == "1.0\n", result.stderr


def test_show_versions_names_what_matters(capsys):
    sk_batchnorm.show_versions()
    out = capsys.readouterr().out
    for name in ("python", "sk-batchnorm", "numpy", "scipy", "scikit-learn", "numba"):
        assert f"{name}: " in out
    assert f"kernels: {dispatch.KERNELS}" in out
