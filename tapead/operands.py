"""Operands and results of a scalar run: places in its slab, and copies there of what lies elsewhere.

What lies elsewhere (other classes, large arrays) is loaded and written out; numbers that an instruction on lanes reads
are brought side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from .kernels.constants import (
    LANES,
    SCALAR_ADD,
    SCALAR_FOURTH,
    SCALAR_GATHER,
    SCALAR_LANES,
    SCALAR_LOAD,
    SCALAR_OUT,
    SCALAR_SPREAD,
)
from .kernels.table import OPS
from .shape import broadcast_strides
from .slabs import Slabs
from .tape import CONSTANT

#: that there is an adjoint outside the slab to reach; the bits below tell of the operands
OUTER = 64

ADD, MULTIPLY = OPS["add"].code, OPS["multiply"].code


def adjoin(places: Sequence[int]) -> bool:
    """Whether places are neighbours, in their order."""
    first, count = places[0], len(places)
    return places[-1] - first == count - 1 and list(places) == list(range(first, first + count))


class Operands:
    """Finds what a run of instructions of one number class reads and writes; its code grows by loads and gathers."""

    def __init__(self, slabs: Slabs, instructions: Sequence[int], number: int) -> None:
        self.slabs, self.tape, self.of, self.number = slabs, slabs.tape, slabs.of, number
        self.code: list[int] = []
        #: the storages that nothing outside the run reads, and those of them that are read once
        self.inner, self.once = slabs.inner(instructions)
        self.numbers = slabs.numbers[number]
        self.loaded: dict[tuple[int, int], int] = {}  # (storage, element) outside the slab -> place of its copy
        self.copied: dict[tuple[int, int], int] = {}  # (storage, element) that is a copy -> the place of its source
        #: product or sum -> its place -> where in the code it is, so that it may go into the sum that reads it
        self.waiting: dict[int, dict[int, int]] = {
            lanes + code: {} for lanes in (0, SCALAR_LANES) for code in (MULTIPLY, ADD)
        }
        #: whether an adjoint flows, places -> the lanes that are their copies
        self.gathered: dict[tuple[int, ...], int] = {}
        self.fresh: set[int] = set()  # places of the run's own

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
        return [b.offset + sum(index) for index in product(*steps)]

    def _fresh(self) -> int:
        """Take a place of the run's own."""
        place = self.slabs.place(self.number)
        self.fresh.add(place)
        return place

    def _read(self, buffer: int, shape: tuple[int, ...]) -> list[int]:
        """Give the places of an operand's elements; load what is not in the slab."""
        slabs, s = self.slabs, self.of[buffer]
        storage = self.tape.storages[s]
        if storage.kind is CONSTANT and storage.size == 1:
            place = slabs.constant(s, self.number)
            self.numbers[buffer] = place
            return [place] * math.prod(shape)
        elements = self._elements(buffer, shape)
        copied = self.copied
        if copied and any((s, e) in copied for e in elements):  # blocks or other runs may have written the rest
            return [copied[s, e] if (s, e) in copied else self._place(s, e, buffer) for e in elements]
        first = slabs.place_of(s, self.number)
        if first is not None:
            if not shape:
                self.numbers[buffer] = first + elements[0]
            return [first + e for e in elements]
        return [self._load(s, e, buffer) for e in elements]

    def _place(self, s: int, element: int, buffer: int) -> int:
        """Give the place of an element, which is loaded if it is not in the slab."""
        first = self.slabs.place_of(s, self.number)
        return self._load(s, element, buffer) if first is None else first + element

    def _load(self, s: int, element: int, buffer: int) -> int:
        place = self.loaded.get((s, element))
        if place is None:
            place = self.loaded[s, element] = self._fresh()
            active = OUTER if s in self.slabs.adjoints else 0
            self.code += SCALAR_LOAD, place, buffer, 0, self._outer(buffer, element), active
        return place

    def _outer(self, buffer: int, element: int) -> int:
        """Say where from a buffer's beginning an element lies, and its class."""
        return 4 * (element - self.tape.buffers[buffer].offset) + self.tape.storages[self.of[buffer]].number

    def _write(self, buffer: int, shape: tuple[int, ...], exact: bool = False) -> tuple[list[int], list[int]]:
        """Give the places for a result's elements, and what writes them out, if they belong elsewhere.

        exact tells that writing them out does not round them, so that the run may read them where they are.
        """
        slabs, s = self.slabs, self.of[buffer]
        elements = self._elements(buffer, shape)
        first = slabs.place_of(s, self.number)
        if first is not None:
            if not shape:
                self.numbers[buffer] = first + elements[0]
            return [first + e for e in elements], []
        places = [self._fresh() for _ in elements]
        for element in elements:
            self.loaded.pop((s, element), None)
        active = SCALAR_ADD if s in slabs.adjoints else 0
        if exact:
            self.loaded.update({(s, e): place for e, place in zip(elements, places, strict=True)})
            if s in self.inner and s not in slabs.kept:
                return places, []
        out: list[int] = []
        for element, place in zip(elements, places, strict=True):
            out += SCALAR_OUT, place, place, buffer, self._outer(buffer, element), active
        return places, out

    def _are_lanes(self, places: Sequence[int]) -> bool:
        """Whether places are neighbours, and none but them and what fills them up is done with them."""
        count = len(places)
        return adjoin(places) and (count == LANES or self.slabs.lanes[self.number].get(places[0]) == count)

    def _is_side_by_side(self, buffer: int, shape: tuple[int, ...]) -> bool:
        """Whether an operand's elements are lanes as they are, or constants."""
        constant = self.tape.storages[self.of[buffer]].kind is CONSTANT
        return constant or self._are_lanes(self._read(buffer, shape))

    def _lanes(self, buffer: int, shape: tuple[int, ...], active: int) -> int:
        """Give the first place of an operand's elements as lanes; bring them side by side if they are not."""
        s = self.of[buffer]
        if self.tape.storages[s].kind is CONSTANT:
            return self.slabs.constants(s, self._elements(buffer, shape), self.number)
        places = self._read(buffer, shape)
        return places[0] if self._are_lanes(places) else self._gather(places, active, s not in self.slabs.written)

    def _gather(self, places: Sequence[int], active: int, steady: bool) -> int:
        """Bring numbers side by side, as lanes; give the first place. steady: nothing is written over them."""
        key = (active, *places)
        first = self.gathered.get(key)
        if first is None or not steady:
            count = len(places)
            first = self.gathered[key] = self.slabs.place(self.number, count)
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

    def _forget(self, places: Sequence[int]) -> None:
        """Leave products and sums where they are: more than one instruction may read them."""
        for waiting in self.waiting.values():
            if waiting:
                for place in places:
                    waiting.pop(place, None)
