"""The status script's calls, their order and their environment; process titles; what is known of interfaces."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mlvpn.config import Config, parse
from mlvpn.core.interface import LinkSnapshot
from mlvpn.daemon import script as script_module
from mlvpn.daemon.interfaces import Interfaces
from mlvpn.daemon.script import StatusScript, environment
from mlvpn.daemon.title import privileged_title, worker_title
from mlvpn.errors import SystemFailure
from mlvpn.system.netlink import AddressGone, AddressNew, LinkState
from mlvpn.system.privsep import RunScript, WorkerEnd

CONFIG = """
[general]
mode = "client"
password = "secret"
statuscommand = "/etc/mlvpn/script"
ip4 = "10.8.0.1/24"
ip4_routes = "10.9.0.0/24 10.10.0.0/24"
mtu = 1400
[link1]
remotehost = "10.3.1.2"
remoteport = 5081
"""


def config(text: str = CONFIG) -> Config:
    return parse(text, "test.conf")


class Priv:
    """Takes the worker's requests; the script fails when told."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.failure: SystemFailure | None = None

    async def ask(self, request: RunScript) -> Any:
        await self.go.wait()
        self.calls.append(request.args)
        if self.failure is not None:
            raise self.failure
        return 0


def calls_of(*moves: str, text: str = CONFIG) -> list[str]:
    """Return the calls made for moves such as ``+link1`` and ``-link1``."""

    async def body() -> list[str]:
        priv = Priv()
        script = StatusScript(cast(WorkerEnd, priv), config(text).general, "mlvpn0")
        for move in moves:
            (script.link_up if move[0] == "+" else script.link_down)(move[1:])
        await script.finish()
        return [" ".join(call) for call in priv.calls]

    return asyncio.run(body())


def test_first_up_and_last_down_bring_the_tunnel_up_and_down() -> None:
    assert calls_of("+link1", "+link2", "-link1", "-link2") == [
        "mlvpn0 rtun_up link1",
        "mlvpn0 tuntap_up",
        "mlvpn0 rtun_up link2",
        "mlvpn0 rtun_down link1",
        "mlvpn0 rtun_down link2",
        "mlvpn0 tuntap_down",
    ]


def test_what_did_not_change_is_not_called() -> None:
    assert calls_of("-link1", "+link1", "+link1", "-link1", "-link1") == [
        "mlvpn0 rtun_up link1",
        "mlvpn0 tuntap_up",
        "mlvpn0 rtun_down link1",
        "mlvpn0 tuntap_down",
    ]


def test_the_end_calls_down_what_is_up() -> None:
    assert calls_of("+link1", "+link2")[3:] == [
        "mlvpn0 rtun_down link1",
        "mlvpn0 rtun_down link2",
        "mlvpn0 tuntap_down",
    ]


def test_without_statuscommand_nothing_is_called() -> None:
    assert calls_of("+link1", text=CONFIG.replace("statuscommand", "#")) == []


def test_a_script_that_fails_is_called_again_next_time() -> None:
    async def body() -> None:
        priv = Priv()
        priv.failure = SystemFailure("took too long")
        script = StatusScript(cast(WorkerEnd, priv), config().general, "mlvpn0")
        script.link_up("link1")
        await script.finish()
        assert len(priv.calls) == 4

    asyncio.run(body())


def test_calls_behind_a_script_that_hangs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_module, "PENDING_CALLS", 10)

    async def body() -> None:
        priv = Priv()
        priv.go.clear()
        script = StatusScript(cast(WorkerEnd, priv), config().general, "mlvpn0")
        for _ in range(100):
            script.link_up("link1")
            script.link_down("link1")
        priv.go.set()
        await script.finish()
        assert len(priv.calls) == 10

    asyncio.run(body())


def test_the_environment_is_mlvpns_and_empty_where_nothing_is_set() -> None:
    assert environment(config().general, "mlvpn7") == {
        "IP4": "10.8.0.1/24",
        "IP6": "",
        "IP4_GATEWAY": "",
        "IP6_GATEWAY": "",
        "IP4_ROUTES": "10.9.0.0/24 10.10.0.0/24",
        "IP6_ROUTES": "",
        "DEVICE": "mlvpn7",
        "MTU": "1400",
    }


def test_titles_are_mlvpns() -> None:
    links: list[LinkSnapshot] = [
        {"name": "link1", "state": "up"},
        {"name": "link2", "state": "lossy"},
        {"name": "link3", "state": "down"},
        {"name": "link4", "state": "slow"},
    ]
    assert privileged_title("srv") == "mlvpn: srv [priv]"
    assert worker_title("srv", links) == "mlvpn: srv ~link4 !link3 ~link2 @link1"


def known(*events: LinkState | AddressNew | AddressGone) -> Interfaces:
    interfaces = Interfaces()
    for event in events:
        interfaces.apply(event)
    return interfaces


ETH0 = LinkState(2, "eth0", True, True)


@pytest.mark.parametrize(
    ("interfaces", "name", "address", "trouble"),
    [
        (known(), None, None, None),
        (known(), "wwan0", None, "interface wwan0 is missing"),
        (known(ETH0), "eth0", None, None),
        (known(ETH0, ETH0._replace(carrier=False)), "eth0", None, "interface eth0 has no carrier"),
        (known(ETH0, ETH0._replace(up=False, carrier=False)), "eth0", None, "interface eth0 is down or gone"),
        (known(ETH0._replace(carrier=False)), None, "10.0.0.1", None),
        (
            known(ETH0._replace(carrier=False), AddressNew(2, "10.0.0.1")),
            None,
            "10.0.0.1",
            "interface eth0 has no carrier",
        ),
        (known(ETH0, AddressNew(2, "10.0.0.1"), AddressGone(2, "10.0.0.1")), None, "10.0.0.1", None),
        (known(ETH0, AddressNew(3, "10.0.0.1"), AddressGone(2, "10.0.0.1")), None, "10.0.0.1", None),
    ],
)
def test_why_a_link_cannot_send(
    interfaces: Interfaces, name: str | None, address: str | None, trouble: str | None
) -> None:
    assert interfaces.trouble(name, address) == trouble
