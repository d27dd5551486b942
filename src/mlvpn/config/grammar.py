"""The text of a configuration file -> sections and settings with their places.

Owns the syntax and nothing of the meaning: no key is known here. The syntax is MLVPN's, read sensibly:

    file     = lines of UTF-8 text, ended by LF or CR LF; the last one need not be ended
    line     = blank | [comment] | "[" name "]" [comment] | key "=" [value] [comment]
    value    = '"' any characters but '"' '"'            taken exactly: no escapes, blanks kept
             | any characters but '"' and "#"            blanks around it dropped, blanks inside kept
    comment  = "#" to the end of the line, outside double quotes

Where MLVPN 2.x itself reads a line otherwise is the business of mlvpn2.py. A faulty line is noted in ``problems`` and
skipped, so that one run finds all faults. The value of a faulty line is never repeated in a message: it may be the
password.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mlvpn.config.problem import Location, Problems

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]*")
_NAME_RULE = "use letters, digits and . _ : + -, with a letter, digit or _ first"
_CURLY = re.compile("[\u2018-\u201f\u00ab\u00bb]")
_NAME_LENGTH = 64


class Setting(NamedTuple):
    """One ``key = value`` line."""

    key: str
    value: str | None
    """None: the line was meant to set the key, but its value is faulty, which is noted."""
    key_location: Location
    value_location: Location


class Section(NamedTuple):
    """One ``[name]`` line and the settings under it, in file order."""

    name: str
    location: Location
    settings: list[Setting]


def read_sections(text: str, filename: str, problems: Problems) -> list[Section]:
    """Split ``text`` into sections in file order; faults go to ``problems``."""
    sections: list[Section] = []
    orphan: Setting | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        if problems.full:
            break
        within = sections[-1].name if sections else ""
        found = _Line(line.removesuffix("\r"), Location(filename, number, 1), within, problems).read()
        if isinstance(found, Section):
            sections.append(found)
        elif found is not None and sections:
            sections[-1].settings.append(found)
        elif found is not None and orphan is None:
            orphan = found
            problems.error(found.key_location, "no section yet; put the line [general] above it", key=found.key)
    return sections


class _Fault(Exception):
    """The line is wrong at ``index``."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__(text)
        self.index = index
        self.text = text


class _Line:
    """One line being read; the private methods raise _Fault."""

    def __init__(self, line: str, start: Location, within: str, problems: Problems) -> None:
        self._line = line
        self._start = start
        self._within = within
        self._problems = problems

    def read(self) -> Section | Setting | None:
        """Return what the line holds; None for a blank, a comment, a fault (noted)."""
        content = self._line.strip()
        if not content or content.startswith("#"):
            return None
        try:
            self._refuse_control_characters()
            return self._section() if content.startswith("[") else self._setting()
        except _Fault as fault:
            self._note(fault)
            return None

    def _refuse_control_characters(self) -> None:
        control = _CONTROL.search(self._line)
        if control:
            raise _Fault(control.start(), f"character U+{ord(control[0]):04X} has no place here; delete it")

    def _section(self) -> Section:
        start = self._line.index("[")
        end = self._line.find("]", start)
        if end < 0:
            raise _Fault(start, "the section name is not closed; write [name]")
        self._refuse_text(end + 1, "the section name")
        name = self._line[start + 1 : end].strip()
        if not _is_name(name):
            raise _Fault(start + 1, f"this is not a name for a section; {_NAME_RULE}")
        return Section(name, self._at(start + 1), [])

    def _setting(self) -> Setting:
        before, equals, after = self._line.partition("=")
        key_start = len(before) - len(before.lstrip())
        if not equals or "#" in before:
            raise _Fault(key_start, "not a line of the form key = value; comments begin with #")
        key = before.strip()
        if not _is_name(key):
            raise _Fault(key_start, f"this is not a name for a key; {_NAME_RULE}")
        value_start = len(self._line) - len(after.lstrip())
        return Setting(key, self._value(key, value_start), self._at(key_start), self._at(value_start))

    def _value(self, key: str, start: int) -> str | None:
        try:
            return self._quoted(start) if self._line[start:].startswith('"') else self._bare(key, start)
        except _Fault as fault:
            self._note(fault, key)
            return None

    def _quoted(self, start: int) -> str:
        end = self._line.find('"', start + 1)
        if end < 0:
            raise _Fault(start, 'the double quote is not closed; end the value with "')
        self._refuse_text(end + 1, "the closing double quote")
        return self._line[start + 1 : end]

    def _bare(self, key: str, start: int) -> str:
        value, comment, _ = self._line[start:].partition("#")
        if comment and value and not value[-1].isspace():
            text = "what follows # is a comment; put the value in double quotes if # belongs to it"
            self._problems.warning(self._at(start + len(value)), text, self._within, key)
        value = value.rstrip()
        curly = _CURLY.search(value)
        if curly:
            raise _Fault(start + curly.start(), f'{curly[0]} is not the plain double quote; write "')
        if '"' in value:
            raise _Fault(
                start + value.index('"'), "a double quote within a value; put the whole value in double quotes"
            )
        if len(value) > 1 and value[0] == value[-1] == "'":
            text = 'single quotes belong to the value; quotes are written "'
            self._problems.warning(self._at(start), text, self._within, key)
        return value

    def _refuse_text(self, start: int, after: str) -> None:
        """Only blanks and a comment may follow."""
        rest = self._line[start:].lstrip()
        if rest and not rest.startswith("#"):
            raise _Fault(len(self._line) - len(rest), f"text after {after}; delete it, or begin a comment with #")

    def _note(self, fault: _Fault, key: str = "") -> None:
        self._problems.error(self._at(fault.index), fault.text, self._within if key else "", key)

    def _at(self, index: int) -> Location:
        return self._start._replace(column=index + 1)


def _is_name(text: str) -> bool:
    return len(text) <= _NAME_LENGTH and _NAME.fullmatch(text) is not None
