"""Results of the matrix: one cell per row, congestion control and direction, judged, kept as JSON, shown in a table.

A cell holds what was measured and the checks of its row; a check is computed from the figures and never typed in.
Cells of an earlier run stay in the file until they are measured again, so the matrix can be measured in parts.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.report import RESULTS, machine, write_json
from bench.rows import Basis, Row
from bench.trial import PAYLOAD_RATIO, Load, Trial

REACHED_RATIO = 0.9
WINDOW_S = 1.0
"""The goodput that counts as reached is that of a whole second."""
BUSY_RATIO = 0.95
"""Above this share of all cores something else than the tunnel was measured."""
Cell = dict[str, Any]
"""JSON; written by ``make_cell``."""


@dataclass(frozen=True)
class Check:
    """One figure against its limit."""

    name: str
    value: float
    limit: float
    at_least: bool
    """Whether the limit is the least, not the most."""

    @property
    def ok(self) -> bool:
        """Whether the figure keeps the limit; no figure keeps none."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON types."""
        return {**asdict(self), "ok": self.ok}


def make_cell(row: Row, load: Load, alone: Mapping[str, float], bond: Trial, reused: bool = False) -> Cell:
    """Put together what was measured for a cell; ``alone`` is the goodput of each link by itself."""
    sum_bps = sum(alone.values())
    return {
        "row": row.number,
        "links": row.name,
        "flow": flow_name(row, load),
        "seconds": load.seconds,
        "from_s": load.from_s,
        "commit": machine()["commit"],
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "alone_bps": dict(alone),
        "alone_from_earlier_run": reused,
        "ratio_to_sum": bond.goodput_bps / sum_bps if alone else None,
        "ratio_to_best": bond.goodput_bps / max(alone.values()) if alone else None,
        "ratio_to_capacity": bond.goodput_bps / (row.capacity_bps(load.from_s, load.seconds) * PAYLOAD_RATIO),
        "reached_s": reached_s(bond.goodput_series_bps, REACHED_RATIO * sum_bps) if alone else None,
        "ping_added_ms": bond.loaded.p99_ms - bond.idle.p50_ms,
        "bond": bond.to_json(),
        "checks": [check.to_json() for check in checks(row, load, alone, bond)],
    }


def flow_name(row: Row, load: Load) -> str:
    """Say which traffic, like "cubic down"."""
    return f"{'udp' if row.udp_bps else load.congestion} {load.direction}"


def checks(row: Row, load: Load, alone: Mapping[str, float], bond: Trial) -> Iterable[Check]:
    """Hold the figures against the row's limits."""
    if row.min_ratio is not None:
        basis_bps = {
            Basis.SUM: sum(alone.values()),
            Basis.BEST: max(alone.values()),
            Basis.TRACE: row.capacity_bps(load.from_s, load.seconds) * PAYLOAD_RATIO,
        }[row.basis]
        yield Check(f"of {row.basis.value}", bond.goodput_bps / basis_bps, row.min_ratio, at_least=True)
    if alone and row.basis is not Basis.BEST:
        yield Check("of the best link alone", bond.goodput_bps / max(alone.values()), 1.0, at_least=True)
    if row.max_ping_ms is not None:
        yield Check("ping added, ms", bond.loaded.p99_ms - bond.idle.p50_ms, row.max_ping_ms, at_least=False)
    if row.max_loss_ratio is not None and bond.udp is not None:
        yield Check("udp lost", bond.udp["loss_ratio"], row.max_loss_ratio, at_least=False)
    yield Check("flows broken", bond.broken_flows, 0, at_least=False)


def reached_s(series_bps: list[float], wanted_bps: float) -> float | None:
    """Return when a whole second first carried the rate, None when none did."""
    width = round(WINDOW_S * 10)
    for end in range(width, len(series_bps) + 1):
        if sum(series_bps[end - width : end]) / width >= wanted_bps:
            return end / 10
    return None


class Store:
    """The cells of ``bench/results/NAME.json``, read at the start and written after each new one."""

    def __init__(self, name: str) -> None:
        """Read what is there."""
        self.name = name
        path = RESULTS / f"{name}.json"
        cells: list[Cell] = json.loads(path.read_text())["cells"] if path.exists() else []
        self._cells = {key_of(cell): cell for cell in cells}

    def cells(self) -> list[Cell]:
        """Return all cells in the order of the matrix."""
        return [self._cells[key] for key in sorted(self._cells)]

    def find(self, row: Row, load: Load) -> Cell | None:
        """Return the cell measured last, None when there is none."""
        return self._cells.get((row.number, flow_name(row, load)))

    def add(self, cell: Cell) -> None:
        """Keep a cell instead of an earlier one, and write the files."""
        self._cells[key_of(cell)] = cell
        write_json(self.name, {"cells": self.cells()})
        self.table_path.write_text(markdown(self.cells()))

    @property
    def table_path(self) -> Path:
        """Where the table is."""
        return RESULTS / f"{self.name}.md"


def key_of(cell: Cell) -> tuple[int, str]:
    """Return what tells cells apart."""
    return cell["row"], cell["flow"]


# -- the table

COLUMNS = (
    "row",
    "links: Mbit/s / ms",
    "flow",
    "each alone",
    "bond",
    "of sum",
    "of best",
    "90 % after",
    "ping idle",
    "p50",
    "p99",
    "added",
    "lost",
    "CPU client, server",
    "machine",
    "verdict",
)


def markdown(cells: Iterable[Cell]) -> str:
    """Return the table as it stands in ``bench/results``."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(table_row(cell)) + " |" for cell in cells]
    return "\n".join([*lines, "", LEGEND])


LEGEND = """\
Goodput in Mbit/s of TCP (or UDP) payload over the time that counts, the second half of each transfer; "of sum": bond
divided by the links alone, added; "90 % after": first whole second with 90 % of that sum. Pings each 20 ms through the
tunnel, in ms: the median before the transfer, then median and 99th percentile during all of it; "added" is that
percentile above the median before. CPU in cores of each daemon with all its processes; "machine": how busy all cores
were, and by how much the emulator was late (95th percentile of the worst in each 100 ms). On a machine near 100 %, or
an emulator late by many milliseconds, pings and goodput say more about the machine than about the tunnel.
"""


def table_row(cell: Cell) -> list[str]:
    """Return a cell as text, a column each."""
    bond = cell["bond"]
    cpu = bond["cpu_cores"]
    return [
        str(cell["row"]),
        cell["links"],
        cell["flow"],
        " + ".join(mbit(value) for value in cell["alone_bps"].values()),
        mbit(bond["goodput_bps"]),
        figure(cell["ratio_to_sum"], 3),
        figure(cell["ratio_to_best"], 2),
        f"{figure(cell['reached_s'], 1)} s",
        figure(bond["idle"]["p50_ms"], 1),
        figure(bond["loaded"]["p50_ms"], 1),
        figure(bond["loaded"]["p99_ms"], 1),
        figure(cell["ping_added_ms"], 1),
        str(bond["loaded"]["lost"]),
        f"{cpu['client']:.2f}, {cpu['server']:.2f}",
        f"{100 * cpu['machine']:.0f} %, {bond['late_ms']:.1f} ms",
        verdict(cell),
    ]


def verdict(cell: Cell) -> str:
    """Say "ok", or what falls short of which limit; and whether to believe it."""
    bond = cell["bond"]
    short = [f"{c['name']} {c['value']:.4g} (limit {c['limit']:g})" for c in cell["checks"] if not c["ok"]]
    said = [f"short: {', '.join(short)}" if short else "ok"]
    if bond["missed_frames"]:
        said.append(f"void: the emulator missed {bond['missed_frames']} frames")
    if bond["cpu_cores"]["machine"] > BUSY_RATIO:
        said.append("doubtful: the machine was busy")
    return "; ".join(said)


def figure(value: float | None, decimals: int) -> str:
    """Show a figure, a dash for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def mbit(rate_bps: float) -> str:
    """Show a rate."""
    return f"{rate_bps / 1e6:.1f}"
