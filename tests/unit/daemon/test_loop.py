"""The worker's loop: packets are served at once, and asyncio misses nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from mlvpn.daemon.loop import PacketSelector

Body = Callable[[PacketSelector], Awaitable[None]]


def run(body: Body) -> None:
    selector = PacketSelector()

    async def limited() -> None:
        async with asyncio.timeout(5):
            await body(selector)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(limited())


class Wire:
    """A socket whose far end sends to it; ``take`` empties it and says that it was called."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        self._name = name
        self._calls = calls

    def take(self) -> None:
        self.near.recv(100)
        self._calls.append(self._name)

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def wires(calls: list[str]) -> Iterator[list[Wire]]:
    made = [Wire(name, calls) for name in ("first", "second")]
    yield made
    for wire in made:
        wire.close()


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_a_round_reads_all_that_is_there_and_then_ends_once(wires: list[Wire], calls: list[str]) -> None:
    async def body(selector: PacketSelector) -> None:
        for wire in wires:
            selector.add_reader(wire.near.fileno(), wire.take)
            wire.far.send(b"x")
        selector.after_round = lambda: calls.append("round")
        await until(lambda: calls)
        assert sorted(calls[:2]) == ["first", "second"] and calls[2:] == ["round"]

    run(body)


def test_what_a_reader_asks_of_asyncio_is_done_while_packets_keep_coming(wires: list[Wire]) -> None:
    async def body(selector: PacketSelector) -> None:
        first, asked = wires[0], asyncio.Event()

        def endless() -> None:
            first.near.recv(100)
            first.far.send(b"again")
            asyncio.get_running_loop().call_later(0.01, asked.set)

        selector.add_reader(first.near.fileno(), endless)
        first.far.send(b"x")
        await asked.wait()

    run(body)


def test_asyncio_s_own_descriptors_are_its_own(wires: list[Wire], calls: list[str]) -> None:
    async def body(selector: PacketSelector) -> None:
        first, second = wires
        loop = asyncio.get_running_loop()
        selector.add_reader(first.near.fileno(), first.take)
        loop.add_reader(second.near.fileno(), second.take)
        first.far.send(b"x")
        second.far.send(b"x")
        await until(lambda: len(calls) == 2)
        assert calls == ["first", "second"]
        loop.remove_reader(second.near.fileno())

    run(body)


def test_a_removed_reader_is_not_called_even_if_its_turn_had_come(wires: list[Wire], calls: list[str]) -> None:
    async def body(selector: PacketSelector) -> None:
        def take_and_remove(wire: Wire, other: Wire) -> None:
            wire.take()
            selector.remove_reader(other.near.fileno())

        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        first, second = wires
        selector.add_reader(first.near.fileno(), lambda: take_and_remove(first, second))
        selector.add_reader(second.near.fileno(), lambda: take_and_remove(second, first))
        first.far.send(b"x")
        second.far.send(b"x")
        await until(lambda: calls)
        for _ in range(5):  # more rounds, in which it would have been called
            await asyncio.sleep(0)
        assert (len(calls), errors) == (1, [])

    run(body)


def test_the_deadline_ends_a_round_without_packets_when_it_is_due(calls: list[str]) -> None:
    async def body(selector: PacketSelector) -> None:
        came = asyncio.Event()
        ended_ns: list[int] = []

        def ended() -> None:
            ended_ns.append(time.monotonic_ns())
            selector.deadline_ns = None
            came.set()

        selector.after_round = ended
        wanted_ns = selector.deadline_ns = time.monotonic_ns() + 20_000_000
        await came.wait()
        assert ended_ns[0] >= wanted_ns

    run(body)


def test_an_error_in_a_reader_goes_to_the_loop_s_handler(wires: list[Wire]) -> None:
    async def body(selector: PacketSelector) -> None:
        caught: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context["exception"]))

        def broken() -> None:
            wires[0].near.recv(100)
            raise ValueError("broken")

        selector.add_reader(wires[0].near.fileno(), broken)
        wires[0].far.send(b"x")
        await until(lambda: caught)
        assert str(caught[0]) == "broken"

    run(body)
