"""The check of a primitive: what the tests of the op table demand of an op, for an op of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .api import grad, value_and_grad
from .check import CheckError, check_grads
from .define import Tape
from .errors import TapeadNotImplementedError, TapeadTypeError
from .primitives import ElementwisePrimitive, Primitive

#: what operands are moved by, relatively, for a replay on other values
MOVED = 1e-3
#: what float32 may be off by
SINGLE = 2e-3


def check_primitive(p: Primitive, *operands: Any, seed: int = 0, rtol: float = 1e-9) -> None:
    """Check all that can be said of a primitive on some operands, float arrays that all of its functions are defined for.

    Its value is compared with its `numpy` function, where it has one (to `rtol`); its gradient with central differences,
    and with what its rules write on the tape; its tangent J u with differences and, in <v, J u> = <Jᵀ v, u>, with the
    gradient; derivatives of second order with differences of the gradient. (Tangent and second order: where they are
    given.) All must be the same for operands that are not contiguous, in a replay on other values, where an adjoint is
    added to another, and, to a few digits, in float32; for elementwise primitives also for operands that broadcast, for
    numbers, and for empty arrays.

    Raises CheckError, an AssertionError, that names what failed, the value expected, and the value found; TypeError
    where p is no primitive or an operand no float array.

    >>> import numpy as np, tapead
    >>> cube = tapead.primitive(lambda x: x**3, partials=(lambda x: 3 * x**2,), name="cube", numpy=lambda x: x**3)
    >>> tapead.check_primitive(cube, np.linspace(-1, 1, 6))
    >>> wrong = tapead.primitive(lambda x: x**3, partials=(lambda x: 3 * x,), name="wrong")
    >>> tapead.check_primitive(wrong, np.linspace(-1, 1, 6))
    Traceback (most recent call last):
        ...
    tapead.check.CheckError: <primitive wrong>, gradient: the derivative of order 1 is wrong ...
    """
    if not isinstance(p, Primitive):
        raise TapeadTypeError(f"check_primitive takes what tapead.primitive made, not {type(p).__name__}")
    xs = [np.asarray(x) for x in operands]
    for x in xs:
        if x.dtype.kind != "f":
            raise TapeadTypeError(f"check_primitive needs operands that are float arrays, not of dtype {x.dtype}")
    check = _PrimitiveCheck(p, [np.array(x, np.float64) for x in xs], np.random.default_rng(seed))
    check.value(rtol)
    if not check.active:
        return
    check.gradient()
    check.rules()
    check.tangent()
    check.second_order()
    check.accumulation()
    check.replay()
    check.layouts()
    check.single_precision()
    if isinstance(p, ElementwisePrimitive):
        check.broadcasting()
        check.small()


class _PrimitiveCheck:
    """A primitive on operands; the loss of it is the sum of its result with weights."""

    def __init__(self, p: Primitive, operands: list[Any], rng: np.random.Generator) -> None:
        self.p, self.operands, self.rng = p, operands, rng
        self.result = np.asarray(p(*operands))
        self.weights = rng.uniform(0.5, 1.5, self.result.shape)
        self.active = p.op.active
        self.gradients = self.gradients_of(self.loss, operands)

    def loss(self, *operands: Any) -> Any:
        """Give the sum of the result, each element with its weight."""
        return np.sum(self.p(*operands) * self.weights)

    def gradients_of(self, f: Callable[..., Any], operands: Sequence[Any]) -> list[Any]:
        """Give the gradients by the operands through which a derivative flows."""
        return list(grad(f, argnums=self.active)(*operands)) if self.active else []

    def same(self, what: str, got: Any, expected: Any, rtol: float = 1e-12, order: int = 1) -> None:
        """Raise unless two arrays are the same, up to rounding that is relative to the largest element."""
        got, expected = np.asarray(got), np.asarray(expected)
        if got.shape != expected.shape:
            message = f"{self.p!r}, {what}: the shape is {got.shape}, {expected.shape} was expected"
            raise CheckError(message, order, None, np.nan, np.nan)
        scale = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
        wrong = ~np.isclose(got, expected, rtol=rtol, atol=rtol * scale, equal_nan=True)
        if wrong.any():
            at = np.unravel_index(np.argmax(wrong), wrong.shape)
            place = f" at {tuple(map(int, at))}" if at else ""
            message = f"{self.p!r}, {what}: expected {expected[at]:.10g}, got {got[at]:.10g}{place}"
            raise CheckError(message, order, None, float(expected[at]), float(got[at]))

    def value(self, rtol: float) -> None:
        """Compare the value with NumPy's."""
        if self.p.numpy is not None:
            self.same("value against numpy=", self.result, self.p.numpy(*self.operands), rtol, 0)
        value, _ = value_and_grad(self.loss, argnums=self.active or 0)(*self.operands)
        self.same("value while traced", value, np.sum(self.result * self.weights), order=0)

    def gradient(self) -> None:
        """Compare the gradient with differences; by one operand alone it must be the same as by all."""
        with self._named("gradient"):
            check_grads(self.loss, tuple(self.operands), modes="rev", argnums=self.active)
        for k, gradient in zip(self.active, self.gradients, strict=True):
            self.same(f"gradient by operand {k + 1} alone", grad(self.loss, argnums=k)(*self.operands), gradient)

    def rules(self) -> None:
        """Compare what the rule writes on the tape with the reverse sweep."""
        with Tape() as tape:
            variables = [tape.variable(x) for x in self.operands]
            written = [g.value for g in grad(self.loss, argnums=self.active)(*variables)]
        for k, got, expected in zip(self.active, written, self.gradients, strict=True):
            self.same(f"gradient written on the tape, by operand {k + 1}", got, expected, rtol=1e-10)

    def tangent(self) -> None:
        """Compare the tangent with differences and with the gradient."""
        us = [self.rng.uniform(-1.0, 1.0, x.shape) for x in self.operands]
        directions = [u if k in self.active else np.zeros_like(u) for k, u in enumerate(us)]
        try:
            tangent = self._tangent(directions)
        except TapeadNotImplementedError:
            return
        pairing = sum(np.sum(g * directions[k]) for k, g in zip(self.active, self.gradients, strict=True))
        self.same("<v, J u> = <Jᵀ v, u>", np.sum(tangent * self.weights), pairing, rtol=1e-10)
        h = 1e-3
        f = [self.p(*(x + s * h * u for x, u in zip(self.operands, directions, strict=True))) for s in (1, -1, 2, -2)]
        self.same("tangent against differences", tangent, (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * h), rtol=1e-6)
        parts = []
        for k in self.active:
            alone = [u if i == k else np.zeros_like(u) for i, u in enumerate(directions)]
            parts.append(self._tangent(alone, only=k))
        self.same("tangent, of all operands and the sum of each alone", sum(parts), tangent, rtol=1e-10)

    def _tangent(self, directions: Sequence[Any], only: int | None = None) -> Any:
        with Tape() as tape:
            variables = [tape.variable(x) for x in self.operands]
            result = self.p(*variables)
            dots = [tape.tensor(u) if only in (None, k) else None for k, u in enumerate(directions)]
            made = self.p.tangent(tape.structural, {}, dots, [result], variables)
            return np.broadcast_to(made.value, self.result.shape)

    def second_order(self) -> None:
        """Compare derivatives of second order with differences of the gradient."""
        try:
            with self._named("second order"):
                check_grads(self.loss, tuple(self.operands), order=2, modes="rev", argnums=self.active)
        except TapeadNotImplementedError:
            pass

    def accumulation(self) -> None:
        """An operand that is used twice, and elsewhere, too, gets the sum of its adjoints."""
        other = self.rng.uniform(0.5, 1.5, self.result.shape)
        linear = [self.rng.uniform(0.5, 1.5, x.shape) for x in self.operands]

        def several(*operands: Any) -> Any:
            rest = sum(np.sum(c * x) for c, x in zip(linear, operands, strict=True))
            return self.loss(*operands) + rest + np.sum(self.p(*operands) * other)

        second = self.gradients_of(lambda *operands: np.sum(self.p(*operands) * other), self.operands)
        for k, got, first, more in zip(
            self.active, self.gradients_of(several, self.operands), self.gradients, second, strict=True
        ):
            self.same(f"adjoints added up, of operand {k + 1}", got, first + more + linear[k], rtol=1e-10)

    def replay(self) -> None:
        """A replay on other values gives what a new trace of them does."""
        replayed, again = value_and_grad(self.loss, argnums=self.active), value_and_grad(self.loss, argnums=self.active)
        moved = [x * (1 + MOVED * self.rng.uniform(size=x.shape)) for x in self.operands]
        replayed(*self.operands)
        (value, gradients), (expected, others) = replayed(*moved), again(*moved)
        self.same("value in a replay", value, expected, order=0)
        self.same("value in a replay, against the value of arrays", value, self.loss(*moved), order=0)
        for k, got, other in zip(self.active, gradients, others, strict=True):
            self.same(f"gradient in a replay, by operand {k + 1}", got, other)

    def layouts(self) -> None:
        """Operands with gaps, or in another order of axes, are read like any others."""
        spread = [np.repeat(x[..., None], 2, axis=-1)[..., 0] for x in self.operands]
        turned = [np.asfortranarray(x) for x in self.operands]
        for what, xs in (("with gaps", spread), ("in column-major order", turned)):
            self.same(f"value of operands {what}", self.p(*xs), self.result, order=0)
            for got, expected in zip(self.gradients_of(self.loss, xs), self.gradients, strict=True):
                self.same(f"gradient by operands {what}", got, expected)

        def inside(*operands: Any) -> Any:
            return self.loss(*(np.stack([x, x], axis=-1)[..., 0] for x in operands))

        for got, expected in zip(self.gradients_of(inside, self.operands), self.gradients, strict=True):
            self.same("gradient by traced operands with gaps", got, expected)

    def single_precision(self) -> None:
        """float32 stays float32, and gives the same to a few digits."""
        xs = [x.astype(np.float32) for x in self.operands]
        value = np.asarray(self.p(*xs))
        if value.dtype != np.float32:
            raise CheckError(f"{self.p!r}, float32: the dtype is {value.dtype}", 0, None, np.nan, np.nan)
        self.same("float32", value, self.result, SINGLE, 0)
        weights = self.weights.astype(np.float32)
        gradients = self.gradients_of(lambda *operands: np.sum(self.p(*operands) * weights), xs)
        for k, got, expected in zip(self.active, gradients, self.gradients, strict=True):
            self.same(f"gradient in float32, by operand {k + 1}", got, expected, SINGLE)

    def broadcasting(self) -> None:
        """Operands of all pairs of shapes give what the same operands do when they are spread out beforehand."""
        shapes = ((3, 4), (4,), (3, 1), (1, 1), (2, 1, 4), ())
        values = [np.resize(x, 24) for x in self.operands]
        for k in range(1, len(values)):
            for a in shapes:
                for b in shapes:
                    mine = [a if i == 0 else b if i == k else () for i in range(len(values))]
                    xs = [x[: int(np.prod(s))].reshape(s) for x, s in zip(values, mine, strict=True)]
                    shape = np.broadcast_shapes(*mine)
                    full = [np.broadcast_to(x, shape).copy() for x in xs]
                    weights = self.rng.uniform(0.5, 1.5, shape)

                    def loss(*operands: Any, weights: Any = weights) -> Any:
                        return np.sum(self.p(*operands) * weights)

                    what = f"of operands of shapes {' and '.join(map(str, mine))}"
                    self.same(f"value {what}", self.p(*xs), self.p(*full), order=0)
                    for i, got, whole in zip(
                        self.active, self.gradients_of(loss, xs), self.gradients_of(loss, full), strict=True
                    ):
                        self.same(f"gradient {what}", got, _summed(whole, xs[i].shape), rtol=1e-10)

    def small(self) -> None:
        """Numbers and empty arrays are operands, too."""
        numbers = [x.flat[0] for x in np.broadcast_arrays(*self.operands)] if self.result.size else []
        if numbers:
            self.same("value of numbers", self.p(*map(float, numbers)), self.result.flat[0], order=0)
            weight = self.weights.flat[0]
            got = self.gradients_of(lambda *operands: self.p(*operands) * weight, numbers)
            whole = self.gradients_of(self.loss, np.broadcast_arrays(*self.operands))
            for k, a, b in zip(self.active, got, whole, strict=True):
                self.same(f"gradient by numbers, by operand {k + 1}", a, b.flat[0])
        empty = [np.zeros((0, 3)) for _ in self.operands]
        self.same("value of empty arrays", self.p(*empty), empty[0], order=0)
        for got in self.gradients_of(lambda *operands: np.sum(self.p(*operands)), empty):
            self.same("gradient by empty arrays", got, empty[0])

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Name the primitive, and what of it is checked, in the error of `check_grads`."""
        try:
            yield
        except CheckError as error:
            raise CheckError(
                f"{self.p!r}, {what}: {error}", error.order, error.direction, error.expected, error.got, error.modes
            ) from None


def _summed(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes along which something of a shape was broadcast."""
    extra = x.ndim - len(shape)
    axes = tuple(i for i in range(x.ndim) if i < extra or shape[i - extra] == 1)
    return np.sum(x, axes).reshape(shape)
