"""How the C library keeps memory between bursts.

Owns two settings of glibc's allocator, and the giving back. A burst allocates and frees megabytes of 64 KB buffers; by
default glibc gives the top of the heap back to the kernel whenever more than 128 KB of it are free, and the next burst
pays a page fault for every 4 KB again. Measured on loopback, receiving 8 trains of 64,768 bytes: 37 us per train by
default, 6 with this. What is free between objects that live is never given back by itself.

Source: man 3 mallopt, malloc_trim. Other C libraries (musl) have no such setting and need none of it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

KEEP_BYTES = 4 << 20
"""Free memory kept at the top of the heap. With 16 MB a worker has some MB more after bulk TCP and needs as much CPU
time (bench.speed --rows bulk,plain, in turn)."""
MAP_BYTES = 1 << 20
"""Only objects beyond this get pages of their own, which are given back at once."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Let this process keep what bursts free, for the next burst; say whether the C library can do that."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEEP_BYTES)) and bool(mallopt(_M_MMAP_THRESHOLD, MAP_BYTES))


def give_back_freed_memory() -> None:
    """Return to the kernel whatever is free, down to the pages between objects that live."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Look it up, once: each look makes a reference cycle."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
