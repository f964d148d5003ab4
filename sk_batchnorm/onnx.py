"""Conversion to ONNX: importing this module teaches skl2onnx the package's classes.

After ``import sk_batchnorm.onnx``, ``skl2onnx.to_onnx`` converts a fitted
:class:`~sk_batchnorm.BatchNorm1dTransformer`, on its own or anywhere in a Pipeline, a
ColumnTransformer, a FeatureUnion or a GridSearchCV, and so do its subclasses. The
transformer becomes one BatchNormalization node, with others before it if the input
needs them, and others behind it for `clip` and ``handle_missing="mean"``. Missing
values stay missing without the latter, and the input may have two or three dimensions.

A :class:`~sk_batchnorm.pipeline.StreamingPipeline`,
:class:`~sk_batchnorm.pipeline.StreamingFeatureUnion` or
:class:`~sk_batchnorm.compose.StreamingColumnTransformer` may stand wherever
scikit-learn's may. :class:`~sk_batchnorm.compose.FitOnce`, FrozenEstimator and what
:func:`~sk_batchnorm.fold` makes may stand wherever the estimator inside may. A
:class:`~sk_batchnorm.compose.StreamingTransformedTargetRegressor`, and scikit-learn's
TransformedTargetRegressor too, becomes the nodes of its regressor, with the inverse of
its transformer behind them.

The output is float64 if the input is float64, else float32. This holds for integers
too, which skl2onnx generally treats as float32; they are computed in float64 and then
rounded.

Examples
--------
>>> import numpy as np
>>> from onnxruntime import InferenceSession
>>> from skl2onnx import to_onnx
>>> import sk_batchnorm.onnx
>>> X = np.array([[0.0, 10.0], [2.0, 30.0], [4.0, np.nan]], dtype=np.float32)
>>> bn = sk_batchnorm.BatchNorm1dTransformer().fit(X)
>>> graph = to_onnx(bn, X)
>>> [node.op_type for node in graph.graph.node]
['BatchNormalization']
>>> session = InferenceSession(graph.SerializeToString())
>>> session.run(None, {"X": X})[0].round(2)
array([[-1.  , -0.71],
       [ 0.  ,  0.71],
       [ 1.  ,   nan]], dtype=float32)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm._fold import PredictionOnly, unfolded
from sk_batchnorm._kernels.numpy import AffineMap, Floats, ignore_float_errors
from sk_batchnorm._normalize import ROUNDING, limited, output_dtype
from sk_batchnorm._running_stats import RunningStats
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import state_of
from sk_batchnorm.compose import (
    FitOnce,
    StreamingColumnTransformer,
    StreamingTransformedTargetRegressor,
)
from sk_batchnorm.pipeline import StreamingFeatureUnion, StreamingPipeline

try:
    from onnx.helper import np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype
    from skl2onnx import (
        get_model_alias,
        update_registered_converter,
        update_registered_parser,
    )
    from skl2onnx._parse import _parse_sklearn
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.algebra import onnx_ops as ops
    from skl2onnx.common._apply_operation import apply_identity
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
except ImportError as error:
    raise ImportError(
        'sk_batchnorm.onnx needs skl2onnx: pip install "sk-batchnorm[onnx]".'
    ) from error

__all__: list[str] = []

_ALIAS = "SkBatchnormBatchNorm1dTransformer"
_WRAPPED_ALIAS = "SkBatchnormWrapped"
_TARGET_ALIAS = "SkBatchnormTransformedTarget"
_INVERSE_ALIAS = "SkBatchnormInverse"

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

# How far from transform's the output may be, relative to max(1, |weight|) + |output|.
_TOLERANCE = {_SINGLE: 1e-5, _DOUBLE: 1e-12}


def _parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Declare the output, by whose type the next step is parsed."""
    check_is_fitted(model)
    double = any(isinstance(each.type, DoubleTensorType) for each in inputs)
    kind = DoubleTensorType if double else FloatTensorType
    # Not always ours: a user may have registered another converter for a subclass.
    operator = scope.declare_local_operator(get_model_alias(type(model)), model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("variable", kind()))
    return operator.outputs


def _calculate_shape(operator: Any) -> None:
    """Give the output the shape of the input, whose columns may come apart."""
    model = operator.raw_operator
    shapes = [each.type.shape for each in operator.inputs]
    for each in operator.inputs:
        if _dtype(each).kind not in "biuf":
            raise ValueError(f"ONNX input {each.type}, which is not a real number.")
    ranks = {len(shape) for shape in shapes}
    if ranks != {2} and (ranks != {3} or len(shapes) > 1):
        raise ValueError(
            f"ONNX input of shape {', '.join(map(str, shapes))}; expected (n_samples, "
            "n_features) or (n_samples, n_channels, n_timepoints)."
        )
    columns = [shape[1] for shape in shapes]
    known = all(isinstance(each, Integral) for each in columns)
    if known and sum(columns) != model.n_features_in_:
        raise ValueError(
            f"X has {sum(columns)} features, but {type(model).__name__} is expecting "
            f"{model.n_features_in_} features as input."
        )
    n_samples, _, *n_timepoints = shapes[0]
    operator.outputs[0].type.shape = [n_samples, model.n_features_in_, *n_timepoints]


@ignore_float_errors
def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes that compute what ``transform`` does."""
    model, opset = operator.raw_operator, container.target_opset
    _check_transform_is_ours(type(model))
    stats, weight, bias = state_of(model)
    n_features = model.n_features_in_
    one, zero = np.ones(n_features), np.zeros(n_features)
    weight = one if weight is None else weight
    bias = zero if bias is None else bias
    # What is limited comes before the affine map, which is then a node of its own.
    factor, offset = (weight, bias) if model.clip is None else (one, zero)
    out = _dtype(operator.outputs[0])
    if stats is None:
        dtype = _DOUBLE
        Y, *vectors = _inputs_of_batch(operator, factor, offset, opset)
    else:
        dtype = _computed_in(operator, stats, weight, bias)
        Y, *vectors = _inputs_of_stream(operator, stats, factor, offset, dtype, opset)
    steps: list[Callable[..., Any]] = [partial(_batch_normalization, vectors)]
    if model.clip is not None:
        bounds = [np.array(bound, dtype) for bound in (-model.clip, model.clip)]
        steps.append(partial(_clip, bounds))
        if (weight != 1).any() or bias.any():
            vectors = [each.astype(dtype) for each in (weight, bias, zero, one)]
            steps.append(partial(_batch_normalization, vectors))
    if model.handle_missing == "mean":
        fill = bias if stats is None else _output_of_mean(model, stats, weight, bias)
        trailing = [1] * (len(operator.outputs[0].type.shape) - 2)
        steps.append(partial(_fill_nan, fill.astype(dtype).reshape(-1, *trailing)))
    if dtype != out:
        steps.append(partial(_cast, dtype=out))
    *before, last = steps
    for step in before:
        names = [scope.get_unique_variable_name("normalized")]
        Y = step(Y, op_version=opset, output_names=names)
    last(Y, op_version=opset, output_names=operator.outputs).add_to(scope, container)


def _batch_normalization(vectors: list[Any], X: Any, **options: Any) -> Any:
    # eps is in the vectors: the attribute is a float32, among float64 too.
    return ops.OnnxBatchNormalization(X, *vectors, epsilon=0.0, **options)


def _clip(bounds: list[Any], X: Any, op_version: int, **names: Any) -> Any:
    """Limit all values to two bounds; NaN stays NaN."""
    lowest, highest = bounds
    if op_version >= 12:
        return ops.OnnxClip(X, lowest, highest, op_version=op_version, **names)
    # Until then, onnxruntime has a Clip of float32 alone.
    X = ops.OnnxMax(X, lowest, op_version=op_version)
    return ops.OnnxMin(X, highest, op_version=op_version, **names)


def _fill_nan(fill: Any, X: Any, op_version: int, **names: Any) -> Any:
    missing = ops.OnnxIsNaN(X, op_version=op_version)
    return ops.OnnxWhere(missing, fill, X, op_version=op_version, **names)


def _output_of_mean(
    model: Any, stats: RunningStats, weight: Floats, bias: Floats
) -> Any:
    """What `transform` makes of a missing value, with ``handle_missing="mean"``."""
    mean = stats.mean if model.with_mean else None
    by = AffineMap(mean, stats.scale(model.eps, weight), bias)
    by = limited(by, model.clip, weight, stats.mean)
    fill: Any = by.fill
    if by.limit is not None:
        fill = np.clip(fill, -by.limit, by.limit)
    return fill + bias


def _computed_in(
    operator: Any, stats: RunningStats, weight: Floats, bias: Floats
) -> np.dtype[Any]:
    """float32 if input and output are, and all constants fit, else float64."""
    model = operator.raw_operator
    if model.clip is None:
        factors = stats.scale(model.eps, weight)
    else:
        inverse_std = stats.scale(model.eps, None)
        factors = np.concatenate([inverse_std, weight, [model.clip]])
    # A feature that was never observed is NaN in either.
    factors, mean = (each[~np.isnan(each)] for each in (np.abs(factors), stats.mean))
    limits = np.finfo(_SINGLE)
    single = (
        all(output_dtype(_dtype(each)) == _SINGLE for each in operator.inputs)
        and np.abs([*factors, *mean, *bias]).max() <= limits.max
        and ((factors >= limits.smallest_normal) | (factors == 0)).all()
    )
    return _SINGLE if single else _DOUBLE


def _inputs_of_stream(
    operator: Any,
    stats: RunningStats,
    weight: Floats,
    bias: Floats,
    dtype: np.dtype[Any],
    opset: int,
) -> tuple[Any, ...]:
    """Inputs of the node that normalises by the running statistics.

    No other nodes are as fast in onnxruntime (``python -m benchmarks.onnx_nodes``),
    which computes x·scale + (bias − mean·scale) in one pass. Where the mean is large
    against the standard deviation that cancels, and costs some four roundings of
    their ratio. There a Sub centres first, in a pass of its own.
    """
    model = operator.raw_operator
    mean = stats.mean if model.with_mean else np.zeros_like(stats.mean)
    std = stats.scale(model.eps, None, inverse=True)
    X = _input(operator, dtype, opset)
    tolerance = _TOLERANCE[_dtype(operator.outputs[0])]
    if (np.abs(mean) > tolerance / (5 * np.finfo(dtype).eps) * std).any():
        rounded = mean.astype(dtype)
        trailing = [1] * (len(operator.outputs[0].type.shape) - 2)
        X = ops.OnnxSub(X, rounded.reshape(-1, *trailing), op_version=opset)
        # The rest that float32 can't hold, else lost digits.
        mean = mean - rounded
    # Not the variance, which may leave float32's range before the scale does.
    scale = stats.scale(model.eps, weight)
    vectors = (scale, bias, mean, np.ones_like(scale))
    return X, *(each.astype(dtype) for each in vectors)


def _inputs_of_batch(
    operator: Any, weight: Floats, bias: Floats, opset: int
) -> tuple[Any, ...]:
    """Inputs of the node that normalises by the batch's mean and biased variance.

    In float64 and without NaN, as ``transform`` learns them. The values are taken
    relative to the largest of their feature, so that a constant feature has a
    variance of exactly 0.
    """
    model = operator.raw_operator
    axes = [0, 2] if len(operator.outputs[0].type.shape) == 3 else [0]
    total = partial(ops.OnnxReduceSumApi11, axes=axes, op_version=opset)

    def without_nan(values: Any, instead: float) -> Any:
        return ops.OnnxWhere(missing, np.array([instead]), values, op_version=opset)

    X = _input(operator, _DOUBLE, opset)
    missing = ops.OnnxIsNaN(X, op_version=opset)
    largest = ops.OnnxReduceMaxApi18(
        without_nan(X, -np.inf), axes=axes, op_version=opset
    )
    shifted = ops.OnnxSub(X, largest, op_version=opset)
    n = total(without_nan(np.array([1.0]), 0.0))
    residual = ops.OnnxDiv(total(without_nan(shifted, 0.0)), n, op_version=opset)
    centred = ops.OnnxSub(shifted, residual, op_version=opset)
    squares = ops.OnnxReduceSumSquareApi18(
        without_nan(centred, 0.0), axes=axes, op_version=opset
    )
    var = ops.OnnxDiv(squares, n, op_version=opset)
    if model.eps:
        var = ops.OnnxAdd(var, np.array([float(model.eps)]), op_version=opset)
    else:
        # No more than what rounding of the mean makes of a constant, as in transform.
        mean = ops.OnnxAdd(largest, residual, op_version=opset)
        rounding = ops.OnnxMul(mean, np.array([ROUNDING]), op_version=opset)
        rounding = ops.OnnxMul(rounding, rounding, op_version=opset)
        varies = ops.OnnxGreater(var, rounding, op_version=opset)
        var = ops.OnnxWhere(varies, var, np.array([1.0]), op_version=opset)
    var = ops.OnnxReshape(var, np.array([-1]), op_version=opset)
    if model.with_mean:
        X = centred
    elif model.handle_missing == "mean":
        mean = ops.OnnxAdd(largest, residual, op_version=opset)
        X = ops.OnnxWhere(missing, mean, X, op_version=opset)
    return X, weight, bias, np.zeros_like(bias), var


def _input(operator: Any, dtype: np.dtype[Any], opset: int) -> Any:
    """Input as one tensor of ``dtype``."""
    columns = [
        each if _dtype(each) == dtype else _cast(each, dtype, op_version=opset)
        for each in operator.inputs
    ]
    if len(columns) == 1:
        return columns[0]
    return ops.OnnxConcat(*columns, axis=1, op_version=opset)


def _cast(values: Any, dtype: np.dtype[Any], **options: Any) -> Any:
    return ops.OnnxCast(values, to=np_dtype_to_tensor_dtype(dtype), **options)


def _dtype(variable: Any) -> np.dtype[Any]:
    code = variable.type.to_onnx_type().tensor_type.elem_type
    return np.dtype(tensor_dtype_to_np_dtype(code))


def _check_transform_is_ours(kind: type) -> None:
    definer = next(each for each in kind.__mro__ if "transform" in vars(each))
    if definer.__module__.partition(".")[0] != __package__:
        raise NotImplementedError(
            f"{kind.__name__} has a transform of its own ({definer.__qualname__}."
            "transform), which is not that of BatchNorm1dTransformer: register a "
            "converter for it, skl2onnx.update_registered_converter."
        )


# FrozenEstimator, FitOnce and what fold makes: as if the estimator in it stood there.


def _wrapped(model: Any) -> Any:
    if isinstance(model, FrozenEstimator):
        return model.estimator
    if isinstance(model, FitOnce):
        check_is_fitted(model)
        return model.estimator_
    return unfolded(model)


def _parse_wrapped(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> Any:
    """Parse the estimator inside."""
    inner = _wrapped_with_options(scope, model)
    return _parse_sklearn(scope, inner, inputs, custom_parsers=custom_parsers)


def _wrapped_with_options(scope: Any, model: Any) -> Any:
    """Estimator inside, with the options of both; its own come first."""
    inner, given = _wrapped(model), scope.options or {}
    options = {
        **scope.get_options(model),
        **given.get(type(inner), {}),
        **given.get(id(inner), {}),
    }
    if options:
        scope.add_options(id(inner), options)
    return inner


def _calculate_shape_of_wrapped(operator: Any) -> None:
    """Leave the types to the estimator inside."""


def _convert_wrapped(scope: Any, operator: Any, container: Any) -> None:
    """Convert the estimator inside, where a converter, not a parser, came upon it.

    Such as those of a voting or of a calibrated classifier, as skl2onnx's converter of
    GridSearchCV does.
    """
    inner = _wrapped(operator.raw_operator)
    options = {
        name: value
        for name, value in container.get_options(operator.raw_operator).items()
        if container.has_options(inner, name)
    }
    if not hasattr(inner, "decision_function"):
        options.pop("raw_scores", None)
    for each in (scope, container):
        each.add_options(id(inner), options)
    inside = scope.declare_local_operator(get_model_alias(type(inner)), inner)
    inside.inputs = operator.inputs
    for each in operator.outputs:
        output = scope.declare_local_variable(each.onnx_name, type=each.type)
        inside.outputs.append(output)
        apply_identity(scope, output.full_name, each.full_name, container)


# ColumnTransformers and FeatureUnions that stream: as if scikit-learn's stood there.


def _parse_columns(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> Any:
    """Parse a ColumnTransformer of the same parts, in words that skl2onnx knows."""
    check_is_fitted(model)
    inputs, parts = list(inputs), []
    widths = _widths(inputs, model)
    for name, part, given in model.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        # By the type, skl2onnx decides whether to put the columns together first.
        while isinstance(part, (FitOnce, FrozenEstimator)):
            part = _wrapped_with_options(scope, part)
        columns = _columns(inputs, widths, model, given)
        if _order(columns, widths) != columns:
            # One by one, side by side, as a further input.
            each = [(str(i), "passthrough", [c]) for i, c in enumerate(columns)]
            (moved,) = _parse_sklearn(scope, _column_transformer(each), inputs)
            moved.type = type(moved.type)([None, len(columns)])
            columns = list(range(sum(widths), sum(widths) + len(columns)))
            inputs.append(moved)
            widths.append(len(columns))
        parts.append((name, part, columns))
    plain = _column_transformer(parts, transformer_weights=model.transformer_weights)
    return _parse_sklearn(scope, plain, inputs, custom_parsers=custom_parsers)


def _column_transformer(parts: list[Any], **params: Any) -> ColumnTransformer:
    fitted = ColumnTransformer(parts, **params)
    fitted.transformers_ = parts
    return fitted


def _widths(inputs: list[Any], model: Any) -> list[int]:
    """Number of columns of each input; that of a step before is not known yet."""
    if len(inputs) == 1 and not _is_known(inputs[0]):
        (each,) = inputs
        if len(each.type.shape) in (0, 2):
            each.type = type(each.type)([None, model.n_features_in_])
    if not all(map(_is_known, inputs)):
        raise ValueError(
            f"{type(model).__name__} needs ONNX inputs of two dimensions with a known "
            f"number of columns; got {', '.join(str(each.type) for each in inputs)}."
        )
    return [each.type.shape[1] for each in inputs]


def _is_known(variable: Any) -> bool:
    shape = variable.type.shape
    return len(shape) == 2 and isinstance(shape[1], Integral)


def _columns(inputs: list[Any], widths: list[int], model: Any, given: Any) -> list[Any]:
    """Positions of columns in the inputs side by side.

    Among inputs of one column each that is known by its name, if columns have names.
    """
    names = getattr(model, "feature_names_in_", np.array([]))
    position: dict[Any, Any] = {name: i for i, name in enumerate(names)}
    if isinstance(given, slice):
        start, stop = (position.get(each, each) for each in (given.start, given.stop))
        is_named = start is not given.start or stop is not given.stop
        if isinstance(given.stop, str):
            stop = cast(int, stop) + 1  # it is the last one
        given = slice(start, stop, given.step)
    else:
        given = np.atleast_1d(given).tolist()
        is_named = any(isinstance(each, str) for each in given)
        given = [position.get(each, each) for each in given]
    columns: list[Any] = np.arange(model.n_features_in_)[given].tolist()
    if not position:
        return columns
    starts = np.cumsum([0, *widths]).tolist()
    known = {
        each.raw_name: start
        for each, start, width in zip(inputs, starts, widths, strict=False)
        if width == 1
    }
    wanted = names[columns]
    if set(wanted) <= set(known):
        return [known[name] for name in wanted]
    # skl2onnx says which name is none of the inputs.
    return wanted.tolist() if is_named and len(inputs) > 1 else columns


def _order(columns: list[Any], widths: list[int]) -> list[Any]:
    """Order in which skl2onnx takes columns.

    Those of an input together, and if they are as many as the input has, just that.
    """
    if any(isinstance(each, str) for each in columns):
        return columns
    ends = np.cumsum(widths)
    owners = np.searchsorted(ends, columns, side="right").tolist()
    order: list[int] = []
    for owner in dict.fromkeys(owners):
        taken = [
            each for each, its in zip(columns, owners, strict=True) if its == owner
        ]
        if len(taken) == widths[owner]:
            taken = list(range(ends[owner] - widths[owner], ends[owner]))
        order += taken
    return order


def _parse_union(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> Any:
    """Parse a FeatureUnion of the same parts but for "drop", which skl2onnx refuses."""
    parts = [
        (name, part)
        for name, part in model.transformer_list
        if not (isinstance(part, str) and part == "drop")
    ]
    plain = FeatureUnion(parts, transformer_weights=model.transformer_weights)
    return _parse_sklearn(scope, plain, inputs, custom_parsers=custom_parsers)


# TransformedTargetRegressor: what the regressor predicts, then the inverse.


class _Inverse(BaseEstimator):
    """A step that undoes what a target's transformer does."""

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer


def _parse_target(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> Any:
    check_is_fitted(model)
    outputs = _parse_sklearn(
        scope, model.regressor_, inputs, custom_parsers=custom_parsers
    )
    for each in outputs:  # those of a GridSearchCV say that they end the graph
        each.init_status(is_leaf=False)
    return _parse_sklearn(scope, _Inverse(model.transformer_), outputs)


def _convert_target(scope: Any, operator: Any, container: Any) -> None:
    """Convert one that a converter, not a parser, came upon, as in a voting."""
    outputs = _parse_target(scope, operator.raw_operator, operator.inputs)
    (y,), opset = outputs, container.target_opset
    out = _dtype(operator.outputs[0])
    y = _cast(y, out, op_version=opset, output_names=operator.outputs)
    y.add_to(scope, container)


def _calculate_shape_of_target(operator: Any) -> None:
    """Make the output float, which at times is declared to be what X is."""
    (output,) = operator.outputs
    if not isinstance(output.type, DoubleTensorType):
        output.type = FloatTensorType(output.type.shape)


def _calculate_shape_of_inverse(operator: Any) -> None:
    if len(operator.inputs) != 1:
        raise ValueError(
            "The regressor of a TransformedTargetRegressor has to predict one array; "
            f"it is converted to {len(operator.inputs)} ONNX outputs."
        )
    (predicted,) = operator.inputs
    double = isinstance(predicted.type, DoubleTensorType)
    kind = DoubleTensorType if double else FloatTensorType
    operator.outputs[0].type = kind(predicted.type.shape)


def _convert_inverse(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes that compute what ``inverse_transform`` does, in float64."""
    opset, out = container.target_opset, _dtype(operator.outputs[0])
    # Also where float64 is declared: a tree's node computes float32 all the same.
    y = _cast(operator.inputs[0], _DOUBLE, op_version=opset)
    for node, values in _inverse_of(operator.raw_operator.transformer):
        y = node(y, np.asarray(values, dtype=np.float64), op_version=opset)
    y = _cast(y, out, op_version=opset, output_names=operator.outputs)
    y.add_to(scope, container)


def _inverse_of(transformer: Any) -> list[tuple[Any, Any]]:
    """Nodes and their second inputs, one after the other."""
    if transformer is None or (
        isinstance(transformer, str) and transformer == "passthrough"
    ):
        return []
    if isinstance(transformer, (FitOnce, FrozenEstimator)):
        return _inverse_of(_wrapped(transformer))
    if isinstance(transformer, Pipeline):
        steps = [step for _, step in reversed(transformer.steps)]
        return [node for step in steps for node in _inverse_of(step)]
    if isinstance(transformer, FunctionTransformer) and transformer.inverse_func:
        raise NotImplementedError(
            f"func and inverse_func can't be converted to ONNX. {_INVERTIBLE}"
        )
    kind = type(transformer)
    for known, inverse in _INVERSES.items():
        if isinstance(transformer, known) and _inherits(kind, known):
            nodes = inverse(transformer)
            return [(node, values) for node, values in nodes if values is not None]
    raise NotImplementedError(
        f"The inverse of {kind.__name__} can't be converted to ONNX. {_INVERTIBLE}"
    )


def _inherits(kind: type, known: type) -> bool:
    """Whether a class inverts as the known one does; ours for dask does so."""
    definer = next(each for each in kind.__mro__ if "inverse_transform" in vars(each))
    return definer is known or definer.__module__.partition(".")[0] == __package__


def _inverse_of_ours(bn: BatchNorm1dTransformer) -> list[tuple[Any, Any]]:
    bn.inverse_transform(np.zeros((1, bn.n_features_in_)))  # raises if there is none
    stats: Any
    stats, weight, bias = state_of(bn)
    scale = stats.scale(bn.eps, weight, inverse=True)
    mean = stats.mean if bn.with_mean else None
    return [(ops.OnnxSub, bias), (ops.OnnxMul, scale), (ops.OnnxAdd, mean)]


_INVERSES: dict[type, Callable[[Any], list[tuple[Any, Any]]]] = {
    BatchNorm1dTransformer: _inverse_of_ours,
    StandardScaler: lambda scaler: [
        (ops.OnnxMul, scaler.scale_ if scaler.with_std else None),
        (ops.OnnxAdd, scaler.mean_ if scaler.with_mean else None),
    ],
    MinMaxScaler: lambda scaler: [
        (ops.OnnxSub, scaler.min_),
        (ops.OnnxDiv, scaler.scale_),
    ],
    MaxAbsScaler: lambda scaler: [(ops.OnnxMul, scaler.scale_)],
    FunctionTransformer: lambda identity: [],
}
_INVERTIBLE = (
    "The transformer of the target may be a BatchNorm1dTransformer, StandardScaler, "
    "MinMaxScaler or MaxAbsScaler, or a Pipeline of these, or None without func."
)


# Subclasses. skl2onnx looks up the very type of an estimator.


def _register_transformer(kind: type) -> None:
    update_registered_converter(kind, _ALIAS, _calculate_shape, _convert, parser=_parse)


def _register_pipeline(kind: type) -> None:
    # Its alias alone: the converter, the parser and the options are Pipeline's.
    sklearn_operator_name_map.update({kind: get_model_alias(Pipeline)})


def _register_columns(kind: type) -> None:
    sklearn_operator_name_map.update({kind: get_model_alias(ColumnTransformer)})
    update_registered_parser(kind, _parse_columns)


def _register_union(kind: type) -> None:
    sklearn_operator_name_map.update({kind: get_model_alias(FeatureUnion)})
    update_registered_parser(kind, _parse_union)


def _register_target(kind: type) -> None:
    update_registered_converter(
        kind,
        _TARGET_ALIAS,
        _calculate_shape_of_target,
        _convert_target,
        parser=_parse_target,
    )


def _register_folded(kind: type) -> None:
    if issubclass(kind, Pipeline):
        _register_pipeline(kind)
    else:
        _register_wrapper(kind)


def _register_wrapper(kind: type) -> None:
    update_registered_converter(
        kind,
        _WRAPPED_ALIAS,
        _calculate_shape_of_wrapped,
        _convert_wrapped,
        parser=_parse_wrapped,
        # Those of a Pipeline.
        options={
            "zipmap": [True, False, "columns"],
            "nocl": [True, False],
            "output_class_labels": [False, True],
            "raw_scores": [True, False],
        },
    )


def _register_with_subclasses(kind: Any, register: Callable[[type], None]) -> None:
    """Register a class, its subclasses, and those that are defined later."""

    def init_subclass(subclass: Any, /, **kwargs: Any) -> None:
        super(kind, subclass).__init_subclass__(**kwargs)
        register(subclass)

    kind.__init_subclass__ = classmethod(init_subclass)
    kinds = [kind]
    for each in kinds:
        register(each)
        kinds += each.__subclasses__()


_register_with_subclasses(BatchNorm1dTransformer, _register_transformer)
_register_with_subclasses(StreamingPipeline, _register_pipeline)
_register_with_subclasses(StreamingColumnTransformer, _register_columns)
_register_with_subclasses(StreamingFeatureUnion, _register_union)
_register_with_subclasses(StreamingTransformedTargetRegressor, _register_target)
_register_with_subclasses(FitOnce, _register_wrapper)
_register_with_subclasses(PredictionOnly, _register_folded)
update_registered_converter(
    _Inverse, _INVERSE_ALIAS, _calculate_shape_of_inverse, _convert_inverse
)
if TransformedTargetRegressor not in sklearn_operator_name_map:  # neither
    _register_target(TransformedTargetRegressor)
if FrozenEstimator not in sklearn_operator_name_map:  # skl2onnx 1.20 has none
    _register_wrapper(FrozenEstimator)
