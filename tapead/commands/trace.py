"""Show the graph of a function, its values, and how derivatives flow through it, step by step."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import CommandError, ExpressionError, TapeadError, TapeadModuleNotFoundError
from ..expression import parse
from ..screen import screen_for
from ..sources import check_names, explained, load_function, matched, names_function, nearest, one_line, read_values
from ..trace_tables import TraceTable, trace_table


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments and options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "examples:\n"
        '  tapead trace "log(x1) + x1*x2 - sin(x2)" x1=2 x2=5\n'
        "  tapead trace model.py:loss X=@data.npy w=[0.5,1] --wrt w --mode reverse\n"
        '  tapead trace --svg graph.svg -- "-x**2" x=3      (a formula that begins with a minus stands after --)'
    )
    parser.add_argument(
        "function",
        metavar="EXPRESSION|FILE.py:FUNCTION",
        help="a formula of names, numbers, operators and functions of the op table, or a function in a Python file",
    )
    parser.add_argument(
        "values",
        metavar="NAME=VALUE",
        nargs="*",
        help="a number, a list as in w=[1,2,3], or an array as in X=@data.npy, @data.npz:KEY, @data.csv, @data.txt",
    )
    parser.add_argument(
        "--mode", choices=("forward", "reverse", "both"), default="both", help="tangents, adjoints, or both (default)"
    )
    parser.add_argument("--wrt", metavar="NAME[,NAME]", help="what to differentiate by (default: all that is given)")
    parser.add_argument("--values", dest="whole", action="store_true", help="write out arrays, however large")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--latex", action="store_true", help="print LaTeX tables")
    form.add_argument("--dot", action="store_true", help="print the graph in Graphviz's language")
    parser.add_argument("--svg", metavar="FILE", help="draw the graph into a file, too; needs Graphviz")


def run(arguments: argparse.Namespace) -> None:
    """Trace, warn of what is not finite, and print."""
    if arguments.svg is not None and not Path(arguments.svg).resolve().parent.is_dir():
        raise CommandError(f"cannot write {arguments.svg}: there is no such folder")
    with told():
        table = traced(arguments)
        if arguments.svg is not None:
            write(arguments.svg, table.graph().svg())
    for line in table.warnings:
        print(f"tapead: warning: {line}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(table.as_dict(), indent=2))
    elif arguments.latex:
        print(table.latex())
    elif arguments.dot:
        print(table.graph().dot())
    else:
        table.show(screen_for(sys.stdout))


def traced(arguments: argparse.Namespace) -> TraceTable:
    """Make the trace table that the arguments ask for."""
    word = arguments.function
    f, names, values = subject(word, read_values(arguments.values))
    chosen = None if arguments.wrt is None else wrt_names(arguments.wrt, names)
    with explained(word.rpartition(":")[0], word) if names_function(word) else contextlib.nullcontext():
        return trace_table(f, *values, names=names, wrt=chosen, mode=arguments.mode, values=arguments.whole)


def subject(word: str, values: dict[str, Any]) -> tuple[Callable[..., Any], tuple[str, ...], tuple[Any, ...]]:
    """Give the function that a word stands for, the names of its arguments, and their values."""
    if names_function(word):
        function, given = matched(load_function(word), values, word)
        return function, function.names, given
    formula = parse(word)
    if not formula.names:
        raise CommandError(f"{formula} has no variables: its value is {formula():.15g}, and there is nothing to trace")
    check_names(values, formula.names, (), "the formula")
    return formula, formula.names, tuple(values[name] for name in formula.names)


def wrt_names(text: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Read the names to differentiate by."""
    chosen = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in chosen:
        if name not in names:
            raise CommandError(
                f"--wrt {text}: {name or 'nothing'} is not among {', '.join(names)}{nearest(name, names)}"
            )
    return chosen


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what tapead cannot do with the input into a message of the command's."""
    try:
        yield
    except (CommandError, TapeadModuleNotFoundError):
        raise
    except ExpressionError as error:  # its lines are: what, the formula, a mark under the place
        raise CommandError(str(error)) from error
    except TapeadError as error:
        raise CommandError(one_line(str(error))) from error
    except MemoryError as error:
        raise CommandError(f"out of memory: {one_line(str(error)) or 'the arrays are too large'}") from error


def write(file: str, text: str) -> None:
    """Write a file."""
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror or error}") from error
