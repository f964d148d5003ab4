"""What one mini-batch says, to twelve digits of exact rational arithmetic.

Mini-batches end where array_split ends them, and together say what each says alone.
"""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sk_batchnorm import BatchNorm1dTransformer, _inputs
from sk_batchnorm._inputs import cut
from sk_batchnorm._kernels import dispatch
from sk_batchnorm._kernels import numpy as kernels
from sk_batchnorm._moments import Moments

from .laws import batch_moments, mean_of, moments, normalize, seeds, variance_of

LARGEST = np.finfo(np.float64).max


def exact_moments(column, weight=None):
    """Mean and sum of squared deviations of doubles, without rounding."""
    values = [Fraction(float(x)) for x in column]
    weights = [
        Fraction(float(w)) for w in (np.ones(len(values)) if weight is None else weight)
    ]
    count = sum(weights)
    mean = sum(w * x for w, x in zip(weights, values, strict=True)) / count
    squares = sum(w * (x - mean) ** 2 for w, x in zip(weights, values, strict=True))
    return count, mean, squares


def relative_error(actual, exact):
    exact = Fraction(exact)
    error = abs(Fraction(float(actual)) - exact)
    return float(error / abs(exact) if exact else error)


def as_3d(X):
    return X[:, :, None]


@given(
    value=st.sampled_from([1e-200, 1.0, 1.23e150, 1e160, 1e300]),
    spread=st.sampled_from([0.0, 1e-8, 1.0]),
    n_lacking=st.integers(1, 5),
    n_rows=st.integers(2, 100),
    weighted=st.booleans(),
    seed=seeds,
)
def test_first_rows_that_say_nothing(value, spread, n_lacking, n_rows, weighted, seed):
    """From rows without a value no kernel learns where the mean is."""
    rng = np.random.default_rng(seed)
    column = value * (1 + spread * rng.normal(size=(n_rows, 1)))
    longer = np.concatenate([np.full((n_lacking, 1), np.nan), column])
    weight = None
    if weighted:
        longer[:n_lacking] = 0.0
        weight = np.repeat([0.0, 1.0], [n_lacking, n_rows])
    actual, expected = moments(longer, weight), moments(column)
    assert np.all(actual.count == expected.count)
    assert_allclose(mean_of(actual), mean_of(expected), rtol=1e-15)
    if spread == 0:
        assert actual.squares == 0
    # Both may overflow.
    assert_allclose(
        np.fmin(actual.squares, LARGEST),
        np.fmin(expected.squares, LARGEST),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, as_3d])
@given(exponent=st.integers(-1000, 40), seed=seeds)
def test_a_power_of_two_of_weights_changes_no_digit(make, exponent, seed):
    """Large weights of values of 1e300 do not overflow on the way to the mean.

    Nor do small ones lose the squares.
    """
    rng = np.random.default_rng(seed)
    column = rng.choice([1e300, 1.5e300, np.nan], (50, 1))
    column[0] = 1e300
    weight = rng.integers(0, 3, 50) + np.eye(1, 50)[0]
    one, many = (
        moments(make(column), weight),
        moments(make(column), weight * 2.0**exponent),
    )
    assert np.isfinite(mean_of(one)).all()
    assert_array_equal(mean_of(many), mean_of(one))
    assert_array_equal(many.count, one.count * 2.0**exponent)
    assert_array_equal(variance_of(many, ddof=0), variance_of(one, ddof=0))


@pytest.mark.parametrize("block_values", [kernels.BLOCK_VALUES, 64])
@given(
    seed=seeds,
    n_rows=st.integers(2, 400),
    ratio=st.floats(0, 12),
    std=st.sampled_from([1e-150, 1e-3, 1.0, 1e100]),
    weighted=st.booleans(),
)
def test_twelve_digits_whatever_the_mean(
    block_values, seed, n_rows, ratio, std, weighted
):
    rng = np.random.default_rng(seed)
    mean = 10**ratio
    column = (mean + rng.normal(size=n_rows)) * std
    weight = rng.uniform(0.5, 3.0, n_rows) if weighted else None
    count, exact_mean, exact_squares = exact_moments(column, weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "BLOCK_VALUES", block_values)
        result = moments(column[:, None], weight)
    # The mean is a double of its own: half a unit in the last place, and
    # what the sums lose.
    assert relative_error(mean_of(result).item(), exact_mean) < 4e-16 + 1e-13 / mean
    biased, unbiased = (variance_of(result, ddof)[0] for ddof in (0, 1))
    assert relative_error(biased, exact_squares / count) < 1e-12
    # With weights, count - 1 loses what the sum of weights has rounded off.
    assert relative_error(unbiased, exact_squares / (count - 1)) < 1e-12


def test_constant_columns_have_variance_zero():
    values = np.array([0.1, 1 / 3, 1e7 + 0.1, -1e300, 5e-324, 0.0])
    X = np.tile(values, (30_000, 1))  # several blocks
    result = moments(X)
    assert_array_equal(mean_of(result), values[None])
    assert_array_equal(result.squares, 0.0)


@pytest.mark.parametrize("format", ["csr", "csc"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_rows", [7, 49, 1000])
def test_sparse_constants_have_variance_zero(format, weighted, n_rows):
    """Of columns that are stored throughout."""
    values = np.array([0.1, 1 / 3, 1e7 + 0.1, -1e300, 5e-324])
    X = sparse.csr_array(np.tile(values, (n_rows, 1))).asformat(format)
    for seed in range(5 if weighted else 1):
        # Which sum to another last digit in another order.
        weight = np.random.default_rng(seed).uniform(0.1, 2.0, n_rows)
        result = moments(X, weight if weighted else None)
        assert_array_equal(mean_of(result), values[None])
        assert_array_equal(result.squares, 0.0)


@given(seeds, st.integers(1, 40), st.integers(1, 6))
def test_integer_weights_are_repeated_rows(seed, n_rows, n_features):
    rng = np.random.default_rng(seed)
    X = rng.normal(5.0, 2.0, (n_rows, n_features))
    weight = rng.integers(0, 4, n_rows).astype(float)
    weight[0] += 1
    weighted = moments(X, weight)
    repeated = moments(np.repeat(X, weight.astype(int), axis=0))
    assert weighted.count == repeated.count
    assert_allclose(mean_of(weighted), mean_of(repeated), rtol=1e-14)
    # Near 0 the squares are rounding of the values: 1e-15 of 5² each.
    squares = weighted.squares * weighted.unit
    assert_allclose(squares, repeated.squares, rtol=1e-12, atol=1e-25)


@pytest.mark.parametrize(
    "kind", [np.asarray, sparse.csr_array, sparse.csc_array, np.atleast_3d]
)
@pytest.mark.parametrize("large", [1e300, np.inf])
def test_rows_of_weight_zero_are_not_there(kind, large):
    X = kind(np.array([[1.0], [large], [3.0], [-large]]))
    result = moments(X, np.array([1.0, 0.0, 1.0, 0.0]))
    assert (result.count, mean_of(result), result.squares) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("trailing", [(1,), (1, 1)])
def test_blocks_without_any_weight_are_skipped(monkeypatch, trailing):
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 4)
    X = np.arange(12.0).reshape(-1, *trailing)
    weight = np.r_[np.zeros(4), np.ones(4), np.zeros(4)]
    result = moments(X, weight)
    assert (result.count, mean_of(result), result.squares) == (4.0, 5.5, 5.0)
    assert result.count.shape == result.n_samples.shape == (1, 1)


def test_blocks_of_one_value_after_one_of_none(monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 1)
    column = np.r_[np.nan, 1e12 + np.random.default_rng(0).normal(size=20)]
    result = moments(column[:, None])
    _, mean, squares = exact_moments(column[1:])
    assert relative_error(mean_of(result).item(), mean) < 4e-16
    assert relative_error(result.squares.item(), squares) < 1e-12


@pytest.mark.parametrize("gaps", ["first", "last", "middle"])
def test_blocks_with_gaps_among_blocks_without(monkeypatch, gaps):
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 30)
    X = np.random.default_rng(0).normal(1e6, 1.0, (50, 3))
    row = {"first": 2, "middle": 25, "last": 49}[gaps]
    X[row, 1] = np.nan
    result = moments(X)
    assert_array_equal(result.count, [[50, 49, 50]])
    assert result.n_samples == 50
    for j, column in enumerate(X.T):
        _, mean, squares = exact_moments(column[~np.isnan(column)])
        assert relative_error(mean_of(result)[0, j], mean) < 4e-16
        assert relative_error(result.squares[0, j], squares) < 1e-12


def test_an_outlier_of_1e8_standard_deviations_first():
    X = np.random.default_rng(0).normal(size=(2000, 1))
    X[0] = 1e8
    _, mean, squares = exact_moments(X[:, 0])
    batch = moments(X)
    assert relative_error(mean_of(batch).item(), mean) < 1e-15
    assert relative_error(variance_of(batch, ddof=1)[0], squares / 1999) < 1e-14


def test_float32_far_from_zero():
    """A constant column has variance 0; 73² is what float32 sums make of it."""
    for value in (1e7, 10_000_001, 16_777_215, 0.1, 1e30):
        batch = moments(np.full((5000, 1), value, dtype=np.float32))
        assert batch.squares == 0.0
        assert mean_of(batch) == np.float64(np.float32(value))


@pytest.mark.parametrize("n_counts", [1, 4])
def test_what_overflows_is_the_largest_double(n_counts):
    """With one count for all features, and with one for each."""
    count, mean = np.full((1, n_counts), 2.0), np.zeros((1, 4))
    squares = np.array([[1.0, np.inf, np.nan, 0.0]])
    batch = Moments(np.array([[2.0]]), count, mean, mean, squares)
    assert_array_equal(variance_of(batch, ddof=1), [1.0, LARGEST, LARGEST, 0.0])
    assert_array_equal(variance_of(batch, ddof=0), [0.5, LARGEST, LARGEST, 0.0])


def joined(stretches):
    """Bounds that go on where those before have ended, as one list."""
    bounds = [0]
    for stretch in stretches:
        assert stretch[0] == bounds[-1]
        bounds += stretch[1:].tolist()
    return bounds


def test_cut_beyond_many_rows_of_weight_zero():
    n_rows = 200_000
    weight = np.ones(n_rows)
    weight[np.random.default_rng(0).random(n_rows) < 0.6] = 0.0
    weight[:70_000] = 0.0
    there = np.flatnonzero(weight)
    bounds = joined(cut((n_rows, 1000), 1000, weight))
    parts = np.array_split(there, len(there) // 1000)
    assert bounds == [0, *(part[0] for part in parts[1:]), n_rows]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("step", [1, -1, 3])
def test_layout_does_not_matter(order, step):
    X = np.random.default_rng(0).normal(3.0, 1.0, (1000, 7))
    view = np.asarray(X, order=order)[::step, ::step]
    expected, actual = moments(np.ascontiguousarray(view)), moments(view)
    assert_allclose(mean_of(actual), mean_of(expected), rtol=1e-14)
    assert_allclose(actual.squares, expected.squares, rtol=1e-13)


@pytest.mark.parametrize("block_values", [kernels.BLOCK_VALUES, 4])
@example(258, 256, None, 3)
@example(40, 2, 0, 1)
@given(
    n_samples=st.integers(1, 600),
    batch_size=st.none() | st.integers(2, 120),
    seed=st.none() | seeds,
    n_together=st.integers(1, 5),
)
def test_cut_is_array_split_of_rows_with_weight(
    block_values, n_samples, batch_size, seed, n_together
):
    """A mini-batch holds from batch_size rows up to less than twice as many."""
    weight = None
    if seed is not None:
        weight = np.random.default_rng(seed).integers(0, 2, n_samples).astype(float)
        weight[0] = 1.0
    there = np.arange(n_samples) if weight is None else np.flatnonzero(weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "BLOCK_VALUES", block_values)
        patch.setattr(_inputs, "_STACK_VALUES", 3 * n_together)
        bounds = joined(cut((n_samples, 3), batch_size, weight))
    n_batches = max(1, len(there) // batch_size) if batch_size else 1
    expected = [part.tolist() for part in np.array_split(there, n_batches)]
    actual = [there[(a <= there) & (there < b)].tolist() for a, b in pairwise(bounds)]
    assert actual == expected
    assert (bounds[0], bounds[-1]) == (0, n_samples)
    sizes = [len(rows) for rows in actual]
    if batch_size and len(there) >= batch_size:
        assert batch_size <= min(sizes) <= max(sizes) < 2 * batch_size


@given(
    seed=seeds,
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    gaps=st.booleans(),
    weighted=st.booleans(),
)
@example(0, [3, 1, 4], False, True)
def test_together_mini_batches_are_what_each_is_alone(seed, lengths, gaps, weighted):
    rng = np.random.default_rng(seed)
    bounds = np.cumsum([0, *lengths])
    X = rng.normal(5.0, 2.0, (bounds[-1], 3))
    if gaps:
        X[rng.random(X.shape) < 0.3] = np.nan
    weight = rng.uniform(0.5, 2.0, len(X)) if weighted else None
    together = batch_moments(X, bounds, weight)
    for k, (start, stop) in enumerate(pairwise(bounds)):
        alone = moments(X[start:stop], None if weight is None else weight[start:stop])
        assert_allclose(together.n_samples[[k]], alone.n_samples, rtol=1e-15)
        counts = np.broadcast_arrays(together.count[[k]], alone.count, np.ones(3))
        assert_allclose(counts[0], counts[1], rtol=1e-15)
        assert_allclose(mean_of(together)[[k]], mean_of(alone), rtol=1e-14)
        # Of values of 5² each, where the squares are 0 but for rounding.
        assert_allclose(together.squares[[k]], alone.squares, rtol=1e-12, atol=1e-25)


@pytest.mark.parametrize(("n_features", "n_together"), [(3, 2), (6, 1), (100, 1)])
def test_as_many_mini_batches_as_memory_is_for(monkeypatch, n_features, n_together):
    monkeypatch.setattr(_inputs, "_STACK_VALUES", 6)
    stretches = list(cut((100, n_features), 10))
    assert len(joined(stretches)) == 11
    assert {len(stretch) - 1 for stretch in stretches} == {n_together}
    as_told = cut((100, n_features), 10, n_together=5)
    assert [len(stretch) - 1 for stretch in as_told] == [5, 5]


@pytest.mark.parametrize("n_together", [1, 2, 100])
def test_rows_go_to_a_kernel_in_stretches(monkeypatch, n_together):
    """Shorter ones would say the same, and be slow; longer ones, and take memory."""
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 12)
    monkeypatch.setattr(dispatch, "TASK_VALUES", 12)
    monkeypatch.setattr(_inputs, "_STACK_VALUES", 2 * n_together)
    taken, kernel = [], dispatch.moments
    monkeypatch.setattr(
        dispatch, "moments", lambda X, *args: taken.append(args[0]) or kernel(X, *args)
    )
    X = np.random.default_rng(0).normal(size=(2000, 2))
    assert moments(X).count == 2000
    n_rows = dispatch.rows_at_once(X)
    assert joined(taken) == [*range(0, 2000, n_rows), 2000]
    assert {len(bounds) - 1 for bounds in taken[:-1]} <= {n_together}


@pytest.mark.parametrize(
    "call",
    [
        lambda X: moments(X, n_jobs=3),
        lambda X: batch_moments(X, np.array([0, 2, 5, 40]), n_jobs=3),
        lambda X: batch_moments(X, np.array([0, 2, 5, 7]), n_jobs=3),
        lambda X: BatchNorm1dTransformer(n_jobs=3).forward(X),
        lambda X: normalize(X, None, np.ones(2), None, copy=True, n_jobs=3),
    ],
)
def test_joblib_is_asked_for_n_jobs(call, monkeypatch):
    asked = []
    monkeypatch.setattr(dispatch, "effective_n_jobs", lambda n: asked.append(n) or 1)
    # Small arrays are cut into tasks, too.
    monkeypatch.setattr(dispatch, "KERNELS", "numpy")
    monkeypatch.setattr(dispatch, "_LARGE", 1)
    monkeypatch.setattr(_inputs, "_WORTH_A_LOOK", 1)
    monkeypatch.setattr(dispatch, "TASK_VALUES", 8)
    monkeypatch.setattr(kernels, "BLOCK_VALUES", 8)
    call(np.random.default_rng(0).normal(size=(40, 2)))
    assert set(asked) == {3}
