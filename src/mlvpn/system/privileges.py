"""Give up root for good: chroot, user and groups, capabilities, no_new_privs, no core dumps.

Owns who the worker becomes and the one-way street there, each step verified by asking the kernel afterwards.
Nothing may be imported and no path opened after ``drop``: the new root directory is empty.

Sources: capabilities(7), prctl(2), setresuid(2); the order (bounding set first, it needs CAP_SETPCAP) follows from
them.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from mlvpn.errors import SystemFailure, UsageError

RUN_DIRECTORY = Path("/run/mlvpn")
"""Holds the control sockets and the worker's empty root."""
DEFAULT_USERS = ("mlvpn", "_mlvpn")
"""Tried in this order when no user is named; the names packages of MLVPN create."""

PR_SET_DUMPABLE = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the worker runs as."""

    user: str
    uid: int
    gid: int


def identity(user: str | None) -> Identity:
    """Look up the worker's user, or the usual one when none is named; root is no answer."""
    for name in (user,) if user else DEFAULT_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise UsageError(f"--user {name} is root: name an unprivileged user, or say --yes-run-as-root")
        return Identity(name, entry.pw_uid, entry.pw_gid)
    wanted = f"there is no user {user!r}" if user else f"no --user given, and no user {' or '.join(DEFAULT_USERS)}"
    cure = f"useradd --system --no-create-home --shell /usr/sbin/nologin {user or DEFAULT_USERS[0]}"
    raise UsageError(f"{wanted}; create one ({cure}), or say --yes-run-as-root to go without")


def make_empty_root(directory: Path = RUN_DIRECTORY) -> Path:
    """Create (as root) the empty directory that becomes the worker's root, and return it."""
    empty = directory / "empty"
    for path in (directory, empty):
        path.mkdir(mode=0o755, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
            raise SystemFailure(f"{path} must be a directory that only root can write; remove it and start again")
    if any(empty.iterdir()):
        raise SystemFailure(f"{empty} must be empty: it is the worker's root directory; remove what is in it")
    return empty


def drop(to: Identity, root: Path) -> None:
    """Become ``to``, locked into ``root``, with no way back; SystemFailure when any step did not hold."""
    try:
        os.chroot(root)
        os.chdir("/")
        for capability in _bounding_set():
            _prctl(PR_CAPBSET_DROP, capability)
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
        os.setgroups([])
        os.setresgid(to.gid, to.gid, to.gid)
        os.setresuid(to.uid, to.uid, to.uid)
        _set_no_capabilities()
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
        _prctl(PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise SystemFailure(
            f"cannot give up root: {error}; is the daemon started with reduced capabilities?"
        ) from error
    _verify(to)


def _verify(to: Identity) -> None:
    """Ask the kernel whether it all held; a VPN that only believes to be unprivileged must not start."""
    held = {
        "user": os.getresuid() == (to.uid,) * 3,
        "group": os.getresgid() == (to.gid,) * 3 and os.getgroups() in ([], [to.gid]),
        "way back to root": not _can_become_root(),
        "root directory": os.listdir("/") == [],  # noqa: PTH208 (pathlib would import nothing new, but say it plainly)
        "capabilities": not any(_capabilities()),
        "capability bounding set": not _bounding_set(),
        "no_new_privs": _prctl(PR_GET_NO_NEW_PRIVS) == 1,
    }
    failed = [what for what, good in held.items() if not good]
    if failed:
        raise SystemFailure(f"giving up root did not hold: {', '.join(failed)}")


def _can_become_root() -> bool:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True


def _bounding_set() -> list[int]:
    """Return the numbers of the capabilities still in the bounding set."""
    found = []
    for capability in range(64):
        try:
            if _prctl(PR_CAPBSET_READ, capability):
                found.append(capability)
        except OSError:  # EINVAL: past the last one this kernel knows
            break
    return found


def _prctl(option: int, first: int = 0) -> int:
    arguments = (ctypes.c_ulong(value) for value in (first, 0, 0, 0))
    result: int = _libc.prctl(option, *arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


_CapabilityHeader = ctypes.c_uint32 * 2
"""struct __user_cap_header_struct: version, pid (0: this process)."""
_CapabilitySets = ctypes.c_uint32 * 6
"""struct __user_cap_data_struct[2]: effective, permitted, inheritable of capabilities 0-31, then of 32-63."""


def _set_no_capabilities() -> None:
    """Empty the inheritable set too: setresuid leaves it alone."""
    if _libc.capset(_CapabilityHeader(CAPABILITY_VERSION_3, 0), _CapabilitySets()) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _capabilities() -> list[int]:
    sets = _CapabilitySets()
    if _libc.capget(_CapabilityHeader(CAPABILITY_VERSION_3, 0), sets) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return list(sets)
