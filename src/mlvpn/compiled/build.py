"""Compile the modules a packet passes: ``python -m mlvpn.compiled.build``.

Needs mypy 2.2 or newer (it brings mypyc), setuptools, a C compiler and the headers of this Python (Debian: gcc
python3-dev). It takes a minute, and nothing if the sources are those of the last time. What was built takes the place
of the old only when it is whole; a running daemon keeps what it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from mlvpn.compiled import HERE, LIB, LIBRARY, MANIFEST, MODULES, SUFFIX, fingerprints, source, unusable_because

GROUP = LIBRARY.removesuffix("__mypyc")
LEAST_MYPY = (2, 2)
"""Code that older ones compile never frees the left half of a ``bytes + bytes``: a daemon grew by megabytes with every
gigabyte it carried (https://github.com/python/mypy/pull/21469)."""
OPTIMISATION = "1"
"""With 2 the compiler takes nearly twice as long, for code that is no faster."""


def build() -> None:
    """Compile all modules; raises whatever mypyc and the compiler do."""
    sources = fingerprints()
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".build-") as scratch:
        lib = Path(scratch, "lib")
        _compile(lib, Path(scratch))
        if fingerprints() != sources:
            raise RuntimeError("the sources have changed meanwhile; once more")
        (lib / MANIFEST).write_text(json.dumps({"suffix": SUFFIX, "sources": sources}, indent=1))
        if LIB.exists():
            LIB.rename(Path(scratch, "old"))
        lib.rename(LIB)


def _compile(lib: Path, scratch: Path) -> None:
    """Let mypyc write C, and setuptools compile it into ``lib``."""
    if tuple(map(int, version("mypy").split(".")[:2])) < LEAST_MYPY:
        raise RuntimeError(f"mypy {version('mypy')} compiles to code that leaks memory, 2.2 does not")
    from mypyc.build import mypycify
    from setuptools import Distribution

    root = HERE.parents[1]
    with contextlib.chdir(root):  # module names are found by their paths
        paths = [str(source(module).relative_to(root)) for module in MODULES]
        options = ["--config-file=", "--strict", "--ignore-missing-imports", f"--cache-dir={scratch}/mypy"]
        extensions = mypycify(
            [*options, *paths], group_name=GROUP, target_dir=f"{scratch}/c", opt_level=OPTIMISATION, debug_level="0"
        )
        distribution = Distribution({"name": GROUP, "ext_modules": extensions})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(lib), f"{scratch}/o"
        distribution.run_command("build_ext")


def main() -> None:
    """Build if need be, and say so."""
    with _alone():
        if unusable_because():
            _build_and_say()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until nobody else builds here."""
    folder = os.open(HERE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _build_and_say() -> None:
    print(f"compiling {len(MODULES)} modules, which takes a minute", flush=True)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            build()
    except (Exception, SystemExit) as error:
        print(said.getvalue(), file=sys.stderr)
        sys.exit(f"modules not compiled ({error}); they run as they are. To build: mypy>=2.2, gcc, python3-dev.")
    print("compiled")


if __name__ == "__main__":
    main()
