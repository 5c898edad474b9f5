"""Trigonometry, vectorised by LLVM; see `vecmath.py`."""

import math

import numpy as np

from .coefficients import ARCSIN, ARCTAN, COS, SIN
from .exponentials import HALF, INFINITY, ONE, TINY, TWO, ZERO, clamped
from .floats import fma, odd, pick, polynomial, rounded, turned
from .huge import huge_quadrant
from .jit import kernel, vector_kernel

#: up to it three numbers hold enough of pi; beyond, see `huge.py`
NEAR = (2.0**40, 2.0**15)
#: added to a number, rounds it to an integer held in the low bits
ROUND = (1.5 * 2.0**52, 1.5 * 2.0**23)
TWO_OVER_PI = (0.6366197723675814, 0.6366197466850281)
#: pi / 2 in three parts
QUARTER = (1.5707963267948966, 1.5707963705062866)
QUARTER_REST = (6.123233995736766e-17, -4.371138828673793e-08)
QUARTER_LAST = (-1.4973849048591698e-33, -1.7151245100058819e-15)
PI, PI_REST = (3.141592653589793, 3.1415927410125732), (1.2246467991473532e-16, -8.742277657347586e-08)
HUGE = (1e300, 1e30)


@vector_kernel
def quadrant(x):  # type: ignore[no-untyped-def]
    """Write x = k * pi / 2 + (r + low); give k + ROUND, r, low; for |x| < NEAR."""
    t = fma(x, pick(x, TWO_OVER_PI), pick(x, ROUND))
    k = t - pick(x, ROUND)
    head = fma(-k, pick(x, QUARTER), x)  # exact
    w, rest = k * pick(x, QUARTER_REST), pick(x, QUARTER_REST)
    r = head - w
    part = r - head
    lost = (head - (r - part)) - (w + part)
    return t, r, lost - fma(k, pick(x, QUARTER_LAST), fma(k, rest, -w))


@vector_kernel
def sine_tail(r, low):  # type: ignore[no-untyped-def]
    """Give what is to be added to r for sin(r + low)."""
    z = r * r
    return fma(z * r, polynomial(z, SIN), fma(-pick(r, HALF) * z, low, low))


@vector_kernel
def cosine_pair(r, low):  # type: ignore[no-untyped-def]
    """Give cos(r + low) as a pair."""
    one = pick(r, ONE)
    z = r * r
    half = pick(r, HALF) * z
    head = one - half
    return head, ((one - head) - half) + fma(z * z, polynomial(z, COS), -r * low)


@vector_kernel
def sincos_of(t, r, low):  # type: ignore[no-untyped-def]
    """Give sine and cosine of k * pi / 2 + (r + low), given k + ROUND."""
    head, tail = cosine_pair(r, low)
    s, c = r + sine_tail(r, low), head + tail
    swapped = odd(t)
    return turned(c if swapped else s, t), turned(-s if swapped else c, t)


@vector_kernel
def tan_of(t, r, low):  # type: ignore[no-untyped-def]
    """Give the tangent of k * pi / 2 + (r + low), given k + ROUND."""
    rest = sine_tail(r, low)
    s = r + rest
    s_low = (r - s) + rest
    head, tail = cosine_pair(r, low)
    c = head + tail
    c_low = (head - c) + tail
    swapped = odd(t)
    n, n_low = (-c, -c_low) if swapped else (s, s_low)
    d, d_low = (s, s_low) if swapped else (c, c_low)
    inverse = pick(r, ONE) / d
    q = n * inverse
    return q + (fma(-q, d, n) + (n_low - q * d_low)) * inverse


@vector_kernel
def near_sincos(x):  # type: ignore[no-untyped-def]
    """Give sine and cosine of x, |x| <= NEAR."""
    s, c = sincos_of(*quadrant(x))
    return x if abs(x) < pick(x, TINY) else s, c


@vector_kernel
def near_sin(x):  # type: ignore[no-untyped-def]
    return near_sincos(x)[0]


@vector_kernel
def near_cos(x):  # type: ignore[no-untyped-def]
    return near_sincos(x)[1]


@vector_kernel
def near_tan(x):  # type: ignore[no-untyped-def]
    y = tan_of(*quadrant(x))
    return x if abs(x) < pick(x, TINY) else y


@kernel
def far_sincos(x):  # type: ignore[no-untyped-def]
    """Give sine and cosine of x, |x| > NEAR."""
    if abs(x) == pick(x, INFINITY):
        return x - x, x - x
    s, c = sincos_of(*huge_quadrant(np.float64(x)))
    return rounded(x, s), rounded(x, c)


@kernel
def far_tan(x):  # type: ignore[no-untyped-def]
    """Give the tangent of x, |x| > NEAR."""
    if abs(x) == pick(x, INFINITY):
        return x - x
    return rounded(x, tan_of(*huge_quadrant(np.float64(x))))


@kernel
def sin(x):  # type: ignore[no-untyped-def]
    return far_sincos(x)[0] if abs(x) > pick(x, NEAR) else near_sin(x)


@kernel
def cos(x):  # type: ignore[no-untyped-def]
    return far_sincos(x)[1] if abs(x) > pick(x, NEAR) else near_cos(x)


@kernel
def tan(x):  # type: ignore[no-untyped-def]
    return far_tan(x) if abs(x) > pick(x, NEAR) else near_tan(x)


@kernel
def all_near(tile, n):  # type: ignore[no-untyped-def]
    """Tell whether no number of a tile is beyond NEAR."""
    far = 0
    for i in range(n):
        far |= abs(tile[i]) > pick(tile[i], NEAR)
    return far == 0


@vector_kernel
def angle_tail(v, low):  # type: ignore[no-untyped-def]
    """Give what is to be added to v for arctan(v + low), 0 <= v <= 1."""
    z = v * v
    return fma(z * v, polynomial(z, ARCTAN), fma(-pick(v, HALF) * z, low, low))


@vector_kernel
def short_of(whole, whole_rest, v, tail):  # type: ignore[no-untyped-def]
    """Give whole + whole_rest - v - tail."""
    y = whole - v
    return y + (((whole - y) - v) + (whole_rest - tail))


@vector_kernel
def arctan(x):  # type: ignore[no-untyped-def]
    zero, one = pick(x, ZERO), pick(x, ONE)
    a = clamped(abs(x), zero, pick(x, HUGE))
    far = a > one
    inverse = one / a
    v = inverse if far else a
    low = fma(-inverse, a, one) * inverse if far else zero
    tail = angle_tail(v, low)
    y = short_of(pick(x, QUARTER), pick(x, QUARTER_REST), v, tail) if far else v + tail
    return math.copysign(y, x)


@vector_kernel
def arctan2(y, x):  # type: ignore[no-untyped-def]
    zero, one, infinity = pick(x, ZERO), pick(x, ONE), pick(x, INFINITY)
    a, b = abs(y), abs(x)
    far = a > b
    n, d = (b, a) if far else (a, b)
    v = n / d
    low = fma(-v, d, n) / d
    low = low if d < infinity else zero
    v = one if n == infinity else (zero if d == zero else v)
    low = zero if d == zero else low
    tail = angle_tail(v, low)
    angle = short_of(pick(x, QUARTER), pick(x, QUARTER_REST), v, tail)
    angle = angle if far else v + tail
    negative = math.copysign(one, x) < zero
    v, tail = (-v, -tail) if far else (v, tail)
    # left of the y axis: pi - angle, through pi / 2 + v where the angle is pi / 2 - v
    left = short_of(
        pick(x, QUARTER) if far else pick(x, PI), pick(x, QUARTER_REST) if far else pick(x, PI_REST), v, tail
    )
    angle = math.copysign(left if negative else angle, y)
    return x + y if (x != x) | (y != y) else angle


@vector_kernel
def arc_parts(x):  # type: ignore[no-untyped-def]
    """Give whether |x| > 1/2, and a pair: arcsin(|x|), or arcsin(sqrt((1 - |x|) / 2)) there."""
    zero, half = pick(x, ZERO), pick(x, HALF)
    a = abs(x)
    far = a > half
    z = half * (pick(x, ONE) - a) if far else a * a
    root = math.sqrt(z)
    v = root if far else a
    low = fma(-root, root, z) / (root + root + pick(x, TINY) * pick(x, TINY)) if far else zero
    return far, v, fma(z * v, polynomial(z, ARCSIN), fma(half * z, low, low))


@vector_kernel
def arcsin(x):  # type: ignore[no-untyped-def]
    two = pick(x, TWO)
    far, v, tail = arc_parts(x)
    y = short_of(pick(x, QUARTER), pick(x, QUARTER_REST), two * v, two * tail) if far else v + tail
    return math.copysign(y, x)


@vector_kernel
def arccos(x):  # type: ignore[no-untyped-def]
    two, zero = pick(x, TWO), pick(x, ZERO)
    far, v, tail = arc_parts(x)
    w, w_tail = math.copysign(v, x), math.copysign(tail, x)
    w_tail = w_tail if tail > zero else -w_tail
    near = short_of(pick(x, QUARTER), pick(x, QUARTER_REST), w, w_tail)
    left = short_of(pick(x, PI), pick(x, PI_REST), two * v, two * tail)
    y = left if x < zero else two * (v + tail)
    return y if far else near
