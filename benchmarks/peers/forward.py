"""The forward sweep of tapead alone: what a gradient's time is a multiple of."""

from typing import Any

import numpy as np

import tapead.scipy.special
from tapead.trace import Trace
from tapead.tree import flatten

from ..problems import Problem
from . import Run

NAME = "forward sweep"


def prepare(problem: Problem) -> Run:
    """Plan the function for its value alone; the call is the sweep, its inputs bound beforehand."""
    function = problem.define(np, tapead.scipy.special)
    leaves, structure = flatten(((*problem.arguments, *problem.batch), {}))
    trace = Trace(function, leaves, structure)
    program = trace.program
    workspace = program.take()
    bound = [program.bind(workspace, k, leaves[i]) for k, i in enumerate(trace.traced)]

    # the sweep reads `bound` in place: the call keeps it alive
    def call(kept: Any = bound) -> Any:
        program.run(workspace)
        return workspace.results[0]

    return Run(call, None)
