"""Kernels of ops that are made at run time: numba functions of numbers or of arrays, wrapped so that sweeps can call them.

The text of a wrapper is written for a number class, and for the ranks of arrays; it is compiled when a program first needs
it and kept in memory, for what a user gives cannot be cached on disk. Operands and results lie in row-major order.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from .constants import F8, RAISED, SCRATCH
from .jit import kernel
from .pointers import as_f4, as_f8, as_i8, shifted

#: what a user's function is compiled with: only wrappers call it
_INNER: dict[str, Any] = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
#: options that a user's function may have been jitted with, and keeps
_KEPT = ("fastmath", "boundscheck", "inline", "forceinline")

#: the types of numbers that a function of numbers may return
NUMBERS = (types.Float, types.Integer, types.Boolean)

_C_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)


def jitted(function: Any) -> Any:
    """Give a dispatcher of a Python function, or of one that is jitted already: division by zero gives inf or NaN."""
    given = getattr(function, "targetoptions", {})
    kept = {name: given[name] for name in _KEPT if given.get(name) is not None}
    compiled: Any = njit(**{**_INNER, **kept})
    return compiled(getattr(function, "py_func", function))


def real(number: int) -> Any:
    """Give numba's type of a class's numbers."""
    return types.float64 if number == F8 else types.float32


def array(number: int, rank: int, readonly: bool) -> Any:
    """Give numba's type of the arrays that a user's function gets."""
    return types.Array(real(number), rank, "C", readonly=readonly)


@intrinsic
def frozen(typing_context: Any, array: Any) -> Any:
    """Give an array as one that cannot be written to."""
    made = array.copy(readonly=True)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return impl_ret_borrowed(context, builder, signature.return_type, arguments[0])

    return made(array), codegen


@kernel
def clear(pointer, count):  # type: ignore[no-untyped-def]
    """Set some numbers to zero."""
    for i in range(count):
        pointer[i] = 0


@kernel
def add(pointer, source, count):  # type: ignore[no-untyped-def]
    """Add some numbers to others."""
    for i in range(count):
        pointer[i] += source[i]


@kernel
def row_offset(row, dims, strides, axes):  # type: ignore[no-untyped-def]
    """Give where a row begins in an operand: rows are counted over all axes but the last."""
    offset = 0
    for axis in range(axes - 2, -1, -1):
        offset += row % dims[axis] * strides[axis]
        row //= dims[axis]
    return offset


@dataclass(frozen=True)
class Entry:
    """A compiled wrapper: its address, and itself as a function of four addresses that Python can call."""

    compiled: Any
    call: Any

    @property
    def address(self) -> int:
        return int(self.compiled.address)


def _entry(lines: Sequence[str], number: int, functions: dict[str, Any]) -> Entry:
    """Compile a wrapper's text; what the functions in it raise becomes a status."""
    scope: dict[str, Any] = {
        **{
            "carray": carray,
            "frozen": frozen,
            "clear": clear,
            "add": add,
            "shifted": shifted,
            "row_offset": row_offset,
        },
        **{"at": as_f8 if number == F8 else as_f4, "real": np.float64 if number == F8 else np.float32},
        **functions,
    }
    exec("\n".join(["def body(p, values, adjoints, services):", *(f"    {line}" for line in lines)]), scope)
    body = njit(**_INNER)(scope["body"])  # not a kernel: it makes arrays, and may raise
    compile_entry: Any = cfunc(types.int64(*[types.int64] * 4), error_model="numpy")

    @compile_entry
    def entry(p, values, adjoints, services):  # type: ignore[no-untyped-def]
        try:
            body(as_i8(p), as_i8(values), as_i8(adjoints), as_i8(services))
            return 0
        except Exception:
            return RAISED

    return Entry(entry, _C_FUNCTION(entry.address))


# ---- functions of numbers ------------------------------------------------------------------------------------
# p: 0, class, operands, result, axes, dims, strides of each operand; an operand's last stride is 0 or 1


def elementwise_forward(value: Any, arity: int, number: int) -> Entry:
    """Wrap a function of numbers: apply it to all elements."""
    numbers = ", ".join(f"x{k}[i * s{k}]" for k in range(arity))
    lines = [*_header(arity), "for row in range(rows):", *_row(arity, arity, "    ")]
    lines += ["    for i in range(n):", f"        z[i] = real(value({numbers}))"]
    return _entry(lines, number, {"value": value})


def elementwise_reverse(partials: Sequence[Any], takes_result: Sequence[bool], number: int) -> Entry:
    """Wrap partials (None where there is none): add adjoint times partial; an adjoint that is zero adds nothing."""
    arity = len(partials)
    lines = _header(arity)
    for k, partial in enumerate(partials):
        if partial is None:
            continue
        numbers = [f"x{j}[i * s{j}]" for j in range(arity)] + ["z[i]"] * takes_result[k]
        term = f"d[i] * partial{k}({', '.join(numbers)})"
        lines += [
            f"if adjoints[p[{2 + k}]] != 0:",
            "    for row in range(rows):",
            *_row(arity, arity, " " * 8),
            f"        d = shifted(at(adjoints[p[{2 + arity}]]), row * n)",
            f"        a = shifted(at(adjoints[p[{2 + k}]]), o{k})",
            f"        if s{k} == 0:",
            "            total = 0.0",
            "            for i in range(n):",
            "                if d[i] != 0:",
            f"                    total += {term}",
            "            a[0] += real(total)",
            "        else:",
            "            for i in range(n):",
            "                if d[i] != 0:",
            f"                    a[i] += real({term})",
        ]
    return _entry(lines, number, {f"partial{k}": partial for k, partial in enumerate(partials)})


def _header(arity: int) -> list[str]:
    """Read the index space: rows of n elements."""
    return [
        f"axes = p[{3 + arity}]",
        f"dims = shifted(p, {4 + arity})",
        "n, rows = dims[axes - 1], 1",
        "for k in range(axes - 1):",
        "    rows *= dims[k]",
    ]


def _row(arity: int, result: int, indent: str) -> list[str]:
    """Point to a row of each operand (x, with offset o and stride s) and of the result."""
    lines = [f"z = shifted(at(values[p[{2 + result}]]), row * n)"]
    for k in range(arity):
        lines += [
            f"s{k} = dims[{k + 2} * axes - 1]",
            f"o{k} = row_offset(row, dims, shifted(dims, {k + 1} * axes), axes)",
            f"x{k} = shifted(at(values[p[{2 + k}]]), o{k})",
        ]
    return [indent + line for line in lines]


# ---- functions of arrays -------------------------------------------------------------------------------------
# p: 0, class, operands and results, the dims of each


@dataclass(frozen=True)
class Ranks:
    """The ranks of an op's operands and of its results."""

    operands: tuple[int, ...]
    results: tuple[int, ...]

    def view(self, table: str, k: int) -> str:
        """Write the k-th operand (results follow them) as an array."""
        return f"carray(at({table}[p[{2 + k}]]), {self.shape(k)})"

    def shape(self, k: int) -> str:
        """Write the k-th shape."""
        ranks = (*self.operands, *self.results)
        start = 2 + len(ranks) + sum(ranks[:k])
        return "(" + "".join(f"p[{start + i}], " for i in range(ranks[k])) + ")"

    def size(self, k: int) -> str:
        """Write the number of elements of the k-th."""
        return self.shape(k).strip("(), ").replace(", ", " * ") or "1"


def array_forward(function: Any, ranks: Ranks, results_first: bool, number: int) -> Entry:
    """Wrap a function that fills arrays (or adds to them): they are zero at first. Operands are read-only."""
    count, total = len(ranks.operands), len(ranks.operands) + len(ranks.results)
    lines = [f"v{k} = frozen({ranks.view('values', k)})" for k in range(count)]
    for k in range(count, total):
        lines += [f"clear(at(values[p[{2 + k}]]), {ranks.size(k)})", f"v{k} = {ranks.view('values', k)}"]
    order = [*range(count, total), *range(count)] if results_first else range(total)
    return _entry([*lines, f"function({', '.join(f'v{k}' for k in order)})"], number, {"function": function})


def array_reverse(function: Any, ranks: Ranks, number: int) -> Entry:
    """Wrap a function that adds into the adjoints of all operands; those that nobody needs are in scratch memory."""
    count = len(ranks.operands)
    lines = [*_known(ranks), f"work = services[{SCRATCH}]"]
    for k in range(count):
        lines += [
            f"place = adjoints[p[{2 + k}]]",
            "if place == 0:",
            "    place = work",
            f"    clear(at(place), {ranks.size(k)})",
            f"    work += 8 * {ranks.size(k)}",
            f"a{k} = carray(at(place), {ranks.shape(k)})",
        ]
    operands = [f"{letter}{k}" for letter in "va" for k in range(count)]
    return _entry([*lines, f"function(d, z, {', '.join(operands)})"], number, {"function": function})


def array_reverse_by_parts(functions: Sequence[Any], ranks: Ranks, number: int) -> Entry:
    """Wrap functions (or None), one an operand, that each fill an adjoint: it is added to the operand's own."""
    lines = [*_known(ranks), f"work = at(services[{SCRATCH}])"]
    for k, function in enumerate(functions):
        if function is not None:
            operands = ", ".join(f"v{j}" for j in range(len(functions)))
            lines += [
                f"if adjoints[p[{2 + k}]] != 0:",
                f"    clear(work, {ranks.size(k)})",
                f"    function{k}(carray(work, {ranks.shape(k)}), d, z, {operands})",
                f"    add(at(adjoints[p[{2 + k}]]), work, {ranks.size(k)})",
            ]
    return _entry(lines, number, {f"function{k}": function for k, function in enumerate(functions)})


def _known(ranks: Ranks) -> list[str]:
    """Name the adjoint of the result, the result, and the operands."""
    count = len(ranks.operands)
    lines = [f"v{k} = frozen({ranks.view('values', k)})" for k in range(count)]
    return [
        *lines,
        f"d = frozen({ranks.view('adjoints', count)})",
        f"z = frozen({ranks.view('values', count)})",
    ]
