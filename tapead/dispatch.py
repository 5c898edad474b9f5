"""NumPy function -> ops: how functions that are no single elementwise op are written in ops.

An implementation is an ordinary function with NumPy's own parameters, marked `@implements(np.mean)`. It is
called with tensors, arrays, numbers, and lists of them, at least one of which is or holds a tensor. They are
in `shaping`, `joining`, `pointwise`, `selection`, `placement`, `reductions`, `statistics`, `products`,
`contraction` and `linear`. Tensors are typed `Any` there: the stubs of NumPy's functions know arrays only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from .errors import TapeadAxisError, TapeadNotImplementedError, TapeadValueError
from .kernels.table import OPS
from .protocols import FUNCTIONS_BY_UFUNC
from .record import Recording, current, find_tensor
from .tape import describe, user_place
from .tensor import FUNCTIONS, Tensor

F = TypeVar("F", bound=Callable[..., Any])


def implements(*functions: Any) -> Callable[[F], F]:
    """Mark a function as what NumPy functions (or ufuncs that are no rows) do with tensors."""

    def mark(implementation: F) -> F:
        for function in functions:
            FUNCTIONS[function] = implementation
            if isinstance(function, np.ufunc):
                FUNCTIONS_BY_UFUNC[function.__name__] = implementation
        return implementation

    return mark


def here() -> str:
    """Say where in the user's code the present call was made."""
    return describe(user_place())


def refuse(name: str, **options: Any) -> None:
    """Raise for options of a NumPy function that have no rule, if they are set."""
    for option, value in options.items():
        if value is not None and value is not np._NoValue and not (option == "where" and value is True):
            raise TapeadNotImplementedError(f"np.{name} with {option}= has no rule, at {here()}")


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """Give the axes that a NumPy axis argument names, counted from 0; all of them for None."""
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and 0 <= axis < ndim:
        return (axis,)
    if ndim == 0 and axis in (0, -1):  # NumPy reduces numbers along these, too
        return ()
    try:
        return normalize_axis_tuple(axis, ndim)
    except np.exceptions.AxisError as error:
        raise TapeadAxisError(f"{error}, at {here()}") from error
    except ValueError as error:
        raise TapeadValueError(f"{error}, at {here()}") from error


def recording_of(*values: Any) -> Recording:
    """Give the recording that values belong to; the live one where none is a tensor."""
    tensor = find_tensor(values)
    return tensor.tape if tensor is not None else current("this function")


def as_tensor(value: Any, recording: Recording | None = None) -> Any:
    """Make a tensor of a tensor, number, array, or list or object array that holds tensors."""
    return (recording or recording_of(value)).tensor(value)


def record(name: str, *operands: Any, **parameters: Any) -> Any:
    """Record an op by name on the tape of its operands; give its result, or a tuple of them.

    Where no operand is (or holds) a tensor it is NumPy that computes.
    """
    tensor = find_tensor(operands)
    if tensor is None:
        return OPS[name].numpy(*operands, **parameters)
    return tensor.tape.structural(name, *operands, **parameters)


def view(x: Tensor, of: Callable[[Any], Any]) -> Any:
    """Give the view of x that a function of arrays gives; copy first where it cannot be one."""
    return x.tape.view(x, of)


def empty(shape: tuple[int, ...], dtype: Any, recording: Recording) -> Any:
    """Give new memory, every part of which must be written next, with `write`, to a view of it."""
    return recording.empty(shape, dtype)


def write(target: Tensor, value: Any) -> None:
    """Copy a value into (a view of) new memory that `empty` gave."""
    target.tape.write(target, value)
