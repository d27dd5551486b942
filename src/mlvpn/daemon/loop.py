"""The worker's event loop: asyncio's, on a selector that serves the packets' descriptors itself.

    wait --> a packet's descriptor: its reader, at once
         --> readers were called, or the deadline has passed: what follows each round (the bridge's flush)
         --> any other: asyncio, as ever

A packet that comes alone waits for all code between it and its reader. asyncio's way from the kernel to a callback is
long, and a bridge that flushes when all has been read would have to go it twice (docs/benchmarks.md).

Owns the order in which descriptors are served, and the packets' one timer. Does not own what a reader does (`bridge`).
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from collections.abc import Callable


class PacketSelector(selectors.EpollSelector):
    """A selector for asyncio that tells it nothing of the packets' descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self._readers: dict[int, Callable[[], None]] = {}
        self.after_round: Callable[[], None] | None = None
        """Called when everything that was readable has been read once, or ``deadline_ns`` has passed."""
        self.deadline_ns: int | None = None
        """On the clock of ``time.monotonic_ns``; stays until it is set anew."""
        self._poll = select.epoll()
        self._poll.register(super().fileno(), select.EPOLLIN)

    def add_reader(self, fd: int, reader: Callable[[], None]) -> None:
        """Have ``reader`` called whenever ``fd`` is readable or broken."""
        self._readers[fd] = reader
        self._poll.register(fd, select.EPOLLIN)

    def remove_reader(self, fd: int) -> None:
        """Call it no more; to be called before ``fd`` is closed."""
        del self._readers[fd]
        self._poll.unregister(fd)

    def close(self) -> None:
        """Close both selectors; descriptors stay open."""
        self._poll.close()
        super().close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, serve packets, and return asyncio's share. HOT PATH.

        It returns after each round, so what readers have asked of asyncio, a timer or a task, is never late. As in a
        callback of asyncio's, an exception goes to the loop's handler.
        """
        ready = self._poll.poll(self._until_deadline_s(timeout))
        served = 0
        try:
            for fd, _ in ready:
                reader = self._readers.get(fd)  # none: asyncio's, or removed by the reader before it
                if reader is not None:
                    reader()
                    served += 1
            if self.after_round is not None and (served or self._is_late()):
                self.after_round()
        except Exception as error:
            context = {"message": "Exception in a packet's reader", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        return super().select(0) if len(ready) > served else []

    def _until_deadline_s(self, timeout: float | None) -> float | None:
        if self.deadline_ns is None:
            return timeout
        left_s = max(self.deadline_ns - time.monotonic_ns(), 0) / 1e9
        return left_s if timeout is None else min(timeout, left_s)

    def _is_late(self) -> bool:
        return self.deadline_ns is not None and self.deadline_ns <= time.monotonic_ns()
