"""The burst kernels work where a worker lives: forked after all imports, in an empty chroot, without privileges."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from mlvpn import burst
from mlvpn.crypto.aead import Cipher

loaded = set(sys.modules)
os.chroot(sys.argv[1])
os.chdir("/")
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for cipher in Cipher:
    sealer, opener = (kind(cipher, bytes(32), 7, False) for kind in (burst.Sealer, burst.Opener))
    (datagram,) = sealer.seal_bodies(1, 5, 9, [b"a body"])
    assert opener.open_train(datagram, 0)[0][0].body == b"a body"
assert set(sys.modules) == loaded, set(sys.modules) - loaded
print(burst.IMPLEMENTATION)
"""


@pytest.mark.root
@pytest.mark.parametrize("kernels", ["python", "auto"])
def test_new_keys_can_be_taken_inside_the_chroot(kernels: str, tmp_path: Path) -> None:
    environment = os.environ | {"MLVPN_KERNELS": kernels}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
