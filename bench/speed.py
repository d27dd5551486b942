"""How fast, at what cost: every system in turn, in the same lab, on the same cores. ``make bench-speed`` (root).

Both tunnel ends and the source and sink of the traffic share this machine's cores, and the two links between them are
unshaped, so every figure is "the whole system on these cores"; only ratios within one run mean anything. Rows are
measured in groups; within a round each group visits all systems one after the other, so that a busy minute hits all.

    python -m bench.speed --systems none,ours-c,wireguard-go --rows bulk,udp --rounds 1 --seconds 3
    python -m bench.speed --systems ours-c --rows bulk --rounds 6 --seconds 2 --before ../older/src   # what changed
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console

from bench import load, scaling
from bench.report import RESULTS, Results, figure, write_json
from bench.speed_tables import plot, print_tables
from bench.subject import SOURCE, frozen_sources
from bench.systems import SYSTEMS, Running, System, as_before, install, start
from bench.trial import go_first
from mlvpn.errors import Error, PermissionDeniedError
from mlvpn.lab.topology import Lab, LinkSpec

REFERENCES = ("wireguard-go", "mlvpn-c")
BLAST_SECONDS = 1.0
DATAGRAM_BYTES = (64, 1400)
FLOWS = (1, 8)
QUIET_S = 3
"""After bulk, until memory is looked at again: daemons may give some back once a second."""
FIRST_COLUMN, COLUMN = 60, 28
"""Characters; a table wider than the terminal can still be read in a file, a squeezed one cannot."""

Named = TypeVar("Named")
Figures = Iterator[tuple[str, float]]
"""Row -> value, as they are measured."""


def two_links(*, offloads: bool = True, with_lan: bool = False) -> Lab:
    """Return a lab with two unshaped links, and perhaps a third host behind the client."""
    return Lab([LinkSpec(name, offloads=offloads) for name in ("first", "second")], with_lan=with_lan)


def unshaped_links(count: int) -> Lab:
    """Return a lab with some unshaped links."""
    return Lab([LinkSpec(f"link{number}") for number in range(1, count + 1)])


def idle(lab: Lab, running: Running, seconds: float) -> Figures:
    """Start-up, and what the tunnel adds to a ping."""
    yield "start to first answer, s", running.started_s
    outside = load.ping(lab.client, lab.address("server", "first"), seconds)
    inside = load.ping(lab.client, running.server_address, seconds)
    for percent in (50, 99):
        yield f"added latency p{percent}, ms", inside.percentile_ms(percent) - outside.percentile_ms(percent)
    yield "memory at idle, MB", running.memory_bytes() / 1e6


def transfers(where: str, lab: Lab, running: Running, seconds: float) -> Figures:
    """Bulk TCP: one and several flows, both directions, between the ends or from a third host."""
    if lab.lan is not None:
        running.route_lan(lab)
    sender = lab.lan or lab.client
    for flows in FLOWS:
        for down in (False, True):
            result = load.bulk(running, sender, lab.server, down=down, flows=flows, seconds=seconds)
            name = f"TCP {flows} {'down' if down else 'up'}{where}"
            yield f"{name}, Mbit/s", result.rate_bps / 1e6
            if running.daemons:
                yield f"{name}, CPU s/GB", result.cpu_s_per_gb
    if running.daemons:
        yield f"memory after bulk{where}, MB", running.memory_bytes() / 1e6
        time.sleep(QUIET_S)
        yield f"memory a little later{where}, MB", running.memory_bytes() / 1e6


def transfers_plain_lan(where: str, lab: Lab, running: Running, seconds: float) -> Figures:
    """Bulk TCP from a third host whose network card is as plain as the links'."""
    assert lab.lan is not None
    for host in (lab.lan, lab.client):
        host.run([sys.executable, "-m", "mlvpn.lab.offload", "lan"])
    return transfers(where, lab, running, seconds)


def loaded(lab: Lab, running: Running, seconds: float) -> Figures:
    """A ping beside as much bulk TCP as the system carries."""
    for down in (False, True):
        name = f"ping beside TCP {FLOWS[-1]} {'down' if down else 'up'}"
        pings = load.ping_beside_bulk(running, lab.client, lab.server, down=down, flows=FLOWS[-1], seconds=seconds)
        for percent in (50, 99):
            yield f"{name} p{percent}, ms", pings.percentile_ms(percent)
        yield f"{name}, share lost", pings.lost / len(pings.probes)


def datagrams(lab: Lab, running: Running, _seconds: float) -> Figures:
    """The highest rates of datagrams."""
    for size_bytes in DATAGRAM_BYTES:
        pps = load.highest_pps(_blast(), running, lab.client, lab.server, size_bytes, BLAST_SECONDS)
        yield f"UDP {size_bytes} bytes, packets/s", pps


@functools.cache
def _blast() -> Path:
    return load.build_blast()


class Group(NamedTuple):
    """Rows measured together on one start of a system."""

    name: str
    lab: Callable[[], Lab]
    measure: Callable[[Lab, Running, float], Figures]
    wants: Callable[[System], bool] = lambda _system: True


def _is_tunnel(system: System) -> bool:
    return system.is_tunnel


def _bonds(system: System) -> bool:
    return system.bonds


GROUPS = [
    Group("idle", two_links, idle, _is_tunnel),
    Group("bulk", two_links, partial(transfers, "")),
    Group("loaded", two_links, loaded, _is_tunnel),
    Group("forwarded", partial(two_links, with_lan=True), partial(transfers, " forwarded")),
    Group("plain", partial(two_links, offloads=False), partial(transfers, " plain")),
    Group(
        "plain-forwarded",
        partial(two_links, offloads=False, with_lan=True),
        partial(transfers_plain_lan, " plain forwarded"),
    ),
    Group("udp", two_links, datagrams),
    Group("rates", two_links, scaling.rates, _is_tunnel),
    *(Group(f"links-{count}", partial(unshaped_links, count), scaling.links, _bonds) for count in scaling.LINKS),
    *(
        Group(f"slow-links-{count}", partial(scaling.slow_links_lab, count), scaling.slow_links, _bonds)
        for count in scaling.SLOW_LINKS
    ),
]


def measure(groups: Sequence[Group], systems: Sequence[System], rounds: int, seconds: float) -> Results:
    """Measure all groups of all systems, round by round; what a system cannot do is said and left out."""
    results = Results()
    for number in range(rounds):
        for group in groups:
            for system in filter(group.wants, systems):
                print(f"round {number + 1} of {rounds}, {group.name}: {system.name}", file=sys.stderr, flush=True)
                try:
                    with group.lab() as lab, start(system, lab) as running:
                        for row, value in group.measure(lab, running, seconds):
                            results.add(row, system.name, number, value)
                            print(f"    {row} = {figure(value)}", file=sys.stderr, flush=True)
                except Error as error:
                    print(f"    failed: {error}", file=sys.stderr, flush=True)
    return results


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--systems", type=_chosen(SYSTEMS), default=list(SYSTEMS.values()), help=", ".join(SYSTEMS))
    groups = {group.name: group for group in GROUPS}
    parser.add_argument("--rows", type=_chosen(groups), default=GROUPS, help=", ".join(groups))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each transfer")
    parser.add_argument("--source", type=Path, default=SOURCE, metavar="DIR", help="src of the tree to measure")
    parser.add_argument(
        "--before", type=Path, metavar="DIR", help="src of another tree: what is ours is also measured of it"
    )
    parser.add_argument("--name", default="speed", help="of the files in bench/results")
    return parser.parse_args(arguments)


def _chosen(known: dict[str, Named]) -> Callable[[str], list[Named]]:
    def choose(text: str) -> list[Named]:
        unknown = [name for name in text.split(",") if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return [known[name] for name in text.split(",")]

    return choose


def available(systems: Sequence[System]) -> list[System]:
    """Return the systems that can be measured here; say why the others cannot."""
    reasons = {system.name: system.absent_because() for system in systems}
    for name, reason in reasons.items():
        if reason:
            print(f"bench: without {name}: {reason}", flush=True)
    return [system for system in systems if not reasons[system.name]]


def with_before(system: System, source: Path) -> list[System]:
    """Return a system and, if it is ours, the same of other sources, to be measured right after it."""
    return [system, as_before(system, source)] if system.is_ours else [system]


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write the files."""
    options = parse(arguments)
    try:
        if os.geteuid() != 0:
            raise PermissionDeniedError("bench: network namespaces need root; run it with sudo")
        go_first()
        systems = available(options.systems)
        for packages in (load.PACKAGES, *(system.packages for system in systems)):
            install(packages)
        with ExitStack() as stack:
            os.environ["PYTHONPATH"] = str(stack.enter_context(frozen_sources(options.source)))
            if options.before is not None:
                before = stack.enter_context(frozen_sources(options.before))
                systems = [one for system in systems for one in with_before(system, before)]
            results = measure(options.rows, systems, options.rounds, options.seconds)
    except Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    names = [system.name for system in systems]
    path = write_json(options.name, {"systems": names, "seconds": options.seconds, "rows": results.values})
    plot(results, names, RESULTS / f"{options.name}.svg")
    width = max(shutil.get_terminal_size().columns, FIRST_COLUMN + COLUMN * len(names))
    references = (*REFERENCES, *(name for name in names if name not in SYSTEMS))
    print_tables(results, names, references, Console(width=width))
    print(f"every value: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
