"""Centre first, then scale, in float64, rounded once; in place where that can be."""

from decimal import Decimal, localcontext
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sk_batchnorm._inputs import _WORTH_A_LOOK
from sk_batchnorm._kernels import numpy as kernels
from sk_batchnorm._kernels.numpy import AffineMap
from sk_batchnorm._normalize import limited, output_dtype, scale_of

from .laws import normalize, seeds


def test_zero_variance_divides_by_one_only_without_eps():
    weight = np.array([3.0, -3.0])
    assert_array_equal(scale_of(0.0, np.array([0.0, 4.0]), 0.0, None), [1.0, 0.5])
    assert_array_equal(scale_of(0.0, np.array([0.0, 4.0]), 0.0, weight), [3.0, -1.5])
    assert_array_equal(scale_of(0.0, np.array([0.0, 3.0]), 1.0, None), [1.0, 0.5])
    inverse = scale_of(0.0, np.array([0.0, 4.0]), 0.0, None, inverse=True)
    assert_array_equal(inverse, [1.0, 2.0])
    inverse = scale_of(0.0, np.array([0.0, 36.0]), 0.0, weight, inverse=True)
    assert_array_equal(inverse, [1 / 3, -2.0])
    assert scale_of(0.0, np.array([0.0]), 1e-4, None)[0] == pytest.approx(100.0)


def test_a_tiny_variance_without_eps_is_a_variance():
    var = np.array([1e-300, 5e-324])
    assert_allclose(scale_of(0.0, var, 0.0, None), var**-0.5, rtol=1e-15)


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps == np.finfo(np.float64).eps,
    reason="a long double is a double here",
)
def test_the_scale_is_rounded_once():
    var = np.random.default_rng(0).uniform(0.1, 5.0, 1000)
    weight = np.random.default_rng(1).normal(size=1000)
    exact = weight / np.sqrt(var.astype(np.longdouble) + np.longdouble(1e-5))
    assert_array_equal(scale_of(0.0, var, 1e-5, weight), exact.astype(np.float64))
    exact = np.sqrt(var.astype(np.longdouble) + np.longdouble(1e-5)) / weight
    inverse = scale_of(0.0, var, 1e-5, weight, inverse=True)
    assert_array_equal(inverse, exact.astype(np.float64))


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        (">f4", "float32"),
        (">f8", "float64"),
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
@given(
    seed=seeds,
    ratio=st.floats(-2, 12),
    eps=st.sampled_from([0.0, 1e-5, 3.0]),
    weighted=st.booleans(),
)
def test_one_ulp_plus_that_of_the_difference(dtype, seed, ratio, eps, weighted):
    """Against 40 decimal digits of the same formula.

    A difference of x and the mean is known to the machine epsilon of both, times
    the scale. All else costs no more than one unit in the last place of the
    output.
    """
    rng = np.random.default_rng(seed)
    mean, var = np.array([10**ratio]), rng.uniform(0.1, 5, 1)
    weight = rng.normal(size=1) if weighted else None
    x = rng.normal(10**ratio, 1.0, (30, 1)).astype(dtype)
    out = normalize(x, mean, scale_of(0.0, var, eps, weight), None, copy=True)
    with localcontext() as context:
        context.prec = 40
        std = (Decimal(var[0]) + Decimal(eps)).sqrt()
        scale = (Decimal(weight[0]) if weighted else 1) / std
        for value, got in zip(x[:, 0], out[:, 0], strict=True):
            want = (Decimal(float(value)) - Decimal(mean[0])) * scale
            ulp = Decimal(float(np.spacing(np.abs(got))))
            known = Decimal(2) ** -52 * Decimal(abs(float(value)) + mean[0])
            assert abs(Decimal(float(got)) - want) <= ulp + known * abs(scale)


@pytest.mark.parametrize("shape", [(33, 4), (33, 4, 1), (7, 4, 30)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, bool])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("bounds", ["none", "limit", "fill", "both"])
def test_filled_and_limited_before_the_offset(monkeypatch, shape, dtype, order, bounds):
    """In float64, rounded once."""
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 20)  # several blocks
    rng = np.random.default_rng(1)
    X = np.asarray(rng.normal(0.0, 3.0, shape), order=order)
    if np.dtype(dtype).kind == "f":
        X[rng.random(shape) < 0.3] = np.nan
    X = X.astype(dtype)
    centre, scale, offset, fill = rng.normal(size=(4, 4))
    limit = np.array([0.5, 0.01, 0.0, 1e9])
    fill[0] = 0.7  # beyond the limit, as the running mean may be
    limit = limit if bounds in ("limit", "both") else None
    fill = fill if bounds in ("fill", "both") else None

    def wide(vector):
        return vector.reshape((4,) + (1,) * (len(shape) - 2))

    for c, o in product((centre, None), (offset, None)):
        expected = X.astype(np.float64)
        expected = expected if c is None else expected - wide(c)
        expected = expected * wide(scale)
        if fill is not None:
            expected = np.where(np.isnan(expected), wide(fill), expected)
        if limit is not None:
            expected = np.clip(expected, -wide(limit), wide(limit))
        expected = expected if o is None else expected + wide(o)
        for copy in (True, False):
            data = X.copy(order="K")
            out = normalize(data, c, scale, o, limit, fill, copy=copy)
            assert_array_equal(out, expected.astype(output_dtype(dtype)))
            if copy:
                assert_array_equal(data, X)


@pytest.mark.parametrize("n_rows", [1, 30, 200_000])
def test_a_nan_that_is_not_filled_is_not_limited(n_rows):
    X = np.full((n_rows, 1), np.nan)
    one = np.ones(1)
    assert np.isnan(normalize(X, one, one, one, one, copy=True)).all()


def test_the_limit_is_of_what_the_weight_multiplies():
    weight = np.array([2.0, -3.0, 0.0])
    by = AffineMap(None, np.array([4.0, 5.0, 0.0]), None)
    assert_array_equal(limited(by, 10, weight).limit, [20.0, 30.0, 0.0])
    assert_array_equal(limited(by, 0.5, None).limit, [0.5, 0.5, 0.5])
    assert limited(by, 0.5, None).fill is None
    assert limited(by, None, weight, np.ones(3)).limit is None


def test_what_is_filled_is_where_the_mean_is():
    mean, scale = np.array([3.0, np.nan]), np.array([2.0, np.nan])
    by = AffineMap(mean, scale, None)
    assert_array_equal(limited(by, None, None, mean).fill, [0.0, 0.0])
    by = AffineMap(None, scale, None)
    assert_array_equal(limited(by, None, None, mean).fill, [6.0, 0.0])


@pytest.mark.parametrize("offset", [None, np.zeros(2), np.array([0.0, 3.0])])
def test_large_arrays_are_moved_too(offset):

    X = np.random.default_rng(0).normal(size=(_WORTH_A_LOOK, 2))
    out = normalize(X, None, np.ones(2), offset, copy=True)
    assert_array_equal(out, X if offset is None else X + offset)


def test_a_subclass_comes_out_as_an_array():
    X = np.ones((3, 2)).view(type("Subclass", (np.ndarray,), {}))
    for copy in (True, False):
        X.flags.writeable = copy
        assert type(normalize(X, None, np.ones(2), None, copy=copy)) is np.ndarray


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
def test_in_place_where_dtype_and_flags_allow_it(dtype, writable, in_place):
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


@pytest.mark.parametrize("format", ["csr", "csc"])
def test_sparse_keeps_rows_of_which_nothing_is_stored(format):

    X = sparse.coo_array(([2.0], ([1], [1])), shape=(3, 4)).asformat(format)
    out = normalize(X, None, np.array([1.0, 5.0, 1.0, 1.0]), None, copy=True)
    assert out.shape == X.shape
    assert out[1, 1] == 10.0
    assert X[1, 1] == 2.0


def memory_of(shape, strides, itemsize):
    """The bytes of each element."""
    for index in np.ndindex(shape):
        start = sum(i * stride for i, stride in zip(index, strides, strict=True))
        yield set(range(start, start + itemsize))


# Sizes and strides, in bytes, of two or three axes.
axes_of_any_strides = st.lists(
    st.tuples(st.integers(1, 4), st.integers(-3, 12).map(lambda n: 4 * n)),
    min_size=2,
    max_size=3,
)


@example([(2, 4), (1, 0)])  # two elements, of which one begins in the other
@example([(2, 8), (2, 8)])  # a sliding window
@example([(2, 16), (3, 8)])  # rows of which one ends where the next begins
@given(axes=axes_of_any_strides)
def test_what_overlaps_itself_is_not_written_into(axes):
    """Of any strides; what has to be written into is another test's."""
    shape, strides = zip(*axes, strict=True)
    extent = 4 * 12 * 3 * 3 + 8
    buffer = np.zeros(2 * extent, dtype=np.int8)[extent // 8 * 8 :]
    view = np.ndarray(shape, np.float64, buffer.base, extent // 8 * 8, strides)
    seen = list(memory_of(shape, strides, 8))
    if len(set.union(*seen)) < 8 * len(seen):
        out = normalize(view, None, np.ones(shape[1]), None, copy=False)
        assert not np.shares_memory(out, view)


@given(
    shape=st.tuples(*[st.integers(1, 4)] * 2) | st.tuples(*[st.integers(1, 4)] * 3),
    data=st.data(),
)
def test_a_part_of_an_array_is_written_into(shape, data):
    steps = [data.draw(st.sampled_from([-2, -1, 1, 2])) for _ in shape]
    axes = data.draw(st.permutations(range(len(shape))))
    whole = np.zeros([abs(steps[k]) * shape[k] for k in axes])
    view = whole.transpose(np.argsort(axes))[tuple(slice(None, None, s) for s in steps)]
    assert view.shape == shape
    if data.draw(st.booleans()):
        # Of a single row or column the stride says nothing.
        alone = [
            0 if n == 1 else stride
            for n, stride in zip(shape, view.strides, strict=True)
        ]
        view = np.lib.stride_tricks.as_strided(view, strides=alone)
    out = normalize(view, None, np.ones(shape[1]), np.ones(shape[1]), copy=False)
    assert out is view
    assert (view == 1.0).all()
