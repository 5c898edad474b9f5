"""The public transforms beside `grad`: forward mode, pullbacks, Jacobians, second derivatives."""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from .api import grad
from .calling import check_callable, chosen_arguments, name_of, places_of
from .errors import TapeadTypeError, TapeadValueError
from .linearized import COTANGENT, TANGENT, Linearizing
from .nested import (
    FORWARD,
    REVERSE,
    SYMMETRIC,
    curvature_on_tape,
    grad_on_tape,
    jacobian_on_tape,
    jvp_on_tape,
    slope_on_tape,
)
from .replayed import Replayed, replayed

Function = Callable[..., Any]

#: what was made of functions that cannot hold it themselves (bound methods, builtins), the latest last
_ELSEWHERE: OrderedDict[Any, Any] = OrderedDict()
_ELSEWHERE_AT_MOST = 16
_ATTRIBUTE = "__tapead__"


def _made_once(f: Function, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """Give what is made of a function, which is made once and lives as long as the function does."""
    check_callable(f)
    if type(f) is types.FunctionType:
        known = f.__dict__.get(_ATTRIBUTE)
        if known is None or known[0] is not f:  # none yet, or those of a function that this one wraps
            known = f.__dict__[_ATTRIBUTE] = f, {}
        made: dict[Any, Any] = known[1]
    else:
        try:
            made = _ELSEWHERE.setdefault(f, {})
        except TypeError:  # not hashable
            return make()
        _ELSEWHERE.move_to_end(f)
        while len(_ELSEWHERE) > _ELSEWHERE_AT_MOST:
            _ELSEWHERE.popitem(last=False)
    if key not in made:
        made[key] = make()
    return made[key]


def _made_before(f: Function, key: tuple[Any, ...]) -> Any:
    """Give what was made of a function; None if nothing was."""
    if type(f) is not types.FunctionType:
        return None
    known = f.__dict__.get(_ATTRIBUTE)
    return known[1].get(key) if known is not None and known[0] is f else None


def _count(primals: Any, tangents: Any) -> int:
    """Check that primals and tangents are tuples of one length, and give it."""
    if type(primals) is not tuple:
        primals = _tuple(primals, "primals")
    if type(tangents) is not tuple:
        tangents = _tuple(tangents, "tangents")
    count = len(primals)
    if count != len(tangents) or not count:
        _tuple(primals, "primals")
        raise TapeadTypeError(f"there must be a tangent for each of the {count} primals, not {len(tangents)}")
    return count


def _tuple(primals: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(primals, list | tuple):
        raise TapeadTypeError(
            f"{what} must be a tuple, one for each argument, such as (x,), not {type(primals).__name__}"
        )
    if not primals:
        raise TapeadValueError(f"{what} are empty: there is nothing to differentiate by")
    return tuple(primals)


def _placed(by: Sequence[int], argnums: int | Sequence[int], count: int, f: Function) -> int | tuple[int, ...]:
    """Give the places of the arguments that argnums names, one or a tuple of them, as it does."""
    places = places_of(by, argnums, count, name_of(f))
    return tuple(places) if isinstance(argnums, list | tuple) else places[0]


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """Give the value of f and its directional derivative, in one forward sweep: forward mode.

    primals is the tuple of f's arguments (floats, float arrays, trees of them), tangents a tuple of the same structure,
    shapes and dtypes. f returns a tree of floats; the tangent has its structure. With has_aux, f returns (value, aux),
    and the result is (value, tangent, aux). Traced once per signature; what is traced lives as long as f does, and what f
    closes over, or reads from its object, is a constant of the first call: make an argument of what changes.

    Raises TypeError or ValueError for tangents of another structure, shape or dtype than the primals (naming the leaf),
    and for integer outputs.

    >>> import numpy as np, tapead
    >>> value, tangent = tapead.jvp(np.sin, (0.0,), (2.0,))
    >>> float(value), float(tangent)
    (0.0, 2.0)

    Source: Griewank & Walther, Evaluating Derivatives (2008), section 3.1: the forward mode.
    """
    made = _made_before(f, ("jvp", has_aux, _count(primals, tangents)))
    if made is None:
        count = len(primals)

        def pushed(*both: Any) -> Any:
            return jvp_on_tape(f, both[:count], both[count:], has_aux)

        made = _made_once(f, ("jvp", has_aux, count), lambda: replayed(pushed, f"jvp of {name_of(f)}"))
    return made(*primals, *tangents)


def linearize(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """Give the value of f and its derivative at a point as a linear map of tangents, to be called many times.

    The map takes a tangent for each of the primals and returns the tangent of the value. What depends on the primals
    alone is computed once. With has_aux: (value, map, aux). Traces are kept, and errors raised, as by `jvp`.

    >>> import numpy as np, tapead
    >>> value, linear = tapead.linearize(lambda x: x**2, np.array([1.0, 3.0]))
    >>> linear(np.array([1.0, 0.0])).tolist(), linear(np.ones(2)).tolist()
    ([2.0, 0.0], [2.0, 6.0])
    """
    given = _tuple(primals, "primals")
    return _made_once(f, ("linearize", has_aux), lambda: Linearizing(f, TANGENT, has_aux))(*given)


def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """Give the value of f and its pullback, which maps a cotangent of the value to those of the primals: reverse mode.

    The cotangent has the structure, shapes and dtypes of the value, which may be any tree of floats; the pullback
    returns a tuple, one for each of the primals, and can be called many times. With has_aux: (value, pullback, aux).
    Traces are kept as by `jvp`.

    Raises TypeError or ValueError for cotangents that do not fit (naming the leaf), and for integer outputs.

    >>> import numpy as np, tapead
    >>> value, pullback = tapead.vjp(lambda x, y: x * y, np.array([1.0, 2.0]), 3.0)
    >>> [g.tolist() for g in pullback(np.array([1.0, 10.0]))]
    [[3.0, 30.0], 21.0]
    """
    given = _tuple(primals, "primals")
    return _made_once(f, ("vjp", has_aux), lambda: Linearizing(f, COTANGENT, has_aux))(*given)


def _jacobian(f: Function, argnums: int | Sequence[int], has_aux: bool, mode: str | None, name: str) -> Replayed:
    check_callable(f)
    by = chosen_arguments(argnums)

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        return jacobian_on_tape(f, args, kwargs, _placed(by, argnums, len(args), f), has_aux, mode)

    return replayed(jacobian, f"{name} of {name_of(f)}")


def jacfwd(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Replayed:
    """Give a function that returns the Jacobian of f by forward mode: all columns in one sweep; see `jacobian`.

    >>> import numpy as np, tapead
    >>> tapead.jacfwd(lambda x: np.array([x[0] * x[1], x[1]]))(np.array([2.0, 3.0])).tolist()
    [[3.0, 2.0], [0.0, 1.0]]
    """
    return _jacobian(f, argnums, has_aux, FORWARD, "jacfwd")


def jacrev(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Replayed:
    """Give a function that returns the Jacobian of f by reverse mode: all rows in one sweep; see `jacobian`.

    >>> import numpy as np, tapead
    >>> tapead.jacrev(lambda x: np.sum(x**2))(np.array([2.0, 3.0])).tolist()
    [4.0, 6.0]
    """
    return _jacobian(f, argnums, has_aux, REVERSE, "jacrev")


def jacobian(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Replayed:
    """Give a function that returns the Jacobian of f, by forward or reverse mode: whichever takes fewer seeds.

    For every leaf of f's value, of shape s, and every leaf of the arguments that argnums names, of shape t, the Jacobian
    has an array of shape (*s, *t): the tree of the value, each leaf of which is a tree of the argument (a tuple of them,
    if argnums is one). With has_aux, f returns (value, aux), the result is (jacobian, aux). All seeds are swept together,
    large Jacobians in chunks of bounded memory.

    Raises TypeError for arguments that cannot be differentiated and for integer outputs, ValueError for bad argnums.

    >>> import numpy as np, tapead
    >>> tapead.jacobian(lambda x: np.cumsum(x))(np.ones(2)).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return _jacobian(f, argnums, has_aux, None, "jacobian")


def hessian(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Replayed:
    """Give a function that returns the Hessian of f, which returns one number: tangents of the gradient, all columns at once.

    The result is `jacobian(grad(f))`: for an array of shape s an array of shape (*s, *s); for trees, trees of trees.

    Raises ValueError where f does not return one number, TypeError for arguments that cannot be differentiated.

    >>> import numpy as np, tapead
    >>> tapead.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 3.0])).tolist()
    [[6.0, 2.0], [2.0, 0.0]]
    """
    check_callable(f)
    by = chosen_arguments(argnums)

    def hessian(*args: Any, **kwargs: Any) -> Any:
        chosen = _placed(by, argnums, len(args), f)

        def gradient(*args: Any, **kwargs: Any) -> Any:
            places = chosen if isinstance(chosen, tuple) else (chosen,)
            _, aux, trees = grad_on_tape(f, args, kwargs, places, has_aux)
            made = tuple(trees) if isinstance(chosen, tuple) else trees[0]
            return (made, aux) if has_aux else made

        return jacobian_on_tape(gradient, args, kwargs, chosen, has_aux, SYMMETRIC)

    return replayed(hessian, f"hessian of {name_of(f)}")


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Give the product of f's Hessian with a vector: the gradient of the directional derivative, reverse over forward.

    primals and tangents are tuples as for `jvp`; f returns one number. The result is a tuple like primals (the one part
    of it, if there is one argument). Costs a few gradients, however many the variables are. Traces are kept as by `jvp`.

    Raises ValueError where f does not return one number, and as `jvp` does for tangents that do not fit.

    >>> import numpy as np, tapead
    >>> tapead.hvp(lambda x: x[0] ** 2 * x[1], (np.array([1.0, 3.0]),), (np.array([1.0, 0.0]),)).tolist()
    [6.0, 2.0]

    Source: B. A. Pearlmutter, Fast exact multiplication by the Hessian (1994).
    """
    made = _made_before(f, ("hvp", _count(primals, tangents)))
    if made is None:
        count = len(primals)

        def slope(*both: Any) -> Any:
            return slope_on_tape(f, both[:count], both[count:])

        by = 0 if count == 1 else tuple(range(count))
        made = _made_once(f, ("hvp", count), lambda: grad(slope, by))
    return made(*primals, *tangents)


def vhp(f: Function, primals: Sequence[Any], cotangents: Sequence[Any]) -> Any:
    """Give the product of a row vector with f's Hessian: the same numbers as `hvp`, as the Hessian is symmetric.

    >>> import numpy as np, tapead
    >>> tapead.vhp(lambda x: x[0] ** 2 * x[1], (np.array([1.0, 3.0]),), (np.array([0.0, 1.0]),)).tolist()
    [2.0, 0.0]
    """
    return hvp(f, primals, cotangents)


def hessian_diag(f: Function, argnums: int | Sequence[int] = 0) -> Replayed:
    """Give a function that returns the diagonal of f's Hessian, shaped like the arguments: forward over forward mode.

    f returns one number. All directions are swept together, without the rest of the Hessian.

    >>> import numpy as np, tapead
    >>> tapead.hessian_diag(lambda x: np.sum(x**3))(np.array([1.0, 2.0])).tolist()
    [6.0, 12.0]
    """
    return _curvature(f, argnums, False, "hessian_diag")


def laplacian(f: Function, argnums: int | Sequence[int] = 0) -> Replayed:
    """Give a function that returns the sum of f's second derivatives by each variable: the trace of the Hessian.

    >>> import numpy as np, tapead
    >>> float(tapead.laplacian(lambda x: np.sum(x**3))(np.array([1.0, 2.0])))
    18.0
    """
    return _curvature(f, argnums, True, "laplacian")


def _curvature(f: Function, argnums: int | Sequence[int], total: bool, name: str) -> Replayed:
    check_callable(f)
    by = chosen_arguments(argnums)

    def curvature(*args: Any, **kwargs: Any) -> Any:
        return curvature_on_tape(f, args, kwargs, _placed(by, argnums, len(args), f), total)

    return replayed(curvature, f"{name} of {name_of(f)}")
