"""Marks: set where the flow understands them, with every checksum right afterwards."""

from __future__ import annotations

import pytest
from inner_packets import frame, ipv4, ipv6, super_packet, tcp, udp, unfinished

from mlvpn.core.ecn import mark_congestion
from mlvpn.core.packet import Packet
from mlvpn.wire.frame import DATA_HEAD, Item, unpack_items
from mlvpn.wire.vnet import checksum

NOT_ECT, ECT1, ECT0, CE = range(4)


def inner_of(packet: Packet) -> bytes:
    """Return the packet as it will be sent."""
    [item] = unpack_items(bytes(DATA_HEAD.size) + packet.item, Item)
    return item.packet


@pytest.mark.parametrize("ecn", [ECT0, ECT1, CE])
def test_ipv4_is_marked_and_its_checksum_follows(ecn: int) -> None:
    packet = Packet(frame(ipv4(17, udp(b"x"), ecn=0xB8 | ecn, options=bytes(4))))
    assert mark_congestion(packet)
    marked = inner_of(packet)
    assert marked == ipv4(17, udp(b"x"), ecn=0xB8 | CE, options=bytes(4)), "and the DSCP stays"
    assert checksum(marked[:24]) == 0xFFFF
    assert packet.frame[10:] == marked


@pytest.mark.parametrize("ecn", [ECT0, ECT1, CE])
def test_ipv6_is_marked(ecn: int) -> None:
    packet = Packet(frame(ipv6(6, tcp(b"x"), ecn=ecn)))
    assert mark_congestion(packet)
    assert inner_of(packet) == ipv6(6, tcp(b"x"), ecn=CE)


@pytest.mark.parametrize("inner", [ipv4(17, udp(b"x")), ipv6(17, udp(b"x")), b"\x45", b"\x60", bytes(40)])
def test_what_does_not_understand_is_left_alone(inner: bytes) -> None:
    packet = Packet(frame(inner))
    assert not mark_congestion(packet)
    assert packet.frame == frame(inner)
    assert inner_of(packet) == inner


def test_an_unfinished_checksum_stays_unfinished() -> None:
    packet = Packet(unfinished(ipv4(6, tcp(b"x"), ecn=ECT0), 20, 16))
    assert mark_congestion(packet)
    [item] = unpack_items(bytes(DATA_HEAD.size) + packet.item, Item)
    assert (item.csum_start, item.csum_offset) == (20, 16)
    assert item.packet == ipv4(6, tcp(b"x"), ecn=CE)


def test_a_super_packet_is_marked_whole() -> None:
    whole = super_packet(bytes(3000), 1000)
    marked = bytearray(whole)
    marked[11] |= ECT0
    packet = Packet(bytes(marked))
    assert mark_congestion(packet)
    assert packet.frame[11] & 3 == CE
    assert packet.frame[30:] == whole[30:]
