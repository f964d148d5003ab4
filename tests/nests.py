"""What tests of the compositions share: nests of them, and the same learned by hand."""

import pickle

import numpy as np
import sklearn
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDRegressor
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.compose import (
    FitOnce,
    StreamingColumnTransformer,
    StreamingTransformedTargetRegressor,
)
from sk_batchnorm.pipeline import StreamingFeatureUnion, StreamingPipeline

WIDTH = 4


# Decorates a test.
with_routing = sklearn.config_context(enable_metadata_routing=True)


def minibatch(seed, n_samples=20, width=WIDTH):
    rng = np.random.default_rng(seed)
    X = rng.normal(loc=rng.normal(size=width), size=(n_samples, width))
    return X, X.sum(axis=1) + rng.normal(size=n_samples)


def attributes(part):
    """Each attribute to the bit, of each leaf of a nest by its path."""
    if isinstance(part, str) or part is None:
        return part
    if parts_of(part) is not None:
        return {path: attributes(leaf) for path, leaf in leaves(part).items()}
    # What was warned of is other: by hand, no step transforms twice.
    learned = vars(part).items()
    return {name: pickle.dumps(value) for name, value in learned if name != "_warned"}


def parts_of(nest):
    """Names and parts of a composition: those that learn, or what they are made of."""
    if isinstance(nest, StreamingPipeline):
        return nest.steps
    if isinstance(nest, StreamingFeatureUnion):
        return nest.transformer_list
    if isinstance(nest, StreamingColumnTransformer):
        if hasattr(nest, "transformers_"):
            return [(name, part) for name, part, _ in nest.transformers_]
        remainder = [("remainder", nest.remainder)]
        return [(name, part) for name, part, _ in nest.transformers] + remainder
    if isinstance(nest, StreamingTransformedTargetRegressor):
        fitted = "_" if hasattr(nest, "regressor_") else ""
        names = "transformer", "regressor"
        return [(name, getattr(nest, name + fitted)) for name in names]
    return None


def leaves(nest, path=""):
    """Leaves of a nest by their path, as "regressor.table.num"."""
    found = {}
    for name, part in parts_of(nest):
        if parts_of(part) is None:
            found[path + name] = part
        else:
            found |= leaves(part, f"{path}{name}.")
    return found


# The same, by hand


def by_hand(nest):
    """Parts of a nest, cloned, in lists and tuples that scikit-learn knows nothing of.

    What is returned learns from a mini-batch when it is called, and transforms it.
    """
    if nest is None or isinstance(nest, str):
        return Word(nest)
    if isinstance(nest, StreamingPipeline):
        return Chain({name: by_hand(part) for name, part in nest.steps})
    if isinstance(nest, StreamingFeatureUnion):
        return Union({name: by_hand(part) for name, part in nest.transformer_list})
    if isinstance(nest, StreamingColumnTransformer):
        parts = {name: by_hand(part) for name, part, _ in nest.transformers}
        columns = [columns for *_, columns in nest.transformers]
        return Table(parts | {"remainder": by_hand(nest.remainder)}, columns)
    if isinstance(nest, StreamingTransformedTargetRegressor):
        return Target({name: by_hand(part) for name, part in parts_of(nest)})
    return Leaf(nest if isinstance(nest, FrozenEstimator) else clone(nest))


class Leaf:
    def __init__(self, estimator):
        self.estimator = estimator

    def __call__(self, X, y):
        if isinstance(self.estimator, Normalizer):
            if not hasattr(self.estimator, "n_features_in_"):
                self.estimator.fit(X)
        elif not isinstance(self.estimator, FrozenEstimator):
            self.estimator.partial_fit(X, y)
        if hasattr(self.estimator, "transform"):
            return self.estimator.transform(X)
        return None

    def leaves(self, path):
        return {path: self.estimator}


class Word(Leaf):
    def __call__(self, X, y):
        return None if self.estimator == "drop" else X


class Several:
    def __init__(self, parts):
        self.parts = parts

    def leaves(self, path=""):
        found = {}
        for name, part in self.parts.items():
            found |= part.leaves(f"{path}.{name}" if path else name)
        return found


class Chain(Several):
    def __call__(self, X, y):
        for part in self.parts.values():
            X = part(X, y)
        return X


def side_by_side(outputs):
    return np.hstack([Z for Z in outputs if Z is not None])


class Union(Several):
    def __call__(self, X, y):
        return side_by_side(part(X, y) for part in self.parts.values())


class Table(Several):
    """Of lists of numbers."""

    def __init__(self, parts, columns):
        super().__init__(parts)
        self.columns = columns

    def __call__(self, X, y):
        others = set(range(X.shape[1])).difference(*self.columns)
        chosen = [*self.columns, sorted(others)]
        parts = self.parts.values()
        return side_by_side(
            part(X[:, i], y) for part, i in zip(parts, chosen, strict=True) if i
        )


class Target(Several):
    def __call__(self, X, y):
        target = self.parts["transformer"](y.reshape(-1, 1), None)
        self.parts["regressor"](X, target.ravel())


# Nests that hypothesis draws


def _frozen(width):
    return FrozenEstimator(StandardScaler().fit(minibatch(99, width=width)[0]))


# Each keeps the number of features.
INVERTIBLE = [
    lambda width: BatchNorm1dTransformer(momentum=0.3),
    lambda width: BatchNorm1dTransformer(momentum=None, bias_correction=True),
    lambda width: BatchNorm1dTransformer(halflife=50, variance="total"),
    lambda width: StandardScaler(),
    lambda width: MinMaxScaler(),
]
LEAVES = [
    *INVERTIBLE,
    lambda width: Normalizer(),
    _frozen,
    lambda width: "passthrough",
]


def fit_once():
    return FitOnce(PCA(1, svd_solver="full"))


@st.composite
def transformers(draw, width, depth):
    """A transformer of so many features, and how many it returns: at least one."""
    kinds = ["leaf", "once"]
    if depth:
        kinds = ["pipeline", "union", "table", *kinds]
    kind = draw(st.sampled_from(kinds))
    if kind == "leaf":
        return draw(st.sampled_from(LEAVES))(width), width
    if kind == "once":
        return fit_once(), 1
    if kind == "pipeline":
        steps = []
        for i in range(draw(st.integers(1, 2))):
            step, width = draw(transformers(width, depth - 1))
            steps.append((f"s{i}", step))
        return StreamingPipeline(steps), width
    n_parts = draw(st.integers(1, 2))
    if kind == "union":
        drawn = [draw(transformers(width, depth - 1)) for _ in range(n_parts)]
        parts = [(f"u{i}", part) for i, (part, _) in enumerate(drawn)]
        if draw(st.booleans()):
            parts.insert(draw(st.integers(0, n_parts)), ("none", "drop"))
        return StreamingFeatureUnion(parts), sum(widths for _, widths in drawn)
    parts, n_out = [], 0
    for i in range(n_parts):
        indices = st.lists(st.integers(0, width - 1), min_size=1, max_size=3)
        columns = draw(indices)
        part, widths = draw(transformers(len(columns), depth - 1))
        parts.append((f"t{i}", part, columns))
        n_out += widths
    n_others = len(set(range(width)).difference(*[columns for *_, columns in parts]))
    remainder = "drop"
    if n_others:
        others = st.just(("drop", 0)) | transformers(n_others, depth - 1)
        remainder, n_remaining = draw(others)
        n_out += n_remaining
    return StreamingColumnTransformer(parts, remainder=remainder), n_out


@st.composite
def models(draw, width=WIDTH, depth=3):
    """A regressor: a pipeline with one last, or one with a transformed target."""
    kinds = ["pipeline", "pipeline", "target", "target", "leaf"]
    kind = draw(st.sampled_from(kinds if depth == 3 else kinds[1:]))
    if depth == 0 or (kind == "leaf" and depth < 3):
        return SGDRegressor(random_state=0)
    if kind == "pipeline":
        part, width = draw(transformers(width, depth - 1))
        model = draw(models(width, depth - 1))
        return StreamingPipeline([("x", part), ("y", model)])
    target = draw(st.sampled_from(INVERTIBLE))(1)
    if draw(st.booleans()):
        target = StreamingPipeline([("a", target), ("b", StandardScaler())])
    regressor = draw(models(width, depth - 1))
    return StreamingTransformedTargetRegressor(
        regressor, transformer=target, check_inverse=False
    )
