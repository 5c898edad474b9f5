"""A gradient by tapead: what the time of a Hessian-vector product is a multiple of."""

import numpy as np

import tapead
import tapead.scipy.special

from ..problems import Problem
from . import Run

NAME = "gradient"


def prepare(problem: Problem) -> Run | None:
    """Differentiate once what an hvp differentiates twice; the result is a new array at each call, as it is there."""
    if problem.derivative != "hvp":
        return None
    gradient, x = tapead.grad(problem.define(np, tapead.scipy.special)), problem.point
    return Run(lambda: gradient(x), None)
