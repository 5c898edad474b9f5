"""How kernels are compiled: the flags in one place.

Only entry points (in the generated files) are called from Python, so what they are made of needs no wrappers;
leaving those out saves a tenth of the compile time. NumPy's error model: division by zero gives inf or NaN.
"""

from functools import partial
from typing import Any

from numba import cfunc, njit, types

_inner: dict[str, Any] = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

#: a function that other kernels call
kernel: Any = njit(**_inner)

#: the same for loops that may add in another order, so that they vectorise
summing_kernel: Any = njit(**_inner, fastmath={"reassoc", "contract"})

#: an entry point with an address: (parameters, values, adjoints, services) -> status, all int64
entry_point = cfunc(types.int64(*[types.int64] * 4), cache=True, error_model="numpy")

#: an entry point that Python calls, kept in numba's cache
callable_kernel = partial(njit, error_model="numpy", cache=True)

#: a function of numbers that is inlined wherever it is called, so that the calling loop vectorises
vector_kernel: Any = njit(**_inner, forceinline=True)
