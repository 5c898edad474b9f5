"""Folding: which stretches of a long graph can be left out because they repeat what is shown, or because it is too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .nodes import OPERATION, VIEW, Node
from .tape import CONSTANT, INPUT

#: repetitions that are shown at the beginning of a stretch of them; the last one is shown, too
SHOWN = 2
#: nodes in what is looked for as a repetition, at most
LONGEST = 200
#: a stretch of fewer nodes than this is not left out
LEAST = 4
#: operands of a node that may come from where they like; a node with more of them must have them in the same places
FEW = 4


@dataclass(frozen=True)
class Stretch:
    """Nodes that are left out, from start to stop: so many times what stands before, or (0 times) just left out."""

    start: int
    stop: int
    times: int = 0

    @property
    def period(self) -> int:
        """The number of nodes in what is repeated."""
        return (self.stop - self.start) // max(self.times, 1)


def fold(nodes: Sequence[Node], limit: int | None) -> list[Stretch]:
    """Give the stretches to leave out, so that at most about `limit` nodes are shown."""
    if limit is None or len(nodes) <= limit:
        return []
    found = _repetitions(nodes)
    shown = len(nodes) - sum(s.stop - s.start - 1 for s in found)
    if shown <= limit:
        return found
    first, last = _head(found, limit - limit // 3), len(nodes) - _head(_mirrored(found, len(nodes)), limit // 3)
    kept = [s for s in found if s.stop <= first or s.start >= last]
    return sorted([*kept, Stretch(first, last)], key=lambda s: s.start)


def told(stretch: Stretch, nodes: Sequence[Node]) -> str:
    """Say what is left out."""
    some = nodes[stretch.start : stretch.start + stretch.period]
    count = len({k for node in some for k in node.instructions})
    if stretch.times and count:
        what = "instruction" if count == 1 else f"{count:,} instructions"
        return f"… {stretch.times:,} times the same {what}"
    kinds = {node.kind for node in some}
    if not count:
        names = {INPUT: "inputs", CONSTANT: "constants", VIEW: "views"}
        return f"… {stretch.stop - stretch.start:,} more {names[kinds.pop()] if len(kinds) == 1 else 'nodes'}"
    return f"… {count:,} instruction{'s' * (count != 1)} left out"


def _head(stretches: Sequence[Stretch], count: int) -> int:
    """Give how many nodes from the beginning it takes to fill `count` places, stretches taking one each."""
    at = 0
    for s in stretches:
        if count <= s.start - at:
            break
        count -= s.start - at + 1
        at = s.stop
    return at + max(count, 0)


def _mirrored(stretches: Sequence[Stretch], count: int) -> list[Stretch]:
    return [Stretch(count - s.stop, count - s.start) for s in reversed(stretches)]


def _repetitions(nodes: Sequence[Node]) -> list[Stretch]:
    """Find what is repeated: from left to right, what covers most, with the shortest period that does."""
    count = len(nodes)
    kinds, operands, leaf = _columns(nodes)
    covered, periods = np.zeros(count, np.int64), np.ones(count, np.int64)
    for period in range(1, min(LONGEST, count // (SHOWN + 2)) + 1):
        same = kinds[period:] == kinds[:-period]
        if np.count_nonzero(same) < period * (SHOWN + 1):
            continue
        for now, later in zip(operands[:, :-period], operands[:, period:], strict=True):
            step = later - now
            same &= (step == period) | (step == 0) | (leaf[now] & leaf[later])
        ends = np.where(same, count, np.arange(count - period))  # the next node that is not repeated
        length = np.minimum(np.minimum.accumulate(ends[::-1])[::-1], count - period) - np.arange(count - period)
        times = length // period + 1
        cover = np.where(times > SHOWN + 1, times * period, 0)
        better = cover > covered[:-period]
        covered[:-period][better], periods[:-period][better] = cover[better], period
    found, at = [], 0
    while at < count:
        span, step = int(covered[at]), int(periods[at])
        left = span // step - SHOWN - 1
        if left * step >= LEAST:
            found.append(Stretch(at + SHOWN * step, at + span - step, left))
            at += span
        else:
            at += 1
    return found


def _columns(nodes: Sequence[Node]) -> tuple[Any, Any, Any]:
    """Give numbers for what nodes are, their first operands (a row each), and whether they are inputs or constants."""
    known: dict[Any, int] = {}
    kinds = np.empty(len(nodes), np.int64)
    operands = np.tile(np.arange(len(nodes)), (FEW, 1))
    for i, node in enumerate(nodes):
        far = tuple(i - o for o in node.operands) if len(node.operands) > FEW else len(node.operands)
        op = (node.op, node.part) if node.kind == OPERATION else node.op
        kinds[i] = known.setdefault((node.kind, op, node.shape, node.dtype, far), len(known))
        for row, o in enumerate(node.operands[:FEW]):
            operands[row, i] = o
    leaf = np.array([node.kind in (INPUT, CONSTANT) for node in nodes], bool)
    return kinds, operands, leaf
