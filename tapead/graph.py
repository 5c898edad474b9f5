"""The picture of a computational graph: Graphviz DOT and Mermaid always, SVG and PNG where Graphviz is installed."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .drawing import Box, Frame, Picture, dot_text, mermaid_text
from .errors import TapeadGraphvizError, TapeadModuleNotFoundError, TapeadValueError
from .extras import require
from .folding import fold, told
from .nodes import GUARD, VIEW, WRITE, Node, Nodes
from .tape import CONSTANT, INPUT, NODES_SHOWN

#: characters of a formula that a picture shows
LONGEST = 64
#: a graph of more steps from first to last than this is drawn downwards
WIDE = 8
#: dots per inch of a PNG
RESOLUTION = 144


@dataclass(frozen=True)
class Group:
    """Instructions that run together, drawn in a frame: what it says there, and how much it is shaded (0 to 1)."""

    text: str
    instructions: tuple[int, ...]
    shade: float | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """A computational graph, to be drawn: what `tape.graph()` gives; in a notebook it shows itself.

    `dot()` and `mermaid()` give text; `svg()` and `png()` need Graphviz; `save` writes a file of any of these kinds.
    Inputs are blue, constants grey, results green with a double border; dashed lines lead to other views of the same
    memory; diamonds are guards; frames hold instructions that run together.
    """

    nodes: Nodes
    results: tuple[int, ...]
    groups: tuple[Group, ...] = ()
    notes: Mapping[int, str] = field(default_factory=dict)
    shades: Mapping[int, float] = field(default_factory=dict)
    limit: int | None = NODES_SHOWN

    @cached_property
    def picture(self) -> Picture:
        """The boxes, lines and frames."""
        return _drawn(self)

    def dot(self) -> str:
        """Write the graph in DOT, Graphviz's language."""
        return dot_text(self.picture)

    def mermaid(self) -> str:
        """Write the graph as a Mermaid flowchart, which GitHub and many editors draw."""
        return mermaid_text(self.picture)

    def svg(self) -> str:
        """Draw the graph as SVG; needs Graphviz, else raises TapeadGraphvizError or ModuleNotFoundError."""
        return _rendered(self.dot(), "svg").decode()

    def png(self) -> bytes:
        """Draw the graph as PNG; needs Graphviz, else raises TapeadGraphvizError or ModuleNotFoundError."""
        return _rendered(dot_text(self.picture, f"dpi={RESOLUTION}"), "png")

    def save(self, path: Any) -> None:
        """Write the graph to a file: .svg, .png, .dot, .gv or .mmd.

        Raises ValueError for any other suffix, OSError where the file cannot be written, and what `svg` raises.
        """
        makers: dict[str, Callable[[], str | bytes]] = {
            ".svg": self.svg,
            ".png": self.png,
            ".dot": self.dot,
            ".gv": self.dot,
            ".mmd": self.mermaid,
        }
        made = makers.get(Path(path).suffix.lower())
        if made is None:
            raise TapeadValueError(f"cannot tell from {str(path)!r} what to write: it must end in {', '.join(makers)}")
        content = made()
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())

    def __str__(self) -> str:
        return self.dot()

    def __repr__(self) -> str:
        left = len(self.nodes) - sum(box.kind != "left out" for box in self.picture.boxes)
        return f"<graph of {len(self.nodes):,} nodes{f', {left:,} of them left out' if left else ''}>"

    @cached_property
    def _svg(self) -> str | None:
        try:
            return self.svg()
        except (TapeadGraphvizError, TapeadModuleNotFoundError):
            return None

    def _repr_svg_(self) -> str | None:
        return self._svg

    def _repr_html_(self) -> str:
        svg = self._svg
        return f"<pre>{html.escape(self.dot())}</pre>" if svg is None else svg[svg.index("<svg") :]


def graph_of(
    nodes: Nodes,
    outputs: Sequence[int] = (),
    groups: Sequence[Group] = (),
    notes: Mapping[int, str] | None = None,
    shades: Mapping[int, float] | None = None,
    limit: int | None = NODES_SHOWN,
) -> Graph:
    """Make the graph of nodes; outputs are nodes to mark as results, else those that nothing reads.

    notes are further lines in nodes, such as values; shades, from 0 to 1, colour them. Where there are many more nodes
    than `limit`, repetitions and the middle are left out; None shows everything.

    Raises ValueError for a limit below 8.
    """
    if limit is not None and not limit >= 8:
        raise TapeadValueError(f"a graph needs a limit of at least 8 nodes (None: no limit), not {limit!r}")
    results = tuple(dict.fromkeys(i for i in outputs if i >= 0)) or _unread(nodes.all)
    return Graph(nodes, results, tuple(groups), notes or {}, shades or {}, limit)


def _unread(nodes: Sequence[Node]) -> tuple[int, ...]:
    read = {i for node in nodes for i in node.operands}
    none = (INPUT, CONSTANT, GUARD)
    return tuple(node.index for node in nodes if node.index not in read and node.kind not in none)


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _drawn(graph: Graph) -> Picture:
    """Draw a graph: a box for each node that is shown, and one for each stretch that is left out."""
    nodes = graph.nodes.all
    picture = Picture()
    names, groups = [node.name for node in nodes], _groups_of(graph)
    members: dict[int, list[str]] = {}
    at = 0
    for k, stretch in enumerate([*fold(nodes, graph.limit), None]):
        stop = len(nodes) if stretch is None else stretch.start
        for node in nodes[at:stop]:
            picture.boxes.append(_box(graph, node))
            members.setdefault(groups[node.index], []).append(node.name)
        if stretch is not None:
            hidden = range(stretch.start, stretch.stop)
            name = f"left{k + 1}"
            picture.boxes.append(Box(name, "left out", told(stretch, nodes)))
            around = {groups[i] for i in hidden}
            members.setdefault(around.pop() if len(around) == 1 else -1, []).append(name)
            for i in hidden:
                names[i] = name
            at = stretch.stop
    lines: dict[tuple[str, str], bool] = {}
    for node in nodes:
        for k, i in enumerate(node.operands):
            ends = names[i], names[node.index]
            if ends[0] != ends[1]:
                same_memory = node.kind in (VIEW, WRITE) and k == 0
                lines[ends] = lines.get(ends, True) and same_memory
    picture.lines = [(*ends, dashed) for ends, dashed in lines.items()]
    for g, group in enumerate(graph.groups):
        if g in members:
            picture.frames.append(Frame(group.text, tuple(members[g]), group.shade))
    picture.direction = "LR" if _steps(picture) <= WIDE else "TB"
    return picture


def _box(graph: Graph, node: Node) -> Box:
    kind = "result" if node.index in graph.results and node.kind not in (INPUT, CONSTANT) else node.kind
    text, small = node.name, [node.type]
    if node.kind == GUARD:
        text, small = _short(node.formula), []
    elif node.kind == CONSTANT or (node.kind == INPUT and not node.label):
        small = [f"{node.kind} {node.type}"]
    else:
        text = f"{node.name} = {_short(node.label or node.formula)}"
    if node.index in graph.notes:
        small.append(graph.notes[node.index])
    return Box(node.name, kind, text, tuple(small), graph.shades.get(node.index))


def _short(formula: str) -> str:
    return formula if len(formula) <= LONGEST else f"{formula[: LONGEST - 1]}…"


def _groups_of(graph: Graph) -> list[int]:
    """Give the group of each node, or -1; a view belongs to the group that alone reads it."""
    nodes = graph.nodes.all
    of = {k: g for g, group in enumerate(graph.groups) for k in group.instructions}
    found = [of.get(node.instructions[-1], -1) if node.instructions else -1 for node in nodes]
    readers: list[set[int]] = [set() for _ in nodes]
    for node in reversed(nodes):
        if node.kind == VIEW and len(readers[node.index]) == 1:
            found[node.index] = readers[node.index].pop()
        for i in node.operands:
            readers[i].add(found[node.index])
    return found


def _steps(picture: Picture) -> int:
    """Give the boxes on the longest way through a picture."""
    depth = {box.name: 1 for box in picture.boxes}
    before: dict[str, list[str]] = {}
    for a, b, _ in picture.lines:
        before.setdefault(b, []).append(a)
    for box in picture.boxes:
        depth[box.name] += max((depth[a] for a in before.get(box.name, ())), default=0)
    return max(depth.values(), default=0)


def _rendered(text: str, kind: str) -> bytes:
    """Draw DOT by the system's Graphviz."""
    graphviz = require("graphviz", f"a graph as {kind.upper()}")
    try:
        made: bytes = graphviz.Source(text).pipe(format=kind, quiet=True)
    except graphviz.ExecutableNotFound:
        raise TapeadGraphvizError(
            f"a graph as {kind.upper()} needs the program dot of Graphviz, which was not found: install Graphviz (apt install "
            "graphviz, brew install graphviz, winget install graphviz, or conda install -c conda-forge graphviz), or "
            "take the text of dot() or mermaid(), which need nothing"
        ) from None
    except graphviz.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        raise TapeadGraphvizError(
            f"Graphviz could not draw the graph: {said or f'exit status {error.returncode}'}"
        ) from None
    return made
