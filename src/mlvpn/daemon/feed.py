"""The worker's end of its channel to the monitor: answers with a snapshot, when asked, five times a second at most.

The monitor speaks with strangers, so it is trusted with nothing: what it asks is not even looked at, and one that asks
too often or does not take its answers waits, never the worker. The other end is monitor/snapshots.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from mlvpn.daemon.tasks import spawn

EVERY_S = 0.2
"""A snapshot takes below a millisecond: half a percent of this process's time at most."""
QUESTION_BYTES = 64


class Feed:
    """Serves one channel; ``describe`` makes the document."""

    def __init__(self, channel: socket.socket, describe: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._channel = channel
        self._describe = describe
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        channel.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Answer no more; the other end notices."""
        self._loop.remove_reader(self._channel)
        if self._pause is not None:
            self._pause.cancel()
        self._channel.close()

    def _listen(self) -> None:
        self._loop.add_reader(self._channel, self._readable)

    def _readable(self) -> None:
        self._loop.remove_reader(self._channel)
        try:
            if not self._channel.recv(QUESTION_BYTES):
                return  # [priv] has gone, which ends this process
        except BlockingIOError:
            pass
        self._pause = self._loop.call_later(EVERY_S, self._listen)
        self._task = spawn(self._send())

    async def _send(self) -> None:
        document = json.dumps(await self._describe()).encode()
        try:
            self._channel.send(document)
        except OSError:
            pass  # it does not take its answers, or was just closed; it asks again
