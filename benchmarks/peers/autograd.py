"""HIPS autograd: the same NumPy code, traced by Python objects at every call."""

import autograd
import autograd.numpy
import autograd.scipy.special

from ..problems import Problem
from . import Run, read_pair

NAME = "autograd"


def prepare(problem: Problem) -> Run:
    """Wrap the NumPy function."""
    function = problem.define(autograd.numpy, autograd.scipy.special)
    value_and_grad = autograd.value_and_grad(function, problem.argnums)
    values = (*problem.arguments, *problem.batch)
    return Run(lambda: value_and_grad(*values), read_pair)
