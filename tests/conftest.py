"""What holds for every test: what the header says, who may run tests that need root, and that nothing is left behind.

The seed of a run is printed and every random choice of hypothesis comes from it, so a failure can be repeated with
``MLVPN_TEST_SEED=<seed> make test``. In CI the seed is fixed: the same commit gives the same result.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from mlvpn import burst, compiled

CI = bool(os.environ.get("CI"))
SEED = int(os.environ.get("MLVPN_TEST_SEED") or ("1" if CI else random.randrange(1 << 32)))

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if CI else "local")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let hypothesis' plugin start from our seed, unless one was given to it."""
    if config.getoption("--hypothesis-seed", default=None) is None:
        config.option.hypothesis_seed = str(SEED)


def pytest_report_header() -> list[str]:
    root = root_missing()
    return [
        f"mlvpn: seed {SEED}, burst kernels: {burst.IMPLEMENTATION}, "
        f"modules: {f'interpreted, {reason}' if (reason := compiled.INTERPRETED_BECAUSE) else 'compiled'}",
        f"mlvpn: tests that need root: {'skipped, ' + root if root else 'run'}",
    ]


@functools.cache
def root_missing() -> str:
    """Return what is missing for tests marked ``root``, or nothing."""
    if os.geteuid() != 0:
        return "not root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun (mkdir -p /dev/net; mknod /dev/net/tun c 10 200; modprobe tun)"
    if shutil.which("ip") is None:
        return "there is no ip (apt-get install iproute2)"
    name = f"mlvpntest-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces cannot be made ({made.stderr.strip()})"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("root")]
    if marked and root_missing():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"needs root: {root_missing()}"))


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail when a namespace made by this run is still there at its end: they have the process's id in their names."""
    yield
    if os.geteuid() == 0 and shutil.which("ip"):
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
        left = [line.split()[0] for line in listed.splitlines() if f"-{os.getpid()}-" in f"{line.split()[0]}-"]
        assert not left, f"namespaces left behind: {left}"
