"""Memory that learning and transforming take in addition to their input.

    python -m benchmarks.memory
    python -m benchmarks.memory --megabytes 2048
    python -m benchmarks.memory --larger-than-ram

The first two compare it with StandardScaler's, as tracemalloc counts it (NumPy
reports its arrays to it). The third learns from a memory-mapped file larger than
this machine's memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer

N_FEATURES = 64
MEGABYTE = 2**20


def peak_megabytes(call: Callable[[], object]) -> float:
    """Largest amount of memory that a call holds at any moment."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MEGABYTE


def peak_resident() -> int:
    """Most bytes that this process has had in memory."""
    import resource  # POSIX has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def table(megabytes: int) -> None:
    """Print the peaks for dense arrays of the given size in megabytes."""
    bn, scaler = BatchNorm1dTransformer(), StandardScaler()
    print(
        f"Peak memory in MB beyond an array of {megabytes} MB, {N_FEATURES} columns\n"
    )
    print(f"{'':26}{'StandardScaler':>16}{'BatchNorm1dTransformer':>25}")
    for dtype in (np.float64, np.float32):
        n_rows = megabytes * MEGABYTE // (N_FEATURES * np.dtype(dtype).itemsize)
        X = np.random.default_rng(0).standard_normal((n_rows, N_FEATURES), np.float32)
        X = X.astype(dtype, copy=False)
        few = X[:20_000]  # what Python keeps is kept
        bn.partial_fit(few).fit(few).transform(few)
        rows = {
            "partial_fit": (
                lambda X=X: scaler.partial_fit(X),
                lambda X=X: bn.partial_fit(X),
            ),
            "fit": (lambda X=X: scaler.fit(X), lambda X=X: bn.fit(X)),
            "transform": (
                lambda X=X: scaler.transform(X),
                lambda X=X: bn.transform(X),
            ),
            "transform, copy=False": (
                lambda X=X: scaler.transform(X, copy=False),
                lambda X=X: bn.transform(X, copy=False),
            ),
        }
        for name, calls in rows.items():
            peaks = [peak_megabytes(call) for call in calls]
            label = f"{np.dtype(dtype).name} {name}"
            print(f"{label:30}{peaks[0]:12.1f}{peaks[1]:25.1f}")


def larger_than_ram(folder: Path) -> None:
    """Stream a memory-mapped file that the memory can't hold."""
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    n_rows = int(1.1 * ram) // (N_FEATURES * 8)
    path = folder / "larger_than_ram.dat"
    try:
        # A file of holes: zeros that take no room on the disk.
        X = np.memmap(path, np.float64, "w+", shape=(n_rows, N_FEATURES))
        gigabytes = X.nbytes / 2**30
        del X
        X = np.memmap(path, np.float64, "r", shape=(n_rows, N_FEATURES))
        start = time.perf_counter()
        peak = peak_megabytes(lambda: BatchNorm1dTransformer().partial_fit(X))
        seconds = time.perf_counter() - start
    finally:
        path.unlink(missing_ok=True)
    print(
        f"partial_fit on a memory-mapped file of {gigabytes:.1f} GB, in "
        f"{ram / 2**30:.1f} GB of memory: {peak:.1f} MB beyond it, {seconds:.0f} s; "
        f"the process had at most {peak_resident() / 2**30:.1f} GB resident, the "
        "mapped pages among them"
    )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--larger-than-ram", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    if arguments.larger_than_ram:
        larger_than_ram(arguments.folder)
    else:
        table(arguments.megabytes)


if __name__ == "__main__":
    main()
