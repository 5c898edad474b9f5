"""Tiles: the code of a row that goes over its index space tile by tile.

It is a list of small vector instructions, its lines, on registers: a register is a tile of numbers in the first-level
cache, or a stretch of a buffer in place.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from .grouping import Key
from .kernels.constants import (
    ADD,
    ADJOINT,
    ASK,
    ASKED,
    DIRECT,
    F4,
    LINE,
    PACK,
    POOL_REGISTERS,
    POOL_TILES,
    PRIVATE,
    SPLAT,
    TAKE,
    TILE,
    TILE_BYTES,
)
from .kernels.op import TILE_PAIRS, is_cheap, pair_code, partial_code
from .kernels.table import OPS, Elementwise
from .shape import collapse
from .splitting import Access, Split, split
from .tape import row_major

#: bytes in place from which on a block asks for them ahead of time: fewer may well be in a cache
FAR = 1 << 23

COPY = OPS["copy"].code

_ELEMENTWISE = {op.name: op for op in OPS.values() if isinstance(op, Elementwise)}
_ADD_COPY = partial_code(_ELEMENTWISE["copy"], 0, True)

#: ops of two lines, and the operand of the second that the first makes -> opcode of both; a square is a product, too
_PAIRED = {
    (OPS[name].code, OPS[second].code, place): pair_code(k)
    for k, (first, second, operand) in enumerate(TILE_PAIRS)
    for name in ((first, "square") if first == "multiply" else (first,))
    for place in ((0, 1) if second in ("add", "multiply") else (operand,))
}

#: opcodes of partials that have a twin (the next opcode) which adds
ADDING = {
    partial_code(op, k, False) for op in _ELEMENTWISE.values() for k in range(len(op.partials)) if is_cheap(op, k)
}


@dataclass
class Entry:
    """How a register reaches a buffer: before the code (a load), after it, or in place."""

    register: int
    buffer: int
    key: Key
    kind: int
    mode: int


@dataclass
class Code:
    """A row being written: registers are numbered as they come, and placed at the end.

    `space` is the index space (no axes of one element), `number` its class.
    """

    space: tuple[int, ...]
    number: int
    loads: list[Entry] = field(default_factory=list)
    stores: list[Entry] = field(default_factory=list)
    lines: list[list[int]] = field(default_factory=list)  # op, z, x, y, w, v, d: registers, -1 where there is none
    uniform: list[bool] = field(default_factory=list)  # register -> the same number everywhere, in every tile
    direct: dict[int, Entry] = field(default_factory=dict)  # registers that are buffers in place
    entries: list[Entry] = field(default_factory=list)  # of both kinds, those that the words speak of
    tile_bytes: int = 0
    register_count: int = 0
    split: Split = field(default_factory=Split)  # how threads can share the row

    def __post_init__(self) -> None:
        self.contiguous = row_major(self.space)
        self._known: dict[tuple[int, ...], int] = {}

    @property
    def size(self) -> int:
        """The number of elements of the index space."""
        return math.prod(self.space)

    def new(self, uniform: bool) -> int:
        """Number a new register."""
        self.uniform.append(uniform)
        return len(self.uniform) - 1

    def is_direct(self, key: Key) -> bool:
        """Whether elements can be reached in place."""
        return key[3] == self.number and key[2] == self.contiguous and bool(self.space)

    def load(self, buffer: int, key: Key, mode: int = 0) -> int:
        """Give the register of a buffer's elements."""
        if mode & TAKE:
            kind = PACK
        elif self.is_direct(key):
            kind = DIRECT
        else:
            kind = PACK if any(key[2]) else SPLAT
        register = self.new(kind == SPLAT)
        entry = Entry(register, buffer, key, kind, mode)
        self.loads.append(entry)
        if kind == DIRECT:
            self.direct[register] = entry
        return register

    def run(self, op: int, *operands: int) -> int:
        """Write an instruction that makes a new register."""
        operands += (-1,) * (5 - len(operands))
        register = self.new(all(self.uniform[r] for r in operands if r >= 0))
        self.lines.append([op, register, *operands])
        return register

    def value(self, op: int, *operands: int) -> int:
        """Give the register of an op's value, which is computed once."""
        known = self._known.get((op, *operands))
        if known is None:
            known = self._known[op, *operands] = self.run(op, *operands)
        return known

    def store(self, register: int, buffer: int, key: Key, mode: int, add: bool, sole: bool = True) -> None:
        """Store (or add) a register to a buffer, in place where that can be; `sole`: it goes nowhere else."""
        if not self.is_direct(key):
            kind = (ADD if any(key[2]) else SPLAT) if add else PACK
            self.stores.append(Entry(register, buffer, key, kind, mode))
            return
        lines = [] if register in self.direct or self.uniform[register] else self._makers(register)
        if lines and not add:
            target = register
        elif lines and sole and self._can_add(register, lines[0]):
            lines[0][0] += 1  # the twin that adds
            target = register
        else:
            target = self.new(False)
            op = [_ADD_COPY, target, -1, -1, -1, -1, register] if add else [COPY, target, register]
            self.lines.append(op + [-1] * (7 - len(op)))
        entry = Entry(target, buffer, key, DIRECT, mode)
        self.stores.append(entry)
        self.direct[target] = entry

    def _makers(self, register: int) -> list[list[int]]:
        return [line for line in self.lines if line[1] == register]

    def _can_add(self, register: int, line: list[int]) -> bool:
        """Whether what a register's first line makes can go to memory at once: a partial with a twin, read by nobody."""
        if line[0] not in ADDING or any(entry.register == register for entry in self.stores):
            return False
        return not any(register in other[2:] for other in self.lines)

    # ---- the end -------------------------------------------------------------------------------------------------------

    def words(self) -> list[int]:
        """Write the parameters of the row: dead lines go, registers get places."""
        lines = self._paired(self._live())
        once = [line for line in lines if self.uniform[line[1]]]
        rest = [line for line in lines if not self.uniform[line[1]]]
        used = {r for line in lines for r in line[1:]} | {entry.register for entry in self.stores}
        loads = [entry for entry in self.loads if entry.register in used or entry.mode & TAKE]
        self.entries = [*loads, *self.stores]
        place, tiles = self._places(once, rest, loads)
        walked = [e for e in (*loads, *self.stores) if e.kind in (PACK, ADD)]
        dims, steps = collapse(self.space, [e.key[2] for e in walked]) if walked else ([self.size], [])
        strides = {id(e): own for e, own in zip(walked, steps, strict=True)}
        item = 4 if self.number == F4 else 8
        length = _tile_length(tiles, item, self.size)
        self.tile_bytes = (tiles + 1) * length * item
        self.register_count = tiles + 1 + len(self.direct)
        if self.tile_bytes <= POOL_TILES and self.register_count <= POOL_REGISTERS:
            accesses = [Access(e.key, e.kind, e.mode, k >= len(loads)) for k, e in enumerate(self.entries)]
            self.split, private = split(self.space, length, accesses)
            for i in private:
                self.entries[i].mode |= PRIVATE

        def entry_words(e: Entry) -> list[int]:
            return [place[e.register], e.buffer, e.kind, e.key[3], e.mode, *strides.get(id(e), [0] * len(dims))]

        every = [[line[0], *(place.get(r, tiles) for r in line[1:])] for line in rest]
        every = _between(every, [[op, place[r], *[tiles] * 5] for op, r in self._asks(length, item)])
        words = [self.size, len(dims), length, len(loads), len(self.stores), len(once), len(every), tiles + 1]
        words += [*self.split, *dims]
        for e in (*loads, *self.stores):
            words += entry_words(e)
        for line in once:
            words += [line[0], *(place.get(r, tiles) for r in line[1:])]
        return words + [word for line in every for word in line]

    def _asks(self, length: int, item: int) -> list[tuple[int, int]]:
        """Give opcodes and registers that ask for the next tile's stretches of the buffers in place, where they are far.

        Memory answers while the tile is worked on, which takes far longer than reading it.
        """
        found: dict[tuple[int, int], int] = {}  # memory -> the first register that is in it
        for e in self.entries:
            if e.kind == DIRECT:
                found.setdefault((e.key[0], e.mode & ADJOINT), e.register)
        if len(found) * self.size * item < FAR:
            return []
        ahead = length * item // LINE
        return [(ASK + line, register) for register in found.values() for line in range(ahead, 2 * ahead, ASKED)]

    def _live(self) -> list[list[int]]:
        wanted = {entry.register for entry in self.stores}
        kept = []
        for line in reversed(self.lines):
            if line[1] in wanted:
                kept.append(line)
                wanted.update(r for r in line[2:] if r >= 0)
        return kept[::-1]

    def _paired(self, lines: list[list[int]]) -> list[list[int]]:
        """Do two lines at once where only the second reads what the first makes: it is neither written nor read."""
        made = Counter(line[1] for line in lines)
        read = Counter([r for line in lines for r in line[2:]] + [entry.register for entry in self.stores])
        passed: dict[int, int] = {}  # register from one line to another -> the place of the first among those kept
        kept: list[list[int]] = []
        for line in lines:
            z = line[1]
            for operand in range(2):
                k = passed.get(line[2 + operand], -1)
                code = _PAIRED.get((kept[k][0], line[0], operand)) if k >= 0 else None
                if code is not None and not self._changed(kept[k], [*kept[k + 1 :], line]):
                    x, y = kept[k][2:4]
                    line = [code, z, x, x if y < 0 else y, line[3 - operand], -1, -1]
                    kept[k] = []
                    break
            if made[z] == read[z] == 1 and not self.uniform[z]:
                passed[z] = len(kept)
            kept.append(line)
        return [line for line in kept if line]

    def _changed(self, line: list[int], later: list[list[int]]) -> bool:
        """Whether what a line reads is written later on, under the same number or as the same buffer in place."""

        def places(registers: list[int]) -> set[tuple[int, ...]]:
            entries = [self.direct[r] for r in registers if r in self.direct]
            return {(e.key[0], e.mode & ADJOINT) for e in entries} | {(r,) for r in registers if r >= 0}

        return not places(line[2:]).isdisjoint(places([other[1] for other in later if other]))

    def _places(self, once: list[list[int]], rest: list[list[int]], loads: list[Entry]) -> tuple[dict[int, int], int]:
        """Give each register a tile, as few as will do; the last tile but one past them stands for none."""
        last: dict[int, int] = {}
        for k, line in enumerate(rest):
            for r in line[1:]:
                last[r] = k
        end = len(rest)
        for entry in self.stores:
            last[entry.register] = end
        place: dict[int, int] = {}
        free: list[int] = []
        count = 0

        def take(register: int) -> None:
            nonlocal count
            if register in self.direct or register in place:
                return
            if free:
                place[register] = free.pop()
            else:
                place[register] = count
                count += 1

        for register in [*(e.register for e in loads), *(line[1] for line in once)]:
            take(register)
        for k, line in enumerate(rest):
            take(line[1])
            for r in set(line[1:]):
                if r >= 0 and last[r] == k and not self.uniform[r] and r in place:
                    free.append(place[r])
        for n, register in enumerate(self.direct):
            place[register] = count + 1 + n
        return place, count


def _between(lines: list[list[int]], others: list[list[int]]) -> list[list[int]]:
    """Spread other lines evenly between lines."""
    made = []
    for k, line in enumerate(lines):
        made += [line, *others[k * len(others) // len(lines) : (k + 1) * len(others) // len(lines)]]
    return made


def _tile_length(tiles: int, item: int, n: int) -> int:
    """Choose how many elements a tile has: all tiles together should stay in the first-level cache."""
    fitting = max(TILE_BYTES // (max(tiles, 1) * item) // 64 * 64, 64)
    return int(max(min(fitting, TILE * 8 // item, -(-n // 8) * 8), 8))
