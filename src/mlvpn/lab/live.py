"""What a person sees while traffic runs: one line per link with rate, queue and losses, ten times a second.

On a terminal the lines stay in place; into a file or a pipe one compact line goes out every two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mlvpn.lab.topology import Lab
from mlvpn.units import NS_PER_S, format_rate_bps, format_size_bytes

REFRESH_S = 0.2
PLAIN_EVERY_S = 2.0
WINDOW_NS = NS_PER_S
"""Rates are shown over the last second."""
BAR_WIDTH = 24


class LinkDisplay:
    """Shows the emulated links of a lab; a context manager, fed by ``update``."""

    def __init__(self, lab: Lab, console: Console, direction: str, title: str) -> None:
        """Show one direction ("up" or "down")."""
        self._lab = lab
        self._console = console
        self._direction = direction
        self._title = title
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._printed_s = time.monotonic()

    def __enter__(self) -> LinkDisplay:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the live lines."""
        if self._console.is_terminal:
            self._live.stop()

    def run(self, is_running: Callable[[], bool], total_bps: Callable[[], float]) -> None:
        """Show until whatever is watched has ended; ``total_bps`` is the rate inside, as its receiver sees it."""
        while is_running():
            self.update(total_bps())
            time.sleep(REFRESH_S)

    def update(self, total_bps: float) -> None:
        """Show the state of now."""
        lines = self._link_states()
        if self._console.is_terminal:
            self._live.update(self._table(lines, total_bps), refresh=True)
        elif time.monotonic() - self._printed_s >= PLAIN_EVERY_S:
            self._printed_s = time.monotonic()
            self._console.print(plain_line(self._title, lines, total_bps), highlight=False, soft_wrap=True)

    def _link_states(self) -> dict[str, dict[str, Any]]:
        """Return per link the state of its counters and the rate of the last second."""
        counters = self._lab.emulator.counters()
        samples = self._lab.emulator.series(time.monotonic_ns() - WINDOW_NS)
        states = {}
        for link in self._lab.links:
            carried = [
                sample["delivered_bytes"]
                for sample in samples
                if sample["link"] == link and sample["direction"] == self._direction
            ]
            carried_bps = sum(carried) * 8 * 10 / max(1, len(carried))  # ten samples a second
            states[link] = {**counters.get(f"{link}/{self._direction}", {}), "carried_bps": carried_bps}
        return states

    def _table(self, states: dict[str, dict[str, Any]], total_bps: float) -> Table:
        table = Table(title=self._title, title_justify="left", box=None, pad_edge=False, title_style="bold")
        for header in ("link", "carries", "", "queue", "lost", ""):
            table.add_column(header, justify="right" if header in ("carries", "queue", "lost") else "left")
        for link, state in states.items():
            lost = sum(state.get(f"dropped_{cause}_packets", 0) for cause in ("queue", "loss", "cut"))
            table.add_row(
                link,
                format_rate_bps(state["carried_bps"]),
                bar(state["carried_bps"], state.get("rate_bps")),
                format_size_bytes(state.get("queue_bytes", 0)),
                str(lost),
                "[red]cut[/red]" if state.get("is_cut") else "",
            )
        table.add_row("[bold]inside[/bold]", f"[bold]{format_rate_bps(total_bps)}[/bold]")
        return table


def bar(value: float, full: float | None) -> str:
    """Draw a share of a link's rate."""
    if not full:
        return ""
    filled = round(min(1.0, value / full) * BAR_WIDTH)
    return "█" * filled + "░" * (BAR_WIDTH - filled)


def plain_line(title: str, states: dict[str, dict[str, Any]], total_bps: float) -> str:
    """Say the same in one line."""
    links = ", ".join(
        f"{link} {'cut' if state.get('is_cut') else format_rate_bps(state['carried_bps'])}"
        for link, state in states.items()
    )
    return f"  {title}: {links}; inside {format_rate_bps(total_bps)}"
