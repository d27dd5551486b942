"""A tunnel between client and server: configuration files written, real daemons started, waited for, and ended.

    with Lab(links) as lab, Tunnel(lab) as tunnel:
        TcpTransfer(lab.client, lab.server, tunnel.address("server"), seconds=10)

The daemons are whatever ``command`` starts: ours by default, any program that reads MLVPN's configuration files and
options otherwise. The lab knows them only by their files, their processes and what they print. Files are in the lab's
directory: ``NAME-client.conf``, ``NAME-client.log``, ``NAME-status.sh`` and so on.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mlvpn.errors import SystemFailure
from mlvpn.lab.host import Host, is_alive
from mlvpn.lab.measure import Tool
from mlvpn.lab.topology import Lab

PASSWORD = "correct horse battery staple"
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
LOG_TAIL_BYTES = 3000
FIRST_PORT = 5080
ENDS = ("client", "server")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

STATUS_SCRIPT = """\
#!/bin/sh
# Gives the tunnel's interface its addresses and routes when the first link is up.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
[ "$2" = tuntap_up ] || exit 0
ip link set dev "$1" mtu "$MTU" up
[ -z "$IP4" ] || ip addr replace "$IP4" dev "$1"
[ -z "$IP6" ] || ip addr replace "$IP6" dev "$1" nodad
for route in $IP4_ROUTES $IP6_ROUTES; do ip route replace "$route" dev "$1"; done
"""

Command = Callable[[Path, str], Sequence[str]]
"""Turns a configuration file and a name into the command line of a daemon."""
Settings = Mapping[str, str | int]


def our_daemon(config: Path, name: str) -> list[str]:
    """Return the command line of this project's daemon."""
    return [sys.executable, "-m", "mlvpn", "-c", str(config), "-u", "nobody", "-n", name, "--debug"]


class Daemon:
    """One running daemon with all its processes."""

    def __init__(self, host: Host, argv: Sequence[str], log_path: Path, control_path: Path) -> None:
        """Start it."""
        self._host = host
        self._argv = argv
        self._control_path = control_path
        self.log_path = log_path
        self._start()

    def _start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = self._host.spawn(self._argv, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        """Process id of the parent."""
        return self._process.pid

    def processes(self) -> list[int]:
        """Return the ids of the parent and everything it started, parents first."""
        pids = [self.pid]
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                pids += [int(child) for child in task.read_text().split()]
        return pids

    def cpu_seconds(self) -> float:
        """Return user and system time of all its processes, the ended ones too."""
        return sum(sum(stat_fields(pid)[11:15]) for pid in self.processes()) / CLOCK_TICKS

    def memory_bytes(self) -> int:
        """Return the resident memory of all its processes; shared pages count in each."""
        return sum(stat_fields(pid)[21] for pid in self.processes()) * os.sysconf("SC_PAGE_SIZE")

    def status(self) -> dict[str, Any]:
        """Ask its control socket for the status snapshot."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(STOP_TIMEOUT_S)
            sock.connect(str(self._control_path))
            sock.sendall(b"v1 status\n")
            answer: dict[str, Any] = json.loads(sock.makefile().readline())
        return answer

    def log_tail(self) -> str:
        """Return the end of what it has printed."""
        return self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()

    def exit_code(self) -> int | None:
        """Return how it ended, None while it runs."""
        return self._process.poll()

    def reload(self) -> None:
        """Send HUP."""
        os.kill(self.pid, signal.SIGHUP)

    def stop(self) -> int:
        """End it by TERM, by force when that does not help; return its exit code."""
        pids = self.processes()
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        for pid in pids:
            end_of(pid)
        return self._process.wait()

    def kill(self) -> None:
        """End all its processes with -9."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Stop and start it again."""
        self.stop()
        self._start()


def stat_fields(pid: int) -> list[int]:
    """Return the numbers of /proc/PID/stat from the parent's id on (index 0 stands for field 3, the state).

    A process that is gone has used nothing: its parent has its times.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return [0] * 50
    return [0, *map(int, text.rpartition(")")[2].split()[1:])]


def end_of(pid: int) -> None:
    """Wait until a process that is about to end has ended."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_alive(pid) and stat_fields(pid)[1] and time.monotonic() < deadline:
        time.sleep(0.01)


class Tunnel:
    """A daemon at each end of the links; a context manager whose traffic flows when it is entered."""

    client: Daemon
    server: Daemon

    def __init__(
        self,
        lab: Lab,
        *,
        links: Sequence[str] | None = None,
        general: Settings | None = None,
        ends: Mapping[str, Settings] | None = None,
        link_settings: Mapping[str, Settings] | None = None,
        command: Command = our_daemon,
        number: int = 0,
        family: int = 4,
    ) -> None:
        """Plan a tunnel over some or all links of a lab.

        ``general`` holds for both ends, ``ends`` for "client" or "server", ``link_settings`` for links by name; all are
        keys of MLVPN's configuration. ``number`` keeps several tunnels of one lab apart, ``family`` is that of the
        addresses outside.
        """
        self._lab = lab
        self.links = list(links if links is not None else lab.links)
        self._general = general or {}
        self._ends = ends or {}
        self._link_settings = link_settings or {}
        self._command = command
        self._number = number
        self._family = family
        self.interface = f"mlvpn{number}"

    def address(self, host: str, family: int = 4) -> str:
        """Return the address of "client" or "server" inside the tunnel."""
        end = ENDS.index(host) + 1
        return f"10.99.{self._number}.{end}" if family == 4 else f"fd99:{self._number:x}::{end}"

    def config_path(self, host: str) -> Path:
        """Return the configuration file of an end; it may be rewritten before a reload."""
        return self._lab.directory / f"{self.interface}-{host}.conf"

    def config_text(self, host: str) -> str:
        """Return the configuration of an end as text."""
        peer = ENDS[1 - ENDS.index(host)]
        sections = {
            "general": {
                "mode": host,
                "interface_name": self.interface,
                "password": PASSWORD,
                "statuscommand": str(self._script_path),
                "control_unix_path": str(self._control_path(host)),
                "mtu": 1432,
                "timeout": 10,
                "ip4": f"{self.address(host)}/24",
                "ip6": f"{self.address(host, 6)}/64",
                "ip4_gateway": self.address(peer),
                "ip6_gateway": self.address(peer, 6),
                **self._general,
                **self._ends.get(host, {}),
            },
            **{link: self._link_section(host, peer, link) for link in self.links},
        }
        return "\n".join(section_text(name, settings) for name, settings in sections.items())

    def _link_section(self, host: str, peer: str, link: str) -> Settings:
        port = FIRST_PORT + 100 * self._number + list(self._lab.links).index(link)
        section: dict[str, str | int] = {"bindhost": self._lab.address(host, link, self._family)}
        if host == "server":
            section["bindport"] = port
        else:
            section |= {"remotehost": self._lab.address(peer, link, self._family), "remoteport": port}
        return {**section, **self._link_settings.get(link, {})}

    @property
    def _script_path(self) -> Path:
        return self._lab.directory / f"{self.interface}-status.sh"

    def _control_path(self, host: str) -> Path:
        return self._lab.directory / f"{self.interface}-{host}.sock"

    def _write_files(self) -> None:
        write_private(self._script_path, STATUS_SCRIPT, 0o700)
        for host in ENDS:
            write_private(self.config_path(host), self.config_text(host), 0o600)

    def __enter__(self) -> Tunnel:
        """Start both daemons and wait until a ping has gone through."""
        self._write_files()
        try:
            self.server, self.client = self._start("server"), self._start("client")
            self.wait_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self, host: str) -> Daemon:
        argv = self._command(self.config_path(host), f"{self._lab.prefix}-{self._number}-{host}")
        log_path = self._lab.directory / f"{self.interface}-{host}.log"
        return Daemon(self._lab.host(host), argv, log_path, self._control_path(host))

    def wait_ready(self) -> None:
        """Wait until the far end has answered a ping through the tunnel."""
        ping = Tool(
            self._lab.client,
            "echo",
            self.address("server"),
            "--first",
            f"--seconds={READY_TIMEOUT_S}",
            "--interval-ms=50",
        )
        while ping.is_running and self._both_run():
            time.sleep(0.02)
        ping.stop()
        if not self._both_run() or not any(rtt_ns for _, rtt_ns in ping.wait(STOP_TIMEOUT_S)["probes"]):
            tails = (f"{name} (exit code {end.exit_code()}):\n{end.log_tail()}" for name, end in self._started())
            raise SystemFailure("no ping went through the tunnel; what the daemons said last:\n" + "\n".join(tails))

    def _both_run(self) -> bool:
        return self.client.exit_code() is None and self.server.exit_code() is None

    def _started(self) -> list[tuple[str, Daemon]]:
        return [(name, getattr(self, name)) for name in ENDS if hasattr(self, name)]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both daemons."""
        self._stop()

    def _stop(self) -> None:
        for _, daemon in self._started():
            daemon.stop()


def section_text(name: str, settings: Settings) -> str:
    """Return one section of a configuration file."""
    lines = (f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in settings.items())
    return "\n".join([f"[{name}]", *lines, ""])


def write_private(path: Path, text: str, mode: int) -> None:
    """Write a file that only its owner may use, never open to others in between."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
