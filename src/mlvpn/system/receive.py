"""Reading a link's UDP socket: trains of datagrams, each with the time at which the kernel had it.

Owns the calls that read, and what comes with the data: size of a train's datagrams (UDP_GRO), time of arrival, source,
own address. Datagrams that came one by one, where the kernel does not join them, are joined (`join`). Does not own the
socket and its options (`udp`).

Two implementations, chosen once at import by ``MLVPN_KERNELS`` as for the burst kernels, except that one that was not
built is no error: in Python one call per train; in C (`receive.c`), where it was built, one for up to ``MESSAGES``. On
a network card that hands over datagrams singly the calls are most of what receiving costs.

Sources: Linux net/ipv4/udp.c, include/uapi/linux/udp.h; man 2 recvmmsg; man 7 ip, ipv6, socket.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.events import Address
from mlvpn.system import own_address
from mlvpn.system.join import join_neighbours
from mlvpn.system.own_address import OwnAddresses
from mlvpn.system.udp_counters import SocketCounters

MAPPED: Final = "::ffff:"
"""How a dual-stack socket begins an IPv4 address."""
MESSAGES: Final = 48
"""One call of the C reader takes so many: single datagrams of usual size for the longest train that can be joined. Each
has 64 KB of memory, touched only as far as it is used."""
LONG_MESSAGES: Final = 8
"""But only so many after a call whose messages were longer than ``LONG_BYTES`` on average: all else would wait until 48
trains of 64 KB have been opened."""
LONG_BYTES: Final = 16 << 10
SOL_UDP, UDP_GRO = 17, 104
SO_TIMESTAMPNS: Final = 35

_TRAIN_BYTES: Final = 65_535
"""A joined train can be that long; in a smaller buffer it would be cut off."""
_MESSAGE_BYTES: Final = 65_536
_IP_LEVELS: Final = (socket.IPPROTO_IP, socket.IPPROTO_IPV6)
_TIMESPEC: Final = struct.Struct("@ll")
_INT: Final = struct.Struct("@i")
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size) + socket.CMSG_SPACE(_INT.size) + own_address.ANCILLARY_BYTES
_RECORD: Final = struct.Struct("@qqIII28siiI20s")
"""``struct received_train``"""
_Record = tuple[int, int, int, int, int, bytes, int, int, int, bytes]
_SOCKADDR_IN: Final = struct.Struct("!2xH4s")
_SOCKADDR_IN6: Final = struct.Struct("!2xHI16s")
_SECOND_NS: Final = 1_000_000_000
_SOURCES: Final = 4096
"""Remembered at most; anybody can write to a server."""


def plain(address: Address) -> Address:
    """Return an IPv4 address as everybody but a dual-stack socket writes it."""
    return (address[0][len(MAPPED) :], address[1]) if address[0].startswith(MAPPED) else address


class PythonReader:
    """Reads one non-blocking socket, one call for each train."""

    IMPLEMENTATION = "python"

    def __init__(self, sock: socket.socket, link: str, own_addresses: OwnAddresses, counters: SocketCounters) -> None:
        self._sock = sock
        self._link = link
        self._own_addresses = own_addresses
        self._counters = counters

    def read(self, max_trains: int, max_bytes: int) -> list[ReceivedTrain]:
        """Receive trains until none is left, or ``max_trains`` or about ``max_bytes`` are read. HOT PATH."""
        left_bytes = max_bytes
        trains: list[ReceivedTrain] = []
        recvmsg, link = self._sock.recvmsg, self._link
        clock = _Clock()
        for _ in range(max_trains):
            try:
                data, ancillary, _flags, source = recvmsg(_TRAIN_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self._counters.icmp_errors += 1
                continue
            datagram_bytes, arrival_ns = len(data), 0
            for level, kind, value in ancillary:
                if level == SOL_UDP and kind == UDP_GRO:
                    datagram_bytes = _INT.unpack(value)[0]
                elif level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = _TIMESPEC.unpack(value)
                    arrival_ns = seconds * _SECOND_NS + nanoseconds
                elif level in _IP_LEVELS:
                    self._own_addresses.heard(source, (level, kind, value))
            if data:
                arrival_ns = clock.monotonic_ns(arrival_ns)
                trains.append(ReceivedTrain(link, plain(source), data, datagram_bytes, arrival_ns))
            else:
                self._counters.dropped_empty += 1
            left_bytes -= len(data)
            if left_bytes <= 0:
                break
        self._counters.received_trains += len(trains)
        return join_neighbours(trains) if len(trains) > 1 else trains


class _Clock:
    """Both clocks at the moment it is made: arrivals come by the one that people set."""

    def __init__(self) -> None:
        self.now_ns = time.monotonic_ns()
        self.difference_ns = time.time_ns() - self.now_ns

    def monotonic_ns(self, arrival_ns: int) -> int:
        """Turn an arrival; the moment of reading if there is none, or if the wall clock was set in between."""
        turned_ns = arrival_ns - self.difference_ns
        return turned_ns if -_SECOND_NS < turned_ns - self.now_ns < _SECOND_NS else self.now_ns


class CReader(PythonReader):
    """The same, one call for up to ``MESSAGES`` trains."""

    IMPLEMENTATION = "c"

    def __init__(self, sock: socket.socket, link: str, own_addresses: OwnAddresses, counters: SocketCounters) -> None:
        super().__init__(sock, link, own_addresses, counters)
        self._memory = _memory()
        self._sources: dict[bytes, tuple[Address, Address]] = {}
        """As the kernel writes it -> as the socket's own calls do, and as everybody does."""
        self._heard = b""
        self._at_once = MESSAGES
        """What the next call takes."""

    def read(self, max_trains: int, max_bytes: int) -> list[ReceivedTrain]:
        """See ``PythonReader.read``; what one call brings is not cut by ``max_bytes``."""
        left_bytes = max_bytes
        trains: list[ReceivedTrain] = []
        clock, fd, memory = _Clock(), self._sock.fileno(), self._memory
        while max_trains > 0 and left_bytes > 0:
            wanted = min(max_trains, self._at_once)
            found = KERNEL.lib.receive_trains(fd, memory.arena, memory.trains, wanted, memory.empty)
            if found == -errno.EAGAIN:
                break
            if found < 0:
                self._counters.icmp_errors += 1
                max_trains -= 1
                continue
            self._counters.dropped_empty += memory.empty[0]
            self._counters.received_trains += found - memory.empty[0]
            before_bytes = left_bytes
            for train in self._joined(KERNEL.lib.receive_join(memory.arena, memory.trains, found), clock):
                trains.append(train)
                left_bytes -= len(train.data)
            self._at_once = LONG_MESSAGES if before_bytes - left_bytes > found * LONG_BYTES else MESSAGES
            max_trains -= found
            if found < wanted:
                break
        return trains

    def _joined(self, count: int, clock: _Clock) -> list[ReceivedTrain]:
        """Return what one call has brought."""
        link, data, records = self._link, self._memory.data, self._memory.records
        trains: list[ReceivedTrain] = []
        for at in range(0, count * _RECORD.size, _RECORD.size):
            record: _Record = _RECORD.unpack_from(records, at)
            arrival_ns, stretch_ns, start, size, datagram_bytes, source, own_level, own_kind, own_bytes, own_data = (
                record
            )
            native, address = self._sources.get(source) or self._learn(source)
            if own_bytes and self._heard != (key := source + own_data):
                self._own_addresses.heard(native, (own_level, own_kind, own_data[:own_bytes]))
                self._heard = key
            arrival_ns = clock.monotonic_ns(arrival_ns)
            train = data[start : start + size]
            trains.append(ReceivedTrain(link, address, train, datagram_bytes, arrival_ns, stretch_ns))
        return trains

    def _learn(self, source: bytes) -> tuple[Address, Address]:
        if len(self._sources) >= _SOURCES:
            self._sources.clear()
        native = _address(source)
        self._sources[source] = native, plain(native)
        return self._sources[source]


class _Memory(NamedTuple):
    """Where C writes. One for all sockets of a process: what was read is copied out before the next call."""

    arena: Any
    trains: Any
    empty: Any
    data: Any
    """The arena's bytes."""
    records: Any
    """The trains' bytes."""


@cache
def _memory() -> _Memory:
    ffi = KERNEL.ffi
    arena = ffi.new("uint8_t[]", MESSAGES * _MESSAGE_BYTES)
    trains = ffi.new("struct received_train[]", MESSAGES)
    return _Memory(arena, trains, ffi.new("uint32_t *"), ffi.buffer(arena), ffi.buffer(trains))


def _address(source: bytes) -> Address:
    """Read a ``struct sockaddr`` as Python's own calls do."""
    if int.from_bytes(source[:2], sys.byteorder) == socket.AF_INET:
        port, host = _SOCKADDR_IN.unpack_from(source)
        return socket.inet_ntop(socket.AF_INET, host), port
    port, flow, host = _SOCKADDR_IN6.unpack_from(source)
    return socket.inet_ntop(socket.AF_INET6, host), port, flow, int.from_bytes(source[24:28], sys.byteorder)


def _load() -> Any:
    """Return the C reader; a worker in its chroot can load nothing any more, so this is done at import."""
    if os.environ.get("MLVPN_KERNELS") == "python":
        return None
    try:
        kernel = import_module("mlvpn.system._receive")
    except ImportError:
        return None
    is_ours = kernel.ffi.sizeof("struct received_train") == _RECORD.size  # or else it was built from other sources
    return kernel if is_ours else None


KERNEL: Final = _load()
TrainReader = CReader if KERNEL else PythonReader
