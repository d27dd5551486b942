"""When a link may send how much: pacing just above an empty queue, and a bound on what is in flight.

The sender keeps each link's own queue at a few milliseconds (``Estimator.queue_target_ns``): long enough that the link
never idles while there is something to send, short enough that nobody notices. States and gains: docs/bonding.md 3.3.

    STARTUP --queue answers, or the rate stops growing--> CRUISE
    CRUISE  --queue > 2 targets--> DRAIN --queue <= target--> CRUISE
    CRUISE  --base delay not seen for 8 s--> REFRESH --base seen, or two round trips--> CRUISE
    DRAIN   --somebody takes what it gives up, or has filled the queue of an unused link--> COMPETE
    COMPETE --time to look again--> DRAIN

Owns the pace, the tokens and the bound in flight. Does not own what is measured (`estimator`) or what is sent.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from mlvpn.core.estimator import Estimator
from mlvpn.core.feedback import feedback_interval_ns
from mlvpn.units import NS_PER_MS, NS_PER_S

STARTUP_GAIN: Final = 2.0
GROWTH_ROUNDS: Final = 3
"""STARTUP ends when the rate has grown by less than a quarter in so many rounds (BBR, draft-cardwell-iccrg-bbr)."""
QUEUE_GAIN: Final = 0.4
"""Gain times delay of the control loop; the queue is an integrator with that delay, stable up to pi/2."""
MAX_STEP: Final = 0.08
PROBE_GAIN: Final = 1.25
DRAIN_GAIN: Final = 0.75
REFRESH_GAIN: Final = 0.5
REFRESH_AFTER_NS: Final = 8 * NS_PER_S
"""Before the base delay falls out of its ten-second window the queue is emptied once on purpose."""
LEAST_SHARE: Final = 1 / 16
"""However long the queue, this part of what the link could do lately is used: somebody who fills any queue (a CUBIC
upload beside the tunnel) may make a delay-based sender yield, but not give up."""
BEST_DECAY: Final = 0.999
"""Per report: half a minute of memory."""
FOLLOWED_RATIO: Final = 0.7
"""A draining link goes on to carry what it can. If so much less comes out of it, and its queue stands, it is only less
because less is sent: somebody else takes the room. Samples of a lone link differ by a tenth."""
GROWING_RATIO: Final = 1.3
"""What comes out so much slower than it was sent has met a link that became slower, which proves nothing of others."""
STEEP_GROWTH: Final = 1 / 8
"""Of the window of COMPETE per round trip, until the first loss and while the queue is short: back to what was given up
within a second."""
GROWTH_BYTES: Final = 2 * 1500
"""And after it. CUBIC grows by half as much or less at 20 Mbit/s, but the flows inside back off a second time, by the
drops that follow in the daemon's queue."""
BACKOFF: Final = 0.85
"""What a loss leaves of the window, for the same reason more than CUBIC's 0.7."""
COMPETE_GAIN: Final = 1.25
"""The window is to hold back, not the pace."""
FIRST_LOOK_NS: Final = 1 * NS_PER_S
"""COMPETE drains after so long to see whether there is still somebody else; each time twice as long."""
LAST_LOOK_NS: Final = 8 * NS_PER_S
"""And no longer than this. The flows inside feel each look; the longer there was somebody else, the likelier he still
is there."""
KEEP_BASE_NS: Final = 30 * NS_PER_S
"""Somebody else's queue need not run empty in the ten seconds after which a base delay is forgotten; a route that grew
longer looks just like that, and is believed after this time."""
LEAST_TARGET_PART: Final = 1 / 2
"""Two datagrams take the longer the less a link carries, but not on a link that is slow because others use it: the
target is that of a link with at least this part of what it could do lately. With an eighth, what somebody else left of
a link of 4 Mbit/s was cruised on with a queue of 50 ms for ever, and never claimed back."""
BURST_NS: Final = 5 * NS_PER_MS
"""Tokens that may gather: what a link sends at once after the daemon has slept."""
MIN_BURST_BYTES: Final = 2 * 1500
MIN_FLIGHT_BYTES: Final = 10 * 1500
FLIGHT_JITTER: Final = 8
"""What is in flight may take so many times the jitter longer to be acknowledged than at best: two directions wander,
each by several times the mean height of its zigzag. A tighter bound would be taken for the link's capacity."""


class Phase(Enum):
    STARTUP = "startup"
    CRUISE = "cruise"
    DRAIN = "drain"
    REFRESH = "refresh"
    COMPETE = "compete"


class Pacer:
    """Tokens and flight bound of one link."""

    def __init__(self, now_ns: int, ceiling_bps: int = 0) -> None:
        """``ceiling_bps``: the configured rate, never exceeded; 0 means none."""
        self.phase = Phase.STARTUP
        self.pace_bps = 0.0
        self.flight_limit_bytes = float(MIN_FLIGHT_BYTES)
        self.ceiling_bps = ceiling_bps
        self._tokens_bytes = float(MIN_BURST_BYTES)
        self._refilled_ns = now_ns
        self._full_bps = 0.0
        self._best_bps = 0.0
        """What the link could do lately."""
        self._stalled_rounds = 0
        self._round_ends_ns = now_ns
        self._refresh_ends_ns = 0
        self._sent_much_ns = now_ns
        """When last so much was sent that a queue may have been ours."""
        self._reference_bps = 0.0
        """What came out before it was drained."""
        self._window_bytes = 0.0
        """What COMPETE keeps in flight; 0: nobody to compete with has been found since DRAIN last began."""
        self._window_at_ns = now_ns
        self._has_lost = False
        """Whether COMPETE has met a loss."""
        self._backed_off_ns = now_ns
        self._compete_since_ns = now_ns
        self._look_ns = FIRST_LOOK_NS
        self._probe_ends_ns = 0
        self._probes = 0

    # --- tokens

    def tokens_bytes(self, now_ns: int) -> float:
        """Return how much may be sent now; negative after something urgent went ahead of its turn."""
        elapsed_ns = now_ns - self._refilled_ns
        if elapsed_ns > 0:
            self._refilled_ns = now_ns
            burst = max(MIN_BURST_BYTES, self.pace_bps * BURST_NS / 8e9)
            self._tokens_bytes = min(self._tokens_bytes + self.pace_bps * elapsed_ns / 8e9, burst)
        return self._tokens_bytes

    @property
    def saved_ns(self) -> float:
        """How long the link has been left unused, as far as it is made up for; as of the last look at the tokens."""
        return self._tokens_bytes * 8e9 / self.pace_bps if self.pace_bps else 0.0

    def spend(self, size: int) -> None:
        self._tokens_bytes -= size

    def ready_ns(self, size: int, now_ns: int) -> int:
        """Return when ``size`` bytes of tokens will be there."""
        wanting = size - self.tokens_bytes(now_ns)
        return now_ns + max(int(wanting * 8e9 / self.pace_bps), 0) + 1 if self.pace_bps else now_ns + 10 * NS_PER_MS

    # --- control

    def update(self, estimate: Estimator, wanted: bool, may_refresh: bool, now_ns: int, lost: bool = False) -> None:
        """Set pace and flight bound from fresh estimates.

        ``wanted``: more waits than pacing lets out. ``may_refresh``: no other link is in REFRESH. ``lost``: the report
        that brought the estimates names something missing.
        """
        if wanted or not estimate.sends_little(max(estimate.capacity_bps, self._best_bps)):
            self._sent_much_ns = now_ns
        self._change_phase(estimate, wanted, may_refresh, now_ns)
        if self.phase == Phase.COMPETE:
            self._compete(estimate, wanted, lost, now_ns)
        else:
            self._hold_queue_short(estimate, wanted, now_ns)
        if self.ceiling_bps:
            self.pace_bps = min(self.pace_bps, self.ceiling_bps)

    def _hold_queue_short(self, estimate: Estimator, wanted: bool, now_ns: int) -> None:
        """Set pace and bound by the queue."""
        gain = self._gain(estimate, wanted, now_ns)
        base_bps = estimate.capacity_bps
        if self.phase == Phase.DRAIN and estimate.rate_bps:
            base_bps = min(base_bps, max(estimate.rate_bps, base_bps / 4))
        self._best_bps = max(estimate.capacity_bps, self._best_bps * BEST_DECAY)
        self.pace_bps = max(base_bps * gain, self._best_bps * LEAST_SHARE)
        usual_ns = estimate.ack_ns - max(estimate.queue_ns, 0)  # longer than the least where an end is short of CPU
        loop_ns = max(estimate.ack_min_ns, estimate.rtt_min_ns, usual_ns) + 2 * self._target_ns(estimate)
        loop_ns += feedback_interval_ns(estimate.rtt_min_ns) + FLIGHT_JITTER * estimate.jitter.jitter_ns
        more = gain if self.phase == Phase.STARTUP else 1  # bounded by the estimate alone it would confirm itself
        fill_bytes = estimate.capacity_bps * more * loop_ns / 8e9
        if self.phase == Phase.DRAIN:  # perhaps only a look: somebody else's queue may stand
            fill_bytes = max(fill_bytes, self._window_bytes * DRAIN_GAIN)
        self.flight_limit_bytes = max(fill_bytes, MIN_FLIGHT_BYTES)

    def _compete(self, estimate: Estimator, wanted: bool, lost: bool, now_ns: int) -> None:
        """Set pace and bound by a window, as TCP does: somebody else decides about the queue.

        The window need not be longer than what the link, or the configured rate, would bring in a round trip.
        """
        loop_ns = max(estimate.ack_ns, 10 * NS_PER_MS)
        knows_base = now_ns - estimate.base_seen_ns < KEEP_BASE_NS
        if wanted:
            steep = not self._has_lost or (knows_base and estimate.queue_ns <= self._target_ns(estimate))
            step_bytes = self._window_bytes * STEEP_GROWTH if steep else GROWTH_BYTES
            self._window_bytes += step_bytes * min((now_ns - self._window_at_ns) / loop_ns, 1)
            most_bps = min(self._best_bps, self.ceiling_bps or self._best_bps)
            self._window_bytes = min(self._window_bytes, max(most_bps * loop_ns / 8e9, MIN_FLIGHT_BYTES))
        self._window_at_ns = now_ns
        if lost and now_ns - self._backed_off_ns > loop_ns:
            self._window_bytes = max(self._window_bytes * BACKOFF, MIN_FLIGHT_BYTES)
            self._backed_off_ns, self._has_lost = now_ns, True
        self.pace_bps = COMPETE_GAIN * self._window_bytes * 8e9 / loop_ns
        self.flight_limit_bytes = self._window_bytes
        if knows_base:
            estimate.keep_base(now_ns)

    def _change_phase(self, estimate: Estimator, wanted: bool, may_refresh: bool, now_ns: int) -> None:
        queue_ns, target_ns = estimate.queue_ns, self._target_ns(estimate)
        if self.phase == Phase.STARTUP:
            if (estimate.stretched and queue_ns > 2 * target_ns) or self._growth_ended(estimate, now_ns):
                self.phase = Phase.CRUISE
        elif self.phase == Phase.CRUISE:
            if queue_ns > 2 * target_ns + 2 * NS_PER_MS:
                self.phase = Phase.DRAIN
                self._window_bytes = 0.0
                self._reference_bps = min(estimate.delivered_bps, estimate.capacity_bps)
            elif wanted and may_refresh and now_ns - estimate.base_seen_ns > REFRESH_AFTER_NS:
                self.phase = Phase.REFRESH
                self._refresh_ends_ns = now_ns + int(2 * estimate.ack_ns) + 50 * NS_PER_MS
        elif self.phase == Phase.DRAIN:
            if queue_ns <= target_ns:
                self.phase = Phase.CRUISE
            elif self._is_room_taken(estimate, now_ns):
                self._start_to_compete(estimate, now_ns)
        elif self.phase == Phase.COMPETE:
            if now_ns - self._compete_since_ns > self._look_ns:
                self.phase = Phase.DRAIN
                self._look_ns = min(2 * self._look_ns, LAST_LOOK_NS)
                self._reference_bps = estimate.capacity_bps  # many samples: beside others a single one says little
        elif now_ns >= self._refresh_ends_ns or now_ns - estimate.base_seen_ns < REFRESH_AFTER_NS:
            self.phase = Phase.CRUISE

    def _target_ns(self, estimate: Estimator) -> float:
        return estimate.queue_target_at_ns(max(estimate.capacity_bps, self._best_bps * LEAST_TARGET_PART))

    def _is_room_taken(self, estimate: Estimator, now_ns: int) -> bool:
        """Say whether what DRAIN gives up goes to somebody else: less is sent, less comes out, the queue stands.

        Where we send next to nothing, a queue that outlasts what we had sent before is theirs.
        On a jittery link neither the queue of a moment nor the stretch of a sample tells; and who had no more to send
        has given up nothing. What waits for the peer's processor is our other links' as much as this one's.
        """
        if estimate.queue_ns - estimate.peer_wait_ns <= self._target_ns(estimate):
            return False
        if now_ns - self._sent_much_ns > estimate.queue_ns + estimate.ack_ns:
            return not estimate.jitter.is_jittery
        if estimate.stretch_ratio > GROWING_RATIO:
            self._reference_bps = estimate.delivered_bps
        tells = not estimate.jitter.is_jittery and (estimate.held_back or self._window_bytes > 0)
        return tells and estimate.delivered_bps < FOLLOWED_RATIO * self._reference_bps

    def _start_to_compete(self, estimate: Estimator, now_ns: int) -> None:
        """Go back to what was in flight before; after a look, to the window there was."""
        self.phase = Phase.COMPETE
        self._compete_since_ns = self._window_at_ns = self._backed_off_ns = now_ns
        if not self._window_bytes:
            self._window_bytes = max(self._reference_bps * estimate.ack_ns / 8e9, MIN_FLIGHT_BYTES)
            self._has_lost = False
            self._look_ns = FIRST_LOOK_NS

    def _growth_ended(self, estimate: Estimator, now_ns: int) -> bool:
        """Say whether the rate has stopped growing although there was always more to send."""
        if now_ns < self._round_ends_ns or not estimate.held_back:
            return False
        self._round_ends_ns = now_ns + max(int(estimate.ack_ns), 10 * NS_PER_MS)
        if estimate.rate_bps > self._full_bps * 1.25:
            self._full_bps = estimate.rate_bps
            self._stalled_rounds = 0
        else:
            self._stalled_rounds += 1
        return self._stalled_rounds >= GROWTH_ROUNDS

    def _gain(self, estimate: Estimator, wanted: bool, now_ns: int) -> float:
        if self.phase == Phase.STARTUP:
            return STARTUP_GAIN
        if self.phase == Phase.DRAIN:
            return DRAIN_GAIN
        if self.phase == Phase.REFRESH:
            return REFRESH_GAIN
        queue_ns, target_ns = estimate.queue_ns, self._target_ns(estimate)
        if wanted and queue_ns < target_ns / 4:
            return self._probe(estimate, now_ns)
        if queue_ns >= target_ns / 4:
            self._probes = 0
        delay_ns = max(estimate.ack_ns, 10 * NS_PER_MS)
        step = QUEUE_GAIN * (target_ns - queue_ns) / delay_ns
        return 1 + min(max(step, -MAX_STEP), MAX_STEP)

    def _probe(self, estimate: Estimator, now_ns: int) -> float:
        """The link takes all it gets and its queue stays empty: it may have become faster. Ask more, round by round."""
        if now_ns >= self._probe_ends_ns:
            self._probe_ends_ns = now_ns + max(int(estimate.ack_ns), 20 * NS_PER_MS)
            self._probes += 1
        if self._probes <= 1:
            return 1 + MAX_STEP
        return PROBE_GAIN if self._probes <= 4 else 1.5
