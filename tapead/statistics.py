"""Weighted means, order statistics, and reductions that leave NaN out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .dispatch import as_tensor, axes_of, here, implements, record, recording_of, refuse, view
from .errors import TapeadValueError
from .record import stop_gradient
from .reductions import any_, count, floating, laid, max_, mean, min_, prod, sum_
from .selection import rows


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    """Average along axes, with weights."""
    tape = recording_of(a, weights)
    x = as_tensor(a, tape)
    axes = axes_of(axis, x.ndim)
    if weights is None:
        y, total = mean(x, axes, keepdims=keepdims), count(x, axes)
    else:
        w = as_tensor(weights, tape)
        if w.shape != x.shape:
            if w.shape != tuple(x.shape[a] for a in axes):
                raise TapeadValueError(f"weights of shape {w.shape} fit no axes of {x.shape}, at {here()}")
            w = view(w, lambda v: np.transpose(v, np.argsort(axes)))
            w = view(w, lambda v: v.reshape([n if a in axes else 1 for a, n in enumerate(x.shape)]))
            w = view(w, lambda v: np.broadcast_to(v, x.shape))
        total = sum_(w, axes, keepdims=keepdims)
        y = sum_(x * w, axes, keepdims=keepdims) / total
    return (y, np.broadcast_to(total, y.shape).copy() if y.ndim else total) if returned else y


# ---- order statistics --------------------------------------------------------------------------------------


@implements(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = False,
    **options: Any,
) -> Any:
    """Give quantiles along axes, linear between the two nearest elements; NaN where there is one."""
    refuse("quantile", out=out, method=None if method == "linear" else method, **options)
    x = floating(a, None)
    q = stop_gradient(q).tolist() if hasattr(q, "tape") else q
    axes = axes_of(axis, x.ndim)
    lying = np.sort(rows(x, axes), axis=1)
    n = lying.shape[1]
    made = []
    for part in np.ravel(q):
        if not 0 <= part <= 1:
            raise TapeadValueError(f"Quantiles must be in the range [0, 1], at {here()}")
        low = min(int(np.floor(part * (n - 1))), n - 1)
        high, share = min(low + 1, n - 1), part * (n - 1) - low
        y = lying[:, low] + (lying[:, high] - lying[:, low]) * float(share)
        last = lying[:, -1]
        made.append(laid(np.where(np.isnan(last), last, y), x, axes, keepdims))
    if np.ndim(q) == 0:
        return made[0]
    dtype = np.result_type(x.dtype, np.asarray(q).dtype)
    return np.reshape(np.stack(made, dtype=dtype), np.shape(q) + made[0].shape)


@implements(np.percentile)
def percentile(a: Any, q: Any, *arguments: Any, **options: Any) -> Any:
    """Give percentiles along axes, linear between the two nearest elements."""
    return quantile(a, np.true_divide(q, 100), *arguments, **options)


@implements(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    """Give the middle element along axes, or the mean of the two in the middle; NaN where there is one."""
    refuse("median", out=out)
    x = floating(a, None)
    axes = axes_of(axis, x.ndim)
    lying = np.sort(rows(x, axes), axis=1)
    n = lying.shape[1]
    if n == 0:
        return mean(x, axes, keepdims=keepdims)
    middle, last = mean(lying[:, (n - 1) // 2 : n // 2 + 1], 1), lying[:, -1]
    return laid(np.where(np.isnan(last), last, middle), x, axes, keepdims)


# ---- without NaN -------------------------------------------------------------------------------------------


def _filled(a: Any, value: float) -> tuple[Any, Any]:
    """Put a number where NaN is; tell where there is a number."""
    x = as_tensor(a)
    if x.dtype.kind != "f":
        return x, np.ones_like(x, bool)
    return np.where(np.isnan(x), x.dtype.type(value), x), np.logical_not(np.isnan(x))


@implements(np.nansum)
def nansum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """Add up along axes what is a number."""
    refuse("nansum", out=out, **options)
    return sum_(_filled(a, 0.0)[0], axis, dtype, keepdims=keepdims)


@implements(np.nanprod)
def nanprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """Multiply along axes what is a number."""
    refuse("nanprod", out=out, **options)
    return prod(_filled(a, 1.0)[0], axis, dtype, keepdims=keepdims)


@implements(np.nanmean)
def nanmean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
    """Average along axes what is a number."""
    refuse("nanmean", out=out, **options)
    x, numbers = _filled(floating(a, dtype), 0.0)
    n = sum_(numbers, axis, keepdims=keepdims).astype(x.dtype)
    return sum_(x, axis, keepdims=keepdims) / n


@implements(np.nanvar)
def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    **options: Any,
) -> Any:
    """Average along axes the squared deviations of what is a number."""
    refuse("nanvar", out=out, **options)
    x = floating(a, dtype)
    deviations, numbers = _filled(x - nanmean(x, axis, keepdims=True), 0.0)
    n = np.maximum(sum_(numbers, axis, keepdims=keepdims) - ddof, 0).astype(x.dtype)
    return sum_(deviations * deviations, axis, keepdims=keepdims) / n


@implements(np.nanstd)
def nanstd(*arguments: Any, **options: Any) -> Any:
    """Take the root of the variance of what is a number."""
    return record("norm_root", nanvar(*arguments, **options))


def _nan_extreme(name: str, value: float, of: Callable[..., Any]) -> Callable[..., Any]:
    def extreme(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, **options: Any) -> Any:
        refuse(name, out=out, **options)
        x, numbers = _filled(a, value)
        y = of(x, axis, keepdims=keepdims)
        return y if y.dtype.kind != "f" else np.where(any_(numbers, axis, keepdims=keepdims), y, y.dtype.type(np.nan))

    extreme.__doc__ = f"Give what {name} gives along axes."
    return extreme


implements(np.nanmax)(_nan_extreme("nanmax", -np.inf, max_))
implements(np.nanmin)(_nan_extreme("nanmin", np.inf, min_))


# ---- counts ------------------------------------------------------------------------------------------------


@implements(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """Count whole numbers, or add up their weights; how many bins there are is guarded."""
    tape = recording_of(x, weights)
    x = as_tensor(x, tape).astype(np.int64, copy=False)
    if x.size and bool(np.min(x) < 0):
        raise TapeadValueError(f"'list' argument must have no negative elements, at {here()}")
    n = max(int(np.max(x)) + 1 if x.size else 0, minlength)
    w = as_tensor(np.ones(x.shape) if weights is None else weights, tape).astype(np.float64, copy=False)
    total = record("spread", w, x, shape=(n,), axes=(0,))
    return total.astype(np.int64) if weights is None else total
