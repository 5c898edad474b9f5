"""Recording: what is done with tensors is evaluated by NumPy and appended to the tape, in one step."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Number
from typing import Any

import numpy as np

from . import indexing, protocols
from .errors import (
    EscapedError,
    TapeadAxisError,
    TapeadIndexError,
    TapeadLinAlgError,
    TapeadNotImplementedError,
    TapeadTypeError,
    TapeadValueError,
)
from .finite import Watch
from .kernels.constants import B1, F4, F8, I8
from .kernels.index import bits, unbits
from .kernels.table import OPS, Elementwise, Op, Structural
from .shape import blas_ready
from .tape import (
    COLUMNS,
    CONSTANT,
    FLOAT,
    INPUT,
    NUMBER,
    STORED,
    VALUE,
    Place,
    Storage,
    Wengert,
    describe,
    number_class,
    row_major,
    user_place,
)
from .tensor import FUNCTIONS, Tensor

COPY = OPS["copy"]
#: an argument of more bytes than this is looked at in place while a function is traced, not copied
LARGE = 1 << 20
_SCALARS = (float, int, bool, np.generic)


def _divide(x: Any, y: Any) -> Any:
    """Divide as NumPy does."""
    try:
        return x / y
    except ZeroDivisionError:  # of Python's floats
        return float(np.float64(x) / y)


#: ops whose operators on numbers in double precision give what NumPy's functions give, sooner
_EXACT: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "negative": operator.neg,
    "divide": _divide,
}
_DOUBLE = np.float64
_DOUBLES = frozenset({np.float64, float})
_WHOLE = 2**53  # Python's integers up to here are double precision numbers, too

_state = threading.local()


def live_recordings() -> list[Recording]:
    """Give the recordings that this thread is making, the innermost last."""
    if not hasattr(_state, "stack"):
        _state.stack = []
    return _state.stack  # type: ignore[no-any-return]


def current(needed_for: str) -> Recording:
    """Give the recording that this thread is making."""
    stack = live_recordings()
    if not stack:
        raise TapeadTypeError(
            f"{needed_for} needs a live tape: call it while a function is traced, or within `with Tape()`"
        )
    return stack[-1]


def find_tensor(values: Any) -> Tensor | None:
    """Find a tensor among values: itself, in a list, or in an object array."""
    if type(values) is Tensor:
        return values
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = values.ravel().tolist()
    if isinstance(values, list | tuple):
        for value in values:
            found = find_tensor(value)
            if found is not None:
                return found
    return None


class ForeignTape(TapeadTypeError):
    """A value of an outer trace was met while an inner function was traced on a tape of its own."""


class Recording(Wengert):
    """A tape while it is recorded: evaluates each operation with NumPy and appends the instruction.

    replays tells that the tape will be run again on other values (a trace): then numbers must not leave it. watched
    lets a `Watch` look at all values, which are kept for it.
    """

    def __init__(self, replays: bool, watched: bool = False) -> None:
        super().__init__()
        self.replays = replays
        self.watch = Watch(self) if watched else None
        self.live = True
        self.volatile: list[tuple[str, Place]] = []
        self.forced: list[int] = []
        self._levels = 1
        self.open_levels = 0  # the derivatives that are being taken within
        #: buffer -> its value, while a derivative is taken within the trace
        self.kept: dict[int, Any] | None = {} if watched else None
        self.former: dict[
            int, Tensor
        ] = {}  # instruction that writes -> what it overwrote, as a value that derivatives flow through
        self._numbers: dict[Any, int] = {}
        self._weak: set[int] = set()  # the buffers of Python's own numbers, which leave float32 as it is
        self._constants: dict[int, tuple[Any, Any, int]] = {}
        self._stale: dict[int, tuple[Any, Any, Place]] = {}

    # ---- beginning and end -------------------------------------------------------------------------------------------

    def __enter__(self) -> Recording:
        try:
            live_recordings().append(self)
        except BaseException:  # Ctrl-C, just after it was appended
            self.end()
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        self.end()

    def end(self) -> None:
        """End recording: settle the constants, give arrays that were taken over their values back. Twice is once."""
        stack = live_recordings()
        while self in stack:
            stack.remove(self)
        self.live = False
        for reference, snapshot, storage in self._constants.values():
            same = reference.tobytes() == snapshot.tobytes() if self.replays else False
            if same:
                self.storages[storage].data = reference
        self._constants.clear()
        self._numbers.clear()
        for array, saved, _ in self._stale.values():
            array[...] = saved
        self._stale.clear()

    def append(
        self,
        op: Op,
        operands: tuple[int, ...],
        results: tuple[int, ...],
        parameters: dict[str, Any] | None,
        place: Place,
    ) -> int:
        """Append an instruction that was evaluated; give its index."""
        k = super().append(op, operands, results, parameters, place)
        if self.watch is not None:
            self.watch.recorded()
        return k

    def looking_away(self) -> AbstractContextManager[None]:
        """Do not look at what is recorded in the body of a `with` statement: stand-ins, whose values are not used."""
        return nullcontext() if self.watch is None else self.watch.looking_away()

    def take_back(self, start: int) -> None:
        """Take back the instructions from one on; what they made stays."""
        for column in COLUMNS:
            del getattr(self, column)[start:]
        self.former = {k: saved for k, saved in self.former.items() if k < start}

    # ---- values that enter -------------------------------------------------------------------------------------------

    def enter(self, value: Any, levels: int = 0) -> Tensor:
        """Make an input of a value: an array or a number (a Python float keeps its weak dtype)."""
        weak = type(value) is float
        array = np.asarray(value)
        number = number_class(array.dtype)
        if number is None:
            raise TapeadTypeError(f"values of dtype {array.dtype} cannot be traced; use float64 or float32")
        large = self.replays and array.nbytes > LARGE and array.flags.c_contiguous
        inside = array.view() if large else np.array(array, order="C", copy=True)
        inside.flags.writeable = False
        storage = Storage(INPUT, number, array.size, levels)
        buffer = self.new_buffer(self.new_storage(storage), array.dtype, array.shape)
        return Tensor(self, buffer, value if weak else inside if array.ndim else inside[()], storage, weak)

    def constant(self, value: Any) -> int:
        """Give the buffer of a value that is no tensor."""
        kind = type(value)
        if kind is float or kind is int or isinstance(value, _SCALARS):
            key = (kind, value if value else repr(value))
            buffer = self._numbers.get(key)
            if buffer is None:
                array = np.asarray(value)
                number = number_class(array.dtype)
                if number is None:
                    raise TapeadTypeError(f"numbers of type {type(value).__name__} cannot be used with traced values")
                storage = self.new_storage(Storage(CONSTANT, number, 1, data=array.astype(STORED[number]).reshape(1)))
                buffer = self._numbers[key] = self.new_buffer(storage, array.dtype, ())
                if kind in (float, int):
                    self._weak.add(buffer)
            return buffer
        array = np.asarray(value)
        for old, _, where in self._stale.values():
            if np.may_share_memory(old, array):
                raise TapeadTypeError(
                    f"this array was updated in place with a traced value ({describe(where)}); the update gave a new "
                    "traced array, and another name still holds the old one. Make it with tapead.numpy.zeros "
                    "(or write y = y + t)"
                )
        known = self._constants.get(id(array))
        if known is not None and np.array_equal(known[1], array, equal_nan=array.dtype.kind == "f"):
            storage = known[2]
        else:
            number = number_class(array.dtype)
            if number is None:
                raise TapeadTypeError(f"arrays of dtype {array.dtype} cannot be used with traced values")
            data = np.array(array, STORED[number], order="C")
            storage = self.new_storage(Storage(CONSTANT, number, array.size, data=data))
            if array.dtype == STORED[number] and array.flags.c_contiguous and array.flags.aligned:
                self._constants[id(array)] = (array, data, storage)
        return self.new_buffer(storage, array.dtype, array.shape)

    def retire(self, array: Any, place: Place) -> None:
        """Make an array unusable until recording ends, because a traced value has taken its place."""
        if array.flags.writeable and id(array) not in self._stale:
            self._stale[id(array)] = (array, array.copy(), place)
            self._constants.pop(id(array), None)
            array[...] = np.nan  # what still reads the old array must not get a number that looks right

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Tensor:
        """Give a tensor of new memory, all of whose parts must be written next with `write`."""
        dtype = np.dtype(dtype)
        number = number_class(dtype)
        if number is None:
            raise TapeadTypeError(f"arrays of dtype {dtype} cannot be traced")
        return self.made(np.zeros(shape, dtype), number, 0)

    def made(self, value: Any, number: int, levels: int, weak: bool = False) -> Tensor:
        """Wrap a new value: new storage, new buffer."""
        if isinstance(value, np.ndarray):
            storage = Storage(VALUE, number, value.size, levels)
            buffer = self.new_buffer(self.new_storage(storage), value.dtype, value.shape)
            if self.kept is not None:
                storage.data, self.kept[buffer] = value, value
            return Tensor(self, buffer, value, storage)
        storage = Storage(VALUE, number, 1, levels)
        buffer = self.new_buffer(self.new_storage(storage), FLOAT if weak else value.dtype, ())
        if self.kept is not None:
            self.kept[buffer] = value
        return Tensor(self, buffer, value, storage, weak)

    # ---- derivatives within the trace ---------------------------------------------------------------------------------

    def open_level(self) -> int:
        """Begin a derivative within the trace: give its bit, and keep values from now on, which its rules will need."""
        self._levels <<= 1
        self.open_levels += 1
        if self.kept is None:
            self.kept = {}
        return self._levels

    def close_level(self, level: int, keep: bool = False) -> None:
        """End a derivative within the trace: nothing flows to its variables any more; `keep` keeps values to the end."""
        for storage in self.storages:
            storage.levels &= ~level
        if keep:
            return
        self.open_levels -= 1
        if not self.open_levels and self.watch is None:
            self.kept = None

    def keep(self, x: Tensor) -> Tensor:
        """Keep a tensor's value for the rules of derivatives within the trace."""
        if self.kept is not None:
            self.kept[x.buffer] = x._value
        return x

    def keep_operands(self, operands: Sequence[Any]) -> None:
        """Keep the values of those operands that are tensors."""
        for operand in operands if self.kept is not None else ():
            if type(operand) is Tensor:
                self.keep(operand)

    def tensor_of(self, buffer: int) -> Tensor:
        """Give a tensor of a buffer whose value was kept."""
        b = self.buffers[buffer]
        storage = self.storages[self.storage_of[buffer]]
        if self.kept is not None and buffer in self.kept:
            return Tensor(self, buffer, self.kept[buffer], storage)
        if buffer in self._weak:
            return Tensor(self, buffer, float(storage.data[0]), storage, True)
        if storage.kind is CONSTANT:
            flat = storage.data.reshape(-1)
            strides = [s * flat.itemsize for s in b.strides]
            value = np.lib.stride_tricks.as_strided(flat[b.offset :], b.shape, strides).astype(b.dtype)
            return Tensor(self, buffer, value if b.shape else value[()], storage)
        raise TapeadNotImplementedError(
            "a gradient within a traced function needs a value from before it, which was not kept"
        )

    def memory(self, s: int) -> Tensor:
        """Give a storage that is written to as one flat tensor."""
        storage = self.storages[s]
        if storage.data is None:
            raise TapeadNotImplementedError(
                "an array that was made outside a function is assigned to within it, while a gradient of it is taken within "
                "a traced function: make the array inside"
            )
        flat = storage.data.reshape(-1)
        dtype = flat.dtype
        return Tensor(self, self.new_buffer(s, dtype, flat.shape), flat, storage)

    # ---- operands ----------------------------------------------------------------------------------------------------

    def lift(self, value: Any) -> Any:
        """Make an operand of whatever the user wrote: tensors, numbers and arrays stay; lists and object arrays of
        traced numbers become one tensor."""
        if type(value) is Tensor:
            if value.tape is not self:
                self.reject(value)
            return value
        if isinstance(value, _SCALARS):
            return value
        if isinstance(value, np.ndarray):
            return self._lift_objects(value) if value.dtype == object else value
        if isinstance(value, list | tuple):
            if find_tensor(value) is None:
                return np.asarray(value)
            parts = [self.lift(v) for v in value]
            return FUNCTIONS[np.stack](parts)
        if hasattr(value, "__array__"):
            return np.asarray(value)
        raise TapeadTypeError(f"a {type(value).__name__} cannot be used with traced values")

    def reject(self, value: Tensor) -> None:
        """Raise for a tensor that does not belong to this tape, or whose tape has ended."""
        if not value.tape.live:
            self._reject_dead()
        if value.tape in live_recordings():
            raise ForeignTape("a value of an outer trace was used while an inner function was traced")
        raise TapeadTypeError(
            "a traced value was used on another tape, or by another thread, than the one it belongs to, at "
            f"{describe(user_place())}"
        )

    def _lift_objects(self, array: Any) -> Any:
        parts = array.ravel().tolist()
        first = parts[0] if parts else None
        if find_tensor(array) is None:
            if all(isinstance(part, Number) for part in parts):
                return array.astype(float)
            raise TapeadTypeError("arrays of Python objects cannot be used with traced values: make them of floats")
        if type(first) is Tensor and first.tape is self:
            whole = self._consecutive(parts, array.shape)
            if whole is not None:
                return whole
        stacked = FUNCTIONS[np.stack]([self.lift(part) for part in parts])
        return self.view(stacked, lambda x: x.reshape(array.shape))

    def _consecutive(self, parts: list[Any], shape: tuple[int, ...]) -> Tensor | None:
        """Give back the buffer whose elements, one after another, are the parts; None if they are not."""
        if any(type(p) is not Tensor or p.tape is not self or p.storage is not parts[0].storage for p in parts):
            return None
        storage = parts[0].storage
        places = [self.buffers[p.buffer] for p in parts]
        if storage.written or any(b.shape for b in places):
            return None
        if any(b.offset != places[0].offset + i for i, b in enumerate(places)):
            return None
        values = np.array([p._value for p in parts], parts[0].dtype).reshape(shape)
        buffer = self.new_buffer(
            self.storage_of[parts[0].buffer], parts[0].dtype, shape, row_major(shape), places[0].offset
        )
        return Tensor(self, buffer, values, storage)

    def operand(self, value: Any) -> int:
        """Give the buffer of a tensor, or of a constant."""
        return value.buffer if type(value) is Tensor else self.constant(value)

    # ---- elementwise -------------------------------------------------------------------------------------------------

    def operator(self, op: Any, operands: tuple[Any, ...]) -> Any:
        """Record what an operator wrote; None of it if an operand takes over itself."""
        for operand in operands:
            kind = type(operand)
            if kind is not Tensor and kind is not float and getattr(operand, "__array_ufunc__", self) is None:
                return NotImplemented
        if op.name == "power" and type(operands[1]) in (int, float):
            exponent = operands[1]
            if exponent == 2:
                op, operands = OPS["square"], operands[:1]
            elif exponent == 0.5 and type(exponent) is float:
                op, operands = OPS["sqrt"], operands[:1]
        return self.elementwise(op, operands, weak=True)

    def pair(self, op: Elementwise, x: Any, y: Any) -> Any:
        """Record what an operator does with a tensor and a tensor or Python number.

        Numbers in double precision, by far the most common, take the short way; all else goes to `elementwise`.
        """
        if not self.live:
            self._reject_dead()
        function = _EXACT.get(op.name)
        levels = 0
        a, b, i, j = x, y, -1, -1
        if type(x) is Tensor:
            if x.tape is not self:
                self.reject(x)
            a, i, levels = x._value, x.buffer, x.storage.levels
        elif type(x) is int and -_WHOLE <= x <= _WHOLE:
            a = float(x)
        if type(y) is Tensor:
            if y.tape is not self:
                self.reject(y)
            b, j = y._value, y.buffer
            levels |= y.storage.levels
        elif type(y) is int and -_WHOLE <= y <= _WHOLE:
            b = float(y)
        if function is None or type(a) not in _DOUBLES or type(b) not in _DOUBLES or self.kept is not None:
            return self.elementwise(op, (x, y), True)
        if i < 0:
            i = self.constant(x)
        elif j < 0:
            j = self.constant(y)
        return self._number(op, (i, j), function(a, b), levels, user_place(3))

    def _number(self, op: Elementwise, operands: tuple[int, ...], value: Any, levels: int, place: Place) -> Tensor:
        """Append an elementwise instruction on numbers in double precision; give its result, weak if a Python number."""
        storage = Storage(VALUE, F8, 1, levels)
        result = Tensor(self, len(self.buffers), value, storage, type(value) is float)
        self.buffers.append(NUMBER)
        self.storage_of.append(len(self.storages))
        self.storages.append(storage)
        self.ops.append(op)
        self.operand_buffers.append(operands)
        self.result_buffers.append((result.buffer,))
        self.parameters.append(None)
        self.places.append(place)
        return result

    def elementwise(self, op: Any, operands: tuple[Any, ...], weak: bool = False) -> Any:
        """Record an elementwise op. weak tells that an operator did it, whose result on Python numbers is one."""
        place = user_place()
        if not self.live:
            self._reject_dead()
        values: list[Any] = []
        levels = 0
        lifted: Sequence[Any] = operands
        plain = True  # numbers in double precision only
        for k, operand in enumerate(operands):
            if type(operand) is not Tensor and type(operand) is not float and type(operand) is not int:
                operand = self.lift(operand)
                lifted = [*lifted[:k], operand, *lifted[k + 1 :]]
            if type(operand) is Tensor:
                if operand.tape is not self:
                    self.reject(operand)
                if op.partials[k] is not None:
                    levels |= operand.storage.levels
                operand = operand._value
            values.append(operand)
            kind = type(operand)
            if kind is not float:
                weak = weak and kind is int
                if kind is not _DOUBLE and (kind is not int or abs(operand) > _WHOLE):
                    plain = False
        function = _EXACT.get(op.name) if plain else None
        try:
            value = op.numpy(*values) if function is None else function(*values)
        except (ValueError, TypeError) as error:
            raise self.explained(error, op.name, values, place) from error
        if function is None and not (plain and type(value) is _DOUBLE):
            return self._elementwise_made(op, lifted, values, value, levels, weak, place)
        if (type(value) is float) is not weak:
            value = float(value) if weak else _DOUBLE(value)
        result = self._number(op, tuple([self.operand(o) for o in lifted]), value, levels, place)
        if self.kept is not None:
            self.keep(result)
            self.keep_operands(lifted)
        if self.watch is not None:
            self.watch.recorded()
        return result

    def _elementwise_made(
        self,
        op: Any,
        operands: Sequence[Any],
        values: Sequence[Any],
        value: Any,
        levels: int,
        weak: bool,
        place: Place,
    ) -> Any:
        dtype = value.dtype
        kind = dtype.kind
        computed = F8
        if kind == "f":
            if dtype.itemsize == 4:
                computed = F4
            elif dtype.itemsize != 8:
                return self._outside(value, operands, op.name, place)
        else:
            levels = 0
            common = np.result_type(*values)
            if common.kind == "f" and common.itemsize in (4, 8):
                computed = F8 if common.itemsize == 8 else F4
            elif common.kind in "iub" and common != np.uint64:
                computed = I8
            else:
                return self._outside(value, operands, op.name, place)
            wraps = kind in "iu" and dtype != np.int64 and op.name not in _NEVER_WRAPS
            if wraps or (computed == I8 and op.integer is None) or number_class(dtype) is None:
                return self._outside(value, operands, op.name, place)
        weak = weak and kind == "f"  # a comparison's result is NumPy's, whatever was compared
        if weak:
            value = float(value)
        elif isinstance(value, np.ndarray):
            if value.ndim == 0:
                value = value[()]
            elif not value.flags.c_contiguous:
                value = np.ascontiguousarray(value)
        number = computed if kind == "f" else B1 if kind == "b" else I8
        result = self.made(value, number, levels, weak)
        self.keep_operands(operands)
        parameters = None if computed == number else {"computed": computed}
        self.append(op, tuple([self.operand(o) for o in operands]), (result.buffer,), parameters, place)
        return result

    def cast(self, x: Tensor, dtype: np.dtype[Any], copy: bool = True) -> Tensor:
        """Record a conversion to another dtype."""
        if not copy and dtype == x.dtype:
            return x
        value = np.asarray(x._value).astype(dtype, order="C")
        number = number_class(dtype)
        if number is None:
            return self._outside(value, (x,), f"astype({dtype})", user_place())  # type: ignore[no-any-return]
        source = self.storages[self.storage_of[x.buffer]].number
        narrow = dtype.kind in "iu" and dtype != np.int64 and source != B1
        if narrow and not np.can_cast(x.dtype, dtype, "safe"):
            return self._outside(value, (x,), f"astype({dtype})", user_place())  # type: ignore[no-any-return]
        levels = x.storage.levels if dtype.kind == "f" else 0
        computed = I8 if source in (I8, B1) and number in (I8, B1) else F4 if source == F4 and number != F8 else F8
        result = self.made(value if value.ndim else value[()], number, levels)
        parameters = None if computed == number else {"computed": computed}
        self.keep(x)
        self.append(COPY, (x.buffer,), (result.buffer,), parameters, user_place())
        return result

    def sum(self, x: Tensor, axes: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Record a sum over axes, which stay with one element."""
        place = user_place()
        if x.dtype.kind in "iub" and x.dtype not in (np.dtype(np.int64), np.dtype(bool)) and dtype is None:
            x = self.cast(x, np.add.reduce(np.empty(1, x.dtype)).dtype)
        value = np.add.reduce(np.asarray(x._value), axis=axes, keepdims=True, dtype=dtype)
        number = number_class(value.dtype)
        if number is None:
            return self._outside(value, (x,), "sum", place)  # type: ignore[no-any-return]
        result = self.made(
            value if value.ndim else value[()], number, x.storage.levels if value.dtype.kind == "f" else 0
        )
        self.keep(x)
        self.append(OPS["sum"], (x.buffer,), (result.buffer,), None, place)
        return result

    def write(self, target: Tensor, value: Any) -> None:
        """Copy a value into a part of memory that `empty` has made; broadcast like an assignment."""
        value = self.lift(value)
        if type(value) is not Tensor:
            value = np.asarray(value, target.dtype)
            value = value if value.ndim else value[()]
        elif value.dtype != target.dtype:
            value = self.cast(value, target.dtype)
        operand = self.operand(value)
        levels = value.storage.levels if type(value) is Tensor else 0
        if type(value) is Tensor:
            self.keep(value)
            value = value._value
        target._value[...] = value
        self.keep(target)
        if target.dtype.kind == "f":
            target.storage.levels |= levels
        self.append(COPY, (operand,), (target.buffer,), None, user_place())

    def row(self, numbers: Sequence[Any], dtype: np.dtype[Any]) -> Tensor:
        """Join numbers to a vector: new memory, and each written to its place."""
        z = self.empty((len(numbers),), dtype)
        storage, values, floating = self.storage_of[z.buffer], z._value, dtype.kind == "f"
        place = user_place()
        for k, number in enumerate(numbers):
            if type(number) is not Tensor:
                number = self._constant_tensor(np.asarray(number, dtype)[()])
            elif number.dtype is not dtype and number.dtype != dtype:
                number = self.cast(number, dtype)
            values[k] = number._value
            if floating:
                z.storage.levels |= number.storage.levels
            target = self.new_buffer(storage, dtype, (), (), k)
            if self.kept is not None:
                self.kept[number.buffer], self.kept[target] = number._value, values[k, ...]
            self.append(COPY, (number.buffer,), (target,), None, place)
        return z

    # ---- structural ops ----------------------------------------------------------------------------------------------

    def structural(self, name: str, *operands: Any, **parameters: Any) -> Any:
        """Record a structural op by name; give its result, or results."""
        op = OPS[name]
        if isinstance(op, Elementwise):
            return self.elementwise(op, operands)
        if not isinstance(op, Structural):
            raise TapeadTypeError(f"{name} is no op")
        return self.structural_op(op, operands, parameters)

    def structural_op(self, op: Structural, operands: Sequence[Any], parameters: dict[str, Any]) -> Any:
        """Record a structural op; give its result, or results."""
        name = op.name
        if not self.live:
            self._reject_dead()
        place = user_place()
        lifted = [self.lift(operand) for operand in operands]
        tensors = [o if type(o) is Tensor else self._constant_tensor(o) for o in lifted]
        if op.contiguous:
            tensors = [self.contiguous(t) for t in tensors]
        elif name == "matmul":
            tensors = [t if blas_ready(self.buffers[t.buffer]) else self.contiguous(t, True) for t in tensors]
        else:
            tensors[1:] = [self.contiguous(t) for t in tensors[1:]]
        try:
            value = op.numpy(*(t._value for t in tensors), **parameters)
        except (ValueError, TypeError, IndexError, np.linalg.LinAlgError) as error:
            raise self.explained(error, name, [t._value for t in tensors], place) from error
        levels = 0
        for k in op.active:
            levels |= tensors[k].storage.levels
        values = value if isinstance(value, tuple) else (value,) if value is not None else ()
        results = []
        for part in values:
            number = number_class(part.dtype)
            if number is None:
                return self._outside(value, lifted, name, place)
            part = np.ascontiguousarray(part) if np.ndim(part) else part[()]
            results.append(self.made(part, number, levels if part.dtype.kind == "f" else 0))
        buffers = tuple(t.buffer for t in tensors)
        self.keep_operands(tensors)
        self.append(op, buffers, tuple(r.buffer for r in results), parameters or None, place)
        return tuple(results) if isinstance(value, tuple) else results[0] if results else None

    def _constant_tensor(self, value: Any) -> Tensor:
        buffer = self.constant(value)
        array = np.asarray(value)
        array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        return Tensor(self, buffer, array, self.storages[self.storage_of[buffer]])

    def tensor(self, value: Any) -> Tensor:
        """Give a tensor of anything that can be an operand; what is no tensor is copied in as a constant."""
        lifted = self.lift(value)
        return lifted if type(lifted) is Tensor else self._constant_tensor(lifted)

    def contiguous(self, x: Tensor, always: bool = False) -> Tensor:
        """Give x in row-major order without gaps: itself, or a copy."""
        b = self.buffers[x.buffer]
        if not always and (b.strides == row_major(b.shape) or x.size <= 1):
            return x
        return self.elementwise(COPY, (x,))  # type: ignore[no-any-return]

    # ---- views -------------------------------------------------------------------------------------------------------

    def view(self, x: Tensor, of: Callable[[Any], Any]) -> Tensor:
        """Give the view of x that a function of arrays gives; copy first where it cannot be one."""
        if not self.live or x.tape is not self:
            self.reject(x)
        if x.storage.kind is VALUE and not isinstance(x._value, np.ndarray):
            x = self.elementwise(COPY, (x,))  # a number is a copy of its own: views of it must not reach its source
        base = np.asarray(x._value)
        try:
            value = of(base)
        except (ValueError, IndexError, TypeError) as error:
            raise self.explained(error, "a view", [base], user_place()) from error
        if value.size and not np.may_share_memory(value, base):
            x = self.elementwise(COPY, (x,))
            base = np.asarray(x._value)
            value = of(base)
        return self.viewed(x, base, value)

    def viewed(self, x: Tensor, base: Any, value: Any) -> Tensor:
        """Wrap an array that is a view of base, which is x's value as an array."""
        b = self.buffers[x.buffer]
        item = base.itemsize
        if not value.size or x._value is not base:  # a number's copy shares no memory with it, but is the same place
            offset = b.offset
        else:
            offset = b.offset + (_address(value) - _address(base)) // item
        strides = tuple(s // item for s in value.strides)
        if value.size and x._value is not base:
            strides = (0,) * value.ndim
        buffer = self.new_buffer(self.storage_of[x.buffer], b.dtype, value.shape, strides, offset)
        return Tensor(self, buffer, value, x.storage)

    # ---- indexing and assignment -------------------------------------------------------------------------------------

    def get(self, x: Tensor, index: Any) -> Tensor:
        """Index a tensor: a view for slices, a gather for integer arrays and masks, a number for integers."""
        return indexing.get(self, x, index)

    def set(self, y: Tensor, index: Any, value: Any) -> None:
        """Assign into a tensor, in place, as NumPy does."""
        indexing.assign(self, y, index, value)

    def update(self, y: Tensor, op: Any, other: Any) -> Any:
        """Do y op= other: in place for arrays, as NumPy does; numbers are replaced."""
        return indexing.update(self, y, op, other)

    def overwrite(self, target: Tensor, value: Tensor) -> None:
        """Write into a tensor in place."""
        indexing.overwrite(self, target, value, user_place())

    def scatter_into(self, front: Tensor, indices: Sequence[Tensor], axes: tuple[int, ...], rows: Tensor) -> None:
        """Write rows in place where integer arrays say."""
        indexing.scatter_into(self, front, rows, tuple(self.contiguous(i) for i in indices), axes, user_place())

    # ---- guards ------------------------------------------------------------------------------------------------------

    def decide(self, x: Tensor) -> bool:
        """Turn a value into a truth value, and guard it: a replay checks that it is still the same."""
        if x.tape is not self or not self.live:
            if not x.tape.live and not x.tape.replays:
                return bool(x._value)
            self.reject(x)
        try:
            decision = bool(x._value)
        except ValueError as error:
            raise self.explained(error, "bool()", [x._value], user_place()) from error
        if len(self.guards) < len(self.forced):
            decision = bool(self.forced[len(self.guards)])
        if x.dtype.kind != "b":
            x = self.elementwise(OPS["not_equal"], (x, 0))
        self._guard(x, decision)
        return decision

    def _guard(self, x: Tensor, value: Any) -> None:
        expected = bits(value)
        self.append(OPS["guard"], (x.buffer,), (), {"expected": expected, "place": len(self.guards)}, user_place())
        self.guards.append(expected)

    def where_true(self, mask: Tensor) -> tuple[Tensor, ...]:
        """Give the indices where a mask holds; their number is guarded."""
        mask = self.contiguous(mask if mask.dtype.kind == "b" else self.elementwise(OPS["not_equal"], (mask, 0)))
        if mask.storage.kind is CONSTANT:
            return tuple(self._constant_tensor(i) for i in np.nonzero(mask._value))
        count = int(np.count_nonzero(mask._value))
        result = self.structural("nonzero", mask, expected=count, place=len(self.guards))
        self.guards.append(count)
        return result  # type: ignore[no-any-return]

    def leave(self, x: Tensor, how: str) -> Any:
        """Let a value leave the tape: guarded if it is one number, else the function is traced at every call."""
        if not self.live:
            if self.replays:
                self.reject(x)
            return x._value
        if not self.replays:
            return x._value
        place = user_place()
        if x.storage.levels:
            raise EscapedError(
                f"{how} of a traced value at {describe(place)}: a derivative could flow through it, and would be lost. "
                "Use NumPy functions on it (np.exp, not math.exp); fill arrays made by tapead.numpy.zeros, not "
                "numpy.zeros; or wrap it in tapead.stop_gradient(...) where the number is meant without its derivative"
            )
        if x.size == 1:
            number = np.asarray(x._value).reshape(-1)[0]
            if len(self.guards) < len(self.forced):
                number = unbits(self.forced[len(self.guards)], number.dtype)
            if x.storage.kind is not CONSTANT:
                self._guard(x, number)
            return number
        self.volatile.append((how, place))
        return x._value

    def _outside(self, value: Any, operands: Sequence[Any], what: str, place: Place) -> Any:
        """Take a result that the tape cannot compute as a constant of this trace: right, but traced at every call."""
        active = [o for o in operands if type(o) is Tensor and o.storage.levels]
        if active:
            kinds = ", ".join(str(t.dtype) for t in active)
            found = getattr(value, "dtype", type(value).__name__)
            raise TapeadNotImplementedError(
                f"{what} of {kinds} gives {found} at {describe(place)}: a derivative cannot be carried through that dtype. "
                "Use float64 or float32"
            )
        if self.replays:
            self.volatile.append((what, place))
        return value

    # ---- NumPy's protocols -------------------------------------------------------------------------------------------

    def ufunc(self, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Record what NumPy hands over for a ufunc."""
        return protocols.call_ufunc(self, ufunc, method, inputs, options)

    def foreign(self, function: Any, arguments: Any, options: Any) -> Any:
        """Call a function that has no rule: only where no derivative could flow, and then at every call."""
        return protocols.call_foreign(self, function, arguments, options)

    # ---- errors ------------------------------------------------------------------------------------------------------

    def _reject_dead(self) -> None:
        raise TapeadTypeError(
            f"a traced value was used after its trace had ended (kept in a global, a cache or an attribute?), at "
            f"{describe(user_place())}. Return it from the function instead (has_aux=True)"
        )

    def explained(self, error: Exception, what: str, values: Sequence[Any], place: Place) -> Exception:
        """Add operands' shapes and the user's line to an error of NumPy's."""
        shapes = " and ".join(str(np.shape(v)) for v in values)
        message = f"{what}: {error} (shapes {shapes}), at {describe(place)}"
        if isinstance(error, np.linalg.LinAlgError):
            return TapeadLinAlgError(message)
        if isinstance(error, np.exceptions.AxisError):
            return TapeadAxisError(message)
        if isinstance(error, IndexError):
            return TapeadIndexError(message)
        return TapeadTypeError(message) if isinstance(error, TypeError) else TapeadValueError(message)


_NEVER_WRAPS = {
    "copy",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "where",
    "clip",
    "floor_divide",
    "remainder",
    "sign",
}


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def stop_gradient(x: Any) -> Any:
    """Give x as it is, but let no derivative flow through it.

    Tensors give a new tensor; anything else is returned unchanged.

    >>> import numpy as np, tapead
    >>> float(tapead.grad(lambda x: x * tapead.stop_gradient(x))(3.0))
    3.0
    """
    import optree

    def stop(leaf: Any) -> Any:
        return leaf.tape.elementwise(OPS["stop"], (leaf,), weak=True) if type(leaf) is Tensor else leaf

    return optree.tree_map(stop, x, namespace="tapead")
