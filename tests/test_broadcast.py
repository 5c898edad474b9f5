"""Every pattern of broadcasting in up to four dimensions, views of every kind, tiles with odd tails, arrays given twice.

The reference for value and gradient is a formula in plain NumPy, with a sum over the axes that were stretched; for
some, the slow interpreter, too.
"""

import itertools

import numpy as np
import pytest
from naive import Interpreter
from test_sweeps import interpreted, recorded

from tapead import PASSES, grad, options, value_and_grad
from tapead.kernels.constants import TILE

DIMS = (2, 3, 4, 5)
BOTH = {"passes on": PASSES, "passes off": frozenset()}


def loss(x, y, c, axes, reduce):
    """One elementwise expression of two operands, reduced over some axes and weighed by c."""
    return np.sum(reduce(x * y + np.sin(x) / (2.0 + y * y), axis=axes) * c)


def slopes(x, y, c, axes, reduce):
    """Give the gradient of `loss` by hand."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    axes = tuple(range(len(shape))) if axes is None else tuple(a % len(shape) for a in axes)
    weight = np.expand_dims(np.asarray(c, float), axes)
    if reduce is np.mean:
        weight = weight / np.prod([shape[a] for a in axes])
    weight = np.broadcast_to(weight, shape)
    dx = weight * (y + np.cos(x) / (2.0 + y * y))
    dy = weight * (x - 2.0 * y * np.sin(x) / (2.0 + y * y) ** 2)
    return folded(dx, x.shape), folded(dy, y.shape)


def folded(d, shape):
    """Sum over the axes along which an array of a shape was stretched."""
    d = d.sum(axis=tuple(range(d.ndim - len(shape))))
    stretched = tuple(i for i, dim in enumerate(shape) if dim == 1)
    return d.sum(axis=stretched, keepdims=True) if stretched else d


def numbers(shape, seed):
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape)


def check(x, y, axes, reduce, passes, seed=0, rtol=1e-12):
    shape = np.broadcast_shapes(x.shape, y.shape)
    kept = () if axes is None else np.sum(np.zeros(shape), axis=axes).shape
    c = numbers(kept, seed)
    with options(passes=passes), np.errstate(all="ignore"):
        value, gradients = value_and_grad(lambda x, y: loss(x, y, c, axes, reduce), argnums=(0, 1))(x, y)
    expected = loss(x, y, c, axes, reduce)
    what = f"{x.shape} {y.shape} {axes} {reduce.__name__}"
    np.testing.assert_allclose(value, expected, rtol=rtol, atol=rtol, err_msg=what)
    for found, by_hand in zip(gradients, slopes(x, y, c, axes, reduce), strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=rtol, atol=rtol, err_msg=what)


def reductions(rank):
    """Give all axes, each alone, the outer and the inner pair, with sum and mean in turn."""
    chosen = [None, *((a,) for a in range(rank)), *([(0, rank - 1), (0, 1), (rank - 2, rank - 1)] if rank > 2 else [])]
    return zip(chosen, itertools.cycle((np.sum, np.mean)), strict=False)


PATTERNS = [
    tuple(dim if wide else 1 for dim, wide in zip(DIMS, pattern, strict=True))
    for pattern in itertools.product((True, False), repeat=4)
]


@pytest.mark.parametrize("passes", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("one", PATTERNS, ids=str)
def test_every_pair_of_patterns(one, passes):
    """Each axis is there, or has one element, in either operand; the reductions take turns."""
    turns = itertools.cycle(reductions(4))
    for k, other in enumerate(PATTERNS):
        for axes, reduce in itertools.islice(turns, 2):
            check(numbers(one, k), numbers(other, k + 1), axes, reduce, passes, k)


@pytest.mark.parametrize("passes", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_operands_of_fewer_axes(rank, passes):
    """Leading axes that an operand lacks are made; a number is one of no axes."""
    for missing in range(rank + 1):
        shape = DIMS[4 - rank :]
        for axes, reduce in reductions(rank):
            check(numbers(shape, 1), numbers(shape[missing:], 2), axes, reduce, passes)
            check(numbers(shape[missing:], 3), numbers(shape, 4), axes, reduce, passes)


@pytest.mark.parametrize("passes", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("length", [2, 7, 8, 9, 10, 16, 17, 23, 24, 33])
def test_short_rows(length, passes):
    """Many of them in a tile, and some that reach into the next one; summed along either axis, stretched along either."""
    shape = (3, 2 * TILE // length // 3, length)
    for other in ((3, 1, length), (1, shape[1], length), (*shape[:2], 1), (1, 1, length), (3, 1, 1)):
        for axes in ((1,), (2,), (0, 1), (1, 2)):
            x, y = numbers(shape, 1), numbers(other, 2)
            check(x, y, axes, np.sum, passes)
            check(x, y.astype("f4"), axes, np.sum, passes, rtol=2e-4)
            check(x.astype("f4"), y, axes, np.sum, passes, rtol=2e-4)


VIEWS = {
    "as it is": lambda a: a,
    "reversed": lambda a: a[::-1, :, ::-1],
    "every second": lambda a: np.concatenate([a, a], axis=2)[:, :, ::2],
    "axes swapped": lambda a: np.swapaxes(np.swapaxes(a, 0, 2) * 1.0, 0, 2),
    "axes rolled": lambda a: np.moveaxis(np.moveaxis(a, 0, -1) * 1.0, -1, 0),
    "a slice": lambda a: np.concatenate([a, a], axis=1)[:, 3:],
    "a plane": lambda a: a[:, 1:2, :],
    "a line": lambda a: a[:1, -1:, ::-1],
    "a column": lambda a: a[..., 2:3],
    "a column, reversed": lambda a: a[::-1, ::-1, 1:2],
    "a number": lambda a: a[0, 1, 2],
    "stretched": lambda a: np.broadcast_to(a[0], a.shape),
    "backwards in all": lambda a: a[::-1, ::-1, ::-1],
}


@pytest.mark.parametrize("passes", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("one", VIEWS)
def test_every_pair_of_views(one, passes):
    """Views are taken of traced arrays: the slow interpreter sees the same tape."""
    x = numbers((2, 3, 4), 5)
    for other in VIEWS:
        for reduce, axes in ((np.sum, None), (np.mean, (0, 2)), (np.sum, (1,))):

            def f(x, other=other, reduce=reduce, axes=axes):
                a, b = VIEWS[one](x * 1.5), VIEWS[other](np.cos(x))
                full = a * b + x * 0.5
                return np.sum(reduce(full * a, axis=axes) ** 2)

            with options(passes=passes):
                value, gradient = value_and_grad(f)(x)
            expected_value, expected = interpreted(*recorded(f, x), x)
            np.testing.assert_allclose(value, f(x), rtol=1e-12, err_msg=other)
            np.testing.assert_allclose(value, expected_value, rtol=1e-12, err_msg=other)
            np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-12, err_msg=other)


STRIDED = {
    "reversed": lambda a: a[::-1],
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "Fortran's order": np.asfortranarray,
    "stretched": lambda a: np.broadcast_to(a[:1], a.shape),
    "read-only": lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
}


@pytest.mark.parametrize("passes", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("size", [3, 70], ids=["small", "large"])
@pytest.mark.parametrize("view", STRIDED)
def test_arguments_that_are_views(view, size, passes):
    """Small inputs are copied in, large ones read in place: whatever their strides."""
    x, y = STRIDED[view](numbers((size, 40), 7)), numbers((size, 40), 8)
    check(x, y, None, np.sum, passes)
    check(y, x, (0,), np.mean, passes)


EDGES = sorted({0, 1, *(n + d for n in (8, 64, 128, 512, TILE, 1024, 2 * TILE) for d in (-1, 0, 1))})


@pytest.mark.parametrize("passes", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_tails_of_tiles(dtype, passes):
    """A tile may end anywhere: at none, at one, before, at and after each length that a tile has."""
    rtol = 1e-12 if dtype == "f8" else 2e-3
    for n in EDGES:
        x, y = numbers(n, 1).astype(dtype), numbers(n, 2).astype(dtype)
        if n:
            check(x, y, None, np.mean, passes, rtol=rtol)
        check(x, y, None, np.sum, passes, rtol=rtol)
        check(x, numbers((), 3).astype(dtype), None, np.sum, passes, rtol=rtol)
        check(x[:, None], y[None, :3], (0,), np.sum, passes, rtol=rtol)


def many(x, y):
    """Need many registers, so that tiles are short."""
    made = [np.sin(x * (k + 1.0)) + y for k in range(24)]
    total = made[0]
    for a, b in itertools.pairwise(made):
        total = total * 0.5 + a * b
    return np.sum(total * total)


def test_tails_of_short_tiles():
    for n in EDGES:
        x, y = numbers(n, 1), numbers(n, 2)
        found = []
        for passes in BOTH.values():
            with options(passes=passes):
                found.append(value_and_grad(many, argnums=(0, 1))(x, y))
        (value, gradients), (plain, expected) = found
        np.testing.assert_allclose(value, plain, rtol=1e-12)
        for one, other in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("passes", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("n", [3, 600, 5000])
def test_one_array_as_two_arguments(n, passes):
    """Each argument has its own gradient, where both are one array or share memory."""
    x = numbers(n, 9)
    with options(passes=passes):
        vg = value_and_grad(lambda x, y: np.sum(x * np.sin(y)), argnums=(0, 1))
        vg(numbers(n, 1), numbers(n, 2))
        for a, b in ((x, x), (x[:-1], x[1:]), (x, x[::-1]), (x, x)):
            value, (da, db) = vg(a, b)
            np.testing.assert_allclose(value, np.sum(a * np.sin(b)), rtol=1e-12)
            np.testing.assert_allclose(da, np.sin(b), rtol=1e-12)
            np.testing.assert_allclose(db, a * np.cos(b), rtol=1e-12)
            assert not np.shares_memory(da, db)


def test_one_array_as_two_leaves():
    x = numbers(2000, 3)
    slopes = grad(lambda p: np.sum(p["a"] * np.sin(p["b"])))({"a": x, "b": x})
    np.testing.assert_allclose(slopes["a"], np.sin(x), rtol=1e-12)
    np.testing.assert_allclose(slopes["b"], x * np.cos(x), rtol=1e-12)


@pytest.mark.parametrize("n", [3, 5000])
def test_gradients_into_arguments_are_refused(n):
    """`out=` that shares memory with an argument, or with another out, is an error: at the first call and later."""
    x, y = numbers(n, 1), numbers(n, 2)
    vg = value_and_grad(lambda x, y: np.sum(x * np.sin(y)), argnums=(0, 1))
    for _ in range(3):
        kept = x.copy()
        for outs in ((x, np.empty(n)), (np.empty(n), y), (np.empty(n), x[:])):
            with pytest.raises(ValueError, match="overlaps an argument"):
                vg(x, y, out=outs)
        one = np.empty(n)
        with pytest.raises(ValueError, match=r"two arrays of out= overlap"):
            vg(x, y, out=(one, one))
        np.testing.assert_array_equal(x, kept)
        a, b = np.empty(n), np.empty(n)
        vg(x, x, out=(a, b))
        np.testing.assert_allclose(a, np.sin(x), rtol=1e-12)
        np.testing.assert_allclose(b, x * np.cos(x), rtol=1e-12)


def test_the_formula_is_the_interpreters():
    """The hand-written gradient of this file, against the slow interpreter."""
    x, y, c = numbers((2, 1, 4), 1), numbers((3, 1), 2), numbers((2, 4), 3)
    for first, axes in ((True, (1,)), (False, (1,))):

        def f(v, first=first, axes=axes):
            return loss(v, y, c, axes, np.mean) if first else loss(x, v, c, axes, np.mean)

        v = x if first else y
        tape, source, target = recorded(f, v)
        slow = Interpreter(tape, [source], [v])
        slow.forward()
        slow.reverse(target)
        expected = slopes(x, y, c, axes, np.mean)[0 if first else 1]
        np.testing.assert_allclose(slow.adjoints[source].reshape(v.shape), expected, rtol=1e-12)
