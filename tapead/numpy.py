"""NumPy, for ordinary arrays and traced values alike: `import tapead.numpy as tnp`.

Every function and ufunc of NumPy that has a rule is here under its own name. Called with ordinary arrays it
is NumPy's own; called with traced values, or lists of them, it records. Beside them are the functions that
NumPy does not hand over: `zeros`, `ones`, `full`, `empty`, `eye`, `array`, `asarray` and others. While a
function is traced they give traced arrays, so that `y = tnp.zeros(3); y[0] = x[1] ** 2` works there.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import (
    contraction,
    joining,
    linear,
    placement,
    pointwise,
    products,
    reductions,
    selection,
    shaping,
    statistics,
)
from .errors import TapeadAttributeError
from .protocols import FUNCTIONS_BY_UFUNC, UFUNCS
from .record import find_tensor, live_recordings
from .shaping import filled
from .tape import number_class
from .tensor import FUNCTIONS, Tensor

_RULES = (
    contraction,
    joining,
    linear,
    placement,
    pointwise,
    products,
    reductions,
    selection,
    shaping,
    statistics,
)


# ---- new arrays ------------------------------------------------------------------------------------------


def full(shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C") -> Any:
    """Make an array full of one value, which may be traced.

    While a function is traced this is a traced array, and can be assigned to; elsewhere it is NumPy's.

    >>> import numpy as np, tapead, tapead.numpy as tnp
    >>> print(tapead.grad(lambda x: np.sum(tnp.full(3, x[0])))(np.array([1.0, 2.0])))
    [3. 0.]
    """
    if not live_recordings():
        return np.full(shape, fill_value, dtype, order)
    kind = dtype or (fill_value.dtype if type(fill_value) is Tensor else np.result_type(np.asarray(fill_value)))
    return filled(shape, fill_value, kind, live_recordings()[-1])


def zeros(shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    """Make an array of zeros; traced, and so open to assignment, while a function is traced.

    >>> import numpy as np, tapead, tapead.numpy as tnp
    >>> def f(x):
    ...     y = tnp.zeros(2)
    ...     y[1] = x[0] ** 2
    ...     return np.sum(y)
    >>> print(tapead.grad(f)(np.array([3.0, 1.0])))
    [6. 0.]
    """
    return full(shape, 0, dtype, order)


def ones(shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    """Make an array of ones; traced, and so open to assignment, while a function is traced.

    >>> import tapead.numpy as tnp
    >>> print(tnp.ones(2))
    [1. 1.]
    """
    return full(shape, 1, dtype, order)


def empty(shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    """Make an array to be filled, of zeros; traced, and so open to assignment, while a function is traced.

    >>> import tapead.numpy as tnp
    >>> print(tnp.empty(2))
    [0. 0.]
    """
    return full(shape, 0, dtype, order)


def array(object: Any, dtype: Any = None, *, copy: bool = True, order: Any = "K", ndmin: int = 0) -> Any:
    """Make a new array of an array, a number, or nested lists, any of which may be traced.

    >>> import numpy as np, tapead, tapead.numpy as tnp
    >>> print(tapead.grad(lambda x: np.sum(tnp.array([[x[0], 2.0], [x[1], x[0]]])))(np.array([1.0, 2.0])))
    [2. 1.]
    """
    if not live_recordings():
        return np.array(object, dtype, copy=copy, order=order, ndmin=ndmin)
    tape = live_recordings()[-1]
    if find_tensor(object) is None:
        plain = np.array(object, dtype, order="C")
        y = plain if number_class(plain.dtype) is None else filled(plain.shape, plain, plain.dtype, tape)
    else:
        x = tape.tensor(object)
        y = tape.cast(x, x.dtype if dtype is None else np.dtype(dtype)) if copy or dtype is not None else x
    return y if y.ndim >= ndmin else y.reshape((1,) * (ndmin - y.ndim) + y.shape)


def asarray(a: Any, dtype: Any = None, order: Any = None) -> Any:
    """Make an array of whatever is none: a traced value stays, nested lists may hold traced numbers.

    >>> import tapead.numpy as tnp
    >>> print(tnp.asarray([1, 2]))
    [1 2]
    """
    if type(a) is Tensor:
        return a if dtype is None else a.astype(dtype, copy=False)
    return array(a, dtype) if live_recordings() else np.asarray(a, dtype, order)


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float, order: Any = "C") -> Any:
    """Make a matrix with ones on a diagonal; traced, and so open to assignment, while a function is traced.

    >>> import tapead.numpy as tnp
    >>> print(tnp.eye(2))
    [[1. 0.]
     [0. 1.]]
    """
    return array(np.eye(N, M, k, dtype, order))


def identity(n: int, dtype: Any = float) -> Any:
    """Make an identity matrix; traced, and so open to assignment, while a function is traced.

    >>> import tapead.numpy as tnp
    >>> print(tnp.identity(1))
    [[1.]]
    """
    return eye(n, dtype=dtype)


# ---- NumPy's own names -----------------------------------------------------------------------------------


def _either(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call a function's rule where an argument is, or holds, a traced value, else the function."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if find_tensor(arguments) is None and find_tensor([*options.values()]) is None:
            return function(*arguments, **options)
        return FUNCTIONS[function](*arguments, **options)

    return call


def _collect(namespace: Any) -> dict[str, Any]:
    """Collect from one of NumPy's namespaces what has a rule."""
    found: dict[str, Any] = {}
    for name, value in vars(namespace).items():  # dir() and getattr() would import all that NumPy has
        if name.startswith("_"):
            continue
        if isinstance(value, np.ufunc):
            if value.__name__ in UFUNCS or value.__name__ in FUNCTIONS_BY_UFUNC:
                found[name] = value
        elif callable(value) and not isinstance(value, type) and value in FUNCTIONS:
            found[name] = _either(value)
    return found


#: names that are NumPy's own for traced values, too
_PLAIN = """
    arange tri tril_indices triu_indices tril_indices_from triu_indices_from diag_indices indices ix_ s_
    ndindex broadcast_shapes finfo iinfo dtype ndarray errstate isscalar pi e euler_gamma inf nan newaxis
    bool_ int8 int16 int32 int64 uint8 uint16 uint32 float32 float64 floating integer number generic
""".split()  # noqa: SIM905

linalg = SimpleNamespace(**_collect(np.linalg), LinAlgError=np.linalg.LinAlgError)
_collected = _collect(np)
globals().update({name: getattr(np, name) for name in _PLAIN} | _collected)

_OWN = ["array", "asarray", "empty", "eye", "full", "identity", "linalg", "ones", "zeros"]
__all__ = sorted({*_OWN, *_PLAIN, *_collected})


def __getattr__(name: str) -> Any:
    close = difflib.get_close_matches(name, __all__, n=3, cutoff=0.5)
    nearest = f" Nearest: {', '.join(close)}." if close else ""
    what = f"np.{name} has no rule." if hasattr(np, name) else f"NumPy has no {name!r}."
    raise TapeadAttributeError(f"tapead.numpy has no attribute {name!r}: {what}{nearest}")


def __dir__() -> list[str]:
    return __all__
