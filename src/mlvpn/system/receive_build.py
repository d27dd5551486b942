"""Build the C reader of UDP sockets: ``python -m mlvpn.system.receive_build``.

Compiles ``receive.c`` into ``_receive.*.so`` beside it. Needs a C compiler and the headers of this Python (Debian: gcc
python3-dev). Without it everything works, in Python.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlvpn.burst.build import compile_module

HERE = Path(__file__).parent


def build() -> Path:
    """Compile."""
    return compile_module(HERE, "_receive", ["receive"])


if __name__ == "__main__":
    try:
        print(f"built {build().name}")
    except Exception as error:
        sys.exit(f"reader of UDP sockets not built ({error}). To build: gcc, python3-dev.")
