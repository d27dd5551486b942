"""The sent log against a naive model: every datagram is acknowledged or repaired, never both, never neither."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.recovery import (
    GIVE_UP_NS,
    LATE_FLOOR_NS,
    MAX_TRIES,
    Repair,
    RepairQueue,
    SentLog,
    SentRun,
    hopeless,
    late_after_ns,
)
from mlvpn.core.run import BodyRun, build_bodies
from mlvpn.wire.frame import LinkReport

BODY_BYTES = 40


def run_of(first: int, count: int) -> BodyRun:
    """Return a run whose datagram i carries the number first + i."""
    items = [bytes(26) + (first + i).to_bytes(4, "big") for i in range(count)]
    run = build_bodies(items, 1, False, first, BODY_BYTES)
    assert run.count == count
    return run


def numbers(repairs: list[Repair]) -> list[int]:
    """Return which datagrams are in the repairs."""
    found = [int.from_bytes(body[-4:], "big") for repair in repairs for body in repair.run.bodies]  # type: ignore[union-attr]
    assert found == [repair.run.gseq + i for repair in repairs for i in range(repair.run.count)]
    return found


def log_of(counts: list[int]) -> SentLog:
    """Return a log of runs of these lengths; lseq, number and departure all count up from 0."""
    log, lseq = SentLog(), 0
    for count in counts:
        log.add(SentRun(lseq, run_of(lseq, count), sent_ns=lseq + 1, first_sent_ns=lseq + 1, tries=0))
        lseq += count
    return log


def report(highest: int, missing: list[tuple[int, int]], base: int = 0) -> LinkReport:
    return LinkReport(1, highest, base, 0, 0, 0, 0, 0, missing)


def ranges(lost: set[int]) -> list[tuple[int, int]]:
    """Return lost lseq as ranges, newest first."""
    found: list[tuple[int, int]] = []
    for lseq in sorted(lost, reverse=True):
        if found and found[-1][0] == lseq + 1:
            found[-1] = (lseq, found[-1][1])
        else:
            found.append((lseq, lseq))
    return found


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=12),
    st.sets(st.integers(0, 95), max_size=40),
    st.lists(st.integers(0, 95), min_size=1, max_size=6),
    st.integers(0, 20),
)
def test_every_datagram_is_settled_once(counts: list[int], lost: set[int], highests: list[int], base: int) -> None:
    """Reports come at growing highest lseq; each names all that is missing above its base."""
    total = sum(counts)
    log = log_of(counts)
    repaired: list[int] = []
    for highest in sorted({min(highest, total - 1) for highest in highests}):
        settled = log.on_report(1, report(highest, ranges({n for n in lost if base <= n <= highest}), base))
        repaired += numbers(settled.lost)
        assert all(repair.tries == 1 and repair.link == 1 for repair in settled.lost)
        reached = highest
    expected = [n for n in range(reached + 1) if n in lost or n < base]
    assert repaired == expected
    assert numbers(log.take_all(1)) == list(range(reached + 1, total)), "what is not reported is still in flight"
    assert log.flight_bytes == 0


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(-1, 40))
def test_bytes_in_flight_are_those_not_settled(counts: list[int], highest: int) -> None:
    log = log_of(counts)
    each = run_of(0, 1).sent_bytes
    assert log.flight_bytes == each * sum(counts)
    log.on_report(1, report(highest, []))
    assert log.flight_bytes == each * max(sum(counts) - highest - 1, 0)


def test_the_newest_acknowledged_departure_is_told() -> None:
    log = log_of([2, 2, 2])
    assert log.on_report(1, report(3, [(2, 3)])).newest_sent_ns == 1, "the second run was lost whole"
    assert log.on_report(1, report(5, [(4, 4)])).newest_sent_ns == 5
    assert log.on_report(1, report(5, [])).newest_sent_ns == 0, "the same again settles nothing"


def test_a_silent_links_datagrams_are_not_counted_as_lost() -> None:
    log = log_of([3, 1])
    taken = log.take_all(4)
    assert [(repair.tries, repair.link) for repair in taken] == [(0, 4), (0, 4)]
    assert (len(log), log.oldest_sent_ns) == (0, None)


def test_repairs_leave_oldest_data_first() -> None:
    queue = RepairQueue()
    for first_sent_ns in (30, 10, 20, 10):
        queue.push(Repair(run_of(first_sent_ns, 2), first_sent_ns, 1, 0))
    part = queue.pop()
    queue.push_part(part, 1)
    assert [queue.pop().first_sent_ns for _ in range(len(queue))] == [10, 10, 20, 30]


def test_a_part_that_was_put_back_holds_the_rest() -> None:
    queue = RepairQueue()
    queue.push_part(Repair(run_of(5, 4), 1, 2, 3), 3)
    assert numbers([queue.peek()]) == [8]
    assert queue.pop()[1:] == (1, 2, 3)


def test_too_late_or_too_often_is_hopeless() -> None:
    repair = Repair(run_of(0, 1), 1000, MAX_TRIES, 0)
    assert not hopeless(repair, 1000 + GIVE_UP_NS)
    assert hopeless(repair, 1001 + GIVE_UP_NS)
    assert hopeless(repair._replace(tries=MAX_TRIES + 1), 1000)


def test_late_is_beyond_what_acknowledgements_ever_take() -> None:
    assert late_after_ns(100e6, 1e6) == 100_000_000 + LATE_FLOOR_NS
    assert late_after_ns(100e6, 50e6) == 300_000_000
