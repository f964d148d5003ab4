"""
=================
Choosing momentum
=================

How much should the newest mini-batch weigh? Too little, and the running statistics
are those of another time; too much, and they are those of a few rows. A grid search
finds what lies between, on a series in which both the mean and the spread drift: the
trading days of a share, Google's from 2004 to 2008, a file that comes with matplotlib.
"""

import sys
from copy import deepcopy

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.utils import gen_batches

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.plot import RunningStatsDisplay

days = np.load(cbook.get_sample_data("goog.npz", asfileobj=False))["price_data"]
price = np.log(days["close"])
FEATURES = ["Volume (log)", "High / low (log of %)", "Change (%)"]
X = np.column_stack(
    [
        np.log(days["volume"][1:]),
        np.log(100 * np.log(days["high"] / days["low"])[1:]),
        100 * np.diff(price),
    ]
)
dates = days["date"][1:]
WEEK = 5  # trading days in a mini-batch
past, future = X[dates < np.datetime64("2008")], X[dates >= np.datetime64("2008")]
print(f"{len(past)} days until 2007 to search on, {len(future)} days of 2008 to test\n")

# %%
# A score for running statistics
# ------------------------------
# Good running statistics say what the next mini-batch will be like. So the score is
# how probable they found it: the mean log density of the rows to come, feature by
# feature, under a normal distribution with the running mean and variance. Each week is
# scored before it is learned from, as on a stream, and it takes no labels.
#
# The search needs no more than that method. ``TimeSeriesSplit`` tests on what comes
# after the training part. Mini-batches of a week are small, so the variance is
# ``"total"``; `bias_correction` keeps ``partial_fit`` in line with ``fit``.


class NextWeek(BatchNorm1dTransformer):
    """A batch norm that is scored by how well it foresees the next mini-batch."""

    def score(self, X, y=None):
        """Mean log density of X, learning on the way, but leaving self as it is."""
        stream, log_density = deepcopy(self), []
        for week in gen_batches(len(X), self.batch_size):
            variance = stream.running_var_ + stream.eps
            z = stream.transform(X[week])  # (x - running mean) / sqrt(variance)
            log_density.append(-(z**2 + np.log(2 * np.pi * variance)) / 2)
            stream.partial_fit(X[week])
        return np.concatenate(log_density).mean()


MOMENTUMS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, None]
batch_norm = NextWeek(batch_size=WEEK, variance="total", bias_correction=True)
folds = TimeSeriesSplit(n_splits=5)
search = GridSearchCV(batch_norm, {"momentum": MOMENTUMS}, cv=folds).fit(past)

# %%
# Some years are harder to foresee than others, whatever the momentum. So the table has
# the differences from the best momentum too, fold by fold, and their spread. The
# half-life says after how many weeks a week weighs half.

by_fold = np.array([search.cv_results_[f"split{i}_test_score"] for i in range(5)])
behind = by_fold - by_fold[:, [search.best_index_]]
fitted = [clone(batch_norm).set_params(momentum=m).fit(past) for m in MOMENTUMS]
in_2008 = np.array([model.score(future) for model in fitted])
half_lives = [np.log(2) / -np.log1p(-m) if m else np.inf for m in MOMENTUMS]
print("Mean log density, mean ± standard deviation over the folds")
print("momentum  half-life      score      less the best's     2008")
for i, momentum in enumerate(MOMENTUMS):
    row = f"{momentum!s:>8}{half_lives[i]:11.1f}"
    for values in by_fold[:, i], behind[:, i]:
        row += f"{values.mean():9.3f} ± {values.std(ddof=1):.3f}"
    chosen = "  chosen" if i == search.best_index_ else ""
    print(f"{row}{in_2008[i]:9.3f}{chosen}")

# %%
# What it looks like
# ------------------
# The display shows why. Where the momentum is small the line comes late and the band is
# wide, as it has to hold the years; where it is large the line repeats each week's
# noise, and the band, made of a few days, is often far too narrow.

SHOWN = {"too slow": 0.01, "chosen": search.best_params_["momentum"], "too nervous": 0.8}
plt.rc("font", size=11)
figure = plt.figure(figsize=(13, 10), layout="constrained")
top, bottom = figure.subfigures(2, height_ratios=[1, 2])
axes = top.subplots()
positions = np.arange(len(MOMENTUMS))
axes.errorbar(
    positions,
    behind.mean(axis=0),
    behind.std(axis=0, ddof=1),
    fmt="o-",
    capsize=4,
    label="folds until 2007: mean, bars of one standard deviation",
)
axes.plot(positions, in_2008 - in_2008[search.best_index_], "s--", label="2008")
axes.set_xticks(positions, [*map(str, MOMENTUMS[:-1]), "None\n(all equal)"])
axes.set(xlabel="Momentum", ylabel="Mean log density,\nless the chosen one's")
axes.legend(loc="lower center")
grid = bottom.subplots(len(FEATURES), len(SHOWN), sharex=True, sharey="row")
for column, (name, momentum) in zip(grid.T, SHOWN.items(), strict=True):
    model = clone(batch_norm).set_params(momentum=momentum)
    RunningStatsDisplay.from_estimator(model, X, ax=column)
    column[0].set_title(f"momentum={momentum}: {name}")
    column[0].get_legend().remove()
    for axes, label in zip(column, FEATURES, strict=True):
        axes.set_ylabel(label)
        axes.label_outer()
labels = grid[0, 0].get_legend_handles_labels()
bottom.legend(*labels, loc="outside lower center", ncols=3)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=120)
    print("\nPicture saved to", sys.argv[1])
