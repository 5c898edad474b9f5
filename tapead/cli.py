"""The `tapead` command."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

from . import __version__
from .kernels import library
from .screen import PlainScreen, screen_for
from .warm import compile_kernels, cores, kernel_lines

# Modules of the extra `demo` and the packages that bring them.
EXTRAS = {"sklearn": "scikit-learn", "rich": "rich"}


def demo(arguments: argparse.Namespace) -> None:
    """Train on handwritten digits with gradients from the tape, check them and time them."""
    from .demo import run, show

    if arguments.json:
        figures = run(PlainScreen(sys.stderr))
        print(json.dumps(dataclasses.asdict(figures), indent=2))
    else:
        screen = screen_for(sys.stdout)
        show(run(screen), screen)


def warmup(arguments: argparse.Namespace) -> None:
    """Compile every kernel now, so that no later program waits for one."""
    try:
        screen = screen_for(sys.stdout)
    except ModuleNotFoundError:  # a container image needs no colours
        screen = PlainScreen(sys.stdout)
    started = time.perf_counter()
    compiled = compile_kernels(library.GROUPS, screen)
    with kernel_lines(screen, compiled):
        for group in library.GROUPS:
            library.load(group)
    screen.line(
        f"{len(library.GROUPS)} kernel groups ready, {len(compiled)} of them compiled just now, "
        f"after {time.perf_counter() - started:.1f} s; kept in {library.cache_folder()}"
    )


def info(arguments: argparse.Namespace) -> None:
    """Print versions, the cache folder, the processor, threads and the state of the kernels."""
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


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = argparse.ArgumentParser(prog="tapead", description="Gradients of NumPy code on a CPU, from a compiled tape.")
    top.add_argument("--version", action="version", version=f"tapead {__version__}")
    commands = top.add_subparsers(metavar="command", required=True)
    for command in (demo, warmup, info):
        about = (command.__doc__ or "").strip()
        sub = commands.add_parser(command.__name__, help=about, description=about)
        sub.set_defaults(command=command)
        if command is demo:
            sub.add_argument("--json", action="store_true", help="print one JSON object with all figures")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (`sys.argv` by default) and give the exit status.

    0 is success; 2 a wrong command line or a package that the command needs and does not find.
    """
    parsed = parser().parse_args(arguments)
    try:
        parsed.command(parsed)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        package = EXTRAS.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        print(
            f'tapead: {parsed.command.__name__} needs {package}, which is not installed: pip install "tapead[demo]"',
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (`tapead demo | head`); the interpreter must not flush into the void at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
