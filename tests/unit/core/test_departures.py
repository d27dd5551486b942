"""What may be sent leaves in parts, each stamped with the time at which it was asked for."""

from __future__ import annotations

import struct

import pytest

from mlvpn.core.run import JOINED_BYTES
from mlvpn.core.sender import PUMP_TRAINS
from mlvpn.wire.header import ts_us
from sim.simulator import MS, SECOND, Simulator, sim_link, udp_frame

TS = struct.Struct(">12xI")
FLOWS = 30


def test_many_runs_leave_in_parts_with_their_own_time_stamps() -> None:
    sim = Simulator([sim_link("a", 900e6, 5 * MS)])
    sim.run(SECOND)
    core = sim.client.tunnel
    pacer = core.links[0].pacer
    core.submit([udp_frame(number, port=flow) for flow in range(FLOWS) for number in range(9)], sim.now_ns)
    parts = []
    while not parts or parts[-1]:
        pacer.pace_bps, pacer.flight_limit_bytes = 1e12, 1e9
        now_ns = sim.now_ns + (len(parts) + 1) * MS
        parts.append(core.take_sends(now_ns))
        assert {TS.unpack_from(train.data)[0] for train in parts[-1]} <= {ts_us(now_ns)}
    sizes = list(map(len, parts))
    assert len(sizes) > 4
    assert sizes[1:-2] == [PUMP_TRAINS] * len(sizes[1:-2]), "only the first, with what is sparse, may be longer"
    assert core.sender.queue.backlog_bytes == 0


@pytest.mark.parametrize(("links", "datagrams"), [(1, 1), (16, 6)])
def test_the_more_links_there_are_the_longer_is_a_turn(links: int, datagrams: int) -> None:
    sim = Simulator([sim_link(f"l{number}", 20e6, 5 * MS) for number in range(links)])
    sim.run(SECOND)
    core = sim.client.tunnel
    core.submit([udp_frame(0), udp_frame(1)], sim.now_ns)
    core.take_sends(sim.now_ns)  # what is sparse needs no credit
    core.submit([udp_frame(number) for number in range(2, 200)], sim.now_ns)
    for link in core.links:
        link.pacer.pace_bps, link.pacer.flight_limit_bytes = 20e6, 1e9
        link.pacer.spend(int(link.pacer.tokens_bytes(sim.now_ns)) - 1)
    trains = [train for taken in iter(lambda: core.take_sends(sim.now_ns), []) for train in taken]
    turns = [len(train.data) // train.datagram_bytes for train in trains]
    assert turns == [datagrams] * links
    assert all(link.pacer.tokens_bytes(sim.now_ns) < 0 for link in core.links), "on credit"


def test_runs_of_one_link_that_leave_together_are_one_train() -> None:
    sim = Simulator([sim_link("a", 900e6, 5 * MS)])
    sim.run(SECOND)
    core = sim.client.tunnel
    core.links[0].pacer.pace_bps, core.links[0].pacer.flight_limit_bytes = 1e12, 1e9
    core.submit([udp_frame(number, port=flow) for flow in range(6) for number in range(5)], sim.now_ns)
    trains = [train for taken in iter(lambda: core.take_sends(sim.now_ns + MS), []) for train in taken]
    lengths = [len(train.data) // train.datagram_bytes for train in trains]
    assert max(lengths) > 2 * 3, "of one flow there are three, besides those that are sparse"
    assert max(len(train.data) for train in trains[1:]) <= JOINED_BYTES
