"""pcap-filter expressions on real packets, for both kinds of device."""

from __future__ import annotations

import struct

import pytest

from mlvpn.config import Filter, Location, parse
from mlvpn.errors import ConfigError, SystemFailure
from mlvpn.system import filters
from mlvpn.system.filters import PacketFilters, compile_filters

try:
    filters.load()
except SystemFailure as error:
    pytest.skip(str(error), allow_module_level=True)


def ipv4(protocol: int, source_port: int, destination_port: int, tos: int = 0) -> bytes:
    l4 = struct.pack(">HHHH", source_port, destination_port, 8, 0) + bytes(24)
    return struct.pack(">BBHHHBBH4B4B", 0x45, tos, 20 + len(l4), 0, 0, 64, protocol, 0, 10, 0, 0, 1, 10, 0, 0, 2) + l4


def ipv6(protocol: int, destination_port: int) -> bytes:
    l4 = struct.pack(">HHHH", 1, destination_port, 8, 0)
    return struct.pack(">IHBB", 0x60000000, len(l4), protocol, 64) + bytes(15) + b"\1" + bytes(15) + b"\2" + l4


SIP = ipv4(17, 5060, 5060)
SSH = ipv4(6, 40000, 22)


def lines(*expressions: tuple[str, str]) -> list[Filter]:
    return [
        Filter(link, text, Location("home.conf", 7 + n, 10), Location("home.conf", 7 + n, 1))
        for n, (link, text) in enumerate(expressions)
    ]


def chosen(packet: bytes, *expressions: tuple[str, str], tuntap: str = "tun") -> list[str]:
    return list(PacketFilters(compile_filters(lines(*expressions), tuntap)).matching(packet))


@pytest.mark.parametrize(
    ("expression", "packet", "matches"),
    [
        ("udp port 5060", SIP, True),
        ("udp port 5060", SSH, False),
        ("tcp dst port ssh", SSH, True),
        ("ip[1] & 0xfc == 0xb8", ipv4(17, 1, 2, tos=0xB8), True),
        ("ip[1] & 0xfc == 0xb8", SIP, False),
        ("ip6 and udp port 53", ipv6(17, 53), True),
        ("ip6", SIP, False),
        ("net 10.0.0.0/8", SSH, True),
        ("greater 1000", SIP, False),
        ("greater 1000", SIP + bytes(2000), True),
        ("udp port 5060", b"", False),
        ("udp port 5060", SIP[:21], False),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else str(value),
)
def test_an_expression_matches_what_it_says(expression: str, packet: bytes, matches: bool) -> None:
    assert chosen(packet, ("adsl1", expression)) == (["adsl1"] if matches else [])


@pytest.mark.parametrize("expression", ["udp port 5060", "ether proto 0x0800"])
def test_a_tap_device_filters_ethernet_frames(expression: str) -> None:
    frame = bytes(12) + b"\x08\x00" + SIP
    assert chosen(frame, ("adsl1", expression), tuntap="tap") == ["adsl1"]
    assert chosen(frame, ("adsl1", "udp port 5060"), tuntap="tun") == []


def test_all_that_match_are_named_in_the_order_of_the_file() -> None:
    order = [("b", "udp"), ("a", "tcp"), ("a", "udp port 5060"), ("b", "ip"), ("c", "host 10.0.0.1")]
    assert chosen(SIP, *order) == ["b", "a", "b", "c"]


def test_bad_expressions_are_errors_with_their_place_all_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        compile_filters(lines(("adsl1", "udp prot 5060"), ("adsl2", "udp"), ("adsl3", "port 99999")), "tun")
    first, second = str(raised.value).splitlines()
    assert first.startswith("home.conf:7:10: error: [filters] adsl1: ")
    assert second.startswith("home.conf:9:10: error: [filters] adsl3: ")
    assert "pcap-filter" in first


def test_an_expression_for_ethernet_on_a_tun_device_is_an_error_not_a_silent_mismatch() -> None:
    with pytest.raises(ConfigError, match="adsl1"):
        compile_filters(lines(("adsl1", "ether host 00:11:22:33:44:55")), "tun")


def test_no_filters_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "load", lambda: pytest.fail("libpcap was loaded"))
    assert compile_filters([], "tun") == []


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_LIBRARIES", ("libnosuchthing.so.9",))
    with pytest.raises(SystemFailure, match="apt install"):
        filters.load.__wrapped__()


def test_filters_of_a_configuration_file_compile() -> None:
    text = '[general]\nmode = "client"\npassword = "long enough"\n[filters]\na = "udp port 5060"\na = tcp port 22\n'
    config = parse(text + '[a]\nremotehost = "192.0.2.1"\nremoteport = 5080\n', "home.conf")
    assert list(PacketFilters(compile_filters(config.filters, "tun")).matching(SSH)) == ["a"]
