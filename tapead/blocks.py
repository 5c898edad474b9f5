"""Blocks: a group of elementwise instructions written as one row, the code of tiles.

The lines of this code make values of ops, and partials (what an operand's adjoint receives). It is written in three
ways: forward, to store what others read; in reverse, recomputing in the tile whatever the partials read that was not
stored; or both at a stroke, where the adjoints are known before the values.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from .grouping import Key, index_space, reach
from .kernels.constants import ADD, ADJOINT, CLEAR, DIRECT, SPLAT
from .kernels.op import partial_code
from .kernels.table import OPS, Elementwise, Op, Structural
from .tape import Wengert
from .tiles import ADDING, Code, Entry

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
        if former is not None and former[1] and opcode in ADDING and (uniform or not code.uniform[former[0]]):
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
