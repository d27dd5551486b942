"""What a sender knows of one link in its direction: capacity, base delay, standing queue, jitter, loss.

Everything comes from the receiver's reports on our own traffic; nothing is configured, nothing is sent just to measure.
The method is explained in docs/bonding.md, sections 3.1 and 3.2.

* **Rate sample**: bytes received between two reports at least ``WINDOW_NS`` apart, over the longer of the times between
  their departures and their arrivals (draft-cheng-iccrg-delivery-rate-estimation).
* **Capacity or lower bound?** Where a queue stood all the time and grew, the link was busy and the sample *is* the
  capacity: it moves the estimate either way. Else, or where so little was sent that the queue is somebody else's, it
  only shows that the link can do at least this.
* **Delay**: the clocks' offset is unknown but the same on all links, so only differences are used: to the link's own
  base (least delay of the last 10 s) for its queue, to the other links for the scheduler. A peer that never catches up
  with reading is a queue too.
* **Loss**: is congestion only where it comes with a rate below what was sent.

Owns the estimates. Does not own what is done with them (`pacer`, `scheduler`). Rates are bits per second of UDP
payload.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from mlvpn.core.feedback import MIN_FEEDBACK_NS
from mlvpn.core.jitter import Jitter
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import LinkReport
from mlvpn.wire.header import TS_MODULUS, signed_us

WINDOW_NS: Final = 60 * NS_PER_MS
"""Least span of a rate sample: 50 datagrams at 10 Mbit/s, so one more or less is 2 %."""
MAX_WINDOW_NS: Final = 1 * NS_PER_S
JITTER_WINDOW: Final = 40
"""A rate sample spans at least so many times the jitter, lest its ends decide what it says."""
STRETCHED_RATIO: Final = 1.02
"""Bytes that arrive so much slower than they left met a full link. A queue that merely stands proves nothing about
the capacity: what comes out is what the pace lets in, and following it would follow ourselves down."""
FAR_BELOW_RATIO: Final = 0.85
"""Cruising sends at least 0.92 of the estimate: so much less coming out is the link's doing."""
LITTLE_RATIO: Final = 1 / 16
"""Less than this part of what a link can do makes no queue there: one that grows is somebody else's, and says nothing
of what we could have."""
BASE_BUCKET_NS: Final = 1 * NS_PER_S
BASE_BUCKETS: Final = 10
"""The base delay is the least of the last ten seconds: a route that grew longer is believed after that."""
LOSS_WINDOW_NS: Final = 1 * NS_PER_S
INITIAL_BPS: Final = 1_000_000
INITIAL_DATAGRAMS: Final = 10
"""First guess of a link's rate: so many datagrams, as TCP begins (RFC 6928), until the peer says what became of them:
after a round trip, or the least time between two reports where that is longer."""
MIN_BPS: Final = 64_000
CAPACITY_GAIN: Final = 0.3
"""Weight of a new capacity sample: a changed rate is followed in about three reports, 100 ms."""
MIN_QUEUE_TARGET_NS: Final = 5 * NS_PER_MS
MAX_QUEUE_TARGET_NS: Final = 30 * NS_PER_MS
JITTER_FACTOR: Final = 6.0
"""A queue shorter than so many times the jitter runs dry at random. With 4, row 7 of bench.bond varied from 0.71 to
0.96 of the sum, with 6 from 0.91 to 0.94; the pings beside it took no longer."""


class WindowedMinimum:
    """The least value of the last ``BASE_BUCKETS`` buckets of time; O(1) in memory."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int]] = deque()

    def note(self, value: int, now_ns: int) -> int:
        """Take a value; return the least one of the window."""
        buckets, bucket = self._buckets, now_ns // BASE_BUCKET_NS
        if buckets and buckets[-1][0] == bucket:
            buckets[-1] = (bucket, min(value, buckets[-1][1]))
        else:
            buckets.append((bucket, value))
        while buckets[0][0] <= bucket - BASE_BUCKETS:
            buckets.popleft()
        return min(least for _, least in buckets)


class _Mark(NamedTuple):
    """One report, as an end of a rate sample."""

    arrival_us: int
    sent_us: int
    level_us: int
    """One-way delay without its jitter, from the reference."""
    queue_ns: int
    received_bytes: int


class _Sample(NamedTuple):
    """What the bytes between two reports say."""

    proven_bps: float
    """What the link has certainly done."""
    level_bps: float
    """What it has done if its jitter is left out."""
    since_us: int
    """When the first of the bytes was sent."""
    stretch_ratio: float
    """How much longer they took to arrive than to leave."""
    is_busy: bool
    """Whether a queue stood all the time."""


class Estimator:
    """Estimates of one link, fed by ``on_report``."""

    def __init__(self, now_ns: int) -> None:
        self.capacity_bps = float(INITIAL_BPS)
        self.rate_bps = 0.0
        """The newest rate sample."""
        self.held_back = False
        """Whether all through the newest sample there was more to send than pacing let out."""
        self.saturated = False
        """Whether the newest sample was the link's capacity."""
        self.stretch_ratio = 1.0
        """How much longer than to leave the bytes of the newest sample took to arrive."""
        self.delay_ns = 0
        """Least one-way delay of the newest report, offset by the unknown difference of the clocks."""
        self.base_delay_ns: int | None = None
        self.base_seen_ns = now_ns
        """When the delay was last seen at its base: the queue was empty then."""
        self.queue_ns = 0
        self.peer_wait_ns = 0
        """What of the queue stands in the peer's socket, for want of its processor."""
        self.jitter = Jitter()
        self.ack_ns = 0.0
        """Smoothed time from sending a datagram to its acknowledgement, feedback interval included."""
        self.ack_deviation_ns = 0.0
        self.ack_min_ns = 0
        """Least of it lately: the loop without any queue, at either end or between."""
        self.rtt_ns = 0.0
        self.rtt_deviation_ns = 0.0
        self.rtt_min_ns = 0
        self.loss_ratio = 0.0
        self._marks: deque[_Mark] = deque()
        self._least_delay = WindowedMinimum()
        self._least_ack = WindowedMinimum()
        self._loss_marks: deque[tuple[int, int, int]] = deque()

    @property
    def queue_target_ns(self) -> float:
        """The standing queue that keeps the link busy."""
        return self.queue_target_at_ns(self.capacity_bps)

    def queue_target_at_ns(self, rate_bps: float) -> float:
        """Return that queue for a link of this rate: a little more than its jitter, at least two datagrams."""
        wanted = min(max(JITTER_FACTOR * self.jitter.jitter_ns, MIN_QUEUE_TARGET_NS), MAX_QUEUE_TARGET_NS)
        return max(wanted, 2 * 1500 * 8e9 / rate_bps)

    @property
    def stretched(self) -> bool:
        """Whether the bytes of the newest sample took longer to arrive than to leave."""
        return self.stretch_ratio > STRETCHED_RATIO

    @property
    def delivered_bps(self) -> float:
        """What came out of the link in the newest sample, while it came: a queue that empties brings it sooner."""
        return self.rate_bps / min(self.stretch_ratio, 1.0)

    def sends_little(self, could_bps: float) -> bool:
        """Say whether so little was sent in the newest sample that a link that can do ``could_bps`` has no queue of it.

        By the rate over the longer of its spans: of the few datagrams on an unused link two may have left together.
        """
        return not self.held_back and self.rate_bps < LITTLE_RATIO * could_bps

    def keep_base(self, now_ns: int) -> None:
        """Let the base delay not be forgotten: somebody else keeps the queue from running empty."""
        if self.base_delay_ns is not None:
            self._least_delay.note(self.base_delay_ns, now_ns)

    def on_rtt(self, sample_ns: int) -> None:
        """Take a round-trip time measured by PING and PONG (RFC 6298's filter)."""
        if not self.rtt_ns:
            first_bps = INITIAL_DATAGRAMS * 1500 * 8e9 / max(sample_ns, MIN_FEEDBACK_NS)
            self.capacity_bps = max(self.capacity_bps, first_bps)
            self.rtt_ns, self.rtt_deviation_ns, self.rtt_min_ns = float(sample_ns), sample_ns / 2, sample_ns
            return
        self.rtt_deviation_ns += (abs(sample_ns - self.rtt_ns) - self.rtt_deviation_ns) / 4
        self.rtt_ns += (sample_ns - self.rtt_ns) / 8
        self.rtt_min_ns = min(self.rtt_min_ns, sample_ns)

    def on_ack(self, sample_ns: int, now_ns: int) -> None:
        """Take the time from sending the highest acknowledged datagram to now."""
        self.ack_min_ns = self._least_ack.note(sample_ns, now_ns)
        if not self.ack_ns:
            self.ack_ns, self.ack_deviation_ns = float(sample_ns), sample_ns / 4
            return
        self.ack_deviation_ns += (abs(sample_ns - self.ack_ns) - self.ack_deviation_ns) / 4
        self.ack_ns += (sample_ns - self.ack_ns) / 8

    def on_report(self, report: LinkReport, reference_us: int, limited_since_us: int | None, now_ns: int) -> None:
        """Take the receiver's report of this link.

        ``reference_us``: any one-way delay the tunnel has seen, the same for all links, to unfold the wrapping ones.
        ``limited_since_us``: since when (clock of the time stamps) there was always more to send than pacing let out;
        None if that is not so now.
        """
        self._note_delay(report, reference_us, now_ns)
        self._note_loss(report, now_ns)
        sample = self._rate_sample(report)
        if sample is None:
            return
        self.rate_bps, self.stretch_ratio = sample.proven_bps, sample.stretch_ratio
        self.held_back = limited_since_us is not None and signed_us(sample.since_us - limited_since_us) >= 0
        self.saturated = self._is_capacity(sample)
        if self.saturated:
            self.capacity_bps += CAPACITY_GAIN * (sample.level_bps - self.capacity_bps)
        else:
            self.capacity_bps = max(self.capacity_bps, sample.proven_bps)
        self.capacity_bps = max(self.capacity_bps, MIN_BPS)

    def _is_capacity(self, sample: _Sample) -> bool:
        """Say whether the link was full. Whether a jittery one was cannot be seen unless it got all it could take."""
        queue_may_be_ours = self.held_back or not (self.jitter.is_jittery or self.sends_little(self.capacity_bps))
        if not sample.is_busy or not queue_may_be_ours:
            return False
        return sample.stretch_ratio > STRETCHED_RATIO or (
            self.held_back and sample.level_bps < FAR_BELOW_RATIO * self.capacity_bps
        )

    def _note_delay(self, report: LinkReport, reference_us: int, now_ns: int) -> None:
        """Update base, queue and jitter."""
        self.delay_ns = signed_us(report.delay_min_us - reference_us) * 1000
        self.peer_wait_ns = report.wait_us * 1000
        self.jitter.note(self.delay_ns, now_ns)
        self._note_base(self.delay_ns, now_ns)
        assert self.base_delay_ns is not None
        self.queue_ns = max(int(self.jitter.level_ns - self.base_delay_ns - self.jitter.floor_ns), 0)

    def _note_base(self, delay_ns: int, now_ns: int) -> None:
        self.base_delay_ns = self._least_delay.note(delay_ns, now_ns)
        if delay_ns <= self.base_delay_ns + 1 * NS_PER_MS:
            self.base_seen_ns = now_ns

    def _note_loss(self, report: LinkReport, now_ns: int) -> None:
        """Loss over the last second: lseq that went by less datagrams that came."""
        marks = self._loss_marks
        marks.append((now_ns, report.highest, report.received_datagrams))
        while len(marks) > 2 and now_ns - marks[1][0] >= LOSS_WINDOW_NS:
            marks.popleft()
        sent = marks[-1][1] - marks[0][1]
        received = marks[-1][2] - marks[0][2]
        if sent > 0:
            self.loss_ratio = min(max(1 - received / sent, 0.0), 1.0)

    def _rate_sample(self, report: LinkReport) -> _Sample | None:
        """Return what the last window says; None if nothing came since. A jittery link needs a longer one."""
        marks = self._marks
        sent_us = (report.arrival_us - report.delay_us) % TS_MODULUS
        mark = _Mark(report.arrival_us, sent_us, self.jitter.level_ns // 1000, self.queue_ns, report.received_bytes)
        if marks and mark.arrival_us == marks[-1].arrival_us:
            return None
        if marks and signed_us(mark.arrival_us - marks[-1].arrival_us) > MAX_WINDOW_NS // 1000:
            marks.clear()
        marks.append(mark)
        window_us = min(max(WINDOW_NS, JITTER_WINDOW * self.jitter.jitter_ns), MAX_WINDOW_NS) // 1000
        while len(marks) > 2 and signed_us(mark.arrival_us - marks[1].arrival_us) >= window_us:
            marks.popleft()
        first = marks[0]
        sent_span_us = signed_us(mark.sent_us - first.sent_us)
        arrival_span_us = signed_us(mark.arrival_us - first.arrival_us)
        if max(arrival_span_us, sent_span_us) < window_us // 2:
            return None
        level_span_us = sent_span_us + mark.level_us - first.level_us if self.jitter.is_jittery else arrival_span_us
        bits = (mark.received_bytes - first.received_bytes) * 8e6
        return _Sample(
            bits / max(sent_span_us, arrival_span_us, level_span_us),
            bits / max(sent_span_us, level_span_us, 1),
            first.sent_us,
            max(level_span_us, 1) / max(sent_span_us, 1),
            min(mark.queue_ns for mark in marks) >= 0.5 * self.queue_target_ns,
        )
