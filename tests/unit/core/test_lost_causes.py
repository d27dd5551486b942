"""What is not asked for again, not told, and not used any longer, because nobody would gain by it."""

from __future__ import annotations

import pytest

from mlvpn.core import sessions
from mlvpn.core.burst_io import Train
from mlvpn.core.handshake import REJECT_AFTER_NS
from mlvpn.core.link import LinkState
from mlvpn.core.recovery import Repair
from mlvpn.core.run import build_bodies
from mlvpn.wire.frame import Gone
from sim.simulator import MS, SECOND, Simulator, sim_link, udp_frame


@pytest.fixture
def sim() -> Simulator:
    """One link that is up."""
    sim = Simulator([sim_link("a", 20e6, 10 * MS)])
    sim.run(SECOND)
    return sim


def test_a_malformed_datagram_is_not_asked_for_again(sim: Simulator) -> None:
    link, sender = sim.client.tunnel.links[0], sim.client.tunnel.sender
    assert sender.sealer is not None
    (data,) = sender.sealer.seal_bodies(link.number, link.take_lseq(1), 0, [bytes([0xE0])])
    sim.carry(sim.client, Train("a", link.remote, data, len(data)))
    sim.client.submit([udp_frame(1)])
    sim.run(SECOND)
    received = sim.server.tunnel.links[0].receiver
    assert sim.server.tunnel.counters.malformed_frames == 1
    assert received.highest == link.next_lseq - 1
    assert received.report(0, sim.now_ns).missing == []


@pytest.mark.parametrize(("lane", "told"), [(0, []), (3, [Gone(3, 7, 1)])])
def test_only_where_somebody_waits_the_peer_is_told_what_was_given_up(
    sim: Simulator, lane: int, told: list[Gone]
) -> None:
    run = build_bodies([b"12"], lane, False, 7, 1400)
    assert sim.client.tunnel.sender._give_up(Repair(run, 0, 9, 0)) == told
    assert sim.client.tunnel.counters.given_up_datagrams == 1


def test_keys_that_nobody_renews_are_given_up(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "REKEY_AFTER_NS", 2 * REJECT_AFTER_NS)
    ends = (sim.client.tunnel, sim.server.tunnel)
    old = [end.sessions.current for end in ends]
    sim.run(REJECT_AFTER_NS - 2 * SECOND)
    assert [end.sessions.current for end in ends] == old
    sim.run(5 * SECOND)
    assert all(end.sessions.current not in (None, *old) for end in ends), "a new association, with keys of its own"
    assert all(end.links[0].state == LinkState.UP for end in ends)
