"""A pipeline and a union learn what their steps learn by hand, in all or in none.

What all compositions have in common is in test_streaming.py.
"""

import copyreg
import re
import threading
import warnings
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    Perceptron,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    StandardScaler,
)
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm._compat import InvalidParameterError
from sk_batchnorm._streaming import _deepcopy
from sk_batchnorm._transformer import REPLACED
from sk_batchnorm.pipeline import (
    StreamingFeatureUnion,
    StreamingPipeline,
    make_streaming_pipeline,
)

from .laws import bits, unchanged
from .nests import attributes, with_routing

RNG = np.random.default_rng(0)
N_FEATURES = 4
CLASSES = [0, 1, 2]
X_OLD = RNG.normal(size=(50, N_FEATURES))
X_IRIS, Y_IRIS = load_iris(return_X_y=True, as_frame=True)
IRIS = X_IRIS.to_numpy(), Y_IRIS.to_numpy()


def minibatch(seed, n_samples=20):
    rng = np.random.default_rng(seed)
    X = rng.normal(loc=rng.normal(size=N_FEATURES), size=(n_samples, N_FEATURES))
    return X, rng.integers(0, len(CLASSES), n_samples)


def bn_and_sgd(**params):
    return StreamingPipeline(
        [("bn", BatchNorm1dTransformer()), ("clf", SGDClassifier(random_state=0))],
        **params,
    )


# The same as stepping by hand

TRANSFORMERS = [
    BatchNorm1dTransformer(),
    BatchNorm1dTransformer(variance="total", momentum=None, bias_correction=True),
    StandardScaler(),
    MinMaxScaler(),
    MaxAbsScaler(),
    Normalizer(),
    FunctionTransformer(np.tanh),
    FrozenEstimator(StandardScaler().fit(X_OLD)),
    FrozenEstimator(PCA(N_FEATURES).fit(X_OLD)),
    "passthrough",
    None,
    make_streaming_pipeline(StandardScaler(), Normalizer(), BatchNorm1dTransformer()),
    make_streaming_pipeline(make_streaming_pipeline(MaxAbsScaler())),
]
FINAL = [
    *TRANSFORMERS,
    SGDClassifier(random_state=0),
    SGDClassifier(random_state=np.random.RandomState(0), average=10),
    SGDRegressor(random_state=0, average=True),
    Perceptron(random_state=0),
    GaussianNB(),
    MLPClassifier(5, random_state=0),
    MiniBatchKMeans(2, n_init=1, random_state=np.random.RandomState(1)),
    FrozenEstimator(GaussianNB().fit(*IRIS)),
]


def step_by_hand(steps, X, y):
    """What StreamingPipeline is to do, on steps that it does not touch."""
    for _, step in steps:
        if step is None or step == "passthrough":
            continue
        if isinstance(step, StreamingPipeline):
            X = step_by_hand(step.steps, X, y)
            continue
        if isinstance(step, (Normalizer, FunctionTransformer)):
            step.fit(X)
        elif not isinstance(step, FrozenEstimator):
            takes_classes = isinstance(step, ClassifierMixin)
            step.partial_fit(X, y, **({"classes": CLASSES} if takes_classes else {}))
        if hasattr(step, "transform"):
            X = step.transform(X)
    return X


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, len(TRANSFORMERS) - 1), max_size=4),
    st.integers(0, len(FINAL) - 1),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
)
def test_the_same_as_stepping_by_hand(transformers, final, seeds):
    steps = [TRANSFORMERS[i] for i in transformers] + [FINAL[final]]
    # Not clones, which would not share the step that comes twice.
    original = make_streaming_pipeline(*steps)
    pipe, by_hand = deepcopy(original), deepcopy(original)
    takes_classes = isinstance(FINAL[final], ClassifierMixin)
    kwargs = {"classes": CLASSES} if takes_classes else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the steps; the same for both
        for seed in seeds:
            X, y = minibatch(seed)
            assert pipe.partial_fit(X, y, **kwargs) is pipe
            step_by_hand(by_hand.steps, X, y)
            assert attributes(pipe) == attributes(by_hand)


def test_predicts_after_the_first_mini_batch():
    X, y = minibatch(0)
    pipe = bn_and_sgd()
    with pytest.raises(NotFittedError):
        check_is_fitted(pipe)
    pipe.partial_fit(X, y, classes=CLASSES)
    check_is_fitted(pipe)
    Z = pipe[0].transform(X)
    assert_array_equal(pipe.predict(X), pipe[1].predict(Z))
    assert_array_equal(pipe.decision_function(X), pipe[1].decision_function(Z))
    assert pipe.score(X, y) == pipe[1].score(Z, y)
    assert_array_equal(pipe.classes_, CLASSES)
    assert pipe.n_features_in_ == N_FEATURES
    head = pipe[:1]
    assert type(head) is type(clone(pipe)) is StreamingPipeline
    assert_array_equal(head.transform(X), Z)
    head.partial_fit(X)
    assert pipe["bn"] is pipe.named_steps.bn is pipe[0]
    assert pipe[0].num_batches_tracked_ == 2


# All or nothing


class Counts(TransformerMixin, BaseEstimator):
    """Counts in place."""

    def __init__(self, name=None):
        self.name = name

    def fit(self, X, y=None):
        return self

    def partial_fit(self, X, y=None):
        if not hasattr(self, "count_"):
            self.count_ = np.zeros(1)
            self.seen_ = []
        self.count_ += 1
        self.seen_.append(X.sum())
        return self

    def transform(self, X):
        return X


def overwrite(value, seen):
    """Write to all that can be written to, as deep as there is something."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "if" and value.flags.owndata:
            value.flags.writeable = True  # even to what is read-only
        if value.flags.writeable:
            value[...] = -1
    elif isinstance(value, list):
        for each in value:
            overwrite(each, seen)
        value.append("written")
    elif isinstance(value, dict):
        for each in list(value.values()):
            overwrite(each, seen)
        value["written"] = True
    elif hasattr(value, "__dict__"):
        overwrite(vars(value), seen)


class Vandal:
    """A step that overwrites all that it has, then fails; or only fails."""

    armed = False

    def partial_fit(self, X, y=None, **kwargs):
        super().partial_fit(X, y, **kwargs)
        if self.armed:
            overwrite(self, {})
            raise ValueError("overwritten")
        return self


class VandalBatchNorm(Vandal, BatchNorm1dTransformer):
    pass


class VandalSGD(Vandal, SGDRegressor):
    def transform(self, X):
        return X


class VandalKMeans(Vandal, MiniBatchKMeans):
    pass


class VandalCounts(Vandal, Counts):
    pass


class VandalOfOurNames(VandalCounts):
    """Has what a BatchNorm1dTransformer has, and writes to it."""

    def __init__(self):
        super().__init__()
        for name in REPLACED:
            setattr(self, name, [name])


class VandalPipeline(Vandal, StreamingPipeline):
    pass


@pytest.mark.parametrize("n_before", [0, 2])
@pytest.mark.parametrize(
    "vandal",
    [
        VandalBatchNorm(weight_init=[1.0] * N_FEATURES),
        VandalSGD(random_state=np.random.RandomState(0), average=True),
        VandalKMeans(2, n_init=1, random_state=0),
        VandalCounts(),
        VandalOfOurNames(),
        VandalPipeline(
            [
                ("bn", BatchNorm1dTransformer()),
                ("sub", StreamingPipeline([("a", None)])),
            ]
        ),
    ],
    ids=lambda step: type(step).__name__,
)
@pytest.mark.parametrize("shares", [False, True])
def test_a_step_that_overwrites_all_and_fails(vandal, n_before, shares):
    bn = BatchNorm1dTransformer(bias_init=[1.0] * N_FEATURES)
    vandal = deepcopy(vandal)
    pipe = make_streaming_pipeline(bn, make_streaming_pipeline(vandal), "passthrough")
    for seed in range(n_before):
        pipe.partial_fit(*minibatch(seed))
    if shares:
        # Mutable parts of the first step, and all of the pipeline around it.
        vandal.shared_ = [vars(bn).get("weight_"), bn.bias_init]
        vandal.others_ = {"bn": bn, "inner": pipe[1]}
    vandal.armed = True
    parts, before = [pipe[0], pipe[1], pipe[1][0]], attributes(pipe)
    with unchanged(pipe), pytest.raises(ValueError, match="overwritten"):
        pipe.partial_fit(*minibatch(9))
    assert attributes(pipe) == before
    after = [pipe[0], pipe[1], pipe[1][0]]
    assert all(a is b for a, b in zip(parts, after, strict=True))


def test_weights_that_a_step_writes_to_stay_shared():
    class Trainer(Counts):
        def partial_fit(self, X, y=None):
            self.weight_ *= 2
            self.init_[0] += 1
            return super().partial_fit(X, y)

    for order in (1, -1):
        bn = BatchNorm1dTransformer(weight_init=[1.0] * N_FEATURES)
        bn.partial_fit(X_OLD)
        trainer = Trainer()
        trainer.weight_, trainer.init_ = bn.weight_, bn.weight_init
        weight = bn.weight_
        pipe = make_streaming_pipeline(*[bn, trainer][::order])
        for _ in range(2):
            pipe.partial_fit(X_OLD)
        assert bn.weight_ is trainer.weight_
        assert bn.weight_init is trainer.init_
        assert_array_equal(bn.weight_, [4.0] * N_FEATURES)
        assert bn.weight_init == [3.0] + [1.0] * (N_FEATURES - 1)
        assert_array_equal(weight, np.ones(N_FEATURES))


def test_what_forward_remembers_is_kept_as_by_hand():
    bn, by_hand = BatchNorm1dTransformer(), BatchNorm1dTransformer()
    pipe = make_streaming_pipeline(make_streaming_pipeline(bn))
    for step in (bn, by_hand):
        step.forward(X_OLD)
    pipe.partial_fit(X_OLD)
    by_hand.partial_fit(X_OLD)
    assert_array_equal(bn.backward(X_OLD), by_hand.backward(X_OLD))
    assert attributes(bn) == attributes(by_hand)


class DeepCopies(Counts):
    def __deepcopy__(self, memo):
        copied = clone(self)
        copied.way_ = "__deepcopy__"
        return copied


class Reduces(Counts):
    def __reduce__(self):
        return Reduces, ("reduced",)


class HasState(Counts):
    def __getstate__(self):
        return {**super().__getstate__(), "lock_": None}

    def __setstate__(self, state):
        super().__setstate__({**state, "lock_": threading.Lock()})


class StateBehind:
    def __setstate__(self, state):
        self.__dict__.update(state, way_="behind")


class HasStateBehind(Counts, StateBehind):
    """BaseEstimator hands the state on to the class after it."""


class Forwards(Counts):
    def __getattr__(self, name):
        if name == "__deepcopy__":
            return lambda memo: Counts("forwarded")
        raise AttributeError(name)


class Registered(Counts):
    pass


copyreg.pickle(Registered, lambda step: (Registered, ("registered",)))


@pytest.mark.parametrize(
    ("step", "name", "value"),
    [
        (DeepCopies(), "way_", "__deepcopy__"),
        (Reduces(), "name", "reduced"),
        (HasStateBehind(), "way_", "behind"),
        (Forwards(), "name", "forwarded"),
        (Registered(), "name", "registered"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_step_is_copied_in_its_own_way(step, name, value, nested):
    step = clone(step)
    inner = make_streaming_pipeline(step)
    pipe = make_streaming_pipeline(inner) if nested else inner
    pipe.partial_fit(X_OLD)
    assert inner[0] is step
    assert vars(step)[name] == value
    assert step.count_ == 1


def test_a_step_that_copies_itself_without_its_lock():
    step = HasState()
    step.lock_ = threading.Lock()
    make_streaming_pipeline(step).partial_fit(X_OLD)
    assert step.count_ == 1
    assert isinstance(step.lock_, type(threading.Lock()))


def test_an_attribute_that_comes_meanwhile():
    class Late:
        def __deepcopy__(self, memo):
            step.cache_ = "of another thread"
            return self

    step = Counts()
    step.late_ = Late()
    assert make_streaming_pipeline(step).partial_fit(X_OLD)[0].count_ == 1


def test_copies_do_not_check_as_files_do(monkeypatch):
    class Plain(BatchNorm1dTransformer):
        pass

    bn = Plain().partial_fit(np.arange(6.0).reshape(3, 2))
    monkeypatch.setattr(BatchNorm1dTransformer, "__setstate__", None)
    copied = _deepcopy(bn, {})
    assert type(copied) is Plain
    assert_array_equal(copied.running_mean_, bn.running_mean_)
    assert copied.weight_ is not bn.weight_


@pytest.mark.parametrize("step", FINAL, ids=lambda step: type(step).__name__)
def test_copies_are_those_of_deepcopy(step):
    if step in (None, "passthrough"):
        pytest.skip("nothing to copy")
    step = deepcopy(step)
    if not isinstance(step, (FrozenEstimator, StreamingPipeline)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step.fit(*IRIS)
    ours, theirs = _deepcopy(step, {}), deepcopy(step)
    assert type(ours) is type(step)
    assert list(vars(ours)) == list(vars(theirs))
    assert attributes(ours) == attributes(theirs) == attributes(step)


@pytest.mark.parametrize(
    ("X", "y"),
    [
        ([[np.inf] * N_FEATURES] * 3, [0, 1, 2]),
        (np.ones((3, N_FEATURES + 1)), [0, 1, 2]),
        (np.ones((3, N_FEATURES)), [0, 1]),
        (np.ones((3, N_FEATURES)), [0, 1, 7]),
        (np.ones((1, N_FEATURES)), [0]),
        ([["a"] * N_FEATURES] * 3, [0, 1, 2]),
        (np.ones((3, N_FEATURES)), None),
    ],
)
def test_bad_mini_batches_leave_no_trace(X, y):
    pipe = bn_and_sgd().partial_fit(*minibatch(0), classes=CLASSES)
    with unchanged(pipe), pytest.raises((ValueError, TypeError)):
        pipe.partial_fit(X, y)


def test_what_steps_share_they_still_share():
    rng = np.random.RandomState(0)
    pipe = make_streaming_pipeline(
        StreamingPipeline([("a", Counts()), ("b", "passthrough")]),
        MiniBatchKMeans(2, n_init=1, random_state=rng),
        SGDClassifier(random_state=rng),
    )
    by_hand = deepcopy(pipe)
    for seed in range(3):
        pipe.partial_fit(*minibatch(seed), classes=CLASSES)
        step_by_hand(by_hand.steps, *minibatch(seed))
    assert pipe[1].random_state is pipe[2].random_state
    assert attributes(pipe) == attributes(by_hand)


def test_others_see_a_step_before_or_after():
    class Observer(Counts):
        def partial_fit(self, X, y=None):
            seen.append((bn.num_batches_tracked_, clf.t_, clf.coef_.copy()))
            return super().partial_fit(X, y)

    bn, clf, seen = BatchNorm1dTransformer(), SGDClassifier(random_state=0), []
    make_streaming_pipeline(bn, clf).partial_fit(*minibatch(0), classes=CLASSES)
    before, copied = clf.coef_, clf.coef_.copy()
    # A classifier that transforms, so that the observer can come last.
    clf.transform = clf.decision_function
    pipe = make_streaming_pipeline(bn, make_streaming_pipeline(clf), Observer())
    pipe.partial_fit(*minibatch(1))
    [(count, t, coef)] = seen
    assert (count, t) == (1, 21)
    assert_array_equal(coef, copied)
    assert_array_equal(before, copied)  # not written to, even afterwards
    assert (bn.num_batches_tracked_, clf.t_) == (2, 41)


def test_a_step_that_can_not_be_copied():
    """Is an error before anything has learned, and says which it is."""

    class Slotted:
        __slots__ = ()
        fit = partial_fit = transform = None

    locked = Counts()
    locked.lock_ = threading.Lock()
    bn = BatchNorm1dTransformer()
    for step in (locked, Slotted()):
        inner = StreamingPipeline([("x", step), ("last", None)])
        for x, path in ((step, "x"), (inner, "x.x")):
            pipe = StreamingPipeline([("bn", bn), ("x", x), ("clf", SGDClassifier())])
            message = rf"Part '{path}' \({type(step).__name__}\) can't be copied"
            with unchanged(bn), pytest.raises(TypeError, match=message):
                pipe.partial_fit(*minibatch(0), classes=CLASSES)


def test_steps_may_change_in_mid_stream():
    X, y = minibatch(0)
    pipe = bn_and_sgd().partial_fit(X, y, classes=CLASSES)
    clf, before = pipe[1], bits(pipe)
    for bad, error, match in [
        ({"bn__momentum": 2}, InvalidParameterError, "'momentum'"),
        ({"verbose": "loud"}, InvalidParameterError, "'verbose'"),
        ({"bn": PCA()}, AttributeError, "can only fit"),
        ({"bn": SGDClassifier()}, TypeError, "should be transformers"),
        ({"steps": ()}, ValueError, "empty"),
        ({"steps": [("a__b", clf)]}, ValueError, "must not contain __"),
    ]:
        good = {name: pipe.get_params()[name] for name in bad}
        for _ in range(2):
            with pytest.raises(error, match=match):
                pipe.set_params(**bad).partial_fit(X, y)
        assert bits(pipe.set_params(**good)) == before

    pipe.partial_fit(X, y)
    pipe.steps[0] = ("scale", StandardScaler())
    pipe.partial_fit(X, y)
    assert pipe[0].n_samples_seen_ == 20
    pipe.steps.insert(0, ("nested", make_streaming_pipeline(BatchNorm1dTransformer())))
    pipe.partial_fit(X, y)
    assert pipe[0][0].num_batches_tracked_ == 1
    pipe.steps[1] = ("nested", StandardScaler())
    with pytest.raises(ValueError, match="not unique"):
        pipe.partial_fit(X, y)
    assert clf.t_ == 81


# What each step does


def test_frozen_steps_are_left_alone():
    X, y = minibatch(0)
    scaler = StandardScaler().fit(X_OLD)  # has a partial_fit
    bn = BatchNorm1dTransformer().fit(X_OLD)
    clf = GaussianNB().fit(*IRIS)
    frozen = FrozenEstimator(scaler), FrozenEstimator(make_pipeline(bn))
    pipe = make_streaming_pipeline(*frozen, BatchNorm1dTransformer())
    with unchanged(scaler, bn, clf):
        pipe.partial_fit(X, y)
    assert pipe[0].estimator is scaler
    expected = BatchNorm1dTransformer().partial_fit(bn.transform(scaler.transform(X)))
    assert_array_equal(pipe[2].running_var_, expected.running_var_)

    last = make_streaming_pipeline(BatchNorm1dTransformer(), FrozenEstimator(clf))
    with unchanged(clf):
        last.partial_fit(X)
    assert last[0].num_batches_tracked_ == 1
    assert_array_equal(last.predict(X), clf.predict(last[0].transform(X)))


@pytest.mark.parametrize("where", [0, 1])
def test_a_frozen_step_must_be_fitted(where):
    steps = [BatchNorm1dTransformer()]
    steps.insert(where, FrozenEstimator(StandardScaler()))
    pipe = make_streaming_pipeline(*steps)
    with pytest.raises(NotFittedError, match="StandardScaler instance is not fitted"):
        pipe.partial_fit(X_OLD)
    assert not hasattr(pipe[1 - where], "n_features_in_")


def test_text_streams_through_a_hashing_vectorizer():
    text, y = ["to be", "or not", "to be"], [0, 1, 0]
    pipe = make_streaming_pipeline(
        HashingVectorizer(n_features=16),
        BatchNorm1dTransformer(with_mean=False, bias_correction=True),
        SGDClassifier(random_state=0),
    )
    assert_array_equal(pipe.partial_fit(text, y, classes=[0, 1]).predict(text), y)


def test_stateless_steps_know_the_features():
    frame = X_IRIS.iloc[:20]
    pipe = make_streaming_pipeline(
        FunctionTransformer(feature_names_out="one-to-one"),
        Normalizer(),
        BatchNorm1dTransformer(),
    ).set_output(transform="pandas")
    pipe.partial_fit(frame)
    assert pipe.n_features_in_ == 4
    assert_array_equal(pipe.feature_names_in_, X_IRIS.columns)
    assert_array_equal(pipe.get_feature_names_out(), X_IRIS.columns)
    assert_array_equal(pipe.transform(frame).columns, X_IRIS.columns)
    assert_array_equal(pipe[2].feature_names_in_, X_IRIS.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        pipe[1:].partial_fit(frame.iloc[:, ::-1])
    assert pipe[2].num_batches_tracked_ == 1


@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (PCA(), "'x' (PCA) can only fit: let the first mini-batch fit it"),
        (ColumnTransformer([]), "make it a StreamingColumnTransformer"),
        (FeatureUnion([("bn", BatchNorm1dTransformer())]), "'x' (FeatureUnion)"),
        (make_pipeline(StandardScaler()), "'x' (Pipeline) can only fit: make it a Str"),
        (make_streaming_pipeline("passthrough", PCA()), "'x.pca' (PCA)"),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_step_that_can_only_fit(step, advice, last):
    bn = BatchNorm1dTransformer()
    steps = [("bn", bn), ("x", step), ("clf", SGDClassifier())]
    pipe = StreamingPipeline(steps[:2] if last else steps)
    assert not hasattr(pipe, "partial_fit")
    with pytest.raises(AttributeError, match=re.escape(advice)):
        pipe.partial_fit(X_OLD)
    with pytest.raises(AttributeError, match=re.escape(advice)):
        StreamingPipeline.partial_fit(pipe, X_OLD)
    assert not hasattr(bn, "n_features_in_")
    pipe.set_params(x="passthrough")
    assert hasattr(pipe, "partial_fit")


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        ([], ValueError, "pipeline is empty"),
        ("bn", InvalidParameterError, "'steps' parameter"),
        ([("a", None), ("a", None)], ValueError, "not unique"),
        ([("a__b", None)], ValueError, "must not contain __"),
        ([("a", 3), ("b", None)], TypeError, "should be transformers"),
        ([("a", SGDClassifier()), ("b", None)], TypeError, "should be transformers"),
        ([1, 2], TypeError, None),
    ],
)
def test_malformed_steps(steps, error, message):
    with pytest.raises(error, match=message):
        StreamingPipeline(steps).partial_fit(X_OLD)
    with pytest.raises(error):
        StreamingPipeline(steps).fit(X_OLD)


def test_nothing_learns():
    pipe = make_streaming_pipeline("passthrough", None)
    union = StreamingFeatureUnion([("a", "drop")])
    for _ in range(2):
        assert pipe.partial_fit(X_OLD) is pipe
        assert_array_equal(pipe[:1].partial_fit(X_OLD).transform(X_OLD), X_OLD)
        assert union.partial_fit(X_OLD).transform(X_OLD).shape == (50, 0)


def test_memory_is_for_fit(tmp_path):
    pipe = bn_and_sgd(memory=str(tmp_path)).partial_fit(*minibatch(0), classes=CLASSES)
    assert not list(tmp_path.iterdir())
    assert attributes(pipe[1]) == attributes(
        bn_and_sgd().partial_fit(*minibatch(0), classes=CLASSES)[1]
    )
    pipe.fit(*minibatch(0, 100))
    assert list(tmp_path.iterdir())
    assert pipe.partial_fit(*minibatch(1))[0].num_batches_tracked_ == 2


# Metadata


def weights(seed, n_samples=20):
    return np.random.default_rng(seed).integers(0, 4, n_samples).astype(float)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"classes": [0, 1]},
        {"bogus": 1},
        {"bogus__sample_weight": np.ones(50)},
        {"frozen__sample_weight": np.ones(50)},
        {"bn__": 1},
        {"__bn": 1},
    ],
)
def test_a_keyword_that_no_step_takes_is_an_error(kwargs):
    frozen = FrozenEstimator(StandardScaler().fit(X_OLD))
    pipe = StreamingPipeline(
        [
            ("frozen", frozen),
            ("sub", make_streaming_pipeline(MinMaxScaler())),
            ("bn", BatchNorm1dTransformer()),
        ]
    )
    message = f"No part .* takes '{next(iter(kwargs))}' .* are ['sub', 'bn']"
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        pipe.partial_fit(X_OLD, **kwargs)
    with pytest.raises(TypeError, match="bogus"):
        pipe.partial_fit(X_OLD, bn__bogus=1)
    assert not hasattr(pipe[2], "n_features_in_")


@with_routing
def test_classes_are_routed():
    (X, y), pipe = minibatch(0), bn_and_sgd()
    with pytest.raises(ValueError, match=r"\[classes\].*SGDClassifier\.partial_fit"):
        pipe.partial_fit(X, y, classes=CLASSES)
    pipe[1].set_partial_fit_request(classes=True)
    make_streaming_pipeline(None, pipe).partial_fit(X, y % 2, classes=CLASSES)
    assert_array_equal(pipe.classes_, CLASSES)
    for kwargs in ({"bogus": 1}, {"clf__sample_weight": np.ones(20)}):
        with unchanged(pipe), pytest.raises(TypeError, match="unexpected argument"):
            pipe.partial_fit(X, y, **kwargs)


class Validated(Counts):
    """A step whose partial_fit and transform take metadata."""

    def partial_fit(self, X, y=None, X_val=None):
        self.X_val_ = X_val
        return super().partial_fit(X, y)

    def transform(self, X, shift=0):
        self.shift_ = shift
        return super().transform(X) + shift


@with_routing
def test_transform_input():
    last = Validated().set_partial_fit_request(X_val=True)
    last.set_transform_request(shift=False)
    shifting = Validated().set_partial_fit_request(X_val=False)
    shifting.set_transform_request(shift=True)
    pipe = make_streaming_pipeline(
        StandardScaler().set_partial_fit_request(sample_weight=False),
        shifting,
        last,
        transform_input=["X_val"],
    )
    X, _ = minibatch(0)
    pipe.partial_fit(X, X_val=X_OLD, shift=5.0)
    expected = StandardScaler().partial_fit(X).transform(X_OLD) + 5
    assert_array_equal(last.X_val_, expected)
    assert shifting.shift_ == 5.0
    pipe.set_params(transform_input=None).partial_fit(X, X_val=X_OLD)
    assert_array_equal(last.X_val_, X_OLD)


def test_transform_input_needs_routing():
    pipe = bn_and_sgd(transform_input=["X_val"])
    with pytest.raises(ValueError, match="transform_input needs metadata routing"):
        pipe.partial_fit(*minibatch(0), classes=CLASSES)


@with_routing
def test_routing_of_pipeline_is_kept():
    pipe = make_streaming_pipeline(
        BatchNorm1dTransformer().set_fit_request(sample_weight=True),
        SGDClassifier(random_state=0).set_fit_request(sample_weight=True),
    )
    weight = weights(0, 150)
    pipe.fit(*IRIS, sample_weight=weight)
    by_hand = BatchNorm1dTransformer().fit(IRIS[0], sample_weight=weight)
    assert_array_equal(pipe[0].running_mean_, by_hand.running_mean_)
    assert not hasattr(pipe, "set_partial_fit_request")  # its steps', not its own


# scikit-learn's tools


def expected_failed_checks(pipe):
    reason = "a Pipeline fits its steps, not clones (scikit-learn excuses its own)"
    failed = {
        "check_dont_overwrite_parameters": reason,
        "check_estimators_overwrite_params": reason,
        # Which scikit-learn 1.6 does not ask the tags.
        "check_sample_weight_equivalence_on_sparse_data": "sparse data are not centred",
    }
    if isinstance(pipe[-1], SGDClassifier | MiniBatchKMeans):
        failed["check_sample_weight_equivalence_on_dense_data"] = (
            "the last step draws rows at random (scikit-learn excuses it alone, too)"
        )
    if isinstance(pipe[-1], BatchNorm1dTransformer):
        failed["check_estimators_nan_inf"] = (
            "all steps take NaN, which the tags of a Pipeline do not tell"
        )
    return failed


@parametrize_with_checks(
    [
        make_streaming_pipeline(
            BatchNorm1dTransformer(), SGDClassifier(random_state=0)
        ),
        make_streaming_pipeline(StandardScaler(), BatchNorm1dTransformer()),
        make_streaming_pipeline(
            BatchNorm1dTransformer(), MiniBatchKMeans(2, n_init=1, random_state=0)
        ),
    ],
    expected_failed_checks=expected_failed_checks,
)
@pytest.mark.filterwarnings("default")  # the checks bring warnings of their own
def test_check_estimator(estimator, check):
    check(estimator)


# Other libraries


def test_steps_of_river_are_steps():
    compat = pytest.importorskip("river.compat")
    from river import linear_model, preprocessing

    def scaler_and_model():
        return [
            compat.convert_river_to_sklearn(preprocessing.StandardScaler()),
            compat.convert_river_to_sklearn(linear_model.LogisticRegression()),
        ]

    pipe = make_streaming_pipeline(*scaler_and_model())
    scaler, model = scaler_and_model()
    for seed in range(3):
        X, y = minibatch(seed)
        pipe.partial_fit(X, y > 0, classes=[False, True])
        model.partial_fit(
            scaler.partial_fit(X, y > 0).transform(X), y > 0, classes=[False, True]
        )
    assert_array_equal(pipe.predict_proba(X), model.predict_proba(scaler.transform(X)))


# StreamingFeatureUnion


def union_of_three(**params):
    return StreamingFeatureUnion(
        [
            ("bn", BatchNorm1dTransformer()),
            ("none", "drop"),
            ("std", StandardScaler()),
            ("pass", "passthrough"),
        ],
        **params,
    )


def test_a_union_learns_side_by_side():
    union = union_of_three(transformer_weights={"std": 10})
    bn, std = BatchNorm1dTransformer(), StandardScaler()
    for seed in range(3):
        X, _ = minibatch(seed)
        assert union.partial_fit(X) is union
        Z = [bn.partial_fit(X).transform(X), 10 * std.partial_fit(X).transform(X), X]
        assert_array_equal(union.transform(X), np.hstack(Z))
    assert union.n_features_in_ == N_FEATURES


@pytest.mark.parametrize("method", ["fit", "fit_transform", "partial_fit"])
@pytest.mark.parametrize("key", ["sample_weight", "bn__sample_weight"])
def test_keywords_of_a_union(method, key):
    union, weight = union_of_three(), weights(0, 50)
    # Which has no weights.
    union.transformer_list.append(("range", MinMaxScaler()))
    getattr(union, method)(X_OLD, **{key: weight})
    how = "partial_fit" if method == "partial_fit" else "fit"
    bn = getattr(BatchNorm1dTransformer(), how)(X_OLD, sample_weight=weight)
    both = key == "sample_weight"
    std = StandardScaler().fit(X_OLD, sample_weight=weight if both else None)
    assert attributes(union["bn"]) == attributes(bn)
    assert attributes(union["std"]) == attributes(std)
    assert union["range"].n_samples_seen_ == 50


@pytest.mark.parametrize(
    "transformers",
    [
        "abc",
        [],
        [("a",)],
        [("a", SGDRegressor())],
        [("a", 3)],
        [("a__b", StandardScaler())],
        [("a", StandardScaler()), ("a", StandardScaler())],
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_malformed_transformers(transformers, method):
    with pytest.raises((ValueError, TypeError)) as theirs:
        FeatureUnion(transformers).fit(X_OLD)
    with pytest.raises(type(theirs.value), match=re.escape(str(theirs.value))):
        getattr(StreamingFeatureUnion(transformers), method)(X_OLD)
