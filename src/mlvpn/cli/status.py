"""``mlvpn status``: how a running tunnel is, for a person or (``--json``) for a program.

Owns the screen only: every figure is the daemon's own, from its versioned snapshot. What the daemon does not know is
shown as a dash.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from mlvpn import units
from mlvpn.cli.connection import ask, control_sockets

DOWN = 1
DEGRADED = 5

_COLOURS = {"up": "green", "down": "red"}
"""All other states are yellow: the link answers, but does not carry its full share (now)."""
_CARRYING = ("up", "lossy", "slow")
_HARMLESS = ("handshake_duplicate", "superseded_packets")
"""Not worth a person's time: the server's answer came over another link too, as it does whenever there are several; and
of the acknowledgements of fast traffic the last says it all."""

Snapshot = dict[str, Any]


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="The daemon's snapshot, one JSON document per tunnel and line.")
@click.option("--exit-code", is_flag=True, help="Exit with 5 when a link is not up, with 1 when none is.")
def status(name: str | None, as_json: bool, exit_code: bool) -> None:
    """Show a running tunnel, or all of them: its links, their state and why, rates, loss, and what was dropped."""
    snapshots = [ask(path, "status") for path in control_sockets(name)]
    console = Console(highlight=False)
    for snapshot in snapshots:
        if as_json:
            click.echo(json.dumps(snapshot))
        else:
            show(snapshot, console)
    if exit_code:
        sys.exit(max(map(health, snapshots)) if DOWN not in map(health, snapshots) else DOWN)


def health(snapshot: Snapshot) -> int:
    """Return 0 when every link is up, DEGRADED when some are, DOWN when none is."""
    up = [link["state"] == "up" for link in snapshot["links"]]
    if all(up):
        return 0
    return DEGRADED if any(link["state"] in _CARRYING for link in snapshot["links"]) else DOWN


def show(snapshot: Snapshot, console: Console) -> None:
    """Show one tunnel."""
    console.print(_headline(snapshot))
    for label, text in _facts(snapshot):
        console.print(Text.assemble((f"  {label:<8}", "dim"), text), soft_wrap=True)
    for line in _links(snapshot["links"]):
        console.print(line, soft_wrap=True)
    drops = {**snapshot.get("drops", {}), **_device_drops(snapshot)}
    for cause, count in drops.items():
        if count and cause not in _HARMLESS:
            console.print(Text.assemble(("  dropped ", "dim"), (f"{count} ", "yellow"), cause.replace("_", " ")))
    console.print()


def _headline(snapshot: Snapshot) -> Text:
    up = sum(link["state"] in _CARRYING for link in snapshot["links"])
    total = len(snapshot["links"])
    colour = "green" if up == total else "yellow" if up else "red"
    state = f"{up} of {total} links up" if up else "down: no link is up"
    return Text.assemble((snapshot["name"], "bold"), "  ", (state, colour))


def _facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return the lines above the table: label and text."""
    cipher = f", {snapshot['cipher']}" if snapshot.get("cipher") else ""
    interface = snapshot["interface"]
    offloads = f"offloads {' '.join(interface['offloads'])}" if interface["offloads"] else interface["plain_because"]
    session = _seconds(snapshot.get("session_age_s"))
    heard = _seconds(snapshot.get("last_heard_s"))
    uptime = _seconds(snapshot["uptime_s"])
    because = snapshot.get("interpreted_because")
    return [
        ("tunnel", f"{snapshot['mode']}, protocol {snapshot['protocol']}{cipher}, running for {uptime}"),
        ("peer", f"authenticated for {session}, heard {heard} ago" if heard != "-" else "not heard yet"),
        ("device", f"{interface['name']} ({interface['kind']}), MTU {interface['mtu_bytes']}, {offloads}"),
        ("queue", _queue(snapshot)),
        *_bulk(snapshot),
        *([("modules", f"interpreted: {because}")] if because else []),
    ]


def _queue(snapshot: Snapshot) -> str:
    waiting_bytes = snapshot.get("queue_bytes", 0)
    if not waiting_bytes:
        return "empty"
    return f"{units.format_size_bytes(waiting_bytes)}, {_milliseconds(snapshot.get('queue_ms') or 0)}"


def _bulk(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Say what becomes of flows that may use links of any delay; nothing while there are none."""
    flows, bounded, held_ms = (snapshot.get(key) or 0 for key in ("bulk_flows", "bounded_flows", "equalise_ms"))
    lines = []
    if flows:
        few = f", {bounded} with a window too small for all links" if bounded else ""
        lines.append(("bulk", f"sending {flows} flow{'s' * (flows > 1)}{few}"))
    if held_ms:
        lines.append(("held", f"received bulk by up to {_milliseconds(held_ms)}, so that all links take equally long"))
    return lines


def _milliseconds(value_ms: float) -> str:
    return units.format_duration_ns(round(value_ms * units.NS_PER_MS))


_COLUMNS: list[tuple[str, int, str, Callable[[Any], str]]] = [
    ("rtt", 8, "rtt_ms", _milliseconds),
    ("loss", 7, "loss_ratio", units.format_ratio),
    ("sending", 12, "sent_bps", units.format_rate_bps),
    ("receiving", 12, "received_bps", units.format_rate_bps),
    ("sent", 8, "sent_bytes", units.format_size_bytes),
    ("received", 9, "received_bytes", units.format_size_bytes),
]
"""Header, width, key of the snapshot, how to show it; together with the name and the state less than 80 columns."""


def _links(links: list[Snapshot]) -> list[Text]:
    """Return two lines per link, figures and remarks, under one line of headers."""
    width = max([len(link["name"]) for link in links] + [4])
    headers = "".join(f"{header:>{wide}}" for header, wide, _, _ in _COLUMNS)
    lines = [Text(f"  {'link':<{width}}  {'state':<7}{headers}", "dim")]
    for link in links:
        figures = "".join(f"{_figure(link, key, form):>{wide}}" for _, wide, key, form in _COLUMNS)
        state = (f"{link['state']:<7}", _COLOURS.get(link["state"], "yellow"))
        lines.append(Text.assemble(f"  {link['name']:<{width}}  ", state, figures))
        lines += [Text(f"  {'':<{width}}  {remark}", "dim") for remark in _remarks(link)]
    return lines


def _remarks(link: Snapshot) -> list[str]:
    addresses = " to ".join(link[end] for end in ("local", "remote") if link.get(end))
    bound = "" if link.get("capacity_is_measured", True) else "at least "  # it has not been full yet
    path = (
        [f"capacity {bound}{_figure(link, 'capacity_bps', units.format_rate_bps)}"] if link.get("capacity_bps") else []
    )
    path += [f"queue {_figure(link, 'queue_ms', _milliseconds)}"] if link.get("queue_ms") else []
    path += [f"the peer reads {_figure(link, 'peer_wait_ms', _milliseconds)} late"] if link.get("peer_wait_ms") else []
    path += [f"MTU {link['mtu_bytes']}"] if link.get("rtt_ms") and link.get("mtu_bytes") else []  # else only assumed
    path += ["fallback only"] if link.get("fallback_only") else []
    return [remark for remark in (link.get("reason"), addresses, ", ".join(path)) if remark]


def _device_drops(snapshot: Snapshot) -> dict[str, int]:
    """Return the drops of the device and of the links' sockets, under names that say whose they are."""
    drops = {
        f"device {name[8:]}": n for name, n in snapshot["interface"]["counters"].items() if name.startswith("dropped_")
    }
    for link in snapshot["links"]:
        counters = (link.get("socket") or {}).get("counters", {})
        drops |= {f"{link['name']} {name[8:]}": n for name, n in counters.items() if name.startswith("dropped_")}
        drops[f"{link['name']} send buffer full"] = counters.get("link_send_buffer_full", 0)
        drops[f"{link['name']} without a socket"] = link.get("unsent_datagrams", 0)
    return drops


def _figure(link: Snapshot, key: str, form: Callable[[Any], str]) -> str:
    value = link.get(key)
    return "-" if value is None else form(value)


def _seconds(value_s: float | None) -> str:
    return "-" if value_s is None else units.format_duration_ns(round(value_s * units.NS_PER_S))
