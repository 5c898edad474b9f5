"""What a differentiated function does: the accounts that `explain` and `profile` give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .api import Differentiated
from .errors import TapeadTypeError
from .finite import watching
from .markup import table
from .order import REVERSE, TURN
from .profiling import Profile
from .replayed import Replayed
from .tape import describe


@dataclass(frozen=True)
class Explanation:
    """An account of a call: print it, or read its fields.

    `instructions` were recorded, `needed` of them are left after the passes. `own_bytes` is what all values and adjoints
    would take with memory of their own (inputs and their gradients included), `arena_bytes` what they do take: large
    inputs are read, and their gradients written, where the caller has them.
    """

    function: str
    traces: int
    instructions: int
    needed: int
    rows: int
    blocks: int
    turned: int
    guards: int
    own_bytes: int
    arena_bytes: int
    replays: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self._title(), *(f"{name:<14}{account}" for name, account in self._accounts())]
        return "\n".join(lines + [f"  {reason}" for reason in self.reasons])

    def _repr_html_(self) -> str:
        return table(self._title(), (), self._accounts() + [("", reason) for reason in self.reasons])

    def _title(self) -> str:
        return f"{self.function}: {self.traces} trace{'s' * (self.traces != 1)} kept"

    def _accounts(self) -> list[tuple[str, str]]:
        no = "no, traced again at every call, because a number leaves the tape:"
        return [
            ("instructions", f"{self.instructions:,} recorded, {self.needed:,} after the passes"),
            ("rows", f"{self.rows:,} to run; {self.blocks:,} blocks, {self.turned:,} of them both sweeps at a stroke"),
            ("arena", f"{self.arena_bytes:,} bytes; {self.own_bytes:,} if nothing shared memory"),
            ("guards", f"{self.guards:,}"),
            ("replayed", "yes" if self.replays else no),
        ]


def explain(vg: Any, *args: Any, **kwargs: Any) -> Explanation:
    """Account for a call of a differentiated function, or of another transform's: traces, instructions, bytes, guards, and what stops a replay.

    Calls vg on the arguments, if there are any; else tells of the last call. Raises TypeError for anything that
    `grad` or another transform has not made, or that was never called.

    >>> import numpy as np, tapead
    >>> vg = tapead.value_and_grad(lambda x: np.sum(x * x))
    >>> tapead.explain(vg, np.ones(3)).replays
    True
    """
    if not isinstance(vg, Differentiated | Replayed):
        raise TapeadTypeError(f"explain takes what grad or another transform made, not {type(vg).__name__}")
    if args or kwargs:
        if watching():
            raise TapeadTypeError("explain accounts for replays: it cannot call a function while debug_nans is on")
        vg(*args, **kwargs)
    trace = vg.last
    if trace is None:
        raise TapeadTypeError(f"{vg!r} was not called yet: give explain its arguments")
    program = trace.program
    plan = program.plan
    blocks = [kind for kind in plan.blocks if kind != REVERSE]
    reasons = tuple(f"{what} at {describe(place)}" for what, place in dict.fromkeys(trace.volatile))
    return Explanation(
        function=repr(vg),
        traces=vg.traces_kept,
        instructions=program.instructions,
        needed=plan.needed,
        rows=len(plan.rows),
        blocks=len(blocks),
        turned=blocks.count(TURN),
        guards=len(trace.guards),
        own_bytes=program.own_bytes,
        arena_bytes=program.arena_bytes,
        replays=not trace.volatile,
        reasons=reasons,
    )


def profile(vg: Any, *args: Any, **kwargs: Any) -> Profile:
    """Time a call of a differentiated function, row by row of both sweeps, with the lines of the user's code behind each.

    Calls vg on the arguments first, then runs the sweeps and the call again and again for a fifth of a second, and
    gives medians. A row is timed within whole sweeps, by reading the clock before and after it: some 20 to 50 ns, which
    are measured and taken off, but which also keep a row from overlapping with the next. So the rows together differ a
    little from `sweeps`, the time of the same without clocks in between; for rows that take less than 100 ns or so,
    trust that. What a call takes beyond its sweeps is `around`.

    Raises TypeError for anything that `grad` or another transform has not made, NotImplementedError on systems without
    clock_gettime (Windows).

    >>> import numpy as np, tapead
    >>> vg = tapead.value_and_grad(lambda x: np.sum(np.sin(x) * x))
    >>> [row.what for row in tapead.profile(vg, np.ones(30)).rows]
    ['zero small adjoints, seed', 'block of 3: sin, multiply, sum']
    """
    if not isinstance(vg, Differentiated | Replayed):
        raise TapeadTypeError(f"profile takes what grad or another transform made, not {type(vg).__name__}")
    return vg.profile(*args, **kwargs)
