"""Bursts must not pay for their memory again and again."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from mlvpn.system.memory import keep_freed_memory

def faults_of_bursts():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        burst = [bytearray(b"x" * 65_000) for _ in range(20)]
        del burst
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults_of_bursts()
taken = keep_freed_memory()
faults_of_bursts()
print(usual, faults_of_bursts(), taken)
"""


def test_bursts_fault_no_pages_in_once_memory_is_kept() -> None:
    answer = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    usual, kept, taken = answer.stdout.split()
    if taken == "False":
        pytest.skip("this C library has no mallopt")
    assert int(kept) < 20 < int(usual)
