"""Steps and outputs of small mini-batches, in one call of a compiled loop.

The general way asks what X is, whether anything has changed, and what is missing or too
large, and takes longer for that than its loops do. Where a mini-batch is like those
before, plain NumPy of the same width, and nothing else has changed, one call gives the
same bits. Whatever is not plain takes the general way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from operator import is_
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sk_batchnorm._compat import CALLBACKS, check_parameters, checked_parameters
from sk_batchnorm._inputs import Dense, Series, fading_of_few
from sk_batchnorm._kernels import dispatch
from sk_batchnorm._kernels.numpy import BLOCK_VALUES
from sk_batchnorm._rule import Rule, rule_of
from sk_batchnorm._running_stats import RunningStats
from sk_batchnorm._validation import FADED

if dispatch.ARE_THERE:
    from sk_batchnorm._kernels import compiled

Method = TypeVar("Method", bound=Callable[..., Any])

# Features from which a scale that was computed before is worth having.
_WIDE = 1000


def steps_first(partial_fit: Method) -> Method:
    """Try a small step, before the method."""
    if dispatch.KERNELS != "compiled":
        return partial_fit

    @wraps(partial_fit)
    def run(
        self: Any, X: Any, y: Any = None, sample_weight: Any = None, times: Any = None
    ) -> Any:
        if sample_weight is None and times is None and _take_step(self, X):
            return self
        return partial_fit(self, X, y, sample_weight, times)

    return cast(Method, run)


def outputs_first(transform: Method) -> Method:
    """Try a small output, before the method."""
    if dispatch.KERNELS != "compiled":
        return transform

    @wraps(transform)
    def run(self: Any, X: Any, copy: bool | None = None) -> Any:
        out = None if copy is not None else _output(self, X)
        return transform(self, X, copy) if out is None else out

    return cast(Method, run)


def remember(bn: Any, data: Any) -> None:
    """Remember that the general way was taken, with these parameters."""
    stats: RunningStats | None = vars(bn)["_running_stats"]
    is_numpy = type(data) in (Dense, Series)
    if dispatch.KERNELS != "compiled" or not is_numpy or stats is None:
        return
    known = stats._cache.get("checked")
    if known is None or not all(map(is_, known[1](bn), known[0])):
        # What does not matter to an output may be bad, or missing in an old pickle.
        with suppress(AttributeError, ValueError):
            check_parameters(bn)
            rule = rule_of(bn.momentum, bn.variance, bn.bias_correction, bn.halflife)
            if (checked := checked_parameters(bn)) is not None:
                stats._cache["checked"] = (*checked, rule)


def _checked(bn: Any, attributes: dict[str, Any], X: Any) -> Any:
    """What was found out by an X like this, and parameters like these; else None.

    The attributes are those of one moment, whatever another thread learns meanwhile.
    """
    stats: RunningStats | None = attributes.get("_running_stats")
    known = None if stats is None else stats._cache.get("checked")
    if (
        known is not None
        and type(X) is np.ndarray
        and X.ndim in (2, 3)
        and 0 < X.size <= BLOCK_VALUES
        and X.shape[1] == attributes["n_features_in_"]
        and "feature_names_in_" not in attributes
        and CALLBACKS not in attributes
        and dispatch.KERNELS == "compiled"
        and all(map(is_, known[1](bn), known[0]))
    ):
        return known
    return None


def _take_step(bn: Any, X: Any) -> bool:
    """Learn from X, if it takes no more than a small step."""
    attributes = bn.__dict__
    known = _checked(bn, attributes, X)
    if known is None:
        return False
    rule: Rule = known[2]
    stats: RunningStats = attributes["_running_stats"]
    if (
        type(stats.num_batches) is not int
        or not stats.num_batches
        or type(stats.weight) is not float
        or type(stats.start_weight) is not float
        or type(stats.clock) is not int
    ):
        return False
    n_rows = X.size // X.shape[1]
    f: Any  # floats, as the weights are
    old: Any
    if rule.halflife is None:
        if n_rows <= rule.least:
            return False
        share, clock = None, 0
        f, weight = rule.factor(stats.num_batches, stats.weight, 1, rule.batch_weight)
        rest = old = 1 - f
    else:
        if X.ndim > 2:  # values of a sample differ in age
            return False
        share, n_faint = fading_of_few(n_rows, rule)
        if n_faint or not stats.clock:
            return False
        f, clock = 0.0, stats.clock + n_rows
        old = stats.weight * rule.decay(n_rows)
    step = compiled.step(
        X, share, stats.mean, stats.var, f, old, rule.ddof, rule.adds_spread
    )
    if step is None:
        return False
    mean, var, count = step
    if share is not None:
        weight = old + count
        rest = old / weight
    stats = RunningStats(
        mean, var, stats.num_batches + 1, weight, stats.start_weight * rest, clock
    )
    stats._cache["checked"] = known
    bn._running_stats = stats
    return True


def _output(bn: Any, X: Any) -> NDArray[np.floating] | None:
    """X normalised, if that takes no more than a small output."""
    attributes = bn.__dict__
    if _checked(bn, attributes, X) is None:
        return None
    stats: RunningStats = attributes["_running_stats"]
    if (
        type(stats.start_weight) is not float
        or stats.start_weight > FADED
        or bn.copy is not True
        or bn.clip is not None
        or bn.handle_missing != "keep"
        or X.shape[1] > _WIDE
    ):
        return None
    affine = attributes["weight_"], attributes["bias_"]
    for values in affine:
        if values is not None and not (
            type(values) is np.ndarray
            and values.dtype == np.float64
            and values.shape == stats.mean.shape
        ):
            return None
    out: NDArray[np.floating] | None = compiled.eval_mode(
        X, stats.mean, stats.var, bn.eps, *affine, bn.with_mean
    )
    return out
