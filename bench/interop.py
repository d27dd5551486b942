"""MLVPN 2.x's protocol, spoken by us and by the C daemon: how fast, at what cost. ``make bench-interop`` (root).

    MLVPN_C=/path/to/mlvpn python -m bench.interop --rounds 3 --seconds 5

All four pairs of ends are measured in turn in the same lab on the same cores: sealed, one TCP flow, two unshaped links,
both directions. Only ratios within one run mean anything. Without ``MLVPN_C`` only the pair of ours is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from bench import load
from bench.report import Results, figure, write_json
from bench.speed_tables import print_tables
from bench.subject import add_options, frozen_daemon
from bench.systems import SYSTEMS, Running, install, mlvpn_c_daemon
from bench.trial import go_first
from mlvpn.errors import Error, PermissionDeniedError, UsageError
from mlvpn.lab.daemons import Command, Tunnel
from mlvpn.lab.topology import Lab, LinkSpec

REFERENCE = "C-C"
PAIRS = ("ours-ours", "ours-C", "C-ours", REFERENCE)
"""Client and server."""
GENERAL: dict[str, str | int] = {"protocol": "mlvpn1", "mtu": 1400, "reorder_buffer_size": 256}
"""No datagram needs fragmenting, and the C daemon's reorder buffer does not overflow."""
MB = 1e6


def commands(pair: str, ours: Command) -> Command:
    """Start the daemon that the pair names for each end."""
    client, _, server = pair.partition("-")

    def command(config: Path, name: str) -> Sequence[str]:
        program = client if config.stem.endswith("client") else server
        return (ours if program == "ours" else mlvpn_c_daemon)(config, name)

    return command


def measure_pair(pair: str, ours: Command, seconds: float) -> Iterator[tuple[str, float]]:
    """Transfer both ways through one pair of daemons; yield rows and their values."""
    lab = Lab([LinkSpec("first"), LinkSpec("second")])
    with lab, Tunnel(lab, general=GENERAL, command=commands(pair, ours)) as tunnel:
        daemons = {"client": tunnel.client, "server": tunnel.server}
        running = Running(tunnel.address("server"), tunnel.interface, list(daemons.values()))
        for direction in ("up", "down"):
            before_s = {end: daemon.cpu_seconds() for end, daemon in daemons.items()}
            done = load.bulk(running, lab.client, lab.server, down=direction == "down", flows=1, seconds=seconds)
            yield f"{direction}, Mbit/s", done.rate_bps / MB
            for end, daemon in daemons.items():
                used_s = daemon.cpu_seconds() - before_s[end]
                yield f"{direction}, MB per CPU second of the {end}", done.received_bytes / MB / used_s


def measure(pairs: Sequence[str], ours: Command, rounds: int, seconds: float) -> Results:
    """Measure all pairs, round by round."""
    results = Results()
    for number in range(rounds):
        for pair in pairs:
            print(f"round {number + 1} of {rounds}: {pair}", file=sys.stderr, flush=True)
            for row, value in measure_pair(pair, ours, seconds):
                results.add(row, pair, number, value)
                print(f"    {row} = {figure(value)}", file=sys.stderr, flush=True)
    return results


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.interop", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=lambda text: text.split(","), default=list(PAIRS), help=", ".join(PAIRS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each transfer")
    add_options(parser)
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.pairs) - set(PAIRS)):
        parser.error(f"--pairs: {unknown[0]!r} is none of {', '.join(PAIRS)}")
    return options


def available(pairs: Sequence[str]) -> list[str]:
    """Return the pairs that can be measured here; say why the others cannot."""
    if not (reason := SYSTEMS["mlvpn-c"].absent_because()):
        return list(pairs)
    print(f"bench: without the C daemon: {reason}", flush=True)
    if not (left := [pair for pair in pairs if "C" not in pair]):
        raise UsageError(f"bench: nothing to measure: {reason}")
    return left


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write the file."""
    options = parse(arguments)
    try:
        pairs = available(options.pairs)
        if os.geteuid() != 0:
            raise PermissionDeniedError("bench: network namespaces need root; run it with sudo")
        go_first()
        install(load.PACKAGES)
        with frozen_daemon(options) as ours:
            results = measure(pairs, ours, options.rounds, options.seconds)
    except Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    path = write_json("interop", {"pairs": pairs, "seconds": options.seconds, "rows": results.values})
    print_tables(results, pairs, (REFERENCE,), Console(width=120))
    print(f"every value: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
