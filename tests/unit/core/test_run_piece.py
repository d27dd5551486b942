"""Runs become trains, trains become pieces, pieces become TUN frames: what goes in comes out, in any parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inner_packets import frame, ipv4, super_packet, tcp, udp, unfinished

from mlvpn.burst import Opened, Opener, Sealer
from mlvpn.core.packet import Packet
from mlvpn.core.piece import Piece, deliveries, gathered, read_piece
from mlvpn.core.run import Run, SliceRun, build_bodies, join_trains
from mlvpn.crypto.aead import Cipher
from mlvpn.errors import PeerError
from mlvpn.wire.frame import GSEQ_MODULUS, Kind, first_byte, pack_item
from mlvpn.wire.header import OVERHEAD_BYTES
from mlvpn.wire.vnet import GSO_UDP, segment
from records import values

KEY = bytes(32)


def carry(run: Run, lseq: int = 5) -> tuple[list[Opened], list[tuple[bytes, int]]]:
    """Seal a run and open it again; return what arrives, and the trains."""
    sealer, opener = Sealer(Cipher.AES_256_GCM, KEY, 9, False), Opener(Cipher.AES_256_GCM, KEY, 9, False)
    trains = run.seal(sealer, 3, lseq, 77)
    opened: list[Opened] = []
    for data, datagram_bytes in trains:
        parts, failed = opener.open_train(data, datagram_bytes)
        assert failed == 0
        opened += parts
    return opened, trains


def frames_of(pieces: Sequence[Piece]) -> list[bytes]:
    return [b"".join(delivery) for piece in pieces for delivery in deliveries([piece])]


def slice_run(tun_frame: bytes, lane: int = 1, gseq: int = 0) -> SliceRun:
    packet = Packet(tun_frame)
    return SliceRun(packet, first_byte(packet.kind, lane, True), gseq, 0, packet.slices)


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "udp4"])
def test_a_super_packet_arrives_as_it_was(kind: str) -> None:
    sent = super_packet(bytes(range(256)) * 20, 1000, kind)
    opened, trains = carry(slice_run(sent, lane=7, gseq=GSEQ_MODULUS + 5))
    [piece] = [read_piece(part) for part in opened]
    assert (piece.lane, piece.gseq, piece.count, piece.equalise) == (7, 5, 6, True)
    assert frames_of([piece]) == [sent]
    assert len(trains) == 1, "one train, all datagrams of one length but the last"


def test_more_parts_than_one_call_can_write_are_joined() -> None:
    sent = super_packet(bytes(range(256)) * 5, 1)
    opened, _ = carry(slice_run(sent))
    [whole] = [read_piece(part) for part in opened]
    [buffers] = deliveries([whole.part(number, 1) for number in range(whole.count)])
    assert (len(buffers), b"".join(buffers)[-1280:]) == (2, sent[-1280:])


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "udp4"])
@given(data=st.data())
def test_any_parts_of_a_super_packet_add_up_to_it(kind: str, data: st.DataObject) -> None:
    """However a run is cut on its way out and on its way in, the payload arrives once and whole."""
    payload = data.draw(st.binary(min_size=1001, max_size=9000))
    sent = super_packet(payload, 1000, kind)
    run = slice_run(sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, run.count - 1), max_size=4)))
    edges = [0, *cuts, run.count]
    pieces: list[Piece] = []
    for start, end in pairwise(edges):
        [opened] = carry(run.part(start, end - start))[0]
        piece = read_piece(opened)
        middle = data.draw(st.integers(0, piece.count))
        pieces += [part for part in (piece.part(0, middle), piece.part(middle, piece.count - middle)) if part.count]
    assert [piece.gseq for piece in pieces] == sorted({piece.gseq for piece in pieces})
    received = b"".join(single[50:] if kind == "tcp4" else single[70:] if kind == "tcp6" else single[38:]
                        for whole in frames_of(pieces) for single in segment(whole))  # fmt: skip
    assert received == payload


@given(st.integers(1, 46), st.integers(100, 1400), st.integers(0, 1399))
def test_a_run_knows_its_size_before_it_is_sealed(slices: int, slice_bytes: int, short: int) -> None:
    payload = bytes(slices * slice_bytes - min(short, slice_bytes - 1))
    run = slice_run(super_packet(payload, slice_bytes, "udp4"))
    assert run.count == slices
    trains = carry(run)[1]
    assert sum(len(data) for data, _ in trains) == run.sent_bytes
    assert trains[0][1] == run.datagram_bytes
    parts = [run.part(at, 1) for at in range(run.count)]
    assert sum(part.sent_bytes for part in parts) == run.sent_bytes


packets = st.lists(st.integers(1, 600), min_size=1, max_size=30)


@given(packets, st.integers(650, 1440), st.integers(0, 15))
def test_packets_share_datagrams_in_their_order(sizes: list[int], body_bytes: int, lane: int) -> None:
    sent = [ipv4(17, udp(bytes((number % 256,)) * size)) for number, size in enumerate(sizes)]
    run = build_bodies([pack_item(packet) for packet in sent], lane, False, GSEQ_MODULUS - 1, body_bytes)
    assert max(map(len, run.bodies)) <= body_bytes
    opened, trains = carry(run)
    pieces = [read_piece(part) for part in opened]
    assert frames_of(pieces) == [frame(packet) for packet in sent]
    assert [piece.gseq for piece in pieces] == [(GSEQ_MODULUS - 1 + n) % GSEQ_MODULUS for n in range(run.count)]
    assert sum(len(data) for data, _ in trains) == run.sent_bytes
    assert frames_of([read_piece(p) for p in carry(run.part(run.count - 1, 1))[0]]) == frames_of(pieces[-1:])
    needed = sum(len(packet) + 2 for packet in sent)
    assert run.count <= 2 * needed // (body_bytes - 5) + 1, "no more than twice the datagrams a perfect packing needs"


def test_a_packet_too_big_for_any_body_is_alone_in_its_own() -> None:
    run = build_bodies([b"a", b"b" * 50, b"c"], 1, False, 0, 20)
    assert [len(body) for body in run.bodies] == [6, 55, 6]


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=20))
def test_trains_are_what_udp_gso_takes(datagrams: list[bytes]) -> None:
    trains = join_trains(datagrams)
    split = [data[at : at + size] for data, size in trains for at in range(0, len(data), size)]
    assert split == datagrams
    assert all(a[1] != b[1] or len(a[0]) % a[1] for a, b in pairwise(trains)), "no train for nothing"


# --- what a peer may send


def test_an_unfinished_checksum_reaches_the_device() -> None:
    for inner, offset in ((ipv4(6, tcp(b"x")), 16), (ipv4(17, udp(b"x")), 6)):
        packet = Packet(unfinished(inner, 20, offset))
        [piece] = [read_piece(part) for part in carry(build_bodies([packet.item], 0, False, 0, 1400))[0]]
        [tun_frame] = frames_of([piece])
        assert tun_frame[0] == 1
        assert int.from_bytes(tun_frame[6:8], "little") == 20
        assert int.from_bytes(tun_frame[8:10], "little") == offset
        assert int.from_bytes(tun_frame[2:4], "little") <= len(inner), "hdr_len must not exceed the packet"


@pytest.mark.parametrize("body", [b"", b"\x20\0\0\0\1", b"\xa0\0\0\0\1x", b"\x40\0\0\0\1\0\0\x14", b"\x40\0\0\0\1\0\0"])
def test_what_is_no_data_frame_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError):
        Piece(body, 1, 0)


@given(st.binary(max_size=200), st.integers(1, 3), st.integers(0, 100))
def test_any_authentic_bytes_are_delivered_or_refused(body: bytes, count: int, slice_bytes: int) -> None:
    try:
        deliveries([Piece(body, count, slice_bytes)])
    except PeerError:
        pass


@given(
    st.sampled_from([Kind.SLICE_TCP4, Kind.SLICE_TCP6, Kind.SLICE_UDP]),
    st.binary(max_size=120),
    st.integers(0, 255),
    st.integers(0, 65535),
)
def test_any_slice_is_delivered_or_refused(kind: Kind, rest: bytes, csum_start: int, offset: int) -> None:
    body = bytes((first_byte(kind, 1, False),)) + bytes(4) + offset.to_bytes(2, "big") + bytes((csum_start,)) + rest
    try:
        [delivery] = deliveries([Piece(body, 1, 0)])
    except PeerError:
        return
    assert len(b"".join(delivery)) <= len(body) + 10


def test_the_bytes_of_a_piece_are_those_of_its_datagrams() -> None:
    run = slice_run(super_packet(bytes(5000), 1000))
    opened, trains = carry(run)
    assert read_piece(opened[0]).wire_bytes == sum(len(data) for data, _ in trains)
    lone = build_bodies([pack_item(b"abc")], 0, False, 0, 100)
    assert read_piece(carry(lone)[0][0]).wire_bytes == OVERHEAD_BYTES + 5 + 5
    assert Packet(super_packet(bytes(10), 5, "udp4")).frame[1] == GSO_UDP


@given(st.integers(1, 20_000), st.lists(st.integers(1, 6), min_size=1, max_size=20))
def test_pieces_that_extend_each_other_become_the_super_packet_again(payload_bytes: int, cuts: list[int]) -> None:
    [opened] = carry(slice_run(super_packet(bytes(payload_bytes), 1000)))[0]
    piece = read_piece(opened)
    parts: list[Piece] = []
    start = 0
    for cut in cuts:
        if start < piece.count:
            parts.append(piece.part(start, min(cut, piece.count - start)))
            start += cut
    if start < piece.count:
        parts.append(piece.part(start, piece.count - start))
    assert all(after.extends(before) for before, after in pairwise(parts))
    assert not any(before.extends(after) for before, after in pairwise(parts))
    assert not any(after.extends(before) for before, after in zip(parts, parts[2:], strict=False))
    assert [b"".join(delivery) for delivery in deliveries(parts)] == frames_of([piece])


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_gathered_datagrams_bring_what_they_bring_one_by_one(lost: list[bool], data: st.DataObject) -> None:
    """Whatever is lost on the way, and whatever part of what was gathered has been seen before."""
    items = [pack_item(bytes([number]) * 300) for number in range(3 * len(lost))]
    run = build_bodies(items, 3, True, GSEQ_MODULUS - 2, 920)
    assert run.count == len(lost)
    arrived = [opened for opened, gone in zip(carry(run)[0], lost, strict=True) if not gone]
    pieces = [read_piece(opened) for opened in gathered(arrived)]
    assert frames_of(pieces) == frames_of([read_piece(opened) for opened in arrived])
    assert sum(piece.count for piece in pieces) == len(arrived)
    assert sum(piece.wire_bytes for piece in pieces) == sum(OVERHEAD_BYTES + len(opened.body) for opened in arrived)
    assert len(pieces) == sum(1 for before, now in pairwise([True, *lost]) if before and not now)
    for piece in pieces:
        start = data.draw(st.integers(0, piece.count - 1))
        count = data.draw(st.integers(1, piece.count - start))
        part = piece.part(start, count)
        assert (part.gseq, part.count, part.lane) == (piece.gseq + start, count, 3)
        assert frames_of([part]) == frames_of([piece])[3 * start : 3 * (start + count)]


def test_only_neighbours_of_one_lane_and_link_are_gathered() -> None:
    def opened(lseq: int, gseq: int, lane: int = 1, link: int = 0) -> Opened:
        body = build_bodies([pack_item(b"packet")], lane, False, gseq, 1000).bodies[0]
        return Opened(link, lseq, 1, 0, body, 0)

    control = Opened(0, 9, 1, 0, b"\x02\0\x08" + bytes(8), 0)
    for other in (opened(8, 7), opened(6, 7), opened(7, 8), opened(7, 7, lane=2), opened(7, 7, link=1), control):
        assert values(gathered([opened(6, 6), other])) == values([opened(6, 6), other])
    assert [one.count for one in gathered([opened(6, 6), opened(7, 7), control, control])] == [2, 1, 1]
