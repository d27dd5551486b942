"""Sampled stacks: read, summed up, and drawn as a flame graph (one SVG file, names as tool tips, no script)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from html import escape
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

WIDTH, ROW_HEIGHT, CHARACTER_WIDTH = 1400, 17, 6.5
LEAST_WIDTH = 0.5
"""Pixels; what is narrower is left out."""

Stack = tuple[str, ...]


class Profile(NamedTuple):
    """Samples by stack, outermost function first; the innermost with its line."""

    stacks: Mapping[Stack, int]

    @property
    def samples(self) -> int:
        """Return the number of samples."""
        return sum(self.stacks.values())

    def own(self) -> Counter[str]:
        """Return the samples in which each line was the innermost."""
        counts: Counter[str] = Counter()
        for stack, count in self.stacks.items():
            counts[stack[-1]] += count
        return counts

    def total(self) -> Counter[str]:
        """Return the samples in which each function was running, itself or through what it called."""
        counts: Counter[str] = Counter()
        for stack, count in self.stacks.items():
            for function in set(functions(stack)):
                counts[function] += count
        return counts


def functions(stack: Stack) -> Stack:
    """Return a stack without the line of its innermost function."""
    return (*stack[:-1], stack[-1].rpartition(":")[0])


def read(text: str, above: Collection[str]) -> Profile:
    """Read stacks as `sampler` writes them, without what lies ``above``: the same in all, or nearly all."""
    stacks: Counter[Stack] = Counter()
    for line in text.splitlines():
        path, _, count = line.rpartition(" ")
        names = path.split(";")
        last = max((index for index, name in enumerate(names[:-1]) if name in above), default=-1)
        stacks[tuple(names[last + 1 :])] += int(count)
    return Profile(stacks)


class _Node:
    """A function in the place where it was called."""

    def __init__(self) -> None:
        self.count = 0
        self.called: dict[str, _Node] = {}


def draw(profile: Profile, title: str, path: Path) -> None:
    """Write the flame graph, the outermost function on top."""
    root, depth = _tree(profile)
    boxes: list[str] = []
    _draw(root, 0.0, WIDTH / max(root.count, 1), 1, boxes)
    height = (depth + 2) * ROW_HEIGHT
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="monospace"'
    caption = f'<text x="4" y="13">{escape(title)}, {root.count} samples</text>'
    path.write_text("\n".join([f'{head} font-size="11">', caption, *boxes, "</svg>", ""]))


def _tree(profile: Profile) -> tuple[_Node, int]:
    root, depth = _Node(), 0
    for stack, count in profile.stacks.items():
        root.count += count
        node = root
        for name in functions(stack):
            node = node.called.setdefault(name, _Node())
            node.count += count
        depth = max(depth, len(stack))
    return root, depth


def _draw(node: _Node, left: float, scale: float, row: int, boxes: list[str]) -> None:
    for name, called in sorted(node.called.items()):
        width = called.count * scale
        if width >= LEAST_WIDTH:
            boxes.append(_box(name, called.count, left, width, row))
            _draw(called, left, scale, row + 1, boxes)
        left += width


def _box(name: str, count: int, left: float, width: float, row: int) -> str:
    shade = crc32(name.encode())
    colour = f"rgb({220 + shade % 30},{110 + shade // 30 % 90},{60 + shade // 2700 % 40})"
    top, short = row * ROW_HEIGHT + 4, escape(name.rpartition(":")[2][: int(width / CHARACTER_WIDTH)])
    return (
        f'<g><title>{escape(name)}: {count}</title><rect x="{left:.1f}" y="{top}" width="{width:.1f}" '
        f'height="{ROW_HEIGHT - 1}" fill="{colour}"/><text x="{left + 2:.1f}" y="{top + 12}">{short}</text></g>'
    )
