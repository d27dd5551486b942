"""What every receiving tool counts: bytes per interval and the longest silence; and how a report is printed."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any

NS_PER_S = 1_000_000_000
INTERVAL_NS = 100_000_000
SILENCE_NS = 20_000_000
"""A time without anything from this length on is remembered with when it was."""
MAX_SILENCES = 10_000


def report(**values: Any) -> None:
    """Print one line of the report."""
    print(json.dumps(values), flush=True)


def family_of(address: str) -> socket.AddressFamily:
    """Return the address family of a numeric address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Meter:
    """Bytes per interval and the longest silence, reported as it goes."""

    start_ns: int = 0
    total_bytes: int = 0
    interval_bytes: int = 0
    last_ns: int = 0
    longest_gap_ns: int = 0
    gap_at_ns: int = 0
    silences: list[tuple[int, int]] = field(default_factory=list)
    """(began at, length), ns."""
    _interval_end_ns: int = 0

    def count(self, size_bytes: int, now_ns: int) -> None:
        """Count bytes that arrived now."""
        if not self.start_ns:
            self.start_ns = self.last_ns = now_ns
            self._interval_end_ns = now_ns + INTERVAL_NS
        self.pass_time(now_ns)
        self._end_silence(now_ns)
        self.last_ns = now_ns
        self.total_bytes += size_bytes
        self.interval_bytes += size_bytes

    def _end_silence(self, now_ns: int) -> None:
        length_ns = now_ns - self.last_ns
        if length_ns > self.longest_gap_ns:
            self.longest_gap_ns, self.gap_at_ns = length_ns, self.last_ns
        if length_ns >= SILENCE_NS and len(self.silences) < MAX_SILENCES:
            self.silences.append((self.last_ns, length_ns))

    def pass_time(self, now_ns: int) -> None:
        """Report the intervals that are over."""
        while self.start_ns and now_ns >= self._interval_end_ns:
            report(t_ns=self._interval_end_ns, bytes=self.interval_bytes)
            self.interval_bytes = 0
            self._interval_end_ns += INTERVAL_NS

    def summary(self, end_ns: int) -> dict[str, Any]:
        """Return the totals; a silence that lasts until the end counts."""
        if self.start_ns:
            self._end_silence(end_ns)
        return {
            "start_ns": self.start_ns,
            "end_ns": end_ns,
            "total_bytes": self.total_bytes,
            "longest_gap_ns": self.longest_gap_ns,
            "gap_at_ns": self.gap_at_ns,
            "silences": self.silences,
        }
