"""Linear algebra on traced values: NumPy's and SciPy's values, slopes, closed forms, errors."""

import expect
import numpy as np
import pytest
import scipy.linalg

import tapead
import tapead.scipy.linalg
from tapead import grad, value_and_grad

RNG = np.random.default_rng(0)
A = RNG.uniform(-1.0, 1.0, (3, 3)) + np.diag([3.0, -3.0, 3.0])
B = A[::-1] + 0.1 * RNG.uniform(-1.0, 1.0, (3, 3))  # needs other row swaps than A
P, Q = (x @ x.T + 3 * np.eye(3) for x in (A, B))
STACK = np.stack([A, B, A.T, B @ A])
W, V = RNG.uniform(-1.0, 1.0, (3, 3)), RNG.uniform(-1.0, 1.0, 3)
X, Y = RNG.uniform(-2.0, 2.0, (3, 4)), RNG.uniform(-2.0, 2.0, (3, 4))


def triangular(*operands, **options):
    return tapead.scipy.linalg.solve_triangular(*operands, **options)


def sample(name, f, *points):
    return pytest.param(f, points, id=name)


FUNCTIONS = [
    sample("solve matrix", lambda a: np.sum(W * np.linalg.solve(a, np.sin(a))), A, B),
    sample("solve vector", lambda a: V @ np.linalg.solve(a, V), A, B),
    sample("solve right-hand side", lambda b: np.sum(W * np.linalg.solve(A, b)), W, B),
    sample("solve vector right-hand side", lambda b: np.sum(np.linalg.solve(A, b) ** 2), V, A[0]),
    sample("solve stack", lambda a: np.sum(W * np.linalg.solve(a, W)), STACK, STACK[::-1]),
    sample("solve stack by matrix", lambda b: np.sum(np.linalg.solve(A, b) ** 2), STACK, STACK[::-1]),
    sample("solve vectors by stack", lambda b: np.sum(np.linalg.solve(STACK, b) ** 2), V, A[0]),
    sample("solve transposed", lambda a: np.sum(np.linalg.solve(a.T, a[:, :2])), A, B),
    sample("inv", lambda a: np.sum(W * np.linalg.inv(a)), A, B, STACK),
    sample("det", lambda a: np.sum(np.linalg.det(a) ** 2), A, B, STACK),
    sample("slogdet", lambda a: np.sum(np.linalg.slogdet(a)[1] ** 2), A, B, STACK),
    sample("slogdet, sign", lambda a: np.sum(np.prod(np.linalg.slogdet(a))), A, B, STACK),
    sample("cholesky", lambda a: np.sum(W * np.linalg.cholesky(a)), P, Q, np.stack([P, Q])),
    sample("cholesky upper", lambda a: np.sum(W * np.linalg.cholesky(a, upper=True)), P, Q),
    sample("cholesky of a square", lambda a: np.sum(W * np.linalg.cholesky(a @ a.T + np.eye(3))), A, B),
    sample("norm", np.linalg.norm, V, A, STACK),
    sample("norm Frobenius", lambda a: np.linalg.norm(a, "fro"), A, B),
    sample("norm of rows", lambda a: np.sum(np.linalg.norm(a, axis=-1) ** 3), A, STACK),
    sample("norm of slices", lambda a: np.sum(np.linalg.norm(a, axis=(0, 2), keepdims=True) ** 3), STACK),
    *(
        sample(f"norm {ord} of vectors", lambda a, ord=ord: np.sum(np.linalg.norm(a, ord, 0) ** 2), X, Y)
        for ord in (1, 2, 3, 2.5, 0.5, -1, -2, np.inf, -np.inf)
    ),
    *(
        sample(f"norm {ord} of matrices", lambda a, ord=ord: np.linalg.norm(a, ord) ** 2, X, Y)
        for ord in (1, -1, np.inf, -np.inf)
    ),
    sample("norm with dimensions kept", lambda a: np.sum(a / np.linalg.norm(a, 3, -1, keepdims=True)), X, STACK),
    sample("vector_norm", lambda a: np.sum(np.linalg.vector_norm(a, axis=(0, 2), ord=3) ** 2), STACK),
    sample("vector_norm of all", lambda a: np.sum(np.linalg.vector_norm(a, keepdims=True) ** 2), STACK),
    sample("matrix_norm", lambda a: np.sum(np.linalg.matrix_norm(a, ord=1) ** 2), STACK),
    sample("multi_dot", lambda a: np.sum(W[:, :2] * np.linalg.multi_dot([a, X, X.T, a.T, W[:, :2]])), A, B),
    sample("multi_dot of vectors", lambda a: np.linalg.multi_dot([V, a, X, X.T, V]), A, B),
    sample("multi_dot of two", lambda a: np.sum(np.linalg.multi_dot([a, V]) ** 2), A, B),
    *(
        sample(f"matrix_power {n}", lambda a, n=n: np.sum(W * np.linalg.matrix_power(a, n)), A, B, STACK)
        for n in (1, 2, 3, 5, 6, -1, -3)
    ),
    sample("trace", lambda a: np.trace(a @ a) ** 2, A, B),
    sample("trace, above the diagonal", lambda a: np.sum(np.trace(a * a, 1, 0, 2)), STACK),
    sample("trace of each", lambda a: np.sum(np.linalg.trace(a, offset=-1) ** 2), STACK),
]


@pytest.mark.parametrize(("f", "points"), FUNCTIONS)
def test_value_and_gradient(f, points):
    expect.right(f, *points, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("f", "points"), FUNCTIONS)
def test_float32(f, points):
    value, gradient = value_and_grad(f)(points[0].astype(np.float32))
    exact, slopes = value_and_grad(f)(points[0])
    assert value.dtype == f(points[0].astype(np.float32)).dtype
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(value, exact, rtol=1e-3)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-2, atol=1e-3 * np.abs(slopes).max())


@pytest.mark.parametrize(("f", "points"), FUNCTIONS)
def test_second_derivatives(f, points):
    """The gradient of a directional derivative, against slopes of the first gradient; then replayed."""
    first = grad(f)
    for x in points[:2]:
        direction = RNG.uniform(-1.0, 1.0, x.shape)
        twice = grad(lambda x, direction=direction: np.sum(grad(f)(x) * direction))
        step = 1e-3 * direction
        slopes = 8 * (first(x + step) - first(x - step)) - (first(x + 2 * step) - first(x - 2 * step))
        expected = slopes / 12e-3
        np.testing.assert_allclose(twice(x), expected, rtol=1e-6, atol=1e-7 * (1 + np.abs(expected).max()))


def test_define_by_run():
    with tapead.Tape() as tape:
        a, b = tape.variable(A), tape.variable(V)
        y = np.sum(np.linalg.solve(a, b)) + np.linalg.slogdet(a)[1]
    tape.backward(y)
    g = np.linalg.solve(A.T, np.ones(3))
    np.testing.assert_allclose(b.grad, g, rtol=1e-13)
    np.testing.assert_allclose(a.grad, np.linalg.inv(A).T - np.outer(g, np.linalg.solve(A, V)), rtol=1e-12)


def test_closed_forms():
    np.testing.assert_allclose(grad(lambda a: np.linalg.slogdet(a)[1])(B), np.linalg.inv(B).T, rtol=1e-12)
    np.testing.assert_allclose(grad(np.linalg.det)(A), np.linalg.det(A) * np.linalg.inv(A).T, rtol=1e-12)
    np.testing.assert_allclose(grad(np.linalg.norm)(V), V / np.linalg.norm(V), rtol=1e-14)
    np.testing.assert_allclose(grad(np.trace)(A), np.eye(3))
    logdet = grad(lambda a: 2 * np.sum(np.log(np.diag(np.linalg.cholesky(a)))))(P)
    inverse = np.linalg.inv(P)  # of the lower triangle alone: what lies beside the diagonal counts twice
    np.testing.assert_allclose(logdet, np.tril(2 * inverse) - np.diag(np.diag(inverse)), rtol=1e-11)


def test_complex_step():
    def f(a, b):
        return np.sum(np.linalg.solve(a, b) ** 2) * np.linalg.det(a) + np.sum(np.linalg.inv(a @ a))

    for k, gradient in enumerate(grad(f, (0, 1))(A, W)):
        for i in np.ndindex(3, 3):
            moved = [A.astype(complex), W.astype(complex)]
            moved[k][i] += 1e-30j
            np.testing.assert_allclose(gradient[i], f(*moved).imag * 1e30, rtol=1e-11)


# ---- SciPy's solvers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("trans", [0, 1, 2, "N", "T", "C"])
@pytest.mark.parametrize("unit", [True, False])
def test_solve_triangular(lower, trans, unit):
    way = {"trans": trans, "lower": lower, "unit_diagonal": unit}

    def f(ab, solve=tapead.scipy.linalg.solve_triangular):
        a, b = ab[:, :3], ab[:, 3:]
        return np.sum(W[:, :2] * solve(a, b, **way)) + np.sum(V * solve(a, b[:, 0], **way))

    points = [np.hstack([m, RNG.uniform(-1, 1, (3, 2))]) for m in (A, P)]
    expect.right(f, *points, reference=lambda ab: f(ab, scipy.linalg.solve_triangular))
    unread = np.triu(np.ones((3, 3), bool), 0 if unit else 1)
    assert (grad(f)(points[0])[:, :3][unread if lower else unread.T] == 0).all()


@pytest.mark.parametrize("lower", [True, False])
def test_cho_solve(lower):
    def f(cb, solve=tapead.scipy.linalg.cho_solve):
        c, b = cb[:, :3], cb[:, 3:]
        return np.sum(W[:, :2] * solve((c, lower), b)) + np.sum(V * solve((c, lower), b[:, 0]))

    points = [np.hstack([scipy.linalg.cholesky(m), RNG.uniform(-1, 1, (3, 2))]) for m in (P, Q)]
    expect.right(f, *points, reference=lambda cb: f(cb, scipy.linalg.cho_solve))


def test_scipy_second_derivatives():
    def f(a):
        factor = np.linalg.cholesky(a @ a.T + np.eye(3))
        half = tapead.scipy.linalg.solve_triangular(factor, V, lower=True)
        return half @ half + np.sum(tapead.scipy.linalg.cho_solve((factor, True), W) ** 2)

    def plainly(a):
        m = a @ a.T + np.eye(3)
        return V @ np.linalg.solve(m, V) + np.sum(np.linalg.solve(m, W) ** 2)

    direction = RNG.uniform(-1, 1, (3, 3))
    for x in (A, B):
        got = [grad(lambda x, g=g: np.sum(grad(g)(x) * direction))(x) for g in (f, plainly)]
        np.testing.assert_allclose(*got, rtol=1e-9)


def test_stacks_of_triangles():
    def f(a, solve):
        return np.sum(np.stack([solve(m, V, lower=True) for m in a]) ** 2)

    stacked = lambda a: np.sum(tapead.scipy.linalg.solve_triangular(a, V, lower=True) ** 2)  # noqa: E731
    expect.right(stacked, STACK, reference=lambda a: f(a, scipy.linalg.solve_triangular))


def test_ordinary_arrays_go_to_scipy():
    for got, expected in (
        (tapead.scipy.linalg.solve_triangular(A, V, "T"), scipy.linalg.solve_triangular(A, V, "T")),
        (tapead.scipy.linalg.cho_solve((A, True), W), scipy.linalg.cho_solve((A, True), W)),
    ):
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, expected)


# ---- edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ord", [None, 1, 2, 3, np.inf])
@pytest.mark.parametrize("shape", [(3,), (0,)])
def test_norms_of_zeros_have_the_derivative_zero(ord, shape):
    value, gradient = value_and_grad(lambda x: np.linalg.norm(x, ord))(np.zeros(shape))
    assert value == 0
    assert (gradient == 0).all()


def test_norm_zero_counts():
    value, gradient = value_and_grad(lambda x: np.linalg.norm(x, 0))(np.array([1.0, 0.0, -2.0]))
    assert value == 2
    assert (gradient == 0).all()


def test_det_of_a_singular_matrix():
    a = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.5], [3.0, 6.0, 1.0]])
    value, gradient = value_and_grad(np.linalg.det)(a)
    assert abs(value) < 1e-13
    np.testing.assert_allclose(gradient, expect.slope(np.linalg.det, a), atol=1e-9)
    with expect.error(np.linalg.LinAlgError, "singular"):  # the gradient as part of the tape needs an inverse
        grad(lambda a: np.sum(grad(np.linalg.det)(a)))(np.ones((3, 3)))


def test_nothing_and_integers():
    empty = np.zeros((0, 0))
    assert value_and_grad(np.linalg.det)(empty)[0] == 1
    assert grad(lambda a: np.sum(np.linalg.inv(a)))(empty).shape == (0, 0)
    assert grad(lambda a: np.sum(np.linalg.cholesky(a)))(np.zeros((0, 2, 2))).shape == (0, 2, 2)
    integers = np.array([[2, 1], [1, 3]])
    gradient = grad(lambda b: np.sum(np.linalg.solve(integers, b)))(np.ones(2))
    np.testing.assert_allclose(gradient, np.linalg.inv(integers).sum(0))
    assert np.array_equal(grad(lambda a: np.sum(np.linalg.matrix_power(a, 0) * a))(A), np.eye(3))


def test_overwritten_operands_and_results():
    """What the reverse sweep reads of a solution or factor is put back, where the function writes over it."""

    def f(a):
        m = a @ a.T + np.eye(3)
        x, factor, d = np.linalg.solve(m, V), np.linalg.cholesky(m), np.linalg.det(m)
        m[1:] = a[0, 0]
        x[1] *= a[0, 1]
        factor[0] = a[2]
        return np.sum(x * x) * d + np.sum(factor**3) + np.sum(m)

    expect.right(f, A, B)


def test_lists_and_object_arrays_of_traced_numbers():
    def rows(x):
        return [[x[0], 1.0], [0.5, x[1]]]

    def f(x, np=tapead.numpy, solve=tapead.scipy.linalg.solve_triangular):
        return np.linalg.det(rows(x)) + np.sum(solve(np.array(rows(x)), [x[2], 2.0]))

    expect.right(f, V, A[0], reference=lambda x: f(x, np, scipy.linalg.solve_triangular))


def test_the_sign_may_leave():
    """No derivative flows through a determinant's sign: it may be a number, and is guarded."""

    def f(a):
        sign, log = np.linalg.slogdet(a)
        return log if float(sign) > 0 else -log

    vg = value_and_grad(f)
    for a in (A, B, A):
        sign, log = np.linalg.slogdet(a)
        value, gradient = vg(a)
        np.testing.assert_allclose(value, sign * log)
        np.testing.assert_allclose(gradient, sign * np.linalg.inv(a).T)


SINGULAR = np.ones((3, 3))
TWICE = {"singular": SINGULAR, "indefinite": -P, "NaN": np.full((3, 3), np.nan), "good": P}


@pytest.mark.parametrize(
    ("f", "bad", "kind"),
    [
        (lambda a: np.sum(np.linalg.solve(a, V)), "singular", np.linalg.LinAlgError),
        (lambda a: np.sum(np.linalg.inv(a)), "singular", np.linalg.LinAlgError),
        (lambda a: np.sum(np.linalg.matrix_power(a, -2)), "singular", np.linalg.LinAlgError),
        (lambda a: np.sum(np.linalg.cholesky(a)), "indefinite", np.linalg.LinAlgError),
        (lambda a: np.sum(triangular(a - 1.0, V)), "singular", np.linalg.LinAlgError),
        (lambda a: np.sum(triangular(a, V)), "NaN", ValueError),
    ],
)
def test_bad_values_raise_in_the_trace_and_in_a_replay(f, bad, kind):
    with expect.error(kind):
        grad(f)(TWICE[bad])
    vg = value_and_grad(f)
    expected = vg(P)[1]
    with expect.error(kind):
        vg(TWICE[bad])
    np.testing.assert_array_equal(vg(P)[1], expected)


def bad_solve(a):
    return np.sum(np.linalg.solve(a, np.ones(4)))


def bad_square(a):
    return np.linalg.det(a[:2])


def bad_order(a):
    return np.linalg.norm(a, 7)


def bad_axis(a):
    return np.sum(np.linalg.norm(a, axis=5))


def bad_norm(a):
    return np.linalg.norm(a, 2)


def bad_power(a):
    return np.sum(np.linalg.matrix_power(a, 0.5))


def bad_triangle(a):
    return np.sum(tapead.scipy.linalg.solve_triangular(a[:2], a))


def bad_trans(a):
    return np.sum(tapead.scipy.linalg.solve_triangular(a, a, trans="X"))


@pytest.mark.parametrize(
    ("f", "kind", "piece"),
    [
        (bad_solve, ValueError, "np.ones(4)"),
        (bad_square, np.linalg.LinAlgError, "a[:2]"),
        (bad_order, ValueError, "7"),
        (bad_axis, ValueError, "axis=5"),
        (bad_norm, NotImplementedError, "norm(a, 2)"),
        (bad_power, TypeError, "0.5"),
        (bad_triangle, ValueError, "a[:2]"),
        (bad_trans, ValueError, "trans="),
    ],
)
def test_bad_arguments_raise_with_the_line(f, kind, piece):
    with expect.error(kind, line=(f, piece)):
        grad(f)(A)
