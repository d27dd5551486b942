"""Which kernels run: chosen once at import, forced or refused by the environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from burst_session import load

SHOW = "from mlvpn import burst; print(burst.IMPLEMENTATION, burst.Sealer.__module__, burst.Opener.__module__)"
WITHOUT_C = "import sys; sys.modules['mlvpn.burst._kernels'] = None; "


def run(program: str, kernels: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"MLVPN_KERNELS": kernels}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("kernels", ["c", "auto"])
def test_c_is_taken_where_it_was_built(kernels: str) -> None:
    load("c")
    assert run(SHOW, kernels).stdout.split() == ["c", "mlvpn.burst.c", "mlvpn.burst.c"]


def test_python_can_be_forced() -> None:
    assert run(SHOW, "python").stdout.split() == ["python", "mlvpn.burst.python", "mlvpn.burst.python"]


def test_python_does_where_c_is_missing() -> None:
    assert run(WITHOUT_C + SHOW, "auto").stdout.split() == ["python", "mlvpn.burst.python", "mlvpn.burst.python"]


def test_c_forced_and_missing_is_an_error_that_says_how_to_build_it() -> None:
    result = run(WITHOUT_C + SHOW, "c")
    assert result.returncode == 1
    assert "ImportError: MLVPN_KERNELS=c" in result.stderr
    assert "python -m mlvpn.burst.build" in result.stderr


def test_an_unknown_choice_is_an_error() -> None:
    result = run(SHOW, "fast")
    assert result.returncode == 1
    assert "say auto, c or python" in result.stderr
