"""Fold eval mode, an affine map, into the linear model that comes after it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy, deepcopy
from functools import cache
from importlib import import_module
from types import new_class
from typing import Any, NamedTuple, NoReturn, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm._kernels.numpy import Floats, ignore_float_errors
from sk_batchnorm._normalize import normalize
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import names_in_words

# By which LinearDiscriminantAnalysis and PLSRegression transform, and
# BayesianRidge and ARDRegression know a standard deviation. They belong to
# normalised features: a method that needs one raises, where it would be wrong.
_OF_NORMALISED_FEATURES = ("scalings_", "sigma_", "x_loadings_", "x_rotations_")

_N_PROBES = 4

# By how much rounding errors may grow before the result becomes float64: two digits,
# which leaves float32 five.
_LARGEST_LOSS = 100.0

# Of scikit-learn, with the linear models that have coefficients of their own.
_LINEAR = {
    "SVC": "LinearSVC",
    "NuSVC": "LinearSVC",
    "SVR": "LinearSVR",
    "NuSVR": "LinearSVR",
}

AnyPipeline = TypeVar("AnyPipeline", bound=Pipeline)
LinearModel = TypeVar("LinearModel")


@overload
def fold(transformer: AnyPipeline) -> AnyPipeline: ...


@overload
def fold(
    transformer: BatchNorm1dTransformer, linear_model: LinearModel
) -> LinearModel: ...


@ignore_float_errors
def fold(
    transformer: BatchNorm1dTransformer | Pipeline, linear_model: Any = None
) -> Any:
    """Return a linear model that predicts on raw features as the pair does.

    ``transform`` is an affine map, ``y = (x - mean) * scale + bias``, and so is a
    linear model. Together they are a single linear model with the coefficients
    and the intercept ::

        coef_ * scale
        intercept_ + coef_ @ (bias - mean * scale)

    It predicts without :meth:`~BatchNorm1dTransformer.transform`.

    Parameters
    ----------
    transformer : BatchNorm1dTransformer or Pipeline
        A fitted transformer with running statistics; or a fitted Pipeline that
        ends with one and a linear model. Each of them may be in a FrozenEstimator.

    linear_model : estimator
        Fitted on the transformer's output, in a FrozenEstimator or not; None if
        `transformer` is a Pipeline.
        It may be any estimator that predicts by its
        attributes ``coef_``, of shape (n_features,) or (n_outputs, n_features),
        dense or sparse, and ``intercept_``.

    Returns
    -------
    estimator of a subclass of the type of `linear_model`, or Pipeline
        A copy that predicts and does not train, with other `coef_` and `intercept_`:
        of the dtype that they had, or of float64 where that would lose more than two
        digits. It knows the feature names that the transformer knows. The copy of a
        Pipeline has the folded model under the model's name and the transformer's
        step left out, even if only one step remains.

    Raises
    ------
    NotFittedError
        If the transformer or the model is not fitted.
    TypeError
        If one of them is of another kind (such as a search, whose
        ``best_estimator_`` can be folded), or if `coef_` is computed from something
        else and can't be set, as with ``SVR(kernel="linear")``; take LinearSVR.
    ValueError
        If ``track_running_stats=False`` leaves nothing to fold, if the numbers
        or the names of features differ, if a Pipeline does not end with the
        pair, or if the result overflows or does not predict what the pair does.

    Notes
    -----
    PyTorch's ``torch.nn.utils.fuse_linear_bn_eval`` folds a batch norm that comes
    after a linear layer; here it comes before.

    :meth:`~BatchNorm1dTransformer.transform` subtracts the mean first, so that a
    large mean costs no digits. A linear model can't do that: if the mean of a
    feature is k standard deviations away from 0, log10(k) digits are lost, of the
    16 of float64 or the 7 of a float32 `coef_`. Of these, at least 5 are left: the
    result is float64 if more than two digits would be lost.

    Before the folded model is returned, its predictions are compared with those of
    the pair at a few random points. Two different affine maps agree on a plane at
    most, which random points miss. So a model that uses `coef_` in another way,
    such as a ``PLSRegression`` that centres its X, is found out.

    The folded model is for prediction only, as training would take the coefficients
    for those of normalised features. It is of a subclass, such as ``FoldedRidge``,
    without ``partial_fit`` and whatever else trains or transforms (``hasattr`` is
    False); ``fit`` is there, since scikit-learn takes nothing without it for an
    estimator, and raises AttributeError. To train further, train the pair, and fold
    again. The parameters are those of the original model (even
    ``fit_intercept=False``, though there is an intercept now). A clone is an unfitted
    model of the original class, as a clone of the original model is. What needs more
    than `coef_` and `intercept_`, such as ``predict(X, return_std=True)`` of
    ``BayesianRidge``, raises AttributeError, too.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from sk_batchnorm import BatchNorm1dTransformer, fold
    >>> X = np.array([[0.0, 10.0], [2.0, 30.0], [4.0, 60.0], [6.0, 70.0]])
    >>> y = [1.0, 2.0, 2.0, 5.0]
    >>> bn = BatchNorm1dTransformer().fit(X)
    >>> ridge = Ridge().fit(bn.transform(X), y)
    >>> folded = fold(bn, ridge)
    >>> folded.predict(X).round(3)
    array([1.018, 1.981, 3.093, 3.908])
    >>> bool(np.allclose(folded.predict(X), ridge.predict(bn.transform(X))))
    True
    >>> folded
    FoldedRidge()
    """
    transformer, linear_model = _thawed(transformer), _thawed(linear_model)
    if isinstance(transformer, Pipeline):
        if linear_model is not None:
            raise TypeError("A Pipeline has its linear model in it: fold(pipeline).")
        return _fold_pipeline(transformer)
    if not isinstance(transformer, BatchNorm1dTransformer):
        raise TypeError(
            "fold takes a BatchNorm1dTransformer and a linear model, or a Pipeline; "
            f"got {transformer!r}.{_advice(transformer)}"
        )
    _, stats, weight, bias = transformer._with_state(lambda: None)
    if stats is None:
        raise ValueError(
            "track_running_stats=False normalises each X by its own statistics, "
            "which is no affine map that could be folded."
        )
    if np.isnan(stats.mean).any():
        names = transformer.get_feature_names_out()[np.isnan(stats.mean)]
        raise ValueError(
            f"{names_in_words(names)} was never observed, so that there is no mean and "
            "no variance to fold."
        )
    coef, intercept = _coefficients(linear_model, transformer.n_features_in_)
    _check_names(transformer, linear_model)
    zeros = np.zeros_like(stats.mean)
    affine_map = _AffineMap(
        stats.mean if transformer.with_mean else zeros,
        stats.scale(transformer.eps, weight),
        zeros if bias is None else bias,
    )
    # Where the data lie.
    std = stats.inverse_scale(transformer.eps, None)
    rng = np.random.default_rng(0)
    X = stats.mean + std * rng.standard_normal((_N_PROBES, std.size))
    Z = normalize(X, *affine_map, copy=True)
    scaled, shifted = _folded(coef, intercept, affine_map, X, Z)
    folded = deepcopy(linear_model)
    for name in ("feature_names_in_", *_OF_NORMALISED_FEATURES):
        vars(folded).pop(name, None)
    try:
        folded.coef_, folded.intercept_ = scaled, shifted
    except AttributeError as error:
        raise TypeError(
            f"{type(linear_model).__name__} computes coef_ or intercept_ from "
            f"something else, so that there is nothing to fold into."
            f"{_advice(linear_model)}"
        ) from error

    tolerance = _rounding(coef, intercept, affine_map, X, Z, scaled.dtype)
    _check_equal(folded, X, linear_model, Z, tolerance)
    if hasattr(transformer, "feature_names_in_"):
        folded.feature_names_in_ = transformer.feature_names_in_.copy()
    return for_prediction_only(folded)


def _thawed(estimator: Any) -> Any:
    """Return what is in a FrozenEstimator, or in several."""
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return estimator


def _advice(estimator: Any) -> str:
    """What to fold instead, for estimators that have it or have a sibling."""
    for name in ("best_estimator_", "estimator_"):
        if hasattr(estimator, name):
            return f" Fold its {name}."
    sibling = _LINEAR.get(type(estimator).__name__)
    return f" Train a {sibling}, which can be folded." if sibling else ""


class _AffineMap(NamedTuple):
    """``(x - mean) * scale + bias``, of arrays of shape (n_features,)."""

    mean: Floats
    scale: Floats
    bias: Floats


def _coefficients(linear_model: Any, n_features: int) -> tuple[Any, NDArray[Any]]:
    """`coef_` and `intercept_`, of a floating dtype and of shapes that fit."""
    name = type(linear_model).__name__
    needed = ("coef_", "intercept_", "predict")
    missing = [a for a in needed if getattr(linear_model, a, None) is None]
    if missing:
        if isinstance(linear_model, BaseEstimator):
            check_is_fitted(linear_model)
        raise TypeError(
            f"{linear_model!r} is no fitted linear model that could be folded into: it "
            f"has no {' and no '.join(missing)}.{_advice(linear_model)}"
        )
    coef, intercept = linear_model.coef_, linear_model.intercept_
    if not (isinstance(coef, np.ndarray) or sparse.issparse(coef)):
        raise TypeError(
            f"coef_ of {name} is a {type(coef).__name__}; expected a NumPy array or a "
            "SciPy sparse matrix."
        )
    if sparse.issparse(coef):
        coef = coef.tocsr()  # the format of sparsify()
    if coef.dtype.kind != "f":
        coef = coef.astype(np.float64)
    # A model without an intercept has the number 0.0, of no dtype of its own.
    intercept = np.asarray(intercept, getattr(intercept, "dtype", coef.dtype))
    if intercept.dtype.kind != "f":
        intercept = intercept.astype(coef.dtype)
    if coef.ndim not in (1, 2) or coef.shape[-1] != n_features:
        raise ValueError(
            f"coef_ of {name} has shape {coef.shape}, but the transformer has "
            f"{n_features} features."
        )
    if intercept.shape not in ((), (1,), coef.shape[:-1]):
        raise ValueError(
            f"intercept_ of {name} has shape {intercept.shape}, which does not go with "
            f"coef_ of shape {coef.shape}."
        )
    return coef, intercept


def _check_names(transformer: BatchNorm1dTransformer, linear_model: Any) -> None:
    names = getattr(linear_model, "feature_names_in_", None)
    expected = transformer.get_feature_names_out()
    if names is not None and not np.array_equal(names, expected):
        raise ValueError(
            f"{type(linear_model).__name__} was fitted on features {list(names)}, but "
            f"{type(transformer).__name__} puts out {list(expected)}."
        )


def _folded(
    coef: Any, intercept: NDArray[Any], affine_map: _AffineMap, X: Floats, Z: Floats
) -> Any:
    """Coefficients and intercept for X, of which the transformer makes Z.

    Of the dtypes that they had, or of float64 where those would cost two digits.
    """
    mean, scale, bias = affine_map
    by = scale[coef.indices] if sparse.issparse(coef) else scale
    scaled = _with_values(coef, _values(coef).astype(np.float64) * by)
    # A long double, where it is longer, leaves one rounding: the last.
    shift = coef @ (bias - np.multiply(mean, scale, dtype=np.longdouble))
    shifted = intercept + shift
    lost = _size(scaled, shifted, X) > _LARGEST_LOSS * _size(coef, intercept, Z)
    held = _holds(coef.dtype, _values(scaled)) and _holds(intercept.dtype, shifted)
    at_least = np.float64 if np.any(lost) or not held else np.float16
    results = []
    for name, old, new in (("coef_", coef, scaled), ("intercept_", intercept, shifted)):
        values = _values(new).astype(np.promote_types(old.dtype, at_least))
        if not np.isfinite(values).all():
            raise ValueError(
                f"Folded, {name} would not be finite: it is not now, or the features "
                f"are too large or too small for {values.dtype}."
            )
        results.append(_with_values(new, values))
    return results


def _holds(dtype: np.dtype[Any], values: NDArray[Any]) -> bool:
    """Whether a dtype can hold values to its full precision."""
    limits, size = np.finfo(dtype), np.abs(values)
    return bool(
        ((size <= limits.max) & ((size >= limits.smallest_normal) | (size == 0))).all()
    )


def _size(coef: Any, intercept: NDArray[Any], X: Floats) -> Any:
    """How large, at most, the terms of a prediction are, for each output.

    A sum errs by roundings of that size.
    """
    terms = _with_values(coef, np.abs(_values(coef))) @ np.abs(X).T
    return np.max(terms, axis=-1) + np.abs(intercept)


def _values(coef: Any) -> Any:
    return coef.data if sparse.issparse(coef) else coef


def _with_values(coef: Any, values: NDArray[Any]) -> Any:
    """Other values in the places of those of coef."""
    if not sparse.issparse(coef):
        return values
    other = deepcopy(coef)  # its own copy() fails in the one dimension of SGDRegressor
    other.data = values
    return other


def _rounding(
    coef: Any,
    intercept: NDArray[Any],
    affine_map: _AffineMap,
    X: Floats,
    Z: Floats,
    dtype: np.dtype[Any],
) -> float:
    """How far rounding alone may bring the two ways to predict apart.

    The model computes in its own dtype, the folded model in `dtype`.
    """
    mean, scale, bias = affine_map
    raw = np.abs(X * scale) + np.abs(mean * scale) + np.abs(bias)
    errors = np.finfo(dtype).eps * _size(coef, intercept, raw)
    errors = errors + np.finfo(coef.dtype).eps * _size(coef, intercept, Z)
    # A sum of n products errs by no more than n roundings of the size of its
    # terms; each way adds a few, and that of the intercept as many again.
    return float(2 * (mean.size + 8) * np.max(errors, initial=0.0))


def _check_equal(
    folded: Any, X: Floats, linear_model: Any, Z: Floats, tolerance: float
) -> None:
    """Check that the folded model predicts of X what the model does of Z."""
    plain = copy(linear_model)  # which the names of features do not matter to
    vars(plain).pop("feature_names_in_", None)
    expected, actual = _predictions(plain, Z), _predictions(folded, X)
    if expected.dtype.kind != "f":  # labels of a classifier that has no scores
        equal = np.array_equal(actual, expected)
    else:
        # Relative too, for the exponential of a generalised linear model.
        equal = np.allclose(actual, expected, tolerance, tolerance, equal_nan=True)
    if not equal:
        raise ValueError(
            f"Folded, {type(linear_model).__name__} would predict something else: it "
            "does not predict by X @ coef_.T + intercept_ alone, or what is folded "
            f"into coef_ is too small for {folded.coef_.dtype}."
        )


def _predictions(model: Any, X: Floats) -> NDArray[Any]:
    for method in ("decision_function", "predict_proba"):
        if hasattr(model, method):
            return np.asarray(getattr(model, method)(X))
    return np.asarray(model.predict(X))


def _fold_pipeline(pipeline: Pipeline) -> Pipeline:
    leaves = list(_leaves(pipeline))
    if len(leaves) < 2 or not isinstance(_thawed(leaves[-2]), BatchNorm1dTransformer):
        raise ValueError(
            "The last two steps of the Pipeline must be a BatchNorm1dTransformer and "
            f"a linear model; got {[type(leaf).__name__ for leaf in leaves[-2:]]}."
        )
    *before, transformer, linear_model = leaves
    after = [*map(deepcopy, before), None, fold(_thawed(transformer), linear_model)]
    return _with_leaves(pipeline, iter(after))


def _is_passthrough(step: Any) -> bool:
    return step is None or isinstance(step, str)


def _leaves(pipeline: Pipeline) -> Iterator[Any]:
    """Estimators of a Pipeline and of those within it, in order."""
    for _, step in pipeline.steps:
        if isinstance(_thawed(step), Pipeline):
            yield from _leaves(_thawed(step))
        elif not _is_passthrough(step):
            yield step


def _with_leaves(pipeline: Pipeline, leaves: Iterator[Any]) -> Pipeline:
    """Copy with other estimators in their places, without those that are None."""
    steps = []
    for name, step in pipeline.steps:
        if _is_passthrough(step):
            steps.append((name, step))
        elif isinstance(_thawed(step), Pipeline):
            inner = _with_leaves(_thawed(step), leaves)
            if inner.steps:
                is_frozen = isinstance(step, FrozenEstimator)
                steps.append((name, FrozenEstimator(inner) if is_frozen else inner))
        elif (leaf := next(leaves)) is not None:
            steps.append((name, leaf))
    other = copy(pipeline)
    other.steps = steps
    if any(isinstance(step, PredictionOnly) for _, step in steps):
        for_prediction_only(other)
    return other


# For prediction only


class PredictionOnly:
    """Base of the classes of folded models, which predict and do not train.

    They have ``fit``, as scikit-learn takes nothing else for an estimator
    (``check_is_fitted``), but it raises, and ``hasattr`` is False for all others that
    train or transform.
    """

    # The class of which it is the folded one.
    _unfolded: type

    def fit(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise AttributeError."""
        raise AttributeError(_for_prediction_only(type(self), "fit"))

    def __sklearn_clone__(self) -> Any:
        """Return an unfitted model of its class, which may be trained."""
        return clone(unfolded(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as one of its class, as there is no other that could be imported."""
        return for_prediction_only, (unfolded(self),)


class PredictionOnlyPipeline(PredictionOnly):
    """Base of the classes of Pipelines that end with a folded model."""

    def __getitem__(self, ind: Any) -> Any:
        """Return a step, or a pipeline of some steps, of the class of the original."""
        return unfolded(self)[ind]


def unfolded(folded: PredictionOnly) -> Any:
    """Return the same model, of the same attributes, as one of the original class."""
    model: Any = object.__new__(folded._unfolded)
    vars(model).update(vars(folded))
    return model


class _Absent:
    """Method that a folded model does not have."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> NoReturn:
        raise AttributeError(_for_prediction_only(owner, self.name))


def _for_prediction_only(kind: type, method: str) -> str:
    return (
        f"{kind.__name__} has no {method}: it is for prediction only, as its "
        "coefficients have taken in those of a transformer. Train the transformer and "
        "the linear model behind it, and fold again."
    )


def for_prediction_only(model: Any) -> Any:
    """Turn a folded model, or a Pipeline with one, into one that does not train."""
    if not isinstance(model, PredictionOnly):
        kind: Any = type(model)
        model.__class__ = _folded_class(kind)
    return model


@cache
def _folded_class(kind: Any) -> type:
    """Subclass whose instances predict as those of `kind` do, and do not train."""
    is_pipeline = issubclass(kind, Pipeline)
    prefixes = ("fit_", "partial_fit", "set_fit_", "set_partial_fit_")
    names = [name for name in dir(kind) if name.startswith(prefixes)]
    if not is_pipeline:
        names += ["transform", "inverse_transform"]
    absent = {n: _Absent() for n in names if callable(getattr(kind, n, None))}
    attributes = {
        "__doc__": kind.__doc__,
        "__module__": __name__,
        "_unfolded": kind,
        **absent,
    }
    bases = (PredictionOnlyPipeline if is_pipeline else PredictionOnly, kind)
    return new_class(
        f"Folded{kind.__name__}", bases, {}, lambda n: n.update(attributes)
    )


# Where skops may ask for the class of a folded model by its name.
_MODULES = (
    "sklearn.linear_model",
    "sklearn.svm",
    "sklearn.discriminant_analysis",
    "sklearn.cross_decomposition",
    "sklearn.pipeline",
    "sk_batchnorm.pipeline",
)


def __getattr__(name: str) -> Any:
    prefix, _, original = name.partition("Folded")
    if original and not prefix:
        for module in _MODULES:
            kind = getattr(import_module(module), original, None)
            if isinstance(kind, type):
                return _folded_class(kind)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
