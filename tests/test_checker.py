"""The tester is tested: check_grads passes right derivatives and fails those that are off by 0.1 %.

A wrong rule is built with stop_gradient, which leaves the value alone and changes only the derivative.
"""

import numpy as np
import pytest

import tapead
from tapead import check_grads, stop_gradient
from tapead.check import CheckError

X = np.array([0.3, -1.2, 2.5, 0.7])
M = np.array([[2.0, -1.0, 0.0, 1.0], [0.5, 1.0, 3.0, -1.0]])


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def softmax_loss(x):
    z = M @ np.tanh(x)
    return np.log(np.sum(np.exp(z))) - z[0]


def products(x):
    return np.prod(np.sin(x) + 2.0) / np.sqrt(1.0 + x @ x)


def with_wrong_slope(x, share):
    """The value x, the derivative 1 + share."""
    return x + share * (x - stop_gradient(x))


def with_wrong_curvature(f, share):
    """The value and the gradient of f, 1 + share times its second derivative."""

    def wrong(x):
        here, gradient = stop_gradient(x), stop_gradient(tapead.grad(f)(x))
        return f(x) + share * (f(x) - f(here) - np.sum(gradient * (x - here)))

    return wrong


FUNCTIONS = [rosenbrock, softmax_loss, products]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", FUNCTIONS)
def test_right_derivatives_pass(f, dtype, order):
    check_grads(f, (X.astype(dtype),), order=order)


@pytest.mark.parametrize("share", [1e-3, -1e-3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", FUNCTIONS)
def test_a_gradient_off_by_a_thousandth_fails(f, dtype, share):
    with pytest.raises(CheckError) as caught:
        check_grads(lambda x: f(with_wrong_slope(x, share)), (X.astype(dtype),))
    assert caught.value.order == 1
    assert caught.value.got == pytest.approx(caught.value.expected * (1 + share), rel=3e-4)


@pytest.mark.parametrize("share", [1e-3, -1e-3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", FUNCTIONS)
def test_a_second_derivative_off_by_a_thousandth_fails(f, dtype, share):
    wrong, x = with_wrong_curvature(f, share), X.astype(dtype)
    check_grads(wrong, (x,), order=1)
    with pytest.raises(CheckError) as caught:
        check_grads(wrong, (x,), order=2)
    assert caught.value.order == 2
    assert caught.value.got == pytest.approx(caught.value.expected * (1 + share), rel=3e-4)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_gradient_function_off_by_a_thousandth_fails(monkeypatch, dtype, order):
    """The same with the engine's own gradient replaced: right up to `order` - 1, wrong at `order`."""
    levels = []

    def off(f, *args, **kwargs):
        levels.append(f)
        gradient = tapead.grad(f, *args, **kwargs)
        # check_grads takes the gradient to compare and, where it goes on, the gradient to project.
        return gradient if len(levels) < 2 * order - 1 else lambda x: [1.001 * g for g in gradient(x)]

    monkeypatch.setattr(tapead.check, "grad", off)
    with pytest.raises(CheckError) as caught:
        check_grads(products, (X.astype(dtype),), order=order, modes="rev")
    assert caught.value.order == order
    assert caught.value.modes == ("rev",) * order


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("modes", [("fwd",), ("rev",), ("fwd", "rev"), ["rev", "fwd"], "fwd", "rev"])
def test_every_choice_of_modes_passes(modes, dtype):
    check_grads(products, (X.astype(dtype),), order=2, modes=modes)


@pytest.mark.parametrize("wrong", ["fwd", "rev"])
@pytest.mark.parametrize("inner", [None, "fwd", "rev"])
def test_a_mode_that_is_off_by_a_thousandth_is_named(monkeypatch, inner, wrong):
    """One of the four pairs (or of the two modes) is made wrong; the others are right, and it is found."""
    quotients = tapead.check._Quotients
    by_tape, slope = quotients.by_tape, tapead.check._slope
    made = {}

    def noted(f, v, mode):
        found = slope(f, v, mode)
        made[id(found)] = mode, found
        return found

    def off(self, mode):
        at = made.get(id(self.f), (None, None))[0]
        return by_tape(self, mode) * (1.001 if (at, mode) == (inner, wrong) else 1.0)

    monkeypatch.setattr(tapead.check, "_slope", noted)
    monkeypatch.setattr(quotients, "by_tape", off)
    with pytest.raises(CheckError, match=" over ".join(filter(None, (wrong, inner)))) as caught:
        check_grads(products, (X,), order=2)
    assert caught.value.modes == tuple(filter(None, (wrong, inner)))
    assert caught.value.order == len(caught.value.modes)


def test_modes_that_are_not_chosen_are_not_taken(monkeypatch):
    def broken(*arguments, **options):
        raise AssertionError("taken")

    with monkeypatch.context() as patch:
        patch.setattr(tapead, "jvp", broken)
        check_grads(products, (X,), order=2, modes="rev")
    patched = tapead.grad
    with monkeypatch.context() as patch:
        patch.setattr(tapead.check, "grad", broken)
        check_grads(products, (X,), order=1, modes="fwd")
    assert tapead.grad is patched


def test_third_order():
    check_grads(lambda x: np.sum(np.sin(x) ** 2), (X,), order=3)


def test_one_wrong_component_among_many_fails():
    x = np.linspace(-1.0, 1.0, 200)

    def wrong(x):
        return np.sum(np.sin(x[:-1])) + np.sin(with_wrong_slope(x[-1], 1e-3))

    with pytest.raises(CheckError):
        check_grads(wrong, (x,))


def test_the_error_names_direction_expected_and_got():
    def wrong(x, y):
        return np.sum(x**2) + np.sum(np.sin(with_wrong_slope(y, 1e-2)))

    x, y = np.array([1.0, 2.0]), 0.5
    with pytest.raises(CheckError) as caught:
        check_grads(wrong, (x, y))
    dx, dy = caught.value.direction
    assert np.sum(dx**2) + dy**2 == pytest.approx(1.0)
    assert caught.value.expected == pytest.approx(2 * x @ dx + np.cos(y) * dy, rel=1e-6)
    assert caught.value.got == pytest.approx(2 * x @ dx + 1.01 * np.cos(y) * dy, rel=1e-6)
    message = str(caught.value)
    for part in ("expected", "got", "direction"):
        assert part in message
    for number in (caught.value.expected, caught.value.got):
        assert f"{number:.10g}"[:8] in message


def test_the_worst_direction_is_the_one_named():
    """A function wrong in its last component only: the direction that moves most along it is the worst."""

    def wrong(x):
        return np.sum(x[:-1]) + with_wrong_slope(x[-1], 0.1)

    with pytest.raises(CheckError) as caught:
        check_grads(wrong, (X,), directions=50)
    (u,) = caught.value.direction
    assert caught.value.got - caught.value.expected == pytest.approx(0.1 * u[-1], rel=1e-3)
    assert abs(u[-1]) > 0.7  # one direction of 50 in four dimensions; a random one has 1/2


def test_argnums_select_what_is_checked():
    def wrong(x, y):
        return np.sum(x**2) + np.sum(with_wrong_slope(y, 0.1) ** 3)

    check_grads(wrong, (X, X), argnums=0)
    for argnums in (1, -1, (0, 1), None):
        with pytest.raises(CheckError):
            check_grads(wrong, (X, X), argnums=argnums)


def test_pytrees_scalars_and_passengers():
    def f(p, index, name, power):
        assert name == "sine"
        return np.sum(np.sin(p["w"] @ p["layers"][0])[index]) ** power * p["b"]

    p = {"w": M, "layers": [X, None, 3], "b": 0.25}
    check_grads(f, (p, np.array([0, 1, 1]), "sine", 2), order=2)


def test_seeds_draw_different_directions():
    def wrong(x):
        return np.sum(with_wrong_slope(x, 0.1))

    directions = []
    for seed in (0, 0, 1):
        with pytest.raises(CheckError) as caught:
            check_grads(wrong, (X,), seed=seed)
        directions.append(caught.value.direction[0])
    np.testing.assert_array_equal(directions[0], directions[1])
    assert not np.allclose(directions[0], directions[2])


def test_tolerances_decide():
    def wrong(x):
        return np.sum(with_wrong_slope(x, 1e-3) ** 2)

    check_grads(wrong, (X,), rtol=1e-2)
    check_grads(wrong, (X,), atol=1.0)
    with pytest.raises(CheckError):
        check_grads(np.sin, (0.5,), rtol=0.0, atol=0.0, eps=1e-2)


def test_a_gradient_that_is_not_finite_fails():
    with np.errstate(all="ignore"), pytest.raises(CheckError):
        check_grads(lambda x: np.sum(np.sqrt(x)), (np.array([0.0, 1.0]),))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_large_and_small_values_pass(scale):
    """Rounding of f's value is allowed for: 1e9 + x has no more digits to compare."""
    check_grads(lambda x: np.sum(scale * np.sin(x)), (X,), order=2)
    check_grads(lambda x: scale + np.sum(np.sin(x)), (X,))


def test_many_components_pass():
    x = np.random.default_rng(0).standard_normal(20_000)
    check_grads(lambda x: np.sum(np.exp(np.sin(x))), (x,))
    check_grads(lambda x: np.sum(np.exp(np.sin(x))), (x.astype(np.float32),))
