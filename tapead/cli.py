"""The `tapead` command."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from . import __version__
from .commands import compare, demo, info, trace, warmup
from .errors import CommandError, TapeadModuleNotFoundError

COMMANDS = (trace, compare, demo, warmup, info)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = argparse.ArgumentParser(prog="tapead", description="Gradients of NumPy code on a CPU, from a compiled tape.")
    top.add_argument("--version", action="version", version=f"tapead {__version__}")
    commands = top.add_subparsers(metavar="command", required=True)
    for command in COMMANDS:
        about = (command.__doc__ or "").strip()
        name = command.__name__.rpartition(".")[2]
        sub = commands.add_parser(name, help=about.partition("\n")[0], description=about)
        sub.set_defaults(run=command.run, name=name)
        command.add(sub)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (`sys.argv` by default) and give the exit status.

    0 is success; 2 a wrong command line, input that cannot be used, or a package that is needed and not installed.
    """
    parsed = parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every encoding has ∂
    try:
        parsed.run(parsed)
        sys.stdout.flush()
    except (CommandError, TapeadModuleNotFoundError) as error:
        print(f"tapead: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # The interpreter must not try once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader has gone (`tapead demo | head`)
            return 1
        print(f"tapead: cannot go on: {error}", file=sys.stderr)
        return 2
    return 0
