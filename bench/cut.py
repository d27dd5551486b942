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

WATCH_S = 4.0
"""Gaps are looked for in this time after the cut and after the heal."""
BEFORE_S = 3.0
"""What flowed before the cut is the mean of this time."""
SETTLE_WINDOW_S = 0.5
"""A rate counts as reached when this long a time carried it."""
REACHED_RATIO = 0.9
SHARE_RATIO = 0.8
"""Of what a link did before its cut, this much counts as again: flows saw, and no two half seconds are the same."""
MAX_GAP_MS = 200.0
MAX_SETTLE_S = 3.0
MAX_RETURN_S = 5.0
INTERVAL_NS = NS_PER_S // 10


@dataclass(frozen=True)
class Times:
    """When what happens, in seconds from the start of the transfer."""

    cut_s: float = 8.0
    heal_s: float = 16.0
    end_s: float = 26.0


DEFAULT_TIMES = Times()


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
    share_again_s: float | None
    """When the healed link had its share again: of all that flowed, ``SHARE_RATIO`` of the part it had before."""
    rate_again_s: float | None
    """When it had ``SHARE_RATIO`` of its rate before. That is the inner TCP's matter too: after seconds on a slow link
    CUBIC needs several to ask for a fast one's rate."""
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
            Check(
                "its share again, s", never if self.share_again_s is None else self.share_again_s, MAX_RETURN_S, False
            ),
            Check("TCP gap at the return, ms", self.return_tcp_gap_ms, MAX_GAP_MS, at_least=False),
            Check("lowest second after the return", self.return_lowest_ratio, REACHED_RATIO, at_least=True),
        ]


def measure_cut(
    lab: Lab, row: Row, name: str, load: Load, rest_bps: float, command: Command, times: Times = DEFAULT_TIMES
) -> Cut:
    """Cut one link under load and heal it again; ``rest_bps`` is what the others carry by themselves."""
    sender, receiver = ENDS[load.direction]
    with Tunnel(lab, command=command) as tunnel:
        watch = PacketWatch(lab.host(receiver), tunnel.interface)
        probes = EchoProbes(lab.client, tunnel.address("server"), seconds=times.end_s)
        transfer = TcpTransfer(
            lab.host(sender),
            lab.host(receiver),
            tunnel.address(receiver),
            seconds=times.end_s,
            congestion=load.congestion,
        )
        start_s = time.monotonic()
        time.sleep(times.cut_s)
        cut_ns = time.monotonic_ns()
        lab.emulator.cut(name)
        time.sleep(max(0.0, start_s + times.heal_s - time.monotonic()))
        heal_ns = time.monotonic_ns()
        lab.emulator.heal(name)
        report, pings, packets = transfer.wait(), probes.wait(), watch.stop()
    carried = [sample for sample in lab.emulator.series(report.start_ns) if sample["direction"] == load.direction]
    return Cut(
        row=row.number,
        links=row.name,
        cut=name,
        flow=f"{load.congestion} {load.direction}",
        rest_alone_bps=rest_bps,
        broken_flows=report.broken_flows,
        **of_pings(pings, cut_ns),
        **of_cut(report, packets, cut_ns, rest_bps),
        **of_return(report, packets, heal_ns),
        **again(carried, name, cut_ns, heal_ns),
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


def of_return(report: TcpReport, packets: WatchReport, heal_ns: int) -> dict[str, Any]:
    """Return what the heal did to the flow."""
    until_ns = heal_ns + round(WATCH_S * NS_PER_S)
    end_ns = report.start_ns + round((report.seconds - 1) * NS_PER_S)
    seconds = range(heal_ns, end_ns, INTERVAL_NS)
    lowest_bps = min(rate_bps(report, second_ns, second_ns + NS_PER_S) for second_ns in seconds)
    return {
        "return_packet_gap_ms": longest_silence_ns(packets.silences, heal_ns, until_ns) / NS_PER_MS,
        "return_tcp_gap_ms": longest_silence_ns(report.silences, heal_ns, until_ns) / NS_PER_MS,
        "return_lowest_ratio": lowest_bps / rate_bps(report, heal_ns - BEFORE_S * NS_PER_S, heal_ns),
    }


def again(samples: Sequence[dict[str, Any]], name: str, cut_ns: int, heal_ns: int) -> dict[str, Any]:
    """Return when the healed link had its part of the traffic again, and when its rate, as the emulator saw them."""
    before = link_of_all(samples, name, cut_ns - round(BEFORE_S * NS_PER_S), cut_ns)
    found: dict[str, float | None] = {"share_again_s": None, "rate_again_s": None}
    width_ns = round(SETTLE_WINDOW_S * NS_PER_S)
    for end_ns in range(heal_ns + width_ns, samples[-1]["t_ns"], INTERVAL_NS):
        now = link_of_all(samples, name, end_ns - width_ns, end_ns)
        if now[0] * before[1] >= SHARE_RATIO * before[0] * now[1] and found["share_again_s"] is None:
            found["share_again_s"] = (end_ns - heal_ns) / NS_PER_S
        if now[0] >= SHARE_RATIO * before[0] and found["rate_again_s"] is None:
            found["rate_again_s"] = (end_ns - heal_ns) / NS_PER_S
    return found


def link_of_all(samples: Sequence[dict[str, Any]], name: str, first_ns: int, last_ns: int) -> tuple[float, float]:
    """Return the mean rate of a link and of all links together, in bytes per 100 ms."""
    chosen = [sample for sample in samples if first_ns < sample["t_ns"] <= last_ns]
    count = len({sample["t_ns"] for sample in chosen}) or 1
    own = sum(sample["delivered_bytes"] for sample in chosen if sample["link"] == name)
    return own / count, sum(sample["delivered_bytes"] for sample in chosen) / count


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
