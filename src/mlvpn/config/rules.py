"""What must hold between the keys of a configuration.

Owns every check that one value alone cannot fail, and every warning about a valid file. What is true of one key alone
is in schema.py and values.py.

A value that could not be parsed has its default here and its fault noted already; so "is it set" asks the locations.
"""

from __future__ import annotations

import difflib
import ipaddress
import itertools

from mlvpn import units
from mlvpn.config import schema
from mlvpn.config.model import Config, General, LinkConfig
from mlvpn.config.problem import Problems
from mlvpn.config.schema import GENERAL

LINKS_LIMIT = 255
"""A link's number is one byte of the native datagram header."""
FILTERS_LIMIT = 255
"""As in MLVPN."""
_SUSPICIOUS_BPS = 128_000
"""Below this, a rate without a unit was most likely meant in kilobytes or kilobits."""
_MLVPN1_LARGEST_MTU = 1452
_IPV6_LEAST_MTU = 1280


def check(config: Config, problems: Problems) -> None:
    """Note everything that does not go together in ``config``."""
    checker = _Checker(config, problems)
    checker.required()
    if len(config.links) > LINKS_LIMIT:  # what follows compares links with one another
        return
    checker.keys()
    checker.general()
    for link in config.links:
        checker.link(link)
    checker.sockets()
    checker.shares()
    checker.filters()


class _Checker:
    def __init__(self, config: Config, problems: Problems) -> None:
        self._config = config
        self._problems = problems
        self._mlvpn1 = config.general.protocol == "mlvpn1"

    def required(self) -> None:
        """The sections and keys without which there is no tunnel."""
        if (GENERAL, "") not in self._config.locations:
            self._error("there is no section [general]; add one with mode and password")
            return
        if not self._is_set(GENERAL, "mode"):
            self._error("required, but missing or empty; add mode = client or mode = server", GENERAL, "mode")
        if not self._config.links:
            self._error("there is no link; add a section such as [link1] for each")
        elif len(self._config.links) > LINKS_LIMIT:
            self._error(f"{len(self._config.links)} links are too many; keep {LINKS_LIMIT} at most")

    def keys(self) -> None:
        """Who the peer is: a password or a pair of keys."""
        if (GENERAL, "") not in self._config.locations:
            return
        password, private, peer = (self._is_set(GENERAL, key) for key in ("password", "private_key", "peer_key"))
        if self._mlvpn1:
            if not password:
                text = "required by protocol mlvpn1, but missing or empty; add the password of both ends"
                self._error(text, GENERAL, "password")
        elif private != peer:
            missing, there = ("peer_key", "private_key") if private else ("private_key", "peer_key")
            text = f"required beside {there}, but missing or empty; add it, or use password alone"
            self._error(text, GENERAL, missing)
        elif not private and not password:
            text = "required, but missing or empty; add a password, or private_key and peer_key"
            self._error(text, GENERAL, "password")
        elif private and password:
            self._warn("not used, because there is a private_key; delete one of the two", GENERAL, "password")
        if not private and self._is_set(GENERAL, "psk") and not self._mlvpn1:
            self._warn("not used without private_key and peer_key; delete it", GENERAL, "psk")

    def general(self) -> None:
        """What in [general] is valid, but is seldom meant."""
        general = self._config.general
        for key in schema.KEYS:
            foreign = key.section == GENERAL and key.protocol not in ("", general.protocol)
            if foreign and self._is_set(GENERAL, key.name):
                self._warn(f"has no effect with protocol = {general.protocol}; delete it", GENERAL, key.name)
        if self._is_set(GENERAL, "control_bind_host") and not self._is_set(GENERAL, "control_bind_port"):
            self._warn("has no effect without control_bind_port; set that too", GENERAL, "control_bind_host")
        if self._mlvpn1 and general.mtu > _MLVPN1_LARGEST_MTU:
            text = f"MLVPN 2.x cuts such packets off; write {_MLVPN1_LARGEST_MTU} or less"
            self._warn(text, GENERAL, "mtu")
        if general.ip6 and general.mtu < _IPV6_LEAST_MTU:
            self._warn(f"IPv6 needs {_IPV6_LEAST_MTU} at least; write that or more, or remove ip6", GENERAL, "mtu")
        if self._mlvpn1 and general.password and _read_otherwise(general.password.reveal()):
            text = "MLVPN 2.x cannot read it: it drops outer blanks and lines with other than ASCII; choose another"
            self._warn(text, GENERAL, "password")
        self._tolerances(GENERAL, general)

    def link(self, link: LinkConfig) -> None:
        """What one link needs."""
        needed = {"client": ("remotehost", "remoteport"), "server": ("bindport",)}.get(self._config.general.mode, ())
        for key in needed:
            if not self._is_set(link.name, key):
                self._error(f"required on a {self._config.general.mode}, but missing or empty; set it", link.name, key)
        if link.remotehost and link.bindhost and _versions_differ(link.remotehost, link.bindhost):
            self._error("of another IP version than remotehost; use one version for both", link.name, "bindhost")
        if link.bindfib:
            text = "has no effect on Linux; write bindinterface = NAME, or make a rule with: ip rule"
            self._warn(text, link.name, "bindfib")
        if 0 < link.bandwidth_upload_bps < _SUSPICIOUS_BPS:
            rate = units.format_rate_bps(link.bandwidth_upload_bps)
            text = f"this is only {rate}; a bare number counts bytes per second, write a unit as in 20Mbit"
            self._warn(text, link.name, "bandwidth_upload")
        self._tolerances(link.name, link)

    def sockets(self) -> None:
        """No two links may want the same socket, nor go the same way unnoticed."""
        for first, second in itertools.combinations(self._config.links, 2):
            if _same_socket(first, second):
                text = f"link {first.name} has the same port and address; change one of them"
                self._error(text, second.name, "bindport")
            elif _same_way(first, second):
                text = f"nothing tells its way from that of link {first.name}; set bindhost or bindinterface for both"
                self._warn(text, second.name)

    def shares(self) -> None:
        """MLVPN's balancing uses the rates only when every link has one."""
        unknown = [link for link in self._config.links if not link.bandwidth_upload_bps]
        if self._mlvpn1 and 0 < len(unknown) < len(self._config.links):
            text = "not set, so protocol mlvpn1 uses all links equally; set it for all or for none"
            for link in unknown:
                self._warn(text, link.name, "bandwidth_upload")

    def filters(self) -> None:
        """Each filter names a link and has an expression."""
        names = [link.name for link in self._config.links]
        for entry in self._config.filters[:FILTERS_LIMIT]:
            if self._problems.full:
                return
            if entry.link not in names:
                similar = difflib.get_close_matches(entry.link, names, n=1)
                hint = f"did you mean {similar[0]}?" if similar else f"write one of: {', '.join(names[:8])}"
                text = f"there is no link of this name; {hint}"
                self._problems.error(entry.link_location, text, entry.section, entry.link)
            if not entry.expression:
                text = "the expression is missing; write for example udp port 5060"
                self._problems.error(entry.location, text, entry.section, entry.link)
        for entry in self._config.filters[FILTERS_LIMIT : FILTERS_LIMIT + 1]:
            text = f"too many filters; keep {FILTERS_LIMIT} at most"
            self._problems.error(entry.link_location, text, entry.section, entry.link)

    def _tolerances(self, section: str, owner: General | LinkConfig) -> None:
        tolerances = {"loss_tolerence": owner.loss_tolerance_ratio, "latency_tolerence": owner.latency_tolerance_ns}
        for key, value in tolerances.items():
            if self._is_set(section, key) and value == 0:
                self._warn("0 keeps the link out of the rotation for ever; delete it to switch this off", section, key)

    def _is_set(self, section: str, key: str) -> bool:
        return (section, key) in self._config.locations

    def _error(self, text: str, section: str = "", key: str = "") -> None:
        self._problems.error(self._config.location(section, key), text, section, key)

    def _warn(self, text: str, section: str = "", key: str = "") -> None:
        self._problems.warning(self._config.location(section, key), text, section, key)


def _same_socket(first: LinkConfig, second: LinkConfig) -> bool:
    """True when the kernel would refuse the second socket: same port, addresses and interfaces that overlap."""
    if first.bindport is None or first.bindport != second.bindport:
        return False
    if first.interface and second.interface and first.interface != second.interface:
        return False
    return first.bindhost is None or second.bindhost is None or _overlap(first.bindhost, second.bindhost)


def _overlap(first: str, second: str) -> bool:
    one, other = ipaddress.ip_address(first), ipaddress.ip_address(second)
    return one == other or (one.version == other.version and (one.is_unspecified or other.is_unspecified))


def _same_way(first: LinkConfig, second: LinkConfig) -> bool:
    """True when two links have the same destination host and neither address nor interface to leave from."""
    unbound = not (_is_bound(first) or _is_bound(second))
    return unbound and first.remotehost is not None and first.remotehost == second.remotehost


def _is_bound(link: LinkConfig) -> bool:
    specific = link.bindhost is not None and not ipaddress.ip_address(link.bindhost).is_unspecified
    return specific or link.interface is not None


def _versions_differ(host: str, address: str) -> bool:
    """True when no socket can go from ``address`` to ``host``; 0.0.0.0 and :: are commonly written for just any."""
    try:
        local = ipaddress.ip_address(address)
        return not local.is_unspecified and local.version != ipaddress.ip_address(host).version
    except ValueError:  # a name may have addresses of both
        return False


def _read_otherwise(password: bytes) -> bool:
    return password != password.strip(b" ") or not password.isascii()
