"""What `bench/speed.py` found, as tables and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: there is no screen

from matplotlib import pyplot
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

from bench.report import Results, described

KINDS = {
    "Mbit/s": "bulk TCP",
    "packets/s": "UDP: highest rate with at most 0.5 % loss",
    "CPU s/GB": "CPU time of both ends' daemons",
}
"""Unit, with which a row's name ends -> what a chart of such rows is called."""
WITHOUT_TUNNEL = "none"
"""In the tables only: next to it all bars would look alike."""


def print_tables(results: Results, systems: Sequence[str], references: Sequence[str], console: Console) -> None:
    """Print all figures, then their ratios to each reference that was measured."""
    table = _table("median (lowest - highest) of the rounds", systems)
    for row in results.values:
        table.add_row(row, *(described(results.spread(row, system)) for system in systems))
    console.print(table)
    for reference in references:
        if reference in systems:
            others = [system for system in systems if system != reference]
            table = _table(f"ratio to {reference} in the same round", others)
            for row in results.values:
                table.add_row(row, *(described(results.ratio(row, system, reference)) for system in others))
            console.print(table)


def _table(title: str, systems: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for system in systems:
        table.add_column(system, justify="right")
    return table


def plot(results: Results, systems: Sequence[str], path: Path) -> None:
    """Draw a bar chart for each kind of row that was measured."""
    kinds = {unit: [row for row in results.values if row.endswith(unit)] for unit in KINDS}
    kinds = {unit: rows for unit, rows in kinds.items() if rows}
    systems = [system for system in systems if system != WITHOUT_TUNNEL]
    if not kinds or not systems:
        return
    bars = [len(rows) * len(systems) for rows in kinds.values()]
    figure, axes = pyplot.subplots(
        len(kinds), squeeze=False, figsize=(10, 0.2 * sum(bars) + 1.5 * len(kinds)), height_ratios=bars
    )
    for axis, (unit, rows) in zip(axes[:, 0], kinds.items(), strict=True):
        _draw(axis, results, systems, rows)
        axis.set(title=KINDS[unit], xlabel=unit)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _draw(axis: Axes, results: Results, systems: Sequence[str], rows: Sequence[str]) -> None:
    height = 0.8 / len(systems)
    for index, system in enumerate(systems):
        found = [(number, results.spread(row, system)) for number, row in enumerate(rows)]
        shown = [(number + index * height, values) for number, values in found if values]
        medians = [values.median for _, values in shown]
        errors = [[v.median - v.low for _, v in shown], [v.high - v.median for _, v in shown]]
        axis.barh([at for at, _ in shown], medians, height, xerr=errors, label=system)
    labels = [row.rpartition(",")[0] for row in rows]
    axis.set_yticks([number + 0.4 - height / 2 for number in range(len(rows))], labels)
    axis.invert_yaxis()
    axis.legend(loc="lower right")
