"""BLAS and LAPACK by address: SciPy's own routines, called from jitted code.

Addresses are data (the FUNCTIONS slot of the services table), never constants of a kernel, so kernels can be
cached. Arguments go by address, as Fortran has it: `boxed` puts each on the stack. (On a little-endian
machine an int64 in memory begins with the int32, and the letter, of the same value.)
Fortran sees a row-major matrix transposed: what is asked of it is the transpose of what is meant.
"""

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .constants import F8, FUNCTIONS
from .jit import kernel
from .pointers import as_i4, as_i8

#: routine -> its place in the functions table; the float32 twin follows
ROUTINES = ("gemm", "trsm", "trmm", "potrf", "getrf")
GEMM, TRSM, TRMM, POTRF, GETRF = range(0, 2 * len(ROUTINES), 2)


def functions_table() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Give the addresses of all routines: float64, float32, in turn."""
    from scipy.linalg import cython_blas, cython_lapack

    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = []
    for routine in ROUTINES:
        for letter in "ds":
            name = letter + routine
            module = cython_blas if name in cython_blas.__pyx_capi__ else cython_lapack
            capsule = module.__pyx_capi__[name]
            table.append(pointer_of(capsule, name_of(capsule)))
    return np.array(table, np.int64)


def _call_with(count: int) -> Any:
    """Make an intrinsic that calls a routine with so many addresses."""

    @intrinsic
    def call(typing_context: Any, address: Any, arguments: Any) -> Any:
        signature = types.void(types.int64, arguments)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            word = ir.IntType(64)
            function = builder.inttoptr(values[0], ir.FunctionType(ir.VoidType(), [word] * count).as_pointer())
            builder.call(function, [builder.extract_value(values[1], i) for i in range(count)])
            return context.get_dummy_value()

        return signature, codegen

    return call


_call13, _call11, _call5, _call6 = (_call_with(n) for n in (13, 11, 5, 6))


@intrinsic
def boxed(typing_context: Any, value: Any) -> Any:
    """Put a number on the stack; give its address, which is good until the calling function returns."""
    plain = types.unliteral(value)
    signature = types.int64(plain)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once_value(builder, arguments[0]), ir.IntType(64))

    return signature, codegen


@kernel
def _routine(services, place, number):  # type: ignore[no-untyped-def]
    return as_i8(services[FUNCTIONS])[place + (0 if number == F8 else 1)]


@kernel
def gemm(services, number, m, n, k, a, a_row, a_column, b, b_row, b_column, beta, c, c_row, alpha):  # type: ignore[no-untyped-def]
    """c = alpha a b + beta c, for row-major c (m, n), rows c_row apart; a (m, k), b (k, n) by their strides.

    Of an operand's strides one must be 1 (or its axis have one element), the other at least the axis' length.
    Fortran sees the transposes: cᵀ = bᵀ aᵀ.
    """
    a_plain, b_plain = a_column == 1 or k == 1, b_column == 1 or n == 1
    lda = max(a_row, k, 1) if a_plain else max(a_column, m, 1)
    ldb = max(b_row, n, 1) if b_plain else max(b_column, k, 1)
    _call13(
        _routine(services, GEMM, number),
        (
            boxed(78 if b_plain else 84),
            boxed(78 if a_plain else 84),
            boxed(n),
            boxed(m),
            boxed(k),
            boxed(alpha) if number == F8 else boxed(np.float32(alpha)),
            b,
            boxed(ldb),
            a,
            boxed(lda),
            boxed(beta) if number == F8 else boxed(np.float32(beta)),
            c,
            boxed(max(c_row, n, 1)),
        ),
    )


@kernel
def _triangular(services, routine, number, m, n, a, a_row, b, b_row, right, lower, transposed, unit):  # type: ignore[no-untyped-def]
    """Call trsm or trmm for row-major a and b (m, n): Fortran has the other side and the other triangle."""
    _call11(
        _routine(services, routine, number),
        (
            boxed(76 if right else 82),
            boxed(85 if lower else 76),
            boxed(84 if transposed else 78),
            boxed(85 if unit else 78),
            boxed(n),
            boxed(m),
            boxed(1.0) if number == F8 else boxed(np.float32(1.0)),
            a,
            boxed(max(a_row, 1)),
            b,
            boxed(max(b_row, 1)),
        ),
    )


@kernel
def trsm(services, number, m, n, a, a_row, b, b_row, right, lower, transposed, unit):  # type: ignore[no-untyped-def]
    """b = op(a)⁻¹ b (or b op(a)⁻¹ where `right`) in place, for b (m, n), rows a_row, b_row apart; op transposes if asked."""
    _triangular(services, TRSM, number, m, n, a, a_row, b, b_row, right, lower, transposed, unit)


@kernel
def trmm(services, number, m, n, a, a_row, b, b_row, right, lower, transposed, unit):  # type: ignore[no-untyped-def]
    """b = op(a) b (or b op(a) where `right`) in place, for b (m, n), rows a_row, b_row apart; op transposes if asked."""
    _triangular(services, TRMM, number, m, n, a, a_row, b, b_row, right, lower, transposed, unit)


@kernel
def potrf(services, number, n, a):  # type: ignore[no-untyped-def]
    """Cholesky's lower factor of row-major a (n, n), in its lower triangle; 0 if a is positive definite."""
    info = boxed(0)
    _call5(_routine(services, POTRF, number), (boxed(85), boxed(n), a, boxed(max(n, 1)), info))
    return np.int64(as_i4(info)[0])


@kernel
def getrf(services, number, n, a, pivots):  # type: ignore[no-untyped-def]
    """LU factors of column-major a (n, n), in place; 0 where a is regular.

    pivots are n int64: row i was swapped with row pivots[i], from the first to the last.
    """
    info = boxed(0)
    _call6(_routine(services, GETRF, number), (boxed(n), boxed(n), a, boxed(max(n, 1)), pivots, info))
    for i in range(n - 1, -1, -1):  # LAPACK wrote int32, counted from 1, into the same memory
        as_i8(pivots)[i] = as_i4(pivots)[i] - 1
    return np.int64(as_i4(info)[0])
