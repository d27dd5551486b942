"""A network card that spoils trains without a word costs a few seconds, not the link."""

from __future__ import annotations

import pytest

from sim.ledger import Ledger
from sim.simulator import MS, SECOND, Simulator, sim_link


@pytest.mark.parametrize("others", [0, 1])
def test_a_link_that_spoils_trains_carries_single_datagrams(others: int) -> None:
    links = [sim_link("spoils", 100e6, 10 * MS), *[sim_link("well", 20e6, 10 * MS)] * others]
    links[0].up.spoils_trains = True
    sim = Simulator(links)
    ledger = Ledger(sim)
    sim.run(SECOND)
    ledger.send_steadily(ledger.stream(), 150e6)
    sim.run(7 * SECOND)
    path = sim.links["spoils"].up
    dropped, carried_bytes = path.dropped, path.carried_bytes
    sim.run(SECOND)
    assert path.dropped - dropped < 50, "trains are still being spoiled"
    assert (path.carried_bytes - carried_bytes) * 8 > 0.9 * path.rate_bps
    cut = {link.name: link.counters.cut_trains for link in sim.client.tunnel.links}
    assert cut.pop("spoils") > 0
    assert not any(cut.values())
