"""The table of elementwise ops: one row an op, written like a table of derivatives in a book.

A row names the op; its value as an expression of the operands x, y, w; one partial an operand (dx, dy, dw), which
may also name the result z; the intervals that tests sample operands from; pins, the values that are fixed at kinks
and ties as ((operands), (partials)); and a doc line. `integer` says how the op acts on integers and booleans
("same": as on floats), `boolean` that its result is True or False, `select` that its partials are masks: where a
mask is zero nothing flows, whatever the adjoint; `zeros` names operands that, where all of them are zero, make the result
zero, whatever the others are. Everything else is made from the row: the opcode, the tile loops
and scalar switches of both sweeps (by `codegen.py`), the rule on tensors, the NumPy dispatch, tests, documentation.

Expressions may use: + - * / comparisons & | ~, where(c, a, b), and the names of FUNCTIONS.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .op import Elementwise, Interval, enter

WIDE: Interval = (-3.0, 3.0)
POSITIVE: Interval = (0.3, 4.0)

#: what expressions may call, beside where()
FUNCTIONS = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "hypot", "power", "floor", "ceil", "rint", "trunc", "floor_divide", "remainder", "fmod", "copysign", "sign", "isnan", "isfinite", "isinf", "expit", "erf", "logaddexp", "logaddexp2", "signbit", "maximum", "minimum", "fmax", "fmin"]


def chain(adjoint: Any, partial: Any) -> Any:
    """Multiply an adjoint by a partial; an adjoint that is exactly zero contributes exactly zero."""
    return np.where(adjoint == 0, adjoint, adjoint * partial)


def mask(adjoint: Any, partial: Any) -> Any:
    """Multiply an adjoint by a mask; where either is exactly zero the result is."""
    return np.where((adjoint == 0) | (partial == 0), np.zeros_like(adjoint), adjoint * partial)


def duplicate(x: Any) -> Any:
    """Copy."""
    return np.array(x, order="C")


def choose(condition: Any, x: Any, y: Any) -> Any:
    """Take x where the condition holds, y elsewhere."""
    return np.where(condition, x, y)


def former(x: Any, y: Any) -> Any:
    """Copy x, broadcast against y."""
    return np.array(np.broadcast_arrays(x, y)[0], order="C")


def cubed(x: Any) -> Any:
    """Multiply x by itself twice."""
    return x * x * x


def norm_root(x: Any) -> Any:
    """Take the square root of a sum of squares."""
    return np.sqrt(x)


def reference(name: str, of: Callable[..., Any] | str | None) -> Callable[..., Any]:
    """Find the NumPy (or SciPy) function that a row stands for."""
    if callable(of):
        return of
    if of is None:
        return getattr(np, name)  # type: ignore[no-any-return]
    module, _, attribute = of.rpartition(".")

    def late(*operands: Any) -> Any:  # SciPy's modules are imported when first needed, not before
        return getattr(importlib.import_module(module), attribute)(*operands)

    late.__name__ = attribute
    return late


def elementwise(
    name: str,
    value: str,
    dx: str | None = None,
    dy: str | None = None,
    dw: str | None = None,
    *,
    x: Interval = WIDE,
    y: Interval = WIDE,
    w: Interval = WIDE,
    numpy: Callable[..., Any] | str | None = None,
    arity: int = 1,
    integer: str | None = None,
    floating: bool = True,
    boolean: bool = False,
    select: bool = False,
    zeros: tuple[int, ...] = (),
    pins: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (),
    doc: str,
) -> Elementwise:
    """Declare one elementwise op."""
    op = Elementwise(
        name=name,
        code=len(ROWS),
        doc=doc,
        numpy=reference(name, numpy),
        arity=arity,
        value=value,
        partials=(dx, dy, dw)[:arity],
        select=select,
        integer=value if integer == "same" else integer,
        floating=floating,
        boolean=boolean,
        zeros=zeros,
        domains=(x, y, w)[:arity],
        pins=pins,
    )
    ROWS.append(op)
    enter(op)
    return op


ROWS: list[Elementwise] = []

# fmt: off
# ---- copies and arithmetic -------------------------------------------------------------------------------------
elementwise("copy", "x", dx="1.0", numpy=duplicate, integer="same", zeros=(0,), doc="x itself, in new memory (or another dtype)")
elementwise("add", "x + y", dx="1.0", dy="1.0", arity=2, integer="same", zeros=(0, 1), doc="sum")
elementwise("subtract", "x - y", dx="1.0", dy="-1.0", arity=2, integer="same", zeros=(0, 1), doc="difference")
elementwise("multiply", "x * y", dx="y", dy="x", arity=2, integer="same", doc="product")
elementwise("divide", "x / y", dx="1.0 / y", dy="-z / y", y=(0.5, 3.0), arity=2, doc="quotient")
elementwise("floor_divide", "floor_divide(x, y)", y=(0.5, 3.0), arity=2, integer="int_floor_divide(x, y)", doc="quotient, rounded down")
elementwise("remainder", "remainder(x, y)", dx="1.0", dy="-floor_divide(x, y)", x=(1.1, 1.9), y=(0.3, 0.5), arity=2, integer="int_remainder(x, y)", doc="what floor division leaves, with the divisor's sign")
elementwise("fmod", "fmod(x, y)", dx="1.0", dy="-trunc(x / y)", x=(1.1, 1.4), y=(0.8, 1.0), arity=2, doc="what truncated division leaves, with the dividend's sign")
elementwise("power", "power(x, y)", dx="where(y == 0.0, 0.0, y * power(x, y - 1.0))", dy="where(x == 0.0, 0.0, z * log(x))", x=POSITIVE, arity=2, pins=(((0.0, 0.0), (0.0, 0.0)), ((0.0, 2.0), (0.0, 0.0)), ((-2.0, 0.0), (0.0, np.nan))), doc="x to the power of y")
elementwise("negative", "-x", dx="-1.0", integer="same", zeros=(0,), doc="minus x")
elementwise("absolute", "abs(x)", dx="sign(x)", select=True, integer="same", pins=(((0.0,), (0.0,)),), doc="absolute value")
elementwise("square", "x * x", dx="2.0 * x", integer="same", doc="x times x")
elementwise("cubed", "x * x * x", dx="3.0 * x * x", numpy=cubed, integer="same", doc="x times x times x")
elementwise("reciprocal", "1.0 / x", dx="-(z * z)", x=POSITIVE, doc="one over x")
elementwise("sqrt", "sqrt(x)", dx="0.5 / z", x=POSITIVE, pins=(((0.0,), (np.inf,)),), doc="square root")
elementwise("norm_root", "sqrt(x)", dx="where(z == 0.0, 0.0, 0.5 / z)", x=POSITIVE, numpy=norm_root, pins=(((0.0,), (0.0,)),), doc="square root of a sum of squares, whose derivative at 0 is 0")
elementwise("cbrt", "cbrt(x)", dx="1.0 / (3.0 * (z * z))", x=POSITIVE, doc="cube root")
elementwise("hypot", "hypot(x, y)", dx="where(z == 0.0, 0.0, x / z)", dy="where(z == 0.0, 0.0, y / z)", x=(0.5, 2.0), arity=2, pins=(((0.0, 0.0), (0.0, 0.0)),), doc="length of (x, y)")
# ---- exponentials and logarithms -------------------------------------------------------------------------------
elementwise("exp", "exp(x)", dx="z", doc="e to the x")
elementwise("exp2", "exp2(x)", dx="0.6931471805599453 * z", doc="2 to the x")
elementwise("expm1", "expm1(x)", dx="z + 1.0", doc="e to the x, minus 1")
elementwise("log", "log(x)", dx="1.0 / x", x=POSITIVE, doc="natural logarithm")
elementwise("log2", "log2(x)", dx="1.4426950408889634 / x", x=POSITIVE, doc="logarithm to base 2")
elementwise("log10", "log10(x)", dx="0.4342944819032518 / x", x=POSITIVE, doc="logarithm to base 10")
elementwise("log1p", "log1p(x)", dx="1.0 / (1.0 + x)", x=(-0.7, 4.0), doc="log of 1 + x")
elementwise("logaddexp", "logaddexp(x, y)", dx="where(isfinite(z), exp(x - z), where(x == y, 0.5, where(x > y, 1.0, 0.0)))", dy="where(isfinite(z), exp(y - z), where(x == y, 0.5, where(y > x, 1.0, 0.0)))", arity=2, pins=(((-np.inf, -np.inf), (0.5, 0.5)), ((np.inf, 0.0), (1.0, 0.0))), doc="log(exp(x) + exp(y))")
elementwise("logaddexp2", "logaddexp2(x, y)", dx="where(isfinite(z), exp2(x - z), where(x == y, 0.5, where(x > y, 1.0, 0.0)))", dy="where(isfinite(z), exp2(y - z), where(x == y, 0.5, where(y > x, 1.0, 0.0)))", arity=2, doc="log2(2**x + 2**y)")
# ---- trigonometry ----------------------------------------------------------------------------------------------
elementwise("sin", "sin(x)", dx="cos(x)", doc="sine")
elementwise("cos", "cos(x)", dx="-sin(x)", doc="cosine")
elementwise("tan", "tan(x)", dx="1.0 + z * z", x=(-1.2, 1.2), doc="tangent")
elementwise("arcsin", "arcsin(x)", dx="1.0 / sqrt(1.0 - x * x)", x=(-0.8, 0.8), doc="inverse sine")
elementwise("arccos", "arccos(x)", dx="-1.0 / sqrt(1.0 - x * x)", x=(-0.8, 0.8), doc="inverse cosine")
elementwise("arctan", "arctan(x)", dx="1.0 / (1.0 + x * x)", doc="inverse tangent")
elementwise("arctan2", "arctan2(x, y)", dx="y / (x * x + y * y)", dy="-x / (x * x + y * y)", x=POSITIVE, y=POSITIVE, arity=2, doc="angle of the point (y, x)")
elementwise("sinh", "sinh(x)", dx="cosh(x)", doc="hyperbolic sine")
elementwise("cosh", "cosh(x)", dx="sinh(x)", doc="hyperbolic cosine")
elementwise("tanh", "tanh(x)", dx="1.0 - z * z", doc="hyperbolic tangent")
elementwise("arcsinh", "arcsinh(x)", dx="1.0 / sqrt(1.0 + x * x)", doc="inverse hyperbolic sine")
elementwise("arccosh", "arccosh(x)", dx="1.0 / (sqrt(x - 1.0) * sqrt(x + 1.0))", x=(1.3, 4.0), doc="inverse hyperbolic cosine")
elementwise("arctanh", "arctanh(x)", dx="1.0 / (1.0 - x * x)", x=(-0.8, 0.8), doc="inverse hyperbolic tangent")
elementwise("deg2rad", "x * 0.017453292519943295", dx="0.017453292519943295", doc="degrees to radians")
elementwise("rad2deg", "x * 57.29577951308232", dx="57.29577951308232", doc="radians to degrees")
# ---- special functions -----------------------------------------------------------------------------------------
elementwise("expit", "expit(x)", dx="z * (1.0 - z)", numpy="scipy.special.expit", doc="logistic sigmoid")
elementwise("erf", "erf(x)", dx="1.1283791670955126 * exp(-(x * x))", numpy="scipy.special.erf", doc="error function")
# ---- choices ---------------------------------------------------------------------------------------------------
elementwise("maximum", "maximum(x, y)", dx="(x > y) + 0.5 * (x == y)", dy="(y > x) + 0.5 * (x == y)", arity=2, select=True, integer="where(x > y, x, y)", pins=(((1.0, 1.0), (0.5, 0.5)),), doc="the larger; NaN if either is")
elementwise("minimum", "minimum(x, y)", dx="(x < y) + 0.5 * (x == y)", dy="(y < x) + 0.5 * (x == y)", arity=2, select=True, integer="where(x < y, x, y)", pins=(((1.0, 1.0), (0.5, 0.5)),), doc="the smaller; NaN if either is")
elementwise("fmax", "fmax(x, y)", dx="where(isnan(y), 1.0, (x > y) + 0.5 * (x == y))", dy="where(isnan(x), 1.0, (y > x) + 0.5 * (x == y))", arity=2, select=True, integer="where(x > y, x, y)", pins=(((1.0, 1.0), (0.5, 0.5)),), doc="the larger, NaN ignored")
elementwise("fmin", "fmin(x, y)", dx="where(isnan(y), 1.0, (x < y) + 0.5 * (x == y))", dy="where(isnan(x), 1.0, (y < x) + 0.5 * (x == y))", arity=2, select=True, integer="where(x < y, x, y)", pins=(((1.0, 1.0), (0.5, 0.5)),), doc="the smaller, NaN ignored")
elementwise("clip", "minimum(maximum(x, y), w)", dx="where((x >= y) & (x <= w), 1.0, 0.0)", dy="where((x < y) & (y <= w), 1.0, 0.0)", dw="where(maximum(x, y) > w, 1.0, 0.0)", y=(-1.1, -0.9), w=(0.9, 1.1), arity=3, select=True, integer="where(where(x > y, x, y) < w, where(x > y, x, y), w)", pins=(((-1.0, -1.0, 1.0), (1.0, 0.0, 0.0)), ((1.0, -1.0, 1.0), (1.0, 0.0, 0.0))), doc="x, kept between two bounds")
elementwise("where", "where(x != 0.0, y, w)", dy="where(x != 0.0, 1.0, 0.0)", dw="where(x != 0.0, 0.0, 1.0)", x=(0.0, 1.0), arity=3, select=True, numpy=choose, integer="where(x != 0, y, w)", zeros=(1, 2), doc="y where the condition x holds, w elsewhere")
elementwise("copysign", "copysign(x, y)", dx="copysign(1.0, x) * copysign(1.0, y)", x=POSITIVE, arity=2, doc="the size of x with the sign of y")
# ---- rounding --------------------------------------------------------------------------------------------------
elementwise("sign", "sign(x)", integer="(x > 0) * 1 - (x < 0) * 1", doc="-1, 0 or 1")
elementwise("floor", "floor(x)", integer="x", doc="round down")
elementwise("ceil", "ceil(x)", integer="x", doc="round up")
elementwise("rint", "rint(x)", doc="round to the nearest, ties to even")
elementwise("trunc", "trunc(x)", integer="x", doc="round towards zero")
# ---- comparisons and logic -------------------------------------------------------------------------------------
elementwise("less", "x < y", arity=2, boolean=True, integer="same", doc="x < y")
elementwise("less_equal", "x <= y", arity=2, boolean=True, integer="same", doc="x <= y")
elementwise("greater", "x > y", arity=2, boolean=True, integer="same", doc="x > y")
elementwise("greater_equal", "x >= y", arity=2, boolean=True, integer="same", doc="x >= y")
elementwise("equal", "x == y", arity=2, boolean=True, integer="same", doc="x equals y")
elementwise("not_equal", "x != y", arity=2, boolean=True, integer="same", doc="x differs from y")
elementwise("logical_and", "(x != 0) & (y != 0)", arity=2, boolean=True, integer="same", doc="both")
elementwise("logical_or", "(x != 0) | (y != 0)", arity=2, boolean=True, integer="same", doc="at least one")
elementwise("logical_xor", "(x != 0) != (y != 0)", arity=2, boolean=True, integer="same", doc="exactly one")
elementwise("logical_not", "x == 0", boolean=True, integer="same", doc="not")
elementwise("isfinite", "isfinite(x)", boolean=True, doc="neither infinite nor NaN")
elementwise("isinf", "isinf(x)", boolean=True, doc="infinite")
elementwise("isnan", "isnan(x)", boolean=True, doc="not a number")
elementwise("signbit", "signbit(x)", boolean=True, doc="sign bit set")
# ---- what rules and transforms are written with -------------------------------------------------------------------------------
elementwise("stop", "x", numpy=duplicate, integer="same", zeros=(0,), doc="x itself, through which no derivative flows")
elementwise("after", "x", dx="1.0", arity=2, numpy=former, integer="same", zeros=(0,), doc="x itself, in new memory, once y is there")
elementwise("chain", "where(x == 0.0, 0.0, x * y)", dx="y", dy="x", arity=2, numpy=chain, zeros=(0,), doc="adjoint times partial; an adjoint of zero contributes zero")
elementwise("mask", "where((x == 0.0) | (y == 0.0), 0.0, x * y)", dx="y", dy="x", y=(0.0, 1.0), arity=2, select=True, numpy=mask, zeros=(0,), doc="adjoint times mask; where either is zero so is the result")
# fmt: on
