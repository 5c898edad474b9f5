"""Settings for `pytest benchmarks/ --benchmark-only`."""

from .threads import limit_threads

limit_threads()
