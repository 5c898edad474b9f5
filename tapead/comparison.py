"""The ways to differentiate, side by side: what each costs on growing problems, and how far it is from the truth."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .api import grad
from .check import numerical_grad
from .derivatives import jvp
from .errors import TapeadError, TapeadNotImplementedError
from .extras import require
from .interpreter import record
from .nested import grad_on_tape, jvp_on_tape
from .operations import ADDITION, MULTIPLICATION, Operations, of_tape
from .reference import Precise
from .replayed import replayed
from .symbolic import expression

Array = NDArray[np.float64]
Function = Callable[[Any], Any]

FORWARD_DIFFERENCES, CENTRAL_DIFFERENCES = "forward differences", "central differences"
SYMBOLIC, FORWARD_MODE, REVERSE_MODE = "symbolic", "forward mode", "reverse mode"
#: method -> how often it goes over the function, or the formula
PASSES = {
    FORWARD_DIFFERENCES: "n + 1",
    CENTRAL_DIFFERENCES: "2 n",
    SYMBOLIC: "1",
    FORWARD_MODE: "n",
    REVERSE_MODE: "1",
}
METHODS = tuple(PASSES)

#: the symbolic gradient is left out where the formula's operations times n² are more: SymPy would take seconds
LARGEST_FORMULA = 40_000
#: coordinates whose slopes are computed in high precision, at the most
SAMPLED = 8
#: the differences' error for every step is shown at the largest n up to this
LARGEST_FOR_STEPS = 16
#: errors smaller than this are the reference's own
TOLD_APART = 1e-35
STEPS = tuple(10.0 ** (-k / 2) for k in range(2, 31))


# ---- problems ----------------------------------------------------------------------------------------------------


def product(theta: Any) -> Any:
    """Multiply all elements, one after another."""
    p = theta[0]
    for i in range(1, len(theta)):
        p = p * theta[i]
    return p


def rosenbrock(x: Any) -> Any:
    """Give Rosenbrock's function: a curved valley."""
    return np.sum(100.0 * (x[1:] - x[:-1] * x[:-1]) ** 2 + (1.0 - x[:-1]) ** 2)


@functools.cache
def _rows(n: int) -> tuple[Array, Array]:
    """Draw 16 labelled points in n dimensions."""
    rng = np.random.default_rng(n)
    return rng.normal(size=(16, n)) / math.sqrt(n), rng.choice([-1.0, 1.0], 16)


def logistic(w: Any) -> Any:
    """Give the mean loss of logistic regression on 16 fixed points."""
    points, labels = _rows(len(w))
    return np.mean(np.log1p(np.exp(-labels * (points @ w))))


#: name -> function, and the least n that makes sense
PROBLEMS: dict[str, tuple[Function, int]] = {
    "product": (product, 1),
    "rosenbrock": (rosenbrock, 2),
    "logistic": (logistic, 1),
}


def point(n: int) -> Array:
    """Draw the point at which gradients of n elements are taken."""
    return np.random.default_rng(n).uniform(0.5, 1.5, n)


# ---- what is found -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """One method on one size: passes over the function (or formula), operations, median seconds, relative error.

    `operations` and `error` are None where they cannot be known.
    """

    method: str
    n: int
    passes: int
    operations: Operations | None
    seconds: float
    error: float | None


@dataclass(frozen=True)
class Missing:
    """What was not done at a size, and why."""

    what: str
    n: int
    reason: str


@dataclass(frozen=True)
class Step:
    """The relative errors of both differences with one step."""

    step: float
    forward: float
    central: float


@dataclass(frozen=True)
class Slope:
    """The relative errors of the slope along one direction: of differences for each step, and of both modes."""

    n: int
    steps: tuple[Step, ...]
    forward_mode: float
    reverse_mode: float


def compare(f: Function, sizes: Sequence[int]) -> Iterator[tuple[int, list[Measurement], list[Missing]]]:
    """Take the gradient of f of one vector in every way, for each size in turn: n, measurements, what was left out."""
    for n in sizes:
        yield n, *_Bench(f, point(n)).run()


class _Bench:
    """The methods on one function and point."""

    def __init__(self, f: Function, x: Array) -> None:
        self.f, self.x, self.n = f, x, x.size
        self.value = replayed(f, "value")
        self.gradient = grad(f)
        self.left_out: list[Missing] = []
        self.gradient(x)  # whatever is wrong with the function is said by this
        self.judge = _judge(f, x, self.left_out)

    def run(self) -> tuple[list[Measurement], list[Missing]]:
        """Do every method."""
        f, x, n = self.f, self.x, self.n
        counts = self._counts()
        one = ADDITION, MULTIPLICATION  # a difference, divided by the step
        evaluation = counts.get("value")
        rows = np.eye(n)
        ways: list[tuple[str, int, Operations | None, Callable[[], Any]]] = [
            (
                FORWARD_DIFFERENCES,
                n + 1,
                None if evaluation is None else (n + 1) * evaluation + (2 * n) * one[0] + n * one[1],
                lambda: numerical_grad(self.value, x, "forward"),
            ),
            (
                CENTRAL_DIFFERENCES,
                2 * n,
                None if evaluation is None else (2 * n) * evaluation + (3 * n) * one[0] + n * one[1],
                lambda: numerical_grad(self.value, x, "central"),
            ),
            (
                FORWARD_MODE,
                n,
                None if "tangent" not in counts else n * counts["tangent"],
                lambda: np.array([jvp(f, (x,), (row,))[1] for row in rows]),
            ),
            (REVERSE_MODE, 1, counts.get("adjoint"), lambda: self.gradient(x)),
        ]
        formula = self._formula(evaluation)
        if formula is not None:
            ways.insert(2, (SYMBOLIC, 1, *formula))
        return [
            Measurement(method, n, passes, operations, seconds_of(call), self.judge(call()))
            for method, passes, operations, call in ways
        ], self.left_out

    def _counts(self) -> dict[str, Operations]:
        """Count the operations of a value, of a value and one tangent, and of a value and its gradient."""
        f, x = self.f, self.x

        def adjoint(x: Any) -> Any:
            value, _, (slopes,) = grad_on_tape(f, (x,), {}, (0,), False)
            return value, slopes

        try:
            return {
                "value": of_tape(record(f, x)),
                "tangent": of_tape(record(lambda x, t: jvp_on_tape(f, (x,), (t,), False), x, np.ones_like(x))),
                "adjoint": of_tape(record(adjoint, x)),
            }
        except TapeadNotImplementedError as error:
            self.left_out.append(Missing("operations", self.n, str(error)))
            return {}

    def _is_long(self, size: int) -> bool:
        """Whether SymPy would take long for the gradient of a formula of that many operations; if so, say it."""
        if size * self.n**2 <= LARGEST_FORMULA:
            return False
        reason = f"SymPy would take long for {self.n} partials of a formula of {size:,} operations"
        self.left_out.append(Missing(SYMBOLIC, self.n, reason))
        return True

    def _formula(self, evaluation: Operations | None) -> tuple[Operations, Callable[[], Any]] | None:
        """Give the operations of the symbolic gradient as it is written, and a call of it; None where it is left out."""
        if evaluation is not None and self._is_long(evaluation.total):  # before SymPy writes the formula down
            return None
        sympy = require("sympy", "tapead compare")
        try:
            formula = expression(self.f, self.x, names=["x"])
            if self._is_long(formula.operations().total):
                return None
            slopes = formula.gradient()
            (symbols,) = formula.symbols
            compiled = sympy.lambdify([symbols.tolist()], slopes.expression.tolist(), ["scipy", "numpy"])
            point = self.x.tolist()
            np.array(compiled(point), float)
        except (TapeadError, *_NOT_COMPILED) as error:
            self.left_out.append(Missing(SYMBOLIC, self.n, str(error)))
            return None
        return slopes.operations(), lambda: np.array(compiled(point), float)


#: what may go wrong in Python code that SymPy writes: names without a counterpart, complex numbers, expressions too deep
_NOT_COMPILED = (NameError, TypeError, SyntaxError, RecursionError, ArithmeticError)


def _judge(f: Function, x: Array, left_out: list[Missing]) -> Callable[[Any], float | None]:
    """Give a function that says how far a gradient is from one in high precision, relative to its largest element."""
    chosen = np.unique(np.linspace(0, x.size - 1, min(x.size, SAMPLED)).round().astype(int)).tolist()
    try:
        truth = Precise(record(f, x)).partials(chosen)
    except TapeadNotImplementedError as error:
        left_out.append(Missing("error", x.size, str(error)))
        return lambda gradient: None
    if not all(map(math.isfinite, truth)):
        left_out.append(Missing("error", x.size, "the gradient is not finite at the point of the comparison"))
        return lambda gradient: None
    return lambda gradient: _error([gradient[i] for i in chosen], truth)


def _error(found: Sequence[Any], truth: Sequence[Any]) -> float:
    """Give the largest error, relative to the largest true value; 0 for what the truth itself does not tell apart."""
    off = [abs(value - float(x)) for x, value in zip(found, truth, strict=True)]
    if not all(math.isfinite(o) for o in off):
        return math.nan
    error = float(max(off) / (max(map(abs, truth)) or 1))
    return error if error > TOLD_APART else 0.0


def seconds_of(call: Callable[[], Any]) -> float:
    """Time a call that has run before: the median of up to 15 runs, or of what fits into a tenth of a second."""
    call()
    times: list[float] = []
    while len(times) < 3 or (len(times) < 15 and sum(times) < 0.1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if sum(times) > 1.0:
            break
    return statistics.median(times)


def slope_errors(f: Function, n: int) -> Slope | None:
    """Take the slope along one direction by differences of many steps, and by both modes; None where no truth is known.

    Along a coordinate some functions are straight, and differences have no truncation: a product, for one.
    """
    x = point(n)
    direction = np.random.default_rng(n + 1).uniform(-1.0, 1.0, n)
    direction /= np.linalg.norm(direction)
    try:
        truth = [Precise(record(f, x)).slope(direction.tolist())]
    except TapeadNotImplementedError:
        return None
    value = replayed(f, "value")
    here = value(x)
    made = []
    for h in STEPS:
        ahead, behind = value(x + h * direction), value(x - h * direction)
        made.append(Step(h, _error([(ahead - here) / h], truth), _error([(ahead - behind) / (2 * h)], truth)))
    tangent = jvp(f, (x,), (direction,))[1]
    return Slope(n, tuple(made), _error([tangent], truth), _error([grad(f)(x) @ direction], truth))


def size_for_steps(sizes: Sequence[int]) -> int:
    """Choose the size at which the differences' error is shown."""
    return max((n for n in sizes if n <= LARGEST_FOR_STEPS), default=min(sizes))


def growth(measurements: Sequence[Measurement]) -> float | None:
    """Give the power of n by which a method's operations grow between its two largest sizes."""
    counted = [(m.n, m.operations.total) for m in measurements if m.operations is not None and m.operations.total]
    if len(counted) < 2:
        return None
    (n, few), (more, many) = sorted(counted)[-2:]
    return math.log(many / few) / math.log(more / n)
