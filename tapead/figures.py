"""Values as a reader wants them: short numbers, small arrays, the norm of large ones; and as JSON can hold them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

#: arrays of so many elements are written out, larger ones by their norm
SHORT = 6
#: JSON holds arrays of so many elements as they are, larger ones by their shape and norm
LONG = 1000


def value_text(value: Any, whole: bool = False, name: str = "·") -> str:
    """Write a number to three decimals (three digits, where that says more), a short array, or the norm of a long one."""
    if value is None:
        return ""
    array = np.asarray(value)
    if not array.ndim:
        return _number_text(array[()])
    if whole or array.size == 1 or (array.size <= SHORT and array.ndim == 1):
        return _nested_text(array)
    if array.dtype.kind != "f":
        return f"{array.size:,} numbers"
    finite = np.isfinite(array)
    text = f"‖{name}‖ = {_number_text(norm(array[finite]))}"
    strange = int(array.size - finite.sum())
    return f"{text}, {strange:,} not finite" if strange else text


def norm(array: Any) -> float:
    """Give the Euclidean norm; that of large numbers does not overflow on the way."""
    largest = float(np.max(np.abs(array), initial=0.0))
    scale = largest if 0 < largest < math.inf else 1.0
    with np.errstate(over="ignore"):
        return float(scale * np.sqrt(np.sum(np.square(np.asarray(array, float) / scale))))


def _nested_text(array: Any) -> str:
    parts = [_nested_text(part) if array.ndim > 1 else _number_text(part) for part in array]
    return f"[{', '.join(parts)}]"


def _number_text(x: Any) -> str:
    if isinstance(x, np.bool_ | bool):
        return str(bool(x))
    if isinstance(x, np.integer | int) or not math.isfinite(x):
        return str(x)
    if x == 0:
        return "0"
    if 0.01 <= abs(x) < 1e5:
        return f"{x:.3f}".rstrip("0").rstrip(".")
    return f"{x:.3e}" if abs(x) >= 1e5 or abs(x) < 1e-4 else f"{x:.3g}"


def plain(value: Any, whole: bool = True) -> Any:
    """Give a value as JSON can hold it; a long array by its shape and norm, unless `whole` asks for all of it."""
    if value is None:
        return None
    array = np.asarray(value)
    if not whole and array.size > LONG:
        return {"shape": list(array.shape), "norm": plain(norm(array))}
    if array.ndim:
        return [plain(part) for part in array]
    x = array.item()
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def has_nan(value: Any) -> bool:
    """Whether a value holds a NaN."""
    return value is not None and bool(np.isnan(value).any())


def is_finite(value: Any) -> bool:
    """Whether all of a value is finite; None is."""
    return value is None or bool(np.all(np.isfinite(value)))
