"""Quantities: what people write, what people read, and that the two agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn import units


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("0", 0),
        ("10", 10_000_000_000),
        ("10s", 10_000_000_000),
        ("250ms", 250_000_000),
        ("250 ms", 250_000_000),
        ("0.1s", 100_000_000),
        ("15us", 15_000),
        ("15µs", 15_000),
        ("7ns", 7),
        ("1.5min", 90_000_000_000),
        ("2h", 7_200_000_000_000),
        ("1d", 86_400_000_000_000),
    ],
)
def test_durations_are_exact(text: str, expected_ns: int) -> None:
    assert units.parse_duration_ns(text) == expected_ns


def test_a_bare_duration_counts_in_the_unit_of_the_caller() -> None:
    assert units.parse_duration_ns("80", bare="ms") == 80_000_000
    assert units.parse_duration_ns("80s", bare="ms") == 80_000_000_000


@pytest.mark.parametrize(
    ("text", "expected_bps"),
    [
        ("61440", 491_520),  # MLVPN: bytes per second
        ("20Mbit", 20_000_000),
        ("20 Mbit/s", 20_000_000),
        ("20mbit", 20_000_000),
        ("20Mbps", 20_000_000),
        ("512kbit", 512_000),
        ("1.5Gbit", 1_500_000_000),
        ("300bit", 300),
        ("2.5MB/s", 20_000_000),
        ("100kB/s", 800_000),
        ("100KB/s", 800_000),
        ("1KiB/s", 8_192),
        ("1MiB/s", 8_388_608),
        ("1GB/s", 8_000_000_000),
    ],
)
def test_rates_are_bits_per_second(text: str, expected_bps: int) -> None:
    assert units.parse_rate_bps(text) == expected_bps


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [("1500", 1500), ("1500B", 1500), ("64KiB", 65_536), ("1.5MB", 1_500_000), ("2 GiB", 2_147_483_648)],
)
def test_sizes_are_bytes(text: str, expected_bytes: int) -> None:
    assert units.parse_size_bytes(text) == expected_bytes


@pytest.mark.parametrize(("text", "expected"), [("100", 1.0), ("10%", 0.1), ("2.5 %", 0.025), ("0", 0.0)])
def test_percentages_are_ratios(text: str, expected: float) -> None:
    assert units.parse_ratio(text) == expected


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (units.parse_duration_ns, "soon", "'soon' is not a duration; write for example 250ms or 10s"),
        (units.parse_duration_ns, "10 parsecs", "'parsecs' is not a unit of time; use one of ns, us, ms, s, min, h, d"),
        (units.parse_duration_ns, "-1s", "'-1s' is not a duration; write for example 250ms or 10s"),
        (units.parse_duration_ns, "", "'' is not a duration; write for example 250ms or 10s"),
        (units.parse_rate_bps, "2Mb/s", "'Mb/s' is not a unit of rate; write bits as in 20Mbit or bytes as in 2.5MB/s"),
        (units.parse_rate_bps, "fast", "'fast' is not a rate; write for example 20Mbit or 2.5MB/s"),
        (units.parse_size_bytes, "1 pound", "'pound' is not a unit of size; use one of B, kB, MB, GB, KiB, MiB, GiB"),
        (units.parse_ratio, "10ms", "'ms' is not a percent sign; write a percentage such as 10%"),
        (units.parse_duration_ns, "9" * 19, "'9999999999999999999' is not a duration; write for example 250ms or 10s"),
        (units.parse_duration_ns, "١s", "'١s' is not a duration; write for example 250ms or 10s"),
    ],
)
def test_a_wrong_quantity_says_what_to_write(parse: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("duration_ns", "expected"),
    [
        (0, "0 ns"),
        (850, "850 ns"),
        (1_000, "1 µs"),
        (12_340_000, "12.3 ms"),
        (999_400_000, "999 ms"),
        (999_900_000, "1 s"),
        (4_500_000_000, "4.5 s"),
        (59_900_000_000, "59.9 s"),
        (59_999_000_000, "1 min"),
        (125_000_000_000, "2 min 5 s"),
        (3_599_700_000_000, "1 h"),
        (11_220_000_000_000, "3 h 7 min"),
        (1_051_200_000_000_000, "12 d 4 h"),
        (-12_340_000, "-12.3 ms"),
    ],
)
def test_durations_are_shown_in_three_digits(duration_ns: int, expected: str) -> None:
    assert units.format_duration_ns(duration_ns) == expected


@pytest.mark.parametrize(
    ("rate_bps", "expected"),
    [(0, "0 bit/s"), (999, "999 bit/s"), (999_600, "1 Mbit/s"), (20e6, "20 Mbit/s"), (1_829_000_000, "1.83 Gbit/s")],
)
def test_rates_are_shown_in_three_digits(rate_bps: float, expected: str) -> None:
    assert units.format_rate_bps(rate_bps) == expected


def test_sizes_and_shares_are_shown_in_three_digits() -> None:
    assert units.format_size_bytes(1_500_000) == "1.5 MB"
    assert units.format_size_bytes(100) == "100 B"
    assert units.format_ratio(0.025) == "2.5 %"
    assert units.format_ratio(1.0) == "100 %"
    assert units.format_ratio(0.0) == "0 %"
    assert units.format_ratio(0.000_01) == "<0.01 %"


@given(st.integers(min_value=0, max_value=59 * units.NS_PER_S))
def test_a_shown_duration_reads_back_within_its_digits(duration_ns: int) -> None:
    assert units.parse_duration_ns(units.format_duration_ns(duration_ns)) == pytest.approx(duration_ns, rel=0.006)


@given(st.integers(min_value=0, max_value=999 * 10**9))
def test_a_shown_rate_reads_back_within_its_digits(rate_bps: int) -> None:
    assert units.parse_rate_bps(units.format_rate_bps(rate_bps)) == pytest.approx(rate_bps, rel=0.006)


@given(st.integers(min_value=0, max_value=999 * 10**9))
def test_a_shown_size_reads_back_within_its_digits(size_bytes: int) -> None:
    assert units.parse_size_bytes(units.format_size_bytes(size_bytes)) == pytest.approx(size_bytes, rel=0.006)


@given(st.text())
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    for parse in (units.parse_duration_ns, units.parse_rate_bps, units.parse_size_bytes, units.parse_ratio):
        try:
            assert parse(text) >= 0
        except ValueError as problem:
            assert "\n" not in str(problem)
