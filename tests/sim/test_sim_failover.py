"""What happens when links fall silent and come back: how long a flow stands still, and what is lost for good."""

from __future__ import annotations

import pytest

from mlvpn.core.link import Link, LinkState
from sim.ledger import Ledger, Stream
from sim.simulator import MS, SECOND, End, Simulator, sim_link


def two_links() -> Simulator:
    return Simulator([sim_link("a", 20e6, 10 * MS), sim_link("b", 20e6, 20 * MS)])


def loaded(sim: Simulator, rate_bps: float = 30e6, to_client: bool = False) -> tuple[Ledger, Stream]:
    """Let the tunnel come up and carry a steady flow for three seconds."""
    ledger = Ledger(sim)
    sim.run(SECOND)
    stream = ledger.stream(to_client)
    ledger.send_steadily(stream, rate_bps, until_ns=sim.now_ns + 60 * SECOND)
    sim.run(3 * SECOND)
    return ledger, stream


def link_of(end: End, name: str) -> Link:
    return next(link for link in end.tunnel.links if link.name == name)


def settle(sim: Simulator, ledger: Ledger, stream: Stream) -> None:
    """Let everything arrive that still can: all but what CoDel dropped to tell the flow of the missing link."""
    sent = len(stream.sent_ns)
    sim.run(1500 * MS)
    counters = (sim.server if stream.to_client else sim.client).tunnel.counters
    assert sum(number < sent for number in stream.lost) <= counters.queue_dropped_packets < 40
    assert counters.given_up_datagrams == 0
    ledger.check_account()


@pytest.mark.parametrize("to_client", [False, True])
@pytest.mark.parametrize("name", ["a", "b"])
def test_a_silent_cut_at_full_load_stops_the_flow_for_a_quarter_second_and_loses_nothing(
    name: str, to_client: bool
) -> None:
    sim = two_links()
    ledger, stream = loaded(sim, 15e6, to_client)
    cut_ns = sim.now_ns
    sim.links[name].cut()
    sim.run(SECOND)
    assert stream.longest_gap_ns(cut_ns, sim.now_ns) <= 250 * MS
    sender = sim.server if to_client else sim.client
    link = link_of(sender, name)
    assert link.state in (LinkState.SUSPECT, LinkState.DOWN)
    assert link.log.flight_bytes == 0, "what it held has been rescued"
    settle(sim, ledger, stream)


@pytest.mark.parametrize("name", ["a", "b"])
def test_pings_during_a_cut_are_late_and_not_lost(name: str) -> None:
    sim = two_links()
    ledger, _ = loaded(sim, 15e6)
    pings = ledger.stream(port=7)
    ledger.send_steadily(pings, 84 * 8 * 50, 84, until_ns=sim.now_ns + 3 * SECOND)
    sim.run(500 * MS)
    sim.links[name].cut()
    sim.run(4 * SECOND)
    assert len(pings.sent_ns) == 150
    assert pings.lost == []
    assert pings.delay_ns(1) < 300 * MS


@pytest.mark.parametrize("name", ["a", "b"])
def test_an_idle_tunnel_notices_a_cut_within_two_seconds(name: str) -> None:
    sim = two_links()
    sim.run(10 * SECOND)
    sim.links[name].cut()
    took_ns = sim.run_until(
        lambda: all(link_of(end, name).state == LinkState.DOWN for end in (sim.client, sim.server)), 5 * SECOND
    )
    assert took_ns < 2 * SECOND


@pytest.mark.parametrize("direction", ["up", "down"])
def test_an_idle_link_cut_in_one_direction_goes_down_at_both_ends(direction: str) -> None:
    """What the peer sends over it proves nothing of our direction."""
    sim = two_links()
    sim.run(10 * SECOND)
    getattr(sim.links["a"], direction).up = False
    ends = (sim.client, sim.server)
    assert (
        sim.run_until(lambda: all(link_of(end, "a").state == LinkState.DOWN for end in ends), 5 * SECOND) < 2 * SECOND
    )


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("to_client", [False, True])
def test_a_link_cut_in_one_direction_carries_nothing(direction: str, to_client: bool) -> None:
    """Whichever direction is left: acknowledgements of the dead one are missing, or answers do not come back."""
    sim = two_links()
    ledger, stream = loaded(sim, 15e6, to_client)
    cut_ns = sim.now_ns
    getattr(sim.links["a"], direction).up = False
    sim.run(3 * SECOND)
    assert stream.longest_gap_ns(cut_ns, sim.now_ns) <= 250 * MS
    dead = sim.client if direction == "up" else sim.server
    assert link_of(dead, "a").state in (LinkState.SUSPECT, LinkState.DOWN)
    settle(sim, ledger, stream)


def test_a_link_that_returns_takes_its_share_and_disturbs_nothing() -> None:
    sim = two_links()
    ledger, stream = loaded(sim, 15e6)
    sim.links["a"].cut()
    sim.run(5 * SECOND)
    returned_ns = sim.now_ns
    sim.links["a"].heal()
    sim.run(5 * SECOND)
    assert link_of(sim.client, "a").state == LinkState.UP
    before_bytes = sim.links["a"].up.carried_bytes
    sim.run(SECOND)
    assert (sim.links["a"].up.carried_bytes - before_bytes) * 8 > 5e6
    assert stream.longest_gap_ns(returned_ns, sim.now_ns) < 60 * MS
    late = [at - stream.sent_ns[n] for n, at in stream.arrived_ns.items() if stream.sent_ns[n] >= returned_ns]
    assert max(late) < 100 * MS
    settle(sim, ledger, stream)


def test_a_blink_takes_no_link_down() -> None:
    sim = two_links()
    ledger, stream = loaded(sim, 15e6)
    for _ in range(5):
        sim.links["a"].cut()
        sim.run(150 * MS)
        sim.links["a"].heal()
        sim.run(SECOND)
    assert link_of(sim.client, "a").counters.went_down == 0
    assert link_of(sim.client, "a").state == LinkState.UP
    settle(sim, ledger, stream)


def test_all_links_cut_and_back() -> None:
    sim = two_links()
    ledger, stream = loaded(sim, 15e6)
    for link in sim.links.values():
        link.cut()
    sim.run(10 * SECOND)
    for link in sim.links.values():
        link.heal()
    healed_ns = sim.now_ns
    sim.run_until(lambda: stream.sent_ns[max(stream.arrived_ns)] > healed_ns, 10 * SECOND)
    assert sim.now_ns - healed_ns < 2 * SECOND
    sim.run(3 * SECOND)
    assert all(link.state == LinkState.UP for link in sim.client.tunnel.links)
    ledger.check_account()
    assert sim.client.tunnel.counters.no_link_packets > 1000


def test_an_only_link_that_fails_again_and_again_is_not_kept_waiting() -> None:
    """Hold-down is for links that others can stand in for."""
    sim = Simulator([sim_link("a", 20e6, 10 * MS)])
    ledger, stream = loaded(sim, 2e6)
    for _ in range(6):
        sim.links["a"].cut()
        sim.run(3 * SECOND)
        sim.links["a"].heal()
        healed_ns = sim.now_ns
        sim.run(3 * SECOND)
        assert stream.longest_gap_ns(healed_ns, sim.now_ns) < 2 * SECOND
    ledger.check_account()


def test_a_link_that_fails_again_and_again_returns_later_each_time() -> None:
    sim = two_links()
    loaded(sim, 5e6)
    times = []
    for _ in range(5):
        sim.links["a"].cut()
        sim.run(2 * SECOND)
        sim.links["a"].heal()
        times.append(sim.run_until(lambda: link_of(sim.client, "a").state == LinkState.UP, 20 * SECOND))
    assert times[-1] > 3 * SECOND > times[0]
    assert max(times) < 10 * SECOND


def test_carrier_loss_moves_everything_at_once_and_the_last_link_keeps_what_it_had() -> None:
    sim = two_links()
    ledger, stream = loaded(sim, 15e6)
    sim.links["a"].cut()
    cut_ns = sim.now_ns
    sim.client.tunnel.link_lost("a", "no carrier", sim.now_ns)
    sim.client.flush()
    sim.run(300 * MS)
    assert stream.longest_gap_ns(cut_ns, sim.now_ns) < 60 * MS
    sim.links["b"].cut()
    sim.client.tunnel.link_lost("b", "no carrier", sim.now_ns)
    sim.client.flush()
    sim.run(200 * MS)
    for name, link in sim.links.items():
        link.heal()
        sim.renew_socket(name)
    sim.client.flush()
    settle(sim, ledger, stream)


def test_ten_minutes_of_jitter_and_loss_take_no_link_down() -> None:
    jittery = [sim_link(name, 16e6, 20 * MS, jitter_ns=15 * MS, loss_ratio=0.01) for name in "ab"]
    sim = Simulator(jittery)
    ledger = Ledger(sim)
    sim.run(SECOND)
    for to_client in (False, True):
        ledger.send_steadily(ledger.stream(to_client), 84 * 8 * 20, 84)
    sim.run(600 * SECOND)
    assert [change for end in (sim.client, sim.server) for change in end.link_changes() if change[2] == "down"] == []
    assert all(link.counters.went_down == 0 for end in (sim.client, sim.server) for link in end.tunnel.links)
