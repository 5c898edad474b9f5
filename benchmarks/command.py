"""What `python -m benchmarks` does."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import measure, peers, problems, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Time every installed peer on every problem, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    parser.add_argument("--readme", action="store_true", help="replace the block of figures in README.md")
    parser.add_argument("--quick", action="store_true", help="few repeats: rough figures in about a minute")
    parser.add_argument("--peers", nargs="+", choices=peers.PACKAGES, default=list(peers.PACKAGES), help="only these")
    chosen = parser.parse_args(arguments)

    readme = Path(__file__).parent.parent / "README.md"
    if chosen.readme:
        report.replace_block(readme.read_text(), "")  # better to fail before the long run than after it
    limits_warm = {"repeats": 5, "budget": 0.5} if chosen.quick else {"repeats": 25, "budget": 5.0}
    limits_first = {"repeats": 2, "budget": 0.5} if chosen.quick else {"repeats": 7, "budget": 3.0}
    found = peers.installed(chosen.peers)
    timings: list[measure.Timing] = []
    for problem in problems.available(problems.FULL):
        print(problem.title, file=sys.stderr, flush=True)
        timings += measure.measure_warm(problem, found, **limits_warm)
        timings += measure.measure_first(problem, found, **limits_first)

    text = report.report(timings, found)
    print(text)
    if chosen.json:
        chosen.json.write_text(json.dumps(report.plain(timings, found), indent=1) + "\n")
    if chosen.readme:
        readme.write_text(report.replace_block(readme.read_text(), text))
    return 0
