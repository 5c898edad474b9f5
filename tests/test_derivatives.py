"""Forward mode, pullbacks, Jacobians, second derivatives: what they give, composed with one another, and their errors."""

import gc
import weakref

import expect
import numpy as np
import pytest

import tapead
from tapead import grad, hessian, hessian_diag, hvp, jacfwd, jacobian, jacrev, jvp, laplacian, linearize, vhp, vjp

RNG = np.random.default_rng(0)
X = RNG.normal(size=5)
W = RNG.normal(size=(4, 5))


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_hessian(x):
    n = x.size
    made = np.zeros((n, n))
    for i in range(n - 1):
        made[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        made[i + 1, i + 1] += 200
        made[i, i + 1] = made[i + 1, i] = -400 * x[i]
    return made


def layer(x):
    return np.tanh(W @ x)


def layer_jacobian(x):
    return (1 - np.tanh(W @ x) ** 2)[:, None] * W


# ---- forward and reverse ---------------------------------------------------------------------------------------------


def test_jvp_gives_value_and_tangent_as_trees():
    def f(x, p):
        return {"y": x * p["a"], "z": [np.sum(x) * p["b"]]}

    value, tangent = jvp(f, (X, {"a": 2.0, "b": 3.0}), (np.ones(5), {"a": 1.0, "b": 0.0}))
    np.testing.assert_allclose(value["y"], 2 * X)
    np.testing.assert_allclose(tangent["y"], 2.0 + X)
    assert tangent["z"][0] == pytest.approx(15.0)


def test_jvp_replays_on_new_values():
    seen = []

    def f(x):
        seen.append(1)
        return np.sin(x) * x

    for _ in range(4):
        x, u = RNG.normal(size=5), RNG.normal(size=5)
        value, tangent = jvp(f, (x,), (u,))
        np.testing.assert_allclose(value, np.sin(x) * x, rtol=1e-14)
        np.testing.assert_allclose(tangent, (np.cos(x) * x + np.sin(x)) * u, rtol=1e-14)
    assert len(seen) == 1


def test_jvp_follows_branches():
    def f(x):
        return x**2 if x > 0 else -3 * x

    assert [float(jvp(f, (x,), (1.0,))[1]) for x in (2.0, -1.0, 3.0, -2.0)] == [4.0, -3.0, 6.0, -3.0]


def test_auxiliary_results():
    def f(x):
        return np.sum(x**2), {"n": x.size, "twice": 2 * x}

    value, tangent, aux = jvp(f, (X,), (X,), has_aux=True)
    assert tangent == pytest.approx(2 * X @ X)
    np.testing.assert_allclose(aux["twice"], 2 * X)
    value, pullback, aux = vjp(f, X, has_aux=True)
    assert value == pytest.approx(X @ X)
    np.testing.assert_allclose(pullback(1.0)[0], 2 * X)
    value, linear, aux = linearize(f, X, has_aux=True)
    assert linear(X) == pytest.approx(2 * X @ X)
    assert aux["n"] == 5
    for transform in (jacfwd, jacrev, jacobian, hessian):
        made, aux = transform(f, has_aux=True)(X)
        np.testing.assert_allclose(aux["twice"], 2 * X)
    np.testing.assert_allclose(made, 2 * np.eye(5), atol=1e-14)


def test_linear_maps_are_called_many_times_and_at_many_points():
    for _ in range(3):
        x = RNG.normal(size=5)
        value, linear = linearize(layer, x)
        same, pullback = vjp(layer, x)
        np.testing.assert_allclose(value, layer(x), rtol=1e-14)
        np.testing.assert_allclose(same, layer(x), rtol=1e-14)
        for _ in range(3):
            u, v = RNG.normal(size=5), RNG.normal(size=4)
            np.testing.assert_allclose(linear(u), layer_jacobian(x) @ u, rtol=1e-12)
            np.testing.assert_allclose(pullback(v)[0], v @ layer_jacobian(x), rtol=1e-12)


def test_linear_maps_of_two_points_do_not_share_values():
    _, one = linearize(np.sin, 0.0)
    _, other = linearize(np.sin, 1.0)
    assert float(one(1.0)) == 1.0
    assert float(other(1.0)) == pytest.approx(np.cos(1.0))
    assert float(one(2.0)) == 2.0


def test_linear_maps_of_functions_that_assign():
    def f(x):
        y = tapead.numpy.zeros(4)
        y[0] = np.sum(x**2)
        y[1:] = x[:3] * y[0]
        y[2] *= y[1]
        return y * y

    _, linear = linearize(f, X)
    _, pullback = vjp(f, X)
    expected = jacfwd(f)(X)
    np.testing.assert_allclose(expected, jacrev(f)(X), rtol=1e-12, atol=1e-13)
    for k in range(5):
        np.testing.assert_allclose(linear(np.eye(5)[k]), expected[:, k], rtol=1e-12, atol=1e-13)
    for k in range(4):
        np.testing.assert_allclose(pullback(np.eye(4)[k])[0], expected[k], rtol=1e-12, atol=1e-13)
    h = 1e-6
    u = RNG.normal(size=5)
    slope = (np.asarray(jvp(f, (X + h * u,), (u,))[0]) - np.asarray(jvp(f, (X - h * u,), (u,))[0])) / (2 * h)
    np.testing.assert_allclose(expected @ u, slope, rtol=1e-6, atol=1e-7)


def test_pullback_of_trees_and_several_arguments():
    def f(a, b):
        return {"p": a["x"] * b, "q": np.sum(a["x"])}

    a = {"x": X}
    _, pullback = vjp(f, a, 2.0)
    da, db = pullback({"p": np.ones(5), "q": 3.0})
    np.testing.assert_allclose(da["x"], np.full(5, 5.0))
    assert float(db) == pytest.approx(np.sum(X))


def test_float32_stays():
    x = X.astype(np.float32)
    value, tangent = jvp(lambda x: np.sin(x), (x,), (np.ones(5, np.float32),))
    assert value.dtype == tangent.dtype == np.float32
    assert jacfwd(np.sin)(x).dtype == jacrev(np.sin)(x).dtype == np.float32
    assert hvp(lambda x: np.sum(np.sin(x)), (x,), (x,)).dtype == np.float32


def test_what_is_traced_goes_with_the_function():
    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)

    def f(x, held=held):
        return np.sin(x)

    jvp(f, (X,), (X,))
    vjp(f, X)
    del f, held
    gc.collect()
    assert gone() is None


def test_a_wrapped_function_has_derivatives_of_its_own():
    import functools

    def f(x):
        return x**2

    jvp(f, (1.0,), (1.0,))

    @functools.wraps(f)
    def g(x):
        return 10 * f(x)

    assert float(jvp(g, (1.0,), (1.0,))[1]) == 20.0
    assert float(jvp(f, (1.0,), (1.0,))[1]) == 2.0


def test_methods_and_builtins():
    class Model:
        def __init__(self, a):
            self.a = a

        def __call__(self, x):
            return self.a * x

        def method(self, x):
            return self.a * x**2

    one, other = Model(1.0), Model(2.0)
    assert [float(jvp(m, (3.0,), (1.0,))[1]) for m in (one, other, one)] == [1.0, 2.0, 1.0]
    assert [float(jvp(m.method, (3.0,), (1.0,))[1]) for m in (one, other, one)] == [6.0, 12.0, 6.0]
    assert float(jvp(np.exp, (0.0,), (1.0,))[1]) == 1.0


# ---- Jacobians and Hessians ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [jacfwd, jacrev, jacobian])
def test_jacobian_of_a_layer(transform):
    made = transform(layer)
    for _ in range(3):
        x = RNG.normal(size=5)
        np.testing.assert_allclose(made(x), layer_jacobian(x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("transform", [jacfwd, jacrev])
def test_jacobian_of_matrices(transform):
    """d (A X)_ij / d X_kl = A_ik δ_jl, at shapes (3, 2) by (4, 2)."""
    a = RNG.normal(size=(3, 4))
    made = transform(lambda x: a @ x)(RNG.normal(size=(4, 2)))
    assert made.shape == (3, 2, 4, 2)
    np.testing.assert_allclose(made, np.einsum("ik,jl->ijkl", a, np.eye(2)), atol=1e-15)


@pytest.mark.parametrize("transform", [jacfwd, jacrev])
def test_jacobian_of_trees(transform):
    def f(p, q):
        return [p["a"] * q, np.sum(p["a"]) * np.ones(2)]

    made = transform(f, argnums=(0, 1))({"a": X}, 3.0)
    np.testing.assert_allclose(made[0][0]["a"], 3 * np.eye(5))
    np.testing.assert_allclose(made[0][1], X)
    np.testing.assert_allclose(made[1][0]["a"], np.ones((2, 5)))
    np.testing.assert_allclose(made[1][1], np.zeros(2))


@pytest.mark.parametrize("chunk", [1, 40, 200])
@pytest.mark.parametrize("transform", [jacfwd, jacrev, hessian])
def test_large_jacobians_are_made_chunk_by_chunk(monkeypatch, transform, chunk):
    from tapead import nested

    expected = transform(rosenbrock if transform is hessian else layer)(X)
    monkeypatch.setattr(nested, "CHUNK", chunk)
    made = transform(rosenbrock if transform is hessian else layer)
    np.testing.assert_allclose(made(X), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(made(X), expected, rtol=1e-13, atol=1e-13)


def test_chunks_bound_the_memory(monkeypatch):
    from tapead import nested

    def f(x):
        for _ in range(6):
            x = np.sin(np.cumsum(x))
        return x

    x = RNG.normal(size=300)
    whole, parts = jacrev(f), jacrev(f)
    expected = whole(x)
    monkeypatch.setattr(nested, "CHUNK", 20_000)
    np.testing.assert_allclose(parts(x), expected, rtol=1e-13)
    assert parts.last.program.arena_bytes < 0.8 * whole.last.program.arena_bytes


def test_empty_jacobians():
    assert jacfwd(lambda x: x * 2)(np.zeros(0)).shape == (0, 0)
    assert jacrev(lambda x: x[:0])(X).shape == (0, 5)
    assert jacfwd(lambda x: x[:0])(X).shape == (0, 5)


def test_hessian_of_rosenbrock():
    x = RNG.normal(size=10)
    expected = rosenbrock_hessian(x)
    made = hessian(rosenbrock)
    for _ in range(2):
        np.testing.assert_allclose(made(x), expected, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(hessian_diag(rosenbrock)(x), np.diag(expected), rtol=1e-12)
    assert laplacian(rosenbrock)(x) == pytest.approx(np.trace(expected), rel=1e-12)
    u = RNG.normal(size=10)
    np.testing.assert_allclose(hvp(rosenbrock, (x,), (u,)), expected @ u, rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(vhp(rosenbrock, (x,), (u,)), u @ expected, rtol=1e-11, atol=1e-9)


def test_hessian_of_trees():
    def f(p):
        return p["a"] ** 2 * np.sum(p["b"] ** 3)

    p = {"a": 2.0, "b": X}
    made = hessian(f)(p)
    assert made["a"]["a"] == pytest.approx(2 * np.sum(X**3))
    np.testing.assert_allclose(made["a"]["b"], 4 * 3 * X**2)
    np.testing.assert_allclose(made["b"]["a"], 4 * 3 * X**2)
    np.testing.assert_allclose(made["b"]["b"], np.diag(4 * 6 * X))
    diagonal = hessian_diag(f)(p)
    np.testing.assert_allclose(diagonal["b"], 4 * 6 * X)
    product = hvp(f, (p,), ({"a": 1.0, "b": np.zeros(5)},))
    np.testing.assert_allclose(product["b"], 12 * X**2)


def test_hvp_by_several_arguments():
    made = hvp(lambda x, y: x**2 * y, (2.0, 3.0), (1.0, 1.0))
    assert [float(part) for part in made] == [2 * 3.0 + 2 * 2.0, 2 * 2.0]


def test_second_order_tape_of_rosenbrock_is_at_most_three_times_the_first():
    x = RNG.normal(size=10)
    first = tapead.value_and_grad(rosenbrock)
    second = grad(lambda x, u: jvp(rosenbrock, (x,), (u,))[1])
    first(x), second(x, x)
    assert tapead.explain(second).needed <= 3 * tapead.explain(first).needed


# ---- composed ----------------------------------------------------------------------------------------------------------


def slope(f, x, mode):
    return jvp(f, (x,), (1.0,))[1] if mode == "fwd" else grad(f)(x)


MODES = [(a, b) for a in ("fwd", "rev") for b in ("fwd", "rev")]


@pytest.mark.parametrize(("outer", "inner"), MODES)
def test_no_perturbation_confusion(outer, inner):
    """d/dx (x · d/dy (x + y)) = 1, and d/dx (x · d/dy (x y²) at y = x) = 6 x²."""
    assert float(slope(lambda x: x * slope(lambda y: x + y, 2.0, inner), 3.0, outer)) == pytest.approx(1.0)
    assert float(slope(lambda x: x * slope(lambda y: x * y**2, x, inner), 2.0, outer)) == pytest.approx(24.0)


@pytest.mark.parametrize(("outer", "inner"), MODES)
def test_gradient_through_an_inner_minimisation(outer, inner):
    """y*(a) minimises (y - a)² + y⁴/4: the derivative of y* is 2 / (2 + 3 y*²), whatever number of steps it takes."""

    def minimum(a):
        y = 0.0 * a
        for _ in range(1000):
            step = slope(lambda y: (y - a) ** 2 + y**4 / 4, y, inner)
            y = y - 0.2 * step
            if abs(step) < 1e-11:
                return y
        raise AssertionError("no minimum")

    for a in (0.7, 1.9):
        y = float(tapead.value_and_grad(minimum)(a)[0])
        assert float(slope(minimum, a, outer)) == pytest.approx(2 / (2 + 3 * y**2), rel=1e-8)


@pytest.mark.parametrize("modes", [(a, b, c) for a, b in MODES for c in ("fwd", "rev")])
def test_third_derivatives(modes):
    def f(x):
        return np.sin(x) * np.exp(x) + x**5

    def third(x):
        return 2 * np.exp(x) * (np.cos(x) - np.sin(x)) + 60 * x**2

    a, b, c = modes
    got = slope(lambda x: slope(lambda x: slope(f, x, a), x, b), 0.7, c)
    assert float(got) == pytest.approx(third(0.7), rel=1e-12)


def test_jacobian_of_jacobian_is_the_third_derivative():
    made = jacfwd(jacrev(jacfwd(lambda x: np.prod(x))))(np.array([2.0, 3.0, 5.0]))
    expected = np.zeros((3, 3, 3))
    for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        expected[i, j, k] = 1.0
    np.testing.assert_allclose(made, expected, atol=1e-14)


def test_gradient_of_a_norm_of_a_jacobian():
    """d/dx sum(J²), J the Jacobian of sin: sum cos² has the gradient -2 cos sin."""
    for transform in (jacfwd, jacrev):
        np.testing.assert_allclose(
            grad(lambda x, t=transform: np.sum(t(np.sin)(x) ** 2))(X), -2 * np.cos(X) * np.sin(X), rtol=1e-12
        )


def test_linear_maps_within_a_trace():
    def f(x):
        value, linear = linearize(np.sin, x)
        _, pullback = vjp(np.exp, x)
        return np.sum(value * linear(x) + pullback(x)[0])

    def plain(x):
        return np.sum(np.sin(x) * np.cos(x) * x + np.exp(x) * x)

    np.testing.assert_allclose(grad(f)(X), grad(plain)(X), rtol=1e-13)
    np.testing.assert_allclose(jacfwd(f)(X), grad(plain)(X), rtol=1e-13)


def test_values_of_maps_may_be_assigned_to_and_what_they_need_may_not():
    def cleared(x):
        value, pullback = vjp(np.exp, x)
        value[:] = 0.0
        return np.sum(pullback(x)[0])

    def doubled(x):
        value, linear = linearize(np.exp, x)
        value *= 2.0
        return np.sum(linear(x) * value)

    def changed(x, make):
        y = x.copy()
        _, mapped = make(lambda z: z * y, x)
        y[:] = 1.0
        return np.sum(mapped(x)[0])

    np.testing.assert_allclose(grad(cleared)(X), np.exp(X) * (1 + X), rtol=1e-13)
    np.testing.assert_allclose(grad(doubled)(X), 2 * np.exp(2 * X) * (1 + 2 * X), rtol=1e-13)
    for make in (vjp, linearize):
        with expect.error(ValueError, "assigned", "copy"):
            grad(lambda x, make=make: changed(x, make))(X)


def test_tangents_are_arrays_of_their_own():
    def f(x):
        given = x * 3.0
        _, tangent = jvp(lambda a: a[::-1], (x,), (given,))
        tangent[0] = 0.0
        return np.sum(given * x)

    np.testing.assert_allclose(grad(f)(X), 6 * X, rtol=1e-13)


def test_constant_results_are_the_callers_own():
    def f(x):
        return np.arange(3.0), x

    for call in (lambda: jvp(f, (X,), (X,))[0][0], lambda: vjp(f, X)[0][0], lambda: linearize(f, X)[0][0]):
        call()[:] = 7.0
        np.testing.assert_array_equal(call(), np.arange(3.0))
    g = tapead.value_and_grad(lambda x: (np.sum(x), np.arange(3.0)), has_aux=True)
    g(X)[0][1][:] = 7.0
    np.testing.assert_array_equal(g(X)[0][1], np.arange(3.0))


@pytest.mark.parametrize("tree", [{}, [], (), None, {"a": None}])
def test_trees_without_leaves(tree):
    for transform in (jacfwd, jacrev, jacobian, hessian, hessian_diag):
        made = transform(lambda p, x: np.sum(x))(tree, X)
        assert made == tree
    assert laplacian(lambda p, x: np.sum(x))(tree, X) == 0.0
    assert jacrev(lambda x: None)(X) is None


def test_transforms_within_a_trace_close_over_its_values():
    def f(a):
        return np.sum(jacfwd(lambda x: a * x**2)(X)) + hvp(lambda x: a * x**3, (2.0,), (1.0,))

    assert float(grad(f)(3.0)) == pytest.approx(2 * np.sum(X) + 12.0)


def test_hessian_within_a_trace_replays():
    def f(x):
        return np.sum(hessian(rosenbrock)(x) ** 2)

    g = grad(f)
    h = 1e-6
    for _ in range(3):
        x = RNG.normal(size=4)
        slopes = [
            (np.sum(rosenbrock_hessian(x + h * e) ** 2) - np.sum(rosenbrock_hessian(x - h * e) ** 2)) / (2 * h)
            for e in np.eye(4)
        ]
        np.testing.assert_allclose(g(x), slopes, rtol=1e-6, atol=1e-1)
    assert g.traces_kept == 1


# ---- bad input -----------------------------------------------------------------------------------------------------------


def test_tangents_that_do_not_fit():
    f = lambda x, p: x * p["a"]  # noqa: E731
    p = {"a": 2.0}
    with expect.error(TypeError, "tangent", "structure"):
        jvp(f, (X, p), (X, {"b": 1.0}))
    with expect.error(ValueError, "tangent", "[0]", "(4,)", "(5,)"):
        jvp(f, (X, p), (np.ones(4), p))
    with expect.error(TypeError, "tangent", "float32", "float64"):
        jvp(f, (X, p), (X.astype(np.float32), p))
    with expect.error(TypeError, "tangent", "str"):
        jvp(f, (X, p), (X, {"a": "x"}))
    with expect.error(TypeError, "tuple"):
        jvp(np.sin, 1.0, 1.0)
    with expect.error(ValueError, "empty"):
        jvp(lambda: 1.0, (), ())
    with expect.error(TypeError, "int"):
        jvp(np.sin, (1,), (1.0,))
    with expect.error(TypeError, "function"):
        jvp(3.0, (1.0,), (1.0,))


def test_cotangents_that_do_not_fit():
    _, pullback = vjp(lambda x: {"y": x}, X)
    with expect.error(TypeError, "cotangent", "structure"):
        pullback(X)
    with expect.error(ValueError, "cotangent", "['y']", "(4,)", "(5,)"):
        pullback({"y": np.ones(4)})
    with expect.error(TypeError, "cotangent", "float32"):
        pullback({"y": X.astype(np.float32)})
    with expect.error(TypeError, "one cotangent"):
        pullback(X, X)
    _, linear = linearize(np.sin, X)
    with expect.error(ValueError, "tangent", "(4,)"):
        linear(np.ones(4))


@pytest.mark.parametrize(
    "call",
    [
        lambda f: grad(f)(X),
        lambda f: hessian(f)(X),
        lambda f: hessian_diag(f)(X),
        lambda f: laplacian(f)(X),
        lambda f: hvp(f, (X,), (X,)),
    ],
)
def test_functions_that_return_more_than_a_number(call):
    with expect.error(ValueError, "one number", "(5,)"):
        call(lambda x: x * 2)


@pytest.mark.parametrize("transform", [jacfwd, jacrev, jacobian])
def test_integer_outputs_have_no_derivative(transform):
    with expect.error(TypeError, "integers or truth values", "astype", "has_aux"):
        transform(lambda x: np.argsort(x))(X)
    with expect.error(TypeError, "integers or truth values", "['k']"):
        transform(lambda x: {"k": x > 0})(X)


def test_bad_argnums():
    for transform in (jacfwd, hessian, laplacian):
        with expect.error(ValueError, "argnums=2"):
            transform(lambda x: np.sum(x), argnums=2)(X)
        with expect.error(TypeError, "argnums"):
            transform(lambda x: np.sum(x), argnums="x")(X)
        with expect.error(ValueError, "twice"):
            transform(lambda x: np.sum(x), argnums=(0, -1))(X)
        with expect.error(TypeError, "function"):
            transform(3)


def test_arguments_are_not_to_be_assigned_to():
    def f(x):
        x[0] = 1.0
        return np.sum(x)

    for call in (lambda: jvp(f, (X,), (X,)), lambda: vjp(f, X), lambda: jacfwd(f)(X), lambda: hessian(f)(X)):
        with expect.error(ValueError):
            call()


def test_results_are_written_where_they_are_wanted():
    made, out = jacfwd(layer), np.empty((4, 5))
    for x in (X, 2 * X, 3 * X):
        assert made(x, out=out) is out
        np.testing.assert_allclose(out, layer_jacobian(x), rtol=1e-12)
    both, outs = jacfwd(lambda x, y: x * y, argnums=(0, 1)), (np.empty((5, 5)), np.empty((5, 5)))
    for x in (X, 2 * X, 3 * X):
        assert all(a is b for a, b in zip(both(x, X, out=outs), outs, strict=True))
        np.testing.assert_allclose(outs[1], np.diag(x), atol=1e-15)
    with expect.error(ValueError, "(4, 4)", "(4, 5)"):
        jacfwd(layer)(X, out=np.empty((4, 4)))
    with expect.error(TypeError, "out="):
        jacfwd(layer)(X, out=[0.0])


def test_explain_and_profile_take_any_transform():
    made = jacfwd(layer)
    made(X)
    assert tapead.explain(made).replays
    assert tapead.profile(made, X).rows


# ---- what is known to be diagonal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [jacfwd, jacrev])
@pytest.mark.parametrize(
    "f",
    [
        layer,
        lambda x: W @ np.tanh(x),
        lambda x: np.exp(-np.tanh(x)) @ W.T,
        lambda x: np.tanh(W @ np.exp(np.sin(x))),
        lambda x: np.tanh(W @ np.sin(x)[::-1]),
        lambda x: np.tanh(np.sin(x) @ W.T * x[0]),
        lambda x: np.abs(W @ np.maximum(x, 0.0)),
        lambda x: W @ (np.sin(x) * np.sum(x)),
    ],
)
def test_jacobians_of_elementwise_functions_before_and_after_products(transform, f):
    expected = np.stack([expect.slope(lambda x, i=i: f(x)[i], X) for i in range(4)])
    np.testing.assert_allclose(transform(f)(X), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("transform", "f"), [(jacrev, layer), (jacfwd, lambda x: W @ np.tanh(x))])
def test_a_product_with_a_diagonal_matrix_is_none(transform, f):
    jac = transform(f)
    jac(X)
    assert str(jac.profile(X)).count("matmul") == (f is layer)  # that of the value, which the slope of tanh needs


# ---- what undoes a factor --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x**4) / 4,
        lambda x: np.sum((x**4)[::-1] * x) / 4,
        lambda x: np.sum(0.25 * (4.0 * np.sin(x))[::-1] * np.exp(x)),
        lambda x: np.sum(-0.5 * np.exp(-2.0 * x)),
        lambda x: np.sum(np.outer(x, x) ** 2 / 2),
        lambda x: np.sum(np.outer(x, np.sin(x)).T ** 4) * 0.25,
    ],
)
def test_adjoints_times_what_undoes_them(f):
    gradient = grad(lambda x: np.sum(grad(f)(x) * np.cos(x)))
    expected = expect.slope(lambda x: expect.slope(f, x) @ np.cos(x), X)
    np.testing.assert_allclose(gradient(X), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(grad(lambda x: np.sum(grad(f)(x)))(X), hessian(f)(X).sum(axis=0), rtol=1e-12)


def test_a_factor_that_is_undone_leaves_no_instructions():
    def needed(f):
        gradient = grad(lambda x: np.sum(grad(f)(x) ** 2))
        return tapead.explain(gradient, X).needed

    plain = needed(lambda x: np.sum(x**4))
    assert needed(lambda x: np.sum(x**4) / 4) == plain - 1  # 0.25 * (4 * x**3) is x**3
    assert needed(lambda x: np.sum(x**4) / 5) == plain + 1
