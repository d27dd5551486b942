"""Which link takes a run: least delay, credit, tolerances, and what young flows are spared."""

from __future__ import annotations

import dataclasses

import pytest
from inner_packets import super_packet
from some_links import links_up

from mlvpn.core import scheduler
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.flow import BULK_BYTES, Flow
from mlvpn.core.link import Link, LinkState
from mlvpn.core.packet import Packet
from mlvpn.core.queue import FlowQueue
from mlvpn.units import NS_PER_MS


@pytest.fixture
def links() -> list[Link]:
    """Three links that are up: a 10 ms, b 30 ms, c 60 ms away; 10 Mbit/s each."""
    return links_up(10, 30, 60, capacity_bps=10e6)


def names(links: list[Link]) -> str:
    return "".join(link.name for link in links)


def flow_with(backlog_bytes: int, *, bulk: bool = False) -> Flow:
    waiting = FlowQueue(TunnelCounters())
    waiting.enqueue(Packet(super_packet(bytes(60_000), 1000)), 0)
    flow = waiting.head(0)
    assert flow is not None
    flow.backlog_bytes = backlog_bytes
    flow.busy_bytes = BULK_BYTES + 1 if bulk else 1000
    return flow


def test_least_delay_first_and_a_queue_is_a_delay(links: list[Link]) -> None:
    assert names(scheduler.eligible(links)) == "abc"
    links[0].estimator.queue_ns = 25 * NS_PER_MS
    assert names(scheduler.eligible(links)) == "bac"


@pytest.mark.parametrize("state", [LinkState.DOWN, LinkState.PROBING, LinkState.SUSPECT])
def test_only_links_that_are_up_carry(links: list[Link], state: LinkState) -> None:
    links[1].state = state
    assert names(scheduler.eligible(links)) == "ac"


def test_when_all_are_suspect_they_keep_trying(links: list[Link]) -> None:
    for link in links:
        link.state = LinkState.SUSPECT
    assert names(scheduler.eligible(links)) == "abc"


def test_fallback_links_wait_for_the_others_to_go(links: list[Link]) -> None:
    links[0].peer_fallback = True
    links[1].config = dataclasses.replace(links[1].config, fallback_only=True)
    assert names(scheduler.eligible(links)) == "c"
    links[2].state = LinkState.DOWN
    assert names(scheduler.eligible(links)) == "ab"


def test_links_beyond_their_tolerance_are_shunned_while_others_are_fit(links: list[Link]) -> None:
    links[0].estimator.loss_ratio = 0.3
    links[1].config = dataclasses.replace(links[1].config, latency_tolerance_ns=100 * NS_PER_MS)
    links[1].estimator.rtt_ns = 120.0 * NS_PER_MS
    assert [scheduler.unfit(link) for link in links] == ["lossy", "slow", None]
    assert names(scheduler.eligible(links)) == "c"
    links[2].state = LinkState.DOWN
    assert names(scheduler.eligible(links)) == "ab", "better than nothing"


def test_a_fit_fallback_is_better_than_an_unfit_primary(links: list[Link]) -> None:
    links[0].peer_fallback = True
    links[1].estimator.loss_ratio = links[2].estimator.loss_ratio = 0.5
    assert names(scheduler.eligible(links)) == "a"


def test_sparse_packets_stay_where_they_are_until_it_pays(links: list[Link]) -> None:
    assert scheduler.for_sparse(links, None) is links[0]
    links[1].estimator.base_delay_ns = 11 * NS_PER_MS
    assert scheduler.for_sparse(links, links[1]) is links[1]
    links[1].estimator.base_delay_ns = 20 * NS_PER_MS
    assert scheduler.for_sparse(links, links[1]) is links[0]
    assert scheduler.for_sparse(links[:1], links[2]) is links[0], "the old one is gone"


def test_sparse_packets_avoid_a_link_that_is_fast_only_at_its_best(links: list[Link]) -> None:
    links[0].estimator.jitter.jitter_ns = 6 * NS_PER_MS
    assert scheduler.for_sparse(links, None) is links[1]
    assert scheduler.for_sparse(links, links[0]) is links[1]


def test_the_fastest_link_with_credit_is_always_right(links: list[Link]) -> None:
    assert scheduler.for_flow(flow_with(1), links, links) is links[0]


def test_a_young_flow_waits_for_the_fast_link_unless_it_has_much_to_send(links: list[Link]) -> None:
    """20 ms behind at 10 Mbit/s are 25 kB: with less, the fast link is done before the slow one would bring it."""
    slower = links[1:]
    assert scheduler.for_flow(flow_with(24_000), links, slower) is None
    assert scheduler.for_flow(flow_with(26_000), links, slower) is links[1]


def test_bulk_takes_links_as_far_behind_as_its_hold(links: list[Link]) -> None:
    bulk = flow_with(1000, bulk=True)
    bulk.hold_ns = 40 * NS_PER_MS
    assert scheduler.for_flow(bulk, links, links[2:]) is None
    bulk.hold_ns = 60 * NS_PER_MS
    assert scheduler.for_flow(bulk, links, links[2:]) is links[2]
    bulk.hold_ns = 2 * scheduler.MAX_SPREAD_NS
    links[2].estimator.base_delay_ns = 11 * NS_PER_MS + scheduler.MAX_SPREAD_NS
    assert scheduler.for_flow(bulk, links, links[2:]) is None


def test_a_held_flow_uses_the_links_within_its_hold_by_their_rates(links: list[Link]) -> None:
    """They are equally far for it, and none of them need be full."""
    held = flow_with(1000, bulk=True)
    held.hold_ns = 30 * NS_PER_MS
    taken = {link.name: 0 for link in links}
    for link in links:
        link.pacer.pace_bps = link.estimator.capacity_bps
    links[1].pacer.pace_bps *= 2
    for now_ns in range(0, 300 * NS_PER_MS, NS_PER_MS):
        for link in links:
            link.pacer.tokens_bytes(now_ns)
        chosen = scheduler.for_flow(held, links, links)
        assert chosen is not None
        chosen.pacer.spend(3125)  # 25 Mbit/s of 30
        taken[chosen.name] += 1
    assert taken["b"] == pytest.approx(2 * taken["a"], rel=0.1)
    assert not taken["c"], "beyond its hold"


def test_credit_is_bounded_by_what_may_be_in_flight(links: list[Link]) -> None:
    link = links[0]
    link.pacer.flight_limit_bytes = 500.0
    assert scheduler.credit_bytes(link, 0) == 500
    link.log.flight_bytes = 600
    assert scheduler.credit_bytes(link, 0) == -100
    link.pacer.flight_limit_bytes = 1e9
    link.pacer.spend(10_000)
    assert scheduler.credit_bytes(link, 0) < 0
