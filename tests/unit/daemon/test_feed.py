"""The channel between worker and monitor, both ends: fresh enough, never too often, and nobody waits for a dead end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mlvpn.daemon import feed, keeper
from mlvpn.daemon.feed import Feed
from mlvpn.monitor import snapshots
from mlvpn.monitor.snapshots import NoAnswer, Snapshots

IS_ROOT = os.geteuid() == 0


class Worker:
    """What the feed describes: how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.filling = ""

    async def describe(self) -> dict[str, Any]:
        self.asked += 1
        return {"asked": self.asked, "filling": self.filling}


def between(body: Callable[[Worker, socket.socket, Feed], Awaitable[None]]) -> None:
    """Run ``body`` with a worker that feeds a channel, and the monitor's end of it."""

    async def limited() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, keeper.SO_SNDBUFFORCE if IS_ROOT else socket.SO_SNDBUF, keeper.ANSWER_BYTES)
        worker = Worker()
        served = Feed(ours, worker.describe)
        try:
            async with asyncio.timeout(10):
                await body(worker, theirs, served)
        finally:
            if ours.fileno() >= 0:
                served.close()
            asyncio.get_running_loop().remove_reader(theirs)
            theirs.close()

    asyncio.run(limited())


def test_many_who_ask_at_once_share_one_snapshot() -> None:
    async def body(worker: Worker, channel: socket.socket, served: Feed) -> None:
        monitor = Snapshots(channel)
        answers = await asyncio.gather(*(monitor.latest() for _ in range(50)))
        assert [answer["asked"] for answer in answers] == [1] * 50
        assert (await monitor.latest())["asked"] == 1

    between(body)


def test_an_old_snapshot_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "FRESH_S", 0.0)
    monkeypatch.setattr(feed, "EVERY_S", 0.0)

    async def body(worker: Worker, channel: socket.socket, served: Feed) -> None:
        monitor = Snapshots(channel)
        assert [(await monitor.latest())["asked"] for _ in range(5)] == [1, 2, 3, 4, 5]

    between(body)


def test_a_monitor_that_asks_without_end_is_answered_five_times_a_second() -> None:
    async def body(worker: Worker, channel: socket.socket, served: Feed) -> None:
        channel.setblocking(False)
        end = asyncio.get_running_loop().time() + 0.5
        while asyncio.get_running_loop().time() < end:
            try:
                channel.send(b"x" * 1000)
            except BlockingIOError:
                pass
            await asyncio.sleep(0.001)
        assert 1 <= worker.asked <= 4

    between(body)


def test_a_monitor_that_takes_no_answers_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EVERY_S", 0.0)

    async def body(worker: Worker, channel: socket.socket, served: Feed) -> None:
        worker.filling = "x" * 50_000
        for asked in range(1, 101):
            channel.send(b"?")
            while worker.asked < asked:
                await asyncio.sleep(0)
        assert worker.asked == 100

    between(body)


@pytest.mark.skipif(not IS_ROOT, reason="only root may enlarge a socket's buffer beyond the system's limit")
def test_a_snapshot_of_many_links_passes_in_one_piece() -> None:
    async def body(worker: Worker, channel: socket.socket, served: Feed) -> None:
        worker.filling = "x" * 400_000
        assert len((await Snapshots(channel).latest())["filling"]) == 400_000

    between(body)


def test_a_worker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "ANSWER_S", 0.05)

    async def body(worker: Worker, channel: socket.socket, served: Feed) -> None:
        async def stuck() -> dict[str, Any]:
            return await asyncio.get_running_loop().create_future()

        served._describe = stuck
        monitor = Snapshots(channel)
        for _ in range(2):
            with pytest.raises(NoAnswer, match="has not answered"):
                await monitor.latest()
        served._task.cancel()

    between(body)


def test_the_next_monitor_goes_on_where_the_last_one_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "EVERY_S", 0.0)

    async def body(worker: Worker, channel: socket.socket, served: Feed) -> None:
        channel.send(b"?")  # of a monitor that is dead before the answer comes
        while worker.asked < 1:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert (await Snapshots(channel).latest())["asked"] == 2, "an answer of long ago is no snapshot of now"

    between(body)


def test_the_end_of_the_worker_is_noticed() -> None:
    async def body(worker: Worker, channel: socket.socket, served: Feed) -> None:
        monitor = Snapshots(channel)
        served.close()
        await monitor.ended

    between(body)
