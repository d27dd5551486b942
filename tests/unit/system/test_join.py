"""Datagrams that came one by one become trains, and nothing is lost or changed by it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.system.join import JOIN_WITHIN_NS, join_neighbours

A, B = ("10.0.0.1", 1), ("10.0.0.2", 2)


def datagram(size: int, source: tuple[str, int] = A, at_ns: int = 0, first: int = 4) -> ReceivedTrain:
    return ReceivedTrain("dsl", source, bytes((first,)) + bytes(size - 1), size, at_ns)


def test_equal_neighbours_become_one_train_and_a_shorter_one_ends_it() -> None:
    trains = join_neighbours([datagram(1400), datagram(1400, at_ns=9), datagram(900), datagram(900)])
    assert [(len(t.data), t.datagram_bytes, t.arrival_ns) for t in trains] == [(3700, 1400, 0), (900, 900, 0)]


def test_other_sources_types_and_times_stay_apart() -> None:
    apart = [datagram(1400), datagram(1400, B), datagram(1400, B, first=1), datagram(1400, B, JOIN_WITHIN_NS + 1, 1)]
    assert join_neighbours(apart) == apart


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
