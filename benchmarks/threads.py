"""Hold the libraries that would take more cores to a number of threads."""

import importlib.util
import os

# the last one is XLA's pool
VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NPROC")


def settings(threads: int) -> dict[str, str]:
    """Give the environment of a process whose BLAS, OpenMP and XLA have `threads` threads each."""
    return dict.fromkeys(VARIABLES, str(threads))


def limit_threads() -> None:
    """Give BLAS, OpenMP and XLA one thread each, unless the environment says otherwise.

    The settings are read when a library is loaded, so call this before NumPy is imported. A BLAS that is
    loaded already is limited through threadpoolctl, where that is installed.
    """
    for variable, value in settings(1).items():
        os.environ.setdefault(variable, value)
    if importlib.util.find_spec("threadpoolctl"):
        import threadpoolctl

        threadpoolctl.threadpool_limits(int(os.environ["OPENBLAS_NUM_THREADS"]))
