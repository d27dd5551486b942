"""What a link has sent and the peer has not yet reported: acknowledge, repair, rescue.

Links are FIFO, so a report of a higher lseq proves a missing one lost: it is repaired at once, no timer decides. A link
from which nothing is heard for longer than its acknowledgements ever take is *late*: what it has in flight is rescued,
sent again over another link; a false alarm costs a few duplicates (XLINK, SIGCOMM 2021).

    sent -> acknowledged                         (report covers it)
         -> lost -> Repair(tries + 1) -> sent    (report names it missing)
         -> late -> Repair(same tries) -> sent   (silence; `take_all`)

Owns the sent log of one link and the queue of repairs of the tunnel. Does not own the choice of the link.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Final, NamedTuple

from mlvpn.core.run import Run
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import LinkReport

MAX_TRIES: Final = 6
GIVE_UP_NS: Final = 1 * NS_PER_S
"""Older than this, the inner sender has long sent it again itself."""


class SentRun:
    """A run on its way: lseq of its first datagram, and what is needed to send it again."""

    __slots__ = ("first_sent_ns", "lseq", "run", "sent_ns", "tries")

    def __init__(self, lseq: int, run: Run, sent_ns: int, first_sent_ns: int, tries: int) -> None:
        self.lseq = lseq
        self.run = run
        self.sent_ns = sent_ns
        self.first_sent_ns = first_sent_ns
        """When its data first left, on whichever link."""
        self.tries = tries
        """How often it has been lost before."""

    def part(self, start: int, count: int) -> SentRun:
        """Return ``count`` of its datagrams, from the ``start``-th on."""
        return SentRun(self.lseq + start, self.run.part(start, count), self.sent_ns, self.first_sent_ns, self.tries)


class Repair(NamedTuple):
    """A run that has to be sent again."""

    run: Run
    first_sent_ns: int
    tries: int
    link: int
    """The link that lost it or holds it back."""


class Acknowledged(NamedTuple):
    """What a report changed."""

    newest_sent_ns: int
    """Departure of the newest run acknowledged; 0: none was."""
    lost: list[Repair]


class SentLog:
    """Runs sent on one link and not yet reported, in the order of their lseq."""

    def __init__(self) -> None:
        self._sent: deque[SentRun] = deque()
        self.flight_bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def oldest_sent_ns(self) -> int | None:
        return self._sent[0].sent_ns if self._sent else None

    def add(self, sent: SentRun) -> None:
        self._sent.append(sent)
        self.flight_bytes += sent.run.sent_bytes

    def on_report(self, link: int, report: LinkReport) -> Acknowledged:
        """Settle everything up to the report's highest lseq: cost grows with runs and ranges, not with datagrams.

        What lies below the report's base was never reported either way (too many reports were lost): it counts as lost.
        """
        missing = sorted(report.missing)
        newest_ns, lost = 0, []
        sent = self._sent
        while sent and sent[0].lseq <= report.highest:
            entry = sent.popleft()
            self.flight_bytes -= entry.run.sent_bytes
            over = entry.lseq + entry.run.count - 1 - report.highest
            if over > 0:
                entry = self._split(entry, over)
            gaps = _overlap(entry, missing, report.base)
            if sum(last - first + 1 for first, last in gaps) < entry.run.count:
                newest_ns = entry.sent_ns
            for first, last in gaps:
                part = entry.run if last - first + 1 == entry.run.count else _part(entry, first, last)
                lost.append(Repair(part, entry.first_sent_ns, entry.tries + 1, link))
        return Acknowledged(newest_ns, lost)

    def _split(self, entry: SentRun, over: int) -> SentRun:
        """Put the last ``over`` datagrams of a run back; return the rest."""
        kept = entry.run.count - over
        rest = entry.part(kept, over)
        self._sent.appendleft(rest)
        self.flight_bytes += rest.run.sent_bytes
        return entry.part(0, kept)

    def take_all(self, link: int) -> list[Repair]:
        """Give up waiting for everything in flight; return it for another link."""
        taken = [Repair(entry.run, entry.first_sent_ns, entry.tries, link) for entry in self._sent]
        self._sent.clear()
        self.flight_bytes = 0
        return taken


def _overlap(entry: SentRun, missing: Sequence[tuple[int, int]], base: int) -> list[tuple[int, int]]:
    """Return the parts of ``entry``, as ranges of lseq, that are missing or below ``base``."""
    first, last = entry.lseq, entry.lseq + entry.run.count - 1
    gaps = []
    if first < base:
        gaps.append((first, min(last, base - 1)))
        first = base
    for gap_first, gap_last in missing:
        if gap_last >= first and gap_first <= last:
            gaps.append((max(gap_first, first), min(gap_last, last)))
    return gaps


def _part(entry: SentRun, first: int, last: int) -> Run:
    return entry.run.part(first - entry.lseq, last - first + 1)


class RepairQueue:
    """What has to be sent again, oldest data first: the far end waits for it."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Repair]] = []
        self._number = count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, repair: Repair) -> None:
        heapq.heappush(self._heap, (repair.first_sent_ns, next(self._number), repair))

    def push_part(self, repair: Repair, start: int) -> None:
        """Put back what of ``repair`` was not sent, from its ``start``-th datagram on."""
        rest = repair.run.part(start, repair.run.count - start)
        self.push(repair._replace(run=rest))

    def pop(self) -> Repair:
        return heapq.heappop(self._heap)[2]

    def peek(self) -> Repair:
        return self._heap[0][2]


def hopeless(repair: Repair, now_ns: int) -> bool:
    """Say whether it is too late, or has been tried too often, to send this again."""
    return repair.tries > MAX_TRIES or now_ns - repair.first_sent_ns > GIVE_UP_NS


LATE_FLOOR_NS: Final = 60 * NS_PER_MS
"""A link is never late sooner than this beyond its usual acknowledgement: receiver's interval, LTE grants, a busy
host."""


def late_after_ns(ack_ns: float, ack_deviation_ns: float) -> int:
    """Return how long after sending an acknowledgement is overdue."""
    return int(ack_ns + max(4 * ack_deviation_ns, LATE_FLOOR_NS))
