"""Rates, delays and the use of links under load, by evidence alone: nothing about the links is configured."""

from __future__ import annotations

import pytest

from mlvpn.core.feedback import OWN_WAIT_NS
from mlvpn.core.link import Link, LinkState
from sim.ledger import Ledger, Stream
from sim.simulator import MS, SECOND, End, Path, SimLink, Simulator, sim_link
from sim.traffic import Bbr, Cubic, TcpFlow, connect_flows

INNER_RATIO = 0.9155
"""Goodput of full segments by the link's rate: headers, tag and so on."""


def link_of(end: End, name: str) -> Link:
    return next(link for link in end.tunnel.links if link.name == name)


def up(links: list[SimLink], settings: dict[str, str] | None = None) -> tuple[Simulator, Ledger]:
    """Return a tunnel that has had a second to come up."""
    sim = Simulator(links, settings=settings)
    ledger = Ledger(sim)
    sim.run(SECOND)
    return sim, ledger


def flood(sim: Simulator, ledger: Ledger, rate_bps: float, port: int = 1000) -> Stream:
    """Send more than the links carry, from now on."""
    stream = ledger.stream(port=port)
    ledger.send_steadily(stream, rate_bps)
    return stream


def udp_capacity_bps(link: SimLink) -> float:
    """What a link carries in UDP payload, the unit of the estimates, by datagrams of 1440 bytes."""
    return link.up.rate_bps * 1440 / 1468


# --- estimates


@pytest.mark.parametrize("rate_mbps", [2, 10, 50])
@pytest.mark.parametrize("delay_ms", [3, 25, 100])
def test_capacity_is_known_within_five_percent_after_three_seconds(rate_mbps: int, delay_ms: int) -> None:
    sim, ledger = up([sim_link("a", rate_mbps * 1e6, delay_ms * MS)])
    flood(sim, ledger, rate_mbps * 1.3e6)
    sim.run(3 * SECOND)
    capacity_bps = link_of(sim.client, "a").estimator.capacity_bps
    assert capacity_bps == pytest.approx(udp_capacity_bps(sim.links["a"]), rel=0.05)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_changed_rate_is_followed(factor: float) -> None:
    sim, ledger = up([sim_link("a", 10e6, 15 * MS, buffer_ns=400 * MS)])
    flood(sim, ledger, 32e6)
    sim.run(4 * SECOND)
    path = sim.links["a"].up
    path.rate_bps *= factor
    sim.run(2 * SECOND)
    before_bytes = path.carried_bytes
    sim.run(SECOND)
    assert link_of(sim.client, "a").estimator.capacity_bps == pytest.approx(udp_capacity_bps(sim.links["a"]), rel=0.08)
    assert (path.carried_bytes - before_bytes) * 8 > 0.92 * path.rate_bps
    assert path.queue_ns(sim.now_ns) < 40 * MS


@pytest.mark.parametrize("buffer_ms", [100, 800])
def test_a_full_link_has_a_short_queue_however_long_its_buffer_is(buffer_ms: int) -> None:
    sim, ledger = up([sim_link("a", 10e6, 15 * MS, buffer_ns=buffer_ms * MS)])
    flood(sim, ledger, 13e6)
    sim.run(3 * SECOND)
    path = sim.links["a"].up
    before_bytes, start_ns = path.carried_bytes, sim.now_ns
    queues = []
    for _ in range(300):
        sim.run(20 * MS)
        queues.append(path.queue_ns(sim.now_ns))
    assert (path.carried_bytes - before_bytes) * 8e9 / (sim.now_ns - start_ns) > 0.96 * path.rate_bps
    assert sorted(queues)[len(queues) // 2] < 10 * MS
    assert max(queues) < 40 * MS


@pytest.mark.parametrize("count", [1, 4])
def test_short_links_with_long_buffers_fill_without_running_over(count: int) -> None:
    """A queue that fills in 100 ms is no jitter, and a first guess by the round trip alone is fifty times too high."""
    sim, ledger = up([sim_link(f"l{n}", 20e6, MS // 20) for n in range(count)])
    flood(sim, ledger, count * 26e6)
    paths = [link.up for link in sim.links.values()]
    queues = []
    for _ in range(100):
        sim.run(20 * MS)
        queues.append(max(path.queue_ns(sim.now_ns) for path in paths))
    assert sum(path.dropped for path in paths) == 0
    assert sorted(queues)[50] < 15 * MS
    assert sum(path.carried_bytes for path in paths) * 8 > 0.9 * count * 20e6 * 2


def test_an_application_that_sends_little_does_not_make_a_link_look_slow() -> None:
    sim, ledger = up([sim_link("a", 20e6, 15 * MS)])
    ledger.send_steadily(ledger.stream(), 26e6, until_ns=sim.now_ns + 3 * SECOND)
    sim.run(4 * SECOND)
    ledger.send_steadily(ledger.stream(), 1e6)
    sim.run(20 * SECOND)
    assert link_of(sim.client, "a").estimator.capacity_bps > 0.9 * 20e6


# --- loss and jitter


def test_two_percent_of_random_loss_is_repaired() -> None:
    sim, ledger = up([sim_link("a", 30e6, 15 * MS), sim_link("b", 30e6, 20 * MS, loss_ratio=0.02)])
    stream = ledger.stream()
    ledger.send_steadily(stream, 40e6, until_ns=sim.now_ns + 5 * SECOND)
    sim.run(7 * SECOND)
    counters = sim.client.tunnel.counters
    assert counters.repaired_datagrams > 100
    assert len(stream.lost) - counters.queue_dropped_packets <= len(stream.sent_ns) // 2000
    assert stream.disordered <= len(stream.sent_ns) // 1000
    assert sim.server.tunnel.counters.timer_releases <= 2


def test_jitter_takes_no_link_down_and_loses_nothing() -> None:
    sim, ledger = up([sim_link("a", 16e6, 20 * MS, jitter_ns=15 * MS), sim_link("b", 20e6, 35 * MS, jitter_ns=15 * MS)])
    stream = ledger.stream()
    ledger.send_steadily(stream, 6e6, until_ns=sim.now_ns + 10 * SECOND)
    sim.run(12 * SECOND)
    assert all(link.counters.went_down == 0 for end in (sim.client, sim.server) for link in end.tunnel.links)
    assert stream.lost == []
    assert stream.disordered <= 3, "none but the first, which are sparse"


# --- which link


def carried(sim: Simulator, name: str, duration_ns: int) -> int:
    before = sim.links[name].up.carried_bytes
    sim.run(duration_ns)
    return sim.links[name].up.carried_bytes - before


def test_a_fallback_link_carries_only_when_no_other_can() -> None:
    sim = Simulator([sim_link("a", 5e6, 10 * MS), sim_link("b", 5e6, 10 * MS)], settings={"b": "fallback_only = 1"})
    ledger = Ledger(sim)
    sim.run(SECOND)
    for to_client in (False, True):
        ledger.send_steadily(ledger.stream(to_client), 6e6)
    assert carried(sim, "b", 3 * SECOND) < 30_000, "probes and feedback, though the other one is full"
    assert link_of(sim.server, "b").fallback, "the server keeps to what the client has configured"
    assert sim.links["b"].down.carried_bytes < 60_000
    sim.links["a"].cut()
    sim.run(2 * SECOND)
    assert carried(sim, "b", 2 * SECOND) > 750_000
    sim.links["a"].heal()
    sim.run(5 * SECOND)
    assert carried(sim, "b", 2 * SECOND) < 60_000


def test_a_link_beyond_its_loss_tolerance_is_spared_until_it_recovers() -> None:
    sim = Simulator([sim_link("a", 10e6, 10 * MS), sim_link("b", 10e6, 10 * MS)], settings={"b": "loss_tolerance = 10"})
    ledger = Ledger(sim)
    sim.run(SECOND)
    flood(sim, ledger, 14e6)
    sim.run(2 * SECOND)
    assert carried(sim, "b", SECOND) > 400_000
    sim.links["b"].up.loss_ratio = 0.3
    sim.run(2 * SECOND)
    assert carried(sim, "b", 5 * SECOND) < 1_500_000
    assert link_of(sim.client, "b").counters.went_down == 0, "loss alone takes no link down"
    sim.links["b"].up.loss_ratio = 0.0
    sim.run(3 * SECOND)
    assert carried(sim, "b", SECOND) > 400_000


def test_a_link_beyond_its_latency_tolerance_is_spared() -> None:
    sim = Simulator(
        [sim_link("a", 10e6, 10 * MS), sim_link("b", 10e6, 80 * MS)], settings={"b": "latency_tolerance = 100"}
    )
    ledger = Ledger(sim)
    sim.run(SECOND)
    flood(sim, ledger, 14e6)
    sim.run(2 * SECOND)
    assert carried(sim, "b", 3 * SECOND) < 60_000
    sim.links["a"].cut()
    sim.run(SECOND)
    assert carried(sim, "b", 2 * SECOND) > 1_500_000, "a slow link is better than none"


def test_the_only_link_is_used_whatever_it_loses() -> None:
    sim, ledger = up([sim_link("a", 10e6, 10 * MS, loss_ratio=0.3)])
    stream = ledger.stream()
    ledger.send_steadily(stream, 2e6, until_ns=sim.now_ns + 5 * SECOND)
    sim.run(8 * SECOND)
    assert len(stream.lost) < len(stream.sent_ns) // 50, "and nearly all comes, repaired"


# --- delay of packets


def test_bulk_that_asks_too_much_is_dropped_early_and_never_late() -> None:
    sim, ledger = up([sim_link("a", 10e6, 10 * MS), sim_link("b", 10e6, 10 * MS)])
    stream = ledger.stream()
    ledger.send_steadily(stream, 20e6, until_ns=sim.now_ns + 10 * SECOND)
    sim.run(12 * SECOND)
    assert sim.client.tunnel.counters.queue_dropped_packets > 50
    assert sim.client.tunnel.counters.queue_full_packets == 0
    ledger.check_account()


@pytest.mark.parametrize("delays_ms", [(10, 10), (10, 60)])
def test_sparse_packets_overtake_bulk(delays_ms: tuple[int, int]) -> None:
    sim, ledger = up([sim_link(name, 10e6, ms * MS) for name, ms in zip("ab", delays_ms, strict=True)])
    flood(sim, ledger, 26e6)
    pings = ledger.stream(port=7)
    sim.run(2 * SECOND)
    ledger.send_steadily(pings, 84 * 8 * 50, 84, until_ns=sim.now_ns + 5 * SECOND)
    sim.run(6 * SECOND)
    assert pings.lost == []
    assert pings.delay_ns(0.5) < 10 * MS + 15 * MS
    assert pings.delay_ns(0.99) < 10 * MS + 30 * MS


@pytest.mark.parametrize(
    "links", [[(60, 10)], [(60, 10), (60, 10)], [(60, 10), (30, 60)], [(40, 10), (20, 60), (10, 30)]]
)
def test_what_an_end_has_no_time_to_read_waits_where_small_packets_overtake_it(links: list[tuple[int, int]]) -> None:
    """Each link is (Mbit/s, ms). They share one processor, which must not make them rivals."""
    sim, ledger = up([sim_link(f"l{n}", mbps * 1e6, ms * MS) for n, (mbps, ms) in enumerate(links)])
    sim.server.reads_bps = 30e6
    flood(sim, ledger, 50e6)
    sim.run(3 * SECOND)
    pings = ledger.stream(port=7)
    start_bytes = sim.server.tunnel.counters.delivered_bytes
    ledger.send_steadily(pings, 84 * 8 * 50, 84, until_ns=sim.now_ns + 5 * SECOND)
    sim.run(5 * SECOND)
    delivered_bps = (sim.server.tunnel.counters.delivered_bytes - start_bytes) * 8 / 5
    sim.run(SECOND)
    assert sum(link.up.dropped for link in sim.links.values()) == 0
    assert delivered_bps > 0.9 * 30e6
    assert pings.lost == []
    assert pings.delay_ns(0.5) < 10 * MS + OWN_WAIT_NS + 20 * MS
    assert pings.delay_ns(0.99) < 10 * MS + OWN_WAIT_NS + 100 * MS


# --- one TCP flow


def goodput_ratio(sim: Simulator, control: Cubic | Bbr, warm_s: int, measured_s: int) -> float:
    """Return what one flow gets, as a part of what the links carry."""
    flow = TcpFlow(sim, False, control)
    connect_flows(sim, flow)
    sim.run(warm_s * SECOND)
    start_ns = sim.now_ns
    sim.run(measured_s * SECOND)
    whole_bps = INNER_RATIO * sum(link.up.rate_bps for link in sim.links.values())
    return flow.rate_bps(start_ns, sim.now_ns) / whole_bps


def shown_of_bulk(sim: Simulator) -> tuple[int, int, bool]:
    """Return what `status` says: how many bulk flows the client has, how many bounded; whether the server holds any."""
    sending, receiving = (end.tunnel.snapshot(sim.now_ns) for end in (sim.client, sim.server))
    return sending["bulk_flows"], sending["bounded_flows"], receiving["equalise_ms"] > 0


def test_bbr_is_not_starved_by_links_of_different_delay() -> None:
    """The difference of delay is more than the shortest round trip, so that BBR's window is too small for both links:
    without holds that grow step by step it would get less than the faster one alone."""
    sim, _ = up([sim_link("a", 10e6, 10 * MS), sim_link("b", 10e6, 40 * MS)])
    assert goodput_ratio(sim, Bbr(), 2, 6) >= 0.9 * 0.5


def test_bbr_keeps_more_in_flight_for_a_link_further_away_than_its_window_reaches() -> None:
    """Two short round trips are 40 ms and the far link needs 50: BBR would wait for its ten-second probe of the round
    trip, but adds to its window what is acknowledged at once."""
    sim, _ = up([sim_link("a", 10e6, 10 * MS), sim_link("b", 10e6, 40 * MS)])
    assert goodput_ratio(sim, Bbr(), 4, 4) >= 0.85
    assert shown_of_bulk(sim) == (1, 0, True)


def test_cubic_grows_into_a_link_far_behind_and_loses_nothing_on_the_way() -> None:
    """All that its window grows by has to become hold: one drop before the slow link joins costs it ten seconds."""
    sim, _ = up([sim_link("a", 10e6, 8 * MS), sim_link("b", 5e6, 100 * MS)])
    flow = TcpFlow(sim, False, Cubic())
    connect_flows(sim, flow)
    sim.run(8 * SECOND)
    start_ns = sim.now_ns
    assert flow.rate_bps(start_ns - 7 * SECOND, start_ns) >= 0.97 * INNER_RATIO * 10e6
    sim.run(4 * SECOND)
    assert flow.rate_bps(start_ns, sim.now_ns) >= 0.8 * INNER_RATIO * 15e6


def test_a_link_far_behind_costs_bbr_next_to_nothing_until_it_can_join() -> None:
    """Its window is two short round trips for ten seconds; a hold that takes more than is spare would cost rate."""
    alone, _ = up([sim_link("a", 10e6, 8 * MS)])
    bond, _ = up([sim_link("a", 10e6, 8 * MS), sim_link("b", 5e6, 100 * MS)])
    assert goodput_ratio(bond, Bbr(), 2, 6) * 15 >= 0.98 * 10 * goodput_ratio(alone, Bbr(), 2, 6)
    assert shown_of_bulk(bond)[:2] == (1, 1)


def test_bbr_reaches_any_link_once_it_has_measured_its_round_trip_anew() -> None:
    """Ten seconds after its start it takes what it sees for its least round trip: all the delay that is of use."""
    sim, _ = up([sim_link("a", 10e6, 8 * MS), sim_link("b", 5e6, 100 * MS)])
    assert goodput_ratio(sim, Bbr(), 13, 4) >= 0.78


def test_cubic_fills_two_links_alike() -> None:
    sim, _ = up([sim_link("a", 10e6, 10 * MS), sim_link("b", 10e6, 10 * MS)])
    assert goodput_ratio(sim, Cubic(), 4, 5) >= 0.93


def test_cubic_is_not_held_up_by_a_link_that_is_slower_in_every_way() -> None:
    sim, ledger = up([sim_link("a", 40e6, 10 * MS), sim_link("b", 4e6, 40 * MS)])
    ledger.send_steadily(ledger.stream(), 50e6, until_ns=sim.now_ns + 3 * SECOND // 2)
    sim.run(2 * SECOND)  # both links are known from here on
    flow = TcpFlow(sim, False, Cubic())
    connect_flows(sim, flow)
    sim.run(2 * SECOND)
    for _ in range(3):
        start_ns = sim.now_ns
        sim.run(SECOND)
        assert flow.rate_bps(start_ns, sim.now_ns) >= 0.9 * INNER_RATIO * 40e6


def test_a_flow_survives_the_cut_of_a_link_and_fills_the_other() -> None:
    sim, _ = up([sim_link("a", 10e6, 10 * MS), sim_link("b", 10e6, 20 * MS)])
    flow = TcpFlow(sim, False, Cubic())
    connect_flows(sim, flow)
    sim.run(4 * SECOND)
    sim.links["a"].cut()
    sim.run(3 * SECOND)
    start_ns = sim.now_ns
    sim.run(2 * SECOND)
    assert flow.rate_bps(start_ns, sim.now_ns) >= 0.9 * INNER_RATIO * 10e6
    assert flow.timeouts <= 1
    assert link_of(sim.client, "a").state != LinkState.UP


def test_an_asymmetric_link_is_measured_in_each_direction() -> None:
    sim, ledger = up([SimLink("a", Path(5e6, 10 * MS), Path(40e6, 10 * MS))])
    for to_client, rate_bps in ((False, 7e6), (True, 50e6)):
        ledger.send_steadily(ledger.stream(to_client), rate_bps)
    sim.run(3 * SECOND)
    assert link_of(sim.client, "a").estimator.capacity_bps == pytest.approx(5e6, rel=0.08)
    assert link_of(sim.server, "a").estimator.capacity_bps == pytest.approx(40e6, rel=0.08)
