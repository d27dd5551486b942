"""The burst kernels in C, behind the same classes as the Python ones (contract: ``api``).

Owns the buffers that C writes to: one per object, grown to the largest train seen and no further than a socket call or
a TUN frame asks for. Everything from a peer is judged in C (``kernels.c``); here is no work per datagram but for the
``Opened`` that comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final

from mlvpn.burst._kernels import ffi, lib
from mlvpn.burst.api import VNET_HEADER_BYTES, Opened, check_slices
from mlvpn.crypto.aead import KEY_BYTES, Cipher
from mlvpn.errors import SystemFailure
from mlvpn.wire.frame import GSEQ_MODULUS, SLICE_HEAD
from mlvpn.wire.header import OVERHEAD_BYTES

_TRAIN_BYTES: Final = 65_535
"""What one send or receive call can carry at most (UDP length field)."""
_OPENED: Final = Struct("=Q6I")
"""``struct burst_opened``"""

if not lib.burst_load():
    raise ImportError("libcrypto has no AES-256-GCM or no ChaCha20-Poly1305; MLVPN_KERNELS=python does without it")

_seal_slices: Final[Callable[..., int]] = lib.burst_seal_slices
_seal_bodies: Final[Callable[..., int]] = lib.burst_seal_bodies
_open_train: Final[Callable[..., int]] = lib.burst_open_train
LIBRARIES: str = ffi.string(lib.burst_libraries()).decode()
"""Names and versions of what seals and opens."""


class Sealer:
    """See ``api.Sealer``."""

    def __init__(self, cipher: Cipher, key: bytes, index: int, cleartext: bool) -> None:
        self._session = _session(lib.burst_create_sealer, cipher, key, index, cleartext)
        self._grow(_TRAIN_BYTES)

    def _grow(self, size: int) -> None:
        self._room = size
        self._out = ffi.new("uint8_t[]", size)
        self._sealed = ffi.buffer(self._out)

    def seal_slices(
        self,
        link: int,
        lseq: int,
        ts_us: int,
        first_byte: int,
        gseq: int,
        frame: bytes,
        csum_start: int,
        header_bytes: int,
        slice_bytes: int,
        offset: int,
        count: int,
    ) -> bytes:
        """See ``api.Sealer.seal_slices``."""
        payload_bytes = len(frame) - VNET_HEADER_BYTES - header_bytes
        check_slices(payload_bytes, header_bytes, slice_bytes, offset, count)
        sliced_bytes = min(count * slice_bytes, payload_bytes - offset)
        train = bytes(count * (OVERHEAD_BYTES + SLICE_HEAD.size + header_bytes) + sliced_bytes)
        slices = [(header_bytes, slice_bytes, offset, count, gseq % GSEQ_MODULUS, first_byte, csum_start)]
        # Nobody has seen the bytes of `train` yet, so C may write them.
        written = _seal_slices(self._session, link, lseq, ts_us, slices, frame, len(frame), train, len(train))
        _succeeded(written)
        return train

    def seal_bodies(self, link: int, lseq: int, ts_us: int, bodies: Sequence[bytes]) -> list[bytes]:
        """See ``api.Sealer.seal_bodies``."""
        joined = b"".join(bodies)
        sizes = [len(body) for body in bodies]
        room = len(joined) + len(sizes) * OVERHEAD_BYTES
        if room > self._room:
            self._grow(room)
        written = _seal_bodies(self._session, link, lseq, ts_us, joined, sizes, len(sizes), self._out, self._room)
        _succeeded(written)
        datagrams = []
        at = 0
        for size in sizes:
            end = at + size + OVERHEAD_BYTES
            datagrams.append(self._sealed[at:end])
            at = end
        return datagrams


class Opener:
    """See ``api.Opener``."""

    def __init__(self, cipher: Cipher, key: bytes, index: int, cleartext: bool) -> None:
        self._session = _session(lib.burst_create_opener, cipher, key, index, cleartext)
        self._failed = ffi.new("size_t *")
        self._grow(_TRAIN_BYTES)

    def _grow(self, size: int) -> None:
        self._room = size
        self._out = ffi.new("uint8_t[]", size)
        self._bodies = ffi.buffer(self._out)
        self._opened_room = size // OVERHEAD_BYTES + 1
        self._opened = ffi.new("struct burst_opened[]", self._opened_room)
        self._records = ffi.buffer(self._opened)

    def open_train(self, data: bytes, datagram_bytes: int) -> tuple[list[Opened], int]:
        """See ``api.Opener.open_train``."""
        if len(data) > self._room:
            self._grow(len(data))
        count = _open_train(
            self._session,
            data,
            len(data),
            max(datagram_bytes, 0),
            self._out,
            self._room,
            self._opened,
            self._opened_room,
            self._failed,
        )
        opened = []
        for record in range(0, _succeeded(count) * _OPENED.size, _OPENED.size):
            lseq, link, joined, ts_us, at, size, slice_bytes = _OPENED.unpack_from(self._records, record)
            opened.append(Opened(link, lseq, joined, ts_us, self._bodies[at : at + size], slice_bytes))
        return opened, self._failed[0]


def _session(create: Callable[..., Any], cipher: Cipher, key: bytes, index: int, cleartext: bool) -> Any:
    """Return a C session that is destroyed, its key wiped, when Python drops it."""
    assert len(key) == KEY_BYTES
    session = create(cipher, key, index, cleartext)
    if not session:
        raise MemoryError("no memory for a session's keys")
    return ffi.gc(session, lib.burst_destroy)


def _succeeded(result: int) -> int:
    """Return what a kernel returned; its buffers are large enough, so less than 0 means that its library failed."""
    if result < 0:
        raise SystemFailure(f"sealing or opening failed inside {LIBRARIES}; MLVPN_KERNELS=python does without it")
    return result
