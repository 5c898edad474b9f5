"""Switches: which passes of the planner are on, and a pause of Python's garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import TapeadTypeError, TapeadValueError

#: the passes of the planner, all of which can be switched off; results must not depend on them. In the order in which
#: they work: dead code goes, constants are folded, what is computed twice is shared; instructions join in blocks, blocks
#: turn (run both sweeps at a stroke), keep what is dear for the reverse sweep, store adjoints that they are first to
#: touch; rows over large arrays run strip by strip; memory is used again
PASSES = frozenset({"dead", "fold", "share", "blocks", "turn", "keep", "first", "strips", "reuse"})

_on: ContextVar[frozenset[str]] = ContextVar("passes", default=PASSES)


def passes_on() -> frozenset[str]:
    """Give the passes that are on in this context."""
    return _on.get()


@contextmanager
def options(passes: Iterable[str] = PASSES) -> Iterator[None]:
    """Let functions that are traced within the `with` be planned by some passes only: these, and no others.

    For tests and measurements: values and gradients stay the same but for rounding. `tapead.PASSES` names all passes,
    so `tapead.PASSES - {"turn"}` is all but one. What was traced before stays as it is, and what is traced within
    stays so afterwards. It holds in this thread (or asynchronous task) alone.

    Raises ValueError for an unknown name, TypeError for a single string.

    >>> import numpy as np, tapead
    >>> with tapead.options(passes=tapead.PASSES - {"turn"}):
    ...     tapead.grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0])).tolist()
    [3.0, 12.0]
    """
    if isinstance(passes, str) or not isinstance(passes, Iterable):
        raise TapeadTypeError(f"passes must be several names, as in {{'fold', 'share'}}, not {passes!r}")
    chosen = frozenset(passes)
    unknown = sorted(map(str, chosen - PASSES))
    if unknown:
        raise TapeadValueError(f"unknown passes: {', '.join(unknown)}; there are {', '.join(sorted(PASSES))}")
    token = _on.set(chosen)
    try:
        yield
    finally:
        _on.reset(token)


#: objects that take the collector tens of milliseconds to search; fewer are left to it
MANY = 100_000


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's garbage collector from running: recording and drawing make many objects, all of which stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            # many objects join the oldest ones: else all of them would be searched at once. Not where the user has frozen
            # objects, which would thaw, too
            if gc.get_count()[0] > MANY and not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()
