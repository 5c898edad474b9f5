"""How views read: which part of an array they are, in which shape, as NumPy code would say it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .tape import Buffer, row_major

#: the length and the step of an axis
Axis = tuple[int, int]


def view_text(name: str, shape: tuple[int, ...], b: Buffer) -> str:
    """Write which part of a row-major array a view is: v1[1:], v1.T, v1.reshape(2, 3).

    >>> import numpy as np
    >>> view_text("v1", (3, 4), Buffer(np.dtype(float), (2, 3), (1, 4), 1))
    'v1[:, 1:3].T'
    """
    axes = [(dim, step) for dim, step in zip(b.shape, b.strides, strict=True) if dim != 1]
    if b.shape == shape and b.offset == 0 and tuple(axes) == _axes(shape):
        return name
    if 0 in b.shape:
        return f"{name}.ravel()[:0].reshape{_tuple(b.shape)}"
    index = _slices(shape, b.offset, list(zip(b.shape, b.strides, strict=True)))
    if index is not None:
        return f"{name}[{index}]"
    if b.offset == 0 and math.prod(b.shape) == math.prod(shape) and tuple(axes) == _axes(b.shape):
        return f"{name}.reshape{_tuple(b.shape)}"
    kept = [axis for axis in axes if axis[1] != 0]
    core = sorted(kept, key=lambda axis: -abs(axis[1]))
    found = _part(name, shape, b.offset, core)
    if found is None:
        return f"view of {name}: offset {b.offset}, strides {b.strides}"
    text, now = found
    if kept != core:
        text, now = _turned(text, now, [core.index(axis) for axis in kept])
    wanted = tuple(1 if step == 0 else dim for dim, step in zip(b.shape, b.strides, strict=True))
    if wanted == b.shape:
        return shaped_text(text, now, wanted)
    return f"broadcast({text if fits(now, wanted) else shaped_text(text, now, wanted)}, {b.shape})"


def shaped_text(text: str, shape: Sequence[int], wanted: Sequence[int]) -> str:
    """Write an array in another shape that differs by axes of one element: v1[:, None], v1.T.

    >>> shaped_text("v1", (3, 1), (1, 3)), shaped_text("v1", (3,), (1, 3, 1)), shaped_text("v1", (3, 1), (3,))
    ('v1.T', 'v1[None, :, None]', 'v1[:, 0]')
    """
    if tuple(shape) == tuple(wanted):
        return text
    if len(shape) == 2 and tuple(wanted) == (shape[1], shape[0]):
        return f"{text}.T"
    parts, left = [], list(shape)
    for dim in wanted:
        while left and left[0] == 1 != dim:
            parts.append("0")
            left.pop(0)
        if left and left[0] == dim:
            parts.append(":")
            left.pop(0)
        else:
            parts.append("None")
    return f"{text}[{', '.join(_trimmed([*parts, *('0' for _ in left)]))}]"


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether an array broadcasts as one of another shape does, which has further axes of one element in front."""
    extra = len(wanted) - len(shape)
    return extra >= 0 and tuple(wanted[extra:]) == tuple(shape) and all(dim == 1 for dim in wanted[:extra])


def _axes(shape: Sequence[int]) -> tuple[Axis, ...]:
    """Give the axes of a row-major array, without those of one element."""
    return tuple(axis for axis in zip(shape, row_major(tuple(shape)), strict=True) if axis[0] != 1)


def _part(name: str, shape: tuple[int, ...], offset: int, core: list[Axis]) -> tuple[str, tuple[int, ...]] | None:
    """Write the part whose axes stand in the order of an array's, and give its shape; None where there is no short way."""
    now = tuple(dim for dim, _ in core)
    if offset == 0 and tuple(core) == _axes(shape):
        return name, shape
    if offset == 0 and math.prod(now) == math.prod(shape) and tuple(core) == _axes(now):
        return f"{name}.reshape{_tuple(now)}", now
    index = _slices(shape, offset, core)
    if index is not None:
        return f"{name}[{index}]", now
    if len(core) == 1:
        ((length, step),) = core
        flat = name if len(shape) == 1 else f"{name}.ravel()"
        return f"{flat}[{_slice(offset, length, step, math.prod(shape))}]", now
    return None


def _turned(text: str, shape: Sequence[int], order: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Write a transposition of the axes of more than one element; give the new shape."""
    real = [i for i, dim in enumerate(shape) if dim != 1]
    axes = list(range(len(shape)))
    for i, k in zip(real, order, strict=True):
        axes[i] = real[k]
    turn = ".T" if axes == list(reversed(range(len(axes)))) else f".transpose{_tuple(axes)}"
    return text + turn, tuple(shape[a] for a in axes)


def _slices(shape: tuple[int, ...], offset: int, axes: Sequence[Axis]) -> str | None:
    """Write a view as slices and integers, one for each axis of the array; None if it is no such view."""
    if not shape:
        return None
    starts, rest, steps = [], offset, row_major(shape)
    for step in steps:
        starts.append(rest // step)
        rest %= step
    at = 0
    parts: list[str] = []
    for start, dim, stride in zip(starts, shape, steps, strict=True):
        length, step = axes[at] if at < len(axes) else (0, 0)
        step = step // stride if step % stride == 0 else 0
        within = step != 0 and 0 <= start + step * (length - 1) < dim
        if within and (length > 1 or dim == 1 or len(shape) - len(parts) == len(axes) - at):
            at += 1
            parts.append(_slice(start, length, step, dim))
        else:
            parts.append(str(start))
    return ", ".join(_trimmed(parts)) if at == len(axes) else None


def _slice(start: int, length: int, step: int, dim: int) -> str:
    last = start + step * (length - 1)
    if step > 0:
        first, stop = (str(start) if start else ""), (str(last + 1) if last + step < dim else "")
    else:
        first, stop = (str(start) if start != dim - 1 else ""), (str(last - 1) if last + step >= 0 else "")
    return f"{first}:{stop}" + (f":{step}" if step != 1 else "")


def _trimmed(parts: list[str]) -> list[str]:
    """Leave out what an index need not say at its end."""
    while len(parts) > 1 and parts[-1] == ":":
        parts = parts[:-1]
    return parts


def _tuple(numbers: Sequence[int]) -> str:
    return f"({', '.join(map(str, numbers))})"
