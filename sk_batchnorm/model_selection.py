"""Prequential evaluation: each mini-batch is predicted, then learned.

A search with such a score can choose how fast to forget.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import check_scoring, get_scorer
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, gen_batches, get_tags, indexable
from sklearn.utils.metadata_routing import (
    MetadataRequest,
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm._compat import (
    Interval,
    StrOptions,
    check_arguments,
    is_routing_enabled,
    metadata_for_rows,
    takes_sample_weight,
)

__all__ = ["make_prequential_scorer", "prequential_predict"]

BATCH_SIZE = [Interval(Integral, 1, None, closed="left")]
METHODS = {"predict", "predict_proba", "predict_log_proba", "decision_function"}


def prequential_predict(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    batch_size: int,
    method: str = "predict",
    **params: Any,
) -> Any:
    """Predict each mini-batch of a stream, then learn from it.

    A copy of a fitted estimator takes the rows in their order. It predicts
    `batch_size` of them, learns from them by ``partial_fit``, and goes on to the
    next ones. So each row is predicted by what was learned from the rows before its
    mini-batch, as on a stream whose targets come with a delay of a mini-batch.

    Read more in the :ref:`user guide <prequential_score>`.

    Parameters
    ----------
    estimator : estimator
        Fitted, and with a ``partial_fit``, such as a fitted
        :class:`~sk_batchnorm.pipeline.StreamingPipeline`. It stays as it is.

    X : array-like of shape (n_samples, ...)
        The rows that come after those that `estimator` has learned from, in order
        of time: an array, a DataFrame, a list, a sparse matrix, or whatever else
        `estimator` takes.

    y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None
        Their targets.

    batch_size : int
        Number of rows in a mini-batch, at least 1. The last one may have fewer. As
        nothing is predicted after it, it is not learned from.

    method : str, default="predict"
        What predicts: ``"predict"``, ``"predict_proba"``, ``"predict_log_proba"`` or
        ``"decision_function"``.

    **params : dict of str to object
        Metadata that ``partial_fit`` takes, such as `sample_weight` or `times`. Those
        with as many rows as X are cut along with it.

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_outputs or n_classes)
        The predictions, in the order of the rows, of the dtype that `method`
        returns. A list of them if `method` returns a list, as ``predict_proba`` of
        several outputs does.

    Raises
    ------
    InvalidParameterError
        If `batch_size` is not an integer of at least 1, or `method` is another. It
        is a ValueError.
    AttributeError
        If `estimator` has no ``partial_fit``, or no such method.
    NotFittedError
        If `estimator` is not fitted.
    ValueError
        If X and y differ in length, or have no rows. An error that `estimator`
        raises has a note with the rows of the mini-batch.

    See Also
    --------
    make_prequential_scorer : A score of such predictions, for a search.
    sklearn.model_selection.cross_val_predict : Predicts by estimators that were
        fitted to the other folds, and do not learn on.

    References
    ----------
    - A. P. Dawid, `Present position and potential developments: Some personal views:
      Statistical theory: The prequential approach
      <https://doi.org/10.2307/2981683>`_, Journal of the Royal Statistical Society A
      147 (1984), 278-292.
    - J. Gama, R. Sebastião and P. P. Rodrigues, `On evaluating stream learning
      algorithms <https://doi.org/10.1007/s10994-012-5320-9>`_, Machine Learning 90
      (2013), 317-346.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.model_selection import prequential_predict
    >>> from sk_batchnorm.pipeline import make_streaming_pipeline
    >>> rng = np.random.default_rng(0)
    >>> drift = rng.normal(scale=0.2, size=(1000, 2)).cumsum(axis=0)
    >>> X = rng.normal(loc=drift)
    >>> y = np.subtract(*(X - drift).T) > 0  # relative to the drift
    >>> bn = BatchNorm1dTransformer(halflife=5)
    >>> pipe = make_streaming_pipeline(bn, SGDClassifier(random_state=0))
    >>> pipe = pipe.fit(X[:500], y[:500])
    >>> y_pred = prequential_predict(pipe, X[500:], y[500:], batch_size=10)
    >>> print(np.mean(y_pred == y[500:]).round(2))
    0.82

    Without learning on, it is not much better than a guess:

    >>> print(np.mean(pipe.predict(X[500:]) == y[500:]).round(2))
    0.64
    """
    check_arguments(
        "prequential_predict",
        {"batch_size": BATCH_SIZE, "method": [StrOptions(METHODS)]},
        batch_size=batch_size,
        method=method,
    )
    _check_streams(estimator)
    check_is_fitted(estimator)
    X, y = indexable(X, y)
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    if n_samples == 0:
        raise ValueError("X has no rows, so there is nothing to predict.")
    learner = deepcopy(estimator)
    predictions = []
    for rows in gen_batches(n_samples, batch_size):
        batch = _safe_indexing(X, rows)
        try:
            predictions.append(getattr(learner, method)(batch))
            if rows.stop < n_samples:
                targets = None if y is None else _safe_indexing(y, rows)
                metadata = metadata_for_rows(X, params, rows)
                learner.partial_fit(batch, targets, **metadata)
        except Exception as error:
            error.add_note(
                f"In the mini-batch of rows {rows.start} to {rows.stop - 1} of a "
                "prequential evaluation."
            )
            raise
    return _concatenated(predictions)


def make_prequential_scorer(
    scoring: str | Callable[..., Any] | None = None, *, batch_size: int
) -> _PrequentialScorer:
    """Make a scorer that lets a copy of the estimator learn on as it predicts.

    It goes where scikit-learn takes a `scoring`: ``GridSearchCV``,
    ``RandomizedSearchCV``, ``cross_validate`` and others. Each mini-batch of the test
    rows is predicted and then learned, as :func:`prequential_predict` does, and the
    predictions of all of them are scored. So a search can choose what only shows
    while an estimator learns: the half-life or the momentum of
    :class:`~sk_batchnorm.BatchNorm1dTransformer`, the learning rate of the model.

    Read more in the :ref:`user guide <prequential_score>`.

    Parameters
    ----------
    scoring : str, callable or None, default=None
        The score: a name such as ``"roc_auc"``
        (``sklearn.metrics.get_scorer_names``), what ``sklearn.metrics.make_scorer``
        returns, or a function with the arguments (estimator, X, y). Such a
        function sees an estimator that predicts all of X prequentially. None is
        ``"accuracy"`` for classifiers and ``"r2"`` for regressors.

    batch_size : int
        Number of rows that are predicted before they are learned, at least 1: as
        many as will come before their targets are known.

    Returns
    -------
    scorer : callable
        With the arguments (estimator, X, y=None, `**params`). It returns what
        `scoring` does, and leaves `estimator` as it is. `params` are metadata of the
        rows for ``partial_fit``; `sample_weight` is passed to the metric, too, if it
        takes one. ``scorer.set_score_request(times=True)`` and the like say which of
        them a search passes, see Notes.

    Raises
    ------
    InvalidParameterError
        If `batch_size` is not an integer of at least 1, or `scoring` no string, no
        callable and not None. It is a ValueError.
    ValueError
        If there is no score of that name, or `scoring` is a metric and not a scorer.
        The scorer raises it if `scoring` is None and the estimator is neither
        a classifier nor a regressor, and what :func:`prequential_predict` raises.

    See Also
    --------
    prequential_predict : The predictions themselves.
    sklearn.model_selection.TimeSeriesSplit : Folds that keep the rows in order.

    Notes
    -----
    The rows must be in order of time, and the test rows of a fold must come after the
    training rows: pass ``cv=TimeSeriesSplit()``. What a search uses by default,
    ``StratifiedKFold`` or ``KFold``, also tests on rows that come before those learned
    from. ``KFold(shuffle=True)``, ``train_test_split`` and ``HalvingGridSearchCV``
    shuffle the rows. For the same reason, scores of the training rows
    (``return_train_score=True``) mean nothing here.

    A search passes the metadata that the scorer requests, which needs
    ``sklearn.set_config(enable_metadata_routing=True)``. An estimator with a
    half-life in time needs its `times` in ``fit``, in ``partial_fit`` and here, so all
    three request them. From the scorer, metadata go to ``partial_fit`` as far as the
    estimator requests them there.

    An error is up to `error_score` of the search: by default a warning, and a score
    of NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.model_selection import make_prequential_scorer
    >>> from sk_batchnorm.pipeline import make_streaming_pipeline
    >>> rng = np.random.default_rng(0)
    >>> drift = rng.normal(scale=0.2, size=(1000, 2)).cumsum(axis=0)
    >>> X = rng.normal(loc=drift)
    >>> y = np.subtract(*(X - drift).T) > 0  # relative to the drift
    >>> pipe = make_streaming_pipeline(
    ...     BatchNorm1dTransformer(halflife=5), SGDClassifier(random_state=0)
    ... )
    >>> search = GridSearchCV(
    ...     pipe,
    ...     {"batchnorm1dtransformer__halflife": [1, 5, 50, 500]},
    ...     cv=TimeSeriesSplit(),
    ...     scoring=make_prequential_scorer("accuracy", batch_size=10),
    ... ).fit(X, y)
    >>> search.cv_results_["mean_test_score"].round(2)
    array([0.76, 0.79, 0.75, 0.73])
    >>> search.best_params_
    {'batchnorm1dtransformer__halflife': 5}
    """
    check_arguments(
        "make_prequential_scorer",
        {"scoring": [str, callable, None], "batch_size": BATCH_SIZE},
        scoring=scoring,
        batch_size=batch_size,
    )
    return _PrequentialScorer(scoring, batch_size)


class _PrequentialScorer:
    """What make_prequential_scorer makes."""

    def __init__(
        self, scoring: str | Callable[..., Any] | None, batch_size: int
    ) -> None:
        self._scoring = scoring
        self._scorer: Any = scoring
        if isinstance(scoring, str):
            self._scorer = get_scorer(scoring)
        elif scoring is not None:
            check_scoring(scoring=scoring)  # which finds a metric that is no scorer
        self._batch_size = batch_size
        # A search that is given one of these asks for a request.
        self._requests: dict[str, bool | str | None] = {
            "sample_weight": None,
            "times": None,
        }

    def __repr__(self) -> str:
        return (
            f"make_prequential_scorer({self._scoring!r}, batch_size={self._batch_size})"
        )

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Any:
        """Score of the predictions of X, made while a copy learns from X.

        Parameters
        ----------
        estimator : estimator
            Fitted, and with a ``partial_fit``. It stays as it is.

        X : array-like of shape (n_samples, ...)
            The rows, in order of time.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Their targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, for ``partial_fit`` and for the metric.

        **params : dict of str to object
            Further metadata for ``partial_fit``.

        Returns
        -------
        float
            Or whatever the function returns that is the score.
        """
        scorer = self._scorer if self._scorer is not None else _default_of(estimator)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        params |= weights
        stream = _Stream(
            estimator,
            X,
            y,
            batch_size=self._batch_size,
            **(self._routed(estimator, params) if is_routing_enabled() else params),
        )
        targets = () if y is None else (y,)
        return scorer(
            stream, X, *targets, **(weights if takes_sample_weight(scorer) else {})
        )

    def set_score_request(self, **requests: bool | str | None) -> Self:
        """Set which metadata a search passes to the scorer.

        Parameters
        ----------
        **requests : dict of str to {True, False, None or str}
            By name of the metadata: whether they are passed (None: to pass them to the
            search is an error), or the name under which the search has them.

        Returns
        -------
        scorer
            The scorer itself.

        Raises
        ------
        RuntimeError
            If metadata routing is not enabled.
        """
        if not is_routing_enabled():
            raise RuntimeError(
                "set_score_request needs metadata routing: "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self._requests |= requests
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return which metadata are requested.

        Returns
        -------
        MetadataRequest
            The requests that ``set_score_request`` has set.
        """
        request = MetadataRequest(owner=repr(self))
        for name, alias in self._requests.items():
            request.score.add_request(param=name, alias=alias)
        return request

    def _accept_sample_weight(self) -> bool:
        # Asked by a search that is passed weights without metadata routing.
        return True

    def _routed(self, estimator: Any, params: dict[str, Any]) -> dict[str, Any]:
        """Metadata that the estimator requests for ``partial_fit``."""
        metric = MetadataRequest(owner=repr(self))
        metric.score.add_request(param="sample_weight", alias=True)
        router = MetadataRouter(owner=repr(self))
        router.add(metric=metric, method_mapping=_score_to("score"))
        router.add(estimator=estimator, method_mapping=_score_to("partial_fit"))
        routed: dict[str, Any] = process_routing(router, "score", **params)[
            "estimator"
        ]["partial_fit"]
        return routed


def _prequentially(method: str) -> Any:
    def predict(self: _Stream, X: Any) -> Any:
        if X is not self._X:
            raise ValueError(
                "A prequential score needs predictions of all test rows in their "
                "order: pass the X that the scoring function is called with."
            )
        return prequential_predict(
            self._estimator, X, self._y, method=method, **self._options
        )

    predict.__name__ = method  # by which scikit-learn's scorers know what they get
    return available_if(lambda self: hasattr(self._estimator, method))(predict)


class _Stream:
    """An estimator to a scorer: it predicts X while a copy learns from it."""

    def __init__(self, estimator: Any, X: Any, y: Any, **options: Any) -> None:
        self._estimator = estimator
        self._X = X
        self._y = y
        self._options = options

    predict = _prequentially("predict")
    predict_proba = _prequentially("predict_proba")
    predict_log_proba = _prequentially("predict_log_proba")
    decision_function = _prequentially("decision_function")

    def __sklearn_tags__(self) -> Any:
        return get_tags(self._estimator)

    def __getattr__(self, name: str) -> Any:
        # No other methods, such as score: they would not learn on.
        if name.endswith("_") and not name.startswith("_"):
            return getattr(self._estimator, name)
        raise AttributeError(
            f"A prequential score has no {name!r} of the estimator, only its "
            f"attributes that end with '_', and {', '.join(sorted(METHODS))} as far as "
            "it has them."
        )


def _default_of(estimator: Any) -> Any:
    if is_classifier(estimator):
        return get_scorer("accuracy")
    if is_regressor(estimator):
        return get_scorer("r2")
    raise ValueError(
        f"{type(estimator).__name__} is neither a classifier nor a regressor, so "
        "there is no score by default: pass a scoring to make_prequential_scorer."
    )


def _check_streams(estimator: Any) -> None:
    """Raise AttributeError if an estimator has no partial_fit, and say what to do."""
    try:
        estimator.partial_fit  # noqa: B018
    except AttributeError as error:
        kind = type(estimator)
        if kind is Pipeline:
            advice = "make it a StreamingPipeline, whose steps learn one by one"
        elif isinstance(estimator, Pipeline):
            advice = str(error)  # names the step
        else:
            advice = "take one that learns from mini-batches, as SGDClassifier does"
        raise AttributeError(
            f"{kind.__name__} has no partial_fit, so it can't learn from what it has "
            f"predicted: {advice}."
        ) from error


def _concatenated(predictions: list[Any]) -> Any:
    if isinstance(predictions[0], list):  # one array for each output
        return [np.concatenate(output) for output in zip(*predictions, strict=True)]
    return np.concatenate(predictions)


def _score_to(callee: str) -> MethodMapping:
    return MethodMapping().add(caller="score", callee=callee)
