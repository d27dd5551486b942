"""The lab's arithmetic: percentiles, rates, gaps, sequence counts, echo packets, and whose namespaces are left over."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mlvpn.errors import PermissionDeniedError
from mlvpn.lab.daemons import Tunnel, section_text, write_private
from mlvpn.lab.host import leftovers
from mlvpn.lab.measure import EchoReport, TcpReport, percentile
from mlvpn.lab.topology import Lab, LinkSpec
from mlvpn.lab.traffic.echo import checksum, parse_reply, request
from mlvpn.lab.traffic.meter import INTERVAL_NS, Meter
from mlvpn.lab.traffic.udp import Stream

MS = 1_000_000


def test_percentiles() -> None:
    values = list(range(1, 101))
    assert [percentile(values, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([3.0], 99) == 3.0
    assert math.isnan(percentile([], 50))


def test_a_tcp_report_rates_a_part_and_finds_when_a_rate_was_reached() -> None:
    report = TcpReport(3.0, 1, 0, 0, 0, 0, 0, tuple([0] * 10 + [125_000] * 20))
    assert report.rate_bps() == pytest.approx(20 / 30 * 10e6)
    assert report.rate_bps(first_s=1) == pytest.approx(10e6)
    assert report.rate_bps(1, 2) == pytest.approx(10e6)
    assert report.seconds_to_reach(9e6) == pytest.approx(1.9)
    assert math.isnan(report.seconds_to_reach(11e6))


def test_an_echo_report_counts_late_probes_as_late_and_lost_ones_as_lost() -> None:
    probes = [(n * 20 * MS, 10 * MS) for n in range(5)] + [(100 * MS, None), (120 * MS, 90 * MS)]
    report = EchoReport(tuple(probes))
    assert report.lost == 1
    assert report.percentile_ms(100) == 90
    assert report.longest_gap_ms() == 210 - 90


def test_a_meter_reports_every_interval_and_the_longest_silence(capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter()
    for at_ms, size_bytes in ((1, 10), (50, 20), (450, 30)):
        meter.count(size_bytes, at_ms * MS)
    summary = meter.summary(500 * MS)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["bytes"] for line in lines] == [30, 0, 0, 0]
    assert lines[0]["t_ns"] == 1 * MS + INTERVAL_NS
    assert (summary["longest_gap_ns"], summary["gap_at_ns"], summary["total_bytes"]) == (400 * MS, 50 * MS, 60)


def test_a_silence_until_the_end_counts() -> None:
    meter = Meter()
    meter.count(1, 10 * MS)
    assert meter.summary(70 * MS)["longest_gap_ns"] == 60 * MS


def test_a_stream_tells_lost_late_and_double_apart() -> None:
    stream = Stream()
    for number in (0, 1, 3, 2, 3, 5):
        stream.count(number, 7)
    summary = stream.summary()
    assert (summary["sent"], summary["received"], summary["lost"]) == (6, 5, 1)
    assert (summary["late"], summary["duplicates"]) == (1, 1)
    stream.sent = 10
    assert stream.summary()["lost"] == 5


def test_the_internet_checksum_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF
    assert checksum(b"\x01") == ~0x0100 & 0xFFFF


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_echo_reply_is_recognised_by_its_identifier(family: socket.AddressFamily) -> None:
    asked = request(family, 77, 5, 64)
    assert checksum(asked) == 0
    header = b"\x45".ljust(20, b"\0") if family == socket.AF_INET else b""
    answered = header + bytes([0 if family == socket.AF_INET else 129]) + asked[1:]
    reply = parse_reply(family, 77, answered)
    assert reply is not None and reply[0] == 5
    assert parse_reply(family, 78, answered) is None
    assert parse_reply(family, 77, header + asked) is None
    assert parse_reply(family, 77, answered[: len(header) + 20]) is None
    assert parse_reply(family, 77, b"") is None


def test_only_namespaces_of_dead_labs_are_left_over() -> None:
    dead = 2**22 + 1  # above the largest process id Linux gives
    names = [f"mlvpnlab-{dead}-1-wan", f"mlvpnlab-{os.getpid()}-1-wan", "mlvpnlab-x-1-wan", f"other-{dead}-1-wan"]
    assert leftovers(names) == [f"mlvpnlab-{dead}-1-wan"]


def test_a_tunnel_writes_what_mlvpn_reads(tmp_path: Path) -> None:
    lab = Lab([LinkSpec("dsl"), LinkSpec("lte")], directory=tmp_path)
    tunnel = Tunnel(
        lab, links=["lte"], general={"timeout": "5s"}, link_settings={"lte": {"fallback_only": 1}}, number=2
    )
    client, server = tunnel.config_text("client"), tunnel.config_text("server")
    assert '[lte]\nbindhost = "10.77.2.1"\nremotehost = "10.77.2.2"\nremoteport = 5281\nfallback_only = 1\n' in client
    assert '[lte]\nbindhost = "10.77.2.2"\nbindport = 5281\nfallback_only = 1\n' in server
    assert "[dsl]" not in client
    for line in ('mode = "client"', 'interface_name = "mlvpn2"', 'timeout = "5s"', 'ip4 = "10.99.2.1/24"'):
        assert line in client.splitlines()


def test_settings_are_written_in_mlvpns_syntax() -> None:
    assert section_text("general", {"mode": "server", "mtu": 1400}) == '[general]\nmode = "server"\nmtu = 1400\n'


def test_secrets_are_written_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("open to all")
    path.chmod(0o644)
    write_private(path, "secret", 0o600)
    assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, "secret")


def test_without_root_the_lab_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionDeniedError, match="sudo"), Lab([LinkSpec("a")]):
        pass


def test_links_must_have_usable_and_different_names() -> None:
    with pytest.raises(ValueError, match="letters, digits or hyphens"):
        LinkSpec("a/b")
    with pytest.raises(ValueError, match="same name"):
        Lab([LinkSpec("a"), LinkSpec("a")])


def test_only_links_that_need_it_are_emulated() -> None:
    assert not LinkSpec("a").is_emulated
    assert LinkSpec("a", up={"loss_ratio": 0.1}).is_emulated
    assert LinkSpec("a", emulated=True).is_emulated
    assert not LinkSpec("a", rate_bps=1_000_000, token_bucket=True).is_emulated


@pytest.mark.parametrize(
    "more", [{"delay_ns": 1}, {"up": {"rate_bps": 5}}, {"down": {"loss_ratio": 0.1}}, {"emulated": True}]
)
def test_a_token_bucket_is_refused_what_it_cannot_do(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="link a: a token bucket has one rate"):
        LinkSpec("a", rate_bps=1_000_000, token_bucket=True, **more)
    with pytest.raises(ValueError, match="token bucket"):
        LinkSpec("a", token_bucket=True)
