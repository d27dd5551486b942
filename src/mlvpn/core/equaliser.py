"""How much delay each bulk flow bears, so that links slower than the fastest can carry part of it.

In-order delivery over links of different delay makes the whole flow as slow as the slowest of them. Whether that costs
throughput depends on the sender: CUBIC has to grow its window first, BBR keeps at most two bandwidth-delay products in
flight by the least round trip of the last ten seconds and starves beyond. What the sender can bear shows in the queue:
packets that wait there are in flight beyond what the links need. So the *hold* is what turns waiting here into waiting
at the far end; the flow's round trip stays as it was, and no rate is lost.

A flow whose window is *bounded* gets more of one by *aggregation*: once in a while what is held is released all
together. BBR takes that for a network that gathers acknowledgements, and keeps as much more in flight. And every ten
seconds BBR measures its least round trip, in a pause; what it finds then decides about the next ten, so for that moment
such a flow is held for as long as is of use.

    packets wait longer than RESERVE_NS: raise by part of what is too long --> ... --> the slow link's delay: it joins
    shorter, and no slower link has joined yet: lower as far
    the slow link is nearer, or gone, for a second: lower as far
    the links without the slowest are not full: lower by as much as is lacking
    no longer busy: 0
    nothing waits and no more has been in flight for long, though the flow was not cut: bounded, until it is cut
    bounded, and BBR is about to measure its least round trip: all the delay that is of use, until it has

A flow may use a link that is behind the fastest by no more than its hold. Its lane is held by that much: the receiver
releases each piece when a link so far behind would have brought it, one constant delay for all.

Owns the holds and who is bounded. Does not own the choice of link (`scheduler`) or the holding itself (`resequencer`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from mlvpn.core import scheduler
from mlvpn.core.flow import Flow
from mlvpn.core.link import Link
from mlvpn.core.pacer import Phase
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import Hold

EVERY_NS: Final = 20 * NS_PER_MS
REPEAT_NS: Final = 200 * NS_PER_MS
"""Holds are told again this often: a lost HOLD costs no more."""
MIN_PERIOD_NS: Final = 100 * NS_PER_MS
"""A flow is judged once per round trip, after a change of its hold every other one, and no more often than this."""
RESERVE_NS: Final = 3 * NS_PER_MS
"""Packets go on waiting this long, so that the links do not run dry while BBR sends less for a round trip."""
RAISE_RATIO: Final = 0.75
"""What waits too long becomes hold by this part at a time: BBR, when it probes, has more in flight than it keeps,
and a hold raised by all of it would cost rate until it is low again."""
FULL_RATIO: Final = 0.92
"""The links count as full from here on: inner packets are 0.97 of what a full link carries."""
PAUSE_RATIO: Final = 0.5
"""A flow that fills so little pauses; CUBIC's cut leaves 0.7."""
BUSY_RATIO: Final = 0.6
"""Below this part of the fastest links for ``CALM_NS`` the flows need no slower link; CUBIC's cut leaves 0.7."""
CALM_NS: Final = 1 * NS_PER_S
MIN_SPREAD_NS: Final = 3 * NS_PER_MS
"""Links whose delays differ by less need no holding; keeping the order is enough."""
MARGIN_NS: Final = 2 * NS_PER_MS
WORTH_RATIO: Final = 0.03
"""A slow link that adds less than this to the sum is not waited for, once its capacity is known."""
BOUNDED_RESERVE_RATIO: Final = 1 / 8
"""Of its hold: what a flow with a bounded window keeps waiting besides. BBR takes a quarter of its least round trip out
of what is in flight after each probe, and that is longer by what the hold was at the time."""
STALLED_NS: Final = 2 * NS_PER_S
"""A window that has not grown for so long is bounded."""
GROWTH_RATIO: Final = 1.05
"""What CUBIC has in flight grows by more than that in this time: 200 segments by one each two round trips."""
AGGREGATED_ROUND_TRIPS: Final = 2.5
"""The longest hold that is of use has to be within this for aggregation. While pieces gather, the links run dry by as
much as the hold is longer than the round trip, and a link too far behind would not join for all that."""
MAX_AGGREGATION_NS: Final = 100 * NS_PER_MS
"""Linux' BBR adds no more than this to its window (tcp_bbr.c, bbr_extra_acked_max_us)."""
SEGMENT_BYTES: Final = 1400
"""Of inner TCP, nearly enough for a cube root."""
MEASURED_EVERY_NS: Final = 10 * NS_PER_S
"""Linux' BBR measures its least round trip so long after it last found it (tcp_bbr.c, bbr_min_rtt_win_sec)."""
PATIENCE_NS: Final = 700 * NS_PER_MS
"""How long that is waited for. The least round trip may have been found a little after the flow's first packet, or
after the pause was seen; and a flow of another kind, which makes no pause, is held too long for no more than this."""
QUIET_RATIO: Final = 0.1
"""A flow that sends so much less than before makes a pause: of BBR's window four segments are left."""
_CAPACITY_UNKNOWN: Final = (Phase.STARTUP, Phase.COMPETE)
"""Beside somebody else a link that is hardly used cannot show what it could do; not waited for, it never would be."""

_Behind = Sequence[tuple[float, Link]]
"""How far behind the fastest each eligible link is, in nanoseconds."""


class Equaliser:
    """Decides for all bulk flows; ``update`` is cheap to call often."""

    def __init__(self) -> None:
        self._updated_ns = 0
        self._busy_ns = 0
        self._wanted_ns = self._wanted_before_ns = 0
        """The longest hold that had a use since ``_wanted_since_ns``, and in the time before."""
        self._wanted_since_ns = 0
        self._told: dict[int, Hold] = {}
        self._told_ns = 0

    def update(self, flows: Collection[Flow], links: Sequence[Link], now_ns: int) -> list[Hold]:
        """Bring all holds up to date; return what the receiver has to be told. ``links``: least delay first."""
        if now_ns - self._updated_ns < EVERY_NS or not links:
            return []
        self._updated_ns = now_ns
        behind = [(scheduler.behind_ns(link, links[0]), link) for link in links]
        total_bps = sum(flow.rate_bps for flow in flows)
        if total_bps >= BUSY_RATIO * _capacity_bps(behind, MIN_SPREAD_NS):
            self._busy_ns = now_ns
        self._note_wanted(_wanted_ns(behind), now_ns)
        holds: dict[int, Hold] = {}
        for flow in flows:
            self._judge(flow, total_bps, behind, now_ns)
            hold = Hold(flow.lane, flow.hold_ns // 1000, self._aggregation_ns(flow, links[0]) // 1000)
            holds[flow.lane] = min(hold, holds.get(flow.lane, hold))
        return self._changes(holds, now_ns)

    def _note_wanted(self, wanted_ns: int, now_ns: int) -> None:
        """Remember for a second or two which hold had a use: a link that is suspected for a moment, or loses much while
        somebody else fills it to the brim, is back long before another hold could be built up."""
        if now_ns - self._wanted_since_ns > CALM_NS:
            is_recent = now_ns - self._wanted_since_ns < 2 * CALM_NS
            self._wanted_before_ns = self._wanted_ns if is_recent else 0
            self._wanted_ns, self._wanted_since_ns = 0, now_ns
        self._wanted_ns = max(self._wanted_ns, wanted_ns)

    @property
    def _longest_ns(self) -> int:
        """The longest hold that has a use."""
        return max(self._wanted_ns, self._wanted_before_ns)

    def _judge(self, flow: Flow, total_bps: float, behind: _Behind, now_ns: int) -> None:
        """Measure a flow's rate and waiting once per round trip, and move its hold accordingly.

        After a move one round trip passes unjudged: answering twice to the same queue would overshoot.
        """
        self._await_measurement(flow, now_ns)
        rtt_ns = behind[0][1].estimator.rtt_min_ns + flow.hold_ns
        span_ns = now_ns - flow.judged_ns
        if span_ns < max(rtt_ns, MIN_PERIOD_NS):
            return
        rate_bytes, waited_byte_ns = flow.rate_bytes, flow.waited_byte_ns
        flow.judged_ns, flow.rate_bytes, flow.waited_byte_ns = now_ns, 0, 0
        if flow.settles:
            flow.settles = False
            return
        before_bps, flow.rate_bps = flow.rate_bps, rate_bytes * 8e9 / span_ns
        if flow.rate_bps < QUIET_RATIO * before_bps:
            flow.quiet_ns, flow.awaited = now_ns, False
        waited_ns = waited_byte_ns / max(rate_bytes, 1)
        excess_ns = waited_ns - _reserve_ns(flow)
        before_ns = flow.hold_ns
        if not flow.awaited:
            self._move_hold(flow, excess_ns, total_bps, behind, now_ns)
        flow.settles = abs(flow.hold_ns - before_ns) > NS_PER_MS
        self._judge_bound(flow, excess_ns, rtt_ns + waited_ns, now_ns)

    def _await_measurement(self, flow: Flow, now_ns: int) -> None:
        """Hold a bounded flow for as long as is of use while BBR may be about to measure its least round trip."""
        since_ns = now_ns - flow.quiet_ns - MEASURED_EVERY_NS
        is_near = -self._longest_ns - MIN_PERIOD_NS < since_ns < PATIENCE_NS
        if is_near and flow.bounded and flow.hold_ns + MIN_SPREAD_NS < self._longest_ns:
            flow.awaited, flow.usual_hold_ns, flow.hold_ns, flow.settles = True, flow.hold_ns, self._longest_ns, True
        elif flow.awaited and not is_near:
            flow.awaited, flow.hold_ns = False, flow.usual_hold_ns
        if flow.awaited:
            self._busy_ns = now_ns

    def _move_hold(self, flow: Flow, excess_ns: float, total_bps: float, behind: _Behind, now_ns: int) -> None:
        """Raise or lower the hold of ``flow``, which has waited ``excess_ns`` longer than its reserve."""
        wanted_ns = self._longest_ns
        flow.hold_ns = min(flow.hold_ns, wanted_ns)
        filled = total_bps / _without_slowest_bps(behind, flow.hold_ns)
        lacks = self._lacks(flow, filled)
        if now_ns - self._busy_ns > CALM_NS:
            flow.hold_ns = 0
        elif excess_ns > 0:
            flow.hold_ns = min(flow.hold_ns + int(RAISE_RATIO * excess_ns), wanted_ns)
        elif lacks:
            # What the flow has in flight fills the links if the round trip is as much shorter as the rate is too low.
            rtt_ns = behind[0][1].estimator.rtt_min_ns + flow.hold_ns
            flow.hold_ns = max(flow.hold_ns - int((1 - filled) * rtt_ns), 0)
        elif filled >= FULL_RATIO:
            used_ns = min(_used_ns(behind, flow.hold_ns), flow.hold_ns)
            flow.hold_ns = max(flow.hold_ns + int(excess_ns), used_ns)

    def _lacks(self, flow: Flow, filled: float) -> bool:
        """Say whether the flow has failed to fill the links twice running.

        A pause is no sign of it: BBR lets go of nearly everything for 200 ms to measure its round trip anew, and must
        not find it shorter just then.
        """
        was_short, flow.short = flow.short, PAUSE_RATIO < filled < FULL_RATIO
        return was_short and flow.short

    def _judge_bound(self, flow: Flow, excess_ns: float, rtt_ns: float, now_ns: int) -> None:
        """Find out whether the window of ``flow`` is bounded: nothing waits, although no cut can be the reason.

        One that could grow would have done so meanwhile. CUBIC, taken for bounded, would lose by aggregation.
        """
        flight_bytes = flow.rate_bps * rtt_ns / 8e9
        is_cut = flow.cut_ns is not None and now_ns - flow.cut_ns < _regrowth_ns(flight_bytes)
        if is_cut or not flow.hold_ns or flight_bytes > GROWTH_RATIO * flow.largest_flight_bytes:
            flow.largest_flight_bytes, flow.grown_ns = flight_bytes, now_ns
        if is_cut:
            flow.bounded = False
        elif excess_ns <= 0 and now_ns - flow.grown_ns > STALLED_NS:
            flow.bounded = True

    def _aggregation_ns(self, flow: Flow, fastest: Link) -> int:
        is_worth_it = self._longest_ns <= AGGREGATED_ROUND_TRIPS * fastest.estimator.rtt_min_ns
        return min(flow.hold_ns, MAX_AGGREGATION_NS) if flow.bounded and is_worth_it else 0

    def _changes(self, holds: dict[int, Hold], now_ns: int) -> list[Hold]:
        """Return all holds if one has changed or it is time to tell them again; a lane no longer held is told so."""
        for lane in self._told:
            holds.setdefault(lane, Hold(lane, 0))
        changed = any(_differ(hold, self._told.get(hold.lane, Hold(hold.lane, 0))) for hold in holds.values())
        held = {lane: hold for lane, hold in holds.items() if hold.hold_us}
        if not changed and not (held and now_ns - self._told_ns >= REPEAT_NS):
            return []
        self._told, self._told_ns = held, now_ns
        return list(holds.values())


def _differ(hold: Hold, told: Hold) -> bool:
    return abs(hold.hold_us - told.hold_us) > 1000 or bool(hold.aggregation_us) != bool(told.aggregation_us)


def _reserve_ns(flow: Flow) -> float:
    return RESERVE_NS + BOUNDED_RESERVE_RATIO * flow.hold_ns * flow.bounded


def _regrowth_ns(window_bytes: float) -> float:
    """Return how long CUBIC takes to grow back what a cut takes from its window: K of RFC 9438, 4.2."""
    return float((0.3 * window_bytes / SEGMENT_BYTES / 0.4) ** (1 / 3) * NS_PER_S)


def _capacity_bps(behind: _Behind, limit_ns: float) -> float:
    """Return the capacity of the links that are at most ``limit_ns`` behind."""
    return sum(link.estimator.capacity_bps for delay_ns, link in behind if delay_ns <= limit_ns)


def _without_slowest_bps(behind: _Behind, hold_ns: int) -> float:
    """Return the capacity of the links a flow may use less the slowest of them, or of the fastest if it has only those.

    If a flow does not even fill these, the slowest one is not worth its delay.
    """
    slowest_ns = _used_ns(behind, hold_ns)
    return _capacity_bps(behind, max(slowest_ns - MIN_SPREAD_NS, MIN_SPREAD_NS))


def _used_ns(behind: _Behind, hold_ns: int) -> int:
    """Return how far behind the slowest of the links is that a flow may use with this hold."""
    return int(max(delay_ns for delay_ns, _ in behind if delay_ns <= hold_ns + scheduler.BULK_SPREAD_NS))


def _wanted_ns(behind: _Behind) -> int:
    """Return the hold with which every link that is worth it can take part, whatever the fastest one's queue is now."""
    least_bps = WORTH_RATIO * sum(link.estimator.capacity_bps for _, link in behind)
    fastest_ns = behind[0][1].estimator.base_delay_ns or 0
    delays_ns = [
        max(delay_ns, (link.estimator.base_delay_ns or 0) - fastest_ns)
        for delay_ns, link in behind
        if delay_ns <= scheduler.MAX_SPREAD_NS
        and (link.estimator.capacity_bps >= least_bps or link.pacer.phase in _CAPACITY_UNKNOWN)
    ]
    slowest_ns = max(delays_ns, default=0.0)
    return int(slowest_ns + MARGIN_NS) if slowest_ns >= MIN_SPREAD_NS else 0
