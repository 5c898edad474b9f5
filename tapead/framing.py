"""The graph of a planned tape: rows of several instructions as frames around them, their times as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import TapeadValueError
from .graph import Graph, Group, graph_of
from .markup import time_text
from .nodes import Nodes
from .order import REVERSE, TURN
from .plan import Plan
from .strips import Row
from .tape import NODES_SHOWN, Wengert


def graph_of_plan(
    plan: Plan,
    tape: Wengert,
    outputs: Sequence[int],
    labels: Mapping[int, str],
    seconds: Sequence[float] | None = None,
    limit: int | None = NODES_SHOWN,
) -> Graph:
    """Make the graph of what is left of a tape in its plan; outputs are buffers, labels name storages, seconds are the rows'."""
    if seconds is not None and len(seconds) != len(plan.rows):
        raise TapeadValueError(f"seconds must be one for each of the {len(plan.rows)} rows, not {len(seconds)}")
    kept = sorted({k for instructions in plan.instructions for k in instructions})
    new = {k: i for i, k in enumerate(kept)}
    nodes = Nodes(tape.part(kept), labels)
    results = [nodes.node_of(b) for b in outputs]
    frames: dict[int, set[int]] = {}  # instruction -> all that it runs together with, in one sweep or the other
    for instructions in plan.instructions:
        frame = set(instructions).union(*(frames[k] for k in instructions if k in frames))
        frames.update(dict.fromkeys(frame, frame))
    spent: dict[tuple[int, ...], float] = {}  # instructions that run together -> seconds, both sweeps
    titles: dict[tuple[int, ...], str] = {}
    order = sorted(range(len(plan.rows)), key=lambda r: (plan.rows[r][1] == "strips", plan.kinds[r] != REVERSE))
    for r in order:
        together = tuple(sorted(new[k] for k in set().union(*(frames[k] for k in plan.instructions[r]))))
        spent[together] = spent.get(together, 0.0) + (seconds[r] if seconds is not None else 0.0)
        if len(together) > 1:
            titles[together] = _title(plan.rows[r], plan.kinds[r], len(together))
    most, total = max(spent.values(), default=0.0) or 1.0, sum(spent.values()) or 1.0

    def told(time: float) -> str:
        return f"{time_text(time)}, {time / total:.0%}"

    if seconds is None:
        return graph_of(nodes, results, [Group(title, k) for k, title in titles.items()], limit=limit)
    groups = [Group(f"{title}: {told(spent[k])}", k, spent[k] / most) for k, title in titles.items()]
    own: dict[int, float] = {}
    for node in nodes.all:
        times = [spent[k,] for k in node.instructions if (k,) in spent]
        if times and not node.part:
            own[node.index] = sum(times)
    notes = {i: told(time) for i, time in own.items()}
    return graph_of(nodes, results, groups, notes, {i: time / most for i, time in own.items()}, limit)


def _title(row: Row, kind: str, count: int) -> str:
    if row[0].startswith("scalars"):
        return f"scalar run of {count:,}"
    what = f"{count:,} in strips" if row[1] == "strips" else f"block of {count:,}"
    return what + (", both sweeps at a stroke" if kind == TURN else "")
