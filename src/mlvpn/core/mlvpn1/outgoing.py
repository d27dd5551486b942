"""From a TUN frame to numbered, sealed datagrams in trains.

Owns the sending order of things: which link, does it fit, numbers, seal, train. Does not own which links may be chosen
(``balance.rotation``) nor when control datagrams are due (``tunnel.py``).

A packet is never cut short. One that no datagram can carry is dropped, and its sender told by ICMP. One that fits a
datagram but not the path's MTU is sent alone, for the kernel to fragment, as the C daemon does; its sender is told too,
should it be one that adapts, because packets that need no fragmenting cost a fraction. In TAP mode nobody can be told.
"""

from __future__ import annotations

from mlvpn.burst.secretbox import OVERHEAD_BYTES, make_box
from mlvpn.burst.segments import split
from mlvpn.core.burst_io import Train
from mlvpn.core.icmp import too_big
from mlvpn.core.interface import Matching
from mlvpn.core.mlvpn1.balance import RoundRobin
from mlvpn.core.mlvpn1.counters import Mlvpn1Counters
from mlvpn.core.mlvpn1.link import Link
from mlvpn.core.mlvpn1.outbox import Outbox, Run
from mlvpn.errors import PeerError
from mlvpn.wire.mlvpn1 import (
    CONTROL_BODIES,
    HEADER_BYTES,
    MAC_BYTES,
    MAX_BODY_BYTES,
    MAX_SEALED_PACKET_BYTES,
    VERSION,
    Header,
    PacketType,
    clear_train,
    pack,
    seal,
    timestamp,
)

DEFAULT_PATH_MTU_BYTES = 1500
IP_UDP_BYTES = {4: 20 + 8, 6: 40 + 8}
NOTICE_EVERY_NS = 100_000_000
"""At most one ICMP message in this time; a sender that obeys needs one."""

_DF = 0x40


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

    def submit(self, frames: list[bytes], links: dict[str, Link], now_ns: int) -> None:
        """Send TUN frames to the peer, super-packets as their packets. HOT PATH."""
        self._fitting_bytes = min(map(self.unfragmented_limit, links.values()), default=0)
        for frame in frames:
            try:
                self._place(split(frame), links, now_ns)
            except (PeerError, IndexError):
                self._counters.malformed_packets += 1
        for run in self._outbox.take():
            self._send_run(run, now_ns)

    def take_trains(self) -> list[Train]:
        """Return what is to be sent, in order."""
        trains, self._trains = self._trains, []
        return trains

    def control(self, link: Link, kind: PacketType, now_ns: int) -> None:
        """Send a control datagram; these are sealed whatever the configuration says."""
        body = seal(CONTROL_BODIES[kind], link.flow_id, link.send_seq, self._key)
        stamps = timestamp(now_ns), link.take_echo(now_ns)
        header = Header(len(body), VERSION, kind, True, *stamps, link.flow_id, link.send_seq, 0)
        self._send(link, pack(header) + body, HEADER_BYTES + len(body), 1)

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

    def _place(self, packets: list[bytes], links: dict[str, Link], now_ns: int) -> None:
        """Choose the link of each packet of one TUN frame, and number it."""
        filtered = self._filtered(packets[0], links) if self.matching else None
        choose = self.round_robin.choose
        for packet in packets:
            link = filtered or choose()
            if link is None:
                self._counters.no_link_packets += 1
                continue
            fits = len(packet) <= self._fitting_bytes or self._fits(link, packet, now_ns)
            if fits is not None:
                self._outbox.add(link, packet, self._data_seq, may_grow=fits)
                self._data_seq += 1

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
        self._send(link, data, run.packet_bytes + overhead_bytes, len(run.packets))

    def _send(self, link: Link, data: bytes, datagram_bytes: int, count: int) -> None:
        link.send_seq += count
        link.sent_datagrams += count
        link.sent_bytes += len(data)
        self._trains.append(Train(link.name, link.destination, data, datagram_bytes))
