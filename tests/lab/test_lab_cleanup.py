"""Nothing is left behind: after an exception, after TERM and Ctrl-C, and, by ``clean``, after -9."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlvpn.errors import SystemFailure
from mlvpn.lab.host import clean, listed_namespaces, processes_in
from mlvpn.lab.topology import Lab, LinkSpec

pytestmark = pytest.mark.root

LIVES = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background has it ignored
from mlvpn.lab.topology import Lab, LinkSpec
with Lab([LinkSpec("a", delay_ns=1000000)]) as lab:
    lab.client.spawn(["sleep", "1000"])
    print(lab.prefix, lab.directory, flush=True)
    time.sleep(100)
"""


def of_lab(prefix: str) -> list[str]:
    """Return the namespaces of a lab."""
    return [name for name in listed_namespaces() if name.startswith(prefix + "-")]


def test_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), Lab([LinkSpec("a", delay_ns=1)]) as lab:
        process = lab.client.spawn(["sleep", "1000"])
        assert len(of_lab(lab.prefix)) == 3
        directory = lab.directory
        raise ZeroDivisionError
    assert of_lab(lab.prefix) == []
    assert process.poll() is not None
    assert not directory.exists()


def test_after_a_failure_while_building() -> None:
    lab = Lab([LinkSpec("a"), LinkSpec("lo")])
    with pytest.raises(SystemFailure, match=r"this command failed: ip link add name lo .*"), lab:
        pass
    assert of_lab(lab.prefix) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_after_a_signal(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIVES], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as lab:
        assert lab.stdout is not None
        prefix, directory = lab.stdout.readline().split()
        assert len(of_lab(prefix)) == 3
        lab.send_signal(number)
        lab.wait(10)
    if number == signal.SIGKILL:
        assert len(of_lab(prefix)) == 3
        assert set(of_lab(prefix)) <= set(clean())
    assert of_lab(prefix) == []
    assert processes_in(f"{prefix}-client") == []
    assert not Path(directory).exists()
