"""The receiving half of a tunnel: from authentic datagrams to packets in order, and the feedback the sender lives on.

    opened -> replay window of its link -> the link's record (`feedback`) -> data: `resequencer` | control: the tunnel

Feedback is due a quarter of a round trip after data (10 to 25 ms), sooner where something is missing. It names all
links and is cumulative; copies alternate between the two fastest links, so that no single silence hides the others.

Owns what has arrived and when feedback is due. Does not own sessions (`tunnel`), link states (`link_watch`) or
sending (`sender`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlvpn.burst import Opened
from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.feedback import feedback_interval_ns
from mlvpn.core.link import Link
from mlvpn.core.piece import Piece, read_piece
from mlvpn.core.resequencer import Resequencer
from mlvpn.errors import PeerError
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import MAX_LANES, Hold, LinkReport
from mlvpn.wire.header import OVERHEAD_BYTES, TS_MODULUS, signed_us

GAP_FEEDBACK_NS: Final = 3 * NS_PER_MS
"""Least time between reports when one says that something is missing."""
IN_USE_NS: Final = 500 * NS_PER_MS
"""A link that brought ordered data this lately counts for the differences of delay."""
HOLD_EXPIRY_NS: Final = 2 * NS_PER_S
"""The sender repeats its holds five times a second; after this silence they are over."""
MAX_HOLD_NS: Final = 400 * NS_PER_MS
AGGREGATE_EVERY: Final = 6
"""Aggregation begins once in so many holds. Linux' BBR remembers for five to ten round trips how much was acknowledged
at once (tcp_bbr.c, bbr_extra_acked_win_rtts), and those of a held flow are longer than its hold."""


class Receiver:
    """Everything that has come in under one association."""

    def __init__(self, counters: TunnelCounters) -> None:
        self._counters = counters
        self.resequencer = Resequencer(counters)
        self.feedback_due_ns: int | None = None
        self._feedback_sent_ns = 0
        self._reference_us: int | None = None
        self._fastest_us = 0.0
        """Mean delay of the fastest link in use, relative to the reference."""
        self._data_ns: dict[int, int] = {}
        """Link number -> when it last brought ordered data."""
        self._hold_ns = [0] * MAX_LANES
        self._aggregation_ns = [0] * MAX_LANES
        self._held_ns = 0

    def fresh_offsets(self, link: Link, opened: Opened) -> Sequence[int]:
        """Record the lseq of ``opened``; return which of its datagrams had not been received before."""
        window = link.receiver.window
        if window.accept_range(opened.lseq, opened.count):
            return range(opened.count)
        fresh = [i for i in range(opened.count) if window.accept(opened.lseq + i)]
        self._counters.replayed_datagrams += opened.count - len(fresh)
        return fresh

    def on_data(self, link: Link, opened: Opened, fresh: Sequence[int], train: ReceivedTrain, now_ns: int) -> None:
        """Take the ``fresh`` datagrams of ``opened``, which came in ``train``; raise PeerError if it is malformed.

        Then it is recorded all the same: asking for it again would bring the same bytes.
        """
        try:
            piece = read_piece(opened)
        except PeerError:
            for i in fresh:
                self._record(link, opened.lseq + i, 1, opened.ts_us, len(opened.body) // opened.count, train, now_ns)
            raise
        if len(fresh) == opened.count:
            parts = [(opened.lseq, piece)]
        else:
            parts = [(opened.lseq + i, piece.part(i, 1)) for i in fresh]
        datagram_bytes = piece.wire_bytes // piece.count
        for lseq, part in parts:
            size = piece.wire_bytes if part is piece else datagram_bytes
            relative_us = self._record(link, lseq, part.count, opened.ts_us, size, train, now_ns)
            self._order(link, part, relative_us, train, now_ns)
        if self.feedback_due_ns is None:
            self.feedback_due_ns = now_ns + feedback_interval_ns(link.estimator.rtt_min_ns)
        if link.receiver.gap_unreported:
            self.feedback_due_ns = min(self.feedback_due_ns, max(now_ns, self._feedback_sent_ns + GAP_FEEDBACK_NS))

    def _order(self, link: Link, piece: Piece, relative_us: int, train: ReceivedTrain, now_ns: int) -> None:
        """Hand a piece to the resequencer; an equalised one is not released before its lane's hold is over.

        Nor during aggregation, which ends for all that is held at once.
        """
        release_ns = train.arrival_ns + train.stretch_ns
        if piece.lane:
            link.receiver.note_mean_delay(relative_us + train.stretch_ns // 2000)
            self._data_ns[link.number] = now_ns
        hold_ns = self._hold_ns[piece.lane]
        if piece.equalise and hold_ns:
            held_ns = hold_ns - int((relative_us - self._fastest_us) * 1000)
            release_ns = max(train.arrival_ns + held_ns, release_ns)
            since_ns = release_ns % (AGGREGATE_EVERY * hold_ns)
            release_ns += max(self._aggregation_ns[piece.lane] - since_ns, 0)
        self.resequencer.accept(piece, release_ns, now_ns)

    def on_hold(self, holds: Sequence[Hold], now_ns: int) -> None:
        """Learn how long each lane's equalised pieces are to be held, and gathered once in a while."""
        self._held_ns = now_ns
        for hold in holds:
            self._hold_ns[hold.lane % MAX_LANES] = min(hold.hold_us * 1000, MAX_HOLD_NS)
            self._aggregation_ns[hold.lane % MAX_LANES] = min(hold.aggregation_us * 1000, MAX_HOLD_NS)

    def on_control(self, link: Link, opened: Opened, train: ReceivedTrain, now_ns: int) -> None:
        """Record a control datagram; it asks for no feedback."""
        self._record(link, opened.lseq, 1, opened.ts_us, len(opened.body) + OVERHEAD_BYTES, train, now_ns)

    def _record(
        self, link: Link, lseq: int, count: int, sent_us: int, size: int, train: ReceivedTrain, now_ns: int
    ) -> int:
        """Enter an arrival in the link's record; return its one-way delay relative to the tunnel's reference."""
        delay_us = (train.arrival_ns // 1000 - sent_us) % TS_MODULUS
        if self._reference_us is None:
            self._reference_us = delay_us
        wait_ns = now_ns - train.arrival_ns - train.stretch_ns
        link.receiver.on_datagrams(lseq, count, delay_us, train.arrival_ns, size, train.stretch_ns, wait_ns)
        link.counters.received_datagrams += count
        link.counters.received_bytes += size
        return signed_us(delay_us - self._reference_us)

    # --- feedback

    def take_reports(self, links: Sequence[Link], now_ns: int) -> list[LinkReport]:
        """Return the reports that are due, for all links with something new."""
        self.feedback_due_ns = None
        self._feedback_sent_ns = now_ns
        self._measure_spread(links, now_ns)
        reports = []
        for link in links:
            receiver = link.receiver
            if link.number >= 0 and receiver.highest >= 0 and (receiver.fresh or receiver.gap_unreported):
                reports.append(receiver.report(link.number, now_ns))
                if receiver.gap_unreported:
                    self.feedback_due_ns = now_ns + GAP_FEEDBACK_NS
        return reports

    def _measure_spread(self, links: Sequence[Link], now_ns: int) -> None:
        """Note the delay of the fastest link that brings ordered data, and how far the slowest is behind it."""
        delays = [
            link.receiver.mean_delay_us
            for link in links
            if now_ns - self._data_ns.get(link.number, -IN_USE_NS) < IN_USE_NS
        ]
        if now_ns - self._held_ns > HOLD_EXPIRY_NS:
            self._hold_ns = [0] * MAX_LANES
            self._aggregation_ns = [0] * MAX_LANES
        self._fastest_us = min(delays, default=0.0)
        spread_us = max(delays, default=0.0) - self._fastest_us
        self.resequencer.spread_ns = max(int(spread_us * 1000), self.hold_ns)

    def tick(self, now_ns: int) -> None:
        """Release what has waited long enough."""
        self.resequencer.tick(now_ns)

    def next_deadline_ns(self) -> int | None:
        feedback_ns, order_ns = self.feedback_due_ns, self.resequencer.next_deadline_ns()
        if feedback_ns is None or order_ns is None:
            return order_ns if feedback_ns is None else feedback_ns
        return min(feedback_ns, order_ns)

    @property
    def hold_ns(self) -> int:
        """By how much the flow held longest is delayed so that all its links bring it after the same time."""
        return max(self._hold_ns)

    @property
    def aggregation_ns(self) -> int:
        """For how long, once in a while, what is held of a flow is released all together."""
        return max(self._aggregation_ns)
