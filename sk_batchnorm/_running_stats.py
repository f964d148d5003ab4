"""The running statistics and the rule by which a mini-batch moves them.

A mini-batch is a stretch of the stream like any other, of length 1. So there is
one operation, :meth:`RunningStats.then`, which joins two stretches; a step of
``partial_fit`` joins the stream so far and one mini-batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import expm1, log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_batchnorm._kernels.numpy import SMALLEST, Floats, all_finite
from sk_batchnorm._moments import (
    WEIGHT_ROUNDING,
    Moments,
    batch_moments,
    cut,
    is_short,
    merge,
    moments,
    saturate,
)

# A number of mini-batches, or one for each feature.
Count = int | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RunningStats:
    """Running mean and variance of a stretch of a stream.

    A value: a step returns a new one, and the arrays are read-only, so
    whoever holds one holds a state that the stream really was in.

    Attributes
    ----------
    mean, var : ndarray of shape (n_features,)
    num_batches : int, or ndarray of shape (n_features,)
        Mini-batches since the start; an array where missing values have made
        the features differ.
    """

    mean: Floats
    var: Floats
    num_batches: Count

    def __post_init__(self) -> None:
        for array in (self.mean, self.var, self.num_batches):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    def __reduce__(self) -> tuple[type[RunningStats], tuple[Floats, Floats, Count]]:
        # Through the constructor, so that arrays are read-only in copies too.
        return RunningStats, (self.mean, self.var, self.num_batches)

    @classmethod
    def start(cls, n_features: int) -> RunningStats:
        """PyTorch's starting point: mean 0, variance 1, no mini-batch."""
        return cls(np.zeros(n_features), np.ones(n_features), 0)

    @classmethod
    def of(cls, batch: Moments, variance: str) -> RunningStats:
        """Statistics of one mini-batch alone.

        A feature with too few observed values is not in it: its number of
        mini-batches is 0.

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
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return cls(*_alone(batch, variance))

    @classmethod
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
            raise ValueError(_too_few(float(n_samples[too_few][0]), within))
        enough = np.asarray(_is_enough(np.asarray(batches.count), within))
        num_batches = enough.sum(axis=0)
        newer = enough[::-1].cumsum(axis=0)[::-1] - enough
        share = enough * _decay(newer, momentum)
        share /= np.maximum(share.sum(axis=0), SMALLEST)

        newest = len(enough) - 1 - enough[::-1].argmax(axis=0)
        newest = np.broadcast_to(newest, batches.shift.shape[1:])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
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
            np.where(observed, mean, 0.0),
            np.where(observed, saturate(var), 1.0),
            _count(num_batches),
        )

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
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._then(
                *_alone(batch, variance), momentum, variance, bias_correction
            )

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
        with np.errstate(over="ignore", invalid="ignore"):
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
        rule = _within if variance == "within" else _total
        mean, var = rule(self.mean, self.var, mean, var, factor)
        if not all_finite(mean):
            feature = int(np.flatnonzero(~np.isfinite(mean))[0])
            raise ValueError(
                f"The mean of feature {feature} overflows float64. Scale the "
                "feature down before it gets here."
            )
        num_batches = self.num_batches + num_batches
        if isinstance(num_batches, np.ndarray):
            num_batches = _count(num_batches)
        return RunningStats(mean, saturate(var), num_batches)


@dataclass(frozen=True, eq=False)
class OpenStretch:
    """A part of X learned by ``fit`` before what lies beside it is known.

    Its first rows may belong to the mini-batch before them, and its last
    mini-batch may still get more. Joining parts is associative, so that a tree
    of any shape gives the same.

    Attributes
    ----------
    lead : Moments or None
        Rows before the first mini-batch of this part: too few for one of their
        own, they join the mini-batch before them.
    closed : RunningStats
        All mini-batches but the last, with bias correction.
    last : Moments or None
        The last mini-batch. None if there is none, and then `closed` has none.
    """

    lead: Moments | None
    closed: RunningStats
    last: Moments | None

    @classmethod
    def of_nothing(cls, n_features: int) -> OpenStretch:
        """No row at all."""
        return cls(None, RunningStats.start(n_features), None)

    @classmethod
    def of_rows(
        cls,
        X: Any,
        sample_weight: Floats | None,
        *,
        batch_size: int | None,
        momentum: float | None,
        variance: str,
        n_jobs: int | None = None,
    ) -> OpenStretch:
        """Cut rows into mini-batches, as ``fit`` does, and learn from them.

        Parameters
        ----------
        X, sample_weight, n_jobs
            As for :func:`~sk_batchnorm._moments.moments`. X is not CSC unless
            `batch_size` is None.
        batch_size : int or None
            None where all parts together are one mini-batch.
        momentum : float in [0, 1] or None
        variance : {"within", "total"}

        Returns
        -------
        OpenStretch

        Raises
        ------
        ValueError
            If X contains infinity, or a mini-batch has too few samples.
        """
        nothing = cls.of_nothing(X.shape[1])
        if batch_size is None or is_short(X.shape[0], sample_weight):
            return replace(nothing, lead=moments(X, sample_weight, n_jobs))
        rule: dict[str, Any] = {"momentum": momentum, "variance": variance}
        *before, last = cut(X.shape, batch_size, sample_weight)
        closed = nothing.closed
        for bounds in (*before, last[:-1]):
            if len(bounds) > 1:
                batches = batch_moments(X, bounds, sample_weight, n_jobs)
                stretch = RunningStats.of_stretch(batches, **rule)
                closed = closed.then(stretch, **rule, bias_correction=True)
        rows = slice(last[-2], None)
        weight = None if sample_weight is None else sample_weight[rows]
        return cls(None, closed, moments(X[rows], weight, n_jobs))

    def then(
        self, later: OpenStretch, *, momentum: float | None, variance: str
    ) -> OpenStretch:
        """Join this part and the one that follows it.

        Parameters
        ----------
        later : OpenStretch
        momentum : float in [0, 1] or None
        variance : {"within", "total"}

        Returns
        -------
        OpenStretch

        Raises
        ------
        ValueError
            If a mean is not a float64, or a mini-batch has too few samples.
        """
        if self.last is None:
            leads = [part.lead for part in (self, later) if part.lead is not None]
            return replace(later, lead=merge(leads) if leads else None)
        last = self.last
        if later.lead is not None:
            last = merge([last, later.lead])
        if later.last is None:
            return replace(self, last=last)
        closed = self.closed
        for stretch in (RunningStats.of(last, variance), later.closed):
            closed = closed.then(
                stretch, momentum=momentum, variance=variance, bias_correction=True
            )
        return OpenStretch(self.lead, closed, later.last)

    def close(self, *, momentum: float | None, variance: str) -> RunningStats:
        """Statistics where nothing comes before and nothing after.

        Parameters
        ----------
        momentum : float in [0, 1] or None
        variance : {"within", "total"}

        Returns
        -------
        RunningStats

        Raises
        ------
        ValueError
            If a mean is not a float64, or a mini-batch has too few samples.
        """
        first, last = (
            [] if batch is None else [RunningStats.of(batch, variance)]
            for batch in (self.lead, self.last)
        )
        stats = RunningStats.start(len(self.closed.mean))
        for stretch in (*first, self.closed, *last):
            stats = stats.then(
                stretch, momentum=momentum, variance=variance, bias_correction=True
            )
        return stats


def _alone(batch: Moments, variance: str) -> tuple[Floats, Floats, Count]:
    """Mean and variance of one mini-batch, and the number 1 where they count."""
    within = variance == "within"
    if not _is_enough(batch.n_samples, within):
        raise ValueError(_too_few(float(batch.n_samples), within))
    mean = batch.mean
    var = batch.unbiased_variance if within else batch.biased_variance
    enough = _is_enough(batch.count, within)
    if enough is True or np.all(enough):
        return mean, var, 1
    return (
        np.where(enough, mean, 0.0),
        np.where(enough, var, 1.0),
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
    return n > 1 + WEIGHT_ROUNDING if within else n >= 1 - WEIGHT_ROUNDING


def _too_few(n: float, within: bool) -> str:
    if within:
        return (
            f"A mini-batch of n_samples={n:g} has no unbiased variance, which "
            "variance='within' averages: it needs more than 1 sample (weights "
            "count as repeated samples). Pass larger mini-batches, or use "
            "variance='total', which learns from single samples too."
        )
    return (
        f"sample_weight sums to {n:g}; a mini-batch needs at least 1 sample "
        "(weights count as repeated samples)."
    )
