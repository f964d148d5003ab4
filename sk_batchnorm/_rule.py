"""The rule: what counts how much, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from math import expm1, log1p
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_batchnorm._kernels.numpy import LARGEST, Floats

# A number of mini-batches, or one for each feature.
Count = int | NDArray[np.int64]

# A number of rows, or a time.
Clock = Any

# A number, or one for each feature.
Weight = float | Floats

# Weights such as ten times 0.1 sum to their total only within rounding.
WEIGHT_ROUNDING = 1e-9

# What is left after a thousand half-lives.
_LEAST_SHARE = 2.0**-1000

# Relative rounding of a weight over steps of a momentum of 1e-4 or more.
_WEIGHT_CARRIED = 1e-12


class Variance(NamedTuple):
    """What the running variance averages.

    Attributes
    ----------
    ddof : int
        The mini-batches' own variances are squares / (n - ddof).
    adds_spread : bool
        Whether the variance of the mini-batches' means is added, by the law of total
        variance.
    """

    ddof: int
    adds_spread: bool


VARIANCES = {
    "within": Variance(ddof=1, adds_spread=False),
    "total": Variance(ddof=0, adds_spread=True),
}


@dataclass(frozen=True)
class Rule:
    """What a mini-batch weighs, how older weight decays, how two variances join.

    A mini-batch weighs the momentum, and takes that share from all that is older: n of
    them weigh 1 − (1 − momentum)**n, or 1 − Π(1 − momentum_i) where the momentum has
    changed. What is lacking to 1 is the weight of PyTorch's start, mean 0 and variance
    1, which counts only without `bias_correction`. For momentum None, mini-batch t
    weighs 1 / t: the average of all.

    With a `halflife`, rows weigh as much as their `sample_weight` says, and half of it
    a half-life later. The weight of a stretch is the sum of these, at its end.
    """

    momentum: float | None
    variance: str = "within"
    bias_correction: bool = False
    # In rows, or in the unit of times, which are nanoseconds for dates.
    halflife: float | None = None
    # Weight of one mini-batch.
    batch_weight: float = field(init=False)
    ddof: int = field(init=False)
    adds_spread: bool = field(init=False)
    # What the number of values in a mini-batch, or the sum of their weights, exceeds.
    least: float = field(init=False)

    def __post_init__(self) -> None:
        ddof, adds_spread = VARIANCES[self.variance]
        least = ddof and ddof + WEIGHT_ROUNDING
        vars(self).update(
            batch_weight=self.weight(1), ddof=ddof, adds_spread=adds_spread, least=least
        )

    def weight(self, n_batches: Any) -> Any:
        """Weight of so many mini-batches, to the last bit the momentum for one."""
        momentum = self.momentum
        if isinstance(n_batches, np.ndarray):
            counts, which = np.unique(n_batches, return_inverse=True)
            return np.array([self.weight(int(n)) for n in counts])[which]
        if momentum is None or momentum == 1:
            return 1.0 if n_batches else 0.0
        if n_batches <= 1:
            return n_batches * float(momentum)
        return -expm1(n_batches * log1p(-momentum))

    def has_usual(self, n_batches: Count, weight: Weight) -> Any:
        """Whether so many mini-batches weigh what they do by this momentum alone.

        But for the rounding of a weight that was carried from step to step.
        """
        usual = self.weight(n_batches)
        return abs(weight - usual) <= _WEIGHT_CARRIED * usual

    def decay(self, age: Any) -> Any:
        """Share of its weight that is left at such an age.

        More than nothing, so that the only value of a feature is one at any age.
        """
        halflife: Any = self.halflife
        if isinstance(age, float | int):
            return max(2.0 ** (-age / halflife), _LEAST_SHARE)
        return np.maximum(np.exp2(-np.asarray(age) / halflife), _LEAST_SHARE)

    def shares(self, newer: NDArray[np.int64]) -> Floats:
        """Relative weight of a mini-batch after which so many newer ones have come."""
        if self.momentum is None:
            return np.ones(newer.shape)
        shares: Floats
        if self.momentum == 1:
            shares = (newer == 0).astype(np.float64)
        else:
            shares = np.exp(newer * log1p(-self.momentum))
        return shares

    def factor(
        self, old: Count, old_weight: Weight, new: Count, new_weight: Weight
    ) -> tuple[Weight, Weight]:
        """Share of the later of two stretches in their average, and the weight of both.

        Of so many mini-batches, and of such weights. For a later stretch of one
        mini-batch, the t-th: ``momentum``, or with bias correction ``momentum / (1 - (1
        - momentum)**t)``, the normalised exponentially weighted average of Adam (Kingma
        and Ba, 2015, section 3) and of pandas' ``ewm(adjust=True)``, or ``1 / t`` for
        momentum None.
        """
        if self.halflife is not None:
            both = old_weight + new_weight
            return ratio(new_weight, both), both
        if self.momentum is None:
            factor = ratio(new, old + new)
            return factor, old_weight + (1 - old_weight) * factor
        both = old_weight * (1 - new_weight) + new_weight
        if not self.bias_correction:
            return new_weight, both  # of 1, with the start's
        if isinstance(both, np.ndarray) or both > 1:
            # Of rows that faded by a half-life, which are learned in full.
            old_weight = np.minimum(old_weight, 1.0)
            both = old_weight * (1 - new_weight) + new_weight
        # In closed form where the momentum has not changed, lest rounding adds up.
        is_usual = self.has_usual(old, old_weight) & self.has_usual(new, new_weight)
        if isinstance(is_usual, np.ndarray):
            both = np.where(is_usual, self.weight(old + new), both)
        elif is_usual:
            both = self.weight(old + new)
        if isinstance(both, float) and both:
            return new_weight / both, both
        # All momenta were 0, of which the limit is the average of all.
        limit = ratio(new, old + new)
        if isinstance(both, float):
            return limit, both
        return np.where(both == 0, limit, ratio(new_weight, both)), both

    def join(
        self,
        mean: Floats,
        var: Floats,
        new_mean: Floats,
        new_var: Floats,
        f: Weight,
        rest: Weight,
    ) -> tuple[Floats, Floats]:
        """Mean and variance of two stretches of the shares `rest` and f, in order.

        With the spread of the means it is the exponentially weighted variance of the
        rows (Finch, 2009, "Incremental calculation of weighted mean and variance",
        section 9), a mini-batch at a time.
        """
        if self.adds_spread:
            d = new_mean - mean
            # Grouped so that f = 1 makes the middle term 0 however large d is.
            total = rest * var + (f * rest * d) * d + f * new_var
        # From the one with the larger share: exact where f is 0 or 1.
        if isinstance(f, np.ndarray):
            swap = f > 0.5
            f = np.where(swap, rest, f)
            mean, new_mean = (
                np.where(swap, new_mean, mean),
                np.where(swap, mean, new_mean),
            )
            var, new_var = np.where(swap, new_var, var), np.where(swap, var, new_var)
        elif f > 0.5:
            f, mean, new_mean, var, new_var = rest, new_mean, mean, new_var, var
        mean = mean + f * (new_mean - mean)
        if self.adds_spread:
            return mean, np.fmin(total, LARGEST)
        return mean, var + f * (new_var - var)


def ratio(part: Any, whole: Any) -> Any:
    """``part / whole``, and 0 of nothing."""
    if isinstance(whole, np.ndarray):
        return part / np.where(whole == 0, 1, whole)
    return part / whole if whole else 0.0


def rule_of(
    momentum: float | None,
    variance: str = "auto",
    bias_correction: bool = False,
    halflife: Any = None,
) -> Rule:
    """Rule of the parameters of a transformer, made once of the same ones."""
    # Without a unit, NumPy can't hash it, or, in older versions, takes it for
    # microseconds.
    if type(halflife) is np.timedelta64 and _lacks_unit(halflife):
        raise ValueError(
            "halflife must have a unit, as np.timedelta64(5, 's') has; got "
            f"{halflife!r}."
        )
    return _rule_of(momentum, variance, bias_correction, halflife)


@lru_cache(typed=True)
def _rule_of(
    momentum: float | None, variance: str, bias_correction: bool, halflife: Any
) -> Rule:
    if halflife is None:
        variance = "within" if variance == "auto" else variance
        return Rule(momentum, variance, bias_correction)
    if variance == "within":
        raise ValueError(
            "variance='within' averages the variances of mini-batches, and with "
            "halflife there are rows alone: pass variance='total', or 'auto'."
        )
    try:
        span = float(
            1e3 * _microseconds(halflife) if is_duration(halflife) else halflife
        )
    except (OverflowError, TypeError):  # months and years, whose lengths differ
        span = np.nan
    if not span > 0:
        raise ValueError(
            f"halflife must be a span above 0 that float64 holds; got {halflife!r:.40}."
        )
    return Rule(None, "total", True, span)


def _microseconds(duration: Any) -> float:
    """A span of time in a unit in which no span of NumPy or of Python overflows."""
    if hasattr(duration, "to_timedelta64"):  # of pandas, with nanoseconds
        duration = duration.to_timedelta64()
    return float(np.timedelta64(duration) / np.timedelta64(1, "us"))


def _lacks_unit(span: np.timedelta64) -> bool:
    return np.datetime_data(span.dtype)[0] == "generic" and not np.isnat(span)


def is_duration(halflife: Any) -> bool:
    """Whether a half-life is a span of dates, not a number."""
    return isinstance(halflife, timedelta | np.timedelta64)


def span_of(span: Any) -> Any:
    """Spans of time as numbers: nanoseconds, if they are between dates."""
    if np.asarray(span).dtype.kind == "m":
        return span / np.timedelta64(1, "ns")
    return span
