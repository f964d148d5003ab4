"""
===========================================
A file larger than memory, and a sudden end
===========================================

:doc:`stream_with_checkpoints` learns from a Parquet file one mini-batch at a time.
Here it gets a file larger than the memory it may use, and is killed on the way by
SIGKILL, which no process can catch. Started again, it goes on from its last checkpoint.

The readings are simulated: 25 sensors that drift, and a label that depends on what they
measure, not on the drift.
"""

import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

MB = 1_000_000
N_BATCHES, N_ROWS, N_SENSORS = 170, 20_000, 25
MEMORY_LIMIT = 640 * MB


def write(path):
    """Write readings of drifting sensors, a row group for each mini-batch."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=N_SENSORS)
    drift = rng.normal(scale=0.2, size=(N_BATCHES, N_SENSORS)).cumsum(axis=0)
    names = [f"sensor {j}" for j in range(N_SENSORS)]
    fields = [(name, pa.float64()) for name in names] + [("y", pa.int8())]
    plain = {"compression": "none", "use_dictionary": False}
    with ParquetWriter(path, pa.schema(fields), **plain) as file:
        for offset in drift:
            measured = rng.normal(size=(N_ROWS, N_SENSORS))
            y = measured @ truth + rng.normal(size=N_ROWS) > 0
            columns = [*(measured + offset).T, y.astype(np.int8)]
            file.write_table(pa.table(columns, names=[*names, "y"]))


# %%
# The script runs in a process of its own. All that it allocates, the libraries it
# imports included, counts against the limit.

script = Path(sys.argv[0]).absolute().with_name("stream_with_checkpoints.py")
limit = partial(resource.setrlimit, resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def start(path, checkpoints):
    """Stream in another process, under the limit."""
    command = [sys.executable, script, path, checkpoints]
    return subprocess.Popen(command, env=os.environ | one_thread, preexec_fn=limit)


# %%
# We kill the first process once it has saved a few checkpoints, and let the second one
# finish.

sys.path.insert(0, str(script.parent))
from stream_with_checkpoints import load  # noqa: E402

with TemporaryDirectory() as folder:
    path, checkpoints = Path(folder) / "sensors.parquet", Path(folder) / "checkpoints"
    write(path)
    file_size = path.stat().st_size
    print(f"file          {file_size / MB:5.0f} MB")
    print(f"memory limit  {MEMORY_LIMIT / MB:5.0f} MB")

    first = start(path, checkpoints)
    while load(checkpoints) is None or load(checkpoints)["n_batches"] < 70:
        assert first.poll() is None, "it ended by itself"
        time.sleep(0.01)
    first.kill()
    first.wait()
    killed_at = load(checkpoints)["n_batches"]
    print(f"killed; the last checkpoint is of mini-batch {killed_at}")

    second = start(path, checkpoints)
    assert second.wait() == 0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"memory used   {peak / MB:5.0f} MB at most")
    state = load(checkpoints)
    print(f"resumed, and ended after mini-batch {state['n_batches']}")

accuracy = np.array(state["accuracy"])
print(f"accuracy      {accuracy[10:].mean():.3f} over mini-batches not seen before")

# %%
# Neither the drift nor the kill shows in the accuracy.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(10, 3.6), width_ratios=[2.2, 1], layout="constrained"
)
left.plot(np.arange(1, N_BATCHES), accuracy, linewidth=1)
left.axvline(killed_at, color="C3", linestyle="--", linewidth=1.2)
left.annotate(
    "killed, and resumed\nat the last checkpoint",
    (killed_at, 0.25),
    xycoords=("data", "axes fraction"),
    xytext=(6, 0),
    textcoords="offset points",
    color="C3",
)
left.set(xlabel="mini-batch", ylabel="accuracy on the next mini-batch", ylim=(0.5, 1))
sizes = {"file": file_size, "memory limit": MEMORY_LIMIT, "memory used": peak}
bars = right.barh(list(sizes), [size / MB for size in sizes.values()], height=0.6)
right.bar_label(bars, fmt="%.0f MB", padding=3)
right.invert_yaxis()
right.set_xlim(right=1.25 * file_size / MB)
right.set(xlabel="MB")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
    print("\nPicture saved to", sys.argv[1])
