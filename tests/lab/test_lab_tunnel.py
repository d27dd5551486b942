"""The lab with real daemons: a scenario from end to end, two tunnels on the same links, one that does not start."""

from __future__ import annotations

import io
import json
import tomllib

import pytest
from rich.console import Console

from mlvpn.errors import SystemFailure
from mlvpn.lab.daemons import Tunnel
from mlvpn.lab.measure import EchoProbes, TcpReport
from mlvpn.lab.play import describe, play
from mlvpn.lab.scenario import parse_scenario
from mlvpn.lab.topology import Lab, LinkSpec

pytestmark = pytest.mark.root

SCENARIO = """
seconds = 5
[[link]]
name = "one"
rate = "20Mbit"
delay = "8ms"
[[link]]
name = "two"
rate = "10Mbit"
delay = "12ms"
[tunnel]
timeout = "5s"
[[event]]
at = "3s"
link = "one"
direction = "down"
action = "cut"
"""


def test_a_scenario_from_end_to_end() -> None:
    screen = io.StringIO()
    outcome = play(parse_scenario(tomllib.loads(SCENARIO), "test"), Console(file=screen, width=200))
    assert isinstance(outcome.traffic, TcpReport)
    assert outcome.traffic.broken_flows == 0
    assert outcome.traffic.rate_bps(1, 3) > 12_000_000  # more than a half of the two
    assert outcome.links["one/down"]["is_cut"] and not outcome.links["one/up"]["is_cut"]
    assert all(seconds > 0.05 for seconds in outcome.daemon_cpu_seconds.values())
    assert "after 3 s: one down cut" in screen.getvalue()
    assert json.loads(json.dumps(outcome.to_json()))["pings"]["probes"]
    assert any(line.startswith("tcp: ") for line in describe(outcome))


def test_two_tunnels_on_the_same_links_over_either_family() -> None:
    links = [LinkSpec("a", rate_bps=20_000_000, delay_ns=5_000_000), LinkSpec("b")]
    with Lab(links) as lab, Tunnel(lab) as first, Tunnel(lab, number=1, family=6) as second:
        for tunnel in (first, second):
            for family in (4, 6):
                assert EchoProbes(lab.client, tunnel.address("server", family), seconds=0.2).wait().lost == 0
        assert first.client.memory_bytes() > 1_000_000
        pids = first.client.processes()
    assert len(pids) >= 2
    assert (first.client.exit_code(), second.server.exit_code()) == (0, 0)


def test_a_daemon_that_does_not_start_is_told_with_its_last_words() -> None:
    def broken(_config: object, name: str) -> list[str]:
        return ["sh", "-c", f"echo {name} has had enough >&2; exit 7"]

    with (
        Lab([LinkSpec("a")]) as lab,
        pytest.raises(SystemFailure, match=r"no ping went through(.|\n)*exit code 7(.|\n)*has had enough"),
        Tunnel(lab, command=broken),
    ):
        pass
