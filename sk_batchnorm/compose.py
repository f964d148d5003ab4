"""scikit-learn's ColumnTransformer and TransformedTargetRegressor with a partial_fit.

And FitOnce, for what can only ``fit``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from joblib import parallel_config
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_transformer,
)
from sklearn.linear_model import LinearRegression
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRequest,
    MetadataRouter,
    MethodMapping,
    get_routing_for_object,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from sk_batchnorm._compat import (
    ROUTED_METHODS,
    check_parameters,
    check_transformers,
    is_routing_enabled,
    names_of_chosen,
    target_ndim,
)
from sk_batchnorm._draft import commit, draft_of
from sk_batchnorm._streaming import (
    SHARED,
    Learner,
    LearningTransformer,
    Part,
    StreamingMixin,
    TransformingLearner,
    are_taken,
    if_parts_stream,
    learners,
    route,
    stopwatch,
    takes,
    unwrapped,
    weighted_if_taken,
    with_partial_fit,
    without_none,
)
from sk_batchnorm._validation import refuse_mask

__all__ = [
    "FitOnce",
    "StreamingColumnTransformer",
    "StreamingTransformedTargetRegressor",
    "make_streaming_column_transformer",
]


class StreamingColumnTransformer(StreamingMixin, ColumnTransformer):
    """A scikit-learn ColumnTransformer that also learns from mini-batches.

    It is a :class:`~sklearn.compose.ColumnTransformer` that also has
    :meth:`partial_fit`: each transformer learns from its columns. What it does with
    them is as in :class:`~sk_batchnorm.pipeline.StreamingPipeline`: one that can
    only ``fit``, such as ``OneHotEncoder``, needs :class:`FitOnce`.

    The first mini-batch settles which columns go where, also where these are chosen by
    a callable, and whether the output is sparse.

    Read more in the :ref:`user guide <streaming>`.

    Parameters
    ----------
    transformers : list of (str, transformer, columns) tuples
        Names, transformers and their columns, as for ColumnTransformer. One may be
        "drop" or "passthrough".

    remainder : {"drop", "passthrough"} or estimator, default="drop"
        What becomes of the other columns.

    sparse_threshold : float, default=0.3
        Share of values other than 0 below which the output is sparse, if any
        transformer's is. As the first mini-batch says.

    n_jobs : int, default=None
        Number of jobs, as for ColumnTransformer. From the second mini-batch on,
        they are threads.

    transformer_weights : dict, default=None
        Factors of the outputs, by name.

    verbose : bool, default=False
        Whether ``fit`` and :meth:`partial_fit` print the time of each transformer.

    verbose_feature_names_out : bool, str or callable, default=True
        Whether names of features begin with that of their transformer, as for
        ColumnTransformer.

    force_int_remainder_cols : bool
        As for ColumnTransformer, in the versions of scikit-learn that have it.

    Attributes
    ----------
    transformers_ : list of (str, transformer, columns) tuples
        What learns: clones of `transformers`, made by the first mini-batch.

    named_transformers_ : Bunch
        The same by name.

    sparse_output_ : bool
        Whether the output is sparse.

    output_indices_ : dict of str to slice
        Columns of the output by name of the transformer.

    n_features_in_ : int
        Number of columns.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are strings.

    See Also
    --------
    make_streaming_column_transformer : The same, with names made from the types.
    sk_batchnorm.pipeline.StreamingFeatureUnion : Each learns from all columns.

    Notes
    -----
    A mini-batch is learned by all transformers or by none, as in
    :class:`~sk_batchnorm.pipeline.StreamingPipeline`. A later mini-batch may have more
    columns than the first one, or have them in another order, if they have names.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.compose import FitOnce, StreamingColumnTransformer
    >>> table = StreamingColumnTransformer(
    ...     [
    ...         ("num", BatchNorm1dTransformer(halflife=100), ["temp"]),
    ...         ("cat", FitOnce(OneHotEncoder()), ["origin"]),
    ...     ]
    ... )
    >>> X = pd.DataFrame({"temp": [1.0, 3.0, 5.0], "origin": ["JFK", "LGA", "JFK"]})
    >>> for batch in [X, X.assign(temp=X["temp"] + 1)]:
    ...     _ = table.partial_fit(batch)
    >>> table.transform(X).round(1)
    array([[-1.5,  1. ,  0. ],
           [-0.3,  0. ,  1. ],
           [ 0.9,  1. ,  0. ]])
    """

    transformers: list[tuple[str, Any, Any]]
    transformers_: list[tuple[str, Any, Any]]
    remainder: Any
    _holders = ("transformers_",)
    _specified_by = ("transformers", "remainder", "transformer_weights")

    __metadata_request__partial_fit: ClassVar[dict[str, str]] = {
        "sample_weight": UNUSED
    }
    __metadata_request__fit: ClassVar[dict[str, str]] = {"sample_weight": UNUSED}

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Fit all transformers, as ColumnTransformer does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or DataFrame
            The data.

        y : array-like, default=None
            Its targets, passed to each transformer.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        **params : dict of str to object
            Further metadata, such as `times`. Without metadata routing, a keyword
            goes to each transformer whose ``fit`` has an argument of that name, and
            ``name__keyword`` to that transformer alone.

        Returns
        -------
        StreamingColumnTransformer
            The transformer itself.
        """
        params |= without_none(sample_weight=sample_weight)
        if params and are_taken(self._specs(), params, "fit"):
            self.fit_transform(X, y, **params)
        else:
            super().fit(X, y, **params)
        return self

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Any:
        """Fit all transformers, and stack what they make of X.

        Parameters
        ----------
        X, y, sample_weight, **params
            As in :meth:`fit`.

        Returns
        -------
        array-like or sparse matrix of shape (n_samples, n_features_out)
            The outputs, side by side.
        """
        params |= without_none(sample_weight=sample_weight)
        if not params or is_routing_enabled():
            return super().fit_transform(X, y, **params)
        parts = self._specs()
        if not are_taken(parts, params, "fit"):
            return super().fit_transform(X, y, **params)
        draft = draft_of(self)
        Z = draft._fit_first(X, y, route(draft, params, "fit", parts), "fit")
        commit(self, draft)
        return Z

    @if_parts_stream
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Learn from one mini-batch, in all transformers or in none.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or DataFrame
            The mini-batch.

        y : array-like, default=None
            Its targets, passed to each transformer.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        **params : dict of str to object
            Further metadata, such as `times`, which reach the transformers as in
            :meth:`sk_batchnorm.pipeline.StreamingPipeline.partial_fit`.

        Returns
        -------
        StreamingColumnTransformer
            The transformer itself.

        Raises
        ------
        AttributeError
            If a transformer can only fit.
        TypeError
            If a transformer can't be copied, or is not an estimator.
        ValueError
            If a column of the first mini-batch is missing, if no transformer takes a
            keyword, or if one refuses the mini-batch. As after any error, the
            transformers are as they were; a note on the error names the one that
            raised it.
        """
        params |= without_none(sample_weight=sample_weight)
        self._learn_in_all(X, y, params)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata go to which transformer, as for ColumnTransformer.

        Returns
        -------
        MetadataRouter
            ColumnTransformer's routes, and from ``partial_fit`` to the transformers'
            ``partial_fit`` and ``transform``.
        """
        return with_partial_fit(super().get_metadata_routing())

    def _check(self) -> None:
        check_parameters(self)
        check_transformers(self)

    def _specs(self) -> list[Part]:
        """What the parts are made of."""
        specs = [(name, part) for name, part, _ in self.transformers]
        return [*specs, ("remainder", self.remainder)]

    def _parts(self) -> list[Part]:
        if not self._has_parts():
            return self._specs()
        return [(name, part) for name, part, _ in self.transformers_]

    def _set_parts(self, parts: list[Any]) -> None:
        self.transformers_ = [
            (name, part, columns)
            for (name, _, columns), part in zip(self.transformers_, parts, strict=True)
        ]

    def _learn(self, X: Any, y: Any, params: Any, *, transforms: bool) -> Any:
        routed = route(self, params)
        if not self._has_parts():
            return self._fit_first(X, y, routed, "partial_fit")
        parts, chosen = [], names_of_chosen(self)
        for name, part in self._parts():
            if name in chosen:
                part = LearningTransformer(part, self, name, routed[name])
                part.y = y
                i = chosen.index(name) + 1
                message = f"({i} of {len(chosen)}) Processing {name}"
                part.watch = stopwatch(self, message)
            parts.append(part)
        self._set_parts(parts)
        # Threads, as processes would learn in copies of the parts.
        with parallel_config(backend="threading"):
            Z = super().transform(X)
        self._set_parts([unwrapped(part) for part in parts])
        return Z

    def _fit_first(self, X: Any, y: Any, routed: Any, method: str) -> Any:
        """``fit_transform`` of a draft, in which each part learns by a method."""
        specs = {"transformers": self.transformers, "remainder": self.remainder}
        learner = learners(self, routed, method, is_cloned=True)
        self.transformers = [
            (name, learner(name, part), columns)
            for name, part, columns in self.transformers
        ]
        self.remainder = learner("remainder", self.remainder)
        Z = super().fit_transform(X, y)
        wrapped = vars(self)
        self.__dict__ = {n: unwrapped(value) for n, value in wrapped.items()} | specs
        return Z


def make_streaming_column_transformer(
    *transformers: Any, **params: Any
) -> StreamingColumnTransformer:
    """Make a StreamingColumnTransformer with names made from the types.

    Parameters
    ----------
    *transformers : (transformer, columns) tuples
        The names are those that ``sklearn.compose.make_column_transformer`` gives:
        the types in lowercase, numbered where one comes twice.

    **params
        Keywords of ``sklearn.compose.make_column_transformer``: `remainder`,
        `sparse_threshold`, `n_jobs`, `verbose` and `verbose_feature_names_out`.

    Returns
    -------
    StreamingColumnTransformer

    Examples
    --------
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.compose import FitOnce, make_streaming_column_transformer
    >>> table = make_streaming_column_transformer(
    ...     (BatchNorm1dTransformer(halflife=100), ["temp"]),
    ...     (FitOnce(OneHotEncoder()), ["origin"]),
    ... )
    >>> [name for name, _, _ in table.transformers]
    ['batchnorm1dtransformer', 'fitonce']
    """
    table = make_column_transformer(*transformers, **params)
    return StreamingColumnTransformer(**table.get_params(deep=False))


_MASKED_Y = "Leave out the rows whose target is masked."


class StreamingTransformedTargetRegressor(StreamingMixin, TransformedTargetRegressor):
    """A scikit-learn TransformedTargetRegressor that also learns from mini-batches.

    It is a :class:`~sklearn.compose.TransformedTargetRegressor` that also has
    :meth:`partial_fit`: the transformer learns from y, then the regressor from X and
    the transformed y. ``predict`` inverts with what the transformer knows by now. So a
    regressor can follow a target that drifts in level and scale.

    Read more in the :ref:`user guide <streaming>`.

    Parameters
    ----------
    regressor : estimator, default=None
        The regressor. It has to stream; the default, ``LinearRegression``, does not.

    transformer : estimator, default=None
        What transforms the target, which it gets with two dimensions.

    func, inverse_func : callable, default=None
        Functions in place of a transformer, as for TransformedTargetRegressor.

    check_inverse : bool, default=True
        Whether ``fit`` and the first mini-batch check that the inverse is one.

    Attributes
    ----------
    regressor_ : estimator
        What learns: a clone of `regressor`, made by the first mini-batch.

    transformer_ : estimator
        A clone of `transformer`, or a ``FunctionTransformer``.

    n_features_in_ : int
        Number of features that the regressor has seen.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if it has seen any.

    See Also
    --------
    sk_batchnorm.pipeline.StreamingPipeline : May be the regressor, or have this as its
        last step.

    Notes
    -----
    A mini-batch is learned by both or by none, as in
    :class:`~sk_batchnorm.pipeline.StreamingPipeline`.

    Without metadata routing, `sample_weight` and any other keyword go to the
    transformer, the regressor or both, whichever take it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import SGDRegressor
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.compose import StreamingTransformedTargetRegressor
    >>> from sk_batchnorm.pipeline import make_streaming_pipeline
    >>> model = StreamingTransformedTargetRegressor(
    ...     make_streaming_pipeline(
    ...         BatchNorm1dTransformer(halflife=500), SGDRegressor(random_state=0)
    ...     ),
    ...     transformer=BatchNorm1dTransformer(halflife=500),
    ... )
    >>> rng = np.random.default_rng(0)
    >>> for day in range(100):
    ...     X = rng.normal(loc=day, size=(64, 2))
    ...     y = 1000 * X.sum(axis=1)  # far too large for SGD as it is
    ...     _ = model.partial_fit(X, y)
    >>> print(model.score(X, y) > 0.9)
    True
    """

    _holders = ("transformer_", "regressor_")
    _specified_by = ("transformer", "regressor", "func", "inverse_func")

    __metadata_request__partial_fit: ClassVar[dict[str, str]] = {
        "sample_weight": UNUSED
    }
    __metadata_request__fit: ClassVar[dict[str, str]] = {"sample_weight": UNUSED}

    @weighted_if_taken
    def fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **params: Any
    ) -> Self:
        """Fit the transformer on y, then the regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        **params : dict of str to object
            Further metadata, such as `times`. Without metadata routing, a keyword
            goes to the transformer, the regressor or both, if their ``fit`` has an
            argument of that name, else to the regressor, and
            ``transformer__keyword`` to the transformer alone.

        Returns
        -------
        StreamingTransformedTargetRegressor
            The regressor itself.
        """
        refuse_mask("y", y, _MASKED_Y)
        params |= without_none(sample_weight=sample_weight)
        parts = self._specs()
        if not params or not (is_routing_enabled() or are_taken(parts, params, "fit")):
            super().fit(X, y, **params)
            return self
        draft = draft_of(self)
        draft._fit_parts(X, y, route(draft, params, "fit", parts), "fit", parts)
        commit(self, draft)
        return self

    @if_parts_stream
    def partial_fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **params: Any
    ) -> Self:
        """Learn from one mini-batch, in the transformer and the regressor or in none.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The mini-batch.

        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Its targets, of as many dimensions as those of the first mini-batch.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        **params : dict of str to object
            Further metadata, such as `times`, which reach the transformer and the
            regressor as in
            :meth:`sk_batchnorm.pipeline.StreamingPipeline.partial_fit`.

        Returns
        -------
        StreamingTransformedTargetRegressor
            The regressor itself.

        Raises
        ------
        AttributeError
            If the transformer or the regressor can only fit.
        TypeError
            If one of them can't be copied, or is not an estimator.
        ValueError
            If neither takes a keyword, or if one refuses the mini-batch. As after any
            error, both are as they were; a note on the error names the one that
            raised it.
        """
        refuse_mask("y", y, _MASKED_Y)
        params |= without_none(sample_weight=sample_weight)
        self._learn_in_all(X, y, params)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata go to the transformer and which to the regressor.

        Returns
        -------
        MetadataRouter
            TransformedTargetRegressor's routes, and those to the transformer's
            ``fit`` and ``partial_fit``.
        """
        router = super().get_metadata_routing()
        if self.transformer is not None:
            mapping = MethodMapping().add(caller="fit", callee="fit")
            router.add(transformer=self.transformer, method_mapping=mapping)
        return with_partial_fit(router, transforms=False)

    def _check(self) -> None:
        check_parameters(self)

    def _specs(self) -> list[Part]:
        """What the parts are made of."""
        regressor = LinearRegression() if self.regressor is None else self.regressor
        return [("transformer", self.transformer), ("regressor", regressor)]

    def _parts(self) -> list[Part]:
        if not self._has_parts():
            return self._specs()
        return [("transformer", self.transformer_), ("regressor", self.regressor_)]

    def _set_parts(self, parts: list[Any]) -> None:
        self.transformer_, self.regressor_ = parts

    def _learn(self, X: Any, y: Any, params: Any, *, transforms: bool) -> None:
        routed = route(self, params)
        if not self._has_parts():
            self._fit_parts(X, y, routed, "partial_fit", self._specs())
            return
        n_dims = target_ndim(self)
        if y is not None and np.ndim(y) != n_dims:
            raise ValueError(
                f"y has {np.ndim(y)} dimensions, but that of the first mini-batch had "
                f"{n_dims}."
            )
        parts = {"func": None, "inverse_func": None, "check_inverse": False}
        self._fit_parts(X, y, routed, "partial_fit", self._parts(), **parts)

    def _fit_parts(
        self, X: Any, y: Any, routed: Any, method: str, parts: list[Part], **others: Any
    ) -> None:
        """``fit`` of a draft, in which each part learns by a method.

        The parts are cloned if they are no parts yet. `others` are parameters in place
        of the regressor's.
        """
        is_cloned = method == "fit" or not self._has_parts()
        kinds = TransformingLearner, Learner
        for (name, part), kind in zip(parts, kinds, strict=True):
            learner = learners(self, routed, method, is_cloned=is_cloned, kind=kind)
            others[name] = learner(name, part)
        parameters = {name: vars(self)[name] for name in others}
        self.__dict__ |= others
        super().fit(X, y)
        self.__dict__ |= parameters
        self._set_parts([unwrapped(part) for _, part in self._parts()])


def _estimator_has(name: str) -> Callable[[FitOnce], bool]:
    return lambda once: hasattr(once.estimator, name)


class FitOnce(MetaEstimatorMixin, BaseEstimator):
    """An estimator that is fitted by the first mini-batch, and only by that.

    For what can only ``fit``, such as PCA and OneHotEncoder, in a composition that
    streams: the first :meth:`partial_fit` fits it, later ones only check the number and
    the names of the features. All other methods and attributes are those of the fitted
    estimator, so that it transforms and predicts as before.

    Read more in the :ref:`user guide <streaming>`.

    Parameters
    ----------
    estimator : estimator
        What is fitted once.

    Attributes
    ----------
    estimator_ : estimator
        The clone of `estimator` that is fitted.

    See Also
    --------
    sklearn.frozen.FrozenEstimator : Is fitted before, and never again.
    StreamingColumnTransformer : Where a OneHotEncoder is at home.

    Notes
    -----
    The first mini-batch should be large enough to speak for the stream: a
    ``OneHotEncoder`` knows its categories alone. Let it ignore others
    (``handle_unknown="ignore"``), or list them (`categories`).

    With metadata routing, it requests what its estimator requests, and for
    ``partial_fit`` what that requests for ``fit``:
    ``FitOnce(KMeans().set_fit_request(sample_weight=True))``.

    Examples
    --------
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from sk_batchnorm.compose import FitOnce
    >>> once = FitOnce(OneHotEncoder(sparse_output=False, handle_unknown="ignore"))
    >>> for batch in [[["JFK"], ["LGA"]], [["EWR"]]]:
    ...     _ = once.partial_fit(batch)
    >>> once.transform([["LGA"], ["EWR"]])
    array([[0., 1.],
           [0., 0.]])
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit a clone of the estimator.

        Parameters
        ----------
        X : array-like
            The data.

        y : array-like, default=None
            Its targets.

        **params : dict of str to object
            Keywords of the estimator's ``fit``.

        Returns
        -------
        FitOnce
            Itself.
        """
        self.estimator_ = clone(self.estimator).fit(X, y, **params)
        return self

    @available_if(_estimator_has("fit_transform"))  # type: ignore[untyped-decorator]
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit a clone of the estimator, and transform X.

        Parameters
        ----------
        X, y, **params
            As in :meth:`fit`.

        Returns
        -------
        array-like of shape (n_samples, n_features_out)
            What the estimator's ``fit_transform`` returns.
        """
        return self._fit_and("fit_transform", X, y, params)

    @available_if(_estimator_has("fit_predict"))  # type: ignore[untyped-decorator]
    def fit_predict(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit a clone of the estimator, and predict for X.

        Parameters
        ----------
        X, y, **params
            As in :meth:`fit`.

        Returns
        -------
        array-like of shape (n_samples,)
            What the estimator's ``fit_predict`` returns.
        """
        return self._fit_and("fit_predict", X, y, params)

    def partial_fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit a clone of the estimator, if this is the first mini-batch.

        Parameters
        ----------
        X : array-like
            The mini-batch.

        y : array-like, default=None
            Its targets.

        **params : dict of str to object
            Keywords of the estimator's ``fit``.

        Returns
        -------
        FitOnce
            Itself.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, **params)
        if hasattr(self.estimator_, "n_features_in_"):
            validate_data(self.estimator_, X, reset=False, skip_check_array=True)
        return self

    @available_if(_estimator_has("set_output"))  # type: ignore[untyped-decorator]
    def set_output(self, *, transform: Any = None) -> Self:
        """Set the container of the output, as everywhere in scikit-learn.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            The container of the output of ``transform``.

        Returns
        -------
        FitOnce
            Itself.
        """
        for name in ("estimator", "estimator_"):
            if name in vars(self):
                vars(self)[name].set_output(transform=transform)
        return self

    def get_metadata_routing(self) -> MetadataRequest | MetadataRouter:
        """Return what the estimator requests, and the same for ``partial_fit``.

        Returns
        -------
        MetadataRequest or MetadataRouter
            The estimator's, in which ``partial_fit`` is as ``fit``.
        """
        routing = get_routing_for_object(self.estimator)
        if isinstance(routing, MetadataRequest):
            routing.partial_fit = routing.fit
            return routing
        mapping = MethodMapping().add(caller="partial_fit", callee="fit")
        for method in ROUTED_METHODS:
            if method != "partial_fit":
                mapping.add(caller=method, callee=method)
        router = MetadataRouter(owner=type(self).__name__)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def __getattr__(self, name: str) -> Any:
        attributes = vars(self)
        # While it is unpickled, it has none. What sets something returns the estimator.
        if "estimator" not in attributes or name.startswith(("__", "set_")):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )
        return getattr(attributes.get("estimator_", attributes["estimator"]), name)

    def __sklearn_is_fitted__(self) -> bool:
        return "estimator_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.estimator)

    def _fit_and(self, method: str, X: Any, y: Any, params: dict[str, Any]) -> Any:
        estimator = clone(self.estimator)
        result = getattr(estimator, method)(X, y, **params)
        self.estimator_ = estimator
        return result

    def _takes(self, argument: str, method: str) -> bool:
        return takes(self.estimator, argument, "fit")


# A fitted estimator is never fitted again.
SHARED[FitOnce] = frozenset({"estimator", "estimator_"})
