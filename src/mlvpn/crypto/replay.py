"""The replay window of one link and direction: each lseq is accepted once.

Owns the memory of which lseq have been seen. Does not own authentication: only ask about datagrams that are already
proven authentic, otherwise a forged lseq would push the window past the real ones.

One Python int is the bitmap: bit 0 stands for the highest lseq seen, bit n for the one n below. Shifting a kilobyte
costs about 0.2 us, and a train in order costs one shift, so no ring of blocks (RFC 6479) is needed to be fast;
what is kept of that RFC is that the window only ever moves forward, and never by rewriting it bit by bit.
"""

from __future__ import annotations

WINDOW_BITS = 8192
"""A link at 1 Gbit/s sends about 90,000 datagrams a second: 8192 is 90 ms of reordering within one link."""


class ReplayWindow:
    """Which of the newest ``bits`` lseq were accepted; everything older counts as seen."""

    __slots__ = ("_bits", "_mask", "_seen", "highest_lseq")

    def __init__(self, bits: int = WINDOW_BITS) -> None:
        self.highest_lseq = -1
        """The newest lseq accepted; -1 before the first."""
        self._seen = 0
        self._bits = bits
        self._mask = (1 << bits) - 1

    def accept(self, lseq: int) -> bool:
        """Record ``lseq`` and return True if it is fresh; return False if seen before or older than the window."""
        age = self.highest_lseq - lseq
        if age < 0:
            self._advance(-age, 1)
            return True
        if age >= self._bits or self._seen >> age & 1:
            return False
        self._seen |= 1 << age
        return True

    def accept_range(self, first_lseq: int, count: int) -> bool:
        """Record a whole train if all of it is fresh; else record nothing and return False.

        HOT PATH: one call for each train that arrives. After False, ask for each lseq by itself.
        """
        if first_lseq > self.highest_lseq:
            self._advance(first_lseq + count - 1 - self.highest_lseq, count)
            return True
        age = self.highest_lseq - (first_lseq + count - 1)
        if age < 0 or age + count > self._bits:
            return False
        train = ((1 << count) - 1) << age
        if self._seen & train:
            return False
        self._seen |= train
        return True

    def _advance(self, distance: int, newly_seen: int) -> None:
        self.highest_lseq += distance
        # Comparing first bounds the memory: lseq has 48 bits, and a shift by one is as long as the number it makes.
        shifted = self._seen << distance if distance < self._bits else 0
        self._seen = (shifted | (1 << min(newly_seen, self._bits)) - 1) & self._mask
