"""The Wengert tape: flat, append-only columns of ints, and the buffers that they name."""

import math
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

from .kernels import table
from .kernels.constants import B1, F4, F8, I8
from .kernels.table import Layout, Op

#: nodes that the picture of a graph shows unless told otherwise
NODES_SHOWN = 60

INPUT, VALUE, CONSTANT = "input", "value", "constant"

#: ops that write into memory which holds something already
WRITES = ("assign", "scatter")

#: a place in the user's code: code object and instruction within it
Place = tuple[CodeType, int]

_OWN = __file__.rpartition("/tape.py")[0].rpartition("\\tape.py")[0] or __file__[: -len("/tape.py")]
_KERNELS = table.__file__[: -len("/table.py")]  # elsewhere, where tapead is not installed
_NUMPY = np.__file__[: -len("/__init__.py")]
#: file -> whether it is tapead's or NumPy's own
_INNER: dict[str, bool] = {}


def user_place(depth: int = 2) -> Place:
    """Give the innermost place of the call stack that is not tapead's or NumPy's own; the first `depth` calls are."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        inner = _INNER.get(file)
        if inner is None:
            inner = _INNER[file] = file.startswith((_OWN, _KERNELS, _NUMPY))
        if not inner:
            return code, frame.f_lasti
        frame = frame.f_back
    frame = sys._getframe(1)
    return frame.f_code, frame.f_lasti


def line_number(place: Place) -> int:
    """Give the line of a place."""
    code, instruction = place
    lines: Iterator[tuple[int, int, int | None]] = code.co_lines()
    return next((line for start, end, line in lines if line and start <= instruction < end), code.co_firstlineno)


def describe(place: Place) -> str:
    """Say where a place is: file, line, function."""
    return f"{place[0].co_filename}:{line_number(place)}, in {place[0].co_name}"


def line_text(place: Place) -> str:
    """Say shortly which line a place is: model.py:3, or cell:3 in a notebook."""
    path = PurePath(place[0].co_filename)
    name = "cell" if path.parent.name.startswith("ipykernel_") else path.name
    return f"{name}:{line_number(place)}"


@lru_cache
def number_class(dtype: np.dtype[Any]) -> int | None:
    """Give the number class that buffers of a dtype are stored in; None if there is none."""
    found: int | None = None
    if dtype.kind == "f":
        found = {8: F8, 4: F4}.get(dtype.itemsize)
    elif dtype.kind == "b":
        found = B1
    elif dtype.kind == "i" or (dtype.kind == "u" and dtype.itemsize < 8):
        found = I8
    return found


FLOAT = np.dtype(float)
STORED: tuple[np.dtype[Any], ...] = (np.dtype("f8"), np.dtype("f4"), np.dtype("i8"), np.dtype("?"))


class Storage:
    """Memory that buffers are views of: an input, a constant, or what an instruction computes.

    levels has a bit for each gradient being traced for which a derivative flows into the storage. scalars are the
    numbers that were taken out by index and must survive an assignment.
    """

    __slots__ = ("data", "kind", "levels", "number", "scalars", "size", "written")

    def __init__(self, kind: str, number: int, size: int, levels: int = 0, data: Any = None) -> None:
        self.kind, self.number, self.size, self.levels, self.data = kind, number, size, levels, data
        self.scalars: list[Any] | None = None
        self.written = False


class Buffer:
    """A typed n-d value on the tape: where in a storage it is; strides and offset count elements. Never changed."""

    __slots__ = ("dtype", "offset", "shape", "strides")

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> None:
        self.dtype, self.shape, self.strides, self.offset = dtype, shape, strides, offset


#: what all numbers in double precision are that have a storage of their own
NUMBER = Buffer(FLOAT, (), ())


@lru_cache
def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give the strides, in elements, of a row-major array."""
    strides, step = [], 1
    for dim in reversed(shape):
        strides.append(step)
        step *= dim
    return tuple(reversed(strides))


#: the columns of a tape that have an entry for each instruction
COLUMNS = ("ops", "operand_buffers", "result_buffers", "parameters", "places")


class Wengert:
    """The columns of a tape: an instruction is an op, operand buffers, result buffers, parameters, a place."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.operand_buffers: list[tuple[int, ...]] = []
        self.result_buffers: list[tuple[int, ...]] = []
        self.parameters: list[dict[str, Any] | None] = []
        self.places: list[Place] = []
        self.buffers: list[Buffer] = []
        self.storage_of: list[int] = []  # the storage of each buffer
        self.storages: list[Storage] = []
        self.guards: list[int] = []

    def __len__(self) -> int:
        return len(self.ops)

    def new_storage(self, storage: Storage) -> int:
        """Append a storage; give its index."""
        self.storages.append(storage)
        return len(self.storages) - 1

    def new_buffer(
        self,
        storage: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        offset: int = 0,
    ) -> int:
        """Append a buffer; give its index."""
        if shape or offset or dtype is not FLOAT:
            self.buffers.append(Buffer(dtype, shape, row_major(shape) if strides is None else strides, offset))
        else:
            self.buffers.append(NUMBER)
        self.storage_of.append(storage)
        return len(self.buffers) - 1

    def append(
        self,
        op: Op,
        operands: tuple[int, ...],
        results: tuple[int, ...],
        parameters: dict[str, Any] | None,
        place: Place,
    ) -> int:
        """Append an instruction; give its index."""
        self.ops.append(op)
        self.operand_buffers.append(operands)
        self.result_buffers.append(results)
        self.parameters.append(parameters)
        self.places.append(place)
        return len(self.ops) - 1

    def part(self, instructions: Iterable[int] | None = None) -> "Wengert":
        """Give a tape of some of the instructions (or all), in their order; buffers and storages keep their numbers."""
        made = Wengert()
        made.buffers, made.storage_of, made.storages = list(self.buffers), list(self.storage_of), list(self.storages)
        kept = None if instructions is None else sorted(instructions)
        for column in COLUMNS:
            whole = getattr(self, column)
            setattr(made, column, list(whole) if kept is None else [whole[k] for k in kept])
        return made

    def kinds(self) -> list[Op]:
        """Give the ops that there are instructions of, one for each code."""
        return list({op.code: op for op in self.ops}.values())

    def find(self, names: Collection[str], among: Iterable[int] | None = None) -> list[int]:
        """Give the instructions of some ops, by name, among some instructions (or all)."""
        ops = self.ops
        if not any(op.name in names for op in self.kinds()):
            return []
        return [k for k in (range(len(ops)) if among is None else among) if ops[k].name in names]

    def layout(self, buffer: int) -> Layout:
        """Give a buffer as kernels see it."""
        b = self.buffers[buffer]
        return Layout(buffer, b.shape, b.strides, self.storages[self.storage_of[buffer]].number)

    def is_whole(self, buffer: int) -> bool:
        """Whether a buffer is all of its storage, in row-major order."""
        b = self.buffers[buffer]
        size = self.storages[self.storage_of[buffer]].size
        if b.offset or size != math.prod(b.shape):
            return False
        row = row_major(b.shape)
        return b.strides == row or all(
            dim == 1 or own == stride for dim, own, stride in zip(b.shape, b.strides, row, strict=True)
        )

    @property
    def opcodes(self) -> npt.NDArray[np.int64]:
        """The opcode of each instruction, read-only."""
        return _frozen([op.code for op in self.ops])

    @property
    def operands(self) -> npt.NDArray[np.int64]:
        """The operand buffers of each instruction, a row each, padded with -1, read-only."""
        width = max((len(o) for o in self.operand_buffers), default=0)
        return _frozen([[*o, *[-1] * (width - len(o))] for o in self.operand_buffers]).reshape(len(self.ops), width)

    @property
    def outputs(self) -> npt.NDArray[np.int64]:
        """The buffer that each instruction writes, read-only; -1 where it writes none."""
        return _frozen([results[0] if results else -1 for results in self.result_buffers])


def _frozen(rows: list[Any]) -> npt.NDArray[np.int64]:
    array = np.array(rows, np.int64)
    array.flags.writeable = False
    return array
