"""Speed compared with that of the peers: StandardScaler, PyTorch, River and pandas.

    python -m benchmarks
    python -m benchmarks --quick
    python -m benchmarks --select transform
    python -m benchmarks --markdown docs/performance_table.md --picture out.png

Each row of the table is one piece of work. Our code and a peer's take turns, round
by round, in one process. The ratio is that of the medians, and its spread is the range
between the quartiles of the rounds' own ratios. Setting up is not timed. The clock is
timeit's, with the garbage collector off: pyperf and pytest-benchmark time one function
after the other, whereas these have to alternate. Without --quick, each piece of work
runs in a process of its own; rows that say "plain" use NumPy's loops, the
others the compiled ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.speed import CASES, Row, measure

PACKAGES = (
    *("numpy", "scipy", "scikit-learn", "torch", "river", "pandas"),
    "sk-batchnorm",
)

# Threads of OpenMP that have nothing to do, such as PyTorch's, sleep. By default they
# spin for a while, on the core that the other's turn needs.
PARKED = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def machine() -> str:
    """Processor, number of cores, memory and versions in one paragraph."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if "model name" in line]
        name = lines[0].split(":")[1].strip() if lines else name
    parts = [name, f"{os.cpu_count()} cores"]
    if hasattr(os, "sysconf"):  # not on Windows
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        parts.append(f"{memory / 2**30:.0f} GB")
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} absent, its columns are left out")
    return f"{', '.join(parts)}; {', '.join(versions)}."


def run_apart(names: list[str], kernels: str, quick: bool) -> list[Row]:
    """Measure some cases in a process with the kernels asked for."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--measure", json.dumps(names)]
        + ["--quick"] * quick,
        env={**os.environ, **PARKED, "SK_BATCHNORM_KERNELS": kernels},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Row(*row) for row in json.loads(result.stdout.splitlines()[-1])]


def as_markdown(rows: list[Row]) -> str:
    """Lay the rows out as a Markdown table."""
    lines = [
        "| work | ours | peer | peer's time | ours / peer | quartiles |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.work} | {_time(row.ours)} | {row.peer} | {_time(row.theirs)} "
            f"| {row.ratio:.3g} | {row.low:.3g} to {row.high:.3g} |"
        )
    return "\n".join(lines)


def beside_goal(row: Row) -> str:
    """A row of the table, and whether it meets the goal that contributors go by."""
    line = as_markdown([row]).splitlines()[-1]
    if row.goal is None:
        return line
    met = "met" if row.ratio <= row.goal else "missed"
    return f"{line} goal {row.goal:.3g} {met}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def draw(rows: list[Row], path: str) -> None:
    """Bars of how many times as fast as each peer."""
    import matplotlib.pyplot as plt

    rows = [row for row in rows if not row.peer.startswith("ours")]
    colors = {"StandardScaler": "#0072B2", "PyTorch": "#D55E00", "River": "#009E73"}
    height = 0.27 * len(rows) + 1.2
    figure, axes = plt.subplots(figsize=(10, height), layout="constrained")
    for i, row in enumerate(rows):
        color = colors.get(row.peer.split(",")[0], "#777777")
        axes.barh(i, 1 / row.ratio - 1, left=1, color=color, height=0.7)
    axes.set_yticks(range(len(rows)), [f"{row.work}  |  {row.peer}" for row in rows])
    axes.set_xscale("log")
    axes.set_xticks(
        [0.25, 0.5, 1, 2, 5, 10, 20, 50], ["¼", "½", *map(str, (1, 2, 5, 10, 20, 50))]
    )
    axes.axvline(1, color="black", lw=0.8)
    axes.set_xlabel("Times as fast as the peer")
    axes.invert_yaxis()
    axes.margins(y=0.01)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a minute")
    parser.add_argument("--select", default="", help="only work with this in its name")
    parser.add_argument("--list", action="store_true", help="list the work and stop")
    parser.add_argument("--markdown", help="file to write the table to")
    parser.add_argument("--picture", help="file to draw the table into")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        names = json.loads(arguments.measure)
        print(
            json.dumps(
                [row for name in names for row in measure(name, arguments.quick)]
            )
        )
        return
    names = [name for name in CASES if arguments.select in name]
    if arguments.list:
        print("\n".join(names))
        return
    asked = os.environ.get("SK_BATCHNORM_KERNELS", "")
    plain = [name for name in names if "plain" in name]
    other = [name for name in names if "plain" not in name]
    rows: list[Row] = []
    if arguments.quick:
        groups = [(other, asked), (plain, "numpy")]
    else:
        # A process for each, as a new one is what most users measure.
        groups = [([name], "numpy" if name in plain else asked) for name in names]
    for group, kernels in groups:
        found = run_apart(group, kernels, arguments.quick)
        for row in found:
            print(beside_goal(row), flush=True)
        rows += found
    print("\n" + machine())
    if arguments.markdown:
        text = f"{as_markdown(rows)}\n\n{machine()}\n"
        Path(arguments.markdown).write_text(text, encoding="utf-8")
    if arguments.picture:
        draw(rows, arguments.picture)


if __name__ == "__main__":
    main()
