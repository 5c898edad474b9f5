"""The kernels of matrix products, called directly: every layout of operands and of their adjoints."""

import itertools

import numpy as np
import pytest
from one_op import OneOp, check

from tapead.kernels.table import OPS

RNG = np.random.default_rng(0)
LAYOUTS = ("rows", "columns", "rows apart", "columns apart")
PAIRS = list(itertools.product(LAYOUTS, LAYOUTS))


def matrix(shape, layout, dtype=np.float64):
    """Draw a matrix (or a batch) whose rows or columns lie side by side, or apart."""
    *batch, m, n = shape
    columns, apart = layout.startswith("columns"), layout.endswith("apart")
    lines, length = (n, m) if columns else (m, n)
    whole = RNG.uniform(-2, 2, (*batch, lines, length + 3 * apart)).astype(dtype)
    x = whole[..., :length]
    return np.swapaxes(x, -1, -2) if columns else x


@pytest.mark.parametrize(("operands", "parameters"), OPS["matmul"].samples(np.random.default_rng(1)))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_samples(operands, parameters, dtype):
    check("matmul", [x.astype(dtype) for x in operands], parameters)


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("sizes", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 4), (4, 1, 1), (1, 4, 1)])
def test_layouts(first, second, sizes):
    m, k, n = sizes
    check("matmul", [matrix((m, k), first), matrix((k, n), second)])


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_batches_of_layouts(first, second):
    check("matmul", [matrix((2, 3, 4), first), matrix((2, 4, 2), second)])
    check("matmul", [matrix((3, 1, 2, 3), first, np.float32), matrix((4, 3, 2), second, np.float32)])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 0), (0, 3)),
        ((0, 2), (2, 3)),
        ((2, 3), (3, 0)),
        ((2, 2, 0), (0, 3)),
        ((0, 2, 3), (3, 4)),
        ((0, 1, 2, 2), (3, 2, 2)),
    ],
)
def test_nothing(a, b):
    check("matmul", [RNG.uniform(-2, 2, a), RNG.uniform(-2, 2, b)])


def test_a_batch_of_permuted_axes():
    x = RNG.uniform(-2, 2, (4, 3, 5))
    check("matmul", [x.transpose(1, 0, 2), x.transpose(1, 2, 0)])


def test_a_repeated_batch_sums_its_adjoints():
    """A batch axis of stride 0 (broadcast_to) is one matrix: its adjoint gets all contributions."""
    a = np.broadcast_to(RNG.uniform(-2, 2, (2, 3)), (4, 2, 3))
    b, bar = RNG.uniform(-2, 2, (4, 3, 2)), RNG.uniform(-1, 1, (4, 2, 2))
    one = OneOp("matmul", [a, b])
    assert one.forward() == 0
    np.testing.assert_allclose(one.results[0], a @ b, rtol=1e-13)
    np.testing.assert_allclose(one.reverse(bar)[0][0], np.sum(bar @ b.swapaxes(1, 2), axis=0), rtol=1e-12)
