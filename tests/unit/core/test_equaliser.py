"""How a flow's hold follows what the flow bears."""

from __future__ import annotations

import pytest
from some_links import links_up

from mlvpn.core import scheduler
from mlvpn.core.equaliser import MIN_PERIOD_NS, PERIOD_RTTS, Equaliser
from mlvpn.core.queue import BULK_BYTES, Flow
from mlvpn.units import NS_PER_MS, NS_PER_S

RATE_BPS = 20e6
FULL = 0.97
"""Inner bytes of a full link's."""


class Bond:
    """Two links of 20 Mbit/s, b 130 ms behind a, and one bulk flow whose rate the test says."""

    def __init__(self) -> None:
        self.links = links_up(10, 140, capacity_bps=RATE_BPS)
        self.flow = Flow()
        self.flow.busy_bytes = 2 * BULK_BYTES
        self.now_ns = NS_PER_S
        self.equaliser = Equaliser()
        self.run(FULL)  # the first period only begins to measure

    def run(self, filled: float, periods: int = 1) -> int:
        """Let the flow fill ``filled`` of the fast link for so many periods; return its hold in ms."""
        for _ in range(periods):
            rtt_ns = self.links[0].estimator.rtt_min_ns + self.flow.hold_ns
            period_ns = max(PERIOD_RTTS * rtt_ns, MIN_PERIOD_NS)
            self.now_ns += period_ns
            self.flow.rate_bytes += int(filled * RATE_BPS * period_ns / 8e9)
            self.equaliser.update([self.flow], self.links, self.now_ns)
        return self.flow.hold_ns // NS_PER_MS

    def settle(self) -> int:
        """Raise the hold for a while, then let it be; return it in ms."""
        hold_ms = self.run(FULL, 20)
        self.flow.step_ns = 0
        self.flow.rested_ns = self.now_ns + 60 * NS_PER_S
        return hold_ms


@pytest.fixture
def bond() -> Bond:
    return Bond()


def test_a_flow_that_fills_its_links_is_held_ever_longer_until_the_slow_link_joins(bond: Bond) -> None:
    assert 0 < bond.run(FULL, 2) < 130
    assert not scheduler.for_flow(bond.flow, bond.links, bond.links[1:])
    assert 127 <= bond.run(FULL, 100) <= 132, "near enough to the slow link's delay"
    assert scheduler.for_flow(bond.flow, bond.links, bond.links[1:]) is bond.links[1]


def test_a_flow_that_fills_nothing_is_not_held(bond: Bond) -> None:
    assert bond.run(0.8, 20) == 0


def test_a_step_that_costs_rate_is_taken_back(bond: Bond) -> None:
    before = bond.run(FULL, 6)
    raised = bond.run(FULL)
    assert raised > before
    assert bond.run(0.9) == before


def test_after_a_cut_the_hold_goes_back_by_as_much_as_the_links_are_not_filled(bond: Bond) -> None:
    hold_ms = bond.settle()
    assert bond.run(0.7, 2) == hold_ms, "once may be chance; a sum of rates is known a period later"
    assert bond.run(0.7) == pytest.approx(0.7 * (hold_ms + 20) - 20, abs=3)


def test_a_pause_leaves_the_hold_as_it_is(bond: Bond) -> None:
    """BBR measures its round trip in it, and must find the one it is to live with."""
    hold_ms = bond.settle()
    for filled in (0.7, 0.1, 0.1, 0.7, FULL, FULL):
        assert bond.run(filled) == hold_ms


def test_a_link_just_behind_the_hold_is_used(bond: Bond) -> None:
    bond.flow.hold_ns = 130 * NS_PER_MS - scheduler.BULK_SPREAD_NS
    assert scheduler.for_flow(bond.flow, bond.links, bond.links[1:]) is bond.links[1]
    bond.flow.hold_ns -= NS_PER_MS
    assert scheduler.for_flow(bond.flow, bond.links, bond.links[1:]) is None
