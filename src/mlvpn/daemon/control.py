"""The UNIX control socket: a line in, an answer out.

    v1 status   the versioned snapshot (docs/operating.md); additive only under one "schema" number
    v1 reload   re-read the configuration and apply the difference; says what changed or why not
    v1 stop     stop the daemon
                each is answered with one JSON document on one line

    status      MLVPN 2.x's own words with its own answers (monitor/legacy.py), for what has always asked them
    metrics
    quit        "bye.", and the connection ends

Owns the socket's protocol and what keeps a hostile or slow client from harming the tunnel: few clients, short lines,
an idle limit, a pause between answers, and nothing that waits for a client.

As in MLVPN (control.c) its words may be in capitals, what follows them on the line is ignored, and so is an empty line.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from mlvpn.daemon import log
from mlvpn.daemon.tasks import spawn
from mlvpn.monitor import legacy

SCHEMA = 1
"""Version of all answers to commands."""
VERSION_WORD = "v1"
"""Stands before a command: MLVPN's words are without it."""
CLIENTS = 16
LINE_BYTES = 256
IDLE_S = 30.0
"""A client that sends no line, or does not read its answer, for so long is disconnected."""
PAUSE_S = 0.01
"""Between two answers to one client: 16 that ask without end cost 1600 snapshots a second at most."""

Command = Callable[[], Awaitable[dict[str, Any]]]
Word = Callable[[], Awaitable[str]]

_log = log.logger("control")


class ControlServer:
    """Serves the commands and MLVPN's words it is given, by name."""

    def __init__(self, commands: dict[str, Command], words: dict[str, Word]) -> None:
        self._commands = commands
        self._words = words
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept clients on a listening socket."""
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=LINE_BYTES)

    def close(self) -> None:
        """Disconnect everybody."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CLIENTS:
            _log.debug("refused a client: %d are connected", CLIENTS)
            writer.transport.abort()
            return
        client = spawn(self._serve(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    line = await reader.readline()
                if not line:
                    break
                first, *rest = line.decode("utf-8", "replace").split() or [""]
                if first.lower() == "quit":
                    writer.write(b"bye.")
                    break
                answer = await (self._answer(" ".join(rest)) if first == VERSION_WORD else self._answer_word(first))
                writer.write(answer.encode())
                async with asyncio.timeout(IDLE_S):
                    await writer.drain()
                await asyncio.sleep(PAUSE_S)
        except (TimeoutError, ValueError, OSError) as error:  # ValueError: a line longer than LINE_BYTES
            _log.debug("disconnected a client: %r", error)
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _answer(self, name: str) -> str:
        command = self._commands.get(name)
        known = ", ".join(self._commands)
        answer = {"error": f"unknown command {name!r}; there are: {known}"} if command is None else await command()
        return json.dumps({"schema": SCHEMA, **answer}) + "\n"

    async def _answer_word(self, name: str) -> str:
        if not name:
            return ""
        word = self._words.get(name.lower())
        return legacy.UNKNOWN_COMMAND if word is None else await word()
