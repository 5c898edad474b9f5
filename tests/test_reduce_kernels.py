"""The kernels along rows, called directly."""

import numpy as np
import pytest
from one_op import OneOp, check

from tapead.kernels.table import OPS

RNG = np.random.default_rng(0)
EXTREMES = [("max", np.max), ("min", np.min)]


@pytest.mark.parametrize("name", ["max", "min", "prod", "cumsum"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_samples(name, dtype):
    for operands, parameters in OPS[name].samples(np.random.default_rng(1)):
        check(name, [x.astype(dtype) for x in operands], parameters)


@pytest.mark.parametrize(("name", "extreme"), EXTREMES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_extremes_of_every_length(name, extreme, dtype):
    for n in range(1, 20):
        x = RNG.integers(-4, 5, (7, n)).astype(dtype)
        one = OneOp(name, [x])
        assert one.forward() == 0
        np.testing.assert_array_equal(one.results[0], extreme(x, axis=1))
        if dtype == np.int64:
            continue
        bar = RNG.uniform(-1, 1, 7).astype(dtype)
        bar[0] = 0
        ties = x == one.results[0][:, None]
        shared = bar[:, None] * ties / ties.sum(axis=1, keepdims=True)
        for first in (0, 1):
            np.testing.assert_allclose(one.reverse(bar, first=first)[0], shared, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "extreme"), EXTREMES)
def test_extremes_with_nan_and_infinity(name, extreme):
    """One NaN makes the extreme NaN, which nothing attains; infinity is like any other number."""
    for n in range(1, 14):
        for special in (np.nan, np.inf, -np.inf):
            x = np.where(np.eye(n, dtype=bool), special, RNG.uniform(-1, 1, (n, n)))
            one = OneOp(name, [x])
            assert one.forward() == 0
            np.testing.assert_array_equal(one.results[0], extreme(x, axis=1))
            for first in (0, 1):
                np.testing.assert_array_equal(one.reverse(np.ones(n), first=first)[0], x == one.results[0][:, None])
