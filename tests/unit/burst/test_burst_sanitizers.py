"""The C kernels under ASan and UBSan, without Python, for a second or two each."""

from __future__ import annotations

from pathlib import Path

import pytest

import sanitized
from mlvpn.burst import build

HERE = Path(__file__).parent
LIBRARIES = {
    "openssl": ["-lcrypto"],
    "ipsec-mb": ["-DMLVPN_IPSEC_MB", "-lIPSec_MB", "-lcrypto"],
}


@sanitized.needs("#include <openssl/evp.h>\nint main(void) { return 0; }", "-lcrypto")
@pytest.mark.parametrize("libraries", LIBRARIES)
def test_sealing_and_opening(libraries: str, tmp_path: Path) -> None:
    if libraries == "ipsec-mb" and not build.has_ipsec_mb():
        pytest.skip("ipsec-mb is not installed")
    parts = [Path(source) for source in build.SOURCES]
    said = sanitized.fuzz(HERE / "fuzz_kernels.c", parts, 400, tmp_path, LIBRARIES[libraries])
    assert libraries.replace("openssl", "OpenSSL") in said


@sanitized.needs("#include <stdint.h>\nint main(void) { return 0; }")
def test_splitting_and_joining_of_super_packets(tmp_path: Path) -> None:
    assert sanitized.fuzz(HERE / "fuzz_segments.c", [build.HERE / "segments.c"], 4000, tmp_path) == "4000 rounds\n"
