"""The running statistics: an immutable value, and how two stretches of a stream join.

A mini-batch is a stretch of the stream like any other, of length 1. So there is one
operation, :meth:`RunningStats.then`; a step of ``partial_fit`` joins the stream so far
and one mini-batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_batchnorm._kernels.numpy import LARGEST, SMALLEST, Floats
from sk_batchnorm._moments import Moments
from sk_batchnorm._normalize import scale_of
from sk_batchnorm._rule import Clock, Count, Rule, Weight, ratio, span_of


class MeanOverflowError(ValueError):
    """Means beyond float64, of features whose names the caller knows."""

    @property
    def features(self) -> NDArray[np.intp]:
        """Numbers of the features."""
        features: NDArray[np.intp] = self.args[1]
        return features


@dataclass(frozen=True, eq=False, init=False)
class RunningStats:
    """Running mean and variance of a stretch of a stream.

    A value: a step returns a new one, and the arrays are read-only, so whoever holds
    one holds a state that the stream really was in. What is computed from sums that
    overflow is for the caller to ignore.

    Attributes
    ----------
    mean, var : ndarray of shape (n_features,)
        NaN for a feature that nothing is known of.
    num_batches : int, or ndarray of shape (n_features,)
        Mini-batches since the start; an array where missing values have made the
        features differ, as the weights are then.
    weight : float, or ndarray of shape (n_features,)
        Weight of all that was learned, see :class:`~sk_batchnorm._rule.Rule`.
    clock : int, ndarray of shape (n_features,), float or datetime64
        With a half-life, where the stretch ends: the number of rows in it, or the time
        of the last one. 0 else.
    start_weight : float, or ndarray of shape (n_features,)
        Share that PyTorch's start, mean 0 and variance 1, has in the averages.
    """

    mean: Floats
    var: Floats
    num_batches: Count
    weight: Weight
    start_weight: Weight
    clock: Clock
    # What was computed or found out before: scales, and see _small.py.
    _cache: dict[str, Any] = field(init=False, repr=False)

    def __init__(
        self,
        mean: Floats,
        var: Floats,
        num_batches: Count,
        weight: Weight,
        start_weight: Weight = 0.0,
        clock: Clock = 0,
    ) -> None:
        for value in (mean, var, num_batches, weight, start_weight, clock):
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        # In one go, as this is done in every step.
        vars(self).update(
            mean=mean,
            var=var,
            num_batches=num_batches,
            weight=weight,
            start_weight=start_weight,
            clock=clock,
            _cache={},
        )

    def __reduce__(self) -> tuple[type[RunningStats], tuple[Any, ...]]:
        # Through the constructor, so that arrays are read-only in copies too.
        return RunningStats, (
            self.mean,
            self.var,
            self.num_batches,
            self.weight,
            self.start_weight,
            self.clock,
        )

    @property
    def is_timed(self) -> bool:
        """Whether rows had times."""
        return isinstance(self.clock, np.floating | np.datetime64)

    @classmethod
    def start(cls, n_features: int) -> RunningStats:
        """PyTorch's starting point: mean 0, variance 1, no mini-batch."""
        return cls(np.zeros(n_features), np.ones(n_features), 0, 0.0, 1.0)

    @classmethod
    def of(cls, batches: Moments, rule: Rule, clock: Clock = 0) -> RunningStats:
        """Statistics of consecutive mini-batches alone, with bias correction.

        What a step for each would give, in closed form: the average of the mini-batches
        in which the newest weighs most. A feature with too few observed values is not
        in it: its number of mini-batches is 0, its mean and variance are NaN. With a
        half-life there is one mini-batch, whose rows have faded until its clock.

        Raises ValueError if a mini-batch has too few samples, missing values included.
        """
        if batches.count.size == 1 and type(batches.unit) is float:
            # As in most steps of partial_fit: one mini-batch, and nothing missing.
            n = batches.count.item()
            if n > rule.least:
                mean = batches.shift[0] + batches.residual[0]
                var = np.fmin(batches.squares[0] / (n - rule.ddof), LARGEST)
                weight = rule.batch_weight if rule.halflife is None else n
                return cls(mean, var, 1, weight, 0.0, clock)
        too_few = batches.n_samples <= rule.least
        if too_few.any():
            raise ValueError(_too_few(float(batches.n_samples[too_few][0]), rule))
        enough = batches.count > rule.least
        all_enough = enough.all()
        means = batches.shift + batches.residual
        # Values beyond 1e154 have a variance beyond float64. Infinity would stay in a
        # running average for ever; the largest double fades as any other value. fmin
        # takes it where the other is NaN, as infinity less itself is.
        divisor = batches.count - rule.ddof if rule.ddof else batches.count
        if type(batches.unit) is not float:
            divisor = divisor / batches.unit
        var = np.fmin(batches.squares / divisor, LARGEST)
        if rule.halflife is not None:
            known = enough[0]
            mean, var = (np.where(known, a[0], np.nan) for a in (means, var))
            total = np.where(known, batches.count[0], 0.0)
            number = np.broadcast_to(known, mean.shape).astype(np.int64)
            return cls(
                mean, var, _one_if_alike(number), _one_if_alike(total), 0.0, clock
            )
        if all_enough and len(means) == 1:
            return cls(means[0], var[0], 1, rule.batch_weight)

        num_batches = enough.sum(axis=0)
        newer = enough[::-1].cumsum(axis=0)[::-1] - enough
        share = enough * rule.shares(newer)
        share /= np.maximum(share.sum(axis=0), SMALLEST)

        newest = len(enough) - 1 - enough[::-1].argmax(axis=0)
        newest = np.broadcast_to(newest, means.shape[1:])
        # From the newest mean, so that a constant stays what it is.
        mean = means[newest, np.arange(len(newest))]
        deviations = means - mean
        if not all_enough:
            var, deviations = (np.where(enough, a, 0.0) for a in (var, deviations))
        residual = _average(share, deviations)
        mean, var = mean + residual, _average(share, var)
        if rule.adds_spread:
            deviations -= residual
            # Grouped so that what has no share is 0 however far away.
            var += ((share * deviations) * deviations).sum(axis=0)
        observed = num_batches > 0
        num_batches = _one_if_alike(num_batches)
        return cls(
            np.where(observed, mean, np.nan),
            np.where(observed, np.fmin(var, LARGEST), np.nan),
            num_batches,
            rule.weight(num_batches),
        )

    def then(self, later: RunningStats, rule: Rule) -> RunningStats:
        """Statistics of this stretch and a later one, one after the other.

        Equal to streaming the later mini-batches on top of this stretch. The later one
        is without the start in it.

        Raises MeanOverflowError if a mean is not a float64.
        """
        old_weight, new_weight = self.weight, later.weight
        clock: Clock = 0
        if rule.halflife is not None:
            old_age, new_age, clock = self._ages_at_end(later)
            old_weight = old_weight * rule.decay(old_age)
            if new_age:
                new_weight = new_weight * rule.decay(new_age)
        f, weight = rule.factor(
            self.num_batches, old_weight, later.num_batches, new_weight
        )
        rest: Weight = 1 - f
        if rule.halflife is not None:
            # Not 1 - f, which cancels where little is left of what is older.
            rest = ratio(old_weight, weight)
        num_batches = self.num_batches + later.num_batches
        if not (
            isinstance(num_batches, int) and self.num_batches and later.num_batches
        ):
            return self._then_with_gaps(
                later, rule, f, rest, num_batches, weight, clock
            )
        mean, var = rule.join(self.mean, self.var, later.mean, later.var, f, rest)
        if not isfinite(mean @ mean):
            _refuse_overflow(mean)
        start_weight = self.start_weight * rest
        return RunningStats(mean, var, num_batches, weight, start_weight, clock)

    def _ages_at_end(self, later: RunningStats) -> tuple[Any, Any, Clock]:
        """How old the two stretches are when both have ended, and the clock then."""
        if isinstance(self.clock, int) and isinstance(later.clock, int):
            return later.clock, 0, self.clock + later.clock
        if not (self.is_timed or later.is_timed):
            return later.clock, 0, _one_if_alike(self.clock + later.clock)
        if not (self.is_timed and later.is_timed):  # one of them has no rows
            return 0, 0, later.clock if later.is_timed else self.clock
        end = max(self.clock, later.clock)
        return span_of(end - self.clock), span_of(end - later.clock), end

    def _then_with_gaps(
        self,
        later: RunningStats,
        rule: Rule,
        f: Weight,
        rest: Weight,
        num_batches: Count,
        weight: Weight,
        clock: Clock,
    ) -> RunningStats:
        """What :meth:`then` returns, where nothing is known of some features yet."""
        keeps_start = rule.momentum is not None and not rule.bias_correction
        earlier = self if keeps_start else self._without_start()
        # Of a feature, what is known of one of the two alone is known of both.
        is_new = np.isnan(earlier.mean)
        observed = np.not_equal(later.num_batches, 0)
        if is_new.any():
            f = np.where(is_new, observed * 1.0, f)
            rest = np.where(is_new, 1 - f, rest)
        new_mean = np.where(observed, later.mean, earlier.mean)
        new_var = np.where(observed, later.var, earlier.var)
        old_mean = np.where(is_new, new_mean, earlier.mean)
        old_var = np.where(is_new, new_var, earlier.var)
        mean, var = rule.join(old_mean, old_var, new_mean, new_var, f, rest)
        unknown = is_new & ~observed
        _refuse_overflow(np.where(unknown, 0.0, mean))
        return RunningStats(
            mean,
            np.where(unknown, np.nan, var),
            _one_if_alike(num_batches),
            _one_if_alike(weight),
            _one_if_alike(earlier.start_weight * rest),
            clock,
        )

    def _without_start(self) -> RunningStats:
        """Without what is the start alone, of which nothing is known then."""
        is_start = np.equal(self.num_batches, 0) & (np.asarray(self.start_weight) > 0)
        return RunningStats(
            np.where(is_start, np.nan, self.mean),
            np.where(is_start, np.nan, self.var),
            self.num_batches,
            self.weight,
            np.where(is_start, 0.0, self.start_weight),
        )

    def scale(
        self,
        eps: float,
        weight: Floats | None,
        features: NDArray[np.integer] | None = None,
        *,
        inverse: bool = False,
    ) -> Floats:
        """``weight / sqrt(var + eps)`` of all features, computed once, or of some."""
        if features is not None:
            some = None if weight is None else weight[features]
            mean, var = self.mean[features], self.var[features]
            return scale_of(mean, var, eps, some, inverse=inverse)
        name = "inverse scale" if inverse else "scale"
        known = self._cache.get(name)
        if known is not None and known[0] == eps and _same(known[1], weight):
            scale: Floats = known[2]
            return scale
        scale = scale_of(self.mean, self.var, eps, weight, inverse=inverse)
        scale.flags.writeable = False
        # A copy, as the weight may be changed in place.
        weight = None if weight is None else weight.copy()
        self._cache[name] = eps, weight, scale
        return scale


def _average(share: Floats, values: Floats) -> Floats:
    """Weighted sum of each column, without an array of products."""
    average: Floats = np.einsum(
        "ij,ij->j", np.broadcast_to(share, values.shape), values
    )
    return average


def _one_if_alike(values: Any) -> Any:
    """One number where the features agree."""
    if isinstance(values, np.ndarray) and (values == values[0]).all():
        return values[0].item()
    return values


def _same(a: Floats | None, b: Floats | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool((a == b).all())


def _refuse_overflow(mean: Floats) -> None:
    overflows = np.flatnonzero(~np.isfinite(mean))
    if overflows.size:
        raise MeanOverflowError("a mean overflows float64", overflows)


def _too_few(n: float, rule: Rule) -> str:
    return (
        f"A mini-batch of n_samples={n:g} has no unbiased variance, which "
        f"variance={rule.variance!r} averages: it needs more than 1 sample (a weight "
        "counts as that many). Pass larger mini-batches, scale sample_weight up to the "
        "number of samples that it stands for, or use variance='total', which learns "
        "from any weight and from single samples too."
    )
