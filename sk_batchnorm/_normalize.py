"""The scale of a state, ``weight / sqrt(var + eps)``, and its inverse."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sk_batchnorm._kernels.numpy import LARGEST, AffineMap, Floats

_ONE = np.ones(())

# Relative size of a standard deviation that may be due to rounding alone.
ROUNDING = 10 * float(np.finfo(np.float64).eps)


def scale_of(
    mean: Floats,
    var: Floats,
    eps: float,
    weight: Floats | None,
    *,
    inverse: bool = False,
) -> Floats:
    """``weight / sqrt(var + eps)``, or its inverse, for which no weight is 0.

    A root of 0 is taken for 1.
    """
    # A long double, where it is longer, makes the scale right to half a unit in
    # the last place: of the three operations that make an output, each rounds
    # once, and none inherits an error.
    std = np.sqrt(np.add(var, eps, dtype=np.longdouble))
    if eps == 0:
        std[is_zero(mean, var)] = 1.0
    if weight is None:
        weight = _ONE
    return np.divide(*((std, weight) if inverse else (weight, std))).astype(np.float64)


def limited(
    by: AffineMap,
    clip: float | None,
    weight: Floats | None,
    mean: Floats | None = None,
) -> AffineMap:
    """An affine map whose normalised values are limited, before the weight.

    With a mean, what is missing is put where the mean is put.
    """
    limit = fill = None
    if clip is not None:
        # (x - mean) / std is within clip where its product with the weight is within
        # this, so that there is one rounding as without it.
        limit = np.full(by.scale.shape, float(clip))
        if weight is not None:
            limit *= np.abs(weight)
    if mean is not None:
        fill = np.zeros(mean.shape)
        if by.centre is None:
            # At 0 where nothing is known, too.
            np.multiply(mean, by.scale, out=fill, where=~np.isnan(mean))
    return by._replace(limit=limit, fill=fill)


def is_zero(mean: Floats, var: Floats) -> NDArray[np.bool_]:
    """Whether a variance is 0, but for what the rounding of the mean can make."""
    zero: NDArray[np.bool_] = np.sqrt(var) <= ROUNDING * np.abs(mean)
    return zero & (var < LARGEST)  # which stands for more


@lru_cache
def output_dtype(dtype: DTypeLike) -> np.dtype[np.floating[Any]]:
    """Dtype in which numbers of ``dtype`` come out: float32 or float64."""
    given = np.dtype(dtype)  # of either byte order
    small = given.kind == "f" and given.itemsize <= 4
    return np.dtype(np.float32 if small else np.float64)
