"""The tour: two unequal links, each alone, then bonded, then one of them cut in mid-transfer.

Runs on one machine with nothing configured, as root: ``mlvpn demo``. Every figure is measured, on real daemons with
real configuration files and the kernel's own TCP. Exit code 0: the bond carried at least ``WANTED_RATIO`` of the sum
of its links and the transfer survived the cut; 1: it did not; 4: not root.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from mlvpn.errors import Error
from mlvpn.lab.daemons import Command, Tunnel, our_daemon
from mlvpn.lab.live import LinkDisplay
from mlvpn.lab.measure import EchoProbes, EchoReport, TcpReport, TcpTransfer
from mlvpn.lab.topology import Lab, LinkSpec
from mlvpn.units import NS_PER_MS

LINKS = (
    LinkSpec("cable", rate_bps=50_000_000, delay_ns=15 * NS_PER_MS),
    LinkSpec("dsl", rate_bps=20_000_000, delay_ns=25 * NS_PER_MS),
)
WANTED_RATIO = 0.85
MEASURE_S = 12
SETTLE_S = 4
"""The rate is that of the rest of ``MEASURE_S``: how long TCP takes to start is not the question here."""
CUT_TRANSFER_S = 20
CUT_AT_S = 8.0
CUT_LINK = "cable"
AFTER_CUT_S = 12.0
"""From here on the transfer has settled on the link that is left."""


@dataclass(frozen=True)
class CutResult:
    """What a cut in mid-transfer did."""

    transfer: TcpReport
    probes: EchoReport

    @property
    def survived(self) -> bool:
        """Whether no connection broke and data still came at the end."""
        return not self.transfer.broken_flows and self.transfer.rate_bps(AFTER_CUT_S) > 0


def measure(lab: Lab, console: Console, links: Sequence[str], command: Command) -> TcpReport:
    """Measure one TCP transfer from the server to the client through a tunnel over some of the links."""
    title = f"{' + '.join(links)}{' bonded' if len(links) > 1 else ' alone'}"
    with Tunnel(lab, links=links, command=command) as tunnel:
        transfer = TcpTransfer(lab.server, lab.client, tunnel.address("client"), seconds=MEASURE_S)
        with LinkDisplay(lab, console, "down", title) as display:
            display.run(lambda: transfer.is_running, transfer.rate_bps)
        report = transfer.wait()
    console.print(f"[bold]{title}[/bold]: {report.rate_bps(SETTLE_S) / 1e6:.1f} Mbit/s", highlight=False)
    return report


def cut_in_transfer(lab: Lab, console: Console, command: Command) -> CutResult:
    """Cut a link while a transfer runs over both, silently: its interface stays up."""
    with Tunnel(lab, command=command) as tunnel:
        transfer = TcpTransfer(lab.server, lab.client, tunnel.address("client"), seconds=CUT_TRANSFER_S)
        probes = EchoProbes(lab.client, tunnel.address("server"), seconds=CUT_TRANSFER_S)
        cut_at = time.monotonic() + CUT_AT_S

        def running() -> bool:
            nonlocal cut_at
            if time.monotonic() >= cut_at:
                lab.emulator.cut(CUT_LINK)
                cut_at = float("inf")
                console.print(f"[bold red]{CUT_LINK} is cut[/bold red], silently: its interface stays up")
            return transfer.is_running

        with LinkDisplay(lab, console, "down", f"{CUT_LINK} is cut after {CUT_AT_S:g} s") as display:
            display.run(running, transfer.rate_bps)
        return CutResult(transfer.wait(), probes.wait())


def print_results(console: Console, alone: dict[str, float], bond_bps: float, cut: CutResult) -> bool:
    """Print the table and the verdict; return whether all is as wanted."""
    sum_bps = sum(alone.values())
    ratio = bond_bps / sum_bps
    table = Table(box=None, pad_edge=False)
    for header in ("one TCP flow through the tunnel over", "Mbit/s"):
        table.add_column(header, justify="right" if header == "Mbit/s" else "left")
    for link, rate_bps in alone.items():
        table.add_row(f"{link} alone", f"{rate_bps / 1e6:.1f}")
    table.add_row("both, bonded", f"[bold]{bond_bps / 1e6:.1f}[/bold]")
    table.add_row(f"after the cut of {CUT_LINK}", f"{cut.transfer.rate_bps(AFTER_CUT_S) / 1e6:.1f}")
    console.print()
    console.print(table)
    console.print()
    console.print(f"The bond carried {ratio:.2f} of the sum of its links (wanted: at least {WANTED_RATIO}).")
    console.print(
        f"The transfer {'survived' if cut.survived else 'did not survive'} the cut; "
        f"its longest pause was {cut.transfer.longest_gap_ns / NS_PER_MS:.0f} ms. "
        f"Of {len(cut.probes.probes)} pings, one each 20 ms, {cut.probes.lost} were lost; "
        f"the longest time without an answer was {cut.probes.longest_gap_ms():.0f} ms."
    )
    return ratio >= WANTED_RATIO and cut.survived


def run(console: Console, command: Command = our_daemon) -> int:
    """Run the tour; return the exit code."""
    started = time.monotonic()
    with Lab(LINKS) as lab:
        console.print("Two hosts in network namespaces, two links between them:")
        for link in LINKS:
            assert link.rate_bps is not None
            figures = f"{link.rate_bps / 1e6:g} Mbit/s, {link.delay_ns / NS_PER_MS:g} ms one way"
            console.print(f"  {link.name}: {figures}", highlight=False)
        alone = {link.name: measure(lab, console, [link.name], command).rate_bps(SETTLE_S) for link in LINKS}
        bond = measure(lab, console, [link.name for link in LINKS], command)
        cut = cut_in_transfer(lab, console, command)
    good = print_results(console, alone, bond.rate_bps(SETTLE_S), cut)
    console.print(f"Took {time.monotonic() - started:.0f} s; nothing is left behind.", highlight=False)
    return 0 if good else 1


def main() -> int:
    """Run the tour and turn errors into a message and an exit code."""
    try:
        return run(Console())
    except Error as error:
        print(f"mlvpn demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
