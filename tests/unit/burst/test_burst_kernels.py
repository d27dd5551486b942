"""What a session's two ends do with runs and trains, whichever implementation carries it out."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import pytest
from burst_session import INDEX, KEY, Pair

from mlvpn.burst.api import Opened
from mlvpn.crypto.aead import Cipher
from mlvpn.wire.frame import SLICE_HEAD, Kind, first_byte
from mlvpn.wire.header import HEADER_BYTES, OVERHEAD_BYTES
from records import values

TCP4 = first_byte(Kind.SLICE_TCP4, lane=1, equalise=False)
UDP = first_byte(Kind.SLICE_UDP, lane=1, equalise=False)
IP_HEADER = bytes(range(20))


def tcp_template(option_bytes: int) -> bytes:
    """Return an IP header and a TCP header that says how long it is."""
    tcp = bytearray(20 + option_bytes)
    tcp[12] = len(tcp) // 4 << 4
    return IP_HEADER + tcp


TEMPLATE = tcp_template(12)


class Slice(NamedTuple):
    """One slice body before it is sealed."""

    kind: int = TCP4
    gseq: int = 70
    offset: int = 0
    csum_start: int = 20
    template: bytes = TEMPLATE
    payload: bytes = b"12345678"

    def body(self) -> bytes:
        return SLICE_HEAD.pack(self.kind, self.gseq, self.offset, self.csum_start) + self.template + self.payload


FIRST = Slice()
SECOND = Slice(gseq=71, offset=8, payload=b"abcdefgh")
THIRD = Slice(gseq=72, offset=16, payload=b"ABCDEFGH")
SIZE = OVERHEAD_BYTES + len(FIRST.body())


def seal(pair: Pair, *slices: Slice, lseq: int = 5) -> list[bytes]:
    """Return the slices as datagrams of link 3."""
    return pair.sealer.seal_bodies(3, lseq, 9, [slice_.body() for slice_ in slices])


def counts(opened: list[Opened]) -> list[int]:
    return [one.count for one in opened]


def test_a_super_packet_comes_back_as_one_body(pair: Pair) -> None:
    payload = bytes(i * 7 % 256 for i in range(45 * 1400 - 300))
    train = pair.sealer.seal_slices(3, 5, 9, TCP4, 70, bytes(10) + TEMPLATE + payload, 20, 52, 1400, 0, 45)
    opened, failed = pair.opener.open_train(train, 1400 + 52 + 8 + OVERHEAD_BYTES)
    assert failed == 0
    assert values(opened) == values([Opened(3, 5, 45, 9, Slice(payload=payload).body(), 1400)])


def test_a_super_packet_may_be_cut_in_parts(pair: Pair) -> None:
    frame = bytes(10) + TEMPLATE + bytes(range(100))
    first = pair.sealer.seal_slices(3, 5, 9, TCP4, 70, frame, 20, 52, 10, 0, 4)
    second = pair.sealer.seal_slices(3, 9, 9, TCP4, 74, frame, 20, 52, 10, 40, 6)
    opened, failed = pair.opener.open_train(first + second, 10 + 52 + 8 + OVERHEAD_BYTES)
    assert failed == 0
    assert values(opened) == values([Opened(3, 5, 10, 9, Slice(payload=bytes(range(100))).body(), 10)])


def test_a_run_may_be_longer_than_any_socket_call(pair: Pair) -> None:
    payload = bytes(i % 256 for i in range(3000))
    train = pair.sealer.seal_slices(3, 5, 9, TCP4, 70, bytes(10) + TEMPLATE + payload, 20, 52, 1, 0, 3000)
    opened, failed = pair.opener.open_train(train, 1 + 52 + 8 + OVERHEAD_BYTES)
    assert failed == 0
    assert values(opened) == values([Opened(3, 5, 3000, 9, Slice(payload=payload).body(), 1)])


@pytest.mark.parametrize(
    ("header_bytes", "slice_bytes", "offset", "count"),
    [(52, 10, 0, 0), (52, 0, 0, 1), (52, 10, -1, 1), (0, 10, 0, 1), (52, 10, 0, 11), (52, 10, 100, 1), (200, 10, 0, 1)],
)
def test_slices_outside_the_payload_are_refused(
    pair: Pair, header_bytes: int, slice_bytes: int, offset: int, count: int
) -> None:
    frame = bytes(10) + TEMPLATE + bytes(100)
    with pytest.raises(ValueError, match="payload"):
        pair.sealer.seal_slices(3, 5, 9, TCP4, 70, frame, 20, header_bytes, slice_bytes, offset, count)


def test_an_offset_that_does_not_fit_its_field_is_refused(pair: Pair) -> None:
    frame = bytes(10) + TEMPLATE + bytes(70_000)
    with pytest.raises(ValueError, match="payload"):
        pair.sealer.seal_slices(3, 5, 9, TCP4, 70, frame, 20, 52, 1000, 0, 67)


def test_a_slice_larger_than_the_payload_is_the_whole_payload(pair: Pair) -> None:
    train = pair.sealer.seal_slices(3, 5, 9, TCP4, 70, bytes(10) + TEMPLATE + b"payload", 20, 52, 10**9, 0, 1)
    assert values(pair.opener.open_train(train, 0)) == values(
        ([Opened(3, 5, 1, 9, Slice(payload=b"payload").body(), 7)], 0)
    )


def test_fields_reach_their_limits(pair: Pair) -> None:
    (datagram,) = pair.sealer.seal_bodies(255, 2**48 - 1, 2**32 - 1, [b"body"])
    assert values(pair.opener.open_train(datagram, 0)) == values(
        ([Opened(255, 2**48 - 1, 1, 2**32 - 1, b"body", 0)], 0)
    )


def test_no_bodies_make_no_datagrams(pair: Pair) -> None:
    assert pair.sealer.seal_bodies(3, 5, 9, []) == []


def test_an_empty_body_is_carried(pair: Pair) -> None:
    (datagram,) = pair.sealer.seal_bodies(3, 5, 9, [b""])
    assert values(pair.opener.open_train(datagram, 0)) == values(([Opened(3, 5, 1, 9, b"", 0)], 0))


def test_bodies_of_other_frames_are_not_joined(pair: Pair) -> None:
    packets = [bytes([first_byte(Kind.PACKETS, 1, False)]) + bytes([i]) * 60 for i in range(4)]
    train = b"".join(pair.sealer.seal_bodies(3, 5, 9, packets))
    opened, failed = pair.opener.open_train(train, 61 + OVERHEAD_BYTES)
    assert failed == 0
    assert values(opened) == values([Opened(3, 5 + i, 1, 9, body, 0) for i, body in enumerate(packets)])


def test_neighbours_are_joined_until_a_shorter_one(pair: Pair) -> None:
    slices = [FIRST, SECOND, THIRD._replace(payload=b"end")]
    opened, _ = pair.opener.open_train(b"".join(seal(pair, *slices)), SIZE)
    assert values(opened) == values([Opened(3, 5, 3, 9, FIRST._replace(payload=b"12345678abcdefghend").body(), 8)])


def test_gseq_wraps_within_a_run(pair: Pair) -> None:
    train = b"".join(seal(pair, FIRST._replace(gseq=2**32 - 1), SECOND._replace(gseq=0), THIRD._replace(gseq=1)))
    assert counts(pair.opener.open_train(train, SIZE)[0]) == [3]


@pytest.mark.parametrize(
    "second",
    [
        SECOND._replace(gseq=72),
        SECOND._replace(gseq=70),
        SECOND._replace(offset=9),
        SECOND._replace(offset=0),
        SECOND._replace(kind=TCP4 ^ 1),
        SECOND._replace(kind=TCP4 + 2),
        SECOND._replace(kind=first_byte(Kind.SLICE_TCP6, 1, False)),
        SECOND._replace(template=bytes([1]) + TEMPLATE[1:]),
        SECOND._replace(template=TEMPLATE[:-1] + b"x"),
        SECOND._replace(template=tcp_template(16), payload=b"abcd"),
    ],
    ids=str,
)
def test_a_slice_that_does_not_follow_on_begins_a_new_run(pair: Pair, second: Slice) -> None:
    third = second._replace(gseq=second.gseq + 1, offset=second.offset + len(second.payload))
    train = b"".join(seal(pair, FIRST, second, third))
    opened, failed = pair.opener.open_train(train, SIZE)
    assert failed == 0
    assert counts(opened) == [1, 2]
    assert opened[0].body == FIRST.body()
    assert opened[1].body == second.body() + third.payload


def test_another_csum_start_begins_a_new_run(pair: Pair) -> None:
    """The template is the same bytes and equally long whether its TCP header begins at 20 or at 24."""
    template = bytearray(TEMPLATE)
    template[24 + 12] = 28 // 4 << 4
    first = FIRST._replace(template=bytes(template))
    second = SECOND._replace(template=bytes(template), csum_start=24)
    opened, _ = pair.opener.open_train(b"".join(seal(pair, first, second)), SIZE)
    assert [(one.count, one.slice_bytes) for one in opened] == [(1, 8), (1, 8)]


def test_a_longer_payload_begins_a_new_run(pair: Pair) -> None:
    """Not reached by one train of equal datagrams but by a template that shrinks as the payload grows."""
    second = SECOND._replace(template=tcp_template(8), payload=b"abcdefghijkl")
    opened, _ = pair.opener.open_train(b"".join(seal(pair, FIRST, second)), SIZE)
    assert [one.body for one in opened] == [FIRST.body(), second.body()]
    assert [one.slice_bytes for one in opened] == [8, 12]


def test_a_gap_in_lseq_begins_a_new_run(pair: Pair) -> None:
    train = seal(pair, FIRST)[0] + seal(pair, SECOND, lseq=7)[0]
    assert counts(pair.opener.open_train(train, SIZE)[0]) == [1, 1]


def test_another_link_begins_a_new_run(pair: Pair) -> None:
    train = seal(pair, FIRST)[0] + pair.sealer.seal_bodies(4, 6, 9, [SECOND.body()])[0]
    assert counts(pair.opener.open_train(train, SIZE)[0]) == [1, 1]


def test_lseq_never_carries_into_the_link(pair: Pair) -> None:
    """Datagrams of link 3 with the last lseq and of link 4 with lseq 0 are no neighbours."""
    train = seal(pair, FIRST, lseq=2**48 - 1)[0] + pair.sealer.seal_bodies(4, 0, 9, [SECOND.body()])[0]
    assert counts(pair.opener.open_train(train, SIZE)[0]) == [1, 1]


def test_a_run_ends_where_the_offset_field_does(pair: Pair) -> None:
    train = b"".join(seal(pair, FIRST._replace(offset=65_528), SECOND._replace(offset=0)))
    assert counts(pair.opener.open_train(train, SIZE)[0]) == [1, 1]


@pytest.mark.parametrize("option_bytes", [0, 12, 40])
def test_the_tcp_header_says_where_the_payload_begins(pair: Pair, option_bytes: int) -> None:
    template = tcp_template(option_bytes)
    slices = [one._replace(template=template) for one in (FIRST, SECOND)]
    opened, _ = pair.opener.open_train(b"".join(seal(pair, *slices)), SIZE - 12 + option_bytes)
    assert [(one.count, one.slice_bytes) for one in opened] == [(2, 8)]


def test_udp_slices_have_a_header_of_eight_bytes(pair: Pair) -> None:
    slices = [one._replace(kind=UDP, template=IP_HEADER + b"udp head") for one in (FIRST, SECOND)]
    opened, _ = pair.opener.open_train(b"".join(seal(pair, *slices)), OVERHEAD_BYTES + 8 + 28 + 8)
    assert values(opened) == values([Opened(3, 5, 2, 9, slices[0]._replace(payload=b"12345678abcdefgh").body(), 8)])


@pytest.mark.parametrize(
    "broken",
    [
        Slice(template=b"", payload=b"").body(),
        Slice(payload=b"").body(),
        Slice(csum_start=255).body(),
        Slice(template=TEMPLATE[:33], payload=b"").body(),
        Slice(template=TEMPLATE[:32] + b"\xff" + TEMPLATE[33:], payload=b"").body(),
        Slice(kind=UDP, template=IP_HEADER + b"udp head", payload=b"").body(),
        bytes([TCP4]),
        Slice(kind=first_byte(Kind.PACKETS, 1, False)).body(),
        Slice(kind=5 << 5).body(),
    ],
)
def test_what_is_no_whole_slice_is_passed_on_alone(pair: Pair, broken: bytes) -> None:
    train = b"".join(pair.sealer.seal_bodies(3, 5, 9, [broken, broken]))
    opened = [Opened(3, 5, 1, 9, broken, 0), Opened(3, 6, 1, 9, broken, 0)]
    assert values(pair.opener.open_train(train, len(broken) + OVERHEAD_BYTES)) == values((opened, 0))


def test_a_tcp_header_too_short_to_be_one_counts_as_the_shortest(pair: Pair) -> None:
    template = IP_HEADER + bytes(20)
    opened, _ = pair.opener.open_train(seal(pair, FIRST._replace(template=template))[0], 0)
    assert opened[0].slice_bytes == 8


def test_every_bit_is_authenticated(pair: Pair) -> None:
    (datagram,) = pair.sealer.seal_bodies(3, 5, 9, [b"a body"])
    for bit in range(len(datagram) * 8):
        forged = bytearray(datagram)
        forged[bit // 8] ^= 1 << bit % 8
        assert pair.opener.open_train(bytes(forged), 0) == ([], 1)


def test_a_forged_slice_harms_neither_neighbour(pair: Pair) -> None:
    first, second, third = seal(pair, FIRST, SECOND, THIRD)
    forged = second[:-1] + bytes([second[-1] ^ 1])
    opened, failed = pair.opener.open_train(first + forged + third, SIZE)
    assert failed == 1
    assert [one.body for one in opened] == [FIRST.body(), THIRD.body()]


def test_a_forged_copy_does_not_interrupt_a_run(pair: Pair) -> None:
    first, second, third = seal(pair, FIRST, SECOND, THIRD)
    forged = second[:HEADER_BYTES] + bytes(len(second) - HEADER_BYTES)
    opened, failed = pair.opener.open_train(first + forged + second + forged + third, SIZE)
    assert failed == 2
    assert values(opened) == values([Opened(3, 5, 3, 9, FIRST._replace(payload=b"12345678abcdefghABCDEFGH").body(), 8)])


def test_a_body_that_only_looks_like_the_next_slice_is_kept_whole(pair: Pair) -> None:
    """Header and size promise the run's next slice; the authentic body is something else, shorter than a prefix."""
    train = b"".join(pair.sealer.seal_bodies(3, 5, 9, [FIRST.body(), b"short"]))
    opened, failed = pair.opener.open_train(train, SIZE)
    assert failed == 0
    assert [one.body for one in opened] == [FIRST.body(), b"short"]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 31])
def test_datagrams_too_short_for_header_and_tag_fail(pair: Pair, size: int) -> None:
    (datagram,) = pair.sealer.seal_bodies(3, 5, 9, [b"a body of some length"])
    whole = len(datagram) // size * size
    assert pair.opener.open_train(datagram[:whole], size) == ([], whole // size)


def test_a_short_tail_fails_alone(pair: Pair) -> None:
    train = b"".join(seal(pair, FIRST, SECOND))
    opened, failed = pair.opener.open_train(train[: SIZE + 31], SIZE)
    assert (counts(opened), failed) == ([1], 1)


@pytest.mark.parametrize("datagram_bytes", [-1, 0, 10**6])
def test_without_a_train_the_data_is_one_datagram(pair: Pair, datagram_bytes: int) -> None:
    (datagram,) = pair.sealer.seal_bodies(3, 5, 9, [b"a body"])
    assert counts(pair.opener.open_train(datagram, datagram_bytes)[0]) == [1]


@pytest.mark.parametrize("datagram_bytes", [0, 1, 1500])
def test_no_data_is_no_datagram(pair: Pair, datagram_bytes: int) -> None:
    assert pair.opener.open_train(b"", datagram_bytes) == ([], 0)


def test_other_sessions_and_types_fail(kernels: ModuleType, pair: Pair) -> None:
    stranger = kernels.Sealer(Cipher.AES_256_GCM, KEY, INDEX + 1, False).seal_bodies(3, 5, 9, [b"a body"])[0]
    handshake = bytes([1]) + stranger[1:]
    assert pair.opener.open_train(stranger + handshake, len(stranger)) == ([], 2)


@pytest.mark.parametrize("cipher", Cipher)
def test_clear_datagrams_need_consent(kernels: ModuleType, cipher: Cipher) -> None:
    clear = kernels.Sealer(cipher, KEY, INDEX, True).seal_bodies(3, 5, 9, [b"a body"])[0]
    sealed = kernels.Sealer(cipher, KEY, INDEX, False).seal_bodies(3, 6, 9, [b"a body"])[0]
    assert counts(kernels.Opener(cipher, KEY, INDEX, True).open_train(clear + sealed, len(clear))[0]) == [1, 1]
    strict, failed = kernels.Opener(cipher, KEY, INDEX, False).open_train(clear + sealed, len(clear))
    assert ([one.lseq for one in strict], failed) == ([6], 1)


def test_a_key_of_another_length_is_our_defect(kernels: ModuleType) -> None:
    for kind in (kernels.Sealer, kernels.Opener):
        with pytest.raises(AssertionError):
            kind(Cipher.AES_256_GCM, bytes(16), INDEX, False)
