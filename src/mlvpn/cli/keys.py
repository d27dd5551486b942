"""``mlvpn genkey``, ``mlvpn pubkey``, ``mlvpn genpsk``: keys on standard output, as ``wg`` makes them.

    umask 077; mlvpn genkey | tee client.key | mlvpn pubkey

Owns the three commands. Does not own the format (``crypto.keys``) or any file.
"""

from __future__ import annotations

import os
import sys

import click

from mlvpn.crypto.keys import KEY_BYTES, from_text, generate_private, public_of, to_text
from mlvpn.errors import Error

_LONGEST_INPUT = 1024
"""Characters read from standard input: a key has 44, and someone may pipe in a disk by mistake."""


@click.command()
def genkey() -> None:
    """Print a new private key, for `private_key` of one end."""
    click.echo(to_text(generate_private()))


@click.command()
def pubkey() -> None:
    """Read a private key from standard input, print its public key, for `peer_key` of the other end."""
    text = sys.stdin.buffer.read(_LONGEST_INPUT).decode("ascii", errors="replace")
    try:
        private = from_text(text)
    except ValueError as problem:
        raise Error(f"pubkey: what came in on standard input {problem}") from None
    click.echo(to_text(public_of(private)))


@click.command()
def genpsk() -> None:
    """Print a new pre-shared key, for `psk` of both ends."""
    click.echo(to_text(os.urandom(KEY_BYTES)))
