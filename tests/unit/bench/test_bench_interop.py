"""Which daemon the benchmark of MLVPN 2.x's protocol starts at which end, and what it does without the C daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.interop import PAIRS, available, commands, parse


@pytest.mark.parametrize(
    ("pair", "client_is_ours", "server_is_ours"),
    [("ours-ours", True, True), ("ours-C", True, False), ("C-ours", False, True), ("C-C", False, False)],
)
def test_each_end_gets_the_daemon_that_the_pair_names(
    monkeypatch: pytest.MonkeyPatch, pair: str, client_is_ours: bool, server_is_ours: bool
) -> None:
    monkeypatch.setenv("MLVPN_C", "/somewhere/mlvpn")
    command = commands(pair, lambda config, name: ["ours", str(config), name])
    assert (command(Path("t-client.conf"), "x")[0] == "ours") is client_is_ours
    assert (command(Path("t-server.conf"), "x")[0] == "ours") is server_is_ours


def test_without_the_c_daemon_only_our_own_pair_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLVPN_C", raising=False)
    assert available(PAIRS) == ["ours-ours"]
    assert "MLVPN_C" in capsys.readouterr().out


def test_a_pair_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SystemExit):
        parse(["--pairs", "ours-go"])
