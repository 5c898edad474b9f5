"""Memory: where things lie in an arena, when each is needed for a stretch of rows only."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping


class Arena:
    """Hands out stretches of bytes, and takes them back: the smallest free one that will do goes first."""

    def __init__(self, start: int, align: int) -> None:
        self.end, self.align = start, align
        self._free: list[tuple[int, int]] = []  # (start, size), in order

    def take(self, size: int) -> int:
        """Give the place of a new stretch."""
        size += -size % self.align
        fitting = [(free, start) for start, free in self._free if free >= size]
        if not fitting:
            start = self.end + -self.end % self.align
            if self._free and sum(self._free[-1]) == start:  # the last free stretch grows
                start = self._free.pop()[0]
            self.end = start + size
            return start
        free, start = min(fitting)
        i = bisect_left(self._free, (start, free))
        self._free[i : i + 1] = [(start + size, free - size)] if free > size else []
        return start

    def give(self, start: int, size: int) -> None:
        """Take a stretch back."""
        size += -size % self.align
        i = bisect_left(self._free, (start, 0))
        if i < len(self._free) and self._free[i][0] == start + size:
            size += self._free.pop(i)[1]
        if i and sum(self._free[i - 1]) == start:
            before = self._free.pop(i - 1)
            start, size = before[0], before[1] + size
            i -= 1
        self._free.insert(i, (start, size))


def place(
    sizes: Mapping[int, int], spans: Mapping[int, tuple[int, int]], start: int, reuse: bool
) -> tuple[dict[int, int], int]:
    """Place things of some sizes, each needed from one row to another; give the places and the end.

    Two that are needed in the same row never share memory.
    """
    arena = Arena(start, 64)
    births: dict[int, list[int]] = {}
    deaths: dict[int, list[int]] = {}
    for thing, (first, last) in spans.items():
        births.setdefault(first, []).append(thing)
        deaths.setdefault(last, []).append(thing)
    places: dict[int, int] = {}
    for row in sorted(births.keys() | deaths.keys()):
        for thing in sorted(births.get(row, ()), key=lambda thing: -sizes[thing]):
            places[thing] = arena.take(sizes[thing])
        if reuse:
            for thing in deaths.get(row, ()):
                arena.give(places[thing], sizes[thing])
    return places, arena.end
