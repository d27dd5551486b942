"""Who the worker may become. What it cannot do any more afterwards is seen on real processes in tests/lab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlvpn.errors import SystemFailure, UsageError
from mlvpn.system import privileges

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the worker's root directory")


def test_the_worker_is_never_root() -> None:
    with pytest.raises(UsageError, match="--yes-run-as-root"):
        privileges.identity("root")


def test_an_unknown_user_comes_with_the_command_that_makes_it() -> None:
    with pytest.raises(UsageError, match=r"useradd .* no-such-user"):
        privileges.identity("no-such-user")


def test_without_a_user_the_usual_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "DEFAULT_USERS", ("no-such-user", "nobody"))
    assert privileges.identity(None).user == "nobody"
    monkeypatch.setattr(privileges, "DEFAULT_USERS", ("no-such-user",))
    with pytest.raises(UsageError, match="no --user given"):
        privileges.identity(None)


@as_root
def test_the_empty_root_is_made_once_and_kept(tmp_path: Path) -> None:
    empty = privileges.make_empty_root(tmp_path / "run")
    assert privileges.make_empty_root(tmp_path / "run") == empty
    assert list(empty.iterdir()) == []


@as_root
@pytest.mark.parametrize("spoil", ["file in it", "writable", "owner", "symlink"])
def test_an_empty_root_others_could_use_is_refused(tmp_path: Path, spoil: str) -> None:
    empty = privileges.make_empty_root(tmp_path / "run")
    if spoil == "file in it":
        (empty / "x").touch()
    elif spoil == "writable":
        empty.chmod(0o777)
    elif spoil == "owner":
        os.chown(empty, 65534, 65534)
    else:
        empty.rmdir()
        empty.symlink_to("/tmp")
    with pytest.raises(SystemFailure, match="remove"):
        privileges.make_empty_root(tmp_path / "run")
