"""What the compositions of :mod:`pipeline` and :mod:`compose` share.

What a part does with a mini-batch, which keywords reach it, and how a mini-batch is
learned by all parts of a nest of compositions or by none.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from copy import deepcopy
from copyreg import dispatch_table
from functools import lru_cache, update_wrapper, wraps
from inspect import getattr_static, signature
from types import MethodType
from typing import Any, ClassVar, TypeVar, cast

from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import process_routing

from sk_batchnorm._compat import callbacks_of, is_routing_enabled, print_elapsed_time
from sk_batchnorm._draft import commit, draft_of
from sk_batchnorm._transformer import REPLACED, BatchNorm1dTransformer

Method = TypeVar("Method", bound=Callable[..., Any])
Part = tuple[str, Any]


# What a part does with a mini-batch


def passes_through(part: Any) -> bool:
    """Whether the part is no estimator, but a word for one."""
    return part is None or isinstance(part, str)


def is_frozen(part: Any) -> bool:
    """Whether the part never learns."""
    return isinstance(part, FrozenEstimator)


def learns(part: Any) -> bool:
    """Whether the part learns from mini-batches."""
    # A frozen estimator lends the partial_fit of the one inside.
    return not is_frozen(part) and hasattr(part, "partial_fit")


def is_stateless(part: Any) -> bool:
    """Whether the part has nothing to learn, by its tags."""
    return hasattr(part, "__sklearn_tags__") and not get_tags(part).requires_fit


def can_only_fit(part: Any) -> bool:
    """Whether the part is in the way of a stream."""
    is_estimator = hasattr(part, "fit") or hasattr(part, "fit_transform")
    return is_estimator and not (is_frozen(part) or learns(part) or is_stateless(part))


def is_composition(part: Any) -> bool:
    """Whether the part has parts that stream."""
    # As isinstance, which takes longer, as it asks Pipeline's metaclass.
    return StreamingMixin in type(part).__mro__


def teach(part: Any, X: Any, y: Any, metadata: Mapping[str, Any]) -> None:
    """Let a part learn from a mini-batch, if it learns."""
    if learns(part):
        part.partial_fit(X, y, **metadata)
    elif not hasattr(part, "n_features_in_"):
        # A stateless part learns the number and the names of the features, no more; a
        # frozen one checks that it is fitted.
        part.fit(X, y)


def teach_and_transform(part: Any, X: Any, y: Any, metadata: Any) -> Any:
    """Let a part learn from a mini-batch, then transform it."""
    if not metadata["transform"] and is_composition(part) and _is_plain_draft(part):
        # Its parts transform the mini-batch anyway.
        return part._learn_draft(X, y, metadata["partial_fit"], transforms=True)
    teach(part, X, y, metadata["partial_fit"])
    return part.transform(X, **metadata["transform"])


def _is_plain_draft(composition: Any) -> bool:
    kind: Any = type(composition)
    return _PATH in vars(composition) and _learns_as_here(kind)


@lru_cache
def _learns_as_here(kind: Any) -> bool:
    """Whether a composition learns and transforms as the class here does."""
    ours = next(base for base in kind.__mro__ if "_learn" in vars(base))
    # Static, as what available_if returns is another one each time.
    return all(
        getattr_static(kind, name, None) is getattr_static(ours, name, None)
        for name in ("partial_fit", "transform")
    )


# The method that a composition has if all its parts stream


class _IfPartsStream:
    """A method that an instance has if all its parts can stream.

    Like scikit-learn's ``available_if``, but the AttributeError itself says which
    part is in the way, not only the error that caused it.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        update_wrapper(cast(Any, self), method)

    def __get__(
        self, instance: Any | None, owner: type | None = None
    ) -> Callable[..., Any]:
        if instance is None:
            return self.method  # for its docstring and signature
        # Of malformed parts the call will tell.
        with suppress(TypeError, ValueError):
            check_parts_stream(instance)
        return MethodType(self.method, instance)


def if_parts_stream(method: Method) -> Method:
    """Make a method one that an instance has if all its parts can stream."""
    # To editors it has the signature of the method, which a descriptor would hide.
    return cast(Method, _IfPartsStream(method))


class _WeightedIfTaken:
    """A ``fit`` that shows `sample_weight` if the part that predicts takes weights.

    scikit-learn looks into the signature: if there are no weights, bagging draws rows
    instead. Weights that only reach other parts would leave all bags alike.
    """

    def __init__(self, fit: Callable[..., Any]) -> None:
        @wraps(fit)
        def unweighted(self: Any, X: Any, y: Any = None, **params: Any) -> Any:
            return fit(self, X, y, **params)

        del unweighted.__wrapped__  # and its signature
        self.fit, self.unweighted = fit, unweighted
        update_wrapper(cast(Any, self), fit)

    def __get__(
        self, instance: Any | None, owner: type | None = None
    ) -> Callable[..., Any]:
        if instance is None:
            return self.fit
        method = self.fit
        # Of malformed parts the call will tell.
        with suppress(AttributeError, LookupError, TypeError, ValueError):
            _, last = instance._specs()[-1]
            if is_composition(last):
                shows = "sample_weight" in _argument_names(last.fit.__func__)
            else:
                shows = is_frozen(last) or takes(last, "sample_weight", "fit")
            if not shows:
                method = self.unweighted
        return MethodType(method, instance)


def weighted_if_taken(fit: Method) -> Method:
    """Make a ``fit`` one that shows its weights if the last part takes them."""
    return cast(Method, _WeightedIfTaken(fit))


def check_parts_stream(composition: Any, path: str = "") -> None:
    """Raise AttributeError if there is a part that can only fit."""
    for name, part in composition._parts():
        if is_composition(part):
            check_parts_stream(part, f"{path}{name}.")
        elif can_only_fit(part):
            kind = type(part).__name__
            raise AttributeError(
                f"This {type(composition).__name__} has no partial_fit, since its part "
                f"{path + name!r} ({kind}) can only fit: {_advice(part, kind)}."
            )


# By name, as to import them takes time: they bring scikit-learn's linear models.
_COMPOSITIONS = {
    "sklearn.compose._column_transformer": "ColumnTransformer",
    "sklearn.compose._target": "TransformedTargetRegressor",
    "sklearn.pipeline": "Pipeline FeatureUnion",
}


def _advice(part: Any, kind: str) -> str:
    for base in type(part).__mro__:
        if base.__name__ in _COMPOSITIONS.get(base.__module__, "").split():
            return f"make it a Streaming{base.__name__}"
    return (
        f"let the first mini-batch fit it, FitOnce({kind}(...)); or fit it before and "
        f"freeze it, FrozenEstimator({kind}(...).fit(X)); or take an estimator that "
        "has partial_fit"
    )


# Which keywords reach a part


def takes(part: Any, argument: str, method: str = "partial_fit") -> bool:
    """Whether a part, or one in it, takes an argument when it learns."""
    if hasattr(type(part), "_takes"):
        return bool(part._takes(argument, method))
    function = getattr(part, method)
    return argument in _argument_names(getattr(function, "__func__", function))


@lru_cache
def _argument_names(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters)


def route(
    composition: Any,
    params: Mapping[str, Any],
    method: str = "partial_fit",
    parts: list[Part] | None = None,
) -> Mapping[str, Any]:
    """Keywords by part, method and name.

    Without metadata routing, a keyword goes to each part that takes an argument of
    that name; ``part__name`` goes to that part alone.
    """
    parts = composition._parts() if parts is None else parts
    routed: dict[str, dict[str, Any]]
    routed = {name: {method: {}, "transform": {}} for name, _ in parts}
    if is_routing_enabled():
        requested = process_routing(composition, method, **params)
        # Nothing for what the router doesn't know, such as "remainder" that is "drop".
        return {name: none | requested.get(name, {}) for name, none in routed.items()}
    learning = _learning(parts, method)
    for key, value in params.items():
        takers, argument = _takers(learning, key, method)
        if not takers:
            raise ValueError(
                f"No part of this {type(composition).__name__} takes {key!r} when it "
                f"learns from a mini-batch. The parts that learn are {list(learning)}."
            )
        for name in takers:
            routed[name][method][argument] = value
    return routed


def _learning(parts: Iterable[Part], method: str) -> dict[str, Any]:
    """Parts that learn by a method."""
    if method == "partial_fit":
        return {name: part for name, part in parts if learns(part)}
    return {
        name: part
        for name, part in parts
        if hasattr(part, method) and not is_frozen(part)
    }


def _takers(
    learning: Mapping[str, Any], key: str, method: str
) -> tuple[list[str], str]:
    """Names of the parts that take a keyword, and the argument that it is there."""
    prefix, _, argument = key.partition("__")
    if argument:
        return [name for name in learning if name == prefix], argument
    return [name for name, part in learning.items() if takes(part, key, method)], key


def are_taken(parts: list[Part], params: Iterable[str], method: str) -> bool:
    """Whether there is a part for each keyword, without metadata routing."""
    learning = _learning(parts, method)
    return all(_takers(learning, key, method)[0] for key in params)


def without_none(**params: Any) -> dict[str, Any]:
    """Keywords that are not None, which stands for no keyword."""
    return {name: value for name, value in params.items() if value is not None}


def with_partial_fit(
    router: Any, *, last: str | None = None, transforms: bool = True
) -> Any:
    """Add routes from ``partial_fit`` to that, and to ``transform``, of each part.

    The part named `last` need not transform.
    """
    for name, (mapping, _) in router:
        mapping.add(caller="partial_fit", callee="partial_fit")
        if transforms and name != last:
            mapping.add(caller="partial_fit", callee="transform")
    return router


# A mini-batch learned by all parts of a nest, or by none

# Attribute of a draft: where it stands in the nest, as "columntransformer.num.".
_PATH = "_path_in_nest"


class StreamingMixin:
    """A composition that learns from mini-batches, in all of its parts or in none.

    Drafts of all parts do the learning. At the very end the parts take over what their
    drafts have become, so that each part remains the same object.
    """

    # Attributes that hold the parts that learn, and what these are made of.
    _holders: ClassVar[tuple[str, ...]]
    _specified_by: ClassVar[tuple[str, ...]] = ()

    def _check(self) -> None:
        """Refuse parameters and parts, before any part is asked."""

    def _parts(self) -> list[Part]:
        """Names and parts: those that learn, or what they will be made of."""
        raise NotImplementedError

    def _specs(self) -> list[Part]:
        """Names and what the parts are made of."""
        return self._parts()

    def _has_parts(self) -> bool:
        """Whether the parts are those that learn."""
        return self._holders[0] in vars(self)

    def _set_parts(self, parts: list[Any]) -> None:
        """Put others in the place of the parts that learn."""
        raise NotImplementedError

    def _learn(self, X: Any, y: Any, params: Any, *, transforms: bool) -> Any:
        """Learn part by part, whatever has come of it when one fails.

        Returns the transformed mini-batch, if asked for it.
        """
        raise NotImplementedError

    def _takes(self, argument: str, method: str) -> bool:
        learning = _learning(self._parts(), method)
        return any(takes(part, argument, method) for part in learning.values())

    def _learn_draft(self, X: Any, y: Any, params: Any, *, transforms: bool) -> Any:
        """Learn in a draft, which is the last thing that is done to it."""
        if vars(self)[_PATH]:  # one in another one
            self._check()
        try:
            return self._learn(X, y, params, transforms=transforms)
        finally:
            vars(self).pop(_PATH, None)

    def _learn_in_all(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        """``partial_fit``."""
        if _PATH in vars(self):  # of a composition around this one, which made it
            self._learn_draft(X, y, params, transforms=False)
            return
        self._check()
        check_parts_stream(self)
        draft = _draft_of_nest(self)
        draft._learn_draft(X, y, params, transforms=False)
        _mark_as_draft(draft, None)
        _take_over(self, draft)

    def _path_of(self, name: str) -> str:
        """Path of a part of this draft in the nest."""
        return f"{vars(self).get(_PATH, '')}{name}"


def note_path(error: Exception, path: str) -> None:
    """Note on an error in which part it was raised, unless it says so already."""
    where = f"In {path!r}"
    deeper = f"{where[:-1]}."
    notes = getattr(error, "__notes__", ())
    if not any(note.startswith((where, deeper)) for note in notes):
        error.add_note(f"{where}. All parts are as they were before the mini-batch.")


def stopwatch(composition: Any, message: str) -> Any:
    """Context that prints the time of a part, if its composition is verbose."""
    if not composition.verbose:
        return _NO_WATCH
    return print_elapsed_time(type(composition).__name__, message)


_NO_WATCH = nullcontext()


def _draft_of_nest(composition: Any) -> Any:
    parts = list(_walk(composition))
    kept = [part for _, part in parts if is_frozen(part)]
    kept += [callback for _, part in parts for callback in callbacks_of(part)]
    drafts = {id(each): each for each in kept}
    for path, part in parts:
        try:
            _draft(path, part, drafts)
        except Exception as error:
            raise TypeError(
                f"Part {path!r} ({type(part).__name__}) can't be copied, so that a "
                f"mini-batch that fails could not be undone: {error}"
            ) from error
    return _draft_of_composition(composition, drafts, "")


def _walk(composition: Any, path: str = "") -> Iterator[Part]:
    """Paths and parts of a nest, the parts of a composition before itself."""
    if not composition._has_parts():
        return
    for name, part in composition._parts():
        if is_composition(part):
            yield from _walk(part, f"{path}{name}.")
        yield path + name, part


def _draft(path: str, part: Any, drafts: dict[int, Any]) -> None:
    """Add the draft of a part to the drafts; what parts share, the drafts share too."""
    if is_composition(part):
        _draft_of_composition(part, drafts, f"{path}.")
    else:
        draft = _deepcopy(part, drafts)
        if not passes_through(part):
            vars(draft)  # what the part is to take over


def _draft_of_composition(part: Any, drafts: dict[int, Any], path: str) -> Any:
    """Draft of a composition, of whose parts there are drafts."""
    draft = drafts.get(id(part))  # there already if two parts share it
    if draft is None and "_learn" in vars(type(part)):
        draft = drafts[id(part)] = draft_of(part)  # only its parts are written to
    elif draft is None:
        specs = [vars(part)[name] for name in part._specified_by]
        draft = _deepcopy(part, drafts | {id(spec): spec for spec in specs})
        drafts[id(part)] = draft
    if part._has_parts():
        parts = [drafts.get(id(each), each) for _, each in part._parts()]
        draft._set_parts(parts)
    vars(draft)[_PATH] = path
    return draft


def _take_over(part: Any, draft: Any) -> Any:
    """Let a part become what its draft is; return what stands in its place."""
    if passes_through(part):
        return draft
    if part is draft or is_frozen(part):
        return part
    if is_composition(part) and part._has_parts():
        old, new = part._parts(), draft._parts()
        kept = [_take_over(a, b) for (_, a), (_, b) in zip(old, new, strict=True)]
        if all(a is b for (_, a), b in zip(old, kept, strict=True)):
            vars(draft).update({name: vars(part)[name] for name in part._holders})
        else:
            draft._set_parts(kept)
    return commit(part, draft)


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
# Attributes that a class replaces and never writes to. Its subclasses may.
SHARED: dict[type, frozenset[str]] = {BatchNorm1dTransformer: REPLACED}


def _deepcopy(part: Any, copies: dict[int, Any]) -> Any:
    """Copy as deepcopy does, but most estimators in less time."""
    kind: Any = type(part)
    if id(part) in copies or kind in dispatch_table or not _is_its_attributes(kind):
        return deepcopy(part, copies)
    shared = SHARED.get(kind, frozenset())
    copied = copies[id(part)] = draft_of(part)
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
    if kind in SHARED:
        return True
    return issubclass(kind, BaseEstimator) and all(
        _OWN_WAYS.isdisjoint(vars(base))
        for base in kind.__mro__
        if base not in (ABC, BaseEstimator, BatchNorm1dTransformer, object)
    )


# How scikit-learn's own fit and transform are made to learn from a mini-batch


class Learner:
    """A part in a composition of scikit-learn, whose ``fit`` is one mini-batch.

    So scikit-learn's own methods choose columns, stack outputs and name features. In
    all other respects it is the part.

    Parameters
    ----------
    part : estimator
    composition : StreamingMixin
        Whose part it is.
    name : str
    metadata : mapping
        Keywords by method.
    method : {"partial_fit", "fit"}
        What ``fit`` does.
    is_cloned : bool
        Whether scikit-learn's ``clone`` makes an unfitted part of it, else keeps it.
    """

    def __init__(
        self,
        part: Any,
        composition: Any,
        name: str,
        metadata: Mapping[str, Any],
        method: str = "partial_fit",
        *,
        is_cloned: bool = False,
    ) -> None:
        self.part = part
        self.path = composition._path_of(name)
        self.metadata = metadata
        self.method = method
        self.is_cloned = is_cloned

    def __getattr__(self, name: str) -> Any:
        if name == "part" or name.startswith("__"):  # of what is being unpickled
            raise AttributeError(name)
        return getattr(self.part, name)

    def __sklearn_clone__(self) -> Learner:
        if not self.is_cloned:
            return self
        copied = draft_of(self)
        copied.part = clone(self.part)
        if self.method == "partial_fit":
            _mark_as_draft(copied.part, f"{self.path}.")
        return copied

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.part)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> Learner:
        if self.method == "partial_fit":
            self._noting(teach, self.part, X, y, self.metadata["partial_fit"])
        else:
            self.part.fit(X, y, **self.metadata["fit"])
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        if self.method == "partial_fit":
            return self._noting(teach_and_transform, self.part, X, y, self.metadata)
        if hasattr(self.part, "fit_transform"):
            return self.part.fit_transform(X, y, **self.metadata["fit"])
        return self.part.fit(X, y, **self.metadata["fit"]).transform(X)

    def _noting(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function; if it fails, note where."""
        try:
            return function(*args)
        except Exception as error:
            note_path(error, self.path)
            raise


class TransformingLearner(Learner):
    """A Learner whose ``fit`` transforms, too, and whose ``transform`` knows that."""

    learned: tuple[Any, Any] = None, None

    def fit(self, X: Any, y: Any = None) -> Learner:
        if self.method != "partial_fit":
            return super().fit(X, y)
        self.learned = X, self.fit_transform(X, y)
        return self

    def transform(self, X: Any) -> Any:
        X_learned, Z = self.learned
        return Z if X is X_learned else self._noting(self.part.transform, X)

    def inverse_transform(self, X: Any) -> Any:
        return self._noting(self.part.inverse_transform, X)


def learners(
    composition: Any,
    routed: Mapping[str, Any],
    method: str,
    *,
    is_cloned: bool,
    kind: type[Learner] = Learner,
) -> Callable[[str, Any], Any]:
    """What makes Learners of the parts of a composition, but of mere words."""

    def learner(name: str, part: Any) -> Any:
        if passes_through(part):
            return part
        return kind(part, composition, name, routed[name], method, is_cloned=is_cloned)

    return learner


class LearningTransformer(Learner):
    """A Learner whose ``transform`` learns first."""

    y: Any = None
    watch: Any = _NO_WATCH

    def transform(self, X: Any) -> Any:
        with self.watch:
            return self._noting(
                teach_and_transform, self.part, X, self.y, self.metadata
            )


def _mark_as_draft(part: Any, path: str | None) -> None:
    """Let a composition that nobody else holds learn without further drafts.

    Without a path, it is no draft any more: a subclass may never have learned.
    """
    if is_composition(part):
        vars(part).pop(_PATH, None)
        if path is not None:
            vars(part)[_PATH] = path
        if part._has_parts():
            for name, each in part._parts():
                _mark_as_draft(each, None if path is None else f"{path}{name}.")


def unwrapped(value: Any) -> Any:
    """Parts in the place of Learners, in lists and tuples too."""
    if isinstance(value, Learner):
        return value.part
    if type(value) in (list, tuple):
        return type(value)(map(unwrapped, value))
    return value
