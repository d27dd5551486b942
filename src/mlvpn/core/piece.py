"""Pieces: what has arrived of a run, on its way to the TUN.

A piece is one PACKETS body or neighbouring slices of one super-packet (the burst kernels have joined them). It becomes
one TUN write per packet, or a single one for all its slices.

Owns reading a data body into a piece and a piece into TUN frames. Does not own order (`core/resequencer.py`).
"""

from __future__ import annotations

import struct

from mlvpn.burst import Opened
from mlvpn.core.burst_io import Delivery
from mlvpn.errors import PeerError
from mlvpn.wire import vnet
from mlvpn.wire.frame import DATA_HEAD, SLICE_HEAD, Kind, lane_of, unpack_items
from mlvpn.wire.header import OVERHEAD_BYTES

_GSO_TYPES = {Kind.SLICE_TCP4: vnet.GSO_TCPV4, Kind.SLICE_TCP6: vnet.GSO_TCPV6, Kind.SLICE_UDP: vnet.GSO_UDP}
_UNFINISHED = struct.Struct("=BBHHHH")


class Piece:
    """``count`` neighbouring gseq of one lane. ``gseq`` is as on the wire until the lane has unfolded it."""

    __slots__ = ("_body", "_header_bytes", "_start", "count", "equalise", "gseq", "lane", "release_ns", "slice_bytes")

    def __init__(self, body: bytes, count: int, slice_bytes: int) -> None:
        """Read a data frame; raise PeerError if it is none."""
        if len(body) <= DATA_HEAD.size:
            raise PeerError("data frame without data")
        byte, self.gseq = DATA_HEAD.unpack_from(body)
        kind = byte >> 5
        if not Kind.PACKETS <= kind <= Kind.SLICE_UDP:
            raise PeerError(f"data frame of unknown kind {kind}")
        self.lane = lane_of(byte)
        self.equalise = bool(byte & 1)
        self.count = count
        self.slice_bytes = slice_bytes
        self.release_ns = 0
        self._body = body
        self._start = 0
        self._header_bytes = 0
        if kind != Kind.PACKETS:
            if len(body) < SLICE_HEAD.size:
                raise PeerError("slice is cut short")
            csum_start = body[SLICE_HEAD.size - 1]
            packet = memoryview(body)[SLICE_HEAD.size :]
            self._header_bytes = vnet.header_length(packet, csum_start, _GSO_TYPES[Kind(kind)])

    @property
    def body_bytes(self) -> int:
        return len(self._body)

    @property
    def wire_bytes(self) -> int:
        """UDP payload of the datagrams it came in, before any part was taken."""
        repeated = SLICE_HEAD.size + self._header_bytes if self._header_bytes else 0
        return len(self._body) + OVERHEAD_BYTES * self.count + repeated * (self.count - 1)

    def part(self, start: int, count: int) -> Piece:
        """Return ``count`` of the slices, from the ``start``-th on."""
        part = object.__new__(Piece)
        part.gseq, part.lane, part.equalise, part.count = self.gseq + start, self.lane, self.equalise, count
        part.slice_bytes, part.release_ns = self.slice_bytes, self.release_ns
        part._body, part._header_bytes, part._start = self._body, self._header_bytes, self._start + start
        return part

    def deliveries(self) -> list[Delivery]:
        """Return the TUN frames; raise PeerError if the packets inside contradict themselves."""
        if not self._header_bytes:
            return [_plain(*item) for item in unpack_items(self._body)]
        body = self._body
        byte, _, offset, csum_start = SLICE_HEAD.unpack_from(body)
        payload_at = SLICE_HEAD.size + self._header_bytes
        template = body[SLICE_HEAD.size : payload_at]
        skipped = self._start * self.slice_bytes
        begin = payload_at + skipped
        payload = body[begin : begin + self.count * self.slice_bytes] if self.slice_bytes else body[begin:]
        gso_type = _GSO_TYPES[Kind(byte >> 5)]
        return [vnet.piece_frame(gso_type, csum_start, template, offset + skipped, payload, self.slice_bytes)]


def read_piece(opened: Opened) -> Piece:
    """Return the piece that an opened datagram, or joined slices, holds; raise PeerError if it is no data frame."""
    return Piece(opened.body, opened.count, opened.slice_bytes)


def _plain(packet: bytes, csum_start: int, csum_offset: int) -> Delivery:
    if not csum_start:
        return (vnet.NO_OFFLOAD, packet)
    header_bytes = min(csum_start + csum_offset + 2, len(packet))
    if csum_start + csum_offset + 2 > len(packet):
        raise PeerError("packet ends before the checksum that is to be finished")
    return (_UNFINISHED.pack(vnet.NEEDS_CSUM, vnet.GSO_NONE, header_bytes, 0, csum_start, csum_offset), packet)
