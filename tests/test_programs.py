"""Whole functions drawn at random: their gradients, replays and second derivatives against the complex step.

A program is Python source, so that a failing one reads like a user's function. It runs twice: on traced
values with NumPy, and on complex numbers with `complex_numpy`, where f(x + i h u) = f(x) + i h <∇f(x), u>.
"""

import types

import expect
import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import tapead
import tapead.numpy

MODEST = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


# NumPy on complex numbers, where those stand for a real value and a tangent -------------------------------


def by_real_part(choose):
    def chosen(x, y):
        return np.where(choose(np.real(x), np.real(y)), x, y)

    return chosen


def along(x, axis, index):
    return np.take_along_axis(x, np.expand_dims(index, axis), axis).squeeze(axis)


def sort(x, axis=-1):
    return np.take_along_axis(x, np.argsort(np.real(x), axis=axis, kind="stable"), axis)


def extreme(pick):
    def reduced(x, axis=None):
        x = np.ravel(x) if axis is None else x
        return along(x, axis or 0, pick(np.real(x), axis=axis or 0))

    return reduced


def variance(x, axis=None):
    mean = np.mean(x, axis=axis, keepdims=True)
    return np.mean((x - mean) ** 2, axis=axis)


class ComplexNumpy:
    """NumPy, save for the functions that treat complex numbers in a way of their own or refuse them."""

    def __getattr__(self, name):
        return getattr(np, name)

    zeros = staticmethod(lambda shape: np.zeros(shape, complex))
    abs = staticmethod(lambda x: np.where(np.real(x) >= 0, x, -x))
    maximum = staticmethod(by_real_part(np.greater_equal))
    minimum = staticmethod(by_real_part(np.less_equal))
    max = staticmethod(extreme(np.argmax))
    min = staticmethod(extreme(np.argmin))
    sort = staticmethod(sort)
    argsort = staticmethod(lambda x: np.argsort(np.real(x), kind="stable"))
    var = staticmethod(variance)
    hypot = staticmethod(lambda x, y: np.sqrt(x * x + y * y))
    logaddexp = staticmethod(lambda x, y: np.log(np.exp(x) + np.exp(y)))
    arctan2 = staticmethod(lambda y, x: np.arctan(y / x))  # only for x > 0
    linalg = types.SimpleNamespace(
        norm=lambda x: np.sqrt(np.sum(x * x)), solve=np.linalg.solve, inv=np.linalg.inv, det=np.linalg.det
    )

    @staticmethod
    def clip(x, low, high):
        return np.where(np.real(x) < low, low, np.where(np.real(x) > high, high, x))


complex_numpy = ComplexNumpy()


SMALL = st.integers(2, 5)


# Lines of programs ----------------------------------------------------------------------------------------

SAME_SHAPE = [
    "np.sin({x})",
    "np.cos({x})",
    "np.tanh({x})",
    "np.exp(np.tanh({x}))",
    "np.log(1.5 + {x} ** 2)",
    "np.sqrt(1.0 + {x} * {x})",
    "np.arctan({x})",
    "1.0 / (2.0 + {x} ** 2)",
    "-{x}",
    "{x} ** 3 / 10.0",
    "np.square({x}) * 0.25",
    "np.abs({x})",
    "np.clip({x}, -0.75, 0.9)",
    "np.maximum({x}, 0.0)",
    "np.where({x} > 0.25, {x} * 2.0, np.sin({x}))",
    "2.0 - {x} / 3.0",
    "np.log1p(np.exp({x}))",
    "np.hypot({x}, 1.5)",
    "np.expm1({x} / 4.0)",
    "{x}.copy()",
    "({x} > 0.0) * {x}",
]
BROADCAST = [
    "{x} + {y}",
    "{x} - {y}",
    "{x} * {y}",
    "{x} / (1.5 + {y} ** 2)",
    "np.maximum({x}, {y})",
    "np.minimum({x}, {y})",
    "np.arctan2({x}, 2.0 + {y} ** 2)",
    "np.logaddexp({x}, {y})",
    "np.where({x} > {y}, {x}, 2.0 * {y})",
    "(1.2 + np.tanh({x})) ** np.tanh({y})",
    "np.hypot({x}, {y} + 3.0)",
]
REDUCE = [
    "np.sum({x}{axis})",
    "np.mean({x}{axis})",
    "np.max({x}{axis})",
    "np.min({x}{axis})",
    "np.prod(np.tanh({x}) + 1.5{axis})",
    "np.var({x}{axis})",
]
VECTOR = [
    ("{x}[::-1]", lambda n: (n,)),
    ("{x}[1:]", lambda n: (n - 1,)),
    ("{x}[:-1] * {x}[1:]", lambda n: (n - 1,)),
    ("{x}[np.array([0, -1, 0])]", lambda n: (3,)),
    ("np.concatenate([{x}, {x}[:1]])", lambda n: (n + 1,)),
    ("np.cumsum({x}) / {n}", lambda n: (n,)),
    ("np.sort({x})", lambda n: (n,)),
    ("{x}[np.argsort({x})]", lambda n: (n,)),
    ("np.roll({x}, 1)", lambda n: (n,)),
    ("np.flip({x})", lambda n: (n,)),
    ("np.diff({x})", lambda n: (n - 1,)),
    ("np.outer({x}, np.tanh({x}))", lambda n: (n, n)),
    ("{x}[:, None] - {x}", lambda n: (n, n)),
    ("np.stack([{x}, {x} ** 2 / 4.0])", lambda n: (2, n)),
    ("np.tile({x}, 2)", lambda n: (2 * n,)),
    ("np.repeat({x}, 2)", lambda n: (2 * n,)),
    ("np.array([{x}[0], {x}[-1] * 0.5])", lambda n: (2,)),
    ("np.diag({x})", lambda n: (n, n)),
    ("np.pad({x}, 1)", lambda n: (n + 2,)),
    ("{x} @ np.sin({x})", lambda n: ()),
    ("np.linalg.norm({x} + 0.01)", lambda n: ()),
    ("{x}[0]", lambda n: ()),
    ("sum(v * v for v in {x})", lambda n: ()),
    ("np.take({x}, [0, 0, -1])", lambda n: (3,)),
    ("np.einsum('i,j->ij', {x}, {x})", lambda n: (n, n)),
]
MATRIX = [
    ("{x}.T", lambda m, n: (n, m)),
    ("{x}.ravel()", lambda m, n: (m * n,)),
    ("{x}.reshape({n}, {m})", lambda m, n: (n, m)),
    ("{x}[0]", lambda m, n: (n,)),
    ("{x}[:, -1]", lambda m, n: (m,)),
    ("{x}[::-1, :1]", lambda m, n: (m, 1)),
    ("{x} @ {x}.T / {n}", lambda m, n: (m, m)),
    ("{x} @ {x}[0] / {n}", lambda m, n: (m,)),
    ("{x}.T @ np.tanh({x}) / {m}", lambda m, n: (n, n)),
    ("np.concatenate([{x}, {x}[:1] * 2.0])", lambda m, n: (m + 1, n)),
    ("np.hstack([{x}, {x}])", lambda m, n: (m, 2 * n)),
    ("np.triu({x})", lambda m, n: (m, n)),
    ("np.tril({x}, 1)", lambda m, n: (m, n)),
    ("np.cumsum({x}, axis=0) / {m}", lambda m, n: (m, n)),
    ("np.sort({x}, axis=0)", lambda m, n: (m, n)),
    ("np.trace({x})", lambda m, n: ()),
    ("np.einsum('ij,kj->ik', {x}, {x}) / {n}", lambda m, n: (m, m)),
    ("np.linalg.norm({x} + 0.01)", lambda m, n: ()),
    ("np.linalg.solve({x} @ {x}.T / {n} + 2.0 * np.eye({m}), {x}[:, 0])", lambda m, n: (m,)),
    ("np.linalg.inv({x} @ {x}.T / {n} + 2.0 * np.eye({m}))", lambda m, n: (m, m)),
    ("np.linalg.det({x} @ {x}.T / {n} + np.eye({m})) / 10.0", lambda m, n: ()),
    ("np.moveaxis({x}, 0, 1)[None].squeeze(0)", lambda m, n: (n, m)),
]
SCALAR = [
    ("tnp.full(3, {x})", lambda: (3,)),
    ("tnp.array([{x}, 1.0, {x} * 2.0])", lambda: (3,)),
    ("np.ones(2) * {x}", lambda: (2,)),
    ("{x} if {x} > 0.3 else {x} * 0.5 - 1.0", lambda: ()),
    ("np.abs({x})", lambda: ()),
]
# Each line assigns to a copy or a new array named {z}; {x} is a vector of at least two elements.
ASSIGN = [
    ["{z} = tnp.zeros({n})", "for i in range({n}):", "    {z}[i] = np.sin({x}[i]) * (i + 1)"],
    [
        "{z} = tnp.zeros({n})",
        "{z}[0] = {x}[0]",
        "for i in range(1, {n}):",
        "    {z}[i] = 0.5 * {z}[i - 1] * {x}[i] + {x}[i - 1]",
    ],
    ["{z} = {x}.copy()", "{z}[1:] += {x}[:-1]", "{z}[0] = {x}[-1] ** 2"],
    ["{z} = {x} * 1.5", "{z}[::2] *= {z}[::2]", "{z}[-1] -= {x}[0]"],
    ["{z} = {x}.copy()", "{z}[{x} > 0.1] = 0.5", "{z} = {z} * {x}"],
    ["{z} = {x}.copy()", "{z}[{x} < 0.4] *= -2.0"],
    ["{z} = tnp.zeros({n})", "{z}[np.array([1, 0])] = {x}[:2]", "{z}[[0, 1]] += {x}[-2:]"],
    ["{z} = np.cos({x})", "w = {z} * {x}", "{z}[0] = 2.0", "{z} += w", "{z}[:] = {z}[::-1]"],
    ["{z} = tnp.zeros({n})", "v = {z}[1:]", "v += {x}[1:]", "v[0] = {x}[0] * {x}[1]"],
    ["{z} = np.zeros({n})", "for k in range(3):", "    {z} += np.sin({x} * k)"],
]
# Control flow on a scalar {x}, to a scalar {z}.
STEER = [
    ["{z} = {x}", "while {z} < 1.0:", "    {z} = {z} * 1.5 + 0.4 if {z} > 0.0 else {z} * 0.5 + 0.3"],
    [
        "{z} = 0.0 * {x}",
        "for k in range(4):",
        "    if {x} > k * 0.4 - 0.5:",
        "        {z} = {z} + {x} ** (k + 1) / 4.0",
    ],
    ["{z} = {x} * 1.0", "if {x} > 0.2 and not {x} > 1.0:", "    {z} = np.sin({x})"],
    ["{z} = {x} * max({x}, 0.3) - min({x}, 0.6)"],
]


@st.composite
def programs(draw, sizes=SMALL, several=False):
    """Draw a function of one vector as its source, and the size of the vector.

    It gives a number or, if several, a tuple of some of its values.
    """
    size = draw(sizes)
    large = size > 100
    shapes = {"x": (size,), "c": (size,), "m": (3, size)}
    lines = []
    made = 0

    def pick(condition=lambda shape: True):
        names = [name for name, shape in shapes.items() if condition(shape)]
        # Later values are likelier, so that programs go deep; half of the time any.
        return draw(st.sampled_from(names[-3:] if draw(st.booleans()) else names)) if names else None

    def bounded(expression, shape):
        nonlocal made
        if int(np.prod(shape)) > max(60, 4 * size) or 0 in shape or len(shape) > 2:
            return
        if large and any(costly in expression for costly in ("for ", "linalg.", "prod")):
            return
        name = f"v{made}"
        made += 1
        lines.append(f"{name} = {expression}")
        shapes[name] = tuple(shape)

    kinds = ["same", "broadcast", "reduce", "layout", "matmul", "steer", *["assign"] * (not large)]
    for _ in range(draw(st.integers(2, 9))):
        kind = draw(st.sampled_from(kinds))
        if kind == "same":
            x = pick()
            bounded(draw(st.sampled_from(SAME_SHAPE)).format(x=x), shapes[x])
        elif kind == "broadcast":
            x = pick()
            y = pick(lambda shape, x=x: fits(shapes[x], shape))
            if x != y:  # ties of a value with itself are another test's
                shape = np.broadcast_shapes(shapes[x], shapes[y])
                bounded(draw(st.sampled_from(BROADCAST)).format(x=x, y=y), shape)
        elif kind == "reduce":
            x = pick()
            axis = draw(st.sampled_from([None, *range(len(shapes[x]))]))
            shape = () if axis is None else shapes[x][:axis] + shapes[x][axis + 1 :]
            text = "" if axis is None else f", axis={axis}"
            bounded(draw(st.sampled_from(REDUCE)).format(x=x, axis=text), shape)
        elif kind == "layout":
            x = pick()
            rank = len(shapes[x])
            text, shape = draw(st.sampled_from([SCALAR, VECTOR, MATRIX][rank]))
            sizes = dict(zip(("m", "n") if rank == 2 else ("n",), shapes[x], strict=False))
            bounded(text.format(x=x, **sizes), shape(*shapes[x]))
        elif kind == "matmul":
            x = pick(lambda shape: len(shape) > 0)
            rows = shapes[x][-1]
            y = pick(lambda shape, rows=rows: len(shape) > 0 and shape[max(len(shape) - 2, 0)] == rows)
            if y is not None:
                shape = shapes[x][:-1] + (shapes[y][1:] if len(shapes[y]) == 2 else ())
                text = draw(st.sampled_from(["{x} @ {y} / {n}", "np.dot({x}, {y}) / {n}", "np.matmul({x}, {y}) / {n}"]))
                bounded(text.format(x=x, y=y, n=rows), shape)
        elif kind == "assign":
            x = pick(lambda shape: len(shape) == 1 and shape[0] >= 2)
            name = f"v{made}"
            made += 1
            lines += [line.format(x=x, z=name, n=shapes[x][0]) for line in draw(st.sampled_from(ASSIGN))]
            shapes[name] = shapes[x]
        elif kind == "steer":
            x = pick(lambda shape: shape == ())
            if x is not None:
                name = f"v{made}"
                made += 1
                lines += [line.format(x=x, z=name) for line in draw(st.sampled_from(STEER))]
                shapes[name] = ()
    last = list(shapes)[-1]
    used = ["x", *[name for name in list(shapes)[-3:] if name not in "xcm"]]
    if several:
        result = f"({', '.join(used)},)"
    elif shapes[last] == () and draw(st.booleans()):
        result = last
    else:
        result = " + ".join(f"np.sum(np.tanh({name}))" for name in used)
    return "def f(x, np, tnp, c, m):\n" + "".join(f"    {line}\n" for line in lines) + f"    return {result}\n", size


# Views of arrays by their rank, and writes into them.
VIEWS = [
    [],
    ["{y}[1:]", "{y}[::-1]", "{y}[::2]", "{y}[:]", "{y}[None]", "{y}.reshape(-1, 1)", "{y}[-2:]"],
    [
        "{y}.T",
        "{y}[0]",
        "{y}[:, 1]",
        "{y}[1:]",
        "{y}[:, ::-1]",
        "{y}.ravel()",
        "{y}.reshape(-1)",
        "{y}[::2, 1:]",
    ],
]
COPIES = ["{y}.copy()", "{y} * 1.0", "np.sin({y})", "{y} + x[0]", "np.concatenate([{y}, {y}])[:{n}]"]
WRITES = [
    "{y}[...] = {e}",
    "{y}[:] = {e}",
    "{y} += {e}",
    "{y} *= {e}",
    "{y} -= 0.5 * {e}",
    "{y}[-1] = {e}[-1]",
    "{y}[1:] += {e}[1:]",
    "{y}[::-1] = {e}",
    "{y}[[0, -1]] = {e}[[-1, 0]]",
    "{y}[{y} > 0.2] = 0.1",
    "np.multiply({y}, {e}, out={y})",
    "{y}[0] = 2.0",
    "{y}[0] *= x[1]",
]
VALUES = ["{z}", "np.cos({z})", "({z} * x[0])", "np.tanh({y} + {z})", "({z} + 1.0)"]


@st.composite
def memory_programs(draw, several=False):
    """Draw a function that makes arrays, views of them and views of those, and writes through all of them.

    It gives a number or, if several, all of those arrays.
    """
    shapes = {"x": (4,)}
    lines = ["x = x * 1.0", "y0 = tnp.zeros((3, 4))", "y0[1] = x", "y1 = tnp.zeros(4)", "y1[1:] = x[1:]"]
    shapes |= {"y0": (3, 4), "y1": (4,)}
    for made in range(2, draw(st.integers(4, 12))):
        y = draw(st.sampled_from(list(shapes)))
        rank = len(shapes[y])
        kind = draw(st.sampled_from(["view", "view", "copy", "write", "write", "write", "write"]))
        if kind == "write":
            same = [z for z, shape in shapes.items() if shape == shapes[y]]
            value = draw(st.sampled_from(VALUES)).format(y=y, z=draw(st.sampled_from(same)))
            lines.append(draw(st.sampled_from(WRITES)).format(y=y, e=value))
        else:
            text = draw(st.sampled_from(VIEWS[rank] if kind == "view" else COPIES)).format(y=y, n=shapes[y][0])
            shape = eval(text, {"np": np, "x": np.zeros(4), y: np.zeros(shapes[y])}).shape
            if len(shape) < 3 and min(shape) > 1:
                lines.append(f"y{made} = {text}")
                shapes[f"y{made}"] = shape
    result = " + ".join(f"np.sum(np.tanh({y}) * {k + 1}.0)" for k, y in enumerate(shapes))
    if several:
        result = ", ".join(shapes)
    return "def f(x, np, tnp, c, m):\n" + "".join(f"    {line}\n" for line in lines) + f"    return {result}\n", 4


def fits(one, other):
    try:
        np.broadcast_shapes(one, other)
    except ValueError:
        return False
    return True


def functions(source, size):
    """Give the program on traced values, and value and gradient of it by the complex step."""
    place = {}
    exec(source, place)
    program = place["f"]
    rng = np.random.default_rng(size)
    c, m = rng.uniform(-1.0, 1.0, size), rng.uniform(-1.0, 1.0, (3, size))

    def traced(x):
        return program(x, np, tapead.numpy, c, m)

    def complex_step(x, directions=None):
        """Give the value and the derivatives along directions, by default the gradient."""
        slopes = []
        for u in np.eye(size) if directions is None else directions:
            result = complex(program(x + 1e-30j * u, complex_numpy, complex_numpy, c, m))
            slopes.append(result.imag / 1e-30)
        return result.real, np.array(slopes)

    return traced, complex_step


def points(size, count=4):
    return np.random.default_rng(100 + size).uniform(-1.5, 1.5, (count, size))


@given(programs())
@MODEST
def test_gradients_and_replays(program):
    """The first point is traced and the others are replayed; each replay equals a fresh trace."""
    source, size = program
    note(source)
    traced, complex_step = functions(source, size)
    vg = tapead.value_and_grad(traced)
    for x in points(size):
        value, gradient = vg(x)
        expected_value, expected = complex_step(x)
        np.testing.assert_allclose(value, expected_value, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-11)
        fresh_value, fresh = tapead.value_and_grad(traced)(x)
        np.testing.assert_allclose(value, fresh_value, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(gradient, fresh, rtol=1e-12, atol=1e-14)


@given(programs(sizes=st.sampled_from([511, 512, 1025, 3000])))
@settings(MODEST, max_examples=40)
def test_arrays_of_many_tiles(program):
    """Arrays that end before, at and after the borders of tiles, along directions of single elements too."""
    source, size = program
    note(source)
    traced, complex_step = functions(source, size)
    directions = np.zeros((8, size))
    for k, i in enumerate([0, 255, 256, 510, size // 2, size - 1]):
        directions[k, i] = 1.0
    directions[6:] = np.random.default_rng(0).standard_normal((2, size))
    vg = tapead.value_and_grad(traced)
    for x in points(size, 2):
        value, gradient = vg(x)
        expected_value, expected = complex_step(x, directions)
        np.testing.assert_allclose(value, expected_value, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(directions @ gradient, expected, rtol=1e-8, atol=1e-10)


@given(memory_programs())
@MODEST
def test_memory(program):
    """Assignment through views, and views of views, is what it is in NumPy."""
    source, size = program
    note(source)
    traced, complex_step = functions(source, size)
    vg = tapead.value_and_grad(traced)
    for x in points(size, 3):
        value, gradient = vg(x)
        expected_value, expected = complex_step(x)
        np.testing.assert_allclose(value, expected_value, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-11)


@given(memory_programs())
@settings(MODEST, max_examples=30)
def test_second_derivatives_of_memory(program):
    source, size = program
    note(source)
    traced, complex_step = functions(source, size)
    v = np.linspace(1.0, -0.5, size)
    product = tapead.grad(lambda x: np.sum(tapead.grad(traced)(x) * v))
    h = 1e-5
    for x in points(size, 2):
        expected = (complex_step(x + h * v)[1] - complex_step(x - h * v)[1]) / (2 * h)
        np.testing.assert_allclose(product(x), expected, rtol=1e-6, atol=1e-6)


@given(programs())
@settings(MODEST, max_examples=20)
def test_float32(program):
    source, size = program
    note(source)
    traced, complex_step = functions(source, size)
    vg = tapead.value_and_grad(traced)
    for x in points(size, 2).astype(np.float32):
        value, gradient = vg(x)
        expected_value, expected = complex_step(x.astype(float))
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(value, expected_value, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=2e-3)


@given(programs())
@settings(MODEST, max_examples=25)
def test_second_derivatives(program):
    """H v, from the gradient of <grad f, v>, against central differences of the complex step's gradient."""
    source, size = program
    note(source)
    traced, complex_step = functions(source, size)
    v = np.linspace(1.0, -0.5, size)
    product = tapead.grad(lambda x: np.sum(tapead.grad(traced)(x) * v))
    h = 1e-5
    for x in points(size, 2):
        expected = (complex_step(x + h * v)[1] - complex_step(x - h * v)[1]) / (2 * h)
        np.testing.assert_allclose(product(x), expected, rtol=1e-6, atol=1e-6)


@given(st.one_of(programs(several=True), memory_programs(several=True)))
@MODEST
def test_forward_mode_is_the_transpose_of_reverse_mode(program):
    """<v, J u> = <J^T v, u>, for the tangents of jvp and linearize and the cotangents of vjp."""
    source, size = program
    note(source)
    traced, _ = functions(source, size)
    rng = np.random.default_rng(size)
    for x in points(size, 2):
        u = rng.standard_normal(size)
        value, tangent = tapead.jvp(traced, (x,), (u,))
        _, linear = tapead.linearize(traced, x)
        same, pullback = tapead.vjp(traced, x)
        v = tuple(rng.standard_normal(np.shape(y)) for y in value)
        (adjoint,) = pullback(v)
        across = adjoint @ u
        scale = np.linalg.norm(adjoint) * np.linalg.norm(u)
        for pushed in (tangent, linear(u)):
            assert [np.shape(dot) for dot in pushed] == [np.shape(y) for y in value] == [np.shape(y) for y in same]
            along = sum(np.sum(seed * dot) for seed, dot in zip(v, pushed, strict=True))
            norms = sum(np.linalg.norm(seed) * np.linalg.norm(dot) for seed, dot in zip(v, pushed, strict=True))
            assert abs(along - across) <= 1e-12 * max(norms, scale)
        assert scale > 0.0  # x is among the values, or what becomes of it


@given(st.one_of(programs(), memory_programs()))
@settings(MODEST, max_examples=30)
def test_second_derivatives_of_every_pair_of_modes(program):
    """H v by reverse over reverse, forward over reverse, reverse over forward; v H v by forward over forward."""
    source, size = program
    note(source)
    traced, _ = functions(source, size)
    v = np.linspace(1.0, -0.5, size)
    gradient = tapead.grad(traced)
    reverse_reverse = tapead.grad(lambda x: np.sum(gradient(x) * v))

    def slope(x):
        return tapead.jvp(traced, (x,), (v,))[1]

    for x in points(size, 2):
        expected = reverse_reverse(x)
        close = {"rtol": 1e-11, "atol": 1e-11 * max(1.0, np.max(np.abs(expected)))}
        np.testing.assert_allclose(tapead.jvp(gradient, (x,), (v,))[1], expected, **close)
        np.testing.assert_allclose(tapead.hvp(traced, (x,), (v,)), expected, **close)
        np.testing.assert_allclose(tapead.jvp(slope, (x,), (v,))[1], expected @ v, **close)


@given(programs())
@settings(MODEST, max_examples=20)
def test_repeated_calls_are_equal_to_the_last_bit(program):
    """What a replay leaves behind in its arena does not show in the next one."""
    source, size = program
    note(source)
    traced, _ = functions(source, size)
    vg = tapead.value_and_grad(traced)
    first = [vg(x) for x in points(size)]
    for (value, gradient), x in zip(first, points(size), strict=True):
        again_value, again = vg(x)
        assert value == again_value
        np.testing.assert_array_equal(gradient, again)


def test_the_reference_knows_its_derivatives():
    """The complex step of every line, against central differences of NumPy itself."""
    lines = [*SAME_SHAPE, *(line.replace("{y}", "c") for line in BROADCAST)]
    lines += [line.format(x="{x}", axis="") for line in REDUCE] + [line for line, _ in VECTOR]
    for line in lines:
        source = f"def f(x, np, tnp, c, m):\n    return np.sum({line.format(x='x', n=4)})\n"
        traced, complex_step = functions(source, 4)
        x = np.array([0.3, -0.8, 1.1, 0.6])
        value, gradient = complex_step(x)
        assert value == pytest.approx(traced(x), rel=1e-13), line
        np.testing.assert_allclose(gradient, expect.slope(traced, x), rtol=1e-6, atol=1e-7, err_msg=line)
