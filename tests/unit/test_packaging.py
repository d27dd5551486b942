"""What is installed beside the program: example configurations, the status script, the unit."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlvpn.cli.check import check
from mlvpn.config import parse

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
EXAMPLES = sorted((PACKAGING / "examples").glob("*.conf"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_have_nothing_to_complain_about(example: Path, tmp_path: Path) -> None:
    copy = tmp_path / example.name
    copy.write_bytes(example.read_bytes())
    copy.chmod(0o600)
    result = CliRunner().invoke(check, [str(copy)])
    assert result.exit_code == 0, result.output
    assert "OK" in result.stdout
    assert "0 warnings" in result.stdout


def test_the_two_examples_belong_together() -> None:
    client, server = (parse(path.read_text(), str(path)) for path in EXAMPLES)
    assert (client.general.mode, server.general.mode) == ("client", "server")
    assert client.general.password == server.general.password
    assert [link.remoteport for link in client.links] == [link.bindport for link in server.links]


def test_the_configurations_in_the_readme_are_good() -> None:
    blocks = re.findall(r"```ini\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert parse(block, "README.md").warnings == ()


@pytest.fixture
def script_calls(tmp_path: Path):
    """Return a function that calls the status script and returns the `ip` commands it gives."""
    recorder = tmp_path / "ip"
    recorder.write_text('#!/bin/sh\necho "$@" >> "$CALLS"\n')
    recorder.chmod(0o755)

    def call(*arguments: str, **variables: str) -> list[str]:
        calls = tmp_path / "calls"
        calls.write_text("")
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), **variables}
        subprocess.run([PACKAGING / "mlvpn_updown.sh", *arguments], env=env, check=True, capture_output=True)
        return calls.read_text().splitlines()

    return call


def test_the_script_sets_addresses_and_routes(script_calls) -> None:
    assert script_calls(
        "mlvpn0", "tuntap_up", MTU="1400", IP4="10.0.0.2/24", IP4_GATEWAY="10.0.0.1",
        IP4_ROUTES="10.1.0.0/16 10.2.0.0/16", IP6="fd00::2/64", IP6_ROUTES="fd01::/64",
    ) == [
        "link set dev mlvpn0 mtu 1400 up",
        "-4 address replace 10.0.0.2/24 dev mlvpn0",
        "-4 route replace 10.1.0.0/16 via 10.0.0.1 dev mlvpn0",
        "-4 route replace 10.2.0.0/16 via 10.0.0.1 dev mlvpn0",
        "-6 address replace fd00::2/64 dev mlvpn0",
        "-6 route replace fd01::/64 dev mlvpn0",
    ]  # fmt: skip


def test_the_script_works_with_nothing_configured(script_calls) -> None:
    assert script_calls("mlvpn0", "tuntap_up") == ["link set dev mlvpn0 mtu 1432 up"]
    assert script_calls("mlvpn0", "tuntap_down") == ["link set dev mlvpn0 down", "address flush dev mlvpn0"]


def test_the_script_changes_nothing_for_single_links(script_calls) -> None:
    assert script_calls("mlvpn0", "rtun_up", "dsl") == []
    assert script_calls("mlvpn0", "rtun_down", "dsl") == []


def test_the_unit_lets_the_root_process_do_what_it_must() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(PACKAGING / "systemd" / "mlvpn@.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "all"  # the worker is not the main process
    assert service["KillMode"] == "mixed"  # a second TERM ends the worker without a word to peer and script
    needed = {"NET_ADMIN", "SETUID", "SETGID", "SETPCAP", "SYS_CHROOT", "KILL", "NET_BIND_SERVICE", "NET_RAW"}
    assert {f"CAP_{name}" for name in needed} <= set(service["CapabilityBoundingSet"].split())
    assert set(service["RestrictAddressFamilies"].split()) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}
