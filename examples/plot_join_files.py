"""
===============================
Many files, learned in parallel
===============================

The readings of a year are in many files, one after the other in time. Each worker reads
a file and fits a transformer of its own to it; :func:`~sk_batchnorm.concatenate` joins
what they have learned. The result is that of one machine that has all rows at once,
except for rounding. No row travels: what a worker sends back is a mean and a variance
of each feature, and their weight.

joblib runs the workers here, as processes of this machine. With another engine only
that line changes; see :ref:`joining_shards`.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed

from sk_batchnorm import BatchNorm1dTransformer, concatenate

N_FILES, N_SENSORS = 12, 8
HALF_LIFE = 20_000  # rows

# %%
# The files
# ---------
# They differ in size, and the sensors drift from one to the next.


def write(folder):
    """Write the readings of drifting sensors, and return the paths in order of time."""
    rng = np.random.default_rng(0)
    level = rng.normal(20.0, 5.0, size=N_SENSORS)
    paths = []
    for month in range(1, N_FILES + 1):
        n_rows = int(rng.integers(2_000, 30_000))
        steps = rng.normal(scale=0.02, size=(n_rows, N_SENSORS))
        drift = level + steps.cumsum(axis=0)
        level = drift[-1]
        paths.append(Path(folder) / f"month-{month:02d}.npy")
        np.save(paths[-1], rng.normal(drift, 2.0))
    return paths


# %%
# The workers
# -----------
# With a half-life the rows count, not the mini-batches. So it makes no difference that
# the files differ in size.


def learn(path):
    """What a worker does: read a file and learn from it."""
    return BatchNorm1dTransformer(halflife=HALF_LIFE).fit(np.load(path))


with TemporaryDirectory() as folder:
    paths = write(folder)
    shards = Parallel(n_jobs=2)(delayed(learn)(path) for path in paths)
    joined = concatenate(shards)

    all_rows = np.concatenate([np.load(path) for path in paths])
    one_machine = BatchNorm1dTransformer(halflife=HALF_LIFE).fit(all_rows)

n_rows = [int(shard.state_dict()["clock"]) for shard in shards]
print(f"{N_FILES} files of {min(n_rows)} to {max(n_rows)} rows")
print(f"half-life of {HALF_LIFE} rows\n")
print("        mean of sensor 0, 1, 2       variance")
for name, bn in [("joined", joined), ("one machine", one_machine)]:
    mean, var = (np.round(a[:3], 6) for a in (bn.running_mean_, bn.running_var_))
    print(f"{name:12}", *mean, " ", *var)
pairs = [
    (joined.running_mean_, one_machine.running_mean_),
    (joined.running_var_, one_machine.running_var_),
]
difference = max(np.abs(a / b - 1).max() for a, b in pairs)
print(f"\nlargest relative difference  {difference:.1e}")

# %%
# The stretches that were joined
# ------------------------------
# Bars are what each worker has learned from its file, mean ± standard deviation. The
# line is what :func:`~sk_batchnorm.concatenate` makes of the files up to each of them:
# the state that one machine would have then.

ends = np.cumsum(n_rows)
so_far = [concatenate(shards[: i + 1]) for i in range(N_FILES)]
mean, std = (
    np.array([a[0] for a in values])
    for values in (
        [bn.running_mean_ for bn in so_far],
        [np.sqrt(bn.running_var_) for bn in so_far],
    )
)
figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
axes.errorbar(
    ends - np.array(n_rows) / 2,
    [shard.running_mean_[0] for shard in shards],
    yerr=[np.sqrt(shard.running_var_[0]) for shard in shards],
    fmt="o",
    color="C1",
    capsize=3,
    label="one file",
)
axes.plot(ends, mean, color="C0", marker=".", label="the files so far, joined")
axes.fill_between(ends, mean - std, mean + std, color="C0", alpha=0.2)
for end in ends[:-1]:
    axes.axvline(end, color="0.85", linewidth=0.8, zorder=0)
axes.set(xlabel="row", ylabel="sensor 0, mean ± standard deviation")
axes.legend(loc="best", frameon=False)
axes.spines[["top", "right"]].set_visible(False)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
    print("\nPicture saved to", sys.argv[1])
