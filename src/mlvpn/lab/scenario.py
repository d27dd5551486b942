"""A scenario: hosts, links, a tunnel, traffic and timed events, read from one small TOML file.

    seconds = 20
    [[link]]
    name = "dsl"            # further keys, all optional: rate, delay, jitter, loss, buffer, trace, reorder, mtu, ipv6
    rate = "50Mbit"         # no rate: not limited
    delay = "15ms"          # one way
    up = { rate = "10Mbit" }  # what differs from client to server; "down" likewise
    [tunnel]                # keys of MLVPN's [general] for both ends; `tunnel = false` sends over the first link bare
    [traffic]
    kind = "tcp"            # or "udp"; further keys: direction, flows, congestion, and for UDP rate and size
    [[event]]
    at = "8s"
    link = "dsl"
    action = "cut"          # heal, unplug, plug, change (with keys of a link, and a direction if only one changes)

Owns the form of the file, checked completely before anything is built: every problem is told with its place in it.
What is done with it is in ``play``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlvpn.errors import ConfigError
from mlvpn.lab.topology import Lab, LinkSpec
from mlvpn.units import parse_duration_ns, parse_rate_bps, parse_ratio, parse_size_bytes

Reader = Callable[[Any], Any]
"""Turns a value of the file into one of the program; ValueError says what is wrong with it."""
Readers = Mapping[str, Reader]
ACTIONS = ("cut", "heal", "unplug", "plug", "change")
DIRECTIONS = ("up", "down")
CONGESTIONS = ("cubic", "bbr", "reno")


class Problems:
    """What is wrong with a file, all of it; and the readers of single values, which know where they are."""

    def __init__(self) -> None:
        """Begin with none."""
        self.found: list[str] = []

    def add(self, place: str, what: str) -> None:
        """Remember a problem."""
        self.found.append(f"{place}: {what}")

    def read(self, place: str, value: Any, reader: Reader) -> Any:
        """Read a value; on a problem remember it and return None."""
        try:
            return reader(value)
        except (ValueError, TypeError) as error:
            self.add(place, str(error))
            return None

    def read_table(self, place: str, table: Any, readers: Readers, elsewhere: Sequence[str] = ()) -> dict[str, Any]:
        """Read the keys of a table; keys that neither it nor ``elsewhere`` knows are problems."""
        if not isinstance(table, dict):
            self.add(place, "must be a table of keys and values")
            return {}
        for key in (key for key in table if key not in readers and key not in elsewhere):
            self.add(f"{place}.{key}", f"is not known; known are: {', '.join([*readers, *elsewhere])}")
        return {key: self.read(f"{place}.{key}", table[key], readers[key]) for key in readers if key in table}


def quantity(parse: Callable[[str], Any]) -> Reader:
    """Read a quantity, which is text with a unit."""

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f'{value!r} has no unit; write it as text, like "20Mbit" or "15ms"')
        return parse(value)

    return read


def of_type(kind: type) -> Reader:
    """Read a value of a TOML type."""

    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{value!r} is not of the type {kind.__name__}")
        return value

    return read


def one_of(*choices: str | None) -> Reader:
    """Read one of several words."""

    def read(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choice for choice in choices if choice)}")
        return value

    return read


def positive(value: Any) -> Any:
    """Read a whole number above zero."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is not a whole number above zero")
    return value


def trace(value: Any) -> tuple[tuple[int, int], ...]:
    """Read [["0s", "20Mbit"], ["1s", "5Mbit"]]."""
    return tuple((duration_ns(at), rate_bps(rate)) for at, rate in value)


duration_ns = quantity(parse_duration_ns)
rate_bps = quantity(parse_rate_bps)

CHANNEL_KEYS: dict[str, tuple[str, Reader]] = {
    "rate": ("rate_bps", rate_bps),
    "delay": ("delay_ns", duration_ns),
    "jitter": ("jitter_ns", duration_ns),
    "loss": ("loss_ratio", quantity(parse_ratio)),
    "buffer": ("buffer_ns", duration_ns),
    "trace": ("trace", trace),
    "reorder": ("reorder", of_type(bool)),
}
"""Key of a link in the file -> field of ``ChannelSpec`` and how it is read."""


def channel_changes(problems: Problems, place: str, table: Any, elsewhere: Sequence[str] = ()) -> dict[str, Any]:
    """Read keys of a link into fields of ``ChannelSpec``."""
    readers = {key: reader for key, (_, reader) in CHANNEL_KEYS.items()}
    values = problems.read_table(place, table, readers, elsewhere)
    return {CHANNEL_KEYS[key][0]: value for key, value in values.items()}


LINK_KEYS: Readers = {"name": of_type(str), "mtu": positive, "ipv6": of_type(bool)}


def read_link(problems: Problems, place: str, table: Any) -> LinkSpec | None:
    """Read one [[link]]."""
    found_before = len(problems.found)
    changes = channel_changes(problems, place, table, [*LINK_KEYS, *DIRECTIONS])
    if not isinstance(table, dict):
        return None
    values = problems.read_table(place, {key: table[key] for key in LINK_KEYS if key in table}, LINK_KEYS)
    for direction in DIRECTIONS:
        values[direction] = channel_changes(problems, f"{place}.{direction}", table.get(direction, {}))
    if "name" not in values:
        problems.add(place, "has no name")
    if len(problems.found) > found_before:
        return None
    link: LinkSpec | None = problems.read(place, {**values, **changes}, checked_link)
    return link


def checked_link(values: dict[str, Any]) -> LinkSpec:
    """Build a link; ValueError when one of its directions makes no sense."""
    link = LinkSpec(**values, emulated=True)
    for direction in DIRECTIONS:
        link.channel(direction)
    return link


@dataclass(frozen=True)
class ScenarioEvent:
    """Something that happens to a link."""

    at_ns: int
    link: str
    action: str
    direction: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``ChannelSpec`` for "change"."""

    def perform(self, lab: Lab) -> None:
        """Let it happen."""
        match self.action:
            case "cut":
                lab.emulator.cut(self.link, self.direction)
            case "heal":
                lab.emulator.heal(self.link, self.direction)
            case "change":
                lab.emulator.configure(self.link, self.direction, **self.changes)
            case "unplug" | "plug":
                lab.set_carrier("client", self.link, up=self.action == "plug")

    def __str__(self) -> str:
        """Say it as a person would."""
        changes = ", ".join(f"{key} {value}" for key, value in self.changes.items())
        return " ".join(part for part in (self.link, self.direction, self.action, changes) if part)


def read_event(problems: Problems, place: str, table: Any, links: Sequence[str | None]) -> ScenarioEvent | None:
    """Read one [[event]]."""
    found_before = len(problems.found)
    own = {"at": duration_ns, "link": one_of(*links), "action": one_of(*ACTIONS), "direction": one_of(*DIRECTIONS)}
    changes = channel_changes(problems, place, table, list(own))
    if not isinstance(table, dict):
        return None
    values = problems.read_table(place, {key: table[key] for key in own if key in table}, own)
    for key in ("at", "link", "action"):
        if key not in values:
            problems.add(place, f"has no {key}")
    if changes and values.get("action") != "change":
        problems.add(place, 'changes a link but its action is not "change"')
    if len(problems.found) > found_before:
        return None
    values["at_ns"] = values.pop("at")
    return ScenarioEvent(**values, changes=changes)


@dataclass(frozen=True)
class Traffic:
    """What is sent through."""

    kind: str = "tcp"
    direction: str = "down"
    flows: int = 1
    congestion: str = "cubic"
    rate: int = 10_000_000
    """UDP: bits per second of payload."""
    size: int = 1200
    """UDP: bytes of payload."""


TRAFFIC_KEYS: Readers = {
    "kind": one_of("tcp", "udp"),
    "direction": one_of(*DIRECTIONS),
    "flows": positive,
    "congestion": one_of(*CONGESTIONS),
    "rate": rate_bps,
    "size": quantity(parse_size_bytes),
}


@dataclass(frozen=True)
class Scenario:
    """A whole file."""

    links: tuple[LinkSpec, ...]
    seconds: float = 10.0
    tunnel: Mapping[str, str | int] | None = field(default_factory=dict)
    """Keys of [general]; None: no tunnel."""
    traffic: Traffic = Traffic()
    events: tuple[ScenarioEvent, ...] = ()
    seed: int = 1


def read_scenario(path: Path) -> Scenario:
    """Read a file; ConfigError with every problem of it."""
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: error: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: error: is not TOML: {error}") from error
    return parse_scenario(table, str(path))


def parse_scenario(table: dict[str, Any], source: str) -> Scenario:
    """Read a parsed file; ConfigError with every problem of it."""
    problems = Problems()
    values = problems.read_table("file", table, FILE_KEYS)
    raw_links, raw_events = values.pop("link", None) or [], values.pop("event", None) or []
    names = [item.get("name") if isinstance(item, dict) else None for item in raw_links]
    if not raw_links:
        problems.add("link", "there is none; a scenario needs at least one [[link]]")
    if len(set(names)) != len(names):
        problems.add("link", "two links have the same name")
    links = [read_link(problems, f"link {number}", item) for number, item in enumerate(raw_links, 1)]
    traffic = problems.read_table("traffic", values.pop("traffic", None) or {}, TRAFFIC_KEYS)
    events = [read_event(problems, f"event {number}", item, names) for number, item in enumerate(raw_events, 1)]
    if problems.found:
        raise ConfigError("\n".join(f"{source}: error: {problem}" for problem in problems.found))
    ordered = tuple(sorted((event for event in events if event), key=lambda event: event.at_ns))
    return Scenario(tuple(link for link in links if link), traffic=Traffic(**traffic), events=ordered, **values)


def tunnel_keys(value: Any) -> dict[str, str | int] | None:
    """Read [tunnel], or ``tunnel = false``."""
    if value is False:
        return None
    if not isinstance(value, dict) or not all(type(item) in (str, int) for item in value.values()):
        raise ValueError("must be a table of keys of [general] with text or whole numbers, or false")
    return value


FILE_KEYS: Readers = {
    "seconds": positive,
    "seed": positive,
    "link": of_type(list),
    "event": of_type(list),
    "traffic": of_type(dict),
    "tunnel": tunnel_keys,
}
