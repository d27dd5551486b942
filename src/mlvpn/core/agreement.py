"""What a handshake starts from and what comes out of it, shared by its two roles.

Owns the data both roles use: :class:`Offer`, :class:`Session`, the counters, and the :class:`Outbox` in which sends,
sessions and log lines wait to be taken. Does not own behaviour: ``core.initiator`` and ``core.responder`` do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from mlvpn.core.events import Address, Event, Level, Log
from mlvpn.crypto.aead import Cipher
from mlvpn.units import NS_PER_S
from mlvpn.wire.handshake import Feature

Path = tuple[str, Address]
"""Name of a link and the peer's address on it."""

Random = Callable[[int], bytes]
"""Source of that many random bytes."""

WARN_AGAIN_NS = 60 * NS_PER_S
"""The same kind of warning is logged at most once a minute, whoever causes it: a stranger cannot fill the disk."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What this end can do and wishes."""

    costs: Mapping[Cipher, int]
    """Nanoseconds per 1400-byte datagram, for the ciphers this end can do (``crypto.aead.cipher_costs``)."""
    features: Feature
    """What this end understands, without CLEARTEXT: that is ``cleartext``."""
    cleartext: bool
    """Wish that data goes unencrypted (still authenticated); it does only if both ends wish it."""
    mtu_bytes: int
    """Of this end's TUN; only told to the peer."""

    def wire_features(self) -> Feature:
        """Return the feature bits to send."""
        return self.features | Feature.CLEARTEXT if self.cleartext else self.features


@dataclass(frozen=True, slots=True)
class Session:
    """A pair of keys both ends agree on. ``repr`` shows none of them."""

    send_key: bytes = field(repr=False)
    receive_key: bytes = field(repr=False)
    local_index: int
    """Datagrams for this session carry it when they come in."""
    remote_index: int
    """Datagrams of this session carry it when they go out."""
    cipher: Cipher
    cleartext: bool
    """Data goes unencrypted, because both ends wish it."""
    peer_instance: int
    """Changes when the peer has been started anew."""
    peer_features: Feature
    peer_mtu_bytes: int
    continued: bool
    """Both ends still hold the same association: a rekey, link state and lseq go on. False: both begin anew."""
    initiator: bool
    """True: use it at once. False: send under it only after ``confirm``, the peer may not have it yet."""


@dataclass(slots=True)
class HandshakeDrops:
    """Handshake datagrams that were ignored, by cause."""

    bad_length: int = 0
    """Too short or too long for their type, or empty."""
    bad_mac1: int = 0
    """The sender does not know this end's public key (another password, or noise)."""
    not_authentic: int = 0
    """The sender knows this end's public key, but has not the keys of the configured peer."""
    unexpected: int = 0
    """A type that is not for this role, or for a handshake this end did not begin or has finished."""
    duplicate: int = 0
    """A RESPONSE that came over another link before: normal with several links."""
    unsupported_version: int = 0
    """An authentic peer that speaks another version of the protocol."""
    no_common_cipher: int = 0
    rate_limited: int = 0
    """More than the limit from one address, or more answers than the limit."""
    cookie_wanted: int = 0
    """Under flood, an INIT without a valid cookie: a COOKIE was sent instead of an answer."""


@dataclass(slots=True)
class HandshakeCounters:
    """What the handshake did."""

    init_sent: int = 0
    response_sent: int = 0
    response_repeated: int = 0
    """Copies of an INIT that were answered with the RESPONSE made for the first."""
    cookie_received: int = 0
    agreed: int = 0
    """Sessions with both ends' keys computed."""
    confirmed: int = 0
    """Server: sessions under which the peer has sent something authentic."""
    expired: int = 0
    """Server: sessions the peer never used."""


class Notice(Enum):
    """Kinds of log lines that are limited each by itself."""

    STRANGER = auto()
    NOT_AUTHENTIC = auto()
    VERSION = auto()
    CIPHER = auto()
    FLOOD = auto()
    NO_ANSWER = auto()
    NEVER_COMPLETED = auto()


class Outbox:
    """What waits to be taken by the owner of a handshake."""

    def __init__(self) -> None:
        self.sends: list[tuple[Path | None, bytes]] = []
        self.sessions: list[Session] = []
        self.retired: list[int] = []
        self.events: list[Event] = []
        self.drops = HandshakeDrops()
        self.counters = HandshakeCounters()
        self._warned_ns: dict[Notice, int] = {}

    def warn(self, kind: Notice, text: str, now_ns: int) -> None:
        """Log ``text`` unless its kind was logged within the last minute."""
        last_ns = self._warned_ns.get(kind)
        if last_ns is None or now_ns - last_ns >= WARN_AGAIN_NS:
            self._warned_ns[kind] = now_ns
            self.events.append(Log(Level.WARNING, "protocol", text))


def describe(path: Path) -> tuple[str, str]:
    """Return link and peer address as a log line shows them."""
    link, address = path
    host, port = address[0], address[1]
    return link, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def new_index(random: Random, taken: Mapping[int, object]) -> int:
    """Return a random session index that is neither 0 nor in ``taken``."""
    while True:
        index = int.from_bytes(random(4), "big")
        if index and index not in taken:
            return index
