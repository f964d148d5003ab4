"""StreamingPipeline: scikit-learn's Pipeline with a partial_fit."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from copy import deepcopy
from copyreg import dispatch_table
from functools import lru_cache, update_wrapper
from inspect import signature
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from numpy.typing import ArrayLike
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter, process_routing

from sk_batchnorm._compat import (
    callbacks_of,
    check_parameters,
    check_steps,
    metadata_for_step,
    print_elapsed_time,
)
from sk_batchnorm._draft import commit, draft_of
from sk_batchnorm._transformer import REPLACED, BatchNorm1dTransformer

__all__ = ["StreamingPipeline", "make_streaming_pipeline"]

Method = TypeVar("Method", bound=Callable[..., Any])


class _IfStepsStream:
    """A method that an instance has if all its steps can stream.

    Like scikit-learn's ``available_if``, but the AttributeError itself says which
    step is in the way, not only the error that caused it.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        update_wrapper(cast(Any, self), method)

    def __get__(
        self, instance: StreamingPipeline | None, owner: type | None = None
    ) -> Callable[..., Any]:
        if instance is None:
            return self.method  # for its docstring and signature
        # Of malformed steps the call will tell.
        with suppress(TypeError, ValueError):
            _check_steps_stream(instance)
        return MethodType(self.method, instance)


def _if_steps_stream(method: Method) -> Method:
    # To editors it has the signature of the method, which a descriptor would hide.
    return cast(Method, _IfStepsStream(method))


class StreamingPipeline(Pipeline):
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

    Read more in the :ref:`user guide <streaming>`.

    Parameters
    ----------
    steps : list of (str, estimator) tuples
        Names and estimators, as for Pipeline. One may be a StreamingPipeline.

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

    # classes and sample_weight are the steps' to ask for.
    __metadata_request__partial_fit: ClassVar[dict[str, str]] = {
        "classes": UNUSED,
        "sample_weight": UNUSED,
    }

    @_if_steps_stream
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
            Further metadata.

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
        check_parameters(self)
        check_steps(self)
        _check_steps_stream(self)
        if self.transform_input is not None and not _is_routing_enabled():
            raise ValueError(
                "transform_input needs metadata routing: "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        asked = {"classes": classes, "sample_weight": sample_weight}
        params |= {name: value for name, value in asked.items() if value is not None}

        steps = _with_nested(self)
        kept = [step for _, step in steps if _is_frozen(step)]
        kept += [callback for _, step in steps for callback in callbacks_of(step)]
        copies = {id(each): each for each in kept}
        for name, step in steps:
            _copy(name, step, copies)
        learning = [(name, copies.get(id(step), step)) for name, step in self.steps]
        draft = draft_of(self)
        draft.steps = learning
        draft._learn(X, y, params)
        for _, step in steps:
            copied = copies.get(id(step), step)
            if _is_nested(step):
                copied.steps = step.steps  # which take over their own
            if copied is not step:
                commit(step, copied)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata go to which step, as for Pipeline.

        Returns
        -------
        MetadataRouter
            Pipeline's routes, and from ``partial_fit`` to the steps'
            ``partial_fit`` and ``transform``.
        """
        router = super().get_metadata_routing()
        last, _ = self.steps[-1]
        for name, (mapping, _) in router:
            mapping.add(caller="partial_fit", callee="partial_fit")
            if name != last:
                mapping.add(caller="partial_fit", callee="transform")
        return router

    def _learn(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        """Learn step by step, whatever has come of it when one fails."""
        kind, n_steps, watch = type(self).__name__, len(self.steps), nullcontext()
        routed = self._route(params)
        for i, (name, step) in enumerate(self.steps):
            if self.verbose:
                message = f"(step {i + 1} of {n_steps}) Processing {name}"
                watch = print_elapsed_time(kind, message)
            try:
                with watch:
                    if not _passes_through(step):
                        metadata = metadata_for_step(self, i, routed[name], params)
                        _teach(step, X, y, metadata["partial_fit"])
                        if i < n_steps - 1:
                            X = step.transform(X, **metadata["transform"])
            except Exception as error:
                error.add_note(
                    f"In step {name!r} of a {kind}, whose steps are all as they were "
                    "before the mini-batch."
                )
                raise

    def _route(self, params: dict[str, Any]) -> Mapping[str, Any]:
        """Metadata by step, method and name."""
        if _is_routing_enabled():
            routed: Mapping[str, Any] = process_routing(self, "partial_fit", **params)
            return routed
        routed = {name: {"partial_fit": {}, "transform": {}} for name, _ in self.steps}
        learning = {name: step for name, step in self.steps if _learns(step)}
        for key, value in params.items():
            prefix, _, argument = key.partition("__")
            if argument:
                takers = [name for name in learning if name == prefix]
            else:
                argument = key
                takers = [name for name, step in learning.items() if _asks(step, key)]
            if not takers:
                raise ValueError(
                    f"No step of this {type(self).__name__} takes {key!r} when it "
                    f"learns from a mini-batch. The steps that learn are "
                    f"{list(learning)}."
                )
            for name in takers:
                routed[name]["partial_fit"][argument] = value
        return routed


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


def _is_routing_enabled() -> bool:
    return bool(get_config()["enable_metadata_routing"])


def _passes_through(step: Any) -> bool:
    return step is None or step == "passthrough"


def _is_frozen(step: Any) -> bool:
    return isinstance(step, FrozenEstimator)


def _learns(step: Any) -> bool:
    # A frozen estimator lends the partial_fit of the one inside.
    return not _is_frozen(step) and hasattr(step, "partial_fit")


def _is_stateless(step: Any) -> bool:
    return hasattr(step, "__sklearn_tags__") and not get_tags(step).requires_fit


def _can_only_fit(step: Any) -> bool:
    is_estimator = hasattr(step, "fit") or hasattr(step, "fit_transform")
    return is_estimator and not (
        _is_frozen(step) or _learns(step) or _is_stateless(step)
    )


def _teach(step: Any, X: Any, y: Any, metadata: Mapping[str, Any]) -> None:
    if _learns(step):
        step.partial_fit(X, y, **metadata)
    elif not hasattr(step, "n_features_in_"):
        # A stateless step learns the number and the names of the features, no
        # more; a frozen one checks that it is fitted.
        step.fit(X, y)


def _check_steps_stream(pipeline: StreamingPipeline, prefix: str = "") -> None:
    """Raise AttributeError if there is a step that can only fit."""
    for name, step in pipeline.steps:
        if _is_nested(step):
            _check_steps_stream(step, f"{prefix}{name}__")
        elif _can_only_fit(step):
            kind = type(step).__name__
            advice = (
                "make it a StreamingPipeline"
                if isinstance(step, Pipeline)
                else f"fit it once and freeze it, FrozenEstimator({kind}(...).fit(X)), "
                "or take an estimator that has partial_fit"
            )
            raise AttributeError(
                f"This {type(pipeline).__name__} has no partial_fit, since its step "
                f"{prefix + name!r} ({kind}) can only fit: {advice}."
            )


def _asks(step: Any, argument: str) -> bool:
    """Whether a step that learns takes an argument of that name."""
    if _is_nested(step):
        return any(_learns(s) and _asks(s, argument) for _, s in step.steps)
    method = step.partial_fit
    return argument in _argument_names(getattr(method, "__func__", method))


@lru_cache
def _argument_names(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters)


def _is_nested(step: Any) -> bool:
    # As isinstance, which takes longer, as it asks Pipeline's metaclass.
    return StreamingPipeline in type(step).__mro__


def _with_nested(pipeline: StreamingPipeline, prefix: str = "") -> list[Any]:
    """Names and steps, those of pipelines among them before the pipelines."""
    found = []
    for name, step in pipeline.steps:
        if _is_nested(step):
            found += _with_nested(step, f"{prefix}{name}__")
        found.append((prefix + name, step))
    return found


def _copy(name: str, step: Any, copies: dict[int, Any]) -> None:
    """Copy a step into the copies; what steps share, their copies share too."""
    try:
        copied = _deepcopy(step, copies)
        if not _passes_through(step):
            vars(copied)  # what the step is to take over
    except Exception as error:
        raise TypeError(
            f"Step {name!r} ({type(step).__name__}) can't be copied, so that a "
            f"mini-batch that fails could not be undone: {error}"
        ) from error


# What a class defines to be copied, or pickled, in a way of its own.
_OWN_WAYS = {
    "__deepcopy__",
    "__getattr__",
    "__getattribute__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__getstate__",
    "__new__",
    "__reduce__",
    "__reduce_ex__",
    "__setstate__",
    "__slots__",
}
_IMMUTABLE = {bool, float, int, str, type(None)}


def _deepcopy(step: Any, copies: dict[int, Any]) -> Any:
    """Copy as deepcopy does, but most estimators in less time."""
    kind: Any = type(step)
    if id(step) in copies or kind in dispatch_table or not _is_its_attributes(kind):
        return deepcopy(step, copies)
    # Subclasses may write to attributes of these names.
    shared = REPLACED if kind is BatchNorm1dTransformer else frozenset()
    copied = copies[id(step)] = draft_of(step)
    attributes = vars(copied)
    for name, value in attributes.items():
        if type(value) not in _IMMUTABLE and name not in shared:
            attributes[name] = deepcopy(value, copies)
    return copied


@lru_cache
def _is_its_attributes(kind: Any) -> bool:
    """Whether a copy of each attribute makes a copy of an estimator.

    That of a BatchNorm1dTransformer has a state of its own only for pickles, and so has
    BaseEstimator.
    """
    if kind is BatchNorm1dTransformer:
        return True
    return issubclass(kind, BaseEstimator) and all(
        _OWN_WAYS.isdisjoint(vars(base))
        for base in kind.__mro__
        if base not in (ABC, BaseEstimator, BatchNorm1dTransformer, object)
    )
