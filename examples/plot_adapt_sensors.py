"""
========================
A watch on another wrist
========================

Ten people did seven exercises for the shoulder, with a smartwatch first on one wrist,
then on the other [1]_. A classifier learns from the watch on one wrist to tell which
exercise it is. On the other wrist the axes of the watch point elsewhere, and the
classifier is wrong half of the time. Nobody tells it which exercises are done there.
But the normaliser before it sees the accelerations and the turns, as in
:doc:`plot_adapt_without_labels`, and wins back most of what was lost.

This page also looks for cases in which it doesn't help: another *person*, and exercises
that come one after the other, as they do. The measurements lie beside this script, in
:download:`watch.csv <../../examples/watch.csv>`: mean and standard deviation over four
seconds of three accelerations and three turns.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer

with open(Path(sys.argv[0]).with_name("watch.csv"), encoding="utf-8") as file:
    lines = [line for line in file if not line.startswith("#")]
table = np.genfromtxt(lines, delimiter=",", names=True, dtype=None, encoding="utf-8")
person, wrist, exercise, *features = (table[name] for name in table.dtype.names)
X = np.column_stack(features)

# %%
# Learn here, go there
# --------------------
# Normaliser and classifier learn from some of the windows of four seconds. Then others
# come, eight at a time. They are classified, and after that the normaliser learns from
# them, without labels; the classifier stays as it is. "Frozen" learns nothing.

FROZEN, LEARNING = "StandardScaler, frozen", "StandardScaler, learning"
HALF_LIVES = [8, 32, 128, 512]
NORMALISERS = {
    FROZEN: StandardScaler,
    LEARNING: StandardScaler,
    **{
        f"half-life of {h} windows": lambda h=h: BatchNorm1dTransformer(halflife=h)
        for h in HALF_LIVES
    },
}
BATCH_SIZE, SEEDS = 8, range(3)


def adapt(known, new):
    """Learn from known windows, then say which of the new ones are classified right."""
    found = {}
    classifier = LogisticRegression(max_iter=300)
    classifier.fit(StandardScaler().fit_transform(X[known]), exercise[known])
    for name, make in NORMALISERS.items():
        normaliser = make().fit(X[known])
        right = []
        for batch in np.split(new, range(BATCH_SIZE, len(new), BATCH_SIZE)):
            Z = normaliser.transform(X[batch])
            right.append(classifier.predict(Z) == exercise[batch])
            if name != FROZEN:
                normaliser.partial_fit(X[batch])
        found[name] = np.concatenate(right)
    return found


def mixed(rows, rng):
    """All exercises at random."""
    return rng.permutation(rows)


def sorted_by_exercise(rows, rng):
    """One exercise after the other, which they are at random."""
    names = rng.permutation(np.unique(exercise))
    return np.concatenate([rows[exercise[rows] == name] for name in names])


# %%
# Where it helps, and where it doesn't
# ------------------------------------
# Two tasks are about the wrist, two about people.


def others(rows):
    """All rows but these."""
    return np.setdiff1d(np.arange(len(X)), rows)


LEFT, RIGHT = (np.flatnonzero(wrist == side) for side in ("left", "right"))
PEOPLE = [np.flatnonzero(person == i) for i in np.unique(person)]
TASKS = {
    "left wrist, then right": [(LEFT, RIGHT)],
    "right wrist, then left": [(RIGHT, LEFT)],
    "one person, then another": list(zip(PEOPLE, PEOPLE[1:] + PEOPLE[:1], strict=True)),
    "nine people, then a tenth": [(others(rows), rows) for rows in PEOPLE],
}
ORDERS = {"mixed": mixed, "one exercise after the other": sorted_by_exercise}
results = {}
for order, arrange in ORDERS.items():
    print(f"\nClassified right in %, {order}")
    print(f"{'':27}{'frozen':>8}{'learning':>10}", *(f"{h:8}" for h in HALF_LIVES))
    for task, pairs in TASKS.items():
        runs = []
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            for known, new in pairs:
                # The known ones in random order, so that no half-life forgets some.
                runs.append(adapt(rng.permutation(known), arrange(new, rng)))
        results[order, task] = {n: [100 * run[n] for run in runs] for n in NORMALISERS}
        means = [np.mean([r.mean() for r in v]) for v in results[order, task].values()]
        print(
            f"{task:27}{means[0]:8.0f}{means[1]:10.0f}",
            *(f"{m:8.0f}" for m in means[2:]),
        )

# %%
# The numbers above the columns are half-lives, in windows of four seconds. The first
# two columns are StandardScaler.
#
# - **Another wrist**: a new place of the sensor is just what a normaliser can learn, in
#   half a minute to a few minutes. Where ``StandardScaler`` goes on learning, it gets
#   there late, as the old wrist weighs as much as the new one.
# - **Another person**: there is nothing to gain. Other people move in other ways, but
#   that isn't a shift and a scale of the features.
# - **One exercise after the other**: a half-life of eight windows is shorter than an
#   exercise. The normaliser then subtracts the exercise itself, and the classifier is
#   far worse than behind a frozen one. A half-life that holds all seven exercises does
#   no harm, and still helps on another wrist.
#
# So choose a half-life that is longer than the time in which all classes have come. If
# they never do, leave the normaliser frozen.

COLORS = {FROZEN: "#777777", LEARNING: "#D55E00", "half-life of 128 windows": "#0072B2"}
WRISTS = list(TASKS)[:2]
plt.rc("font", size=12)
figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 5), sharey=True, layout="constrained"
)
for name, color in COLORS.items():
    runs = [run for task in WRISTS for run in results["mixed", task][name]]
    n = 32 * (min(map(len, runs)) // 32)
    course = np.mean([run[:n].reshape(-1, 32).mean(axis=1) for run in runs], axis=0)
    left.plot(
        np.arange(n // 32) * 32 + 16, course, "o-", color=color, lw=2.5, label=name
    )
for order, mark in zip(ORDERS, ["o-", "s--"], strict=True):
    means = [
        np.mean([run.mean() for task in WRISTS for run in results[order, task][name]])
        for name in list(NORMALISERS)[2:]
    ]
    right.plot(HALF_LIVES, means, mark, color="#0072B2", lw=2.5, label=order)
for name in (FROZEN, LEARNING):
    runs = [run for task in WRISTS for run in results["mixed", task][name]]
    right.axhline(np.mean([run.mean() for run in runs]), color=COLORS[name], lw=2.5)
left.set(xlabel="Windows seen on the other wrist", ylabel="Exercise told right (%)")
left.set_title("Exercises mixed", loc="left", weight="bold")
left.legend(loc="lower right")
right.set_xscale("log", base=2)
right.set_xticks(HALF_LIVES, HALF_LIVES)
right.set(xlabel="Half-life (windows)")
right.set_title("By the order in which exercises come", loc="left", weight="bold")
right.legend(loc="lower right")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=110)
    print("\nPicture saved to", sys.argv[1])

# %%
# .. rubric:: References
#
# .. [1] D. M. Burns, N. Leung, M. Hardisty, C. Whyne, P. Henry, S. McLachlin (2018):
#    Shoulder Physiotherapy Exercise Recognition: Machine Learning the Inertial Signals
#    from a Smartwatch. Physiological Measurement 39 (7).
#    https://arxiv.org/abs/1802.01489. Copyright (c) 2018 David M. Burns, BSD licence.
