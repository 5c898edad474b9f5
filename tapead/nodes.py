"""The computational graph of a tape: a node for each value that has a name of its own, v1, v2, ... as in a textbook.

A tape knows buffers; a reader wants names. Inputs and results of instructions are nodes, so are views, what an array
holds after an assignment (a new node each time), and arrays that several values were joined to. Numbers that are written
in the code stand in the formulas themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from .formulas import formula, number_text
from .kernels.table import OPS, Elementwise
from .switches import collector_paused
from .tape import CONSTANT, INPUT, WRITES, Buffer, Place, Wengert, line_text
from .views import fits, shaped_text, view_text

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
    write: Callable[[], str]  # writes the formula
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

    @cached_property
    def formula(self) -> str:
        """How the node is computed, in the names of its operands; empty for inputs and constants."""
        return self.write()

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
        self.all: list[Node] = []
        #: instruction -> the nodes of its operands
        self.operands: list[tuple[int, ...]] = []
        #: instruction -> the nodes that it makes: those of its first result, and of others that somebody reads
        self.made: list[list[int]] = []
        self._unread: dict[int, tuple[int, int]] = {}  # storage of a further result -> instruction, part
        self._of_place: dict[int, dict[Stretch, int]] = {}  # storage -> place in it -> node, until it is assigned to
        self._holds: dict[int, int] = {}  # storage -> the node of all that it holds now
        with collector_paused():
            self._make()

    def _make(self) -> None:
        tape = self.tape
        self._joins = self._find_joins()
        self._places = [_stretch(b) for b in tape.buffers]
        self._buffers_of: dict[int, list[int]] = {}
        for b, s in enumerate(tape.storage_of):
            self._buffers_of.setdefault(s, []).append(b)
        self._shown = self._find_shown()
        for b, s in enumerate(tape.storage_of):
            if tape.storages[s].kind == INPUT and s not in self._holds:
                self._enter(INPUT, INPUT, str, b, label=self.labels.get(s, ""))
        for k in range(len(tape)):
            self._instruction(k)

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, index: int) -> Node:
        return self.all[index]

    def node_of(self, buffer: int) -> int:
        """Give the node of a buffer as of the end of the tape; -1 for a number of the code."""
        return self._node(buffer)

    def texts(self, k: int) -> list[str]:
        """Give what stands for an instruction's operands in formulas."""
        return [self._text(k, i) for i in range(len(self.operands[k]))]

    def _text(self, k: int, i: int) -> str:
        tape, n = self.tape, self.operands[k][i]
        buffer = tape.operand_buffers[k][i]
        b = tape.buffers[buffer]
        if n < 0:
            return number_text(tape.storages[tape.storage_of[buffer]].data.reshape(-1)[0].item())
        node, op = self.all[n], tape.ops[k]
        if node.shape == b.shape:
            return node.name
        if (isinstance(op, Elementwise) or op.name in WRITES) and fits(node.shape, b.shape):
            return node.name
        # a vector that a matrix product takes has an axis more on the tape
        if op.name == "matmul" and len(node.shape) == 1 and b.shape == (1, *node.shape, 1)[i : i + 2]:
            return node.name
        return shaped_text(node.name, node.shape, b.shape)

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
                joins.setdefault(tape.storage_of[results[0]], []).append(k)
        return joins

    def _find_shown(self) -> dict[tuple[int, Stretch], Buffer]:
        """Find in which shape to show what stands at one place in several, which differ by axes of one element.

        It is the first one; but a reduction keeps its axes on the tape, and seldom in the eyes of the user.
        """
        tape = self.tape
        stands = list(zip(tape.storage_of, self._places, strict=True))
        doubtful = {place for b, place in zip(tape.buffers, stands, strict=True) if 1 in b.shape}
        inner = {b for results in tape.result_buffers for b in results}
        inner -= {b for operands in tape.operand_buffers for b in operands}
        shown: dict[tuple[int, Stretch], Buffer] = {}
        for seen in (False, True):
            for b, (buffer, place) in enumerate(zip(tape.buffers, stands, strict=True)):
                if (b in inner) is seen and place in doubtful:
                    shown.setdefault(place, buffer)
        return shown

    def _enter(self, kind: str, op: str, write: Callable[[], str], buffer: int, **more: Any) -> int:
        b, s, place = self.tape.buffers[buffer], self.tape.storage_of[buffer], self._places[buffer]
        shape = self._shown.get((s, place), b).shape
        node = Node(len(self.all), kind, op, write, shape, _dtype_name(b.dtype), s, buffer, **more)
        self.all.append(node)
        if kind not in (VIEW, GUARD):
            self._holds[s] = node.index
        self._of_place.setdefault(s, {})[place] = node.index
        return node.index

    def _node(self, buffer: int) -> int:
        """Give the node of a buffer, which is entered if it is met for the first time."""
        tape = self.tape
        s, place = tape.storage_of[buffer], self._places[buffer]
        found = self._of_place.get(s, {}).get(place)
        if found is not None:
            return found
        storage = tape.storages[s]
        if storage.kind == CONSTANT and storage.size == 1:
            return -1
        if s in self._unread:
            k, part = self._unread.pop(s)
            self._result(k, part, tape.result_buffers[k][part])
            return self._node(buffer)
        if s not in self._holds:
            kind = CONSTANT if storage.kind == CONSTANT else JOIN
            self._enter_whole(kind, kind, str, s)
            return self._node(buffer)
        base, shown = self.all[self._holds[s]], self._shown.get((s, place), tape.buffers[buffer])
        return self._enter(VIEW, VIEW, lambda: view_text(base.name, base.shape, shown), buffer, operands=(base.index,))

    def _enter_whole(self, kind: str, op: str, write: Callable[[], str], s: int, **more: Any) -> int:
        """Enter a node for all of a storage, flat where the tape has no buffer of all of it."""
        tape, of = self.tape, self._buffers_of[s]
        whole = next((b for b in of if tape.is_whole(b)), None)
        if whole is not None:
            return self._enter(kind, op, write, whole, **more)
        made = self._enter(kind, op, write, of[0], **more)
        self._of_place[s].pop(self._places[of[0]])
        self.all[made].shape = (tape.storages[s].size,)
        return made

    def _instruction(self, k: int) -> None:
        tape = self.tape
        op, operands, results = tape.ops[k], tape.operand_buffers[k], tape.result_buffers[k]
        self.made.append([])
        if k in self.skipped:
            self.operands.append((-1,) * len(operands))
            return
        nodes = tuple([self._node(b) for b in operands])
        self.operands.append(nodes)
        if not results or op.name == "guard":
            self._guard(k)
            return
        storage = tape.storage_of[results[0]]
        if op.name in WRITES:
            self._write(k, storage)
        elif storage in self._joins:
            self._join(k, storage)
        else:
            self._result(k, 0, results[0])
            for part, result in enumerate(results[1:], 1):
                self._unread[tape.storage_of[result]] = k, part

    def _sources(self, k: int) -> tuple[int, ...]:
        return tuple([n for n in self.operands[k] if n >= 0])

    def _guard(self, k: int) -> None:
        tape = self.tape
        expected = (tape.parameters[k] or {}).get("expected")
        what = "what it was" if expected is None else bool(expected)
        made = Node(
            len(self.all),
            GUARD,
            tape.ops[k].name,
            lambda: f"{self.texts(k)[0]} is {what}",
            (),
            "bool",
            -1,
            -1,
            self._sources(k),
            (k,),
            place=tape.places[k],
        )
        self.all.append(made)
        self.made[k] = [made.index]

    def _result(self, k: int, part: int, buffer: int) -> None:
        tape = self.tape

        def write() -> str:
            result, operand = tape.buffers[tape.result_buffers[k][0]], tape.buffers[tape.operand_buffers[k][0]]
            text = formula(tape.ops[k], self.texts(k), tape.parameters[k], result, operand)
            return f"result {part + 1} of {text}" if part else text

        more = {"operands": self._sources(k), "instructions": (k,), "place": tape.places[k], "part": part}
        self.made[k].append(self._enter(OPERATION, tape.ops[k].name, write, buffer, **more))

    def _write(self, k: int, storage: int) -> None:
        """Enter what an array holds after an assignment: a new node, whose views are new ones, too."""
        tape = self.tape
        target = tape.result_buffers[k][0]
        if storage not in self._holds:
            self._node(target)
        base, shown = self.all[self._holds[storage]], tape.buffers[target]

        def write() -> str:
            where, texts = view_text(base.name, base.shape, shown), self.texts(k)
            index = f"[{', '.join(texts[1:])}]" if texts[1:] else ""
            return f"{base.name} with {where}{index} = {texts[0]}"

        self._of_place[storage] = {}
        more = {"operands": (base.index, *self._sources(k)), "instructions": (k,), "place": tape.places[k]}
        self.made[k] = [self._enter(WRITE, tape.ops[k].name, write, base.buffer, **more)]

    def _join(self, k: int, storage: int) -> None:
        """Enter the array that parts are joined to, when the last of them is written."""
        parts = self._joins[storage]
        if k != parts[-1] or storage in self._holds:
            return

        def write() -> str:
            texts = [self.texts(p)[0] for p in parts]
            shown = [*texts[:3], "...", texts[-1]] if len(texts) > 5 else texts
            return f"join({', '.join(shown)})"

        sources = tuple(n for p in parts for n in self._sources(p))
        more = {"operands": sources, "instructions": tuple(parts), "place": self.tape.places[k]}
        made = self._enter_whole(JOIN, JOIN, write, storage, **more)
        for p in parts:
            self.made[p] = [made]


_dtype_name = cache(lambda dtype: str(dtype.name))
_POINT: Stretch = (0, (), ())


def _stretch(b: Buffer) -> Stretch:
    if not b.shape and not b.offset:
        return _POINT
    kept = [(dim, step) for dim, step in zip(b.shape, b.strides, strict=True) if dim != 1]
    return b.offset, tuple(dim for dim, _ in kept), tuple(step for _, step in kept)
