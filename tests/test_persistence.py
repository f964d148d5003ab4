"""What is saved and loaded is the same transformer, to the bit.

By each library, in another process, of an older version; what no state may be no file
may hold.
"""

import copy
import importlib
import json
import os
import pickle
import pickletools
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_batchnorm import BatchNorm1dTransformer as BatchNorm
from sk_batchnorm.pipeline import make_streaming_pipeline

DATA = Path(__file__).parent / "data"
OURS = "sk_batchnorm._transformer.BatchNorm1dTransformer"
X = np.random.default_rng(3).normal([1.0, -20.0, 300.0], 10.0, (8, 3))
LIBRARIES = ("pickle", "joblib", "cloudpickle", "skops.io")


def cases():
    """Transformers of every kind of state, by name."""
    return runpy.run_path(str(DATA / "make_pickle_golden.py"))["cases"]()


def save(library, obj, path):
    if library == "joblib":
        joblib.dump(obj, path)
    else:
        Path(path).write_bytes(importlib.import_module(library).dumps(obj))


def load(library, path):
    if library == "joblib":
        return joblib.load(path)
    data = Path(path).read_bytes()
    if library == "skops.io":
        return importlib.import_module(library).loads(data, trusted=[OURS])
    return importlib.import_module(library).loads(data)


def can_save(library, case):
    # Of scikit-learn's own estimators with requests too skops 0.16 makes a
    # RecursionError: since scikit-learn 1.9 they refer to the estimator.
    return (library, case) != ("skops.io", "metadata requests")


def is_there(library):
    return find_spec(library.partition(".")[0]) is not None


def rows_for(bn):
    names = getattr(bn, "feature_names_in_", None)
    return X if names is None else pd.DataFrame(X, columns=names)


def to_the_bit(value):
    """The text of a value, of all the bits of an array."""
    if isinstance(value, dict):
        return str({key: to_the_bit(item) for key, item in value.items()})
    if isinstance(value, np.ndarray) and value.dtype.kind in "if":
        return f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    return repr(value)


def description(bn):
    """All that a transformer knows and does, and does next, to the bit."""
    known = {
        "parameters": bn.get_params(),
        "output": getattr(bn, "_sklearn_output_config", None),
        "routing": bn.get_metadata_routing().fit.requests,
        "names": list(getattr(bn, "feature_names_in_", ())),
    }
    if bn.__sklearn_is_fitted__():
        rows = rows_for(bn)
        known |= {"state": bn.state_dict(), "width": bn.n_features_in_}
        known["transform"] = np.array(bn.transform(rows, copy=True))
        known["type"] = type(bn.transform(rows, copy=True)).__name__
        clock = bn.state_dict().get("clock", np.int64(0))
        # Later than those of make_pickle_golden.py, if it had times.
        times = 1e3 + np.arange(len(X)) if clock.dtype.kind == "f" else None
        after = copy.deepcopy(bn).partial_fit(rows, times=times)
        known["next"] = after.state_dict()
    return to_the_bit(known)


def write_descriptions(folder):
    """What another process finds in the files, for the test to compare."""
    for path in sorted(Path(folder).glob("*/*.saved")):
        path.with_suffix(".found").write_text(description(load(path.parent.name, path)))


def assert_read_only(bn):
    for array in (bn.running_mean_, bn.running_var_, bn.num_batches_tracked_):
        assert not isinstance(array, np.ndarray) or not array.flags.writeable


def test_another_process_reads_the_same_to_the_bit(tmp_path):
    class Doubled(BatchNorm):  # which that process does not have
        def transform(self, X, copy=None):
            return 2 * super().transform(X, copy)

    saved = {}
    for library in filter(is_there, LIBRARIES):
        (tmp_path / library).mkdir()
        bns = {case: bn for case, bn in cases().items() if can_save(library, case)}
        if library == "cloudpickle":
            bns["subclass"] = Doubled().fit(X)
        for case, bn in bns.items():
            path = tmp_path / library / f"{case}.saved"
            save(library, bn, path)
            saved[path] = bn
    code = "import runpy, sys\n"
    code += "runpy.run_path(sys.argv[1])['write_descriptions'](sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, __file__, tmp_path], check=True)
    for path, bn in saved.items():
        assert path.with_suffix(".found").read_text() == description(bn), path


@pytest.mark.parametrize("library", LIBRARIES)
def test_loaded_statistics_are_read_only(library, tmp_path):
    pytest.importorskip(library)
    for case in ("default", "counts of each feature"):
        save(library, cases()[case], tmp_path / "file")
        loaded = load(library, tmp_path / "file")
        assert_read_only(loaded)
        loaded.weight_ *= 2


def test_skops_has_to_trust_our_class_alone():
    skops = pytest.importorskip("skops.io")
    for case, bn in cases().items():
        if can_save("skops.io", case):
            data = skops.dumps(make_pipeline(StandardScaler(), bn))
            assert skops.get_untrusted_types(data=data) == [OURS]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_names_no_other_class_of_ours(protocol):
    # Each name in it is one that later versions must keep where it is.
    for bn in cases().values():
        pickled = pickle.dumps(bn, protocol)
        args = [arg for _, arg, _ in pickletools.genops(pickled)]
        ours = {arg for arg in args if str(arg).startswith("sk_batchnorm")}
        assert ours
        assert ours <= {"sk_batchnorm._transformer", " ".join(OURS.rsplit(".", 1))}
        assert description(pickle.loads(pickled)) == description(bn)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_memory_mapped_by_joblib(mode, tmp_path):
    for case, bn in cases().items():
        joblib.dump(bn, tmp_path / case)
        mapped = joblib.load(tmp_path / case, mmap_mode=mode)
        assert description(mapped) == description(bn)
        if case == "default":
            assert isinstance(mapped.running_mean_.base, np.memmap)
            assert_read_only(mapped)
            assert not isinstance(mapped.transform(X), np.memmap)


def test_out_of_band_buffers():
    bn, buffers = cases()["counts of each feature"], []
    pickled = pickle.dumps(bn, protocol=5, buffer_callback=buffers.append)
    loaded = pickle.loads(pickled, buffers=buffers)
    assert description(loaded) == description(bn)
    assert_read_only(loaded)


def test_skops_has_to_trust_a_streaming_pipeline(tmp_path):
    skops = pytest.importorskip("skops.io")
    pipe = make_streaming_pipeline(BatchNorm(), SGDClassifier())
    data = skops.dumps(pipe.fit(X, np.arange(8) % 2))
    types = skops.get_untrusted_types(data=data)
    assert types == [OURS, "sk_batchnorm.pipeline.StreamingPipeline"]
    loaded = skops.loads(data, trusted=types)
    assert_array_equal(loaded.decision_function(X), pipe.decision_function(X))


# Files that someone has changed


def saved_with(library, path, changes):
    """Save a transformer with other attributes than it may have."""
    bn = cases()["default"]
    state = {k: v for k, v in (bn.__getstate__() | changes).items() if v is not ...}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchNorm, "__getstate__", lambda self: state)
        save(library, bn, path)


BAD_STATES = [
    *[("running_var", [1.0, bad, 1.0]) for bad in (-1.0, np.inf, np.nan)],
    *[("running_var", bad) for bad in ([1.0], ["a", "b", "c"])],
    *[("running_mean", [0.0, 0.0, bad]) for bad in (np.nan, -np.inf)],
    *[("running_mean", bad) for bad in ([0.0], [[0.0, 0.0, 0.0]], [0j, 0j, 0j])],
    *[("num_batches_tracked", bad) for bad in (-1, 1.0, [1, 2], [1, -2, 3])],
    *[("weight", bad) for bad in ([1.0], [1.0, np.nan, 1.0])],
    *[("bias", bad) for bad in ([0.0, 0.0], [0.0, 0.0, np.inf])],
]


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_a_state_dict_may_not_hold_no_file_may(library, tmp_path):
    pytest.importorskip(library)
    good = cases()["default"].state_dict()
    names = ("running_mean", "running_var", "num_batches_tracked")
    for key, bad in BAD_STATES:
        value = np.array(bad) if isinstance(bad, list) else bad
        with pytest.raises(ValueError, match=key) as expected:
            BatchNorm(3).load_state_dict(good | {key: value})
        if key in ("weight", "bias"):
            changes = {f"{key}_": value}
        else:
            stats = good | {"num_batches_tracked": 1, key: value}
            changes = {"_running_stats": tuple(stats[name] for name in names)}
        saved_with(library, tmp_path / "file", changes)
        # assume_finite is about data, not about what is loaded.
        with sklearn.config_context(assume_finite=True):
            with pytest.raises(ValueError, match=key) as refused:
                load(library, tmp_path / "file")
            with pytest.raises(ValueError, match=key):
                BatchNorm(3).load_state_dict(good | {key: value})
        assert str(refused.value) == str(expected.value)


STATS = (np.zeros(3), np.ones(3), 4)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_file_whose_parts_do_not_agree(library, tmp_path):
    pytest.importorskip(library)
    missing = {"n_features_in_": ..., "bias_": ...}
    for changes, message in [
        ({"n_features_in_": 2}, r"shape \(3,\), expected \(2,\)"),
        ({"feature_names_in_": np.array(["a"])}, "feature_names_in_ has shape"),
        ({"weight_": ...}, r"missing \['weight_'\]"),
        (missing, r"missing \['n_features_in_', 'bias_"),
        *[
            ({"_running_stats": (*STATS, bad)}, "start_weight must be from 0 to 1")
            for bad in (1.5, -1.0, np.nan, np.zeros(2))
        ],
    ]:
        saved_with(library, tmp_path / "file", changes)
        with pytest.raises(ValueError, match=message):
            load(library, tmp_path / "file")


@pytest.mark.parametrize("dtype", [">f8", "<f8"])
def test_statistics_of_the_other_byte_order(dtype, tmp_path):
    mean, var = np.arange(3.0), np.arange(1.0, 4.0)
    stats = (mean.astype(dtype), var.astype(dtype), 4)
    saved_with("pickle", tmp_path / "file", {"_running_stats": stats})
    loaded = load("pickle", tmp_path / "file")
    assert loaded.running_mean_.dtype.isnative
    assert_array_equal(loaded.running_mean_, mean)
    assert_array_equal(loaded.running_var_, var)


def test_a_feature_that_was_never_observed_is_loaded(tmp_path):
    stats = (np.array([np.nan, 1.0]), np.array([np.nan, 2.0]), np.array([0, 4]))
    changes = {"_running_stats": stats, "n_features_in_": 2}
    changes |= {"weight_": None, "bias_": None}
    saved_with("pickle", tmp_path / "file", changes)
    loaded = load("pickle", tmp_path / "file")
    assert_array_equal(loaded.running_mean_, stats[0])
    assert_array_equal(loaded.num_batches_tracked_, [0, 4])


# Arrays of other namespaces


def learned_from_tensors():
    torch = pytest.importorskip("torch")
    if os.environ.get("SCIPY_ARRAY_API") != "1":
        pytest.skip("needs SCIPY_ARRAY_API=1")
    with sklearn.config_context(array_api_dispatch=True):
        bn = BatchNorm(weight_init=torch.tensor([1.0, 2.0, 3.0]))
        bn.fit(torch.tensor(X)).partial_fit(torch.tensor(X))
    bn.forward(X)
    bn.backward(X)  # gradients, too
    return bn


@pytest.mark.parametrize("library", LIBRARIES)
def test_tensors_come_back(library, tmp_path):
    pytest.importorskip(library.partition(".")[0])
    bn = learned_from_tensors()
    save(library, bn, tmp_path / "file")
    loaded = load(library, tmp_path / "file")
    for name in ("running_mean_", "weight_", "bias_", "weight_grad_", "bias_grad_"):
        value, expected = getattr(loaded, name), getattr(bn, name)
        assert type(value) is type(expected)
        assert_array_equal(value, expected)
        assert value.device == expected.device
    with sklearn.config_context(array_api_dispatch=True):
        tensor = bn.running_mean_[None, :] + 1.0
        assert_array_equal(loaded.transform(tensor), bn.transform(tensor))


def test_tensors_are_read_without_their_library(tmp_path):
    bn = learned_from_tensors()
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(bn))
    assert b"torch\n" not in pickle.dumps(bn, 0).replace(b"Vtorch\n", b"")  # its name
    code = (
        "import pickle, sys, numpy as np\n"
        "class Missing:\n"
        "    def find_spec(name, path, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing)\n"
        "bn = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for name in ('running_mean_', 'weight_', 'weight_grad_', 'weight_init'):\n"
        "    assert type(getattr(bn, name)) is np.ndarray, name\n"
        "assert 'torch' not in sys.modules\n"
        "print(bn.transform(np.eye(3)).tobytes().hex())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == bn.transform(np.eye(3)).tobytes().hex()


@pytest.mark.parametrize("place", [("torch", "cuda:99"), ("antigravity", "cpu")])
def test_a_file_that_names_what_is_not_there(place):
    """No module but those of arrays is imported, whatever a file names."""
    bn = learned_from_tensors()
    state = bn.__getstate__()
    assert state["_template"] == ("torch", "cpu")
    loaded = BatchNorm()
    loaded.__setstate__(state | {"_template": place})
    assert "antigravity" not in sys.modules
    assert type(loaded.running_mean_) is type(loaded.weight_) is np.ndarray
    assert_array_equal(loaded.transform(X), bn.transform(X))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_goes_its_own_way(copied):
    bn = cases()["counts of each feature"]
    before = description(bn)
    other = copied(bn)
    assert description(other) == before
    other.partial_fit(X)
    assert description(bn) == before != description(other)


@pytest.mark.parametrize("method", ["partial_fit", "fit", "reset_running_stats"])
def test_learning_keeps_what_a_subclass_does_not_save(method):
    class WithLock(BatchNorm):
        def __getstate__(self):
            return {k: v for k, v in super().__getstate__().items() if k != "lock"}

    bn = WithLock().fit(X)
    bn.lock = lock = Lock()
    getattr(bn, method)(*[X] * (method != "reset_running_stats"))
    assert bn.lock is lock
    assert not hasattr(copy.deepcopy(bn), "lock")


def test_saving_changes_nothing():
    bn = cases()["default"]
    attributes, stats = vars(bn), bn._running_stats
    pickle.dumps(bn)
    assert vars(bn) is attributes
    assert bn._running_stats is stats


def test_loading_is_one_assignment():
    bn, other = cases()["default"], cases()["feature names"]
    attributes, before = vars(bn), description(bn)
    with pytest.raises(ValueError, match="does not fit"):
        bn.__setstate__(vars(other) | {"_running_stats": (np.zeros(3),)})
    assert vars(bn) is attributes
    assert description(bn) == before
    state = other.__getstate__()
    bn.__setstate__(state)
    # Who holds the attributes of before holds all of them; the state is not ours.
    assert attributes.keys() != vars(bn).keys()
    assert vars(bn) is not state
    assert description(bn) == description(other)


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize(
    "changes", [{"momentum": 2}, {"momentum": [0.1]}, {"variance": "none"}]
)
def test_what_was_learned_outlives_a_bad_parameter(bias_correction, changes):
    bn = BatchNorm(bias_correction=bias_correction)
    bn.partial_fit(X).partial_fit(X)
    before = bn.state_dict()
    bn.set_params(**changes)
    for other in (copy.deepcopy(bn), pickle.loads(pickle.dumps(bn))):
        assert_array_equal(other.state_dict()["running_mean"], before["running_mean"])
    state = bn.__getstate__()
    old = state | {"_running_stats": state["_running_stats"][:4]}
    bn.__setstate__(old)  # as a version wrote it that knew no weight
    assert_array_equal(bn.running_var_, before["running_var"])


# Golden pickles, each written by a version when it was released


GOLDEN = {path.stem: np.load(path) for path in sorted(DATA.glob("pickle_*.npz"))}


@pytest.mark.parametrize(
    ("version", "case"),
    [
        (version, key.removesuffix("/parameters"))
        for version, golden in GOLDEN.items()
        for key in golden
        if key.endswith("/parameters")
    ],
)
@pytest.mark.parametrize("protocol", [4, 5])
# NumPy 2 says so of protocol 5 of NumPy 1.
@pytest.mark.filterwarnings("ignore:numpy.core.numeric is deprecated")
def test_golden_pickles(version, case, protocol):
    golden = GOLDEN[version]
    bn = pickle.loads(golden[f"{case}/pickle{protocol}"].tobytes())
    parameters = json.loads(str(golden[f"{case}/parameters"]))
    for name, value in parameters.items():
        assert_array_equal(getattr(bn, name), value)
    bn.get_metadata_routing()
    if case == "metadata requests":
        requests = bn.get_metadata_routing()
        assert requests.fit.requests["sample_weight"] is True
        assert requests.partial_fit.requests["sample_weight"] == "weight"
    if case == "not fitted":
        assert not bn.__sklearn_is_fitted__()
        return

    prefix = f"{case}/state/"
    state = {k.removeprefix(prefix): golden[k] for k in golden if k.startswith(prefix)}
    assert bn.state_dict().keys() == state.keys()
    for key, value in bn.state_dict().items():
        assert value.dtype == state[key].dtype
        assert value.tobytes() == state[key].tobytes()
    assert_read_only(bn)

    rows = golden["X"]
    if golden[f"{case}/named"]:
        assert_array_equal(bn.feature_names_in_, golden["names"])
        rows = pd.DataFrame(rows, columns=golden["names"])
    output = bn.transform(rows, copy=True)
    assert isinstance(output, pd.DataFrame) == (case == "set_output")
    # The bits are those of the state, as this machine and this version make them.
    again = BatchNorm(
        num_features=3,
        **{name: value for name, value in parameters.items() if name != "num_features"},
    ).load_state_dict(state)
    assert_array_equal(output, again.transform(golden["X"], copy=True))
    # Where a long double is a double the scale may be its neighbour, which the
    # bias may cancel down to.
    expected = golden[f"{case}/output"]
    size = np.abs(expected) + np.abs(0.0 if bn.bias_ is None else bn.bias_)
    error = np.abs(np.asarray(output) - expected)
    assert (error <= 4 * np.finfo(np.float64).eps * size).all()


def test_there_is_a_golden_file():
    assert {"pickle_0.1.0", "pickle_0.2.0"} <= GOLDEN.keys()


def test_a_file_of_a_version_without_clip():
    bn = BatchNorm().fit(np.eye(3))
    state = bn.__getstate__()
    del state["clip"], state["handle_missing"]
    old = BatchNorm.__new__(BatchNorm)
    old.__setstate__(state)
    assert old.get_params() == bn.get_params()
    assert repr(old) == repr(bn)
    assert_array_equal(old.transform(np.eye(3)), bn.transform(np.eye(3)))
    assert old.set_params(clip=0.1).transform(np.eye(3)).max() == 0.1
    assert bn.clip is BatchNorm.clip is None
