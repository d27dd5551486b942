"""What stands between the two hosts: nothing, our daemon, or somebody else's. All are started in the same lab.

    with start(SYSTEMS["wireguard-go"], lab) as running:
        running.address("server"), running.cpu_seconds()

Every tunnel gets the same inner MTU and its defaults otherwise. Those that can bond do so over all links of the lab;
wireguard-go and OpenVPN use the first. Debian's packages are installed by ``install``, as root, with a message;
C MLVPN and glorytun are measured where the environment names a binary (``MLVPN_C``, ``GLORYTUN``). The relay is no
tunnel anybody would want, but what one in Python costs before it does anything (``relay``).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench.trial import go_first
from mlvpn import compiled
from mlvpn.errors import SystemFailure
from mlvpn.lab.daemons import ENDS, Command, Daemon, Tunnel, our_daemon, stat_fields, write_private
from mlvpn.lab.host import Host
from mlvpn.lab.measure import Tool
from mlvpn.lab.topology import LAN_CLIENT, Lab

MTU_BYTES = 1432
"""The most that 1500-byte links carry through each of these tunnels in one datagram, with wireguard-go's padding."""
FIRST_ANSWER_TIMEOUT_S = 20.0
SOCKET_TIMEOUT_S = 5.0
LAN_NETWORK = "192.168.77.0/24"
PORT = 5190
GLORYTUN_BYTES_PER_S = 250_000_000
"""The rate of each path, which has to be told: more than it can do."""
MLVPN_C_REORDER_PACKETS = 64
"""What its documentation recommends."""


@dataclass
class Running:
    """A started system."""

    server_address: str
    """Where the server is reached through it."""
    interface: str = ""
    """The tunnel's interface on the server; empty without tunnel."""
    daemons: Sequence[Daemon] = ()
    started_s: float = 0.0
    """From starting the daemons to the first packet that came back through them."""

    def cpu_seconds(self) -> float:
        """Return the CPU time that the daemons of both ends have used."""
        return sum(daemon.cpu_seconds() for daemon in self.daemons)

    def memory_bytes(self) -> int:
        """Return the resident memory of the largest process: of ours, a worker."""
        pages = [stat_fields(pid)[21] for daemon in self.daemons for pid in daemon.processes()]
        return max(pages, default=0) * os.sysconf("SC_PAGE_SIZE")

    def route_lan(self, lab: Lab) -> None:
        """Have the server reach the hosts behind the client."""
        via = f"dev {self.interface}" if self.interface else f"via {lab.address('client', next(iter(lab.links)))}"
        lab.server.ip(f"route replace {LAN_NETWORK} {via}")


Starter = Callable[[Lab, ExitStack], Running]
"""Starts a system in a lab; what ends it goes on the stack."""


@dataclass(frozen=True)
class System:
    """One system, and what it needs."""

    name: str
    start: Starter
    is_tunnel: bool = True
    is_ours: bool = False
    bonds: bool = False
    """Uses all links of the lab."""
    packages: dict[str, str] = field(default_factory=dict)
    """Command -> Debian package."""
    absent_because: Callable[[], str] = str
    """Why it cannot be measured here; empty when it can."""


@contextmanager
def start(system: System, lab: Lab) -> Iterator[Running]:
    """Start a system and wait until a packet has come back through it."""
    with ExitStack() as stack:
        running = system.start(lab, stack)
        for daemon in running.daemons:
            for pid in daemon.processes():
                with suppress(ProcessLookupError):  # a call of the status script that has ended meanwhile
                    go_first(pid)
        yield running


# -- no tunnel, and ours


def _start_nothing(lab: Lab, _stack: ExitStack) -> Running:
    return Running(lab.address("server", next(iter(lab.links))))


def _start_mlvpn(command: Command, lab: Lab, stack: ExitStack, **general: int) -> Running:
    began_s = time.monotonic()
    tunnel = stack.enter_context(Tunnel(lab, command=command, general={"mtu": MTU_BYTES, **general}))
    started_s = time.monotonic() - began_s
    return Running(tunnel.address("server"), tunnel.interface, [tunnel.client, tunnel.server], started_s)


def _ours(kernels: str, modules: str) -> Command:
    variables = [f"MLVPN_KERNELS={kernels}", f"MLVPN_COMPILED={modules}"]
    return lambda config, name: ["env", *variables, *our_daemon(config, name)]


def _our_system(name: str, command: Command, absent_because: Callable[[], str] = str) -> System:
    return System(name, partial(_start_mlvpn, command), is_ours=True, bonds=True, absent_because=absent_because)


def as_before(system: System, source: Path) -> System:
    """Return one of our systems as the sources in another directory make it."""

    def start_as_before(lab: Lab, stack: ExitStack) -> Running:
        now = os.environ["PYTHONPATH"]
        stack.callback(os.environ.__setitem__, "PYTHONPATH", now)
        os.environ["PYTHONPATH"] = str(source)
        return system.start(lab, stack)

    return replace(system, name=f"{system.name} before", start=start_as_before)


def _no_kernels() -> str:
    found = importlib.util.find_spec("mlvpn.burst._kernels")
    return "" if found else "the C kernels are not built: python -m mlvpn.burst.build"


def _not_built() -> str:
    reason = compiled.unusable_because()
    return _no_kernels() or (f"of the modules, {reason}: python -m mlvpn.compiled.build" if reason else "")


# -- MLVPN 2.x in C


def mlvpn_c_daemon(config: Path, name: str) -> Sequence[str]:
    """Return the command line of the C daemon. It changes its root to the home directory of its user."""
    user = next(user.pw_name for user in pwd.getpwall() if user.pw_uid and Path(user.pw_dir).is_dir())
    return [os.environ["MLVPN_C"], "-c", str(config), "-u", user, "-n", name, "--debug"]


def _start_mlvpn_c(lab: Lab, stack: ExitStack) -> Running:
    # Without a reorder buffer two links are of no use to TCP.
    return _start_mlvpn(mlvpn_c_daemon, lab, stack, reorder_buffer_size=MLVPN_C_REORDER_PACKETS)


# -- wireguard-go


def _start_wireguard(lab: Lab, stack: ExitStack) -> Running:
    keys = {end: lab.host(end).run(["wg", "genkey"]).strip() for end in ENDS}
    public = {end: _public_key(key) for end, key in keys.items()}
    names = {end: f"wg{end[0]}{os.getpid()}" for end in ENDS}  # their sockets share one directory
    began_s = time.monotonic()
    daemons = [_spawn(lab, stack, end, ["wireguard-go", "-f", names[end]]) for end in ENDS]
    for end, peer in (ENDS, ENDS[::-1]):
        _await_socket(Path(f"/run/wireguard/{names[end]}.sock"), daemons)
        key_path = lab.directory / f"wg-{end}.key"
        write_private(key_path, keys[end], 0o600)
        options = ["private-key", str(key_path), "listen-port", str(PORT), "peer", public[peer]]
        options += ["endpoint", f"{_first_address(lab, peer)}:{PORT}", "allowed-ips", "0.0.0.0/0"]
        lab.host(end).run(["wg", "set", names[end], *options])
        _configure(lab.host(end), names[end])
    return _await_answer(lab, names["server"], daemons, began_s)


def _public_key(key: str) -> str:
    return subprocess.run(["wg", "pubkey"], input=key, text=True, capture_output=True, check=True).stdout.strip()


def _await_socket(path: Path, daemons: Sequence[Daemon]) -> None:
    deadline_s = time.monotonic() + SOCKET_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline_s or any(daemon.exit_code() is not None for daemon in daemons):
            raise SystemFailure(f"no {path} appeared; {_last_words(daemons)}")
        time.sleep(0.002)


# -- OpenVPN


def _start_openvpn(lab: Lab, stack: ExitStack) -> Running:
    prints = {end: _certify(lab, end) for end in ENDS}
    began_s = time.monotonic()
    daemons = [_spawn(lab, stack, end, _openvpn(lab, end, peer, prints[peer])) for end, peer in (ENDS, ENDS[::-1])]
    return _await_answer(lab, "vpn0", daemons, began_s)


def _certify(lab: Lab, end: str) -> str:
    """Make a self-signed certificate for an end; return its fingerprint, by which the peer knows it."""
    key, certificate = lab.directory / f"{end}.key", lab.directory / f"{end}.crt"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    _openssl("req", "-x509", *curve, "-subj", f"/CN={end}", "-keyout", str(key), "-out", str(certificate))
    return _openssl("x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256").partition("=")[2].strip()


def _openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], text=True, capture_output=True, check=True).stdout


def _openvpn(lab: Lab, end: str, peer: str, fingerprint: str) -> list[str]:
    outside = ["--proto", "udp4", "--port", str(PORT), "--local", _first_address(lab, end)]
    if end == "client":
        outside += ["--remote", _first_address(lab, peer)]
    role = ["--tls-client"] if end == "client" else ["--tls-server", "--dh", "none"]
    files = ["--key", str(lab.directory / f"{end}.key"), "--cert", str(lab.directory / f"{end}.crt")]
    inside = ["--dev", "vpn0", "--dev-type", "tun", "--tun-mtu", str(MTU_BYTES), "--mssfix", "0"]
    addresses = ["--ifconfig", _inner_address(end), _inner_address(peer)]
    peer_known_by = ["--peer-fingerprint", fingerprint]
    return ["openvpn", *outside, *role, *files, *peer_known_by, *inside, *addresses, "--disable-dco", "--verb", "3"]


# -- glorytun


def _start_glorytun(lab: Lab, stack: ExitStack) -> Running:
    binary = os.environ["GLORYTUN"]
    key_path = lab.directory / "glorytun.key"
    write_private(key_path, subprocess.run([binary, "keygen"], text=True, capture_output=True).stdout, 0o600)
    names = {end: f"gt{end[0]}{os.getpid()}" for end in ENDS}  # their sockets share one directory
    began_s = time.monotonic()
    daemons = []
    for end in ENDS[::-1]:
        argv = [binary, "bind", "dev", names[end], "keyfile", str(key_path), "from", "addr", "0.0.0.0"]
        argv += ["port", str(PORT)]
        if end == "client":
            argv += ["to", "addr", _first_address(lab, "server"), "port", str(PORT)]
        daemons.append(_spawn(lab, stack, end, argv))
        _await_interface(lab.host(end), names[end], daemons)
        _configure(lab.host(end), names[end])
    for link in lab.links:
        there = ["addr", lab.address("client", link), "to", "addr", lab.address("server", link), "port", str(PORT)]
        rate = ["rate", "fixed", "tx", str(GLORYTUN_BYTES_PER_S), "rx", str(GLORYTUN_BYTES_PER_S)]
        lab.client.run([binary, "path", "dev", names["client"], *there, "set", "up", *rate])
    return _await_answer(lab, names["server"], daemons, began_s)


def _await_interface(host: Host, interface: str, daemons: Sequence[Daemon]) -> None:
    deadline_s = time.monotonic() + SOCKET_TIMEOUT_S
    while f"{interface}:" not in host.run(["cat", "/proc/net/dev"]):
        if time.monotonic() > deadline_s or any(daemon.exit_code() is not None for daemon in daemons):
            raise SystemFailure(f"no {interface} appeared; {_last_words(daemons)}")


# -- a bare relay


def _start_relay(lab: Lab, stack: ExitStack) -> Running:
    began_s = time.monotonic()
    daemons = []
    for end, peer in (ENDS, ENDS[::-1]):
        addresses = _first_address(lab, end), _first_address(lab, peer)
        argv = [sys.executable, "-m", "bench.relay", "relay0", str(MTU_BYTES), *addresses, str(PORT)]
        daemons.append(_spawn(lab, stack, end, argv))
        _await_interface(lab.host(end), "relay0", daemons)
        _configure(lab.host(end), "relay0")
    return _await_answer(lab, "relay0", daemons, began_s)


# -- what they share


def _first_address(lab: Lab, end: str) -> str:
    return lab.address(end, next(iter(lab.links)))


def _inner_address(end: str) -> str:
    return f"10.98.0.{ENDS.index(end) + 1}"


def _spawn(lab: Lab, stack: ExitStack, end: str, argv: Sequence[str]) -> Daemon:
    daemon = Daemon(lab.host(end), argv, lab.directory / f"{Path(argv[0]).name}-{end}.log", Path())
    stack.callback(daemon.stop)
    return daemon


def _configure(host: Host, interface: str) -> None:
    host.ip(f"link set dev {interface} mtu {MTU_BYTES} up", f"addr add {_inner_address(host.name)}/24 dev {interface}")


def _await_answer(lab: Lab, interface: str, daemons: Sequence[Daemon], began_s: float) -> Running:
    """Wait for the first answer through a tunnel."""
    address = _inner_address("server")
    seconds = f"--seconds={FIRST_ANSWER_TIMEOUT_S}"
    probes = Tool(lab.client, "echo", address, "--first", seconds, "--interval-ms=50").wait(2 * FIRST_ANSWER_TIMEOUT_S)
    started_s = time.monotonic() - began_s
    if not any(rtt_ns is not None for _, rtt_ns in probes["probes"]):
        raise SystemFailure(f"no ping went through {interface}; {_last_words(daemons)}")
    return Running(address, interface, daemons, started_s)


def _last_words(daemons: Sequence[Daemon]) -> str:
    return "the daemons said last:\n" + "\n".join(daemon.log_tail() for daemon in daemons)


def _not_named(variable: str) -> str:
    """Say why a binary that the environment should name is not there."""
    path = os.environ.get(variable, "")
    if not path:
        return f"{variable}= names no binary"
    return "" if os.access(path, os.X_OK) else f"{variable}={path} is no program"


SYSTEMS = {
    system.name: system
    for system in (
        System("none", _start_nothing, is_tunnel=False),
        _our_system("ours-python", _ours("python", "no")),
        _our_system("ours-c", _ours("c", "yes"), _not_built),
        _our_system("ours-interpreted", _ours("c", "no"), _no_kernels),
        System("relay", _start_relay),
        System("wireguard-go", _start_wireguard, packages={"wireguard-go": "wireguard-go", "wg": "wireguard-tools"}),
        System("openvpn", _start_openvpn, packages={"openvpn": "openvpn", "openssl": "openssl"}),
        System("mlvpn-c", _start_mlvpn_c, bonds=True, absent_because=partial(_not_named, "MLVPN_C")),
        System("glorytun", _start_glorytun, bonds=True, absent_because=partial(_not_named, "GLORYTUN")),
    )
}
assert LAN_CLIENT[0].rpartition(".")[0] == LAN_NETWORK.rpartition(".")[0]


def install(packages: dict[str, str]) -> None:
    """Install the Debian packages whose commands are missing."""
    missing = sorted({package for command, package in packages.items() if not shutil.which(command)})
    if not missing:
        return
    print(f"bench: installing Debian packages {', '.join(missing)}", flush=True)
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", "-qq", *arguments], capture_output=True, text=True)
        if done.returncode and arguments != ["update"]:
            raise SystemFailure(f"apt-get could not install {' '.join(missing)}: {done.stderr.strip()}")
