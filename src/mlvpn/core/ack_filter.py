"""Bare TCP acknowledgements that the next one of the same burst makes superfluous (an ACK filter).

A fast receiver acknowledges each super-packet, and one read of the TUN brings a dozen of its acknowledgements, which
cost more than their datagram: one write to the far TUN each. What they say, the last one says.

Owns which may be left out. Stricter than CAKE's filter (Linux, sch_cake.c): all but the acknowledgement number, window
and time stamp must be the same, and none with a SACK block, which tells of a loss, is touched.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from mlvpn.core.packet import ETHERNET_BYTES
from mlvpn.wire.vnet import HEADER_BYTES

ADVANCE_BYTES: Final = 16 << 10
"""Acknowledgements of less stay: there are senders that grow by how many they get (RFC 3465)."""

_IPV4_BYTES, _IPV6_BYTES, _TCP_BYTES = 20, 40, 20
_LONGEST_BYTES: Final = HEADER_BYTES + ETHERNET_BYTES + _IPV6_BYTES + _TCP_BYTES + 12
_ETHERTYPES: Final = (b"\x08\x00", b"\x86\xdd")
_U32: Final = struct.Struct(">I")
_TCP: Final = 6
_FLAGS, _ACK = 0x3F, 0x10
"""All flags but those of ECN, which only have to be the same; a bare acknowledgement has the one."""
_TIME_STAMPS: Final = b"\x01\x01\x08\x0a"
"""How the one usual option begins (RFC 7323, appendix A)."""


def without_superseded(frames: Sequence[bytes], link_header_bytes: int) -> list[bytes]:
    """Return the TUN frames of one burst, in their order, less superseded acknowledgements. HOT PATH."""
    kept: list[bytes] = []
    dropped = False
    newest: dict[bytes, int] = {}
    l3 = HEADER_BYTES + link_header_bytes
    for frame in frames:
        l4 = _bare_ack(frame, l3) if len(frame) <= _LONGEST_BYTES else 0
        if l4:
            same = _all_else(frame, l3, l4)
            at = newest.get(same)
            if at is not None and _supersedes(frame, kept[at], l4):
                kept[at], dropped = b"", True
            newest[same] = len(kept)
        kept.append(frame)
    return [frame for frame in kept if frame] if dropped else kept


def _bare_ack(frame: bytes, l3: int) -> int:
    """Return where the TCP header of an acknowledgement without data or unusual options begins; 0: it is none."""
    if len(frame) < l3 + _IPV4_BYTES + _TCP_BYTES:
        return 0
    if l3 > HEADER_BYTES and frame[l3 - 2 : l3] not in _ETHERTYPES:
        return 0
    if frame[l3] == 0x45 and frame[l3 + 9] == _TCP and not (frame[l3 + 6] & 0x3F or frame[l3 + 7]):  # no fragment
        l4 = l3 + _IPV4_BYTES
    elif frame[l3] >> 4 == 6 and frame[l3 + 6] == _TCP and len(frame) >= l3 + _IPV6_BYTES + _TCP_BYTES:
        l4 = l3 + _IPV6_BYTES
    else:
        return 0
    tcp_bytes = len(frame) - l4
    if frame[l4 + 13] & _FLAGS != _ACK or (frame[l4 + 12] >> 4) * 4 != tcp_bytes:
        return 0
    usual = tcp_bytes == _TCP_BYTES or (tcp_bytes == _TCP_BYTES + 12 and frame[l4 + 20 : l4 + 24] == _TIME_STAMPS)
    return l4 if usual else 0


def _all_else(frame: bytes, l3: int, l4: int) -> bytes:
    """Return what has to be the same: all headers, but for what differs with each packet of a flow."""
    constant = frame[l4 : l4 + 8] + frame[l4 + 12 : l4 + 14]  # ports, sequence number, data offset, flags
    if l4 - l3 == _IPV6_BYTES:
        return frame[HEADER_BYTES:l4] + constant
    return frame[HEADER_BYTES : l3 + 4] + frame[l3 + 6 : l3 + 10] + frame[l3 + 12 : l4] + constant


def _supersedes(frame: bytes, before: bytes, l4: int) -> bool:
    advance_bytes: int = (_U32.unpack_from(frame, l4 + 8)[0] - _U32.unpack_from(before, l4 + 8)[0]) % (1 << 32)
    return ADVANCE_BYTES <= advance_bytes < 1 << 31
