"""Compile every kernel now, so that no later program waits for one."""

from __future__ import annotations

import argparse
import sys
import time

from ..kernels import library
from ..screen import screen_for
from ..warm import compile_kernels, kernel_lines


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options: none."""


def run(arguments: argparse.Namespace) -> None:
    """Compile what the cache does not hold, then load everything."""
    screen = screen_for(sys.stdout)
    started = time.perf_counter()
    compiled = compile_kernels(library.GROUPS, screen)
    with kernel_lines(screen, compiled):
        for group in library.GROUPS:
            library.load(group)
    screen.line(
        f"{len(library.GROUPS)} kernel groups ready, {len(compiled)} of them compiled just now, "
        f"after {time.perf_counter() - started:.1f} s; kept in {library.cache_folder()}"
    )
