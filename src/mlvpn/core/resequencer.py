"""Order: each lane delivers its gseq one after the other; what comes too early waits for what is missing.

    accept -> seen before?          -> dropped, counted (a repair that was not needed)
           -> lane 0                -> delivered at once
           -> others had passed it  -> delivered late: the inner TCP can still use it
           -> next in its lane      -> delivered, and with it all that waited for it
           -> a gap before it       -> held until the gap closes, the sender gives it up (GONE), or HOLD_NS is over

The sender repairs what a link loses and says what it gives up, so a gap normally closes by itself; the bound only
catches what nobody could report (both ends count it: ``timer_releases`` is near zero in health).

*Equalising*: bulk flows that use links of different delay would see it change from packet to packet. A piece so marked
is released when the slowest link in use would have brought it: one constant delay, which BBR and CUBIC can live with.

Owns order, duplicates and holding. Does not own what a piece is (`piece`) or which delay to equalise to (`tunnel`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final

from mlvpn.core.burst_io import Delivery
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.packet import VNET_BYTES
from mlvpn.core.piece import Piece, deliveries
from mlvpn.crypto.replay import ReplayWindow
from mlvpn.errors import PeerError
from mlvpn.units import NS_PER_MS
from mlvpn.wire.frame import GSEQ_MODULUS, MAX_LANES, Gone

HOLD_NS: Final = 250 * NS_PER_MS
"""Longest a piece waits for a gap, beyond the difference of the links' delays; Linux' TCP times out at 200 ms and a
round trip, so waiting longer could not help it any more."""
HOLD_LIMIT_BYTES: Final = 32 << 20
WINDOW_BITS: Final = 1 << 16
"""gseq a lane remembers: 0.7 s at 1 Gbit/s."""
MAX_GONE: Final = 256


class _Lane:
    """One ordering domain."""

    __slots__ = ("gone", "held", "held_gseq", "held_since_ns", "next_gseq", "ready", "window")

    def __init__(self) -> None:
        self.next_gseq = 0
        self.window = ReplayWindow(WINDOW_BITS)
        self.held: list[Piece] = []
        self.held_gseq: list[int] = []
        self.held_since_ns = 0
        """Nothing that is held came before this; looked up anew only when the bound is reached."""
        self.gone: list[tuple[int, int]] = []
        """First and last of each range that the sender gave up, in order; what is behind us goes at the next look."""
        self.ready: deque[Piece] = deque()

    def unfold(self, gseq: int) -> int:
        """Return the gseq nearest to the next one that is ``gseq`` modulo 2^32."""
        half = GSEQ_MODULUS // 2
        return self.next_gseq + (gseq - self.next_gseq + half) % GSEQ_MODULUS - half


class Resequencer:
    """All lanes of one direction of a tunnel. Deliveries gather until ``take`` is called."""

    def __init__(self, counters: TunnelCounters) -> None:
        self._counters = counters
        self._lanes = [_Lane() for _ in range(MAX_LANES)]
        self._released: list[Piece] = []
        self._ready_pieces = 0
        self.held_bytes = 0
        self.spread_ns = 0
        """Difference between the slowest and the fastest link in use; holding is bounded beyond it."""

    def accept(self, piece: Piece, release_ns: int, now_ns: int) -> None:
        """Take a piece from a link; ``release_ns`` is when an equalised one may go at the earliest."""
        lane = self._lanes[piece.lane]
        piece.gseq = lane.unfold(piece.gseq)
        piece.release_ns = release_ns
        if lane.window.accept_range(piece.gseq, piece.count):
            self._place(lane, piece, now_ns)
            return
        for part in self._fresh_parts(lane, piece):
            self._place(lane, part, now_ns)

    def _fresh_parts(self, lane: _Lane, piece: Piece) -> list[Piece]:
        """Split off what has been seen before."""
        fresh = [lane.window.accept(piece.gseq + i) if piece.gseq + i >= 0 else False for i in range(piece.count)]
        self._counters.duplicate_datagrams += fresh.count(False)
        parts, start = [], 0
        while start < piece.count:
            stop = start
            while stop < piece.count and fresh[stop]:
                stop += 1
            if stop > start:
                parts.append(piece.part(start, stop - start) if stop - start < piece.count else piece)
            start = stop + 1
        return parts

    def _place(self, lane: _Lane, piece: Piece, now_ns: int) -> None:
        if not piece.lane:
            lane.next_gseq = max(lane.next_gseq, piece.gseq + piece.count)  # what `unfold` goes by
            self._deliver(piece)
        elif piece.gseq < lane.next_gseq:
            self._counters.late_datagrams += piece.count
            self._deliver(piece)
        elif piece.gseq == lane.next_gseq:
            lane.next_gseq += piece.count
            self._make_ready(lane, piece, now_ns)
            if lane.held:
                self._advance(lane, now_ns)
        else:
            self._hold(lane, piece, now_ns)

    def _hold(self, lane: _Lane, piece: Piece, now_ns: int) -> None:
        if not lane.held:
            lane.held_since_ns = now_ns
        place = bisect_left(lane.held_gseq, piece.gseq)
        lane.held_gseq.insert(place, piece.gseq)
        lane.held.insert(place, piece)
        self.held_bytes += piece.body_bytes
        if lane.gone:
            self._advance(lane, now_ns)
        if self.held_bytes > HOLD_LIMIT_BYTES:
            self._counters.hold_overflow_datagrams += piece.count
            self._pass_gap(lane, now_ns)

    def _advance(self, lane: _Lane, now_ns: int) -> None:
        """Release what no longer waits for anything."""
        done = 0
        while done < len(lane.held):
            piece = lane.held[done]
            if piece.gseq > lane.next_gseq and not self._skip_gone(lane, piece.gseq):
                break
            lane.next_gseq = piece.gseq + piece.count
            self.held_bytes -= piece.body_bytes
            self._make_ready(lane, piece, now_ns)
            done += 1
        if done:
            del lane.held[:done], lane.held_gseq[:done]

    def _skip_gone(self, lane: _Lane, until: int) -> bool:
        """Pass what the sender gave up; return whether that leads up to ``until``."""
        gone, at = lane.gone, lane.next_gseq
        while gone and gone[0][1] < at:
            del gone[0]
        for first, last in gone:
            if first > at:
                break
            at = max(at, last + 1)
        if at < until:
            return False
        self._counters.lost_datagrams += until - lane.next_gseq
        lane.next_gseq = until
        return True

    def on_gone(self, gone: Gone, now_ns: int) -> None:
        """Learn that the sender will not send these datagrams (again)."""
        lane = self._lanes[gone.lane % MAX_LANES]
        first = lane.unfold(gone.gseq)
        if first + gone.count > lane.next_gseq:
            insort(lane.gone, (first, first + gone.count - 1))
            del lane.gone[:-MAX_GONE]
            self._advance(lane, now_ns)

    def _pass_bound(self, lane: _Lane, now_ns: int) -> None:
        """Pass a gap if something has been waiting too long; several gaps before it do not add up."""
        lane.held_since_ns = min(piece.release_ns for piece in lane.held)
        if now_ns >= lane.held_since_ns + HOLD_NS + self.spread_ns:
            self._counters.timer_releases += 1
            self._pass_gap(lane, now_ns)

    def _pass_gap(self, lane: _Lane, now_ns: int) -> None:
        if lane.held:
            self._counters.lost_datagrams += lane.held_gseq[0] - lane.next_gseq
            lane.next_gseq = lane.held_gseq[0]
            self._advance(lane, now_ns)

    # --- release

    def _make_ready(self, lane: _Lane, piece: Piece, now_ns: int) -> None:
        ready = lane.ready
        if not ready and (not piece.equalise or piece.release_ns <= now_ns):
            self._deliver(piece)
            return
        if not piece.equalise:
            piece.release_ns = now_ns
        for earlier in reversed(ready):  # nobody waits longer than those behind it: a repair is not delayed again
            if earlier.release_ns <= piece.release_ns:
                break
            earlier.release_ns = piece.release_ns
        ready.append(piece)
        self._ready_pieces += 1

    def _deliver(self, piece: Piece) -> None:
        self._released.append(piece)

    def tick(self, now_ns: int) -> None:
        """Release what has been equalised, and what has waited as long as anything may."""
        if not self._anything_waits:
            return
        for lane in self._lanes:
            while lane.held and now_ns >= lane.held_since_ns + HOLD_NS + self.spread_ns:
                self._pass_bound(lane, now_ns)
            while lane.ready and lane.ready[0].release_ns <= now_ns:
                self._deliver(lane.ready.popleft())
                self._ready_pieces -= 1

    @property
    def _anything_waits(self) -> bool:
        """Whether any lane need be looked at; HOT PATH, mostly none need."""
        return bool(self._ready_pieces or self.held_bytes)

    def next_deadline_ns(self) -> int | None:
        """Say when ``tick`` has something to do."""
        if not self._anything_waits:
            return None
        deadline: int | None = None
        for lane in self._lanes:
            if lane.held:
                bound = lane.held_since_ns + HOLD_NS + self.spread_ns
                deadline = bound if deadline is None else min(deadline, bound)
            if lane.ready:
                due = lane.ready[0].release_ns
                deadline = due if deadline is None else min(deadline, due)
        return deadline

    def take(self) -> list[Delivery]:
        """Take what is to be written to the TUN, in order; pieces that extend each other become one write."""
        released, self._released = self._released, []
        taken: list[Delivery] = []
        first = 0
        for after in range(1, len(released) + 1):
            if after == len(released) or not released[after].extends(released[after - 1]):
                self._convert(released[first:after], taken)
                first = after
        return taken

    def _convert(self, pieces: list[Piece], taken: list[Delivery]) -> None:
        try:
            frames = deliveries(pieces)
        except PeerError:
            self._counters.malformed_frames += sum(piece.count for piece in pieces)
            return
        self._counters.delivered_packets += len(frames)
        self._counters.delivered_bytes -= VNET_BYTES * len(frames)
        for frame in frames:
            for buffer in frame:
                self._counters.delivered_bytes += len(buffer)
        taken += frames

    def take_all(self) -> list[Delivery]:
        """Take all there is, what still waits for something before it included: nothing more will come."""
        for lane in self._lanes:
            for piece in (*lane.ready, *lane.held):
                self._deliver(piece)
            lane.ready.clear()
            lane.held.clear()
            lane.held_gseq.clear()
        self.held_bytes = self._ready_pieces = 0
        return self.take()

    @property
    def held_datagrams(self) -> int:
        return sum(piece.count for lane in self._lanes for piece in lane.held)
