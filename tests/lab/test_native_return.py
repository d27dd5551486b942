"""How a native tunnel begins, fails to begin, and comes back: restarts of either end, another source port.

Pings every 20 ms tell how long it was silent. What is measured is printed (``pytest -s``).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from relay import Relay

from mlvpn.lab.daemons import Daemon, Tunnel
from mlvpn.lab.measure import EchoProbes, TcpTransfer
from mlvpn.lab.topology import Lab, LinkSpec

pytestmark = pytest.mark.root

BACK_S = 2.0
START_S = 3.0
"""Twice what is aimed at, for a machine that is busy; the figure is printed."""
WORKER_BYTES = 60_000_000
ALONE_S = 2.5
"""A client that has found nobody for so long tries once a second."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab([LinkSpec("a"), LinkSpec("b")]) as lab:
        yield lab


def longest_silence_s(lab: Lab, tunnel: Tunnel, happen: Callable[[], None]) -> float:
    """Let something happen; return the longest time without an answer from then on."""
    probes = EchoProbes(lab.client, tunnel.address("server"), seconds=20)
    time.sleep(0.3)
    since_ns = time.monotonic_ns()
    happen()
    time.sleep(max(0.0, BACK_S + 0.2 - (time.monotonic_ns() - since_ns) / 1e9))
    end_ns = time.monotonic_ns()
    answers = (sent_ns + rtt_ns for sent_ns, rtt_ns in probes.stop().probes if rtt_ns is not None)
    times = [since_ns, *sorted(at_ns for at_ns in answers if since_ns < at_ns < end_ns), end_ns]
    return max(later - earlier for earlier, later in itertools.pairwise(times)) / 1e9


@pytest.mark.parametrize("end", ["client", "server"])
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_restart(lab: Lab, tunnel: Tunnel, end: str, killed: bool) -> None:
    daemon: Daemon = getattr(tunnel, end)

    def restart() -> None:
        if killed:
            daemon.kill()
        daemon.restart()

    silence_s = longest_silence_s(lab, tunnel, restart)
    print(f"{end} {'killed' if killed else 'stopped'} and started again: silent for {silence_s:.2f} s")
    assert silence_s < BACK_S


def test_a_server_that_starts_after_its_client(lab: Lab, tunnel: Tunnel) -> None:
    tunnel.server.stop()
    tunnel.client.restart()
    time.sleep(ALONE_S)
    silence_s = longest_silence_s(lab, tunnel, tunnel.server.restart)
    print(f"server started after the client: traffic after {silence_s:.2f} s")
    assert silence_s < BACK_S


def test_another_source_port(lab: Lab, tunnel: Tunnel, relay: Relay) -> None:
    silence_s = longest_silence_s(lab, tunnel, relay.change_source_port)
    print(f"another source port: silent for {silence_s:.2f} s")
    assert silence_s < BACK_S
    (link,) = tunnel.server.status()["links"]
    assert link["remote"].endswith(f":{relay.source_port}")
    assert f"the peer is now at {link['remote']}" in tunnel.server.log_path.read_text()


class Unready(Tunnel):
    """A tunnel that nobody waits for."""

    def wait_ready(self) -> None:
        pass


def test_a_wrong_password_is_one_line_at_each_end(lab: Lab) -> None:
    started_s = time.monotonic()
    with Unready(lab, links=["b"], ends={"client": {"password": "another one"}}, number=1) as tunnel:
        ends = (tunnel.client, tunnel.server)
        while not all(warnings_of(end) for end in ends) and time.monotonic() < started_s + 10:
            time.sleep(0.05)
        print(f"both ends have said what is wrong after {time.monotonic() - started_s:.1f} s")
        time.sleep(2)
        for end, hint in zip(ends, ("the password the same", "is the password"), strict=True):
            (warning,) = warnings_of(end)
            assert hint in warning
            assert len(end.log_path.read_text().splitlines()) <= 5
            status = end.status()
            assert status["cipher"] is None
            assert all(link["state"] != "up" for link in status["links"])
        assert status["drops"]["handshake_bad_mac1"] > 3


def warnings_of(daemon: Daemon) -> list[str]:
    return [line for line in daemon.log_path.read_text().splitlines() if "[INFO" not in line]


def test_the_log_tells_each_change_once(lab: Lab) -> None:
    with Tunnel(lab, number=5) as tunnel:
        wait_for_state(tunnel.client, "b", "up")
        assert warnings_of(tunnel.client) == []
        lab.client.ip("link set dev b down")
        wait_for_state(tunnel.client, "b", "down")
        lab.client.ip("link set dev b up")
        wait_for_state(tunnel.client, "b", "up")
    (warning,) = warnings_of(tunnel.client)
    assert "link b is down: interface b is down or gone" in warning
    lines = [line.split("] ", 1)[1] for line in tunnel.client.log_path.read_text().splitlines()]
    assert sorted(line for line in lines if " is up" in line) == ["link a is up", "link b is up", "link b is up"]
    assert lines[-3:] == ["link a is down: stopped", "link b is down: stopped", f"{lab.prefix}-5-client has ended"]


def wait_for_state(daemon: Daemon, name: str, state: str) -> None:
    deadline_s = time.monotonic() + 10
    while state not in [link["state"] for link in daemon.status()["links"] if link["name"] == name]:
        assert time.monotonic() < deadline_s, f"link {name} is not {state}: {daemon.status()['links']}"
        time.sleep(0.05)


def test_start_and_memory_are_small(lab: Lab) -> None:
    start_s = []
    for number in (2, 3, 4):
        began_s = time.monotonic()
        with Tunnel(lab, number=number) as tunnel:
            start_s.append(time.monotonic() - began_s)
            TcpTransfer(lab.client, lab.server, tunnel.address("server"), seconds=1).wait()
            memory_bytes = max(resident_bytes(end.status()["worker_pid"]) for end in (tunnel.client, tunnel.server))
    shown = ", ".join(f"{seconds:.2f}" for seconds in start_s)
    print(f"start of both ends to the first answered ping: {shown} s; worker: {memory_bytes / 1e6:.0f} MB")
    assert min(start_s) <= START_S
    assert memory_bytes <= WORKER_BYTES


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
