"""CoDel on one flow (RFC 8289, section 5): tell its sender early, by how long its packets wait, that it sends too much.

    head waits for longer than TARGET_NS for INTERVAL_NS -> one packet is marked or dropped, then ever more often

Owns drops and marks. Does not own flows (`queue`) or how a mark is made (`ecn`).
"""

from __future__ import annotations

from math import sqrt
from typing import Final

from mlvpn.core.counters import TunnelCounters
from mlvpn.core.ecn import mark_congestion
from mlvpn.core.flow import Flow
from mlvpn.units import NS_PER_MS
from mlvpn.wire.frame import Kind

TARGET_NS: Final = 20 * NS_PER_MS
"""Sojourn CoDel tolerates. More than RFC 8289's 5 ms: flows are isolated from each other here, and a lone CUBIC flow
whose queue runs empty after each cut gets only 93 % of the links (docs/bonding.md)."""
INTERVAL_NS: Final = 150 * NS_PER_MS
HOLD_RATIO: Final = 0.4
"""A flow whose lane is held (`equaliser`) may wait by so much of its hold longer, and the interval is longer by all of
it: its round trip is, and CUBIC takes back 0.3 of what is in flight, 0.43 of what is left."""
LEAST_BYTES: Final = 1514
"""One packet that waits is no queue."""


def control(flow: Flow, counters: TunnelCounters, now_ns: int) -> None:
    """Drop or mark at the head of ``flow`` as CoDel says; its backlog is less by what was dropped."""
    above = _above_target(flow, now_ns)
    if flow.codel_dropping:
        if not above:
            flow.codel_dropping = False
        while flow.codel_dropping and now_ns >= flow.codel_next_ns:
            flow.codel_count += 1
            _signal(flow, counters, now_ns)
            if not _above_target(flow, now_ns):
                flow.codel_dropping = False
            flow.codel_next_ns += int((INTERVAL_NS + flow.hold_ns) / sqrt(flow.codel_count))
    elif above:
        _start_dropping(flow, counters, now_ns)


def _start_dropping(flow: Flow, counters: TunnelCounters, now_ns: int) -> None:
    _signal(flow, counters, now_ns)
    flow.codel_dropping = True
    recently = now_ns - flow.codel_next_ns < 16 * INTERVAL_NS
    flow.codel_count = flow.codel_count - 2 if recently and flow.codel_count > 2 else 1
    flow.codel_next_ns = now_ns + int((INTERVAL_NS + flow.hold_ns) / sqrt(flow.codel_count))


def _above_target(flow: Flow, now_ns: int) -> bool:
    if not flow.packets:
        flow.first_above_ns = 0
        return False
    sojourn = now_ns - flow.packets[0].enqueued_ns
    if sojourn < TARGET_NS + HOLD_RATIO * flow.hold_ns or flow.backlog_bytes <= LEAST_BYTES:
        flow.first_above_ns = 0
        return False
    if not flow.first_above_ns:
        flow.first_above_ns = now_ns + INTERVAL_NS + flow.hold_ns
        return False
    return now_ns >= flow.first_above_ns


def _signal(flow: Flow, counters: TunnelCounters, now_ns: int) -> None:
    """Tell the sender of ``flow`` to slow down: mark its head if it understands, else drop one packet of it."""
    flow.cut_ns = now_ns
    packet = flow.packets[0]
    if mark_congestion(packet):
        counters.queue_marked_packets += 1
        return
    counters.queue_dropped_packets += 1
    if packet.kind != Kind.PACKETS and packet.slices > 1:
        packet.offset += packet.slice_bytes
        flow.backlog_bytes -= packet.slice_bytes
    else:
        flow.packets.popleft()
        flow.backlog_bytes -= packet.packet_bytes
