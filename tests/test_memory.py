"""Learning, and transforming in place, need next to no memory of their own."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from sk_batchnorm import BatchNorm1dTransformer

MEGABYTE = 2**20
ROWS_OF_TEN = np.arange(0, 2 * 10**6 + 1, 10)
# float64 arrays of 200 MB.
SHAPES = {
    "a few columns": (3_276_800, 8),
    "many columns": (1_310, 20_000),
    "three dimensions": (1_600, 16, 1_024),
    "three dimensions, long": (8, 2, 1_638_400),
}


def peak_megabytes(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MEGABYTE


def check(X, **fit):
    bn = BatchNorm1dTransformer(batch_size=2048)
    few = X[: len(X) // 20 + 3]
    bn.partial_fit(few)  # what Python caches is cached
    bn.transform(few)
    assert peak_megabytes(lambda: bn.partial_fit(X, **fit)) < 16
    assert peak_megabytes(lambda: bn.fit(X, **fit)) < 16
    assert peak_megabytes(lambda: bn.transform(X, copy=False)) < 16
    assert peak_megabytes(lambda: bn.inverse_transform(X, copy=False)) < 16


@pytest.mark.filterwarnings("ignore:Too few observed values")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_of_200_megabytes_at_most_16_more(name, gaps, dtype):
    shape = SHAPES[name]
    X = np.empty((shape[0] * (8 // dtype().nbytes), *shape[1:]), dtype)
    X[:] = np.arange(shape[1], dtype=dtype).reshape(1, -1, *[1] * (X.ndim - 2))
    X[::3] += 1
    if gaps:
        X[::7] = np.nan
    assert X.nbytes >= 200 * 10**6
    check(X)


def test_strided_and_integer_arrays_are_not_copied_either():
    X = np.ones((262, 100_000), dtype=np.float64)[:, ::2]  # what is seen: 100 MB
    X[::3] = 2.0
    X[::7] = np.nan
    check(X)
    whole = np.ones((3_276_800, 64), dtype=np.int8)
    bn = BatchNorm1dTransformer()
    assert peak_megabytes(lambda: bn.partial_fit(whole)) < 16
    assert peak_megabytes(lambda: bn.fit(whole)) < 16


def test_sample_weight():
    X = np.ones((3_276_800, 8))
    X[::2] = 3.0
    weight = np.ones(len(X))
    weight[::5] = 0.0
    check(X, sample_weight=weight)


def test_sparse_takes_a_small_multiple_of_what_is_stored():
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(
        (rng.normal(size=2 * 10**6), rng.integers(0, 10_000, 2 * 10**6), ROWS_OF_TEN),
        shape=(200_000, 10_000),
    )
    stored = (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / MEGABYTE
    features = 10_000 * 8 / MEGABYTE
    bn = BatchNorm1dTransformer(with_mean=False, batch_size=20_000)
    for kind in (X, X.tocsc()):
        for call in (bn.partial_fit, bn.fit, bn.transform):
            peak = peak_megabytes(lambda call=call, kind=kind: call(kind))
            assert peak < 6 * stored + 50 * features
