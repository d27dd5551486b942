"""The frames inside a datagram's body: one data frame, or control frames one after the other.

A data frame begins with `kind << 5 | lane << 1 | equalise` and reaches to the end of the body; a control frame
begins with its type (below 32, so its kind is 0) and a 16-bit length.

**Data frames.** `gseq` counts the data datagrams of one lane; lane 0 is delivered as it comes, lanes 1 to 15 each in
their own order. `equalise` asks the receiver to hold the datagram as long as HOLD says of its lane.

| kind | name | after the first byte |
|---|---|---|
| 1 | PACKETS | gseq u32, then items: u16 (bit 15: the L4 checksum is unfinished; bit 14: its offset is 6 (UDP), else 16 (TCP); bits 13-0: length), if unfinished csum_start u8, the packet |
| 2 | SLICE_TCP4 | gseq u32, offset u16 (of the payload in its super-packet), csum_start u8, the super-packet's headers as they were, payload |
| 3 | SLICE_TCP6 | the same |
| 4 | SLICE_UDP | the same |

**Control frames**

| type | name | body |
|---|---|---|
| 1 | PING | token u64, flags u8 (bit 0: the sender uses this link only as a fallback) |
| 2 | PONG | token u64 |
| 3 | FEEDBACK | per link the report below |
| 4 | GONE | items: lane u8, gseq u32, count u16: these datagrams will not be sent (again) |
| 5 | MTU_PROBE | datagram size u16, padding |
| 6 | MTU_ACK | datagram size u16 |
| 7 | CLOSE | reason as UTF-8 text |
| 8 | HOLD | items: lane u8, hold u32, aggregation u32 (both microseconds): how much later than the fastest link brings it an equalised datagram is released (0 ends it, and so does silence), and for how long once in a while what is due waits, to be released all together |

A link report of FEEDBACK, cumulative, so that a lost one harms nobody:

| size | field | meaning |
|---|---|---|
| 1 | link | |
| 6 | highest | highest lseq received |
| 6 | base | everything from base to highest has been received but for the ranges; nothing is said of what is below |
| 4 | arrival | when `highest` came, receiver's microseconds, and `wait` |
| 4 | delay | its one-way delay: arrival - ts, offset by the unknown difference of the clocks |
| 4 | delay_min | the least one-way delay since the last report, and `wait` |
| 4 | wait | microseconds that what has come stands in the receiver's socket because it never catches up with reading |
| 6 | bytes | bytes of UDP payload received on the link so far |
| 6 | datagrams | datagrams received on the link so far |
| 1 | count | number of ranges |
| 4 each | ranges | distance u16 from highest down to the last missing lseq, length u16 |

Unknown control frames are skipped: an older peer can be spoken to by a newer one.

Owns the formats and their pack and unpack. Does not own who sends what when (`core`). All integers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

from mlvpn.errors import PeerError

Made = TypeVar("Made")

MAX_LANES: Final = 16
GSEQ_MODULUS: Final = 1 << 32
MAX_RANGES: Final = 48
"""Missing ranges in one link report; 48 ranges of 4 bytes keep a report of two links within one datagram."""
REPORTS_PER_DATAGRAM: Final = 5
"""So many link reports with all their ranges still fit into the smallest datagram."""


class Kind(IntEnum):
    """What a data frame holds: the upper three bits of its first byte."""

    CONTROL = 0
    PACKETS = 1
    SLICE_TCP4 = 2
    SLICE_TCP6 = 3
    SLICE_UDP = 4


class Control(IntEnum):
    """Type of a control frame: its whole first byte."""

    PING = 1
    PONG = 2
    FEEDBACK = 3
    GONE = 4
    MTU_PROBE = 5
    MTU_ACK = 6
    CLOSE = 7
    HOLD = 8


DATA_HEAD: Final = struct.Struct(">BI")
SLICE_HEAD: Final = struct.Struct(">BIHB")
ITEM_HEAD: Final = struct.Struct(">H")
ITEM_UNFINISHED: Final = 0x8000
ITEM_UDP_CHECKSUM: Final = 0x4000
ITEM_LENGTH: Final = 0x3FFF
PING_FALLBACK: Final = 1

_UDP_UNFINISHED: Final = ITEM_UNFINISHED | ITEM_UDP_CHECKSUM
_UNFINISHED_HEAD: Final = struct.Struct(">HB")

_CONTROL_HEAD: Final = struct.Struct(">BH")
_PING: Final = struct.Struct(">QB")
_PONG: Final = struct.Struct(">Q")
_REPORT: Final = struct.Struct(">BHIHIIIIIHIHIB")
_RANGE: Final = struct.Struct(">HH")
_GONE: Final = struct.Struct(">BIH")
_HOLD: Final = struct.Struct(">BII")
_SIZE: Final = struct.Struct(">H")


def first_byte(kind: Kind, lane: int, equalise: bool) -> int:
    """Return the first byte of a data frame."""
    return kind << 5 | lane << 1 | equalise


def kind_of(byte: int) -> int:
    return byte >> 5


def lane_of(byte: int) -> int:
    return byte >> 1 & 15


class Item(NamedTuple):
    """One packet of a PACKETS frame. ``csum_start`` 0: the packet is complete as it is."""

    packet: bytes
    csum_start: int
    csum_offset: int


def pack_item(packet: bytes, csum_start: int = 0, csum_offset: int = 0) -> bytes:
    """Return the packet as an item; ``csum_offset`` is 16 or 6 where ``csum_start`` is given."""
    if not csum_start:
        return ITEM_HEAD.pack(len(packet)) + packet
    flags = _UDP_UNFINISHED if csum_offset == 6 else ITEM_UNFINISHED
    return _UNFINISHED_HEAD.pack(len(packet) | flags, csum_start) + packet


def unpack_items(body: bytes, make: Callable[[bytes, int, int], Made]) -> Iterator[Made]:
    """Yield what ``make`` makes of each packet of a PACKETS frame, given the three fields of an ``Item``.

    Raise PeerError where the frame is cut short. HOT PATH for small packets.
    """
    at, end = DATA_HEAD.size, len(body)
    while at < end:
        if at + 2 > end:
            raise PeerError("PACKETS frame ends inside an item")
        (head,) = ITEM_HEAD.unpack_from(body, at)
        at += 2
        csum_start = 0
        if head & ITEM_UNFINISHED:
            if at >= end:
                raise PeerError("PACKETS frame ends inside an item")
            csum_start = body[at]
            at += 1
        length = head & ITEM_LENGTH
        if not length or at + length > end:
            raise PeerError("PACKETS frame has an item of impossible length")
        yield make(body[at : at + length], csum_start, 6 if head & ITEM_UDP_CHECKSUM else 16)
        at += length


class Ping(NamedTuple):
    token: int
    fallback: bool


class LinkReport(NamedTuple):
    """What the receiver says of one link; times in microseconds of the receiver's clock, modulo 2^32."""

    link: int
    highest: int
    base: int
    arrival_us: int
    delay_us: int
    delay_min_us: int
    received_bytes: int
    received_datagrams: int
    missing: Sequence[tuple[int, int]]
    """Missing lseq as (first, last), newest first."""
    wait_us: int = 0
    """Part of the three times before that."""


class Gone(NamedTuple):
    lane: int
    gseq: int
    count: int  # type: ignore[assignment]  # instead of tuple.count, which nobody needs here


class Hold(NamedTuple):
    lane: int
    hold_us: int
    aggregation_us: int = 0


def pack_control(control: Control, body: bytes) -> bytes:
    return _CONTROL_HEAD.pack(control, len(body)) + body


def unpack_controls(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of each control frame; raise PeerError where one is cut short or is no control frame."""
    at, end = 0, len(body)
    while at < end:
        if at + 3 > end or body[at] >= 32:
            raise PeerError("no control frame where one was expected")
        control, length = _CONTROL_HEAD.unpack_from(body, at)
        at += 3
        if at + length > end:
            raise PeerError("control frame is longer than its datagram")
        yield control, body[at : at + length]
        at += length


def pack_ping(ping: Ping) -> bytes:
    return pack_control(Control.PING, _PING.pack(ping.token, PING_FALLBACK * ping.fallback))


def unpack_ping(body: bytes) -> Ping:
    if len(body) < _PING.size:
        raise PeerError("PING is too short")
    token, flags = _PING.unpack_from(body)
    return Ping(token, bool(flags & PING_FALLBACK))


def pack_pong(token: int) -> bytes:
    return pack_control(Control.PONG, _PONG.pack(token))


def unpack_pong(body: bytes) -> int:
    if len(body) < _PONG.size:
        raise PeerError("PONG is too short")
    token: int = _PONG.unpack_from(body)[0]
    return token


def pack_feedback(reports: Sequence[LinkReport]) -> bytes:
    return pack_control(Control.FEEDBACK, b"".join(_pack_report(report) for report in reports))


def _pack_report(report: LinkReport) -> bytes:
    ranges: list[bytes] = []
    for first, last in report.missing:
        distance = report.highest - last
        if distance > 0xFFFF or len(ranges) == MAX_RANGES:
            break
        ranges.append(_RANGE.pack(distance, min(last - first + 1, 0xFFFF)))
    return b"".join(
        (
            _REPORT.pack(
                report.link,
                *_split48(report.highest),
                *_split48(report.base),
                report.arrival_us,
                report.delay_us,
                report.delay_min_us,
                report.wait_us,
                *_split48(report.received_bytes),
                *_split48(report.received_datagrams),
                len(ranges),
            ),
            *ranges,
        )
    )


def unpack_feedback(body: bytes) -> list[LinkReport]:
    """Return the link reports; raise PeerError where one is cut short."""
    reports, at = [], 0
    while at < len(body):
        report, at = _unpack_report(body, at)
        reports.append(report)
    return reports


def _unpack_report(body: bytes, at: int) -> tuple[LinkReport, int]:
    if at + _REPORT.size > len(body):
        raise PeerError("FEEDBACK ends inside a link report")
    link, high1, high0, base1, base0, arrival, delay, delay_min, wait, bytes1, bytes0, count1, count0, ranges = (
        _REPORT.unpack_from(body, at)
    )
    at += _REPORT.size
    if at + ranges * _RANGE.size > len(body):
        raise PeerError("FEEDBACK ends inside its ranges")
    highest, base = high1 << 32 | high0, base1 << 32 | base0
    missing = []
    for _ in range(ranges):
        distance, length = _RANGE.unpack_from(body, at)
        at += _RANGE.size
        last = highest - distance
        if length:
            missing.append((max(last - length + 1, 0), last))
    received_bytes, datagrams = bytes1 << 32 | bytes0, count1 << 32 | count0
    return LinkReport(link, highest, base, arrival, delay, delay_min, received_bytes, datagrams, missing, wait), at


def _split48(value: int) -> tuple[int, int]:
    return value >> 32 & 0xFFFF, value & 0xFFFFFFFF


def pack_gone(gone: Sequence[Gone]) -> bytes:
    return pack_control(Control.GONE, b"".join(_GONE.pack(*item) for item in gone))


def unpack_gone(body: bytes) -> list[Gone]:
    if len(body) % _GONE.size:
        raise PeerError("GONE ends inside an item")
    return [Gone(*item) for item in _GONE.iter_unpack(body)]


def pack_hold(holds: Sequence[Hold]) -> bytes:
    return pack_control(Control.HOLD, b"".join(_HOLD.pack(*hold) for hold in holds))


def unpack_hold(body: bytes) -> list[Hold]:
    if len(body) % _HOLD.size:
        raise PeerError("HOLD ends inside an item")
    return [Hold(*item) for item in _HOLD.iter_unpack(body)]


def pack_mtu_probe(datagram_bytes: int, body_bytes: int) -> bytes:
    """Return an MTU_PROBE frame that fills a body of ``body_bytes``."""
    padding = body_bytes - _CONTROL_HEAD.size - _SIZE.size
    return pack_control(Control.MTU_PROBE, _SIZE.pack(datagram_bytes) + bytes(padding))


def pack_mtu_ack(datagram_bytes: int) -> bytes:
    return pack_control(Control.MTU_ACK, _SIZE.pack(datagram_bytes))


def unpack_size(body: bytes) -> int:
    if len(body) < _SIZE.size:
        raise PeerError("MTU frame is too short")
    size: int = _SIZE.unpack_from(body)[0]
    return size
