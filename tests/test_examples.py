"""Every example saves its picture where the command line says, and shows public names.

The gallery of the docs runs them all. Here the shortest one runs, as by a user.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("plot_*.py"))


def test_from_the_command_line(tmp_path):
    """Without a display or a warning."""
    if not EXAMPLES:
        pytest.skip("the examples are in the repository, not in the package")
    [path] = [path for path in EXAMPLES if path.stem == "plot_choose_halflife"]
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


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_saves_its_picture_and_shows_public_names(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    [saves] = [ast.unparse(node) for node in tree.body if isinstance(node, ast.If)][-1:]
    assert saves.startswith("if len(sys.argv) > 1:\n    figure.savefig(sys.argv[1]")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sk_batchnorm"):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            assert not any(name.startswith("_") for name in names)
