"""Batch normalisation and its gradient, without state.

The names are those of ``torch.nn.functional``. The transformer's training mode is
made of the same functions.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from sk_batchnorm._compat import Interval, check_arguments, to_numpy
from sk_batchnorm._kernels.numpy import (
    Floats,
    ignore_float_errors,
    refuse_infinity,
)
from sk_batchnorm._moments import Moments, moments
from sk_batchnorm._normalize import normalize, output_dtype, scale_of
from sk_batchnorm._running_stats import RunningStats
from sk_batchnorm._validation import as_numbers, naming_features

__all__ = ["batch_norm", "batch_norm_backward"]

Gradients = tuple[NDArray[np.floating], Floats, Floats]


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
    data = _checked_data(X)
    n_features = data.shape[1]
    weight = _checked_vector("weight", weight, n_features)
    bias = _checked_vector("bias", bias, n_features)
    stats = None
    if not training or running_mean is not None or running_var is not None:
        stats = _checked_stats(running_mean, running_var, n_features)
        mean, var = stats.mean, stats.var
    with naming_features(data, None, lambda: np.arange(n_features)):
        if training:
            batch = own_statistics(data)
            mean, var = mean_and_variance(batch)
            if stats is not None:
                _check_writeable(running_mean=running_mean, running_var=running_var)
                stats = stats.step(
                    batch, momentum=momentum, variance="within", bias_correction=False
                )
                new_mean = _rounded("running_mean", stats.mean, running_mean)
                new_var = _rounded("running_var", stats.var, running_var)
        Y: NDArray[np.floating] = normalize(
            data, mean, scale_of(mean, var, eps, weight), bias, copy=True
        )
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
    data = _checked_data(X)
    grad = checked_gradient(grad_output, data.shape)
    n_features = data.shape[1]
    weight = _checked_vector("weight", weight, n_features)
    with naming_features(data, None, lambda: np.arange(n_features)):
        if training:
            mean, var = mean_and_variance(own_statistics(data))
        else:
            stats = _checked_stats(running_mean, running_var, n_features)
            mean, var = stats.mean, stats.var
            refuse_infinity(data)
    inverse_std = scale_of(mean, var, eps, None)
    return gradients(grad, data, mean, inverse_std, weight, training=training)


@ignore_float_errors
def own_statistics(X: NDArray[Any], n_jobs: int | None = None) -> Moments:
    """Moments of a mini-batch that is to be normalised by its own.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features) or (n_samples, n_channels, \
n_timepoints)
    n_jobs : int or None
        Threads for a large array.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If X contains NaN or infinity, or fewer than two values of a feature.
    """
    if X.size // X.shape[1] < 2:
        raise ValueError(
            f"Training mode needs more than 1 value per feature; X has shape {X.shape}."
        )
    batch = moments(X, n_jobs=n_jobs)
    missing = np.flatnonzero(batch.count != np.float64(batch.n_samples))
    if missing.size:
        raise ValueError(
            "Input X contains NaN, whose gradient is undefined: training mode takes "
            "no missing values. partial_fit and transform do."
        )
    return batch


@ignore_float_errors
def mean_and_variance(batch: Moments) -> tuple[Floats, Floats]:
    """Mean and biased variance of a mini-batch that is normalised by its own."""
    return batch.mean, batch.biased_variance


@ignore_float_errors
def gradients(
    grad_output: Floats,
    X: NDArray[Any],
    mean: Floats,
    inverse_std: Floats,
    weight: Floats | None,
    *,
    training: bool = True,
    with_mean: bool = True,
) -> Gradients:
    """Gradients of the normalisation, see :func:`batch_norm_backward`.

    Parameters
    ----------
    grad_output, X : ndarray of the same shape
    mean, inverse_std : ndarray of shape (n_features,)
    weight : ndarray of shape (n_features,) or None
    training : bool
        Whether mean and inverse_std are those of X.
    with_mean : bool
        If False, the output was not centred; its variance still depends on X.

    Returns
    -------
    grad_input, grad_weight, grad_bias
    """
    axes = (0,) if X.ndim == 2 else (0, 2)
    each = (slice(None),) if X.ndim == 2 else (slice(None), None)
    n_values = X.size // X.shape[1]
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


def checked_gradient(grad_output: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """``grad_output`` in float64, of the shape of X."""
    grad: Floats
    if type(grad_output) is np.ndarray and grad_output.dtype == np.float64:
        # check_array would take longer than the gradient of a small mini-batch.
        grad = grad_output
    else:
        refuse_mask("grad_output", grad_output, "Fill it: grad_output.filled(0).")
        grad = check_array(
            to_numpy(grad_output),
            dtype=np.float64,
            allow_nd=True,
            ensure_2d=False,
            ensure_all_finite=False,
            ensure_min_samples=0,
            input_name="grad_output",
        )
    if grad.shape != shape:
        raise ValueError(
            f"grad_output has shape {grad.shape}, but the X that it is the gradient "
            f"for has shape {shape}."
        )
    if not np.isfinite(grad).all():
        kind = "NaN" if np.isnan(grad).any() else "infinity"
        raise ValueError(f"grad_output contains {kind}.")
    return grad


def refuse_mask(name: str, values: Any, instead: str) -> None:
    """Refuse a masked array, and say what to do instead."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} is a masked array, whose mask would be lost. {instead}"
        )


_CONSTRAINTS: dict[str, list[Any]] = {
    "training": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "eps": [Interval(Real, 0, None, closed="left")],
}


def _checked_data(X: ArrayLike) -> NDArray[Any]:
    refuse_mask("X", X, "Fill it: X.filled(value).")
    X = as_numbers(X, keep_sparse=False)
    data: NDArray[Any] = check_array(X, ensure_all_finite=False, allow_nd=True)
    if not isinstance(data, np.ndarray):
        raise TypeError(
            "batch_norm and its gradient take NumPy arrays, and the transformer's "
            f"partial_fit and transform arrays of other namespaces too; got {type(X)}."
        )
    if data.ndim > 3 or not data.size or data.dtype.kind not in "biuf":
        raise ValueError(
            f"X must hold real numbers in 2 or 3 dimensions; got dtype {data.dtype} "
            f"and shape {data.shape}."
        )
    return data


def _checked_vector(
    name: str, values: ArrayLike | None, n_features: int
) -> Floats | None:
    if values is None:
        return None
    vector: Floats = check_array(
        to_numpy(values), ensure_2d=False, dtype=np.float64, input_name=name
    )
    if vector.shape != (n_features,):
        raise ValueError(
            f"{name} has shape {vector.shape}, but X has {n_features} features."
        )
    return vector


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
    return RunningStats(mean.copy(), var.copy(), 0)
