"""Passes: tape -> tape. What depends on constants alone is computed once; what would be computed twice is shared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from itertools import chain
from typing import Any

import numpy as np

from .kernels.table import OPS, Elementwise, Op, Structural
from .tape import COLUMNS, CONSTANT, NUMBER, STORED, WRITES, Storage, Wengert

COPY = OPS["copy"]
#: the group of ops that stand for a rule of the user's: their results are copies of their last operands
OWN = "own"
#: ops that do more than compute their results from their operands
EFFECTS = {*WRITES, "guard", "nonzero"}


def has_rules(tape: Wengert) -> bool:
    """Whether there are ops on a tape that stand for a rule of the user's."""
    return any(type(op) is Structural and op.group == OWN for op in tape.kinds())


def without_rules(tape: Wengert) -> Wengert:
    """Give a tape on which copies stand for the rules of the user's."""
    if not has_rules(tape):
        return tape
    made = Wengert()
    made.buffers, made.storage_of, made.storages = tape.buffers, tape.storage_of, tape.storages
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
    made.storage_of = of = tape.storage_of
    unsteady, forms = _unsteady(tape), _forms(tape)
    odd = forms.keys()
    changing = {b for b, s in enumerate(of) if s in unsteady} if unsteady else set()
    constants = {s for s, storage in enumerate(tape.storages) if storage.kind is CONSTANT}
    held = _Held(made.storages)
    known: dict[Any, tuple[int, ...]] = {}  # what an instruction computes -> the first one's results
    home: dict[int, int] = {}  # storage -> another one that holds the same
    left: list[int] = []
    changed: dict[int, tuple[Op, tuple[int, ...]]] = {}  # instruction -> what does the same in less time
    scaled: dict[int, int] = {}  # storage -> the instruction that multiplies to make it, by a constant
    columns = zip(tape.ops, tape.operand_buffers, tape.result_buffers, tape.parameters, strict=True)
    for k, (op, operands, results, parameters) in enumerate(columns):
        sources = [of[b] for b in operands]
        if home:
            sources = [home.get(s, s) for s in sources]
        if results and changing.isdisjoint(results) and op.name not in EFFECTS:
            fixed = not constants.isdisjoint(sources)
            if fold and fixed and constants.issuperset(sources):
                _fold(made, op, operands, results, parameters)
                constants.update([of[b] for b in results])
                continue
            if fold and fixed and op.name == "power" and parameters is None:
                product = _product(made, held, operands, sources, results[0])
                if product is not None:
                    op, operands, sources = product, operands[:1], sources[:1]
                    changed[k] = op, operands
            if fold and (fixed or op is COPY) and op.name in _NEUTRAL and of[results[0]] not in outputs:
                i = _repeated(made, constants, held, op.name, operands, sources, results[0])
                if i is not None and sources[i] not in unsteady:
                    home[of[results[0]]] = sources[i]
                    continue
                multiplied = scaled.get(sources[1]) if op.name == "chain" else None
                if multiplied is not None and _is_alike(made, operands[1], sources[1], results[0]):
                    factors = tape.operand_buffers[multiplied]
                    places = [home.get(of[b], of[b]) for b in factors]
                    i = _undone(made, held, sources[0], factors, places, results[0])
                    if i is not None and places[i] not in unsteady:
                        home[of[results[0]]] = places[i]
                        continue
                if op.name == "multiply":
                    scaled[of[results[0]]] = k
            if share and changing.isdisjoint(operands):
                key: tuple[Any, ...] = (id(op), *sources)
                if forms and not (odd.isdisjoint(operands) and odd.isdisjoint(results)):
                    key += ("forms", *[forms.get(b) for b in operands], *[forms.get(b) for b in results])
                if parameters:
                    key += tuple(sorted((name, repr(value)) for name, value in parameters.items()))
                former = known.setdefault(key, results)
                if former is not results:
                    for mine, other in zip(results, former, strict=True):
                        home[of[mine]] = of[other]
                    continue
        left.append(k)
    if len(left) == len(tape) and not changed:
        return tape
    for column in COLUMNS:
        whole = getattr(tape, column)
        setattr(made, column, [whole[k] for k in left])
    for place, k in enumerate(left if changed else ()):
        if k in changed:
            made.ops[place], made.operand_buffers[place] = changed[k]
    if home:
        made.buffers, made.storage_of = list(tape.buffers), [home.get(s, s) for s in of]
    return made


def _unsteady(tape: Wengert) -> set[int]:
    """Give the storages that change: written to more than once, or in part."""
    of, storages = tape.storage_of, tape.storages
    written = list(chain.from_iterable(tape.result_buffers))
    targets = [of[b] for b in written]
    found: set[int] = set()
    if len(set(targets)) < len(targets):
        found.update(s for s, count in Counter(targets).items() if count > 1)
    found.update(s for b, s in zip(written, targets, strict=True) if storages[s].size != 1 and not tape.is_whole(b))
    found.update(of[b] for k in tape.find(WRITES) for b in tape.result_buffers[k])
    return found


#: op -> the operand that it repeats, another one, and the number that this must hold throughout
_NEUTRAL: dict[str, list[tuple[int, int, float | None]]] = {
    "copy": [(0, 0, None)],
    "multiply": [(0, 1, 1.0), (1, 0, 1.0)],
    "chain": [(0, 1, 1.0), (1, 0, 1.0)],
    "mask": [(0, 1, 1.0)],
    "divide": [(0, 1, 1.0)],
    "subtract": [(0, 1, 0.0)],
    "where": [(1, 0, 1.0), (2, 0, 0.0)],
}


class _Held(dict[int, Any]):
    """Storage -> the number that it holds throughout, None if it holds none or may change; found when asked for."""

    def __init__(self, storages: list[Storage]) -> None:
        super().__init__()
        self._storages = storages

    def __missing__(self, s: int) -> Any:
        found = None
        if self._storages[s].kind is CONSTANT and self._storages[s].data.size:
            data = self._storages[s].data.reshape(-1)
            if np.all(data == data[0]) and (data[0] or not np.signbit(data).any()):  # 0 is +0
                found = data[0].item()
            self[s] = found
        return found


def _repeated(
    made: Wengert,
    constants: set[int],
    held: _Held,
    name: str,
    operands: tuple[int, ...],
    sources: list[int],
    result: int,
) -> int | None:
    """Give the operand that an instruction's result is equal to, and laid out like; None if there is none."""
    for i, other, value in _NEUTRAL[name]:
        s = sources[other]
        neutral = value is None or (s in constants and held[s] == value)
        if neutral and _is_alike(made, operands[i], sources[i], result):
            return i
    return None


def _is_alike(made: Wengert, operand: int, source: int, result: int) -> bool:
    """Whether an operand, which a storage holds, is laid out like a result."""
    x, z = made.buffers[operand], made.buffers[result]
    alike = x is z is NUMBER or (
        x.dtype == z.dtype and x.shape == z.shape and x.strides == z.strides and x.offset == z.offset == 0
    )
    return alike and made.storages[source].size == made.storages[made.storage_of[result]].size


def _product(made: Wengert, held: _Held, operands: tuple[int, ...], sources: list[int], result: int) -> Op | None:
    """Give the op that multiplies where a power's exponent is 2 or 3 throughout."""
    x, z = made.buffers[operands[0]], made.buffers[result]
    if z.dtype.kind != "f" or (x.dtype, x.shape) != (z.dtype, z.shape):
        return None
    exponent = held[sources[1]]
    return OPS["square"] if exponent == 2 else OPS["cubed"] if exponent == 3 else None


def _undone(
    made: Wengert, held: _Held, adjoint: int, factors: tuple[int, ...], sources: list[int], result: int
) -> int | None:
    """Give the factor that a constant adjoint times a product is equal to, as it and the other factor make one."""
    scale = _power_of_two(held[adjoint])
    for i in (0, 1):
        other = _power_of_two(held[sources[1 - i]])
        if (
            scale is not None
            and other is not None
            and scale * other == 1.0
            and _is_alike(made, factors[i], sources[i], result)
        ):
            return i
    return None


def _power_of_two(number: Any) -> float | None:
    """Give a number if it is a power of two: products with it are exact."""
    return float(number) if number is not None and abs(math.frexp(number)[0]) == 0.5 else None


def _forms(tape: Wengert) -> dict[int, int]:
    """Number for each buffer what it is apart from its storage, unless it is a number in double precision at its start."""
    numbers: dict[Any, int] = {}
    return {
        i: numbers.setdefault((b.dtype.num, b.offset, b.shape, b.strides), len(numbers))
        for i, b in enumerate(tape.buffers)
        if b is not NUMBER
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
        s = made.storage_of[b]
        number = made.storages[s].number
        data = np.array(
            np.broadcast_to(np.asarray(value).astype(buffer.dtype), buffer.shape), STORED[number], order="C"
        )
        made.storages[s] = Storage(CONSTANT, number, math.prod(buffer.shape), data=data.reshape(-1))


def _constant(made: Wengert, buffer: int) -> Any:
    """Give a constant's value, as the array (or number) that the user's code would see."""
    b = made.buffers[buffer]
    flat = made.storages[made.storage_of[buffer]].data.reshape(-1)
    strides = [step * flat.itemsize for step in b.strides]
    value = np.lib.stride_tricks.as_strided(flat[b.offset :], b.shape, strides).astype(b.dtype)
    return value if b.shape else value[()]
