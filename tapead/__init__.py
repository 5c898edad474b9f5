"""tapead: gradients of ordinary NumPy code, by a tape that numba sweeps."""

from importlib.metadata import PackageNotFoundError, version

from . import numpy
from .api import grad, value_and_grad
from .check import check_grads, numerical_grad
from .define import Tape
from .errors import TapeadError
from .explanation import explain, profile
from .record import stop_gradient
from .switches import PASSES, options
from .tensor import Tensor

try:
    __version__ = version("tapead")
except PackageNotFoundError:  # an uninstalled checkout
    __version__ = "0+unknown"

__all__ = [
    "PASSES",
    "Tape",
    "TapeadError",
    "Tensor",
    "__version__",
    "check_grads",
    "explain",
    "grad",
    "numerical_grad",
    "numpy",
    "options",
    "profile",
    "stop_gradient",
    "value_and_grad",
]
