"""The lab's side of the emulator: start the process, tell it what to change, read what it counted.

The protocol is in ``emulator``. Every call is one request and one answer over its UNIX socket; an emulator that does
not answer within ``ANSWER_TIMEOUT_S`` is a failure of the lab, never waited for.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from mlvpn.errors import SystemFailure

ANSWER_TIMEOUT_S = 5.0
START_TIMEOUT_S = 10.0

Spawn = Callable[..., "subprocess.Popen[str]"]
"""Starts a command in the emulator's namespace: ``spawn(argv, stdin=..., stderr=...)``."""


class Emulator:
    """A running emulator process."""

    def __init__(self, spawn: Spawn, directory: Path, links: list[dict[str, Any]], seed: int) -> None:
        """Start it with these links and wait until it answers."""
        control_path = directory / "emulator.sock"
        self._log_path = directory / "emulator.log"
        with self._log_path.open("wb") as log:
            self._process = spawn(
                [sys.executable, "-m", "mlvpn.lab.emulator"], stdin=subprocess.PIPE, stderr=log, text=True
            )
        stdin: IO[str] | None = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"control": str(control_path), "seed": seed, "links": links}) + "\n")
        stdin.flush()
        self._socket = self._connect(control_path)
        self._answers = self._socket.makefile("r")

    def _connect(self, path: Path) -> socket.socket:
        deadline = time.monotonic() + START_TIMEOUT_S
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(ANSWER_TIMEOUT_S)
        while True:
            try:
                sock.connect(str(path))
                return sock
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    sock.close()
                    log = self._log_path.read_text(errors="replace").strip()
                    raise SystemFailure(f"the emulator did not start; its last words:\n{log[-2000:]}") from None
                time.sleep(0.01)

    @property
    def pid(self) -> int:
        """Process id, for its CPU time."""
        return self._process.pid

    def _ask(self, **request: Any) -> Any:
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(self._answers.readline())
        except (OSError, ValueError) as error:
            raise SystemFailure(f"the emulator does not answer ({error}); see {self._log_path}") from error
        if not answer["ok"]:
            raise SystemFailure(f"the emulator refused {request}: {answer['error']}")
        return answer["result"]

    def configure(self, link: str, direction: str | None = None, **changes: Any) -> None:
        """Change fields of ``ChannelSpec`` of a link from now on; both directions unless one is named."""
        self._ask(op="configure", link=link, direction=direction, changes=changes)

    def cut(self, link: str, direction: str | None = None) -> None:
        """Lose everything silently; the interfaces stay up."""
        self._ask(op="cut", link=link, direction=direction)

    def heal(self, link: str, direction: str | None = None) -> None:
        """End a cut."""
        self._ask(op="heal", link=link, direction=direction)

    def restart_trace(self, link: str, direction: str | None = None) -> None:
        """Let the link's trace begin now."""
        self._ask(op="restart_trace", link=link, direction=direction)

    def counters(self) -> dict[str, dict[str, Any]]:
        """Return cumulative counters by "link/direction"; see ``channel.Counters`` and ``emulator.Wire.counters``."""
        result: dict[str, dict[str, Any]] = self._ask(op="counters")
        return result

    def series(self, since_ns: int = 0) -> list[dict[str, Any]]:
        """Return the 100 ms samples taken after ``since_ns``; their fields are those of ``emulator.Wire.sample``."""
        result: list[dict[str, Any]] = self._ask(op="series", since_ns=since_ns)
        return result

    def stop(self) -> None:
        """End the process; harmless when it has ended already."""
        self._answers.close()
        self._socket.close()
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        try:
            self._process.wait(timeout=ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
