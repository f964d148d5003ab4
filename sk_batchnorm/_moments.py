"""Moments of mini-batches: count, mean and squared deviations, and how they merge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sk_batchnorm._kernels.numpy import SMALLEST, Floats

Bounds = NDArray[np.int64]


@dataclass(eq=False, slots=True)
class Moments:
    """Count, mean and squared deviations of k mini-batches, per feature.

    The mean is kept as the unevaluated sum ``shift + residual`` of two doubles.
    Where the mean is 1e12 standard deviations away from 0, one double holds
    it to a ten-thousandth of a standard deviation only, and merging blocks by
    such means would cost the variance most of its digits.

    Attributes
    ----------
    n_samples : ndarray of shape (k, 1)
        Number of rows, or the sum of their weights, missing values included.
    count : ndarray of shape (k, 1), or (k, n_features) where values are missing
        Number of observed values, or the sum of their weights.
    shift, residual : ndarray of shape (k, n_features)
        0 where nothing was observed.
    squares : ndarray of shape (k, n_features)
        Sum of squared deviations from the mean, in units of `unit`.
    unit : float, or ndarray of shape (k, 1)
        A power of 2 near the largest weight, so that neither large nor small weights
        take `squares` out of the range of float64.
    """

    n_samples: Floats
    count: Floats
    shift: Floats
    residual: Floats
    squares: Floats
    unit: float | Floats = 1.0


def concatenate(parts: list[Moments]) -> Moments:
    """Moments of the mini-batches of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.count.shape[1] for part in parts)
    count = [np.broadcast_to(p.count, (len(p.count), width)) for p in parts]
    unit = [np.broadcast_to(part.unit, (len(part.squares), 1)) for part in parts]
    return Moments(
        np.concatenate([part.n_samples for part in parts]),
        np.concatenate(count),
        np.concatenate([part.shift for part in parts]),
        np.concatenate([part.residual for part in parts]),
        np.concatenate([part.squares for part in parts]),
        np.concatenate(unit),
    )


def merge(parts: Iterable[Moments]) -> Moments:
    """Moments of one mini-batch of all rows of several."""
    total: Moments | None = None
    for part in parts:
        total = _merge(part if total is None else concatenate([total, part]))
    assert total is not None, "no row of positive weight"
    return total


def _merge(stack: Moments) -> Moments:
    """Moments of one mini-batch of all rows of k.

    Chan, Golub and LeVeque (1983), eq. 1.5, for any number of sets of rows and
    on means of two doubles.
    """
    if len(stack.shift) == 1:
        return stack
    count, total = stack.count, stack.count.sum(axis=0)
    # Deviations from a mean that was observed, lest the rest lose their digits.
    first = np.broadcast_to((count > 0).argmax(axis=0), stack.shift.shape[1:])
    index = first, np.arange(len(first))
    shift, residual = stack.shift[index], stack.residual[index]
    delta = (stack.shift - shift) + (stack.residual - residual)
    step = (count / np.maximum(total, SMALLEST) * delta).sum(axis=0)
    delta -= step
    unit = np.max(stack.unit)
    squares = (stack.unit / unit * stack.squares).sum(axis=0)
    squares += (count / unit * delta * delta).sum(axis=0)
    return Moments(
        stack.n_samples.sum(axis=0)[None],
        total[None],
        shift[None],
        (residual + step)[None],
        squares[None],
        unit,
    )


def scale_weights_down(
    sample_weight: Floats | None, bounds: Bounds
) -> tuple[Floats | None, float | Floats]:
    """Weights of the rows of mini-batches in units, and these, of shape (k, 1).

    So that a large weight times a large value, or a small one times a small one, does
    not leave float64 on the way to a mean that is of the size of the values. Powers of
    2 change no digit. The weights themselves, of all rows, if all units are 1.
    """
    if sample_weight is None:
        return None, 1.0
    rows = sample_weight[bounds[0] : bounds[-1]]
    _, exponent = np.frexp(np.maximum.reduceat(rows, bounds[:-1] - bounds[0]))
    if ((exponent > -64) & (exponent <= 1)).all():
        return sample_weight, 1.0
    unit = np.ldexp(1.0, exponent - 1)
    return rows / np.repeat(unit, np.diff(bounds)), unit[:, None]


def scale_weights_up(moments: Moments, unit: float | Floats) -> Moments:
    """Moments of rows whose weights are so many times as large."""
    if isinstance(unit, float):
        return moments
    return Moments(
        moments.n_samples * unit,
        moments.count * unit,
        moments.shift,
        moments.residual,
        moments.squares,
        unit,
    )
