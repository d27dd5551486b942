"""Programs in C under ASan and UBSan: compiled, run, and silent unless something is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlvpn.burst import build

HERE = Path(__file__).parent
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", *SANITIZERS]


def needs(program: str, *libraries: str) -> pytest.MarkDecorator:
    """Skip a test where a small program cannot be compiled with sanitizers and these libraries."""
    missing = not build.links(program, *FLAGS, *libraries)
    return pytest.mark.skipif(missing, reason=f"needs a C compiler with sanitizers, and headers: {program.split()[1]}")


def fuzz(program: Path, parts: Sequence[Path], rounds: int, scratch: Path, options: Sequence[str] = ()) -> str:
    """Compile a fuzzer with the parts it tries, run it with seed 1, and return what it prints."""
    binary = scratch / program.stem
    folders = sorted({f"-I{folder}" for folder in (HERE, *(part.parent for part in parts))})
    sources = [str(program), *map(str, parts)]
    subprocess.run([build.COMPILER, *FLAGS, *folders, "-o", str(binary), *sources, *options], check=True)
    result = subprocess.run([binary, "1", str(rounds)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout
