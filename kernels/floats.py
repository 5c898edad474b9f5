"""Numbers as their bits, and sums of products rounded once: what vector mathematics stands on.

All of it is written for float64 and float32 alike, and is a few instructions that LLVM vectorises; what exponentials
are made of takes lanes, too. A constant that
depends on the precision is a pair (float64's, float32's); `pick` takes the one that goes with an operand.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import pack_array
from numba.extending import intrinsic

from .lanes import Vector, fused, spread

#: bits of the fraction, by the width of the number
_FRACTION = {64: 52, 32: 23}


def _number(x: Any) -> Any:
    """Give the type of a number, or of each of the numbers in lanes."""
    return x.element if isinstance(x, Vector) else x


def _word(x: Any) -> Any:
    word = ir.IntType(_number(x).bitwidth)
    return ir.VectorType(word, x.count) if isinstance(x, Vector) else word


def _constant(x: Any, value: int) -> ir.Constant:
    return ir.Constant(_word(x), [value] * x.count if isinstance(x, Vector) else value)


def _fused(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return fused(builder, x, y, z) if isinstance(z.type, ir.VectorType) else builder.fma(x, y, z)


def _place(x: Any) -> int:
    """Give the place of a precision in a pair of constants."""
    return 0 if _number(x).bitwidth == 64 else 1


def _entry(context: Any, builder: Any, value: Any, kind: Any, x: Any) -> Any:
    """Bring a constant to the type of x; it folds."""
    number = context.cast(builder, value, kind, _number(x))
    return spread(builder, number, context.get_value_type(x)) if isinstance(x, Vector) else number


@intrinsic
def fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    """Give x * y + z, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _fused(builder, *arguments)

    return x(x, x, x), codegen


@intrinsic
def pick(typing_context: Any, x: Any, pair: Any) -> Any:
    """Give the entry of a pair of constants that goes with the precision of x."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(x)
        return _entry(context, builder, builder.extract_value(arguments[1], place), pair[place], x)

    return x(x, pair), codegen


@intrinsic
def rounded(typing_context: Any, x: Any, value: Any) -> Any:
    """Give a value in the precision of x."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[1], value, x)

    return x(x, value), codegen


@intrinsic
def polynomial(typing_context: Any, x: Any, pair: Any) -> Any:
    """Evaluate the polynomial in x whose coefficients, lowest first, are the pair's entry; by Estrin's scheme."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(x)
        power, table = arguments[0], builder.extract_value(arguments[1], place)
        terms = [
            _entry(context, builder, builder.extract_value(table, k), pair[place].dtype, x)
            for k in range(pair[place].count)
        ]
        while len(terms) > 1:
            ends = terms[len(terms) & ~1 :]
            terms = [_fused(builder, power, high, low) for low, high in zip(terms[::2], terms[1::2], strict=False)]
            terms += ends
            power = builder.fmul(power, power)
        return terms[0]

    return x(x, pair), codegen


@intrinsic
def odd(typing_context: Any, shifted: Any) -> Any:
    """Whether k is odd, given k + 1.5 * 2**52 (or 2**23)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], _word(shifted))
        return builder.icmp_unsigned("!=", builder.and_(bits, _constant(shifted, 1)), _constant(shifted, 0))

    return types.boolean(shifted), codegen


@intrinsic
def turned(typing_context: Any, x: Any, shifted: Any) -> Any:
    """Give x, or -x where the integer k has its bit of value 2 set, given k + 1.5 * 2**52 (or 2**23)."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, bits = (builder.bitcast(argument, _word(x)) for argument in arguments)
        second = builder.and_(bits, _constant(x, 2))
        sign = builder.shl(second, _constant(x, x.bitwidth - 2))
        return builder.bitcast(builder.xor(value, sign), arguments[0].type)

    return x(x, shifted), codegen


@intrinsic
def scaled(typing_context: Any, x: Any, shifted: Any) -> Any:
    """Give x * 2**k, given k + SHIFT: in two steps, so that the result may be subnormal or infinite."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        fraction = _constant(x, _FRACTION[_number(x).bitwidth])
        bits = builder.bitcast(arguments[1], _word(x))
        half = builder.lshr(bits, _constant(x, 1))
        value = arguments[0]
        for part in (half, builder.sub(bits, half)):
            value = builder.fmul(value, builder.bitcast(builder.shl(part, fraction), value.type))
        return value

    return x(x, shifted), codegen


@intrinsic
def power_of_two(typing_context: Any, shifted: Any, down: Any) -> Any:
    """Give 2**(k - down), which must be a normal number (or 2**1024, infinity), given k + SHIFT."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        fraction = _FRACTION[shifted.bitwidth]
        bias = (1 << (shifted.bitwidth - fraction - 2)) - 1
        bits = builder.bitcast(arguments[0], _word(shifted))
        exponent = builder.sub(bits, _constant(shifted, bias + down.literal_value))
        return builder.bitcast(builder.shl(exponent, _constant(shifted, fraction)), arguments[0].type)

    if not isinstance(down, types.IntegerLiteral):
        return None
    return shifted(shifted, down), codegen


#: added to an integer k (not below -2046 or -254), leaves k plus twice the exponent's bias in the low bits
SHIFT = (1.5 * 2.0**52 + 2046.0, 1.5 * 2.0**23 + 254.0)


@intrinsic
def split(typing_context: Any, x: Any) -> Any:
    """Split x = m * 2**k, sqrt(1/2) <= m < sqrt(2), into k, m and 2**(1 - k); x must be positive and normal."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        width, fraction = x.bitwidth, _FRACTION[x.bitwidth]
        whole = np.float64 if width == 64 else np.float32
        bias = (1 << (width - fraction - 2)) - 1
        one, root, large = (int(whole(value).view(f"i{width // 8}")) for value in (1.0, 0.5**0.5, 2.0**fraction))
        number = arguments[0].type
        bits = builder.add(builder.bitcast(arguments[0], _word(x)), _constant(x, one - root))
        exponent = builder.lshr(bits, _constant(x, fraction))
        k = builder.fsub(
            builder.bitcast(builder.or_(exponent, _constant(x, large)), number),
            ir.Constant(number, 2.0**fraction + bias),
        )
        rest = builder.and_(bits, _constant(x, (1 << fraction) - 1))
        m = builder.bitcast(builder.add(rest, _constant(x, root)), number)
        inverse = builder.shl(builder.sub(_constant(x, 2 * bias + 1), exponent), _constant(x, fraction))
        return pack_array(builder, [k, m, builder.bitcast(inverse, number)])

    return types.UniTuple(x, 3)(x), codegen
