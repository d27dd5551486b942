"""Where log lines go, which of them, and how a flood of equal ones is held back.

Owns the form of a line and the three places it can go to: stderr with ``--debug``, the journal through stderr when
systemd connected it, else syslog. Everything is opened in ``start``, before the chroot. Lines carry one of MLVPN's
tokens, which ``-D`` selects by. Built on the standard ``logging``: one logger per token.

With ``--debug``: ``2026-11-22T13:07:10 [INFO/config] link1 added``
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mlvpn.core.events import Level

TOKENS: Final = ("config", "control", "dns", "net", "privsep", "protocol", "reorder", "rtt", "tuntap", "wrr")
"""MLVPN's log tokens; a line without one is about the tunnel as a whole."""
SYSLOG_PATH: Final = "/dev/log"
LOG_DAEMON: Final = 3 << 3
"""The syslog facility "daemon", as it stands in a line's priority."""

REPEATS: Final = 5
"""This often an equal line is written within REPEAT_WINDOW_S before it is only counted."""
REPEAT_WINDOW_S: Final = 60.0
REPEAT_LINES: Final = 128
"""Different lines remembered at once; the oldest are forgotten."""

_LEVELS = {
    Level.ERROR: logging.ERROR,
    Level.WARNING: logging.WARNING,
    Level.INFO: logging.INFO,
    Level.DEBUG: logging.DEBUG,
}
_PRIORITIES = {level: priority.value for priority, level in _LEVELS.items()} | {logging.CRITICAL: 2}
_NAMES = {
    logging.DEBUG: " DBG",
    logging.INFO: "INFO",
    logging.WARNING: "WARN",
    logging.ERROR: " ERR",
    logging.CRITICAL: "CRIT",
}

_root = logging.getLogger("mlvpn")


@dataclass(frozen=True, slots=True)
class Verbosity:
    """What the command line says about the log."""

    debug: bool = False
    """Write to stderr, with the time."""
    louder: int = 0
    """Number of -v minus number of -q: 0 shows INFO, 1 DEBUG, -1 WARNING, -2 ERROR."""
    tokens: tuple[str, ...] = ()
    """-D: debug lines of these tokens only, even without -v."""

    def shows(self, level: int, token: str) -> bool:
        """Say whether a line is written."""
        if level == logging.DEBUG and self.tokens:
            return token in self.tokens
        return level >= max(logging.DEBUG, logging.INFO - 10 * self.louder)


def start(verbosity: Verbosity, program: str) -> None:
    """Open the log; ``program`` is what syslog lines begin with."""
    handler: logging.Handler
    if verbosity.debug:
        handler = _Stream(_debug_line)
    elif _stderr_is_journal():
        handler = _Stream(_journal_line)
    else:
        handler = _syslog(program) or _Stream(_debug_line)
    handler.addFilter(lambda record: verbosity.shows(record.levelno, _token(record)))
    handler.addFilter(_Repeats(handler))
    for old in _root.handlers:
        old.close()
    _root.handlers = [handler]
    _root.propagate = False
    _root.setLevel(logging.DEBUG if verbosity.tokens or verbosity.louder > 0 else logging.INFO - 10 * verbosity.louder)
    logging.raiseExceptions = False  # a full disk or a dead syslog must not become a traceback per line


def logger(token: str = "") -> logging.Logger:
    """Return the logger of a token."""
    return _root.getChild(token) if token else _root


def emit(level: Level, token: str, text: str) -> None:
    """Write a line the core asked for."""
    logger(token).log(_LEVELS[level], "%s", text)


def fatal(text: str, error: BaseException | None = None) -> None:
    """Write what ends the daemon, a line each, and show it on stderr too when the log goes elsewhere.

    ``error`` is given for a defect: its traceback goes into the log.
    """
    for line in text.splitlines():
        _root.critical("%s", line, exc_info=error)
    if not any(isinstance(handler, _Stream) for handler in _root.handlers):
        print(f"mlvpn: {text}", file=sys.stderr, flush=True)


def _token(record: logging.LogRecord) -> str:
    return record.name.partition(".")[2]


def _debug_line(record: logging.LogRecord) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
    token = _token(record)
    return f"{stamp} [{_NAMES[record.levelno]}{'/' + token if token else ''}] {_one_line(record)}"


def _journal_line(record: logging.LogRecord) -> str:
    token = _token(record)
    return f"<{_PRIORITIES[record.levelno]}>{token + ': ' if token else ''}{_one_line(record)}"


def _one_line(record: logging.LogRecord) -> str:
    """Return the message without control characters a peer could have put into it; tracebacks keep their lines."""
    text = "".join(char if char.isprintable() else "?" for char in record.getMessage())
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text


class _Stream(logging.Handler):
    """Lines to stderr."""

    def __init__(self, line: Callable[[logging.LogRecord], str]) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self._line(record), file=sys.stderr, flush=True)
        except OSError:
            pass  # nobody holds the other end any more; the tunnel goes on


class _Syslog(logging.Handler):
    """Lines to the local syslog, over a socket that survives the chroot and never blocks.

    logging.handlers.SysLogHandler is not used: it opens its path again after an error, which the chroot forbids.
    """

    def __init__(self, program: str, connected: socket.socket) -> None:
        super().__init__()
        self._program = program
        self._socket = connected

    def emit(self, record: logging.LogRecord) -> None:
        text = _journal_line(record).partition(">")[2]
        priority = LOG_DAEMON | _PRIORITIES[record.levelno]
        try:
            self._socket.send(f"<{priority}>{self._program}[{os.getpid()}]: {text}".encode())
        except OSError:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._socket.close()
        super().close()


def _syslog(program: str) -> _Syslog | None:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        connected.connect(SYSLOG_PATH)
    except OSError as error:
        connected.close()
        print(f"mlvpn: no syslog at {SYSLOG_PATH} ({error.strerror}), logging to stderr", file=sys.stderr)
        return None
    return _Syslog(program, connected)


def _stderr_is_journal() -> bool:
    """Say whether stderr is the journal's own stream (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class _Repeats(logging.Filter):
    """Let an equal line through REPEATS times a window, then count it and say so once when the window is over.

    Debug lines always pass: who asked for them wants every one. The count is written when the line comes again after
    its window, or when any other line comes.
    """

    def __init__(self, handler: logging.Handler, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._handler = handler
        self._clock = clock
        self._seen: dict[str, list[float]] = {}
        """Line -> [end of its window, times seen in it]; in order of the windows' ends."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        now = self._clock()
        self._expire(now, record)
        text = record.getMessage()
        window = self._seen.setdefault(text, [now + REPEAT_WINDOW_S, 0])
        window[1] += 1
        return window[1] <= REPEATS

    def _expire(self, now: float, record: logging.LogRecord) -> None:
        while self._seen:
            text, (end, times) = next(iter(self._seen.items()))
            if end > now and len(self._seen) < REPEAT_LINES:
                break
            del self._seen[text]
            if times > REPEATS:
                summary = f"{text} (repeated {int(times) - REPEATS} more times within {REPEAT_WINDOW_S:.0f} s)"
                self._handler.emit(logging.LogRecord(record.name, record.levelno, "", 0, summary, None, None))
