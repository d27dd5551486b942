"""Plays a scenario: builds what it describes, lets the traffic run and the events happen, and says what was seen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console

from mlvpn.lab.daemons import Tunnel
from mlvpn.lab.live import LinkDisplay
from mlvpn.lab.measure import EchoProbes, EchoReport, TcpReport, TcpTransfer, UdpReport, UdpStream
from mlvpn.lab.scenario import Scenario
from mlvpn.lab.topology import Lab
from mlvpn.units import NS_PER_MS, NS_PER_S, format_rate_bps


@dataclass(frozen=True)
class Outcome:
    """What a scenario did."""

    traffic: TcpReport | UdpReport
    pings: EchoReport
    links: dict[str, dict[str, Any]]
    """Counters by "link/direction"."""
    daemon_cpu_seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON types."""
        return asdict(self)


def play(scenario: Scenario, console: Console) -> Outcome:
    """Run a scenario from nothing to nothing."""
    with Lab(scenario.links, seed=scenario.seed) as lab, inside(lab, scenario) as tunnel:
        carrier = tunnel or next(iter(lab.links))
        addresses = {
            host: carrier.address(host) if isinstance(carrier, Tunnel) else lab.address(host, carrier)
            for host in ("client", "server")
        }
        for link in lab.links:
            lab.emulator.restart_trace(link)
        flow = start_traffic(lab, scenario, addresses)
        pings = EchoProbes(lab.client, addresses["server"], seconds=scenario.seconds)
        watch(lab, scenario, console, flow)
        cpu_seconds = {"client": tunnel.client.cpu_seconds(), "server": tunnel.server.cpu_seconds()} if tunnel else {}
        return Outcome(flow.wait(), pings.wait(), lab.emulator.counters(), cpu_seconds)


@contextmanager
def inside(lab: Lab, scenario: Scenario) -> Iterator[Tunnel | None]:
    """Enter the tunnel the scenario wants, if any."""
    if scenario.tunnel is None:
        yield None
    else:
        with Tunnel(lab, general=scenario.tunnel) as tunnel:
            yield tunnel


def start_traffic(lab: Lab, scenario: Scenario, addresses: dict[str, str]) -> TcpTransfer | UdpStream:
    """Start what is to be measured."""
    traffic = scenario.traffic
    sender, receiver = ("client", "server") if traffic.direction == "up" else ("server", "client")
    ends = lab.host(sender), lab.host(receiver), addresses[receiver]
    if traffic.kind == "udp":
        return UdpStream(*ends, seconds=scenario.seconds, rate_bps=traffic.rate, size_bytes=traffic.size)
    return TcpTransfer(*ends, seconds=scenario.seconds, flows=traffic.flows, congestion=traffic.congestion)


def watch(lab: Lab, scenario: Scenario, console: Console, flow: TcpTransfer | UdpStream) -> None:
    """Show the links and let the events happen until the traffic ends."""
    start_ns = time.monotonic_ns()
    events = deque(replace(event, at_ns=start_ns + event.at_ns) for event in scenario.events)

    def running() -> bool:
        while events and time.monotonic_ns() >= events[0].at_ns:
            event = events.popleft()
            event.perform(lab)
            console.print(f"after {(event.at_ns - start_ns) / NS_PER_S:g} s: {event}", highlight=False)
        return flow.is_running

    traffic = scenario.traffic
    with LinkDisplay(lab, console, traffic.direction, f"{traffic.kind} {traffic.direction}") as display:
        display.run(running, flow.rate_bps)


def describe(outcome: Outcome) -> list[str]:
    """Say what was seen, a line each."""
    traffic, pings = outcome.traffic, outcome.pings
    pause = f"longest pause {traffic.longest_gap_ns / NS_PER_MS:.0f} ms"
    if isinstance(traffic, TcpReport):
        lines = [f"tcp: {format_rate_bps(traffic.rate_bps())}, {pause}, {traffic.broken_flows} flows broken"]
    else:
        lines = [
            f"udp: {traffic.received} of {traffic.sent} arrived, {traffic.late} late, {traffic.duplicates} twice, "
            f"{pause}, one way p50 {traffic.latency_ms(50):.1f} ms, p99 {traffic.latency_ms(99):.1f} ms"
        ]
    lines.append(
        f"ping: p50 {pings.percentile_ms(50):.1f} ms, p99 {pings.percentile_ms(99):.1f} ms, {pings.lost} of "
        f"{len(pings.probes)} lost, longest silence {pings.longest_gap_ms():.0f} ms"
    )
    for name, counters in outcome.links.items():
        lost = ", ".join(f"{cause} {counters[f'dropped_{cause}_packets']}" for cause in ("queue", "loss", "cut"))
        lines.append(f"{name}: {counters['delivered_packets']} packets delivered; dropped: {lost}")
        if counters["missed_frames"]:
            lines.append(
                f"{name}: the emulator was too slow for {counters['missed_frames']} packets; do not trust this run"
            )
    lines += [f"{end} daemon: {seconds:.1f} s of CPU" for end, seconds in outcome.daemon_cpu_seconds.items()]
    return lines
