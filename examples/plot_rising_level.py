"""
=======================
A level that only rises
=======================

Each winter there is more carbon dioxide in the air than in the winter before, and each
summer less than in that winter. A linear model predicts the concentration of four weeks
ahead, and goes on learning. Before it, ``StandardScaler`` takes all years alike: it
subtracts a mean of decades ago, divides by a spread that grows with the decades, and
hands the model less and less of the season. With a half-life of a year, the season of
1999 looks to the model as that of 1969 did.

The weekly means of Mauna Loa, Hawaii, from 1958 to 2001 [1]_ lie beside this script, in
:download:`mauna_loa.csv <../../examples/mauna_loa.csv>`.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import SGDRegressor
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.compose import StreamingTransformedTargetRegressor
from sk_batchnorm.pipeline import make_streaming_pipeline

path = Path(sys.argv[0]).with_name("mauna_loa.csv")
with open(path, encoding="utf-8") as file:
    lines = [line.strip().split(",") for line in file if line[0].isdigit()]
weeks = np.array([week for week, _ in lines], dtype="datetime64[D]")
co2 = np.array([float(ppm or "nan") for _, ppm in lines])
known = np.maximum.accumulate(np.where(np.isnan(co2), 0, np.arange(len(co2))))
co2 = co2[known]  # in the few weeks without a value, the last one before

# %%
# What the model sees of a week is its concentration and those of 4, 13, 26 and 39 weeks
# before. What it is to predict is that of four weeks later.

AHEAD, BEFORE = 4, [0, 4, 13, 26, 39]
now = np.arange(max(BEFORE), len(co2) - AHEAD)
X = np.column_stack([co2[now - before] for before in BEFORE])
y = co2[now + AHEAD]
print(f"{len(X)} weeks, {co2[0]:.0f} ppm in 1958, {co2[-1]:.0f} ppm in 2001")

# %%
# Predict, then learn
# -------------------
# Four weeks are predicted at a time, and then the four weeks before them are learned,
# whose outcome has become known. The same kind of scaler is before the model and before
# its target, and learns on too. The learning rate is for each scaler the best of three,
# in hindsight.

SCALERS = {
    "StandardScaler": StandardScaler(),
    "half-life of a year": BatchNorm1dTransformer(halflife=52),
}
LEARNING_RATES = [0.003, 0.01, 0.03]
FIRST = 104  # weeks to begin with


def errors(scaler, learning_rate):
    """Error of the prediction for each week, in ppm, and the means that it knew."""
    sgd = SGDRegressor(learning_rate="constant", eta0=learning_rate, random_state=0)
    model = StreamingTransformedTargetRegressor(
        make_streaming_pipeline(scaler, sgd), transformer=scaler
    ).partial_fit(X[:FIRST], y[:FIRST])
    predicted, means = np.full((2, len(y)), np.nan)
    for start in range(FIRST + AHEAD, len(y), AHEAD):
        weeks = slice(start, start + AHEAD)
        predicted[weeks] = model.predict(X[weeks])
        known = slice(start - AHEAD, start)
        model.partial_fit(X[known], y[known])
        learned = model.transformer_
        means[weeks] = getattr(learned, "running_mean_", getattr(learned, "mean_", 0))
    return np.abs(predicted - y), means


best = {}
for name, scaler in SCALERS.items():
    runs = {rate: errors(scaler, rate) for rate in LEARNING_RATES}
    means = {rate: np.nanmean(error) for rate, (error, _) in runs.items()}
    rate = min(means, key=means.get)
    best[name] = runs[rate]
    table = ", ".join(f"{rate:g}: {mean:.2f}" for rate, mean in means.items())
    print(f"{name}: error by learning rate {table} ppm")

decade = 10 * (weeks[now + AHEAD].astype("datetime64[Y]").astype(int) // 10) + 1970
for name, (error, _) in best.items():
    means = [
        f"{d}s {np.nanmean(error[decade == d]):.2f}" for d in range(1960, 2000, 10)
    ]
    print(f"{name}: {', '.join(means)} ppm")

# %%
# Where it is, and how far off
# ----------------------------
# Above, the mean that is subtracted from the target: that of ``StandardScaler`` falls
# ever further behind. Below, the mean error of the last two years.

COLORS = {"StandardScaler": "#D55E00", "half-life of a year": "#0072B2"}
figure, (above, below) = plt.subplots(
    2, 1, sharex=True, figsize=(9, 6.5), layout="constrained"
)
dates = weeks[now + AHEAD]
above.plot(dates, y, color="#999999", lw=0.8, label="carbon dioxide")
window = np.ones(104) / 104
for name, (error, means) in best.items():
    above.plot(dates, means, color=COLORS[name], lw=2, label=f"mean of {name}")
    smooth = np.convolve(error[FIRST + AHEAD :], window, mode="valid")
    below.plot(dates[-len(smooth) :], smooth, color=COLORS[name], lw=2, label=name)
above.set_ylabel("CO₂ (ppm)")
above.legend(loc="upper left", frameon=False)
below.set_ylabel("Error four weeks ahead (ppm)")
below.set_ylim(bottom=0)
below.legend(loc="lower left", frameon=False)
for axes in (above, below):
    axes.spines[["top", "right"]].set_visible(False)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=120)
    print("\nPicture saved to", sys.argv[1])

# %%
# A level that rises for ever is the case for forgetting. :ref:`when_it_helps` has
# twenty streams, and those on which it loses, too.
#
# .. [1] C. D. Keeling, T. P. Whorf: `Atmospheric CO2 concentrations derived from flask
#    air samples at sites in the SIO network
#    <https://www.statsmodels.org/stable/datasets/generated/co2.html>`_. In: Trends, a
#    Compendium of Data on Global Change, 2004.
