"""How [priv] ends: with the worker, whatever way that goes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from mlvpn.daemon import log, supervisor
from mlvpn.daemon.options import Options
from mlvpn.errors import ConfigError, PermissionDeniedError
from mlvpn.system.privsep import Quit, pack_request


@pytest.fixture(autouse=True)
def log_to_stderr() -> Iterator[None]:
    root = logging.getLogger("mlvpn")
    before = root.handlers, root.propagate, root.level, logging.raiseExceptions
    root.handlers = []
    log.start(log.Verbosity(debug=True), "mlvpn")
    yield
    root.handlers, root.propagate, root.level, logging.raiseExceptions = before


def supervise(worker: Callable[[socket.socket], int]) -> int:
    """Fork a worker that does as told and return [priv]'s exit code."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.PASSED_ON)
    pid = os.fork()
    if pid == 0:
        ours.close()
        supervisor._end_child(lambda: worker(theirs))
    theirs.close()
    with ours:
        return asyncio.run(supervisor._supervise(Options("/none.conf", "test"), ours, pid))


def wait_for_ever(channel: socket.socket) -> int:
    time.sleep(60)
    return 0


def test_the_workers_exit_code_is_ours() -> None:
    assert supervise(lambda channel: 0) == 0
    assert supervise(lambda channel: 7) == 7


def test_an_error_of_the_worker_brings_its_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(channel: socket.socket) -> int:
        raise ConfigError("home.conf:1:1: error: no")

    assert supervise(fail) == 78
    assert "home.conf:1:1: error: no" in capfd.readouterr().err


def test_a_defect_of_the_worker_is_exit_1_with_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(channel: socket.socket) -> int:
        raise AssertionError("broken")

    assert supervise(fail) == 1
    assert "AssertionError: broken" in capfd.readouterr().err


@pytest.mark.parametrize("message", [b"junk", pack_request(1, Quit())])
def test_a_worker_that_breaks_the_rules_is_killed(message: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    def misbehave(channel: socket.socket) -> int:
        channel.send(message)
        return wait_for_ever(channel)

    assert supervise(misbehave) == 1
    shown = capfd.readouterr().err
    assert "ending it" in shown and "killed by SIGKILL" in shown


def test_a_worker_that_hangs_up_and_stays_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LINGER_S", 0.05)

    def hang_up(channel: socket.socket) -> int:
        channel.close()
        return wait_for_ever(channel)

    assert supervise(hang_up) == 1


@pytest.mark.parametrize("number", supervisor.PASSED_ON)
def test_signals_are_passed_on(number: signal.Signals) -> None:
    def wait_for_signal(channel: socket.socket) -> int:
        os.kill(os.getppid(), number)
        return 40 + signal.sigwait(supervisor.PASSED_ON)

    assert supervise(wait_for_signal) == 40 + number


def test_only_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionDeniedError, match="root"):
        supervisor.run(Options("/none.conf", "test"))
