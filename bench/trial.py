"""One measurement: a tunnel over some links of a lab, a transfer through it, pings before and during, and what it cost.

    run_trial(lab, ["a", "b"], load, console)

Every trial has daemons of its own, so that nothing learned in one helps the next, and the traces of the links begin
with its transfer, so that the second ten seconds are the same ones each time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlvpn.errors import Error
from mlvpn.lab.daemons import Command, Tunnel, our_daemon
from mlvpn.lab.measure import EchoProbes, EchoReport, TcpReport, TcpTransfer, UdpReport, UdpStream, percentile
from mlvpn.lab.topology import Lab
from mlvpn.units import NS_PER_MS, NS_PER_S

PAYLOAD_RATIO = 1380 / 1500
"""TCP payload per IP packet of a link: 1,500 less 68 for the tunnel less 52 for the inner IP and TCP headers."""
PING_INTERVAL_MS = 20.0
ENDS = {"up": ("client", "server"), "down": ("server", "client")}
"""Direction -> who sends, who receives."""


@dataclass(frozen=True)
class Load:
    """What is sent through the tunnel, and when it counts."""

    direction: str = "down"
    congestion: str = "cubic"
    seconds: float = 20.0
    from_s: float = 10.0
    """The goodput is that of the time from here to the end."""
    idle_s: float = 2.0
    """Pings before the transfer."""
    flows: int = 1
    udp_bps: int | None = None


@dataclass(frozen=True)
class Pings:
    """Round trips through the tunnel."""

    sent: int
    lost: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


@dataclass(frozen=True)
class Trial:
    """What one measurement saw; JSON-able by ``to_json``."""

    links: list[str]
    goodput_bps: float
    """Payload that came out at the far end, per second of the time that counts."""
    idle: Pings
    loaded: Pings
    """During the whole transfer, its start included."""
    settled: Pings
    """During the time that counts."""
    cpu_cores: dict[str, float]
    """CPU time of each daemon per second of transfer, and "machine": of all cores, the share that was busy."""
    longest_gap_ms: float
    broken_flows: int
    missed_frames: int
    """Not zero: the emulator was too slow and the trial is void."""
    goodput_series_bps: list[float]
    """Per 100 ms."""
    ping_series_ms: list[list[float | None]]
    """[seconds since the transfer began, round trip or None when lost]"""
    link_series: dict[str, dict[str, list[float]]]
    """Link -> per 100 ms: t_s, carried_bps, rate_bps, queue_ms (the longest), late_ms (of the emulator, the worst)."""
    udp: dict[str, float] | None = None
    status: dict[str, Any] = field(default_factory=dict)
    """What the daemons said of themselves at the end of the transfer."""

    @property
    def late_ms(self) -> float:
        """Return by how much the emulator was late in all but the worst twentieth of the time."""
        return max(percentile(series["late_ms"], 95) for series in self.link_series.values())

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON types."""
        return {**asdict(self), "late_ms": self.late_ms}


def run_trial(lab: Lab, links: Sequence[str], load: Load, progress: Progress, command: Command = our_daemon) -> Trial:
    """Measure one transfer over these links."""
    with Tunnel(lab, links=links, command=command) as tunnel:
        idle = EchoProbes(
            lab.client, tunnel.address("server"), seconds=load.idle_s, interval_ms=PING_INTERVAL_MS
        ).wait()
        for name in links:
            lab.emulator.restart_trace(name)
        meter = CostMeter(tunnel)
        flow = start_flow(lab, tunnel, load)
        probes = EchoProbes(lab.client, tunnel.address("server"), seconds=load.seconds, interval_ms=PING_INTERVAL_MS)
        progress.watch(lambda: flow.is_running, flow.rate_bps)
        cpu_cores = meter.cores()
        status = {"client": tunnel.client.status(), "server": tunnel.server.status()}
        report, pings = flow.wait(), probes.wait()
    return evaluate(lab, links, load, report, idle, pings, cpu_cores, status)


def start_flow(lab: Lab, tunnel: Tunnel, load: Load) -> TcpTransfer | UdpStream:
    """Start what is to be measured."""
    sender, receiver = ENDS[load.direction]
    ends = lab.host(sender), lab.host(receiver), tunnel.address(receiver)
    if load.udp_bps is not None:
        return UdpStream(*ends, seconds=load.seconds, rate_bps=load.udp_bps)
    return TcpTransfer(*ends, seconds=load.seconds, flows=load.flows, congestion=load.congestion)


def evaluate(
    lab: Lab,
    links: Sequence[str],
    load: Load,
    report: TcpReport | UdpReport,
    idle: EchoReport,
    pings: EchoReport,
    cpu_cores: dict[str, float],
    status: dict[str, Any],
) -> Trial:
    """Turn what was seen into figures."""
    start_ns = report.start_ns
    counters = lab.emulator.counters()
    return Trial(
        links=list(links),
        goodput_bps=goodput_bps(report.interval_bytes, load.from_s, load.seconds),
        idle=ping_figures(idle.probes),
        loaded=ping_figures(probes_between(pings, start_ns, 0, load.seconds)),
        settled=ping_figures(probes_between(pings, start_ns, load.from_s, load.seconds)),
        cpu_cores=cpu_cores,
        longest_gap_ms=report.longest_gap_ns / NS_PER_MS,
        broken_flows=report.broken_flows if isinstance(report, TcpReport) else 0,
        missed_frames=sum(wire["missed_frames"] for wire in counters.values()),
        goodput_series_bps=[size_bytes * 80.0 for size_bytes in report.interval_bytes],
        ping_series_ms=[
            [(sent_ns - start_ns) / NS_PER_S, None if rtt_ns is None else rtt_ns / NS_PER_MS]
            for sent_ns, rtt_ns in pings.probes
        ],
        link_series={name: link_series(lab, name, load, start_ns) for name in links},
        udp=udp_figures(report) if isinstance(report, UdpReport) else None,
        status=status,
    )


def goodput_bps(interval_bytes: Sequence[int], first_s: float, last_s: float) -> float:
    """Return the payload rate between two times since the first byte; what is missing at the end was silent."""
    return sum(interval_bytes[round(first_s * 10) : round(last_s * 10)]) * 8 / (last_s - first_s)


def probes_between(report: EchoReport, start_ns: int, first_s: float, last_s: float) -> list[tuple[int, int | None]]:
    """Choose the probes sent between two times."""
    first_ns, last_ns = start_ns + first_s * NS_PER_S, start_ns + last_s * NS_PER_S
    return [probe for probe in report.probes if first_ns <= probe[0] < last_ns]


def ping_figures(probes: Sequence[tuple[int, int | None]]) -> Pings:
    """Summarise probes."""
    answers = [rtt_ns / NS_PER_MS for _, rtt_ns in probes if rtt_ns is not None]
    return Pings(
        sent=len(probes),
        lost=len(probes) - len(answers),
        p50_ms=percentile(answers, 50),
        p99_ms=percentile(answers, 99),
        worst_ms=max(answers, default=float("nan")),
    )


def udp_figures(report: UdpReport) -> dict[str, float]:
    """Summarise a stream."""
    return {
        "sent": report.sent,
        "lost": report.lost,
        "late": report.late,
        "loss_ratio": report.loss_ratio,
        "p50_ms": report.latency_ms(50),
        "p99_ms": report.latency_ms(99),
    }


def link_series(lab: Lab, name: str, load: Load, start_ns: int) -> dict[str, list[float]]:
    """Return what the emulator saw of a link while the transfer ran."""
    samples = [
        sample
        for sample in lab.emulator.series(start_ns)
        if sample["link"] == name
        and sample["direction"] == load.direction
        and sample["t_ns"] <= start_ns + load.seconds * NS_PER_S
    ]
    return {
        "t_s": [(sample["t_ns"] - start_ns) / NS_PER_S for sample in samples],
        "carried_bps": [sample["delivered_bytes"] * 80 for sample in samples],
        "rate_bps": [sample["rate_bps"] for sample in samples],
        "queue_ms": [sample["peak_queue_bytes"] * 8e3 / sample["rate_bps"] for sample in samples],
        "late_ms": [sample["latest_ns"] / NS_PER_MS for sample in samples],
    }


class CostMeter:
    """CPU time from its creation on."""

    def __init__(self, tunnel: Tunnel) -> None:
        """Begin."""
        self._daemons = {"client": tunnel.client, "server": tunnel.server}
        self._used_s = {name: daemon.cpu_seconds() for name, daemon in self._daemons.items()}
        self._machine = machine_ticks()
        self._start_s = time.monotonic()

    def cores(self) -> dict[str, float]:
        """Return CPU seconds per second."""
        elapsed_s = time.monotonic() - self._start_s
        cores = {
            name: (daemon.cpu_seconds() - self._used_s[name]) / elapsed_s for name, daemon in self._daemons.items()
        }
        busy, total = (now - then for now, then in zip(machine_ticks(), self._machine, strict=True))
        return {**cores, "machine": busy / max(1, total)}


NICE = -15


def go_first(pid: int = 0) -> None:
    """Let a process (0: this one) and all it starts run before what else the machine has to do.

    On an idle machine that is no change. Where the kernel groups processes by session (sched(7), autogroups), nice
    values count only within one: a test suite at nice 19 in another terminal gets as much as a daemon at nice -15. So
    the session's group goes ahead too; a process that starts one of its own needs another call.
    """
    os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid or 'self'}/autogroup").write_text(str(NICE))


def machine_ticks() -> tuple[int, int]:
    """Return busy and total ticks of all cores (proc(5)); what a hypervisor took away counts as busy."""
    user, nice, system, idle, waiting, *others = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    busy = user + nice + system + sum(others)
    return busy, busy + idle + waiting


def exit_code(name: str, run: Callable[[], None]) -> int:
    """Run a benchmark; turn errors into a message and an exit code."""
    try:
        run()
    except Error as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


class Progress:
    """Says what is being measured: in place on a terminal, otherwise only the finished lines."""

    def __init__(self) -> None:
        """Begin with no title."""
        self.title = ""
        self._live = sys.stdout.isatty()

    def watch(self, is_running: Callable[[], bool], rate_bps: Callable[[], float]) -> None:
        """Wait until something has ended, showing its rate once a second."""
        step = 0
        while is_running():
            time.sleep(0.1)
            step += 1
            if self._live and step % 10 == 0:
                print(f"\r\x1b[K{self.title}: {step // 10} s, {rate_bps() / 1e6:.1f} Mbit/s", end="", flush=True)

    def finish(self, text: str) -> None:
        """Replace the live line by a lasting one."""
        print(f"{chr(13) + chr(27) + '[K' if self._live else ''}{self.title}: {text}", flush=True)
