"""Scalar runs: the instructions on single numbers, and on very small arrays, that one tight switch does.

Every storage that they touch lies in the slab of its number class, a stretch of the arena, if it is small enough: an
operand is then a place in the slab, and so is an element of it. An instruction on up to `LANES` elements becomes one on
lanes, which are that many neighbouring places (those that fill up belong to nobody), or else one an element. What lies
elsewhere (other classes, large arrays) is loaded and written out.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from .kernels.constants import (
    B1,
    F4,
    F8,
    I8,
    LANES,
    SCALAR_ADD,
    SCALAR_ADD_ADD,
    SCALAR_ASSIGN,
    SCALAR_COSINE,
    SCALAR_FIRST,
    SCALAR_FOURTH,
    SCALAR_GATHER,
    SCALAR_GUARD,
    SCALAR_LANES,
    SCALAR_LANES_SUM,
    SCALAR_LOAD,
    SCALAR_MAX,
    SCALAR_MIN,
    SCALAR_MULTIPLY_ADD,
    SCALAR_MULTIPLY_SUBTRACT,
    SCALAR_OUT,
    SCALAR_SINE,
    SCALAR_SPREAD,
    SCALAR_STORE,
    SCALAR_SUBTRACT_PRODUCT,
    SCALAR_SUM,
    SCALAR_WORDS,
)
from .kernels.op import has_lanes
from .kernels.table import OPS, Elementwise, Op
from .shape import broadcast_strides
from .tape import CONSTANT, INPUT, VALUE, Wengert

#: storages of more elements than this are never in the slab
SMALL = 256
#: the class of what goes with a run of any class: guards
ANY = -1
#: that there is an adjoint outside the slab to reach; the bits below tell of the operands
OUTER = 64

COPY, ADD, SUBTRACT, MULTIPLY, SINE, COSINE = (
    OPS[name].code for name in ("copy", "add", "subtract", "multiply", "sin", "cos")
)
SUMS = (ADD, SUBTRACT)
#: what is done together with its partial, where that is wanted
CIRCULAR = {SINE: SCALAR_SINE, COSINE: SCALAR_COSINE}
REDUCTIONS = {"sum": SCALAR_SUM, "max": SCALAR_MAX, "min": SCALAR_MIN}

#: words of an instruction while a run is made: op, z, x, y, w, activity
WORDS = 6


def computed_class(tape: Wengert, k: int) -> int:
    """Give the number class in which an elementwise instruction computes."""
    parameters = tape.parameters[k]
    if parameters and "computed" in parameters:
        return int(parameters["computed"])
    number = tape.storages[tape.storage_of[tape.result_buffers[k][0]]].number
    return I8 if number == B1 else number  # truth values are computed as integers


def _open(op: Elementwise) -> int:
    """Give the bits of those operands through which a derivative flows."""
    bits = _OPEN.get(op.code)
    if bits is None:
        partials = enumerate(op.partials)
        bits = _OPEN[op.code] = sum(SCALAR_ADD << 2 * i for i, partial in partials if partial is not None)
    return bits


def _has_lanes(op: Elementwise) -> bool:
    """Whether several elements are done at once."""
    known = _LANED.get(op.code)
    if known is None:
        known = _LANED[op.code] = has_lanes(op)
    return known


def _adjoin(places: Sequence[int]) -> bool:
    """Whether places are neighbours, in their order."""
    first, count = places[0], len(places)
    return places[-1] - first == count - 1 and list(places) == list(range(first, first + count))


_OPEN: dict[int, int] = {}
_LANED: dict[int, bool] = {}


def _readers(tape: Wengert, instructions: Sequence[int]) -> Counter[int]:
    """Count for each storage how often some instructions read it."""
    read = itertools.chain.from_iterable(map(tape.operand_buffers.__getitem__, instructions))
    return Counter(map(tape.storage_of.__getitem__, read))


class Scalars:
    """Makes the scalar runs of a plan, and says where in the slabs what they touch lies.

    needed are the tape's instructions that are planned, adjoints the storages that have one, kept those that are read
    after a sweep, target the storage that is seeded.
    """

    def __init__(
        self, tape: Wengert, needed: Sequence[int], adjoints: Collection[int], kept: Collection[int], target: int | None
    ) -> None:
        self.tape, self.adjoints, self.kept = tape, adjoints, kept
        self.sizes = {F8: 0, F4: 0}  # numbers in each slab
        self.places: dict[int, int] = {}  # storage -> place of its first element in the slab of its class
        self.presets: list[tuple[int, int, Any]] = []  # (class, place, value) of constants
        of = tape.storage_of
        self._of = of
        self.count = len(needed)
        self._readers = _readers(tape, needed)
        self._written = {of[tape.result_buffers[k][0]] for k in tape.find(("assign", "scatter"), needed)}
        self._shared = self._written if target is None else self._written | {target}
        #: lanes of less than LANES numbers of storages -> how many
        self.lanes: dict[int, dict[int, int]] = {F8: {}, F4: {}}
        self._spare: dict[int, list[int]] = {F8: [], F4: []}  # places between lanes
        self._constants: dict[tuple[Any, ...], int] = {}
        #: class -> for each buffer its place in the slab, if it is of one number and was met already, else -1
        self._numbers = {F8: [-1] * len(of), F4: [-1] * len(of)}
        self._flows = [SCALAR_ADD if s in adjoints else 0 for s in of]  # for each buffer, whether it has an adjoint

    def kind(self, k: int) -> int | None:
        """Give the number class of the scalar runs that an instruction can be in: F8, F4 or `ANY`; None for none."""
        tape, op = self.tape, self.tape.ops[k]
        if type(op) is Elementwise or op.name == "assign":
            result = tape.buffers[tape.result_buffers[k][0]]
            shape = result.shape
            if not shape and tape.parameters[k] is None:
                number = tape.storages[tape.storage_of[tape.result_buffers[k][0]]].number
                return number if number in (F8, F4) else None
            if shape and not 0 < math.prod(shape) <= LANES:
                return None
        elif op.name == "guard":
            return ANY if tape.buffers[tape.operand_buffers[k][0]].dtype == bool else None
        elif op.name in REDUCTIONS:
            operand, result = (tape.buffers[b[k][0]] for b in (tape.operand_buffers, tape.result_buffers))
            if not 0 < math.prod(operand.shape) <= LANES or math.prod(result.shape) != 1:
                return None
            if operand.dtype != result.dtype:
                return None
        else:
            return None
        number = computed_class(tape, k)
        return number if number in (F8, F4) else None

    def run(self, instructions: Sequence[int], apart: bool) -> tuple[array[int], bool, bool]:
        """Make one run of instructions of one class: the words of the row, whether it has a way back, and `copies`.

        That is whether the way back may read numbers that are not on the tape: the way forward, which makes them, must
        come before. apart tells to do without, where there is another way, because the way back may come first.
        """
        run = _Run(self, instructions, apart)
        return run.words(), run.active, run.copies

    def place(self, number: int, count: int = 1) -> int:
        """Take the next places in a slab; a few numbers are lanes."""
        place, spare = self.sizes[number], self._spare[number]
        if count == 1 and spare:
            return spare.pop()
        if 1 < count <= LANES:
            while place % LANES:
                spare.append(place)
                place += 1
            self.lanes[number][place] = count
            count = LANES
        self.sizes[number] = place + count
        return place

    def place_of(self, s: int, number: int) -> int | None:
        """Give the place of a storage in the slab of a class; None if it is not in there."""
        place = self.places.get(s)
        storage = self.tape.storages[s]
        if place is not None:
            return place if storage.number == number else None
        if storage.number != number or storage.size > SMALL or storage.kind not in (VALUE, INPUT):
            return None
        self.places[s] = place = self.place(number, storage.size)
        return place

    def constant(self, s: int, number: int) -> int:
        """Give the place of a number that never changes."""
        place = self._constants.get((s, number))
        if place is None:
            place = self._constants[s, number] = self.place(number)
            self.presets.append((number, place, self.tape.storages[s].data.reshape(-1)[0]))
        return place

    def constants(self, s: int, elements: Sequence[int], number: int) -> int:
        """Give the place of lanes that never change: elements of a storage."""
        key = (s, number, *elements)
        place = self._constants.get(key)
        if place is None:
            place = self._constants[key] = self.place(number, len(elements))
            data = self.tape.storages[s].data.reshape(-1)
            self.presets += [(number, place + k, data[e]) for k, e in enumerate(elements)]
        return place


class _Run:
    """One run while it is made."""

    def __init__(self, scalars: Scalars, instructions: Sequence[int], apart: bool) -> None:
        self.scalars, self.tape = scalars, scalars.tape
        self.number = next(n for n in map(scalars.kind, instructions) if n is not None and n != ANY)
        self.code: list[int] = []
        self.active = self.copies = False
        self.apart = apart
        tape = self.tape
        every = len(instructions) == scalars.count
        readers = scalars._readers if every else _readers(tape, instructions)
        #: the storages that nothing outside the run reads
        self.inner = {s for s, count in readers.items() if count == scalars._readers[s]}
        self.inner -= scalars._shared
        #: those of them that are read once
        self.once = {s for s in self.inner if readers[s] == 1}.difference(scalars.kept)
        self.numbers = scalars._numbers[self.number]
        self.loaded: dict[tuple[int, int], int] = {}  # (storage, element) outside the slab -> place of its copy
        self.copied: dict[tuple[int, int], int] = {}  # (storage, element) that is a copy -> the place of its source
        #: product or sum -> its place -> where in the code it is, so that it may go into the sum that reads it
        self.waiting: dict[int, dict[int, int]] = {
            lanes + code: {} for lanes in (0, SCALAR_LANES) for code in (MULTIPLY, ADD)
        }
        #: whether an adjoint flows, places -> the lanes that are their copies
        self.gathered: dict[tuple[int, ...], int] = {}
        self.fresh: set[int] = set()  # places of the run's own
        for k in instructions:
            op = tape.ops[k]
            if type(op) is Elementwise:
                self._elementwise(op, tape.operand_buffers[k], tape.result_buffers[k][0])
            elif op.name == "assign":
                self._assign(tape.operand_buffers[k][0], *tape.result_buffers[k])
            elif op.name == "guard":
                parameters = tape.parameters[k] or {}
                (x,) = self._read(tape.operand_buffers[k][0], ())
                self.code += SCALAR_GUARD, x, parameters["place"], parameters["expected"], 0, 0
            else:
                self._reduction(op, tape.operand_buffers[k][0], tape.result_buffers[k][0])

    def words(self) -> array[int]:
        """Give the words of the row: the buffer of the slab, how many instructions, the instructions."""
        code = np.array(self.code, np.int64).reshape(-1, WORDS)
        code = code[code[:, 0] >= 0]
        self._mark_first(code)
        packed = np.zeros((len(code) * SCALAR_WORDS + 1) // 2 * 2, np.int32)
        table = packed[: len(code) * SCALAR_WORDS].reshape(-1, SCALAR_WORDS)
        table[:] = code[:, :SCALAR_WORDS]
        table[:, 0] |= (code[:, SCALAR_WORDS] << 16).astype(np.int32)
        slab = len(self.tape.buffers) + (self.number == F4)
        words = array("q", (slab, len(code)))
        words.frombytes(packed.tobytes())
        return words

    def _mark_first(self, code: Any) -> None:
        """Let the first that adds to an adjoint of the run's own, on the way back, set it instead."""
        # the way back goes from the last row to the first, and through the operands of a row in their order: the other way
        # round, what comes last is what the way back does first
        rows, turned = np.nonzero(code[:, WORDS - 1, None] >> np.array([4, 2, 0]) & SCALAR_ADD)
        bits = 2 - turned
        places = code[rows, 2 + bits]
        several = np.isin(code[rows, 0], (*REDUCTIONS.values(), SCALAR_LANES_SUM))  # they add to neighbours
        counts = np.where(several, code[rows, 3], np.where(code[rows, 0] >= SCALAR_LANES, LANES, 1))
        owner = np.repeat(np.arange(len(rows)), counts)
        turn = np.arange(len(owner))
        touched = places[owner] + turn - np.repeat(np.cumsum(counts) - counts, counts)
        last = np.zeros(self.scalars.sizes[self.number], np.int64)
        last[touched] = turn
        sets = (last[touched] == turn) & self._private()[touched]
        whole = np.bincount(owner, sets, len(rows)) == counts
        whole &= ~np.isin(code[rows, 0], (SCALAR_MAX, SCALAR_MIN))
        np.add.at(code[:, WORDS - 1], rows[whole], (SCALAR_FIRST - SCALAR_ADD) << 2 * bits[whole])

    def _private(self) -> Any:
        """Mark the places whose adjoints the run alone adds to."""
        storages, places = self.tape.storages, self.scalars.places
        found = bytearray(self.scalars.sizes[self.number])
        for place in self.fresh:
            found[place] = 1
        for s in self.inner & places.keys():
            if storages[s].number == self.number:
                place, size = places[s], storages[s].size
                if size == 1:
                    found[place] = 1
                else:
                    size = LANES if place in self.scalars.lanes[self.number] else size
                    found[place : place + size] = b"\1" * size
        return np.frombuffer(found, bool)

    # ---- operands and results ------------------------------------------------------------------------------------------

    def _elements(self, buffer: int, shape: tuple[int, ...]) -> Sequence[int]:
        """Give the elements of a buffer within its storage, as they go with the elements of an index space."""
        b = self.tape.buffers[buffer]
        if not shape:
            return (b.offset,)
        if b.shape == shape and len(shape) == 1 and b.strides[0]:
            return range(b.offset, b.offset + shape[0] * b.strides[0], b.strides[0])
        extra = max(len(b.shape) - len(shape), 0)  # an assignment may drop leading axes of one element
        strides = broadcast_strides(b.shape[extra:], b.strides[extra:], shape)
        steps = [range(0, n * step, step) if step else [0] * n for n, step in zip(shape, strides, strict=True)]
        return [b.offset + sum(index) for index in itertools.product(*steps)]

    def _fresh(self) -> int:
        """Take a place of the run's own."""
        place = self.scalars.place(self.number)
        self.fresh.add(place)
        return place

    def _read(self, buffer: int, shape: tuple[int, ...]) -> list[int]:
        """Give the places of an operand's elements; load what is not in the slab."""
        scalars, s = self.scalars, self.scalars._of[buffer]
        storage = self.tape.storages[s]
        if storage.kind is CONSTANT and storage.size == 1:
            place = scalars.constant(s, self.number)
            self.numbers[buffer] = place
            return [place] * math.prod(shape)
        elements = self._elements(buffer, shape)
        if self.copied:
            sources = [self.copied.get((s, e), -1) for e in elements]
            if -1 not in sources:
                return sources
        first = scalars.place_of(s, self.number)
        if first is not None:
            if not shape:
                self.numbers[buffer] = first + elements[0]
            return [first + e for e in elements]
        return [self._load(s, e, buffer) for e in elements]

    def _load(self, s: int, element: int, buffer: int) -> int:
        place = self.loaded.get((s, element))
        if place is None:
            place = self.loaded[s, element] = self._fresh()
            active = OUTER if s in self.scalars.adjoints else 0
            self.code += SCALAR_LOAD, place, buffer, 0, self._outer(buffer, element), active
        return place

    def _outer(self, buffer: int, element: int) -> int:
        """Say where from a buffer's beginning an element lies, and its class."""
        return 4 * (element - self.tape.buffers[buffer].offset) + self.tape.storages[self.scalars._of[buffer]].number

    def _write(self, buffer: int, shape: tuple[int, ...], exact: bool = False) -> tuple[list[int], list[int]]:
        """Give the places for a result's elements, and what writes them out, if they belong elsewhere.

        exact tells that writing them out does not round them, so that the run may read them where they are.
        """
        scalars, s = self.scalars, self.scalars._of[buffer]
        elements = self._elements(buffer, shape)
        first = scalars.place_of(s, self.number)
        if first is not None:
            if not shape:
                self.numbers[buffer] = first + elements[0]
            return [first + e for e in elements], []
        places = [self._fresh() for _ in elements]
        for element in elements:
            self.loaded.pop((s, element), None)
        active = SCALAR_ADD if s in scalars.adjoints else 0
        if exact:
            self.loaded.update({(s, e): place for e, place in zip(elements, places, strict=True)})
            if s in self.inner and s not in scalars.kept:
                return places, []
        out: list[int] = []
        for element, place in zip(elements, places, strict=True):
            out += SCALAR_OUT, place, place, buffer, self._outer(buffer, element), active
        return places, out

    def _are_lanes(self, places: Sequence[int]) -> bool:
        """Whether places are neighbours, and none but them and what fills them up is done with them."""
        count = len(places)
        return _adjoin(places) and (count == LANES or self.scalars.lanes[self.number].get(places[0]) == count)

    def _gather(self, places: Sequence[int], active: int, steady: bool) -> int:
        """Bring numbers side by side, as lanes; give the first place. steady tells that nothing is written over them."""
        key = (active, *places)
        first = self.gathered.get(key)
        if first is None or not steady:
            count = len(places)
            first = self.gathered[key] = self.scalars.place(self.number, count)
            self.fresh.update(range(first, first + LANES))
            if len(set(places)) == 1:
                self.code += SCALAR_SPREAD, first, places[0], count, 0, active
            else:
                x, y, w, last = (*places, places[0], places[0])[:LANES]
                third, fourth = (active if count > n else 0 for n in (2, 3))
                self.code += SCALAR_GATHER, first, x, y, w, active | active << 2 | third << 4
                self.code += SCALAR_FOURTH, first + 3, last, last, last, fourth
            self._forget(places)
        return first

    # ---- instructions --------------------------------------------------------------------------------------------------

    def _elementwise(self, op: Elementwise, operands: Sequence[int], result: int) -> None:
        scalars, code = self.scalars, op.code
        s = scalars._of[result]
        active = 0
        flows = scalars._flows
        if flows[result]:
            active = flows[operands[0]]
            if len(operands) > 1:
                active |= flows[operands[1]] << 2
                if len(operands) > 2:
                    active |= flows[operands[2]] << 4
            active &= _open(op)
            if active:
                self.active = True
        shape = self.tape.buffers[result].shape
        if code == COPY and self._is_alias(operands[0], result):
            self._alias(self._read(operands[0], shape), result)
            return
        if shape:
            self._spread(op, operands, result, active)
            return
        numbers, places = self.numbers, scalars.places
        x = y = w = numbers[operands[0]]
        if x < 0:
            x = y = w = self._read(operands[0], ())[0]
        if len(operands) > 1:
            y = numbers[operands[1]]
            if y < 0:
                y = self._read(operands[1], ())[0]
            if len(operands) > 2:
                w = self._read(operands[2], ())[0]
        storage = self.tape.storages[s]
        out: Sequence[int] = ()
        if s not in places and storage.size == 1 and storage.number == self.number:  # the most common by far
            z = numbers[result] = places[s] = scalars.place(self.number)
        else:
            (z,), out = self._write(result, shape, op.boolean)
        at = len(self.code)
        if code in SUMS:
            code = self._sum(code, z, x, y, active)
        elif active and code in CIRCULAR and not self.apart:
            self._circular(code, z, x, active)
        else:
            self.code += code, z, x, y, w, active
        waiting = self.waiting.get(code)
        if waiting is not None and s in self.once and not out and self._steady(operands):
            waiting[z] = at
        self.code += out

    def _is_alias(self, operand: int, result: int) -> bool:
        """Whether a copy, which the run alone reads, may be read where its source is."""
        scalars = self.scalars
        source, s = scalars._of[operand], scalars._of[result]
        own = s in self.inner and s not in scalars.kept and self.tape.storages[s].number == self.number
        return own and source not in scalars._written

    def _alias(self, places: list[int], result: int) -> None:
        s = self.scalars._of[result]
        for element, place in zip(self._elements(result, self.tape.buffers[result].shape), places, strict=True):
            self.copied[s, element] = place
        self._forget(places)

    def _forget(self, places: Sequence[int]) -> None:
        """Leave products and sums where they are: more than one instruction may read them."""
        for waiting in self.waiting.values():
            if waiting:
                for place in places:
                    waiting.pop(place, None)

    def _spread(self, op: Elementwise, operands: Sequence[int], result: int, active: int) -> None:
        """Make one instruction on lanes, or else one an element."""
        shape = self.tape.buffers[result].shape
        if _has_lanes(op) and self._on_lanes(op, operands, result, active):
            return
        read = [self._read(b, shape) for b in operands]
        z, out = self._write(result, shape, op.boolean)
        for spread in (x for x in read if len(set(x)) < len(x)):  # more than one instruction reads them
            self._forget(spread)
        read += [read[0]] * (3 - len(read))
        start = len(self.code)
        for places in zip(z, *read, strict=True):
            if op.code in SUMS:
                self._sum(op.code, places[0], places[1], places[2], active)
            elif active and op.code in CIRCULAR and not self.apart:
                self._circular(op.code, places[0], places[1], active)
            else:
                self.code += op.code, *places, active
        if op.code == MULTIPLY and not out and self.scalars._of[result] in self.once and self._steady(operands):
            self.waiting[MULTIPLY].update(zip(z, range(start, len(self.code), WORDS), strict=True))
        self.code += out

    def _on_lanes(self, op: Elementwise, operands: Sequence[int], result: int, active: int) -> bool:
        """Make one instruction on lanes; tell whether the result's elements are lanes."""
        s, shape = self.scalars._of[result], self.tape.buffers[result].shape
        first = self.scalars.place_of(s, self.number)
        if first is None:
            return False
        z = [first + e for e in self._elements(result, shape)]
        if not self._are_lanes(z):
            return False
        if self.apart and active and not all(self._is_side_by_side(b, shape) for b in operands):
            return False
        read = [self._lanes(b, shape, active >> 2 * i & SCALAR_ADD) for i, b in enumerate(operands)]
        if active and self.gathered and not self.apart:
            self.copies = True
        x, y, w = read + [read[0]] * (3 - len(read))
        at = len(self.code)
        if op.code in SUMS:
            self._sum(op.code, z[0], x, y, active, SCALAR_LANES)
        else:
            self.code += SCALAR_LANES + op.code, z[0], x, y, w, active
        waiting = self.waiting.get(self.code[at])
        if waiting is not None and s in self.once and self._steady(operands):
            waiting[z[0]] = at
        return True

    def _is_side_by_side(self, buffer: int, shape: tuple[int, ...]) -> bool:
        """Whether an operand's elements are lanes as they are, or constants."""
        constant = self.tape.storages[self.scalars._of[buffer]].kind is CONSTANT
        return constant or self._are_lanes(self._read(buffer, shape))

    def _lanes(self, buffer: int, shape: tuple[int, ...], active: int) -> int:
        """Give the first place of an operand's elements as lanes; bring them side by side if they are not."""
        scalars, s = self.scalars, self.scalars._of[buffer]
        if self.tape.storages[s].kind is CONSTANT:
            return scalars.constants(s, self._elements(buffer, shape), self.number)
        places = self._read(buffer, shape)
        return places[0] if self._are_lanes(places) else self._gather(places, active, s not in scalars._written)

    def _steady(self, operands: Sequence[int]) -> bool:
        """Whether operands may be read late: nothing is written over them."""
        written = self.scalars._written
        return not written or written.isdisjoint([self.scalars._of[b] for b in operands])

    def _sum(self, op: int, z: int, x: int, y: int, active: int, lanes: int = 0) -> int:
        """Append a sum or difference, which takes in a product, or a sum, that it alone reads; give its op."""
        products, sums = self.waiting[lanes + MULTIPLY], self.waiting[lanes + ADD]
        w = x
        for source, other in ((x, y), (y, x)):
            if source in products:
                at = products.pop(source)
                reflected = SCALAR_MULTIPLY_SUBTRACT if source == x else SCALAR_SUBTRACT_PRODUCT
                op = SCALAR_MULTIPLY_ADD if op == ADD else reflected
            elif op == ADD and source in sums:
                at = sums.pop(source)
                op = SCALAR_ADD_ADD
            else:
                continue
            flows, rest = (active & 3, active >> 2) if source == x else (active >> 2, active & 3)
            _, _, x, y, _, inner = self.code[at : at + WORDS]
            w, active = other, (inner if flows else 0) | rest << 4
            self.code[at] = -1
            break
        self.code += lanes + op, z, x, y, w, active
        return op

    def _circular(self, op: int, z: int, x: int, active: int) -> None:
        """Append a sine or cosine, which keeps the other for the way back."""
        other, self.copies = self._fresh(), True
        sine, cosine = (z, other) if op == SINE else (other, z)
        self.code += CIRCULAR[op], z, x, sine, cosine, active

    def _assign(self, operand: int, target: int, saved: int) -> None:
        """Write in place: save what is overwritten; on the way back take the adjoint away, and put the saved back."""
        of, adjoints = self.scalars._of, self.scalars.adjoints
        shape, s = self.tape.buffers[target].shape, of[target]
        x, (places, out) = self._read(operand, shape), self._write(saved, shape)
        elements = self._elements(target, shape)
        first = self.scalars.place_of(s, self.number)
        active = SCALAR_ADD if s in adjoints and of[operand] in adjoints else 0
        self.active = True
        if first is not None:
            for old, new, e in zip(places, x, elements, strict=True):
                self.code += SCALAR_ASSIGN, old, new, first + e, 0, active
        else:
            active |= OUTER if s in adjoints else 0
            for old, new, e in zip(places, x, elements, strict=True):
                self.loaded.pop((s, e), None)
                self.code += SCALAR_STORE, old, new, target, self._outer(target, e), active
        self.code += out

    def _reduction(self, op: Op, operand: int, result: int) -> None:
        of, adjoints = self.scalars._of, self.scalars.adjoints
        active = SCALAR_ADD if of[operand] in adjoints and of[result] in adjoints else 0
        shape = self.tape.buffers[operand].shape
        x, code = self._read(operand, shape), REDUCTIONS[op.name]
        first = x[0] if _adjoin(x) else self._gather(x, active, of[operand] not in self.scalars._written)
        if code != SCALAR_SUM and active and first != x[0]:
            self.copies = True
        elif code == SCALAR_SUM and (first != x[0] or self._are_lanes(x)):
            code = SCALAR_LANES_SUM
        (z,), out = self._write(result, ())
        if active:
            self.active = True
        self.code += code, z, first, len(x), 0, active
        self.code += out
