"""``mlvpn run``: a tunnel in the foreground; daemonising is the service manager's business."""

from __future__ import annotations

import sys
from typing import Any

import click

from mlvpn.cli import CONFIG_DIRECTORY, daemon_options, run_daemon


@click.command()
@click.argument("tunnel", metavar="NAME|FILE")
@daemon_options
def run(tunnel: str, **options: Any) -> None:
    """Run a tunnel in the foreground: NAME means /etc/mlvpn/NAME.conf."""
    sys.exit(run_daemon(config_path(tunnel), **options))


def config_path(tunnel: str) -> str:
    """Return the configuration file of a tunnel given by name or by file."""
    is_file = "/" in tunnel or tunnel.endswith(".conf")
    return tunnel if is_file else str(CONFIG_DIRECTORY / f"{tunnel}.conf")
