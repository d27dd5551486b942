"""Packets as a network card (``tcp_packet``) and as the kernel's TUN (``super_packet``) hand them over.

Every field that a test needs can be chosen; checksums are by the book.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

from mlvpn.wire import vnet

FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
IPV4 = ("10.0.0.1", "10.0.0.2")
IPV6 = ("fd00::1", "fd00::2")
ETHERNET = bytes.fromhex("46a1b2c3d4e5020000000001")  # a MAC address that looks like the first byte of an IPv4 header
LAYER2 = {"tun": (b"", b""), "tap": (ETHERNET, b""), "vlan": (ETHERNET, b"\x81\x00\x00\x07")}
ETHERNET_BYTES = 14
OPTIONS = b"\x01\x01\x08\x0a"


def word_sum(data: bytes) -> int:
    """RFC 1071 by the book, not inverted."""
    total = 0
    for (word,) in struct.iter_unpack(">H", data + b"\0" * (len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(addresses: tuple[str, str], protocol: int, l4_bytes: int) -> bytes:
    return b"".join(ip_address(a).packed for a in addresses) + struct.pack(">HH", protocol, l4_bytes)


def super_packet(
    addresses: tuple[str, str], is_tcp: bool, payload: bytes, gso_bytes: int, layer2: str = "tun", flags: int = ACK
) -> bytes:
    """Build a TUN frame as the kernel hands it over: one header, pseudo-header sum, NEEDS_CSUM."""
    protocol, l4_bytes = (6, 32 + len(payload)) if is_tcp else (17, 8 + len(payload))
    seed = word_sum(pseudo_header(addresses, protocol, l4_bytes))
    if is_tcp:
        l4 = (
            struct.pack(">HHIIBBHHH", 5000, 80, 0xFFFFFF00, 7, 8 << 4, flags, 512, seed, 0)
            + b"\x01\x01\x08\x0a"
            + bytes(8)
        )
    else:
        l4 = struct.pack(">HHHH", 5000, 53, l4_bytes, seed)
    if addresses is IPV4:
        l3 = struct.pack(">BBHHHBBH", 0x45, 0, 20 + l4_bytes, 0xFFFE, 0x4000, 64, protocol, 0)
        l3 += b"".join(ip_address(a).packed for a in addresses)
        l3 = l3[:10] + struct.pack(">H", 0xFFFF ^ word_sum(l3)) + l3[12:]
    else:
        l3 = struct.pack(">IHBB", 6 << 28, l4_bytes, protocol, 64) + b"".join(ip_address(a).packed for a in addresses)
    mac, tag = LAYER2[layer2]
    l2 = mac + tag + (struct.pack(">H", 0x0800 if addresses is IPV4 else 0x86DD) if mac else b"")
    gso_type = 0 if len(payload) <= gso_bytes else 5 if not is_tcp else 1 if addresses is IPV4 else 4
    head = vnet.VnetHeader(
        flags=vnet.NEEDS_CSUM,
        gso_type=gso_type,
        header_bytes=len(l2 + l3 + l4),
        gso_bytes=gso_bytes if gso_type else 0,
        csum_start=len(l2 + l3),
        csum_offset=16 if is_tcp else 6,
    )
    return head.pack() + l2 + l3 + l4 + payload


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
