"""Which of this host's addresses each peer writes to, so that it is answered from there.

A socket bound to no address sends from whatever address the route prefers. On a host with several that may be another
than the peer wrote to, and the peer's connected socket drops the answer. So such a socket has the kernel say with each
train where it arrived (IP_PKTINFO, IPV6_RECVPKTINFO), and what goes to that peer carries the same address back.

Owns the memory and the ancillary data of both directions. Does not own the socket. Sources: man 7 ip, ipv6; RFC 3542.
"""

from __future__ import annotations

import socket
from collections import OrderedDict

from mlvpn.core.events import Address

PEERS = 4096
"""Remembered at most; anybody can write to a server. Who was neither heard nor written to for longest is forgotten."""
ANCILLARY_BYTES = socket.CMSG_SPACE(20)
"""Room for ``struct in6_pktinfo``, the larger of the two."""

Ancillary = tuple[int, int, bytes]

_IP_PKTINFO = 8
_ANY = frozenset(("0.0.0.0", "::"))


class OwnAddresses:
    """One socket's memory; always empty where the socket is bound to an address, as it has only that one."""

    def __init__(self, sock: socket.socket) -> None:
        self._by_peer: OrderedDict[Address, Ancillary] = OrderedDict()
        if sock.getsockname()[0] not in _ANY:
            return
        if sock.family == socket.AF_INET6:  # a dual-stack socket speaks of IPv4 in the same form
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def __len__(self) -> int:
        return len(self._by_peer)

    def heard(self, peer: Address, ancillary: Ancillary) -> None:
        """Learn where a train from ``peer`` arrived; addresses are those of the socket's own calls."""
        level, kind, arrival = ancillary
        self._by_peer[peer] = (level, kind, _departure(level, arrival))
        self._by_peer.move_to_end(peer)
        if len(self._by_peer) > PEERS:
            self._by_peer.popitem(last=False)

    def answer(self, peer: Address) -> list[Ancillary]:
        """Return what makes a train to ``peer`` leave from where its own arrived."""
        found = self._by_peer.get(peer)
        if found is None:
            return []
        self._by_peer.move_to_end(peer)
        return [found]


def _departure(level: int, arrival: bytes) -> bytes:
    """Turn the kernel's account of an arrival into a wish for a departure: that address, whatever interface."""
    if level == socket.IPPROTO_IP:
        return bytes(4) + arrival[4:8] + bytes(4)
    is_link_local = arrival.startswith(b"\xfe\x80")  # and so means something only together with its interface
    return arrival if is_link_local else arrival[:16] + bytes(4)
