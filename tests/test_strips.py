"""Strips: a large matrix times a vector, the block that turns behind it, and the way back, a few rows at a time.

The reference is the same function without turning blocks, and NumPy by hand for one of them.
"""

import numpy as np
import pytest

from tapead import PASSES, options, threads, value_and_grad

RNG = np.random.default_rng(4)
ROWS, COLUMNS = 3001, 30
MATRIX, OTHER = RNG.standard_normal((ROWS, COLUMNS)), RNG.standard_normal((ROWS, COLUMNS))
SQUARE = RNG.standard_normal((300, 300))
TALL = RNG.standard_normal((COLUMNS, ROWS)).T
TALLER = RNG.standard_normal((64 * 512, 4))
SIGNS = np.where(RNG.random(ROWS) < 0.5, -1.0, 1.0)
W, V, OFFSETS = RNG.standard_normal(COLUMNS), RNG.standard_normal(COLUMNS), RNG.standard_normal(ROWS)


def logistic(w):
    return np.mean(np.log1p(np.exp(-SIGNS * (MATRIX @ w))))


def squares(w, bias, scale):
    r = (MATRIX @ w + bias - OFFSETS) / scale
    return np.sum(r * r) + ROWS * np.log(scale)


def of_a_view(w):
    return np.sum(np.tanh(TALL @ w) * OFFSETS)


def with_the_matrix(w, matrix):
    return np.sum(np.sin(matrix @ w))


def with_offsets(w, offsets):
    return np.sum(np.exp(0.1 * np.sin(MATRIX @ w - offsets)) * offsets)


def of_two(w, v):
    return np.sum((MATRIX @ w) * np.cos(OTHER @ v))


def of_one_vector(w):
    return np.sum((MATRIX @ w) * np.cos(OTHER @ w))


def in_rows(w):
    u = np.reshape(MATRIX[:-1] @ w, (60, 50))
    return np.sum(np.sin(u) * SIGNS[:50])


def in_long_rows(w, scales):
    u = np.reshape(TALLER @ w, (64, 512))
    return np.sum(np.sin(u) * scales[:, None] * scales[:, None])


def with_sums_of_rows(w, v):
    u = np.reshape(MATRIX[:-1] @ w, (100, COLUMNS))
    return np.sum(np.sin(u) * v)


CASES = {
    logistic: (W,),
    squares: (W, 0.3, 1.5),
    of_a_view: (W,),
    with_the_matrix: (W, MATRIX),
    with_offsets: (W, OFFSETS),
    of_two: (W, V),
    of_one_vector: (W,),
    in_rows: (W,),
    in_long_rows: (W[:4], RNG.standard_normal(64)),
    with_sums_of_rows: (W, V),
}


def directions(vg):
    return [direction for _, direction, _ in vg.last.program.plan.rows]


def agrees(f, arguments, rtol=1e-11):
    """Compare a function's value and gradients with what it has without strips; give what its rows are."""
    wrt = tuple(range(len(arguments)))
    with options(passes=PASSES - {"strips"}):
        plain = value_and_grad(f, argnums=wrt)
        expected = plain(*arguments)
        assert "strips" not in directions(plain)
    vg = value_and_grad(f, argnums=wrt)
    for _ in range(2):  # the second time in memory that holds the first results
        value, slopes = vg(*arguments)
        np.testing.assert_allclose(value, expected[0], rtol=rtol)
        for found, wanted in zip(slopes, expected[1], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * np.max(np.abs(wanted)))
    return directions(vg)


@pytest.mark.parametrize("f", CASES, ids=lambda f: f.__name__)
def test_strip_by_strip(f):
    assert agrees(f, CASES[f]).count("strips") == 1


@pytest.mark.parametrize("f", [logistic, with_offsets, in_long_rows], ids=lambda f: f.__name__)
def test_threads_share_the_block_instead(f):
    with threads(2):
        assert agrees(f, CASES[f]).count("strips") == 1


def test_by_hand():
    value, slope = value_and_grad(logistic)(W)
    e = np.exp(-SIGNS * (MATRIX @ W))
    np.testing.assert_allclose(value, np.mean(np.log1p(e)), rtol=1e-12)
    np.testing.assert_allclose(slope, -(SIGNS * e / (1.0 + e)) @ MATRIX / ROWS, rtol=1e-10, atol=1e-13)


def test_single_precision():
    matrix, offsets = np.tile(MATRIX, (1, 2)).astype("f4"), OFFSETS.astype("f4")
    assert "strips" in agrees(lambda w: np.sum(np.tanh(matrix @ w) * offsets), (np.tile(W, 2).astype("f4"),), rtol=1e-3)


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_special_numbers_flow(special):
    matrix = MATRIX.copy()
    matrix[700, 3] = special
    with np.errstate(invalid="ignore"):
        assert "strips" in agrees(lambda w: np.sum(np.tanh(matrix @ w) * OFFSETS), (W,))


def read_backwards(w):
    u = MATRIX @ w
    return np.sum(np.sin(u) * u[::-1])


def read_twice(w):
    u = MATRIX @ w
    return np.sum(np.sin(u)) + np.max(u)


def summed_before(w):
    u = MATRIX @ w
    return np.sum((u / np.sum(u * u) - OFFSETS) ** 2)


def beside_its_vector(w):
    return np.sum(np.sin(SQUARE @ w) * w)


def of_its_own_column(matrix):
    return np.sum(np.sin(matrix @ matrix[:COLUMNS, 0]))


@pytest.mark.parametrize("f", [read_backwards, read_twice, summed_before], ids=lambda f: f.__name__)
def test_what_cannot_go_strip_by_strip(f):
    assert "strips" not in agrees(f, (W,))


def test_a_vector_that_the_block_reads_too():
    """Its adjoint has two sources: the block's part of a strip, and the product's whole."""
    assert "strips" not in agrees(beside_its_vector, (OFFSETS[:300],))


def test_a_matrix_times_a_part_of_itself():
    assert "strips" not in agrees(of_its_own_column, (MATRIX,))
