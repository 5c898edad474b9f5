"""The record of an op, and the registry that every op enters by being declared."""

import ast
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Interval = tuple[float, float]


@dataclass(frozen=True)
class Op:
    """One op: what it is called, what it stands for in NumPy, how it differentiates, where it is tested.

    value and partials are expressions of the operands x, y, w (and of the result z in partials); a structural
    op has no expressions but kernels, and a rule on tensors (see `Structural`).
    """

    name: str
    code: int
    doc: str
    numpy: Callable[..., Any]
    arity: int

    @property
    def differentiable(self) -> bool:
        """Whether a derivative can flow through the op."""
        raise NotImplementedError


@dataclass(frozen=True)
class Elementwise(Op):
    """An elementwise op: one row of the table in `elementwise.py`."""

    value: str = ""
    partials: tuple[str | None, ...] = ()
    select: bool = False
    integer: str | None = None
    floating: bool = True
    boolean: bool = False
    zeros: tuple[int, ...] = ()
    domains: tuple[Interval, ...] = ()
    pins: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    @property
    def differentiable(self) -> bool:
        return any(partial is not None for partial in self.partials)


@dataclass(frozen=True)
class Layout:
    """How a kernel sees one operand or result: buffer index, shape, strides in elements, number class."""

    buffer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    number: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def plain_words(operands: Sequence[Layout], results: Sequence[Layout], parameters: dict[str, Any]) -> list[int]:
    """Give the kernel parameters of an op that needs its buffers only."""
    return [layout.buffer for layout in (*operands, *results)]


def no_scratch(operands: Sequence[Layout], results: Sequence[Layout]) -> int:
    """Give the scratch bytes of an op that needs none."""
    return 0


Shapes = Sequence[tuple[int, ...]]


def nothing_to_count(operands: Shapes, results: Shapes) -> tuple[int, int, int]:
    """Count the operations of an op that moves numbers only."""
    return 0, 0, 0


Sample = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Structural(Op):
    """A structural op: kernels in one module, and what planner, rules on tensors and tests must know of it.

    forward and reverse are kernels `(p, values, adjoints, services) -> status`, compiled by group (the module's name).
    p points to: which kernel of the group, the first operand's number class, then the `words` of the op. `restore` puts
    back, in the reverse sweep, what the op overwrote. `numpy(*operands, **parameters)` gives the result (a tuple, if several).
    `contiguous` asks for row-major operands without gaps. `active` are the operands through which a derivative
    flows. `rule(record, parameters, d, results, operands)` writes the adjoint on the tape: one contribution (or
    None) an active operand. `linear` says that the result is linear in the only active operand, the first. `samples` gives
    (operands, parameters) for the bulk tests.
    `stores` says that `words` heeds parameters["first"], a bit mask of operands: their adjoints are stored by the reverse
    kernel, not added to. Adjoints are written in the order of the operands, each as a whole before the next.
    `items(operands, results)` says how many items its kernels can be told to do some of at a time (0: none), and the
    strides of operands and results from item to item, along their first axes (0: each item reads or adds to all).
    `tangent(record, parameters, dots, results, operands)` writes the tangent of the first result on the tape, or a tuple of
    those of the results, where they are not to be derived from the rule; dots has None for an operand without a tangent,
    and one at least that is not None.
    `columns(record, parameters, operands)` writes the op for many columns at once, which are one axis in front of results
    and operands; none: column by column, as where it gives NotImplemented. An operand x knows its `shape` in one column,
    whether it is `held` by them (not the same in each); its `value` where it is not; `columns`, repeated where it is not;
    `against(ndim)`, either of these to be broadcast against others of so many axes; and, where it is a column vector or
    a row, `times(matrix)`: its columns, as rows, times a matrix. Where the op writes in place, so does what record makes.
    `count(operands, results)` gives the additions, multiplications (divisions among them) and choices that it takes on such shapes.
    `formula` is how the op reads, with fields x, y, w for its operands, `rest` for all but the first, `axes` for those that
    went; none: as a call. `adjoints` says the same of the rule, a text for each active operand: d is the adjoint, z the result.
    `broadcasts` says that operands broadcast, as those of an elementwise op do. An op that is in no group, for it was made
    at run time, gives the address of its kernel in a direction ("forward", "reverse") by `address(direction, operands, results)`.
    """

    group: str = ""
    forward: Callable[..., int] | None = None
    reverse: Callable[..., int] | None = None
    restore: Callable[..., int] | None = None
    active: tuple[int, ...] = ()
    rule: Callable[..., tuple[Any, ...]] | None = None
    tangent: Callable[..., Any] | None = None
    columns: Callable[..., Any] | None = None
    address: Callable[[str, Sequence[Layout], Sequence[Layout]], int] | None = None
    words: Callable[[Sequence[Layout], Sequence[Layout], dict[str, Any]], list[int]] = plain_words
    scratch: Callable[[Sequence[Layout], Sequence[Layout]], int] = no_scratch
    items: Callable[[Sequence[Layout], Sequence[Layout]], tuple[int, tuple[int, ...]]] | None = None
    contiguous: bool = True
    linear: bool = False
    checks: bool = False
    stores: bool = False
    broadcasts: bool = False
    count: Callable[[Shapes, Shapes], tuple[int, int, int]] | None = None
    formula: str = ""
    adjoints: tuple[str, ...] = ()
    samples: Callable[[np.random.Generator], list[Sample]] = lambda rng: []

    @property
    def differentiable(self) -> bool:
        return bool(self.active)


OPS: dict[str, Op] = {}
BY_CODE: list[Op] = []

#: opcodes from here on are structural
STRUCTURAL = 256

#: opcodes of tiles from here on are partials: what an operand's adjoint receives
PARTIALS = 256

#: pairs of ops that tiles do at once: the first, the second, which of the second's operands the first's result is
TILE_PAIRS = (
    ("multiply", "add", 0),
    ("multiply", "subtract", 0),
    ("multiply", "subtract", 1),
    ("multiply", "multiply", 0),
    ("add", "multiply", 0),
    ("subtract", "multiply", 0),
    ("add", "add", 0),
)

#: a partial as written, and whether its row selects -> the first op and operand that have it
_SAME: dict[tuple[str | None, bool], tuple[int, int]] = {}

_CHEAP = (
    ast.BinOp,
    ast.UnaryOp,
    ast.Name,
    ast.Constant,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.USub,
    ast.Load,
    ast.Expression,
)

#: beside these, what is made of nothing else but calls of LANED can be done on lanes (see `vectors.py`)
_LANED = (*_CHEAP, ast.Div, ast.Call, ast.Compare, ast.BitAnd, ast.BitOr, ast.cmpop)
LANED = ("where", "exp", "sqrt")


def partial_code(op: Elementwise, operand: int, add: bool) -> int:
    """Give the opcode that stores (or adds) adjoint times partial of an op's operand; what reads the same has the same."""
    first, place = _SAME[op.partials[operand], op.select]
    return PARTIALS + (3 * first + place) * 2 + add


def pair_code(pair: int) -> int:
    """Give the opcode of a pair, by its place among TILE_PAIRS: they come right before the partials."""
    return PARTIALS - len(TILE_PAIRS) + pair


def is_cheap(op: Elementwise, operand: int) -> bool:
    """Whether a partial is a few additions and products: only then is there an opcode that adds, too."""
    partial = op.partials[operand]
    return partial is not None and all(isinstance(node, _CHEAP) for node in ast.walk(ast.parse(partial, mode="eval")))


def has_lanes(op: Elementwise) -> bool:
    """Whether value and partials are made of what can be done on several numbers side by side."""
    if op.boolean or not op.floating:
        return False
    for text in filter(None, (op.value, *op.partials)):
        for node in ast.walk(ast.parse(text, mode="eval")):
            if not isinstance(node, _LANED) or (isinstance(node, ast.Call) and ast.unparse(node.func) not in LANED):
                return False
    return True


def enter(op: Op) -> Op:
    """Put an op into the registry; its name must be new."""
    if op.name in OPS:
        raise ValueError(f"the op {op.name!r} is declared twice")
    OPS[op.name] = op
    BY_CODE.append(op)
    if isinstance(op, Elementwise):
        for operand, partial in enumerate(op.partials):
            _SAME.setdefault((partial, op.select), (op.code, operand))
    return op


def structural(name: str, **declaration: Any) -> Structural:
    """Declare one structural op."""
    op = Structural(name=name, code=STRUCTURAL + sum(isinstance(other, Structural) for other in BY_CODE), **declaration)
    enter(op)
    return op
