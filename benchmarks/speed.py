"""The pieces of work, ours and the peers', that the benchmark times."""

from __future__ import annotations

import subprocess
import sys
import timeit
from collections.abc import Callable
from contextlib import suppress
from statistics import median, quantiles
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn import config_context
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from sk_batchnorm import BatchNorm1dTransformer


class Row(NamedTuple):
    """One comparison: seconds of ours and of a peer, and their ratio."""

    work: str
    peer: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    goal: float | None


Call = Callable[[], object]

# Name of the work -> what makes ours, and the peers with their goals.
CASES: dict[str, Callable[[], tuple[Call, dict[str, tuple[Call, float | None]]]]] = {}


def case(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function that sets the work up."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        CASES[name] = function
        return function

    return enter


def measure(name: str, quick: bool) -> list[Row]:
    """Time one case: the contestants take turns, each first in every round."""
    ours, peers = CASES[name]()
    calls = [ours, *(call for call, _ in peers.values())]
    numbers = []
    for call in calls:
        call()  # what Python and BLAS keep is kept
        once = max(min(timeit.repeat(call, number=1, repeat=2)), 1e-7)
        # Some in a row, as threads that the one before has left spinning go on a while.
        numbers.append(max(1, int((0.005 if quick else 0.05) / once)))
    slowest = sum(
        timeit.timeit(c, number=n) for c, n in zip(calls, numbers, strict=True)
    )
    rounds = int(min(41, max(3 if quick else 5, (0.3 if quick else 8.0) / slowest)))
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        for i in np.roll(np.arange(len(calls)), turn):
            times[i].append(timeit.timeit(calls[i], number=numbers[i]) / numbers[i])
    rows = []
    for peer, own, (_, goal) in zip(peers, times[1:], peers.values(), strict=True):
        ratios = [a / b for a, b in zip(times[0], own, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        a, b = median(times[0]), median(own)
        rows.append(Row(name, peer, a, b, a / b, low, high, goal))
    return rows


def torch_on(n_threads: int) -> Any:
    """PyTorch without gradients, on so many threads; None if absent."""
    with suppress(ImportError):
        import torch

        torch.set_num_threads(n_threads)
        torch.set_grad_enabled(False)
        return torch
    return None


def numbers(shape: tuple[int, ...], dtype: str = "f8", order: str = "C") -> Any:
    """Normal numbers, the same each time."""
    X = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return np.asarray(X + np.float32(3.0), dtype=dtype, order=order)


def learn(
    X: Any,
    scaler_goal: float,
    torch_goal: float | None = None,
    n_jobs: int | None = -1,
    weight: Any = None,
) -> tuple[Call, dict[str, tuple[Call, float | None]]]:
    """partial_fit on X beside StandardScaler's and PyTorch's."""
    bn = BatchNorm1dTransformer(n_jobs=n_jobs)
    scaler = StandardScaler()
    peers: dict[str, tuple[Call, float | None]] = {
        "StandardScaler": (
            lambda: scaler.partial_fit(X, sample_weight=weight),
            scaler_goal,
        )
    }
    n_threads = 2 if n_jobs == -1 else 1
    torch = torch_on(n_threads) if torch_goal else None
    if torch:
        tensor = torch.from_numpy(X)
        mean, var = torch.zeros(2, X.shape[1], dtype=tensor.dtype)
        peers[f"PyTorch, {n_threads} thread{'s' * (n_threads > 1)}"] = (
            lambda: torch.batch_norm_update_stats(tensor, mean, var, 0.1),
            torch_goal,
        )
    return lambda: bn.partial_fit(X, sample_weight=weight), peers


@case("partial_fit, 200 000 × 64, n_jobs=-1")
def _learn_all() -> Any:
    X = numbers((200_000, 64))
    ours, peers = learn(X, 1 / 16, 0.75)
    return ours, {**peers, "X.sum()": (X.sum, 1.25)}


@case("partial_fit, 200 000 × 64")
def _learn_one() -> Any:
    return learn(numbers((200_000, 64)), 1 / 12, 0.85, n_jobs=None)


@case("partial_fit, 200 000 × 64, plain")
def _learn_plain() -> Any:
    return learn(numbers((200_000, 64)), 1 / 4, n_jobs=None)


for _name, _shape, _dtype, _goals in [
    ("200 000 × 64 float32", (200_000, 64), "f4", (1 / 16, 1.3)),
    ("1 000 000 × 10", (1_000_000, 10), "f8", (1 / 15, 0.9)),
    ("20 000 × 1 000 float32", (20_000, 1000), "f4", (1 / 15, 0.9)),
]:
    CASES[f"partial_fit, {_name}, n_jobs=-1"] = (
        lambda shape=_shape, dtype=_dtype, goals=_goals: learn(
            numbers(shape, dtype), *goals
        )
    )


@case("partial_fit, 5 000 000 × 2, n_jobs=-1")
def _few_columns() -> Any:
    return learn(numbers((5_000_000, 2)), 1 / 10)


@case("partial_fit, 200 000 × 64 Fortran order, n_jobs=-1")
def _fortran() -> Any:
    return learn(numbers((200_000, 64), order="F"), 1 / 8)


@case("partial_fit, 200 000 × 64 with 5 % missing, n_jobs=-1")
def _missing() -> Any:
    X = numbers((200_000, 64))
    X[np.random.default_rng(1).random(X.shape) < 0.05] = np.nan
    return learn(X, 1 / 8)


def in_two_dimensions(shape: tuple[int, int, int], method: str, goal: float) -> Any:
    """A method for (samples, channels, times) beside the same values in two."""
    X = numbers(shape)
    rows = np.ascontiguousarray(X.transpose(0, 2, 1).reshape(-1, shape[1]))
    ours, flat = (
        BatchNorm1dTransformer(momentum=1.0).partial_fit(x) for x in (X, rows)
    )
    return lambda: getattr(ours, method)(X), {
        "ours, two dimensions": (lambda: getattr(flat, method)(rows), goal)
    }


for _channels in [(1, 62, 25), (32, 62, 250)]:
    for _method in ("partial_fit", "transform"):
        CASES[f"{_method}, {' × '.join(map(str, _channels))}"] = (
            lambda shape=_channels, method=_method: in_two_dimensions(
                shape, method, 1.3
            )
        )


@case("partial_fit, 200 000 × 64 with sample_weight, n_jobs=-1")
def _weighted() -> Any:
    weight = np.random.default_rng(1).uniform(0.5, 2.0, 200_000)
    return learn(numbers((200_000, 64)), 1 / 8, weight=weight)


def pandas_ewm(X: Any, halflife: float) -> Call | None:
    """Exponentially weighted mean and variance at the last row; None if absent."""
    with suppress(ImportError):
        import pandas as pd

        frame = pd.DataFrame(X)

        def both() -> Any:
            window = frame.ewm(halflife=halflife)
            return window.mean().iloc[-1], window.var(bias=True).iloc[-1]

        return both
    return None


def river_rows(X: Any, halflife: float) -> Call | None:
    """Learn row by row, as River does; None if absent."""
    with suppress(ImportError):
        from river.preprocessing import AdaptiveStandardScaler

        scaler = AdaptiveStandardScaler(fading_factor=1 - 2 ** (-1 / halflife))
        rows = [{str(i): float(x) for i, x in enumerate(row)} for row in X]

        def learn_rows() -> None:
            for row in rows:
                scaler.learn_one(row)

        return learn_rows
    return None


@case("partial_fit, 200 000 × 64 with halflife, n_jobs=-1")
def _halflife() -> Any:
    X = numbers((200_000, 64))
    weight = np.random.default_rng(1).uniform(0.5, 2.0, 200_000)
    bn = BatchNorm1dTransformer(halflife=10_000, n_jobs=-1)
    weighted = BatchNorm1dTransformer(variance="total", n_jobs=-1)
    peers: dict[str, tuple[Call, float | None]] = {
        "ours, sample_weight": (
            lambda: weighted.partial_fit(X, sample_weight=weight),
            1.3,
        )
    }
    window = pandas_ewm(X, 10_000)
    if window:
        peers["pandas, ewm"] = (window, None)
    return lambda: bn.partial_fit(X), peers


@case("fit, 200 000 × 64, batch_size=256, n_jobs=-1")
def _fit() -> Any:
    X = numbers((200_000, 64))
    bn, whole = BatchNorm1dTransformer(n_jobs=-1), BatchNorm1dTransformer(n_jobs=-1)
    return lambda: bn.fit(X), {"ours, whole": (lambda: whole.partial_fit(X), 1.3)}


def apply(X: Any, n_jobs: int | None) -> tuple[Call, StandardScaler]:
    """Transform, and a scaler that can too."""
    bn = BatchNorm1dTransformer(n_jobs=n_jobs).fit(X)
    return lambda: bn.transform(X), StandardScaler().fit(X)


def evaluate(X: Any, n_threads: int) -> Call | None:
    """PyTorch's eval mode."""
    torch = torch_on(n_threads)
    if torch is None:
        return None
    tensor = torch.from_numpy(X)
    layer = torch.nn.BatchNorm1d(X.shape[1], dtype=tensor.dtype).eval()
    return lambda: layer(tensor)


def transform(X: Any) -> tuple[Call, dict[str, tuple[Call, float | None]]]:
    """Transform X beside StandardScaler, PyTorch and a copy of X."""
    ours, scaler = apply(X, -1)
    peers: dict[str, tuple[Call, float | None]] = {
        "StandardScaler": (lambda: scaler.transform(X), 0.45)
    }
    layer = evaluate(X, 2)
    if layer:
        peers["PyTorch, 2 threads"] = (layer, None)
    return ours, {**peers, "X.copy()": (X.copy, 1.25)}


for _name, _shape, _dtype in [
    ("200 000 × 64", (200_000, 64), "f8"),
    ("1 000 000 × 10", (1_000_000, 10), "f8"),
    ("20 000 × 1 000 float32", (20_000, 1000), "f4"),
]:
    CASES[f"transform, {_name}, n_jobs=-1"] = lambda shape=_shape, dtype=_dtype: (
        transform(numbers(shape, dtype))
    )


@case("transform, 200 000 × 64, copy=False, n_jobs=-1")
def _in_place() -> Any:
    X, Y = numbers((200_000, 64)), np.empty((200_000, 64))
    # Its own output again and again, which the start, mean 0 and variance 1, leaves
    # of the size that it is.
    bn = BatchNorm1dTransformer(n_jobs=-1, copy=False, eps=0)
    bn.partial_fit(X).reset_running_stats()
    return lambda: bn.transform(X), {"np.copyto": (lambda: np.copyto(Y, X), 0.9)}


@case("transform, 200 000 × 64, plain")
def _transform_plain() -> Any:
    X = numbers((200_000, 64))
    ours, scaler = apply(X, None)
    return ours, {"StandardScaler": (lambda: scaler.transform(X), 1 / 1.5)}


@case("partial_fit, 32 × 20")
def _small_learn() -> Any:
    X = numbers((32, 20))
    ours, peers = learn(X, 1 / 20, n_jobs=None)
    torch = torch_on(1)
    if torch:
        layer = torch.nn.BatchNorm1d(20, dtype=torch.float64)
        tensor = torch.from_numpy(X)
        peers["PyTorch, forward"] = (lambda: layer(tensor), 0.4)
    return ours, peers


for _rows, _goal in ((1, None), (32, 1.3)):

    def _small_halflife(n_rows: int = _rows, goal: float | None = _goal) -> Any:
        X = numbers((n_rows, 20))
        bn = BatchNorm1dTransformer(halflife=1000)
        without = BatchNorm1dTransformer(variance="total")
        peers: dict[str, tuple[Call, float | None]] = {
            "ours, without": (lambda: without.partial_fit(X), goal)
        }
        rows, window = river_rows(X, 1000), pandas_ewm(X, 1000)
        if rows:
            peers["River, row by row"] = (rows, None)
        if window:
            peers["pandas, ewm"] = (window, None)
        return lambda: bn.partial_fit(X), peers

    CASES[f"partial_fit, {_rows} × 20 with halflife"] = _small_halflife

for _rows in (1, 32):

    def _small_transform(n_rows: int = _rows) -> Any:
        X = numbers((32, 20))
        bn, scaler = BatchNorm1dTransformer().fit(X), StandardScaler().fit(X)
        X = X[:n_rows].copy()
        peers = {"StandardScaler": (lambda: scaler.transform(X), 1 / 10)}
        layer = evaluate(X, 1)
        if layer:
            peers["PyTorch, eval"] = (layer, 0.8)
        return lambda: bn.transform(X), peers

    CASES[f"transform, {_rows} × 20"] = _small_transform

for _features, _goal in ((20, 1.0), (100, 0.25)):

    def _one_row(n_features: int = _features, goal: float = _goal) -> Any:
        X = numbers((1, n_features))
        bn = BatchNorm1dTransformer(variance="total", bias_correction=True)
        peers: dict[str, tuple[Call, float | None]] = {}
        with suppress(ImportError):
            from river.preprocessing import AdaptiveStandardScaler

            row = {str(i): float(x) for i, x in enumerate(X[0])}
            scaler = AdaptiveStandardScaler()

            def both() -> None:
                scaler.learn_one(row)
                scaler.transform_one(row)

            peers["River"] = (both, goal)
        return lambda: bn.partial_fit(X).transform(X), peers

    CASES[f"a row, partial_fit and transform, {_features} features"] = _one_row


for _method in ("partial_fit", "transform"):

    def _tensor(method: str = _method) -> Any:
        bn, scaler = BatchNorm1dTransformer(), MinMaxScaler()
        peers: dict[str, tuple[Call, float | None]] = {}
        torch = torch_on(1)
        if torch is None:
            return lambda: None, peers
        X = torch.from_numpy(numbers((64, 20), "f4"))

        def on_tensors(estimator: Any) -> Call:
            call = getattr(estimator, method)

            def dispatched() -> None:
                with config_context(array_api_dispatch=True):
                    call(X)

            with config_context(array_api_dispatch=True):
                estimator.fit(X)
            return dispatched

        peers["MinMaxScaler"] = (on_tensors(scaler), 1.0)
        return on_tensors(bn), peers

    CASES[f"{_method}, tensor of 64 × 20 float32"] = _tensor


@case("partial_fit, CSR 100 000 × 10 000, density 0.001")
def _sparse() -> Any:
    X = sparse.random_array((100_000, 10_000), density=0.001, format="csr", rng=0)
    bn, scaler = (
        BatchNorm1dTransformer(with_mean=False),
        StandardScaler(with_mean=False),
    )
    return lambda: bn.partial_fit(X), {
        "StandardScaler": (lambda: scaler.partial_fit(X), 0.7)
    }


@case("transform, a row of 100 000 features")
def _wide_row() -> Any:
    X = numbers((100, 100_000))
    bn, scaler = BatchNorm1dTransformer().fit(X), StandardScaler().fit(X)
    row = X[:1].copy()
    return lambda: bn.transform(row), {
        "StandardScaler": (lambda: scaler.transform(row), 1.0)
    }


@case("transform, a sparse row of 2^20 features, 100 stored")
def _wide_sparse_row() -> Any:
    X = sparse.random_array((1000, 2**20), density=1e-4, format="csr", rng=0)
    bn = BatchNorm1dTransformer(with_mean=False, eps=0).fit(X)
    scaler = StandardScaler(with_mean=False).fit(X)
    row = X[:1]
    return lambda: bn.transform(row), {
        "StandardScaler": (lambda: scaler.transform(row), 1.0)
    }


@case("import sk_batchnorm")
def _import() -> Any:
    def load(module: str) -> Call:
        return lambda: subprocess.run(
            [sys.executable, "-c", f"import {module}"], check=True
        )

    return load("sk_batchnorm"), {
        "sklearn.preprocessing": (load("sklearn.preprocessing"), 1.05)
    }


# Time per value, of the same number of values in another shape, must not grow.
for _shape in [(10**7, 1), (10**6, 10), (10**4, 1000), (1000, 10_000)]:

    def _linear(shape: tuple[int, int] = _shape) -> Any:
        X, reference = numbers(shape), numbers((10**5, 100))
        bn, other = BatchNorm1dTransformer(), BatchNorm1dTransformer()
        return lambda: bn.partial_fit(X), {
            "ours, 100 000 × 100": (lambda: other.partial_fit(reference), 2.0)
        }

    CASES[f"linear cost, {_shape[0]} × {_shape[1]}"] = _linear
