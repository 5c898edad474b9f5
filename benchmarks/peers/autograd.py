"""HIPS autograd: the same NumPy code, traced by Python objects at every call."""

from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy
import autograd.scipy.special

from ..problems import Problem
from . import Run, read_all

NAME = "autograd"


def prepare(problem: Problem) -> Run | None:
    """Wrap the NumPy function."""
    function = problem.define(autograd.numpy, autograd.scipy.special, autograd.grad)
    if problem.derivative != "gradient":
        return derive(problem, function)
    value_and_grad = autograd.value_and_grad(function, problem.argnums)
    values = (*problem.arguments, *problem.batch)
    return Run(lambda: value_and_grad(*values), read_all)


def derive(problem: Problem, function: Callable[..., Any]) -> Run | None:
    x, u = problem.point, problem.direction
    match problem.derivative:
        case "jvp":
            jvp = autograd.make_jvp(function)
            return Run(lambda: jvp(x)(u), read_all)
        case "hvp":
            hvp = autograd.hessian_vector_product(function)
            return Run(lambda: hvp(x, u), read_all)
        case "jacfwd":
            return None
        case kind:
            made = {"jacrev": autograd.jacobian, "hessian": autograd.hessian}[kind](function)
            return Run(lambda: made(x), read_all)
