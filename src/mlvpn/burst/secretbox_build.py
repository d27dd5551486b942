"""Build the C kernels of MLVPN 1, trains and super-packets: ``python -m mlvpn.burst.secretbox_build``.

Compiles ``secretbox.c`` and ``segments.c`` with cffi into ``_secretbox.*.so`` beside them. Needs a C compiler, the
headers of this Python and libsodium with headers (Debian: gcc python3-dev libsodium-dev). Without any of this
everything works, in Python.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("secretbox", "segments")


def build() -> Path:
    """Compile; return the shared object, put in place in one step: a running daemon keeps the one it has."""
    from cffi import FFI

    lines = [line for name in NAMES for line in (HERE / f"{name}.h").read_text().splitlines()]
    ffi = FFI()
    ffi.cdef("\n".join(line for line in lines if not line.startswith("#")))
    ffi.set_source(
        "_secretbox",
        "\n".join(f'#include "{name}.h"' for name in NAMES),
        sources=[str(HERE / f"{name}.c") for name in NAMES],
        include_dirs=[str(HERE)],
        libraries=["sodium"],
        extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra"],
    )
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".build-") as scratch:
        built = Path(ffi.compile(tmpdir=scratch))
        return built.replace(HERE / built.name)


if __name__ == "__main__":
    try:
        print(f"built {build().name}")
    except Exception as error:
        sys.exit(f"kernel of MLVPN 1 not built ({error}). To build: gcc, python3-dev, libsodium-dev.")
