"""What a differentiated function does: the account that `explain` gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .api import Differentiated
from .errors import TapeadTypeError
from .tape import describe


@dataclass(frozen=True)
class Explanation:
    """An account of a call: print it, or read its fields."""

    function: str
    traces: int
    instructions: int
    rows: int
    guards: int
    arena_bytes: int
    replays: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.function}: {self.traces} trace{'s' * (self.traces != 1)} kept",
            f"instructions  {self.instructions} recorded, {self.rows} rows to run",
            f"arena         {self.arena_bytes:,} bytes",
            f"guards        {self.guards}",
        ]
        if self.replays:
            lines.append("replayed      yes")
        else:
            lines.append("replayed      no, traced again at every call, because a number leaves the tape:")
            lines += [f"  {reason}" for reason in self.reasons]
        return "\n".join(lines)


def explain(vg: Any, *args: Any, **kwargs: Any) -> Explanation:
    """Account for a call of a differentiated function: traces, instructions, bytes, guards, and what stops a replay.

    Calls vg on the arguments, if there are any; else tells of the last call. Raises TypeError for anything that
    `grad` or `value_and_grad` has not made, or that was never called.

    >>> import numpy as np, tapead
    >>> vg = tapead.value_and_grad(lambda x: np.sum(x * x))
    >>> tapead.explain(vg, np.ones(3)).replays
    True
    """
    if not isinstance(vg, Differentiated):
        raise TapeadTypeError(f"explain takes what grad or value_and_grad made, not {type(vg).__name__}")
    if args or kwargs:
        vg(*args, **kwargs)
    trace = vg.last
    if trace is None:
        raise TapeadTypeError(f"{vg!r} was not called yet: give explain its arguments")
    program = trace.program
    reasons = tuple(f"{what} at {describe(place)}" for what, place in dict.fromkeys(trace.volatile))
    return Explanation(
        function=repr(vg),
        traces=vg.traces_kept,
        instructions=program.instructions,
        rows=len(program.names),
        guards=len(trace.guards),
        arena_bytes=program.arena_bytes,
        replays=not trace.volatile,
        reasons=reasons,
    )
