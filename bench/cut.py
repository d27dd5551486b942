"""A link dies silently under load, and comes back: what the traffic inside sees of it.

A cut loses everything in both directions while the interfaces stay up: nobody is told. One transfer, with pings each
20 ms, runs over a tunnel of all links; the link is cut in the middle of it and heals some seconds later.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.cells import Check
from bench.rows import Row
from bench.trial import ENDS, Load
from mlvpn.lab.daemons import Command, Tunnel
from mlvpn.lab.measure import (
    EchoProbes,
    EchoReport,
    PacketWatch,
    TcpReport,
    TcpTransfer,
    WatchReport,
    longest_silence_ns,
    percentile,
)
from mlvpn.lab.topology import Lab
from mlvpn.units import NS_PER_MS, NS_PER_S

CUT_AFTER_S = 8.0
HEAL_AFTER_S = 16.0
END_AFTER_S = 26.0
WATCH_S = 4.0
"""Gaps are looked for in this time after the cut and after the heal."""
BEFORE_S = 3.0
"""What flowed before the cut is the mean of this time."""
SETTLE_WINDOW_S = 0.5
"""A rate counts as reached when this long a time carried it."""
REACHED_RATIO = 0.9
SHARE_RATIO = 0.8
"""A healed link carries its share when it carries this much of what it did before the cut: a bond has less for each
link than its last bit while the inner TCP saws."""
MAX_GAP_MS = 200.0
MAX_SETTLE_S = 3.0
MAX_RETURN_S = 5.0
INTERVAL_NS = NS_PER_S // 10


@dataclass(frozen=True)
class Cut:
    """What one cut and its end did; times in seconds count from the cut or from the heal."""

    row: int
    links: str
    cut: str
    flow: str
    before_bps: float
    rest_alone_bps: float
    """What the links that are left carry by themselves."""
    packet_gap_ms: float
    """Longest time without any packet at the far end of the tunnel."""
    tcp_gap_ms: float
    """Longest time in which TCP had nothing to hand to its program."""
    ping_gap_ms: float
    """Longest time without an answer."""
    settled_s: float | None
    """When 90 % of what the rest carries flowed."""
    pings: int
    pings_lost: int
    ping_p99_ms: float
    broken_flows: int
    returned_s: float | None
    return_packet_gap_ms: float
    return_tcp_gap_ms: float
    return_lowest_ratio: float
    """Lowest goodput of a second after the heal, of what flowed in the seconds before it."""

    def checks(self) -> list[Check]:
        """Hold the figures against their limits."""
        never = float("inf")
        return [
            Check("packet gap, ms", self.packet_gap_ms, MAX_GAP_MS, at_least=False),
            Check("TCP gap, ms", self.tcp_gap_ms, MAX_GAP_MS, at_least=False),
            Check("90 % of the rest, s", never if self.settled_s is None else self.settled_s, MAX_SETTLE_S, False),
            Check("pings lost", self.pings_lost, 0, at_least=False),
            Check("flows broken", self.broken_flows, 0, at_least=False),
            Check("its share again, s", never if self.returned_s is None else self.returned_s, MAX_RETURN_S, False),
            Check("TCP gap at the return, ms", self.return_tcp_gap_ms, MAX_GAP_MS, at_least=False),
            Check("lowest second after the return", self.return_lowest_ratio, REACHED_RATIO, at_least=True),
        ]


def measure_cut(lab: Lab, row: Row, name: str, load: Load, rest_bps: float, command: Command) -> Cut:
    """Cut one link under load and heal it again; ``rest_bps`` is what the others carry by themselves."""
    sender, receiver = ENDS[load.direction]
    with Tunnel(lab, command=command) as tunnel:
        watch = PacketWatch(lab.host(receiver), tunnel.interface)
        probes = EchoProbes(lab.client, tunnel.address("server"), seconds=END_AFTER_S)
        transfer = TcpTransfer(
            lab.host(sender),
            lab.host(receiver),
            tunnel.address(receiver),
            seconds=END_AFTER_S,
            congestion=load.congestion,
        )
        start_s = time.monotonic()
        time.sleep(CUT_AFTER_S)
        cut_ns = time.monotonic_ns()
        lab.emulator.cut(name)
        time.sleep(max(0.0, start_s + HEAL_AFTER_S - time.monotonic()))
        heal_ns = time.monotonic_ns()
        lab.emulator.heal(name)
        report, pings, packets = transfer.wait(), probes.wait(), watch.stop()
    carried = [
        sample
        for sample in lab.emulator.series(report.start_ns)
        if sample["link"] == name and sample["direction"] == load.direction
    ]
    return Cut(
        row=row.number,
        links=row.name,
        cut=name,
        flow=f"{load.congestion} {load.direction}",
        rest_alone_bps=rest_bps,
        broken_flows=report.broken_flows,
        **of_pings(pings, cut_ns),
        **of_cut(report, packets, cut_ns, rest_bps),
        **of_return(report, packets, carried, cut_ns, heal_ns),
    )


def of_pings(pings: EchoReport, cut_ns: int) -> dict[str, Any]:
    """Return what the pings say; all of them count, from before the cut to after the heal."""
    after = [probe for probe in pings.probes if cut_ns - NS_PER_S <= probe[0] < cut_ns + WATCH_S * NS_PER_S]
    answers = [rtt_ns / NS_PER_MS for _, rtt_ns in after if rtt_ns is not None]
    return {
        "pings": len(pings.probes),
        "pings_lost": pings.lost,
        "ping_p99_ms": percentile(answers, 99),
        "ping_gap_ms": EchoReport(tuple(after)).longest_gap_ms(),
    }


def of_cut(report: TcpReport, packets: WatchReport, cut_ns: int, rest_bps: float) -> dict[str, Any]:
    """Return what the cut did to the flow."""
    until_ns = cut_ns + round(WATCH_S * NS_PER_S)
    settled_ns = reached_ns(report, cut_ns, REACHED_RATIO * rest_bps)
    return {
        "before_bps": rate_bps(report, cut_ns - BEFORE_S * NS_PER_S, cut_ns),
        "packet_gap_ms": longest_silence_ns(packets.silences, cut_ns, until_ns) / NS_PER_MS,
        "tcp_gap_ms": longest_silence_ns(report.silences, cut_ns, until_ns) / NS_PER_MS,
        "settled_s": None if settled_ns is None else (settled_ns - cut_ns) / NS_PER_S,
    }


def of_return(
    report: TcpReport, packets: WatchReport, carried: Sequence[dict[str, Any]], cut_ns: int, heal_ns: int
) -> dict[str, Any]:
    """Return what the heal did to the flow, and when the link had its share again."""
    until_ns = heal_ns + round(WATCH_S * NS_PER_S)
    end_ns = report.start_ns + round((report.seconds - 1) * NS_PER_S)
    seconds = range(heal_ns, end_ns, INTERVAL_NS)
    lowest_bps = min(rate_bps(report, second_ns, second_ns + NS_PER_S) for second_ns in seconds)
    return {
        "returned_s": share_s(carried, cut_ns, heal_ns),
        "return_packet_gap_ms": longest_silence_ns(packets.silences, heal_ns, until_ns) / NS_PER_MS,
        "return_tcp_gap_ms": longest_silence_ns(report.silences, heal_ns, until_ns) / NS_PER_MS,
        "return_lowest_ratio": lowest_bps / rate_bps(report, heal_ns - BEFORE_S * NS_PER_S, heal_ns),
    }


def share_s(carried: Sequence[dict[str, Any]], cut_ns: int, heal_ns: int) -> float | None:
    """Return when the emulator first saw the link carry its share for ``SETTLE_WINDOW_S``, None when it never did."""
    before = [s["delivered_bytes"] for s in carried if cut_ns - BEFORE_S * NS_PER_S <= s["t_ns"] - INTERVAL_NS < cut_ns]
    after = [(s["t_ns"], s["delivered_bytes"]) for s in carried if s["t_ns"] > heal_ns]
    wanted_bytes = SHARE_RATIO * sum(before) / len(before)
    width = round(SETTLE_WINDOW_S * 10)
    for end in range(width, len(after) + 1):
        if sum(size_bytes for _, size_bytes in after[end - width : end]) / width >= wanted_bytes:
            at_ns: int = after[end - 1][0]
            return (at_ns - heal_ns) / NS_PER_S
    return None


def rate_bps(report: TcpReport, first_ns: float, last_ns: float) -> float:
    """Return the goodput between two moments, to the nearest 100 ms."""
    first, last = (round((at_ns - report.start_ns) / INTERVAL_NS) for at_ns in (first_ns, last_ns))
    chosen = report.interval_bytes[max(0, first) : last]
    return sum(chosen) * 80 / max(1, len(chosen))


def reached_ns(report: TcpReport, from_ns: int, wanted_bps: float) -> int | None:
    """Return the end of the first ``SETTLE_WINDOW_S`` after a moment that carried a rate."""
    first = -(-(from_ns - report.start_ns) // INTERVAL_NS)
    width = round(SETTLE_WINDOW_S * 10)
    for end in range(first + width, len(report.interval_bytes) + 1):
        if sum(report.interval_bytes[end - width : end]) * 80 / width >= wanted_bps:
            return report.start_ns + end * INTERVAL_NS
    return None
