"""How much a link's delay wanders by itself, and what the delay is without that.

A queue and a jittery radio both make the delay change. A queue fills or empties for several slots of ``SLOT_NS`` in a
row; jitter goes up and down from slot to slot. So jitter is measured by the height of the delay's *zigzag*, and where
there is much of it, the delay without it is the least of several slots: jitter mostly adds.

    delays, one per report --> least of each slot --> zigzag --> jitter --> level: the delay without jitter

Owns what is known of the wandering. Does not own the base delay or what follows from a queue (`estimator`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mlvpn.units import NS_PER_MS

SLOT_NS: Final = 20 * NS_PER_MS
"""Delays are compared this far apart: jitter wanders on the scale of a Wi-Fi contention or an LTE grant."""
LEVEL_SLOTS: Final = 12
ZIGZAG_SLOTS: Final = 64
QUEUE_TURNS: Final = 6
"""A queue that fills and empties turns the delay so often at most in the 1.3 s of so many slots, jitter in two of three
of them. So whether a delay is jittery is told with the highest turns cut down to the next. Else the queue that a first
pace makes when it is far too high, behind a short link with a long buffer, passes for jitter, is not seen, and goes on
filling and draining. How much jitter there is, is told with all of them."""
JITTERY_NS: Final = 3 * NS_PER_MS // 2
"""From so much jitter on (half of it to leave) the delay of one report is no measure of a queue. A slow link's own
datagrams make it zigzag by half a millisecond, seldom by one."""
FLOOR_FACTOR: Final = 1.0
"""So many times the jitter is the least of ``LEVEL_SLOTS`` above the least there ever is, on a delay that wanders
evenly."""
MEAN_FACTOR: Final = 4.5
"""And so many times the jitter is its mean above that."""


class Jitter:
    """The wandering of one link's delay. Delays are in nanoseconds, from any fixed reference."""

    __slots__ = ("_delay_ns", "_slot_ns", "_slots", "_zigzag", "is_jittery", "jitter_ns", "level_ns")

    def __init__(self) -> None:
        self.jitter_ns = 0
        """Mean height of the zigzag."""
        self.is_jittery = False
        self.level_ns = 0
        """The newest delay without jitter."""
        self._delay_ns = 0
        self._slot_ns = 0
        self._slots: deque[int] = deque(maxlen=LEVEL_SLOTS)
        """Least delay of each slot; the newest is still being filled."""
        self._zigzag: deque[int] = deque(maxlen=ZIGZAG_SLOTS)

    @property
    def floor_ns(self) -> float:
        """How far the level is above the least delay although there is no queue."""
        return FLOOR_FACTOR * self.jitter_ns if self.is_jittery else 0.0

    @property
    def mean_ns(self) -> float:
        """How far the delay is above its least on average although there is no queue."""
        return MEAN_FACTOR * self.jitter_ns

    def note(self, delay_ns: int, now_ns: int) -> None:
        """Take the least delay of a report."""
        slots = self._slots
        newest_ns = min(delay_ns, self._delay_ns) if slots else delay_ns
        self._delay_ns = delay_ns
        if slots and now_ns - self._slot_ns < SLOT_NS:
            slots[-1] = min(slots[-1], delay_ns)
        else:
            self._learn()
            slots.append(delay_ns)
            self._slot_ns = now_ns
        self.level_ns = min(slots) if self.is_jittery else newest_ns

    def _learn(self) -> None:
        """Take in the slot that has just ended."""
        if len(self._slots) < 3:
            return
        before_ns, then_ns, now_ns = self._slots[-3], self._slots[-2], self._slots[-1]
        turned = (then_ns > before_ns) != (now_ns > then_ns)
        self._zigzag.append(min(abs(then_ns - before_ns), abs(now_ns - then_ns)) if turned else 0)
        usual = sorted(self._zigzag)[:-QUEUE_TURNS]
        if not usual:
            return
        usual_ns = (sum(usual) + QUEUE_TURNS * usual[-1]) // len(self._zigzag)
        self.is_jittery = usual_ns >= (JITTERY_NS // 2 if self.is_jittery else JITTERY_NS)
        self.jitter_ns = sum(self._zigzag) // len(self._zigzag) if self.is_jittery else usual_ns
