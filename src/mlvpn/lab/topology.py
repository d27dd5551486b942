"""Hosts and links: builds the namespaces, joins them, addresses them, and takes everything down again.

    [lan] --veth-- [client] ==veth per link==> [wan: emulator] ==veth per link==> [server]

A link is one subnet that both ends share, so that any two ends can be joined without routes: link number i (from 1)
has 10.77.i.0/24 and fd77:i::/64, the client is .1, the server .2. A link with nothing to emulate is one veth from
client to server. The interface has the link's name at both ends.

Neighbours are fixed entries: on a real link the first hop stays reachable while the path behind it is cut or lossy, so
address resolution must neither fail in a cut nor add a second when an ARP packet is lost.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from mlvpn.errors import PermissionDeniedError, SystemFailure
from mlvpn.lab.channel import ChannelSpec, queue_limit_bytes
from mlvpn.lab.host import Echo, Host, run_ip, silent
from mlvpn.lab.wan import Emulator

BUCKET_BYTES = 4000
"""What a token bucket lets pass at once: two datagrams and a bit, as little as a modem."""
MAX_NAME = 13
"""An interface name has at most 15 characters, and the emulator's ends are called ``c-NAME`` and ``s-NAME``."""
LAN_CLIENT, LAN_HOST = ("192.168.77.1", "fd77:ffff::1"), ("192.168.77.2", "fd77:ffff::2")

_numbers = itertools.count(1)


@dataclass(frozen=True)
class LinkSpec:
    """One link. The first seven fields are those of ``ChannelSpec`` and hold for both directions."""

    name: str
    rate_bps: int | None = None
    delay_ns: int = 0
    jitter_ns: int = 0
    loss_ratio: float = 0.0
    buffer_ns: int = 100_000_000
    trace: tuple[tuple[int, int], ...] = ()
    reorder: bool = False
    up: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``ChannelSpec`` that differ from client to server."""
    down: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``ChannelSpec`` that differ from server to client."""
    mtu: int = 1500
    ipv6: bool = True
    emulated: bool | None = None
    """None: only where there is something to emulate. True makes a perfect link that can be cut."""
    offloads: bool = True
    """Keep segmentation and checksum offloads; without meaning for emulated links, where they are always off."""
    token_bucket: bool = False
    """Have the kernel hold ``rate_bps`` and ``buffer_ns`` (tc-tbf(8)) instead of the emulator: for many links at once,
    as it takes less CPU. It knows neither delay nor jitter nor loss, counts Ethernet's headers too, and drops packets
    longer than ``BUCKET_BYTES``."""

    def __post_init__(self) -> None:
        """Refuse a name that cannot name interfaces."""
        if not self.name.replace("-", "").isalnum() or len(self.name) > MAX_NAME:
            raise ValueError(f"link name {self.name!r}: use 1 to {MAX_NAME} letters, digits or hyphens")
        if self.token_bucket:
            only = ChannelSpec(self.rate_bps, buffer_ns=self.buffer_ns)
            if not self.rate_bps or self.emulated or {self.channel("up"), self.channel("down")} != {only}:
                raise ValueError(f"link {self.name}: a token bucket has one rate and one buffer, and nothing else")

    def channel(self, direction: str) -> ChannelSpec:
        """Return what the link is in one direction ("up" or "down")."""
        both = ChannelSpec(
            self.rate_bps, self.delay_ns, self.jitter_ns, self.loss_ratio, self.buffer_ns, self.trace, self.reorder
        )
        return replace(both, **(self.up if direction == "up" else self.down))

    @property
    def is_emulated(self) -> bool:
        """Whether the emulator stands between the two ends."""
        if self.token_bucket:
            return False
        if self.emulated is not None:
            return self.emulated
        return not (self.channel("up").is_perfect and self.channel("down").is_perfect)


class Lab:
    """Hosts ``client``, ``server`` (and ``lan`` behind the client), joined by links; a context manager."""

    client: Host
    server: Host
    lan: Host | None = None
    wan: Emulator | None = None
    """The emulator, or None when no link needs one."""

    def __init__(
        self,
        links: Sequence[LinkSpec],
        *,
        with_lan: bool = False,
        seed: int = 1,
        echo: Echo = silent,
        directory: Path | None = None,
    ) -> None:
        """Plan a lab; nothing exists before ``with``. Files go to ``directory``, else to a temporary one."""
        if len({link.name for link in links}) != len(links):
            raise ValueError("two links have the same name")
        self.links = {link.name: link for link in links}
        self.prefix = f"mlvpnlab-{os.getpid()}-{next(_numbers)}"
        self._with_lan = with_lan
        self._seed = seed
        self._echo = echo
        self._hosts: list[Host] = []
        self._keep_directory = directory is not None
        self._directory = directory
        self._signals: dict[int, Any] = {}

    # -- addresses

    def address(self, host: str, link: str, family: int = 4) -> str:
        """Return the address of "client" or "server" on a link."""
        number, end = list(self.links).index(link) + 1, 1 if host == "client" else 2
        return f"10.77.{number}.{end}" if family == 4 else f"fd77:{number:x}::{end}"

    @property
    def directory(self) -> Path:
        """Where logs, sockets and configuration files of this lab are."""
        assert self._directory is not None, "the lab is not built"
        return self._directory

    def host(self, name: str) -> Host:
        """Return a host by its name."""
        return next(host for host in self._hosts if host.name == name)

    @property
    def emulator(self) -> Emulator:
        """The emulator of a lab that must have one."""
        if self.wan is None:
            raise SystemFailure("no link of this lab is emulated; give one a rate or a delay, or emulated=True")
        return self.wan

    # -- building

    def __enter__(self) -> Lab:
        """Build everything; on a failure nothing is left."""
        if os.geteuid() != 0:
            raise PermissionDeniedError("the lab builds network namespaces and needs root; run it with sudo")
        self._catch_signals()
        try:
            self._build()
        except BaseException:
            self._take_down()
            raise
        return self

    def _build(self) -> None:
        self._directory = self._directory or Path(tempfile.mkdtemp(prefix=f"{self.prefix}-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        self.client, self.server = self._new_host("client"), self._new_host("server")
        if any(link.is_emulated for link in self.links.values()):
            wan = self._new_host("wan")
        for link in self.links.values():
            self._join(link)
        for host in ("client", "server"):
            self._switch_offloads_off(host)
        if self._with_lan:
            self._build_lan()
        emulated = [self._emulator_link(link) for link in self.links.values() if link.is_emulated]
        if emulated:
            self.wan = Emulator(wan.spawn, self.directory, emulated, self._seed)

    def _new_host(self, name: str) -> Host:
        host = Host(name, f"{self.prefix}-{name}", self._echo)
        self._hosts.append(host)
        quiet = {
            f"ipv6__conf__{scope}__{key}": 0 for scope in ("all", "default") for key in ("accept_dad", "accept_ra")
        }
        # No neighbour search, no router search; and what one TCP learned must not help the next measurement.
        host.set_kernel(ipv4__tcp_no_metrics_save=1, ipv4__conf__all__rp_filter=0, **quiet)
        return host

    def _join(self, link: LinkSpec) -> None:
        client, server = (
            f"name {link.name} address {self._mac(host, link)} mtu {link.mtu} netns {self.prefix}-{host}"
            for host in ("client", "server")
        )
        if link.is_emulated:
            wan = f"mtu {link.mtu} netns {self.prefix}-wan"
            pairs = [
                f"{client} type veth peer name c-{link.name} {wan}",
                f"{server} type veth peer name s-{link.name} {wan}",
            ]
        else:
            pairs = [f"{client} type veth peer {server}"]
        run_ip([f"link add {pair}" for pair in pairs], echo=self._echo)
        for host, peer in (("client", "server"), ("server", "client")):
            self._address_end(link, host, peer)
            if link.token_bucket:
                self.host(host).run(f"tc qdisc replace dev {link.name} root tbf {_bucket(link)}".split())
        if link.is_emulated:
            self.host("wan").ip(f"link set dev c-{link.name} up", f"link set dev s-{link.name} up")

    def _address_end(self, link: LinkSpec, host: str, peer: str) -> None:
        lines = [f"link set dev {link.name} up"]
        for family, bits in ((4, 24), (6, 64)) if link.ipv6 else ((4, 24),):
            lines += [
                f"addr add {self.address(host, link.name, family)}/{bits} dev {link.name}",
                f"neigh replace {self.address(peer, link.name, family)} "
                f"lladdr {self._mac(peer, link)} dev {link.name} nud permanent",
            ]
        self.host(host).ip(*lines)

    def _mac(self, host: str, link: LinkSpec) -> str:
        return f"02:4d:4c:56:{1 if host == 'client' else 2:02x}:{list(self.links).index(link.name) + 1:02x}"

    def _switch_offloads_off(self, host: str) -> None:
        names = [link.name for link in self.links.values() if link.is_emulated or not link.offloads]
        if names:
            self.host(host).run([sys.executable, "-m", "mlvpn.lab.offload", *names])

    def _build_lan(self) -> None:
        self.lan = self._new_host("lan")
        run_ip(
            [f"link add lan netns {self.client.namespace} type veth peer name lan netns {self.lan.namespace}"],
            echo=self._echo,
        )
        for host, (ipv4, ipv6) in ((self.client, LAN_CLIENT), (self.lan, LAN_HOST)):
            host.ip("link set lan up", f"addr add {ipv4}/24 dev lan", f"addr add {ipv6}/64 dev lan")
        self.lan.ip(f"route add default via {LAN_CLIENT[0]}", f"route add default via {LAN_CLIENT[1]}")
        self.client.set_kernel(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)

    def _emulator_link(self, link: LinkSpec) -> dict[str, Any]:
        interfaces = {"client_interface": f"c-{link.name}", "server_interface": f"s-{link.name}"}
        channels = {direction: link.channel(direction).to_json() for direction in ("up", "down")}
        return {"name": link.name, "mtu": link.mtu, **interfaces, **channels}

    # -- changes that are not the emulator's

    def set_carrier(self, host: str, link: str, *, up: bool) -> None:
        """Pull or plug the cable at a host's end of an emulated link."""
        if not self.links[link].is_emulated:
            raise SystemFailure(f"link {link} has no emulator between its ends; set emulated=True")
        self.host("wan").ip(f"link set dev {host[0]}-{link} {'up' if up else 'down'}")

    # -- taking down

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take everything down."""
        self._take_down()

    def _take_down(self) -> None:
        for number in self._signals:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not stop the cleaning
        if self.wan is not None:
            self.wan.stop()
            self.wan = None
        while self._hosts:
            self._hosts.pop().delete()
        if self._directory is not None and not self._keep_directory:
            shutil.rmtree(self._directory, ignore_errors=True)
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        self._signals = {}

    def _catch_signals(self) -> None:
        """Let TERM and HUP unwind the stack like Ctrl-C does, so that ``__exit__`` runs."""

        def leave(number: int, _frame: FrameType | None) -> NoReturn:
            raise SystemExit(128 + number)

        if threading.current_thread() is not threading.main_thread():
            return
        self._signals[signal.SIGINT] = signal.getsignal(signal.SIGINT)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._signals[number] = signal.signal(number, leave)


def _bucket(link: LinkSpec) -> str:
    """Return the parameters of tc-tbf(8)."""
    return f"rate {link.rate_bps}bit burst {BUCKET_BYTES} limit {queue_limit_bytes(link.channel('up'))}"
