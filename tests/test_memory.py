"""Learning, and transforming in place, need next to no memory of their own.

The arrays are so large that a copy, or a mask, would be more than the bound.
"""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from sk_batchnorm import BatchNorm1dTransformer

# The peak is that of the process.
pytestmark = pytest.mark.xdist_group("memory")

MEGABYTE = 2**20
# Of float64 arrays, and how many megabytes each call may take.
SHAPES = {
    "a few columns": ((524_288, 8), 3),  # 32 MB
    "many columns": ((900, 20_000), 16),  # 137 MB
    "three dimensions": ((256, 16, 1_024), 3),
    "three dimensions, long": ((8, 2, 262_144), 3),
}


def peak_megabytes(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MEGABYTE


def check(X, most=16, **fit):
    bn = BatchNorm1dTransformer(batch_size=2048)
    few = X[: len(X) // 20 + 3]
    bn.partial_fit(few)  # what Python caches is cached
    bn.transform(few)
    assert peak_megabytes(lambda: bn.partial_fit(X, **fit)) < most
    assert peak_megabytes(lambda: bn.fit(X, **fit)) < most
    assert peak_megabytes(lambda: bn.transform(X, copy=False)) < most
    assert peak_megabytes(lambda: bn.inverse_transform(X, copy=False)) < most


@pytest.mark.filterwarnings("ignore:Too few observed values")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_large_arrays(name, gaps, dtype):
    shape, most = SHAPES[name]
    X = np.empty((shape[0] * (8 // dtype().nbytes), *shape[1:]), dtype)
    X[:] = np.arange(shape[1], dtype=dtype).reshape(1, -1, *[1] * (X.ndim - 2))
    X[::3] += 1
    if gaps:
        X[::7] = np.nan
    assert X.nbytes > 8 * most * MEGABYTE  # so that a mask is too large
    check(X, most)


def test_strided_and_integer_arrays():
    X = np.ones((110, 100_000))[:, ::2]  # what is seen: 44 MB
    X[::3] = 2.0
    X[::7] = np.nan
    check(X)
    whole = np.ones((500_000, 64), dtype=np.int8)
    bn = BatchNorm1dTransformer()
    assert peak_megabytes(lambda: bn.partial_fit(whole)) < 16
    assert peak_megabytes(lambda: bn.fit(whole)) < 16


def test_sample_weight():
    X = np.ones((1_000_000, 8))
    X[::2] = 3.0
    weight = np.ones(len(X))  # 8 MB
    weight[::5] = 0.0
    check(X, 4, sample_weight=weight)


def test_sparse_takes_a_small_multiple():
    rng, n = np.random.default_rng(0), 500_000
    stored = rng.normal(size=n), rng.integers(0, 10_000, n), np.arange(0, n + 1, 10)
    X = sparse.csr_matrix(stored, shape=(n // 10, 10_000))
    stored = (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / MEGABYTE
    features = 10_000 * 8 / MEGABYTE
    bn = BatchNorm1dTransformer(with_mean=False, batch_size=20_000)
    for kind in (X, X.tocsc()):
        for call in (bn.partial_fit, bn.fit, bn.transform):
            peak = peak_megabytes(lambda call=call, kind=kind: call(kind))
            assert peak < 6 * stored + 50 * features
