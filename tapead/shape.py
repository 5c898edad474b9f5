"""Shapes and strides: pure functions of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tape import Buffer


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
