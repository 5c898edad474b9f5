"""SciPy's triangular solvers, for traced values and for ordinary arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dispatch import here, recording_of
from ..errors import TapeadValueError
from ..linear import floating, solution
from ..record import find_tensor
from ..tensor import Tensor

_TRANSPOSED = {0: False, 1: True, 2: True, "N": False, "T": True, "C": True}


def _operands(a: Any, b: Any, check_finite: bool, complaint: str) -> tuple[Tensor, Tensor]:
    """Make float tensors of a square matrix and its right-hand sides, checked as SciPy does."""
    recording = recording_of(a, b)
    a, b = floating(a, recording), floating(b, recording)
    for x in (a, b):
        if check_finite and not np.all(np.isfinite(x)):  # guarded: a replay checks as well
            raise TapeadValueError(f"array must not contain infs or NaNs, at {here()}")
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise TapeadValueError(f"{complaint} (shape {a.shape}), at {here()}")
    return a, b


def solve_triangular(
    a: Any,
    b: Any,
    trans: int | str = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """Solve a x = b for a triangular matrix a, of which only one triangle is read.

    `scipy.linalg.solve_triangular` for traced values; ordinary arrays go to SciPy's. a is (..., m, m), b is
    (m,) or (..., m, n), float64 or float32 (integers become float64); stacks are broadcast. trans 1 ("T", and
    2 or "C") solves with the transpose, unit_diagonal takes ones for the diagonal. overwrite_b does nothing
    for traced values. Raises LinAlgError for a zero on the diagonal, ValueError for shapes that do not fit,
    for an unknown trans, and (unless check_finite is False) for an infinity or NaN.

    >>> import numpy as np, tapead
    >>> from tapead.scipy.linalg import solve_triangular
    >>> a = np.array([[2.0, 0.0], [1.0, 4.0]])
    >>> tapead.grad(lambda b: np.sum(solve_triangular(a, b, lower=True)))(np.array([2.0, 5.0]))
    array([0.375, 0.25 ])
    """
    if find_tensor((a, b)) is None:
        from scipy.linalg import solve_triangular as plain

        return plain(a, b, trans, lower, unit_diagonal, overwrite_b, check_finite)
    a, b = _operands(a, b, check_finite, "expected square matrix")
    if trans not in _TRANSPOSED:
        raise TapeadValueError(f"trans must be 0, 1, 2, 'N', 'T' or 'C', not {trans!r}, at {here()}")
    way = {"lower": bool(lower), "transposed": _TRANSPOSED[trans], "unit": bool(unit_diagonal)}
    return solution("solve_triangular", a, b, **way)


def cho_solve(c_and_lower: tuple[Any, bool], b: Any, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    """Solve a x = b, given Cholesky's factor of a.

    `scipy.linalg.cho_solve` for traced values; ordinary arrays go to SciPy's. c_and_lower is (c, lower):
    c (..., m, m) with a = c cᵀ if lower, else a = cᵀ c, of which only that triangle is read; b is (m,) or
    (..., m, n). overwrite_b does nothing for traced values. Raises LinAlgError for a zero on the diagonal of
    c, ValueError for shapes that do not fit and (unless check_finite is False) for an infinity or NaN.

    >>> import numpy as np, tapead
    >>> from tapead.scipy.linalg import cho_solve
    >>> def f(a):
    ...     b = np.array([1.0, 2.0])
    ...     return b @ cho_solve((np.linalg.cholesky(a), True), b)
    >>> tapead.grad(f)(np.array([[2.0, 0.0], [0.0, 1.0]]))
    array([[-0.25,  0.  ],
           [-2.  , -4.  ]])
    """
    c, lower = c_and_lower
    if find_tensor((c, b)) is None:
        from scipy.linalg import cho_solve as plain

        return plain(c_and_lower, b, overwrite_b, check_finite)
    c, b = _operands(c, b, check_finite, "The factored matrix c is not square.")
    half = solution("solve_triangular", c, b, lower=bool(lower), transposed=not lower, unit=False)
    return solution("solve_triangular", c, half, lower=bool(lower), transposed=bool(lower), unit=False)
