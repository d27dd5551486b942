"""What every benchmark does with its figures: collect them round by round, say median and spread, leave files behind.

A benchmark measures its cases in turn, several times; ``Results`` holds every single value, so that the JSON under
``bench/results/`` can be judged anew. Values are compared within their round only: a busy minute slows all cases.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Spread(NamedTuple):
    """The values of several rounds in short."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return median, lowest and highest of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


class Results:
    """Values by row (what was measured) and case (of what), one per round; either is added when first seen."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, dict[int, float]]] = {}

    def add(self, row: str, case: str, round_number: int, value: float) -> None:
        """Note what a round measured."""
        self.values.setdefault(row, {}).setdefault(case, {})[round_number] = value

    def spread(self, row: str, case: str) -> Spread | None:
        """Return the spread over the rounds; None when nothing was measured."""
        rounds = self.values.get(row, {}).get(case)
        return spread(list(rounds.values())) if rounds else None

    def ratio(self, row: str, case: str, to_case: str) -> Spread | None:
        """Return the spread of the ratios to another case of the same round."""
        rounds, others = (self.values.get(row, {}).get(name, {}) for name in (case, to_case))
        ratios = [value / others[number] for number, value in rounds.items() if others.get(number)]
        return spread(ratios) if ratios else None


def machine() -> dict[str, Any]:
    """Describe where and of what this was measured."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":")
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": described.stdout.strip(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpu": model.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "command": " ".join(sys.argv[1:]),
    }


def write_json(name: str, results: dict[str, Any]) -> Path:
    """Write ``bench/results/NAME.json``, the machine's description with it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **results}, indent=1) + "\n")
    return path


def figure(value: float) -> str:
    """Return a number with three significant digits, whole from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def described(values: Spread | None) -> str:
    """Return a spread as text: median (lowest to highest)."""
    if values is None:
        return "-"
    if values.low == values.high:
        return figure(values.median)
    return f"{figure(values.median)} ({figure(values.low)} - {figure(values.high)})"
