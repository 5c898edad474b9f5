"""Activity: what has to be computed of a tape, and which storages a derivative flows through: these have adjoints."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .blocks import carriers
from .kernels.constants import F4, F8
from .tape import CONSTANT, WRITES, Wengert


class Activity:
    """Finds what is `needed` of a tape for outputs, one of which (target) may be differentiated by inputs (wrt).

    All of them are storages. dead tells to leave out the instructions on which nothing depends.
    """

    def __init__(
        self, tape: Wengert, outputs: Collection[int], target: int | None, wrt: Sequence[int], dead: bool
    ) -> None:
        self.tape, of = tape, tape.storage_of
        #: the storages that each instruction reads, and those that it writes
        self.reads = [[of[b] for b in operands] for operands in tape.operand_buffers]
        self.writes = [[of[b] for b in results] for results in tape.result_buffers]
        #: the storages that a derivative flows to in an instruction's reverse sweep, if they have adjoints
        self.carried = [
            read if len(open_ := carriers(op)) == len(read) else [read[i] for i in open_]
            for op, read in zip(tape.ops, self.reads, strict=True)
        ]
        whole = {s for s, x in enumerate(tape.storages) if x.number not in (F8, F4) and x.kind is not CONSTANT}
        if whole:
            self.carried = [[s for s in sources if s not in whole] for sources in self.carried]
        self.needed, self.used = self._find_needed(outputs, dead)
        self.adjoints = self._find_adjoints(target, wrt)

    def _find_needed(self, outputs: Collection[int], dead: bool) -> tuple[list[int], set[int]]:
        """Give the instructions that outputs or guards depend on, in order, and their storages."""
        reads, writes, ops = self.reads, self.writes, self.tape.ops
        wanted = set(outputs)
        kept = []
        for k in range(len(ops) - 1, -1, -1):
            made = writes[k]
            if len(made) != 1 or made[0] not in wanted:
                if made and dead and wanted.isdisjoint(made) and ops[k].name != "nonzero":
                    continue
                wanted.update(made)
            kept.append(k)
            wanted.update(reads[k])
        return kept[::-1], wanted

    def _find_adjoints(self, target: int | None, wrt: Sequence[int]) -> set[int]:
        """Give the storages that have an adjoint: reached from what is differentiated by, and reaching the target."""
        if target is None:
            return set(wrt)
        tape, writes, carried = self.tape, self.writes, self.carried
        # more than one round only where memory is written to after it was read
        rewrites = bool(tape.find(WRITES, self.needed))
        reached = set(wrt)
        changed = True
        while changed:
            before = len(reached)
            active = []
            for k in self.needed:
                if not reached.isdisjoint(carried[k]):
                    active.append(k)
                    reached.update(writes[k])
            changed = rewrites and len(reached) != before
        leading = {target} & reached
        changed = True
        while changed:
            before = len(leading)
            for k in reversed(active):
                if not leading.isdisjoint(writes[k]):
                    leading.update(reached.intersection(carried[k]))
            changed = rewrites and len(leading) != before
        return leading | set(wrt)
