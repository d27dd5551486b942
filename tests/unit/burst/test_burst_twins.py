"""The C kernels against the Python ones on random input: same bytes, same runs, same failures."""

from __future__ import annotations

import struct
from typing import NamedTuple

from burst_session import INDEX, KEY, load
from hypothesis import given, settings
from hypothesis import strategies as st

from mlvpn.crypto.aead import Cipher
from mlvpn.wire.frame import SLICE_HEAD
from records import values

python = load("python")
c = load("c")

ciphers = st.sampled_from(Cipher)
links = st.integers(0, 255)
lseqs = st.integers(0, 2**48 - 1000)
words32 = st.integers(0, 2**32 - 1)
small = st.integers(0, 255)


@given(ciphers, st.booleans(), links, lseqs, words32, st.lists(st.binary(max_size=100), max_size=8))
def test_bodies_are_sealed_alike(
    cipher: Cipher, cleartext: bool, link: int, lseq: int, ts_us: int, bodies: list[bytes]
) -> None:
    sealed = [
        kernels.Sealer(cipher, KEY, INDEX, cleartext).seal_bodies(link, lseq, ts_us, bodies) for kernels in (python, c)
    ]
    assert sealed[0] == sealed[1]


class Cut(NamedTuple):
    """The arguments of ``seal_slices`` that shape its result."""

    first_byte: int
    gseq: int
    frame: bytes
    csum_start: int
    header_bytes: int
    slice_bytes: int
    offset: int
    slices: int


cuts = st.builds(
    Cut,
    small,
    words32,
    st.binary(max_size=300),
    small,
    st.integers(-2, 80),
    st.integers(-1, 90),
    st.integers(-1, 90),
    st.integers(-1, 12),
)


@given(ciphers, st.booleans(), lseqs, cuts)
def test_slices_are_sealed_alike(cipher: Cipher, cleartext: bool, lseq: int, cut: Cut) -> None:
    results: list[bytes | type[Exception]] = []
    for kernels in (python, c):
        try:
            results.append(kernels.Sealer(cipher, KEY, INDEX, cleartext).seal_slices(3, lseq, 9, *cut))
        except ValueError as error:
            results.append(type(error))
    assert results[0] == results[1]


class Step(NamedTuple):
    """How one datagram of a train differs from the continuation of the one before."""

    template: int = 0
    gseq: int = 1
    offset: int = 0
    lseq: int = 1
    flip: int | None = None
    """A bit to flip in the sealed datagram."""
    foreign: bytes | None = None
    """A body that is no slice."""


plain = Step()
"""The next slice of the run."""
steps = st.one_of(
    st.just(plain),
    st.integers(0, 10_000).map(lambda bit: plain._replace(flip=bit)),
    st.binary(max_size=120).map(lambda body: plain._replace(foreign=body)),
    st.sampled_from(
        [
            plain._replace(template=1),
            plain._replace(gseq=0),
            plain._replace(gseq=2),
            plain._replace(offset=1),
            plain._replace(offset=-1),
            plain._replace(lseq=0),
            plain._replace(lseq=2),
        ]
    ),
)


class Plan(NamedTuple):
    """A train to be sealed by the Python twin."""

    kind: int
    csum_start: int
    template_bytes: int
    slice_bytes: int
    gseq: int
    steps: list[Step]
    shorter: int
    """Payload bytes that the last slice lacks."""
    cut: int
    """Bytes that the last datagram lost on its way."""


plans = st.builds(
    Plan,
    st.sampled_from([0x40, 0x41, 0x60, 0x80, 0x20, 0xA0]),
    st.sampled_from([0, 20, 40]),
    st.integers(0, 120),
    st.integers(1, 90),
    st.sampled_from([0, 7, 2**32 - 2]),
    st.lists(steps, min_size=1, max_size=12),
    st.sampled_from([0, 1, 30]),
    st.sampled_from([0, 0, 0, 1, 40]),
)


def sealed(plan: Plan, cipher: Cipher, cleartext: bool) -> tuple[bytes, int]:
    """Return the train and the size of its datagrams; foreign bodies are filled up or cut off to that size."""
    sealer = python.Sealer(cipher, KEY, INDEX, cleartext)
    lseq, gseq, offset = 1000, plan.gseq, 0
    datagrams = []
    for number, step in enumerate(plan.steps):
        lseq, gseq, offset = lseq + step.lseq, (gseq + step.gseq) % 2**32, max(offset + step.offset, 0)
        template = (bytes([step.template]) * 32).ljust(plan.template_bytes, b"\x50")[: plan.template_bytes]
        payload = bytes([number]) * plan.slice_bytes
        body = SLICE_HEAD.pack(plan.kind, gseq, offset, plan.csum_start) + template + payload
        if step.foreign is not None:
            body = step.foreign.ljust(len(body), b"\0")[: len(body)]
        if number == len(plan.steps) - 1:
            body = body[: len(body) - min(plan.shorter, plan.slice_bytes)]
        datagram = bytearray(sealer.seal_bodies(3, lseq, 9, [body])[0])
        if step.flip is not None:
            datagram[step.flip // 8 % len(datagram)] ^= 1 << step.flip % 8
        datagrams.append(bytes(datagram))
        offset += plan.slice_bytes
    data = b"".join(datagrams)
    return data[: len(data) - plan.cut], len(datagrams[0])


openers = {
    (kernels, cipher, cleartext): kernels.Opener(cipher, KEY, INDEX, cleartext)
    for kernels in (python, c)
    for cipher in Cipher
    for cleartext in (False, True)
}
"""Used over and over, as in a session: what one train leaves in a buffer must not show in the next."""


def assert_opened_alike(cipher: Cipher, consent: bool, data: bytes, datagram_bytes: int) -> None:
    by_python = openers[python, cipher, consent].open_train(data, datagram_bytes)
    assert values(openers[c, cipher, consent].open_train(data, datagram_bytes)) == values(by_python)


@settings(max_examples=500)
@given(ciphers, st.booleans(), st.booleans(), plans)
def test_trains_are_opened_alike(cipher: Cipher, cleartext: bool, consent: bool, plan: Plan) -> None:
    data, datagram_bytes = sealed(plan, cipher, cleartext)
    assert_opened_alike(cipher, consent, data, datagram_bytes)


@given(ciphers, plans, st.integers(-1, 400))
def test_trains_cut_at_the_wrong_places_are_opened_alike(cipher: Cipher, plan: Plan, datagram_bytes: int) -> None:
    data, _ = sealed(plan, cipher, cleartext=False)
    assert_opened_alike(cipher, False, data, datagram_bytes)


@given(ciphers, st.booleans(), st.binary(max_size=400), st.integers(-1, 100))
def test_noise_fails_alike(cipher: Cipher, consent: bool, noise: bytes, datagram_bytes: int) -> None:
    assert_opened_alike(cipher, consent, noise, datagram_bytes)


@given(ciphers, st.booleans(), st.lists(st.binary(min_size=16, max_size=60), min_size=1), st.sampled_from([4, 5]))
def test_noise_behind_a_right_header_fails_alike(cipher: Cipher, consent: bool, noise: list[bytes], kind: int) -> None:
    header = struct.pack(">QII", kind << 56 | 3 << 48 | 5, INDEX, 9)
    for body_and_tag in noise:
        assert_opened_alike(cipher, consent, header + body_and_tag, 0)


def test_the_plans_make_runs() -> None:
    """What the comparison is worth: plain plans give joined slices, not only single datagrams."""
    plan = Plan(0x40, 20, 40, 50, 2**32 - 2, [plain] * 4, shorter=10, cut=0)
    data, datagram_bytes = sealed(plan, Cipher.AES_256_GCM, cleartext=False)
    (run,), failed = openers[c, Cipher.AES_256_GCM, False].open_train(data, datagram_bytes)
    assert (run.count, run.slice_bytes, failed) == (4, 50, 0)
