"""The errors of the project: who is to blame is in the type, the exit code comes with it.

    Error
    |- ConfigError     the person who wrote the configuration; exit 78, before anything starts
    |- PeerError       the other side sent something wrong: drop, count, never fatal
    |- LinkError       one link failed: it goes down and comes back; the tunnel lives
    |- SystemFailure   the kernel refused (TUN, sockets, privileges); exit 1, the message names the cure

An ``assert`` is our own defect: it crashes loudly.
"""

from __future__ import annotations


class Error(Exception):
    """Base of all errors a person is meant to read; ``str()`` is one sentence that says how to mend it."""

    exit_code = 1


class ConfigError(Error):
    """The configuration cannot be used; ``str()`` is one line per problem, each ``file:line:column: error: ...``."""

    exit_code = 78


class PeerError(Error):
    """An authenticated or unauthenticated peer broke the protocol: drop and count, never end."""


class LinkError(Error):
    """One link failed; it goes down, the others carry on."""


class SystemFailure(Error):
    """The kernel refused something the daemon cannot live without."""


class UsageError(Error):
    """The command line cannot be understood."""

    exit_code = 2


class NotRunningError(Error):
    """The daemon asked for is not running."""

    exit_code = 3


class PermissionDeniedError(Error):
    """The caller may not do this."""

    exit_code = 4
