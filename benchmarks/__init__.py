"""Time the gradients of tapead beside those of its peers.

`python -m benchmarks` (from the repository's root) interleaves all installed peers in one process and prints
tables of ratios; `pytest benchmarks/ --benchmark-only` runs the same calls through pytest-benchmark.
"""
