"""TUN frames for the tests of the core: small, complete, and readable at the call."""

from __future__ import annotations

import struct

from mlvpn.wire.vnet import GSO_TCPV4, GSO_TCPV6, GSO_UDP, NEEDS_CSUM, VnetHeader, checksum

ACK, PSH, FIN, SYN = 0x10, 0x08, 0x01, 0x02


def ipv4(protocol: int, body: bytes, *, ecn: int = 0, fragment: int = 0, options: bytes = b"") -> bytes:
    """Return an IPv4 packet from 10.0.0.1 to 10.0.0.2, its header's checksum right."""
    words = 5 + len(options) // 4
    length = words * 4 + len(body)
    source, destination = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    head = struct.pack(">BBHHHBBH4s4s", 0x40 | words, ecn, length, 7, fragment, 64, protocol, 0, source, destination)
    head += options
    return head[:10] + checksum(head).to_bytes(2, "little") + head[12:] + body


def ipv6(protocol: int, body: bytes, *, ecn: int = 0) -> bytes:
    """Return an IPv6 packet from fd00::1 to fd00::2."""
    ends = bytes.fromhex("fd00" + "00" * 13 + "01" + "fd00" + "00" * 13 + "02")
    return struct.pack(">IHBB", 6 << 28 | ecn << 20, len(body), protocol, 64) + ends + body


def udp(payload: bytes, port: int = 1000) -> bytes:
    return struct.pack(">HHHH", port, 2000, 8 + len(payload), 0) + payload


def tcp(payload: bytes, *, flags: int = ACK, port: int = 1000, options: bytes = b"") -> bytes:
    words = 5 + len(options) // 4
    return struct.pack(">HHIIBBHHH", port, 80, 1, 1, words << 4, flags, 65535, 0, 0) + options + payload


def frame(packet: bytes) -> bytes:
    """Return a packet that needs nothing as a TUN frame."""
    return bytes(10) + packet


def unfinished(packet: bytes, csum_start: int, csum_offset: int) -> bytes:
    """Return a packet whose L4 checksum is left to do as a TUN frame."""
    return VnetHeader(NEEDS_CSUM, 0, 0, 0, csum_start, csum_offset).pack() + packet


def super_packet(payload: bytes, slice_bytes: int, kind: str = "tcp4", port: int = 1000) -> bytes:
    """Return a super-packet of TCP over IPv4 or IPv6, or of UDP over IPv4."""
    if kind == "udp4":
        return VnetHeader(NEEDS_CSUM, GSO_UDP, 28, slice_bytes, 20, 6).pack() + ipv4(17, udp(payload, port))
    if kind == "tcp6":
        return VnetHeader(NEEDS_CSUM, GSO_TCPV6, 60, slice_bytes, 40, 16).pack() + ipv6(6, tcp(payload, port=port))
    return VnetHeader(NEEDS_CSUM, GSO_TCPV4, 40, slice_bytes, 20, 16).pack() + ipv4(6, tcp(payload, port=port))
