"""Print versions, the cache folder, the processor, threads and the state of the kernels."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import version

from .. import __version__
from ..kernels import library
from ..warm import cores


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options: none."""


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each thing worth knowing."""
    for name, value in environment():
        print(f"{name:<14}{value}")


def environment() -> list[tuple[str, str]]:
    """List what is worth knowing about this installation as pairs (name, value)."""
    from llvmlite import binding

    features = [name for name, on in binding.get_host_cpu_features().items() if on]
    vector = [name for name in features if name.startswith(("sse", "avx", "fma", "neon", "sve"))]
    limits = [
        f"{name}={os.environ[name]}"
        for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        if name in os.environ
    ]
    groups = ", ".join(f"{group} {'compiled' if library.cached(group) else 'to compile'}" for group in library.GROUPS)
    return [
        ("tapead", __version__),
        ("python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"),
        *((package, version(package)) for package in ("numpy", "numba", "llvmlite", "scipy")),
        ("cache folder", library.cache_folder()),
        ("cpu", binding.get_host_cpu_name()),
        ("cpu features", " ".join(sorted(vector)) or "no vector extension found"),
        ("cores", f"{cores()} usable of {os.cpu_count()}"),
        ("threads", ", ".join(limits) or "not limited by the environment"),
        ("kernels", groups),
    ]
