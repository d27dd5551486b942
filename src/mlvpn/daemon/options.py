"""What the command line says about one daemon; set once, read by both processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlvpn.daemon.log import Verbosity


@dataclass(frozen=True, slots=True)
class Options:
    """One tunnel to run."""

    config_path: str
    """Absolute, so that a reload finds it again."""
    name: str
    user: str | None = None
    """The worker's user; None: the usual one (privileges.DEFAULT_USERS)."""
    run_as_root: bool = False
    """Go without an unprivileged user when none is named."""
    natural_title: bool = False
    """Leave the process titles alone."""
    verbosity: Verbosity = field(default_factory=Verbosity)
