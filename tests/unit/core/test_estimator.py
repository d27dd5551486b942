"""Estimates against a link of known rate, delay and queue."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from mlvpn.core.estimator import BASE_BUCKET_NS, BASE_BUCKETS, MAX_WINDOW_NS, Estimator
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import LinkReport
from mlvpn.wire.header import TS_MODULUS

DATAGRAM_BYTES = 1000
REPORT_EVERY_NS = 20 * NS_PER_MS


class Path:
    """A bottleneck: datagrams go in at the pace of the sender, come out at the rate of the link, and are reported."""

    def __init__(self, rate_bps: float, delay_ns: int = 20 * NS_PER_MS, clock_offset_us: int = 0) -> None:
        self.rate_bps = rate_bps
        self.delay_ns = delay_ns
        self.offset_us = clock_offset_us
        self.now_ns = 1_000 * NS_PER_S
        self.estimator = Estimator(self.now_ns)
        self._free_ns = self.now_ns
        self._sent = self._received = 0
        self._report_ns = self.now_ns
        self._delays_us: list[int] = []
        self._reference_us: int | None = None

    def send(self, pace_bps: float, duration_ns: int, *, held_back: bool, lose_every: int = 0) -> None:
        """Send evenly; ``held_back``: there is always more to send."""
        since_us = self.now_ns // 1000 % TS_MODULUS if held_back else None
        end_ns = self.now_ns + duration_ns
        while self.now_ns < end_ns:
            self.now_ns += int(DATAGRAM_BYTES * 8e9 / pace_bps)
            self._sent += 1
            self._free_ns = max(self._free_ns, self.now_ns) + int(DATAGRAM_BYTES * 8e9 / self.rate_bps)
            arrival_ns = self._free_ns + self.delay_ns
            if not (lose_every and self._sent % lose_every == 0):
                self._arrive(arrival_ns)
            if arrival_ns - self._report_ns >= REPORT_EVERY_NS:
                self._report(arrival_ns, since_us)

    def occupy(self, duration_ns: int) -> None:
        """Let somebody else lengthen the queue."""
        self._free_ns = max(self._free_ns, self.now_ns) + duration_ns

    def _arrive(self, arrival_ns: int) -> None:
        self._received += 1
        self._delays_us.append(((arrival_ns - self.now_ns) // 1000 + self.offset_us) % TS_MODULUS)

    def _report(self, arrival_ns: int, since_us: int | None) -> None:
        self._report_ns = arrival_ns
        if self._reference_us is None:
            self._reference_us = self._delays_us[0]
        report = LinkReport(
            link=0,
            highest=self._sent - 1,
            base=0,
            arrival_us=(arrival_ns // 1000 + self.offset_us) % TS_MODULUS,
            delay_us=self._delays_us[-1],
            delay_min_us=min(self._delays_us, key=lambda us: (us - self._reference_us + 2**31) % TS_MODULUS),  # type: ignore[operator]
            received_bytes=self._received * DATAGRAM_BYTES,
            received_datagrams=self._received,
            missing=[],
        )
        self._delays_us.clear()
        self.estimator.on_report(report, self._reference_us, since_us, arrival_ns + self.delay_ns)


@limits(max_examples=20)
@given(st.floats(4e6, 200e6), st.integers(5, 100), st.integers(0, TS_MODULUS - 1))
def test_a_full_link_shows_its_rate(rate_bps: float, delay_ms: int, offset_us: int) -> None:
    """Whatever the clocks' difference, also while it wraps."""
    path = Path(rate_bps, delay_ms * NS_PER_MS, offset_us)
    path.send(rate_bps * 1.1, NS_PER_S, held_back=True)
    assert path.estimator.saturated
    assert path.estimator.capacity_bps == pytest.approx(rate_bps, rel=0.05)


def test_a_link_that_became_slower_is_believed() -> None:
    path = Path(50e6)
    path.send(55e6, NS_PER_S, held_back=True)
    path.rate_bps = 20e6
    path.send(22e6, NS_PER_S, held_back=True)
    assert path.estimator.capacity_bps == pytest.approx(20e6, rel=0.05)


def test_a_link_that_is_hardly_used_is_not_taken_for_slow() -> None:
    path = Path(50e6)
    path.send(55e6, NS_PER_S, held_back=True)
    path.send(3e6, 3 * NS_PER_S, held_back=False)
    assert not path.estimator.saturated
    assert path.estimator.rate_bps == pytest.approx(3e6, rel=0.05)
    assert path.estimator.capacity_bps == pytest.approx(50e6, rel=0.05)


def test_a_link_that_became_slower_than_what_it_is_asked_for_is_believed_though_nothing_is_held_back() -> None:
    """An inner sender that backs off before pacing does must not hide that the link is full."""
    path = Path(50e6)
    path.send(55e6, NS_PER_S, held_back=True)
    path.rate_bps = 10e6
    path.send(15e6, NS_PER_S, held_back=False)
    assert path.estimator.saturated
    assert path.estimator.capacity_bps == pytest.approx(10e6, rel=0.05)


def test_somebody_elses_queue_is_no_measure_of_a_link_that_is_hardly_used() -> None:
    path = Path(50e6)
    path.send(55e6, NS_PER_S, held_back=True)
    path.send(0.8e6, NS_PER_S, held_back=False)
    for _ in range(40):
        path.occupy(21 * NS_PER_MS)
        path.send(0.8e6, 20 * NS_PER_MS, held_back=False)
    assert path.estimator.stretched
    assert path.estimator.sends_little(path.estimator.capacity_bps)
    assert path.estimator.capacity_bps == pytest.approx(50e6, rel=0.05)


def test_a_burst_into_an_idle_link_is_no_measure_of_it() -> None:
    """The bytes of a burst arrive slower than they left; the pause before it is not the link's."""
    path = Path(50e6)
    path.send(55e6, NS_PER_S, held_back=True)
    path.send(5e6, NS_PER_S, held_back=False)
    for _ in range(20):
        path.send(200e6, 10 * NS_PER_MS, held_back=False)
        path.send(1e6, 100 * NS_PER_MS, held_back=False)
    assert path.estimator.capacity_bps == pytest.approx(50e6, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("held_back", [False, True])
def test_jitter_is_not_taken_for_a_slow_link(seed: int, held_back: bool) -> None:
    """An unused half must not look like a full one, whatever the delay does."""
    random, path = Random(seed), Path(40e6, 35 * NS_PER_MS)
    path.send(44e6, NS_PER_S, held_back=True)
    for _ in range(500):
        path.delay_ns = 35 * NS_PER_MS + random.randint(-15, 15) * NS_PER_MS
        path.send(20e6, 10 * NS_PER_MS, held_back=False)
    assert path.estimator.jitter.is_jittery
    for _ in range(500):
        path.delay_ns = 35 * NS_PER_MS + random.randint(-15, 15) * NS_PER_MS
        path.send(39e6, 10 * NS_PER_MS, held_back=held_back)
    assert path.estimator.capacity_bps == pytest.approx(40e6, rel=0.25)


def test_a_link_that_does_more_than_believed_is_believed_at_once() -> None:
    path = Path(50e6)
    path.send(30e6, NS_PER_S, held_back=False)
    assert not path.estimator.saturated
    assert path.estimator.capacity_bps == pytest.approx(30e6, rel=0.05)


def test_the_queue_is_what_is_above_the_base() -> None:
    path = Path(10e6)
    path.send(5e6, NS_PER_S, held_back=False)
    assert path.estimator.queue_ns < NS_PER_MS
    path.send(11e6, NS_PER_S // 2, held_back=True)
    assert path.estimator.queue_ns == pytest.approx(50 * NS_PER_MS, rel=0.2), "0.5 s at a tenth too much"


def test_links_are_compared_by_differences_of_delay() -> None:
    """The unknown offset of the clocks is the same on both."""
    near, far = (Path(10e6, delay_ms * NS_PER_MS, clock_offset_us=123_456_789) for delay_ms in (10, 45))
    near.send(5e6, NS_PER_S, held_back=False)
    far._reference_us = near._reference_us
    far.send(5e6, NS_PER_S, held_back=False)
    assert near.estimator.base_delay_ns is not None
    assert far.estimator.base_delay_ns is not None
    difference_ns = far.estimator.base_delay_ns - near.estimator.base_delay_ns
    assert difference_ns == pytest.approx(35 * NS_PER_MS, abs=NS_PER_MS)


def test_a_longer_route_is_believed_after_the_window() -> None:
    path = Path(10e6)
    path.send(5e6, NS_PER_S, held_back=False)
    before = path.estimator.base_delay_ns
    path.delay_ns += 30 * NS_PER_MS
    path.send(5e6, NS_PER_S, held_back=False)
    assert path.estimator.base_delay_ns == before
    path.send(5e6, (BASE_BUCKETS + 1) * BASE_BUCKET_NS, held_back=False)
    assert before is not None
    assert path.estimator.base_delay_ns == pytest.approx(before + 30 * NS_PER_MS, abs=NS_PER_MS)


def test_loss_is_what_went_by_and_did_not_come() -> None:
    path = Path(10e6)
    path.send(5e6, 2 * NS_PER_S, held_back=False, lose_every=10)
    assert path.estimator.loss_ratio == pytest.approx(0.1, abs=0.01)
    path.send(5e6, 2 * NS_PER_S, held_back=False)
    assert path.estimator.loss_ratio == 0


def test_a_round_trip_is_smoothed_and_its_least_is_kept() -> None:
    estimator = Estimator(0)
    for sample_ms in [40, 60, 30, 50] * 10:
        estimator.on_rtt(sample_ms * NS_PER_MS)
    assert 40 < estimator.rtt_ns / NS_PER_MS < 50
    assert estimator.rtt_min_ns == 30 * NS_PER_MS
    assert estimator.rtt_deviation_ns > 5 * NS_PER_MS


def test_the_target_queue_is_never_less_than_two_datagrams() -> None:
    estimator = Estimator(0)
    estimator.capacity_bps = 1e6
    assert estimator.queue_target_ns == pytest.approx(24 * NS_PER_MS)


def test_a_peer_that_reports_nonsense_costs_no_more_than_a_second_of_reports() -> None:
    estimator = Estimator(0)
    for number in range(2000):
        now_us = number * 10_000
        delay_us = 2**30 if number // 2 % 2 else -(2**30) % TS_MODULUS
        report = LinkReport(0, number, 0, now_us, delay_us, delay_us, number * DATAGRAM_BYTES, number, [])
        estimator.on_report(report, 0, None, now_us * 1000)
    assert estimator.jitter.jitter_ns > NS_PER_S
    assert len(estimator._marks) <= MAX_WINDOW_NS // (10 * NS_PER_MS) + 2
