import importlib.util
import os

# SciPy reads it once, when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import pytest
from hypothesis import Phase, settings

# "raise" is what careful people set, and no result may depend on it. NumPy's default is
# "warn", and warnings are errors in these tests, but for underflow, which is ignored.
if float_errors := os.environ.get("SK_BATCHNORM_FLOAT_ERRORS"):
    np.seterr(all=float_errors)
    # But for the arithmetic of the comparison, as rtol times a number near 0.
    np.testing.assert_allclose = np.errstate(all="ignore")(np.testing.assert_allclose)

# Scripts that write what tests compare with, not tests.
collect_ignore = ["data/make_pickle_golden.py", "data/make_pytorch_golden.py"]

# For people who try a change, for what has to pass, and for a night. A first call pays
# for imports and cold caches; that is no failure.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=100)
settings.register_profile("long", deadline=None, max_examples=2000)
# For mutmut, which asks whether a test fails, not how simply, and runs it often.
settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    max_examples=10,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("thorough" if os.environ.get("CI") else "quick")

PEERS = [
    "array_api_strict",
    "cloudpickle",
    "dask_ml",
    "distributed",
    "onnxruntime",
    "pyarrow",
    "rich",
    "river",
    "safetensors",
    "skl2onnx",
    "skops",
    "sktime",
    "torch",
]


def pytest_configure():
    if os.environ.get("SK_BATCHNORM_REQUIRE_PEERS"):
        for name in PEERS:
            if importlib.util.find_spec(name) is None:
                raise pytest.UsageError(f"{name} is required but not installed")
