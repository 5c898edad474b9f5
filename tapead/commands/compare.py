"""Compare the ways to take a gradient as n grows: differences, symbolic, forward mode, reverse mode."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..comparison import (
    METHODS,
    PASSES,
    PROBLEMS,
    SYMBOLIC,
    Function,
    Measurement,
    Missing,
    Slope,
    compare,
    growth,
    size_for_steps,
    slope_errors,
)
from ..errors import CommandError, TapeadError, TapeadModuleNotFoundError
from ..extras import require
from ..markup import time_text
from ..picture import Picture
from ..plots import draw
from ..screen import Screen, screen_for
from ..sources import explained, load_function, names_function, nearest, one_line, shown

#: the largest n: forward mode takes n passes, over a tape that may have some n instructions
LARGEST = 4096
COLUMNS = ("method", "passes", "multiplications", "additions", "functions", "operations", "time", "error")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments and options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "examples:\n"
        "  tapead compare\n"
        "  tapead compare rosenbrock --n 2,8,32,128 --plot rosenbrock.png\n"
        "  tapead compare model.py:loss --n 4,8 --json      (a function of one vector of n numbers)"
    )
    parser.add_argument(
        "problem",
        metavar=f"{'|'.join(PROBLEMS)}|FILE.py:FUNCTION",
        nargs="?",
        default="product",
        help="a problem, or a function of one vector in a Python file (default: product)",
    )
    parser.add_argument("--n", metavar="N,N,...", default="2,4,8,16,32,64,128", help="sizes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", metavar="FILE", help="draw cost against n, and error against step (.png, .svg, .pdf)")


def run(arguments: argparse.Namespace) -> None:
    """Compare, and print as it goes."""
    word = arguments.problem
    sizes = read_sizes(arguments.n)
    f = subject(word, sizes)
    for package in ("sympy", "mpmath"):
        require(package, "tapead compare")
    picture = None if arguments.plot is None else Picture(arguments.plot, "tapead compare --plot", (11.0, 4.8))
    screen = screen_for(sys.stdout)
    found: list[Measurement] = []
    left_out: list[Missing] = []
    with told(word):
        for n, measured, missing in compare(f, sizes):
            found += measured
            left_out += missing
            if not arguments.json:
                screen.table(f"{word}, n = {n}", COLUMNS, [cells(m) for m in measured])
                screen.line()
        wanted = arguments.json or picture is not None
        slope = slope_errors(f, size_for_steps(sizes)) if wanted else None
    if picture is not None:
        draw(picture.figure, word, found, slope)
        picture.save()
    if arguments.json:
        print(json.dumps(as_dict(word, found, slope, left_out), indent=2))
        return
    show_growth(screen, found)
    for what in dict.fromkeys(missing.what for missing in left_out):
        own = [missing for missing in left_out if missing.what == what]
        screen.line(f"left out: {what} at n = {', '.join(str(missing.n) for missing in own)}: {own[0].reason}")


# ---- what is asked for -------------------------------------------------------------------------------------------


def read_sizes(text: str) -> list[int]:
    """Read sizes: whole numbers from 1 on, in ascending order."""
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit() and int(word[:9]) > 0):
            raise CommandError(f"--n {shown(text)}: {shown(word) or 'nothing'} is no positive whole number")
        if len(word) > 8 or int(word) > LARGEST:
            raise CommandError(f"--n {shown(text)}: {shown(word)} is more than {LARGEST}")
    return sorted({int(word) for word in words})


def subject(word: str, sizes: Sequence[int]) -> Function:
    """Give the function that a word stands for."""
    if names_function(word):
        f = load_function(word)
        try:
            inspect.signature(f).bind(np.ones(1))
        except TypeError as error:
            raise CommandError(f"{word} must take one vector: {one_line(str(error))}") from error
        except ValueError:
            pass  # it does not tell its parameters
        return f
    if word not in PROBLEMS:
        known = ", ".join(PROBLEMS)
        raise CommandError(
            f"there is no problem {shown(word)}{nearest(word, PROBLEMS)}; there are {known}, or FILE.py:FUNCTION"
        )
    f, least = PROBLEMS[word]
    if sizes[0] < least:
        raise CommandError(f"{word} takes n of {least} at least, not {sizes[0]}")
    return f


@contextlib.contextmanager
def told(word: str) -> Iterator[None]:
    """Turn what goes wrong in a function, and what tapead cannot do with it, into a message of one line."""
    own = explained(word.rpartition(":")[0], word) if names_function(word) else contextlib.nullcontext()
    try:
        with own, np.errstate(all="ignore"):
            yield
    except (CommandError, TapeadModuleNotFoundError):
        raise
    except TapeadError as error:
        raise CommandError(one_line(f"{word}: {error}")) from error


# ---- what is shown -----------------------------------------------------------------------------------------------


def cells(m: Measurement) -> tuple[str, ...]:
    """Write a measurement as a row."""
    made = m.operations
    counts = ("?",) * 4 if made is None else (made.multiplications, made.additions, made.functions, made.total)
    return (
        m.method,
        f"{m.passes:,}",
        *(c if isinstance(c, str) else f"{c:,}" for c in counts),
        time_text(m.seconds),
        "?" if m.error is None else f"{m.error:.1e}" if m.error else "0",
    )


def show_growth(screen: Screen, found: Sequence[Measurement]) -> None:
    """Tell by which power of n the operations of each method grow."""
    rows = []
    for method in METHODS:
        own = [m for m in found if m.method == method]
        power = growth(own)
        if power is not None:
            rows.append((method, PASSES[method], f"n^{power:.1f}"))
    if rows:
        screen.table("growth, by the two largest n", ("method", "passes", "operations"), rows)
        if any(row[0] == SYMBOLIC for row in rows):
            screen.line("symbolic: each partial written out for itself, as a textbook does")


def as_dict(
    word: str, found: Sequence[Measurement], slope: Slope | None, left_out: Sequence[Missing]
) -> dict[str, Any]:
    """Give everything as what JSON holds: null for what is not known or not finite."""

    def known(x: float | None) -> float | None:
        return x if x is not None and math.isfinite(x) else None

    return {
        "problem": word,
        "measurements": [
            {
                "method": m.method,
                "n": m.n,
                "passes": m.passes,
                "operations": None if m.operations is None else vars(m.operations) | {"total": m.operations.total},
                "seconds": m.seconds,
                "error": known(m.error),
            }
            for m in found
        ],
        "slope": slope
        and {
            "n": slope.n,
            "steps": [{"step": s.step, "forward": known(s.forward), "central": known(s.central)} for s in slope.steps],
            "forward_mode": known(slope.forward_mode),
            "reverse_mode": known(slope.reverse_mode),
        },
        "left_out": [vars(missing) for missing in left_out],
    }
