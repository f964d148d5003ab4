"""
===================================
A stream that survives being killed
===================================

A pipeline learns from a Parquet file that need not fit into memory, mini-batch by
mini-batch, and saves a checkpoint every so often. Whatever ends the process (a
power cut, the out-of-memory killer, an impatient administrator), the same command
goes on after the last checkpoint, and ends with the same bits as a process that was
never stopped:

.. code-block:: sh

   python stream_with_checkpoints.py sensors.parquet checkpoints

:doc:`plot_out_of_core` runs it under a memory limit smaller than the file, and kills
it. Copy this script and adapt it: a checkpoint holds whatever ``state`` holds.
"""

import hashlib
import os
import pickle
import sys
from pathlib import Path

from pyarrow.parquet import ParquetFile
from sklearn.linear_model import SGDClassifier

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.pipeline import make_streaming_pipeline

# %%
# A checkpoint is there as a whole or not at all: it is written under another name,
# forced to the disk, and renamed, which is a single step for the file system. If the
# disk damages it later, the digest in front of it reveals that, and the checkpoint
# before it has been kept.


def save(folder, number, state):
    """Write a checkpoint, and keep the one before it."""
    data = pickle.dumps(state)
    path = folder / f"checkpoint-{number:09d}"
    part = folder / "checkpoint.part"
    try:
        with part.open("wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:  # a full disk, say: the checkpoints of before are still there
        part.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder can't be opened
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)  # the new name, too, is on the disk now
        os.close(directory)
    for old in whole_names(folder)[2:]:
        old.unlink()


def load(folder):
    """Read the last checkpoint that is whole, None if there is none."""
    for path in whole_names(folder):
        content = path.read_bytes()
        digest, data = content[:32], content[32:]
        if hashlib.sha256(data).digest() == digest:
            return pickle.loads(data)
        print(f"{path.name} is damaged: going back to the one before")
        path.replace(path.with_suffix(".damaged"))  # lest it count as one that is kept
    return None


def whole_names(folder):
    """Checkpoints under their own names, the newest first."""
    return sorted(folder.glob("checkpoint-?????????"), reverse=True)


# %%
# A mini-batch is a row group of the file. The pipeline predicts each mini-batch before
# it learns from it, so that the accuracy is measured on data never seen.


def stream(path, folder, every=10):
    """Learn from all mini-batches of a file that no checkpoint holds yet."""
    file = ParquetFile(path)
    folder.mkdir(exist_ok=True)
    state = load(folder) or {
        "n_batches": 0,
        "accuracy": [],
        "pipeline": make_streaming_pipeline(
            BatchNorm1dTransformer(variance="total", bias_correction=True),
            SGDClassifier(random_state=0),
        ),
    }
    pipeline = state["pipeline"]
    for number in range(state["n_batches"], file.num_row_groups):
        X = file.read_row_group(number).to_pandas()
        y = X.pop("y")
        if number > 0:
            state["accuracy"].append(pipeline.score(X, y))
        pipeline.partial_fit(X, y, classes=[0, 1])
        state["n_batches"] = number + 1
        if state["n_batches"] % every == 0 or number + 1 == file.num_row_groups:
            save(folder, state["n_batches"], state)
    return state


# %%
# The result has the same bits if whatever the next mini-batch depends on is in the
# state, random numbers come from a fixed ``random_state``, and the file does not
# change. Load only checkpoints of your own, since a pickle may run any code: the digest
# detects damage, not forgery.

if __name__ == "__main__":
    state = stream(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{state['n_batches']} mini-batches learned")
