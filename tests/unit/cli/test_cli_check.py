"""`mlvpn check` as a person runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlvpn.cli.check import check

SERVER = '[general]\nmode = server\npassword = "x"\n[a]\nbindport = 5080\n[filters]\na = udp port 53\n'


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def run(*arguments: Path | str) -> Result:
    return CliRunner().invoke(check, [str(argument) for argument in arguments])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good.conf", SERVER)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return write(tmp_path / "bad.conf", "[general]\nmode = both\npasword = x\n[a]\n")


def test_a_good_file_is_one_line_on_stdout(good: Path) -> None:
    result = run(good)
    assert result.exit_code == 0
    assert result.stdout == f"{good}: OK: server, protocol native, 1 link (a), 1 filter, 0 warnings\n"


def test_a_bad_file_shows_all_its_problems_and_ends_with_78(bad: Path) -> None:
    result = run(bad)
    assert result.exit_code == 78
    assert [line.split(": ")[2:4] for line in result.output.splitlines()] == [
        ["[general] password", "required, but missing or empty; add a password, or private_key and peer_key"],
        ["[general] mode", "'both' is not possible here; write client or server"],
        ["[general] pasword", "there is no such key; did you mean password?"],
    ]


def test_every_file_is_checked_and_one_bad_one_is_enough(good: Path, bad: Path) -> None:
    result = run(bad, good)
    assert result.exit_code == 78
    assert f"{bad}:2:8: error: [general] mode:" in result.output
    assert f"{good}: OK: " in result.output


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    path = write(tmp_path / "w.conf", SERVER.replace("[a]\n", "[a]\nbindfib = 1\n"))
    result = run(path)
    assert result.exit_code == 0
    assert f"{path}:5:11: warning: [a] bindfib: has no effect on Linux" in result.output
    assert "1 filter, 1 warning\n" in result.output


def test_files_that_cannot_be_read_are_located_too(tmp_path: Path, good: Path) -> None:
    good.chmod(0o644)
    result = run(good, tmp_path / "none.conf", tmp_path)
    assert result.exit_code == 78
    assert [line.split(": ", 2)[1] for line in result.output.splitlines()] == ["error", "error", "error"]
    assert f"chmod 600 {good}" in result.output


def test_the_comparison_with_mlvpn_2(good: Path) -> None:
    result = run("--mlvpn", good)
    assert result.exit_code == 0
    assert f"{good}:7:5: note: [filters] a: MLVPN 2.x reads 'udpport53'; put it in double quotes" in result.output
    assert "To talk to MLVPN 2.x this file needs protocol = mlvpn1 in [general]." in result.output
    assert "  mode = client\n" in result.output
    assert "  the link for a: remoteport = 5080, fallback_only = 0, " in result.output


def test_no_file_is_a_fault_of_use() -> None:
    assert run().exit_code == 2
