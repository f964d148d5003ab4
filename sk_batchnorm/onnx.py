"""Conversion to ONNX: importing this module teaches skl2onnx the transformer.

After ``import sk_batchnorm.onnx``, ``skl2onnx.to_onnx`` converts a fitted
:class:`~sk_batchnorm.BatchNorm1dTransformer`, on its own or anywhere in a Pipeline, a
ColumnTransformer, a FeatureUnion or a GridSearchCV, and so do its subclasses. A
:class:`~sk_batchnorm.pipeline.StreamingPipeline` may stand wherever a Pipeline may, and
FrozenEstimator and what :func:`~sk_batchnorm.fold` makes wherever the estimator inside
may. The transformer becomes one BatchNormalization node, with others before it if the
input needs them, and others behind it for `clip` and ``handle_missing="mean"``. Missing
values stay missing without the latter, and the input may have two or three dimensions.

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
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm._fold import PredictionOnly, unfolded
from sk_batchnorm._kernels.numpy import AffineMap, Floats, ignore_float_errors
from sk_batchnorm._normalize import ROUNDING, limited, output_dtype
from sk_batchnorm._running_stats import RunningStats
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import state_of
from sk_batchnorm.pipeline import StreamingPipeline

try:
    from onnx.helper import np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype
    from skl2onnx import get_model_alias, update_registered_converter
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


# FrozenEstimator and what fold makes: as if the estimator in it stood there.


def _wrapped(model: Any) -> Any:
    return model.estimator if isinstance(model, FrozenEstimator) else unfolded(model)


def _parse_wrapped(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> Any:
    """Parse the estimator inside, with the options of both; its own come first."""
    inner, given = _wrapped(model), scope.options or {}
    options = {
        **scope.get_options(model),
        **given.get(type(inner), {}),
        **given.get(id(inner), {}),
    }
    if options:
        scope.add_options(id(inner), options)
    return _parse_sklearn(scope, inner, inputs, custom_parsers=custom_parsers)


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


# Subclasses. skl2onnx looks up the very type of an estimator.


def _register_transformer(kind: type) -> None:
    update_registered_converter(kind, _ALIAS, _calculate_shape, _convert, parser=_parse)


def _register_pipeline(kind: type) -> None:
    # Its alias alone: the converter, the parser and the options are Pipeline's.
    sklearn_operator_name_map.update({kind: get_model_alias(Pipeline)})


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
_register_with_subclasses(PredictionOnly, _register_folded)
if FrozenEstimator not in sklearn_operator_name_map:  # skl2onnx 1.20 has none
    _register_wrapper(FrozenEstimator)
