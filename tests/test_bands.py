"""Columns that are bands, or others times factors, kept as vectors: they are what columns kept as they are would be."""

import numpy as np
import pytest

import tapead
from tapead import grad, hessian, hessian_diag, jacfwd, jacrev, nested
from tapead.bands import Bands, Line, places_of
from tapead.kernels.table import Elementwise
from tapead.scaled import Scaled
from tapead.tape import Buffer

RNG = np.random.default_rng(20)
X = RNG.uniform(0.3, 1.7, 24)
W = RNG.normal(size=(24, 24))


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def filled(x):
    y = tapead.numpy.zeros(24)
    y[1:] = x[:-1] ** 2
    y[0] = x[0]
    y[:5] = y[:5] * 2 + x[3:8]
    y[2:] = y[:-2] * x[2:]
    return np.sum(np.sin(y))


def scattered(x):
    y = x * x
    y[2:][np.array([3, 1, 3])] = x[:3] * 2
    y[1:4] = 0.0
    return np.sum(y**3)


def read_between(x):
    y = tapead.numpy.zeros(24)
    y[1:] = x[:-1] ** 2
    total = np.sum((W @ y) ** 2)
    y[5:9] = x[5:9] ** 3
    y[:2] = 0.0
    return total + np.sum((W @ y) ** 3)


def loop(x):
    total = 0.0
    for i in range(1, 24):
        total = total + x[i] ** 2 * x[i - 1] - np.cos(x[i])
    return total


def grid(x):
    g = x.reshape(4, 6)
    return np.sum((g[1:] - g[:-1]) ** 4) + np.sum(np.sin(g[:, 1:] * g[:, :-1])) + np.sum(g**3)


def wide(x):
    return sum(np.sum(x[k:] ** 2 * x[: 24 - k]) for k in range(12))


def rewritten(x):
    y = np.exp(W @ x)
    y = y * np.sin(y)
    y[3:9] = y[4:10] * 2
    return np.sum(np.tanh(y) ** 2)


FUNCTIONS = {
    "rosenbrock": rosenbrock,
    "filled": filled,
    "scattered": scattered,
    "read between": read_between,
    "loop": loop,
    "grid": grid,
    "wide": wide,
    "reversed": lambda x: np.sum(x**2 * x[::-1] * np.exp(x[::-1])),
    "turned and back": lambda x: np.sum(x[::-1][:-1][::-1] ** 2 * x[1:]),
    "every other": lambda x: np.sum(x[::2] ** 2 * x[1::2]) + np.sum(x[::3] ** 3),
    "put apart": lambda x: np.sum(np.sin(np.concatenate([x[5:] ** 2, x[:-5] * x[5:], [1.0, 0.0]]))),
    "stacked": lambda x: np.sum(np.stack([x**2, x[::-1] * x], axis=1) ** 2),
    "repeated": lambda x: np.sum(np.sin(x[:, None] * x[None, :])),
    "selected": lambda x: np.sum(np.where(x > 1, x**3, np.abs(x - 0.7))) + np.sum(np.maximum(x[1:], x[:-1]) ** 2),
    "gathered": lambda x: np.sum(x[np.array([3, 1, 3, 0])] ** 2 * x[:4]),
    "dense, too": lambda x: np.sum(np.tanh(W @ x) ** 2) + np.sum(x**4) + np.sum(np.sin(x[1:] * x[:-1])),
    "dense behind": lambda x: np.sum((W @ np.sin(x)) ** 3),
    "deep": lambda x: np.sum(np.tanh(np.sin(W @ x) ** 2) * np.exp(-(W @ x))) + np.mean((W @ x) ** 4),
    "two layers": lambda x: np.sum(np.tanh(W.T @ np.tanh(W @ x)) ** 3),
    "spread": lambda x: np.sum(np.sin((W @ x).reshape(4, 6)) * np.arange(6.0) - (W @ x).reshape(4, 6) ** 2 / 3),
    "rewritten": rewritten,
    "logistic": lambda x: np.mean(np.log1p(np.exp(-(W[:7] @ x)))) + 0.1 * np.sum(x**2),
    "running sum": lambda x: np.sum(np.cumsum(x**2) ** 2),
    "stopped": lambda x: np.sum(tapead.stop_gradient(x) * x**2),
    "of one": lambda x: x[3] ** 3 * x[4],
    "of one, turned": lambda x: np.sin(x[::-1])[3] ** 2 * x[2] + np.sum(np.sin(x[::-1])[4:5] ** 3),
}


def off(patch):
    """Keep no columns as bands, nor by factors."""
    patch.setattr(Bands, "_are_few", lambda self, lines: False)
    patch.setattr(Scaled, "by_factors", lambda self, k: False)


def both_ways(make, *args):
    """Give what a transformed function gives, with bands and factors and without: the first call, and a replay elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        off(patch)
        plain = make()
        plain(*args)
    f = make()
    first = f(*args)
    moved = tuple(a * 1.01 for a in args)
    leaves = [tapead.tree.flatten(tree)[0] for tree in (first, f(*args), f(*moved), plain(*args), plain(*moved))]
    for got, again, there, expected, elsewhere in zip(*leaves, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(again, got)
        np.testing.assert_allclose(there, elsewhere, rtol=1e-12, atol=1e-12)
    return first


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(name):
    f = FUNCTIONS[name]
    h = both_ways(lambda: hessian(f), X)
    np.testing.assert_allclose(both_ways(lambda: hessian_diag(f), X), np.diag(h), rtol=1e-10, atol=1e-10)
    u = RNG.normal(size=24)
    np.testing.assert_allclose(h @ u, tapead.hvp(f, (X,), (u,)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jacobians_of_gradients(name):
    """Both ways to a Jacobian, of a function with as many results."""
    g = grad(FUNCTIONS[name])
    forward, reverse = both_ways(lambda: jacfwd(g), X), both_ways(lambda: jacrev(g), X)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["rosenbrock", "filled", "put apart", "dense, too", "deep"])
def test_third_derivatives(name):
    both_ways(lambda: grad(lambda x: np.sum(hessian(FUNCTIONS[name])(x) ** 2)), X)
    both_ways(lambda: jacfwd(hessian(FUNCTIONS[name])), X)


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_of_slices(seed):
    rng = np.random.default_rng(seed)
    choices = rng.integers(0, 1000, 40).tolist()

    def f(x):
        left = iter(choices)
        kept = [x]
        for _ in range(6):
            a, b = (kept[next(left) % len(kept)] for _ in range(2))
            n = min(a.shape[0], b.shape[0])
            i, j = next(left) % (a.shape[0] - n + 1), next(left) % (b.shape[0] - n + 1)
            a, b = a[i : i + n], b[j : j + n]
            match next(left) % 7:
                case 0:
                    made = a * b
                case 1:
                    made = np.sin(a) - b
                case 2:
                    made = a[1:] + b[:-1] ** 2
                case 3:
                    made = np.concatenate([a[: n // 2], b[n // 2 :] * 2])
                case 4:
                    made = a[::-1] * b
                case 5:
                    made = np.where(a > b, a, b * a)
                case _:
                    made = a.copy()
                    made[2:] = b[:-2] * made[2:]
            kept.append(made)
        return sum(np.sum(np.cos(y)) for y in kept[-3:])

    both_ways(lambda: hessian(f), X)
    both_ways(lambda: hessian_diag(f), X)


def test_several_arguments():
    def f(a, b, c):
        return np.sum(a[1:] * b[:-1] ** 2) + np.sum(np.sin(a * b)) + c * np.sum(a**2)

    blocks = both_ways(lambda: hessian(f, (0, 1, 2)), X, X[::-1].copy(), 0.7)
    np.testing.assert_allclose(blocks[0][1], blocks[1][0].T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["rosenbrock", "filled", "put apart", "grid", "dense, too", "deep"])
def test_columns_in_chunks(name, monkeypatch):
    whole = hessian(FUNCTIONS[name])(X)
    monkeypatch.setattr(nested, "CHUNK", 6000)
    np.testing.assert_allclose(both_ways(lambda: hessian(FUNCTIONS[name]), X), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["rosenbrock", "logistic"])
def test_single_precision(name):
    x = X.astype(np.float32)
    f = FUNCTIONS[name]
    h = hessian(f)(x)
    assert h.dtype == np.float32
    np.testing.assert_allclose(h, hessian(f)(x.astype(float)), rtol=1e-5, atol=1e-6)


def test_numbers_that_are_not_finite():
    """Off the bands there is zero, whatever the partials are."""
    x = X.copy()
    x[3] = 0.0
    with np.errstate(all="ignore"):
        h = both_ways(lambda: hessian(lambda x: np.sum(np.sqrt(x[1:]) * x[:-1])), x)
    assert np.isnan(h[3, 3]) or np.isinf(h[3, 3])
    assert np.isfinite(np.delete(np.delete(h, 3, 0), 3, 1)).all()


def test_factors_that_are_not_finite():
    """A tangent of zero contributes zero, whatever the factors are; else NaN and inf come through."""
    w = np.zeros((24, 24))
    w[np.arange(24), (np.arange(24) + 3) % 24] = 1.0
    x = np.where(np.arange(24) % 5 == 0, 0.0, X)
    with np.errstate(all="ignore"):
        j = both_ways(lambda: jacfwd(lambda x: np.sin(np.sqrt(w @ x))), x)
        both_ways(lambda: hessian(lambda x: np.sum(np.sqrt(w @ x))), x)
    assert (j[w == 0] == 0).all()
    assert np.isfinite(j[w == 1]).sum() == np.count_nonzero(x)


def test_factors_are_multiplied_before_columns_are():
    w = RNG.normal(size=(50, 30))
    h = hessian(lambda x: np.mean(np.log1p(np.exp(-np.tanh(w @ x)))))
    h(RNG.normal(size=30))
    tape = h.last.program.tape
    elementwise = [k for k, op in enumerate(tape.ops) if isinstance(op, Elementwise)]
    shapes = [tape.buffers[tape.result_buffers[k][0]].shape for k in elementwise]
    assert sum(shape == (30, 50) for shape in shapes) == 1


def test_rules_that_add_what_is_zero_at_first():
    """Linear no longer where it is not, but what the rule says."""

    def shifted(x, a):
        return x * 1.0

    def made():
        f = tapead.custom_vjp(shifted)
        f.defvjp(lambda x, a: (x * 1.0, a), lambda a, d: (d + a, None))
        return jacrev(lambda x, a: f(x, a * 2.0))

    f = made()
    np.testing.assert_array_equal(f(X, np.zeros(24)), np.eye(24))
    np.testing.assert_array_equal(f(X, np.ones(24)), np.eye(24) + 2.0)


def test_nothing_but_the_result_is_written_out():
    h = hessian(rosenbrock)
    x = RNG.normal(size=200)
    h(x)
    assert tapead.explain(h).arena_bytes < 1.2 * 8 * 200**2
    d = hessian_diag(rosenbrock)
    d(x)
    assert tapead.explain(d).arena_bytes < 100 * 8 * 200


def test_one_element():
    """Of a line with one element only the start counts."""
    for f in (lambda x: np.sin(x[::-1])[3:4], lambda x: np.sin(x[::-1])[3] * 2.0, lambda x: x[::-2][1:2] + x[:1]):
        np.testing.assert_allclose(both_ways(lambda f=f: jacfwd(f), X), jacrev(f)(X))
        np.testing.assert_allclose(
            both_ways(lambda f=f: jacfwd(lambda x: np.append(f(x), x * f(x))), X)[0], jacrev(f)(X).ravel()
        )


def test_lines():
    for places in (Line(3, 1), Line(5, -1), Line(1, 2)):
        line = Line(4, 3)
        assert line.at(places).around(places) == line
    assert Line(4, 1).around(Line(0, 2)) is None
    x = np.arange(24.0).reshape(4, 6)
    for part in (x, x[1:], x[::-1, ::-1], x[2], x[:, 3], x[::2, 1], x[1:2, 2:3], x[:, 1:], x.T, x[:0]):
        strides = tuple(s // 8 for s in part.strides)
        offset = int(part.flat[0]) if part.size else 0
        found = places_of(Buffer(x.dtype, part.shape, strides, offset))
        steps = np.diff(part.ravel())
        if part.size and (steps == steps[:1]).all():
            assert found == Line(offset, int(steps[0]) if steps.size else 1)
        else:
            assert found is None


def test_nothing_is_written_that_no_result_needs():
    """The rule of a product gives the constant matrix an adjoint, too: for all columns that would be a cube."""
    w = RNG.normal(size=(60, 60)) / 8
    h = hessian(lambda x: np.sum(np.tanh(w @ x) ** 2))
    h(RNG.normal(size=60))
    assert max(s.size for s in h.last.program.storages) <= 60 * 60
