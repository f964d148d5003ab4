"""The order of the gallery: what says most first, then by name."""

from __future__ import annotations

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
