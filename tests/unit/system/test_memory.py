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


SCATTERED = """
from mlvpn.system.memory import give_back_freed_memory, keep_freed_memory

def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

kept = keep_freed_memory()
crowd = [bytes(65_000) + b"x" for _ in range(400)]
living = crowd[::40]
del crowd
before = resident_bytes()
give_back_freed_memory()
print(before - resident_bytes(), kept)
"""


def test_what_is_free_between_living_objects_is_given_back() -> None:
    answer = subprocess.run([sys.executable, "-c", SCATTERED], check=True, capture_output=True, text=True)
    given_back, kept = answer.stdout.split()
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    assert int(given_back) > 15_000_000
