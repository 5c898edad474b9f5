"""The libraries to time, each in a module of its own behind one signature.

A peer is a module with a `NAME` for the table and

    prepare(problem: Problem) -> Run | None

which gives a call that is ready to be timed, or None where the peer has no natural spelling of the problem.
Every `prepare` defines the function anew and shares nothing compiled with an earlier one, so the time of it
and of one call afterwards is the time to the first gradient.
"""

import importlib
import importlib.util
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..problems import Problem

# module of this folder: package that it needs, in the order of the table's columns
PACKAGES = {
    "tapead": "tapead",
    "threaded": "tapead",
    "forward": "tapead",
    "gradient": "tapead",
    "limit": "numba",
    "handwritten": "numba",
    "casadi": "casadi",
    "jax": "jax",
    "torch": "torch",
    "autograd": "autograd",
    "differences": "scipy",
}


@dataclass(frozen=True)
class Run:
    """Hold one peer's call for one problem: value and gradient, or the derivative that is asked for.

    `call` is what is timed; it takes and leaves the peer's own arrays. `read` turns its result into NumPy arrays:
    value first where there is one, then one per differentiated argument; it is None where the call is a yardstick.
    """

    call: Callable[[], Any]
    read: Callable[[Any], tuple[np.ndarray, ...]] | None


class Peer(Protocol):
    """Name what a module in this folder offers."""

    NAME: str

    def prepare(self, problem: Problem) -> Run | None:
        """Make the peer's call for `problem`."""


def installed(names: Collection[str] = tuple(PACKAGES)) -> dict[str, Peer]:
    """Import those of `names` whose package is there; name to module, in the order of the table's columns."""
    peers: dict[str, Any] = {}
    for name, package in PACKAGES.items():
        if name in names and importlib.util.find_spec(package):
            peers[name] = importlib.import_module(f"{__name__}.{name}")
    return peers


def read_all(result: Any) -> tuple[np.ndarray, ...]:
    """Read numbers and arrays, and tuples of them, one after the other."""
    if isinstance(result, tuple | list):
        return tuple(array for part in result for array in read_all(part))
    return (np.array(result, dtype=np.float64),)
