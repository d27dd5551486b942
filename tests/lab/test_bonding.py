"""The bond adds up and survives a cut: a few cells of the benchmark, short, with limits that a busy machine keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.bond import measure_cell
from bench.cut import Times, measure_cut
from bench.rows import ROWS
from bench.trial import Load, Progress
from mlvpn.lab.daemons import our_daemon
from mlvpn.lab.topology import Lab

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="needs /dev/net/tun"),
]

SHORT = Load(seconds=6.0, from_s=3.0, idle_s=0.5)
UNEVEN, LOSSY = ROWS[1], ROWS[5]


def test_unequal_links_add_up() -> None:
    cell = measure_cell(UNEVEN, SHORT, None, Progress(), our_daemon)
    assert cell["ratio_to_best"] > 1.0
    assert cell["ratio_to_sum"] > 0.8
    assert cell["bond"]["loaded"]["lost"] == 0
    assert cell["ping_added_ms"] < 100


def test_a_lossy_link_is_repaired() -> None:
    cell = measure_cell(LOSSY, SHORT, None, Progress(), our_daemon)
    assert cell["ratio_to_sum"] > 0.5
    server = cell["bond"]["status"]["server"]
    assert server["counters"]["repaired_datagrams"] > 20
    assert sum(link["went_down"] for link in server["links"]) == 0


def test_a_transfer_survives_a_silent_cut() -> None:
    with Lab(UNEVEN.links) as lab:
        cut = measure_cut(lab, UNEVEN, "a", SHORT, 8e6, our_daemon, Times(4, 7, 12))
    assert cut.broken_flows == 0
    assert cut.pings_lost == 0
    assert cut.tcp_gap_ms < 1000
    assert cut.settled_s is not None
    assert cut.share_again_s is not None
