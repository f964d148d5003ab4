"""
=========================================
Batch normalisation inside a grid search
=========================================

``BatchNorm1dTransformer`` is an ordinary step of a ``Pipeline``, and its
parameters can be searched like any others: here `momentum`, `eps` and `affine`,
in front of a support vector classifier that tells three sorts of wine apart.

The wine data suit a test of `eps`, since their 13 features have very different
scales.
"""

import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import (
    GridSearchCV,
    RepeatedStratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import shuffle

from sk_batchnorm import BatchNorm1dTransformer

X, y = load_wine(return_X_y=True)
# The file is sorted by class; mini-batches should be alike.
X, y = shuffle(X, y, random_state=0)
variances = X.var(axis=0)
print(f"Variances of the features: {variances.min():.2g} to {variances.max():.2g}\n")

# %%
# The grid
# --------
# Mini-batches of 16 rows cut the training part of a fold into nine, so that
# momentum has something to weigh. ``momentum=None`` weighs them equally,
# ``momentum=1`` keeps the last one alone. `eps` is added to the variance, so it
# is in squared units of the data.

MOMENTUMS = [0.01, 0.03, 0.1, 0.3, 1.0, None]
EPSILONS = [1e-5, 1.0, 1e3, 1e6]
# The same 20 splits for all that is compared.
folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=4, random_state=0)
# The largest of eps are there to show what the warning is about.
warnings.filterwarnings("ignore", "The variance of feature")
batch_norm = BatchNorm1dTransformer(batch_size=16)
step = "batchnorm1dtransformer__"
search = GridSearchCV(
    make_pipeline(batch_norm, SVC()),
    {
        f"{step}affine": [True, False],
        f"{step}eps": EPSILONS,
        f"{step}momentum": MOMENTUMS,
    },
    cv=folds,
).fit(X, y)

# The grid's last parameter varies fastest.
shape = (2, len(EPSILONS), len(MOMENTUMS))
score = 100 * search.cv_results_["mean_test_score"].reshape(shape)
spread = 100 * search.cv_results_["std_test_score"].reshape(shape)

print("Mean test accuracy in %, affine=True")
print("     eps \\ momentum" + "".join(f"{m!s:>7}" for m in MOMENTUMS))
for eps, row in zip(EPSILONS, score[0], strict=True):
    print(f"{eps:19g}" + "".join(f"{value:7.1f}" for value in row))
difference = np.abs(score[0] - score[1]).max()
print(f"Largest difference that affine=False makes: {difference:g}\n")
best = {name.removeprefix(step): value for name, value in search.best_params_.items()}
print(f"Best parameters: {best}\n")

# %%
# Other scalings on the same folds
# --------------------------------
# The best of a grid is chosen on the folds that score it, which flatters it; the
# defaults are not.

pipelines = {
    "No scaling": make_pipeline(SVC()),
    "StandardScaler": make_pipeline(StandardScaler(), SVC()),
    "BatchNorm1d, default momentum and eps": make_pipeline(batch_norm, SVC()),
    "BatchNorm1d, best of the grid": search.best_estimator_,
}
print("Test accuracy in %, mean ± standard deviation over the folds")
for name, pipeline in pipelines.items():
    scores = 100 * cross_val_score(pipeline, X, y, cv=folds)
    print(f"{name:38}{scores.mean():5.1f} ± {scores.std():.1f}")

# %%
# What the grid shows
# -------------------
# - Where `eps` is small, momentum hardly matters. All mini-batches come from one
#   distribution, and one average of them is about as good as another; the best
#   parameters are the first of many equals. Momentum is for data that drift.
# - `affine` makes no difference at all: weight and bias start at 1 and 0, and
#   stay there until something learns them.
# - A large `eps` does harm. A feature whose variance is far below it is not
#   brought to unit variance but shrunk to nearly 0, and the largest `eps` leaves
#   the classifier about as poor as no scaling does.
# - With the default `eps` the result is that of ``StandardScaler``: on shuffled
#   data that do not drift there is nothing to gain over it.

COLORS = ["#0072B2", "#009E73", "#E69F00", "#D55E00"]
plt.rc("font", size=12)
figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
positions = np.arange(len(MOMENTUMS))
for i, (eps, color) in enumerate(zip(EPSILONS, COLORS, strict=True)):
    axes.errorbar(
        positions + 0.08 * (i - 1.5),  # side by side, so that no bar hides another
        score[0, i],
        spread[0, i],
        color=color,
        marker="o",
        capsize=4,
        linewidth=2,
        label=f"eps = {eps:g}",
    )
labels = [str(m) for m in MOMENTUMS[:-1]]
axes.set_xticks(positions, [*labels, "None\n(all equal)"])
axes.set_xlabel("Momentum: weight of the newest mini-batch")
axes.set_ylabel("Test accuracy (%)")
axes.set_title("Wine: mean over 20 folds, bars of one standard deviation")
figure.legend(loc="outside right center")
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=120)
    print("\nPicture saved to", sys.argv[1])
