"""Keys: text form, derivation, and that nothing shows them."""

from __future__ import annotations

import pytest

from mlvpn.crypto.keys import NO_PSK, StaticKeys, from_password, from_text, generate_private, public_of, to_text


def test_public_key_of_rfc_7748() -> None:
    # RFC 7748, section 6.1: Alice's pair.
    private = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    public = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert public_of(private) == public


def test_generated_keys_differ() -> None:
    assert generate_private() != generate_private()
    assert len(generate_private()) == 32


def test_text_form_is_that_of_wg() -> None:
    assert to_text(bytes(32)) == "A" * 43 + "="
    assert from_text("A" * 43 + "=\n") == bytes(32)
    key = generate_private()
    assert from_text(to_text(key)) == key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 bytes"),
        ("AAAA", "has 3 bytes"),
        ("not base64!", "is not base64"),
        ("é", "is not base64"),
        ("A" * 43, "is not base64"),
    ],
)
def test_bad_text_is_refused_without_repeating_it(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        from_text(text)
    assert "genkey" in str(caught.value)
    assert not text or text not in str(caught.value)


def test_password_gives_both_ends_matching_keys() -> None:
    client, server = from_password("correct horse", "client"), from_password("correct horse", "server")
    assert client.peer_public == server.public
    assert server.peer_public == client.public
    assert client.psk == server.psk != NO_PSK
    assert client.private != server.private


def test_another_password_gives_other_keys() -> None:
    one, other = from_password("correct horse", "client"), from_password("correct horsf", "client")
    assert {one.private, one.peer_public, one.psk}.isdisjoint({other.private, other.peer_public, other.psk})


def test_derivation_never_changes() -> None:
    # A golden value: a release that derived anything else could not talk to its predecessor.
    assert to_text(from_password("s3cr3t", "client").peer_public) == "TMSEel2nuAU5Mv5sDBEqFKp35peYZvV3GUSdXDDFwmM="


def test_repr_shows_no_key() -> None:
    keys = StaticKeys(private=bytes(range(32)), peer_public=bytes(range(32, 64)), psk=bytes(range(64, 96)))
    assert repr(keys) == "StaticKeys()"
