"""What commands write on: plain lines in a pipe, rich on a terminal."""

import io
import sys

import pytest

from tapead import screen


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_a_plain_screen():
    stream = io.StringIO()
    chosen = screen.screen_for(stream)
    assert isinstance(chosen, screen.PlainScreen)
    chosen.line("one")
    chosen.line()
    assert stream.getvalue() == "one\n\n"


def test_a_terminal_gets_rich():
    pytest.importorskip("rich")
    assert isinstance(screen.screen_for(Terminal()), screen.TerminalScreen)


@pytest.mark.parametrize(("total", "lines"), [(1, 1), (3, 3), (10, 10), (60, 10), (64, 10)])
def test_plain_progress_is_ten_lines_at_most_and_ends_with_the_last(total, lines):
    stream = io.StringIO()
    with screen.PlainScreen(stream).progress("counting", total) as advance:
        for step in range(1, total + 1):
            advance(f"step {step}")
    written = stream.getvalue().splitlines()
    assert len(written) == lines
    assert written[-1] == f"counting {total}/{total}  step {total}"


def test_plain_progress_writes_at_once():
    stream = io.StringIO()
    with screen.PlainScreen(stream).progress("counting", 2) as advance:
        advance("first")
        assert stream.getvalue() == "counting 1/2  first\n"


@pytest.mark.parametrize("kind", ["plain", "terminal"])
def test_a_table_shows_title_columns_and_cells(kind, capsys):
    if kind == "terminal":
        pytest.importorskip("rich")
        chosen = screen.TerminalScreen()
    else:
        chosen = screen.PlainScreen(sys.stdout)
    chosen.table("Powers", ("base", "square"), [("2", "4"), ("3", "9")])
    written = capsys.readouterr().out
    for text in ("Powers", "base", "square", " 2 ", "4", " 3 ", "9"):
        assert text in written
