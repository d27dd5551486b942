"""Super-packets: the split must give valid packets, and joined pieces must be the super-packet again."""

from __future__ import annotations

import random
import struct
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inner_tcp import ACK, CWR, ETHERNET, FIN, IPV4, IPV6, LAYER2, PSH, super_packet, word_sum
from mlvpn.errors import PeerError
from mlvpn.wire import vnet


class Parsed:
    """A finished packet read back field by field; raises when a length or a checksum is wrong."""

    def __init__(self, frame: bytes, layer2: str) -> None:
        assert frame[:10] == bytes(10)
        packet = frame[10 + {"tun": 0, "tap": 14, "vlan": 18}[layer2] :]
        if packet[0] >> 4 == 4:
            assert struct.unpack_from(">H", packet, 2)[0] == len(packet)
            assert word_sum(packet[:20]) == 0xFFFF
            self.identification = struct.unpack_from(">H", packet, 4)[0]
            protocol, addresses, l4 = packet[9], packet[12:20], packet[20:]
        else:
            assert struct.unpack_from(">H", packet, 4)[0] == len(packet) - 40
            protocol, addresses, l4 = packet[6], packet[8:40], packet[40:]
        assert word_sum(addresses + struct.pack(">HH", protocol, len(l4)) + l4) == 0xFFFF
        if protocol == 6:
            self.sequence = struct.unpack_from(">I", l4, 4)[0]
            self.flags = l4[13]
            self.payload = l4[32:]
        else:
            assert struct.unpack_from(">H", l4, 4)[0] == len(l4)
            assert struct.unpack_from(">H", l4, 6)[0] != 0
            self.payload = l4[8:]


frames = st.builds(
    super_packet,
    st.sampled_from([IPV4, IPV6]),
    st.booleans(),
    st.builds(lambda size, seed: random.Random(seed).randbytes(size), st.integers(1, 3000), st.integers(0, 9)),
    st.integers(256, 1448),
    st.sampled_from(list(LAYER2)),
    st.integers(0, 255),
)


def layer2_of(frame: bytes) -> str:
    return "tun" if frame[10:22] != ETHERNET else "vlan" if frame[22:24] == b"\x81\x00" else "tap"


def test_header_is_the_kernels_struct() -> None:
    """Golden vector: IPv4 super-packet of a TUN, TCP with timestamps, as Linux writes it on either kind of host."""
    header = vnet.VnetHeader(1, vnet.GSO_TCPV4, 52, 1448, 20, 16)
    golden = {"little": "0101 3400 a805 1400 1000", "big": "0101 0034 05a8 0014 0010"}
    assert header.pack() == bytes.fromhex(golden[sys.byteorder])
    assert vnet.VnetHeader.unpack(header.pack() + b"packet") == header


@given(st.binary(max_size=300))
def test_checksum_equals_the_textbook_sum(data: bytes) -> None:
    swapped = struct.unpack(">H", struct.pack("<H", vnet.checksum(data)))[0]
    assert swapped % 0xFFFF == (0xFFFF ^ word_sum(data)) % 0xFFFF
    assert swapped != 0


def test_checksum_of_a_known_ipv4_header() -> None:
    """The header of RFC 1071's usual worked example; its checksum is 0xB861."""
    header = bytes.fromhex("45000073000040004011 0000 c0a80001c0a800c7".replace(" ", ""))
    assert struct.pack("<H", vnet.checksum(header)) == b"\xb8\x61"


@given(frames)
def test_segments_are_valid_packets_that_carry_the_payload(frame: bytes) -> None:
    header = vnet.VnetHeader.unpack(frame)
    packets = [Parsed(packet, layer2_of(frame)) for packet in vnet.segment(frame)]
    payload = b"".join(packet.payload for packet in packets)
    assert frame.endswith(payload)
    if header.gso_type:
        assert all(len(packet.payload) == header.gso_bytes for packet in packets[:-1])


def test_tcp_fields_follow_the_split() -> None:
    flags = ACK | PSH | FIN | CWR
    packets = [Parsed(f, "tun") for f in vnet.segment(super_packet(IPV4, True, bytes(2500), 1000, flags=flags))]
    assert [p.sequence for p in packets] == [0xFFFFFF00, 0xFFFFFF00 + 1000 - 2**32, 0xFFFFFF00 + 2000 - 2**32]
    assert [p.flags for p in packets] == [ACK | CWR, ACK, ACK | PSH | FIN]
    assert [p.identification for p in packets] == [0xFFFE, 0xFFFF, 0x0000]


def cut(frame: bytes) -> tuple[vnet.VnetHeader, bytes, list[bytes]]:
    """Cut a super-packet into its header template and the payloads of its slices."""
    head = vnet.VnetHeader.unpack(frame)
    length = vnet.header_length(frame, 10, head.csum_start, 1 if head.csum_offset == 16 else head.gso_type or 5)
    payload = frame[10 + length :]
    step = head.gso_bytes or len(payload)
    return head, frame[10 : 10 + length], [payload[i : i + step] for i in range(0, len(payload), step)]


def piece(frame: bytes, first: int, last: int) -> bytes:
    """Build the piece of slices first..last (exclusive)."""
    head, template, slices = cut(frame)
    gso_type = head.gso_type or (1 if head.csum_offset == 16 else 5)
    offset = sum(map(len, slices[:first]))
    gso_bytes = head.gso_bytes or sum(map(len, slices))
    return b"".join(vnet.piece_frame(gso_type, head.csum_start, template, offset, slices[first:last], gso_bytes))


@given(frames)
def test_all_slices_joined_are_the_super_packet_again(frame: bytes) -> None:
    assert piece(frame, 0, len(cut(frame)[2])) == frame
    assert vnet.segment(piece(frame, 0, len(cut(frame)[2]))) == vnet.segment(frame)


@given(frames, st.data())
def test_pieces_segment_into_the_same_packets(frame: bytes, data: st.DataObject) -> None:
    """Whatever is lost, what remains is what the packets would have been, but for the IPv4 identification."""
    count = len(cut(frame)[2])
    bounds = sorted(data.draw(st.sets(st.integers(1, max(count - 1, 1)), max_size=4)) | {0, count})
    layer2 = layer2_of(frame)
    want = [vars(Parsed(packet, layer2)) for packet in vnet.segment(frame)]
    got = []
    for first, last in pairwise(bounds):
        made = piece(frame, first, last)
        assert bool(vnet.VnetHeader.unpack(made).gso_type) == (last - first > 1)
        got += [vars(Parsed(packet, layer2)) for packet in vnet.segment(made)]
    for packet in want + got:
        packet.pop("identification", None)
    assert got == want


def test_identifications_of_pieces_do_not_meet() -> None:
    frame = super_packet(IPV4, True, bytes(20_000), 300)
    count = len(cut(frame)[2])
    ids = [
        Parsed(packet, "tun").identification
        for i in range(0, count, 5)
        for packet in vnet.segment(piece(frame, i, i + 5))
    ]
    assert len(set(ids)) == count


def test_packet_without_offload_is_returned_as_it_is() -> None:
    frame = bytes(10) + b"E" + bytes(30)
    assert vnet.complete_checksum(frame) is frame
    assert vnet.segment(frame) == [frame]


def test_flags_without_work_are_cleared() -> None:
    frame = vnet.VnetHeader(2, 0, 0, 0, 0, 0).pack() + b"E" + bytes(30)  # 2 = DATA_VALID
    assert vnet.complete_checksum(frame) == bytes(10) + b"E" + bytes(30)


def test_udp_checksum_of_zero_is_sent_as_all_ones() -> None:
    """Choose the payload so that the finished sum would be 0: RFC 768 wants 0xFFFF there."""
    frame = super_packet(IPV4, False, b"\0\0", 100)
    unfinished = word_sum(frame[10 + 20 :])
    frame = frame[:-2] + struct.pack(">H", 0xFFFF - unfinished)
    assert vnet.complete_checksum(frame)[10 + 26 : 10 + 28] == b"\xff\xff"
    Parsed(vnet.complete_checksum(frame), "tun")


HEADER = vnet.VnetHeader(1, vnet.GSO_TCPV4, 52, 1000, 20, 16)


@pytest.mark.parametrize(
    "frame",
    [
        HEADER.pack(),
        HEADER.pack() + bytes(52),
        HEADER._replace(csum_start=60_000).pack() + bytes(100),
        HEADER._replace(gso_bytes=0).pack() + bytes(32) + b"\x50" + bytes(100),
        HEADER.pack() + b"\x45" + bytes(31) + b"\x50" + bytes(7),
        HEADER._replace(gso_type=0, csum_start=99).pack() + bytes(100),
        HEADER._replace(gso_type=vnet.GSO_UDP, csum_start=95).pack() + bytes(100),
    ],
)
def test_frames_that_contradict_themselves_are_refused(frame: bytes) -> None:
    with pytest.raises(PeerError):
        vnet.segment(frame)


@given(st.binary(min_size=10, max_size=200))
def test_garbage_is_split_or_refused_and_nothing_else(frame: bytes) -> None:
    try:
        packets = vnet.segment(frame)
    except PeerError:
        return
    assert sum(map(len, packets)) < 220 * max(len(packets), 1)


@given(st.integers(0, 255), st.integers(0, 120), st.binary(max_size=100), st.integers(0, 70_000), st.integers(0, 2000))
def test_garbage_pieces_are_built_or_refused(
    gso_type: int, csum_start: int, template: bytes, offset: int, gso_bytes: int
) -> None:
    try:
        buffers = vnet.piece_frame(gso_type, csum_start, template, offset, [b"pay", b"load"], gso_bytes)
    except PeerError:
        return
    assert len(buffers[0]) == 10 + len(template)
