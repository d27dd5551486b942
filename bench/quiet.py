"""Two opposite promises: a dead link is noticed even when nothing flows, and a living one is never declared dead."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.cells import Check, mbit
from bench.rows import Row, buffer_ms, link, lte_trace
from bench.trial import Load, Progress, start_flow
from mlvpn.lab.daemons import Command, Daemon, Tunnel
from mlvpn.lab.measure import EchoProbes, TcpReport
from mlvpn.lab.topology import Lab
from mlvpn.units import NS_PER_MS

CALM_S = 3.0
"""Nothing flows for this long before the cut."""
POLL_S = 0.05
GIVE_UP_S = 15.0
MAX_NOTICE_S = 2.0
ALIVE = ("up", "lossy", "slow")
"""States of a link that carries or could carry traffic."""

UNSTEADY = (
    link("a", 40, 35, jitter_ns=15 * NS_PER_MS, loss_ratio=0.003),
    link("b", 30, 20, jitter_ns=8 * NS_PER_MS, loss_ratio=0.02),
    link("c", 30, 25, jitter_ns=10 * NS_PER_MS, loss_ratio=0.005, trace=lte_trace()),
    link("d", 8, 60, jitter_ns=40 * NS_PER_MS, loss_ratio=0.01, **buffer_ms(800)),
)
"""Wi-Fi in the next room, a lossy radio link, LTE, and a bad DSL line: all alive."""
LOAD_S, REST_S = 50.0, 10.0
MAX_GROWN_MB = 2.0
"""What passes leaves nothing behind; a heap is never quite the same twice."""


# -- an idle tunnel notices


@dataclass(frozen=True)
class Notice:
    """How long an idle tunnel took to notice, at each end; None: not within ``GIVE_UP_S``."""

    row: int
    links: str
    cut: str
    noticed_s: dict[str, float | None]
    back_s: dict[str, float | None]
    """From the heal until it was up again."""

    def checks(self) -> list[Check]:
        """Hold the figures against their limits."""
        return [
            Check(f"noticed by the {end}, s", float("inf") if at_s is None else at_s, MAX_NOTICE_S, at_least=False)
            for end, at_s in self.noticed_s.items()
        ]


def measure_notice(lab: Lab, row: Row, name: str, command: Command) -> Notice:
    """Cut a link of a tunnel in which nothing flows, heal it, and watch what each end says of it."""
    with Tunnel(lab, command=command) as tunnel:
        time.sleep(CALM_S)
        lab.emulator.cut(name)
        noticed_s = watch_ends(tunnel, lambda daemon: link_status(daemon, name)["state"] not in ALIVE)
        lab.emulator.heal(name)
        back_s = watch_ends(tunnel, lambda daemon: link_status(daemon, name)["state"] in ALIVE)
    return Notice(row.number, row.name, name, noticed_s, back_s)


def watch_ends(tunnel: Tunnel, is_so: Callable[[Daemon], bool]) -> dict[str, float | None]:
    """Return when something became so at each end, in seconds from now."""
    start_s = time.monotonic()
    ends = {"client": tunnel.client, "server": tunnel.server}
    seen_s: dict[str, float | None] = dict.fromkeys(ends)
    while None in seen_s.values() and time.monotonic() - start_s < GIVE_UP_S:
        for end, daemon in ends.items():
            if seen_s[end] is None and is_so(daemon):
                seen_s[end] = time.monotonic() - start_s
        time.sleep(POLL_S)
    return seen_s


def link_status(daemon: Daemon, name: str) -> dict[str, Any]:
    """Return what a daemon says of a link."""
    found: dict[str, Any] = next(item for item in daemon.status()["links"] if item["name"] == name)
    return found


# -- ten minutes on unsteady links


@dataclass
class Stability:
    """What became of links that were unsteady but alive."""

    seconds: float
    went_down: dict[str, int] = field(default_factory=dict)
    """By "link at end"."""
    suspected: dict[str, int] = field(default_factory=dict)
    goodput_bps: list[float] = field(default_factory=list)
    """Of each transfer."""
    broken_flows: int = 0
    pings: int = 0
    pings_lost: int = 0
    memory_bytes: dict[str, list[int]] = field(default_factory=dict)
    """Of each end, resident, after each transfer and its rest."""

    @property
    def grown_bytes(self) -> int | None:
        """By how much an end has grown since it had both sent and received, which takes two transfers."""
        return max((after[-1] - after[1] for after in self.memory_bytes.values() if len(after) > 2), default=None)

    def checks(self) -> list[Check]:
        """Hold the figures against their limits."""
        downs = sum(self.went_down.values())
        checks = [
            Check("links declared down", downs, 0, at_least=False),
            Check("flows broken", self.broken_flows, 0, at_least=False),
        ]
        if self.grown_bytes is not None:
            checks.append(Check("memory grown, MB", self.grown_bytes / 1e6, MAX_GROWN_MB, at_least=False))
        return checks


def measure_stability(seconds: float, progress: Progress, command: Command) -> Stability:
    """Run transfers and pauses over unsteady links, in both directions and with both congestion controls."""
    result = Stability(seconds)
    loads = itertools.cycle([("down", "cubic"), ("up", "cubic"), ("down", "bbr"), ("up", "bbr")])
    with Lab(UNSTEADY) as lab, Tunnel(lab, command=command) as tunnel:
        end_s = time.monotonic() + seconds
        probes = EchoProbes(lab.client, tunnel.address("server"), seconds=seconds, interval_ms=100)
        while (left_s := end_s - time.monotonic()) > 1:
            direction, congestion = next(loads)
            progress.title = f"stability, {congestion} {direction}"
            lab.emulator.restart_trace("c")
            load_s = min(LOAD_S, left_s)
            flow = start_flow(lab, tunnel, Load(direction, congestion, load_s))
            progress.watch(lambda flow=flow: flow.is_running, flow.rate_bps)  # type: ignore[misc]
            report = flow.wait()
            assert isinstance(report, TcpReport)
            result.goodput_bps.append(report.rate_bps())
            result.broken_flows += report.broken_flows
            count_events(result, tunnel)
            progress.finish(f"{mbit(report.rate_bps())} Mbit/s; so far {sum(result.went_down.values())} links down")
            time.sleep(max(0.0, min(REST_S, end_s - time.monotonic())))
            for end, daemon in (("client", tunnel.client), ("server", tunnel.server)):
                result.memory_bytes.setdefault(end, []).append(daemon.memory_bytes())
        pings = probes.wait()
        count_events(result, tunnel)
    result.pings, result.pings_lost = len(pings.probes), pings.lost
    return result


def count_events(result: Stability, tunnel: Tunnel) -> None:
    """Read the daemons' own counters of links lost; the start of the tunnel has none."""
    for end, daemon in (("client", tunnel.client), ("server", tunnel.server)):
        for status in daemon.status()["links"]:
            key = f"{status['name']} at {end}"
            result.went_down[key] = status["went_down"]
            result.suspected[key] = status["suspected"]
