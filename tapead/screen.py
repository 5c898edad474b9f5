"""Lines, tables and progress, for a terminal or for a pipe."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol, TextIO

from .markup import holds_numbers

Advance = Callable[[str], None]

#: no column is made narrower than this to fit the width
NARROW = 12


def columns_of(text: str) -> int:
    """Count the columns that a text takes on a screen: an accent stands on the letter before it."""
    return sum(not unicodedata.combining(sign) for sign in text)


def _wrapped(cell: str, width: int) -> list[str]:
    # Accents count for `wrap`, so let it have some more room for them.
    accents = len(cell) - columns_of(cell)
    return textwrap.wrap(cell, width + accents) if columns_of(cell) > width else [cell]


class Screen(Protocol):
    """What a command writes on: plain text in a pipe, coloured text on a terminal."""

    def line(self, text: str = "") -> None:
        """Write one line."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table whose cells are ready-made strings."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Advance]:
        """Open a progress display; call what it gives with a short note after each of `total` steps."""


class PlainScreen:
    """Write lines without any escape code; tables in lines of `width` characters, where one is given.

    >>> import sys
    >>> screen = PlainScreen(sys.stdout)
    >>> screen.table("Primes", ("n", "prime"), [("1", "2"), ("10", "29")])
    Primes
       n  prime
       1      2
      10     29
    """

    def __init__(self, stream: TextIO, width: int | None = None) -> None:
        self.stream, self.width = stream, width

    def line(self, text: str = "") -> None:
        # Flushed line by line, so that a reader of the pipe sees each at its time.
        print(text, file=self.stream, flush=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        cells = list(zip(columns, *rows, strict=True))
        right = [holds_numbers(column[1:]) for column in cells]
        widths = self._fitting([max(map(columns_of, column)) for column in cells])
        self.line(title)
        for row in (columns, *rows):
            wrapped = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
            for k in range(max(map(len, wrapped))):
                texts = [lines[k] if k < len(lines) else "" for lines in wrapped]
                gaps = [" " * (width - columns_of(text)) for text, width in zip(texts, widths, strict=True)]
                parts = [gap + text if side else text + gap for text, gap, side in zip(texts, gaps, right, strict=True)]
                self.line("".join(f"  {part}" for part in parts).rstrip())

    def _fitting(self, widths: list[int]) -> list[int]:
        """Narrow the widest columns until all fit."""
        while self.width is not None and sum(widths) + 2 * len(widths) > self.width and max(widths) > NARROW:
            widths[widths.index(max(widths))] -= 1
        return widths

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        done = 0

        def advance(note: str) -> None:
            nonlocal done
            done += 1
            if done * 10 // total > (done - 1) * 10 // total:  # ten lines at most
                self.line(f"{what} {done}/{total}  {note}")

        yield advance


class TerminalScreen:
    """Write coloured lines, tables and a progress bar with rich."""

    def __init__(self) -> None:
        # Here and not above: importing tapead must not import rich, and a pipe does without it.
        from rich.console import Console

        self.console = Console(highlight=False)

    def line(self, text: str = "") -> None:
        self.console.print(text, markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        self.console.print(Text(title, style="bold"))
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column, cells in zip(columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True):
            side: Literal["left", "right"] = "right" if holds_numbers(cells) else "left"
            table.add_column(column, justify=side, overflow="fold")  # an ellipsis would hide digits
        for row in rows:
            table.add_row(*map(Text, row))
        self.console.print(table)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Advance]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(what, total=total, note="")
            yield lambda note: bar.update(task, advance=1, note=note)


def screen_for(stream: TextIO) -> Screen:
    """Give the screen that suits `stream`: a coloured one only where `stream` is a terminal, and rich is installed."""
    if stream.isatty():
        try:
            return TerminalScreen()
        except ModuleNotFoundError:
            # A container image needs no colours.
            return PlainScreen(stream, shutil.get_terminal_size().columns)
    return PlainScreen(stream)
