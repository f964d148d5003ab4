"""The private scikit-learn names that this package needs, in one place.

scikit-learn documents ``_parameter_constraints`` for estimators outside of it
but keeps the constraints themselves in a private module. Tested on the oldest
and on the newest supported version.
"""

from __future__ import annotations

from typing import Any

from sklearn import get_config
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
)

__all__ = ["Interval", "InvalidParameterError", "StrOptions", "check_parameters"]


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
    if not get_config()["skip_parameter_validation"]:
        estimator._validate_params()
