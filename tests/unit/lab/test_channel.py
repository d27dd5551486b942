"""The model of an emulated link in virtual time, against what rate, delay, queue, jitter, loss and cut mean."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.lab.channel import ETHERNET_HEADER_BYTES, JITTER_HOLD_NS, Channel, ChannelSpec

MS = 1_000_000
START = 5_000 * MS
PACKET_BYTES = 1500
PACKET_NS = 12 * MS // 10
"""Time of one packet at 10 Mbit/s."""


def packet(number: int = 0, size_bytes: int = PACKET_BYTES) -> bytes:
    """Return a frame around a packet of that size; the number tells packets apart."""
    return number.to_bytes(4, "big").ljust(size_bytes + ETHERNET_HEADER_BYTES, b".")


def number_of(frame: bytes) -> int:
    """Return the number given to ``packet``."""
    return int.from_bytes(frame[:4], "big")


def arrivals(channel: Channel) -> list[tuple[int, int]]:
    """Let everything arrive; return (time, packet number)."""
    seen = []
    while (due_ns := channel.next_due_ns()) is not None:
        assert channel.due(due_ns - 1) == []
        seen += [(due_ns, number_of(frame)) for frame in channel.due(due_ns)]
    return seen


def make(**spec: object) -> Channel:
    """Return a link that has just been built."""
    return Channel(ChannelSpec(**spec), START, seed=7)  # type: ignore[arg-type]


def test_a_perfect_wire_delivers_at_once() -> None:
    channel = make()
    channel.offer(packet(), START)
    assert arrivals(channel) == [(START, 0)]


def test_a_burst_leaves_at_the_rate_and_arrives_after_the_delay() -> None:
    channel = make(rate_bps=10_000_000, delay_ns=15 * MS)
    for number in range(5):
        channel.offer(packet(number), START)
    assert arrivals(channel) == [(START + 15 * MS + PACKET_NS * (n + 1), n) for n in range(5)]


def test_an_idle_link_saves_no_rate_for_later() -> None:
    channel = make(rate_bps=10_000_000)
    late = START + 1000 * MS
    channel.offer(packet(0), late)
    channel.offer(packet(1), late)
    assert [at for at, _ in arrivals(channel)] == [late + PACKET_NS, late + 2 * PACKET_NS]


def test_a_full_queue_drops_the_newest() -> None:
    channel = make(rate_bps=10_000_000, buffer_ns=12 * MS)  # ten packets
    for number in range(15):
        channel.offer(packet(number), START)
    assert channel.queue_bytes(START) == 10 * PACKET_BYTES
    assert [number for _, number in arrivals(channel)] == list(range(10))
    assert channel.counters.dropped_queue_packets == 5


def test_the_queue_empties_at_the_rate() -> None:
    channel = make(rate_bps=10_000_000)
    for _ in range(10):
        channel.offer(packet(), START)
    assert channel.queue_bytes(START + 6 * MS) == 5 * PACKET_BYTES
    assert channel.take_peak_queue_bytes() == 10 * PACKET_BYTES
    assert channel.take_peak_queue_bytes() == 0


def test_a_lost_packet_has_used_the_rate() -> None:
    channel = make(rate_bps=10_000_000, loss_ratio=1.0)
    channel.offer(packet(), START)
    channel.configure(ChannelSpec(rate_bps=10_000_000), START)
    channel.offer(packet(1), START)
    assert arrivals(channel) == [(START + 2 * PACKET_NS, 1)]


def test_loss_is_what_was_ordered_and_the_same_for_the_same_seed() -> None:
    runs = []
    for _ in range(2):
        channel = make(loss_ratio=0.02)
        for number in range(20_000):
            channel.offer(packet(number, 100), START)
        runs.append([number for _, number in arrivals(channel)])
    assert runs[0] == runs[1]
    assert 0.017 < channel.counters.dropped_loss_packets / 20_000 < 0.023


def test_a_slower_rate_holds_for_what_waits() -> None:
    channel = make(rate_bps=10_000_000, delay_ns=5 * MS)
    for number in range(3):
        channel.offer(packet(number), START)
    half_way = START + PACKET_NS // 2
    channel.configure(ChannelSpec(rate_bps=5_000_000, delay_ns=5 * MS), half_way)
    first = half_way + PACKET_NS  # half a packet was left, and takes twice as long
    assert [at for at, _ in arrivals(channel)] == [first + 5 * MS + 2 * PACKET_NS * n for n in range(3)]


def test_a_rate_change_leaves_what_is_on_the_wire_alone() -> None:
    channel = make(rate_bps=10_000_000, delay_ns=50 * MS)
    channel.offer(packet(), START)
    channel.configure(ChannelSpec(rate_bps=1_000_000, delay_ns=50 * MS), START + 2 * PACKET_NS)
    assert arrivals(channel) == [(START + PACKET_NS + 50 * MS, 0)]


def test_a_shorter_delay_reorders_nothing() -> None:
    channel = make(delay_ns=50 * MS)
    channel.offer(packet(0), START)
    channel.configure(ChannelSpec(delay_ns=1 * MS), START)
    channel.offer(packet(1), START + 1)
    assert [number for _, number in arrivals(channel)] == [0, 1]


def test_a_trace_changes_the_rate_and_can_begin_anew() -> None:
    channel = make(rate_bps=10_000_000, trace=((0, 20_000_000), (1000 * MS, 5_000_000)))
    assert channel.rate_bps == 20_000_000
    assert channel.next_change_ns() == START + 1000 * MS
    channel.follow_trace(START + 1000 * MS)
    assert (channel.rate_bps, channel.next_change_ns()) == (5_000_000, None)
    channel.restart_trace(START + 3000 * MS)
    assert (channel.rate_bps, channel.next_change_ns()) == (20_000_000, START + 4000 * MS)


def test_another_delay_leaves_the_trace_where_it_is_and_another_rate_starts_it() -> None:
    channel = make(rate_bps=10_000_000, trace=((0, 20_000_000), (1000 * MS, 5_000_000)))
    channel.follow_trace(START + 1500 * MS)
    channel.configure(replace(channel.spec, delay_ns=MS), START + 1500 * MS)
    assert (channel.rate_bps, channel.next_change_ns()) == (5_000_000, None)
    channel.configure(replace(channel.spec, rate_bps=9_000_000), START + 1500 * MS)
    assert (channel.rate_bps, channel.next_change_ns()) == (20_000_000, START + 2500 * MS)


def test_the_buffer_keeps_its_bytes_when_the_rate_falls() -> None:
    channel = make(rate_bps=10_000_000, buffer_ns=12 * MS, trace=((0, 1_000_000),))
    for _ in range(20):
        channel.offer(packet(), START)
    assert channel.queue_bytes(START) == 10 * PACKET_BYTES


def test_a_cut_loses_what_is_under_way_and_what_comes_until_it_heals() -> None:
    channel = make(rate_bps=10_000_000, delay_ns=20 * MS)
    channel.offer(packet(0), START)
    channel.cut()
    channel.offer(packet(1), START + 1)
    assert channel.next_due_ns() is None
    channel.heal()
    channel.offer(packet(2), START + 30 * MS)
    assert arrivals(channel) == [(START + 50 * MS + PACKET_NS, 2)]
    assert channel.counters.dropped_cut_packets == 2


def test_jitter_stays_in_its_bounds_is_seen_on_a_busy_link_and_reorders_only_when_asked() -> None:
    for reorder in (False, True):
        channel = make(delay_ns=40 * MS, jitter_ns=15 * MS, reorder=reorder)
        sent = {number: START + number * MS for number in range(2000)}
        for number, at in sent.items():
            channel.offer(packet(number, 100), at)
        seen = arrivals(channel)
        delays = [at - sent[number] for at, number in seen]
        assert len(seen) == 2000
        assert 25 * MS <= min(delays) < 28 * MS
        assert 52 * MS < max(delays) <= 55 * MS
        assert ([number for _, number in seen] == sorted(sent)) is not reorder
    assert JITTER_HOLD_NS < 100 * MS


@dataclass
class NaiveLink:
    """What the words mean, written without cleverness: a list of waiting packets served one after the other."""

    rate_bps: int
    delay_ns: int
    limit_bytes: float

    def arrivals(self, offers: list[tuple[int, int]]) -> list[tuple[float, int]]:
        """Serve (time, size) offers; return (arrival, number)."""
        result: list[tuple[float, int]] = []
        free_at = 0.0
        for number, (at, size_bytes) in enumerate(offers):
            backlog_bytes = max(0.0, free_at - at) * self.rate_bps / 8e9
            if backlog_bytes + size_bytes <= self.limit_bytes:
                free_at = max(free_at, at) + size_bytes * 8e9 / self.rate_bps
                result.append((free_at + self.delay_ns, number))
        return result


@given(
    st.integers(1_000_000, 200_000_000),
    st.integers(0, 100 * MS),
    st.lists(st.tuples(st.integers(0, 3 * MS), st.integers(60, 1500)), max_size=200),
)
def test_like_the_naive_link(rate_bps: int, delay_ns: int, steps: list[tuple[int, int]]) -> None:
    channel = make(rate_bps=rate_bps, delay_ns=delay_ns, buffer_ns=10_000 * MS)
    offers, at = [], START
    for pause_ns, size_bytes in steps:
        at += pause_ns
        channel.offer(packet(len(offers), size_bytes), at)
        offers.append((at, size_bytes))
    expected = NaiveLink(rate_bps, delay_ns, 10 * rate_bps / 8).arrivals(offers)
    seen = arrivals(channel)
    assert [number for _, number in seen] == [number for _, number in expected]
    for (seen_at, _), (expected_at, _) in zip(seen, expected, strict=True):
        assert seen_at == pytest.approx(expected_at, abs=len(steps) + 2)  # each departure is cut to a whole ns


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["offer", "offer", "offer", "due", "cut", "heal", "rate"]),
            st.integers(0, 5 * MS),
            st.integers(60, 1500),
        ),
        max_size=60,
    )
)
def test_every_packet_is_accounted_for(steps: list[tuple[str, int, int]]) -> None:
    channel = make(rate_bps=2_000_000, delay_ns=5 * MS, jitter_ns=3 * MS, loss_ratio=0.2, buffer_ns=20 * MS)
    now_ns, delivered = START, 0
    for step, pause_ns, size in steps:
        now_ns += pause_ns
        match step:
            case "offer":
                channel.offer(packet(0, size), now_ns)
            case "due":
                delivered += len(channel.due(now_ns))
            case "cut":
                channel.cut()
            case "heal":
                channel.heal()
            case "rate":
                channel.set_rate(size * 10_000, now_ns)
    delivered += len(arrivals(channel))
    counters = channel.counters
    dropped = counters.dropped_queue_packets + counters.dropped_loss_packets + counters.dropped_cut_packets
    assert counters.delivered_packets == delivered
    assert counters.offered_packets == delivered + dropped


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_bps": 0},
        {"loss_ratio": 1.5},
        {"delay_ns": -1},
        {"rate_bps": 1, "trace": ((5, 1), (5, 2))},
        {"trace": ((0, 1),)},
    ],
)
def test_refuses_what_makes_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        make(**wrong)


def test_survives_json() -> None:
    spec = ChannelSpec(rate_bps=5, delay_ns=6, loss_ratio=0.5, trace=((0, 1), (2, 3)))
    assert ChannelSpec.from_json(spec.to_json()) == spec
