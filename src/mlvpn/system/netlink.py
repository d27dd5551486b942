"""What the kernel says about interfaces and addresses, as it happens: carrier lost, address gone, interface back.

Owns a raw NETLINK_ROUTE socket and a parser for the four messages a bonding daemon cares about. Does not own what a
link does about them. Needs no privilege; one ``Netlink`` lives in the worker, made before or after the chroot.

``pyroute2`` does the same and a thousand things more: importing it took 125 ms and 13 MB here, this file 4 ms and
0.6 MB, for four messages whose layout has not changed in twenty years.

At the start, and whenever the kernel reports that messages were lost, a dump of all interfaces and addresses is asked
for, so the first ``read_events`` tell the present state. An address that went in a loss is not reported: a link whose
address is gone fails at its next send.

Sources: RFC 3549; Linux include/uapi/linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h. All fields in host order.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from mlvpn.errors import SystemFailure

RECEIVE_BYTES = 65_536
"""The kernel makes no dump message longer than 32 KB."""
BUFFER_BYTES = 1 << 20
"""Room for what happens while the worker is busy; a docker host can emit hundreds of messages at once."""

_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NLMSG_DONE, _NLMSG_ERROR = 3, 2
_NLM_F_REQUEST_DUMP = 0x1 | 0x300
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_IFLA_IFNAME = 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_UNUSABLE = 0x08 | 0x40  # DADFAILED, TENTATIVE: cannot be a source address (yet)

_MESSAGE = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change mask
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_U32 = struct.Struct("=I")
_FAMILY_BYTES = {socket.AF_INET: 4, socket.AF_INET6: 16}


class LinkState(NamedTuple):
    """An interface as it is now."""

    ifindex: int
    name: str
    up: bool
    """Switched on by the administrator; False also when the interface is gone."""
    carrier: bool
    """Its cable, radio or modem is connected."""


class AddressNew(NamedTuple):
    """An interface has a (usable) address; also reported again when only its lifetime changed."""

    ifindex: int
    address: str


class AddressGone(NamedTuple):
    """An interface lost an address."""

    ifindex: int
    address: str


NetlinkEvent = LinkState | AddressNew | AddressGone


class Netlink:
    """The socket: wait for ``fileno()`` to be readable, then take ``read_events()``."""

    def __init__(self) -> None:
        try:
            self._sock = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self._sock.bind((0, _GROUPS))
        except OSError as error:
            raise SystemFailure(
                f"cannot listen to the kernel's network events: {error.strerror}; "
                "allow AF_NETLINK (systemd: RestrictAddressFamilies)"
            ) from error
        self._dumps: list[int] = []
        self._resynchronise()

    def fileno(self) -> int:
        """Return the descriptor, to wait for."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def read_events(self) -> list[NetlinkEvent]:
        """Read whatever the kernel has to say, in its order."""
        events: list[NetlinkEvent] = []
        while True:
            try:
                data, (port, _groups) = self._sock.recvfrom(RECEIVE_BYTES)
            except BlockingIOError:
                return events
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise SystemFailure(f"the kernel's network events ended: {error.strerror}") from error
                self._resynchronise()
                continue
            if port == 0:  # another process may write to this socket; only the kernel is believed
                events += parse_events(data)
                if _ends_dump(data):
                    self._next_dump()

    def _resynchronise(self) -> None:
        self._dumps = [_GETLINK, _GETADDR]
        self._next_dump()

    def _next_dump(self) -> None:
        """Ask for the next dump; the kernel does one at a time per socket."""
        if self._dumps:
            kind = self._dumps.pop(0)
            self._sock.sendto(_MESSAGE.pack(_MESSAGE.size + 16, kind, _NLM_F_REQUEST_DUMP, kind, 0) + bytes(16), (0, 0))


def parse_events(data: bytes) -> list[NetlinkEvent]:
    """Read the messages of one datagram; what is unknown or cut off is skipped, never an error."""
    events: list[NetlinkEvent] = []
    for kind, body in _messages(data):
        event: NetlinkEvent | None = None
        if kind in (_NEWLINK, _DELLINK):
            event = _link_state(kind, body)
        elif kind in (_NEWADDR, _DELADDR):
            event = _address_event(kind, body)
        if event is not None:
            events.append(event)
    return events


def _ends_dump(data: bytes) -> bool:
    return any(kind in (_NLMSG_DONE, _NLMSG_ERROR) for kind, _body in _messages(data))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each message that is there completely."""
    position = 0
    while position + _MESSAGE.size <= len(data):
        length, kind, _flags, _sequence, _port = _MESSAGE.unpack_from(data, position)
        if length < _MESSAGE.size or position + length > len(data):
            return
        yield kind, data[position + _MESSAGE.size : position + length]
        position += (length + 3) & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    """Return the value of each attribute that is there completely."""
    found: dict[int, bytes] = {}
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size or position + length > len(data):
            break
        found[kind] = data[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    return found


def _link_state(kind: int, body: bytes) -> LinkState | None:
    if len(body) < _LINK.size:
        return None
    family, _type, ifindex, flags, _change = _LINK.unpack_from(body)
    name = _attributes(body[_LINK.size :]).get(_IFLA_IFNAME)
    if family != socket.AF_UNSPEC or name is None:  # AF_BRIDGE: an interface left a bridge, and still exists
        return None
    is_there = kind == _NEWLINK
    text = name.rstrip(b"\0").decode(errors="replace")
    return LinkState(ifindex, text, is_there and bool(flags & _IFF_UP), is_there and bool(flags & _IFF_LOWER_UP))


def _address_event(kind: int, body: bytes) -> AddressNew | AddressGone | None:
    if len(body) < _ADDRESS.size:
        return None
    family, _prefix, flags, _scope, ifindex = _ADDRESS.unpack_from(body)
    attributes = _attributes(body[_ADDRESS.size :])
    packed = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))  # on point-to-point ADDRESS is the peer's
    if family not in _FAMILY_BYTES or len(packed) != _FAMILY_BYTES[family]:
        return None
    address = socket.inet_ntop(family, packed)
    if kind == _DELADDR:
        return AddressGone(ifindex, address)
    long_flags = attributes.get(_IFA_FLAGS, b"")
    if len(long_flags) == _U32.size:
        flags = _U32.unpack(long_flags)[0]
    return None if flags & _IFA_F_UNUSABLE else AddressNew(ifindex, address)
