"""The header of a datagram: which datagrams of a train belong together."""

from __future__ import annotations

import pytest

from mlvpn.wire.header import HEADER_BYTES, INDEX_AT, is_uniform

SIZE = 100


def datagram(kind: int = 4, index: int = 7, size: int = SIZE) -> bytes:
    return (bytes([kind]) + bytes(INDEX_AT - 1) + index.to_bytes(4, "big") + bytes(SIZE))[:size]


@pytest.mark.parametrize("last_bytes", [SIZE, HEADER_BYTES, INDEX_AT + 4])
def test_datagrams_of_one_type_and_session_belong_together(last_bytes: int) -> None:
    assert is_uniform(datagram() * 4 + datagram(size=last_bytes), SIZE)


@pytest.mark.parametrize("stranger", [datagram(kind=5), datagram(index=8), datagram(index=7 << 24)])
@pytest.mark.parametrize("place", range(4))
def test_a_stranger_anywhere_in_a_train_is_seen(stranger: bytes, place: int) -> None:
    train = [datagram()] * 4
    train[place] = stranger
    assert not is_uniform(b"".join(train), SIZE)


def test_what_has_no_whole_header_belongs_to_nothing() -> None:
    assert not is_uniform(datagram() * 2 + datagram(size=INDEX_AT + 3), SIZE)
    assert not is_uniform(datagram(size=HEADER_BYTES - 1) * 3, HEADER_BYTES - 1)
