"""Blocks: a group of elementwise instructions written as one row, the code of tiles.

The code of a block is a list of small vector instructions on registers: values of ops, and partials (what an operand's
adjoint receives). It is written here in three ways: forward, to store what others read; in reverse, recomputing in the
tile whatever the partials read that was not stored; or both at a stroke, where the adjoints are known before the values.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from .grouping import Key, index_space, reach
from .kernels.constants import (
    ADD,
    ADJOINT,
    ASK,
    ASKED,
    CLEAR,
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
from .kernels.table import OPS, Elementwise, Op, Structural
from .shape import collapse
from .splitting import Access, Split, split
from .tape import Wengert, row_major

#: bytes in place from which on a block asks for them ahead of time: fewer may well be in a cache
FAR = 1 << 23

COPY = OPS["copy"].code
ADD_OP = OPS["add"].code

#: functions in an expression that make recomputing it dearer than reading it back
_LIGHT = {"where", "abs", "maximum", "minimum", "fmax", "fmin", "sign", "copysign", "sqrt", "floor", "ceil", "rint", "trunc", "isnan", "isfinite", "isinf", "signbit"}  # fmt: skip


def reads(op: Elementwise, operand: int) -> set[str]:
    """Name what the partial of an operand reads."""
    found = _READS.get((op.code, operand))
    if found is None:
        partial = op.partials[operand] or "0.0"
        names = {node.id for node in ast.walk(ast.parse(partial)) if isinstance(node, ast.Name)}
        found = _READS[op.code, operand] = names & set("xywz")
    return found


def is_dear(op: object) -> bool:
    """Whether an op's value costs much more than reading one from memory."""
    if not isinstance(op, Elementwise):
        return False
    found = _DEAR.get(op.code)
    if found is None:
        calls = (node.func for node in ast.walk(ast.parse(op.value)) if isinstance(node, ast.Call))
        found = _DEAR[op.code] = any(isinstance(f, ast.Name) and f.id not in _LIGHT for f in calls)
    return found


_READS: dict[tuple[int, int], set[str]] = {}
_READ_BACK: dict[int, list[tuple[int, list[int]]]] = {}
_CARRIERS: dict[int, tuple[int, ...]] = {}
_DEAR: dict[int, bool] = {}


def carries(op: object, k: int) -> bool:
    """Whether a derivative flows through an op's k-th operand."""
    if isinstance(op, Elementwise):
        return op.partials[k] is not None
    return isinstance(op, Structural) and k in op.active


def carriers(op: Op) -> tuple[int, ...]:
    """Name the operands of an op through which a derivative flows."""
    found = _CARRIERS.get(op.code)
    if found is None:
        places = range(len(op.partials)) if isinstance(op, Elementwise) else getattr(op, "active", ())
        found = _CARRIERS[op.code] = tuple(k for k in places if carries(op, k))
    return found


def read_back(op: Elementwise) -> list[tuple[int, list[int]]]:
    """Give the operands whose partials read values, and which: places among the operands, -1 for the result."""
    found = _READ_BACK.get(op.code)
    if found is None:
        named = [(k, ["xyw".find(name) for name in reads(op, k)]) for k in carriers(op)]
        found = _READ_BACK[op.code] = [(k, places) for k, places in named if places]
    return found


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
    """A block's row being written: registers are numbered as they come, and placed at the end.

    `space` is the index space (no axes of one element), `number` its class; `buffers` gives a buffer at a key's place.
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
        if line[0] not in _ADDING or any(entry.register == register for entry in self.stores):
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
_ADDING = {
    partial_code(op, k, False) for op in _ELEMENTWISE.values() for k in range(len(op.partials)) if is_cheap(op, k)
}


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


class Block:
    """Writes a group's instructions as code, forward and in reverse.

    `stored` are the storages that the forward code leaves in memory, `active` those that have adjoints, `fed` those
    whose adjoints others add to.
    """

    def __init__(
        self,
        tape: Wengert,
        instructions: Sequence[int],
        space: tuple[int, ...],
        number: int,
        stored: Collection[int],
        active: Collection[int],
        fed: Collection[int],
    ) -> None:
        self.tape, self.instructions = tape, instructions
        self.stored, self.active, self.fed = stored, active, fed
        self.code = Code(space, number)
        self._made: dict[int, int] = {}  # storage that the block makes -> instruction
        self._registers: dict[Key, int] = {}
        self._at_once = False
        for k in instructions:
            if isinstance(tape.ops[k], Elementwise):
                self._made[tape.storage_of[tape.result_buffers[k][0]]] = k

    def _operands(self, k: int) -> list[tuple[int, Key]]:
        shape = index_space(self.tape, k)
        return [(b, reach(self.tape, b, shape)) for b in self.tape.operand_buffers[k]]

    def _result(self, k: int) -> tuple[int, Key]:
        b = self.tape.result_buffers[k][0]
        return b, reach(self.tape, b, index_space(self.tape, k))

    def _inside(self, key: Key) -> int | None:
        """Give the instruction of the block that makes the elements of a key, if there is one."""
        return self._made.get(key[0])

    def _value(self, buffer: int, key: Key) -> int:
        """Give the register of a value: computed before, computed now, or loaded."""
        register = self._registers.get(key)
        if register is not None:
            return register
        k = self._inside(key)
        if k is None or (key[0] in self.stored and not self._at_once):
            register = self.code.load(buffer, key)
        else:
            register = self._compute(k)
        self._registers[key] = register
        return register

    def _compute(self, k: int) -> int:
        op = self.tape.ops[k]
        operands = [self._value(b, key) for b, key in self._operands(k)]
        plain = op.name == "copy" and self._same_class(k)
        return operands[0] if plain else self.code.value(op.code, *operands)

    def _same_class(self, k: int) -> bool:
        (_, x), (_, z) = self._operands(k)[0], self._result(k)
        return x[3] == z[3] == self.code.number

    def forward(self) -> None:
        """Compute every instruction, and store what is read outside."""
        self._at_once = True
        for k in self.instructions:
            buffer, key = self._result(k)
            if self.tape.ops[k].name == "sum":
                register = self._value(*self._operands(k)[0])
                size = math.prod(self.tape.buffers[buffer].shape)
                code = self.code
                kind = ADD if any(key[2]) else SPLAT
                code.stores.append(Entry(register, buffer, key, kind, CLEAR * size))
                continue
            register = self._compute(k)
            self._registers[key] = register
        for k in self.instructions:
            buffer, key = self._result(k)
            if self.tape.ops[k].name != "sum" and key[0] in self.stored:
                self.code.store(self._registers[key], buffer, key, 0, False)
                if self.code.stores[-1].kind == DIRECT:
                    self._registers[key] = self.code.stores[-1].register

    def reverse(self, first: Callable[[Key], bool]) -> None:
        """Sweep back over the instructions; `first` tells whether an operand's adjoint is stored, not added to."""
        code = self.code
        adjoints: dict[Key, tuple[int, bool]] = {}  # -> register, and whether it may be added to
        outside: dict[Key, int] = {}
        for k in reversed(self.instructions):
            op, operands, (buffer, key) = self.tape.ops[k], self._operands(k), self._result(k)
            if key[0] not in self.active:
                continue
            adjoint = self._adjoint(op.name == "sum", buffer, key, adjoints)
            if adjoint is None:
                continue
            for i, (b, x) in enumerate(operands):
                if not carries(op, i) or x[0] not in self.active:
                    continue
                if self._inside(x) is None:
                    outside.setdefault(x, b)
                self._contribute(k, i, x, adjoint, adjoints)
        going = Counter(adjoints[x][0] for x in outside)
        for x, b in outside.items():
            register = adjoints[x][0]
            code.store(register, b, x, ADJOINT, not first(x), going[register] == 1)

    def _adjoint(self, is_sum: bool, buffer: int, key: Key, adjoints: dict[Key, tuple[int, bool]]) -> int | None:
        """Give the register of a result's whole adjoint: from outside, from within the block, or both."""
        inner = adjoints.get(key)
        if not is_sum and key[0] not in self.fed:
            return None if inner is None else inner[0]
        outer = self.code.load(buffer, key, ADJOINT)
        return outer if inner is None else self.code.run(ADD_OP, outer, inner[0])

    def _contribute(self, k: int, i: int, x: Key, d: int, adjoints: dict[Key, tuple[int, bool]]) -> None:
        """Add what an instruction's i-th operand receives to its adjoint."""
        code, op, former = self.code, self.tape.ops[k], adjoints.get(x)
        if not isinstance(op, Elementwise) or op.partials[i] == "1.0":  # the adjoint itself
            adjoints[x] = (d, False) if former is None else (code.run(ADD_OP, former[0], d), True)
            return
        needed = reads(op, i)
        operands = self._operands(k)
        names = dict(zip("xyw", operands, strict=False)) | {"z": self._result(k)}
        registers = [self._value(*names[name]) if name in needed else -1 for name in "xywz"]
        opcode = partial_code(op, i, False)
        uniform = code.uniform[d] and all(code.uniform[r] for r in registers if r >= 0)
        if former is not None and former[1] and opcode in _ADDING and (uniform or not code.uniform[former[0]]):
            code.lines.append([opcode + 1, former[0], *registers, d])
            return
        made = code.run(opcode, *registers, d)
        adjoints[x] = (made if former is None else code.run(ADD_OP, former[0], made)), True

    def targets(self) -> set[Key]:
        """Give what the reverse sweep adds adjoints to outside of the block, each way of reaching it once."""
        found = set()
        for k in self.instructions:
            if self._result(k)[1][0] in self.active:
                for i, (_, x) in enumerate(self._operands(k)):
                    if carries(self.tape.ops[k], i) and x[0] in self.active and self._inside(x) is None:
                        found.add(x)
        return found

    def needs(self) -> set[int]:
        """Give the storages of this block whose values its reverse code reads, directly or to compute others."""
        waiting, found = [], set()
        for k in self.instructions:
            op = self.tape.ops[k]
            if not isinstance(op, Elementwise) or self._result(k)[1][0] not in self.active:
                continue
            operands = self._operands(k)
            for i, (_, x) in enumerate(operands):
                if carries(op, i) and x[0] in self.active:
                    names = dict(zip("xyw", operands, strict=False)) | {"z": self._result(k)}
                    waiting += [names[name][1][0] for name in reads(op, i)]
        while waiting:
            s = waiting.pop()
            if s in found:
                continue
            found.add(s)
            k = self._made.get(s, -1)
            if k >= 0 and s not in self.stored:
                waiting += [x[0] for _, x in self._operands(k)]
        return found
