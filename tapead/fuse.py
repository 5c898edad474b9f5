"""Fusion: consecutive elementwise rows over one index space become one row, in either sweep.

Every row costs a call and the setting up of its registers; a fused row pays once, and works on a tile while it is in
the cache. The instructions keep their order within a tile, so rows are joined only where going tile by tile gives
what going row by row does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .kernels.constants import ADD as ADD_TO
from .kernels.constants import DIRECT, READ, REGISTER_COUNT, TILE, TILE_COUNT

Row = tuple[str, str, int]


@dataclass
class Block:
    """A block row's parameters: entries are (register, buffer, kind, class, extra, *strides)."""

    dims: tuple[int, ...]
    loads: list[list[int]]
    targets: list[list[int]]  # what a forward block stores; the adjoints of a reverse block
    code: list[list[int]]

    @staticmethod
    def read(pool: Sequence[int], place: int, forward: bool) -> Block:
        """Read a block back from the pool."""
        _, ndim, loads, second, targets, sixth = pool[place : place + 6]
        at = place + 6 + ndim

        def take(number: int, width: int) -> list[list[int]]:
            nonlocal at
            at += number * width
            return [list(pool[k : k + width]) for k in range(at - number * width, at, width)]

        dims = tuple(pool[place + 6 : at])
        return Block(dims, take(loads, 5 + ndim), take(targets, 5 + ndim), take(second if forward else sixth, 6))

    def words(self, forward: bool) -> list[int]:
        """Write the block for the pool."""
        loads, targets, code = len(self.loads), len(self.targets), len(self.code)
        counts = (loads, code, targets, 0) if forward else (loads, 0, targets, code)
        rest = [word for entry in (*self.loads, *self.targets, *self.code) for word in entry]
        return [math.prod(self.dims), len(self.dims), *counts, *self.dims, *rest]


@dataclass
class Joiner:
    """Several blocks becoming one."""

    dims: tuple[int, ...]
    storage_of: Sequence[int]
    forward: bool
    block: Block = field(init=False)

    def __post_init__(self) -> None:
        self.block = Block(self.dims, [], [], [])
        self.count = 0
        self.registers: dict[tuple[int, bool], int] = {}  # (buffer, in place) -> register
        self.tiles, self.places = 0, TILE_COUNT  # next registers with a tile of their own; and in place
        self.loaded: set[tuple[int, bool]] = set()
        self.made: dict[int, list[int]] = {}  # buffer -> its entry among the targets
        self.direct: dict[int, set[int]] = {}  # storage -> buffers by which it is reached in place
        self.gathered: set[int] = set()  # storages that are read into tiles before the code runs
        self.late: dict[int, int] = {}  # storage -> how many targets reach it from a tile, after the code
        self.written: set[int] = set()

    def add(self, new: Block) -> bool:
        """Add a block after the others, unless tile by tile would then differ from one by one."""
        if not self.forward and any(e[4] not in (READ, ADD_TO) for e in new.targets):
            return False  # it takes adjoints away before the code runs: a row of its own
        if self.count and not self._fits(new):
            return False
        names: dict[int, int] = {}
        for entry in (*new.loads, *new.targets):
            names[entry[0]] = self._register(entry)
        for entry in new.loads:
            key, s = (entry[1], entry[2] == DIRECT), self.storage_of[entry[1]]
            if key not in self.loaded and not (self.forward and entry[1] in self.made):
                self.loaded.add(key)
                self.block.loads.append([names[entry[0]], *entry[1:]])
            self._reach(entry, s, self.gathered)
        for entry in new.targets:
            s = self.storage_of[entry[1]]
            if entry[1] not in self.made:
                self.made[entry[1]] = [names[entry[0]], *entry[1:]]
                self.block.targets.append(self.made[entry[1]])
            if entry[2] == DIRECT:
                self.direct.setdefault(s, set()).add(entry[1])
            else:
                self.late[s] = self.late.get(s, 0) + 1
            if self.forward or entry[4] == ADD_TO:
                self.written.add(s)
        for op, z, x, y, w, active in new.code:
            self.block.code.append([op, names[z], *(names.get(r, names[z]) for r in (x, y, w)), active])
        self.count += 1
        return True

    def _reach(self, entry: list[int], s: int, otherwise: set[int]) -> None:
        if entry[2] == DIRECT:
            self.direct.setdefault(s, set()).add(entry[1])
        else:
            otherwise.add(s)

    def _register(self, entry: list[int]) -> int:
        key = entry[1], entry[2] == DIRECT
        if key not in self.registers:
            if key[1]:
                self.registers[key], self.places = self.places, self.places + 1
            else:
                self.registers[key], self.tiles = self.tiles, self.tiles + 1
        return self.registers[key]

    def _fits(self, new: Block) -> bool:
        """Whether the block can follow: enough registers, and no memory that is reached in two ways."""
        entries = [*new.loads, *new.targets]
        fresh = {(e[1], e[2] == DIRECT) for e in entries} - self.registers.keys()
        direct = sum(in_place for _, in_place in fresh)
        if self.places + direct > REGISTER_COUNT or self.tiles + len(fresh) - direct > TILE_COUNT:
            return False
        kinds: dict[int, bool] = {}
        if any(kinds.setdefault(e[0], e[2] == DIRECT) != (e[2] == DIRECT) for e in entries):
            return False
        of = self.storage_of
        for e in new.loads:
            s = of[e[1]]
            if self.forward and (s in self.late or (e[2] != DIRECT and s in self.written)):
                return False
            if self._spans_tiles(s, e, s in self.written):
                return False
        for e in new.targets:
            s, before = of[e[1]], self.made.get(e[1])
            in_place = e[2] == DIRECT
            if before is not None and (self.forward or not in_place or before[2] != DIRECT):
                return False
            if s in self.late or (not in_place and s in self.direct):
                return False
            writes = self.forward or e[4] == ADD_TO
            if self.forward and s in self.gathered:
                return False
            if self._spans_tiles(s, e, writes or s in self.written):
                return False
        return True

    def _spans_tiles(self, s: int, entry: list[int], written: bool) -> bool:
        """Whether memory that is written would be reached by two views, which tiles of them need not share."""
        return written and math.prod(self.dims) > TILE and bool(self.direct.get(s, set()) - {entry[1]})


def fuse(rows: Sequence[Row], pool: list[int], storage_of: Sequence[int], forward: bool) -> list[tuple[Row, int]]:
    """Give the rows after fusion, each with the place among the old ones of the first that it does."""
    wanted = "forward" if forward else "reverse"
    result: list[tuple[Row, int]] = []
    k = 0
    while k < len(rows):
        group, direction, place = rows[k]
        first, joiner = k, None
        k += 1
        if group.startswith("blocks_") and direction == wanted:
            block = Block.read(pool, place, forward)
            joiner = Joiner(block.dims, storage_of, forward)
            alone = not joiner.add(block)
            while not alone and k < len(rows) and rows[k][:2] == (group, wanted):
                block = Block.read(pool, rows[k][2], forward)
                if block.dims != joiner.dims or not joiner.add(block):
                    break
                k += 1
        if joiner is not None and joiner.count > 1:
            place = len(pool)
            pool.extend(joiner.block.words(forward))
        result.append(((group, direction, place), first))
    return result
