"""Quantities as people write them and as the program holds them.

Owns the text forms of durations, rates, sizes and shares: ``parse_*`` for what a person wrote, ``format_*`` for what a
person reads. Inside, everything is an integer of the smallest unit (``_ns``, ``_bps`` = bits per second, ``_bytes``)
and a share is a ``_ratio`` from 0 to 1. Does not own which quantities exist or their limits: that is config/schema.py.

Contract: ``parse_*`` raises ValueError whose text says what is wrong and what to write instead; a number without a unit
means what the caller's ``bare`` unit says. Decimals are exact: ``0.1s`` is 100,000,000 ns. Formatting keeps three
significant digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000

_DURATIONS: Mapping[str, int] = {
    "ns": 1,
    "us": NS_PER_US,
    "µs": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "min": 60 * NS_PER_S,
    "h": 3_600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
}

_SIZES: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

_BIT_RATES: Mapping[str, int] = {
    prefix + name: factor
    for prefix, factor in {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}.items()
    for name in ("bit", "bit/s", "bps")
}
"""In lower case: nobody means anything else by ``mbit`` than by ``Mbit``."""

_BYTE_RATES: Mapping[str, int] = {unit + "/s": 8 * factor for unit, factor in _SIZES.items()}
"""As written: ``MB/s`` and ``Mb/s`` differ by a factor of eight, so a lower-case ``b`` is refused, not guessed."""

# Bounded digits: the text may come from a stranger's file, and a Fraction grows with every digit.
_QUANTITY: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([^\s0-9.]*)")


def parse_duration_ns(text: str, bare: str = "s") -> int:
    """Parse ``250ms``, ``10s``, ``1.5 min``; a bare number counts in the unit ``bare``."""
    number, unit = _split(text, "duration", "250ms or 10s")
    factor = _DURATIONS.get(unit or bare)
    if factor is None:
        raise ValueError(f"{unit!r} is not a unit of time; use one of ns, us, ms, s, min, h, d")
    return _whole(number * factor)


def parse_rate_bps(text: str, bare: str = "B/s") -> int:
    """Parse ``20Mbit``, ``512 kbit/s``, ``2.5MB/s``; a bare number counts in ``bare``: MLVPN means bytes per second."""
    number, unit = _split(text, "rate", "20Mbit or 2.5MB/s")
    unit = unit or bare
    factor = _BYTE_RATES.get(unit) or _BIT_RATES.get(unit.lower())
    if factor is None:
        raise ValueError(f"{unit!r} is not a unit of rate; write bits as in 20Mbit or bytes as in 2.5MB/s")
    return _whole(number * factor)


def parse_size_bytes(text: str, bare: str = "B") -> int:
    """Parse ``1500``, ``64KiB``, ``1.5MB``; a bare number counts in ``bare``."""
    number, unit = _split(text, "size", "1500 or 64KiB")
    factor = _SIZES.get(unit or bare)
    if factor is None:
        raise ValueError(f"{unit!r} is not a unit of size; use one of B, kB, MB, GB, KiB, MiB, GiB")
    return _whole(number * factor)


def parse_ratio(text: str) -> float:
    """Parse a percentage, ``2.5%`` or ``2.5``, to a ratio (0.025)."""
    number, unit = _split(text, "percentage", "10%")
    if unit not in ("", "%"):
        raise ValueError(f"{unit!r} is not a percent sign; write a percentage such as 10%")
    return float(number / 100)


def format_duration_ns(duration_ns: int) -> str:
    """Show a duration: ``850 ns``, ``12.3 ms``, ``4.5 s``, ``2 min 5 s``, ``3 h 7 min``, ``12 d 4 h``."""
    if duration_ns < 0:
        return "-" + format_duration_ns(-duration_ns)
    if duration_ns >= 59_950_000_000:  # would be shown as 60 s
        return _format_long(round(duration_ns / NS_PER_S))
    return _format_scaled(duration_ns, 1000, ("ns", "µs", "ms", "s"))


def format_rate_bps(rate_bps: float) -> str:
    """Show a rate: ``0 bit/s``, ``512 kbit/s``, ``1.83 Gbit/s``."""
    return _format_scaled(rate_bps, 1000, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"))


def format_size_bytes(size_bytes: float) -> str:
    """Show an amount of data in powers of ten, as rates are: ``1.5 MB``."""
    return _format_scaled(size_bytes, 1000, ("B", "kB", "MB", "GB", "TB", "PB", "EB"))


def format_ratio(ratio: float) -> str:
    """Show a share as a percentage: ``2.5 %``; what is not quite nothing never reads ``0 %``."""
    percent = 100 * ratio
    if 0 < percent < 0.01:
        return "<0.01 %"
    return f"{_three_digits(percent)} %"


def _split(text: str, what: str, example: str) -> tuple[Fraction, str]:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{shown(text)} is not a {what}; write for example {example}")
    return Fraction(match[1]), match[2]


def _whole(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


def shown(text: str) -> str:
    """Quote what a person wrote for a message, cut so that a message stays one line."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _format_scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    position = 0
    while position < len(units) - 1 and abs(value) >= step - 0.5:
        value /= step
        position += 1
    return f"{_three_digits(value)} {units[position]}"


def _three_digits(value: float) -> str:
    """Three significant digits, but whole numbers whole and no trailing zeros."""
    magnitude = abs(value)
    decimals = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _format_long(seconds: int) -> str:
    """The two largest units of a duration of a minute and more."""
    for name, length_s, part_name, part_s in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= length_s:
            whole, rest = divmod(seconds, length_s)
            part = rest // part_s
            return f"{whole} {name} {part} {part_name}" if part else f"{whole} {name}"
    return f"{seconds} s"
