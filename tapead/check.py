"""Numerical derivatives, and the check of the tape's derivatives against them.

With the step h and f evaluated to a relative precision ε:

    forward   (f(x + h) - f(x)) / h               error  h/2 f'' + 2 ε f/h     least near h = √ε
    central   (f(x + h) - f(x - h)) / (2 h)       error  h²/6 f''' + ε f/h     least near h = ∛ε
    complex   Im f(x + i h) / h                   error  h²/6 f''' + ε f'      none left of the first for tiny h

(J. Nocedal, S. Wright: Numerical Optimization, 2nd edition, section 8.1; W. Squire, G. Trapp: Using Complex Variables to
Estimate Derivatives of Real Functions, SIAM Review 40, 1998.) The first terms are measured by a second step.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .api import grad
from .derivatives import jvp
from .errors import TapeadCheckError, TapeadTypeError, TapeadValueError
from .tree import flatten, unflatten

Array = NDArray[np.floating[Any]]


class CheckError(TapeadCheckError):
    """Say that a gradient and the difference quotient disagree, and where they do so most.

    `order` is the order of the derivative, `modes` how it was taken ("fwd" or "rev", the outermost first),
    `direction` the worst direction (shaped like the checked arguments, None where nothing was differentiated),
    `expected` the central difference along it and `got` the tape's derivative along it.
    """

    def __init__(
        self, message: str, order: int, direction: Any, expected: float, got: float, modes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.order = order
        self.direction = direction
        self.expected = expected
        self.got = got
        self.modes = modes


#: exponent of ε that gives each method's best step (relative to the component, of at least 1)
_BEST = {"forward": 1 / 2, "central": 1 / 3}
#: the complex step, relative to the component: what is of second order in it vanishes, and nothing underflows
_TINY = {8: 1e-100, 4: 1e-15}


def numerical_grad(
    f: Callable[[Any], Any],
    x: Any,
    method: Literal["forward", "central", "complex"] = "central",
    eps: float | None = None,
    *,
    with_error: bool = False,
) -> Any:
    """Differentiate a function of numbers numerically, one component at a time.

    `x` is a float, a float array of any shape or a pytree of them, and the result has its structure, shapes
    and dtypes. `f` is any Python function that returns one real number; nothing is traced. It is called
    n + 1 times ("forward"), 2 n times ("central") or n + 4 times ("complex") for n components.

    "complex" takes the imaginary part of f at x + ih: no digit cancels, so nearly all are right. `f` must be
    made of analytic functions that NumPy knows for complex numbers: no abs, no norm, no .real. That is
    checked against differences along one direction, unless `eps` is given.

    `eps` is the step. By default it is √ε ("forward") or ∛ε ("central") times max(1, |component|), with
    ε the machine epsilon of the component's dtype: the steps at which truncation and rounding balance; for
    "complex" it is so small that there is no truncation.

    With `with_error` the result is (gradient, error), of the same structure: the error is what a second step
    says of the truncation, and the rounding of f's value (of f's derivative, for "complex"), supposing that
    f is as precise as its dtype. It is an estimate, good to a small factor, and takes n to 2 n more calls.

    Raises a TypeError where a leaf of `x` is not a real float, `f` returns no real number, or cannot do with
    complex numbers; a ValueError for another `method`, an `eps` that is not positive, or a value of `f`
    that has more than one element.

    >>> import numpy as np
    >>> g = numerical_grad(lambda x: np.sum(x**3), np.array([1.0, 2.0]))
    >>> print(np.round(g, 6))
    [ 3. 12.]
    >>> g = numerical_grad(lambda p: p["a"] * p["b"], {"a": 2.0, "b": 5.0}, method="forward")
    >>> print(round(g["a"], 6), round(g["b"], 6))
    5.0 2.0
    >>> g, error = numerical_grad(np.exp, 1.0, method="complex", with_error=True)
    >>> bool(abs(g - np.e) < 1e-15), bool(error < 1e-14)
    (True, True)
    """
    if method not in (*_BEST, "complex"):
        raise TapeadValueError(f'method must be "forward", "central" or "complex", not {method!r}')
    _check_step(eps)
    leaves, tree = flatten(x)
    xs = [_real(leaf) for leaf in leaves]
    for leaf, array in zip(leaves, xs, strict=True):
        if array is None:
            raise TapeadTypeError(f"numerical_grad needs real floats to vary, got {_kind(leaf)}")
    arrays: list[Array] = [array for array in xs if array is not None]

    def arranged(parts: Sequence[Any]) -> Any:
        return unflatten(tree, [part[()] for part in parts])

    quotient = (
        _ComplexQuotient(f, arrays, arranged)
        if method == "complex"
        else _RealQuotient(f, arrays, arranged, method == "central")
    )
    gradient, errors = [], []
    for k, array in enumerate(arrays):
        slope, error = np.empty(array.shape, array.dtype), np.empty(array.shape, array.dtype)
        for i, component in enumerate(array.flat):
            step = quotient.step(component) if eps is None else eps
            found, rounding = quotient.of(k, i, step)
            slope.flat[i] = found
            if with_error:
                other, _ = quotient.of(k, i, quotient.second * step)
                stored = float(np.finfo(array.dtype).eps) * abs(found)
                error.flat[i] = abs(other - found) * quotient.share + rounding + stored
        gradient.append(slope[()])
        errors.append(error[()])
    if method == "complex" and eps is None and any(array.size for array in arrays):
        _check_analytic(f, arrays, gradient, arranged)
    made = unflatten(tree, gradient)
    return (made, unflatten(tree, errors)) if with_error else made


class _RealQuotient:
    """Difference quotients along one component; `second` times the step tells the error: `share` of the difference."""

    second = 2.0

    def __init__(
        self, f: Any, arrays: Sequence[Array], arranged: Callable[[Sequence[Any]], Any], central: bool
    ) -> None:
        self.f, self.arrays, self.arranged, self.central = f, arrays, arranged, central
        self.share = 1 / 3 if central else 1.0  # of the errors 4 e - e, and 2 e - e
        self._here = None if central else _number(f(arranged(arrays)))

    def step(self, component: Any) -> float:
        """Give the best step for a component."""
        best: float = float(np.finfo(component.dtype).eps) ** _BEST["central" if self.central else "forward"]
        return best * max(1.0, abs(float(component)))

    def of(self, k: int, i: int, step: float) -> tuple[float, float]:
        """Give the quotient by the i-th component of the k-th array, and the error by rounding f's values."""
        component = self.arrays[k].flat[i]
        moved = component.dtype.type(step)
        up, down = component + moved, component - moved if self.central else component
        above, dtype = self._value(k, i, up)
        below, _ = self._value(k, i, down) if self._here is None else self._here
        span = float(up) - float(down)
        return (above - below) / span, float(np.finfo(dtype).eps) * (abs(above) + abs(below)) / span

    def _value(self, k: int, i: int, component: Any) -> tuple[float, np.dtype[Any]]:
        moved = [array.copy() for array in self.arrays]
        moved[k].flat[i] = component
        return _number(self.f(self.arranged(moved)))


class _ComplexQuotient:
    """The imaginary part of f at a component moved along the imaginary axis, by the step.

    There is no truncation; a second step that is no power of two times the first rounds differently on the way.
    """

    second, share = 1.7, 1.0

    def __init__(self, f: Any, arrays: Sequence[Array], arranged: Callable[[Sequence[Any]], Any]) -> None:
        self.f, self.arrays, self.arranged = f, arrays, arranged

    def step(self, component: Any) -> float:
        """Give a step that is tiny for a component."""
        return _TINY[component.dtype.itemsize] * (abs(float(component)) or 1.0)

    def of(self, k: int, i: int, step: float) -> tuple[float, float]:
        """Give the derivative by the i-th component of the k-th array, and the error by rounding it on the way."""
        moved: list[Any] = [array.astype(np.result_type(array.dtype, np.complex64)) for array in self.arrays]
        moved[k].flat[i] += moved[k].dtype.type(1j * step)
        taken = float(moved[k].flat[i].imag)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                value = np.asarray(self.f(self.arranged(moved)))
        except (TypeError, np.exceptions.ComplexWarning) as error:
            raise TapeadTypeError(
                f'method="complex" calls f with complex numbers, which it cannot take: {error}. Use method="central"'
            ) from error
        if value.shape != ():
            raise TapeadValueError(f"f must return one number, not an array of shape {value.shape}")
        if value.dtype.kind != "c":
            raise TapeadTypeError(
                f'method="complex" needs f to return a complex number for complex arguments, not {_kind(value)}: an operation '
                'in it drops the imaginary part (abs, .real, norm, float), or f does not depend on x. Use method="central"'
            )
        slope = float(value.imag) / taken
        return slope, 4 * float(np.finfo(value.dtype).eps) * abs(slope)


def _check_analytic(
    f: Any, arrays: Sequence[Array], gradient: Sequence[Any], arranged: Callable[[Sequence[Any]], Any]
) -> None:
    """Compare a gradient by complex steps with differences along one direction: an operation that is not analytic shows."""
    doubles = [array.astype(np.float64) for array in arrays]
    us = _direction(doubles, np.random.default_rng(0))
    ws = [u * np.maximum(1.0, np.abs(x)) for u, x in zip(us, doubles, strict=True)]
    precision = float(np.finfo(np.float64).eps)
    h = precision ** (1 / 3)

    def quotient(h: float) -> tuple[float, float]:
        above, dtype = _number(f(arranged([x + h * w for x, w in zip(doubles, ws, strict=True)])))
        below, _ = _number(f(arranged([x - h * w for x, w in zip(doubles, ws, strict=True)])))
        return (above - below) / (2 * h), float(np.finfo(dtype).eps) * (abs(above) + abs(below)) / h

    (expected, rounding), (other, _) = quotient(h), quotient(2 * h)
    terms = [np.asarray(slope, np.float64) * w for slope, w in zip(gradient, ws, strict=True)]
    got, size = (float(sum(np.sum(of(term)) for term in terms)) for of in (np.asarray, np.abs))
    share = 1e-6 if all(array.dtype == np.float64 for array in arrays) else 1e-2
    doubt = 10 * (abs(other - expected) + rounding) + share * (abs(expected) + size)
    if abs(expected - got) > doubt:
        raise TapeadTypeError(
            f'method="complex" gives {got:.6g} along a direction where differences give {expected:.6g}: an operation in f '
            "drops or changes the imaginary part (abs, conj, .real, norm), or f has a kink there. Use "
            'method="central"'
        )


def check_grads(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    order: int = 1,
    modes: str | Sequence[str] = ("fwd", "rev"),
    *,
    directions: int = 10,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    argnums: int | tuple[int, ...] | None = None,
) -> None:
    """Compare the tape's derivatives of f(*args) with central differences along random directions.

    `args` is the tuple of arguments; all float leaves (arrays, floats, pytrees of them) of the arguments
    that `argnums` selects, by default of all arguments, are varied together. Each of the `directions` is
    uniform on the unit sphere over all these components, drawn from `seed`. Along a direction u the tape's
    <∇f(x), u> (mode "rev") and its tangent (mode "fwd") are compared with (f(x + h u) - f(x - h u)) / 2h,
    where f runs on ordinary arrays in float64. With `order=2` the derivatives of both along a random
    direction v are checked in the same way, in every pair of the `modes`; further orders by recursion.

    `eps` is the step h; by default it is √n ∛ε for n components, so that each moves by about ∛ε, ε being the
    machine epsilon of f's value. A difference passes if it is at most `atol` + `rtol` times the largest
    derivative along any of the directions. By default `rtol` is 1e-5 (2e-4 where float32 takes part) and
    `atol` ten times the rounding error of the quotient.

    Raises CheckError, an AssertionError, which names the modes, the worst direction and the derivatives
    expected and found along it; a TypeError where there is nothing to differentiate or `args` is no tuple; a
    ValueError where a setting is out of range, a mode is unknown or f returns more than one number.

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
    chosen = _modes(modes)
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
    functions: list[tuple[tuple[str, ...], _Function]] = [((), of_floats)]
    for level in range(1, order + 1):
        us = [_direction(points, rng) for _ in range(directions)]
        for inner, function in functions:
            quotients = _Quotients(function, points, us, eps)
            for mode in chosen:
                taken = (mode, *inner)
                got = quotients.by_tape(mode)
                allowed = quotients.allowed(got, atol, rtol)
                differences = np.abs(quotients.expected - got)
                if np.all(differences <= allowed):
                    continue
                worst = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
                direction = arranged(us[worst], [None] * len(leaves))
                expected = float(quotients.expected[worst])
                with np.printoptions(precision=4, threshold=8):
                    message = (
                        f"the derivative of order {level} is wrong ({' over '.join(taken)}), most so along direction "
                        f"{worst + 1} of {directions}: expected {expected:.10g} (central difference), "
                        f"got {got[worst]:.10g} (tape), {differences[worst]:.3g} apart where {allowed:.3g} "
                        f"is allowed; the direction is {direction}"
                    )
                raise CheckError(message, level, direction, expected, float(got[worst]), taken)
        if level < order:
            v = _direction(points, rng)
            functions = [
                ((mode, *inner), _slope(function, v, mode))
                for (inner, function), mode in itertools.product(functions, chosen)
            ]


_Function = Callable[[Sequence[Any]], Any]


class _Quotients:
    """Central differences of f along directions, and what the tape says to compare with them."""

    def __init__(self, f: _Function, points: list[Array], us: list[list[Array]], eps: float | None) -> None:
        self.f, self.points = f, points
        doubles = [x.astype(np.float64) for x in points]
        here, dtype = _number(f([x[()] for x in doubles]))
        self.precision = float(np.finfo(dtype).eps)
        size = sum(x.size for x in points)
        self.h = h = eps if eps is not None else self.precision ** (1 / 3) * size**0.5
        self.expected = np.empty(len(us))
        self.largest = abs(here)
        self.taken: list[list[Array]] = []
        for k, u in enumerate(us):
            ups = [x + h * part for x, part in zip(doubles, u, strict=True)]
            downs = [x - h * part for x, part in zip(doubles, u, strict=True)]
            above, below = _number(f([x[()] for x in ups]))[0], _number(f([x[()] for x in downs]))[0]
            self.largest = max(self.largest, abs(above), abs(below))
            self.expected[k] = (above - below) / (2 * h)
            # The step that was really taken, as x + h u is rounded: it matters where x is large.
            self.taken.append([(up - down) / (2 * h) for up, down in zip(ups, downs, strict=True)])

    def by_tape(self, mode: str) -> Array:
        """Give the tape's derivatives along the directions."""
        x = [point[()] for point in self.points]
        if mode == "fwd":
            return np.array([float(_tangent(self.f, x, u)) for u in self.taken])
        gradient = [np.asarray(part, np.float64) for part in grad(self.f)(x)]
        return np.array([sum(np.vdot(g, part) for g, part in zip(gradient, u, strict=True)) for u in self.taken])

    def allowed(self, got: Array, atol: float | None, rtol: float | None) -> float:
        """Give the difference that is allowed."""
        coarsest = max(self.precision, *(float(np.finfo(x.dtype).eps) for x in self.points))
        if atol is None:
            atol = 10 * self.largest * (self.precision / self.h + coarsest)
        if rtol is None:
            rtol = 1e-5 if coarsest < 1e-10 else 2e-4
        return float(atol + rtol * max(np.max(np.abs(self.expected)), np.max(np.abs(got))))


def _slope(f: _Function, v: list[Array], mode: str) -> _Function:
    """Give the scalar function <∇f(x), v>, taken in a mode."""
    if mode == "fwd":
        return lambda parts: _tangent(f, parts, v)
    gradient = grad(f)

    def slope(parts: Sequence[Any]) -> Any:
        return sum(np.sum(g * part) for g, part in zip(gradient(parts), v, strict=True))

    return slope


def _tangent(f: _Function, parts: Sequence[Any], v: Sequence[Array]) -> Any:
    """Give the derivative of f along v in forward mode."""
    tangents = [np.asarray(part, x.dtype)[()] for x, part in zip(parts, v, strict=True)]
    return jvp(f, (parts,), (tangents,))[1]


def _modes(modes: Any) -> tuple[str, ...]:
    """Give the modes that are chosen."""
    chosen = (modes,) if isinstance(modes, str) else tuple(modes) if isinstance(modes, Sequence) else ()
    if not chosen or not set(chosen) <= {"fwd", "rev"}:
        raise TapeadValueError(f'modes must be of "fwd" and "rev", such as ("fwd", "rev"), not {modes!r}')
    return tuple(dict.fromkeys(chosen))


def _direction(points: Sequence[Array], rng: np.random.Generator) -> list[Array]:
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
