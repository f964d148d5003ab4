"""The running statistics and the rule by which a mini-batch moves them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sk_batchnorm._kernels.numpy import Floats
from sk_batchnorm._moments import Moments, saturate

# Weights such as ten times 0.1 sum to their total only within rounding.
_WEIGHT_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class RunningStats:
    """Running mean and variance of a stream, after some mini-batches.

    A value: a step returns a new one, and the arrays are read-only, so
    whoever holds one holds a state that the stream really was in.

    Attributes
    ----------
    mean, var : ndarray of shape (n_features,)
    num_batches : int
        Mini-batches since the start.
    """

    mean: Floats
    var: Floats
    num_batches: int

    def __post_init__(self) -> None:
        for array in (self.mean, self.var):
            array.flags.writeable = False

    def __reduce__(self) -> tuple[type[RunningStats], tuple[Floats, Floats, int]]:
        # Through the constructor, so that arrays are read-only in copies too.
        return RunningStats, (self.mean, self.var, self.num_batches)

    @classmethod
    def start(cls, n_features: int) -> RunningStats:
        """PyTorch's starting point: mean 0, variance 1, no mini-batch."""
        return cls(np.zeros(n_features), np.ones(n_features), 0)

    def step(
        self,
        batch: Moments,
        *,
        momentum: float | None,
        variance: str,
        bias_correction: bool,
    ) -> RunningStats:
        """Statistics after one more mini-batch.

        Parameters
        ----------
        batch : Moments
        momentum : float in [0, 1] or None
        variance : {"within", "total"}
        bias_correction : bool

        Returns
        -------
        RunningStats

        Raises
        ------
        ValueError
            If the mini-batch has too few samples for the rule, or values so
            large that their mean is not a float64.
        """
        _check_count(batch.count, variance)
        num_batches = self.num_batches + 1
        factor = averaging_factor(num_batches, momentum, bias_correction)
        rule = _within if variance == "within" else _total
        with np.errstate(over="ignore", invalid="ignore"):
            mean, var = rule(self, batch, factor)
        if not np.isfinite(mean).all():
            feature = int(np.flatnonzero(~np.isfinite(mean))[0])
            raise ValueError(
                f"The mean of feature {feature} overflows float64. Scale the "
                "feature down before it gets here."
            )
        return RunningStats(mean, saturate(var), num_batches)


def averaging_factor(t: int, momentum: float | None, bias_correction: bool) -> float:
    """Weight of mini-batch number ``t`` in the running average.

    With the correction it is that of the normalised exponentially weighted
    average, ``momentum / (1 - (1 - momentum)**t)``, as in Adam (Kingma and
    Ba, 2015, section 3) and in pandas' ``ewm(adjust=True)``.

    Parameters
    ----------
    t : int
        Mini-batches since the start, this one included.
    momentum : float in [0, 1] or None
        None weighs all mini-batches alike.
    bias_correction : bool

    Returns
    -------
    float in [0, 1]
    """
    if momentum is None:
        return 1.0 / t
    momentum = float(momentum)
    if not bias_correction:
        return momentum
    if momentum == 0:
        return 1.0 / t
    # The first mini-batch replaces the start, to the last bit.
    if t == 1 or momentum == 1:
        return 1.0
    return momentum / -math.expm1(t * math.log1p(-momentum))


def _within(stats: RunningStats, batch: Moments, f: float) -> tuple[Floats, Floats]:
    """PyTorch's rule: the average of the mini-batches' own variances."""
    mean = _average(stats.mean, batch.mean, f)
    var = _average(stats.var, batch.unbiased_variance, f)
    return mean, var


def _total(stats: RunningStats, batch: Moments, f: float) -> tuple[Floats, Floats]:
    """Law of total variance: adds the spread of the mini-batch means.

    The exponentially weighted variance of the rows (Finch, 2009, "Incremental
    calculation of weighted mean and variance", section 9), a mini-batch at a
    time.
    """
    d = batch.mean - stats.mean
    mean = _average(stats.mean, batch.mean, f)
    # Grouped so that f = 1 makes the middle term 0 however large d is.
    var = (1 - f) * stats.var + (f * (1 - f) * d) * d + f * batch.biased_variance
    return mean, var


def _average(old: Floats, new: Floats, f: float) -> Floats:
    """``(1 - f) * old + f * new``, exact where f is 0 or 1 and where old is new."""
    return old + f * (new - old) if f <= 0.5 else new + (1 - f) * (old - new)


def _check_count(n: float, variance: str) -> None:
    if variance == "within" and n <= 1 + _WEIGHT_ROUNDING:
        raise ValueError(
            f"A mini-batch of n_samples={n:g} has no unbiased variance, which "
            "variance='within' averages: it needs more than 1 sample (weights "
            "count as repeated samples). Pass larger mini-batches, or use "
            "variance='total', which learns from single samples too."
        )
    if n < 1 - _WEIGHT_ROUNDING:
        raise ValueError(
            f"sample_weight sums to {n:g}; a mini-batch needs at least 1 sample "
            "(weights count as repeated samples)."
        )
