"""Two tunnels and the links between them in virtual time: hours of bad network in seconds, the same again by seed.

Owns the clock, the links (rate, delay, jitter, loss, queue, cuts, changing addresses) and the accounting of every
packet. Does not own what is sent (`sim/traffic.py`) or what is asserted (the tests).

A packet is an IPv4/UDP or TCP packet with a 64-bit number in its payload, so that the far end can tell which came.
"""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from mlvpn.config import Config, parse
from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.core.events import Event, LinkDown, LinkUp, SocketWanted
from mlvpn.core.tunnel import NativeTunnel
from mlvpn.crypto.aead import Cipher
from mlvpn.crypto.keys import StaticKeys, public_of

MS = 1_000_000
SECOND = 1_000_000_000
COSTS = {Cipher.AES_256_GCM: 1000, Cipher.CHACHA20_POLY1305: 2000}
START_NS = 1000 * SECOND


@dataclass
class Path:
    """One direction of a link."""

    rate_bps: float = 20e6
    delay_ns: int = 10 * MS
    jitter_ns: int = 0
    loss_ratio: float = 0.0
    buffer_ns: int = 100 * MS
    up: bool = True
    mtu_bytes: int = 1500
    free_ns: int = 0
    last_arrival_ns: int = 0
    dropped: int = 0
    carried_bytes: int = 0


@dataclass
class SimLink:
    """A link: up is client to server."""

    name: str
    up: Path = field(default_factory=Path)
    down: Path = field(default_factory=Path)
    port: int = 40000

    def cut(self) -> None:
        self.up.up = self.down.up = False

    def heal(self) -> None:
        self.up.up = self.down.up = True


def sim_link(name: str, rate_bps: float, delay_ns: int, **more: float) -> SimLink:
    """Return a link that is the same in both directions."""
    return SimLink(name, Path(rate_bps, delay_ns, **more), Path(rate_bps, delay_ns, **more))  # type: ignore[arg-type]


class End:
    """One host: a tunnel, and what its TUN has received."""

    def __init__(self, sim: Simulator, tunnel: NativeTunnel, is_client: bool) -> None:
        self.sim = sim
        self.tunnel = tunnel
        self.is_client = is_client
        self.events: list[tuple[int, Event]] = []
        self.on_packet: Callable[[bytes, int], None] = lambda packet, now_ns: None
        self.alive = True
        self.wake_ns = 0

    def submit(self, frames: list[bytes]) -> None:
        self.tunnel.submit(frames, self.sim.now_ns)
        self.flush()

    def flush(self) -> None:
        """Take everything out of the core, as the daemon does."""
        now_ns = self.sim.now_ns
        for train in self.tunnel.take_sends():
            self.sim.carry(self, train)
        for delivery in self.tunnel.take_deliveries():
            self.on_packet(b"".join(delivery)[10:], now_ns)
        for event in self.tunnel.take_events():
            self.events.append((now_ns, event))
            if isinstance(event, SocketWanted):
                self.sim.renew_socket(event.link)
        self.arm()

    def arm(self) -> None:
        due = self.tunnel.next_deadline_ns()
        if due is None:
            return
        due = max(due, self.sim.now_ns + 1000)
        if self.wake_ns <= self.sim.now_ns or due < self.wake_ns:
            self.wake_ns = due
            self.sim.at(due, self._wake)

    def _wake(self) -> None:
        if self.alive and self.sim.now_ns >= self.wake_ns:
            self.wake_ns = 0
            self.tunnel.tick(self.sim.now_ns)
            self.flush()

    def link_changes(self) -> list[tuple[int, str, str]]:
        """Return (time, link, "up" or "down") as announced."""
        return [
            (at, event.link, "up" if isinstance(event, LinkUp) else "down")
            for at, event in self.events
            if isinstance(event, LinkUp | LinkDown)
        ]


class Simulator:
    """A client, a server, links between them, and a clock."""

    def __init__(self, links: list[SimLink], seed: int = 1, extra: str = "", client_extra: str = "") -> None:
        self.now_ns = START_NS
        self.random = random.Random(seed)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._number = count()
        self.links = {link.name: link for link in links}
        self.extra = extra
        self.client_extra = client_extra
        self._private = {"client": bytes([1]) * 32, "server": bytes([2]) * 32}
        self.client = self.start("client")
        self.server = self.start("server")

    def start(self, mode: str) -> End:
        """Start (or restart) one end with nothing remembered."""
        other = "server" if mode == "client" else "client"
        keys = StaticKeys(self._private[mode], public_of(self._private[other]), b"p" * 32)
        config = self.config(mode)
        tunnel = NativeTunnel(config, keys, COSTS, self.now_ns, self.random.randbytes)
        end = End(self, tunnel, mode == "client")
        setattr(self, mode, end)
        for link in self.links.values():
            if mode == "client":
                tunnel.socket_opened(link.name, ("10.0.0.1", link.port), ("10.0.0.2", 5080), self.now_ns)
            else:
                tunnel.socket_opened(link.name, ("10.0.0.2", 5080), None, self.now_ns)
        end.flush()
        return end

    def config(self, mode: str) -> Config:
        lines = ["[general]", f'mode = "{mode}"', 'password = "x"', self.extra]
        lines += [self.client_extra] if mode == "client" else []
        for number, name in enumerate(self.links):
            lines.append(f"[{name}]")
            if mode == "client":
                lines += ['remotehost = "10.0.0.2"', f"remoteport = {5080 + number}"]
            else:
                lines.append(f"bindport = {5080 + number}")
        return parse("\n".join(lines) + "\n", "sim.conf")

    def renew_socket(self, name: str) -> None:
        """Give the client's link a new source port, as after SocketWanted or behind a new NAT mapping."""
        self.links[name].port += 1
        self.client.tunnel.socket_opened(name, ("10.0.0.1", self.links[name].port), ("10.0.0.2", 5080), self.now_ns)

    # --- time

    def at(self, when_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when_ns, next(self._number), action))

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        self.at(self.now_ns + delay_ns, action)

    def run(self, duration_ns: int) -> None:
        end_ns = self.now_ns + duration_ns
        while self._heap and self._heap[0][0] <= end_ns:
            self.now_ns, _, action = heapq.heappop(self._heap)
            action()
        self.now_ns = end_ns

    # --- links

    def carry(self, sender: End, train: Train) -> None:
        """Put each datagram of a train on its link."""
        link = self.links[train.link]
        path = link.up if sender.is_client else link.down
        for at in range(0, len(train.data), train.datagram_bytes):
            self._carry_datagram(sender, link, path, train.data[at : at + train.datagram_bytes], train)

    def _carry_datagram(self, sender: End, link: SimLink, path: Path, datagram: bytes, train: Train) -> None:
        size = len(datagram) + 28
        now_ns = self.now_ns
        if not path.up or size > path.mtu_bytes or (path.free_ns - now_ns) > path.buffer_ns:
            path.dropped += 1
            return
        start_ns = max(path.free_ns, now_ns)
        path.free_ns = start_ns + int(size * 8e9 / path.rate_bps)
        path.carried_bytes += size
        if path.loss_ratio and self.random.random() < path.loss_ratio:
            return
        arrival_ns = path.free_ns + path.delay_ns
        if path.jitter_ns:
            arrival_ns += self.random.randrange(path.jitter_ns)
        path.last_arrival_ns = arrival_ns = max(arrival_ns, path.last_arrival_ns)
        if not sender.is_client and train.destination is not None and train.destination[1] != link.port:
            path.dropped += 1  # the client's old port: nobody listens there
            return
        source = ("10.0.0.1", link.port) if sender.is_client else ("10.0.0.2", 5080)
        self.at(arrival_ns, lambda: self._arrive(sender.is_client, link, path, datagram, source))

    def _arrive(self, to_server: bool, link: SimLink, path: Path, datagram: bytes, source: tuple[str, int]) -> None:
        end = self.server if to_server else self.client
        if not path.up or not end.alive:
            path.dropped += 1
            return
        end.tunnel.receive(ReceivedTrain(link.name, source, datagram, len(datagram), self.now_ns), self.now_ns)
        end.flush()


_IPV4 = struct.Struct(">BBHHHBBHII")
_UDP = struct.Struct(">HHHH")


def udp_frame(number: int, size: int = 1400, port: int = 1000) -> bytes:
    """Return a TUN frame with an IPv4/UDP packet of ``size`` bytes that carries ``number``."""
    header = _IPV4.pack(0x45, 0, size, 0, 0x4000, 64, 17, 0, 0x0A080001, 0x0A080002)
    payload = number.to_bytes(8, "big") + bytes(size - 36)
    return bytes(10) + header + _UDP.pack(port, 2000, size - 20, 0) + payload


def udp_number(packet: bytes) -> tuple[int, int]:
    """Return (port, number) of a packet made by ``udp_frame``."""
    return int.from_bytes(packet[20:22], "big"), int.from_bytes(packet[28:36], "big")
