"""
=========================
A grid search on a stream
=========================

How fast should the statistics in front of a classifier forget? An ordinary grid search
can't tell: its test rows meet statistics that stay as they are. With
``make_prequential_scorer`` it can, since each mini-batch of the test rows is predicted
and then learned, as it will be when the stream goes on.

Here are 13 measurements of wines of three sorts, as they would come from instruments
whose zero wanders. The wines are real, the wandering is simulated.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.naive_bayes import GaussianNB

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.model_selection import make_prequential_scorer
from sk_batchnorm.pipeline import make_streaming_pipeline

wines, sorts = load_wine(return_X_y=True)
rng = np.random.default_rng(0)
order = np.concatenate([rng.permutation(len(wines)) for _ in range(10)])
steps = rng.normal(scale=0.1, size=(len(order), wines.shape[1]))
X = wines[order] + steps.cumsum(axis=0) * wines.std(axis=0)
y = sorts[order]
print(f"{len(X)} rows, each wine 10 times; the zero of each instrument wanders")
print("by a tenth of a standard deviation per row\n")

# %%
# The search
# ----------
# ``TimeSeriesSplit`` keeps the rows in order and tests on what comes after the training
# rows. The pipeline is a ``StreamingPipeline``, as the copy that is scored has to learn
# on. The labels come 16 rows at a time: that is the `batch_size` of the score. The
# half-life is in rows; with ``halflife=inf`` all rows weigh the same, as in
# ``StandardScaler.partial_fit``.
#
# The same half-lives are searched with the usual score, too, and in front of two
# models: naive Bayes, which never forgets, and a linear model trained by stochastic
# gradient descent, which itself follows a drift.

HALF_LIVES = [4, 8, 16, 32, 64, 128, 512, np.inf]
MODELS = {"Naive Bayes": GaussianNB(), "SGD": SGDClassifier(random_state=0)}
SCORINGS = {
    "prequential": make_prequential_scorer("accuracy", batch_size=16),
    "usual": "accuracy",
}
folds = TimeSeriesSplit()
accuracy = {}
for name, model in MODELS.items():
    pipe = make_streaming_pipeline(BatchNorm1dTransformer(halflife=16), model)
    grid = {"batchnorm1dtransformer__halflife": HALF_LIVES}
    for score, scoring in SCORINGS.items():
        search = GridSearchCV(pipe, grid, cv=folds, scoring=scoring).fit(X, y)
        results = search.cv_results_
        accuracy[name, score] = np.array(
            [100 * results[f"split{i}_test_score"] for i in range(folds.n_splits)]
        )
        (chosen,) = search.best_params_.values()
        print(f"Chosen for {name} by the {score} score: {chosen:g}")

print("\nMean test accuracy in %, over the folds")
print(f"{'half-life':24}" + "".join(f"{h:>6g}" for h in HALF_LIVES))
for (name, score), values in accuracy.items():
    means = "".join(f"{value:6.1f}" for value in values.mean(axis=0))
    print(f"{name + ', ' + score:24}{means}")

# %%
# What the search shows
# ---------------------
# - The usual score can't choose. Naive Bayes has the same accuracy with every
#   half-life: where the statistics stay as they are, normalising is one shift and one
#   scale per feature, which the model has learned along with them. With SGD the scores
#   differ only as much as its training does on differently scaled data.
# - With the prequential score, naive Bayes does best with a half-life of 32 rows. It
#   forgets nothing itself, so that the statistics have to.
# - SGD follows the drift itself. A short half-life only adds noise to its input, and
#   the search chooses a long one. So the best half-life depends on the model behind,
#   not on the data alone.
# - The differences between neighbouring half-lives are small beside those between the
#   folds. On average, all of them are far better than a model that does not learn on,
#   which is what the usual score measures.
#
# `momentum` is searched in the same way, with
# ``{"batchnorm1dtransformer__momentum": [...]}`` and without a half-life.

COLORS = {"Naive Bayes": "#0072B2", "SGD": "#D55E00"}
STYLES = {"prequential": "o-", "usual": "s--"}
plt.rc("font", size=12)
figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
positions = np.arange(len(HALF_LIVES))
for i, ((name, score), values) in enumerate(accuracy.items()):
    axes.errorbar(
        positions + 0.08 * (i - 1.5),  # side by side, so that no bar hides another
        values.mean(axis=0),
        values.std(axis=0),
        fmt=STYLES[score],
        color=COLORS[name],
        capsize=3,
        linewidth=2,
        elinewidth=0.8,
        label=f"{name},\n{score} score",
    )
axes.set_xticks(positions, map("{:g}".format, HALF_LIVES))
axes.set_xlabel("Half-life (rows)")
axes.set_ylabel("Test accuracy (%)")
axes.set_title("Mean over 5 folds, bars of one standard deviation")
figure.legend(loc="outside right center")
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=120)
    print("\nPicture saved to", sys.argv[1])
