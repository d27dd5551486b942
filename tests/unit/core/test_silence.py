"""When a silent link is suspected: at which moment, and what is let off."""

from __future__ import annotations

from itertools import count

import pytest

from mlvpn.config import parse
from mlvpn.core.link import FEW_RUNS, PING_IDLE_NS, Link, LinkState
from mlvpn.core.recovery import SentRun
from mlvpn.core.run import BodyRun
from mlvpn.units import NS_PER_MS, NS_PER_S

HERE, PEER = ("10.0.0.1", 1), ("10.0.0.2", 2)
TEXT = """
[general]
mode = client
password = "x"
[a]
remotehost = 10.0.0.2
remoteport = 2
"""


def link_with_round_trip(rtt_ms: int) -> Link:
    """Return a link that is up and whose round trip is known for sure."""
    tokens = count(1)
    (config,) = parse(TEXT, "x").links
    link = Link(config, 0, lambda size: next(tokens).to_bytes(size, "big"), 0)
    link.opened(HERE, PEER, 0)
    link.state = LinkState.UP
    for _ in range(100):
        link.estimator.on_rtt(rtt_ms * NS_PER_MS)
    return link


def suspected_after_ns(link: Link, until_ns: int = 5 * NS_PER_S) -> int | None:
    """Let time go by in silence; return when the link is overdue for good."""
    for now_ns in range(0, until_ns, NS_PER_MS):
        link.take_ping(now_ns)
        if link.overdue(now_ns) is not None and not link.let_off(now_ns):
            due_ns = link.overdue_at_ns()
            assert due_ns is not None
            assert due_ns <= now_ns, "the timer would have come too late"
            return now_ns
    return None


@pytest.mark.parametrize("rtt_ms", [5, 100, 600, 1200])
def test_an_idle_link_is_suspected_however_slowly_it_answers(rtt_ms: int) -> None:
    suspected_ns = suspected_after_ns(link_with_round_trip(rtt_ms))
    assert suspected_ns is not None
    assert suspected_ns <= 2 * (rtt_ms + 150) * NS_PER_MS + PING_IDLE_NS


def test_one_lost_ping_is_no_reason() -> None:
    link = link_with_round_trip(100)
    link.take_ping(0)
    assert all(link.overdue(now_ns) is None for now_ns in range(0, 3 * NS_PER_S, NS_PER_MS))


def test_a_link_that_answers_is_never_overdue() -> None:
    link = link_with_round_trip(600)
    under_way: list[tuple[int, int]] = []
    for now_ns in range(0, 10 * NS_PER_S, NS_PER_MS):
        token = link.take_ping(now_ns)
        if token is not None:
            under_way.append((now_ns + 600 * NS_PER_MS, token))
        if under_way and under_way[0][0] <= now_ns:
            link.on_pong(under_way.pop(0)[1], PEER, now_ns)
        assert link.overdue(now_ns) is None


def test_the_only_link_with_little_under_way_waits_for_a_ping_once_it_is_let_off() -> None:
    """Its log stays, for there is no other link to send it over; that alone must not suspect it."""
    link = link_with_round_trip(20)
    link.log.add(SentRun(0, BodyRun([b"x"], 0, 0), 0, 0, 0))
    now_ns = 300 * NS_PER_MS
    assert link.overdue(now_ns) is not None
    assert link.let_off(now_ns)
    token = link.take_ping(now_ns)
    assert link.overdue(now_ns + 20 * NS_PER_MS) is None
    assert token is not None
    assert link.on_pong(token, PEER, now_ns + 20 * NS_PER_MS)


def test_a_full_link_is_not_let_off() -> None:
    link = link_with_round_trip(20)
    for number in range(FEW_RUNS + 1):
        link.log.add(SentRun(number, BodyRun([b"x"], number, 0), 0, 0, 0))
    assert not link.let_off(300 * NS_PER_MS)
