"""NumPy's functions on traced values: a table of calls, each tried for value, derivatives and replays."""

import zlib

import numpy as np
import pytest

import tapead
import tapead.numpy as tnp
from tapead.errors import TapeadError
from tapead.record import Recording
from tapead.tensor import Tensor

# A row: an expression of x and y, the shape of x, the shape of y if there is one.
SMOOTH = """
np.reshape(x, (2, 6)) | 3 4
np.reshape(x, -1) | 3 4
np.reshape(x, (-1, 2), order="F") | 3 4
np.reshape(x.T, 12) | 3 4
x.reshape(4, 3) | 3 4
np.reshape(x, ()) | 1
np.reshape(x, (1, 1)) |
np.reshape(x, (3, 0)) | 0 3
np.ravel(x) | 3 4
np.ravel(x.T) | 3 4
np.ravel(x, order="F") | 3 4
x.flatten() | 2 3
np.transpose(x) | 3 4
np.transpose(x, (2, 0, 1)) | 2 3 4
x.transpose(1, 0) | 2 3
x.T @ y | 3 2 | 3 4
np.swapaxes(x, 0, -1) | 2 3 4
np.moveaxis(x, 0, -1) | 2 3 4
np.moveaxis(x, [0, 1], [-1, 0]) | 2 3 4
np.rollaxis(x, 2) | 2 3 4
np.matrix_transpose(x) | 2 3 4
np.expand_dims(x, (0, 2)) | 3 4
np.squeeze(x) | 1 3 1
np.squeeze(x, axis=0) | 1 3 1
np.broadcast_to(x, (2, 3, 4)) | 3 1
np.broadcast_arrays(x, y) | 3 1 | 4
np.atleast_1d(x) |
np.atleast_2d(x) | 3
np.atleast_3d(x) | 3 4
np.atleast_2d(x, y) | 3 | 2
np.flip(x) | 3 4
np.flip(x, axis=1) | 3 4
np.fliplr(x) | 3 4
np.flipud(x) | 3 4
np.rot90(x) | 3 4
np.rot90(x, 3) | 3 4
np.meshgrid(x, y) | 3 | 2
np.meshgrid(x, y, indexing="ij") | 3 | 2
np.meshgrid(x, y, sparse=True, copy=False) | 3 | 2
np.split(x, 3) | 6 2
np.split(x, [1, 4], axis=1) | 2 5
np.array_split(x, 3) | 7
np.hsplit(x, 2) | 3 4
np.vsplit(x, 3) | 3 4
np.dsplit(x, 2) | 2 2 4
np.concatenate([x, y]) | 3 2 | 1 2
np.concatenate((x, y, x), axis=1) | 2 3 | 2 1
np.concatenate([x, x[:0], y], axis=-1) | 3 | 2
np.concatenate([x, y], axis=None) | 2 3 | 2
np.concatenate([x, [1.0, 2.0]]) | 3
np.concatenate([x, np.arange(3)]) | 3
np.stack([x, y]) | 3 | 3
np.stack([x, y, 2 * x], axis=-1) | 2 3 | 2 3
np.stack([x[0], x[2], 1.0]) | 3
np.vstack([x, y]) | 3 | 2 3
np.hstack([x, y]) | 3 | 2
np.hstack([x, y]) | 2 3 | 2 1
np.dstack([x, y]) | 2 3 | 2 3
np.column_stack([x, y]) | 3 | 3 2
np.append(x, y) | 2 3 | 2
np.append(x, y, axis=0) | 2 3 | 1 3
np.append(x, 5.0) | 3
np.block([[x, y], [np.zeros((1, 2)), np.ones((1, 3))]]) | 2 2 | 2 3
np.block([x, y]) | 3 | 2
np.tile(x, 3) | 4
np.tile(x, (2, 3)) | 2 3
np.tile(x, (2, 1, 2)) | 2 3
np.tile(x, 1) | 3
np.repeat(x, 3) | 2 3
np.repeat(x, 2, axis=0) | 2 3
np.repeat(x, [1, 0, 2], axis=1) | 2 3
np.repeat(x, 1, axis=0) | 3
np.roll(x, 2) | 3 4
np.roll(x, -1, axis=1) | 3 4
np.roll(x, (1, 2), axis=(0, 1)) | 3 4
np.roll(x, 5) | 3
np.pad(x, 2) | 3
np.pad(x, ((1, 2), (0, 3)), constant_values=((1.0, 2.0), (3.0, 4.0))) | 2 3
np.pad(x, (1, 0), mode="edge") | 2 3
np.pad(x, 2, mode="reflect") | 3 4
np.pad(x, 2, mode="symmetric") | 3
np.pad(x, (2, 1), "wrap") | 4
np.tril(x) | 3 4
np.triu(x, 1) | 2 3 3
np.tril(x, -1) | 4 3
np.diag(x) | 3
np.diag(x, 2) | 3
np.diag(x, -1) | 3
np.diag(x) | 3 4
np.diag(x, 1) | 3 4
np.diagonal(x, axis1=0, axis2=2) | 2 3 4
np.diagflat(x, 1) | 2 2
np.copy(x) | 2 3
np.linspace(x[0], x[1], 5) | 2
np.linspace(x, y, 4, endpoint=False, axis=1) | 3 | 3
np.full_like(x, x[0]) | 3
x + np.zeros_like(x) + np.ones_like(x) | 2 3
np.linspace(0.0, x, 3) |
np.sum(x) | 3 4
np.sum(x) |
np.sum(x) | 0
np.sum(x, axis=0) | 3 4
np.sum(x, axis=-1, keepdims=True) | 3 4
np.sum(x, axis=(0, 2)) | 2 3 4
np.sum(x, axis=(0, 2), keepdims=True) | 2 3 4
np.sum(x, axis=1) | 3 0
np.sum(x, axis=()) | 2 3
np.sum(x, dtype=np.float64) | 3
x.sum(0) | 3 4
np.add.reduce(x) | 3 4
np.add.reduce(x, axis=None) | 3 4
np.mean(x) | 3 4
np.mean(x, axis=0, keepdims=True) | 3 4
np.mean(x, axis=(0, 1)) | 2 3 4
np.mean(x) |
x.mean(1) | 3 7
np.var(x) | 3 4
np.var(x, axis=1, ddof=1) | 3 4
np.var(x, axis=0, keepdims=True) | 3 4
np.std(x, axis=0) | 3 4
np.std(x, ddof=1) | 3 4
np.average(x, axis=1) | 3 4
np.average(x, weights=y**2 + 1.0) | 3 4 | 3 4
np.average(x, axis=1, weights=y**2 + 1.0) | 3 4 | 4
np.prod(x) | 5
np.prod(x, axis=0) | 3 4
np.prod(x, axis=(0, 2), keepdims=True) | 2 3 2
np.prod(x, axis=1) | 3 0
np.multiply.reduce(x, axis=1) | 3 4
np.max(x) | 3 4
np.max(x, axis=1) | 3 4
np.max(x, axis=(0, 2), keepdims=True) | 2 3 4
np.max(x, axis=0) | 3 0
np.max(x) |
np.amin(x, axis=0) | 3 4
np.min(x, axis=(0, 1)) | 3 4 2
np.maximum.reduce(x) | 3 4
np.ptp(x, axis=1) | 3 4
np.median(x) | 3 3
np.median(x, axis=1) | 3 4
np.quantile(x, 0.3) | 7
np.quantile(x, [0.1, 0.5], axis=0) | 5 2
np.percentile(x, 75, axis=1, keepdims=True) | 3 4
np.cumsum(x) | 3 4
np.cumsum(x, axis=0) | 3 4
np.cumsum(x, axis=1) | 3 4 2
np.cumsum(x) | 0
np.add.accumulate(x) | 3 4
np.cumprod(x, axis=1) | 3 4
np.logaddexp.reduce(x) | 3 4
np.nansum(np.where(x > 1.5, np.nan, x), axis=0) | 3 4
np.nanmean(np.where(x > 1.0, np.nan, x)) | 3 4
np.nanmax(np.where(x > 1.0, np.nan, x), axis=1) | 3 4
np.nanmin(x) | 3
np.nanvar(np.where(x > 1.0, np.nan, x)) | 3 4
np.nanstd(x, axis=0) | 3 4
np.nanprod(x) | 3
np.matmul(x, y) | 3 4 | 4 2
x @ y | 4 | 4
x @ y | 3 4 | 4
x @ y | 3 | 3 4
x @ y | 2 3 4 | 4 2
x @ y | 2 3 4 | 2 4 2
x @ y | 3 4 | 2 4 2
x @ y | 2 1 3 4 | 5 4 2
x @ y | 2 3 4 | 4
x @ y | 3 | 2 3 4
x @ y | 3 0 | 0 2
x @ y.T | 3 4 | 2 4
x.T @ y.T | 4 3 | 2 4
x @ x | 3 3
x @ x.T | 3 4
x @ np.arange(4) | 3 4
[[1.0, 2.0], [3.0, 4.0]] @ x | 2 3
np.dot(x, y) | 3 | 3
np.dot(x, y) | 3 4 | 4 2
np.dot(x, y) | 3 4 | 4
np.dot(x, y) | | 3 4
np.dot(x, y) | 2 3 4 | 5 4 2
np.dot(x, y) | 4 | 5 4 2
x.dot(y) | 3 4 | 4
np.vdot(x, y) | 3 4 | 4 3
np.inner(x, y) | 3 | 3
np.inner(x, y) | 2 3 4 | 5 4
np.inner(x, y) | 3 | 2 3
np.inner(x, y) | | 3
np.outer(x, y) | 3 | 4
np.outer(x, y) | 2 2 | 3
np.tensordot(x, y) | 2 3 4 | 3 4 5
np.tensordot(x, y, axes=1) | 2 3 | 3 4
np.tensordot(x, y, axes=0) | 2 3 | 2
np.tensordot(x, y, axes=([0, 2], [1, 0])) | 2 3 4 | 4 2 3
np.tensordot(x, y, axes=2) | 2 3 | 2 3
np.kron(x, y) | 2 3 | 3 2
np.kron(x, y) | 3 | 2 2
np.cross(x, y) | 3 | 3
np.cross(x, y) | 4 3 | 3
np.cross(x, y, axis=0) | 3 4 | 3 4
np.vecdot(x, y) | 3 4 | 4
np.linalg.vecdot(x, y, axis=0) | 4 3 | 4 3
np.linalg.outer(x, y) | 3 | 4
np.linalg.matmul(x, y) | 3 4 | 4 2
np.linalg.cross(x, y) | 2 3 | 2 3
np.trace(x) | 3 3
np.trace(x, 1) | 3 4
np.trace(x, axis1=1, axis2=2) | 2 3 3
np.linalg.trace(x) | 2 3 3
np.einsum("ij,jk->ik", x, y) | 3 4 | 4 2
np.einsum("ij,jk", x, y) | 3 4 | 4 2
np.einsum("ij,jk->ki", x, y) | 3 4 | 4 2
np.einsum("ii", x) | 3 3
np.einsum("ii->i", x) | 3 3
np.einsum("ij->ji", x) | 3 4
np.einsum("ij->", x) | 3 4
np.einsum("ij->j", x) | 3 4
np.einsum("i,j->ij", x, y) | 3 | 4
np.einsum("i,i", x, y) | 3 | 3
np.einsum("bij,bjk->bik", x, y) | 2 3 4 | 2 4 2
np.einsum("bi,bi->b", x, y) | 2 3 | 2 3
np.einsum("...ij,...jk->...ik", x, y) | 2 3 4 | 4 2
np.einsum("...i->...", x) | 2 3
np.einsum("i...,i...", x, y) | 3 2 | 3 2
np.einsum("ij,jk,kl->il", x, y, x) | 3 4 | 4 3
np.einsum("ij,jk,ki", x, y, x) | 3 3 | 3 3
np.einsum("ijj,jk->ik", x, y) | 2 3 3 | 3 2
np.einsum("ij,ij,ij->i", x, y, x) | 2 3 | 2 3
np.einsum("ij,k->k", x, y) | 2 3 | 4
np.einsum("a,b,c,d->abcd", x, y, x, y) | 2 | 3
np.einsum("ab,bc,cd,de,ef->af", x, y, x, y, x) | 2 3 | 3 2
np.einsum(x, [0, 1], y, [1, 2], [0, 2]) | 3 4 | 4 2
np.einsum(x, [0, Ellipsis], [Ellipsis, 0]) | 2 3 4
np.einsum("ij,jk->ik", x, y) | 3 1 | 4 2
np.einsum("bij,bj->bi", x, y) | 2 3 4 | 2 4
np.einsum(",i->i", x, y) | | 3
np.einsum("ij,j->i", x, y) | 3 0 | 0
np.take(x, [0, 2, 2]) | 3
np.take(x, [1, -1], axis=1) | 2 3
np.take(x, 1, axis=0) | 2 3
np.take(x, [[0, 5], [7, -1]], mode="wrap") | 4
np.take(x, [0, 9], mode="clip") | 4
np.take_along_axis(x, np.array([[0, 2], [1, 1]]), axis=1) | 2 3
np.take_along_axis(x, np.argsort(x, axis=0), axis=0) | 3 4
np.compress([True, False, True], x, axis=1) | 2 3
np.extract(x > 0, x) | 3 4
np.delete(x, 1, axis=0) | 3 2
np.delete(x, [0, 2]) | 4
np.sort(x) | 3 4
np.sort(x, axis=0) | 3 4
np.sort(x, axis=None) | 3 4
np.sort(x, axis=1) | 2 3 2
np.sort(x) | 0
x[np.argsort(x)] | 5
np.where(x > 0, x**2, y) | 3 4 | 4
np.where(x > 0, 1.0, x) | 3
np.where([True, False, True], x, y) | 3 |
x[np.where(x > 0)] | 3 4
x[np.nonzero(x > 0)] | 3 4
np.select([x > 1, x > 0], [x**2, 2 * x], 0.5) | 3 4
np.piecewise(x, [x < 0, x >= 0], [lambda t: t**2, lambda t: 3 * t]) | 5
np.clip(x, -1, 1) | 3 4
np.clip(x, None, 1.0) | 3 4
np.clip(x, 0.1, None) | 3 4
np.clip(x, min=-0.5) | 3
np.clip(x, y - 1, y + 1) | 3 4 | 4
x.clip(-1, 1) | 3
np.nan_to_num(x) | 3
np.nan_to_num(np.where(x > 1, np.nan, x), nan=2.0) | 3 4
np.sinc(x) | 3 4
np.real(x) + np.conj(x) | 3
np.astype(x, np.float64) | 3
np.modf(x)[0] | 3 4
np.divmod(x, 0.7)[1] | 3 4
np.heaviside(x, 0.5) * x | 3
np.interp(x, np.linspace(-3, 3, 7), np.linspace(-3, 3, 7) ** 2) | 3 4
np.interp(0.3, np.arange(5.0), x) | 5
np.interp(x, np.linspace(-1, 1, 5), np.arange(5.0), left=-7.0) | 9
np.diff(x) | 3 4
np.diff(x, axis=0) | 3 4
np.diff(x, n=2) | 5
np.diff(x, prepend=0.0, append=x[-1:]) | 5
np.ediff1d(x) | 3 2
np.trapezoid(x) | 5
np.trapezoid(x, dx=0.5, axis=0) | 5 2
np.trapezoid(x, y) | 3 4 | 4
np.gradient(x) | 5
np.gradient(x, 0.5, axis=1) | 2 4
np.convolve(x, y) | 5 | 3
np.convolve(x, y, "same") | 3 | 4
np.convolve(x, y, "valid") | 5 | 2
np.correlate(x, y, "full") | 4 | 3
np.apply_along_axis(np.sum, 0, x) | 2 3 4
np.apply_along_axis(lambda v: v[::-1] ** 2, 1, x) | 2 3 2
np.bincount(np.array([0, 2, 2, 5]), x) | 4
np.bincount(np.array([0, 2]), x, minlength=4) | 2
placed(np.copyto, x, y) | 2 3 | 3
placed(np.copyto, x, y, where=[True, False, True]) | 2 3 | 3
placed(np.put_along_axis, x, np.array([[0], [2]]), y, 1) | 2 3 | 2 1
placed(np.fill_diagonal, x, y) | 3 3 |
placed(np.fill_diagonal, x, y) | 2 3 | 2
placed(np.add.at, x, np.array([0, 2, 0]), y) | 3 | 3
placed(np.add.at, x, [1, 1], y) | 3 2 | 2
placed(np.add.at, x, (np.array([0, 1, 0]), np.array([1, 1, 1])), y) | 2 3 | 3
np.vander(x, 3) | 4
np.vander(x, increasing=True) | 3
np.multiply.outer(x, y) | 2 3 | 2
np.subtract.outer(x, [1.0, 2.0]) | 3
"""

# No derivative flows: whole numbers and truth values.
CHOICES = """
np.argmax(x) | 3 4
np.argmax(x, axis=0) | 3 4
np.argmin(x, axis=1, keepdims=True) | 3 4
np.argmin(x) |
np.argsort(x) | 3 4
np.argsort(x, axis=0) | 3 4
np.any(x > 1) | 3 4
np.any(x > 1, axis=0) | 3 4
np.all(x > -1, axis=1, keepdims=True) | 3 4
np.all(x < 5) | 0
np.logical_and.reduce(x > -1) | 3 4
np.logical_or.reduce(x > 1) | 3 4
np.count_nonzero(x > 0) | 3 4
np.count_nonzero(x > 0, axis=1) | 3 4
np.max(x > 0) | 3 4
np.sum(x > 0) | 3 4
np.sum(x > 0, axis=0) | 3 4
np.mean(x > 0) | 3 4
np.cumsum(x > 0) | 3 4
np.prod(x > -1, axis=0) | 3 4
np.max(np.floor(x).astype(int), axis=0) | 3 4
np.sort(np.argmax(x, axis=1)) | 3 4
np.sum(np.argmax(x, axis=1)) | 3 4
(x > 0) @ (x > 1).T | 3 4
np.bincount(np.argmax(x, axis=0), minlength=4) | 4 3
np.argmax(x, axis=1) @ np.arange(3) | 3 4
np.einsum("i,i", np.argmax(x, axis=1), np.arange(3)) | 3 4
np.concatenate([x > 0, x > 1]) | 3
np.repeat(np.argmax(x, axis=1), 2) | 3 4
np.where(x > 0, 1, 2) | 3 4
np.where(x > 0, True, False) | 3 4
np.searchsorted(np.linspace(-2, 2, 9), x) | 3 4
np.searchsorted(np.linspace(-2, 2, 8), x, side="right") | 3 4
np.searchsorted([], x) | 3
np.searchsorted(np.sort(x), 0.3) | 7
np.digitize(x, [-1.0, 0.0, 1.0]) | 3 4
np.digitize(x, [1.0, 0.0, -1.0]) | 3 4
np.isclose(x, np.round(x), atol=0.2) | 3 4
np.isposinf(x) | 3
np.isreal(x) | 3
np.round(x) | 3 4
np.round(x, 1) | 3 4
np.fix(x) | 3 4
np.floor(x) | 3 4
np.sign(x) | 3
np.imag(x) | 3
np.heaviside(x, 0.5) | 3 4
np.shape(x) | 3 4
np.ndim(x) | 3 4
np.size(x, 0) | 3 4
np.zeros_like(x, dtype=int) | 3 4
np.ones_like(x, shape=(2,)) | 3 4
np.diff(x > 0) | 5
np.flip(x > 0) | 5
np.tril(x > 0) | 3 3
np.clip(np.argmax(x, axis=1), 1, 2) | 3 4
"""

pytestmark = pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")


def cases(table):
    found = []
    for line in table.strip().splitlines():
        text, *shapes = (part.strip() for part in line.split(" |"))
        found.append(pytest.param(text, [tuple(map(int, s.split())) for s in shapes], id=line))
    return found


def placed(change, x, *arguments, **options):
    """Change a copy of x in place."""
    y = x.copy()
    change(y, *arguments, **options)
    return y


def function(text):
    return eval(f"lambda x, y=None: {text}", {"np": np, "placed": placed})


def points(text, shapes, dtype=float, seed=0):
    """Draw arguments whose elements keep clear of each other, of kinks and of whole numbers."""
    rng = np.random.default_rng(zlib.crc32(text.encode()) + seed)
    drawn = []
    for shape in shapes:
        n = int(np.prod(shape, dtype=int))
        values = np.linspace(-1.93, 1.87, n) if n > 1 else np.array([0.7 + 0.2 * seed] * n)
        values = values + rng.uniform(-0.3, 0.3) / (n + 1)
        drawn.append(rng.permuted(values).reshape(shape).astype(dtype)[()])
    return drawn


def leaves(result):
    return [leaf for part in result for leaf in leaves(part)] if isinstance(result, list | tuple) else [result]


def total(result):
    """Make one number of a result, such that no element weighs like another."""
    answer = 0.0
    for k, leaf in enumerate(leaves(result)):
        weights = np.cos(1.0 + k + np.arange(np.size(leaf))).reshape(np.shape(leaf)).astype(leaf.dtype)
        answer = answer + np.sum(weights * leaf + leaf * leaf / 4)
    return answer


def of_total(text):
    f = function(text)
    return lambda arguments: total(f(*arguments))


def along(f, x, v, h=1e-3):
    """Differentiate f at x in a direction, by differences of fourth order."""
    at = [f([a + step * d for a, d in zip(x, v, strict=True)]) for step in (2 * h, h, -h, -2 * h)]
    return (8 * (at[1] - at[2]) - (at[0] - at[3])) / (12 * h)


def dot(a, b):
    return sum(np.sum(p * q) for p, q in zip(a, b, strict=True))


def same(result, expected, rtol=1e-13):
    """Assert that a traced result has the value, shape and dtype of NumPy's."""
    results, expected = leaves(result), leaves(expected)
    assert len(results) == len(expected)
    for got, want in zip(results, expected, strict=True):
        value = got._value if type(got) is Tensor else got
        assert np.shape(value) == np.shape(want)
        assert np.asarray(value).dtype == np.asarray(want).dtype
        np.testing.assert_allclose(value, want, rtol=rtol, atol=rtol)


def storages(result):
    return {id(leaf.storage) for leaf in leaves(result) if type(leaf) is Tensor}


@pytest.mark.parametrize(("text", "shapes"), [*cases(SMOOTH), *cases(CHOICES)])
def test_value_dtype_and_memory(text, shapes):
    """The value is NumPy's, sharing memory with x where NumPy's does and only there; all can be replayed."""
    f = function(text)
    for dtype, rtol in ((np.float64, 1e-13), (np.float32, 3e-6)):
        arguments = points(text, shapes, dtype)
        with Recording(replays=True) as tape:
            traced = [tape.enter(a, levels=1) for a in arguments]
            result = f(*traced)
            same(result, f(*arguments), rtol)
            shared = bool(storages(result) & {id(traced[0].storage)})
            assert not tape.volatile
        if np.ndim(arguments[0]) and np.size(arguments[0]):
            assert shared == any(np.shares_memory(leaf, arguments[0]) for leaf in leaves(f(*arguments)))


@pytest.mark.parametrize(("text", "shapes"), cases(SMOOTH))
def test_gradient_and_replay(text, shapes):
    f = of_total(text)
    vg = tapead.value_and_grad(f)
    for seed in range(2):  # a trace, then a replay (or, where a guard fails, another trace)
        x = points(text, shapes, seed=seed)
        value, gradient = vg(x)
        np.testing.assert_allclose(value, f(x), rtol=1e-12, atol=1e-13)
        fresh = tapead.value_and_grad(f)(x)
        np.testing.assert_allclose(value, fresh[0], rtol=1e-13, atol=1e-14)
        rng = np.random.default_rng(seed)
        for _ in range(2):
            v = [rng.standard_normal(np.shape(a)) for a in x]
            np.testing.assert_allclose(dot(gradient, v), along(f, x, v), rtol=1e-7, atol=1e-8)
        for g, again in zip(gradient, fresh[1], strict=True):
            np.testing.assert_allclose(g, again, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("text", "shapes"), cases(SMOOTH))
def test_float32_and_strides(text, shapes):
    """Gradients in float32, and of arguments that lie in memory with gaps, agree with those in float64."""
    f = of_total(text)
    x = points(text, shapes, np.float32)
    expected = tapead.grad(f)([np.asarray(a, np.float64)[()] for a in x])
    value, gradient = tapead.value_and_grad(f)(x)
    assert value.dtype == np.result_type(f(x))
    for g, want in zip(gradient, expected, strict=True):
        assert g.dtype == np.float32
        np.testing.assert_allclose(g, want, rtol=1e-4, atol=1e-4)
    wide = [np.repeat(np.asarray(a, np.float64), 2, axis=-1)[..., ::2] if np.ndim(a) else np.float64(a) for a in x]
    for g, want in zip(tapead.grad(f)(wide), expected, strict=True):
        np.testing.assert_allclose(g, want, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("text", "shapes"), cases(SMOOTH))
def test_second_derivative(text, shapes):
    f = of_total(text)
    x = points(text, shapes)
    rng = np.random.default_rng(7)
    v, w = ([rng.standard_normal(np.shape(a)) for a in x] for _ in range(2))
    slope = tapead.grad(f)
    twice = tapead.grad(lambda x: dot(slope(x), v))
    second = dot(twice(x), w)
    np.testing.assert_allclose(second, along(lambda x: dot(slope(x), v), x, w), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("text", "shapes"), cases(CHOICES))
def test_choices_in_replays(text, shapes):
    f = function(text)
    vg = tapead.value_and_grad(lambda x: (np.sum(x), f(x)), has_aux=True)
    for seed in range(3):
        (x,) = points(text, shapes, seed=seed)
        (_, aux), gradient = vg(x)
        same(aux, f(x))
        np.testing.assert_array_equal(gradient, np.ones_like(x))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("np.sum(x, where=x > 0)", NotImplementedError, "sum with where="),
        ("np.sum(x, initial=1.0)", NotImplementedError, "sum with initial="),
        ("np.mean(x, out=np.zeros(4), axis=0)", NotImplementedError, "mean with out="),
        ("np.max(x, initial=0.0)", NotImplementedError, "max with initial="),
        ("np.quantile(x, 0.5, method='lower')", NotImplementedError, "quantile with method="),
        ("np.pad(x, 1, mode='mean')", NotImplementedError, "pad with mode="),
        ("np.sum(x, axis=2)", np.exceptions.AxisError, "axis 2"),
        ("np.sum(x, axis=(0, 0))", ValueError, "repeated axis"),
        ("np.transpose(x, (0, 1, 2))", ValueError, "axes"),
        ("np.swapaxes(x, 0, 5)", np.exceptions.AxisError, "axis"),
        ("np.reshape(x, (5, 5))", ValueError, "cannot reshape"),
        ("np.max(x[:0])", ValueError, "zero-size"),
        ("np.argmax(x[:0])", ValueError, "empty"),
        ("np.concatenate([x, x[0]])", ValueError, "agree"),
        ("np.concatenate([x[0, 0], x[0, 1]])", ValueError, "zero-dimensional"),
        ("np.stack([x, x[0]])", ValueError, "same shape"),
        ("np.split(x, 2)", ValueError, "equal division"),
        ("x @ x", ValueError, "do not match"),
        ("x @ x[0, 0]", ValueError, "at least one axis"),
        ("np.dot(x, x)", ValueError, "do not match"),
        ("np.tensordot(x, x, 1)", ValueError, "do not match"),
        ("np.einsum('ij,jk', x, x)", ValueError, "stands for"),
        ("np.einsum('ijk', x)", ValueError, "do not fit"),
        ("np.einsum('ij->k', x)", ValueError, "unknown"),
        ("np.take(x, 17)", IndexError, "17"),
        ("np.broadcast_to(x, (2, 4))", ValueError, "broadcast"),
        ("np.copyto(np.zeros((3, 4)), x)", TypeError, "tapead.numpy.zeros"),
    ],
)
def test_errors(text, error, words):
    with Recording(replays=True) as tape:
        x = tape.enter(np.arange(12.0).reshape(3, 4), levels=1)
        with pytest.raises(error, match=words) as caught:
            function(text)(x)
        assert isinstance(caught.value, TapeadError)
        assert __file__ in str(caught.value) or "<string>" in str(caught.value)


def test_a_number_is_not_changed_in_place():
    """np.sum gives a number: `s += 1` makes another, and leaves what else holds it alone."""

    def f(x):
        s = t = np.sum(x)
        u = v = x @ x
        s += 1.0
        u *= 2.0
        return s * t + u * v

    x = np.array([0.5, 2.0])
    value, gradient = tapead.value_and_grad(f)(x)
    np.testing.assert_allclose(value, f(x))
    np.testing.assert_allclose(gradient, 2 * x.sum() + 1 + 8 * (x @ x) * x)


def test_python_floats():
    def f(x):
        parts = [
            np.sum(x),
            np.mean(x),
            np.max(x),
            np.prod(x),
            np.clip(x, 0, 1),
            np.where(x > 0, x, 0.0),
            np.reshape(x, (1,))[0],
        ]
        return np.sum(np.stack(parts) ** 2) + np.dot(x, x) + np.einsum(",->", x, x)

    value, gradient = tapead.value_and_grad(f)(0.7)
    np.testing.assert_allclose([value, gradient], [9 * 0.7**2, 18 * 0.7], rtol=1e-14)


def test_functions_that_cannot_be_replayed_are_right_at_every_call():
    vg = tapead.value_and_grad(lambda x, y: np.sum(x * np.isin(np.round(x), y)))
    np.testing.assert_array_equal(vg(np.array([1.1, 2.2, 3.3]), np.array([1.0, 3.0]))[1], [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(vg(np.array([3.1, 2.2, 0.3]), np.array([2.0, 5.0]))[1], [0.0, 1.0, 0.0])


def test_ties_share_the_derivative():
    np.testing.assert_array_equal(tapead.grad(np.max)(np.array([1.0, 3.0, 3.0])), [0.0, 0.5, 0.5])
    np.testing.assert_array_equal(tapead.grad(np.min)(np.array([1.0, 1.0, 3.0, 1.0])), np.array([1, 1, 0, 1]) / 3)


def test_conventions_at_kinks():
    x = np.array([-1.0, 0.0, 1.0])
    np.testing.assert_array_equal(tapead.grad(lambda x: np.sum(np.clip(x, -1, 1)))(x), np.ones(3))
    np.testing.assert_array_equal(tapead.grad(lambda x: np.sum(np.clip(x, 0, None)))(x), [0.0, 1.0, 1.0])
    np.testing.assert_array_equal(tapead.grad(np.std)(np.ones(3)), np.zeros(3))
    np.testing.assert_array_equal(tapead.grad(np.prod)(np.array([2.0, 0.0, 3.0])), [0.0, 6.0, 0.0])
    np.testing.assert_array_equal(tapead.grad(np.prod)(np.array([2.0, 0.0, 0.0])), np.zeros(3))


def test_integers_as_indices_and_labels():
    x, labels = np.arange(12.0).reshape(4, 3) ** 0.5, np.array([2, 0, 1, 1])
    vg = tapead.value_and_grad(lambda x, k: np.sum(x[np.arange(4), k]) + np.sum(np.take_along_axis(x, k[:, None], 1)))
    for k in (labels, labels[::-1].copy()):
        value, gradient = vg(x, k)
        np.testing.assert_allclose(value, 2 * np.sum(x[np.arange(4), k]))
        np.testing.assert_array_equal(gradient, 2 * np.eye(3)[k])
    onehot = tapead.value_and_grad(lambda x, k: np.sum((k[:, None] == np.arange(3)) * x))
    np.testing.assert_array_equal(onehot(x, labels)[1], np.eye(3)[labels])


# k holds whole numbers, or truth values.
WHOLE = """
np.sum(k) ; np.sum(k,axis=0) ; np.mean(k) ; np.var(k,axis=1) ; np.prod(k) ; np.max(k,axis=0) ; np.min(k) ;
np.any(k) ; np.all(k,axis=0) ; np.argmax(k) ; np.argmin(k,axis=0) ; np.cumsum(k) ; np.cumprod(k,axis=1) ;
np.count_nonzero(k) ; np.sort(k,axis=0) ; np.median(k) ; np.concatenate([k,k]) ; np.stack([k,k]) ;
np.tile(k,2) ; np.pad(k,1) ; np.where(k>1,k,k[0]) ; np.diff(k) ; k@k.T ; np.dot(k,k[0]) ; np.outer(k,k) ;
np.einsum("ij,kj->ik",k,k) ; k[np.array([1,0])] ; np.take(k,[0,1]) ; np.clip(k,1,2) ; np.tril(k) ;
np.roll(k,1) ; np.ptp(k) ; np.kron(k,k) ; np.zeros_like(k) ; np.full_like(k,1) ; np.round(k) ; np.unique(k) ;
np.bincount(np.ravel(k)) ; np.nonzero(k)[0] ; np.flip(k) ; np.average(k)
"""


@pytest.mark.parametrize("text", [text.strip() for text in WHOLE.split(";")])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
def test_integers_and_truth_values(text, dtype):
    """What has no derivative has NumPy's value and dtype in the trace and in calls on other values."""
    f = eval(f"lambda k: {text}", {"np": np})
    vg = tapead.value_and_grad(lambda x, k: (x * x, f(k)), has_aux=True)
    for values in ([[3, 0, 2], [1, 1, 2]], [[1, 2, 2], [0, 3, 1]]):
        k = np.array(values).astype(dtype)
        try:
            expected = f(k)
        except TypeError:  # NumPy cannot, either
            with pytest.raises(TypeError):
                vg(1.0, k)
            return
        same(vg(1.0, k)[0][1], expected)


def test_median_and_sort_with_nan():
    x = np.array([1.0, np.nan, 0.5])
    with Recording(replays=True) as tape:
        t = tape.enter(x, levels=1)
        same(
            [np.median(t), np.sort(t), np.max(t), np.quantile(t, 0.2)],
            [np.median(x), np.sort(x), np.max(x), np.nan],
        )


# ---- tapead.numpy ------------------------------------------------------------------------------------------


def test_namespace_is_numpys_on_ordinary_arrays():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(tnp.sum(x, axis=0), np.sum(x, axis=0))
    assert type(tnp.zeros(3)) is np.ndarray
    assert type(tnp.array([1, 2])) is np.ndarray
    assert tnp.sin is np.sin
    assert tnp.pi is np.pi
    assert tnp.float32 is np.float32
    np.testing.assert_array_equal(tnp.linalg.norm(x), np.linalg.norm(x))
    for name in tnp.__all__:
        assert hasattr(tnp, name)
    assert set(dir(tnp)) == set(tnp.__all__)


def test_namespace_names_what_is_nearest():
    with pytest.raises(AttributeError, match=r"np\.nancumsum has no rule.*cumsum"):
        tnp.nancumsum  # noqa: B018
    with pytest.raises(AttributeError, match="NumPy has no 'summe'"):
        tnp.summe  # noqa: B018


@pytest.mark.parametrize(
    "make",
    [
        lambda x: tnp.zeros(3),
        lambda x: tnp.zeros((1, 3))[0],
        lambda x: tnp.ones(3),
        lambda x: tnp.empty(3),
        lambda x: tnp.full(3, 2.0),
        lambda x: tnp.full(3, x[1]),
        lambda x: tnp.array([1.0, 2.0, 3.0]),
        lambda x: tnp.array(x),
        lambda x: tnp.array([x[0], 1.0, x[1] ** 2]),
        lambda x: tnp.asarray([x[0], 1.0, 2]),
        lambda x: tnp.eye(3)[1],
        lambda x: tnp.zeros_like(x),
        lambda x: tnp.identity(3)[0],
        lambda x: np.zeros_like(x),
        lambda x: tnp.array([[x[0], 1.0, 2.0], [x[1], x[2], 0.0]])[0],
    ],
)
def test_new_arrays_can_be_filled(make):
    def f(x):
        y = make(x) * 1.0 if type(x) is not Tensor else make(x)
        y[1] = x[0] ** 2
        y[2] += x[1]
        return np.sum(y * np.array([1.0, 2.0, 3.0]))

    vg = tapead.value_and_grad(f)
    for x in (np.array([0.5, 1.5, -2.0]), np.array([1.0, -0.5, 3.0])):
        value, gradient = vg(x)
        np.testing.assert_allclose(value, f(x), rtol=1e-14)
        for k, v in enumerate(np.eye(3)):
            np.testing.assert_allclose(gradient[k], along(lambda a: f(a[0]), [x], [v]), rtol=1e-8, atol=1e-9)


def test_namespace_lifts_lists():
    g = tapead.grad(lambda x: tnp.sum([x[0], 2 * x[1]]) + tnp.max([x, x**2]) + tnp.mean([[x[0], 1.0]]))
    np.testing.assert_allclose(g(np.array([3.0, 1.0])), [1 + 6 + 0.5, 2.0])


def test_new_array_dtypes():
    with Recording(replays=True):
        assert tnp.zeros(2, np.float32).dtype == np.float32
        assert tnp.zeros(2, int).dtype == np.int64
        assert tnp.full(2, 3).dtype == np.int64
        assert tnp.array([True]).dtype == bool
        assert type(tnp.zeros(2, complex)) is np.ndarray
        assert tnp.array([1.0], ndmin=3).shape == (1, 1, 1)
