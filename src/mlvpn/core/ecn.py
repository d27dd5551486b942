"""Explicit congestion notification in inner packets (RFC 3168): the queue marks instead of dropping where it may.

Owns reading and setting the ECN bits of a queued packet. Does not own when to mark (`core/codel.py`).
"""

from __future__ import annotations

from mlvpn.core.packet import VNET_BYTES, Packet
from mlvpn.wire.frame import Kind, pack_item
from mlvpn.wire.vnet import checksum

_NOT_ECT, _CE = 0, 3


def mark_congestion(packet: Packet) -> bool:
    """Set CE on an ECN-capable IPv4 or IPv6 packet in TUN mode; return False, changing nothing, on any other.

    A super-packet is marked whole: its sender reacts once per round trip, however many of its packets say so.
    """
    frame = packet.frame
    at = VNET_BYTES
    version = frame[at] >> 4
    if version == 4 and len(frame) >= at + 20:
        ecn = frame[at + 1] & 3
    elif version == 6 and len(frame) >= at + 40:
        ecn = frame[at + 1] >> 4 & 3
    else:
        return False
    if ecn == _NOT_ECT:
        return False
    if ecn != _CE:
        _set_ce(packet, version)
    return True


def _set_ce(packet: Packet, version: int) -> None:
    frame = bytearray(packet.frame)
    at = VNET_BYTES
    if version == 4:
        frame[at + 1] |= _CE
        header_bytes = (frame[at] & 15) * 4
        frame[at + 10 : at + 12] = b"\0\0"
        frame[at + 10 : at + 12] = checksum(frame[at : at + header_bytes]).to_bytes(2, "little")
    else:
        frame[at + 1] |= _CE << 4
    marked = bytes(frame)
    if packet.kind == Kind.PACKETS:
        # The item's own head says whether the checksum is unfinished; only the packet behind it changes.
        head = packet.item[: len(packet.item) - (len(packet.frame) - VNET_BYTES)]
        packet.item = head + marked[VNET_BYTES:] if head else pack_item(marked[VNET_BYTES:])
    packet.frame = marked
