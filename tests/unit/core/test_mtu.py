"""The search for a link's datagram size, against paths of every MTU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core import mtu
from mlvpn.core.mtu import MtuSearch
from mlvpn.units import NS_PER_MS, NS_PER_S

RTT_NS = 20.0 * NS_PER_MS


def probe_until_done(search: MtuSearch, path_mtu_bytes: int, now_ns: int = 0) -> tuple[int, int]:
    """Play the path: it answers every probe that fits. Return (time it took, probes)."""
    start_ns, probes = now_ns, 0
    while search.due_ns() < now_ns + mtu.REPROBE_NS // 2:
        now_ns = max(now_ns, search.due_ns())
        size = search.take_probe(RTT_NS, now_ns, now_ns)
        if size is None:
            continue
        probes += 1
        if size + search.overhead_bytes <= path_mtu_bytes:
            search.acknowledged(size, now_ns)
        assert probes < 100, "the search never ends"
    return now_ns - start_ns, probes


@pytest.mark.parametrize("ipv6", [False, True])
def test_a_usual_path_needs_one_probe(ipv6: bool) -> None:
    search = MtuSearch(ipv6, 0)
    _, probes = probe_until_done(search, 1500)
    assert (search.path_mtu_bytes, probes) == (1500, 1)
    assert search.datagram_bytes == (1452 if ipv6 else 1472)


@given(st.integers(1280, 1500), st.booleans())
def test_every_path_is_found_within_a_step(path_mtu_bytes: int, ipv6: bool) -> None:
    search = MtuSearch(ipv6, 0)
    took_ns, probes = probe_until_done(search, path_mtu_bytes)
    assert path_mtu_bytes - 2 * mtu.STEP_BYTES < search.path_mtu_bytes <= path_mtu_bytes
    assert search.first_answer
    assert probes <= 20
    assert took_ns <= 5 * NS_PER_S


def test_a_path_that_answers_nothing_keeps_the_least_size() -> None:
    search = MtuSearch(False, 0)
    probe_until_done(search, 0)
    assert search.path_mtu_bytes == 1280
    assert search.first_answer, "the link may be used all the same"


def test_nothing_is_sent_before_it_is_due() -> None:
    search = MtuSearch(False, 5)
    assert search.take_probe(RTT_NS, 0, 4) is None
    assert search.take_probe(RTT_NS, 0, 5) == 1472
    assert search.take_probe(RTT_NS, 0, 6) is None


def test_the_kernel_can_limit_it() -> None:
    search = MtuSearch(False, 0)
    probe_until_done(search, 1500)
    search.limit(1400, 10 * NS_PER_S)
    assert search.path_mtu_bytes == 1400
    probe_until_done(search, 1400, 10 * NS_PER_S)
    assert search.path_mtu_bytes == 1400


def test_a_limit_below_the_least_size_is_believed() -> None:
    search = MtuSearch(False, 0)
    search.limit(1000, 0)
    assert search.path_mtu_bytes == 1000


def test_a_limit_above_what_is_used_changes_nothing() -> None:
    search = MtuSearch(False, 0)
    probe_until_done(search, 1400)
    before = search.path_mtu_bytes
    search.limit(1500, 0)
    assert search.path_mtu_bytes == before


def test_a_path_that_shrank_is_found_again_from_below() -> None:
    search = MtuSearch(False, 0)
    probe_until_done(search, 1500)
    search.note_loss(0.1, 10 * NS_PER_S)
    assert search.path_mtu_bytes == 1500, "until it is proved"
    probe_until_done(search, 1450, 10 * NS_PER_S)
    assert 1450 - 2 * mtu.STEP_BYTES < search.path_mtu_bytes <= 1450


def test_a_doubt_without_reason_changes_nothing_and_costs_one_probe_a_second() -> None:
    search = MtuSearch(False, 0)
    now_ns = 10 * NS_PER_S
    _, first = probe_until_done(search, 1500)
    search.note_loss(0.1, now_ns)
    _, second = probe_until_done(search, 1500, now_ns)
    search.note_loss(0.1, now_ns + mtu.DOUBT_EVERY_NS - 1)
    assert (first, second) == (1, 1)
    assert search.path_mtu_bytes == 1500
    assert search.due_ns() > now_ns + mtu.DOUBT_EVERY_NS


def test_a_dead_link_refuses_nothing() -> None:
    search = MtuSearch(False, 0)
    probes = 0
    for now_ns in range(0, 60 * NS_PER_S, 10 * NS_PER_MS):
        size = search.take_probe(RTT_NS, 0, now_ns)
        probes += size is not None
        assert size in (None, 1472)
    assert not search.first_answer
    assert probes < 40, "ever more seldom"


def test_it_looks_for_more_after_a_while() -> None:
    search = MtuSearch(False, 0)
    took_ns, _ = probe_until_done(search, 1400)
    assert search.path_mtu_bytes < 1400 + 1
    probe_until_done(search, 1500, took_ns + mtu.REPROBE_NS)
    assert search.path_mtu_bytes == 1500


def test_a_forged_or_late_answer_cannot_raise_it_beyond_the_ceiling() -> None:
    search = MtuSearch(False, 0)
    search.limit(1400, 0)
    search.acknowledged(1472, 0)
    assert search.path_mtu_bytes <= 1400
