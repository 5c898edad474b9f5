"""Numerical derivatives, and the check of the tape's gradients against them.

With the step h and f evaluated to a relative precision ε:

    forward   (f(x + h u) - f(x)) / h             error  h/2 f'' + 2 ε f/h     least near h = √ε
    central   (f(x + h u) - f(x - h u)) / (2 h)   error  h²/6 f''' + ε f/h     least near h = ∛ε

(J. Nocedal, S. Wright: Numerical Optimization, 2nd edition, section 8.1.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .api import grad
from .errors import TapeadCheckError, TapeadTypeError, TapeadValueError
from .tree import flatten, unflatten

Array = NDArray[np.floating[Any]]


class CheckError(TapeadCheckError):
    """Say that a gradient and the difference quotient disagree, and where they do so most.

    `order` is the order of the derivative, `direction` the worst direction (shaped like the checked
    arguments, None where nothing was differentiated), `expected` the central difference along it and
    `got` the tape's derivative along it.
    """

    def __init__(self, message: str, order: int, direction: Any, expected: float, got: float) -> None:
        super().__init__(message)
        self.order = order
        self.direction = direction
        self.expected = expected
        self.got = got


def numerical_grad(
    f: Callable[[Any], Any],
    x: Any,
    method: Literal["forward", "central"] = "central",
    eps: float | None = None,
) -> Any:
    """Differentiate a function of numbers by difference quotients, one component at a time.

    `x` is a float, a float array of any shape or a pytree of them, and the result has its structure, shapes
    and dtypes. `f` is any Python function that returns one real number; nothing is traced. It is called
    n + 1 times ("forward") or 2 n times ("central") for n components.

    `eps` is the step. By default it is √ε ("forward") or ∛ε ("central") times max(1, |component|), with
    ε the machine epsilon of the component's dtype: the steps at which truncation and rounding balance.

    Raises a TypeError where a leaf of `x` is not a real float or `f` returns no real number, and a ValueError
    for another `method`, an `eps` that is not positive, or a value of `f` that has more than one element.

    >>> import numpy as np
    >>> g = numerical_grad(lambda x: np.sum(x**3), np.array([1.0, 2.0]))
    >>> print(np.round(g, 6))
    [ 3. 12.]
    >>> g = numerical_grad(lambda p: p["a"] * p["b"], {"a": 2.0, "b": 5.0}, method="forward")
    >>> print(round(g["a"], 6), round(g["b"], 6))
    5.0 2.0
    """
    if method not in ("forward", "central"):
        raise TapeadValueError(f'method must be "forward" or "central", not {method!r}')
    _check_step(eps)
    leaves, tree = flatten(x)
    xs = [_real(leaf) for leaf in leaves]
    for leaf, array in zip(leaves, xs, strict=True):
        if array is None:
            raise TapeadTypeError(f"numerical_grad needs real floats to vary, got {_kind(leaf)}")
    arrays: list[Array] = [array for array in xs if array is not None]

    def value(k: int, i: int, component: Any) -> float:
        moved = [array.copy() for array in arrays]
        moved[k].flat[i] = component
        return _number(f(unflatten(tree, [array[()] for array in moved])))[0]

    central = method == "central"
    here = 0.0 if central else _number(f(x))[0]
    gradient = []
    for k, array in enumerate(arrays):
        best = float(np.finfo(array.dtype).eps) ** (1 / 3 if central else 1 / 2)
        slope = np.empty(array.shape, array.dtype)
        for i, component in enumerate(array.flat):
            step = array.dtype.type(best * max(1.0, abs(float(component))) if eps is None else eps)
            up, down = component + step, component - step if central else component
            below = value(k, i, down) if central else here
            slope.flat[i] = (value(k, i, up) - below) / (float(up) - float(down))
        gradient.append(slope[()])
    return unflatten(tree, gradient)


def check_grads(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    order: int = 1,
    *,
    directions: int = 10,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    argnums: int | tuple[int, ...] | None = None,
) -> None:
    """Compare the tape's gradient of f(*args) with central differences along random directions.

    `args` is the tuple of arguments; all float leaves (arrays, floats, pytrees of them) of the arguments
    that `argnums` selects, by default of all arguments, are varied together. Each of the `directions` is
    uniform on the unit sphere over all these components, drawn from `seed`. Along a direction u the tape's
    <∇f(x), u> is compared with (f(x + h u) - f(x - h u)) / 2h, where f runs on ordinary arrays in float64.
    With `order=2` the gradient of <∇f(x), v>, v a random direction, is checked in the same way; further
    orders by recursion.

    `eps` is the step h; by default it is √n ∛ε for n components, so that each moves by about ∛ε, ε being the
    machine epsilon of f's value. A difference passes if it is at most `atol` + `rtol` times the largest
    derivative along any of the directions. By default `rtol` is 1e-5 (2e-4 where float32 takes part) and
    `atol` ten times the rounding error of the quotient.

    Raises CheckError, an AssertionError, which names the worst direction and the derivatives expected and
    found along it; a TypeError where there is nothing to differentiate or `args` is no tuple; a ValueError
    where a setting is out of range or f returns more than one number.

    >>> import numpy as np
    >>> def f(x, y):
    ...     return np.sum(np.sin(x) * y)
    >>> check_grads(f, (np.array([0.5, 1.0]), 2.0), order=2)
    """
    if not isinstance(args, tuple):
        raise TapeadTypeError(f"args must be the tuple of f's arguments, such as (x,), not {_kind(args)}")
    for name, setting in (("order", order), ("directions", directions)):
        if not isinstance(setting, int) or setting < 1:
            raise TapeadValueError(f"{name} must be an integer of at least 1, not {setting!r}")
    _check_step(eps)
    varied = _selected(argnums, len(args))
    leaves, tree = flatten(args)
    owners = [n for n, arg in enumerate(args) for _ in flatten(arg)[0]]
    floats = {k: x for k, leaf in enumerate(leaves) if owners[k] in varied and (x := _real(leaf)) is not None}
    where = [k for k, x in floats.items() if x.size]
    points = [floats[k] for k in where]
    if not points:
        raise TapeadTypeError("check_grads found no float among the arguments: nothing can be differentiated")

    def arranged(parts: Sequence[Any], rest: Sequence[Any]) -> Any:
        filled = list(rest)
        for k, part in zip(where, parts, strict=True):
            filled[k] = part
        return unflatten(tree, filled)

    def of_floats(parts: Sequence[Any]) -> Any:
        return f(*arranged(parts, leaves))

    rng = np.random.default_rng(seed)
    function: Callable[[Sequence[Any]], Any] = of_floats
    for level in range(1, order + 1):
        us = [_direction(points, rng) for _ in range(directions)]
        expected, got, allowed = _compare(function, points, us, eps, atol, rtol)
        differences = np.abs(expected - got)
        if not np.all(differences <= allowed):
            worst = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
            direction = arranged(us[worst], [None] * len(leaves))
            with np.printoptions(precision=4, threshold=8):
                message = (
                    f"the derivative of order {level} is wrong, most so along direction {worst + 1} of "
                    f"{directions}: expected {expected[worst]:.10g} (central difference), "
                    f"got {got[worst]:.10g} (tape), {differences[worst]:.3g} apart where {allowed:.3g} "
                    f"is allowed; the direction is {direction}"
                )
            raise CheckError(message, level, direction, float(expected[worst]), float(got[worst]))
        function = _slope(function, _direction(points, rng))


def _compare(
    f: Callable[[Sequence[Any]], Any],
    points: list[Array],
    us: list[list[Array]],
    eps: float | None,
    atol: float | None,
    rtol: float | None,
) -> tuple[Array, Array, float]:
    """Give the derivatives along `us` by central differences and by the tape, and the difference allowed."""
    gradient = [np.asarray(part, np.float64) for part in grad(f)([x[()] for x in points])]
    doubles = [x.astype(np.float64) for x in points]
    here, dtype = _number(f([x[()] for x in doubles]))
    precision = float(np.finfo(dtype).eps)
    size = sum(x.size for x in points)
    h = eps if eps is not None else precision ** (1 / 3) * size**0.5
    expected, got = np.empty(len(us)), np.empty(len(us))
    largest = abs(here)
    for k, u in enumerate(us):
        ups = [x + h * part for x, part in zip(doubles, u, strict=True)]
        downs = [x - h * part for x, part in zip(doubles, u, strict=True)]
        above, below = _number(f([x[()] for x in ups]))[0], _number(f([x[()] for x in downs]))[0]
        largest = max(largest, abs(above), abs(below))
        expected[k] = (above - below) / (2 * h)
        # The step that was really taken, as x + h u is rounded: it matters where x is large.
        got[k] = sum(np.vdot(part, up - down) / (2 * h) for part, up, down in zip(gradient, ups, downs, strict=True))
    coarsest = max(precision, *(float(np.finfo(x.dtype).eps) for x in points))
    if atol is None:
        atol = 10 * largest * (precision / h + coarsest)
    if rtol is None:
        rtol = 1e-5 if coarsest < 1e-10 else 2e-4
    return expected, got, float(atol + rtol * max(np.max(np.abs(expected)), np.max(np.abs(got))))


def _slope(f: Callable[[Sequence[Any]], Any], v: list[Array]) -> Callable[[Sequence[Any]], Any]:
    """Give the scalar function <∇f(x), v>."""
    gradient = grad(f)

    def slope(parts: Sequence[Any]) -> Any:
        return sum(np.sum(g * part) for g, part in zip(gradient(parts), v, strict=True))

    return slope


def _direction(points: list[Array], rng: np.random.Generator) -> list[Array]:
    """Draw a direction that is uniform on the unit sphere over all components."""
    parts = [rng.standard_normal(x.shape) for x in points]
    length = np.sqrt(sum(np.sum(np.square(part)) for part in parts))
    return [np.asarray(part / length) for part in parts]


def _selected(argnums: int | tuple[int, ...] | None, count: int) -> set[int]:
    """Give the positions of the arguments to differentiate with respect to."""
    if argnums is None:
        return set(range(count))
    chosen = argnums if isinstance(argnums, tuple) else (argnums,)
    for n in chosen:
        if not isinstance(n, int) or not -count <= n < count:
            raise TapeadValueError(f"argnums must be positions among the {count} arguments, not {argnums!r}")
    return {n % count for n in chosen}


def _real(leaf: Any) -> Array | None:
    """Give a float or float array as an array, and None for anything else."""
    if not isinstance(leaf, float | np.floating | np.ndarray) or isinstance(leaf, np.longdouble):
        return None
    array = np.asarray(leaf)
    return array if array.dtype in (np.float64, np.float32) else None


def _number(value: Any) -> tuple[float, np.dtype[Any]]:
    """Give f's value as a float, with the floating dtype that it was computed in."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TapeadTypeError(f"f must return one real number, not {_kind(value)}")
    if array.shape != ():
        raise TapeadValueError(f"f must return one number, not an array of shape {array.shape}")
    return float(array), array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)


def _check_step(eps: float | None) -> None:
    if eps is not None and not (isinstance(eps, float | int | np.floating) and 0 < eps < np.inf):
        raise TapeadValueError(f"eps, the step, must be a positive number, not {eps!r}")


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of dtype {value.dtype}"
    return f"a value of type {type(value).__name__}"
