"""Joins what a wake-up brought into trains that are checked with one call.

Owns received trains between ``receive`` and the moment when the daemon asks what came of them. The C daemon sends each
datagram by itself, and where the kernel does not join them they come one by one; checking them one by one costs three
times as much as in trains.
"""

from __future__ import annotations

from typing import NamedTuple

from mlvpn.core.burst_io import ReceivedTrain


class Arrival(NamedTuple):
    """A train and when it was handed in."""

    train: ReceivedTrain
    now_ns: int


class Arrivals:
    """Trains in the order in which they came; neighbours of one link, source and size become one."""

    def __init__(self) -> None:
        self._joined: list[Arrival] = []
        self._last: Arrival | None = None
        self._pieces: list[bytes] = []
        """Data of the last one: it and what was joined to it."""
        self._arrival_ns = 0

    def add(self, train: ReceivedTrain, now_ns: int) -> None:
        """Add a train. HOT PATH."""
        last = self._last
        if last is not None and last.now_ns == now_ns and _continues(last.train, self._pieces[-1], train):
            self._pieces.append(train.data)
            self._arrival_ns = train.arrival_ns
            return
        self._close()
        self._last, self._pieces, self._arrival_ns = Arrival(train, now_ns), [train.data], train.arrival_ns

    def take(self) -> list[Arrival]:
        """Return everything and forget it. A joined train came when its last datagram came, whose timestamps count."""
        self._close()
        joined, self._joined = self._joined, []
        return joined

    def _close(self) -> None:
        if self._last is None:
            return
        train, now_ns = self._last
        if len(self._pieces) > 1:
            train = train._replace(data=b"".join(self._pieces), arrival_ns=self._arrival_ns)
        self._joined.append(Arrival(train, now_ns))
        self._last = None


def _continues(first: ReceivedTrain, last_piece: bytes, train: ReceivedTrain) -> bool:
    """Say whether ``train`` can stand behind datagrams of ``first``: no short one may stand in between."""
    size = first.datagram_bytes
    return (
        first.link == train.link
        and first.source == train.source
        and len(last_piece) % size == 0
        and (train.datagram_bytes == size or len(train.data) <= train.datagram_bytes < size)
    )
