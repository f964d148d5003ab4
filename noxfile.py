"""One verb for each habit: ``nox -l`` lists them, ``nox -s tests`` runs one.

Each session has an environment of its own, in ``.nox``; ``-r`` uses it again.
"""

import os
import re
import shlex
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types"]
nox.needs_version = ">=2025.5.1"

HERE = Path(__file__).parent
# CPU builds are what the tests need; pip alone might choose gigabytes of CUDA.
TORCH = "torch==2.13.0"
PROJECT = nox.project.load_toml("pyproject.toml")["project"]
PEERS = [
    *PROJECT["optional-dependencies"]["dask"],
    *PROJECT["optional-dependencies"]["onnx"],
    *("-r", ".ci/peers.txt"),
]
# Where the loops don't matter, they need not be compiled.
UNCOMPILED = {"CC": "false"}
STRICT = {"SK_BATCHNORM_FLOAT_ERRORS": "raise"}  # which no result may depend on
PARALLEL = ["-n", "auto"]
CORE = ["dispatch", "inputs", "kernels", "memory", "moments", "nist", "normalize"]
CORE += ["pytorch", "running_stats", "transformer"]


def _pytest(session: nox.Session, *arguments: str, **env: str) -> None:
    env = {"MPLBACKEND": "Agg"} | env
    session.run("python", "-m", "pytest", *arguments, *session.posargs, env=env)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, with what the extra `test` brings."""
    session.install("-e", ".[test]")
    _pytest(session, *PARALLEL)


@nox.session
def peers(session: nox.Session) -> None:
    """All tests, with all that they compare with."""
    session.install(TORCH)
    session.install(*PEERS, "-e", ".[test]")
    _pytest(session, *PARALLEL, SK_BATCHNORM_REQUIRE_PEERS="1")


@nox.session
def oldest(session: nox.Session) -> None:
    """All tests on the oldest dependencies, under NumPy's strictest error state."""
    session.install("-c", ".ci/constraints-oldest.txt", "-e", ".[test]")
    _pytest(session, *PARALLEL, SK_BATCHNORM_KERNELS="compiled", **STRICT)


@nox.session
def plain(session: nox.Session) -> None:
    """What is computed, with NumPy's loops, under its strictest error state."""
    session.install("-e", ".[test]")
    files = [f"tests/test_{name}.py" for name in CORE]
    _pytest(session, *PARALLEL, *files, SK_BATCHNORM_KERNELS="numpy", **STRICT)


@nox.session
def weekly(session: nox.Session) -> None:
    """What the peers do, and all tests in random order with many examples."""
    session.install(TORCH)
    session.install(*PEERS, "-e", ".[test]", "pytest-randomly")
    env = {"SK_BATCHNORM_REQUIRE_PEERS": "1"}
    _pytest(session, "tests/test_peers.py", "-m", "peers", **env)
    _pytest(session, *PARALLEL, "--hypothesis-profile=long", **env)


@nox.session
def candidates(session: nox.Session) -> None:
    """All tests with what NumPy, SciPy and scikit-learn are about to release."""
    session.install("-e", ".[test]")
    session.install("--upgrade", "--pre", "numpy", "scipy", "scikit-learn")
    _pytest(session, *PARALLEL)


@nox.session
def mutants(session: nox.Session) -> None:
    """Mistakes made on purpose, which the tests should notice: 20 minutes."""
    session.install("-e", ".[test]", "mutmut", "array-api-strict")
    env = {"SK_BATCHNORM_KERNELS": "numpy"}
    session.run("mutmut", "run", *session.posargs, env=env)
    session.run("mutmut", "results")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and spelling."""
    session.install("ruff>=0.9", "codespell>=2.4")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the package, and of a user's script by two checkers."""
    session.install(TORCH)
    session.install("-e", ".[dask,onnx,dev]", env=UNCOMPILED)
    session.run("mypy")
    session.run("pyright", "--pythonpath", f"{session.bin}/python")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, with the examples' pictures, in docs/_build/html."""
    session.install(TORCH)  # with which the module's page is made of the module itself
    session.install("-e", ".[docs]")
    build = "python -m sphinx -q -W --keep-going -b html docs docs/_build/html"
    session.run(*shlex.split(build), *session.posargs, env={"MPLBACKEND": "Agg"})


@nox.session
@nox.parametrize("extra", ["plot", "onnx", "dask", "torch"])
def extras(session: nox.Session, extra: str) -> None:
    """Each extra does what it is for, alone."""
    if extra == "torch":
        session.install(TORCH)
    # Compiling all modules, most of which are never imported, takes half of the time.
    session.install("--no-compile", "-e", f".[{extra}]", env=UNCOMPILED)
    session.run("python", f".ci/extras/try_{extra}.py", env={"MPLBACKEND": "Agg"})


@nox.session
def wheel(session: nox.Session) -> None:
    """The built package, without the repository and without a compiler."""
    session.install("build", "twine")
    session.run("bash", ".ci/wheel", f"{session.bin}/python", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """The table of docs/performance.rst, beside all peers."""
    session.install(TORCH)
    session.install(*PEERS, "-e", ".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs)


def _commands(page: str) -> list[str]:
    """Shell commands that a page tells its reader to type."""
    text = (HERE / page).read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@nox.session
@nox.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def commands(session: nox.Session, page: str) -> None:
    """All that a page tells its reader to type, as it stands there, on a fresh clone.

    With SK_BATCHNORM_REQUIRE_PEERS=1, what the tests compare with is there first.
    """
    clone = Path(session.create_tmp()) / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    session.run("git", "clone", "--quiet", str(HERE), str(clone), external=True)
    session.chdir(clone)
    env = {"MPLBACKEND": "Agg"}
    if page == "README.md" and os.environ.get("SK_BATCHNORM_REQUIRE_PEERS"):
        session.run("python3", "-m", "venv", ".venv", external=True)
        pip = [".venv/bin/python", "-m", "pip", "install", "--quiet"]
        session.run(*pip, TORCH, external=True)
        session.run(*pip, *PEERS, external=True)
        # With few examples, as coverage takes its time, and other sessions draw more.
        env["PYTEST_ADDOPTS"] = "--cov --cov-fail-under=95 --hypothesis-profile=quick"
    for command in _commands(page):
        session.log(command)
        session.run("bash", "-euc", command, env=env, external=True)
