"""Scenario files: what is read from them, and that each mistake is told with its place."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mlvpn.errors import ConfigError
from mlvpn.lab.scenario import Scenario, parse_scenario, read_scenario

MS = 1_000_000
EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "lab").glob("*.toml"))

GOOD = """
seconds = 20
seed = 3
[[link]]
name = "lte"
rate = "20Mbit"
delay = "15ms"
jitter = "5ms"
loss = "0.5%"
buffer = "800ms"
trace = [["0s", "20Mbit"], ["1s", "5Mbit"]]
up = { rate = "2Mbit", trace = [] }
[[link]]
name = "dsl"
mtu = 1492
ipv6 = false
[tunnel]
timeout = "5s"
[traffic]
kind = "udp"
direction = "up"
rate = "8Mbit"
size = "600B"
[[event]]
at = "9s"
link = "lte"
action = "heal"
[[event]]
at = "8.5s"
link = "lte"
direction = "up"
action = "change"
rate = "1Mbit"
loss = "3%"
"""


def parse(text: str) -> Scenario:
    """Read a scenario's text."""
    return parse_scenario(tomllib.loads(text), "x.toml")


def test_reads_everything() -> None:
    scenario = parse(GOOD)
    lte, dsl = scenario.links
    assert lte.channel("down").rate_bps == 20_000_000
    assert lte.channel("up").rate_bps == 2_000_000
    assert lte.channel("up").delay_ns == 15 * MS
    assert (lte.loss_ratio, lte.buffer_ns, lte.jitter_ns) == (0.005, 800 * MS, 5 * MS)
    assert lte.trace == ((0, 20_000_000), (1000 * MS, 5_000_000))
    assert (dsl.mtu, dsl.ipv6, dsl.is_emulated) == (1492, False, True)
    assert scenario.tunnel == {"timeout": "5s"}
    assert (scenario.traffic.kind, scenario.traffic.rate, scenario.traffic.size) == ("udp", 8_000_000, 600)
    assert [event.at_ns for event in scenario.events] == [8500 * MS, 9000 * MS]
    assert scenario.events[0].changes == {"rate_bps": 1_000_000, "loss_ratio": 0.03}
    assert (scenario.seconds, scenario.seed) == (20, 3)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_sound(path: Path) -> None:
    scenario = read_scenario(path)
    assert len(scenario.links) == 2 and scenario.events


def test_a_tunnel_is_the_default_and_can_be_left_out() -> None:
    assert parse('[[link]]\nname = "a"').tunnel == {}
    assert parse('tunnel = false\n[[link]]\nname = "a"').tunnel is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seconds = 5", "x.toml: error: link: there is none"),
        ('second = 5\n[[link]]\nname = "a"', "file.second: is not known"),
        ('seconds = "5"\n[[link]]\nname = "a"', "file.seconds: '5' is not a whole number above zero"),
        ('[[link]]\nrate = "5Mbit"', "link 1: has no name"),
        ('[[link]]\nname = "a"\nrate = 5', "link 1.rate: 5 has no unit"),
        ('[[link]]\nname = "a"\nrate = "5Mbits"', "link 1.rate: 'Mbits' is not a unit of rate"),
        ('[[link]]\nname = "a"\nrate = "0bit"', "link 1: a rate must be positive"),
        ('[[link]]\nname = "a"\nup = { delay = "1" , speed = 2 }', "link 1.up.speed: is not known"),
        ('[[link]]\nname = "a"\nup = 3', "link 1.up: must be a table"),
        ('[[link]]\nname = "a"\ntrace = ["5Mbit"]', "link 1.trace: "),
        ('[[link]]\nname = "far too long a name"', "link 1: link name 'far too long a name': use 1 to 13"),
        ('[[link]]\nname = "a"\n[[link]]\nname = "a"', "link: two links have the same name"),
        ("link = 5", "file.link: 5 is not of the type list"),
        ("link = [5]", "link 1: must be a table"),
        ('[[link]]\nname = "a"\n[traffic]\nkind = "sctp"', "traffic.kind: 'sctp' is not one of tcp, udp"),
        ('[[link]]\nname = "a"\n[[event]]\nlink = "a"\naction = "cut"', "event 1: has no at"),
        ('[[link]]\nname = "a"\n[[event]]\nlink = "b"\nat = "1s"\naction = "cut"', "event 1.link: 'b' is not one of a"),
        ('[[link]]\nname = "a"\n[[event]]\nlink = "a"\nat = "1s"\naction = "cut"\nrate = "5bit"', "its action is not"),
        ('tunnel = true\n[[link]]\nname = "a"', "file.tunnel: must be a table"),
    ],
)
def test_tells_what_is_wrong_and_where(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_tells_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('seconds = 0\n[[link]]\nname = "a"\ndelay = 1\n[[link]]\nname = "b"\nloss = "2"\nrate = "-1bit"')
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("link = 5 5")
    with pytest.raises(ConfigError, match=r"broken\.toml: error: is not TOML: .*line 1"):
        read_scenario(broken)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_scenario(tmp_path / "none.toml")
