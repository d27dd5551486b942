"""Joined UDP packets: taken apart again they are what they were, and nothing is joined that must not be."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inner_packets import ipv4, ipv6, tcp, udp, unfinished

from mlvpn.core import uso
from mlvpn.core.packet import Packet
from mlvpn.wire.frame import Kind
from mlvpn.wire.vnet import checksum, complete_checksum, segment

DONT_FRAGMENT = 0x4000
PORT = 1000


def unsummed(packet: bytes, l4: int) -> bytes:
    """Return a UDP packet as a TUN frame, with the pseudo header's sum where the kernel leaves it."""
    addresses = packet[12:20] if l4 == 20 else packet[8:40]
    pseudo = addresses + struct.pack(">HH", len(packet) - l4, 17)
    seed = (0xFFFF - checksum(pseudo)).to_bytes(2, "little")
    return unfinished(packet[: l4 + 6] + seed + packet[l4 + 8 :], l4, 6)


def udp4(payload: bytes, port: int = PORT, ecn: int = 0, fragment: int = DONT_FRAGMENT) -> bytes:
    return unsummed(ipv4(17, udp(payload, port), ecn=ecn, fragment=fragment), 20)


def udp6(payload: bytes, port: int = PORT) -> bytes:
    return unsummed(ipv6(17, udp(payload, port)), 40)


def without_identification(frame: bytes) -> bytes:
    """Return a finished frame less the IPv4 fields that joining changes; the header's checksum has to be right."""
    if frame[10] >> 4 == 6:
        return frame
    assert checksum(frame[10:30]) == 0xFFFF, "the header sums to nothing"
    return frame[:14] + frame[16:20] + frame[22:]


@pytest.mark.parametrize(("make", "kind_bytes"), [(udp4, 28), (udp6, 48)])
@pytest.mark.parametrize("size", [700, 1200, 1372])
def test_a_burst_of_one_flow_becomes_one_super_packet(
    make: Callable[[bytes], bytes], kind_bytes: int, size: int
) -> None:
    frames = [make(bytes([number]) * size) for number in range(40)]
    [joined] = uso.join(frames)
    packet = Packet(joined)
    assert (packet.kind, packet.slices, packet.header_bytes, packet.slice_bytes) == (
        Kind.SLICE_UDP, 40, kind_bytes, size,
    )  # fmt: skip
    assert list(map(without_identification, segment(joined))) == [
        without_identification(complete_checksum(frame)) for frame in frames
    ]


frames = st.one_of(
    st.builds(
        udp4,
        st.sampled_from([bytes(700), bytes(1000), b"\xff" * 1000, bytes(1372)]),
        st.sampled_from([PORT, PORT + 1]),
        st.sampled_from([0, 0, 0, 3]),
        st.sampled_from([DONT_FRAGMENT, DONT_FRAGMENT, DONT_FRAGMENT, 0, 0x2000]),
    ),
    st.builds(udp6, st.sampled_from([bytes(900), b"\x01" * 900]), st.sampled_from([PORT, PORT + 1])),
    st.just(bytes(10) + ipv4(17, udp(bytes(1000)), fragment=DONT_FRAGMENT)),
    st.just(unfinished(ipv4(6, tcp(bytes(1000)), fragment=DONT_FRAGMENT), 20, 16)),
)


@given(st.lists(st.tuples(frames, st.integers(1, 70)), max_size=6))
def test_whatever_the_burst_is_the_packets_and_their_order_stay(runs: list[tuple[bytes, int]]) -> None:
    burst = [frame for frame, repeated in runs for _ in range(repeated)]
    out = uso.join(burst)
    assert [without_identification(single) for frame in out for single in segment(frame)] == [
        without_identification(complete_checksum(frame)) for frame in burst
    ]
    assert all(len(frame) - 10 <= 65_535 for frame in out)
    assert all(Packet(frame).slices <= uso.MOST_PACKETS for frame in out if Packet(frame).kind == Kind.SLICE_UDP)


@pytest.mark.parametrize("make", [udp4, udp6])
@pytest.mark.parametrize("size", [1, 64, 300])
def test_small_packets_of_one_flow_are_one_write(make: Callable[[bytes], bytes], size: int) -> None:
    frames = [make(bytes([number]) * size) for number in range(60)]
    [[written]] = uso.join_writes([(frame[:10], frame[10:]) for frame in frames])
    assert list(map(without_identification, segment(written))) == [
        without_identification(complete_checksum(frame)) for frame in frames
    ]


@given(st.lists(st.tuples(st.one_of(frames, st.builds(udp4, st.binary(max_size=90))), st.integers(1, 70)), max_size=6))
def test_whatever_is_written_the_packets_and_their_order_stay(runs: list[tuple[bytes, int]]) -> None:
    burst = [frame for frame, repeated in runs for _ in range(repeated)]
    out = [b"".join(buffers) for buffers in uso.join_writes([(frame[:10], frame[10:]) for frame in burst])]
    assert [without_identification(single) for frame in out for single in segment(frame)] == [
        without_identification(complete_checksum(frame)) for frame in burst
    ]


@pytest.mark.parametrize(
    ("why", "burst"),
    [
        ("too few", [udp4(bytes(1000))] * (uso.LEAST_PACKETS - 1)),
        ("small ones share a datagram", [udp4(bytes(200))] * 40),
        ("a checksum that is made may be wrong", [bytes(10) + udp4(bytes(1000))[10:]] * 40),
        ("fragments need their identification", [udp4(bytes(1000), fragment=0)] * 40),
        ("other flows between", [udp4(bytes(1000), PORT + number % 2) for number in range(40)]),
        ("marked by a router", [udp4(bytes(1000), ecn=number % 2 * 3) for number in range(40)]),
        ("a length that is not the packet's", [udp4(bytes(1000)) + b"more"] * 40),
        ("cut short", [udp4(bytes(1000))[:20]] * 40),
        ("empty", [b""] * 40),
    ],
)  # fmt: skip
def test_what_must_not_be_joined_is_left_alone(why: str, burst: list[bytes]) -> None:
    assert uso.join(burst) == burst, why


@given(st.binary(min_size=10, max_size=900).map(lambda packet: unfinished(packet, 20, 6)))
def test_any_bytes_are_left_alone_or_joined(frame: bytes) -> None:
    assert len(uso.join([frame] * 5)) in (1, 5)
