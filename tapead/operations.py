"""Operations counted: the arithmetic of a tape, from the expressions of its ops and the sizes of its buffers."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from .errors import TapeadNotImplementedError
from .interpreter import Recorded, parsed
from .kernels.table import Elementwise, Structural
from .plan import Planner
from .tape import Wengert, describe


@dataclass(frozen=True)
class Operations:
    """A number of scalar operations by kind.

    Divisions are among the multiplications, subtractions among the additions; functions are exp, sin, power and the
    like. Comparisons and selections are choices, and not in the total. Signs and copies are free.

    >>> 3 * Operations(additions=1, functions=1) + Operations(multiplications=4)
    Operations(additions=3, multiplications=4, functions=3, choices=0)
    """

    additions: int = 0
    multiplications: int = 0
    functions: int = 0
    choices: int = 0

    @property
    def total(self) -> int:
        """The additions, multiplications and functions together."""
        return self.additions + self.multiplications + self.functions

    def __add__(self, other: Operations) -> Operations:
        return Operations(
            self.additions + other.additions,
            self.multiplications + other.multiplications,
            self.functions + other.functions,
            self.choices + other.choices,
        )

    def __rmul__(self, times: int) -> Operations:
        return Operations(
            times * self.additions, times * self.multiplications, times * self.functions, times * self.choices
        )


ADDITION, MULTIPLICATION = Operations(additions=1), Operations(multiplications=1)
FUNCTION, CHOICE = Operations(functions=1), Operations(choices=1)

#: functions of the op table that choose, round or look at bits only
_CHOOSING = {
    "where",
    "abs",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "copysign",
    "sign",
    "isnan",
    "isfinite",
    "isinf",
    "signbit",
    "floor",
    "ceil",
    "rint",
    "trunc",
}


def total(parts: Iterable[Operations]) -> Operations:
    """Add operations up."""
    return sum(parts, Operations())


@cache
def of_expression(expression: str) -> Operations:
    """Count the operations of an expression of the op table.

    >>> of_expression("x * y + sin(x)")
    Operations(additions=1, multiplications=1, functions=1, choices=0)
    """
    return total(_of_node(node) for node in ast.walk(parsed(expression)))


def _of_node(node: ast.AST) -> Operations:
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Add | ast.Sub):
            return ADDITION
        return MULTIPLICATION if isinstance(node.op, ast.Mult | ast.Div) else CHOICE
    if isinstance(node, ast.Compare):
        return CHOICE
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return CHOICE if node.func.id in _CHOOSING else FUNCTION
    return Operations()


def of_instruction(tape: Wengert, k: int) -> Operations:
    """Count the operations of an instruction; raise NotImplementedError for an op whose count is not known."""
    op = tape.ops[k]
    given = [tape.buffers[b].shape for b in tape.operand_buffers[k]]
    made = [tape.buffers[b].shape for b in tape.result_buffers[k]]
    if isinstance(op, Elementwise):
        return math.prod(made[0]) * of_expression(op.value)
    if not isinstance(op, Structural) or op.count is None:
        raise TapeadNotImplementedError(f"the operations of {op.name} cannot be counted, at {describe(tape.places[k])}")
    additions, multiplications, choices = op.count(given, made)
    return Operations(additions=additions, multiplications=multiplications, choices=choices)


def of_tape(recorded: Recorded) -> Operations:
    """Count the operations of a recorded function that are left when dead code is gone and what is the same is shared."""
    planner = Planner(recorded.tape, recorded.outputs, None, [])
    return total(of_instruction(planner.tape, k) for k in planner.needed)
