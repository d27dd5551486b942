"""A packet or super-packet read from the TUN, and the flow it belongs to.

Owns reading a TUN frame (10-byte virtio_net_hdr and packet) just far enough to queue, cut and classify it.
Does not own changing packets (`wire/vnet.py`, `core/ecn.py`) or queues (`core/queue.py`).
Packets come from the local kernel, which is trusted, but forwarded ones are whatever somebody sent: every offset
that is read from a packet is checked before it is used, and what cannot be understood is carried as it is.
"""

from __future__ import annotations

import struct
from typing import Final

from mlvpn.wire.frame import Kind, pack_item
from mlvpn.wire.vnet import complete_checksum

VNET_BYTES: Final = 10
ETHERNET_BYTES: Final = 14

_VNET: Final = struct.Struct("=BBHHHH")
_NEEDS_CSUM: Final = 1
_GSO_KINDS: Final = {1: Kind.SLICE_TCP4, 4: Kind.SLICE_TCP6, 5: Kind.SLICE_UDP}
_PACKETS: Final = Kind.PACKETS
"""A name of its own: looking a member up in its enum costs more than the comparison."""
_IPV4_WITHOUT_OPTIONS: Final = b"\x45"
_ETHERTYPE_IPV4: Final = b"\x08\x00"
_ETHERTYPE_IPV6: Final = b"\x86\xdd"
_TCP, _UDP = 6, 17
_TCP_SYN_FIN_RST: Final = 0x07


class Packet:
    """One TUN frame on its way to a link. A super-packet is taken slice by slice: ``offset`` is how far."""

    __slots__ = (
        "csum_start",
        "enqueued_ns",
        "flow_key",
        "frame",
        "header_bytes",
        "item",
        "kind",
        "offset",
        "pure_ack",
        "slice_bytes",
    )

    def __init__(self, frame: bytes, link_header_bytes: int = 0) -> None:
        """Read ``frame``; ``link_header_bytes`` is 14 in TAP mode, 0 in TUN mode."""
        self.frame = frame
        self.enqueued_ns = self.offset = self.header_bytes = 0
        flags, gso_type, _, self.slice_bytes, self.csum_start, csum_offset = _VNET.unpack_from(frame)
        self.flow_key, self.pure_ack = _classify(frame, VNET_BYTES + link_header_bytes, link_header_bytes)
        self.kind = _GSO_KINDS.get(gso_type & 0x7F, _PACKETS) if gso_type else _PACKETS
        if self.kind is _PACKETS:
            self.item = _item(frame, flags, self.csum_start, csum_offset)
        else:
            self.item = b""
            self.header_bytes = _header_bytes(frame, self.kind, self.csum_start)

    @property
    def packet_bytes(self) -> int:
        """Bytes of the packet still to be sent (a super-packet's header counts once)."""
        return len(self.frame) - VNET_BYTES - self.offset

    @property
    def payload_bytes(self) -> int:
        """Payload of a super-packet still to be cut into slices."""
        return len(self.frame) - VNET_BYTES - self.header_bytes - self.offset

    @property
    def slices(self) -> int:
        """Datagrams that a super-packet still needs."""
        slices: int = -(-self.payload_bytes // self.slice_bytes)
        return slices


def _item(frame: bytes, flags: int, csum_start: int, csum_offset: int) -> bytes:
    """Return a packet as an item, with its checksum left to do where an item can say so."""
    if not flags & _NEEDS_CSUM:
        return pack_item(frame[VNET_BYTES:])
    if csum_offset in (6, 16) and 0 < csum_start < 256:
        return pack_item(frame[VNET_BYTES:], csum_start, csum_offset)
    return pack_item(complete_checksum(frame)[VNET_BYTES:])


def _header_bytes(frame: bytes, kind: Kind, csum_start: int) -> int:
    """Length of a super-packet's headers; the kernel's own hdr_len is only a hint (dataplane: forwarded packets)."""
    if kind == Kind.SLICE_UDP:
        return csum_start + 8
    at = VNET_BYTES + csum_start + 12
    return csum_start + (frame[at] >> 4) * 4 if at < len(frame) else 0


def _classify(frame: bytes, at: int, link_header_bytes: int) -> tuple[bytes, bool]:
    """Return the flow's key (addresses, protocol, ports) and whether the packet is a TCP ACK without payload."""
    if not link_header_bytes and frame[at : at + 1] == _IPV4_WITHOUT_OPTIONS and len(frame) >= at + 28:
        return _classify_usual(frame, at)
    if link_header_bytes:
        ethertype = frame[at - 2 : at]
        if ethertype not in (_ETHERTYPE_IPV4, _ETHERTYPE_IPV6):
            return frame[at - ETHERNET_BYTES : at], False
    version = frame[at] >> 4 if len(frame) > at else 0
    if version == 4 and len(frame) >= at + 20:
        return _classify_ipv4(frame, at)
    if version == 6 and len(frame) >= at + 40:
        return _classify_ipv6(frame, at)
    return b"", False


def _classify_usual(frame: bytes, at: int) -> tuple[bytes, bool]:
    """Do as ``_classify_ipv4`` does for a header of 20 bytes; HOT PATH, nearly every packet is one of these."""
    protocol = frame[at + 9]
    if (protocol != _UDP and protocol != _TCP) or frame[at + 6] & 0x3F or frame[at + 7]:
        return frame[at + 9 : at + 10] + frame[at + 12 : at + 20], False
    key = frame[at + 9 : at + 10] + frame[at + 12 : at + 24]
    return key, protocol == _TCP and _is_pure_ack(frame, at + 20, (frame[at + 2] << 8 | frame[at + 3]) - 20)


def _classify_ipv4(frame: bytes, at: int) -> tuple[bytes, bool]:
    protocol = frame[at + 9]
    l4 = at + (frame[at] & 15) * 4
    fragment = frame[at + 6] & 0x3F or frame[at + 7]
    if protocol not in (_TCP, _UDP) or fragment or len(frame) < l4 + 8:
        return frame[at + 9 : at + 10] + frame[at + 12 : at + 20], False
    key = frame[at + 9 : at + 10] + frame[at + 12 : at + 20] + frame[l4 : l4 + 4]
    total = frame[at + 2] << 8 | frame[at + 3]
    return key, protocol == _TCP and _is_pure_ack(frame, l4, total - (l4 - at))


def _classify_ipv6(frame: bytes, at: int) -> tuple[bytes, bool]:
    protocol = frame[at + 6]
    l4 = at + 40
    if protocol not in (_TCP, _UDP) or len(frame) < l4 + 8:
        return frame[at + 6 : at + 7] + frame[at + 8 : at + 40], False
    key = frame[at + 6 : at + 7] + frame[at + 8 : at + 40] + frame[l4 : l4 + 4]
    length = frame[at + 4] << 8 | frame[at + 5]
    return key, protocol == _TCP and _is_pure_ack(frame, l4, length)


def _is_pure_ack(frame: bytes, l4: int, segment_bytes: int) -> bool:
    if len(frame) < l4 + 14:
        return False
    return segment_bytes <= (frame[l4 + 12] >> 4) * 4 and not frame[l4 + 13] & _TCP_SYN_FIN_RST
