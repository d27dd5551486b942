"""The bound in flight follows the loop as it is, but not a queue; and who takes what a drain gives up."""

from __future__ import annotations

import pytest

from mlvpn.core.estimator import Estimator
from mlvpn.core.pacer import BACKOFF, FIRST_LOOK_NS, GROWTH_BYTES, MIN_FLIGHT_BYTES, Pacer, Phase
from mlvpn.units import NS_PER_MS

RATE_BPS = 20e6


def flight_limit_ms(ack_ms: int, queue_ms: int) -> float:
    """Return the bound as time at the link's rate, for a link whose least acknowledgement took 20 ms."""
    estimate = Estimator(0)
    estimate.capacity_bps = RATE_BPS
    estimate.ack_min_ns = estimate.rtt_min_ns = 20 * NS_PER_MS
    estimate.ack_ns, estimate.queue_ns = ack_ms * NS_PER_MS, queue_ms * NS_PER_MS
    pacer = Pacer(0)
    pacer.phase = Phase.CRUISE  # STARTUP lets out more than the estimate explains
    pacer.update(estimate, wanted=True, may_refresh=False, now_ns=0)
    return pacer.flight_limit_bytes * 8e3 / RATE_BPS


def test_a_peer_that_answers_late_does_not_become_the_bottleneck() -> None:
    assert flight_limit_ms(ack_ms=50, queue_ms=0) > 50  # else the bound would set the rate, and the rate the bound


@pytest.mark.parametrize("queue_ms", [10, 100, 1000])
def test_a_queue_does_not_pay_for_itself(queue_ms: int) -> None:
    assert flight_limit_ms(ack_ms=20 + queue_ms, queue_ms=queue_ms) == flight_limit_ms(ack_ms=20, queue_ms=0)


def test_a_slow_link_may_have_a_train_under_way() -> None:
    pacer, estimate = Pacer(0), Estimator(0)
    estimate.capacity_bps = 64_000.0
    pacer.update(estimate, wanted=True, may_refresh=False, now_ns=0)
    assert pacer.flight_limit_bytes == MIN_FLIGHT_BYTES


# --- somebody else on the link


def draining() -> tuple[Pacer, Estimator]:
    """Return a pacer that drains a link of 20 Mbit/s with a queue of 50 ms, and its estimates."""
    pacer, estimate = Pacer(0), Estimator(0)
    estimate.capacity_bps = estimate.rate_bps = RATE_BPS
    estimate.ack_ns, estimate.queue_ns = 100.0 * NS_PER_MS, 50 * NS_PER_MS
    estimate._note_base(0, 0)
    estimate.held_back = True
    pacer.phase = Phase.CRUISE
    pacer.update(estimate, wanted=True, may_refresh=False, now_ns=0)
    assert pacer.phase == Phase.DRAIN
    return pacer, estimate


def see(
    pacer: Pacer, estimate: Estimator, rate_bps: float, stretch_ratio: float, now_ms: int = 100, *, wanted: bool = True
) -> Phase:
    """Let a report bring a rate sample; return the phase after it."""
    estimate.rate_bps, estimate.stretch_ratio = rate_bps, stretch_ratio
    pacer.update(estimate, wanted=wanted, may_refresh=False, now_ns=now_ms * NS_PER_MS)
    return pacer.phase


def test_a_lone_link_that_drains_has_no_rival() -> None:
    pacer, estimate = draining()
    assert see(pacer, estimate, 0.6 * RATE_BPS, 0.6) == Phase.DRAIN  # it brings what it can, sooner than it was sent
    estimate.queue_ns = 0
    assert see(pacer, estimate, 0.75 * RATE_BPS, 1.0) == Phase.CRUISE


def test_a_link_that_became_slower_has_no_rival() -> None:
    pacer, estimate = draining()
    assert see(pacer, estimate, 0.4 * RATE_BPS, 1.8) == Phase.DRAIN
    assert see(pacer, estimate, 0.3 * RATE_BPS, 0.75, 200) == Phase.DRAIN


def test_what_draining_gives_up_and_somebody_takes_is_claimed_back() -> None:
    pacer, estimate = draining()
    assert see(pacer, estimate, 0.75 * RATE_BPS, 1.0) == Phase.DRAIN
    assert see(pacer, estimate, 0.6 * RATE_BPS, 1.0, 200) == Phase.COMPETE
    assert pacer.pace_bps > RATE_BPS
    assert pacer.flight_limit_bytes >= RATE_BPS * 0.1 / 8, "as much as before, its queue included"


@pytest.mark.parametrize("reason", ["idle", "jittery"])
def test_who_gave_up_nothing_and_who_cannot_tell_claim_nothing(reason: str) -> None:
    pacer, estimate = draining()
    estimate.held_back = reason != "idle"
    estimate.jitter.is_jittery = reason == "jittery"
    assert see(pacer, estimate, 0.5 * RATE_BPS, 1.0) == Phase.DRAIN


def test_a_queue_on_an_unused_link_is_a_rivals_once_ours_must_have_left() -> None:
    pacer, estimate = draining()
    estimate.held_back = False
    assert see(pacer, estimate, 0.01 * RATE_BPS, 1.0, 140, wanted=False) == Phase.DRAIN
    assert see(pacer, estimate, 0.01 * RATE_BPS, 1.0, 160, wanted=False) == Phase.COMPETE


def test_a_rival_is_known_on_an_unused_link_whose_estimate_went_down_with_him() -> None:
    pacer, estimate = draining()
    estimate.held_back, estimate.capacity_bps = False, 0.01 * RATE_BPS
    assert see(pacer, estimate, 0.01 * RATE_BPS, 1.0, 1000, wanted=False) == Phase.COMPETE


def test_who_has_only_begun_to_send_more_has_no_rival() -> None:
    pacer, estimate = draining()
    estimate.held_back = False  # the sample reaches back to when nothing waited
    assert see(pacer, estimate, 0.01 * RATE_BPS, 1.0, 1000, wanted=False) == Phase.COMPETE
    pacer, estimate = draining()
    estimate.held_back = False
    assert see(pacer, estimate, 0.01 * RATE_BPS, 1.0, 1000) == Phase.DRAIN


def test_the_target_of_a_link_that_others_use_is_not_that_of_a_slow_one() -> None:
    """Two datagrams of what is left to us would be a long queue: we would cruise behind somebody else's for ever."""
    pacer, estimate = draining()
    estimate.queue_ns = 0
    assert see(pacer, estimate, RATE_BPS, 1.0) == Phase.CRUISE
    estimate.capacity_bps, estimate.queue_ns = 0.02 * RATE_BPS, 16 * NS_PER_MS
    assert see(pacer, estimate, 0.02 * RATE_BPS, 1.0, 200) == Phase.DRAIN


def competing() -> tuple[Pacer, Estimator]:
    pacer, estimate = draining()
    assert see(pacer, estimate, 0.5 * RATE_BPS, 1.0) == Phase.COMPETE
    return pacer, estimate


def test_one_loss_in_a_round_trip_makes_it_back_off_and_growth_is_slow_from_then_on() -> None:
    pacer, estimate = competing()
    before_bytes = pacer.flight_limit_bytes
    for now_ms in (250, 260):
        pacer.update(estimate, wanted=False, may_refresh=False, now_ns=now_ms * NS_PER_MS, lost=True)
    assert pacer.flight_limit_bytes == pytest.approx(before_bytes * BACKOFF)
    pacer.update(estimate, wanted=True, may_refresh=False, now_ns=360 * NS_PER_MS)
    assert pacer.flight_limit_bytes == pytest.approx(before_bytes * BACKOFF + GROWTH_BYTES)


def test_it_looks_again_and_goes_back_to_its_window_if_the_rival_is_still_there() -> None:
    pacer, estimate = competing()
    estimate.capacity_bps, now_ms = 0.5 * RATE_BPS, 100 + FIRST_LOOK_NS // NS_PER_MS + 1
    window_bytes = pacer.flight_limit_bytes
    pacer.update(estimate, wanted=False, may_refresh=False, now_ns=now_ms * NS_PER_MS)
    assert pacer.phase == Phase.DRAIN
    estimate.rate_bps, now_ns = 0.3 * RATE_BPS, (now_ms + 200) * NS_PER_MS
    pacer.update(estimate, wanted=False, may_refresh=False, now_ns=now_ns)
    assert pacer.phase == Phase.COMPETE
    assert pacer.flight_limit_bytes == pytest.approx(window_bytes)


def test_the_base_delay_is_kept_while_a_rival_keeps_the_queue_standing() -> None:
    pacer, estimate = competing()
    for now_ms in range(1000, 25_000, 500):
        estimate._note_base(80 * NS_PER_MS, now_ms * NS_PER_MS)
        pacer.update(estimate, wanted=False, may_refresh=False, now_ns=now_ms * NS_PER_MS)
    assert estimate.base_delay_ns == 0


def test_a_configured_rate_keeps_the_window_of_a_competing_link_finite() -> None:
    pacer, estimate = competing()
    pacer.ceiling_bps = int(RATE_BPS / 8)
    for now_ms in range(200, 60_000, 100):
        pacer.update(estimate, wanted=True, may_refresh=False, now_ns=now_ms * NS_PER_MS)
        if pacer.phase == Phase.COMPETE:
            assert pacer.flight_limit_bytes <= max(RATE_BPS / 8 * estimate.ack_ns / 8e9, MIN_FLIGHT_BYTES)
    assert pacer.phase in (Phase.COMPETE, Phase.DRAIN)
