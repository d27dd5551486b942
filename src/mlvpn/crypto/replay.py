"""The replay window of one link and direction: each lseq is accepted once.

Owns the memory of which lseq have been seen. Does not own authentication: only ask about datagrams that are already
proven authentic, otherwise a forged lseq would push the window past the real ones.

What is remembered is what is missing: ranges of lseq below the highest that have not come, in ascending order. A train
in order, which is nearly every one, touches none of them and costs the same however long the window is, where a bitmap
as one Python int (or RFC 6479's ring of blocks) is shifted or cleared for each. As in that RFC the window only ever
moves forward.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

WINDOW_BITS: Final = 8192
"""A link at 1 Gbit/s sends about 90,000 datagrams a second: 8192 is 90 ms of reordering within one link."""
MAX_GAPS: Final = 4096
"""More ranges than this and the oldest counts as seen: a bound on memory, half a megabyte, never met on a real link; a
lane of a bond has as many only if its links differ by thousands of datagrams."""


class ReplayWindow:
    """Which of the newest ``bits`` lseq were accepted; everything older counts as seen."""

    __slots__ = ("_bits", "_ends", "_starts", "highest_lseq")

    def __init__(self, bits: int = WINDOW_BITS) -> None:
        self.highest_lseq = -1
        """The newest lseq accepted; -1 before the first."""
        self._bits = bits
        self._starts: list[int] = []
        """First and last lseq of each missing range."""
        self._ends: list[int] = []

    def accept(self, lseq: int) -> bool:
        """Record ``lseq`` and return True if it is fresh; return False if seen before or older than the window."""
        return self.accept_range(lseq, 1)

    def accept_range(self, first_lseq: int, count: int) -> bool:
        """Record a whole train if all of it is fresh; else record nothing and return False.

        HOT PATH: one call for each train that arrives. After False, ask for each lseq by itself.
        """
        highest = self.highest_lseq
        if first_lseq <= highest:
            return bool(self._starts) and self._fill(first_lseq, first_lseq + count - 1)
        self.highest_lseq = first_lseq + count - 1
        if first_lseq > highest + 1:
            self._starts.append(highest + 1)
            self._ends.append(first_lseq - 1)
        if self._starts:
            self._forget()
        return True

    def _fill(self, first: int, last: int) -> bool:
        """Take a train out of the missing range that holds all of it; say whether there is one within the window."""
        at = bisect_right(self._starts, first) - 1
        if at < 0 or last > self._ends[at] or first <= self.highest_lseq - self._bits:
            return False
        start, end = self._starts[at], self._ends[at]
        left = [(start, first - 1)] if start < first else []
        if last < end:
            left.append((last + 1, end))
        self._starts[at : at + 1] = [begin for begin, _ in left]
        self._ends[at : at + 1] = [stop for _, stop in left]
        self._forget()
        return True

    def _forget(self) -> None:
        """Drop the ranges that the window has left behind."""
        oldest = self.highest_lseq - self._bits
        while self._ends and (self._ends[0] <= oldest or len(self._ends) > MAX_GAPS):
            del self._starts[0], self._ends[0]
