"""Prometheus exposition: read back by Prometheus's own parser."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_legacy import document

from mlvpn.monitor import exposition

SNAPSHOT: dict[str, Any] = {
    **document(),
    "version": "0.1.0",
    "protocol": "native",
    "cipher": None,
    "session_age_s": None,
    "queue_ms": 12.5,
    "counters": {"submitted_packets": 7, "handshake_agreed": 1},
    "drops": {"handshake_unauthentic": 3},
    "interface": {"name": "mlvpn0", "kind": "tun", "counters": {"dropped_queue_full": 5}},
}
SNAPSHOT["links"][0] |= {"state": "lossy", "socket": {"counters": {"sent_trains": 4}}, "capacity_bps": None}


def read(snapshot: dict[str, Any]) -> tuple[dict[str, Any], dict[tuple[str, str], float]]:
    """Return families by name, and values by name and link ("" without)."""
    families = {family.name: family for family in text_string_to_metric_families(exposition.metrics(snapshot).decode())}
    samples = [sample for family in families.values() for sample in family.samples]
    assert all(sample.labels["tunnel"] == snapshot["name"] for sample in samples)
    return families, {(sample.name, sample.labels.get("link", "")): sample.value for sample in samples}


@pytest.mark.parametrize(
    ("name", "link", "value"),
    [
        ("mlvpn_tunnel_start_time_seconds", "", 1795352830),
        ("mlvpn_tunnel_queue_seconds", "", 0.0125),
        ("mlvpn_tunnel_submitted_packets_total", "", 7),
        ("mlvpn_tunnel_handshake_unauthentic_total", "", 3),
        ("mlvpn_device_dropped_queue_full_total", "", 5),
        ("mlvpn_link_sent_bytes_total", "link1", 3186),
        ("mlvpn_link_sent_bytes_total", "link2", 570),
        ("mlvpn_link_rtt_seconds", "link2", 0.0119),
        ("mlvpn_socket_sent_trains_total", "link1", 4),
    ],
)
def test_each_value_in_prometheus_units(name: str, link: str, value: float) -> None:
    _, values = read(SNAPSHOT)
    assert values[name, link] == pytest.approx(value)


def test_what_is_not_known_has_no_sample() -> None:
    _, values = read(SNAPSHOT)
    names = {name for name, _ in values}
    assert names.isdisjoint({"mlvpn_tunnel_session_age_seconds", "mlvpn_link_capacity_bps"})
    assert ("mlvpn_link_loss_ratio", "link1") in values and ("mlvpn_link_loss_ratio", "link2") not in values


def test_kinds_and_explanations() -> None:
    families, _ = read(SNAPSHOT)
    sent = families["mlvpn_link_sent_bytes"]
    assert (sent.type, sent.documentation) == ("counter", "bytes of UDP payload sent")
    assert families["mlvpn_link_rtt_seconds"].type == "gauge"


def test_a_link_is_in_one_state() -> None:
    families, _ = read(SNAPSHOT)
    states = [(s.labels["link"], s.labels["state"]) for s in families["mlvpn_link_state"].samples if s.value]
    assert states == [("link1", "lossy"), ("link2", "up")]


def test_names_cannot_break_out_of_their_label() -> None:
    name = 'a"b\\c\nmlvpn_evil 1'
    families, _ = read({**SNAPSHOT, "name": name})
    assert "mlvpn_evil" not in families


def test_a_tunnel_without_links_is_no_error() -> None:
    assert b"mlvpn_link_" not in exposition.metrics({**SNAPSHOT, "links": []})
