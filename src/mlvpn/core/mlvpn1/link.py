"""One link of an MLVPN 1 tunnel: what it knows of its path and its peer, and its clock of one second.

    down --AUTH or AUTH_OK--> up <--> lossy, slow         (any of the three) --timeout, DISCONNECT, no socket--> down

Owns state, addresses, round trip, loss and the numbers of a link. Does not own datagrams: ``tunnel.py`` opens what came
in and sends what is decided here.

Round trip and loss are measured as MLVPN does (mlvpn.c: mlvpn_protocol_read, mlvpn_loss_update), because their values
appear in its status output and are compared with its tolerances.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from mlvpn.config.model import LinkConfig
from mlvpn.core.events import Address, describe_address
from mlvpn.core.interface import LinkSnapshot
from mlvpn.core.mlvpn1.flow import Flow
from mlvpn.core.mlvpn1.window import Flight
from mlvpn.wire.mlvpn1 import NO_TIMESTAMP, TIMESTAMP_MODULUS, Header, timestamp

SECOND_NS: Final = 1_000_000_000
TICK_NS: Final = SECOND_NS
"""MLVPN drives everything of a link by a timer of one second."""
KEEPALIVE_NS: Final = SECOND_NS
ECHO_LIMIT_NS: Final = SECOND_NS
"""A received timestamp is answered only while it is younger."""
SILENT_NS: Final = 3 * SECOND_NS + SECOND_NS // 2
"""A peer is heard at least every two seconds; one lost keepalive on top, and the link steps aside until it is heard."""
FLOW_SILENT_NS: Final = 2 * SECOND_NS + SECOND_NS // 2
"""So long a link must be silent before another flow may replace the peer's while the link is up."""
MAX_RTT_MS: Final = 5000
LOSS_WINDOW: Final = 64
NEW_SOCKET_AFTER_NS: Final = 10 * SECOND_NS
"""A client that gets no answer for so long asks for a new socket: the NAT between may hold a dead mapping."""
LATENCY_TOLERANCE_OFF_NS: Final = SECOND_NS

_LOSS_MASK: Final = (1 << LOSS_WINDOW) - 1


class LinkState(Enum):
    """Values as in ``LinkSnapshot.state``."""

    DOWN = "down"
    UP = "up"
    LOSSY = "lossy"
    SLOW = "slow"


class Mlvpn1LinkSnapshot(LinkSnapshot, total=False):
    """What MLVPN's own status shows besides."""

    disconnects: int
    """Times the link went down."""


class Link:
    """One link; the tunnel changes the plain fields, the methods hold what takes more than an assignment."""

    def __init__(self, config: LinkConfig, flow_id: int, now_ns: int) -> None:
        self.config = config
        self.name = config.name
        self.flow_id = flow_id
        """Ours; with ``send_seq`` it makes the nonce, so both live as long as the link does, over new sockets too."""
        self.send_seq = 0
        self.flight = Flight()
        self.room = 0
        """Datagrams that it takes now; for ``outgoing.py``."""
        self.state = LinkState.DOWN
        self.reason: str | None = "no socket yet"
        self.has_socket = False
        self.local: Address | None = None
        self.remote: Address | None = None
        """For display: a client's configured peer, a server's as it was heard."""
        self.destination: Address | None = None
        """Where datagrams go; None: where the socket was configured to, on a client."""
        self.heard_from: Address | None = None
        """The source of the newest authentic datagram."""
        self.flow: Flow | None = None
        """The peer's current flow."""
        self.path_mtu_bytes: int | None = None
        """What the kernel has said; None: nothing yet."""
        self.next_tick_ns = now_ns
        self.next_keepalive_ns = now_ns
        self.keepalive_answered_ns = now_ns
        self.heard_ns: int | None = None
        """When the last authentic datagram came."""
        self.unanswered_since_ns = now_ns
        self.srtt_ms: float | None = None
        self.rttvar_ms = 0.0
        self.disconnects = 0
        self.sent_bytes = self.sent_datagrams = self.received_bytes = self.received_datagrams = 0
        self.sent_bps = self.received_bps = 0.0
        self._rated = (now_ns, 0, 0)
        self._echo: tuple[int, int] | None = None
        self._loss_newest = 0
        self._loss_seen = _LOSS_MASK

    @property
    def is_up(self) -> bool:
        """True in the three states that the status script calls up."""
        return self.state is not LinkState.DOWN

    def is_silent(self, now_ns: int) -> bool:
        """Say whether the peer should have been heard by now."""
        return self.heard_ns is None or now_ns - self.heard_ns > SILENT_NS

    def has_timed_out(self, now_ns: int) -> bool:
        """Say whether the peer has been silent for the configured timeout."""
        return self.heard_ns is not None and now_ns - self.heard_ns > self.config.timeout_ns

    def may_change_flow(self, now_ns: int) -> bool:
        """Say whether the peer may have been restarted: while its flow is heard it has not."""
        return not self.is_up or self.heard_ns is None or now_ns - self.heard_ns > FLOW_SILENT_NS

    def begin_flow(self, flow: Flow) -> None:
        """Take up a flow of the peer: it counts from 0 again."""
        self.flow = flow
        self._loss_newest, self._loss_seen = 0, _LOSS_MASK

    def heard(self, header: Header, count: int, now_ns: int) -> None:
        """Learn from the header of fresh datagrams, ``count`` of consecutive seq."""
        if header.version >= 1:  # for a version 0 peer MLVPN counts no loss
            self._count_loss(header.seq, count)
        if header.timestamp != NO_TIMESTAMP:
            self._echo = (header.timestamp, now_ns)
        if header.timestamp_reply != NO_TIMESTAMP:
            rtt_ms = (timestamp(now_ns) - header.timestamp_reply) % TIMESTAMP_MODULUS
            self._measure_rtt(rtt_ms)
            self.flight.measured(rtt_ms, now_ns)

    def take_echo(self, now_ns: int) -> int:
        """Return the timestamp_reply of the next datagram; each timestamp is answered once."""
        if self._echo is None:
            return NO_TIMESTAMP
        (stamp, received_ns), self._echo = self._echo, None
        held_ns = now_ns - received_ns
        if held_ns >= ECHO_LIMIT_NS:
            return NO_TIMESTAMP
        return (stamp + held_ns // 1_000_000) % TIMESTAMP_MODULUS

    def assess(self) -> bool:
        """Compare loss and round trip with what is tolerated; return True when the state has changed."""
        if not self.is_up:
            return False
        before = self.state
        if self.loss_ratio >= self.config.loss_tolerance_ratio < 1.0:
            self.state, self.reason = LinkState.LOSSY, f"{self.loss_ratio:.0%} of the datagrams are lost"
        elif self._is_slow():
            self.state, self.reason = LinkState.SLOW, f"the round trip takes {self.srtt_ms:.0f} ms"
        else:
            self.state, self.reason = LinkState.UP, None
        return self.state is not before

    @property
    def loss_ratio(self) -> float:
        """Share of the last 64 datagrams of the peer that are missing."""
        return (LOSS_WINDOW - self._loss_seen.bit_count()) / LOSS_WINDOW

    def rate(self, now_ns: int) -> None:
        """Compute the rates since the last call; called once a second."""
        since_ns, sent_bytes, received_bytes = self._rated
        elapsed_s = (now_ns - since_ns) / SECOND_NS
        if elapsed_s > 0:
            self.sent_bps = (self.sent_bytes - sent_bytes) * 8 / elapsed_s
            self.received_bps = (self.received_bytes - received_bytes) * 8 / elapsed_s
            self._rated = (now_ns, self.sent_bytes, self.received_bytes)

    def snapshot(self, now_ns: int) -> Mlvpn1LinkSnapshot:
        """Describe the link."""
        silent_ns = None if self.heard_ns is None else now_ns - self.heard_ns
        reason = self.reason
        if self.is_up and silent_ns is not None and self.is_silent(now_ns):
            reason = f"no answer for {silent_ns / SECOND_NS:.1f} s"
        return {
            "name": self.name,
            "state": self.state.value,
            "reason": reason,
            "fallback_only": self.config.fallback_only,
            "local": describe_address(self.local) if self.local else None,
            "remote": describe_address(self.remote) if self.remote else None,
            "rtt_ms": self.srtt_ms,
            "loss_ratio": self.loss_ratio,
            "sent_bps": self.sent_bps,
            "received_bps": self.received_bps,
            "mtu_bytes": self.path_mtu_bytes,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "sent_datagrams": self.sent_datagrams,
            "received_datagrams": self.received_datagrams,
            "disconnects": self.disconnects,
            "last_heard_s": None if silent_ns is None else silent_ns / SECOND_NS,
        }

    def _is_slow(self) -> bool:
        tolerance_ns = self.config.latency_tolerance_ns
        return (
            tolerance_ns < LATENCY_TOLERANCE_OFF_NS
            and self.srtt_ms is not None
            and self.srtt_ms * 1_000_000 >= tolerance_ns
        )

    def _measure_rtt(self, sample_ms: int) -> None:
        if sample_ms >= MAX_RTT_MS:
            return
        if self.srtt_ms is None:
            self.srtt_ms, self.rttvar_ms = float(sample_ms), sample_ms / 2
            return
        self.rttvar_ms = 0.75 * self.rttvar_ms + 0.25 * abs(self.srtt_ms - sample_ms)
        self.srtt_ms = 0.875 * self.srtt_ms + 0.125 * sample_ms

    def _count_loss(self, seq: int, count: int) -> None:
        ahead = seq - self._loss_newest
        if ahead > LOSS_WINDOW:
            self._loss_seen, self._loss_newest = _LOSS_MASK, seq  # as MLVPN: taken for a new connection, not for loss
        elif ahead > 0:
            self._loss_seen = (self._loss_seen << ahead | 1) & _LOSS_MASK
            self._loss_newest = seq
        elif ahead > -LOSS_WINDOW:
            self._loss_seen |= 1 << -ahead
        if count > 1:
            self._loss_seen = (self._loss_seen << count - 1 | (1 << count - 1) - 1) & _LOSS_MASK
            self._loss_newest = seq + count - 1


def path_of(config: LinkConfig) -> tuple[object, ...]:
    """What cannot change under an open socket."""
    return (
        config.bindhost,
        config.bindport,
        config.bindfib,
        config.interface,
        config.remotehost,
        config.remoteport,
    )
