"""jax.jit on float64. XLA takes minutes to compile 500 unrolled steps, so loops are a `lax.scan` here."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special

from ..problems import Problem
from . import Run, read_all

NAME = "jax.jit"

jax.config.update("jax_enable_x64", True)
# else small programs go to a second thread, and waking it costs up to four times their work
jax.config.update("jax_cpu_enable_async_dispatch", False)


def scanned_loop(a: Any, b: Any, steps: int) -> Any:
    def step(carry: Any, _: None) -> Any:
        a, b = carry
        return (a + 0.01 * jnp.sin(b), b - 0.01 * a), None

    (a, b), _ = jax.lax.scan(step, (a, b), None, length=steps)
    return a * b


def scanned_descent(a: Any, steps: int) -> Any:
    def loss(y: Any) -> Any:
        return jnp.sum((y - a) ** 2) + jnp.sum(y**4) / 4

    slope = jax.grad(loss)
    y, _ = jax.lax.scan(lambda y, _: (y - 0.1 * slope(y), None), 0.5 * a, None, length=steps)
    return jnp.sum(y**2)


SCANNED: dict[str, Callable[..., Any]] = {"loop": scanned_loop, "descent": scanned_descent}


def define(problem: Problem) -> Callable[..., Any]:
    if problem.kind in SCANNED:
        return lambda *values: SCANNED[problem.kind](*values, *problem.constants)
    return problem.define(jnp, jax.scipy.special)


def derive(problem: Problem) -> Run:
    """Jit the derivative that is asked for; point and direction are device arrays, and so are the results."""
    function = define(problem)
    match problem.derivative:
        case "jvp":
            made = jax.jit(lambda x, u: jax.jvp(function, (x,), (u,)))
        case "hvp":
            made = jax.jit(lambda x, u: jax.jvp(jax.grad(function), (x,), (u,))[1])
        case kind:
            made = jax.jit({"jacfwd": jax.jacfwd, "jacrev": jax.jacrev, "hessian": jax.hessian}[kind](function))
    values = tuple(jnp.asarray(value) for value in (problem.point, problem.direction) if value is not None)

    def call() -> Any:
        result = made(*values)
        last = result[-1] if isinstance(result, tuple) else result
        last.block_until_ready()
        return result

    return Run(call, read_all)


def prepare(problem: Problem) -> Run:
    """Jit value and gradient; arguments and batch are device arrays already, and so are the results."""
    if problem.derivative != "gradient":
        return derive(problem)
    value_and_grad = jax.jit(jax.value_and_grad(define(problem), problem.argnums))
    values = tuple(jnp.asarray(value) for value in (*problem.arguments, *problem.batch))

    def call() -> Any:
        value, gradient = value_and_grad(*values)
        # one executable, all of its outputs ready at once: waiting for the last one is waiting for each
        last = gradient[-1] if isinstance(gradient, tuple) else gradient
        last.block_until_ready()
        return value, gradient

    return Run(call, read_all)
