"""The benchmarks run and print their tables; what they measure is no test."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.compose import StreamingTransformedTargetRegressor
from sk_batchnorm.model_selection import prequential_predict
from sk_batchnorm.pipeline import make_streaming_pipeline

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

    def main(*arguments, name="__main__"):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        monkeypatch.chdir(ROOT)
        benchmark(name).main()
        return capfd.readouterr().out

    return main


def seconds(cell):
    number, unit = cell.split()
    return float(number) * {"ms": 1e-3, "µs": 1e-6}[unit]


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
    ours, theirs = (seconds(cells[i]) for i in (1, 3))
    assert float(cells[4]) == pytest.approx(ours / theirs, rel=0.02)
    assert row[: row.rindex("|")] in table.read_text(encoding="utf-8")
    assert "scikit-learn" in table.read_text(encoding="utf-8")
    assert picture.stat().st_size > 1000


def test_pipelines(benchmark, monkeypatch, capsys):
    pipeline = benchmark("pipeline")
    cases = {name: pipeline.CASES[name] for name in ["32 × 20, regression"]}
    monkeypatch.setattr(pipeline, "CASES", cases | {"sparse": (10, 1000, 0.1, 3)})
    pipeline.main(0)
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == ["32 × 20, regression", "sparse"]


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


# When forgetting helps


@pytest.fixture
def streams(benchmark):
    return benchmark("streams")


def tiny_stream(streams, *, is_classes, horizon=0):
    rng = np.random.default_rng(0)
    X = rng.normal(loc=np.linspace(0, 5, 70)[:, np.newaxis], size=(70, 2))
    y = X[:, 0] - X[:, 1]
    y = (y > 0).astype(int) if is_classes else 100 + y
    return streams.Stream(f"Tiny {is_classes}", "none", "Two columns", X, y, horizon)


@pytest.mark.parametrize("is_classes", [False, True])
def test_a_run_is_a_prequential_evaluation(streams, is_classes):
    stream = tiny_stream(streams, is_classes=is_classes)
    X, y, size = stream.X[5:], stream.y[5:], stream.batch_size
    n = len(X) - len(X) % size  # the loop leaves out what is too short for a variance
    X, y = X[:n], y[:n]
    scaler = BatchNorm1dTransformer(halflife=0.2 * len(stream.X))
    kind, rate = streams.LINEAR, 1e-2
    model = make_streaming_pipeline(
        scaler, streams.model_of(kind, is_classes, rate, seed=3)
    )
    if not is_classes:
        model = StreamingTransformedTargetRegressor(model, transformer=scaler)
    classes = {"classes": [0, 1]} if is_classes else {}
    model.partial_fit(X[:size], y[:size], **classes)
    expected = prequential_predict(model, X[size:], y[size:], batch_size=size)
    expected = expected != y[size:] if is_classes else abs(expected - y[size:])

    batches = streams.normalised(stream, 5, "20 %")
    network = streams.model_of(kind, is_classes, rate, seed=3)
    found = streams.errors(stream, batches, network, scale_target=True)
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-9, atol=1e-9)


def test_predictions_are_those_of_the_model(streams):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    for y in (rng.normal(size=40), rng.integers(2, size=40), rng.integers(4, size=40)):
        for kind in streams.RATES:
            is_classes = y.dtype.kind != "f"
            model = streams.model_of(kind, is_classes, 1e-2, 0)
            model.partial_fit(X, y, **({"classes": np.unique(y)} if is_classes else {}))
            np.testing.assert_allclose(streams.predicted(model, X), model.predict(X))


def test_a_target_is_learned_when_it_is_known(streams):
    stream = tiny_stream(streams, is_classes=False, horizon=6)
    assert (stream.batch_size, stream.wait) == (4, 2)
    model = streams.model_of(streams.LINEAR, False, 1e-2, 0)
    batches = streams.normalised(stream, 0, "StandardScaler")
    n_rows = sum(len(batch.y) for batch in batches)
    found = streams.errors(stream, batches, model, scale_target=True)
    assert len(found) == n_rows - 3 * stream.batch_size


def test_tables_and_picture_of_streams(benchmark, streams, monkeypatch, tmp_path):
    rates = {kind: ([1e-2], [1e-2]) for kind in streams.RATES}
    monkeypatch.setattr(streams, "RATES", rates)
    two = [tiny_stream(streams, is_classes=is_classes) for is_classes in (True, False)]
    results = {}
    for stream in two:
        results |= streams.quietly(stream, 2)
    rows = streams.rows_of(results)
    for (name, kind, target), row in rows.items():
        if target == "":
            assert row["StandardScaler"].mean == 1, (name, kind)
            assert row["inf"].mean == pytest.approx(1, rel=0.05)
    ranks = streams.ranks_of(rows, streams.LINEAR)
    assert np.mean(list(ranks.mean.values())) == (len(ranks.mean) + 1) / 2
    # Table 5 of Demsar (2006): q is 3.164 for ten, 2.728 for five.
    if len(ranks.mean) == 10:
        q = ranks.critical_difference / np.sqrt(10 * 11 / (6 * 2))
        assert q == pytest.approx(3.164, abs=1e-3)
    text = streams.as_markdown(two, results)
    assert text.count("| Tiny True |") == 3
    assert text.count("| Tiny False, target as it is |") == 2
    pytest.importorskip("matplotlib").use("Agg")
    picture = benchmark("streams_picture")
    monkeypatch.setattr(picture, "RATES", rates)
    picture.draw(two, results, str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_streams_are_named(run):
    assert "Digits" in run("--list", name="streams").splitlines()
