"""Packages that only some features need: imported when first used, named with their extra where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import TapeadModuleNotFoundError

#: the top-level module of a package -> what the package index calls it, and the extra of tapead that brings it
EXTRAS = {
    "sklearn": ("scikit-learn", "demo"),
    "rich": ("rich", "demo"),
    "graphviz": ("graphviz", "graph"),
    "sympy": ("SymPy", "symbolic"),
    "mpmath": ("mpmath", "symbolic"),
    "matplotlib": ("matplotlib", "plot"),
}


def require(module: str, user: str) -> Any:
    """Import a module of an optional package; where it is missing, say who needs it and what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        found = EXTRAS.get((error.name or "").partition(".")[0])
        if found is None:
            raise
        package, extra = found
        raise TapeadModuleNotFoundError(
            f'{user} needs {package}, which is not installed: pip install "tapead[{extra}]"', name=error.name
        ) from None
