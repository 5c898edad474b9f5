"""tapead on two threads, where it offers them."""

from typing import Any

import tapead

from ..problems import Problem
from . import Run
from .tapead import prepare as prepare_alone

NAME = "tapead, 2 threads"

set_threads = getattr(tapead, "set_threads", None)


def prepare(problem: Problem) -> Run | None:
    """Wrap tapead's call: two threads before it, one again after it."""
    if set_threads is None:
        return None
    alone = prepare_alone(problem)

    def call() -> Any:
        set_threads(2)
        try:
            return alone.call()
        finally:
            set_threads(1)

    return Run(call, alone.read)
