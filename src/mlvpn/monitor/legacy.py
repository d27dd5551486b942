"""MLVPN 2.x's own `/status` and `/metrics`, made from our snapshot, so that existing scripts and dashboards go on.

Owns the two texts, key by key and line by line as the C daemon prints them (control.c; golden files beside the test).
Does not own sockets, HTTP or our own versioned form.

Kept because consumers rely on it: links newest first, ``uptime`` is the start time, ``name`` is the program's,
``version`` 1.1, round trips of 1000 ms before the first was measured. Mended: an error is valid JSON, a link's name is
escaped, ``pid`` is the daemon's instead of 0, ``bandwidth`` is the configured one in both texts.

Input is the document of the control socket's `status`. Of each link it also reads what ``link_settings`` returns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mlvpn.config import LinkConfig

PROGRAM = "mlvpn"
VERSION = "1.1"
UNMEASURED_RTT_MS = 1000
UNKNOWN_COMMAND = '{"error": "unknown command"}\n'

_STATUS_WORDS = {"up": "connected", "lossy": "lossy link", "slow": "slow link"}
_METRIC_WORDS = {
    "disconnected": "disconnected",
    "waitingpeer": "waiting peer",
    "connected": "connected",
    "lossy": "lossy link",
    "slow": "slow link",
}
_METRIC_NUMBERS = (
    "sentpackets",
    "recvpackets",
    "sentbytes",
    "recvbytes",
    "bandwidth",
    "srtt",
    "loss",
    "disconnects",
    "last_packet",
    "timeout",
)

Document = Mapping[str, Any]


def link_settings(link: LinkConfig) -> dict[str, Any]:
    """Return what these texts show of a link's configuration, to be merged into its part of the status document."""
    return {
        "bindhost": link.bindhost,
        "bindport": link.bindport,
        "remotehost": link.remotehost,
        "remoteport": link.remoteport,
        "timeout_s": link.timeout_ns / 1e9,
        "bandwidth_upload_bps": link.bandwidth_upload_bps,
    }


def status(document: Document, now_epoch_s: float) -> str:
    """Return the answer to `status`; ``now_epoch_s`` is the wall clock."""
    head = {
        "name": PROGRAM,
        "version": VERSION,
        "uptime": _epoch_s(document["started"]),
        "last_reload": _epoch_s(document["last_reload"]),
        "pid": document["pid"],
        "tuntap": {"type": document["interface"]["kind"], "name": document["interface"]["name"]},
    }
    lines = [f'"{key}": {_nested(value)},' for key, value in head.items()]
    tunnels = ",\n".join(_object(tunnel) for tunnel in _tunnels(document, now_epoch_s))
    return "{" + "\n".join(lines) + '\n"tunnels": [\n' + tunnels + "\n]}\n"


def metrics(document: Document, now_epoch_s: float) -> str:
    """Return the answer to `metrics`."""
    lines = [
        f"uptime {_epoch_s(document['started'])}",
        f"last_reload {_epoch_s(document['last_reload'])}",
        f"pid {document['pid']}",
    ]
    for tunnel in _tunnels(document, now_epoch_s):
        label = f"{{tunnel={json.dumps(tunnel['name'])}}}"
        lines += [f"{name}{label} {int(tunnel['status'] == word)}" for name, word in _METRIC_WORDS.items()]
        lines += [f"{name}{label} {tunnel[name]}" for name in _METRIC_NUMBERS]
    return "\n".join(lines) + "\n"


def _tunnels(document: Document, now_epoch_s: float) -> Iterator[dict[str, Any]]:
    """Yield MLVPN's view of each link, the last of the file first."""
    links: Sequence[Document] = document["links"]
    for link in reversed(links):
        heard_s = link["last_heard_s"]
        yield {
            "name": link["name"],
            "mode": document["mode"],
            "bindaddr": link["bindhost"] or "",
            "bindport": _port(link["bindport"]),
            "destaddr": link["remotehost"] or "",
            "destport": _port(link["remoteport"]),
            "status": _status_word(link, document["mode"]),
            "sentpackets": link["sent_datagrams"],
            "recvpackets": link["received_datagrams"],
            "sentbytes": link["sent_bytes"],
            "recvbytes": link["received_bytes"],
            "bandwidth": link["bandwidth_upload_bps"] // 8,
            "srtt": UNMEASURED_RTT_MS if link["rtt_ms"] is None else int(link["rtt_ms"]),
            "loss": int((link["loss_ratio"] or 0) * 100),
            "disconnects": link.get("disconnects", 0),
            "last_packet": _epoch_s(document["started"]) if heard_s is None else int(now_epoch_s - heard_s),
            "timeout": int(link["timeout_s"]),
        }


def _status_word(link: Document, mode: str) -> str:
    """A client that is down and has a socket is asking its peer: MLVPN's "waiting peer"."""
    waits = mode == "client" and link["local"] is not None
    return _STATUS_WORDS.get(link["state"], "waiting peer" if waits else "disconnected")


def _port(port: int | None) -> str:
    return "" if port is None else str(port)


def _epoch_s(rfc3339: str) -> int:
    return int(datetime.fromisoformat(rfc3339).timestamp())


def _nested(value: object) -> str:
    return _object(value) if isinstance(value, Mapping) else json.dumps(value)


def _object(members: Mapping[str, Any]) -> str:
    """Print an object the way MLVPN does: one member a line, indented by three."""
    return "{\n" + ",\n".join(f'   "{key}": {json.dumps(value)}' for key, value in members.items()) + "\n}"
