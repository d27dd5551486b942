"""The links that a bond has to add up, and what it has to reach on each set of them.

Owns the matrix; does not measure. Rates are what the link carries in IP packets, delays are one way, and every queue
holds 100 ms at the link's rate unless the row says otherwise.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

from mlvpn.lab.topology import LinkSpec
from mlvpn.units import NS_PER_MS, NS_PER_S

TRACE_SEED = 3
"""Chosen because the second ten of its seconds hold both extremes, and the way from the one to the other."""
TRACE_S = 120
TRACE_LOW_BPS, TRACE_HIGH_BPS = 3_000_000, 60_000_000
TRACE_STEP = 0.6
"""Standard deviation of the step from one second to the next, of the rate's natural logarithm: mostly within a factor
of two, sometimes of four, which is what a moving LTE modem sees."""


class Basis(Enum):
    """What a row's ratio is of."""

    SUM = "the links alone, added"
    BEST = "the best link alone"
    TRACE = "what the links could carry"


@dataclass(frozen=True)
class Row:
    """One set of links with its limits."""

    number: int
    name: str
    """Mbit/s and ms of each link."""
    links: tuple[LinkSpec, ...]
    min_ratio: float | None = None
    max_ping_ms: float | None = None
    """Of the 99th percentile under load, above the median at idle."""
    basis: Basis = Basis.SUM
    flows: int = 1
    udp_bps: int | None = None
    """Send UDP at this rate instead of TCP."""
    max_loss_ratio: float | None = None
    aim_ratio: float | None = None
    """Of the links alone added; wished for, not demanded."""

    def capacity_bps(self, first_s: float, last_s: float) -> float:
        """Return what the links carry together, on average between two times since their traces began."""
        return sum(mean_rate_bps(link, first_s, last_s) for link in self.links)


def link(name: str, mbit: float, delay_ms: float, **extras: Any) -> LinkSpec:
    """Describe a link by the usual units."""
    return LinkSpec(name, rate_bps=round(mbit * 1e6), delay_ns=round(delay_ms * NS_PER_MS), **extras)


def mean_rate_bps(spec: LinkSpec, first_s: float, last_s: float) -> float:
    """Return the mean rate of a link between two times since its trace began."""
    if not spec.trace:
        return float(spec.rate_bps or 0)
    ends = [at_ns for at_ns, _ in spec.trace[1:]] + [max(round(last_s * NS_PER_S), spec.trace[-1][0])]
    total = 0.0
    for (start_ns, rate_bps), end_ns in zip(spec.trace, ends, strict=True):
        inside_ns = min(end_ns, last_s * NS_PER_S) - max(start_ns, first_s * NS_PER_S)
        total += rate_bps * max(0.0, inside_ns)
    return total / ((last_s - first_s) * NS_PER_S)


def lte_trace(seed: int = TRACE_SEED, seconds: int = TRACE_S) -> tuple[tuple[int, int], ...]:
    """Return a rate per second that wanders between the limits, turned back where it would leave them."""
    random = Random(seed)
    low, high = math.log(TRACE_LOW_BPS), math.log(TRACE_HIGH_BPS)
    level = (low + high) / 2
    trace = []
    for second in range(seconds):
        trace.append((second * NS_PER_S, round(math.exp(level))))
        level += random.gauss(0, TRACE_STEP)
        level = 2 * low - level if level < low else level
        level = 2 * high - level if level > high else level
        level = min(max(level, low), high)
    return tuple(trace)


def write_trace(path: Path) -> None:
    """Write the trace, for who wants to see or replay it."""
    points = [{"at_s": at_ns // NS_PER_S, "rate_bps": rate_bps} for at_ns, rate_bps in lte_trace()]
    path.write_text(json.dumps({"seed": TRACE_SEED, "points": points}, indent=1) + "\n")


def buffer_ms(length_ms: float) -> dict[str, int]:
    """Give a link another queue than 100 ms."""
    return {"buffer_ns": round(length_ms * NS_PER_MS)}


TWINS = (link("a", 20, 10), link("b", 20, 10))
LTE = link("b", 30, 25, trace=lte_trace())
"""Its queue is 100 ms at 30 Mbit/s, so at 3 Mbit/s it is a second long, as in a modem."""
JITTERY = link("b", 40, 35, jitter_ns=15 * NS_PER_MS, loss_ratio=0.003)
LOSSY = link("b", 30, 20, loss_ratio=0.02)

ROWS = (
    Row(1, "20/10 + 20/10", TWINS, 0.97, 25),
    Row(2, "50/15 + 10/15", (link("a", 50, 15), link("b", 10, 15)), 0.95, 25),
    Row(3, "20/10 + 20/40", (link("a", 20, 10), link("b", 20, 40)), 0.95, 30),
    Row(4, "100/10 + 10/40", (link("a", 100, 10), link("b", 10, 40)), 0.95, 25),
    Row(5, "50/12 + 30/25 + 8/40", (link("a", 50, 12), link("b", 30, 25), link("c", 8, 40)), 0.95, 30),
    Row(6, "30/15 + 30/20 2 % loss", (link("a", 30, 15), LOSSY), 0.92, 30),
    Row(7, "16/20 + 40/35 jitter 15 ms, 0.3 % loss", (link("a", 16, 20), JITTERY), 0.90, 50),
    Row(
        8,
        "20/15 buffer 800 ms + 10/25 buffer 1200 ms",
        (link("a", 20, 15, **buffer_ms(800)), link("b", 10, 25, **buffer_ms(1200))),
        0.95,
        30,
    ),
    Row(
        9,
        "40/8 + 20/140 0.1 % loss",
        (link("a", 40, 8), link("b", 20, 140, loss_ratio=0.001)),
        1.0,
        40,
        Basis.BEST,
        aim_ratio=0.90,
    ),
    Row(10, "30/15 + LTE 3 to 60/25", (link("a", 30, 15), LTE), 0.85, 60, Basis.TRACE),
    Row(11, "20/10 + 20/10, 8 flows", TWINS, 0.97, flows=8),
    Row(12, "8/10 + 8/10, 10 Mbit/s of UDP", (link("a", 8, 10), link("b", 8, 10)), udp_bps=10**7, max_loss_ratio=0.001),
)
"""8 flows and UDP are one row in the words of the goal; here they are two, because they are measured differently."""
