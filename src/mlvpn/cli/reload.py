"""``mlvpn reload``: apply a changed configuration, or say why not, without stopping anything."""

from __future__ import annotations

import click

from mlvpn.cli.connection import ask, control_sockets
from mlvpn.config.load import load
from mlvpn.errors import ConfigError, Error


@click.command()
@click.argument("name")
def reload(name: str) -> None:
    """Apply the changes in a running tunnel's configuration, and say what changed.

    The file is checked first; one with an error leaves everything as it is. Does what the signal HUP does, but waits
    for the outcome.
    """
    (path,) = control_sockets(name)
    load(ask(path, "status")["config"])
    answer = ask(path, "reload")
    if "error" in answer:
        raise (ConfigError if answer["exit_code"] == ConfigError.exit_code else Error)(answer["error"])
    for line in answer["changes"]:
        click.echo(line)
