"""Every op in all pairs of modes at second order, forward against reverse, many columns against one."""

import mpmath
import numpy as np
import pytest
import test_ops as ops

import tapead
from tapead.dispatch import record

SAMPLES = [p for p in ops.SAMPLES if p.values[0].active]
structural = pytest.mark.parametrize(("op", "operands", "parameters"), SAMPLES)


def along(f, x, u, mode):
    """Give the derivative of f along u at x, by one mode."""
    if mode == "fwd":
        return tapead.jvp(f, (x,), (u,))[1]
    return np.sum(tapead.grad(f)(x) * u)


PAIRS = [(outer, inner) for outer in ("rev", "fwd") for inner in ("rev", "fwd")]
pairs = pytest.mark.parametrize(("outer", "inner"), PAIRS, ids=["-".join(pair) for pair in PAIRS])


@pairs
@pytest.mark.parametrize("row", ops.DIFFERENTIABLE, ids=lambda row: row.name)
def test_second_derivative_of_every_row(row, outer, inner):
    """Along a direction in all operands at once: the sum of u_i u_j d²z/dx_i dx_j, element by element."""
    operands = ops.sample(row, n=4)
    flowing = ops.flowing(row)
    if row.select:
        flowing = flowing[:1]
    rng = np.random.default_rng(row.code)
    direction = rng.uniform(0.5, 1.5, (len(flowing), 4))

    def f(stacked):
        full = list(operands)
        for k, i in enumerate(flowing):
            full[i] = stacked[k]
        return np.sum(record(row.name, *full) * np.array([1.0, 0.5, -1.0, 2.0]))

    x = np.stack([operands[i] for i in flowing])
    got = along(lambda x: along(f, x, direction, inner), x, direction, outer)
    expected = 0.0
    with mpmath.workdps(50):
        for e, weight in enumerate([1.0, 0.5, -1.0, 2.0]):

            def line(t, e=e):
                at = [mpmath.mpf(float(o[e])) for o in operands]
                for k, i in enumerate(flowing):
                    at[i] += t * mpmath.mpf(float(direction[k, e]))
                return ops.ORACLE[row.name](*at)

            expected += weight * float(mpmath.diff(line, 0, 2)) if row.name != "mask" else 0.0
    np.testing.assert_allclose(got, expected, rtol=2e-10, atol=1e-10)


@structural
def test_second_derivative_of_every_structural_op(op, operands, parameters):
    """All four pairs of modes agree with one another, and with central differences of the gradient."""
    k = next((i for i in op.active if operands[i].size), None)
    if k is None:
        pytest.skip("nothing to move")
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.5, 1.5, np.shape(ops.first_result(op.numpy(*operands, **parameters))))
    u = rng.normal(size=operands[k].shape)

    def f(x):
        full = list(operands)
        full[k] = x
        return np.sum(np.sin(weights * ops.first_result(record(op.name, *full, **parameters))))

    x, h = operands[k], 1e-5
    found = [along(lambda x, i=inner: along(f, x, u, i), x, u, outer) for outer, inner in PAIRS]
    gradient = tapead.grad(f)
    expected = np.sum((gradient(x + h * u) - gradient(x - h * u)) * u) / (2 * h)
    np.testing.assert_allclose(found, [found[0]] * 4, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)


@structural
def test_columns_of_every_structural_op(op, operands, parameters):
    """All columns of a Jacobian at once, forward and in reverse, are the columns one by one."""
    k = next((i for i in op.active if operands[i].size), None)
    if k is None:
        pytest.skip("nothing to move")

    def f(x):
        full = list(operands)
        full[k] = x
        return ops.first_result(record(op.name, *full, **parameters))

    x = np.ascontiguousarray(operands[k])
    expected = np.stack([tapead.jvp(f, (x,), (u.reshape(x.shape),))[1].ravel() for u in np.eye(x.size)], axis=-1)
    for transform in (tapead.jacfwd, tapead.jacrev):
        got = transform(f)(x)
        np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-11, atol=1e-12)
    if op.name in ("max", "min"):
        return
    second = tapead.hessian(lambda x: np.sum(np.sin(f(x))))(x)
    product = np.stack(
        [tapead.hvp(lambda x: np.sum(np.sin(f(x))), (x,), (u.reshape(x.shape),)) for u in np.eye(x.size)]
    )
    np.testing.assert_allclose(second.reshape(x.size, -1), product.reshape(x.size, -1).T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("row", ops.DIFFERENTIABLE, ids=lambda row: row.name)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tangent_against_adjoint(row, dtype):
    """<v, J u> = <Jᵀ v, u>."""
    operands = [o.astype(dtype) for o in ops.sample(row, n=5)]
    flowing = ops.flowing(row)
    rng = np.random.default_rng(1)

    def f(*active):
        full = list(operands)
        for i, x in zip(flowing, active, strict=True):
            full[i] = x
        return record(row.name, *full)

    primals = tuple(operands[i] for i in flowing)
    dots = tuple(rng.normal(size=5).astype(dtype) for _ in flowing)
    v = rng.normal(size=5).astype(dtype)
    value, tangent = tapead.jvp(f, primals, dots)
    assert tangent.dtype == value.dtype == dtype
    _, pullback = tapead.vjp(f, *primals)
    adjoint = sum(np.sum(g * u, dtype=float) for g, u in zip(pullback(v), dots, strict=True))
    tolerance = 1e-13 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(np.sum(v * tangent, dtype=float), adjoint, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("x", [np.float64(0.3), np.zeros((0, 3)), np.arange(1.0, 13.0).reshape(3, 4).T[::2]])
def test_shapes_and_layouts(x):
    """0-d, empty and strided primals."""

    def f(x):
        return np.sin(x) * x

    u = np.ones_like(x)
    value, tangent = tapead.jvp(f, (x,), (u,))
    np.testing.assert_allclose(value, f(x), rtol=1e-14)
    np.testing.assert_allclose(tangent, np.cos(x) * x + np.sin(x), rtol=1e-14)
    _, pullback = tapead.vjp(f, x)
    np.testing.assert_allclose(pullback(u)[0], tangent, rtol=1e-14)
    assert tapead.jacfwd(f)(x).shape == tapead.jacrev(f)(x).shape == 2 * np.shape(x)
