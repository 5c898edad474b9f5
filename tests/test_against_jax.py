"""Compositions of transforms on functions drawn at random, against JAX: up to third derivatives, in any order."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import tapead

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
jax.config.update("jax_enable_x64", True)

SIZE = 3

#: expressions of vectors x and y, a constant vector c and a constant matrix m, that give a vector
LINES = [
    "np.sin({x}) * {y}",
    "np.tanh({x} + {y})",
    "np.exp(np.tanh({x}))",
    "np.log(1.5 + {x} ** 2) - {y}",
    "np.sqrt(1.0 + {x} * {x})",
    "{x} / (1.5 + {y} ** 2)",
    "{x} ** 3 / 10.0",
    "(1.2 + np.tanh({x})) ** np.tanh({y})",
    "np.arctan2({x}, 2.0 + {y} ** 2)",
    "np.logaddexp({x}, {y})",
    "np.maximum({x}, c)",
    "np.abs({x}) * c",
    "np.where({x} > 0.25, {x} * 2.0, np.sin({x}))",
    "{x}[::-1] * {y}",
    "np.cumsum({x}) / 3.0",
    "np.sort({x}) * c",
    "np.concatenate([{x}[1:], {x}[:1] * {y}[0]])",
    "np.stack([{x}[0] * {x}[1], {x}[2], {y}[0]])",
    "{x}[np.array([0, 2, 0])] + {y}",
    "m @ {x}",
    "np.tanh({x}) @ m",
    "np.outer({x}, {y}) @ c",
    "np.sum(({x}[:, None] - {y}) ** 2, axis=0) / 3.0",
    "{x} * np.sum({y})",
    "np.max({x}) * {y}",
    "{x} * np.prod(1.5 + np.tanh({y}))",
    "{x} * np.linalg.norm({y} + 3.0)",
    "np.linalg.solve(np.outer({x}, {x}) + 2.0 * np.eye(3), {y})",
    "np.einsum('i,ij,j->i', {x}, m, {y})",
    "np.var({x}) * {y}",
]
RESULTS = ["{x}", "np.sum({x} * {y})", "np.outer({x}, {y})"]


def scalar(f, np):
    return lambda x: np.sum(np.sin(f(x)))


def pulled(d, np, f, x):
    value, pullback = d.vjp(f, x)
    return pullback(np.cos(value))[0]


#: what makes a function of a vector of another; tangents and cotangents depend on the point, and are differentiated too
TRANSFORMS = {
    "grad": lambda d, np, f: d.grad(scalar(f, np)),
    "jvp": lambda d, np, f: lambda x: d.jvp(f, (x,), (np.cos(x),))[1],
    "linearize": lambda d, np, f: lambda x: d.linearize(f, x)[1](x * 0.5),
    "vjp": lambda d, np, f: lambda x: pulled(d, np, f, x),
    "jacfwd": lambda d, np, f: d.jacfwd(f),
    "jacrev": lambda d, np, f: d.jacrev(f),
    "hessian": lambda d, np, f: d.hessian(scalar(f, np)),
    "hvp": lambda d, np, f: lambda x: d.hvp(scalar(f, np), (x,), (np.cos(x),)),
}
ORDERS = dict.fromkeys(TRANSFORMS, 1) | {"hessian": 2, "hvp": 2}
BY_JAX = SimpleNamespace(
    grad=jax.grad,
    jvp=jax.jvp,
    linearize=jax.linearize,
    vjp=jax.vjp,
    jacfwd=jax.jacfwd,
    jacrev=jax.jacrev,
    hessian=jax.hessian,
    hvp=lambda f, primals, tangents: jax.jvp(jax.grad(f), primals, tangents)[1],
)


@st.composite
def functions(draw):
    """Draw a function of a vector that gives a number, a vector or a matrix, as its source."""
    names, lines = ["x"], []
    for k in range(draw(st.integers(1, 3))):
        x, y = (draw(st.sampled_from(names[-2:])), draw(st.sampled_from(names)))
        lines.append(f"    v{k} = {draw(st.sampled_from(LINES)).format(x=x, y=y)}\n")
        names.append(f"v{k}")
    result = draw(st.sampled_from(RESULTS)).format(x=names[-1], y=draw(st.sampled_from(names)))
    return f"def f(x, np, c, m):\n{''.join(lines)}    return {result}\n"


@st.composite
def compositions(draw):
    """Draw the names of transforms whose orders add up to three at most."""
    names, order = [], draw(st.integers(1, 3))
    while order:
        name = draw(st.sampled_from([name for name in TRANSFORMS if ORDERS[name] <= order]))
        order -= ORDERS[name]
        names.append(name)
    return names


def composed(source, names, d, np_):
    """Give the function of a source, transformed by one after the other of the names."""
    place = {}
    exec(source, place)
    c, m = np.array([0.7, -0.4, 1.1]), np.linspace(-1.0, 1.2, SIZE * SIZE).reshape(SIZE, SIZE)

    def made(x):
        return place["f"](x, np_, c, m)

    for name in names:
        made = TRANSFORMS[name](d, np_, made)
    return made


def compiled(f):
    """Compile by JAX, which takes more time for it than all else here does; without its optimizer a third of that."""
    options = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True}
    return jax.jit(f).lower(jnp.zeros(SIZE)).compile(compiler_options=options)


@given(functions(), compositions())
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_compositions_of_transforms(source, names):
    note(source)
    note(" of ".join(reversed(names)))
    ours, theirs = composed(source, names, tapead, np), compiled(composed(source, names, BY_JAX, jnp))
    for x in np.random.default_rng(0).uniform(-1.5, 1.5, (3, SIZE)):
        expected = np.asarray(theirs(jnp.asarray(x)))
        result = np.asarray(ours(x))
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10 * max(1.0, np.max(np.abs(expected))))
