"""scikit-learn's Pipeline and FeatureUnion with a partial_fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from numpy.typing import ArrayLike
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter
from sklearn.utils.metaestimators import available_if

from sk_batchnorm._compat import (
    check_parameters,
    check_steps,
    check_transformers,
    is_routing_enabled,
    metadata_for_step,
)
from sk_batchnorm._draft import commit, draft_of
from sk_batchnorm._streaming import (
    Part,
    StreamingMixin,
    are_taken,
    if_parts_stream,
    learners,
    note_path,
    passes_through,
    route,
    stopwatch,
    teach,
    teach_and_transform,
    unwrapped,
    weighted_if_taken,
    with_partial_fit,
    without_none,
)

__all__ = [
    "StreamingFeatureUnion",
    "StreamingPipeline",
    "make_streaming_pipeline",
    "make_streaming_union",
]


def _last_transforms(pipeline: StreamingPipeline) -> bool:
    _, last = pipeline.steps[-1]
    return passes_through(last) or any(
        hasattr(last, method) for method in ("fit_transform", "transform")
    )


class StreamingPipeline(StreamingMixin, Pipeline):
    """A scikit-learn Pipeline that also learns from mini-batches.

    It is a :class:`~sklearn.pipeline.Pipeline` that also has
    :meth:`partial_fit`. Step by step,

    - a step that has ``partial_fit`` learns from the mini-batch, then
      transforms it for the next step;
    - a stateless step (its tags say ``requires_fit=False``: ``Normalizer``,
      ``FunctionTransformer``) and a frozen one
      (``sklearn.frozen.FrozenEstimator``) only transform it;
    - "passthrough" and None pass it on.

    If any other step is among them, one that can only ``fit``, the pipeline has
    no ``partial_fit``: ``hasattr`` is False, and the error names the step.
    :class:`~sk_batchnorm.compose.FitOnce` gives such a step one.

    Read more in the :ref:`user guide <streaming>`.

    Parameters
    ----------
    steps : list of (str, estimator) tuples
        Names and estimators, as for Pipeline. They may be compositions that stream.

    transform_input : list of str, default=None
        Names of metadata that are transformed by the steps before the one that
        requests them, as for Pipeline. Needs metadata routing.

    memory : str or object with the joblib.Memory interface, default=None
        Cache of ``fit``, as for Pipeline. :meth:`partial_fit` has nothing to
        cache, as no mini-batch comes twice.

    verbose : bool, default=False
        Whether ``fit`` and :meth:`partial_fit` print the time of each step.

    Attributes
    ----------
    named_steps : Bunch
        The estimators by name.

    classes_ : ndarray of shape (n_classes,)
        Classes of the last step, if it is a classifier.

    n_features_in_ : int
        Number of features that the first step has seen.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if the first step has seen any.

    See Also
    --------
    make_streaming_pipeline : The same, with names made from the types.
    sklearn.pipeline.Pipeline : Learns from all data at once.

    Notes
    -----
    If a mini-batch fails in one of the steps, all of them are left as they were,
    bit for bit. To make this possible, copies of the steps (as of ``copy.deepcopy``)
    do the learning, and at the very end the steps take over the copies' attributes.
    So ``pipe[0]`` remains the same object, and a thread that predicts meanwhile
    never sees a step that has learned by half, though it may see one step as it
    was before the mini-batch and the next one as it is after it. Only one thread
    at a time may learn. A ``RandomState`` among a step's parameters is copied too:
    it advances in the step, but the variable that you passed does not.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.pipeline import StreamingPipeline
    >>> pipe = StreamingPipeline(
    ...     [
    ...         ("bn", BatchNorm1dTransformer(bias_correction=True)),
    ...         ("clf", SGDClassifier(random_state=0)),
    ...     ]
    ... )
    >>> rng = np.random.default_rng(0)
    >>> for _ in range(20):
    ...     X = rng.normal(loc=1000.0, size=(32, 2))
    ...     _ = pipe.partial_fit(X, X[:, 0] > 1000, classes=[False, True])
    >>> pipe.predict([[995.0, 1000.0], [1005.0, 1000.0]])
    array([False,  True])
    """

    if TYPE_CHECKING:
        # Which Pipeline does not annotate: a step, or a pipeline of several.
        def __getitem__(self, ind: int | str | slice) -> Any: ...

    steps: list[Part]
    _holders = ("steps",)

    # classes and sample_weight are the steps' to ask for.
    __metadata_request__partial_fit: ClassVar[dict[str, str]] = {
        "classes": UNUSED,
        "sample_weight": UNUSED,
    }

    __metadata_request__fit: ClassVar[dict[str, str]] = {"sample_weight": UNUSED}

    @weighted_if_taken
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Fit all steps, one after the other, as Pipeline does.

        Parameters
        ----------
        X : array-like, or whatever the first step takes
            The data.

        y : array-like, default=None
            Its targets, passed to each step.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        **params : dict of str to object
            Further metadata, such as `times`. Without metadata routing, a keyword
            goes to each step whose ``fit`` has an argument of that name, and
            ``step__name`` to that step alone, as in Pipeline.

        Returns
        -------
        StreamingPipeline
            The pipeline itself. If a step fails, those before it are fitted.
        """
        params |= without_none(sample_weight=sample_weight)
        super().fit(X, y, **self._for_steps(params))
        return self

    @available_if(_last_transforms)  # type: ignore[untyped-decorator]
    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Any:
        """Fit all steps, and transform X.

        Parameters
        ----------
        X, y, sample_weight, **params
            As in :meth:`fit`.

        Returns
        -------
        array-like of shape (n_samples, n_features_out)
            X transformed by all steps.
        """
        params |= without_none(sample_weight=sample_weight)
        return super().fit_transform(X, y, **self._for_steps(params))

    @if_parts_stream
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Learn from one mini-batch, step by step, in all steps or in none.

        Without metadata routing, `classes`, `sample_weight` and any other
        keyword go to each step whose ``partial_fit`` has an argument of that
        name; ``step__name``, as in Pipeline, goes to that step alone. With
        ``enable_metadata_routing=True``, they all go to the steps that request
        them by ``set_partial_fit_request`` (and ``set_transform_request``).

        Parameters
        ----------
        X : array-like, or whatever the first step takes
            The mini-batch.

        y : array-like, default=None
            Its targets, passed to each step.

        classes : array-like of shape (n_classes,), default=None
            All classes of the stream. Classifiers need them in the first call.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        **params : dict of str to object
            Further metadata, such as `times`.

        Returns
        -------
        StreamingPipeline
            The pipeline itself.

        Raises
        ------
        AttributeError
            If a step can only fit.
        TypeError
            If a step can't be copied, or is not an estimator.
        ValueError
            If no step takes a keyword, or if a step refuses the mini-batch. As
            after any error, the steps are as they were; a note on the error names
            the step that raised it.
        """
        params |= without_none(classes=classes, sample_weight=sample_weight)
        self._learn_in_all(X, y, params)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata go to which step, as for Pipeline.

        Returns
        -------
        MetadataRouter
            Pipeline's routes, and from ``partial_fit`` to the steps'
            ``partial_fit`` and ``transform``.
        """
        last, _ = self.steps[-1]
        return with_partial_fit(super().get_metadata_routing(), last=last)

    def _for_steps(self, params: dict[str, Any]) -> dict[str, Any]:
        """Keywords of ``fit`` in the syntax of Pipeline, ``step__name``."""
        bare = {name: value for name, value in params.items() if "__" not in name}
        if is_routing_enabled() or not bare:
            return params
        self._check()
        if not are_taken(self.steps, bare, "fit"):
            return params  # Pipeline's error says it
        kept = {name: value for name, value in params.items() if "__" in name}
        for step, routed in route(self, bare, "fit").items():
            for name, value in routed["fit"].items():
                kept.setdefault(f"{step}__{name}", value)
        return kept

    def _parts(self) -> list[Part]:
        return self.steps

    def _set_parts(self, parts: list[Any]) -> None:
        names = [name for name, _ in self.steps]
        self.steps = list(zip(names, parts, strict=True))

    def _check(self) -> None:
        check_parameters(self)
        check_steps(self)
        if self.transform_input is not None and not is_routing_enabled():
            raise ValueError(
                "transform_input needs metadata routing: "
                "sklearn.set_config(enable_metadata_routing=True)."
            )

    def _learn(self, X: Any, y: Any, params: Any, *, transforms: bool) -> Any:
        routed, n_steps = route(self, params), len(self.steps)
        for i, (name, step) in enumerate(self.steps):
            if passes_through(step):
                continue
            try:
                with stopwatch(self, f"(step {i + 1} of {n_steps}) Processing {name}"):
                    metadata = metadata_for_step(self, i, routed[name], params)
                    if transforms or i < n_steps - 1:
                        X = teach_and_transform(step, X, y, metadata)
                    else:
                        teach(step, X, y, metadata["partial_fit"])
            except Exception as error:
                note_path(error, self._path_of(name))
                raise
        return X


def make_streaming_pipeline(
    *steps: Any,
    memory: Any = None,
    transform_input: list[str] | None = None,
    verbose: bool = False,
) -> StreamingPipeline:
    """Make a StreamingPipeline whose steps are named after their types.

    Parameters
    ----------
    *steps : estimators
        The names are those that ``sklearn.pipeline.make_pipeline`` gives:
        the types in lowercase, numbered where one comes twice.

    memory, transform_input, verbose
        As in :class:`StreamingPipeline`.

    Returns
    -------
    StreamingPipeline

    Examples
    --------
    >>> from sklearn.linear_model import SGDRegressor
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.pipeline import make_streaming_pipeline
    >>> pipe = make_streaming_pipeline(BatchNorm1dTransformer(), SGDRegressor())
    >>> list(pipe.named_steps)
    ['batchnorm1dtransformer', 'sgdregressor']
    """
    return StreamingPipeline(
        make_pipeline(*steps).steps,
        memory=memory,
        transform_input=transform_input,
        verbose=verbose,
    )


class StreamingFeatureUnion(StreamingMixin, FeatureUnion):
    """A scikit-learn FeatureUnion that also learns from mini-batches.

    It is a :class:`~sklearn.pipeline.FeatureUnion` that also has
    :meth:`partial_fit`: all transformers learn from the same mini-batch, side by
    side. What each does with it is as in :class:`StreamingPipeline`.

    Read more in the :ref:`user guide <streaming>`.

    Parameters
    ----------
    transformer_list : list of (str, transformer) tuples
        Names and transformers, as for FeatureUnion. One may be "drop" or
        "passthrough".

    n_jobs : int, default=None
        Number of jobs, as for FeatureUnion.

    transformer_weights : dict, default=None
        Factors of the outputs, by name.

    verbose : bool, default=False
        Whether ``fit`` and :meth:`partial_fit` print the time of each transformer.

    verbose_feature_names_out : bool, default=True
        Whether names of features begin with that of their transformer.

    Attributes
    ----------
    named_transformers : Bunch
        The transformers by name.

    n_features_in_ : int
        Number of features that the first transformer has seen.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if it has seen any.

    See Also
    --------
    make_streaming_union : The same, with names made from the types.
    StreamingPipeline : Steps that learn one after the other.
    sk_batchnorm.compose.StreamingColumnTransformer : Each learns from columns of its
        own.

    Notes
    -----
    A mini-batch is learned by all transformers or by none, as in
    :class:`StreamingPipeline`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.pipeline import StreamingFeatureUnion
    >>> union = StreamingFeatureUnion(
    ...     [("bn", BatchNorm1dTransformer(halflife=10)), ("range", MinMaxScaler())]
    ... )
    >>> for batch in np.split(np.arange(20.0).reshape(-1, 1), 4):
    ...     _ = union.partial_fit(batch)
    >>> union.transform([[19.0]]).round(2)
    array([[1.32, 1.  ]])
    """

    transformer_list: list[Part]
    _holders = ("transformer_list",)

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
        """Fit all transformers, as FeatureUnion does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data.

        y : array-like, default=None
            Its targets, passed to each transformer.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        **params : dict of str to object
            Further metadata, such as `times`. Without metadata routing, a keyword
            goes to each transformer whose ``fit`` has an argument of that name, or to
            all if none has; ``name__keyword`` goes to that transformer alone.

        Returns
        -------
        StreamingFeatureUnion
            The union itself.
        """
        params |= without_none(sample_weight=sample_weight)
        if (
            not params
            or is_routing_enabled()
            or not are_taken(self.transformer_list, params, "fit")
        ):
            super().fit(X, y, **params)
        else:
            self._fit_routed(X, y, params)
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
        if (
            not params
            or is_routing_enabled()
            or not are_taken(self.transformer_list, params, "fit")
        ):
            return super().fit_transform(X, y, **params)
        return self._fit_routed(X, y, params)

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
        X : array-like of shape (n_samples, n_features)
            The mini-batch.

        y : array-like, default=None
            Its targets, passed to each transformer.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        **params : dict of str to object
            Further metadata, such as `times`, which reach the transformers as in
            :meth:`StreamingPipeline.partial_fit`.

        Returns
        -------
        StreamingFeatureUnion
            The union itself.

        Raises
        ------
        AttributeError
            If a transformer can only fit.
        TypeError
            If a transformer can't be copied, or is not an estimator.
        ValueError
            If no transformer takes a keyword, or if one refuses the mini-batch. As
            after any error, the transformers are as they were; a note on the error
            names the one that raised it.
        """
        params |= without_none(sample_weight=sample_weight)
        self._learn_in_all(X, y, params)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata go to which transformer, as for FeatureUnion.

        Returns
        -------
        MetadataRouter
            FeatureUnion's routes, and from ``partial_fit`` to the transformers'
            ``partial_fit`` and ``transform``.
        """
        return with_partial_fit(super().get_metadata_routing())

    def _parts(self) -> list[Part]:
        return self.transformer_list

    def _set_parts(self, parts: list[Any]) -> None:
        names = [name for name, _ in self.transformer_list]
        self.transformer_list = list(zip(names, parts, strict=True))

    def _check(self) -> None:
        check_transformers(self)

    def _learn(self, X: Any, y: Any, params: Any, *, transforms: bool) -> Any:
        return self._run(X, y, params, "partial_fit")

    def _fit_routed(self, X: Any, y: Any, params: Any) -> Any:
        draft = draft_of(self)
        Z = draft._run(X, y, params, "fit")
        commit(self, draft)
        return Z

    def _run(self, X: Any, y: Any, params: Any, method: str) -> Any:
        """``fit_transform``, in which each transformer learns by a method."""
        routed = route(self, params, method)
        learner = learners(self, routed, method, is_cloned=False)
        self._set_parts([learner(*part) for part in self.transformer_list])
        Z = super().fit_transform(X, y)
        self._set_parts([unwrapped(part) for _, part in self.transformer_list])
        return Z


def make_streaming_union(*transformers: Any, **params: Any) -> StreamingFeatureUnion:
    """Make a StreamingFeatureUnion whose transformers are named after their types.

    Parameters
    ----------
    *transformers : estimators
        The names are those that ``sklearn.pipeline.make_union`` gives: the types in
        lowercase, numbered where one comes twice.

    **params
        Keywords of ``sklearn.pipeline.make_union``: `n_jobs`, `verbose` and, in
        scikit-learn 1.7 or newer, `verbose_feature_names_out`.

    Returns
    -------
    StreamingFeatureUnion

    Examples
    --------
    >>> from sklearn.preprocessing import MinMaxScaler, StandardScaler
    >>> from sk_batchnorm.pipeline import make_streaming_union
    >>> union = make_streaming_union(StandardScaler(), MinMaxScaler())
    >>> list(union.named_transformers)
    ['standardscaler', 'minmaxscaler']
    """
    union = make_union(*transformers, **params)
    return StreamingFeatureUnion(**union.get_params(deep=False))
