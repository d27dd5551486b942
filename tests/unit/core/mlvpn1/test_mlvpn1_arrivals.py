"""Joining received trains: nothing is lost, moved or mixed, and what can be joined is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.mlvpn1.arrivals import Arrival, Arrivals


def train(link: str, port: int, sizes: list[int], letter: int) -> ReceivedTrain:
    return ReceivedTrain(
        link, ("192.0.2.1", port), b"".join(bytes([letter]) * size for size in sizes), sizes[0], letter
    )


def datagrams(arrivals: list[Arrival]) -> list[tuple[str, object, bytes, int]]:
    return [
        (a.train.link, a.train.source, a.train.data[start : start + a.train.datagram_bytes], a.now_ns)
        for a in arrivals
        for start in range(0, len(a.train.data), a.train.datagram_bytes)
    ]


trains = st.builds(
    lambda link, port, size, count, last, letter: train(link, port, [size] * count + [min(last, size)], letter),
    st.sampled_from("ab"),
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 4),
    st.integers(0, 255),
)


@given(st.lists(st.tuples(trains, st.integers(1, 2))))
def test_the_same_datagrams_come_out_in_order(given_trains: list[tuple[ReceivedTrain, int]]) -> None:
    arrivals = Arrivals()
    for each, now_ns in given_trains:
        arrivals.add(each, now_ns)
    assert datagrams(arrivals.take()) == datagrams([Arrival(*each) for each in given_trains])
    assert arrivals.take() == []


def test_a_train_of_smaller_datagrams_is_not_taken_for_one_short_datagram() -> None:
    arrivals = Arrivals()
    arrivals.add(train("a", 1, [9], 7), 0)
    arrivals.add(train("a", 1, [2, 2, 2], 7), 0)
    assert len(arrivals.take()) == 2


def test_equal_neighbours_become_one_train_and_a_short_one_ends_it() -> None:
    arrivals = Arrivals()
    for size in (9, 9, 9, 5, 9, 9, 12):
        arrivals.add(train("a", 1, [size], 7), 0)
    assert [(len(a.train.data), a.train.datagram_bytes) for a in arrivals.take()] == [(32, 9), (18, 9), (12, 12)]
