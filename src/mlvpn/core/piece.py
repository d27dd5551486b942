"""Pieces: what has arrived of a run, on its way to the TUN.

A piece is neighbouring PACKETS bodies of one lane, or neighbouring slices of one super-packet (the burst kernels have
joined those). It becomes one TUN write per packet, or a single one for all its slices and those of the pieces that
extend it.

Owns reading a data body into a piece and a piece into TUN frames. Does not own order (`core/resequencer.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from mlvpn.burst import Opened
from mlvpn.core.burst_io import Delivery
from mlvpn.errors import PeerError
from mlvpn.wire import vnet
from mlvpn.wire.frame import DATA_HEAD, GSEQ_MODULUS, SLICE_HEAD, Kind, unpack_items
from mlvpn.wire.header import OVERHEAD_BYTES

_PACKETS: Final = int(Kind.PACKETS)
_GSO_TYPES: Final = {
    int(Kind.SLICE_TCP4): vnet.GSO_TCPV4,
    int(Kind.SLICE_TCP6): vnet.GSO_TCPV6,
    int(Kind.SLICE_UDP): vnet.GSO_UDP,
}
"""By plain numbers: an enum's member costs a look-up per use."""
MAX_BUFFERS: Final = 1000
"""A call of writev takes 1024 (IOV_MAX)."""
_UNFINISHED: Final = struct.Struct("=BBHHHH")


class Piece:
    """``count`` neighbouring gseq of one lane. ``gseq`` is as on the wire until the lane has unfolded it."""

    __slots__ = (
        "_body",
        "_csum_start",
        "_header_bytes",
        "_more",
        "_offset",
        "_start",
        "count",
        "equalise",
        "gseq",
        "lane",
        "release_ns",
        "slice_bytes",
    )

    def __init__(self, body: bytes, count: int, slice_bytes: int, more: Sequence[bytes] = ()) -> None:
        """Read a data frame; raise PeerError if it is none. ``more``: see ``Opened.more``."""
        if len(body) <= DATA_HEAD.size:
            raise PeerError("data frame without data")
        kind = body[0] >> 5
        self._csum_start = self._header_bytes = self._offset = self._start = 0
        if kind == _PACKETS:
            byte, self.gseq = DATA_HEAD.unpack_from(body)
        elif kind not in _GSO_TYPES:
            raise PeerError(f"data frame of unknown kind {kind}")
        elif len(body) < SLICE_HEAD.size:
            raise PeerError("slice is cut short")
        else:
            byte, self.gseq, self._offset, self._csum_start = SLICE_HEAD.unpack_from(body)
            self._header_bytes = vnet.header_length(body, SLICE_HEAD.size, self._csum_start, _GSO_TYPES[kind])
        self.lane = byte >> 1 & 15
        self.equalise = byte & 1 == 1
        self.count = count
        self.slice_bytes = slice_bytes
        self.release_ns = 0
        self._body = body
        self._more = more

    @property
    def body_bytes(self) -> int:
        return len(self._body) + (sum(map(len, self._more)) if self._more else 0)

    @property
    def wire_bytes(self) -> int:
        """UDP payload of the datagrams it came in, before any part was taken."""
        repeated = SLICE_HEAD.size + self._header_bytes if self._header_bytes else 0
        return self.body_bytes + OVERHEAD_BYTES * self.count + repeated * (self.count - 1)

    def part(self, start: int, count: int) -> Piece:
        """Return ``count`` of the datagrams, from the ``start``-th on."""
        body, *more = (self._body, *self._more)[start : start + count] if self._more else (self._body,)
        part = Piece(body, count, self.slice_bytes, more)
        part.gseq, part.release_ns = self.gseq + start, self.release_ns
        part._start, part._offset = self._start + start, self._offset + start * self.slice_bytes
        return part

    @property
    def _payload(self) -> memoryview:
        begin = SLICE_HEAD.size + self._header_bytes + self._start * self.slice_bytes
        view = memoryview(self._body)  # a copy would take as long as writing it to the TUN
        return view[begin : begin + self.count * self.slice_bytes] if self.slice_bytes else view[begin:]

    def extends(self, before: Piece) -> bool:
        """Say whether it goes on where ``before`` ends, in the same super-packet: one TUN write can take both."""
        head, size = self._header_bytes, before.slice_bytes
        if not head or head != before._header_bytes or self.gseq != before.gseq + before.count or not size:
            return False
        if self.slice_bytes != size and (self.count > 1 or len(self._payload) > size):
            return False
        if self._offset != before._offset + before.count * size:
            return False
        first, end = SLICE_HEAD.size - 1, SLICE_HEAD.size + head  # csum_start and the template
        return self._body[0] == before._body[0] and self._body[first:end] == before._body[first:end]


def deliveries(pieces: Sequence[Piece]) -> list[Delivery]:
    """Return the TUN frames of a piece and of those that extend it, one after the other.

    Raise PeerError if the packets inside contradict themselves.
    """
    piece = pieces[0]
    body, head = piece._body, piece._header_bytes
    if not head:
        return [delivery for packets in (body, *piece._more) for delivery in unpack_items(packets, _plain)]
    payload: list[bytes | memoryview] = [part._payload for part in pieces]
    if len(payload) > MAX_BUFFERS:
        payload = [b"".join(payload)]
    template = body[SLICE_HEAD.size : SLICE_HEAD.size + head]
    gso_type = _GSO_TYPES[body[0] >> 5]
    return [vnet.piece_frame(gso_type, piece._csum_start, template, piece._offset, payload, piece.slice_bytes)]


def read_piece(opened: Opened) -> Piece:
    """Return the piece that an opened datagram, or joined slices, holds; raise PeerError if it is no data frame."""
    return Piece(opened.body, opened.count, opened.slice_bytes, opened.more)


def gathered(opened: Sequence[Opened]) -> Sequence[Opened]:
    """Gather neighbouring PACKETS datagrams of one lane: what follows costs as much for all as for one. HOT PATH."""
    out: list[Opened] = []
    at, end = 0, len(opened)
    while at < end:
        first = opened[at]
        stop = _run_end(opened, at) if at + 1 < end and not first.slice_bytes else at + 1
        if stop > at + 1:
            more = [one.body for one in opened[at + 1 : stop]]
            first = Opened(first.link, first.lseq, stop - at, first.ts_us, first.body, 0, more)
        out.append(first)
        at = stop
    return out


def _run_end(opened: Sequence[Opened], first: int) -> int:
    """Return the index after the last of the PACKETS datagrams that continue the one at ``first``."""
    link, lseq, body = opened[first].link, opened[first].lseq, opened[first].body
    if len(body) <= DATA_HEAD.size or body[0] >> 5 != _PACKETS:
        return first + 1
    byte, gseq = DATA_HEAD.unpack_from(body)
    for at in range(first + 1, len(opened)):
        lseq, gseq = lseq + 1, (gseq + 1) % GSEQ_MODULUS
        other = opened[at]
        if other.lseq != lseq or other.link != link or len(other.body) <= DATA_HEAD.size:
            return at
        if not other.body.startswith(DATA_HEAD.pack(byte, gseq)):
            return at
    return len(opened)


def _plain(packet: bytes, csum_start: int, csum_offset: int) -> Delivery:
    if not csum_start:
        return (vnet.NO_OFFLOAD, packet)
    if csum_start + csum_offset + 2 > len(packet):
        raise PeerError("packet ends before the checksum that is to be finished")
    return (_unfinished(csum_start, csum_offset), packet)


@lru_cache
def _unfinished(csum_start: int, csum_offset: int) -> bytes:
    """Return the vnet header of a packet whose checksum is to be finished; few different ones are ever in use."""
    header_bytes = csum_start + csum_offset + 2
    return _UNFINISHED.pack(vnet.NEEDS_CSUM, vnet.GSO_NONE, header_bytes, 0, csum_start, csum_offset)
