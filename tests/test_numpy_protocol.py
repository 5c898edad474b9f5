"""What NumPy does with a traced operand: every row of the table of ways that it goes, and Python's ways."""

import math
import operator

import expect
import numpy as np
import pytest
import scipy.linalg
import scipy.special

import tapead

X = np.array([0.3, 1.2, 2.5])
Y = np.array([-0.7, 0.1, 1.9])
M = np.array([[2.0, -1.0, 0.5], [0.5, 1.0, 3.0], [1.0, 0.0, 4.0]])
W = np.array([1.0, -2.0, 0.5])


ROWS = []


def row(f):
    ROWS.append(f)
    return f


@row
def array_of_products(x):
    return np.sum(np.array([x[0], x[0] * x[1]]) * W[:2])


@row
def array_of_mixed(x):
    return np.sum(np.array([x[0], 1.0, 3]) ** 2 * W)


@row
def array_of_rows(x):
    return np.sum(np.array([[x[0], x[1]], [x[1], 2.0]]) @ np.array([x[2], 1.0]))


@row
def array_of_vectors(x):
    return np.sum(np.array([x, x**2, W]) * M)


@row
def array_of_a_tuple(x):
    return np.linalg.norm(np.array((x[0], x[2])))


@row
def full_of_a_scalar(x):
    return np.sum(np.full(3, x[1]) * x)


@row
def full_like_of_a_scalar(x):
    return np.sum(np.full_like(x, x[1]) * W)


@row
def asarray(x):
    u = np.asarray(x)
    return np.sum(u[1:] * u[:-1]) + np.sum(np.sin(u))


@row
def array_copy(x):
    u = np.array(x)
    return np.sum(u**2 * W)


@row
def asarray_of_a_matrix(x):
    u = np.asarray(np.outer(x, x))
    return np.sum(u * M) + np.sum(u @ x)


@row
def asarray_of_a_list(x):
    return np.sum(np.asarray([xi**2 for xi in x]) * W)


@row
def atleast_1d(x):
    return np.sum(np.atleast_1d(x[0]) * W)


@row
def sine_of_an_object_array(x):
    return np.sum(np.sin(np.array([x[0], x[1] * x[2]])))


@row
def exponential_of_an_object_array(x):
    return np.sum(np.exp(np.array([x[0], x[1]])) * W[:2])


@row
def many_functions_of_an_object_array(x):
    u = np.array([x[0], x[1]])
    total = np.sum(np.sqrt(u) + np.log(u) + np.tanh(u) + np.arctan(u) + np.square(u) - np.abs(u))
    return total + np.sum(u.sum() * np.cos(u)) + u.dot(u) + np.sum(u.reshape(2, 1) * u)


@row
def object_array_times_vector(x):
    return np.sum(np.array([x[0], x[1], 2.0]) * x)


@row
def vector_times_object_array(x):
    return np.sum(x * np.array([x[0], x[1], 2.0]))


@row
def object_array_times_matrix(x):
    return np.sum(np.array([x[0], x[1], 2.0]) @ M)


@row
def matrix_times_object_array(x):
    return np.sum(M @ np.array([x[0], x[1], 2.0]) * W)


@row
def norm_of_an_object_array(x):
    return np.linalg.norm(np.array([x[0], x[1] * 2, 1.0]))


@row
def object_array_dot_object_array(x):
    return np.dot(np.array([x[0], x[1]]), np.array([x[1], x[2]]))


@row
def plain_accumulator(x):
    acc = np.zeros(3)
    acc += x
    acc *= x
    acc -= W
    acc /= 2 + x**2
    return np.sum(acc)


@row
def plain_accumulator_in_a_loop(x):
    acc = np.zeros(3)
    for k in range(1, 4):
        acc += np.sin(k * x)
    return np.sum(acc * W)


@row
def plain_scalar_accumulator(x):
    acc = 0.0
    for xi in x:
        acc += xi**2
    return acc


@row
def numpy_scalar_accumulator(x):
    acc = np.float64(1.0)
    for xi in x:
        acc *= xi
    return acc


@row
def stack(x):
    return np.sum(np.stack([x, x**2, W]) * M) + np.sum(np.stack([x[0], x[1]], axis=0))


@row
def concatenate(x):
    return np.sum(np.concatenate([x, W, x[:2] ** 2])[1:-1] ** 2)


@row
def where(x):
    return np.sum(np.where(x > 1.0, x**2, W)) + np.sum(np.where([True, False, True], x, 2.0))


@row
def zeros_like(x):
    return np.sum((np.zeros_like(x) + x) ** 2 + np.ones_like(x) * x)


@row
def ones_times_scalar(x):
    return np.sum(np.ones(3) * x[0] * x)


@row
def numpy_float_times_scalar(x):
    return np.float64(2) * x[0] + x[1] * np.float64(3) + np.float64(1) / x[2] - np.float64(2) ** x[0]


@row
def plain_array_on_the_left(x):
    return np.sum(W * x) + np.sum(W - x) + np.sum(W / x) + np.sum(M @ x) + np.sum(np.abs(W) ** x)


@row
def dot_of_constant_and_vector(x):
    return np.dot(W, x) * np.dot(x, W) + np.dot(M, x)[1]


@row
def max_of_a_list(x):
    return np.max([x[0], x[0] * 2]) + np.min([x[1], x[2], 100.0])


@row
def sum_of_a_list(x):
    return np.sum([x[0], x[1] ** 2, 3.0]) * np.prod([x[1], x[2]])


@row
def lists_in_functions(x):
    u = [x[0], x[1], 2.0]
    return np.dot(u, W) + np.sum(np.sin([x[0], x[2]])) + np.linalg.norm(u) + np.sum(np.hstack([u, x])) + np.max(u)


@row
def expit(x):
    return np.sum(scipy.special.expit(x) * W)


@pytest.mark.parametrize("f", ROWS)
def test_rows_of_the_table(f):
    """Plain NumPy in, the gradient of the same NumPy on ordinary arrays out; at other values by replay."""
    expect.right(f, X, np.abs(Y) + 0.2, X[::-1].copy())


def mixed_list(x):
    return np.sum(np.sin([x[0], 2.0]))


def mixed_array(x):
    u = np.array([x[0], 1.0])
    return np.sum(np.exp(u))


def mean_of_a_list(x):
    return np.mean([x[0], x[2]])


def asarray_with_a_dtype(x):
    u = np.asarray(x, dtype=float)
    return np.sum(u)


@pytest.mark.parametrize(
    ("f", "line"),
    [
        (mixed_list, "np.sin("),
        (mixed_array, "np.exp(u)"),
        (mean_of_a_list, "np.mean("),
        (asarray_with_a_dtype, "np.asarray("),
    ],
)
def test_what_numpy_does_not_hand_over_names_the_line_and_the_fix(f, line):
    """NumPy asks a Python float in an object array for its sine; its way to a float array is float()."""
    try:
        expect.right(f, X, Y)
    except TypeError:
        with expect.error(TypeError, r"tapead\.numpy", line=(f, line)):
            tapead.grad(f)(X)


def test_interp():
    """np.interp reaches the protocol: differentiated, or refused."""

    def f(x):
        return np.sum(np.interp(x, [0.0, 1.0, 3.0], [1.0, 5.0, 2.0]))

    expect.right_or_error(f, X)


def assigned_element(x):
    y = np.zeros(3)
    y[0] = x[0] * 2
    return np.sum(y)


def assigned_slice(x):
    y = np.zeros(3)
    y[:] = x
    return np.sum(y)


def assigned_row(x):
    y = np.empty((2, 3))
    y[1] = x * 2
    return np.sum(y)


def assigned_in_a_loop(x):
    y = np.zeros(len(x))
    for i in range(len(x)):
        y[i] = np.sin(x[i])
    return np.sum(y)


def filled(x):
    y = np.zeros(3)
    y.fill(x[0])
    return np.sum(y)


@pytest.mark.parametrize(
    ("f", "line"),
    [
        (assigned_element, "y[0] = "),
        (assigned_slice, "y[:] = "),
        (assigned_row, "y[1] = "),
        (assigned_in_a_loop, "y[i] = "),
        (filled, "y.fill("),
    ],
)
def test_assignment_into_a_plain_array_names_the_line_and_the_fix(f, line):
    with expect.error(TypeError, r"tapead\.numpy", line=(f, line)):
        tapead.grad(f)(X)
    assert tapead.grad(lambda x: x @ x)(X) == pytest.approx(2 * X)


@pytest.mark.parametrize("f", [assigned_element, assigned_slice, assigned_row, assigned_in_a_loop])
def test_the_fix_is_tapead_numpy_zeros(f):
    with expect.error(TypeError, r"tapead\.numpy\.(zeros|empty)"):
        tapead.grad(f)(X)


def test_a_caught_assignment_error_is_not_lost():
    """Code that swallows NumPy's ValueError must not lose the value silently."""

    def f(x):
        y = np.zeros(3)
        try:
            y[:] = x**2
        except (TypeError, ValueError):
            y = x**2
        return np.sum(y)

    expect.right_or_error(f, X)


def test_an_accumulator_that_somebody_else_holds():
    """After y += traced the old array is stale: whoever still reads it gets NumPy's answer or an error."""

    def alias(x):
        y = np.zeros(3)
        z = y
        y += x
        return np.sum(z * x)

    def view(x):
        y = np.zeros(3)
        z = y[:2]
        y += x
        return np.sum(z * x[:2])

    def through_a_view(x):
        y = np.zeros(3)
        z = y[1:]
        z += x[1:]
        return np.sum(y * x)

    def in_a_list(x):
        y = [np.zeros(3)]
        z = y[0]
        y[0] += x
        return np.sum(z * x) + np.sum(y[0])

    def element(x):
        y = np.zeros(3)
        y[1:] += x[1:]
        return np.sum(y * x)

    def argument(x):
        def add(y):
            y += x

        y = np.zeros(3)
        add(y)
        return np.sum(y * x)

    for f in (alias, view, through_a_view, in_a_list, element, argument):
        expect.right_or_error(f, X, Y)


def test_a_global_accumulator():
    total = np.zeros(3)

    def f(x):
        nonlocal total
        total = np.zeros(3)
        total += x
        return np.sum(total**2)

    np.testing.assert_allclose(tapead.grad(f)(X), 2 * X)
    np.testing.assert_allclose(tapead.grad(f)(Y), 2 * Y)


def out_argument(x):
    plain = np.empty(3)
    np.multiply(x, x, out=plain)
    return np.sum(plain)


def out_of_a_reduction(x):
    plain = np.empty(())
    np.sum(x, out=plain)
    return plain * 1.0


def copyto(x):
    plain = np.empty(3)
    np.copyto(plain, x)
    return np.sum(plain)


@pytest.mark.parametrize(
    ("f", "line"),
    [(out_argument, "np.multiply("), (out_of_a_reduction, "np.sum(x, out"), (copyto, "copyto(pl")],
)
def test_a_plain_out_is_refused(f, line):
    with expect.error((TypeError, NotImplementedError), "out|plain|copyto", line=(f, line)):
        tapead.grad(f)(X)


def plain_logsumexp(x):
    return scipy.special.logsumexp(x)


def plain_solve_triangular(x):
    return np.sum(scipy.linalg.solve_triangular(np.tril(M), x, lower=True))


def plain_cho_solve(x):
    return np.sum(scipy.linalg.cho_solve((np.eye(3), True), x))


@pytest.mark.parametrize(
    ("f", "line", "fix"),
    [
        (plain_logsumexp, "scipy.special.", r"tapead\.scipy"),
        (plain_solve_triangular, "scipy.linalg.solve", r"tapead\.scipy"),
        (plain_cho_solve, "scipy.linalg.cho", r"tapead\.scipy"),
    ],
)
def test_scipy_functions_that_convert_name_tapead_scipy(f, line, fix):
    """SciPy makes an object array of the operand; where it gets through, the gradient must be right."""
    try:
        expect.right(f, X, np.abs(Y))
    except tapead.TapeadError:
        with expect.error((TypeError, NotImplementedError), fix, line=(f, line)):
            tapead.grad(f)(X)


def test_the_fix_for_scipy_works():
    import tapead.scipy.linalg
    import tapead.scipy.special

    expect.right(lambda x: tapead.scipy.special.logsumexp(x), X, Y, reference=scipy.special.logsumexp)
    expect.right(
        lambda x: np.sum(tapead.scipy.linalg.solve_triangular(np.tril(M), x, lower=True) * W),
        X,
        Y,
        reference=lambda x: np.sum(scipy.linalg.solve_triangular(np.tril(M), x, lower=True) * W),
    )


@pytest.mark.parametrize(
    "f",
    [
        lambda x: sum(x),
        lambda x: sum(xi * w for xi, w in zip(x, W, strict=True)),
        lambda x: x[-1] * len(x) + x[1],
        lambda x: math.prod(x),
        lambda x: sum(v * i for i, v in enumerate(reversed(x))),
        lambda x: (lambda a, b, c: a * b - c)(*x),
        lambda x: abs(-x[0]) + (-x[1]) + (+x[2]),
        lambda x: pow(x[0], 2) + 2.0 ** x[1] + x[0] ** x[1],
        lambda x: divmod(x[2], 1.0)[1] * x[0],
        lambda x: x[2] % 0.7 + 5.0 // x[1],
        lambda x: np.sum(operator.matmul(M, x)) + operator.add(1, x[0]),
        lambda x: x.sum() + x.mean() * x.max() - x.min() + x.prod() + x.std() + x.var(),
        lambda x: x.dot(W) + x.reshape(3, 1).T.ravel() @ W + np.sum(x.clip(0.5, 2.0)) + x.cumsum()[1],
        lambda x: x[None, :][0][1] * x[..., 0] * x.T[2],
        lambda x: np.array(3.0) * x[0] + np.array([2.0])[0] * x[1] + np.sum(np.array([[1.0]]) * x),
        lambda x: x[0].sum() + x[1].reshape(1)[0] + np.sum(x[2].ravel()) + x[0].T,
        lambda x: np.sum([[x[0], x[1]], [x[2], 1.0]]),
        lambda x: np.sum(np.vstack([x, [1.0, x[0], 2.0]])),
        lambda x: np.sum(np.array([np.array([x[0], x[1]]), np.array([1.0, 2.0])]) ** 2),
        lambda x: {"a": x[0] * 2}["a"] + max(dict(enumerate(x)).values()),
        lambda x: np.sum(x.astype(np.float64)) + x.flatten()[1] + x.ndim * x.size * x.shape[0] * x[0],
    ],
)
def test_python_ways_with_arrays_and_scalars(f):
    expect.right(f, X, np.abs(Y) + 0.3)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * x,
        lambda x: np.sin(x) + 2,
        lambda x: np.array([x, x * 2]) @ np.array([1.0, 3.0]),
        lambda x: np.asarray(x) ** 2,
        lambda x: np.sum(np.full((2, 2), x)),
        lambda x: np.where(x > 0, x**2, -x),
        lambda x: x[()] * 3.0 + x[...] ** 2,
        lambda x: np.sum(np.ones(4) * x) + np.max([x, 0.1]),
        lambda x: 1 / x + x**-2 + 2**x - (3 - x) * (x - 3) / (x + 1),
    ],
)
@pytest.mark.parametrize("kind", [float, np.float64, np.array])
def test_scalar_arguments(f, kind):
    expect.right(f, kind(0.7), kind(1.9), reference=lambda x: f(np.float64(x)))


def test_zero_dimensional_values_have_no_length_and_no_items():
    def length(x):
        return len(x) * x

    def items(x):
        return sum(x)

    def index(x):
        return x[0]

    for f, kind in ((length, TypeError), (items, TypeError), (index, IndexError)):
        with pytest.raises(kind):
            f(np.float64(1.0))
        with expect.error(kind):
            tapead.grad(f)(1.0)


@pytest.mark.parametrize(
    "text",
    [
        lambda t: f"{t}",
        lambda t: f"{t!r}",
        lambda t: str(t),
        lambda t: f"{t[0]:.3f} and {t[1]:8.2e}",
        lambda t: format(t) + format(t[0], "g"),
        lambda t: print(t, t[0], [t], {"a": t}) or "",
        lambda t: f"{np.sin(t)} {t > 0} {t.shape} {t.dtype}",
    ],
)
def test_printing_is_free(text, capsys):
    lines = []

    def f(x):
        lines.append(text(x))
        return np.sum(np.sin(x))

    vg = tapead.value_and_grad(f)
    for x in (X, Y):
        np.testing.assert_allclose(vg(x)[1], np.cos(x))
    assert len(lines) == 1, "printing must not make the function be traced again"


def test_printing_shows_the_value():
    shown = []

    def f(x):
        shown.extend([f"{x[0]:.2f}", str(x[1]), str(x)])
        return np.sum(x)

    tapead.grad(f)(np.array([1.25, 37.5]))
    assert shown[0] == "1.25"
    assert "37.5" in shown[1]
    assert "1.25" in shown[2]
    assert "37.5" in shown[2]


def test_masks_select_as_many_as_are_true():
    """x[x > 0] changes its shape with the values: right at every call."""

    def f(x):
        return np.sum(x[x > 1.0] ** 2) + x[np.isfinite(x)].sum()

    expect.right(f, X, Y, -X, X + 3.0)


def test_promotion_follows_numpy():
    x = X.astype(np.float32)
    results = []

    def f(x):
        y = x * 2.0  # a Python float keeps float32
        z = x * np.float64(2.0)  # a NumPy double does not
        results.append((y.dtype, z.dtype, (x + W).dtype, (x + 1).dtype, np.sin(x).dtype, (x > 0).dtype))
        return np.sum(y) + np.sum(z)

    _, gradient = tapead.value_and_grad(f)(x)
    f(x)
    assert results[0] == results[1]
    assert gradient.dtype == np.float32
