"""Formulas: what a function does as a SymPy expression, its derivatives as a textbook has them, and the way back."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .calling import check_callable, names_for
from .errors import TapeadTypeError, TapeadValueError
from .extras import require
from .interpreter import Interpreter, Recorded, record
from .operations import ADDITION, CHOICE, FUNCTION, MULTIPLICATION, Operations, total
from .record import find_tensor
from .tree import flatten, paths, unflatten

__all__ = ["Symbolic", "expression", "function"]


@dataclass(frozen=True)
class Symbolic:
    """A formula and the symbols in it.

    `expression` is SymPy's, an array of such, or a tree of them, as the function gave; `symbols` is a tuple of what stands
    for each argument: a symbol for a number, an array of symbols for an array.
    """

    expression: Any
    symbols: tuple[Any, ...]

    def derivative(self, *by: Any) -> Symbolic:
        """Differentiate by a symbol, or by one after another, as a textbook does: each rule applied, nothing shared.

        Raises TypeError for what is no symbol of the formula.

        >>> import tapead
        >>> f = tapead.symbolic.expression(lambda x, y: x * x * y, 1.0, 1.0)
        >>> print(f.derivative(f.symbols[0]))
        2*x*y
        """
        known = set(filter(_is_symbol, _elements(self.symbols)))
        wrong = [symbol for symbol in by if symbol not in known]
        if wrong or not by:
            named = ", ".join(sorted(map(str, known)))
            raise TapeadTypeError(
                f"derivative takes symbols of the formula ({named}), not {', '.join(map(repr, wrong))}"
            )
        return Symbolic(_each(self.expression, lambda e: functools.reduce(_slope, by, e)), self.symbols)

    def gradient(self) -> Symbolic:
        """Differentiate by every symbol, each partial expanded for itself: shaped like the argument that has symbols, or a
        tuple of such, where there are several.

        Raises TypeError where the formula is not one expression.

        >>> import numpy as np, tapead
        >>> print(tapead.symbolic.expression(np.prod, np.ones(3)).gradient())
        [a1*a2, a0*a2, a0*a1]
        """
        if not isinstance(self.expression, require("sympy", "tapead.symbolic").Expr):
            raise TapeadTypeError("the gradient is that of one expression: this formula has several; use derivative")
        named = [symbols for symbols in self.symbols if any(map(_is_symbol, _elements(symbols)))]
        made = tuple(_each(symbols, lambda s: _slope(self.expression, s)) for symbols in named)
        return Symbolic(made[0] if len(made) == 1 else made, self.symbols)

    def operations(self) -> Operations:
        """Count the operations of evaluating the formula as it is written, each part as often as it occurs.

        >>> import numpy as np, tapead
        >>> tapead.symbolic.expression(np.prod, np.ones(10)).gradient().operations().multiplications
        80
        """
        known: dict[Any, Operations] = {}
        return total(_count(e, known) for e in _elements(self.expression))

    def latex(self) -> str:
        """Give the formula as LaTeX: an array as a matrix, a tree as its parts.

        >>> import numpy as np, tapead
        >>> print(tapead.symbolic.expression(lambda x: np.sin(x) / 2, 1.0).latex())
        \\frac{\\sin{\\left(x \\right)}}{2}
        """
        sympy = require("sympy", "tapead.symbolic")
        parts = flatten(self.expression)[0]
        return r",\quad ".join(sympy.latex(sympy.Array(p) if isinstance(p, np.ndarray) else p) for p in parts)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        return str(_each(self.expression, lambda e: e, lists=True))

    def __repr__(self) -> str:
        return f"Symbolic({self})"


def expression(f: Callable[..., Any], *args: Any, names: Sequence[str] | None = None) -> Symbolic:
    """Give what a function does as a formula: it is traced on example values, whose elements become real symbols.

    Arguments are numbers, small arrays, or trees of them; floats become symbols, anything else stays as it is. A number
    is named like the parameter, elements `x0`, `x1`, ... (`x0_1` in two dimensions), or by `names`, one for each argument.
    `where` becomes Piecewise, comparisons relations, `maximum` Max. Where the function branches on a value, the formula is
    that of the branch that the examples take. It holds where all numbers in it are real and finite; at a kink SymPy's
    derivative may be another one than tapead's. What stops derivatives, and rules of one's own, leave the value alone: SymPy
    differentiates the formula.

    Raises NotImplementedError, with the line, for an operation that SymPy has no counterpart for, TypeError where a number
    leaves the tape, ValueError for names that do not fit, ModuleNotFoundError without SymPy (extra `symbolic`).

    >>> import numpy as np, tapead
    >>> print(tapead.symbolic.expression(lambda x1, x2: np.log(x1) + x1 * x2 - np.sin(x2), 2.0, 5.0))
    x1*x2 + log(x1) - sin(x2)
    """
    require("sympy", "tapead.symbolic")
    from .dictionary import sympy_numbers

    check_callable(f)
    recorded = record(f, *args)
    named = _named(recorded, names_for(f, len(args), names), args)
    numbers = sympy_numbers()
    interpreter = Interpreter(recorded.tape, numbers)
    for i, storage in recorded.inputs.items():
        interpreter.put(storage, named[i])
    interpreter.run()
    made = [interpreter.get(buffer) for buffer in recorded.outputs]
    made = [value.copy() if value.ndim else value[()] for value in made]
    return Symbolic(unflatten(recorded.structure, made), unflatten(recorded.arguments, named))


def function(expression: Any, symbols: Any = None) -> Callable[..., Any]:
    """Give a SymPy expression as a function of NumPy values, which tapead differentiates like any other.

    `expression` is one, an array or nested lists of them, or a `Symbolic`, which brings its symbols. `symbols` are the
    arguments: a symbol for an argument of any shape, on which it acts element by element, an array or nested lists of
    symbols for an array of that shape. Parts that occur more than once are computed once.

    Raises NotImplementedError for SymPy's functions without a rule (they are named) and numbers that are not real,
    ValueError for symbols that are no argument, TypeError for what is no expression.

    >>> import sympy, tapead
    >>> x, y = sympy.symbols("x y")
    >>> f = tapead.symbolic.function(sympy.sin(x) * y**2, [x, y])
    >>> [float(g) for g in tapead.grad(f, (0, 1))(0.0, 3.0)]
    [9.0, 0.0]
    """
    sympy = require("sympy", "tapead.symbolic")
    from .dictionary import check

    if isinstance(expression, Symbolic):
        if symbols is None:
            symbols = expression.symbols
        expression = expression.expression
    if symbols is None:
        raise TapeadTypeError("function needs symbols: the arguments, in order")
    arguments = tuple(symbols) if isinstance(symbols, list | tuple) else (symbols,)
    expression = _plain(sympy, expression)
    arguments = tuple(_plain(sympy, a) for a in arguments)
    known = set(filter(_is_symbol, _elements(arguments)))
    for part in _elements(expression):
        if not isinstance(part, sympy.Basic):
            raise TapeadTypeError(f"a {type(part).__name__} is no SymPy expression: {part!r}")
        check(part)
        missing = sorted(map(str, part.free_symbols - known))
        if missing:
            raise TapeadValueError(f"the expression has symbols that are no argument: {', '.join(missing)}")

    def formula(*values: Any) -> Any:
        if len(values) != len(arguments):
            raise TapeadTypeError(f"the formula takes {len(arguments)} arguments, not {len(values)}")
        bound: dict[Any, Any] = {}
        for symbol, value in zip(arguments, values, strict=True):
            _bind(sympy, symbol, value, bound)
        return _evaluated(expression, bound)

    formula.__doc__ = f"Evaluate {expression}."
    return formula


# ---- symbols -----------------------------------------------------------------------------------------------------


def _named(recorded: Recorded, names: Sequence[str], args: Sequence[Any]) -> list[Any]:
    """Put symbols in the place of the leaves that are inputs."""
    sympy = require("sympy", "tapead.symbolic")
    bases = []
    for name, argument in zip(names, args, strict=True):
        bases += ["_".join([name, *re.findall(r"\w+", path)]) for path in paths(argument)]
    used: set[str] = set()

    def symbol(name: str) -> Any:
        if name in used:
            raise TapeadValueError(f"two symbols would be called {name}: give other names=")
        used.add(name)
        return sympy.Symbol(name, real=True)

    made = list(recorded.leaves)
    for i in recorded.inputs:
        leaf, base = np.asarray(made[i]), bases[i]
        if not leaf.ndim:
            made[i] = symbol(base)
            continue
        between = "_" if base[-1].isdigit() else ""
        made[i] = np.empty(leaf.shape, object)
        for index in np.ndindex(leaf.shape):
            made[i][index] = symbol(base + between + "_".join(map(str, index)))
    return made


def _bind(sympy: Any, symbol: Any, value: Any, bound: dict[Any, Any]) -> None:
    """Map symbols to the values of an argument."""
    if isinstance(symbol, sympy.Symbol):
        if find_tensor(value) is None:
            value = np.asarray(value)
            value = (value if value.dtype.kind == "f" else value.astype(float))[()]
        bound[symbol] = value
    elif isinstance(symbol, np.ndarray) and symbol.dtype == object:
        if np.shape(value) != symbol.shape:
            raise TapeadValueError(f"an argument has shape {np.shape(value)}; its symbols have {symbol.shape}")
        for index in np.ndindex(symbol.shape):
            _bind(sympy, symbol[index], value[index] if index else value, bound)
    elif isinstance(symbol, dict):
        for key, part in symbol.items():
            _bind(sympy, part, value[key], bound)
    elif isinstance(symbol, list | tuple):
        if len(value) != len(symbol):
            raise TapeadValueError(f"an argument has {len(value)} parts; its symbols have {len(symbol)}")
        for part, own in zip(symbol, value, strict=True):
            _bind(sympy, part, own, bound)


def _plain(sympy: Any, tree: Any) -> Any:
    """Make arrays of SymPy's matrices and of nested lists, and SymPy's numbers of Python's."""
    if isinstance(tree, tuple | dict):
        leaves, structure = flatten(tree)
        return unflatten(structure, [_plain(sympy, leaf) for leaf in leaves])
    if isinstance(tree, sympy.MatrixBase | sympy.NDimArray):
        tree = tree.tolist()
    if isinstance(tree, list | np.ndarray):
        return _each(np.array(tree, dtype=object), lambda e: _plain(sympy, e))
    return sympy.sympify(tree) if isinstance(tree, int | float | np.number) else tree


# ---- expressions -------------------------------------------------------------------------------------------------


def _is_symbol(x: Any) -> bool:
    return isinstance(x, require("sympy", "tapead.symbolic").Symbol)


def _elements(tree: Any) -> list[Any]:
    """Give all expressions of a tree of arrays."""
    return [e for leaf in flatten(tree)[0] for e in (leaf.reshape(-1) if isinstance(leaf, np.ndarray) else [leaf])]


def _each(tree: Any, f: Callable[[Any], Any], lists: bool = False) -> Any:
    """Do something with each expression of a tree of arrays; with `lists`, arrays become nested lists."""
    leaves, structure = flatten(tree)
    made = []
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            array = np.empty(leaf.shape, object)
            array.reshape(-1)[:] = [f(e) for e in leaf.reshape(-1)]
            made.append(array.tolist() if lists else array)
        else:
            made.append(f(leaf))
    return unflatten(structure, made)


def _slope(e: Any, symbol: Any) -> Any:
    """Differentiate by a symbol; what rounds has slope 0."""
    sympy = require("sympy", "tapead.symbolic")
    if not _is_symbol(symbol):
        return sympy.S.Zero  # by a number in a tree that has symbols, too
    if not isinstance(e, sympy.Expr):
        raise TapeadTypeError(f"truth values have no derivative: {e}")
    real = _real_functions()
    own = {theirs: mine for theirs, mine in real.items() if e.has(theirs)}
    for theirs, mine in own.items():
        e = e.replace(theirs, mine)
    made = sympy.diff(e, symbol)
    for theirs, mine in real.items() if own else ():
        made = made.replace(mine, theirs)
    return made


@functools.cache
def _real_functions() -> dict[Any, Any]:
    """Give stand-ins for those of SymPy's functions that it differentiates as complex ones, or not at all."""
    sympy = require("sympy", "tapead.symbolic")

    def standing(name: str, slope: Callable[[Any], Any]) -> Any:
        return type(name, (sympy.Function,), {"fdiff": lambda self, argindex=1: slope(self.args[0])})

    sign = standing("Sign", lambda u: 2 * sympy.DiracDelta(u))
    absolute = standing("Absolute", sign)
    floor, ceiling = (standing(name, lambda u: sympy.S.Zero) for name in ("Floor", "Ceiling"))
    return {sympy.Abs: absolute, sympy.sign: sign, sympy.floor: floor, sympy.ceiling: ceiling}


def _choices(sympy: Any) -> tuple[Any, ...]:
    relational = sympy.core.relational.Relational
    return relational, sympy.Abs, sympy.sign, sympy.floor, sympy.ceiling, sympy.Heaviside, sympy.DiracDelta


def _count(e: Any, known: dict[Any, Operations]) -> Operations:
    """Count the operations of an expression."""
    if e in known:
        return known[e]
    sympy = require("sympy", "tapead.symbolic")
    within = total(_count(part, known) for part in e.args)
    own = Operations()
    if isinstance(e, sympy.Add):
        own = (len(e.args) - 1) * ADDITION
    elif isinstance(e, sympy.Mul):
        factors = [f for f in e.args if f != -1]
        inverse = sum(1 for f in factors if isinstance(f, sympy.Pow) and f.exp in (-1, -2, -3))
        # a division joins two factors as a product does: the inverse itself was counted with the power
        own = (len(factors) - 1 - min(inverse, len(factors) - 1)) * MULTIPLICATION
    elif isinstance(e, sympy.Pow):
        exponent = e.exp
        if exponent.is_Integer and abs(exponent) <= 3:
            own = (abs(int(exponent)) - (int(exponent) > 0)) * MULTIPLICATION
        else:
            own = FUNCTION
    elif isinstance(e, sympy.Max | sympy.Min | sympy.And | sympy.Or | sympy.Xor | sympy.Piecewise):
        own = (len(e.args) - 1) * CHOICE
    elif isinstance(e, _choices(sympy)):
        own = CHOICE
    elif isinstance(e, sympy.Function):
        own = FUNCTION
    known[e] = own + within
    return known[e]


def _evaluated(tree: Any, bound: dict[Any, Any]) -> Any:
    """Evaluate every expression of a tree of arrays; the elements of an array come first among its axes."""
    from .dictionary import value_of

    def array(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return value_of(leaf, bound)
        parts = np.broadcast_arrays(*(value_of(e, bound) for e in leaf.reshape(-1)))
        if not parts:
            return np.zeros(leaf.shape)
        stacked = np.stack(parts)
        return np.reshape(stacked, (*leaf.shape, *stacked.shape[1:]))

    leaves, structure = flatten(tree)
    return unflatten(structure, [array(leaf) for leaf in leaves])
