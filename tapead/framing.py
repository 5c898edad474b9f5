"""The graph of a planned tape: rows of several instructions as frames around them, their times as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import TapeadValueError
from .graph import Graph, Group, graph_of
from .markup import time_text
from .nodes import Nodes
from .order import REVERSE, TURN
from .plan import Plan
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
    spent: dict[tuple[int, ...], float] = {}  # instructions that run together -> seconds, both sweeps
    titles: dict[tuple[int, ...], str] = {}
    for r, (row, kind, instructions) in enumerate(zip(plan.rows, plan.kinds, plan.instructions, strict=True)):
        together = tuple(sorted(new[k] for k in instructions))
        spent[together] = spent.get(together, 0.0) + (seconds[r] if seconds is not None else 0.0)
        if len(together) > 1 and (together not in titles or kind != REVERSE):
            titles[together] = _title(row[0], row[1], kind, len(together))
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


def _title(group: str, direction: str, kind: str, count: int) -> str:
    if group.startswith("scalars"):
        return f"scalar run of {count:,}"
    if direction == "strips":
        return f"{count:,} in strips, both sweeps at a stroke"
    return f"block of {count:,}{', both sweeps at a stroke' if kind == TURN else ''}"
