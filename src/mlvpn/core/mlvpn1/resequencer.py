"""Puts the packets of all links back into the order of their data_seq.

Owns the packets that wait for an earlier one, and the proof that an earlier one will not come.

The C daemon waits 2.2 round trips for a missing packet and then releases everything in the order of its arrival. Here
a packet is known to be lost as soon as every link that takes part has brought something later: a link delivers in the
order in which it was sent on. Only when that proof cannot come (a link is idle) does a timer bound the wait, and then
only the one gap is given up; what waits behind it still leaves in order.

A link takes part while it is up, unless it stays behind by more than ``capacity`` packets: then the peer does not use
it now, and it takes part again with its next packet. data_seq is not authenticated: a number far away starts the order
anew, so that neither a forged one nor a restart of the peer can hold up those that follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Final

from mlvpn.core.mlvpn1.counters import Mlvpn1Counters
from mlvpn.core.mlvpn1.link import Link

MIN_CAPACITY: Final = 4096
"""Packets. One wake-up may bring two thousand from one link before the other is looked at, which the ring of 64 that
MLVPN's documentation recommends could not hold."""
FAR: Final = 1 << 16
"""A data_seq so far from the expected one is not early or late but another count."""
DATA_SEQ_LIMIT: Final = 1 << 64
FIRST_BOUND_NS: Final = 800_000_000
"""The wait before any round trip was measured; MLVPN's."""
MIN_BOUND_NS: Final = 20_000_000
"""Round trips are measured in whole milliseconds and the peer's process sleeps sometimes."""


class Resequencer:
    """All links' packets in, ordered packets out; each comes out once unless it is a duplicate."""

    def __init__(self, capacity: int, counters: Mlvpn1Counters) -> None:
        self.capacity = max(capacity, MIN_CAPACITY)
        """Packets that may wait; when there are more, the oldest gap is given up."""
        self.bound_ns = FIRST_BOUND_NS
        """The longest wait of a packet behind a gap."""
        self._counters = counters
        self._expected: int | None = None
        self._waiting: list[tuple[int, int, bytes]] = []
        """Heap of (data_seq, arrival, frame)."""
        self._newest: dict[str, int] = {}
        """Highest data_seq of each link that takes part."""

    def __len__(self) -> int:
        return len(self._waiting)

    def insert(self, link: str, arrivals: Sequence[tuple[int, bytes]], now_ns: int) -> list[bytes]:
        """Take (data_seq, frame) pairs as one link brought them; return the frames that may leave. HOT PATH."""
        released: list[bytes] = []
        for data_seq, frame in arrivals:
            distance = data_seq - (self._begin(data_seq) if self._expected is None else self._expected)
            if distance == 0:
                released.append(frame)
                self._expected = data_seq + 1
                if self._waiting:
                    self._drain(released)
            elif abs(distance) > FAR:
                released += [*self.restart(), frame]
                self._begin(data_seq)
                self._expected = data_seq + 1
            elif distance < 0:
                self._counters.late_packets += 1
                released.append(frame)
            else:
                heappush(self._waiting, (data_seq, now_ns, frame))
            if data_seq > self._newest.get(link, -1):
                self._newest[link] = data_seq
        if self._waiting:
            self._apply_evidence(released)
        return released

    def link_up(self, link: str) -> None:
        """Wait for this link too from now on."""
        self._newest[link] = (self._expected or 0) - 1

    def link_down(self, link: str) -> list[bytes]:
        """Wait for nothing more from a link; return what may leave now."""
        self._newest.pop(link, None)
        released: list[bytes] = []
        if self._waiting:
            self._apply_evidence(released)
        return released

    def restart(self) -> list[bytes]:
        """Begin a new order with the next packet; return everything that waited, in the old order."""
        released = [frame for _, _, frame in sorted(self._waiting)]
        self._waiting.clear()
        self._expected = None
        return released

    def deadline_ns(self) -> int | None:
        """Say when ``expire`` has something to do."""
        return self._waiting[0][1] + self.bound_ns if self._waiting else None

    def expire(self, now_ns: int) -> list[bytes]:
        """Give up the gaps that have been waited for long enough; return what may leave."""
        released: list[bytes] = []
        while self._waiting and self._waiting[0][1] + self.bound_ns <= now_ns:
            self._counters.timer_releases += 1
            self._give_up_gap(released)
        return released

    def _begin(self, data_seq: int) -> int:
        self._newest = dict.fromkeys(self._newest, data_seq - 1)
        self._expected = data_seq
        return data_seq

    def _apply_evidence(self, released: list[bytes]) -> None:
        certain = self._certain()
        while self._waiting and (self._waiting[0][0] <= certain or len(self._waiting) > self.capacity):
            self._give_up_gap(released)

    def _certain(self) -> int:
        """Return the number below which nothing more can come."""
        if not self._newest:
            return DATA_SEQ_LIMIT  # no link is left that could bring anything
        behind = max(self._newest.values()) - self.capacity
        return min(newest for newest in self._newest.values() if newest > behind)

    def _give_up_gap(self, released: list[bytes]) -> None:
        assert self._expected is not None
        first = self._waiting[0][0]
        self._counters.lost_packets += max(0, first - self._expected)
        self._expected = max(self._expected, first)
        self._drain(released)

    def _drain(self, released: list[bytes]) -> None:
        assert self._expected is not None
        while self._waiting and self._waiting[0][0] <= self._expected:
            data_seq, _, frame = heappop(self._waiting)
            if data_seq == self._expected:
                released.append(frame)
                self._expected += 1
            else:
                self._counters.duplicate_packets += 1


def longest_wait_ns(links: Iterable[Link]) -> int:
    """Return how long a packet may wait for an earlier one: the slowest link's round trip, with its spread."""
    measured = [link.srtt_ms + 4 * link.rttvar_ms for link in links if link.is_up and link.srtt_ms is not None]
    if not measured:
        return FIRST_BOUND_NS
    return min(max(int(max(measured) * 1_000_000), MIN_BOUND_NS), FIRST_BOUND_NS)
