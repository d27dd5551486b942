"""Somebody else on the wire: datagrams replayed, changed, cut short and made up. Counted, and nothing else happens.

The attacker reads what the client sends (the relay keeps it) and sends to the server from addresses of its own.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from inside import sockets_in
from relay import Relay

from mlvpn.core.responder import PENDING_NS
from mlvpn.lab.daemons import FIRST_PORT, Tunnel
from mlvpn.lab.measure import EchoProbes, UdpStream
from mlvpn.lab.topology import Lab, LinkSpec
from mlvpn.wire.header import HEADER_BYTES

pytestmark = pytest.mark.root

FLOOD_PER_S, FLOOD_S = 10_000, 3
GROWTH_BYTES = 4_000_000
FLOOD = """
import os, socket, sys, time
address, port, per_s, seconds = sys.argv[1], *map(int, sys.argv[2:5])
noise = [bytes.fromhex(sys.argv[5]) + os.urandom(16 + 37 * i % 1400) for i in range(499)]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
start, sent = time.monotonic(), 0
while sent < per_s * seconds:
    for _ in range(min(per_s * seconds, int(per_s * (time.monotonic() - start))) - sent):
        sock.sendto(noise[sent % len(noise)], (address, port))
        sent += 1
    time.sleep(0.001)
"""
"""A process of its own: 10,000 datagrams a second must not wait for this one."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab([LinkSpec("a")]) as lab:
        yield lab


@pytest.fixture
def attacker(lab: Lab) -> Iterator[socket.socket]:
    """Sends to the server's own port."""
    with sockets_in(lab.client):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((lab.address("server", "a"), FIRST_PORT))
    sock.setblocking(False)
    yield sock
    sock.close()


def drops(tunnel: Tunnel) -> dict[str, int]:
    counted: dict[str, int] = tunnel.server.status()["drops"]
    return counted


def during(lab: Lab, tunnel: Tunnel, attack: Callable[[], object]) -> dict[str, int]:
    """Attack while a probe goes through every 20 ms; return what the server dropped, by cause.

    Nothing may be lost, nothing but drops may be counted, the peer must stay where it is.
    """
    before, sessions = drops(tunnel), tunnel.server.status()["counters"]["handshake_confirmed"]
    remote = tunnel.server.status()["links"][0]["remote"]
    log_bytes = tunnel.server.log_path.stat().st_size
    probes = EchoProbes(lab.client, tunnel.address("server"), seconds=60)
    time.sleep(0.3)
    attack()
    time.sleep(0.3)
    report = probes.stop()
    assert len(report.probes) > 20
    assert sum(rtt_ns is None for _, rtt_ns in report.probes[:-5]) == 0  # the last may be under way
    status = tunnel.server.status()
    assert status["links"][0]["remote"] == remote
    assert status["counters"]["handshake_confirmed"] == sessions
    assert tunnel.server.log_path.stat().st_size - log_bytes < 1000
    return {cause: count - before[cause] for cause, count in status["drops"].items() if count != before[cause]}


def captured(lab: Lab, tunnel: Tunnel, relay: Relay, kind: int, count: int) -> list[bytes]:
    """Return datagrams of a type that the client sent."""
    UdpStream(lab.client, lab.server, tunnel.address("server"), seconds=0.2, rate_bps=10_000_000).wait()
    chosen = [datagram for datagram in relay.seen if datagram[0] == kind][-count:]
    assert chosen
    return chosen


DATA, INIT = 4, 1


def test_replayed_datagrams(lab: Lab, tunnel: Tunnel, relay: Relay, attacker: socket.socket) -> None:
    datagrams = captured(lab, tunnel, relay, DATA, 100)

    def replay() -> None:
        for datagram in datagrams * 3:
            attacker.send(datagram)

    delivered = tunnel.server.status()["counters"]["delivered_packets"]
    assert during(lab, tunnel, replay)["replayed_datagrams"] == 300
    assert tunnel.server.status()["counters"]["delivered_packets"] - delivered < 100  # the pings


def test_changed_and_shortened_datagrams(lab: Lab, tunnel: Tunnel, relay: Relay, attacker: socket.socket) -> None:
    chance = random.Random(1)
    datagrams = captured(lab, tunnel, relay, DATA, 100)

    def flip() -> None:
        for datagram in datagrams:
            at = chance.randrange(12, len(datagram))  # behind what says which session it is
            attacker.send(datagram[:at] + bytes([datagram[at] ^ 1 << chance.randrange(8)]) + datagram[at + 1 :])

    def shorten() -> None:
        for datagram in datagrams:
            attacker.send(datagram[: chance.randrange(1, len(datagram))])

    assert during(lab, tunnel, flip) == {"unauthentic_datagrams": 100}
    assert during(lab, tunnel, shorten) == {"unauthentic_datagrams": 100}


def test_a_recorded_handshake_changes_nothing(lab: Lab, tunnel: Tunnel, relay: Relay, attacker: socket.socket) -> None:
    tunnel.client.restart()
    tunnel.wait_ready()
    recorded = captured(lab, tunnel, relay, INIT, 1)[0]
    time.sleep(PENDING_NS / 1e9 + 1)  # the server has forgotten that it answered this one

    def replay() -> None:
        for _ in range(200):
            attacker.send(recorded)
            attacker.send(recorded[:40])
            attacker.send(recorded[:-1] + bytes([recorded[-1] ^ 1]))

    counted = during(lab, tunnel, replay)
    assert counted["handshake_bad_length"] == 200
    assert sum(counted.values()) >= 200


@pytest.mark.parametrize("kind", ["noise", "of a session"])
def test_10000_datagrams_a_second(lab: Lab, tunnel: Tunnel, relay: Relay, kind: str) -> None:
    """Noise is refused by its first bytes; behind a true header it costs a decryption each."""
    header = captured(lab, tunnel, relay, DATA, 1)[0][:HEADER_BYTES] if kind == "of a session" else b""
    address = (lab.address("server", "a"), str(FIRST_PORT))
    flood = [sys.executable, "-c", FLOOD, *address, str(FLOOD_PER_S), str(FLOOD_S), header.hex()]
    worker = tunnel.server.status()["worker_pid"]
    before_bytes = resident_bytes(worker)
    counted = during(lab, tunnel, lambda: lab.client.run(flood))
    after_bytes = resident_bytes(worker)
    print(f"{kind}: {counted}; worker {before_bytes / 1e6:.1f} MB before, {after_bytes / 1e6:.1f} MB after")
    assert sum(counted.values()) == FLOOD_PER_S * FLOOD_S
    assert after_bytes - before_bytes < GROWTH_BYTES


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
