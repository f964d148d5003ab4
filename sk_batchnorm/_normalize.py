"""``y = (x - mean) * scale + bias`` and its inverse."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sk_batchnorm._kernels.numpy import Floats, centre_and_scale


def standard_deviation(var: Floats, eps: float) -> Floats:
    """Square root of ``var + eps``, and 1 where that is 0.

    Parameters
    ----------
    var : ndarray of shape (n_features,)
    eps : float

    Returns
    -------
    ndarray of shape (n_features,)
    """
    std: Floats = np.sqrt(var + eps)
    std[std == 0] = 1.0
    return std


def output_dtype(dtype: DTypeLike) -> np.dtype[np.floating]:
    """Dtype in which numbers of ``dtype`` come out: float32 or float64."""
    small = np.dtype(dtype) in (np.dtype(np.float32), np.dtype(np.float16))
    return np.dtype(np.float32 if small else np.float64)


def normalize(
    X: NDArray[np.generic],
    centre: Floats | None,
    scale: Floats,
    offset: Floats | None,
    *,
    copy: bool,
) -> NDArray[np.floating]:
    """Return ``(X - centre) * scale + offset``.

    Centring first keeps the digits of a column whose mean is large against
    its standard deviation, where ``X * scale + (offset - centre * scale)``
    would cancel them.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    centre, offset : ndarray of shape (n_features,) or None
        None stands for 0.
    scale : ndarray of shape (n_features,)
    copy : bool
        If False, the result is written into X where its dtype and its
        write flag allow that.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
    """
    dtype = output_dtype(X.dtype)
    out: NDArray[np.floating]
    if not copy and X.dtype == dtype and X.flags.writeable:
        out = cast(NDArray[np.floating], X)
    else:
        out = np.empty_like(X, dtype=dtype, subok=False)
    centre_and_scale(X, centre, scale, offset, out)
    return out
