"""Program: a planned tape with the addresses of its kernels; and the workspaces in which it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import TapeadIndexError, TapeadLinAlgError, TapeadMemoryError, TapeadValueError
from .kernels import library
from .kernels.constants import (
    ADJOINTS,
    BAD_INDEX,
    CLEAR_CODE,
    COUNT,
    FUNCTIONS,
    GUARD,
    INDEX,
    INNER,
    NOT_POSITIVE,
    PARAMETERS,
    PART_CODE,
    POOL,
    RAISED,
    REGISTERS,
    ROWS,
    SCRATCH,
    SEED,
    SEED_NUMBER,
    SERVICE_SLOTS,
    SERVICES,
    SINGULAR,
    STATUS,
    STRIPS,
    SUMS,
    TILE_CODE,
    TILES,
    VALUES,
    ZERO_COUNT,
    ZERO_FROM,
)
from .parallel import pool_table
from .plan import IN_PLACE, ITEM, NAMES, Plan, Planner
from .strips import Row
from .tape import CONSTANT, NODES_SHOWN, STORED, VALUE, Wengert, describe

if TYPE_CHECKING:
    from .graph import Graph

#: sweeps over more elements than this let go of the interpreter lock
LONG = 4096


class GuardFailed(Exception):
    """A guard saw another number than the trace did: its place, and the number's bits."""

    def __init__(self, place: int, seen: int) -> None:
        super().__init__(place, seen)
        self.place, self.seen = place, seen


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _kernel(row: Row) -> int:
    group, direction, _ = row
    if direction == "kernel":
        return int(library.group_kernel(group))
    if direction == "clear":
        return int(library.clear_kernel())
    if direction == "strips":
        return int(library.strips_kernel())
    number = group.partition("_")[2]
    if direction == "block":
        return int(library.block_kernel(number))
    forward, reverse = library.scalar_kernels(number)
    return int(forward if direction == "forward" else reverse)


class Program:
    """A planned tape, ready to run: immutable; what changes in a call lives in a `Workspace`.

    inputs are the storages of the inputs, in order; target is the buffer to differentiate, wrt the inputs' places to
    differentiate by; outputs are further buffers to read.
    """

    def __init__(
        self, tape: Wengert, inputs: Sequence[int], outputs: Sequence[int], target: int | None, wrt: Sequence[int]
    ) -> None:
        self.inputs, self.outputs, self.target, self.wrt = tuple(inputs), tuple(outputs), target, tuple(wrt)
        planner = Planner(tape, outputs, target, [inputs[i] for i in wrt])
        self.plan: Plan = planner.make()
        self.instructions = len(tape)
        self.tape = planner.tape.part()  # what is recorded later changes nothing here
        self.buffers, self.storages = self.tape.buffers, self.tape.storages
        self.ops, self.places = self.tape.ops, self.tape.places
        self.rows = self._rows(self.plan)
        self.pool = np.array(self.plan.pool, np.int64)
        self.functions = _functions() if self.plan.needs_functions else np.zeros(1, np.int64)
        count = len(self.buffers)
        self.storage_of = np.array(self.tape.storage_of, np.int64)
        items = np.array([ITEM[s.number] for s in self.storages], np.int64)[self.storage_of]
        self.offsets = np.array([b.offset for b in self.buffers], np.int64) * items
        self.input_buffers = [np.flatnonzero(self.storage_of == s) for s in self.inputs] if count else []
        sweeps = library.load("sweeps")
        self.long = self.plan.work > LONG
        self.sweep = sweeps.sweep_released if self.long else sweeps.sweep
        self._free: list[Workspace] = []

    def _rows(self, plan: Plan) -> Any:
        own = plan.addresses
        rows = [[own[k] if k in own else _kernel(row), row[2]] for k, row in enumerate([*plan.rows, *plan.inner])]
        return np.array(rows, np.int64).reshape(-1)

    def take(self) -> Workspace:
        """Take a free workspace, or make one: no two callers share one at a time."""
        try:
            return self._free.pop()
        except IndexError:
            return Workspace(self)

    def give_back(self, workspace: Workspace) -> None:
        """Give a workspace back for the next caller."""
        self._free.append(workspace)

    def bind(self, workspace: Workspace, i: int, value: Any) -> Any:
        """Hand over the i-th input: small ones are copied in, large ones read in place. Gives what must stay alive."""
        slot = workspace.slots[i]
        if self.is_large(i):
            flat = np.ascontiguousarray(value, slot.dtype)
            if not flat.flags.aligned:
                flat = flat.copy()
            flat = flat.reshape(-1)
            buffers = self.input_buffers[i]
            workspace.value_table[buffers] = _address(flat) + self.offsets[buffers]
            return flat
        slot[...] = value
        return slot

    def dtype(self, i: int) -> np.dtype[Any]:
        """Give the dtype that the i-th input is stored in."""
        return STORED[self.storages[self.inputs[i]].number]

    def is_large(self, i: int) -> bool:
        """Whether the i-th input is read in place."""
        return self.storages[self.inputs[i]].size * self.dtype(i).itemsize > IN_PLACE

    def bind_gradient(self, workspace: Workspace, k: int, target: Any = None) -> Any:
        """Give the array that the gradient by the k-th of wrt is to be read from after the sweeps.

        A small one is in the arena. A large one is where the caller wants it: the sweeps write into target, if it
        is given and of the dtype that they write, or into a new array.
        """
        if workspace.gradients[k] is not None:
            return workspace.gradients[k]
        slot = workspace.slots[self.wrt[k]]
        if target is None or target.dtype != slot.dtype:
            target = np.empty(slot.shape, slot.dtype)
        at = _address(target)
        for word, offset in self.adjoint_words(workspace, k):
            word[...] = at + offset
        return target

    def value_words(self, workspace: Workspace, i: int) -> list[tuple[Any, int]]:
        """Give the words of a workspace that take the i-th input's address, and the bytes to add to it."""
        return [(workspace.value_table[b : b + 1], int(self.offsets[b])) for b in self.input_buffers[i]]

    def output_words(self, workspace: Workspace, k: int) -> list[tuple[Any, int]]:
        """Give the words that take the address of an array that the k-th output is written to, and the bytes to add.

        No words where it is copied from where it lies: small ones, inputs, constants, and what is a part of something else.
        """
        buffer = self.outputs[k]
        s = self.tape.storage_of[buffer]
        storage, alone = self.storages[s], np.count_nonzero(self.storage_of[list(self.outputs)] == s) == 1
        small = storage.size * ITEM[storage.number] <= IN_PLACE
        if small or storage.kind != VALUE or not alone or not self.tape.is_whole(buffer):
            return []
        return [(workspace.value_table[b : b + 1], int(self.offsets[b])) for b in np.flatnonzero(self.storage_of == s)]

    def adjoint_words(self, workspace: Workspace, k: int) -> list[tuple[Any, int]]:
        """Give the words that take the address of the gradient by the k-th of wrt, and the bytes to add to it."""
        buffers = self.input_buffers[self.wrt[k]]
        words = [(workspace.adjoint_table[b : b + 1], int(self.offsets[b])) for b in buffers]
        if self.target is not None and self.target in buffers:
            words.append((workspace.table[SEED : SEED + 1], int(self.offsets[self.target])))
        return words

    def run(self, workspace: Workspace) -> None:
        """Sweep forward and back; raise what a kernel reports."""
        status = self.sweep(workspace.handle)
        if status:
            self.report(workspace, status)

    def report(self, workspace: Workspace, status: int) -> None:
        """Raise what a kernel reports."""
        seen, place, third, row = (int(v) for v in workspace.status[:4])
        if status == GUARD:
            raise GuardFailed(place, seen)
        first = self.plan.instructions[row][0]
        name, where = self.ops[first].name, describe(self.places[first])
        if status == BAD_INDEX:
            raise TapeadIndexError(f"index {seen} is out of bounds for axis {place} with size {third}, at {where}")
        if status == SINGULAR:
            raise TapeadLinAlgError(f"Singular matrix, in {name} at {where}")
        if status == NOT_POSITIVE:
            raise TapeadLinAlgError(f"Matrix is not positive definite, in {name} at {where}")
        if status == RAISED:
            raise TapeadValueError(f"the primitive {name} raised an exception, at {where}")
        raise RuntimeError(f"kernel status {status}, at {where}")

    def result(self, workspace: Workspace, k: int, bound: Sequence[Any]) -> Any:
        """Give the k-th output: a copy."""
        view = workspace.results[k]
        b = self.buffers[self.outputs[k]]
        if view is None:
            flat = bound[self.inputs.index(self.tape.storage_of[self.outputs[k]])].reshape(-1)
            view = np.lib.stride_tricks.as_strided(flat[b.offset :], b.shape, [s * flat.itemsize for s in b.strides])
        if not b.shape:
            return view.astype(b.dtype)[()] if view.dtype != b.dtype else view[()]
        return np.array(view, b.dtype, order="C")

    def graph(
        self,
        labels: Mapping[int, str] | None = None,
        seconds: Sequence[float] | None = None,
        limit: int | None = NODES_SHOWN,
    ) -> Graph:
        """Give the computational graph of what is left after the passes, to be drawn: rows as frames around instructions.

        labels name inputs by their places; seconds, one for each row, colour by time. See `Tape.graph` for limit.
        """
        from .framing import graph_of_plan  # here, as are other pictures' modules: importing tapead stays light

        names = {self.inputs[i]: label for i, label in (labels or {}).items()}
        outputs = [*([] if self.target is None else [self.target]), *self.outputs]
        return graph_of_plan(self.plan, self.tape, outputs, names, seconds, limit)

    def _repr_html_(self) -> str:
        from .markup import table
        from .nodes import Nodes

        rows, arena = len(self.plan.rows), self.arena_bytes
        title = f"Program of {self.plan.needed:,} instructions, run as {rows:,} rows in an arena of {arena:,} bytes"
        return table(title, ("node", "formula", "type", "line"), Nodes(self.tape).cells())

    @property
    def arena_bytes(self) -> int:
        """The bytes of the arena of one workspace."""
        return self.plan.arena_bytes

    @property
    def own_bytes(self) -> int:
        """The bytes of all values, and the adjoints of those that a derivative flows into, each in memory of its own."""
        values = [s for s in self.storages if s.kind != CONSTANT]
        return sum(s.size * ITEM[s.number] * (2 if s.levels else 1) for s in values)


def _functions() -> Any:
    from .kernels.blas import functions_table

    global _TABLE
    if _TABLE is None:
        _TABLE = functions_table()
    return _TABLE


_TABLE: Any = None


class Workspace:
    """The memory of one run of a program: the arena of values and adjoints, tables of addresses, tiles, scratch."""

    def __init__(self, program: Program) -> None:
        plan = program.plan
        try:
            self.arena = np.zeros(plan.arena_bytes // 8 + 9, np.int64)
            self.scratch = np.empty(-(-plan.scratch_bytes // 8) + 1, np.int64)
            self._tiles = np.empty(plan.tile_bytes // 8 + 9, np.float64)
        except MemoryError as error:
            total = plan.arena_bytes + plan.scratch_bytes
            raise TapeadMemoryError(
                f"no memory for the arena of {len(plan.rows)} rows: {total:,} bytes asked for"
            ) from error
        base = _address(self.arena)
        base += -base % 64
        skipped = base - _address(self.arena)
        raw = self.arena.view(np.uint8)[skipped:]
        for place, value in plan.presets:
            raw[place : place + value.nbytes] = value.view(np.uint8)
        storage_bases = np.zeros(len(program.storages), np.int64)
        adjoint_bases = np.zeros(len(program.storages), np.int64)
        for bases, places in ((storage_bases, plan.value_places), (adjoint_bases, plan.adjoint_places)):
            bases[list(places)] = base + np.array(list(places.values()), np.int64)
        for s, storage in enumerate(program.storages):
            if storage.kind == CONSTANT and storage.size != 1 and s not in plan.value_places:
                storage_bases[s] = _address(storage.data)
        slabs = plan.slabs
        values = storage_bases[program.storage_of] + program.offsets
        self.value_table = np.append(values, [base + plan.value_slabs[number] for number in slabs])
        has = adjoint_bases[program.storage_of] != 0
        table = np.where(has, adjoint_bases[program.storage_of] + program.offsets, 0)
        self.adjoint_table = np.append(table, [base + plan.adjoint_slabs[number] for number in slabs])
        self.storage_bases = storage_bases

        self.status = np.zeros(8, np.int64)
        self._small = np.zeros(256 + plan.register_count, np.int64)
        self._sums = np.empty(plan.sum_bytes // 8, np.int64)
        self.services = np.zeros(SERVICE_SLOTS, np.int64)
        tiles = _address(self._tiles)
        self.services[TILES] = tiles + -tiles % 64
        self.services[INDEX] = _address(self._small)
        self.services[REGISTERS] = _address(self._small) + 8 * 256
        self.services[STATUS], self.services[SCRATCH] = _address(self.status), _address(self.scratch)
        self.services[FUNCTIONS] = _address(program.functions)
        for number in program.plan.block_classes:
            self.services[TILE_CODE + number] = library.tile_kernel(NAMES[number])
            self.services[PART_CODE + number] = library.part_kernel(NAMES[number])
        self.services[CLEAR_CODE] = library.clear_part_kernel()
        self.services[STRIPS], self.services[INNER] = 1, _address(program.rows) + 16 * len(plan.rows)
        self.services[POOL], self.services[SUMS] = _address(pool_table()), _address(self._sums)

        t = self.table = np.zeros(24, np.int64)
        t[ROWS], t[COUNT] = _address(program.rows), len(plan.rows)
        t[PARAMETERS], t[VALUES], t[ADJOINTS] = (
            _address(program.pool),
            _address(self.value_table),
            _address(self.adjoint_table),
        )
        t[SERVICES] = _address(self.services)
        t[ZERO_FROM], t[ZERO_COUNT] = base + plan.zeros[0], (plan.zeros[1] - plan.zeros[0]) // 8
        if program.target is not None:
            t[SEED] = self.adjoint_table[program.target]
            t[SEED_NUMBER] = program.storages[program.storage_of[program.target]].number
        self.handle = _address(self.table)
        shapes = [program.buffers[buffers[0]].shape for buffers in program.input_buffers]
        self.slots = [
            _stretch(program, plan.value_places, s, raw).reshape(shape)
            if s in plan.value_places
            else np.broadcast_to(np.zeros((), program.dtype(i)), shape)  # a large input: lies elsewhere
            for i, (s, shape) in enumerate(zip(program.inputs, shapes, strict=True))
        ]
        self.gradients = [
            _stretch(program, plan.adjoint_places, s, raw).reshape(shape) if s in plan.adjoint_places else None
            for s, shape in ((program.inputs[i], shapes[i]) for i in program.wrt)
        ]
        self.results = [_result(program, b, raw) for b in program.outputs]


def _stretch(program: Program, places: dict[int, int], s: int, raw: Any) -> Any:
    """Give an arena's stretch of a storage as a flat array."""
    number, place = program.storages[s].number, places[s]
    return raw[place : place + program.storages[s].size * ITEM[number]].view(STORED[number])


def _result(program: Program, buffer: int, raw: Any) -> Any:
    """Give an output as an array on the arena; None where it is (a view of) an input, which may lie outside."""
    b, s = program.buffers[buffer], program.tape.storage_of[buffer]
    storage = program.storages[s]
    if s in program.inputs:
        return None
    flat = (
        storage.data.reshape(-1) if storage.kind == CONSTANT else _stretch(program, program.plan.value_places, s, raw)
    )
    item = ITEM[storage.number]
    view: Any = np.lib.stride_tricks.as_strided(flat[b.offset :], b.shape, [s * item for s in b.strides])
    return view
