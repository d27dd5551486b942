"""bandwidth_upload in the native tunnel: a ceiling of one link, and nothing to any other."""

from __future__ import annotations

import dataclasses

import pytest

from sim.simulator import MS, SECOND, Simulator, sim_link, udp_frame


@pytest.mark.parametrize(("ceiling_bps", "least_bps", "most_bps"), [(4_000_000, 3.2e6, 4.4e6), (0, 8e6, 25e6)])
def test_a_link_never_sends_faster_than_its_bandwidth_upload(
    ceiling_bps: int, least_bps: float, most_bps: float
) -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS)])
    config = sim.config("client")
    limited = dataclasses.replace(config.links[0], bandwidth_upload_bps=ceiling_bps)
    sim.client.tunnel.reconfigure(dataclasses.replace(config, links=(limited,)), sim.now_ns)
    sim.run(SECOND)
    before_bytes = sim.links["a"].up.carried_bytes
    for number in range(4000):  # 4 s of 11 Mbit/s
        sim.client.submit([udp_frame(number)])
        sim.run(MS)
    assert least_bps < (sim.links["a"].up.carried_bytes - before_bytes) * 8 / 4 < most_bps
