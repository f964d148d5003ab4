"""The running statistics and the rule by which a mini-batch moves them.

A mini-batch is a stretch of the stream like any other, of length 1. So there is
one operation, :meth:`RunningStats.then`, which joins two stretches; a step of
``partial_fit`` joins the stream so far and one mini-batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import expm1, log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_batchnorm._kernels.numpy import (
    SMALLEST,
    Floats,
    all_finite,
    ignore_float_errors,
)
from sk_batchnorm._moments import Moments, saturate
from sk_batchnorm._normalize import inverse_scale_of, scale_of

# Weights such as ten times 0.1 sum to their total only within rounding.
WEIGHT_ROUNDING = 1e-9

# A number of mini-batches, or one for each feature.
Count = int | NDArray[np.int64]


class MeanOverflowError(ValueError):
    """Means beyond float64, of features whose names the caller knows."""

    @property
    def features(self) -> NDArray[np.intp]:
        """Numbers of the features."""
        features: NDArray[np.intp] = self.args[1]
        return features


@dataclass(frozen=True, eq=False)
class RunningStats:
    """Running mean and variance of a stretch of a stream.

    A value: a step returns a new one, and the arrays are read-only, so
    whoever holds one holds a state that the stream really was in.

    Attributes
    ----------
    mean, var : ndarray of shape (n_features,)
        NaN for a feature that nothing is known of.
    num_batches : int, or ndarray of shape (n_features,)
        Mini-batches since the start; an array where missing values have made
        the features differ.
    start_weight : float, or ndarray of shape (n_features,)
        Weight that PyTorch's start, mean 0 and variance 1, has in the averages.
    """

    mean: Floats
    var: Floats
    num_batches: Count
    start_weight: float | Floats = 0.0
    _scales: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for array in (self.mean, self.var, self.num_batches, self.start_weight):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    def __reduce__(self) -> tuple[type[RunningStats], tuple[Any, ...]]:
        # Through the constructor, so that arrays are read-only in copies too.
        return RunningStats, self.as_tuple()

    def as_tuple(self) -> tuple[Floats, Floats, Count, float | Floats]:
        """All that it is, as the constructor takes it."""
        return self.mean, self.var, self.num_batches, self.start_weight

    @classmethod
    def start(cls, n_features: int) -> RunningStats:
        """PyTorch's starting point: mean 0, variance 1, no mini-batch."""
        return cls(np.zeros(n_features), np.ones(n_features), 0, 1.0)

    @classmethod
    @ignore_float_errors
    def of(cls, batch: Moments, variance: str) -> RunningStats:
        """Statistics of one mini-batch alone.

        A feature with too few observed values is not in it: its number of
        mini-batches is 0, its mean and variance are NaN.

        Parameters
        ----------
        batch : Moments
        variance : {"within", "total"}

        Returns
        -------
        RunningStats

        Raises
        ------
        ValueError
            If the mini-batch has too few samples, missing values included.
        """
        return cls(*_alone(batch, variance))

    @classmethod
    @ignore_float_errors
    def of_stretch(
        cls, batches: Moments, *, momentum: float | None, variance: str
    ) -> RunningStats:
        """Statistics of consecutive mini-batches, with bias correction.

        What a step for each would give, in closed form: the average of the
        mini-batches in which the newest weighs most.

        Parameters
        ----------
        batches : Moments
            Of several mini-batches, with a first axis.
        momentum : float in [0, 1] or None
        variance : {"within", "total"}

        Returns
        -------
        RunningStats

        Raises
        ------
        ValueError
            If a mini-batch has too few samples, missing values included.
        """
        within = variance == "within"
        n_samples = np.ravel(batches.n_samples)
        too_few = ~np.asarray(_is_enough(n_samples, within))
        if too_few.any():
            raise ValueError(_too_few(float(n_samples[too_few][0])))
        enough = np.asarray(_is_enough(np.asarray(batches.count), within))
        num_batches = enough.sum(axis=0)
        newer = enough[::-1].cumsum(axis=0)[::-1] - enough
        share = enough * _decay(newer, momentum)
        share /= np.maximum(share.sum(axis=0), SMALLEST)

        newest = len(enough) - 1 - enough[::-1].argmax(axis=0)
        newest = np.broadcast_to(newest, batches.shift.shape[1:])
        var = batches.unbiased_variance if within else batches.biased_variance
        means = batches.mean
        # From the newest mean, so that a constant stays what it is.
        mean = means[newest, np.arange(len(newest))]
        deviations = means - mean
        if not enough.all():
            var, deviations = (np.where(enough, a, 0.0) for a in (var, deviations))
        residual = (share * deviations).sum(axis=0)
        mean, var = mean + residual, (share * var).sum(axis=0)
        if not within:
            deviations -= residual
            # Grouped so that what has no share is 0 however far away.
            var += ((share * deviations) * deviations).sum(axis=0)
        observed = num_batches > 0
        return cls(
            np.where(observed, mean, np.nan),
            np.where(observed, saturate(var), np.nan),
            _count(num_batches),
        )

    @ignore_float_errors
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
        return self._then(*_alone(batch, variance), momentum, variance, bias_correction)

    @ignore_float_errors
    def then(
        self,
        later: RunningStats,
        *,
        momentum: float | None,
        variance: str,
        bias_correction: bool,
    ) -> RunningStats:
        """Statistics of this stretch and a later one, one after the other.

        Equal to streaming the later mini-batches on top of this stretch.

        Parameters
        ----------
        later : RunningStats
            Without the start in it: one mini-batch, or a stretch streamed
            with bias correction.
        momentum : float in [0, 1] or None
        variance : {"within", "total"}
        bias_correction : bool
            Whether this stretch is one with bias correction too.

        Returns
        -------
        RunningStats

        Raises
        ------
        ValueError
            If a mean is not a float64.
        """
        return self._then(
            later.mean,
            later.var,
            later.num_batches,
            momentum,
            variance,
            bias_correction,
        )

    def _then(
        self,
        mean: Floats,
        var: Floats,
        num_batches: Count,
        momentum: float | None,
        variance: str,
        bias_correction: bool,
    ) -> RunningStats:
        factor = averaging_factor(
            self.num_batches, num_batches, momentum, bias_correction
        )
        earlier, unknown = self, None
        if not (_all_observed(self.num_batches) and _all_observed(num_batches)):
            keeps_start = momentum is not None and not bias_correction
            earlier = self if keeps_start else self._without_start()
            # Of a feature, what is known of one of the two alone is known of both.
            is_new = np.isnan(earlier.mean)
            observed = np.not_equal(num_batches, 0)
            if is_new.any():
                factor = np.where(is_new, observed * 1.0, factor)
            mean = np.where(observed, mean, earlier.mean)
            var = np.where(observed, var, earlier.var)
            earlier = RunningStats(
                np.where(is_new, mean, earlier.mean),
                np.where(is_new, var, earlier.var),
                earlier.num_batches,
                earlier.start_weight,
            )
            unknown = is_new & ~observed
        average = _within if variance == "within" else _total
        mean, var = average(earlier.mean, earlier.var, mean, var, factor)
        var = saturate(var)
        if unknown is not None:
            var[unknown] = np.nan
        if not all_finite(mean):
            overflows = ~np.isfinite(mean)
            if unknown is not None:
                overflows &= ~unknown
            if overflows.any():
                raise MeanOverflowError(
                    "a mean overflows float64", np.flatnonzero(overflows)
                )
        num_batches = self.num_batches + num_batches
        if isinstance(num_batches, np.ndarray):
            num_batches = _count(num_batches)
        start_weight = earlier.start_weight * (1 - factor)
        if isinstance(start_weight, np.ndarray) and np.ptp(start_weight) == 0:
            start_weight = float(start_weight[0])
        return RunningStats(mean, var, num_batches, start_weight)

    def _without_start(self) -> RunningStats:
        """Without what is the start alone, of which nothing is known then."""
        is_start = np.equal(self.num_batches, 0) & (np.asarray(self.start_weight) > 0)
        return RunningStats(
            np.where(is_start, np.nan, self.mean),
            np.where(is_start, np.nan, self.var),
            self.num_batches,
            np.where(is_start, 0.0, self.start_weight),
        )

    def scale(
        self,
        eps: float,
        weight: Floats | None,
        features: NDArray[np.integer] | None = None,
    ) -> Floats:
        """Scale of all features, computed once, or of some of them.

        Parameters
        ----------
        eps, weight
            As for :func:`~sk_batchnorm._normalize.scale_of`.
        features : ndarray of int, or None

        Returns
        -------
        ndarray of shape (n_features,), or of the shape of features
        """
        return self._once(scale_of, eps, weight, features)

    def inverse_scale(
        self,
        eps: float,
        weight: Floats | None,
        features: NDArray[np.integer] | None = None,
    ) -> Floats:
        """Inverse of :meth:`scale`."""
        return self._once(inverse_scale_of, eps, weight, features)

    def _once(
        self,
        function: Callable[..., Floats],
        eps: float,
        weight: Floats | None,
        features: NDArray[np.integer] | None,
    ) -> Floats:
        if features is not None:
            some = None if weight is None else weight[features]
            return function(self.mean[features], self.var[features], eps, some)
        known = self._scales.get(function)
        if known is not None and known[0] == eps and _same(known[1], weight):
            scale: Floats = known[2]
            return scale
        scale = function(self.mean, self.var, eps, weight)
        scale.flags.writeable = False
        # A copy, as the weight may be changed in place.
        weight = None if weight is None else weight.copy()
        self._scales[function] = eps, weight, scale
        return scale


def _all_observed(num_batches: Count) -> bool:
    if isinstance(num_batches, int):
        return num_batches > 0
    return bool(num_batches.all())


def _same(a: Floats | None, b: Floats | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool((a == b).all())


def _alone(batch: Moments, variance: str) -> tuple[Floats, Floats, Count]:
    """Mean and variance of one mini-batch, and the number 1 where they count."""
    within = variance == "within"
    if not _is_enough(batch.n_samples, within):
        raise ValueError(_too_few(float(batch.n_samples)))
    mean = batch.mean
    var = batch.unbiased_variance if within else batch.biased_variance
    enough = _is_enough(batch.count, within)
    if enough is True or np.all(enough):
        return mean, var, 1
    return (
        np.where(enough, mean, np.nan),
        np.where(enough, var, np.nan),
        _count(np.atleast_1d(enough).astype(np.int64)),
    )


def _count(num_batches: NDArray[np.int64]) -> Count:
    """One number of mini-batches where the features agree."""
    if (num_batches == num_batches[0]).all():
        return int(num_batches[0])
    return num_batches


def averaging_factor(
    earlier: Count, later: Count, momentum: float | None, bias_correction: bool
) -> float | Floats:
    """Weight of the later stretch in the running average of two.

    For a later stretch of one mini-batch, the t-th: ``momentum``, or with
    bias correction ``momentum / (1 - (1 - momentum)**t)``, the normalised
    exponentially weighted average of Adam (Kingma and Ba, 2015, section 3)
    and of pandas' ``ewm(adjust=True)``, or ``1 / t`` for momentum None.

    Parameters
    ----------
    earlier, later : int or ndarray of shape (n_features,)
        Mini-batches in the two stretches.
    momentum : float in [0, 1] or None
        None weighs all mini-batches alike.
    bias_correction : bool

    Returns
    -------
    float or ndarray of shape (n_features,), in [0, 1]
    """
    if momentum is not None and not bias_correction:
        # The rest, to 1, is the weight of all that is older, the start with it.
        return _weight(later, momentum) if momentum else 0.0
    # Of the whole, which is 0 where nothing was observed in either.
    new, both = _weight(later, momentum), _weight(earlier + later, momentum)
    factor: float | Floats
    if isinstance(both, np.ndarray):
        factor = new / np.where(both == 0, 1.0, both)
    else:
        factor = new / both if both else 0.0
    return factor


def _weight(n_batches: Any, momentum: float | None) -> Any:
    """Weight of so many mini-batches, 1 - (1 - momentum)**n, against older ones."""
    if momentum is None or momentum == 0:
        # The limit, up to a factor that cancels.
        return n_batches * 1.0
    if isinstance(n_batches, np.ndarray):
        counts, which = np.unique(n_batches, return_inverse=True)
        return np.array([_weight(int(n), momentum) for n in counts])[which]
    if n_batches <= 1:
        # Of one mini-batch it is the momentum, to the last bit.
        return n_batches * float(momentum)
    return 1.0 if momentum == 1 else -expm1(n_batches * log1p(-momentum))


def _decay(newer: NDArray[np.int64], momentum: float | None) -> Floats:
    """Weight of a mini-batch that has so many newer ones, (1 - momentum)**n."""
    if momentum is None:
        return np.ones(newer.shape)
    decay: Floats
    if momentum == 1:
        decay = (newer == 0).astype(np.float64)
    else:
        decay = np.exp(newer * log1p(-momentum))
    return decay


def _within(
    old_mean: Floats, old_var: Floats, mean: Floats, var: Floats, f: float | Floats
) -> tuple[Floats, Floats]:
    """PyTorch's rule: the average of the mini-batches' own variances."""
    return _average(old_mean, mean, f), _average(old_var, var, f)


def _total(
    old_mean: Floats, old_var: Floats, mean: Floats, var: Floats, f: float | Floats
) -> tuple[Floats, Floats]:
    """Law of total variance: adds the spread of the mini-batch means.

    The exponentially weighted variance of the rows (Finch, 2009, "Incremental
    calculation of weighted mean and variance", section 9), a mini-batch at a
    time.
    """
    d = mean - old_mean
    # Grouped so that f = 1 makes the middle term 0 however large d is.
    var = (1 - f) * old_var + (f * (1 - f) * d) * d + f * var
    return _average(old_mean, mean, f), var


def _average(old: Floats, new: Floats, f: float | Floats) -> Floats:
    """``(1 - f) * old + f * new``, exact where f is 0 or 1 and where old is new."""
    if isinstance(f, np.ndarray):
        near_new = new + (1 - f) * (old - new)
        return np.where(f <= 0.5, old + f * (new - old), near_new)
    return old + f * (new - old) if f <= 0.5 else new + (1 - f) * (old - new)


def _is_enough(n: float | Floats, within: bool) -> bool | NDArray[np.bool_]:
    return n > 1 + WEIGHT_ROUNDING if within else n > 0


def _too_few(n: float) -> str:
    return (
        f"A mini-batch of n_samples={n:g} has no unbiased variance, which "
        "variance='within' averages: it needs more than 1 sample (a weight counts as "
        "that many). Pass larger mini-batches, scale sample_weight up to the number of "
        "samples that it stands for, or use variance='total', which learns from any "
        "weight and from single samples too."
    )
