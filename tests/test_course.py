"""The worked example of the course, the rule of the matrix product, and sums over paths."""

import numpy as np
import pytest

import tapead


def example(x):
    return np.log(x[0]) + x[0] * x[1] - np.sin(x[1])


def test_worked_example():
    """y = ln(x1) + x1 x2 - sin(x2) at (2, 5)."""
    value, gradient = tapead.value_and_grad(example)(np.array([2.0, 5.0]))
    assert value == pytest.approx(11.652, abs=5e-4)
    np.testing.assert_allclose(gradient, [5.5, 1.716], atol=5e-4)
    assert value == pytest.approx(np.log(2.0) + 10.0 - np.sin(5.0), rel=1e-15)
    np.testing.assert_allclose(gradient, [1 / 2 + 5.0, 2.0 - np.cos(5.0)], rtol=1e-15)


def test_worked_example_of_two_arguments():
    vg = tapead.value_and_grad(lambda x1, x2: np.log(x1) + x1 * x2 - np.sin(x2), argnums=(0, 1))
    value, (d1, d2) = vg(2.0, 5.0)
    assert value == pytest.approx(11.652, abs=5e-4)
    assert (d1, d2) == pytest.approx((5.5, 1.716), abs=5e-4)


def test_worked_example_define_by_run():
    with tapead.Tape() as tape:
        x1, x2 = tape.variable(2.0), tape.variable(5.0)
        y = np.log(x1) + x1 * x2 - np.sin(x2)
    tape.backward(y)
    assert float(x1.grad) == pytest.approx(5.5)
    assert float(x2.grad) == pytest.approx(2.0 - np.cos(5.0))


def test_worked_example_with_a_seed_of_the_dual_way():
    """Forward seeds (1, 0) and (0, 1) of the course are the components of the reverse sweep's gradient."""
    gradient = tapead.grad(example)(np.array([2.0, 5.0]))
    h = 1e-20
    for i, seed in enumerate(np.eye(2)):
        dual = example(np.array([2.0, 5.0]) + 1j * h * seed)
        assert gradient[i] == pytest.approx(dual.imag / h, rel=1e-14)


MATRICES = [((3, 4), (4, 2)), ((1, 5), (5, 1)), ((30, 20), (20, 40))]
VECTORS = [((4,), (4, 3)), ((3, 4), (4,)), ((4,), (4,))]


@pytest.mark.parametrize("shapes", MATRICES + VECTORS)
def test_matrix_product(shapes):
    """Z = XW, v = f(Z): the adjoints are dv/dX = dv/dZ Wᵀ and dv/dW = Xᵀ dv/dZ."""
    rng = np.random.default_rng(0)
    X, W = (rng.standard_normal(shape) for shape in shapes)

    def v(X, W):
        return np.sum(np.sin(X @ W))

    dX, dW = tapead.grad(v, argnums=(0, 1))(X, W)
    # A vector stands for a row on the left and for a column on the right.
    rows, columns = np.atleast_2d(X), W if W.ndim == 2 else W[:, None]
    dZ = np.cos(rows @ columns)
    np.testing.assert_allclose(dX, (dZ @ columns.T).reshape(X.shape), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dW, (rows.T @ dZ).reshape(W.shape), rtol=1e-12, atol=1e-13)


def test_matrix_product_with_itself():
    """One buffer as both operands: both adjoints add up in one place."""
    X = np.random.default_rng(1).standard_normal((4, 4))
    G = np.random.default_rng(2).standard_normal((4, 4))
    gradient = tapead.grad(lambda X: np.sum(G * (X @ X)))(X)
    np.testing.assert_allclose(gradient, G @ X.T + X.T @ G, rtol=1e-12)


def test_matrix_product_used_twice():
    rng = np.random.default_rng(3)
    X, W, V = rng.standard_normal((5, 3)), rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    gradient = tapead.grad(lambda X: np.sum((X @ W) * (X @ V)))(X)
    np.testing.assert_allclose(gradient, (X @ V) @ W.T + (X @ W) @ V.T, rtol=1e-12)


@pytest.mark.parametrize("paths", [1, 2, 3, 10])
def test_partial_adjoints_of_all_paths_are_summed(paths):
    """x reaches y along many paths: y = Σ_k sin(k x), dy/dx = Σ_k k cos(k x)."""
    x = np.array([0.3, -0.7])

    def y(x):
        return sum(np.sum(np.sin(k * x)) for k in range(1, paths + 1))

    expected = sum(k * np.cos(k * x) for k in range(1, paths + 1))
    np.testing.assert_allclose(tapead.grad(y)(x), expected, rtol=1e-14)


def test_a_buffer_that_fans_out_and_in_again():
    """v = x²; y = v sin(v) + exp(v) v: the adjoint of v is the sum over its four uses."""

    def y(x):
        v = x * x
        return v * np.sin(v) + np.exp(v) * v

    for x in (0.5, 1.5, -0.8):
        v = x * x
        dv = np.sin(v) + v * np.cos(v) + np.exp(v) * (1 + v)
        assert tapead.grad(y)(x) == pytest.approx(dv * 2 * x, rel=1e-14)


def test_paths_through_views_and_whole():
    """A vector used whole and by its parts."""
    x = np.array([1.0, 2.0, 3.0])
    gradient = tapead.grad(lambda x: np.sum(x**2) + x[0] * x[2] + np.sum(x[1:]) + x.reshape(3, 1).T[0, 1])(x)
    np.testing.assert_allclose(gradient, 2 * x + [3.0, 0.0, 1.0] + [0.0, 1.0, 1.0] + [0.0, 1.0, 0.0])


def test_one_layer_by_hand():
    """A layer with a loss: the chain of the course, adjoint by adjoint."""
    rng = np.random.default_rng(4)
    X, W, b = rng.standard_normal((6, 3)), rng.standard_normal((3, 2)), rng.standard_normal(2)
    T = rng.standard_normal((6, 2))

    def loss(W, b):
        return np.mean((np.tanh(X @ W + b) - T) ** 2)

    dW, db = tapead.grad(loss, argnums=(0, 1))(W, b)
    A = np.tanh(X @ W + b)
    dA = 2 * (A - T) / A.size
    dZ = dA * (1 - A**2)
    np.testing.assert_allclose(dW, X.T @ dZ, rtol=1e-12)
    np.testing.assert_allclose(db, dZ.sum(axis=0), rtol=1e-12)
