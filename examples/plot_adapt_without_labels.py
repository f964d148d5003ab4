"""
=======================
Adapting without labels
=======================

A classifier has learned to tell the sex of Adélie penguins by bill, flipper and weight.
Then it meets Gentoo penguins, which are heavier: it takes nearly all of them for males.
Nobody tells it the sex of a Gentoo. But the normaliser before it sees their bills,
flippers and weights, and once its mean and variance have moved on to the Gentoos, the
same classifier is mostly right again.

In deep learning this is known as adaptive batch normalisation, AdaBN [1]_. The penguins
lived around Palmer Station, Antarctica [2]_; their measurements lie beside this script,
in :download:`penguins.csv <../../examples/penguins.csv>`.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer

with open(Path(sys.argv[0]).with_name("penguins.csv"), encoding="utf-8") as file:
    lines = [line for line in file if not line.startswith("#")]
penguins = np.genfromtxt(lines, delimiter=",", names=True, dtype=None, encoding="utf-8")
FEATURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
X = np.column_stack([penguins[feature] for feature in FEATURES])
species, sex = penguins["species"], penguins["sex"]

# %%
# Three normalisers
# -----------------
# All three learn from the first group, together with the classifier, which stays as it
# is from then on. The penguins of the second group come eight at a time, and are
# classified before anything is learned from them. The first normaliser does not learn
# from them. For the second, a penguin of the first group goes on weighing as much as a
# new one. For the third, it weighs half as much once 16 new ones have come, and a
# quarter once 32 have.

FROZEN, LEARNING = "StandardScaler, frozen", "StandardScaler, learning"
HALF_LIFE = "Half-life of 16 penguins"
NORMALISERS = {
    FROZEN: StandardScaler(),
    LEARNING: StandardScaler(),
    HALF_LIFE: BatchNorm1dTransformer(halflife=16),
}
BATCH_SIZE, SEEDS = 8, range(20)


def adapt(normaliser, y, first, second):
    """Learn y of the first group, then say which of the second are classified right."""
    model = make_pipeline(clone(NORMALISERS[normaliser]), LogisticRegression())
    model.fit(X[first], y[first])
    right = []
    for batch in np.split(second, range(BATCH_SIZE, len(second), BATCH_SIZE)):
        right.append(model.predict(X[batch]) == y[batch])
        if normaliser != FROZEN:
            model[0].partial_fit(X[batch])  # without y
    return np.concatenate(right)


def percent_right(y, orders):
    """Of each normaliser, an array of (orders, penguins in the second group)."""
    return {n: 100 * np.array([adapt(n, y, *o) for o in orders]) for n in NORMALISERS}


# %%
# Each species after each other
# -----------------------------
# The last row of the table is another task: to tell the *species* of females, after
# having learned from males.

GROUPS = {name: np.flatnonzero(species == name) for name in np.unique(species)}
TASKS = [
    (sex, first, second) for first in GROUPS for second in GROUPS if first != second
]
GROUPS |= {name: np.flatnonzero(sex == name) for name in np.unique(sex)}
TASKS.append((species, "male", "female"))
RESULTS = {}
for y, first, second in TASKS:
    rngs = map(np.random.default_rng, SEEDS)
    orders = [
        [rng.permutation(GROUPS[name]) for name in (first, second)] for rng in rngs
    ]
    RESULTS[first, second] = percent_right(y, orders)
print(f"Classified right in %, mean ± standard deviation over {len(SEEDS)} orders")
print(f"\nLearned    then came {FROZEN:>26}{LEARNING:>26}{HALF_LIFE:>26}")
for (first, second), result in RESULTS.items():
    means = [right.mean(axis=1) for right in result.values()]
    cells = [f"{mean.mean():20.0f} ± {mean.std(ddof=1):3.0f}" for mean in means]
    print(f"{first:11}{second:10}", *cells)

# %%
# What it looks like
# ------------------
# Above, how many of the Gentoos are classified right while they come. Below, the
# weights of the penguins in one of the orders, and the mean that each normaliser
# subtracts. Once that mean has arrived among the Gentoos, heavy and light mean what
# they meant among the Adélies.

COLORS = dict(zip(NORMALISERS, ["#777777", "#D55E00", "#0072B2"], strict=True))
WEIGHT, N_BEFORE = FEATURES.index("body_mass_g"), 72
rng = np.random.default_rng(0)
adelies, gentoos = rng.permutation(GROUPS["Adelie"]), rng.permutation(GROUPS["Gentoo"])
n_seen = np.arange(0, len(gentoos), BATCH_SIZE)
plt.rc("font", size=12)
figure, (top, bottom) = plt.subplots(
    2, figsize=(9, 8), sharex=True, layout="constrained"
)
for name, right in RESULTS["Adelie", "Gentoo"].items():
    style = {"color": COLORS[name], "linewidth": 2.5, "zorder": 3}
    accuracy = [right[:, n : n + BATCH_SIZE].mean() for n in n_seen]
    top.plot(n_seen, accuracy, "o-", label=name, **style)
    normaliser, means = clone(NORMALISERS[name]).fit(X[adelies]), []
    for n in n_seen:
        means.append(normaliser.inverse_transform(np.zeros_like(X[:1]))[0, WEIGHT])
        if name != FROZEN:
            normaliser.partial_fit(X[gentoos[n : n + BATCH_SIZE]])
    bottom.plot([-N_BEFORE, *n_seen], [means[0], *means], **style)
shown = np.append(adelies[-N_BEFORE:], gentoos)
for name, face in [("male", "0.3"), ("female", "none")]:
    at = np.flatnonzero(sex[shown] == name)
    weights = X[shown[at], WEIGHT]
    bottom.scatter(at - N_BEFORE, weights, 24, face, edgecolors="0.3", label=name)
for axes in (top, bottom):
    axes.axvline(-0.5, color="k", linewidth=1)
top.text(-3, 98, "Adélies, with labels", ha="right", va="top")
top.text(2, 98, "Gentoos, without labels", va="top")
top.set(ylabel="Sex told right (%)", ylim=(40, 100))
bottom.set(ylabel="Weight (g), and mean subtracted", xlabel="Gentoos seen")
top.legend(loc="center left")
bottom.legend(loc="upper left")
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=120)
    print("\nPicture saved to", sys.argv[1])

# %%
# What it assumes, and how it fails
# ---------------------------------
# Without labels, a normaliser takes every change for one of the measurements. It
# assumes that both groups are *mixed alike*: as many males among the Gentoos as among
# the Adélies. If only males come, the mean moves up to theirs, and the lighter ones of
# them are taken for females.
#
# So here the mix shifts, and nothing else: the classifier learns from Adélies, as many
# males as females, and then meets other Adélies. The further their mix is from one
# half, the more a half-life costs, and "frozen" is best.
#
# No half-life can tell the two cases apart. If the mix may shift, keep the normaliser
# frozen until there are labels, or choose a half-life so long that it holds rows of all
# kinds. Take the same care if rows come sorted, first the females and then the males.

SHARES, N_KNOWN, N_NEW = [0, 0.25, 0.5, 0.75, 1], 33, 40
MALES, FEMALES = (
    np.intersect1d(GROUPS["Adelie"], GROUPS[s]) for s in ("male", "female")
)


def draw_mixed(share, rng):
    """Draw Adélies, half of them male, then other Adélies, of whom a share is male."""
    males, females = rng.permutation(MALES), rng.permutation(FEMALES)
    n_males = round(share * N_NEW)
    known = np.append(males[:N_KNOWN], females[:N_KNOWN])
    new = np.append(males[N_KNOWN:][:n_males], females[N_KNOWN:][: N_NEW - n_males])
    return rng.permutation(known), rng.permutation(new)


print("\nAdelie after Adelie, by the share of males among those that came")
print(f"{'':25}", *(f"{share:6.0%}" for share in SHARES))
mixed = []
for share in SHARES:
    orders = [draw_mixed(share, np.random.default_rng(seed)) for seed in SEEDS]
    mixed.append(percent_right(sex, orders))
figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
for name, color in COLORS.items():
    means = [result[name].mean() for result in mixed]
    print(f"{name:25}", *(f"{mean:6.0f}" for mean in means))
    axes.plot(
        100 * np.array(SHARES), means, "o-", color=color, linewidth=2.5, label=name
    )
axes.set(xlabel="Males among the Adélies that came (%)", ylabel="Sex told right (%)")
axes.legend(loc="lower center")

# %%
# .. rubric:: References
#
# .. [1] Y. Li, N. Wang, J. Shi, J. Liu, X. Hou (2016): Revisiting Batch Normalization
#    For Practical Domain Adaptation. https://arxiv.org/abs/1603.04779.
# .. [2] K. B. Gorman, T. D. Williams, W. R. Fraser (2014): Ecological Sexual Dimorphism
#    and Environmental Variability within a Community of Antarctic Penguins (Genus
#    *Pygoscelis*). PLOS ONE 9(3): e90081.
#    https://doi.org/10.1371/journal.pone.0090081. Public domain (CC0).
