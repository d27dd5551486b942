"""What has passed leaves nothing behind."""

from __future__ import annotations

from bench.core import datagram, super_packet
from memory import kept_blocks
from sim.simulator import MS, SECOND, Simulator, sim_link, udp_frame
from sim.traffic import tcp_frame

BURSTS = 400


def burst(number: int) -> list[bytes]:
    """Return TUN frames of every sort, as one read may bring them."""
    acks = [tcp_frame((number + more) << 20, 0, 40002, False) for more in range(3)]
    segments = [tcp_frame(number * 4 + more, 1000, 40003, False) for more in range(4)]
    small = [datagram(64)] * 3
    return [super_packet(12), *acks, *segments, *small, udp_frame(number, 300), udp_frame(number, 1200, port=1001)]


def test_traffic_over_bad_links_leaves_nothing() -> None:
    sim = Simulator(
        [
            sim_link("a", 100e6, 10 * MS, loss_ratio=0.02, reorder_ratio=0.02),
            sim_link("b", 40e6, 30 * MS, loss_ratio=0.01, jitter_ns=5 * MS),
        ]
    )

    def pass_traffic() -> None:
        for number in range(BURSTS):
            sim.client.submit(burst(number))
            sim.server.submit(burst(number))
            sim.run(5 * MS)
        sim.run(4 * SECOND)

    assert kept_blocks(pass_traffic) < BURSTS
    assert sim.client.tunnel.counters.delivered_packets > 10 * BURSTS
