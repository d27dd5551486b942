"""The ACK filter: only what the next acknowledgement says again is left out, and nothing else ever."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inner_packets import ACK, FIN, PSH, frame, ipv4, ipv6, tcp, unfinished

from mlvpn.core.ack_filter import ADVANCE_BYTES, without_superseded
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.sender import Sender

ECE = 0x40
TIME_STAMP = b"\x01\x01\x08\x0a"
ETHERNET = bytes(12)


def segment(
    number: int, *, payload: bytes = b"", flags: int = ACK, port: int = 1000, sequence: int = 1, options: bytes = b""
) -> bytes:
    """Return a TCP segment that acknowledges up to ``number``."""
    whole = tcp(payload, flags=flags, port=port, options=options)
    return whole[:4] + struct.pack(">II", sequence, number % (1 << 32)) + whole[12:]


def ack(number: int, **different: object) -> bytes:
    return frame(ipv4(6, segment(number, **different)))  # type: ignore[arg-type]


def stamped(number: int, stamp: int) -> bytes:
    return ack(number, options=TIME_STAMP + struct.pack(">II", stamp, stamp))


def test_the_last_of_a_burst_says_it_all() -> None:
    assert without_superseded([ack(number * ADVANCE_BYTES) for number in range(12)], 0) == [ack(11 * ADVANCE_BYTES)]


def test_time_stamps_may_differ() -> None:
    assert without_superseded([stamped(number << 20, number) for number in range(5)], 0) == [stamped(4 << 20, 4)]


def test_numbers_wrap() -> None:
    burst = [ack((1 << 32) - 5), ack(ADVANCE_BYTES)]
    assert without_superseded(burst, 0) == burst[1:]


@pytest.mark.parametrize("version", [ipv4, ipv6])
@pytest.mark.parametrize("header", [b"", ETHERNET])
def test_every_kind_of_packet(version: object, header: bytes) -> None:
    ethertype = (b"\x08\x00" if version is ipv4 else b"\x86\xdd") if header else b""
    make = ipv4 if version is ipv4 else ipv6
    burst = [
        unfinished(header + ethertype + make(6, segment(number << 20)), len(header) + 34, 16) for number in range(4)
    ]
    assert without_superseded(burst, len(header + ethertype)) == burst[3:]


def test_flows_are_kept_apart() -> None:
    burst = [ack(number << 20, port=port) for number in range(4) for port in (1, 2)]
    assert without_superseded(burst, 0) == burst[-2:]


FIRST = ack(0)
OTHERS = {
    "a duplicate": ack(0),
    "little progress": ack(ADVANCE_BYTES - 1),
    "an older one": ack(-ADVANCE_BYTES),
    "data": ack(1 << 20, payload=b"x"),
    "the end": ack(1 << 20, flags=ACK | FIN),
    "a push": ack(1 << 20, flags=ACK | PSH),
    "an echo of congestion": ack(1 << 20, flags=ACK | ECE),
    "sent after data": ack(1 << 20, sequence=2),
    "a SACK block": ack(1 << 20, options=b"\x01\x01\x05\x0a" + bytes(8)),
    "another ECN codepoint": frame(ipv4(6, segment(1 << 20), ecn=3)),
    "a fragment": frame(ipv4(6, segment(1 << 20), fragment=1)),
    "IPv4 options": frame(ipv4(6, segment(1 << 20), options=bytes(4))),
    "UDP": frame(ipv4(17, segment(1 << 20))),
    "another flow": ack(1 << 20, port=2000),
    "nothing": bytes(10),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_says_something_else_stays(other: str) -> None:
    burst = [FIRST, OTHERS[other]]
    assert without_superseded(burst, 0) == burst


@pytest.mark.parametrize("between", ["a SACK block", "an echo of congestion", "data", "another flow"])
def test_what_is_between_stays_and_is_not_overtaken(between: str) -> None:
    burst = [FIRST, OTHERS[between], ack(2 << 20)]
    assert without_superseded(burst, 0) == burst[1:]


@pytest.mark.parametrize("header", [b"", ETHERNET + b"\x08\x00", ETHERNET + b"\x86\xdd"])
@pytest.mark.parametrize("version", [ipv4, ipv6])
@given(data=st.data())
def test_what_is_cut_or_broken_stays(header: bytes, version: object, data: st.DataObject) -> None:
    make = ipv4 if version is ipv4 else ipv6
    options = data.draw(st.sampled_from([b"", TIME_STAMP + bytes(8)]))
    whole = [bytearray(frame(header + make(6, segment(number << 20, options=options)))) for number in (0, 1)]
    end, at = data.draw(st.integers(10, len(whole[0]))), data.draw(st.integers(10, len(whole[0]) - 1))
    for one in whole:
        one[at] ^= data.draw(st.sampled_from([0, 1, 0x10, 0xFF]))
    burst = [bytes(one[:end]) for one in whole]
    kept = without_superseded(burst, len(header))
    assert kept in (burst, burst[1:])
    if end < len(whole[0]):
        assert kept == burst


def test_the_sender_leaves_them_out_and_counts_them() -> None:
    counters = TunnelCounters()
    sender = Sender([], False, counters, lambda frame: None)
    sender.submit([ack(number << 20) for number in range(5)], 1_000_000_000)
    assert (counters.submitted_packets, counters.superseded_packets, len(sender.queue.sparse)) == (5, 4, 1)


@given(
    st.lists(
        st.one_of(
            st.builds(
                lambda port, number, ece: ack(number * 10_000, port=port, flags=ACK | ECE * ece),
                st.integers(1, 3),
                st.integers(0, 20),
                st.booleans(),
            ),
            st.binary(min_size=10, max_size=90),
        ),
        max_size=30,
    )
)
def test_each_flow_ends_as_far_and_garbage_stays(burst: list[bytes]) -> None:
    """What is kept is in its order, and of each sort the newest number is among it."""
    kept = without_superseded(burst, 0)
    left, rest = [], list(kept)
    for one in reversed(burst):
        if rest and rest[-1] == one:
            rest.pop()
        else:
            left.append(one)
    assert not rest

    def sort(one: bytes) -> bytes:
        return one[:38] + one[42:] if len(one) == 50 and one[10] == 0x45 else one

    for one in left:
        assert any(sort(other) == sort(one) and other[38:42] > one[38:42] for other in kept)
