"""The private scikit-learn names that this package needs, in one place.

scikit-learn documents ``_parameter_constraints``, ``set_output`` and the array API for
estimators outside of it but keeps the constraints themselves, what ``set_output`` has
set, and what finds an array's namespace, in private modules; a Pipeline's checks of its
steps and its `transform_input` are private methods, and so is how a search cuts
metadata, and what a scorer's metric takes. Tested on the oldest and on the newest
supported version.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from inspect import signature
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context, get_config
from sklearn.utils._array_api import (
    _convert_to_numpy,
    _max_precision_float_dtype,
    get_namespace_and_device,
)
from sklearn.utils._metadata_requests import METHODS as ROUTED_METHODS
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    make_constraint,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _auto_wrap_is_configured, _get_output_config
from sklearn.utils._user_interface import _print_elapsed_time as print_elapsed_time
from sklearn.utils.validation import _check_method_params
from sklearn.utils.validation import _get_feature_names as feature_names_of

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9, which has no callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = [
    "CALLBACKS",
    "ROUTED_METHODS",
    "CallbackSupportMixin",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "callback_context",
    "callbacks_of",
    "check_arguments",
    "check_parameters",
    "check_steps",
    "check_transformers",
    "checked_parameters",
    "empty_array_at",
    "feature_names_of",
    "from_numpy",
    "has_namespace",
    "is_routing_enabled",
    "largest_float",
    "metadata_for_rows",
    "metadata_for_step",
    "names_of_chosen",
    "namespace_of",
    "output_container",
    "place_of",
    "placed_like",
    "print_elapsed_time",
    "takes_sample_weight",
    "target_ndim",
    "to_numpy",
    "with_callbacks",
]


def is_routing_enabled() -> bool:
    """Whether scikit-learn's metadata routing is switched on."""
    return bool(get_config()["enable_metadata_routing"])


def check_parameters(estimator: Any) -> None:
    """Hold an estimator's parameters against its ``_parameter_constraints``.

    Unlike ``sklearn.base._fit_context``, this does not skip a partial_fit after the
    first: set_params may have changed a parameter in mid-stream.

    Raises InvalidParameterError if one is of a wrong type or out of range.
    """
    if get_config()["skip_parameter_validation"]:
        return
    kind: Any = type(estimator)
    names, values_of = _parameters_of(kind)
    values = values_of(estimator)
    if _is_hashable(values):
        _check_once(kind, names, *values)
    else:
        # A list or an array can't be looked up, and may have changed in place.
        _check_parameters_one_by_one(kind, dict(zip(names, values, strict=True)))


def checked_parameters(estimator: Any) -> tuple[tuple[Any, ...], Any] | None:
    """Values that were found good, and what gets those of now, to see if they are same.

    None if one of them may change in place.
    """
    kind: Any = type(estimator)
    _, values_of = _parameters_of(kind)
    values = values_of(estimator)
    return (values, values_of) if _is_hashable(values) else None


@lru_cache
def _parameters_of(kind: Any) -> tuple[tuple[str, ...], Any]:
    """Names of the parameters of an estimator, and what gets their values."""
    names = tuple(kind._parameter_constraints)
    if len(names) == 1:  # of which attrgetter makes no tuple
        return names, lambda estimator: (getattr(estimator, names[0]),)
    return names, attrgetter(*names)


def _check_parameters_one_by_one(kind: Any, parameters: dict[str, Any]) -> None:
    once = {}
    for name, value in parameters.items():
        if _is_hashable(value):
            once[name] = value
        elif not _is_satisfied(kind, name, value):
            _check_values(kind, (name,), value)  # which says what is wrong
    _check_once(kind, tuple(once), *once.values())


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except (TypeError, ValueError):  # the latter of a timedelta64 without a unit
        return False
    return True


def _check_values(kind: Any, names: tuple[str, ...], *values: Any) -> None:
    parameters = dict(zip(names, values, strict=True))
    validate_parameter_constraints(
        kind._parameter_constraints, parameters, kind.__name__
    )


# Once, however many steps are taken with the values. Typed, as True equals 1 but is no
# number of features.
_check_once = lru_cache(typed=True)(_check_values)


def _is_satisfied(kind: Any, name: str, value: Any) -> bool:
    return any(each.is_satisfied_by(value) for each in _constraints_of(kind, name))


@lru_cache
def _constraints_of(kind: Any, name: str) -> list[Any]:
    """Constraints of a parameter, which scikit-learn makes anew for each check."""
    constraints = kind._parameter_constraints[name]
    if constraints == "no_validation":
        return []
    return [make_constraint(each) for each in constraints]


def check_arguments(
    function: str, constraints: dict[str, list[Any]], **arguments: Any
) -> None:
    """Hold the arguments of a function of that name against such constraints."""
    if not get_config()["skip_parameter_validation"]:
        validate_parameter_constraints(constraints, arguments, function)


def callbacks_of(estimator: Any) -> list[Any]:
    """Callbacks that are set on an estimator, by its user or by a Pipeline."""
    callbacks: list[Any] = getattr(estimator, CALLBACKS, [])
    return callbacks


# The attribute that holds an estimator's callbacks, if it has any.
CALLBACKS = "_skl_callbacks"


class _NoTask:
    """What a call reports to where there are no callbacks."""

    max_subtasks = None

    def subcontext(self, **kwargs: Any) -> _NoTask:
        return self

    def call_on_fit_task_begin(self, **kwargs: Any) -> _NoTask:
        return self

    def call_on_fit_task_end(self, **kwargs: Any) -> bool:
        return False


def callback_context(estimator: Any, **options: Any) -> Any:
    """Context that a call of ``fit`` or ``partial_fit`` reports its tasks to.

    scikit-learn's own takes as long to make as a step of ``partial_fit``.
    """
    if callbacks_of(estimator):
        return estimator._init_callback_context(**options)
    return _NoTask()


def namespace_of(array: Any) -> tuple[Any, Any]:
    """Namespace and device of an array, NumPy's where it is no array.

    Also where the configuration, by now, does not ask for the array API: what was
    learned under it stays where it is.
    """
    kind = type(array)
    if kind in _NAMESPACES:
        return _NAMESPACES[kind], getattr(array, "device", None)
    with config_context(array_api_dispatch=True):
        xp, is_array, device = get_namespace_and_device(array)
    if is_array:
        _NAMESPACES[kind] = xp
    return xp, device


# Namespaces of types of arrays, which take scikit-learn longer to find than all of the
# arithmetic on a small mini-batch.
_NAMESPACES: dict[type, Any] = {}


def has_namespace(X: Any) -> bool:
    """Whether :func:`namespace_of` has found the type of X to be one of arrays."""
    return type(X) in _NAMESPACES


def largest_float(xp: Any, device: Any) -> Any:
    """float64, or float32 on a device that has no float64."""
    place = xp.__name__, str(device)  # devices of CuPy can't be hashed
    if place not in _LARGEST_FLOATS:
        _LARGEST_FLOATS[place] = _max_precision_float_dtype(xp, device)
    return _LARGEST_FLOATS[place]


# Asked once, as array-api-compat keeps each object that it is asked by, for ever.
_LARGEST_FLOATS: dict[tuple[str, str], Any] = {}


def from_numpy(values: NDArray[Any], xp: Any, device: Any, dtype: Any = None) -> Any:
    """Copy an array of NumPy to a namespace and a device."""
    # Made float32 here, as the device may not have the dtype that it comes in.
    to = np.float32 if dtype is not None and dtype == xp.float32 else values.dtype
    return xp.asarray(values.astype(to), dtype=dtype, device=device)


def placed_like(template: Any, values: NDArray[Any]) -> Any:
    """``values`` in the namespace and on the device of a template."""
    if isinstance(template, np.ndarray):
        return values
    xp, device = namespace_of(template)
    is_float = values.dtype.kind == "f"
    return from_numpy(values, xp, device, template.dtype if is_float else None)


def place_of(array: Any) -> tuple[str, str]:
    """Names of an array's library and of its device, for a file."""
    return type(array).__module__.partition(".")[0], str(array.device)


def empty_array_at(library: str, device: str) -> Any:
    """An empty array of what :func:`place_of` has named, or NumPy's where it is not.

    The library, the device or ``SCIPY_ARRAY_API=1`` may be missing where a file is
    read.
    """
    if library not in _LIBRARIES:
        return np.empty(0)
    try:
        array = import_module(library).empty(0)
        xp, default = namespace_of(array)
        there: Any = device
        if library != "torch":  # which takes names, and uses a device to list it
            devices = xp.__array_namespace_info__().devices()
            there = next((each for each in devices if str(each) == device), default)
            if str(there) != device:
                return np.empty(0)
        return xp.empty(0, dtype=largest_float(xp, there), device=there)
    except Exception:  # each library has its own for a device that is not there
        return np.empty(0)


# The namespaces that scikit-learn supports. To load a file imports no other module,
# whatever the file names.
_LIBRARIES = ("array_api_strict", "cupy", "dpnp", "torch")


def to_numpy(values: Any) -> Any:
    """Copy an array of another namespace to NumPy; all else is left as it is."""
    if isinstance(values, np.ndarray) or not hasattr(values, "__dlpack__"):
        return values
    if hasattr(values, "detach"):  # a tensor of PyTorch
        values = values.detach()  # no gradient flows through NumPy
        if values.is_floating_point() and values.itemsize < 4:
            values = values.float()  # NumPy lacks some of the dtypes, such as bfloat16
    try:
        xp, _ = namespace_of(values)
    except (ImportError, RuntimeError):
        # Not supported by this SciPy, or SCIPY_ARRAY_API is not set.
        return np.asarray(values)
    return _convert_to_numpy(values, xp)


def output_container(estimator: Any) -> str:
    """What the output of ``transform`` is put into, as ``set_output`` names it."""
    if not _auto_wrap_is_configured(estimator):
        return "default"
    container: str = _get_output_config("transform", estimator)["dense"]
    return container


def check_steps(pipeline: Any) -> None:
    """Hold a Pipeline's steps against what Pipeline asks of them.

    Raises ValueError if there are no steps, or a name is taken twice, empty or has a
    "__"; TypeError if a step is no estimator, or one before the last can't transform.
    """
    if not pipeline.steps:  # scikit-learn says it from 1.7 on
        raise ValueError("The pipeline is empty. Please add steps.")
    steps = tuple([_facts_of_step(name, step) for name, step in pipeline.steps])
    accepted = (type(pipeline), steps)
    if accepted not in _ACCEPTED_STEPS:
        pipeline._validate_steps()
        if len(_ACCEPTED_STEPS) >= 128:
            _ACCEPTED_STEPS.clear()
        _ACCEPTED_STEPS.add(accepted)


# What scikit-learn has accepted, so that it need not look at each mini-batch: it
# inspects the pipeline's signature to see that no step is named like a parameter.
_ACCEPTED_STEPS: set[tuple[Any, ...]] = set()


def _facts_of_step(name: Any, step: Any) -> tuple[Any, ...]:
    """All that scikit-learn asks about a step.

    Asked anew each time, as a step may be exchanged, and an attribute may come and go
    with its parameters.
    """
    methods = ("fit", "fit_transform", "transform")
    is_name = isinstance(step, str)  # "passthrough", or one that is an error
    return (
        name,
        step if is_name else type(step),
        *[hasattr(step, method) for method in methods],
    )


def metadata_for_step(
    pipeline: Any, step_idx: int, step_params: Any, all_params: Any
) -> Any:
    """Metadata of a step, by method and name, transformed by the steps before it.

    As far as `transform_input` names them; `all_params` are those of the pipeline.
    """
    return pipeline._get_metadata_for_step(
        step_idx=step_idx, step_params=step_params, all_params=all_params
    )


def target_ndim(regressor: Any) -> int:
    """Dimensions of the target that a TransformedTargetRegressor was fitted on."""
    ndim: int = regressor._training_dim
    return ndim


def check_transformers(composition: Any) -> None:
    """Hold transformers against what a FeatureUnion or ColumnTransformer asks of them.

    Raises ValueError if a name is taken twice, empty or has a "__"; TypeError if one is
    no transformer.
    """
    composition._validate_transformers()


def names_of_chosen(table: Any) -> list[str]:
    """Names of the transformers of a fitted ColumnTransformer that get columns."""
    chosen = table._iter(
        fitted=True, column_as_labels=False, skip_drop=True, skip_empty_columns=True
    )
    return [name for name, *_ in chosen]


def metadata_for_rows(X: Any, params: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Metadata of some rows of X, cut as a search cuts them for its folds.

    What has not as many rows as X, as `classes`, is passed whole.
    """
    of_rows: dict[str, Any] = _check_method_params(X, params, rows)
    return of_rows


def takes_sample_weight(scorer: Any) -> bool:
    """Whether a scorer, or the metric that ``make_scorer`` made it of, has weights."""
    metric = getattr(scorer, "_score_func", scorer)
    return "sample_weight" in signature(metric).parameters
