"""The traced value: an array (or number) that records what is done with it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import TapeadTypeError
from .kernels.table import OPS, ROWS, Elementwise
from .tape import FLOAT, Storage, describe, user_place

if TYPE_CHECKING:
    from .record import Recording

#: NumPy function -> how it is written in ops; filled by the modules that implement functions
FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}

#: (ufunc name, method) -> what it does with tensors: add.reduce sums; filled likewise
UFUNC_METHODS: dict[tuple[str, str], Callable[..., Any]] = {}

#: ufuncs that are one row, whatever the operands
_DIRECT: dict[Any, Elementwise] = {
    op.numpy: op for op in ROWS if isinstance(op.numpy, np.ufunc) and op.numpy.__name__ == op.name
}


class Tensor:
    """A value on a tape: looks like the NumPy array (or scalar) that it stands for, and records what is done with it.

    Made by `Tape.variable` and by tracing; not by hand. `value` is the NumPy value, `grad` (after
    `Tape.backward`) the gradient of a variable.
    """

    __slots__ = ("__weakref__", "_value", "buffer", "grad", "storage", "tape", "weak")
    __array_priority__ = 1000
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __init__(self, tape: Recording, buffer: int, value: Any, storage: Storage, weak: bool = False) -> None:
        self.tape, self.buffer, self._value, self.storage, self.weak = tape, buffer, value, storage, weak
        self.grad: Any = None

    # ---- what it looks like --------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return getattr(self._value, "shape", ())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype."""
        return FLOAT if self.weak else self._value.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """The bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return self.size * self.itemsize

    @property
    def T(self) -> Tensor:
        """The transpose, a view."""
        return self.tape.view(self, np.transpose)

    @property
    def mT(self) -> Tensor:
        """The matrices transposed, a view."""
        return self.tape.view(self, lambda x: np.swapaxes(x, -1, -2))

    @property
    def real(self) -> Tensor:
        """The real part: itself."""
        return self

    @property
    def flat(self) -> Iterator[Tensor]:
        """The elements, one by one."""
        return iter(self.ravel())

    @property
    def active(self) -> bool:
        """Whether a derivative could flow through the value."""
        return self.storage.levels != 0

    @property
    def value(self) -> Any:
        """The NumPy value (a copy); while a function is traced only if no derivative could flow through it."""
        if self.tape.replays and self.tape.live:
            self.tape.leave(self, "its value")
        return self._value.copy() if isinstance(self._value, np.ndarray) else self._value

    def __repr__(self) -> str:
        return f"Tensor({self._value!r})"

    def __str__(self) -> str:
        return str(self._value)

    def __format__(self, specification: str) -> str:
        return format(self._value, specification)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TapeadTypeError("len() of unsized object: a traced number has no length")
        return len(self._value)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TapeadTypeError("iteration over a 0-d array: a traced number has no elements")
        return (self[i] for i in range(len(self._value)))

    # ---- leaving the tape ------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return self.tape.decide(self)

    def _number(self, how: str) -> Any:
        if self.size != 1:
            raise TapeadTypeError(f"only arrays of one element become Python numbers; this one has shape {self.shape}")
        return self.tape.leave(self, how)

    def __float__(self) -> float:
        return float(self._number("float()"))

    def __int__(self) -> int:
        return int(self._number("int()"))

    def __complex__(self) -> complex:
        return complex(self._number("complex()"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.ndim:
            raise TapeadTypeError(
                f"an array of dtype {self.dtype} and shape {self.shape} cannot be used as an integer, at "
                f"{describe(user_place())}: only integer numbers can (round it with int(tapead.stop_gradient(...)))"
            )
        return operator.index(self._number("index"))

    def __round__(self, digits: int = 0) -> Any:
        return np.round(self, digits)

    def item(self, *index: Any) -> Any:
        """Give an element as a Python number; a TypeError if a derivative could flow through it."""
        chosen = self[index] if index else self
        return chosen._number(".item()").item()

    def tolist(self) -> Any:
        """Give nested lists of Python numbers; a TypeError if a derivative could flow through them."""
        return np.asarray(self.tape.leave(self, ".tolist()")).tolist()

    def __getattr__(self, name: str) -> Any:
        # NumPy asks for __array__ where a plain array is indexed by a tensor: integers and truth values may leave
        if name == "__array__" and self._value is not None and self.dtype.kind in "iub" and not self.storage.levels:
            return self._as_array
        raise AttributeError(f"a traced value has no attribute {name!r}")

    def _as_array(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self.tape.leave(self, "an array of it"), dtype)  # a copy: writing to it must not reach the tape

    # ---- indexing ----------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        return self.tape.get(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tape.set(self, index, value)

    # ---- NumPy's protocols -------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and not options:
            op = _DIRECT.get(ufunc)
            if op is not None:
                return self.tape.elementwise(op, inputs)
        return self.tape.ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        implementation = FUNCTIONS.get(function)
        if implementation is not None:
            return implementation(*arguments, **options)
        return self.tape.foreign(function, arguments, options)

    # ---- methods of ndarray that change or copy ------------------------------------------------------------------------

    def copy(self, order: str = "C") -> Tensor:
        """Copy."""
        return self.tape.elementwise(OPS["copy"], (self,))  # type: ignore[no-any-return]

    def __copy__(self) -> Tensor:
        return self.copy()

    def __deepcopy__(self, memory: Any) -> Tensor:
        return self.copy()

    def __reduce__(self) -> Any:
        raise TapeadTypeError("a traced value belongs to its tape and cannot be pickled")

    def astype(self, dtype: Any, copy: bool = True, **options: Any) -> Tensor:
        """Convert to another dtype."""
        return self.tape.cast(self, np.dtype(dtype), copy)

    def fill(self, value: Any) -> None:
        """Set every element to one value."""
        self[...] = value

    def sort(self, axis: int = -1) -> None:
        """Sort in place."""
        self[...] = np.sort(self, axis=axis)

    def transpose(self, *axes: Any) -> Tensor:
        """Permute the axes, a view."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return self.tape.view(self, lambda x: np.transpose(x, order))

    def reshape(self, *shape: Any, order: Any = "C") -> Tensor:
        """Give another shape to the same elements."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)  # type: ignore[return-value]

    def ravel(self) -> Tensor:
        """Flatten, a view where possible."""
        return self.reshape(-1)

    def flatten(self) -> Tensor:
        """Flatten, a copy."""
        return self.reshape(-1).copy()

    def dot(self, other: Any) -> Any:
        """Multiply as np.dot does."""
        return np.dot(self, other)

    def conj(self) -> Tensor:
        """Conjugate: itself, a copy."""
        return self.copy()

    conjugate = conj


def _operator(name: str, op_name: str, reflected: bool) -> Callable[[Tensor, Any], Any]:
    op: Any = OPS[op_name]

    direct = op_name != "power"  # which by some numbers is another op

    def method(self: Tensor, other: Any) -> Any:
        kind = type(other)
        if direct and (kind is Tensor or kind is float or kind is int):
            return self.tape.pair(op, other, self) if reflected else self.tape.pair(op, self, other)
        return self.tape.operator(op, (other, self) if reflected else (self, other))

    method.__name__ = name
    return method


def _in_place(name: str, op_name: str) -> Callable[[Tensor, Any], Any]:
    op = OPS[op_name]

    def method(self: Tensor, other: Any) -> Any:
        return self.tape.update(self, op, other)

    method.__name__ = name
    return method


for _symbol, _op in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
}.items():
    setattr(Tensor, f"__{_symbol}__", _operator(f"__{_symbol}__", _op, False))
    setattr(Tensor, f"__r{_symbol}__", _operator(f"__r{_symbol}__", _op, True))
    setattr(Tensor, f"__i{_symbol}__", _in_place(f"__i{_symbol}__", _op))
for _symbol, _op in {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}.items():
    setattr(Tensor, f"__{_symbol}__", _operator(f"__{_symbol}__", _op, False))
for _symbol, _ufunc in {
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "divmod": np.divmod,
}.items():
    setattr(Tensor, f"__{_symbol}__", lambda self, other, of=_ufunc: of(self, other))
    setattr(Tensor, f"__r{_symbol}__", lambda self, other, of=_ufunc: of(other, self))
for _symbol, _op in {"neg": "negative", "abs": "absolute"}.items():
    setattr(Tensor, f"__{_symbol}__", lambda self, op=OPS[_op]: self.tape.operator(op, (self,)))
setattr(Tensor, "__pos__", lambda self: self.tape.elementwise(OPS["copy"], (self,), weak=True))  # noqa: B010
setattr(Tensor, "__invert__", lambda self: np.invert(self))  # noqa: B010

# NumPy calls x.exp() for np.exp of an object array: every elementwise op is a method
for _row in ROWS:
    if not hasattr(Tensor, _row.name):
        setattr(Tensor, _row.name, lambda *operands, op=_row: operands[0].tape.elementwise(op, operands))


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments, **options: function(self, *arguments, **options)


for _function in (
    *(np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.any, np.all, np.argmax, np.argmin, np.argsort),
    *(np.cumsum, np.trace, np.take, np.clip, np.round, np.squeeze, np.swapaxes, np.diagonal, np.repeat, np.nonzero),
):
    setattr(Tensor, _function.__name__, _method(_function))
