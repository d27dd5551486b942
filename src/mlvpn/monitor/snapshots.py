"""The monitor's end of its channel to the worker: asks for a snapshot, at most every 200 ms, and shares it out.

Owns the cache and the one question that may be outstanding. The other end is daemon/feed.py. One message is one
record of a SOCK_SEQPACKET socket: the question ``QUESTION``, the answer the status document as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

from mlvpn.errors import SystemFailure

QUESTION = b"status"
FRESH_S = 0.2
"""A snapshot serves everybody who asks within this time."""
ANSWER_S = 2.0
"""The worker answers between two bursts of packets; one that takes longer is stuck."""
MESSAGE_BYTES = 512 << 10
"""Largest answer: 64 links are some 100 KB."""


class NoAnswer(SystemFailure):
    """The worker did not answer in time."""


class Snapshots:
    """``await snapshots.latest()`` from any number of tasks."""

    def __init__(self, channel: socket.socket) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the worker is gone."""
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._document: dict[str, Any] = {}
        self._fresh_until = 0.0
        self._answer: asyncio.Future[None] | None = None
        channel.setblocking(False)
        with contextlib.suppress(OSError):
            while channel.recv(MESSAGE_BYTES):
                pass  # answers that a monitor before this one did not live to read
        self._loop.add_reader(channel, self._readable)

    async def latest(self) -> dict[str, Any]:
        """Return a snapshot that is at most FRESH_S old, or raise NoAnswer."""
        if self._loop.time() >= self._fresh_until:
            if self._answer is None or self._answer.done():
                self._answer = self._ask()
            try:
                await asyncio.wait_for(asyncio.shield(self._answer), ANSWER_S)
            except TimeoutError:
                self._answer = None
                raise NoAnswer(f"the tunnel has not answered for {ANSWER_S:.0f} s") from None
        return self._document

    def _ask(self) -> asyncio.Future[None]:
        try:
            self._channel.send(QUESTION)
        except BlockingIOError:
            pass  # enough questions wait to be answered
        return self._loop.create_future()

    def _readable(self) -> None:
        try:
            message = self._channel.recv(MESSAGE_BYTES)
        except ConnectionError:
            message = b""
        if not message:
            self._loop.remove_reader(self._channel)
            self.ended.set_result(None)
            return
        self._document = json.loads(message)
        self._fresh_until = self._loop.time() + FRESH_S
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
