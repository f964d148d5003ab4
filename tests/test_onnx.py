"""ONNX graphs compute what transformers, compositions and folded models do.

In onnxruntime, and transforms in onnx's reference evaluator, too.
"""

import importlib
import subprocess
import sys
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    BayesianRidge,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC

from sk_batchnorm import BatchNorm1dTransformer, fold
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm.compose import (
    FitOnce,
    StreamingColumnTransformer,
    StreamingTransformedTargetRegressor,
    make_streaming_column_transformer,
)
from sk_batchnorm.pipeline import (
    StreamingFeatureUnion,
    StreamingPipeline,
    make_streaming_pipeline,
    make_streaming_union,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")

from onnx.reference import ReferenceEvaluator  # noqa: E402
from skl2onnx.common import data_types  # noqa: E402

import sk_batchnorm.onnx  # noqa: E402

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
BN, LR = BatchNorm1dTransformer, LogisticRegression


def to_onnx(model, X=None, **options):
    graph = skl2onnx.to_onnx(model, X, **options)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def node_types(graph):
    return [node.op_type for node in graph.graph.node]


def outputs(graph, X):
    """What onnxruntime computes, and onnx's reference evaluator."""
    feed = {"X": X}
    if isinstance(X, pd.DataFrame):
        feed = {name: X[[name]].to_numpy() for name in X}
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    if graph.opset_import[0].version < 14:
        # Takes BatchNormalization for training (github.com/onnx/onnx/pull/8442).
        return (session.run(None, feed),)
    with np.errstate(all="ignore"):  # NumPy warns of what graphs may do
        reference = ReferenceEvaluator(graph).run(None, feed)
    return session.run(None, feed), reference


def assert_same_transform(model, X, dtype, **options):
    """The graph's output is transform's, of ``dtype``; return the graph."""
    graph = to_onnx(model, X, **options)
    expected = np.asarray(model.transform(X))
    weight = getattr(model, "weight_", None)
    unit = np.ones(X.shape[1]) if weight is None else np.maximum(np.abs(weight), 1.0)
    unit = unit.reshape(-1, *[1] * (expected.ndim - 2))
    for (output,) in outputs(graph, X):
        assert output.dtype == dtype
        assert_array_equal(np.isnan(output), np.isnan(expected))
        # A weight multiplies the rounding errors, too.
        error = np.abs(output.astype(float) - expected)
        worst = np.nanmax(error / (unit + np.abs(expected)), initial=0.0)
        assert worst <= TOLERANCE[dtype]
    return graph


@st.composite
def transformers(draw, **settings):
    """Fitted on ``X``, which may have NaN; and the dtype of X."""
    n_features = draw(st.integers(1, 8))
    settings = {
        "eps": draw(st.sampled_from([0, 1e-5, 3])),
        "affine": draw(st.booleans()),
        "with_mean": draw(st.booleans()),
        "clip": draw(st.none() | st.floats(0.1, 5)),
        "handle_missing": draw(st.sampled_from(["keep", "mean"])),
        **settings,
    }
    trailing = draw(st.sampled_from([(), (1,), (7,)]))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    # A mean of more than 100 standard deviations costs float64 digits where it is
    # learned from X itself, in two ways.
    largest = 6 if settings.get("track_running_stats", True) else 2
    ratio = 10 ** draw(st.floats(-1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    std = rng.uniform(0.5, 2.0, (n_features, *[1] * len(trailing)))
    X = rng.normal(ratio * std, std, (draw(st.integers(20, 60)), n_features, *trailing))
    if draw(st.booleans()):
        X[rng.random(X.shape) < 0.2] = np.nan
    weight, bias = rng.normal(size=(2, n_features))
    bn = BN(weight_init=weight, bias_init=bias, **settings)
    learn = bn.fit if draw(st.booleans()) else bn.partial_fit
    X = X.astype(dtype)
    return learn(X), X, dtype


@given(transformers())
def test_random_transformers(case):
    assert_same_transform(*case)


@given(transformers(track_running_stats=False))
def test_random_transformers_that_track_nothing(case):
    assert_same_transform(*case)


@pytest.mark.parametrize("shape", [(5000, 2), (50, 2, 100)])
@pytest.mark.parametrize(
    ("dtype", "ratio", "nodes"),
    [
        ("float32", 0.0, ["BatchNormalization"]),
        ("float32", 16.0, ["BatchNormalization"]),
        ("float32", 18.0, ["Sub", "BatchNormalization"]),
        ("float32", 1e4, ["Sub", "BatchNormalization"]),
        ("float32", 1e7, ["Sub", "BatchNormalization"]),
        ("float64", 0.0, ["BatchNormalization"]),
        ("float64", 850.0, ["BatchNormalization"]),
        ("float64", 1e3, ["Sub", "BatchNormalization"]),
        ("float64", 1e12, ["Sub", "BatchNormalization"]),
        ("int64", 1e9, ["Cast", "BatchNormalization", "Cast"]),
    ],
)
def test_a_sub_only_where_the_mean_is_large(shape, dtype, ratio, nodes):
    rng = np.random.default_rng(0)
    scale = 1000.0 if dtype == "int64" else 0.7
    X = rng.normal(scale * ratio, scale, shape).astype(dtype)
    bn = BN(eps=0, batch_size=None, variance="total").fit(X)
    out = "float32" if dtype == "int64" else dtype
    assert node_types(assert_same_transform(bn, X, out)) == nodes


@pytest.mark.parametrize("track_running_stats", [True, False])
def test_zero_variance_is_divided_by_one_without_eps(track_running_stats):
    X = np.full((10, 2), 0.1)  # ten of which sum to less than 1
    X[:, 1] = np.arange(10)
    bn = BN(eps=0, track_running_stats=track_running_stats, bias_init=5.0).fit(X)
    graph = assert_same_transform(bn, X, "float64")
    for (output,) in outputs(graph, X):
        assert_array_equal(output[:, 0], 5.0)


@pytest.mark.parametrize(
    ("mean", "var", "weight", "bias", "clip"),
    [
        (1e39, 1e60, 1.0, 0.0, None),
        (0.0, 1e-80, 1.0, 0.0, None),
        (0.0, 1e76, 1.0, 0.0, None),
        (0.0, 1.0, 1e39, 0.0, None),
        (0.0, 1.0, 1e-40, 0.0, None),
        (0.0, 1.0, 1.0, 1e39, None),
        (0.0, 1.0, 1.0, 0.0, 1e39),
        (0.0, 1.0, 1.0, 0.0, 1e-39),
        (0.0, 1.0, 1e-40, 0.0, 2.0),
        (0.0, 1e-80, 1.0, 0.0, 2.0),
    ],
)
def test_constants_beyond_float32(mean, var, weight, bias, clip):
    """Computed in float64: even where float32 has only infinity or no digits."""
    state = {"running_mean": mean, "running_var": var, "weight": weight, "bias": bias}
    state = {name: [value, 1.0] for name, value in state.items()}
    bn = BN(2, eps=0, clip=clip)
    bn.load_state_dict({**state, "num_batches_tracked": 1})
    X = np.array([[0.0, 0.0], [1e-30, 1.0], [3e38, -1.0]], dtype=np.float32)
    graph = to_onnx(bn, X)
    assert node_types(graph)[0] == node_types(graph)[-1] == "Cast"
    expected = bn.transform(X)
    for (output,) in outputs(graph, X):
        assert_allclose(output, expected, rtol=1e-6)


def test_a_weight_of_zero_needs_no_float64():
    X = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32)
    bn = BN(weight_init=[0.0, 1.0], bias_init=3.0).fit(X)
    graph = assert_same_transform(bn, X, "float32")
    assert node_types(graph) == ["BatchNormalization"]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("bool", data_types.BooleanTensorType),
        ("uint8", data_types.UInt8TensorType),
        ("int32", data_types.Int32TensorType),
        ("int64", data_types.Int64TensorType),
        ("float16", data_types.Float16TensorType),
    ],
)
@pytest.mark.parametrize("track_running_stats", [True, False])
def test_other_real_numbers_become_float32(dtype, kind, track_running_stats):
    X = np.random.default_rng(0).integers(0, 100, (20, 3)) % 7
    X = X.astype(dtype)
    bn = BN(track_running_stats=track_running_stats).fit(X)
    initial_types = [("X", kind([None, 3]))]
    assert_same_transform(bn, X, "float32", initial_types=initial_types)


def test_large_integers_are_not_rounded_first():
    seconds = np.random.default_rng(0).integers(0, 86_400, (1000, 1)) + 1_700_000_000
    bn = BN().fit(seconds)
    assert_same_transform(bn, seconds.astype(np.int64), "float32")


@pytest.mark.parametrize("columns", [["count", "x", "y"], ["x", "y", "count"]])
def test_columns_are_float64_if_one_of_them_is(columns):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(50, 2)), columns=["x", "y"])
    X["count"] = np.arange(50) + 2**40
    X = X[columns]
    assert_same_transform(BN().fit(X), X, "float64")
    # The step behind is told so, too.
    y = X["x"] > X["y"]
    pipe = make_pipeline(BN(), LogisticRegression()).fit(X, y)
    for _, probability in outputs(to_onnx(pipe, X, options={"zipmap": False}), X):
        assert_allclose(probability, pipe.predict_proba(X), rtol=1e-12, atol=1e-12)


def test_merged_columns_have_the_declared_type():
    """That of the first; float64 all the same up to the end."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"count": np.arange(50), "time": 1e9 + rng.normal(size=50)})
    model = ColumnTransformer([("bn", BN(), ["count", "time"])])
    assert_same_transform(model.fit(X), X, "float32")


PLACES = {
    "last": lambda X, y: make_pipeline(PCA(2), BN()).fit(X),
    "twice": lambda X, y: make_pipeline(BN(bias_init=9.0), BN()).fit(X),
    "some columns": lambda X, y: ColumnTransformer(
        [
            ("bn", BN(), [3, 0]),
            ("rest", "passthrough", [1]),
            ("slice", make_pipeline(BN(eps=1)), slice(1, 4)),
        ]
    ).fit(X),
    "columns, then all": lambda X, y: make_pipeline(
        make_column_transformer((BN(), [0, 1])), BN(), Ridge()
    ).fit(X, y),
    "search": lambda X, y: GridSearchCV(
        make_pipeline(BN(), Ridge()), {"batchnorm1dtransformer__momentum": [0.1, None]}
    ).fit(X, y),
    "set_output": lambda X, y: (
        make_pipeline(BN(), MinMaxScaler()).set_output(transform="pandas").fit(X)
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_any_place(place):
    rng, dtype = np.random.default_rng(0), "float32" if place == "last" else "float64"
    X = rng.normal(3.0, 2.0, (60, 4)).astype(dtype)
    model = PLACES[place](X, X @ [1.0, 2.0, 3.0, 4.0])
    predicts = hasattr(model, "predict")
    expected = np.asarray(model.predict(X) if predicts else model.transform(X))
    graph = to_onnx(model, X)
    assert "BatchNormalization" in node_types(graph)
    for (output,) in outputs(graph, X):
        assert output.dtype == dtype
        output = output.reshape(expected.shape)
        tolerance = TOLERANCE[dtype]
        assert_allclose(output, expected, rtol=tolerance, atol=tolerance)


# StreamingPipeline, wherever a Pipeline may stand


class SubclassedPipeline(StreamingPipeline):
    """A class of a user's."""


def streaming(make):
    """Make a pipeline of the steps by one class or another."""
    return lambda kind: make(lambda *steps: kind(make_pipeline(*steps).steps))


def hinge():
    return SGDClassifier(random_state=0)


SOFT = {"voting": "soft", "flatten_transform": False}
CLASSIFIERS = {
    "alone": lambda pipe: pipe(BN(), LR()),
    "nested": lambda pipe: pipe(pipe(BN()), pipe(LR())),
    "behind": lambda pipe: make_pipeline(MinMaxScaler(), pipe(BN(), LR())),
    "columns": lambda pipe: make_pipeline(
        make_column_transformer(
            (pipe(BN(), MinMaxScaler()), [2, 0]), (pipe(BN()), [1])
        ),
        LR(),
    ),
    "union": lambda pipe: make_pipeline(make_union(pipe(BN()), BN()), LR()),
    "one against the rest": lambda pipe: OneVsRestClassifier(pipe(BN(), LR())),
    "by distance": lambda pipe: OneVsRestClassifier(pipe(BN(), hinge())),
    "one against one": lambda pipe: OneVsOneClassifier(pipe(BN(), LR())),
    "search": lambda pipe: GridSearchCV(pipe(BN(), LR()), {}, cv=2),
    "of a search": lambda pipe: pipe(BN(), GridSearchCV(LR(), {}, cv=2)),
    "stacking": lambda pipe: StackingClassifier(
        [("a", pipe(BN(), LR())), ("b", LR())], cv=2
    ),
    "last of stacking": lambda pipe: StackingClassifier(
        [("a", LR())],
        final_estimator=pipe(BN(), LR()),
        cv=2,
    ),
    "soft voting": lambda pipe: VotingClassifier(
        [("a", pipe(BN(), LR())), ("b", LR())],
        voting="soft",
        flatten_transform=False,
    ),
    "hard voting": lambda pipe: VotingClassifier(
        [("a", pipe(BN(), LR())), ("b", LR())],
        flatten_transform=False,
    ),
    # Of what takes no weights, which bagging passes in place of drawing rows.
    "bagging": lambda pipe: BaggingClassifier(
        pipe(BN(), LinearDiscriminantAnalysis()), n_estimators=2, random_state=0
    ),
    # By the distance alone: skl2onnx takes a Pipeline's probabilities for it.
    "calibrated": lambda pipe: CalibratedClassifierCV(pipe(BN(), hinge()), cv=2),
}
REGRESSORS = {
    "alone": lambda pipe: pipe(BN(), Ridge()),
    "search": lambda pipe: GridSearchCV(pipe(BN(), Ridge()), {}, cv=2),
    "stacking": lambda pipe: StackingRegressor([("a", pipe(BN(), Ridge()))], cv=2),
    "voting": lambda pipe: VotingRegressor([("a", pipe(BN(), Ridge()))]),
    "bagging": lambda pipe: BaggingRegressor(
        pipe(BN(), Ridge()), n_estimators=2, random_state=0
    ),
    "outputs": lambda pipe: MultiOutputRegressor(pipe(BN(), Ridge())),
}
# By whose class an option is given: of the model, or of the classifier in the end.
OPTIONS = {
    "none": lambda model: None,
    "by id": lambda model: {id(model): {"zipmap": False}},
    "by class": lambda model: {type(model): {"zipmap": False}},
    "for all": lambda model: {"zipmap": False},
    "of the last step": lambda model: {LR: {"zipmap": False}},
    "columns": lambda model: {id(model): {"zipmap": "columns"}},
}


def rows(n_classes=2):
    X = np.random.default_rng(0).normal(3.0, 2.0, (60, 4)).astype(np.float32)
    return X, np.digitize(X[:, 0] + X[:, 1], [6.0, 8.0][: n_classes - 1])


def run_model(model, X, options=None):
    # Unchecked: shapes that skl2onnx infers by itself are at times off.
    graph = skl2onnx.to_onnx(model, X, options=options)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def assert_equal_outputs(actual, expected):
    """To the bit, and of the same form."""
    assert list(actual) == list(expected)
    for name, values in expected.items():
        assert type(actual[name]) is type(values)
        assert_array_equal(actual[name], values)


@pytest.mark.parametrize("place", CLASSIFIERS)
def test_streaming_pipeline_is_a_pipeline(place):
    """Of either class, for two classes and three, with each option."""
    make = streaming(CLASSIFIERS[place])
    for n_classes, kind, options in [
        (3, StreamingPipeline, ["none"]),
        (2, SubclassedPipeline, OPTIONS),
    ]:
        X, y = rows(n_classes)
        peer, model = make(Pipeline).fit(X, y), make(kind).fit(X, y)
        for name in options:
            actual = run_model(model, X, OPTIONS[name](model))
            expected = run_model(peer, X, OPTIONS[name](peer))
            assert_equal_outputs(actual, expected)
            if name == "none":
                label, *_ = actual.values()
                assert_array_equal(label.ravel(), model.predict(X))


@pytest.mark.parametrize("place", REGRESSORS)
def test_streaming_pipeline_regresses(place):
    X, _ = rows()
    y = X @ [1.0, 2.0, 3.0, 4.0]
    model = streaming(REGRESSORS[place])(StreamingPipeline)
    model.fit(X, y[:, None] if place == "outputs" else y)
    (output,) = run_model(model, X).values()
    assert_allclose(output.ravel(), model.predict(X).ravel(), rtol=1e-5, atol=1e-5)


# FrozenEstimator: as if what is in it stood there.


X, _ = rows()
FROZEN_PLACES = {
    "alone": lambda model: model,
    "twice": FrozenEstimator,
    "behind": lambda model: make_pipeline(FrozenEstimator(BN().fit(X)), model),
    "in a StreamingPipeline": lambda model: StreamingPipeline([("model", model)]),
    "stacking": lambda model: StackingClassifier([("a", model)], cv="prefit"),
    "soft voting": lambda model: VotingClassifier([("a", model)], **SOFT),
    "bagging": lambda model: BaggingClassifier(model, n_estimators=2),
}
FROZEN = {
    "logistic": LR,
    "forest": lambda: RandomForestClassifier(2, random_state=0),
    "pipeline": lambda: make_pipeline(BN(), LR()),
    "streaming": lambda: StreamingPipeline([("bn", BN()), ("sgd", LR())]),
    "search": lambda: GridSearchCV(LR(), {}, cv=2),
}


@pytest.mark.parametrize("place", FROZEN_PLACES)
@pytest.mark.parametrize("inside", FROZEN)
def test_wrappers_predict(inside, place):
    X, y = rows(3 if place == "alone" or inside == "logistic" else 2)
    for wrap in (FrozenEstimator, FitOnce):
        if wrap is FitOnce and place in ("twice", "bagging"):
            continue  # which take what is frozen, and what takes no weights
        model = FROZEN_PLACES[place](wrap(FROZEN[inside]().fit(X, y)).fit(X, y))
        label, probability = run_model(model.fit(X, y), X).values()
        assert_array_equal(label, model.predict(X))
        probability = [list(each.values()) for each in probability]
        assert_allclose(probability, model.predict_proba(X), atol=1e-5)


# None of several steps, of which skl2onnx calibrates the probabilities.
@pytest.mark.parametrize(
    ("make", "n_classes"),
    [(hinge, 2), (hinge, 3), (LinearSVC, 3), (LR, 2), (FROZEN["forest"], 3)],
)
def test_frozen_is_calibrated(make, n_classes):
    X, y = rows(n_classes)
    model = CalibratedClassifierCV(FrozenEstimator(make().fit(X, y))).fit(X, y)
    label, probability = run_model(model, X).values()
    assert_array_equal(label, model.predict(X))
    probability = [list(each.values()) for each in probability]
    assert_allclose(probability, model.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("wrap", [FrozenEstimator, FitOnce])
@pytest.mark.parametrize("inside", FROZEN)
def test_a_wrapper_is_what_it_holds(inside, wrap):
    X, y = rows(3)
    model = FROZEN[inside]().fit(X, y)
    wrapped = wrap(model).fit(X, y)
    model = wrapped.estimator_ if wrap is FitOnce else model
    for options in OPTIONS.values():
        expected = run_model(model, X, options(model))
        assert_equal_outputs(run_model(wrapped, X, options(wrapped)), expected)
    inner = {id(model): {"zipmap": False}}
    pipe = make_pipeline(FrozenEstimator(BN().fit(X)), wrapped)
    assert list(run_model(pipe, X, inner)) == list(run_model(model, X, inner))


@pytest.mark.parametrize(
    "make",
    [
        BN,
        lambda: make_pipeline(MinMaxScaler(), BN()),
        lambda: StreamingPipeline([("bn", BN())]),
        lambda: make_union(BN(), BN(with_mean=False)),
        lambda: make_column_transformer((BN(), [0, 1, 2, 3])),
        lambda: FrozenEstimator(BN().fit(X)),
    ],
)
def test_frozen_transforms(make):
    X, y = rows()
    frozen = FrozenEstimator(make().fit(X, y))
    for model in (
        frozen,
        StreamingPipeline([("frozen", frozen)]),
        make_column_transformer((frozen, [0, 1, 2, 3])),
        make_union(frozen),
    ):
        assert_same_transform_of_columns(model.fit(X, y), X)


def assert_same_transform_of_columns(model, X):
    expected = model.transform(X)
    for (output,) in outputs(to_onnx(model, X), X):
        assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


def test_frozen_regressor():
    X, _ = rows()
    y = X @ [1.0, 2.0, 3.0, 4.0]
    for inside in (Ridge(), make_pipeline(BN(), Ridge())):
        frozen = FrozenEstimator(inside.fit(X, y))
        for model in (
            frozen,
            make_pipeline(frozen),
            VotingRegressor([("a", frozen)]),
            StackingRegressor([("a", frozen)], cv="prefit"),
        ):
            (output,) = run_model(model.fit(X, y), X).values()
            expected = model.predict(X)
            assert_allclose(output.ravel(), expected, rtol=1e-5, atol=1e-5)


# What fold makes


@pytest.mark.parametrize(("kind", "n_classes"), [(Pipeline, 2), (StreamingPipeline, 3)])
def test_folded(kind, n_classes):
    X, y = rows(n_classes)
    pipe = kind([("bn", BN()), ("logistic", LR())]).fit(X, y)
    folded = fold(pipe)
    last = folded[-1]
    models = [folded, last, FrozenEstimator(folded), make_pipeline(last)]
    for model, options in product(models, OPTIONS.values()):
        label, *probability = run_model(model, X, options(model)).values()
        assert_array_equal(label, pipe.predict(X))
        if len(probability) > 1:  # "columns"
            probability = np.transpose(probability)
        elif isinstance(probability[0], list):
            probability = [list(each.values()) for each in probability[0]]
        else:
            (probability,) = probability
        assert_allclose(probability, pipe.predict_proba(X), atol=1e-5)
    for model in (
        StackingClassifier([("a", last), ("b", folded)], cv="prefit"),
        VotingClassifier([("a", FrozenEstimator(last))], **SOFT),
        CalibratedClassifierCV(FrozenEstimator(last)),
    ):
        label, _ = run_model(model.fit(X, y), X).values()
        assert_array_equal(label, model.predict(X))
    regressor = make_pipeline(MinMaxScaler(), BN(), Ridge()).fit(X, y)
    (output,) = run_model(fold(regressor), X).values()
    assert_allclose(output.ravel(), regressor.predict(X), rtol=1e-5, atol=1e-5)


def test_folded_before_the_import():
    code = (
        "import numpy as np\n"
        "from sklearn.linear_model import Ridge\n"
        "from sk_batchnorm import BatchNorm1dTransformer, fold\n"
        "X = np.random.default_rng(0).normal(size=(20, 2)).astype('f4')\n"
        "bn = BatchNorm1dTransformer().fit(X)\n"
        "folded = fold(bn, Ridge().fit(bn.transform(X), X[:, 0]))\n"
        "import skl2onnx, sk_batchnorm.onnx\n"
        "print([n.op_type for n in skl2onnx.to_onnx(folded, X).graph.node])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.stdout == "['LinearRegressor']\n", result.stderr


# Compositions that stream


def table(dtype="float64", n=60):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "origin": ["JFK", "LGA", "EWR"] * (n // 3),
            "temp": rng.normal(20.0, 5.0, n),
            "carrier": ["AA", "UA"] * (n // 2),
            "hour": rng.integers(0, 3, n),
            "dew": rng.normal(5.0, 2.0, n),
        }
    ).astype({"temp": dtype, "dew": dtype})
    is_late = X["carrier"] == "UA"
    return X, (1000 + 20 * X["temp"] - 9 * X["dew"] + 50 * is_late).to_numpy()


def one_hot(**params):
    return FitOnce(OneHotEncoder(**params))


def regress():
    return SGDRegressor(random_state=0)


def nest(last):
    """Columns, dropped, passed on and not, then a union, then the last step."""
    return StreamingPipeline(
        [
            (
                "table",
                StreamingColumnTransformer(
                    [
                        ("numbers", make_streaming_pipeline(BN()), ["temp", "dew"]),
                        ("words", one_hot(), ["carrier"]),
                        ("none", "drop", ["origin"]),
                    ],
                    remainder="passthrough",
                ),
            ),
            ("union", make_streaming_union(BN(), "passthrough", MaxAbsScaler())),
            ("last", last),
        ]
    )


def learned(model, X, y=None, **params):
    """Of two mini-batches."""
    for part in (slice(30), slice(30, None)):
        model.partial_fit(X[part], None if y is None else y[part], **params)
    return model


def assert_same_prediction(model, X, dtype, **options):
    """The graph's one output is predict's, of ``dtype``; return the graph."""
    graph = to_onnx(model, X, **options)
    expected = model.predict(X)
    expected = expected.reshape(len(expected), -1)
    unit = TOLERANCE[dtype] * max(1.0, expected.std())
    for (output,) in outputs(graph, X):
        assert output.dtype == dtype
        assert_allclose(output, expected, rtol=TOLERANCE[dtype], atol=unit)
        assert output.shape == expected.shape
    shape = graph.graph.output[0].type.tensor_type.shape
    assert [each.dim_value for each in shape.dim] == [0, expected.shape[1]]
    return graph


TARGETS = {
    "none": lambda: None,
    "ours": BN,
    "weight and bias": lambda: BN(weight_init=-3.0, bias_init=100.0, eps=0.5),
    "no bias": lambda: BN(bias=False, weight_init=0.1),
    "not affine": lambda: BN(affine=False),
    "mean left": lambda: BN(with_mean=False),
    "standard": StandardScaler,
    "mean alone": lambda: StandardScaler(with_std=False),
    "spread alone": lambda: StandardScaler(with_mean=False),
    "neither": lambda: StandardScaler(with_mean=False, with_std=False),
    "range": lambda: MinMaxScaler((-1, 3)),
    "largest": MaxAbsScaler,
    "pipeline": lambda: make_streaming_pipeline(MinMaxScaler(), "passthrough", BN()),
    "identity": FunctionTransformer,
    "fitted once": lambda: FitOnce(MinMaxScaler()),
}


@pytest.mark.parametrize("target", TARGETS)
def test_nest_with_a_target(target):
    for dtype in TOLERANCE if target == "ours" else ["float64"]:
        X, y = table(dtype)
        y = y / 1000 if target in ("none", "neither", "identity") else y
        model = StreamingTransformedTargetRegressor(
            nest(regress()), transformer=TARGETS[target]()
        )
        assert_same_prediction(learned(model, X, y), X, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nest_in_another_order(dtype):
    """Columns by name; and the target transformed within the last step."""
    X, y = table(dtype)
    last = StreamingTransformedTargetRegressor(regress(), transformer=BN())
    model = learned(nest(last), X, y)
    assert_same_prediction(model, X, dtype)
    moved = X[["dew", "hour", "carrier", "origin", "temp"]]
    graph = assert_same_prediction(model, moved, dtype)
    assert [each.name for each in graph.graph.input] == list(moved)


def test_nest_classifies():
    for dtype in TOLERANCE:
        X, y = table(dtype)
        y = np.digitize(y, np.quantile(y, [0.3, 0.6]))
        # Steps so small that no probability is 1, where skl2onnx takes another label.
        small = {"learning_rate": "constant", "eta0": 0.01, "random_state": 0}
        model = nest(SGDClassifier(loss="log_loss", **small))
        learned(model, X, y, classes=[0, 1, 2])
        graph = to_onnx(model, X, options={"zipmap": False})
        tolerance = TOLERANCE[dtype]
        for label, probability in outputs(graph, X):
            assert_array_equal(label, model.predict(X))
            expected = model.predict_proba(X)
            assert_allclose(probability, expected, rtol=tolerance, atol=tolerance)


COLUMNS = {
    "names": ["temp", "dew"],
    "names in another order": ["dew", "temp"],
    "one": ["dew"],
    "slice of names": slice("hour", "dew"),
    "slice from a name": slice("hour", None),
    "positions": [4, 1],
    "from the end": [-1, -4],
    "array": np.array([1, 4]),
    "slice": slice(1, None, 3),
    "mask": [False, True, False, False, True],
    "callable": make_column_selector(dtype_include="float"),
    "none": [],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_however_they_are_chosen(name):
    X, _ = table("float32")
    model = StreamingColumnTransformer(
        [("numbers", BN(), COLUMNS[name]), ("rest", "passthrough", ["hour"])]
    )
    assert_same_transform_of_columns(learned(model, X), X)


@pytest.mark.parametrize(
    "columns",
    [
        [2, 0, 1],
        [1, 1, 0],
        [0, 1, 2],
        [2],
        [-1, 0],
        slice(-2, None),
        [True, False, True],
        np.array([False, True, True]),
        lambda X: [2, 1, 0],
    ],
    ids=range(9),
)
def test_columns_of_an_array(columns):
    X = np.random.default_rng(0).normal([1.0, 5.0, 9.0], size=(60, 3))
    X = X.astype(np.float32)
    for part in (BN(), "passthrough", FitOnce(PCA(1))):
        model = StreamingColumnTransformer(
            [("a", part, columns), ("b", part, columns)],
            transformer_weights={"a": 3.0},
            remainder="passthrough",
        )
        assert_same_transform_of_columns(learned(model, X), X)


def test_columns_of_several_arrays():
    X, _ = table("float32")
    X = X[["temp", "dew", "origin", "carrier"]]
    model = make_streaming_column_transformer(
        (one_hot(), [2, 3]), (BN(), [1, 0]), ("passthrough", [0, 1])
    )
    learned(model, X)
    types = [
        ("numbers", data_types.FloatTensorType([None, 2])),
        ("words", data_types.StringTensorType([None, 2])),
    ]
    graph = to_onnx(model, initial_types=types)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    numbers = X[["temp", "dew"]].to_numpy()
    words = X[["origin", "carrier"]].to_numpy(dtype=object)
    (output,) = session.run(None, {"numbers": numbers, "words": words})
    assert_allclose(output, model.transform(X), rtol=1e-5, atol=1e-5)


def test_columns_that_come_from_arrays_by_turns():
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    model = make_streaming_column_transformer((BN(), [0, 2, 1]), ("passthrough", [3]))
    learned(model, X)
    types = [(name, data_types.FloatTensorType([None, 2])) for name in "ab"]
    graph = to_onnx(model, initial_types=types)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (output,) = session.run(None, {"a": X[:, :2], "b": X[:, 2:]})
    assert_allclose(output, model.transform(X), rtol=1e-5, atol=1e-5)


def test_columns_behind_a_step_and_within_each_other():
    X = np.random.default_rng(0).normal(3.0, size=(60, 4)).astype(np.float32)
    inner = make_streaming_column_transformer((BN(), [2, 0, 1]))
    for model in (
        make_streaming_pipeline(BN(), inner),
        make_streaming_pipeline(inner, clone(inner), BN()),
        make_streaming_column_transformer((inner, [3, 1, 0])),
        make_streaming_column_transformer((FitOnce(inner), [3, 1, 0])),
        make_streaming_union(inner, "passthrough"),
    ):
        assert_same_transform_of_columns(learned(model, X), X)
        kind = data_types.FloatTensorType([None, None])
        graph = to_onnx(model, initial_types=[("X", kind)])
        for (output,) in outputs(graph, X):
            assert_allclose(output, model.transform(X), rtol=1e-5, atol=1e-5)


def test_categories_of_several_types():
    """Each column by itself, as if the encoder stood there."""
    X, _ = table()
    X["grade"] = np.arange(60) % 3 / 1.0
    X["level"] = np.arange(60) % 4
    columns = ["origin", "grade", "level"]
    for encoder in (
        one_hot(),
        one_hot(sparse_output=False, drop="first"),
        FitOnce(FrozenEstimator(OneHotEncoder().fit(X[columns]))),
        FitOnce(make_pipeline(OneHotEncoder(sparse_output=False))),
    ):
        model = make_streaming_column_transformer((encoder, columns), (BN(), ["dew"]))
        learned(model, X)
        expected = model.transform(X)
        if sparse.issparse(expected):
            expected = expected.toarray()
        for (output,) in outputs(to_onnx(model, X), X):
            assert_allclose(output, expected, atol=1e-12)


def test_other_categories_are_ignored():
    X, _ = table()
    table_ = make_streaming_column_transformer(
        (one_hot(handle_unknown="ignore"), ["origin"]), (BN(), ["temp"])
    )
    model = learned(table_, X)
    X.loc[0, "origin"] = "CDG"
    for (output,) in outputs(to_onnx(model, X), X):
        assert_array_equal(output[0, :3], 0.0)
        assert_allclose(output, model.transform(X), atol=1e-12)


def test_columns_that_are_not_there():
    X, _ = table()
    model = make_streaming_column_transformer((BN(), ["temp"]), (BN(), ["dew"]))
    learned(model, X)
    with pytest.raises(RuntimeError, match="Unable to find column name 'dew'"):
        to_onnx(model, X.drop(columns="dew"))
    array = X[["temp", "dew"]].to_numpy()
    model = learned(make_streaming_column_transformer((BN(), [0, 1])), array)
    for shape in ([None, 2, 3], [None]):
        kind = data_types.DoubleTensorType(shape)
        with pytest.raises(ValueError, match="two dimensions with a known number"):
            to_onnx(model, initial_types=[("X", kind)])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_union(dtype):
    X = np.random.default_rng(0).normal(3.0, 20.0, size=(60, 3)).astype(dtype)
    union = StreamingFeatureUnion(
        [
            ("no", "drop"),
            ("all", "passthrough"),
            ("bn", BN()),
            ("once", FitOnce(make_pipeline(BN(), MinMaxScaler()))),
        ],
        transformer_weights={"bn": 2.0},
    )
    assert_same_transform_of_columns(learned(union, X), X)


TARGET_REGRESSORS = [StreamingTransformedTargetRegressor, TransformedTargetRegressor]
TARGET_PLACES = {
    "alone": lambda ttr: ttr(Ridge()),
    "default": lambda ttr: ttr(None),
    "of a pipeline": lambda ttr: ttr(make_streaming_pipeline(BN(), Ridge())),
    "of a search": lambda ttr: ttr(GridSearchCV(Ridge(), {}, cv=2)),
    "of what is fitted once": lambda ttr: ttr(FitOnce(Ridge())),
    "of another": lambda ttr: ttr(ttr(make_streaming_pipeline(BN(), Ridge()))),
    "last": lambda ttr: make_streaming_pipeline(BN(), ttr(Ridge())),
    "search": lambda ttr: GridSearchCV(ttr(Ridge()), {}, cv=2),
    "fitted once": lambda ttr: FitOnce(ttr(Ridge())),
    "outputs": lambda ttr: MultiOutputRegressor(ttr(Ridge())),
    "of outputs": lambda ttr: ttr(MultiOutputRegressor(Ridge())),
    "voting": lambda ttr: VotingRegressor([("a", ttr(Ridge())), ("b", Ridge())]),
    "stacking": lambda ttr: StackingRegressor(
        [("a", ttr(Ridge())), ("b", Ridge())], final_estimator=ttr(Ridge()), cv=2
    ),
    "bagging": lambda ttr: BaggingRegressor(
        ttr(make_streaming_pipeline(BN(), Ridge())), n_estimators=2, random_state=0
    ),
}
SEVERAL = {"alone", "default", "of a pipeline", "of another", "last", "search"}
SEVERAL |= {"fitted once", "outputs", "of outputs"}


@pytest.mark.parametrize("place", TARGET_PLACES)
@pytest.mark.parametrize(
    ("dtype", "kind", "n_outputs"),
    [
        ("float32", StreamingTransformedTargetRegressor, 1),
        ("float64", TransformedTargetRegressor, 1),
        ("float64", StreamingTransformedTargetRegressor, 3),
        ("int64", TransformedTargetRegressor, 3),
    ],
)
def test_target_anywhere(dtype, kind, place, n_outputs):
    n_outputs = n_outputs if place in SEVERAL else 1
    if dtype == "int64" and place == "stacking":
        pytest.skip("skl2onnx stacks none of integers")
    X = np.random.default_rng(0).normal(3.0, 50.0, (60, 4)).astype(dtype)
    coef = np.arange(4 * n_outputs).reshape(4, -1) * [1.0, -9.0, 90.0][:n_outputs]
    y = 1000 + X @ coef
    y = y if "outputs" in place or n_outputs > 1 else y[:, 0]
    model = TARGET_PLACES[place](
        lambda regressor: kind(regressor, transformer=BN(weight_init=2, bias_init=1))
    )
    expected = model.fit(X, y).predict(X)
    (output,) = run_model(model, X).values()
    dtype = "float32" if dtype == "int64" else dtype
    assert output.dtype == dtype
    assert output.shape == (60, n_outputs)
    tolerance = TOLERANCE[dtype]
    atol = tolerance * expected.std()
    assert_allclose(output, expected.reshape(output.shape), rtol=tolerance, atol=atol)


@pytest.mark.parametrize("kind", TARGET_REGRESSORS)
def test_target_of_one_column(kind):
    X, _ = rows()
    model = kind(Ridge(), transformer=BN()).fit(X, X[:, :1])
    assert_same_prediction(model, X, "float32")


def test_transformers_of_dask():
    dask = pytest.importorskip("sk_batchnorm.dask")
    X, _ = rows()
    bn = dask.DaskBatchNorm1dTransformer().fit(X)
    assert_same_transform(bn, X, "float32")
    model = TransformedTargetRegressor(Ridge(), transformer=bn).fit(X, X[:, 0])
    assert_same_prediction(model, X, "float32")


def test_target_of_a_tree_that_computes_float32():
    X = rows()[0].astype(float)
    model = TransformedTargetRegressor(
        RandomForestRegressor(2, random_state=0), transformer=StandardScaler()
    )
    (output,) = run_model(model.fit(X, X[:, 0]), X).values()
    assert output.dtype == np.float64
    assert_allclose(output[:, 0], model.predict(X), rtol=1e-5)


@pytest.mark.parametrize("opset", [11, 15, 18])
def test_nest_by_opset(opset):
    X, y = table("float32")
    model = StreamingTransformedTargetRegressor(nest(regress()), transformer=BN())
    learned(model, X, y)
    graph = assert_same_prediction(model, X, "float32", target_opset=opset)
    assert {each.domain: each.version for each in graph.opset_import}[""] <= opset


def test_nest_by_given_types():
    X, y = table("float32")
    model = StreamingTransformedTargetRegressor(nest(regress()), transformer=BN())
    learned(model, X, y)
    graph = to_onnx(
        model,
        initial_types=data_types.guess_data_type(X),
        final_types=[("delay", data_types.DoubleTensorType([None, 1]))],
    )
    assert [each.name for each in graph.graph.output] == ["delay"]
    for (output,) in outputs(graph, X):
        assert output.dtype == np.float64
        assert_allclose(output[:, 0], model.predict(X), rtol=1e-5)


class Outdone(BatchNorm1dTransformer):
    def inverse_transform(self, X, copy=None):
        return super().inverse_transform(X, copy) + 1


@pytest.mark.parametrize("kind", TARGET_REGRESSORS)
@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"func": np.log1p, "inverse_func": np.expm1},
            "func and inverse_func can't be converted to ONNX. The transformer of the "
            "target may be a BatchNorm1dTransformer, StandardScaler, .* or a Pipeline",
        ),
        (
            {"transformer": RobustScaler()},
            "inverse of RobustScaler can't be .* BatchNorm1dTransformer, StandardScal",
        ),
        ({"transformer": make_pipeline(BN(), RobustScaler())}, "inverse of RobustScal"),
        ({"transformer": Outdone()}, "inverse of Outdone can't be converted"),
    ],
    ids=["func", "other", "pipeline", "subclass"],
)
def test_target_that_can_t_be_converted(kind, params, message):
    X, _ = rows()
    model = kind(Ridge(), check_inverse=False, **params).fit(X, np.abs(X[:, 0]))
    with pytest.raises(NotImplementedError, match=message):
        to_onnx(model, X)


def test_target_that_predict_refuses():
    X, _ = rows()
    model = TransformedTargetRegressor(Ridge(), transformer=BN()).fit(X, X[:, 0])
    model.transformer_.weight_ = np.zeros(1)
    with pytest.raises(ValueError, match="can't undo a weight_ of 0"):
        model.predict(X)
    with pytest.raises(ValueError, match="can't undo a weight_ of 0"):
        to_onnx(model, X)
    model.transformer_ = BN(track_running_stats=False).fit(X[:, :1])
    with pytest.raises(ValueError, match="needs running statistics"):
        to_onnx(model, X)


def test_target_of_two_results():
    X, _ = rows()
    bayes = TransformedTargetRegressor(BayesianRidge(), transformer=BN())
    bayes.fit(X, X[:, 0])
    options = {id(bayes.regressor_): {"return_std": True}}
    with pytest.raises(ValueError, match="predict one array; it is .* to 2 ONNX"):
        to_onnx(bayes, X, options=options)


def test_subclasses_of_compositions():
    class Columns(StreamingColumnTransformer):
        pass

    class Union(StreamingFeatureUnion):
        pass

    class Target(StreamingTransformedTargetRegressor):
        pass

    class Once(FitOnce):
        pass

    X, y = table()
    columns = Columns(
        [("numbers", BN(), ["dew", "temp"]), ("words", Once(OneHotEncoder()), [0])]
    )
    union = Union([("no", "drop"), ("bn", BN())])
    pipe = SubclassedPipeline([("a", columns), ("b", union), ("c", regress())])
    model = Target(pipe, transformer=Named())
    assert_same_prediction(learned(model, X, y), X, "float64")


# Subclasses


class Named(BatchNorm1dTransformer):
    """Knows another thing, and normalises as its parent does."""


class Rectified(BatchNorm1dTransformer):
    def transform(self, X, copy=None):
        return np.maximum(super().transform(X, copy), 0)


class Mixin:
    def transform(self, X, copy=None):
        return super().transform(X, copy) + 1


class Mixed(Mixin, BatchNorm1dTransformer):
    pass


def test_subclass():
    class Later(Named):
        pass

    X, y = rows()
    for kind in (Named, Later):
        graph = assert_same_transform(kind().fit(X), X, "float32")
        assert node_types(graph) == ["BatchNormalization"]
        pipe = make_pipeline(kind(), LR()).fit(X, y)
        label, _ = run_model(pipe, X).values()
        assert_array_equal(label, pipe.predict(X))
    integers = np.arange(12).reshape(4, 3)
    assert_same_transform(Named().fit(integers), integers, "float32")


@pytest.mark.parametrize("kind", [Rectified, Mixed])
def test_subclass_with_another_transform(kind):
    X, _ = rows()
    with pytest.raises(NotImplementedError, match="has a transform of its own"):
        to_onnx(kind().fit(X), X)


def test_subclass_with_a_converter_of_its_own():
    class Shifted(BatchNorm1dTransformer):
        def transform(self, X, copy=None):
            return super().transform(X, copy) + 1

    def convert(scope, operator, container):
        bn = clone(operator.raw_operator)
        plain = BN(**bn.get_params())
        plain.load_state_dict(operator.raw_operator.state_dict())
        plain.bias_ = plain.bias_ + 1
        operator.raw_operator = plain
        sk_batchnorm.onnx._convert(scope, operator, container)

    skl2onnx.update_registered_converter(
        Shifted, "Shifted", sk_batchnorm.onnx._calculate_shape, convert
    )
    X, _ = rows()
    assert_same_transform(Shifted().fit(X), X, "float32")


BOUNDS = {"clip": 0.7, "handle_missing": "mean"}


@pytest.mark.parametrize(
    ("settings", "nodes"),
    [
        ({"clip": 0.7}, ["Clip"]),
        ({"clip": 0.7, "affine": False}, ["Clip"]),
        ({"clip": 0.7, "weight_init": 2.0}, ["Clip", "BatchNormalization"]),
        ({"clip": 0.7, "bias_init": 2.0}, ["Clip", "BatchNormalization"]),
        ({"handle_missing": "mean", "bias_init": 2.0}, ["IsNaN", "Where"]),
        (BOUNDS, ["Clip", "IsNaN", "Where"]),
    ],
    ids=str,
)
@pytest.mark.parametrize(("dtype", "trailing"), [("float32", ()), ("float64", (4,))])
def test_nodes_that_limit_and_fill(settings, nodes, dtype, trailing):
    """At every length, as NaN passes through vectors of processors in another way."""
    rng = np.random.default_rng(0)
    bn = BN(**settings).fit(rng.normal(1.0, 3.0, (100, 3)))
    for n_rows in (1, 2, 3, 50, 1001):
        X = rng.normal(1.0, 3.0, (n_rows, 3, *trailing)).astype(dtype)
        X[rng.random(X.shape) < 0.3] = np.nan
        graph = assert_same_transform(bn, X, dtype)
        assert node_types(graph) == ["BatchNormalization", *nodes]
        # Beyond the limit, and where a value is missing, to the bit.
        out = bn.transform(X)
        sure = np.isnan(X)
        if bn.clip:
            wide = (1, 3, *[1] * len(trailing))
            std = np.sqrt(bn.running_var_ + 1e-5).reshape(wide)
            normalised = (X - bn.running_mean_.reshape(wide)) / std
            with np.errstate(invalid="ignore"):
                sure |= np.abs(normalised) > 0.7 * (1 + 1e-5)
        for (output,) in outputs(graph, X):
            assert_array_equal(output[sure], out[sure])
    integers = rng.integers(0, 100, (50, 3)) + 2**40
    assert_same_transform(clone(bn).fit(integers), integers, "float32")


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.filterwarnings("ignore:Too few observed values")
def test_a_feature_never_observed_is_filled(with_mean, track):
    X = np.random.default_rng(0).normal(3.0, 1.0, (20, 3))
    X[:, 1] = np.nan
    X[::3, 2] = np.nan
    bn = BN(
        with_mean=with_mean, track_running_stats=track, bias_init=2.0, **BOUNDS
    ).fit(X)
    for (output,) in outputs(assert_same_transform(bn, X, "float64"), X):
        assert_array_equal(output[:, 1], 2.0)


OPSETS = range(9, skl2onnx.get_latest_tested_opset_version() + 1)


@pytest.mark.parametrize("tracking", [True, False])
@pytest.mark.parametrize("opset", OPSETS)
def test_opsets(opset, tracking):
    rng, dtype = np.random.default_rng(0), ["float32", "float64"][opset % 2]
    X = rng.normal(100.0, 1.0, (9, 3, 2)).astype("float32")
    bn = BN(track_running_stats=tracking).fit(X)
    graph = assert_same_transform(bn, X, "float32", target_opset=opset)
    assert graph.opset_import[0].version == opset
    X = rng.normal(3.0, 1.0, (9, 3, 2)).astype(dtype)
    bn = BN(track_running_stats=tracking, bias_init=0.5, **BOUNDS)
    bn.fit(X)
    X[4:7, 0] = np.nan
    assert_same_transform(bn, X, dtype, target_opset=opset)
    bn.set_params(handle_missing="keep")
    assert_same_transform(bn, X, dtype, target_opset=opset)


def test_settings_and_numbers_assigned_after_fit():
    X = np.random.default_rng(0).normal(3.0, 1.0, (20, 3))
    bn = BN().fit(X)
    bn.set_params(eps=2, with_mean=False)
    bn.weight_, bn.bias_ = [1, -2, 3], np.arange(3, dtype=np.float32)
    assert_same_transform(bn, X, "float64")
    bn.set_params(track_running_stats=False)  # of no effect before the next fit
    assert node_types(assert_same_transform(bn, X, "float64")) == ["BatchNormalization"]
    bn.fit(X)
    assert "IsNaN" in node_types(assert_same_transform(bn, X, "float64"))


def test_learned_from_sparse_data():
    dense = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    dense[dense < 0.5] = 0.0
    X = sparse.csr_array(dense)
    bn = BN(with_mean=False).fit(X)
    assert_same_transform(bn, dense, "float32")
    with pytest.raises(TypeError, match="unable to guess type"):
        to_onnx(bn, X)


def test_the_number_of_time_points_may_be_left_open():
    X = np.random.default_rng(0).normal(size=(10, 3, 8))
    for tracking in (True, False):
        bn = BN(track_running_stats=tracking).fit(X)
        kind = data_types.DoubleTensorType([None, 3, None])
        graph = to_onnx(bn, initial_types=[("X", kind)])
        for n in (8, 5):
            for (output,) in outputs(graph, X[..., :n]):
                assert_allclose(output, bn.transform(X[..., :n]), atol=1e-12)


def test_the_number_of_features_may_be_left_open():
    X = np.random.default_rng(0).normal(size=(10, 3))
    kind = data_types.DoubleTensorType([None, None])
    graph = assert_same_transform(
        BN().fit(X), X, "float64", initial_types=[("X", kind)]
    )
    assert graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 3


def test_what_transform_refuses_a_graph_does_not():
    X = np.array([[0.0, 1.0], [2.0, 2.0]])
    bn = BN(bias_init=5.0).fit(X)
    infinite = np.array([[np.inf, 2.0]])
    for (output,) in outputs(to_onnx(bn, X), infinite):
        assert output[0, 0] == np.inf
    bn = BN(bias_init=5.0, track_running_stats=False).fit(X)
    for (output,) in outputs(to_onnx(bn, X), X[:1]):
        assert_array_equal(output, [[5.0, 5.0]])


@pytest.mark.parametrize(
    "model",
    [
        BN(),
        make_pipeline(BN(), Ridge()),
        FrozenEstimator(BN()),
        FitOnce(OneHotEncoder()),
        make_streaming_column_transformer((BN(), [0])),
        make_streaming_union(BN()),
        StreamingTransformedTargetRegressor(Ridge()),
        TransformedTargetRegressor(Ridge()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_not_fitted(model):
    with pytest.raises(NotFittedError):
        to_onnx(model, X)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (data_types.FloatTensorType([None, 4]), "has 4 features, .* expecting 3"),
        (data_types.FloatTensorType([None, 4, 3]), "has 4 features, .* expecting 3"),
        (data_types.FloatTensorType([None]), r"shape \[None\]; expected"),
        (data_types.FloatTensorType([None, 3, 1, 1]), "expected .*n_features"),
        (data_types.FloatTensorType(), r"shape \[\]; expected"),
        (data_types.StringTensorType([None, 3]), "StringTensorType.*not a real number"),
    ],
)
def test_input_of_another_kind(kind, message):
    bn = BN().fit(np.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match=message):
        to_onnx(bn, initial_types=[("X", kind)])


def test_three_dimensions_can_t_come_in_parts():
    bn = BN().fit(np.arange(8.0).reshape(2, 2, 2))
    parts = [(name, data_types.FloatTensorType([None, 1, 2])) for name in "ab"]
    with pytest.raises(ValueError, match=r"shape \[None, 1, 2\], \[None, 1, 2\];"):
        to_onnx(bn, initial_types=parts)


def test_what_transform_would_refuse():
    X = np.arange(6.0).reshape(2, 3)
    bn = BN().fit(X)
    bn.weight_ = np.ones(2)
    with pytest.raises(ValueError, match=r"weight_ has shape \(2,\), expected \(3,\)"):
        to_onnx(bn, X)
    with pytest.raises(InvalidParameterError, match="eps"):
        to_onnx(BN().fit(X).set_params(eps=-1.0), X)


def test_importing_it_again_changes_nothing():
    X = np.random.default_rng(0).normal(size=(10, 3))
    bn = BN().fit(X)
    before = to_onnx(bn, X)
    importlib.reload(sk_batchnorm.onnx)
    assert to_onnx(bn, X) == before


def test_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    monkeypatch.delitem(sys.modules, "sk_batchnorm.onnx")
    message = r'needs skl2onnx.* pip install "sk-batchnorm\[onnx\]"'
    with pytest.raises(ImportError, match=message):
        importlib.import_module("sk_batchnorm.onnx")
