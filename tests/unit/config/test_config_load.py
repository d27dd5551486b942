"""Text -> Config: every key counts, every fault is located, every rule between keys holds."""

from __future__ import annotations

from dataclasses import fields

import pytest
from config_texts import CLIENT, KEY_A, KEY_B, dsl, errors, general
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.config import Config, Filter, General, LinkConfig, Secret, parse, schema
from mlvpn.config.schema import Key
from mlvpn.errors import ConfigError


def test_a_small_file_has_mlvpns_defaults() -> None:
    config = parse(CLIENT, "t")
    assert config.warnings == ()
    assert config.general == General(
        mode="client",
        protocol="native",
        statuscommand=None,
        interface_name="mlvpn0",
        tuntap="tun",
        control_unix_path=None,
        control_bind_host="127.0.0.1",
        control_bind_port=None,
        password=Secret(b"correct horse"),
        private_key=None,
        peer_key=None,
        psk=None,
        cleartext_data=False,
        timeout_ns=60_000_000_000,
        reorder_buffer_size=0,
        loss_tolerance_ratio=1.0,
        latency_tolerance_ns=1_000_000_000,
        ip4=None,
        ip6=None,
        ip4_gateway=None,
        ip6_gateway=None,
        ip4_routes=None,
        ip6_routes=None,
        mtu=1432,
    )
    assert config.links[1] == LinkConfig(
        name="lte",
        bindhost=None,
        bindport=None,
        bindfib=0,
        interface="wwan0",
        remotehost="vpn.example.net",
        remoteport=5081,
        bandwidth_upload_bps=0,
        timeout_ns=60_000_000_000,
        loss_tolerance_ratio=1.0,
        latency_tolerance_ns=1_000_000_000,
        fallback_only=False,
    )


EFFECTS = {
    ("general", "mode"): ("server", "server"),
    ("general", "protocol"): ("mlvpn1", "mlvpn1"),
    ("general", "password"): ("hunter 2", Secret(b"hunter 2")),
    ("general", "private_key"): (KEY_A, Secret(b"\1" * 32)),
    ("general", "peer_key"): (KEY_B, b"\2" * 32),
    ("general", "psk"): (KEY_A, Secret(b"\1" * 32)),
    ("general", "cleartext_data"): ("1", True),
    ("general", "timeout"): ("10", 10_000_000_000),
    ("general", "loss_tolerence"): ("30", 0.3),
    ("general", "latency_tolerence"): ("300", 300_000_000),
    ("general", "reorder_buffer_size"): ("64", 64),
    ("general", "statuscommand"): ("/etc/mlvpn/ud.sh", "/etc/mlvpn/ud.sh"),
    ("general", "interface_name"): ("bond7", "bond7"),
    ("general", "tuntap"): ("tap", "tap"),
    ("general", "mtu"): ("1400", 1400),
    ("general", "ip4"): ("10.42.42.2/24", "10.42.42.2/24"),
    ("general", "ip6"): ("fd42::2/64", "fd42::2/64"),
    ("general", "ip4_gateway"): ("10.42.42.1", "10.42.42.1"),
    ("general", "ip6_gateway"): ("fd42::1", "fd42::1"),
    ("general", "ip4_routes"): ("192.0.2.0/24  default", "192.0.2.0/24  default"),
    ("general", "ip6_routes"): ("2001:db8::/32", "2001:db8::/32"),
    ("general", "control_unix_path"): ("/run/mlvpn/home.sock", "/run/mlvpn/home.sock"),
    ("general", "control_bind_host"): ("::1", "::1"),
    ("general", "control_bind_port"): ("1040", 1040),
    ("link", "bindhost"): ("192.0.2.10", "192.0.2.10"),
    ("link", "bindport"): ("4000", 4000),
    ("link", "bindinterface"): ("eth1.7", "eth1.7"),
    ("link", "bindfib"): ("3", 3),
    ("link", "remotehost"): ("2001:db8::1", "2001:db8::1"),
    ("link", "remoteport"): ("65535", 65535),
    ("link", "bandwidth_upload"): ("61440", 491_520),
    ("link", "timeout"): ("2", 2_000_000_000),
    ("link", "loss_tolerence"): ("5%", 0.05),
    ("link", "latency_tolerence"): ("80ms", 80_000_000),
    ("link", "fallback_only"): ("yes", True),
}


def minimal(section: str, setting: Key, value: str) -> str:
    """A valid file in which ``setting`` is set, and only what is required beside it."""
    own: dict[str, dict[str, str]] = {"general": {"mode": "client", "password": "x"}, "link": {}}
    own["link"] = {"remotehost": "192.0.2.1", "remoteport": "5080", "bindport": "5080"}
    if setting.name in ("private_key", "peer_key", "psk"):
        own["general"] |= {"private_key": KEY_A, "peer_key": KEY_B}
    if setting.name == "remotehost":
        del own["link"]["bindport"]
    own[section][setting.name] = value
    body = {name: "".join(f'{key} = "{text}"\n' for key, text in keys.items()) for name, keys in own.items()}
    return f"[general]\n{body['general']}[a]\n{body['link']}"


@pytest.mark.parametrize("setting", schema.KEYS, ids=lambda key: f"{key.section}.{key.name}")
def test_every_key_has_an_effect(setting: Key) -> None:
    text, expected = EFFECTS[setting.section, setting.name]
    config = parse(minimal(setting.section, setting, text), "t")
    owner = config.general if setting.section == "general" else config.links[0]
    assert getattr(owner, setting.field_name) == expected
    assert expected != setting.default_value()


def test_the_table_and_the_dataclasses_have_the_same_fields() -> None:
    for section, model in ((schema.GENERAL, General), (schema.LINK, LinkConfig)):
        in_table = [key.field_name for key in schema.KEYS if key.section == section]
        assert sorted(in_table) == sorted({field.name for field in fields(model)} - {"name"})


@pytest.mark.parametrize("section", [schema.GENERAL, schema.LINK])
@pytest.mark.parametrize("tolerance", ["loss_tolerance", "latency_tolerance"])
def test_both_spellings_of_tolerance_are_understood(section: str, tolerance: str) -> None:
    line = f"{tolerance} = 7"
    config = parse(general(line) if section == schema.GENERAL else dsl(line), "t")
    link = config.links[0]
    assert (link.loss_tolerance_ratio, link.latency_tolerance_ns) in [(0.07, 10**9), (1.0, 7_000_000)]


def test_links_inherit_from_general_what_they_do_not_set_wherever_general_stands() -> None:
    head, links = "[general]\nmode = client\npassword = x\ntimeout = 10\n", dsl("timeout = 20").split("\n", 3)[3]
    for text in (head + links, links + head):
        assert [link.timeout_ns for link in parse(text, "t").links] == [20_000_000_000, 10_000_000_000]


def test_more_than_off_is_off() -> None:
    config = parse(general("loss_tolerence = 250\nlatency_tolerence = 5s"), "t")
    assert (config.general.loss_tolerance_ratio, config.general.latency_tolerance_ns) == (1.0, 1_000_000_000)


def test_an_empty_value_is_the_same_as_none() -> None:
    assert parse(general('timeout = ""\ncontrol_unix_path ='), "t").general == parse(CLIENT, "t").general


def test_filters_keep_their_order_and_place() -> None:
    text = CLIENT + '[filters]\nlte = udp port 5060\ndsl = ip[9] == 6\nlte = "tcp"\n'
    config = parse(text, "t")
    assert [(f.link, f.expression) for f in config.filters] == [
        ("lte", "udp port 5060"),
        ("dsl", "ip[9] == 6"),
        ("lte", "tcp"),
    ]
    assert config.filters[1].location == ("t", 14, 7)


def test_every_value_knows_its_place() -> None:
    config = parse(CLIENT, "t")
    assert config.location("dsl", "remoteport") == ("t", 7, 14)
    assert config.location("dsl", "timeout") == config.location("dsl") == ("t", 4, 2)
    assert config.location("nowhere") == ("t", 1, 1)


def test_secrets_do_not_show() -> None:
    text = general(f"private_key = {KEY_A}\npeer_key = {KEY_B}\npsk = {KEY_A}")
    shown = repr(parse(text, "t"))
    assert "correct horse" not in shown
    assert KEY_A not in shown and "\\x01\\x01" not in shown
    assert "c2VjcmV0" not in "".join(errors(general("private_key = c2VjcmV0")))


def test_the_first_of_repeated_keys_counts() -> None:
    assert parse(general("timeout = 10\ntimeout = 20"), "t").general.timeout_ns == 10_000_000_000


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("bindport = 5080", "bindport = 5081", False),
        ("bindport = 5080\nbindhost = 192.0.2.1", "bindport = 5080\nbindhost = 192.0.2.2", False),
        ("bindport = 5080\nbindhost = 192.0.2.1", "bindport = 5080", True),
        ("bindport = 5080\nbindhost = 192.0.2.1", "bindport = 5080\nbindhost = 0.0.0.0", True),
        ("bindport = 5080\nbindhost = 192.0.2.1", "bindport = 5080\nbindhost = ::", False),
        ("bindport = 5080\nbindinterface = eth0", "bindport = 5080\nbindinterface = eth1", False),
        ("bindport = 5080\nbindinterface = eth0", "bindport = 5080\nbindinterface = eth0", True),
        ("bindport = 5080\nbindinterface = eth0", "bindport = 5080", True),
    ],
)
def test_two_links_that_want_one_socket(first: str, second: str, clash: bool) -> None:
    text = f"[general]\nmode = server\npassword = x\n[a]\n{first}\n[b]\n{second}\n"
    if clash:
        assert "link a has the same port and address" in errors(text)[0]
    else:
        parse(text, "t")


quoted = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"'), min_size=1, max_size=20)


@given(
    password=quoted,
    expressions=st.lists(quoted, max_size=3),
    timeout_s=st.integers(2, 86_400),
    loss_percent=st.integers(0, 100),
    rate_bytes=st.integers(0, 10**9),
    ports=st.lists(st.integers(1, 65_535), unique=True, min_size=1, max_size=5),
)
def test_what_is_written_is_what_is_meant(
    password: str, expressions: list[str], timeout_s: int, loss_percent: int, rate_bytes: int, ports: list[int]
) -> None:
    links = "".join(f"[l{port}]\nbindport={port}\nbandwidth_upload={rate_bytes}\n" for port in ports)
    filters = "".join(f'l{ports[0]} = "{expression}"\n' for expression in expressions)
    text = f'[general]\nmode=server\npassword="{password}"\ntimeout={timeout_s}s\nloss_tolerence={loss_percent}%\n'
    config = parse(f"{text}[filters]\n{filters}{links}", "t")
    assert config.general.password == Secret(password.encode())
    assert [(f.link, f.expression) for f in config.filters] == [(f"l{ports[0]}", e) for e in expressions]
    for link, port in zip(config.links, ports, strict=True):
        assert (link.bindport, link.timeout_ns, link.bandwidth_upload_bps) == (port, timeout_s * 10**9, rate_bytes * 8)
        assert link.loss_tolerance_ratio == loss_percent / 100


fragments = st.sampled_from(
    [key.name for key in schema.KEYS]
    + [
        "[general]",
        "[filters]",
        "[a]",
        "[",
        "]",
        "=",
        '"',
        "#",
        " ",
        "\n",
        "\r",
        "\t",
        "\0",
        "1",
        "0",
        "x",
        "10s",
        "::",
    ]
    + ["client", "server", "mlvpn1", "192.0.2.1", "é", "“", "\ud800", "9" * 30, KEY_A]
)


@given(st.one_of(st.text(), st.lists(fragments, max_size=60).map("".join)))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    try:
        assert isinstance(parse(text, "t"), Config)
    except ConfigError as problem:
        for line in str(problem).splitlines():
            assert line.startswith(("t:", "only the first"))


line_values = st.sampled_from(
    ["1", "0", "", "yes", "x", "10.0.0.1", "::", "a:b", "%", "1%%", "..", "a..b", "-1", "1e9", KEY_A]
)


@given(st.sampled_from(schema.KEYS), st.one_of(line_values, quoted))
def test_any_value_of_any_key_is_a_config_or_located_in_its_line(setting: Key, value: str) -> None:
    text = f'{CLIENT}[x]\nremotehost = y\nremoteport = 1\n{setting.name} = "{value}"\n'
    if setting.section == schema.GENERAL:
        text = f'[general]\n{setting.name} = "{value}"\n{CLIENT}'
    try:
        parse(text, "t")
    except ConfigError as problem:
        assert all(line.startswith("t:") for line in str(problem).splitlines())


def test_a_filter_is_equal_to_one_that_stands_elsewhere() -> None:
    [one] = parse(CLIENT + "[filters]\ndsl = udp\n", "t").filters
    [other] = parse("\n" + CLIENT + "\n[filters]\n dsl =  udp\n", "u").filters
    assert isinstance(one, Filter)
    assert one == other
    assert parse(CLIENT, "t") == parse("\n" + CLIENT, "u")
