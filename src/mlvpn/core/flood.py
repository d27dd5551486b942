"""Who is let through to expensive work when more handshakes arrive than any peer would send.

Owns the decision, the cookies and their secrets, and the rates. Does not own the datagrams.

Answering an INIT costs 0.5 to 0.9 ms of public-key work, and a recorded INIT can be replayed by anyone. Up to
``INITS_PER_S`` everyone is let through. Beyond that, an INIT must carry a cookie: proof that its sender receives at
the address it sends from. With a cookie, each address has its own small rate, so a flood from some addresses, forged
or not, cannot lock the peer out.

Everything here is bounded: two secrets, and the rates of the ``SOURCES`` addresses seen last.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import OrderedDict
from enum import Enum, auto

from mlvpn.core.agreement import Random
from mlvpn.core.events import Address
from mlvpn.units import NS_PER_S
from mlvpn.wire.handshake import COOKIE_BYTES, init_mac2_is_valid

INITS_PER_S = 20
"""A peer sends five in its first second and one each second later; 20 cost less than 2 % of a core of a PC,
20 % of one that is ten times slower."""
INITS_PER_SOURCE_PER_S = 2
SOURCE_BURST = 4
SOURCES = 256
SECRET_LIFE_NS = 120 * NS_PER_S
"""As in WireGuard. A cookie is good for one to two of these."""


class TokenBucket:
    """At most ``per_s`` a second in the long run, ``burst`` at once; a single number is its whole state."""

    __slots__ = ("_credit_ns", "_interval_ns", "_next_ns")

    def __init__(self, per_s: int, burst: int) -> None:
        self._interval_ns = NS_PER_S // per_s
        self._credit_ns = (burst - 1) * self._interval_ns
        self._next_ns: int | None = None
        """When the next one would be due if they came evenly."""

    def take(self, now_ns: int) -> bool:
        """Take one if there is one."""
        due_ns = now_ns if self._next_ns is None else max(self._next_ns, now_ns)
        if due_ns - now_ns > self._credit_ns:
            return False
        self._next_ns = due_ns + self._interval_ns
        return True


class Verdict(Enum):
    """What to do with an INIT whose mac1 is valid."""

    ADMIT = auto()
    ASK_COOKIE = auto()
    REFUSE = auto()


class FloodGate:
    """Decides about INITs, and gives cookies."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._everyone = TokenBucket(INITS_PER_S, INITS_PER_S)
        self._sources: OrderedDict[str, TokenBucket] = OrderedDict()
        self._secret = self._previous_secret = b""
        self._secret_since_ns: int | None = None

    def judge(self, init: bytes, source: Address, now_ns: int) -> Verdict:
        """Say whether ``init`` from ``source`` may cost public-key work."""
        if self._everyone.take(now_ns):
            return Verdict.ADMIT
        self._rotate(now_ns)
        if not any(init_mac2_is_valid(init, _cookie(s, source)) for s in (self._secret, self._previous_secret)):
            return Verdict.ASK_COOKIE
        return Verdict.ADMIT if self._source(source).take(now_ns) else Verdict.REFUSE

    def cookie(self, source: Address, now_ns: int) -> bytes:
        """Return the cookie that proves ``source``."""
        self._rotate(now_ns)
        return _cookie(self._secret, source)

    def _rotate(self, now_ns: int) -> None:
        age_ns = None if self._secret_since_ns is None else now_ns - self._secret_since_ns
        if age_ns is not None and age_ns < SECRET_LIFE_NS:
            return
        is_recent = age_ns is not None and age_ns < 2 * SECRET_LIFE_NS
        fresh = self._random(32)
        self._previous_secret = self._secret if is_recent else fresh
        self._secret, self._secret_since_ns = fresh, now_ns

    def _source(self, source: Address) -> TokenBucket:
        name = _network(source)
        bucket = self._sources.get(name)
        if bucket is None:
            bucket = self._sources[name] = TokenBucket(INITS_PER_SOURCE_PER_S, SOURCE_BURST)
        self._sources.move_to_end(name)
        if len(self._sources) > SOURCES:
            self._sources.popitem(last=False)
        return bucket


def _cookie(secret: bytes, source: Address) -> bytes:
    text = f"{source[0]} {source[1]}".encode()
    return hashlib.blake2s(text, key=secret, digest_size=COOKIE_BYTES).digest()


def _network(source: Address) -> str:
    """Return what one sender owns: an IPv4 address, or the /64 of an IPv6 address."""
    address = ipaddress.ip_address(source[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(address), 64), strict=False))
        address = address.ipv4_mapped
    return str(address)
