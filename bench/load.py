"""The load put on a system, and what is read off it: iperf3 for TCP, ``blast.c`` for datagrams, pings for latency.

Every function measures once; rounds and comparisons are the caller's matter. The daemons' CPU time is that of the
same transfer as the rate.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.systems import Running
from bench.trial import go_first
from mlvpn.errors import SystemFailure
from mlvpn.lab.host import Host
from mlvpn.lab.measure import EchoProbes, EchoReport

PACKAGES = {"iperf3": "iperf3", "gcc": "gcc"}
CONGESTION = "cubic"
"""Linux' default, whatever this machine's is."""
WANTED_LOSS_RATIO = 0.005
FIRST_RATE_PPS = 8_000
PRECISION_RATIO = 0.04
"""The search for the highest rate ends when what passed and what did not are this close."""
TRIES = 2
BEHIND_RATIO = 0.9
"""A sender that gets less than this of its rate out has no CPU left: asking for more changes nothing."""
LATE_S = 0.1
"""A datagram that comes later than this after the last was sent was waiting in a queue: not carried at this rate."""
DRAIN_S = 0.3
PING_INTERVAL_MS = 10.0
MAX_STEPS = 30
END_TIMEOUT_S = 2.0

_ports = itertools.count(6000)


class Bulk(NamedTuple):
    """A bulk TCP transfer."""

    rate_bps: float
    """TCP payload received."""
    cpu_s_per_gb: float
    """CPU time of the daemons of both ends per 10^9 bytes of payload."""
    received_bytes: float


def bulk(
    running: Running, sender: Host, server: Host, *, down: bool, flows: int, seconds: float, rate_bps: int = 0
) -> Bulk:
    """Transfer for some seconds; ``sender`` is the host that connects, data flows to the server unless ``down``.

    ``rate_bps`` 0: as fast as it goes.
    """
    port = str(next(_ports))
    options = ["-t", f"{seconds:g}", "-P", str(flows), "-b", str(rate_bps // flows), "-C", CONGESTION]
    options += ["-R"] if down else []
    with _listening(server, ["iperf3", "-s", "-1", "-p", port, "--forceflush"], "listening"):
        cpu_s = running.cpu_seconds()
        command = ["iperf3", "-c", running.server_address, "-p", port, "-J", *options]
        received = _received(sender.run(command, timeout_s=seconds + 30))
        cpu_s = running.cpu_seconds() - cpu_s
    return Bulk(received["bits_per_second"], cpu_s / (received["bytes"] / 1e9), received["bytes"])


def _received(report: str) -> dict[str, float]:
    """Return what the receiving end of iperf3 counted, of all flows together."""
    received: dict[str, float] = json.loads(report)["end"]["sum_received"]
    if not received["bytes"]:
        raise SystemFailure("iperf3 carried nothing")
    return received


@contextmanager
def _listening(host: Host, argv: list[str], word: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program that prints a line with ``word`` when it is ready; leave no trace of it."""
    process = host.spawn(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not any(word in line for line in process.stdout):
        raise SystemFailure(f"{argv[0]} did not start (exit code {process.wait()})")
    go_first(process.pid)
    try:
        yield process
    finally:
        try:
            process.wait(END_TIMEOUT_S)  # iperf3 -1 and a counter that was told to stop end by themselves
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def build_blast() -> Path:
    """Compile the generator; return its path, in a directory of its own."""
    path = Path(tempfile.mkdtemp(prefix="mlvpn-bench-")) / "blast"
    source = Path(__file__).with_name("blast.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-o", str(path), str(source)], check=True)
    return path


class Datagrams(NamedTuple):
    """What became of datagrams sent at one rate."""

    sent: int
    received: int
    sent_seconds: float

    @property
    def loss_ratio(self) -> float:
        """Return the share that did not arrive, or not in time."""
        return 1 - self.received / self.sent if self.sent else 1.0

    @property
    def sent_pps(self) -> float:
        """Return the rate that the sender really had."""
        return self.sent / self.sent_seconds

    @property
    def received_pps(self) -> float:
        """Return the rate that got through."""
        return self.received / self.sent_seconds


def blast(
    tool: Path, running: Running, client: Host, server: Host, size_bytes: int, rate_pps: float, seconds: float
) -> Datagrams:
    """Send datagrams to the server at a constant rate."""
    address, port = running.server_address, str(next(_ports))
    with _listening(server, [str(tool), "count", address, port], "ready") as counter:
        figures = [str(size_bytes), f"{rate_pps:.0f}", f"{seconds:g}"]
        sent, took_ns = map(int, client.run([str(tool), "send", address, port, *figures], seconds + 30).split())
        time.sleep(LATE_S)
        os.kill(counter.pid, signal.SIGTERM)
        assert counter.stdout is not None
        received = int(counter.stdout.read())
    return Datagrams(sent, received, took_ns / 1e9)


def highest_pps(tool: Path, running: Running, client: Host, server: Host, size_bytes: int, seconds: float) -> float:
    """Search for the highest rate with little loss: doubling, then halving the interval; return what got through.

    A rate fails only when it fails twice: this machine has other things to do now and then.
    """
    passed_pps, best_pps, failed_pps = 0.0, 0.0, 0.0
    rate_pps = float(FIRST_RATE_PPS)
    for _ in range(MAX_STEPS):
        for _ in range(TRIES):
            result = blast(tool, running, client, server, size_bytes, rate_pps, seconds)
            time.sleep(DRAIN_S)
            if result.loss_ratio <= WANTED_LOSS_RATIO:
                break
        if result.loss_ratio <= WANTED_LOSS_RATIO:
            passed_pps, best_pps = rate_pps, max(best_pps, result.received_pps)
            if result.sent_pps < BEHIND_RATIO * rate_pps:
                break
        else:
            failed_pps = rate_pps
        if failed_pps and failed_pps - passed_pps <= PRECISION_RATIO * failed_pps:
            break
        rate_pps = (passed_pps + failed_pps) / 2 if failed_pps else 2 * passed_pps
    return best_pps


def ping(client: Host, address: str, seconds: float) -> EchoReport:
    """Ping at idle."""
    return EchoProbes(client, address, seconds=seconds, interval_ms=PING_INTERVAL_MS).wait()


def ping_beside_bulk(
    running: Running, client: Host, server: Host, *, down: bool, flows: int, seconds: float
) -> EchoReport:
    """Ping beside a bulk TCP transfer, once it has had half of its time to start."""
    from_ns = time.monotonic_ns() + int(seconds * 1e9 / 2)
    probes = EchoProbes(client, running.server_address, seconds=seconds, interval_ms=PING_INTERVAL_MS)
    bulk(running, client, server, down=down, flows=flows, seconds=seconds)
    return EchoReport(tuple(probe for probe in probes.wait().probes if probe[0] >= from_ns))
