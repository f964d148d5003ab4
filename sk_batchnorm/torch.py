"""PyTorch layers as transformers, and transformers as PyTorch layers.

Needs PyTorch: ``pip install "sk-batchnorm[torch]"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sk_batchnorm._compat import check_parameters
from sk_batchnorm._normalize import is_zero
from sk_batchnorm._running_stats import averaging_factor
from sk_batchnorm._transformer import BatchNorm1dTransformer
from sk_batchnorm._validation import names_in_words

try:
    import torch
except ImportError as error:
    raise ImportError(
        'sk_batchnorm.torch needs PyTorch: pip install "sk-batchnorm[torch]".'
    ) from error

__all__ = ["from_torch", "to_torch"]


def from_torch(module: torch.nn.Module) -> BatchNorm1dTransformer:
    """Make a transformer of a PyTorch layer, with everything that it has learned.

    Parameters
    ----------
    module : BatchNorm1d, SyncBatchNorm, or LazyBatchNorm1d that has seen data
        Of any floating-point dtype, on any device, in either mode.

    Returns
    -------
    BatchNorm1dTransformer
        Fitted. Its `transform` is the layer in eval mode; its `partial_fit` and its
        `forward` go on where the training of the layer stopped. If the layer has no
        bias (``bias=False``, since PyTorch 2.13), neither has the transformer.

    Raises
    ------
    TypeError
        If module is of another kind.
    ValueError
        If module is a LazyBatchNorm1d that has not seen data yet, or if its state
        contains NaN, infinity or a negative variance.

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
    if isinstance(module, torch.nn.LazyBatchNorm1d):
        raise ValueError(
            "This LazyBatchNorm1d does not know its number of features yet: pass it "
            "a mini-batch first."
        )
    if not isinstance(module, torch.nn.BatchNorm1d | torch.nn.SyncBatchNorm):
        raise TypeError(
            "from_torch takes a BatchNorm1d, SyncBatchNorm or LazyBatchNorm1d; got "
            f"{type(module).__name__}."
        )
    bn = BatchNorm1dTransformer(
        module.num_features,
        eps=module.eps,
        momentum=module.momentum,
        affine=module.weight is not None,
        bias=module.weight is None or module.bias is not None,
        # As PyTorch decides in eval mode.
        track_running_stats=module.running_mean is not None,
    )
    state = {
        # float64 holds each number of the other dtypes as it is.
        key: value.detach().to("cpu", torch.float64).numpy()
        for key, value in module.state_dict().items()
        if key != "num_batches_tracked"
    }
    if bn.track_running_stats:
        count = module.num_batches_tracked
        state["num_batches_tracked"] = np.array(0 if count is None else int(count))
    return bn.load_state_dict(state)


def to_torch(
    transformer: BatchNorm1dTransformer,
    *,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> torch.nn.BatchNorm1d:
    """Make a PyTorch layer of a transformer, with everything that it has learned.

    Parameters
    ----------
    transformer : BatchNorm1dTransformer
        Fitted.

    dtype : torch.dtype, default=None
        dtype of the layer, to which the float64 of the transformer is rounded. None
        is ``torch.get_default_dtype()``, float32 unless you changed it.

    device : torch.device, str or int, default=None
        Where the layer goes; None is PyTorch's default device.

    Returns
    -------
    torch.nn.BatchNorm1d
        In training mode, as PyTorch makes its layers: call ``.eval()`` on it for
        the outputs of `transform`.

    Raises
    ------
    NotFittedError
        If the transformer is not fitted.
    TypeError
        If transformer is of another kind.
    InvalidParameterError
        If a parameter of the transformer is out of range.
    ValueError
        If PyTorch lacks a setting of the transformer, so that the layer's outputs
        would not be the transformer's, now or after more training; or if a number of
        the state is too large for dtype.

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
    layer = torch.nn.BatchNorm1d(
        transformer.n_features_in_,
        eps=transformer.eps,
        momentum=transformer.momentum,
        affine="weight" in state,
        track_running_stats="running_mean" in state,
        dtype=dtype,
        device=device,
    )
    if "num_batches_tracked" in state:
        # One for all features; it only decides the factor of a cumulative average.
        state["num_batches_tracked"] = state["num_batches_tracked"].max()
    if "bias" not in state:
        layer.register_parameter("bias", None)  # the keyword came with PyTorch 2.13
    layer.load_state_dict({key: torch.as_tensor(state[key]) for key in state})
    for key, value in layer.state_dict().items():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{key} has a number too large for {value.dtype}. Pass a larger dtype."
            )
    if layer.running_var is not None and not (layer.running_var + layer.eps).all():
        raise ValueError(
            "PyTorch would divide a feature by 0: its variance plus eps="
            f"{layer.eps:g} is 0 in {layer.running_var.dtype}. Set eps to a larger "
            "number first."
        )
    return layer


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
    hint = "To go on by PyTorch's rule from here, call set_params({}) first."
    if bn.variance != "within" and bn.momentum != 0:
        raise ValueError(
            "PyTorch's rule is variance='within': training on from here, the running "
            "variance would be another. " + hint.format("variance='within'")
        )
    count = bn.num_batches_tracked_
    assert count is not None
    if bn.momentum is None:
        if np.ndim(count):
            raise ValueError(
                "With momentum=None the number of mini-batches decides how far the "
                "next one moves the statistics, and PyTorch has one number for all "
                "features. After missing values, this transformer has several."
            )
    elif bn.bias_correction:
        factor = averaging_factor(count, 1, bn.momentum, bias_correction=True)
        if np.any(factor != bn.momentum):
            raise ValueError(
                "PyTorch has no bias correction, which still acts after "
                f"{np.min(count)} mini-batches: training on from here, the running "
                "statistics would be others. " + hint.format("bias_correction=False")
            )
