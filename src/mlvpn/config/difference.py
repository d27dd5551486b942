"""What a reload has to do: the difference between the configuration that runs and the new one.

Owns the comparison only. Which key takes effect how is a column of the table in schema.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlvpn.config import schema
from mlvpn.config.model import Config, General, LinkConfig
from mlvpn.config.schema import Key, Reload


@dataclass(frozen=True)
class Difference:
    """Names of what changed, links in file order, keys in the order of the table."""

    added: tuple[str, ...]
    """Links that are new."""
    removed: tuple[str, ...]
    """Links that are gone."""
    restarted: dict[str, tuple[str, ...]]
    """Link -> changed keys, one of them an address: the link needs a new socket."""
    changed: dict[str, tuple[str, ...]]
    """Link -> changed keys that all count at once."""
    general: tuple[str, ...]
    """Keys of [general] that count at once."""
    filters: bool
    """The filters changed."""
    needs_restart: tuple[str, ...]
    """Keys of [general] whose new value is ignored until the daemon is started anew."""

    def __bool__(self) -> bool:
        return bool(self.lines())

    def lines(self) -> list[str]:
        """Say the difference, a line each; empty when nothing changed."""
        return [
            *(f"link {name} added" for name in self.added),
            *(f"link {name} removed" for name in self.removed),
            *(f"link {name} restarted: {', '.join(keys)} changed" for name, keys in self.restarted.items()),
            *(f"link {name}: {', '.join(keys)} changed" for name, keys in self.changed.items()),
            *([f"[general] {', '.join(self.general)} changed"] if self.general else []),
            *(["filters changed"] if self.filters else []),
            *([f"[general] {', '.join(self.needs_restart)} ignored until a restart"] if self.needs_restart else []),
        ]


def diff(old: Config, new: Config) -> Difference:
    """Compare what runs with what shall run."""
    before = {link.name: link for link in old.links}
    after = {link.name: link for link in new.links}
    general = _changed_keys(schema.GENERAL, old.general, new.general)
    links = {name: _changed_keys(schema.LINK, before[name], after[name]) for name in after if name in before}
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        restarted={name: _names(keys) for name, keys in links.items() if _reconnects(keys)},
        changed={name: _names(keys) for name, keys in links.items() if keys and not _reconnects(keys)},
        general=_names(key for key in general if key.reload is not Reload.RESTART),
        filters=old.filters != new.filters,
        needs_restart=_names(key for key in general if key.reload is Reload.RESTART),
    )


def keep_start_only(old: Config, new: Config) -> Config:
    """Return ``new`` with the values of ``old`` for the keys that only a restart can change: what a reload runs."""
    kept = {
        key.field_name: getattr(old.general, key.field_name)
        for key in schema.KEYS
        if key.section == schema.GENERAL and key.reload is Reload.RESTART
    }
    return replace(new, general=replace(new.general, **kept))


def _changed_keys(section: str, old: General | LinkConfig, new: General | LinkConfig) -> list[Key]:
    return [
        key
        for key in schema.KEYS
        if key.section == section and getattr(old, key.field_name) != getattr(new, key.field_name)
    ]


def _reconnects(keys: list[Key]) -> bool:
    return any(key.reload is Reload.RECONNECT for key in keys)


def _names(keys: Iterable[Key]) -> tuple[str, ...]:
    return tuple(key.name for key in keys)
