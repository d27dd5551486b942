"""The bridge: what comes in reaches the core, what the core has goes out, and it is woken when it wants."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable
from typing import Any, cast

import pytest

from mlvpn.core.burst_io import Delivery, ReceivedTrain, Train
from mlvpn.core.events import Event, LinkUp
from mlvpn.core.interface import Core
from mlvpn.daemon.bridge import Bridge
from mlvpn.daemon.loop import PacketSelector
from mlvpn.system.tun import Tun, TunInfo
from mlvpn.system.udp import LinkSocket, SendFailed
from mlvpn.units import NS_PER_MS


class EchoCore:
    """Sends every frame over link1, delivers every datagram, and asks to be woken at ``deadline_ns``."""

    may_rest = True
    submit_bytes = 1 << 20

    def __init__(self) -> None:
        self.sends: list[Train] = []
        self.deliveries: list[Delivery] = []
        self.events: list[Event] = []
        self.deadline_ns: int | None = None
        self.woken = asyncio.Event()
        self.woken_ns: list[int] = []
        self.sends_when_woken: list[Train] = []
        self.endless = False
        """Whether there is always more to send."""
        self.asked = self.deadlines_asked = 0
        self.taken: list[str] = []
        """What was taken out, in order."""

    def submit(self, frames: list[bytes], now_ns: int) -> None:
        self.sends += [Train("link1", None, frame, len(frame)) for frame in frames]

    def receive(self, train: ReceivedTrain, now_ns: int) -> None:
        self.deliveries.append([bytes(10), train.data])
        self.events.append(LinkUp(train.link))

    def tick(self, now_ns: int) -> None:
        self.woken_ns.append(now_ns)
        self.deadline_ns = None
        self.woken.set()
        self.sends += self.sends_when_woken

    def next_deadline_ns(self) -> int | None:
        self.deadlines_asked += 1
        return self.deadline_ns

    def take_sends(self, now_ns: int) -> list[Train]:
        self.asked += 1
        assert self.asked < 1000, "nobody else gets a turn"
        taken, self.sends = self.sends, []
        self.taken += ["sends"] * bool(taken)
        return [Train("link1", None, b"more", 4)] if self.endless else taken

    def take_deliveries(self) -> list[Delivery]:
        taken, self.deliveries = self.deliveries, []
        self.taken += ["deliveries"] * bool(taken)
        return taken

    def take_events(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken


class Setting:
    """A bridge with an echo core, one end of a packet socketpair as plain TUN device, one link to a UDP peer."""

    def __init__(self, selector: PacketSelector) -> None:
        device, self.host = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        device.setblocking(False)
        self.device = Tun(device.detach(), TunInfo("mlvpn0", "tun", 1432, (), "in a test"))
        self.peer = _udp()
        self.core = EchoCore()
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.failures: list[SendFailed] = []
        core = cast(Core, self.core)
        self.bridge = Bridge(core, self.device, selector, self.events.put_nowait, self.failures.append)
        self.link_socket = LinkSocket(_udp(), "link1", self.peer.getsockname())

    def close(self) -> None:
        self.bridge.close()
        self.link_socket.close()
        self.device.close()
        self.host.close()
        self.peer.close()


def _udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(2)
    return sock


def run(body: Any) -> None:
    selector = PacketSelector()

    async def limited() -> None:
        setting = Setting(selector)
        try:
            async with asyncio.timeout(5):
                await cast(Awaitable[None], body(setting))
        finally:
            setting.close()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(limited())


IPV4 = bytes.fromhex("4500001400000000400000000a0800010a080002")


def test_packets_go_out_and_datagrams_come_in() -> None:
    async def body(setting: Setting) -> None:
        setting.bridge.attach("link1", setting.link_socket)
        setting.host.send(IPV4)
        sent = await asyncio.to_thread(setting.peer.recv, 2000)
        assert sent == bytes(10) + IPV4
        setting.peer.sendto(IPV4, setting.link_socket.local)
        assert await setting.events.get() == LinkUp("link1")
        assert await asyncio.to_thread(setting.host.recv, 2000) == IPV4

    run(body)


def test_what_has_come_in_is_delivered_before_anything_is_sent() -> None:
    async def body(setting: Setting) -> None:
        setting.core.sends = [Train("link1", None, b"later", 5)]
        setting.core.deliveries = [[bytes(10), b"first"]]
        setting.bridge.attach("link1", setting.link_socket)
        setting.bridge.flush()
        assert setting.core.taken == ["deliveries", "sends"]
        assert (setting.host.recv(100), setting.peer.recv(100)) == (b"first", b"later")

    run(body)


def test_what_time_alone_brings_about_is_sent_at_once() -> None:
    async def body(setting: Setting) -> None:
        setting.bridge.attach("link1", setting.link_socket)
        setting.core.sends_when_woken = [Train("link1", None, b"due", 3)]
        setting.core.deadline_ns = time.monotonic_ns() + 5_000_000
        setting.bridge.flush()
        assert await asyncio.to_thread(setting.peer.recv, 2000) == b"due"

    run(body)


def test_a_core_that_has_ever_more_to_send_does_not_keep_the_loop() -> None:
    async def body(setting: Setting) -> None:
        setting.bridge.attach("link1", setting.link_socket)
        setting.core.endless = True
        setting.core.deadline_ns = time.monotonic_ns()
        setting.bridge.flush()
        await setting.core.woken.wait()

    run(body)


def test_who_has_more_to_send_than_one_round_takes_goes_on_at_once_after_the_others() -> None:
    async def body(setting: Setting) -> None:
        setting.bridge.attach("link1", setting.link_socket)
        setting.core.endless = True
        setting.peer.sendto(IPV4, setting.link_socket.local)
        assert await setting.events.get() == LinkUp("link1")
        await setting.core.woken.wait()  # although the core asks for no time
        setting.core.endless = False

    run(body)


@pytest.mark.parametrize("may_rest", [True, False])
def test_many_short_trains_are_given_time_to_grow_if_the_core_may_rest(
    may_rest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(time, "monotonic_ns", itertools.count(1_000_000_000, 100_000).__next__)
    monkeypatch.setattr(time, "sleep", rests.append)

    async def body(setting: Setting) -> None:
        setting.core.may_rest = may_rest
        setting.bridge.attach("link1", setting.link_socket)
        for _ in range(30):
            setting.peer.sendto(IPV4, setting.link_socket.local)
            assert await setting.events.get() == LinkUp("link1")

    run(body)
    assert bool(rests) is may_rest


def test_the_core_is_woken_when_it_wants_and_not_before() -> None:
    async def body(setting: Setting) -> None:
        late = setting.core.deadline_ns = time.monotonic_ns() + 10_000_000_000
        setting.bridge.flush()
        setting.core.deadline_ns = time.monotonic_ns() + 20_000_000
        wanted = setting.core.deadline_ns
        setting.bridge.flush()
        await setting.core.woken.wait()
        assert wanted - 1_000_000 <= setting.core.woken_ns[0] < late

    run(body)


def test_a_deadline_close_at_hand_serves_all_bursts_until_then() -> None:
    async def body(setting: Setting) -> None:
        setting.core.deadline_ns = time.monotonic_ns() + 1_000_000_000
        setting.bridge.flush()
        setting.core.deadline_ns = time.monotonic_ns() + NS_PER_MS // 2
        setting.bridge.flush()
        asked = setting.core.deadlines_asked
        setting.bridge.flush()
        assert (asked, setting.core.deadlines_asked) == (2, 2)

    run(body)


def test_without_a_socket_what_is_sent_is_counted() -> None:
    async def body(setting: Setting) -> None:
        setting.core.sends = [Train("link2", None, bytes(25), 10), Train("link2", None, bytes(10), 10)]
        setting.bridge.flush()
        assert setting.bridge.describe("link2") == {"socket": None, "unsent_datagrams": 4}

    run(body)


def test_a_socket_is_closed_when_another_takes_its_place() -> None:
    async def body(setting: Setting) -> None:
        setting.bridge.attach("link1", setting.link_socket)
        replaced = setting.link_socket.fileno()
        newer = LinkSocket(_udp(), "link1", setting.peer.getsockname())
        setting.bridge.attach("link1", newer)
        assert setting.link_socket.fileno() == -1 and replaced != newer.fileno()
        setting.host.send(IPV4)
        _, source = await asyncio.to_thread(setting.peer.recvfrom, 2000)
        assert source == newer.local

    run(body)
