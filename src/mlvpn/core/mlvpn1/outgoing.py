"""From a TUN frame to numbered, sealed datagrams in trains.

Owns the sending order of things: wait for room, which link, does it fit, numbers, seal, train. Does not own which links
may be chosen (``balance.rotation``), how much room there is (``window.py``) nor when control datagrams are due
(``tunnel.py``).

A packet is never cut short. One that no datagram can carry is dropped, and its sender told by ICMP. One that fits a
datagram but not the path's MTU is sent alone, for the kernel to fragment, as the C daemon does; its sender is told too,
should it be one that adapts, because packets that need no fragmenting cost a fraction. In TAP mode nobody can be told.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mlvpn.burst.secretbox import OVERHEAD_BYTES, make_box
from mlvpn.burst.segments import split
from mlvpn.core.burst_io import Train
from mlvpn.core.icmp import too_big
from mlvpn.core.interface import Matching
from mlvpn.core.mlvpn1.balance import RoundRobin
from mlvpn.core.mlvpn1.counters import Mlvpn1Counters
from mlvpn.core.mlvpn1.link import Link
from mlvpn.core.mlvpn1.outbox import Outbox, Run
from mlvpn.core.mlvpn1.window import UNLIMITED_DATAGRAMS, Answering
from mlvpn.errors import PeerError
from mlvpn.wire.mlvpn1 import (
    CONTROL_BODIES,
    HEADER_BYTES,
    MAC_BYTES,
    MAX_BODY_BYTES,
    MAX_SEALED_PACKET_BYTES,
    NO_TIMESTAMP,
    READS_TRAINS,
    VERSION,
    Header,
    PacketType,
    clear_train,
    pack,
    seal,
    timestamp,
)

QUEUE_PACKETS: Final = 500
"""What may wait for room, as in the queue of a plain TUN device, from which the C daemon reads."""
DEFAULT_PATH_MTU_BYTES: Final = 1500
IP_UDP_BYTES: Final = {4: 20 + 8, 6: 40 + 8}
NOTICE_EVERY_NS: Final = 100_000_000
"""At most one ICMP message in this time; a sender that obeys needs one."""

_DF: Final = 0x40


class Outgoing:
    """Numbers, seals and gathers what this end sends."""

    def __init__(self, key: bytes, cleartext: bool, is_tun: bool, counters: Mlvpn1Counters) -> None:
        self.cleartext = cleartext
        self.matching: Matching | None = None
        self.round_robin = RoundRobin()
        self.set_key(key)
        self._outbox = Outbox()
        self._trains: list[Train] = []
        self._counters = counters
        self.peer_reads_trains = False
        """It has said so: bursts cannot be too long for it."""
        self._answering = Answering()
        self._queue: deque[tuple[Link | None, list[bytes]]] = deque()
        """What waits for room: the link a filter chose, and the packets of a TUN frame."""
        self._queued_packets = 0
        self._has_room = True
        self.notices: list[bytes] = []
        """ICMP messages for senders of packets that are too big."""
        self._is_tun = is_tun
        self._data_seq = 0
        self._fitting_bytes = 0
        """So long packets go unfragmented over every link; longer ones need a look at theirs."""
        self._next_notice_ns = 0

    def set_key(self, key: bytes) -> None:
        """Seal with this key from now on."""
        self._key, self._box = key, make_box(key)

    def submit(self, frames: list[bytes], links: dict[str, Link]) -> None:
        """Queue TUN frames for the peer, super-packets as their packets. HOT PATH."""
        for frame in frames:
            try:
                packets = split(frame)
                pinned = self._filtered(packets[0], links) if self.matching else None
            except (PeerError, IndexError):
                self._counters.malformed_packets += 1
                continue
            self._queue.append((pinned, packets))
            self._queued_packets += len(packets)

    def take_trains(self, links: dict[str, Link], now_ns: int) -> list[Train]:
        """Return what is to be sent, in order; what finds no room waits. HOT PATH."""
        if self._queue:
            self._pump(links, now_ns)
        trains, self._trains = self._trains, []
        return trains

    def finish(self, links: dict[str, Link], now_ns: int) -> None:
        """Send what has room; nothing waits any longer."""
        self._pump(links, now_ns)
        self._drop_excess(0)

    @property
    def queued_packets(self) -> int:
        """How many packets wait for room."""
        return self._queued_packets

    def heard(self, header: Header, datagrams: int, links: dict[str, Link], now_ns: int) -> None:
        """Learn what the peer has read: its one loop reads all links in turn, so an answer counts for all. HOT PATH."""
        self._answering.heard(datagrams, now_ns)
        if header.timestamp_reply != NO_TIMESTAMP:
            for link in links.values():
                link.flight.answered(header.timestamp_reply)

    def deadline_ns(self, links: dict[str, Link]) -> int | None:
        """Say when there may be room for what waits, if nothing is answered until then."""
        deadlines = (link.flight.deadline_ns() for link in links.values()) if self._queue else ()
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def control(self, link: Link, kind: PacketType, now_ns: int) -> None:
        """Send a control datagram; these are sealed whatever the configuration says."""
        body = seal(CONTROL_BODIES[kind], link.flow_id, link.send_seq, self._key)
        stamps = timestamp(now_ns), link.take_echo(now_ns)
        header = Header(len(body), VERSION, kind, True, *stamps, link.flow_id, link.send_seq, READS_TRAINS)
        self._send(link, pack(header) + body, HEADER_BYTES + len(body), 1, now_ns)

    def packet_limit(self) -> int:
        """Return the bytes of the largest packet a datagram can carry."""
        return MAX_BODY_BYTES if self.cleartext else MAX_SEALED_PACKET_BYTES

    def unfragmented_limit(self, link: Link) -> int:
        """Return the bytes of the largest packet whose datagram fits the path's MTU."""
        address = link.heard_from or link.remote
        version = 6 if address is not None and ":" in address[0] else 4
        overhead = IP_UDP_BYTES[version] + HEADER_BYTES + (0 if self.cleartext else MAC_BYTES)
        return (link.path_mtu_bytes or DEFAULT_PATH_MTU_BYTES) - overhead

    def _filtered(self, packet: bytes, links: dict[str, Link]) -> Link | None:
        assert self.matching is not None
        for name in self.matching(packet):
            link = links.get(name)
            if link is not None and link.is_up:
                self._counters.filtered_packets += 1
                return link
        return None

    def _pump(self, links: dict[str, Link], now_ns: int) -> None:
        """Seal what waits, as far as there is room on every link. HOT PATH."""
        queue = self._queue
        self._find_room(links, now_ns)
        self._fitting_bytes = min(map(self.unfragmented_limit, links.values()), default=0)
        while queue and self._has_room:
            pinned, packets = queue.popleft()
            placed = self._place(packets, pinned if pinned and pinned.is_up else None, now_ns)
            self._queued_packets -= placed
            if placed < len(packets):
                queue.appendleft((pinned, packets[placed:]))
        for run in self._outbox.take():
            self._send_run(run, now_ns)
        self._drop_excess(QUEUE_PACKETS)

    def _find_room(self, links: dict[str, Link], now_ns: int) -> None:
        """Learn how much each link takes. Packets stay in their order, so all wait for the link that has no room."""
        is_limited = not self.peer_reads_trains and self._answering.is_likely(now_ns)
        for link in links.values():
            room = link.flight.room(now_ns)
            link.room = room if is_limited else UNLIMITED_DATAGRAMS
        self._has_room = all(link.room for link in links.values())

    def _place(self, packets: list[bytes], pinned: Link | None, now_ns: int) -> int:
        """Choose the link of each packet of one TUN frame, and number it; return for how many there was room."""
        choose = self.round_robin.choose
        for placed, packet in enumerate(packets):
            link = pinned or choose()
            if link is None:
                self._counters.no_link_packets += 1
                continue
            fits = len(packet) <= self._fitting_bytes or self._fits(link, packet, now_ns)
            if fits is not None:
                self._outbox.add(link, packet, self._data_seq, may_grow=fits)
                self._data_seq += 1
                link.room -= 1
                if link.room == 0:
                    self._has_room = False
                    return placed + 1
        return len(packets)

    def _drop_excess(self, most_packets: int) -> None:
        """Drop the newest of what waits, as a full device queue would; it has no numbers yet, so it leaves no gap."""
        while self._queued_packets > most_packets:
            pinned, packets = self._queue.pop()
            kept = packets[: most_packets - self._queued_packets]
            dropped = len(packets) - len(kept)
            self._counters.queue_full_packets += dropped
            self._queued_packets -= dropped
            if kept:
                self._queue.append((pinned, kept))

    def _fits(self, link: Link, packet: bytes, now_ns: int) -> bool | None:
        """Say whether a packet goes without fragmenting; None when no datagram can carry it."""
        fits_bytes = self.unfragmented_limit(link)
        if len(packet) <= fits_bytes:
            return True
        self._tell(packet, fits_bytes, now_ns)
        if len(packet) > self.packet_limit():
            self._counters.too_big_packets += 1
            return None
        self._counters.fragmented_packets += 1
        return False

    def _tell(self, packet: bytes, mtu_bytes: int, now_ns: int) -> None:
        """Tell the sender of a packet what size would fit, where it asked not to fragment."""
        if not self._is_tun or now_ns < self._next_notice_ns or (packet[0] >> 4 == 4 and not packet[6] & _DF):
            return
        notice = too_big(packet, mtu_bytes)
        if notice is not None:
            self._next_notice_ns = now_ns + NOTICE_EVERY_NS
            self.notices.append(notice)

    def _send_run(self, run: Run, now_ns: int) -> None:
        link = run.link
        numbers = link.flow_id, link.send_seq, run.data_seqs, timestamp(now_ns), link.take_echo(now_ns)
        data = clear_train(run.packets, *numbers) if self.cleartext else self._box.seal_train(run.packets, *numbers)
        overhead_bytes = HEADER_BYTES if self.cleartext else OVERHEAD_BYTES
        self._send(link, data, run.packet_bytes + overhead_bytes, len(run.packets), now_ns)

    def _send(self, link: Link, data: bytes, datagram_bytes: int, count: int, now_ns: int) -> None:
        link.flight.sent(timestamp(now_ns), count, now_ns)
        self._answering.sent(count)
        link.send_seq += count
        link.sent_datagrams += count
        link.sent_bytes += len(data)
        self._trains.append(Train(link.name, link.destination, data, datagram_bytes))
