"""Splitting: how a block's row over a large index space can be shared among threads, if it can.

Each thread does ranges of the index space. Where two ranges might write to one element, they must not do so at a time:
a small target is added up by each range for itself, and ranges of whole rows keep a column's targets apart. Where views
of one memory overlap, the end of a range reaches into the next one, and is done after all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from .grouping import Key
from .kernels.constants import ADD, ADJOINT, DIRECT, F4, POOL_SUMS, SPLAT, TAKE

#: a target has this many elements at most, and the index space so many times more, to be added up by each range for itself
SMALL, TIMES = 4096, 64


class Split(NamedTuple):
    """What ranges are multiples of (0: the row is not shared), how far their ends reach, the bytes of sums of their own."""

    unit: int = 0
    overlap: int = 0
    sum_bytes: int = 0


class Access(NamedTuple):
    """How a block's entry reaches a buffer, as far as sharing goes."""

    key: Key
    kind: int
    mode: int
    stores: bool

    @property
    def writes(self) -> bool:
        """Whether it writes to memory."""
        return self.stores or bool(self.mode & TAKE)

    @property
    def adds(self) -> bool:
        """Whether it may be one of several that add to the same elements."""
        return self.stores and bool(self.mode & ADJOINT) and self.kind in (DIRECT, ADD)


def split(space: Sequence[int], length: int, accesses: Sequence[Access]) -> tuple[Split, list[int]]:
    """Find how a row with tiles of some length can be shared; give the accesses that each range adds up for itself."""
    n = math.prod(space)
    unit, overlap, sum_bytes = length, 0, 0
    private: list[int] = []
    for i, access in enumerate(accesses):
        strides = access.key[2]
        if not access.writes or _is_injective(space, strides):
            continue
        if not access.stores or access.kind not in (ADD, SPLAT):
            return Split(), []
        size = 1 + sum((dim - 1) * abs(stride) for dim, stride in zip(space, strides, strict=True))
        rows = _repeats(space, strides)
        if size <= SMALL and size * TIMES <= n:
            private.append(i)
            sum_bytes += -(-size * (4 if access.key[3] == F4 else 8) // 64) * 64
        elif rows:
            unit = math.lcm(rows, 1 if unit == length else unit)
        else:
            return Split(), []
    for a, b in combinations(range(len(accesses)), 2):
        reach = _reach(space, accesses[a], accesses[b], a in private, b in private)
        if reach is None:
            return Split(), []
        overlap = max(overlap, reach)
    if sum_bytes > POOL_SUMS:
        return Split(), []
    return Split(unit, overlap, sum_bytes), private


def _reach(space: Sequence[int], a: Access, b: Access, a_private: bool, b_private: bool) -> int | None:
    """Say how many elements later one access may touch what the other does; None where that is not known."""
    if a.key[0] != b.key[0] or (a.mode ^ b.mode) & ADJOINT or not (a.writes or b.writes):
        return 0
    if a.stores and b.stores and (a_private or b_private):
        return 0
    first, second = _interval(space, a.key), _interval(space, b.key)
    if first[1] < second[0] or second[1] < first[0]:
        return 0
    if a_private or b_private or a.key[2] != b.key[2]:
        return None
    distance = abs(a.key[1] - b.key[1])
    if distance == 0:
        return 0 if _is_injective(space, a.key[2]) else None
    return distance if a.adds and b.adds and _is_increasing(space, a.key[2]) else None


def _interval(space: Sequence[int], key: Key) -> tuple[int, int]:
    """Give the first and the last element of a storage that a key reaches."""
    steps = [(dim - 1) * stride for dim, stride in zip(space, key[2], strict=True)]
    return key[1] + sum(step for step in steps if step < 0), key[1] + sum(step for step in steps if step > 0)


def _is_injective(space: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether no two elements of an index space are in the same place."""
    past = 1
    for stride, dim in sorted((abs(stride), dim) for stride, dim in zip(strides, space, strict=True)):
        if stride < past:
            return False
        past += stride * (dim - 1)
    return True


def _is_increasing(space: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether each element of an index space lies behind all before it."""
    past = 1
    for stride, dim in zip(reversed(strides), reversed(space), strict=True):
        if stride < past:
            return False
        past += stride * (dim - 1)
    return True


def _repeats(space: Sequence[int], strides: Sequence[int]) -> int:
    """Count the elements in a row that share a place, where rows do not; 0 where they do."""
    axes = len(space)
    while axes and strides[axes - 1] == 0:
        axes -= 1
    return math.prod(space[axes:]) if axes and _is_injective(space[:axes], strides[:axes]) else 0
