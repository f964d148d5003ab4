"""PyTorch layers as transformers, and transformers as PyTorch layers.

Needs PyTorch: ``pip install "sk-batchnorm[torch]"``.
"""

from __future__ import annotations

from copy import copy
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np

from sk_batchnorm._compat import check_parameters
from sk_batchnorm._kernels.numpy import ignore_float_errors
from sk_batchnorm._normalize import is_zero
from sk_batchnorm._rule import rule_of
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import names_in_words, state_of

try:
    import torch
    from torch.nn.utils.prune import BasePruningMethod
    from torch.nn.utils.weight_norm import WeightNorm
except ImportError as error:
    raise ImportError(
        'sk_batchnorm.torch needs PyTorch: pip install "sk-batchnorm[torch]".'
    ) from error

__all__ = ["from_torch", "to_torch"]

Layer: TypeAlias = torch.nn.BatchNorm1d | torch.nn.SyncBatchNorm
LayerT = TypeVar("LayerT", torch.nn.BatchNorm1d, torch.nn.SyncBatchNorm)


def from_torch(module: torch.nn.Module) -> BatchNorm1dTransformer:
    """Make a transformer of a PyTorch layer, with everything that it has learned.

    Parameters
    ----------
    module : BatchNorm1d, SyncBatchNorm, or LazyBatchNorm1d that has seen data
        Of any floating-point dtype, on any device, in either mode. Its weight may be
        parametrized, weight-normed or pruned.

    Returns
    -------
    BatchNorm1dTransformer
        Fitted. Its `transform` is the layer in eval mode; its `partial_fit` and its
        `forward` go on where the training of the layer stopped. `fit` forgets the
        running statistics, as everywhere in scikit-learn, but not the affine map:
        `weight_init` and `bias_init` are the layer's weight and bias. If the layer
        has no bias (``bias=False``, since PyTorch 2.13), neither has the transformer.

    Raises
    ------
    TypeError
        If module is of another kind, or if more happens in it than in these layers:
        a subclass with a `forward` of its own, a forward hook. If it is compiled or
        scripted, the message names the way.
    ValueError
        If module is a LazyBatchNorm1d that has not seen data yet, if it is on the
        meta device, or if its state contains NaN, infinity or a negative variance.

    See Also
    --------
    to_torch : The way back.

    Examples
    --------
    >>> import torch
    >>> from sk_batchnorm.torch import from_torch
    >>> layer = torch.nn.BatchNorm1d(2, momentum=0.5)
    >>> Y = layer(torch.tensor([[0.0, 10.0], [4.0, 30.0]]))  # one training step
    >>> bn = from_torch(layer)
    >>> bn.running_mean_, bn.momentum
    (array([ 1., 10.]), 0.5)
    """
    layer = _plain_layer(module, "from_torch")
    values = {
        # float64 holds each number of the other dtypes as it is.
        key: value.detach().to("cpu", torch.float64, copy=True).numpy()
        for key, value in _arrays(layer).items()
        if value is not None
    }
    bn = BatchNorm1dTransformer(
        _n_features(layer),
        eps=layer.eps,
        momentum=layer.momentum,
        affine=layer.weight is not None,
        bias=layer.weight is None or layer.bias is not None,
        # As PyTorch decides in eval mode.
        track_running_stats=layer.running_mean is not None,
        weight_init=values.get("weight"),
        bias_init=values.get("bias"),
    )
    if bn.track_running_stats:
        count = layer.num_batches_tracked
        values["num_batches_tracked"] = np.array(0 if count is None else int(count))
    return bn.load_state_dict(values)


@overload
def to_torch(
    transformer: BatchNorm1dTransformer,
    *,
    into: None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> torch.nn.BatchNorm1d: ...
@overload
def to_torch(transformer: BatchNorm1dTransformer, *, into: LayerT) -> LayerT: ...
@ignore_float_errors
def to_torch(
    transformer: BatchNorm1dTransformer,
    *,
    into: Layer | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> Layer:
    """Make a PyTorch layer of a transformer, with everything that it has learned.

    Parameters
    ----------
    transformer : BatchNorm1dTransformer
        Fitted.

    into : BatchNorm1d or SyncBatchNorm, default=None
        The layer to write to, such as the one that :func:`from_torch` read. Its
        numbers, `eps` and `momentum` become the transformer's; its class, dtype,
        device, mode, and the tensors themselves, with their `requires_grad` and the
        optimizer that holds them, stay. None makes a new layer.

    dtype : torch.dtype, default=None
        dtype of a new layer, to which the float64 of the transformer is rounded. None
        is ``torch.get_default_dtype()``, float32 unless you changed it.

    device : torch.device, str or int, default=None
        Where a new layer goes; None is PyTorch's default device.

    Returns
    -------
    BatchNorm1d, or SyncBatchNorm if `into` is one
        `into`, or a new layer in training mode, as PyTorch makes its layers: call
        ``.eval()`` on it for the outputs of `transform`.

    Raises
    ------
    NotFittedError
        If the transformer is not fitted.
    TypeError
        If transformer, or `into`, is of another kind. What :func:`from_torch` refuses
        is refused as `into`, and so is a weight that PyTorch computes from others.
    InvalidParameterError
        If a parameter of the transformer is out of range.
    ValueError
        If `into` has another number of features, or another set of weight, bias and
        running statistics; if dtype or device is passed beside it; if PyTorch lacks a
        setting of the transformer, so that the layer's outputs would not be the
        transformer's, now or after more training; or if a number of the state is too
        large for dtype. `into` is then as it was.

    See Also
    --------
    from_torch : The way back.

    Examples
    --------
    >>> import torch
    >>> from sk_batchnorm import BatchNorm1dTransformer
    >>> from sk_batchnorm.torch import to_torch
    >>> bn = BatchNorm1dTransformer(eps=0).fit([[1.0], [3.0], [5.0]])
    >>> layer = to_torch(bn, dtype=torch.float64).eval()
    >>> layer(torch.tensor([[7.0]], dtype=torch.float64)).tolist()
    [[2.0]]
    >>> bn.transform([[7.0]]).tolist()
    [[2.0]]
    >>> to_torch(bn.partial_fit([[1.0], [3.0]]), into=layer) is layer, layer.training
    (True, False)
    """
    if not isinstance(transformer, BatchNorm1dTransformer):
        raise TypeError(
            "to_torch takes a BatchNorm1dTransformer; got "
            f"{type(transformer).__name__}."
        )
    check_parameters(transformer)
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"A layer needs a floating-point dtype; got {dtype}.")
    state = transformer.state_dict()
    _refuse_what_pytorch_lacks(transformer, state)
    if "num_batches_tracked" in state:
        # One for all features; it only decides the factor of a cumulative average.
        state["num_batches_tracked"] = state["num_batches_tracked"].max()
    if into is None:
        layer: Layer = torch.nn.BatchNorm1d(
            transformer.n_features_in_,
            affine="weight" in state,
            track_running_stats="running_mean" in state,
            dtype=dtype,
            device=device,
        )
        if "bias" not in state:
            layer.register_parameter("bias", None)  # a keyword since PyTorch 2.13
    else:
        if dtype is not None or device is not None:
            raise ValueError("A layer to write into has its own dtype and device.")
        layer = _plain_layer(into, "to_torch(into=...)")
        _check_that_it_fits(layer, state, transformer.n_features_in_)
    tensors = {
        key: torch.as_tensor(state[key]).to(value)
        for key, value in layer.state_dict().items()
    }
    _check_rounded(tensors, transformer.eps)
    if "num_batches_tracked" in state and layer.num_batches_tracked is None:
        # Without one, PyTorch would not go on with momentum=None.
        layer.num_batches_tracked = torch.as_tensor(
            state["num_batches_tracked"], device=tensors["running_mean"].device
        )
    with torch.no_grad():
        for key, value in layer.state_dict().items():
            value.copy_(torch.as_tensor(state[key]))
    layer.eps, layer.momentum = transformer.eps, transformer.momentum
    return layer


def _plain_layer(module: Any, caller: str) -> Layer:
    """The layer, if nothing happens in it but batch normalisation."""
    name = type(module).__name__
    if hasattr(module, "_orig_mod"):
        raise TypeError(f"{caller} takes no compiled layer: pass its `_orig_mod`.")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"{caller} takes no scripted layer, which does not tell its parameters. "
            "Construct what it was scripted from, and load its state: "
            "BatchNorm1dTransformer(...).load_state_dict(layer.state_dict()) or "
            "BatchNorm1d(...).load_state_dict(layer.state_dict())."
        )
    if isinstance(module, torch.nn.LazyBatchNorm1d):
        raise ValueError(
            "This LazyBatchNorm1d does not know its number of features yet: pass it "
            "a mini-batch first, in eval mode if it shall learn nothing from it."
        )
    if not isinstance(module, Layer):
        raise TypeError(
            f"{caller} takes a BatchNorm1d, SyncBatchNorm or LazyBatchNorm1d; got "
            f"{name}."
        )
    plain = (torch.nn.BatchNorm1d.forward, torch.nn.SyncBatchNorm.forward)
    if (
        type(module).forward not in plain
        or "forward" in vars(module)
        or type(module).__call__ is not torch.nn.Module.__call__
    ):
        raise TypeError(
            f"This {name} has a forward of its own, which a transformer can't repeat: "
            f"{caller} takes plain layers."
        )
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    for hook in hooks:
        if not isinstance(hook, WeightNorm | BasePruningMethod):
            raise TypeError(
                f"This {name} has a forward hook, {hook!r}, which a transformer can't "
                "repeat. If it does not change the output, remove it before."
            )
    if any(value is not None and value.is_meta for value in _arrays(module).values()):
        raise ValueError(
            "This layer is on the meta device, where there are no numbers. Load its "
            "checkpoint first, as in BatchNorm1dTransformer(...).load_state_dict(...)."
        )
    if not _n_features(module):
        raise ValueError(
            "PyTorch leaves num_features of a LazyBatchNorm1d without weight and "
            "running statistics at 0, even after data. Set it first, as in "
            "`layer.num_features = 3`."
        )
    return module


def _n_features(layer: Layer) -> int:
    """Number of features, which PyTorch leaves at 0 in some layers that were lazy."""
    widths = [len(value) for value in _arrays(layer).values() if value is not None]
    return widths[0] if widths else layer.num_features


def _arrays(layer: Layer) -> dict[str, torch.Tensor | None]:
    """What the layer computes with, which a state dict need not hold.

    A parametrized, weight-normed or pruned weight is computed from other parameters.
    """
    hooks = [
        hook
        for hook in layer._forward_pre_hooks.values()
        if isinstance(hook, WeightNorm | BasePruningMethod)
    ]
    if hooks:  # else the weight is that of the last forward pass
        layer = copy(layer)  # which they set the weight of
    for hook in hooks:
        hook(layer, None)
    names = ("weight", "bias", "running_mean", "running_var")
    return {name: getattr(layer, name) for name in names}


def _check_that_it_fits(layer: Layer, state: dict[str, Any], n_features: int) -> None:
    if _n_features(layer) != n_features:
        raise ValueError(
            f"The layer has {_n_features(layer)} features, the transformer "
            f"{n_features}."
        )
    computed = [
        name
        for name, value in _arrays(layer).items()
        if value is not None and name not in layer.state_dict()
    ]
    if computed:
        raise TypeError(
            f"The layer computes its {' and '.join(computed)} from other parameters. "
            "Remove the parametrization, weight norm or pruning first."
        )
    # The count may be None, as in checkpoints from before PyTorch 0.4.1.
    theirs = layer.state_dict().keys() | {"num_batches_tracked"}
    ours = state.keys() | {"num_batches_tracked"}
    if theirs != ours:
        raise ValueError(
            f"The layer has {sorted(theirs)}, the transformer {sorted(ours)}."
        )


def _check_rounded(tensors: dict[str, torch.Tensor], eps: float) -> None:
    """Refuse what is not finite, or is divided by 0, in the layer's dtype."""
    for key, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{key} has a number too large for {value.dtype}. Pass a larger dtype."
            )
    var = tensors.get("running_var")
    if var is not None and not (var + eps).all():
        raise ValueError(
            "PyTorch would divide a feature by 0: its variance plus eps="
            f"{eps:g} is 0 in {var.dtype}. Set eps to a larger number first."
        )


def _refuse_what_pytorch_lacks(
    bn: BatchNorm1dTransformer, state: dict[str, Any]
) -> None:
    mean = state.get("running_mean")
    if mean is not None and np.isnan(mean).any():
        names = bn.get_feature_names_out()[np.isnan(mean)]
        raise ValueError(
            f"PyTorch has a mean and a variance of every feature, but "
            f"{names_in_words(names)} was never observed."
        )
    if bn.clip is not None:
        raise ValueError(
            f"PyTorch's layer does not clip, and this transformer has clip={bn.clip}: "
            "the layer's output would be another. Call set_params(clip=None) first."
        )
    if bn.handle_missing == "mean":
        raise ValueError(
            "PyTorch's layer leaves NaN as it is, and this transformer has "
            "handle_missing='mean': the layer's output would be another. Call "
            "set_params(handle_missing='keep') first."
        )
    if not bn.with_mean and (mean is None or mean.any()):
        raise ValueError(
            "PyTorch always centres, and this transformer has with_mean=False and a "
            "mean other than 0: the layer's output would be another."
        )
    if mean is None:
        return
    zero = is_zero(mean, state["running_var"])
    if bn.eps == 0 and zero.any():
        names = bn.get_feature_names_out()[zero]
        raise ValueError(
            "PyTorch would divide a feature by 0, or by what rounding has left of it: "
            f"with eps=0, {names_in_words(names)}. Set eps to a larger number first."
        )
    rule = rule_of(bn.momentum, bn.variance, bn.bias_correction, bn.halflife)
    hint = "To go on by PyTorch's rule from here, call set_params({}) first."
    if bn.halflife is not None:
        raise ValueError(
            "PyTorch has no half-life: training on from here, the running statistics "
            "would be others. " + hint.format("halflife=None, variance='within'")
        )
    if rule.variance != "within" and bn.momentum != 0:
        raise ValueError(
            "PyTorch's rule is variance='within': training on from here, the running "
            "variance would be another. " + hint.format("variance='within'")
        )
    count = bn.num_batches_tracked_
    if bn.momentum is None:
        if np.ndim(count):
            raise ValueError(
                "With momentum=None the number of mini-batches decides how far the "
                "next one moves the statistics, and PyTorch has one number for all "
                "features. After missing values, this transformer has several."
            )
    elif bn.bias_correction:
        stats = state_of(bn).stats
        assert stats is not None
        factor, _ = rule.factor(count, stats.weight, 1, rule.batch_weight)
        if np.any(factor != bn.momentum):
            raise ValueError(
                "PyTorch has no bias correction, which still acts after "
                f"{np.min(count)} mini-batches: training on from here, the running "
                "statistics would be others. " + hint.format("bias_correction=False")
            )
