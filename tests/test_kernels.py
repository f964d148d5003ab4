"""Laws of the hot loops, whichever implementation runs them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sk_batchnorm._kernels import numpy as kernels

from .laws import seeds


@pytest.mark.parametrize(
    "shape",
    [
        *[(0, 3), (1, 1), (70_000, 1), (1000, 200), (3, 10**6)],
        *[(5, 3, 7), (700, 2, 100), (3, 2, 100_000), (2, 70_000, 3), (9, 70_000, 3)],
    ],
)
def test_blocks_cover_every_value_once(shape):
    seen = np.zeros(shape, dtype=np.int8)
    sizes = []
    # The first is the largest.
    for index in kernels.blocks(shape):
        seen[index] += 1
        sizes.append(seen[index].shape)
        assert seen[index].shape[1] == shape[1]
    assert (seen == 1).all()
    assert all((np.array(size) <= sizes[0]).all() for size in sizes)
    if sizes and np.prod(sizes[0]) > kernels.BLOCK_VALUES:
        # One sample, one time point: as small as a block gets.
        assert sizes[0][0] == 1
        assert len(shape) == 2 or sizes[0][2] == 1


@example(5e-324, 1, 463256325)  # of weight 0.2
@given(st.floats(-1e300, 1e300), st.integers(1, 300), seeds)
def test_a_constant_block_has_no_deviation(value, n_rows, seed):
    block = np.full((n_rows, 2), value)
    weight = np.random.default_rng(seed).uniform(0.1, 5.0, n_rows)
    for w in (None, weight):
        with np.errstate(all="ignore"):  # as the kernels are called
            _, shift, residual, squares = kernels.block_moments(block, w)
        assert_array_equal(squares, [0.0, 0.0])
        # A weight times hardly more than a denormal is rounded to a denormal.
        if w is None or value == 0 or abs(value) > 1e-300:
            assert_array_equal(shift + residual, [value, value])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int64, bool])
def test_block_moments_of_any_real_dtype(dtype):
    block = np.random.default_rng(0).integers(0, 2, (50, 3)).astype(dtype)
    expected = kernels.block_moments(block.astype(float), None)
    actual = kernels.block_moments(block, None)
    for a, e in zip(actual, expected, strict=True):
        assert_array_equal(a, e)
