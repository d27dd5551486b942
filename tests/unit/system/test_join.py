"""Datagrams that came one by one become trains, and nothing is lost or changed by it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.system.join import JOIN_WITHIN_NS, STRETCH_WITHIN_NS, join_neighbours
from mlvpn.wire.header import STAMP_AT

A, B = ("10.0.0.1", 1), ("10.0.0.2", 2)


def datagram(size: int, source: tuple[str, int] = A, at_ns: int = 0, first: int = 4, left_us: int = 0) -> ReceivedTrain:
    data = bytes((first,)) + bytes(STAMP_AT - 1) + left_us.to_bytes(4, "big") + bytes(size)
    return ReceivedTrain("dsl", source, data[:size], size, at_ns)


def test_equal_neighbours_become_one_train_and_a_shorter_one_ends_it() -> None:
    trains = join_neighbours([datagram(1400), datagram(1400, at_ns=9), datagram(900), datagram(900)])
    assert [(len(t.data), t.datagram_bytes, t.arrival_ns) for t in trains] == [(3700, 1400, 0), (900, 900, 0)]


def test_other_sources_types_and_times_stay_apart() -> None:
    apart = [datagram(1400), datagram(1400, B), datagram(1400, B, first=1)]
    apart.append(datagram(1400, B, JOIN_WITHIN_NS + 1, first=1, left_us=1))
    assert join_neighbours(apart) == apart


def test_what_left_at_one_moment_is_joined_however_slowly_it_came() -> None:
    slow = [datagram(1400, at_ns=number * 600_000, left_us=7) for number in range(4)]
    [train] = join_neighbours(slow)
    assert (len(train.data), train.arrival_ns, train.stretch_ns) == (4 * 1400, 0, 1_800_000)
    too_short_for_a_stamp = [datagram(STAMP_AT, at_ns=number * 600_000) for number in range(2)]
    assert join_neighbours(too_short_for_a_stamp) == too_short_for_a_stamp
    assert [(one.arrival_ns, one.stretch_ns) for one in train.singles()] == [(1_800_000, 0)] * 4, "none too early"


def test_an_equal_time_stamp_much_later_proves_nothing() -> None:
    late = [datagram(1400), datagram(1400, at_ns=STRETCH_WITHIN_NS + 1)]
    assert join_neighbours(late) == late


def test_a_train_stays_as_short_as_those_of_the_kernel() -> None:
    assert [len(train.data) // 1400 for train in join_neighbours([datagram(1400)] * 100)] == [46, 46, 8]


_trains = st.builds(
    lambda size, count, short, source, at_ns: ReceivedTrain(
        "dsl", source, b"\4" + bytes(size * count - 1 + min(short, size - 1)), size, at_ns
    ),
    st.integers(2, 9),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from([A, B]),
    st.integers(0, 2 * JOIN_WITHIN_NS),
)


def datagrams(trains: list[ReceivedTrain]) -> list[tuple[object, bytes]]:
    return [
        (train.source, train.data[at : at + train.datagram_bytes])
        for train in trains
        for at in range(0, len(train.data), train.datagram_bytes)
    ]


@given(st.lists(_trains, max_size=12))
def test_the_same_datagrams_come_out_in_the_same_order(trains: list[ReceivedTrain]) -> None:
    assert datagrams(join_neighbours(trains)) == datagrams(trains)
