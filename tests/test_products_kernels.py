"""The kernels of matrix products, called directly: every layout of operands and of their adjoints."""

import itertools

import numpy as np
import pytest
from one_op import OneOp, address, check

from tapead.kernels.op import Layout
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


def product(a, b, first, tolerance):
    """Assert that both sweeps of a product give what NumPy does, where the adjoints in `first` are stored."""
    one = OneOp("matmul", [a, b])
    assert one.forward() == 0
    bar = RNG.uniform(-2, 2, one.expected[0].shape).astype(a.dtype)
    wide = [x.astype(float) for x in (a, b, bar)]
    np.testing.assert_allclose(one.results[0], wide[0] @ wide[1], rtol=tolerance, atol=tolerance)
    expected = wide[2] @ np.swapaxes(wide[1], -1, -2), np.swapaxes(wide[0], -1, -2) @ wide[2]
    for got, whole, x in zip(one.reverse(bar, first=first), expected, (a, b), strict=True):
        np.testing.assert_allclose(got, summed(whole, x.shape), rtol=tolerance, atol=tolerance)


def summed(x, shape):
    """Sum the axes of x that a broadcast to its shape has made."""
    x = np.sum(x, axis=tuple(range(x.ndim - len(shape))))
    return np.sum(x, axis=tuple(k for k, dim in enumerate(shape) if dim == 1 != x.shape[k]), keepdims=True)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_small_sizes(first, second):
    for m, k, n, stored in itertools.product(range(6), range(6), range(6), (0, 3)):
        product(matrix((m, k), first), matrix((k, n), second), stored, 1e-12)


# sizes on either side of what is done eight, four or one at a time, of the depth of a sum, of the way to BLAS
EDGES = [(9, 7, 15), (17, 16, 16), (4, 9, 8), (40, 41, 40), (1, 40, 17), (17, 40, 1), (15, 600, 9), (1, 513, 30)]
EDGES += [(70, 3, 80), (300, 9, 1), (1, 9, 300), (16, 300, 16), (17, 300, 16), (64, 1, 65), (1, 30, 1), (1, 8, 7)]
EDGES += [(5, 7, 10), (10, 30, 12), (6, 5, 20), (3, 300, 28), (10, 1, 9)]


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("sizes", EDGES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sizes_around_limits(first, second, sizes, dtype):
    m, k, n = sizes
    for stored in (0, 3):
        product(
            matrix((m, k), first, dtype), matrix((k, n), second, dtype), stored, 1e-11 if dtype == np.float64 else 2e-3
        )


BATCHES = [
    ((5, 6, 4), (4, 9)),
    ((5, 6, 4), (4, 1)),
    ((5, 1, 4), (4, 9)),
    ((6, 4), (5, 4, 9)),
    ((6, 4), (5, 4, 1)),
    ((2, 3, 6, 4), (3, 4, 9)),
    ((2, 1, 6, 4), (1, 3, 4, 9)),
    ((2, 1, 1, 6, 1), (1, 3, 4, 1, 9)),
    ((2, 3, 1, 4), (4, 1)),
    ((3, 1, 4), (3, 4, 1)),
    ((1, 1, 6, 4), (4, 9)),
    ((0, 6, 4), (4, 9)),
    ((5, 6, 0), (0, 9)),
]


@pytest.mark.parametrize(("a", "b"), BATCHES)
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_broadcast_batches(a, b, first, second):
    for stored in range(4):
        product(matrix(a, first), matrix(b, second), stored, 1e-12)


def test_batches_of_permuted_axes():
    """Batch axes that lie inside of rows and columns."""
    x, y = RNG.uniform(-2, 2, (4, 3, 2, 5)), RNG.uniform(-2, 2, (3, 5, 2, 6))
    for stored in range(4):
        product(x.transpose(1, 2, 0, 3), y.transpose(0, 2, 1, 3), stored, 1e-12)
        product(x.transpose(1, 2, 0, 3), y[0, :, 0], stored, 1e-12)
        product(x.transpose(1, 2, 3, 0), y[:, :4].transpose(0, 2, 1, 3), stored, 1e-12)
        product(x[:, :, 0].transpose(1, 0, 2), y[0, :, 0, :1], stored, 1e-12)


def test_stored_adjoints_of_shared_memory():
    """Where several matrices of a batch share an adjoint, what was there before goes, and all contributions stay."""
    x = RNG.uniform(-2, 2, 40)
    a = np.lib.stride_tricks.as_strided(x, (4, 2, 3), (8, 24, 8))
    b, bar = RNG.uniform(-2, 2, (4, 3, 2)), RNG.uniform(-1, 1, (4, 2, 2))
    one = OneOp("matmul", [a, b])
    one.forward()
    np.testing.assert_allclose(one.reverse(bar, first=1)[0], one.reverse(bar)[0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_adjoint_of_both_operands(dtype):
    """x xᵀ: the first operand's contribution is stored, then the second's is added."""
    x, bar = RNG.uniform(-2, 2, (3, 4)).astype(dtype), RNG.uniform(-2, 2, (3, 3)).astype(dtype)
    one = OneOp("matmul", [x, x.T])
    shared = np.full((3, 4), np.nan, dtype)
    bar = np.ascontiguousarray(bar)
    table = np.array([address(shared), address(shared), address(bar)], np.int64)
    assert one._call(one.op.reverse, table, first=1) == 0
    np.testing.assert_allclose(shared, bar @ x + bar.T @ x, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(3, 4, 2), (1, 9, 9), (9, 9, 1), (5, 1, 11), (9, 20, 20)])
@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_zeros_do_not_hide(sizes, special, layout):
    """0 times infinity is NaN, as in NumPy."""
    m, k, n = sizes
    a, b = np.zeros((m, k)), matrix((k, n), layout)
    b[k // 2, n // 2] = special
    with np.errstate(invalid="ignore"):
        one = OneOp("matmul", [a, b])
        assert one.forward() == 0
        np.testing.assert_array_equal(one.results[0], a @ b)
        assert np.isnan(one.results[0]).sum() == m
        (da, db) = one.reverse(np.zeros((m, n)), first=3)
    assert np.isnan(da).sum() == m
    assert (db == 0).all()


def test_merged_batches():
    """A batch that goes on where another ends is one product."""
    ways = [
        ((25, 1000, 10), (10, 10), (1, 2)),
        ((1000, 10, 10), (10, 1), (1, 2)),
        ((10, 10), (1000, 10, 1), (1, 2)),
    ]
    for a, b, (forward, reverse) in ways:
        x, y = np.ones(a), np.ones(b)
        layouts = [Layout(k, v.shape, tuple(s // 8 for s in v.strides), 0) for k, v in enumerate((x, y, x @ y))]
        planned = OPS["matmul"].words(layouts[:2], layouts[2:], {})
        assert planned[:2] == [forward, reverse]
        first = planned[3:]
        assert first[19] == 1  # batches
