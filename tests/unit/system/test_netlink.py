"""The kernel's messages byte by byte, and whatever else may be in a buffer."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from mlvpn.system.netlink import AddressGone, AddressNew, LinkState, Netlink, parse_events

UP, LOWER_UP = 0x1, 0x10000


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def link(kind: int, flags: int, family: int = socket.AF_UNSPEC, name: bytes = b"wwan0\0") -> bytes:
    mac = attribute(1, bytes(6))
    return message(
        kind, struct.pack("=BxHiII", family, 1, 7, flags, 0) + mac + attribute(3, name) + attribute(4, bytes(4))
    )


def address(kind: int, family: int, attributes: bytes, flags: int = 0) -> bytes:
    return message(kind, struct.pack("=BBBBI", family, 24, flags, 0, 7) + attributes)


def test_golden_message() -> None:
    """RTM_NEWLINK as Linux 6 sends it for a veth (first attributes), little-endian hosts only."""
    captured = bytes.fromhex(
        "2c000000 1000 0000 00000000 00000000 0000 0100 03000000 43100100 00000000"
        "0700 0300 76610000 0500 2100 01000000".replace(" ", "")
    )
    if struct.pack("=H", 1) == b"\1\0":
        captured = struct.pack("=I", len(captured)) + captured[4:]
        assert parse_events(captured) == [LinkState(3, "va", up=True, carrier=True)]


def test_interface_states() -> None:
    data = link(16, UP | LOWER_UP) + link(16, UP) + link(16, 0) + link(17, UP | LOWER_UP)
    assert parse_events(data) == [
        LinkState(7, "wwan0", up=True, carrier=True),
        LinkState(7, "wwan0", up=True, carrier=False),
        LinkState(7, "wwan0", up=False, carrier=False),
        LinkState(7, "wwan0", up=False, carrier=False),
    ]


def test_leaving_a_bridge_is_not_leaving_the_system() -> None:
    assert parse_events(link(17, UP, family=7)) == []


def test_addresses_come_and_go() -> None:
    ours, peers = socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")
    ipv6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    data = address(20, socket.AF_INET, attribute(1, peers) + attribute(2, ours))
    data += address(21, socket.AF_INET, attribute(1, ours)) + address(21, socket.AF_INET6, attribute(1, ipv6))
    assert parse_events(data) == [AddressNew(7, "10.0.0.1"), AddressGone(7, "10.0.0.1"), AddressGone(7, "2001:db8::1")]


def test_tentative_address_is_not_there_yet() -> None:
    ipv6 = attribute(1, socket.inet_pton(socket.AF_INET6, "2001:db8::1"))
    long_flags = attribute(8, struct.pack("=I", 0x40))
    assert parse_events(address(20, socket.AF_INET6, ipv6, flags=0x40)) == []
    assert parse_events(address(20, socket.AF_INET6, ipv6 + long_flags)) == []
    assert parse_events(address(20, socket.AF_INET6, ipv6 + attribute(8, struct.pack("=I", 0x80)))) != []


def test_message_cut_off_ends_the_reading() -> None:
    data = link(16, UP)
    for length in range(len(data)):
        assert parse_events(data[:length]) == []
        assert parse_events(data + data[:length]) == [LinkState(7, "wwan0", up=True, carrier=False)]


@given(st.binary(max_size=300))
def test_garbage_is_skipped(data: bytes) -> None:
    parse_events(data)


@given(st.sampled_from([16, 17, 20, 21]), st.integers(0, 12), st.binary(max_size=100))
def test_garbage_in_a_sound_message_is_skipped(kind: int, family: int, body: bytes) -> None:
    for event in parse_events(message(kind, bytes([family]) + body)):
        assert event.ifindex >= 0 or isinstance(event, LinkState)


def test_first_reading_tells_the_present_state() -> None:
    """Needs no privilege; every Linux has a loopback interface."""
    with_state = Netlink()
    assert any(isinstance(event, LinkState) and event.name == "lo" for event in with_state.read_events())
    with_state.close()
