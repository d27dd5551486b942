"""The wide-area network of the lab: a process that carries frames between two interfaces per link, as ``channel`` says.

    client [adsl]--veth--[c-adsl]  this process, in its own namespace  [s-adsl]--veth--[adsl] server

It owns the packet sockets, the clock, the control socket and the time series; what happens to a packet is decided in
``channel``. Started as ``python -m mlvpn.lab.emulator`` inside the namespace with its plan as one JSON line on stdin;
it ends when stdin closes, so it cannot outlive who started it.

Timing: one process, one loop. It sleeps in ``select`` (microsecond timeouts; ``epoll`` in Python has milliseconds)
until a frame comes in or the next one is due, as SCHED_FIFO where the kernel allows it, so that a busy machine does
not become a slow link. Arrivals are stamped by the kernel and departures computed from them, not from when the loop
woke: on a virtual machine a core can vanish for 30 ms, and a link idle meanwhile would lose capacity nobody ordered.

Control socket: JSON lines, one answer per request; see ``wan.Emulator`` for the other side of it.

    {"op": "counters"} {"op": "series", "since_ns": t} {"op": "stop"}
    {"op": "cut" | "heal" | "restart_trace", "link": name, "direction": "up" | "down" | null}
    {"op": "configure", "link": ..., "direction": ..., "changes": {ChannelSpec field: value}}

Sources: packet(7), socket(7), sched(7).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns, sleep, time_ns
from typing import Any

from mlvpn.lab.channel import ETHERNET_HEADER_BYTES, NS_PER_S, Channel, ChannelSpec
from mlvpn.lab.offload import finished_packets_only

GRAIN_NS = 250_000
"""The loop turns at most this often, so frames arrive up to half of it early or late. On a virtual machine each sleep
costs about 20 us of CPU: waking for every frame took 0.66 of a core for 100 Mbit/s of TCP (2026-11)."""
PATIENCE_NS = 1_000_000
"""Longest sleep without a look at what came in, while frames are under way; never longer than the shortest delay."""
SAMPLE_NS = 100_000_000
"""Step of the time series."""
SERIES_SAMPLES = 36_000
"""An hour of samples; older ones are forgotten."""
BURST_FRAMES = 64
"""Frames read from one socket before the others get their turn: about one UDP GSO train."""
SOCKET_BUFFER_BYTES = 16 << 20
"""The kernel counts about 2.3 KB for a full packet; this holds 50 ms of a gigabit."""
FIFO_PRIORITY = 10
NICE = -10
DIRECTIONS = ("up", "down")
"""up: client to server."""

VLAN_HEADER_BYTES = ETHERNET_HEADER_BYTES + 4
ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_IGNORE_OUTGOING = 23
SO_TIMESTAMPNS = 35
TIMESTAMP = struct.Struct("@ll")
"""struct timespec of the wall clock, when the frame came in."""
unpack_timestamp = TIMESTAMP.unpack
TIMESTAMP_SPACE_BYTES = socket.CMSG_SPACE(TIMESTAMP.size)


def open_interface(name: str) -> socket.socket:
    """Open a non-blocking raw socket that sees every frame coming in on the interface and sends out of it."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), SOCKET_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_SNDBUFFORCE", 32), SOCKET_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind((name, ETH_P_ALL))
    sock.setblocking(False)
    return sock


@dataclass
class Wire:
    """One direction of a link: the model between its two sockets."""

    link: str
    direction: str
    source: socket.socket
    sink: socket.socket
    channel: Channel
    frame_bytes: int
    """Largest frame the interface can have."""
    failed_sends: int = 0
    """Frames the far interface refused, as when it is down."""
    missed_frames: int = 0
    """Frames the kernel dropped because this process was too slow: not zero means the measurement is void."""
    latest_ns: int = 0
    """Furthest a frame was handed out behind its time since the last sample: how far to trust a measurement."""
    sampled_bytes: int = 0

    def take_in(self) -> None:
        """Read what has come in, at most one burst. HOT PATH."""
        receive, offer = self.source.recvmsg, self.channel.offer
        ahead_ns = time_ns() - monotonic_ns()
        try:
            for _ in range(BURST_FRAMES):
                frame, ancillary, _, _ = receive(self.frame_bytes, TIMESTAMP_SPACE_BYTES)
                seconds, rest_ns = unpack_timestamp(ancillary[0][2])
                offer(frame, seconds * NS_PER_S + rest_ns - ahead_ns)
        except BlockingIOError:
            return
        except OSError:
            return  # said once when the interface goes down; the socket works again when that comes up

    def hand_out(self, now_ns: int) -> None:
        """Send what has arrived. HOT PATH."""
        send = self.sink.send
        for frame in self.channel.due(now_ns):
            try:
                send(frame)
            except OSError:
                self.failed_sends += 1

    def counters(self, now_ns: int) -> dict[str, Any]:
        """Return every counter, cumulative, and the queue now."""
        _, missed = struct.unpack("II", self.source.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.missed_frames += missed  # reading resets the kernel's counter
        return {
            **self.channel.counters.to_json(),
            "failed_sends": self.failed_sends,
            "missed_frames": self.missed_frames,
            "queue_bytes": self.channel.queue_bytes(now_ns),
            "rate_bps": self.channel.rate_bps,
            "is_cut": self.channel.is_cut,
        }

    def sample(self, now_ns: int) -> dict[str, Any]:
        """Return what happened since the last sample."""
        delivered_bytes = self.channel.counters.delivered_bytes
        step_bytes, self.sampled_bytes = delivered_bytes - self.sampled_bytes, delivered_bytes
        return {
            "link": self.link,
            "direction": self.direction,
            "t_ns": now_ns,
            "delivered_bytes": step_bytes,
            "queue_bytes": self.channel.queue_bytes(now_ns),
            "peak_queue_bytes": self.channel.take_peak_queue_bytes(),
            "latest_ns": self._take_latest_ns(),
            "rate_bps": self.channel.rate_bps,
        }

    def _take_latest_ns(self) -> int:
        latest_ns, self.latest_ns = self.latest_ns, 0
        return latest_ns


class Carrier:
    """All wires, one loop."""

    def __init__(self, plan: dict[str, Any]) -> None:
        """Open everything the plan names; the control socket last, for its presence says "ready"."""
        self.start_ns = monotonic_ns()
        self.wires: list[Wire] = []
        for index, link in enumerate(plan["links"]):
            self._open_link(link, plan["seed"] * 1000 + index * len(DIRECTIONS))
        self.series: deque[dict[str, Any]] = deque(maxlen=SERIES_SAMPLES * max(1, len(self.wires)))
        self.running = True
        self._by_source = {wire.source: wire for wire in self.wires}
        self._remember_patience()
        self._clients: dict[socket.socket, bytes] = {}
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._control.bind(plan["control"])
        self._control.listen()
        self._readable: list[Any] = [*self._by_source, self._control, sys.stdin]

    def _open_link(self, link: dict[str, Any], seed: int) -> None:
        ends = [open_interface(link[key]) for key in ("client_interface", "server_interface")]
        for interface in (link["client_interface"], link["server_interface"]):
            finished_packets_only(interface)
        for offset, direction in enumerate(DIRECTIONS):
            source, sink = ends if direction == "up" else reversed(ends)
            channel = Channel(ChannelSpec.from_json(link[direction]), self.start_ns, seed + offset)
            self.wires.append(Wire(link["name"], direction, source, sink, channel, link["mtu"] + VLAN_HEADER_BYTES))

    # -- the loop

    def run(self) -> None:
        """Carry frames until told to stop or stdin closes."""
        next_sample_ns = self.start_ns + SAMPLE_NS
        turned_ns = 0
        while self.running:
            for ready in self._wait(turned_ns, self._next_ns(next_sample_ns)):
                wire = self._by_source.get(ready)
                if wire is not None:
                    wire.take_in()
                else:
                    self._serve(ready)
            turned_ns = now_ns = monotonic_ns()
            self._hand_out(now_ns + GRAIN_NS // 2)
            if now_ns >= next_sample_ns:
                self.series.extend(wire.sample(now_ns) for wire in self.wires)
                next_sample_ns += SAMPLE_NS * (1 + (now_ns - next_sample_ns) // SAMPLE_NS)

    def _next_ns(self, wake_ns: int) -> int:
        for wire in self.wires:
            due_ns = wire.channel.next_due_ns()
            if due_ns is not None and due_ns < wake_ns:
                wake_ns = due_ns
            change_ns = wire.channel.next_change_ns()
            if change_ns is not None and change_ns < wake_ns:
                wake_ns = change_ns
        return wake_ns

    def _wait(self, turned_ns: int, wake_ns: int) -> list[Any]:
        """Sleep until ``wake_ns`` and return what is readable then; an idle network also wakes for what comes in.

        What comes in while a busy network sleeps is none the later for it: the kernel stamped it, and it has a delay.
        """
        now_ns = monotonic_ns()
        if any(wire.channel.next_due_ns() is not None for wire in self.wires):
            wake_ns = max(turned_ns + GRAIN_NS, min(wake_ns, turned_ns + self._patience_ns))
            sleep(max(0, wake_ns - now_ns) / NS_PER_S)
            wake_ns = now_ns
        return select.select(self._readable, [], [], max(0, wake_ns - now_ns) / NS_PER_S)[0]

    def _remember_patience(self) -> None:
        self._patience_ns = min([PATIENCE_NS, *(wire.channel.spec.delay_ns for wire in self.wires)])

    def _hand_out(self, now_ns: int) -> None:
        for wire in self.wires:
            change_ns = wire.channel.next_change_ns()
            if change_ns is not None and change_ns <= now_ns:
                wire.channel.follow_trace(now_ns)
            due_ns = wire.channel.next_due_ns()
            if due_ns is not None and due_ns <= now_ns:
                wire.latest_ns = max(wire.latest_ns, now_ns - GRAIN_NS // 2 - due_ns)
                wire.hand_out(now_ns)

    # -- control

    def _serve(self, ready: Any) -> None:
        if ready is sys.stdin:
            self.running = bool(os.read(sys.stdin.fileno(), 1))
        elif ready is self._control:
            client = self._control.accept()[0]
            self._clients[client] = b""
            self._readable.append(client)
        else:
            self._read_requests(ready)

    def _read_requests(self, client: socket.socket) -> None:
        data = client.recv(65_536)
        *lines, self._clients[client] = (self._clients[client] + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(OSError):
                client.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        if not data:
            del self._clients[client]
            self._readable.remove(client)
            client.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, "result": self._perform(json.loads(line))}
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def _perform(self, request: dict[str, Any]) -> Any:
        now_ns = monotonic_ns()
        match request["op"]:
            case "counters":
                return {f"{wire.link}/{wire.direction}": wire.counters(now_ns) for wire in self.wires}
            case "series":
                return [sample for sample in self.series if sample["t_ns"] > request.get("since_ns", 0)]
            case "stop":
                self.running = False
            case "cut" | "heal" | "restart_trace" | "configure":
                for wire in self._chosen(request):
                    change(wire.channel, request, now_ns)
                self._remember_patience()
            case unknown:
                raise ValueError(f"unknown operation {unknown!r}")
        return None

    def _chosen(self, request: dict[str, Any]) -> Iterator[Wire]:
        chosen = [
            wire
            for wire in self.wires
            if wire.link == request["link"] and request.get("direction") in (None, wire.direction)
        ]
        if not chosen:
            raise ValueError(f"no link {request['link']!r} with direction {request.get('direction')!r}")
        return iter(chosen)


def change(channel: Channel, request: dict[str, Any], now_ns: int) -> None:
    """Perform one of the operations that change a link."""
    match request["op"]:
        case "cut":
            channel.cut()
        case "heal":
            channel.heal()
        case "restart_trace":
            channel.restart_trace(now_ns)
        case "configure":
            channel.configure(ChannelSpec.from_json({**channel.spec.to_json(), **request["changes"]}), now_ns)


def take_priority() -> None:
    """Run before everything else on the machine, as far as the kernel lets us."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.nice(NICE)


def main() -> None:
    """Read the plan from stdin and carry frames until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us: links must outlive the last packet
    plan = json.loads(sys.stdin.readline())
    carrier = Carrier(plan)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would be a delay; nothing here makes cycles
    take_priority()
    try:
        carrier.run()
    finally:
        Path(plan["control"]).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
