"""What the core costs per burst and per datagram, without the kernel: ``python -m bench.core`` (no root).

Two tunnels in one process and virtual time, joined by links that carry whole trains, so that figures repeat within a
few per cent on a busy machine too: the clock is this thread's CPU time and the best round counts. Every burst is timed
by its stage:

    submit   TUN frames into the sending tunnel, sealed trains out of it
    receive  those trains into the receiving tunnel, TUN frames out of it
    reply    feedback into the sending tunnel
    tick     timers of both
    arm      when the next timer is due, asked after each of the others, as the daemon does

Use it before and after a change of `core`, `wire` or `burst`; `profile` shows the same with the system calls.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from mlvpn.burst import IMPLEMENTATION
from mlvpn.config import parse
from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.core.tunnel import NativeTunnel
from mlvpn.crypto.aead import Cipher
from mlvpn.crypto.keys import StaticKeys, public_of
from mlvpn.system.udp import MAX_MESSAGE_BYTES, MAX_SEGMENTS
from mlvpn.units import NS_PER_MS, NS_PER_S, NS_PER_US
from mlvpn.wire.vnet import GSO_TCPV4, NEEDS_CSUM, VnetHeader

START_NS = 1000 * NS_PER_S
DELAY_NS = 200 * NS_PER_US
LINKS = ("first", "second")
COSTS = {Cipher.AES_256_GCM: 1000, Cipher.CHACHA20_POLY1305: 2000}
WARM_UP_NS = 2 * NS_PER_S
ROUNDS, BURSTS = 7, 300
WARM_UP_BURSTS = 800
"""Until the pacers have found out that these links have no limit."""
STAGES = ("submit", "receive", "reply", "tick", "arm")
SLICE_BYTES = 1380

CONFIG = """
[general]
mode = "{mode}"
password = "x"
[first]
{first}
[second]
{second}
"""
_IPV4 = struct.Struct(">BBHHHBBHII")
_TCP = struct.Struct(">HHIIBBHHH")
_UDP = struct.Struct(">HHHH")


def _ipv4(protocol: int, body: bytes) -> bytes:
    return _IPV4.pack(0x45, 0, 20 + len(body), 7, 0x4000, 64, protocol, 0, 0x0A000001, 0x0A000002) + body


def super_packet(slices: int) -> bytes:
    """Return a TCP super-packet, as TSO makes them."""
    tcp = _TCP.pack(1000, 80, 1, 1, 8 << 4, 0x10, 65535, 0, 0) + bytes(12)
    head = VnetHeader(NEEDS_CSUM, GSO_TCPV4, 52, SLICE_BYTES, 20, 16).pack()
    return head + _ipv4(6, tcp + bytes(SLICE_BYTES * slices))


def datagram(payload_bytes: int) -> bytes:
    """Return a UDP packet with its checksum left to do, as a local program sends it."""
    udp = _UDP.pack(1000, 2000, 8 + payload_bytes, 0) + bytes(payload_bytes)
    return VnetHeader(NEEDS_CSUM, 0, 0, 0, 20, 6).pack() + _ipv4(17, udp)


class Case(NamedTuple):
    """One kind of burst, every ``every_ns``."""

    name: str
    burst: Sequence[bytes]
    every_ns: int


CASES = (
    Case("12 super-packets of 47 slices", [super_packet(47)] * 12, 4 * NS_PER_MS),
    Case("one super-packet of 44 slices", [super_packet(44)], NS_PER_MS),
    Case("one super-packet of 8 slices", [super_packet(8)], NS_PER_MS),
    Case("one packet of 1400 bytes", [datagram(1372)], NS_PER_MS),
    Case("64 packets of 1400 bytes", [datagram(1372)] * 64, NS_PER_MS),
    Case("64 packets of 92 bytes", [datagram(64)] * 64, NS_PER_MS),
    Case("one packet of 92 bytes", [datagram(64)], NS_PER_MS),
)


class Pair:
    """A client and a server whose links carry everything after ``DELAY_NS``."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.spent_ns: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._under_way: deque[tuple[int, str, Train]] = deque()
        private = {"client": bytes([1]) * 32, "server": bytes([2]) * 32}
        links = {
            "client": [f'remotehost = "10.0.0.2"\nremoteport = {5080 + number}' for number in range(2)],
            "server": [f"bindport = {5080 + number}" for number in range(2)],
        }
        self.tunnels: dict[str, NativeTunnel] = {}
        self._due_ns = dict.fromkeys(private, START_NS)
        for mode, other in (("client", "server"), ("server", "client")):
            text = CONFIG.format(mode=mode, first=links[mode][0], second=links[mode][1])
            keys = StaticKeys(private[mode], public_of(private[other]), bytes(32))
            self.tunnels[mode] = NativeTunnel(parse(text, mode), keys, COSTS, self.now_ns, random.Random(1).randbytes)
        for mode, remote in (("server", None), ("client", ("10.0.0.2", 5080))):
            for link in LINKS:
                self.tunnels[mode].socket_opened(link, ("10.0.0.1", 5080), remote, self.now_ns)
        self.run_until(self.now_ns + WARM_UP_NS)

    def run_until(self, end_ns: int) -> None:
        """Let time pass up to a moment, doing what is due on the way."""
        while True:
            mode = min(self._due_ns, key=self._due_ns.__getitem__)
            due_ns = max(self._due_ns[mode], self.now_ns + NS_PER_US)
            arrives = bool(self._under_way) and self._under_way[0][0] <= due_ns
            if arrives:
                due_ns = self._under_way[0][0]
            if due_ns > end_ns:
                break
            self.now_ns = max(self.now_ns, due_ns)
            if arrives:
                self._arrive(self._under_way[0][1])
            else:
                self._timed("tick", mode, self.tunnels[mode].tick)
        self.now_ns = end_ns

    def submit(self, frames: Sequence[bytes]) -> None:
        """Give the client a burst."""
        self._timed("submit", "client", self.tunnels["client"].submit, list(frames))

    def _arrive(self, mode: str) -> None:
        """Give an end all that has come for it by now."""
        source = ("10.0.0.1" if mode == "server" else "10.0.0.2", 5080)
        arrived = []
        while self._under_way and self._under_way[0][0] <= self.now_ns and self._under_way[0][1] == mode:
            train = self._under_way.popleft()[2]
            arrived += [
                ReceivedTrain(train.link, source, message, train.datagram_bytes, self.now_ns)
                for message in _messages(train)
            ]

        def receive(now_ns: int) -> None:
            for train in arrived:
                self.tunnels[mode].receive(train, now_ns)

        self._timed("receive" if mode == "server" else "reply", mode, receive)

    def _timed(self, stage: str, mode: str, call: Callable[..., None], *arguments: object) -> None:
        """Make a call into a tunnel and take everything out of it, as the daemon does."""
        tunnel = self.tunnels[mode]
        began_ns = time.thread_time_ns()
        call(*arguments, self.now_ns)
        sends = [train for taken in iter(partial(tunnel.take_sends, self.now_ns), []) for train in taken]
        deliveries = tunnel.take_deliveries()
        tunnel.take_events()
        taken_ns = time.thread_time_ns()
        due_ns = tunnel.next_deadline_ns()
        self.spent_ns[stage] += taken_ns - began_ns
        self.spent_ns["arm"] += time.thread_time_ns() - taken_ns
        self._due_ns[mode] = self.now_ns + NS_PER_S if due_ns is None else due_ns
        peer = "server" if mode == "client" else "client"
        for train in sends:
            self._under_way.append((self.now_ns + DELAY_NS, peer, train))
            self.counts[f"{mode} trains"] += 1
            self.counts[f"{mode} datagrams"] += -(-len(train.data) // train.datagram_bytes)
        self.counts[f"{mode} frames"] += len(deliveries)


def _messages(train: Train) -> Iterator[bytes]:
    """Cut a train into what one call can send."""
    size = min(MAX_SEGMENTS, MAX_MESSAGE_BYTES // train.datagram_bytes) * train.datagram_bytes
    for at in range(0, len(train.data), size):
        yield train.data[at : at + size]


class Cost(NamedTuple):
    """What one burst costs, in microseconds."""

    submit_us: float
    receive_us: float
    reply_us: float
    tick_us: float
    arm_us: float
    trains: float
    datagrams: float
    frames: float


def measure(case: Case, pair: Pair, bursts: int) -> Cost:
    """Send some bursts; return the mean cost of one."""
    pair.spent_ns.clear()
    pair.counts.clear()
    for _ in range(bursts):
        pair.submit(case.burst)
        pair.run_until(pair.now_ns + case.every_ns)
    submit_us, receive_us, reply_us, tick_us, arm_us = (pair.spent_ns[stage] / bursts / NS_PER_US for stage in STAGES)
    trains, datagrams, frames = (
        pair.counts[what] / bursts for what in ("client trains", "client datagrams", "server frames")
    )
    return Cost(submit_us, receive_us, reply_us, tick_us, arm_us, trains, datagrams, frames)


def main(arguments: Sequence[str]) -> int:
    """Measure and print all cases."""
    parser = argparse.ArgumentParser(prog="python -m bench.core", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--bursts", type=int, default=BURSTS, help="per round")
    options = parser.parse_args(arguments)
    table = Table(title=f"us of CPU per burst, {IMPLEMENTATION} kernels, best of {options.rounds} rounds", box=None)
    headers = ("burst", *STAGES, "sum", "trains", "datagrams", "us/datagram", "TUN writes")
    for header in headers:
        table.add_column(header, justify="left" if header == "burst" else "right")
    for case in CASES:
        pair = Pair()
        measure(case, pair, WARM_UP_BURSTS)
        best = min((measure(case, pair, options.bursts) for _ in range(options.rounds)), key=lambda cost: sum(cost[:5]))
        total_us = sum(best[:5])
        table.add_row(
            case.name,
            *(f"{value:.1f}" for value in (*best[:5], total_us, best.trains, best.datagrams)),
            f"{total_us / max(best.datagrams, 1):.2f}",
            f"{best.frames:.1f}",
        )
    Console(width=140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
