"""Each quirk of MLVPN 2.x's parser is reported in the line where it bites, with what MLVPN 2.x reads.

The model was compared with that parser itself, compiled, on thousands of random files; these are the cases by name.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.config import parse
from mlvpn.config.mlvpn2 import agreement, differences

GOOD = """\
[general]
mode = "client"
password = "correct horse"
timeout = 10
cleartext_data = 1
ip4_routes = "192.0.2.0/24 198.51.100.0/24"
[filters]
dsl = "udp port 5060"
[dsl]
bindhost = "192.0.2.10"  # comment
remotehost = vpn.example.net
remoteport = 5080
bandwidth_upload = 61440
loss_tolerence = 30
latency_tolerence = 300
fallback_only = 0
"""


def notes(text: str) -> list[str]:
    """The notes of a file, less their common beginning."""
    return [line.removeprefix("t:").replace("note: ", "", 1) for line in differences(text, "t")]


def test_a_file_both_read_alike_has_no_notes() -> None:
    assert notes(GOOD) == []
    assert notes(GOOD.replace("\n", "\r\n")) == []


def with_line(line: str, section: str = "dsl") -> str:
    return GOOD.replace(f"[{section}]\n", f"[{section}]\n{line}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            with_line("dsl = udp port 5060", "filters"),
            "8:7: [filters] dsl: MLVPN 2.x reads 'udpport5060'; put it in double quotes, without blanks at its ends",
        ),
        (
            with_line('dsl = "ip[9] == 6"', "filters"),
            "8:7: [filters] dsl: MLVPN 2.x begins a section here, to which the next lines belong; "
            "it cannot have [ and ] in a value",
        ),
        (
            with_line("dsl = tcp port = 80", "filters"),
            "8:7: [filters] dsl: MLVPN 2.x ignores this line: it has a second = outside double quotes; "
            "put the value in double quotes",
        ),
        (GOOD.rstrip("\n"), "16:17: [dsl] fallback_only: MLVPN 2.x ignores this line: it has no line end; add one"),
        (
            GOOD.replace('"correct horse"', '" correct horse "'),
            "3:12: [general] password: MLVPN 2.x reads another text, with blanks left out; "
            "put it in double quotes, without blanks at its ends",
        ),
        (
            GOOD.replace('"correct horse"', '"cörrect"'),
            "3:12: [general] password: MLVPN 2.x ignores this line: it has a character that is not ASCII; "
            "write it with ASCII only",
        ),
        (
            GOOD.replace("timeout = ", "timeout\t= "),
            r"4:11: [general] timeout: MLVPN 2.x reads the key 'timeout\t'; put no tab beside =",
        ),
        (
            GOOD.replace("[dsl]", "[ dsl ]"),
            "9:2: [dsl] MLVPN 2.x reads the name ' dsl '; write the name without blanks around it",
        ),
        (
            with_line("loss_tolerance = 30").replace("loss_tolerence = 30\n", ""),
            "10:18: [dsl] loss_tolerance: MLVPN 2.x does not know this key and ignores it; write loss_tolerence",
        ),
        (
            with_line("protocol = mlvpn1", "general"),
            "2:12: [general] protocol: MLVPN 2.x does not know this key and ignores it",
        ),
        (
            GOOD.replace("cleartext_data = 1", "cleartext_data = yes"),
            "5:18: [general] cleartext_data: MLVPN 2.x reads 0, which is off; write 1",
        ),
        (
            GOOD.replace("61440", "20Mbit"),
            "13:20: [dsl] bandwidth_upload: MLVPN 2.x reads 20 bytes per second; write 2500000",
        ),
        (
            GOOD.replace("timeout = 10", "timeout = 2min"),
            "4:11: [general] timeout: MLVPN 2.x reads 2 seconds; write 120",
        ),
        (
            GOOD.replace("= 300", "= 0.3s"),
            "15:21: [dsl] latency_tolerence: MLVPN 2.x reads 0 milliseconds; write 300",
        ),
        (
            GOOD.replace("= 30\n", "= 2.5%\n"),
            "14:18: [dsl] loss_tolerence: MLVPN 2.x reads 2 percent; write 2",
        ),
        (
            GOOD.replace('password = "correct horse"\n', ""),
            "1:2: [general] MLVPN 2.x does not start without password; add one",
        ),
    ],
)
def test_each_quirk(text: str, expected: str) -> None:
    assert notes(text) == [expected]


@pytest.mark.parametrize("value", ['" tcp"', '"tcp "', '"  tcp  "'])
def test_blanks_at_the_ends_of_a_value_are_lost_even_in_double_quotes(value: str) -> None:
    [note] = notes(with_line(f"dsl = {value}", "filters"))
    assert "MLVPN 2.x reads 'tcp'; " in note


def test_a_link_above_general_is_read_without_it() -> None:
    general, rest = GOOD.split("[filters]")
    assert notes("[filters]" + rest + general) == [
        "3:2: [dsl] MLVPN 2.x reads this link as a client's and without what [general] sets; move [general] above it"
    ]


def test_a_unit_that_changes_nothing_is_no_difference() -> None:
    assert notes(GOOD.replace("timeout = 10", "timeout = 10s")) == []


def test_off_is_off_in_both() -> None:
    assert notes(with_line("loss_tolerence = 250", "general")) == []
    assert notes(with_line("cleartext_data = off", "general").replace("cleartext_data = 1\n", "")) == []


def test_the_password_is_never_shown() -> None:
    for value in ("hush hush", '"a[hush]b"', '" hush "', "hush = hush", '"hush é"'):
        text = "".join(notes(GOOD.replace('"correct horse"', value)))
        assert text
        assert "hush" not in text


def test_what_the_other_end_must_say() -> None:
    assert agreement(parse(GOOD, "t")) == [
        "mode = server",
        "password: the same",
        "cleartext_data = 1",
        "tuntap = tun",
        "mtu = 1432",
        "the link for dsl: bindport = 5080, fallback_only = 0, loss_tolerence = 30, latency_tolerence = 300",
    ]
    server = parse("[general]\nmode = server\npassword = x\n[a]\nbindport = 5081\nfallback_only = 1\n", "t")
    assert agreement(server)[0] == "mode = client"
    assert agreement(server)[-1].startswith("the link for a: remoteport = 5081, fallback_only = 1, ")


pieces = st.sampled_from(
    ["[general]", "timeout", "[x]", "[", "]", "=", '"', "#", " ", "\n", "\r", "\t", "1", "10ms", "é"]
)


@given(st.one_of(st.text(), st.lists(pieces, max_size=60).map("".join)))
def test_any_text_can_be_compared(text: str) -> None:
    for line in differences(text, "t"):
        assert line.startswith("t:")


safe = st.text("abcdefghijklmnopqrstuvwxyz0123456789.:/-", min_size=1, max_size=20)


@given(st.dictionaries(st.sampled_from(["ip4", "statuscommand", "interface_name", "password"]), safe, min_size=1))
def test_quoted_plain_ascii_is_always_read_alike(settings: dict[str, str]) -> None:
    body = "".join(f'{key} = "{value}"\n' for key, value in settings.items())
    assert [line for line in notes("[general]\n" + body) if "password" not in line] == []
