"""SciPy's special functions on traced values: values, derivatives, infinities, replays."""

import numpy as np
import pytest
import scipy.special
from test_functions import along, dot, same

import tapead
from tapead.record import Recording
from tapead.scipy import special

A = np.array([[0.3, -1.2, 2.0], [1.0, 0.4, -0.7]])
B = np.array([[1.0, 0.5, 2.0], [0.0, 3.0, 1.0]])
INF = np.inf

CALLS = [
    lambda s, x: s.logsumexp(x),
    lambda s, x: s.logsumexp(x, axis=0),
    lambda s, x: s.logsumexp(x, axis=1, keepdims=True),
    lambda s, x: s.logsumexp(x, axis=(0, 1)),
    lambda s, x: s.logsumexp(x + 1000.0, axis=-1),
    lambda s, x: s.logsumexp(x, axis=1, b=B),
    lambda s, x: s.logsumexp(A, axis=1, b=x**2),
    lambda s, x: s.logsumexp(x[0, 0]),
    lambda s, x: s.softmax(x),
    lambda s, x: s.softmax(x, axis=1),
    lambda s, x: s.softmax(x - 1000.0, axis=0),
    lambda s, x: s.log_softmax(x),
    lambda s, x: s.log_softmax(x, axis=-1),
    lambda s, x: s.log_softmax(100.0 * x, axis=0),
    lambda s, x: s.expit(x),
    lambda s, x: s.erf(x),
    lambda s, x: s.xlogy(x, B + 1.0),
    lambda s, x: s.xlogy(B, x**2),
    lambda s, x: s.xlogy(x, x**2),
    lambda s, x: s.entr(x**2),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_value(call, dtype):
    x = A.astype(dtype)
    with Recording(replays=True) as tape:
        traced = tape.enter(x, levels=1)
        same(call(special, traced), call(scipy.special, x), 1e-13 if dtype is np.float64 else 1e-5)
        assert not tape.volatile
    same(call(special, x), call(scipy.special, x))


@pytest.mark.parametrize("call", CALLS)
def test_derivatives_and_replay(call):
    def f(x, s=special):
        y = call(s, x)
        return np.sum(y * np.cos(np.arange(y.size)).reshape(y.shape) + y * y)

    vg = tapead.value_and_grad(f)
    rng = np.random.default_rng(3)
    for x in (A, A[:, ::-1] * 0.7 + 0.1):
        value, gradient = vg(x)
        np.testing.assert_allclose(value, f(x, scipy.special), rtol=1e-12)
        v, w = rng.standard_normal((2, *x.shape))
        np.testing.assert_allclose(dot([gradient], [v]), along(lambda a: f(a[0]), [x], [v]), rtol=1e-7, atol=1e-8)
        twice = tapead.grad(lambda x, v=v: np.sum(tapead.grad(f)(x) * v))
        slope = along(lambda a, v=v: np.sum(tapead.grad(f)(a[0]) * v), [x], [w])
        np.testing.assert_allclose(np.sum(twice(x) * w), slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "x",
    [
        [[-INF, -INF], [0.0, 1.0]],
        [[-INF, 3.0], [0.0, -INF]],
        [[INF, 3.0], [0.0, 1.0]],
        [[INF, -INF], [INF, INF]],
        [[np.nan, 1.0], [0.0, 1.0]],
    ],
)
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_infinities(x):
    """Values are SciPy's; a row that is -inf throughout, or whose sum is infinite, sends no NaN to others."""
    x = np.array(x)
    for name in ("logsumexp", "softmax", "log_softmax"):
        with Recording(replays=True) as tape:
            same(
                getattr(special, name)(tape.enter(x, levels=1), axis=1),
                getattr(scipy.special, name)(x, axis=1),
            )
    value, gradient = tapead.value_and_grad(lambda x: np.sum(special.logsumexp(x, axis=1)))(x)
    assert np.isfinite(gradient[np.isfinite(scipy.special.logsumexp(x, axis=1))]).all()
    if not np.isnan(x).any():
        assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(value, np.sum(scipy.special.logsumexp(x, axis=1)))


def test_minus_infinity_among_numbers_has_no_share():
    gradient = tapead.grad(special.logsumexp)(np.array([-INF, 0.0, 0.0]))
    np.testing.assert_allclose(gradient, [0.0, 0.5, 0.5])
    np.testing.assert_array_equal(tapead.grad(special.logsumexp)(np.full(3, -INF)), np.zeros(3))


def test_scipys_own_ufuncs_record():
    for own in (scipy.special.expit, scipy.special.erf, scipy.special.entr):
        x = np.array([0.2, 0.9])
        gradient = tapead.grad(lambda x, own=own: np.sum(own(x)))(x)
        np.testing.assert_allclose(np.sum(gradient), along(lambda a, own=own: np.sum(own(a[0])), [x], [np.ones(2)]))
    np.testing.assert_allclose(tapead.grad(lambda x: scipy.special.xlogy(x, 2.0))(1.5), np.log(2.0))


def test_no_sign():
    with pytest.raises(NotImplementedError, match="return_sign"):
        tapead.grad(lambda x: special.logsumexp(x, return_sign=True)[0])(A)
