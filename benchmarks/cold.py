"""Measure what a process pays before its first gradient; kernels and Python's bytecode are in their caches on disk."""

import os
import subprocess
import sys
from collections.abc import Sequence

from .measure import COLD, Timing

CODE = {
    "import tapead, after numba": """
import time, numba
start = time.perf_counter()
import tapead
print(time.perf_counter() - start)
""",
    "load all kernels": """
import time, tapead
from tapead.kernels import library
start = time.perf_counter()
for group in library.GROUPS:
    library.load(group)
print(time.perf_counter() - start)
""",
    "first gradient of a new function of 20 ops": """
import time, numpy as np, tapead

def first(x):
    return np.sum(np.sin(x))

def second(x):
    z = x
    for _ in range(5):
        z = np.exp(-np.sin(z) * x)
    return np.sum(z)

x = np.linspace(0.0, 1.0, 100)
tapead.grad(first)(x)
start = time.perf_counter()
tapead.grad(second)(x)
print(time.perf_counter() - start)
""",
}


def measure(titles: Sequence[str], processes: int) -> list[Timing]:
    """Run each piece of code in as many fresh processes."""
    timings = []
    # Installing a package writes its bytecode; a checkout's is written by the first process, if it may.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", "import tapead"], check=True, env=environment)
    for title in titles:
        command = [sys.executable, "-c", CODE[title]]
        run = [
            subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
            for _ in range(processes)
        ]
        timings.append(Timing(COLD, title, "tapead", tuple(float(done.stdout) for done in run)))
    return timings
