"""What is measured: daemons started from a copy of the sources, so that edits during a long run change nothing.

The copy is made when a benchmark starts and removed when it ends; ``--source`` measures another tree's ``src``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlvpn.lab.daemons import Command, our_daemon

SOURCE = Path(__file__).parents[1] / "src"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let the sources and the implementation of the burst kernels be chosen."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--python", dest="kernels", action="store_const", const="python", help="Python kernels")
    choice.add_argument(
        "--kernels", dest="kernels", action="store_const", const="c", help="C kernels (default: if built)"
    )
    parser.set_defaults(kernels="auto")
    parser.add_argument("--source", type=Path, default=SOURCE, metavar="DIR", help="src of the tree to measure")


@contextmanager
def frozen_sources(source: Path = SOURCE) -> Iterator[Path]:
    """Copy the sources; yield the directory to import them from."""
    with tempfile.TemporaryDirectory(prefix="mlvpn-bench-") as copy:
        shutil.copytree(
            source / "mlvpn", Path(copy) / "mlvpn", ignore=shutil.ignore_patterns("__pycache__", ".build-*")
        )
        if because := _interpreted_because(Path(copy)):
            print(f"bench: the modules run interpreted: {because}", file=sys.stderr)
        yield Path(copy)


def _interpreted_because(copy: Path) -> str:
    """Return why the copy's modules are not compiled; nothing of one so old that it knows no others."""
    program = "import mlvpn; print(getattr(getattr(mlvpn, 'compiled', None), 'INTERPRETED_BECAUSE', ''), end='')"
    environment = os.environ | {"PYTHONPATH": str(copy)}
    return subprocess.run([sys.executable, "-c", program], env=environment, text=True, capture_output=True).stdout


@contextmanager
def frozen_daemon(options: argparse.Namespace) -> Iterator[Command]:
    """Copy the sources; yield how to start a daemon from the copy."""
    with frozen_sources(options.source) as copy:

        def command(config: Path, name: str) -> list[str]:
            return ["env", f"MLVPN_KERNELS={options.kernels}", f"PYTHONPATH={copy}", *our_daemon(config, name)]

        yield command
