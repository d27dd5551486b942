"""Command line of the traffic tools; see the package's docstring."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from mlvpn.lab.traffic.echo import echo
from mlvpn.lab.traffic.tcp import tcp_receive, tcp_send
from mlvpn.lab.traffic.udp import udp_receive, udp_send
from mlvpn.lab.traffic.watch import watch

TOOLS = {
    "tcp-receive": tcp_receive,
    "tcp-send": tcp_send,
    "udp-receive": udp_receive,
    "udp-send": udp_send,
    "echo": echo,
    "watch": watch,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; each tool takes what it needs."""
    parser = argparse.ArgumentParser(prog="python -m mlvpn.lab.traffic")
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("address")
    parser.add_argument("port", type=int, nargs="?", default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--flows", type=int, default=1)
    parser.add_argument("--congestion", default="cubic")
    parser.add_argument("--connect", action="store_true", help="TCP: connect to ADDRESS instead of listening on it")
    parser.add_argument("--rate-bps", type=int, default=1_000_000)
    parser.add_argument("--size-bytes", type=int, default=64)
    parser.add_argument("--interval-ms", type=float, default=20.0)
    parser.add_argument("--first", action="store_true", help="echo: end at the first answer")
    return parser.parse_args(arguments)


def leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End through the ``finally`` that prints the summary."""
    raise SystemExit(0)


def main(arguments: Sequence[str]) -> None:
    """Run one tool."""
    signal.signal(signal.SIGTERM, leave)
    options = parse(arguments)
    TOOLS[options.tool](options)


if __name__ == "__main__":
    main(sys.argv[1:])
