"""scikit-learn's own checks, and its tools around the transformer."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.functional import batch_norm

from .laws import run_check

CONFIGURATIONS = [
    BatchNorm1dTransformer(),
    BatchNorm1dTransformer(3, n_jobs=2, copy=False),
    BatchNorm1dTransformer(
        eps=0, momentum=None, affine=False, variance="total", batch_size=None
    ),
    BatchNorm1dTransformer(
        track_running_stats=False, weight_init=-2.0, bias_init=0.5, clip=3.0
    ),
    BatchNorm1dTransformer(with_mean=False, bias=False, handle_missing="mean"),
    BatchNorm1dTransformer(bias_correction=True, batch_size=2),
    BatchNorm1dTransformer(halflife=100, clip=0.5),
]

# Checks whose data have other than 3 features, or several numbers of them.
CHECKS_OF_OTHER_WIDTH = [
    "check_all_zero_sample_weights_error",
    "check_array_api_input",
    "check_array_api_mixed_inputs",
    "check_array_api_same_namespace",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weights_not_an_array",
    "check_sample_weights_not_overwritten",
    "check_sample_weights_pandas_series",
    "check_sample_weights_shape",
]


def expected_failed_checks(bn):
    failed = {}
    if bn.num_features is not None:
        reason = "the check's X does not have num_features features"
        failed |= dict.fromkeys(CHECKS_OF_OTHER_WIDTH, reason)
    if not bn.track_running_stats:
        failed["check_methods_subset_invariance"] = (
            "without running statistics each X is normalised by its own"
        )
        reason = "without running statistics there is nothing to invert with"
        failed["check_array_api_input"] = reason
        failed["check_array_api_mixed_inputs"] = reason
    if bn.batch_size == 2:
        failed["check_sample_weight_equivalence_on_dense_data"] = (
            "repeated rows fill other mini-batches than weighted rows do"
        )
    if bn.halflife == 100:
        failed["check_sample_weight_equivalence_on_dense_data"] = (
            "a weight does not move the clock, repeated rows do"
        )
    if bn.with_mean:
        failed["check_sample_weight_equivalence_on_sparse_data"] = (
            "scikit-learn 1.6 runs it whatever the sparse tag says (its issue 30139)"
        )
    if not bn.copy:
        failed["check_methods_sample_order_invariance"] = (
            "the check transforms X, then X again: copy=False has changed it"
        )
    return failed


@parametrize_with_checks(CONFIGURATIONS)
@pytest.mark.filterwarnings("default")  # the checks bring warnings of their own
def test_check_estimator(estimator, check):
    run_check(estimator, check, expected_failed_checks(estimator))


def test_every_parameter_is_checked():
    defaults = BatchNorm1dTransformer().get_params()
    changed = {
        name
        for bn in CONFIGURATIONS
        for name, value in bn.get_params().items()
        if value != defaults[name]
    }
    assert changed == set(defaults)


X_IRIS, Y_IRIS = load_iris(return_X_y=True, as_frame=True)


def test_pipeline_learns_and_pickles():
    pipe = make_pipeline(BatchNorm1dTransformer(), LogisticRegression())
    pipe.fit(X_IRIS, Y_IRIS)
    assert pipe.score(X_IRIS, Y_IRIS) > 0.9
    again = pickle.loads(pickle.dumps(pipe))
    assert_array_equal(again.predict_proba(X_IRIS), pipe.predict_proba(X_IRIS))
    assert cross_val_score(clone(pipe), X_IRIS, Y_IRIS).mean() > 0.9


def test_pipeline_inverse_transform_without_warning():
    pipe = Pipeline([("a", BatchNorm1dTransformer()), ("b", BatchNorm1dTransformer())])
    pipe.fit(X_IRIS)
    back = pipe.inverse_transform(pipe.transform(X_IRIS))
    assert_allclose(back, X_IRIS, rtol=1e-12)


def test_grid_search_in_parallel():
    """By threads; of processes are ``check_estimators_pickle``, test_persistence.py."""
    model = LogisticRegression(max_iter=500)
    pipe = Pipeline([("bn", BatchNorm1dTransformer()), ("clf", model)])
    grid = {"bn__momentum": [0.01, None], "bn__affine": [True, False]}
    with parallel_config("threading", n_jobs=2):
        search = GridSearchCV(pipe, grid, cv=3).fit(X_IRIS, Y_IRIS)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 0.9


def test_column_transformer_and_feature_union():
    columns = ColumnTransformer(
        [("bn", BatchNorm1dTransformer(), ["sepal length (cm)"])],
        remainder="passthrough",
    ).set_output(transform="pandas")
    out = columns.fit_transform(X_IRIS)
    assert out.columns[0] == "bn__sepal length (cm)"
    assert_array_equal(out.iloc[:, 1:], X_IRIS.iloc[:, 1:])
    union = FeatureUnion(
        [
            ("fast", BatchNorm1dTransformer(momentum=0.5)),
            ("slow", BatchNorm1dTransformer(momentum=0.01)),
        ]
    )
    assert union.fit_transform(X_IRIS).shape == (150, 8)
    assert union.get_feature_names_out()[4] == "slow__sepal length (cm)"


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_transformed_target_regressor(weight):
    X, y = load_diabetes(return_X_y=True)
    bn = BatchNorm1dTransformer(weight_init=weight, bias_init=-1.0)
    model = TransformedTargetRegressor(Ridge(alpha=1e-12), transformer=bn).fit(X, y)
    plain = Ridge(alpha=1e-12).fit(X, y)
    assert_allclose(model.predict(X), plain.predict(X), rtol=1e-6)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_keeps_names_and_index(library):
    frame = X_IRIS.iloc[::-1]
    if library == "polars":
        frame = pl.DataFrame({name: frame[name].to_numpy() for name in frame})
    bn = BatchNorm1dTransformer().set_output(transform=library)
    out = bn.fit_transform(frame)
    assert isinstance(out, pd.DataFrame if library == "pandas" else pl.DataFrame)
    assert list(out.columns) == list(X_IRIS.columns) == list(bn.get_feature_names_out())
    if library == "pandas":
        assert_array_equal(out.index, frame.index)
    plain = clone(bn).set_output(transform="default").fit_transform(frame)
    assert_array_equal(np.asarray(out), plain)
    assert_array_equal(bn.partial_fit(frame).feature_names_in_, X_IRIS.columns)


def test_sample_weight_is_routed_through_a_pipeline():
    weight = np.random.default_rng(0).integers(0, 3, 150)
    bn = BatchNorm1dTransformer(batch_size=None)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(
            clone(bn).set_fit_request(sample_weight=True),
            LogisticRegression().set_fit_request(sample_weight=False),
        ).fit(X_IRIS, Y_IRIS, sample_weight=weight)
        unrouted = make_pipeline(clone(bn), LogisticRegression())
        with pytest.raises(ValueError, match=r"sample_weight.*not explicitly set"):
            unrouted.fit(X_IRIS, Y_IRIS, sample_weight=weight)
    expected = clone(bn).fit(X_IRIS, sample_weight=weight)
    assert_array_equal(pipe[0].running_var_, expected.running_var_)
    request = bn.get_metadata_routing()
    assert set(request.fit.requests) == {"sample_weight", "times"}
    assert set(request.partial_fit.requests) == {"sample_weight", "times"}
    # As StandardScaler has it, and scikit-learn's error advises.
    assert set(request.transform.requests) == {"copy"}
    assert set(request.inverse_transform.requests) == {"copy"}
    assert hasattr(bn, "set_transform_request")


def test_streaming_loop_beside_a_classifier():
    bn = BatchNorm1dTransformer(bias_correction=True)
    clf = SGDClassifier(random_state=0)
    order = np.random.default_rng(0).permutation(150)
    for rows in np.array_split(np.tile(order, 5), 30):
        X, y = X_IRIS.iloc[rows], Y_IRIS.iloc[rows]
        clf.partial_fit(bn.partial_fit(X).transform(X), y, classes=[0, 1, 2])
    assert clf.score(bn.transform(X_IRIS), Y_IRIS) > 0.85


def test_the_html_diagram():
    for bn in (BatchNorm1dTransformer(), BatchNorm1dTransformer().fit(X_IRIS)):
        assert "BatchNorm1dTransformer" in bn._repr_html_()


def test_an_invalid_parameter_may_pass():
    bn = BatchNorm1dTransformer(copy="yes")
    with sklearn.config_context(skip_parameter_validation=True):
        assert bn.fit(X_IRIS).n_features_in_ == 4
        batch_norm(X_IRIS, np.zeros(4), np.ones(4), momentum=2.0)
