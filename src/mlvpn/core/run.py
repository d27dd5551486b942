"""Runs: neighbouring datagrams of one lane, given to one link in one decision.

A run is what the scheduler hands to a link, what the link's sent log keeps until it is acknowledged, and what is sent
again when it is lost. It holds a reference to the packet it came from, never a copy, and any part of it is a run.

Owns the two kinds of run and how they become trains. Does not own lseq (the link) or keys (`burst`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mlvpn.burst import Sealer
from mlvpn.core.burst_io import Train
from mlvpn.core.packet import Packet
from mlvpn.wire.frame import DATA_HEAD, GSEQ_MODULUS, SLICE_HEAD, Kind, first_byte
from mlvpn.wire.header import OVERHEAD_BYTES

JOINED_BYTES: Final = 16 << 10
"""Runs are put together to trains of this length: twice as long ones are hardly cheaper, and are copied once more."""

SealedTrain = tuple[bytes, int]
"""Datagrams back to back, and the length of each but perhaps the last."""


class SliceRun:
    """``count`` neighbouring slices of one super-packet; slice i has gseq + i."""

    __slots__ = ("count", "datagram_bytes", "first_byte", "gseq", "offset", "packet", "sent_bytes")

    def __init__(self, packet: Packet, first: int, gseq: int, offset: int, count: int) -> None:
        self.packet = packet
        self.first_byte = first
        self.gseq = gseq
        self.offset = offset
        self.count = count
        overhead = OVERHEAD_BYTES + SLICE_HEAD.size + packet.header_bytes
        self.datagram_bytes = overhead + packet.slice_bytes
        left = len(packet.frame) - 10 - packet.header_bytes - offset
        self.sent_bytes = overhead * count + min(left, packet.slice_bytes * count)

    def part(self, start: int, count: int) -> SliceRun:
        """Return ``count`` of the slices, from the ``start``-th on."""
        offset = self.offset + start * self.packet.slice_bytes
        return SliceRun(self.packet, self.first_byte, self.gseq + start, offset, count)

    def seal(self, sealer: Sealer, link: int, lseq: int, ts_us: int) -> list[SealedTrain]:
        """Return the run as sealed trains, numbered from ``lseq``."""
        packet = self.packet
        data = sealer.seal_slices(
            link,
            lseq,
            ts_us,
            self.first_byte,
            self.gseq % GSEQ_MODULUS,
            packet.frame,
            packet.csum_start,
            packet.header_bytes,
            packet.slice_bytes,
            self.offset,
            self.count,
        )
        return [(data, self.datagram_bytes)]


class BodyRun:
    """``count`` PACKETS bodies, each of one or more whole packets; body i has gseq + i."""

    __slots__ = ("bodies", "count", "datagram_bytes", "first_byte", "gseq", "sent_bytes")

    def __init__(self, bodies: Sequence[bytes], first: int, gseq: int) -> None:
        self.bodies = bodies
        self.first_byte = first
        self.gseq = gseq
        self.count = len(bodies)
        sizes = [len(body) for body in bodies]
        self.datagram_bytes = OVERHEAD_BYTES + max(sizes)
        self.sent_bytes = OVERHEAD_BYTES * self.count + sum(sizes)

    def part(self, start: int, count: int) -> BodyRun:
        """Return ``count`` of the bodies, from the ``start``-th on."""
        return BodyRun(self.bodies[start : start + count], self.first_byte, self.gseq + start)

    def seal(self, sealer: Sealer, link: int, lseq: int, ts_us: int) -> list[SealedTrain]:
        """Return the run as sealed trains, numbered from ``lseq``."""
        return join_trains(sealer.seal_bodies(link, lseq, ts_us, self.bodies))


Run = SliceRun | BodyRun


def build_bodies(items: Iterable[bytes], lane: int, equalise: bool, gseq: int, body_bytes: int) -> BodyRun:
    """Pack items into as few PACKETS bodies of at most ``body_bytes`` as their order allows."""
    first = first_byte(Kind.PACKETS, lane, equalise)
    room = body_bytes - DATA_HEAD.size
    groups: list[list[bytes]] = []
    filled = room + 1
    for item in items:
        if filled + len(item) > room:
            groups.append([])
            filled = 0
        groups[-1].append(item)
        filled += len(item)
    bodies = [
        DATA_HEAD.pack(first, (gseq + number) % GSEQ_MODULUS) + b"".join(group) for number, group in enumerate(groups)
    ]
    return BodyRun(bodies, first, gseq)


def continues(last: Train, train: Train) -> bool:
    """Say whether one system call can take both: to one address, all of one size but the very last."""
    return (
        train.link == last.link
        and train.destination == last.destination
        and train.datagram_bytes == last.datagram_bytes
        and not len(last.data) % last.datagram_bytes
        and len(last.data) + len(train.data) <= JOINED_BYTES
    )


def cut_train(data: bytes, datagram_bytes: int) -> list[SealedTrain]:
    """Return the datagrams of a train as trains of their own."""
    singles = [data[at : at + datagram_bytes] for at in range(0, len(data), datagram_bytes)]
    return [(single, len(single)) for single in singles]


def join_trains(datagrams: Sequence[bytes]) -> list[SealedTrain]:
    """Join neighbouring datagrams into trains: all of one length, only a train's last may be shorter (UDP GSO)."""
    trains: list[SealedTrain] = []
    at, end = 0, len(datagrams)
    while at < end:
        size = len(datagrams[at])
        stop = at + 1
        while stop < end and len(datagrams[stop]) == size:
            stop += 1
        if stop < end and len(datagrams[stop]) < size:
            stop += 1
        trains.append((b"".join(datagrams[at:stop]) if stop > at + 1 else datagrams[at], size))
        at = stop
    return trains
