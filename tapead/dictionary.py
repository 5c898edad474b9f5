"""The dictionary between the op table and SymPy: what ops are in SymPy, and what SymPy's functions are in NumPy.

Symbols stand for finite real numbers, and so does whatever is computed of them: `isfinite` of an expression is true.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import TapeadNotImplementedError
from .extras import require
from .interpreter import Numbers
from .scipy import special


@functools.cache
def sympy_numbers() -> Numbers:
    """Give SymPy's expressions as a kind of number."""
    sympy = require("sympy", "tapead.symbolic")
    true = sympy.true

    def piecewise(condition: Any, y: Any, w: Any) -> Any:
        condition = truth(condition)
        return sympy.Piecewise((number(y), condition), (number(w), True))

    def number(x: Any) -> Any:
        """Make 1 and 0 of truth values."""
        return sympy.Piecewise((1, x), (0, True)) if is_truth(x) else x

    def is_truth(x: Any) -> bool:
        return isinstance(x, bool | sympy.logic.boolalg.Boolean) and not isinstance(x, sympy.Symbol)

    def truth(x: Any) -> Any:
        return x if is_truth(x) else sympy.Ne(x, 0)

    def on_numbers(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *operands: f(*map(number, operands))

    def unequal(x: Any, y: Any) -> Any:
        if is_truth(x) and is_truth(y):
            return sympy.Xor(x, y)
        if is_truth(x) and y == 0:
            return x
        return sympy.Ne(number(x), number(y))

    def convert(value: Any) -> Any:
        """Make a number exact where it is a small fraction of two, or one of the table's constants."""
        if isinstance(value, bool):
            return true if value else sympy.false
        if isinstance(value, int):
            return sympy.Integer(value)
        named = {0.017453292519943295: sympy.pi / 180, 57.29577951308232: 180 / sympy.pi}
        if value in named:
            return named[value]
        if not np.isfinite(value):
            return {"inf": sympy.oo, "-inf": -sympy.oo, "nan": sympy.nan}[str(value)]
        numerator, denominator = value.as_integer_ratio()
        exact = denominator <= 1024 and abs(numerator) <= 2**53
        return sympy.Rational(numerator, denominator) if exact else sympy.Float(repr(value))

    def trunc(x: Any) -> Any:
        return sympy.Piecewise((sympy.floor(x), x >= 0), (sympy.ceiling(x), True))

    def rint(x: Any) -> Any:
        up = sympy.floor(x + sympy.Rational(1, 2))
        tie = sympy.And(sympy.Eq(up - x, sympy.Rational(1, 2)), sympy.Eq(up - 2 * sympy.floor(up / 2), 1))
        return sympy.Piecewise((up - 1, tie), (up, True))

    def cbrt(x: Any) -> Any:
        third = sympy.Rational(1, 3)
        return sympy.Piecewise((x**third, x >= 0), (-((-x) ** third), True))

    def finite(x: Any) -> Any:
        return sympy.false if x in (sympy.oo, -sympy.oo, sympy.zoo, sympy.nan) else true

    functions: dict[str, Callable[..., Any]] = {
        "abs": sympy.Abs,
        "exp": sympy.exp,
        "exp2": lambda x: 2**x,
        "expm1": lambda x: sympy.exp(x) - 1,
        "log": sympy.log,
        "log2": lambda x: sympy.log(x) / sympy.log(2),
        "log10": lambda x: sympy.log(x) / sympy.log(10),
        "log1p": lambda x: sympy.log(1 + x),
        "logaddexp": lambda x, y: sympy.log(sympy.exp(x) + sympy.exp(y)),
        "logaddexp2": lambda x, y: sympy.log(2**x + 2**y) / sympy.log(2),
        "sqrt": sympy.sqrt,
        "cbrt": cbrt,
        "hypot": lambda x, y: sympy.sqrt(x**2 + y**2),
        "power": sympy.Pow,
        "sin": sympy.sin,
        "cos": sympy.cos,
        "tan": sympy.tan,
        "arcsin": sympy.asin,
        "arccos": sympy.acos,
        "arctan": sympy.atan,
        "arctan2": sympy.atan2,
        "sinh": sympy.sinh,
        "cosh": sympy.cosh,
        "tanh": sympy.tanh,
        "arcsinh": sympy.asinh,
        "arccosh": sympy.acosh,
        "arctanh": sympy.atanh,
        "expit": lambda x: 1 / (1 + sympy.exp(-x)),
        "erf": sympy.erf,
        "maximum": sympy.Max,
        "minimum": sympy.Min,
        "fmax": sympy.Max,
        "fmin": sympy.Min,
        "copysign": lambda x, y: sympy.Piecewise((sympy.Abs(x), y >= 0), (-sympy.Abs(x), True)),
        "sign": sympy.sign,
        "floor": sympy.floor,
        "ceil": sympy.ceiling,
        "rint": rint,
        "trunc": trunc,
        "floor_divide": lambda x, y: sympy.floor(x / y),
        "remainder": lambda x, y: x - y * sympy.floor(x / y),
        "fmod": lambda x, y: x - y * trunc(x / y),
        "isfinite": finite,
        "isinf": lambda x: true if x in (sympy.oo, -sympy.oo) else sympy.false,
        "isnan": lambda x: true if x is sympy.nan else sympy.false,
        "signbit": lambda x: sympy.Lt(x, 0),
    }
    operators: dict[str, Callable[..., Any]] = {
        **{
            name: on_numbers(f)
            for name, f in (
                ("Add", operator.add),
                ("Sub", operator.sub),
                ("Mult", operator.mul),
                ("Div", operator.truediv),
                ("USub", operator.neg),
                ("Lt", sympy.Lt),
                ("LtE", sympy.Le),
                ("Gt", sympy.Gt),
                ("GtE", sympy.Ge),
            )
        },
        "Eq": lambda x, y: sympy.Not(unequal(x, y)),
        "NotEq": unequal,
        "BitAnd": sympy.And,
        "BitOr": sympy.Or,
    }
    functions = {name: on_numbers(f) for name, f in functions.items()} | {"where": piecewise}
    return Numbers("SymPy", convert, functions, operators)


# ---- back --------------------------------------------------------------------------------------------------------


def _folded(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: functools.reduce(f, values)


def _heaviside(x: Any, at_zero: Any = 0.5) -> Any:
    return np.where(x > 0, 1.0, np.where(x < 0, 0.0, at_zero))


def _delta(x: Any) -> Any:
    return np.where(x == 0, np.inf, 0.0)


#: the name of a function of SymPy's -> the same of NumPy's values, traced or not
NUMPY: dict[str, Callable[..., Any]] = {
    "Add": _folded(operator.add),
    "Mul": _folded(operator.mul),
    "Pow": np.power,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sec": lambda x: 1.0 / np.cos(x),
    "csc": lambda x: 1.0 / np.sin(x),
    "cot": lambda x: 1.0 / np.tan(x),
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "sech": lambda x: 1.0 / np.cosh(x),
    "csch": lambda x: 1.0 / np.sinh(x),
    "coth": lambda x: 1.0 / np.tanh(x),
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": special.erf,
    "Abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceiling": np.ceil,
    "Mod": np.remainder,
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "Heaviside": _heaviside,
    "DiracDelta": _delta,
    "StrictLessThan": np.less,
    "LessThan": np.less_equal,
    "StrictGreaterThan": np.greater,
    "GreaterThan": np.greater_equal,
    "Equality": np.equal,
    "Unequality": np.not_equal,
    "And": _folded(np.logical_and),
    "Or": _folded(np.logical_or),
    "Xor": _folded(np.logical_xor),
    "Not": np.logical_not,
}


def check(expression: Any) -> None:
    """Raise NotImplementedError unless every part of a SymPy expression has a counterpart in NumPy."""
    sympy = require("sympy", "tapead.symbolic")
    for part in sympy.preorder_traversal(expression):
        name = type(part).__name__
        number = (part.is_Number or part.is_NumberSymbol) and part is not sympy.zoo
        known = name in NUMPY or name in ("Piecewise", "ExprCondPair") or part.is_Symbol or number
        if not known and part not in (sympy.true, sympy.false):
            raise TapeadNotImplementedError(f"SymPy's {name} has no rule in tapead: {part}")
        if name == "DiracDelta" and len(part.args) > 1:
            raise TapeadNotImplementedError(f"derivatives of SymPy's DiracDelta have no rule in tapead: {part}")


def value_of(expression: Any, values: dict[Any, Any]) -> Any:
    """Evaluate a SymPy expression that was checked; values maps symbols, and takes in every part that is evaluated."""
    sympy = require("sympy", "tapead.symbolic")
    if expression in values:
        return values[expression]
    name = type(expression).__name__
    if expression in (sympy.true, sympy.false):
        made: Any = np.bool_(expression is sympy.true)
    elif expression.is_Number or expression.is_NumberSymbol:
        made = float(expression)
    elif isinstance(expression, sympy.Pow):
        made = _raised(sympy, expression, values)
    elif isinstance(expression, sympy.Piecewise):
        made = np.nan
        # the branches that are not taken may well be outside their domain
        with np.errstate(all="ignore"):
            for branch, condition in reversed(expression.args):
                y = value_of(branch, values)
                made = y if condition is sympy.true else np.where(value_of(condition, values), y, made)
    else:
        made = NUMPY[name](*(value_of(part, values) for part in expression.args))
    values[expression] = made
    return made


def _raised(sympy: Any, expression: Any, values: dict[Any, Any]) -> Any:
    """Evaluate a power, by a root or a division where it is one."""
    base, exponent = expression.args
    x = value_of(base, values)
    if exponent == -1:
        return 1.0 / x
    if exponent in (sympy.Rational(1, 2), -sympy.Rational(1, 2)):
        root = np.sqrt(x)
        return root if exponent > 0 else 1.0 / root
    if exponent == 2:
        return x * x
    return np.power(x, value_of(exponent, values))
