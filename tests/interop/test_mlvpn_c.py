"""Our daemon against MLVPN 2.x, the C daemon, in network namespaces: each end of the tunnel in turn is ours.

    MLVPN_C=/path/to/mlvpn pytest tests/interop        as root; MLVPN_C_SECONDS=600 for long transfers

The C daemon is not part of this project: build it from its public source, and name the binary.
"""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench import load
from bench.systems import Running, install
from mlvpn.lab.daemons import PASSWORD, Daemon, Tunnel, our_daemon
from mlvpn.lab.measure import EchoProbes, TcpTransfer
from mlvpn.lab.topology import Lab, LinkSpec

C_DAEMON = os.environ.get("MLVPN_C", "")
SECONDS = float(os.environ.get("MLVPN_C_SECONDS", "1.5"))
STEADY_BPS = 6_000_000
PING_INTERVAL_MS = 200
LEAST_BPS = 20e6
"""Far below what either daemon reaches on a slow machine, far above what a stalled tunnel does."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not C_DAEMON, reason="MLVPN_C does not name a binary of MLVPN 2.x"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.parametrize("ours", ["client", "server"]),
]


def user_with_home() -> str:
    """The C daemon changes its root to the home directory of its user, which must exist."""
    return next(user.pw_name for user in pwd.getpwall() if user.pw_uid and Path(user.pw_dir).is_dir())


def commands(ours: str) -> Callable[[Path, str], Sequence[str]]:
    """Start our daemon at the end ``ours``, the C daemon at the other."""

    def command(config: Path, name: str) -> Sequence[str]:
        if config.stem.endswith(ours):
            return our_daemon(config, name)
        return [C_DAEMON, "-c", str(config), "-u", user_with_home(), "-n", name, "--debug"]

    return command


def tunnel(lab: Lab, ours: str, *, family: int = 4, **general: str | int) -> Tunnel:
    settings = {"protocol": "mlvpn1", "mtu": 1400, "timeout": 4, "reorder_buffer_size": 256, **general}
    return Tunnel(lab, general=settings, command=commands(ours), family=family)


def two_links() -> Lab:
    return Lab([LinkSpec("one", emulated=True), LinkSpec("two", emulated=True)])


def end_of(made: Tunnel, host: str) -> Daemon:
    return made.client if host == "client" else made.server


def other(host: str) -> str:
    return "server" if host == "client" else "client"


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


def up_links(made: Tunnel, ours: str) -> list[str]:
    return [link["name"] for link in end_of(made, ours).status()["links"] if link["state"] != "down"]


def pings_pass(lab: Lab, made: Tunnel) -> bool:
    """Say whether a second of pings goes without a loss."""
    return EchoProbes(lab.client, made.address("server"), seconds=0.6, interval_ms=20).wait().lost == 0


def transfer_both_ways(lab: Lab, made: Tunnel) -> None:
    for sender, receiver, where in ((lab.client, lab.server, "server"), (lab.server, lab.client, "client")):
        report = TcpTransfer(sender, receiver, made.address(where), seconds=SECONDS).wait()
        assert report.rate_bps() > LEAST_BPS, f"TCP to the {where}"


@pytest.mark.parametrize("tuntap", ["tun", "tap"])
@pytest.mark.parametrize("cleartext_data", [0, 1])
def test_ping_and_tcp_both_ways(ours: str, cleartext_data: int, tuntap: str) -> None:
    lab = Lab([LinkSpec("one"), LinkSpec("two")])
    with lab, tunnel(lab, ours, cleartext_data=cleartext_data, tuntap=tuntap) as made:
        eventually(lambda: up_links(made, ours) == ["one", "two"], "both links up")
        assert pings_pass(lab, made)
        transfer_both_ways(lab, made)
        links = end_of(made, ours).status()["links"]
        for counter in ("sent_datagrams", "received_datagrams"):
            low, high = sorted(link[counter] for link in links)
            assert low > 0.7 * high, f"{counter} over two equal links"


def test_nothing_is_lost_while_both_ends_send(ours: str) -> None:
    install(load.PACKAGES)
    seconds = max(SECONDS, 3.0)
    with Lab([LinkSpec("one"), LinkSpec("two")]) as lab, tunnel(lab, ours) as made, ThreadPoolExecutor() as pool:
        eventually(lambda: up_links(made, ours) == ["one", "two"], "both links up")
        running = Running(made.address("server"), made.interface, [made.client, made.server])

        def steady(down: bool) -> load.Bulk:
            return load.bulk(running, lab.client, lab.server, down=down, flows=1, seconds=seconds, rate_bps=STEADY_BPS)

        transfers = pool.map(steady, (False, True))
        pings = EchoProbes(lab.client, made.address("server"), seconds=seconds, interval_ms=PING_INTERVAL_MS).wait()
        assert all(transfer.rate_bps > 0.95 * STEADY_BPS for transfer in transfers)
        assert len(pings.probes) >= seconds * 1000 / PING_INTERVAL_MS - 1
        assert pings.lost == 0
        status = end_of(made, ours).status()
        assert {name: count for name, count in status["drops"].items() if count} == {}
        assert [link["disconnects"] for link in status["links"]] == [0, 0]


def test_over_ipv6_and_with_packets_of_the_full_mtu(ours: str) -> None:
    lab = Lab([LinkSpec("one"), LinkSpec("two")])
    with lab, tunnel(lab, ours, family=6, mtu=1432) as made:
        eventually(lambda: up_links(made, ours) == ["one", "two"], "both links up")
        full = EchoProbes(lab.client, made.address("server"), seconds=0.5, interval_ms=20, size_bytes=1432 - 28)
        assert full.wait().lost == 0
        transfer_both_ways(lab, made)


def test_the_loss_of_a_link_and_its_return(ours: str) -> None:
    with two_links() as lab, tunnel(lab, ours) as made:
        eventually(lambda: up_links(made, ours) == ["one", "two"], "both links up")
        lab.emulator.cut("one")
        eventually(lambda: up_links(made, ours) == ["two"], "the cut link is down")
        eventually(lambda: pings_pass(lab, made), "pings over the other link")
        lab.emulator.heal("one")
        eventually(lambda: up_links(made, ours) == ["one", "two"], "the link is back")
        eventually(lambda: pings_pass(lab, made), "pings over both links")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_the_restart_of_an_end(ours: str, whose: str, how: signal.Signals) -> None:
    with two_links() as lab, tunnel(lab, ours) as made:
        eventually(lambda: up_links(made, ours) == ["one", "two"], "both links up")
        restarted = end_of(made, ours if whose == "ours" else other(ours))
        if how is signal.SIGKILL:
            restarted.kill()
        restarted.restart()
        made.wait_ready()
        eventually(lambda: up_links(made, ours) == ["one", "two"], "both links are back")
        eventually(lambda: pings_pass(lab, made), "pings over both links")


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_reload_of_an_end(ours: str, whose: str) -> None:
    with two_links() as lab, tunnel(lab, ours) as made:
        host = ours if whose == "ours" else other(ours)
        text = made.config_path(host).read_text()
        made.config_path(host).write_text(text.replace("timeout = 4", "timeout = 5"))
        end_of(made, host).reload()
        eventually(lambda: "reload" in end_of(made, host).log_path.read_text(), "the reload is in the log")
        eventually(lambda: up_links(made, ours) == ["one", "two"], "both links up")
        eventually(lambda: pings_pass(lab, made), "pings over both links")


def test_a_wrong_password_and_its_correction_by_a_reload(ours: str) -> None:
    with two_links() as lab, tunnel(lab, ours) as made:
        daemon, path = end_of(made, ours), made.config_path(ours)
        right = path.read_text()
        path.write_text(right.replace(PASSWORD, "not the same"))
        daemon.restart()
        eventually(lambda: "is password the same at both ends?" in daemon.log_path.read_text(), "a warning in the log")
        assert up_links(made, ours) == []
        if ours == "server":  # the C daemon says nothing to what it cannot open
            assert daemon.status()["drops"]["unauthentic_datagrams"] > 0
        path.write_text(right)
        daemon.reload()
        eventually(lambda: up_links(made, ours) == ["one", "two"], "both links up")
        eventually(lambda: pings_pass(lab, made), "pings over both links")
