"""The receiver's record of one link: what came, what is missing, how long it took; and the reports made of it.

A missing lseq is known the moment a later one arrives (links are FIFO) and is reported until it arrives after all or
has been named in ``REPORTS_PER_GAP`` reports, so that lost reports cost nothing. Where a link does reorder, reporting
waits for as long as reordering has lately been seen to take, 10 ms at most (RACK's idea, RFC 8985, per link).

Times of arrival are the kernel's, for a daemon that reads late is no longer a link. Unless it always reads late: then
its socket's buffer is the bottleneck's queue, and counts as delay (``OWN_WAIT_NS``).

Owns the record. Does not own when feedback is sent or over which link (`sender`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mlvpn.crypto.replay import ReplayWindow
from mlvpn.units import NS_PER_MS
from mlvpn.wire.frame import MAX_RANGES, LinkReport
from mlvpn.wire.header import TS_MODULUS, signed_us

REPORTS_PER_GAP: Final = 4
MAX_REORDER_NS: Final = 10 * NS_PER_MS
MIN_FEEDBACK_NS: Final = 10 * NS_PER_MS
MAX_FEEDBACK_NS: Final = 25 * NS_PER_MS
OWN_WAIT_NS: Final = 20 * NS_PER_MS
"""Where even what was read soonest had waited longer than this for ``LATE_REPORTS`` reports, this end is short of
processor and its socket's buffer a queue like any other: what is beyond counts as delay. With a tenth of it the sender
follows every scarcity, and packets come in smaller bursts, which cost more."""
LATE_REPORTS: Final = 4
"""One report may be of nothing but what a single pause has left in the socket."""
MAX_GAPS: Final = 1024
"""More gaps than this and the oldest are forgotten; the sender takes them for lost."""


def feedback_interval_ns(rtt_ns: int) -> int:
    """Return how long after data feedback is due: four times a round trip, as far as that is 10 to 25 ms."""
    return min(max(rtt_ns // 4, MIN_FEEDBACK_NS), MAX_FEEDBACK_NS)


class _Gap:
    """Neighbouring lseq that have not arrived."""

    __slots__ = ("first", "last", "reports", "seen_ns")

    def __init__(self, first: int, last: int, seen_ns: int, reports: int = 0) -> None:
        self.first = first
        self.last = last
        self.seen_ns = seen_ns
        self.reports = reports


class LinkReceiver:
    """Arrivals on one link."""

    def __init__(self) -> None:
        self.window = ReplayWindow()
        self.highest = -1
        self.received_bytes = 0
        self.received_datagrams = 0
        self.fresh = False
        """Whether something came since the last report."""
        self.gap_unreported = False
        """Whether a gap waits for its first report."""
        self.mean_delay_us = 0.0
        """Smoothed one-way delay, relative to the reference that all links of the tunnel share."""
        self._gaps: deque[_Gap] = deque()
        self._base = 0
        self._arrival_us = 0
        self._delay_us = 0
        self._delay_min_us: int | None = None
        self._wait_min_ns: int | None = None
        """Least time, since the last report, that something was in the socket before it was read."""
        self._late_ns = deque([0], LATE_REPORTS)
        """That of the last reports of something new. The least falls only with the newest: arrivals do not go back."""
        self._reorder_ns = 0

    def on_datagrams(
        self, lseq: int, count: int, delay_us: int, arrival_ns: int, size: int, stretch_ns: int = 0, wait_ns: int = 0
    ) -> None:
        """Record ``count`` fresh datagrams of ``size`` bytes in all, numbered from ``lseq``; O(1) in order.

        ``delay_us``: arrival - ts, modulo 2^32, of the first; the last came ``stretch_ns`` later and was read after
        ``wait_ns``.
        """
        self.received_bytes += size
        self.received_datagrams += count
        self.fresh = True
        last, last_ns = lseq + count - 1, arrival_ns + stretch_ns
        if lseq > self.highest:
            if lseq > self.highest + 1:
                self._open_gap(self.highest + 1, lseq - 1, last_ns)
            self.highest = last
            self._note_delay(delay_us, last_ns, stretch_ns, wait_ns)
        else:
            for late in range(lseq, last + 1):
                self._close_gap(late, last_ns)

    def _note_delay(self, delay_us: int, last_ns: int, stretch_ns: int, wait_ns: int) -> None:
        self._arrival_us = last_ns // 1000 % TS_MODULUS
        self._delay_us = (delay_us + stretch_ns // 1000) % TS_MODULUS
        if self._delay_min_us is None or signed_us(delay_us - self._delay_min_us) < 0:
            self._delay_min_us = delay_us
        if self._wait_min_ns is None or wait_ns < self._wait_min_ns:
            self._wait_min_ns = wait_ns

    def note_mean_delay(self, relative_us: int) -> None:
        """Take the one-way delay of ordered data, relative to the tunnel's reference."""
        self.mean_delay_us += (relative_us - self.mean_delay_us) / 16

    def _open_gap(self, first: int, last: int, now_ns: int) -> None:
        if self.highest < 0:
            self._base = last + 1  # the first datagram of a link says nothing about those before it
            return
        self._gaps.append(_Gap(first, last, now_ns))
        self.gap_unreported = True
        if len(self._gaps) > MAX_GAPS:
            self._base = self._gaps.popleft().last + 1

    def _close_gap(self, lseq: int, now_ns: int) -> None:
        for place, gap in enumerate(self._gaps):
            if gap.first <= lseq <= gap.last:
                self._reorder_ns = min(max((now_ns - gap.seen_ns) * 5 // 4, self._reorder_ns), MAX_REORDER_NS)
                del self._gaps[place]
                if lseq < gap.last:
                    self._gaps.insert(place, _Gap(lseq + 1, gap.last, gap.seen_ns, gap.reports))
                if lseq > gap.first:
                    self._gaps.insert(place, _Gap(gap.first, lseq - 1, gap.seen_ns, gap.reports))
                return

    def report(self, link: int, now_ns: int) -> LinkReport:
        """Make the report of this link; counts as sent."""
        missing: list[tuple[int, int]] = []
        base, highest = self._base, self.highest
        self.gap_unreported = False
        for gap in self._gaps:
            if now_ns - gap.seen_ns < self._reorder_ns:
                highest = gap.first - 1  # what came after may still be overtaken: say nothing of it yet
                self.gap_unreported = True
                break
            missing.append((gap.first, gap.last))
            gap.reports += 1
        missing.reverse()
        while len(missing) > MAX_RANGES or (missing and highest - missing[-1][1] > 0xFFFF):
            base = missing.pop()[1] + 1
        while self._gaps and self._gaps[0].reports >= REPORTS_PER_GAP:
            self._base = self._gaps.popleft().last + 1
        self._reorder_ns -= self._reorder_ns >> 6
        delay_min = self._delay_us if self._delay_min_us is None else self._delay_min_us
        if self._wait_min_ns is not None:
            self._late_ns.append(self._wait_min_ns)
        wait_us = max(min(self._late_ns) - OWN_WAIT_NS, 0) // 1000
        self._delay_min_us = self._wait_min_ns = None
        self.fresh = False
        return LinkReport(
            link,
            max(highest, 0),
            min(base, max(highest, 0)),
            (self._arrival_us + wait_us) % TS_MODULUS,
            (self._delay_us + wait_us) % TS_MODULUS,
            (delay_min + wait_us) % TS_MODULUS,
            self.received_bytes,
            self.received_datagrams,
            missing,
            wait_us,
        )
