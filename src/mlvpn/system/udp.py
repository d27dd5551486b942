"""A link's UDP socket: opening it, and sending whole trains of datagrams with one system call each.

Owns socket options, the kernel's segmentation of trains (UDP_SEGMENT, "GSO") with its fallback, and what each errno
means for a link. Does not own what is in a datagram, when to send it, reading (`receive`), which own address a peer is
answered from (`own_address`), nor the resolving of names.

Two halves. ``open_link_socket`` does what may need privilege (interface, port, buffers beyond the system's limit) and
runs in [priv]. ``LinkSocket`` runs in the worker on the socket handed over and sets what any process may set.

Each socket begins with what the kernel has; a refusal is latched for that socket, counted and shown in status:

    trains sent      UDP_SEGMENT, <= 63 datagrams and <= 65000 bytes  ->  one call per datagram
    trains received  UDP_GRO                                          ->  one call per datagram

``MLVPN_NO_GSO=1`` and ``MLVPN_NO_GRO=1`` in the environment force the fallbacks.

Datagrams are never fragmented (DF, and path MTU discovery is the tunnel's own) unless ``may_fragment`` says so: one
that is too big for its interface, or that a router complained about, is a ``TooBig``. An errno that came with an ICMP
message speaks about an earlier datagram and is gone with the first call that reports it; so a failed call is made a
second time and only what fails twice is true of the train at hand.

Sources: Linux net/ipv4/udp.c, net/ipv6/udp.c, include/uapi/linux/udp.h, in.h, in6.h; man 7 ip, ipv6, udp, socket.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.core.events import Address
from mlvpn.errors import LinkError
from mlvpn.system.own_address import OwnAddresses
from mlvpn.system.receive import MAPPED, SO_TIMESTAMPNS, SOL_UDP, UDP_GRO, TrainReader, plain
from mlvpn.system.udp_counters import SocketCounters

BUFFER_BYTES: Final = 8 << 20
"""Socket buffers: 64 ms of 1 Gbit/s. With the usual 208 KiB a receiver loses datagrams whenever it is busy for 2 ms."""
MAX_SEGMENTS: Final = 63
"""UDP_MAX_SEGMENTS is 64 (128 since Linux 6.9), and some kernels count the UDP header as if it were payload."""
MAX_MESSAGE_BYTES: Final = 65_000
"""A train must fit one IP packet, headers included."""

_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_UDP_SEGMENT: Final = 103
_IP_MTU_DISCOVER, _IP_MTU = 10, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU = 23, 24
_PMTUDISC_PROBE: Final = 3  # DF on every datagram, and no refusal because of what ICMP said about the path
_U16: Final = struct.Struct("=H")
_IPV4_HEADERS_BYTES, _IPV6_HEADERS_BYTES = 28, 48

_BUFFER_FULL: Final = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))
_NO_SEGMENTATION: Final = frozenset((errno.EIO, errno.EINVAL))
"""EIO: IPsec on the route, or no checksum offload on the interface (Linux <= 6.10). EINVAL: driver or old kernel."""

_BIND_CURES: Final = {
    errno.EADDRNOTAVAIL: "no interface has this address now",
    errno.EADDRINUSE: "another process uses this port; choose another bindport",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
    errno.ENODEV: "there is no such interface now",
    errno.EPERM: "binding to an interface needs CAP_NET_RAW",
    errno.EAFNOSUPPORT: "this system has no such protocol",
}
_SEND_REASONS: Final = {
    errno.ENETUNREACH: "no route to the peer",
    errno.EHOSTUNREACH: "the peer's host cannot be reached",
    errno.ENETDOWN: "the interface is down",
    errno.ENODEV: "the interface is gone",
    errno.ENXIO: "the interface is gone",
    errno.EPERM: "a firewall rule of this host forbids it",
    errno.EADDRNOTAVAIL: "the link's own address is gone",
    errno.EINVAL: "the link's own address is gone",
}


class TooBig(NamedTuple):
    """Datagrams were too big; IP packets of ``mtu_bytes`` pass, as far as the kernel knows."""

    link: str
    mtu_bytes: int


class SendFailed(NamedTuple):
    """Nothing can be sent over the link now; ``reason`` is for a person."""

    link: str
    reason: str


Problem = TooBig | SendFailed


def open_link_socket(
    bind_host: str, bind_port: int, interface: str = "", family: int = socket.AF_UNSPEC
) -> socket.socket:
    """Open and bind the UDP socket of a link, in [priv].

    ``bind_host``: an IP address, or empty for any; ``bind_port`` 0: the kernel chooses; ``interface``: its name, or
    empty for what the routing table says. ``family`` AF_UNSPEC takes that of ``bind_host``; without one the socket is
    dual stack where the system has IPv6. Raises LinkError.
    """
    if family == socket.AF_UNSPEC and bind_host:
        family = socket.AF_INET6 if ":" in bind_host else socket.AF_INET
    if family == socket.AF_UNSPEC:
        try:
            return _open_bound(socket.AF_INET6, "::", bind_port, interface, is_dual=True)
        except LinkError:  # IPv6 may be missing or switched off; any other trouble shows again with IPv4
            family = socket.AF_INET
    return _open_bound(family, bind_host, bind_port, interface, is_dual=False)


def _open_bound(family: int, host: str, port: int, interface: str, is_dual: bool) -> socket.socket:
    sock = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual)
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        _enlarge(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
        _enlarge(sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF)
        sock.bind((host, port))
    except OSError as error:
        if sock is not None:
            sock.close()
        where = (
            f"{host or 'any address'}" + (f" port {port}" if port else "") + (f" on {interface}" if interface else "")
        )
        unknown = f"{error.strerror or error}; check bindhost, bindport and the interface"
        raise LinkError(f"cannot bind to {where}: {_BIND_CURES.get(error.errno or 0, unknown)}") from error
    return sock


def _enlarge(sock: socket.socket, force: int, polite: int) -> None:
    """Ask for BUFFER_BYTES beyond the system's limit, which root may; else for as much as the limit gives."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, polite, BUFFER_BYTES)


class LinkSocket:
    """A link's socket in the worker: trains in and out. Owned by the packet loop, one thread.

    With ``remote`` the socket is connected: cheaper per train, hears nobody else, and a train without destination goes
    there. With ``may_fragment`` the kernel cuts datagrams that are too big for the path, as it does by default. Raises
    LinkError, the socket closed, when there is no way to ``remote``.
    """

    def __init__(
        self, sock: socket.socket, link: str, remote: Address | None = None, may_fragment: bool = False
    ) -> None:
        self.link = link
        self.counters = SocketCounters()
        self._sock = sock
        self._is_ipv6 = sock.family == socket.AF_INET6
        self._is_dual = self._is_ipv6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        self._remote = remote
        sock.setblocking(False)
        if not may_fragment:
            _never_fragment(sock, self._is_ipv6, self._is_dual)
        _try_option(sock, socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.gro_off_because = _refusal(sock, "MLVPN_NO_GRO", UDP_GRO, 1)
        self.gso_off_because = _refusal(sock, "MLVPN_NO_GSO", _UDP_SEGMENT, 0)
        self._plan(1)
        if remote is not None:
            self._connect(remote)
        self._own_addresses = OwnAddresses(sock)
        self._reader = TrainReader(sock, link, self._own_addresses, self.counters)

    def _connect(self, remote: Address) -> None:
        try:
            self._sock.connect(self._native(remote))
        except OSError as error:
            self._sock.close()
            raise LinkError(f"no way to {remote[0]}: {_SEND_REASONS.get(error.errno or 0, error.strerror)}") from error

    def fileno(self) -> int:
        """Return the descriptor, to wait for."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    @property
    def local(self) -> Address:
        """The address and port the socket is bound to; once connected never a wildcard."""
        return plain(self._sock.getsockname())

    def describe(self) -> dict[str, Any]:
        """Return what ``status`` shows, JSON-able; an empty reason means that the offload is in use."""
        return {
            "gso_off_because": self.gso_off_because,
            "gro_off_because": self.gro_off_because,
            "reader": self._reader.IMPLEMENTATION,
            "counters": asdict(self.counters),
        }

    def receive_burst(self, max_trains: int, max_bytes: int = 1 << 20) -> list[ReceivedTrain]:
        """Receive trains until none is left, or ``max_trains`` or about ``max_bytes`` are read. HOT PATH."""
        return self._reader.read(max_trains, max_bytes)

    # ---- sending

    def send_burst(self, trains: Iterable[Train]) -> list[Problem]:
        """Send trains; return what is wrong with the path, each problem once. HOT PATH.

        What does not go out at once is dropped and counted: the tunnel repairs losses, and a train kept here would be
        late and out of its pacer's sight.
        """
        problems: list[Problem] = []
        for train in trains:
            destination, data, datagram_bytes = train.destination, train.data, train.datagram_bytes
            self.counters.sent_trains += 1
            if datagram_bytes != self._datagram_bytes:
                self._plan(datagram_bytes)
            address = self._native(destination) if destination is not None and destination != self._remote else None
            if len(data) <= self._message_bytes:
                self._send(data, address, problems)
            else:
                view = memoryview(data)
                for start in range(0, len(data), self._message_bytes):
                    self._send(view[start : start + self._message_bytes], address, problems)
        return problems

    def _plan(self, datagram_bytes: int) -> None:
        """Prepare for trains of this datagram size; the size changes rarely."""
        segments = 1 if self.gso_off_because else max(1, min(MAX_SEGMENTS, MAX_MESSAGE_BYTES // datagram_bytes))
        self._datagram_bytes = datagram_bytes
        self._message_bytes = segments * datagram_bytes
        self._segment_size = [(SOL_UDP, _UDP_SEGMENT, _U16.pack(datagram_bytes))]

    def _send(self, message: bytes | memoryview, address: Address | None, problems: list[Problem]) -> None:
        """Make one send call; its failure ends up in the counters and in ``problems``."""
        try:
            self._call(message, address)
        except OSError as error:
            self._failed(message, address, error, problems)

    def _call(self, message: bytes | memoryview, address: Address | None) -> None:
        if address is not None and self._own_addresses:
            segment_size = self._segment_size if len(message) > self._datagram_bytes else []
            self._sock.sendmsg((message,), segment_size + self._own_addresses.answer(address), 0, address)
        elif len(message) > self._datagram_bytes:
            self._sock.sendmsg((message,), self._segment_size, 0, address)
        elif address is None:
            self._sock.send(message)
        else:
            self._sock.sendto(message, address)

    def _failed(
        self, message: bytes | memoryview, address: Address | None, error: OSError, problems: list[Problem]
    ) -> None:
        if error.errno not in _BUFFER_FULL:
            try:
                self._call(message, address)  # see the module's docstring: was it an earlier datagram's error?
                self.counters.icmp_errors += 1
                if error.errno == errno.EMSGSIZE and (mtu_bytes := self._kernel_mtu_bytes(address)):
                    self._report(TooBig(self.link, mtu_bytes), problems)
                return
            except OSError as second:
                error = second
        if error.errno in _BUFFER_FULL:
            self.counters.link_send_buffer_full += 1
        elif error.errno in _NO_SEGMENTATION and len(message) > self._datagram_bytes:
            self._send_singly(message, address, error, problems)
        elif error.errno == errno.EMSGSIZE:
            self.counters.dropped_too_big += 1
            headers_bytes = _IPV6_HEADERS_BYTES if self._goes_over_ipv6(address) else _IPV4_HEADERS_BYTES
            smaller_bytes = self._datagram_bytes + headers_bytes - 1
            mtu_bytes = min(smaller_bytes, self._kernel_mtu_bytes(address) or smaller_bytes)
            self._report(TooBig(self.link, mtu_bytes), problems)
        else:
            self.counters.dropped_unreachable += 1
            if error.errno != errno.ECONNREFUSED:  # a peer that is not there yet is no failure of the link
                reason = _SEND_REASONS.get(error.errno or 0, error.strerror or "cannot send")
                self._report(SendFailed(self.link, reason), problems)

    def _send_singly(
        self, message: bytes | memoryview, address: Address | None, error: OSError, problems: list[Problem]
    ) -> None:
        """Send a train the kernel would not segment; if that goes well, segmentation was the trouble: latch it off.

        It was not when singles fail too: the local address is gone, or the datagrams exceed the MTU (EINVAL on kernels
        before 2025).
        """
        found: list[Problem] = []
        view, step = memoryview(message), self._datagram_bytes
        for start in range(0, len(view), step):
            self._send(view[start : start + step], address, found)
        if not found:
            self.counters.gso_refused += 1
            self.gso_off_because = f"the kernel refused a train: {error.strerror}"
            self._plan(step)
        for problem in found:
            self._report(problem, problems)

    def _report(self, problem: Problem, problems: list[Problem]) -> None:
        if problem not in problems:
            problems.append(problem)

    def _goes_over_ipv6(self, address: Address | None) -> bool:
        address = address or (self._native(self._remote) if self._remote else None)
        return self._is_ipv6 and address is not None and not address[0].startswith(MAPPED)

    def _kernel_mtu_bytes(self, address: Address | None) -> int:
        """Ask the kernel for the path MTU; only a connected socket is told, so connect one that sends nothing."""
        option = (socket.IPPROTO_IPV6, _IPV6_MTU) if self._goes_over_ipv6(address) else (socket.IPPROTO_IP, _IP_MTU)
        interface = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        try:
            with socket.socket(self._sock.family, socket.SOCK_DGRAM) as probe:
                if interface:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface)
                probe.bind((self._sock.getsockname()[0], 0))
                probe.connect(address or self._sock.getpeername())
                return probe.getsockopt(*option)
        except OSError:
            return 0

    def _native(self, address: Address) -> Address:
        """Return an IPv4 address as a dual-stack socket wants it."""
        if self._is_ipv6 and ":" not in address[0]:
            return (MAPPED + address[0], address[1], 0, 0)
        return address


def _never_fragment(sock: socket.socket, is_ipv6: bool, is_dual: bool) -> None:
    if is_ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, 1)
    if not is_ipv6 or is_dual:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)


def _refusal(sock: socket.socket, variable: str, option: int, value: int) -> str:
    """Switch a UDP offload on (or probe it); return why it is off, or nothing."""
    if os.environ.get(variable):
        return f"switched off by {variable}"
    if not _try_option(sock, SOL_UDP, option, value):
        return "this kernel does not have it"
    return ""


def _try_option(sock: socket.socket, level: int, option: int, value: int) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True
