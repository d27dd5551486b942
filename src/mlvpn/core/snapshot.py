"""What `status` is told: one tunnel as plain data.

Owns the translation of the core's state into `interface.CoreSnapshot`; no state of its own. Times become milliseconds
or seconds and delays differences here, because people read this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlvpn import burst
from mlvpn.core import counters, scheduler
from mlvpn.core.events import describe_address
from mlvpn.core.interface import CoreSnapshot, LinkSnapshot
from mlvpn.core.link import Link, LinkState
from mlvpn.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from mlvpn.core.tunnel import NativeTunnel


def describe_tunnel(tunnel: NativeTunnel, now_ns: int) -> CoreSnapshot:
    """Return the tunnel's snapshot."""
    session = tunnel.sessions.current
    established = tunnel.sessions.established_ns
    heard = max((link.heard_ns for link in tunnel.links), default=0)
    eligible = scheduler.eligible(tunnel.links)
    fastest = scheduler.arrival_delay_ns(eligible[0]) if eligible else 0.0
    drops = counters.drops(tunnel.counters)
    drops.update({f"handshake_{name}": value for name, value in _slots(tunnel.handshake.drops).items()})
    totals = counters.totals(tunnel.counters)
    totals.update({f"handshake_{name}": value for name, value in _slots(tunnel.handshake.counters).items()})
    return CoreSnapshot(
        protocol="native",
        cipher=session.cipher.name.lower().replace("_", "-") if session else None,
        cleartext=session.cleartext if session else None,
        kernels=burst.IMPLEMENTATION,
        session_age_s=_seconds(now_ns - established) if established is not None else None,
        last_heard_s=_seconds(now_ns - heard) if heard else None,
        queue_bytes=tunnel.sender.queue.backlog_bytes,
        queue_ms=_ms(tunnel.sender.queue.sojourn_ns) if tunnel.sender.queue.backlog_bytes else 0.0,
        equalise_ms=_ms(tunnel.receiver.hold_ns),
        aggregate_ms=_ms(tunnel.receiver.aggregation_ns),
        bulk_flows=len(tunnel.sender.queue.bulk),
        bounded_flows=sum(flow.bounded for flow in tunnel.sender.queue.bulk),
        held_datagrams=tunnel.receiver.resequencer.held_datagrams,
        links=[_describe_link(link, eligible, fastest, now_ns) for link in tunnel.links],
        counters=totals,
        drops=drops,
    )


def _describe_link(link: Link, eligible: list[Link], fastest_ns: float, now_ns: int) -> LinkSnapshot:
    estimate = link.estimator
    measured = estimate.base_delay_ns is not None
    snapshot = LinkSnapshot(
        name=link.name,
        state=_state(link),
        reason=link.reason or None,
        role=_role(link, eligible),
        fallback_only=link.fallback,
        local=describe_address(link.local) if link.local else None,
        remote=describe_address(link.remote) if link.remote else None,
        rtt_ms=_ms(estimate.rtt_ns) if estimate.rtt_ns else None,
        rtt_min_ms=_ms(estimate.rtt_min_ns) if estimate.rtt_ns else None,
        jitter_ms=_ms(estimate.jitter.jitter_ns),
        loss_ratio=round(estimate.loss_ratio, 5),
        sent_bps=link.sent_bps,
        received_bps=link.received_bps,
        capacity_bps=int(estimate.capacity_bps) if estimate.rate_bps else None,
        capacity_is_measured=estimate.saturated,
        pace_bps=int(link.pacer.pace_bps) or None,
        pacing=link.pacer.phase.value,
        queue_ms=_ms(estimate.queue_ns) if measured else None,
        queue_target_ms=_ms(estimate.queue_target_ns),
        peer_wait_ms=_ms(estimate.peer_wait_ns),
        delay_behind_ms=_ms(scheduler.arrival_delay_ns(link) - fastest_ns) if measured and eligible else None,
        flight_bytes=link.log.flight_bytes,
        flight_limit_bytes=int(link.pacer.flight_limit_bytes),
        mtu_bytes=link.mtu.path_mtu_bytes,
        last_heard_s=_seconds(now_ns - link.heard_ns) if link.heard_ns else None,
    )
    snapshot.update(counters.totals(link.counters))  # type: ignore[typeddict-item]  # the names are those of LinkCounters
    return snapshot


def _state(link: Link) -> str:
    if link.state == LinkState.UP:
        return scheduler.unfit(link) or "up"
    state: str = link.state.value
    return state


def _role(link: Link, eligible: list[Link]) -> str:
    """Say in one word why traffic does or does not go there."""
    if link in eligible:
        return "carries"
    if link.state != LinkState.UP:
        return "out"
    return "standby" if link.fallback else "shunned"


def _slots(values: object) -> dict[str, int]:
    return {name: getattr(values, name) for name in type(values).__slots__}  # type: ignore[attr-defined]


def _ms(ns: float) -> float:
    return round(ns / NS_PER_MS, 2)


def _seconds(ns: float) -> float:
    return round(ns / NS_PER_S, 3)
