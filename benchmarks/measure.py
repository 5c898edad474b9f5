"""Compare the peers' results, then time them in turns."""

import math
import sys
import time
import timeit
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from .peers import Peer, Run
from .problems import Problem

# error relative to the largest component; central differences cannot do better than about eps ** (2 / 3)
TOLERANCE, TOLERANCE_OF_DIFFERENCES, TOLERANCE_OF_FLOAT32 = 1e-11, 1e-6, 1e-4

REFERENCE = ("handwritten", "tapead")  # the first of them that ran is the one to agree with

Result = tuple[np.ndarray, ...]


WARM, THREADED = "value and gradient, one thread", "value and gradient, all cores"
DERIVATIVES = "other derivatives, one thread"
FIRST, CURVE = "first gradient of a new function", "time against n"
MEMORY, COLD = "peak memory of a gradient", "cold start"


@dataclass(frozen=True)
class Timing:
    """Hold what one peer took for one problem: seconds per call (bytes in the table MEMORY), one figure a repeat."""

    table: str
    problem: str
    peer: str
    repeats: tuple[float, ...]

    @property
    def median(self) -> float:
        """Give the median of the repeats."""
        return median(self.repeats)

    def plain(self) -> dict[str, Any]:
        """Give the timing as data that JSON can hold."""
        return asdict(self) | {"median": self.median}

    @staticmethod
    def read(figures: Mapping[str, Any]) -> "Timing":
        """Make a timing of what `plain` gave."""
        return Timing(figures["table"], figures["problem"], figures["peer"], tuple(figures["repeats"]))


def require_agreement(problem: Problem, results: Mapping[str, Result]) -> None:
    """Raise AssertionError, naming the peer, where a result differs from the reference's."""
    reference = next((name for name in REFERENCE if name in results), next(iter(results)))
    for name, result in results.items():
        loose = "differences" in (name, reference)
        tolerance = TOLERANCE_OF_DIFFERENCES if loose else TOLERANCE
        if np.asarray(problem.arguments[0]).dtype == np.float32:
            tolerance = TOLERANCE_OF_FLOAT32
        for k, (expected, got) in enumerate(zip(results[reference], result, strict=True)):
            where = f"{problem.title}: result {k} of {name} against {reference}"
            if np.shape(expected) != np.shape(got):
                raise AssertionError(f"{where}: shape {np.shape(got)}, not {np.shape(expected)}")
            error = float(np.max(np.abs(np.subtract(expected, got))))
            if not error <= tolerance * max(1.0, float(np.max(np.abs(expected)))):  # NaN fails, too
                raise AssertionError(f"{where}: differs by {error:.3g}")


def interleave(
    calls: Mapping[str, Callable[[], Any]],
    repeats: int = 25,
    slice_seconds: float = 0.02,
    budget: float = 5.0,
) -> dict[str, tuple[float, ...]]:
    """Time warm calls in turns, so that a slow moment of the machine falls on all of them.

    Each of the `repeats` rounds gives every call about `slice_seconds` and notes its seconds per call. A call
    that has used up its `budget` in seconds leaves the rounds early, after one at least. Without slices
    (`slice_seconds=0`) a round is a single call, and nothing runs beforehand.
    """
    loops = {name: loops_for(call, slice_seconds) if slice_seconds else 1 for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    spent = dict.fromkeys(calls, 0.0)
    for _ in range(repeats):
        for name, call in calls.items():
            if spent[name] < budget:
                elapsed = timeit.timeit(call, number=loops[name])
                spent[name] += elapsed
                seconds[name].append(elapsed / loops[name])
    return {name: tuple(figures) for name, figures in seconds.items()}


def loops_for(call: Callable[[], Any], seconds: float) -> int:
    """Warm `call` up and count how often it fits into `seconds`."""
    loops = 1
    while True:
        start = time.perf_counter()
        for _ in range(loops):
            call()
        elapsed = time.perf_counter() - start
        if elapsed >= seconds / 4:
            return max(1, math.ceil(loops * seconds / elapsed))
        loops *= 4


def prepare(problem: Problem, peers: Mapping[str, Peer]) -> dict[str, Run]:
    """Prepare the peers that know the problem, call each once, and require that those with results agree."""
    runs: dict[str, Run] = {}
    results: dict[str, Result] = {}
    for name, peer in peers.items():
        run = None if name in problem.without else peer.prepare(problem)
        if run is not None:
            runs[name] = run
            result = run.call()
            if run.read is not None:
                results[name] = run.read(result)
    require_agreement(problem, results)
    return runs


def measure_warm(problem: Problem, runs: Mapping[str, Run], table: str = WARM, **settings: Any) -> list[Timing]:
    """Time calls of a function that has been called before."""
    print(f"{problem.title}: {table}", file=sys.stderr, flush=True)
    figures = interleave({name: run.call for name, run in runs.items()}, **settings)
    return [Timing(table, problem.title, name, repeats) for name, repeats in figures.items()]


def measure_first(problem: Problem, peers: Mapping[str, Peer], **settings: Any) -> list[Timing]:
    """Time definition and first call of a function that is new at each repeat, in a process that is warm.

    The peers must know the problem.
    """

    def first(peer: Peer) -> Callable[[], Any]:
        def call() -> Any:
            run = peer.prepare(problem)
            assert run is not None
            return run.call()

        return call

    print(f"{problem.title}: {FIRST}", file=sys.stderr, flush=True)
    figures = interleave({name: first(peer) for name, peer in peers.items()}, slice_seconds=0.0, **settings)
    return [Timing(FIRST, problem.title, name, repeats) for name, repeats in figures.items()]
