"""From a path to a ``Config``, or to ConfigError with everything that is wrong.

Owns the way: read and decode the file (file.py), split it (grammar.py), turn each setting into a value (schema.py),
check what goes together (rules.py), build the ``Config``. Faults are collected on the way and raised at its end.

Contract: whatever the text, the outcome is a Config or a ConfigError.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mlvpn.config import rules, schema
from mlvpn.config.file import decode, read_file
from mlvpn.config.grammar import Section, Setting, read_sections
from mlvpn.config.model import Config, Filter, General, LinkConfig
from mlvpn.config.problem import Location, Problems
from mlvpn.config.schema import Key


def load(path: str) -> Config:
    """Read and check the file at ``path``; raise ConfigError with every problem."""
    return parse(decode(read_file(path), path), path)


def parse(text: str, filename: str) -> Config:
    """Read and check a file's text; raise ConfigError with every problem."""
    problems = Problems()
    reader = _Reader(problems)
    for section in read_sections(text, filename, problems):
        reader.read(section)
    if problems.full:  # do not add what is probably only a consequence
        problems.raise_errors()
    config = reader.config(filename)
    rules.check(config, problems)
    problems.raise_errors()
    return replace(config, warnings=problems.warnings)


class _Reader:
    """Turns sections into values; holds what the file has said so far."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._general: dict[str, object] = {}
        self._links: dict[str, dict[str, object]] = {}
        self._filters: list[Filter] = []
        self._locations: dict[tuple[str, str], Location] = {}

    def read(self, section: Section) -> None:
        """Take in one section."""
        kind = schema.kind_of_section(section.name)
        if kind == schema.FILTERS_PREFIX:
            self._read_filters(section)
        elif kind == schema.GENERAL:
            self._read_settings(section, schema.keys_of(schema.GENERAL), self._general)
        elif section.name.lower() in (schema.GENERAL, schema.FILTERS_PREFIX):
            self._problems.error(
                section.location, f"did you mean [{section.name.lower()}]? Write it in lower case", section.name
            )
        elif section.name in self._links:
            first = self._locations[section.name, ""].line
            self._problems.error(
                section.location, f"this link is in line {first} already; give it another name", section.name
            )
        else:
            self._read_settings(section, schema.keys_of(schema.LINK), self._links.setdefault(section.name, {}))

    def config(self, filename: str) -> Config:
        """Build what has been read, with defaults where nothing was said; what is missing shows in the locations."""
        general: dict[str, Any] = _defaults(schema.GENERAL) | self._general
        inherited = {key.field_name: general[key.field_name] for key in schema.KEYS if key.inherited}
        link_defaults: dict[str, Any] = _defaults(schema.LINK) | inherited
        return Config(
            filename=filename,
            general=General(**general),
            links=tuple(LinkConfig(name=name, **link_defaults | own) for name, own in self._links.items()),
            filters=tuple(self._filters),
            locations=self._locations,
        )

    def _read_filters(self, section: Section) -> None:
        self._locations.setdefault((section.name, ""), section.location)
        for setting in section.settings:
            if setting.value is None:
                continue
            self._filters.append(
                Filter(setting.key, setting.value, setting.value_location, setting.key_location, section.name)
            )

    def _read_settings(self, section: Section, keys: dict[str, Key], into: dict[str, object]) -> None:
        self._locations.setdefault((section.name, ""), section.location)
        for setting in section.settings:
            if self._problems.full:
                return
            key = keys.get(setting.key)
            if key is None:
                self._problems.error(setting.key_location, _unknown(setting.key, keys), section.name, setting.key)
            elif setting.value != "":  # an empty value is the same as none, as in MLVPN
                self._read_value(section.name, setting, key, into)

    def _read_value(self, section: str, setting: Setting, key: Key, into: dict[str, object]) -> None:
        first = self._locations.get((section, key.name))
        if first:
            text = f"line {first.line} has set it already and counts, as in MLVPN; delete one of the two"
            self._problems.warning(setting.key_location, text, section, setting.key)
            return
        self._locations[section, key.name] = setting.value_location
        if setting.value is None:
            return
        try:
            into[key.field_name] = key.parse(setting.value)
        except ValueError as problem:
            self._problems.error(setting.value_location, str(problem), section, setting.key)


def _defaults(section: str) -> dict[str, object]:
    return {key.field_name: key.default_value() for key in schema.KEYS if key.section == section}


def _unknown(name: str, known: Iterable[str]) -> str:
    """Say what an unknown key may have been meant to be."""
    for section, place in ((schema.GENERAL, "[general]"), (schema.LINK, "the section of a link")):
        if name in schema.keys_of(section):
            return f"this key belongs in {place}; move it there"
    similar = difflib.get_close_matches(name.lower(), known, n=1)
    hint = (
        f"did you mean {similar[0]}?" if similar else "delete it, or see docs/configuration.md for the keys there are"
    )
    return f"there is no such key; {hint}"
