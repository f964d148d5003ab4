"""A stream with checkpoints ends with the same bits, whatever goes wrong meanwhile."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from .laws import unchanged

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

SCRIPT = Path(__file__).parents[1] / "examples" / "stream_with_checkpoints.py"
N_BATCHES, N_ROWS, N_SENSORS = 30, 200, 4


def imported(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


recipe = imported(SCRIPT)


def write(path, prefix="sensor"):
    rng = np.random.default_rng(0)
    names = [f"{prefix} {j}" for j in range(N_SENSORS)]
    fields = [(name, pa.float64()) for name in names] + [("y", pa.int8())]
    with parquet.ParquetWriter(path, pa.schema(fields)) as file:
        for t in range(N_BATCHES):
            X = rng.normal(t / 10, 2.0, (N_ROWS, N_SENSORS))
            y = (X.sum(axis=1) > t / 2.5).astype(np.int8)
            file.write_table(pa.table([*X.T, y], names=[*names, "y"]))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "sensors.parquet"
    write(path)
    return path


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    """What a stream learns that nobody stops."""
    return bits(recipe.stream(data, tmp_path_factory.mktemp("calm")))


def bits(state):
    bn, classifier = (step for _, step in state["pipeline"].steps)
    arrays = [*bn.state_dict().values(), classifier.coef_, classifier.intercept_]
    numbers = [np.array(array).tobytes() for array in arrays]
    return state["n_batches"], state["accuracy"], classifier.t_, numbers


def test_another_process_goes_on(data, expected, tmp_path):
    for every in (1, 7, 100):
        folder = tmp_path / str(every)
        state = recipe.stream(data, folder, every)
        assert bits(state) == expected
        # All there is to learn is in the last checkpoint: nothing happens.
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert bits(recipe.stream(data, folder, every)) == expected
        assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert len(before) <= 2


KILL = """
import os, pickle, random, shutil, signal, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import stream_with_checkpoints as recipe

# Parquet's threads do not live on in a forked process: each has to start its own, so
# this one reads nothing.
data, folder, answers = map(Path, sys.argv[3:6])

def start():
    child = os.fork()
    if not child:
        status = 1
        try:
            state = recipe.stream(data, folder, every=1)
            (answers / f"{os.getpid()}.part").write_bytes(pickle.dumps(state))
            (answers / f"{os.getpid()}.part").rename(answers / str(os.getpid()))
            status = 0
        finally:
            os._exit(status)
    return child

begin = time.monotonic()
assert os.waitpid(start(), 0)[1] == 0
duration = time.monotonic() - begin

rng = random.Random(0)
n_kills = 0
while True:
    shutil.rmtree(folder)
    while True:  # until it comes to its end
        child = start()
        if n_kills < 50:
            time.sleep(rng.uniform(0, 0.4 * duration))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            n_kills += 1
        else:
            assert status == 0
            break
    if n_kills >= 50:
        break
print(n_kills)
"""


@pytest.mark.xdist_group("kill")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes can't fork here")
def test_fifty_kills(data, expected, tmp_path):
    answers = tmp_path / "answers"
    answers.mkdir()
    arguments = [
        SCRIPT.parent,
        Path(__file__).parents[1],
        data,
        tmp_path / "c",
        answers,
    ]
    result = subprocess.run(
        [sys.executable, "-c", KILL, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 50
    states = [recipe.pickle.loads(path.read_bytes()) for path in answers.iterdir()]
    assert len(states) >= 2  # one that was not killed, and those that were
    for state in states:
        assert bits(state) == expected


def damaged(content, kind, where):
    position = int(where * len(content))
    if kind == "truncated":
        return content[:position]
    flipped = bytearray(content)
    flipped[min(position, len(content) - 1)] ^= 1 << int(where * 1e6) % 8
    return bytes(flipped)


@pytest.fixture
def stopped(data, tmp_path, monkeypatch):
    """A folder with two checkpoints, of mini-batches 20 and 25."""

    def save(folder, number, state):
        original(folder, number, state)
        if number == 25:
            raise KeyboardInterrupt

    original = recipe.save
    monkeypatch.setattr(recipe, "save", save)
    with pytest.raises(KeyboardInterrupt):
        recipe.stream(data, tmp_path / "c", every=5)
    monkeypatch.undo()
    return tmp_path / "c"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["truncated", "flipped"]),
    where=st.floats(0, 1, exclude_max=True),
    n_damaged=st.integers(1, 2),
)
def test_a_damaged_checkpoint_is_passed_over(stopped, kind, where, n_damaged):
    contents = {path: path.read_bytes() for path in recipe.whole_names(stopped)}
    for path in list(contents)[:n_damaged]:
        path.write_bytes(damaged(contents[path], kind, where))
    state = recipe.load(stopped)
    if n_damaged == 2:
        assert state is None
    else:
        assert state["n_batches"] == 20
    for path, content in contents.items():
        path.write_bytes(content)
    assert recipe.load(stopped)["n_batches"] == 25


@pytest.mark.parametrize("n_damaged", [0, 1, 2])
def test_what_was_lost_is_learned_again(data, expected, stopped, n_damaged, capsys):
    for path in recipe.whole_names(stopped)[:n_damaged]:
        path.write_bytes(path.read_bytes()[:-1])
    assert bits(recipe.stream(data, stopped, every=5)) == expected
    assert capsys.readouterr().out.count("is damaged") == n_damaged
    assert [path.name for path in recipe.whole_names(stopped)] == [
        "checkpoint-000000030",
        "checkpoint-000000025",
    ]


def test_a_damaged_checkpoint_is_not_one_of_those_kept(stopped):
    newest, before = recipe.whole_names(stopped)
    newest.write_bytes(b"")
    number = recipe.load(stopped)["n_batches"]
    recipe.save(stopped, number + 1, {"n_batches": number + 1})
    names = [path.name for path in recipe.whole_names(stopped)]
    assert names == [f"checkpoint-{number + 1:09d}", before.name]


@pytest.mark.xdist_group("memory")
def test_a_full_disk(data, expected, stopped):
    resource = pytest.importorskip("resource")
    before = {path: path.read_bytes() for path in stopped.iterdir()}
    old_limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old_limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            recipe.stream(data, stopped, every=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limits)
    assert {path: path.read_bytes() for path in stopped.iterdir()} == before
    assert bits(recipe.stream(data, stopped, every=5)) == expected


def test_a_checkpoint_of_other_features(stopped, tmp_path):
    other = tmp_path / "other.parquet"
    write(other, prefix="gauge")
    before = {path: path.read_bytes() for path in stopped.iterdir()}
    with pytest.raises(ValueError, match="feature names should match"):
        recipe.stream(other, stopped)
    assert {path: path.read_bytes() for path in stopped.iterdir()} == before


def test_a_mini_batch_of_another_width_in_mid_stream(data):
    file = parquet.ParquetFile(data)
    frames = [file.read_row_group(t).to_pandas() for t in range(3)]
    pipeline = recipe.make_streaming_pipeline(
        recipe.BatchNorm1dTransformer(), recipe.SGDClassifier(random_state=0)
    )
    for frame in frames[:2]:
        pipeline.partial_fit(frame.drop(columns="y"), frame["y"], classes=[0, 1])
    narrow = frames[2].drop(columns=["y", "sensor 3"])
    missing = pytest.raises(ValueError, match="missing:\n- sensor 3")
    with unchanged(pipeline), missing:
        pipeline.partial_fit(narrow, frames[2]["y"])
    pipeline.partial_fit(frames[2].drop(columns="y"), frames[2]["y"])
    assert pipeline[0].num_batches_tracked_ == 3
    assert_array_equal(pipeline[1].classes_, [0, 1])
