"""grad and value_and_grad as they are called: arguments, structures, dtypes, out=, what is traced when."""

import dataclasses
import functools
from collections import OrderedDict, namedtuple

import expect
import numpy as np
import pytest
import scipy.optimize

import tapead
from tapead import explain, grad, stop_gradient, value_and_grad

X = np.array([0.3, 1.2, 2.5])
Y = np.array([-0.7, 0.1, 1.9])


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def counted(f):
    @functools.wraps(f)
    def counting(*args, **kwargs):
        counting.runs += 1
        return f(*args, **kwargs)

    counting.runs = 0
    return counting


# What comes back


def test_the_value_comes_first():
    value, gradient = value_and_grad(lambda x: np.sum(x**2))(X)
    assert value == pytest.approx(X @ X)
    assert type(value) is np.float64
    assert type(gradient) is np.ndarray
    np.testing.assert_allclose(gradient, 2 * X)
    np.testing.assert_array_equal(grad(lambda x: np.sum(x**2))(X), gradient)


@pytest.mark.parametrize("x", [2.0, np.float64(2.0), np.array(2.0)])
def test_a_scalar_argument_has_a_scalar_gradient(x):
    value, gradient = value_and_grad(lambda x: x**3)(x)
    assert (float(value), float(gradient)) == (8.0, 12.0)
    assert np.shape(gradient) == ()
    assert np.asarray(gradient).dtype == np.float64


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (2, 1, 3), (0,), (3, 0)])
def test_the_gradient_has_the_shape_of_the_argument(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    gradient = grad(lambda x: np.sum(np.sin(x)))(x)
    assert np.shape(gradient) == shape
    np.testing.assert_allclose(gradient, np.cos(x), rtol=1e-14)


def test_gradients_of_several_calls_are_different_arrays():
    """A result that is kept does not change under its owner with the next call."""
    vg = value_and_grad(lambda x: np.sum(x**2))
    _, first = vg(X)
    _, second = vg(Y)
    np.testing.assert_allclose(first, 2 * X)
    np.testing.assert_allclose(second, 2 * Y)
    first[:] = 0.0
    np.testing.assert_allclose(vg(Y)[1], 2 * Y)


def test_the_gradient_is_no_view_of_the_argument():
    x = X.copy()
    _, gradient = value_and_grad(lambda x: x @ x / 2)(x)
    gradient[:] = 7.0
    np.testing.assert_array_equal(x, X)


def test_an_array_of_one_element_is_no_scalar_argument():
    x = np.array([2.0])
    assert grad(lambda x: x[0] ** 2)(x).shape == (1,)


def test_functions_keep_their_names():
    vg = value_and_grad(rosenbrock)
    assert callable(vg)
    assert "rosenbrock" in repr(vg)


# argnums


def polynomial(a, b, c):
    return a**2 * b + np.sum(c) * b**3


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [
        (0, 2 * 2.0 * 3.0),
        (1, 2.0**2 + 3 * 6.0 * 9.0),
        (2, [27.0, 27.0, 27.0]),
        (-1, [27.0, 27.0, 27.0]),
        ((0,), (12.0,)),
        ((0, 1), (12.0, 166.0)),
        ((1, 0), (166.0, 12.0)),
        ((2, 0), ([27.0, 27.0, 27.0], 12.0)),
    ],
)
def test_argnums(argnums, expected):
    c = np.array([1.0, 2.0, 3.0])
    value, gradient = value_and_grad(polynomial, argnums=argnums)(2.0, 3.0, c)
    assert value == pytest.approx(12.0 + 6.0 * 27.0)
    if isinstance(argnums, tuple):
        assert type(gradient) is tuple
        assert len(gradient) == len(argnums)
        for part, truth in zip(gradient, expected, strict=True):
            np.testing.assert_allclose(part, truth)
    else:
        np.testing.assert_allclose(gradient, expected)


# aux


@pytest.mark.parametrize("argnums", [0, (0, 1)])
def test_aux_is_handed_through(argnums):
    def f(x, y):
        return np.sum(x * y), {"residual": x - y, "name": "f", "count": 3, "none": None, "sum": np.sum(x)}

    vg = value_and_grad(f, argnums=argnums, has_aux=True)
    for x, y in ((X, Y), (Y, X), (X, X)):
        (value, aux), gradient = vg(x, y)
        assert value == pytest.approx(x @ y)
        np.testing.assert_allclose(aux["residual"], x - y)
        assert float(aux["sum"]) == pytest.approx(np.sum(x))
        assert (aux["name"], aux["count"], aux["none"]) == ("f", 3, None)
        np.testing.assert_allclose(gradient[0] if isinstance(argnums, tuple) else gradient, y)


def test_aux_of_grad():
    gradient, aux = grad(lambda x: (np.sum(x**2), np.sin(x)), has_aux=True)(X)
    np.testing.assert_allclose(gradient, 2 * X)
    np.testing.assert_allclose(aux, np.sin(X))


def test_aux_holds_plain_arrays():
    vg = value_and_grad(lambda x: (np.sum(x**2), [np.sin(x), x[0] * 2, x]), has_aux=True)
    for x in (X, Y):
        (_, aux), _ = vg(x)
        assert type(aux[0]) is np.ndarray
        assert float(aux[1]) == pytest.approx(2 * x[0])
        np.testing.assert_array_equal(aux[2], x)


def test_aux_is_kept_over_calls():
    vg = value_and_grad(lambda x: (np.sum(x**2), x * 2), has_aux=True)
    (_, first), _ = vg(X)
    vg(Y)
    np.testing.assert_allclose(first, 2 * X)


# Structures

Layer = namedtuple("Layer", "w b")


@dataclasses.dataclass
class Model:
    hidden: Layer
    scale: float
    extra: object = None


def loss(p, x):
    return np.sum(np.tanh(x @ p["hidden"].w + p["hidden"].b) ** 2) * p["scale"]


def test_dicts_namedtuples_lists_and_none():
    rng = np.random.default_rng(0)
    w, b, x = rng.standard_normal((3, 2)), rng.standard_normal(2), rng.standard_normal((5, 3))
    p = {"scale": 0.5, "hidden": Layer(w, b), "nothing": None, "more": [np.ones(2), (1.5,)]}
    value, gradient = value_and_grad(loss)(p, x)
    t = np.tanh(x @ w + b)
    assert value == pytest.approx(0.5 * np.sum(t**2))
    dz = 0.5 * 2 * t * (1 - t**2)
    assert type(gradient) is dict
    assert type(gradient["hidden"]) is Layer
    np.testing.assert_allclose(gradient["hidden"].w, x.T @ dz)
    np.testing.assert_allclose(gradient["hidden"].b, dz.sum(axis=0))
    np.testing.assert_allclose(gradient["scale"], np.sum(t**2))
    assert gradient["nothing"] is None
    np.testing.assert_array_equal(gradient["more"][0], np.zeros(2))
    assert type(gradient["more"][1]) is tuple
    assert gradient["more"][1][0] == 0.0


def test_dataclasses():
    def f(m):
        return np.sum(m.hidden.w**2) * m.scale + m.hidden.b

    vg = value_and_grad(f)
    for scale in (2.0, 3.0):
        value, gradient = vg(Model(Layer(X, 1.5), scale))
        assert value == pytest.approx(scale * X @ X + 1.5)
        assert type(gradient) is Model
        np.testing.assert_allclose(gradient.hidden.w, 2 * scale * X)
        assert gradient.hidden.b == 1.0
        assert gradient.scale == pytest.approx(X @ X)


def test_dataclasses_inside_other_structures():
    gradient = grad(lambda p: p["m"][0].scale ** 2)({"m": [Model(Layer(X, 0.0), 4.0)]})
    assert gradient["m"][0].scale == 8.0
    np.testing.assert_array_equal(gradient["m"][0].hidden.w, np.zeros(3))


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_tuples_of_floats(kind):
    gradient = grad(lambda p: p[0] * p[1] ** 2)(kind([2.0, 3.0]))
    assert type(gradient) is kind
    assert gradient == kind([9.0, 12.0])


def test_structures_are_part_of_the_signature():
    f = counted(lambda p: sum(np.sum(v**2) for v in p.values()))
    vg = value_and_grad(f)
    for p in ({"a": X}, {"a": X, "b": 2.0}, {"a": Y}, {"b": 1.0, "a": X}, OrderedDict(a=X)):
        _, gradient = vg(p)
        assert set(gradient) == set(p)
        for name in p:
            np.testing.assert_allclose(gradient[name], 2 * np.asarray(p[name]))
    assert f.runs <= 4


def test_one_array_in_two_places():
    """The same array twice: two variables, whose gradients are their own."""
    gradient = grad(lambda p: np.sum(p["a"] ** 2) + np.sum(p["b"] ** 3))({"a": X, "b": X})
    np.testing.assert_allclose(gradient["a"], 2 * X)
    np.testing.assert_allclose(gradient["b"], 3 * X**2)
    da, db = grad(lambda a, b: np.sum(a**2 * b), argnums=(0, 1))(X, X)
    np.testing.assert_allclose(da, 2 * X**2)
    np.testing.assert_allclose(db, X**2)


# Keyword arguments, statics, passengers


def test_keyword_arguments():
    def f(x, y=1.0, *, power=2, scale=None):
        return np.sum(x**power) * y * (1.0 if scale is None else scale)

    vg = value_and_grad(f)
    np.testing.assert_allclose(vg(X)[1], 2 * X)
    np.testing.assert_allclose(vg(X, y=3.0)[1], 6 * X)
    np.testing.assert_allclose(vg(X, 5.0)[1], 10 * X)
    np.testing.assert_allclose(vg(X, power=3)[1], 3 * X**2)
    np.testing.assert_allclose(vg(X, scale=np.float64(2.0), power=3)[1], 6 * X**2)
    np.testing.assert_allclose(vg(X, y=4.0)[1], 8 * X)


def test_keyword_arrays_are_values():
    f = counted(lambda x, w=None: np.sum(x * w))
    vg = value_and_grad(f)
    for w in (X, Y, X + Y):
        np.testing.assert_allclose(vg(X, w=w)[1], w)
    assert f.runs == 1


def test_the_order_of_keywords_does_not_matter():
    f = counted(lambda x, a, b: np.sum(x * a - b))
    vg = value_and_grad(f)
    assert vg(X, a=2.0, b=1.0)[0] == pytest.approx(vg(X, b=1.0, a=2.0)[0])
    assert f.runs == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (2, 3),
        ("sin", "cos"),
        (True, False),
        (None, 1),
        (np.sin, np.cos),
        ((1, 2), (2, 1)),
        (frozenset([1]), 2),
    ],
)
def test_static_values_are_part_of_the_signature(one, other):
    def f(x, how):
        seen.append(how)
        return np.sum(x) * (2.0 if how == one else 3.0)

    seen = []
    vg = value_and_grad(f)
    for how, factor in ((one, 2.0), (other, 3.0), (one, 2.0), (other, 3.0)):
        np.testing.assert_allclose(vg(X, how)[1], [factor] * 3)
    assert seen == [one, other]


def test_true_and_one_are_different_statics():
    seen = []

    def f(x, how):
        seen.append(how)
        return x * 2.0 if how is True else x * 3.0

    vg = value_and_grad(f)
    assert [vg(1.0, how)[1] for how in (True, 1, True, 1)] == [2.0, 3.0, 2.0, 3.0]
    assert len(seen) == 2


def test_unhashable_statics_are_refused_or_traced_anew():
    class Settings:
        __hash__ = None

        def __init__(self, factor):
            self.factor = factor

    vg = value_and_grad(lambda x, settings: np.sum(x) * settings.factor)
    settings = Settings(2.0)
    try:
        np.testing.assert_allclose(vg(X, settings)[1], [2.0] * 3)
        settings.factor = 5.0
        np.testing.assert_allclose(vg(X, settings)[1], [5.0] * 3)
    except TypeError:
        with expect.error(TypeError, "hash|Settings"):
            vg(X, settings)


def test_python_floats_are_values_and_ints_are_static():
    f = counted(lambda x, t, n: np.sum(x**n) * t)
    vg = value_and_grad(f)
    for t in (1.0, 2.0, 3.5):
        np.testing.assert_allclose(vg(X, t, 2)[1], 2 * X * t)
    assert f.runs == 1
    np.testing.assert_allclose(vg(X, 2.0, 3)[1], 6 * X**2)
    assert f.runs == 2


def test_arrays_that_are_not_differentiated_are_values():
    f = counted(lambda w, x, y: np.mean((x @ w - y) ** 2))
    vg = value_and_grad(f)
    rng = np.random.default_rng(0)
    for _ in range(3):
        w, x, y = rng.standard_normal(3), rng.standard_normal((6, 3)), rng.standard_normal(6)
        np.testing.assert_allclose(vg(w, x, y)[1], 2 * x.T @ (x @ w - y) / 6, rtol=1e-12)
    assert f.runs == 1


def test_integer_arrays_are_indices_and_labels():
    """Negative log likelihood: labels pick one logit of each row, rows repeat in an index."""
    f = counted(lambda z, labels, rows: -np.sum(z[rows][np.arange(4), labels]))
    vg = value_and_grad(f)
    z = np.random.default_rng(0).standard_normal((3, 5))
    for labels, rows in (([0, 4, 4, 2], [0, 1, 1, 2]), ([1, 1, 1, 1], [2, 2, 2, 2])):
        expected = np.zeros_like(z)
        np.add.at(expected, (rows, labels), -1.0)
        np.testing.assert_allclose(vg(z, np.array(labels), np.array(rows))[1], expected)
    assert f.runs == 1


def test_one_hot_labels():
    """A plain array indexed by an argument: np.eye(k)[labels]."""

    def loss(z, labels):
        return -np.sum(np.eye(3)[labels] * np.log(np.exp(z) / np.sum(np.exp(z), axis=1)[:, None]))

    vg = value_and_grad(loss)
    z = np.random.default_rng(0).standard_normal((4, 3))
    for labels in ([0, 1, 2, 1], [2, 2, 0, 0], [0, 1, 2, 1]):
        softmax = np.exp(z) / np.sum(np.exp(z), axis=1)[:, None]
        np.testing.assert_allclose(vg(z, np.array(labels))[1], softmax - np.eye(3)[labels], rtol=1e-12)


def test_boolean_arrays_are_masks():
    f = counted(lambda x, mask: np.sum(np.where(mask, x**2, x)))
    vg = value_and_grad(f)
    for mask in ([True, False, True], [False, False, True]):
        np.testing.assert_allclose(vg(X, np.array(mask))[1], np.where(mask, 2 * X, 1.0))
    assert f.runs == 1


def test_integer_arrays_as_data():
    counts = np.array([1, 2, 3])
    vg = value_and_grad(lambda x, counts: np.sum(x * counts) / np.sum(counts))
    np.testing.assert_allclose(vg(X, counts)[1], counts / 6)
    np.testing.assert_allclose(vg(X, counts + 1)[1], (counts + 1) / 9)


def test_array_likes():
    class Wrapped:
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return np.array(self.values, dtype=dtype)

    vg = value_and_grad(lambda x, w: np.sum(x * w))
    np.testing.assert_allclose(vg(X, Wrapped([1.0, 2.0, 3.0]))[1], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(vg(X, Wrapped([3.0, 2.0, 1.0]))[1], [3.0, 2.0, 1.0])


# Memory layouts and dtypes


@pytest.mark.parametrize(
    "x",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(24.0).reshape(4, 6)[::2, ::-3],
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.broadcast_to(np.arange(3.0), (2, 3)),
        np.arange(6.0).astype(">f8"),
        np.frombuffer(bytes(1) + np.arange(4.0).tobytes(), dtype=np.float64, offset=1),
    ],
    ids=["transposed", "negative strides", "Fortran", "broadcast", "big endian", "unaligned"],
)
def test_any_layout_of_the_argument(x):
    vg = value_and_grad(lambda x: np.sum(np.sin(x) * x))
    for _ in range(2):
        value, gradient = vg(x)
        assert value == pytest.approx(np.sum(np.sin(x) * x))
        np.testing.assert_allclose(gradient, np.cos(x) * x + np.sin(x), rtol=1e-12, atol=1e-13)


def test_contiguous_and_strided_arguments_in_turn():
    vg = value_and_grad(lambda x: np.sum(x**2 * np.arange(3.0)))
    long = np.arange(6.0)
    for x in (X, long[::2], Y, long[::-2], X):
        np.testing.assert_allclose(vg(x)[1], 2 * x * np.arange(3.0))


def test_float32_is_kept():
    vg = value_and_grad(lambda x: np.sum(np.sin(x) * 2.0) + 1)
    value, gradient = vg(X.astype(np.float32))
    assert value.dtype == np.float32
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, 2 * np.cos(X), rtol=1e-6)
    value, gradient = vg(X)
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, 2 * np.cos(X), rtol=1e-14)


def test_mixed_precision():
    """Each gradient has the dtype of its argument."""
    da, db = grad(lambda a, b: np.sum(a * b), argnums=(0, 1))(X.astype(np.float32), Y)
    assert (da.dtype, db.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(da, Y, rtol=1e-6)
    np.testing.assert_allclose(db, X, rtol=1e-6)


def test_float16_is_refused_or_right():
    try:
        gradient = grad(lambda x: np.sum(x**2))(X.astype(np.float16))
    except tapead.TapeadError:
        return
    np.testing.assert_allclose(gradient, 2 * X, rtol=1e-2)


# out=


def test_out_receives_the_gradient():
    vg = value_and_grad(rosenbrock)
    out = np.full(3, np.nan)
    value, gradient = vg(X, out=out)
    assert gradient is out
    np.testing.assert_allclose(out, expect.slope(rosenbrock, X), rtol=1e-8)
    assert value == pytest.approx(rosenbrock(X))
    vg(Y, out=out)
    np.testing.assert_allclose(out, expect.slope(rosenbrock, Y), rtol=1e-8)


def test_out_does_not_accumulate():
    vg = value_and_grad(lambda x: np.sum(x**2))
    out = np.ones(3)
    for _ in range(3):
        vg(X, out=out)
    np.testing.assert_allclose(out, 2 * X)


def test_out_of_a_matrix_and_of_float32():
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    out = np.empty_like(x)
    value_and_grad(lambda x: np.sum(x**2))(x, out=out)
    np.testing.assert_allclose(out, 2 * x)


def test_out_with_several_arguments():
    vg = value_and_grad(lambda w, x, scale: np.sum(w * x) * scale)
    out = np.empty(3)
    for scale in (1.0, 2.0):
        _, gradient = vg(X, Y, scale, out=out)
        assert gradient is out
        np.testing.assert_allclose(out, Y * scale)


def test_out_of_several_gradients():
    """A tuple of argnums or a structure takes out= of the same structure, or says that it does not."""
    vg = value_and_grad(lambda a, b: np.sum(a * b**2), argnums=(0, 1))
    out = (np.empty(3), np.empty(3))
    try:
        _, gradient = vg(X, Y, out=out)
    except tapead.TapeadError as problem:
        message = str(problem)
        assert "out" in message
    else:
        np.testing.assert_allclose(out[0], Y**2)
        np.testing.assert_allclose(out[1], 2 * X * Y)
        assert gradient[0] is out[0]


def test_out_with_branches():
    vg = value_and_grad(lambda x: np.sum(x**2) if x[0] > 0 else np.sum(x))
    out = np.empty(3)
    for x in (X, Y, X, Y):
        vg(x, out=out)
        np.testing.assert_allclose(out, 2 * x if x[0] > 0 else np.ones(3))


# Tracing and replay


def test_a_replay_equals_a_fresh_trace():
    rng = np.random.default_rng(0)

    def f(x):
        z = np.outer(x, x) @ np.cos(x)
        return np.log(np.sum(np.exp(z))) + np.prod(x[1:]) + np.sqrt(np.abs(x[0]))

    vg = value_and_grad(f)
    for _ in range(5):
        x = rng.standard_normal(3)
        value, gradient = vg(x)
        fresh_value, fresh_gradient = value_and_grad(f)(x)
        np.testing.assert_allclose(value, fresh_value, rtol=1e-14)
        np.testing.assert_allclose(gradient, fresh_gradient, rtol=1e-13)
        np.testing.assert_allclose(gradient, expect.slope(f, x), rtol=1e-7, atol=1e-8)


def test_a_function_is_traced_once_per_signature():
    f = counted(lambda x: np.sum(x**2))
    vg = value_and_grad(f)
    for _ in range(5):
        vg(X)
    assert f.runs == 1
    vg(X.astype(np.float32))
    vg(X.reshape(3, 1))
    assert f.runs == 3
    vg(Y)
    assert f.runs == 3


def test_seconds_tracing_counts_traces_only():
    vg = value_and_grad(lambda x: np.sum(x**2))
    vg(X)
    once = vg.seconds_tracing
    assert once > 0
    vg(Y)
    assert vg.seconds_tracing == once
    vg(X[:2])
    assert vg.seconds_tracing > once


def test_closed_over_arrays_are_recorded():
    """A constant is what it was when the function was traced, or what it is now: but not half of each."""
    c = np.array([1.0, 2.0, 3.0])
    vg = value_and_grad(lambda x: np.sum(c * x**2))
    np.testing.assert_allclose(vg(X)[1], 2 * c * X)
    old = c.copy()
    c[:] = 10.0
    value, gradient = vg(X)
    for constant in (old, c):
        if value == pytest.approx(np.sum(constant * X**2)):
            np.testing.assert_allclose(gradient, 2 * constant * X)
            break
    else:
        pytest.fail("the value is of neither constant")


def test_a_constant_changed_inside_the_function():
    """What the reverse sweep reads does not change under it: each product has its own version."""

    def f(x):
        c = np.array([1.0, 2.0, 3.0])
        y = np.sum(c * x**2)
        c[:] = 100.0
        return y + np.sum(c * x)

    expect.right(f, X, Y)


def test_a_constant_that_is_used_many_times():
    m = np.random.default_rng(0).standard_normal((3, 3))

    def f(x):
        for _ in range(10):
            x = np.tanh(m @ x)
        return np.sum(x)

    expect.right(f, X, Y)


def test_constants_of_other_dtypes_and_layouts():
    whole, mask, strided = np.array([1, 2, 3]), np.array([True, False, True]), np.arange(6.0)[::-2]
    single = np.arange(3, dtype=np.float32)

    def f(x):
        return np.sum(x**2 * whole) + np.sum(x * mask) + np.sum(np.sin(x) * strided) + np.sum(single / (x + 3))

    expect.right(f, X, Y)


def test_outputs_that_are_arguments_or_constants():
    vg = value_and_grad(lambda x: x)
    assert vg(3.0) == (3.0, 1.0)
    assert vg(4.0) == (4.0, 1.0)
    np.testing.assert_array_equal(grad(lambda x: x[1])(X), [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(grad(lambda x: x.reshape(3, 1)[2, 0])(X), [0.0, 0.0, 1.0])


@pytest.mark.parametrize("output", [2.0, 3, np.float64(1.0), np.array(4.0)])
def test_an_output_that_does_not_depend_on_the_argument_has_gradient_zero(output):
    value, gradient = value_and_grad(lambda x: output)(X)
    assert value == output
    np.testing.assert_array_equal(gradient, np.zeros(3))
    assert gradient.dtype == np.float64


def test_partly_independent_arguments():
    value, (dx, dp) = value_and_grad(lambda x, p: np.sum(x**2), argnums=(0, 1))(X, {"unused": Y, "also": 1.0})
    np.testing.assert_allclose(dx, 2 * X)
    np.testing.assert_array_equal(dp["unused"], np.zeros(3))
    assert dp["also"] == 0.0
    assert value == pytest.approx(X @ X)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(np.floor(x)),
        lambda x: np.sum(np.sign(x)),
        lambda x: np.sum(x > 0),
        lambda x: np.argmax(x),
        lambda x: np.sum(stop_gradient(x) ** 2),
        lambda x: np.sum(np.where(x > 0, 1.0, 2.0)),
        lambda x: np.sum(np.round(x)),
    ],
)
def test_outputs_without_a_derivative_have_gradient_zero(f):
    vg = value_and_grad(f)
    for x in (X, Y):
        value, gradient = vg(x)
        assert value == pytest.approx(float(f(x)))
        np.testing.assert_array_equal(gradient, np.zeros(3))


# stop_gradient


def test_stop_gradient_keeps_the_value_and_drops_the_derivative():
    vg = value_and_grad(lambda x: np.sum(stop_gradient(x) * x))
    for x in (X, Y):
        value, gradient = vg(x)
        assert value == pytest.approx(x @ x)
        np.testing.assert_allclose(gradient, x)


@pytest.mark.parametrize("x", [1.5, X, {"a": X, "b": [2.0]}, np.arange(3), None])
def test_stop_gradient_of_plain_values_is_the_identity(x):
    result = stop_gradient(x)
    assert type(result) is type(x)
    if isinstance(x, dict):
        np.testing.assert_array_equal(result["a"], x["a"])
    else:
        np.testing.assert_array_equal(result, x)


def test_stop_gradient_of_structures():
    gradient = grad(lambda p: np.sum(stop_gradient(p)["a"] * p["a"]))({"a": X})
    np.testing.assert_allclose(gradient["a"], X)


# With others


def test_scipy_minimize():
    vg = value_and_grad(rosenbrock)
    result = scipy.optimize.minimize(vg, np.zeros(5), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    np.testing.assert_allclose(result.x, np.ones(5), atol=1e-3)


def test_methods_partials_and_callables():
    class Loss:
        def __init__(self, scale):
            self.scale = scale

        def __call__(self, x):
            return self.scale * np.sum(x**2)

        def method(self, x):
            return self.scale * np.sum(x**3)

    np.testing.assert_allclose(grad(Loss(2.0))(X), 4 * X)
    np.testing.assert_allclose(grad(Loss(2.0).method)(X), 6 * X**2)
    np.testing.assert_allclose(grad(functools.partial(np.dot, X))(Y) if False else grad(np.sum)(Y), np.ones(3))
    np.testing.assert_allclose(grad(functools.partial(lambda s, x: s * np.sum(x), 3.0))(X), [3.0] * 3)


def test_value_and_grad_as_a_decorator():
    @value_and_grad
    def f(x):
        return np.sum(x**2)

    np.testing.assert_allclose(f(X)[1], 2 * X)


def test_generators_and_default_arguments():
    def f(x, powers=(1, 2, 3)):
        return sum(np.sum(x**p) for p in powers)

    np.testing.assert_allclose(grad(f)(X), 1 + 2 * X + 3 * X**2)


def test_explain_gives_an_account():
    vg = value_and_grad(rosenbrock)
    vg(X)
    account = str(explain(vg, X))
    for word in ("trace", "instruction", "rows", "blocks", "arena", "guard"):
        assert word in account.lower(), f"{word!r} is not in the account: {account}"


def test_explain_counts():
    def f(x):
        np.cos(x)
        return np.sum(np.sin(x) * np.sin(x))

    x = np.linspace(0.0, 1.0, 3000)
    account = explain(value_and_grad(f), x)
    assert (account.instructions, account.needed) == (5, 3)
    assert (account.rows, account.blocks, account.turned) == (1, 1, 1)
    arrays = 2 * 5  # x, cos, sin twice, the product; each with an adjoint
    assert account.own_bytes == arrays * x.nbytes + 2 * 8
    assert account.arena_bytes < x.nbytes


def test_lines_of_an_account_are_aligned():
    first, *lines = str(explain(value_and_grad(rosenbrock), X)).splitlines()
    assert "rosenbrock" in first
    assert {line[13] for line in lines} == {" "}
    assert " " not in {line[14] for line in lines}


def test_explain_of_a_function_never_called():
    assert str(explain(value_and_grad(rosenbrock), X))


# Conventions at singular points


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (lambda x: np.abs(x), 0.0, 0.0),
        (lambda x: np.linalg.norm(x), np.zeros(3), [0.0, 0.0, 0.0]),
        (lambda x: np.max(x), np.array([2.0, 2.0, 1.0]), [0.5, 0.5, 0.0]),
        (lambda x: np.min(x), np.array([1.0, 1.0, 1.0]), [1 / 3] * 3),
        (lambda x: np.maximum(x[0], x[1]), np.array([1.0, 1.0]), [0.5, 0.5]),
        (lambda x: np.minimum(x[0], x[1]), np.array([1.0, 1.0]), [0.5, 0.5]),
        (lambda x: np.sum(np.clip(x, 0.0, 1.0)), np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), [0, 1, 1, 1, 0]),
        (lambda x: np.sqrt(x), 0.0, np.inf),
        (lambda x: np.where(x >= 0, x, np.sqrt(-x)), 0.0, 1.0),
        (lambda x: np.sum(np.where(x >= 0, x, np.sqrt(-x))), np.array([1.0, 0.0]), [1.0, 1.0]),
        (lambda x: np.where(x > 0, np.log(x), x), 0.0, 1.0),
        (lambda x: 0.0 * np.sqrt(x), 0.0, 0.0),
    ],
)
def test_conventions(f, x, expected):
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(grad(f)(x), expected)
