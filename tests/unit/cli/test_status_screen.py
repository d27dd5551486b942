"""What ``mlvpn status`` shows, and its exit codes."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlvpn.cli import connection
from mlvpn.cli.reload import reload
from mlvpn.cli.status import DEGRADED, DOWN, health, status
from mlvpn.errors import ConfigError, Error, NotRunningError

LINK1 = {
    "name": "adsl1",
    "state": "up",
    "reason": None,
    "local": "10.3.1.1:40000",
    "remote": "203.0.113.5:5081",
    "rtt_ms": 21.3,
    "loss_ratio": 0.004,
    "sent_bps": 1_250_000,
    "received_bps": 18_400_000,
    "capacity_bps": 20_000_000,
    "sent_bytes": 1_500_000,
    "received_bytes": 2_000_000_000,
    "peer_wait_ms": 12.5,
    "mtu_bytes": 1492,
    "socket": {"counters": {"dropped_too_big": 2}},
    "unsent_datagrams": 0,
}
LINK2 = {"name": "lte", "state": "down", "reason": "interface wwan0 is missing", "fallback_only": True}
SNAPSHOT: dict[str, Any] = {
    "schema": 1,
    "name": "home",
    "mode": "client",
    "protocol": "native",
    "cipher": "aes-256-gcm",
    "uptime_s": 11_220.0,
    "session_age_s": 65.0,
    "last_heard_s": 0.2,
    "queue_bytes": 15_000,
    "queue_ms": 3.5,
    "bulk_flows": 2,
    "bounded_flows": 1,
    "equalise_ms": 123.4,
    "interface": {
        "name": "mlvpn0",
        "kind": "tun",
        "mtu_bytes": 1432,
        "offloads": ["csum", "tso4"],
        "plain_because": "",
        "counters": {"read_frames": 9, "dropped_queue_full": 7},
    },
    "links": [LINK1, LINK2],
    "drops": {"unauthentic_datagrams": 12, "replayed_datagrams": 0, "handshake_duplicate": 1},
}


class Answering:
    """A control socket that gives prepared answers."""

    def __init__(self, path: Path, answers: dict[str, Any]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answers = answers
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client, client.makefile("rwb") as stream:
                command = stream.readline().decode().strip().removeprefix("v1 ")
                if command == "":
                    return
                stream.write(json.dumps(self._answers[command]).encode() + b"\n")

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._listener.getsockname())
        self._thread.join()
        self._listener.close()


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(connection, "RUN_DIRECTORY", tmp_path)
    return tmp_path


def invoke(path: Path, answers: dict[str, Any], command: Any, *arguments: str) -> Any:
    daemon = Answering(path, answers)
    try:
        return CliRunner().invoke(command, arguments)
    finally:
        daemon.close()


def test_a_person_sees_state_reason_rates_and_what_was_dropped(run_directory: Path) -> None:
    shown = invoke(run_directory / "home.sock", {"status": SNAPSHOT}, status, "home").output
    for text in (
        "home  1 of 2 links up",
        "client, protocol native, aes-256-gcm, running for 3 h 7 min",
        "authenticated for 1 min 5 s, heard 200 ms ago",
        "mlvpn0 (tun), MTU 1432, offloads csum tso4",
        "15 kB, 3.5 ms",
        "bulk    sending 2 flows, 1 with a window too small for all links",
        "held    received bulk by up to 123 ms, so that all links take equally long",
        "21.3 ms",
        "1.25 Mbit/s",
        "18.4 Mbit/s",
        "capacity 20 Mbit/s, the peer reads 12.5 ms late, MTU 1492",
        "10.3.1.1:40000 to 203.0.113.5:5081",
        "interface wwan0 is missing",
        "fallback only",
        "dropped 12 unauthentic datagrams",
        "dropped 7 device queue full",
        "dropped 2 adsl1 too big",
    ):
        assert text in shown
    assert "replayed" not in shown and "duplicate" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_what_is_not_known_is_not_shown(run_directory: Path) -> None:
    fresh = {**LINK2, "mtu_bytes": 1280, "rtt_ms": None, "capacity_bps": 4e6, "capacity_is_measured": False}
    calm = {"queue_bytes": 0, "queue_ms": 0.0, "bulk_flows": 0, "bounded_flows": 0, "equalise_ms": 0.0}
    snapshot = {**SNAPSHOT, "links": [fresh], **calm}
    shown = invoke(run_directory / "home.sock", {"status": snapshot}, status, "home").output
    assert "queue   empty" in shown and "bulk" not in shown
    assert "1280" not in shown
    assert "capacity at least 4 Mbit/s" in shown


def test_a_program_gets_the_daemons_own_snapshot(run_directory: Path) -> None:
    result = invoke(run_directory / "home.sock", {"status": SNAPSHOT}, status, "--json")
    assert json.loads(result.output) == SNAPSHOT


@pytest.mark.parametrize(
    ("states", "code"), [(("up", "up"), 0), (("up", "down"), DEGRADED), (("down", "probing"), DOWN)]
)
def test_the_exit_code_tells_how_it_is(run_directory: Path, states: tuple[str, str], code: int) -> None:
    snapshot = {**SNAPSHOT, "links": [{**LINK1, "state": state} for state in states]}
    assert health(snapshot) == code
    assert invoke(run_directory / "home.sock", {"status": snapshot}, status, "--exit-code").exit_code == code


def test_nothing_runs(run_directory: Path) -> None:
    with pytest.raises(NotRunningError, match="no tunnel is running"):
        connection.control_sockets(None)
    with pytest.raises(NotRunningError, match="no daemon answers"):
        connection.ask(run_directory / "home.sock", "status")
    (run_directory / "home.sock").touch()
    with pytest.raises(NotRunningError, match="no daemon answers"):
        connection.ask(run_directory / "home.sock", "status")


def test_a_daemon_that_does_not_answer(run_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(run_directory / "home.sock"))
        stuck.listen()
        with pytest.raises(Error, match="does not answer"):
            connection.ask(run_directory / "home.sock", "status")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "home.conf"
    path.write_text("[general]\nmode = server\npassword = secret\n[link1]\nbindport = 5080\n")
    path.chmod(0o600)
    return path


def test_reload_says_what_changed(run_directory: Path, config: Path) -> None:
    answers = {"status": {"config": str(config)}, "reload": {"changes": ["link lte added"]}}
    result = invoke(run_directory / "home.sock", answers, reload, "home")
    assert (result.output, result.exit_code) == ("link lte added\n", 0)


def test_reload_checks_the_file_before_it_asks(run_directory: Path, config: Path) -> None:
    config.write_text("[general]\nmode = servant\n")
    result = invoke(run_directory / "home.sock", {"status": {"config": str(config)}}, reload, "home")
    assert isinstance(result.exception, ConfigError) and "home.conf:2:8" in str(result.exception)


def test_reload_passes_on_why_it_was_refused(run_directory: Path, config: Path) -> None:
    answers = {"status": {"config": str(config)}, "reload": {"error": "no", "exit_code": 78}}
    result = invoke(run_directory / "home.sock", answers, reload, "home")
    assert isinstance(result.exception, ConfigError)
