"""The layers, as a test: arrows only point down, and what must stay pure or light does.

cli -> daemon -> {system, monitor} -> core -> {wire, crypto, burst} -> {config, errors, units}
lab and bench start daemons as processes and talk to them only through files and sockets
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
FILES = sorted(path for path in (SRC / "mlvpn").rglob("*.py"))

BASE = {"compiled", "config", "errors", "units"}
LOW = BASE | {"wire", "crypto", "burst"}
ALLOWED = {
    "compiled": set[str](),
    "errors": set[str](),
    "units": {"errors"},
    "config": BASE,
    "wire": BASE | {"wire"},
    "crypto": BASE | {"crypto", "wire"},
    "burst": LOW,
    "core": LOW | {"core"},
    "system": LOW | {"core", "system"},
    "monitor": LOW | {"core", "monitor"},
    "daemon": LOW | {"core", "system", "monitor", "daemon"},
    "lab": BASE | {"lab"},
    "cli": LOW | {"core", "system", "monitor", "daemon", "lab", "cli"},
}
"""Part of the program -> the parts it may import."""

EXCEPTIONS = {
    ("crypto/keys.py", "config"): "a password comes as config.Secret",
}

IMPURE = {
    "socket": "the core does no I/O: the daemon carries its datagrams",
    "asyncio": "the core knows no event loop: it is called, and says when it wants to be called again",
    "time": "the core reads no clock: now_ns is an argument, so hours are simulated in seconds",
    "random": "the core draws no randomness: random(n) is passed in, so a simulation repeats by its seed",
    "secrets": "as random",
    "threading": "the core is called by one thread and starts none",
    "select": "the core does no I/O",
}
PURE_EXCEPT = {
    "crypto/aead.py": {"time"},  # measures what the ciphers cost on this machine, once at start
    "crypto/keys.py": {"os", "secrets"},  # makes keys
    "burst/build.py": {"subprocess"},  # the compiler's, never the daemon's
    "burst/measure.py": {"time"},  # a command, not part of the data path
}


def part_of(path: Path) -> str:
    """Return the part of the program that a file belongs to: the directory, or the module's own name."""
    first = path.relative_to(SRC / "mlvpn").parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name(path: Path) -> str:
    return str(path.relative_to(SRC / "mlvpn"))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_arrows_only_point_down(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    wanted = {module.split(".")[1] for module in imports(path) if module.startswith("mlvpn.")} - {"__version__"}
    wanted = {other for other in wanted if (SRC / "mlvpn" / other).is_dir() or other in ("errors", "units")}
    forbidden = {other for other in wanted - ALLOWED[part] - {part} if (name(path), other) not in EXCEPTIONS}
    assert not forbidden, f"{part} must not import {', '.join(sorted(forbidden))}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if part_of(path) in ("core", "wire", "crypto", "burst")], ids=name
)
def test_the_core_and_all_below_it_are_pure(path: Path) -> None:
    found = {module.split(".")[0] for module in imports(path)} & set(IMPURE) - PURE_EXCEPT.get(name(path), set())
    assert not found, "; ".join(f"{module}: {IMPURE[module]}" for module in sorted(found))


def test_the_two_protocols_do_not_know_each_other() -> None:
    native = {"mlvpn.wire.header", "mlvpn.wire.frame", "mlvpn.wire.handshake", "mlvpn.wire.noise"}
    assert not imports(SRC / "mlvpn/wire/mlvpn1.py") & native
    for path in (SRC / "mlvpn/core").glob("*.py"):
        assert not {m for m in imports(path) if "mlvpn1" in m}, f"{name(path)}: the native core knows no mlvpn1"
    for path in (SRC / "mlvpn/core/mlvpn1").glob("*.py"):
        native_core = {"mlvpn.core.tunnel", "mlvpn.core.sender", "mlvpn.core.receiver", "mlvpn.core.link"}
        assert not imports(path) & (native | native_core), name(path)


@pytest.mark.parametrize(
    "heavy", ["rich", "aiohttp", "prometheus_client", "matplotlib", "mlvpn.lab", "mlvpn.monitor.server"]
)
def test_a_daemon_carries_nothing_it_does_not_need(heavy: str, daemon_modules: set[str]) -> None:
    assert heavy not in daemon_modules


@pytest.fixture(scope="module")
def daemon_modules() -> set[str]:
    """What is loaded when the supervisor is about to start a worker."""
    program = "import sys, mlvpn.cli, mlvpn.cli.run, mlvpn.daemon.supervisor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
