"""Measure the peak memory of one gradient: `python -m benchmarks.memory PEER N` prints it in bytes."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import peers, problems
from .measure import MEMORY, Timing

PEERS = ("tapead", "torch")
SIZE = 10_000_000
TITLE = problems.long_chain(1).title.partition(",")[0] + f", n={SIZE:,}"


def measure(names: Sequence[str], n: int = SIZE) -> list[Timing]:
    """Ask a process of its own for each of those peers that are installed."""
    timings = []
    for name in peers.installed(names):
        command = [sys.executable, "-m", "benchmarks.memory", name, str(n)]
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, check=True, text=True)
        timings.append(Timing(MEMORY, TITLE, name, (float(done.stdout),)))
    return timings


def peak_of_gradient(name: str, n: int) -> int:
    """Give the bytes that the process grows by in the first gradient of that size, its trace included.

    A small gradient beforehand loads what is loaded once. The argument is there before; the gradient is not, for
    memory that nobody has written to does not count.
    """
    peer = peers.installed([name])[name]
    small = peer.prepare(problems.long_chain(1000))
    large = peer.prepare(problems.long_chain(n))
    assert small is not None
    assert large is not None
    small.call()
    before = peak()
    large.call()
    return peak() - before


def peak() -> int:
    """Give the most bytes that this process has had in memory so far."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage counts what the parent had before it started this program
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    print(peak_of_gradient(sys.argv[1], int(sys.argv[2])))
