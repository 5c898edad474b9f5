"""Arrays that a traced function fills: assignment, views and copies mean what they mean in NumPy.

The functions take the namespace as `xp`: NumPy itself for the reference, tapead.numpy when traced.
"""

import copy
import time

import expect
import numpy as np
import pytest

import tapead
import tapead.numpy as tnp

X = np.array([0.3, 1.2, 2.5])
Y = np.array([-0.7, 0.1, 1.9])
M = np.array([[2.0, -1.0, 0.5], [0.5, 1.0, 3.0], [1.0, 0.0, 4.0]])
W = np.array([1.0, -2.0, 0.5])

ASSIGNMENTS = []
CERTAIN_VIEWS = []  # these work
VIEWS = []  # these work or raise


def case(cases):
    def add(f):
        cases.append(f)
        return f

    return add


@case(ASSIGNMENTS)
def element_by_element(xp, x):
    y = xp.zeros(3)
    for i in range(3):
        y[i] = x[i] ** 2 * (i + 1)
    return np.sum(y * x)


@case(ASSIGNMENTS)
def last_element(xp, x):
    y = xp.zeros(4)
    y[-1] = x[0] * x[1]
    y[np.int64(0)] = x[2]
    return np.sum(y**2)


@case(ASSIGNMENTS)
def recurrence(xp, x):
    y = xp.zeros(10)
    y[0] = x[0]
    for i in range(1, 10):
        y[i] = np.sin(y[i - 1] * x[1]) + x[2]
    return np.sum(y)


@case(ASSIGNMENTS)
def slices_in_place(xp, x):
    y = xp.ones(6)
    y[2:5] += x
    y[::2] *= x
    y[1:4] -= x**2
    y[3:] /= x + 3.0
    return np.sum(y**2)


@case(ASSIGNMENTS)
def reversed_slice(xp, x):
    y = xp.zeros(3)
    y[::-1] = x * W
    return np.sum(y * M[0])


@case(ASSIGNMENTS)
def overlapping_slices(xp, x):
    y = x.copy()
    y[1:] = y[:-1]
    y[:-1] += y[1:]
    return np.sum(y * W)


@case(ASSIGNMENTS)
def reversed_in_itself(xp, x):
    y = x.copy()
    y[:] = y[::-1]
    return np.sum(y * W)


@case(ASSIGNMENTS)
def overlapping_sum_in_place(xp, x):
    y = xp.zeros(3)
    y[:] = x
    y[1:] += y[:-1]
    return np.sum(y**2)


@case(ASSIGNMENTS)
def overwritten(xp, x):
    y = xp.zeros(2)
    y[0] = x[0]
    y[0] = x[1] * y[0]
    y[0] = y[0] ** 2 * x[2]
    return y[0]


@case(ASSIGNMENTS)
def overwritten_by_a_constant(xp, x):
    y = x * 2
    y[1] = 7.0
    y[2:] = W[2:]
    return np.sum(y * x)


@case(ASSIGNMENTS)
def old_version_needed(xp, x):
    y = x**2
    z = np.sin(y)
    y[0] = x[1]
    y[1:] = 0.5
    return np.sum(z * y)


@case(ASSIGNMENTS)
def old_version_needed_by_a_product(xp, x):
    y = x.copy()
    z = M @ y
    u = y * y
    y *= x
    y[0] = 3.0
    return np.sum(z * y) + np.sum(u * z)


@case(ASSIGNMENTS)
def versions_in_a_loop(xp, x):
    y = x.copy()
    total = 0.0
    for i in range(3):
        total = total + np.sum(y**2) * y[i]
        y[i] = np.cos(y[(i + 1) % 3])
    return total


@case(ASSIGNMENTS)
def broadcast_scalar(xp, x):
    y = xp.zeros((2, 3))
    y[...] = x[0]
    y[1] = x[1]
    return np.sum(y * M[:2])


@case(ASSIGNMENTS)
def broadcast_rows_and_columns(xp, x):
    y = xp.zeros((3, 3))
    y[:] = x
    y[:, 1] = x * 2
    y[1:, 2] += x[:2]
    y[0] -= 1.0
    return np.sum(y * M)


@case(ASSIGNMENTS)
def new_axes(xp, x):
    y = xp.zeros((3, 1))
    y[:, 0] = x
    y[:, None, 0] += x[:, None] ** 2
    return np.sum(y * W[:, None])


@case(ASSIGNMENTS)
def integer_array(xp, x):
    y = xp.zeros(5)
    y[[4, 0, 2]] = x
    y[np.array([1, 4])] += x[:2] ** 2
    return np.sum(y * np.arange(1.0, 6.0))


@case(ASSIGNMENTS)
def integer_array_with_repeats(xp, x):
    y = xp.ones(3)
    y[np.array([1, 1, 0])] = x
    y[np.array([0, 0, 2])] += x
    return np.sum(y**2)


@case(ASSIGNMENTS)
def integer_pairs(xp, x):
    y = xp.zeros((3, 3))
    y[[0, 1, 2], [2, 1, 0]] = x
    y[np.arange(3), np.arange(3)] += x * W
    return np.sum(y * M)


@case(ASSIGNMENTS)
def integer_rows(xp, x):
    y = xp.zeros((3, 3))
    y[[2, 0]] = np.outer(x[:2], x)
    y[[1], 1:] = x[1:]
    return np.sum(y * M)


@case(ASSIGNMENTS)
def mask_of_constants(xp, x):
    y = xp.ones(3)
    y[np.array([True, False, True])] = x[:2]
    y[np.array([False, True, True])] *= x[1:]
    return np.sum(y * W)


@case(ASSIGNMENTS)
def mask_of_values(xp, x):
    y = x.copy()
    y[x > 1.0] = 0.5
    y[x < 0.2] *= 3.0
    return np.sum(y**2 * W)


@case(ASSIGNMENTS)
def mask_with_selected_values(xp, x):
    y = x * 2.0
    mask = x > 1.0
    y[mask] = x[mask] ** 2
    y[~mask] += np.sin(x[~mask])
    return np.sum(y * W)


@case(ASSIGNMENTS)
def mask_of_a_matrix(xp, x):
    y = np.outer(x, x)
    y[y > 1.0] = 1.0
    return np.sum(y * M)


@case(ASSIGNMENTS)
def ellipsis_and_scalar_array(xp, x):
    y = xp.zeros(())
    y[...] = x[0] * x[1]
    y[()] += x[2]
    return y * y


@case(ASSIGNMENTS)
def list_with_indices_from_values(xp, x):
    y = xp.zeros(3)
    order = np.argsort(x)
    y[order] = W * x
    y[np.argmax(x)] += x[0]
    return np.sum(y * M[1])


@case(ASSIGNMENTS)
def in_place_operators(xp, x):
    y = x + 0.0
    y += 1.0
    y -= x[0]
    y *= W
    y /= 2.0 + x**2
    y **= 2
    return np.sum(y)


@case(ASSIGNMENTS)
def in_place_ufunc(xp, x):
    y = x * 2.0
    np.sin(y, out=y)
    np.add(y, x, out=y)
    np.multiply(y[1:], x[1:], out=y[1:])
    return np.sum(y**2)


@case(ASSIGNMENTS)
def other_builders(xp, x):
    a, b, c = xp.empty(3), xp.ones((3,)), xp.full(3, 2.0)
    d = xp.array([1.0, 2.0, 3.0])
    a[:] = x
    b *= x
    c[0] = x[0]
    d[1:] -= x[1:]
    e = xp.zeros_like(x)
    e[2] = x[0] ** 2
    f = xp.eye(3)
    f[0] = x
    return np.sum(a * b * c * d) + np.sum(e) + np.sum(f @ x)


@case(ASSIGNMENTS)
def lifted_lists(xp, x):
    y = xp.zeros((2, 3))
    y[:] = [x[2], x[1], x[0]]
    y[1] += [x[0], x[0], x[0]]
    y[:, ::2] *= [x[0], x[2]]
    return np.sum(y * M[:2])


@case(ASSIGNMENTS)
def lifted_object_arrays(xp, x):
    y = xp.zeros((3, 3))
    y[np.array([1, 0])] = np.array([x[2], x[0], x[1]])
    y[:, np.array([2, 1])] += np.full(2, x[1] * x[0])
    y[2] = np.full(3, x[2])[::-1]
    y[:2, 0] = np.full(3, x[0])[:2]
    return np.sum(y * M) + np.sum(xp.reshape(np.array([x[2], x[1], x[0]]), (3, 1)) * M)


@case(ASSIGNMENTS)
def array_from_traced_values(xp, x):
    y = xp.array([x[0], 2.0, x[1] * x[2]])
    y[1] = x[0]
    return np.prod(y)


@case(CERTAIN_VIEWS)
def write_through_a_slice(xp, x):
    y = xp.zeros(4)
    v = y[1:3]
    v[:] = x[:2]
    v[0] *= x[2]
    return np.sum(y * np.arange(4.0))


@case(VIEWS)
def read_through_a_slice(xp, x):
    y = xp.zeros(4)
    v = y[1:3]
    y[1:3] = x[:2]
    return np.sum(v * x[1:])


@case(VIEWS)
def view_of_a_view(xp, x):
    y = xp.zeros(6)
    v = y[::2]
    w = v[1:]
    w += x[:2]
    v *= x
    return np.sum(y * np.arange(6.0))


@case(CERTAIN_VIEWS)
def same_name_twice(xp, x):
    y = xp.zeros(3)
    v = y
    v += x
    v[0] = x[1]
    return np.sum(y * x)


@case(VIEWS)
def whole_slice_is_a_view(xp, x):
    y = x.copy()
    v = y[:]
    v *= 2.0
    return np.sum(y * x)


@case(CERTAIN_VIEWS)
def transposed(xp, x):
    m = xp.zeros((2, 3))
    m.T[0] = x[:2]
    m.T[1:, 1] += x[1:]
    return np.sum(m * M[:2])


@case(CERTAIN_VIEWS)
def reshaped(xp, x):
    y = xp.zeros(6)
    m = y.reshape(2, 3)
    m[1] = x
    y[0] = x[0]
    return np.sum(m * M[:2]) + np.sum(y**2)


@case(VIEWS)
def raveled(xp, x):
    m = xp.zeros((2, 3))
    m.ravel()[1:4] = x
    return np.sum(m * M[:2])


@case(VIEWS)
def raveled_transpose_is_a_copy(xp, x):
    m = xp.zeros((2, 3))
    m[:] = x
    m.T.ravel()[1] = 100.0
    return np.sum(m * M[:2])


@case(VIEWS)
def flattened_is_a_copy(xp, x):
    m = xp.zeros((2, 3))
    m[:] = x
    m.flatten()[1] = 100.0
    return np.sum(m * M[:2])


@case(VIEWS)
def swapped_and_moved(xp, x):
    m = xp.zeros((3, 2))
    np.swapaxes(m, 0, 1)[0] = x
    np.moveaxis(m, 0, 1)[1] = x**2
    np.expand_dims(m, 0)[0, 0] += 1.0
    m[None][0, 1, 1] += x[0]
    return np.sum(m * M[:, :2])


@case(VIEWS)
def squeezed(xp, x):
    m = xp.zeros((1, 3))
    m.squeeze()[:] = x
    m[0][1] = x[0] * x[2]
    return np.sum(m * W)


@case(VIEWS)
def split_parts_are_views(xp, x):
    y = xp.zeros(4)
    a, b = np.split(y, 2)
    a[:] = x[:2]
    b[:] = x[1:] ** 2
    return np.sum(y * np.arange(1.0, 5.0))


@case(VIEWS)
def flipped(xp, x):
    y = x.copy()
    np.flip(y)[0] = x[0] * x[1]
    return np.sum(y * W)


@case(CERTAIN_VIEWS)
def rows_by_iteration(xp, x):
    m = xp.zeros((3, 3))
    for row, value in zip(m, x, strict=True):
        row[:] = value
        row += x
    return np.sum(m * M)


@case(CERTAIN_VIEWS)
def scalar_by_index_is_a_copy(xp, x):
    y = xp.zeros(2)
    y[0] = x[0]
    s = y[0]
    y[0] = x[1]
    return s * y[0]


@case(CERTAIN_VIEWS)
def scalar_in_place_does_not_write_back(xp, x):
    y = x.copy()
    s = y[0]
    s += 5.0
    s *= x[1]
    return np.sum(y * x) + s


@case(CERTAIN_VIEWS)
def scalars_by_iteration_are_copies(xp, x):
    y = x.copy()
    a, b, c = y
    y[:] = 0.0
    return a * b + c + np.sum(y)


@case(VIEWS)
def slice_of_length_one_is_a_view(xp, x):
    y = x.copy()
    s = y[0:1]
    y[0] = x[1] * 2.0
    return np.sum(s * x[2])


@case(CERTAIN_VIEWS)
def integer_index_array_is_a_copy(xp, x):
    y = x.copy()
    v = y[[0, 1]]
    y[0] = 7.0
    v[1] = x[2] ** 2
    return np.sum(v * x[:2]) + np.sum(y)


@case(CERTAIN_VIEWS)
def mask_is_a_copy(xp, x):
    y = x.copy()
    v = y[np.array([True, False, True])]
    y[:] = 1.0
    v *= 2.0
    return np.sum(v * x[1:]) + np.sum(y)


@case(CERTAIN_VIEWS)
def copies_are_copies(xp, x):
    a = x.copy()
    b = np.copy(a)
    c = np.array(a)
    a[0] = 9.0
    b[1] = 8.0
    c[2] = 7.0
    return np.sum(a * x) + np.sum(b * x**2) + np.sum(c)


@case(VIEWS)
def python_copies_are_copies(xp, x):
    y = x * 1.0
    a, b = copy.copy(y), copy.deepcopy(y)
    a[0] = 9.0
    b[1] = 8.0
    return np.sum(a * x) + np.sum(b * x) + np.sum(y * x)


@case(CERTAIN_VIEWS)
def results_are_new_arrays(xp, x):
    y = x.copy()
    z = y + 0.0
    w = 1.0 * y
    p = +y
    y[0] = 5.0
    return np.sum(z * W) + np.sum(w * x) + np.sum(p) + np.sum(y)


@case(VIEWS)
def concatenation_is_a_copy(xp, x):
    y = x.copy()
    z = np.concatenate([y])
    s = np.stack([y])
    r = np.repeat(y, 1)
    y[0] = 5.0
    return np.sum(z * W) + np.sum(s) + np.sum(r * x) + np.sum(y)


@case(VIEWS)
def astype_is_a_copy(xp, x):
    y = x.copy()
    z = y.astype(float)
    y[0] = 5.0
    return np.sum(z * W) + np.sum(y)


@case(VIEWS)
def asarray_is_the_same_array(xp, x):
    y = xp.zeros(3)
    z = xp.asarray(y)
    z[:] = x
    return np.sum(y * x)


@case(VIEWS)
def diagonal_is_read(xp, x):
    m = xp.zeros((3, 3))
    d = np.diagonal(m)
    m[:] = x
    return np.sum(d * W)


@case(VIEWS)
def tiled_is_a_copy(xp, x):
    y = x.copy()
    z = np.tile(y, 2)
    y[0] = 5.0
    return np.sum(z * np.arange(6.0)) + np.sum(y)


@case(VIEWS)
def broadcast_is_read(xp, x):
    y = x.copy()
    b = np.broadcast_to(y, (2, 3))
    y[0] = x[1] ** 2
    return np.sum(b * M[:2])


@case(VIEWS)
def where_is_a_copy(xp, x):
    y = x.copy()
    z = np.where(True, y, 0.0)
    y[0] = 5.0
    return np.sum(z * W) + np.sum(y)


@case(VIEWS)
def function_that_fills_its_argument(xp, x):
    def fill(part, value):
        part[:] = value

    y = xp.zeros((2, 3))
    fill(y[0], x)
    fill(y[1, 1:], x[0])
    return np.sum(y * M[:2])


@pytest.mark.parametrize("f", ASSIGNMENTS)
def test_assignment(f):
    """Arrays that the function fills mean what they mean in NumPy."""
    expect.right(lambda x: f(tnp, x), X, np.abs(Y) + 0.05, X[::-1].copy(), reference=lambda x: f(np, x))


@pytest.mark.parametrize("f", [recurrence, slices_in_place, integer_array, mask_of_values])
def test_assignment_keeps_float32(f):
    def in_single(x):
        y = tnp.zeros(3, dtype=np.float32)
        y[:] = x
        return f(tnp, y)

    gradient = tapead.grad(in_single)(X.astype(np.float32))
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, expect.slope(lambda x: f(np, x), X), rtol=1e-3, atol=1e-4)


def test_filling_costs_one_sweep_over_what_is_assigned():
    """Filling an array element by element: 16 times the elements, far less than 256 times the time."""

    def f(x):
        y = tnp.zeros(len(x))
        y[0] = x[0]
        for i in range(1, len(x)):
            y[i] = 0.9 * y[i - 1] + x[i]
        return np.sum(y * y)

    seconds = []
    for n in (400, 6400):
        vg, x = tapead.value_and_grad(f), np.linspace(0.0, 1.0, n)
        value, _ = vg(x)
        assert value == pytest.approx(f(x))
        runs = []
        for _ in range(30):
            start = time.perf_counter()
            vg(x)
            runs.append(time.perf_counter() - start)
        seconds.append(min(runs))
    assert seconds[1] < 100 * seconds[0]


@pytest.mark.parametrize("value", [np.ones(4), np.ones((2, 3)), [1.0, 2.0]])
def test_assignment_of_a_wrong_shape(value):
    def f(x):
        y = x.copy()
        y[:] = value
        return np.sum(y)

    with expect.error(ValueError, "broadcast", line=(f, "y[:] = value")):
        tapead.grad(f)(X)


@pytest.mark.parametrize("index", [3, -4, [0, 5], (0, 0)])
def test_assignment_out_of_bounds(index):
    def f(x):
        y = tnp.zeros(3)
        y[index] = x[0]
        return np.sum(y)

    with expect.error(IndexError, line=(f, "y[index] = ")):
        tapead.grad(f)(X)


def test_an_integer_array_does_not_take_a_derivative_silently():
    """NumPy truncates: the derivative is zero, or it is refused."""

    def f(x):
        y = tnp.zeros(3, dtype=int)
        y[0] = x[2]
        return np.sum(y * x)

    def reference(x):
        return np.trunc(x[2]) * x[0]

    expect.right_or_error(f, X, reference=reference)


@pytest.mark.parametrize("f", VIEWS)
def test_views_and_copies(f):
    """Views write through and see what is written, copies do neither: as in NumPy, or an error."""
    expect.right_or_error(lambda x: f(tnp, x), X, np.abs(Y) + 0.05, reference=lambda x: f(np, x))


@pytest.mark.parametrize("f", CERTAIN_VIEWS)
def test_common_views_and_copies_work(f):
    expect.right(lambda x: f(tnp, x), X, np.abs(Y) + 0.05, reference=lambda x: f(np, x))


def test_a_broadcast_view_is_not_written():
    """np.broadcast_to gives a read-only array: assignment raises, as in NumPy."""

    def f(x):
        b = np.broadcast_to(x, (2, 3))
        b[0] = 1.0
        return np.sum(b)

    with pytest.raises(ValueError, match="read-only"):
        f(X)
    with expect.error(ValueError):
        tapead.grad(f)(X)


def test_the_caller_keeps_its_arguments():
    """In-place work on an argument gives NumPy's value or an error; the caller's array is left alone."""

    def f(x):
        x *= 2.0
        x[0] = 1.0
        return np.sum(x**2)

    x = X.copy()
    vg = tapead.value_and_grad(f)
    try:
        for _ in range(3):
            value, gradient = vg(x)
            assert value == pytest.approx(1.0 + np.sum((2 * X[1:]) ** 2))
            np.testing.assert_allclose(gradient, [0.0, *(8 * X[1:])])
            np.testing.assert_array_equal(x, X)
    except tapead.TapeadError:
        np.testing.assert_array_equal(x, X)


def test_closed_over_arrays_are_read_when_traced_and_written_never():
    constant = np.ones(3)

    def f(x):
        constant[0] = 4.0
        return np.sum(constant * x)

    np.testing.assert_allclose(tapead.grad(f)(X), [4.0, 1.0, 1.0])
