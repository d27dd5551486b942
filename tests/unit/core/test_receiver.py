"""How long what is equalised is held; aggregation ends for all of it at once."""

from __future__ import annotations

import pytest
from some_links import links_up

from mlvpn.burst import Opened
from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.receiver import AGGREGATE_EVERY, HOLD_EXPIRY_NS, Receiver
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import DATA_HEAD, Hold, Kind, first_byte, pack_item

HOLD_MS = 30
PERIOD_MS = AGGREGATE_EVERY * HOLD_MS
START_MS = 100 * PERIOD_MS
"""A period begins here."""


class Arrivals:
    """One link brings a datagram of lane 1 each millisecond."""

    def __init__(self) -> None:
        (self.link,) = links_up(10, capacity_bps=10e6)
        self.receiver = Receiver(TunnelCounters())
        self.now_ms = START_MS
        self._count = 0

    def run(self, milliseconds: int, equalise: bool = True) -> list[int]:
        """Return how many packets were delivered in each millisecond."""
        delivered = []
        for _ in range(milliseconds):
            now_ns = self.now_ms * NS_PER_MS
            body = DATA_HEAD.pack(first_byte(Kind.PACKETS, 1, equalise), self._count) + pack_item(bytes(20))
            opened = Opened(0, self._count, 1, self.now_ms * 1000 % (1 << 32), body, 0)
            train = ReceivedTrain("a", ("10.0.0.1", 1), body, len(body), now_ns)
            self.receiver.on_data(self.link, opened, range(1), train, now_ns)
            self.receiver.tick(now_ns)
            delivered.append(len(self.receiver.resequencer.take()))
            self._count += 1
            self.now_ms += 1
        return delivered


@pytest.fixture
def arrivals() -> Arrivals:
    return Arrivals()


def hold(arrivals: Arrivals, aggregation_ms: int = 0) -> None:
    arrivals.receiver.on_hold([Hold(1, HOLD_MS * 1000, aggregation_ms * 1000)], arrivals.now_ms * NS_PER_MS)


def test_what_is_equalised_is_held_and_comes_as_evenly_as_it_was_sent(arrivals: Arrivals) -> None:
    hold(arrivals)
    assert arrivals.run(PERIOD_MS) == [0] * HOLD_MS + [1] * (PERIOD_MS - HOLD_MS)


def test_what_is_not_equalised_is_not_held(arrivals: Arrivals) -> None:
    hold(arrivals, aggregation_ms=20)
    assert arrivals.run(PERIOD_MS, equalise=False) == [1] * PERIOD_MS


def test_aggregation_releases_what_is_due_all_together_once_in_a_period(arrivals: Arrivals) -> None:
    hold(arrivals, aggregation_ms=20)
    arrivals.run(PERIOD_MS)
    for _ in range(2):
        assert arrivals.run(PERIOD_MS) == [0] * 20 + [21] + [1] * (PERIOD_MS - 21)
        hold(arrivals, aggregation_ms=20)


def test_aggregation_ends_with_the_hold(arrivals: Arrivals) -> None:
    hold(arrivals, aggregation_ms=20)
    arrivals.run(PERIOD_MS)
    assert (arrivals.receiver.hold_ns, arrivals.receiver.aggregation_ns) == (HOLD_MS * NS_PER_MS, 20 * NS_PER_MS)
    arrivals.now_ms += (HOLD_EXPIRY_NS + NS_PER_S) // NS_PER_MS
    arrivals.receiver.take_reports([arrivals.link], arrivals.now_ms * NS_PER_MS)
    assert (arrivals.receiver.hold_ns, arrivals.receiver.aggregation_ns) == (0, 0)
    arrivals.run(1)
    assert arrivals.run(PERIOD_MS) == [1] * PERIOD_MS
