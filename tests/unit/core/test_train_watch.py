"""Trains are given up only where single datagrams pass and trains, tried once more, do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlvpn.core.train_watch import KEPT_NS, REST_NS, TrainWatch, Way
from mlvpn.units import NS_PER_MS, NS_PER_S


class Reports:
    """A link that loses a share of its datagrams, reported every 20 ms."""

    def __init__(self) -> None:
        self.watch = TrainWatch(0)
        self.now_ns = 0
        self.ways: list[Way] = [Way.TRAINS]
        self.highest = self.received = 0

    def run(
        self, seconds: float, loss_ratio: Callable[[bool, int], float], per_report: int = 20, step_ms: int = 20
    ) -> list[Way]:
        """``loss_ratio``: by whether datagrams leave singly, and the time; returns the ways it went."""
        for _ in range(int(seconds * 1000) // step_ms):
            self.now_ns += step_ms * NS_PER_MS
            self.highest += per_report
            self.received += round(per_report * (1 - loss_ratio(self.watch.singly, self.now_ns)))
            self.watch.note(self.highest, self.received, self.now_ns)
            if self.watch.way != self.ways[-1]:
                self.ways.append(self.watch.way)
        return self.ways


def spoiled(singly: bool, _now_ns: int) -> float:
    return 0.0 if singly else 0.8


def test_a_link_that_spoils_trains_gets_single_datagrams_within_six_seconds() -> None:
    reports = Reports()
    assert reports.run(6, spoiled) == [Way.TRAINS, Way.TRIAL, Way.PROOF, Way.SINGLES]
    assert reports.watch.singly


def test_trains_are_tried_again_after_ten_minutes() -> None:
    reports = Reports()
    reports.run(6, spoiled)
    assert reports.run(KEPT_NS / NS_PER_S + 2, lambda _singly, _now_ns: 0.0)[-1] == Way.TRAINS


@pytest.mark.parametrize("loss_ratio", [0.0, 0.05, 0.2, 0.6])
def test_a_link_that_loses_singles_too_keeps_its_trains(loss_ratio: float) -> None:
    reports = Reports()
    ways = reports.run(30, lambda _singly, _now_ns: loss_ratio)
    assert Way.PROOF not in ways
    assert ways.count(Way.TRIAL) <= 1, f"not again for {REST_NS // NS_PER_S} s"


def test_a_queue_that_ran_over_once_is_no_proof() -> None:
    reports = Reports()
    ways = reports.run(30, lambda _singly, now_ns: 0.5 if now_ns < 1.5 * NS_PER_S else 0.0)
    assert ways == [Way.TRAINS, Way.TRIAL, Way.PROOF, Way.TRAINS]


def test_few_datagrams_prove_nothing() -> None:
    reports = Reports()
    assert reports.run(4, lambda _singly, _now_ns: 1.0, per_report=1, step_ms=100) == [Way.TRAINS]
    assert reports.run(2, lambda _singly, _now_ns: 1.0, per_report=1, step_ms=100) == [Way.TRAINS, Way.TRIAL]
