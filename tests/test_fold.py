"""A folded linear model predicts what the transformer and the model do, and no more."""

import pickle
import warnings
from copy import copy, deepcopy
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lars,
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    MultiTaskLasso,
    OrthogonalMatchingPursuit,
    Perceptron,
    PoissonRegressor,
    QuantileRegressor,
    RANSACRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDOneClassSVM,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, NuSVR
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm import BatchNorm1dTransformer, _fold, fold
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm._fold import _folded_class
from sk_batchnorm._normalize import scale_of
from sk_batchnorm.pipeline import StreamingPipeline

from .laws import unchanged

RNG = np.random.default_rng(0)
X = RNG.normal([1.0, -20.0, 300.0], [0.5, 4.0, 30.0], (60, 3))
Y = (X - [1.0, -20.0, 300.0]) @ [2.0, 0.25, -0.05] + RNG.normal(0, 0.3, 60)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])

REGRESSORS = [
    LinearRegression(),
    Ridge(),
    Lasso(alpha=0.1),
    ElasticNet(alpha=0.1),
    SGDRegressor(),
    SGDRegressor(average=True),
    LinearSVR(intercept_scaling=5.0),
    HuberRegressor(),
    QuantileRegressor(),
    TheilSenRegressor(max_subpopulation=50),
    BayesianRidge(),
    ARDRegression(),
    Lars(),
    OrthogonalMatchingPursuit(),
    PoissonRegressor(),
    GammaRegressor(),
    TweedieRegressor(power=1.5),
]
MULTI_OUTPUT = [LinearRegression(), Ridge(), MultiTaskLasso(alpha=0.1)]
CLASSIFIERS = [
    LogisticRegression(),
    LogisticRegressionCV(Cs=2, cv=2),
    SGDClassifier(loss="log_loss"),
    SGDClassifier(average=True),
    Perceptron(),
    RidgeClassifier(),
    LinearSVC(intercept_scaling=10.0),
    LinearDiscriminantAnalysis(),
]
PREDICTIONS = ("decision_function", "predict_proba", "predict")


def fitted(model, Z, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what did not converge
        return model.fit(Z, y)


def pair(model=None, y=Y, data=X, **settings):
    bn = BatchNorm1dTransformer(**settings).fit(data)
    return bn, fitted(Ridge() if model is None else model, bn.transform(data), y)


def eval_mode(bn):
    """Mean, scale and bias of the affine map."""
    mean = bn.running_mean_ if bn.with_mean else np.zeros(bn.n_features_in_)
    scale = scale_of(bn.running_mean_, bn.running_var_, bn.eps, bn.weight_)
    return mean, scale, np.zeros(len(mean)) if bn.bias_ is None else bn.bias_


def rounding(bn, model, X):
    """How far apart the pair and what is folded may be, sample by sample.

    Either way each prediction is a sum of n products and an intercept, made of
    terms of these sizes, of which each operation rounds its result: at most
    n + 4 of them on the way of the pair, and n + 3 and those that made the
    folded intercept, in at least double, on the other.
    """
    mean, scale, bias = eval_mode(bn)
    reach = (np.abs(X) + np.abs(mean)) * np.abs(scale) + np.abs(bias)
    coef = model.coef_.toarray() if sparse.issparse(model.coef_) else model.coef_
    size = reach @ np.abs(coef).T + np.abs(model.intercept_)
    n_roundings = 4 * X.shape[1] + 12
    eps = max(np.finfo(dtype).eps for dtype in (coef.dtype, X.dtype))
    return n_roundings * eps / 2 * size


def assert_folds(bn, model, X):
    folded = fold(bn, model)
    assert isinstance(folded, type(model))
    Z = bn.transform(X)
    atol = rounding(bn, model, X)
    clear = np.ones(len(X), dtype=bool)
    for method in PREDICTIONS:
        if not hasattr(model, method):
            continue
        with np.errstate(all="ignore"):  # an exponential may overflow
            expected, actual = getattr(model, method)(Z), getattr(folded, method)(X)
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        largest = atol.reshape(len(X), -1).max(axis=1)
        if method == "predict" and hasattr(model, "classes_"):
            assert_array_equal(actual[clear], expected[clear])
            continue
        if method == "predict_proba":
            # The slope of a softmax or a logistic function is below 1, that of a
            # share of several logistic functions below 2.
            tolerance = 2 * largest[:, None] + 1e-14
        elif isinstance(model, GammaRegressor | PoissonRegressor | TweedieRegressor):
            # The exponential of what is off by so much, rounded by itself.
            with np.errstate(all="ignore"):
                tolerance = np.expm1(largest + 1e-15) * expected
        else:
            tolerance = atol.reshape(expected.shape)
        with np.errstate(all="ignore"):
            close = np.abs(actual - expected) <= tolerance
        assert (close | (actual == expected) | np.isnan(expected)).all()
        if method == "decision_function":
            top = np.sort(
                np.c_[expected, 0 * expected] if expected.ndim == 1 else expected
            )
            clear = top[:, -1] - top[:, -2] > 2 * largest
    return folded


@st.composite
def streams(draw):
    """A transformer that has learned from a stream, and rows of it."""
    n_features = draw(st.integers(1, 6))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    loc = numbers.normal(size=n_features) * 10.0 ** numbers.integers(-3, 6, n_features)
    std = 10.0 ** numbers.uniform(-3, 3, n_features)
    rows = numbers.normal(loc, std, (40, n_features))
    weight = numbers.normal(size=n_features) * numbers.integers(0, 3, n_features)
    bn = BatchNorm1dTransformer(
        eps=draw(st.sampled_from([0, 1e-5, 1.0])),
        affine=draw(st.booleans()),
        weight_init=weight if draw(st.booleans()) else None,
        bias_init=numbers.normal(size=n_features) if draw(st.booleans()) else None,
        with_mean=draw(st.booleans()),
        bias_correction=draw(st.booleans()),
    )
    for batch in np.split(rows, 2):
        bn.partial_fit(batch)
    return bn, rows, numbers


def without_intercept(model, no_intercept):
    if no_intercept and "fit_intercept" in model.get_params():
        return clone(model).set_params(fit_intercept=False)
    return clone(model)


@given(streams(), st.sampled_from(REGRESSORS), st.booleans())
def test_regressors(stream, model, no_intercept):
    bn, rows, numbers = stream
    # Of one feature it makes a number of its coefficients, and can't predict.
    assume(not isinstance(model, OrthogonalMatchingPursuit) or rows.shape[1] > 1)
    # What the model was fitted on is of no matter; its coefficients are.
    Z = numbers.standard_normal(rows.shape)
    y = np.exp(0.3 * Z.mean(axis=1)) + numbers.uniform(0.1, 1.0, len(rows))
    model = fitted(without_intercept(model, no_intercept), Z, y)
    assert_folds(bn, model, rows)


@given(streams(), st.sampled_from(MULTI_OUTPUT), st.booleans(), st.integers(1, 3))
def test_multi_output(stream, model, no_intercept, n_outputs):
    bn, rows, numbers = stream
    y = numbers.normal(size=(len(rows), n_outputs))
    model = fitted(without_intercept(model, no_intercept), bn.transform(rows), y)
    folded = assert_folds(bn, model, rows)
    assert folded.coef_.shape == model.coef_.shape


@given(
    streams(),
    st.sampled_from(CLASSIFIERS),
    st.booleans(),
    st.sampled_from([("no", "yes"), ("a", "b", "c"), (0, 1, 2, 3)]),
    st.booleans(),
)
def test_classifiers(stream, model, no_intercept, classes, sparsify):
    bn, rows, numbers = stream
    y = np.resize(classes, len(rows))
    numbers.shuffle(y)
    Z = numbers.standard_normal(rows.shape)
    model = fitted(without_intercept(model, no_intercept), Z, y)
    if (
        sparsify
        and hasattr(model, "sparsify")
        and not isinstance(model, LogisticRegressionCV)
    ):
        model.sparsify()
        assert sparse.issparse(assert_folds(bn, model, rows).coef_)
    else:
        assert_folds(bn, model, rows)


@given(streams(), st.integers(0, 3))
def test_the_numbers_are_those_of_exact_arithmetic(stream, n_outputs):
    bn, rows, numbers = stream
    model = LinearRegression()
    model.coef_ = numbers.normal(size=(n_outputs, rows.shape[1]))
    model.intercept_ = numbers.normal(size=n_outputs)
    if n_outputs == 0:
        model.coef_, model.intercept_ = numbers.normal(size=rows.shape[1]), 0.5
    folded = fold(bn, model)
    mean, scale, bias = eval_mode(bn)
    assert_array_equal(folded.coef_, model.coef_ * scale)  # rounded once
    n = len(mean)
    for coef, old, new in zip(
        np.atleast_2d(model.coef_),
        np.atleast_1d(model.intercept_),
        np.atleast_1d(folded.intercept_),
        strict=True,
    ):
        terms = [
            Fraction(c) * (Fraction(b) - Fraction(m) * Fraction(s))
            for c, m, s, b in zip(coef, mean, scale, bias, strict=True)
        ]
        exact = Fraction(old) + sum(terms)
        size = float(np.abs(coef) @ (np.abs(bias) + np.abs(mean * scale))) + abs(old)
        # One rounding to float64, and before it n + 3 of a long double.
        error = float(abs(Fraction(float(new)) - exact))
        long = np.finfo(np.longdouble).eps
        assert error <= 2.0**-53 * float(abs(exact)) + (n + 3) * long * size


@pytest.mark.parametrize("k", [1e2, 1e6, 1e10])
def test_a_mean_of_k_deviations_costs_log10_k_digits(k):
    data = k + RNG.standard_normal((50, 1))
    bn = BatchNorm1dTransformer(eps=0, batch_size=None).fit(data)
    model = LinearRegression().fit(bn.transform(data), (data[:, 0] - k) / 3)
    folded = fold(bn, model)
    (mean,), (scale,), _ = eval_mode(bn)
    (slope,), intercept = model.coef_, model.intercept_

    def error(prediction):
        exact = [
            Fraction(slope) * (Fraction(x) - Fraction(mean)) * Fraction(scale)
            + Fraction(intercept)
            for x in data[:, 0]
        ]
        return max(
            float(abs(Fraction(p) - e)) for p, e in zip(prediction, exact, strict=True)
        )

    # Predictions are about 1. The pair is right to some last digits of that, the
    # folded model to as many of k, as in "log10(k) digits less".
    assert error(model.predict(bn.transform(data))) < 4 * 2.2e-16 * 4
    assert 2.2e-16 * k / 20 < error(folded.predict(data)) < 4 * 2.2e-16 * k


def test_nothing_of_the_pair_is_changed_or_shared():
    bn, model = pair(SGDClassifier(average=True), Y > 0)
    with unchanged(bn, model):
        folded = fold(bn, model)
        folded.coef_ *= 2
        folded.intercept_ += 1
        folded.classes_[0] = True


def test_parameters_and_clone_are_the_models():
    bn, model = pair(Ridge(fit_intercept=False))
    folded = fold(bn, model)
    assert folded.get_params() == model.get_params()
    assert folded.intercept_ != 0 == model.intercept_
    refitted = clone(folded).fit(bn.transform(X), Y)
    assert_array_equal(refitted.coef_, model.coef_)
    assert refitted.intercept_ == 0


def test_fold_of_a_fold():
    # Two transformers in front are two affine maps.
    first = BatchNorm1dTransformer().fit(X)
    second = BatchNorm1dTransformer(weight_init=2.0, bias_init=1.0, momentum=0.5)
    second.partial_fit(first.transform(X))
    model = Ridge().fit(second.transform(first.transform(X)), Y)
    expected = model.predict(second.transform(first.transform(X)))
    # The terms are as large as mean against deviation, 10 here, and y is about 1.
    once = fold(first, fold(second, model))
    assert_allclose(once.predict(X), expected, rtol=1e-13, atol=1e-13)
    pipe = make_pipeline(first, second, model)
    assert_array_equal(fold(fold(pipe)).predict(X), once.predict(X))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [Ridge, LogisticRegression, SGDClassifier])
def test_the_dtype_stays(dtype, make):
    data = X.astype(dtype)
    bn = BatchNorm1dTransformer().fit(data)
    y = Y if make is Ridge else Y > 0
    for no_intercept in (False, True):
        model = make(fit_intercept=not no_intercept).fit(bn.transform(data), y)
        if make is not LogisticRegression:  # float64 before scikit-learn 1.8
            assert model.coef_.dtype == dtype
        folded = assert_folds(bn, model, data)
        assert folded.coef_.dtype == model.coef_.dtype
        expected = getattr(model.intercept_, "dtype", model.coef_.dtype)
        assert folded.intercept_.dtype == expected


def exact_error(bn, model, folded, data):
    """How far predictions of the folded model, or of the pair, are from exact ones."""
    mean, scale, bias = eval_mode(bn)
    coef, (intercept,) = model.coef_.ravel(), np.ravel(model.intercept_)
    exact = [
        sum(
            Fraction(float(c))
            * ((Fraction(x) - Fraction(m)) * Fraction(s) + Fraction(b))
            for c, x, m, s, b in zip(coef, row, mean, scale, bias, strict=True)
        )
        + Fraction(float(intercept))
        for row in data
    ]
    if folded is None:
        predicted = model.predict(bn.transform(data))
    else:
        predicted = folded.predict(data)
    pairs = zip(predicted, exact, strict=True)
    return max(abs(float(Fraction(float(p)) - e)) for p, e in pairs)


@pytest.mark.parametrize(
    ("k", "sparsify"), [(0, True), (10, False), (100, True), (1e4, False), (1e8, False)]
)
def test_float32_keeps_five_digits_or_becomes_float64(k, sparsify):
    data = k + RNG.standard_normal((50, 2))
    bn = BatchNorm1dTransformer(eps=0, batch_size=None).fit(data)
    model = SGDRegressor(random_state=0).fit(
        bn.transform(data).astype(np.float32), data[:, 0] - k
    )
    assert model.coef_.dtype == np.float32
    if sparsify:
        model.sparsify()
    folded = fold(bn, model)
    assert folded.coef_.dtype == (np.float32 if k <= 10 else np.float64)
    # Predictions are about 1.
    model.coef_ = model.coef_.toarray() if sparsify else model.coef_
    digits = 100 * np.finfo(np.float32).eps
    if k > 100:
        digits = 4 * np.finfo(np.float64).eps * k
    assert exact_error(bn, model, folded, data) < digits


def test_a_classifier_in_float32_far_from_zero():
    """Whose folded intercept of float32 would decide by its rounding alone."""
    data = 1e8 + RNG.standard_normal((200, 1))
    bn = BatchNorm1dTransformer(eps=0).fit(data)
    y = data[:, 0] > 1e8
    model = SGDClassifier(random_state=0).fit(bn.transform(data).astype("f4"), y)
    assert model.coef_.dtype == np.float32
    expected = model.predict(bn.transform(data))
    assert_array_equal(fold(bn, model).predict(data), expected)


def test_float32_that_would_underflow_becomes_float64():
    bn = BatchNorm1dTransformer(eps=0, weight_init=[1.0, 100.0, 1e-8]).fit(X)
    model = Plain(np.float32([0.0, 0.0, 1e-40]), np.float32(0))
    folded = fold(bn, model)
    assert folded.coef_.dtype == np.float64
    expected = bn.transform(X) @ model.coef_.astype(float)
    assert_allclose(folded.predict(X), expected, rtol=1e-11)


def test_coefficients_that_are_integers_become_floats():
    bn, model = pair()
    model.coef_, model.intercept_ = np.array([1, -2, 3]), np.int64(1)
    folded = fold(bn, model)
    assert folded.coef_.dtype == folded.intercept_.dtype == np.float64
    expected = bn.transform(X) @ [1.0, -2.0, 3.0] + 1
    assert_allclose(folded.predict(X), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("model", [SGDRegressor(), SGDClassifier(penalty="l1")])
def test_sparse_coefficients_stay_as_sparse(model):
    bn, model = pair(model, Y if isinstance(model, SGDRegressor) else Y > 0)
    model.coef_ = np.where([True, False, True], model.coef_, 0.0)
    dense = fold(bn, model)
    model.sparsify()
    folded = assert_folds(bn, model, X)
    assert type(folded.coef_) is type(model.coef_)
    assert folded.coef_.nnz == model.coef_.nnz == 2
    assert folded.intercept_ != model.intercept_
    assert_array_equal(folded.densify().coef_.ravel(), dense.coef_.ravel())


# Feature names


def test_names_are_those_that_the_transformer_knows():
    bn = BatchNorm1dTransformer().fit(FRAME)
    model = Ridge().fit(bn.transform(FRAME), Y)  # on an array, without names
    folded = fold(bn, model)
    assert list(folded.feature_names_in_) == ["a", "b", "c"]
    folded.predict(FRAME)  # and no warning, which were an error
    with pytest.raises(ValueError, match="feature names"):
        folded.predict(FRAME[["c", "b", "a"]])


def test_names_that_the_model_knows_too():
    bn = BatchNorm1dTransformer().set_output(transform="pandas").fit(FRAME)
    model = Ridge().fit(bn.transform(FRAME), Y)
    assert list(fold(bn, model).feature_names_in_) == ["a", "b", "c"]
    model.feature_names_in_ = np.array(["a", "c", "b"], dtype=object)
    with pytest.raises(ValueError, match=r"on features \['a', 'c', 'b'\], but"):
        fold(bn, model)


def test_names_that_only_the_output_had():
    bn = BatchNorm1dTransformer().set_output(transform="pandas").fit(X)
    model = Ridge().fit(bn.transform(X), Y)
    assert list(model.feature_names_in_) == ["x0", "x1", "x2"]
    folded = fold(bn, model)
    assert not hasattr(folded, "feature_names_in_")
    folded.predict(X)


# Pipelines


def assert_same_pipeline(folded, pipe, data=X):
    assert isinstance(folded, type(pipe))
    expected = pipe.predict(data)
    # The terms are as large as mean against deviation, 10 here, and y is about 1.
    assert_allclose(folded.predict(data), expected, rtol=1e-13, atol=1e-13)


def test_a_pipeline_keeps_its_earlier_steps():
    missing = X.copy()
    missing[::7, 1] = np.nan
    pipe = Pipeline(
        [
            ("fill", SimpleImputer()),
            ("bn", BatchNorm1dTransformer()),
            ("ridge", Ridge()),
        ]
    ).fit(missing, Y)
    with unchanged(pipe):
        folded = fold(pipe)
        assert_same_pipeline(folded, pipe, missing)
        assert list(folded.named_steps) == ["fill", "ridge"]
        assert folded[0] is not pipe[0]
        folded[0].fit(X, Y)


@pytest.mark.parametrize("nothing", ["passthrough", None])
def test_nothing_between_the_pair(nothing):
    steps = [("bn", BatchNorm1dTransformer()), ("nothing", nothing), ("ridge", Ridge())]
    pipe = Pipeline(steps).fit(X, Y)
    folded = fold(pipe)
    assert_same_pipeline(folded, pipe)
    assert list(folded.named_steps) == ["nothing", "ridge"]
    assert not hasattr(folded, "fit_predict")
    assert "BatchNorm1dTransformer" in repr(pipe)
    assert "BatchNorm1dTransformer" not in repr(folded)


def test_a_pipeline_before_the_pair_stays():
    inner = make_pipeline(StandardScaler(), BatchNorm1dTransformer(), "passthrough")
    pipe = make_pipeline(inner, BatchNorm1dTransformer(), Ridge()).fit(X, Y)
    folded = fold(pipe)
    assert_same_pipeline(folded, pipe)
    assert list(folded.named_steps) == ["pipeline", "ridge"]
    assert folded[0] is not pipe[0]
    assert_array_equal(folded[0].transform(X), pipe[0].transform(X))


@pytest.mark.parametrize(
    ("kind", "freeze"), [(Pipeline, True), (StreamingPipeline, False)]
)
def test_the_pair_in_a_pipeline_within_another(kind, freeze):
    def inner(*estimators):
        pipe = kind([(f"step{i}", each) for i, each in enumerate(estimators)])
        return FrozenEstimator(pipe.fit(X, Y)) if freeze else pipe

    bn = BatchNorm1dTransformer()
    for steps in (
        [inner(StandardScaler(), bn), Ridge()],
        [inner(bn), Ridge()],
        [StandardScaler(), inner(bn, Ridge())],
        [inner(bn, Ridge())],
        [StandardScaler(), bn, inner(Ridge())],
        [inner(StandardScaler(), bn), inner(Ridge())],
    ):
        pipe = make_pipeline(*steps).fit(X, Y)
        with pytest.raises(ValueError, match="not a Pipeline that contains them"):
            fold(pipe)


def test_a_pipeline_that_names_its_output():
    for before in ([StandardScaler()], []):
        pipe = make_pipeline(*before, BatchNorm1dTransformer(), Ridge())
        pipe.set_output(transform="pandas").fit(FRAME, Y)
        folded = fold(pipe)
        assert_same_pipeline(folded, pipe, FRAME)
        assert "batchnorm1dtransformer" not in folded.named_steps
        assert list(folded[-1].feature_names_in_) == ["a", "b", "c"]
        assert list(folded.feature_names_in_) == ["a", "b", "c"]


# What can't be folded


BN = BatchNorm1dTransformer().fit(X)
RIDGE = Ridge().fit(X, Y)


@pytest.mark.parametrize(
    ("transformer", "model", "error", "match"),
    [
        (StandardScaler(), Ridge(), TypeError, "takes a BatchNorm1dTransformer"),
        (None, Ridge(), TypeError, "takes a BatchNorm1dTransformer"),
        (None, None, TypeError, "takes a BatchNorm1dTransformer"),
        (clone(BN), RIDGE, NotFittedError, "BatchNorm1d"),
        (BN, Ridge(), NotFittedError, "Ridge"),
        (BN, None, TypeError, "None is no fitted linear model"),
        (BN, Ridge, TypeError, "Ridge'> is no fitted"),
        (make_pipeline(clone(BN), Ridge()), None, NotFittedError, "BatchNorm1d"),
        (
            BN,
            StandardScaler().fit(X),
            TypeError,
            r"Scaler\(\) is no fitted linear model",
        ),
        (
            BN,
            RANSACRegressor(random_state=0).fit(X, Y),
            TypeError,
            "no coef_ and no intercept_",
        ),
        (
            BN,
            SGDOneClassSVM(tol=None, max_iter=5).fit(X),
            TypeError,
            r"SGDOneClassSVM\(.*\) is no fitted linear model",
        ),
        (
            BN,
            SVC(kernel="linear").fit(X, Y > 0),
            TypeError,
            "SVC computes coef_ or intercept_",
        ),
        (BN, SVR(kernel="linear").fit(X, Y), TypeError, "SVR computes coef_ or interc"),
        (BN, SVR().fit(X, Y), TypeError, r"SVR\(\) is no fitted linear model"),
        (
            clone(BN).fit(X[:, :2]),
            RIDGE,
            ValueError,
            r"shape \(3,\), but the transformer has 2 features",
        ),
        (
            BatchNorm1dTransformer(track_running_stats=False).fit(X),
            RIDGE,
            ValueError,
            "track_running_stats=False",
        ),
        (
            BatchNorm1dTransformer(clip=3).fit(X),
            RIDGE,
            ValueError,
            r"clip=3 limits.*set_params\(clip=None\)",
        ),
        (
            BatchNorm1dTransformer(handle_missing="mean").fit(X),
            RIDGE,
            ValueError,
            r"fills missing values.*set_params\(handle_missing='keep'\)",
        ),
        (
            make_pipeline(BatchNorm1dTransformer(clip=3), Ridge()).fit(X, Y),
            None,
            ValueError,
            "clip=3 limits",
        ),
        (clone(BN).fit(X).set_params(clip=-1), RIDGE, InvalidParameterError, "clip"),
        (clone(BN).fit(X).set_params(eps=-1), RIDGE, InvalidParameterError, "eps"),
        (make_pipeline(BN, RIDGE), RIDGE, TypeError, r"fold\(pipeline\)"),
        (make_pipeline(BN), None, ValueError, "last two steps of the Pipeline must be"),
        (make_pipeline(RIDGE), None, ValueError, "last two steps"),
        (make_pipeline("passthrough"), None, ValueError, "last two steps"),
        (make_pipeline(StandardScaler().fit(X), RIDGE), None, ValueError, "last two"),
        (
            make_pipeline(BN, StandardScaler().fit(X), RIDGE),
            None,
            ValueError,
            "last two steps",
        ),
    ],
)
def test_errors(transformer, model, error, match):
    with pytest.raises(error, match=match):
        fold(transformer, model)


def test_a_model_that_centres_x_itself():
    bn = BatchNorm1dTransformer(bias_init=0.5).fit(X)
    model = PLSRegression().fit(bn.transform(X), Y)
    with pytest.raises(ValueError, match="PLSRegression would predict something else"):
        fold(bn, model)
    # There is nothing to centre where the mean of its X was 0.
    bn, model = pair(PLSRegression(), batch_size=None)
    folded = fold(bn, model)
    assert_allclose(folded.predict(X), model.predict(bn.transform(X)), rtol=1e-12)
    assert not hasattr(folded, "transform")
    assert not hasattr(folded, "inverse_transform")


class Plain:
    """A linear model that knows nothing of scikit-learn."""

    def __init__(self, coef, intercept):
        self.coef_, self.intercept_ = coef, intercept

    def predict(self, X):
        return X @ self.coef_ + self.intercept_


class Labels(Plain):
    def predict(self, X):
        return np.where(super().predict(X) > 0, "high", "low")


class Clipped(Plain):
    def predict(self, X):
        return np.clip(X, -0.1, 0.1) @ self.coef_ + self.intercept_


class LabelsByMean(Plain):
    def predict(self, X):
        return np.where(X.mean(axis=1) > 0, "high", "low")


class Doubled(Plain):
    def predict(self, X):
        return X @ self.coef_ + 2 * self.intercept_


def test_any_class_with_coef_and_intercept():
    bn = BatchNorm1dTransformer(bias_init=0.5).fit(X)
    coef = np.array([1.0, -2.0, 3.0])
    plain, labels = Plain(coef, 0.5), Labels(coef, 0.5)
    Z = bn.transform(X)
    assert_allclose(fold(bn, plain).predict(X), plain.predict(Z), rtol=1e-12)
    assert_array_equal(fold(bn, labels).predict(X), labels.predict(Z))
    for model in (Clipped(coef, 0.5), LabelsByMean(coef, 0.5), Doubled(coef, 0.5)):
        with pytest.raises(ValueError, match="would predict something else"):
            fold(bn, model)


@pytest.mark.parametrize(
    ("coef", "intercept", "error", "match"),
    [
        ([1.0, 2.0, 3.0], 0.0, TypeError, "coef_ of Plain is a list"),
        (np.ones(3), None, TypeError, "has no intercept_"),
        (np.ones((2, 3)), np.ones(3), ValueError, "intercept_ of Plain has shape"),
        (np.ones(3), np.ones(3), ValueError, "intercept_ of Plain has shape"),
        (np.array(1.0), 0.0, ValueError, r"coef_ of Plain has shape \(\)"),
        (np.array([1.0, np.nan, 1.0]), 0.0, ValueError, "coef_ would not be finite"),
        (np.ones(3), np.inf, ValueError, "intercept_ would not be finite"),
        (np.full(3, 1e308), 0.0, ValueError, "coef_ would not be finite"),
        (np.array([0.0, 0.0, 1e-310]), 0.0, ValueError, "too small for float64"),
        (np.ones((1, 1, 3)), 0.0, ValueError, r"coef_ of Plain has shape \(1, 1, 3\)"),
    ],
)
def test_coefficients_that_can_not_be_folded(coef, intercept, error, match):
    bn = BatchNorm1dTransformer(eps=0, weight_init=[1.0, 100.0, 1e-8]).fit(X)
    with pytest.raises(error, match=match):
        fold(bn, Plain(coef, intercept))


@pytest.mark.parametrize("model", [BayesianRidge(), ARDRegression()])
def test_what_only_normalised_features_tell(model):
    bn, model = pair(model)
    folded = assert_folds(bn, model, X)
    with pytest.raises(AttributeError):
        folded.predict(X, return_std=True)
    model.predict(bn.transform(X), return_std=True)


@pytest.mark.parametrize("solver", ["svd", "eigen"])
def test_discriminant_analysis_does_not_transform(solver):
    iris, species = load_iris(return_X_y=True)
    bn, model = pair(LinearDiscriminantAnalysis(solver=solver), species, iris)
    folded = assert_folds(bn, model, iris)
    with pytest.raises(AttributeError):
        folded.transform(iris)


# For prediction only


@pytest.mark.parametrize("model", [SGDClassifier(), SGDRegressor(), Ridge()])
def test_a_folded_model_does_not_train(model):
    bn, model = pair(model, Y if isinstance(model, SGDRegressor) else Y > 0)
    folded = fold(bn, model)
    assert type(folded).__name__ == "Folded" + type(model).__name__
    # scikit-learn takes nothing without fit for an estimator.
    refused = pytest.raises(
        AttributeError, match=r"no fit: .* prediction only, .* fold"
    )
    with unchanged(folded), refused:
        folded.fit(X, Y > 0)
    if hasattr(model, "partial_fit"):
        refused = pytest.raises(AttributeError, match=r"no partial_fit: it is for")
        with unchanged(folded), refused:
            folded.partial_fit(X, Y > 0)
    for name in ("partial_fit", "set_fit_request", "fit_transform", "fit_predict"):
        assert not hasattr(folded, name)
    assert not hasattr(folded, "transform")


@pytest.mark.parametrize("model", [*REGRESSORS, *CLASSIFIERS])
def test_a_folded_model_is_an_estimator(model):
    y = Y if model in REGRESSORS else Y > 0
    if isinstance(model, GammaRegressor | PoissonRegressor | TweedieRegressor):
        y = np.exp(Y / 10)
    bn, model = pair(model, y)
    folded = fold(bn, model)
    check_is_fitted(folded)
    assert get_tags(folded) == get_tags(model)
    assert f"Folded{type(model).__name__}(" in repr(folded)
    assert "Folded" in estimator_html_repr(folded)
    assert folded.score(X, y) == pytest.approx(model.score(bn.transform(X), y))
    for each in (copy(folded), deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        assert type(each) is type(folded)
        assert_array_equal(each.predict(X), folded.predict(X))
        assert vars(each).keys() == vars(folded).keys()
    frozen = FrozenEstimator(folded).fit(X, y)
    assert_array_equal(frozen.predict(X), folded.predict(X))


def test_a_clone_of_a_folded_model_trains():
    bn, model = pair(SGDClassifier(alpha=0.5), Y > 0)
    folded = fold(bn, model).set_params(penalty="l1")
    copied = clone(folded)
    assert type(copied) is SGDClassifier
    assert copied.get_params() == folded.get_params()
    assert not hasattr(copied, "coef_")
    copied.fit(X, Y > 0)
    search = GridSearchCV(folded, {"alpha": [0.1]}, cv=2).fit(X, Y > 0)
    assert type(search.best_estimator_) is SGDClassifier


def test_a_pickle_of_a_folded_model():
    folded = fold(make_pipeline(*pair()))
    dumped = pickle.dumps(folded)
    _folded_class.cache_clear()  # as there
    loaded = pickle.loads(dumped)
    assert type(loaded[-1]).__name__ == "FoldedRidge"
    assert_array_equal(loaded.predict(X), folded.predict(X))
    assert not hasattr(loaded, "partial_fit")


@pytest.mark.parametrize("model", [Ridge(), SGDClassifier()])
def test_a_folded_model_in_skops(model):
    sio = pytest.importorskip("skops.io")
    bn, model = pair(model, Y if isinstance(model, Ridge) else Y > 0)
    for folded in (fold(bn, model), fold(make_pipeline(bn, model))):
        dumped = sio.dumps(folded)
        names = sio.get_untrusted_types(data=dumped)
        _folded_class.cache_clear()  # as in another process
        loaded = sio.loads(dumped, trusted=names)
        assert type(loaded).__name__ == type(folded).__name__
        assert_array_equal(loaded.predict(X), folded.predict(X))
        assert not hasattr(loaded, "partial_fit")


def test_no_class_of_another_name():
    for name in ("FoldedNothing", "Foldedsparse", "Nothing"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(_fold, name)


@pytest.mark.parametrize("kind", [Pipeline, StreamingPipeline])
def test_a_folded_pipeline_does_not_train(kind):
    steps = [
        ("scaler", StandardScaler()),
        ("bn", BatchNorm1dTransformer()),
        ("sgd", SGDClassifier()),
    ]
    pipe = kind(steps).fit(X, Y > 0)
    folded = fold(pipe)
    assert isinstance(folded, kind)
    refused = pytest.raises(AttributeError, match=r"no fit: it is for prediction only")
    with unchanged(folded), refused:
        folded.fit(X, Y > 0)
    for name in ("partial_fit", "fit_transform", "fit_predict"):
        assert not hasattr(folded, name)
    # The steps before the model are as they were.
    assert type(folded[:-1]) is kind
    assert_array_equal(folded[:-1].transform(X), pipe[0].transform(X))
    with unchanged(folded):
        copied = clone(folded).fit(X, Y > 0)
    assert type(copied) is kind


def test_a_folded_model_in_a_streaming_pipeline():
    bn, model = pair(SGDClassifier(), Y > 0)
    folded = fold(bn, model)
    stream = StreamingPipeline([("model", folded)])
    assert not hasattr(stream, "partial_fit")
    frozen = StreamingPipeline([("model", FrozenEstimator(folded))])
    frozen.partial_fit(X, Y > 0)
    assert_array_equal(frozen.predict(X), folded.predict(X))


# FrozenEstimator, searches, and linear models that have no coefficients of their own


def test_frozen_on_either_side():
    bn, model = pair()
    expected = fold(bn, model).predict(X)
    for left, right in (
        (FrozenEstimator(bn), model),
        (bn, FrozenEstimator(model)),
        (FrozenEstimator(FrozenEstimator(bn)), FrozenEstimator(model)),
    ):
        folded = fold(left, right)
        assert isinstance(folded, Ridge)
        assert_array_equal(folded.predict(X), expected)
        pipe = StreamingPipeline([("bn", left), ("model", right)]).fit(X, Y)
        assert_array_equal(fold(pipe).predict(X), expected)
        assert_array_equal(fold(FrozenEstimator(pipe)).predict(X), expected)


def test_frozen_steps_stay_frozen():
    scaler = FrozenEstimator(StandardScaler().fit(X))
    bn, model = pair(data=scaler.transform(X))
    pipe = make_pipeline(scaler, FrozenEstimator(bn), model)
    folded = fold(pipe)
    assert_allclose(folded.predict(X), pipe.predict(X), rtol=1e-12)
    assert isinstance(folded[0], FrozenEstimator)


@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
def test_a_search_names_its_best_estimator(search):
    arguments = {"n_iter": 1} if search is RandomizedSearchCV else {}
    bn, _ = pair()
    found = search(Ridge(), {"alpha": [1.0]}, **arguments).fit(bn.transform(X), Y)
    pipe = make_pipeline(BatchNorm1dTransformer(), Ridge())
    of_pipe = search(pipe, {"ridge__alpha": [1.0]}, **arguments).fit(X, Y)
    for arguments in ((bn, found), (make_pipeline(bn, found),), (of_pipe,)):
        with pytest.raises(TypeError, match=r"Fold its best_estimator_\."):
            fold(*arguments)
    fold(bn, found.best_estimator_)
    fold(of_pipe.best_estimator_)


@pytest.mark.parametrize(
    ("model", "sibling"),
    [
        (SVC(kernel="linear"), "LinearSVC"),
        (NuSVC(), "LinearSVC"),
        (SVR(), "LinearSVR"),
        (NuSVR(kernel="linear"), "LinearSVR"),
    ],
)
def test_a_support_vector_machine_names_the_linear_one(model, sibling):
    bn, model = pair(model, Y if isinstance(model, SVR | NuSVR) else Y > 0)
    with pytest.raises(TypeError, match=f"Train a {sibling}, which can be"):
        fold(bn, model)
