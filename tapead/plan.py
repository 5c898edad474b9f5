"""Tape -> program: what is needed, in which order it runs, where it lies, and the parameters of every kernel."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from .activity import Activity
from .blocks import Block, is_dear, read_back
from .grouping import BLOCK, SCALARS, Group, Grouping, Key, reach
from .kernels.constants import ADJOINT, CLEAR, F4, F8, I8, TAKE
from .kernels.library import structural_kernels
from .kernels.table import Elementwise, Structural
from .memory import place
from .order import FORWARD, REVERSE, TURN, Flow, schedule
from .passes import simplify, without_rules
from .scalars import ScalarRun
from .slabs import Slabs
from .strips import LARGE, Line, Row, Touch, in_strips, touch
from .switches import passes_on
from .tape import CONSTANT, INPUT, STORED, VALUE, WRITES, Wengert
from .tiles import COPY, Code

ITEM = (8, 4, 8, 1)
NAMES = ("f8", "f4", "i8", "b1")
#: what takes fewer bytes than this shares its memory with nothing
SMALL = 1024

#: scalar runs of fewer instructions, beside blocks, are made so that their ways back can come first: that spares a block
#: one of its sweeps, and outweighs what lanes gain
LONG = 64

#: an input larger than this (bytes) is read in place, not copied in; its gradient, or a result, is written where it is wanted
IN_PLACE = 1 << 14


@dataclass
class Plan:
    """A planned tape: rows, the parameter pool, and the place of every storage; what a program is made of.

    Inputs of more than IN_PLACE bytes, and the adjoints of those that are differentiated by, lie where the caller wants.
    Values and adjoints lie in one arena. Zero to start with are its bytes from `zeros[0]` to `zeros[1]`.
    """

    rows: list[Row] = field(default_factory=list)
    addresses: dict[int, int] = field(default_factory=dict)  # row -> the address of a kernel that is in no group
    inner: list[Row] = field(default_factory=list)  # what rows of strips run, again and again
    kinds: list[str] = field(default_factory=list)  # of each row: forward, reverse, or both
    blocks: list[str] = field(default_factory=list)  # the kind of each block, within strips or not
    instructions: list[tuple[int, ...]] = field(default_factory=list)  # the tape's instructions behind each row
    touched: list[int] = field(default_factory=list)  # bytes of the values and adjoints that each row reads or writes
    needed: int = 0  # instructions left after the passes
    pool: array[int] = field(default_factory=lambda: array("q"))
    value_places: dict[int, int] = field(default_factory=dict)  # storage -> byte in the arena
    adjoint_places: dict[int, int] = field(default_factory=dict)
    presets: list[tuple[int, Any]] = field(default_factory=list)  # (byte, array) that never changes in the arena
    slabs: dict[int, int] = field(default_factory=dict)  # number class -> buffer index of its slab
    value_slabs: dict[int, int] = field(default_factory=dict)  # number class -> byte
    adjoint_slabs: dict[int, int] = field(default_factory=dict)
    zeros: tuple[int, int] = (0, 0)
    arena_bytes: int = 0
    block_classes: set[int] = field(default_factory=set)  # the number classes that blocks are computed in
    tile_bytes: int = 0
    register_count: int = 0
    sum_bytes: int = 0
    scratch_bytes: int = 0
    needs_functions: bool = False
    work: int = 0  # elements touched in a forward sweep


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
        self.passes = passes_on() if passes is None else passes
        read = [*outputs, *([] if target is None else [target])]
        tape = without_rules(tape)
        self.tape = tape = simplify(
            tape, "fold" in self.passes, "share" in self.passes, {tape.storage_of[b] for b in read}
        )
        self.plan = Plan()
        self.storage_of = of = tape.storage_of
        self.target, self.wrt = None if target is None else of[target], list(wrt)
        self.kept = {of[b] for b in read}  # storages that are read after a sweep
        activity = Activity(tape, self.kept, self.target, self.wrt, "dead" in self.passes)
        self.reads, self.writes, self.carried = activity.reads, activity.writes, activity.carried
        self.needed, self.used, self.adjoints = activity.needed, activity.used, activity.adjoints

    # ---- the plan ------------------------------------------------------------------------------------------------------

    def make(self) -> Plan:
        """Make the plan."""
        tape, plan = self.tape, self.plan
        used = self.used | self.adjoints
        used |= {i for i, s in enumerate(tape.storages) if s.kind == INPUT}
        self._beginnings = self._find_beginnings()
        count = len(tape.buffers)
        plan.slabs = {F8: count, F4: count + 1}
        plan.needed = len(self.needed)
        self._lines: list[Line] = []
        self._uses: set[tuple[int, bool]] = set()  # what the row that comes next touches
        large = {s for s in used if self._bytes(s) > LARGE} if "strips" in self.passes else set()
        self._large = large  # storages that rows had better go over strip by strip
        self._zeros: set[int] = set()  # storages whose adjoints are zeroed before all rows
        self._touched: set[int] = set()  # storages whose adjoints are zeroed, or stored, by then
        #: group -> the parameters' place, whether there is a way back, whether that reads what is not on the tape
        self._runs: dict[int, tuple[int, bool, bool]] = {}
        self._outside: dict[int, set[int]] = {}  # group of scalars -> the storages that it reaches outside the slabs
        self._dear: dict[int, set[int]] = {}  # group -> the storages in a block that are dear to compute again
        self._form_groups()
        if self.target is not None:
            self._clear(self.target)
        for what, g in schedule(self.flows, "turn" in self.passes and not self.grouping.overwritten):
            self._emit_group(what, g)
        for s in self.wrt:
            if s not in self._touched:
                self._clear(s)
        self._number_rows()
        self._place_arena(used)
        return plan

    def _form_groups(self) -> None:
        """Group the instructions, and make the scalar runs."""
        tape = self.tape
        self.slabs = slabs = Slabs(tape, self.needed, self.adjoints, self.kept, self.target)
        self.grouping = Grouping(tape, self.needed, "blocks" in self.passes)
        self.groups = self.grouping.groups
        alone = all(group.kind != BLOCK for group in self.groups)
        for g, group in enumerate(self.groups):
            if group.kind == SCALARS and any(tape.ops[k].name != "guard" for k in group.instructions):
                apart = not alone and len(group.instructions) < LONG
                run = ScalarRun(slabs, group.instructions, group.number, apart)
                self._runs[g] = self._words(run.words()), run.active, run.copies
                self.plan.work += len(group.instructions)
        for g in self._runs:
            instructions = self.groups[g].instructions
            touched = [map(column.__getitem__, instructions) for column in (self.reads, self.writes)]
            self._outside[g] = set(chain.from_iterable(chain(*touched))).difference(slabs.places)
        if not alone:
            self._find_flows()
        else:  # the groups run in their order, whatever they read
            self.flows = [Flow(set(), set(), set(), self._goes_back(group), False) for group in self.groups]

    def _find_flows(self) -> None:
        """Find what each group leaves in memory, and what its reverse sweep reads."""
        readers: dict[int, tuple[int, ...]] = {}  # storage -> groups
        writers: dict[int, tuple[int, ...]] = {}
        feeders: dict[int, tuple[int, ...]] = {}  # storage -> groups whose reverse sweeps add to its adjoint
        read, made, fed = [], [], []
        for g, group in enumerate(self.groups):
            mine = (g,)
            read.append({s for k in group.instructions for s in self.reads[k]})
            made.append({s for k in group.instructions for s in self.writes[k]})
            fed.append(self._fed_by(group))
            for known, found in ((readers, read[g]), (writers, made[g]), (feeders, fed[g])):
                again = found & known.keys()
                known.update(dict.fromkeys(found - again, mine))
                for s in again:
                    known[s] += mine
        if self.target is not None:
            feeders[self.target] = (*feeders.get(self.target, ()), len(self.groups))
        self.stored: list[set[int]] = []
        self.fed: list[set[int]] = []
        self.flows = []
        for g, group in enumerate(self.groups):
            mine = (g,)
            overwritten, kept = self.grouping.overwritten, self.kept
            self.stored.append({s for s in made[g] if readers.get(s, mine) != mine or s in kept or s in overwritten})
            self.fed.append({s for s in made[g] if feeders.get(s, mine) != mine})
            reverse = self._goes_back(group)
            reading = self._read_back(g, group) if reverse else set()
            reads = {w for s in reading for w in writers.get(s, ())}
            if g in self._runs and (self._runs[g][2] or self._loads(reading, group.number)):
                reads.add(g)
            self.flows.append(
                Flow(
                    after={w for s in read[g] for w in writers.get(s, ())} - {g},
                    reads=reads,
                    feeds={f for s in self.fed[g] for f in feeders[s] if f < len(self.groups)} - {g},
                    reverse=reverse,
                    block=group.kind == BLOCK,
                )
            )

    def _fed_by(self, group: Group) -> set[int]:
        """Give the storages to whose adjoints a group's reverse sweep adds."""
        found: set[int] = set()
        for k in group.instructions:
            made = self.writes[k]
            if made and made[0] in self.adjoints:
                found.update(self.carried[k])
        return found & self.adjoints

    def _goes_back(self, group: Group) -> bool:
        """Whether a group has a reverse sweep: to add to adjoints, or to put back what it overwrote."""
        adjoints = self.adjoints
        if self.target is None:
            return False
        for k in group.instructions:
            made = self.writes[k]
            flows = made and made[0] in adjoints and not adjoints.isdisjoint(self.carried[k])
            if flows or self.tape.ops[k].name in WRITES:
                return True
        return False

    def _loads(self, reading: set[int], number: int) -> bool:
        """Whether a scalar run reads one of some storages by copies that its own forward sweep makes."""
        storages, places = self.tape.storages, self.slabs.places
        outside = [storages[s] for s in reading if s not in places or storages[s].number != number]
        return any(storage.kind is not CONSTANT or storage.size != 1 for storage in outside)

    def _read_back(self, g: int, group: Group) -> set[int]:
        """Give the storages whose values a group's reverse sweep reads; keep in memory what is dear to compute again."""
        tape, of, adjoints = self.tape, self.storage_of, self.adjoints
        if group.kind == BLOCK:
            read = self._block(g).needs()
            made = {of[tape.result_buffers[k][0]]: k for k in group.instructions}
            inside = read & made.keys()
            self._dear[g] = {s for s in inside - self.stored[g] if is_dear(tape.ops[made[s]])}
            return {s for s in read if s not in made or s in self.stored[g] or s in self._dear[g]}
        found: set[int] = set()
        for k in group.instructions:
            op, operands, results = tape.ops[k], self.reads[k], self.writes[k]
            if group.kind == SCALARS and op.name in ("sum", "guard"):
                continue
            if group.kind != SCALARS or not isinstance(op, Elementwise):
                found.update(operands, results)
            elif results[0] in adjoints:
                for i, places in read_back(op):
                    if operands[i] in adjoints:
                        for p in places:
                            found.add(operands[p] if p >= 0 else results[0])
        return found

    def _block(self, g: int) -> Block:
        group = self.groups[g]
        return Block(
            self.tape, group.instructions, group.space, group.number, self.stored[g], self.adjoints, self.fed[g]
        )

    # ---- rows ----------------------------------------------------------------------------------------------------------

    def _emit_group(self, what: str, g: int) -> None:
        group = self.groups[g]
        if group.kind == BLOCK:
            self._emit_block(what, g)
        elif g in self._runs:
            self._emit_scalars(what, g)
        else:
            for k in group.instructions if what == FORWARD else reversed(group.instructions):
                if self.tape.ops[k].name == "assign":
                    self._assign(what, k)
                else:
                    self._structural(what, k)

    def _row(
        self,
        row: Row,
        kind: str,
        instructions: Sequence[int],
        items: int = 0,
        touches: Sequence[Touch] | None = None,
        address: int | None = None,
    ) -> None:
        self._lines.append(Line(row, kind, tuple(instructions), frozenset(self._uses), items, touches, address))
        self._uses.clear()

    def _lasting(self) -> set[tuple[int, bool]]:
        """Give the values and adjoints that are there (or zero) before the first row, or are read after the last."""
        given = {s for s, storage in enumerate(self.tape.storages) if storage.kind != VALUE}
        return {(s, False) for s in given | self.kept} | {(s, True) for s in {*self.wrt, *self._zeros}}

    def _number_rows(self) -> None:
        """Give the rows their order; those that can run strip by strip become one."""
        plan, lines = self.plan, self._lines
        items = [ITEM[storage.number] for storage in self.tape.storages]
        if self._large:
            lines = list(in_strips(lines, items, self._large, self._lasting()))
        self._spans: dict[tuple[int, bool], tuple[int, int]] = {}  # (storage, adjoint) -> first and last row
        for r, line in enumerate(lines):
            for use in line.uses:
                self._spans[use] = self._spans.get(use, (r, r))[0], r
            if line.inside:
                words = [len(plan.pool), len(plan.inner), len(line.inside), line.strips, line.items, line.unit]
                passing = [
                    (int(adjoint), b, size * items[s])
                    for s, adjoint, size in line.passing
                    for b, storage in enumerate(self.storage_of)
                    if storage == s
                ]
                words += [len(passing), *chain.from_iterable(passing)]
                line.row = (*line.row[:2], self._words(words))
                plan.inner += [inner.row for inner in line.inside]
            if line.address is not None:
                plan.addresses[r] = line.address
            plan.rows.append(line.row)
            plan.kinds.append(line.kind)
            plan.instructions.append(line.instructions)
            parts = line.inside or [line]
            plan.blocks += [part.kind for part in parts if part.row[1] == "block"]
            plan.touched.append(sum(self._bytes(s) for part in parts for s, _ in part.uses))

    def _bytes(self, s: int) -> int:
        storage = self.tape.storages[s]
        return storage.size * ITEM[storage.number]

    def _words(self, words: Iterable[int]) -> int:
        place = len(self.plan.pool)
        self.plan.pool.extend(words)
        return place

    def _use(self, s: int, adjoint: bool) -> None:
        """Note that the row that comes next touches a storage's value, or its adjoint."""
        self._uses.add((s, adjoint))

    def _clear(self, s: int) -> None:
        """See to it that an adjoint that nothing has touched is zero: before all rows if it is small, else now."""
        if s in self._touched or s not in self.adjoints:
            return
        self._touched.add(s)
        size = self._bytes(s)
        if s in self.slabs.places or size <= SMALL:
            self._zeros.add(s)
            return
        self._use(s, True)
        place = self._words([self._beginnings[s], size // 4])
        self._row(("sweeps", "clear", place), REVERSE, (), touches=[Touch(s, True, True)])

    def _find_beginnings(self) -> dict[int, int]:
        """Give, for each array with an adjoint, a buffer that begins where it does."""
        tape = self.tape
        arrays = {s for s in self.adjoints if tape.storages[s].size > 1}
        columns = zip(self.storage_of, tape.buffers, strict=True)
        found = {s: i for i, (s, b) in enumerate(columns) if s in arrays and b.offset == 0} if arrays else {}
        for s in arrays - found.keys():
            found[s] = tape.new_buffer(s, STORED[tape.storages[s].number], (tape.storages[s].size,))
        return found

    def _emit_block(self, what: str, g: int) -> None:
        group = self.groups[g]
        if what != TURN and "keep" in self.passes:
            self.stored[g] |= self._dear.get(g, set())
        block = self._block(g)
        if what != REVERSE:
            block.forward()
            self.plan.work += len(group.instructions) * block.code.size
        if what != FORWARD:
            counts: dict[int, int] = {}
            for x in block.targets():
                counts[x[0]] = counts.get(x[0], 0) + 1
            block.reverse(lambda x: self._is_first(x, counts, block.code))
        self._finish(block.code, what, group.instructions)

    def _finish(self, code: Code, kind: str, instructions: Sequence[int]) -> None:
        """Append the row of a block's code, unless there is nothing to do."""
        words = code.words()
        if not code.entries:
            return
        for entry in code.entries:
            self._use(entry.key[0], bool(entry.mode & ADJOINT))
        plan = self.plan
        plan.tile_bytes = max(plan.tile_bytes, code.tile_bytes)
        plan.register_count = max(plan.register_count, code.register_count)
        plan.sum_bytes = max(plan.sum_bytes, code.split.sum_bytes)
        plan.block_classes.add(code.number)
        touches = None
        if self._large:
            loads = len(code.entries) - len(code.stores)
            touches = []
            for k, e in enumerate(code.entries):
                writes = k >= loads or bool(e.mode & TAKE)
                t = touch(e.key[0], bool(e.mode & ADJOINT), writes, e.key[1], code.space, e.key[2])
                touches.append(t._replace(clears=e.mode >= CLEAR))
        items = code.space[0] if code.space else 0
        self._row((f"blocks_{NAMES[code.number]}", "block", self._words(words)), kind, instructions, items, touches)

    def _is_first(self, x: Key, counts: dict[int, int], code: Code) -> bool:
        """Whether a block is the first to touch an operand's adjoint, and can store all of it; else see that it is zero."""
        s = x[0]
        if s in self._touched or s in self.slabs.places:
            return False
        size = self.tape.storages[s].size
        if "first" in self.passes and counts[s] == 1 and code.is_direct(x) and x[1] == 0 and code.size == size:
            self._touched.add(s)
            return True
        self._clear(s)
        return False

    def _emit_scalars(self, what: str, g: int) -> None:
        group = self.groups[g]
        (place, active, _), outside = self._runs[g], self._outside[g]
        if what == REVERSE:
            if not active:
                return
            for s in outside:
                self._clear(s)
            for s in outside & self.adjoints:
                self._use(s, True)
        for s in outside:
            self._use(s, False)
        touched = {s for k in group.instructions for s in (*self.reads[k], *self.writes[k])} if self._large else ()
        touches = [Touch(s, adjoint, True) for s in touched for adjoint in (False, True)]
        self._row((f"scalars_{NAMES[group.number]}", what, place), what, group.instructions, touches=touches)

    # ---- single instructions -------------------------------------------------------------------------------------------

    def _copy(self, source: int, target: int, kind: str, k: int) -> None:
        """Write a row that copies a buffer to another; broadcast as an assignment does."""
        tape, shape = self.tape, self.tape.buffers[target].shape
        x, z = reach(tape, source, shape), reach(tape, target, shape)
        numbers = (x[3], z[3])
        computed = F8 if F8 in numbers or numbers == (I8, F4) else F4
        if all(n not in (F8, F4) for n in numbers):
            computed = I8
        code = Code(tuple(dim for dim in shape if dim != 1), computed)
        code.store(code.run(COPY, code.load(source, x)), target, z, 0, False)
        self.plan.work += code.size
        self._finish(code, kind, (k,))

    def _assign(self, what: str, k: int) -> None:
        """Save what is overwritten, write; on the way back take the adjoint away, and put the saved values back."""
        tape, of = self.tape, self.storage_of
        (e,), (y, saved) = tape.operand_buffers[k], tape.result_buffers[k]
        if what == FORWARD:
            if self.target is not None:
                self._copy(y, saved, what, k)
            self._copy(e, y, what, k)
            return
        if of[y] in self.adjoints:
            shape, number = tape.buffers[y].shape, tape.storages[of[y]].number
            self._clear(of[y])
            code = Code(tuple(dim for dim in shape if dim != 1), number)
            taken = code.load(y, reach(tape, y, shape), ADJOINT | TAKE)
            if of[e] in self.adjoints:
                self._clear(of[e])
                code.store(taken, e, reach(tape, e, shape), ADJOINT, True)
            self._finish(code, what, (k,))
        self._copy(saved, y, what, k)

    def _structural(self, what: str, k: int) -> None:
        """Write the row of a structural instruction; on the way back one that adds to adjoints, one that restores."""
        tape, of, plan = self.tape, self.storage_of, self.plan
        op = tape.ops[k]
        if not isinstance(op, Structural):
            raise TypeError(f"{op.name} is no structural op")
        operand_buffers, result_buffers = tape.operand_buffers[k], tape.result_buffers[k]
        operands = [tape.layout(b) for b in operand_buffers]
        results = [tape.layout(b) for b in result_buffers]
        kernels = structural_kernels(op.group)
        parameters = tape.parameters[k] or {}
        values = [of[b] for b in (*operand_buffers, *result_buffers)]

        def row(kernel: Any, words: list[int]) -> None:
            for s in values:
                self._use(s, False)
            address = None if op.address is None else op.address(what, operands, results)
            number = kernels.index(kernel) if op.address is None else 0
            place = self._words([number, operands[0].number, *words])
            items, touches = self._items(what, k, op) if self._large else (0, None)
            self._row((op.group, "kernel", place), what, (k,), items, touches, address)

        if what == FORWARD:
            plan.scratch_bytes = max(plan.scratch_bytes, op.scratch(operands, results))
            plan.needs_functions = plan.needs_functions or op.group in ("products", "linalg")
            plan.work += sum(o.size for o in operands)
            row(op.forward, op.words(operands, results, parameters))
            return
        active = [of[operand_buffers[i]] for i in op.active if of[operand_buffers[i]] in self.adjoints]
        led = result_buffers if op.address is not None else result_buffers[:1]
        flows = any(of[b] in self.adjoints for b in led)
        if op.reverse is not None and flows and (op.restore is not None or active):
            first = 0
            for i in op.active:
                s = of[operand_buffers[i]]
                if s not in self.adjoints:
                    continue
                if (
                    op.stores
                    and "first" in self.passes
                    and s not in self._touched
                    and s not in self.slabs.places
                    and tape.is_whole(operand_buffers[i])
                ):
                    first |= 1 << i
                    self._touched.add(s)
                else:
                    self._clear(s)
            for b in result_buffers[:1]:
                self._clear(of[b])
            for s in (*active, *(of[b] for b in result_buffers[:1])):
                self._use(s, True)
            row(op.reverse, op.words(operands, results, {**parameters, "first": first} if first else parameters))
        if op.restore is not None:
            row(op.restore, op.words(operands, results, parameters))

    def _items(self, what: str, k: int, op: Structural) -> tuple[int, list[Touch] | None]:
        """Give how many items a structural instruction can be done by, and what it touches at each of them."""
        tape = self.tape
        buffers = [*tape.operand_buffers[k], *tape.result_buffers[k]]
        operands, results = (
            [tape.layout(b) for b in made] for made in (tape.operand_buffers[k], tape.result_buffers[k])
        )
        items, strides = op.items(operands, results) if op.items else (0, ())
        if not items:
            return 0, None if op.address else [Touch(s, adjoint, True) for s, adjoint in self._uses]
        touches = []
        for i, (b, stride) in enumerate(zip(buffers, strides, strict=True)):
            x, s = tape.buffers[b], self.storage_of[b]
            for adjoint in (False, True):
                if (s, adjoint) in self._uses:
                    writes = (what == FORWARD) if i >= len(operands) else adjoint
                    touches.append(touch(s, adjoint, writes, x.offset, x.shape, (stride, *x.strides[1:])))
        adjoints = [t.storage for t in touches if t.adjoint]
        return items if len(set(adjoints)) == len(adjoints) else 0, touches  # two operands' adjoints come one by one

    # ---- where things lie ----------------------------------------------------------------------------------------------

    def _place_arena(self, used: set[int]) -> None:
        """Lay the arena out: numbers, small things, adjoints to zero, and what shares memory from row to row."""
        tape, plan = self.tape, self.plan
        end = 0

        def take(size: int, align: int) -> int:
            nonlocal end
            start = end + -end % align
            end = start + size
            return start

        slabs = self.slabs
        for number in (F8, F4):
            plan.value_slabs[number] = take(ITEM[number] * slabs.sizes[number], 64)
        for s, slot in slabs.places.items():
            number = tape.storages[s].number
            plan.value_places[s] = plan.value_slabs[number] + ITEM[number] * slot
        for number, slot, value in slabs.presets:
            at = plan.value_slabs[number] + ITEM[number] * slot
            plan.presets.append((at, np.asarray(value, STORED[number]).reshape(1)))
        last = len(plan.rows)
        spans: dict[int, tuple[int, int]] = {}
        sizes: dict[int, int] = {}
        for s in sorted(used - slabs.places.keys()):
            storage = tape.storages[s]
            if storage.kind == CONSTANT:
                if storage.size == 1:
                    plan.value_places[s] = take(ITEM[storage.number], 8)
                    plan.presets.append((plan.value_places[s], storage.data.reshape(1)))
            elif storage.kind == INPUT and self._bytes(s) > IN_PLACE:
                continue
            elif storage.kind == INPUT or self._bytes(s) <= SMALL:
                if storage.kind == INPUT or (s, False) in self._spans:
                    plan.value_places[s] = take(self._bytes(s), 64 if storage.size > 8 else 8)
            elif (s, False) in self._spans:
                first, final = self._spans[s, False]
                spans[2 * s], sizes[2 * s] = (first, last if s in self.kept else final), self._bytes(s)
        for s in sorted(self.adjoints - slabs.places.keys()):
            if s in self._zeros or not (s in self.wrt or (s, True) in self._spans):
                continue
            if self._bytes(s) <= SMALL:
                plan.adjoint_places[s] = take(self._bytes(s), 64 if tape.storages[s].size > 8 else 8)
            elif s not in self.wrt or self._bytes(s) <= IN_PLACE:
                first, final = self._spans[s, True]
                spans[2 * s + 1], sizes[2 * s + 1] = (first, last if s in self.wrt else final), self._bytes(s)
        start = take(0, 64)
        for number in (F8, F4):
            plan.adjoint_slabs[number] = take(ITEM[number] * slabs.sizes[number], 64)
        ahead = {number: plan.adjoint_slabs[number] - plan.value_slabs[number] for number in (F8, F4)}
        for s in slabs.places.keys() & self.adjoints:
            plan.adjoint_places[s] = plan.value_places[s] + ahead[tape.storages[s].number]
        for s in sorted(self._zeros - slabs.places.keys()):
            plan.adjoint_places[s] = take(self._bytes(s), 64 if tape.storages[s].size > 8 else 8)
        plan.zeros = (start, take(0, 8))
        places, plan.arena_bytes = place(sizes, spans, take(0, 64), "reuse" in self.passes)
        for thing, at in places.items():
            (plan.adjoint_places if thing & 1 else plan.value_places)[thing >> 1] = at
