"""Join what several transformers have learned from stretches of one stream."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy, deepcopy
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sk_batchnorm._compat import check_parameters
from sk_batchnorm._kernels.numpy import ignore_float_errors
from sk_batchnorm._rule import rule_of
from sk_batchnorm._running_stats import MeanOverflowError, RunningStats
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import naming_features, state_of

T = TypeVar("T", bound=BatchNorm1dTransformer)

# Parameters that change no result.
_FREE = ("copy", "n_jobs")


@ignore_float_errors
def concatenate(transformers: Iterable[T]) -> T:
    """Join what transformers have learned from stretches of one stream.

    The result has learned what a single transformer would have from these stretches,
    one after the other: shards of a file, sites that share no rows, workers of any
    engine.

    Parameters
    ----------
    transformers : iterable of BatchNorm1dTransformer
        Fitted, in order of the stretches, with the same parameters and features. All
        but the first must be without PyTorch's start in them: learned by
        :meth:`~BatchNorm1dTransformer.fit`, or with `halflife`, with
        ``bias_correction=True`` or with ``momentum=None``.

    Returns
    -------
    BatchNorm1dTransformer
        A new one, of the class of the first and with its affine map. The transformers
        are left as they are.

    Raises
    ------
    NotFittedError
        If one of them is not fitted.
    TypeError
        If one of them is of another kind.
    ValueError
        If there are none, if their parameters, features or affine maps differ, if one
        but the first has PyTorch's start in it, if there are no running statistics
        (``track_running_stats=False``), or if a mean overflows.

    Notes
    -----
    Order does not matter with ``halflife=inf``, with ``momentum=None`` and equal
    mini-batches, and where rows had `times`, as all of them fade until the latest one.
    The result is that of a single transformer except for rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_batchnorm import BatchNorm1dTransformer, concatenate
    >>> X = np.random.default_rng(0).normal(5.0, 2.0, size=(1000, 3))
    >>> shards = [BatchNorm1dTransformer(halflife=200).fit(part)
    ...           for part in np.array_split(X, 4)]
    >>> whole = BatchNorm1dTransformer(halflife=200).fit(X)
    >>> np.allclose(concatenate(shards).running_var_, whole.running_var_, rtol=1e-12)
    True
    """
    if isinstance(transformers, BatchNorm1dTransformer):
        raise TypeError("concatenate takes a list of transformers; got a single one.")
    parts = list(transformers)
    if not parts:
        raise ValueError("There is nothing to concatenate: pass transformers.")
    for part in parts:
        if not isinstance(part, BatchNorm1dTransformer):
            raise TypeError(
                f"concatenate takes BatchNorm1dTransformers; got {type(part).__name__}."
            )
        check_is_fitted(part)
    first = parts[0]
    check_parameters(first)
    stats = [_checked_stats(first, part, number) for number, part in enumerate(parts)]
    # As fit, unless PyTorch's start is among what is joined.
    is_corrected = bool(first.bias_correction or not np.any(stats[0].start_weight))
    rule = rule_of(first.momentum, first.variance, is_corrected, first.halflife)
    joined = copy(first)
    for name in ("weight_grad_", "bias_grad_", "_warned"):
        joined.__dict__.pop(name, None)
    joined.weight_, joined.bias_ = deepcopy((first.weight_, first.bias_))
    try:
        joined._running_stats = reduce(lambda a, b: a.then(b, rule), stats)
    except MeanOverflowError as error:
        names = first.get_feature_names_out()
        raise naming_features(error, None, None, names) from None
    return joined


def _checked_stats(first: Any, part: Any, number: int) -> RunningStats:
    """Running statistics of a stretch, if it can come after the first one."""
    others = part.get_params()
    for name, value in first.get_params().items():
        if name not in _FREE and not _equal(value, others[name]):
            raise ValueError(
                f"The transformers have different parameters: {name}={value!r} and "
                f"{name}={others[name]!r} (number {number})."
            )
    names, other_names = first.get_feature_names_out(), part.get_feature_names_out()
    if not np.array_equal(names, other_names):
        raise ValueError(
            f"The transformers have different features: {list(names)} and "
            f"{list(other_names)} (number {number})."
        )
    stats, *affine = state_of(part)
    if stats is None:
        raise ValueError(
            "track_running_stats=False keeps no running statistics to concatenate."
        )
    if not all(map(_equal, affine, state_of(first)[1:])):
        raise ValueError(
            f"The transformers have different affine maps: weight_ or bias_ of number "
            f"{number} is another one."
        )
    has_start = np.greater(stats.start_weight, 0) & np.greater(stats.num_batches, 0)
    if number and has_start.any():
        raise ValueError(
            f"Transformer number {number} has PyTorch's start in its running "
            "statistics, which only the first may have. Learn it by fit, or with "
            "halflife, bias_correction=True or momentum=None."
        )
    return stats


def _equal(a: Any, b: Any) -> bool:
    return (a is None) == (b is None) and np.array_equal(a, b)
