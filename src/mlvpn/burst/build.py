"""Build the C kernels: ``python -m mlvpn.burst.build``.

Compiles ``kernels.c`` and ``aead.c`` with cffi (API mode: a call releases the GIL) into ``_kernels.*.so`` beside them.
Needs a C compiler, the headers of this Python, and OpenSSL 3 with headers (Debian: gcc python3-dev libssl-dev). With
Intel's ipsec-mb (Debian on amd64: libipsec-mb-dev) AES-256-GCM costs a quarter per datagram; it is used where found.
Without any of this everything works, in Python.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = [str(HERE / "kernels.c"), str(HERE / "aead.c")]
COMPILER = "cc"


def declarations() -> str:
    """Return ``kernels.h`` as cffi reads it: without the lines of the preprocessor."""
    lines = (HERE / "kernels.h").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def links(program: str, *options: str) -> bool:
    """Say whether a C program can be compiled and linked here."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [COMPILER, "-xc", "-", "-o", str(Path(scratch, "program")), *options]
        try:
            return subprocess.run(command, input=program, text=True, capture_output=True).returncode == 0
        except OSError:
            return False


def has_ipsec_mb() -> bool:
    """Say whether Intel's ipsec-mb is here, in its edition for x86."""
    program = "#include <intel-ipsec-mb.h>\nint main(void) { return !alloc_mb_mgr(IMB_FEATURE_AVX2); }"
    return links(program, "-lIPSec_MB")


def build() -> Path:
    """Compile; return the shared object, put in place in one step: a running daemon keeps the one it has."""
    from cffi import FFI

    ipsec_mb = has_ipsec_mb()
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "_kernels",
        '#include "kernels.h"',
        sources=SOURCES,
        include_dirs=[str(HERE)],
        define_macros=[("MLVPN_IPSEC_MB", "1")] if ipsec_mb else [],
        libraries=["crypto", "IPSec_MB"] if ipsec_mb else ["crypto"],
        extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra"],
    )
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".build-") as scratch:
        built = Path(ffi.compile(tmpdir=scratch))
        return built.replace(HERE / built.name)


def libraries() -> str:
    """Load what was built, in a new process, and return what it runs on."""
    command = [sys.executable, "-c", "from mlvpn.burst.c import LIBRARIES; print(LIBRARIES, end='')"]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    try:
        print(f"built {build().name} on {libraries()}")
    except Exception as error:
        sys.exit(f"C kernels not built ({error}); the Python ones run instead. To build: gcc, python3-dev, libssl-dev.")
