"""Vector mathematics: functions of numbers that LLVM inlines into the loops of blocks, and vectorises."""

from .exponentials import (
    arccosh,
    arcsinh,
    arctanh,
    cosh,
    erf,
    exp,
    exp2,
    expit,
    expm1,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logaddexp2,
    power,
    sinh,
    tanh,
)
from .trigonometry import (
    all_near,
    arccos,
    arcsin,
    arctan,
    arctan2,
    cos,
    near_cos,
    near_sin,
    near_sincos,
    near_tan,
    sin,
    tan,
)

#: functions that reach the C library where an operand is huge, and what a vectorised loop calls where none is
NEAR_ONLY = {"sin": "near_sin", "cos": "near_cos", "tan": "near_tan"}

__all__ = [
    "all_near", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cos", "cosh", "erf", "exp",
    "exp2", "expit", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "logaddexp2", "near_cos", "near_sin",
    "near_sincos", "near_tan", "power", "sin", "sinh", "tan", "tanh",
]  # fmt: skip
