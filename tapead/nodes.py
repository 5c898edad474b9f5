"""The computational graph of a tape: a node for each value that has a name of its own, v1, v2, ... as in a textbook.

A tape knows buffers; a reader wants names. Inputs and results of instructions are nodes, so are views, what an array
holds after an assignment (a new node each time), and arrays that several values were joined to. Numbers that are written
in the code stand in the formulas themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .formulas import formula, number_text, place_text
from .grouping import WRITES
from .kernels.table import OPS
from .tape import CONSTANT, INPUT, Buffer, Place, Wengert, line_text

OPERATION, VIEW, WRITE, JOIN, GUARD = "op", "view", "write", "join", "guard"

COPY = OPS["copy"]

#: rows that a table in a notebook shows at the most
ROWS_SHOWN = 100

#: where in its storage a buffer is: offset, shape and strides, without axes of one element
Stretch = tuple[int, tuple[int, ...], tuple[int, ...]]


@dataclass
class Node:
    """A node: what it is, what it is computed from, and how that reads.

    kind is "input", "constant", "op", "view", "write" (what an array holds after an assignment), "join" (an array whose
    parts were written one by one), or "guard". operands are the places, among the nodes, of what it is computed from; of
    a view, and of a write first of all, that is the array seen or changed. instructions are those of the tape behind it.
    `part` tells the results of one instruction apart.
    """

    index: int
    kind: str
    op: str
    formula: str
    shape: tuple[int, ...]
    dtype: str
    storage: int
    buffer: int
    operands: tuple[int, ...] = ()
    instructions: tuple[int, ...] = ()
    part: int = 0
    place: Place | None = None
    label: str = ""  # what the user calls it: the name of an argument

    @property
    def name(self) -> str:
        """The node's name in formulas."""
        return f"v{self.index + 1}"

    @property
    def type(self) -> str:
        """The dtype, and the shape if it is no number."""
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]" if self.shape else self.dtype


@dataclass
class Nodes:
    """The nodes of a tape in order, and for each instruction which nodes its operands are.

    labels name storages of inputs as the user does. An operand that is a number of the code has no node (-1), nor has an
    instruction that is skipped.
    """

    tape: Wengert
    labels: Mapping[int, str] = field(default_factory=dict)
    skipped: Collection[int] = ()

    def __post_init__(self) -> None:
        tape = self.tape
        self.all: list[Node] = []
        #: instruction -> the nodes of its operands
        self.operands: list[tuple[int, ...]] = []
        #: instruction -> the nodes that it makes: those of its first result, and of others that somebody reads
        self.made: list[list[int]] = []
        self._unread: dict[int, tuple[int, int, str]] = {}  # storage of a further result -> instruction, part, formula
        self._of_place: dict[int, dict[Stretch, int]] = {}  # storage -> place in it -> node, until it is assigned to
        self._holds: dict[int, int] = {}  # storage -> the node of all that it holds now
        self._joins = self._find_joins()
        for b, buffer in enumerate(tape.buffers):
            if tape.storages[buffer.storage].kind == INPUT and buffer.storage not in self._holds:
                self._enter(INPUT, INPUT, "", b, label=self.labels.get(buffer.storage, ""))
        for k in range(len(tape)):
            self._instruction(k)
        for b, buffer in enumerate(tape.buffers):  # results in the shapes that the user sees
            if _stretch(buffer) in self._of_place.get(buffer.storage, ()):
                self._node(b)

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, index: int) -> Node:
        return self.all[index]

    def node_of(self, buffer: int) -> int:
        """Give the node of a buffer as of the end of the tape; -1 for a number of the code."""
        return self._node(buffer)

    def text(self, buffer: int, node: int) -> str:
        """Give what stands for an operand in a formula."""
        if node >= 0:
            return self.all[node].name
        return number_text(self.tape.storages[self.tape.buffers[buffer].storage].data.reshape(-1)[0].item())

    def listing(self) -> str:
        """List the nodes, one a line: `v3 = log(v1)  float64[2]`."""
        return "\n".join(
            " = ".join(part for part in (name, text) if part) + f"  {kind}" for name, text, kind, _ in self.cells(None)
        )

    def cells(self, limit: int | None = ROWS_SHOWN) -> list[tuple[str, str, str, str]]:
        """Give name, formula, type and line of each node; beginning and end of many."""
        shown = self.all if limit is None or len(self) <= limit else [*self.all[: limit // 2], *self.all[-limit // 2 :]]
        cells = []
        for node in shown:
            line = "" if node.place is None else line_text(node.place)
            text = node.label or node.formula or node.kind
            cells.append(
                ("" if node.kind == GUARD else node.name, text, "guard" if node.kind == GUARD else node.type, line)
            )
        if len(shown) < len(self):
            cells.insert(len(shown) // 2, ("", f"... {len(self) - len(shown):,} more ...", "", ""))
        return cells

    # ---- making ------------------------------------------------------------------------------------------------------

    def _find_joins(self) -> dict[int, list[int]]:
        """Find the arrays whose parts are written one by one: storage -> those instructions."""
        tape, joins = self.tape, {}  # type: ignore[var-annotated]
        for k, (op, results) in enumerate(zip(tape.ops, tape.result_buffers, strict=True)):
            if op is COPY and not tape.is_whole(results[0]):
                joins.setdefault(tape.buffers[results[0]].storage, []).append(k)
        return joins

    def _enter(self, kind: str, op: str, text: str, buffer: int, **more: Any) -> int:
        tape = self.tape
        b = tape.buffers[buffer]
        node = Node(len(self.all), kind, op, text, b.shape, b.dtype.name, b.storage, buffer, **more)
        self.all.append(node)
        if kind not in (VIEW, GUARD):
            self._holds[b.storage] = node.index
        self._of_place.setdefault(b.storage, {})[_stretch(b)] = node.index
        return node.index

    def _node(self, buffer: int) -> int:
        """Give the node of a buffer, which is entered if it is met for the first time."""
        tape = self.tape
        b = tape.buffers[buffer]
        found = self._of_place.get(b.storage, {}).get(_stretch(b))
        if found is not None:
            node = self.all[found]
            if len(b.shape) < len(node.shape) and node.kind in (OPERATION, JOIN):
                node.shape = b.shape  # a reduction keeps its axes on the tape, but not in the eyes of the user
            return found
        storage = tape.storages[b.storage]
        if storage.kind == CONSTANT and storage.size == 1:
            return -1
        if b.storage in self._unread:
            k, part, text = self._unread.pop(b.storage)
            return self._result(k, part, text, tape.result_buffers[k][part])
        if b.storage not in self._holds:
            kind = CONSTANT if storage.kind == CONSTANT else JOIN
            return self._enter(kind, kind, "", buffer)
        base = self.all[self._holds[b.storage]]
        text = place_text(base.name, tape.buffers[base.buffer], b)
        return self._enter(VIEW, VIEW, text, buffer, operands=(base.index,))

    def _instruction(self, k: int) -> None:
        tape = self.tape
        op, operands, results = tape.ops[k], tape.operand_buffers[k], tape.result_buffers[k]
        if k in self.skipped:
            self.operands.append((-1,) * len(operands))
            self.made.append([])
            return
        nodes = tuple(self._node(b) for b in operands)
        self.operands.append(nodes)
        self.made.append([])
        sources = tuple(n for n in nodes if n >= 0)
        texts = [self.text(b, n) for b, n in zip(operands, nodes, strict=True)]
        place = tape.places[k]
        if not results or op.name == "guard":
            expected = (tape.parameters[k] or {}).get("expected")
            text = f"{texts[0]} is what it was" if expected is None else f"{texts[0]} is {bool(expected)}"
            shown = Node(len(self.all), GUARD, op.name, text, (), "bool", -1, -1, sources, (k,), place=place)
            self.all.append(shown)
            self.made[k] = [shown.index]
            return
        storage = tape.buffers[results[0]].storage
        if op.name in WRITES:
            self._write(k, storage, sources, texts)
        elif storage in self._joins:
            self._join(k, storage)
        else:
            text = formula(op, texts, tape.parameters[k], tape.buffers[results[0]], tape.buffers[operands[0]])
            self._result(k, 0, text, results[0])
            for part, result in enumerate(results[1:], 1):
                self._unread[tape.buffers[result].storage] = k, part, text

    def _result(self, k: int, part: int, text: str, buffer: int) -> int:
        sources = tuple(n for n in self.operands[k] if n >= 0)
        more = {"operands": sources, "instructions": (k,), "place": self.tape.places[k], "part": part}
        made = self._enter(
            OPERATION, self.tape.ops[k].name, f"result {part + 1} of {text}" if part else text, buffer, **more
        )
        self.made[k].append(made)
        return made

    def _write(self, k: int, storage: int, sources: tuple[int, ...], texts: list[str]) -> None:
        """Enter what an array holds after an assignment: a new node, whose views are new ones, too."""
        tape = self.tape
        target = tape.result_buffers[k][0]
        if storage not in self._holds:
            self._node(target)
        base = self.all[self._holds[storage]]
        where = place_text(base.name, tape.buffers[base.buffer], tape.buffers[target])
        index = f"[{', '.join(texts[1:])}]" if texts[1:] else ""
        self._of_place[storage] = {}
        made = self._enter(
            WRITE,
            tape.ops[k].name,
            f"{base.name} with {where}{index} = {texts[0]}",
            base.buffer,
            operands=(base.index, *sources),
            instructions=(k,),
            place=tape.places[k],
        )
        self.made[k] = [made]

    def _join(self, k: int, storage: int) -> None:
        """Enter the array that parts are joined to, when the last of them is written."""
        tape, parts = self.tape, self._joins[storage]
        if k != parts[-1] or storage in self._holds:
            return
        size = tape.storages[storage].size
        first = tape.result_buffers[k][0]
        whole = next((b for b, x in enumerate(tape.buffers) if x.storage == storage and tape.is_whole(b)), None)
        nodes = [self.operands[p][0] for p in parts]
        texts = [self.text(tape.operand_buffers[p][0], n) for p, n in zip(parts, nodes, strict=True)]
        shown = [*texts[:3], "...", texts[-1]] if len(texts) > 5 else texts
        made = self._enter(
            JOIN,
            JOIN,
            f"join({', '.join(shown)})",
            first if whole is None else whole,
            operands=tuple(n for n in nodes if n >= 0),
            instructions=tuple(parts),
            place=tape.places[k],
        )
        if whole is None:
            self.all[made].shape = (size,)
        for p in parts:
            self.made[p] = [made]


def _stretch(b: Buffer) -> Stretch:
    kept = [(dim, step) for dim, step in zip(b.shape, b.strides, strict=True) if dim != 1]
    return b.offset, tuple(dim for dim, _ in kept), tuple(step for _, step in kept)
