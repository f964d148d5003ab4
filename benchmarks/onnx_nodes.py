"""Which nodes normalise fastest, and how exactly, in onnxruntime.

    python -m benchmarks.onnx_nodes

Each line is one choice of nodes for ``(x − mean)·scale + bias``: how long it takes on
one thread, and how far its output is from ``transform``'s when the mean is 10 000
standard deviations away from 0. The choices take turns; the time is the median of
the rounds. ``sk_batchnorm.onnx`` uses the first, and the second if the mean is large.
"""

from __future__ import annotations

import re
import timeit
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime

from sk_batchnorm import BatchNorm1dTransformer

CENTRE = "C = Sub(X, rounded)"
CHOICES = [
    "Y = BatchNormalization<epsilon = 0.0>(X, scale, bias, mean, one)",
    f"{CENTRE} Y = BatchNormalization<epsilon = 0.0>(C, scale, bias, rest, one)",
    f"{CENTRE} S = Mul(C, scales) Y = Add(S, biases)",
]
OF_FLOAT32 = [
    "D = Cast<to = 11>(X) C = Sub(D, double_means) S = Mul(C, double_scales) "
    "A = Add(S, double_biases) Y = Cast<to = 1>(A)",
]
# The node that skl2onnx has for scalers; two dimensions only.
OF_FLOAT32_MATRIX = [
    "S = ai.onnx.ml.Scaler<offset = {rounded}, scale = {scale}>(X) Y = Add(S, biases)",
]
SHAPES = [(32, 20), (20_000, 64), (1_000, 8, 500)]


def constants(bn: Any, dtype: str, n_dimensions: int) -> dict[str, Any]:
    """What the choices name, in singular for each channel, in plural to broadcast."""
    scale = bn.weight_ / np.sqrt(bn.running_var_ + bn.eps)
    rounded = bn.running_mean_.astype(dtype)
    rest = bn.running_mean_ - rounded
    vectors = {"scale": scale, "bias": bn.bias_, "mean": bn.running_mean_}
    vectors |= {"rounded": rounded, "rest": rest, "one": np.ones_like(scale)}
    wide = {"rounded": rounded, "scales": scale, "biases": bn.bias_ - rest * scale}
    exact = {"means": bn.running_mean_, "scales": scale, "biases": bn.bias_}
    shape = (-1, *[1] * (n_dimensions - 2))
    found = {name: each.astype(dtype) for name, each in vectors.items()}
    found |= {name: each.astype(dtype).reshape(shape) for name, each in wide.items()}
    return found | {f"double_{name}": v.reshape(shape) for name, v in exact.items()}


def session(choice: str, values: dict[str, Any], X: Any) -> Any:
    """Onnxruntime's session of one choice, on one thread."""
    lists = {name: each.ravel().tolist() for name, each in values.items()}
    kind = {"float32": "float", "float64": "double"}[X.dtype.name]
    tensor = f"{kind}[{', '.join(map(str, X.shape))}]"
    graph = onnx.parser.parse_graph(
        f"g ({tensor} X) => ({tensor} Y) {{ {choice.format(**lists)} }}"
    )
    used = {name for node in graph.node for name in node.input} & set(values)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(values[name], name) for name in used
    )
    opsets = [onnx.helper.make_opsetid(*each) for each in (("", 21), ("ai.onnx.ml", 3))]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def measure(dtype: str, shape: tuple[int, ...], rounds: int = 15) -> None:
    """Print the table of one kind of data."""
    rng = np.random.default_rng(0)
    X = rng.normal(1e4, 1.0, shape).astype(dtype)
    weight, bias = rng.normal(size=(2, shape[1]))
    bn = BatchNorm1dTransformer(weight_init=weight, bias_init=bias).fit(X)
    choices = CHOICES.copy()
    if dtype == "float32":
        choices += OF_FLOAT32 + OF_FLOAT32_MATRIX * (len(shape) == 2)
    values = constants(bn, dtype, len(shape))
    runs = [partial(session(each, values, X).run, None, {"X": X}) for each in choices]
    number = max(1, 300_000 // X.size)
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, own in zip(runs, times, strict=True):
            own.append(timeit.timeit(run, number=number) / number)
    print(f"\n{dtype}, {' × '.join(map(str, shape))}")
    for choice, run, own in zip(choices, runs, times, strict=True):
        error = np.abs(run()[0] - bn.transform(X)).max()
        nodes = ", ".join(re.findall(r"(\w+)[<(]", choice))
        print(f"{median(own) * 1e6:10.1f} µs  {error:8.1e}  {nodes}")


if __name__ == "__main__":
    for dtype in ("float32", "float64"):
        for shape in SHAPES:
            measure(dtype, shape)
