"""A link whose rate follows a trace, and a host behind the client."""

from __future__ import annotations

import statistics

import pytest

from mlvpn.lab.measure import EchoProbes, UdpStream
from mlvpn.lab.topology import LAN_CLIENT, Lab, LinkSpec

pytestmark = pytest.mark.root

MS = 1_000_000


def test_the_rate_follows_the_trace_from_when_it_is_restarted() -> None:
    trace = ((0, 16_000_000), (1000 * MS, 4_000_000))
    with Lab([LinkSpec("lte", rate_bps=16_000_000, buffer_ns=20 * MS, delay_ns=5 * MS, trace=trace)]) as lab:
        lab.emulator.restart_trace("lte")
        report = UdpStream(
            lab.server, lab.client, lab.address("client", "lte"), seconds=2.6, rate_bps=20_000_000, size_bytes=1172
        ).wait()
    tenths = [report.interval_bytes[start : start + 7] for start in (1, 14)]
    rates = [statistics.median(chosen) * 80 * 1200 / 1172 for chosen in tenths]
    assert rates == [pytest.approx(16e6, rel=0.02), pytest.approx(4e6, rel=0.04)]


def test_a_host_behind_the_client_reaches_it() -> None:
    with Lab([LinkSpec("a")], with_lan=True) as lab:
        assert lab.lan is not None
        assert [EchoProbes(lab.lan, address, seconds=0.1).wait().lost for address in LAN_CLIENT] == [0, 0]
