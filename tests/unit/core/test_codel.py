"""CoDel on one flow: when its sender is told, and how."""

from __future__ import annotations

from inner_packets import frame, ipv4, super_packet, udp

from mlvpn.core import codel
from mlvpn.core.codel import INTERVAL_NS, TARGET_NS
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.flow import Flow
from mlvpn.core.packet import Packet
from mlvpn.units import NS_PER_MS, NS_PER_S

START_NS = 1_000 * NS_PER_S
PAYLOAD_BYTES = 1300
SLICES = 10


def datagram(ecn: int = 0) -> Packet:
    return Packet(frame(ipv4(17, udp(bytes(PAYLOAD_BYTES)), ecn=ecn)))


class Waiting:
    """One flow, as the queue treats it."""

    def __init__(self) -> None:
        self.flow = Flow()
        self.counters = TunnelCounters()
        self.now_ns = START_NS

    def put(self, *packets: Packet) -> None:
        for packet in packets:
            packet.enqueued_ns = self.now_ns
            self.flow.packets.append(packet)
            self.flow.backlog_bytes += packet.packet_bytes

    def take(self) -> Packet | None:
        codel.control(self.flow, self.counters, self.now_ns)
        if not self.flow.packets:
            return None
        packet = self.flow.packets.popleft()
        self.flow.backlog_bytes -= packet.packet_bytes
        return packet

    def pass_ms(self, ms: int = 1) -> None:
        self.now_ns += ms * NS_PER_MS


def overloaded(ecn: int) -> TunnelCounters:
    """Offer twice what leaves, for three seconds."""
    waiting = Waiting()
    for _ in range(3000):
        waiting.put(datagram(ecn), datagram(ecn))
        waiting.take()
        waiting.pass_ms()
    return waiting.counters


def test_what_waits_too_long_is_dropped() -> None:
    counters = overloaded(ecn=0)
    assert counters.queue_dropped_packets > 10
    assert counters.queue_marked_packets == 0


def test_flows_that_understand_are_marked() -> None:
    counters = overloaded(ecn=2)
    assert counters.queue_marked_packets > 10
    assert counters.queue_dropped_packets == 0


def test_a_queue_that_drains_in_time_is_left_alone() -> None:
    waiting = Waiting()
    for _ in range(3000):
        waiting.put(datagram())
        waiting.take()
        waiting.pass_ms()
    assert (waiting.counters.queue_dropped_packets, waiting.counters.queue_marked_packets) == (0, 0)


def drops_of_a_steady_wait(hold_ns: int) -> int:
    """Let one flow wait 40 ms for two seconds, its lane held by ``hold_ns``."""
    waiting = Waiting()
    waiting.flow.hold_ns = hold_ns
    for ms in range(2000):
        waiting.put(datagram())
        if ms >= 40:
            waiting.take()
        waiting.pass_ms()
    return waiting.counters.queue_dropped_packets


def test_a_flow_that_is_held_may_wait_as_much_longer_as_its_round_trip_is() -> None:
    assert drops_of_a_steady_wait(0) > 0
    assert drops_of_a_steady_wait(100 * NS_PER_MS) == 0


def test_the_first_drop_comes_an_interval_after_the_target() -> None:
    waiting = Waiting()
    while not waiting.counters.queue_dropped_packets:
        assert waiting.flow.cut_ns is None
        waiting.put(datagram(), datagram())
        waiting.pass_ms()
        waiting.take()
    assert waiting.now_ns - START_NS >= TARGET_NS + INTERVAL_NS
    assert waiting.flow.cut_ns == waiting.now_ns


def test_of_a_super_packet_one_slice_is_dropped() -> None:
    waiting = Waiting()
    waiting.put(*(Packet(super_packet(bytes(SLICES * PAYLOAD_BYTES), PAYLOAD_BYTES)) for _ in range(2)))
    head, before_bytes = waiting.flow.packets[0], waiting.flow.backlog_bytes
    for _ in range(2):
        waiting.pass_ms(200)
        codel.control(waiting.flow, waiting.counters, waiting.now_ns)
    assert waiting.counters.queue_dropped_packets == 1
    assert waiting.flow.packets[0] is head
    assert head.slices == SLICES - 1
    assert waiting.flow.backlog_bytes == before_bytes - PAYLOAD_BYTES
