"""The handshake of one peer: how two ends that know each other's keys agree on a session, over any link.

    client                                            server
      | -- INIT, on every link at once ----------------> |   which link works is not known yet
      | <-- RESPONSE, to each path an INIT came by ------ |   one answer, repeated for each copy
      |   session usable                                 |   session pending
      | == first sealed datagram under it =============> |   confirm(): session usable
      |                                                  |
      | <-- COOKIE instead of RESPONSE ----------------- |   only under flood: no public-key work yet
      | -- the same INIT with the proof ---------------> |

Only clients begin. A rekey is the same again while the old session carries on; no packet waits for it.

*Association*: what the two ends remember of each other besides keys: link state, lseq, gseq. Each end has a random
``instance`` for its life. The client says whose association it still holds, the server compares with its own; if each
names the other the session is ``continued`` and only keys change, otherwise both ends begin anew.

Owns the choice of role and this contract; the two halves are ``core.initiator`` and ``core.responder``, flood
control is ``core.flood``, formats are ``wire.handshake``. Does not own sessions once agreed, nor the decision to
rekey: the tunnel calls ``start`` when one of the limits below is reached. Pure: time and randomness are passed in.

The order of calls: ``receive``, ``tick``, ``start`` or ``confirm``; then take sends, sessions, retired, events.
"""

from __future__ import annotations

from mlvpn.core.agreement import HandshakeCounters, HandshakeDrops, Offer, Outbox, Path, Random, Session
from mlvpn.core.events import Event
from mlvpn.core.initiator import Initiator
from mlvpn.core.responder import Responder
from mlvpn.crypto.keys import Role, StaticKeys
from mlvpn.units import NS_PER_S
from mlvpn.wire.header import DatagramType

__all__ = [
    "REJECT_AFTER_NS",
    "REKEY_AFTER_DATAGRAMS",
    "REKEY_AFTER_NS",
    "Handshake",
    "HandshakeCounters",
    "HandshakeDrops",
    "Offer",
    "Path",
    "Session",
]

REKEY_AFTER_NS = 120 * NS_PER_S
"""As in WireGuard: who steals keys from memory can read two minutes."""
REJECT_AFTER_NS = 180 * NS_PER_S
"""As in WireGuard: when all tries of a minute have failed the keys are given up, and with them the association."""
REKEY_AFTER_DATAGRAMS = 1 << 32
"""AES-GCM with nonces that never repeat keeps its full margin far beyond that many datagrams of 1.5 KB."""


class Handshake:
    """One end's handshake with its one peer."""

    def __init__(
        self, role: Role, keys: StaticKeys, instance: int, offer: Offer, random: Random, peer: str = "the server"
    ) -> None:
        """Start idle. ``instance`` is random and not 0; ``peer`` names the other end in log lines."""
        self._out = Outbox()
        self._initiator = Initiator(keys, instance, offer, random, self._out, peer) if role == "client" else None
        self._responder = Responder(keys, instance, offer, random, self._out) if role == "server" else None

    def start(self, now_ns: int) -> None:
        """Client: begin, also to rekey; when under way, repeat the newest INIT on every link. Server: nothing."""
        if self._initiator:
            self._initiator.start(now_ns)

    def receive(self, datagram: bytes, path: Path, now_ns: int) -> None:
        """Take a datagram whose first byte says HANDSHAKE_INIT, HANDSHAKE_RESPONSE or COOKIE."""
        kind = datagram[0] if datagram else None
        if kind == DatagramType.HANDSHAKE_INIT and self._responder:
            self._responder.receive_init(datagram, path, now_ns)
        elif kind == DatagramType.HANDSHAKE_RESPONSE and self._initiator:
            self._initiator.receive_response(datagram, path, now_ns)
        elif kind == DatagramType.COOKIE and self._initiator:
            self._initiator.receive_cookie(datagram, path, now_ns)
        else:
            self._out.drops.unexpected += 1

    def confirm(self, local_index: int) -> None:
        """Server: learn that something authentic came in under this session; again does nothing."""
        if self._responder:
            self._responder.confirm(local_index)

    def forget(self) -> None:
        """Give up the association (the peer said goodbye, or its state was dropped): the next session begins anew."""
        self._end.forget()

    def reconfigure(self, offer: Offer) -> None:
        """Offer something else from the next handshake on."""
        self._end.offer = offer

    def tick(self, now_ns: int) -> None:
        """Do what is due."""
        self._end.tick(now_ns)

    def next_deadline_ns(self) -> int | None:
        """Say when ``tick`` is wanted; None for never."""
        return self._end.next_deadline_ns()

    def take_sends(self) -> list[tuple[Path | None, bytes]]:
        """Take datagrams to send, in order; a path of None means on every link."""
        sends, self._out.sends = self._out.sends, []
        return sends

    def take_sessions(self) -> list[Session]:
        """Take sessions newly agreed, in order."""
        sessions, self._out.sessions = self._out.sessions, []
        return sessions

    def take_retired(self) -> list[int]:
        """Server: take local indices of sessions that were agreed but will not be used: forget their keys."""
        retired, self._out.retired = self._out.retired, []
        return retired

    def take_events(self) -> list[Event]:
        """Take log lines."""
        events, self._out.events = self._out.events, []
        return events

    @property
    def drops(self) -> HandshakeDrops:
        """Datagrams ignored, by cause."""
        return self._out.drops

    @property
    def counters(self) -> HandshakeCounters:
        """What was done."""
        return self._out.counters

    @property
    def _end(self) -> Initiator | Responder:
        end = self._initiator or self._responder
        assert end is not None, "the constructor makes one of them"
        return end
