"""Expressions on lanes: the operators of Python and `choose`, for the vectors of `lanes.py`, mixed with numbers."""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

from .lanes import Vector, spread


def _vector(*operands: Any) -> Any:
    """Give the first type among operands' that is lanes; None if all are numbers."""
    return next((x for x in operands if isinstance(x, Vector)), None)


def _widened(context: Any, builder: Any, value: Any, given: Any, wanted: Any) -> Any:
    """Bring a number, or lanes, to the type of lanes."""
    if isinstance(given, Vector):
        return value
    number = context.cast(builder, value, given, wanted.element)
    return spread(builder, number, context.get_value_type(wanted))


def _declare(operation: Callable[..., Any], count: int, gives: Callable[[Any], Any], write: Callable[..., Any]) -> None:
    """Let an operator of Python's take lanes; write makes its code, of a builder and lanes."""

    @infer_global(operation)  # type: ignore[misc, unused-ignore]
    class Typing(AbstractTemplate):  # type: ignore[misc, unused-ignore]
        def generic(self, arguments: Any, keywords: Any) -> Any:
            vector = _vector(*arguments)
            if vector is None or len(arguments) != count:
                return None
            return signature(gives(vector), *arguments)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = _vector(*signature.args)
        pairs = zip(arguments, signature.args, strict=True)
        return write(builder, *[_widened(context, builder, value, given, vector) for value, given in pairs])

    for kinds in ((Vector,),) if count == 1 else ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(operation, *kinds)(codegen)


def _same(vector: Any) -> Any:
    return vector


def _mask(vector: Any) -> Any:
    return Vector(types.boolean, vector.count)


for _operation, _write in (
    (operator.add, ir.IRBuilder.fadd),
    (operator.sub, ir.IRBuilder.fsub),
    (operator.mul, ir.IRBuilder.fmul),
    (operator.truediv, ir.IRBuilder.fdiv),
    (operator.and_, ir.IRBuilder.and_),
    (operator.or_, ir.IRBuilder.or_),
):
    _declare(_operation, 2, _same, _write)
_declare(operator.neg, 1, _same, ir.IRBuilder.fneg)
for _operation, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
):
    _declare(_operation, 2, _mask, lambda builder, x, y, sign=_sign: builder.fcmp_ordered(sign, x, y))
_declare(operator.ne, 2, _mask, lambda builder, x, y: builder.fcmp_unordered("!=", x, y))


@intrinsic
def choose(typing_context: Any, condition: Any, x: Any, y: Any) -> Any:
    """Give x where a condition holds, y elsewhere: numbers, or lanes."""
    vector = _vector(condition, x, y)
    result = x if vector is None else Vector(x.element if isinstance(x, Vector) else x, vector.count)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if vector is None:
            return builder.select(arguments[0], arguments[1], context.cast(builder, arguments[2], y, x))
        values = [
            _widened(context, builder, value, given, result) for value, given in zip(arguments[1:], (x, y), strict=True)
        ]
        return builder.select(arguments[0], *values)

    return result(condition, x, y), codegen
