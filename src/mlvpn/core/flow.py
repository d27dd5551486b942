"""One inner flow: its packets, how much it asks for, and what CoDel and the equaliser know of it.

Owns whether it is sparse or bulk. Does not own its turn (`queue`), its drops (`codel`) or its hold (`equaliser`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mlvpn.core.packet import Packet
from mlvpn.units import NS_PER_MS

SPARSE_WINDOW_NS: Final = 100 * NS_PER_MS
SPARSE_BYTES: Final = 4000
"""A flow that brings no more than this in a window is sparse: voice, games, ssh, DNS, pings, the start of anything."""
BULK_BYTES: Final = 512 << 10
"""A flow that has sent this much without a pause is bulk."""


class Flow:
    """One inner flow: its packets, its CoDel state, and how much it has been asking for."""

    __slots__ = (
        "awaited",
        "backlog_bytes",
        "bounded",
        "busy_bytes",
        "codel_count",
        "codel_dropping",
        "codel_next_ns",
        "cut_ns",
        "deficit_bytes",
        "first_above_ns",
        "grown_ns",
        "hold_ns",
        "judged_ns",
        "lane",
        "largest_flight_bytes",
        "last_ns",
        "listed",
        "packets",
        "pin",
        "quiet_ns",
        "rate_bps",
        "rate_bytes",
        "settles",
        "short",
        "usual_hold_ns",
        "waited_byte_ns",
        "window_bytes",
        "window_ns",
    )

    def __init__(self) -> None:
        self.packets: deque[Packet] = deque()
        self.pin = ""
        """The link that a filter chose for all of it; empty: none did."""
        self.backlog_bytes = 0
        self.lane = 0
        self.listed = False
        self.deficit_bytes = 0
        self.last_ns = 0
        self.window_ns = 0
        self.window_bytes = 0
        self.busy_bytes = 0
        self.first_above_ns = 0
        self.codel_dropping = False
        self.codel_next_ns = 0
        self.codel_count = 0
        self.cut_ns: int | None = None
        """When last a packet of it was dropped or marked."""
        # Of the equaliser: how much delay the flow bears, and what tells.
        self.hold_ns = 0
        self.largest_flight_bytes = 0.0
        self.grown_ns = 0
        """When it last had clearly more in flight than ever."""
        self.bounded = False
        """Its window cannot grow into the hold it would take."""
        self.quiet_ns = 0
        """When last it made a pause; at first when it began."""
        self.awaited = False
        """It is held longer than usual because BBR is about to measure its least round trip."""
        self.usual_hold_ns = 0
        """Its hold before that."""
        self.settles = False
        """The hold has just changed, so what is measured is not yet its effect."""
        self.judged_ns = 0
        self.short = False
        self.rate_bytes = 0
        self.waited_byte_ns = 0
        self.rate_bps = 0.0

    @property
    def bulk(self) -> bool:
        return self.busy_bytes > BULK_BYTES and not self.pin

    def note_arrival(self, size: int, now_ns: int) -> bool:
        """Account for an arriving packet; return whether the flow is sparse, so that this packet may overtake."""
        self.last_ns = now_ns
        self.busy_bytes += size
        if now_ns - self.window_ns > SPARSE_WINDOW_NS:
            self.window_ns = now_ns
            self.window_bytes = 0
        self.window_bytes += size
        # Once ordered, a flow stays ordered until it has been idle: its packets must not overtake one another.
        return self.lane == 0 and self.window_bytes <= SPARSE_BYTES
