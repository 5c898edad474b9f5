"""Say what was measured, and on which machine: Markdown for people, plain data for programs."""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .measure import FIRST, WARM, Timing
from .peers import PACKAGES, Peer

OPENING, CLOSING = "<!-- benchmarks -->", "<!-- /benchmarks -->"

NOTES = (
    "A figure such as 12x means: 12 times as long as the first column, which gives the time itself. "
    "Medians of repeats taken in turns in one process; float64; BLAS and every other pool held to one "
    "thread; results compared before timing. Every peer takes and returns arrays of its own kind (JAX: "
    "arrays on the device, `block_until_ready`, asynchronous dispatch off, which makes its small calls up "
    "to four times faster), tapead NumPy arrays with `out=`. CasADi runs through its buffer interface. "
    "JAX's loop is a `lax.scan`, for XLA takes minutes to compile 500 unrolled steps; all others run the "
    "plain loop. First gradients: a new closure at each repeat in a warm process, kernels loaded; "
    "definition, tracing, compilation and one call together."
)


def processor() -> str:
    """Name the CPU as the system knows it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine(peers: Mapping[str, Peer]) -> dict[str, Any]:
    """Name the machine and the versions that took part."""
    packages = ["numpy", "scipy", "numba", *(PACKAGES[name] for name in peers)]
    versions = {"python": platform.python_version()}
    for package in dict.fromkeys(packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def duration(seconds: float) -> str:
    """Write a time with three digits and a fitting unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{digits(seconds / scale)} {unit}"
    return f"{digits(seconds / 1e-9)} ns"


def digits(number: float) -> str:
    """Write a positive number with two significant digits, or all of them before the point.

    >>> digits(0.00123456), digits(0.56), digits(5.6789), digits(56.789), digits(12345.6)
    ('0.0012', '0.56', '5.7', '57', '12,346')
    """
    if number >= 9.95:
        return f"{number:,.0f}"
    return f"{number:.{max(1, 1 - math.floor(math.log10(number)))}f}"


def table(timings: Sequence[Timing], peers: Mapping[str, Peer]) -> str:
    """Write a Markdown table: a row a problem, a column a peer, times as multiples of the first peer's."""
    seconds = {(timing.problem, timing.peer): timing.seconds for timing in timings}
    problems = list(dict.fromkeys(timing.problem for timing in timings))
    names = [name for name in peers if any(timing.peer == name for timing in timings)]
    if not names:
        return ""
    lines = [
        "| " + " | ".join([timings[0].table, *(peers[name].NAME for name in names)]) + " |",
        "|" + "---|" + "---:|" * len(names),
    ]
    for problem in problems:
        own = seconds.get((problem, names[0]))
        cells = [duration(own) if own else "-"]
        for name in names[1:]:
            other = seconds.get((problem, name))
            cells.append("-" if other is None else f"{digits(other / own)}x" if own else duration(other))
        lines.append("| " + " | ".join([problem, *cells]) + " |")
    return "\n".join(lines)


def report(timings: Sequence[Timing], peers: Mapping[str, Peer]) -> str:
    """Write the whole report as Markdown: the machine, one table per kind of timing, notes."""
    about = machine(peers)
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    headline = f"Measured on {about['processor']}, {about['cores']} cores, {about['system']}; {versions}."
    tables = [table([t for t in timings if t.table == kind], peers) for kind in (WARM, FIRST)]
    return "\n\n".join(part for part in (headline, *tables, NOTES) if part)


def plain(timings: Sequence[Timing], peers: Mapping[str, Peer]) -> dict[str, Any]:
    """Give the report as data that JSON can hold; times in seconds."""
    results = [
        {
            "table": timing.table,
            "problem": timing.problem,
            "peer": timing.peer,
            "median": timing.seconds,
            "repeats": list(timing.repeats),
        }
        for timing in timings
    ]
    return {"machine": machine(peers), "results": results}


def replace_block(text: str, block: str) -> str:
    """Put `block` between the two markers of `text`; ValueError where a marker is missing."""
    before, opening, rest = text.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not (opening and closing):
        raise ValueError(f"there is no {OPENING} followed by {CLOSING}")
    return f"{before}{OPENING}\n{block}\n{CLOSING}{after}"
