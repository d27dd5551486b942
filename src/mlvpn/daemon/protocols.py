"""Which core runs a tunnel, and its keys.

Owns the choice by ``protocol`` and the derivation of keys from the configuration, which takes a moment and so runs in
a thread.
"""

from __future__ import annotations

import asyncio
import os
import time

from mlvpn.config.model import Config, General
from mlvpn.core.interface import Core
from mlvpn.core.tunnel import NativeTunnel
from mlvpn.crypto import aead, keys


async def make_core(config: Config) -> Core:
    """Derive the keys of a configuration and make the core that speaks its protocol."""
    static, costs = await asyncio.get_running_loop().run_in_executor(None, _prepare, config.general)
    return NativeTunnel(config, static, costs, time.monotonic_ns(), os.urandom)


def _prepare(general: General) -> tuple[keys.StaticKeys, dict[aead.Cipher, int]]:
    return derive_keys(general), aead.cipher_costs(time.perf_counter_ns)


def derive_keys(general: General) -> keys.StaticKeys:
    """Return this end's keys, from key pairs or from the password."""
    if general.private_key is not None and general.peer_key is not None:
        psk = general.psk.reveal() if general.psk is not None else keys.NO_PSK
        return keys.StaticKeys(general.private_key.reveal(), general.peer_key, psk)
    assert general.password is not None, "the configuration was checked"
    return keys.from_password(general.password.reveal().decode(), "server" if general.mode == "server" else "client")


def same_secrets(old: Config, new: Config) -> bool:
    """Say whether a tunnel of one configuration can go on with the other."""
    return all(
        getattr(old.general, name) == getattr(new.general, name)
        for name in ("password", "private_key", "peer_key", "psk")
    )
