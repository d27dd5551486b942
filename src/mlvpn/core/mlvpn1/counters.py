"""Every counter of an MLVPN 1 tunnel and what it says; where a name is also the native tunnel's, so is its meaning.

Owns names and explanations. Does not own who counts. A counter marked ``drop`` is a packet or datagram that came in and
went nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields


def _counter(help_text: str, drop: bool = False) -> int:
    value: int = field(default=0, metadata={"help": help_text, "drop": drop})
    return value


@dataclass(slots=True)
class Mlvpn1Counters:
    """Counters of the whole tunnel."""

    submitted_packets: int = _counter("packets and super-packets read from the TUN")
    submitted_bytes: int = _counter("bytes of packets read from the TUN")
    delivered_packets: int = _counter("packets written to the TUN")
    delivered_bytes: int = _counter("bytes of packets written to the TUN")
    filtered_packets: int = _counter("packets whose link a filter chose")
    fragmented_packets: int = _counter("packets sent in a datagram that is larger than the path's MTU")
    no_link_packets: int = _counter("packets dropped because no link is up", True)
    queue_full_packets: int = _counter(
        "packets dropped because too many waited for the peer to read, or still did at the end", True
    )
    too_big_packets: int = _counter(
        "packets that no datagram can carry; their sender was told where that is possible", True
    )
    malformed_packets: int = _counter("packets from the TUN that contradict themselves", True)
    late_packets: int = _counter("packets delivered after others had stopped waiting for them")
    lost_packets: int = _counter("numbers given up: packets that the peer sent and no link brought")
    timer_releases: int = _counter("gaps given up by the timer instead of by proof; near zero in health")
    duplicate_packets: int = _counter("packets with a number that had been delivered", True)
    unauthentic_datagrams: int = _counter("datagrams that do not open: another password, or damaged", True)
    malformed_datagrams: int = _counter("datagrams that are no MLVPN 1, or of an unknown type or body", True)
    replayed_datagrams: int = _counter("authentic datagrams that had been received before, or on another link", True)
    reflected_datagrams: int = _counter("datagrams of our own that somebody sent back", True)
    second_peer_datagrams: int = _counter("datagrams of another start of the peer while the present one is heard", True)
    foreign_clear_datagrams: int = _counter("cleartext packets from an address or flow that is not the peer's", True)
    not_connected_datagrams: int = _counter("datagrams other than AUTH on a link that is down", True)
    unknown_link_datagrams: int = _counter("datagrams on a link that is no longer configured", True)

    def drops(self) -> dict[str, int]:
        """Return the counters of what came in and went nowhere, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["drop"]}

    def totals(self) -> dict[str, int]:
        """Return all counters by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
