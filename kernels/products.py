"""Matrix products: one BLAS call each in the forward sweep, one an operand in the reverse sweep, without temporaries."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .blas import gemm
from .constants import F8, INDEX
from .jit import kernel
from .op import Layout, Sample, structural
from .pointers import as_f4, as_f8, as_i8, shifted
from .strided import seek

GROUP = "products"

# p: kernel, class, a, b, z, m, k, n, item bytes, strides (row, column) of a, of b, row stride of z, batches,
# batch axes, batch shape, batch strides of a, of b, of z


@kernel
def _clear(address, number, rows, columns, row):  # type: ignore[no-untyped-def]
    for i in range(rows):
        for j in range(columns):
            if number == F8:
                as_f8(address)[i * row + j] = 0.0
            else:
                as_f4(address)[i * row + j] = 0.0


@kernel
def _product(p, number, a, b, z, services):  # type: ignore[no-untyped-def]
    m, k, n = p[5], p[6], p[7]
    if k == 0:
        _clear(z, number, m, n, p[13])
    else:
        gemm(services, number, m, n, k, a, p[9], p[10], b, p[11], p[12], 0.0, z, p[13], 1.0)


@kernel
def _accumulate(services, number, m, n, k, a, a_row, a_column, b, b_row, b_column, c, c_row, c_column):  # type: ignore[no-untyped-def]
    """c += a b, whichever way c lies."""
    if c_column == 1 or n == 1:
        gemm(services, number, m, n, k, a, a_row, a_column, b, b_row, b_column, 1.0, c, c_row, 1.0)
    else:
        gemm(services, number, n, m, k, b, b_column, b_row, a, a_column, a_row, 1.0, c, c_column, 1.0)


@kernel
def matmul_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    number, item, batches, ndim, index = p[1], p[8], p[14], p[15], as_i8(services[INDEX])
    a, b, z = values[p[2]], values[p[3]], values[p[4]]
    if p[5] * p[7] == 0:
        return 0
    shape = shifted(p, 16)
    for s in range(batches):
        a_off = seek(ndim, shape, shifted(p, 16 + ndim), s, index)
        b_off = seek(ndim, shape, shifted(p, 16 + 2 * ndim), s, index)
        z_off = seek(ndim, shape, shifted(p, 16 + 3 * ndim), s, index)
        _product(p, number, a + a_off * item, b + b_off * item, z + z_off * item, services)
    return 0


@kernel
def matmul_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    number, item, batches, ndim, index = p[1], p[8], p[14], p[15], as_i8(services[INDEX])
    m, k, n = p[5], p[6], p[7]
    if m * k * n == 0:
        return 0
    shape = shifted(p, 16)
    for s in range(batches):
        a_off = item * seek(ndim, shape, shifted(p, 16 + ndim), s, index)
        b_off = item * seek(ndim, shape, shifted(p, 16 + 2 * ndim), s, index)
        dz = adjoints[p[4]] + item * seek(ndim, shape, shifted(p, 16 + 3 * ndim), s, index)
        if adjoints[p[2]] != 0:  # Ā += Z̄ Bᵀ
            b, da = values[p[3]] + b_off, adjoints[p[2]] + a_off
            _accumulate(services, number, m, k, n, dz, p[13], 1, b, p[12], p[11], da, p[9], p[10])
        if adjoints[p[3]] != 0:  # B̄ += Aᵀ Z̄
            a, db = values[p[2]] + a_off, adjoints[p[3]] + b_off
            _accumulate(services, number, k, n, m, a, p[10], p[9], dz, p[13], 1, db, p[11], p[12])
    return 0


def matmul_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give buffers, sizes and strides; batch axes are broadcast by strides of 0."""
    a, b, z = *operands, results[0]
    batch = z.shape[:-2]

    def batch_strides(x: Layout) -> list[int]:
        own = [0 if dim == 1 else stride for dim, stride in zip(x.shape[:-2], x.strides[:-2], strict=True)]
        return [0] * (len(batch) - len(own)) + own

    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    words = [a.buffer, b.buffer, z.buffer, m, k, n, 8 if a.number == F8 else 4, *a.strides[-2:], *b.strides[-2:]]
    words += [z.strides[-2], math.prod(batch), len(batch), *batch]
    return words + batch_strides(a) + batch_strides(b) + batch_strides(z)


def matmul_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """Ā = Z̄ Bᵀ, B̄ = Aᵀ Z̄."""
    a, b = operands
    return np.matmul(d, np.swapaxes(b, -1, -2)), np.matmul(np.swapaxes(a, -1, -2), d)


def matmul_samples(rng: np.random.Generator) -> list[Sample]:
    """Draw matrices, batches of them, and broadcast batches."""
    shapes = [((3, 4), (4, 2)), ((2, 3, 4), (2, 4, 2)), ((2, 1, 3, 2), (4, 2, 3)), ((1, 1), (1, 1)), ((2, 0), (0, 3))]
    return [((rng.uniform(-2, 2, a), rng.uniform(-2, 2, b)), {}) for a, b in shapes]


structural(
    "matmul",
    numpy=np.matmul,
    arity=2,
    doc="matrix product, batched and broadcast over leading axes",
    group=GROUP,
    forward=matmul_forward,
    reverse=matmul_reverse,
    active=(0, 1),
    rule=matmul_rule,
    words=matmul_words,
    contiguous=False,
    samples=matmul_samples,
)
