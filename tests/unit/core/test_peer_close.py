"""The end that the peer announces counts at once; one that it does not is waited out."""

from __future__ import annotations

import dataclasses

import pytest

from sim.simulator import MS, SECOND, Simulator, sim_link


@pytest.fixture
def sim() -> Simulator:
    """Two links that are up, and a server with timeout = 10."""
    sim = Simulator([sim_link("a", 20e6, 10 * MS), sim_link("b", 20e6, 20 * MS)])
    config = sim.config("server")
    links = tuple(dataclasses.replace(link, timeout_ns=10 * SECOND) for link in config.links)
    sim.server.tunnel.reconfigure(dataclasses.replace(config, links=links), sim.now_ns)
    sim.run_until(lambda: len(sim.server.link_changes()) == len(sim.client.link_changes()) == 2, SECOND)
    return sim


def downs(sim: Simulator, since_ns: int) -> list[str]:
    return [link for at_ns, link, change in sim.server.link_changes() if change == "down" and at_ns >= since_ns]


def test_every_link_is_down_as_soon_as_the_peer_says_that_it_ends(sim: Simulator) -> None:
    since_ns = sim.now_ns
    sim.client.tunnel.close(sim.now_ns)
    sim.client.flush()
    sim.run(100 * MS)
    assert downs(sim, since_ns) == ["a", "b"]


def test_a_silent_end_is_announced_after_timeout(sim: Simulator) -> None:
    since_ns = sim.now_ns
    sim.client.alive = False
    sim.run(9 * SECOND)
    assert len(downs(sim, since_ns)) < 2
    sim.run(15 * SECOND)
    assert sorted(downs(sim, since_ns)) == ["a", "b"]


def test_a_client_looks_for_its_server_a_second_after_it_ended(sim: Simulator) -> None:
    """Not with the next housekeeping, which may be almost a second later."""
    sim.server.tunnel.close(sim.now_ns)
    sim.server.flush()
    sim.run(100 * MS)
    client = sim.client.tunnel
    sent = client.handshake.counters.init_sent
    waited_ns = sim.run_until(lambda: client.handshake.counters.init_sent > sent, 2 * SECOND)
    assert waited_ns <= SECOND
