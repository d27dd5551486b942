"""Traffic between hosts, measured: starts the tools of ``traffic`` and turns their reports into figures.

transfer = TcpTransfer(lab.server, lab.client, "10.77.1.1", seconds=10)     # server sends, client listens
probes = EchoProbes(lab.client, "10.77.1.2", seconds=10)
print(transfer.wait().rate_bps(first_s=5), probes.wait().percentile_ms(99))
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlvpn.errors import SystemFailure
from mlvpn.lab.host import Host

NS_PER_S = 1_000_000_000
INTERVAL_S = 0.1
READY_TIMEOUT_S = 10.0
GRACE_S = 20.0
"""How much longer than its traffic a tool may run before the measurement counts as failed."""

_ports = itertools.count(5201)


class Tool:
    """One running traffic tool; its lines are read as they come."""

    def __init__(self, host: Host, *arguments: str) -> None:
        """Start it."""
        argv = [sys.executable, "-m", "mlvpn.lab.traffic", *arguments]
        self._title = f"{host.name}: {' '.join(arguments)}"
        self._process = host.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines: list[dict[str, Any]] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(json.loads(line))
            self._ready.set()
        self._ready.set()

    def wait_ready(self) -> None:
        """Wait until it listens."""
        if not self._ready.wait(READY_TIMEOUT_S) or not self.lines:
            raise SystemFailure(f"{self._title} did not start: {self._last_words()}")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def intervals(self) -> tuple[int, ...]:
        """Return the bytes of each 100 ms reported so far."""
        return tuple(line["bytes"] for line in self.lines if "bytes" in line)

    def rate_bps(self) -> float:
        """Return the rate of the last second."""
        chosen = self.intervals()[-round(1 / INTERVAL_S) :]
        return sum(chosen) * 8 / (len(chosen) * INTERVAL_S) if chosen else 0.0

    def stop(self) -> None:
        """Ask it to print its summary and end."""
        self._process.terminate()

    def wait(self, timeout_s: float) -> dict[str, Any]:
        """Wait for its end and return its summary."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.terminate()
        self._reader.join(GRACE_S)
        if self._process.wait() != 0 or not self.lines:
            raise SystemFailure(f"{self._title} failed: {self._last_words()}")
        return self.lines[-1]

    def _last_words(self) -> str:
        self._process.kill()
        assert self._process.stderr is not None
        words: str = self._process.stderr.read()
        return words.strip()[-2000:]


Silences = tuple[tuple[int, int], ...]
"""Times of at least 20 ms in which nothing came: (began at, length), ns."""


def longest_silence_ns(silences: Silences, first_ns: int, last_ns: int) -> int:
    """Return the longest of the silences that overlap a time, 0 when there is none."""
    inside = (length_ns for at_ns, length_ns in silences if at_ns < last_ns and at_ns + length_ns > first_ns)
    return max(inside, default=0)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed; nan of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@dataclass(frozen=True)
class TcpReport:
    """What a TCP receiver saw."""

    seconds: float
    flows: int
    broken_flows: int
    """Flows that ended before the time was over."""
    total_bytes: int
    start_ns: int
    longest_gap_ns: int
    """Longest time in which no byte came out of the receiving sockets."""
    gap_at_ns: int
    interval_bytes: tuple[int, ...]
    """Payload bytes per 100 ms since the first byte."""
    silences: Silences = ()

    def rate_bps(self, first_s: float = 0.0, last_s: float | None = None) -> float:
        """Return the payload rate between two times since the first byte."""
        last_s = self.seconds if last_s is None else last_s
        chosen = self.interval_bytes[round(first_s / INTERVAL_S) : round(last_s / INTERVAL_S)]
        return sum(chosen) * 8 / (last_s - first_s)

    def seconds_to_reach(self, rate_bps: float, window_s: float = 1.0) -> float:
        """Return when a window of that length first carried the rate; nan when none did."""
        width = round(window_s / INTERVAL_S)
        for end in range(width, len(self.interval_bytes) + 1):
            if sum(self.interval_bytes[end - width : end]) * 8 / window_s >= rate_bps:
                return end * INTERVAL_S
        return math.nan


class TcpTransfer:
    """A bulk transfer under way; the receiver listens on ``address`` (one of its own) and the sender connects."""

    def __init__(
        self,
        sender: Host,
        receiver: Host,
        address: str,
        *,
        seconds: float,
        flows: int = 1,
        congestion: str = "cubic",
        receiver_connects: bool = False,
    ) -> None:
        """Start it. With ``receiver_connects`` the sender listens, on ``address`` of its own."""
        self._seconds, self._flows = seconds, flows
        common = [address, str(next(_ports)), f"--seconds={seconds}", f"--flows={flows}", f"--congestion={congestion}"]
        ends = [(receiver, "tcp-receive"), (sender, "tcp-send")]
        if receiver_connects:
            ends.reverse()
        listening = Tool(ends[0][0], ends[0][1], *common)
        listening.wait_ready()
        connecting = Tool(ends[1][0], ends[1][1], *common, "--connect")
        self._receiver = connecting if receiver_connects else listening

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._receiver.is_running

    def rate_bps(self) -> float:
        """Return the rate of the last second, for a live display."""
        return self._receiver.rate_bps()

    def wait(self) -> TcpReport:
        """Wait for its end."""
        summary = self._receiver.wait(self._seconds + GRACE_S)
        return TcpReport(
            seconds=self._seconds,
            flows=self._flows,
            broken_flows=summary["broken_flows"],
            total_bytes=summary["total_bytes"],
            start_ns=summary["start_ns"],
            longest_gap_ns=summary["longest_gap_ns"],
            gap_at_ns=summary["gap_at_ns"],
            interval_bytes=self._receiver.intervals(),
            silences=tuple((at_ns, length_ns) for at_ns, length_ns in summary["silences"]),
        )


@dataclass(frozen=True)
class UdpReport:
    """What a UDP receiver saw of a constant-rate stream."""

    sent: int
    received: int
    lost: int
    late: int
    """Datagrams that arrived after a younger one."""
    duplicates: int
    longest_gap_ns: int
    gap_at_ns: int
    start_ns: int
    latencies_ns: tuple[int, ...]
    """One way, in order of arrival."""
    interval_bytes: tuple[int, ...]
    """Payload bytes per 100 ms since the first datagram."""

    @property
    def loss_ratio(self) -> float:
        """Return the share that never arrived."""
        return self.lost / self.sent if self.sent else 0.0

    def latency_ms(self, percent: float) -> float:
        """Return a percentile of the one-way latency."""
        return percentile(self.latencies_ns, percent) / 1e6


class UdpStream:
    """A constant-rate stream under way; the receiver binds ``address``, one of its own."""

    def __init__(
        self, sender: Host, receiver: Host, address: str, *, seconds: float, rate_bps: int, size_bytes: int = 1200
    ) -> None:
        """Start it; rate and size are of UDP payload."""
        self._seconds = seconds
        port = str(next(_ports))
        self._receiver = Tool(receiver, "udp-receive", address, port)
        self._receiver.wait_ready()
        figures = [f"--seconds={seconds}", f"--rate-bps={rate_bps}", f"--size-bytes={size_bytes}"]
        self._sender = Tool(sender, "udp-send", address, port, *figures)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._receiver.is_running and self._sender.is_running

    def rate_bps(self) -> float:
        """Return the rate of the last second, for a live display."""
        return self._receiver.rate_bps()

    def wait(self) -> UdpReport:
        """Wait for its end; the sender's own count makes loss at the end visible even when its last word is lost."""
        sent = self._sender.wait(self._seconds + GRACE_S)["sent"]
        summary = self._receiver.wait(GRACE_S / 4)
        return UdpReport(
            sent=sent,
            received=summary["received"],
            lost=sent - summary["received"],
            late=summary["late"],
            duplicates=summary["duplicates"],
            longest_gap_ns=summary["longest_gap_ns"],
            gap_at_ns=summary["gap_at_ns"],
            start_ns=summary["start_ns"],
            latencies_ns=tuple(summary["latencies_ns"]),
            interval_bytes=self._receiver.intervals(),
        )


@dataclass(frozen=True)
class EchoReport:
    """Round trips of probes sent at a constant interval."""

    probes: tuple[tuple[int, int | None], ...]
    """(sent at, round trip or None when lost), ns."""

    @property
    def lost(self) -> int:
        """Return how many were never answered."""
        return sum(rtt_ns is None for _, rtt_ns in self.probes)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the round trips; lost probes are not in it."""
        return percentile([rtt_ns for _, rtt_ns in self.probes if rtt_ns is not None], percent) / 1e6

    def longest_gap_ms(self) -> float:
        """Return the longest time in which no answer arrived, between the first answer and the last."""
        arrivals = sorted(sent_ns + rtt_ns for sent_ns, rtt_ns in self.probes if rtt_ns is not None)
        return max((later - earlier for earlier, later in itertools.pairwise(arrivals)), default=0) / 1e6


class EchoProbes:
    """ICMP echo probes under way."""

    def __init__(
        self, host: Host, address: str, *, seconds: float, interval_ms: float = 20.0, size_bytes: int = 64
    ) -> None:
        """Start them."""
        self._seconds = seconds
        figures = [f"--seconds={seconds}", f"--interval-ms={interval_ms}", f"--size-bytes={size_bytes}"]
        self._tool = Tool(host, "echo", address, *figures)

    def wait(self) -> EchoReport:
        """Wait for the last answer."""
        return self._read(self._tool.wait(self._seconds + GRACE_S))

    def stop(self) -> EchoReport:
        """End early."""
        self._tool.stop()
        return self._read(self._tool.wait(GRACE_S))

    def _read(self, summary: dict[str, Any]) -> EchoReport:
        return EchoReport(tuple((sent_ns, rtt_ns) for sent_ns, rtt_ns in summary["probes"]))


@dataclass(frozen=True)
class WatchReport:
    """What a bystander saw come in on an interface."""

    packets: int
    total_bytes: int
    longest_gap_ns: int
    """Longest time between two packets."""
    gap_at_ns: int
    interval_bytes: tuple[int, ...]
    silences: Silences = ()


class PacketWatch:
    """Watches what comes in on an interface until it is stopped: gaps between packets, whatever TCP makes of them."""

    def __init__(self, host: Host, interface: str, *, seconds: float = 3600.0) -> None:
        """Start it."""
        self._tool = Tool(host, "watch", interface, f"--seconds={seconds}")
        self._tool.wait_ready()

    def stop(self) -> WatchReport:
        """End it."""
        self._tool.stop()
        summary = self._tool.wait(GRACE_S)
        return WatchReport(
            packets=summary["packets"],
            total_bytes=summary["total_bytes"],
            longest_gap_ns=summary["longest_gap_ns"],
            gap_at_ns=summary["gap_at_ns"],
            interval_bytes=self._tool.intervals(),
            silences=tuple((at_ns, length_ns) for at_ns, length_ns in summary["silences"]),
        )
