"""Values in high precision: what a function recorded, evaluated with mpmath, and its slopes by tiny central differences.

No rule of differentiation is used, so a gradient can be judged by it. mpmath has no signed zero: all zeros are positive.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import TapeadValueError
from .extras import require
from .interpreter import Interpreter, Numbers, Recorded

#: decimal digits of the arithmetic, and the step of the differences: truncation and rounding are both near 1e-40
DIGITS, STEP = 60, "1e-20"


@functools.cache
def mpmath_numbers() -> Numbers:
    """Give mpmath's real numbers as a kind of number; outside their domain functions give NaN, as NumPy's do."""
    mp = require("mpmath", "a reference in high precision")
    nan, inf = mp.mpf("nan"), mp.mpf("inf")

    def real(f: Callable[..., Any]) -> Callable[..., Any]:
        def on_reals(*operands: Any) -> Any:
            if any(mp.isnan(x) for x in operands):
                return nan
            try:
                made = f(*map(mp.mpf, operands))
            except (ValueError, ZeroDivisionError, OverflowError):
                return nan
            return nan if isinstance(made, mp.mpc) else made

        return on_reals

    def divide(x: Any, y: Any) -> Any:
        if y != 0:
            return x / y
        return nan if x == 0 or mp.isnan(x) else inf if x > 0 else -inf

    def power(x: Any, y: Any) -> Any:
        if y == 0 or x == 1:
            return mp.mpf(1)
        return inf if x == 0 and y < 0 else x**y

    def log(x: Any) -> Any:
        return -inf if x == 0 else mp.log(x)

    def log1p(x: Any) -> Any:
        return -inf if x == -1 else mp.log1p(x)

    def trunc(x: Any) -> Any:
        return x if mp.isinf(x) else mp.floor(x) if x >= 0 else mp.ceil(x)

    def rint(x: Any) -> Any:
        return x if mp.isinf(x) else mp.nint(x)

    def sign(x: Any) -> Any:
        return mp.mpf((x > 0) - (x < 0))

    def logaddexp(x: Any, y: Any) -> Any:
        top = max(x, y)
        return top if mp.isinf(top) else top + mp.log1p(mp.exp(min(x, y) - top))

    def extreme(f: Callable[..., Any], ignoring: bool) -> Callable[..., Any]:
        def chosen(x: Any, y: Any) -> Any:
            if mp.isnan(x) or mp.isnan(y):
                return (y if mp.isnan(x) else x) if ignoring else nan
            return f(x, y)

        return chosen

    functions: dict[str, Callable[..., Any]] = {
        "abs": abs,
        "exp": mp.exp,
        "exp2": lambda x: mp.mpf(2) ** x,
        "expm1": mp.expm1,
        "log": log,
        "log2": lambda x: log(x) / mp.log(2),
        "log10": lambda x: log(x) / mp.log(10),
        "log1p": log1p,
        "logaddexp": logaddexp,
        "logaddexp2": lambda x, y: logaddexp(x * mp.log(2), y * mp.log(2)) / mp.log(2),
        "sqrt": mp.sqrt,
        "cbrt": lambda x: sign(x) * mp.cbrt(abs(x)),
        "hypot": mp.hypot,
        "power": power,
        "sin": mp.sin,
        "cos": mp.cos,
        "tan": mp.tan,
        "arcsin": mp.asin,
        "arccos": mp.acos,
        "arctan": mp.atan,
        "arctan2": mp.atan2,
        "sinh": mp.sinh,
        "cosh": mp.cosh,
        "tanh": mp.tanh,
        "arcsinh": mp.asinh,
        "arccosh": mp.acosh,
        "arctanh": lambda x: inf * x if abs(x) == 1 else mp.atanh(x),
        "expit": lambda x: 1 / (1 + mp.exp(-x)),
        "erf": mp.erf,
        "copysign": lambda x, y: abs(x) if y >= 0 else -abs(x),
        "sign": sign,
        "floor": lambda x: x if mp.isinf(x) else mp.floor(x),
        "ceil": lambda x: x if mp.isinf(x) else mp.ceil(x),
        "rint": rint,
        "trunc": trunc,
        "floor_divide": lambda x, y: mp.floor(divide(x, y)),
        "remainder": lambda x, y: x - y * mp.floor(x / y),
        "fmod": lambda x, y: x - y * trunc(x / y),
    }
    functions = {name: real(f) for name, f in functions.items()} | {
        "where": lambda c, x, y: x if c else y,
        "maximum": extreme(max, False),
        "minimum": extreme(min, False),
        "fmax": extreme(max, True),
        "fmin": extreme(min, True),
        "isnan": mp.isnan,
        "isinf": mp.isinf,
        "isfinite": mp.isfinite,
        "signbit": lambda x: x < 0,
    }

    def convert(value: Any) -> Any:
        return value if isinstance(value, bool) else mp.mpf(value)

    return Numbers("mpmath", convert, functions, {"Div": divide})


class Precise:
    """A recorded function of one array, evaluated in high precision; at other points it keeps to the branches recorded."""

    def __init__(self, recorded: Recorded) -> None:
        if len(recorded.inputs) != 1 or len(recorded.outputs) != 1:
            raise TapeadValueError("a reference in high precision is of a function of one array that gives one number")
        self._recorded = recorded
        ((leaf, self._storage),) = recorded.inputs.items()
        self.point: list[float] = np.asarray(recorded.leaves[leaf], float).reshape(-1).tolist()

    def value(self, step: Any = 0, direction: Sequence[float] | None = None) -> Any:
        """Evaluate at the point, or a step away from it along a direction."""
        mp = require("mpmath", "a reference in high precision")
        with mp.workdps(DIGITS):
            x = [mp.mpf(v) for v in self.point]
            if direction is not None:
                x = [v + step * mp.mpf(d) for v, d in zip(x, direction, strict=True)]
            interpreter = Interpreter(self._recorded.tape, mpmath_numbers())
            interpreter.put(self._storage, x)
            interpreter.run()
            return interpreter.get(self._recorded.outputs[0]).reshape(-1)[0]

    def slope(self, direction: Sequence[float]) -> Any:
        """Give the derivative along a direction, to about 40 digits where the function is smooth."""
        mp = require("mpmath", "a reference in high precision")
        with mp.workdps(DIGITS):
            h = mp.mpf(STEP)
            return (self.value(h, direction) - self.value(-h, direction)) / (2 * h)

    def partials(self, coordinates: Sequence[int]) -> list[Any]:
        """Give the derivatives by some coordinates."""
        n = len(self.point)
        return [self.slope([float(i == k) for i in range(n)]) for k in coordinates]
