"""Functions that set elements of an array in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import as_tensor, axes_of, here, implements, record, recording_of
from .errors import TapeadNotImplementedError, TapeadTypeError
from .selection import grid_along
from .tensor import UFUNC_METHODS, Tensor


def _traced(array: Any, what: str) -> Any:
    """Give the array, if it is a traced one: no other can hold traced values."""
    if type(array) is not Tensor:
        fix = "make it with tapead.numpy.zeros"
        raise TapeadTypeError(f"{what}: a traced value cannot be written into a plain array ({fix}), at {here()}")
    return array


@implements(np.copyto)
def copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    """Assign the values of one array to another, broadcast."""
    target = _traced(dst, "np.copyto")
    target[...] = src if where is True else np.where(where, src, target)


@implements(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    """Set, in each row along an axis, the elements that the same row of indices names."""
    x = _traced(arr, "np.put_along_axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    (place,) = axes_of(axis, x.ndim)
    x[grid_along(x.shape, place, indices)] = values


@implements(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    """Set the main diagonal."""
    x = _traced(a, "np.fill_diagonal")
    if wrap:
        raise TapeadNotImplementedError(f"np.fill_diagonal with wrap=True has no rule, at {here()}")
    x[(np.arange(min(x.shape)),) * x.ndim] = val


def add_at(a: Any, indices: Any, b: Any) -> None:
    """Add to the elements that integer arrays name, as often as they are named."""
    x = _traced(a, "np.add.at")
    tape = recording_of(a, indices, b)
    parts = [as_tensor(i, tape) for i in (indices if isinstance(indices, tuple) else (indices,))]
    if any(p.dtype.kind not in "iu" for p in parts):
        raise TapeadNotImplementedError(f"np.add.at takes integer arrays as indices, at {here()}")
    parts = [p.astype(np.int64, copy=False) for p in np.broadcast_arrays(*parts)] if len(parts) > 1 else parts
    rest = x.shape[len(parts) :]
    rows = np.broadcast_to(as_tensor(b, tape).astype(x.dtype, copy=False), parts[0].shape + rest)
    flat = [p.astype(np.int64, copy=False).reshape(-1) for p in parts]
    rows = rows.reshape((flat[0].size, *rest))
    x[...] = x + record("spread", rows, *flat, shape=x.shape, axes=tuple(range(len(parts))))


UFUNC_METHODS["add", "at"] = add_at
