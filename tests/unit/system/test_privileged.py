"""What [priv] does when asked, and what it refuses."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from mlvpn.errors import ConfigError, Error, LinkError, SystemFailure
from mlvpn.system import privileged, privsep
from mlvpn.system.privileged import Privileged

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can own a status script")


def make_script(path: Path, text: str = "exit 0", mode: int = 0o700) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def answer(hands: Privileged, request: privsep.Request) -> privsep.Answer:
    return asyncio.run(hands.answer(request))


def test_the_configuration_comes_as_memory_not_as_a_file(tmp_path: Path) -> None:
    config = tmp_path / "a.conf"
    config.write_text("[general]\n")
    config.chmod(0o600)
    name, (fd,) = answer(Privileged("a", str(config)), privsep.ReadConfig())
    with os.fdopen(fd, "rb") as memory:
        assert (name, memory.read()) == (str(config), b"[general]\n")
    config.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        answer(Privileged("a", str(config)), privsep.ReadConfig())


@as_root
@pytest.mark.parametrize(
    ("mode", "good"), [(0o700, True), (0o500, True), (0o600, False), (0o710, False), (0o701, False)]
)
def test_only_a_script_of_its_owner_is_taken(tmp_path: Path, mode: int, good: bool) -> None:
    script = make_script(tmp_path / "script", mode=mode)
    if good:
        privileged.check_script(script)
    else:
        with pytest.raises(ConfigError, match="chmod 700"):
            privileged.check_script(script)


@as_root
def test_a_script_of_somebody_else_is_refused(tmp_path: Path) -> None:
    script = make_script(tmp_path / "script")
    os.chown(script, 65534, 65534)
    with pytest.raises(ConfigError, match="chown root"):
        privileged.check_script(script)


def test_a_script_must_be_a_file_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        privileged.check_script(tmp_path / "none")
    with pytest.raises(ConfigError, match="absolute path of a file"):
        privileged.check_script(tmp_path)


@as_root
def test_the_script_gets_arguments_environment_and_gives_its_status(tmp_path: Path) -> None:
    script = make_script(tmp_path / "script", f'echo "$* $MTU $PWD" >{tmp_path}/out; exit 3')
    hands = Privileged("a", "")
    answer(hands, privsep.SetScript(str(script)))
    assert answer(hands, privsep.RunScript(["mlvpn0", "tuntap_up"], {"MTU": "1432"})) == (3, [])
    assert (tmp_path / "out").read_text() == "mlvpn0 tuntap_up 1432 /\n"


@as_root
def test_script_calls_run_one_at_a_time_in_order(tmp_path: Path) -> None:
    script = make_script(
        tmp_path / "script", f'echo "begin $1" >>{tmp_path}/out; sleep 0.05; echo "end $1" >>{tmp_path}/out'
    )
    hands = Privileged("a", "")

    async def body() -> None:
        await hands.answer(privsep.SetScript(str(script)))
        await asyncio.gather(*(hands.answer(privsep.RunScript([word], {})) for word in ("a", "b", "c")))

    asyncio.run(body())
    assert (tmp_path / "out").read_text().split("\n")[:-1] == [
        f"{edge} {word}" for word in "abc" for edge in ("begin", "end")
    ]


@as_root
def test_a_script_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileged, "SCRIPT_SECONDS", 0.1)
    hands = Privileged("a", "")
    answer(hands, privsep.SetScript(str(make_script(tmp_path / "script", "exec sleep 60"))))
    with pytest.raises(SystemFailure, match="was killed"):
        answer(hands, privsep.RunScript([], {}))


@as_root
def test_a_script_that_became_unsafe_is_not_run(tmp_path: Path) -> None:
    script = make_script(tmp_path / "script")
    hands = Privileged("a", "")
    answer(hands, privsep.SetScript(str(script)))
    script.chmod(0o777)
    with pytest.raises(ConfigError):
        answer(hands, privsep.RunScript([], {}))


@as_root
def test_the_worker_cannot_put_anything_else_into_the_environment(tmp_path: Path) -> None:
    hands = Privileged("a", "")
    answer(hands, privsep.SetScript(str(make_script(tmp_path / "script"))))
    with pytest.raises(SystemFailure, match="environment"):
        answer(hands, privsep.RunScript([], {"LD_PRELOAD": "/tmp/evil.so"}))


def test_the_control_socket_is_private_and_goes_away(tmp_path: Path) -> None:
    hands, path = Privileged("a", ""), tmp_path / "a.sock"
    name, (fd,) = answer(hands, privsep.ListenControl(str(path)))
    with socket.socket(fileno=fd), socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    hands.close()
    assert not path.exists()


def test_a_control_socket_left_behind_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    privileged.listen_unix(path).close()
    assert path.exists()
    with privileged.listen_unix(path), pytest.raises(SystemFailure, match="another daemon answers"):
        privileged.listen_unix(path)
    with socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(str(path)) == errno.ECONNREFUSED


def test_a_file_in_the_control_sockets_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(Error):
        privileged.listen_unix(path)
    assert path.read_text() == "data"


def test_after_start_only_privileged_ports_of_the_configuration_open() -> None:
    hands = Privileged("a", "")
    answer(hands, privsep.Running([501]))
    with pytest.raises(LinkError, match="restart to open it"):
        answer(hands, privsep.OpenLinkSocket("127.0.0.1", 502, "", socket.AF_INET))
    _, (fd,) = answer(hands, privsep.OpenLinkSocket("127.0.0.1", 0, "", socket.AF_INET))
    os.close(fd)


def test_names_are_resolved_or_the_reason_is_said() -> None:
    found, _ = answer(Privileged("a", ""), privsep.Resolve("127.0.0.1", 5080))
    assert found == [(int(socket.AF_INET), ("127.0.0.1", 5080))]
    with pytest.raises(LinkError, match=r"cannot resolve 'a\.\.b'"):
        answer(Privileged("a", ""), privsep.Resolve("a..b", 5080))
