"""The account of every packet of a simulation: what was sent, what came, how late, in which order, what was lost.

Owns numbered streams of packets and the checks that hold at all times: nothing comes that was not sent, nothing comes
twice. Does not own links (`sim/simulator.py`) or what a scenario asserts (the tests).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from mlvpn.core.resequencer import HOLD_NS
from sim.simulator import MS, End, Simulator, udp_frame, udp_number

NAMED_LOSSES = (
    "queue_dropped_packets",
    "queue_full_packets",
    "no_link_packets",
    "too_big_packets",
    "malformed_packets",
    "given_up_datagrams",
)
"""Counters of a sender: each is a packet that will not come (a datagram given up may have come all the same). Packets
here are so long that no two share a datagram."""


@dataclass
class Stream:
    """Packets of one inner flow in one direction, numbered from 0."""

    to_client: bool
    port: int
    sent_ns: list[int] = field(default_factory=list)
    arrived_ns: dict[int, int] = field(default_factory=dict)
    arrivals: list[int] = field(default_factory=list)
    """Numbers in the order of their arrival."""

    @property
    def lost(self) -> list[int]:
        return [number for number in range(len(self.sent_ns)) if number not in self.arrived_ns]

    @property
    def delays_ns(self) -> list[int]:
        return sorted(at - self.sent_ns[number] for number, at in self.arrived_ns.items())

    def delay_ns(self, quantile: float) -> int:
        delays = self.delays_ns
        return delays[min(int(len(delays) * quantile), len(delays) - 1)]

    @property
    def disordered(self) -> int:
        """How many came after a later one."""
        highest, count = -1, 0
        for number in self.arrivals:
            count += number < highest
            highest = max(highest, number)
        return count

    def longest_gap_ns(self, since_ns: int, until_ns: int) -> int:
        """Return the longest time without an arrival."""
        times = [since_ns, *sorted(at for at in self.arrived_ns.values() if since_ns <= at <= until_ns), until_ns]
        return max(later - earlier for earlier, later in pairwise(times))

    def arrived_bytes(self, size: int, since_ns: int, until_ns: int) -> int:
        return size * sum(since_ns <= at < until_ns for at in self.arrived_ns.values())


class Ledger:
    """All streams of a simulation."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self._streams: dict[tuple[bool, int], Stream] = {}
        self.losses_of_the_dead = {True: 0, False: 0}
        """By ``to_client``: what ended with a process that had taken it but not passed it on."""
        self.losses_before = {True: 0, False: 0}
        self.attach()

    def attach(self) -> None:
        """Watch both TUNs; to be repeated when an end has been started anew."""
        for end in (self.sim.client, self.sim.server):
            end.on_packet = self._watcher(end.is_client)

    def _watcher(self, is_client: bool):  # type: ignore[no-untyped-def]
        streams = self._streams

        def arrived(packet: bytes, now_ns: int) -> None:
            if packet[9] != 17:
                return
            port, number = udp_number(packet)
            stream = streams[is_client, port]
            assert number not in stream.arrived_ns, f"packet {number} of port {port} was delivered twice"
            assert number < len(stream.sent_ns), "a packet came that nobody sent"
            stream.arrived_ns[number] = now_ns
            stream.arrivals.append(number)

        return arrived

    def stream(self, to_client: bool = False, port: int = 1000) -> Stream:
        return self._streams.setdefault((to_client, port), Stream(to_client, port))

    def send(self, stream: Stream, count: int = 1, size: int = 1200) -> None:
        """Submit the next packets of a stream."""
        first = len(stream.sent_ns)
        stream.sent_ns += [self.sim.now_ns] * count
        end = self.sim.server if stream.to_client else self.sim.client
        end.submit([udp_frame(number, size, stream.port) for number in range(first, first + count)])

    def send_steadily(self, stream: Stream, rate_bps: float, size: int = 1400, until_ns: int = 1 << 62) -> None:
        """Keep sending at a rate of inner bytes from now on, about a millisecond's worth at once."""
        count = max(1, round(rate_bps * 1e-3 / (8 * size)))
        interval_ns = round(count * size * 8e9 / rate_bps)

        def send() -> None:
            if self.sim.now_ns < until_ns:
                self.send(stream, count, size)
                self.sim.after(interval_ns, send)

        send()

    # --- account

    def restart(self, mode: str) -> None:
        """Kill one end and start it anew, noting what it took with it."""
        dead: End = getattr(self.sim, mode)
        out = not dead.is_client
        self.losses_of_the_dead[out] += waiting_to_be_sent(dead)
        self.losses_of_the_dead[not out] += waiting_for_order(dead)
        self.losses_before[out] += named_losses(dead)
        self.sim.start(mode)
        self.attach()

    def lost(self, to_client: bool) -> int:
        return sum(len(stream.lost) for stream in self._streams.values() if stream.to_client == to_client)

    def explained(self, to_client: bool) -> int:
        """Return how many packets of a direction may be missing by what the ends have counted and still hold."""
        sender, receiver = (self.sim.server, self.sim.client) if to_client else (self.sim.client, self.sim.server)
        now = named_losses(sender) + waiting_to_be_sent(sender) + waiting_for_order(receiver)
        return now + self.losses_before[to_client] + self.losses_of_the_dead[to_client]

    def check_account(self) -> None:
        """Every packet has come, waits somewhere, or is named in a counter of drops."""
        for to_client in (False, True):
            lost, explained = self.lost(to_client), self.explained(to_client)
            assert lost <= explained, f"{lost} packets missing, {explained} accounted for ({to_client=})"


def named_losses(end: End) -> int:
    return sum(getattr(end.tunnel.counters, name) for name in NAMED_LOSSES)


def waiting_to_be_sent(end: End) -> int:
    """Return how many packets an end has taken from its TUN and not yet seen acknowledged."""
    sender = end.tunnel.sender
    queued = len(sender.queue.sparse) + sum(len(flow.packets) for flow in sender.queue._flows.values())
    in_flight = sum(entry.run.count for link in end.tunnel.links for entry in link.log._sent)
    return queued + in_flight + sum(repair.run.count for _, _, repair in sender.repairs._heap)


def waiting_for_order(end: End) -> int:
    return sum(piece.count for piece in _held(end)) + sum(
        piece.count for lane in end.tunnel.receiver.resequencer._lanes for piece in lane.ready
    )


def _held(end: End) -> Iterator[object]:
    return (piece for lane in end.tunnel.receiver.resequencer._lanes for piece in lane.held)


def longest_held_ns(end: End) -> int:
    """Return for how long the piece held longest has been waiting at the receiver."""
    since = [piece.release_ns for piece in _held(end)]  # type: ignore[attr-defined]  # its arrival while it is held
    return end.sim.now_ns - min(since) if since else 0


def hold_bound_ns(end: End) -> int:
    """Return how long a piece may be held: the bound, the difference of the links' delays, and a tick's slack."""
    return HOLD_NS + end.tunnel.receiver.resequencer.spread_ns + 50 * MS
