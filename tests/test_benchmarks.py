"""The benchmarks run and print their tables; what they measure is no test."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch):
    """Import one of the benchmarks."""
    if not (ROOT / "benchmarks").exists():
        pytest.skip("the benchmarks are in the repository, not in the package")
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: import_module(f"benchmarks.{name}")


@pytest.fixture
def run(benchmark, monkeypatch, capfd):
    """Run ``python -m benchmarks`` with arguments, and return what it prints."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        monkeypatch.chdir(ROOT)
        benchmark("__main__").main()
        return capfd.readouterr().out

    return main


def test_the_work_is_named(run):
    names = run("--list").splitlines()
    assert len(names) == len(set(names)) > 20
    assert "partial_fit, 32 × 20" in names
    assert run("--list", "--select", "CSR").count("\n") == 1


def test_a_row_of_the_table(run, tmp_path):
    table, picture = tmp_path / "table.md", tmp_path / "picture.png"
    out = run(
        *("--quick", "--select", "transform, 32"),
        *("--markdown", str(table), "--picture", str(picture)),
    )
    row = next(line for line in out.splitlines() if "StandardScaler" in line)
    cells = [cell.strip() for cell in row.strip("| ").split("|")]
    assert cells[:1] + cells[2:3] == ["transform, 32 × 20", "StandardScaler"]
    ours, theirs = (float(cells[i].split()[0]) for i in (1, 3))
    assert float(cells[4]) == pytest.approx(ours / theirs, rel=0.02)
    assert row in table.read_text(encoding="utf-8")
    assert "scikit-learn" in table.read_text(encoding="utf-8")
    assert picture.stat().st_size > 1000


def test_pipelines(benchmark, monkeypatch, capsys):
    pipeline = benchmark("pipeline")
    cases = {name: pipeline.CASES[name] for name in ["32 × 20, regression"]}
    monkeypatch.setattr(pipeline, "CASES", cases | {"sparse": (10, 1000, 0.1, 3)})
    pipeline.main(0)
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == ["32 × 20, regression", "sparse"]
    # Half the time by hand would be a pipeline that does not learn.
    assert all(float(row[3]) > 0.5 for row in rows)


def test_onnx_nodes(benchmark, capsys):
    pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    benchmark("onnx_nodes").measure("float32", (50, 3), rounds=1)
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "float32, 50 × 3"
    error = {line.split("  ")[-1]: float(line.split()[2]) for line in lines[1:]}
    assert len(error) == 5
    assert error.pop("BatchNormalization") > 1e-5  # what the Sub is for
    assert max(error.values()) < 1e-5


def test_dask_simulation_and_formula(benchmark, capsys):
    """Scheduler and workers take turns at being the slower one, not at once."""
    pytest.importorskip("distributed")
    benchmark("dask_scaling").simulation(join=50e-6, schedule=1e-3, sizes=[100, 1000])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    ratios = [float(row[6]) for row in rows if len(row) == 7 and row[0][0].isdigit()]
    assert len(ratios) == 18
    assert 0.8 < min(ratios) <= max(ratios) < 1.25
