"""Measurements beside the peers; each module is run as ``python -m``."""

import os

# For tensors. SciPy reads it once, when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
