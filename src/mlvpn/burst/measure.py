"""Print what the burst kernels cost here, per datagram: ``python -m mlvpn.burst.measure`` (a few seconds).

Owns the workloads: a train of slices of one super-packet, a train of full datagrams that are not joined (packets), and
one small datagram by itself (control, or a lone packet). Every implementation takes its turn in every round; the best
round counts, for what disturbs a measurement only ever makes it longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from mlvpn.burst.api import VNET_HEADER_BYTES, Opener, Sealer
from mlvpn.crypto.aead import KEY_BYTES, Cipher
from mlvpn.wire.frame import SLICE_HEAD, Kind, first_byte
from mlvpn.wire.header import OVERHEAD_BYTES

ROUNDS = 15
ROUND_NS = 10_000_000
INDEX = 7

CSUM_START = 20
TEMPLATE = bytes(CSUM_START + 12) + b"\x80" + bytes(19)
"""IPv4 and TCP with 12 bytes of options, as bulk TCP has it."""
SLICE_BYTES = 1380
SLICES = 44
FRAME = bytes(VNET_HEADER_BYTES) + TEMPLATE + bytes(SLICE_BYTES * SLICES)
DATAGRAM_BYTES = OVERHEAD_BYTES + SLICE_HEAD.size + len(TEMPLATE) + SLICE_BYTES
"""1472: with 28 bytes of IP and UDP a full Ethernet frame."""
SLICE = first_byte(Kind.SLICE_TCP4, lane=1, equalise=False)
PACKETS = bytes([first_byte(Kind.PACKETS, lane=1, equalise=False)])
BODIES = [PACKETS.ljust(DATAGRAM_BYTES - OVERHEAD_BYTES, b"\0")] * SLICES
SMALL = [PACKETS.ljust(80, b"\0")]


class Case(NamedTuple):
    """One workload of one implementation."""

    name: str
    implementation: str
    cipher: Cipher
    datagrams: int
    run: Callable[[], object]


def cases(implementation: str, cipher: Cipher) -> list[Case]:
    """Return every workload for an implementation and a cipher."""
    kernels = import_module(f"mlvpn.burst.{implementation}")
    sealer: Sealer = kernels.Sealer(cipher, bytes(KEY_BYTES), INDEX, False)
    opener: Opener = kernels.Opener(cipher, bytes(KEY_BYTES), INDEX, False)

    def slices() -> bytes:
        return sealer.seal_slices(1, 5, 9, SLICE, 70, FRAME, CSUM_START, len(TEMPLATE), SLICE_BYTES, 0, SLICES)

    train, bodies, small = (
        slices(),
        b"".join(sealer.seal_bodies(1, 5, 9, BODIES)),
        sealer.seal_bodies(1, 5, 9, SMALL)[0],
    )
    workloads: list[tuple[str, int, Callable[[], object]]] = [
        (f"seal {SLICES} slices", SLICES, slices),
        (f"open and join {SLICES} slices", SLICES, lambda: opener.open_train(train, DATAGRAM_BYTES)),
        (f"seal {SLICES} full bodies", SLICES, lambda: sealer.seal_bodies(1, 5, 9, BODIES)),
        (f"open {SLICES} full bodies", SLICES, lambda: opener.open_train(bodies, DATAGRAM_BYTES)),
        ("seal one small body", 1, lambda: sealer.seal_bodies(1, 5, 9, SMALL)),
        ("open one small body", 1, lambda: opener.open_train(small, 0)),
    ]
    return [Case(name, implementation, cipher, datagrams, run) for name, datagrams, run in workloads]


def datagram_ns(case: Case) -> float:
    """Run a workload for one round; return nanoseconds per datagram."""
    runs, began_ns = 0, time.perf_counter_ns()
    while (took_ns := time.perf_counter_ns() - began_ns) < ROUND_NS:
        for _ in range(10):
            case.run()
        runs += 10
    return took_ns / runs / case.datagrams


def measure(all_cases: list[Case]) -> dict[Case, float]:
    """Return the best round of every case, in nanoseconds per datagram."""
    rounds = [[datagram_ns(case) for case in all_cases] for _ in range(ROUNDS)]
    return dict(zip(all_cases, map(min, zip(*rounds, strict=True)), strict=True))


def available() -> dict[str, str]:
    """Return the implementations that load, with a column title each."""
    titles = {"python": "Python"}
    try:
        titles["c"] = f"C ({import_module('mlvpn.burst.c').LIBRARIES})"
    except ImportError:
        pass
    return titles


def main() -> None:
    """Print a Markdown table."""
    titles = available()
    costs = measure([case for cipher in Cipher for name in titles for case in cases(name, cipher)])
    print(f"| ns per datagram, {DATAGRAM_BYTES} bytes where full |", " | ".join(titles.values()), "|")
    print("|---|" + "---|" * len(titles))
    for cipher in Cipher:
        for name in dict.fromkeys(case.name for case in costs):
            row = [f"{ns:.0f}" for case, ns in costs.items() if (case.name, case.cipher) == (name, cipher)]
            print(f"| {cipher.name}: {name} |", " | ".join(row), "|")


if __name__ == "__main__":
    main()
