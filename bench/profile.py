"""Where the workers' CPU time goes: ``make profile`` (root). Tables on the screen, flame graphs in bench/results.

Four loads, client to server: over two unshaped links bulk TCP, the same where the network cards have no offloads, and
small datagrams at a constant rate; and bulk TCP over many slow links. Sampled in the worker itself (`sampler`), both
ends at once, kernel time included, and with interpreted modules, for compiled functions show in no stack; the price
per datagram comes from /proc and the counters of ``status``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench import flame, load, sampler, scaling
from bench.report import RESULTS, figure
from bench.speed import two_links
from bench.subject import SOURCE, frozen_sources
from bench.systems import MTU_BYTES, Running, install
from bench.trial import go_first
from mlvpn.errors import Error, PermissionDeniedError, SystemFailure
from mlvpn.lab.daemons import CLOCK_TICKS, ENDS, Daemon, Tunnel, our_daemon, stat_fields
from mlvpn.lab.topology import Lab

LOOP = ("asyncio/base_events.py:BaseEventLoop._run_once", "asyncio/events.py:Handle._run")
"""What is above them is the same in every stack."""
TOP_LINES, TOP_FUNCTIONS = 20, 30
WRITE_TIMEOUT_S = 5.0


class Usage(NamedTuple):
    """What a worker has used and done, as counters."""

    cpu_s: float
    datagrams: int
    trains: int
    tun_frames: int

    def since(self, before: Usage) -> Usage:
        """Return the difference to an earlier reading."""
        cpu_s, *counts = (new - old for new, old in zip(self, before, strict=True))
        return Usage(cpu_s, *map(int, counts))


class Load(NamedTuple):
    """One kind of traffic."""

    name: str
    run: Callable[[Lab, Running, float], object]
    lab: Callable[[], Lab] = two_links
    settle_s: float = 1.0


def _bulk(flows: int, lab: Lab, running: Running, seconds: float) -> object:
    return load.bulk(running, lab.client, lab.server, down=False, flows=flows, seconds=seconds)


def _small(rate_pps: int, size_bytes: int, lab: Lab, running: Running, seconds: float) -> object:
    return load.blast(load.build_blast(), running, lab.client, lab.server, size_bytes, rate_pps, seconds)


def _worker(daemon: Daemon) -> int:
    return int(daemon.status()["worker_pid"])


def usage(daemon: Daemon) -> Usage:
    """Read a worker's counters."""
    status = daemon.status()
    links: list[dict[str, Any]] = status["links"]
    sockets = [link["socket"]["counters"] for link in links]
    frames = status["interface"]["counters"]
    return Usage(
        sum(stat_fields(_worker(daemon))[11:13]) / CLOCK_TICKS,
        sum(link["sent_datagrams"] + link["received_datagrams"] for link in links),
        sum(counters["sent_trains"] + counters["received_trains"] for counters in sockets),
        frames["read_frames"] + frames["written_frames"],
    )


def samples(daemon: Daemon, path: Path) -> str:
    """Have a worker write down and forget its samples; return them."""
    path.write_bytes(b"")
    os.kill(_worker(daemon), signal.SIGUSR2)
    deadline_s = time.monotonic() + WRITE_TIMEOUT_S
    mark = sampler.END_MARK.decode()
    while not (text := path.read_text()).endswith(mark):
        if time.monotonic() > deadline_s:
            raise SystemFailure(f"a worker wrote no samples; it said last: {daemon.log_tail()}")
        time.sleep(0.01)
    return text.removesuffix(mark)


def profile(kind: Load, kernels: str, seconds: float, console: Console) -> None:
    """Profile both ends under one load."""

    def command(config: Path, name: str) -> Sequence[str]:
        python, _, _, *arguments = our_daemon(config, name)
        wrapped = [python, "-m", "bench.sampler", str(config.with_suffix(".stacks")), *arguments]
        return ["env", f"MLVPN_KERNELS={kernels}", "MLVPN_COMPILED=no", *wrapped]

    with ExitStack() as stack:
        lab = stack.enter_context(kind.lab())
        tunnel = stack.enter_context(Tunnel(lab, command=command, general={"mtu": MTU_BYTES}))
        ends = {"client": tunnel.client, "server": tunnel.server}
        running = Running(tunnel.address("server"), tunnel.interface, list(ends.values()))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        traffic = pool.submit(kind.run, lab, running, seconds + 2 * kind.settle_s)
        time.sleep(kind.settle_s)
        paths = {end: tunnel.config_path(end).with_suffix(".stacks") for end in ENDS}
        for end in ENDS:
            samples(ends[end], paths[end])
        before = {end: usage(ends[end]) for end in ENDS}
        time.sleep(seconds)
        after = {end: usage(ends[end]) for end in ENDS}
        profiles = {end: flame.read(samples(ends[end], paths[end]), LOOP) for end in ENDS}
        traffic.result()
    for end, role in zip(ENDS, ("sends", "receives"), strict=True):
        used = after[end].since(before[end])
        title = f"{kind.name}, {kernels} kernels, the end that {role}"
        print_profile(profiles[end], used, title, seconds, console)
        path = RESULTS / f"profile-{kind.name}-{kernels}-{role}.svg"
        flame.draw(profiles[end], title, path)
        console.print(f"flame graph: {path}", soft_wrap=True)


def print_profile(found: flame.Profile, used: Usage, title: str, seconds: float, console: Console) -> None:
    """Print what was used, and where."""
    console.rule(title)
    console.print(
        f"{100 * used.cpu_s / seconds:.0f} % of a core; {figure(used.datagrams / seconds)} datagrams/s, "
        f"{figure(1e6 * used.cpu_s / max(used.datagrams, 1))} us of CPU for each; "
        f"{figure(used.datagrams / max(used.trains, 1))} datagrams per train, "
        f"{figure(1e6 * used.cpu_s / max(used.trains, 1))} us per train; "
        f"{figure(used.tun_frames / seconds)} TUN frames/s",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for header in ("%", "line, by itself", "%", "function, with what it calls"):
        table.add_column(header, justify="right" if header == "%" else "left", no_wrap=True)
    lines, called = found.own().most_common(TOP_FUNCTIONS), found.total().most_common(TOP_FUNCTIONS)
    for (line, own), (function, total) in zip(lines, called, strict=False):
        table.add_row(f"{100 * own / found.samples:.1f}", line, f"{100 * total / found.samples:.1f}", function)
    console.print(table)


def main(arguments: Sequence[str]) -> int:
    """Profile what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--loads", default="bulk,small", help="of bulk, plain, small and slow-links")
    parser.add_argument("--kernels", default="python,c", help="python, c or both")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pps", type=int, default=40_000, help="rate of the small datagrams")
    parser.add_argument("--bytes", type=int, default=64, help="size of the small datagrams")
    parser.add_argument("--source", type=Path, default=SOURCE, metavar="DIR", help="src of the tree to measure")
    options = parser.parse_args(arguments)
    loads = [
        Load("bulk", partial(_bulk, 1)),
        Load("plain", partial(_bulk, 1), partial(two_links, offloads=False)),
        Load("small", partial(_small, options.pps, options.bytes)),
        Load(
            "slow-links", partial(_bulk, 4), partial(scaling.slow_links_lab, scaling.MANY_LINKS), scaling.SLOW_SETTLE_S
        ),
    ]
    by_name = {kind.name: kind for kind in loads}
    wanted = [by_name[name] for name in options.loads.split(",")]
    console = Console(width=150)
    try:
        if os.geteuid() != 0:
            raise PermissionDeniedError("profile: network namespaces need root; run it with sudo")
        install(load.PACKAGES)
        go_first()
        RESULTS.mkdir(exist_ok=True)
        with frozen_sources(options.source) as sources:
            os.environ["PYTHONPATH"] = str(sources)
            for kernels in options.kernels.split(","):
                for kind in wanted:
                    profile(kind, kernels, options.seconds, console)
    except Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
