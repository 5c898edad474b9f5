"""What no gradient can go below: memory that must move, or matrix products that must be made."""

from collections.abc import Callable

import numpy as np
from numba import njit

from ..problems import Problem
from . import Run

NAME = "limit"


def prepare(problem: Problem) -> Run | None:
    """Give the limit's own loop; small problems have none of this kind."""
    write = KINDS.get(problem.kind)
    return write(problem) if write else None


def copies(problem: Problem) -> Run:
    """Read every argument once and write a gradient of its size, in one loop."""

    @njit
    def copy(values, gradients):
        for k in range(len(values)):
            value, gradient = values[k], gradients[k]
            for i in range(value.size):
                gradient[i] = value[i]

    gradients = tuple(np.empty_like(a) for a in problem.arguments)
    return Run(lambda: copy(problem.arguments, gradients), None)


def products(problem: Problem) -> Run:
    """Multiply the matrices of a network's sweeps: three forward, three for weights, two for layers."""
    w1, b1, w2, b2, w3, b3 = problem.arguments
    images, _ = problem.batch
    z1, z2, z3 = (np.ones((len(images), b.size), b.dtype) for b in (b1, b2, b3))
    h1, h2, h3 = (np.empty_like(z) for z in (z1, z2, z3))
    g1, g2, g3 = (np.empty_like(w) for w in (w1, w2, w3))

    def call() -> None:
        np.dot(images, w1, out=h1)
        np.dot(z1, w2, out=h2)
        np.dot(z2, w3, out=h3)
        np.dot(z2.T, z3, out=g3)
        np.dot(z3, w3.T, out=h2)
        np.dot(z1.T, z2, out=g2)
        np.dot(z2, w2.T, out=h1)
        np.dot(images.T, z1, out=g1)

    return Run(call, None)


def long_copies(problem: Problem) -> Run | None:
    return copies(problem) if problem.arguments[0].size > 1000 else None


KINDS: dict[str, Callable[[Problem], Run | None]] = {
    "rosenbrock": long_copies,
    "elementwise": copies,
    "chain": copies,
    "network": products,
}
