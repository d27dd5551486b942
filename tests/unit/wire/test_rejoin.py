"""Joined packets: splitting what was joined gives the packets again, and what may not be joined is left as it came."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inner_tcp import ACK, ETHERNET_BYTES, PSH, packet_of, tcp_packet
from mlvpn.burst import segments
from mlvpn.burst.secretbox import KERNEL
from mlvpn.wire.rejoin import rejoin as rejoin_in_python
from mlvpn.wire.vnet import HEADER_BYTES, NO_OFFLOAD, VnetHeader, segment

Rejoin = Callable[[list[bytes], int], list[bytes]]


needs_c = pytest.mark.skipif(KERNEL is None, reason="the kernel is not built: secretbox_build")
both = pytest.mark.parametrize(
    "rejoin", [pytest.param(rejoin_in_python, id="python"), pytest.param(segments.rejoin, marks=needs_c, id="c")]
)


def flow(
    *sizes: int, family: int = 4, l2_bytes: int = 0, first: int = 0xFFFFFE00, last_flags: int = ACK, port: int = 5000
) -> list[bytes]:
    """Packets of one flow, one behind the other, over the end of the sequence numbers."""
    packets, sequence = [], first
    for number, size in enumerate(sizes):
        flags = last_flags if number == len(sizes) - 1 else ACK
        packet = tcp_packet(
            sequence, size, family=family, l2_bytes=l2_bytes, flags=flags, identification=number, port=port
        )
        packets.append(packet)
        sequence += size
    return packets


@both
@pytest.mark.parametrize("l2_bytes", [0, ETHERNET_BYTES])
@pytest.mark.parametrize("family", [4, 6])
def test_a_flow_becomes_one_super_packet_and_its_packets_again(rejoin: Rejoin, family: int, l2_bytes: int) -> None:
    packets = flow(500, 500, 500, 77, family=family, l2_bytes=l2_bytes, last_flags=ACK | PSH)
    (frame,) = rejoin(packets, l2_bytes)
    vnet = VnetHeader.unpack(frame)
    l4 = l2_bytes + (20 if family == 4 else 40)
    assert vnet == (1, 1 if family == 4 else 4, l4 + 32, 500, l4, 16)
    assert [piece[HEADER_BYTES:] for piece in segment(frame)] == packets


@both
def test_what_ends_a_super_packet(rejoin: Rejoin) -> None:
    pushed = [*flow(9, 9, last_flags=ACK | PSH), tcp_packet(0xFFFFFE12, 9, identification=2)]
    assert len(rejoin(pushed, 0)) == 2
    assert len(rejoin(flow(9, 8, 8), 0)) == 2  # behind a shorter one nothing follows
    assert len(rejoin(flow(9, 10), 0)) == 2  # and the first is the longest
    assert len(rejoin(flow(*[1448] * 91), 0)) == 3  # an IP packet ends at 65,535 bytes


@both
@pytest.mark.parametrize(
    "other",
    [
        tcp_packet(101, 100),  # a byte is missing
        tcp_packet(100, 100, port=9),
        tcp_packet(100, 100, acknowledged=8),
        tcp_packet(100, 100, window=1),
        tcp_packet(100, 100, timestamp=6),
        tcp_packet(100, 100, tos=1),
        tcp_packet(100, 100, ttl=63),
        tcp_packet(100, 100, flags=ACK | 0x01),
        tcp_packet(100, 100, flags=ACK | 0x40),
        tcp_packet(100, 100, fragment=0x2000),
        tcp_packet(100, 100, fragment=0),
        tcp_packet(100, 100, bad_checksum=True),
        tcp_packet(100, 100, bad_ip_checksum=True),
        tcp_packet(100, 0),
        tcp_packet(100, 100) + b"\0",  # padding
        b"",
        b"E",
        bytes(40),
    ],
)
def test_what_is_not_the_next_packet_of_the_flow_is_left_alone(rejoin: Rejoin, other: bytes) -> None:
    first = tcp_packet(0, 100)
    assert rejoin([first, other, first], 0) == [NO_OFFLOAD + packet for packet in (first, other, first)]


@both
def test_packets_that_may_be_fragmented_need_consecutive_identifications(rejoin: Rejoin) -> None:
    def pair(second: int) -> list[bytes]:
        return [tcp_packet(100 * n, 100, fragment=0, identification=i) for n, i in enumerate((0xFFFF, second))]

    assert len(rejoin(pair(0), 0)) == 1
    assert len(rejoin(pair(1), 0)) == 2


@st.composite
def mixed(draw: st.DrawFn) -> tuple[list[bytes], int]:
    """Some flows in pieces, with odd packets in between."""
    l2_bytes, packets = draw(st.sampled_from([0, ETHERNET_BYTES])), []
    for port in range(draw(st.integers(0, 4))):  # of its own: a flow that goes on with another's is joined to it
        size, family = draw(st.integers(1, 40)), draw(st.sampled_from([4, 6]))
        sizes = [size] * draw(st.integers(0, 5)) + [draw(st.integers(0, 40))]
        flags = draw(st.sampled_from([ACK, ACK | PSH, ACK | 1]))
        packets += flow(
            *sizes, family=family, l2_bytes=l2_bytes, first=draw(st.integers(0, 50)), last_flags=flags, port=port
        )
        packets += draw(st.lists(st.binary(max_size=70), max_size=1))
    if packets and draw(st.booleans()):
        at = draw(st.integers(0, len(packets) - 1))
        bent = bytearray(packets[at] or b"x")
        bent[draw(st.integers(0, len(bent) - 1))] ^= 1 << draw(st.integers(0, 7))
        packets[at] = bytes(bent)
    return packets, l2_bytes


@given(mixed())
def test_splitting_gives_exactly_what_was_joined(case: tuple[list[bytes], int]) -> None:
    packets, l2_bytes = case
    split = [piece[HEADER_BYTES:] for frame in rejoin_in_python(packets, l2_bytes) for piece in segment(frame)]
    assert split == packets


@needs_c
@given(mixed())
def test_the_twins_agree(case: tuple[list[bytes], int]) -> None:
    assert segments.rejoin(*case) == rejoin_in_python(*case)


def test_the_packets_of_the_tests_are_true() -> None:
    packet = tcp_packet(7, 3)
    assert packet_of(packet) == (7, b"\x07" * 3)
    assert struct.unpack_from(">H", packet, 2)[0] == len(packet)
