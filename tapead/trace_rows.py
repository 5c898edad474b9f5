"""The rows of a trace table: what each node is, what flows through it, and how that reads, in LaTeX, too."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .figures import has_nan, is_finite, value_text
from .formulas import BAR, adjoint_formula, adjoint_latex, adjoint_name, formula_latex
from .kernels.table import Elementwise, Structural
from .nodes import GUARD, JOIN, OPERATION, VIEW, WRITE, Node, Nodes
from .observation import Observation, Part
from .plan import Planner
from .tape import CONSTANT, INPUT, line_text
from .views import fits, shaped_text


@dataclass(frozen=True)
class Partial:
    """A partial adjoint v̄(i→j): what node j adds to the adjoint of node i."""

    name: str
    consumer: str
    formula: str
    latex: str
    value: Any


@dataclass(frozen=True)
class TraceRow:
    """A node and what flows through it: its value, its tangent along each input, its partial adjoints and their sum.

    kind is "input", "constant", "op", "view", "write", "join" or "guard". tangents and adjoint are zero where nothing
    flows, and missing (an empty dict, None) for what has no derivative. `block` numbers the block that the instruction
    runs in, `place` is the user's line.
    """

    name: str
    label: str
    kind: str
    op: str
    formula: str
    latex: str
    type: str
    shape: tuple[int, ...]
    value: Any
    tangents: dict[str, Any]
    partials: tuple[Partial, ...]
    adjoint: Any
    block: int | None
    place: str


def rows_of(seen: Observation, file: str) -> tuple[TraceRow, ...]:
    """Make the rows of what was observed; file is the one whose lines they name."""
    nodes, block_of = seen.nodes, _blocks(seen)
    labels = {n: nodes[n].label for n in seen.inputs}
    parts: dict[int, list[Part]] = {}
    for part in seen.parts:
        parts.setdefault(part.source, []).append(part)
    rows = []
    for node in nodes.all:
        has = node.kind != GUARD and np.dtype(node.dtype).kind == "f"
        place = node.place
        rows.append(
            TraceRow(
                name=node.name,
                label=node.label,
                kind=node.kind,
                op=node.op,
                formula=node.formula or node.label,
                latex=_node_latex(seen, node),
                type=node.type,
                shape=node.shape,
                value=seen.values.get(node.index),
                tangents={label: or_zero(seen.tangents[n].get(node.index), node) for n, label in labels.items() if has}
                if seen.tangents
                else {},
                partials=tuple(_partial(seen, node, part) for part in sorted(parts.get(node.index, ()), key=_order)),
                adjoint=or_zero(seen.adjoints.get(node.index), node) if has else None,
                block=next((block_of[k] for k in node.instructions if k in block_of), None),
                place="" if place is None or place[0].co_filename != file else line_text(place),
            )
        )
    return tuple(rows)


def warnings_of(seen: Observation, rows: Sequence[TraceRow]) -> tuple[str, ...]:
    """Name the nodes at which NaN or infinity arises: NaN of what is none, infinity of what is finite."""
    found = []
    nodes = seen.nodes
    for node, row in zip(nodes.all, rows, strict=True):
        if node.kind in (GUARD, VIEW, CONSTANT) or is_finite(row.value):
            continue
        what, arisen = ("NaN", has_nan) if has_nan(row.value) else ("infinity", lambda value: not is_finite(value))
        if any(arisen(rows[n].value) for n in node.operands):
            continue
        sources = ", ".join(f"{rows[n].name} = {value_text(rows[n].value)}" for n in dict.fromkeys(node.operands))
        where = f" ({row.place})" if row.place else ""
        given = f", with {sources}" if sources else ""
        found.append(f"{what} arises at {row.name} = {row.formula}{given}{where}")
    return tuple(found)


def _order(part: Part) -> tuple[int, int]:
    return part.consumer, part.operand


def or_zero(value: Any, node: Node) -> Any:
    """Give what flows through a node; zero where nothing does."""
    return np.zeros(node.shape, node.dtype)[()] if value is None else value


def _blocks(seen: Observation) -> dict[int, int]:
    """Number the blocks that the function's instructions form when it is replayed: instruction -> block."""
    nodes = seen.nodes
    buffers = [nodes[n].buffer for n in seen.outputs]
    plan = Planner(nodes.tape, buffers, None, [], {"blocks", "dead"}).make()
    found: dict[int, int] = {}
    for row, instructions in zip(plan.rows, plan.instructions, strict=True):
        if row[1] == "block" and len(instructions) > 1:
            number = len(set(found.values())) + 1
            found.update(dict.fromkeys(instructions, number))
    return found


def _partial(seen: Observation, node: Node, part: Part) -> Partial:
    nodes, consumer = seen.nodes, seen.nodes[part.consumer]
    d, number = adjoint_name(consumer.name), node.name[1:]
    latex_d = bar_latex(consumer.name)
    if part.instruction >= 0 and consumer.kind == OPERATION:
        k = part.instruction
        op, texts, z, latex_z = nodes.tape.ops[k], nodes.texts(k), consumer.name, name_latex(consumer.name)
        made = nodes.tape.buffers[nodes.tape.result_buffers[k][0]].shape
        hidden = len(made) - len(consumer.shape)
        if isinstance(op, Elementwise) and not fits(consumer.shape, made):
            shaping = shaped_text("", consumer.shape, made)
            d, z, hidden = d + shaping, z + shaping, 0
            latex_d, latex_z = latex_d + _shaping_latex(shaping), name_latex(z)
        formula = adjoint_formula(op, part.operand, d, texts, z)
        latex = adjoint_latex(op, part.operand, latex_d, [name_latex(text) for text in texts], latex_z)
        summed = _summed(nodes, k, part.operand, hidden)
        if summed is not None:
            formula, latex = f"sum({formula}{summed})", rf"\text{{sum}}\left({latex}\text{{{summed}}}\right)"
    else:
        what = {
            VIEW: f"at {consumer.formula}",
            WRITE: "where it was written" if part.operand >= 0 else "where it was not written",
            JOIN: f"at the place of {node.name}",
        }[consumer.kind]
        formula, latex = f"{d} {what}", rf"{latex_d} \text{{ {_escaped(what)}}}"
    return Partial(f"v{BAR}({number}→{consumer.name[1:]})", consumer.name, formula, latex, part.value)


def _summed(nodes: Nodes, k: int, i: int, hidden: int) -> str | None:
    """Say along which axes an adjoint is added up, as the operand was broadcast along them; None if along none.

    hidden is how many axes of one element the adjoint has in front that are not shown.
    """
    tape, op = nodes.tape, nodes.tape.ops[k]
    if not isinstance(op, Elementwise) and not (isinstance(op, Structural) and op.broadcasts):
        return None
    shape, made = (tape.buffers[b].shape for b in (tape.operand_buffers[k][i], tape.result_buffers[k][0]))
    extra = len(made) - len(shape)
    axes = tuple(a - hidden for a, dim in enumerate(made) if dim != 1 and (a < extra or shape[a - extra] == 1))
    if not axes:
        return None
    return "" if math.prod(shape) == 1 else f", axis={axes[0] if len(axes) == 1 else axes}"


def _node_latex(seen: Observation, node: Node) -> str:
    nodes = seen.nodes
    if node.kind == INPUT:
        return label_latex(node.label)
    if node.kind != OPERATION:
        return rf"\text{{{_escaped(node.formula or node.kind)}}}"
    k, tape = node.instructions[0], nodes.tape
    texts = nodes.texts(k)
    result, operand = tape.buffers[tape.result_buffers[k][0]], tape.buffers[tape.operand_buffers[k][0]]
    made = formula_latex(tape.ops[k], [name_latex(t) for t in texts], tape.parameters[k], result, operand)
    return rf"\text{{result {node.part + 1} of }} {made}" if node.part else made


def name_latex(name: str) -> str:
    """Write a node's name, perhaps in another shape, in LaTeX."""
    found = re.fullmatch(r"v(\d+)(.*)", name)
    if found is None:
        return rf"\text{{{name}}}" if name in ("True", "False") else name
    return f"v_{{{found[1]}}}{_shaping_latex(found[2])}"


def _shaping_latex(text: str) -> str:
    return r"^{\top}" if text == ".T" else text and rf"\text{{{text}}}"


def bar_latex(name: str) -> str:
    """Write the name of a node's adjoint in LaTeX."""
    return rf"\bar{{v}}_{{{name[1:]}}}"


def label_latex(label: str) -> str:
    """Write what the user calls an input in LaTeX."""
    stem = label.rstrip("0123456789")
    if stem != label and len(stem) == 1:
        return f"{stem}_{{{label[len(stem) :]}}}"
    return label if len(label) == 1 else rf"\mathrm{{{_escaped(label)}}}"


def _escaped(text: str) -> str:
    for sign in "_&%#{}":
        text = text.replace(sign, "\\" + sign)
    return text
