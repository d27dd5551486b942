"""genkey, pubkey and genpsk as a shell sees them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from mlvpn.cli.keys import genkey, genpsk, pubkey
from mlvpn.crypto.keys import from_text, public_of, to_text
from mlvpn.errors import Error


@pytest.mark.parametrize("command", [genkey, genpsk])
def test_prints_a_new_key_each_time(command: click.Command) -> None:
    first, second = (CliRunner().invoke(command, []) for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout.endswith("\n")
    assert len(from_text(first.stdout)) == 32
    assert first.stdout != second.stdout


def test_pubkey_reads_a_private_key() -> None:
    private = bytes(range(32))
    result = CliRunner().invoke(pubkey, input=to_text(private) + "\n")
    assert result.stdout == to_text(public_of(private)) + "\n"


@pytest.mark.parametrize(
    "text", ["", "secret password", "\xff\xfe", "A" * 5000], ids=["empty", "no key", "not ASCII", "long"]
)
def test_pubkey_says_what_is_wrong_without_repeating_it(text: str) -> None:
    result = CliRunner().invoke(pubkey, input=text)
    assert isinstance(result.exception, Error)
    assert "standard input" in str(result.exception)
    assert not text or text not in str(result.exception)
    assert result.stdout == ""
