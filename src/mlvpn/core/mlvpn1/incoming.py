"""From bytes on a socket to a datagram that is authentic, fresh and of this link, or to a counter.

Owns the order of the checks and the peer's flows. Does not own what a datagram causes (``tunnel.py``).

Sealed datagrams are opened before anything in their header is believed. The DATA of ``cleartext_data = 1`` cannot be
proven; it is taken only from the flow and the address that sealed datagrams have shown, and it changes neither.
"""

from __future__ import annotations

from typing import NamedTuple

from mlvpn.core.events import Address
from mlvpn.core.mlvpn1.counters import Mlvpn1Counters
from mlvpn.core.mlvpn1.flow import Flow, Flows
from mlvpn.core.mlvpn1.link import Link
from mlvpn.errors import PeerError
from mlvpn.wire.mlvpn1 import CONTROL_BODIES, HEADER_BYTES, Header, PacketType, open_sealed, unpack

_BODY_OF_TYPE: dict[int, bytes] = {int(kind): body for kind, body in CONTROL_BODIES.items()}
_AUTH_TYPES = (PacketType.AUTH, PacketType.AUTH_OK)


class Fresh(NamedTuple):
    """A datagram to act on."""

    header: Header
    body: bytes
    is_authentic: bool
    is_newest: bool
    """Authentic and newer than all before it: its source is where the peer is."""
    begins_flow: bool
    """The peer has been started, or a link of it."""


class Incoming:
    """The checks that every datagram passes."""

    def __init__(self, key: bytes, cleartext: bool, counters: Mlvpn1Counters) -> None:
        self.key = key
        self.cleartext = cleartext
        self.own_flow_ids: set[int] = set()
        self.flows = Flows()
        self._counters = counters

    def open(self, link: Link, data: bytes, start: int, end: int, source: Address, now_ns: int) -> Fresh | None:
        """Check the datagram ``data[start:end]``; return None, and count why, when nothing is to be done. HOT PATH."""
        try:
            header = unpack(data, start, end)
        except PeerError:
            self._counters.malformed_datagrams += 1
            return None
        body = data[start + HEADER_BYTES : end]
        if self.cleartext and header.type == PacketType.DATA:
            return self._open_clear(link, header, body, source)
        try:
            body = open_sealed(body, header.flow_id, header.seq, self.key)
        except PeerError:
            self._counters.unauthentic_datagrams += 1
            return None
        if header.type != PacketType.DATA and _BODY_OF_TYPE.get(header.type) != body:
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
        return Fresh(header, body, True, header.seq == flow.newest_seq, begins_flow)

    def _open_clear(self, link: Link, header: Header, body: bytes, source: Address) -> Fresh | None:
        flow = link.flow
        if flow is None or flow.flow_id != header.flow_id or source != link.heard_from:
            self._counters.foreign_clear_datagrams += 1
            return None
        if not flow.accept_clear(header.seq):
            self._counters.replayed_datagrams += 1
            return None
        return Fresh(header, body, is_authentic=False, is_newest=False, begins_flow=False)

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
