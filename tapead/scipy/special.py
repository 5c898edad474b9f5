"""SciPy's special functions, for traced values and for ordinary arrays (then they are SciPy's own)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .. import reductions
from ..dispatch import as_tensor, axes_of, here, record, recording_of
from ..errors import TapeadNotImplementedError
from ..protocols import FUNCTIONS_BY_UFUNC
from ..record import find_tensor, stop_gradient

__all__ = ["entr", "erf", "expit", "log_softmax", "logsumexp", "softmax", "xlogy"]


def _own(name: str) -> Any:
    """Give SciPy's function, imported when first needed."""
    return getattr(importlib.import_module("scipy.special"), name)


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """Give log(sum(b * exp(a))) along axes without overflow.

    `a` is of any shape, `axis` None, an int or a tuple of them; `b` scales and broadcasts with `a`. A row of
    which all elements are -inf gives -inf; through a row whose sum is 0 or infinite no derivative flows.
    `return_sign` raises a NotImplementedError for traced values.

    >>> import numpy as np, tapead
    >>> from tapead.scipy.special import logsumexp
    >>> print(tapead.grad(logsumexp)(np.array([0.0, 0.0])))
    [0.5 0.5]
    """
    if find_tensor((a, b)) is None:
        return _own("logsumexp")(a, axis, b, keepdims, return_sign)
    if return_sign:
        raise TapeadNotImplementedError(f"logsumexp with return_sign=True has no rule, at {here()}")
    if b is None:
        return reductions.logsumexp(a, axis, keepdims)
    tape = recording_of(a, b)
    a, b = np.broadcast_arrays(as_tensor(a, tape), as_tensor(b, tape))
    return reductions.logsumexp(np.where(b == 0, -np.inf, a), axis, keepdims, b)


def softmax(x: Any, axis: Any = None) -> Any:
    """Give exp(x) / sum(exp(x)) along axes without overflow.

    `x` is of any shape, `axis` None, an int or a tuple of them; the result has x's shape.

    >>> import numpy as np
    >>> from tapead.scipy.special import softmax
    >>> print(softmax(np.array([1.0, 1.0])))
    [0.5 0.5]
    """
    if find_tensor(x) is None:
        return _own("softmax")(x, axis)
    x = reductions.floating(x, None)
    axes = axes_of(axis, x.ndim)
    terms = np.exp(x - stop_gradient(np.max(x, axes, keepdims=True)))
    return terms / np.sum(terms, axes, keepdims=True)


def log_softmax(x: Any, axis: Any = None) -> Any:
    """Give x - logsumexp(x) along axes, precise where softmax is small.

    `x` is of any shape, `axis` None, an int or a tuple of them; the result has x's shape.

    >>> import numpy as np
    >>> from tapead.scipy.special import log_softmax
    >>> print(np.round(log_softmax(np.array([1.0, 1.0])), 6))
    [-0.693147 -0.693147]
    """
    if find_tensor(x) is None:
        return _own("log_softmax")(x, axis)
    x = reductions.floating(x, None)
    axes = axes_of(axis, x.ndim)
    top = stop_gradient(np.max(x, axes, keepdims=True))
    low = x - np.where(np.isfinite(top), top, x.dtype.type(0))
    return low - np.log(np.sum(np.exp(low), axes, keepdims=True))


def expit(x: Any) -> Any:
    """Give the logistic sigmoid 1 / (1 + exp(-x)).

    >>> import tapead
    >>> from tapead.scipy.special import expit
    >>> float(tapead.grad(expit)(0.0))
    0.25
    """
    return _own("expit")(x) if find_tensor(x) is None else record("expit", reductions.floating(x, None))


def erf(x: Any) -> Any:
    """Give the error function.

    >>> from tapead.scipy.special import erf
    >>> float(erf(0.0))
    0.0
    """
    return _own("erf")(x) if find_tensor(x) is None else record("erf", reductions.floating(x, None))


def xlogy(x: Any, y: Any) -> Any:
    """Give x log(y), 0 where x is 0 (and y is not NaN).

    >>> from tapead.scipy.special import xlogy
    >>> float(xlogy(0.0, 0.0))
    0.0
    """
    if find_tensor((x, y)) is None:
        return _own("xlogy")(x, y)
    tape = recording_of(x, y)
    x, y = reductions.floating(as_tensor(x, tape), None), reductions.floating(as_tensor(y, tape), None)
    none = (x == 0) & np.logical_not(np.isnan(y))
    return np.where(none, x.dtype.type(0), x * np.log(np.where(none, y.dtype.type(1), y)))


def entr(x: Any) -> Any:
    """Give -x log(x): 0 at 0, -inf below.

    >>> from tapead.scipy.special import entr
    >>> float(entr(1.0)) == 0.0
    True
    """
    if find_tensor(x) is None:
        return _own("entr")(x)
    x = reductions.floating(x, None)
    positive = x > 0
    y = np.where(positive, x, x.dtype.type(1))
    rest = np.where(x < 0, x.dtype.type(-np.inf), stop_gradient(x))
    return np.where(positive, -(y * np.log(y)), rest)


# scipy.special's own ufuncs come here when they meet a traced value
FUNCTIONS_BY_UFUNC |= {"xlogy": xlogy, "entr": entr}
