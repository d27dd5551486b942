"""TCP packets as a host sends them, every field to choose; checksums by the book."""

from __future__ import annotations

import struct

ACK, PSH = 0x10, 0x08
ETHERNET_BYTES = 14
OPTIONS = b"\x01\x01\x08\x0a"


def word_sum(data: bytes) -> int:
    """RFC 1071 by the book, not inverted."""
    total = 0
    for (word,) in struct.iter_unpack(">H", data + b"\0" * (len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def tcp_packet(
    sequence: int,
    payload_bytes: int,
    *,
    family: int = 4,
    l2_bytes: int = 0,
    flags: int = ACK,
    port: int = 80,
    acknowledged: int = 7,
    window: int = 512,
    timestamp: int = 5,
    tos: int = 0,
    ttl: int = 64,
    identification: int = 0,
    fragment: int = 0x4000,
    bad_checksum: bool = False,
    bad_ip_checksum: bool = False,
) -> bytes:
    """Return a packet whose payload repeats the lowest byte of its sequence number."""
    sequence %= 1 << 32
    payload = bytes([sequence & 0xFF]) * payload_bytes
    addresses = bytes(range(1, 9)) if family == 4 else bytes(range(1, 33))
    l4_bytes = 32 + payload_bytes
    tcp = struct.pack(">HHIIBBHHH", 5000, port, sequence, acknowledged, 8 << 4, flags, window, 0, 0)
    tcp += OPTIONS + struct.pack(">II", timestamp, 0)
    total = word_sum(addresses + struct.pack(">HH", 6, l4_bytes) + tcp + payload)
    tcp = tcp[:16] + struct.pack(">H", 0xFFFF ^ total ^ bad_checksum) + tcp[18:]
    if family == 4:
        ip = struct.pack(">BBHHHBBH", 0x45, tos, 20 + l4_bytes, identification, fragment, ttl, 6, 0) + addresses
        ip = ip[:10] + struct.pack(">H", 0xFFFF ^ word_sum(ip) ^ bad_ip_checksum) + ip[12:]
    else:
        ip = struct.pack(">IHBB", 6 << 28 | tos << 20, l4_bytes, 6, ttl) + addresses
    ethernet = b"\x02" * 12 + (b"\x08\x00" if family == 4 else b"\x86\xdd")
    return (ethernet if l2_bytes else b"") + ip + tcp + payload


def packet_of(packet: bytes) -> tuple[int, bytes]:
    """Return sequence number and payload of a packet over IPv4."""
    return struct.unpack_from(">I", packet, 24)[0], packet[52:]
