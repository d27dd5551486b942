"""The receiver's record against the sender's log: what was lost is repaired, whatever reports are lost on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.feedback import LATE_REPORTS, MAX_GAPS, OWN_WAIT_NS, REPORTS_PER_GAP, LinkReceiver
from mlvpn.core.mtu import IPV6_UDP_BYTES, SMALLEST_PATH_MTU
from mlvpn.core.recovery import SentLog, SentRun
from mlvpn.core.run import build_bodies
from mlvpn.units import NS_PER_MS
from mlvpn.wire.frame import (
    MAX_RANGES,
    REPORTS_PER_DATAGRAM,
    LinkReport,
    pack_feedback,
    unpack_controls,
    unpack_feedback,
)
from mlvpn.wire.header import OVERHEAD_BYTES

NOW_NS = 5_000 * NS_PER_MS
OWN_WAIT_MS = OWN_WAIT_NS // NS_PER_MS


def arrive(receiver: LinkReceiver, *lseqs: int, at_ns: int = NOW_NS, delay_us: int = 0) -> None:
    for lseq in lseqs:
        receiver.on_datagrams(lseq, 1, delay_us, at_ns, 100)


def after(report: LinkReport) -> list[int]:
    return [lseq for first, last in report.missing for lseq in range(first, last + 1)]


def test_a_train_in_order_misses_nothing() -> None:
    receiver = LinkReceiver()
    receiver.on_datagrams(0, 10, 7, NOW_NS, 1000)
    receiver.on_datagrams(10, 5, 9, NOW_NS + 1, 500)
    report = receiver.report(3, NOW_NS)
    assert (report.link, report.highest, report.missing) == (3, 14, [])
    assert (report.received_bytes, report.received_datagrams) == (1500, 15)
    assert (report.delay_us, report.delay_min_us) == (9, 7)


def test_of_a_train_that_came_slowly_first_and_last_count() -> None:
    receiver = LinkReceiver()
    receiver.on_datagrams(0, 4, 7, NOW_NS, 4000, stretch_ns=3 * NS_PER_MS)
    report = receiver.report(3, NOW_NS)
    assert (report.delay_min_us, report.delay_us) == (7, 3007)
    assert report.arrival_us == (NOW_NS + 3 * NS_PER_MS) // 1000


def read_late(receiver: LinkReceiver, first: int, waits_ms: list[int], read_ms: int) -> LinkReport:
    """Return the report of datagrams that had waited so long when they were read, all of them at ``read_ms``."""
    for lseq, wait_ms in enumerate(waits_ms, first):
        arrival_ns = NOW_NS + (read_ms - wait_ms) * NS_PER_MS
        receiver.on_datagrams(lseq, 1, 7, arrival_ns, 100, wait_ns=wait_ms * NS_PER_MS)
    return receiver.report(0, NOW_NS + read_ms * NS_PER_MS)


def test_an_end_that_now_and_then_reads_late_is_no_longer_link() -> None:
    receiver = LinkReceiver()
    for number in range(3 * LATE_REPORTS):
        wait_ms = OWN_WAIT_MS if number % LATE_REPORTS == 1 else 90
        report = read_late(receiver, 2 * number, [90, wait_ms], read_ms=100 + 100 * number)
        assert (report.wait_us, report.delay_min_us, report.delay_us) == (0, 7, 7)
        assert report.arrival_us == (NOW_NS + (100 + 100 * number - wait_ms) * NS_PER_MS) // 1000


def test_one_that_always_reads_late_is() -> None:
    receiver = LinkReceiver()
    for number in range(LATE_REPORTS - 1):
        assert read_late(receiver, number, [90], read_ms=100 + number).wait_us == 0
    report = read_late(receiver, 20, [90, OWN_WAIT_MS + 30, 70], read_ms=110)
    assert (report.wait_us, report.delay_min_us, report.delay_us) == (30_000, 30_007, 30_007)
    assert report.arrival_us == (NOW_NS + (110 - 70 + 30) * NS_PER_MS) // 1000
    assert receiver.report(0, NOW_NS).arrival_us == report.arrival_us  # nothing new: arrivals do not go back
    assert read_late(receiver, 23, [5], read_ms=130).delay_us == 7


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 200), st.booleans()), max_size=60))
def test_reported_arrivals_never_go_back(reads: list[tuple[int, int, bool]]) -> None:
    """What is read is older than what is read after it, whatever the daemon does meanwhile."""
    receiver = LinkReceiver()
    read_ms = arrival_ms = 0
    reported: list[int] = []
    for lseq, (pause_ms, younger_ms, report) in enumerate(reads):
        read_ms += pause_ms
        arrival_ms = min(arrival_ms + younger_ms, read_ms)
        wait_ns = (read_ms - arrival_ms) * NS_PER_MS
        receiver.on_datagrams(lseq, 1, 7, NOW_NS + arrival_ms * NS_PER_MS, 100, wait_ns=wait_ns)
        if report:
            reported.append(receiver.report(0, NOW_NS + read_ms * NS_PER_MS).arrival_us)
    assert reported == sorted(reported)


def test_a_gap_before_a_train_that_came_slowly_is_as_young_as_its_last_datagram() -> None:
    receiver = LinkReceiver()
    arrive(receiver, 0, 2)
    arrive(receiver, 1, at_ns=NOW_NS + 8 * NS_PER_MS)  # so much do datagrams overtake each other here
    receiver.on_datagrams(4, 4, 7, NOW_NS, 4000, stretch_ns=30 * NS_PER_MS)
    assert receiver.report(0, NOW_NS + 31 * NS_PER_MS).missing == []
    assert receiver.report(0, NOW_NS + 41 * NS_PER_MS).missing == [(3, 3)]


def test_the_first_datagram_says_nothing_about_those_before() -> None:
    receiver = LinkReceiver()
    arrive(receiver, 100)
    report = receiver.report(0, NOW_NS)
    assert (report.base, report.missing) == (100, [])


def test_gaps_are_named_newest_first_until_they_close() -> None:
    receiver = LinkReceiver()
    arrive(receiver, 0, 3, 4, 7)
    assert receiver.gap_unreported
    assert receiver.report(0, NOW_NS).missing == [(5, 6), (1, 2)]
    assert not receiver.gap_unreported
    arrive(receiver, 2)
    assert after(receiver.report(0, NOW_NS + 50 * NS_PER_MS)) == [5, 6, 1]


def test_a_gap_is_named_often_enough_and_then_below_the_base() -> None:
    receiver = LinkReceiver()
    arrive(receiver, 0, 2)
    reports = [receiver.report(0, NOW_NS) for _ in range(REPORTS_PER_GAP + 1)]
    assert [len(report.missing) for report in reports] == [1] * REPORTS_PER_GAP + [0]
    assert reports[-1].base == 2


def test_where_reordering_was_seen_reports_wait() -> None:
    """The second gap may be another datagram overtaken: nothing is said of it, nor of what came after it, yet."""
    receiver = LinkReceiver()
    arrive(receiver, 0, 2)
    arrive(receiver, 1, at_ns=NOW_NS + 4 * NS_PER_MS)
    later_ns = NOW_NS + 20 * NS_PER_MS
    arrive(receiver, 4, at_ns=later_ns)
    early = receiver.report(0, later_ns + NS_PER_MS)
    assert (early.highest, early.missing) == (2, [])
    assert receiver.gap_unreported
    ripe = receiver.report(0, later_ns + 6 * NS_PER_MS)
    assert (ripe.highest, ripe.missing) == (4, [(3, 3)])


def test_the_least_delay_is_that_since_the_last_report_also_around_the_wrap() -> None:
    receiver = LinkReceiver()
    for lseq, delay_us in enumerate([5, 0xFFFFFFF0, 20]):
        arrive(receiver, lseq, delay_us=delay_us)
    assert receiver.report(0, NOW_NS).delay_min_us == 0xFFFFFFF0
    arrive(receiver, 3, delay_us=9)
    assert receiver.report(0, NOW_NS).delay_min_us == 9


def test_memory_is_bounded() -> None:
    receiver = LinkReceiver()
    for lseq in range(0, 4 * MAX_GAPS, 2):
        arrive(receiver, lseq)
    report = receiver.report(0, NOW_NS)
    assert len(receiver._gaps) <= MAX_GAPS
    assert report.base > 4 * MAX_GAPS - 2 * 60, "what is not named lies below the base"


def test_the_reports_of_one_datagram_fit_into_the_smallest() -> None:
    receiver = LinkReceiver()
    arrive(receiver, *range(0, 4 * MAX_RANGES, 2))
    reports = [receiver.report(0, NOW_NS)] * REPORTS_PER_DATAGRAM
    assert len(reports[0].missing) == MAX_RANGES
    assert len(pack_feedback(reports)) + OVERHEAD_BYTES + IPV6_UDP_BYTES <= SMALLEST_PATH_MTU


@given(st.lists(st.sampled_from(["arrive"] * 6 + ["lose"] * 2 + ["report", "report lost"]), max_size=200))
def test_lost_reports_cost_nothing(plan: list[str]) -> None:
    """A sender that believes the reports repairs exactly what was lost, however many reports do not reach it.

    A report may be lost; but as many in a row as a gap is named in would be silence, for which the link is suspected.
    """
    receiver, log = LinkReceiver(), SentLog()
    lost: set[int] = set()
    repaired: list[int] = []
    lseq, in_a_row = 0, 0

    def send(arrives: bool) -> None:
        nonlocal lseq
        run = build_bodies([bytes(8)], 1, False, lseq, 40)
        log.add(SentRun(lseq, run, 1, 1, 0))
        if arrives:
            arrive(receiver, lseq)
        else:
            lost.add(lseq)
        lseq += 1

    def hear() -> None:
        [read] = unpack_feedback(next(unpack_controls(pack_feedback([receiver.report(0, NOW_NS)])))[1])
        repaired.extend(repair.run.gseq for repair in log.on_report(0, read).lost)

    send(True)
    for what in plan:
        if what == "report lost" and in_a_row < REPORTS_PER_GAP - 1:
            receiver.report(0, NOW_NS)
            in_a_row += 1
        elif what.startswith("report"):
            hear()
            in_a_row = 0
        else:
            send(what == "arrive")
    send(True)
    hear()
    assert sorted(repaired) == sorted(lost)
    assert log.flight_bytes == 0
