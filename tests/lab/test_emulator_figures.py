"""The emulator measured from outside, through real sockets: rate, delay, queue, loss, jitter, cut, and changes.

Bounds are those of a busy machine: a rate is the usual one of its tenths of a second, so that a moment in which the
machine did something else does not count, and is bounded tightly; single packets are bounded generously.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import pytest

from mlvpn.errors import SystemFailure
from mlvpn.lab.measure import EchoProbes, PacketWatch, TcpTransfer, UdpStream
from mlvpn.lab.topology import Lab, LinkSpec

pytestmark = pytest.mark.root

MS = 1_000_000
PAYLOAD_BYTES = 1200
PACKET_BYTES = PAYLOAD_BYTES + 28
LINKS = (
    LinkSpec("slow", rate_bps=20_000_000, delay_ns=10 * MS, buffer_ns=50 * MS, up={"rate_bps": 4_000_000}),
    LinkSpec("lossy", delay_ns=5 * MS, loss_ratio=0.05),
    LinkSpec("shaky", delay_ns=30 * MS, jitter_ns=10 * MS),
    LinkSpec("other", rate_bps=50_000_000, delay_ns=20 * MS),
    LinkSpec("wire", ipv6=False),
    LinkSpec("bucket", rate_bps=20_000_000, buffer_ns=50 * MS, token_bucket=True),
)


def usual_rate_bps(interval_bytes: Sequence[int], wire_bytes: int) -> float:
    """Median rate of tenths of a second whose payloads of PAYLOAD_BYTES are `wire_bytes` each on the wire."""
    return statistics.median(interval_bytes) * 80 * wire_bytes / PAYLOAD_BYTES


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(LINKS) as built:
        yield built


@pytest.mark.parametrize(("direction", "rate_bps"), [("down", 20_000_000), ("up", 4_000_000)])
def test_the_rate_is_that_of_ip_packets_and_the_queue_is_as_long_as_ordered(
    lab: Lab, direction: str, rate_bps: int
) -> None:
    sender, receiver = (lab.server, lab.client) if direction == "down" else (lab.client, lab.server)
    address = lab.address(receiver.name, "slow")
    report = UdpStream(
        sender, receiver, address, seconds=2.0, rate_bps=rate_bps * 3 // 2, size_bytes=PAYLOAD_BYTES
    ).wait()
    assert usual_rate_bps(report.interval_bytes[5:20], PACKET_BYTES) == pytest.approx(rate_bps, rel=0.03)
    assert report.latency_ms(75) == pytest.approx(10 + 50, abs=30)
    assert report.late == report.duplicates == 0
    assert report.lost == lab.emulator.counters()[f"slow/{direction}"]["dropped_queue_packets"]


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_token_bucket_has_its_rate_and_its_queue(lab: Lab, direction: str) -> None:
    sender, receiver = (lab.server, lab.client) if direction == "down" else (lab.client, lab.server)
    report = UdpStream(
        sender, receiver, lab.address(receiver.name, "bucket"), seconds=2.0, rate_bps=30_000_000, size_bytes=1200
    ).wait()
    assert usual_rate_bps(report.interval_bytes[5:20], PACKET_BYTES + 14) == pytest.approx(20_000_000, rel=0.03)
    assert report.latency_ms(75) == pytest.approx(50, abs=30)


def test_tcp_fills_the_link(lab: Lab) -> None:
    report = TcpTransfer(lab.server, lab.client, lab.address("client", "other"), seconds=3).wait()
    assert statistics.median(report.interval_bytes[15:]) * 80 == pytest.approx(50_000_000 * 1448 / 1500, rel=0.03)
    assert report.broken_flows == 0
    assert lab.emulator.counters()["other/down"]["missed_frames"] == 0


@pytest.mark.parametrize("family", [4, 6])
def test_the_delay_of_an_idle_link(lab: Lab, family: int) -> None:
    report = EchoProbes(lab.client, lab.address("server", "other", family), seconds=1).wait()
    assert report.percentile_ms(10) == pytest.approx(40, abs=2.0)
    assert report.percentile_ms(1) > 39.5
    assert report.lost == 0


def test_loss_is_as_ordered_and_all_of_it_is_counted(lab: Lab) -> None:
    address = lab.address("client", "lossy")
    report = UdpStream(lab.server, lab.client, address, seconds=1.5, rate_bps=1_600_000, size_bytes=100).wait()
    assert report.sent == 3000
    assert 0.035 < report.loss_ratio < 0.065
    assert 0 <= lab.emulator.counters()["lossy/down"]["dropped_loss_packets"] - report.lost <= 10  # the last words


def test_jitter_wanders_within_its_bounds_and_reorders_nothing(lab: Lab) -> None:
    address = lab.address("client", "shaky")
    report = UdpStream(lab.server, lab.client, address, seconds=1.5, rate_bps=1_600_000, size_bytes=100).wait()
    assert report.late == report.lost == 0
    assert 20 <= report.latency_ms(1) < 32
    assert 34 < report.latency_ms(95) < 60


def test_a_cut_is_silent_and_heals(lab: Lab) -> None:
    probes = EchoProbes(lab.client, lab.address("server", "other"), seconds=1.5)
    watch = PacketWatch(lab.client, "other")
    time.sleep(0.5)
    lab.emulator.cut("other")
    assert "state UP" in lab.client.run(["ip", "link", "show", "dev", "other"])
    time.sleep(0.4)
    lab.emulator.heal("other")
    report = probes.wait()
    assert 390 < report.longest_gap_ms() < 700
    seen = watch.stop()
    assert seen.longest_gap_ns / MS == pytest.approx(report.longest_gap_ms(), abs=30)
    assert 20 < seen.packets < 60
    assert 18 <= report.lost <= 35
    dropped = sum(lab.emulator.counters()[f"other/{way}"]["dropped_cut_packets"] for way in ("up", "down"))
    assert dropped == report.lost


def test_a_link_changes_while_it_runs(lab: Lab) -> None:
    lab.emulator.configure("other", "down", rate_bps=8_000_000, delay_ns=50 * MS)
    try:
        report = UdpStream(
            lab.server,
            lab.client,
            lab.address("client", "other"),
            seconds=1.5,
            rate_bps=12_000_000,
            size_bytes=PAYLOAD_BYTES,
        ).wait()
    finally:
        lab.emulator.configure("other", "down", rate_bps=50_000_000, delay_ns=20 * MS)
    assert usual_rate_bps(report.interval_bytes[3:13], PACKET_BYTES) == pytest.approx(8_000_000, rel=0.02)
    assert report.latency_ms(0) > 50


def test_the_series_adds_up_to_the_counters(lab: Lab) -> None:
    time.sleep(0.15)  # the sample that holds what came last
    total = sum(
        sample["delivered_bytes"]
        for sample in lab.emulator.series()
        if (sample["link"], sample["direction"]) == ("slow", "down")
    )
    assert total == lab.emulator.counters()["slow/down"]["delivered_bytes"]


def test_unplugging_takes_the_carrier_and_keeps_the_addresses(lab: Lab) -> None:
    lab.set_carrier("client", "other", up=False)
    shown = lab.client.run(["ip", "addr", "show", "dev", "other"])
    assert "NO-CARRIER" in shown and lab.address("client", "other") in shown
    lab.set_carrier("client", "other", up=True)
    assert EchoProbes(lab.client, lab.address("server", "other"), seconds=0.1).wait().lost == 0


def test_an_unshaped_link_is_a_wire(lab: Lab) -> None:
    report = EchoProbes(lab.client, lab.address("server", "wire"), seconds=0.4).wait()
    assert report.percentile_ms(50) < 1
    assert "wire/up" not in lab.emulator.counters()


def test_what_the_emulator_cannot_do_is_refused_in_words(lab: Lab) -> None:
    with pytest.raises(SystemFailure, match="no link 'none'"):
        lab.emulator.cut("none")
    with pytest.raises(SystemFailure, match="between 0 and 1"):
        lab.emulator.configure("slow", loss_ratio=2)
    with pytest.raises(SystemFailure, match="emulated=True"):
        lab.set_carrier("client", "wire", up=False)
