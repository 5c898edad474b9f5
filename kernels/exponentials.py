"""Exponentials, logarithms and what is made of them, vectorised by LLVM; see `vecmath.py`.

A pair (head, tail) stands for their sum, the tail being the rounding error of the head, or nearly.
"""

import math

import numpy as np

from .coefficients import (
    ATANH,
    ERF,
    ERFC,
    EXP,
    LOG,
    SINH,
)
from .floats import SHIFT, fma, pick, polynomial, power_of_two, scaled, split
from .jit import vector_kernel
from .vectors import choose

LN2 = (0.6931471805599453, 0.6931471824645996)
LN2_REST = (2.3190468138462996e-17, -1.9046542121259336e-09)
#: the same, with few enough bits that a multiple by an exponent is exact
LN2_SHORT = (0.6931471805601177, 0.69317626953125)
LN2_SHORT_REST = (-1.7239444525614835e-13, -2.908897130469058e-05)
LOG10_2_SHORT = (0.3010299956640665, 0.301025390625)
LOG10_2_SHORT_REST = (-8.532344317057107e-14, 4.605038981195214e-06)
LOG2_E = (1.4426950408889634, 1.4426950216293335)
LOG2_E_REST = (2.0355273740931033e-17, 1.925963033500011e-08)
LOG10_E = (0.4342944819032518, 0.4342944920063019)
LOG10_E_REST = (1.098319650216765e-17, -1.0103049952192578e-08)
THIRD = (0.3333333333333333, 0.3333333432674408)
THIRD_REST = (1.850371707708594e-17, -9.934107758624577e-09)
ZERO, HALF, ONE, TWO = (0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 2.0)
INFINITY, NAN = (np.inf, np.inf), (np.nan, np.nan)
#: below it a function that behaves like x is x
TINY = (2.0**-60, 2.0**-30)
SMALLEST_NORMAL = (2.0**-1022, 2.0**-126)
LIFT, LIFT_POWER = (2.0**54, 2.0**25), (54.0, 25.0)
#: where exponentials vanish, overflow, and halved ones overflow
EXP_LOW, EXP_HIGH, HALVED_HIGH = (-746.0, -104.0), (710.0, 89.0), (711.5, 90.2)
EXP2_LOW, EXP2_HIGH = (-1076.0, -151.0), (1024.0, 128.0)
#: where expm1 is -1 and tanh is 1
MINUS_ONE, TANH_ONE = (-40.0, -20.0), (22.0, 11.0)
#: above it sqrt(x * x + 1) is x
LARGE = (2.0**60, 2.0**30)
ERF_HIGH = (6.0, 4.0)


@vector_kernel
def clamped(x, low, high):  # type: ignore[no-untyped-def]
    """Keep x between two bounds; NaN stays."""
    x = choose(x < low, low, x)
    return choose(x > high, high, x)


@vector_kernel
def reduced(x):  # type: ignore[no-untyped-def]
    """Write x = k * log(2) + (r + low); give k + SHIFT, r, low."""
    shift, ln2, rest = pick(x, SHIFT), pick(x, LN2), pick(x, LN2_REST)
    t = fma(x, pick(x, LOG2_E), shift)
    k = t - shift
    head = fma(-k, ln2, x)
    r = fma(-k, rest, head)
    return t, r, fma(-k, rest, head - r)


@vector_kernel
def growth(r, low):  # type: ignore[no-untyped-def]
    """Give what is to be added to r for exp(r + low) - 1, of a small r."""
    return fma(r * r, polynomial(r, EXP), low)


@vector_kernel
def grown(r, low):  # type: ignore[no-untyped-def]
    """Give exp(r + low) of a small r."""
    one = pick(r, ONE)
    head = one + r
    return head + (((one - head) + r) + growth(r, low))


@vector_kernel
def exp(x):  # type: ignore[no-untyped-def]
    t, r, low = reduced(clamped(x, pick(x, EXP_LOW), pick(x, EXP_HIGH)))
    return scaled(grown(r, low), t)


@vector_kernel
def exp2(x):  # type: ignore[no-untyped-def]
    x = clamped(x, pick(x, EXP2_LOW), pick(x, EXP2_HIGH))
    shift, ln2 = pick(x, SHIFT), pick(x, LN2)
    t = x + shift
    rest = x - (t - shift)
    r = rest * ln2
    return scaled(grown(r, fma(rest, ln2, -r) + rest * pick(x, LN2_REST)), t)


@vector_kernel
def half_expm1(x):  # type: ignore[no-untyped-def]
    """Give (exp(x) - 1) / 2 as a pair."""
    t, r, low = reduced(clamped(x, pick(x, MINUS_ONE), pick(x, EXP_HIGH)))
    rest = growth(r, low)
    e = r + rest
    scale = power_of_two(t, 1)
    offset = scale - pick(x, HALF)
    head = fma(scale, e, offset)
    return head, fma(scale, e, offset - head) + scale * ((r - e) + rest)


@vector_kernel
def expm1(x):  # type: ignore[no-untyped-def]
    head, tail = half_expm1(x)
    y = head + tail
    return x if abs(x) < pick(x, TINY) else y + y


@vector_kernel
def quarter_exp(x):  # type: ignore[no-untyped-def]
    """Give exp(x) * 2 and a factor of 1/4 or less, apart so that neither overflows before their product does."""
    t, r, low = reduced(clamped(x, pick(x, EXP_LOW), pick(x, HALVED_HIGH)))
    y = grown(r, low)
    return y + y, power_of_two(t, 2)


@vector_kernel
def sinh(x):  # type: ignore[no-untyped-def]
    a = abs(x)
    y, scale = quarter_exp(a)
    half = y * scale
    far = half - pick(x, HALF) * pick(x, HALF) / half
    near = fma(x * x * a, polynomial(x * x, SINH), a)
    return math.copysign(near if a < pick(x, ONE) else far, x)


@vector_kernel
def cosh(x):  # type: ignore[no-untyped-def]
    y, scale = quarter_exp(abs(x))
    half = y * scale
    return half + pick(x, HALF) * pick(x, HALF) / half


@vector_kernel
def tanh(x):  # type: ignore[no-untyped-def]
    one, two = pick(x, ONE), pick(x, TWO)
    a = abs(x)
    h, low = half_expm1(two * clamped(a, pick(x, ZERO), pick(x, TANH_ONE)))
    # h / (h + 1), with what the sum and the quotient lose put back
    d = h + one
    part = d - one
    lost = (h - part) + (one - (d - part)) + low
    inverse = one / d
    q = h * inverse
    y = q + (fma(-q, d, h) + (low - q * lost)) * inverse
    return x if a < pick(x, TINY) else math.copysign(y, x)


@vector_kernel
def expit(x):  # type: ignore[no-untyped-def]
    one = pick(x, ONE)
    e = exp(-abs(x))
    d = one + e
    inverse = one / d
    n = e if x < pick(x, ZERO) else one
    q = n * inverse
    return q + (fma(-q, d, n) - q * ((one - d) + e)) * inverse


@vector_kernel
def erf(x):  # type: ignore[no-untyped-def]
    one = pick(x, ONE)
    a = clamped(abs(x), pick(x, ZERO), pick(x, ERF_HIGH))
    near = fma(a, polynomial(a * a, ERF), a)
    t, r, low = reduced(polynomial(a - pick(x, TWO), ERFC))
    far = one - grown(r, low) * power_of_two(t, 0)
    return math.copysign(near if a < one else far, x)


@vector_kernel
def log_of_sum(f):  # type: ignore[no-untyped-def]
    """Give log(1 + f), sqrt(1/2) <= 1 + f < sqrt(2), as a pair."""
    half = pick(f, HALF) * f
    square = half * f
    head = f - square
    return head, ((f - head) - square) + fma(f * f * f, polynomial(f, LOG), -fma(half, f, -square))


@vector_kernel
def log_edges(y, x):  # type: ignore[no-untyped-def]
    """Give y where it is the logarithm of x; what a logarithm of zero, infinity, ... is, else."""
    zero, infinity = pick(x, ZERO), pick(x, INFINITY)
    y = y if x < infinity else x
    y = y if x > zero else pick(x, NAN)
    return -infinity if x == zero else y


@vector_kernel
def normal_parts(x):  # type: ignore[no-untyped-def]
    """Split x = m * 2**k, sqrt(1/2) <= m < sqrt(2), also where x is subnormal."""
    small = x < pick(x, SMALLEST_NORMAL)
    k, m, _ = split(x * pick(x, LIFT) if small else x)
    return k - pick(x, LIFT_POWER) if small else k, m


@vector_kernel
def gathered(k, short, rest, head, tail):  # type: ignore[no-untyped-def]
    """Add a pair to k * (short + rest), the first product being exact."""
    a = k * short
    y = a + head
    return y + (((a - y) + head) + fma(k, rest, tail))


@vector_kernel
def log(x):  # type: ignore[no-untyped-def]
    k, m = normal_parts(x)
    head, tail = log_of_sum(m - pick(x, ONE))
    return log_edges(gathered(k, pick(x, LN2_SHORT), pick(x, LN2_SHORT_REST), head, tail), x)


@vector_kernel
def times(head, tail, constant, rest):  # type: ignore[no-untyped-def]
    """Multiply a pair by a constant that is a pair."""
    p = head * constant
    return p, fma(head, constant, -p) + fma(head, rest, tail * constant)


@vector_kernel
def log2(x):  # type: ignore[no-untyped-def]
    k, m = normal_parts(x)
    head, tail = log_of_sum(m - pick(x, ONE))
    head, tail = times(head, tail, pick(x, LOG2_E), pick(x, LOG2_E_REST))
    return log_edges(gathered(k, pick(x, ONE), pick(x, ZERO), head, tail), x)


@vector_kernel
def log10(x):  # type: ignore[no-untyped-def]
    k, m = normal_parts(x)
    head, tail = log_of_sum(m - pick(x, ONE))
    head, tail = times(head, tail, pick(x, LOG10_E), pick(x, LOG10_E_REST))
    return log_edges(gathered(k, pick(x, LOG10_2_SHORT), pick(x, LOG10_2_SHORT_REST), head, tail), x)


@vector_kernel
def log1p_pair(x, low, doublings):  # type: ignore[no-untyped-def]
    """Give log(1 + x + low) plus so many times log(2); x > -1."""
    zero, half, one = pick(x, ZERO), pick(x, HALF), pick(x, ONE)
    u = one + x
    lost = one - (u - x) if x > one else x - (u - one)
    k, m, inverse = split(u)
    f = x if k == zero else m - one
    correction = (low if k == zero else low + lost) * inverse
    head, tail = log_of_sum(f)
    tail = fma(correction, fma(-half, f, half), tail)
    return gathered(k + doublings, pick(x, LN2_SHORT), pick(x, LN2_SHORT_REST), head, tail)


@vector_kernel
def log1p(x):  # type: ignore[no-untyped-def]
    zero = pick(x, ZERO)
    y = log_edges(log1p_pair(x, zero, zero), pick(x, ONE) + x)
    return x if abs(x) < pick(x, TINY) else y


@vector_kernel
def logaddexp(x, y):  # type: ignore[no-untyped-def]
    top = x if x > y else y
    apart = pick(x, ZERO) if x == y else abs(x - y)
    return top + log1p(exp(-apart))


@vector_kernel
def logaddexp2(x, y):  # type: ignore[no-untyped-def]
    top = x if x > y else y
    apart = pick(x, ZERO) if x == y else abs(x - y)
    return top + pick(x, ONE) if x == y else fma(log1p(exp2(-apart)), pick(x, LOG2_E), top)


@vector_kernel
def arcsinh(x):  # type: ignore[no-untyped-def]
    zero, one = pick(x, ZERO), pick(x, ONE)
    a = abs(x)
    large = a > pick(x, LARGE)
    b = pick(x, LARGE) if large else a
    rest = b * (b / (one + math.sqrt(fma(b, b, one))))
    rest = zero if large else rest
    u = a + rest
    y = log1p_pair(u, (a - u) + rest, one if large else zero)
    y = y if a < pick(x, INFINITY) else a
    return x if a < pick(x, TINY) else math.copysign(y, x)


@vector_kernel
def arccosh(x):  # type: ignore[no-untyped-def]
    zero, one, two = pick(x, ZERO), pick(x, ONE), pick(x, TWO)
    large = x > pick(x, LARGE)
    t = x - one
    b = pick(x, LARGE) if large else t
    square = fma(b, b, two * b)
    root = math.sqrt(square)
    root = zero if large else root
    u = t + root
    lost = (t - u) + root if t > root else (root - u) + t
    y = log1p_pair(u, lost, one if large else zero)
    y = y if x < pick(x, INFINITY) else x
    return pick(x, NAN) if x < one else y


@vector_kernel
def arctanh(x):  # type: ignore[no-untyped-def]
    zero, one = pick(x, ZERO), pick(x, ONE)
    a = abs(x)
    n, d = a + a, one - a
    inverse = one / d
    q = n * inverse
    low = (fma(-q, d, n) - q * ((one - d) - a)) * inverse
    y = pick(x, HALF) * log1p_pair(q, low, zero)
    y = y if a < one else (pick(x, INFINITY) if a == one else pick(x, NAN))
    return x if a < pick(x, TINY) else math.copysign(y, x)


@vector_kernel
def log_pair(a):  # type: ignore[no-untyped-def]
    """Give log(a), a > 0, as a pair good to a few bits less than twice the precision."""
    one = pick(a, ONE)
    k, m = normal_parts(a)
    # log(m) is 2 * artanh(s), s = (m - 1) / (m + 1)
    f, d = m - one, m + one
    inverse = one / d
    s = f * inverse
    s_low = (fma(-s, d, f) - s * (m - (d - one))) * inverse
    z = s * s
    z_low = fma(s, s, -z) + (s + s) * s_low
    b = fma(z, polynomial(z, ATANH), pick(a, THIRD_REST))
    c = pick(a, THIRD) + b
    c_low = (pick(a, THIRD) - c) + b
    w = z * c
    w_low = fma(z, c, -w) + fma(z, c_low, z_low * c)
    p = s * w
    p_low = fma(s, w, -p) + fma(s, w_low, s_low * w)
    head = s + p
    tail = ((s - head) + p) + (p_low + s_low)
    head, tail = head + head, tail + tail
    n = k * pick(a, LN2_SHORT)
    y = n + head
    low = ((n - y) + head) + fma(k, pick(a, LN2_SHORT_REST), tail)
    total = y + low
    return total, (y - total) + low


@vector_kernel
def power(x, y):  # type: ignore[no-untyped-def]
    zero, one, infinity = pick(x, ZERO), pick(x, ONE), pick(x, INFINITY)
    a = abs(x)
    head, tail = log_pair(a)
    p = y * head
    low = fma(y, head, -p) + y * tail
    bounded = clamped(p, pick(x, EXP_LOW), pick(x, EXP_HIGH))
    t, r, rest = reduced(bounded)
    rest = rest + (low if bounded == p else zero)
    whole_r = r + rest
    z = scaled(grown(whole_r, (r - whole_r) + rest), t)
    extreme = ((a == zero) | (a == infinity)) & (y == y)
    z = (infinity if (a == zero) == (y < zero) else zero) if extreme else z
    z = z if x == x else x
    half = pick(x, HALF) * y
    whole = np.floor(y) == y
    z = pick(x, NAN) if (x < zero) & (a < infinity) & (not whole) & (y == y) else z
    z = math.copysign(z, x) if whole & (np.floor(half) != half) else z
    return one if (y == zero) | (x == one) | ((x == -one) & (abs(y) == infinity)) else z
