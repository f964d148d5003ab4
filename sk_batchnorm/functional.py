"""Batch normalisation and its gradient, without state.

The names are those of ``torch.nn.functional``. The transformer's training mode is
made of the same functions.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_batchnorm._compat import Interval, check_arguments
from sk_batchnorm._inputs import Input
from sk_batchnorm._kernels.numpy import (
    AffineMap,
    Floats,
    ignore_float_errors,
    refuse_infinity,
)
from sk_batchnorm._moments import Moments
from sk_batchnorm._normalize import output_dtype, scale_of
from sk_batchnorm._rule import Rule, rule_of
from sk_batchnorm._running_stats import RunningStats
from sk_batchnorm._validation import (
    NAMELESS_ERRORS,
    check_array_input,
    check_gradient,
    check_vector,
    naming_features,
)

__all__ = ["batch_norm", "batch_norm_backward"]

Gradients = tuple[NDArray[np.floating], Floats, Floats]

# By which a mini-batch is normalised by its own mean and biased variance.
MINI_BATCH = Rule(momentum=1.0, variance="total")


@ignore_float_errors
def batch_norm(
    X: ArrayLike,
    running_mean: NDArray[np.floating] | None,
    running_var: NDArray[np.floating] | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> NDArray[np.floating]:
    """Normalise each feature, then apply the affine map.

    The arguments and their meaning are those of ``torch.nn.functional.batch_norm``.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, \
n_timepoints)
        The mini-batch.

    running_mean, running_var : ndarray of shape (n_features,), float32 or float64, \
or None
        In eval mode, X is normalised by these. In training mode they are updated in
        place, by the mean and the unbiased variance of X; with None for both,
        nothing is updated.

    weight, bias : array-like of shape (n_features,), default=None
        None is 1 and 0.

    training : bool, default=False
        If True, X is normalised by its own mean and biased variance.

    momentum : float in [0, 1], default=0.1
        Weight of X in the running statistics.

    eps : float, default=1e-5
        Added to the variance. With 0, a feature of zero variance is divided by 1.

    Returns
    -------
    ndarray of the shape of X
        float32 where X is float32 or float16, else float64; computed in float64
        and rounded once.

    Raises
    ------
    ValueError
        If a shape or a value is not what it must be: X contains infinity, or in
        training mode NaN or fewer than two values of a feature; only one of the
        running statistics is given, or in eval mode neither; or one of them would
        overflow its dtype. The running statistics are then as they were.
    TypeError
        If X is sparse, or an array of another namespace than NumPy's.
    InvalidParameterError
        If training, momentum or eps is of a wrong type or out of range.

    See Also
    --------
    sk_batchnorm.BatchNorm1dTransformer : The same with a state of its own.

    References
    ----------
    .. [1] S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network
       Training by Reducing Internal Covariate Shift", ICML 2015,
       arXiv:1502.03167, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_batchnorm.functional import batch_norm
    >>> mean, var = np.zeros(1), np.ones(1)
    >>> batch_norm([[1.0], [5.0]], mean, var, training=True, eps=0)
    array([[-1.],
           [ 1.]])
    >>> mean, var
    (array([0.3]), array([1.7]))
    >>> batch_norm([[1.6]], mean, var, eps=0).round(3)
    array([[0.997]])
    """
    check_arguments(
        "batch_norm", _CONSTRAINTS, training=training, momentum=momentum, eps=eps
    )
    data = check_array_input(X)
    n_features = data.array.shape[1]
    weight = _checked_vector("weight", weight, n_features)
    bias = _checked_vector("bias", bias, n_features)
    stats = None
    if not training or running_mean is not None or running_var is not None:
        stats = _checked_stats(running_mean, running_var, n_features)
    try:
        if training:
            batch = training_moments(data)
            by = RunningStats.of(batch, MINI_BATCH)
            if stats is not None:
                _check_writeable(running_mean=running_mean, running_var=running_var)
                rule = rule_of(momentum)
                stats = stats.then(RunningStats.of(batch, rule), rule)
                new_mean = _rounded("running_mean", stats.mean, running_mean)
                new_var = _rounded("running_var", stats.var, running_var)
        else:
            by = cast(RunningStats, stats)
        Y: NDArray[np.floating] = data.normalized(
            AffineMap(by.mean, by.scale(eps, weight), bias), copy=True
        )
    except NAMELESS_ERRORS as error:
        raise naming_features(error, data, None, range(n_features)) from None
    if training and stats is not None:
        cast(Any, running_mean)[:], cast(Any, running_var)[:] = new_mean, new_var
    return Y


@ignore_float_errors
def batch_norm_backward(
    grad_output: ArrayLike,
    X: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    training: bool = False,
    eps: float = 1e-5,
) -> tuple[NDArray[np.floating], NDArray[np.float64], NDArray[np.float64]]:
    """Gradients of :func:`~sk_batchnorm.functional.batch_norm`.

    Parameters
    ----------
    grad_output : array-like of the shape of X
        Gradient of a loss with respect to the output.

    X, running_mean, running_var, weight, training, eps
        As they were passed to :func:`batch_norm`. In training mode the running
        statistics are ignored, since the output does not depend on them.

    Returns
    -------
    grad_input : ndarray of the shape of X
        Gradient with respect to X; float32 where X is float32 or float16, else
        float64.

    grad_weight, grad_bias : ndarray of shape (n_features,), float64
        Gradients with respect to weight and bias.

    Raises
    ------
    ValueError
        As :func:`batch_norm`, or if grad_output has another shape than X, or
        contains NaN or infinity.
    TypeError
        As :func:`batch_norm`.
    InvalidParameterError
        If training or eps is of a wrong type or out of range.

    Notes
    -----
    With the normalised input x̂ = (x − mean) / sqrt(var + eps) and the gradient g
    of the loss with respect to the output, over the n values of a feature ::

        grad_bias   = Σ g
        grad_weight = Σ g·x̂
        grad_input  = weight / sqrt(var + eps) · (g − Σg/n − x̂·Σ(g·x̂)/n)

    in training mode, where mean and variance depend on x. In eval mode they are
    constants, and the last two terms are absent.

    References
    ----------
    .. [1] S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network
       Training by Reducing Internal Covariate Shift", ICML 2015,
       arXiv:1502.03167, section 3.

    Examples
    --------
    >>> from sk_batchnorm.functional import batch_norm_backward
    >>> X, grad_output = [[0.0], [2.0], [4.0]], [[1.0], [0.0], [0.0]]
    >>> grads = batch_norm_backward(grad_output, X, None, None, training=True, eps=0)
    >>> for grad in grads:
    ...     print(grad.round(3).tolist())
    [[0.102], [-0.204], [0.102]]
    [-1.225]
    [1.0]
    """
    check_arguments("batch_norm_backward", _CONSTRAINTS, training=training, eps=eps)
    data = check_array_input(X)
    grad = check_gradient(grad_output, data.array.shape)
    n_features = data.array.shape[1]
    weight = _checked_vector("weight", weight, n_features)
    try:
        if training:
            by = RunningStats.of(training_moments(data), MINI_BATCH)
        else:
            by = _checked_stats(running_mean, running_var, n_features)
            refuse_infinity(data.array)
    except NAMELESS_ERRORS as error:
        raise naming_features(error, data, None, range(n_features)) from None
    inverse_std = scale_of(by.mean, by.var, eps, None)
    return gradients(grad, data, by.mean, inverse_std, weight, training=training)


def training_moments(data: Input, n_jobs: int | None = None) -> Moments:
    """Moments of a mini-batch that is to be normalised by its own.

    Raises ValueError if X contains NaN or infinity, or fewer than two values of a
    feature.
    """
    if data.n_values < 2:
        raise ValueError(
            "Training mode needs more than 1 value per feature; X has shape "
            f"{data.array.shape}."
        )
    batch = data.moments(n_jobs=n_jobs)
    if (batch.count != data.n_values).any():
        raise ValueError(
            "Input X contains NaN, whose gradient is undefined: training mode takes "
            "no missing values. partial_fit and transform do."
        )
    return batch


def gradients(
    grad_output: Floats,
    data: Input,
    mean: Floats,
    inverse_std: Floats,
    weight: Floats | None,
    *,
    training: bool = True,
    with_mean: bool = True,
) -> Gradients:
    """Gradients of the normalisation, see :func:`batch_norm_backward`.

    `training` says whether mean and inverse_std are those of X. Without `with_mean`,
    the output was not centred; its variance still depends on X.
    """
    X, axes, each, n_values = data.array, data.axes, data.each, data.n_values
    deviation = np.subtract(X, mean[each], dtype=np.float64) * inverse_std[each]
    normalised = deviation if with_mean else X * inverse_std[each]
    grad_bias = grad_output.sum(axis=axes)
    grad_weight = (grad_output * normalised).sum(axis=axes)
    grad_input = grad_output
    if training:
        grad_input = grad_input - deviation * (grad_weight / n_values)[each]
        if with_mean:
            grad_input -= (grad_bias / n_values)[each]
    scale = inverse_std if weight is None else inverse_std * weight
    grad_input = grad_input * scale[each]
    return grad_input.astype(output_dtype(X.dtype), copy=False), grad_weight, grad_bias


_CONSTRAINTS: dict[str, list[Any]] = {
    "training": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "eps": [Interval(Real, 0, None, closed="left")],
}


def _checked_vector(
    name: str, values: ArrayLike | None, n_features: int
) -> Floats | None:
    if values is None:
        return None
    expected = f", but X has {n_features} features"
    return check_vector(name, values, (n_features,), expected=expected)


def _check_writeable(**arrays: Any) -> None:
    for name, array in arrays.items():
        if not (
            isinstance(array, np.ndarray)
            and array.dtype.kind == "f"
            and array.flags.writeable
        ):
            raise ValueError(
                f"{name} is updated in place: it must be a writeable array of "
                f"floating-point numbers; got {array!r}."
            )


def _rounded(name: str, values: Floats, array: Any) -> NDArray[np.floating]:
    """``values`` in the dtype of the array that they go to."""
    rounded: NDArray[np.floating] = values.astype(array.dtype)
    if not np.isfinite(rounded).all():
        raise ValueError(
            f"{name} would have a number too large for {array.dtype}. Pass arrays of "
            "float64, or scale X down before it gets here."
        )
    return rounded


def _checked_stats(
    running_mean: ArrayLike | None, running_var: ArrayLike | None, n_features: int
) -> RunningStats:
    """Running statistics, in copies."""
    mean = _checked_vector("running_mean", running_mean, n_features)
    var = _checked_vector("running_var", running_var, n_features)
    if mean is None or var is None:
        raise ValueError(
            "running_mean and running_var must both be given, or, in training mode, "
            "neither."
        )
    if (var < 0).any():
        raise ValueError("running_var has a negative value.")
    return RunningStats(mean.copy(), var.copy(), 0, 0.0)
