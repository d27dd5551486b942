"""A foreign flow in the queue of the tunnel's link: neither starves, and the queue is short again when it has gone."""

from __future__ import annotations

import pytest

from mlvpn.core.pacer import Phase
from sim.simulator import MS, SECOND, Simulator, sim_link
from sim.traffic import SEGMENT_BYTES, Bbr, Cubic, ForeignFlow, TcpFlow, connect_flows

RATE_BPS = 8e6
LEAST_SHARE_RATIO = 0.25


def beside(foreign: Cubic | Bbr, delay_ms: int = 20) -> tuple[Simulator, TcpFlow, ForeignFlow]:
    """Return a tunnel whose only link is full of one flow, and a foreign flow that begins on it."""
    sim = Simulator([sim_link("a", RATE_BPS, delay_ms * MS)])
    sim.run(SECOND)
    flow = TcpFlow(sim, False, Cubic())
    connect_flows(sim, flow)
    sim.run(3 * SECOND)
    return sim, flow, ForeignFlow(sim, sim.links["a"], False, foreign)


@pytest.mark.parametrize("foreign", [Cubic, Bbr])
def test_tunnel_and_foreign_flow_share_a_link(foreign: type[Cubic] | type[Bbr]) -> None:
    """On average of some delays: at each it is chance whether the other's start looks like a slower link."""
    shares = [share_of(*beside(foreign(), delay_ms)) for delay_ms in (17, 22, 27)]
    assert LEAST_SHARE_RATIO < sum(shares) / len(shares) < 1 - LEAST_SHARE_RATIO
    assert min(shares) > 0.1
    assert max(shares) < 0.9


def share_of(sim: Simulator, _flow: TcpFlow, other: ForeignFlow) -> float:
    """Return the other flow's share of what the link carries, which is nearly all it can."""
    sim.run(8 * SECOND)  # the flow inside has lost its window when the other began, and has to grow it again
    path, start_ns = sim.links["a"].up, sim.now_ns
    before_bytes = path.carried_bytes
    sim.run(8 * SECOND)
    carried_bps = (path.carried_bytes - before_bytes) * 8e9 / (sim.now_ns - start_ns)
    assert carried_bps > 0.95 * RATE_BPS
    return other.rate_bps(start_ns, sim.now_ns) * (SEGMENT_BYTES + 40) / SEGMENT_BYTES / carried_bps


def test_one_of_two_links_is_shared_though_it_is_far_behind_by_the_foreign_queue() -> None:
    """The other link looks 60 to 100 ms faster for as long as the foreign flow is there."""
    sim = Simulator([sim_link("a", 6e6, 15 * MS), sim_link("b", 4e6, 25 * MS)])
    sim.run(SECOND)
    connect_flows(sim, TcpFlow(sim, False, Cubic()))
    sim.run(3 * SECOND)
    other = ForeignFlow(sim, sim.links["b"], False, Cubic())
    sim.run(6 * SECOND)
    path, start_ns = sim.links["b"].up, sim.now_ns
    before_bytes = path.carried_bytes
    sim.run(6 * SECOND)
    carried_bps = (path.carried_bytes - before_bytes) * 8e9 / (sim.now_ns - start_ns)
    other_bps = other.rate_bps(start_ns, sim.now_ns) * (SEGMENT_BYTES + 40) / SEGMENT_BYTES
    assert 0.2 < other_bps / carried_bps < 0.8


def test_the_queue_is_short_again_when_the_foreign_flow_has_gone() -> None:
    sim, flow, other = beside(Cubic())
    pacer = sim.client.tunnel.links[0].pacer
    sim.run(2 * SECOND)
    assert pacer.phase in (Phase.COMPETE, Phase.DRAIN)
    other.stop()
    sim.run(4 * SECOND)
    start_ns, queues_ns = sim.now_ns, []
    for _ in range(50):
        sim.run(20 * MS)
        queues_ns.append(sim.links["a"].up.queue_ns(sim.now_ns))
    assert pacer.phase != Phase.COMPETE
    assert sorted(queues_ns)[25] < 10 * MS
    assert flow.rate_bps(start_ns, sim.now_ns) > 0.85 * RATE_BPS


def test_a_link_whose_rate_falls_is_not_taken_for_a_shared_one() -> None:
    sim = Simulator([sim_link("a", 16e6, 25 * MS, buffer_ns=400 * MS)])
    sim.run(SECOND)
    connect_flows(sim, TcpFlow(sim, False, Cubic()))
    sim.run(3 * SECOND)
    sim.links["a"].up.rate_bps = 5e6
    phases = set()
    for _ in range(300):
        sim.run(10 * MS)
        phases.add(sim.client.tunnel.links[0].pacer.phase)
    assert Phase.DRAIN in phases
    assert Phase.COMPETE not in phases
