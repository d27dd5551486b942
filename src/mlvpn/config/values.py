"""The text of one value -> the value: one ``Kind`` for each sort of value a key can have.

Owns what a port, an address, a switch or a key looks like. Does not own which key has which kind (schema.py) or how
values go together (rules.py).

Contract of ``Kind.parse``: takes the text of the file, returns the value in the program's units, or raises ValueError
with what is wrong and how to mend it. Kinds whose values are secret never repeat the text.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlvpn import units
from mlvpn.config.secret import Secret
from mlvpn.units import shown

_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,14}")
"""IFNAMSIZ is 16 with the final zero; the kernel also refuses "/", ":" and blanks."""
_HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SUN_PATH_BYTES = 107
KEY_BYTES = 32


@dataclass(frozen=True)
class Kind:
    """A sort of value."""

    form: str
    """How a person writes it, for the documentation."""
    parse: Callable[[str], Any]
    bare: float = 0
    """What a number without unit is multiplied with to get the program's unit; 0 where values are no quantities.
    MLVPN 2.x knows such numbers only."""
    bare_unit: str = ""
    """The name of that unit; empty: a pure number."""


def _integer(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise ValueError(f"{shown(text)} is not a number; write digits only")
    return int(text)


def _switch(text: str) -> bool:
    switches = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}
    if text.lower() not in switches:
        raise ValueError(f"{shown(text)} is neither on nor off; write 1 or 0")
    return switches[text.lower()]


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{shown(text)} is not a port; write a number from 1 to 65535")
    return int(text)


def _tolerated_loss_ratio(text: str) -> float:
    return min(units.parse_ratio(text), 1.0)


def _tolerated_latency_ns(text: str) -> int:
    return min(units.parse_duration_ns(text, bare="ms"), units.NS_PER_S)


def _absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{shown(text)} is not an absolute path; begin it with /")
    return text


def _socket_path(text: str) -> str:
    if len(text.encode()) > _SUN_PATH_BYTES:
        raise ValueError(f"the path is longer than the {_SUN_PATH_BYTES} bytes a socket may have; choose a shorter one")
    return _absolute_path(text)


def _interface(text: str) -> str:
    if not _INTERFACE.fullmatch(text):
        raise ValueError(f"{shown(text)} is not an interface name; use 1 to 15 letters, digits and . _ @ + -")
    return text


def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IP address; write one such as 192.0.2.1 or 2001:db8::1") from None
    return text


def _local_address(text: str) -> str:
    try:
        return _address(text)
    except ValueError as problem:
        hint = f'; for an interface write bindinterface = "{text}"' if _INTERFACE.fullmatch(text) else ""
        raise ValueError(f"{problem}{hint}") from None


def _host(text: str) -> str:
    """An address or a name; a name that looks like an IPv4 address is a mistyped address."""
    if re.fullmatch(r"[0-9.]+", text) or ":" in text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is not an IP address; write one, or a host name, without a port") from None
    elif len(text) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in text.removesuffix(".").split(".")):
        raise ValueError(f"{shown(text)} is not a host name or IP address; write for example vpn.example.net")
    return text


def _own_address(version: int, example: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            right = ipaddress.ip_interface(text).version == version
        except ValueError:
            right = False
        if not right:
            raise ValueError(
                f"{shown(text)} is not an IPv{version} address with prefix length; write for example {example}"
            )
        return text

    return parse


def _gateway(version: int, example: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            right = ipaddress.ip_address(text).version == version
        except ValueError:
            right = False
        if not right:
            raise ValueError(
                f"{shown(text)} is not an IPv{version} address without prefix length; write for example {example}"
            )
        return text

    return parse


def _routes(version: int, example: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for word in text.split():
            try:
                right = word == "default" or ipaddress.ip_network(word, strict=False).version == version
            except ValueError:
                right = False
            if not right:
                raise ValueError(
                    f"{shown(word)} is not an IPv{version} network; write for example {example}, with spaces between"
                )
        return text

    return parse


def _password(text: str) -> Secret:
    return Secret(text.encode())


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"not a key of {KEY_BYTES} bytes in base64; make one with: mlvpn genkey")
    return key


def choice(*words: str) -> Kind:
    """The kind of a key that takes one of ``words``."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{shown(text)} is not possible here; write {' or '.join(words)}")
        return text

    return Kind(" or ".join(f"`{word}`" for word in words), parse)


COUNT = Kind("number", _integer, 1)
SWITCH = Kind("`1` or `0`; also yes/no, on/off, true/false", _switch, 1)
SECONDS = Kind("duration, as `10s` or `1.5min`", units.parse_duration_ns, units.NS_PER_S, "seconds")
TOLERATED_LATENCY = Kind("duration, as `80ms`", _tolerated_latency_ns, units.NS_PER_MS, "milliseconds")
TOLERATED_LOSS = Kind("percentage, as `10%`", _tolerated_loss_ratio, 0.01, "percent")
RATE = Kind("rate, as `20Mbit` or `2.5MB/s`", units.parse_rate_bps, 8, "bytes per second")
PORT = Kind("port, 1 to 65535", _port)
PATH = Kind("absolute path", _absolute_path)
SOCKET_PATH = Kind("absolute path", _socket_path)
INTERFACE = Kind("interface name, at most 15 characters", _interface)
ADDRESS = Kind("IPv4 or IPv6 address", _address)
LOCAL_ADDRESS = Kind("IPv4 or IPv6 address", _local_address)
HOST = Kind("host name or address", _host)
IP4 = Kind("IPv4 address/prefix length", _own_address(4, "10.42.42.2/24"))
IP6 = Kind("IPv6 address/prefix length", _own_address(6, "fd42::2/64"))
IP4_GATEWAY = Kind("IPv4 address", _gateway(4, "10.42.42.1"))
IP6_GATEWAY = Kind("IPv6 address", _gateway(6, "fd42::1"))
IP4_ROUTES = Kind("IPv4 networks, separated by spaces", _routes(4, "192.0.2.0/24"))
IP6_ROUTES = Kind("IPv6 networks, separated by spaces", _routes(6, "2001:db8::/32"))
PASSWORD = Kind("any text", _password)
SECRET_KEY = Kind("32 bytes in base64", lambda text: Secret(_key(text)))
PUBLIC_KEY = Kind("32 bytes in base64", _key)
