"""Rates, cookies and their ageing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.events import Address
from mlvpn.core.flood import INITS_PER_S, SECRET_LIFE_NS, SOURCE_BURST, SOURCES, FloodGate, TokenBucket, Verdict
from mlvpn.units import NS_PER_S
from mlvpn.wire.handshake import INIT_BYTES, add_cookie

INIT = bytes(INIT_BYTES)
HERE: Address = ("192.0.2.1", 5000)


def _gate_under_flood(now_ns: int = 0) -> FloodGate:
    gate = FloodGate(random.Random(1).randbytes)
    for _ in range(INITS_PER_S):
        assert gate.judge(INIT, HERE, now_ns) is Verdict.ADMIT
    return gate


@given(
    per_s=st.integers(1, 50),
    burst=st.integers(1, 50),
    gaps_ms=st.lists(st.integers(0, 400), min_size=1, max_size=200),
)
def test_bucket_never_exceeds_its_rate(per_s: int, burst: int, gaps_ms: list[int]) -> None:
    bucket, now_ns, taken = TokenBucket(per_s, burst), 0, 0
    for gap_ms in gaps_ms:
        now_ns += gap_ms * 1_000_000
        taken += bucket.take(now_ns)
        interval_ns = NS_PER_S // per_s
        assert taken <= burst + now_ns // interval_ns


def test_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(per_s=2, burst=4)
    assert [bucket.take(0) for _ in range(5)] == [True] * 4 + [False]
    assert [bucket.take(n * NS_PER_S // 4) for n in range(1, 9)] == [False, True] * 4


def test_calm_needs_no_cookie_flood_does() -> None:
    gate = _gate_under_flood()
    assert gate.judge(INIT, HERE, 0) is Verdict.ASK_COOKIE
    assert gate.judge(INIT, HERE, NS_PER_S) is Verdict.ADMIT


@pytest.mark.parametrize(
    ("age_ns", "verdict"),
    [(0, Verdict.ADMIT), (2 * SECRET_LIFE_NS - 1, Verdict.ADMIT), (3 * SECRET_LIFE_NS, Verdict.ASK_COOKIE)],
)
def test_cookie_ages(age_ns: int, verdict: Verdict) -> None:
    gate = _gate_under_flood()
    proven = add_cookie(INIT, gate.cookie(HERE, 0))
    if age_ns > SECRET_LIFE_NS:
        gate.cookie(HERE, SECRET_LIFE_NS)
    for _ in range(INITS_PER_S):
        gate.judge(INIT, HERE, age_ns)
    assert gate.judge(proven, HERE, age_ns) is verdict


@pytest.mark.parametrize("elsewhere", [("192.0.2.2", 5000), ("192.0.2.1", 5001), ("2001:db8::1", 5000, 0, 0)])
def test_cookie_is_bound_to_address_and_port(elsewhere: Address) -> None:
    gate = _gate_under_flood()
    proven = add_cookie(INIT, gate.cookie(HERE, 0))
    assert gate.judge(proven, elsewhere, 0) is Verdict.ASK_COOKIE
    assert gate.judge(proven, HERE, 0) is Verdict.ADMIT


def _admitted(gate: FloodGate, sources: list[Address]) -> int:
    verdicts = [gate.judge(add_cookie(INIT, gate.cookie(source, 0)), source, 0) for source in sources]
    assert Verdict.ASK_COOKIE not in verdicts
    return verdicts.count(Verdict.ADMIT)


@pytest.mark.parametrize(
    "hosts",
    [["192.0.2.7"] * 20, [f"2001:db8::{n:x}" for n in range(20)], ["::ffff:192.0.2.7"] * 20, ["fe80::1%eth0"] * 20],
    ids=["one IPv4 address", "one IPv6 network", "IPv4 on an IPv6 socket", "link-local"],
)
def test_one_sender_has_one_rate(hosts: list[str]) -> None:
    assert _admitted(_gate_under_flood(), [(host, 5000 + n) for n, host in enumerate(hosts)]) == SOURCE_BURST


@pytest.mark.parametrize("pattern", ["192.0.2.{}", "::ffff:192.0.2.{}", "2001:db8:0:{}::1"])
def test_senders_do_not_share_a_rate(pattern: str) -> None:
    assert _admitted(_gate_under_flood(), [(pattern.format(n), 5000) for n in range(20)]) == 20


def test_memory_of_senders_is_bounded() -> None:
    gate = _gate_under_flood()
    for n in range(2 * SOURCES):
        _admitted(gate, [(f"198.51.{n // 256}.{n % 256}", 5000)])
    assert len(gate._sources) == SOURCES
