"""Shape and layout: views of tensors, triangles and diagonals, and new arrays like others."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .dispatch import as_tensor, axes_of, empty, here, implements, record, recording_of, refuse, view, write
from .errors import TapeadValueError
from .record import Recording
from .tape import number_class
from .tensor import Tensor


def along(axis: int, part: Any, ndim: int) -> tuple[Any, ...]:
    """Give the index that takes a part of one axis (counted from 0) and all of the others."""
    return (slice(None),) * axis + (part,) + (slice(None),) * (ndim - axis - 1)


def fresh(y: Tensor, x: Tensor) -> Any:
    """Give y in memory of its own: copy it if it is a view of x."""
    return y.copy() if y.storage is x.storage else y


def permuted(x: Any, order: Any) -> Any:
    """Give a view with the axes in another order; x itself if they are in that order."""
    return x if list(order) == list(range(x.ndim)) else view(x, lambda v: np.transpose(v, order))


# ---- views ------------------------------------------------------------------------------------------------


def _views(function: Callable[..., Any]) -> None:
    """Let a NumPy function that gives a view of its first argument give one of a tensor."""

    @implements(function)
    def of(*arguments: Any, **options: Any) -> Any:
        if arguments:
            first, *rest = arguments
        else:
            first, rest = options.pop(next(iter(inspect.signature(function).parameters))), []
        return view(as_tensor(first), lambda v: function(v, *rest, **options))


for _function in (
    np.transpose,
    np.matrix_transpose,
    np.swapaxes,
    np.moveaxis,
    np.rollaxis,
    np.expand_dims,
    np.squeeze,
    np.flip,
    np.fliplr,
    np.flipud,
    np.rot90,
    np.broadcast_to,
    np.diagonal,
    np.linalg.matrix_transpose,
    np.linalg.diagonal,
):
    _views(_function)


@implements(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: bool | None = None) -> Any:
    """Give another shape to the same elements, a view where one can be."""
    x = as_tensor(a)
    shape = newshape if shape is None else shape
    shape = tuple(shape) if np.iterable(shape) else (shape,)
    if order == "F":
        y = view(view(x, np.transpose), lambda v: v.reshape(shape[::-1]))
        y = view(y, np.transpose)
    elif order == "C":
        y = x if shape == x.shape and shape else view(x, lambda v: v.reshape(shape))
    else:
        raise TapeadValueError(f'np.reshape of traced values takes order "C" or "F", not {order!r}, at {here()}')
    if copy is False and y.storage is not x.storage:
        raise TapeadValueError(f"a copy is needed to reshape {x.shape} to {shape}, at {here()}")
    return fresh(y, x) if copy else y


@implements(np.ravel)
def ravel(a: Any, order: str = "C") -> Any:
    """Flatten, a view where one can be."""
    return reshape(a, -1, order)


def _at_least(ndim: int, of: Callable[[Any], Any]) -> Callable[..., Any]:
    def promote(*arys: Any) -> Any:
        made = tuple(view(as_tensor(a), of) if type(a) is Tensor else of(a) for a in arys)
        return made[0] if len(made) == 1 else made

    promote.__doc__ = f"Give views with at least {ndim} axes."
    return promote


implements(np.atleast_1d)(_at_least(1, np.atleast_1d))
implements(np.atleast_2d)(_at_least(2, np.atleast_2d))
implements(np.atleast_3d)(_at_least(3, np.atleast_3d))


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Any, ...]:
    """Broadcast arrays to their common shape, as views."""
    tape = recording_of(*args)
    parts = [as_tensor(a, tape) for a in args]
    shape = np.broadcast_shapes(*(p.shape for p in parts))
    return tuple(view(p, lambda v: np.broadcast_to(v, shape)) for p in parts)


@implements(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Any, ...]:
    """Give coordinate arrays of a grid from the coordinates along its axes."""
    if indexing not in ("xy", "ij"):
        raise TapeadValueError('Valid values for `indexing` are "xy" and "ij".')
    tape = recording_of(*xi)
    ndim = len(xi)
    swap = {0: 1, 1: 0} if indexing == "xy" and ndim > 1 else {}
    parts = [as_tensor(x, tape) for x in xi]
    made = tuple(reshape(p, _stood_up(swap.get(k, k), ndim)) for k, p in enumerate(parts))
    if not sparse:
        made = broadcast_arrays(*made)
    return tuple(m.copy() for m in made) if copy else made


def _stood_up(axis: int, ndim: int) -> tuple[int, ...]:
    return (1,) * axis + (-1,) + (1,) * (ndim - axis - 1)


# ---- splitting --------------------------------------------------------------------------------------------


def _splits(function: Callable[..., Any], of: Callable[..., Any], axis_for: Callable[[int], int] | None) -> None:
    @implements(function)
    def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
        x = as_tensor(ary)
        (place,) = axes_of(axis if axis_for is None else axis_for(x.ndim), x.ndim)
        try:
            pieces = of(np.arange(x.shape[place]), indices_or_sections)
        except ValueError as error:
            raise TapeadValueError(f"{error}, at {here()}") from error
        return [x[along(place, slice(p[0], p[-1] + 1) if len(p) else slice(0, 0), x.ndim)] for p in pieces]


_splits(np.split, np.split, None)
_splits(np.array_split, np.array_split, None)
_splits(np.vsplit, np.split, lambda ndim: 0)
_splits(np.hsplit, np.split, lambda ndim: min(ndim - 1, 1))
_splits(np.dsplit, np.split, lambda ndim: 2)


@implements(*([np.unstack] if hasattr(np, "unstack") else []))  # NumPy 2.1
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Take an array apart along an axis."""
    return tuple(view(as_tensor(x), lambda v: np.moveaxis(v, axis, 0)))


# ---- triangles and diagonals ------------------------------------------------------------------------------


def _kept(mask: Any, x: Any) -> Any:
    return record("where", mask, x, np.zeros((), x.dtype))


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    """Keep what is on and below a diagonal."""
    return _kept(np.tri(m.shape[-2], m.shape[-1], k, bool), m)


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    """Keep what is on and above a diagonal."""
    return _kept(~np.tri(m.shape[-2], m.shape[-1], k - 1, bool), m)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    """Take a diagonal of a matrix, a view, or make a matrix of its diagonal."""
    x = as_tensor(v)
    if x.ndim == 2:
        return view(x, lambda m: np.diagonal(m, k))
    if x.ndim != 1:
        raise TapeadValueError(f"Input must be 1- or 2-d, at {here()}")
    size = x.size + abs(k)
    row: Any = np.pad(x, (max(k, 0), max(-k, 0))) if k else x
    return _kept(np.eye(size, k=k, dtype=bool), row)


@implements(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    """Make a matrix of the flattened input as its diagonal."""
    return diag(reshape(as_tensor(v), -1), k)


# ---- new arrays -------------------------------------------------------------------------------------------


def filled(shape: Any, value: Any, dtype: Any, tape: Recording) -> Any:
    """Give a new tensor full of a value; an ordinary array where its dtype cannot be traced."""
    shape = tuple(shape) if np.iterable(shape) else (shape,)
    if number_class(np.dtype(dtype)) is None:
        return np.full(shape, value, dtype)
    z = empty(shape, dtype, tape)
    if math.prod(shape):
        write(z, value)
    return z


def _like(function: Callable[..., Any], constant: Any) -> None:
    @implements(function)
    def like(a: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, **options: Any) -> Any:
        refuse(function.__name__, **{k: v for k, v in options.items() if k != "device"})
        return full_like(a, constant, dtype, shape=shape)


@implements(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    """Give a new array like another, full of one value."""
    kind = dtype or (a.dtype if hasattr(a, "dtype") else np.result_type(a))
    return filled(np.shape(a) if shape is None else shape, fill_value, kind, recording_of(a, fill_value))


_like(np.zeros_like, 0)
_like(np.ones_like, 1)
_like(np.empty_like, 0)


@implements(np.copy)
def copy(a: Any, order: Any = "K", subok: bool = False) -> Any:
    """Copy."""
    x = as_tensor(a)
    return view(x.copy(), lambda v: v.reshape(x.shape)) if x.ndim == 0 else x.copy()


@implements(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    **options: Any,
) -> Any:
    """Give numbers from one to another in even steps."""
    refuse("linspace", dtype=dtype, **options)
    tape = recording_of(start, stop)
    start, stop = tape.lift(start), tape.lift(stop)
    parts = max(num - 1 if endpoint else num, 1)
    step = (stop - start) / parts
    steps = np.arange(num, dtype=step.dtype).reshape((num,) + (1,) * step.ndim)
    y = np.moveaxis(start + steps * step, 0, axis)
    return (y, step) if retstep else y
