"""Matrix products: BLAS for the large ones, loops of our own for vectors and for what is too small for BLAS.

All three products of a multiplication (z = a b, and on the way back ā += z̄ bᵀ, b̄ += aᵀ z̄) are steps of one form,
c = left right or c += left right, over a batch. What can be known beforehand is decided when a program is planned:
which way a step goes, whether it stores or adds, which batch axes are rows, columns or terms of one larger product.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .blas import gemm
from .constants import F8, INDEX, SCRATCH, STRIP_START, STRIP_STOP, STRIPS
from .jit import kernel, part
from .lanes import add, add_multiple, add_product, lanes_at, no_lanes_at, store, total, without
from .op import Layout, Sample, Shapes, structural
from .pointers import as_f4, as_f8, as_i8, shifted

GROUP = "products"

#: the ways to do a step
CLEAR, BLAS, TILES, DOTS, ROWS = range(5)
#: what of a step is done strip by strip: nothing; rows or columns of c; terms of its sums
NOTHING, ROWS_OF_C, COLUMNS_OF_C, TERMS = range(4)

#: how many terms of a sum are done before the next row or column is
DEPTH = 256

# ---- loops: c (m, n) = or += a (m, k) b (k, n); rows of c have no gaps ---------------------------------------------


def strips_of(width: int) -> Any:
    """Make the kernel that computes four rows of c, so many columns at a time; n is no less."""
    load, none = lanes_at(width), no_lanes_at(width)

    @part
    def strip(a, a_row, a_column, b, b_row, c, c_row, rows, n, k, adds, zeros):  # type: ignore[no-untyped-def]
        second, third, fourth = min(1, rows - 1), min(2, rows - 1), min(3, rows - 1)  # too few: the last one again
        a1, a2, a3 = shifted(a, second * a_row), shifted(a, third * a_row), shifted(a, fourth * a_row)
        for start in range(0, n, width):
            skip = max(start + width - n, 0)  # the last columns overlap those before them
            b0, c0 = shifted(b, start - skip), shifted(c, start - skip)
            s0 = none(c)
            s1, s2, s3 = s0, s0, s0
            for p in range(k):
                line, i = load(shifted(b0, p * b_row)), p * a_column
                s0, s1 = add_multiple(s0, a[i], line), add_multiple(s1, a1[i], line)
                s2, s3 = add_multiple(s2, a2[i], line), add_multiple(s3, a3[i], line)
            c1, c2, c3 = shifted(c0, second * c_row), shifted(c0, third * c_row), shifted(c0, fourth * c_row)
            done = skip if adds else 0
            s0 = add(load(c0 if adds else zeros), without(s0, done))
            s1 = add(load(c1 if adds else zeros), without(s1, done))
            s2 = add(load(c2 if adds else zeros), without(s2, done))
            s3 = add(load(c3 if adds else zeros), without(s3, done))
            store(c0, s0)
            store(c1, s1)
            store(c2, s2)
            store(c3, s3)

    return strip


_strip8, _strip4, _strip1 = strips_of(8), strips_of(4), strips_of(1)
_load8, _none8, _load4, _none4 = lanes_at(8), no_lanes_at(8), lanes_at(4), no_lanes_at(4)


@part
def _strip12(a, a_row, a_column, b, b_row, c, c_row, rows, n, k, adds):  # type: ignore[no-untyped-def]
    """Four rows of c of 9 to 12 columns at a stroke: eight, and the last four."""
    second, third, fourth = min(1, rows - 1), min(2, rows - 1), min(3, rows - 1)
    a1, a2, a3 = shifted(a, second * a_row), shifted(a, third * a_row), shifted(a, fourth * a_row)
    s0, t0 = _none8(c), _none4(c)
    s1, s2, s3, t1, t2, t3 = s0, s0, s0, t0, t0, t0
    for p in range(k):  # row by row, so that all sums stay in registers
        line, rest, i = _load8(shifted(b, p * b_row)), _load4(shifted(b, p * b_row + n - 4)), p * a_column
        s0, t0 = add_multiple(s0, a[i], line), add_multiple(t0, a[i], rest)
        s1, t1 = add_multiple(s1, a1[i], line), add_multiple(t1, a1[i], rest)
        s2, t2 = add_multiple(s2, a2[i], line), add_multiple(t2, a2[i], rest)
        s3, t3 = add_multiple(s3, a3[i], line), add_multiple(t3, a3[i], rest)
    c1, c2, c3 = shifted(c, second * c_row), shifted(c, third * c_row), shifted(c, fourth * c_row)
    d0, d1, d2, d3 = shifted(c, n - 4), shifted(c1, n - 4), shifted(c2, n - 4), shifted(c3, n - 4)
    if adds:  # all of them are read before one is written: where they overlap, the same is written twice
        s0, s1, s2, s3 = add(_load8(c), s0), add(_load8(c1), s1), add(_load8(c2), s2), add(_load8(c3), s3)
        t0, t1, t2, t3 = add(_load4(d0), t0), add(_load4(d1), t1), add(_load4(d2), t2), add(_load4(d3), t3)
    store(c, s0)
    store(d0, t0)
    store(c1, s1)
    store(d1, t1)
    store(c2, s2)
    store(d2, t2)
    store(c3, s3)
    store(d3, t3)


@kernel
def _tiles(a, a_row, a_column, b, b_row, b_column, c, c_row, m, n, k, adds, zeros):  # type: ignore[no-untyped-def]
    packed = shifted(zeros, 8)
    for start in range(0, k, DEPTH):
        depth = min(DEPTH, k - start)
        left, right, row = shifted(a, start * a_column), shifted(b, start * b_row), b_row
        if b_column != 1:
            for j in range(n):
                for p in range(depth):
                    packed[p * n + j] = right[p * b_row + j * b_column]
            right, row = packed, n
        wide = n - 8 - n % 8 if n > 8 and 0 < n % 8 <= 4 else n  # the columns done eight at a time
        for i in range(0, m, 4):
            here, there, rows = shifted(left, i * a_row), shifted(c, i * c_row), min(4, m - i)
            if wide < n:
                _strip8(here, a_row, a_column, right, row, there, c_row, rows, wide, depth, adds, zeros)
                last, end = shifted(right, wide), shifted(there, wide)
                _strip12(here, a_row, a_column, last, row, end, c_row, rows, n - wide, depth, adds)
            elif n >= 8:
                _strip8(here, a_row, a_column, right, row, there, c_row, rows, n, depth, adds, zeros)
            elif n >= 4:
                _strip4(here, a_row, a_column, right, row, there, c_row, rows, n, depth, adds, zeros)
            else:
                _strip1(here, a_row, a_column, right, row, there, c_row, rows, n, depth, adds, zeros)
        adds = True


@kernel
def _dots(a, a_column, b, b_column, c, c_column, n, k, adds, zeros):  # type: ignore[no-untyped-def]
    """One row of c, for columns of b without gaps: four of them at a time, the last ones again where they are fewer."""
    if a_column != 1:
        packed = shifted(zeros, 8)
        for p in range(k):
            packed[p] = a[p * a_column]
        a = packed
    base, base_column = c if adds else zeros, c_column if adds else 0
    whole = k - k % 8
    for j in range(0, n, 4):
        j1, j2, j3 = min(j + 1, n - 1), min(j + 2, n - 1), min(j + 3, n - 1)
        b0, b1 = shifted(b, j * b_column), shifted(b, j1 * b_column)
        b2, b3 = shifted(b, j2 * b_column), shifted(b, j3 * b_column)
        s0 = _none8(c)
        s1, s2, s3 = s0, s0, s0
        for p in range(0, whole, 8):
            x = _load8(shifted(a, p))
            s0, s1 = add_product(s0, x, _load8(shifted(b0, p))), add_product(s1, x, _load8(shifted(b1, p)))
            s2, s3 = add_product(s2, x, _load8(shifted(b2, p))), add_product(s3, x, _load8(shifted(b3, p)))
        t0, t1, t2, t3 = total(s0), total(s1), total(s2), total(s3)
        for p in range(whole, k):
            x = a[p]
            t0, t1, t2, t3 = t0 + x * b0[p], t1 + x * b1[p], t2 + x * b2[p], t3 + x * b3[p]
        t0, t1 = base[j * base_column] + t0, base[j1 * base_column] + t1
        t2, t3 = base[j2 * base_column] + t2, base[j3 * base_column] + t3
        c[j * c_column], c[j1 * c_column], c[j2 * c_column], c[j3 * c_column] = t0, t1, t2, t3


@kernel
def _rows(a, a_column, b, b_row, c, n, k, adds, zeros):  # type: ignore[no-untyped-def]
    """One row of c, of eight columns or more, for rows of b without gaps: eight of them at a time, from end to end."""
    for p in range(0, k, 8):
        depth, left, right = min(8, k - p), shifted(a, p * a_column), shifted(b, p * b_row)
        for start in range(0, n, 8):
            skip = max(start + 8 - n, 0)  # the last columns overlap those before them
            here, there = shifted(right, start - skip), shifted(c, start - skip)
            even, odd = _none8(c), _none8(c)
            if depth == 8:
                for i in range(0, 8, 2):
                    even = add_multiple(even, left[i * a_column], _load8(shifted(here, i * b_row)))
                    odd = add_multiple(odd, left[(i + 1) * a_column], _load8(shifted(here, (i + 1) * b_row)))
            else:
                for i in range(depth):
                    even = add_multiple(even, left[i * a_column], _load8(shifted(here, i * b_row)))
            store(there, add(_load8(there if adds else zeros), without(add(even, odd), skip if adds else 0)))
        adds = True


# ---- steps ---------------------------------------------------------------------------------------------------------
# words: their number, way, buffer and table (values or adjoints) of left, of right, of c, m, n, k, strides (row, column)
# of left, of right, of c, whether c is added to, what is done strip by strip (0: all at once), batches, batch axes, batch
# shape, batch strides of left, of right, of c


@part
def _own(w, left, right, c, m, n, k, adds, zeros):  # type: ignore[no-untyped-def]
    way = w[1]
    if way == TILES:
        _tiles(left, w[11], w[12], right, w[13], w[14], c, w[15], m, n, k, adds, zeros)
    elif way == DOTS:
        _dots(left, w[12], right, w[14], c, w[16], n, k, adds, zeros)
    elif way == ROWS:
        _rows(left, w[12], right, w[13], c, n, k, adds, zeros)
    else:
        for i in range(m):
            for j in range(n):
                c[i * w[15] + j * w[16]] = 0


@kernel
def _steps(p, place, count, values, adjoints, services):  # type: ignore[no-untyped-def]
    """Do steps, each for all matrices of a batch."""
    number, index, zeros = p[1], as_i8(services[INDEX]), services[SCRATCH]
    item = 8 if number == F8 else 4
    for i in range(8):
        as_i8(zeros)[i] = 0
    for _ in range(count):
        w = shifted(p, place)
        place += w[0]
        left = (adjoints if w[3] else values)[w[2]]
        right = (adjoints if w[5] else values)[w[4]]
        c = (adjoints if w[7] else values)[w[6]]
        batches, ndim = w[19] if c else 0, w[20]
        m, n, k, adds = w[8], w[9], w[10], w[17] != 0
        if w[18] != 0 and services[STRIPS] > 1:
            start, size = services[STRIP_START], services[STRIP_STOP] - services[STRIP_START]
            if w[18] == ROWS_OF_C:
                m, left, c = size, left + item * start * w[11], c + item * start * w[15]
            elif w[18] == COLUMNS_OF_C:
                n, right, c = size, right + item * start * w[14], c + item * start * w[16]
            else:
                k, left, right = size, left + item * start * w[12], right + item * start * w[13]
                adds = adds or start > 0
        for d in range(ndim):
            index[d] = 0
        for _ in range(batches):
            if w[1] == BLAS:
                beta = 1.0 if adds else 0.0
                gemm(services, number, m, n, k, left, w[11], w[12], right, w[13], w[14], beta, c, w[15], 1.0)
            elif number == F8:
                _own(w, as_f8(left), as_f8(right), as_f8(c), m, n, k, adds, as_f8(zeros))
            else:
                _own(w, as_f4(left), as_f4(right), as_f4(c), m, n, k, adds, as_f4(zeros))
            for d in range(ndim - 1, -1, -1):
                index[d] += 1
                ends = index[d] == w[21 + d]
                step = item * (1 - w[21 + d] if ends else 1)
                left += step * w[21 + ndim + d]
                right += step * w[21 + 2 * ndim + d]
                c += step * w[21 + 3 * ndim + d]
                if not ends:
                    break
                index[d] = 0


@part
def matmul_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    _steps(p, 5, p[2], values, adjoints, services)
    return 0


@part
def matmul_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    _steps(p, p[4], p[3], values, adjoints, services)
    return 0


# ---- the plan of a product -----------------------------------------------------------------------------------------

Pair = tuple[int, int]


@dataclass(frozen=True)
class Side:
    """One matrix of a step: where it is, its strides (row, column), and its strides along the batch axes."""

    buffer: int
    table: int
    strides: Pair
    batch: tuple[int, ...]

    @property
    def turned(self) -> "Side":
        return replace(self, strides=self.strides[::-1])


@dataclass(frozen=True)
class Step:
    """c (m, n) = or += left (m, k) right (k, n), for all matrices of a batch."""

    number: int
    m: int
    n: int
    k: int
    left: Side
    right: Side
    c: Side
    adds: bool
    batch: tuple[int, ...]
    strips: int = NOTHING

    @property
    def turned(self) -> "Step":
        """The transposed product: cᵀ from rightᵀ leftᵀ."""
        strips = {ROWS_OF_C: COLUMNS_OF_C, COLUMNS_OF_C: ROWS_OF_C}.get(self.strips, self.strips)
        left, right, c = self.right.turned, self.left.turned, self.c.turned
        return replace(self, m=self.n, n=self.m, left=left, right=right, c=c, strips=strips)

    @property
    def readable(self) -> bool:
        """Whether BLAS can read and write all three matrices."""
        return (
            lies_well(self.m, self.k, *self.left.strides)
            and lies_well(self.k, self.n, *self.right.strides)
            and lies_well(self.m, self.n, *self.c.strides)
        )


def lies_well(m: int, n: int, row: int, column: int) -> bool:
    """Whether rows or columns of a matrix have no gaps, and none is repeated."""
    by_rows = (column == 1 or n == 1) and (row >= n or m == 1)
    return by_rows or ((row == 1 or m == 1) and (column >= m or n == 1))


def without_axis(step: Step, axis: int) -> Step:
    """Drop a batch axis."""

    def rest(items: tuple[int, ...]) -> tuple[int, ...]:
        return items[:axis] + items[axis + 1 :]

    left, right, c = (replace(side, batch=rest(side.batch)) for side in (step.left, step.right, step.c))
    return replace(step, left=left, right=right, c=c, batch=rest(step.batch))


def joined(count: int, stride: int, other: int) -> int | None:
    """Give the stride of an axis of `count` elements that goes on along a batch axis; None where it does not."""
    return other if count == 1 else stride if other == count * stride else None


def merged(step: Step) -> Step:
    """Take batch axes in, as rows, columns or terms, wherever strides allow."""
    for axis in range(len(step.batch) - 1, -1, -1):
        count, (m, n, k) = step.batch[axis], (step.m, step.n, step.k)
        along = [side.batch[axis] for side in (step.left, step.right, step.c)]
        (l_row, l_column), (r_row, r_column), (c_row, c_column) = step.left.strides, step.right.strides, step.c.strides
        bare = without_axis(step, axis)
        if count == 1:
            return merged(bare)
        wider: Step | None = None
        if along[1] == 0 and along[2] != 0:
            first, second = joined(m, l_row, along[0]), joined(m, c_row, along[2])
            if first is not None and second is not None:
                wider = with_strides(replace(bare, m=m * count), left=(first, l_column), c=(second, c_column))
        elif along[0] == 0 and along[2] != 0:
            first, second = joined(n, r_column, along[1]), joined(n, c_column, along[2])
            if first is not None and second is not None:
                wider = with_strides(replace(bare, n=n * count), right=(r_row, first), c=(c_row, second))
        elif along[2] == 0:
            first, second = joined(k, l_column, along[0]), joined(k, r_row, along[1])
            if first is not None and second is not None:
                wider = with_strides(replace(bare, k=k * count), left=(l_row, first), right=(second, r_column))
        if wider is not None and wider.readable:
            return merged(wider)
    return step


def with_strides(step: Step, **strides: Pair) -> Step:
    """Give the step's matrices other strides."""
    return replace(step, **{name: replace(getattr(step, name), strides=pair) for name, pair in strides.items()})


def chosen(step: Step) -> tuple[Step, int]:
    """Turn a step the way it is done best, and say how; the limits are measured."""
    row = step.turned if step.n == 1 else step
    if row.m == 1:
        if row.right.strides[0] == 1 or row.k == 1:
            return row, DOTS
        if row.n >= 8 and row.right.strides[1] == row.c.strides[1] == 1:
            return row, ROWS
    if step.c.strides[1] != 1 and step.n != 1:
        step = step.turned
    m, n, k = step.m, step.n, step.k
    volume, wide = m * n * k, 8 if step.number == F8 else 1
    if step.right.strides[1] == 1 or n == 1:
        return step, TILES if volume <= 8192 * wide or m * n <= 256 else BLAS
    return step, TILES if volume <= 4096 * wide and n * min(k, DEPTH) <= 4096 else BLAS


def words_of(step: Step, way: int) -> list[int]:
    """Write a step."""
    sides = (step.left, step.right, step.c)
    words = [way, *(word for side in sides for word in (side.buffer, side.table)), step.m, step.n, step.k]
    words += [stride for side in sides for stride in side.strides]
    words += [int(step.adds), step.strips, math.prod(step.batch), len(step.batch), *step.batch]
    words += [stride for side in sides for stride in side.batch]
    return [len(words) + 1, *words]


def distinct(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether an array's elements surely are apart from each other in memory."""
    reach = 0
    for stride, dim in sorted((abs(stride), dim) for stride, dim in zip(strides, shape, strict=True) if dim > 1):
        if stride <= reach:
            return False
        reach += stride * (dim - 1)
    return True


def side(x: Layout, table: int, ndim: int) -> Side:
    """Give a matrix of a step, its batch broadcast by strides of 0."""
    own = [0 if dim == 1 else stride for dim, stride in zip(x.shape[:-2], x.strides[:-2], strict=True)]
    row, column = x.strides[-2:]
    return Side(x.buffer, table, (row, column), (*[0] * (ndim - len(own)), *own))


def steps(operands: Sequence[Layout], results: Sequence[Layout], first: int) -> list[list[tuple[Step, int]]]:
    """Plan the steps of the forward and of the reverse sweep; the adjoints named by `first` are stored, not added to.

    Products of one matrix and one vector can be done in strips of the matrix's rows.
    """
    (a, b), z = operands, results[0]
    batch = z.shape[:-2]
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    left, right, product = (side(x, 0, len(batch)) for x in (a, b, z))
    da, db, dz = (side(x, 1, len(batch)) for x in (a, b, z))
    rows, terms = (ROWS_OF_C, TERMS) if n == 1 and not batch else (NOTHING, NOTHING)
    forward = planned(Step(z.number, m, n, k, left, right, product, False, batch, rows), z)
    reverse = planned(Step(z.number, m, k, n, dz, right.turned, da, not first & 1, batch, rows), a)
    reverse += planned(Step(z.number, k, n, m, left.turned, dz, db, not first & 2, batch, terms), b)
    return [forward, reverse]


def planned(step: Step, target: Layout) -> list[tuple[Step, int]]:
    """Plan one step: clear c beforehand where it must be stored and is added to by more than one matrix, or by none."""
    made = []
    empty = math.prod(step.batch) * step.m * step.n * step.k == 0
    wide = merged(step)
    if not step.adds and target.size:
        c = wide.c
        if empty or not distinct((*wide.batch, wide.m, wide.n), (*c.batch, *c.strides)):
            own = replace(c, strides=(target.strides[-2], target.strides[-1]), batch=target.strides[:-2])
            none = replace(own, batch=(0,) * len(own.batch))
            made = [(Step(step.number, step.m, step.n, 0, none, none, own, False, target.shape[:-2]), CLEAR)]
            wide = replace(wide, adds=True)
    return made if empty else [*made, chosen(wide)]


def matmul_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give the number of steps of both sweeps, where those of the reverse sweep begin, and the steps."""
    both = steps(operands, results, parameters.get("first", 0))
    forward, reverse = ([word for step in sweep for word in words_of(*step)] for sweep in both)
    return [len(both[0]), len(both[1]), 5 + len(forward), *forward, *reverse]


def matmul_scratch(operands: Sequence[Layout], results: Sequence[Layout]) -> int:
    """Give the bytes of eight zeros, and of what is packed: numbers with gaps between them."""
    packed = [0]
    for step, way in [step for sweep in steps(operands, results, 0) for step in sweep]:
        if way == DOTS and step.left.strides[1] != 1:
            packed.append(step.k)
        if way == TILES and step.right.strides[1] != 1:
            packed.append(step.n * min(step.k, DEPTH))
    return 8 * (8 + max(packed))


def matmul_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """Ā = Z̄ Bᵀ, B̄ = Aᵀ Z̄."""
    a, b = operands
    return np.matmul(d, np.swapaxes(b, -1, -2)), np.matmul(np.swapaxes(a, -1, -2), d)


def matmul_columns(record: Any, parameters: dict[str, Any], operands: Any) -> Any:
    """Multiply a matrix that is the same in each by the columns of a vector at once; else by stacks."""
    a, b = operands
    if not a.held and len(a.shape) == len(b.shape) == 2 and b.shape[1] == 1:
        return b.times(np.transpose(a.value))[..., None]
    if not b.held and len(a.shape) == len(b.shape) == 2 and a.shape[0] == 1:
        return a.times(b.value)[:, None]
    ndim = max(len(a.shape), len(b.shape))
    return np.matmul(a.against(ndim), b.against(ndim))


def matmul_samples(rng: np.random.Generator) -> list[Sample]:
    """Draw matrices, batches of them, and broadcast batches."""
    shapes = [((3, 4), (4, 2)), ((2, 3, 4), (2, 4, 2)), ((2, 1, 3, 2), (4, 2, 3)), ((1, 1), (1, 1)), ((2, 0), (0, 3))]
    return [((rng.uniform(-2, 2, a), rng.uniform(-2, 2, b)), {}) for a, b in shapes]


def matmul_count(operands: Shapes, results: Shapes) -> tuple[int, int, int]:
    """Count the terms, and the additions that join them."""
    inner, elements = operands[0][-1], math.prod(results[0])
    return elements * max(inner - 1, 0), elements * inner, 0


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
    columns=matmul_columns,
    words=matmul_words,
    scratch=matmul_scratch,
    stores=True,
    contiguous=False,
    count=matmul_count,
    formula="{x} @ {y}",
    adjoints=("{d} @ {y}ᵀ", "{x}ᵀ @ {d}"),
    samples=matmul_samples,
)
