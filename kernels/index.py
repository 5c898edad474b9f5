"""Indexing with integer arrays and masks, and the guards: ops whose kernels check what they read."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .constants import BAD_INDEX, F4, F8, GUARD, I8, INDEX, STATUS
from .jit import kernel
from .op import Layout, Sample, nothing_to_count, structural
from .pointers import as_b1, as_f4, as_f8, as_i8, shifted
from .strided import carry, seek

GROUP = "index"

#: what a walk over indexed places does with rows z and places x
READ, ADD, SPREAD, WRITE, TAKE, CLEAR = range(6)

# ---- gather, spread and scatter -----------------------------------------------------------------------------------
# An array is indexed on `axes` by as many int64 arrays of m elements; z is row-major (m, *other axes of the array).
# words: m, indexed axes, other axes, then dims and strides of the indexed axes, dims and strides of the others,
# then the buffers of the index arrays.


def _index_words(array: Layout, indices: Sequence[Layout], axes: tuple[int, ...]) -> list[int]:
    others = [axis for axis in range(len(array.shape)) if axis not in axes]
    shape, strides = [array.shape[a] for a in others] or [1], [array.strides[a] for a in others] or [0]
    words = [indices[0].size, len(axes), len(shape)]
    words += [array.shape[a] for a in axes] + [array.strides[a] for a in axes]
    return words + shape + strides + [index.buffer for index in indices]


@kernel
def _offset(words, values, s, status):  # type: ignore[no-untyped-def]
    """Give the offset that the index arrays point to at place s; -1 and the status where one is out of range."""
    k, others = words[1], words[2]
    dims, strides, indices = shifted(words, 3), shifted(words, 3 + k), shifted(words, 3 + 2 * k + 2 * others)
    offset = 0
    for a in range(k):
        i = as_i8(values[indices[a]])[s]
        if i < -dims[a] or i >= dims[a]:
            status[0], status[1], status[2] = i, a, dims[a]
            return np.int64(-1)
        offset += (i if i >= 0 else i + dims[a]) * strides[a]
    return np.int64(offset)


@kernel
def _others(words):  # type: ignore[no-untyped-def]
    """Give the number of elements that one index reaches."""
    count = 1
    for d in range(words[2]):
        count *= words[3 + 2 * words[1] + d]
    return count


@kernel
def _check(words, values, status):  # type: ignore[no-untyped-def]
    """Give whether all indices are in range."""
    k = words[1]
    for a in range(k):
        indices, dim = as_i8(values[words[3 + 2 * k + 2 * words[2] + a]]), words[3 + a]
        for s in range(words[0]):
            if indices[s] < -dim or indices[s] >= dim:
                status[0], status[1], status[2] = indices[s], a, dim
                return False
    return True


@kernel
def _walk(words, values, z, x, index, status, action):  # type: ignore[no-untyped-def]
    """Walk over z's rows and the places of x that the index arrays name, in order; TAKE and CLEAR walk backwards."""
    ndim, k, rows = words[2], words[1], words[0]
    shape, strides = shifted(words, 3 + 2 * k), shifted(words, 3 + 2 * k + ndim)
    inner, last = _others(words), ndim - 1
    for s in range(rows):
        row = rows - 1 - s if action >= TAKE else s
        offset = seek(ndim, shape, strides, 0, index) + _offset(words, values, row, status)
        i = 0
        while i < inner:
            run = shape[last]
            for j in range(run):
                here, there = row * inner + i + j, offset + j * strides[last]
                if action == READ:
                    z[here] = x[there]
                elif action == ADD:
                    z[here] += x[there]
                elif action == SPREAD:
                    x[there] += z[here]
                elif action == WRITE:
                    x[there] = z[here]
                elif action == TAKE:  # the last write first: one that was overwritten gets no adjoint
                    z[here] += x[there]
                    x[there] = 0
                else:
                    x[there] = 0
            i += run
            index[last] += run
            offset = carry(ndim, shape, strides, index, offset + run * strides[last])


@kernel
def gather_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    index, status = as_i8(services[INDEX]), as_i8(services[STATUS])
    x, z, words = values[p[2]], values[p[3]], shifted(p, 4)
    if not _check(words, values, status):
        return BAD_INDEX
    if p[1] == F8:
        _walk(words, values, as_f8(z), as_f8(x), index, status, READ)
    elif p[1] == F4:
        _walk(words, values, as_f4(z), as_f4(x), index, status, READ)
    elif p[1] == I8:
        _walk(words, values, as_i8(z), as_i8(x), index, status, READ)
    else:
        _walk(words, values, as_b1(z), as_b1(x), index, status, READ)
    return 0


@kernel
def gather_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    index, status = as_i8(services[INDEX]), as_i8(services[STATUS])
    dx, dz, words = adjoints[p[2]], adjoints[p[3]], shifted(p, 4)
    if p[1] == F8:
        _walk(words, values, as_f8(dz), as_f8(dx), index, status, SPREAD)
    else:
        _walk(words, values, as_f4(dz), as_f4(dx), index, status, SPREAD)
    return 0


def gather_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give array, result and how the array is indexed."""
    return [operands[0].buffer, results[0].buffer, *_index_words(operands[0], operands[1:], parameters["axes"])]


def gather(x: Any, *indices: Any, axes: tuple[int, ...]) -> Any:
    """Index `axes` of x by flat index arrays, together; the other axes follow."""
    front = np.moveaxis(x, axes, range(len(axes)))
    return np.ascontiguousarray(front[tuple(np.asarray(i) for i in indices)])


def gather_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """Spread d over the places that were read."""
    x, *indices = operands
    return (record("spread", d, *indices, shape=x.shape, axes=parameters["axes"]),)


def gather_columns(record: Any, parameters: dict[str, Any], operands: Any) -> Any:
    """Gather from all columns at the same places: what was read comes first, then the columns."""
    x, *indices = operands
    if any(i.held for i in indices):
        return NotImplemented
    made = record("gather", x.columns, *(i.value for i in indices), axes=behind(parameters["axes"]))
    return np.moveaxis(made, 1, 0)


def behind(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Give the axes of one column where columns are the first axis."""
    return tuple(a + 1 for a in axes)


def gather_samples(rng: np.random.Generator) -> list[Sample]:
    """Draw arrays indexed on one axis and on two, with repetitions and negative indices."""
    x = rng.uniform(-2.0, 2.0, (4, 3, 2))
    i, j = np.array([0, 3, 3, -1, -4]), np.array([2, 0, 0, 1, -1])
    return [
        ((x, i), {"axes": (0,)}),
        ((x, j), {"axes": (1,)}),
        ((x, i, j), {"axes": (0, 1)}),
        ((x[:, 0, 0], i), {"axes": (0,)}),
    ]


structural(
    "gather",
    numpy=gather,
    arity=2,
    doc="elements named by integer arrays; repeated ones accumulate their adjoints",
    group=GROUP,
    forward=gather_forward,
    reverse=gather_reverse,
    active=(0,),
    linear=True,
    rule=gather_rule,
    columns=gather_columns,
    words=gather_words,
    contiguous=False,
    checks=True,
    count=nothing_to_count,
    adjoints=("{d} added at [{rest}]",),
    samples=gather_samples,
)


@kernel
def _clear(z, n):  # type: ignore[no-untyped-def]
    for i in range(n):
        z[i] = 0


@kernel
def spread_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    index, status = as_i8(services[INDEX]), as_i8(services[STATUS])
    d, z, n, words = values[p[2]], values[p[3]], p[4], shifted(p, 5)
    if not _check(words, values, status):
        return BAD_INDEX
    if p[1] == F8:
        _clear(as_f8(z), n)
        _walk(words, values, as_f8(d), as_f8(z), index, status, SPREAD)
    else:
        _clear(as_f4(z), n)
        _walk(words, values, as_f4(d), as_f4(z), index, status, SPREAD)
    return 0


@kernel
def spread_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    index, status = as_i8(services[INDEX]), as_i8(services[STATUS])
    dd, dz, words = adjoints[p[2]], adjoints[p[3]], shifted(p, 5)
    if p[1] == F8:
        _walk(words, values, as_f8(dd), as_f8(dz), index, status, ADD)
    else:
        _walk(words, values, as_f4(dd), as_f4(dz), index, status, ADD)
    return 0


def spread_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give rows, result, its size and how it is indexed."""
    return [
        operands[0].buffer,
        results[0].buffer,
        results[0].size,
        *_index_words(results[0], operands[1:], parameters["axes"]),
    ]


def spread(d: Any, *indices: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """Add d's rows to the places of an array of zeros that the index arrays name."""
    z = np.zeros(shape, np.asarray(d).dtype)
    np.add.at(np.moveaxis(z, axes, range(len(axes))), tuple(np.asarray(i) for i in indices), d)
    return z


def spread_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """Gather d from the places that were added to."""
    return (record("gather", d, *operands[1:], axes=parameters["axes"]),)


def spread_columns(record: Any, parameters: dict[str, Any], operands: Any) -> Any:
    """Spread the rows of all columns over the same places."""
    d, *indices = operands
    if any(i.held for i in indices):
        return NotImplemented
    shape = (d.columns.shape[0], *parameters["shape"])
    rows = np.moveaxis(d.columns, 0, 1)
    return record("spread", rows, *(i.value for i in indices), shape=shape, axes=behind(parameters["axes"]))


def spread_samples(rng: np.random.Generator) -> list[Sample]:
    """Draw rows to add at places, some of them named twice."""
    i, j = np.array([0, 3, 3, -1, -4]), np.array([2, 0, 0, 1, -1])
    return [
        ((rng.uniform(-2, 2, (5, 3)), i), {"shape": (4, 3), "axes": (0,)}),
        ((rng.uniform(-2, 2, (5, 2)), i, j), {"shape": (4, 3, 2), "axes": (0, 1)}),
    ]


structural(
    "spread",
    numpy=spread,
    arity=2,
    doc="zeros to which rows are added at the places that integer arrays name",
    group=GROUP,
    forward=spread_forward,
    reverse=spread_reverse,
    active=(0,),
    linear=True,
    rule=spread_rule,
    columns=spread_columns,
    words=spread_words,
    checks=True,
    count=lambda operands, results: (math.prod(operands[0]), 0, 0),
    adjoints=("{d}[{rest}]",),
    samples=spread_samples,
)


# scatter writes into an array in place; results: the array's buffer, then what was overwritten (for the way back)


@kernel
def scatter_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    index, status = as_i8(services[INDEX]), as_i8(services[STATUS])
    e, x, saved, words = values[p[2]], values[p[3]], values[p[4]], shifted(p, 5)
    if not _check(words, values, status):
        return BAD_INDEX
    if p[1] == F8:
        _walk(words, values, as_f8(saved), as_f8(x), index, status, READ)
        _walk(words, values, as_f8(e), as_f8(x), index, status, WRITE)
    elif p[1] == F4:
        _walk(words, values, as_f4(saved), as_f4(x), index, status, READ)
        _walk(words, values, as_f4(e), as_f4(x), index, status, WRITE)
    elif p[1] == I8:
        _walk(words, values, as_i8(saved), as_i8(x), index, status, READ)
        _walk(words, values, as_i8(e), as_i8(x), index, status, WRITE)
    else:
        _walk(words, values, as_b1(saved), as_b1(x), index, status, READ)
        _walk(words, values, as_b1(e), as_b1(x), index, status, WRITE)
    return 0


@kernel
def scatter_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    index, status = as_i8(services[INDEX]), as_i8(services[STATUS])
    de, dx, words = adjoints[p[2]], adjoints[p[3]], shifted(p, 5)
    if p[1] == F8:
        _walk(words, values, as_f8(de), as_f8(dx), index, status, TAKE if de != 0 else CLEAR)
    else:
        _walk(words, values, as_f4(de), as_f4(dx), index, status, TAKE if de != 0 else CLEAR)
    return 0


@kernel
def scatter_restore(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    index, status = as_i8(services[INDEX]), as_i8(services[STATUS])
    x, saved, words = values[p[3]], values[p[4]], shifted(p, 5)
    if p[1] == F8:
        _walk(words, values, as_f8(saved), as_f8(x), index, status, WRITE)
    elif p[1] == F4:
        _walk(words, values, as_f4(saved), as_f4(x), index, status, WRITE)
    elif p[1] == I8:
        _walk(words, values, as_i8(saved), as_i8(x), index, status, WRITE)
    else:
        _walk(words, values, as_b1(saved), as_b1(x), index, status, WRITE)
    return 0


def scatter_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give rows, the array that is written to, the place for what is overwritten, and how it is indexed."""
    where = _index_words(results[0], operands[1:], parameters["axes"])
    return [operands[0].buffer, results[0].buffer, results[1].buffer, *where]


def scatter(e: Any, *indices: Any, into: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Write rows into `into` in place; give it, and what was overwritten."""
    front = np.moveaxis(into, axes, range(len(axes)))
    places = tuple(np.asarray(i) for i in indices)
    saved = np.ascontiguousarray(front[places])
    front[places] = e
    return into, saved


def scatter_columns(record: Any, parameters: dict[str, Any], operands: Any) -> Any:
    """Write the rows of all columns to the same places."""
    e, *indices = operands
    if any(i.held for i in indices):
        return NotImplemented
    rows = np.moveaxis(e.columns, 0, 1)
    return record("scatter", rows, *(i.value for i in indices), axes=behind(parameters["axes"]))


structural(
    "scatter",
    numpy=scatter,
    arity=2,
    doc="write rows in place where integer arrays say",
    group=GROUP,
    forward=scatter_forward,
    reverse=scatter_reverse,
    restore=scatter_restore,
    active=(0,),
    columns=scatter_columns,
    words=scatter_words,
    count=nothing_to_count,
    adjoints=("{d} where it was written",),
    checks=True,
)


# ---- guards -------------------------------------------------------------------------------------------------------
# A guard holds the number that was seen while tracing, as 64 bits; words: those bits, the guard's place in the trace.


@kernel
def guard_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    if p[1] == F8 or p[1] == I8:
        seen = as_i8(values[p[2]])[0]
    elif p[1] == F4:
        scratch = as_f8(services[STATUS])
        scratch[0] = as_f4(values[p[2]])[0]
        seen = as_i8(services[STATUS])[0]
    else:
        seen = np.int64(as_b1(values[p[2]])[0])
    if seen != p[3]:
        status = as_i8(services[STATUS])
        status[0], status[1] = seen, p[4]
        return GUARD
    return 0


def bits(value: Any) -> int:
    """Give a number as the 64 bits that a guard compares."""
    kind = np.asarray(value).dtype.kind
    return int(np.float64(value).view(np.int64)) if kind == "f" else int(value)


def unbits(word: int, dtype: Any) -> Any:
    """Give the number that 64 bits of a guard stand for."""
    kind = np.dtype(dtype)
    return kind.type(np.int64(word).view(np.float64)) if kind.kind == "f" else kind.type(word)


def guard_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give the number, what is expected of it, and the guard's place."""
    return [operands[0].buffer, parameters["expected"], parameters["place"]]


structural(
    "guard",
    numpy=lambda x, expected, place: None,
    arity=1,
    doc="check that a number is what it was while tracing",
    group=GROUP,
    forward=guard_forward,
    words=guard_words,
    count=nothing_to_count,
    checks=True,
)


@kernel
def nonzero_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    mask, expected, place, ndim = as_b1(values[p[2]]), p[3], p[4], p[5]
    shape, results = shifted(p, 6), shifted(p, 6 + ndim)
    n, found = 1, 0
    for d in range(ndim):
        n *= shape[d]
    for i in range(n):
        if mask[i]:
            found += 1
    if found != expected:
        status = as_i8(services[STATUS])
        status[0], status[1] = found, place
        return GUARD
    found = 0
    for i in range(n):
        if mask[i]:
            rest = i
            for d in range(ndim - 1, -1, -1):
                as_i8(values[results[d]])[found] = rest % shape[d]
                rest //= shape[d]
            found += 1
    return 0


def nonzero_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give the count that the trace has seen, the guard's place, and the mask's shape."""
    shape = operands[0].shape
    return [
        operands[0].buffer,
        parameters["expected"],
        parameters["place"],
        len(shape),
        *shape,
        *(r.buffer for r in results),
    ]


structural(
    "nonzero",
    numpy=lambda mask, expected, place: np.nonzero(mask),
    arity=1,
    doc="places where a mask holds; guards their number",
    group=GROUP,
    forward=nonzero_forward,
    words=nonzero_words,
    count=nothing_to_count,
    checks=True,
)
