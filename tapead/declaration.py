"""Declaring a primitive: what a user gives is checked, and made into an op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import TapeadTypeError, TapeadValueError
from .kernels.table import OPS
from .primitives import ArrayPrimitive, ElementwisePrimitive, Primitive, UserFunction

#: the names of an elementwise primitive's operands
LETTERS = "xyw"


def primitive(
    value: Callable[..., Any],
    partials: Sequence[Any] | None = None,
    *,
    reverse: Any = None,
    tangent: Any = None,
    shape: Callable[..., Any] | None = None,
    name: str | None = None,
    numpy: Callable[..., Any] | None = None,
) -> Primitive:
    """Make an op of numba functions, which run inside the sweeps without Python; call it on arrays or traced values.

    Elementwise, of numbers: `value(x)`, `value(x, y)` or `value(x, y, w)`, and a partial for each operand in the tuple
    `partials`, a function of the operands and, if it takes one more, of the result z; None where no derivative flows.
    Operands broadcast. An adjoint that is exactly zero contributes zero.

    >>> import math, numpy as np, tapead
    >>> def softplus_(x):
    ...     return math.log1p(math.exp(-abs(x))) + max(x, 0.0)
    >>> softplus = tapead.primitive(softplus_, partials=(lambda x, z: 1.0 / (1.0 + math.exp(-x)),), name="softplus")
    >>> tapead.grad(lambda x: np.sum(softplus(x)))(np.zeros(2)).tolist()
    [0.5, 0.5]

    Whole arrays: `value(out, *operands)` fills out, which is zero at first; `shape(*shapes)` gives its shape (by default
    the first operand's); `reverse(d, out, *operands, *adjoints)` adds to the operands' adjoints, d being that of out;
    `tangent(out_dot, out, *operands, *dots)`, for forward mode, fills out_dot. Each gets C-contiguous arrays of one
    dtype; those that are not to be written to are read-only.

    >>> import numba
    >>> @numba.njit
    ... def running(out, x):
    ...     total = 0.0
    ...     for i in range(x.size):
    ...         total = 0.9 * total + x[i]
    ...         out[i] = total
    >>> def running_reverse(d, out, x, dx):
    ...     total = 0.0
    ...     for i in range(x.size - 1, -1, -1):
    ...         total = 0.9 * total + d[i]
    ...         dx[i] += total
    >>> smooth = tapead.primitive(running, reverse=running_reverse, tangent=lambda t, z, x, dx: running(t, dx))
    >>> tapead.grad(lambda x: smooth(x)[-1])(np.ones(3)).round(4).tolist()
    [0.81, 0.9, 1.0]

    For derivatives of second order give the partials as primitives with partials of their own; for whole arrays give
    `reverse` as a tuple of primitives `(out, d, z, *operands)`, one for each operand (None: no derivative flows), and
    `tangent` as a primitive. `numpy` is the same function in NumPy, for `check_primitive`, which tests all of this.

    A function is compiled when it is first needed for a dtype and rank, with NumPy's way of dividing by zero (of the
    options of one that is jitted already, fastmath, boundscheck and inlining are kept), and is called from several threads
    at once. What it raises becomes a ValueError without its message.

    Raises TypeError where a function cannot be compiled (at the first use, with numba's message) or cannot take its
    operands, for the wrong number of partials, for operands that are not float64 or float32, and for a shape rule that
    gives no shape; NotImplementedError where a derivative is needed that was not given.
    """
    if not callable(value):
        raise TapeadTypeError(f"a primitive's value must be a function, not {type(value).__name__}")
    chosen = getattr(value, "__name__", type(value).__name__) if name is None else name
    if not isinstance(chosen, str) or not chosen:
        raise TapeadTypeError(f"a primitive's name must be a string, not {name!r}")
    if chosen in OPS:
        raise TapeadValueError(f"{chosen!r} is the name of an op of tapead's: give the primitive another with name=")
    doc = getattr(value, "__doc__", None) or f"the primitive {chosen}"
    made: Primitive
    if partials is not None:
        if any(option is not None for option in (reverse, tangent, shape)):
            raise TapeadTypeError(
                f"the primitive {chosen} has partials=: reverse=, tangent= and shape= are for whole arrays"
            )
        made = _elementwise(value, partials, chosen, doc)
    elif reverse is not None:
        made = _of_arrays(value, reverse, tangent, shape, chosen, doc)
    else:
        raise TapeadTypeError(
            f"the primitive {chosen} has no derivative: give partials= (functions of numbers) or reverse= (of arrays)"
        )
    made.numpy = numpy
    return made


def _elementwise(value: Any, partials: Any, name: str, doc: str) -> Primitive:
    if not isinstance(partials, tuple | list) or not 1 <= len(partials) <= len(LETTERS):
        raise TapeadTypeError(
            f"partials of the primitive {name} must be a tuple of one to three functions, one for each operand, not {partials!r}"
        )
    arity = len(partials)
    function = UserFunction(value, f"the value of the primitive {name}")
    if not function.takes(arity):
        raise TapeadTypeError(
            f"the value of the primitive {name} takes {function.count} operands, but {arity} partials were given: one is needed "
            "for each operand (None where no derivative flows)"
        )
    parts: list[ElementwisePrimitive | None] = []
    for letter, partial in zip(LETTERS, partials, strict=False):
        part = f"the partial d{letter} of the primitive {name}"
        if partial is None or isinstance(partial, ElementwisePrimitive):
            if partial is not None and partial.arity not in (arity, arity + 1):
                raise TapeadTypeError(
                    f"{part} must take {arity} operands, or {arity + 1}; {partial!r} takes {partial.arity}"
                )
            parts.append(partial)
            continue
        own = UserFunction(partial, part)
        count = next((n for n in (arity + 1, arity) if own.takes(n)), None)
        if count is None:
            raise TapeadTypeError(
                f"{part} must take the {arity} operands, and may take the result after them; it takes {own.count}"
            )
        hint = f"for derivatives of higher order give {part} as a tapead.primitive with partials of its own"
        parts.append(ElementwisePrimitive(own, None, count, f"{name}.d{letter}", doc, hint))
    return ElementwisePrimitive(function, parts, arity, name, doc, "")


def _of_arrays(value: Any, reverse: Any, tangent: Any, shape: Any, name: str, doc: str) -> Primitive:
    function = UserFunction(value, f"the value of the primitive {name}")
    arity = function.count - 1
    if arity < 1 or not function.takes(1 + arity):
        raise TapeadTypeError(f"the value of the primitive {name} must take the array to fill and one operand or more")
    if shape is not None and not callable(shape):
        raise TapeadTypeError(f"the shape rule of the primitive {name} must be a function, not {type(shape).__name__}")
    back: UserFunction | tuple[ArrayPrimitive | None, ...]
    if isinstance(reverse, tuple | list):
        if len(reverse) != arity or not all(
            part is None or (isinstance(part, ArrayPrimitive) and part.arity == 2 + arity) for part in reverse
        ):
            raise TapeadTypeError(
                f"reverse of the primitive {name} must be a function, or a tuple of {arity} primitives of whole arrays (or None), "
                f"each of the {2 + arity} operands d, z and the primitive's own"
            )
        back = tuple(reverse)
    else:
        back = UserFunction(reverse, f"the reverse rule of the primitive {name}")
        if not back.takes(2 + 2 * arity):
            raise TapeadTypeError(
                f"the reverse rule of the primitive {name} must take {2 + 2 * arity} arrays: d, out, {arity} operands and their "
                f"adjoints; it takes {back.count}"
            )
    forward_mode = tangent
    if tangent is not None and not isinstance(tangent, ArrayPrimitive):
        own = UserFunction(tangent, f"the tangent rule of the primitive {name}")
        if not own.takes(2 + 2 * arity):
            raise TapeadTypeError(
                f"the tangent rule of the primitive {name} must take {2 + 2 * arity} arrays: out_dot, out, {arity} operands and their "
                f"tangents; it takes {own.count}"
            )
        hint = f"for derivatives of higher order give tangent= of {name} as a primitive"
        forward_mode = ArrayPrimitive(own, lambda *s: s[0], None, None, 1 + 2 * arity, f"{name}.tangent", doc, hint)
    elif tangent is not None and tangent.arity != 1 + 2 * arity:
        raise TapeadTypeError(
            f"the tangent rule of the primitive {name} must take {1 + 2 * arity} operands: {tangent!r} takes {tangent.arity}"
        )
    rule = shape if shape is not None else lambda *shapes: shapes[0]
    return ArrayPrimitive(function, rule, back, forward_mode, arity, name, doc, "give tangent= for forward mode")
