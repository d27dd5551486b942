"""What tells a fresh datagram from one that was recorded and sent again.

MLVPN 1 has no handshake that proves that the peer is there now; all it gives is a random flow_id for each start of a
link and a seq. So both are remembered: a replay window for each flow that was ever accepted, and which link it belongs
to. A replayed datagram falls out of its window, one carried to another link finds its flow taken, one of our own
that was sent back to us has a flow_id of ours.

What stays possible is to replay a recording from before our own start while the peer is silent. The protocol offers
nothing against that; the native one does.

Owns the flows of the peer. Does not own who may begin one when (``link.py``).
"""

from __future__ import annotations

from typing import Final

from mlvpn.crypto.replay import ReplayWindow

MAX_FLOWS: Final = 256
"""Flows remembered; each is a kilobyte. The peer makes one per link and start."""
CLEAR_REACH: Final = 1 << 20
"""Datagrams that cleartext ones may be ahead of the last authentic one; more than a link carries in a second."""


class Flow:
    """One start of one link of the peer."""

    def __init__(self, flow_id: int, link: str) -> None:
        self.flow_id = flow_id
        self.link = link
        self.ended = False
        """The peer has said DISCONNECT: only AUTH begins it anew."""
        self._sealed = ReplayWindow()
        self._clear = ReplayWindow()
        """Apart, because anybody can write the seq of cleartext data and would push the window past the real ones."""

    @property
    def newest_seq(self) -> int:
        """The highest authentic seq, -1 before the first."""
        return self._sealed.highest_lseq

    def accept(self, seq: int) -> bool:
        """Record an authentic datagram; False when it is not fresh."""
        return self._sealed.accept(seq)

    def accept_range(self, first_seq: int, count: int) -> bool:
        """Record authentic datagrams that are all newer than any before; False, and nothing recorded, otherwise."""
        return self._sealed.accept_range(first_seq, count)

    def accept_clear(self, seq: int) -> bool:
        """Record an unauthenticated one; False when it is not fresh or too far ahead to be true."""
        return seq <= self._sealed.highest_lseq + CLEAR_REACH and self._clear.accept(seq)


class Flows:
    """Every flow of the peer that was accepted, over all links."""

    def __init__(self) -> None:
        self._flows: dict[int, Flow] = {}

    def find(self, flow_id: int) -> Flow | None:
        """Return the flow if it was ever accepted."""
        return self._flows.get(flow_id)

    def begin(self, flow_id: int, link: str) -> Flow:
        """Remember a new flow; the oldest is forgotten when there are too many."""
        if len(self._flows) >= MAX_FLOWS:
            del self._flows[next(iter(self._flows))]
        flow = self._flows[flow_id] = Flow(flow_id, link)
        return flow

    def forget_link(self, link: str) -> None:
        """Forget the flows of a link that is no longer configured: its name may have moved to another section."""
        self._flows = {flow_id: flow for flow_id, flow in self._flows.items() if flow.link != link}
