from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_batchnorm._kernels.numpy import Floats, StoredSums

MISSING: int
NOT_FINITE: int

def accepts(X: NDArray[Any]) -> bool: ...
def are_alike(X: NDArray[Any], out: NDArray[np.floating]) -> bool: ...
def moments(
    X: NDArray[Any], bounds: NDArray[np.int64], weight: Floats | None, out: Floats
) -> int: ...
def step(
    X: NDArray[np.floating],
    weight: Floats | None,
    mean: Floats,
    var: Floats,
    f: float,
    rest: float,
    ddof: float,
    adds_spread: bool,
) -> tuple[Floats, Floats, float] | None: ...
def eval_mode(
    X: NDArray[np.floating],
    mean: Floats,
    var: Floats,
    eps: float,
    weight: Floats | None,
    bias: Floats | None,
    with_mean: bool,
) -> NDArray[np.floating] | None: ...
def faded_moments(
    X: Floats, weight: Floats | None, decay: Floats, factor: Floats, out: Floats
) -> tuple[NDArray[np.int64], int]: ...
def centre_and_scale(
    X: NDArray[Any],
    centre: Floats | None,
    scale: Floats,
    offset: Floats | None,
    limit: Floats | None,
    fill: Floats | None,
    out: NDArray[np.floating],
) -> bool: ...
def any_infinite(X: NDArray[Any]) -> bool: ...
def stored_sums(X: Any, weight: Floats | None) -> StoredSums: ...
def stored_deviations(
    X: Any, weight: Floats | None, shift: Floats
) -> tuple[Floats, Floats]: ...
