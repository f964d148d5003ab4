"""The order of the gallery: the main job first, then by name."""

from __future__ import annotations

FIRST = ["plot_streaming_drift.py"]
LAST = ["stream_with_checkpoints.py"]  # draws nothing


class Order:
    """Sort key for ``within_subsection_order`` of sphinx-gallery."""

    def __init__(self, src_dir: str) -> None:
        pass

    def __call__(self, filename: str) -> tuple[bool, bool, str]:
        """Rank of one example."""
        return filename not in FIRST, filename in LAST, filename
