"""What happens when a link dies silently, comes back, or only looks dead. ``make bench-failover`` (root).

    python -m bench.failover [--rows 2,5] [--cc cubic] [--direction down] [--python]    each link cut in turn, loaded
                                                                                        and idle
    python -m bench.failover --stability 600    instead: unsteady but living links; how many are declared down,
                                               and whether memory grows (three transfers, 180 s, at least)
    python -m bench.failover --fairness         instead: two tunnels on the same links, a foreign flow on one

Results go to ``bench/results/failover.json`` and ``.md`` (``stability``, ``fairness``). Exit code: 0 when it could
measure, whatever it found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from bench.bond import CONGESTIONS, DIRECTIONS, one_of
from bench.cells import Check, figure, mbit
from bench.cut import Cut, measure_cut
from bench.quiet import Notice, Stability, measure_notice, measure_stability
from bench.report import RESULTS, write_json
from bench.rows import ROWS, Row
from bench.sharing import Sharing, measure_sharing
from bench.subject import add_options, frozen_daemon
from bench.trial import Load, Progress, exit_code, go_first, run_trial
from mlvpn.lab.daemons import Command
from mlvpn.lab.topology import Lab

DEFAULT_ROWS = ["2", "5"]
REST = Load(seconds=10.0, from_s=5.0, idle_s=0.5)
"""How the links that are left are measured by themselves."""


class Judged(Protocol):
    """A result that knows its limits."""

    def checks(self) -> list[Check]:
        """Hold the figures against their limits."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    numbers = [str(row.number) for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description="What happens when a link dies?")
    parser.add_argument("--rows", type=one_of("row", numbers), default=DEFAULT_ROWS, help="of the matrix, like 2,5")
    parser.add_argument("--cc", type=one_of("congestion control", CONGESTIONS), default=["cubic"])
    parser.add_argument("--direction", type=one_of("direction", DIRECTIONS), default=["down"])
    parser.add_argument(
        "--stability", type=float, metavar="SECONDS", help="only: living links stay up, memory does not grow"
    )
    parser.add_argument("--fairness", action="store_true", help="only: shares of a bottleneck")
    add_options(parser)
    return parser.parse_args(arguments)


# -- cuts


def measure_row(row: Row, options: argparse.Namespace, progress: Progress, command: Command) -> Iterator[Cut | Notice]:
    """Cut each link of a row in turn, under load and idle."""
    for name in [spec.name for spec in row.links]:
        for direction in options.direction:
            for congestion in options.cc:
                progress.title = f"row {row.number} ({row.name}), {congestion} {direction}, {name} cut"
                load = replace(REST, direction=direction, congestion=congestion)
                with Lab(row.links) as lab:
                    yield cut_under_load(lab, row, name, load, progress, command)
        progress.title = f"row {row.number} ({row.name}), idle, {name} cut"
        with Lab(row.links) as lab:
            yield measure_notice(lab, row, name, command)


def cut_under_load(lab: Lab, row: Row, name: str, load: Load, progress: Progress, command: Command) -> Cut:
    """Measure what the other links carry, then the cut."""
    others = [other for other in lab.links if other != name]
    rest_bps = run_trial(lab, others, load, progress, command).goodput_bps
    return measure_cut(lab, row, name, load, rest_bps, command)


# -- tables


def cut_row(cut: Cut) -> list[str]:
    """Return a cut as text, a column each."""
    return [
        f"{cut.row}: {cut.links}",
        cut.flow,
        cut.cut,
        mbit(cut.before_bps),
        mbit(cut.rest_alone_bps),
        *(figure(value, 0) for value in (cut.packet_gap_ms, cut.tcp_gap_ms, cut.ping_gap_ms)),
        f"{figure(cut.settled_s, 1)} s",
        f"{cut.pings_lost} of {cut.pings}",
        figure(cut.ping_p99_ms, 0),
        str(cut.broken_flows),
        f"{figure(cut.share_again_s, 1)} s",
        f"{figure(cut.rate_again_s, 1)} s",
        figure(cut.return_tcp_gap_ms, 0),
        figure(cut.return_lowest_ratio, 2),
        verdict(cut),
    ]


CUT_COLUMNS = [
    "links",
    "flow",
    "cut",
    "before",
    "rest alone",
    "packet gap",
    "TCP gap",
    "ping gap",
    "90 % of rest",
    "pings lost",
    "ping p99",
    "resets",
    "share again",
    "rate again",
    "TCP gap at return",
    "lowest second after",
    "verdict",
]
NOTICE_COLUMNS = ["links", "cut", "client noticed", "server noticed", "client: back", "server: back", "verdict"]
SHARING_COLUMNS = ["who competes", "shares", "verdict"]


def notice_row(notice: Notice) -> list[str]:
    """Return a notice as text, a column each."""
    times = [notice.noticed_s["client"], notice.noticed_s["server"], notice.back_s["client"], notice.back_s["server"]]
    return [f"{notice.row}: {notice.links}", notice.cut, *(f"{figure(at_s, 2)} s" for at_s in times), verdict(notice)]


def sharing_row(sharing: Sharing) -> list[str]:
    """Return shares as text, a column each."""
    shares = (f"{name} {mbit(sharing.rates_bps[name])} Mbit/s ({share:.0%})" for name, share in sharing.shares.items())
    return [sharing.name, ", ".join(shares), verdict(sharing)]


def stability_lines(result: Stability) -> list[str]:
    """Say what became of the links."""
    lines = [f"{result.seconds:g} s; link: declared down, only suspected"]
    lines += [f"- {key}: {downs}, {result.suspected[key]}" for key, downs in result.went_down.items()]
    rates = ", ".join(mbit(rate_bps) for rate_bps in result.goodput_bps)
    lines.append(f"- transfers: {rates} Mbit/s; pings lost: {result.pings_lost} of {result.pings}")
    sizes = (
        f"{end} {', '.join(figure(size / 1e6, 1) for size in after)}" for end, after in result.memory_bytes.items()
    )
    return [*lines, f"- memory after each, MB: {'; '.join(sizes)}", verdict(result)]


def verdict(result: Judged) -> str:
    """Say "ok", or what falls short of which limit."""
    short = [f"{c.name} {c.value:.3g} (limit {c.limit:g})" for c in result.checks() if not c.ok]
    return f"short: {', '.join(short)}" if short else "ok"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows)]


def leave(name: str, results: Sequence[Any], lines: Sequence[str]) -> None:
    """Write the files of a benchmark."""
    judged = [{**asdict(result), "checks": [check.to_json() for check in result.checks()]} for result in results]
    write_json(name, {"results": judged})
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")


# -- the three benchmarks


def run_cuts(options: argparse.Namespace, progress: Progress, command: Command) -> list[str]:
    """Cut links; return the table."""
    results: list[Cut | Notice] = []
    lines: list[str] = []
    for row in ROWS:
        for result in measure_row(row, options, progress, command) if str(row.number) in options.rows else ():
            progress.finish(verdict(result))
            results.append(result)
            cuts = [item for item in results if isinstance(item, Cut)]
            notices = [item for item in results if isinstance(item, Notice)]
            lines = [*table(CUT_COLUMNS, map(cut_row, cuts)), "", *table(NOTICE_COLUMNS, map(notice_row, notices))]
            leave("failover", results, lines)
    return lines


def run_fairness(progress: Progress, command: Command) -> list[str]:
    """Let others compete; return the table."""
    results: list[Sharing] = []
    lines: list[str] = []
    for result in measure_sharing(progress, command):
        progress.finish(sharing_row(result)[1])
        results.append(result)
        lines = table(SHARING_COLUMNS, map(sharing_row, results))
        leave("fairness", results, lines)
    return lines


def measure(options: argparse.Namespace, progress: Progress, command: Command) -> list[str]:
    """Run the benchmark that was asked for; return its table."""
    if options.fairness:
        return run_fairness(progress, command)
    if not options.stability:
        return run_cuts(options, progress, command)
    result = measure_stability(options.stability, progress, command)
    lines = stability_lines(result)
    leave("stability", [result], lines)
    return lines


def run(options: argparse.Namespace) -> None:
    """Measure what was asked for."""
    go_first()
    RESULTS.mkdir(exist_ok=True)
    with frozen_daemon(options) as command:
        lines = measure(options, Progress(), command)
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    sys.exit(exit_code("bench-failover", lambda: run(parse())))
