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
from .errors import TapeadTypeError, TapeadValueError
from .figures import norm, plain, value_text
from .formulas import adjoint_name
from .graph import Graph, Group, graph_of
from .markup import table
from .nodes import GUARD
from .observation import Observation, observe
from .screen import PlainScreen, Screen
from .slopes import SlopeCheck, checks_of
from .tape import CONSTANT, NODES_SHOWN
from .trace_rows import TraceRow, bar_latex, label_latex, name_latex, or_zero, rows_of, warnings_of

T = TypeVar("T")
Mode = Literal["forward", "reverse", "both"]
#: the cells of a table, a row each; a table with its title and columns
Cells = list[tuple[str, ...]]
Shown = tuple[str, tuple[str, ...], Cells]

#: rows of a table, partials of a row, and inputs whose tangents have a column, that are shown at the most
ROWS_SHOWN, PARTIALS_SHOWN, INPUTS_SHOWN = 120, 20, 5


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

        def shown(value: Any) -> Any:
            return plain(value, self.whole_values)

        rows = [
            {
                "name": row.name,
                "label": row.label,
                "kind": row.kind,
                "op": row.op,
                "formula": row.formula,
                "type": row.type,
                "value": shown(row.value),
                "tangents": {label: shown(value) for label, value in row.tangents.items()},
                "partials": [
                    {"consumer": part.consumer, "formula": part.formula, "value": shown(part.value)}
                    for part in row.partials
                ],
                "adjoint": shown(row.adjoint),
                "block": row.block,
                "place": row.place,
            }
            for row in self.rows
        ]
        checks = [
            {
                "direction": check.label,
                "tape": shown(check.tape),
                "difference": shown(check.difference),
                "error": shown(check.error),
                "agrees": check.agrees,
            }
            for check in self.checks
        ]
        return {
            "function": self.function,
            "mode": self.mode,
            "rows": rows,
            "outputs": list(self.outputs),
            "gradient": {label: shown(value) for label, value in self.gradient.items()},
            "checks": checks,
            "warnings": list(self.warnings),
        }

    def graph(self, colour: str | None = None, limit: int | None = NODES_SHOWN) -> Graph:
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
                sizes[node.index] = norm(row.adjoint) / math.sqrt(max(np.size(row.adjoint), 1))
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

        def along(label: str) -> Callable[[TraceRow], str]:
            return lambda row: self._number(row.tangents[label]) if row.tangents else ""

        shown = [(f"along {label}" if shapes[label] else f"∂/∂{label}", along(label)) for label in labels]
        if any(row.shape or row.type != "float64" for row in self.rows if row.kind != GUARD):
            shown.append(("type", lambda row: row.type if row.kind != GUARD else ""))
        if any(row.block is not None for row in self.rows):
            shown.append(("block", lambda row: "" if row.block is None else str(row.block)))
        if any(row.place for row in self.rows):
            shown.append(("line", lambda row: row.place))
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
        heads = [rf"$\partial / \partial {label_latex(label)}$" for label in labels]
        lines = [
            rf"\begin{{tabular}}{{ll{'r' * (1 + len(labels))}}}",
            " & ".join(["node", "formula", "value", *heads]) + r" \\ \hline",
        ]
        for row in self.rows:
            value = "" if row.kind == GUARD else f"${self._latex_number(row.value)}$"
            slopes = [f"${self._latex_number(row.tangents[label])}$" if row.tangents else "" for label in labels]
            lines.append(" & ".join([f"${name_latex(row.name)}$", f"${row.latex}$", value, *slopes]) + r" \\")
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
        bar, several = bar_latex(row.name), len(row.partials) + (seed > 0) > 1
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
    rows = rows_of(seen, function_code(f).co_filename)
    nodes = seen.nodes
    gradient = {}
    if mode != "forward":
        gradient = {nodes[n].label: or_zero(seen.adjoints.get(n), nodes[n]) for n in seen.inputs}
    checks, failed = checks_of(f, args, names, seen, gradient)
    return TraceTable(
        function=name_of(f),
        mode=mode,
        rows=rows,
        gradient=gradient,
        checks=checks,
        warnings=(*warnings_of(seen, rows), *failed),
        outputs=tuple(nodes[n].name for n in seen.outputs),
        whole_values=values,
        observation=seen,
    )


def _ends(things: Sequence[T], count: int) -> list[T | None]:
    """Give all things, or the beginning and the end of many, with None between them."""
    half = count // 2
    return list(things) if len(things) <= count else [*things[:half], None, *things[-half:]]


def _left_out(rows: Sequence[TraceRow]) -> str:
    return f"... {len(rows) - ROWS_SHOWN:,} rows left out ..."
