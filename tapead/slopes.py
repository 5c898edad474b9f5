"""Derivatives of a whole run against central differences, along one direction for each input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .check import numerical_grad
from .observation import Observation
from .tree import flatten, paths, unflatten


@dataclass(frozen=True)
class SlopeCheck:
    """The derivative along a direction by the tape and by a central difference, whose error is estimated."""

    label: str
    tape: float
    difference: float
    error: float
    precision: float = float(np.finfo(float).eps)  # of the coarsest numbers that the function computes with

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than the difference's own error, and rounding, explain."""
        return abs(self.tape - self.difference) <= 10 * self.error + 5000 * self.precision * abs(self.tape)

    @property
    def verdict(self) -> str:
        """Say in a word or two whether they agree."""
        if not (math.isfinite(self.tape) and math.isfinite(self.difference)):
            return "not finite"
        return "agrees" if self.agrees else "DIFFERS"


def checks_of(
    f: Callable[..., Any], args: Sequence[Any], names: Sequence[str], seen: Observation, gradient: dict[str, Any]
) -> tuple[tuple[SlopeCheck, ...], tuple[str, ...]]:
    """Compare the derivative along one direction of each input with a central difference; say which could not be.

    The direction is that of the tangents, all ones, where no gradient is known; else a random one of length 1.
    """
    leaves, structure = flatten(tuple(args))
    labels = [name + path for name, arg in zip(names, args, strict=True) for path in paths(arg)]
    rng = np.random.default_rng(0)
    checks, failed = [], []
    precision = max(float(np.finfo(node.dtype).eps) for node in seen.nodes.all if np.dtype(node.dtype).kind == "f")
    for n in seen.inputs:
        label = seen.nodes[n].label
        at = labels.index(label)
        x = np.asarray(leaves[at])
        with np.errstate(all="ignore"):
            if gradient:
                direction = rng.normal(size=x.shape)
                length = float(np.sqrt(np.sum(direction * direction)))
                direction = (direction / length if x.ndim and length else np.ones(x.shape)).astype(x.dtype)
                slope = float(np.sum(gradient[label] * direction))
            else:
                direction = np.ones(x.shape, x.dtype)
                slope = float(sum(np.sum(seen.tangents[n].get(out, 0.0)) for out in seen.outputs))

        def total(t: Any, at: int = at, x: Any = x, direction: Any = direction) -> Any:
            moved = list(leaves)
            moved[at] = (x + np.asarray(t, x.dtype) * direction)[()]
            found = flatten(f(*unflatten(structure, moved)))[0]
            return sum(np.sum(part) for part in found if np.asarray(part).dtype.kind == "f")

        try:
            with np.errstate(all="ignore"):
                difference, error = numerical_grad(total, x.dtype.type(0.0), with_error=True)
        except Exception as raised:  # the user's function, at a place that it was not asked for
            said = " ".join(f"{type(raised).__name__}: {raised}".split()).removesuffix(":")
            failed.append(f"the derivative by {label} is not checked: nearby, the function raises {said}")
            continue
        checks.append(SlopeCheck(label, slope, float(difference), float(error), precision))
    return tuple(checks), tuple(failed)
