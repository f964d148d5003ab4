"""Fold eval mode, an affine map, into the linear model that comes after it."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any, NoReturn, TypeVar, overload

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.discovery import all_estimators
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm._draft import draft_of
from sk_batchnorm._inputs import Dense
from sk_batchnorm._kernels.numpy import AffineMap, Floats, ignore_float_errors
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import names_in_words, state_of
from sk_batchnorm.pipeline import StreamingPipeline

# By which LinearDiscriminantAnalysis and PLSRegression transform, and
# BayesianRidge and ARDRegression know a standard deviation. They belong to
# normalised features: a method that needs one raises, where it would be wrong.
_OF_NORMALISED_FEATURES = ("scalings_", "sigma_", "x_loadings_", "x_rotations_")

_N_PROBES = 4

# By how much rounding errors may grow before the result becomes float64: two digits,
# which leaves float32 five.
_LARGEST_LOSS = 100.0

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
        If ``track_running_stats=False`` leaves nothing to fold, if `clip` or
        ``handle_missing="mean"`` make it no affine map, if the numbers
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
    return _fold_pair(transformer, linear_model)


def _fold_pair(transformer: BatchNorm1dTransformer, linear_model: Any) -> Any:
    """Copy of the model with folded coefficients, checked by its predictions."""
    affine_map, X, Z = _affine_map_and_probes(transformer)
    coef, intercept = _coefficients(linear_model, transformer)
    new_coef, new_intercept, tolerance = _fold_coefficients(
        coef, intercept, affine_map, X, Z
    )
    if sparse.issparse(linear_model.coef_):
        new_coef = type(linear_model.coef_.tocsr())(new_coef)  # as of sparsify()
    name, folded = type(linear_model).__name__, deepcopy(linear_model)
    for attribute in ("feature_names_in_", *_OF_NORMALISED_FEATURES):
        vars(folded).pop(attribute, None)
    expected = _predictions(folded, Z)
    try:
        folded.coef_, folded.intercept_ = new_coef, new_intercept
    except AttributeError as error:
        raise TypeError(
            f"{name} computes coef_ or intercept_ from something else, so that there "
            f"is nothing to fold into.{_advice(linear_model)}"
        ) from error
    actual = _predictions(folded, X)
    if expected.dtype.kind == "f":
        # Relative too, for the exponential of a generalised linear model.
        equal = np.allclose(actual, expected, tolerance, tolerance, equal_nan=True)
    else:  # labels of a classifier that has no scores
        equal = np.array_equal(actual, expected)
    if not equal:
        raise ValueError(
            f"Folded, {name} would predict something else: it does not predict by "
            "X @ coef_.T + intercept_ alone, or what is folded into coef_ is too small "
            f"for {new_coef.dtype}."
        )
    if hasattr(transformer, "feature_names_in_"):
        folded.feature_names_in_ = transformer.feature_names_in_.copy()
    return for_prediction_only(folded)


def _fold_pipeline(pipeline: Pipeline) -> Pipeline:
    """Copy with the last estimator folded, without the transformer before it."""
    steps = dict(pipeline.steps)
    last = [n for n, step in steps.items() if not isinstance(step, str | None)][-2:]
    bn, model = [None, None, *(_thawed(steps[name]) for name in last)][-2:]
    if not isinstance(bn, BatchNorm1dTransformer) or isinstance(model, Pipeline):
        raise ValueError(
            "The last two steps of the Pipeline must be a BatchNorm1dTransformer and "
            "a linear model, not a Pipeline that contains them; "
            f"got {[type(steps[name]).__name__ for name in last]}."
        )
    steps[last[1]] = _fold_pair(bn, model)
    del steps[last[0]]
    folded = draft_of(pipeline)
    folded.steps = deepcopy(list(steps.items()))
    return for_prediction_only(folded)


def _thawed(estimator: Any) -> Any:
    """Return what is in a FrozenEstimator, or in several."""
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return estimator


def _advice(estimator: Any) -> str:
    """What to fold instead of a search, or of a support vector machine."""
    for name in ("best_estimator_", "estimator_"):
        if hasattr(estimator, name):
            return f" Fold its {name}."
    name = type(estimator).__name__.removeprefix("Nu")
    is_kernel = name in ("SVC", "SVR")
    return f" Train a Linear{name}, which can be folded." if is_kernel else ""


def _affine_map_and_probes(transformer: BatchNorm1dTransformer) -> Any:
    """Mean, scale and bias, points X where the data lie, and the output Z for them."""
    stats, weight, bias = state_of(transformer)
    if stats is None:
        raise ValueError(
            "track_running_stats=False normalises each X by its own statistics, "
            "which is no affine map that could be folded."
        )
    if transformer.clip is not None:
        raise ValueError(
            f"clip={transformer.clip} limits what the model sees, which is no affine "
            "map that could be folded: call set_params(clip=None) first."
        )
    if transformer.handle_missing == "mean":
        raise ValueError(
            "handle_missing='mean' fills missing values, which a linear model of raw "
            "features can't do: call set_params(handle_missing='keep') first."
        )
    if np.isnan(stats.mean).any():
        names = transformer.get_feature_names_out()[np.isnan(stats.mean)]
        raise ValueError(
            f"{names_in_words(names)} was never observed, so that there is no mean and "
            "no variance to fold."
        )
    mean = stats.mean if transformer.with_mean else np.zeros_like(stats.mean)
    bias = np.zeros_like(mean) if bias is None else bias
    affine_map = AffineMap(mean, stats.scale(transformer.eps, weight), bias)
    noise = np.random.default_rng(0).standard_normal((_N_PROBES, mean.size))
    X = stats.mean + stats.scale(transformer.eps, None, inverse=True) * noise
    return affine_map, X, Dense(X).normalized(affine_map, copy=True)


def _coefficients(model: Any, transformer: BatchNorm1dTransformer) -> tuple[Any, Any]:
    """`coef_` and `intercept_` of a model that fits: dense, of floating dtypes."""
    name, needed = type(model).__name__, ("coef_", "intercept_", "predict")
    missing = [each for each in needed if getattr(model, each, None) is None]
    if missing:
        if isinstance(model, BaseEstimator):
            check_is_fitted(model)
        raise TypeError(
            f"{model!r} is no fitted linear model that could be folded into: it has no "
            f"{' and no '.join(missing)}.{_advice(model)}"
        )
    coef, intercept = model.coef_, model.intercept_
    coef = coef.toarray() if sparse.issparse(coef) else coef
    if not isinstance(coef, np.ndarray):
        raise TypeError(
            f"coef_ of {name} is a {type(coef).__name__}; expected a NumPy array or a "
            "SciPy sparse matrix."
        )
    coef = coef if coef.dtype.kind == "f" else coef.astype(np.float64)
    # A model without an intercept has the number 0.0, of no dtype of its own.
    dtype = getattr(intercept, "dtype", coef.dtype)
    intercept = np.asarray(intercept, dtype if dtype.kind == "f" else coef.dtype)
    n_features = transformer.n_features_in_
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
    names = getattr(model, "feature_names_in_", None)
    expected = transformer.get_feature_names_out()
    if names is not None and not np.array_equal(names, expected):
        raise ValueError(
            f"{name} was fitted on features {list(names)}, but "
            f"{type(transformer).__name__} puts out {list(expected)}."
        )
    return coef, intercept


def _fold_coefficients(
    coef: Any, intercept: Any, affine_map: Any, X: Floats, Z: Floats
) -> Any:
    """Coefficients and intercept for X in place of Z, and how far rounding takes them.

    Of the dtypes that they had, or of float64 where those would cost two digits.
    """
    mean, scale, bias = affine_map.centre, affine_map.scale, affine_map.offset
    scaled = coef.astype(np.float64) * scale
    # A long double, where it is longer, leaves one rounding: the last.
    offset = bias - np.multiply(mean, scale, dtype=np.longdouble)
    shifted = intercept + coef @ offset
    before, after = _size(coef, intercept, Z), _size(scaled, shifted, X)
    held = _holds(coef.dtype, scaled) and _holds(intercept.dtype, shifted)
    stays = held and not np.any(after > _LARGEST_LOSS * before)
    folded = []
    for name, old, new in (("coef_", coef, scaled), ("intercept_", intercept, shifted)):
        dtype = old.dtype if stays else np.promote_types(old.dtype, np.float64)
        folded.append(new.astype(dtype))
        if not np.isfinite(folded[-1]).all():
            raise ValueError(
                f"Folded, {name} would not be finite: it is not now, or the features "
                f"are too large or too small for {dtype}."
            )
    # A sum of n products errs by no more than n roundings of the size of its terms;
    # each way adds a few, that of the intercept as many again, and so does centring.
    errors = np.finfo(coef.dtype).eps * before + np.finfo(folded[0].dtype).eps * after
    return *folded, float(4 * (mean.size + 8) * np.max(errors, initial=0.0))


def _holds(dtype: np.dtype[Any], values: Any) -> bool:
    """Whether a dtype can hold values to its full precision."""
    limits, size = np.finfo(dtype), np.abs(values)
    normal = (size <= limits.max) & (size >= limits.smallest_normal)
    return bool((normal | (size == 0)).all())


def _size(coef: Any, intercept: Any, X: Floats) -> Any:
    """How large the terms of a prediction are at most; rounding is relative to it."""
    return np.max(np.abs(coef) @ np.abs(X).T, axis=-1) + np.abs(intercept)


def _predictions(model: Any, X: Floats) -> Any:
    methods = ("decision_function", "predict_proba", "predict")
    method = next(each for each in methods if hasattr(model, each))
    return np.asarray(getattr(model, method)(X))


class PredictionOnly:
    """Base of the classes of folded models and of Pipelines that end with one."""

    _unfolded: type  # the class of the original

    def fit(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise; scikit-learn takes nothing without ``fit`` for an estimator."""
        _Absent("fit").__get__(self, type(self))

    def __sklearn_clone__(self) -> Any:
        return clone(unfolded(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        # By way of the original, as its class can be imported.
        return for_prediction_only, (unfolded(self),)


class _Absent:
    """Method that raises where it is looked up, so that hasattr is False."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> NoReturn:
        raise AttributeError(
            f"{owner.__name__} has no {self.name}: it is for prediction only, as its "
            "coefficients have taken in those of a transformer. Train the transformer "
            "and the linear model behind it, and fold again."
        )


def for_prediction_only(model: Any) -> Any:
    """Turn a folded model, or a Pipeline with one, into one that does not train."""
    model.__class__ = _folded_class(model.__class__)
    return model


def unfolded(folded: PredictionOnly) -> Any:
    """Return the same model, of the same attributes, as one of the original class."""
    model: Any = draft_of(folded)
    model.__class__ = folded._unfolded
    return model


@cache
def _folded_class(kind: Any) -> Any:
    """Subclass whose instances predict as those of `kind` do, and do not train."""
    if issubclass(kind, PredictionOnly):
        return kind
    namespace = {"__doc__": kind.__doc__, "__module__": __name__, "_unfolded": kind}
    prefixes = ("fit_", "partial_fit", "set_fit_", "set_partial_fit_")
    trains = [name for name in dir(kind) if name.startswith(prefixes)]
    for name in (*trains, "transform", "inverse_transform"):
        if callable(getattr(kind, name, None)):
            namespace[name] = _Absent(name)
    if issubclass(kind, Pipeline):  # a slice of which is of the original class
        namespace["__getitem__"] = lambda self, ind: unfolded(self)[ind]
    return type(f"Folded{kind.__name__}", (PredictionOnly, kind), namespace)


def __getattr__(name: str) -> Any:
    # skops looks up the class of a folded model by its name.
    if name.startswith("Folded"):
        kinds = dict(all_estimators(), StreamingPipeline=StreamingPipeline)
        if kind := kinds.get(name.removeprefix("Folded")):
            return _folded_class(kind)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
