"""Everything that can be wrong with a file before its first line: one located sentence, never a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlvpn.config import check_permissions, decode, load, read_file
from mlvpn.config.file import FILE_LIMIT_BYTES
from mlvpn.errors import ConfigError

GOOD = "[general]\nmode = server\npassword = x\n[a]\nbindport = 5080\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "home.conf"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    return str(caught.value).removeprefix(str(path))


def test_a_file_of_its_owner_is_read(path: Path) -> None:
    assert read_file(str(path)) == GOOD.encode()
    assert load(str(path)).filename == str(path)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o644, 0o601])
def test_a_file_others_have_rights_to_is_refused_with_the_cure(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert refusal(path) == f":1:1: error: group or others have rights to it (mode {mode:04o}); run: chmod 600 {path}"


def test_the_cure_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    path = tmp_path / "my $HOME.conf"
    path.write_text(GOOD)
    path.chmod(0o644)
    assert refusal(path).endswith(f"run: chmod 600 '{path}'")


def test_permissions_can_be_checked_without_opening_by_name(path: Path) -> None:
    check_permissions(path.stat(), "home.conf")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"^home\.conf:1:1: error: group or others"):
        check_permissions(path.stat(), "home.conf")


def test_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.conf") == ":1:1: error: there is no such file; check the name"


def test_a_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == ":1:1: error: it cannot be read (Is a directory); name a regular file"


def test_a_fifo_neither_hangs_nor_counts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert refusal(tmp_path / "fifo") == ":1:1: error: this is not a regular file; name the configuration file itself"


def test_a_name_no_file_can_have() -> None:
    assert "it cannot be read" in refusal("a\0b")


def test_a_file_one_may_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, whom no mode stops
    assert refusal(path) == ":1:1: error: you may not read it; run as root or as its owner"


def test_a_huge_file(path: Path) -> None:
    path.write_text("#" * (FILE_LIMIT_BYTES + 1))
    assert refusal(path) == ":1:1: error: longer than 1048576 bytes; this is not a configuration file"
    path.write_text(GOOD + "#" * (FILE_LIMIT_BYTES - len(GOOD)))
    load(str(path))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[general]\nm\xc3\xb6de = \xff", "t:2:8: error: byte 0xff is not UTF-8; save the file in that encoding"),
        (b"\xef\xbb\xbfab\xff", "t:1:3: error: byte 0xff is not UTF-8; save the file in that encoding"),
        (b"\xff\xfe[\x00g\x00", "t:1:1: error: byte 0xff is not UTF-8; save the file in that encoding"),
    ],
)
def test_bytes_that_are_not_utf8_are_located(data: bytes, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(data, "t")
    assert str(caught.value) == expected


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert decode(b"\xef\xbb\xbf[general]", "t") == "[general]"
