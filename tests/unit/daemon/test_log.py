"""Which lines are written, what they look like, and that a flood is held back."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlvpn.core.events import Level
from mlvpn.daemon import log
from mlvpn.daemon.log import Verbosity


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    root = logging.getLogger("mlvpn")
    before = root.handlers, root.propagate, root.level, logging.raiseExceptions
    root.handlers = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers, root.propagate, root.level, logging.raiseExceptions = before


@pytest.mark.parametrize(
    ("verbosity", "level", "token", "shown"),
    [
        (Verbosity(), logging.INFO, "config", True),
        (Verbosity(), logging.DEBUG, "config", False),
        (Verbosity(louder=1), logging.DEBUG, "config", True),
        (Verbosity(louder=-1), logging.INFO, "config", False),
        (Verbosity(louder=-1), logging.WARNING, "", True),
        (Verbosity(louder=-2), logging.WARNING, "", False),
        (Verbosity(tokens=("rtt",)), logging.DEBUG, "rtt", True),
        (Verbosity(tokens=("rtt",)), logging.DEBUG, "net", False),
        (Verbosity(tokens=("rtt",), louder=1), logging.DEBUG, "net", False),
        (Verbosity(tokens=("rtt",)), logging.INFO, "net", True),
    ],
)
def test_what_is_shown(verbosity: Verbosity, level: int, token: str, shown: bool) -> None:
    assert verbosity.shows(level, token) is shown


def test_a_debug_line_has_time_level_and_token(capsys: pytest.CaptureFixture[str]) -> None:
    log.start(Verbosity(debug=True, tokens=("net",)), "mlvpn")
    log.logger("config").info("link1 tunnel added")
    log.emit(Level.DEBUG, "net", "> link1 sent 46 bytes")
    log.logger().warning("no token")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"{stamp} \[INFO/config\] link1 tunnel added", lines[0])
    assert re.fullmatch(rf"{stamp} \[ DBG/net\] > link1 sent 46 bytes", lines[1])
    assert re.fullmatch(rf"{stamp} \[WARN\] no token", lines[2])


def test_a_line_cannot_be_forged_by_what_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    log.start(Verbosity(debug=True), "mlvpn")
    log.logger().info("evil\n2026-01-01T00:00:00 [CRIT] forged \x1b[31m")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_syslog_lines_carry_priority_program_and_pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        syslog.settimeout(2)
        monkeypatch.setattr(log, "SYSLOG_PATH", str(tmp_path / "log"))
        log.start(Verbosity(), "mlvpn/home")
        log.logger("net").error("gone")
        assert re.fullmatch(r"<27>mlvpn/home\[\d+\]: net: gone", syslog.recv(1000).decode())


def test_without_syslog_the_log_goes_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "SYSLOG_PATH", str(tmp_path / "none"))
    log.start(Verbosity(), "mlvpn")
    log.logger().info("here")
    assert "here" in capsys.readouterr().err


def test_a_fatal_text_is_on_stderr_once_wherever_the_log_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.start(Verbosity(debug=True), "mlvpn")
    log.fatal("a: error\nb: error")
    assert capsys.readouterr().err.count("a: error") == 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        monkeypatch.setattr(log, "SYSLOG_PATH", str(tmp_path / "log"))
        log.start(Verbosity(), "mlvpn")
        log.fatal("to both")
        assert b"to both" in syslog.recv(1000)
    assert capsys.readouterr().err == "mlvpn: to both\n"


class Collect(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.now = 0.0
        self.addFilter(log._Repeats(self, lambda: self.now))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def say(self, text: str, times: int = 1, level: int = logging.INFO) -> None:
        for _ in range(times):
            self.handle(logging.LogRecord("mlvpn", level, "", 0, text, None, None))


def test_a_flood_becomes_a_few_lines_and_a_count() -> None:
    handler = Collect()
    handler.say("bad password", 1000)
    handler.say("something else")
    assert handler.lines == ["bad password"] * log.REPEATS + ["something else"]
    handler.now = log.REPEAT_WINDOW_S + 1
    handler.say("bad password")
    assert handler.lines[-2:] == [
        f"bad password (repeated {1000 - log.REPEATS} more times within 60 s)",
        "bad password",
    ]


def test_debug_lines_are_never_held_back() -> None:
    handler = Collect()
    handler.say("sent", 100, logging.DEBUG)
    assert len(handler.lines) == 100


def test_different_lines_without_end_take_bounded_memory() -> None:
    handler = Collect()
    for number in range(10 * log.REPEAT_LINES):
        handler.say(f"line {number}")
    assert len(handler.lines) == 10 * log.REPEAT_LINES
    (repeats,) = handler.filters
    assert len(repeats._seen) <= log.REPEAT_LINES  # type: ignore[union-attr]
