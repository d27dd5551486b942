"""The life of a tunnel as real processes: who runs as whom, how each ends, reload, the script, the control socket.

Each test has a network namespace of its own with a server and a client daemon joined by two addresses of its loopback.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlvpn.system.privileges import RUN_DIRECTORY

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="needs /dev/net/tun"),
]

MLVPN = [sys.executable, "-m", "mlvpn"]
WAIT_S = 10.0
CLONE_NEWNET = 0x40000000

SERVER = """
[general]
statuscommand = "{script}"
mode = "server"
interface_name = "mlvpn0"
ip4 = "10.8.0.2/24"
mtu = 1400
password = "correct horse battery staple"
[link1]
bindhost = "10.3.1.2"
bindport = 5081
[link2]
bindhost = "10.3.2.2"
bindport = 5082
"""
CLIENT = """
[general]
mode = "client"
interface_name = "mlvpn1"
password = "correct horse battery staple"
[link1]
bindhost = "10.3.1.1"
remotehost = "10.3.1.2"
remoteport = 5081
[link2]
bindhost = "10.3.2.1"
remotehost = "10.3.2.2"
remoteport = 5082
"""
SCRIPT = """#!/bin/sh
echo "DEVICE=$DEVICE IP4=$IP4 IP4_GATEWAY=$IP4_GATEWAY IP4_ROUTES=$IP4_ROUTES IP6=$IP6 IP6_GATEWAY=$IP6_GATEWAY\
 IP6_ROUTES=$IP6_ROUTES MTU=$MTU args: $*" >>{calls}
"""


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Poll until the condition holds, and return its value."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    pytest.fail(f"waited {WAIT_S} s in vain for: {what}")


class Daemon:
    """One daemon: two processes."""

    def __init__(self, name: str, config: Path, *options: str) -> None:
        self.name = name
        self.config = config
        self._log = config.with_suffix(".log")
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        command = [*MLVPN, "run", str(config), "-n", name, "--debug", "-v", *options]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_bytes()[self._log_start :].decode()

    @property
    def worker(self) -> int:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return int(wait_for(lambda: children.read_text().split(), "the worker")[0])

    @property
    def socket_path(self) -> Path:
        return RUN_DIRECTORY / f"{self.name}.sock"

    def ask(self, command: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_S)
            client.connect(str(self.socket_path))
            client.sendall(f"v1 {command}\n".encode())
            answer: dict[str, Any] = json.loads(client.makefile().readline())
            return answer

    def wait_running(self) -> None:
        wait_for(lambda: " runs as " in self.log or self.process.poll() is not None, f"{self.name} to run")
        assert self.process.poll() is None, self.log

    def wait_up(self, *links: str) -> None:
        self.wait_running()
        states = lambda: {link["name"] for link in self.ask("status")["links"] if link["state"] == "up"}  # noqa: E731
        wait_for(lambda: states() == set(links), f"{self.name}: {links} up")

    def wait_exit(self) -> int:
        return self.process.wait(WAIT_S)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Place:
    """A network namespace (this process is in it for the test) and a directory."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.calls = directory / "calls"
        self.script = directory / "script"
        self.script.write_text(SCRIPT.format(calls=self.calls))
        self.script.chmod(0o700)
        self._directory = directory
        self._stack = stack

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self._directory / f"{name}.conf"
        path.write_text(text.format(script=self.script))
        path.chmod(mode)
        return path

    def start(self, name: str, text: str, *options: str) -> Daemon:
        daemon = Daemon(f"{name}{os.getpid()}", self.write(name, text), *(options or ("-u", "nobody")))
        self._stack.callback(daemon.stop)
        return daemon

    def script_calls(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as stack:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        stack.callback(os.close, home)
        assert libc.unshare(CLONE_NEWNET) == 0
        stack.callback(libc.setns, home, CLONE_NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in ("10.3.1.1", "10.3.1.2", "10.3.2.1", "10.3.2.2"):
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        yield Place(tmp_path, stack)


@pytest.fixture
def pair(place: Place) -> tuple[Daemon, Daemon]:
    server, client = place.start("srv", SERVER), place.start("cli", CLIENT)
    server.wait_up("link1", "link2")
    client.wait_up("link1", "link2")
    return server, client


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_the_worker_has_nothing_left_to_lose(pair: tuple[Daemon, Daemon]) -> None:
    worker = pair[0].worker
    status = status_of(worker)
    assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0, capabilities
    assert status["NoNewPrivs"] == "1"
    assert list(Path(f"/proc/{worker}/root/").iterdir()) == []


def test_nothing_is_imported_after_the_chroot(pair: tuple[Daemon, Daemon]) -> None:
    server, client = pair
    server.ask("status")
    server.ask("reload")
    server.ask("no such thing")
    client.stop()
    wait_for(lambda: "the peer ended the tunnel" in server.log, "the server to notice")
    assert server.ask("stop") == {"schema": 1, "stopping": True}
    assert server.wait_exit() == 0
    assert "imported after" not in server.log + client.log


def test_titles_tell_the_links_newest_first(pair: tuple[Daemon, Daemon]) -> None:
    server, client = pair

    def title(pid: int) -> str:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")

    assert title(server.pid) == f"mlvpn: {server.name} [priv]"
    wait_for(lambda: title(server.worker) == f"mlvpn: {server.name} @link2 @link1", "both links up in the title")
    client.stop()
    wait_for(lambda: title(server.worker) == f"mlvpn: {server.name} !link2 !link1", "both links down in the title")


def test_natural_titles_are_left_alone(place: Place) -> None:
    daemon = place.start("srv", SERVER, "-u", "nobody", "--natural-title")
    daemon.wait_running()
    assert "-m" in Path(f"/proc/{daemon.worker}/cmdline").read_text()


def test_when_the_worker_is_killed_the_parent_ends_and_says_so(pair: tuple[Daemon, Daemon]) -> None:
    server, _ = pair
    os.kill(server.worker, signal.SIGKILL)
    assert server.wait_exit() == 1
    assert "the worker process was killed by SIGKILL" in server.log
    assert not server.socket_path.exists()


def test_when_the_parent_is_killed_the_worker_ends(pair: tuple[Daemon, Daemon]) -> None:
    server, client = pair
    worker = server.worker
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not Path(f"/proc/{worker}").exists() or status_of(worker)["State"][0] == "Z", "the worker to end")
    assert "the privileged process is gone" in server.log
    wait_for(lambda: "the peer ended the tunnel" in client.log, "the peer to be told")
    again = Daemon(server.name, server.config, "-u", "nobody")  # the socket file left behind is no obstacle
    try:
        again.wait_running()
    finally:
        again.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_it_well(pair: tuple[Daemon, Daemon], number: signal.Signals) -> None:
    server, client = pair
    os.kill(client.pid, number)
    assert client.wait_exit() == 0
    assert not client.socket_path.exists()
    wait_for(lambda: "the peer ended the tunnel" in server.log, "the peer to be told")


def test_a_bad_configuration_keeps_the_old_one(pair: tuple[Daemon, Daemon]) -> None:
    server, _ = pair
    with server.config.open("a") as file:
        file.write("bindprot = 5083\n")
    os.kill(server.pid, signal.SIGHUP)
    wait_for(lambda: "the configuration stays as it was" in server.log, "the refusal")
    assert re.search(r"srv\.conf:\d+:1: error: \[link2\] bindprot: .*did you mean bindport", server.log)
    server.wait_up("link1", "link2")
    server.config.chmod(0o644)
    answer = server.ask("reload")
    assert answer["exit_code"] == 78 and "chmod 600" in answer["error"]


def test_reload_applies_the_difference(pair: tuple[Daemon, Daemon]) -> None:
    server, client = pair
    server.config.write_text(server.config.read_text().replace("5082", "5083"))
    client.config.write_text(client.config.read_text().replace("5082", "5083"))
    os.kill(server.pid, signal.SIGHUP)
    wait_for(lambda: "link link2 restarted: bindport changed" in server.log, "the server's reload")
    assert client.ask("reload")["changes"] == ["link link2 restarted: remoteport changed"]
    wait_for(lambda: "socket 10.3.2.2:5083" in server.log, "the new port")
    server.wait_up("link1", "link2")
    server.config.write_text(server.config.read_text().partition("[link2]")[0])
    assert server.ask("reload")["changes"] == ["link link2 removed"]
    server.wait_up("link1")


def test_new_keys_begin_anew(pair: tuple[Daemon, Daemon]) -> None:
    for daemon in pair:
        daemon.config.write_text(daemon.config.read_text().replace("battery", "cell"))
    server, client = pair
    assert server.ask("reload")["changes"] == ["[general] password changed"]
    assert client.ask("reload")["changes"] == ["[general] password changed"]
    wait_for(lambda: server.log.count("peer authenticated") == 2, "the tunnel with the new password")
    client.wait_up("link1", "link2")


@pytest.mark.skipif(not Path("/etc/services").exists(), reason="needs names of ports: apt install netbase")
@pytest.mark.parametrize("protocol", ["native", "mlvpn1"])
def test_filters_are_compiled_by_the_parent_and_run_by_the_worker(place: Place, protocol: str) -> None:
    rules = '\n[filters]\nlink2 = "udp port sip"\n'
    general = f"[general]\nprotocol = {protocol}"
    server = place.start("srv", SERVER.replace("[general]", general) + rules)
    client = place.start("cli", CLIENT.replace("[general]", general) + rules)
    server.wait_up("link1", "link2")
    client.wait_up("link1", "link2")
    for command in ("ip address add 10.8.0.1/24 dev mlvpn1", "ip link set mlvpn1 up"):
        subprocess.run(command.split(), check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in (5060, 5061, 5060):
            sender.sendto(b"?", ("10.8.0.77", port))
    wait_for(lambda: client.ask("status")["counters"]["filtered_packets"] == 2, "the packets that match")
    with client.config.open("a") as file:
        file.write('link1 = "udp port no-such-port"\n')
    answer = client.ask("reload")
    assert answer["exit_code"] == 78 and "cli.conf:18:9: error: [filters] link1:" in answer["error"]
    assert "imported after" not in server.log + client.log


def test_the_script_is_called_as_mlvpn_calls_it(place: Place) -> None:
    server = place.start("srv", SERVER)
    server.wait_running()
    client = place.start("cli", CLIENT.partition("[link2]")[0])
    server.wait_up("link1")
    with client.config.open("a") as file:
        file.write("[link2]" + CLIENT.partition("[link2]")[2])
    client.ask("reload")
    server.wait_up("link1", "link2")
    client.stop()
    expected = ["rtun_up link1", "tuntap_up", "rtun_up link2", "rtun_down link1", "rtun_down link2", "tuntap_down"]
    wait_for(lambda: len(place.script_calls()) == len(expected), "all script calls")
    environment = "DEVICE=mlvpn0 IP4=10.8.0.2/24 IP4_GATEWAY= IP4_ROUTES= IP6= IP6_GATEWAY= IP6_ROUTES= MTU=1400"
    assert place.script_calls() == [f"{environment} args: mlvpn0 {words}" for words in expected]


def test_the_end_calls_the_script_down_and_waits_for_it(place: Place) -> None:
    server, client = place.start("srv", SERVER), place.start("cli", CLIENT)
    server.wait_up("link1", "link2")
    client.wait_up("link1", "link2")
    server.stop()
    assert [call.split()[-1] for call in place.script_calls()][-3:] == ["link1", "link2", "tuntap_down"]


def test_a_slow_script_does_not_stop_the_traffic(place: Place) -> None:
    place.script.write_text("#!/bin/sh\nwhile [ ! -e $0.go ]; do sleep 0.1; done\n" + place.script.read_text()[10:])
    server, client = place.start("srv", SERVER), place.start("cli", CLIENT)
    server.wait_up("link1", "link2")
    client.wait_up("link1", "link2")
    assert place.script_calls() == []
    Path(f"{place.script}.go").touch()
    wait_for(lambda: len(place.script_calls()) == 3, "the calls to be made")


@pytest.mark.parametrize("mode", [0o755, 0o600])
def test_a_script_others_may_use_is_refused(place: Place, mode: int) -> None:
    place.script.chmod(mode)
    daemon = place.start("srv", SERVER)
    assert daemon.wait_exit() == 78
    assert f"chmod 700 {place.script}" in daemon.log


def test_a_broken_configuration_is_exit_78_with_every_problem(place: Place) -> None:
    daemon = place.start("srv", "[general]\nmode = servant\n[link1]\nbindport = none\n")
    assert daemon.wait_exit() == 78
    assert daemon.log.count("error:") == 3 and "Traceback" not in daemon.log


def test_two_daemons_cannot_have_one_name(pair: tuple[Daemon, Daemon]) -> None:
    server, _ = pair
    second = Daemon(server.name, server.config, "-u", "nobody")
    assert second.wait_exit() == 1
    assert "mlvpn0: Device or resource busy; another process uses it" in second.log
    server.wait_up("link1", "link2")


def test_as_root_it_needs_to_be_told(place: Place) -> None:
    daemon = place.start("srv", SERVER, "-u", "root")
    assert daemon.wait_exit() == 2
    assert "--yes-run-as-root" in daemon.log


def test_as_root_when_told(place: Place) -> None:
    daemon = place.start("srv", SERVER, "--yes-run-as-root")
    daemon.wait_running()
    assert status_of(daemon.worker)["Uid"].split() == ["0"] * 4
    assert "running as root, as asked" in daemon.log


def test_a_link_waits_for_its_address_and_comes_by_itself(place: Place) -> None:
    subprocess.run(["ip", "address", "del", "10.3.2.1/32", "dev", "lo"], check=True)
    place.start("srv", SERVER)
    client = place.start("cli", CLIENT)
    client.wait_up("link1")
    wait_for(lambda: "link link2: cannot bind to 10.3.2.1" in client.log, "the reason in the log")
    subprocess.run(["ip", "address", "add", "10.3.2.1/32", "dev", "lo"], check=True)
    client.wait_up("link1", "link2")
    subprocess.run(["ip", "address", "del", "10.3.2.1/32", "dev", "lo"], check=True)
    wait_for(lambda: "link link2 is down: address 10.3.2.1 is gone" in client.log, "the loss to be noticed")


def test_the_control_socket_is_the_owners_and_clients_cannot_stall_it(pair: tuple[Daemon, Daemon]) -> None:
    server, _ = pair
    assert server.socket_path.stat().st_mode & 0o777 == 0o600
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(10)]
        for client in idle:
            client.connect(str(server.socket_path))
            client.sendall(b"stat")
        snapshot = server.ask("status")
    assert (snapshot["schema"], snapshot["mode"], snapshot["pid"]) == (1, "server", server.pid)
