"""Gathers packets into runs: what one seal call and one send call take.

Owns the rule of UDP segmentation offload: all datagrams of a train are equally long, only the last may be shorter.
Packets of one link leave in the order in which they were added; between links no order is promised.
"""

from __future__ import annotations

from typing import Final

from mlvpn.core.mlvpn1.link import Link

MAX_RUN_PACKETS: Final = 16
"""A C daemon reads packet by packet and has a ring of 64 for reordering, if it follows its documentation: what one link
brings ahead of the others must fit. The kernel's 63 would save a tenth of CPU time and be no faster between two of us.
"""
MAX_RUN_BYTES: Final = 65_000
"""Below the 65,507 bytes of payload that one UDP send may have; overhead included."""
OVERHEAD_BYTES: Final = 44


class Run:
    """Equally long packets for one link, the last maybe shorter."""

    __slots__ = ("data_seqs", "link", "packet_bytes", "packets", "room")

    def __init__(self, link: Link, packet_bytes: int, may_grow: bool) -> None:
        self.link = link
        self.packet_bytes = packet_bytes
        self.packets: list[bytes] = []
        self.data_seqs: list[int] = []
        self.room = min(MAX_RUN_PACKETS, MAX_RUN_BYTES // (packet_bytes + OVERHEAD_BYTES)) if may_grow else 1


class Outbox:
    """Packets that have their link and number and wait to be sealed."""

    def __init__(self) -> None:
        self._finished: list[Run] = []
        self._open: dict[str, Run] = {}

    def add(self, link: Link, packet: bytes, data_seq: int, may_grow: bool) -> None:
        """Add a packet; ``may_grow`` False sends it alone, for one that the kernel may have to fragment. HOT PATH."""
        size = len(packet)
        run = self._open.get(link.name)
        if run is None or run.room == 0 or size > run.packet_bytes or not may_grow:
            if run is not None:
                self._finished.append(run)
            run = self._open[link.name] = Run(link, size, may_grow)
        run.packets.append(packet)
        run.data_seqs.append(data_seq)
        run.room = run.room - 1 if size == run.packet_bytes else 0

    def take(self) -> list[Run]:
        """Return all runs and forget them."""
        runs = [*self._finished, *self._open.values()]
        self._finished.clear()
        self._open.clear()
        return runs
