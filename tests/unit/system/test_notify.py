"""What systemd is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mlvpn.system.notify import Notifier


def test_each_message_is_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notifier = Notifier()
        notifier.ready()
        notifier.reloading()
        notifier.watchdog()
        notifier.status("mlvpn: home @link1")
        notifier.stopping()
        messages = [manager.recv(200).decode() for _ in range(5)]
        notifier.close()
    assert messages[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert [messages[0], *messages[2:]] == ["READY=1", "WATCHDOG=1", "STATUS=mlvpn: home @link1", "STOPPING=1"]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()


def test_a_manager_that_is_gone_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notifier = Notifier()
    notifier.ready()
    notifier.close()
