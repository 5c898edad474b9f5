"""Primitives: ops of a user's own, whose values and derivatives are numba functions that run inside the sweeps.

A primitive is a structural op that is in no table. Its kernels are made when they are first needed, for a number class and
the ranks of the operands; its rules, which write derivatives on the tape, record primitives made of the same functions.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any, NoReturn

import numpy as np

from .errors import TapeadNotImplementedError, TapeadTypeError, TapeadValueError
from .kernels import wrappers
from .kernels.constants import F4, F8
from .kernels.op import Layout
from .kernels.table import Structural
from .record import find_tensor
from .shape import broadcast_strides, collapse
from .tape import row_major
from .tensor import Tensor

Shape = tuple[int, ...]

#: the opcodes of primitives, in the order in which they are made
_codes = itertools.count(1 << 16)
#: how much of numba's message is shown: lines, and characters of each
LINES, LONGEST = 12, 200


class UserFunction:
    """A function that a user gave for a part of a primitive: what it is to be compiled as, and the words of its errors."""

    def __init__(self, function: Any, part: str) -> None:
        self.part = part
        if not callable(function):
            raise TapeadTypeError(f"{part} must be a function, not {type(function).__name__}")
        source = getattr(function, "py_func", function)
        if not inspect.isfunction(source):
            raise TapeadTypeError(
                f"{part} must be a Python function or one jitted by numba, not {type(function).__name__}: wrap it in a lambda"
            )
        self.signature = inspect.signature(source)
        self.jitted = wrappers.jitted(function)

    def takes(self, count: int) -> bool:
        """Whether the function can be called with so many operands."""
        try:
            self.signature.bind(*range(count))
        except TypeError:
            return False
        return True

    @property
    def count(self) -> int:
        """The number of operands, those with a default not counted."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return sum(p.kind in kinds and p.default is p.empty for p in self.signature.parameters.values())

    def compiled(self, types: Sequence[Any]) -> Any:
        """Compile for numba types; give the type of what is returned."""
        try:
            self.jitted.compile(tuple(types))
        except Exception as error:  # numba raises what it likes
            listed = ", ".join(map(str, types))
            text = str(error)
            reason = (
                "it writes into an operand, which is read-only" if "Cannot modify readonly" in text else "see above"
            )
            raise TapeadTypeError(
                f"{_shortened(text)}\n{self.part} cannot be compiled by numba for ({listed}): {reason}"
            ) from error
        return self.jitted.overloads[tuple(types)].signature.return_type


def _shortened(text: str) -> str:
    """Give the lines of numba's message that say something."""
    lines = [line.rstrip()[:LONGEST] for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Failed in nopython", "During: Pass"))]
    if len(lines) > LINES:
        lines = [*lines[:2], "...", *(line for line in lines[2:-4] if "Error" in line), *lines[-4:]]
    return "\n".join(lines)


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


class Primitive:
    """An op of a user's own, made by `tapead.primitive`: call it on arrays and numbers, or on traced values.

    `op` is what stands on the tape; `hint` says what to give where a derivative is missing.
    """

    broadcasts = False

    def __init__(self, name: str, arity: int, active: Sequence[int], doc: str, hint: str) -> None:
        self.name = self.__name__ = name
        self.arity, self.hint = arity, hint
        self.__doc__ = doc
        self.numpy: Callable[..., Any] | None = None
        self._entries: dict[Any, wrappers.Entry] = {}
        self._lock = RLock()
        self.op = Structural(
            name=name,
            code=next(_codes),
            doc=doc,
            numpy=self.evaluate,
            arity=arity,
            group="primitives",
            forward=self.address,
            reverse=self.address,
            active=tuple(active),
            rule=self.rule,
            tangent=self.tangent,
            words=self.words,
            scratch=self.scratch,
            address=self.address,
            broadcasts=self.broadcasts,
        )

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __reduce__(self) -> NoReturn:
        raise TapeadTypeError(f"{self!r} holds compiled functions and cannot be pickled")

    def __deepcopy__(self, memory: Any) -> Primitive:
        return self

    def __call__(self, *operands: Any) -> Any:
        if len(operands) != self.arity:
            raise TapeadTypeError(f"{self!r} takes {self.arity} operands, got {len(operands)}")
        tensor = find_tensor(operands)
        if tensor is None:
            dtype = self._dtype([o if type(o) in (int, float) else np.asarray(o) for o in operands])
            return self.evaluate(*(np.asarray(o, dtype) for o in operands))
        recording = tensor.tape
        lifted = [recording.lift(o) for o in operands]
        dtype = self._dtype(lifted)
        return self.recorded(
            [recording.cast(o, dtype, copy=False) if type(o) is Tensor else np.asarray(o, dtype)[()] for o in lifted]
        )

    def _dtype(self, operands: Sequence[Any]) -> np.dtype[Any]:
        """Give the dtype that all operands are converted to; Python's own numbers leave float32 as it is."""
        kinds: list[Any] = []
        for k, operand in enumerate(operands):
            if type(operand) in (int, float) or (type(operand) is Tensor and operand.weak):
                kinds.append(0.0)
                continue
            dtype = operand.dtype
            if dtype not in (np.float64, np.float32):
                raise TapeadTypeError(
                    f"operand {k + 1} of {self!r} has dtype {dtype}: primitives take float64 and float32. "
                    + (
                        "Split it into real and imaginary parts"
                        if dtype.kind == "c"
                        else "Convert it with astype(float)"
                    )
                )
            kinds.append(dtype)
        return np.result_type(*kinds)

    def evaluate(self, *operands: Any) -> Any:
        """Compute on arrays, all of one dtype, with the kernel that sweeps use."""
        dtype = np.asarray(operands[0]).dtype
        number = F8 if dtype == np.float64 else F4
        arrays = [np.require(o, dtype, ["C", "A"]) for o in operands]
        results = [np.zeros(shape, dtype) for shape in self.shapes([np.shape(o) for o in operands])]
        every = [*arrays, *results]
        layouts = [Layout(k, x.shape, row_major(x.shape), number) for k, x in enumerate(every)]
        given, made = layouts[: self.arity], layouts[self.arity :]
        p = np.array([0, number, *self.words(given, made, {})], np.int64)
        table = np.array([_address(x) for x in every], np.int64)
        status = self._entry("forward", given, made).call(_address(p), _address(table), 0, 0)
        if status:
            raise TapeadValueError(f"{self!r} raised an exception")
        return self.packed([z[()] for z in results])

    def recorded(self, operands: Sequence[Any]) -> Any:
        """Record the op on operands of one dtype, one of which is traced at least."""
        tensor = find_tensor(operands)
        return self.evaluate(*operands) if tensor is None else tensor.tape.structural_op(self.op, operands, {})

    def packed(self, results: list[Any]) -> Any:
        """Give what a call returns: the result itself, unless there are several."""
        return results[0]

    def address(self, direction: str, operands: Sequence[Layout], results: Sequence[Layout]) -> int:
        """Give the address of a kernel for operands and results like these."""
        return int(self._entry(direction, operands, results).address)

    def _entry(self, direction: str, operands: Sequence[Layout], results: Sequence[Layout]) -> wrappers.Entry:
        key = direction, operands[0].number, self.ranks(operands, results)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = self.wrapped(*key)
            return entry

    def underivable(self) -> NoReturn:
        """Raise, because a derivative is asked for that was not given."""
        raise TapeadNotImplementedError(f"{self!r} has no derivative: {self.hint}")

    # ---- what the two forms differ in ----------------------------------------------------------------------------

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Give the shapes of the results."""
        raise NotImplementedError

    def ranks(self, operands: Sequence[Layout], results: Sequence[Layout]) -> wrappers.Ranks | None:
        """Give what a kernel depends on beside the class."""
        raise NotImplementedError

    def words(self, operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
        """Give the parameters of the kernels."""
        raise NotImplementedError

    def scratch(self, operands: Sequence[Layout], results: Sequence[Layout]) -> int:
        """Give the bytes of scratch memory."""
        raise NotImplementedError

    def wrapped(self, direction: str, number: int, ranks: Any) -> wrappers.Entry:
        """Compile a kernel."""
        raise NotImplementedError

    def rule(self, record: Any, parameters: Any, d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
        """Write the adjoints of the active operands on the tape."""
        raise NotImplementedError

    def tangent(self, record: Any, parameters: Any, dots: Any, results: Any, operands: Any) -> Any:
        """Write the tangent of the result on the tape."""
        raise NotImplementedError


class ElementwisePrimitive(Primitive):
    """A primitive that applies a function of numbers to all elements of its operands, broadcast against each other."""

    broadcasts = True

    def __init__(
        self,
        value: UserFunction,
        partials: Sequence[ElementwisePrimitive | None] | None,
        arity: int,
        name: str,
        doc: str,
        hint: str,
    ) -> None:
        self.value, self.partials = value, partials
        active = range(arity) if partials is None else [k for k, p in enumerate(partials) if p is not None]
        super().__init__(name, arity, list(active), doc, hint)

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        try:
            return [np.broadcast_shapes(*shapes)]
        except ValueError as error:
            raise TapeadValueError(f"{self!r}: {error}") from error

    def ranks(self, operands: Sequence[Layout], results: Sequence[Layout]) -> None:
        return None

    def words(self, operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
        shape = results[0].shape
        dims, steps = collapse(shape, [broadcast_strides(o.shape, o.strides, shape) for o in operands])
        return [*(o.buffer for o in (*operands, *results)), len(dims), *dims, *itertools.chain(*steps)]

    def scratch(self, operands: Sequence[Layout], results: Sequence[Layout]) -> int:
        return 0

    def wrapped(self, direction: str, number: int, ranks: Any) -> wrappers.Entry:
        if direction == "forward":
            return wrappers.elementwise_forward(self.compiled(number), self.arity, number)
        if self.partials is None:
            self.underivable()
        functions = [None if p is None else p.compiled(number) for p in self.partials]
        takes_result = [p is not None and p.arity > self.arity for p in self.partials]
        return wrappers.elementwise_reverse(functions, takes_result, number)

    def compiled(self, number: int) -> Any:
        """Give the compiled function of numbers of a class."""
        made = self.value.compiled([wrappers.real(number)] * self.arity)
        if not isinstance(made, wrappers.NUMBERS):
            raise TapeadTypeError(f"{self.value.part} must return a real number, but returns {made}")
        return self.value.jitted

    def _partial(self, k: int, operands: Sequence[Any], result: Any) -> Any:
        """Record the partial of an operand."""
        if self.partials is None:
            self.underivable()
        partial = self.partials[k]
        if partial is None:
            return np.zeros((), result.dtype)
        return partial.recorded([*operands, result][: partial.arity])

    def rule(self, record: Any, parameters: Any, d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
        return tuple(record("chain", d, self._partial(k, operands, results[0])) for k in self.op.active)

    def tangent(self, record: Any, parameters: Any, dots: Any, results: Any, operands: Any) -> Any:
        total = None
        for k in self.op.active:
            if dots[k] is not None:
                term = record("chain", dots[k], self._partial(k, operands, results[0]))
                total = term if total is None else record("add", total, term)
        return total


class ArrayPrimitive(Primitive):
    """A primitive that fills an array, or several, from whole arrays.

    `function` gets the results before the operands, or behind them (`results_first`). `reverse` adds into the operands'
    adjoints; or it is a tuple of primitives that each give one, or None where no derivative flows. `tangent_of` gives
    the result's tangent.
    """

    def __init__(
        self,
        function: UserFunction,
        shape_rule: Callable[..., Any],
        reverse: UserFunction | tuple[ArrayPrimitive | None, ...] | None,
        tangent_of: ArrayPrimitive | None,
        arity: int,
        name: str,
        doc: str,
        hint: str,
        results_first: bool = True,
    ) -> None:
        self.function, self.shape_rule, self.reverse = function, shape_rule, reverse
        self.results_first, self.tangent_of = results_first, tangent_of
        active = [k for k in range(arity) if not isinstance(reverse, tuple) or reverse[k] is not None]
        super().__init__(name, arity, active, doc, hint)
        self._adjoints: ArrayPrimitive | None = None
        if isinstance(reverse, UserFunction):
            self._adjoints = ArrayPrimitive(
                reverse,
                lambda *shapes: shapes[2:],
                None,
                None,
                2 + arity,
                f"{name}.reverse",
                doc,
                f"for derivatives of higher order give reverse= of {name} as a tuple of primitives, one for each operand",
                results_first=False,
            )

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        found = self.shape_rule(*shapes)
        if not self.results_first:
            return list(found)
        if isinstance(found, int | np.integer) and not isinstance(found, bool):
            found = (found,)
        right = isinstance(found, tuple | list) and all(
            isinstance(dim, int | np.integer) and not isinstance(dim, bool) and dim >= 0 for dim in found
        )
        if not right:
            raise TapeadTypeError(
                f"the shape rule of {self!r} must return a tuple of sizes, but returned {found!r} for {', '.join(map(str, shapes))}"
            )
        return [tuple(int(dim) for dim in found)]

    def packed(self, results: list[Any]) -> Any:
        return results[0] if self.results_first else tuple(results)

    def ranks(self, operands: Sequence[Layout], results: Sequence[Layout]) -> wrappers.Ranks:
        return wrappers.Ranks(tuple(len(o.shape) for o in operands), tuple(len(z.shape) for z in results))

    def words(self, operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
        every = [*operands, *results]
        return [*(x.buffer for x in every), *itertools.chain(*(x.shape for x in every))]

    def scratch(self, operands: Sequence[Layout], results: Sequence[Layout]) -> int:
        return sum(8 * o.size for o in operands)

    def wrapped(self, direction: str, number: int, ranks: Any) -> wrappers.Entry:
        def types(readonly: bool, *ranks: int) -> list[Any]:
            return [wrappers.array(number, rank, readonly) for rank in ranks]

        if direction == "forward":
            given, made = types(True, *ranks.operands), types(False, *ranks.results)
            self.function.compiled([*made, *given] if self.results_first else [*given, *made])
            return wrappers.array_forward(self.function.jitted, ranks, self.results_first, number)
        if self.reverse is None:
            self.underivable()
        known = types(True, *ranks.results * 2, *ranks.operands)  # adjoint, result, operands
        if isinstance(self.reverse, UserFunction):
            self.reverse.compiled([*known, *types(False, *ranks.operands)])
            return wrappers.array_reverse(self.reverse.jitted, ranks, number)
        functions: list[Any] = []
        for part, rank in zip(self.reverse, ranks.operands, strict=True):
            if part is not None:
                part.function.compiled([*types(False, rank), *known])
            functions.append(None if part is None else part.function.jitted)
        return wrappers.array_reverse_by_parts(functions, ranks, number)

    def rule(self, record: Any, parameters: Any, d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
        if self._adjoints is not None:
            made: tuple[Any, ...] = self._adjoints.recorded([d, results[0], *operands])
            return made
        if not isinstance(self.reverse, tuple):
            self.underivable()
        found = []
        for part, operand in zip(self.reverse, operands, strict=True):
            if part is not None:
                adjoint = part.recorded([d, results[0], *operands])
                if adjoint.shape != operand.shape:
                    raise TapeadValueError(
                        f"{part!r} gives an adjoint of shape {adjoint.shape} for an operand of {self!r} of shape {operand.shape}"
                    )
                found.append(adjoint)
        return tuple(found)

    def tangent(self, record: Any, parameters: Any, dots: Any, results: Any, operands: Any) -> Any:
        if self.tangent_of is None:
            self.underivable()
        filled = [np.zeros(o.shape, o.dtype) if dot is None else dot for dot, o in zip(dots, operands, strict=True)]
        return self.tangent_of.recorded([results[0], *operands, *filled])
