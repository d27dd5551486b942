"""How a flow's hold follows what the flow bears."""

from __future__ import annotations

import pytest
from some_links import links_up

from mlvpn.core import scheduler
from mlvpn.core.equaliser import (
    MAX_AGGREGATION_NS,
    MEASURED_EVERY_NS,
    MIN_PERIOD_NS,
    PATIENCE_NS,
    RESERVE_NS,
    STALLED_NS,
    Equaliser,
)
from mlvpn.core.flow import BULK_BYTES, Flow
from mlvpn.core.pacer import Phase
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import Hold

RATE_BPS = 20e6
FULL = 0.97
"""Inner bytes of a full link's."""


WAIT_NS = 20 * NS_PER_MS


class Bond:
    """Two links of 20 Mbit/s, b 130 ms behind a, and one bulk flow whose rate and waiting the test says."""

    def __init__(self) -> None:
        self.links = links_up(10, 140, capacity_bps=RATE_BPS)
        self.flow = Flow()
        self.flow.busy_bytes = 2 * BULK_BYTES
        self.now_ns = NS_PER_S
        self.equaliser = Equaliser()
        self.told: list[Hold] = []
        """What the receiver was told last."""
        self.run(FULL)  # the first period only begins to measure

    def run(self, filled: float, waited_ns: int = 0, periods: int = 1) -> int:
        """Let the flow fill ``filled`` of the fast link for so many periods; return its hold in ms."""
        for _ in range(periods):
            period_ns = max(self.links[0].estimator.rtt_min_ns + self.flow.hold_ns, MIN_PERIOD_NS)
            self.now_ns += period_ns
            self.flow.rate_bytes += int(filled * RATE_BPS * period_ns / 8e9)
            self.flow.waited_byte_ns += self.flow.rate_bytes * waited_ns
            self.told = self.equaliser.update([self.flow], self.links, self.now_ns) or self.told
        return self.flow.hold_ns // NS_PER_MS


@pytest.fixture
def bond() -> Bond:
    return Bond()


@pytest.fixture
def held() -> Bond:
    """A bond whose flow is held for a while already, not yet long enough for b."""
    bond = Bond()
    bond.run(FULL, WAIT_NS, 10)
    return bond


@pytest.fixture
def joined() -> Bond:
    """A bond whose flow uses both links."""
    bond = Bond()
    bond.run(FULL, WAIT_NS, 60)
    return bond


def test_a_flow_that_waits_is_held_ever_longer_until_the_slow_link_joins(bond: Bond) -> None:
    assert 0 < bond.run(FULL, WAIT_NS, 2) < 130
    assert not scheduler.for_flow(bond.flow, bond.links, bond.links[1:])
    assert bond.run(FULL, WAIT_NS, 100) == pytest.approx(130, abs=3), "no longer than the slow link takes"
    assert scheduler.for_flow(bond.flow, bond.links, bond.links[1:]) is bond.links[1]


@pytest.mark.parametrize(
    ("phase", "is_waited_for"), [(Phase.CRUISE, False), (Phase.STARTUP, True), (Phase.COMPETE, True)]
)
def test_a_link_that_adds_next_to_nothing_is_not_waited_for_once_that_is_known(
    bond: Bond, phase: Phase, is_waited_for: bool
) -> None:
    bond.links[1].estimator.capacity_bps = 0.02 * RATE_BPS
    bond.links[1].pacer.phase = phase
    assert (bond.run(FULL, WAIT_NS, 40) > 0) is is_waited_for


def test_of_what_waits_a_reserve_goes_on_waiting(bond: Bond) -> None:
    """Only what waits is in flight beyond need: who has none of it would be slower for each millisecond of hold."""
    assert bond.run(FULL, RESERVE_NS, 20) == 0
    assert bond.run(FULL, 0, 20) == 0


def test_a_hold_that_leaves_nothing_waiting_is_taken_back_at_once(held: Bond) -> None:
    hold_ms = held.run(FULL, RESERVE_NS)
    assert held.run(FULL, 0, 4) == pytest.approx(hold_ms - 2 * RESERVE_NS // NS_PER_MS, abs=1), "every other time"


def test_a_slow_link_stays_while_it_brings_more_than_the_others_alone(joined: Bond) -> None:
    """After a cut CUBIC does not fill both; without the slow one it would have less still."""
    hold_ms = joined.run(1.3, WAIT_NS)
    assert joined.run(1.3, 0, 20) == pytest.approx(hold_ms, abs=3)
    assert scheduler.for_flow(joined.flow, joined.links, joined.links[1:]) is joined.links[1]


def test_a_hold_goes_back_by_as_much_as_the_links_are_not_filled(joined: Bond) -> None:
    hold_ms = joined.run(1.3, RESERVE_NS, 4)
    assert joined.run(0.7, 0, 3) == pytest.approx(hold_ms, abs=3), "once may be chance; sums come a period later"
    assert joined.run(0.7) == pytest.approx(0.7 * (hold_ms + 20) - 20, abs=4)


def test_a_link_that_is_missing_for_a_moment_does_not_cost_the_hold(joined: Bond) -> None:
    hold_ms = joined.run(1.3, WAIT_NS)
    slow = joined.links.pop()
    assert joined.run(FULL, WAIT_NS, 3) == pytest.approx(hold_ms, abs=3)
    joined.links.append(slow)
    assert joined.run(1.3, WAIT_NS) == pytest.approx(hold_ms, abs=3)
    joined.links.pop()
    assert joined.run(FULL, WAIT_NS, 20) == 0


def test_a_pause_leaves_the_hold_as_it_is(joined: Bond) -> None:
    """BBR measures its round trip in it, and must find the one it is to live with."""
    hold_ms = joined.run(FULL, RESERVE_NS)
    for filled in (0.7, 0.1, 0.1, 0.7, FULL, FULL):
        assert joined.run(filled, 0) == pytest.approx(hold_ms, abs=3)


def test_a_flow_that_is_no_longer_busy_is_not_held(joined: Bond) -> None:
    assert joined.run(0.1, 0, 12) == 0


def test_a_queue_that_goes_up_and_down_about_its_target_shuts_no_link_out(bond: Bond) -> None:
    bond.flow.hold_ns = 130 * NS_PER_MS
    for link, queue_ms in zip(bond.links, (0, 5), strict=True):
        link.estimator.queue_ns = queue_ms * NS_PER_MS
    assert scheduler.for_flow(bond.flow, bond.links, bond.links[1:]) is bond.links[1]


def test_a_link_just_behind_the_hold_is_used(bond: Bond) -> None:
    bond.flow.hold_ns = 130 * NS_PER_MS - scheduler.BULK_SPREAD_NS
    assert scheduler.for_flow(bond.flow, bond.links, bond.links[1:]) is bond.links[1]
    bond.flow.hold_ns -= NS_PER_MS
    assert scheduler.for_flow(bond.flow, bond.links, bond.links[1:]) is None


# --- bounded windows


@pytest.fixture
def stalled() -> Bond:
    """A bond whose flow had something to spare once and for long has not: its window is bounded."""
    bond = Bond()
    bond.links[1].estimator.base_delay_ns = 40 * NS_PER_MS
    bond.run(FULL, WAIT_NS, 4)
    bond.run(FULL, RESERVE_NS, 4 + STALLED_NS // MIN_PERIOD_NS)
    return bond


def test_a_flow_whose_hold_no_longer_grows_though_it_was_not_cut_is_bounded(stalled: Bond) -> None:
    assert stalled.flow.bounded
    (hold,) = stalled.told
    assert 0 < hold.aggregation_us == hold.hold_us


def test_a_flow_whose_hold_grows_is_not_bounded(bond: Bond) -> None:
    for _ in range(20):
        bond.run(FULL, WAIT_NS)
        assert not bond.flow.bounded
        assert not any(hold.aggregation_us for hold in bond.told)


def test_a_flow_that_was_cut_has_time_to_grow_back(stalled: Bond) -> None:
    stalled.flow.cut_ns = stalled.now_ns
    stalled.run(FULL, 0, 2)
    assert not stalled.flow.bounded
    assert not any(hold.aggregation_us for hold in stalled.told), "the receiver is told at once"
    stalled.run(FULL, RESERVE_NS, 80)
    assert stalled.flow.bounded


def test_nothing_is_aggregated_for_a_link_many_round_trips_behind(stalled: Bond) -> None:
    stalled.links[1].estimator.base_delay_ns = 70 * NS_PER_MS
    stalled.run(FULL, RESERVE_NS, 3)
    assert not any(hold.aggregation_us for hold in stalled.told)


def test_no_more_is_aggregated_than_bbr_would_use(stalled: Bond) -> None:
    stalled.links[0].estimator.rtt_min_ns = 200 * NS_PER_MS
    stalled.links[1].estimator.base_delay_ns = 160 * NS_PER_MS
    stalled.run(FULL, 100 * NS_PER_MS, 8)
    (hold,) = stalled.told
    assert hold.hold_us * 1000 > MAX_AGGREGATION_NS == hold.aggregation_us * 1000


def test_a_bounded_flow_keeps_more_of_what_waits(stalled: Bond) -> None:
    before_ns = stalled.flow.hold_ns
    stalled.run(FULL, RESERVE_NS + before_ns // 10, 4)
    assert stalled.flow.hold_ns <= before_ns
    stalled.flow.bounded = False
    stalled.run(FULL, RESERVE_NS + before_ns // 10, 1)
    assert stalled.flow.hold_ns > before_ns - NS_PER_MS


# --- while BBR measures its least round trip

FAR_MS = 132
"""How far b is behind a, with its margin."""


@pytest.fixture
def near(bond: Bond) -> Bond:
    """A bond whose flow is bounded long before it reaches b, and began so long ago that BBR is about to measure."""
    bond.run(FULL, WAIT_NS, 2)
    bond.run(FULL, RESERVE_NS, 4 + STALLED_NS // MIN_PERIOD_NS)
    assert bond.flow.bounded
    assert bond.flow.hold_ns < 50 * NS_PER_MS
    bond.flow.quiet_ns = bond.now_ns - MEASURED_EVERY_NS
    return bond


def test_a_bounded_flow_is_held_for_the_farthest_link_when_bbr_is_about_to_measure(near: Bond) -> None:
    assert near.run(0.9) == FAR_MS
    assert near.run(0.3, periods=3) == FAR_MS, "what it costs meanwhile does not count"


@pytest.mark.parametrize("since_ns", [MEASURED_EVERY_NS // 2, MEASURED_EVERY_NS + 2 * PATIENCE_NS])
def test_at_other_times_it_is_not(near: Bond, since_ns: int) -> None:
    near.flow.quiet_ns = near.now_ns - since_ns
    assert near.run(FULL, RESERVE_NS) < 50


def test_a_flow_that_is_not_bounded_is_not_held_for_it(near: Bond) -> None:
    near.flow.bounded = False
    assert near.run(FULL, RESERVE_NS) < 50


def test_what_bbr_has_measured_is_kept(near: Bond) -> None:
    near.run(0.9)
    near.run(0.3, periods=2)
    assert near.run(0.01, periods=3) == FAR_MS, "the pause"
    assert near.flow.quiet_ns > near.now_ns - NS_PER_S, "and the next one is known from it"
    assert near.run(0.4) == near.run(0.8) == FAR_MS
    assert near.run(FULL, RESERVE_NS, 5) == pytest.approx(FAR_MS, abs=3)


def test_a_flow_that_does_not_measure_gets_its_hold_back(near: Bond) -> None:
    usual_ms = near.flow.hold_ns // NS_PER_MS
    near.run(0.9)
    near.run(0.3, periods=PATIENCE_NS // MIN_PERIOD_NS)
    assert near.flow.hold_ns // NS_PER_MS <= usual_ms
    assert near.run(FULL, RESERVE_NS, 100) < 50, "nor is it awaited again"
