"""jax.jit on float64. XLA takes minutes to compile 500 unrolled steps, so the loop is a `lax.scan` here."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special

from ..problems import Problem
from . import Run, read_pair

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


def define(problem: Problem) -> Callable[..., Any]:
    if problem.kind == "loop":
        return lambda a, b: scanned_loop(a, b, *problem.constants)
    return problem.define(jnp, jax.scipy.special)


def prepare(problem: Problem) -> Run:
    """Jit value and gradient; arguments and batch are device arrays already, and so are the results."""
    value_and_grad = jax.jit(jax.value_and_grad(define(problem), problem.argnums))
    values = tuple(jnp.asarray(value) for value in (*problem.arguments, *problem.batch))

    def call() -> Any:
        value, gradient = value_and_grad(*values)
        # one executable, all of its outputs ready at once: waiting for the last one is waiting for each
        last = gradient[-1] if isinstance(gradient, tuple) else gradient
        last.block_until_ready()
        return value, gradient

    return Run(call, read_pair)
