"""Grouping: which instructions of a tape run together as one row, and in which order the groups can run.

A block is a group of elementwise instructions (and sums) over one index space, computed in one number class; a scalar
run is one of instructions on single numbers; anything else is a group of its own. An instruction joins a group made
earlier wherever what it reads is there by then, so groups need not be neighbours on the tape.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from .kernels.constants import B1, F4, F8, I8, LANES
from .kernels.table import Elementwise
from .scalars import REDUCTIONS
from .shape import broadcast_strides
from .tape import WRITES, Wengert

BLOCK, SCALARS, SINGLE = "block", "scalars", "single"

#: instructions in a block at the most
LONGEST = 256

Key = tuple[int, int, tuple[int, ...], int]
#: of a group, and of the instructions that can be in it: kind, index space (axes of one element left out), class
Label = tuple[str, tuple[int, ...], int]
#: the class of what goes with a scalar run of any class: guards
ANY = -1
#: class -> label of scalar runs
NUMBERS: dict[int, Label] = {number: (SCALARS, (), number) for number in (F8, F4, ANY)}


@dataclass
class Group:
    """Instructions that run together: their kind, index space (axes of one element left out), number class."""

    kind: str
    space: tuple[int, ...] = ()
    number: int = F8
    instructions: list[int] = field(default_factory=list)


def computed_class(tape: Wengert, k: int) -> int:
    """Give the number class in which an elementwise instruction computes."""
    parameters = tape.parameters[k]
    if parameters and "computed" in parameters:
        return int(parameters["computed"])
    number = tape.storages[tape.storage_of[tape.result_buffers[k][0]]].number
    return I8 if number == B1 else number  # truth values are computed as integers


def scalar_class(tape: Wengert, k: int) -> int | None:
    """Give the number class of the scalar runs that an instruction can be in: F8, F4 or `ANY`; None for none."""
    op = tape.ops[k]
    if type(op) is Elementwise or op.name == "assign":
        result = tape.result_buffers[k][0]
        shape = tape.buffers[result].shape
        if not shape and tape.parameters[k] is None:
            number = tape.storages[tape.storage_of[result]].number
            return number if number in (F8, F4) else None
        if shape and not 0 < math.prod(shape) <= LANES:
            return None
    elif op.name == "guard":
        return ANY if tape.buffers[tape.operand_buffers[k][0]].dtype == bool else None
    elif op.name in REDUCTIONS:
        x, z = (tape.buffers[buffers[k][0]] for buffers in (tape.operand_buffers, tape.result_buffers))
        if not 0 < math.prod(x.shape) <= LANES or math.prod(z.shape) != 1 or x.dtype != z.dtype:
            return None
    else:
        return None
    number = computed_class(tape, k)
    return number if number in (F8, F4) else None


def index_space(tape: Wengert, k: int) -> tuple[int, ...]:
    """Give the shape that an elementwise instruction or a sum runs over."""
    buffer = tape.operand_buffers[k][0] if tape.ops[k].name == "sum" else tape.result_buffers[k][0]
    return tape.buffers[buffer].shape


def reach(tape: Wengert, buffer: int, shape: Sequence[int]) -> Key:
    """Say which elements a buffer gives over an index space: storage, offset, strides, class."""
    b, s = tape.buffers[buffer], tape.storage_of[buffer]
    return s, b.offset, _steps(b.shape, b.strides, tuple(shape)), tape.storages[s].number


@lru_cache(1024)
def _steps(own: tuple[int, ...], strides: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give a buffer's strides along the axes of an index space that have more than one element."""
    if len(own) > len(shape):  # an assignment may drop leading axes of one element
        own, strides = own[len(own) - len(shape) :], strides[len(own) - len(shape) :]
    steps = broadcast_strides(own, strides, shape)
    return tuple(step for step, dim in zip(steps, shape, strict=True) if dim != 1)


def _goes(label: Label, other: Label) -> bool:
    """Whether a scalar instruction goes with those of a group."""
    return label == other or (label is NUMBERS[ANY] and other[0] == SCALARS)


class Grouping:
    """Sorts the needed instructions of a tape into groups; without `join`, each block has one instruction."""

    def __init__(self, tape: Wengert, needed: Sequence[int], join: bool) -> None:
        self.tape, self.join = tape, join
        self.groups: list[Group] = []
        self._of = of = tape.storage_of
        self.overwritten = {of[tape.result_buffers[k][0]] for k in tape.find(WRITES, needed)}
        self._writer: dict[int, int] = {}  # storage -> the last group that writes to it
        self._reader: dict[int, int] = {}  # storage -> the last group that reads it
        self._made: dict[int, Key | None] = {}  # storage -> how a block's instruction writes it, if that can be read on
        self._labels: list[Label] = []  # of the groups
        self._same: dict[Label, list[int]] = {}  # label -> groups
        self._guarded = 0
        found = [self._label(k) for k in needed]
        classes = set(found) - {NUMBERS[ANY]}
        if len(classes) == 1 and classes.issubset(NUMBERS.values()):  # numbers of one class only: one group, in order
            self.groups.append(Group(*classes.pop(), list(needed)))
            return
        for k, label in zip(needed, found, strict=True):
            self._place(k, label)

    def _label(self, k: int) -> Label:
        tape, op = self.tape, self.tape.ops[k]
        number = scalar_class(tape, k)
        if number is not None:
            return NUMBERS[number]
        if op.name == "sum" or isinstance(op, Elementwise):
            return BLOCK, tuple(dim for dim in index_space(tape, k) if dim != 1), computed_class(tape, k)
        return SINGLE, (), F8

    def _place(self, k: int, label: Label) -> None:
        tape, op, of = self.tape, self.tape.ops[k], self._of
        kind = label[0]
        writer, reader, labels = self._writer, self._reader, self._labels
        operands, parameters = tape.operand_buffers[k], tape.parameters[k]
        read, written = [of[b] for b in operands], [of[b] for b in tape.result_buffers[k]]
        earliest = 0
        shape = index_space(tape, k) if kind == BLOCK else ()
        for b, s in zip(operands, read, strict=True):
            g = writer.get(s, -1)
            if g >= earliest:
                if kind == SCALARS:
                    inside = _goes(label, labels[g])
                else:
                    inside = kind == BLOCK and label == labels[g] and self._made.get(s) == reach(tape, b, shape)
                earliest = g if inside else g + 1
        for s in written:
            if s in writer or s in reader:
                over = op.name in WRITES or s in self.overwritten
                for g in (writer.get(s, -1), reader.get(s, -1)):
                    if g >= earliest:
                        free = not over or (kind == SCALARS and _goes(label, labels[g]))
                        earliest = g if free else g + 1
        stops = parameters is not None and "place" in parameters
        if stops:
            earliest = max(earliest, self._guarded)
        chosen = self._choose(label, earliest)
        if chosen is None:
            chosen = len(labels)
            label = NUMBERS[F8] if label is NUMBERS[ANY] else label
            labels.append(label)
            self.groups.append(Group(*label))
            self._same.setdefault(label, []).append(chosen)
        self.groups[chosen].instructions.append(k)
        if stops:
            self._guarded = chosen
        for s in read:
            if reader.get(s, -1) < chosen:
                reader[s] = chosen
        for s in written:
            if writer.get(s, -1) < chosen:
                writer[s] = chosen
        if kind == BLOCK and isinstance(op, Elementwise):
            self._note(k, op, label[2], shape)

    def _choose(self, label: Label, earliest: int) -> int | None:
        """Choose a group to join: for numbers the first that will do (what blocks need is ready), else the last."""
        if label is NUMBERS[ANY]:
            found = [self._choose(NUMBERS[number], earliest) for number in (F8, F4)]
            return min((g for g in found if g is not None), default=None)
        same = self._same.get(label)
        if not same or same[-1] < earliest:
            return None
        if label[0] == SCALARS:
            return same[bisect_left(same, earliest)]
        fits = self.join and label[0] == BLOCK and len(self.groups[same[-1]].instructions) < LONGEST
        return same[-1] if fits else None

    def _note(self, k: int, op: Elementwise, number: int, shape: tuple[int, ...]) -> None:
        """Note how a result can be read on within its block: the same elements, and not rounded by being stored."""
        buffer = self.tape.result_buffers[k][0]
        key = reach(self.tape, buffer, shape)
        exact = key[3] == number or (key[3] == B1 and op.boolean)
        whole = self.tape.is_whole(buffer) and key[0] not in self.overwritten
        self._made[key[0]] = key if exact and whole else None
