"""``mlvpn check``: say everything that is wrong with a configuration file, before anything starts.

Owns the command's output; what is wrong is found by mlvpn.config. Errors, warnings and notes go to stderr, one line per
good file to stdout. Exit code 78 when a file has an error, else 0.
"""

from __future__ import annotations

import sys

import click

from mlvpn.config.file import decode, read_file
from mlvpn.config.load import parse
from mlvpn.config.mlvpn2 import agreement, differences
from mlvpn.config.model import Config
from mlvpn.errors import ConfigError


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--mlvpn", "compare", is_flag=True, help="Also show what MLVPN 2.x reads otherwise, and what its end needs."
)
def check(files: tuple[str, ...], compare: bool) -> None:
    """Check configuration files; nothing is started or changed."""
    sound = [_check_file(file, compare) for file in files]
    if not all(sound):
        sys.exit(ConfigError.exit_code)


def _check_file(path: str, compare: bool) -> bool:
    try:
        text = decode(read_file(path), path)
        if compare:
            _show(differences(text, path))
        config = parse(text, path)
    except ConfigError as problem:
        click.echo(str(problem), err=True)
        return False
    _show(config.warnings)
    click.echo(_summary(config))
    if compare:
        _show_agreement(config)
    return True


def _show(lines: list[str] | tuple[str, ...]) -> None:
    for line in lines:
        click.echo(line, err=True)


def _summary(config: Config) -> str:
    general = config.general
    links = ", ".join(link.name for link in config.links)
    parts = [
        f"{general.mode}, protocol {general.protocol}",
        f"{_count(len(config.links), 'link')} ({links})",
        _count(len(config.filters), "filter"),
        _count(len(config.warnings), "warning"),
    ]
    return f"{config.filename}: OK: {', '.join(parts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _show_agreement(config: Config) -> None:
    if config.general.protocol != "mlvpn1":
        click.echo("To talk to MLVPN 2.x this file needs protocol = mlvpn1 in [general].")
    click.echo("A file for MLVPN 2.x at the other end needs:")
    for line in agreement(config):
        click.echo(f"  {line}")
