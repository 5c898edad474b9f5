"""Huge angles: what is left of them above the nearest multiple of pi / 2, whatever their size (Payne and Hanek).

Not for vectors: a tile that has such an angle is done number by number.
"""

import math

import numpy as np

from .floats import fma
from .jit import kernel

#: 2 / pi, 32 bits a word; the first is what stands before the point
TWO_OVER_PI = np.array(
    [
        0x00000000, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561,
        0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484, 0xe99c7026,
        0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b, 0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f,
        0x6d367ecf, 0x27cb09b7, 0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1,
        0x1f8d5d08, 0x56033046, 0xfc7b6bab,
    ],
    np.uint64,
)  # fmt: skip
QUARTER, QUARTER_REST = 1.5707963267948966, 6.123233995736766e-17
ROUND = 1.5 * 2.0**52
LOW, WORD, TOP, EIGHTH = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(62), np.uint64(1 << 61)


@kernel
def huge_quadrant(x):  # type: ignore[no-untyped-def]
    """Write x = k * pi / 2 + (r + low); give k (up to a multiple of 4) + 1.5 * 2**52, r, low; for finite |x| > 2**24."""
    fraction, exponent = math.frexp(abs(x))
    m = np.uint64(fraction * 2.0**53)
    place = exponent - 53 + 30
    start, shift = place // 32, np.uint64(place % 32)
    # x * 2 / pi modulo 4: 192 bits a, b, c of which all but the first two are behind the point
    a = b = c = carry = np.uint64(0)
    below = TWO_OVER_PI[start + 6]
    for j in range(5, -1, -1):
        word = TWO_OVER_PI[start + j]
        product, other = (m & LOW) * word, (m >> WORD) * below
        total = (product & LOW) + (other & LOW) + (carry & LOW)
        carry = (product >> WORD) + (other >> WORD) + (carry >> WORD) + (total >> WORD)
        c = (c >> WORD) | (b << WORD)
        b = (b >> WORD) | (a << WORD)
        a = (a >> WORD) | (total << WORD)
        below = word
    if shift > np.uint64(0):
        back = np.uint64(64) - shift
        a = (a << shift) | (b >> back)
        b = (b << shift) | (c >> back)
        c = c << shift
    k = (a + EIGHTH) >> TOP
    a -= k << TOP
    negative = (a >> np.uint64(63)) != np.uint64(0)
    if negative:
        a, b, c = ~a, ~b, ~c
    head, tail, weight = 0.0, 0.0, 2.0**-30
    for part in (a, b, c):
        for half in (part >> WORD, part & LOW):
            value = np.float64(half) * weight
            y = head + value
            tail += (head - y) + value
            head = y
            weight *= 2.0**-32
    p = head * QUARTER
    rest = fma(head, QUARTER, -p) + (head * QUARTER_REST + tail * QUARTER)
    r = p + rest
    low = (p - r) + rest
    if negative != (x < 0.0):
        r, low = -r, -low
    return ROUND + math.copysign(np.float64(k), x), r, low
