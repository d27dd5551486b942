"""Prometheus's text format of one tunnel, made from our snapshot.

Owns the names and kinds of metrics. Values, and the explanations of counters, are the snapshot's and the core's: every
counter of the core, the device and the links' sockets is there under its own name, and what the snapshot does not know
(yet) has no sample.

    mlvpn_tunnel_*    of the tunnel; label tunnel
    mlvpn_device_*    of its network interface
    mlvpn_link_*      of a link; labels tunnel, link
    mlvpn_socket_*    of a link's socket

Seconds, bytes and ratios are Prometheus's base units; a rate keeps its bits per second (`_bps`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlvpn.core.counters import LinkCounters, TunnelCounters
from mlvpn.core.mlvpn1.counters import Mlvpn1Counters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("up", "lossy", "slow", "suspect", "probing", "down")
"""Of a link; see `core.interface.LinkSnapshot`."""

_TUNNEL_GAUGES = {
    "session_age_s": ("session_age_seconds", "time since the peer was first authenticated", 1),
    "last_heard_s": ("last_heard_seconds", "time since the peer was heard", 1),
    "queue_bytes": ("queue_bytes", "packets that wait to be sent", 1),
    "queue_ms": ("queue_seconds", "how long the packet sent last had waited", 1e-3),
    "equalise_ms": ("equalise_seconds", "delay of bulk traffic, so that all links bring it after the same time", 1e-3),
    "aggregate_ms": ("aggregate_seconds", "for how long bulk traffic is gathered once in a while", 1e-3),
    "bulk_flows": ("bulk_flows", "flows to the peer that may use links of any delay", 1),
    "bounded_flows": ("bounded_flows", "those whose window is too small for the delay that all links would ask", 1),
    "held_datagrams": ("held_datagrams", "received, waiting for what is missing before them", 1),
    "uptime_s": ("uptime_seconds", "time since the start", 1),
}
_LINK_GAUGES = {
    "rtt_ms": ("rtt_seconds", "round trip, smoothed", 1e-3),
    "rtt_min_ms": ("rtt_min_seconds", "least round trip", 1e-3),
    "jitter_ms": ("jitter_seconds", "how much the round trip varies", 1e-3),
    "loss_ratio": ("loss_ratio", "share of datagrams lost", 1),
    "sent_bps": ("sent_bps", "bits per second sent in the last second", 1),
    "received_bps": ("received_bps", "bits per second received in the last second", 1),
    "capacity_bps": ("capacity_bps", "bits per second that the link is believed to carry", 1),
    "pace_bps": ("pace_bps", "bits per second that are sent at most", 1),
    "queue_ms": ("queue_seconds", "how long a datagram waits in front of the bottleneck", 1e-3),
    "peer_wait_ms": ("peer_wait_seconds", "part of the queue that waits for the peer's processor", 1e-3),
    "flight_bytes": ("flight_bytes", "sent and not yet acknowledged", 1),
    "mtu_bytes": ("mtu_bytes", "largest IP packet known to pass", 1),
    "last_heard_s": ("last_heard_seconds", "time since the peer was heard on this link", 1),
}
"""Field of the snapshot -> end of the metric's name, explanation, factor to its unit."""

_HELP = {
    field.name: field.metadata["help"]
    for counters in (Mlvpn1Counters, LinkCounters, TunnelCounters)
    for field in dataclasses.fields(counters)
}
_LINK_COUNTERS = tuple(field.name for field in dataclasses.fields(LinkCounters))

Document = Mapping[str, Any]


def metrics(document: Document) -> bytes:
    """Return the exposition of a status document."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Tunnel(document))
    return generate_latest(registry)


class _Tunnel(Collector):
    """One snapshot as Prometheus's library wants to be given it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._labels = {"tunnel": str(document["name"])}

    def collect(self) -> Iterator[Metric]:
        document, labels = self._document, self._labels
        started_s = datetime.fromisoformat(document["started"]).timestamp()
        yield _gauge("mlvpn_tunnel_start_time_seconds", "when the daemon started", [(labels, started_s)])
        about = {key: str(document.get(key) or "") for key in ("version", "mode", "protocol", "cipher")}
        yield _gauge("mlvpn_tunnel_info", "what it is; always 1", [({**labels, **about}, 1)])
        yield from _gauges("mlvpn_tunnel", _TUNNEL_GAUGES, [(labels, document)])
        counters = {**document["counters"], **document["drops"]}
        yield from _counters("mlvpn_tunnel", counters, [(labels, counters)])
        device = document["interface"]["counters"]
        yield from _counters("mlvpn_device", device, [(labels, device)])
        yield from self._collect_links()

    def _collect_links(self) -> Iterator[Metric]:
        links = [({**self._labels, "link": str(link["name"])}, link) for link in self._document["links"]]
        states = [({**labels, "state": state}, link["state"] == state) for labels, link in links for state in STATES]
        if states:
            yield _gauge("mlvpn_link_state", "1 for the state that the link is in, else 0", states)
        yield from _gauges("mlvpn_link", _LINK_GAUGES, links)
        yield from _counters("mlvpn_link", _LINK_COUNTERS, links)
        sockets = [(labels, link["socket"]["counters"]) for labels, link in links if link.get("socket")]
        yield from _counters("mlvpn_socket", sockets[0][1] if sockets else (), sockets)


_Samples = list[tuple[dict[str, str], Any]]
"""Labels, and a value or what holds it."""


def _gauges(prefix: str, table: Mapping[str, tuple[str, str, float]], holders: _Samples) -> Iterator[Metric]:
    for key, (name, explanation, factor) in table.items():
        known = [(labels, holder[key] * factor) for labels, holder in holders if holder.get(key) is not None]
        if known:
            yield _gauge(f"{prefix}_{name}", explanation, known)


def _gauge(name: str, explanation: str, samples: _Samples) -> Metric:
    family = GaugeMetricFamily(name, explanation, labels=list(samples[0][0]))
    for labels, value in samples:
        family.add_metric(list(labels.values()), value)
    return family


def _counters(prefix: str, names: Iterable[str], holders: _Samples) -> Iterator[Metric]:
    for name in names:
        known = [(labels, holder[name]) for labels, holder in holders if name in holder]
        if known:
            family = CounterMetricFamily(
                f"{prefix}_{name}", _HELP.get(name, name.replace("_", " ")), labels=list(known[0][0])
            )
            for labels, value in known:
                family.add_metric(list(labels.values()), value)
            yield family
