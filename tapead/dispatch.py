"""NumPy function -> ops: how functions that are no single elementwise op are written in ops.

An implementation is an ordinary function with NumPy's own parameters, marked `@implements(np.mean)`. It is called
with tensors, arrays, numbers, and lists of them, at least one of which is or holds a tensor. The modules
`shaping`, `reductions`, `products` and `linear` hold them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .record import FUNCTIONS_BY_UFUNC, Recording, current, find_tensor
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


def recording_of(*values: Any) -> Recording:
    """Give the recording that values belong to; the live one where none is a tensor."""
    tensor = find_tensor(values)
    return tensor.tape if tensor is not None else current("this function")


def as_tensor(value: Any, recording: Recording | None = None) -> Tensor:
    """Make a tensor of a tensor, number, array, or list or object array that holds tensors."""
    return (recording or recording_of(value)).tensor(value)


def record(name: str, *operands: Any, **parameters: Any) -> Any:
    """Record an op by name on the tape of its operands; give its result, or a tuple of them."""
    return recording_of(*operands).structural(name, *operands, **parameters)


def view(x: Tensor, of: Callable[[Any], Any]) -> Tensor:
    """Give the view of x that a function of arrays gives; copy first where it cannot be one."""
    return x.tape.view(x, of)


def empty(shape: tuple[int, ...], dtype: Any, recording: Recording) -> Tensor:
    """Give new memory, every part of which must be written next, with `write`, to a view of it."""
    return recording.empty(shape, dtype)


def write(target: Tensor, value: Any) -> None:
    """Copy a value into (a view of) new memory that `empty` gave."""
    target.tape.write(target, value)
