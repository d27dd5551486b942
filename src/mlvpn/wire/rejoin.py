"""Neighbouring packets of one TCP flow as one super-packet again, for a peer that sends packets and no super-packets.

Owns the rules by which packets may be joined. Does not own super-packets themselves (``vnet.py``) nor the C twin of all
this (``burst/segments.py``).

What is joined must be what ``vnet.segment`` would have made of the result, byte for byte; only the identification of
IPv4 packets that must not be fragmented is free, for nobody may read it (RFC 6864). So neighbours have equal headers
but for lengths, checksums, sequence and identification, and:

- each begins where the one before ended, and is as long as the first; a shorter one or PSH is the last;
- the flags are ACK, and PSH on the last: whatever else a flag may announce travels alone;
- IP and TCP checksum of each are right. The super-packet says "not yet computed", so a wrong one would be mended.

Nothing is moved: packets of other flows in between end a super-packet.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from mlvpn.wire.vnet import GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, NO_OFFLOAD, TCP_CSUM_OFFSET, VnetHeader, checksum

ETHERNET_BYTES: Final = 14
MAX_IP_BYTES: Final = 65_535

_IPV4_BYTES, _IPV6_BYTES, _TCP_BYTES = 20, 40, 20
_ETHER_TYPES: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}
_DONT_FRAGMENT: Final = 0x4000
_PSH, _ACK = 0x08, 0x10
_TCP: Final = 6
_RIGHT: Final = 0xFFFF
"""What ``checksum`` says of data whose checksum is in it and right."""
_U16, _U32, _SUM = struct.Struct(">H"), struct.Struct(">I"), struct.Struct("<H")


class Segment(NamedTuple):
    """What of a TCP packet decides whether it can follow another one."""

    same: bytes
    """Its headers without what differs between neighbours."""
    l4: int
    payload_bytes: int
    sequence: int
    identification: int | None
    """None where it means nothing: IPv6, and IPv4 with DF."""
    is_last: bool


def rejoin(packets: Sequence[bytes], l2_bytes: int) -> list[bytes]:
    """Return TUN frames: the packets in their order, joined where they can be; ``l2_bytes`` 14 for TAP, 0 for TUN."""
    frames: list[bytes] = []
    group: list[tuple[bytes, Segment]] = []
    for packet in packets:
        segment = read_segment(packet, l2_bytes)
        if segment is not None and _continues(group, segment, l2_bytes):
            group.append((packet, segment))
            continue
        frames += _frames(group, l2_bytes)
        group = []
        if segment is None:
            frames.append(NO_OFFLOAD + packet)
        else:
            group.append((packet, segment))
    return frames + _frames(group, l2_bytes)


def read_segment(packet: bytes, l3: int) -> Segment | None:
    """Read a packet; None when it is none that could be joined."""
    l4 = _find_tcp(packet, l3)
    if l4 is None or packet[l4 + 13] & ~_PSH != _ACK:
        return None
    header_bytes = l4 + (packet[l4 + 12] >> 4) * 4
    if not l4 + _TCP_BYTES <= header_bytes < len(packet):
        return None
    if checksum(_pseudo_header(packet, l3, len(packet) - l4) + packet[l4:]) != _RIGHT:
        return None
    same, identification = bytearray(packet[:header_bytes]), None
    if packet[l3] >> 4 == 4:
        if _U16.unpack_from(packet, l3 + 6)[0] != _DONT_FRAGMENT:
            identification = _U16.unpack_from(packet, l3 + 4)[0]
        same[l3 + 10 : l3 + 12] = same[l3 + 2 : l3 + 6] = b""  # from the back, for each moves what is behind it
    else:
        same[l3 + 4 : l3 + 6] = b""
    sequence, shift = _U32.unpack_from(packet, l4 + 4)[0], len(same) - header_bytes
    same[l4 + shift + 13] &= ~_PSH
    same[l4 + shift + 16 : l4 + shift + 18] = same[l4 + shift + 4 : l4 + shift + 8] = b""
    payload_bytes = len(packet) - header_bytes
    return Segment(bytes(same), l4, payload_bytes, sequence, identification, bool(packet[l4 + 13] & _PSH))


def _find_tcp(packet: bytes, l3: int) -> int | None:
    """Return where the TCP header of a whole IP packet begins."""
    version = packet[l3] >> 4 if len(packet) > l3 else 0
    l3_bytes = {4: _IPV4_BYTES, 6: _IPV6_BYTES}.get(version, len(packet))
    if len(packet) < l3 + l3_bytes + _TCP_BYTES or (l3 and packet[l3 - 2 : l3] != _ETHER_TYPES[version]):
        return None
    if version == 4:
        total, fragment = _U16.unpack_from(packet, l3 + 2)[0], _U16.unpack_from(packet, l3 + 6)[0]
        is_plain = packet[l3] == 0x45 and total == len(packet) - l3 and fragment in (0, _DONT_FRAGMENT)
        is_tcp = packet[l3 + 9] == _TCP and checksum(packet[l3 : l3 + _IPV4_BYTES]) == _RIGHT
    else:
        is_plain = _U16.unpack_from(packet, l3 + 4)[0] == len(packet) - l3 - _IPV6_BYTES
        is_tcp = packet[l3 + 6] == _TCP
    return l3 + l3_bytes if is_plain and is_tcp else None


def _pseudo_header(packet: bytes | bytearray, l3: int, l4_bytes: int) -> bytes:
    addresses = packet[l3 + 12 : l3 + 20] if packet[l3] >> 4 == 4 else packet[l3 + 8 : l3 + 40]
    return bytes(addresses) + bytes((0, _TCP)) + _U16.pack(l4_bytes)


def _continues(group: Sequence[tuple[bytes, Segment]], segment: Segment, l3: int) -> bool:
    if not group:
        return False
    (first_packet, first), (_, last) = group[0], group[-1]
    total_bytes = len(first_packet) - l3 + first.payload_bytes * (len(group) - 1) + segment.payload_bytes
    return (
        first.same == segment.same
        and not last.is_last
        and last.payload_bytes == first.payload_bytes >= segment.payload_bytes
        and segment.sequence == (last.sequence + last.payload_bytes) % (1 << 32)
        and (last.identification is None or segment.identification == (last.identification + 1) & 0xFFFF)
        and total_bytes <= MAX_IP_BYTES
    )


def _frames(group: Sequence[tuple[bytes, Segment]], l3: int) -> list[bytes]:
    """Return the one frame of neighbours, or none of none."""
    if len(group) < 2:
        return [NO_OFFLOAD + packet for packet, _ in group]
    packet, first = group[0]
    l4, is_ipv4 = first.l4, packet[l3] >> 4 == 4
    header_bytes = len(packet) - first.payload_bytes
    payload = b"".join(packet[header_bytes:] for packet, _ in group)
    header = bytearray(packet[:header_bytes])
    header[l4 + 13] |= _PSH * group[-1][1].is_last
    if is_ipv4:
        _U16.pack_into(header, l3 + 2, header_bytes + len(payload) - l3)
        _SUM.pack_into(header, l3 + 10, 0)
        _SUM.pack_into(header, l3 + 10, checksum(header[l3:l4]) % 0xFFFF)
    else:
        _U16.pack_into(header, l3 + 4, header_bytes + len(payload) - l4)
    seed = 0xFFFF - checksum(_pseudo_header(header, l3, header_bytes + len(payload) - l4))
    _SUM.pack_into(header, l4 + TCP_CSUM_OFFSET, seed)
    gso_type = GSO_TCPV4 if is_ipv4 else GSO_TCPV6
    vnet = VnetHeader(NEEDS_CSUM, gso_type, header_bytes, first.payload_bytes, l4, TCP_CSUM_OFFSET)
    return [vnet.pack() + header + payload]
