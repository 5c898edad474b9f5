"""Trace tables: what a function's graph holds and what flows through it, row by row, as a textbook prints it."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from .calling import function_code, name_of, names_for
from .check import numerical_grad
from .errors import TapeadTypeError, TapeadValueError
from .formulas import BAR, adjoint_formula, adjoint_latex, adjoint_name, formula_latex
from .graph import LIMIT, Graph, Group, graph_of
from .kernels.table import Elementwise, Structural
from .markup import table
from .nodes import GUARD, JOIN, OPERATION, VIEW, WRITE, Node, Nodes
from .observation import Observation, Part, observe
from .plan import Planner
from .screen import PlainScreen, Screen
from .tape import CONSTANT, INPUT, line_text
from .tree import flatten, paths, unflatten
from .views import fits, shaped_text

T = TypeVar("T")
Mode = Literal["forward", "reverse", "both"]
#: the cells of a table, a row each; a table with its title and columns
Cells = list[tuple[str, ...]]
Shown = tuple[str, tuple[str, ...], Cells]

#: arrays of so many elements are written out, larger ones by their norm
SHORT = 6
#: JSON holds arrays of so many elements as they are, larger ones by their shape and norm
LONG = 1000
#: rows of a table, partials of a row, and inputs whose tangents have a column, that are shown at the most
ROWS_SHOWN, PARTIALS_SHOWN, INPUTS_SHOWN = 120, 20, 5


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


@dataclass(frozen=True)
class SlopeCheck:
    """The derivative along a direction by the tape and by a central difference, whose error is estimated."""

    label: str
    tape: float
    difference: float
    error: float
    precision: float = float(np.finfo(float).eps)  # of the coarsest numbers that the function computes with

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than the difference's own error, and rounding, explain."""
        return abs(self.tape - self.difference) <= 10 * self.error + 5000 * self.precision * abs(self.tape)

    @property
    def verdict(self) -> str:
        """Say in a word or two whether they agree."""
        if not (math.isfinite(self.tape) and math.isfinite(self.difference)):
            return "not finite"
        return "agrees" if self.agrees else "DIFFERS"


@dataclass(frozen=True)
class TraceTable:
    """The traces of one run: print it, show it in a notebook, or read its rows."""

    function: str
    mode: Mode
    rows: tuple[TraceRow, ...]
    gradient: dict[str, Any]
    checks: tuple[SlopeCheck, ...]
    warnings: tuple[str, ...]
    outputs: tuple[str, ...]
    whole_values: bool
    observation: Observation

    # ---- as text -----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """Write the tables as plain text, in lines of `width` characters where one is given."""
        stream = io.StringIO()
        self.show(PlainScreen(stream, width))
        return stream.getvalue().rstrip("\n")

    def show(self, screen: Screen) -> None:
        """Write the tables on a screen."""
        for k, (title, columns, rows) in enumerate(self._tables()):
            if k:
                screen.line()
            screen.table(title, columns, rows)
        for line in self._notes():
            screen.line(line)

    def html(self) -> str:
        """Write the tables as HTML."""
        parts = [table(title, columns, rows) for title, columns, rows in self._tables()]
        notes = [table(line, (), []) for line in self._notes() if line]
        return "\n".join([*parts, *notes])

    def _repr_html_(self) -> str:
        return self.html()

    def as_dict(self) -> dict[str, Any]:
        """Give everything as numbers, texts and lists, for JSON; what is not finite is named: "nan", "inf", "-inf".

        Arrays of more than 1,000 elements are given by their shape and norm, unless the table was made with values=True.
        """

        def plain(value: Any) -> Any:
            if self.whole_values or np.size(value) <= LONG:
                return _plain(value)
            return {"shape": list(np.shape(value)), "norm": _plain(_norm(np.asarray(value)))}

        rows = [
            {
                "name": row.name,
                "label": row.label,
                "kind": row.kind,
                "op": row.op,
                "formula": row.formula,
                "type": row.type,
                "value": plain(row.value),
                "tangents": {label: plain(value) for label, value in row.tangents.items()},
                "partials": [
                    {"consumer": part.consumer, "formula": part.formula, "value": plain(part.value)}
                    for part in row.partials
                ],
                "adjoint": plain(row.adjoint),
                "block": row.block,
                "place": row.place,
            }
            for row in self.rows
        ]
        checks = [
            {
                "direction": check.label,
                "tape": plain(check.tape),
                "difference": plain(check.difference),
                "error": plain(check.error),
                "agrees": check.agrees,
            }
            for check in self.checks
        ]
        return {
            "function": self.function,
            "mode": self.mode,
            "rows": rows,
            "outputs": list(self.outputs),
            "gradient": {label: plain(value) for label, value in self.gradient.items()},
            "checks": checks,
            "warnings": list(self.warnings),
        }

    def graph(self, colour: str | None = None, limit: int | None = LIMIT) -> Graph:
        """Give the computational graph with the values in it; colour="adjoint" shades nodes by the size of their adjoints.

        The frames are the blocks. Raises ValueError for another colour, or a limit below 8.
        """
        if colour not in (None, "adjoint"):
            raise TapeadValueError(f'colour must be "adjoint" or None, not {colour!r}')
        seen, notes, sizes = self.observation, {}, {}
        for node, row in zip(seen.nodes.all, self.rows, strict=True):
            texts = [] if row.kind in (GUARD, CONSTANT) else [value_text(row.value, self.whole_values, row.name)]
            if colour and row.adjoint is not None:
                bar = adjoint_name(row.name)
                text = value_text(row.adjoint, self.whole_values, bar)
                texts.append(text if text.startswith("‖") else f"{bar} = {text}")
                sizes[node.index] = _norm(row.adjoint) / math.sqrt(max(np.size(row.adjoint), 1))
            if texts:
                notes[node.index] = "\n".join(texts)
        largest = max((size for size in sizes.values() if math.isfinite(size)), default=0.0) or 1.0
        blocks: dict[int, list[int]] = {}
        for node, row in zip(seen.nodes.all, self.rows, strict=True):
            if row.block is not None:
                blocks.setdefault(row.block, []).extend(node.instructions)
        groups = [Group(f"block {number}", tuple(ks)) for number, ks in blocks.items()]
        shades = {n: size / largest for n, size in sizes.items()}
        return graph_of(seen.nodes, seen.outputs, groups, notes, shades, limit)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _tables(self) -> list[Shown]:
        tables = [self._forward()]
        if self.mode != "forward":
            tables.append(self._reverse())
            slopes: Cells = [(label, self._number(slope)) for label, slope in self.gradient.items()]
            tables.append(("Gradient", ("by", "value"), slopes))
        if self.checks:
            lines: Cells = [
                (
                    check.label,
                    f"{check.tape:.9g}",
                    f"{check.difference:.9g}",
                    f"{abs(check.tape - check.difference):.1e}",
                    check.verdict,
                )
                for check in self.checks
            ]
            columns = ("along", "tape", "central difference", "apart by", "")
            tables.append(("Check of the derivatives", columns, lines))
        return tables

    def _notes(self) -> list[str]:
        seen = self.observation
        if self.mode == "forward" or [seen.nodes[n].shape for n in seen.outputs] == [()]:
            return []
        return ["", "The result is not one number: the adjoints are those of the sum of all its elements."]

    def _forward(self) -> Shown:
        labels = [] if self.mode == "reverse" else [row.label for row in self.rows if row.label in self._chosen()]
        labels = labels[:INPUTS_SHOWN]
        shapes = {row.label: row.shape for row in self.rows if row.label}
        more: list[tuple[str, Callable[[TraceRow], str]]] = [
            *(
                (
                    f"along {label}" if shapes[label] else f"∂/∂{label}",
                    lambda row, label=label: self._number(row.tangents[label]) if row.tangents else "",
                )
                for label in labels
            ),
            ("type", lambda row: row.type if row.kind != GUARD else ""),
            ("block", lambda row: "" if row.block is None else str(row.block)),
            ("line", lambda row: row.place),
        ]
        shown = [
            (title, cell)
            for title, cell in more
            if title not in ("type", "block", "line")
            or (title == "type" and any(row.shape or row.type != "float64" for row in self.rows if row.kind != GUARD))
            or (title == "block" and any(row.block is not None for row in self.rows))
            or (title == "line" and any(row.place for row in self.rows))
        ]
        cells: Cells = []
        for row in _ends(self.rows, ROWS_SHOWN):
            if row is None:
                cells.append(("", _left_out(self.rows), "", *("" for _ in shown)))
                continue
            value = "" if row.kind == GUARD else self._number(row.value)
            cells.append((row.name, row.formula or row.kind, value, *(cell(row) for _, cell in shown)))
        title = "Forward trace" if not labels else "Forward trace, with tangents"
        return f"{title} of {self.function}", ("node", "formula", "value", *(title for title, _ in shown)), cells

    def _reverse(self) -> Shown:
        cells: Cells = []
        flowing = [row for row in reversed(self.rows) if row.partials or row.name in self.outputs]
        for row in _ends(flowing, ROWS_SHOWN):
            if row is None:
                cells.append(("", _left_out(flowing), ""))
                continue
            seed = self.outputs.count(row.name)
            name, several = adjoint_name(row.name), len(row.partials) + (seed > 0) > 1
            if seed:
                cells.append((name if not several else "", f"{seed} (seed)", str(seed)))
            parts = _ends(row.partials, PARTIALS_SHOWN)
            for part in parts:
                if part is None:
                    cells.append(("", f"... {len(row.partials) - len(parts) + 1:,} more ...", ""))
                else:
                    cells.append((part.name if several else name, part.formula, self._number(part.value)))
            if several:
                terms = ["..." if part is None else part.name for part in parts]
                total = " + ".join([*([str(seed)] if seed else []), *terms])
                cells.append((name, total, self._number(row.adjoint)))
        return "Reverse trace: partial adjoints and their sums", ("adjoint", "formula", "value"), cells

    def _chosen(self) -> set[str]:
        return {self.observation.nodes[n].label for n in self.observation.inputs}

    def _number(self, value: Any) -> str:
        return value_text(value, self.whole_values)

    # ---- LaTeX -------------------------------------------------------------------------------------------------------

    def latex(self) -> str:
        """Write the traces as LaTeX: a tabular of the forward one, another of the reverse one."""
        labels = [] if self.mode == "reverse" else [row.label for row in self.rows if row.label in self._chosen()]
        heads = [rf"$\partial / \partial {_label_latex(label)}$" for label in labels]
        lines = [
            rf"\begin{{tabular}}{{ll{'r' * (1 + len(labels))}}}",
            " & ".join(["node", "formula", "value", *heads]) + r" \\ \hline",
        ]
        for row in self.rows:
            value = "" if row.kind == GUARD else f"${self._latex_number(row.value)}$"
            slopes = [f"${self._latex_number(row.tangents[label])}$" if row.tangents else "" for label in labels]
            lines.append(" & ".join([f"${_name_latex(row.name)}$", f"${row.latex}$", value, *slopes]) + r" \\")
        lines.append(r"\end{tabular}")
        if self.mode != "forward":
            lines += ["", r"\begin{tabular}{llr}", r"adjoint & formula & value \\ \hline"]
            for row in reversed(self.rows):
                lines += self._adjoint_latex(row)
            lines.append(r"\end{tabular}")
        return "\n".join(lines)

    def _adjoint_latex(self, row: TraceRow) -> list[str]:
        seed = self.outputs.count(row.name)
        if not row.partials and not seed:
            return []
        bar, several = _bar_latex(row.name), len(row.partials) + (seed > 0) > 1
        lines, terms = [], []
        if seed:
            lines.append(("" if several else bar, str(seed), str(seed)))
            terms.append(str(seed))
        for part in row.partials:
            name = rf"\bar{{v}}_{{{row.name[1:]} \to {part.consumer[1:]}}}"
            terms.append(name)
            lines.append((name if several else bar, part.latex, self._latex_number(part.value)))
        if several:
            lines.append((bar, " + ".join(terms), self._latex_number(row.adjoint)))
        return [" & ".join(f"${cell}$" if cell else "" for cell in line) + r" \\" for line in lines]

    def _latex_number(self, value: Any) -> str:
        text = self._number(value)
        if text.startswith("‖"):
            return rf"\text{{norm }} {text.partition(' = ')[2]}"
        text = text.replace("nan", r"\text{NaN}").replace("inf", r"\infty")
        text = re.sub("True|False|[0-9,]+ numbers", r"\\text{\g<0>}", text)
        mantissa, e, exponent = text.partition("e")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if e and exponent.lstrip("+-").isdigit() else text


def trace_table(
    f: Callable[..., Any],
    *args: Any,
    names: Sequence[str] | None = None,
    wrt: Sequence[str] | None = None,
    mode: Mode = "both",
    values: bool = False,
) -> TraceTable:
    """Show what f does with some arguments, and how derivatives flow through it: the traces of the course.

    f is NumPy code that returns numbers or arrays, args are numbers, arrays or pytrees of them. The table has a row for
    each node of the computational graph: its formula and value; the tangent along each input (the derivative by a number;
    along a direction of ones for an array); its partial adjoints, one for each node that uses it, and their sum, the
    adjoint. The derivatives are checked against central differences. `mode` is "forward" (tangents only), "reverse"
    (adjoints only) or "both". `names` are those of the arguments (those of f's parameters by default), `wrt` names the
    ones to differentiate by. Large arrays are shown by their norm, unless `values` asks for all of them.

    Raises TypeError for an f that is not callable or gives nothing with a derivative, ValueError for unknown names or modes.

    >>> import numpy as np, tapead
    >>> table = tapead.trace_table(lambda x1, x2: np.log(x1) + x1 * x2 - np.sin(x2), 2.0, 5.0, mode="reverse")
    >>> for row in table.rows[2:]:
    ...     print(row.name, "=", row.formula, "=", round(row.value, 3))
    v3 = log(v1) = 0.693
    v4 = v1 * v2 = 10.0
    v5 = v3 + v4 = 10.693
    v6 = sin(v2) = -0.959
    v7 = v5 - v6 = 11.652
    >>> for part in table.rows[0].partials:
    ...     print(part.consumer, part.formula, part.value)
    v3 v̄3 * (1 / v1) 0.5
    v4 v̄4 * v2 5.0

    Source: CMU 10-414/714, Deep Learning Systems, lecture 4; Griewank & Walther, Evaluating Derivatives (2008), chapter 3.
    """
    if mode not in ("forward", "reverse", "both"):
        raise TapeadValueError(f'mode must be "forward", "reverse" or "both", not {mode!r}')
    names = names_for(f, len(args), names)
    if len(set(names)) != len(names):
        raise TapeadValueError(f"names must differ, unlike {', '.join(names)}")
    if isinstance(wrt, str):
        raise TapeadTypeError(f"wrt must be several names, as in ({wrt!r},), not a string")
    seen = observe(f, args, names, wrt, mode != "reverse", mode != "forward")
    rows = _rows(seen, function_code(f).co_filename)
    nodes = seen.nodes
    gradient = {}
    if mode != "forward":
        gradient = {nodes[n].label: _or_zero(seen.adjoints.get(n), nodes[n]) for n in seen.inputs}
    checks, failed = _checks(f, args, names, seen, gradient)
    return TraceTable(
        function=name_of(f),
        mode=mode,
        rows=rows,
        gradient=gradient,
        checks=checks,
        warnings=(*_warnings(seen, rows), *failed),
        outputs=tuple(nodes[n].name for n in seen.outputs),
        whole_values=values,
        observation=seen,
    )


# ---- rows ------------------------------------------------------------------------------------------------------------


def _rows(seen: Observation, file: str) -> tuple[TraceRow, ...]:
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
                tangents={label: _or_zero(seen.tangents[n].get(node.index), node) for n, label in labels.items() if has}
                if seen.tangents
                else {},
                partials=tuple(_partial(seen, node, part) for part in sorted(parts.get(node.index, ()), key=_order)),
                adjoint=_or_zero(seen.adjoints.get(node.index), node) if has else None,
                block=next((block_of[k] for k in node.instructions if k in block_of), None),
                place="" if place is None or place[0].co_filename != file else line_text(place),
            )
        )
    return tuple(rows)


def _ends(things: Sequence[T], count: int) -> list[T | None]:
    """Give all things, or the beginning and the end of many, with None between them."""
    half = count // 2
    return list(things) if len(things) <= count else [*things[:half], None, *things[-half:]]


def _left_out(rows: Sequence[TraceRow]) -> str:
    return f"... {len(rows) - ROWS_SHOWN:,} rows left out ..."


def _order(part: Part) -> tuple[int, int]:
    return part.consumer, part.operand


def _or_zero(value: Any, node: Node) -> Any:
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
    latex_d = _bar_latex(consumer.name)
    if part.instruction >= 0 and consumer.kind == OPERATION:
        k = part.instruction
        op, texts, z, latex_z = nodes.tape.ops[k], nodes.texts(k), consumer.name, _name_latex(consumer.name)
        made = nodes.tape.buffers[nodes.tape.result_buffers[k][0]].shape
        hidden = len(made) - len(consumer.shape)
        if isinstance(op, Elementwise) and not fits(consumer.shape, made):
            shaping = shaped_text("", consumer.shape, made)
            d, z, hidden = d + shaping, z + shaping, 0
            latex_d, latex_z = latex_d + _shaping_latex(shaping), _name_latex(z)
        formula = adjoint_formula(op, part.operand, d, texts, z)
        latex = adjoint_latex(op, part.operand, latex_d, [_name_latex(text) for text in texts], latex_z)
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
        return _label_latex(node.label)
    if node.kind != OPERATION:
        return rf"\text{{{_escaped(node.formula or node.kind)}}}"
    k, tape = node.instructions[0], nodes.tape
    texts = nodes.texts(k)
    result, operand = tape.buffers[tape.result_buffers[k][0]], tape.buffers[tape.operand_buffers[k][0]]
    made = formula_latex(tape.ops[k], [_name_latex(t) for t in texts], tape.parameters[k], result, operand)
    return rf"\text{{result {node.part + 1} of }} {made}" if node.part else made


def _name_latex(name: str) -> str:
    found = re.fullmatch(r"v(\d+)(.*)", name)
    if found is None:
        return rf"\text{{{name}}}" if name in ("True", "False") else name
    return f"v_{{{found[1]}}}{_shaping_latex(found[2])}"


def _shaping_latex(text: str) -> str:
    return r"^{\top}" if text == ".T" else text and rf"\text{{{text}}}"


def _bar_latex(name: str) -> str:
    return rf"\bar{{v}}_{{{name[1:]}}}"


def _label_latex(label: str) -> str:
    stem = label.rstrip("0123456789")
    if stem != label and len(stem) == 1:
        return f"{stem}_{{{label[len(stem) :]}}}"
    return label if len(label) == 1 else rf"\mathrm{{{_escaped(label)}}}"


def _escaped(text: str) -> str:
    for sign in "_&%#{}":
        text = text.replace(sign, "\\" + sign)
    return text


# ---- numbers ---------------------------------------------------------------------------------------------------------


def value_text(value: Any, whole: bool = False, name: str = "·") -> str:
    """Write a number to three decimals (three digits, where that says more), a short array, or the norm of a long one."""
    if value is None:
        return ""
    array = np.asarray(value)
    if not array.ndim:
        return _number_text(array[()])
    if whole or array.size == 1 or (array.size <= SHORT and array.ndim == 1):
        return _nested_text(array)
    if array.dtype.kind != "f":
        return f"{array.size:,} numbers"
    finite = np.isfinite(array)
    norm = f"‖{name}‖ = {_number_text(_norm(array[finite]))}"
    strange = int(array.size - finite.sum())
    return f"{norm}, {strange:,} not finite" if strange else norm


def _norm(array: Any) -> float:
    """Give the Euclidean norm; that of large numbers does not overflow on the way."""
    largest = float(np.max(np.abs(array), initial=0.0))
    scale = largest if 0 < largest < math.inf else 1.0
    with np.errstate(over="ignore"):
        return float(scale * np.sqrt(np.sum(np.square(np.asarray(array, float) / scale))))


def _nested_text(array: Any) -> str:
    parts = [_nested_text(part) if array.ndim > 1 else _number_text(part) for part in array]
    return f"[{', '.join(parts)}]"


def _number_text(x: Any) -> str:
    if isinstance(x, np.bool_ | bool):
        return str(bool(x))
    if isinstance(x, np.integer | int) or not math.isfinite(x):
        return str(x)
    if x == 0:
        return "0"
    if 0.01 <= abs(x) < 1e5:
        return f"{x:.3f}".rstrip("0").rstrip(".")
    return f"{x:.3e}" if abs(x) >= 1e5 or abs(x) < 1e-4 else f"{x:.3g}"


def _plain(value: Any) -> Any:
    """Give a value as JSON can hold it."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.ndim:
        return [_plain(part) for part in array]
    x = array.item()
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


# ---- checks and warnings ---------------------------------------------------------------------------------------------


def _checks(
    f: Callable[..., Any], args: Sequence[Any], names: Sequence[str], seen: Observation, gradient: dict[str, Any]
) -> tuple[tuple[SlopeCheck, ...], tuple[str, ...]]:
    """Compare the derivative along one direction of each input with a central difference; say which could not be.

    The direction is that of the tangents, all ones, where no gradient is known; else a random one of length 1.
    """
    leaves, structure = flatten(tuple(args))
    labels = [name + path for name, arg in zip(names, args, strict=True) for path in paths(arg)]
    rng = np.random.default_rng(0)
    checks, failed = [], []
    precision = max(float(np.finfo(node.dtype).eps) for node in seen.nodes.all if np.dtype(node.dtype).kind == "f")
    for n in seen.inputs:
        label = seen.nodes[n].label
        at = labels.index(label)
        x = np.asarray(leaves[at])
        with np.errstate(all="ignore"):
            if gradient:
                direction = rng.normal(size=x.shape)
                length = float(np.sqrt(np.sum(direction * direction)))
                direction = (direction / length if x.ndim and length else np.ones(x.shape)).astype(x.dtype)
                slope = float(np.sum(gradient[label] * direction))
            else:
                direction = np.ones(x.shape, x.dtype)
                slope = float(sum(np.sum(seen.tangents[n].get(out, 0.0)) for out in seen.outputs))

        def total(t: Any, at: int = at, x: Any = x, direction: Any = direction) -> Any:
            moved = list(leaves)
            moved[at] = (x + np.asarray(t, x.dtype) * direction)[()]
            found = flatten(f(*unflatten(structure, moved)))[0]
            return sum(np.sum(part) for part in found if np.asarray(part).dtype.kind == "f")

        try:
            with np.errstate(all="ignore"):
                difference, error = numerical_grad(total, x.dtype.type(0.0), with_error=True)
        except Exception as raised:  # the user's function, at a place that it was not asked for
            said = " ".join(f"{type(raised).__name__}: {raised}".split()).removesuffix(":")
            failed.append(f"the derivative by {label} is not checked: nearby, the function raises {said}")
            continue
        checks.append(SlopeCheck(label, slope, float(difference), float(error), precision))
    return tuple(checks), tuple(failed)


def _warnings(seen: Observation, rows: Sequence[TraceRow]) -> tuple[str, ...]:
    """Name the nodes at which NaN or infinity arises: NaN of what is none, infinity of what is finite."""
    found = []
    nodes = seen.nodes
    for node, row in zip(nodes.all, rows, strict=True):
        if node.kind in (GUARD, VIEW, CONSTANT) or _finite(row.value):
            continue
        what, arisen = ("NaN", _has_nan) if _has_nan(row.value) else ("infinity", lambda value: not _finite(value))
        if any(arisen(rows[n].value) for n in node.operands):
            continue
        sources = ", ".join(f"{rows[n].name} = {value_text(rows[n].value)}" for n in dict.fromkeys(node.operands))
        where = f" ({row.place})" if row.place else ""
        given = f", with {sources}" if sources else ""
        found.append(f"{what} arises at {row.name} = {row.formula}{given}{where}")
    return tuple(found)


def _has_nan(value: Any) -> bool:
    return value is not None and bool(np.isnan(value).any())


def _finite(value: Any) -> bool:
    return value is None or bool(np.all(np.isfinite(value)))
