"""Strips: rows over large arrays that run together, a few items of a leading axis that they share at a time.

The reference is the same function without strips, and NumPy by hand for two of them.
"""

import numpy as np
import pytest

from tapead import PASSES, hvp, options, threads, value_and_grad
from tapead.strips import Line, Touch, in_strips

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


GROUPS, POINTS, SIZE = 23, 601, 7
DATA = RNG.standard_normal((POINTS, SIZE))
MEANS, FACTORS = RNG.standard_normal((GROUPS, SIZE)), RNG.standard_normal((GROUPS, SIZE, SIZE))
WIDE = RNG.standard_normal((2003, 41))


def mixture(means, factors):
    scaled = (DATA - means[:, None, :]) @ factors
    logs = np.sum(means, axis=1)[:, None] - 0.5 * np.sum(scaled**2, axis=2)
    return np.sum(np.log(np.sum(np.exp(logs), axis=0)))


def softmax(x):
    e = np.exp(x)
    p = e / np.sum(e, axis=1, keepdims=True)
    return np.sum(p * p * np.sin(x))


def norm(x, scales):
    d = x - np.mean(x, axis=1, keepdims=True)
    return np.sum(np.tanh(d / np.sqrt(np.mean(d * d, axis=1, keepdims=True) + 1e-5) * scales))


def two_products(x, a, b):
    return np.sum(np.tanh(np.tanh(x @ a) @ b) ** 2)


def of_one_factor(x, a):
    """The adjoint of a factor that all of a batch share is a sum over strips."""
    shared = np.broadcast_to(a, (GROUPS, SIZE, SIZE))
    return np.sum(np.tanh(np.transpose(x, (1, 0, 2)) @ shared) ** 2)


def flattened(x, a):
    y = np.reshape(np.tanh(x @ a), (-1, SIZE))
    return np.sum(np.sum(y * y, axis=1) ** 1.5)


def shifted(x):
    """Views that overlap within a row are added to in one row, item by item."""
    e = np.exp(x[:, 1:] * x[:, :-1])
    return np.sum(e / np.sum(e, axis=1, keepdims=True) * x[:, 1:])


def transposed(x):
    e = np.exp(x.T)
    return np.sum(e / np.sum(e, axis=1, keepdims=True) * np.sin(e))


def with_a_maximum(x):
    e = np.exp(x)
    return np.sum(e / np.sum(e, axis=1, keepdims=True) * np.sin(e)) * np.max(e)


def written_to(x):
    e = np.exp(x)
    s = np.sum(e, axis=1, keepdims=True)
    e[3:900, ::2] = s[3:900] * 0.1
    return np.sum(e / s * np.sin(x))


BATCH = RNG.standard_normal((GROUPS, POINTS, SIZE))
CHAINS = {
    mixture: (MEANS, FACTORS),
    softmax: (WIDE,),
    norm: (WIDE, RNG.standard_normal(41)),
    two_products: (BATCH, FACTORS, FACTORS[::-1].copy()),
    of_one_factor: (np.transpose(BATCH, (1, 0, 2)).copy(), FACTORS[0]),
    flattened: (BATCH, FACTORS),
    shifted: (WIDE,),
}

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


@pytest.mark.parametrize("f", CHAINS, ids=lambda f: f.__name__)
def test_chains(f):
    assert "strips" in agrees(f, CHAINS[f])


@pytest.mark.parametrize("f", [transposed, with_a_maximum, written_to], ids=lambda f: f.__name__)
def test_chains_with_other_rows_between(f):
    agrees(f, (WIDE,))


@pytest.mark.parametrize("f", [logistic, with_offsets, in_long_rows, *CHAINS], ids=lambda f: f.__name__)
def test_threads_share_the_block_instead(f):
    with threads(2):
        assert "strips" in agrees(f, (CASES | CHAINS)[f])


@pytest.mark.parametrize("passes", [{"strips"}, {"strips", "blocks"}, {"strips", "first", "reuse"}], ids=sorted)
@pytest.mark.parametrize("f", [logistic, *CHAINS], ids=lambda f: f.__name__)
def test_other_passes_off(f, passes):
    arguments = (CASES | CHAINS)[f]
    wrt = tuple(range(len(arguments)))
    expected = value_and_grad(f, argnums=wrt)(*arguments)
    with options(passes=passes):
        found = value_and_grad(f, argnums=wrt)(*arguments)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-11)
    for slope, wanted in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(slope, wanted, rtol=1e-9, atol=1e-10 * np.max(np.abs(wanted)))


@pytest.mark.parametrize("f", [softmax, two_products, flattened], ids=lambda f: f.__name__)
def test_chains_in_single_precision(f):
    agrees(f, [np.tile(x, (3, *[1] * (x.ndim - 1))).astype("f4") for x in CHAINS[f]], rtol=1e-3)


def test_strips_of_few_rows():
    """Fewer than eight: less than a kernel does at a stroke where the matrix lies by columns."""
    x = RNG.standard_normal((203, 4000))

    def f(w, columns):
        return np.sum(np.sin(x * (columns.T @ w)[:, None]))

    assert "strips" in agrees(f, (RNG.standard_normal(400), RNG.standard_normal((400, 203))))


def test_one_item_is_no_strip():
    x = RNG.standard_normal((1, 70_000))
    assert "strips" not in agrees(softmax, (x,))
    x, a = RNG.standard_normal((1, 20_000, 5)), RNG.standard_normal((1, 5, 5))
    assert "strips" not in agrees(lambda x, a: two_products(x, a, a), (x, a))


def test_small_arrays_go_as_a_whole():
    assert "strips" not in agrees(softmax, (WIDE[:50],))


def test_what_is_read_afterwards_is_kept():
    """A result of a row in strips is whole, also where nothing else would read more than the strip at hand."""

    def f(x):
        e = np.exp(x)
        p = e / np.sum(e, axis=1, keepdims=True)
        return np.sum(p * p), p

    (_, p), slope = value_and_grad(f, has_aux=True)(WIDE)
    e = np.exp(WIDE)
    wanted = e / np.sum(e, axis=1, keepdims=True)
    np.testing.assert_allclose(p, wanted, rtol=1e-12)
    by_hand = 2 * wanted * (wanted - np.sum(wanted * wanted, axis=1, keepdims=True))
    np.testing.assert_allclose(slope, by_hand, rtol=1e-9, atol=1e-14)


def test_hessian_vector_products():
    x, v = WIDE, RNG.standard_normal(WIDE.shape)
    with options(passes=PASSES - {"strips"}):
        expected = hvp(softmax, (x,), (v,))
    np.testing.assert_allclose(hvp(softmax, (x,), (v,)), expected, rtol=1e-9, atol=1e-12)


def line(place, *touches, items=10):
    uses = frozenset(t[:2] for t in touches)
    return Line(("", "", place), "forward", (), uses, items, touches)


def joined(*lines):
    """Give the places of lines of large storages, those that run in strips as tuples."""
    made = in_strips(lines, [8] * 9, {0, 1}, set())
    return [tuple(inner.row[2] for inner in each.inside) or each.row[2] for each in made]


def write(s, low=0, step=5000, size=5000):
    return Touch(s, False, True, low, step, size)


def read(s, low=0, step=5000, size=5000):
    return Touch(s, False, False, low, step, size)


def test_rows_join_where_items_are_apart():
    assert joined(line(0, write(0)), line(1, read(0))) == [(0, 1)]
    assert joined(line(0, write(0)), line(1, read(0, low=100, size=10))) == [(0, 1)]
    assert joined(line(0, write(0)), line(1, read(0, low=100))) == [0, 1]  # the end of an item is the next one's
    assert joined(line(0, write(0)), line(1, read(0, step=2500))) == [0, 1]
    assert joined(line(0, write(0)), line(1, read(0, step=0))) == [0, 1]
    assert joined(line(0, read(0)), line(1, read(0, low=100))) == [(0, 1)]


def test_rows_join_by_what_their_items_have_in_common():
    half = {"step": 2500, "size": 2500}
    assert joined(line(0, write(0)), line(1, read(0, **half), items=20)) == [(0, 1)]
    assert joined(line(0, write(0)), line(1, read(0), items=7)) == [0, 1]


def test_what_lies_between_goes_before_or_after():
    whole, small = {"step": 0, "size": 1}, {"step": 1, "size": 1}
    first, last = line(0, write(0)), line(9, read(0))
    assert joined(first, line(1, write(5, **whole), items=0), last) == [1, (0, 9)]
    assert joined(first, line(1, read(0, **whole), write(5, **whole), items=0), last) == [(0, 9), 1]
    late = line(9, read(0), read(5, **whole))
    assert joined(first, line(1, read(0, **whole), write(5, **whole), items=0), late) == [0, 1, 9]
    assert joined(first, line(1, read(0), write(5, **small)), line(9, read(0), read(5, **small))) == [(0, 1, 9)]


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
