"""What a packet's price depends on: the rate, the number of links, and whether sixteen slow ones carry their sum.

Rows of `bench/speed.py`; the figures are CPU time per gigabyte of the daemons of both ends, so that a cost that grows
with time rather than with packets shows at low rates and with many links.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench import load
from bench.systems import Running
from mlvpn.lab.topology import Lab, LinkSpec

RATES_MBPS = (10, 30, 100, 300, 1000)
LINKS = (1, 2, 4, 8, 16)
LINKS_RATE_BPS = 200_000_000
"""All numbers of links carry this, so that only their number differs."""
MANY_LINKS = 16
SLOW_LINKS = (1, MANY_LINKS)
"""What many links carry is compared with one of them."""
SLOW_RATE_BPS = 20_000_000
SLOW_SETTLE_S = 4.0

Figures = Iterator[tuple[str, float]]


def rates(lab: Lab, running: Running, seconds: float) -> Figures:
    """One TCP flow at given rates; the most is a row of bulk TCP."""
    for mbps in RATES_MBPS:
        result = load.bulk(
            running, lab.client, lab.server, down=False, flows=1, seconds=seconds, rate_bps=mbps * 1_000_000
        )
        yield f"TCP at {mbps} Mbit/s, CPU s/GB", result.cpu_s_per_gb
        yield f"TCP at {mbps} Mbit/s, Mbit/s", result.rate_bps / 1e6


def links(lab: Lab, running: Running, seconds: float) -> Figures:
    """One TCP flow at one rate over as many links as the lab has."""
    result = load.bulk(running, lab.client, lab.server, down=False, flows=1, seconds=seconds, rate_bps=LINKS_RATE_BPS)
    yield f"TCP over {len(lab.links)} links at {LINKS_RATE_BPS // 10**6} Mbit/s, CPU s/GB", result.cpu_s_per_gb


def slow_links_lab(count: int) -> Lab:
    """Return a lab with some slow links. The kernel shapes them: an emulator would need a core for itself."""
    return Lab([LinkSpec(f"l{n}", rate_bps=SLOW_RATE_BPS, token_bucket=True) for n in range(1, count + 1)])


def slow_links(lab: Lab, running: Running, seconds: float) -> Figures:
    """TCP over slow links: the share of their sum that comes through as payload, and each daemon's CPU."""
    name = f"{len(lab.links)} x {SLOW_RATE_BPS // 10**6} Mbit/s"
    load.bulk(running, lab.client, lab.server, down=False, flows=4, seconds=SLOW_SETTLE_S)  # learns the links
    cpu_s = [daemon.cpu_seconds() for daemon in running.daemons]
    result = load.bulk(running, lab.client, lab.server, down=False, flows=4, seconds=seconds)
    yield f"{name}: TCP payload / sum of rates", result.rate_bps / (len(lab.links) * SLOW_RATE_BPS)
    for end, daemon, before_s in zip(("sender", "receiver"), running.daemons, cpu_s, strict=False):
        yield f"{name}: {end}'s CPU, share of one core", (daemon.cpu_seconds() - before_s) / seconds
