"""Each fault and each warning of a file, with the sentence a person reads."""

from __future__ import annotations

import pytest
from config_texts import CLIENT, KEY_A, KEY_B, SERVER, dsl, errors, general

from mlvpn.config import parse


def test_all_problems_come_in_one_run_in_the_order_of_the_file() -> None:
    text = "[general]\nmode = both\npasword = x\n[dsl]\nremoteport = 0\nspeed = 5\n"
    assert errors(text) == [
        "t:1:2: error: [general] password: required, but missing or empty; add a password, or private_key and peer_key",
        "t:2:8: error: [general] mode: 'both' is not possible here; write client or server",
        "t:3:1: error: [general] pasword: there is no such key; did you mean password?",
        "t:5:14: error: [dsl] remoteport: '0' is not a port; write a number from 1 to 65535",
        "t:6:1: error: [dsl] speed: there is no such key; "
        "delete it, or see docs/configuration.md for the keys there are",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # What users of MLVPN lost days on.
        (
            CLIENT.replace("vpn.example.net", '""', 1),
            "t:4:2: error: [dsl] remotehost: required on a client, but missing or empty; set it",
        ),
        (
            CLIENT.replace("remoteport = 5080\n", ""),
            "t:4:2: error: [dsl] remoteport: required on a client, but missing or empty; set it",
        ),
        (
            CLIENT.replace("vpn.example.net", "“vpn.example.net”", 1),
            't:6:14: error: [dsl] remotehost: “ is not the plain double quote; write "',
        ),
        (
            dsl("loss_tolernce = 10"),
            "t:5:1: error: [dsl] loss_tolernce: there is no such key; did you mean loss_tolerence?",
        ),
        # Keys.
        (dsl("Timeout = 10"), "t:5:1: error: [dsl] Timeout: there is no such key; did you mean timeout?"),
        (dsl("mtu = 1400"), "t:5:1: error: [dsl] mtu: this key belongs in [general]; move it there"),
        (
            general("bindport = 5080"),
            "t:2:1: error: [general] bindport: this key belongs in the section of a link; move it there",
        ),
        # Values.
        (dsl("timeout = 1"), "t:5:11: error: [dsl] timeout: '1' is too small; the least is 2s"),
        (general("timeout = 2d"), "t:2:11: error: [general] timeout: '2d' is too large; the most is 1d"),
        (general("mtu = 500"), "t:2:7: error: [general] mtu: '500' is too small; the least is 576"),
        (general("mtu = 65536"), "t:2:7: error: [general] mtu: '65536' is too large; the most is 9000"),
        (general("mtu = big"), "t:2:7: error: [general] mtu: 'big' is not a number; write digits only"),
        (
            general("tuntap = bridge"),
            "t:2:10: error: [general] tuntap: 'bridge' is not possible here; write tun or tap",
        ),
        (
            general("cleartext_data = maybe"),
            "t:2:18: error: [general] cleartext_data: 'maybe' is neither on nor off; write 1 or 0",
        ),
        (
            general("interface_name = sixteen-letters0"),
            "t:2:18: error: [general] interface_name: 'sixteen-letters0' is not an interface name; "
            "use 1 to 15 letters, digits and . _ @ + -",
        ),
        (
            general("statuscommand = updown.sh"),
            "t:2:17: error: [general] statuscommand: 'updown.sh' is not an absolute path; begin it with /",
        ),
        (
            general(f"control_unix_path = /{'x' * 107}"),
            "t:2:21: error: [general] control_unix_path: the path is longer than the 107 bytes a socket may have; "
            "choose a shorter one",
        ),
        (
            general("ip4 = 10.42.42.300/24"),
            "t:2:7: error: [general] ip4: '10.42.42.300/24' is not an IPv4 address with prefix length; "
            "write for example 10.42.42.2/24",
        ),
        (
            general("ip6 = 10.42.42.2/24"),
            "t:2:7: error: [general] ip6: '10.42.42.2/24' is not an IPv6 address with prefix length; "
            "write for example fd42::2/64",
        ),
        (
            general("ip4_gateway = 10.42.42.1/24"),
            "t:2:15: error: [general] ip4_gateway: '10.42.42.1/24' is not an IPv4 address without prefix length; "
            "write for example 10.42.42.1",
        ),
        (
            general("ip4_routes = 192.0.2.0/24 192.0.2.0/33"),
            "t:2:14: error: [general] ip4_routes: '192.0.2.0/33' is not an IPv4 network; "
            "write for example 192.0.2.0/24, with spaces between",
        ),
        (
            CLIENT.replace("192.0.2.10", "eth0"),
            "t:5:12: error: [dsl] bindhost: 'eth0' is not an IP address; write one such as 192.0.2.1 or 2001:db8::1; "
            'for an interface write bindinterface = "eth0"',
        ),
        (
            CLIENT.replace("vpn.example.net", "192.0.2.1:5080", 1),
            "t:6:14: error: [dsl] remotehost: '192.0.2.1:5080' is not an IP address; "
            "write one, or a host name, without a port",
        ),
        (
            CLIENT.replace("vpn.example.net", "http://vpn", 1),
            "t:6:14: error: [dsl] remotehost: 'http://vpn' is not an IP address; "
            "write one, or a host name, without a port",
        ),
        (
            CLIENT.replace("vpn.example.net", "vpn,example", 1),
            "t:6:14: error: [dsl] remotehost: 'vpn,example' is not a host name or IP address; "
            "write for example vpn.example.net",
        ),
        (
            dsl("bandwidth_upload = 200Gbit"),
            "t:5:20: error: [dsl] bandwidth_upload: '200Gbit' is too large; the most is 100Gbit",
        ),
        # Sections.
        ("[dsl]\nremotehost = a\n", "t:1:1: error: there is no section [general]; add one with mode and password"),
        (
            "[general]\nmode = client\npassword = x\n",
            "t:1:1: error: there is no link; add a section such as [link1] for each",
        ),
        (
            CLIENT + "[General]\n",
            "t:12:2: error: [General] did you mean [general]? Write it in lower case",
        ),
        (CLIENT + "[dsl]\n", "t:12:2: error: [dsl] this link is in line 4 already; give it another name"),
        # Together.
        (
            CLIENT.replace("mode = client\n", ""),
            "t:1:2: error: [general] mode: required, but missing or empty; add mode = client or mode = server",
        ),
        (
            SERVER.replace("bindport = 5080\n", ""),
            "t:4:2: error: [dsl] bindport: required on a server, but missing or empty; set it",
        ),
        (
            general(f"private_key = {KEY_A}"),
            "t:1:2: error: [general] peer_key: required beside private_key, but missing or empty; "
            "add it, or use password alone",
        ),
        (
            general("protocol = mlvpn1").replace('password = "correct horse"\n', ""),
            "t:1:2: error: [general] password: required by protocol mlvpn1, but missing or empty; "
            "add the password of both ends",
        ),
        (
            SERVER.replace("5081", "5080"),
            "t:7:12: error: [lte] bindport: link dsl has the same port and address; change one of them",
        ),
        (
            CLIENT.replace("vpn.example.net", "2001:db8::1", 1),
            "t:5:12: error: [dsl] bindhost: of another IP version than remotehost; use one version for both",
        ),
        (
            CLIENT + "[filters]\nlt = udp\n",
            "t:13:1: error: [filters] lt: there is no link of this name; did you mean lte?",
        ),
        (
            CLIENT + "[filters]\nx = udp\n",
            "t:13:1: error: [filters] x: there is no link of this name; write one of: dsl, lte",
        ),
        (
            CLIENT + "[filters]\nlte =\n",
            "t:13:6: error: [filters] lte: the expression is missing; write for example udp port 5060",
        ),
    ],
)
def test_each_fault_has_its_message(text: str, expected: str) -> None:
    assert expected in errors(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            general("timeout = 10\ntimeout = 20"),
            "t:3:1: warning: [general] timeout: line 2 has set it already and counts, as in MLVPN; "
            "delete one of the two",
        ),
        (
            dsl("bandwidth_upload = 512"),
            "t:5:20: warning: [dsl] bandwidth_upload: this is only 4.1 kbit/s; "
            "a bare number counts bytes per second, write a unit as in 20Mbit",
        ),
        (
            dsl("bindfib = 1"),
            "t:5:11: warning: [dsl] bindfib: has no effect on Linux; "
            "write bindinterface = NAME, or make a rule with: ip rule",
        ),
        (
            general("reorder_buffer_size = 64"),
            "t:2:23: warning: [general] reorder_buffer_size: has no effect with protocol = native; delete it",
        ),
        (
            general(f"protocol = mlvpn1\npsk = {KEY_A}"),
            "t:3:7: warning: [general] psk: has no effect with protocol = mlvpn1; delete it",
        ),
        (
            general(f"psk = {KEY_A}"),
            "t:2:7: warning: [general] psk: not used without private_key and peer_key; delete it",
        ),
        (
            general(f"private_key = {KEY_A}\npeer_key = {KEY_B}"),
            "t:5:12: warning: [general] password: not used, because there is a private_key; delete one of the two",
        ),
        (
            general("control_bind_host = 0.0.0.0"),
            "t:2:21: warning: [general] control_bind_host: has no effect without control_bind_port; set that too",
        ),
        (
            general("protocol = mlvpn1\nmtu = 1500"),
            "t:3:7: warning: [general] mtu: MLVPN 2.x cuts such packets off; write 1452 or less",
        ),
        (
            general("ip6 = fd42::2/64\nmtu = 1200"),
            "t:3:7: warning: [general] mtu: IPv6 needs 1280 at least; write that or more, or remove ip6",
        ),
        (
            general("protocol = mlvpn1").replace("correct horse", " correct horse"),
            "t:4:12: warning: [general] password: MLVPN 2.x cannot read it: it drops outer blanks and lines with other "
            "than ASCII; choose another",
        ),
        (
            dsl("loss_tolerence = 0"),
            "t:5:18: warning: [dsl] loss_tolerence: 0 keeps the link out of the rotation for ever; "
            "delete it to switch this off",
        ),
        (
            CLIENT.replace("bindhost = 192.0.2.10\n", "").replace("bindinterface = wwan0\n", ""),
            "t:7:2: warning: [lte] nothing tells its way from that of link dsl; set bindhost or bindinterface for both",
        ),
        (
            general("protocol = mlvpn1", dsl("bandwidth_upload = 1MB/s")),
            "t:10:2: warning: [lte] bandwidth_upload: not set, so protocol mlvpn1 uses all links equally; "
            "set it for all or for none",
        ),
    ],
)
def test_what_is_valid_but_seldom_meant_is_warned_of(text: str, expected: str) -> None:
    assert parse(text, "t").warnings == (expected,)


def test_numbers_of_links_and_filters_are_bounded() -> None:
    head = "[general]\nmode = server\npassword = x\n"
    links = "".join(f"[l{n}]\nbindport = {n}\n" for n in range(1, 257))
    assert errors(head + links) == ["t:1:1: error: 256 links are too many; keep 255 at most"]
    filters = "[a]\nbindport = 1\n[filters]\n" + "a = udp\n" * 256
    assert errors(head + filters) == ["t:262:1: error: [filters] a: too many filters; keep 255 at most"]


def test_a_file_of_sections_alone_is_refused_at_once() -> None:
    many = "".join(f"[l{n}]\n" for n in range(50_000))
    assert errors(f"[general]\nmode = client\npassword = x\n{many}")[0].endswith("are too many; keep 255 at most")


def test_a_file_of_unknown_keys_stops_at_a_bound() -> None:
    assert len(errors("[general]\n" + "timeoutt = 1\n" * 50_000)) == 101
