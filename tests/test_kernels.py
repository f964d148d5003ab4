"""Laws of the hot loops, whichever implementation runs them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sk_batchnorm._kernels import numpy as kernels


def test_row_blocks_cover_every_row_once():
    for n_rows, n_columns in [(0, 3), (1, 1), (70_000, 1), (1000, 200), (3, 10**6)]:
        rows = [
            row
            for block in kernels.row_blocks(n_rows, n_columns)
            for row in range(block.start, block.stop)
        ]
        assert rows == list(range(n_rows))


@given(st.floats(-1e300, 1e300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_constant_block_has_exactly_its_value_and_no_deviation(value, n_rows, seed):
    block = np.full((n_rows, 2), value)
    weight = np.random.default_rng(seed).uniform(0.1, 5.0, n_rows)
    for w in (None, weight):
        _, shift, residual, squares = kernels.block_moments(
            block, w, np.empty((n_rows, 2))
        )
        assert_array_equal(shift + residual, [value, value])
        assert_array_equal(squares, [0.0, 0.0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int64, bool])
def test_block_moments_takes_any_real_dtype_as_its_float64(dtype):
    block = np.random.default_rng(0).integers(0, 2, (50, 3)).astype(dtype)
    expected = kernels.block_moments(block.astype(float), None, np.empty((50, 3)))
    actual = kernels.block_moments(block, None, np.empty((50, 3)))
    for a, e in zip(actual, expected, strict=True):
        assert_array_equal(a, e)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64, np.int64, bool])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("moved", [True, False])
def test_centre_and_scale_is_float64_rounded_once(
    monkeypatch, source, dtype, centred, moved
):
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 20)  # several blocks
    rng = np.random.default_rng(1)
    X = (rng.normal(0.0, 3.0, (33, 4))).astype(source)
    centre, scale, offset = rng.normal(size=(3, 4))
    expected = X.astype(np.float64)
    expected = expected - centre if centred else expected
    expected = expected * scale
    expected = (expected + offset if moved else expected).astype(dtype)
    out = np.empty(X.shape, dtype)
    kernels.centre_and_scale(
        X, centre if centred else None, scale, offset if moved else None, out
    )
    assert_array_equal(out, expected)
