"""Centre first, then scale, in float64, rounded once."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sk_batchnorm._normalize import normalize, output_dtype, standard_deviation


def test_zero_variance_divides_by_one_only_without_eps():
    assert_array_equal(standard_deviation(np.array([0.0, 4.0]), 0.0), [1.0, 2.0])
    assert_array_equal(standard_deviation(np.array([0.0, 3.0]), 1.0), [1.0, 2.0])
    assert standard_deviation(np.array([0.0]), 1e-4)[0] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("longdouble", "float64"),
        ("int8", "float64"),
        ("uint64", "float64"),
        ("bool", "float64"),
    ],
)
def test_output_dtype(given, out):
    assert output_dtype(given) == np.dtype(out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_digits_are_lost_where_the_mean_is_large(dtype):
    x = np.random.default_rng(0).normal(1e6, 1.0, (1000, 1)).astype(dtype)
    mean, scale, offset = np.array([1e6 + 1 / 3]), np.array([0.7]), np.array([0.1])
    out = normalize(x, mean, scale, offset, copy=True)
    exact = [
        (Fraction(float(v)) - Fraction(mean[0])) * Fraction(scale[0])
        + Fraction(offset[0])
        for v in x[:, 0]
    ]
    # One rounding to the output's dtype on top of the rounding of the three
    # float64 operations, which are on numbers of about the size of 1.
    for got, want in zip(out[:, 0], exact, strict=True):
        ulp = np.spacing(np.abs(dtype(float(want))))
        assert (
            abs(Fraction(float(got)) - want)
            <= Fraction(float(ulp)) + 4 * Fraction(2) ** -53
        )


@pytest.mark.parametrize("order", ["C", "F"])
def test_output_keeps_the_memory_order(order):
    X = np.asarray(np.ones((4, 3)), order=order)
    out = normalize(X, None, np.ones(3), None, copy=True)
    assert out.flags[f"{order}_CONTIGUOUS"]
    assert not np.shares_memory(out, X)


@pytest.mark.parametrize(
    ("dtype", "writable", "in_place"),
    [
        (np.float64, True, True),
        (np.float32, True, True),
        (np.float64, False, False),
        (np.float16, True, False),
        (np.int64, True, False),
    ],
)
def test_in_place_where_dtype_and_write_flag_allow_it(dtype, writable, in_place):
    X = np.arange(6).reshape(3, 2).astype(dtype)
    X.flags.writeable = writable
    before = X.copy()
    expected = normalize(X, np.ones(2), np.full(2, 3.0), np.ones(2), copy=True)
    assert_array_equal(X, before)
    out = normalize(X, np.ones(2), np.full(2, 3.0), np.ones(2), copy=False)
    assert_array_equal(out, expected)
    assert (out is X) == in_place
    if not in_place:
        assert_array_equal(X, before)
