"""Whoever sends packets that no link can carry is told so, in a form that kernels believe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inner_packets import ipv4, ipv6, tcp, udp

from mlvpn.core.icmp import frame_too_big, too_big
from mlvpn.wire.vnet import checksum

LARGE = bytes(1500)
GOOD = (0xFFFF,)


def test_fragmentation_needed() -> None:
    packet = ipv4(6, tcp(LARGE))
    answer = too_big(packet, 1400)
    assert answer is not None
    assert len(answer) == 56
    assert (answer[12:16], answer[16:20]) == (packet[16:20], packet[12:16]), "from where it was going, to its sender"
    assert (answer[9], answer[20], answer[21]) == (1, 3, 4)
    assert int.from_bytes(answer[26:28], "big") == 1400
    assert answer[28:] == packet[:28]
    assert checksum(answer[:20]) in GOOD
    assert checksum(answer[20:]) in GOOD


def test_packet_too_big() -> None:
    packet = ipv6(17, udp(LARGE))
    answer = too_big(packet, 1400)
    assert answer is not None
    assert len(answer) == 1280, "as much of the packet as fits into the least MTU"
    assert (answer[8:24], answer[24:40]) == (packet[24:40], packet[8:24])
    assert (answer[6], answer[40], answer[41]) == (58, 2, 0)
    assert int.from_bytes(answer[44:48], "big") == 1400
    assert answer[48:] == packet[: 1280 - 48]
    pseudo = answer[8:40] + (1240).to_bytes(4, "big") + bytes((0, 0, 0, 58))
    assert checksum(pseudo + answer[40:]) in GOOD


def test_ipv6_is_never_told_less_than_its_least_mtu() -> None:
    answer = too_big(ipv6(17, udp(LARGE)), 1000)
    assert answer is not None
    assert int.from_bytes(answer[44:48], "big") == 1280


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        ipv4(1, LARGE),
        ipv6(58, LARGE),
        ipv4(17, udp(LARGE), fragment=0x2001),
        ipv4(17, udp(LARGE))[:19],
        ipv6(17, udp(LARGE))[:39],
        b"\x20" + LARGE,
    ],
    ids=["empty", "icmp", "icmpv6", "tail of a fragment", "cut short", "cut short 6", "version 2"],
)
def test_nobody_is_told_about(packet: bytes) -> None:
    assert too_big(packet, 1400) is None


@pytest.mark.parametrize(("ethertype", "packet"), [("0800", ipv4(6, tcp(LARGE))), ("86dd", ipv6(6, tcp(LARGE)))])
def test_a_frame_is_answered_by_a_frame_the_other_way(ethertype: str, packet: bytes) -> None:
    there, here, kind = bytes(range(6)), bytes(range(6, 12)), bytes.fromhex(ethertype)
    answer = too_big(packet, 1400)
    assert answer is not None
    assert frame_too_big(there + here + kind + packet, 1400) == here + there + kind + answer


@pytest.mark.parametrize("frame", [b"", bytes(13), bytes(12) + b"\x08\x06" + LARGE, bytes(12) + b"\x81\x00" + LARGE])
def test_nobody_is_told_about_a_frame_without_ip(frame: bytes) -> None:
    assert frame_too_big(frame, 1400) is None


@given(st.binary(max_size=100), st.integers(0, 65535))
def test_any_bytes_are_answered_or_not(packet: bytes, mtu_bytes: int) -> None:
    answer = too_big(packet, mtu_bytes)
    assert answer is None or answer[0] >> 4 == packet[0] >> 4
