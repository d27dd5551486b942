"""Which link takes the next run: the one on which it will arrive first, and slower ones only for what can wait.

A link's *arrival delay* is its base one-way delay plus its standing queue. Both ends have one clock each, so the
unknown offset is the same on all links and the differences are exact (docs/bonding.md 3.4).

* Sparse packets and repairs take the link of least delay; sparse ones stay on it until another is clearly better.
* A young flow uses a slower link only if its backlog would keep the faster ones busy for longer than the difference in
  delay (the test of ECF, CoNEXT 2017): a web page is not held up by a slow link.
* A bulk flow uses every link that has credit and is behind by no more than the flow bears (`equaliser`). To one that
  is held, all of these are equally far: it takes the one that has been left unused longest.

Owns the choice. Does not own credit (`pacer`), order (`queue`) or state (`link`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlvpn.core.flow import Flow
from mlvpn.core.link import Link, LinkState
from mlvpn.units import NS_PER_MS

STICKY_NS: Final = 3 * NS_PER_MS
"""Sparse packets change links only for so much less delay: their order is worth more than a millisecond."""
MAX_SPREAD_NS: Final = 400 * NS_PER_MS
"""A link this much slower than the fastest takes no bulk traffic: waiting for it would outlast inner timeouts."""
BULK_SPREAD_NS: Final = 3 * NS_PER_MS
"""Bulk may use links this much further behind than its hold: the order alone is kept."""
FULL_QUEUE_NS: Final = 5 * NS_PER_MS
"""A full link's queue goes up and down about this: while it is shorter, the other links are no further behind."""
UNFIT_LOSS_RATIO: Final = 0.25
"""A link that loses more than this takes no new traffic while another is left."""


def arrival_delay_ns(link: Link) -> float:
    """Return when something sent now would arrive, up to the offset that all links share."""
    estimate = link.estimator
    return (estimate.base_delay_ns or 0) + estimate.queue_ns


def behind_ns(link: Link, fastest: Link) -> float:
    """Return how much later than over ``fastest`` something arrives over ``link`` once both are full."""
    return _full_delay_ns(link) - _full_delay_ns(fastest)


def _full_delay_ns(link: Link) -> float:
    return (link.estimator.base_delay_ns or 0) + max(link.estimator.queue_ns, FULL_QUEUE_NS)


def eligible(links: Sequence[Link]) -> list[Link]:
    """Return the links that carry new traffic now, least delay first.

    Up, not beyond its tolerances and no fallback; if none is left, the restrictions fall one by one. When all links
    are suspect the last ones keep trying: it may be only the answers that do not come through.
    """
    up = [link for link in links if link.state == LinkState.UP]
    if not up:
        up = [link for link in links if link.state == LinkState.SUSPECT]
    primary = [link for link in up if not link.fallback] or up
    fit = [link for link in primary if not unfit(link)] or [link for link in up if not unfit(link)] or primary
    return sorted(fit, key=arrival_delay_ns)


def unfit(link: Link) -> str | None:
    """Return which tolerance a link exceeds: "lossy", "slow" or None."""
    estimate, config = link.estimator, link.config
    if estimate.loss_ratio >= min(config.loss_tolerance_ratio, UNFIT_LOSS_RATIO):
        return "lossy"
    if config.latency_tolerance_ns < 1000 * NS_PER_MS and estimate.rtt_ns >= config.latency_tolerance_ns:
        return "slow"
    return None


def credit_bytes(link: Link, now_ns: int) -> int:
    """Return how much a link may take now: its tokens, within what may be in flight."""
    return int(min(link.pacer.tokens_bytes(now_ns), link.pacer.flight_limit_bytes - link.log.flight_bytes))


def for_sparse(links: Sequence[Link], current: Link | None) -> Link:
    """Return the link for sparse packets out of ``links``."""
    best = min(links, key=_likely_delay_ns)
    if current in links and current is not None and _likely_delay_ns(current) < _likely_delay_ns(best) + STICKY_NS:
        return current
    return best


def _likely_delay_ns(link: Link) -> float:
    """Return the arrival delay with what jitter adds to it on average."""
    return arrival_delay_ns(link) + link.estimator.jitter.mean_ns


def for_flow(flow: Flow, links: Sequence[Link], credited: Sequence[Link]) -> Link | None:
    """Return the link for a run of ``flow``, or None if waiting for a faster one is better.

    ``links``: the eligible ones, least delay first; ``credited``: those of them that have credit, in the same order.
    """
    if flow.bulk and flow.hold_ns:
        reach_ns = flow.hold_ns + BULK_SPREAD_NS
        level = [link for link in credited if behind_ns(link, links[0]) <= min(reach_ns, MAX_SPREAD_NS)]
        if level:
            return max(level, key=_saved_ns)
    link = credited[0]
    if link is links[0]:
        return link
    later_ns = behind_ns(link, links[0])
    if later_ns > MAX_SPREAD_NS:
        return None
    if flow.bulk and later_ns <= flow.hold_ns + BULK_SPREAD_NS:
        return link
    faster_bps = sum(other.estimator.capacity_bps for other in links[: links.index(link)])
    return link if flow.backlog_bytes * 8e9 >= later_ns * faster_bps else None


def _saved_ns(link: Link) -> float:
    return link.pacer.saved_ns
