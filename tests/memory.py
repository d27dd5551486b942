"""Whether traffic leaves something behind: a daemon runs for months, and compiled code counts its references itself.

Compiled by mypyc before 2.2 every ``bytes + bytes`` kept its left half (https://github.com/python/mypy/pull/21469).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def kept_blocks(pass_traffic: Callable[[], None]) -> int:
    """Return how many more blocks of memory are in use after the same traffic once more."""
    pass_traffic()  # estimates, caches and the like have been filled once
    before = _blocks()
    pass_traffic()
    kept = _blocks() - before
    print(f"blocks of memory kept: {kept}")
    return kept


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()
