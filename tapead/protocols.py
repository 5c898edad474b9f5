"""NumPy's protocols: what becomes of the ufuncs and functions that NumPy hands over."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import TapeadNotImplementedError, TapeadTypeError, TapeadValueError
from .kernels.table import OPS, Elementwise
from .tape import describe, user_place
from .tensor import FUNCTIONS, UFUNC_METHODS, Tensor

if TYPE_CHECKING:
    from .record import Recording

#: ufunc name -> its row
UFUNCS: dict[str, Elementwise] = {
    getattr(op.numpy, "__name__", name): op for name, op in OPS.items() if isinstance(op, Elementwise)
}
UFUNCS |= {"fabs": OPS["absolute"], "float_power": OPS["power"], "positive": OPS["copy"], "radians": OPS["deg2rad"]}
UFUNCS |= {"degrees": OPS["rad2deg"]}
_LOGIC = {
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "invert": "logical_not",
}

#: ufuncs that are functions, not rows: matmul and the like; filled by dispatch
FUNCTIONS_BY_UFUNC: dict[str, Callable[..., Any]] = {}


def call_ufunc(tape: Recording, ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Record what NumPy hands over for a ufunc."""
    out = options.pop("out", None)
    if out is not None and type(out[0]) is not Tensor and method == "__call__" and not options:
        return _take_over(tape, ufunc, inputs, out[0])
    name = ufunc.__name__
    if method != "__call__":
        function = UFUNC_METHODS.get((name, method))
        if function is not None:
            extra = {} if out is None else {"out": out[0]}
            return function(*inputs, **options, **extra)
        return call_foreign(tape, getattr(ufunc, method), inputs, options)
    result = _call(tape, ufunc, name, inputs, options)
    if out is not None and result is not NotImplemented:
        out[0][...] = result
        return out[0]
    return result


def _call(tape: Recording, ufunc: np.ufunc, name: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    dtype = options.pop("dtype", None)
    options = {k: v for k, v in options.items() if not (k == "where" and v is True)}
    if name in FUNCTIONS_BY_UFUNC:
        made = FUNCTIONS_BY_UFUNC[name](*inputs, **options)
        return made if dtype is None else tape.cast(tape.tensor(made), np.dtype(dtype), False)
    if name in _LOGIC and all(np.result_type(_value_of(tape.lift(i))).kind == "b" for i in inputs):
        name = _LOGIC[name]
    op = UFUNCS.get(name)
    if op is None or options:
        if options:
            raise TapeadNotImplementedError(
                f"np.{name} with {', '.join(options)} has no rule, at {describe(user_place())}"
            )
        return call_foreign(tape, ufunc, inputs, options)
    if name in ("fabs", "float_power"):
        inputs = tuple(_as_float(tape, i) for i in inputs)
    result = tape.elementwise(op, inputs)
    return result if dtype is None else tape.cast(tape.tensor(result), np.dtype(dtype), False)


def _as_float(tape: Recording, value: Any) -> Any:
    value = tape.lift(value)
    if np.result_type(_value_of(value)).kind in "iub":
        return tape.cast(value, np.dtype(float)) if type(value) is Tensor else np.asarray(value, float)
    return value


def _take_over(tape: Recording, ufunc: np.ufunc, inputs: tuple[Any, ...], out: Any) -> Any:
    """Do `array += traced`: the result is a new traced array; the old one must not be used any more."""
    place = user_place()
    if not any(i is out for i in inputs) or ufunc.nin != 2:
        raise TapeadTypeError(
            f"np.{ufunc.__name__}(..., out=array) at {describe(place)}: a traced result cannot be written into a plain "
            "array. Leave out= away and use the result"
        )
    result = _call(tape, ufunc, ufunc.__name__, inputs, {})
    if result.shape != out.shape:
        raise TapeadValueError(
            f"in-place {ufunc.__name__} of shapes {out.shape} and {result.shape} at {describe(place)}"
        )
    if not np.can_cast(result.dtype, out.dtype, "same_kind"):
        raise TapeadTypeError(f"cannot store {result.dtype} in an array of {out.dtype} in place, at {describe(place)}")
    if result.dtype != out.dtype:
        result = tape.cast(result, out.dtype)
    tape.retire(out, place)
    return result


def call_foreign(tape: Recording, function: Any, arguments: Any, options: Any) -> Any:
    """Call a function that has no rule: only where no derivative could flow, and then at every call."""
    place = user_place()
    name = getattr(function, "__name__", str(function))
    if find_active((*arguments, *options.values())):
        close = difflib.get_close_matches(name, sorted({f.__name__ for f in FUNCTIONS} | set(OPS)), n=3, cutoff=0.5)
        nearest = f" Nearest: {', '.join(close)}." if close else ""
        raise TapeadNotImplementedError(
            f"{name} has no rule (called at {describe(place)}), so no derivative can flow through it.{nearest} "
            "Write it in functions that have one, or use stop_gradient on its arguments"
        )
    if tape.replays:
        tape.volatile.append((name, place))
    return function(*plain(arguments), **plain(options))


def _value_of(value: Any) -> Any:
    return value._value if type(value) is Tensor else value


def find_active(values: Any) -> bool:
    """Whether a derivative could flow through one of the values."""
    if type(values) is Tensor:
        return values.storage.levels != 0
    if isinstance(values, list | tuple):
        return any(map(find_active, values))
    if isinstance(values, dict):
        return any(map(find_active, values.values()))
    return isinstance(values, np.ndarray) and values.dtype == object and any(map(find_active, values.ravel()))


def plain(values: Any) -> Any:
    """Replace tensors by their values."""
    if type(values) is Tensor:
        return values._value
    if isinstance(values, list | tuple):
        return type(values)(plain(v) for v in values)
    if isinstance(values, dict):
        return {k: plain(v) for k, v in values.items()}
    return values
