"""Bulk TCP: a receiver that counts and decides when it is over, and a sender that keeps the socket full.

The receiver ends the transfer ``--seconds`` after its first byte by closing; a flow that ends before that, by whatever
cause, is counted as broken. Either end may be the one that connects.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
from time import monotonic_ns

from mlvpn.lab.traffic.meter import NS_PER_S, Meter, family_of, report

CHUNK_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 10.0
GRACE_S = 5.0
"""How long a sender outlives its ``--seconds`` when the receiver's end of transfer does not reach it."""


def open_flows(options: argparse.Namespace) -> list[socket.socket]:
    """Connect, or listen and accept, as many flows as asked for."""
    target = (options.address, options.port)
    if options.connect:
        return [connect(target, options.congestion) for _ in range(options.flows)]
    with socket.create_server(target, family=family_of(options.address), backlog=options.flows) as listener:
        set_congestion(listener, options.congestion)  # accepted sockets inherit it
        listener.settimeout(CONNECT_TIMEOUT_S + GRACE_S)
        report(ready=True)
        return [listener.accept()[0] for _ in range(options.flows)]


def connect(target: tuple[str, int], congestion: str) -> socket.socket:
    """Open one flow."""
    sock = socket.socket(family_of(target[0]), socket.SOCK_STREAM)
    set_congestion(sock, congestion)
    sock.settimeout(CONNECT_TIMEOUT_S)
    sock.connect(target)
    return sock


def set_congestion(sock: socket.socket, name: str) -> None:
    """Choose the congestion control."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


def tcp_receive(options: argparse.Namespace) -> None:
    """Receive on all flows until the time is over."""
    flows = open_flows(options)
    meter = Meter()
    broken = 0
    buffer = bytearray(CHUNK_BYTES)
    chooser = selectors.DefaultSelector()
    for flow in flows:
        flow.setblocking(False)
        chooser.register(flow, selectors.EVENT_READ)
    try:
        while chooser.get_map():
            for key, _ in chooser.select(timeout=0.02):
                assert isinstance(key.fileobj, socket.socket)
                received_bytes = receive_some(key.fileobj, buffer)
                if received_bytes:
                    meter.count(received_bytes, monotonic_ns())
                elif received_bytes == 0:
                    chooser.unregister(key.fileobj)
                    broken += 1
            now_ns = monotonic_ns()
            meter.pass_time(now_ns)
            if meter.start_ns and now_ns - meter.start_ns >= options.seconds * NS_PER_S:
                break
    finally:
        report(**meter.summary(monotonic_ns()), broken_flows=broken)
        for flow in flows:
            flow.close()


def receive_some(flow: socket.socket, buffer: bytearray) -> int | None:
    """Return the bytes read, 0 when the flow has ended or broken, None when there is nothing to read after all."""
    try:
        return flow.recv_into(buffer)
    except BlockingIOError:
        return None
    except OSError:
        return 0


def tcp_send(options: argparse.Namespace) -> None:
    """Send on all flows until the receiver ends them."""
    flows = open_flows(options)
    chunk = memoryview(os.urandom(CHUNK_BYTES))
    deadline_ns = monotonic_ns() + int((options.seconds + GRACE_S) * NS_PER_S)
    chooser = selectors.DefaultSelector()
    for flow in flows:
        flow.setblocking(False)
        chooser.register(flow, selectors.EVENT_WRITE)
    while chooser.get_map() and monotonic_ns() < deadline_ns:
        for key, _ in chooser.select(timeout=0.5):
            assert isinstance(key.fileobj, socket.socket)
            try:
                key.fileobj.send(chunk)
            except BlockingIOError:
                pass
            except OSError:
                chooser.unregister(key.fileobj)
                key.fileobj.close()
