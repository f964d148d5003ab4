"""Each mini-batch is predicted, then learned, by a copy: equal to the loop by hand."""

import pickle
from copy import deepcopy

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.metrics import (
    accuracy_score,
    get_scorer,
    make_scorer,
    mean_absolute_error,
    roc_auc_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    TimeSeriesSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm.model_selection import make_prequential_scorer, prequential_predict
from sk_batchnorm.pipeline import make_streaming_pipeline

from .laws import unchanged
from .nests import with_routing

rng = np.random.default_rng(0)
N = 120
DRIFT = rng.normal(scale=0.3, size=(N, 2)).cumsum(axis=0)
X = rng.normal(loc=DRIFT)
Y = np.subtract(*(X - DRIFT).T) > 0
TRAIN, TEST = slice(40), slice(40, N)
SCORES = ["accuracy", "f1", "roc_auc", "average_precision", "neg_log_loss"]
STEP = "batchnorm1dtransformer__"


def batch_norm(**parameters):
    return BatchNorm1dTransformer(variance="total", batch_size=10, **parameters)


def sgd(model=SGDClassifier, **parameters):
    return model(random_state=0, **parameters)


def stream(model=None, **parameters):
    return make_streaming_pipeline(batch_norm(**parameters), model or sgd())


MODELS = {
    "bayes": GaussianNB,
    "log loss": lambda: sgd(loss="log_loss"),
    "random state": lambda: SGDClassifier(
        loss="log_loss", random_state=np.random.RandomState(7)
    ),
    "momentum": lambda: stream(sgd(loss="log_loss"), momentum=0.3),
    "half-life": lambda: stream(GaussianNB(), halflife=7),
}


def by_hand(model, X, y, batch_size, method="predict", **params):
    """The loop of the docs, over arrays."""
    model, predictions = deepcopy(model), []
    for start in range(0, X.shape[0], batch_size):
        rows = slice(start, start + batch_size)
        predictions.append(getattr(model, method)(X[rows]))
        metadata = {name: value[rows] for name, value in params.items()}
        model.partial_fit(X[rows], y[rows], **metadata)
    return np.concatenate(predictions)


def classifier_of(predictions):
    """A classifier that has predicted already, by each of its methods."""

    class Done(ClassifierMixin, BaseEstimator):
        classes_ = np.array([False, True])

    for method, values in predictions.items():

        def predict(self, X, values=values):
            return values

        predict.__name__ = method
        setattr(Done, method, predict)
    return Done()


def fit(model, X=X, y=Y, **params):
    return model.fit(X[TRAIN], y[TRAIN], **params)


def searched(model, grid, scoring, **options):
    options = {"cv": TimeSeriesSplit(3), "error_score": "raise"} | options
    return GridSearchCV(model, grid, scoring=scoring, **options)


# The laws


@given(
    st.sampled_from(sorted(MODELS)),
    st.integers(1, 100),
    st.integers(1, 80),
    st.sampled_from(["predict", "predict_proba", "predict_log_proba"]),
)
def test_predictions_are_those_of_the_loop_by_hand(name, batch_size, n, method):
    model, test = fit(MODELS[name]()), slice(40, 40 + n)
    with np.errstate(all="ignore"):  # of scikit-learn: the logarithm of 0
        with unchanged(model):
            result = prequential_predict(
                model, X[test], Y[test], batch_size=batch_size, method=method
            )
        expected = by_hand(model, X[test], Y[test], batch_size, method)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == expected.dtype


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 100), st.sampled_from(SCORES))
def test_score_is_that_of_the_loop_by_hand(name, batch_size, scoring):
    model = fit(MODELS[name]())
    done = {
        method: by_hand(model, X[TEST], Y[TEST], batch_size, method)
        for method in ("predict", "predict_proba", "decision_function")
        if hasattr(model, method)
    }
    expected = get_scorer(scoring)(classifier_of(done), X[TEST], Y[TEST])
    scorer = make_prequential_scorer(scoring, batch_size=batch_size)
    with unchanged(model):
        assert scorer(model, X[TEST], Y[TEST]) == expected


@pytest.mark.parametrize("scoring", SCORES)
def test_score_in_one_mini_batch_is_the_plain_score(scoring):
    model = fit(MODELS["momentum"]())
    plain = get_scorer(scoring)(model, X[TEST], Y[TEST])
    for batch_size, is_plain in [(80, True), (1000, True), (8, False)]:
        scorer = make_prequential_scorer(scoring, batch_size=batch_size)
        assert (scorer(model, X[TEST], Y[TEST]) == plain) == is_plain


@pytest.mark.parametrize("model", [sgd, GaussianNB, lambda: sgd(SGDRegressor)])
def test_default_score_is_that_of_the_estimator(model):
    y = Y.astype(float)
    model = fit(model(), y=y)
    scorer = make_prequential_scorer(batch_size=80)
    assert scorer(model, X[TEST], y[TEST]) == model.score(X[TEST], y[TEST])


# A search finds what frozen statistics can't show


@pytest.mark.parametrize(
    ("name", "slow_to_fast"),
    [("momentum", [0.001, 0.1, 1.0]), ("halflife", [1000, 100, 5])],
)
def test_a_search_forgets_fast_where_a_stream_drifts(name, slow_to_fast):
    rng = np.random.default_rng(0)
    drift = rng.normal(scale=0.2, size=(2000, 2)).cumsum(axis=0)
    X = rng.normal(loc=drift)
    y = np.subtract(*(X - drift).T) > 0
    grid = {STEP + name: slow_to_fast}
    scorer = make_prequential_scorer("accuracy", batch_size=10)
    search = searched(stream(), grid, scorer, cv=TimeSeriesSplit()).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert search.best_index_ == 2
    assert scores[2] > scores[1] > scores[0] + 0.02
    assert scores[2] > 0.8
    frozen = make_pipeline(batch_norm(), LogisticRegression())
    search = searched(frozen, grid, "accuracy", cv=TimeSeriesSplit()).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert max(scores) - min(scores) < 0.005
    assert max(scores) < 0.65


# Kinds of X and y

KINDS = {
    "list": np.ndarray.tolist,
    "Fortran": np.asfortranarray,
    "csr": sp.csr_array,
    "coo": sp.coo_matrix,
    "pandas": lambda X: pd.DataFrame(X, columns=["a", "b"], index=range(7, 7 + len(X))),
    "polars": lambda X: pl.DataFrame(X, schema=["a", "b"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_x_gives_the_predictions_of_arrays(kind):
    model = make_streaming_pipeline(
        BatchNorm1dTransformer(halflife=20, with_mean=False), sgd()
    )
    as_kind = KINDS[kind]
    model.fit(as_kind(X[TRAIN]) if "p" in kind else X[TRAIN], Y[TRAIN])  # with names
    arrays = fit(clone(model))
    # SGD has another learning rate for the intercept of sparse data.
    like = sp.csr_array(X[TEST]) if kind in ("csr", "coo") else X[TEST]
    expected = by_hand(arrays, like, Y[TEST], 7)
    result = prequential_predict(model, as_kind(X[TEST]), Y[TEST], batch_size=7)
    np.testing.assert_array_equal(result, expected)


def test_three_dimensions_are_cut_by_samples():
    class Flat(SGDClassifier):
        def fit(self, X, y):
            return super().fit(X.mean(axis=2), y)

        def partial_fit(self, X, y):
            return super().partial_fit(X.mean(axis=2), y)

        def predict(self, X):
            return super().predict(X.mean(axis=2))

    signals = np.repeat(X[:, :, None], 5, axis=2)
    model = make_streaming_pipeline(
        BatchNorm1dTransformer(halflife=50), Flat(random_state=0)
    ).fit(signals[TRAIN], Y[TRAIN])
    expected = by_hand(model, signals[TEST], Y[TEST], 9)
    result = prequential_predict(model, signals[TEST], Y[TEST], batch_size=9)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "as_kind",
    [
        np.ndarray.tolist,
        lambda y: pl.Series(y.tolist()),
        lambda y: pd.Series(y, index=np.linspace(0, 1, len(y))),  # not by its labels
    ],
)
def test_classes_may_be_strings_and_y_of_any_kind(as_kind):
    y = np.where(Y, "warm", "cold")
    model = fit(stream(), y=y)
    result = prequential_predict(model, X[TEST], as_kind(y[TEST]), batch_size=8)
    np.testing.assert_array_equal(result, by_hand(model, X[TEST], y[TEST], 8))
    scorer = make_prequential_scorer("accuracy", batch_size=8)
    assert scorer(model, X[TEST], y[TEST]) == np.mean(result == y[TEST])


def test_several_outputs():
    y = np.column_stack([Y, X[:, 0] > DRIFT[:, 0]])
    model = fit(MultiOutputRegressor(sgd(SGDRegressor)), y=y.astype(float))
    result = prequential_predict(model, X[TEST], y[TEST], batch_size=8)
    np.testing.assert_array_equal(result, by_hand(model, X[TEST], y[TEST], 8))
    model = fit(MultiOutputClassifier(GaussianNB()), y=y)
    both = prequential_predict(
        model, X[TEST], y[TEST], batch_size=8, method="predict_proba"
    )
    for proba, target in zip(both, y.T, strict=True):
        expected = by_hand(
            fit(GaussianNB(), y=target), X[TEST], target[TEST], 8, "predict_proba"
        )
        np.testing.assert_array_equal(proba, expected)


def test_clusters_need_no_targets():
    model = fit(MiniBatchKMeans(3, random_state=0, n_init=1))
    result = prequential_predict(model, X[TEST], None, batch_size=20)
    learner, expected = deepcopy(model), []
    for start in range(40, N, 20):
        batch = X[start : start + 20]
        expected.extend(learner.predict(batch))
        learner.partial_fit(batch)
    np.testing.assert_array_equal(result, expected)

    def share_of_first(estimator, X):
        return np.mean(estimator.predict(X) == 0)

    scorer = make_prequential_scorer(share_of_first, batch_size=20)
    assert scorer(model, X[TEST]) == np.mean(np.equal(expected, 0))


def test_the_last_mini_batch_is_not_learned():
    model = fit(make_streaming_pipeline(BatchNorm1dTransformer(), sgd()))
    with pytest.raises(ValueError, match="more than 1 sample"):
        deepcopy(model).partial_fit(X[-1:], Y[-1:])
    result = prequential_predict(model, X[TEST][:41], Y[TEST][:41], batch_size=40)
    assert result.shape == (41,)


# Scorers


def test_functions_see_prequential_predictions():
    model = fit(sgd(loss="log_loss"))
    proba = by_hand(model, X[TEST], Y[TEST], 8, "predict_proba")[:, 1]
    expected = roc_auc_score(Y[TEST], proba)
    metric = make_scorer(roc_auc_score, response_method="predict_proba")

    def function(estimator, X, y):
        assert estimator.classes_.tolist() == [False, True]
        assert not hasattr(estimator, "score")
        return metric(estimator, X, y)

    for scoring in (metric, function):
        scorer = make_prequential_scorer(scoring, batch_size=8)
        assert scorer(model, X[TEST], Y[TEST]) == expected
    loss = make_scorer(mean_absolute_error, greater_is_better=False)
    scorer = make_prequential_scorer(loss, batch_size=8)
    wrong = by_hand(model, X[TEST], Y[TEST], 8) != Y[TEST]
    assert scorer(model, X[TEST], Y[TEST]) == -np.mean(wrong)


def test_a_function_scores_all_rows_and_predictions():
    model = fit(sgd())

    def of_some(estimator, X, y):
        return estimator.predict(X[:10]).mean()

    def frozen(estimator, X, y):
        return estimator.score(X, y)

    scorer = make_prequential_scorer(of_some, batch_size=8)
    with pytest.raises(ValueError, match="predictions of all test rows"):
        scorer(model, X[TEST], Y[TEST])
    scorer = make_prequential_scorer(frozen, batch_size=8)
    with pytest.raises(AttributeError, match="has no 'score'"):
        scorer(model, X[TEST], Y[TEST])


def pickled(scorer):
    return pickle.loads(pickle.dumps(scorer))


@pytest.mark.parametrize("copy_of", [clone, deepcopy, pickled])
def test_scorer_can_be_copied(copy_of):
    scorer = make_prequential_scorer("roc_auc", batch_size=8)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer.set_score_request(times="t")
    copied = copy_of(searched(stream(), {}, scorer)).scoring
    model = fit(stream())
    assert copied(model, X[TEST], Y[TEST]) == scorer(model, X[TEST], Y[TEST])
    requests = copied.get_metadata_routing().score.requests
    assert requests == {"sample_weight": None, "times": "t"}
    assert requests == scorer.get_metadata_routing().score.requests


def test_repr_is_the_call():
    scorer = make_prequential_scorer("roc_auc", batch_size=8)
    assert repr(scorer) == "make_prequential_scorer('roc_auc', batch_size=8)"
    scorer = make_prequential_scorer(make_scorer(accuracy_score), batch_size=1)
    assert repr(scorer).startswith("make_prequential_scorer(make_scorer(accuracy_sc")


# Searches


@pytest.mark.parametrize("kind", [GridSearchCV, RandomizedSearchCV])
def test_search_scores_each_fold_as_the_scorer_does(kind):
    grid = {STEP + "halflife": [2, 50]}
    options = {"n_iter": 2, "random_state": 0} if kind is RandomizedSearchCV else {}
    cv, scorer = TimeSeriesSplit(3), make_prequential_scorer("roc_auc", batch_size=6)
    search = kind(stream(), grid, scoring=scorer, cv=cv, **options)
    results = search.fit(X, Y).cv_results_
    for i, (train, test) in enumerate(cv.split(X)):
        for j, parameters in enumerate(results["params"]):
            model = clone(stream()).set_params(**parameters).fit(X[train], Y[train])
            expected = scorer(model, X[test], Y[test])
            assert results[f"split{i}_test_score"][j] == expected
    assert search.score(X, Y) == scorer(search.best_estimator_, X, Y)


def test_cross_validation_and_several_metrics():
    accuracy = make_prequential_scorer(batch_size=6)
    auc = make_prequential_scorer("roc_auc", batch_size=6)
    cv, both = TimeSeriesSplit(3), {"accuracy": accuracy, "auc": auc, "frozen": "f1"}
    scores = cross_validate(stream(), X, Y, cv=cv, scoring=both)
    for name in both:
        expected = cross_val_score(stream(), X, Y, cv=cv, scoring=both[name])
        np.testing.assert_array_equal(scores[f"test_{name}"], expected)
    search = searched(stream(), {STEP + "momentum": [0.1, 1]}, both, refit="auc")
    assert search.fit(X, Y).cv_results_["mean_test_auc"].shape == (2,)


def test_error_score_of_a_search():
    bad = X.copy()
    bad[-1] = np.inf
    scorer = make_prequential_scorer(batch_size=6)
    with pytest.raises(ValueError, match="infinity") as caught:
        searched(stream(), {}, scorer, refit=False).fit(bad, Y)
    assert "rows 24 to 29 of a prequential" in "".join(caught.value.__notes__)
    search = searched(stream(), {}, scorer, refit=False, error_score=-1.0)
    with pytest.warns(UserWarning, match="Scoring failed"):
        search.fit(bad, Y)
    assert search.cv_results_["split2_test_score"] == [-1]
    assert search.cv_results_["split1_test_score"] > 0


# Metadata

W = rng.uniform(0.1, 5, size=N)
TIMES = np.sort(rng.uniform(0, 100, size=N))


def test_metadata_are_cut_with_the_rows():
    model = fit(stream(halflife=5.0), batchnorm1dtransformer__times=TIMES[TRAIN])
    metadata = {"times": TIMES[TEST], "sample_weight": W[TEST]}
    with unchanged(model):
        result = prequential_predict(model, X[TEST], Y[TEST], batch_size=9, **metadata)
    expected = by_hand(model, X[TEST], Y[TEST], 9, **metadata)
    np.testing.assert_array_equal(result, expected)
    whole = prequential_predict(
        model, X[TEST], Y[TEST], batch_size=9, classes=[False, True], **metadata
    )
    np.testing.assert_array_equal(whole, expected)
    scorer = make_prequential_scorer("accuracy", batch_size=9)
    score = scorer(model, X[TEST], Y[TEST], **metadata)
    assert score == accuracy_score(Y[TEST], expected, sample_weight=W[TEST])
    with pytest.raises(ValueError, match="times"):  # not passed
        scorer(model, X[TEST], Y[TEST])


def test_weights_reach_a_metric_only_if_it_takes_them():
    def share(y, y_pred):
        return np.mean(y == y_pred)

    def function(estimator, X, y):
        return share(y, estimator.predict(X))

    model = fit(sgd())
    expected = by_hand(model, X[TEST], Y[TEST], 9, sample_weight=W[TEST])
    assert (expected != by_hand(model, X[TEST], Y[TEST], 9)).any()
    for scoring in (make_scorer(share), function):
        scorer = make_prequential_scorer(scoring, batch_size=9)
        score = scorer(model, X[TEST], Y[TEST], sample_weight=W[TEST])
        assert score == share(Y[TEST], expected)


def timed_stream(weigh_model):
    """With times for the transformer, and weights for the model, in fit and later."""
    requests = {"sample_weight": False, "times": True}
    bn = batch_norm(halflife=5.0).set_fit_request(**requests)
    model = sgd().set_fit_request(sample_weight=weigh_model)
    return make_streaming_pipeline(
        bn.set_partial_fit_request(**requests),
        model.set_partial_fit_request(sample_weight=weigh_model, classes=False),
    )


@with_routing
@pytest.mark.parametrize("weigh_model", [True, False])
@pytest.mark.parametrize("weigh_metric", [True, False])
def test_search_routes_metadata(weigh_model, weigh_metric):
    pipe, cv = timed_stream(weigh_model), TimeSeriesSplit(3)
    scorer = make_prequential_scorer("accuracy", batch_size=9)
    scorer.set_score_request(times="at", sample_weight=weigh_model or weigh_metric)
    pipe[0].set_fit_request(times="at")
    search = searched(pipe, {STEP + "halflife": [5.0]}, scorer, cv=cv)
    if not (weigh_model or weigh_metric):
        search.fit(X, Y, at=TIMES)
    else:
        search.fit(X, Y, at=TIMES, sample_weight=W)
    scores = [search.cv_results_[f"split{i}_test_score"][0] for i in range(3)]
    of_model = {"sample_weight": W} if weigh_model else {}
    for score, (train, test) in zip(scores, cv.split(X), strict=True):
        weights = {name: value[train] for name, value in of_model.items()}
        model = clone(pipe).fit(X[train], Y[train], at=TIMES[train], **weights)
        weights = {name: value[test] for name, value in of_model.items()}
        predicted = by_hand(model, X[test], Y[test], 9, times=TIMES[test], **weights)
        weight = W[test] if weigh_model or weigh_metric else None
        assert score == accuracy_score(Y[test], predicted, sample_weight=weight)


@with_routing
def test_search_asks_for_a_request_of_times():
    scorer = make_prequential_scorer("accuracy", batch_size=9)
    search = searched(timed_stream(True), {}, scorer)
    with pytest.raises(UnsetMetadataPassedError, match="make_prequential_scorer"):
        search.fit(X, Y, times=TIMES)
    scorer.set_score_request(times=True)
    assert search.fit(X, Y, times=TIMES).best_score_ > 0.5


@with_routing
def test_an_estimator_requests_what_the_scorer_passes():
    model = fit(stream(halflife=5.0))
    scorer = make_prequential_scorer(batch_size=9).set_score_request(times=True)
    with pytest.raises(UnsetMetadataPassedError, match="partial_fit"):
        scorer(model, X[TEST], Y[TEST], times=TIMES[TEST])
    with pytest.raises(TypeError, match="days"):
        scorer(model, X[TEST], Y[TEST], days=TIMES[TEST])


def test_weights_of_a_search_reach_the_scorer():
    model, scorer = sgd(), make_prequential_scorer("accuracy", batch_size=9)
    both = {"a": scorer, "b": "accuracy"}
    search = searched(model, {}, scorer).fit(X, Y, sample_weight=W)
    several = searched(model, {}, both, refit="a").fit(X, Y, sample_weight=W)
    assert several.best_score_ == search.best_score_
    if hasattr(get_scorer("accuracy"), "_accept_sample_weight"):
        # Before that, weights did not reach any scorer.
        train, test = next(iter(TimeSeriesSplit(3).split(X)))
        model.fit(X[train], Y[train], sample_weight=W[train])
        expected = scorer(model, X[test], Y[test], sample_weight=W[test])
        assert search.cv_results_["split0_test_score"] == [expected]


# Errors


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "10", None])
def test_batch_size_is_a_positive_integer(batch_size):
    invalid = pytest.raises(InvalidParameterError, match="'batch_size' parameter")
    with invalid:
        prequential_predict(fit(sgd()), X, Y, batch_size=batch_size)
    with invalid:
        make_prequential_scorer(batch_size=batch_size)


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("transform", InvalidParameterError, "'method' parameter"),
        ("predict_proba", AttributeError, "predict_proba"),
    ],
)
def test_methods_are_checked_at_once(method, error, message):
    with pytest.raises(error, match=message):
        prequential_predict(fit(sgd()), X, Y, batch_size=8, method=method)


@pytest.mark.parametrize(
    ("scoring", "error", "message"),
    [
        (["accuracy"], InvalidParameterError, "'scoring' parameter"),
        ("acuracy", ValueError, "valid scoring"),
        (accuracy_score, ValueError, "make_scorer"),
    ],
)
def test_scoring_is_checked_at_once(scoring, error, message):
    with pytest.raises(error, match=message):
        make_prequential_scorer(scoring, batch_size=8)


def test_scorers_need_what_they_score_by():
    scorer = make_prequential_scorer("neg_log_loss", batch_size=8)
    with pytest.raises(AttributeError, match="predict_proba"):
        scorer(fit(sgd()), X[TEST], Y[TEST])
    scorer = make_prequential_scorer(batch_size=8)
    with pytest.raises(ValueError, match="MiniBatchKMeans is neither"):
        scorer(fit(MiniBatchKMeans(2, n_init=1)), X[TEST], Y[TEST])
    with pytest.raises(RuntimeError, match="enable_metadata_routing=True"):
        scorer.set_score_request(times=True)


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        (LogisticRegression(), "LogisticRegression has no partial_fit"),
        (make_pipeline(StandardScaler(), sgd()), "make it a StreamingPipeline"),
        (stream(LogisticRegression()), "part 'logisticregression'"),
    ],
    ids=["model", "Pipeline", "StreamingPipeline"],
)
def test_without_partial_fit(model, advice):
    fit(model)
    with pytest.raises(AttributeError, match=advice):
        prequential_predict(model, X[TEST], Y[TEST], batch_size=8)
    with pytest.raises(AttributeError, match=advice):
        make_prequential_scorer(batch_size=8)(model, X[TEST], Y[TEST])


def test_not_fitted_no_rows_and_other_lengths():
    with pytest.raises(NotFittedError) as caught:
        prequential_predict(stream(), X, Y, batch_size=8)
    assert not hasattr(caught.value, "__notes__")  # no mini-batch is to blame
    model = fit(stream())
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        prequential_predict(model, X, Y[1:], batch_size=8)
    with pytest.raises(ValueError, match="no rows"):
        prequential_predict(model, X[:0], Y[:0], batch_size=8)
    with pytest.raises(ValueError, match="no rows"):
        prequential_predict(model, [], [], batch_size=8)


@pytest.mark.parametrize("row", [0, 23, 79])
def test_an_error_names_the_mini_batch(row):
    model, bad = fit(stream()), X[TEST].copy()
    bad[row] = np.inf
    first = row // 8 * 8
    infinite = pytest.raises(ValueError, match="infinity")
    with unchanged(model), infinite as caught:
        prequential_predict(model, bad, Y[TEST], batch_size=8)
    assert f"rows {first} to {first + 7} of" in caught.value.__notes__[-1]


def test_targets_that_can_not_be_learned_are_named():
    model, y = fit(stream()), Y[TEST].astype(object)
    y[12] = "?"
    with unchanged(model), pytest.raises((ValueError, TypeError)) as caught:
        prequential_predict(model, X[TEST], y, batch_size=8)
    assert "rows 8 to 15 of" in caught.value.__notes__[-1]
