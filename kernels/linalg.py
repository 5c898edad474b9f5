"""Linear algebra on square matrices through LAPACK, batched over leading axes; operands are row-major.

Factors are results beside the value, kept for the reverse sweep: `lu` holds (LU)ᵀ of a = P L U (so U is its
lower triangle, L its upper one, with ones on the diagonal), `pivots` the row swaps that make P. Where an op
has several results, the derivative flows through the first.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blas import gemm, getrf, potrf, trmm, trsm
from .constants import F8, NOT_POSITIVE, SCRATCH, SINGULAR, STATUS
from .jit import kernel, summing_kernel
from .op import Layout, Sample, structural
from .pointers import address_of, as_f4, as_f8, as_i8, shifted

GROUP = "linalg"


def matrix_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give the buffers, the number of matrices, their order and, where there are any, the others' columns."""
    *batch, m, _ = operands[0].shape
    columns = [operands[1].shape[-1]] if len(operands) > 1 else []
    return [layout.buffer for layout in (*operands, *results)] + [math.prod(batch), m, *columns]


def matrix_bytes(operands: Sequence[Layout], results: Sequence[Layout]) -> int:
    """Give the bytes of one square matrix and a row more."""
    m = operands[0].shape[-1]
    return 8 * m * (m + 1)


def factor_bytes(operands: Sequence[Layout], results: Sequence[Layout]) -> int:
    """Give the bytes of one square matrix and one block of it."""
    m = operands[0].shape[-1]
    return 8 * (m * m + min(m, BLOCK) ** 2)


def columns_bytes(operands: Sequence[Layout], results: Sequence[Layout]) -> int:
    """Give the bytes of one matrix of right-hand sides."""
    return 8 * operands[1].shape[-2] * operands[1].shape[-1]


def regular(rng: np.random.Generator, *shape: int) -> Any:
    """Draw square matrices that are far from singular."""
    return rng.uniform(-1.0, 1.0, shape) + np.diag(np.resize([3.0, -3.0], shape[-1]))


def transposed(x: Any) -> Any:
    """Swap the last two axes."""
    return np.swapaxes(x, -1, -2)


def stacked(name: str) -> Callable[..., Any]:
    """Make the rule for the columns of an op on matrices: they are one more axis of the stack."""

    def columns(record: Any, parameters: dict[str, Any], operands: Any) -> Any:
        return record(name, *(x.columns for x in operands), **parameters)

    return columns


def side_by_side(name: str) -> Callable[..., Any]:
    """Make the rule for the columns of right-hand sides: those of one matrix that is the same in each stand side by side."""

    def columns(record: Any, parameters: dict[str, Any], operands: Any) -> Any:
        a, b = operands
        if a.held or len(a.shape) > 2:
            return record(name, a.columns, b.columns, **parameters)
        count, rows, n = b.columns.shape
        sides = np.reshape(np.moveaxis(b.columns, 0, 1), (rows, count * n))
        made = record(name, a.value, sides, **parameters)
        x, *factors = made if isinstance(made, tuple) else (made,)
        x = np.moveaxis(np.reshape(x, (rows, count, n)), 1, 0)
        return x, *(np.broadcast_to(f, (count, *f.shape)) for f in factors)

    return columns


@kernel
def _failed(services, status, info, batch):  # type: ignore[no-untyped-def]
    words = as_i8(services[STATUS])
    words[0], words[1] = info, batch
    return status


# ---- cholesky ----------------------------------------------------------------------------------------------

#: rows of a factor that the reverse sweep takes at a time
BLOCK = 64


@kernel
def _cholesky(services, number, a, z, batches, m):  # type: ignore[no-untyped-def]
    for s in range(batches):
        for i in range(m):
            for j in range(m):
                z[i * m + j] = a[i * m + j] if j <= i else 0
        info = potrf(services, number, m, address_of(z))
        if info != 0:
            return _failed(services, NOT_POSITIVE, info, s)
        a, z = shifted(a, m * m), shifted(z, m * m)
    return 0


@kernel
def _cholesky_block(services, number, z, work, m, size, s):  # type: ignore[no-untyped-def]
    """Turn a diagonal block of adjoints from L̄ to lower ā; leave in s the symmetric T = S + Sᵀ that ā is half of.

    S = L⁻ᵀ P L⁻¹, P the lower triangle of Lᵀ L̄ with its diagonal halved.
    """
    block, factor = address_of(s), address_of(z)
    for i in range(size):
        for j in range(size):
            s[i * size + j] = work[i * m + j] if j <= i else 0
    trmm(services, number, size, size, factor, m, block, size, False, True, True, False)
    for i in range(size):
        s[i * size + i] /= 2
        for j in range(i + 1, size):
            s[i * size + j] = 0
    trsm(services, number, size, size, factor, m, block, size, False, True, True, False)
    trsm(services, number, size, size, factor, m, block, size, True, True, False, False)
    for i in range(size):
        work[i * m + i] = s[i * size + i]
        for j in range(i + 1):
            both = s[i * size + j] + s[j * size + i]
            s[i * size + j] = s[j * size + i] = both
            if j < i:
                work[i * m + j] = both


@kernel
def _cholesky_reverse(services, number, z, dz, da, batches, m, work):  # type: ignore[no-untyped-def]
    """Go back through the factorisation by blocks: of a block row [R D] and what lies below it, [B C].

    Forward, D Dᵀ was D - R Rᵀ, and C was (C - B Rᵀ) D⁻ᵀ. All that is large is a product by BLAS.
    """
    s, item = shifted(work, m * m), 8 if number == F8 else 4
    block, factors, slopes = address_of(s), address_of(z), address_of(work)
    for _ in range(batches):
        for i in range(m):
            for j in range(m):
                work[i * m + j] = dz[i * m + j] if j <= i else 0
        end = m
        while end > 0:
            start = max(end - BLOCK, 0)
            size, below = end - start, m - end
            at_r, at_d = item * start * m, item * (start * m + start)
            at_b, at_c = item * end * m, item * (end * m + start)
            c, dc = factors + at_c, slopes + at_c
            if below:
                trsm(services, number, below, size, factors + at_d, m, dc, m, True, True, False, False)
                gemm(services, number, size, size, below, dc, 1, m, c, m, 1, 1.0, slopes + at_d, m, -1.0)
            _cholesky_block(
                services, number, shifted(z, start * m + start), shifted(work, start * m + start), m, size, s
            )
            if start:
                r, dr = factors + at_r, slopes + at_r
                gemm(services, number, size, start, size, block, size, 1, r, m, 1, 1.0, dr, m, -1.0)
                if below:
                    gemm(services, number, size, start, below, dc, 1, m, factors + at_b, m, 1, 1.0, dr, m, -1.0)
                    gemm(services, number, below, start, size, dc, m, 1, r, m, 1, 1.0, slopes + at_b, m, -1.0)
            end = start
        for i in range(m):
            for j in range(i + 1):
                da[i * m + j] += work[i * m + j]
        z, dz, da = shifted(z, m * m), shifted(dz, m * m), shifted(da, m * m)
        factors = address_of(z)


@kernel
def cholesky_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    a, z = values[p[2]], values[p[3]]
    if p[5] == 0:
        return 0
    if p[1] == F8:
        return _cholesky(services, p[1], as_f8(a), as_f8(z), p[4], p[5])
    return _cholesky(services, p[1], as_f4(a), as_f4(z), p[4], p[5])


@kernel
def cholesky_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    z, dz, da, work = values[p[3]], adjoints[p[3]], adjoints[p[2]], services[SCRATCH]
    if p[5] == 0:
        return 0
    if p[1] == F8:
        _cholesky_reverse(services, p[1], as_f8(z), as_f8(dz), as_f8(da), p[4], p[5], as_f8(work))
    else:
        _cholesky_reverse(services, p[1], as_f4(z), as_f4(dz), as_f4(da), p[4], p[5], as_f4(work))
    return 0


def cholesky_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """Give only the lower triangle an adjoint: the upper one is never read."""
    factor = results[0]
    m = factor.shape[-1]
    halved = np.ones((m, m), factor.dtype) - np.eye(m, dtype=factor.dtype) / 2
    p = np.tril(np.matmul(transposed(factor), np.tril(d))) * halved
    way = {"lower": True, "transposed": True, "unit": False}
    half = record("solve_triangular", factor, p, **way)
    s = record("solve_triangular", factor, transposed(half), **way)  # Sᵀ, but S + Sᵀ is all that counts
    return (np.tril(s + transposed(s)) * halved,)


def cholesky_samples(rng: np.random.Generator) -> list[Sample]:
    """Draw positive definite matrices."""
    drawn: list[Sample] = []
    for shape in ((3, 3), (2, 4, 4), (1, 1), (0, 0), (0, 2, 2)):
        x = rng.uniform(-1.0, 1.0, shape)
        drawn.append(((x @ transposed(x) + shape[-1] * np.eye(shape[-1]),), {}))
    return drawn


structural(
    "cholesky",
    numpy=np.linalg.cholesky,
    arity=1,
    doc="lower factor L of a = L Lᵀ; reads, and gives adjoints to, the lower triangle only",
    group=GROUP,
    forward=cholesky_forward,
    reverse=cholesky_reverse,
    active=(0,),
    rule=cholesky_rule,
    columns=stacked("cholesky"),
    words=matrix_words,
    scratch=factor_bytes,
    checks=True,
    adjoints=("tril(S + Sᵀ), S = {z}⁻ᵀ tril({z}ᵀ {d}) {z}⁻¹, diagonals halved",),
    samples=cholesky_samples,
)

# ---- solve_triangular --------------------------------------------------------------------------------------
# p: kernel, class, a, b, z, batches, m, n, lower, transposed, unit

#: rows of a triangle whose adjoint is added at a time
PANEL = 32


@kernel
def _solve_triangular(services, number, a, b, z, batches, m, n, way):  # type: ignore[no-untyped-def]
    for s in range(batches):
        for i in range(0 if way[2] else m):
            if a[i * m + i] == 0:
                return _failed(services, SINGULAR, i + 1, s)
        for i in range(m * n):
            z[i] = b[i]
        trsm(services, number, m, n, address_of(a), m, address_of(z), n, False, way[0] != 0, way[1] != 0, way[2] != 0)
        a, b, z = shifted(a, m * m), shifted(b, m * n), shifted(z, m * n)
    return 0


@summing_kernel
def _dot(x, y, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(n):
        total += x[k] * y[k]
    return total


@kernel
def _subtract_triangle(services, number, da, g, x, m, n, lower, unit):  # type: ignore[no-untyped-def]
    """Subtract g xᵀ from one triangle of da, by panels: the diagonal block by hand, the rest by BLAS."""
    for i in range(0, m, PANEL):
        end = min(i + PANEL, m)
        first, columns = (0, i) if lower else (end, m - end)
        if columns:
            c = address_of(shifted(da, i * m + first))
            panel, others = address_of(shifted(g, i * n)), address_of(shifted(x, first * n))
            gemm(services, number, end - i, columns, n, panel, n, 1, others, 1, n, 1.0, c, m, -1.0)
        for row in range(i, end):
            for column in range(i if lower else row, row + 1 if lower else end):
                if unit and row == column:
                    continue
                da[row * m + column] -= _dot(shifted(g, row * n), shifted(x, column * n), n)


@kernel
def _solve_triangular_reverse(services, number, a, z, dz, da, db, batches, m, n, way, g):  # type: ignore[no-untyped-def]
    lower, back, unit = way[0] != 0, way[1] != 0, way[2] != 0
    for _ in range(batches):
        for i in range(m * n):
            g[i] = dz[i]
        trsm(services, number, m, n, address_of(a), m, address_of(g), n, False, lower, not back, unit)
        if address_of(db) != 0:
            for i in range(m * n):
                db[i] += g[i]
            db = shifted(db, m * n)
        if address_of(da) != 0:
            if back:
                _subtract_triangle(services, number, da, z, g, m, n, lower, unit)
            else:
                _subtract_triangle(services, number, da, g, z, m, n, lower, unit)
            da = shifted(da, m * m)
        a, z, dz = shifted(a, m * m), shifted(z, m * n), shifted(dz, m * n)


@kernel
def solve_triangular_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    a, b, z, batches, m, n, way = values[p[2]], values[p[3]], values[p[4]], p[5], p[6], p[7], shifted(p, 8)
    if m * n == 0:
        return 0
    if p[1] == F8:
        return _solve_triangular(services, p[1], as_f8(a), as_f8(b), as_f8(z), batches, m, n, way)
    return _solve_triangular(services, p[1], as_f4(a), as_f4(b), as_f4(z), batches, m, n, way)


@kernel
def solve_triangular_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    number, batches, m, n, way, work = p[1], p[5], p[6], p[7], shifted(p, 8), services[SCRATCH]
    a, z, dz, da, db = values[p[2]], values[p[4]], adjoints[p[4]], adjoints[p[2]], adjoints[p[3]]
    if m * n == 0:
        return 0
    if number == F8:
        _solve_triangular_reverse(
            services,
            number,
            as_f8(a),
            as_f8(z),
            as_f8(dz),
            as_f8(da),
            as_f8(db),
            batches,
            m,
            n,
            way,
            as_f8(work),
        )
    else:
        _solve_triangular_reverse(
            services,
            number,
            as_f4(a),
            as_f4(z),
            as_f4(dz),
            as_f4(da),
            as_f4(db),
            batches,
            m,
            n,
            way,
            as_f4(work),
        )
    return 0


def solve_triangular_words(
    operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]
) -> list[int]:
    """Give buffers, sizes and the way to solve."""
    way = [int(parameters[name]) for name in ("lower", "transposed", "unit")]
    return matrix_words(operands, results, parameters) + way


def solve_triangular(a: Any, b: Any, lower: bool, transposed: bool, unit: bool) -> Any:
    """Solve op(a) x = b for triangular matrices a."""
    from scipy.linalg import solve_triangular as solve

    z = np.empty_like(b, order="C")
    for s in np.ndindex(a.shape[:-2]) if z.size else ():
        z[s] = solve(a[s], b[s], trans=int(transposed), lower=lower, unit_diagonal=unit, check_finite=False)
    return z


def solve_triangular_rule(
    record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any
) -> tuple[Any, ...]:
    """b̄ = op(a)⁻ᵀ z̄; ā = -b̄ zᵀ on the triangle that is read (transposed, if a is)."""
    lower, back, unit = parameters["lower"], parameters["transposed"], parameters["unit"]
    g = record("solve_triangular", operands[0], d, lower=lower, transposed=not back, unit=unit)
    product = np.matmul(results[0], transposed(g)) if back else np.matmul(g, transposed(results[0]))
    return -(np.tril(product, -int(unit)) if lower else np.triu(product, int(unit))), g


def solve_triangular_samples(rng: np.random.Generator) -> list[Sample]:
    """Draw systems for every way to solve them; what lies in the other triangle must not matter."""
    drawn: list[Sample] = []
    shapes = [
        ((3, 3), (3, 2)),
        ((2, 2, 2), (2, 2, 1)),
        ((0, 0), (0, 2)),
        ((2, 2), (2, 0)),
        ((0, 2, 2), (0, 2, 1)),
    ]
    for k in range(8):
        way = {"lower": k & 1 == 0, "transposed": k & 2 != 0, "unit": k & 4 != 0}
        drawn += [((regular(rng, *a), rng.uniform(-2, 2, b)), way) for a, b in shapes[: 2 if k else None]]
    return drawn


structural(
    "solve_triangular",
    numpy=solve_triangular,
    arity=2,
    doc="solution of op(a) x = b for triangular a; reads, and gives adjoints to, one triangle only",
    group=GROUP,
    forward=solve_triangular_forward,
    reverse=solve_triangular_reverse,
    active=(0, 1),
    rule=solve_triangular_rule,
    columns=side_by_side("solve_triangular"),
    words=solve_triangular_words,
    scratch=columns_bytes,
    checks=True,
    adjoints=("-({x}⁻ᵀ {d}) {z}ᵀ, its triangle", "{x}⁻ᵀ {d}"),
    samples=solve_triangular_samples,
)

# ---- solve -------------------------------------------------------------------------------------------------
# p: kernel, class, a, b, x, lu, pivots, batches, m, n


@kernel
def _factor(services, number, a, lu, pivots, m):  # type: ignore[no-untyped-def]
    for i in range(m):
        for j in range(m):
            lu[j * m + i] = a[i * m + j]
    return getrf(services, number, m, address_of(lu), address_of(pivots))


@kernel
def _swap_rows(b, pivots, m, n, back):  # type: ignore[no-untyped-def]
    for k in range(m):
        i = m - 1 - k if back else k
        j = pivots[i]
        if i != j:
            for c in range(n):
                b[i * n + c], b[j * n + c] = b[j * n + c], b[i * n + c]


@kernel
def _divide(services, number, lu, pivots, b, m, n):  # type: ignore[no-untyped-def]
    """b = a⁻¹ b = U⁻¹ L⁻¹ Pᵀ b."""
    _swap_rows(b, pivots, m, n, False)
    trsm(services, number, m, n, address_of(lu), m, address_of(b), n, False, False, True, True)
    trsm(services, number, m, n, address_of(lu), m, address_of(b), n, False, True, True, False)


@kernel
def _divide_lower(services, number, lu, pivots, b, m, n):  # type: ignore[no-untyped-def]
    """b = P L⁻ᵀ b: what remains of a⁻ᵀ b = P L⁻ᵀ U⁻ᵀ b after U."""
    trsm(services, number, m, n, address_of(lu), m, address_of(b), n, False, False, False, True)
    _swap_rows(b, pivots, m, n, True)


@kernel
def _divide_upper(services, number, lu, b, m, n):  # type: ignore[no-untyped-def]
    """b = U⁻ᵀ b."""
    trsm(services, number, m, n, address_of(lu), m, address_of(b), n, False, True, False, False)


@kernel
def _solve(services, number, a, b, x, lu, pivots, batches, m, n):  # type: ignore[no-untyped-def]
    for s in range(batches):
        info = _factor(services, number, a, lu, pivots, m)
        if info != 0:
            return _failed(services, SINGULAR, info, s)
        for i in range(m * n):
            x[i] = b[i]
        if n:
            _divide(services, number, lu, pivots, x, m, n)
        a, b, x = shifted(a, m * m), shifted(b, m * n), shifted(x, m * n)
        lu, pivots = shifted(lu, m * m), shifted(pivots, m)
    return 0


@kernel
def _solve_reverse(services, number, x, lu, pivots, dx, da, db, batches, m, n, g):  # type: ignore[no-untyped-def]
    for _ in range(batches):
        for i in range(m * n):
            g[i] = dx[i]
        _divide_upper(services, number, lu, g, m, n)
        _divide_lower(services, number, lu, pivots, g, m, n)
        if address_of(db) != 0:
            for i in range(m * n):
                db[i] += g[i]
            db = shifted(db, m * n)
        if address_of(da) != 0:
            gemm(
                services,
                number,
                m,
                m,
                n,
                address_of(g),
                n,
                1,
                address_of(x),
                1,
                n,
                1.0,
                address_of(da),
                m,
                -1.0,
            )
            da = shifted(da, m * m)
        x, dx, lu, pivots = shifted(x, m * n), shifted(dx, m * n), shifted(lu, m * m), shifted(pivots, m)


@kernel
def solve_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    a, b, x, lu, pivots = values[p[2]], values[p[3]], values[p[4]], values[p[5]], as_i8(values[p[6]])
    if p[8] == 0:
        return 0
    if p[1] == F8:
        return _solve(services, p[1], as_f8(a), as_f8(b), as_f8(x), as_f8(lu), pivots, p[7], p[8], p[9])
    return _solve(services, p[1], as_f4(a), as_f4(b), as_f4(x), as_f4(lu), pivots, p[7], p[8], p[9])


@kernel
def solve_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    number, batches, m, n, work = p[1], p[7], p[8], p[9], services[SCRATCH]
    x, lu, pivots = values[p[4]], values[p[5]], as_i8(values[p[6]])
    dx, da, db = adjoints[p[4]], adjoints[p[2]], adjoints[p[3]]
    if m * n == 0:
        return 0
    if number == F8:
        _solve_reverse(
            services,
            number,
            as_f8(x),
            as_f8(lu),
            pivots,
            as_f8(dx),
            as_f8(da),
            as_f8(db),
            batches,
            m,
            n,
            as_f8(work),
        )
    else:
        _solve_reverse(
            services,
            number,
            as_f4(x),
            as_f4(lu),
            pivots,
            as_f4(dx),
            as_f4(da),
            as_f4(db),
            batches,
            m,
            n,
            as_f4(work),
        )
    return 0


def factors(a: Any) -> tuple[Any, Any]:
    """Factor matrices a = P L U; give (LU)ᵀ and the row swaps, counted from 0."""
    from scipy.linalg import get_lapack_funcs

    (factor,) = get_lapack_funcs(("getrf",), (a,))
    lu, pivots = np.empty_like(a, order="C"), np.empty(a.shape[:-1], np.int64)
    for s in np.ndindex(a.shape[:-2]) if a.size else ():
        together, pivots[s], _ = factor(a[s])
        lu[s] = together.T
    return lu, pivots


def solve_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """b̄ = a⁻ᵀ x̄; ā = -b̄ xᵀ."""
    g = record("solve", transposed(operands[0]), d[0])[0]
    return -np.matmul(g, transposed(results[0])), g


def solve_samples(rng: np.random.Generator) -> list[Sample]:
    """Draw systems that need row swaps, batches of them, and empty ones."""
    shapes = [((3, 3), (3, 2)), ((2, 4, 4), (2, 4, 1)), ((1, 1), (1, 1)), ((0, 0), (0, 2)), ((2, 2), (2, 0))]
    drawn: list[Sample] = [((regular(rng, *a)[..., ::-1].copy(), rng.uniform(-2, 2, b)), {}) for a, b in shapes]
    return [*drawn, ((np.zeros((0, 2, 2)), np.zeros((0, 2, 1))), {})]


structural(
    "solve",
    numpy=lambda a, b: (np.linalg.solve(a, b), *factors(a)),
    arity=2,
    doc="solution of a x = b for matrices a and b",
    group=GROUP,
    forward=solve_forward,
    reverse=solve_reverse,
    active=(0, 1),
    rule=solve_rule,
    columns=side_by_side("solve"),
    words=matrix_words,
    scratch=columns_bytes,
    checks=True,
    formula="solve({x}, {y})",
    adjoints=("-({x}⁻ᵀ {d}) {z}ᵀ", "{x}⁻ᵀ {d}"),
    samples=solve_samples,
)

# ---- slogdet and det ---------------------------------------------------------------------------------------
# p: kernel, class, a, z, sign, lu, pivots, batches, m, whether z is the logarithm


@kernel
def _determinant(services, number, a, z, sign, lu, pivots, batches, m, is_log):  # type: ignore[no-untyped-def]
    for s in range(batches):
        info = _factor(services, number, a, lu, pivots, m)
        sign[s], z[s] = _parity(pivots, m), 0
        for i in range(m):
            u = lu[i * m + i]
            if u < 0:
                sign[s] = -sign[s]
            z[s] += np.log(abs(u))
        if info != 0:
            sign[s], z[s] = 0, -np.inf
        if not is_log:
            z[s] = sign[s] * np.exp(z[s])
        a, lu, pivots = shifted(a, m * m), shifted(lu, m * m), shifted(pivots, m)


@kernel
def _parity(pivots, m):  # type: ignore[no-untyped-def]
    """Give the determinant of P: -1 for an odd number of swaps."""
    sign = 1
    for i in range(m):
        if pivots[i] != i:
            sign = -sign
    return sign


@kernel
def _cofactors_of_upper(c, lu, d, m, row):  # type: ignore[no-untyped-def]
    """c = d times the cofactors of U, by products and sums alone: right where U is singular.

    A cofactor (i, j) is minus the sum over k of cofactor (i, k) times U[k, j] times the pivots between k and
    j; row[k] is the first of them times the last.
    """
    for i in range(m):
        for j in range(i):
            c[j * m + i] = 0
        c[i * m + i] = row[i] = d
        for j in range(i + 1, m):
            total, u = -row[i] * lu[j * m + i], lu[j * m + j]
            row[i] *= u
            for k in range(i + 1, j):
                total -= row[k] * lu[j * m + k]
                row[k] *= u
            c[j * m + i] = row[j] = total
        d *= lu[i * m + i]
    below = lu[0] * 0 + 1
    for j in range(m - 1, -1, -1):
        for i in range(j + 1):
            c[j * m + i] *= below
        below *= lu[j * m + j]


@kernel
def _determinant_reverse(services, number, z, dz, lu, pivots, da, batches, m, is_log, c):  # type: ignore[no-untyped-def]
    """ā += d a⁻ᵀ, d the adjoint of the logarithm, or that of the determinant times the determinant."""
    for s in range(batches):
        if dz[s] != 0:
            if is_log or 1e-30 < abs(z[s]) < 1e30:
                for i in range(m * m):
                    c[i] = 0
                for i in range(m):
                    c[i * m + i] = dz[s] if is_log else dz[s] * z[s]
                _divide_upper(services, number, lu, c, m, m)
            else:
                _cofactors_of_upper(c, lu, dz[s] * _parity(pivots, m), m, shifted(c, m * m))
            _divide_lower(services, number, lu, pivots, c, m, m)
            for i in range(m * m):
                da[i] += c[i]
        da, lu, pivots = shifted(da, m * m), shifted(lu, m * m), shifted(pivots, m)


@kernel
def determinant_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    a, z, sign, lu, pivots = values[p[2]], values[p[3]], values[p[4]], values[p[5]], as_i8(values[p[6]])
    if p[1] == F8:
        _determinant(services, p[1], as_f8(a), as_f8(z), as_f8(sign), as_f8(lu), pivots, p[7], p[8], p[9])
    else:
        _determinant(services, p[1], as_f4(a), as_f4(z), as_f4(sign), as_f4(lu), pivots, p[7], p[8], p[9])
    return 0


@kernel
def determinant_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    number, batches, m, is_log, work = p[1], p[7], p[8], p[9], services[SCRATCH]
    z, dz, lu, pivots, da = values[p[3]], adjoints[p[3]], values[p[5]], as_i8(values[p[6]]), adjoints[p[2]]
    if m == 0:
        return 0
    if number == F8:
        _determinant_reverse(
            services,
            number,
            as_f8(z),
            as_f8(dz),
            as_f8(lu),
            pivots,
            as_f8(da),
            batches,
            m,
            is_log,
            as_f8(work),
        )
    else:
        _determinant_reverse(
            services,
            number,
            as_f4(z),
            as_f4(dz),
            as_f4(lu),
            pivots,
            as_f4(da),
            batches,
            m,
            is_log,
            as_f4(work),
        )
    return 0


def slogdet_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give buffers and sizes; the result is the logarithm."""
    return [*matrix_words(operands, results, parameters), 1]


def det_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give buffers and sizes; the result is the determinant itself."""
    return [*matrix_words(operands, results, parameters), 0]


def slogdet(a: Any) -> tuple[Any, ...]:
    """Give the logarithm of the absolute determinant, its sign, and the factors."""
    sign, log = np.linalg.slogdet(a)
    return log, sign, *factors(a)


def det(a: Any) -> tuple[Any, ...]:
    """Give the determinant, its sign, and the factors."""
    return np.linalg.det(a), np.linalg.slogdet(a)[0], *factors(a)


def inverse_transposed(record: Any, a: Any) -> Any:
    """Give a⁻ᵀ on the tape."""
    return transposed(record("solve", a, np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape))[0])


def slogdet_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """ā = d a⁻ᵀ."""
    return (d[0][..., None, None] * inverse_transposed(record, operands[0]),)


def det_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """ā = d det(a) a⁻ᵀ; unlike the reverse sweep, this cannot do with a singular matrix (and says so)."""
    return ((d[0] * results[0])[..., None, None] * inverse_transposed(record, operands[0]),)


def determinant_samples(rng: np.random.Generator) -> list[Sample]:
    """Draw regular matrices of either sign."""
    shapes = [(3, 3), (2, 4, 4), (3, 1, 1), (0, 0), (2, 0, 0), (0, 2, 2)]
    return [((regular(rng, *shape)[..., ::-1].copy(),), {}) for shape in shapes]


structural(
    "slogdet",
    numpy=slogdet,
    arity=1,
    doc="logarithm of the absolute determinant, and the determinant's sign",
    group=GROUP,
    forward=determinant_forward,
    reverse=determinant_reverse,
    active=(0,),
    rule=slogdet_rule,
    columns=stacked("slogdet"),
    words=slogdet_words,
    scratch=matrix_bytes,
    adjoints=("{d} {x}⁻ᵀ",),
    samples=determinant_samples,
)

structural(
    "det",
    numpy=det,
    arity=1,
    doc="determinant; the adjoint is right for singular matrices too",
    group=GROUP,
    forward=determinant_forward,
    reverse=determinant_reverse,
    active=(0,),
    rule=det_rule,
    columns=stacked("det"),
    words=det_words,
    scratch=matrix_bytes,
    adjoints=("{d} times the cofactors of {x}",),
    samples=determinant_samples,
)
