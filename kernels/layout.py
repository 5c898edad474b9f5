"""Ops that move or add up numbers and are done by block kernels: planner and block kernels know them by name."""

import math
from typing import Any

import numpy as np

from .op import nothing_to_count, structural

GROUP = "blocks"


def sum_rule(record: Any, parameters: dict[str, Any], d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
    """Broadcast d."""
    return (np.broadcast_to(d, operands[0].shape),)


structural(
    "sum",
    numpy=lambda x: np.sum(x, keepdims=True),
    arity=1,
    doc="sum over some axes, which stay with one element",
    group=GROUP,
    active=(0,),
    linear=True,
    rule=sum_rule,
    count=lambda operands, results: (max(math.prod(operands[0]) - math.prod(results[0]), 0), 0, 0),
    formula="sum({x}{axes})",
    adjoints=("broadcast({d})",),
)

structural(
    "assign",
    numpy=lambda e: e,
    arity=1,
    doc="write into a part of an array in place",
    group=GROUP,
    active=(0,),
    count=nothing_to_count,
    adjoints=("{d} where it was written",),
)
