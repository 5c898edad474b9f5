"""Tape -> program: what is needed, where it lies, and the parameters of every kernel."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .fuse import Row, fuse
from .kernels.constants import (
    ADD,
    B1,
    DIRECT,
    F4,
    F8,
    I8,
    PACK,
    READ,
    SPLAT,
    TAKE,
)
from .kernels.library import structural_kernels
from .kernels.table import OPS, Elementwise, Layout, Structural
from .scalars import ANY, Scalars, computed_class
from .shape import broadcast_strides, collapse
from .tape import CONSTANT, INPUT, STORED, Wengert, row_major

COPY = OPS["copy"].code
ITEM = (8, 4, 8, 1)
NAMES = ("f8", "f4", "i8", "b1")
X, Y, W, Z = range(4)  # the registers of a block of one instruction

#: the passes over a plan that can be switched off; results must not depend on them
PASSES = frozenset({"fuse"})


@dataclass
class Plan:
    """A planned tape: rows, the parameter pool, and the place of every storage; what a program is made of."""

    forward: list[Row] = field(default_factory=list)
    reverse: list[Row] = field(default_factory=list)
    pool: list[int] = field(default_factory=list)
    instructions: list[int] = field(default_factory=list)  # the tape's instruction behind each forward row
    value_places: dict[int, int] = field(default_factory=dict)  # storage -> byte in the arena of values
    adjoint_places: dict[int, int] = field(default_factory=dict)
    presets: list[tuple[int, Any]] = field(default_factory=list)  # (byte, array) that never changes in the arena
    value_bytes: int = 0
    adjoint_bytes: int = 0
    slabs: dict[int, int] = field(default_factory=dict)  # number class -> buffer index of its slab
    slab_bytes: dict[int, int] = field(default_factory=dict)
    scratch_bytes: int = 0
    needs_functions: bool = False
    work: int = 0  # elements touched in a forward sweep


def _names(op: Elementwise, active: int) -> set[str]:
    """Name what the partials of the active operands read."""
    import ast

    found: set[str] = set()
    for bit, partial in enumerate(op.partials):
        if partial is not None and active >> bit & 1:
            found |= {node.id for node in ast.walk(ast.parse(partial)) if isinstance(node, ast.Name)}
    return found & set("xywz")


_READS: dict[tuple[int, int], set[str]] = {}


def reads(op: Elementwise, active: int) -> set[str]:
    key = (op.code, active)
    if key not in _READS:
        _READS[key] = _names(op, active)
    return _READS[key]


def carries(op: Any, k: int) -> bool:
    """Whether a derivative flows through an op's k-th operand."""
    if isinstance(op, Elementwise):
        return op.partials[k] is not None
    return isinstance(op, Structural) and k in op.active


class Planner:
    """Makes the plan of a tape, for outputs (buffers), one of which may be differentiated by inputs (storages)."""

    def __init__(
        self,
        tape: Wengert,
        outputs: Sequence[int],
        target: int | None,
        wrt: Sequence[int],
        passes: Collection[str] | None = None,
    ) -> None:
        self.passes = PASSES if passes is None else passes
        self.tape, self.plan = tape, Plan()
        self.storage_of = [b.storage for b in tape.buffers]
        self.needed, self.touched = self._needed([*outputs, *([] if target is None else [target])])
        self.adjoints = self._adjoints(target, wrt)
        self.kept = {self.storage_of[b] for b in outputs} | ({self.storage_of[target]} if target is not None else set())
        seeded = None if target is None else self.storage_of[target]
        self.scalars = Scalars(tape, self.needed, self.adjoints, self.kept, seeded)

    # ---- what is needed ------------------------------------------------------------------------------------------------

    def _needed(self, outputs: Sequence[int]) -> tuple[list[int], set[int]]:
        """Give the instructions that outputs or guards depend on, in order (dead code goes), and their storages."""
        of, operands = self.storage_of, self.tape.operand_buffers
        wanted = {of[b] for b in outputs}
        kept = []
        columns = zip(self.tape.ops, operands, self.tape.result_buffers, strict=True)
        for k, (op, read, made) in reversed(list(enumerate(columns))):
            if not made or of[made[0]] in wanted or op.name == "nonzero" or any(of[b] in wanted for b in made[1:]):
                kept.append(k)
                for b in read:
                    wanted.add(of[b])
                for b in made:
                    wanted.add(of[b])
        return kept[::-1], wanted

    def _adjoints(self, target: int | None, wrt: Sequence[int]) -> set[int]:
        """Give the storages that have an adjoint: reached from what is differentiated by, and reaching the target."""
        if target is None:
            return set(wrt)
        tape, of = self.tape, self.storage_of
        # more than one round only where memory is written to after it was read
        rewrites = any(tape.ops[k].name in ("assign", "scatter") for k in self.needed)
        operands, results = tape.operand_buffers, tape.result_buffers
        reached = set(wrt)
        changed = True
        while changed:
            before = len(reached)
            for k in self.needed:
                for i, b in enumerate(operands[k]):
                    if of[b] in reached and carries(tape.ops[k], i):
                        reached.update([of[b] for b in results[k] if tape.buffers[b].dtype.kind == "f"])
                        break
            changed = rewrites and len(reached) != before
        leading = {of[target]}
        changed = True
        while changed:
            before = len(leading)
            for k in reversed(self.needed):
                for made in results[k]:
                    if of[made] in leading and of[made] in reached:
                        for i, b in enumerate(operands[k]):
                            if of[b] in reached and carries(tape.ops[k], i):
                                leading.add(of[b])
                        break
            changed = rewrites and len(leading) != before
        return (reached & leading) | set(wrt)

    # ---- where things lie ----------------------------------------------------------------------------------------------

    def make(self) -> Plan:
        """Make the plan."""
        tape, plan = self.tape, self.plan
        used = self.touched | self.kept | self.adjoints
        used |= {i for i, s in enumerate(tape.storages) if s.kind == INPUT}
        count = len(tape.buffers)
        plan.slabs = {F8: count, F4: count + 1}
        k = 0
        while k < len(self.needed):
            run = self._run_length(k)
            if run:
                self._scalar_run(self.needed[k : k + run])
                k += run
            else:
                self._instruction(self.needed[k])
                k += 1
        self._place_arenas(used)
        if "fuse" in self.passes:
            self._fuse()
        return plan

    def _fuse(self) -> None:
        plan = self.plan
        fused = fuse(plan.forward, plan.pool, self.storage_of, True)
        plan.forward = [row for row, _ in fused]
        plan.instructions = [plan.instructions[k] for _, k in fused]
        plan.reverse = [row for row, _ in fuse(plan.reverse, plan.pool, self.storage_of, False)]

    def _place_arenas(self, used: set[int]) -> None:
        tape, plan = self.tape, self.plan
        sizes = self.scalars.sizes
        start = {F8: 0, F4: 64 + 8 * sizes[F8]}
        start[F4] -= start[F4] % 64
        end = start[F4] + 4 * sizes[F4]
        plan.slab_bytes = start
        for s, slot in self.scalars.places.items():
            number = tape.storages[s].number
            plan.value_places[s] = plan.adjoint_places[s] = start[number] + ITEM[number] * slot
        for number, slot, value in self.scalars.presets:
            plan.presets.append((start[number] + ITEM[number] * slot, np.asarray(value, STORED[number]).reshape(1)))
        values = adjoints = end + 64
        for s in sorted(used.difference(plan.value_places)):
            storage = tape.storages[s]
            size = storage.size * ITEM[storage.number]
            if s not in plan.value_places:
                if storage.kind == CONSTANT and storage.size == 1:
                    values += -values % 8
                    plan.presets.append((values, storage.data.reshape(1)))
                elif storage.kind == CONSTANT:
                    continue
                else:
                    values += -values % 64
                plan.value_places[s] = values
                values += size
            if s in self.adjoints and s not in plan.adjoint_places:
                adjoints += -adjoints % 64
                plan.adjoint_places[s] = adjoints
                adjoints += size
        plan.value_bytes, plan.adjoint_bytes = values + 64, adjoints + -adjoints % 8
        plan.adjoint_places = {s: place for s, place in plan.adjoint_places.items() if s in self.adjoints}

    # ---- scalar runs ---------------------------------------------------------------------------------------------------

    def _run_length(self, start: int) -> int:
        """Count the instructions from `start` on that make one scalar run."""
        end, number = start, None
        while end < len(self.needed):
            kind = self.scalars.kind(self.needed[end])
            if kind is None or (kind != ANY and number not in (None, kind)):
                break
            number = number if kind == ANY else kind
            end += 1
        return end - start if number is not None else 0

    def _scalar_run(self, run: list[int]) -> None:
        number, words, active = self.scalars.run(run)
        place, group = self._words(words), f"scalars_{NAMES[number]}"
        self._emit(group, "forward", place, run[0])
        self.plan.work += len(run)
        if active:
            self.plan.reverse.append((group, "reverse", place))

    # ---- rows ----------------------------------------------------------------------------------------------------------

    def _words(self, words: list[int]) -> int:
        place = len(self.plan.pool)
        self.plan.pool.extend(words)
        return place

    def _emit(self, group: str, direction: str, place: int, k: int) -> None:
        self.plan.forward.append((group, direction, place))
        self.plan.instructions.append(k)

    def _instruction(self, k: int) -> None:
        op = self.tape.ops[k]
        if isinstance(op, Elementwise):
            self._elementwise(k, op)
        elif op.name == "sum":
            self._sum(k)
        elif op.name == "assign":
            self._assign(k)
        elif isinstance(op, Structural):
            self._structural(k, op)

    def _entries(self, shape: Sequence[int], layouts: Sequence[Layout]) -> tuple[list[int], list[list[int]]]:
        strides = [broadcast_strides(layout.shape, layout.strides, shape) for layout in layouts]
        return collapse(shape, strides)

    def _entry(
        self, register: int, layout: Layout, dims: list[int], strides: list[int], computed: int, extra: int, load: bool
    ) -> list[int]:
        """Write how a block reaches a buffer."""
        if load and not any(strides):
            kind = SPLAT
        elif layout.number == computed and tuple(strides) == row_major(tuple(dims)):
            kind = DIRECT
        else:
            kind = PACK
        if dims == [1] and layout.number == computed and not load:
            kind = DIRECT
        return [register, layout.buffer, kind, layout.number, extra, *strides]

    def _block(self, dims: list[int], counts: Sequence[int], entries: list[list[int]], code: list[list[int]]) -> int:
        words = [math.prod(dims), len(dims), *counts, *[0] * (4 - len(counts)), *dims]
        for entry in (*entries, *code):
            words += entry
        return self._words(words)

    def _elementwise(self, k: int, op: Elementwise) -> None:
        tape = self.tape
        operands = [tape.layout(b) for b in tape.operand_buffers[k]]
        z = tape.layout(tape.result_buffers[k][0])
        computed = computed_class(self.tape, k)
        if z.size == 0:
            return
        dims, strides = self._entries(z.shape, [*operands, z])
        loads = [self._entry(r, o, dims, strides[r], computed, 0, True) for r, o in enumerate(operands)]
        store = self._entry(Z, z, dims, strides[-1], computed, 0, False)
        place = self._block(dims, [len(loads), 1, 1], [*loads, store], [[op.code, Z, X, Y, W, 0]])
        group = f"blocks_{NAMES[I8 if computed == B1 else computed]}"
        self._emit(group, "forward", place, k)
        self.plan.work += z.size
        if self.storage_of[z.buffer] not in self.adjoints:
            return
        active = sum(
            1 << i for i, o in enumerate(operands) if carries(op, i) and self.storage_of[o.buffer] in self.adjoints
        )
        if not active:
            return
        needed = reads(op, active)
        values = [
            self._entry(r, o, dims, strides[r], computed, 0, True) for r, o in enumerate(operands) if "xyw"[r] in needed
        ]
        if "z" in needed:
            values.append(self._entry(Z, z, dims, strides[-1], computed, 0, True))
        targets = [self._entry(Z, z, dims, strides[-1], computed, READ, True)]
        targets += [
            self._entry(r, o, dims, strides[r], computed, ADD, True) for r, o in enumerate(operands) if active >> r & 1
        ]
        code = [[op.code, Z, X, Y, W, active]]
        place = self._block(dims, [len(values), 0, len(targets), 1], [*values, *targets], code)
        self.plan.reverse.append((group, "reverse", place))

    def _sum(self, k: int) -> None:
        tape = self.tape
        x, z = tape.layout(tape.operand_buffers[k][0]), tape.layout(tape.result_buffers[k][0])
        computed = z.number
        dims, strides = self._entries(x.shape, [x, z])
        kind = SPLAT if not any(strides[1]) else ADD
        store = [Z, z.buffer, kind, z.number, max(z.size, 0), *strides[1]]
        load = self._entry(X, x, dims, strides[0], computed, 0, True)
        place = self._block(dims, [1, 1, 1], [load, store], [[COPY, Z, X, X, X, 0]])
        group = f"blocks_{NAMES[computed]}"
        self._emit(group, "forward", place, k)
        self.plan.work += x.size
        if self.storage_of[z.buffer] in self.adjoints and self.storage_of[x.buffer] in self.adjoints and x.size:
            targets = [
                self._entry(Z, z, dims, strides[1], computed, READ, True),
                self._entry(X, x, dims, strides[0], computed, ADD, True),
            ]
            place = self._block(dims, [0, 0, 2, 1], targets, [[COPY, Z, X, X, X, 1]])
            self.plan.reverse.append((group, "reverse", place))

    def _copy(self, source: Layout, target: Layout) -> tuple[str, int] | None:
        """Write a block that copies; broadcast as an assignment does."""
        if target.size == 0:
            return None
        computed = (
            I8
            if target.number in (I8, B1) and source.number in (I8, B1)
            else F8
            if F8 in (source.number, target.number)
            else F4
        )
        if source.number == I8 and target.number == F4:
            computed = F8
        dims, strides = self._entries(target.shape, [source, target])
        load = self._entry(X, source, dims, strides[0], computed, 0, True)
        store = self._entry(Z, target, dims, strides[1], computed, 0, False)
        return f"blocks_{NAMES[computed]}", self._block(dims, [1, 1, 1], [load, store], [[COPY, Z, X, X, X, 0]])

    def _assign(self, k: int) -> None:
        """Save what is overwritten, write; on the way back take the adjoint away, and put the saved values back."""
        tape = self.tape
        e = tape.layout(tape.operand_buffers[k][0])
        y, saved = (tape.layout(b) for b in tape.result_buffers[k])
        e = _trimmed(e, len(y.shape))
        forward = [self._copy(y, saved), self._copy(e, y)]
        if forward[0] is None:
            return
        for made in forward:
            if made is not None:
                self._emit(made[0], "forward", made[1], k)
        self.plan.work += 2 * y.size
        restore = self._copy(saved, y)
        if restore is not None:
            self.plan.reverse.append((restore[0], "forward", restore[1]))
        if self.storage_of[y.buffer] not in self.adjoints:
            return
        dims, strides = self._entries(y.shape, [e, y])
        targets = [self._entry(Z, y, dims, strides[1], y.number, TAKE, True)]
        active = self.storage_of[e.buffer] in self.adjoints
        if active:
            targets.append(self._entry(X, e, dims, strides[0], y.number, ADD, True))
        place = self._block(dims, [0, 0, len(targets), int(active)], targets, [[COPY, Z, X, X, X, 1]] if active else [])
        self.plan.reverse.append((f"blocks_{NAMES[y.number]}", "reverse", place))

    def _structural(self, k: int, op: Structural) -> None:
        tape = self.tape
        operands = [tape.layout(b) for b in tape.operand_buffers[k]]
        results = [tape.layout(b) for b in tape.result_buffers[k]]
        kernels = structural_kernels(op.group)
        words = [operands[0].number, *op.words(operands, results, tape.parameters[k] or {})]
        plan = self.plan
        plan.scratch_bytes = max(plan.scratch_bytes, op.scratch(operands, results))
        plan.needs_functions = plan.needs_functions or op.group in ("products", "linalg")
        plan.work += sum(o.size for o in operands)
        self._emit(op.group, "kernel", self._words([kernels.index(op.forward), *words]), k)
        if op.restore is not None:
            plan.reverse.append((op.group, "kernel", self._words([kernels.index(op.restore), *words])))
        flows = any(self.storage_of[r.buffer] in self.adjoints for r in results[:1])
        wanted = op.restore is not None or any(self.storage_of[operands[i].buffer] in self.adjoints for i in op.active)
        if op.reverse is not None and flows and wanted:
            plan.reverse.append((op.group, "kernel", self._words([kernels.index(op.reverse), *words])))


def _trimmed(layout: Layout, ndim: int) -> Layout:
    """Drop leading axes of one element, as an assignment may."""
    extra = max(len(layout.shape) - ndim, 0)
    return Layout(layout.buffer, layout.shape[extra:], layout.strides[extra:], layout.number)
