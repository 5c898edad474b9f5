"""Functions of each element that are made of several rows of the table, and comparisons of whole arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .dispatch import as_tensor, implements, record, recording_of, refuse, view
from .kernels.table import OPS, Elementwise
from .protocols import plain
from .record import find_tensor, stop_gradient
from .tensor import UFUNC_METHODS

# ---- choices -----------------------------------------------------------------------------------------------


def _condition(condition: Any) -> Any:
    """Make truth values of whatever serves as a condition."""
    lifted = as_tensor(condition) if find_tensor(condition) is not None else np.asarray(condition)
    return lifted if lifted.dtype.kind == "b" else np.not_equal(lifted, 0)


@implements(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    """Choose between x and y; with a condition alone give the places where it holds."""
    if x is None and y is None:
        return np.nonzero(condition)
    tape = recording_of(condition, x, y)
    return tape.structural("where", _condition(condition), x, y)


@implements(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """Choose by the first condition that holds."""
    y = default
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        y = where(condition, choice, y)
    return y


@implements(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **options: Any) -> Any:
    """Evaluate each function where its condition holds; one more function than conditions is for the rest."""
    x = as_tensor(x)
    if not isinstance(condlist, list | tuple):
        condlist = [condlist]
    conditions = [_condition(c) for c in condlist]
    if len(funclist) == len(conditions) + 1:
        rest = conditions[0]
        for condition in conditions[1:]:
            rest = np.logical_or(rest, condition)
        conditions.append(np.logical_not(rest))
    y = np.zeros_like(x)
    for condition, function in zip(conditions, funclist, strict=True):
        y[condition] = function(x[condition], *args, **options) if callable(function) else function
    return y


@implements(np.clip)
def clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
    **options: Any,
) -> Any:
    """Keep values between two bounds, either of which may be missing."""
    refuse("clip", out=out, **options)
    low, high = a_min if min is None else min, a_max if max is None else max
    x = as_tensor(a, recording_of(a, low, high))
    if x.dtype.kind == "f":
        return record("clip", x, -np.inf if low is None else low, np.inf if high is None else high)
    if low is None:
        return x.copy() if high is None else np.minimum(x, high)
    return np.maximum(x, low) if high is None else record("clip", x, low, high)


@implements(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """Replace NaN and infinities by numbers."""
    x = as_tensor(x)
    if x.dtype.kind != "f":
        return x.copy()
    limits = np.finfo(x.dtype)
    posinf = limits.max if posinf is None else x.dtype.type(posinf)
    neginf = limits.min if neginf is None else x.dtype.type(neginf)
    y = where(np.isnan(x), x.dtype.type(nan), x)
    return where(x == np.inf, posinf, where(x == -np.inf, neginf, y))


# ---- rounding ----------------------------------------------------------------------------------------------


@implements(np.round, np.around)
def round_(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """Round to a number of decimals, ties to even."""
    refuse("round", out=out)
    x = as_tensor(a)
    if x.dtype.kind in "iu" and decimals >= 0:
        return x.copy()
    if x.dtype.kind != "f":
        return x.tape.foreign(np.round, (x, decimals), {})
    scale = 10.0 ** abs(decimals)
    if decimals == 0:
        return np.rint(x)
    return np.rint(x * scale) / scale if decimals > 0 else np.rint(x / scale) * scale


@implements(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    """Round towards zero."""
    refuse("fix", out=out)
    return np.trunc(as_tensor(x))


@implements(np.divmod)
def divmod_(x: Any, y: Any) -> tuple[Any, Any]:
    """Give quotient, rounded down, and what is left."""
    return np.floor_divide(x, y), np.remainder(x, y)


@implements(np.modf)
def modf(x: Any) -> tuple[Any, Any]:
    """Split numbers into what follows the point and what comes before it."""
    whole = np.trunc(x)
    return np.copysign(where(np.isinf(x), 0.0, x - whole), x), whole


# ---- further functions -------------------------------------------------------------------------------------


@implements(np.sinc)
def sinc(x: Any) -> Any:
    """Give sin(πx) / (πx), 1 at 0."""
    x = as_tensor(x)
    zero = x == 0
    y = np.pi * where(zero, x.dtype.type(1), x)
    return where(zero, x.dtype.type(1), np.sin(y) / y)


@implements(np.heaviside)
def heaviside(x1: Any, x2: Any) -> Any:
    """Give 0 for negative x1, 1 for positive, x2 at 0."""
    x = as_tensor(x1, recording_of(x1, x2))
    zero, one = np.zeros((), x.dtype), np.ones((), x.dtype)
    return where(np.isnan(x), stop_gradient(x), where(x < 0, zero, where(x > 0, one, x2)))


@implements(*([np.astype] if hasattr(np, "astype") else []))  # NumPy 2.1
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """Convert to another dtype."""
    return as_tensor(x).astype(dtype, copy=copy)


@implements(np.real)
def real(val: Any) -> Any:
    """Give the real part: the array itself."""
    return as_tensor(val)


@implements(np.imag)
def imag(val: Any) -> Any:
    """Give the imaginary part: zeros."""
    return np.zeros_like(val)


@implements(np.conjugate)
def conjugate(x: Any) -> Any:
    """Give the complex conjugate: a copy."""
    return as_tensor(x).copy()


@implements(np.isreal)
def isreal(x: Any) -> Any:
    """Tell which elements are real: all."""
    return np.ones_like(x, bool)


@implements(np.iscomplex)
def iscomplex(x: Any) -> Any:
    """Tell which elements are complex: none."""
    return np.zeros_like(x, bool)


@implements(np.isposinf)
def isposinf(x: Any, out: Any = None) -> Any:
    """Tell which elements are +inf."""
    refuse("isposinf", out=out)
    return as_tensor(x) == np.inf


@implements(np.isneginf)
def isneginf(x: Any, out: Any = None) -> Any:
    """Tell which elements are -inf."""
    refuse("isneginf", out=out)
    return as_tensor(x) == -np.inf


# ---- comparisons of arrays ---------------------------------------------------------------------------------


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Tell which elements differ by less than a tolerance."""
    tape = recording_of(a, b)
    a, b = as_tensor(a, tape), as_tensor(b, tape)
    near = (np.absolute(a - b) <= atol + rtol * np.absolute(b)) & np.isfinite(b) | (a == b)
    return near | (np.isnan(a) & np.isnan(b)) if equal_nan else near


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> bool:
    """Tell whether all elements differ by less than a tolerance; the answer is guarded."""
    return bool(np.all(isclose(a, b, rtol, atol, equal_nan)))


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    """Tell whether two arrays are equal; the answer is guarded."""
    tape = recording_of(a1, a2)
    a, b = as_tensor(a1, tape), as_tensor(a2, tape)
    if a.shape != b.shape:
        return False
    same = a == b
    return bool(np.all(same | (np.isnan(a) & np.isnan(b)) if equal_nan else same))


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> bool:
    """Tell whether two arrays are equal when broadcast; the answer is guarded."""
    tape = recording_of(a1, a2)
    a, b = as_tensor(a1, tape), as_tensor(a2, tape)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return bool(np.all(a == b))


# ---- what needs no tape ------------------------------------------------------------------------------------


def _of_values(function: Callable[..., Any]) -> None:
    """Let a function of shapes, dtypes or printed text work on the values."""

    @implements(function)
    def of(*arguments: Any, **options: Any) -> Any:
        return function(*plain(arguments), **plain(options))


for _function in (
    np.shape,
    np.ndim,
    np.size,
    np.result_type,
    np.can_cast,
    np.common_type,
    np.iscomplexobj,
    np.isrealobj,
    np.may_share_memory,
    np.shares_memory,
    np.array_repr,
    np.array_str,
    np.array2string,
):
    _of_values(_function)


def _without_derivative(function: Callable[..., Any]) -> None:
    """Let NumPy's own function work on the values, at every call: it gives nothing that has a derivative."""

    @implements(function)
    def of(*arguments: Any, **options: Any) -> Any:
        tape = recording_of(*arguments, *options.values())
        return tape.foreign(function, stop_gradient(arguments), stop_gradient(options))


_without_derivative(np.isin)
_without_derivative(np.argpartition)
_without_derivative(np.lexsort)


# ---- ufunc.outer -------------------------------------------------------------------------------------------


def _outer(ufunc: np.ufunc) -> Callable[..., Any]:
    def outer(a: Any, b: Any, /, **options: Any) -> Any:
        refuse(f"{ufunc.__name__}.outer", **options)
        tape = recording_of(a, b)
        a, b = as_tensor(a, tape), as_tensor(b, tape)
        return ufunc(view(a, lambda v: v.reshape(v.shape + (1,) * b.ndim)), b)

    return outer


for _op in OPS.values():
    if isinstance(_op, Elementwise) and isinstance(_op.numpy, np.ufunc) and _op.arity == 2:
        UFUNC_METHODS[_op.numpy.__name__, "outer"] = _outer(_op.numpy)
