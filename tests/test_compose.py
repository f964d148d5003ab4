"""A table, a transformed target and FitOnce learn what their parts learn by hand.

What all compositions have in common is in test_streaming.py.
"""

import pickle
import re
from contextlib import nullcontext

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier
from sklearn.cluster import KMeans
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
)
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import LogisticRegression, Ridge, SGDRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    StandardScaler,
)
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm.compose import (
    FitOnce,
    StreamingColumnTransformer,
    StreamingTransformedTargetRegressor,
)
from sk_batchnorm.pipeline import StreamingFeatureUnion, StreamingPipeline

from .laws import bits, unchanged
from .nests import attributes, minibatch, with_routing

W = np.random.default_rng(0).integers(1, 4, 20).astype(float)


def flights(seed=0, n_samples=20):
    """A table with numbers and words."""
    X, _ = minibatch(seed, n_samples)
    origin = np.random.default_rng(seed).choice(["EWR", "JFK", "LGA"], n_samples)
    return pd.DataFrame(X, columns=list("abcd")).assign(origin=origin)


def table_of_flights(**params):
    return StreamingColumnTransformer(
        [
            ("num", BatchNorm1dTransformer(), ["a", "b"]),
            ("cat", FitOnce(OneHotEncoder(handle_unknown="ignore")), ["origin"]),
        ],
        **params,
    )


# StreamingColumnTransformer


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (["b", "a"], ["b", "a"]),
        ([1, 0], ["b", "a"]),
        (slice("a", "c"), ["a", "b", "c"]),
        (slice(1, 3), ["b", "c"]),
        ([True, False, True, False, False], ["a", "c"]),
        (np.array([True, False, True, False, False]), ["a", "c"]),
        (make_column_selector(dtype_include=float), ["a", "b", "c", "d"]),
        (lambda X: [name for name in X if name < "c"], ["a", "b"]),
    ],
)
@pytest.mark.parametrize(
    "remainder",
    [
        "drop",
        "passthrough",
        FitOnce(OneHotEncoder(sparse_output=False, handle_unknown="ignore")),
    ],
)
def test_parts_learn_from_their_columns_by_hand(columns, chosen, remainder):
    table = StreamingColumnTransformer(
        [("num", BatchNorm1dTransformer(), columns), ("out", "drop", ["d"])],
        remainder=remainder,
    )
    num, rest = BatchNorm1dTransformer(), clone(remainder, safe=False)
    for seed in range(3):
        X = flights(seed)
        assert table.partial_fit(X) is table
        num.partial_fit(X[chosen])
        others = X.drop(columns={*chosen, "d"})
        if not isinstance(rest, str):
            rest.partial_fit(others)
        assert attributes(table["num"]) == attributes(num)
    if not isinstance(rest, str):
        assert attributes(table["remainder"]) == attributes(rest)
    Z = num.transform(X[chosen])
    if remainder == "drop":
        assert_array_equal(table.transform(X), Z)
    else:
        rest = others if remainder == "passthrough" else rest.transform(others)
        assert_array_equal(table.transform(X), np.hstack([Z, rest]))


def test_the_first_mini_batch_fits_by_its_targets():
    X, y = minibatch(0)
    select = FitOnce(SelectKBest(f_regression, k=1))
    table = StreamingColumnTransformer([("select", select, [0, 1, 2])])
    table.partial_fit(X, y)
    by_hand = SelectKBest(f_regression, k=1).fit(X[:, [0, 1, 2]], y)
    assert_array_equal(table["select"].scores_, by_hand.scores_)


def test_the_first_mini_batch_settles_columns():
    table = StreamingColumnTransformer(
        [("num", StandardScaler(), make_column_selector(dtype_include=float))]
    )
    table.partial_fit(flights(0)).partial_fit(flights(1).assign(a=1, extra=1.0))
    assert_array_equal(table["num"].feature_names_in_, list("abcd"))
    assert table["num"].n_samples_seen_ == 40


def test_the_first_mini_batch_settles_categories():
    table = table_of_flights().partial_fit(flights().replace("EWR", "JFK"))
    with unchanged(table["cat"]):
        table.partial_fit(flights())
    assert [*table["cat"].categories_[0]] == ["JFK", "LGA"]
    assert table["num"].num_batches_tracked_ == 2
    strict = StreamingColumnTransformer([("cat", FitOnce(OneHotEncoder()), ["origin"])])
    strict.partial_fit(flights().replace("EWR", "JFK"))
    unknown = pytest.raises(ValueError, match="unknown categories")
    with unchanged(strict), unknown as caught:
        strict.partial_fit(flights())
    assert caught.value.__notes__[0].startswith("In 'cat'.")


@pytest.mark.parametrize("is_sparse", [True, False])
def test_the_first_mini_batch_settles_sparse_output(is_sparse):
    """The encoder has 3 columns with one 1 in a row: a density of 1/2 with "a"."""
    encoder = FitOnce(OneHotEncoder(handle_unknown="ignore"))
    table = StreamingColumnTransformer(
        [("cat", encoder, ["origin"]), ("num", StandardScaler(), ["a"])],
        sparse_threshold=0.6 if is_sparse else 0.4,
    )
    X = flights()
    for _ in range(3):
        table.partial_fit(X)
        assert table.sparse_output_ == is_sparse
        assert sparse.issparse(table.transform(X)) == is_sparse
        # Had this been first, it would be otherwise.
        X = flights(1)
        if not is_sparse:
            X = X.replace(["EWR", "JFK", "LGA"], "unknown")


def test_sparse_mini_batches_stream():
    X = sparse.random(20, 4, density=0.5, format="csr", random_state=0)
    table = StreamingColumnTransformer(
        [("num", BatchNorm1dTransformer(with_mean=False), [0, 2])],
        remainder=StandardScaler(with_mean=False),
    )
    num = BatchNorm1dTransformer(with_mean=False)
    for _ in range(2):
        table.partial_fit(X)
        num.partial_fit(X[:, [0, 2]])
    assert attributes(table["num"]) == attributes(num)
    assert table.transform(X).shape == (20, 4)


LATER = {
    "missing column": flights().drop(columns="b"),
    "extra column": flights().assign(extra=1),
    "other order": flights()[["origin", "d", "c", "b", "a"]],
    "array": flights().to_numpy(),
    "array of fewer": flights().to_numpy()[:, :3],
    "polars": pl.DataFrame(flights().to_dict("list")),
    "list": flights().to_numpy().tolist(),
    "words for numbers": flights().assign(a="three"),
    "no rows": flights()[:0],
    "one column": flights()["a"],
    "nothing": None,
}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_later_mini_batches_are_taken_as_by_transform(later):
    streaming = table_of_flights().partial_fit(flights())
    theirs = ColumnTransformer(
        [
            ("num", StandardScaler(), ["a", "b"]),
            ("cat", OneHotEncoder(handle_unknown="ignore"), ["origin"]),
        ]
    ).fit(flights())
    try:
        theirs.transform(later)
    except Exception as error:
        # Parts and tables name themselves in what they say.
        message = re.escape(str(error)).replace("StandardScaler", r"\w+")
        message = message.replace("ColumnTransformer", "StreamingColumnTransformer")
        refused = pytest.raises(type(error), match=f"^{message}")
        with unchanged(streaming), refused:
            streaming.partial_fit(later)
    else:
        num = BatchNorm1dTransformer().partial_fit(flights()[["a", "b"]])
        num.partial_fit(later[["a", "b"]])
        streaming.partial_fit(later)
        assert_array_equal(streaming["num"].running_var_, num.running_var_)


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_fit_takes_the_keywords_of_partial_fit(method):
    X = flights()
    by_hand = BatchNorm1dTransformer().fit(X[["a", "b"]], sample_weight=W)
    for key in ("sample_weight", "num__sample_weight"):
        table = table_of_flights()
        getattr(table, method)(X, **{key: W})
        assert attributes(table["num"]) == attributes(by_hand)
    for bad, match in [
        ({"bogus": W}, f"StreamingColumnTransformer.{method} is"),
        ({"nobody__sample_weight": W}, f"StreamingColumnTransformer.{method} is"),
        ({"sample_weight": W[:5]}, "inconsistent"),
    ]:
        with unchanged(table), pytest.raises(ValueError, match=match):
            getattr(table, method)(X, **bad)


@pytest.mark.parametrize(
    "transformers",
    [
        "abc",
        None,
        [("a", StandardScaler())],
        [("a", StandardScaler, [0])],
        [("a", SGDRegressor(), [0])],
        [("a", 3, [0])],
        [("a__b", StandardScaler(), [0])],
        [("a", StandardScaler(), [0]), ("a", StandardScaler(), [1])],
        [("a", StandardScaler(), [7])],
        [("a", StandardScaler(), ["a"])],
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_malformed_transformers(transformers, method):
    X, _ = minibatch(0)
    with pytest.raises(Exception, match=".") as theirs:
        ColumnTransformer(transformers).fit(X)
    message = re.escape(str(theirs.value)).replace(" ColumnT", " StreamingColumnT")
    with pytest.raises(type(theirs.value), match=message):
        getattr(StreamingColumnTransformer(transformers), method)(X)


def test_what_the_table_is_made_of_is_left_alone():
    bn, std, sub = BatchNorm1dTransformer(), StandardScaler(), StandardScaler()
    pipe = StreamingPipeline([("sub", sub)])
    parts = [("bn", bn, [0]), ("pipe", pipe, [1]), ("empty", pipe, [])]
    table = StreamingColumnTransformer(parts, remainder=std)
    with unchanged(bn, std, sub, pipe):
        for seed in range(2):
            table.partial_fit(minibatch(seed)[0])
    assert table.transformers is parts
    assert [part for _, part, _ in parts] == [bn, pipe, pipe]
    assert table.remainder is std


@pytest.mark.parametrize(
    ("transformers", "width"),
    [
        ([], 0),
        ([("a", "drop", [0])], 0),
        ([("a", StandardScaler(), [])], 0),
        ([("a", StreamingPipeline([("s", StandardScaler())]), [])], 0),
        ([("a", "passthrough", [2, 3])], 2),
    ],
)
def test_there_may_be_nothing_to_learn(transformers, width):
    table, (X, _) = StreamingColumnTransformer(transformers), minibatch(0)
    for _ in range(3):
        table.partial_fit(X)
    assert table.transform(X).shape == (20, width)
    table.set_params(sparse_threshold=2)
    invalid = pytest.raises(InvalidParameterError, match="'sparse_threshold'")
    with unchanged(table), invalid:
        table.partial_fit(X)


class OwnTable(StreamingColumnTransformer):
    pass


class OwnTarget(StreamingTransformedTargetRegressor):
    pass


class Function:
    """One that a copy would not be."""

    def __call__(self, y):
        return y


@pytest.mark.parametrize(
    "composition",
    [
        OwnTable([("a", StandardScaler(), [0])], transformer_weights={"a": 2}),
        OwnTarget(SGDRegressor(), transformer=StandardScaler()),
        OwnTarget(SGDRegressor(), func=Function(), inverse_func=Function()),
    ],
    ids=lambda composition: type(composition).__name__,
)
def test_so_it_is_by_a_subclass(composition):
    parameters = composition.get_params(deep=False)
    for seed in range(3):
        composition.partial_fit(*minibatch(seed))
        for name, value in composition.get_params(deep=False).items():
            assert value is parameters[name]


def test_columns_may_be_words_one_by_one():
    X = pd.DataFrame({"text": ["to be", "or not", "to be"], "x": [1.0, 2.0, 4.0]})
    table = StreamingColumnTransformer(
        [
            ("hash", HashingVectorizer(n_features=8), "text"),
            ("words", FitOnce(CountVectorizer()), "text"),
            ("num", BatchNorm1dTransformer(), ["x"]),
        ]
    )
    for _ in range(2):
        table.partial_fit(X)
    assert table.transform(X).shape == (3, 8 + 4 + 1)
    assert table["num"].num_batches_tracked_ == 2
    for method in ("fit", "partial_fit"):
        scalar = StreamingColumnTransformer([("num", StandardScaler(), 0)])
        with pytest.raises(ValueError, match="1D data passed to a transformer"):
            getattr(scalar, method)(minibatch(0)[0])


# StreamingTransformedTargetRegressor


def target_model(**params):
    return StreamingTransformedTargetRegressor(
        SGDRegressor(random_state=0),
        transformer=BatchNorm1dTransformer(bias_correction=True),
        **params,
    )


def test_transformer_then_regressor_by_hand():
    """As in all nests; and predictions are inverted by what is known now."""
    model = target_model()
    bn, sgd = clone(model.transformer), clone(model.regressor)
    for seed in range(3):
        X, y = minibatch(seed)
        y = (100 * seed + y).reshape(-1, 1)
        assert model.partial_fit(X, y.ravel()) is model
        sgd.partial_fit(X, bn.partial_fit(y).transform(y).ravel())
        inverse = bn.inverse_transform(sgd.predict(X).reshape(-1, 1)).ravel()
        assert_array_equal(model.predict(X), inverse)
    assert model.n_features_in_ == 4
    assert not hasattr(model.transformer, "running_mean_")
    assert not hasattr(model.regressor, "coef_")


def test_functions_of_the_target():
    model = StreamingTransformedTargetRegressor(
        SGDRegressor(random_state=0), func=np.cbrt, inverse_func=lambda y: y**3
    )
    sgd = clone(model.regressor)
    for seed in range(3):
        X, y = minibatch(seed)
        model.partial_fit(X, y)
        sgd.partial_fit(X, np.cbrt(y))
    assert_array_equal(model.predict(X), sgd.predict(X) ** 3)
    assert model.func is np.cbrt
    assert isinstance(model.transformer_, FunctionTransformer)


def test_the_first_mini_batch_checks_the_inverse():
    X, y = minibatch(0)
    for check_inverse in (True, False):
        model = StreamingTransformedTargetRegressor(
            SGDRegressor(random_state=0),
            func=np.square,
            inverse_func=np.square,
            check_inverse=check_inverse,
        )
        warned = pytest.warns(UserWarning, match="not strictly inverse")
        with warned if check_inverse else nullcontext():
            model.partial_fit(X, y)
        model.partial_fit(X, y)  # warnings are errors
        assert model.check_inverse is check_inverse


def test_several_targets():
    X, y = minibatch(0)
    Y = np.c_[y, 10 * y]
    model = StreamingTransformedTargetRegressor(
        MultiOutputRegressor(SGDRegressor(random_state=0)),
        transformer=BatchNorm1dTransformer(bias_correction=True),
    )
    bn = clone(model.transformer)
    for _ in range(2):
        model.partial_fit(X, Y, sample_weight=W)
        bn.partial_fit(Y, sample_weight=W)
    assert attributes(model.transformer_) == attributes(bn)
    assert model.predict(X).shape == (20, 2)


@pytest.mark.parametrize(
    ("later", "match"),
    [
        (lambda y: y.reshape(-1, 1), "has 2 dimensions, but that of the first"),
        (lambda y: np.c_[y, y], "has 2 dimensions"),
        (lambda y: y[:5], "inconsistent"),
        (lambda y: y * np.nan, "contains NaN"),
        (lambda y: None, "requires y to be passed"),
    ],
)
def test_bad_targets_leave_no_trace(later, match):
    X, y = minibatch(0)
    model = target_model().partial_fit(X, y)
    with unchanged(model), pytest.raises(ValueError, match=match):
        model.partial_fit(X, later(y))
    model.partial_fit(X, pd.Series(y)).partial_fit(X, list(y))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_masked_targets(method):
    X, y = minibatch(0)
    model = target_model()
    refused = pytest.raises(ValueError, match="Leave out the rows whose target is mask")
    with unchanged(model), refused:
        getattr(model, method)(X, np.ma.masked_less(y, 0))
    getattr(model, method)(X, np.ma.asarray(y))


class FailsBack(StandardScaler):
    def inverse_transform(self, X):
        raise ValueError("no way back")


def test_a_transformer_without_way_back_is_named():
    model = target_model().set_params(transformer=FailsBack())
    pipe = StreamingPipeline([("last", model)])
    refused = pytest.raises(ValueError, match="no way back")
    with unchanged(pipe), refused as caught:
        pipe.partial_fit(*minibatch(0))
    assert caught.value.__notes__[0].startswith("In 'last.transformer'.")


def test_the_default_regressor_only_fits():
    X, y = minibatch(0)
    model = StreamingTransformedTargetRegressor()
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match=r"'regressor' \(LinearRegression\)"):
        model.partial_fit(X, y)
    expected = TransformedTargetRegressor().fit(X, y).predict(X)
    assert_array_equal(model.fit(X, y).predict(X), expected)


def test_weights_of_fit_reach_both_or_one():
    X, y = minibatch(0)
    bn = clone(target_model().transformer)
    bn.fit(y.reshape(-1, 1), sample_weight=W)
    both, one = target_model(), target_model()
    both.fit(X, y, sample_weight=W)
    one.fit(X, y, transformer__sample_weight=W)
    assert attributes(both.transformer_) == attributes(bn)
    assert attributes(one.transformer_) == attributes(bn)
    assert not np.array_equal(both.regressor_.coef_, one.regressor_.coef_)
    refused = pytest.raises(ValueError, match="inconsistent numbers of samples")
    with unchanged(both), refused:
        both.fit(X, y, sample_weight=W[:5])
    with pytest.raises(TypeError, match="bogus"):
        both.fit(X, y, bogus=1)


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"regressor": 3}, InvalidParameterError, "Got 3 instead"),
        ({"transformer": 3}, InvalidParameterError, "Got 3 instead"),
        ({"func": np.exp}, ValueError, "cannot both be set"),
        ({"func": np.exp, "transformer": None}, ValueError, "must also be provided"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_malformed_targets(params, error, match, method):
    model = target_model().set_params(**params)
    with pytest.raises(error, match=match):
        getattr(model, method)(*minibatch(0))


# FitOnce


def test_the_first_mini_batch_fits_and_no_later_one():
    X, y = minibatch(0)
    spec = PCA(2)
    once = FitOnce(spec)
    with pytest.raises(NotFittedError):
        check_is_fitted(once)
    with pytest.raises(NotFittedError):
        FitOnce(StandardScaler()).transform(X)
    assert once.partial_fit(X, y) is once
    check_is_fitted(once)
    with unchanged(once):
        assert once.partial_fit(minibatch(1)[0]) is once
    assert not hasattr(spec, "components_")
    by_hand = PCA(2).fit(X)
    assert_array_equal(once.components_, by_hand.components_)
    assert_array_equal(once.transform(X), by_hand.transform(X))
    Z = once.transform(X)
    assert_array_equal(once.inverse_transform(Z), by_hand.inverse_transform(Z))
    assert_array_equal(once.get_feature_names_out(), ["pca0", "pca1"])
    assert not hasattr(once, "predict")


@pytest.mark.parametrize(
    ("estimator", "method"),
    [(PCA(2), "fit_transform"), (KMeans(2, n_init=1, random_state=0), "fit_predict")],
)
def test_fitting_in_one_call_is_fitting(estimator, method):
    """Of a clone, too, so that a stream goes on where ``fit`` ended."""
    X, _ = minibatch(0)
    once = FitOnce(estimator)
    expected = getattr(clone(estimator), method)(X)
    with unchanged(estimator):
        assert_array_equal(getattr(once, method)(X), expected)
    check_is_fitted(once)
    with unchanged(once):
        once.partial_fit(minibatch(1)[0])


def test_in_a_fitted_pipeline_it_is_not_fitted_again():
    X, _ = minibatch(0)
    pipe = StreamingPipeline([("pca", FitOnce(PCA(1))), ("std", StandardScaler())])
    pipe.fit(X)
    before = bits(pipe[0])
    pipe.partial_fit(minibatch(1)[0])
    assert bits(pipe[0]) == before
    assert pipe[1].n_samples_seen_ == 40
    pipe.fit(minibatch(1)[0])
    assert bits(pipe[0]) != before


def test_later_mini_batches_have_the_same_features():
    once = FitOnce(StandardScaler()).partial_fit(flights()[["a", "b"]])
    for later in (["a"], ["b", "a"], ["a", "c"]):
        with unchanged(once), pytest.raises(ValueError, match="feature"):
            once.partial_fit(flights()[later])
    with unchanged(once), pytest.warns(UserWarning, match="valid feature names"):
        once.partial_fit(flights()[["a", "b"]].to_numpy())


def test_it_is_what_its_estimator_is():
    X, y = minibatch(0)
    assert is_classifier(FitOnce(LogisticRegression()))
    once = FitOnce(Ridge()).partial_fit(X, y, sample_weight=W)
    by_hand = Ridge().fit(X, y, sample_weight=W)
    assert_array_equal(once.predict(X), by_hand.predict(X))
    assert once.score(X, y) == by_hand.score(X, y)
    last = StreamingPipeline([("bn", StandardScaler()), ("last", FitOnce(Ridge()))])
    assert last.partial_fit(X, y, sample_weight=W).predict(X).shape == (20,)


def test_it_is_copied_as_any_estimator():
    X, _ = minibatch(0)
    once = FitOnce(FitOnce(PCA(1))).partial_fit(X)
    for copied in (pickle.loads(pickle.dumps(once)), clone(once).partial_fit(X)):
        assert_array_equal(copied.transform(X), once.transform(X))
    assert not hasattr(clone(once), "estimator_")
    assert repr(once) == "FitOnce(estimator=FitOnce(estimator=PCA(n_components=1)))"
    assert "FitOnce" in once._repr_html_()

    class Own(FitOnce):
        pass

    pipe = StreamingPipeline([("own", Own(PCA(1))), ("std", StandardScaler())])
    for _ in range(2):
        pipe.partial_fit(X)
    assert_array_equal(pipe[0].transform(X), once.transform(X))


def test_what_sets_something_sets_it_here():
    """And not in the estimator, which it would return."""
    once = FitOnce(PCA(1))
    assert not hasattr(FitOnce(KMeans()), "set_fit_request")
    assert not hasattr(FitOnce(BatchNorm1dTransformer()), "set_callbacks")
    assert once.set_output(transform="pandas") is once
    X = flights()[["a"]]
    assert isinstance(once.partial_fit(X).transform(X), pd.DataFrame)
    once.set_output(transform="default")
    assert isinstance(once.transform(X), np.ndarray)
    assert not hasattr(FitOnce(Ridge()), "set_output")
    assert once.set_params(estimator__n_components=2) is once
    assert once.estimator.n_components == 2


def test_a_search_over_its_estimator():
    X, y = minibatch(0, 60)
    pipe = StreamingPipeline([("once", FitOnce(PCA())), ("last", Ridge())])
    search = GridSearchCV(pipe, {"once__estimator__n_components": [1, 2]}, cv=2)
    best = search.fit(X, y).best_estimator_
    assert best[0].n_components_ == search.best_params_["once__estimator__n_components"]


class Shifts(TransformerMixin, BaseEstimator):
    """Takes metadata in fit and in transform."""

    def fit(self, X, y=None, rows=None):
        self.rows_ = rows
        return self

    def fit_transform(self, X, y=None, rows=None, shift=0):
        return self.fit(X, y, rows).transform(X, shift)

    def transform(self, X, shift=0):
        return X + shift


@with_routing
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_metadata_reach_its_estimator(nested, method):
    shifts = Shifts().set_fit_request(rows="some").set_transform_request(shift="by")
    if nested:
        shifts = Pipeline([("shifts", shifts)])
    pipe = StreamingPipeline([("once", FitOnce(shifts)), ("std", StandardScaler())])
    X, _ = minibatch(0)
    getattr(pipe, method)(X, some=3, by=5.0)
    inner = pipe[0].estimator_
    assert (inner[0] if nested else inner).rows_ == 3
    assert_array_equal(pipe[1].mean_, StandardScaler().fit(X + 5).mean_)
    pipe.partial_fit(X, some=4, by=5.0)
    assert (inner[0] if nested else inner).rows_ == 3
    assert_array_equal(pipe[:1].transform(X, by=1.0), X + 1)
    with pytest.raises(TypeError, match="bogus"):
        pipe.partial_fit(X, bogus=1)


@with_routing
def test_metadata_are_requested_from_its_estimator():
    pipe = StreamingPipeline([("once", FitOnce(KMeans(2, n_init=1)))])
    with pytest.raises(ValueError, match=r"KMeans\.set_fit_request"):
        pipe.partial_fit(minibatch(0)[0], sample_weight=W)


# scikit-learn's checks

# All of these scikit-learn excuses for its own classes.
A_TABLE_CHECKS_NOTHING = "the parts check their columns (scikit-learn excuses its own)"
A_UNION_FITS_ITS_PARTS = "it fits its parts, not clones (scikit-learn excuses its own)"
NAN = "all parts take NaN, which the tags do not tell (scikit-learn excuses its own)"
DRAWS = "SGD draws rows at random (scikit-learn excuses SGDRegressor alone, too)"
NAMESPACE = "a part may not check it, or names itself (as StandardScaler, excused)"
TOO_FEW = "2 components are too many for 1 row or feature (so they are for PCA alone)"
COLUMN_VECTOR = "of a target's second dimension, scikit-learn 1.6's does not warn, too"


def expected_failed_checks(estimator):
    if isinstance(estimator, StreamingColumnTransformer):
        names = [
            "check_complex_data",
            "check_estimator_sparse_array",
            "check_estimator_sparse_matrix",
            "check_estimators_empty_data_messages",
            "check_fit1d",
            "check_fit2d_1feature",
            "check_fit2d_predict1d",
        ]
        failed = dict.fromkeys(names, A_TABLE_CHECKS_NOTHING)
        return failed | {"check_estimators_nan_inf": NAN}
    if isinstance(estimator, StreamingFeatureUnion):
        return {
            "check_dont_overwrite_parameters": A_UNION_FITS_ITS_PARTS,
            "check_estimators_overwrite_params": A_UNION_FITS_ITS_PARTS,
            "check_estimators_nan_inf": NAN,
            "check_array_api_same_namespace": NAMESPACE,
        }
    if isinstance(estimator, StreamingTransformedTargetRegressor):
        failed = {
            "check_sample_weight_equivalence_on_dense_data": DRAWS,
            "check_sample_weight_equivalence_on_sparse_data": DRAWS,
        }
        if sklearn.__version__.startswith("1.6"):
            failed["check_supervised_y_2d"] = COLUMN_VECTOR
        return failed
    failed = {"check_array_api_same_namespace": NAMESPACE}
    if isinstance(estimator.estimator, PCA):
        failed["check_fit2d_1sample"] = failed["check_fit2d_1feature"] = TOO_FEW
    return failed


@parametrize_with_checks(
    [
        StreamingColumnTransformer(
            [
                ("bn", BatchNorm1dTransformer(with_mean=False), [0, 1]),
                ("std", StandardScaler(with_mean=False), [0]),
            ]
        ),
        StreamingFeatureUnion(
            [
                ("bn", BatchNorm1dTransformer(with_mean=False)),
                ("std", StandardScaler(with_mean=False)),
            ]
        ),
        target_model(),
        FitOnce(StandardScaler()),
        FitOnce(PCA(2)),
    ],
    expected_failed_checks=expected_failed_checks,
)
@pytest.mark.filterwarnings("default")  # the checks bring warnings of their own
def test_check_estimator(estimator, check):
    with np.errstate(invalid="ignore"):  # StandardScaler divides 0 by 0 on its way
        check(estimator)
