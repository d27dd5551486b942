"""The queue: who overtakes, who shares, who is dropped, and that every byte is accounted for."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from inner_packets import ACK, frame, ipv4, super_packet, tcp, udp

from mlvpn.core import queue
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.flow import BULK_BYTES
from mlvpn.core.packet import Packet
from mlvpn.core.queue import FlowQueue
from mlvpn.core.run import BodyRun, Run, SliceRun
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import Item, lane_of, unpack_items

START_NS = 1_000 * NS_PER_S
BODY_BYTES = 1440


def plain(number: int, size: int = 1300, port: int = 1000) -> Packet:
    return Packet(frame(ipv4(17, udp(number.to_bytes(4, "big") + bytes(size), port))))


def numbers(run: Run) -> list[int]:
    assert isinstance(run, BodyRun)
    items: list[Item] = [item for body in run.bodies for item in unpack_items(body, Item)]
    return [int.from_bytes(item.packet[28:32], "big") for item in items]


def new() -> tuple[FlowQueue, TunnelCounters]:
    counters = TunnelCounters()
    return FlowQueue(counters), counters


def fill(waiting: FlowQueue, count: int, port: int = 1000, now_ns: int = START_NS) -> None:
    for number in range(count):
        waiting.enqueue(plain(number, port=port), now_ns)


def take(waiting: FlowQueue, now_ns: int = START_NS, allowance: int = 1) -> Run | None:
    """Take what is next, sparse packets first, as the sender does."""
    if waiting.sparse:
        return waiting.take_sparse(BODY_BYTES)
    flow = waiting.head(now_ns)
    return None if flow is None else waiting.take(flow, allowance, BODY_BYTES, now_ns)


def lane(run: Run) -> int:
    return lane_of(run.first_byte)


def test_a_flow_that_asks_for_little_overtakes_in_lane_0() -> None:
    waiting, _ = new()
    fill(waiting, 50, port=1)
    waiting.sparse.clear()
    waiting.enqueue(plain(7, size=100, port=2), START_NS)
    run = take(waiting)
    assert run is not None
    assert (numbers(run), lane(run)) == ([7], 0)


def test_small_packets_share_a_datagram() -> None:
    waiting, _ = new()
    for number in range(10):
        waiting.enqueue(plain(number, size=10, port=number), START_NS)
    run = take(waiting)
    assert isinstance(run, BodyRun)
    assert (numbers(run), run.count) == (list(range(10)), 1)


def test_a_flow_that_asks_for_more_is_ordered_and_stays_so() -> None:
    waiting, _ = new()
    fill(waiting, 20)
    waiting.sparse.clear()
    seen = []
    while (run := take(waiting)) is not None:
        assert lane(run) > 0
        seen += numbers(run)
    assert seen == sorted(seen)
    slow_ns = START_NS
    for _ in range(20):
        slow_ns += 300 * NS_PER_MS
        waiting.enqueue(plain(99, size=10), slow_ns)
        assert not waiting.sparse, "it must not overtake its own packets"
        take(waiting, slow_ns)
        take(waiting, slow_ns)
    waiting.enqueue(plain(99, size=10), slow_ns + queue.IDLE_NS + 1)
    assert waiting.sparse, "after a pause all it sent has arrived"


def test_bare_acknowledgements_overtake_their_own_flow() -> None:
    waiting, _ = new()
    for _ in range(20):
        waiting.enqueue(Packet(frame(ipv4(6, tcp(bytes(1300))))), START_NS)
    waiting.sparse.clear()
    waiting.enqueue(Packet(frame(ipv4(6, tcp(b"", flags=ACK)))), START_NS)
    assert len(waiting.sparse) == 1


def test_flows_share_by_bytes() -> None:
    waiting, _ = new()
    fill(waiting, 40, port=1)
    for number in range(400):
        waiting.enqueue(plain(number, size=100, port=2), START_NS)
    waiting.sparse.clear()
    sent: dict[int, int] = {}
    while sum(sent.values()) < 40_000:
        run = take(waiting)
        assert run is not None
        sent[lane(run)] = sent.get(lane(run), 0) + run.sent_bytes
    assert len(sent) == 2
    assert max(sent.values()) / min(sent.values()) < 1.3


def round_robin(flows: list[list[int]]) -> Iterator[tuple[int, int]]:
    """Yield (flow, slices) of super-packets of 1000 bytes a slice, going round a quantum at a time (RFC 8290, 4.1)."""
    fresh = [(number, queue.QUANTUM_BYTES, slices) for number, slices in enumerate(flows)]
    old: list[tuple[int, int, list[int]]] = []
    while now := fresh or old:
        number, deficit, left = now.pop(0)
        if deficit <= 0:
            old.append((number, deficit + queue.QUANTUM_BYTES, left))
        elif left:
            yield number, left[0]
            now.insert(0, (number, deficit - 1000 * left[0] - 40, left[1:]))
        elif now is fresh and old:
            old.append((number, deficit, left))


@given(st.lists(st.lists(st.integers(2, 45), min_size=1, max_size=6), min_size=1, max_size=6))
def test_the_order_is_that_of_deficit_round_robin(flows: list[list[int]]) -> None:
    waiting, _ = new()
    for port, packets in enumerate(flows):
        for slices in packets:
            waiting.enqueue(Packet(super_packet(bytes(1000 * slices), 1000, port=port)), START_NS)
    taken = []
    while (run := take(waiting, allowance=1 << 20)) is not None:
        taken.append((lane(run) - 1, run.count))
    assert taken == list(round_robin(flows))


def test_a_super_packet_is_taken_in_parts() -> None:
    waiting, _ = new()
    waiting.enqueue(Packet(super_packet(bytes(10_000), 1000)), START_NS)
    whole = waiting.backlog_bytes
    first = take(waiting, allowance=3500)
    assert isinstance(first, SliceRun)
    assert (first.offset, first.count, first.gseq) == (0, 3, 0)
    assert waiting.backlog_bytes == whole - 3000
    rest = take(waiting, allowance=1 << 20)
    assert isinstance(rest, SliceRun)
    assert (rest.offset, rest.count, rest.gseq) == (3000, 7, 3)
    assert waiting.backlog_bytes == 0
    assert take(waiting) is None


def test_bulk_is_marked_as_such() -> None:
    waiting, _ = new()
    for _ in range(BULK_BYTES // 60_000 + 2):
        waiting.enqueue(Packet(super_packet(bytes(60_000), 1000)), START_NS)
    runs = []
    while (run := take(waiting, allowance=1 << 20)) is not None:
        runs.append(run)
    assert runs[-1].first_byte & 1


def test_what_codel_drops_is_in_the_backlog_no_more() -> None:
    waiting, counters = new()
    for ms in range(1000):
        fill(waiting, 2, now_ns=START_NS + ms * NS_PER_MS)
        take(waiting, START_NS + ms * NS_PER_MS)
    assert counters.queue_dropped_packets > 3
    (flow,) = waiting._flows.values()
    assert waiting.backlog_bytes == flow.backlog_bytes == sum(packet.packet_bytes for packet in flow.packets)


def test_the_fattest_flow_pays_for_a_full_queue() -> None:
    waiting, counters = new()
    fill(waiting, 10, port=2)
    thin = waiting.backlog_bytes
    packet = super_packet(bytes(60_000), 1400)
    for _ in range(queue.LIMIT_BYTES // 60_000 + 10):
        waiting.enqueue(Packet(packet), START_NS)
    assert queue.LIMIT_BYTES - 100_000 < waiting.backlog_bytes <= queue.LIMIT_BYTES
    assert 10 <= counters.queue_full_packets < 15
    fat = max(waiting._flows.values(), key=lambda flow: flow.backlog_bytes)
    assert waiting.backlog_bytes - fat.backlog_bytes == thin, "the other flow lost nothing"


def test_flows_are_forgotten_but_never_their_packets() -> None:
    waiting, _ = new()
    for port in range(1, queue.MAX_FLOWS - 10):
        for number in range(5):
            waiting.enqueue(plain(number, port=port), START_NS)
    backlog = waiting.backlog_bytes
    for port in range(10_000, 10_000 + 200):
        waiting.enqueue(plain(0, size=10, port=port), START_NS)
    assert waiting.backlog_bytes == backlog
    assert len(waiting._flows) <= queue.MAX_FLOWS
    waiting.sparse.clear()
    while take(waiting) is not None:
        pass
    waiting.forget_idle(START_NS + 3 * queue.IDLE_NS)
    assert len(waiting._flows) == 0
    assert waiting._lane_flows == [0] * len(waiting._lane_flows)


def test_when_no_link_is_up_old_packets_are_dropped_and_counted() -> None:
    waiting, _ = new()
    fill(waiting, 20)
    held = len(waiting.sparse) + sum(len(flow.packets) for flow in waiting._flows.values())
    assert waiting.drop_older(NS_PER_S, START_NS + NS_PER_S) == 0
    assert waiting.drop_older(NS_PER_S, START_NS + NS_PER_S + 1) == held == 20
    assert waiting.backlog_bytes == 0
    assert take(waiting) is None


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 1300), st.booleans(), st.integers(0, 5000)),
        min_size=1,
        max_size=120,
    )
)
def test_every_packet_leaves_or_is_counted_in_its_flows_order(plan: list[tuple[int, int, bool, int]]) -> None:
    """Packets of four flows come and go at random; the model is a list per flow."""
    waiting, counters = new()
    now_ns, sent, left = START_NS, 0, 0
    gseqs: dict[int, list[int]] = {}

    def note(run: Run) -> int:
        gseqs.setdefault(lane(run), []).extend(range(run.gseq, run.gseq + run.count))
        return len(numbers(run))

    for number, (port, size, takes, wait_us) in enumerate(plan):
        waiting.enqueue(plain(number, size=size, port=port), now_ns)
        sent += 1
        now_ns += wait_us * 1000
        if takes and (run := take(waiting, now_ns, allowance=3000)) is not None:
            left += note(run)
    while (run := take(waiting, now_ns, allowance=3000)) is not None:
        left += note(run)
    assert left + counters.queue_dropped_packets + counters.queue_full_packets == sent
    assert waiting.backlog_bytes == 0
    assert all(numbers_in == list(range(len(numbers_in))) for numbers_in in gseqs.values()), "gseq without a gap"
