"""What [priv] does as root, a method per request of ``privsep``: read this to know all that the worker can cause.

Owns the answers and what must be remembered between them: the script, the ports of the configuration, the control
socket. Does not check states: ``privsep.PrivilegedEnd`` did. Paths, names and addresses come from the configuration,
but by way of the worker, so each is checked here as if a stranger had sent it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from dataclasses import asdict
from pathlib import Path
from typing import cast

from mlvpn.config import load, read_file
from mlvpn.core.events import Address
from mlvpn.errors import ConfigError, LinkError, SystemFailure
from mlvpn.system import filters, privsep, tun, udp
from mlvpn.system.privileges import RUN_DIRECTORY
from mlvpn.system.privsep import FIRST_UNPRIVILEGED_PORT, Answer

SCRIPT_SECONDS = 60
"""A status script that takes longer is killed: later status changes wait behind it."""
SCRIPT_VARIABLES = frozenset(
    {"IP4", "IP6", "IP4_GATEWAY", "IP6_GATEWAY", "IP4_ROUTES", "IP6_ROUTES", "DEVICE", "MTU"},
)
"""All that the worker may put into the script's environment; never LD_PRELOAD."""


class Privileged:
    """The hands of [priv]."""

    def __init__(self, name: str, config_path: str) -> None:
        self._name = name
        self._config_path = config_path
        self._script: Path | None = None
        self._script_turn = asyncio.Lock()
        self._ports: frozenset[int] | None = None
        """Privileged ports that may be opened; None: any, start-up is not over."""
        self._control_path: Path | None = None

    async def answer(self, request: privsep.Request) -> Answer:
        """Do what a request asks; its errors are for the worker."""
        match request:
            case privsep.ReadConfig():
                return self._config_path, [in_memory(read_file(self._config_path))]
            case privsep.SetScript():
                check_script(Path(request.path))
                self._script = Path(request.path)
            case privsep.OpenTun():
                return self._open_tun(request)
            case privsep.ListenControl():
                return self._listen_control(request)
            case privsep.Running():
                self._ports = frozenset(request.ports)
            case privsep.OpenLinkSocket():
                return None, [self._open_link_socket(request)]
            case privsep.Resolve():
                return await resolve(request.host, request.port), []
            case privsep.CompileFilters():
                return None, [in_memory(self._compiled_filters())]
            case privsep.RunScript():
                return await self._run_script(request), []
        return None, []

    def close(self) -> None:
        """Remove what would outlive the tunnel."""
        if self._control_path is not None:
            self._control_path.unlink(missing_ok=True)

    def _open_tun(self, request: privsep.OpenTun) -> Answer:
        fd, info = tun.open_tun(request.name, "tap" if request.kind == "tap" else "tun", request.mtu_bytes)
        return asdict(info), [fd]

    def _listen_control(self, request: privsep.ListenControl) -> Answer:
        path = Path(request.path or RUN_DIRECTORY / f"{self._name}.sock")
        listener = listen_unix(path)
        self._control_path = path
        return str(path), [listener.detach()]

    def _open_link_socket(self, request: privsep.OpenLinkSocket) -> int:
        privileged = 0 < request.bind_port < FIRST_UNPRIVILEGED_PORT
        if privileged and self._ports is not None and request.bind_port not in self._ports:
            raise LinkError(f"port {request.bind_port} was not in the configuration at start: restart to open it")
        return udp.open_link_socket(request.bind_host, request.bind_port, request.interface, request.family).detach()

    def _compiled_filters(self) -> bytes:
        config = load(self._config_path)
        programs = filters.compile_filters(config.filters, config.general.tuntap)
        return json.dumps([(program.link, program.instructions.hex()) for program in programs]).encode()

    async def _run_script(self, request: privsep.RunScript) -> int:
        if self._script is None:
            raise SystemFailure("there is no status script")
        if not request.env.keys() <= SCRIPT_VARIABLES:
            raise SystemFailure("the status script's environment may not hold that")
        async with self._script_turn:  # a Lock serves in the order of asking
            check_script(self._script)
            return await run_script([str(self._script), *request.args], request.env)


def in_memory(content: bytes) -> int:
    """Return a descriptor from which ``content`` can be read: the worker never holds one of a file of ours."""
    descriptor = os.memfd_create("mlvpn-config", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as memory:
        memory.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def check_script(path: Path) -> None:
    """Refuse a status script that anybody but root could have written: it runs as root."""
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"statuscommand {path}: {error.strerror}") from error
    if not path.is_absolute() or not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"statuscommand {path}: must be the absolute path of a file")
    if status.st_uid != 0:
        raise ConfigError(f"statuscommand {path}: runs as root, so it must belong to root; run: chown root {path}")
    if status.st_mode & 0o177 != 0o100:
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        raise ConfigError(
            f"statuscommand {path}: {mode} is not for its owner alone and executable; run: chmod 700 {path}"
        )


def listen_unix(path: Path) -> socket.socket:
    """Listen on a UNIX socket for its owner only; one left behind by a dead daemon is replaced, a live one is not."""
    if not path.is_absolute():
        raise SystemFailure(f"control_unix_path {path}: must be an absolute path")
    remove_stale_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(8)
    except OSError as error:
        listener.close()
        raise SystemFailure(f"cannot listen on the control socket {path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    return listener


def remove_stale_socket(path: Path) -> None:
    """Remove a socket that nobody answers on any more; whatever else is there stays, and binding fails."""
    if not stat.S_ISSOCK(path.lstat().st_mode if os.path.lexists(path) else 0):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise SystemFailure(f"cannot use the control socket {path}: {error.strerror}") from error
    raise SystemFailure(f"another daemon answers on {path}; stop it first, or give this one another --name")


async def resolve(host: str, port: int) -> list[tuple[int, Address]]:
    """Resolve a name; runs in a thread, for as long as the system's resolver takes."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise LinkError(f"cannot resolve {host!r}: {why}") from error
    # The type of getaddrinfo has one more form of an address, that of a Python built without IPv6.
    return [(int(family), cast(Address, address)) for family, _, _, _, address in found]


async def run_script(command: list[str], env: dict[str, str]) -> int:
    """Run the status script to its end and return its exit status (minus the signal's number when one killed it)."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **env},
        cwd="/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,  # the terminal's Ctrl-C is for the daemon
    )
    try:
        async with asyncio.timeout(SCRIPT_SECONDS):
            return await process.wait()
    except TimeoutError:
        raise SystemFailure(f"the status script took longer than {SCRIPT_SECONDS} s and was killed") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
