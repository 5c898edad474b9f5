"""Indexing and assignment: what x[index] and y[index] = value record."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import TapeadIndexError, TapeadTypeError, TapeadValueError
from .kernels.table import OPS
from .shape import overlaps
from .tape import INPUT, VALUE, Place, Storage, describe, user_place
from .tensor import Tensor

if TYPE_CHECKING:
    from .record import Recording

_COPY = OPS["copy"]


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


def expand_index(tape: Recording, index: Any) -> Index:
    """Take an index apart."""
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
            part = tape.lift(part if not isinstance(part, list) or part else np.empty(0, np.int64))
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
    tape: Recording, x: Tensor, index: Index
) -> tuple[Tensor, list[Any], tuple[int, ...], tuple[int, ...], int]:
    """Reduce an advanced index to index arrays on some axes of a view of x.

    Gives the view (slices, None and Ellipsis applied), the flat index arrays, the axes that they index, the shape that
    they broadcast to, and the axis at which NumPy puts that shape.
    """
    parts: list[Any] = []
    for part in index.basic:
        if hasattr(part, "dtype") and part.dtype == bool and not isinstance(part, np.integer):
            mask = tape.tensor(part)
            parts.append((mask.shape, tape.where_true(mask)))
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
    view = tape.view(x, lambda v: v[tuple(basic)]) if any(b is None or b != slice(None) for b in basic) else x
    shapes = [i.shape for i in indices]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise TapeadIndexError(f"shape mismatch: index arrays {shapes} cannot be broadcast together") from error
    flat: list[Any] = []
    for i in indices:
        if type(i) is Tensor:
            wide = i if i.dtype == np.int64 else tape.cast(i, np.dtype(np.int64))
            if wide.shape != shape:
                wide = tape.view(wide, lambda v: np.broadcast_to(v, shape))
            flat.append(tape.view(tape.contiguous(wide), lambda v: v.reshape(-1)))
        else:
            flat.append(np.ascontiguousarray(np.broadcast_to(np.asarray(i, np.int64), shape)).reshape(-1))
    neighbours = runs == list(range(runs[0], runs[0] + len(runs)))
    place = sum(1 for a in range(axes[0]) if a not in axes) if neighbours else 0
    return view, flat, tuple(axes), shape, place


def get(tape: Recording, x: Tensor, index: Any) -> Tensor:
    """Index a tensor: a view for slices, a gather for integer arrays and masks, a number for integers."""
    kind = type(index)
    value = x._value
    if x.tape is not tape or not tape.live:
        tape.reject(x)
    if kind is int and isinstance(value, np.ndarray) and value.ndim == 1:
        b = tape.buffers[x.buffer]
        try:
            element = value[index]
        except IndexError as error:
            raise tape.explained(error, "indexing", [value], user_place()) from error
        offset = b.offset + (index if index >= 0 else index + b.shape[0]) * b.strides[0]
        result = Tensor(tape, tape.new_buffer(tape.storage_of[x.buffer], b.dtype, (), (), offset), element, x.storage)
        if x.storage.kind is VALUE:
            _remember(x.storage, result)
        return result
    expanded = expand_index(tape, index)
    if expanded.advanced:
        return _gather(tape, x, expanded)
    base = np.asarray(value)
    try:
        part = base[expanded.viewing]
    except IndexError as error:
        raise tape.explained(error, "indexing", [base], user_place()) from error
    result = tape.viewed(x, base, part)
    if part.ndim == 0 and not expanded.ellipsis:
        result._value = part[()]
        if x.storage.kind is VALUE:
            _remember(x.storage, result)
    return result


def _remember(storage: Storage, scalar: Tensor) -> None:
    """Remember a number that was taken out of a storage, as long as it lives."""
    if storage.scalars is None:
        storage.scalars = []
    storage.scalars.append(weakref.ref(scalar))


def _gather(tape: Recording, x: Tensor, index: Any) -> Tensor:
    front, indices, axes, shape, place = mask_axes(tape, x, index)
    flat = tape.structural("gather", front, *indices, axes=axes)
    rest = tuple(dim for axis, dim in enumerate(front.shape) if axis not in axes)
    shaped = tape.view(flat, lambda v: v.reshape((*shape, *rest)))
    if place:
        source, target = list(range(len(shape))), list(range(place, place + len(shape)))
        shaped = tape.view(shaped, lambda v: np.moveaxis(v, source, target))
    return shaped


def assign(tape: Recording, y: Tensor, index: Any, value: Any) -> None:
    """Assign into a tensor, in place, as NumPy does."""
    place = user_place()
    if y.tape is not tape or not tape.live:
        tape.reject(y)
    value = tape.lift(value)
    if y.storage.kind is not VALUE or not isinstance(y._value, np.ndarray):
        if type(value) is Tensor and value.storage is y.storage and _same_place(tape, y, index, value):
            return
        what = (
            "a number"
            if not isinstance(y._value, np.ndarray)
            else "an argument"
            if y.storage.kind is INPUT
            else "a constant"
        )
        raise TapeadValueError(
            f"assignment into {what} at {describe(place)}: that would change the caller's own data. "
            "Copy it first (y = y.copy()), then assign"
        )
    if not y._value.flags.writeable:
        raise TapeadValueError(f"assignment destination is read-only, at {describe(place)}")
    levels = value.storage.levels if type(value) is Tensor else 0
    expanded = expand_index(tape, index)
    if expanded.advanced:
        _scatter(tape, y, expanded, value, place)
    else:
        try:
            part = y._value[expanded.viewing]
        except IndexError as error:
            raise tape.explained(error, "indexing", [y._value], place) from error
        target = tape.viewed(y, y._value, part)
        if type(value) is Tensor and value.storage is y.storage:
            a, b = tape.buffers[value.buffer], tape.buffers[target.buffer]
            if (a.offset, a.shape, a.strides) == (b.offset, b.shape, b.strides):
                return
            if overlaps(a, b):
                value = tape.elementwise(_COPY, (value,))
        overwrite(tape, target, value, place)
    y.storage.written = True
    if y.dtype.kind == "f":
        y.storage.levels |= levels


def overwrite(tape: Recording, target: Tensor, value: Any, place: Place) -> None:
    """Write a value into a view, and record it; what was there is kept for the way back."""
    part = tape.keep(target)._value
    _keep_scalars(tape, target.storage, tape.buffers[target.buffer])
    if tape.kept is not None:
        tape.former[len(tape)] = tape.elementwise(_COPY, (target,))
    operand = tape.operand(value)
    saved = tape.made(np.array(part) if part.ndim else part[()], target.storage.number, 0)
    if type(value) is Tensor:
        tape.keep_operands((value,))
        value = value._value
    try:
        part[...] = value
    except (ValueError, TypeError) as error:
        raise tape.explained(error, "assignment", [part, value], place) from error
    tape.append(OPS["assign"], (operand,), (target.buffer, saved.buffer), None, place)


def _same_place(tape: Recording, y: Tensor, index: Any, value: Tensor) -> bool:
    if expand_index(tape, index).advanced:
        return False
    target = get(tape, y, index)
    a, b = tape.buffers[value.buffer], tape.buffers[target.buffer]
    return (a.offset, a.shape, a.strides) == (b.offset, b.shape, b.strides)


def _scatter(tape: Recording, y: Tensor, index: Any, value: Any, place: Place) -> None:
    front, indices, axes, shape, moved = mask_axes(tape, y, index)
    rest = tuple(dim for axis, dim in enumerate(front.shape) if axis not in axes)
    whole = (*rest[:moved], *shape, *rest[moved:]) if moved else (*shape, *rest)
    try:
        spread = np.broadcast_to(value, whole)
    except ValueError as error:
        raise tape.explained(error, "assignment", [y._value, value], place) from error
    if moved:
        spread = np.moveaxis(spread, range(moved, moved + len(shape)), range(len(shape)))
    rows = tape.tensor(np.reshape(spread, (math.prod(shape), *rest)))
    if rows.dtype != y.dtype:
        rows = tape.cast(rows, y.dtype)
    rows = tape.contiguous(rows)
    if rows.storage is y.storage:
        rows = tape.elementwise(_COPY, (rows,))
    scatter_into(tape, front, rows, tuple(tape.contiguous(tape.tensor(i)) for i in indices), axes, place)


def scatter_into(
    tape: Recording, front: Tensor, rows: Tensor, indices: Sequence[Tensor], axes: tuple[int, ...], place: Place
) -> None:
    """Write rows where integer arrays say, and record it; what was there is kept for the way back."""
    _keep_scalars(tape, front.storage, None)
    operands = (rows, *indices)
    op = OPS["scatter"]
    if tape.kept is not None:
        tape.former[len(tape)] = tape.structural("gather", front, *indices, axes=axes)
    try:
        _, saved = op.numpy(*(o._value for o in operands), into=front._value, axes=axes)
    except IndexError as error:
        raise tape.explained(error, "assignment", [front._value, rows._value], place) from error
    kept = tape.made(saved, front.storage.number, 0)
    tape.keep_operands((front, *operands))
    tape.append(op, tuple(o.buffer for o in operands), (front.buffer, kept.buffer), {"axes": axes}, place)


def _keep_scalars(tape: Recording, storage: Storage, region: Any) -> None:
    """Copy the numbers that were taken out of a storage and are about to be overwritten: they keep their values."""
    kept = []
    for reference in storage.scalars or ():
        scalar = reference()
        if scalar is None:
            continue
        if region is not None and not overlaps(tape.buffers[scalar.buffer], region):
            kept.append(reference)
            continue
        copied = tape.made(scalar._value, storage.number, storage.levels)
        tape.append(_COPY, (scalar.buffer,), (copied.buffer,), None, user_place())
        scalar.buffer, scalar.storage = copied.buffer, copied.storage
    storage.scalars = kept


def update(tape: Recording, y: Tensor, op: Any, other: Any) -> Any:
    """Do y op= other: in place for arrays, as NumPy does; numbers are replaced."""
    result = tape.operator(op, (y, other))
    if result is NotImplemented or not isinstance(y._value, np.ndarray):
        return result
    if result.shape != y.shape:
        raise tape.explained(
            ValueError(f"non-broadcastable output operand with shape {y.shape} doesn't match {result.shape}"),
            op.name,
            [y._value],
            user_place(),
        )
    if not np.can_cast(result.dtype, y.dtype, "same_kind"):
        raise TapeadTypeError(
            f"cannot store {result.dtype} in an array of {y.dtype} in place, at {describe(user_place())}"
        )
    assign(tape, y, ..., result)
    return y
