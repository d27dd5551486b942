"""Two tunnels and the links between them in virtual time: hours of bad network in seconds, the same again by seed.

Owns the clock, the links (rate, delay, jitter, reordering, loss, queue, cuts, changing addresses) and how fast an end
reads. Does not own what is sent (`sim/traffic.py`), the accounting of it (`sim/ledger.py`) or what is asserted (the
tests).

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
JITTER_HOLD_NS = 10 * MS
SOCKET_BYTES = 8 << 20
"""What an end that reads slowly keeps of all its links, in one queue that it reads datagram by datagram."""


@dataclass
class Path:
    """One direction of a link."""

    rate_bps: float = 20e6
    delay_ns: int = 10 * MS
    jitter_ns: int = 0
    """The delay wanders by so much to either side, a new offset each ``JITTER_HOLD_NS``, as in ``lab.channel``."""
    loss_ratio: float = 0.0
    buffer_ns: int = 100 * MS
    reorder_ratio: float = 0.0
    """So many datagrams are overtaken by those up to 5 ms behind them; else a path is FIFO."""
    up: bool = True
    mtu_bytes: int = 1500
    spoils_trains: bool = False
    """As some network cards do: of what is sent as a train nothing arrives whole."""
    free_ns: int = 0
    last_arrival_ns: int = 0
    jitter_offset_ns: int = 0
    jitter_until_ns: int = 0
    dropped: int = 0
    carried_bytes: int = 0

    def queue_ns(self, now_ns: int) -> int:
        """Return how long a datagram sent now would wait."""
        return max(self.free_ns - now_ns, 0)


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

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.up, self.down

    @property
    def whole(self) -> bool:
        """Whether both directions pass datagrams."""
        return self.up.up and self.down.up


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
        self.reads_bps = 0.0
        """What this end has processor for; 0: all there is."""
        self.read_ns = 0
        """Until when it is at what is in its socket."""
        self._flushing = False
        self.wake_ns = 0
        self.ticks = 0
        self.overdue_ticks = 0
        """How often a tick left something due that was due already: many would be a busy loop."""

    def submit(self, frames: list[bytes]) -> None:
        self.tunnel.submit(frames, self.sim.now_ns)
        self.flush()

    def flush(self) -> None:
        """Take everything out of the core, as the daemon does; what a delivery makes others submit included."""
        if self._flushing:
            return
        self._flushing = True
        now_ns = self.sim.now_ns
        while (sends := self.tunnel.take_sends(now_ns)) or (deliveries := self.tunnel.take_deliveries()):
            for train in sends:
                self.sim.carry(self, train)
            for delivery in [] if sends else deliveries:
                self.on_packet(b"".join(delivery)[10:], now_ns)
        self._flushing = False
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
        if due != self.wake_ns:
            self.wake_ns = due
            self.sim.at(due, self._wake)

    def _wake(self) -> None:
        if self.alive and self.sim.now_ns == self.wake_ns:
            self.wake_ns = 0
            self.ticks += 1
            self.tunnel.tick(self.sim.now_ns)
            due = self.tunnel.next_deadline_ns()
            self.overdue_ticks += due is not None and due <= self.sim.now_ns
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

    def __init__(self, links: list[SimLink], seed: int = 1, settings: dict[str, str] | None = None) -> None:
        """``settings``: a line of the client's configuration for some of the links."""
        self.now_ns = START_NS
        self.random = random.Random(seed)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._number = count()
        self.links = {link.name: link for link in links}
        self.settings = settings or {}
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
        if hasattr(self, mode):
            self._kill(getattr(self, mode))
        setattr(self, mode, end)
        for link in self.links.values():
            if mode == "client":
                tunnel.socket_opened(link.name, ("10.0.0.1", link.port), ("10.0.0.2", 5080), self.now_ns)
            else:
                tunnel.socket_opened(link.name, ("10.0.0.2", 5080), None, self.now_ns)
        end.flush()
        return end

    def _kill(self, end: End) -> None:
        """End a process without a word; a client's sockets get other ports next time."""
        end.alive = False
        for link in self.links.values() if end.is_client else ():
            link.port += 1

    def config(self, mode: str) -> Config:
        lines = ["[general]", f'mode = "{mode}"', 'password = "x"']
        for number, name in enumerate(self.links):
            lines.append(f"[{name}]")
            if mode == "client":
                lines += ['remotehost = "10.0.0.2"', f"remoteport = {5080 + number}", self.settings.get(name, "")]
            else:
                lines.append(f"bindport = {5080 + number}")
        return parse("\n".join(lines) + "\n", "sim.conf")

    def renew_socket(self, name: str) -> None:
        """Give the client's link a new socket and so a new source port, as after SocketWanted."""
        self.rebind(name)
        self.client.tunnel.socket_opened(name, ("10.0.0.1", self.links[name].port), ("10.0.0.2", 5080), self.now_ns)

    def rebind(self, name: str) -> None:
        """Let a NAT on the way choose another source port; neither end is told."""
        self.links[name].port += 1

    # --- time

    def at(self, when_ns: int, action: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._heap, (when_ns, next(self._number), action, arguments))

    def after(self, delay_ns: int, action: Callable[..., None], *arguments: object) -> None:
        self.at(self.now_ns + delay_ns, action, *arguments)

    def run(self, duration_ns: int) -> None:
        end_ns = self.now_ns + duration_ns
        heap = self._heap
        while heap and heap[0][0] <= end_ns:
            self.now_ns, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
        self.now_ns = end_ns

    def run_until(self, condition: Callable[[], bool], limit_ns: int) -> int:
        """Run until ``condition`` holds, looked at every 5 ms; return how long that took, ``limit_ns`` at most."""
        start_ns = self.now_ns
        while not condition() and self.now_ns - start_ns < limit_ns:
            self.run(5 * MS)
        return self.now_ns - start_ns

    # --- links

    def carry(self, sender: End, train: Train) -> None:
        """Put each datagram of a train on its link."""
        link = self.links[train.link]
        path = link.up if sender.is_client else link.down
        if not sender.is_client and train.destination is not None and train.destination[1] != link.port:
            path.dropped += 1  # the client's old port: nobody listens there
            return
        source = ("10.0.0.1", link.port) if sender.is_client else ("10.0.0.2", 5080)
        if len(train.data) <= train.datagram_bytes:
            self._carry_datagram(sender.is_client, link.name, path, source, train.data)
            return
        if path.spoils_trains:
            path.dropped += 1
            return
        for at in range(0, len(train.data), train.datagram_bytes):
            datagram = train.data[at : at + train.datagram_bytes]
            self._carry_datagram(sender.is_client, link.name, path, source, datagram)

    def _carry_datagram(self, up: bool, link: str, path: Path, source: tuple[str, int], datagram: bytes) -> None:
        arrival_ns = self.transit(path, len(datagram) + 28)
        if arrival_ns is not None:
            self.at(arrival_ns, self._arrive, up, link, path, source, datagram)

    def transit(self, path: Path, size: int) -> int | None:
        """Put an IP packet on a path, behind what is there; return when it arrives, None if it is lost."""
        now_ns = self.now_ns
        if not path.up or size > path.mtu_bytes or path.free_ns - now_ns > path.buffer_ns:
            path.dropped += 1
            return None
        path.free_ns = max(path.free_ns, now_ns) + int(size * 8e9 / path.rate_bps)
        path.carried_bytes += size
        if path.loss_ratio and self.random.random() < path.loss_ratio:
            path.dropped += 1
            return None
        arrival_ns = path.free_ns + path.delay_ns
        if path.jitter_ns:
            arrival_ns = max(path.free_ns, arrival_ns + self._jitter_offset_ns(path))
        if path.reorder_ratio and self.random.random() < path.reorder_ratio:
            arrival_ns += self.random.randrange(5 * MS)
        else:
            path.last_arrival_ns = arrival_ns = max(arrival_ns, path.last_arrival_ns)
        return arrival_ns

    def _jitter_offset_ns(self, path: Path) -> int:
        if path.free_ns >= path.jitter_until_ns:
            path.jitter_until_ns = path.free_ns + JITTER_HOLD_NS
            path.jitter_offset_ns = self.random.randrange(-path.jitter_ns, path.jitter_ns)
        return path.jitter_offset_ns

    def _arrive(self, up: bool, link: str, path: Path, source: tuple[str, int], datagram: bytes) -> None:
        end = self.server if up else self.client
        if not path.up or not end.alive:
            path.dropped += 1
            return
        train = ReceivedTrain(link, source, datagram, len(datagram), self.now_ns)
        if not end.reads_bps:
            self._read(end, train)
        elif max(end.read_ns - self.now_ns, 0) * end.reads_bps / 8e9 > SOCKET_BYTES:
            path.dropped += 1
        else:
            end.read_ns = max(end.read_ns, self.now_ns) + int(len(datagram) * 8e9 / end.reads_bps)
            self.at(end.read_ns, self._read, end, train)

    def _read(self, end: End, train: ReceivedTrain) -> None:
        if end.alive:
            end.tunnel.receive(train, self.now_ns)
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
