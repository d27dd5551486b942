"""What the core tells the daemon: things it decided and things only the daemon can do.

Owns the event types. Does not own their effect: scripts, sockets, names and log output are the daemon's.
A core object collects events; the daemon takes them with ``take_events()`` after each call into the core.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

Address = tuple[str, int] | tuple[str, int, int, int]
"""A socket address as the socket module gives and takes it (IPv4 and IPv6)."""


def describe_address(address: Address) -> str:
    """Return an address as people write it."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link carries traffic from now on."""

    link: str


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A link carries no traffic any more."""

    link: str
    reason: str


@dataclass(frozen=True, slots=True)
class SocketWanted:
    """The link wants a new socket (and so a new source port), its peer's name resolved anew."""

    link: str


class Level(Enum):
    """How loud a log line is; values are syslog priorities."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


@dataclass(frozen=True, slots=True)
class Log:
    """One line for the log. ``token`` is one of MLVPN's log tokens (``-D``): protocol, net, rtt, reorder, ..."""

    level: Level
    token: str
    text: str


Event = LinkUp | LinkDown | SocketWanted | Log
