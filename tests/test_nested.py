"""Gradients of functions that use gradients: one tape, fresh nodes, no confusion of perturbations."""

import expect
import numpy as np
import pytest

import tapead
from tapead import grad, value_and_grad

X = np.array([0.4, -0.9, 1.7])
V = np.array([1.0, 0.5, -2.0])
A = np.array([[2.0, 1.0, 0.0], [-1.0, 3.0, 0.5], [0.0, 0.5, 1.0]])


def derivative(f, times):
    for _ in range(times):
        f = grad(f)
    return f


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_repeated_gradients_of_a_power(times):
    # d^k/dx^k x^5 = 5!/(5-k)! x^(5-k)
    factor = np.prod(np.arange(5, 5 - times, -1))
    for x in (1.3, -0.7):
        assert derivative(lambda x: x**5, times)(x) == pytest.approx(factor * x ** (5 - times), rel=1e-12)


@pytest.mark.parametrize(
    ("f", "second"),
    [
        (np.sin, lambda x: -np.sin(x)),
        (np.exp, np.exp),
        (np.log, lambda x: -1 / x**2),
        (np.tanh, lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2)),
        (np.sqrt, lambda x: -0.25 * x**-1.5),
        (lambda x: 1 / x, lambda x: 2 / x**3),
        (lambda x: np.arctan2(x, 2.0), lambda x: -4 * x / (4 + x * x) ** 2),
        (lambda x: x**x, lambda x: x**x * ((np.log(x) + 1) ** 2 + 1 / x)),
    ],
)
def test_second_derivatives_of_scalars(f, second):
    for x in (0.6, 1.9):
        assert derivative(f, 2)(x) == pytest.approx(second(x), rel=1e-11)


def test_no_perturbation_confusion():
    """d/dx (x · d/dy (x + y)) = 1: the inner derivative does not see x."""
    for x in (1.0, 3.0):
        assert grad(lambda x: x * grad(lambda y: x + y)(2.0))(x) == pytest.approx(1.0)


def test_inner_and_outer_variable_of_the_same_value():
    """d/dx (x · d/dy (x y²) at y = x) = d/dx 2 x³ = 6 x²."""
    for x in (0.5, 2.0):
        assert grad(lambda x: x * grad(lambda y: x * y**2)(x))(x) == pytest.approx(6 * x**2, rel=1e-14)


def test_closures_over_outer_values():
    """f(x) = d/dy sin(x y) at y = 2 is x cos(2 x)."""
    f = grad(lambda x: grad(lambda y: np.sin(x * y))(2.0))
    for x in (0.3, 1.1):
        assert f(x) == pytest.approx(np.cos(2 * x) - 2 * x * np.sin(2 * x), rel=1e-13)


def test_closures_three_deep():
    """d/dx d/dy d/dz of x² y³ z at (x, y, z) = 6 x y² at y = 2: 2 x · 3 · 4."""
    f = grad(lambda x: grad(lambda y: grad(lambda z: x**2 * y**3 * z)(5.0))(2.0))
    assert f(1.5) == pytest.approx(2 * 1.5 * 3 * 4)


def test_inner_gradient_that_does_not_see_the_outer_value():
    """d/dx of a constant gradient is zero, and the inner one keeps its value."""
    seen = []

    def f(x):
        inner = grad(np.sin)(0.5)
        seen.append(float(inner))
        return inner * 3.0 + 0 * x

    assert grad(f)(1.0) == 0.0
    assert seen[0] == pytest.approx(np.cos(0.5))


def quadratic(x):
    return 0.5 * x @ A @ x


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_hessian(x):
    h = np.diag(np.r_[1200 * x[:-1] ** 2 - 400 * x[1:] + 2, 200.0])
    h[1:-1, 1:-1] += 200 * np.eye(len(x) - 2)
    return h - 400 * (np.diag(x[:-1], 1) + np.diag(x[:-1], -1))


CASES = [
    (quadratic, lambda x: (A + A.T) / 2),
    (rosenbrock, rosenbrock_hessian),
    (lambda x: np.prod(x), lambda x: np.prod(x) / np.outer(x, x) * (1 - np.eye(len(x)))),
    (lambda x: np.log(np.sum(np.exp(x))), lambda x: np.diag(softmax(x)) - np.outer(softmax(x), softmax(x))),
]


def softmax(x):
    return np.exp(x) / np.sum(np.exp(x))


@pytest.mark.parametrize(("f", "hessian"), CASES)
def test_hessian_vector_product(f, hessian):
    """The gradient of <∇f, v> is H v; at a second point by replay."""
    hvp = grad(lambda x: np.sum(grad(f)(x) * V))
    for x in (X, X[::-1].copy() + 0.1):
        np.testing.assert_allclose(hvp(x), hessian(x) @ V, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("f", "hessian"), CASES)
def test_hessian_row_by_row(f, hessian):
    rows = [grad(lambda x, i=i: grad(f)(x)[i])(X) for i in range(len(X))]
    np.testing.assert_allclose(rows, hessian(X), rtol=1e-10, atol=1e-10)


def test_hessian_vector_product_with_a_traced_vector():
    """<∇f(x), v> differentiated in v is the gradient again, in x is H v."""
    dx, dv = grad(lambda x, v: np.sum(grad(rosenbrock)(x) * v), argnums=(0, 1))(X, V)
    np.testing.assert_allclose(dx, rosenbrock_hessian(X) @ V, rtol=1e-12)
    np.testing.assert_allclose(dv, grad(rosenbrock)(X), rtol=1e-12)


def test_a_step_of_gradient_descent_is_differentiable():
    """d/da f(x - a ∇f(x)) = -<∇f(x - a ∇f(x)), ∇f(x)>."""
    g = (A + A.T) / 2

    def after_step(a):
        return quadratic(X - a * grad(quadratic)(X))

    a = 0.1
    assert grad(after_step)(a) == pytest.approx(-(g @ (X - a * (g @ X))) @ (g @ X), rel=1e-12)


def test_unrolled_descent_in_its_step_size():
    def after_steps(a):
        x = X
        for _ in range(5):
            x = x - a * grad(quadratic)(x)
        return quadratic(x)

    assert grad(after_steps)(0.05) == pytest.approx(expect.slope(after_steps, 0.05), rel=1e-8)


def test_matrix_functions_twice():
    """f(W) = Σ tanh(X W)²: its second derivative by central differences of the closed gradient."""
    rng = np.random.default_rng(0)
    M, W, D = rng.standard_normal((5, 3)), rng.standard_normal((3, 2)), rng.standard_normal((3, 2))

    def closed(W):
        t = np.tanh(M @ W)
        return M.T @ (2 * t * (1 - t**2))

    h = 1e-5
    expected = (closed(W + h * D) - closed(W - h * D)) / (2 * h)
    got = grad(lambda W: np.sum(grad(lambda W: np.sum(np.tanh(M @ W) ** 2))(W) * D))(W)
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-8)


def test_value_and_grad_inside():
    """f² differentiated through the value, plus the inner gradient."""

    def outer(x):
        value, gradient = value_and_grad(np.sin)(x)
        return value * gradient  # sin x cos x = sin(2 x) / 2

    for x in (0.4, 1.2):
        assert grad(outer)(x) == pytest.approx(np.cos(2 * x), rel=1e-13)


def test_inner_pytrees_and_argnums():
    def inner(p, s):
        return s * np.sum(p["w"] ** 3)

    def outer(w):
        gp, gs = grad(inner, argnums=(0, 1))({"w": w}, 2.0)
        return np.sum(gp["w"]) + gs  # 6 w² + w³

    np.testing.assert_allclose(grad(outer)(X), 12 * X + 3 * X**2, rtol=1e-13)


def test_aux_inside():
    def outer(x):
        gradient, aux = grad(lambda y: (y**3, y * x), has_aux=True)(x)
        return gradient + aux  # 3 x² + x²

    assert grad(outer)(1.5) == pytest.approx(8 * 1.5)


def test_branches_inside_the_inner_function():
    def inner(y):
        return y**3 if y > 0 else -(y**2)

    second = grad(grad(inner))
    for x in (1.0, -1.0, 2.0, -2.0):
        assert second(x) == pytest.approx(6 * x if x > 0 else -2.0)


def test_loop_of_an_inner_newton_step():
    """One step of Newton's method for y² = x from y = 2, its derivative by hand."""

    def root(x):
        y = 2.0
        for _ in range(3):
            y = y - (y**2 - x) / grad(lambda y: y**2 - x)(y)
        return y

    assert grad(root)(3.0) == pytest.approx(expect.slope(root, 3.0), rel=1e-9)


def test_stop_gradient_in_the_inner_function():
    """d/dx d/dy (y² stop(x y)) at y = x: the stopped factor is a constant to both."""
    f = grad(lambda x: grad(lambda y: y**2 * tapead.stop_gradient(x * y))(x))
    x = 1.5
    assert f(x) == pytest.approx(2 * x * x)  # inner gives 2 y x y; only the 2 y differentiates


def test_second_derivative_where_an_adjoint_is_zero():
    """where(x >= 0, x², √-x) at 1: the untaken branch adds nothing at any order."""
    with np.errstate(all="ignore"):
        f = lambda x: np.where(x >= 0, x**2, np.sqrt(-x))  # noqa: E731
        assert grad(f)(1.0) == pytest.approx(2.0)
        assert grad(grad(f))(1.0) == pytest.approx(2.0)


def test_float32_stays_float32():
    hvp = grad(lambda x: np.sum(grad(rosenbrock)(x) * V.astype(np.float32)))(X.astype(np.float32))
    assert hvp.dtype == np.float32
    np.testing.assert_allclose(hvp, rosenbrock_hessian(X) @ V, rtol=1e-4)


def test_python_numbers_keep_float32_in_inner_functions_too():
    x, found = X.astype(np.float32), []

    def f(t):
        numbers = 2 * t, t / 3, t + 0.5, 2**t, -t, t * np.float64(2.0)
        found.append([(number * x).dtype for number in numbers])
        return np.sum(numbers[0] * x)

    f(0.5)
    grad(f)(0.5)
    grad(lambda t: grad(f)(t * t))(0.5)
    assert found == found[:1] * len(found)
    assert len(found) == 3


@pytest.mark.parametrize("output", [None, "text", [1.0, 2.0]], ids=str)
def test_an_inner_function_that_gives_no_number_is_refused(output):
    with pytest.raises(TypeError, match="returned"):
        tapead.grad(lambda x: x * tapead.grad(lambda y: output)(x))(2.0)


def test_an_inner_function_that_fails_leaves_the_outer_trace_usable():
    def inner(y):
        raise KeyError("inner")

    def outer(x):
        try:
            tapead.grad(inner)(x)
        except KeyError:
            return x * float(tapead.stop_gradient(x))
        raise AssertionError("the inner function's own error must come through")

    assert tapead.grad(outer)(3.0) == 3.0
