"""The one queue of the tunnel: FQ-CoDel over inner flows, the only place that drops or marks for congestion.

    enqueue -> sparse flow? -> sparse packets, sent first and unordered (lane 0)
            -> else         -> its flow's queue -> deficit round robin -> CoDel -> run (ordered, the flow's lane)

Every link is paced just above an empty queue of its own, so the excess waits here, where it can be dropped early,
fairly and by flow (RFC 8290). A flow that asks for little is *sparse*: its packets overtake everything. A flow that has
had a lot is *bulk*: it may use links of any delay (`flow`).

Owns flows, their lanes and the order between them. Does not own the delay of each (`codel`) or which link a run takes
(`scheduler`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from mlvpn.core import codel
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.flow import Flow
from mlvpn.core.packet import VNET_BYTES, Packet
from mlvpn.core.run import BodyRun, Run, SliceRun, build_bodies
from mlvpn.units import NS_PER_S
from mlvpn.wire.frame import DATA_HEAD, MAX_LANES, SLICE_HEAD, Kind, first_byte
from mlvpn.wire.header import OVERHEAD_BYTES

QUANTUM_BYTES: Final = 1514
LIMIT_BYTES: Final = 8 << 20
"""Total backlog; beyond it the fattest flow loses from its head. 64 ms at 1 Gbit/s: where the processor is what
limits, the windows of many flows at their start come here before CoDel has its say. 12 MB took more memory beside
eight flows, and nothing was faster."""

IDLE_NS: Final = 1 * NS_PER_S
"""A flow this long silent starts anew: by then all it sent has been delivered, so order cannot break."""
MAX_FLOWS: Final = 4096


class FlowQueue:
    """All that waits to be sent. Sizes are bytes of inner packets."""

    def __init__(self, counters: TunnelCounters) -> None:
        self._counters = counters
        self._flows: OrderedDict[bytes, Flow] = OrderedDict()
        self._new: deque[Flow] = deque()
        self._old: deque[Flow] = deque()
        self._lane_flows = [0] * MAX_LANES
        self._next_gseq = [0] * MAX_LANES
        self._purged_ns = 0
        self.bulk: set[Flow] = set()
        """Flows that have become bulk and have not been idle since."""
        self.sparse: deque[Packet] = deque()
        self.backlog_bytes = 0
        """Backlog of the ordered flows; sparse packets never wait long enough to count."""
        self.sojourn_ns = 0
        """How long the packet taken last had waited."""

    def reset_order(self) -> None:
        """Start all lanes anew: the peer has a new association."""
        self._next_gseq = [0] * MAX_LANES

    @property
    def waiting_flows(self) -> int:
        """Flows that take part in the round robin."""
        return len(self._new) + len(self._old)

    # --- in

    def enqueue(self, packet: Packet, now_ns: int) -> None:
        """Queue a packet; O(1)."""
        packet.enqueued_ns = now_ns
        flow = self._flows.get(packet.flow_key)
        if flow is None or (now_ns - flow.last_ns > IDLE_NS and not flow.listed):
            flow = self._new_flow(packet.flow_key, now_ns)
        size = packet.packet_bytes
        if (flow.note_arrival(size, now_ns) or packet.pure_ack) and packet.item:
            self.sparse.append(packet)
            return
        if not flow.lane:
            self._order(flow)
        self._append(flow, packet, size)

    def enqueue_pinned(self, packet: Packet, pin: str, now_ns: int) -> None:
        """Queue a packet that may go over the link ``pin`` only: its flow is one apart.

        Few packets are unordered here too, but take their turn among the flows: they cannot overtake over any link.
        """
        packet.enqueued_ns = now_ns
        key = packet.flow_key + pin.encode()
        flow = self._flows.get(key)
        if flow is None or (now_ns - flow.last_ns > IDLE_NS and not flow.listed):
            flow = self._new_flow(key, now_ns)
            flow.pin = pin
        size = packet.packet_bytes
        sparse = flow.note_arrival(size, now_ns) and packet.kind == Kind.PACKETS
        if not sparse and not flow.lane:
            self._order(flow)
        self._append(flow, packet, size)

    def _append(self, flow: Flow, packet: Packet, size: int) -> None:
        flow.packets.append(packet)
        flow.backlog_bytes += size
        self.backlog_bytes += size
        if not flow.listed:
            flow.listed = True
            flow.deficit_bytes = QUANTUM_BYTES
            self._new.append(flow)
        if self.backlog_bytes > LIMIT_BYTES:
            self._drop_from_fattest()

    def _new_flow(self, key: bytes, now_ns: int) -> Flow:
        if key in self._flows:
            self._forget(self._flows.pop(key))
        if len(self._flows) >= MAX_FLOWS:
            self._forget_oldest()
        flow = self._flows[key] = Flow()
        flow.quiet_ns = now_ns
        return flow

    def _forget_oldest(self) -> None:
        """Make room: a flow without backlog may be forgotten at any time; it only starts anew."""
        for _ in range(len(self._flows)):
            key, flow = self._flows.popitem(last=False)
            if not flow.listed:
                self._forget(flow)
                return
            self._flows[key] = flow

    def _order(self, flow: Flow) -> None:
        """Give the flow the ordered lane that the fewest others use, so that flows seldom wait for each other."""
        flow.lane = min(range(1, MAX_LANES), key=self._lane_flows.__getitem__)
        self._lane_flows[flow.lane] += 1

    def _forget(self, flow: Flow) -> None:
        self.bulk.discard(flow)
        if flow.lane:
            self._lane_flows[flow.lane] -= 1

    def forget_idle(self, now_ns: int) -> None:
        """Forget flows that have been silent; called now and then."""
        if now_ns - self._purged_ns < IDLE_NS:
            return
        self._purged_ns = now_ns
        idle = [k for k, f in self._flows.items() if now_ns - f.last_ns > IDLE_NS and not f.listed]
        for key in idle:
            self._forget(self._flows.pop(key))

    # --- out

    def head(self, now_ns: int) -> Flow | None:
        """Return the flow whose turn it is, after CoDel had its say on its head; None when nothing waits."""
        passed = 0
        while True:
            flows = self._new or self._old
            if not flows:
                return None
            flow = flows[0]
            if flow.deficit_bytes <= 0:
                flow.deficit_bytes += QUANTUM_BYTES
                flows.popleft()
                self._old.append(flow)
                passed += 1
                if passed >= len(self._old) and not self._new:
                    self._pass_rounds()
                    passed = 0
            elif self._control_delay(flow, now_ns):
                return flow
            else:
                flows.popleft()
                if flows is self._new and self._old:
                    self._old.append(flow)  # RFC 8290 4.2: a new flow that empties goes round once more
                else:
                    flow.listed = False

    def _pass_rounds(self) -> None:
        """Add to all flows at once what they would be given until the first of them has its turn.

        A super-packet is worth forty rounds.
        """
        most_bytes = self._old[0].deficit_bytes
        for flow in self._old:
            most_bytes = max(most_bytes, flow.deficit_bytes)
        rounds = -most_bytes // QUANTUM_BYTES
        if rounds > 0:
            for flow in self._old:
                flow.deficit_bytes += rounds * QUANTUM_BYTES

    def _control_delay(self, flow: Flow, now_ns: int) -> bool:
        """Let CoDel have its say; return whether a packet is left."""
        before_bytes = flow.backlog_bytes
        codel.control(flow, self._counters, now_ns)
        self.backlog_bytes -= before_bytes - flow.backlog_bytes
        return bool(flow.packets)

    def skip(self, flow: Flow) -> None:
        """Let the other flows go first: no link suits this one now."""
        flows = self._new if self._new and self._new[0] is flow else self._old
        flows.popleft()
        self._old.append(flow)

    def take(self, flow: Flow, allowance_bytes: int, body_bytes: int, now_ns: int) -> Run:
        """Take a run of about ``allowance_bytes`` (at least one datagram) from the head of ``flow``.

        ``body_bytes`` is what fits into one datagram's body; the caller has checked that the head fits.
        """
        packet = flow.packets[0]
        self.sojourn_ns = now_ns - packet.enqueued_ns
        run: Run
        if packet.kind == Kind.PACKETS:
            run, taken = self._take_plain(flow, allowance_bytes, body_bytes)
        else:
            run, taken = self._take_slices(flow, packet, allowance_bytes)
        self._next_gseq[flow.lane] += run.count
        flow.deficit_bytes -= taken
        flow.rate_bytes += taken
        flow.waited_byte_ns += taken * self.sojourn_ns
        if flow.bulk:
            self.bulk.add(flow)
        flow.backlog_bytes -= taken
        self.backlog_bytes -= taken
        return run

    def _take_slices(self, flow: Flow, packet: Packet, allowance_bytes: int) -> tuple[SliceRun, int]:
        per_slice = OVERHEAD_BYTES + SLICE_HEAD.size + packet.header_bytes + packet.slice_bytes
        count = max(1, min(packet.slices, allowance_bytes // per_slice))
        first = first_byte(packet.kind, flow.lane, flow.bulk)
        run = SliceRun(packet, first, self._next_gseq[flow.lane], packet.offset, count)
        before = packet.packet_bytes
        if count == packet.slices:
            flow.packets.popleft()
            return run, before
        packet.offset += count * packet.slice_bytes
        return run, before - packet.packet_bytes

    def _take_plain(self, flow: Flow, allowance_bytes: int, body_bytes: int) -> tuple[BodyRun, int]:
        items: list[bytes] = []
        taken = sent = 0
        packets = flow.packets
        room = body_bytes - DATA_HEAD.size
        while packets and (not items or sent < allowance_bytes):
            packet = packets[0]
            item = packet.item
            if not item or (items and len(item) > room):
                break
            packets.popleft()
            items.append(item)
            taken += len(packet.frame) - VNET_BYTES
            sent += len(item)
        return build_bodies(items, flow.lane, flow.bulk, self._next_gseq[flow.lane], body_bytes), taken

    def take_sparse(self, body_bytes: int) -> BodyRun:
        """Take all sparse packets that wait, as few datagrams as they fit into; the caller has seen that some do."""
        items = [packet.item for packet in self.sparse]
        self.sparse.clear()
        run = build_bodies(items, 0, False, self._next_gseq[0], body_bytes)
        self._next_gseq[0] += run.count
        return run

    def drop_head(self, flow: Flow) -> Packet:
        """Take the head off undelivered, for the caller to account for."""
        packet = flow.packets.popleft()
        self._forget_bytes(flow, packet.packet_bytes)
        return packet

    def drop_older(self, limit_ns: int, now_ns: int) -> int:
        """Drop what has waited longer than ``limit_ns`` (no link is up); return how many packets."""
        dropped = 0
        while self.sparse and now_ns - self.sparse[0].enqueued_ns > limit_ns:
            self.sparse.popleft()
            dropped += 1
        for flow in self._flows.values():
            while flow.packets and now_ns - flow.packets[0].enqueued_ns > limit_ns:
                self.drop_head(flow)
                dropped += 1
        return dropped

    def _forget_bytes(self, flow: Flow, size: int) -> None:
        flow.backlog_bytes -= size
        self.backlog_bytes -= size

    def _drop_from_fattest(self) -> None:
        fattest = max(self._flows.values(), key=lambda flow: flow.backlog_bytes)
        self.drop_head(fattest)
        self._counters.queue_full_packets += 1
