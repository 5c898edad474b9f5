"""Linear algebra: solutions, inverses, determinants, factors, norms, and products of several matrices."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .dispatch import as_tensor, axes_of, here, implements, record, recording_of, refuse
from .errors import TapeadLinAlgError, TapeadTypeError, TapeadValueError
from .kernels.table import OPS
from .record import Recording
from .tensor import Tensor

#: the named tuple that np.linalg.slogdet gives
SlogdetResult: Any = type(np.linalg.slogdet(np.eye(1)))


def floating(x: Any, recording: Recording | None = None) -> Any:
    """Make a float tensor of an argument: integers and truth values become float64, as in np.linalg."""
    tensor = as_tensor(x, recording)
    return tensor if tensor.dtype.kind == "f" else tensor.tape.cast(tensor, np.dtype(float))


def square(a: Any, recording: Recording | None = None) -> Any:
    """Make a tensor of a square matrix, or a stack of them; raise what NumPy raises for anything else."""
    tensor = floating(a, recording)
    if tensor.ndim < 2:
        raise TapeadLinAlgError(
            f"{tensor.ndim}-dimensional array given. Array must be at least two-dimensional, at {here()}"
        )
    if tensor.shape[-1] != tensor.shape[-2]:
        raise TapeadLinAlgError(
            f"Last 2 dimensions of the array must be square, not those of {tensor.shape}, at {here()}"
        )
    return tensor


def same_dtype(a: Tensor, b: Tensor) -> tuple[Any, Any]:
    """Convert the narrower of two float tensors to the other's dtype."""
    dtype = np.result_type(a.dtype, b.dtype)
    return a.tape.cast(a, dtype, False), b.tape.cast(b, dtype, False)


def solution(name: str, a: Any, b: Any, **parameters: Any) -> Any:
    """Record an op that solves a x = b: vectors become columns, stacks are broadcast against each other."""
    a, b = same_dtype(a, b)
    vector = b.ndim == 1
    if vector:
        b = b[:, None]
    if b.ndim == 0 or a.shape[-1] != b.shape[-2]:
        raise TapeadValueError(
            f"{name}: the operands do not fit each other (shapes {a.shape} and {b.shape}), at {here()}"
        )
    try:
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError as error:
        raise TapeadValueError(f"{name}: {error} (shapes {a.shape} and {b.shape}), at {here()}") from error
    operands = [x if x.shape[:-2] == stack else np.broadcast_to(x, stack + x.shape[-2:]) for x in (a, b)]
    x = record(name, *operands, **parameters)
    x = x[0] if isinstance(x, tuple) else x
    return x[..., 0] if vector else x


# ---- solutions, inverses, determinants, factors --------------------------------------------------------


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    """Solve a x = b."""
    recording = recording_of(a, b)
    return solution("solve", square(a, recording), floating(b, recording))


@implements(np.linalg.inv)
def inv(a: Any) -> Any:
    """Invert matrices."""
    a = square(a)
    return solution("solve", a, as_tensor(np.eye(a.shape[-1], dtype=a.dtype), a.tape))


@implements(np.linalg.det)
def det(a: Any) -> Tensor:
    """Give determinants."""
    return record("det", square(a))[0]  # type: ignore[no-any-return]


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    """Give signs and logarithms of absolute determinants; through the signs no derivative flows."""
    log, sign, *_ = record("slogdet", square(a))
    return SlogdetResult(sign.tape.elementwise(OPS["stop"], (sign,)), log)


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Tensor:
    """Give Cholesky's factors. What is read is one triangle, so the other one's derivative is zero."""
    a = square(a)
    return record("cholesky", a.mT).mT if upper else record("cholesky", a)  # type: ignore[no-any-return]


# ---- norms ---------------------------------------------------------------------------------------------


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Give norms of vectors, and of matrices without singular values. At zero the derivative is zero."""
    original, x = x, floating(x)
    if axis is None and (ord is None or (ord in ("f", "fro") and x.ndim == 2)):
        return root_of_squares(x, None, keepdims)
    try:
        axes = axes_of(axis, x.ndim)
    except TypeError as error:
        raise TapeadTypeError(f"'axis' must be None, an integer or a tuple of integers, at {here()}") from error
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) != 2:
        raise TapeadValueError(f"Improper number of dimensions to norm, at {here()}")
    if ord in (2, -2, "nuc"):  # singular values
        return x.tape.foreign(np.linalg.norm, (original, ord, axis, keepdims), {})
    return _matrix_norm(x, ord, axes, keepdims)


def root_of_squares(x: Any, axes: Any, keepdims: bool) -> Any:
    """Give the square root of a sum of squares, whose derivative at zero is zero."""
    return record("norm_root", np.sum(np.square(x), axis=axes, keepdims=keepdims))


def _vector_norm(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if ord is None or ord == 2:
        return root_of_squares(x, axes, keepdims)
    if isinstance(ord, str):
        raise TapeadValueError(f"Invalid norm order '{ord}' for vectors, at {here()}")
    if ord == 0:
        return np.sum((x != 0).astype(x.dtype), axis=axes, keepdims=keepdims)
    size = np.abs(x)
    if ord == 1 or (ord == np.inf and x.size == 0):
        return np.sum(size, axis=axes, keepdims=keepdims)
    if ord in (np.inf, -np.inf):
        return (np.max if ord > 0 else np.min)(size, axis=axes, keepdims=keepdims)
    number = x.dtype.type
    total = np.sum(size ** number(ord), axis=axes, keepdims=keepdims)
    null = total == 0  # there the root has no derivative; by convention the norm's is 0
    return np.where(null, number(0), np.where(null, number(1), total) ** (number(1) / number(ord)))


def _matrix_norm(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if ord in (None, "f", "fro"):
        return root_of_squares(x, axes, keepdims)
    if ord not in (1, -1, np.inf, -np.inf):
        raise TapeadValueError(f"Invalid norm order for matrices, at {here()}")
    summed, compared = axes if abs(ord) == 1 else axes[::-1]
    total = np.sum(np.abs(x), axis=summed, keepdims=True)
    if ord > 0 and x.size == 0:
        largest = np.sum(total, axis=compared, keepdims=True)
    else:
        largest = (np.max if ord > 0 else np.min)(total, axis=compared, keepdims=True)
    return largest if keepdims else np.squeeze(largest, axis=axes)


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Give norms of vectors that lie along any number of axes."""
    x = floating(x)
    if axis is None or isinstance(axis, tuple):
        axes = axes_of(axis, x.ndim)
        rest = tuple(i for i in range(x.ndim) if i not in axes)
        flat = np.reshape(np.transpose(x, rest + axes), (*(x.shape[i] for i in rest), -1))
        result = _vector_norm(flat, ord, (len(rest),), False)
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        return np.reshape(result, shape) if keepdims else result
    return norm(x, ord, axis, keepdims)


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Give norms of the matrices that lie along the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)


# ---- products of several matrices, traces --------------------------------------------------------------


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """Multiply several matrices in the cheapest order."""
    refuse("linalg.multi_dot", out=out)
    if len(arrays) < 2:
        raise TapeadValueError(f"Expecting at least two arrays, at {here()}")
    if len(arrays) == 2:
        return np.dot(*arrays)
    recording = recording_of(arrays)
    tensors = [as_tensor(a, recording) for a in arrays]
    for k, x in enumerate(tensors):
        if x.ndim != 2 and not (x.ndim == 1 and k in (0, len(tensors) - 1)):
            raise TapeadLinAlgError(f"{x.ndim}-dimensional array given. Array must be two-dimensional, at {here()}")
    sizes = [1 if tensors[0].ndim == 1 else tensors[0].shape[0], *(x.shape[-1] for x in tensors)]
    if tensors[-1].ndim == 1:
        sizes[-2:] = [tensors[-1].shape[0], 1]
    split = cheapest_order(sizes)

    def product(first: int, last: int) -> Any:
        if first == last:
            return tensors[first]
        middle = split[first, last]
        return np.matmul(product(first, middle), product(middle + 1, last))

    return product(0, len(tensors) - 1)


def cheapest_order(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Find where to split each product of matrices first..last, matrix i being (sizes[i], sizes[i + 1])."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    split = {}
    for length in range(1, count):
        for first in range(count - length):
            last = first + length
            cost[first, last], split[first, last] = min(
                (cost[first, k] + cost[k + 1, last] + sizes[first] * sizes[k + 1] * sizes[last + 1], k)
                for k in range(first, last)
            )
    return split


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    """Raise matrices to an integer power by repeated squaring."""
    tensor: Any = as_tensor(a)
    try:
        n = operator.index(n)
    except TypeError as error:
        raise TapeadTypeError(f"exponent must be an integer, at {here()}") from error
    if tensor.ndim < 2 or tensor.shape[-1] != tensor.shape[-2]:
        square(tensor)
    if n == 0:
        ones = np.broadcast_to(np.eye(tensor.shape[-1], dtype=tensor.dtype), tensor.shape)
        return as_tensor(ones, tensor.tape)
    result: Any
    power, n, result = inv(tensor) if n < 0 else tensor, abs(n), None
    while True:
        n, odd = divmod(n, 2)
        if odd:
            result = power if result is None else np.matmul(result, power)
        if n == 0:
            return result
        power = np.matmul(power, power)


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    """Sum diagonals."""
    refuse("trace", out=out)
    return np.sum(np.diagonal(as_tensor(a), offset, axis1, axis2), axis=-1, dtype=dtype)


@implements(np.linalg.trace)
def matrix_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """Sum the diagonals of the matrices that lie along the last two axes."""
    return trace(x, offset, -2, -1, dtype)
