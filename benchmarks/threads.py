"""Hold the libraries that would take more cores to one thread each."""

import importlib.util
import os

VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # the size of XLA's thread pool
)


def limit_threads() -> None:
    """Give BLAS, OpenMP and XLA one thread each.

    The variables are read when a library is loaded, so call this before NumPy is imported. A BLAS that is
    loaded already is limited through threadpoolctl, where that is installed.
    """
    for variable in VARIABLES:
        os.environ[variable] = "1"
    if importlib.util.find_spec("threadpoolctl"):
        import threadpoolctl

        threadpoolctl.threadpool_limits(1)
