"""Build the C kernels of MLVPN 1, trains and super-packets: ``python -m mlvpn.burst.secretbox_build``.

Compiles ``secretbox.c`` and ``segments.c`` into ``_secretbox.*.so`` beside them. Needs a C compiler, the headers of
this Python and libsodium with headers (Debian: gcc python3-dev libsodium-dev). Without any of this everything works, in
Python.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlvpn.burst.build import HERE, compile_module


def build() -> Path:
    """Compile."""
    return compile_module(HERE, "_secretbox", ("secretbox", "segments"), ["sodium"])


if __name__ == "__main__":
    try:
        print(f"built {build().name}")
    except Exception as error:
        sys.exit(f"kernel of MLVPN 1 not built ({error}). To build: gcc, python3-dev, libsodium-dev.")
