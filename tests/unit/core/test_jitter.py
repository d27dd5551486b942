"""What wanders is told from what queues."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.jitter import LEVEL_SLOTS, SLOT_NS, Jitter
from mlvpn.units import NS_PER_MS, NS_PER_S

REPORT_NS = 20 * NS_PER_MS
HOLD_NS = 10 * NS_PER_MS


def wandering(amplitude_ms: float, seconds: float, seed: int = 1, base_ms: float = 50) -> list[float]:
    """Return the least delay in each ``REPORT_NS``, a packet a millisecond, on an ordered link whose delay takes a new
    offset within the amplitude each ``HOLD_NS``."""
    random = Random(seed)
    reports, arrived_ms = [], 0.0
    offset_ms = 0.0
    least_ms = float("inf")
    for now_ms in range(int(seconds * 1000)):
        if now_ms % (HOLD_NS // NS_PER_MS) == 0:
            offset_ms = random.uniform(-amplitude_ms, amplitude_ms)
        arrived_ms = max(arrived_ms, now_ms + base_ms + offset_ms)
        least_ms = min(least_ms, arrived_ms - now_ms)
        if now_ms % (REPORT_NS // NS_PER_MS) == 19:
            reports.append(least_ms)
            least_ms = float("inf")
    return reports


def feed(jitter: Jitter, delays_ms: list[float], start_ns: int = 0) -> list[float]:
    """Give one report every ``REPORT_NS``; return the level after each, in ms."""
    levels = []
    for number, delay_ms in enumerate(delays_ms):
        jitter.note(int(delay_ms * NS_PER_MS), start_ns + number * REPORT_NS)
        levels.append(jitter.level_ns / NS_PER_MS)
    return levels


@pytest.mark.parametrize("amplitude_ms", [10, 15, 40])
def test_a_wandering_delay_is_jitter_in_proportion(amplitude_ms: float) -> None:
    jitter = Jitter()
    feed(jitter, wandering(amplitude_ms, 10))
    assert jitter.is_jittery
    assert jitter.jitter_ns / NS_PER_MS == pytest.approx(0.2 * amplitude_ms, rel=0.5)
    assert jitter.mean_ns / NS_PER_MS == pytest.approx(amplitude_ms, rel=0.5)


def test_on_an_idle_link_the_few_pings_tell_it_within_twenty_seconds() -> None:
    random, jitter = Random(1), Jitter()
    for number in range(40):
        jitter.note(int(random.uniform(40, 60) * NS_PER_MS), number * NS_PER_S // 2)
    assert jitter.is_jittery


def test_the_level_leaves_the_jitter_out() -> None:
    jitter = Jitter()
    delays_ms = wandering(15, 20)
    levels_ms = feed(jitter, delays_ms)[100:]
    above_ms = [level_ms - (min(delays_ms) + jitter.floor_ns / NS_PER_MS) for level_ms in levels_ms]
    assert abs(sum(above_ms) / len(above_ms)) < 1.5, "no queue, on average"
    assert max(above_ms) < 10, "where a delay alone would be 30 above"


def test_a_queue_under_the_jitter_is_seen() -> None:
    jitter = Jitter()
    calm_ms = sum(feed(jitter, wandering(15, 10))[-100:]) / 100
    queued_ms = sum(feed(jitter, wandering(15, 10, base_ms=75), 10 * NS_PER_S)[-100:]) / 100
    assert queued_ms - calm_ms == pytest.approx(25, abs=2)


@pytest.mark.parametrize("period_slots", [8, 16, 50])
def test_a_queue_that_fills_and_empties_is_no_jitter(period_slots: int) -> None:
    """A sawtooth of 20 ms, such as a control loop or a rate that changes makes."""
    jitter = Jitter()
    feed(jitter, [50 + 20 * abs((n % period_slots) * 2 / period_slots - 1) for n in range(300)])
    assert not jitter.is_jittery or jitter.jitter_ns < 5 * NS_PER_MS
    if period_slots > 8:
        assert not jitter.is_jittery


def test_a_queue_that_fills_and_empties_from_the_start_is_no_jitter() -> None:
    """Twice a second, as behind a short link with a long buffer: there is no time in which to learn what is usual."""
    fills = [0, 25, 50, 75, 100, 66, 33] + [0] * 18
    jitter = Jitter()
    for round_number in range(6):
        levels = feed(jitter, [float(ms) for ms in fills], round_number * len(fills) * REPORT_NS)
        assert not jitter.is_jittery
        assert max(levels) == 75, "the lesser of the two highest"


def test_one_outburst_is_forgotten() -> None:
    jitter = Jitter()
    feed(jitter, [50.0] * 50 + [80.0, 50.0, 90.0, 50.0] + [50.0] * 100)
    assert jitter.jitter_ns == 0


def test_without_jitter_the_level_follows_at_once() -> None:
    assert feed(Jitter(), [50.0, 51.0, 60.0, 70.0])[-1] == 60.0, "the lesser of the last two reports"


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=200), st.lists(st.integers(0, 10**8), min_size=200))
def test_the_level_is_a_delay_that_was_seen_lately(delays_ns: list[int], steps_ns: list[int]) -> None:
    jitter, now_ns = Jitter(), 0
    seen: list[int] = []
    for delay_ns, step_ns in zip(delays_ns, steps_ns, strict=False):
        now_ns += step_ns
        jitter.note(delay_ns, now_ns)
        seen.append(delay_ns)
        assert jitter.level_ns in seen
        assert jitter.level_ns <= max(seen[-2:])
        assert jitter.jitter_ns >= 0
    if jitter.is_jittery:
        assert len(seen) > 3


def test_an_old_low_leaves_the_level() -> None:
    jitter = Jitter()
    feed(jitter, wandering(15, 5))
    levels_ms = feed(jitter, wandering(15, 2, base_ms=150), 5 * NS_PER_S)
    slots = LEVEL_SLOTS * SLOT_NS // REPORT_NS
    assert min(levels_ms[slots + 1 :]) >= 135
