"""Rules of the user's own: custom_vjp, custom_jvp, checkpoint."""

import expect
import numpy as np
import pytest

import tapead
from tapead import checkpoint, custom_jvp, custom_vjp, grad, hessian, hvp, jacfwd, jacrev, jvp, value_and_grad, vjp

RNG = np.random.default_rng(0)
X = RNG.normal(size=5)
W = RNG.normal(size=(5, 5))


def ruled(forward, backward, function=None):
    """Give a function with a reverse rule."""
    made = custom_vjp(function or (lambda *args: forward(*args)[0]))
    made.defvjp(forward, backward)
    return made


#: a rule that is wrong on purpose, to see that it is the one taken
triple = ruled(lambda x: (np.sin(x), x), lambda x, d: (3.0 * d * np.cos(x),))


@custom_jvp
def doubled(x):
    return np.sin(x)


doubled.defjvp(lambda primals, tangents: (np.sin(primals[0]), 2.0 * np.cos(primals[0]) * tangents[0]))


@pytest.mark.parametrize(("f", "factor"), [(triple, 3.0), (doubled, 2.0)])
def test_the_rule_is_taken_in_every_mode(f, factor):
    np.testing.assert_allclose(f(X), np.sin(X))
    expected = factor * np.cos(X)
    g = value_and_grad(lambda x: np.sum(f(x)))
    for x in (X, 2 * X, X):
        value, gradient = g(x)
        assert value == pytest.approx(np.sum(np.sin(x)))
        np.testing.assert_allclose(gradient, factor * np.cos(x), rtol=1e-14)
    assert g.traces_kept == 1
    np.testing.assert_allclose(jvp(f, (X,), (X,))[1], expected * X, rtol=1e-14)
    np.testing.assert_allclose(vjp(f, X)[1](X)[0], expected * X, rtol=1e-14)
    for transform in (jacfwd, jacrev):
        np.testing.assert_allclose(transform(f)(X), np.diag(expected), rtol=1e-14, atol=1e-15)


NAMES = ("assign", "scatter", "guard", "sum", "copy", "nonzero", "matmul")


@pytest.mark.parametrize("name", NAMES)
def test_functions_that_are_called_like_ops(name):
    def function(x):
        return np.sin(x)

    function.__name__ = function.__qualname__ = name
    reverse = ruled(lambda x: (np.sin(x), x), lambda x, d: (3.0 * d * np.cos(x),), function)
    forward = custom_jvp(function)
    forward.defjvp(lambda primals, tangents: (np.sin(primals[0]), 3.0 * np.cos(primals[0]) * tangents[0]))
    for f in (reverse, forward):
        np.testing.assert_allclose(jvp(f, (X,), (W[0],))[1], 3.0 * np.cos(X) * W[0])
        np.testing.assert_allclose(grad(lambda x, f=f: np.sum(f(x)))(X), 3.0 * np.cos(X))
        np.testing.assert_allclose(jacrev(jacfwd(lambda x, f=f: np.sum(f(x))))(X), np.diag(-3.0 * np.sin(X)))


@pytest.mark.parametrize(("f", "factor"), [(triple, 3.0), (doubled, 2.0)])
def test_second_derivatives_differentiate_the_rule(f, factor):
    """The rule's own derivative: of factor · cos, which calls no rule, it is -factor · sin."""
    expected = -factor * np.sin(X)
    total = lambda x: np.sum(f(x))  # noqa: E731
    np.testing.assert_allclose(hessian(total)(X), np.diag(expected), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(hvp(total, (X,), (X,)), expected * X, rtol=1e-13)
    np.testing.assert_allclose(jacfwd(grad(total))(X), np.diag(expected), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(jacrev(jacfwd(f))(X)[0, 0, 0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(tapead.hessian_diag(total)(X), expected, rtol=1e-13)


def test_rules_among_other_ops_and_out():
    def f(x):
        return np.sum(triple(x**2) * x) + np.max(x)

    expected = 2 * 3 * X**2 * np.cos(X**2) + np.sin(X**2) + (np.max(X) == X)
    g = grad(f)
    np.testing.assert_allclose(g(X), expected, rtol=1e-13)
    out = np.empty(5)
    assert g(X, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-13)


def test_rules_of_trees_with_several_results():
    def forward(p, k):
        return ({"y": p["a"] * p["b"], "s": np.sum(p["a"])}, (p, k))

    def backward(kept, d):
        p, _ = kept
        return {"a": d["y"] * p["b"] + d["s"], "b": np.sum(d["y"] * p["a"])}, None

    f = ruled(forward, backward)
    g = grad(lambda p: np.sum(f(p, 2)["y"] ** 2) * f(p, 2)["s"])
    plain = grad(lambda p: np.sum((p["a"] * p["b"]) ** 2) * np.sum(p["a"]))
    p = {"a": X, "b": 1.5}
    np.testing.assert_allclose(g(p)["a"], plain(p)["a"], rtol=1e-13)
    assert g(p)["b"] == pytest.approx(plain(p)["b"])


def test_arguments_that_are_not_differentiated_by():
    def power(x, n):
        return x**n

    f = custom_vjp(power, nondiff_argnums=(1,))
    f.defvjp(lambda x, n: (x**n, x), lambda n, x, d: (d * n * x ** (n - 1),))
    assert float(grad(lambda x: f(x, 3))(2.0)) == pytest.approx(12.0)
    g = custom_jvp(power, nondiff_argnums=(1,))
    g.defjvp(lambda n, primals, tangents: (primals[0] ** n, n * primals[0] ** (n - 1) * tangents[0]))
    assert float(grad(lambda x: g(x, 3))(2.0)) == pytest.approx(12.0)
    assert float(jvp(lambda x: g(x, 3), (2.0,), (1.0,))[1]) == pytest.approx(12.0)


def test_straight_through_rounding():
    """The rule gives a derivative where the function has none."""
    f = ruled(lambda x: (np.rint(x), None), lambda _, d: (d,))
    np.testing.assert_allclose(grad(lambda x: np.sum(f(x) * X))(X), X)


def test_columns_that_say_where_to_read_and_to_write():
    """An adjoint is sorted, each row of the Jacobian by itself: linear no longer, but what the rule says."""
    f = ruled(lambda x: (x * 1.0, None), lambda _, d: (d[np.argsort(-d)],))
    np.testing.assert_array_equal(jacrev(f)(X), np.eye(5)[[0] * 5])

    def assigning(_, d):
        y = tapead.numpy.zeros(5)
        y[np.argsort(-d)] = d
        return (y,)

    with expect.error(NotImplementedError, "assigned to", "adjoint"):
        jacrev(ruled(lambda x: (x * 1.0, None), assigning))(X)


def test_gradients_where_the_rule_stands_behind_a_branch():
    def f(x):
        return triple(x) if x > 0 else x**2

    for points in ((1.0, -1.0, 2.0, -3.0), (-1.0, -2.0, 1.0, -1.0, 2.0, -2.0)):
        g = grad(f)
        for x in points:
            assert float(g(x)) == pytest.approx(3 * np.cos(x) if x > 0 else 2 * x)


@pytest.mark.parametrize(
    ("backward", "kind", "words"),
    [
        (lambda _, d: (d, d), TypeError, ["tuple of 1", "not 2"]),
        (lambda _, d: d, TypeError, ["tuple of 1", "Tensor"]),
        (lambda _, d: (d[:2],), ValueError, ["(2,)", "(5,)"]),
        (lambda _, d: ("d",), TypeError, ["str"]),
        (lambda _, d: (d > 0,), TypeError, ["bool"]),
        (lambda _, d: ({"a": d},), TypeError, ["structure"]),
    ],
)
def test_wrong_reverse_rules_are_named(backward, kind, words):
    @custom_vjp
    def badly_ruled(x):
        return np.sin(x)

    badly_ruled.defvjp(lambda x: (np.sin(x), None), backward)
    with expect.error(kind, "badly_ruled", *words):
        grad(lambda x: np.sum(badly_ruled(x)))(X)


def test_wrong_forward_rules_are_named():
    @custom_jvp
    def badly_ruled(x):
        return np.sin(x)

    with expect.error(TypeError, "badly_ruled", "defjvp"):
        grad(lambda x: np.sum(badly_ruled(x)))(X)
    badly_ruled.defjvp(lambda primals, tangents: tangents[0])
    with expect.error(TypeError, "badly_ruled", "(value, tangent)"):
        jvp(badly_ruled, (X,), (X,))
    badly_ruled.defjvp(lambda primals, tangents: (primals[0], tangents[0][:2]))
    with expect.error(ValueError, "badly_ruled", "(2,)", "(5,)"):
        jvp(badly_ruled, (X,), (X,))
    other = custom_vjp(lambda x: x)
    with expect.error(TypeError, "defvjp"):
        grad(lambda x: np.sum(other(x)))(X)
    other.defvjp(lambda x: x, lambda _, d: (d,))
    with expect.error(TypeError, "(value, residuals)"):
        grad(lambda x: np.sum(other(x)))(X)


def test_rules_that_change_what_they_are_given():
    def changing(_, d):
        d *= 2.0
        return (d,)

    f = ruled(lambda x: (np.sin(x), None), changing)
    with expect.error(ValueError):
        grad(lambda x: np.sum(f(x) * x))(X)


def test_values_that_the_rule_would_lose():
    def f(a):
        return np.sum(ruled(lambda x: (a * x, None), lambda _, d: (d,))(X * a))

    with expect.error(TypeError, "not among its arguments"):
        grad(f)(2.0)


def test_values_that_are_closed_over_though_they_are_arguments():
    closing = custom_vjp(lambda z: z)

    def f(x):
        closing.defvjp(lambda z: (z * x, None), lambda _, d: (d * x,))
        return np.sum(closing(x))

    with expect.error(TypeError, "not among its arguments"):
        grad(f)(X)


def test_rules_see_what_was_there_when_they_were_called():
    product = ruled(
        lambda x, y: (np.sin(x) * y, (x, y)), lambda kept, d: (d * np.cos(kept[0]) * kept[1], d * np.sin(kept[0]))
    )

    def f(x, product):
        y = x.copy()
        y[1:] = product(y[1:], y[:-1])
        y[0] = y[1] * 2.0
        return product(y, y)

    def plain(x):
        return f(x, lambda x, y: np.sin(x) * y)

    for transform in (jacfwd, jacrev):
        got = transform(lambda x: f(x, product))(X)
        np.testing.assert_allclose(got, jacrev(plain)(X), rtol=1e-12, atol=1e-13)


def test_calls_of_rules_by_name_and_with_active_arguments_that_should_not_be():
    with expect.error(TypeError, "doubled", "'x'"):
        grad(lambda x: np.sum(doubled(x=x)))(X)
    f = custom_vjp(lambda n, x: n * x, nondiff_argnums=(0,))
    f.defvjp(lambda n, x: (n * x, None), lambda n, _, d: (n * d,))
    with expect.error(TypeError, "argument 0", "nondiff_argnums"):
        grad(lambda x: np.sum(f(x[0], x)))(X)


def test_a_rule_on_an_open_tape():
    with tapead.Tape() as tape:
        x = tape.variable(X)
        with expect.error(NotImplementedError, "tapead.grad"):
            triple(x)


# ---- checkpoint ----------------------------------------------------------------------------------------------------------


def deep(x, w, layer):
    for _ in range(4):
        x = layer(x, w)
    return np.sum(x * x)


def layer(x, w):
    return np.tanh(w @ x) * np.exp(0.1 * x[0])


def test_checkpoints_change_no_derivative():
    kept = checkpoint(layer)
    for transform in (
        lambda f: value_and_grad(f, (0, 1)),
        lambda f: hessian(f),
        lambda f: jacfwd(f, (0, 1)),
        lambda f: grad(lambda x, w: np.sum(grad(f)(x, w) ** 2)),
    ):
        got = transform(lambda x, w: deep(x, w, kept))(X, W)
        expected = transform(lambda x, w: deep(x, w, layer))(X, W)
        for a, b in zip(tapead.tree.flatten(got)[0], tapead.tree.flatten(expected)[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_checkpoints_close_over_traced_values():
    def f(w, wrap):
        y = w * 2.0
        return np.sum(wrap(lambda x: np.tanh(y @ x))(X) ** 2)

    np.testing.assert_allclose(
        grad(lambda w: f(w, checkpoint))(W), grad(lambda w: f(w, lambda g: g))(W), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("f", [lambda z, x: z * x, lambda z, x: np.sin(z) * x[0], lambda z, x: z[::-1] * x[1:2]])
def test_checkpoints_close_over_their_own_arguments(f):
    kept = lambda x: np.sum(checkpoint(lambda z: f(z, x))(x))  # noqa: E731
    plain = lambda x: np.sum(f(x, x))  # noqa: E731
    np.testing.assert_allclose(grad(kept)(X), grad(plain)(X), rtol=1e-13)
    np.testing.assert_allclose(hessian(kept)(X), hessian(plain)(X), rtol=1e-12, atol=1e-13)


def test_checkpoints_of_functions_that_assign_to_their_argument():
    def assigning(z):
        z[0] = z[0] * z[1]
        return z * z

    def f(x):
        y = x.copy()
        return np.sum(checkpoint(assigning)(y) * y)

    with expect.error(ValueError, "read-only"):
        grad(f)(X)


def test_checkpoints_save_memory():
    def step(x):
        return np.sin(np.exp(np.cos(x) * 1.1)[::-1]) * 1.001

    def chain(x, step):
        for _ in range(10):
            x = step(x)
        return np.sum(x)

    kept = checkpoint(step)
    x = RNG.normal(size=20_000)
    plain, saving = grad(lambda x: chain(x, step)), grad(lambda x: chain(x, kept))
    np.testing.assert_allclose(saving(x), plain(x), rtol=1e-12)
    assert tapead.explain(saving).arena_bytes < 0.75 * tapead.explain(plain).arena_bytes


def test_checkpoint_of_plain_values_is_the_function():
    assert checkpoint(np.sin)(0.5) == np.sin(0.5)
    with expect.error(TypeError, "function"):
        checkpoint(3)


def test_a_rule_that_gives_another_dtype_is_named():
    f = ruled(lambda x: (np.sin(x), None), lambda _, d: (d * np.ones(5),), np.sin)
    with expect.error(TypeError, "sin", "float64", "float32"):
        grad(lambda x: np.sum(f(x)))(X.astype(np.float32))
