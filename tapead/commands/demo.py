"""Train on handwritten digits with gradients from the tape, check them and time them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from ..extras import require
from ..screen import PlainScreen, screen_for


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object with all figures")


def run(arguments: argparse.Namespace) -> None:
    """Train, check, time and show."""
    require("sklearn", "the demo")
    from ..demo import run, show

    if arguments.json:
        figures = run(PlainScreen(sys.stderr))
        print(json.dumps(dataclasses.asdict(figures), indent=2))
    else:
        screen = screen_for(sys.stdout)
        show(run(screen), screen)
