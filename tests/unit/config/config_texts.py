"""Two small configurations, what makes others of them, and what is wrong with a text."""

from __future__ import annotations

import base64

import pytest

from mlvpn.config import parse
from mlvpn.errors import ConfigError

KEY_A = base64.b64encode(b"\1" * 32).decode()
KEY_B = base64.b64encode(b"\2" * 32).decode()

CLIENT = """\
[general]
mode = client
password = "correct horse"
[dsl]
bindhost = 192.0.2.10
remotehost = vpn.example.net
remoteport = 5080
[lte]
bindinterface = wwan0
remotehost = vpn.example.net
remoteport = 5081
"""

SERVER = """\
[general]
mode = server
password = "correct horse"
[dsl]
bindport = 5080
[lte]
bindport = 5081
"""


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "t")
    return str(caught.value).splitlines()


def general(line: str, base: str = CLIENT) -> str:
    return base.replace("[general]\n", f"[general]\n{line}\n")


def dsl(line: str, base: str = CLIENT) -> str:
    return base.replace("[dsl]\n", f"[dsl]\n{line}\n")
