"""tapead: gradients of ordinary NumPy code, by a tape that numba sweeps."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from . import numpy
from .api import grad, value_and_grad
from .check import check_grads, numerical_grad
from .declaration import primitive
from .define import Tape
from .derivatives import hessian, hessian_diag, hvp, jacfwd, jacobian, jacrev, jvp, laplacian, linearize, vhp, vjp
from .errors import TapeadError
from .explanation import explain, profile
from .finite import debug_nans
from .parallel import get_threads, set_threads, threads
from .primitive_check import check_primitive
from .record import stop_gradient
from .rules import checkpoint, custom_jvp, custom_vjp
from .switches import PASSES, options
from .tensor import Tensor

if TYPE_CHECKING:
    from . import symbolic
    from .trace_tables import trace_table

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
    "check_primitive",
    "checkpoint",
    "custom_jvp",
    "custom_vjp",
    "debug_nans",
    "explain",
    "get_threads",
    "grad",
    "hessian",
    "hessian_diag",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "laplacian",
    "linearize",
    "numerical_grad",
    "numpy",
    "options",
    "primitive",
    "profile",
    "set_threads",
    "stop_gradient",
    "symbolic",
    "threads",
    "trace_table",
    "value_and_grad",
    "vhp",
    "vjp",
]


def __getattr__(name: str) -> Any:
    """Import what is not needed for gradients when it is first asked for."""
    if name == "symbolic":
        return import_module(".symbolic", __name__)
    if name == "trace_table":
        found = globals()[name] = import_module(".trace_tables", __name__).trace_table
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
