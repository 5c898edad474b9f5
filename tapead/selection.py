"""Elements chosen, ordered and looked up, and what is made of neighbouring elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import as_tensor, axes_of, here, implements, record, recording_of, refuse
from .errors import TapeadValueError
from .record import stop_gradient
from .shaping import along, fresh, permuted, reshape
from .tensor import Tensor

# ---- by place ----------------------------------------------------------------------------------------------


@implements(np.take)
def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    """Take elements along an axis by their indices."""
    refuse("take", out=out)
    x = as_tensor(a, recording_of(a, indices))
    if axis is None:
        x, axis = reshape(x, -1), 0
    (place,) = axes_of(axis, x.ndim)
    n = x.shape[place]
    if mode == "wrap":
        indices = np.remainder(indices, n)
    elif mode == "clip":
        indices = np.clip(indices, 0, n - 1)
    elif mode != "raise":
        raise TapeadValueError(f"np.take has the modes raise, wrap and clip, not {mode!r}, at {here()}")
    return fresh(x[along(place, indices, x.ndim)], x)


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    """Take, in each row along an axis, the elements that the same row of indices names."""
    tape = recording_of(arr, indices)
    x, indices = as_tensor(arr, tape), tape.lift(indices)
    if axis is None:
        x, axis = reshape(x, -1), 0
    (place,) = axes_of(axis, x.ndim)
    if indices.ndim != x.ndim:
        raise TapeadValueError(f"`indices` and `arr` must have the same number of dimensions, at {here()}")
    return x[grid_along(x.shape, place, indices)]


def grid_along(shape: tuple[int, ...], axis: int, indices: Any) -> tuple[Any, ...]:
    """Give the index that names, in each row along an axis, what the same row of indices names."""
    grid: list[Any] = [np.arange(n).reshape((-1,) + (1,) * (len(shape) - k - 1)) for k, n in enumerate(shape)]
    return (*grid[:axis], indices, *grid[axis + 1 :])


@implements(np.nonzero)
def nonzero(a: Any) -> Any:
    """Give the indices of what is not zero, an array an axis; their number is guarded."""
    x = as_tensor(a)
    return x.tape.where_true(x)


@implements(np.flatnonzero)
def flatnonzero(a: Any) -> Any:
    """Give the places of what is not zero in the flattened array; their number is guarded."""
    return nonzero(reshape(as_tensor(a), -1))[0]


@implements(np.argwhere)
def argwhere(a: Any) -> Any:
    """Give the indices of what is not zero, a row an element; their number is guarded."""
    return np.stack(nonzero(a), axis=1)


@implements(np.compress)
def compress(condition: Any, a: Any, axis: int | None = None, out: Any = None) -> Any:
    """Take along an axis what a condition tells."""
    refuse("compress", out=out)
    return take(as_tensor(a, recording_of(condition, a)), np.nonzero(condition)[0], axis)


@implements(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    """Give the elements where a condition holds."""
    return take(as_tensor(arr, recording_of(condition, arr)), np.flatnonzero(condition))


@implements(np.delete)
def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    """Leave out elements along an axis."""
    x = as_tensor(arr)
    if axis is None:
        x, axis = reshape(x, -1), 0
    return take(x, np.delete(np.arange(x.shape[axis]), obj), axis)


# ---- by order ----------------------------------------------------------------------------------------------


def rows(x: Any, axes: tuple[int, ...]) -> Any:
    """Lay an array out as rows: the given axes, together, become the second of two."""
    rest = tuple(a for a in range(x.ndim) if a not in axes)
    count, n = (int(np.prod([x.shape[a] for a in some], dtype=int)) for some in (rest, axes))
    return reshape(permuted(x, (*rest, *axes)), (count, n))


def unrow(y: Any, shape: tuple[int, ...], axis: int) -> Any:
    """Bring rows back to the shape that they came from, with the rows along an axis."""
    moved = reshape(y, (*shape[:axis], *shape[axis + 1 :], shape[axis]))
    return permuted(moved, (*range(axis), len(shape) - 1, *range(axis, len(shape) - 1)))


def _order(x: Any, axis: int) -> tuple[Any, Any]:
    """Give the rows along an axis, and the order of each."""
    lying = rows(x, (axis,))
    keys = lying.astype(np.int64) if lying.dtype.kind == "b" else lying
    return lying, record("argsort", keys)


@implements(np.argsort)
def argsort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    """Give the indices that sort along an axis; equal elements keep their order."""
    refuse("argsort", order=order)
    x = as_tensor(a)
    if axis is None or x.ndim == 0:
        x, axis = reshape(x, -1), 0
    (place,) = axes_of(axis, x.ndim)
    return unrow(_order(x, place)[1], x.shape, place)


@implements(np.sort)
def sort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    """Sort along an axis."""
    refuse("sort", order=order)
    x = as_tensor(a)
    if axis is None:
        x, axis = reshape(x, -1), 0
    (place,) = axes_of(axis, x.ndim)
    lying, order = _order(x, place)
    return unrow(take_along_axis(lying, order, 1), x.shape, place)


@implements(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    """Find where values belong in a sorted array, by bisection on the tape; no derivative flows."""
    tape = recording_of(a, v, sorter)
    a, v = stop_gradient(as_tensor(a, tape)), stop_gradient(as_tensor(v, tape))
    if sorter is not None:
        a = a[sorter]
    if side not in ("left", "right"):
        raise TapeadValueError(f'side must be "left" or "right", not {side!r}, at {here()}')
    before = np.less if side == "left" else np.less_equal
    place: Any = np.zeros(v.shape, np.int64)
    step = 1 << a.size.bit_length() >> 1
    while step:
        further = place + step
        probe = a[np.minimum(further, a.size) - 1]
        place = np.where((further <= a.size) & before(probe, v), further, place)
        step >>= 1
    return place


@implements(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    """Find the bin of each value."""
    side: Any = "left" if right else "right"
    edges = bins._value if type(bins) is Tensor else np.asarray(bins)
    if edges.size > 1 and edges[0] > edges[-1]:
        return edges.size - searchsorted(bins[::-1], x, "right" if right else "left")
    return searchsorted(bins, x, side)


@implements(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Interpolate linearly between the points (xp, fp), xp ascending."""
    refuse("interp", period=period)
    tape = recording_of(x, xp, fp, left, right)
    x, xp, fp = (np.multiply(as_tensor(v, tape), np.float64(1)) for v in (x, xp, fp))
    low, high = fp[0] if left is None else left, fp[-1] if right is None else right
    if xp.size == 1:
        return np.where(x < xp[0], low, np.where(x > xp[0], high, fp[0]))
    i = np.clip(searchsorted(xp, x, "right") - 1, 0, xp.size - 2)
    start, begin = xp[i], fp[i]
    y = (fp[i + 1] - begin) / (xp[i + 1] - start) * (x - start) + begin
    return np.where(x < xp[0], low, np.where(x > xp[-1], high, y))


# ---- neighbours --------------------------------------------------------------------------------------------


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = np._NoValue, append: Any = np._NoValue) -> Any:
    """Give the differences of neighbours along an axis, n times over."""
    tape = recording_of(a, prepend, append)
    x = as_tensor(a, tape)
    if n < 0:
        raise TapeadValueError(f"order must be non-negative but got {n}, at {here()}")
    if x.ndim == 0:
        raise TapeadValueError(f"diff requires input that is at least one dimensional, at {here()}")
    if n == 0:
        return x
    (place,) = axes_of(axis, x.ndim)
    ends = []
    for end in (prepend, append):
        if end is not np._NoValue:
            end = as_tensor(end, tape)
            ends.append(end if end.ndim else np.broadcast_to(end, (*x.shape[:place], 1, *x.shape[place + 1 :])))
        else:
            ends.append(None)
    parts = [part for part in (ends[0], x, ends[1]) if part is not None]
    x = np.concatenate(parts, place) if len(parts) > 1 else x
    minus = np.not_equal if x.dtype.kind == "b" else np.subtract
    for _ in range(n):
        x = minus(x[along(place, slice(1, None), x.ndim)], x[along(place, slice(None, -1), x.ndim)])
    return x


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """Give the differences of neighbours in the flattened array, between a begin and an end."""
    tape = recording_of(ary, to_end, to_begin)
    parts = [None if e is None else reshape(as_tensor(e, tape), -1) for e in (to_begin, to_end)]
    middle = diff(reshape(as_tensor(ary, tape), -1))
    whole = [part for part in (parts[0], middle, parts[1]) if part is not None]
    return np.concatenate(whole) if len(whole) > 1 else middle


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """Integrate along an axis by the trapezoidal rule."""
    tape = recording_of(y, x, dx)
    y = as_tensor(y, tape)
    (place,) = axes_of(axis, y.ndim)
    if x is not None:
        dx = diff(as_tensor(x, tape), axis=-1 if np.ndim(x) == 1 else axis)
        if np.ndim(dx) == 1:
            dx = reshape(dx, (-1,) + (1,) * (y.ndim - place - 1))
    later, earlier = y[along(place, slice(1, None), y.ndim)], y[along(place, slice(None, -1), y.ndim)]
    return np.sum(dx * (later + earlier) / 2.0, axis)


@implements(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Differentiate by central differences inside and by one-sided ones at the ends; evenly spaced."""
    f = as_tensor(f, recording_of(f, *varargs))
    axes = axes_of(axis, f.ndim)
    if edge_order != 1 or any(np.ndim(v) for v in varargs):
        refuse("gradient", edge_order=edge_order if edge_order != 1 else None, coordinates=varargs)
    spacing = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    made = []
    for place, h in zip(axes, spacing, strict=True):
        if f.shape[place] < 2:
            raise TapeadValueError(f"np.gradient needs at least two elements along axis {place}, at {here()}")
        steps = diff(f, axis=place) / h
        n = f.shape[place] - 1
        first, last = (along(place, slice(*span), f.ndim) for span in ((0, n - 1), (1, n)))
        ends = [steps[along(place, slice(k, k + 1), f.ndim)] for k in (0, n - 1)]
        made.append(np.concatenate([ends[0], (steps[first] + steps[last]) / 2.0, ends[1]], place))
    return made[0] if len(made) == 1 else tuple(made)


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """Convolve two vectors."""
    tape = recording_of(a, v)
    a, v = np.atleast_1d(as_tensor(a, tape)), np.atleast_1d(as_tensor(v, tape))
    if a.size < v.size:
        a, v = v, a
    if v.size == 0:
        raise TapeadValueError(f"a and v cannot be empty, at {here()}")
    n, m = a.size, v.size
    if mode not in ("full", "same", "valid"):
        raise TapeadValueError(f'mode must be "full", "same" or "valid", not {mode!r}, at {here()}')
    first, count = {"full": (0, n + m - 1), "same": ((m - 1) // 2, n), "valid": (m - 1, n - m + 1)}[mode]
    windows = first + np.arange(count)[:, None] + np.arange(m)
    return np.matmul(np.pad(a, m - 1)[windows], v[::-1])


@implements(np.correlate)
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    """Correlate two vectors."""
    tape = recording_of(a, v)
    return convolve(a, np.flip(np.atleast_1d(as_tensor(v, tape)), 0), mode)


@implements(np.vander)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """Give the powers of the elements as columns."""
    x = as_tensor(x)
    x = x.astype(np.promote_types(x.dtype, int), copy=False)
    exponents = np.arange(x.size if N is None else N)
    return np.power(x[:, None], (exponents if increasing else exponents[::-1]).astype(x.dtype))
