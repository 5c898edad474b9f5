"""Slabs: the stretches of the arena, one a number class, in which the numbers of scalar runs lie.

Every storage that a run touches is in the slab of its class if it is small enough; then an element of it is a place in
the slab. Up to `LANES` numbers are lanes, which are that many neighbouring places: those that fill up belong to nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any

from .kernels.constants import F4, F8, LANES, SCALAR_ADD
from .tape import INPUT, VALUE, WRITES, Wengert

#: storages of more elements than this are never in the slab
SMALL = 256


class Slabs:
    """Says where in the slabs what scalar runs touch lies, and what all the runs of a plan ask of the tape.

    needed are the tape's instructions that are planned, adjoints the storages that have one, kept those that are read
    after a sweep, target the storage that is seeded.
    """

    def __init__(
        self, tape: Wengert, needed: Sequence[int], adjoints: Collection[int], kept: Collection[int], target: int | None
    ) -> None:
        self.tape, self.adjoints, self.kept = tape, adjoints, kept
        self.of = of = tape.storage_of
        self.sizes = {F8: 0, F4: 0}  # numbers in each slab
        self.places: dict[int, int] = {}  # storage -> place of its first element in the slab of its class
        self.presets: list[tuple[int, int, Any]] = []  # (class, place, value) of constants
        #: lanes of less than LANES numbers of storages -> how many
        self.lanes: dict[int, dict[int, int]] = {F8: {}, F4: {}}
        #: class -> for each buffer its place in the slab, if it is of one number and was met already, else -1
        self.numbers = {F8: [-1] * len(of), F4: [-1] * len(of)}
        self.flows = [SCALAR_ADD if s in adjoints else 0 for s in of]  # for each buffer, whether it has an adjoint
        self.written = {of[tape.result_buffers[k][0]] for k in tape.find(WRITES, needed)}
        self._count, self._readers = len(needed), self._count_readers(needed)
        #: the storages that are never a run's own, whoever reads them
        self._shared = self.written if target is None else self.written | {target}
        self._spare: dict[int, list[int]] = {F8: [], F4: []}  # places between lanes
        self._constants: dict[tuple[Any, ...], int] = {}

    def _count_readers(self, instructions: Sequence[int]) -> Counter[int]:
        """Count for each storage how often some instructions read it."""
        read = chain.from_iterable(map(self.tape.operand_buffers.__getitem__, instructions))
        return Counter(map(self.of.__getitem__, read))

    def inner(self, instructions: Sequence[int]) -> tuple[set[int], set[int]]:
        """Give the storages that nothing but some instructions reads, and those of them that are read just once."""
        readers = self._readers if len(instructions) == self._count else self._count_readers(instructions)
        inner = {s for s, count in readers.items() if count == self._readers[s]} - self._shared
        return inner, {s for s in inner if readers[s] == 1}.difference(self.kept)

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
