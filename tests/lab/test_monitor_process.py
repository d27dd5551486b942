"""HTTP as a process of its own: who it is, what it answers, and that the tunnel does not care what becomes of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from test_daemon_life import CLIENT, SERVER, Daemon, Place, place, status_of, wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="needs /dev/net/tun"),
]
__all__ = ["place"]

WITH_HTTP = SERVER.replace("[general]", "[general]\ncontrol_bind_port = 80")


@pytest.fixture
def server(place: Place) -> Daemon:
    """A server that has a client, and serves HTTP on a port that only root can open."""
    daemon, client = place.start("srv", WITH_HTTP), place.start("cli", CLIENT)
    daemon.wait_up("link1", "link2")
    client.wait_up("link1", "link2")
    wait_for(lambda: answers("/status"), "the first answer")
    return daemon


def fetch(path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1{path}", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def answers(path: str) -> bool:
    try:
        return bool(fetch(path))
    except OSError:
        return False


def monitor_of(daemon: Daemon) -> int:
    def found() -> list[int]:
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        return [int(pid) for pid in children if "[monitor]" in Path(f"/proc/{pid}/cmdline").read_text()]

    return int(wait_for(found, "the monitor")[0])


def test_it_answers_in_all_forms_from_an_empty_root(server: Daemon) -> None:
    assert [link["status"] for link in json.loads(fetch("/status"))["tunnels"]] == ["connected", "connected"]
    assert 'connected{tunnel="link1"} 1\n' in fetch("/metrics")
    document = json.loads(fetch("/v1/status"))
    assert document.keys() == server.ask("status").keys() and document["name"] == server.name
    assert f'mlvpn_link_sent_bytes_total{{link="link1",tunnel="{server.name}"}}' in fetch("/v1/metrics")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch("/nope")
    assert "imported after" not in server.log and "Traceback" not in server.log


def test_it_has_nothing_to_lose(server: Daemon) -> None:
    monitor = monitor_of(server)
    status = status_of(monitor)
    assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert list(Path(f"/proc/{monitor}/root/").iterdir()) == []
    assert Path(f"/proc/{monitor}/cmdline").read_text().rstrip("\0 ") == f"mlvpn: {server.name} [monitor]"


def test_nobody_else_carries_the_http_server(server: Daemon) -> None:
    assert "aiohttp" in Path(f"/proc/{monitor_of(server)}/maps").read_text()
    for pid in (server.pid, server.worker):
        assert "aiohttp" not in Path(f"/proc/{pid}/maps").read_text()


def test_when_it_dies_the_tunnel_lives_and_another_takes_its_place(server: Daemon) -> None:
    first, worker = monitor_of(server), server.worker
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: "the monitor process ended with -9: no HTTP for 1 s" in server.log, "the log")
    server.wait_up("link1", "link2")
    wait_for(lambda: answers("/v1/status"), "HTTP again")
    assert monitor_of(server) != first and server.worker == worker


def test_while_it_hangs_and_its_port_is_flooded_the_tunnel_answers(server: Daemon) -> None:
    monitor = monitor_of(server)
    os.kill(monitor, signal.SIGSTOP)
    clients = [socket.socket() for _ in range(50)]
    try:
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", 80))
        server.wait_up("link1", "link2")
    finally:
        for client in clients:
            client.close()
        os.kill(monitor, signal.SIGCONT)
    wait_for(lambda: answers("/status"), "HTTP again")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_tunnel(server: Daemon, number: signal.Signals) -> None:
    monitor = monitor_of(server)
    os.kill(server.pid, number)
    server.wait_exit()
    gone = lambda: not Path(f"/proc/{monitor}").exists() or status_of(monitor)["State"][0] == "Z"  # noqa: E731
    wait_for(gone, "the monitor to end")
    assert "the monitor process ended" not in server.log


def test_a_port_that_is_taken_is_said_before_anything_starts(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 80)):
        daemon = place.start("srv", WITH_HTTP)
        assert daemon.wait_exit() == 1
    assert "cannot serve HTTP on 127.0.0.1:80: Address already in use; set control_bind_host" in daemon.log


def test_without_a_port_there_is_no_such_process(place: Place) -> None:
    daemon = place.start("srv", SERVER)
    daemon.wait_running()
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    assert children == [str(daemon.worker)]
