"""Gathers datagrams into trains that one system call can send.

Owns the rule of UDP segmentation offload: all datagrams of a train are equally long, only the last may be shorter.
Datagrams of one link leave in the order in which they were added; between links no order is promised.
"""

from __future__ import annotations

from mlvpn.core.burst_io import Train
from mlvpn.core.events import Address

MAX_TRAIN_DATAGRAMS = 64
"""The kernel's UDP_MAX_SEGMENTS before Linux 6.9; later ones take 128."""
MAX_TRAIN_BYTES = 65_000
"""Below the 65,507 bytes of payload that one UDP send may have."""


class _Run:
    """Equally long datagrams of one link."""

    __slots__ = ("datagrams", "destination", "room")

    def __init__(self, destination: Address | None, first: bytes, may_grow: bool) -> None:
        self.destination = destination
        self.datagrams = [first]
        self.room = min(MAX_TRAIN_DATAGRAMS, MAX_TRAIN_BYTES // len(first)) - 1 if may_grow else 0


class Outbox:
    """What waits to be taken by the daemon."""

    def __init__(self) -> None:
        self._finished: list[Train] = []
        self._open: dict[str, _Run] = {}

    def add(self, link: str, destination: Address | None, datagram: bytes, may_grow: bool = True) -> None:
        """Add a datagram; ``may_grow`` False sends it alone, for one that the kernel may have to fragment. HOT PATH."""
        run = self._open.get(link)
        if run is not None:
            size = len(run.datagrams[0])
            if run.room > 0 and may_grow and len(datagram) <= size and destination == run.destination:
                run.datagrams.append(datagram)
                run.room = run.room - 1 if len(datagram) == size else 0
                return
            self._finish(link, run)
        self._open[link] = _Run(destination, datagram, may_grow)

    def take(self) -> list[Train]:
        """Return all trains and forget them."""
        for link, run in self._open.items():
            self._finish(link, run)
        self._open.clear()
        trains, self._finished = self._finished, []
        return trains

    def _finish(self, link: str, run: _Run) -> None:
        self._finished.append(Train(link, run.destination, b"".join(run.datagrams), len(run.datagrams[0])))
