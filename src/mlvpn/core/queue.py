"""The one queue of the tunnel: FQ-CoDel over inner flows, the only place that drops or marks for congestion.

    enqueue -> sparse flow? -> sparse packets, sent first and unordered (lane 0)
            -> else         -> its flow's queue -> deficit round robin -> CoDel -> run (ordered, the flow's lane)

Every link is paced just above an empty queue of its own, so the excess waits here, where it can be dropped early,
fairly and by flow (RFC 8290; CoDel's control law RFC 8289). A flow that asks for little is *sparse*: its packets
overtake everything. A flow that has had a lot is *bulk*: it may use links of any delay.

Owns flows, their lanes, the order between them, drops and marks. Does not own which link a run takes (`scheduler`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from math import sqrt
from typing import Final

from mlvpn.core.counters import TunnelCounters
from mlvpn.core.ecn import mark_congestion
from mlvpn.core.packet import VNET_BYTES, Packet
from mlvpn.core.run import BodyRun, Run, SliceRun, build_bodies
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import DATA_HEAD, MAX_LANES, SLICE_HEAD, Kind, first_byte
from mlvpn.wire.header import OVERHEAD_BYTES

TARGET_NS: Final = 20 * NS_PER_MS
"""Sojourn CoDel tolerates. More than RFC 8289's 5 ms: flows are isolated from each other here, and a lone CUBIC flow
whose queue runs empty after each cut gets only 93 % of the links (docs/bonding.md)."""
INTERVAL_NS: Final = 150 * NS_PER_MS
HOLD_RATIO: Final = 0.4
"""A flow whose lane is held (`equaliser`) may wait by so much of its hold longer, and the interval is longer by all of
it: its round trip is, and CUBIC takes back 0.3 of what is in flight, 0.43 of what is left."""
QUANTUM_BYTES: Final = 1514
LIMIT_BYTES: Final = 32 << 20
"""Total backlog; beyond it the fattest flow loses from its head."""

SPARSE_WINDOW_NS: Final = 100 * NS_PER_MS
SPARSE_BYTES: Final = 4000
"""A flow that brings no more than this in a window is sparse: voice, games, ssh, DNS, pings, the start of anything."""
BULK_BYTES: Final = 512 << 10
"""A flow that has sent this much without a pause is bulk."""
IDLE_NS: Final = 1 * NS_PER_S
"""A flow this long silent starts anew: by then all it sent has been delivered, so order cannot break."""
MAX_FLOWS: Final = 4096


class Flow:
    """One inner flow: its packets, its CoDel state, and how much it has been asking for."""

    __slots__ = (
        "awaited",
        "backlog_bytes",
        "bounded",
        "busy_bytes",
        "codel_count",
        "codel_dropping",
        "codel_next_ns",
        "cut_ns",
        "deficit_bytes",
        "first_above_ns",
        "grown_ns",
        "hold_ns",
        "judged_ns",
        "lane",
        "largest_flight_bytes",
        "last_ns",
        "listed",
        "packets",
        "pin",
        "quiet_ns",
        "rate_bps",
        "rate_bytes",
        "settles",
        "short",
        "usual_ns",
        "waited_byte_ns",
        "window_bytes",
        "window_ns",
    )

    def __init__(self) -> None:
        self.packets: deque[Packet] = deque()
        self.pin = ""
        """The link that a filter chose for all of it; empty: none did."""
        self.backlog_bytes = 0
        self.lane = 0
        self.listed = False
        self.deficit_bytes = 0
        self.last_ns = 0
        self.window_ns = 0
        self.window_bytes = 0
        self.busy_bytes = 0
        self.first_above_ns = 0
        self.codel_dropping = False
        self.codel_next_ns = 0
        self.codel_count = 0
        self.cut_ns: int | None = None
        """When last a packet of it was dropped or marked."""
        # Of the equaliser: how much delay the flow bears, and what tells.
        self.hold_ns = 0
        self.largest_flight_bytes = 0.0
        self.grown_ns = 0
        """When it last had clearly more in flight than ever."""
        self.bounded = False
        """Its window cannot grow into the hold it would take."""
        self.quiet_ns = 0
        """When last it made a pause; at first when it began."""
        self.awaited = False
        """It is held longer than usual because BBR is about to measure its least round trip."""
        self.usual_ns = 0
        """Its hold before that."""
        self.settles = False
        """The hold has just changed, so what is measured is not yet its effect."""
        self.judged_ns = 0
        self.short = False
        self.rate_bytes = 0
        self.waited_byte_ns = 0
        self.rate_bps = 0.0

    @property
    def bulk(self) -> bool:
        return self.busy_bytes > BULK_BYTES and not self.pin

    def note_arrival(self, size: int, now_ns: int) -> bool:
        """Account for an arriving packet; return whether the flow is sparse, so that this packet may overtake."""
        self.last_ns = now_ns
        self.busy_bytes += size
        if now_ns - self.window_ns > SPARSE_WINDOW_NS:
            self.window_ns = now_ns
            self.window_bytes = 0
        self.window_bytes += size
        # Once ordered, a flow stays ordered until it has been idle: its packets must not overtake one another.
        return self.lane == 0 and self.window_bytes <= SPARSE_BYTES


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
        while True:
            flows = self._new or self._old
            if not flows:
                return None
            flow = flows[0]
            if flow.deficit_bytes <= 0:
                flow.deficit_bytes += QUANTUM_BYTES
                flows.popleft()
                self._old.append(flow)
            elif self._control_delay(flow, now_ns):
                return flow
            else:
                flows.popleft()
                if flows is self._new and self._old:
                    self._old.append(flow)  # RFC 8290 4.2: a new flow that empties goes round once more
                else:
                    flow.listed = False

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

    # --- CoDel (RFC 8289, section 5), on the head of one flow

    def _control_delay(self, flow: Flow, now_ns: int) -> bool:
        """Drop or mark at the head of ``flow`` as CoDel says; return whether a packet is left."""
        if not flow.packets:
            return False
        above = self._above_target(flow, now_ns)
        if flow.codel_dropping:
            if not above:
                flow.codel_dropping = False
            while flow.codel_dropping and now_ns >= flow.codel_next_ns:
                flow.codel_count += 1
                if not self._signal(flow, now_ns) or not self._above_target(flow, now_ns):
                    flow.codel_dropping = False
                flow.codel_next_ns += int((INTERVAL_NS + flow.hold_ns) / sqrt(flow.codel_count))
        elif above:
            self._start_dropping(flow, now_ns)
        return bool(flow.packets)

    def _start_dropping(self, flow: Flow, now_ns: int) -> None:
        self._signal(flow, now_ns)
        flow.codel_dropping = True
        recently = now_ns - flow.codel_next_ns < 16 * INTERVAL_NS
        flow.codel_count = flow.codel_count - 2 if recently and flow.codel_count > 2 else 1
        flow.codel_next_ns = now_ns + int((INTERVAL_NS + flow.hold_ns) / sqrt(flow.codel_count))

    def _above_target(self, flow: Flow, now_ns: int) -> bool:
        if not flow.packets:
            flow.first_above_ns = 0
            return False
        sojourn = now_ns - flow.packets[0].enqueued_ns
        if sojourn < TARGET_NS + HOLD_RATIO * flow.hold_ns or flow.backlog_bytes <= QUANTUM_BYTES:
            flow.first_above_ns = 0
            return False
        if not flow.first_above_ns:
            flow.first_above_ns = now_ns + INTERVAL_NS + flow.hold_ns
            return False
        return now_ns >= flow.first_above_ns

    def _signal(self, flow: Flow, now_ns: int) -> bool:
        """Tell the sender of ``flow`` to slow down: mark its head if it understands, else drop one packet of it."""
        flow.cut_ns = now_ns
        packet = flow.packets[0]
        if mark_congestion(packet):
            self._counters.queue_marked_packets += 1
            return True
        self._counters.queue_dropped_packets += 1
        if packet.kind != Kind.PACKETS and packet.slices > 1:
            packet.offset += packet.slice_bytes
            self._forget_bytes(flow, packet.slice_bytes)
        else:
            self.drop_head(flow)
        return bool(flow.packets)
