"""Profiling: how long each row of both sweeps takes, and which lines of the user's code are behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import markup
from .errors import TapeadNotImplementedError
from .kernels import library
from .kernels.clock import clock
from .program import Program, Workspace
from .tape import line_text
from .trace import Trace

#: how long to measure, in seconds, and how many rounds at least and at most
SECONDS, FEWEST, MOST = 0.2, 5, 2000
#: a round does each thing again for so many nanoseconds, so that it runs as it does in a loop
WARM = 100_000
#: a workspace's table of no rows: what a sweep of it takes is a read of the clock
NOTHING = np.zeros(24, np.int64)
#: names of a block's ops, and lines of code, that a table shows; rows of a table
NAMES_SHOWN, LINES_SHOWN, ROWS_SHOWN = 6, 4, 60
COLUMNS = ("sweep", "what", "bytes", "time", "share", "place")


@dataclass(frozen=True)
class ProfileRow:
    """A row of a program: its sweep (forward, reverse, or both at a stroke), what it does, and what that takes.

    touched counts the bytes of the arrays that it reads or writes; share is of all rows' seconds; places are the lines
    of code behind it, as "file.py:12".
    """

    kind: str
    what: str
    touched: int
    seconds: float
    share: float
    places: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """Where the time of a call goes: print it, or read its fields. All times are medians, in seconds.

    The rows' times are without the read of the clock (`clock`) in each. `sweeps` is the time of both sweeps when no
    clock is read between the rows, `call` that of a whole call.
    """

    function: str
    rows: tuple[ProfileRow, ...]
    sweeps: float
    call: float
    clock: float
    rounds: int

    @property
    def rows_together(self) -> float:
        """The sum of the rows' times."""
        return sum(row.seconds for row in self.rows)

    @property
    def around(self) -> float:
        """The time of a call that is spent outside of the sweeps."""
        return max(self.call - self.sweeps, 0.0)

    def __str__(self) -> str:
        table = [COLUMNS, *self._cells()]
        widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
        lines = [
            self._title(),
            *(f"{name:<9}{seconds:>9}  {what}".rstrip() for name, seconds, what in self._times()),
            "",
        ]
        for line in table:
            cells = [cell.rjust(widths[i]) if i in (2, 3, 4) else cell.ljust(widths[i]) for i, cell in enumerate(line)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return markup.table(self._title(), (), self._times()) + markup.table("Rows", COLUMNS, self._cells())

    def _title(self) -> str:
        return f"{self.function}: medians of {self.rounds:,} rounds"

    def _times(self) -> list[tuple[str, str, str]]:
        """Name the times of the whole, each with what it is where the name does not say so."""
        return [
            ("call", markup.time_text(self.call), ""),
            ("sweeps", markup.time_text(self.sweeps), ""),
            ("around", markup.time_text(self.around), "reading the arguments, making the results"),
            (
                "rows",
                markup.time_text(self.rows_together),
                f"one by one, each without the {markup.time_text(self.clock)} of its clock",
            ),
        ]

    def _cells(self) -> list[tuple[str, ...]]:
        """Write the dearest rows in their order, and one for all others."""
        dear = sorted(range(len(self.rows)), key=lambda k: -self.rows[k].seconds)[:ROWS_SHOWN]
        cells: list[tuple[str, ...]] = []
        for k in sorted(dear):
            row = self.rows[k]
            place = _joined(row.places)
            cells.append(
                (row.kind, row.what, f"{row.touched:,}", markup.time_text(row.seconds), f"{row.share:.1%}", place)
            )
        if len(dear) < len(self.rows):
            rest = self.rows_together - sum(self.rows[k].seconds for k in dear)
            share = rest / (self.rows_together or 1.0)
            cells.append(
                ("", f"{len(self.rows) - len(dear):,} more rows", "", markup.time_text(rest), f"{share:.1%}", "")
            )
        return cells


def profile_trace(function: str, trace: Trace, leaves: Sequence[Any], call: Callable[[], Any]) -> Profile:
    """Time the rows of a trace on the values of leaves, both sweeps, and the call that does the same."""
    if clock() is None:
        raise TapeadNotImplementedError("profile needs the C function clock_gettime, which this system does not have")
    program = trace.program
    count = max(len(program.plan.rows), 1)
    rows: list[Any] = []
    sweeps: list[float] = []
    calls: list[float] = []
    reads: list[float] = []
    workspace = program.take()
    try:
        bound = [program.bind(workspace, k, leaves[i]) for k, i in enumerate(trace.traced)]
        bound += [program.bind_gradient(workspace, k) for k in range(len(program.wrt))]  # alive until the last sweep
        start = time.perf_counter_ns()
        call()
        repeats = min(max(WARM // (time.perf_counter_ns() - start), 1), 100)
        end = time.perf_counter() + SECONDS
        while len(rows) < FEWEST or (len(rows) < MOST and time.perf_counter() < end):
            # the first round of each finds the other's memory in the cache
            rows.append([_timed(program, workspace, 1) for _ in range(repeats + 1)][-1])
            sweeps.append([_timed(program, workspace, count).sum() for _ in range(repeats)][-1])
            reads.append(_stamped(_address(NOTHING), 0, 1)[1][0])
            call()
            start = time.perf_counter_ns()
            for _ in range(repeats):
                call()
            calls.append((time.perf_counter_ns() - start) / repeats)
    finally:
        program.give_back(workspace)
    read = float(np.median(reads))
    seconds = np.maximum(np.median(rows, axis=0) - read, 0.0) / 1e9
    return Profile(
        function=function,
        rows=_rows(program, seconds),
        sweeps=max(float(np.median(sweeps)) - 2 * read, 0.0) / 1e9,
        call=float(np.median(calls)) / 1e9,
        clock=read / 1e9,
        rounds=len(rows),
    )


def _timed(program: Program, workspace: Workspace, step: int) -> Any:
    """Sweep once; give the nanoseconds that the preparation and every `step` rows took, a read of the clock included."""
    status, times = _stamped(workspace.handle, len(program.plan.rows), step)
    if status:
        program.report(workspace, status)
    return times


def _stamped(table: int, rows: int, step: int) -> tuple[int, Any]:
    stamps = np.zeros((2 + -(-rows // step), 2), np.int64)
    status = library.load("sweeps").sweep_timed(table, _address(clock()), _address(stamps), step)
    return status, np.diff(stamps[:, 0] * 1_000_000_000 + stamps[:, 1])


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _rows(program: Program, seconds: Any) -> tuple[ProfileRow, ...]:
    plan = program.plan
    shares = seconds / (seconds.sum() or 1.0)
    made = [ProfileRow("start", "zero small adjoints, seed", plan.zeros[1] - plan.zeros[0], seconds[0], shares[0], ())]
    for k, instructions in enumerate(plan.instructions):
        names = [program.ops[i].name for i in instructions]
        codes = [program.places[i] for i in instructions]
        lines = {(id(code), at): (code, at) for code, at in codes}.values()  # comparing code objects would be slow
        places = dict.fromkeys(map(line_text, lines))
        made.append(
            ProfileRow(
                kind=plan.kinds[k],
                what=_what(plan.rows[k][0], names),
                touched=plan.touched[k],
                seconds=float(seconds[k + 1]),
                share=float(shares[k + 1]),
                places=tuple(places),
            )
        )
    return tuple(made)


def _what(group: str, names: Sequence[str]) -> str:
    """Say what a row does."""
    if not names:
        return "clear an adjoint"
    if len(names) == 1:
        return names[0]
    if group.startswith("scalars"):
        return f"scalar run of {len(names):,}"
    shown = [*names[: NAMES_SHOWN - 1], "...", names[-1]] if len(names) > NAMES_SHOWN else names
    return f"{'strips' if group == 'sweeps' else 'block'} of {len(names):,}: {', '.join(shown)}"


def _joined(places: Sequence[str]) -> str:
    """Name some lines of code shortly: a file's name once."""
    text, last = "", ""
    for place in places[:LINES_SHOWN]:
        file, _, line = place.rpartition(":")
        text += f", {line}" if file == last else f"{'; ' if text else ''}{place}"
        last = file
    return text + (", ..." if len(places) > LINES_SHOWN else "")
