"""Ops along rows: operands are row-major (rows, n), and each row gives a number or a row.

Other axes are brought here by views. Each op is one section: kernels, rule, declaration.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .constants import F4, F8, SCRATCH
from .jit import kernel
from .op import Layout, Sample, Shapes, no_scratch, structural
from .pointers import as_f4, as_f8, as_i8, shifted

GROUP = "reduce"


def rows_and_length(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give operand and result, the number of rows and their length."""
    return [operands[0].buffer, results[0].buffer, operands[0].shape[0], operands[0].shape[1]]


def joins(operands: Shapes, results: Shapes) -> int:
    """Count how often two numbers become one when each row becomes a number."""
    return max(math.prod(operands[0]) - math.prod(results[0]), 0)


def extreme_count(operands: Shapes, results: Shapes) -> tuple[int, int, int]:
    """Count the comparisons that find an extreme of each row."""
    return 0, 0, joins(operands, results)


def row_bytes(operands: Sequence[Layout], results: Sequence[Layout]) -> int:
    """Give the bytes of one row."""
    return 8 * operands[0].shape[1]


def rows_of(name: str) -> Callable[..., Any]:
    """Make the rule for the columns of an op on rows: they are more rows."""

    def columns(record: Any, parameters: dict[str, Any], operands: Any) -> Any:
        count, rows, n = operands[0].columns.shape
        made = record(name, np.reshape(operands[0].columns, (count * rows, n)), **parameters)
        return np.reshape(made, (count, rows, *made.shape[1:]))

    return columns


def distinct_rows(rng: np.random.Generator) -> list[Sample]:
    """Draw rows whose elements keep clear of each other."""
    x = rng.permuted(np.linspace(-2.0, 2.0, 12)).reshape(3, 4)
    return [((x,), {}), ((x[:1, :1],), {}), ((x[:0],), {})]


# ---- prod ---------------------------------------------------------------------------------------------------------


@kernel
def _prod(z, x, rows, n):  # type: ignore[no-untyped-def]
    for r in range(rows):
        z[r] = 1
        for i in range(n):
            z[r] *= x[r * n + i]


@kernel
def _prod_reverse(dz, x, dx, rows, n, after):  # type: ignore[no-untyped-def]
    for r in range(rows):
        d = dz[r]
        if d == 0.0 or n == 0:
            continue
        right = 1.0
        for i in range(n - 1, -1, -1):
            after[i] = right
            right *= x[r * n + i]
        left = d
        for i in range(n):
            dx[r * n + i] += left * after[i]
            left *= x[r * n + i]


@kernel
def prod_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    if p[1] == F8:
        _prod(as_f8(values[p[3]]), as_f8(values[p[2]]), p[4], p[5])
    elif p[1] == F4:
        _prod(as_f4(values[p[3]]), as_f4(values[p[2]]), p[4], p[5])
    else:
        _prod(as_i8(values[p[3]]), as_i8(values[p[2]]), p[4], p[5])
    return 0


@kernel
def prod_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    x, z, scratch = p[2], p[3], services[SCRATCH]
    if p[1] == F8:
        _prod_reverse(as_f8(adjoints[z]), as_f8(values[x]), as_f8(adjoints[x]), p[4], p[5], as_f8(scratch))
    else:
        _prod_reverse(as_f4(adjoints[z]), as_f4(values[x]), as_f4(adjoints[x]), p[4], p[5], as_f4(scratch))
    return 0


def prod_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """d times the product of the others, which stays right (to every order) where elements are zero."""
    x = operands[0]
    others = np.where(np.eye(x.shape[1], dtype=bool), np.ones((), x.dtype), x[:, None, :])
    rows, n, _ = others.shape
    return (d[:, None] * record("prod", np.reshape(others, (rows * n, n))).reshape(rows, n),)


structural(
    "prod",
    numpy=lambda x: np.prod(x, axis=1),
    arity=1,
    doc="product of each row",
    group=GROUP,
    forward=prod_forward,
    reverse=prod_reverse,
    active=(0,),
    rule=prod_rule,
    columns=rows_of("prod"),
    count=lambda operands, results: (0, joins(operands, results), 0),
    formula="prod({x}{axes})",
    adjoints=("{d} times the product of the others",),
    words=rows_and_length,
    scratch=row_bytes,
    samples=lambda rng: [*distinct_rows(rng), ((np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 1.0]]),), {})],
)

# ---- max and min --------------------------------------------------------------------------------------------------


@kernel
def _better(v, best, largest):  # type: ignore[no-untyped-def]
    """Give the more extreme of two numbers; NaN where either is."""
    return v if (v > best if largest else v < best) | (v != v) else best


@kernel
def _extreme(z, x, rows, n, largest):  # type: ignore[no-untyped-def]
    for r in range(rows):
        row = shifted(x, r * n)
        a = row[0]
        b, c, d = a, a, a
        whole = n - n % 4
        for i in range(0, whole, 4):  # four at a time: one comparison need not wait for the last
            a, b = _better(row[i], a, largest), _better(row[i + 1], b, largest)
            c, d = _better(row[i + 2], c, largest), _better(row[i + 3], d, largest)
        for i in range(whole, n):
            a = _better(row[i], a, largest)
        z[r] = _better(_better(a, b, largest), _better(c, d, largest), largest)


@kernel
def _extreme_reverse(z, dz, x, dx, rows, n, stores):  # type: ignore[no-untyped-def]
    for r in range(rows):
        best, d, row, slopes = z[r], dz[r], shifted(x, r * n), shifted(dx, r * n)
        if stores:
            for i in range(n):
                slopes[i] = 0
        if d == 0.0:
            continue
        ties = 0
        for i in range(n):
            ties += row[i] == best
        share = d / ties
        for i in range(n):
            slopes[i] += share if row[i] == best else 0.0


@kernel
def _extreme_forward(p, values, largest):  # type: ignore[no-untyped-def]
    if p[1] == F8:
        _extreme(as_f8(values[p[3]]), as_f8(values[p[2]]), p[4], p[5], largest)
    elif p[1] == F4:
        _extreme(as_f4(values[p[3]]), as_f4(values[p[2]]), p[4], p[5], largest)
    else:
        _extreme(as_i8(values[p[3]]), as_i8(values[p[2]]), p[4], p[5], largest)


@kernel
def max_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    _extreme_forward(p, values, True)
    return 0


@kernel
def min_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    _extreme_forward(p, values, False)
    return 0


@kernel
def extreme_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    x, z = p[2], p[3]
    if p[1] == F8:
        _extreme_reverse(as_f8(values[z]), as_f8(adjoints[z]), as_f8(values[x]), as_f8(adjoints[x]), p[4], p[5], p[6])
    else:
        _extreme_reverse(as_f4(values[z]), as_f4(adjoints[z]), as_f4(values[x]), as_f4(adjoints[x]), p[4], p[5], p[6])
    return 0


def extreme_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """Share d among the elements that attain the extreme."""
    x, z = operands[0], results[0]
    ties = np.where(x == z[:, None], np.ones((), x.dtype), np.zeros((), x.dtype))
    return (record("mask", (d / np.sum(ties, axis=1))[:, None], ties),)


def extreme_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give operand and result, the number of rows and their length, and whether the adjoint is stored."""
    return [*rows_and_length(operands, results, parameters), parameters.get("first", 0)]


def _extreme_samples(rng: np.random.Generator) -> list[Sample]:
    return distinct_rows(rng)


for _name, _forward, _of in (("max", max_forward, np.max), ("min", min_forward, np.min)):
    structural(
        _name,
        numpy=lambda x, of=_of: of(x, axis=1),
        arity=1,
        doc=f"{_name} of each row; ties share the adjoint equally",
        group=GROUP,
        forward=_forward,
        reverse=extreme_reverse,
        active=(0,),
        rule=extreme_rule,
        columns=rows_of(_name),
        count=extreme_count,
        formula=f"{_name}({{x}}{{axes}})",
        adjoints=("{d} at the extreme, shared among ties",),
        words=extreme_words,
        stores=True,
        samples=_extreme_samples,
    )

# ---- argmax, argmin and argsort -----------------------------------------------------------------------------------


@kernel
def _place(z, x, rows, n, largest):  # type: ignore[no-untyped-def]
    for r in range(rows):
        best, place = x[r * n], 0
        for i in range(1, n):
            v = x[r * n + i]
            if best != best:
                break
            if v != v or (v > best if largest else v < best):
                best, place = v, i
        z[r] = place


@kernel
def _place_forward(p, values, largest):  # type: ignore[no-untyped-def]
    z = as_i8(values[p[3]])
    if p[1] == F8:
        _place(z, as_f8(values[p[2]]), p[4], p[5], largest)
    elif p[1] == F4:
        _place(z, as_f4(values[p[2]]), p[4], p[5], largest)
    else:
        _place(z, as_i8(values[p[2]]), p[4], p[5], largest)


@kernel
def argmax_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    _place_forward(p, values, True)
    return 0


@kernel
def argmin_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    _place_forward(p, values, False)
    return 0


@kernel
def _follows(a, b):  # type: ignore[no-untyped-def]
    """Whether a number comes after another; NaN comes last."""
    return (a > b) | ((a != a) & (b == b))


@kernel
def _order(z, x, rows, n, merged):  # type: ignore[no-untyped-def]
    """Sort by merging, which keeps the order of equal numbers."""
    for r in range(rows):
        row, order = shifted(x, r * n), shifted(z, r * n)
        for i in range(n):
            order[i] = i
        width = 1
        while width < n:
            for start in range(0, n, 2 * width):
                middle, end = min(start + width, n), min(start + 2 * width, n)
                left, right = start, middle
                for i in range(start, end):
                    if right == end or (left < middle and not _follows(row[order[left]], row[order[right]])):
                        merged[i] = order[left]
                        left += 1
                    else:
                        merged[i] = order[right]
                        right += 1
            for i in range(n):
                order[i] = merged[i]
            width *= 2


@kernel
def argsort_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    z, scratch = as_i8(values[p[3]]), as_i8(services[SCRATCH])
    if p[1] == F8:
        _order(z, as_f8(values[p[2]]), p[4], p[5], scratch)
    elif p[1] == F4:
        _order(z, as_f4(values[p[2]]), p[4], p[5], scratch)
    else:
        _order(z, as_i8(values[p[2]]), p[4], p[5], scratch)
    return 0


def sort_count(operands: Shapes, results: Shapes) -> tuple[int, int, int]:
    """Count the comparisons of a merge sort of each row."""
    rows, length = operands[0]
    return 0, 0, rows * length * math.ceil(math.log2(max(length, 1)))


for _name, _forward, _reference, _scratch, _count in (
    ("argmax", argmax_forward, lambda x: np.argmax(x, axis=1), no_scratch, extreme_count),
    ("argmin", argmin_forward, lambda x: np.argmin(x, axis=1), no_scratch, extreme_count),
    ("argsort", argsort_forward, lambda x: np.argsort(x, axis=1, kind="stable"), row_bytes, sort_count),
):
    structural(
        _name,
        numpy=_reference,
        arity=1,
        doc=f"{_name} of each row; no derivative flows",
        group=GROUP,
        count=_count,
        formula="argsort({x}, axis=-1)" if _name == "argsort" else f"{_name}({{x}}{{axes}})",
        forward=_forward,
        columns=rows_of(_name),
        words=rows_and_length,
        scratch=_scratch,
        samples=distinct_rows,
    )

# ---- cumsum -------------------------------------------------------------------------------------------------------


@kernel
def _cumsum(z, x, rows, n):  # type: ignore[no-untyped-def]
    for r in range(rows):
        total = x[r * n]
        z[r * n] = total
        for i in range(1, n):
            total += x[r * n + i]
            z[r * n + i] = total


@kernel
def _cumsum_reverse(dz, dx, rows, n):  # type: ignore[no-untyped-def]
    for r in range(rows):
        total = 0.0
        for i in range(n - 1, -1, -1):
            total += dz[r * n + i]
            dx[r * n + i] += total


@kernel
def cumsum_forward(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    if p[4] * p[5] == 0:
        return 0
    if p[1] == F8:
        _cumsum(as_f8(values[p[3]]), as_f8(values[p[2]]), p[4], p[5])
    elif p[1] == F4:
        _cumsum(as_f4(values[p[3]]), as_f4(values[p[2]]), p[4], p[5])
    else:
        _cumsum(as_i8(values[p[3]]), as_i8(values[p[2]]), p[4], p[5])
    return 0


@kernel
def cumsum_reverse(p, values, adjoints, services):  # type: ignore[no-untyped-def]
    if p[4] * p[5] == 0:
        return 0
    if p[1] == F8:
        _cumsum_reverse(as_f8(adjoints[p[3]]), as_f8(adjoints[p[2]]), p[4], p[5])
    else:
        _cumsum_reverse(as_f4(adjoints[p[3]]), as_f4(adjoints[p[2]]), p[4], p[5])
    return 0


def cumsum_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """Sum d from the other end."""
    return (record("cumsum", d[:, ::-1])[:, ::-1],)


structural(
    "cumsum",
    numpy=lambda x: np.cumsum(x, axis=1),
    arity=1,
    doc="running sum of each row",
    group=GROUP,
    forward=cumsum_forward,
    reverse=cumsum_reverse,
    active=(0,),
    linear=True,
    rule=cumsum_rule,
    columns=rows_of("cumsum"),
    count=lambda operands, results: (math.prod(operands[0]) - operands[0][0], 0, 0),
    formula="cumsum({x}, axis=-1)",
    adjoints=("running sum of {d} from the end",),
    words=rows_and_length,
    samples=distinct_rows,
)
