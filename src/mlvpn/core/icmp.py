"""ICMP messages of the tunnel's own: a packet that no link can carry is never cut off, its sender is told.

Owns building "fragmentation needed" (RFC 792, RFC 1191) and "packet too big" (RFC 4443). Does not own the limit.
In TAP mode the answer comes in a frame from where the packet's frame was going, as from a router there.
"""

from __future__ import annotations

import struct

from mlvpn.wire.vnet import checksum

_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_ICMP_MTU = struct.Struct(">BBHHH")
_ICMPV6_MTU = struct.Struct(">BBHI")
_TTL = 64
_IPV4_QUOTE_BYTES = 28
_IPV6_LIMIT_BYTES = 1280
_ICMP, _ICMPV6 = 1, 58
_MACS_BYTES, _ETHERNET_BYTES = 12, 14
_ETHERTYPES = (b"\x08\x00", b"\x86\xdd")


def too_big(packet: bytes, mtu_bytes: int) -> bytes | None:
    """Return the packet that tells the sender of ``packet`` to use at most ``mtu_bytes``; None if nobody can be told.

    Nobody is told about ICMP errors, fragments' tails or packets that are cut short.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return _too_big_ipv4(packet, mtu_bytes)
    if version == 6 and len(packet) >= 40 and packet[6] != _ICMPV6:
        return _too_big_ipv6(packet, mtu_bytes)
    return None


def frame_too_big(frame: bytes, mtu_bytes: int) -> bytes | None:
    """Return the Ethernet frame that tells the sender of ``frame``, an untagged IP packet, to use at most
    ``mtu_bytes`` (of IP); None if nobody can be told."""
    ethertype = frame[_MACS_BYTES:_ETHERNET_BYTES]
    answer = too_big(frame[_ETHERNET_BYTES:], mtu_bytes) if ethertype in _ETHERTYPES else None
    return None if answer is None else frame[6:12] + frame[:6] + ethertype + answer


def _too_big_ipv4(packet: bytes, mtu_bytes: int) -> bytes | None:
    if packet[9] == _ICMP or packet[7] or packet[6] & 0x1F:
        return None
    source, destination = packet[12:16], packet[16:20]
    quote = packet[:_IPV4_QUOTE_BYTES]
    body = _ICMP_MTU.pack(3, 4, 0, 0, mtu_bytes) + quote
    body = body[:2] + checksum(body).to_bytes(2, "little") + body[4:]
    # As a router has no address here, the answer comes from where the packet was going.
    header = _IPV4.pack(0x45, 0, 20 + len(body), 0, 0, _TTL, _ICMP, 0, destination, source)
    return header[:10] + checksum(header).to_bytes(2, "little") + header[12:] + body


def _too_big_ipv6(packet: bytes, mtu_bytes: int) -> bytes:
    source, destination = packet[8:24], packet[24:40]
    quote = packet[: _IPV6_LIMIT_BYTES - _IPV6.size - _ICMPV6_MTU.size]
    body = _ICMPV6_MTU.pack(2, 0, 0, max(mtu_bytes, _IPV6_LIMIT_BYTES)) + quote
    pseudo = destination + source + struct.pack(">II", len(body), _ICMPV6)
    body = body[:2] + checksum(pseudo + body).to_bytes(2, "little") + body[4:]
    return _IPV6.pack(6 << 28, len(body), _ICMPV6, _TTL, destination, source) + body
