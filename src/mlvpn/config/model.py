"""What the rest of the program sees of a configuration: plain, checked, immutable values in the program's units.

Owns the dataclasses. Which key fills which field, with which default, is the table in schema.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlvpn.config.problem import Location
from mlvpn.config.secret import Secret


@dataclass(frozen=True)
class General:
    """The section [general]."""

    mode: str
    """``client`` or ``server``."""
    protocol: str
    """``native`` or ``mlvpn1``."""
    statuscommand: str | None
    """Absolute path of the script run as root when links and the tunnel come and go."""
    interface_name: str
    tuntap: str
    """``tun`` (IP packets) or ``tap`` (Ethernet frames)."""
    control_unix_path: str | None
    control_bind_host: str
    control_bind_port: int | None
    """None: no HTTP."""
    password: Secret | None
    """UTF-8 bytes. Unused when ``private_key`` is set."""
    private_key: Secret | None
    """32 bytes, X25519; set only together with ``peer_key``."""
    peer_key: bytes | None
    """32 bytes, X25519."""
    psk: Secret | None
    """32 bytes."""
    cleartext_data: bool
    timeout_ns: int
    reorder_buffer_size: int
    """Packets; 0 = no reordering."""
    loss_tolerance_ratio: float
    """1.0 = off."""
    latency_tolerance_ns: int
    """One second = off."""
    ip4: str | None
    ip6: str | None
    ip4_gateway: str | None
    ip6_gateway: str | None
    ip4_routes: str | None
    ip6_routes: str | None
    mtu: int
    """Bytes of the largest packet on the tunnel's interface."""


@dataclass(frozen=True)
class LinkConfig:
    """One link's section; what it does not set itself it has from [general]."""

    name: str
    bindhost: str | None
    """IP address; None = any. A client may have 0.0.0.0 or :: of another version than its peer, meaning just any."""
    bindport: int | None
    """None = the kernel chooses."""
    bindfib: int
    interface: str | None
    """Network interface the socket is bound to (SO_BINDTODEVICE); the key is `bindinterface`."""
    remotehost: str | None
    """Host name or IP address; None only on a server."""
    remoteport: int | None
    bandwidth_upload_bps: int
    """Bits per second; 0 = unknown."""
    timeout_ns: int
    loss_tolerance_ratio: float
    latency_tolerance_ns: int
    fallback_only: bool


@dataclass(frozen=True)
class Filter:
    """One line of [filters]: packets that match ``expression`` go over ``link`` while it is up."""

    link: str
    expression: str
    """In pcap-filter syntax, not yet compiled."""
    location: Location = field(compare=False)
    """Where the expression stands, for the message when it does not compile."""
    link_location: Location = field(compare=False)
    section: str = field(default="filters", compare=False)


@dataclass(frozen=True)
class Config:
    """A whole valid file. Two are equal when they mean the same, wherever their lines stand."""

    filename: str = field(compare=False)
    general: General
    links: tuple[LinkConfig, ...]
    """In file order; at least one."""
    filters: tuple[Filter, ...]
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """Ready to print: ``file:line:column: warning: ...``."""
    locations: Mapping[tuple[str, str], Location] = field(default_factory=dict, compare=False, repr=False)
    """(section, key) -> its value's place; (section, "") -> the section's."""

    def location(self, section: str, key: str = "") -> Location:
        """Return where a value stands, else its section, else the beginning of the file."""
        start = Location(self.filename, 1, 1)
        return self.locations.get((section, key)) or self.locations.get((section, ""), start)

    def link(self, name: str) -> LinkConfig | None:
        """Return the link called ``name``."""
        return next((link for link in self.links if link.name == name), None)
