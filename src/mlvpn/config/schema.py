"""The one table of keys: it drives parsing, defaults, reload, ``mlvpn check`` and docs/configuration.md.

Owns which keys exist and everything that is true of one key alone. Does not own rules between keys (rules.py).
To add a key: a row here, a field in model.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from mlvpn.config import values
from mlvpn.config.values import Kind
from mlvpn.units import shown

GENERAL = "general"
LINK = "link"
FILTERS_PREFIX = "filters"
"""As in MLVPN, every section whose name begins so is one of filters; any other but [general] is a link."""

PROTOCOLS = ("native", "mlvpn1")
MODES = ("client", "server")


class Reload(Enum):
    """What it takes for a changed value to count after SIGHUP."""

    AT_ONCE = "at once"
    RECONNECT = "the link reconnects"
    RESTART = "needs a restart"


@dataclass(frozen=True)
class Key:
    """One key of one kind of section."""

    section: str
    """GENERAL or LINK."""
    name: str
    kind: Kind
    help: str
    """Sentences for the documentation."""
    default: str | None = None
    """As it would be written in the file; None = not set."""
    field: str = ""
    """Name in the dataclass where it is not ``name``: the unit is part of a field's name."""
    minimum: str = ""
    """As written in the file, inclusive."""
    maximum: str = ""
    reload: Reload = Reload.AT_ONCE
    protocol: str = ""
    """The only protocol that uses it; empty: both."""
    inherited: bool = False
    """A link that does not set it has the value of [general]."""
    alias: str = ""
    """Another spelling that is understood."""
    mlvpn2: bool = True
    """Known to MLVPN 2.x."""

    @property
    def field_name(self) -> str:
        """The field of General or LinkConfig that holds it."""
        return self.field or self.name

    def parse(self, text: str) -> Any:
        """Return the value of ``text`` in the program's units; raise ValueError when it is not one or out of range."""
        value = self.kind.parse(text)
        if self.minimum and value < self.kind.parse(self.minimum):
            raise ValueError(f"{shown(text)} is too small; the least is {self.minimum}")
        if self.maximum and value > self.kind.parse(self.maximum):
            raise ValueError(f"{shown(text)} is too large; the most is {self.maximum}")
        return value

    def default_value(self) -> object:
        """Return the default in the program's units."""
        return None if self.default is None else self.kind.parse(self.default)


def _shared(section: str) -> tuple[Key, ...]:
    """The keys that [general] sets for all links and a link for itself."""
    own = section == GENERAL
    return (
        Key(
            section,
            "timeout",
            values.SECONDS,
            "A link whose peer has not been heard for this long is down. "
            + ("For all links that do not set it." if own else ""),
            default="60" if own else None,
            field="timeout_ns",
            minimum="2s",
            maximum="1d",
            inherited=not own,
        ),
        Key(
            section,
            "loss_tolerence",
            values.TOLERATED_LOSS,
            "A link that loses this share or more leaves the rotation until it is better; 100 and more: never. "
            "It is used all the same when nothing better is up.",
            default="100" if own else None,
            field="loss_tolerance_ratio",
            inherited=not own,
            alias="loss_tolerance",
        ),
        Key(
            section,
            "latency_tolerence",
            values.TOLERATED_LATENCY,
            "A link whose smoothed round trip takes this long or longer leaves the rotation until it is better; "
            "1000 and more: never. It is used all the same when nothing better is up.",
            default="1000" if own else None,
            field="latency_tolerance_ns",
            inherited=not own,
            alias="latency_tolerance",
        ),
    )


_GENERAL_KEYS = (
    Key(
        GENERAL,
        "mode",
        values.choice(*MODES),
        "Required. A client opens the links, a server waits for them.",
        reload=Reload.RESTART,
    ),
    Key(
        GENERAL,
        "protocol",
        values.choice(*PROTOCOLS),
        "`mlvpn1` speaks with MLVPN 2.x; both ends must use the same.",
        default="native",
        reload=Reload.RESTART,
        mlvpn2=False,
    ),
    Key(
        GENERAL,
        "password",
        values.PASSWORD,
        "The secret both ends share. Required, but with `protocol = native` a key pair may stand in its place.",
    ),
    Key(
        GENERAL,
        "private_key",
        values.SECRET_KEY,
        "This end's own X25519 key, made with `mlvpn genkey`; used with `peer_key`, instead of `password`.",
        protocol="native",
        mlvpn2=False,
    ),
    Key(
        GENERAL,
        "peer_key",
        values.PUBLIC_KEY,
        "The public key of the other end: what `mlvpn pubkey` makes of its `private_key`.",
        protocol="native",
        mlvpn2=False,
    ),
    Key(
        GENERAL,
        "psk",
        values.SECRET_KEY,
        "A further secret both ends share, made with `mlvpn genkey`; used beside key pairs.",
        protocol="native",
        mlvpn2=False,
    ),
    Key(
        GENERAL,
        "cleartext_data",
        values.SWITCH,
        "Do not encrypt packets: only for traffic that is encrypted already. `native` still authenticates them, "
        "`mlvpn1` does not even that. Both ends must agree.",
        default="0",
    ),
    *_shared(GENERAL),
    Key(
        GENERAL,
        "reorder_buffer_size",
        values.COUNT,
        "Packets that may wait for an earlier one; 0: packets are delivered as they come. "
        "`native` always puts packets in order and finds the size by itself.",
        default="0",
        maximum="65536",
        protocol="mlvpn1",
    ),
    Key(
        GENERAL,
        "statuscommand",
        values.PATH,
        "The script that is run as root when the tunnel or a link comes up or goes down; "
        "only its owner may have any right to it (`chmod 700`).",
        reload=Reload.RESTART,
    ),
    Key(
        GENERAL,
        "interface_name",
        values.INTERFACE,
        "The name of the tunnel's network interface.",
        default="mlvpn0",
        reload=Reload.RESTART,
    ),
    Key(
        GENERAL,
        "tuntap",
        values.choice("tun", "tap"),
        "`tun` carries IP packets, `tap` Ethernet frames. Both ends must agree.",
        default="tun",
        reload=Reload.RESTART,
    ),
    Key(
        GENERAL,
        "mtu",
        values.COUNT,
        "The largest packet on the tunnel's interface, in bytes; handed to the script.",
        default="1432",
        minimum="576",
        maximum="9000",
    ),
    Key(GENERAL, "ip4", values.IP4, "This end's address in the tunnel; handed to the script."),
    Key(GENERAL, "ip6", values.IP6, "This end's address in the tunnel; handed to the script."),
    Key(GENERAL, "ip4_gateway", values.IP4_GATEWAY, "The other end's address in the tunnel; handed to the script."),
    Key(GENERAL, "ip6_gateway", values.IP6_GATEWAY, "The other end's address in the tunnel; handed to the script."),
    Key(GENERAL, "ip4_routes", values.IP4_ROUTES, "Networks to reach through the tunnel; handed to the script."),
    Key(GENERAL, "ip6_routes", values.IP6_ROUTES, "Networks to reach through the tunnel; handed to the script."),
    Key(
        GENERAL,
        "control_unix_path",
        values.SOCKET_PATH,
        "The UNIX socket for `mlvpn status`; only its owner may use it.",
        reload=Reload.RESTART,
    ),
    Key(
        GENERAL,
        "control_bind_host",
        values.ADDRESS,
        "The address on which status is served by HTTP. Whoever reaches it may read it.",
        default="127.0.0.1",
        reload=Reload.RESTART,
    ),
    Key(
        GENERAL,
        "control_bind_port",
        values.PORT,
        "The port on which status is served by HTTP; not set: no HTTP.",
        reload=Reload.RESTART,
    ),
)

_LINK_KEYS = (
    Key(
        LINK,
        "bindhost",
        values.LOCAL_ADDRESS,
        "The local address the link leaves from; not set: the kernel chooses.",
        reload=Reload.RECONNECT,
    ),
    Key(
        LINK,
        "bindport",
        values.PORT,
        "The local port. Required on a server; not set on a client: the kernel chooses.",
        reload=Reload.RECONNECT,
    ),
    Key(
        LINK,
        "bindinterface",
        values.INTERFACE,
        "The network interface the link leaves by, whatever its address is at the moment.",
        field="interface",
        reload=Reload.RECONNECT,
        mlvpn2=False,
    ),
    Key(
        LINK,
        "bindfib",
        values.COUNT,
        "The routing table on FreeBSD and OpenBSD; on Linux it has no effect, use `bindinterface` there.",
        default="0",
        maximum="65535",
        reload=Reload.RECONNECT,
    ),
    Key(
        LINK,
        "remotehost",
        values.HOST,
        "The server's name or address. Required on a client.",
        reload=Reload.RECONNECT,
    ),
    Key(
        LINK,
        "remoteport",
        values.PORT,
        "The server's port for this link. Required on a client.",
        reload=Reload.RECONNECT,
    ),
    Key(
        LINK,
        "bandwidth_upload",
        values.RATE,
        "What the link can send; 0: not known. `native` measures it and never sends faster than this, "
        "`mlvpn1` shares packets out by it when every link has it.",
        default="0",
        field="bandwidth_upload_bps",
        maximum="100Gbit",
    ),
    *_shared(LINK),
    Key(
        LINK,
        "fallback_only",
        values.SWITCH,
        "Use the link only while every other one is down, lossy or slow. `native` tells the other end; "
        "with `mlvpn1` set it at both ends.",
        default="0",
    ),
)

KEYS = _GENERAL_KEYS + _LINK_KEYS
"""Every key, in the order of the documentation."""


def keys_of(section: str) -> dict[str, Key]:
    """Return the keys of GENERAL or LINK by every spelling that is understood."""
    own = [key for key in KEYS if key.section == section]
    return {key.name: key for key in own} | {key.alias: key for key in own if key.alias}


def kind_of_section(name: str) -> str:
    """Return GENERAL, FILTERS_PREFIX or LINK for the name of a section."""
    if name == GENERAL:
        return GENERAL
    return FILTERS_PREFIX if name.startswith(FILTERS_PREFIX) else LINK
