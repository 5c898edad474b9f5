"""Scalar runs: the instructions on single numbers, and on very small arrays, that one tight switch does.

An instruction on up to `LANES` elements becomes one on lanes, or else one an element.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from .kernels.constants import (
    F4,
    LANES,
    SCALAR_ADD,
    SCALAR_ADD_ADD,
    SCALAR_ASSIGN,
    SCALAR_COSINE,
    SCALAR_FIRST,
    SCALAR_GUARD,
    SCALAR_LANES,
    SCALAR_LANES_SUM,
    SCALAR_MAX,
    SCALAR_MIN,
    SCALAR_MULTIPLY_ADD,
    SCALAR_MULTIPLY_SUBTRACT,
    SCALAR_SINE,
    SCALAR_STORE,
    SCALAR_SUBTRACT_PRODUCT,
    SCALAR_SUM,
    SCALAR_WORDS,
)
from .kernels.op import has_lanes
from .kernels.table import OPS, Elementwise, Op
from .operands import ADD, MULTIPLY, OUTER, Operands, adjoin
from .slabs import Slabs

COPY, SUBTRACT, SINE, COSINE = (OPS[name].code for name in ("copy", "subtract", "sin", "cos"))
SUMS = (ADD, SUBTRACT)
#: what is done together with its partial, where that is wanted
CIRCULAR = {SINE: SCALAR_SINE, COSINE: SCALAR_COSINE}
REDUCTIONS = {"sum": SCALAR_SUM, "max": SCALAR_MAX, "min": SCALAR_MIN}

#: words of an instruction while a run is made: op, z, x, y, w, activity
WORDS = 6

_OPEN: dict[int, int] = {}
_LANED: dict[int, bool] = {}


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


class ScalarRun(Operands):
    """Makes one run of instructions of one number class.

    It is `active` if it has a way back, and makes `copies` if the way back may read numbers that are not on the tape:
    the way forward, which makes them, must come before. apart tells to do without, where there is another way, because
    the way back may come first.
    """

    def __init__(self, slabs: Slabs, instructions: Sequence[int], number: int, apart: bool) -> None:
        super().__init__(slabs, instructions, number)
        self.active = self.copies = False
        self.apart = apart
        tape = self.tape
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

    def _elementwise(self, op: Elementwise, operands: Sequence[int], result: int) -> None:
        slabs, code = self.slabs, op.code
        s = self.of[result]
        active = 0
        flows = slabs.flows
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
        numbers, places = self.numbers, slabs.places
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
            z = numbers[result] = places[s] = slabs.place(self.number)
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
        slabs = self.slabs
        source, s = self.of[operand], self.of[result]
        own = s in self.inner and s not in slabs.kept and self.tape.storages[s].number == self.number
        return own and source not in slabs.written

    def _alias(self, places: list[int], result: int) -> None:
        s = self.of[result]
        for element, place in zip(self._elements(result, self.tape.buffers[result].shape), places, strict=True):
            self.copied[s, element] = place
        self._forget(places)

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
        if op.code == MULTIPLY and not out and self.of[result] in self.once and self._steady(operands):
            self.waiting[MULTIPLY].update(zip(z, range(start, len(self.code), WORDS), strict=True))
        self.code += out

    def _on_lanes(self, op: Elementwise, operands: Sequence[int], result: int, active: int) -> bool:
        """Make one instruction on lanes; tell whether the result's elements are lanes."""
        s, shape = self.of[result], self.tape.buffers[result].shape
        first = self.slabs.place_of(s, self.number)
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

    def _steady(self, operands: Sequence[int]) -> bool:
        """Whether operands may be read late: nothing is written over them."""
        written = self.slabs.written
        return not written or written.isdisjoint([self.of[b] for b in operands])

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
        of, adjoints = self.of, self.slabs.adjoints
        shape, s = self.tape.buffers[target].shape, of[target]
        x, (places, out) = self._read(operand, shape), self._write(saved, shape)
        elements = self._elements(target, shape)
        first = self.slabs.place_of(s, self.number)
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
        """Append a reduction of neighbours, which are brought side by side if they are not."""
        of, adjoints = self.of, self.slabs.adjoints
        active = SCALAR_ADD if of[operand] in adjoints and of[result] in adjoints else 0
        shape = self.tape.buffers[operand].shape
        x, code = self._read(operand, shape), REDUCTIONS[op.name]
        first = x[0] if adjoin(x) else self._gather(x, active, of[operand] not in self.slabs.written)
        if code != SCALAR_SUM and active and first != x[0]:
            self.copies = True
        elif code == SCALAR_SUM and (first != x[0] or self._are_lanes(x)):
            code = SCALAR_LANES_SUM
        (z,), out = self._write(result, ())
        if active:
            self.active = True
        self.code += code, z, first, len(x), 0, active
        self.code += out

    # ---- the row -----------------------------------------------------------------------------------------------------------

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
        # the way back goes from the last row to the first, and through the operands of a row in their order: the other
        # way round, what comes last is what the way back does first
        rows, turned = np.nonzero(code[:, WORDS - 1, None] >> np.array([4, 2, 0]) & SCALAR_ADD)
        bits = 2 - turned
        places = code[rows, 2 + bits]
        several = np.isin(code[rows, 0], (*REDUCTIONS.values(), SCALAR_LANES_SUM))  # they add to neighbours
        counts = np.where(several, code[rows, 3], np.where(code[rows, 0] >= SCALAR_LANES, LANES, 1))
        owner = np.repeat(np.arange(len(rows)), counts)
        turn = np.arange(len(owner))
        touched = places[owner] + turn - np.repeat(np.cumsum(counts) - counts, counts)
        last = np.zeros(self.slabs.sizes[self.number], np.int64)
        last[touched] = turn
        sets = (last[touched] == turn) & self._private()[touched]
        whole = np.bincount(owner, sets, len(rows)) == counts
        whole &= ~np.isin(code[rows, 0], (SCALAR_MAX, SCALAR_MIN))
        np.add.at(code[:, WORDS - 1], rows[whole], (SCALAR_FIRST - SCALAR_ADD) << 2 * bits[whole])

    def _private(self) -> Any:
        """Mark the places whose adjoints the run alone adds to."""
        storages, places = self.tape.storages, self.slabs.places
        found = bytearray(self.slabs.sizes[self.number])
        for place in self.fresh:
            found[place] = 1
        for s in self.inner & places.keys():
            if storages[s].number == self.number:
                place, size = places[s], storages[s].size
                if size == 1:
                    found[place] = 1
                else:
                    size = LANES if place in self.slabs.lanes[self.number] else size
                    found[place : place + size] = b"\1" * size
        return np.frombuffer(found, bool)
