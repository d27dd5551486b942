"""The reader of sockets in C under ASan and UBSan, without Python."""

from __future__ import annotations

from pathlib import Path

import sanitized
from mlvpn.system.receive_build import HERE as PARTS

HERE = Path(__file__).parent


@sanitized.needs("#include <stdint.h>\nint main(void) { return 0; }")
def test_joining_what_was_received(tmp_path: Path) -> None:
    assert sanitized.fuzz(HERE / "fuzz_receive.c", [PARTS / "receive.c"], 2000, tmp_path) == "2000 rounds\n"
