"""The benchmark runs; what it measures is no test."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments):
    if not (ROOT / "benchmarks").exists():
        pytest.skip("the benchmarks are in the repository, not in the package")
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def seconds(cell):
    number, unit = cell.split()
    return float(number) * {"ms": 1e-3, "µs": 1e-6}[unit]


def test_the_work_is_named():
    names = run("--list").splitlines()
    assert len(names) == len(set(names)) > 20
    assert "partial_fit, 32 × 20" in names
    assert run("--list", "--select", "CSR").count("\n") == 1


def test_a_row_of_the_table(tmp_path):
    table, picture = tmp_path / "table.md", tmp_path / "picture.png"
    out = run(
        *("--quick", "--select", "transform, 32"),
        *("--markdown", str(table), "--picture", str(picture)),
    )
    row = next(line for line in out.splitlines() if "StandardScaler" in line)
    cells = [cell.strip() for cell in row.strip("| ").split("|")]
    assert cells[:1] + cells[2:3] == ["transform, 32 × 20", "StandardScaler"]
    ours, theirs = (seconds(cells[i]) for i in (1, 3))
    assert float(cells[4]) == pytest.approx(ours / theirs, rel=0.02)
    assert row[: row.rindex("|")] in table.read_text(encoding="utf-8")
    assert "scikit-learn" in table.read_text(encoding="utf-8")
    assert picture.stat().st_size > 1000
