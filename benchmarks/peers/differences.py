"""Central differences: two calls of the NumPy function for every number that is differentiated."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..problems import Problem
from . import Run, read_all

NAME = "central differences"

STEP = np.cbrt(np.finfo(np.float64).eps)  # balances the error of the formula against rounding


def central(function: Callable[..., Any], arguments: tuple[Any, ...], rest: tuple[Any, ...]) -> Any:
    points = [np.array(argument, dtype=np.float64) for argument in arguments]
    gradients = []
    for point in points:
        gradient = np.empty_like(point)
        flat, slopes = point.reshape(-1), gradient.reshape(-1)
        for i, middle in enumerate(flat):
            flat[i] = middle + STEP
            above = function(*points, *rest)
            flat[i] = middle - STEP
            below = function(*points, *rest)
            flat[i] = middle
            slopes[i] = (above - below) / (2.0 * STEP)
        gradients.append(gradient)
    return function(*points, *rest), gradients


def prepare(problem: Problem) -> Run:
    """Evaluate the plain NumPy function around the point."""
    function = problem.define()
    return Run(lambda: central(function, problem.arguments, problem.batch), read_all)
