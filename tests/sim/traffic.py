"""TCP in virtual time: bulk flows with CUBIC or BBR over simulated links, near enough to Linux to see what they mind.

What it models: packets, SACK, RACK's tolerance of reordering (a quarter of the least round trip), HyStart by delay,
CUBIC (RFC 9438), BBR version 1 (pacing, probing, ProbeRTT, its bound of two bandwidth-delay products and what was
lately acknowledged at once). What it does not: timeouts other than one of 300 ms, delayed ACKs beyond two segments,
byte counts.

Owns the traffic of simulations. Does not own links or tunnels (`sim/simulator.py`).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from sim.simulator import MS, SECOND, End, Path, SimLink, Simulator

SEGMENT_BYTES = 1380
_HEADER = struct.Struct(">BBHHHBBHIIHHIIBBHHH")
_TCP_ACK = 0x10
RTO_NS = 300 * MS


def tcp_frame(number: int, payload_bytes: int, port: int, to_client: bool) -> bytes:
    """Return a TUN frame with a TCP segment that carries ``number`` in its sequence and acknowledgement fields."""
    addresses = (0x0A080002, 0x0A080001) if to_client else (0x0A080001, 0x0A080002)
    header = _HEADER.pack(
        0x45, 0, 40 + payload_bytes, 0, 0x4000, 64, 6, 0, *addresses, port, 5001,
        number >> 32, number & 0xFFFFFFFF, 0x50, _TCP_ACK, 1000, 0, 0,
    )  # fmt: skip
    return bytes(10) + header + bytes(payload_bytes)


def tcp_number(packet: bytes) -> tuple[int, int]:
    """Return (port, number) of a packet made by ``tcp_frame``."""
    return int.from_bytes(packet[20:22], "big"), int.from_bytes(packet[24:32], "big")


class Cubic:
    """Window growth of RFC 9438, slow start with HyStart's delay test. Window in segments."""

    def __init__(self) -> None:
        self.window = 10.0
        self.threshold = float("inf")
        self._w_max = 0.0
        self._epoch_ns = 0
        self._k = 0.0
        self._round_end = 0
        self._round_min_ns = 0
        self._last_round_min_ns = 0
        self._samples = 0

    def on_ack(self, flow: TcpFlow, segments: int, rtt_ns: int) -> None:
        if self.window < self.threshold:
            self.window += segments
            self._hystart(flow, rtt_ns)
            return
        if not self._epoch_ns:
            self._epoch_ns = flow.sim.now_ns
            self._w_max = max(self._w_max, self.window)
            self._k = ((self._w_max - self.window) / 0.4) ** (1 / 3)
        t = (flow.sim.now_ns - self._epoch_ns + flow.min_rtt_ns) / 1e9
        target = min(0.4 * (t - self._k) ** 3 + self._w_max, 1.5 * self.window)
        self.window += max(target - self.window, 0.01) / self.window * segments

    def _hystart(self, flow: TcpFlow, rtt_ns: int) -> None:
        if flow.acknowledged > self._round_end:
            self._round_end = flow.next_number
            self._last_round_min_ns, self._round_min_ns, self._samples = self._round_min_ns, 0, 0
        self._samples += 1
        self._round_min_ns = min(self._round_min_ns or rtt_ns, rtt_ns)
        step = min(max(self._last_round_min_ns // 8, 4 * MS), 16 * MS)
        if self._samples == 8 and self._last_round_min_ns and self._round_min_ns > self._last_round_min_ns + step:
            self.threshold = self.window

    def on_loss(self, flow: TcpFlow) -> None:
        self._w_max = self.window * 0.85 if self.window < self._w_max else self.window
        self.window = self.threshold = max(self.window * 0.7, 2)
        self._epoch_ns = 0

    def pace_ns(self, flow: TcpFlow) -> int:
        return 0


class Bbr:
    """BBR version 1 (tcp_bbr.c): STARTUP, DRAIN, PROBE_BW, PROBE_RTT."""

    CYCLE = (1.25, 0.75, 1, 1, 1, 1, 1, 1)

    def __init__(self) -> None:
        self.window = 10.0
        self._bandwidth: deque[tuple[int, float]] = deque()
        self._rounds = 0
        self._round_end = 0
        self._full = 0.0
        self._full_rounds = 0
        self._mode = "startup"
        self._phase = 0
        self._phase_ns = 0
        self._min_rtt_ns = 0
        self._min_rtt_at_ns = 0
        self._probe_until_ns = 0
        self._epoch_ns = 0
        self._epoch_acked = 0
        self._extra_acked: deque[tuple[int, float]] = deque()

    def bandwidth(self) -> float:
        """Segments per second."""
        return max((rate for _, rate in self._bandwidth), default=0.0)

    def on_ack(self, flow: TcpFlow, segments: int, rtt_ns: int) -> None:
        now_ns = flow.sim.now_ns
        if flow.acknowledged > self._round_end:
            self._round_end = flow.next_number
            self._rounds += 1
            self._check_full()
        rate = flow.delivery_rate
        if rate and (not flow.app_limited or rate > self.bandwidth()):
            self._bandwidth.append((self._rounds, rate))
        while self._bandwidth and self._bandwidth[0][0] < self._rounds - 10:
            self._bandwidth.popleft()
        expired = now_ns - self._min_rtt_at_ns > 10 * SECOND
        if not self._min_rtt_ns or rtt_ns <= self._min_rtt_ns or expired:
            if expired and self._min_rtt_ns and self._mode != "startup":
                self._probe_until_ns = now_ns + 200 * MS + rtt_ns
            self._min_rtt_ns, self._min_rtt_at_ns = rtt_ns, now_ns
        bdp = self.bandwidth() * self._min_rtt_ns / 1e9
        self._note_aggregation(segments, now_ns)
        if self._mode == "drain" and flow.flight <= bdp:
            self._mode, self._phase_ns = "probe", now_ns
        if self._mode == "probe" and now_ns - self._phase_ns > self._min_rtt_ns:
            self._phase, self._phase_ns = (self._phase + 1) % 8, now_ns
        if now_ns < self._probe_until_ns:
            self.window = 4
        else:
            gain = 2.885 if self._mode == "startup" else 2.0
            extra = 0 if self._mode == "startup" else max((extra for _, extra in self._extra_acked), default=0)
            self.window = max(gain * bdp + extra, self.window + segments if self._mode == "startup" and not bdp else 4)

    def _note_aggregation(self, segments: int, now_ns: int) -> None:
        """Remember for up to ten round trips how much more was acknowledged than the bandwidth explains."""
        expected = self.bandwidth() * (now_ns - self._epoch_ns) / 1e9
        if self._epoch_acked <= expected:
            self._epoch_ns, self._epoch_acked, expected = now_ns, 0, 0
        self._epoch_acked += segments
        most = min(self._epoch_acked - expected, self.window, self.bandwidth() / 10)
        while self._extra_acked and self._extra_acked[-1][1] <= most:
            self._extra_acked.pop()
        self._extra_acked.append((self._rounds, most))
        while self._extra_acked[0][0] < self._rounds - 10:
            self._extra_acked.popleft()

    def _check_full(self) -> None:
        if self._mode != "startup":
            return
        if self.bandwidth() > self._full * 1.25:
            self._full, self._full_rounds = self.bandwidth(), 0
        else:
            self._full_rounds += 1
        if self._full_rounds >= 3:
            self._mode = "drain"

    def on_loss(self, flow: TcpFlow) -> None:
        pass

    def pace_ns(self, flow: TcpFlow) -> int:
        gain = {"startup": 2.885, "drain": 0.35, "probe": self.CYCLE[self._phase]}[self._mode]
        rate = self.bandwidth() * gain
        return int(1e9 / rate) if rate else 0


class TcpFlow:
    """A bulk flow from one end to the other."""

    def __init__(self, sim: Simulator, to_client: bool, control: Cubic | Bbr, port: int = 40001) -> None:
        self.sim = sim
        self.control = control
        self.port = port
        self.sender: End | _Wire = sim.server if to_client else sim.client
        self.receiver: End | _Wire = sim.client if to_client else sim.server
        self._to_client = to_client
        self.next_number = 0
        self.acknowledged = 0
        self.min_rtt_ns = 0
        self.delivered = 0
        self.delivery_rate = 0.0
        self.app_limited = False
        self.retransmitted = 0
        self.timeouts = 0
        self.stopped = False
        self._sent: dict[int, tuple[int, int, int]] = {}
        self._lost: deque[int] = deque()
        self._newest_delivered_ns = 0
        self._recovery_until = 0
        self._next_send_ns = 0
        self._waking = False
        self._received: set[int] = set()
        self._expected = 0
        self.goodput: list[tuple[int, int]] = []
        self._progress_ns = sim.now_ns
        sim.after(0, self.fill)
        sim.after(RTO_NS, self._check_timeout)

    @property
    def flight(self) -> int:
        return len(self._sent)

    def stop(self) -> None:
        self.stopped = True

    def fill(self) -> None:
        """Send what window and pacing allow."""
        self._waking = False
        frames = []
        now_ns = self.sim.now_ns
        while not self.stopped and (self.flight < self.control.window or (self._lost and self.flight < 2)):
            if now_ns < self._next_send_ns:
                self._wake(self._next_send_ns)
                break
            number = self._lost.popleft() if self._lost else self.next_number
            self.next_number = max(self.next_number, number + 1)
            self._sent[number] = (now_ns, self.delivered, now_ns)
            frames.append(tcp_frame(number, SEGMENT_BYTES, self.port, self._to_client))
            pace_ns = self.control.pace_ns(self)
            if pace_ns:
                self._next_send_ns = max(self._next_send_ns, now_ns - MS) + pace_ns
            if len(frames) >= 64:
                self._wake(now_ns + 1000)
                break
        if frames:
            self.sender.submit(frames)

    def _wake(self, when_ns: int) -> None:
        if not self._waking:
            self._waking = True
            self.sim.at(when_ns, self.fill)

    def on_data(self, number: int, now_ns: int) -> None:
        """At the receiver."""
        self._received.add(number)
        before = self._expected
        while self._expected in self._received:
            self._received.discard(self._expected)
            self._expected += 1
        if self._expected > before:
            self.goodput.append((now_ns, (self._expected - before) * SEGMENT_BYTES))
        ack = (self._expected << 31) | number & 0x7FFFFFFF
        self.receiver.submit([tcp_frame(ack, 0, self.port, not self._to_client)])

    def on_ack(self, ack: int, now_ns: int) -> None:
        """At the sender."""
        expected, number = ack >> 31, ack & 0x7FFFFFFF
        self._progress_ns = now_ns
        done = 0
        for acked in [number, *range(self.acknowledged, expected)]:
            entry = self._sent.pop(acked, None)
            if entry is None:
                continue
            done += 1
            self.delivered += 1
            sent_ns, delivered_before, _ = entry
            rtt_ns = now_ns - sent_ns
            self.min_rtt_ns = min(self.min_rtt_ns or rtt_ns, rtt_ns)
            self._newest_delivered_ns = max(self._newest_delivered_ns, sent_ns)
            self.delivery_rate = (self.delivered - delivered_before) * 1e9 / max(rtt_ns, 1)
        self.acknowledged = max(self.acknowledged, expected)
        if done:
            self.control.on_ack(self, done, rtt_ns)
        self._detect_loss()
        self.fill()

    def _detect_loss(self) -> None:
        """RACK: what was sent a quarter round trip before something that arrived is lost."""
        limit_ns = self._newest_delivered_ns - self.min_rtt_ns // 4
        lost = []
        for number, (sent_ns, _, _) in self._sent.items():
            if sent_ns >= limit_ns:
                break
            lost.append(number)
        for number in lost:
            del self._sent[number]
            self._lost.append(number)
            self.retransmitted += 1
        if lost and max(lost) >= self._recovery_until:
            self._recovery_until = self.next_number
            self.control.on_loss(self)

    def _check_timeout(self) -> None:
        if self._sent and self.sim.now_ns - self._progress_ns > RTO_NS:
            self.timeouts += 1
            self._lost.extend(sorted(self._sent))
            self._sent.clear()
            self.control.on_loss(self)
            self._progress_ns = self.sim.now_ns
            self.fill()
        self.sim.after(RTO_NS // 3, self._check_timeout)

    def rate_bps(self, since_ns: int, until_ns: int) -> float:
        """Return the goodput between two times."""
        total = sum(size for at, size in self.goodput if since_ns <= at < until_ns)
        return total * 8e9 / (until_ns - since_ns)


class ForeignFlow(TcpFlow):
    """A bulk flow beside the tunnel: over a link as it is, in the same queue as the tunnel's datagrams."""

    def __init__(self, sim: Simulator, link: SimLink, to_client: bool, control: Cubic | Bbr) -> None:
        super().__init__(sim, to_client, control)
        there, back = reversed(link.paths) if to_client else link.paths
        self.sender = _Wire(sim, there, self.on_data)
        self.receiver = _Wire(sim, back, self.on_ack)


class _Wire:
    """An end of a connection that leads over a path."""

    def __init__(self, sim: Simulator, path: Path, arrived: Callable[[int, int], None]) -> None:
        self._sim = sim
        self._path = path
        self._arrived = arrived

    def submit(self, frames: list[bytes]) -> None:
        for packet in (frame[10:] for frame in frames):
            arrival_ns = self._sim.transit(self._path, len(packet))
            if arrival_ns is not None:
                self._sim.at(arrival_ns, self._arrived, tcp_number(packet)[1], arrival_ns)


def connect_flows(sim: Simulator, *flows: TcpFlow) -> None:
    """Hand packets that arrive to the flows they belong to."""
    by_port = {flow.port: flow for flow in flows}
    client_receives = {flow.port for flow in flows if flow.receiver is sim.client}

    def at(is_client: bool) -> None:
        end = sim.client if is_client else sim.server

        def arrived(packet: bytes, now_ns: int) -> None:
            if packet[9] != 6:
                return
            port, number = tcp_number(packet)
            flow = by_port.get(port)
            if flow is None:
                return
            if (port in client_receives) == is_client:
                flow.on_data(number, now_ns)
            else:
                flow.on_ack(number, now_ns)

        end.on_packet = arrived

    at(True)
    at(False)
