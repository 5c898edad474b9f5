"""Strips: rows over large arrays that run together, a few items of a leading axis that they share at a time.

What one row leaves in memory is in the processor's cache still when the next one reads it. Rows can run so where
whatever one of them writes and another touches belongs to one item: then it does not matter whether a row has done all
items before the next one begins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .order import TURN

Row = tuple[str, str, int]

#: arrays of more bytes than this do not stay in the cache from row to row; a strip is about so many bytes of all arrays
LARGE, STRIP = 1 << 19, 3 << 16
#: strips of many items have a multiple of so many
UNIT = 8


class Touch(NamedTuple):
    """What a row touches of a storage's values or adjoints: at each item `size` elements, the first from `low`.

    From item to item they move on by `step`; 0: any of them at any item. `clears`: all are zeroed before the first item.
    """

    storage: int
    adjoint: bool
    writes: bool
    low: int = 0
    step: int = 0
    size: int = 1
    clears: bool = False

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
    with others `inside` runs these strip by strip; each strip of its `passing` (storage, adjoint, elements of an item)
    lies where the first does.
    """

    row: Row
    kind: str
    instructions: tuple[int, ...]
    uses: frozenset[tuple[int, bool]]
    items: int = 0
    touches: Sequence[Touch] | None = None
    address: int | None = None  # of a kernel that is in no group
    inside: list[Line] = field(default_factory=list)
    passing: list[tuple[int, bool, int]] = field(default_factory=list)
    strips: int = 1
    unit: int = 1

    @property
    def reach(self) -> set[tuple[int, bool]]:
        """All values and adjoints that it reads or writes, the numbers of scalar runs among them."""
        return {*self.uses, *(t[:2] for t in self.touches or ())}


class _Lines:
    """Lines that could run together, as they come."""

    def __init__(self, bytes_of: Sequence[int], large: Collection[int], users: Mapping[tuple[int, bool], int]) -> None:
        self.bytes_of, self.large, self.users = bytes_of, large, users
        self.lines: list[Line] = []
        self._items = 0
        self._touched: dict[tuple[int, bool], list[tuple[Touch, int]]] = {}

    def is_free_of(self, line: Line) -> bool:
        """Whether a line depends on none of these, and none of them on it."""
        if line.touches is None:
            return not self.lines
        return all(not (t.writes or u.writes) for t in line.touches for u, _ in self._met(t))

    def add(self, line: Line) -> None:
        """Add a line."""
        self.lines.append(line)
        for t in line.touches or ():
            self._touched.setdefault(t[:2], []).append((t, line.items))

    def takes(self, line: Line) -> bool:
        """Add a line if it can run together with all others; say whether it does."""
        items = math.gcd(self._items, line.items)
        if items < 2 or line.touches is None or not (self.lines or self.is_large(line)):
            return False
        for t in line.touches:
            for u, count in self._met(t):
                if (t.writes or u.writes) and not _apart(t.of_items(line.items // items), u.of_items(count // items)):
                    return False
        if self._bytes(items, [*self.lines, line]) > LARGE:
            return False
        self._items = items
        self.add(line)
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
        count = max(STRIP // self._bytes(items, lines), 1)
        unit = UNIT if count >= UNIT else 1
        strips = items // (count // unit * unit)
        if strips < 2:
            return lines
        kinds = {line.kind for line in lines}
        instructions = tuple(dict.fromkeys(k for line in lines for k in line.instructions))
        uses = frozenset(use for line in lines for use in line.uses)
        kind = kinds.pop() if len(kinds) == 1 else TURN
        row = "sweeps", "strips", 0
        passing = list(self._passing(items, lines))
        return [Line(row, kind, instructions, uses, items, None, None, lines, passing, strips, unit)]

    def _passing(self, items: int, lines: list[Line]) -> Iterator[tuple[int, bool, int]]:
        """Give what only these lines use, item by item: nobody will read it once its strip is done."""
        found: dict[tuple[int, bool], list[tuple[Touch, int]]] = {}
        for line in lines:
            for t in line.touches or ():
                found.setdefault(t[:2], []).append((t, line.items // items))
        for use, touches in found.items():
            steps = {t.step * count for t, count in touches}
            alone = self.users[use] == sum(use in line.reach for line in lines)
            if alone and len(steps) == 1 and 0 not in steps and not any(t.clears for t, _ in touches):
                yield *use, steps.pop()

    def _met(self, t: Touch) -> Sequence[tuple[Touch, int]]:
        return self._touched.get(t[:2], ())

    def _bytes(self, items: int, lines: Sequence[Line]) -> int:
        """Count the bytes of one of so many items: those that lines touch at it, but at no other."""
        steps: dict[tuple[int, bool], int] = {}
        for line in lines:
            for t in line.touches or ():
                steps[t[:2]] = max(t.step * (line.items // items), steps.get(t[:2], 0))
        return sum(step * self.bytes_of[s] for (s, _), step in steps.items())


def _apart(a: Touch, b: Touch) -> bool:
    """Whether what is touched at one item is touched at no other."""
    reach = max(a.low + a.size, b.low + b.size) - min(a.low, b.low)
    return a.step == b.step and 0 < reach <= a.step


def in_strips(
    lines: Sequence[Line], bytes_of: Sequence[int], large: Collection[int], lasting: Collection[tuple[int, bool]]
) -> Iterator[Line]:
    """Join lines that can run strip by strip; what lies between them comes before them, or after them where it must.

    `bytes_of` are those of a storage's element, `large` the large storages, `lasting` the values and adjoints that are
    there before all lines or read after them.
    """
    users = Counter(use for uses in [lasting, *(line.reach for line in lines)] for use in uses)
    joined, after = _Lines(bytes_of, large, users), _Lines(bytes_of, large, users)
    for line in lines:
        is_large, is_next = joined.is_large(line), after.is_free_of(line)
        free = is_next and joined.is_free_of(line)
        if is_next and (is_large or not free) and joined.takes(line):
            continue
        if free:
            yield line
        elif line.touches is not None and not is_large:
            after.add(line)
        else:
            yield from (*joined.close(), *after.lines)
            joined, after = _Lines(bytes_of, large, users), _Lines(bytes_of, large, users)
            if not joined.takes(line):
                yield line
    yield from (*joined.close(), *after.lines)
