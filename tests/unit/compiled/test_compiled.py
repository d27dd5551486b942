"""Which code runs, compiled or as it stands; and that both do the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from mlvpn import compiled
from mlvpn.compiled import build

SRC = Path(__file__).parents[3] / "src"
TESTS = SRC.parent / "tests"
SHOW = "import mlvpn.core.jitter as m, mlvpn; print(m.__file__, '|', mlvpn.compiled.INTERPRETED_BECAUSE)"
LIFE = """
from sim.ledger import Ledger
from sim.simulator import MS, SECOND, Simulator, sim_link
from sim.traffic import Cubic, TcpFlow, connect_flows
sim = Simulator([sim_link("a", 20e6, 10 * MS, loss_ratio=0.01), sim_link("b", 8e6, 40 * MS, jitter_ns=10 * MS)])
sim.run(SECOND)
ledger = Ledger(sim)
stream = ledger.stream()
ledger.send_steadily(stream, 2e6)
connect_flows(sim, TcpFlow(sim, False, Cubic()))
sim.run(4 * SECOND)
for end in (sim.client, sim.server):
    print(end.tunnel.snapshot(sim.now_ns))
"""

built = pytest.mark.skipif(bool(compiled.unusable_because()), reason=f"{compiled.unusable_because()}")


def run(program: str, source: Path = SRC, **environment: str) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join([str(source), str(TESTS)])
    variables = {name: value for name, value in os.environ.items() if name not in ("MLVPN_COMPILED", "MLVPN_KERNELS")}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=variables | {"PYTHONPATH": search} | environment,
        cwd=source,
        text=True,
        capture_output=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the program that a test may change."""
    shutil.copytree(SRC / "mlvpn", tmp_path / "mlvpn", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@built
@pytest.mark.parametrize("environment", [{}, {"MLVPN_COMPILED": "yes"}, {"MLVPN_KERNELS": "c"}])
def test_what_was_built_runs(environment: dict[str, str]) -> None:
    path, because = run(SHOW, **environment).stdout.split("|")
    assert path.strip() == str(compiled.LIB / f"mlvpn/core/jitter{compiled.SUFFIX}")
    assert because.strip() == ""


@pytest.mark.parametrize("environment", [{"MLVPN_COMPILED": "no"}, {"MLVPN_KERNELS": "python"}])
def test_it_can_be_forbidden(environment: dict[str, str]) -> None:
    path, because = run(SHOW, **environment).stdout.split("|")
    assert path.strip() == str(SRC / "mlvpn/core/jitter.py")
    assert because.strip() == "the environment says so"


@built
@pytest.mark.parametrize("file", ["core/jitter.py", "core/counters.py", "units.py"])
def test_a_source_that_has_changed_runs_instead_of_what_it_was(copy: Path, file: str) -> None:
    """Also one that is not compiled itself: they know its types."""
    with (copy / "mlvpn" / file).open("a") as source:
        source.write("\nANOTHER = 7\n")
    path, because = run(SHOW, copy).stdout.split("|")
    assert path.strip().endswith("jitter.py")
    assert because.strip() == f"{file} has changed since they were compiled"
    forced = run(SHOW, copy, MLVPN_COMPILED="yes")
    assert f"{file} has changed" in forced.stderr
    assert "python -m mlvpn.compiled.build" in forced.stderr


@pytest.mark.parametrize(
    ("left", "because"),
    [
        (None, "they are not compiled"),
        ("", "what was compiled cannot be read"),
        ("[]", "what was compiled cannot be read"),
        ('{"suffix": ".other.so", "sources": {}}', "they are compiled for another Python"),
    ],
)
def test_without_a_build_of_this_python_the_sources_run(copy: Path, left: str | None, because: str) -> None:
    lib = copy / "mlvpn/compiled/lib"
    shutil.rmtree(lib, ignore_errors=True)
    if left is not None:
        lib.mkdir()
        (lib / compiled.MANIFEST).write_text(left)
    assert_interpreted(copy, because)


@built
@pytest.mark.parametrize(
    ("name", "because"),
    [
        (f"{compiled.LIBRARY}{compiled.SUFFIX}", "what was compiled does not load"),
        (f"mlvpn/wire/vnet{compiled.SUFFIX}", "mlvpn.wire.vnet is not among what was compiled"),
    ],
)
def test_half_a_build_is_none(copy: Path, name: str, because: str) -> None:
    (copy / "mlvpn/compiled/lib" / name).unlink()
    assert_interpreted(copy, because)


def assert_interpreted(copy: Path, because: str) -> None:
    path, reason = run(SHOW, copy).stdout.split("|")
    assert path.strip().endswith("jitter.py")
    assert reason.strip().startswith(because)


def test_they_are_compiled_where_they_can_be() -> None:
    """Or else their failing to compile would show nowhere: what needs them is skipped."""
    if shutil.which("cc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("no compiler, or no headers of this Python")
    reason = compiled.unusable_because()
    assert not reason or "has changed" in reason, "make setup says why"


@pytest.mark.skipif(bool(compiled.INTERPRETED_BECAUSE), reason="that is how they run now")
def test_they_pass_their_tests_interpreted_too() -> None:
    folders = [str(TESTS / "unit" / name) for name in ("core", "wire", "crypto", "burst", "system", "daemon")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders],
        env=os.environ | {"MLVPN_COMPILED": "no"},
        cwd=TESTS.parent,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_mypy_whose_code_leaks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whatever was built before stays."""
    before = sorted(compiled.HERE.rglob("*"))
    monkeypatch.setattr(build, "version", lambda _package: "2.1.0")
    with pytest.raises(RuntimeError, match=r"mypy 2\.1\.0 .* leaks"):
        build.build()
    assert sorted(compiled.HERE.rglob("*")) == before


def test_another_word_is_refused() -> None:
    assert "say auto, yes or no" in run(SHOW, MLVPN_COMPILED="maybe").stderr


@built
def test_both_do_the_same() -> None:
    """Five seconds of a bad network, datagram by datagram: every counter and every estimate is the same."""
    lives = [run(LIFE, MLVPN_COMPILED=choice) for choice in ("yes", "no")]
    assert lives[0].stdout, lives[0].stderr
    assert lives[0].stdout == lives[1].stdout
    assert "'repaired_datagrams': 0" not in lives[0].stdout
