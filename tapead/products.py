"""Products of vectors, matrices and tensors, laid out as matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import as_tensor, axes_of, here, implements, record, recording_of, refuse
from .errors import TapeadValueError
from .record import Recording
from .shaping import permuted, reshape
from .tensor import Tensor


def operands(*values: Any) -> tuple[Recording, list[Any]]:
    """Bring operands to their common dtype; tensors stay tensors, all else becomes arrays."""
    tape = recording_of(*values)
    lifted = [tape.lift(v) for v in values]
    dtype = np.result_type(*(v._value if type(v) is Tensor else v for v in lifted))
    return tape, [tape.cast(v, dtype, False) if type(v) is Tensor else np.asarray(v, dtype) for v in lifted]


def multiplied(a: Any, b: Any) -> Any:
    """Multiply matrices of one dtype; integers and booleans by elementwise products and sums."""
    if a.dtype.kind == "f":
        return record("matmul", a, b)
    products = a[..., :, :, None] * b[..., None, :, :]
    return np.any(products, axis=-2) if a.dtype.kind == "b" else np.sum(products, axis=-2, dtype=a.dtype)


@implements(np.matmul, np.linalg.matmul)
def matmul(x1: Any, x2: Any, /, **options: Any) -> Any:
    """Multiply matrices, batches of them, and vectors."""
    refuse("matmul", **options)
    tape, (a, b) = operands(x1, x2)
    if a.ndim == 0 or b.ndim == 0:
        raise TapeadValueError(f"matmul: operands must have at least one axis, use * for numbers, at {here()}")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise TapeadValueError(f"matmul: shapes {a.shape} and {b.shape} do not match, at {here()}")
    if a.ndim == b.ndim == 1:
        return np.any(a * b) if a.dtype.kind == "b" else np.sum(a * b, dtype=a.dtype)
    if a.ndim == 1:
        return multiplied(as_tensor(a, tape)[None, :], b)[..., 0, :]
    if b.ndim == 1:
        return multiplied(a, as_tensor(b, tape)[:, None])[..., 0]
    return multiplied(a, b)


@implements(np.tensordot, np.linalg.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """Sum products over axes of both operands."""
    tape, (a, b) = operands(a, b)
    if np.iterable(axes):
        over_a, over_b = (tuple(s) if np.iterable(s) else (s,) for s in axes)
    else:
        over_a, over_b = tuple(range(a.ndim - int(axes), a.ndim)), tuple(range(int(axes)))
    over_a, over_b = axes_of(over_a, a.ndim), axes_of(over_b, b.ndim)
    if [a.shape[k] for k in over_a] != [b.shape[k] for k in over_b]:
        raise TapeadValueError(f"tensordot: shapes {a.shape}, {b.shape} do not match along {axes}, at {here()}")
    free_a = [k for k in range(a.ndim) if k not in over_a]
    free_b = [k for k in range(b.ndim) if k not in over_b]
    shape = tuple(a.shape[k] for k in free_a) + tuple(b.shape[k] for k in free_b)
    a, b = as_tensor(a, tape), as_tensor(b, tape)
    if not over_a:
        return reshape(a, a.shape + (1,) * b.ndim) * b
    left, right = permuted(a, (*free_a, *over_a)), permuted(b, (*over_b, *free_b))
    n = int(np.prod([b.shape[k] for k in over_b], dtype=int))
    rows, columns = (int(np.prod(s, dtype=int)) for s in (shape[: len(free_a)], shape[len(free_a) :]))
    return reshape(matmul(reshape(left, (rows, n)), reshape(right, (n, columns))), shape)


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """Multiply vectors, matrices or numbers; sum over the last axis of a and the last but one of b."""
    refuse("dot", out=out)
    _, (a, b) = operands(a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return matmul(a, b) if b.ndim == 1 or (a.ndim <= 2 and b.ndim == 2) else tensordot(a, b, (-1, -2))


@implements(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    """Sum products over the last axes."""
    _, (a, b) = operands(a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return matmul(a, b) if a.ndim == b.ndim == 1 else tensordot(a, b, (-1, -1))


@implements(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    """Sum the products of two arrays, flattened."""
    tape, (a, b) = operands(a, b)
    return matmul(reshape(as_tensor(a, tape), -1), reshape(as_tensor(b, tape), -1))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """Multiply each element of one with each of the other, both flattened."""
    refuse("outer", out=out)
    tape, (a, b) = operands(a, b)
    return reshape(as_tensor(a, tape), (-1, 1)) * reshape(as_tensor(b, tape), (1, -1))


@implements(np.linalg.outer)
def vector_outer(x1: Any, x2: Any, /) -> Any:
    """Multiply each element of one vector with each of the other."""
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise TapeadValueError(f"Input arrays must be one-dimensional, at {here()}")
    return outer(x1, x2)


@implements(np.vecdot, np.linalg.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1, **options: Any) -> Any:
    """Sum products over one axis of both."""
    refuse("vecdot", **options)
    _, (a, b) = operands(x1, x2)
    a, b = (np.moveaxis(v, axis, -1) if axis != -1 else v for v in (a, b))
    if a.shape[-1] != b.shape[-1]:
        raise TapeadValueError(f"vecdot: shapes {a.shape} and {b.shape} do not match, at {here()}")
    return np.sum(a * b, axis=-1)


def matvec(x1: Any, x2: Any, /, **options: Any) -> Any:
    """Multiply matrices with vectors, batched."""
    refuse("matvec", **options)
    tape, (a, b) = operands(x1, x2)
    return matmul(a, as_tensor(b, tape)[..., None])[..., 0]


def vecmat(x1: Any, x2: Any, /, **options: Any) -> Any:
    """Multiply vectors with matrices, batched."""
    refuse("vecmat", **options)
    tape, (a, b) = operands(x1, x2)
    return matmul(as_tensor(a, tape)[..., None, :], b)[..., 0, :]


if hasattr(np, "matvec"):  # NumPy 2.2
    implements(np.matvec)(matvec)
    implements(np.vecmat)(vecmat)


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    """Multiply each element of one with all of the other, laid out as blocks."""
    tape, (a, b) = operands(a, b)
    a, b = as_tensor(a, tape), as_tensor(b, tape)
    if a.ndim == b.ndim == 0:
        return a * b
    ndim = max(a.ndim, b.ndim)
    left, right = (1,) * (ndim - a.ndim) + a.shape, (1,) * (ndim - b.ndim) + b.shape
    a = reshape(a, [d for n in left for d in (n, 1)])
    b = reshape(b, [d for n in right for d in (1, n)])
    return reshape(a * b, tuple(n * m for n, m in zip(left, right, strict=True)))


@implements(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """Give the vector products of vectors of three."""
    if axis is not None:
        axisa = axisb = axisc = axis
    tape, (a, b) = operands(a, b)
    a = np.moveaxis(as_tensor(a, tape), axisa, -1)
    b = np.moveaxis(as_tensor(b, tape), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise TapeadValueError(f"np.cross takes vectors of 3, not of {a.shape[-1]} and {b.shape[-1]}, at {here()}")
    (a0, a1, a2), (b0, b1, b2) = ([v[..., k] for k in range(3)] for v in (a, b))
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axisc)


@implements(np.linalg.cross)
def vector_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Give the vector products of vectors of three."""
    return cross(x1, x2, axis=axis)
