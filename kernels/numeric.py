"""Functions of single numbers behind the expressions of the op table, with NumPy's behaviour at the edges.

Where numbers come one by one, it is latency that counts: some functions of `vecmath.py` are quicker here too, for
others the C library is, with its tables and branches. What NumPy does differently (floor division, maximum with
NaN, rounding half to even, ...) is written out, small enough that LLVM inlines it into the generated loops.
"""

import math
from math import (
    acos as arccos,
)
from math import (
    acosh as arccosh,
)
from math import (
    asin as arcsin,
)
from math import (
    copysign,
    cos,
    cosh,
    erf,
    exp,
    hypot,
    isfinite,
    isinf,
    isnan,
    log,
    log10,
    sin,
    sqrt,
    tan,
)

import numpy as np

from .exponentials import ONE, arcsinh, arctanh, expm1, log1p, sinh, tanh
from .floats import pick
from .jit import kernel
from .trigonometry import arctan, arctan2

exp2, cbrt, log2, floor, ceil, rint, trunc = np.exp2, np.cbrt, np.log2, np.floor, np.ceil, np.rint, np.trunc
sign, signbit = np.sign, np.signbit
logaddexp, logaddexp2, fmod = np.logaddexp, np.logaddexp2, np.fmod

__all__ = [  # noqa: RUF022 - the order of the table
    "where", "power", "expit", "maximum", "minimum", "fmax", "fmin", "int_floor_divide", "int_remainder",
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "copysign", "cos", "cosh", "erf", "exp",
    "expm1", "fmod", "hypot", "isfinite", "isinf", "isnan", "log", "log1p", "log10", "sin", "sinh", "sqrt", "tan", "tanh",
    "exp2", "cbrt", "log2", "floor", "ceil", "rint", "trunc", "sign", "signbit", "floor_divide", "remainder",
    "logaddexp", "logaddexp2",
]  # fmt: skip


@kernel
def where(condition, x, y):  # type: ignore[no-untyped-def]
    return x if condition else y


@kernel
def power(x, y):  # type: ignore[no-untyped-def]
    return x**y


@kernel
def expit(x):  # type: ignore[no-untyped-def]
    one = pick(x, ONE)
    e = exp(-abs(x))
    return (one if x >= 0 else e) / (one + e)


@kernel
def maximum(x, y):  # type: ignore[no-untyped-def]
    return x if (x > y) | (x != x) else y


@kernel
def minimum(x, y):  # type: ignore[no-untyped-def]
    return x if (x < y) | (x != x) else y


@kernel
def fmax(x, y):  # type: ignore[no-untyped-def]
    return x if (x > y) | (y != y) else y


@kernel
def fmin(x, y):  # type: ignore[no-untyped-def]
    return x if (x < y) | (y != y) else y


@kernel
def int_floor_divide(x, y):  # type: ignore[no-untyped-def]
    return x // y if y != 0 else x * 0


@kernel
def int_remainder(x, y):  # type: ignore[no-untyped-def]
    return x % y if y != 0 else x * 0


@kernel
def floor_divide(x, y):  # type: ignore[no-untyped-def]
    if y == 0:
        return x / y
    rest = np.fmod(x, y)
    quotient = (x - rest) / y
    if rest != 0 and (y < 0) != (rest < 0):
        quotient -= 1
    if quotient == 0:
        return math.copysign(quotient, x / y)
    down = np.floor(quotient)
    return down + 1 if quotient - down > 0.5 else down


@kernel
def remainder(x, y):  # type: ignore[no-untyped-def]
    rest = np.fmod(x, y)
    if y == 0 or rest != rest:
        return rest
    if rest == 0:
        return math.copysign(rest, y)
    return rest + y if (y < 0) != (rest < 0) else rest
