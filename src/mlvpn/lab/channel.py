"""One direction of an emulated link: a bottleneck with a tail-drop queue, then a wire with delay, jitter and loss.

    offer(frame) --> cut? --> [queue | rate] --> lost? --> [delay + jitter] --> due(now)

Pure: no sockets, no clock but the ``now_ns`` passed in, randomness from a seed, so that tests run it in virtual time.
When a frame is offered its whole future is known (when its last bit leaves the bottleneck, when it arrives), because
the queue is first in, first out; it is computed once and only a change of the rate computes it anew. A late caller
therefore never makes the link slower than its rate.

Choices that matter to whoever measures on it:

- The rate counts IP packets (what Ethernet carries), not Ethernet headers.
- A lost packet has used the link's rate: it is lost behind the bottleneck, as on a radio link.
- A cut drops what is under way as well as what is offered; nobody is told.
- Jitter is a delay that wanders: a new offset, uniform in +-jitter, each ``JITTER_HOLD_NS``. Independent offsets per
  packet would hide it: without reordering a packet cannot overtake, so a busy link would settle at the largest offset
  and show no jitter at all. With ``reorder`` each packet has its own offset and may overtake.
- The queue limit is in bytes and does not change with the rate: a modem's buffer gets longer in time when the radio
  gets slower.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any

ETHERNET_HEADER_BYTES = 14
NS_PER_S = 1_000_000_000
BIT_NS_PER_BYTE = 8 * NS_PER_S
"""Divided by a rate in bits/s this is the time of one byte in ns."""

JITTER_HOLD_NS = 10_000_000
"""How long one jitter offset lasts: the time scale of Wi-Fi contention and LTE scheduling."""

MIN_BUFFER_BYTES = 2 * 1500
"""A queue that cannot hold one packet being sent and one waiting is a cut, not a queue."""


@dataclass(frozen=True)
class ChannelSpec:
    """What one direction of a link is; the defaults are a perfect wire."""

    rate_bps: int | None = None
    """Bits of IP packet per second; None: unlimited."""
    delay_ns: int = 0
    """One way, behind the bottleneck."""
    jitter_ns: int = 0
    """Offsets are uniform in +-jitter_ns around the delay, never below zero delay."""
    loss_ratio: float = 0.0
    """Independent random loss, 0..1."""
    buffer_ns: int = 100_000_000
    """Length of the queue as time at ``rate_bps``."""
    trace: tuple[tuple[int, int], ...] = ()
    """(time since the start of the trace in ns, rate in bits/s), ascending; the last rate stays."""
    reorder: bool = False
    """Let jitter reorder packets."""

    def __post_init__(self) -> None:
        """Refuse what the model cannot mean."""
        rates = [rate for _, rate in self.trace] + ([] if self.rate_bps is None else [self.rate_bps])
        if any(rate <= 0 for rate in rates):
            raise ValueError("a rate must be positive; use a cut for a link that carries nothing")
        if not 0 <= self.loss_ratio <= 1:
            raise ValueError("a loss ratio lies between 0 and 1")
        if min(self.delay_ns, self.jitter_ns, self.buffer_ns) < 0:
            raise ValueError("delay, jitter and buffer cannot be negative")
        if any(later[0] <= earlier[0] for earlier, later in zip(self.trace, self.trace[1:], strict=False)):
            raise ValueError("the times of a trace must ascend")
        if self.trace and self.rate_bps is None:
            raise ValueError("a link with a trace needs a rate too: its queue is sized by it")

    @property
    def is_perfect(self) -> bool:
        """Whether a plain wire would do."""
        return self.rate_bps is None and not (self.delay_ns or self.jitter_ns or self.loss_ratio)

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON types; ``from_json`` reads it back."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ChannelSpec:
        """Read what ``to_json`` wrote; ValueError or TypeError on anything else."""
        trace = tuple((int(at_ns), int(rate_bps)) for at_ns, rate_bps in values.get("trace", ()))
        return cls(**{**values, "trace": trace})


def queue_limit_bytes(spec: ChannelSpec) -> int:
    """Return the length of the queue in bytes."""
    if spec.rate_bps is None:
        return MIN_BUFFER_BYTES
    return max(MIN_BUFFER_BYTES, spec.buffer_ns * spec.rate_bps // BIT_NS_PER_BYTE)


@dataclass
class Counters:
    """Every packet offered is in exactly one of delivered, dropped_*, or still inside."""

    offered_packets: int = 0
    offered_bytes: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0
    dropped_queue_packets: int = 0
    dropped_loss_packets: int = 0
    dropped_cut_packets: int = 0

    def to_json(self) -> dict[str, int]:
        """Turn into JSON types."""
        return dict(vars(self))


@dataclass
class Channel:
    """The model; ``offer`` takes frames in, ``due`` hands them out, ``next_due_ns`` says when to call again."""

    spec: ChannelSpec
    start_ns: int
    seed: int = 0
    counters: Counters = field(default_factory=Counters)
    is_cut: bool = False
    peak_queue_ns: int = 0
    """Longest queue since the last ``take_peak_queue_bytes``."""

    def __post_init__(self) -> None:
        """Begin with an empty link at ``start_ns``."""
        self._random = Random(self.seed)
        self._under_way: deque[tuple[int, int, bytes]] = deque()
        """(arrives at, leaves the bottleneck at, frame), by arrival."""
        self._free_ns = self.start_ns
        self._last_due_ns = self.start_ns
        self._jitter_until_ns = self.start_ns
        self._jitter_offset_ns = 0
        self._rate_bps = self.spec.rate_bps
        self._limit_bytes = queue_limit_bytes(self.spec)
        self.set_rate(self.spec.rate_bps, self.start_ns)
        self.restart_trace(self.start_ns)

    # -- packets, in the order in which they pass

    def offer(self, frame: bytes, now_ns: int) -> None:
        """Take one Ethernet frame in. HOT PATH."""
        counters = self.counters
        size_bytes = len(frame) - ETHERNET_HEADER_BYTES
        counters.offered_packets += 1
        counters.offered_bytes += size_bytes
        if self.is_cut:
            counters.dropped_cut_packets += 1
            return
        leaves_ns = now_ns
        if self._rate_bps is not None:
            if self._free_ns > now_ns:
                leaves_ns = self._free_ns
            leaves_ns += size_bytes * BIT_NS_PER_BYTE // self._rate_bps
            queue_ns = leaves_ns - now_ns
            if queue_ns > self._limit_ns:
                counters.dropped_queue_packets += 1
                return
            if queue_ns > self.peak_queue_ns:
                self.peak_queue_ns = queue_ns
            self._free_ns = leaves_ns
        if self.spec.loss_ratio and self._random.random() < self.spec.loss_ratio:
            counters.dropped_loss_packets += 1
            return
        self._travel(frame, leaves_ns)

    def _travel(self, frame: bytes, leaves_ns: int) -> None:
        """Put a frame on the wire behind the bottleneck. HOT PATH."""
        due_ns = leaves_ns + self.spec.delay_ns
        if self.spec.jitter_ns:
            due_ns = max(leaves_ns, due_ns + self._jitter_ns(leaves_ns))
        if due_ns >= self._last_due_ns:
            self._last_due_ns = due_ns
            self._under_way.append((due_ns, leaves_ns, frame))
        elif self.spec.reorder:
            self._overtake((due_ns, leaves_ns, frame))
        else:
            self._under_way.append((self._last_due_ns, leaves_ns, frame))

    def _jitter_ns(self, at_ns: int) -> int:
        if at_ns >= self._jitter_until_ns or self.spec.reorder:
            self._jitter_until_ns = at_ns + JITTER_HOLD_NS
            self._jitter_offset_ns = self._random.randint(-self.spec.jitter_ns, self.spec.jitter_ns)
        return self._jitter_offset_ns

    def _overtake(self, entry: tuple[int, int, bytes]) -> None:
        """Insert by time of arrival, looking from the end: an overtaking packet passes only a few."""
        index = len(self._under_way)
        while index and self._under_way[index - 1][0] > entry[0]:
            index -= 1
        self._under_way.insert(index, entry)

    def due(self, now_ns: int) -> list[bytes]:
        """Hand out the frames that have arrived by now, in order. HOT PATH."""
        under_way = self._under_way
        frames = []
        size_bytes = 0
        while under_way and under_way[0][0] <= now_ns:
            frame = under_way.popleft()[2]
            size_bytes += len(frame)
            frames.append(frame)
        self.counters.delivered_packets += len(frames)
        self.counters.delivered_bytes += size_bytes - ETHERNET_HEADER_BYTES * len(frames)
        return frames

    def next_due_ns(self) -> int | None:
        """When the next frame arrives, or None when nothing is under way."""
        return self._under_way[0][0] if self._under_way else None

    # -- the queue, as a person sees it

    def queue_bytes(self, now_ns: int) -> int:
        """Bytes waiting for the bottleneck, the packet just being sent counted by what is left of it."""
        return self._as_bytes(max(0, self._free_ns - now_ns))

    def take_peak_queue_bytes(self) -> int:
        """Longest queue since this was called last."""
        peak_bytes = self._as_bytes(self.peak_queue_ns)
        self.peak_queue_ns = 0
        return peak_bytes

    def _as_bytes(self, duration_ns: int) -> int:
        return 0 if self._rate_bps is None else duration_ns * self._rate_bps // BIT_NS_PER_BYTE

    # -- changes while it runs

    @property
    def rate_bps(self) -> int | None:
        """The rate now, after trace changes."""
        return self._rate_bps

    def configure(self, spec: ChannelSpec, now_ns: int) -> None:
        """Become another link; what is under way keeps its delay. Another rate or trace starts the trace anew."""
        is_another_rate = (spec.rate_bps, spec.trace) != (self.spec.rate_bps, self.spec.trace)
        self.spec = spec
        self._limit_bytes = queue_limit_bytes(spec)
        self.set_rate(spec.rate_bps if is_another_rate else self._rate_bps, now_ns)
        if is_another_rate:
            self.restart_trace(now_ns)

    def restart_trace(self, now_ns: int) -> None:
        """Let the trace begin now, so that each of several measurements sees the same one."""
        self._trace = deque((now_ns + at_ns, rate_bps) for at_ns, rate_bps in self.spec.trace)
        self.follow_trace(now_ns)

    def next_change_ns(self) -> int | None:
        """When the trace changes the rate next."""
        return self._trace[0][0] if self._trace else None

    def follow_trace(self, now_ns: int) -> None:
        """Apply the trace's changes up to now."""
        while self._trace and self._trace[0][0] <= now_ns:
            self.set_rate(self._trace.popleft()[1], now_ns)

    def set_rate(self, rate_bps: int | None, now_ns: int) -> None:
        """Change the rate: what waits for the bottleneck leaves at the new one."""
        old_rate_bps, self._rate_bps = self._rate_bps, rate_bps
        if rate_bps is not None:
            self._limit_ns = self._limit_bytes * BIT_NS_PER_BYTE // rate_bps
        if self._free_ns > now_ns and rate_bps != old_rate_bps:
            self._reschedule(old_rate_bps, now_ns)

    def _reschedule(self, old_rate_bps: int | None, now_ns: int) -> None:
        """Stretch the time still needed in the bottleneck by the ratio of the rates."""

        def moved_ns(at_ns: int) -> int:
            if old_rate_bps is None or at_ns <= now_ns:
                return at_ns
            if self._rate_bps is None:
                return now_ns
            return now_ns + (at_ns - now_ns) * old_rate_bps // self._rate_bps

        self._free_ns = moved_ns(self._free_ns)
        moved: deque[tuple[int, int, bytes]] = deque()
        latest_ns = 0
        for due_ns, leaves_ns, frame in self._under_way:
            new_leaves_ns = moved_ns(leaves_ns)
            latest_ns = max(latest_ns, new_leaves_ns + due_ns - leaves_ns)
            moved.append((latest_ns, new_leaves_ns, frame))
        self._under_way = moved
        self._last_due_ns = latest_ns

    def cut(self) -> None:
        """Lose everything silently, from now on and what is under way."""
        self.is_cut = True
        self.counters.dropped_cut_packets += len(self._under_way)
        self._under_way.clear()
        self._free_ns = self._last_due_ns = 0

    def heal(self) -> None:
        """Carry packets again."""
        self.is_cut = False
