"""What may be sent leaves in parts, each stamped with the time at which it was asked for."""

from __future__ import annotations

import struct

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
