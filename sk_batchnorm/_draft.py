"""All or nothing: attributes are changed in a draft, and taken over at once."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def draft_of(estimator: T) -> T:
    """A second object with the same attributes, to be changed in place of the first."""
    draft: T = object.__new__(type(estimator))
    draft.__dict__ = vars(estimator).copy()
    return draft


def commit(estimator: T, draft: Any) -> T:
    """Take over all attributes of a draft.

    In one assignment: neither an exception nor another thread gets between them.
    """
    estimator.__dict__ = draft.__dict__
    return estimator
