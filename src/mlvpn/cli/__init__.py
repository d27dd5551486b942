"""The command line: ``mlvpn COMMAND ...``, and MLVPN's own form ``mlvpn -c FILE -u USER -n NAME ...``.

Owns the list of commands, the options of a daemon and what becomes of an error; each command is a module of its own,
imported only when it is asked for, so that a daemon does not carry the lab or the screen's colours in its memory.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not running, 4 permission, 5 up but degraded, 78 configuration.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from mlvpn import __version__
from mlvpn.errors import ConfigError, Error, UsageError

CONFIG_DIRECTORY = Path("/etc/mlvpn")

_COMMANDS = {
    "run": "run:run",
    "check": "check:check",
    "status": "status:status",
    "reload": "reload:reload",
    "genkey": "keys:genkey",
    "pubkey": "keys:pubkey",
    "genpsk": "keys:genpsk",
    "lab": "lab:lab",
    "demo": "lab:demo",
}
"""Command -> module under mlvpn.cli and the name in it; in the order of ``mlvpn --help``."""


class _Commands(click.Group):
    """Commands that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module, _, name = _COMMANDS.get(cmd_name, "").partition(":")
        if not name:
            return None
        command: click.Command = getattr(importlib.import_module(f"mlvpn.cli.{module}"), name)
        return command


def daemon_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a daemon, as MLVPN has them, to a command."""
    for option in (
        click.option(
            "-u", "--user", metavar="NAME", help="Unprivileged user of the worker [default: mlvpn or _mlvpn]."
        ),
        click.option("-n", "--name", metavar="NAME", help="Name of this tunnel in titles, logs and /run/mlvpn."),
        click.option("--natural-title", is_flag=True, help="Leave the process titles alone."),
        click.option("--debug", is_flag=True, help="Log to stderr instead of syslog."),
        click.option(
            "-D", "tokens", metavar="TOKEN", multiple=True, help="Show debug lines of this token; repeatable."
        ),
        click.option("-v", "--verbose", count=True, help="Log more; repeatable."),
        click.option("-q", "--quiet", count=True, help="Log less; repeatable."),
        click.option("--yes-run-as-root", is_flag=True, help="Without a user to run as, keep root: not wise."),
    ):
        command = option(command)
    return command


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="mlvpn %(version)s")
@click.option("-c", "--config", metavar="FILE", help="Run the tunnel of this file, as `mlvpn run FILE` does.")
@daemon_options
@click.pass_context
def command_line(ctx: click.Context, /, config: str | None, **options: Any) -> None:
    """One encrypted tunnel out of several Internet links."""
    if ctx.invoked_subcommand is None:
        if config is None:
            raise UsageError("say what to do: a command (mlvpn --help lists them), or --config FILE to run a tunnel")
        sys.exit(run_daemon(config, **options))
    if config is not None or any(options.values()):
        raise UsageError(f"options of a daemon stand after the command: mlvpn {ctx.invoked_subcommand} ... OPTIONS")


def run_daemon(
    config: str,
    *,
    user: str | None,
    name: str | None,
    natural_title: bool,
    debug: bool,
    tokens: tuple[str, ...],
    verbose: int,
    quiet: int,
    yes_run_as_root: bool,
) -> int:
    """Run a daemon in the foreground until it ends; return its exit code."""
    from mlvpn.daemon import log, supervisor
    from mlvpn.daemon.options import Options

    unknown = set(tokens) - set(log.TOKENS)
    if unknown:
        raise UsageError(f"there is no log token {', '.join(sorted(unknown))}; there are: {', '.join(log.TOKENS)}")
    path = Path(config).absolute()
    return supervisor.run(
        Options(
            config_path=str(path),
            name=checked_name(name or path.stem),
            user=user,
            run_as_root=yes_run_as_root,
            natural_title=natural_title,
            verbosity=log.Verbosity(debug, verbose - quiet, tokens),
        )
    )


def checked_name(name: str) -> str:
    """Return a tunnel's name if it can be one: it becomes part of file names and titles."""
    if not name or name.startswith(".") or not all(char.isalnum() or char in "-_.@" for char in name):
        raise UsageError(f"{name!r} cannot be a tunnel's name: use letters, digits, - _ . @")
    return name


def main() -> NoReturn:
    """Run the command line; every error a person can mend is one clear message, never a traceback."""
    try:
        code = command_line.main(prog_name="mlvpn", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        sys.exit(130)  # Ctrl-C, as a shell counts it
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Error as error:
        prefix = "" if isinstance(error, ConfigError) else "mlvpn: "  # a configuration's messages begin with its name
        click.echo("\n".join(prefix + line for line in str(error).splitlines()), err=True)
        sys.exit(error.exit_code)
