"""Arrays joined, repeated and surrounded: new memory, and the parts written into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .dispatch import as_tensor, axes_of, empty, here, implements, recording_of, refuse, view, write
from .errors import TapeadTypeError, TapeadValueError
from .record import Recording
from .shaping import along, fresh, reshape
from .tensor import Tensor

# ---- joining ----------------------------------------------------------------------------------------------


def _parts(arrays: Any) -> tuple[Recording, list[Any]]:
    """Take the operands of a join: tensors stay, all else becomes arrays."""
    tape = recording_of(arrays)
    lifted = [tape.lift(a) for a in arrays]
    return tape, [a if type(a) is Tensor else np.asarray(a) for a in lifted]


def _join_dtype(parts: Sequence[Any], dtype: Any, casting: Any) -> np.dtype[Any]:
    common = np.result_type(*{p.dtype for p in parts})
    if dtype is not None and not np.can_cast(common, dtype, casting):
        raise TapeadTypeError(f"cannot cast {common} to {np.dtype(dtype)} with casting {casting!r}, at {here()}")
    return np.dtype(common if dtype is None else dtype)


@implements(np.concatenate)
def concatenate(
    arrays: Any, /, axis: int | None = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> Any:
    """Join arrays along an axis that they have."""
    refuse("concatenate", out=out)
    tape, parts = _parts(arrays)
    if axis is None:
        parts, axis = [reshape(p, -1) if type(p) is Tensor else p.ravel() for p in parts], 0
    ndim = parts[0].ndim
    if ndim == 0:
        raise TapeadValueError(f"zero-dimensional arrays cannot be concatenated, at {here()}")
    (place,) = axes_of(axis, ndim)
    rest = parts[0].shape[:place] + parts[0].shape[place + 1 :]
    if any(p.ndim != ndim or p.shape[:place] + p.shape[place + 1 :] != rest for p in parts):
        shapes = ", ".join(str(p.shape) for p in parts)
        raise TapeadValueError(f"arrays to join along axis {axis} must agree in the other axes: {shapes}, at {here()}")
    total = sum(p.shape[place] for p in parts)
    z = empty((*rest[:place], total, *rest[place:]), _join_dtype(parts, dtype, casting), tape)
    start = 0
    for part in parts:
        stop = start + part.shape[place]
        if part.size:
            write(z[along(place, slice(start, stop), ndim)], part)
        start = stop
    return z


@implements(np.stack)
def stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """Join arrays of one shape along a new axis."""
    refuse("stack", out=out)
    tape, parts = _parts(arrays)
    shape = parts[0].shape
    if any(p.shape != shape for p in parts):
        shapes = ", ".join(str(p.shape) for p in parts)
        raise TapeadValueError(f"all input arrays must have the same shape: {shapes}, at {here()}")
    (place,) = axes_of(axis, len(shape) + 1)
    if not shape:
        return tape.row(parts, _join_dtype(parts, dtype, casting))
    z = empty((*shape[:place], len(parts), *shape[place:]), _join_dtype(parts, dtype, casting), tape)
    for k, part in enumerate(parts):
        if part.size:
            index = (*along(place, k, z.ndim), ...)
            write(z[index], part)
    return z


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """Stack rows."""
    return concatenate([np.atleast_2d(a) for a in _parts(tup)[1]], 0, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> Any:
    """Join along the second axis, vectors along their only one."""
    parts = [np.atleast_1d(a) for a in _parts(tup)[1]]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype=dtype, casting=casting)


@implements(np.dstack)
def dstack(tup: Any) -> Any:
    """Join along the third axis."""
    return concatenate([np.atleast_3d(a) for a in _parts(tup)[1]], 2)


@implements(np.column_stack)
def column_stack(tup: Any) -> Any:
    """Join vectors as columns, and matrices by theirs."""
    return concatenate([np.atleast_2d(a).T if a.ndim < 2 else a for a in _parts(tup)[1]], 1)


@implements(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    """Join values to the end of an array."""
    return concatenate((arr, values), axis)


@implements(np.block)
def block(arrays: Any) -> Any:
    """Join nested lists of blocks: the innermost along the last axis, the next along the last but one, ..."""

    def depth_of(nested: Any) -> int:
        return 1 + max(map(depth_of, nested)) if isinstance(nested, list) else 0

    def ndim_of(nested: Any) -> int:
        return max(map(ndim_of, nested)) if isinstance(nested, list) else np.ndim(nested)

    depth = depth_of(arrays)
    ndim = max(depth, ndim_of(arrays))
    tape = recording_of(arrays)

    def join(nested: Any, axis: int) -> Any:
        if isinstance(nested, list):
            return concatenate([join(n, axis + 1) for n in nested], axis)
        return view(as_tensor(nested, tape), lambda v: v.reshape((1,) * (ndim - v.ndim) + v.shape))

    return join(arrays, -depth) if depth else as_tensor(arrays, tape).copy()


@implements(np.apply_along_axis)
def apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """Apply a function to each vector along an axis."""
    x = as_tensor(arr)
    (place,) = axes_of(axis, x.ndim)
    x = np.moveaxis(x, place, -1)
    shape = x.shape[:-1]
    made = stack([func1d(x[at], *args, **kwargs) for at in np.ndindex(shape)])
    y = reshape(made, shape + made.shape[1:])
    news = range(len(shape), y.ndim)
    return np.moveaxis(y, news, range(place, place + len(news))) if news else y


# ---- repeating --------------------------------------------------------------------------------------------


@implements(np.tile)
def tile(A: Any, reps: Any) -> Any:
    """Repeat a whole array along its axes."""
    x = as_tensor(A)
    reps = tuple(reps) if np.iterable(reps) else (reps,)
    ndim = max(len(reps), x.ndim)
    reps = (1,) * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - x.ndim) + x.shape
    x = view(x, lambda v: v.reshape([d for dim in shape for d in (1, dim)]))
    y = view(x, lambda v: np.broadcast_to(v, [d for pair in zip(reps, shape, strict=True) for d in pair]))
    return fresh(view(y, lambda v: v.reshape([r * dim for r, dim in zip(reps, shape, strict=True)])), x)


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    """Repeat each element along an axis."""
    x = as_tensor(a)
    if axis is None:
        x, axis = reshape(x, -1), 0
    (place,) = axes_of(axis, x.ndim)
    counts = repeats.tolist() if type(repeats) is Tensor else repeats
    if np.size(counts) != 1:
        return x[along(place, np.repeat(np.arange(x.shape[place]), counts), x.ndim)]
    count = int(np.reshape(counts, ()))
    wide = view(x, lambda v: np.expand_dims(v, place + 1))
    wide = view(wide, lambda v: np.broadcast_to(v, (*v.shape[: place + 1], count, *v.shape[place + 2 :])))
    shape = (*x.shape[:place], x.shape[place] * count, *x.shape[place + 1 :])
    return fresh(view(wide, lambda v: v.reshape(shape)), x)


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """Move elements along axes; what leaves at the end comes in at the beginning."""
    x = as_tensor(a)
    if axis is None:
        return reshape(roll(reshape(x, -1), shift, 0), x.shape)
    y = x
    for by, place in np.broadcast(shift, axis):
        (place,) = axes_of(int(place), x.ndim)
        n = y.shape[place]
        cut = n - int(by) % n if n else 0
        y = concatenate([y[along(place, slice(cut, n), x.ndim)], y[along(place, slice(0, cut), x.ndim)]], place)
    return fresh(y, x)


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    """Put elements around an array: constants, or its own by the modes edge, reflect, symmetric and wrap."""
    x = as_tensor(array)
    if isinstance(pad_width, dict):
        given, pad_width = pad_width, np.zeros((x.ndim, 2), int)
        for place, width in given.items():
            pad_width[place] = width
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    if mode in ("edge", "reflect", "symmetric", "wrap"):
        y = x
        for place, width in enumerate(widths):
            if any(width):
                y = y[along(place, np.pad(np.arange(x.shape[place]), width, mode, **options), x.ndim)]
        return fresh(y, x)
    if mode != "constant":
        refuse("pad", mode=mode)
    constants = options.pop("constant_values", 0)
    if type(constants) is Tensor:
        constants = [[constants, constants]] * x.ndim
    else:
        constants = np.broadcast_to(np.asarray(constants), (x.ndim, 2)).tolist()
    z = empty(tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)), x.dtype, x.tape)
    inner = [slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True)]
    for place, (a, b) in enumerate(widths):  # slabs that do not overlap; the last axis owns the corners
        for part, constant in (
            (slice(0, a), constants[place][0]),
            (slice(z.shape[place] - b, None), constants[place][1]),
        ):
            slab = z[(*[slice(None)] * place, part, *inner[place + 1 :])]
            if slab.size:
                write(slab, constant)
    if x.size:
        write(view(z, lambda v: v[(*inner, ...)]), x)
    return z
