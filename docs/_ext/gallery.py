"""The gallery: what says most first, then by name; warnings of examples are errors."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from typing import Any

FIRST = [
    "plot_adapt_without_labels.py",
    "plot_rising_level.py",
    "plot_adapt_sensors.py",
    "plot_streaming_drift.py",
]
LAST = ["stream_with_checkpoints.py"]  # draws nothing


class Order:
    """Sort key for ``within_subsection_order`` of sphinx-gallery."""

    def __init__(self, src_dir: str) -> None:
        pass

    def __call__(self, filename: str) -> tuple[int, bool, str]:
        """Rank of one example."""
        first = FIRST.index(filename) if filename in FIRST else len(FIRST)
        return first, filename in LAST, filename


_warnings = ExitStack()


def strict(config: dict[str, Any], filename: str, when: str) -> None:
    """Make warnings errors before an example, and undo it after."""
    _warnings.close()
    if when == "before":
        _warnings.enter_context(warnings.catch_warnings(action="error"))
