"""Strips: rows over large arrays that run together, a few items of a leading axis that they share at a time.

What one row leaves in memory is in the processor's cache still when the next one reads it. Rows can run so where
whatever one of them writes and another touches belongs to one item: then it does not matter whether a row has done all
items before the next one begins.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .order import TURN

Row = tuple[str, str, int]

#: arrays of more bytes than this do not stay in the cache from row to row; a strip is about so many bytes of all arrays
LARGE, STRIP = 1 << 19, 3 << 16
#: strips of many items have a multiple of so many
UNIT = 8


class Touch(NamedTuple):
    """What a row touches of a storage's values or adjoints: at each item `size` elements from `low`, moved on by `step`.

    A step of 0: any of them at any item.
    """

    storage: int
    adjoint: bool
    writes: bool
    low: int = 0
    step: int = 0
    size: int = 0

    def of_items(self, count: int) -> Touch:
        """Give what is touched at so many items at a time."""
        return self._replace(step=self.step * count, size=self.size + (count - 1) * self.step)


def touch(
    storage: int, adjoint: bool, writes: bool, offset: int, shape: Sequence[int], strides: Sequence[int]
) -> Touch:
    """Say what a row touches whose items are along the first axis of an array."""
    if not strides or strides[0] <= 0:
        return Touch(storage, adjoint, writes)
    steps = [(dim - 1) * stride for dim, stride in zip(shape[1:], strides[1:], strict=True)]
    low = offset + sum(step for step in steps if step < 0)
    return Touch(storage, adjoint, writes, low, strides[0], 1 + sum(map(abs, steps)))


@dataclass
class Line:
    """A row and what the planner knows of it: which storages it uses (values or adjoints), and how.

    It can be done a few of its items at a time (0: as a whole only). What has no `touches` stays where it is. A line
    with others `inside` runs these strip by strip.
    """

    row: Row
    kind: str
    instructions: tuple[int, ...]
    uses: frozenset[tuple[int, bool]]
    items: int = 0
    touches: Sequence[Touch] | None = None
    address: int | None = None  # of a kernel that is in no group
    inside: list[Line] = field(default_factory=list)
    strips: int = 1
    unit: int = 1


class _Run:
    """Lines that could run together, as they come."""

    def __init__(self, bytes_of: Sequence[int], large: Collection[int]) -> None:
        self.bytes_of, self.large = bytes_of, large
        self.lines: list[Line] = []
        self._items = 0
        self._touched: dict[tuple[int, bool], list[tuple[Touch, int]]] = {}

    def is_free_of(self, line: Line) -> bool:
        """Whether a line neither depends on those of the run nor they on it."""
        return all(not (t.writes or u.writes) for t in line.touches or () for u, _ in self._met(t))

    def takes(self, line: Line) -> bool:
        """Add a line to the run if it can go together with all others."""
        items = math.gcd(self._items, line.items)
        if items < 2 or line.touches is None or not (self.lines or self.is_large(line)):
            return False
        for t in line.touches:
            for u, count in self._met(t):
                if (t.writes or u.writes) and not _apart(t.of_items(line.items // items), u.of_items(count // items)):
                    return False
        if self._bytes(items, [(t, line.items) for t in line.touches]) > LARGE:
            return False
        self._items = items
        self.lines.append(line)
        for t in line.touches:
            self._touched.setdefault(t[:2], []).append((t, line.items))
        return True

    def is_large(self, line: Line) -> bool:
        """Whether a line goes over a large array, item by item."""
        return any(t.step and t.storage in self.large for t in line.touches or ())

    def close(self) -> list[Line]:
        """Give the lines; from the first to the last of those that share large arrays as one."""
        users: dict[tuple[int, bool], set[int]] = {}
        for k, line in enumerate(self.lines):
            for t in line.touches or ():
                if t.step and t.storage in self.large:
                    users.setdefault(t[:2], set()).add(k)
        sharing = set().union(*(found for found in users.values() if len(found) > 1))
        if not sharing:
            return self.lines
        first, last = min(sharing), max(sharing) + 1
        return [*self.lines[:first], *self._joined(self.lines[first:last]), *self.lines[last:]]

    def _joined(self, lines: list[Line]) -> list[Line]:
        items = math.gcd(*(line.items for line in lines))
        count = max(STRIP // self._bytes(items, [(t, line.items) for line in lines for t in line.touches or ()]), 1)
        unit = UNIT if count >= UNIT else 1
        strips = items // (count // unit * unit)
        if strips < 2:
            return lines
        kinds = {line.kind for line in lines}
        instructions = tuple(dict.fromkeys(k for line in lines for k in line.instructions))
        uses = frozenset(use for line in lines for use in line.uses)
        kind = kinds.pop() if len(kinds) == 1 else TURN
        return [Line(("sweeps", "strips", 0), kind, instructions, uses, items, None, None, lines, strips, unit)]

    def _met(self, t: Touch) -> Sequence[tuple[Touch, int]]:
        return self._touched.get(t[:2], ())

    def _bytes(self, items: int, more: Iterable[tuple[Touch, int]]) -> int:
        """Count the bytes of an item: those that lie in the run's way, and in that of more touches."""
        steps: dict[tuple[int, bool], int] = {}
        for t, count in [*(known for found in self._touched.values() for known in found), *more]:
            steps[t[:2]] = max(t.step * (count // items), steps.get(t[:2], 0))
        return sum(step * self.bytes_of[s] for (s, _), step in steps.items())


def _apart(a: Touch, b: Touch) -> bool:
    """Whether what is touched at one item is touched at no other."""
    reach = max(a.low + a.size, b.low + b.size) - min(a.low, b.low)
    return a.step == b.step and reach <= a.step


def in_strips(lines: Sequence[Line], bytes_of: Sequence[int], large: Collection[int]) -> Iterator[Line]:
    """Join lines that can run strip by strip; `bytes_of` are those of a storage's element, `large` the large storages.

    What lies between them and has nothing to do with them comes before them.
    """
    run = _Run(bytes_of, large)
    for line in lines:
        free = line.touches is not None and run.is_free_of(line)
        if (run.is_large(line) or not free) and run.takes(line):
            continue
        if not free:
            yield from run.close()
            run = _Run(bytes_of, large)
            if run.takes(line):
                continue
        yield line
    yield from run.close()
