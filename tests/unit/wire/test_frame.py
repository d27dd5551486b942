"""Frames: golden bytes of each, round trips, and no bytes that do anything but parse or raise PeerError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.errors import PeerError
from mlvpn.wire import frame, header
from mlvpn.wire.frame import Gone, Hold, Item, Kind, LinkReport, Ping

REPORT = LinkReport(
    link=2,
    highest=0x0102030405AA,
    base=0x010203040500,
    arrival_us=0x11223344,
    delay_us=0x55667788,
    delay_min_us=0x55667700,
    received_bytes=0x0A0B0C0D0E0F,
    received_datagrams=0x000000001234,
    missing=[(0x0102030405A0, 0x0102030405A2), (0x010203040510, 0x010203040510)],
    wait_us=0xABCD,
)

GOLDEN: dict[str, tuple[bytes, str]] = {
    "ping": (frame.pack_ping(Ping(0x0102030405060708, False)), "010009 0102030405060708 00"),
    "ping of a fallback link": (frame.pack_ping(Ping(1, True)), "010009 0000000000000001 01"),
    "pong": (frame.pack_pong(0xFFFEFDFCFBFAF9F8), "020008 fffefdfcfbfaf9f8"),
    "feedback": (
        frame.pack_feedback([REPORT]),
        "030032 02 0102030405aa 010203040500 11223344 55667788 55667700 0000abcd 0a0b0c0d0e0f 000000001234 02"
        "0008 0003 009a 0001",
    ),
    "gone": (frame.pack_gone([Gone(3, 7, 2), Gone(15, 0xFFFFFFFF, 1)]), "04000e 03 00000007 0002 0f ffffffff 0001"),
    "mtu probe": (frame.pack_mtu_probe(1472, 10), "050007 05c0 0000000000"),
    "mtu ack": (frame.pack_mtu_ack(1472), "060002 05c0"),
    "hold": (
        frame.pack_hold([Hold(1, 35_000, 20_000), Hold(15, 0)]),
        "080012 01 000088b8 00004e20 0f 00000000 00000000",
    ),
    "close": (frame.pack_control(frame.Control.CLOSE, b"bye"), "070003 627965"),
    "item": (frame.pack_item(b"abc"), "0003 616263"),
    "item with an unfinished TCP checksum": (frame.pack_item(b"abc", 20, 16), "8003 14 616263"),
    "item with an unfinished UDP checksum": (frame.pack_item(b"abc", 40, 6), "c003 28 616263"),
    "head of a PACKETS frame": (
        frame.DATA_HEAD.pack(frame.first_byte(Kind.PACKETS, 0, False), 0x01020304),
        "20 01020304",
    ),
    "head of a slice": (
        frame.SLICE_HEAD.pack(frame.first_byte(Kind.SLICE_TCP6, 15, True), 5, 0xFFFF, 40),
        "7f 00000005 ffff 28",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    packed, expected = GOLDEN[name]
    assert packed.hex() == expected.replace(" ", "")


def one(packed: bytes) -> bytes:
    """Return the body of the only control frame."""
    [(_, body)] = frame.unpack_controls(packed)
    return body


def test_control_frames_follow_one_another() -> None:
    packed = frame.pack_pong(5) + frame.pack_mtu_ack(1300) + frame.pack_ping(Ping(6, True))
    assert [control for control, _ in frame.unpack_controls(packed)] == [2, 6, 1]
    bodies = [body for _, body in frame.unpack_controls(packed)]
    assert (frame.unpack_pong(bodies[0]), frame.unpack_size(bodies[1])) == (5, 1300)
    assert frame.unpack_ping(bodies[2]) == Ping(6, True)


def test_an_unknown_control_frame_can_be_skipped() -> None:
    packed = bytes([31, 0, 15]) + b"from the future" + frame.pack_pong(1)
    assert [control for control, _ in frame.unpack_controls(packed)] == [31, 2]


def test_bodies_longer_than_known_are_understood() -> None:
    assert frame.unpack_ping(one(frame.pack_ping(Ping(9, False))) + b"more") == Ping(9, False)
    assert frame.unpack_pong(one(frame.pack_pong(9)) + b"more") == 9


def test_an_mtu_probe_fills_its_body() -> None:
    probe = frame.pack_mtu_probe(1472, 1440)
    assert len(probe) == 1440
    assert frame.unpack_size(one(probe)) == 1472


@given(st.sampled_from(Kind), st.integers(0, 15), st.booleans())
def test_the_first_byte_tells_kind_lane_and_equalise(kind: Kind, lane: int, equalise: bool) -> None:
    byte = frame.first_byte(kind, lane, equalise)
    assert (frame.kind_of(byte), frame.lane_of(byte), bool(byte & 1)) == (kind, lane, equalise)
    assert (byte < 32) == (kind == Kind.CONTROL)


items = st.builds(
    Item,
    st.binary(min_size=1, max_size=64),
    st.integers(1, 255),
    st.sampled_from([6, 16]),
) | st.builds(Item, st.binary(min_size=1, max_size=64), st.just(0), st.just(16))


@given(st.lists(items))
def test_items_round_trip(packets: list[Item]) -> None:
    body = frame.DATA_HEAD.pack(0x20, 1) + b"".join(frame.pack_item(*item) for item in packets)
    assert list(frame.unpack_items(body, frame.Item)) == packets


@st.composite
def reports(draw: st.DrawFn) -> LinkReport:
    """A report as a receiver makes it: ranges apart, newest first, within 16 bits of the highest."""
    highest = draw(st.integers(1 << 17, (1 << 48) - 1))
    edges = draw(st.lists(st.integers(1, 0xFFFF), unique=True, max_size=2 * frame.MAX_RANGES))
    ends = [highest - distance for distance in sorted(edges)]
    missing = [(ends[i + 1], ends[i]) for i in range(0, len(ends) - 1, 2)]
    us = st.integers(0, (1 << 32) - 1)
    total = st.integers(0, (1 << 48) - 1)
    base = draw(st.integers(0, missing[-1][0] if missing else highest))
    return LinkReport(
        draw(st.integers(0, 255)),
        highest,
        base,
        draw(us),
        draw(us),
        draw(us),
        draw(total),
        draw(total),
        missing,
        draw(us),
    )


@given(st.lists(reports(), max_size=3))
def test_feedback_round_trips(sent: list[LinkReport]) -> None:
    assert frame.unpack_feedback(one(frame.pack_feedback(sent))) == sent


@given(st.integers(frame.MAX_RANGES + 1, 200))
def test_too_many_ranges_lose_the_oldest(count: int) -> None:
    highest = 100_000
    missing = [(highest - 10 * i - 1, highest - 10 * i) for i in range(1, count)]
    [read] = frame.unpack_feedback(one(frame.pack_feedback([REPORT._replace(highest=highest, missing=missing)])))
    assert read.missing == missing[: frame.MAX_RANGES]


@given(st.lists(st.builds(Gone, st.integers(0, 15), st.integers(0, 0xFFFFFFFF), st.integers(1, 0xFFFF)), max_size=50))
def test_gone_round_trips(gone: list[Gone]) -> None:
    assert frame.unpack_gone(one(frame.pack_gone(gone))) == gone


@given(st.lists(st.builds(Hold, st.integers(0, 15), *[st.integers(0, 0xFFFFFFFF)] * 2), max_size=16))
def test_hold_round_trips(holds: list[Hold]) -> None:
    assert frame.unpack_hold(one(frame.pack_hold(holds))) == holds


PARSERS: list[Callable[[bytes], Any]] = [
    lambda body: list(frame.unpack_items(body, frame.Item)),
    lambda body: list(frame.unpack_controls(body)),
    frame.unpack_ping,
    frame.unpack_pong,
    frame.unpack_feedback,
    frame.unpack_gone,
    frame.unpack_hold,
    frame.unpack_size,
]


@pytest.mark.parametrize("parse", PARSERS)
@given(body=st.binary(max_size=200))
def test_any_bytes_parse_or_raise_peer_error(parse: Callable[[bytes], Any], body: bytes) -> None:
    try:
        parse(body)
    except PeerError:
        pass


@given(st.data())
def test_whatever_is_cut_short_is_noticed(data: st.DataObject) -> None:
    packed = frame.pack_feedback([REPORT])
    cut = data.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(PeerError):
        list(frame.unpack_controls(packed[:cut]))
    body = one(packed)
    with pytest.raises(PeerError):
        frame.unpack_feedback(body[: data.draw(st.integers(1, len(body) - 1))])


def test_an_empty_item_is_refused() -> None:
    with pytest.raises(PeerError, match="impossible length"):
        list(frame.unpack_items(frame.DATA_HEAD.pack(0x20, 1) + b"\0\0", frame.Item))


# --- the header


def test_the_index_is_read_where_the_header_has_it() -> None:
    datagram = bytes.fromhex("04 02 000000000007 01020304 0000ffff")
    assert header.session_index(datagram) == 0x01020304
    assert len(datagram) == header.HEADER_BYTES


@given(st.integers(0, 1 << 60), st.integers(-(1 << 31), (1 << 31) - 1))
def test_time_stamps_wrap_and_differences_do_not_mind(sent_ns: int, later_us: int) -> None:
    sent_us = header.ts_us(sent_ns)
    assert 0 <= sent_us < 1 << 32
    assert header.signed_us((sent_us + later_us) % header.TS_MODULUS - sent_us) == later_us
