"""The picture of ``python -m benchmarks.streams``: errors above, ranks below."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.real_streams import Stream
from benchmarks.streams import PEER, RATES, SCALED, Ranks, Results, ranks_of, rows_of

# Colours that the colour-blind can tell apart (Okabe and Ito), and marks.
LOOKS = {
    "no scaling": ("#8C8C8C", "x"),
    "River, 0.3": ("#CC79A7", "v"),
    "momentum 0.1": ("#D55E00", "s"),
    "momentum 0.1, corrected": ("#E69F00", "D"),
    "1 %": ("#8FD3FF", "o"),
    "5 %": ("#2E9BE6", "o"),
    "20 %": ("#00457A", "o"),
}
LABELS = {
    PEER: "StandardScaler",
    "River, 0.3": "River's default, 0.3",
    "River, 5 %": "River, half-life 5 %",
    "momentum 0.1": "momentum=0.1",
    "momentum 0.1, corrected": "momentum=0.1, corrected",
    "1 %": "half-life 1 %",
    "5 %": "half-life 5 %",
    "20 %": "half-life 20 %",
    "inf": "half-life inf",
}
LEFT, RIGHT = 0.5, 4.0
TICKS = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2, 3, 4]


def label_of(name: str) -> str:
    """What a contender is called in the picture."""
    return LABELS.get(name, name)


def draw(streams: list[Stream], results: Results, path: str) -> None:
    """Draw what came out into a file."""
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 11}):
        _draw(streams, results, path)


def _draw(streams: list[Stream], results: Results, path: str) -> None:
    import matplotlib.pyplot as plt

    rows = rows_of(results)
    heights = [0.42 * len(streams) + 0.6, 3.1]
    figure = plt.figure(figsize=(13.5, sum(heights) + 1.6), layout="constrained")
    above, below = figure.subfigures(2, height_ratios=heights)
    panels = above.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, RATES, strict=True):
        draw_errors(axes, streams, rows, kind)
    panels[0].set_yticks(
        range(len(streams)), [f"{s.name}  {s.drift():.2f}" for s in streams]
    )
    heading = panels[0].text(
        *(-0.02, 1.005),
        "stream, drift",
        transform=panels[0].transAxes,
        ha="right",
        va="bottom",
        color="0.4",
        fontsize=10,
    )
    heading.set_in_layout(False)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    chosen = dict(zip(labels, handles, strict=True))
    above.legend(
        chosen.values(), chosen, loc="outside upper center", ncols=4, frameon=False
    )
    above.supxlabel(
        "Error / that of StandardScaler, mean and range of five runs"
        "  (log scale, left is better)",
        fontsize=11,
    )
    for axes, kind in zip(below.subplots(1, 2), RATES, strict=True):
        draw_ranks(axes, ranks_of(rows, kind))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_errors(axes: Any, streams: list[Stream], rows: Any, kind: str) -> None:
    """Dots for one model, a line for each stream."""
    names = [name for name in LOOKS if name in rows[streams[0].name, kind, SCALED]]
    offsets = np.linspace(-0.33, 0.33, len(names))
    for i in range(0, len(streams), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="0.955", linewidth=0)
    axes.axvline(1, color="black", linewidth=1)
    for name, offset in zip(names, offsets, strict=True):
        color, mark = LOOKS[name]
        for i, stream in enumerate(streams):
            ratio = rows[stream.name, kind, SCALED][name]
            mean = ratio.mean if np.isfinite(ratio.mean) else np.inf
            label = label_of(name) if i == 0 else None
            inside = np.clip(mean, LEFT, RIGHT)
            low, high = np.clip([ratio.low, ratio.high], LEFT, RIGHT)
            axes.plot([low, high], [i + offset] * 2, color=color, linewidth=1.6)
            shown = ">" if mean > RIGHT else "<" if mean < LEFT else mark
            axes.plot(
                inside,
                i + offset,
                shown,
                color=color,
                markersize=6.5,
                markeredgewidth=2 if shown == "x" else 0.6,
                markeredgecolor=color if shown == "x" else "white",
                clip_on=False,
                zorder=3,
            )
            if label:  # so that the legend shows the mark, not an arrow
                axes.plot([], [], mark, color=color, markersize=8, label=label)
    axes.set_xscale("log")
    axes.set_xlim(LEFT, RIGHT)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_ylim(-0.5, len(streams) - 0.5)
    axes.tick_params(left=False)
    axes.set_title(f"Model: {kind}", weight="bold")
    axes.spines[["top", "right", "left"]].set_visible(False)


def draw_ranks(axes: Any, ranks: Ranks) -> None:
    """Mean ranks on a line; a bar joins those that do not differ enough."""
    order = sorted(ranks.mean, key=lambda name: ranks.mean[name])
    k, cd = len(order), ranks.critical_difference
    half = (k + 1) // 2
    groups = cliques([ranks.mean[name] for name in order], cd)
    top = -0.28 * len(groups) - 0.45
    axes.set_axis_off()
    axes.set_xlim(1 - k, 2 * k - 2)  # room for the names on both sides
    axes.set_ylim(top - 0.6 * half, 1.6)

    def write(x: float, y: float, text: str, ha: str) -> None:
        written = axes.text(x, y, text, ha=ha, va="center", fontsize=9.5)
        written.set_in_layout(False)  # or the axes would make room for it

    axes.plot([1, k], [0, 0], color="black", linewidth=1)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, 0.18], color="black", linewidth=1)
        write(rank, 0.5, str(rank), "center")
    for i, name in enumerate(order):
        is_left = i < half
        x, y = ranks.mean[name], top - 0.6 * (i if is_left else k - 1 - i)
        edge = 0.7 if is_left else k + 0.3
        color = LOOKS.get(name, ("black",))[0]
        axes.plot([x, x, edge], [0, y, y], color=color, linewidth=1.4)
        if is_left:
            write(edge - 0.1, y, f"{label_of(name)}  {x:.1f}", "right")
        else:
            write(edge + 0.1, y, f"{x:.1f}  {label_of(name)}", "left")
    for i, (start, stop) in enumerate(groups):
        y = -0.28 * (i + 1)
        axes.plot([start - 0.08, stop + 0.08], [y, y], color="black", linewidth=4)
    axes.plot([1, 1 + cd], [1.2, 1.2], color="black", linewidth=1.5)
    text = f"mean rank; critical difference {cd:.1f} (Nemenyi, 5 %)"
    write(1 + cd + 0.2, 1.2, text, "left")


def cliques(ranks: list[float], difference: float) -> list[tuple[float, float]]:
    """Longest stretches of sorted ranks that lie within a difference."""
    found: list[tuple[float, float]] = []
    for start in ranks:
        stop = max(rank for rank in ranks if rank - start <= difference)
        if stop > start and (not found or stop > found[-1][1]):
            found.append((start, stop))
    return found
