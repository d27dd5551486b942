"""The command line: both forms of starting a daemon, exit codes, and errors that are never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlvpn import __version__, cli
from mlvpn.daemon import supervisor
from mlvpn.daemon.log import Verbosity
from mlvpn.daemon.options import Options
from mlvpn.errors import ConfigError, NotRunningError, PermissionDeniedError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Collect what would be run."""
    runs: list[Options] = []

    def run(options: Options) -> int:
        runs.append(options)
        return 0

    monkeypatch.setattr(supervisor, "run", run)
    return runs


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["mlvpn", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_mlvpns_own_options(monkeypatch: pytest.MonkeyPatch, started: list[Options]) -> None:
    line = "-c /etc/x.conf -u joe -n home --natural-title --debug -D rtt -D net -v -v -q --yes-run-as-root"
    assert exit_code(monkeypatch, *line.split()) == 0
    verbosity = Verbosity(debug=True, louder=1, tokens=("rtt", "net"))
    assert started == [Options("/etc/x.conf", "home", "joe", True, True, verbosity)]


@pytest.mark.parametrize(
    ("arguments", "path", "name"),
    [
        ("--config x/home.conf", "{cwd}/x/home.conf", "home"),
        ("run home", "/etc/mlvpn/home.conf", "home"),
        ("run ./home", "{cwd}/home", "home"),
        ("run home.conf", "{cwd}/home.conf", "home"),
        ("run home -n other", "/etc/mlvpn/home.conf", "other"),
    ],
)
def test_file_and_name(
    monkeypatch: pytest.MonkeyPatch, started: list[Options], arguments: str, path: str, name: str
) -> None:
    assert exit_code(monkeypatch, *arguments.split()) == 0
    assert [(run.config_path, run.name) for run in started] == [(path.format(cwd=Path.cwd()), name)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "say what to do"),
        ("-c", "requires an argument"),
        ("rnu home", "No such command 'rnu'"),
        ("-c x.conf -D speed", "there is no log token speed"),
        ("-c x.conf -n a/b", "cannot be a tunnel's name"),
        ("-c x.conf -n ..", "cannot be a tunnel's name"),
        ("-c x.conf status", "stand after the command"),
        ("run", "Missing argument"),
    ],
)
def test_usage_errors_are_exit_2_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
    started: list[Options],
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    assert exit_code(monkeypatch, *arguments.split()) == 2
    assert message in capsys.readouterr().err and not started


@pytest.mark.parametrize("error", [ConfigError, NotRunningError, PermissionDeniedError])
def test_an_error_is_one_message_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[ConfigError]
) -> None:
    def fail(options: Options) -> int:
        raise error("what is wrong\nand more")

    monkeypatch.setattr(supervisor, "run", fail)
    assert exit_code(monkeypatch, "-c", "x.conf") == error.exit_code
    prefix = "" if error is ConfigError else "mlvpn: "
    assert capsys.readouterr().err == f"{prefix}what is wrong\n{prefix}and more\n"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(monkeypatch, "-V") == 0
    assert capsys.readouterr().out == f"mlvpn {__version__}\n"


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(monkeypatch, "-h") == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in cli._COMMANDS)


def test_a_daemon_does_not_carry_what_only_commands_need() -> None:
    """Memory and start-up time of a daemon: what is imported before the fork stays for ever."""
    program = "import sys, mlvpn.cli, mlvpn.daemon.supervisor; print(*sys.modules)"
    modules = set(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split())
    assert "mlvpn.daemon.worker" in modules
    assert modules.isdisjoint(
        {"rich", "matplotlib", "aiohttp", "prometheus_client", "mlvpn.lab", "cffi", "mlvpn.monitor.server"}
    )
