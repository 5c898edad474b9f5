"""Primitives: ops of numba functions, of numbers and of arrays; and the check of them, which is checked itself."""

import copy
import math
import pickle
import threading

import expect
import numba
import numpy as np
import pytest

import tapead
from tapead import check_primitive, primitive
from tapead.check import CheckError
from tapead.kernels.table import OPS

X = np.array([-1.3, -0.2, 0.0, 0.4, 1.7, 2.5])
POSITIVE = np.array([[0.5, 1.2, 2.0], [0.7, 1.9, 0.3]])


def sigmoid_(x):
    return 1.0 / (1.0 + math.exp(-x))


sigmoid = primitive(
    sigmoid_,
    partials=(primitive(lambda x, z: z * (1 - z), partials=(None, lambda x, z: 1 - 2 * z), name="sigmoid's"),),
    name="sigmoid",
    numpy=lambda x: 1 / (1 + np.exp(-x)),
)
softplus = primitive(
    lambda x: math.log1p(math.exp(-abs(x))) + max(x, 0.0),
    partials=(sigmoid,),
    name="softplus",
    numpy=lambda x: np.log1p(np.exp(x)),
)
length = primitive(
    lambda x, y: math.sqrt(x * x + y * y),
    partials=(lambda x, y, z: x / z, lambda x, y, z: y / z),
    name="length",
    numpy=np.hypot,
)
blend = primitive(
    lambda x, y, w: x * w + y * (1 - w),
    partials=(lambda x, y, w: w, lambda x, y, w: 1 - w, lambda x, y, w: x - y),
    name="blend",
    numpy=lambda x, y, w: x * w + y * (1 - w),
)


@numba.njit
def smooth_(out, x):
    total = 0.0
    for i in range(x.size):
        total = 0.9 * total + x[i]
        out[i] = total


@numba.njit
def smooth_back(d, out, x, dx):
    total = 0.0
    for i in range(x.size - 1, -1, -1):
        total = 0.9 * total + d[i]
        dx[i] += total


def smooth_numpy(x):
    return np.array([sum(0.9 ** (i - j) * x[j] for j in range(i + 1)) for i in range(len(x))])


smooth = primitive(
    smooth_, reverse=smooth_back, tangent=lambda t, z, x, dx: smooth_(t, dx), name="smooth", numpy=smooth_numpy
)


@numba.njit
def apply(out, a, x):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[i] += a[i, j] * x[j]


def apply_back(d, out, a, x, da, dx):
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            da[i, j] += d[i] * x[j]
            dx[j] += d[i] * a[i, j]


def apply_dot(t, out, a, x, ta, tx):
    apply(t, ta, x)
    apply(t, a, tx)


def rows(a, x):
    return a[:1]


product = primitive(apply, reverse=apply_back, tangent=apply_dot, shape=rows, name="product", numpy=lambda a, x: a @ x)


@numba.njit
def outer_back(h, d, x, dd, dx):
    for i in range(d.size):
        for j in range(x.size):
            dd[i] += h[i, j] * x[j]
            dx[j] += h[i, j] * d[i]


@numba.njit
def product_da(g, d, z, a, x):
    for i in range(d.size):
        for j in range(x.size):
            g[i, j] += d[i] * x[j]


@numba.njit
def product_dx(g, d, z, a, x):
    for i in range(d.size):
        for j in range(x.size):
            g[j] += d[i] * a[i, j]


def product_da_back(h, g, d, z, a, x, dd, dz, da, dx):
    outer_back(h, d, x, dd, dx)


def product_dx_back(h, g, d, z, a, x, dd, dz, da, dx):
    for i in range(d.size):
        for j in range(x.size):
            dd[i] += h[j] * a[i, j]
            da[i, j] += h[j] * d[i]


def product_da_dot(t, g, d, z, a, x, td, tz, ta, tx):
    product_da(t, td, z, a, x)
    product_da(t, d, z, a, tx)


def product_dx_dot(t, g, d, z, a, x, td, tz, ta, tx):
    product_dx(t, td, z, a, x)
    product_dx(t, d, z, ta, x)


def apply_dot_back(h, t, out, a, x, ta, tx, dout, da, dx, dta, dtx):
    product_da(dta, h, out, a, x)
    product_dx(dx, h, out, ta, x)
    product_da(da, h, out, a, tx)
    product_dx(dtx, h, out, a, x)


def apply_dot_dot(t2, t, out, a, x, ta, tx, out2, a2, x2, ta2, tx2):
    apply(t2, ta2, x)
    apply(t2, ta, x2)
    apply(t2, a2, tx)
    apply(t2, a, tx2)


#: the same with rules that are primitives: derivatives of second order, in every pair of modes
product2 = primitive(
    apply,
    reverse=(
        primitive(
            product_da,
            reverse=product_da_back,
            tangent=product_da_dot,
            shape=lambda d, z, a, x: a,
            name="product2.da",
        ),
        primitive(
            product_dx,
            reverse=product_dx_back,
            tangent=product_dx_dot,
            shape=lambda d, z, a, x: x,
            name="product2.dx",
        ),
    ),
    tangent=primitive(apply_dot, reverse=apply_dot_back, tangent=apply_dot_dot, name="product2.dot"),
    shape=rows,
    name="product2",
)

A, V = np.arange(6.0).reshape(2, 3) / 3 - 1, np.array([0.5, -1.5, 2.0])

PRIMITIVES = [
    (sigmoid, (X,)),
    (softplus, (X,)),
    (length, (POSITIVE, POSITIVE[::-1] + 0.5)),
    (blend, (POSITIVE, POSITIVE[:, ::-1], POSITIVE / 3)),
    (smooth, (X,)),
    (product, (A, V)),
    (product2, (A, V)),
]
each = pytest.mark.parametrize(("p", "operands"), PRIMITIVES, ids=[p.name for p, _ in PRIMITIVES])


@each
def test_all_that_the_check_demands(p, operands):
    check_primitive(p, *operands)


@each
def test_operands_that_are_no_arrays(p, operands):
    """Lists, views, float32 beside float64, arrays that cannot be written to."""
    expected = p(*operands)
    np.testing.assert_array_equal(p(*(x.tolist() for x in operands)), expected)
    locked = [x.copy() for x in operands]
    for x in locked:
        x.flags.writeable = False
    np.testing.assert_array_equal(p(*locked), expected)
    mixed = p(operands[0].astype(np.float32), *operands[1:])
    assert mixed.dtype == (np.float32 if len(operands) == 1 else np.float64)


# ---- of numbers ----------------------------------------------------------------------------------------------


def test_numbers_give_numbers():
    assert type(sigmoid(0.0)) is np.float64
    assert sigmoid(0.0) == 0.5
    assert type(sigmoid(np.float32(0))) is np.float32
    assert length(3, 4) == 5.0
    assert length(np.float32(3), 4).dtype == np.float32
    assert sigmoid(np.zeros((2, 0, 3))).shape == (2, 0, 3)


def test_beside_ops_of_the_table():
    def f(x, y):
        u = length(np.sin(x) + 2, y[:, None])
        return np.sum(sigmoid(u * x) / (1 + softplus(u)))

    def g(x, y):
        u = np.hypot(np.sin(x) + 2, y[:, None])
        return np.sum(1 / (1 + np.exp(-u * x)) / (1 + np.log1p(np.exp(u))))

    x, y = POSITIVE.T, POSITIVE[0] + 1
    for k in (0, 1):
        np.testing.assert_allclose(tapead.grad(f, k)(x, y), tapead.grad(g, k)(x, y), rtol=1e-12)


def test_large_arrays():
    x = np.linspace(-3, 3, 30_000)
    vg = tapead.value_and_grad(lambda x, y: np.sum(length(x, y) * x), argnums=(0, 1))
    y = np.full(1, 0.5)
    z = np.hypot(x, y)
    value, (dx, dy) = vg(x, y)
    np.testing.assert_allclose(value, np.sum(z * x), atol=1e-9)
    np.testing.assert_allclose(dx, z + x * x / z, rtol=1e-12)
    np.testing.assert_allclose(dy, [np.sum(x * y / z)], atol=1e-9)


def test_an_adjoint_of_zero_contributes_zero():
    slope = primitive(lambda x, z: 0.5 / z, partials=(None, lambda x, z: -0.5 / (z * z)), name="slope of root")
    root = primitive(lambda x: math.sqrt(x), partials=(slope,), name="root")
    x = np.array([4.0, 0.0, -1.0])

    def f(x):
        return np.sum(np.where(x > 0, root(x), x))

    np.testing.assert_array_equal(tapead.grad(f)(x), [0.25, 1.0, 1.0])
    second = tapead.grad(lambda x: np.sum(tapead.grad(f)(x) * x))
    np.testing.assert_allclose(second(x), [0.125, 1.0, 1.0], rtol=1e-14)


def test_nan_and_infinity_flow():
    inverse = primitive(lambda x: 1 / x, partials=(lambda x, z: -z * z,), name="inverse")
    np.testing.assert_array_equal(inverse(np.array([0.0, -0.0, np.inf, np.nan])), [np.inf, -np.inf, 0.0, np.nan])
    np.testing.assert_array_equal(tapead.grad(lambda x: np.sum(inverse(x)))(np.array([0.0, 2.0])), [-np.inf, -0.25])


def test_an_operand_without_a_partial():
    scaled = primitive(lambda x, y: x * y, partials=(lambda x, y: y, None), name="scaled")
    np.testing.assert_array_equal(tapead.grad(lambda x: np.sum(scaled(x, x)))(X), X)
    constant = primitive(lambda x: 1.0 if x > 0 else 0.0, partials=(None,), name="step")
    np.testing.assert_array_equal(tapead.grad(lambda x: np.sum(constant(x) * x))(X), X > 0)
    gradient = tapead.grad(lambda x: np.sum(scaled(np.exp(x), x) * x))(X)
    np.testing.assert_allclose(gradient, (X + 1) * np.exp(X) * X, rtol=1e-14)
    check_primitive(constant, X)


def test_functions_that_return_integers_and_truth_values():
    sign = primitive(lambda x: 1 if x > 0 else -1, partials=(lambda x: False,), name="sign of")
    np.testing.assert_array_equal(sign(X), np.where(X > 0, 1.0, -1.0))
    np.testing.assert_array_equal(tapead.grad(lambda x: np.sum(sign(x)))(X), np.zeros(6))


def test_functions_that_are_jitted_already():
    @numba.njit(fastmath=True)
    def cube(x):
        return x * x * x

    @numba.njit
    def slope(x, z):
        return 3 * z / x  # of the Python error model by itself

    p = primitive(cube, partials=(slope,))
    assert p.name == "cube"
    np.testing.assert_allclose(tapead.grad(lambda x: np.sum(p(x)))(X + 5), 3 * (X + 5) ** 2, rtol=1e-12)
    assert np.isnan(tapead.grad(lambda x: p(x))(0.0))


def test_in_a_loop_and_a_branch():
    def f(x):
        for _ in range(20):
            x = sigmoid(x) * 2 if x > 0.6 else softplus(x) - 0.1
        return x

    for x in (-1.0, 0.3, 2.0):
        h = 1e-6
        np.testing.assert_allclose(tapead.grad(f)(x), (f(x + h) - f(x - h)) / (2 * h), rtol=1e-6, atol=1e-9)


# ---- derivatives of higher order -----------------------------------------------------------------------------


def test_second_derivatives_of_numbers():
    s = 1 / (1 + np.exp(-X))
    second = tapead.grad(lambda x: np.sum(tapead.grad(lambda x: np.sum(softplus(x)))(x)))(X)
    np.testing.assert_allclose(second, s * (1 - s), rtol=1e-12)
    third = tapead.grad(
        lambda x: np.sum(tapead.grad(lambda x: np.sum(tapead.grad(lambda x: np.sum(softplus(x)))(x)))(x))
    )
    np.testing.assert_allclose(third(X), s * (1 - s) * (1 - 2 * s), rtol=1e-11, atol=1e-16)


def test_second_derivatives_of_arrays():
    def twice(multiply):
        def f(a, x):
            return np.sum(np.sin(multiply(a, x)))

        def slope(a, x):
            da, dx = tapead.grad(f, argnums=(0, 1))(a, x)
            return np.sum(da * A[::-1]) + np.sum(dx * V[::-1])

        return tapead.grad(slope, argnums=(0, 1))(A, V)

    for got, expected in zip(twice(product2), twice(lambda a, x: a @ x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (lambda x: np.sum(softplus(x) * x), (X,)),
        (lambda a, x: np.sum(np.sin(product2(a, x))), (A, V)),
        (lambda x: np.sum(np.sin(product2(A, x))), (V,)),
    ],
)
def test_second_derivatives_in_every_pair_of_modes(f, args):
    tapead.check_grads(f, args, order=2)


@pytest.mark.parametrize(
    ("p", "operands", "words"),
    [
        (length, (X + 2, X + 3), ["length", "partial dx", "tapead.primitive", "partials"]),
        (smooth, (X,), ["smooth", "reverse=", "tuple of primitives"]),
        (product, (A, V), ["product", "reverse="]),
    ],
)
@pytest.mark.parametrize("k", [0, -1])
def test_second_derivatives_that_were_not_given(p, operands, words, k):
    """By whichever operand: never silently zero."""

    def slope(*operands):
        return sum(np.sum(g) for g in tapead.grad(lambda *o: np.sum(p(*o) ** 2), tuple(range(len(o))))(*operands))

    o = operands
    words = [word.replace("dx", "d[xy]") for word in words]
    with expect.error(NotImplementedError, *words):
        tapead.grad(slope, argnums=k)(*operands)
    first = tapead.grad(lambda *o: tapead.grad(lambda s: np.sum(p(*(s * x for x in o))))(1.0) * 0.0 + np.sum(o[0]))
    with expect.error(NotImplementedError, *words):
        first(*operands)


def test_tangents_that_were_not_given():
    plain = primitive(smooth_, reverse=smooth_back, name="plain")
    with tapead.Tape() as tape:
        x = tape.variable(X)
        z = plain(x)
        with expect.error(NotImplementedError, "plain", "tangent="):
            plain.op.tangent(tape.structural, {}, [x], [z], [x])


def test_tangents_by_jvp():
    u = np.linspace(-1, 1, 6)
    value, tangent = tapead.jvp(lambda x: np.sum(smooth(x) * sigmoid(x)), (X,), (u,))
    np.testing.assert_allclose(value, np.sum(smooth(X) * sigmoid(X)))
    s = sigmoid(X)
    np.testing.assert_allclose(tangent, np.sum(smooth(u) * s + smooth(X) * s * (1 - s) * u), rtol=1e-12)


# ---- of arrays -----------------------------------------------------------------------------------------------


def test_the_array_to_fill_is_zero_at_first():
    """Also in replays, in memory that holds what was there before."""
    vg = tapead.value_and_grad(lambda a, x: np.sum(product(a, product(a.T, product(a, x)))))
    for scale in (1.0, 2.0, -3.0):
        a = A * scale
        value, gradient = vg(a, V)
        expected, other = tapead.value_and_grad(lambda a, x: np.sum(a @ (a.T @ (a @ x))))(a, V)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, other, rtol=1e-12)


def test_only_one_operand_is_differentiated():
    """The other's adjoint goes to scratch memory, however large."""
    a = np.random.default_rng(0).normal(size=(300, 3))
    np.testing.assert_allclose(tapead.grad(lambda x: np.sum(product(a, x)))(V), a.sum(0), rtol=1e-12)
    np.testing.assert_allclose(tapead.grad(lambda a: np.sum(product(a, V)))(a), np.tile(V, (300, 1)), rtol=1e-12)
    np.testing.assert_allclose(tapead.grad(lambda x: np.sum(product2(a, x)))(V), a.sum(0), rtol=1e-12)
    np.testing.assert_allclose(tapead.grad(lambda a: np.sum(product2(a, V)))(a), np.tile(V, (300, 1)), rtol=1e-12)


def test_one_array_for_both_operands():
    dot = primitive(
        lambda out, x, y: total(out, x, y),
        reverse=lambda d, out, x, y, dx, dy: total_back(d, x, y, dx, dy),
        shape=lambda x, y: (),
        name="dot",
    )
    np.testing.assert_allclose(tapead.grad(lambda x: dot(x, x))(X), 2 * X)
    assert type(dot(X, X)) is np.float64


@numba.njit
def total(out, x, y):
    for i in range(x.size):
        out[()] += x[i] * y[i]


@numba.njit
def total_back(d, x, y, dx, dy):
    for i in range(x.size):
        dx[i] += d[()] * y[i]
        dy[i] += d[()] * x[i]


def test_reverse_without_an_operand():
    p = primitive(
        lambda out, a, x: apply(out, a, x),
        reverse=(None, primitive(product_dx, reverse=product_dx_back, shape=lambda d, z, a, x: x, name="only.dx")),
        shape=rows,
        name="only",
    )
    np.testing.assert_allclose(tapead.grad(lambda x: np.sum(p(A, x)))(V), A.sum(0))
    np.testing.assert_array_equal(tapead.grad(lambda a: np.sum(p(a, V)) + np.sum(a))(A), np.ones((2, 3)))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1, 1), (3, 1, 2)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_rank(shape, dtype):
    p = primitive(
        lambda out, x: doubled(out, x), reverse=lambda d, z, x, dx: doubled(dx, d), name="twice", shape=lambda x: x
    )
    x = np.full(shape, 1.5, dtype)
    assert p(x).dtype == dtype
    np.testing.assert_array_equal(p(x), 2 * x)
    np.testing.assert_array_equal(tapead.grad(lambda x: np.sum(p(x) * x))(x), 4 * x)


@numba.njit
def doubled(out, x):
    to, source = out.reshape(-1), x.reshape(-1)
    for i in range(x.size):
        to[i] += 2 * source[i]


def test_the_default_shape_is_the_first_operands():
    assert smooth(np.ones(4)).shape == (4,)
    size = primitive(smooth_, reverse=smooth_back, shape=lambda x: x[0], name="of one size")
    assert size(np.ones(4)).shape == (4,)


# ---- on the tape ---------------------------------------------------------------------------------------------


def test_names_on_the_tape():
    with tapead.Tape() as tape:
        np.sum(sigmoid(smooth(tape.variable(X))))
    assert "v2 = smooth(v1)" in str(tape)
    assert "v3 = sigmoid(v2)" in str(tape)
    assert len(set(tape.opcodes)) == 3


def test_names_in_a_profile():
    vg = tapead.value_and_grad(lambda x: np.sum(sigmoid(smooth(x))))
    assert {"smooth", "sigmoid"} <= {row.what for row in tapead.profile(vg, X).rows}
    assert tapead.explain(vg).replays


def test_primitives_of_one_name_are_not_shared():
    one = primitive(lambda x: x + 1, partials=(lambda x: 1.0,), name="same")
    two = primitive(lambda x: x + 2, partials=(lambda x: 2.0,), name="same")
    value, gradient = tapead.value_and_grad(lambda x: one(x) + 10 * two(x) + 100 * one(x))(1.0)
    assert value == 2 + 30 + 200
    assert gradient == 1 + 20 + 100


def test_the_table_is_as_it_was():
    assert not {p.name for p, _ in PRIMITIVES} & set(OPS)


def test_define_by_run():
    with tapead.Tape() as tape:
        x = tape.variable(X)
        y = np.sum(smooth(sigmoid(x)))
    tape.backward(y)
    expected = tapead.grad(lambda x: np.sum(smooth(1 / (1 + np.exp(-x)))))(X)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-12)


@pytest.mark.parametrize("of_arrays", [False, True])
def test_threads_compile_and_call_at_once(of_arrays):
    if of_arrays:
        p = primitive(smooth_, reverse=smooth_back, name="threaded")
    else:
        p = primitive(sigmoid_, partials=(lambda x, z: z * (1 - z),), name="threaded")
    vg = tapead.value_and_grad(lambda x: np.sum(p(x) * x))
    found, start = {}, threading.Barrier(6)

    def run(k):
        start.wait()
        for _ in range(50):
            found[k] = vg(X * k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(6):
        value, gradient = tapead.value_and_grad(lambda x: np.sum(p(x) * x))(X * k)
        assert found[k][0] == value
        np.testing.assert_array_equal(found[k][1], gradient)


def test_a_primitive_is_one_of_its_kind():
    assert copy.deepcopy({"p": sigmoid})["p"] is sigmoid
    with expect.error(TypeError, "sigmoid", "pickled"):
        pickle.dumps(sigmoid)
    assert repr(sigmoid) == "<primitive sigmoid>"
    assert sigmoid.__name__ == "sigmoid"


def test_the_docstring_is_the_functions():
    def shifted(x):
        """Add one."""
        return x + 1

    assert primitive(shifted, partials=(lambda x: 1.0,)).__doc__ == "Add one."


# ---- errors --------------------------------------------------------------------------------------------------


def one(x):
    return 1.0


@pytest.mark.parametrize(
    ("give", "kind", "words"),
    [
        (lambda: primitive(3.0, partials=(one,)), TypeError, ["float"]),
        (lambda: primitive(one), TypeError, ["partials=", "reverse="]),
        (lambda: primitive(one, partials=one), TypeError, ["tuple"]),
        (lambda: primitive(one, partials=()), TypeError, ["one to three"]),
        (lambda: primitive(one, partials=(one, one)), TypeError, ["one", "takes 1", "2 partials"]),
        (lambda: primitive(lambda x, y: x, partials=(one,), name="p"), TypeError, ["p takes 2", "1 partials"]),
        (lambda: primitive(one, partials=(2.0,)), TypeError, ["partial dx", "one", "float"]),
        (lambda: primitive(one, partials=(lambda: 1.0,)), TypeError, ["partial dx", "takes 0"]),
        (lambda: primitive(one, partials=(length,)), None, []),
        (lambda: primitive(one, partials=(blend,)), TypeError, ["partial dx", "blend"]),
        (lambda: primitive(one, partials=(smooth,)), TypeError, ["partial dx"]),
        (lambda: primitive(one, partials=(math.cos,)), TypeError, ["Python function", "lambda"]),
        (lambda: primitive(one, partials=(one,), shape=one), TypeError, ["shape="]),
        (lambda: primitive(one, partials=(one,), reverse=one), TypeError, ["reverse="]),
        (lambda: primitive(one, partials=(one,), name="sum"), ValueError, ["sum", "name="]),
        (lambda: primitive(one, partials=(one,), name=3), TypeError, ["name", "3"]),
        (lambda: primitive(one, reverse=smooth_back), TypeError, ["array to fill"]),
        (lambda: primitive(smooth_, reverse=one), TypeError, ["reverse rule", "4 arrays", "takes 1"]),
        (lambda: primitive(smooth_, reverse=3), TypeError, ["reverse rule", "int"]),
        (lambda: primitive(smooth_, reverse=smooth_back, tangent=one), TypeError, ["tangent rule", "4 arrays"]),
        (lambda: primitive(smooth_, reverse=smooth_back, tangent=smooth), TypeError, ["tangent rule", "smooth"]),
        (lambda: primitive(smooth_, reverse=smooth_back, shape=(3,)), TypeError, ["shape rule"]),
        (lambda: primitive(smooth_, reverse=(smooth, smooth)), TypeError, ["tuple of 1"]),
        (lambda: primitive(smooth_, reverse=(smooth,)), TypeError, ["tuple of 1", "3 operands"]),
    ],
)
def test_declarations_that_are_wrong(give, kind, words):
    if kind is None:
        assert give().name == "one"
        return
    with expect.error(kind, *words):
        give()


def traced(p, *operands):
    return tapead.grad(lambda *operands: np.sum(p(*operands)))(*operands)


@pytest.mark.parametrize("call", [lambda p, x: p(x), traced], ids=["arrays", "traced"])
@pytest.mark.parametrize(
    ("p", "words"),
    [
        (primitive(lambda x: unknown(x), partials=(one,), name="p1"), ["unknown", "value of the primitive p1"]),  # noqa: F821
        (primitive(lambda x: {x}, partials=(one,), name="p2"), ["p2", "set"]),
        (primitive(lambda x: x + 1j, partials=(one,), name="p3"), ["p3", "real number", "complex"]),
        (primitive(lambda x: None, partials=(one,), name="p4"), ["p4", "real number", "none"]),
        (primitive(lambda out, x: fill(x), reverse=smooth_back, name="p5"), ["p5", "read-only", "operand"]),
        (primitive(lambda out, x: out.nothing(), reverse=smooth_back, name="p6"), ["p6", "nothing"]),
        (primitive(smooth_, reverse=smooth_back, shape=lambda x: "abc", name="p7"), ["shape rule", "p7", "abc"]),
        (primitive(smooth_, reverse=smooth_back, shape=lambda x: (-1,), name="p8"), ["shape rule", "p8", "-1"]),
        (primitive(smooth_, reverse=smooth_back, shape=lambda x: (2.5,), name="p9"), ["shape rule", "2.5"]),
        (primitive(smooth_, reverse=smooth_back, shape=lambda x: None, name="p0"), ["shape rule", "None"]),
    ],
    ids=lambda p: p.name if hasattr(p, "name") else "",
)
def test_functions_that_cannot_be_used(p, words, call):
    with expect.error(TypeError, *words):
        call(p, X)


@numba.njit
def fill(x):
    x[0] = 1.0


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (primitive(sigmoid_, partials=(lambda x: unknown(x),), name="q1"), ["unknown", "partial dx", "q1"]),  # noqa: F821
        (primitive(sigmoid_, partials=(lambda x: "no",), name="q2"), ["partial dx", "q2", "real number"]),
        (primitive(smooth_, reverse=lambda d, z, x, dx: fill(d), name="q3"), ["reverse rule", "q3", "read-only"]),
        (primitive(smooth_, reverse=lambda d, z, x, dx: fill(x), name="q4"), ["reverse rule", "q4", "read-only"]),
        (primitive(smooth_, reverse=lambda d, z, x, dx: fill(z), name="q5"), ["reverse rule", "q5", "read-only"]),
    ],
    ids=lambda p: p.name if hasattr(p, "name") else "",
)
def test_rules_that_cannot_be_used(p, words):
    assert p(X).shape == X.shape
    with expect.error(TypeError, *words):
        traced(p, X)


@pytest.mark.parametrize("call", [lambda p, x: p(x), traced], ids=["arrays", "traced"])
@pytest.mark.parametrize("p", [sigmoid, smooth], ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("x", "word"), [(np.arange(3), "int64"), (np.ones(3) * 1j, "complex128"), (np.ones(3, bool), "bool")]
)
def test_operands_of_other_dtypes(x, word, p, call):
    given = (lambda y: p(x) * y) if call is traced else p
    with expect.error(TypeError, p.name, word):
        call(given, X[:3] if call is traced else x)


def test_traced_integers_are_refused():
    with expect.error(TypeError, "sigmoid", "int64"):
        tapead.grad(lambda x, k: np.sum(sigmoid(k + 1)) * x)(1.0, np.arange(3))


def test_the_number_of_operands():
    with expect.error(TypeError, "length", "2 operands", "got 1"):
        length(X)
    with expect.error(TypeError, "length", "got 3"):
        traced(lambda x: length(x, x, x), X)


def test_shapes_that_do_not_broadcast():
    with expect.error(ValueError, "length", "broadcast"):
        length(np.ones(3), np.ones(4))

    def f(x):
        return np.sum(length(x, np.ones(4)))

    with expect.error(ValueError, "length", r"\(3,\)", line=(f, "length(x")):
        tapead.grad(f)(np.ones(3))


def test_what_a_function_raises_is_an_error():
    """In the sweeps, too: never a number instead."""

    def checked(x):
        if x > 1:
            raise ValueError("too large")
        return x * x

    p = primitive(checked, partials=(lambda x: 2 * x,))

    def f(x):
        return np.sum(p(x))

    vg = tapead.value_and_grad(f)
    np.testing.assert_array_equal(vg(X / 5)[1], 2 * X / 5)
    with expect.error(ValueError, "checked", "raised"):
        p(X)
    with expect.error(ValueError, "checked", "raised", line=(f, "p(x)")):
        vg(X)
    np.testing.assert_array_equal(vg(X / 5)[1], 2 * X / 5)
    back = primitive(sigmoid_, partials=(lambda x, z: checked(z * 3),), name="back")
    jitted = primitive(sigmoid_, partials=(numba_checked,), name="jitted")
    with expect.error(TypeError, "checked"):  # a function of Python's, which numba does not know
        traced(back, X)
    with expect.error(ValueError, "jitted", "raised"):
        traced(jitted, X)
    bounds = primitive(numba.njit(boundscheck=True)(lambda out, x: out_of(out, x)), reverse=smooth_back, name="bounds")
    with expect.error(ValueError, "bounds", "raised"):
        bounds(X)


def test_what_is_raised_in_threads_without_the_interpreter_lock():
    p = primitive(numba_square, partials=(lambda x: 2 * x,), name="squared")
    vg = tapead.value_and_grad(lambda x: np.sum(p(x)))
    x = np.linspace(0.0, 0.9, 20_000)
    vg(x)
    found = []

    def run():
        for _ in range(20):
            with pytest.raises(ValueError, match="squared raised"):
                vg(2 * x)
            found.append(np.array_equal(vg(x)[1], 2 * x))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


@numba.njit
def numba_square(x):
    if x > 1:
        raise ValueError("too large")
    return x * x


@numba.njit
def numba_checked(x, z):
    if z > 0.5:
        raise ValueError("too large")
    return z


@numba.njit(boundscheck=True)
def out_of(out, x):
    out[x.size] = 1.0


# ---- the check is checked ------------------------------------------------------------------------------------


def wrong(x):
    return x * x


@numba.njit
def assigned_back(d, out, x, dx):
    for i in range(x.size):
        dx[i] = 0.0
    smooth_back(d, out, x, dx)


@pytest.mark.parametrize(
    ("p", "operands", "words"),
    [
        (primitive(wrong, partials=(lambda x: 2.001 * x,)), (X,), ["gradient", "wrong", "direction"]),
        (primitive(wrong, partials=(lambda x: 2 * x,), numpy=lambda x: x**3), (X,), ["value against numpy="]),
        (
            primitive(wrong, partials=(primitive(lambda x: 2 * x, partials=(lambda x: 2.01,), name="w"),), name="w2"),
            (X,),
            ["second order", "w2"],
        ),
        (
            primitive(
                lambda x, y: x * y, partials=(lambda x, y: y, lambda x, y: x if x > 0.6 else 0.9 * x), name="second"
            ),
            (POSITIVE, POSITIVE),
            ["gradient"],
        ),
        (primitive(smooth_, reverse=assigned_back, name="assigned"), (X,), ["added up", "operand 1"]),
        (
            primitive(smooth_, reverse=smooth_back, tangent=lambda t, z, x, dx: smooth_(t, x), name="tangent of x"),
            (X,),
            ["<v, J u>"],
        ),
        (
            primitive(smooth_, reverse=lambda d, z, x, dx: smooth_(dx, d), name="not transposed"),
            (X,),
            ["gradient", "not transposed"],
        ),
        (
            primitive(lambda x: x * x if x < 1e-4 or x > 2e-4 else 0.0, partials=(lambda x: 2 * x,), name="moved"),
            (np.full(50, 0.99995e-4),),
            ["replay|gradient"],
        ),
        (
            primitive(lambda x: (x + 1e8) - 1e8, partials=(lambda x: 1.0,), name="single"),
            (X,),
            ["float32|numpy|gradient"],
        ),
        (
            primitive(
                apply, reverse=apply_back, tangent=lambda t, z, a, x, ta, tx: apply(t, a, tx), shape=rows, name="half"
            ),
            (A, V),
            ["<v, J u>"],
        ),
    ],
    ids=lambda p: p.name if hasattr(p, "name") else "",
)
def test_the_check_finds_what_is_wrong(p, operands, words):
    with expect.error(CheckError, p.name, *words):
        check_primitive(p, *operands)


def test_the_check_refuses():
    with expect.error(TypeError, "check_primitive", "ufunc"):
        check_primitive(np.sin, X)
    with expect.error(TypeError, "check_primitive", "int64"):
        check_primitive(sigmoid, np.arange(3))
