"""A link's number keeps its lseq and its window for as long as the keys: no nonce is used twice, no replay is new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sim.simulator import MS, SECOND, Simulator, sim_link


@pytest.mark.parametrize("mode", ["client", "server"])
def test_a_link_removed_and_added_again_repeats_no_lseq(mode: str) -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS), sim_link("b", 20e6, 10 * MS)])
    sim.run(2 * SECOND)
    end = sim.client if mode == "client" else sim.server
    whole = sim.config(mode)
    old = next(link for link in end.tunnel.links if link.name == "b")
    end.tunnel.reconfigure(replace(whole, links=whole.links[:1]), sim.now_ns)
    end.tunnel.reconfigure(whole, sim.now_ns)
    local = ("10.0.0.1", 40000) if mode == "client" else ("10.0.0.2", 5080)
    remote = ("10.0.0.2", 5080) if mode == "client" else None
    end.tunnel.socket_opened("b", local, remote, sim.now_ns)
    end.flush()
    sim.run(1 * SECOND)
    new = next(link for link in end.tunnel.links if link.name == "b")
    assert new is not old
    assert new.number != old.number or (new.next_lseq >= old.next_lseq and new.receiver is old.receiver)
