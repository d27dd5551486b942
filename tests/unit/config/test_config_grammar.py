"""Text -> sections and settings, with their places; every syntax fault has its own message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.config.grammar import Section, read_sections
from mlvpn.config.problem import Problems
from mlvpn.errors import ConfigError


def read(text: str) -> list[Section]:
    """Read a text that has no fault and no warning."""
    problems = Problems()
    sections = read_sections(text, "t", problems)
    problems.raise_errors()
    assert problems.warnings == ()
    return sections


def errors(text: str) -> list[str]:
    problems = Problems()
    read_sections(text, "t", problems)
    with pytest.raises(ConfigError) as caught:
        problems.raise_errors()
    return str(caught.value).splitlines()


def value(line: str) -> str | None:
    [section] = read(f"[s]\n{line}\n")
    [setting] = section.settings
    return setting.value


def test_sections_and_settings_come_in_file_order_with_their_places() -> None:
    first, second = read('# a comment\n\n[general]  # the tunnel\n  mode = "client"\n\n[dsl]\nmode=x\nmode =  y\n')
    assert (first.name, first.location) == ("general", ("t", 3, 2))
    assert [(s.key, s.value) for s in second.settings] == [("mode", "x"), ("mode", "y")]
    [setting] = first.settings
    assert setting.key_location == ("t", 4, 3)
    assert setting.value_location == ("t", 4, 10)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("k = v", "v"),
        ("k=v", "v"),
        ("\tk\t=\tv\t", "v"),
        ("k = two  words", "two  words"),
        ("k = v # comment", "v"),
        ('k = "v" # comment', "v"),
        ('k = "v"# comment', "v"),
        ('k = " v # no comment "', " v # no comment "),
        ('k = "[x] = y"', "[x] = y"),
        ("k = ip[9] == 6", "ip[9] == 6"),
        ("k = AQ==", "AQ=="),
        ('k = "back\\slash"', "back\\slash"),
        ("k = pässwörd", "pässwörd"),
        ("k =", ""),
        ('k = ""', ""),
        ("k = # nothing", ""),
        ("k = v\r", "v"),
    ],
)
def test_values(line: str, expected: str) -> None:
    assert value(line) == expected


def test_a_last_line_without_newline_counts() -> None:
    [section] = read("[s]\nk = v")
    assert section.settings[0].value == "v"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k = v", "t:1:1: error: k: no section yet; put the line [general] above it"),
        ("[s", "t:1:1: error: the section name is not closed; write [name]"),
        ("[s] x", "t:1:5: error: text after the section name; delete it, or begin a comment with #"),
        ("[a b]", "t:1:2: error: this is not a name for a section; use letters,"),
        ("[]", "t:1:2: error: this is not a name for a section; use letters,"),
        ("[-c]", "t:1:2: error: this is not a name for a section; use letters,"),
        (f"[{'x' * 65}]", "t:1:2: error: this is not a name for a section; use letters,"),
        ("[s]\nhello", "t:2:1: error: not a line of the form key = value; comments begin with #"),
        ("[s]\n; k", "t:2:1: error: not a line of the form key = value; comments begin with #"),
        ("[s]\nk # = v", "t:2:1: error: not a line of the form key = value; comments begin with #"),
        ("[s]\n = v", "t:2:2: error: this is not a name for a key; use letters,"),
        ("[s]\na b = v", "t:2:1: error: this is not a name for a key; use letters,"),
        ('[s]\nk = "v', 't:2:5: error: [s] k: the double quote is not closed; end the value with "'),
        ('[s]\nk = "v" w', "t:2:9: error: [s] k: text after the closing double quote; delete it, or begin"),
        ('[s]\nk = v"w"', "t:2:6: error: [s] k: a double quote within a value; put the whole value in double quotes"),
        ("[s]\nk = “v”", 't:2:5: error: [s] k: “ is not the plain double quote; write "'),
        ("[s]\nk = a\0b", "t:2:6: error: character U+0000 has no place here; delete it"),
        ("[s]\nk = a\ud800", "t:2:6: error: character U+D800 has no place here; delete it"),
        ("[s]\rk = v", "t:1:4: error: character U+000D has no place here; delete it"),
    ],
)
def test_faults_say_where_what_and_how_to_mend(text: str, expected: str) -> None:
    [line] = errors(text)
    assert line.startswith(expected)


def test_all_faults_are_found_in_one_run() -> None:
    assert [line.split(" ")[0] for line in errors('[s\n[t]\nk\nk = "\n')] == ["t:1:1:", "t:3:1:", "t:4:5:"]


def test_a_faulty_value_still_counts_as_an_attempt_to_set_its_key() -> None:
    [section] = read_sections('[s]\nk = "v', "t", Problems())
    assert [(setting.key, setting.value) for setting in section.settings] == [("k", None)]


def test_a_faulty_line_never_shows_its_value() -> None:
    for line in (
        'password = "secret',
        "password = se\0cret",
        'password = "a" secret',
        "password secret",
        "pass word = secret",
    ):
        assert "secret" not in "".join(errors(f"[general]\n{line}"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "k = abc#def",
            "t:2:8: warning: [s] k: what follows # is a comment; put the value in double quotes if # belongs to it",
        ),
        ("k = 'abc'", 't:2:5: warning: [s] k: single quotes belong to the value; quotes are written "'),
    ],
)
def test_what_is_valid_but_seldom_meant_is_warned_of(line: str, expected: str) -> None:
    problems = Problems()
    read_sections(f"[s]\n{line}\n", "t", problems)
    problems.raise_errors()
    assert problems.warnings == (expected,)


def test_a_file_of_garbage_stops_at_a_bound() -> None:
    lines = errors("garbage\n" * 100_000)
    assert len(lines) == 101
    assert lines[-1] == "only the first 100 errors are shown; mend these and look again"


names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,20}", fullmatch=True)
exact_values = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"'), max_size=30)


@given(st.lists(st.tuples(names, st.lists(st.tuples(names, exact_values), max_size=4)), max_size=4))
def test_what_is_written_in_double_quotes_is_read_back_exactly(file: list[tuple[str, list[tuple[str, str]]]]) -> None:
    text = "".join(f"[{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in body) for name, body in file)
    assert [(s.name, [(k.key, k.value) for k in s.settings]) for s in read(text)] == file


@given(st.text())
def test_any_text_is_read_or_noted(text: str) -> None:
    read_sections(text, "t", Problems())
