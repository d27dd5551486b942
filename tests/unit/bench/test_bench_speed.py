"""The speed benchmark's comparison of two trees: each of our systems of both, and only those."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from bench.speed import with_before
from bench.systems import SYSTEMS, Running, System
from mlvpn.lab.topology import Lab

LAB = cast(Lab, None)
OLD = Path("/old/src")


def test_what_is_not_ours_is_measured_once() -> None:
    assert with_before(SYSTEMS["wireguard-go"], OLD) == [SYSTEMS["wireguard-go"]]


def test_ours_is_measured_of_both_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/new/src")
    started_of: list[str] = []

    def start(_lab: Lab, _stack: ExitStack) -> Running:
        started_of.append(os.environ["PYTHONPATH"])
        return Running("10.0.0.1")

    both = with_before(System("ours", start, is_ours=True), OLD)
    assert [system.name for system in both] == ["ours", "ours before"]
    for system in (*both, both[0]):
        with ExitStack() as stack:
            system.start(LAB, stack)
    assert started_of == ["/new/src", "/old/src", "/new/src"]
