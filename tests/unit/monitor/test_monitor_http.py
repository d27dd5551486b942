"""Status by HTTP: the four paths, errors as JSON, and clients that are slow, rude or many."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from test_legacy import captured_body, document

from mlvpn.monitor import server
from mlvpn.monitor.snapshots import NoAnswer

FULL: dict[str, Any] = {
    **document(),
    "version": "0.1.0",
    "protocol": "native",
    "counters": {"submitted_packets": 7},
    "drops": {},
    "interface": {"name": "mlvpn0", "kind": "tun", "counters": {"read_frames": 5}},
}
Ask = Callable[[bytes], Awaitable[tuple[str, dict[str, str], bytes]]]


def serving(body: Callable[[int, Ask], Awaitable[None]], snapshot: dict[str, Any] | None = FULL) -> None:
    """Run ``body`` with the port of a server and a function that sends bytes and returns status, headers, body."""

    async def latest() -> dict[str, Any]:
        if snapshot is None:
            raise NoAnswer("the tunnel has not answered for 2 s")
        return snapshot

    async def limited() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        runner = await server.serve(listener, latest)

        async def ask(request: bytes) -> tuple[str, dict[str, str], bytes]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            head, _, content = answer.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            return first, dict(line.split(": ", 1) for line in lines), content

        try:
            async with asyncio.timeout(10):
                await body(port, ask)
        finally:
            await runner.cleanup()

    asyncio.run(limited())


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_mlvpns_paths_have_mlvpns_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.time, "time", lambda: 1795352836.5)

    async def body(port: int, ask: Ask) -> None:
        for path, kind in (("/status", "application/json"), ("/metrics", "text/plain; version=0.0.4; charset=utf-8")):
            first, headers, content = await ask(get(path))
            assert first == "HTTP/1.1 200 OK"
            assert headers["Content-Type"] == kind and headers["Connection"] == "close"
            assert content.decode() == captured_body(f"mlvpn2-{path[1:]}.txt")

    serving(body)


def test_our_own_forms() -> None:
    async def body(port: int, ask: Ask) -> None:
        _, headers, content = await ask(get("/v1/status"))
        assert json.loads(content) == FULL and headers["Content-Type"] == "application/json"
        _, headers, content = await ask(get("/v1/metrics?name=value"))
        assert b'mlvpn_link_sent_bytes_total{link="link1",tunnel="cli"} 3186.0\n' in content
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")

    serving(body)


def test_no_other_origin_may_read_an_answer() -> None:
    async def body(port: int, ask: Ask) -> None:
        for path in (*server.PATHS, "/nope"):
            _, headers, _ = await ask(get(path).replace(b"Host", b"Origin: http://evil\r\nHost"))
            assert not [name for name in headers if name.lower().startswith("access-control")]
            assert headers["Server"] == "mlvpn"

    serving(body)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/nope"), "404 Not Found"),
        (get("/"), "404 Not Found"),
        (get("/status/"), "404 Not Found"),
        (get("/../../etc/passwd"), "404 Not Found"),
        (get("/status", "POST"), "405 Method Not Allowed"),
        (get("/nope", "DELETE"), "405 Method Not Allowed"),
    ],
)
def test_errors_are_json(request_bytes: bytes, status: str) -> None:
    async def body(port: int, ask: Ask) -> None:
        first, headers, content = await ask(request_bytes)
        assert first == f"HTTP/1.1 {status}"
        assert headers["Content-Type"] == "application/json"
        assert list(json.loads(content)) == ["error"]

    serving(body)


def test_a_tunnel_that_does_not_answer_is_503() -> None:
    async def body(port: int, ask: Ask) -> None:
        first, _, content = await ask(get("/status"))
        assert first == "HTTP/1.1 503 Service Unavailable"
        assert json.loads(content) == {"error": "the tunnel has not answered for 2 s"}

    serving(body, None)


def test_head_has_the_headers_alone() -> None:
    async def body(port: int, ask: Ask) -> None:
        first, headers, content = await ask(get("/v1/status", "HEAD"))
        assert first == "HTTP/1.1 200 OK" and int(headers["Content-Length"]) > 100 and content == b""

    serving(body)


def test_a_body_is_not_read() -> None:
    async def body(port: int, ask: Ask) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + bytes(1000))
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.transport.abort()

    serving(body)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /status HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"GET /status HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=["TLS", "long path", "many headers", "long header"],
)
def test_what_is_no_reasonable_request_is_refused(request_bytes: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def body(port: int, ask: Ask) -> None:
        try:
            first, headers, content = await ask(request_bytes)
        except ConnectionError:
            return
        if not first:
            return  # cut without a word
        assert first.startswith("HTTP/1.") and first.split()[1] == "400"
        assert headers["Server"] == "mlvpn" and list(json.loads(content)) == ["error"]
        assert not [record for record in caplog.records if record.levelno > logging.DEBUG or record.exc_info]

    serving(body)


def test_a_defect_is_json_too_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def body(port: int, ask: Ask) -> None:
        first, _, content = await ask(get("/v1/metrics"))
        assert first == "HTTP/1.1 500 Internal Server Error" and list(json.loads(content)) == ["error"]
        assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]

    serving(body, {"name": "no snapshot at all"})


def test_a_connection_does_not_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTION_S", 0.1)

    async def body(port: int, ask: Ask) -> None:
        for beginning in (b"", b"GET /status HTT", b"GET /status HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(beginning)
            with pytest.raises(ConnectionError):
                assert await reader.read() == b""
                raise ConnectionError  # a plain end is as good as a reset
            writer.transport.abort()

    serving(body)


def test_a_client_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTION_S", 0.1)
    huge = {**FULL, "config": "x" * 50_000_000}

    async def body(port: int, ask: Ask) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(get("/v1/status"))
        await asyncio.sleep(0.3)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(50_000_000)
        writer.transport.abort()
        assert (await ask(get("/status")))[0] == "HTTP/1.1 200 OK"

    serving(body, huge)


def test_too_many_connections_are_cut_and_the_next_is_served() -> None:
    async def body(port: int, ask: Ask) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(server.CONNECTIONS)]
        for _ in range(3):
            with pytest.raises(ConnectionError):
                first, _, _ = await ask(get("/status"))
                assert first == ""
                raise ConnectionError  # an end without an answer is as good as a reset
        for _, writer in held:
            writer.transport.abort()
        while True:  # places are free once the server has seen the ends
            try:
                if (await ask(get("/status")))[0] == "HTTP/1.1 200 OK":
                    return
            except ConnectionError:
                pass
            await asyncio.sleep(0.01)

    serving(body)
