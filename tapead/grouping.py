"""Grouping: which instructions of a tape run together as one row, and in which order the groups can run.

A block is a group of elementwise instructions (and sums) over one index space, computed in one number class; a scalar
run is one of instructions on single numbers; anything else is a group of its own. An instruction joins a group made
earlier wherever what it reads is there by then, so groups need not be neighbours on the tape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .kernels.constants import B1, F4, F8
from .kernels.table import Elementwise
from .scalars import ANY, Scalars, computed_class
from .shape import broadcast_strides
from .tape import Wengert

BLOCK, SCALARS, SINGLE = "block", "scalars", "single"

#: instructions in a block at the most
LONGEST = 256
#: ops that write into memory which holds something already
WRITES = ("assign", "scatter")

Key = tuple[int, int, tuple[int, ...], int]


@dataclass
class Group:
    """Instructions that run together: their kind, index space (axes of one element left out), number class."""

    kind: str
    space: tuple[int, ...] = ()
    number: int = F8
    instructions: list[int] = field(default_factory=list)


def index_space(tape: Wengert, k: int) -> tuple[int, ...]:
    """Give the shape that an elementwise instruction or a sum runs over."""
    buffer = tape.operand_buffers[k][0] if tape.ops[k].name == "sum" else tape.result_buffers[k][0]
    return tape.buffers[buffer].shape


def reach(tape: Wengert, buffer: int, shape: Sequence[int]) -> Key:
    """Say which elements a buffer gives over an index space: storage, offset, strides, class."""
    b = tape.buffers[buffer]
    own, strides = b.shape, b.strides
    if len(own) > len(shape):  # an assignment may drop leading axes of one element
        own, strides = own[len(own) - len(shape) :], strides[len(own) - len(shape) :]
    steps = broadcast_strides(own, strides, shape)
    kept = tuple(step for step, dim in zip(steps, shape, strict=True) if dim != 1)
    return b.storage, b.offset, kept, tape.storages[b.storage].number


class Grouping:
    """Sorts the needed instructions of a tape into groups; without `join`, each block has one instruction."""

    def __init__(self, tape: Wengert, needed: Sequence[int], scalars: Scalars, join: bool) -> None:
        self.tape, self.scalars, self.join = tape, scalars, join
        self.groups: list[Group] = []
        self.writer: dict[int, int] = {}  # storage -> the last group that writes to it
        self.overwritten = {
            tape.buffers[tape.result_buffers[k][0]].storage for k in needed if tape.ops[k].name in WRITES
        }
        self._reader: dict[int, int] = {}  # storage -> the last group that reads it
        self._made: dict[int, Key | None] = {}  # storage -> how a block's instruction writes it, if that can be read on
        self._same: dict[Any, list[int]] = {}  # (kind, space, class) -> groups
        self._guarded = 0
        self._of = [b.storage for b in tape.buffers]
        for k in needed:
            self._place(k)

    def _kind(self, k: int) -> tuple[str, tuple[int, ...], int]:
        tape, op = self.tape, self.tape.ops[k]
        number = self.scalars.kind(k)
        if number is not None:
            return SCALARS, (), number
        if op.name == "sum" or isinstance(op, Elementwise):
            space = tuple(dim for dim in index_space(tape, k) if dim != 1)
            return BLOCK, space, computed_class(tape, k)
        return SINGLE, (), F8

    def _place(self, k: int) -> None:
        tape, op, of = self.tape, self.tape.ops[k], self._of
        kind, space, number = self._kind(k)
        writer, reader = self.writer, self._reader
        operands, written = tape.operand_buffers[k], tape.result_buffers[k]
        earliest = 0
        shape = index_space(tape, k) if kind == BLOCK else ()
        for b in operands:
            g = writer.get(of[b])
            if g is not None and g >= earliest:
                inside = self._is(g, kind, space, number) and (
                    kind == SCALARS or (kind == BLOCK and self._made.get(of[b]) == reach(tape, b, shape))
                )
                earliest = g if inside else g + 1
        for b in written:
            s = of[b]
            for g in (writer.get(s), reader.get(s)):
                if g is not None:
                    over = op.name in WRITES or s in self.overwritten
                    free = not over or (kind == SCALARS and self._is(g, kind, space, number))
                    earliest = max(earliest, g + (not free))
        parameters = tape.parameters[k]
        stops = op.name == "guard" or (parameters is not None and "place" in parameters)
        if stops:
            earliest = max(earliest, self._guarded)
        g = self._choose(kind, space, number, earliest)
        if g is None:
            g = len(self.groups)
            number = F8 if number == ANY else number
            self.groups.append(Group(kind, space, number))
            self._same.setdefault((kind, space, number), []).append(g)
        self.groups[g].instructions.append(k)
        if stops:
            self._guarded = g
        for b in operands:
            if reader.setdefault(of[b], g) < g:
                reader[of[b]] = g
        for b in written:
            if writer.setdefault(of[b], g) < g:
                writer[of[b]] = g
        if kind == BLOCK and isinstance(op, Elementwise):
            self._note(k, op, number, shape)

    def _is(self, g: int, kind: str, space: tuple[int, ...], number: int) -> bool:
        group = self.groups[g]
        return group.kind == kind and group.space == space and number in (group.number, ANY)

    def _choose(self, kind: str, space: tuple[int, ...], number: int, earliest: int) -> int | None:
        """Choose a group to join: for numbers the first that will do (what blocks need is ready), else the last."""
        if kind == SCALARS:
            found = []
            for n in (F8, F4) if number == ANY else (number,):
                same = self._same.get((kind, space, n), [])
                found += same[bisect_left(same, earliest) :][:1]
            return min(found, default=None)
        same = self._same.get((kind, space, number), [])
        fits = self.join and kind == BLOCK and same and same[-1] >= earliest
        return same[-1] if fits and len(self.groups[same[-1]].instructions) < LONGEST else None

    def _note(self, k: int, op: Elementwise, number: int, shape: tuple[int, ...]) -> None:
        """Note how a result can be read on within its block: the same elements, and not rounded by being stored."""
        buffer = self.tape.result_buffers[k][0]
        key = reach(self.tape, buffer, shape)
        exact = key[3] == number or (key[3] == B1 and op.boolean)
        whole = self.tape.is_whole(buffer) and key[0] not in self.overwritten
        self._made[key[0]] = key if exact and whole else None
