"""Passes: tape -> tape. What depends on constants alone is computed once; what would be computed twice is shared."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from .grouping import WRITES
from .kernels.table import OPS, Elementwise, Op, Structural
from .tape import CONSTANT, STORED, Buffer, Storage, Wengert

COPY = OPS["copy"]
#: the group of ops that stand for a rule of the user's: their results are copies of their last operands
OWN = "own"
#: ops that do more than compute their results from their operands
EFFECTS = (*WRITES, "guard", "nonzero")


def simplify(tape: Wengert, fold: bool, share: bool, outputs: Collection[int] = ()) -> Wengert:
    """Give a tape that computes the same with fewer instructions; buffers keep their numbers.

    What only copies an operand (x * 1, x / 1, x - 0, a choice that is always the same) is that operand, unless it is
    among the outputs (storages).
    """
    own = any(isinstance(op, Structural) and op.group == OWN for op in tape.ops)
    if not (fold or share or own):
        return tape
    made = Wengert()
    made.buffers, made.storages = tape.buffers, list(tape.storages)
    steady = _steady(tape)
    known: dict[Any, tuple[int, ...]] = {}
    moved: dict[int, int] = {}  # storage -> the one that holds the same
    of = [b.storage for b in tape.buffers]
    storages = made.storages
    for k, op in enumerate(tape.ops):
        operands, results, parameters = tape.operand_buffers[k], tape.result_buffers[k], tape.parameters[k]
        if own and isinstance(op, Structural) and op.group == OWN:
            for source, result in zip(operands[-len(results) :], results, strict=True):
                made.append(COPY, (source,), (result,), None, tape.places[k])
            continue
        sources = [of[b] for b in operands]
        if moved:
            sources = [moved.get(s, s) for s in sources]
        if results and op.name not in EFFECTS and steady.issuperset([of[b] for b in results]):
            if fold and operands and all(storages[s].kind == CONSTANT for s in sources):
                _fold(made, op, operands, results, parameters)
                continue
            if fold and of[results[0]] not in outputs and isinstance(op, Elementwise):
                i = _repeated(made, op, operands, sources, results[0])
                if i is not None and sources[i] in steady:
                    moved[of[results[0]]] = sources[i]
                    continue
            if share and steady.issuperset(sources):
                key = _key(tape, k, sources)
                former = known.setdefault(key, results)
                if former is not results:
                    moved.update((of[mine], of[other]) for mine, other in zip(results, former, strict=True))
                    continue
        made.append(op, operands, results, parameters, tape.places[k])
    if moved:
        made.buffers = [
            Buffer(moved[b.storage], b.dtype, b.shape, b.strides, b.offset) if b.storage in moved else b
            for b in tape.buffers
        ]
    return made


def _steady(tape: Wengert) -> set[int]:
    """Give the storages that never change: not written at all, or by one instruction as a whole."""
    written: set[int] = set()
    unsteady: set[int] = set()
    for k, op in enumerate(tape.ops):
        for b in tape.result_buffers[k]:
            s = tape.buffers[b].storage
            if s in written or op.name in WRITES or not tape.is_whole(b):
                unsteady.add(s)
            written.add(s)
    return set(range(len(tape.storages))) - unsteady


#: op -> the operand that it repeats, and what the others must be
_NEUTRAL: dict[str, list[tuple[int, dict[int, float]]]] = {
    "copy": [(0, {})],
    "multiply": [(0, {1: 1.0}), (1, {0: 1.0})],
    "chain": [(0, {1: 1.0}), (1, {0: 1.0})],
    "mask": [(0, {1: 1.0})],
    "divide": [(0, {1: 1.0})],
    "subtract": [(0, {1: 0.0})],
    "where": [(1, {0: 1.0}), (2, {0: 0.0})],
}


def _repeated(made: Wengert, op: Elementwise, operands: tuple[int, ...], sources: list[int], result: int) -> int | None:
    """Give the operand that an instruction's result is equal to, and laid out like; None if there is none."""
    z = made.buffers[result]
    for i, others in _NEUTRAL.get(op.name, ()):
        x = made.buffers[operands[i]]
        alike = x.dtype == z.dtype and x.shape == z.shape and x.strides == z.strides and x.offset == z.offset == 0
        alike = alike and made.storages[sources[i]].size == made.storages[z.storage].size
        if alike and all(_is_all(made.storages[sources[k]], value) for k, value in others.items()):
            return i
    return None


def _is_all(storage: Storage, value: float) -> bool:
    """Whether a storage is constant, and each of its numbers is a value (+0 for 0)."""
    if storage.kind != CONSTANT or not storage.data.size:
        return False
    data = storage.data.reshape(-1)
    if data[0] != value or not np.all(data == value):
        return False
    return value != 0 or not np.signbit(data).any()


def _key(tape: Wengert, k: int, sources: list[int]) -> tuple[Any, ...]:
    """Say what an instruction computes: two with the same key give the same."""
    buffers = tape.buffers
    key: list[Any] = [tape.ops[k].code, tape.ops[k].name]
    for s, operand in zip(sources, tape.operand_buffers[k], strict=True):
        b = buffers[operand]
        key += (s, b.offset, b.dtype.num, b.shape, b.strides) if b.shape else (s, b.offset, b.dtype.num)
    for result in tape.result_buffers[k]:
        b = buffers[result]
        key += (b.dtype.num, b.shape)
    parameters = tape.parameters[k]
    if parameters:
        key += sorted((name, repr(value)) for name, value in parameters.items())
    return tuple(key)


def _fold(made: Wengert, op: Op, operands: tuple[int, ...], results: tuple[int, ...], parameters: Any) -> None:
    """Make constants of an instruction's results."""
    values = [_constant(made, b) for b in operands]
    options = {name: value for name, value in (parameters or {}).items() if name != "computed"}
    with np.errstate(all="ignore"):
        if op.name == "sum":
            wanted = made.buffers[results[0]].shape
            axes = tuple(i for i, dim in enumerate(values[0].shape) if len(wanted) > i and wanted[i] == 1 != dim)
            found = np.sum(values[0], axis=axes, keepdims=True) if values[0].ndim else values[0]
        elif isinstance(op, Elementwise | Structural):
            found = op.numpy(*values, **options)
    for b, value in zip(results, found if isinstance(found, tuple) else (found,), strict=True):
        buffer = made.buffers[b]
        number = made.storages[buffer.storage].number
        data = np.array(
            np.broadcast_to(np.asarray(value).astype(buffer.dtype), buffer.shape), STORED[number], order="C"
        )
        made.storages[buffer.storage] = Storage(CONSTANT, number, math.prod(buffer.shape), data=data.reshape(-1))


def _constant(made: Wengert, buffer: int) -> Any:
    """Give a constant's value, as the array (or number) that the user's code would see."""
    b = made.buffers[buffer]
    flat = made.storages[b.storage].data.reshape(-1)
    strides = [step * flat.itemsize for step in b.strides]
    value = np.lib.stride_tricks.as_strided(flat[b.offset :], b.shape, strides).astype(b.dtype)
    return value if b.shape else value[()]
