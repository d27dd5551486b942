"""Order, against a naive model, under loss, duplicates and reordering."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core import resequencer
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.piece import Piece
from mlvpn.core.resequencer import Resequencer
from mlvpn.units import NS_PER_MS
from mlvpn.wire.frame import DATA_HEAD, GSEQ_MODULUS, Gone, Kind, first_byte, pack_item

START_NS = 1_000 * NS_PER_MS


def piece(lane: int, gseq: int, equalise: bool = False, padding: bytes = b"") -> Piece:
    """Return a datagram whose packet says which it is."""
    packet = bytes((lane,)) + gseq.to_bytes(8, "big") + padding
    head = DATA_HEAD.pack(first_byte(Kind.PACKETS, lane, equalise), gseq % GSEQ_MODULUS)
    return Piece(head + pack_item(packet), 1, 0)


def taken(order: Resequencer) -> list[tuple[int, int]]:
    """Return (lane, gseq) of what is delivered, in order."""
    packets = [b"".join(delivery)[10:] for delivery in order.take()]
    return [(packet[0], int.from_bytes(packet[1:9], "big")) for packet in packets]


def new(counters: TunnelCounters | None = None) -> Resequencer:
    return Resequencer(counters or TunnelCounters())


def feed(order: Resequencer, lane: int, gseqs: Sequence[int], now_ns: int = START_NS) -> None:
    for gseq in gseqs:
        order.accept(piece(lane, gseq), now_ns, now_ns)


def test_a_gap_is_waited_for() -> None:
    order = new()
    feed(order, 1, [0, 2, 3])
    assert taken(order) == [(1, 0)]
    assert order.held_datagrams == 2
    feed(order, 1, [1])
    assert taken(order) == [(1, 1), (1, 2), (1, 3)]
    assert (order.held_datagrams, order.held_bytes) == (0, 0)


def test_lanes_do_not_wait_for_each_other() -> None:
    order = new()
    feed(order, 1, [1])
    feed(order, 2, [0])
    feed(order, 0, [5, 3])
    assert taken(order) == [(2, 0), (0, 5), (0, 3)]


def test_what_the_sender_gave_up_is_not_waited_for() -> None:
    counters = TunnelCounters()
    order = new(counters)
    feed(order, 1, [0, 3, 6])
    order.on_gone(Gone(1, 1, 2), START_NS)
    assert taken(order) == [(1, 0), (1, 3)]
    order.on_gone(Gone(1, 4, 1), START_NS)
    assert taken(order) == []
    order.on_gone(Gone(1, 5, 1), START_NS)
    assert taken(order) == [(1, 6)]
    assert (counters.lost_datagrams, counters.timer_releases) == (4, 0)


def test_it_may_be_given_up_before_anything_later_came() -> None:
    order = new()
    order.on_gone(Gone(1, 0, 3), START_NS)
    feed(order, 1, [3])
    assert taken(order) == [(1, 3)]


def test_the_bound_ends_waiting_and_is_counted() -> None:
    counters = TunnelCounters()
    order = new(counters)
    feed(order, 1, [1, 3])
    due_ns = order.next_deadline_ns()
    assert due_ns == START_NS + resequencer.HOLD_NS
    order.tick(due_ns - 1)
    assert taken(order) == []
    order.tick(due_ns)
    assert taken(order) == [(1, 1), (1, 3)], "several gaps do not add up"
    assert order.next_deadline_ns() is None
    assert (counters.timer_releases, counters.lost_datagrams) == (2, 2)


def test_what_came_later_has_the_whole_bound_before_it() -> None:
    counters = TunnelCounters()
    order = new(counters)
    feed(order, 1, [1])
    later_ns = START_NS + 100 * NS_PER_MS
    feed(order, 1, [3], later_ns)
    order.tick(START_NS + resequencer.HOLD_NS)
    assert taken(order) == [(1, 1)]
    assert order.next_deadline_ns() == later_ns + resequencer.HOLD_NS
    assert (counters.timer_releases, counters.lost_datagrams) == (1, 1)


def test_the_bound_grows_with_the_difference_of_the_links() -> None:
    order = new()
    order.spread_ns = 100 * NS_PER_MS
    feed(order, 1, [1])
    assert order.next_deadline_ns() == START_NS + resequencer.HOLD_NS + 100 * NS_PER_MS


def test_the_late_are_delivered_once() -> None:
    counters = TunnelCounters()
    order = new(counters)
    feed(order, 1, [1])
    order.tick(START_NS + resequencer.HOLD_NS)
    feed(order, 1, [0, 0, 1])
    assert taken(order) == [(1, 1), (1, 0)]
    assert (counters.late_datagrams, counters.duplicate_datagrams) == (1, 2)


@pytest.mark.parametrize("lane", [0, 1, 15])
def test_numbers_wrap(lane: int) -> None:
    """Half the numbers are ahead and half behind: a lane has to follow, or it takes new ones for old."""
    counters = TunnelCounters()
    order = new(counters)
    step = GSEQ_MODULUS // 4
    sent = [step * n for n in range(13)]
    for gseq in sent:
        order.on_gone(Gone(lane, (gseq - 1) % GSEQ_MODULUS, 1), START_NS)
        feed(order, lane, [gseq])
        order.tick(START_NS + 10 * resequencer.HOLD_NS)
    assert taken(order) == [(lane, gseq) for gseq in sent]
    assert counters.duplicate_datagrams == 0


def test_too_much_waiting_is_let_go() -> None:
    counters = TunnelCounters()
    order = new(counters)
    padding = bytes(8000)
    count = resequencer.HOLD_LIMIT_BYTES // piece(1, 0, padding=padding).body_bytes + 1
    for gseq in range(1, count + 1):
        order.accept(piece(1, gseq, padding=padding), START_NS, START_NS)
    assert counters.hold_overflow_datagrams == 1
    assert order.held_bytes == 0
    assert taken(order) == [(1, gseq) for gseq in range(1, count + 1)]


# --- equalising


def test_bulk_is_released_when_the_slowest_link_would_have_brought_it() -> None:
    order = new()
    late_ns = START_NS + 30 * NS_PER_MS
    order.accept(piece(1, 0, equalise=True), late_ns, START_NS)
    order.accept(piece(1, 1, equalise=True), late_ns + 1, START_NS)
    assert taken(order) == []
    assert order.next_deadline_ns() == late_ns
    order.tick(late_ns)
    assert taken(order) == [(1, 0)]
    order.tick(late_ns + 1)
    assert taken(order) == [(1, 1)]


def test_what_needs_no_equalising_does_not_overtake_within_its_lane() -> None:
    order = new()
    late_ns = START_NS + 30 * NS_PER_MS
    order.accept(piece(1, 0, equalise=True), late_ns, START_NS)
    order.accept(piece(1, 1), START_NS, START_NS)
    order.tick(late_ns)
    assert taken(order) == [(1, 0), (1, 1)]


def test_nobody_waits_longer_than_those_behind() -> None:
    order = new()
    order.accept(piece(1, 0, equalise=True), START_NS + 50, START_NS)
    order.accept(piece(1, 1, equalise=True), START_NS + 10, START_NS)
    order.tick(START_NS + 10)
    assert taken(order) == [(1, 0), (1, 1)]


# --- the model

events = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "send", "lose", "twice"]),
        st.integers(0, 3),
        st.integers(0, 40),
        st.booleans(),
    ),
    max_size=120,
)


@given(events, st.randoms(use_true_random=False), st.booleans())
def test_every_datagram_is_delivered_once_and_in_order_unless_late(
    plan: list[tuple[str, int, int, bool]], random: object, tell_gone: bool
) -> None:
    """Datagrams of several lanes arrive after random delays; some are lost, some come twice.

    Naive model: per lane the set that arrived. Of it, each is delivered exactly once; without the timer's help, ordered
    lanes are delivered in order; and the counters account for every arrival.
    """
    counters = TunnelCounters()
    order = new(counters)
    next_gseq = [0] * 4
    arrivals: list[tuple[int, int, int]] = []
    gone: list[tuple[int, int, int]] = []
    for at_ms, (what, lane, delay_ms, _) in enumerate(plan):
        gseq, next_gseq[lane] = next_gseq[lane], next_gseq[lane] + 1
        if what == "lose":
            gone.append((at_ms + 40, lane, gseq))
            continue
        arrivals.append((at_ms + delay_ms, lane, gseq))
        if what == "twice":
            arrivals.append((at_ms + 40 - delay_ms, lane, gseq))
    steps = [(at, "arrive", lane, gseq) for at, lane, gseq in arrivals]
    steps += [(at, "gone", lane, gseq) for at, lane, gseq in gone if tell_gone]
    delivered: list[tuple[int, int]] = []
    for at_ms, what, lane, gseq in sorted(steps):
        now_ns = START_NS + at_ms * NS_PER_MS
        order.tick(now_ns)
        if what == "arrive":
            order.accept(piece(lane, gseq), now_ns, now_ns)
        else:
            order.on_gone(Gone(lane, gseq, 1), now_ns)
        delivered += taken(order)
    end_ns = START_NS + 200 * NS_PER_MS
    while (due_ns := order.next_deadline_ns()) is not None:
        end_ns = max(end_ns, due_ns)
        order.tick(end_ns)
    delivered += taken(order)
    arrived = {(lane, gseq) for _, lane, gseq in arrivals}
    assert sorted(delivered) == sorted(arrived), "each once, none invented, none kept"
    assert counters.duplicate_datagrams == len(arrivals) - len(arrived)
    assert (order.held_bytes, order.held_datagrams) == (0, 0)
    for lane in range(1, 4):
        in_lane = [gseq for at_lane, gseq in delivered if at_lane == lane]
        if tell_gone or not counters.late_datagrams:
            assert in_lane == sorted(in_lane)
    if tell_gone:
        assert counters.timer_releases == 0, "no gap is without an explanation, so no timer decides"


def test_what_was_given_up_is_forgotten_once_it_has_been_passed() -> None:
    order = new()
    for first in (6, 2, 4):
        order.on_gone(Gone(1, first, 1), START_NS)
    feed(order, 1, [0, 1, 3, 5, 7, 8, 10])
    assert taken(order) == [(1, gseq) for gseq in (0, 1, 3, 5, 7, 8)]
    assert order._lanes[1].gone == []
