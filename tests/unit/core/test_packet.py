"""A TUN frame read: what it is, which flow it belongs to, whether it is a bare acknowledgement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inner_packets import ACK, FIN, SYN, frame, ipv4, ipv6, super_packet, tcp, udp, unfinished

from mlvpn.core.packet import Packet
from mlvpn.errors import PeerError
from mlvpn.wire.frame import DATA_HEAD, Item, Kind, unpack_items


def item_of(packet: Packet) -> Item:
    [item] = unpack_items(bytes(DATA_HEAD.size) + packet.item, Item)
    return item


def test_a_plain_packet_becomes_an_item() -> None:
    inner = ipv4(17, udp(b"hello"))
    packet = Packet(frame(inner))
    assert packet.kind == Kind.PACKETS
    assert item_of(packet) == Item(inner, 0, 16)
    assert packet.packet_bytes == len(inner)


@pytest.mark.parametrize(("body", "offset"), [(udp(b"x"), 6), (tcp(b"x"), 16)])
def test_an_unfinished_checksum_is_left_to_the_far_end(body: bytes, offset: int) -> None:
    inner = ipv4(17 if offset == 6 else 6, body)
    assert item_of(Packet(unfinished(inner, 20, offset))) == Item(inner, 20, offset)


def test_a_checksum_that_no_item_can_describe_is_finished_here() -> None:
    inner = ipv4(132, bytes(20))  # SCTP-like: its checksum is elsewhere
    item = item_of(Packet(unfinished(inner, 20, 8)))
    assert item.csum_start == 0
    assert item.packet[28:30] != inner[28:30]
    assert item.packet[:28] == inner[:28]


@pytest.mark.parametrize(
    ("kind", "header_bytes", "expected"),
    [("tcp4", 40, Kind.SLICE_TCP4), ("tcp6", 60, Kind.SLICE_TCP6), ("udp4", 28, Kind.SLICE_UDP)],
)
def test_a_super_packet_is_counted_in_slices(kind: str, header_bytes: int, expected: Kind) -> None:
    packet = Packet(super_packet(bytes(2501), 1000, kind))
    assert (packet.kind, packet.header_bytes, packet.slice_bytes) == (expected, header_bytes, 1000)
    assert (packet.slices, packet.payload_bytes) == (3, 2501)
    packet.offset = 2000
    assert (packet.slices, packet.payload_bytes) == (1, 501)


def key(inner: bytes, link_header: bytes = b"") -> bytes:
    return Packet(frame(link_header + inner), len(link_header)).flow_key


def test_a_flow_is_addresses_protocol_and_ports() -> None:
    assert key(ipv4(17, udp(b"a"))) == key(ipv4(17, udp(b"other payload")))
    assert key(ipv4(17, udp(b"a"))) != key(ipv4(17, udp(b"a", port=1001)))
    assert key(ipv4(17, udp(b"a"))) != key(ipv4(6, tcp(b"a")))
    assert key(ipv6(17, udp(b"a"))) != key(ipv6(17, udp(b"a", port=1001)))
    assert key(ipv4(17, udp(b"a"), options=bytes(8))) == key(ipv4(17, udp(b"a"))), "options do not matter"


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x00B9, 0x1F00])
def test_fragments_have_no_ports(fragment: int) -> None:
    assert key(ipv4(17, udp(b"a"), fragment=fragment)) == key(ipv4(17, udp(b"a", port=9), fragment=fragment))


def test_dont_fragment_is_no_fragment() -> None:
    assert key(ipv4(17, udp(b"a"), fragment=0x4000)) == key(ipv4(17, udp(b"a")))


def test_in_tap_mode_the_ethernet_header_is_skipped() -> None:
    ethernet = bytes(range(12))
    assert key(ipv4(17, udp(b"a")), ethernet + b"\x08\x00") == key(ipv4(17, udp(b"a")))
    assert key(ipv6(17, udp(b"a")), ethernet + b"\x86\xdd") == key(ipv6(17, udp(b"a")))
    assert key(bytes(28), ethernet + b"\x08\x06") == ethernet + b"\x08\x06", "others are a flow by their addresses"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (ipv4(6, tcp(b"")), True),
        (ipv6(6, tcp(b"")), True),
        (ipv4(6, tcp(b"", options=bytes(12))), True),
        (ipv4(6, tcp(b"data")), False),
        (ipv4(6, tcp(b"", flags=ACK | SYN)), False),
        (ipv4(6, tcp(b"", flags=ACK | FIN)), False),
        (ipv4(17, udp(b"")), False),
    ],
)
def test_bare_acknowledgements_are_known(inner: bytes, expected: bool) -> None:
    assert Packet(frame(inner)).pure_ack is expected


def test_padding_behind_an_acknowledgement_is_no_data() -> None:
    assert Packet(frame(ipv4(6, tcp(b"")) + bytes(6))).pure_ack


@given(st.binary(max_size=80), st.sampled_from([0, 14]))
def test_whatever_somebody_forwards_is_read_or_refused(packet: bytes, link_header_bytes: int) -> None:
    """What is not understood is still carried: only a packet that contradicts itself is refused."""
    read = Packet(frame(packet), link_header_bytes)
    assert read.kind == Kind.PACKETS
    assert read.item[2:] == packet


@given(st.binary(min_size=10, max_size=80))
def test_a_broken_vnet_header_is_refused_cleanly(tun_frame: bytes) -> None:
    try:
        Packet(tun_frame)
    except (PeerError, IndexError):
        pass
