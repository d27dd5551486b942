"""The control socket: answers, and clients that are slow, rude or many."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mlvpn.daemon import control
from mlvpn.daemon.control import ControlServer

Client = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def serve(path: Path, body: Callable[[Client], Awaitable[None]]) -> None:
    """Run ``body`` against a server with one command."""

    async def status() -> dict[str, Any]:
        return {"name": "home"}

    async def mlvpns() -> str:
        return '{"tunnels": [\n]}\n'

    async def limited() -> None:
        writers = []

        async def client() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_unix_connection(str(path))
            writers.append(writer)
            return reader, writer

        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(100)
        server = ControlServer({"status": status}, {"status": mlvpns})
        await server.start(listener)
        async with asyncio.timeout(5):
            await body(client)
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    asyncio.run(limited())


def test_a_command_a_line_an_answer_a_line(tmp_path: Path) -> None:
    async def body(client: Client) -> None:
        reader, writer = await client()
        writer.write(b"v1 status\nv1  \tstatus \r\nv1 no such thing\n")
        answers = [json.loads(await reader.readline()) for _ in range(3)]
        assert answers[:2] == [{"schema": control.SCHEMA, "name": "home"}] * 2
        assert answers[2]["error"] == "unknown command 'no such thing'; there are: status"

    serve(tmp_path / "s", body)


def test_mlvpns_words_have_mlvpns_answers(tmp_path: Path) -> None:
    async def body(client: Client) -> None:
        reader, writer = await client()
        writer.write(b"status\r\n\nSTATUS of everything\nstats\nquit\nstatus\n")
        both = b'{"tunnels": [\n]}\n' * 2
        assert await reader.read() == both + b'{"error": "unknown command"}\n' + b"bye."

    serve(tmp_path / "s", body)


@pytest.mark.parametrize("line", [b"x" * 10_000, b"\xff\xfe\0" * 2000])
def test_a_line_without_end_ends_the_connection(tmp_path: Path, line: bytes) -> None:
    async def body(client: Client) -> None:
        reader, writer = await client()
        writer.write(line)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)

    serve(tmp_path / "s", body)


def test_an_idle_client_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IDLE_S", 0.05)

    async def body(client: Client) -> None:
        reader, writer = await client()
        writer.write(b"stat")
        assert await reader.read() == b""

    serve(tmp_path / "s", body)


def test_more_clients_than_allowed_are_refused_and_the_others_served(tmp_path: Path) -> None:
    async def body(client: Client) -> None:
        clients = [await client() for _ in range(control.CLIENTS)]
        for reader, writer in clients:
            writer.write(b"v1 status\n")
            assert json.loads(await reader.readline())["name"] == "home"
        reader, _ = await client()
        assert await reader.read() == b""
        clients[0][1].close()
        await clients[0][1].wait_closed()
        while True:  # the place is free once the server has seen the end of the connection
            reader, writer = await client()
            writer.write(b"v1 status\n")
            try:
                if await reader.readline():
                    return
            except ConnectionError:
                pass
            await asyncio.sleep(0.01)

    serve(tmp_path / "s", body)


def test_a_client_that_reads_nothing_stalls_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PAUSE_S", 0)

    async def body(client: Client) -> None:
        _, deaf = await client()
        deaf.write(b"v1 status\n" * 200_000)
        reader, writer = await client()
        writer.write(b"v1 status\n")
        assert json.loads(await reader.readline())["name"] == "home"

    serve(tmp_path / "s", body)
