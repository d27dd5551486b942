"""The C kernels under ASan and UBSan, without Python: compiles ``fuzz_kernels.c`` and runs it for a second or two."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlvpn.burst import build

ROUNDS = 400
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", *SANITIZERS]
LIBRARIES = {
    "openssl": ["-lcrypto"],
    "ipsec-mb": ["-DMLVPN_IPSEC_MB", "-lIPSec_MB", "-lcrypto"],
}


def can_build() -> bool:
    """Say whether there are a compiler, the sanitizers and OpenSSL's headers."""
    return build.links("#include <openssl/evp.h>\nint main(void) { return 0; }", *FLAGS, "-lcrypto")


@pytest.mark.skipif(not can_build(), reason="needs a C compiler with sanitizers, and OpenSSL's headers")
@pytest.mark.parametrize("libraries", LIBRARIES)
def test_fuzzing_finds_nothing(libraries: str, tmp_path: Path) -> None:
    if libraries == "ipsec-mb" and not build.has_ipsec_mb():
        pytest.skip("ipsec-mb is not installed")
    program = tmp_path / "fuzz_kernels"
    sources = [str(Path(__file__).with_name("fuzz_kernels.c")), *build.SOURCES]
    compiler = [build.COMPILER, *FLAGS, f"-I{build.HERE}", "-o", str(program), *sources, *LIBRARIES[libraries]]
    subprocess.run(compiler, check=True)
    result = subprocess.run([program, "1", str(ROUNDS)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert libraries.replace("openssl", "OpenSSL") in result.stdout
