"""
====================
Choosing a half-life
====================

How fast should old rows fade? Too slowly, and the running statistics are those of
another time; too fast, and they are those of a few rows. A grid search finds what lies
between, also where values are missing. In the data, both the mean and the spread drift:
they are the trading days of a share, Google's from 2004 to 2008, in a file that comes
with matplotlib.
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
is_past = days["date"] < np.datetime64("2008")
print(f"{sum(is_past)} days until 2007 to search on, {sum(~is_past)} of 2008 to test")

# %%
# In a copy, one value in ten is missing at random, and no volume was recorded in the
# second half of 2005.

with_gaps = X.copy()
with_gaps[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
start, end = np.searchsorted(days["date"], np.array(["2005-07", "2006"], "M8[D]"))
with_gaps[start:end, 0] = np.nan
print(f"{np.isnan(with_gaps).mean():.0%} of the values are missing in the copy")

# %%
# A score for running statistics
# ------------------------------
# Good running statistics predict the rows to come. So the score is their mean log
# density, value by value, under a normal distribution with the running mean and
# variance. Each week is scored before it is learned from. There are no labels, and no
# model but the transformer.
#
# The log density is NaN where a value is missing, or where its feature has not been
# observed yet. These are the same values for every half-life, so ``np.nanmean`` can
# leave them out. With a plain mean, every score would be NaN, and the search would warn
# and choose the first half-life.
#
# A subclass with that method is all that ``GridSearchCV`` needs; ``TimeSeriesSplit``
# tests on the days that follow those learned from. The half-life is in rows, here
# trading days. `batch_size` is the week to score; with a half-life, ``fit`` does not
# use it.


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
        return np.nanmean(np.concatenate(log_density))


HALF_LIVES = [2.5, 5, 10, 20, 40, 80, 160, 320, 640, np.inf]
batch_norm = NextWeek(batch_size=5)
folds = TimeSeriesSplit(n_splits=5)
behind = {}
for name, data in {"until 2007": X, "with gaps": with_gaps}.items():
    search = GridSearchCV(batch_norm, {"halflife": HALF_LIVES}, cv=folds)
    results = search.fit(data[is_past]).cv_results_
    scores = np.array([results[f"split{i}_test_score"] for i in range(5)])
    behind[name] = scores - scores[:, [search.best_index_]]
    print(f"Chosen, {name}: {search.best_params_}")

# %%
# Some years are harder to predict than others, whatever the half-life. So the table has
# the difference from the score of the chosen half-life, in the mean over the folds. The
# year 2008 took no part in the choice. With ``halflife=inf`` all days weigh the same,
# as in ``StandardScaler.partial_fit``.

fitted = [clone(batch_norm).set_params(halflife=h).fit(X[is_past]) for h in HALF_LIVES]
in_2008 = np.array([[model.score(X[~is_past]) for model in fitted]])
behind["2008"] = in_2008 - in_2008[:, [search.best_index_]]  # of both searches
print("\nMean log density of the days to come, less that with the chosen half-life")
print("half-life", *(f"{name:>12}" for name in behind))
for i, half_life in enumerate(HALF_LIVES):
    means = [difference[:, i].mean() for difference in behind.values()]
    print(f"{half_life:9g}", *(f"{mean:12.3f}" for mean in means))

# %%
# What it looks like
# ------------------
# The gaps do not change the choice. The display streams all days, with the gaps. The
# statistics of the volume stay as they are while none is recorded.
#
# - Too nervous: the line repeats the noise of every week, and the band is that of a few
#   days, often far too narrow. This has the worst score.
# - Too slow: the line lags behind the weeks, and the band is wide, as it contains the
#   drift of years.
# - In between, the score is flat: on the folds, half and twice the chosen half-life are
#   behind by less than 0.02. In 2008 half of it would have been a little better. A
#   search finds the right order of magnitude; a finer grid would fit the noise of the
#   folds.
#
# PyTorch's rule is searched in the same way, with ``{"momentum": [...]}`` and
# ``NextWeek(batch_size=5, variance="total")``.

chosen = search.best_params_["halflife"]
SHOWN = {2.5: "too nervous", chosen: "chosen", np.inf: "too slow"}
plt.rc("font", size=11)
figure = plt.figure(figsize=(13, 10), layout="constrained")
top, bottom = figure.subfigures(2, height_ratios=[1, 2])
axes = top.subplots()
positions = np.arange(len(HALF_LIVES))
for shift, style, name in zip([-0.1, 0, 0.1], ["o-", "^:", "s--"], behind, strict=True):
    mean, std = behind[name].mean(axis=0), behind[name].std(axis=0)
    axes.errorbar(positions + shift, mean, std, fmt=style, label=name)
axes.set_xticks(positions, map("{:g}".format, HALF_LIVES))
axes.set_xlabel("Half-life (trading days)")
axes.set_ylabel("Mean log density,\nless the chosen one's")
axes.legend(loc="lower center", title="Bars: one standard deviation over the folds")
grid = bottom.subplots(len(FEATURES), len(SHOWN), sharex=True, sharey="row")
for column, (half_life, name) in zip(grid.T, SHOWN.items(), strict=True):
    model = clone(batch_norm).set_params(halflife=half_life)
    RunningStatsDisplay.from_estimator(model, with_gaps, ax=column)
    column[0].set_title(f"halflife={half_life:g}: {name}")
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
