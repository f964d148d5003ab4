"""``y = (x - mean) * scale + bias`` and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from sk_batchnorm._compat import from_numpy, largest_float, namespace_of
from sk_batchnorm._kernels.dispatch import centre_and_scale
from sk_batchnorm._kernels.numpy import (
    INFINITE,
    Floats,
    InfiniteValueError,
    ignore_float_errors,
    refuse_infinity,
)

# Relative size of a standard deviation that may be due to rounding alone.
ROUNDING = 10 * float(np.finfo(np.float64).eps)

# Values of which an offset of 0 is worth finding.
_WORTH_A_LOOK = 10_000


@ignore_float_errors
def scale_of(mean: Floats, var: Floats, eps: float, weight: Floats | None) -> Floats:
    """``weight / sqrt(var + eps)``, divided by 1 where that root is 0.

    Parameters
    ----------
    mean, var : ndarray of shape (n_features,)
    eps : float
    weight : ndarray of shape (n_features,) or None
        None stands for 1.

    Returns
    -------
    ndarray of shape (n_features,)
    """
    std = _standard_deviation(mean, var, eps)
    return np.asarray((1.0 if weight is None else weight) / std, dtype=np.float64)


@ignore_float_errors
def inverse_scale_of(
    mean: Floats, var: Floats, eps: float, weight: Floats | None
) -> Floats:
    """``sqrt(var + eps) / weight``, as :func:`scale_of`; no weight is 0."""
    std = _standard_deviation(mean, var, eps)
    return np.asarray(std / (1.0 if weight is None else weight), dtype=np.float64)


def _standard_deviation(
    mean: Floats, var: Floats, eps: float
) -> NDArray[np.longdouble]:
    # A long double, where it is longer, makes the scale right to half a unit in
    # the last place: of the three operations that make an output, each rounds
    # once, and none inherits an error.
    std: NDArray[np.longdouble] = np.sqrt(np.add(var, eps, dtype=np.longdouble))
    if eps == 0:
        std[is_zero(mean, var)] = 1.0
    return std


def is_zero(mean: Floats, var: Floats) -> NDArray[np.bool_]:
    """Whether a variance is 0, but for what the rounding of the mean can make."""
    zero: NDArray[np.bool_] = np.sqrt(var) <= ROUNDING * np.abs(mean)
    return zero & (var < np.finfo(np.float64).max)  # which stands for more


def output_dtype(dtype: DTypeLike) -> np.dtype[np.floating]:
    """Dtype in which numbers of ``dtype`` come out: float32 or float64."""
    given = np.dtype(dtype)  # of either byte order
    small = given.kind == "f" and given.itemsize <= 4
    return np.dtype(np.float32 if small else np.float64)


@ignore_float_errors  # a warning that is an error must not stop half-way through X
def normalize(
    X: Any,
    centre: Floats | None,
    scale: Floats,
    offset: Floats | None,
    *,
    copy: bool,
    n_jobs: int | None = None,
) -> Any:
    """Return ``(X - centre) * scale + offset``.

    Centring first keeps the digits of a column whose mean is large against
    its standard deviation, where ``X * scale + (offset - centre * scale)``
    would cancel them.

    Parameters
    ----------
    X : array of shape (n_samples, n_features) or (n_samples, n_channels, \
n_timepoints), or CSR or CSC of shape (n_samples, n_features)
        Of NumPy or another namespace of the array API.
    centre, offset : ndarray of shape (n_features,) or None
        None stands for 0, and is what they must be for sparse X.
    scale : ndarray of shape (n_features,)
        Or, where :func:`few_features` are asked for, of those.
    copy : bool
        If False, the result is written into X where its dtype and its
        memory allow that; not outside of NumPy.
    n_jobs : int or None
        Threads for a large array. The result does not depend on them.

    Returns
    -------
    What X is, float32 or float64

    Raises
    ------
    InfiniteValueError
        If X contains infinity. X is then as it was.
    """
    if sparse.issparse(X):
        refuse_infinity(X.data)
        return _scale_sparse(X, scale, copy=copy)
    if not isinstance(X, np.ndarray):
        return _normalize_namespace(X, centre, scale, offset)
    if offset is not None and X.size > _WORTH_A_LOOK and not offset.any():
        offset = None
    out = _output(X, copy=copy)
    centre_and_scale(X, centre, scale, offset, out, n_jobs)
    return out


def _normalize_namespace(
    X: Any, centre: Floats | None, scale: Floats, offset: Floats | None
) -> Any:
    """Normalise an array of another namespace, on its device."""
    xp, device = namespace_of(X)
    is_floating = xp.isdtype(X.dtype, "real floating")
    if is_floating and bool(xp.any(xp.isinf(X))):
        raise InfiniteValueError(INFINITE.format(X.dtype))
    dtype = largest_float(xp, device)

    # One copy to the device, of all that is sent.
    vectors = [scale]
    is_double = dtype == xp.float64
    for values in (centre, offset):
        if values is not None:
            vectors += [values] if is_double else _halves(values)
    sent = from_numpy(np.stack(vectors), xp, device, dtype)
    rows = [
        sent[i, :] if X.ndim == 2 else sent[i, :, None] for i in range(len(vectors))
    ]
    n_parts = 1 if is_double else 2
    centres = rows[1 : 1 + n_parts] if centre is not None else []
    offsets = rows[1 + len(centres) :]

    Y = xp.astype(X, dtype)  # a copy, to be written to
    for row in centres:
        Y -= row
    Y *= rows[0]
    for row in reversed(offsets):
        Y += row
    if is_floating and xp.finfo(X.dtype).bits <= 32:
        Y = xp.astype(Y, xp.float32)
    return Y


def _halves(values: Floats) -> list[Floats]:
    """What a float32 holds of values, and the rest, for a device without float64.

    Where the mean is 1e5 standard deviations away from 0, a float32 is off by some
    thousandths of one.
    """
    first = values.astype(np.float32).astype(np.float64)
    return [first, np.where(np.isfinite(first), values - first, 0.0)]


def few_features(X: Any) -> NDArray[np.integer] | None:
    """Features of the values that sparse X stores, where they are fewer than all."""
    if sparse.issparse(X) and X.format == "csr" and X.nnz < X.shape[1]:
        features: NDArray[np.integer] = X.indices
        return features
    return None


def _scale_sparse(X: Any, scale: Floats, *, copy: bool) -> Any:
    """Scale the stored values of each feature; the zeros stay what they are."""
    if len(scale) < X.shape[1]:
        per_value = scale
    elif X.format == "csr":
        per_value = scale[X.indices]
    else:
        per_value = np.repeat(scale, np.diff(X.indptr))
    data = _output(X.data, copy=copy)
    np.multiply(X.data, per_value, out=data, casting="same_kind")
    if data is X.data:
        return X
    return type(X)((data, X.indices.copy(), X.indptr.copy()), shape=X.shape)


def _output(X: NDArray[Any], *, copy: bool) -> NDArray[np.floating]:
    """Where the result goes: X itself, or a new array."""
    dtype = output_dtype(X.dtype)
    if not copy and X.dtype == dtype and X.flags.writeable and not _overlaps(X):
        return X
    return np.empty_like(X, dtype=dtype, subok=False)


def _overlaps(X: NDArray[Any]) -> bool:
    """Whether two elements of X may share memory, as in a sliding window."""
    extent = X.itemsize
    for stride, size in sorted(zip(map(abs, X.strides), X.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return True
            extent += stride * (size - 1)
    return False
