"""The kernels of linear algebra, called directly: values against NumPy and SciPy, adjoints against slopes."""

import numpy as np
import pytest
from one_op import OneOp, check

from tapead.kernels import constants, linalg
from tapead.kernels.table import OPS

RNG = np.random.default_rng(0)
NAMES = ("cholesky", "solve_triangular", "solve", "slogdet", "det")
CASES = [
    pytest.param(name, operands, parameters, id=f"{name}-{k}")
    for name in NAMES
    for k, (operands, parameters) in enumerate(OPS[name].samples(np.random.default_rng(1)))
]


def positive(m):
    x = RNG.uniform(-1.0, 1.0, (m, m))
    return x @ x.T + m * np.eye(m)


@pytest.mark.parametrize(("name", "operands", "parameters"), CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_samples(name, operands, parameters, dtype):
    check(name, [x.astype(dtype) for x in operands], parameters)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_triangles_of_several_panels(lower, transposed, unit):
    m = 2 * linalg.PANEL + 7
    a = RNG.uniform(-1.0, 1.0, (m, m)) / m + 2 * np.eye(m)
    way = {"lower": lower, "transposed": transposed, "unit": unit}
    check("solve_triangular", [a, RNG.uniform(-2, 2, (m, 3))], way)
    one = OneOp("solve_triangular", [a, RNG.uniform(-2, 2, (m, 3))], way)
    one.forward()
    (da, _) = one.reverse(np.ones((m, 3)))
    unread = np.triu(np.ones((m, m)), 0 if unit else 1).astype(bool)
    assert (da[unread if lower else unread.T] == 0).all()


def test_large_systems():
    check("solve", [linalg.regular(RNG, 60, 60) + RNG.uniform(-3, 3, (60, 60)), RNG.uniform(-2, 2, (60, 7))])
    check("cholesky", [positive(60)])
    check("cholesky", [positive(2 * linalg.BLOCK + 7)])
    check("cholesky", [np.stack([positive(linalg.BLOCK + 1), positive(linalg.BLOCK + 1)])])
    check("slogdet", [linalg.regular(RNG, 60, 60) + RNG.uniform(-3, 3, (60, 60))])


def test_cholesky_reads_one_triangle():
    a = np.tril(positive(4)) + np.triu(np.full((4, 4), np.nan), 1)
    one = OneOp("cholesky", [a])
    assert one.forward() == 0
    np.testing.assert_allclose(one.results[0] @ one.results[0].T, np.tril(a) + np.tril(a, -1).T, rtol=1e-13)
    bar = np.tril(RNG.uniform(-1, 1, (4, 4))) + np.triu(np.full((4, 4), np.inf), 1)
    (da,) = one.reverse(bar)
    assert np.isfinite(da).all()
    assert (np.triu(da, 1) == 0).all()


@pytest.mark.parametrize(
    ("name", "operands", "parameters", "status", "info"),
    [
        ("cholesky", [np.diag([1.0, 4.0, -1.0])], {}, constants.NOT_POSITIVE, 3),
        ("solve", [np.array([[1.0, 2.0], [2.0, 4.0]]), np.ones((2, 1))], {}, constants.SINGULAR, 2),
        ("solve", [np.array([[1.0, 2.0], [2.0, 4.0]]), np.ones((2, 0))], {}, constants.SINGULAR, 2),
        (
            "solve_triangular",
            [np.diag([1.0, 0.0]), np.ones((2, 1))],
            {"lower": True, "transposed": False, "unit": False},
            constants.SINGULAR,
            2,
        ),
    ],
)
def test_failures_in_a_batch(name, operands, parameters, status, info):
    """A replay may fail where the trace did not; the status tells which minor of which matrix it was."""
    good = [np.stack([np.eye(x.shape[0]) if k == 0 else x, x]) for k, x in enumerate(operands)]
    good[0][1] = np.eye(operands[0].shape[0])
    one = OneOp(name, good, parameters)
    one.operands[0][1] = operands[0]
    assert one.forward() == status
    assert list(one.status[:2]) == [info, 1]


SINGULAR = {
    "one zero": np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.5], [3.0, 6.0, 1.0]]),
    "zero matrix of order 1": np.zeros((1, 1)),
    "nilpotent": np.diag(np.ones(3), 1),
    "rank 2 less": np.outer([1.0, 2.0, 3.0], [1.0, 1.0, 2.0]),
    "zero column": np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 5.0], [0.0, 2.0, 2.0]]),
    "nearly": np.arange(1.0, 10.0).reshape(3, 3),
}


def cofactors(a):
    m = len(a)
    minor = lambda i, j: np.linalg.det(np.delete(np.delete(a, i, 0), j, 1))  # noqa: E731
    return np.array([[(-1) ** (i + j) * minor(i, j) for j in range(m)] for i in range(m)])


@pytest.mark.parametrize("name", SINGULAR)
def test_det_of_singular_matrices(name):
    a = SINGULAR[name]
    one = OneOp("det", [a])
    assert one.forward() == 0
    np.testing.assert_allclose(one.results[0], 0, atol=1e-14)
    np.testing.assert_allclose(one.reverse(2.0)[0], 2 * cofactors(a), atol=1e-13)


def test_det_beside_overflow():
    """Determinants whose products leave the comfortable range take the other way, with the same result."""
    for scale in (1e-9, 1e9):
        a = linalg.regular(RNG, 5, 5) * scale
        one = OneOp("det", [a])
        one.forward()
        (da,) = one.reverse(scale / np.linalg.det(a))
        np.testing.assert_allclose(da, scale * np.linalg.inv(a).T, rtol=1e-10)


def test_slogdet_of_a_singular_matrix():
    one = OneOp("slogdet", [np.array([[1.0, 2.0], [2.0, 4.0]])])
    assert one.forward() == 0
    assert (one.results[0], one.results[1]) == (-np.inf, 0)
    assert (one.reverse(0.0)[0] == 0).all()
