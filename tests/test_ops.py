"""Every op of the registry, in bulk, from its declaration."""

from dataclasses import replace
from itertools import combinations

import mpmath
import numpy as np
import pytest

import tapead
from tapead.batch import batch
from tapead.dispatch import record
from tapead.kernels.table import OPS, ROWS, Elementwise, Structural

STRUCTURAL_OPS = [op for op in OPS.values() if isinstance(op, Structural)]
DIFFERENTIABLE = [row for row in ROWS if row.differentiable]
names = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
differentiable = pytest.mark.parametrize("row", DIFFERENTIABLE, ids=lambda row: row.name)


def logaddexp(x, y):
    return mpmath.log(mpmath.exp(x) + mpmath.exp(y))


#: an independent oracle for each differentiable row, in arbitrary precision
ORACLE = {
    "copy": lambda x: +x,
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "remainder": lambda x, y: x - y * mpmath.floor(x / y),
    "fmod": lambda x, y: x - y * (mpmath.floor(x / y) if x / y > 0 else mpmath.ceil(x / y)),
    "power": lambda x, y: mpmath.exp(y * mpmath.log(x)),
    "negative": lambda x: -x,
    "absolute": abs,
    "square": lambda x: x**2,
    "cubed": lambda x: x**3,
    "reciprocal": lambda x: 1 / x,
    "sqrt": mpmath.sqrt,
    "norm_root": mpmath.sqrt,
    "cbrt": mpmath.cbrt,
    "hypot": lambda x, y: mpmath.sqrt(x**2 + y**2),
    "exp": mpmath.exp,
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "log10": mpmath.log10,
    "log1p": lambda x: mpmath.log(1 + x),
    "logaddexp": logaddexp,
    "logaddexp2": lambda x, y: mpmath.log(mpmath.mpf(2) ** x + mpmath.mpf(2) ** y) / mpmath.log(2),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tan": mpmath.tan,
    "arcsin": mpmath.asin,
    "arccos": mpmath.acos,
    "arctan": mpmath.atan,
    "arctan2": lambda x, y: mpmath.atan(x / y),
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
    "tanh": mpmath.tanh,
    "arcsinh": mpmath.asinh,
    "arccosh": mpmath.acosh,
    "arctanh": mpmath.atanh,
    "deg2rad": lambda x: x * mpmath.pi / 180,
    "rad2deg": lambda x: x * 180 / mpmath.pi,
    "expit": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "maximum": lambda x, y: max(x, y),
    "minimum": lambda x, y: min(x, y),
    "fmax": lambda x, y: max(x, y),
    "fmin": lambda x, y: min(x, y),
    "clip": lambda x, y, w: min(max(x, y), w),
    "where": lambda x, y, w: y if x != 0 else w,
    "copysign": lambda x, y: abs(x) * mpmath.sign(y),
    "after": lambda x, y: +x,
    "chain": lambda x, y: x * y,
    "mask": lambda x, y: x * y,
}


def sample(row, n=7, seed=0):
    """Draw operands from the row's domains, clear of ties and kinks."""
    rng = np.random.default_rng([seed, row.code])
    operands = [rng.uniform(*domain, n) for domain in row.domains]
    if row.name in ("where", "mask"):
        k = 0 if row.name == "where" else 1
        operands[k] = (rng.uniform(size=n) < 0.5).astype(float)
    elif len(operands) > 1:
        close = np.abs(operands[0] - operands[1]) < 0.05
        operands[0] = np.where(close, operands[0] + 0.1, operands[0])
    return operands


def apply(row):
    """Give the row as a function of tensors."""
    return lambda *operands: record(row.name, *operands)


def flowing(row):
    """Give the operands through which a derivative flows."""
    return tuple(i for i, partial in enumerate(row.partials) if partial is not None)


def weighted(row, weights):
    return lambda *operands: np.sum(weights * apply(row)(*operands))


def oracle_partials(row, operands, order):
    """Give the order-th derivative by each operand alone, at each element."""
    made = []
    with mpmath.workdps(60):
        for i in flowing(row):
            column = []
            for place in zip(*operands, strict=True):
                at = [mpmath.mpf(float(v)) for v in place]
                column.append(
                    float(mpmath.diff(lambda v, at=at, i=i: ORACLE[row.name](*at[:i], v, *at[i + 1 :]), at[i], order))
                )
            made.append(np.array(column))
    return made


# ---- declarations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_every_op_is_declared_whole(op):
    assert op.doc
    assert callable(op.numpy)
    if isinstance(op, Elementwise):
        assert op.value
        assert len(op.domains) == len(op.partials) == op.arity
        assert not op.differentiable or op.name in ORACLE
        assert all(low < high for low, high in op.domains)
    elif op.differentiable and op.name != "scatter":
        assert op.rule is not None or op.group == "blocks"


def test_the_oracle_has_no_row_that_the_table_lacks():
    assert set(ORACLE) == {row.name for row in DIFFERENTIABLE}


# ---- values -------------------------------------------------------------------------------------------------------


@names
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_value_is_numpys(row, dtype):
    operands = [o.astype(dtype) for o in sample(row, 700)]
    expected = row.numpy(*operands)

    def f(*xs):
        z = apply(row)(*xs)
        return np.sum(xs[0]), z

    (_, value), _ = tapead.value_and_grad(f, has_aux=True)(*operands)
    assert value.dtype == expected.dtype
    tolerance = 4e-15 if dtype is np.float64 else 2e-6
    np.testing.assert_allclose(value.astype(float), expected.astype(float), rtol=tolerance, atol=tolerance)


SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 0.5, 1.5, 3.0, np.inf, -np.inf, np.nan, 1e-310, 1e300, -1e300, 745.0]
)


@names
def test_value_at_special_points_is_numpys(row):
    pairs = np.array(np.meshgrid(*[SPECIAL] * row.arity)).reshape(row.arity, -1)
    if row.name == "clip":
        pairs = pairs[:, ~(pairs[1] > pairs[2])]
    operands = [np.ascontiguousarray(p) for p in pairs]
    with np.errstate(all="ignore"):
        expected = row.numpy(*operands)
    (_, value), _ = tapead.value_and_grad(lambda *xs: (np.sum(xs[0] * 0.0), apply(row)(*xs)), has_aux=True)(*operands)
    np.testing.assert_allclose(value.astype(float), expected.astype(float), rtol=4e-15, atol=0)


@pytest.mark.parametrize("row", [row for row in ROWS if row.integer is not None], ids=lambda row: row.name)
def test_integers_are_numpys(row):
    rng = np.random.default_rng(row.code)
    operands = [rng.integers(-4, 5, 50) for _ in range(row.arity)]
    with np.errstate(all="ignore"):
        expected = row.numpy(*operands)

    def f(x, *integers):
        return np.sum(x), apply(row)(*integers)

    vg = tapead.value_and_grad(f, has_aux=True)
    (_, value), _ = vg(np.ones(2), *operands)
    assert value.dtype == expected.dtype
    np.testing.assert_array_equal(value, expected)
    again = [o[::-1].copy() for o in operands]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(vg(np.ones(2), *again)[0][1], row.numpy(*again))


# ---- derivatives --------------------------------------------------------------------------------------------------


@differentiable
def test_first_derivative_against_the_oracle(row):
    operands = sample(row)
    weights = np.linspace(0.5, 1.5, 7)
    gradients = tapead.grad(weighted(row, weights), argnums=flowing(row))(*operands)
    for got, partial in zip(gradients, oracle_partials(row, operands, 1), strict=True):
        np.testing.assert_allclose(got, weights * partial, rtol=2e-12, atol=1e-13)


@differentiable
def test_gradient_along_random_directions(row):
    operands = sample(row)
    k = flowing(row)
    if row.name in ("where", "mask"):
        k = (1, 2) if row.name == "where" else (0,)
    tapead.check_grads(weighted(row, np.linspace(0.5, 1.5, 7)), tuple(operands), argnums=k)


@differentiable
def test_second_derivative_against_the_oracle(row):
    operands = sample(row)
    if row.name == "mask":
        pytest.skip("a product with a mask is linear in each; its cross derivative is tested with 'chain'")
    for i, expected in zip(flowing(row), oracle_partials(row, operands, 2), strict=True):

        def first(*xs, i=i):
            return np.sum(tapead.grad(lambda *ys: np.sum(apply(row)(*ys)), argnums=i)(*xs))

        got = tapead.grad(first, argnums=i)(*operands)
        np.testing.assert_allclose(got, expected, rtol=2e-11, atol=1e-11)


@pytest.mark.parametrize(
    "row", [r for r in DIFFERENTIABLE if len(flowing(r)) == 2 and not r.select], ids=lambda r: r.name
)
def test_mixed_second_derivative_against_the_oracle(row):
    operands = sample(row)
    x, y = operands

    def first(x, y):
        return np.sum(tapead.grad(lambda a: np.sum(apply(row)(a, y)))(x))

    got = tapead.grad(first, argnums=1)(x, y)
    with mpmath.workdps(60):
        expected = [
            float(mpmath.diff(ORACLE[row.name], (float(a), float(b)), (1, 1))) for a, b in zip(x, y, strict=True)
        ]
    np.testing.assert_allclose(got, expected, rtol=2e-11, atol=1e-11)


@differentiable
def test_float32_gradient(row):
    operands = sample(row)
    low = [o.astype(np.float32) for o in operands]
    f = weighted(row, np.ones(7, np.float32))
    for got, expected in zip(
        tapead.grad(f, argnums=flowing(row))(*low),
        tapead.grad(weighted(row, np.ones(7)), argnums=flowing(row))(*[o.astype(float) for o in low]),
        strict=True,
    ):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize(
    ("row", "point", "partials"), [(r, *pin) for r in ROWS for pin in r.pins], ids=lambda v: getattr(v, "name", str(v))
)
@pytest.mark.parametrize("n", [1, 5])
def test_pinned_derivatives(row, point, partials, n):
    operands = [np.full(n, v) for v in point]
    got = tapead.grad(lambda *xs: np.sum(apply(row)(*xs)), argnums=tuple(range(row.arity)))(*operands)
    for g, expected in zip(got, partials, strict=True):
        np.testing.assert_array_equal(g, np.full(n, expected))


# ---- shapes and layouts -------------------------------------------------------------------------------------------

PAIRS = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((), (3,)),
    ((2, 1, 3), (4, 1)),
    ((1,), (5,)),
    ((0, 3), (3,)),
    ((), ()),
]


@pytest.mark.parametrize("shapes", PAIRS, ids=str)
@pytest.mark.parametrize(
    "row", [r for r in DIFFERENTIABLE if r.arity == 2 and r.name not in ("chain", "mask")], ids=lambda r: r.name
)
def test_broadcasting_pairs(row, shapes):
    rng = np.random.default_rng(1)
    x, y = (rng.uniform(*d, s) for d, s in zip(row.domains, shapes, strict=True))
    weights = rng.uniform(0.5, 1.5, np.broadcast_shapes(*shapes))
    active = flowing(row)
    value, gradients = tapead.value_and_grad(weighted(row, weights), argnums=active)(x, y)
    np.testing.assert_allclose(value, np.sum(weights * row.numpy(x, y)), rtol=1e-12, atol=1e-13)
    wide = [np.broadcast_to(o, weights.shape).copy() for o in (x, y)]
    for i, got in zip(active, gradients, strict=True):
        full = tapead.grad(weighted(row, weights), argnums=i)(*wide)
        assert got.shape == shapes[i]
        np.testing.assert_allclose(got, unbroadcast(full, shapes[i]), rtol=1e-11, atol=1e-12)


def unbroadcast(x, shape):
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(i for i, d in enumerate(shape) if d == 1 and x.shape[i] != 1), keepdims=True).reshape(shape)


LAYOUTS = {
    "strided": lambda x: x[::2],
    "reversed": lambda x: x[::-1],
    "transposed": lambda x: x.reshape(2, 7).T,
    "column": lambda x: x.reshape(7, 2)[:, 1],
    "number": lambda x: x[3],
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@differentiable
def test_layouts_inside_the_function(row, layout):
    operands = sample(row, 14)
    pick = LAYOUTS[layout]
    value, gradients = tapead.value_and_grad(lambda *xs: np.sum(apply(row)(*map(pick, xs))), argnums=flowing(row))(
        *operands
    )
    packed = [np.array(pick(o), order="C") for o in operands]
    np.testing.assert_allclose(value, np.sum(row.numpy(*packed)), rtol=1e-12, atol=1e-13)
    inner = tapead.grad(lambda *xs: np.sum(apply(row)(*xs)), argnums=flowing(row))(*packed)
    for got, g, i in zip(gradients, inner, flowing(row), strict=True):
        expected = np.zeros(14)
        place = np.arange(14)
        expected[np.asarray(pick(place))] = g
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
        assert got.shape == operands[i].shape


@differentiable
def test_replay_is_a_fresh_trace(row):
    vg = tapead.value_and_grad(weighted(row, np.ones(7)), argnums=flowing(row))
    vg(*sample(row, seed=1))
    other = sample(row, seed=2)
    replayed = vg(*other)
    fresh = tapead.value_and_grad(weighted(row, np.ones(7)), argnums=flowing(row))(*other)
    assert vg.traces_kept == 1
    assert replayed[0] == fresh[0]
    for a, b in zip(replayed[1], fresh[1], strict=True):
        np.testing.assert_array_equal(a, b)


# ---- structural ops -----------------------------------------------------------------------------------------------

SAMPLES = [
    pytest.param(op, operands, parameters, id=f"{op.name}-{k}")
    for op in STRUCTURAL_OPS
    for k, (operands, parameters) in enumerate(op.samples(np.random.default_rng(op.code)))
]


def first_result(x):
    return x[0] if isinstance(x, tuple) else x


def total(op, operands, parameters, weights):
    """Give a number of the op's first result, as a function of its active operands."""

    def f(*active):
        full = list(operands)
        for i, x in zip(op.active, active, strict=True):
            full[i] = x
        return np.sum(weights * first_result(record(op.name, *full, **parameters)))

    return f


def check(f, active):
    """Check gradients by the operands that have elements; those that have none get empty ones."""
    gradients = tapead.grad(f, argnums=tuple(range(len(active))))(*active)
    assert [g.shape for g in gradients] == [x.shape for x in active]
    full = tuple(i for i, x in enumerate(active) if x.size)
    if full:
        tapead.check_grads(f, active, argnums=full)


@pytest.mark.parametrize(("op", "operands", "parameters"), SAMPLES)
def test_structural_value_is_numpys(op, operands, parameters):
    expected = first_result(op.numpy(*operands, **parameters))

    def f(x, *operands):
        return np.sum(x), first_result(record(op.name, *operands, **parameters))

    (_, value), _ = tapead.value_and_grad(f, has_aux=True)(np.ones(2), *operands)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("op", "operands", "parameters"), [p for p in SAMPLES if p.values[0].active])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_structural_gradient(op, operands, parameters, dtype):
    shape = np.shape(first_result(op.numpy(*operands, **parameters)))
    weights = np.random.default_rng(5).uniform(0.5, 1.5, shape).astype(dtype)
    cast = tuple(o.astype(dtype) if o.dtype.kind == "f" else o for o in operands)
    active = tuple(cast[i] for i in op.active)
    f = total(op, cast, parameters, weights)
    if dtype is np.float64:
        check(f, active)
        return
    double = total(op, operands, parameters, weights.astype(float))
    for got, expected in zip(
        tapead.grad(f, argnums=tuple(range(len(active))))(*active),
        tapead.grad(double, argnums=tuple(range(len(active))))(*(operands[i] for i in op.active)),
        strict=True,
    ):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(("op", "operands", "parameters"), [p for p in SAMPLES if p.values[0].active])
def test_structural_second_derivative(op, operands, parameters):
    shape = np.shape(first_result(op.numpy(*operands, **parameters)))
    rng = np.random.default_rng(6)
    weights = rng.uniform(0.5, 1.5, shape)
    active = tuple(operands[i] for i in op.active)
    directions = [rng.normal(size=x.shape) for x in active]
    argnums = tuple(range(len(active)))

    def first(*active):
        gradients = tapead.grad(total(op, operands, parameters, weights), argnums=argnums)(*active)
        return sum(np.sum(g * u) for g, u in zip(gradients, directions, strict=True))

    check(first, active)


@pytest.mark.parametrize(
    ("op", "operands", "parameters"),
    [
        p
        for p in SAMPLES
        if p.values[0].active and p.values[0].name in ("prod", "cumsum", "matmul", "gather", "spread", "solve", "det")
    ],
)
def test_structural_gradient_against_the_complex_step(op, operands, parameters):
    rng = np.random.default_rng(7)
    shape = np.shape(first_result(op.numpy(*operands, **parameters)))
    weights = rng.uniform(0.5, 1.5, shape)
    active = tuple(operands[i] for i in op.active)
    gradients = tapead.grad(total(op, operands, parameters, weights), argnums=tuple(range(len(active))))(*active)
    for place, i in enumerate(op.active):
        u = rng.normal(size=active[place].shape)
        moved = list(operands)
        moved[i] = operands[i] + 1e-30j * u
        reference = {"solve": np.linalg.solve, "det": np.linalg.det}.get(op.name, op.numpy)
        expected = np.sum(weights * reference(*moved, **parameters)).imag / 1e-30
        np.testing.assert_allclose(np.sum(gradients[place] * u), expected, rtol=1e-11, atol=1e-12)


HELD = [
    pytest.param(op, operands, parameters, held, id=f"{p.id}-{''.join(map(str, held))}")
    for p in SAMPLES
    for op, operands, parameters in [p.values]
    for floats in [[i for i, x in enumerate(operands) if x.dtype.kind == "f"]]
    for n in range(1, len(floats) + 1)
    for held in combinations(floats, n)
]


def in_columns(op, operands, parameters, held):
    """Run an op for columns of the held operands: give its first result from a replay, columns first."""

    def f(x, *operands):
        recording = x.tape
        level = recording.open_level()
        given = list(operands)
        for i in held:
            given[i] = record("copy", operands[i])
        start = len(recording)
        z = first_result(record(op.name, *given, **parameters))
        columns = [np.stack([operands[i] * scale for scale in SCALES]) for i in held]
        (made,) = batch(recording, start, [given[i] for i in held], columns, [z])
        recording.close_level(level)
        return np.sum(x), made

    run = tapead.value_and_grad(f, has_aux=True)
    run(np.ones(2), *operands)
    return run(np.ones(2), *operands)[0][1]


SCALES = (1.0, 1.25, 0.75)


@pytest.mark.parametrize(("op", "operands", "parameters", "held"), HELD)
def test_columns_are_what_each_column_gives(op, operands, parameters, held, monkeypatch):
    assert op.columns is not None
    expected = [
        first_result(op.numpy(*[x * scale if i in held else x for i, x in enumerate(operands)], **parameters))
        for scale in SCALES
    ]
    together = in_columns(op, operands, parameters, held)
    np.testing.assert_allclose(together, np.stack(expected), rtol=1e-12, atol=1e-13)
    monkeypatch.setitem(OPS, op.name, replace(op, columns=None))
    one_by_one = in_columns(op, operands, parameters, held)
    np.testing.assert_allclose(one_by_one, together, rtol=1e-12, atol=1e-13)
