"""Cells of tables, and tables as HTML, for a notebook to show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

#: what a cell of a column of numbers holds: nothing, or a number with a unit of two letters at most
NUMBER = re.compile(r"|[-+]?(\d[\d,.]*(e[-+]?\d+)?|inf|nan)( ?[^\W\d]{1,2}|%)?")


def holds_numbers(cells: Iterable[str]) -> bool:
    """Whether a column is one of numbers: such are set flush right."""
    return all(map(NUMBER.fullmatch, cells))


def time_text(seconds: float) -> str:
    """Write a time with its unit, to three digits."""
    for unit, scale in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if seconds * scale < 999.5:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table whose cells are plain text, with the title above; without columns, it has no head.

    Columns of numbers are set flush right, all others left. Everything is escaped.

    >>> print(table("a < b", ("n", "what"), [("1", "x & y")]))
    <table>
    <caption style="text-align: left">a &lt; b</caption>
    <thead><tr><th style="text-align: right">n</th><th style="text-align: left">what</th></tr></thead>
    <tbody>
    <tr><td style="text-align: right">1</td><td style="text-align: left">x &amp; y</td></tr>
    </tbody>
    </table>
    """
    sides = ["right" if holds_numbers(cells) else "left" for cells in zip(*rows, strict=True)]

    def line(kind: str, cells: Sequence[str]) -> str:
        written = zip(cells, sides or ["left"] * len(cells), strict=True)
        return f"<tr>{''.join(_element(kind, side, cell) for cell, side in written)}</tr>"

    head = [f"<thead>{line('th', columns)}</thead>"] if columns else []
    body = ["<tbody>", *(line("td", row) for row in rows), "</tbody>"]
    return "\n".join(["<table>", _element("caption", "left", title), *head, *body, "</table>"])


def _element(kind: str, side: str, text: str) -> str:
    return f'<{kind} style="text-align: {side}">{escape(text)}</{kind}>'
