"""Formulas as text: `parse("log(x1) + x1*x2")` gives a function of x1 and x2, without running the text as Python.

Python's own parser makes the syntax tree; what a formula may hold is listed here, and everything else is refused
with its place marked. Operations are done in the order of their depth, as the forward trace of a computational
graph is numbered: first those that need inputs and numbers only, from left to right, then those that need these.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .errors import ExpressionError, TapeadTypeError
from .vocabulary import CONSTANTS, FUNCTIONS, OPERATORS, REFUSED

#: the longest formula, in characters, and the most levels that operations may stand in one another
LONGEST, DEEPEST = 10_000, 200


class Step(NamedTuple):
    """One operation: its function, the places of its operands among the values so far, its place in the text."""

    function: Callable[..., Any]
    operands: tuple[int, ...]
    position: int


@dataclass(frozen=True, eq=False, repr=False)
class Expression:
    """A formula that has been read: a function of its variables, in the order of their first appearance.

    Called with numbers, arrays or traced values it computes as NumPy does. It raises an `ExpressionError`, with the
    operation marked, where they do not fit together, and a `TypeError` for a wrong number of them.

    >>> f = parse("x**2 + sin(0*y)")
    >>> f, f.names, float(f(3.0, 1.0))
    (Expression('x**2 + sin(0*y)'), ('x', 'y'), 9.0)
    """

    text: str
    names: tuple[str, ...]
    constants: tuple[float, ...]
    steps: tuple[Step, ...]
    result: int

    def __call__(self, *values: Any) -> Any:
        if len(values) != len(self.names):
            wanted = f"{len(self.names)} values ({', '.join(self.names)})" if self.names else "no values"
            raise TapeadTypeError(f"{self!r} takes {wanted}, {len(values)} are given")
        made = [*values, *self.constants]
        for function, operands, position in self.steps:
            try:
                made.append(function(*[made[i] for i in operands]))
            except (ValueError, TypeError, NotImplementedError) as error:
                raise ExpressionError(marked(_without_place(error), self.text, position)) from error
        return made[self.result]

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @property
    def __name__(self) -> str:
        return self.text if len(self.text) <= 60 else f"{self.text[:57]}..."

    @property
    def __signature__(self) -> inspect.Signature:
        kind = inspect.Parameter.POSITIONAL_ONLY
        return inspect.Signature([inspect.Parameter(name, kind) for name in self.names])


def parse(text: str) -> Expression:
    """Read a formula.

    It may hold names, numbers, `+ - * / // % ** @`, comparisons, `where`, the constants `pi` and `e`, and the
    functions in `FUNCTIONS`: those of the op table, and `sum`, `mean`, `dot` and the like. A part without a name is
    computed at once, in double precision. Anything else raises an `ExpressionError` that marks the place.

    >>> f = parse("log(x1) + x1*x2 - sin(x2)")
    >>> round(float(f(2.0, 5.0)), 3)
    11.652
    >>> parse("x.real")
    Traceback (most recent call last):
    tapead.errors.ExpressionError: attributes are refused: call a function by its name alone, as in sin(x)
      x.real
      ^
    """
    if not isinstance(text, str):
        raise TapeadTypeError(f"a formula is a str, not {type(text).__name__}")
    # A formula may stand on several lines; one character stays one, so that positions do.
    text = re.sub(r"\s", " ", text).strip()
    if len(text) > LONGEST:
        raise ExpressionError(marked(f"too long: {len(text):,} characters, {LONGEST:,} are allowed", text, LONGEST))
    if not text:
        raise ExpressionError("the formula is empty")
    for character, what in (("\0", "a null byte"), ("#", "a comment")):
        if character in text:
            raise ExpressionError(marked(f"{what} is refused", text, text.index(character)))
    tree = _tree(text)
    return _Reader(text).expression(tree)


def marked(message: str, text: str, position: int) -> str:
    """Add to a message the part of a formula around a position, and a mark under it."""
    start = max(0, position - 40) if len(text) > 76 else 0
    part = text[start : start + 76]
    line = "".join(character if character.isprintable() else "?" for character in part)
    before, after = "..." * (start > 0), "..." * (start + 76 < len(text))
    return f"{message}\n  {before}{line}{after}\n  {' ' * (len(before) + position - start)}^"


def _without_place(error: Exception) -> str:
    """Give an error's message in one line, without the line of the program that calls the formula."""
    return " ".join(re.sub(r",? at [^,]*:\d+, in [^\s.)]*", "", str(error)).split())


def _tree(text: str) -> ast.expr:
    """Let Python's parser read a formula."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        # Python's hints, after the first full stop, are about assignments and the like.
        message = (error.msg or "invalid syntax").partition(". ")[0].partition(";")[0]
        if message == "invalid decimal literal":
            message = "a number runs into a name: write * for a product"
        position = min(error.offset - 1, len(text)) if error.offset else len(text)
        raise ExpressionError(marked(f"malformed: {message}", text, position)) from None
    except (RecursionError, MemoryError):
        raise ExpressionError(marked("nested too deeply", text, 0)) from None
    except ValueError as error:  # characters that no encoding has
        raise ExpressionError(marked(f"malformed: {error}", text, getattr(error, "start", 0))) from None


@dataclass(frozen=True, eq=False)
class _Node:
    """A value of a formula: an operation, a number or a variable."""

    position: int
    depth: int = 0
    function: Callable[..., Any] | None = None
    operands: tuple[_Node, ...] = ()
    number: float | None = None


class _Reader:
    """Turn a syntax tree into the steps of an expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.bytes = text.encode()
        self.names: dict[str, _Node] = {}
        self.operations: list[_Node] = []

    def expression(self, tree: ast.expr) -> Expression:
        """Read the whole tree; put the operations in the order of their depth."""
        root = self.read(tree, 1)
        operations = sorted(self.operations, key=lambda node: node.depth)  # stable: from left to right
        used = [*(operand for node in operations for operand in node.operands), root]
        constants = [*dict.fromkeys(node for node in used if node.number is not None)]
        places = {node: i for i, node in enumerate([*self.names.values(), *constants, *operations])}
        steps = [
            Step(node.function, tuple(places[operand] for operand in node.operands), node.position)
            for node in operations
            if node.function is not None
        ]
        numbers = tuple(node.number for node in constants if node.number is not None)
        return Expression(self.text, tuple(self.names), numbers, tuple(steps), places[root])

    def read(self, tree: ast.expr, level: int) -> _Node:
        """Read one part. It calls itself only, so that a deep formula takes one frame a level."""
        if level > DEEPEST:
            self.refuse(tree, f"nested too deeply: more than {DEEPEST} operations in one another")
        position = self.place(tree)
        match tree:
            case ast.Constant():
                return _Node(position, number=self.number(tree))
            case ast.Name(id=name):
                return self.name(tree, name)
            case ast.Call():
                function, parts = self.call(tree)
            case (
                ast.BinOp(left=left, op=operator, right=right)
                | ast.Compare(left=left, ops=[operator], comparators=[right])
            ):
                position = self.between(left)
                function, parts = self.binary(operator, position), [left, right]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                function, parts = np.negative, [operand]
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand, level + 1)
            case ast.Compare(comparators=[second, *_]):
                self.refuse(self.between(second), "a chain of comparisons is refused: use logical_and(a < b, b < c)")
            case ast.BoolOp(op=operator, values=[first, *_]):
                self.refuse(self.between(first), REFUSED[type(operator)])
            case ast.UnaryOp(op=operator):
                self.refuse(tree, REFUSED[type(operator)])
            case ast.Attribute(value=part) | ast.Subscript(value=part) | ast.IfExp(body=part):
                self.refuse(self.between(part), REFUSED[type(tree)])
            case _:
                self.refuse(tree, REFUSED.get(type(tree), f"{type(tree).__name__} is refused"))
        operands = []
        for part in parts:
            operands.append(self.read(part, level + 1))
        return self.operation(position, function, tuple(operands))

    def operation(self, position: int, function: Callable[..., Any], operands: tuple[_Node, ...]) -> _Node:
        """Note an operation; of numbers alone compute it."""
        numbers = [node.number for node in operands]
        if None in numbers:
            node = _Node(position, 1 + max(node.depth for node in operands), function, operands)
            self.operations.append(node)
            return node
        try:
            with np.errstate(all="ignore"):
                number = np.asarray(function(*numbers))
        except (ValueError, TypeError) as error:
            self.refuse(position, _without_place(error))
        if number.ndim:
            self.refuse(position, "this gives an array, and numbers alone are no array")
        return _Node(position, number=self.finite(float(number), position))

    def number(self, tree: ast.Constant) -> float:
        """Read a number."""
        if type(tree.value) not in (int, float):
            what = {str: "strings are", bytes: "strings are", complex: "complex numbers are"}.get(type(tree.value))
            self.refuse(tree, f"{what or f'{tree.value!r} is'} refused: a formula holds real numbers")
        try:
            return self.finite(float(tree.value), self.place(tree))  # type: ignore[arg-type]
        except OverflowError:
            self.refuse(tree, "this number is too large for double precision")

    def finite(self, number: float, position: int) -> float:
        """Let only finite numbers through."""
        if not math.isfinite(number):
            what = "not a number" if math.isnan(number) else "too large for double precision"
            self.refuse(position, f"this part is {what} ({number})")
        return number

    def name(self, tree: ast.Name, name: str) -> _Node:
        """Read a variable or a constant."""
        position = self.place(tree)
        if name in CONSTANTS:
            return _Node(position, number=CONSTANTS[name])
        if "__" in name:
            self.refuse(tree, f"the name {name} is refused: no name may hold two underscores in a row")
        if name in FUNCTIONS:
            self.refuse(tree, f"{name} is a function: call it, as in {name}(x)")
        return self.names.setdefault(name, _Node(position))

    def call(self, tree: ast.Call) -> tuple[Callable[..., Any], list[ast.expr]]:
        """Find what is called, with how many arguments."""
        if not isinstance(tree.func, ast.Name):
            if type(tree.func) in REFUSED:
                self.read(tree.func, 1)
            self.refuse(tree, "only functions can be called: write * for a product")
        name = tree.func.id
        if "__" in name:
            self.refuse(tree, f"the name {name} is refused: no name may hold two underscores in a row")
        if name not in FUNCTIONS:
            close = difflib.get_close_matches(name, FUNCTIONS, n=3, cutoff=0.5)
            nearest = f"; nearest: {', '.join(close)}" if close else ""
            self.refuse(tree, f"unknown function {name}{nearest}")
        if tree.keywords:
            self.refuse(tree.keywords[0], "keywords are refused: arguments go by their order")
        function, arity = FUNCTIONS[name]
        for argument in tree.args:
            if isinstance(argument, ast.Starred):
                self.refuse(argument, REFUSED[ast.Starred])
        if len(tree.args) != arity:
            instead = {"max": "; use maximum(a, b)", "min": "; use minimum(a, b)"}.get(name, "")
            self.refuse(tree, f"{name} takes {arity} argument{'s'[: arity > 1]}, {len(tree.args)} given{instead}")
        return function, tree.args

    def binary(self, operator: ast.AST, position: int) -> Callable[..., Any]:
        """Find the function of an operator between two operands."""
        if type(operator) not in OPERATORS:
            self.refuse(position, REFUSED[type(operator)])
        return OPERATORS[type(operator)]

    def place(self, tree: ast.expr | ast.keyword) -> int:
        """Give a part's position in characters; Python counts bytes."""
        return len(self.bytes[: tree.col_offset].decode())

    def between(self, left: ast.expr) -> int:
        """Give the position of the operator that follows a part."""
        end = len(self.bytes[: left.end_col_offset].decode())
        return end + len(self.text[end:]) - len(self.text[end:].lstrip(" )"))

    def refuse(self, where: ast.expr | ast.keyword | int, message: str) -> NoReturn:
        """Raise with a place marked."""
        position = where if isinstance(where, int) else self.place(where)
        raise ExpressionError(marked(message, self.text, position))
