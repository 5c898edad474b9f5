"""tapead: gradients of ordinary NumPy code, by a tape that numba sweeps."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import numpy
from .api import grad, value_and_grad
from .define import Tape
from .derivatives import hessian, hessian_diag, hvp, jacfwd, jacobian, jacrev, jvp, laplacian, linearize, vhp, vjp
from .errors import TapeadError
from .finite import debug_nans
from .parallel import get_threads, set_threads, threads
from .record import stop_gradient
from .rules import checkpoint, custom_jvp, custom_vjp
from .switches import PASSES, options
from .tensor import Tensor

if TYPE_CHECKING:
    from . import symbolic
    from .check import check_grads, numerical_grad
    from .declaration import primitive
    from .explanation import explain, profile
    from .primitive_check import check_primitive
    from .trace_tables import trace_table

    __version__: str

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


#: what the first gradient does not need -> the module that has it, which is imported when it is asked for
_LATER = {
    "check_grads": "check",
    "check_primitive": "primitive_check",
    "explain": "explanation",
    "numerical_grad": "check",
    "primitive": "declaration",
    "profile": "explanation",
    "trace_table": "trace_tables",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        found = getattr(import_module(f".{_LATER[name]}", __name__), name)
    elif name == "symbolic":
        found = import_module(".symbolic", __name__)
    elif name == "__version__":
        found = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(__name__)
    except PackageNotFoundError:  # an uninstalled checkout
        return "0+unknown"
