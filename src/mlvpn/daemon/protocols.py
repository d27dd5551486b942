"""Which core runs a tunnel, and the keys it begins with.

Owns the choice by ``protocol`` and the derivation of keys from the configuration. That takes some 0.2 s, so it runs
in a thread: a reload must not stop the traffic.
"""

from __future__ import annotations

import asyncio
import json
import os
import time

from mlvpn.config import Config, General
from mlvpn.core.interface import Core
from mlvpn.core.mlvpn1.tunnel import Mlvpn1Tunnel
from mlvpn.core.tunnel import NativeTunnel
from mlvpn.crypto import keys
from mlvpn.crypto.aead import cipher_costs
from mlvpn.errors import ConfigError
from mlvpn.system import filters
from mlvpn.system.filters import Program
from mlvpn.system.privsep import CompileFilters, WorkerEnd


async def make_core(config: Config) -> Core:
    """Make the core that speaks a configuration's protocol."""
    if config.general.protocol == "mlvpn1":
        return Mlvpn1Tunnel(config, time.monotonic_ns(), os.urandom)
    static = await asyncio.get_running_loop().run_in_executor(None, derive_keys, config.general)
    return NativeTunnel(config, static, cipher_costs(time.monotonic_ns), time.monotonic_ns(), os.urandom)


async def use_filters(core: Core, config: Config, end: WorkerEnd) -> None:
    """Have the configuration's filters compiled, and give them to the core."""
    matching = None
    if config.filters:
        _, fd = await end.ask_descriptor(CompileFilters())
        with os.fdopen(fd, "rb") as memory:
            programs = [Program(link, bytes.fromhex(code)) for link, code in json.load(memory)]
        if filters.load.cache_info().currsize == 0:
            raise ConfigError("[filters] there were none at start, so libpcap is not loaded: restart to use them")
        matching = filters.PacketFilters(programs).matching
    core.set_filters(matching)


def derive_keys(general: General) -> keys.StaticKeys:
    """Return this end's keys, from key pairs or from the password."""
    if general.private_key is not None and general.peer_key is not None:
        psk = general.psk.reveal() if general.psk is not None else keys.NO_PSK
        return keys.StaticKeys(general.private_key.reveal(), general.peer_key, psk)
    assert general.password is not None, "the configuration was checked"
    return keys.from_password(general.password.reveal().decode(), "server" if general.mode == "server" else "client")


def may_go_on(old: Config, new: Config) -> bool:
    """Say whether the core of one configuration can go on with the other; with new keys a native one begins anew."""
    secrets = ("password", "private_key", "peer_key", "psk")
    same = all(getattr(old.general, name) == getattr(new.general, name) for name in secrets)
    return same or new.general.protocol == "mlvpn1"
