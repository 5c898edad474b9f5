"""What formulas may hold, and what to say of what they may not: tables for `expression`."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import numpy as tnp
from .kernels.elementwise import ROWS
from .scipy import special

CONSTANTS = {"pi": math.pi, "e": math.e}

_OTHERS = """
    sum mean prod max min var std cumsum norm trace det inv transpose logsumexp softmax log_softmax entr
    asin acos atan asinh acosh atanh abs ln
    dot matmul outer solve atan2 pow xlogy
"""
_SECOND = {"dot", "matmul", "outer", "solve", "atan2", "pow", "xlogy"}


def _find(name: str) -> Callable[..., Any] | None:
    """Find the function of arrays and traced values that a name stands for in formulas; rules' own rows have none."""
    name = {"ln": "log"}.get(name, name)
    return next((getattr(space, name) for space in (special, tnp, tnp.linalg) if hasattr(space, name)), None)


_ARITIES = {row.name: row.arity for row in ROWS} | {name: 1 + (name in _SECOND) for name in _OTHERS.split()}

#: name -> (function, number of arguments): the op table, and functions of arrays
FUNCTIONS = {name: (function, arity) for name, arity in _ARITIES.items() if (function := _find(name)) is not None}

#: operators between two operands
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder,
    ast.Pow: np.power,
    ast.MatMult: np.matmul,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}

#: what is Python and no formula -> what to say
REFUSED: dict[type[ast.AST], str] = {
    ast.Attribute: "attributes are refused: call a function by its name alone, as in sin(x)",
    ast.Subscript: "subscripts are refused: give each element a name, or trace FILE.py:FUNCTION",
    ast.Lambda: "lambda is refused: a formula has no functions of its own",
    ast.IfExp: "if and else are refused: use where(condition, a, b)",
    ast.And: "and is refused: use logical_and(a, b)",
    ast.Or: "or is refused: use logical_or(a, b)",
    ast.Not: "not is refused: use logical_not(a)",
    ast.BitAnd: "& is refused: use logical_and(a, b)",
    ast.BitOr: "| is refused: use logical_or(a, b)",
    ast.BitXor: "^ is refused: use a ** b for a power, logical_xor(a, b) for either but not both",
    ast.Invert: "~ is refused: use logical_not(a)",
    ast.LShift: "<< is refused: use a * 2**b",
    ast.RShift: ">> is refused: use a // 2**b",
    ast.Is: "is is refused: compare with ==",
    ast.IsNot: "is not is refused: compare with !=",
    ast.In: "in is refused: a formula compares numbers only",
    ast.NotIn: "not in is refused: a formula compares numbers only",
    ast.List: "lists are refused: arrays are given as values, as in x=[1,2]",
    ast.Tuple: "tuples are refused: a formula gives one value",
    ast.Set: "sets are refused",
    ast.Dict: "dictionaries are refused",
    ast.ListComp: "comprehensions are refused",
    ast.SetComp: "comprehensions are refused",
    ast.DictComp: "comprehensions are refused",
    ast.GeneratorExp: "comprehensions are refused",
    ast.JoinedStr: "strings are refused",
    ast.NamedExpr: ":= is refused: a formula assigns nothing",
    ast.Starred: "starred arguments are refused",
    ast.Await: "await is refused",
    ast.Yield: "yield is refused",
    ast.YieldFrom: "yield is refused",
}
