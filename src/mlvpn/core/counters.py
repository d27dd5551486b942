"""Every counter of a tunnel and of a link: name, unit in the name, and what it says.

Owns the counters and their explanations; `status`, metrics and docs/operating.md take both from here. Does not own who
counts. A counter whose name is in ``DROPS`` or ``LINK_DROPS`` is a packet or datagram that came in and went nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields


def _counter(help_text: str, drop: bool = False) -> int:
    value: int = field(default=0, metadata={"help": help_text, "drop": drop})
    return value


@dataclass(slots=True)
class TunnelCounters:
    """Counters of the whole tunnel."""

    submitted_packets: int = _counter("packets and super-packets read from the TUN")
    submitted_bytes: int = _counter("bytes of packets read from the TUN")
    delivered_packets: int = _counter("packets and super-packets written to the TUN")
    delivered_bytes: int = _counter("bytes of packets written to the TUN")
    filtered_packets: int = _counter("packets whose link a filter chose")
    superseded_packets: int = _counter(
        "bare TCP acknowledgements left out because a later one, of the same burst, says all that they said", True
    )
    queue_marked_packets: int = _counter("packets marked with ECN instead of dropped: the links are full")
    queue_dropped_packets: int = _counter(
        "packets dropped by CoDel: the links are full, their sender has to slow down", True
    )
    queue_full_packets: int = _counter("packets dropped because the queue reached its limit", True)
    no_link_packets: int = _counter("packets dropped because no link has been up for a while", True)
    too_big_packets: int = _counter("packets that no datagram can carry; their sender was told by ICMP", True)
    malformed_packets: int = _counter("packets from the TUN that contradict themselves", True)
    repaired_datagrams: int = _counter("datagrams sent again because a link had lost them")
    rescued_datagrams: int = _counter("datagrams sent again over another link because theirs fell silent")
    given_up_datagrams: int = _counter("datagrams given up: not acknowledged in time, whatever was tried", True)
    duplicate_datagrams: int = _counter(
        "datagrams received that had been delivered already (repairs that were not needed)"
    )
    late_datagrams: int = _counter("datagrams delivered after others had stopped waiting for them")
    timer_releases: int = _counter(
        "times the bound on waiting, not evidence, let packets pass a gap; near zero in health"
    )
    lost_datagrams: int = _counter("gaps in the order that were passed over")
    hold_overflow_datagrams: int = _counter("datagrams released early because too much was waiting")
    unknown_index_datagrams: int = _counter(
        "datagrams for a session that does not exist (a restarted end, a stranger)", True
    )
    unauthentic_datagrams: int = _counter("datagrams that failed authentication or were cut short", True)
    replayed_datagrams: int = _counter("authentic datagrams that had been received before", True)
    malformed_frames: int = _counter("authentic datagrams that this end cannot understand", True)
    unknown_type_datagrams: int = _counter("datagrams of no known type", True)
    no_session_datagrams: int = _counter("datagrams that came before any session was agreed", True)


@dataclass(slots=True)
class LinkCounters:
    """Counters of one link."""

    sent_bytes: int = _counter("bytes of UDP payload sent")
    sent_datagrams: int = _counter("datagrams sent")
    received_bytes: int = _counter("bytes of UDP payload received")
    received_datagrams: int = _counter("datagrams received")
    repeated_datagrams: int = _counter("datagrams sent on this link that another had lost or held back")
    missing_datagrams: int = _counter("datagrams the peer reported missing on this link")
    cut_trains: int = _counter("trains sent datagram by datagram: trains were lost where single datagrams passed")
    suspected: int = _counter("times the link fell silent and was relieved of its traffic")
    went_down: int = _counter("times the link went down")


def drops(counters: TunnelCounters | LinkCounters) -> dict[str, int]:
    """Return the counters of what came in and went nowhere, by name."""
    return {f.name: getattr(counters, f.name) for f in fields(counters) if f.metadata["drop"]}


def totals(counters: TunnelCounters | LinkCounters) -> dict[str, int]:
    """Return all counters by name."""
    return {f.name: getattr(counters, f.name) for f in fields(counters)}
