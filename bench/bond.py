"""Does the bond add up? Every row of the matrix with the kernel's own TCP. ``make bench-bond`` (root, about an hour).

    python -m bench.bond [--rows 1,4] [--cc cubic,bbr] [--direction up,down] [--seconds 20] [--quick] [--python]

For each cell, in one run: each link alone in the tunnel, then the bond; a cell is judged as soon as it is measured,
and the table says for each what falls short of its limit. Results: ``bench/results/bond.json``, ``bond.md`` and an SVG
per cell (``bond-quick`` with ``--quick``). Exit code: 0 when it could measure, whatever it found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

from bench.cells import Cell, Store, flow_name, make_cell, markdown, mbit, verdict
from bench.plots import draw_cell
from bench.report import RESULTS
from bench.rows import ROWS, Row, write_trace
from bench.subject import add_options, frozen_daemon
from bench.trial import Load, Progress, exit_code, go_first, run_trial
from mlvpn.lab.daemons import Command
from mlvpn.lab.topology import Lab

CONGESTIONS = ("cubic", "bbr")
DIRECTIONS = ("down", "up")
QUICK_S = 10.0
FULL_S = 20.0
QUICK_IDLE_S = 1.0


def one_of(kind: str, allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """Read a list separated by commas."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        for word in chosen:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word!r} is not a {kind}; known are: {', '.join(allowed)}")
        return chosen

    return read


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    numbers = [str(row.number) for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench.bond", description="Does the bond add up?")
    parser.add_argument("--rows", type=one_of("row", numbers), default=numbers, help="like 1,4")
    parser.add_argument("--cc", type=one_of("congestion control", CONGESTIONS), default=list(CONGESTIONS))
    parser.add_argument("--direction", type=one_of("direction", DIRECTIONS), default=list(DIRECTIONS))
    parser.add_argument("--seconds", type=float, help="length of each transfer; the second half of it counts")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:g} s each, kept apart from the full results")
    parser.add_argument("--reuse-alone", action="store_true", help="take the links alone from the last results")
    add_options(parser)
    return parser.parse_args(arguments)


def planned(options: argparse.Namespace) -> Iterator[tuple[Row, Load]]:
    """Name the cells; every row once before any is measured in another way."""
    seconds = options.seconds or (QUICK_S if options.quick else FULL_S)
    idle = {"idle_s": QUICK_IDLE_S} if options.quick else {}
    for direction in options.direction:
        for congestion in options.cc:
            for row in ROWS:
                if str(row.number) not in options.rows or (row.udp_bps and congestion != options.cc[0]):
                    continue
                yield (
                    row,
                    Load(direction, congestion, seconds, seconds / 2, flows=row.flows, udp_bps=row.udp_bps, **idle),
                )


def measure_cell(row: Row, load: Load, earlier: Cell | None, progress: Progress, command: Command) -> Cell:
    """Measure each link alone and then the bond; ``earlier`` is a cell to take the links alone from."""
    title = progress.title
    with Lab(row.links) as lab:
        alone: dict[str, float] = dict(earlier["alone_bps"]) if earlier else {}
        for name in [] if row.udp_bps or earlier else lab.links:
            progress.title = f"{title}, {name} alone"
            alone[name] = run_trial(lab, [name], load, progress, command).goodput_bps
            progress.finish(f"{mbit(alone[name])} Mbit/s")
        progress.title = f"{title}, bond"
        bond = run_trial(lab, list(lab.links), load, progress, command)
    cell = make_cell(row, load, alone, bond, reused=earlier is not None)
    progress.finish(summary(cell))
    return cell


def summary(cell: Cell) -> str:
    """Say a cell in one line."""
    ratio = f", {cell['ratio_to_sum']:.3f} of the sum" if cell["ratio_to_sum"] else ""
    pings = f"ping {cell['bond']['idle']['p50_ms']:.1f}, loaded p99 {cell['bond']['loaded']['p99_ms']:.1f} ms"
    return f"{mbit(cell['bond']['goodput_bps'])} Mbit/s{ratio}, {pings}: {verdict(cell)}"


def run(options: argparse.Namespace) -> None:
    """Measure what was asked for."""
    go_first()
    RESULTS.mkdir(exist_ok=True)
    write_trace(RESULTS / "lte-trace.json")
    store = Store("bond-quick" if options.quick else "bond")
    progress, cells = Progress(), list(planned(options))
    with frozen_daemon(options) as command:
        for number, (row, load) in enumerate(cells, 1):
            flow = flow_name(row, load)
            progress.title = f"[{number}/{len(cells)}] row {row.number} ({row.name}) {flow}"
            cell = measure_cell(row, load, store.find(row, load) if options.reuse_alone else None, progress, command)
            store.add(cell)
            draw_cell(cell, RESULTS / f"{store.name}-{row.number:02d}-{flow.replace(' ', '-')}.svg")
    print(f"\n{markdown(store.cells())}\nwritten to {store.table_path}")


if __name__ == "__main__":
    sys.exit(exit_code("bench-bond", lambda: run(parse())))
