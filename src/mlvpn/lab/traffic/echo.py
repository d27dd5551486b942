"""Pings at short intervals, each with its own round trip time: ICMP echo, answered by the far kernel.

Each answer carries the request's number and time back, so a request that is answered late is late, not lost.
Sources: RFC 792, RFC 4443.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import struct
from time import monotonic_ns

from mlvpn.lab.traffic.meter import NS_PER_S, family_of, report

ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
ECHO_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
HEADER = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence."""
STAMP = struct.Struct("!QQ")
"""Number of the request and when it was sent, ns."""
WAIT_S = 2.0
"""How long after the last request answers are still taken."""


def checksum(data: bytes) -> int:
    """Compute the Internet checksum (RFC 1071)."""
    words: tuple[int, ...] = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(family: socket.AddressFamily, identifier: int, number: int, size_bytes: int) -> bytes:
    """Build one echo request whose ICMP payload has ``size_bytes``; for IPv6 the kernel fills the checksum in."""
    payload = STAMP.pack(number, monotonic_ns()).ljust(size_bytes, b"\0")
    kind = ECHO_REQUEST[family]
    unchecked = HEADER.pack(kind, 0, 0, identifier, number & 0xFFFF) + payload
    return HEADER.pack(kind, 0, checksum(unchecked), identifier, number & 0xFFFF) + payload


def parse_reply(family: socket.AddressFamily, identifier: int, packet: bytes) -> tuple[int, int] | None:
    """Return number and sending time of the request a packet answers, None when it is not for us."""
    start = (packet[0] & 0x0F) * 4 if family == socket.AF_INET and packet else 0
    if len(packet) < start + HEADER.size + STAMP.size:
        return None
    kind, _, _, received_identifier, _ = HEADER.unpack_from(packet, start)
    if kind != ECHO_REPLY[family] or received_identifier != identifier:
        return None
    number, sent_ns = STAMP.unpack_from(packet, start + HEADER.size)
    return number, sent_ns


def echo(options: argparse.Namespace) -> None:
    """Send a request per interval; report each as [sent_ns, round trip in ns or null]."""
    family = family_of(options.address)
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    identifier = os.getpid() & 0xFFFF
    sent: list[int] = []
    answers: dict[int, int] = {}
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock, selectors.DefaultSelector() as chooser:
        sock.setblocking(False)
        chooser.register(sock, selectors.EVENT_READ)
        interval_ns = int(options.interval_ms * 1_000_000)
        start_ns = monotonic_ns()
        total = max(1, int(options.seconds * NS_PER_S) // interval_ns)
        try:
            end_ns = start_ns + total * interval_ns + int(WAIT_S * NS_PER_S)
            while len(answers) < (1 if options.first else total) and monotonic_ns() < end_ns:
                next_ns = start_ns + len(sent) * interval_ns if len(sent) < total else end_ns
                if monotonic_ns() >= next_ns:
                    sent.append(monotonic_ns())
                    ask(sock, options.address, request(family, identifier, len(sent) - 1, options.size_bytes))
                elif chooser.select(max(0, next_ns - monotonic_ns()) / NS_PER_S):
                    take_answers(sock, family, identifier, answers)
        finally:
            report(probes=[[sent_ns, answers.get(number)] for number, sent_ns in enumerate(sent)])


def ask(sock: socket.socket, address: str, packet: bytes) -> None:
    """Send; a refusal by the network is a lost probe."""
    try:
        sock.sendto(packet, (address, 0))
    except OSError:
        return


def take_answers(sock: socket.socket, family: socket.AddressFamily, identifier: int, answers: dict[int, int]) -> None:
    """Read every answer that is there; the first answer to a request counts."""
    while True:
        try:
            packet = sock.recv(65_536)
        except OSError:
            return
        reply = parse_reply(family, identifier, packet)
        if reply is not None:
            answers.setdefault(reply[0], monotonic_ns() - reply[1])
