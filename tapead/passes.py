"""Passes: tape -> tape. What depends on constants alone is computed once; what would be computed twice is shared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np

from .grouping import WRITES
from .kernels.table import OPS, Elementwise, Op, Structural
from .tape import CONSTANT, FLOAT, STORED, Buffer, Storage, Wengert

COPY = OPS["copy"]
#: the group of ops that stand for a rule of the user's: their results are copies of their last operands
OWN = "own"
#: ops that do more than compute their results from their operands
EFFECTS = {*WRITES, "guard", "nonzero"}


def without_rules(tape: Wengert) -> Wengert:
    """Give a tape on which copies stand for the rules of the user's."""
    if not any(type(op) is Structural and op.group == OWN for op in tape.ops):
        return tape
    made = Wengert()
    made.buffers, made.storages = tape.buffers, tape.storages
    for k, op in enumerate(tape.ops):
        operands, results = tape.operand_buffers[k], tape.result_buffers[k]
        if type(op) is Structural and op.group == OWN:
            for source, result in zip(operands[-len(results) :], results, strict=True):
                made.append(COPY, (source,), (result,), None, tape.places[k])
        else:
            made.append(op, operands, results, tape.parameters[k], tape.places[k])
    return made


def simplify(tape: Wengert, fold: bool, share: bool, outputs: Collection[int] = ()) -> Wengert:
    """Give a tape that computes the same with fewer instructions; buffers keep their numbers.

    What only copies an operand (x * 1, x / 1, x - 0, a choice that is always the same) is that operand, unless it is
    among the outputs (storages); so is an adjoint times what undoes it (1/4 times the 4 x of a partial). The powers 2 and
    3 become products.
    """
    if not (fold or share):
        return tape
    made = Wengert()
    made.buffers, made.storages = tape.buffers, list(tape.storages)
    unsteady, forms = _unsteady(tape), _forms(tape)
    constants = {s for s, storage in enumerate(tape.storages) if storage.kind is CONSTANT}
    known: dict[Any, tuple[int, ...]] = {}  # what an instruction computes -> the first one's results
    home = list(range(len(tape.storages)))  # storage -> the one that holds the same
    of = [b.storage for b in tape.buffers]
    left: list[int] = []
    changed: dict[int, tuple[Op, tuple[int, ...]]] = {}  # instruction -> what does the same in less time
    scaled: dict[int, int] = {}  # storage -> the instruction that multiplies to make it
    columns = zip(tape.ops, tape.operand_buffers, tape.result_buffers, tape.parameters, strict=True)
    for k, (op, operands, results, parameters) in enumerate(columns):
        sources = [home[of[b]] for b in operands]
        steady = not unsteady or unsteady.isdisjoint([of[b] for b in results])
        if results and steady and op.name not in EFFECTS:
            if fold and operands and constants.issuperset(sources):
                _fold(made, op, operands, results, parameters)
                constants.update([of[b] for b in results])
                continue
            if fold and op.name == "power" and parameters is None:
                product = _product(made, operands, sources, results[0])
                if product is not None:
                    op, operands, sources = product, operands[:1], sources[:1]
                    changed[k] = op, operands
            if fold and op.name in _NEUTRAL and of[results[0]] not in outputs:
                i = _repeated(made, op.name, operands, sources, results[0])
                if i is not None and sources[i] not in unsteady:
                    home[of[results[0]]] = sources[i]
                    continue
                multiplied = scaled.get(sources[1]) if op.name == "chain" else None
                if multiplied is not None and _is_alike(made, operands[1], sources[1], results[0]):
                    factors = tape.operand_buffers[multiplied]
                    i = _undone(made, operands[0], factors, [home[of[b]] for b in factors], results[0])
                    if i is not None and (source := home[of[factors[i]]]) not in unsteady:
                        home[of[results[0]]] = source
                        continue
                if op.name == "multiply":
                    scaled[of[results[0]]] = k
            if share and (not unsteady or unsteady.isdisjoint(sources)):
                key: tuple[Any, ...] = (id(op), *sources)
                if forms and not (forms.keys().isdisjoint(operands) and forms.keys().isdisjoint(results)):
                    key += (tuple([forms.get(b) for b in (*operands, *results)]),)
                if parameters:
                    key += tuple(sorted((name, repr(value)) for name, value in parameters.items()))
                former = known.setdefault(key, results)
                if former is not results:
                    for mine, other in zip(results, former, strict=True):
                        home[of[mine]] = of[other]
                    continue
        left.append(k)
    for column in ("ops", "operand_buffers", "result_buffers", "parameters", "places"):
        whole = getattr(tape, column)
        setattr(made, column, [whole[k] for k in left])
    for place, k in enumerate(left if changed else ()):
        if k in changed:
            made.ops[place], made.operand_buffers[place] = changed[k]
    if len(left) < len(tape):
        made.buffers = [
            b if home[b.storage] == b.storage else Buffer(home[b.storage], b.dtype, b.shape, b.strides, b.offset)
            for b in tape.buffers
        ]
    return made


def _unsteady(tape: Wengert) -> set[int]:
    """Give the storages that change: written to more than once, or in part."""
    buffers, storages = tape.buffers, tape.storages
    written = [b for results in tape.result_buffers for b in results]
    times = Counter([buffers[b].storage for b in written])
    found = {s for s, count in times.items() if count > 1}
    found.update(buffers[b].storage for b in written if storages[buffers[b].storage].size != 1 and not tape.is_whole(b))
    for op, results in zip(tape.ops, tape.result_buffers, strict=True):
        if op.name in WRITES:
            found.update(buffers[b].storage for b in results)
    return found


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


def _repeated(made: Wengert, name: str, operands: tuple[int, ...], sources: list[int], result: int) -> int | None:
    """Give the operand that an instruction's result is equal to, and laid out like; None if there is none."""
    for i, others in _NEUTRAL[name]:
        if _is_alike(made, operands[i], sources[i], result) and all(
            _is_all(made.storages[sources[k]], value) for k, value in others.items()
        ):
            return i
    return None


def _is_alike(made: Wengert, operand: int, source: int, result: int) -> bool:
    """Whether an operand, which a storage holds, is laid out like a result."""
    x, z = made.buffers[operand], made.buffers[result]
    alike = x.dtype == z.dtype and x.shape == z.shape and x.strides == z.strides and x.offset == z.offset == 0
    return alike and made.storages[source].size == made.storages[z.storage].size


def _product(made: Wengert, operands: tuple[int, ...], sources: list[int], result: int) -> Op | None:
    """Give the op that multiplies where a power's exponent is 2 or 3 throughout."""
    x, z = made.buffers[operands[0]], made.buffers[result]
    if z.dtype.kind != "f" or (x.dtype, x.shape) != (z.dtype, z.shape):
        return None
    exponent = made.storages[sources[1]]
    return OPS["square"] if _is_all(exponent, 2.0) else OPS["cubed"] if _is_all(exponent, 3.0) else None


def _undone(made: Wengert, adjoint: int, factors: tuple[int, ...], sources: list[int], result: int) -> int | None:
    """Give the factor that an adjoint times a product is equal to, as the adjoint and the other factor make one."""
    scale = _power_of_two(made.storages[made.buffers[adjoint].storage])
    for i in (0, 1):
        other = _power_of_two(made.storages[sources[1 - i]])
        if (
            scale is not None
            and other is not None
            and scale * other == 1.0
            and _is_alike(made, factors[i], sources[i], result)
        ):
            return i
    return None


def _power_of_two(storage: Storage) -> float | None:
    """Give the number that a constant storage holds throughout, if it is a power of two: products with it are exact."""
    if storage.kind != CONSTANT or not storage.data.size or not _is_all(storage, storage.data.reshape(-1)[0]):
        return None
    number = float(storage.data.reshape(-1)[0])
    return number if abs(math.frexp(number)[0]) == 0.5 else None


def _is_all(storage: Storage, value: float) -> bool:
    """Whether a storage is constant, and each of its numbers is a value (+0 for 0)."""
    if storage.kind != CONSTANT or not storage.data.size:
        return False
    data = storage.data.reshape(-1)
    if data[0] != value or not np.all(data == value):
        return False
    return value != 0 or not np.signbit(data).any()


def _forms(tape: Wengert) -> dict[int, Any]:
    """Say for each buffer what it is apart from its storage, unless it is a number in double precision at its start."""
    return {
        i: (b.dtype.num, b.offset, b.shape, b.strides)
        for i, b in enumerate(tape.buffers)
        if b.shape or b.offset or b.dtype is not FLOAT
    }


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
