"""Where something is in a configuration file, and what is wrong with it there.

Owns the one form of every message about a file, the form compilers use, which editors can jump to:

    home.conf:14:12: error: [adsl1] bindport: 'abc' is not a port; write a number from 1 to 65535

Problems are collected, not raised, so that one run shows all of them; ``Problems`` stops keeping after a bound, because
a file of garbage has as many problems as lines.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from mlvpn.errors import ConfigError

SHOWN_PROBLEMS = 100
"""No one reads more; the count of the rest is told."""


class Location(NamedTuple):
    """A place in a file; line and column count from 1, columns in characters."""

    filename: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}:{self.column}"


class Severity(Enum):
    """How a message begins."""

    ERROR = "error"
    """The file cannot be used."""
    WARNING = "warning"
    """The file can be used, but probably does not do what its writer thinks."""
    NOTE = "note"
    """Something to know, such as how MLVPN 2.x reads the line."""


class Problem(NamedTuple):
    """One message. ``section`` and ``key`` are empty where it is not about one."""

    location: Location
    severity: Severity
    section: str
    key: str
    text: str

    def __str__(self) -> str:
        about = (f"[{self.section}] " if self.section else "") + (f"{self.key}: " if self.key else "")
        return f"{self.location}: {self.severity.value}: {about}{self.text}"


class Problems:
    """Collects what is wrong with one file."""

    def __init__(self) -> None:
        self._errors: list[Problem] = []
        self._warnings: list[Problem] = []

    def error(self, location: Location, text: str, section: str = "", key: str = "") -> None:
        """Note something that makes the file unusable."""
        self._keep(self._errors, Problem(location, Severity.ERROR, section, key, text))

    def warning(self, location: Location, text: str, section: str = "", key: str = "") -> None:
        """Note something its writer should know."""
        self._keep(self._warnings, Problem(location, Severity.WARNING, section, key, text))

    @property
    def full(self) -> bool:
        """True when looking for more errors is a waste of time."""
        return len(self._errors) >= SHOWN_PROBLEMS

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings in the order of the file, ready to print."""
        return tuple(str(problem) for problem in sorted(self._warnings, key=_place))

    def raise_errors(self) -> None:
        """Raise ConfigError with every error in the order of the file; do nothing when there is none."""
        if not self._errors:
            return
        lines = [str(problem) for problem in sorted(self._errors, key=_place)]
        if self.full:
            lines.append(f"only the first {SHOWN_PROBLEMS} errors are shown; mend these and look again")
        raise ConfigError("\n".join(lines))

    def _keep(self, kept: list[Problem], problem: Problem) -> None:
        if len(kept) < SHOWN_PROBLEMS:
            kept.append(problem)


def _place(problem: Problem) -> Location:
    return problem.location
