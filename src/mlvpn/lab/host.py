"""One host of the lab: a network namespace, and the one way in which commands run in it.

Every ``ip`` line can be echoed as it would be typed, so that a failure can be replayed by hand. Namespaces are named
``mlvpnlab-<pid>-<number>-<host>``: the process id says whose they are, and ``clean`` removes those whose owner is dead.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mlvpn.errors import SystemFailure

OF_LAB = re.compile(r"mlvpnlab-(?P<pid>\d+)-\d+-\w+")
"""Names of namespaces and of temporary directories."""
KILL_AFTER_S = 3.0
"""How long processes left in a namespace may take to end by TERM."""

Echo = Callable[[str], None]


def silent(_line: str) -> None:
    """Echo nothing."""


def run_ip(lines: Sequence[str], namespace: str | None = None, echo: Echo = silent) -> None:
    """Run ``ip`` lines in one process, stopping at the first that fails."""
    prefix = f"ip -n {namespace}" if namespace else "ip"
    for line in lines:
        echo(f"{prefix} {line}")
    done = subprocess.run([*prefix.split(), "-batch", "-"], input="\n".join(lines), text=True, capture_output=True)
    if done.returncode:
        failed = re.search(r"Command failed -:(\d+)", done.stderr)
        line = lines[int(failed[1]) - 1] if failed else "; ".join(lines)
        raise SystemFailure(f"this command failed: {prefix} {line}\n{done.stderr.strip()}")


class Host:
    """A namespace with the processes started in it."""

    def __init__(self, name: str, namespace: str, echo: Echo = silent) -> None:
        """Create the namespace, loopback up."""
        self.name = name
        self.namespace = namespace
        self._echo = echo
        self._processes: list[subprocess.Popen[Any]] = []
        run_ip([f"netns add {namespace}"], echo=echo)
        self.ip("link set lo up")

    def ip(self, *lines: str) -> None:
        """Run ``ip`` lines in this host."""
        run_ip(lines, self.namespace, self._echo)

    def run(self, argv: Sequence[str], timeout_s: float = 30.0) -> str:
        """Run a command to its end and return what it printed; SystemFailure when it fails."""
        self._echo(" ".join(self._inside(argv)))
        try:
            done = subprocess.run(self._inside(argv), text=True, capture_output=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise SystemFailure(f"{self.name}: {' '.join(argv)} did not end within {timeout_s:g} s") from None
        if done.returncode:
            raise SystemFailure(f"{self.name}: {' '.join(argv)} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def spawn(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process in this host; it does not outlive the host. ``options`` are those of Popen."""
        self._echo(" ".join(self._inside(argv)) + " &")
        process: subprocess.Popen[Any] = subprocess.Popen(
            self._inside(argv), **{"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        )  # a session of its own: Ctrl-C is for the lab, which then ends its processes in order
        self._processes.append(process)
        return process

    def _inside(self, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *argv]

    def set_kernel(self, **values: int) -> None:
        """Set ``/proc/sys/net`` values of this host; ``ipv4__ip_forward=1`` is ``net/ipv4/ip_forward``."""
        lines = [f"echo {value} > /proc/sys/net/{key.replace('__', '/')}" for key, value in values.items()]
        self.run(["sh", "-ec", "; ".join(lines)])

    def delete(self) -> None:
        """End every process and delete the namespace."""
        remove_namespace(self.namespace)
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()


def remove_namespace(namespace: str) -> None:
    """End what runs in a namespace (TERM, then KILL) and delete it; harmless when it is gone."""
    deadline = time.monotonic() + KILL_AFTER_S
    while pids := processes_in(namespace):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


def processes_in(namespace: str) -> list[int]:
    """Return the living processes of a namespace; those ended but not yet waited for do not count."""
    listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def clean() -> list[str]:
    """Remove the namespaces and temporary directories of labs whose process is dead; return what was removed."""
    namespaces = leftovers(listed_namespaces())
    for namespace in namespaces:
        remove_namespace(namespace)
    temporary = Path(tempfile.gettempdir())
    directories = [temporary / name for name in leftovers(path.name for path in temporary.iterdir())]
    for directory in directories:
        shutil.rmtree(directory)
    return [*namespaces, *map(str, directories)]


def listed_namespaces() -> list[str]:
    """Return the names of all namespaces ``ip netns`` knows."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True)
    return [line.split()[0] for line in listed.stdout.splitlines() if line]


def leftovers(names: Iterable[str]) -> list[str]:
    """Choose the names that belong to a lab whose owner is dead."""
    matches = ((name, OF_LAB.fullmatch(name)) for name in names)
    return [name for name, match in matches if match and not is_alive(int(match["pid"]))]


def is_alive(pid: int) -> bool:
    """Say whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
