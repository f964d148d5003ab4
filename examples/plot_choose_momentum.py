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
change = 100 * np.diff(np.log(days["close"]))
days = days[1:]  # the first has no change
swing = 100 * np.log(days["high"] / days["low"])
FEATURES = ["Volume (log)", "High to low (log %)", "Change (%)"]
X = np.column_stack([np.log(days["volume"]), np.log(swing), change])
WEEK = 5  # trading days in a mini-batch
is_past = days["date"] < np.datetime64("2008")
past, future = X[is_past], X[~is_past]
print(f"{len(past)} days until 2007 to search on, {len(future)} days of 2008 to test\n")

# %%
# A score for running statistics
# ------------------------------
# Good running statistics predict the next mini-batch. So the score is the likelihood of
# that mini-batch: the mean log density of the days to come, feature by feature, under a
# normal distribution with the running mean and variance. Each week is scored before it
# is learned from. There are no labels, and no model but the transformer.
#
# A subclass with that method is all that ``GridSearchCV`` needs; ``TimeSeriesSplit``
# tests on the days that follow those learned from. Five days say little about the
# spread, so we use ``variance="total"``, which also counts how much the weeks' means
# vary.


class NextWeek(BatchNorm1dTransformer):
    """A batch norm that is scored by how well it predicts the next mini-batch."""

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
# Some years are harder to predict than others, whatever the momentum. So the table also
# has the difference from the score of the chosen momentum, fold by fold. The half-life
# is the number of weeks after which a week's weight has halved. The year 2008 took no
# part in the choice.

splits = [f"split{i}_test_score" for i in range(folds.n_splits)]
by_fold = np.array([search.cv_results_[split] for split in splits])
behind = by_fold - by_fold[:, [search.best_index_]]
fitted = [clone(batch_norm).set_params(momentum=m).fit(past) for m in MOMENTUMS]
in_2008 = np.array([model.score(future) for model in fitted])
half_lives = [np.log(2) / -np.log1p(-m) if m else np.inf for m in MOMENTUMS]
print("Log density of the days to come, mean ± standard deviation over the folds")
print("momentum  half-life          score    less the chosen     2008")
for i, momentum in enumerate(MOMENTUMS):
    row = f"{momentum!s:>8}{half_lives[i]:11.1f}"
    for values in by_fold[:, i], behind[:, i]:
        row += f"{values.mean():9.3f} ± {values.std(ddof=1):.3f}"
    chosen = "  chosen" if i == search.best_index_ else ""
    print(f"{row}{in_2008[i]:9.3f}{chosen}")

# %%
# What it looks like
# ------------------
# The display streams all days with the smallest momentum, the chosen one and a large
# one.
#
# - Too slow: the line lags behind the weeks, and the band is wide, as it contains the
#   drift of years.
# - Too nervous: the line repeats the noise of every week, and the band is that of a few
#   days, often far too narrow. This has the worst score.
# - In between, the score is flat: half of the chosen momentum is as good on the folds,
#   though not in 2008, when the market moved faster than before. A search finds the
#   right order of magnitude; a finer grid would fit the noise of the folds.
#
# ``momentum=None``, which weighs all weeks alike as ``StandardScaler`` does all rows,
# is about as poor as the slowest.

SHOWN = {
    "too slow": 0.01,
    "chosen": search.best_params_["momentum"],
    "too nervous": 0.8,
}
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
bottom.align_ylabels()
labels = grid[0, 0].get_legend_handles_labels()
bottom.legend(*labels, loc="outside lower center", ncols=3)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=120)
    print("\nPicture saved to", sys.argv[1])
