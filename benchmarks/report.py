"""Say what was measured, and on which machine: Markdown for people, plain data for programs."""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .measure import COLD, DERIVATIVES, FIRST, MEMORY, THREADED, WARM, Timing
from .peers import PACKAGES, Peer
from .targets import TARGETS, Ratio, is_met

KINDS = (WARM, DERIVATIVES, THREADED, FIRST, MEMORY, COLD)

OPENING, CLOSING = "<!-- benchmarks -->", "<!-- /benchmarks -->"

NOTES = (
    "A figure such as 12x means: 12 times as long as the first column, which gives the time itself; *to reach* names "
    "the least such figures that tapead is made for. Medians of repeats taken in turns in one process; float64 where "
    "nothing is said; results compared before timing. BLAS and every other pool are held to one thread; in the table "
    "*all cores* JAX, PyTorch and BLAS take as many as there are, tapead one or, in its second column, two. Every peer "
    "takes and returns arrays of its own kind (JAX: arrays on the device, `block_until_ready`, asynchronous dispatch "
    "off, which makes its small calls up to four times faster), tapead NumPy arrays with `out=`. CasADi runs through "
    "its buffer interface. *Forward sweep* is tapead's own, planned for the value alone. *Limit* is what no gradient "
    "goes below: one loop that reads every argument and writes a gradient of its size, or the eight matrix products "
    "of the MLP's sweeps by BLAS alone. JAX's loop is a `lax.scan`, for XLA takes minutes to compile 500 unrolled "
    "steps; all others run the plain loop. For the same reason JAX does not take part in the scalar graph (800 of its "
    "10,000 ops take two minutes). *Other derivatives*: `jvp` gives value and tangent, `hvp` the product of the Hessian "
    "with a vector, `jacfwd`, `jacrev` and `hessian` give full matrices, each by the peer's function of that name (JAX: "
    "forward over reverse for the hvp; autograd has no forward Jacobian; CasADi sees that Rosenbrock's Hessian has three "
    "diagonals), tapead's without `out=`; *gradient* is tapead's, called in the same way. First gradients: a new closure at each repeat in a warm process, kernels loaded; "
    "definition, tracing, compilation and one call together. Memory: what the process grows by in the first gradient, "
    "tracing included, above interpreter, libraries and argument. Cold start: medians of fresh processes."
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


def memory(count: float) -> str:
    """Write a number of bytes.

    >>> memory(123_456_789)
    '123 MB'
    """
    return f"{digits(count / 1e6)} MB"


def table(timings: Sequence[Timing], peers: Mapping[str, Peer]) -> str:
    """Write a Markdown table: a row a problem, a column a peer, figures as multiples of the first peer's.

    Where there are targets, the last column says which of them are met.
    """
    if not timings:
        return ""
    kind = timings[0].table
    write = memory if kind == MEMORY else duration
    rows: dict[str, dict[str, float]] = {}
    for timing in timings:
        rows.setdefault(timing.problem, {})[timing.peer] = timing.median
    names = [name for name in peers if any(name in figures for figures in rows.values())]
    verdicts = {problem: judge(kind, problem, figures, peers) for problem, figures in rows.items()}
    columns = [kind, *(peers[name].NAME for name in names)]
    alignment = "|---|" + "---:|" * len(names)
    if any(verdicts.values()):
        columns.append("to reach")
        alignment += "---|"
    lines = ["| " + " | ".join(columns) + " |", alignment]
    for problem, figures in rows.items():
        own = figures.get(names[0])
        cells = [write(own) if own else "-"]
        for name in names[1:]:
            other = figures.get(name)
            cells.append("-" if other is None else f"{digits(other / own)}x" if own else write(other))
        if any(verdicts.values()):
            cells.append(verdicts[problem])
        lines.append("| " + " | ".join([problem, *cells]) + " |")
    return "\n".join(lines)


def judge(kind: str, problem: str, figures: Mapping[str, float], peers: Mapping[str, Peer]) -> str:
    """Name each target of a row, and whether it is met."""
    parts = []
    for target in TARGETS.get((kind, problem), ()):
        met = is_met(target, figures)
        if isinstance(target, Ratio):
            name = peers[target.peer].NAME if target.peer in peers else target.peer
            wanted = f"{name} ≥ {digits(target.least)}x"
            if target.of != "tapead":
                wanted += " of 2 threads"
        else:
            wanted = f"≤ {duration(target.most)}"
        parts.append(f"{wanted}: {'not measured' if met is None else 'met' if met else '**missed**'}")
    return "; ".join(parts)


def report(timings: Sequence[Timing], peers: Mapping[str, Peer]) -> str:
    """Write the whole report as Markdown: the machine, one table per kind of figure, notes."""
    about = machine(peers)
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    headline = f"Measured on {about['processor']}, {about['cores']} cores, {about['system']}; {versions}."
    tables = [table([t for t in timings if t.table == kind], peers) for kind in KINDS]
    return "\n\n".join(part for part in (headline, *tables, NOTES) if part)


def plain(timings: Sequence[Timing], peers: Mapping[str, Peer]) -> dict[str, Any]:
    """Give the report as data that JSON can hold; times in seconds, memory in bytes."""
    return {"machine": machine(peers), "results": [timing.plain() for timing in timings]}


def replace_block(text: str, block: str) -> str:
    """Put `block` between the two markers of `text`; ValueError where a marker is missing."""
    before, opening, rest = text.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    if not (opening and closing):
        raise ValueError(f"there is no {OPENING} followed by {CLOSING}")
    return f"{before}{OPENING}\n{block}\n{CLOSING}{after}"
