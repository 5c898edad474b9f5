"""Sums, means, extremes and the like, along any axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .dispatch import as_tensor, axes_of, here, implements, record, refuse, view
from .errors import TapeadTypeError
from .record import stop_gradient
from .selection import rows, unrow
from .shaping import reshape
from .tensor import UFUNC_METHODS


def dropped(x: Any, axes: tuple[int, ...], keepdims: Any) -> Any:
    """Take out axes of one element, unless they are to be kept; a number where none is left."""
    if keepdims is True or not axes:
        return x
    if x.ndim == 1:
        return x[0]
    return x[tuple(0 if a in axes else slice(None) for a in range(x.ndim))]


def laid(y: Any, x: Any, axes: tuple[int, ...], keepdims: Any) -> Any:
    """Give one number a row the shape that x has without the axes that its rows were made of."""
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape) if keepdims is True or a not in axes)
    return view(y, lambda v: v.reshape(kept)) if kept else y[0]


# ---- sums --------------------------------------------------------------------------------------------------


@implements(np.sum)
def sum_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Add up along axes."""
    refuse("sum", out=out, initial=initial, where=where)
    x = as_tensor(a)
    if dtype is not None:
        x = x.astype(dtype, copy=False)
    axes = axes_of(axis, x.ndim)
    if x.dtype.kind == "u":  # NumPy's sum is uint64
        return x.tape.foreign(np.sum, (x, axes), {"keepdims": keepdims})
    return dropped(x.tape.sum(x, axes), axes, keepdims)


def floating(a: Any, dtype: Any) -> Any:
    """Give what is averaged in floating point: integers become float64."""
    x = as_tensor(a)
    if dtype is not None:
        return x.astype(dtype, copy=False)
    return x.astype(np.float64) if x.dtype.kind in "iub" else x


def count(x: Any, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[a] for a in axes)


@implements(np.mean)
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    """Average along axes."""
    refuse("mean", out=out, where=where)
    x = floating(a, dtype)
    axes = axes_of(axis, x.ndim)
    return dropped(x.tape.sum(x, axes) / count(x, axes), axes, keepdims)


@implements(np.var)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    **options: Any,
) -> Any:
    """Average the squared deviations from the mean along axes."""
    ddof = options.pop("correction", ddof)
    centre = options.pop("mean", np._NoValue)
    refuse("var", out=out, **options)
    x = floating(a, dtype)
    axes = axes_of(axis, x.ndim)
    n = count(x, axes)
    deviations = x - (x.tape.sum(x, axes) / n if centre is np._NoValue else centre)
    return dropped(x.tape.sum(deviations * deviations, axes) / max(n - ddof, 0), axes, keepdims)


@implements(np.std)
def std(*arguments: Any, **options: Any) -> Any:
    """Take the root of the variance along axes; where all elements are equal its derivative is 0."""
    return record("norm_root", var(*arguments, **options))


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    """Count along axes what is not zero."""
    return sum_(np.not_equal(as_tensor(a), 0), axis, keepdims=keepdims)


@implements(np.any)
def any_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    """Tell along axes whether anything is not zero."""
    refuse("any", out=out, where=where)
    return count_nonzero(a, axis, keepdims=keepdims) > 0


@implements(np.all)
def all_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True) -> Any:
    """Tell along axes whether nothing is zero."""
    refuse("all", out=out, where=where)
    return sum_(np.equal(as_tensor(a), 0), axis, keepdims=keepdims) == 0


# ---- products and running sums -----------------------------------------------------------------------------


def _wide(a: Any, dtype: Any) -> Any:
    """Give what is multiplied or added up one by one: small integers become int64, as NumPy has it."""
    x = as_tensor(a)
    if dtype is None and x.dtype.kind in "ib":
        dtype = np.int64
    return x if dtype is None else x.astype(dtype, copy=False)


@implements(np.prod)
def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Multiply along axes."""
    refuse("prod", out=out, initial=initial, where=where)
    x = _wide(a, dtype)
    axes = axes_of(axis, x.ndim)
    if x.dtype.kind == "u":
        return x.tape.foreign(np.prod, (x, axes), {"keepdims": keepdims})
    return laid(record("prod", rows(x, axes)), x, axes, keepdims)


@implements(np.cumsum)
def cumsum(a: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """Give running sums along an axis."""
    refuse("cumsum", out=out)
    x = _wide(a, dtype)
    if x.dtype.kind == "u":
        return x.tape.foreign(np.cumsum, (x, axis), {})
    if axis is None or x.ndim == 0:
        x, axis = reshape(x, -1), 0
    (place,) = axes_of(axis, x.ndim)
    return unrow(record("cumsum", rows(x, (place,))), x.shape, place)


@implements(np.cumprod)
def cumprod(a: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """Give running products along an axis: of n elements in n² steps, right where some are zero."""
    refuse("cumprod", out=out)
    x = _wide(a, dtype)
    if x.dtype.kind == "u":
        return x.tape.foreign(np.cumprod, (x, axis), {})
    if axis is None or x.ndim == 0:
        x, axis = reshape(x, -1), 0
    (place,) = axes_of(axis, x.ndim)
    lying = rows(x, (place,))
    before = np.where(np.tri(x.shape[place], dtype=bool), lying[:, None, :], np.ones((), x.dtype))
    return unrow(prod(before, 2), x.shape, place)


# ---- extremes ----------------------------------------------------------------------------------------------


def _extreme(name: str) -> Callable[..., Any]:
    def extreme(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        refuse(name, out=out, initial=initial, where=where)
        x = as_tensor(a)
        axes = axes_of(axis, x.ndim)
        if x.dtype.kind == "b":
            return extreme(x.astype(np.int64), axes, keepdims=keepdims).astype(bool)
        return laid(record(name, rows(x, axes)), x, axes, keepdims)

    extreme.__doc__ = f"Give the {name} along axes; ties share the derivative."
    return extreme


max_ = implements(np.max, np.amax)(_extreme("max"))
min_ = implements(np.min, np.amin)(_extreme("min"))


def _place(name: str) -> Callable[..., Any]:
    def place(a: Any, axis: int | None = None, out: Any = None, *, keepdims: Any = False) -> Any:
        refuse(name, out=out)
        x = as_tensor(a)
        axes = axes_of(axis, x.ndim)
        lying = rows(x, axes)
        return laid(record(name, lying.astype(np.int64) if lying.dtype.kind == "b" else lying), x, axes, keepdims)

    place.__doc__ = f"Give the index that {name} gives."
    return place


argmax = implements(np.argmax)(_place("argmax"))
argmin = implements(np.argmin)(_place("argmin"))


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """Give the range of values along axes."""
    refuse("ptp", out=out)
    return max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims)


# ---- log of a sum of exponentials --------------------------------------------------------------------------


def logsumexp(a: Any, axis: Any = None, keepdims: Any = False, b: Any = None) -> Any:
    """Give log(sum(b exp(a))) along axes; where the sum is 0 or infinite no derivative flows."""
    x = floating(a, None)
    axes = axes_of(axis, x.ndim)
    top = stop_gradient(max_(x, axes, keepdims=True))
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    terms = np.exp(x - top)
    total = x.tape.sum(terms if b is None else b * terms, axes)
    empty = total == 0
    y = np.where(empty, x.dtype.type(-np.inf), np.log(np.where(empty, x.dtype.type(1), total)) + top)
    return dropped(y, axes, keepdims)


# ---- ufunc.reduce and ufunc.accumulate ---------------------------------------------------------------------


def _reduce(of: Callable[..., Any], takes_dtype: bool = False) -> Callable[..., Any]:
    """Make ufunc.reduce of a function: it reduces axis 0 unless told otherwise."""

    def reduce(
        array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any
    ) -> Any:
        refuse("ufunc.reduce", out=out, dtype=None if takes_dtype else dtype, **options)
        extra = {"dtype": dtype} if takes_dtype else {}
        return of(array, axis, keepdims=keepdims, **extra)

    return reduce


def _accumulate(of: Callable[..., Any]) -> Callable[..., Any]:
    def accumulate(array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        refuse("ufunc.accumulate", out=out)
        if axis is None:
            raise TapeadTypeError(f"ufunc.accumulate takes one axis, at {here()}")
        return of(array, axis, dtype)

    return accumulate


UFUNC_METHODS["add", "reduce"] = _reduce(sum_, True)
UFUNC_METHODS["multiply", "reduce"] = _reduce(prod, True)
UFUNC_METHODS["maximum", "reduce"] = _reduce(max_)
UFUNC_METHODS["minimum", "reduce"] = _reduce(min_)
UFUNC_METHODS["logical_and", "reduce"] = _reduce(all_)
UFUNC_METHODS["logical_or", "reduce"] = _reduce(any_)
UFUNC_METHODS["logaddexp", "reduce"] = _reduce(logsumexp)
UFUNC_METHODS["add", "accumulate"] = _accumulate(cumsum)
UFUNC_METHODS["multiply", "accumulate"] = _accumulate(cumprod)
