"""``[filters]``: pcap-filter expressions that choose a link for a packet, by libpcap.

Owns compiling and running the expressions. Does not own which link is up (the core asks for all that match, in the
order of the file) nor where the expressions stand in the file (``config``).

libpcap is loaded when the first expression is compiled, or by ``load``; a tunnel without filters never needs it. Both
must happen before privileges are dropped: the library, and the names of ports, hosts and protocols in an expression,
are not to be found in the chroot afterwards. What is compiled is plain bytes that can be handed to another process.

Sources: pcap_compile(3PCAP), pcap-filter(7); link types from pcap/dlt.h as Linux numbers them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from mlvpn.config import Filter
from mlvpn.config.problem import Problems
from mlvpn.errors import SystemFailure

LINK_TYPES = {"tun": 12, "tap": 1}
"""DLT_RAW: begins with the IP header; DLT_EN10MB: begins with the Ethernet header."""
SNAPSHOT_BYTES = 65535
_NETMASK_UNKNOWN = 0xFFFFFFFF
_OPTIMISE = 1
_INSTRUCTION_BYTES = 8
_LIBRARIES = ("libpcap.so.0.8", "libpcap.so.1")
"""Debian's name and everybody else's."""


class Program(NamedTuple):
    """One compiled line of [filters]."""

    link: str
    instructions: bytes
    """BPF instructions of 8 bytes, host byte order."""


class _BpfProgram(ctypes.Structure):
    """``struct bpf_program``."""

    _fields_ = (("count", ctypes.c_uint), ("instructions", ctypes.c_void_p))


@cache
def load() -> ctypes.CDLL:
    """Load libpcap; raise SystemFailure when there is none."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        _declare(library)
        return library
    raise SystemFailure("[filters] needs libpcap, which is not installed: install it (Debian: apt install libpcap0.8)")


def _declare(library: ctypes.CDLL) -> None:
    program = ctypes.POINTER(_BpfProgram)
    library.pcap_open_dead.restype = ctypes.c_void_p
    library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
    library.pcap_compile.argtypes = (ctypes.c_void_p, program, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32)
    library.pcap_geterr.restype = ctypes.c_char_p
    library.pcap_geterr.argtypes = (ctypes.c_void_p,)
    library.pcap_freecode.argtypes = (program,)
    library.pcap_close.argtypes = (ctypes.c_void_p,)
    library.bpf_filter.restype = ctypes.c_uint
    library.bpf_filter.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint)


def compile_filters(filters: Sequence[Filter], tuntap: str) -> list[Program]:
    """Compile every line for a ``tun`` or ``tap`` device; raise ConfigError with all that are wrong."""
    if not filters:
        return []
    problems = Problems()
    programs = []
    for line in filters:
        try:
            programs.append(Program(line.link, _compile(line.expression, LINK_TYPES[tuntap])))
        except ValueError as error:
            text = f"{error}; the syntax is that of `man pcap-filter`"
            problems.error(line.location, text, section=line.section, key=line.link)
    problems.raise_errors()
    return programs


def _compile(expression: str, link_type: int) -> bytes:
    """Return the instructions of one expression; raise ValueError with libpcap's words."""
    library = load()
    handle = library.pcap_open_dead(link_type, SNAPSHOT_BYTES)
    if not handle:
        raise SystemFailure("libpcap has no memory for a filter")
    try:
        program = _BpfProgram()
        if library.pcap_compile(handle, ctypes.byref(program), expression.encode(), _OPTIMISE, _NETMASK_UNKNOWN) != 0:
            raise ValueError(library.pcap_geterr(handle).decode(errors="replace"))
        try:
            return ctypes.string_at(program.instructions, program.count * _INSTRUCTION_BYTES)
        finally:
            library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)


class PacketFilters:
    """The compiled filters of a tunnel, ready to run."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._run = load().bpf_filter
        self._programs = [(link, ctypes.create_string_buffer(code, len(code))) for link, code in programs]

    def matching(self, packet: bytes) -> Iterator[str]:
        """Yield the links of the expressions that match, in the order of the file. HOT PATH: below 2 us each."""
        size = len(packet)
        for link, code in self._programs:
            if self._run(code, packet, size, size):
                yield link
