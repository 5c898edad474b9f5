"""Order: in which order the forward and reverse sweeps of a program's groups run.

In general all groups run forward, then all in reverse from the last to the first. But where the adjoints of a block's
results do not depend on its values (a loss that ends in a sum or a mean), the reverse sweep of all that follows can run
before it: then the block turns, its values and its adjoints are computed at one stroke, tile by tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FORWARD, REVERSE, TURN = "forward", "reverse", "both"


@dataclass(frozen=True)
class Flow:
    """What a group depends on: the groups it runs after, those whose values its reverse sweep reads, those that feed
    its adjoints; whether it has a reverse sweep, and is a block."""

    after: set[int]
    reads: set[int]
    feeds: set[int]
    reverse: bool
    block: bool


def schedule(flows: Sequence[Flow], turns: bool) -> Iterator[tuple[str, int]]:
    """Give what to do with which group, in order."""
    count = len(flows)
    if not turns or not any(flow.block and flow.reverse for flow in flows):
        yield from ((FORWARD, g) for g in range(count))
        yield from ((REVERSE, g) for g in range(count - 1, -1, -1) if flows[g].reverse)
        return
    ancestors: list[int] = []  # sets of groups, as bits
    for g, flow in enumerate(flows):
        bits = 1 << g
        for other in flow.after:
            bits |= ancestors[other]
        ancestors.append(bits)
    read = [0] * count  # all that must have run forward before a group's reverse sweep
    needed = [0] * count  # ... before its adjoints are complete
    later: list[int] = [0] * count  # the groups whose reverse sweeps come before its own
    for g in range(count - 1, -1, -1):
        for other in flows[g].reads:
            read[g] |= ancestors[other]
        for other in flows[g].feeds:
            needed[g] |= read[other] | needed[other]
            later[g] |= 1 << other | later[other]
    done = back = 0

    def forward(wanted: int) -> Iterator[tuple[str, int]]:
        nonlocal done
        for g in _members(wanted & ~done):
            done |= 1 << g
            yield FORWARD, g

    for g in range(count):
        if done >> g & 1:
            continue
        flow = flows[g]
        if not (flow.block and flow.reverse) or back >> g & 1 or needed[g] >> g & 1:
            yield from forward(1 << g)
            continue
        yield from forward(needed[g])
        for other in reversed(list(_members(later[g] & ~back))):
            back |= 1 << other
            if flows[other].reverse:
                yield REVERSE, other
        done |= 1 << g
        back |= 1 << g
        yield TURN, g
    for g in range(count - 1, -1, -1):
        if flows[g].reverse and not back >> g & 1:
            yield REVERSE, g


def _members(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low
