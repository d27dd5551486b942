"""The UNIX control socket: one word a line in, one JSON document a line out.

    status   the versioned snapshot (docs/operating.md); additive only under one "schema" number
    reload   re-read the configuration and apply the difference; says what changed or why not
    quit     stop the daemon

Owns the socket's protocol and what keeps a hostile or slow client from harming the tunnel: few clients, short lines,
an idle limit, a pause between answers, and nothing that waits for a client. Other renderings of the snapshot (MLVPN's
JSON, HTTP) are made from the same snapshot elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from mlvpn.daemon import log
from mlvpn.daemon.tasks import spawn

SCHEMA = 1
"""Version of everything this socket says."""
CLIENTS = 16
LINE_BYTES = 256
IDLE_S = 30.0
"""A client that sends no line, or does not read its answer, for so long is disconnected."""
PAUSE_S = 0.01
"""Between two answers to one client: 16 that ask without end cost 1600 snapshots a second at most."""

Command = Callable[[], Awaitable[dict[str, Any]]]

_log = log.logger("control")


class ControlServer:
    """Serves the commands it is given, by name."""

    def __init__(self, commands: dict[str, Command]) -> None:
        self._commands = commands
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
                answer = await self._answer(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                async with asyncio.timeout(IDLE_S):
                    await writer.drain()
                await asyncio.sleep(PAUSE_S)
        except (TimeoutError, ValueError, OSError) as error:  # ValueError: a line longer than LINE_BYTES
            _log.debug("disconnected a client: %r", error)
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        name = line.decode("utf-8", "replace").strip()
        command = self._commands.get(name)
        if command is None:
            return {"schema": SCHEMA, "error": f"unknown command {name!r}; there are: {', '.join(self._commands)}"}
        return {"schema": SCHEMA, **await command()}
