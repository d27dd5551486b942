"""From bytes on a socket to a datagram that is authentic, fresh and of this link, or to a counter.

Owns the order of the checks and the peer's flows. Does not own what a datagram causes (``tunnel.py``).

Sealed datagrams are opened before anything in their header is believed. The DATA of ``cleartext_data = 1`` cannot be
proven; it is taken only from the flow and the address that sealed datagrams have shown, and it changes neither.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mlvpn.burst.secretbox import make_box
from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.events import Address
from mlvpn.core.mlvpn1.counters import Mlvpn1Counters
from mlvpn.core.mlvpn1.flow import Flow, Flows
from mlvpn.core.mlvpn1.link import Link
from mlvpn.errors import PeerError
from mlvpn.wire.mlvpn1 import CONTROL_BODIES, HEADER_BYTES, Header, PacketType, unpack, unpack_run

_BODY_OF_TYPE: dict[int, bytes] = {int(kind): body for kind, body in CONTROL_BODIES.items()}
_AUTH_TYPES: Final = (PacketType.AUTH, PacketType.AUTH_OK)


class Fresh(NamedTuple):
    """A datagram to act on, or a run of DATA with consecutive seq."""

    header: Header
    """Of the first."""
    packets: list[tuple[int, bytes]]
    """(data_seq, packet) of each; empty when it is no DATA."""
    received_bytes: int
    is_authentic: bool
    is_newest: bool
    """Authentic and newer than all before it: its source is where the peer is."""
    begins_flow: bool
    """The peer has been started, or a link of it."""

    @property
    def datagrams(self) -> int:
        """How many datagrams these were."""
        return len(self.packets) or 1


class Incoming:
    """The checks that every datagram passes."""

    def __init__(self, key: bytes, cleartext: bool, counters: Mlvpn1Counters) -> None:
        self.set_key(key)
        self.cleartext = cleartext
        self.own_flow_ids: set[int] = set()
        self.flows = Flows()
        self._counters = counters

    def set_key(self, key: bytes) -> None:
        """Open with this key from now on."""
        self._key, self._box = key, make_box(key)

    def open_train(self, link: Link, train: ReceivedTrain, now_ns: int) -> list[Fresh]:
        """Check a train; return what is to be acted on, count why the rest is not. HOT PATH."""
        data, size = train.data, train.datagram_bytes
        if self.cleartext:
            bodies = [self._open_alone(data[start : start + size]) for start in range(0, len(data), size)]
        else:
            bodies = self._box.open_train(data, size)
            run = self._open_run(link, data, size, bodies)
            if run is not None:
                return [run]
        opened = []
        for start, body in zip(range(0, len(data), size), bodies, strict=True):
            fresh = self._check(link, data, start, min(start + size, len(data)), body, train.source, now_ns)
            if fresh is not None:
                opened.append(fresh)
        return opened

    def _open_run(self, link: Link, data: bytes, size: int, bodies: list[bytes | None]) -> Fresh | None:
        """Check a train all at once, when it is what it mostly is: packets of the current flow, in order."""
        flow = link.flow
        packets = [body for body in bodies if body is not None]
        if len(bodies) < 2 or len(packets) < len(bodies) or flow is None or flow.ended:
            return None
        run = unpack_run(data, size)
        if run is None or run[0].flow_id != flow.flow_id or not flow.accept_range(run[0].seq, len(packets)):
            return None
        return Fresh(run[0], list(zip(run[1], packets, strict=True)), len(data), True, True, False)

    def _open_alone(self, datagram: bytes) -> bytes | None:
        """Return a body as it is where it is cleartext, opened where it is sealed."""
        if len(datagram) > HEADER_BYTES and (datagram[2] >> 4 | (datagram[3] & 3) << 4) == PacketType.DATA:
            return datagram[HEADER_BYTES:]
        return self._box.open_train(datagram, len(datagram))[0]

    def _check(
        self, link: Link, data: bytes, start: int, end: int, body: bytes | None, source: Address, now_ns: int
    ) -> Fresh | None:
        """Check the datagram ``data[start:end]``, whose body has been opened."""
        try:
            header = unpack(data, start, end)
        except PeerError:
            self._counters.malformed_datagrams += 1
            return None
        if body is None:
            self._counters.unauthentic_datagrams += 1
            return None
        is_data = header.type == PacketType.DATA
        packets = [(header.data_seq, body)] if is_data else []
        if self.cleartext and is_data:
            return self._check_clear(link, header, packets, end - start, source)
        if not is_data and _BODY_OF_TYPE.get(header.type) != body:
            self._counters.malformed_datagrams += 1
            return None
        flow = link.flow
        if flow is None or flow.flow_id != header.flow_id or flow.ended:
            flow = self._other_flow(link, header, now_ns)
            if flow is None:
                return None
        if not flow.accept(header.seq):
            self._counters.replayed_datagrams += 1
            return None
        begins_flow = flow is not link.flow
        if begins_flow:
            link.begin_flow(flow)
        flow.ended = header.type == PacketType.DISCONNECT
        return Fresh(header, packets, end - start, True, header.seq == flow.newest_seq, begins_flow)

    def _check_clear(
        self, link: Link, header: Header, packets: list[tuple[int, bytes]], received_bytes: int, source: Address
    ) -> Fresh | None:
        flow = link.flow
        if flow is None or flow.flow_id != header.flow_id or source != link.heard_from:
            self._counters.foreign_clear_datagrams += 1
            return None
        if not flow.accept_clear(header.seq):
            self._counters.replayed_datagrams += 1
            return None
        return Fresh(header, packets, received_bytes, is_authentic=False, is_newest=False, begins_flow=False)

    def _other_flow(self, link: Link, header: Header, now_ns: int) -> Flow | None:
        """Decide on an authentic datagram that is not of the link's current, living flow."""
        if header.flow_id in self.own_flow_ids:
            self._counters.reflected_datagrams += 1
            return None
        known = self.flows.find(header.flow_id)
        if known is not None and known.link != link.name:
            self._counters.replayed_datagrams += 1
            return None
        if header.type == PacketType.DISCONNECT or (known and known.ended and header.type not in _AUTH_TYPES):
            self._counters.not_connected_datagrams += 1
            return None
        if known is not link.flow and not link.may_change_flow(now_ns):
            self._counters.second_peer_datagrams += 1
            return None
        return known or self.flows.begin(header.flow_id, link.name)
