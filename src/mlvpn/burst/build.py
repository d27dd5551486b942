"""Build the C kernels: ``python -m mlvpn.burst.build``.

Compiles ``kernels.c`` and ``aead.c`` with cffi (API mode: a call releases the GIL) into ``_kernels.*.so`` beside them;
``compile_module`` does the same for the other modules in C (``secretbox_build.py``, ``system/receive_build.py``).
Needs a C compiler, the headers of this Python, and OpenSSL 3 with headers (Debian: gcc python3-dev libssl-dev). With
Intel's ipsec-mb (Debian on amd64: libipsec-mb-dev) AES-256-GCM costs a quarter per datagram; it is used where found.
Without any of this everything works, in Python.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = [str(HERE / "kernels.c"), str(HERE / "aead.c")]
"""For who compiles them otherwise: the sanitizers' tests."""
COMPILER = "cc"


def declarations(header: Path) -> str:
    """Return a header as cffi reads it: without the lines of the preprocessor."""
    return "\n".join(line for line in header.read_text().splitlines() if not line.startswith("#"))


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


def compile_module(
    folder: Path,
    name: str,
    parts: Sequence[str],
    libraries: Sequence[str] = (),
    inner_parts: Sequence[str] = (),
    macros: Sequence[tuple[str, str]] = (),
) -> Path:
    """Compile a module out of ``<part>.c`` files; the headers of ``parts`` say what Python may call.

    Return the shared object, put in place in one step: a running daemon keeps the one it has. Raises whatever cffi and
    the compiler do.
    """
    from cffi import FFI

    headers = [folder / f"{part}.h" for part in parts]
    ffi = FFI()
    ffi.cdef("\n".join(map(declarations, headers)))
    ffi.set_source(
        name,
        "\n".join(f'#include "{header.name}"' for header in headers),
        sources=[str(folder / f"{part}.c") for part in (*parts, *inner_parts)],
        include_dirs=[str(folder)],
        define_macros=list(macros),
        libraries=list(libraries),
        extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra"],
    )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
        built = Path(ffi.compile(tmpdir=scratch))
        return built.replace(folder / built.name)


def build() -> Path:
    """Compile the kernels."""
    libraries, macros = ["crypto"], []
    if has_ipsec_mb():
        libraries, macros = ["crypto", "IPSec_MB"], [("MLVPN_IPSEC_MB", "1")]
    return compile_module(HERE, "_kernels", ["kernels"], libraries, ["aead"], macros)


def libraries() -> str:
    """Load what was built, in a new process, and return what it runs on."""
    command = [sys.executable, "-c", "from mlvpn.burst.c import LIBRARIES; print(LIBRARIES, end='')"]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    try:
        print(f"built {build().name} on {libraries()}")
    except Exception as error:
        sys.exit(f"C kernels not built ({error}); the Python ones run instead. To build: gcc, python3-dev, libssl-dev.")
