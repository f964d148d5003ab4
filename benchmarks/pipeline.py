"""What it costs a StreamingPipeline that a mini-batch is learned by all steps or none.

    python -m benchmarks.pipeline

The pipeline, and its steps called by hand, learn the same mini-batch again and again,
in turns. The ratio is the median of the rounds' own ratios, and its spread is the range
between their quartiles.
"""

from __future__ import annotations

import timeit
from statistics import median, quantiles
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import SGDClassifier, SGDRegressor

from benchmarks.speed import numbers
from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.pipeline import make_streaming_pipeline


def mini_batch(n_samples: int, n_features: int, density: float = 1.0) -> Any:
    """Normal numbers, sparse if not all of them are there."""
    if density == 1.0:
        return numbers((n_samples, n_features))
    return sparse.random(n_samples, n_features, density, format="csr", random_state=0)


def ratios(X: Any, n_classes: int, seconds: float) -> tuple[float, list[float]]:
    """Seconds by hand, and rounds of the pipeline's time over it."""
    y = np.arange(X.shape[0]) % max(n_classes, 2)
    kind, kwargs = SGDRegressor, {}
    if n_classes:
        kind, kwargs = SGDClassifier, {"classes": np.arange(n_classes)}
    # Of sparse X the variances are about 1e-5, the default of eps, which would warn.
    params = {"bias_correction": True, "with_mean": not sparse.issparse(X), "eps": 0.0}
    bn, model = BatchNorm1dTransformer(**params), kind(random_state=0)
    pipe = make_streaming_pipeline(
        BatchNorm1dTransformer(**params), kind(random_state=0)
    )

    def by_hand() -> None:
        model.partial_fit(bn.partial_fit(X).transform(X), y, **kwargs)

    def pipeline() -> None:
        pipe.partial_fit(X, y, **kwargs)

    pipeline()
    once = min(timeit.repeat(by_hand, number=1, repeat=3))
    number = max(1, int(0.02 / once))
    n_rounds = max(5, int(seconds / (2 * number * once)))
    times = []
    for i in range(n_rounds):
        pair = {}
        for call in (by_hand, pipeline) if i % 2 else (pipeline, by_hand):
            pair[call] = timeit.timeit(call, number=number) / number
        times.append((pair[by_hand], pair[pipeline]))
    return median(a for a, _ in times), [b / a for a, b in times]


# Mini-batch, and number of classes (0: a regression).
CASES = {
    "32 × 20, 2 classes": (32, 20, 1.0, 2),
    "32 × 20, regression": (32, 20, 1.0, 0),
    "256 × 100, 2 classes": (256, 100, 1.0, 2),
    "1000 × 1000, 10 classes": (1000, 1000, 1.0, 10),
    "1000 × 262144 sparse, 100 in a row, 2 classes": (1000, 2**18, 100 / 2**18, 2),
    "1000 × 262144 sparse, 100 in a row, 20 classes": (1000, 2**18, 100 / 2**18, 20),
}


def main(seconds: float = 5.0) -> None:
    """Print the table."""
    print("| mini-batch | by hand | pipeline / by hand | quartiles |")
    print("|---|--:|--:|--:|")
    for name, (n_samples, n_features, density, n_classes) in CASES.items():
        X = mini_batch(n_samples, n_features, density)
        by_hand, found = ratios(X, n_classes, seconds)
        low, middle, high = quantiles(found, n=4)
        print(
            f"| {name} | {by_hand * 1e3:.2f} ms | {middle:.2f} "
            f"| {low:.2f} to {high:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
