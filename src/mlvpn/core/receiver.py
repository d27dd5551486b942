"""The receiving half of a tunnel: from authentic datagrams to packets in order, and the feedback the sender lives on.

    opened -> replay window of its link -> the link's record (`feedback`) -> data: `resequencer` | control: the tunnel

Feedback is due a quarter of a round trip after data (10 to 25 ms), sooner where something is missing. It names all
links and is cumulative; copies alternate between the two fastest links, so that no single silence hides the others.

Owns what has arrived and when feedback is due. Does not own sessions, link states or sending (`tunnel`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mlvpn.burst import Opened
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.link import Link
from mlvpn.core.piece import Piece, read_piece
from mlvpn.core.resequencer import Resequencer
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import LinkReport
from mlvpn.wire.header import OVERHEAD_BYTES, TS_MODULUS, signed_us

MIN_FEEDBACK_NS = 10 * NS_PER_MS
MAX_FEEDBACK_NS = 25 * NS_PER_MS
GAP_FEEDBACK_NS = 3 * NS_PER_MS
"""Least time between reports when one says that something is missing."""
IN_USE_NS = 2 * NS_PER_S
"""A link that brought bulk data this lately counts for equalising."""
EQUALISE_MARGIN_NS = 2 * NS_PER_MS
EQUALISE_DECAY = 0.99
"""The common delay falls by this factor per report: no step when a slow link pauses."""
MIN_SPREAD_NS = 3 * NS_PER_MS
"""Links whose delays differ by less need no equalising; the order alone is kept."""
MAX_EQUALISE_NS = 400 * NS_PER_MS


class Receiver:
    """Everything that has come in under one association."""

    def __init__(self, counters: TunnelCounters) -> None:
        self._counters = counters
        self.resequencer = Resequencer(counters)
        self.feedback_due_ns: int | None = None
        self._feedback_sent_ns = 0
        self._reference_us: int | None = None
        self._equalise_ns = 0.0
        """Extra delay of the slowest link in use over the fastest, smoothed."""
        self._fastest_us = 0.0
        self._bulk_ns: dict[int, int] = {}

    def fresh_offsets(self, link: Link, opened: Opened) -> Sequence[int]:
        """Record the lseq of ``opened``; return which of its datagrams had not been received before."""
        window = link.receiver.window
        if window.accept_range(opened.lseq, opened.count):
            return range(opened.count)
        fresh = [i for i in range(opened.count) if window.accept(opened.lseq + i)]
        self._counters.replayed_datagrams += opened.count - len(fresh)
        return fresh

    def on_data(self, link: Link, opened: Opened, fresh: Sequence[int], arrival_ns: int, now_ns: int) -> None:
        """Take the ``fresh`` datagrams of ``opened``; raise PeerError if it is malformed."""
        piece = read_piece(opened)
        if len(fresh) == opened.count:
            parts = [(opened.lseq, piece)]
        else:
            parts = [(opened.lseq + i, piece.part(i, 1)) for i in fresh]
        datagram_bytes = piece.wire_bytes // piece.count
        for lseq, part in parts:
            size = piece.wire_bytes if part is piece else datagram_bytes
            relative_us = self._record(link, lseq, part.count, opened.ts_us, size, arrival_ns)
            self._order(link, part, relative_us, arrival_ns, now_ns)
        if self.feedback_due_ns is None:
            self.feedback_due_ns = now_ns + self._interval_ns(link)
        if link.receiver.gap_unreported:
            self.feedback_due_ns = min(self.feedback_due_ns, max(now_ns, self._feedback_sent_ns + GAP_FEEDBACK_NS))

    def _order(self, link: Link, piece: Piece, relative_us: int, arrival_ns: int, now_ns: int) -> None:
        """Hand a piece to the resequencer; bulk is not released before the slowest link would have brought it."""
        release_ns = arrival_ns
        if piece.equalise:
            link.receiver.note_mean_delay(relative_us)
            self._bulk_ns[link.number] = now_ns
            if self._equalise_ns:
                wait_ns = int(self._fastest_us * 1000 + self._equalise_ns) - relative_us * 1000
                release_ns += max(wait_ns, 0)
        self.resequencer.accept(piece, release_ns, now_ns)

    def on_control(self, link: Link, opened: Opened, arrival_ns: int) -> None:
        """Record a control datagram; it asks for no feedback."""
        self._record(link, opened.lseq, 1, opened.ts_us, len(opened.body) + OVERHEAD_BYTES, arrival_ns)

    def _record(self, link: Link, lseq: int, count: int, sent_us: int, size: int, arrival_ns: int) -> int:
        """Enter an arrival in the link's record; return its one-way delay relative to the tunnel's reference."""
        delay_us = (arrival_ns // 1000 - sent_us) % TS_MODULUS
        if self._reference_us is None:
            self._reference_us = delay_us
        link.receiver.on_datagrams(lseq, count, delay_us, arrival_ns, size)
        link.counters.received_datagrams += count
        link.counters.received_bytes += size
        return signed_us(delay_us - self._reference_us)

    def _interval_ns(self, link: Link) -> int:
        return min(max(link.estimator.rtt_min_ns // 4, MIN_FEEDBACK_NS), MAX_FEEDBACK_NS)

    # --- feedback

    def take_reports(self, links: Sequence[Link], now_ns: int) -> list[LinkReport]:
        """Return the reports that are due, for all links with something new."""
        self.feedback_due_ns = None
        self._feedback_sent_ns = now_ns
        self._equalise(links, now_ns)
        reports = []
        for link in links:
            receiver = link.receiver
            if link.number >= 0 and receiver.highest >= 0 and (receiver.fresh or receiver.gap_unreported):
                reports.append(receiver.report(link.number, now_ns))
                if receiver.gap_unreported:
                    self.feedback_due_ns = now_ns + GAP_FEEDBACK_NS
        return reports

    def _equalise(self, links: Sequence[Link], now_ns: int) -> None:
        """Set the delay that bulk pieces are equalised to: that of the slowest link that carries bulk now."""
        delays = [
            link.receiver.mean_delay_us
            for link in links
            if now_ns - self._bulk_ns.get(link.number, -IN_USE_NS) < IN_USE_NS
        ]
        if not delays:
            self._equalise_ns = 0.0
            return
        self._fastest_us = min(delays)
        spread_ns = (max(delays) - self._fastest_us) * 1000
        wanted = spread_ns + EQUALISE_MARGIN_NS if spread_ns > MIN_SPREAD_NS else 0
        self._equalise_ns = min(max(wanted, self._equalise_ns * EQUALISE_DECAY), MAX_EQUALISE_NS)
        if self._equalise_ns < NS_PER_MS:
            self._equalise_ns = 0.0
        self.resequencer.spread_ns = int(self._equalise_ns)

    def tick(self, now_ns: int) -> None:
        """Release what has waited long enough."""
        self.resequencer.tick(now_ns)

    def next_deadline_ns(self) -> int | None:
        deadlines = [d for d in (self.feedback_due_ns, self.resequencer.next_deadline_ns()) if d is not None]
        return min(deadlines, default=None)

    @property
    def equalise_ns(self) -> int:
        """By how much bulk is delayed so that all links bring it after the same time."""
        return int(self._equalise_ns)
