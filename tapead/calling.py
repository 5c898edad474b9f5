"""Calling the user's function: its result checked, and NumPy's errors that stand for ours explained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import TapeadError, TapeadTypeError, TapeadValueError
from .record import COPY, Recording, find_tensor
from .tape import Place, describe
from .tensor import Tensor
from .tree import flatten, paths, unflatten


def name_of(function: Any) -> str:
    """Give what a callable is called in messages."""
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def parameter_names(function: Any, structure: Any) -> list[str]:
    """Name the leaves of a call's arguments as its function does: x, weights['w'][0]."""
    args, kwargs = unflatten(structure, range(structure.num_leaves))
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
        given = bound.arguments
    except (TypeError, ValueError):  # a builtin without a signature, or a wrapper with another's
        given = {"args": args, **kwargs}
    else:
        for name, parameter in bound.signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                given.update(given.pop(name, {}))
    names = [""] * structure.num_leaves
    for name, tree in given.items():
        for place, path in zip(flatten(tree)[0], paths(tree), strict=True):
            names[place] = name + path
    return names


def names_for(f: Any, count: int, names: Sequence[str] | None) -> list[str]:
    """Name the arguments of a call: as told, else like the function's parameters; raise ValueError for names that do not fit."""
    if names is not None:
        chosen = [names] if isinstance(names, str) else list(names)
        if len(chosen) != count or not all(isinstance(name, str) and name for name in chosen):
            raise TapeadValueError(f"names must be {count} strings, one for each argument, not {names!r}")
        return chosen
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    found: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            found += [f"{parameter.name}{k + 1}" for k in range(count - len(found))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            found.append(parameter.name)
    return (found + [f"x{k + 1}" for k in range(len(found), count)])[:count]


def check_callable(function: Any) -> None:
    """Raise unless a function is one."""
    if not callable(function):
        raise TapeadTypeError(f"expected a function to differentiate, not {type(function).__name__}")


def chosen_arguments(argnums: int | Sequence[int]) -> tuple[int, ...]:
    """Check argnums by itself; give it as a tuple."""
    chosen = tuple(argnums) if isinstance(argnums, list | tuple) else (argnums,)
    if not chosen or not all(isinstance(a, int) and not isinstance(a, bool) for a in chosen):
        raise TapeadTypeError(f"argnums must be an int or a tuple of ints, not {argnums!r}")
    if len(set(chosen)) != len(chosen):
        raise TapeadValueError(f"argnums names an argument twice: {argnums!r}")
    return chosen


def places_of(chosen: Sequence[int], argnums: Any, count: int, name: str) -> list[int]:
    """Check chosen arguments against the number of those given; give them counted from the first."""
    for a in chosen:
        if not -count <= a < count:
            raise TapeadValueError(f"argnums={argnums!r}, but {name} was called with {count} positional arguments")
    places = [a % count for a in chosen]
    if len(set(places)) != len(places):
        raise TapeadValueError(f"argnums names an argument twice: {argnums!r} of {count}")
    return places


def checked_output(recording: Recording, value: Any) -> Any:
    """Check that what a function gave is one real number; give it, as a 0-d traced value if it is traced."""
    if value is None:
        raise TapeadTypeError(
            "the function returned None; it must return the number to differentiate (a missing return?)"
        )
    if isinstance(value, list | tuple | dict):
        raise TapeadTypeError(
            f"the function returned a {type(value).__name__}; to return more than the number, give (number, more) and has_aux=True"
        )
    if find_tensor(value) is not None:
        value = recording.lift(value)
    if type(value) is not Tensor:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TapeadTypeError(f"the function returned {type(value).__name__}, not a real number")
        value = array
    if value.size != 1:
        raise TapeadValueError(
            f"the function must return one number, but returned an array of shape {value.shape}. Reduce it (np.sum), or seed it: "
            "the gradient of np.sum(seed * f(x))"
        )
    if type(value) is not Tensor:
        return value.reshape(())[()] if value.dtype.kind == "f" else float(value.reshape(()))
    if value.ndim:
        value = recording.view(value, lambda v: v.reshape(()))
    if value.dtype.kind != "f":
        return recording.cast(value, np.dtype(float))
    if value.storage.size > 1:  # the seed goes on its adjoint before any row runs, and rows may clear an array's
        return recording.elementwise(COPY, (value,))
    return value


def function_code(function: Any) -> Any:
    """Give the code object of a callable, for messages."""
    found = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return found or call.__code__


def split(result: Any, has_aux: bool) -> tuple[Any, Any]:
    """Take a function's result apart into value and auxiliary result."""
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TapeadTypeError(f"has_aux=True expects the function to return (value, aux), not {type(result).__name__}")
    return result


def call(function: Callable[..., Any], arguments: Any, options: Any) -> Any:
    """Call the user's function; explain those errors of NumPy's that stand for ours, leave all others as they are."""
    try:
        return function(*arguments, **options)
    except (ValueError, TypeError) as error:
        fix = None if isinstance(error, TapeadError) else _fix(error)
        if fix is None:
            raise
        raise TapeadTypeError(f"{fix[0]} at {describe(_innermost(error, function))}: {fix[1]}") from error


def _fix(error: Exception) -> tuple[str, str] | None:
    """Give what is wrong and what to do, where NumPy's (or SciPy's) error stands for ours; else None."""
    text, cause = str(error), error.__cause__
    if "setting an array element with a sequence" in text and isinstance(cause, TapeadError):
        fix = (
            "the array cannot hold it. Make the array with tapead.numpy.zeros instead of numpy.zeros (if a SciPy function "
            "did it: take its counterpart in tapead.scipy)"
        )
        return "a traced value was assigned into a plain NumPy array", fix
    if any(sign in text for sign in ("has no callable", "bject array", "dtype('O')", "ufunc 'isfinite' not supported")):
        fix = (
            f"the function got an object array of traced numbers, or does not know NumPy's protocols ({text}). Make the array "
            "with tapead.numpy.array, call the function from tapead.numpy, or use its counterpart in tapead.scipy"
        )
        return "a traced value in a function that cannot take it", fix
    return None


def _innermost(error: Exception, function: Any) -> Place:
    """Give the innermost place of an error that is the user's, not a library's."""
    place: Place = (function_code(function), 0)
    trail = error.__traceback__
    while trail is not None:
        file = trail.tb_frame.f_code.co_filename
        if not file.startswith(__file__.rpartition("calling.py")[0]) and "site-packages" not in file:
            place = trail.tb_frame.f_code, trail.tb_lasti
        trail = trail.tb_next
    return place
