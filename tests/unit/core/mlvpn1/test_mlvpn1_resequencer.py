"""Order by proof: against a naive model, and the cases that the proof is made for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.mlvpn1.counters import Mlvpn1Counters
from mlvpn.core.mlvpn1.resequencer import FAR, MIN_CAPACITY, Resequencer

MS = 1_000_000


def packet(number: int) -> bytes:
    return b"%d" % number


def make() -> tuple[Resequencer, Mlvpn1Counters]:
    counters = Mlvpn1Counters()
    return Resequencer(64, counters), counters


def insert(reseq: Resequencer, link: str, *numbers: int, now_ns: int = 0) -> list[int]:
    return [int(frame) for frame in reseq.insert(link, [(n, packet(n)) for n in numbers], now_ns)]


def naive(arrivals: list[tuple[str, int]]) -> list[list[int]]:
    """What may be out after each arrival: the longest prefix whose missing numbers all links have passed."""
    outputs: list[list[int]] = []
    for count in range(1, len(arrivals) + 1):
        seen = arrivals[:count]
        newest = {link: max(n for other, n in seen if other == link) for link, _ in seen}
        out: list[int] = []
        for number in range(seen[0][1], max(newest.values()) + 1):
            if any(n == number for _, n in seen):
                out.append(number)
            elif number >= min(newest.values()):
                break
        outputs.append(out)
    return outputs


@st.composite
def bonded(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Packets 0.. over FIFO links with loss, in any interleaving; the first to arrive is number 0."""
    size = draw(st.integers(1, 40))
    sent = [(n, draw(st.sampled_from("abc")), n > 0 and draw(st.integers(0, 5)) == 0) for n in range(size)]
    queues = {link: [n for n, where, lost in sent if where == link and not lost] for link in "abc"}
    arrivals = [(sent[0][1], 0)]
    queues[sent[0][1]].pop(0)
    while any(queues.values()):
        link = draw(st.sampled_from([link for link, queue in queues.items() if queue]))
        arrivals.append((link, queues[link].pop(0)))
    return arrivals


@given(bonded())
def test_every_arrival_releases_what_the_naive_model_releases(arrivals: list[tuple[str, int]]) -> None:
    reseq, counters = make()
    out: list[int] = []
    for (link, number), expected in zip(arrivals, naive(arrivals), strict=True):
        out += insert(reseq, link, number)
        if counters.late_packets == 0:  # a link's first packet may come after others passed it: not in the model
            assert out == expected
    assert sorted(out + [int(f) for f in reseq.restart()]) == sorted(n for _, n in arrivals)


@given(bonded(), st.integers(1, 7))
def test_trains_release_the_same_as_single_packets(arrivals: list[tuple[str, int]], size: int) -> None:
    one, _ = make()
    single = [n for link, number in arrivals for n in insert(one, link, number)] + [int(f) for f in one.restart()]
    many, _ = make()
    out: list[int] = []
    for start in range(0, len(arrivals), size):
        group = arrivals[start : start + size]
        for link in dict.fromkeys(link for link, _ in group):
            out += insert(many, link, *(n for where, n in group if where == link))
    out += [int(f) for f in many.restart()]
    assert sorted(out) == sorted(single)


def test_a_gap_is_given_up_once_every_link_has_passed_it() -> None:
    reseq, counters = make()
    assert insert(reseq, "a", 0) == [0]
    assert insert(reseq, "b", 1) == [1]
    assert insert(reseq, "a", 3) == []  # 2 may still come on b
    assert insert(reseq, "b", 4) == [3, 4]
    assert (counters.lost_packets, counters.timer_releases, counters.late_packets) == (1, 0, 0)


def test_a_single_link_waits_for_nothing() -> None:
    reseq, counters = make()
    assert insert(reseq, "a", 0, 2, 5) == [0, 2, 5]
    assert counters.lost_packets == 3


def test_a_link_that_goes_down_is_not_waited_for() -> None:
    reseq, _ = make()
    insert(reseq, "a", 0)
    insert(reseq, "b", 1)
    assert insert(reseq, "a", 3, 4) == []
    assert reseq.link_down("b") == [packet(3), packet(4)]


def test_the_timer_gives_up_one_gap_and_keeps_the_order_behind_it() -> None:
    reseq, counters = make()
    reseq.bound_ns = 50 * MS
    insert(reseq, "b", 0)
    assert insert(reseq, "a", 2, now_ns=0) == []
    assert insert(reseq, "a", 5, 6, now_ns=40 * MS) == []
    assert reseq.deadline_ns() == 50 * MS
    assert reseq.expire(49 * MS) == []
    assert reseq.expire(50 * MS) == [packet(2)]
    assert insert(reseq, "b", 3, now_ns=60 * MS) == [3]
    assert reseq.expire(90 * MS) == [packet(5), packet(6)]
    assert reseq.deadline_ns() is None
    assert counters.timer_releases == 2


def test_a_late_packet_is_delivered_and_counted() -> None:
    reseq, counters = make()
    insert(reseq, "a", 0, 2)
    assert insert(reseq, "b", 1) == [1]
    assert counters.late_packets == 1


def test_a_link_left_out_of_the_rotation_is_not_waited_for_for_ever() -> None:
    reseq, _ = make()
    insert(reseq, "b", 0)
    assert insert(reseq, "a", *range(2, MIN_CAPACITY)) == []
    assert len(insert(reseq, "a", MIN_CAPACITY)) == MIN_CAPACITY - 1
    assert len(reseq) == 0


def test_memory_is_bounded_whatever_the_links_do() -> None:
    reseq, _ = make()
    insert(reseq, "b", 0)
    for start in range(2, 40_000, 97):
        insert(reseq, "a", *range(start, start + 96))
        insert(reseq, "c", start + 90)
        assert len(reseq) <= MIN_CAPACITY


def test_a_number_far_away_begins_a_new_order() -> None:
    reseq, counters = make()
    insert(reseq, "a", 0)
    insert(reseq, "b", 1)
    assert insert(reseq, "a", 3) == []
    assert insert(reseq, "a", FAR * 1000) == [3, FAR * 1000]
    assert insert(reseq, "a", 4) == [4]
    assert insert(reseq, "b", 5) == [5]
    assert counters.late_packets == 0


def test_a_packet_twice_comes_out_once() -> None:
    reseq, counters = make()
    insert(reseq, "b", 0)
    assert insert(reseq, "a", 2, 2) == []
    assert insert(reseq, "b", 1) == [1, 2]
    assert counters.duplicate_packets == 1


def test_a_restart_returns_what_waited_in_order() -> None:
    reseq, _ = make()
    insert(reseq, "b", 0)
    insert(reseq, "a", 4, 2)
    assert reseq.restart() == [packet(2), packet(4)]
    assert insert(reseq, "a", 100) == [100]
