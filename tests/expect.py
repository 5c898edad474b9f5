"""What the tests compare with: derivatives that do not come from the tape, and errors of the right kind."""

import inspect
import re
from contextlib import contextmanager

import numpy as np
import pytest

import tapead


def slope(f, x):
    """Differentiate f of one float array by central differences of fourth order (error about 1e-11)."""
    x = np.asarray(x, float)
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        h = 1e-3 * max(1.0, abs(x[i]))

        def at(step, i=i):
            moved = x.copy()
            moved[i] += step
            return float(f(moved[()]))

        gradient[i] = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    return gradient


def right(f, *points, reference=None, rtol=1e-7, atol=1e-8):
    """Assert value and gradient of f at all points, the first a trace and the others replays or new branches.

    `reference` is the same function in plain NumPy, by default f itself on ordinary arrays.
    """
    reference = reference or f
    vg = tapead.value_and_grad(f)
    for x in points:
        before = np.array(x, copy=True)
        value, gradient = vg(np.array(x, copy=True) if np.ndim(x) else x)
        np.testing.assert_allclose(value, reference(before.copy()[()]), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gradient, slope(reference, before), rtol=rtol, atol=atol)


def right_or_error(f, *points, reference=None):
    """Assert that f either is right at all points or raises a TapeadError: never silently different."""
    try:
        right(f, *points, reference=reference)
    except tapead.TapeadError as problem:
        if not str(problem):
            raise


@contextmanager
def error(kind, *words, line=None):
    """Assert a TapeadError that is also a `kind`, says all `words` (patterns), and names a line of this file.

    `line` is a pair of a function and a piece of its source: the line in question.
    """
    with pytest.raises(kind) as caught:
        yield caught
    assert isinstance(caught.value, tapead.TapeadError), f"{type(caught.value)} is no TapeadError"
    message = str(caught.value)
    for word in words:
        assert re.search(word, message, re.IGNORECASE), f"{word!r} is not in: {message}"
    if line is not None:
        number, file = line_number(*line)
        assert file in message, f"{file} is not named in: {message}"
        assert re.search(rf"(?<!\d){number}(?!\d)", message), f"line {number} is not named in: {message}"


def line_number(f, piece):
    """Give the line number and the file name of the one line of f's source that holds the piece."""
    lines, first = inspect.getsourcelines(f)
    (number,) = [first + n for n, text in enumerate(lines) if piece in text]
    return number, inspect.getsourcefile(f).rsplit("/", 1)[-1]
