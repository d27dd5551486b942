"""MLVPN's own answers, byte for byte as captured from the C daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlvpn.config import parse
from mlvpn.monitor import legacy

CAPTURES = Path(__file__).parent / "captures"
NOW_S = 1795352836.5


def link(name: str, number: int, **values: object) -> dict[str, Any]:
    text = (
        f'[general]\nmode = "client"\npassword = "long enough"\ntimeout = 10\n[{name}]\nbindhost = "10.3.{number}.1"\n'
    )
    config = parse(text + f'remotehost = "10.3.{number}.2"\nremoteport = {5080 + number}\n', "client.conf")
    return {"name": name, "state": "up", "local": "10.3.1.1:1", **legacy.link_settings(config.links[0]), **values}


def document() -> dict[str, Any]:
    """The status document of the daemon at the moment of the capture."""
    first = {"sent_datagrams": 9, "received_datagrams": 8, "sent_bytes": 3186, "received_bytes": 1814, "rtt_ms": 0.4}
    second = {"sent_datagrams": 8, "received_datagrams": 9, "sent_bytes": 570, "received_bytes": 1942, "rtt_ms": 11.9}
    return {
        "schema": 1,
        "name": "cli",
        "mode": "client",
        "pid": 0,
        "started": "2026-11-22T13:07:10+00:00",
        "last_reload": "2026-11-22T13:07:10+00:00",
        "interface": {"name": "mlvpn0", "kind": "tun"},
        "links": [
            link("link1", 1, loss_ratio=0.0, disconnects=0, last_heard_s=2.3, **first),
            link("link2", 2, loss_ratio=None, last_heard_s=0.9, **second),
        ],
    }


def captured_body(name: str) -> str:
    return (CAPTURES / name).read_text().split("\n\n\n", 1)[1]


def only_tunnel(**values: object) -> dict[str, Any]:
    changed = document()
    changed["links"] = [{**changed["links"][0], **values}]
    tunnel: dict[str, Any] = json.loads(legacy.status(changed, NOW_S))["tunnels"][0]
    return tunnel


def test_status_is_the_captured_text() -> None:
    assert legacy.status(document(), NOW_S) == captured_body("mlvpn2-status.txt")


def test_metrics_are_the_captured_text() -> None:
    assert legacy.metrics(document(), NOW_S) == captured_body("mlvpn2-metrics.txt")


@pytest.mark.parametrize(
    ("state", "word", "metric"),
    [("up", "connected", "connected"), ("lossy", "lossy link", "lossy"), ("slow", "slow link", "slow")],
)
def test_states_have_mlvpns_words(state: str, word: str, metric: str) -> None:
    assert only_tunnel(state=state)["status"] == word
    changed = document()
    changed["links"][0]["state"] = state
    lines = legacy.metrics(changed, NOW_S).splitlines()
    ones = [line for line in lines if line.endswith('{tunnel="link1"} 1')]
    assert ones == [f'{metric}{{tunnel="link1"}} 1']


def test_a_link_that_is_down_waits_for_its_peer_or_is_disconnected() -> None:
    assert only_tunnel(state="down")["status"] == "waiting peer"
    assert only_tunnel(state="down", local=None)["status"] == "disconnected"


def test_values_mean_what_mlvpn_means() -> None:
    tunnel = only_tunnel(
        rtt_ms=None, last_heard_s=None, loss_ratio=29 / 64, bandwidth_upload_bps=8_000_000, disconnects=3
    )
    assert tunnel["srtt"] == 1000
    assert tunnel["last_packet"] == 1795352830
    assert tunnel["loss"] == 45
    assert tunnel["bandwidth"] == 1_000_000
    assert tunnel["disconnects"] == 3


def test_a_server_without_addresses_shows_empty_strings() -> None:
    tunnel = only_tunnel(bindhost=None, bindport=5081, remotehost=None, remoteport=None)
    assert [tunnel[key] for key in ("bindaddr", "bindport", "destaddr", "destport")] == ["", "5081", "", ""]


def test_a_name_with_quotes_breaks_nothing() -> None:
    assert only_tunnel(name='a"b\\')["name"] == 'a"b\\'


def test_no_links_are_valid_json() -> None:
    empty = {**document(), "links": []}
    assert json.loads(legacy.status(empty, NOW_S))["tunnels"] == []


def test_the_error_is_valid_json() -> None:
    assert json.loads(legacy.UNKNOWN_COMMAND) == {"error": "unknown command"}
