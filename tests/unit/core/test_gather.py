"""Single TCP packets become the super-packets they were cut from, flow by flow, in the order of each flow."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.gather import WORTH_BYTES, gather
from mlvpn.wire.vnet import DATA_VALID, GSO_TCPV4, GSO_TCPV6, HEADER_BYTES, NEEDS_CSUM, VnetHeader, checksum, segment

ACK, PSH, SYN = 0x10, 0x08, 0x02
ETHERNET = bytes.fromhex("46a1b2c3d4e5020000000001")
STAMPS = b"\1\1\x08\x0a" + bytes(8)


def super_packet(
    payload: bytes, size: int, *, ipv6: bool = False, tap: bool = False, port: int = 1, **tcp: int
) -> bytes:
    """Return a TCP super-packet as the kernel hands it over."""
    fields = {"seq": 1000, "ack": 5, "flags": ACK | PSH, "window": 100, **tcp}
    header = struct.pack(">HHIIBBHHH", port, 80, fields["seq"], fields["ack"], 0x80, *_rest(fields), 0, 0) + STAMPS
    ends = [ip_address(a).packed for a in (("fd00::1", "fd00::2") if ipv6 else ("10.0.0.1", "10.0.0.2"))]
    l4_bytes = len(header) + len(payload)
    if ipv6:
        ip = struct.pack(">IHBB", 6 << 28, l4_bytes, 6, 64) + b"".join(ends)
    else:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + l4_bytes, 7, 0x4000, 64, 6, 0) + b"".join(ends)
        ip = ip[:10] + struct.pack("<H", checksum(ip) % 0xFFFF) + ip[12:]
    seed = int.from_bytes(b"".join(ends), "big") + 6 + l4_bytes
    header = header[:16] + struct.pack(">H", seed % 0xFFFF) + header[18:]
    layer2 = ETHERNET + (b"\x86\xdd" if ipv6 else b"\x08\0") if tap else b""
    l4 = len(layer2) + len(ip)
    vnet = VnetHeader(NEEDS_CSUM, GSO_TCPV6 if ipv6 else GSO_TCPV4, l4 + len(header), size, l4, 16)
    return vnet.pack() + layer2 + ip + header + payload


def _rest(fields: dict[str, int]) -> tuple[int, int]:
    return fields["flags"], fields["window"]


def packets(count: int, **options: int) -> list[bytes]:
    return segment(super_packet(bytes(range(250)) * 4 * count, 1000, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize("payload_bytes", [2800, 2801, 4199, 64_000])
def test_what_was_cut_is_joined_again_to_the_same_bytes(payload_bytes: int, tap: bool, ipv6: bool) -> None:
    whole = super_packet(bytes(7) + b"x" * (payload_bytes - 7), 1400, ipv6=ipv6, tap=tap)
    assert gather(segment(whole), 14 if tap else 0) == [whole]


def test_flows_that_alternate_are_joined_each() -> None:
    one, two = packets(3, port=1), packets(3, port=2)
    mixed = [packet for pair in zip(one, two, strict=True) for packet in pair]
    assert gather(mixed, 0) == [*gather(one, 0), *gather(two, 0)]
    assert len(gather(mixed, 0)) == 2


def test_a_damaged_packet_stays_as_it_is_and_parts_its_neighbours() -> None:
    good = packets(5)
    damaged = good[2][:-1] + bytes([good[2][-1] ^ 1])
    assert gather([*good[:2], damaged, *good[3:]], 0) == [*gather(good[:2], 0), damaged, *gather(good[3:], 0)]


@pytest.mark.parametrize("change", [{"ack": 6}, {"window": 99}, {"flags": SYN}, {"flags": ACK | 1}, {"seq": 9999}])
def test_other_headers_stay_apart(change: dict[str, int]) -> None:
    first = packets(1, flags=ACK)
    second = packets(1, **{"seq": 2000, **change})
    assert gather(first + second, 0) == first + second


def test_a_push_and_a_short_packet_end_a_super_packet() -> None:
    first, second = packets(2), packets(2, seq=3000)  # the last of each has PSH
    assert len(gather(first + second, 0)) == 2
    short = segment(super_packet(bytes(1050), 1000, flags=ACK)) + packets(1, seq=2050)
    assert [len(frame) for frame in gather(short, 0)] == [len(short[0]) + 50, len(short[2])]


def test_never_longer_than_an_ip_packet() -> None:
    many = [packet for at in range(300) for packet in packets(1, seq=1000 + 1000 * at, flags=ACK)]
    joined = gather(many, 0)
    assert max(map(len, joined)) <= 65_535 + 10
    assert sum(len(segment(frame)) for frame in joined) == 300


def test_bursts_of_small_packets_are_not_looked_into() -> None:
    small = segment(super_packet(bytes(1000), WORTH_BYTES - 63))
    assert gather(small, 0) == small
    large = segment(super_packet(bytes(1000), WORTH_BYTES - 62))
    assert len(gather(large, 0)) == 1


def test_a_super_packet_is_not_overtaken_by_what_came_behind_it() -> None:
    before, whole, after = packets(2), super_packet(bytes(2000), 1000, seq=3000), packets(2, seq=5000)
    assert gather([*before, whole, *after], 0) == [*gather(before, 0), whole, *gather(after, 0)]


_streams = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6), st.booleans()), max_size=6)


@given(_streams, st.randoms(use_true_random=False))
def test_cut_again_every_flow_has_the_same_packets_in_the_same_order(
    streams: list[tuple[int, int, bool]], random: object
) -> None:
    frames = [p for port, count, ipv6 in streams for p in packets(count, port=port, ipv6=ipv6)]
    random.shuffle(frames)  # type: ignore[attr-defined]
    again = [single for frame in gather(frames, 0) for single in segment(frame)]

    def of_flow(all_frames: list[bytes], port: int, version: int) -> list[bytes]:
        at = 30 if version == 4 else 50
        return [f for f in all_frames if f[10] >> 4 == version and f[at : at + 2] == struct.pack(">H", port)]

    for port in (1, 2, 3):
        for version in (4, 6):
            expected, actual = of_flow(frames, port, version), of_flow(again, port, version)
            assert [without_id(frame) for frame in actual] == [without_id(frame) for frame in expected]


def without_id(frame: bytes) -> bytes:
    """Drop an IPv4 identification and the checksum over it: they mean nothing in packets that are never fragmented."""
    return frame if frame[10] >> 4 == 6 else frame[:14] + frame[16:20] + frame[22:]


@given(st.lists(st.binary(max_size=120), max_size=4), st.sampled_from([0, 14]))
def test_no_bytes_make_it_fail(frames: list[bytes], link_header_bytes: int) -> None:
    frames = [bytes(10) + WORTH_BYTES * b"\x45", *(bytes(10) + frame for frame in frames)]
    assert sorted(gather(frames, link_header_bytes)) == sorted(frames)


@given(st.integers(10, 79), st.integers(0, 255))
def test_no_damage_to_a_header_makes_it_fail(at: int, value: int) -> None:
    first, second, third = packets(3)
    broken = second[:at] + bytes([value]) + second[at + 1 :]
    assert sum(len(segment(frame)) for frame in gather([first, broken, third], 0)) == 3


def test_a_card_that_has_verified_the_checksums_is_no_obstacle() -> None:
    verified = [DATA_VALID + packet[HEADER_BYTES:] for packet in packets(4)]
    assert gather(verified, 0) == gather(packets(4), 0)
    assert len(gather(verified, 0)) == 1


def test_the_end_of_a_flow_without_options_does_not_overtake_it() -> None:
    """A FIN or RST without options and payload has 40 bytes."""
    data = packets(2, flags=ACK)
    vnet, header = data[0][:HEADER_BYTES], data[0][HEADER_BYTES : HEADER_BYTES + 40]
    last = vnet + header[:2] + struct.pack(">H", 40) + header[4:32] + b"\x50\x11" + header[34:]
    assert len(last) == HEADER_BYTES + 40
    assert gather([*data, last], 0)[-1] == last
