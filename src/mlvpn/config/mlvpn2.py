"""How MLVPN 2.x would have read the same file: a model of its parser, and the lines on which it differs from ours.

Owns the quirks of that parser and nothing else depends on them; ``mlvpn check --mlvpn`` shows the result to people who
run one end of each. The quirks, all seen in its source (configlib.c and config.c of the last version):

- A line counts when its LF is read: a last line without one is lost. Every CR is dropped.
- A section begins wherever a line has ``[x]``, also inside a value.
- Double quotes are dropped wherever they stand; a blank outside them is deleted, also inside a value, and blanks at the
  ends of a value are deleted even inside them. A tab is a character like any other, also of a key.
- A second ``=`` outside quotes, or any character that is not ASCII, makes it skip the line.
- Keys it does not know are ignored. Of repeated keys the first counts.
- Numbers are read by atoi(): digits from the front, 0 when there are none, what follows is ignored. So ``yes`` is off.
- A link above [general] is read with the defaults, as a client's.

A note is about one line and is made by ``differences`` in two steps: what it read (``_readings``), what it understood.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mlvpn.config import schema, values
from mlvpn.config.grammar import Section, Setting, read_sections
from mlvpn.config.model import Config, LinkConfig
from mlvpn.config.problem import Location, Problem, Problems, Severity
from mlvpn.config.schema import Key
from mlvpn.units import shown


class _Reading(NamedTuple):
    """What one line was to MLVPN 2.x: a section (no key), a setting, or nothing because of ``dropped``."""

    section: str | None = None
    key: str = ""
    value: str = ""
    dropped: str = ""


def differences(text: str, filename: str) -> list[str]:
    """Return a line for each line of the file that MLVPN 2.x reads otherwise, with what it reads and what to write."""
    comparison = _Comparison(filename)
    readings = _readings(text)
    for section in read_sections(text, filename, Problems()):
        comparison.section(section, readings[section.location.line - 1])
        for setting in section.settings:
            if setting.value is not None:
                comparison.setting(section, setting, readings[setting.key_location.line - 1])
    return [str(note) for note in sorted(comparison.notes, key=lambda note: note.location)]


def agreement(config: Config) -> list[str]:
    """Return what the other end's file must say for this one to talk to it with protocol mlvpn1."""
    general = config.general
    is_client = general.mode == "client"
    return [
        f"mode = {'server' if is_client else 'client'}",
        "password: the same",
        f"cleartext_data = {int(general.cleartext_data)}",
        f"tuntap = {general.tuntap}",
        f"mtu = {general.mtu}",
        *(_link_agreement(link, is_client) for link in config.links),
    ]


def _link_agreement(link: LinkConfig, is_client: bool) -> str:
    parts = [f"bindport = {link.remoteport}" if is_client else f"remoteport = {link.bindport}"]
    parts.append(f"fallback_only = {int(link.fallback_only)}")
    for field, name in (("loss_tolerance_ratio", "loss_tolerence"), ("latency_tolerance_ns", "latency_tolerence")):
        parts.append(f"{name} = {_bare_number(schema.keys_of(schema.LINK)[name], getattr(link, field))}")
    return f"the link for {link.name}: {', '.join(parts)}"


class _Comparison:
    """Compares line by line; ``section`` and ``setting`` are called in file order."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._general_seen = False
        self.notes: list[Problem] = []

    def section(self, section: Section, reading: _Reading) -> None:
        """Compare a section's first line, and what the section as a whole is to MLVPN 2.x."""
        kind = schema.kind_of_section(section.name)
        if reading.dropped:
            self._note(section.location, section.name, "", f"MLVPN 2.x ignores this line: {reading.dropped}")
        elif reading.section is not None and reading.section != section.name:
            text = f"MLVPN 2.x reads the name {shown(reading.section)}; write the name without blanks around it"
            self._note(section.location, section.name, "", text)
        if kind == schema.LINK and not self._general_seen:
            text = "MLVPN 2.x reads this link as a client's and without what [general] sets; move [general] above it"
            self._note(section.location, section.name, "", text)
        if kind == schema.GENERAL and all(setting.key != "password" for setting in section.settings):
            self._note(section.location, section.name, "", "MLVPN 2.x does not start without password; add one")
        self._general_seen = self._general_seen or kind == schema.GENERAL

    def setting(self, section: Section, setting: Setting, reading: _Reading) -> None:
        """Compare a ``key = value`` line."""
        text = self._difference(section, setting, reading)
        if text:
            self._note(setting.value_location, section.name, setting.key, text)

    def _difference(self, section: Section, setting: Setting, reading: _Reading) -> str:
        if setting.value == "":
            return ""
        kind = schema.kind_of_section(section.name)
        key = schema.keys_of(kind).get(setting.key) if kind != schema.FILTERS_PREFIX else None
        if reading.dropped:
            return f"MLVPN 2.x ignores this line: {reading.dropped}"
        if reading.section is not None:
            return "MLVPN 2.x begins a section here, to which the next lines belong; it cannot have [ and ] in a value"
        if reading.key != setting.key:
            return f"MLVPN 2.x reads the key {shown(reading.key)}; put no tab beside ="
        if key is not None and (not key.mlvpn2 or setting.key == key.alias):
            return "MLVPN 2.x does not know this key and ignores it" + (f"; write {key.name}" if key.mlvpn2 else "")
        if reading.value != setting.value:
            return _other_text(key, reading.value)
        return _other_number(key, reading.value) if key is not None else ""

    def _note(self, location: Location, section: str, key: str, text: str) -> None:
        self.notes.append(Problem(location, Severity.NOTE, section, key, text))


def _other_text(key: Key | None, value: str) -> str:
    cure = "put it in double quotes, without blanks at its ends"
    if key is not None and key.kind is values.PASSWORD:
        return f"MLVPN 2.x reads another text, with blanks left out; {cure}"
    return f"MLVPN 2.x reads {shown(value)}; {cure}"


def _other_number(key: Key, text: str) -> str:
    """Say how MLVPN 2.x understands ``text`` where that is another quantity than ours; empty when it is not."""
    if not key.kind.bare:
        return ""
    try:
        ours = key.parse(text)
    except ValueError:
        return ""
    number = _atoi(text)
    if key.kind is values.SWITCH:
        return "" if ours == (number != 0) else f"MLVPN 2.x reads {number}, which is off; write {int(ours)}"
    if ours == key.kind.parse(str(number)):
        return ""
    return f"MLVPN 2.x reads {f'{number} {key.kind.bare_unit}'.strip()}; write {_bare_number(key, ours)}"


def _bare_number(key: Key, value: float) -> int:
    """The number without unit; rounded, because MLVPN 2.x knows no fractions."""
    return round(value / key.kind.bare)


def _atoi(text: str) -> int:
    match = re.match(r"[0-9]{1,12}", text)
    return int(match[0]) % 2**32 if match else 0


def _readings(text: str) -> list[_Reading]:
    """What each line is to MLVPN 2.x, in order."""
    lines = text.split("\n")
    return [*map(_read_line, lines[:-1]), _Reading(dropped="it has no line end; add one")]


def _read_line(line: str) -> _Reading:
    content = _without_comment(line.replace("\r", ""))
    name = _section_name(content)
    return _Reading(section=name) if name is not None else _read_setting(content)


def _without_comment(line: str) -> str:
    quoted = False
    for index, character in enumerate(line):
        if character == '"':
            quoted = not quoted
        elif character == "#" and not quoted:
            return line[:index]
    return line


def _section_name(line: str) -> str | None:
    """What stands in the first brackets of the line, wherever; None when they are not a pair."""
    match = re.match(r"[^\[\]]*\[([^\[\]]*)\]", line)
    return match[1] if match else None


def _read_setting(line: str) -> _Reading:
    key: str | None = None
    collected = ""
    quoted = False
    for character in line:
        if character == '"':
            quoted = not quoted
        elif character == "=" and not quoted:
            if key is not None:
                return _Reading(dropped="it has a second = outside double quotes; put the value in double quotes")
            key, collected = collected.rstrip(" "), ""
        elif character == " " and (not quoted or not collected):
            continue
        elif not character.isascii():
            return _Reading(dropped="it has a character that is not ASCII; write it with ASCII only")
        else:
            collected += character
    if not key or not collected:
        return _Reading(dropped="it has no value")
    return _Reading(key=key, value=collected.rstrip(" "))
