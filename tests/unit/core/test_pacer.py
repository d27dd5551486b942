"""The bound on what is in flight: it follows the loop as it is, but not a queue."""

from __future__ import annotations

import pytest

from mlvpn.core.estimator import Estimator
from mlvpn.core.pacer import MIN_FLIGHT_BYTES, Pacer, Phase
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
