"""Vector mathematics: functions of numbers that LLVM inlines into the loops of blocks, and vectorises.

One text serves float64 and float32, which differ in coefficients only: polynomials of few terms after an exact
reduction, without a branch or a table, so that any CPU with vectors and fused multiply-add does several numbers at
once. `fma` is called where rounding once matters, so results depend neither on the CPU nor on a number's place in a
loop. Angles above NEAR (2**40, or 2**15 in float32) are the exception: a tile that has one is done number by number.

Largest errors seen, in units in the last place, over some 500,000 arguments of all sizes, float64 and float32:
exp .74 .74, exp2 .70 .74, expm1 1.21 1.10, log .62 .58, log2 .73 .60, log10 .61 .60, log1p .78 .76, power .70 .78,
sin .79 .77, cos .75 .75, tan .95 1.15, arcsin .77 .71, arccos .69 .65, arctan 1.22 1.09, arctan2 1.24 1.21,
sinh 1.56 1.53, cosh 1.13 1.08, tanh .93 .90, arcsinh .93 1.01, arccosh 1.25 1.29, arctanh .72 .68, expit 1.41 1.38;
erf 1.1 1.1 over 20,000. The sum of logaddexp cancels where it is near zero, as NumPy's does.
"""

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

#: functions that leave vectors where an operand is huge, and what a vectorised loop calls where none is
NEAR_ONLY = {"sin": "near_sin", "cos": "near_cos", "tan": "near_tan"}

__all__ = [
    "all_near", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cos", "cosh", "erf", "exp",
    "exp2", "expit", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "logaddexp2", "near_cos", "near_sin",
    "near_sincos", "near_tan", "power", "sin", "sinh", "tan", "tanh",
]  # fmt: skip
