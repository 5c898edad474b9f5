"""Shapes, strides and indices: pure functions of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import TapeadIndexError

if TYPE_CHECKING:
    from .record import Recording
    from .tape import Buffer
    from .tensor import Tensor


def blas_ready(b: Buffer) -> bool:
    """Whether a matrix's strides are such that BLAS can read it: rows or columns without gaps, none repeated."""
    if len(b.shape) < 2:
        return False
    (m, n), (row, column) = b.shape[-2:], b.strides[-2:]
    by_rows = (column == 1 or n == 1) and (row >= max(n, 1) or m == 1)
    by_columns = (row == 1 or m == 1) and (column >= max(m, 1) or n == 1)
    return min(b.shape) == 0 or by_rows or by_columns


def overlaps(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers of one storage may share elements (by the stretches that they span)."""
    return _first(a) <= _last(b) and _first(b) <= _last(a)


def _first(b: Buffer) -> int:
    return b.offset + sum((dim - 1) * stride for dim, stride in zip(b.shape, b.strides, strict=True) if stride < 0)


def _last(b: Buffer) -> int:
    return b.offset + sum((dim - 1) * stride for dim, stride in zip(b.shape, b.strides, strict=True) if stride > 0)


def collapse(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Merge neighbouring axes that every operand walks in one step; axes of one element go."""
    dims: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, dim in enumerate(shape):
        if dim == 1:
            continue
        if dims and all(own[-1] == s[axis] * dim for own, s in zip(steps, strides, strict=True)):
            dims[-1] *= dim
            for own, s in zip(steps, strides, strict=True):
                own[-1] = s[axis]
            continue
        dims.append(dim)
        for own, s in zip(steps, strides, strict=True):
            own.append(s[axis])
    if not dims:
        return [1], [[0] for _ in strides]
    return dims, steps


def broadcast_strides(shape: Sequence[int], strides: Sequence[int], target: Sequence[int]) -> list[int]:
    """Give the strides of an operand over a larger index space: 0 along the axes that it lacks."""
    missing = len(target) - len(shape)
    own = [0 if dim == 1 else stride for dim, stride in zip(shape, strides, strict=True)]
    return [0] * missing + own


@dataclass
class Index:
    """An index, taken apart: `basic` for slices and integers; `advanced` tells of integer arrays and masks."""

    basic: tuple[Any, ...]
    advanced: bool
    ellipsis: bool

    @property
    def viewing(self) -> tuple[Any, ...]:
        """The basic index, such that NumPy gives a view even of a single element."""
        return self.basic if self.ellipsis else (*self.basic, ...)


def expand_index(index: Any, recording: Recording) -> Index:
    """Take an index apart."""
    from .tensor import Tensor

    parts = index if type(index) is tuple else (index,)
    advanced = False
    made: list[Any] = []
    for part in parts:
        if (
            part is None
            or part is Ellipsis
            or (isinstance(part, int | np.integer | slice) and not isinstance(part, bool))
        ):
            made.append(_plain_slice(part) if isinstance(part, slice) else part)
            continue
        if isinstance(part, bool | np.bool_):
            part = np.asarray(part)
        if type(part) is not Tensor:
            part = recording.lift(part if not isinstance(part, list) or part else np.empty(0, np.int64))
        dtype = part.dtype
        if dtype.kind not in "iub":
            raise TapeadIndexError("arrays used as indices must be of integer (or boolean) type")
        advanced = True
        made.append(part)
    return Index(tuple(p for p in made), advanced, any(p is Ellipsis for p in made))


def _plain_slice(part: slice) -> slice:
    """Turn traced integers in a slice into numbers (they are guarded)."""
    if any(hasattr(v, "tape") for v in (part.start, part.stop, part.step)):
        return slice(*(v if v is None else int(v) for v in (part.start, part.stop, part.step)))
    return part


def mask_axes(
    recording: Recording, x: Tensor, index: Index
) -> tuple[Tensor, list[Any], tuple[int, ...], tuple[int, ...], int]:
    """Reduce an advanced index to index arrays on some axes of a view of x.

    Gives the view (slices, None and Ellipsis applied), the flat index arrays, the axes that they index, the shape that
    they broadcast to, and the axis at which NumPy puts that shape.
    """
    from .tensor import Tensor

    parts: list[Any] = []
    for part in index.basic:
        if hasattr(part, "dtype") and part.dtype == bool and not isinstance(part, np.integer):
            mask = recording.tensor(part)
            parts.append((mask.shape, recording.where_true(mask)))
        else:
            parts.append(part)
    used = sum(0 if p is None or p is Ellipsis else len(p[0]) if isinstance(p, tuple) else 1 for p in parts)
    if not any(p is Ellipsis for p in parts):
        parts.append(Ellipsis)
    if used > x.ndim:
        raise TapeadIndexError(f"too many indices for array: array is {x.ndim}-dimensional, but {used} were indexed")
    basic: list[Any] = []
    indices: list[Any] = []
    axes: list[int] = []
    runs: list[int] = []  # positions among the parts, to see whether the index arrays are neighbours
    axis = 0  # of the view
    source = 0  # of x
    for position, part in enumerate(parts):
        if part is Ellipsis:
            free = x.ndim - used
            basic += [slice(None)] * free
            axis, source = axis + free, source + free
        elif part is None:
            basic.append(None)
            axis += 1
        elif isinstance(part, slice):
            basic.append(part)
            axis, source = axis + 1, source + 1
        elif isinstance(part, tuple):
            mask_shape, found = part
            if mask_shape != x.shape[source : source + len(mask_shape)]:
                raise TapeadIndexError(
                    f"boolean index of shape {mask_shape} does not match the array's {x.shape[source : source + len(mask_shape)]}"
                )
            for i in found:
                basic.append(slice(None))
                indices.append(i)
                axes.append(axis)
                axis, source = axis + 1, source + 1
            runs.append(position)
        else:
            basic.append(slice(None))
            indices.append(part if not isinstance(part, int | np.integer) else np.asarray(int(part)))
            axes.append(axis)
            runs.append(position)
            axis, source = axis + 1, source + 1
    view = recording.view(x, lambda v: v[tuple(basic)]) if any(b is None or b != slice(None) for b in basic) else x
    shapes = [i.shape for i in indices]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise TapeadIndexError(f"shape mismatch: index arrays {shapes} cannot be broadcast together") from error
    flat: list[Any] = []
    for i in indices:
        if type(i) is Tensor:
            wide = i if i.dtype == np.int64 else recording.cast(i, np.dtype(np.int64))
            if wide.shape != shape:
                wide = recording.view(wide, lambda v: np.broadcast_to(v, shape))
            flat.append(recording.view(recording.contiguous(wide), lambda v: v.reshape(-1)))
        else:
            flat.append(np.ascontiguousarray(np.broadcast_to(np.asarray(i, np.int64), shape)).reshape(-1))
    neighbours = runs == list(range(runs[0], runs[0] + len(runs)))
    place = sum(1 for a in range(axes[0]) if a not in axes) if neighbours else 0
    return view, flat, tuple(axes), shape, place
