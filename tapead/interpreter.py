"""A tape on other kinds of number: every instruction evaluated on arrays of objects (mpmath, SymPy).

An elementwise op is its row in the op table: the expression of its value is evaluated with the functions of the kind of
number. A structural op is its function in NumPy, where that takes arrays of objects. Nothing is rounded to float32, and
integers do not wrap. The branches are those that were taken while recording.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .calling import call
from .errors import TapeadError, TapeadNotImplementedError, TapeadTypeError
from .kernels.table import Elementwise, Op, Structural
from .passes import without_rules
from .record import Recording, find_tensor
from .tape import CONSTANT, Storage, Wengert, describe
from .tensor import Tensor
from .tree import flatten, is_traced, normal, unflatten


@dataclass(frozen=True, eq=False)
class Numbers:
    """A kind of number: `functions` has what the op table calls, `where` and `abs` among them.

    `operators` replaces Python's where they do not fit, by the name of the node (`Eq`, `BitAnd`). `convert` makes one
    of a Python number. A name that is missing from functions is an op without a rule.
    """

    name: str
    convert: Callable[[Any], Any]
    functions: Mapping[str, Callable[..., Any]]
    operators: Mapping[str, Callable[..., Any]]


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "BitAnd": operator.and_,
    "BitOr": operator.or_,
    "USub": operator.neg,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "Eq": operator.eq,
    "NotEq": operator.ne,
}


class NoRule(Exception):
    """A kind of number lacks what an op needs."""


@cache
def parsed(expression: str) -> ast.expr:
    """Parse an expression of the op table."""
    return ast.parse(expression, mode="eval").body


@cache
def evaluator(expression: str, numbers: Numbers) -> Callable[[Mapping[str, Any]], Any]:
    """Give a function that evaluates an expression of the op table on values of its letters."""

    def of(node: ast.AST) -> Callable[[Mapping[str, Any]], Any]:
        if isinstance(node, ast.Name):
            name = node.id
            return lambda values: values[name]
        if isinstance(node, ast.Constant):
            constant = numbers.convert(node.value)
            return lambda values: constant
        if isinstance(node, ast.UnaryOp):
            return applied(known(node.op), node.operand)
        if isinstance(node, ast.BinOp):
            return applied(known(node.op), node.left, node.right)
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return applied(known(node.ops[0]), node.left, node.comparators[0])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in numbers.functions:
            return applied(numbers.functions[node.func.id], *node.args)
        raise NoRule

    def applied(f: Callable[..., Any], *nodes: ast.AST) -> Callable[[Mapping[str, Any]], Any]:
        parts = [of(node) for node in nodes]
        return lambda values: f(*[part(values) for part in parts])

    def known(node: ast.AST) -> Callable[..., Any]:
        name = type(node).__name__
        found = numbers.operators.get(name) or _OPERATORS.get(name)
        if found is None:
            raise NoRule
        return found

    return of(parsed(expression))


class Interpreter:
    """Runs a tape on a kind of number: give the inputs by `put`, `run`, read buffers by `get`."""

    def __init__(self, tape: Wengert, numbers: Numbers) -> None:
        self.tape, self.numbers = without_rules(tape), numbers
        self._memory: list[Any] = [None] * len(tape.storages)

    def put(self, storage: int, values: Any) -> None:
        """Set a storage, of an input, to an array of numbers of the kind."""
        self._memory[storage] = np.array(values, dtype=object).reshape(-1)

    def get(self, buffer: int) -> Any:
        """Give a buffer as a view of its storage: an array of objects of its shape."""
        b = self.tape.buffers[buffer]
        memory = self._of_storage(self.tape.storage_of[buffer])
        strides = [step * memory.itemsize for step in b.strides]
        return np.lib.stride_tricks.as_strided(memory[b.offset :], b.shape, strides)

    def _of_storage(self, s: int) -> Any:
        if self._memory[s] is None:
            storage: Storage = self.tape.storages[s]
            data = storage.data if storage.kind is CONSTANT else np.zeros(storage.size, int)
            flat = np.empty(storage.size, object)
            flat[:] = [self.numbers.convert(value) for value in data.reshape(-1).tolist()]
            self._memory[s] = flat
        return self._memory[s]

    def run(self) -> None:
        """Evaluate every instruction; raise NotImplementedError, with the user's line, for one without a rule."""
        for k, op in enumerate(self.tape.ops):
            try:
                self._step(k, op)
            except TapeadError:
                raise
            except (NoRule, TypeError, ValueError, AttributeError, NotImplementedError, ArithmeticError) as error:
                raise TapeadNotImplementedError(
                    f"{op.name} has no rule for numbers of {self.numbers.name}, at {describe(self.tape.places[k])}"
                ) from error

    def _step(self, k: int, op: Op) -> None:
        tape = self.tape
        operands, results = tape.operand_buffers[k], tape.result_buffers[k]
        if op.name == "guard":
            return
        if op.name == "assign":
            self.get(results[1])[...] = self.get(results[0])
            self.get(results[0])[...] = self.get(operands[0])
            return
        if isinstance(op, Elementwise):
            self.get(results[0])[...] = self._elementwise(op, operands, results[0])
            return
        parameters = tape.parameters[k] or {}
        if op.name == "scatter":
            _, saved = op.numpy(*self._operands(op, operands), into=self.get(results[0]), **parameters)
            self.get(results[1])[...] = saved
            return
        made = self._structural(op, operands, results, parameters)
        for buffer, value in zip(results, made if isinstance(made, tuple) else (made,), strict=True):
            self.get(buffer)[...] = np.frompyfunc(self._own, 1, 1)(value)

    def _elementwise(self, op: Elementwise, operands: Sequence[int], result: int) -> Any:
        """Evaluate the expression of an op for each element."""
        kinds = [self.tape.buffers[b].dtype.kind for b in operands]
        into = self.tape.buffers[result].dtype.kind
        expression = op.value
        if op.name == "copy" and into != kinds[0]:  # a conversion
            expression = {"b": "x != 0", "i": "trunc(x)", "u": "trunc(x)"}.get(into, "x")
            if kinds[0] == "b":
                expression = "where(x, 1, 0)"

        value = evaluator(expression, self.numbers)

        def element(*values: Any) -> Any:
            return value(dict(zip("xyw", values, strict=False)))

        return np.frompyfunc(element, len(operands), 1)(*map(self.get, operands))

    def _own(self, value: Any) -> Any:
        """Make numbers of the kind of indices, and of the 0 and 1 that NumPy makes of nothing; refuse other floats."""
        if isinstance(value, float | np.floating):  # computed in double precision after all
            raise NoRule
        return self.numbers.convert(int(value)) if isinstance(value, int | np.integer) else value

    def _operands(self, op: Op, operands: Sequence[int]) -> list[Any]:
        """Give the operands of a structural op; index arrays as integers."""
        arrays = [self.get(b) for b in operands]
        if op.name in ("gather", "spread", "scatter"):
            arrays[1:] = [np.array([int(i) for i in a.reshape(-1)], np.intp).reshape(a.shape) for a in arrays[1:]]
        return arrays

    def _structural(self, op: Op, operands: Sequence[int], results: Sequence[int], parameters: dict[str, Any]) -> Any:
        """Do a structural op by its function in NumPy."""
        if not isinstance(op, Structural) or op.address is not None:
            raise NoRule
        tape, functions = self.tape, self.numbers.functions
        arrays = self._operands(op, operands)
        numeric = any(tape.buffers[r].dtype.kind != "b" for r in results)
        for i, b in enumerate(operands):
            if tape.buffers[b].dtype.kind == "b" and numeric and op.name != "nonzero":
                one, zero = self.numbers.convert(1), self.numbers.convert(0)
                arrays[i] = np.frompyfunc(lambda c: functions["where"](c, one, zero), 1, 1)(arrays[i])  # noqa: B023
        x = arrays[0]
        if op.name == "sum":
            kept = tape.buffers[results[0]].shape
            return np.sum(x, axis=tuple(a for a, n in enumerate(kept) if n != x.shape[a]), keepdims=True)
        if op.name in ("max", "min"):
            return np.frompyfunc(functions[f"{op.name}imum"], 2, 1).reduce(x, axis=1)
        return op.numpy(*arrays, **parameters)


# ---- what a function records ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """What a function did with its arguments: the tape, its inputs among the leaves, its outputs, and their trees.

    `inputs` maps leaves to storages; `outputs` are buffers; `structure` is the tree of what the function gave.
    """

    tape: Recording
    leaves: list[Any]
    arguments: Any
    inputs: dict[int, int]
    outputs: list[int]
    structure: Any


def record(function: Callable[..., Any], *args: Any) -> Recorded:
    """Record a function once on arguments; floats and float arrays are inputs, anything else stays as it is.

    Raises TypeError where a number leaves the tape, or the result is not made of real numbers.
    """
    leaves, arguments = flatten(args)
    leaves = [normal(leaf) for leaf in leaves]
    recording = Recording(replays=True)
    inside, inputs = list(leaves), {}
    with recording, np.errstate(all="ignore"):
        level = recording.open_level()  # within which rules of the user's write what their functions do
        for i, leaf in enumerate(leaves):
            if is_traced(leaf) and np.asarray(leaf).dtype.kind == "f":
                inside[i] = recording.enter(leaf, levels=level)
                inputs[i] = recording.storage_of[inside[i].buffer]
        made, structure = flatten(call(function, unflatten(arguments, inside), {}))
        outputs = []
        for value in made:
            if type(value) is not Tensor and find_tensor(value) is None and np.asarray(value).dtype.kind not in "fiub":
                raise TapeadTypeError(f"the function returned {type(value).__name__} {value!r}, not real numbers")
            outputs.append(recording.tensor(value).buffer)
    if recording.volatile:
        what, place = recording.volatile[0]
        raise TapeadTypeError(f"{what} takes numbers off the tape at {describe(place)}: what follows is not on it")
    return Recorded(recording, leaves, arguments, inputs, outputs, structure)
