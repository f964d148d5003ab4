"""StreamingPipeline: the same as stepping by hand, in all steps or in none."""

import copyreg
import pickle
import re
import subprocess
import sys
import threading
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import sklearn
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
from sklearn.model_selection import GridSearchCV, learning_curve
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
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
    make_streaming_union,
)

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


def bits(estimator):
    """All that an estimator is, to the bit."""
    return pickle.dumps(estimator)


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


def attributes(step):
    """Each attribute to the bit, nested ones too, whatever they share."""
    if isinstance(step, StreamingPipeline):
        return {name: attributes(inner) for name, inner in step.steps}
    if step is None or step == "passthrough":
        return {}
    # What was warned of is other: by hand, the last step transforms too.
    learned = vars(step).items()
    return {name: bits(value) for name, value in learned if name != "_warned"}


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, len(TRANSFORMERS) - 1), max_size=4),
    st.integers(0, len(FINAL) - 1),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
)
def test_the_same_as_stepping_by_hand_to_the_bit(transformers, final, seeds):
    steps = [TRANSFORMERS[i] for i in transformers] + [FINAL[final]]
    # Not clones, which would not share the step that comes twice.
    original = bits(make_streaming_pipeline(*steps))
    pipe, by_hand = pickle.loads(original), pickle.loads(original)
    takes_classes = isinstance(FINAL[final], ClassifierMixin)
    kwargs = {"classes": CLASSES} if takes_classes else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the steps; the same for both
        for seed in seeds:
            X, y = minibatch(seed)
            assert pipe.partial_fit(X, y, **kwargs) is pipe
            step_by_hand(by_hand.steps, X, y)
            assert attributes(pipe) == attributes(by_hand)


def test_streaming_goes_on_where_fit_ended():
    (X, y), (X_2, y_2) = minibatch(0, 100), minibatch(1)
    pipe = bn_and_sgd().fit(X, y).partial_fit(X_2, y_2)
    by_hand = Pipeline(bn_and_sgd().steps).fit(X, y)
    step_by_hand(by_hand.steps, X_2, y_2)
    assert attributes(pipe[0]) == attributes(by_hand[0])
    assert attributes(pipe[1]) == attributes(by_hand[1])


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_fit_is_that_of_pipeline(method):
    pipe = make_streaming_pipeline(StandardScaler(), BatchNorm1dTransformer())
    peer = Pipeline(clone(pipe).steps)
    got, expected = (getattr(p, method)(X_IRIS) for p in (pipe, peer))
    if method == "fit_transform":
        assert_array_equal(got, expected)
    assert attributes(pipe) == attributes(StreamingPipeline(peer.steps))


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
    assert_array_equal(pipe[:1].transform(X), Z)


def test_steps_stay_the_same_objects():
    bn, clf = BatchNorm1dTransformer(), SGDClassifier(random_state=0)
    inner = make_streaming_pipeline(bn)
    pipe = make_streaming_pipeline(inner, clf)
    steps = inner.steps
    pipe.partial_fit(*minibatch(0), classes=CLASSES)
    assert pipe[0] is inner
    assert inner.steps is steps
    assert inner[0] is bn
    assert pipe[1] is clf
    assert bn.num_batches_tracked_ == 1
    assert clf.coef_.shape == (3, N_FEATURES)


# All or nothing


class Fragile(TransformerMixin, BaseEstimator):
    """Counts in place, and fails half-way in the call it is told to fail in."""

    def __init__(self, fails=None, call=0, error=ValueError):
        self.fails = fails
        self.call = call
        self.error = error

    def fit(self, X, y=None):
        return self

    def partial_fit(self, X, y=None):
        if not hasattr(self, "count_"):
            self.count_ = np.zeros(1)
            self.seen_ = []
        self.count_ += 1
        self.seen_.append(X.sum())
        self._fail("partial_fit")
        return self

    def transform(self, X):
        self._fail("transform")
        return X

    def _fail(self, where):
        if (where, self.call) == (self.fails, self.count_[0]):
            raise self.error(f"{where} failed")


class FragileSGD(SGDClassifier):
    """Writes to its coefficients, then fails if y has a class of its own."""

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        super().partial_fit(X, np.minimum(y, 2), classes, sample_weight)
        if y.max() > 2:
            raise ValueError("a bad mini-batch")
        return self


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("fails", ["partial_fit", "transform"])
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_what_fails_in_step_k_leaves_all_steps_as_they_were(k, fails, call, error):
    steps = [
        BatchNorm1dTransformer(),
        make_streaming_pipeline(MinMaxScaler(), StandardScaler()),
        FunctionTransformer(np.tanh),
        SGDClassifier(random_state=np.random.RandomState(0)),
    ]
    steps.insert(k, Fragile(fails, call, error))
    pipe = make_streaming_pipeline(*steps)
    for seed in range(call - 1):
        pipe.partial_fit(*minibatch(seed), classes=CLASSES)
    objects, before = [step for _, step in pipe.steps], bits(pipe)
    with pytest.raises(error, match=f"{fails} failed"):
        pipe.partial_fit(*minibatch(99), classes=CLASSES)
    assert bits(pipe) == before
    assert all(a is b for a, (_, b) in zip(objects, pipe.steps, strict=True))

    # And the stream goes on as if the mini-batch had never come.
    steps[k].fails = None
    never = pickle.loads(bits(pipe))
    for seed in range(10, 12):
        pipe.partial_fit(*minibatch(seed), classes=CLASSES)
        step_by_hand(never.steps, *minibatch(seed))
    assert attributes(pipe) == attributes(never)


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


class VandalFragile(Vandal, Fragile):
    pass


class VandalOfOurNames(VandalFragile):
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
        VandalFragile(),
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
def test_a_step_that_overwrites_all_and_fails_leaves_no_trace(vandal, n_before, shares):
    bn = BatchNorm1dTransformer(bias_init=[1.0] * N_FEATURES)
    vandal = pickle.loads(bits(vandal))
    pipe = make_streaming_pipeline(bn, make_streaming_pipeline(vandal), "passthrough")
    for seed in range(n_before):
        pipe.partial_fit(*minibatch(seed))
    if shares:
        # Mutable parts of the first step, and all of the pipeline around it.
        vandal.shared_ = [vars(bn).get("weight_"), bn.bias_init]
        vandal.others_ = {"bn": bn, "inner": pipe[1]}
    vandal.armed = True
    before, parts = bits(pipe), [pipe[0], pipe[1], pipe[1][0]]
    attributes_before = attributes(pipe)
    with pytest.raises(ValueError, match="overwritten"):
        pipe.partial_fit(*minibatch(9))
    assert bits(pipe) == before
    assert attributes(pipe) == attributes_before
    assert all(
        a is b for a, b in zip(parts, [pipe[0], pipe[1], pipe[1][0]], strict=True)
    )


def test_weights_that_a_step_shares_and_writes_to_stay_shared():
    class Trainer(Fragile):
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


class DeepCopies(Fragile):
    def __deepcopy__(self, memo):
        copied = clone(self)
        copied.way_ = "__deepcopy__"
        return copied


class Reduces(Fragile):
    def __reduce__(self):
        return Reduces, ("reduced",)


class HasState(Fragile):
    def __getstate__(self):
        return {**super().__getstate__(), "lock_": None}

    def __setstate__(self, state):
        super().__setstate__({**state, "lock_": threading.Lock()})


class StateBehind:
    def __setstate__(self, state):
        self.__dict__.update(state, way_="behind")


class HasStateBehind(Fragile, StateBehind):
    """BaseEstimator hands the state on to the class after it."""


class Forwards(Fragile):
    def __getattr__(self, name):
        if name == "__deepcopy__":
            return lambda memo: Fragile("forwarded")
        raise AttributeError(name)


class Registered(Fragile):
    pass


copyreg.pickle(Registered, lambda step: (Registered, ("registered",)))


@pytest.mark.parametrize(
    ("step", "name", "value"),
    [
        (DeepCopies(), "way_", "__deepcopy__"),
        (Reduces(), "fails", "reduced"),
        (HasStateBehind(), "way_", "behind"),
        (Forwards(), "fails", "forwarded"),
        (Registered(), "fails", "registered"),
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


def test_a_step_that_copies_itself_without_its_lock_is_copied():
    step = HasState()
    step.lock_ = threading.Lock()
    make_streaming_pipeline(step).partial_fit(X_OLD)
    assert step.count_ == 1
    assert isinstance(step.lock_, type(threading.Lock()))


def test_an_attribute_may_come_while_a_step_is_copied():
    class Late:
        def __deepcopy__(self, memo):
            step.cache_ = "of another thread"
            return self

    step = Fragile()
    step.late_ = Late()
    assert make_streaming_pipeline(step).partial_fit(X_OLD)[0].count_ == 1


def test_a_subclass_is_copied_without_what_checks_a_file(monkeypatch):
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
    step = pickle.loads(bits(step))
    if not isinstance(step, (FrozenEstimator, StreamingPipeline)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step.fit(*IRIS)
    ours, theirs = _deepcopy(step, {}), deepcopy(step)
    assert type(ours) is type(step)
    assert list(vars(ours)) == list(vars(theirs))
    assert attributes(ours) == attributes(theirs) == attributes(step)


@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_a_last_step_that_fails_half_way_leaves_no_trace(n_before):
    pipe = make_streaming_pipeline(StandardScaler(), FragileSGD(random_state=0))
    for seed in range(n_before):
        pipe.partial_fit(*minibatch(seed), classes=CLASSES)
    before = bits(pipe)
    X, y = minibatch(9)
    with pytest.raises(ValueError, match="a bad mini-batch") as caught:
        pipe.partial_fit(X, y + 1, classes=CLASSES)
    assert "In 'fragilesgd'. All parts are as they were" in caught.value.__notes__[0]
    assert bits(pipe) == before


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
    before = bits(pipe)
    with pytest.raises((ValueError, TypeError)):
        pipe.partial_fit(X, y)
    assert bits(pipe) == before


def test_what_steps_share_they_still_share():
    rng = np.random.RandomState(0)
    pipe = make_streaming_pipeline(
        StreamingPipeline([("a", Fragile()), ("b", "passthrough")]),
        MiniBatchKMeans(2, n_init=1, random_state=rng),
        SGDClassifier(random_state=rng),
    )
    by_hand = pickle.loads(bits(pipe))
    for seed in range(3):
        pipe.partial_fit(*minibatch(seed), classes=CLASSES)
        step_by_hand(by_hand.steps, *minibatch(seed))
    assert pipe[1].random_state is pipe[2].random_state
    assert attributes(pipe) == attributes(by_hand)


def test_others_see_a_step_of_before_or_of_after():
    class Observer(Fragile):
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


def test_threads_may_predict_while_one_learns():
    pipe = bn_and_sgd().partial_fit(*minibatch(0), classes=CLASSES)
    X, errors, done = minibatch(1, 200)[0], [], threading.Event()

    def read():
        try:
            while not done.is_set():
                assert set(pipe.predict(X)) <= set(CLASSES)
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for seed in range(100):
        pipe.partial_fit(*minibatch(seed))
    done.set()
    for reader in readers:
        reader.join()
    assert not errors
    assert pipe[0].num_batches_tracked_ == 101


def test_a_step_that_cannot_be_copied_is_an_error_before_anything_has_learned():
    class Locked(Fragile):
        pass

    class Slotted:
        __slots__ = ()
        fit = partial_fit = transform = None

    locked = Locked()
    locked.lock_ = threading.Lock()
    for step in (locked, Slotted()):
        bn = BatchNorm1dTransformer()
        pipe = StreamingPipeline([("bn", bn), ("x", step), ("clf", SGDClassifier())])
        message = rf"Part 'x' \({type(step).__name__}\) can't be copied"
        with pytest.raises(TypeError, match=message):
            pipe.partial_fit(*minibatch(0), classes=CLASSES)
        assert not hasattr(bn, "n_features_in_")


def test_so_is_one_in_a_pipeline_among_the_steps():
    class Slotted:
        __slots__ = ()
        fit = partial_fit = transform = None

    bn = BatchNorm1dTransformer()
    inner = StreamingPipeline([("x", Slotted()), ("last", None)])
    pipe = StreamingPipeline([("bn", bn), ("sub", inner)])
    with pytest.raises(TypeError, match=r"Part 'sub.x' \(Slotted\) can't be copied"):
        pipe.partial_fit(X_OLD)
    assert not hasattr(bn, "n_features_in_")


def test_steps_may_change_in_mid_stream():
    X, y = minibatch(0)
    pipe = bn_and_sgd().partial_fit(X, y, classes=CLASSES)
    clf = pipe[1]
    before = bits(pipe)
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


class Counter:
    """A callback that counts the mini-batches."""

    number = 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, X, y, metadata):
        pass

    def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
        self.number += 1


@pytest.mark.skipif(
    not hasattr(BatchNorm1dTransformer, "set_callbacks"),
    reason="scikit-learn 1.9 brought callbacks",
)
def test_callbacks_of_the_steps_are_called_not_copied():
    counter = Counter()
    bn = BatchNorm1dTransformer().set_callbacks(counter)
    pipe = make_streaming_pipeline(
        make_streaming_pipeline(bn), SGDClassifier(random_state=0)
    )
    for _ in range(3):
        pipe.partial_fit(*minibatch(0), classes=CLASSES)
    assert counter.number == 3


def test_frozen_steps_are_left_alone():
    X, y = minibatch(0)
    scaler = StandardScaler().fit(X_OLD)  # has a partial_fit
    bn = BatchNorm1dTransformer().fit(X_OLD)
    clf = GaussianNB().fit(*IRIS)
    frozen = FrozenEstimator(scaler), FrozenEstimator(make_pipeline(bn))
    before = bits([scaler, bn, clf])
    pipe = make_streaming_pipeline(*frozen, BatchNorm1dTransformer())
    pipe.partial_fit(X, y)
    assert bits([scaler, bn, clf]) == before
    assert pipe[0].estimator is scaler
    expected = BatchNorm1dTransformer().partial_fit(bn.transform(scaler.transform(X)))
    assert_array_equal(pipe[2].running_var_, expected.running_var_)

    last = make_streaming_pipeline(BatchNorm1dTransformer(), FrozenEstimator(clf))
    last.partial_fit(X)
    assert last[0].num_batches_tracked_ == 1
    assert_array_equal(last.predict(X), clf.predict(last[0].transform(X)))
    assert bits([scaler, bn, clf]) == before


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


def test_stateless_steps_know_the_features_of_the_first_mini_batch():
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


class Supervised(Fragile):
    def partial_fit(self, X, y=None):
        self.classes_ = np.unique(y)
        return super().partial_fit(X, y)


def test_each_step_gets_y():
    pipe = make_streaming_pipeline(Supervised(), make_streaming_pipeline(Supervised()))
    pipe.partial_fit(X_OLD, np.arange(50) % 3)
    assert_array_equal(pipe[0].classes_, CLASSES)
    assert_array_equal(pipe[1][0].classes_, CLASSES)


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
def test_a_step_that_can_only_fit_is_an_error_before_anything_has_learned(
    step, advice, last
):
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
def test_malformed_steps_are_the_errors_of_pipeline(steps, error, message):
    with pytest.raises(error, match=message):
        StreamingPipeline(steps).partial_fit(X_OLD)
    with pytest.raises(error):
        StreamingPipeline(steps).fit(X_OLD)


def test_without_steps_that_learn_there_is_nothing_to_do():
    pipe = make_streaming_pipeline("passthrough", None)
    assert pipe.partial_fit(X_OLD) is pipe
    pipe = make_streaming_pipeline("passthrough")
    assert_array_equal(pipe.partial_fit(X_OLD).transform(X_OLD), X_OLD)


def test_verbose_prints_the_time_of_each_step(capsys):
    pipe = bn_and_sgd(verbose=True).partial_fit(*minibatch(0), classes=CLASSES)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "[StreamingPipeline]" in lines[0]
    assert "(step 1 of 2) Processing bn, total=" in lines[0]
    assert "(step 2 of 2) Processing clf, total=" in lines[1]
    pipe.set_params(verbose=False).partial_fit(*minibatch(1))
    assert not capsys.readouterr().out


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


def weighted_by_hand(seeds, *, bn_weighs, clf_weighs):
    bn, clf = BatchNorm1dTransformer(), SGDClassifier(random_state=0)
    for seed in seeds:
        (X, y), w = minibatch(seed), weights(seed)
        Z = bn.partial_fit(X, sample_weight=w if bn_weighs else None).transform(X)
        clf.partial_fit(Z, y, CLASSES, sample_weight=w if clf_weighs else None)
    return bn, clf


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("name", "bn_weighs", "clf_weighs"),
    [
        ("sample_weight", True, True),
        ("bn__sample_weight", True, False),
        ("clf__sample_weight", False, True),
    ],
)
def test_keywords_reach_the_steps_that_take_them(name, bn_weighs, clf_weighs, nested):
    pipe = bn_and_sgd()
    pipe.steps.insert(1, ("scale", FunctionTransformer()))
    outer = pipe
    if nested:
        outer = StreamingPipeline([("none", None), ("sub", pipe)])
        name = name if name == "sample_weight" else f"sub__{name}"
    for seed in range(3):
        outer.partial_fit(*minibatch(seed), classes=CLASSES, **{name: weights(seed)})
    bn, clf = weighted_by_hand(range(3), bn_weighs=bn_weighs, clf_weighs=clf_weighs)
    assert attributes(pipe[0]) == attributes(bn)
    assert attributes(pipe[2]) == attributes(clf)


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


def test_none_is_no_keyword():
    pipe = make_streaming_pipeline(MinMaxScaler())
    pipe.partial_fit(X_OLD, classes=None, sample_weight=None)
    assert pipe[0].n_samples_seen_ == 50


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("nested", [False, True])
def test_metadata_are_routed_to_the_steps_that_request_them(nested):
    steps = [
        ("bn", BatchNorm1dTransformer().set_partial_fit_request(sample_weight="rows")),
        ("pass", "passthrough"),
        (
            "clf",
            SGDClassifier(random_state=0).set_partial_fit_request(
                classes=True, sample_weight=True
            ),
        ),
    ]
    pipe = StreamingPipeline(steps)
    outer = make_streaming_pipeline(None, pipe) if nested else pipe
    for seed in range(3):
        X, y = minibatch(seed)
        outer.partial_fit(X, y, classes=CLASSES, sample_weight=None, rows=weights(seed))
    bn, clf = weighted_by_hand(range(3), bn_weighs=True, clf_weighs=False)
    for name, value in attributes(bn).items():
        assert attributes(pipe[0])[name] == value
    assert_array_equal(pipe[2].coef_, clf.coef_)
    outer.partial_fit(X, y, sample_weight=np.ones(20))
    for kwargs in ({"bogus": 1}, {"clf__sample_weight": np.ones(20)}):
        with pytest.raises(TypeError, match="unexpected argument"):
            outer.partial_fit(X, y, **kwargs)


@pytest.mark.usefixtures("routing")
def test_metadata_must_be_requested():
    X, y = minibatch(0)
    with pytest.raises(ValueError, match=r"\[classes\].*SGDClassifier\.partial_fit"):
        bn_and_sgd().partial_fit(X, y, classes=CLASSES)


class Validated(Fragile):
    """A step whose partial_fit and transform take metadata."""

    def partial_fit(self, X, y=None, X_val=None):
        self.X_val_ = X_val
        return super().partial_fit(X, y)

    def transform(self, X, shift=0):
        self.shift_ = shift
        return super().transform(X) + shift


@pytest.mark.usefixtures("routing")
def test_transform_input_goes_through_the_steps_before():
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


@pytest.mark.usefixtures("routing")
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
    if isinstance(pipe[-1], SGDClassifier | SGDRegressor | MiniBatchKMeans):
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
        make_streaming_pipeline(
            BatchNorm1dTransformer(), SGDRegressor(random_state=0, tol=None)
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


def test_slices_and_clones_stream_too():
    pipe = bn_and_sgd(verbose=False, memory=None)
    head = pipe[:1]
    assert type(head) is type(clone(pipe)) is StreamingPipeline
    head.partial_fit(X_OLD)
    assert pipe[0].num_batches_tracked_ == 1
    assert pipe["bn"] is pipe[0] is pipe.named_steps.bn
    assert not hasattr(clone(pipe)[0], "running_mean_")
    assert pickle.loads(bits(pipe)).partial_fit(*minibatch(0), classes=CLASSES)


def test_names_are_those_of_make_pipeline(tmp_path):
    steps = [StandardScaler(), StandardScaler(), "passthrough"]
    kwargs = {"memory": str(tmp_path), "transform_input": ["a"], "verbose": True}
    pipe = make_streaming_pipeline(*steps, **kwargs)
    assert type(pipe) is StreamingPipeline
    assert pipe.steps == make_pipeline(*steps).steps
    assert {name: getattr(pipe, name) for name in kwargs} == kwargs


def test_the_diagram_shows_the_steps_and_what_streamed():
    pipe = bn_and_sgd()
    html = pipe._repr_html_()
    assert "StreamingPipeline" in html
    assert "BatchNorm1dTransformer" in html
    assert "Not fitted" in html
    html = pipe.partial_fit(*minibatch(0), classes=CLASSES)._repr_html_()
    assert "Not fitted" not in html
    assert repr(pipe).startswith("StreamingPipeline(steps=[('bn', BatchNorm1d")


def test_grid_search_over_the_steps():
    grid = {"bn__momentum": [0.1, None], "clf__alpha": [1e-4, 1e-2]}
    search = GridSearchCV(bn_and_sgd(), grid, n_jobs=2).fit(*IRIS)
    assert search.best_score_ > 0.8
    best = search.best_estimator_
    assert type(best) is StreamingPipeline
    assert best.partial_fit(*IRIS)[0].num_batches_tracked_ == 2


def test_a_learning_curve_of_mini_batches():
    sizes, train, _ = learning_curve(
        bn_and_sgd(),
        *IRIS,
        exploit_incremental_learning=True,
        shuffle=True,
        random_state=0,
        train_sizes=[30, 60, 120],
        error_score="raise",
    )
    assert_array_equal(sizes, [30, 60, 120])
    assert train.shape == (3, 5)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_names_the_features_of_a_stream(library):
    pipe = make_streaming_pipeline(StandardScaler(), BatchNorm1dTransformer())
    pipe.set_output(transform=library).partial_fit(X_IRIS)
    out = pipe.transform(X_IRIS)
    assert type(out).__module__.split(".")[0] == library
    assert list(out.columns) == list(X_IRIS.columns)
    assert list(pipe[1].feature_names_in_) == list(X_IRIS.columns)


# Other libraries


def test_dask_ml_streams_blocks_through_it():
    pytest.importorskip("dask_ml.wrappers")
    import dask.array as da
    from dask_ml.wrappers import Incremental

    X, y = minibatch(0, 90)
    model = Incremental(bn_and_sgd(), shuffle_blocks=False)
    model.fit(da.from_array(X, (30, -1)), da.from_array(y, 30), classes=CLASSES)
    expected = bn_and_sgd()
    for rows in np.split(np.arange(90), 3):
        expected.partial_fit(X[rows], y[rows], classes=CLASSES)
    assert_array_equal(model.estimator_[1].coef_, expected[1].coef_)
    assert_array_equal(model.predict(da.from_array(X, (30, -1))), expected.predict(X))


def test_river_learns_row_by_row_with_it():
    compat = pytest.importorskip("river.compat")
    X, y = minibatch(0)
    pipe = bn_and_sgd(verbose=False).set_params(bn__variance="total")
    model = compat.SKL2RiverClassifier(clone(pipe), classes=CLASSES)
    for x, label in zip(X, y, strict=True):
        model.learn_one(dict(enumerate(x)), int(label))
        pipe.partial_fit([x], [label], classes=CLASSES)
    assert_array_equal(model.estimator[1].coef_, pipe[1].coef_)
    assert model.predict_one(dict(enumerate(X[0]))) == pipe.predict(X[:1])[0]


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


def test_transformers_of_a_union_learn_side_by_side_to_the_bit():
    union = union_of_three(transformer_weights={"std": 10})
    objects = [union["bn"], union["std"]]
    bn, std = BatchNorm1dTransformer(), StandardScaler()
    for seed in range(3):
        X, _ = minibatch(seed)
        assert union.partial_fit(X) is union
        bn.partial_fit(X)
        std.partial_fit(X)
        assert attributes(union["bn"]) == attributes(bn)
        assert attributes(union["std"]) == attributes(std)
        expected = np.hstack([bn.transform(X), 10 * std.transform(X), X])
        assert_array_equal(union.transform(X), expected)
        assert objects == [union["bn"], union["std"]]
    assert union.n_features_in_ == N_FEATURES


def test_a_union_may_be_a_step_and_have_steps():
    inner = make_streaming_pipeline(MinMaxScaler(), BatchNorm1dTransformer())
    union = make_streaming_union(inner, Normalizer())
    pipe = make_streaming_pipeline(union, SGDClassifier(random_state=0))
    parts = MinMaxScaler(), BatchNorm1dTransformer(), SGDClassifier(random_state=0)
    for seed in range(3):
        X, y = minibatch(seed)
        pipe.partial_fit(X, y, classes=CLASSES)
        Z = parts[0].partial_fit(X).transform(X)
        Z = parts[1].partial_fit(Z).transform(Z)
        parts[2].partial_fit(np.hstack([Z, Normalizer().transform(X)]), y, CLASSES)
    assert attributes(inner[1]) == attributes(parts[1])
    assert attributes(pipe[1]) == attributes(parts[2])


def test_each_transformer_of_a_union_gets_y():
    union = make_streaming_union(Supervised(), make_streaming_pipeline(Supervised()))
    union.partial_fit(X_OLD, np.arange(50) % 3)
    assert_array_equal(union["supervised"].classes_, CLASSES)
    assert_array_equal(union["streamingpipeline"][0].classes_, CLASSES)


def test_a_union_of_what_takes_no_numbers():
    text = ["to be", "or not", "to be"]
    hashing = HashingVectorizer(n_features=8)
    union = make_streaming_union(hashing, HashingVectorizer(n_features=4, norm="l1"))
    union.partial_fit(text)
    assert union.transform(text).shape == (3, 12)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_names_the_features_of_a_union(library):
    union = union_of_three(verbose_feature_names_out=True)
    union.set_output(transform=library)
    for _ in range(2):
        union.partial_fit(X_IRIS)
        Z = union.transform(X_IRIS)
        assert type(Z).__module__.split(".")[0] == library
        names = [f"{name}__{x}" for name in ("bn", "std", "pass") for x in X_IRIS]
        assert list(Z.columns) == names
        assert list(union.get_feature_names_out()) == names
    assert list(union.feature_names_in_) == list(X_IRIS.columns)


def test_verbose_prints_the_time_of_each_transformer(capsys):
    union = union_of_three(verbose=True)
    for _ in range(2):
        union.partial_fit(X_OLD)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3
        assert "(step 1 of 3) Processing bn, total=" in lines[0]
        assert "(step 2 of 3) Processing std, total=" in lines[1]


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_fit_is_that_of_feature_union(method):
    union, peer = union_of_three(), FeatureUnion(union_of_three().transformer_list)
    got, expected = (getattr(each, method)(X_OLD) for each in (union, peer))
    if method == "fit_transform":
        assert_array_equal(got, expected)
    assert attributes(union["bn"]) == attributes(peer["bn"])
    bn = union["bn"]
    union.partial_fit(X_OLD)
    assert union["bn"] is bn
    assert bn.num_batches_tracked_ == 2


@pytest.mark.parametrize("method", ["fit", "fit_transform", "partial_fit"])
@pytest.mark.parametrize("key", ["sample_weight", "bn__sample_weight"])
def test_keywords_of_a_union_reach_those_that_take_them(method, key):
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


@pytest.mark.usefixtures("routing")
def test_metadata_are_routed_to_the_transformers_of_a_union():
    union = union_of_three()
    union["std"].set_partial_fit_request(sample_weight="rows")
    union["bn"].set_partial_fit_request(sample_weight=False)
    for seed in range(2):
        X, _ = minibatch(seed)
        union.partial_fit(X, rows=weights(seed))
    n = weights(0).sum() + weights(1).sum()
    assert_array_equal(union["std"].n_samples_seen_, n)
    with pytest.raises(TypeError, match="bogus"):
        union.partial_fit(X, bogus=1)


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
def test_malformed_transformers_are_the_errors_of_feature_union(transformers, method):
    with pytest.raises((ValueError, TypeError)) as theirs:
        FeatureUnion(transformers).fit(X_OLD)
    with pytest.raises(type(theirs.value), match=re.escape(str(theirs.value))):
        getattr(StreamingFeatureUnion(transformers), method)(X_OLD)


def test_a_union_without_transformers_that_learn_has_nothing_to_do():
    union = StreamingFeatureUnion([("a", "drop")])
    for _ in range(2):
        assert union.partial_fit(X_OLD).transform(X_OLD).shape == (50, 0)


def test_names_are_those_of_make_union():
    parts = [StandardScaler(), StandardScaler(), "passthrough"]
    union = make_streaming_union(*parts, n_jobs=1, verbose=True)
    assert type(union) is StreamingFeatureUnion
    theirs = make_union(*parts, n_jobs=1, verbose=True)
    assert union.get_params(deep=False) == theirs.get_params(deep=False)
    assert "StreamingFeatureUnion" in union._repr_html_()


# What it costs


def test_the_benchmark_prints_its_table():
    root = Path(__file__).parents[1]
    if not (root / "benchmarks").exists():
        pytest.skip("the benchmarks are in the repository, not in the package")
    code = (
        "import benchmarks.pipeline as b; b.CASES = dict(list(b.CASES.items())[:2]);"
        "b.CASES['sparse'] = (10, 1000, 0.1, 3); b.main(0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("|") for line in result.stdout.splitlines()[2:]]
    assert [row[1].strip() for row in rows[1:]] == ["32 × 20, regression", "sparse"]
    # Half the time by hand would be a pipeline that does not learn.
    assert all(float(row[3]) > 0.5 for row in rows)
