"""The packets that come in on an interface, as a bystander sees them: how many, and the longest silence between two.

What TCP hands to its program stands still whenever one packet is missing; this sees the packets themselves.
"""

from __future__ import annotations

import argparse
import socket
from time import monotonic_ns

from mlvpn.lab.traffic.meter import NS_PER_S, Meter, report

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
SOCKET_BUFFER_BYTES = 4 << 20


def watch(options: argparse.Namespace) -> None:
    """Watch an interface (given in place of the address) until the time is over, or until TERM."""
    meter = Meter()
    packets = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sock:
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        sock.bind((options.address, ETH_P_ALL))
        sock.settimeout(0.02)
        report(ready=True)
        end_ns = monotonic_ns() + int(options.seconds * NS_PER_S)
        try:
            while monotonic_ns() < end_ns:
                try:
                    size_bytes = len(sock.recv(65_536))
                except TimeoutError:
                    meter.pass_time(monotonic_ns())
                    continue
                packets += 1
                meter.count(size_bytes, monotonic_ns())
        finally:
            report(**meter.summary(meter.last_ns), packets=packets)
