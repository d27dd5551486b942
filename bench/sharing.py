"""Does the bond share? Two tunnels over the same links, and a foreign TCP flow on one or the only link of a tunnel.

A tunnel that holds its queues short could be starved by a flow that fills them, and one that repairs its own losses
could starve others. Both are seen here as the share each gets of what all together carried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

from bench.cells import Check
from bench.rows import link
from bench.trial import Progress, goodput_bps
from mlvpn.lab.daemons import Command, Tunnel
from mlvpn.lab.measure import TcpReport, TcpTransfer
from mlvpn.lab.topology import Lab, LinkSpec

SECONDS, FROM_S = 40.0, 20.0
MIN_SHARE_RATIO = 0.2
"""Of a link or a bottleneck that two share: below this we call it starved. Even between two flows of the same TCP with
different round trips shares of 0.3 are usual."""

TCP_PAYLOAD_RATIO = 1448 / 1500
"""Of a packet outside the tunnel."""

SHARED = (link("a", 30, 15), link("b", 20, 25))
LONE = SHARED[1:]
FOREIGN_LINK = "b"
CONGESTIONS = ("cubic", "bbr")


@dataclass(frozen=True)
class Sharing:
    """Who got how much of what."""

    name: str
    rates_bps: dict[str, float]
    """Of each contender, where they compete."""

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of each."""
        total_bps = sum(self.rates_bps.values())
        return {name: rate_bps / total_bps for name, rate_bps in self.rates_bps.items()}

    def checks(self) -> list[Check]:
        """Hold the shares against the limit."""
        return [Check(f"share of {name}", share, MIN_SHARE_RATIO, at_least=True) for name, share in self.shares.items()]


def measure_sharing(progress: Progress, command: Command) -> Iterator[Sharing]:
    """Measure every combination."""
    for congestion in CONGESTIONS:
        progress.title = f"sharing, two tunnels, {congestion}"
        yield two_tunnels(congestion, progress, command)
    for links, inside, foreign in product((SHARED, LONE), CONGESTIONS, CONGESTIONS):
        progress.title = f"sharing, {inside} over {len(links)} links, {foreign} beside it on one"
        yield foreign_flow(links, inside, foreign, progress, command)


def two_tunnels(congestion: str, progress: Progress, command: Command) -> Sharing:
    """Let one flow run in each of two tunnels over the same links."""
    with Lab(SHARED) as lab, ExitStack() as stack:
        tunnels = [stack.enter_context(Tunnel(lab, number=number, command=command)) for number in range(2)]
        flows = {
            f"tunnel {number}": TcpTransfer(
                lab.server, lab.client, tunnel.address("client"), seconds=SECONDS, congestion=congestion
            )
            for number, tunnel in enumerate(tunnels, 1)
        }
        return Sharing(f"two tunnels over the same two links, {congestion} in each", finish(flows, progress))


def foreign_flow(links: Sequence[LinkSpec], inside: str, foreign: str, progress: Progress, command: Command) -> Sharing:
    """Let a flow run beside the tunnel on one of its links; compare what each carries on that link."""
    with Lab(links) as lab, Tunnel(lab, command=command) as tunnel:
        flows = {
            "tunnel": TcpTransfer(lab.server, lab.client, tunnel.address("client"), seconds=SECONDS, congestion=inside),
            "foreign": TcpTransfer(
                lab.server, lab.client, lab.address("client", FOREIGN_LINK), seconds=SECONDS, congestion=foreign
            ),
        }
        foreign_bps = finish(flows, progress)["foreign"] / TCP_PAYLOAD_RATIO
        carried_bps = carried_on(lab, FOREIGN_LINK)
    return Sharing(
        f"on one of {len(links)}: the tunnel ({inside} inside) and a foreign flow ({foreign})",
        {"tunnel": max(0.0, carried_bps - foreign_bps), "foreign": foreign_bps},
    )


def finish(flows: Mapping[str, TcpTransfer], progress: Progress) -> dict[str, float]:
    """Wait for all flows; return the goodput of each in the time that counts."""
    running: Callable[[], bool] = lambda: any(flow.is_running for flow in flows.values())  # noqa: E731
    progress.watch(running, lambda: sum(flow.rate_bps() for flow in flows.values()))
    reports: dict[str, TcpReport] = {name: flow.wait() for name, flow in flows.items()}
    return {name: goodput_bps(report.interval_bytes, FROM_S, SECONDS) for name, report in reports.items()}


def carried_on(lab: Lab, name: str) -> float:
    """Return what a link carried towards the client in the time that counts."""
    sizes_bytes: list[int] = [
        sample["delivered_bytes"]
        for sample in lab.emulator.series()
        if sample["link"] == name and sample["direction"] == "down"
    ][-round((SECONDS - FROM_S) * 10) :]
    return sum(sizes_bytes) * 80 / len(sizes_bytes)
