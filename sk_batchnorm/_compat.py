"""The private scikit-learn names that this package needs, in one place.

scikit-learn documents ``_parameter_constraints`` for estimators outside of it
but keeps the constraints themselves in a private module; a Pipeline's checks of
its steps and its `transform_input` are private methods. Tested on the oldest and
on the newest supported version.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sklearn import get_config
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._user_interface import _print_elapsed_time as print_elapsed_time

__all__ = [
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "check_parameters",
    "check_steps",
    "metadata_for_step",
    "print_elapsed_time",
]


def check_parameters(estimator: Any) -> None:
    """Hold an estimator's parameters against its ``_parameter_constraints``.

    Parameters
    ----------
    estimator : BaseEstimator

    Raises
    ------
    InvalidParameterError
        If one is of a wrong type or out of range.
    """
    # Unlike sklearn.base._fit_context, this does not skip a partial_fit after
    # the first: set_params may have changed a parameter in mid-stream.
    if get_config()["skip_parameter_validation"]:
        return
    kind: Any = type(estimator)
    values = [getattr(estimator, name) for name in kind._parameter_constraints]
    try:
        _check_values(kind, *values)
    except InvalidParameterError:
        raise
    except TypeError:  # an array or a list, which can't be looked up
        _check_values.__wrapped__(kind, *values)


@lru_cache(typed=True)
def _check_values(kind: Any, *values: Any) -> None:
    """Check parameters once, whatever how many steps are taken with them."""
    constraints = kind._parameter_constraints
    parameters = dict(zip(constraints, values, strict=True))
    validate_parameter_constraints(constraints, parameters, kind.__name__)


def check_steps(pipeline: Any) -> None:
    """Hold a Pipeline's steps against what Pipeline asks of them.

    Parameters
    ----------
    pipeline : Pipeline

    Raises
    ------
    ValueError
        If there are no steps, or a name is taken twice, empty or has a "__".
    TypeError
        If a step is not an estimator, or one before the last can't transform.
    """
    if not pipeline.steps:  # scikit-learn says it from 1.7 on
        raise ValueError("The pipeline is empty. Please add steps.")
    pipeline._validate_steps()


def metadata_for_step(
    pipeline: Any, step_idx: int, step_params: Any, all_params: Any
) -> Any:
    """Transform what `transform_input` names by the steps before this one.

    Parameters
    ----------
    pipeline : Pipeline
        Whose steps before `step_idx` are fitted.
    step_idx : int
    step_params : mapping of str to mapping
        Metadata routed to the step, by method and name.
    all_params : mapping
        Metadata that the pipeline was given.

    Returns
    -------
    mapping of str to mapping
        `step_params` with the transformed values.
    """
    return pipeline._get_metadata_for_step(
        step_idx=step_idx, step_params=step_params, all_params=all_params
    )
