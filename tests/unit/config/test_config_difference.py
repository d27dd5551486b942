"""What a reload has to do, key by key."""

from __future__ import annotations

import base64

import pytest

from mlvpn.config import Config, diff, keep_start_only, parse, schema
from mlvpn.config.schema import Reload

KEY = base64.b64encode(b"\1" * 32).decode()
OTHER_KEY = base64.b64encode(b"\2" * 32).decode()


def config(general: dict[str, str] | None = None, a: dict[str, str] | None = None, rest: str = "") -> Config:
    """A valid file with the given settings in [general] and in link [a]."""
    general = {"mode": "client", "password": "x"} | (general or {})
    a = {"remotehost": "192.0.2.1", "remoteport": "5080"} | (a or {})
    lines = [f"{key} = {value}" for key, value in general.items()]
    lines += ["[a]", *(f"{key} = {value}" for key, value in a.items())]
    return parse("[general]\n" + "\n".join(lines) + "\n" + rest, "t")


LINK_B = "[b]\nremotehost = 192.0.2.2\nremoteport = 5080\n"

GENERAL_CHANGES = {
    "mode": "server",
    "protocol": "mlvpn1",
    "password": "y",
    "cleartext_data": "1",
    "timeout": "9",
    "loss_tolerence": "9",
    "latency_tolerence": "9",
    "reorder_buffer_size": "9",
    "statuscommand": "/x",
    "interface_name": "x0",
    "tuntap": "tap",
    "mtu": "1400",
    "ip4": "192.0.2.1/24",
    "ip6": "fd42::2/64",
    "ip4_gateway": "192.0.2.1",
    "ip6_gateway": "fd42::1",
    "ip4_routes": "192.0.2.0/24",
    "ip6_routes": "2001:db8::/32",
    "control_unix_path": "/x",
    "control_bind_host": "::1",
    "control_bind_port": "1040",
    "psk": KEY,
}

LINK_CHANGES = {
    "bindhost": "192.0.2.10",
    "bindport": "9",
    "bindinterface": "x0",
    "bindfib": "9",
    "remotehost": "192.0.2.9",
    "remoteport": "9",
    "bandwidth_upload": "9Mbit",
    "timeout": "9",
    "loss_tolerence": "9",
    "latency_tolerence": "9",
    "fallback_only": "1",
}


def test_nothing_changed_in_a_file_that_means_the_same() -> None:
    difference = diff(config(), config({"timeout": "1min"}))
    assert not difference
    assert difference.lines() == []


@pytest.mark.parametrize("name", GENERAL_CHANGES)
def test_each_key_of_general_counts_at_once_or_after_a_restart(name: str) -> None:
    base = {"bindport": "5080"}
    difference = diff(config(a=base), config({name: GENERAL_CHANGES[name]}, a=base))
    if schema.keys_of(schema.GENERAL)[name].reload is Reload.RESTART:
        assert (difference.general, difference.needs_restart) == ((), (name,))
    else:
        assert (difference.general, difference.needs_restart) == ((name,), ())


def test_a_changed_key_pair_counts_at_once() -> None:
    old = config({"private_key": KEY, "peer_key": KEY})
    assert diff(old, config({"private_key": OTHER_KEY, "peer_key": KEY})).general == ("private_key",)
    assert diff(old, config({"private_key": KEY, "peer_key": OTHER_KEY})).general == ("peer_key",)


@pytest.mark.parametrize("name", LINK_CHANGES)
def test_each_key_of_a_link_reconnects_it_or_counts_at_once(name: str) -> None:
    base = {} if name == "remotehost" else {"bindport": "5080"}
    difference = diff(config(a=base), config(a=base | {name: LINK_CHANGES[name]}))
    if schema.keys_of(schema.LINK)[name].reload is Reload.RECONNECT:
        assert (difference.restarted, difference.changed) == ({"a": (name,)}, {})
    else:
        assert (difference.restarted, difference.changed) == ({}, {"a": (name,)})


def test_the_tables_above_have_every_key() -> None:
    assert {key.name for key in schema.KEYS if key.section == schema.LINK} == set(LINK_CHANGES)
    pair = {"private_key", "peer_key"}
    assert {key.name for key in schema.KEYS if key.section == schema.GENERAL} == set(GENERAL_CHANGES) | pair


def test_what_needs_a_restart_is_what_mlvpn_reads_at_start_only() -> None:
    restart = {key.name for key in schema.KEYS if key.reload is Reload.RESTART}
    control = {"control_unix_path", "control_bind_host", "control_bind_port"}
    assert restart == {"mode", "protocol", "statuscommand", "interface_name", "tuntap"} | control


def test_a_default_in_general_changes_the_links_that_have_it() -> None:
    difference = diff(config(a={"timeout": "30"}, rest=LINK_B), config({"timeout": "9"}, {"timeout": "30"}, LINK_B))
    assert difference.changed == {"b": ("timeout",)}


def test_links_and_filters_come_and_go() -> None:
    one, two = config(), config(rest=LINK_B + "[filters]\nb = udp\n")
    assert diff(one, two).lines() == ["link b added", "filters changed"]
    assert diff(two, one).lines() == ["link b removed", "filters changed"]


def test_the_order_of_filters_counts() -> None:
    first, second = (
        config(rest=f"{LINK_B}[filters]\n{lines}") for lines in ("a = udp\nb = tcp\n", "b = tcp\na = udp\n")
    )
    assert diff(first, second).lines() == ["filters changed"]


def test_the_difference_is_said_in_a_line_for_each_link() -> None:
    old = config(a={"timeout": "30"}, rest=LINK_B)
    new = config({"tuntap": "tap", "mtu": "1300"}, {"timeout": "9"}, LINK_B.replace("5080", "5081"))
    assert diff(old, new).lines() == [
        "link b restarted: remoteport changed",
        "link a: timeout changed",
        "[general] mtu changed",
        "[general] tuntap ignored until a restart",
    ]


def test_start_only_keys_keep_their_running_values() -> None:
    old, new = config(), config({"tuntap": "tap", "mtu": "1300", "control_bind_port": "1040"}, rest=LINK_B)
    running = keep_start_only(old, new)
    assert (running.general.tuntap, running.general.control_bind_port) == ("tun", None)
    assert running.general.mtu == 1300
    assert running.links == new.links
    assert diff(new, running).needs_restart == ("tuntap", "control_bind_port")
    assert diff(old, running).needs_restart == ()
