"""Hold the libraries that would take more cores to one thread each."""

import importlib.util
import os

SETTINGS = {
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NPROC": "1",  # XLA's pool
}


def limit_threads() -> None:
    """Give BLAS, OpenMP and XLA one thread each, unless the environment says otherwise.

    The settings are read when a library is loaded, so call this before NumPy is imported. A BLAS that is
    loaded already is limited through threadpoolctl, where that is installed.
    """
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)
    if importlib.util.find_spec("threadpoolctl"):
        import threadpoolctl

        threadpoolctl.threadpool_limits(int(os.environ["OPENBLAS_NUM_THREADS"]))
