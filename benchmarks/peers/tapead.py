"""tapead itself, with `out=` wherever the gradients are arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

import tapead
import tapead.scipy.special

from ..problems import Problem
from . import Run, read_all

NAME = "tapead"


def prepare(problem: Problem) -> Run:
    """Trace the NumPy function; gradients go into arrays that are kept between the calls."""
    function = problem.define(np, tapead.scipy.special, tapead.grad)
    if problem.derivative != "gradient":
        return derive(problem, function)
    value_and_grad = tapead.value_and_grad(function, problem.argnums)
    values = (*problem.arguments, *problem.batch)
    if not all(isinstance(a, np.ndarray) for a in problem.arguments):
        return Run(lambda: value_and_grad(*values), read_all)
    gradients = tuple(np.empty_like(a) for a in problem.arguments)
    out = gradients[0] if len(gradients) == 1 else gradients
    if len(values) == 1:
        (x,) = values
        return Run(lambda: value_and_grad(x, out=out), read_all)
    return Run(lambda: value_and_grad(*values, out=out), read_all)


def derive(problem: Problem, function: Callable[..., Any]) -> Run:
    x, u = problem.point, problem.direction
    match problem.derivative:
        case "jvp":
            return Run(lambda: tapead.jvp(function, (x,), (u,)), read_all)
        case "hvp":
            return Run(lambda: tapead.hvp(function, (x,), (u,)), read_all)
        case kind:
            made = {"jacfwd": tapead.jacfwd, "jacrev": tapead.jacrev, "hessian": tapead.hessian}[kind](function)
            return Run(lambda: made(x), read_all)
