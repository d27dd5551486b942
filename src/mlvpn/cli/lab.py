"""``mlvpn lab`` and ``mlvpn demo``: tunnels over emulated links on this one machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from mlvpn.lab import demo as tour
from mlvpn.lab.host import clean as clean_leftovers
from mlvpn.lab.play import describe, play
from mlvpn.lab.scenario import read_scenario


@click.group()
def lab() -> None:
    """Try tunnels on emulated links: network namespaces on this machine, as root."""


@lab.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the whole outcome as JSON on stdout.")
def run(file: Path, as_json: bool) -> None:
    """Build what FILE (TOML) describes, run its traffic and events, and say what was seen."""
    outcome = play(read_scenario(file), Console(stderr=True))
    click.echo(json.dumps(outcome.to_json()) if as_json else "\n".join(describe(outcome)))


@lab.command()
def clean() -> None:
    """Remove what labs that were killed have left: namespaces, the processes in them, temporary files."""
    removed = clean_leftovers()
    click.echo("\n".join(f"removed {thing}" for thing in removed) or "nothing was left behind")


@click.command()
def demo() -> None:
    """Show two links alone, bonded, and one of them cut in mid-transfer. Takes a minute and a half, as root."""
    sys.exit(tour.run(Console()))
