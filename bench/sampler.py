"""Run our daemon and sample on what its worker spends CPU time: ``python -m bench.sampler OUTPUT ARGUMENTS-OF-MLVPN``.

On SIGUSR2 the worker writes to OUTPUT what it has sampled since the last one, a line per stack,
"outermost;...;innermost:line count", and begins anew. The clock is the worker's own CPU time, system calls included, so
that waiting does not show.

In the process, because nothing outside can read the stacks of a process in an empty root directory, and because
stopping a process from outside for each sample makes it late, which pacing and link supervision answer.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from mlvpn.cli import main

INTERVAL_S = 0.004
"""A kernel tick at HZ=250; CPU timers are no finer."""

END_MARK = b"end\n"
"""Follows the last stack, so that a reader knows that it has all."""

Stack = tuple[tuple[CodeType, int], ...]

_stacks: Counter[Stack] = Counter()


def _sample(_number: int, frame: FrameType | None) -> None:
    stack = []
    while frame is not None:
        stack.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    _stacks[tuple(stack)] += 1


def _begin() -> None:
    """Sample from here on: this is the worker, forked a moment ago."""
    signal.signal(signal.SIGPROF, _sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)


def _line(stack: Stack, count: int) -> str:
    names = (
        f"{Path(code.co_filename).parent.name}/{Path(code.co_filename).name}:{code.co_qualname}" for code, _ in stack
    )
    return f"{';'.join(reversed(list(names)))}:{stack[0][1]} {count}\n"


def sampled(output: str, arguments: list[str]) -> None:
    """Run mlvpn with these arguments, its worker sampled."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(_number: int, _frame: FrameType | None) -> None:
        taken = _stacks.copy()  # sampling goes on meanwhile
        _stacks.clear()
        text = "".join(_line(stack, count) for stack, count in taken.items())
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode() + END_MARK, 0)

    signal.signal(signal.SIGUSR2, write)
    os.register_at_fork(after_in_child=_begin)
    sys.argv = ["mlvpn", *arguments]
    main()


if __name__ == "__main__":
    sampled(sys.argv[1], sys.argv[2:])
