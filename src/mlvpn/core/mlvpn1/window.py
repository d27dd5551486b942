"""How many datagrams may be on their way, so that a peer that reads them one by one does not lose them in its sockets.

The C daemon leaves its sockets at the kernel's default size. Each holds some ninety full datagrams, which is less than
one burst of ours, and what overflows costs more than itself: everything behind the gap waits in the daemon until its
timer. So what it has not read yet waits here instead, without numbers, where it can be dropped without a gap.

Version 1 acknowledges nothing, but it answers time stamps: an answer says that what was sent in or before that
millisecond has been read, or is being read. It counts for all links, because one loop reads them in turn. This works
only where a window of answers is quick, and so it is done only there:

- on *near* links, whose round trip was under two milliseconds lately. Elsewhere the path is the bottleneck, and a
  window would have to know its rate;
- while the peer *answers*: it sends something now and then for what it gets. One that gets only UDP may not.

A peer that reads whole trains has said so, and needs none of this (``wire/mlvpn1.py``).

Owns the count of what is unanswered. Does not own what waits meanwhile (``outgoing.py``).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.mlvpn1 import TIMESTAMP_MODULUS

WINDOW_DATAGRAMS: Final = 40
"""Unanswered on a link. Within one millisecond an answer cannot tell what was sent after it, so twice as many may be
in the socket; Linux' default of 212,992 bytes holds 92 full datagrams, with what the kernel adds to each.
"""
LEAST_DATAGRAMS: Final = 8
"""Room below this is not used: sealing and sending singles costs several times as much as a train."""
FORGET_NS: Final = 8 * NS_PER_MS
"""What is unanswered for so long no longer counts: its answer may have been lost, or nothing is left to carry it."""
NEAR_NS: Final = 10 * NS_PER_S
"""A link that has shown a round trip of 0 ms, as time stamps count, is near for so long."""
ANSWERING_RATIO: Final = 1 / 64
"""Datagrams of an answering peer for each of ours. TCP that gets single packets acknowledges every second, and now and
then, when its reader is late, every thirtieth.
"""
MEMORY_DATAGRAMS: Final = 1024
"""The ratio is that of about so many datagrams."""
SILENT_NS: Final = 20 * NS_PER_MS
"""A peer that says nothing for so long has nothing to acknowledge; a busy one is back on its core before."""
UNLIMITED_DATAGRAMS: Final = 1 << 30


class Flight:
    """What is unanswered on one link."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, int, int]] = deque()
        """(time stamp, datagrams, time of sending), oldest first."""
        self._datagrams = 0
        self._near_until_ns = 0

    def sent(self, stamp: int, datagrams: int, now_ns: int) -> None:
        """Count what was sent with one time stamp. HOT PATH."""
        self._runs.append((stamp, datagrams, now_ns))
        self._datagrams += datagrams

    def answered(self, stamp: int) -> None:
        """Learn that what was sent up to this time stamp has been read. HOT PATH."""
        runs = self._runs
        while runs and (stamp - runs[0][0]) % TIMESTAMP_MODULUS < TIMESTAMP_MODULUS // 2:
            self._datagrams -= runs.popleft()[1]

    def measured(self, rtt_ms: int, now_ns: int) -> None:
        """Learn a round trip."""
        if rtt_ms == 0:
            self._near_until_ns = now_ns + NEAR_NS

    def room(self, now_ns: int) -> int:
        """Return how many datagrams more may be sent. HOT PATH."""
        runs = self._runs
        while runs and now_ns - runs[0][2] >= FORGET_NS:
            self._datagrams -= runs.popleft()[1]
        if now_ns >= self._near_until_ns:
            return UNLIMITED_DATAGRAMS
        room = WINDOW_DATAGRAMS - self._datagrams
        return room if room >= LEAST_DATAGRAMS else 0

    def deadline_ns(self) -> int | None:
        """Say when something will be forgotten."""
        return self._runs[0][2] + FORGET_NS if self._runs else None


class Answering:
    """Whether the peer sends a datagram for every few that it gets."""

    def __init__(self) -> None:
        self._sent = self._heard = 0
        self._heard_ns = 0

    def sent(self, datagrams: int) -> None:
        """Count what was sent on any link; the past counts less and less."""
        self._sent += datagrams
        if self._sent > MEMORY_DATAGRAMS:
            self._sent //= 2
            self._heard //= 2

    def heard(self, datagrams: int, now_ns: int) -> None:
        """Count what was received on any link."""
        self._heard += datagrams
        self._heard_ns = now_ns

    def is_likely(self, now_ns: int) -> bool:
        """Say whether an answer to what is sent now may be expected."""
        return now_ns - self._heard_ns < SILENT_NS and self._heard >= self._sent * ANSWERING_RATIO
