"""From a path to the text of a configuration file: opened, its rights checked, decoded.

Owns everything that can be wrong with a file before its first line is read. Reading and decoding are apart because they
run in two processes: the root parent does ``read_file`` and hands over the bytes, the worker does ``decode``.
"""

from __future__ import annotations

import codecs
import os
import shlex
import stat
from typing import NoReturn

from mlvpn.config.problem import Location, Problem, Severity
from mlvpn.errors import ConfigError

FILE_LIMIT_BYTES = 2**20
"""A hundred links with comments are some 20 kB; a larger file is not a configuration."""


def read_file(path: str) -> bytes:
    """Return the file's bytes; raise ConfigError when it cannot be read or others can read or write it."""
    try:
        # O_NONBLOCK: a FIFO in the file's place must not hang the start.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            check_permissions(os.fstat(file.fileno()), path)
            return file.read(FILE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        _refuse(path, "there is no such file; check the name")
    except PermissionError:
        _refuse(path, "you may not read it; run as root or as its owner")
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        _refuse(path, f"it cannot be read ({reason}); name a regular file")


def check_permissions(status: os.stat_result, path: str) -> None:
    """Raise ConfigError unless this is a regular file with no rights for group and others: it holds secrets."""
    if not stat.S_ISREG(status.st_mode):
        _refuse(path, "this is not a regular file; name the configuration file itself")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        _refuse(path, f"group or others have rights to it (mode {mode:04o}); run: chmod 600 {shlex.quote(path)}")


def decode(data: bytes, filename: str) -> str:
    """Return the text of a file; raise ConfigError when it is too long or not UTF-8."""
    if len(data) > FILE_LIMIT_BYTES:
        _refuse(filename, f"longer than {FILE_LIMIT_BYTES} bytes; this is not a configuration file")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as problem:
        before = data[: problem.start].decode()
        location = Location(filename, before.count("\n") + 1, len(before) - before.rfind("\n"))
        _refuse_at(location, f"byte 0x{data[problem.start]:02x} is not UTF-8; save the file in that encoding")


def _refuse(filename: str, text: str) -> NoReturn:
    _refuse_at(Location(filename, 1, 1), text)


def _refuse_at(location: Location, text: str) -> NoReturn:
    raise ConfigError(str(Problem(location, Severity.ERROR, "", "", text))) from None
