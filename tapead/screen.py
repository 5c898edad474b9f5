"""Lines, tables and progress, for a terminal or for a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

Advance = Callable[[str], None]


class Screen(Protocol):
    """What a command writes on: plain text in a pipe, coloured text on a terminal."""

    def line(self, text: str = "") -> None:
        """Write one line."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table whose cells are ready-made strings."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Advance]:
        """Open a progress display; call what it gives with a short note after each of `total` steps."""


class PlainScreen:
    """Write lines without any escape code.

    >>> import sys
    >>> screen = PlainScreen(sys.stdout)
    >>> screen.table("Primes", ("n", "prime"), [("1", "2"), ("10", "29")])
    Primes
       n  prime
       1      2
      10     29
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def line(self, text: str = "") -> None:
        # Flushed line by line, so that a reader of the pipe sees each at its time.
        print(text, file=self.stream, flush=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        self.line(title)
        for row in (columns, *rows):
            self.line("".join(f"  {cell:>{width}}" for cell, width in zip(row, widths, strict=True)))

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

        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        for column in columns:
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*row)
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
            pass  # a container image needs no colours
    return PlainScreen(stream)
