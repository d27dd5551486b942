"""A picture per cell: goodput, rate and queue of each link, and the pings, over time.

The SVG files of two runs with the same figures are the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "mlvpn"
import matplotlib.pyplot as plt  # noqa: E402  (the backend must be chosen before)

SMOOTH_SAMPLES = 5
"""Half a second."""


def draw_cell(cell: dict[str, Any], path: Path) -> None:
    """Draw one cell of the matrix into an SVG file."""
    bond = cell["bond"]
    figure, (goodput, rate, queue, ping) = plt.subplots(4, 1, figsize=(9, 10), sharex=True, layout="constrained")
    figure.suptitle(f"Row {cell['row']}: {cell['links']}, {cell['flow']}")
    draw_goodput(goodput, cell)
    for color, (name, series) in enumerate(bond["link_series"].items()):
        rate.plot(series["t_s"], smooth(in_mbit(series["carried_bps"])), color=f"C{color}", label=name)
        rate.plot(series["t_s"], in_mbit(series["rate_bps"]), color=f"C{color}", linestyle=":", linewidth=0.8)
        queue.plot(series["t_s"], series["queue_ms"], color=f"C{color}", label=name, linewidth=0.9)
    label(rate, "each link, Mbit/s\n(dotted: what it can)")
    label(queue, "longest queue in\neach 100 ms, ms")
    draw_pings(ping, cell)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw_goodput(axes: Any, cell: dict[str, Any]) -> None:
    """Draw what came out, and what the links carried alone."""
    series_bps = cell["bond"]["goodput_series_bps"]
    axes.plot(*over_time(smooth(in_mbit(series_bps))), color="black", label="bond")
    if cell["alone_bps"]:
        sum_mbit = sum(cell["alone_bps"].values()) / 1e6
        axes.axhline(sum_mbit, color="gray", linestyle="--", label="links alone, added")
    axes.axvspan(cell["from_s"], cell["seconds"], color="gray", alpha=0.1, label="the time that counts")
    axes.set_xlim(0, cell["seconds"])
    label(axes, "goodput, Mbit/s")


def draw_pings(axes: Any, cell: dict[str, Any]) -> None:
    """Draw every round trip."""
    answered = [(at_s, rtt_ms) for at_s, rtt_ms in cell["bond"]["ping_series_ms"] if rtt_ms is not None]
    axes.plot(*zip(*answered, strict=True), ".", markersize=2, color="black", label="pings")
    axes.axhline(cell["bond"]["idle"]["p50_ms"], color="gray", linestyle="--", label="median before")
    label(axes, "ping, ms")
    axes.set_xlabel("seconds since the transfer began")


def label(axes: Any, what: str) -> None:
    """Name an axis and its curves; everything begins at zero."""
    axes.set_ylabel(what)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", fontsize="small")


def in_mbit(values_bps: Sequence[float]) -> list[float]:
    """Scale rates."""
    return [value_bps / 1e6 for value_bps in values_bps]


def smooth(values: Sequence[float]) -> list[float]:
    """Average over the last half second."""
    return [
        sum(values[max(0, end - SMOOTH_SAMPLES) : end]) / min(end, SMOOTH_SAMPLES) for end in range(1, len(values) + 1)
    ]


def over_time(values: Sequence[float]) -> tuple[list[float], Sequence[float]]:
    """Return times and values of a series in steps of 100 ms."""
    return [(index + 1) / 10 for index in range(len(values))], values
