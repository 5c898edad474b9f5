"""BLAS and LAPACK by address: SciPy's own routines, called from jitted code.

Addresses are data (the FUNCTIONS slot of the services table), never constants of a kernel, so kernels can be cached.
Arguments go by address, as Fortran has it; `Arguments` lie in a stretch of the workspace.
"""

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .constants import ARGUMENTS, F8, FUNCTIONS
from .pointers import as_b1, as_f4, as_f8, as_i4, as_i8

#: routine -> its place in the functions table; the float32 twin follows
ROUTINES = ("gemm", "trsm", "potrf", "getrf", "getrs")
GEMM, TRSM, POTRF, GETRF, GETRS = range(0, 2 * len(ROUTINES), 2)


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


_call13, _call11, _call5, _call6, _call9 = (_call_with(n) for n in (13, 11, 5, 6, 9))

# the arguments' stretch: 32 words; letters in words 0-3, integers in 4-11, numbers in 12-15


@njit(error_model="numpy")
def _letter(area, place, letter):  # type: ignore[no-untyped-def]
    as_b1(area + 8 * place)[0] = letter
    return area + 8 * place


@njit(error_model="numpy")
def _integer(area, place, value):  # type: ignore[no-untyped-def]
    as_i4(area + 8 * place)[0] = value
    return area + 8 * place


@njit(error_model="numpy")
def _number(area, place, value, number):  # type: ignore[no-untyped-def]
    if number == F8:
        as_f8(area + 8 * place)[0] = value
    else:
        as_f4(area + 8 * place)[0] = value
    return area + 8 * place


@njit(error_model="numpy")
def _routine(services, place, number):  # type: ignore[no-untyped-def]
    return as_i8(services[FUNCTIONS])[place + (0 if number == F8 else 1)]


@njit(error_model="numpy")
def gemm(services, number, m, n, k, a, a_row, a_column, b, b_row, b_column, beta, c, c_row, alpha):  # type: ignore[no-untyped-def]
    """c = alpha a b + beta c, for row-major c (m, n; its rows c_row apart); a (m, k) and b (k, n) by their strides.

    Of each operand's strides one must be 1 (or its axis have one element). Fortran sees the transposes: cᵀ = bᵀ aᵀ.
    """
    area = services[ARGUMENTS]
    a_plain, b_plain = a_column == 1 or k == 1, b_column == 1 or n == 1
    lda = max(a_row, k, 1) if a_plain else max(a_column, m, 1)
    ldb = max(b_row, n, 1) if b_plain else max(b_column, k, 1)
    _call13(
        _routine(services, GEMM, number),
        (
            _letter(area, 0, 78 if b_plain else 84),
            _letter(area, 1, 78 if a_plain else 84),
            _integer(area, 4, n),
            _integer(area, 5, m),
            _integer(area, 6, k),
            _number(area, 12, alpha, number),
            b,
            _integer(area, 7, ldb),
            a,
            _integer(area, 8, lda),
            _number(area, 13, beta, number),
            c,
            _integer(area, 9, max(c_row, n, 1)),
        ),
    )


@njit(error_model="numpy")
def trsm(services, number, m, n, a, b, lower, transposed, unit):  # type: ignore[no-untyped-def]
    """b = op(a)⁻¹ b in place, for row-major a (m, m) and b (m, n); op transposes where asked.

    Fortran sees bᵀ = bᵀ op(aᵀ)⁻¹: the other side, the other triangle.
    """
    area = services[ARGUMENTS]
    _call11(
        _routine(services, TRSM, number),
        (
            _letter(area, 0, 82),
            _letter(area, 1, 85 if lower else 76),
            _letter(area, 2, 84 if transposed else 78),
            _letter(area, 3, 85 if unit else 78),
            _integer(area, 4, n),
            _integer(area, 5, m),
            _number(area, 12, 1.0, number),
            a,
            _integer(area, 6, max(m, 1)),
            b,
            _integer(area, 7, max(n, 1)),
        ),
    )


@njit(error_model="numpy")
def potrf(services, number, n, a):  # type: ignore[no-untyped-def]
    """Cholesky's lower factor of row-major a (n, n), in its lower triangle; 0 where a is positive definite."""
    area = services[ARGUMENTS]
    _call5(
        _routine(services, POTRF, number),
        (_letter(area, 0, 85), _integer(area, 4, n), a, _integer(area, 5, max(n, 1)), _integer(area, 6, 0)),
    )
    return np.int64(as_i4(area + 48)[0])


@njit(error_model="numpy")
def getrf(services, number, n, a, pivots):  # type: ignore[no-untyped-def]
    """LU factors of aᵀ for row-major a (n, n), in place; pivots are n int32; 0 where a is regular."""
    area = services[ARGUMENTS]
    _call6(
        _routine(services, GETRF, number),
        (_integer(area, 4, n), _integer(area, 5, n), a, _integer(area, 6, max(n, 1)), pivots, _integer(area, 7, 0)),
    )
    return np.int64(as_i4(area + 56)[0])


@njit(error_model="numpy")
def getrs(services, number, n, columns, lu, pivots, b, transposed):  # type: ignore[no-untyped-def]
    """Solve with the factors of `getrf`: b, whose `columns` vectors of n lie one after another, becomes a⁻¹ b.

    transposed asks for a⁻ᵀ b. (The factors are those of aᵀ, so the letters are the other way round.)
    """
    area = services[ARGUMENTS]
    _call9(
        _routine(services, GETRS, number),
        (
            _letter(area, 0, 78 if transposed else 84),
            _integer(area, 4, n),
            _integer(area, 5, columns),
            lu,
            _integer(area, 6, max(n, 1)),
            pivots,
            b,
            _integer(area, 7, max(n, 1)),
            _integer(area, 8, 0),
        ),
    )
