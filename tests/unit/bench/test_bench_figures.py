"""The benchmarks' arithmetic: what a row can carry, when a rate was reached, what counts as again, and the verdict."""

from __future__ import annotations

from typing import Any

import pytest

from bench.cells import Check, checks, reached_s, verdict
from bench.cut import again
from bench.rows import LTE, ROWS, Row, link, lte_trace, mean_rate_bps
from bench.trial import Load, Pings, Trial, goodput_bps
from mlvpn.units import NS_PER_S

STEP_NS = NS_PER_S // 10


def trial(bps: float, p99_ms: float = 30.0, loss_ratio: float | None = None) -> Trial:
    pings = Pings(100, 0, 20.0, p99_ms, p99_ms)
    udp = None if loss_ratio is None else {"loss_ratio": loss_ratio}
    return Trial(["a", "b"], bps, pings, pings, pings, {"machine": 0.5}, 0, 0, 0, [], [], {}, udp)


def failed(row: Row, alone: dict[str, float], bond: Trial) -> list[str]:
    return [check.name for check in checks(row, Load(), alone, bond) if not check.ok]


def test_the_trace_is_the_same_each_time_and_keeps_its_limits() -> None:
    trace = lte_trace()
    assert trace == lte_trace()
    assert all(3_000_000 <= rate_bps <= 60_000_000 for _, rate_bps in trace)
    assert [at_ns for at_ns, _ in trace] == [second * NS_PER_S for second in range(len(trace))]
    counted = [rate_bps for _, rate_bps in trace[10:20]]
    assert min(counted) < 5e6
    assert max(counted) > 55e6


def test_the_mean_of_a_trace_between_two_times() -> None:
    assert mean_rate_bps(LTE, 10, 20) == pytest.approx(sum(rate for _, rate in lte_trace()[10:20]) / 10)
    stepped = link("x", 10, 10, trace=((0, 4_000_000), (NS_PER_S, 8_000_000)))
    assert mean_rate_bps(stepped, 0.5, 2.5) == pytest.approx((0.5 * 4e6 + 1.5 * 8e6) / 2)
    assert mean_rate_bps(link("x", 10, 10), 3, 7) == 10e6


def test_goodput_counts_silence_at_the_end() -> None:
    assert goodput_bps([125_000] * 150, 10, 20) == pytest.approx(5e6)


def test_a_rate_is_reached_by_a_whole_second() -> None:
    assert reached_s([0.0] * 5 + [10e6] * 20, 9e6) == pytest.approx(1.4)
    assert reached_s([0.0, 100e6, 0.0] * 3, 90e6) is None


def test_a_row_is_judged_by_its_basis() -> None:
    by_sum, by_best, by_trace, udp = ROWS[0], ROWS[8], ROWS[9], ROWS[11]
    assert failed(by_sum, {"a": 10e6, "b": 10e6}, trial(19.5e6)) == []
    assert failed(by_sum, {"a": 10e6, "b": 10e6}, trial(19.3e6)) == ["of the links alone, added"]
    assert failed(by_sum, {"a": 10e6, "b": 1e6}, trial(9e6))[1] == "of the best link alone"
    assert failed(by_sum, {"a": 10e6, "b": 10e6}, trial(19.5e6, p99_ms=46)) == ["ping added, ms"]
    assert failed(by_best, {"a": 10e6, "b": 10e6}, trial(10e6)) == []
    assert failed(by_trace, {"a": 1.0, "b": 1.0}, trial(1e6)) == ["of what the links could carry"]
    assert failed(udp, {}, trial(10e6, loss_ratio=0.002)) == ["udp lost"]


def test_a_figure_that_does_not_exist_keeps_no_limit() -> None:
    assert not Check("x", float("nan"), 1, at_least=True).ok
    assert not Check("x", float("nan"), 1, at_least=False).ok


def test_a_verdict_says_whether_to_believe_it() -> None:
    cell: dict[str, Any] = {"checks": [Check("ping", 30, 25, at_least=False).to_json()]}
    cell["bond"] = {"missed_frames": 0, "cpu_cores": {"machine": 0.5}}
    assert verdict(cell) == "short: ping 30 (limit 25)"
    cell["checks"] = []
    assert verdict(cell) == "ok"
    cell["bond"] = {"missed_frames": 3, "cpu_cores": {"machine": 0.99}}
    assert "void" in verdict(cell)
    assert "doubtful" in verdict(cell)


def samples(first_ns: int, a: list[int], b: list[int]) -> list[dict[str, Any]]:
    """Bytes per 100 ms of two links."""
    return [
        {"link": name, "t_ns": first_ns + (index + 1) * STEP_NS, "delivered_bytes": size_bytes}
        for index, both in enumerate(zip(a, b, strict=True))
        for name, size_bytes in zip("ab", both, strict=True)
    ]


def test_share_and_rate_come_back_at_different_times() -> None:
    before, cut = [500] * 40, [0] * 20
    back = [0] * 10 + [100] * 10 + [500] * 20  # a second of nothing, a second of its share, then its rate
    a, b = before + cut + back, [100] * 40 + [100] * 20 + [20] * 20 + [100] * 20
    found = again(samples(0, a, b), "a", 4 * NS_PER_S, 6 * NS_PER_S)
    assert found["share_again_s"] == pytest.approx(1.2)  # half a second: 300 ms of nothing, 200 ms at 100 of 120
    assert found["rate_again_s"] == pytest.approx(2.4)  # half a second: 100 ms at 100, 400 ms at 500


def test_what_never_comes_back_is_none() -> None:
    series = samples(0, [500] * 40 + [0] * 60, [100] * 100)
    assert again(series, "a", 4 * NS_PER_S, 6 * NS_PER_S) == {"share_again_s": None, "rate_again_s": None}
