"""UDP at a constant rate with numbered, time-stamped datagrams: loss, order, latency, and the longest silence.

The sender ends with a few empty-handed datagrams that carry how many it sent, so that loss at the end is seen too.
"""

from __future__ import annotations

import argparse
import socket
import struct
import time
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

from mlvpn.lab.traffic.meter import NS_PER_S, Meter, family_of, report

HEADER = struct.Struct("!BQQ")
"""Kind (DATA, END), number of the datagram (END: how many were sent), when it was sent in ns."""
DATA, END = 0, 1
END_REPEATS = 10
END_PAUSE_S = 0.05
STEP_S = 0.001
"""The sender wakes at most this often and sends what is due."""
SOCKET_BUFFER_BYTES = 4 << 20


@dataclass
class Stream:
    """What arrived of a numbered stream."""

    highest: int = -1
    seen: set[int] = field(default_factory=set)
    duplicates: int = 0
    late: int = 0
    """Arrived after a younger one."""
    sent: int | None = None
    latencies_ns: list[int] = field(default_factory=list)

    def count(self, number: int, latency_ns: int) -> None:
        """Count one datagram."""
        if number in self.seen:
            self.duplicates += 1
            return
        self.seen.add(number)
        self.latencies_ns.append(latency_ns)
        self.late += number < self.highest
        self.highest = max(self.highest, number)

    def summary(self) -> dict[str, Any]:
        """Return the counts; without the sender's own count, loss is what is missing below the highest number."""
        sent = self.highest + 1 if self.sent is None else self.sent
        return {
            "sent": sent,
            "received": len(self.seen),
            "lost": sent - len(self.seen),
            "late": self.late,
            "duplicates": self.duplicates,
            "latencies_ns": self.latencies_ns,
        }


def udp_send(options: argparse.Namespace) -> None:
    """Send datagrams of one size at a constant rate of UDP payload."""
    with socket.socket(family_of(options.address), socket.SOCK_DGRAM) as sock:
        sock.connect((options.address, options.port))
        size_bytes = max(options.size_bytes, HEADER.size)
        padding = bytes(size_bytes - HEADER.size)
        step_ns = size_bytes * 8 * NS_PER_S / options.rate_bps
        start_ns = monotonic_ns()
        total = int(options.seconds * NS_PER_S / step_ns)
        number = 0
        while number < total:
            due = min(total, int((monotonic_ns() - start_ns) / step_ns) + 1)
            while number < due:
                transmit(sock, HEADER.pack(DATA, number, monotonic_ns()) + padding)
                number += 1
            time.sleep(STEP_S)
        for _ in range(END_REPEATS):
            transmit(sock, HEADER.pack(END, total, monotonic_ns()))
            time.sleep(END_PAUSE_S)
    report(sent=total)


def transmit(sock: socket.socket, datagram: bytes) -> None:
    """Send; what the network refuses is lost, which is the receiver's to count."""
    try:
        sock.send(datagram)
    except OSError:
        return


def udp_receive(options: argparse.Namespace) -> None:
    """Receive until the sender says that it is over, or until TERM."""
    stream, meter = Stream(), Meter()
    with socket.socket(family_of(options.address), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        sock.bind((options.address, options.port))
        sock.settimeout(0.02)
        report(ready=True)
        try:
            receive_stream(sock, stream, meter)
        finally:
            report(**meter.summary(meter.last_ns), **stream.summary())


def receive_stream(sock: socket.socket, stream: Stream, meter: Meter) -> None:
    """Read datagrams until one says that it was the last."""
    while stream.sent is None:
        try:
            datagram = sock.recv(65_536)
        except TimeoutError:
            meter.pass_time(monotonic_ns())
            continue
        now_ns = monotonic_ns()
        kind, number, sent_ns = HEADER.unpack_from(datagram)
        if kind == END:
            stream.sent = number
        else:
            stream.count(number, now_ns - sent_ns)
            meter.count(len(datagram), now_ns)
