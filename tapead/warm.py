"""Compile kernels before they are needed, and say so while it happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .kernels import library
from .screen import Advance, Screen


def cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def announce(screen: Screen) -> None:
    """Say that kernels are being compiled, and that this is not so every time."""
    screen.line(f"Compiling kernels (first time on this machine; kept in {library.cache_folder()})")


def compile_kernels(groups: Sequence[str], screen: Screen) -> list[str]:
    """Compile those of `groups` that the cache on disk does not hold, side by side; give their names.

    Each is compiled by a process of its own, as many at a time as there are cores, and is loaded from the
    cache when it is first needed. A process that fails costs time only: the group is then compiled here.
    """
    missing = [group for group in groups if not library.cached(group)]
    if missing:
        announce(screen)
        with screen.progress("compiling", len(missing)) as advance:
            compile_side_by_side(missing, advance)
    return missing


def compile_side_by_side(groups: Sequence[str], advance: Advance) -> None:
    """Run one process per group until all have ended; call `advance` as each does."""
    waiting = list(groups)
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < cores():
                group = waiting.pop(0)
                running[group] = (compile_apart(group), time.perf_counter())
            time.sleep(0.05)
            for group, (process, started) in list(running.items()):
                if process.poll() is not None:
                    del running[group]
                    advance(f"{group} {time.perf_counter() - started:.1f} s")
    finally:
        for process, _ in running.values():  # left only after an interrupt
            process.terminate()
            process.wait()


def compile_apart(group: str) -> subprocess.Popen[bytes]:
    """Start a process that compiles one group into the cache."""
    # -P: the tapead to import is the one of this process, not a folder that happens to be at hand.
    code = f"from tapead.kernels import library; library.load({group!r})"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def kernel_lines(screen: Screen, compiled: list[str]) -> Iterator[None]:
    """Write a line whenever a group of kernels is compiled in this process, and add it to `compiled`."""

    def hear(group: str, event: str) -> None:
        if event == "compiling":
            if not compiled:
                announce(screen)
            compiled.append(group)
        elif event == "ready" and group in compiled and library.seconds[group] > 1.0:
            screen.line(f"  {group} {library.seconds[group]:.1f} s")

    library.listeners.append(hear)
    try:
        yield
    finally:
        library.listeners.remove(hear)
