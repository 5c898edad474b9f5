"""What `python -m benchmarks` does."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cold, measure, memory, peers, plot, problems, report
from .measure import Timing
from .threads import settings

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "benchmarks" / "elementwise.svg"


@dataclass(frozen=True)
class Pace:
    """Say how much time goes into figures.

    These are the rounds of warm calls and of first gradients, the seconds that one call may take of all its rounds,
    the points of the curve, and the processes that start cold.
    """

    warm: int
    first: int
    budget: float
    points: int
    processes: int


FULL = Pace(warm=25, first=5, budget=1.5, points=7, processes=5)
QUICK = Pace(warm=5, first=0, budget=0.2, points=6, processes=2)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to FILE")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw time against n to FILE (.svg, .png)")
    parser.add_argument("--readme", action="store_true", help="replace the figures and the picture in README.md")
    parser.add_argument(
        "--quick", action="store_true", help="rough figures in two minutes: few repeats, no first gradients"
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="only rows whose title contains TEXT")
    parser.add_argument("--peers", nargs="+", choices=peers.PACKAGES, default=list(peers.PACKAGES), help="only these")
    parser.add_argument("--session", choices=SESSIONS, help=argparse.SUPPRESS)  # what a child process measures
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Time every installed peer on every problem, print the tables, and say which targets are met."""
    chosen = parse(arguments)
    if chosen.session:
        timings = SESSIONS[chosen.session](chosen)
        print(json.dumps([timing.plain() for timing in timings]))
        return 0
    readme = ROOT / "README.md"
    if chosen.readme:
        report.replace_block(readme.read_text(), "")  # better to fail before the long run than after it

    timings = [timing for session in SESSIONS for timing in run_apart(session, chosen)]
    if chosen.only in memory.TITLE:
        timings += memory.measure([name for name in memory.PEERS if name in chosen.peers])
    timings += cold.measure([title for title in cold.CODE if chosen.only in title], pace(chosen).processes)
    found = peers.installed(chosen.peers)
    text = report.report(timings, found)
    print(text)
    if chosen.json:
        chosen.json.write_text(json.dumps(report.plain(timings, found), indent=1) + "\n")
    if chosen.plot:
        plot.draw(timings, found, chosen.plot)
    if chosen.readme:
        plot.draw(timings, found, PICTURE)
        picture = f"![{plot.TITLE}]({PICTURE.relative_to(ROOT).as_posix()})"
        readme.write_text(report.replace_block(readme.read_text(), f"{text}\n\n{picture}"))
    return 0


def pace(chosen: argparse.Namespace) -> Pace:
    return QUICK if chosen.quick else FULL


def run_apart(session: str, chosen: argparse.Namespace) -> list[Timing]:
    """Measure a session in a process of its own: libraries take their number of threads when they are loaded."""
    command = [sys.executable, "-m", "benchmarks", "--session", session, "--only", chosen.only]
    command += ["--peers", *chosen.peers, *(["--quick"] if chosen.quick else [])]
    threads = 1 if session == "alone" else os.cpu_count() or 1
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | settings(threads), stdout=subprocess.PIPE, check=True, text=True
    )
    return [Timing.read(figures) for figures in json.loads(done.stdout)]


def measure_alone(chosen: argparse.Namespace) -> list[Timing]:
    """Time every problem on one thread, then derivatives of other kinds, then the elementwise loss at every size."""
    rate = pace(chosen)
    found = {name: peer for name, peer in peers.installed(chosen.peers).items() if name != "threaded"}
    timings: list[Timing] = []
    for problem in picked(problems.FULL, chosen):
        runs = measure.prepare(problem, found)
        timings += measure.measure_warm(problem, runs, repeats=rate.warm, budget=rate.budget)
        if rate.first:
            known = {name: found[name] for name, run in runs.items() if run.read is not None}
            timings += measure.measure_first(problem, known, repeats=rate.first, budget=rate.budget)
    for problem in picked(problems.DERIVATIVES, chosen):
        runs = measure.prepare(problem, found)
        timings += measure.measure_warm(problem, runs, measure.DERIVATIVES, repeats=rate.warm, budget=rate.budget)
    curve = {name: peer for name, peer in found.items() if name not in plot.LEFT_OUT}
    for problem in picked(problems.CURVE[: rate.points], chosen):
        runs = measure.prepare(problem, curve)
        timings += measure.measure_warm(problem, runs, measure.CURVE, repeats=rate.warm, budget=rate.budget / 3)
    return timings


def measure_threaded(chosen: argparse.Namespace) -> list[Timing]:
    """Time the large elementwise problems once more; whoever takes more cores may do so."""
    rate = pace(chosen)
    found = peers.installed(chosen.peers)
    timings: list[Timing] = []
    for problem in picked(problems.THREADED, chosen):
        runs = measure.prepare(problem, found)
        timings += measure.measure_warm(problem, runs, measure.THREADED, repeats=rate.warm, budget=rate.budget)
    return timings


def picked(makers: Sequence[Callable[[], problems.Problem]], chosen: argparse.Namespace) -> list[problems.Problem]:
    return [problem for problem in problems.available(makers) if chosen.only in problem.title]


SESSIONS: dict[str, Callable[[argparse.Namespace], list[Timing]]] = {
    "alone": measure_alone,
    "threaded": measure_threaded,
}
