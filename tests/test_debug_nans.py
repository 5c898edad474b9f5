"""debug_nans: what is not finite raises where it arises, and everything else is as without it."""

import gc
import inspect
import re
import threading

import numpy as np
import pytest

import tapead
from tapead import debug_nans, grad, value_and_grad
from tapead.finite import watching
from tapead.record import live_recordings

X = np.array([0.5, 1.0, 2.0])
ZERO = np.array([0.0, 4.0])
A = np.array([[2.0, 0.3, 0.1], [0.3, 1.5, 0.2], [0.1, 0.2, 1.0]])


@pytest.fixture(autouse=True)
def switched_off():
    """Every test begins and ends with the switch off, and with no tape left open."""
    assert not watching()
    yield
    assert not watching()
    assert not live_recordings()


def line_of(function, piece):
    """Give the number of the line of a function that holds a piece of text."""
    lines, first = inspect.getsourcelines(function)
    (found,) = [first + k for k, line in enumerate(lines) if piece in line]
    return found


def found(run, *words, line=None, infinite=True):
    """Assert that a run raises with the switch on, saying all words, and the number of a line; give the message."""
    with debug_nans(infinite=infinite), pytest.raises(FloatingPointError) as caught:
        run()
    assert isinstance(caught.value, tapead.TapeadError)
    text = str(caught.value)
    for word in words:
        assert re.search(word, text), f"{word} is not in: {text}"
    if line is not None:
        assert f"{__file__}:{line}," in text
    return caught


# ---- values ----------------------------------------------------------------------------------------------------------


def logs(x):
    y = 2.0 * x
    z = np.log(y)
    return np.sum(z)


def test_a_value_names_op_line_and_ranges():
    caught = found(
        lambda: grad(logs)(np.array([1.0, -1.0, 0.5])),
        r"log, recorded at .* in logs, is not finite: float64 of shape \(3,\), 1 of 3 NaN, the others from 0\.0 to 0\.69",
        r"operand 1 of log: float64 of shape \(3,\), from -2\.0 to 2\.0",
        line=line_of(logs, "np.log"),
    )
    trail = [(entry.frame.code.name, entry.lineno + 1) for entry in caught.traceback]
    assert ("logs", line_of(logs, "np.log")) in trail  # the live line of the user's


def test_infinities_count_unless_they_are_let_pass():
    f = lambda x: np.sum(np.exp(-np.exp(x)))  # noqa: E731
    x = np.array([1.0, 800.0])
    found(lambda: grad(f)(x), "exp, recorded", "1 of 2 inf", r"infinite=False\) lets infinities pass")
    with debug_nans(infinite=False):
        gradient = grad(f)(x)
    np.testing.assert_allclose(gradient, grad(f)(x))
    found(lambda: grad(lambda x: np.sum(np.exp(x) - np.exp(x)))(x), "subtract", "1 of 2 NaN", infinite=False)


def test_a_value_that_is_not_chosen_is_reported():
    f = lambda x: np.sum(np.where(x > 0, np.log(x), 0.0))  # noqa: E731
    found(lambda: grad(f)(np.array([1.0, -1.0])), "log, recorded", "from -1.0 to 1.0")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: grad(np.sum)(np.array([1.0, np.nan])), r"args\[0\] is not finite.*1 of 2 NaN"),
        (lambda: grad(lambda p: np.sum(p["w"][1]))({"w": [1.0, np.array([np.inf])]}), r"args\[0\]\['w'\]\[1\] is"),
        (lambda: grad(lambda x, y=0.0: x * y)(1.0, y=np.nan), r"kwargs\['y'\] is not finite: float64 nan"),
        (lambda: tapead.hessian(np.sum)(np.array([np.nan])), r"args\[0\] is not finite"),
        (lambda: tapead.vjp(np.sin, np.array([np.nan])), r"args\[0\] is not finite"),
    ],
)
def test_an_argument_is_named_by_its_path(call, name):
    found(call, name)


def test_a_constant_shows_among_the_operands():
    weights = np.array([1.0, np.nan, 1.0])
    found(lambda: grad(lambda x: np.sum(x * weights))(X), "multiply", "constant operand 2 of multiply: .* 1 of 3 NaN")


def assigned(x):
    y = tapead.numpy.zeros(4, np.float32)
    y[1:] = x
    return np.sum(y)


def scattered(x):
    y = tapead.numpy.zeros(3)
    y[[0, 2]] = x[:2]
    y[[1, 2]] = weights_with_nan
    return np.sum(y * x)


def updated(x):
    y = x.copy()
    y /= x - 1.0
    return np.sum(y)


weights_with_nan = np.array([1.0, np.nan])


def test_assignments_are_looked_at():
    found(lambda: grad(assigned)(np.array([1.0, 1e200, 1.0])), "1 of . inf", line=line_of(assigned, "y[1:]"))
    found(lambda: grad(scattered)(X), "1 of . NaN", line=line_of(scattered, "y[[1, 2]]"))
    found(lambda: grad(updated)(X), "divide", "1 of 3 inf", line=line_of(updated, "y /="))


def test_float32():
    x = np.array([1.0, 100.0], np.float32)
    found(lambda: grad(lambda x: np.sum(np.exp(x)))(x), "exp, recorded.* float32 of shape", "1 of 2 inf")


@pytest.mark.parametrize(
    ("f", "x", "op"),
    [
        (lambda a: np.sum(a @ a), A * 1e200, "matmul"),
        (lambda a: np.sum(np.linalg.inv(a) * 1e10), A * 1e-305, "inverse|inv|solve|multiply"),
        (lambda a: np.prod(a), A * 1e200, "prod"),
        (lambda a: np.sum(np.cumsum(a)), np.full(3, 1e308), "cumsum"),
        (lambda a: np.sum(a), np.full(3, 1e308), "sum"),
        (lambda a: np.linalg.norm(a) ** 2, A * 1e200, "square"),
    ],
)
def test_structural_ops(f, x, op):
    found(lambda: grad(f)(x), f"^({op}), recorded at .* in <lambda>", "operand 1 of")


# ---- derivatives -----------------------------------------------------------------------------------------------------


def roots(x):
    y = np.sqrt(x)
    return np.sum(2.0 * y)


def weighed(x, seed):
    return np.sum(roots(x) * seed)


DERIVATIVES = {
    "grad": (lambda x: grad(roots)(x), "the adjoint of sqrt"),
    "value_and_grad with out=": (lambda x: value_and_grad(roots)(x, out=np.empty(2)), "the adjoint of sqrt"),
    "jvp": (lambda x: tapead.jvp(roots, (x,), (np.ones(2),)), "the tangent of sqrt"),
    "linearize": (lambda x: tapead.linearize(roots, x)[1](np.ones(2)), "the tangent of sqrt"),
    "vjp": (lambda x: tapead.vjp(roots, x)[1](1.0), "the adjoint of sqrt"),
    "jacfwd": (lambda x: tapead.jacfwd(roots)(x), "the columns of the tangent of sqrt"),
    "jacrev": (lambda x: tapead.jacrev(roots)(x), "the (columns of the )?adjoint of sqrt"),
    "within": (lambda x: grad(lambda x: np.sum(x * grad(roots)(x)))(x), "the adjoint of sqrt"),
    "hessian": (lambda x: tapead.hessian(roots)(x), "the adjoint of sqrt"),
    "hvp": (lambda x: tapead.hvp(roots, (x,), (np.ones(2),)), "the tangent of sqrt"),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_a_derivative_names_the_line_of_its_op(name):
    run, words = DERIVATIVES[name]
    found(
        lambda: run(ZERO),
        rf"{words}, recorded at .* in roots, is not finite: .* 1 of . inf",
        r"operand 1 of sqrt: float64 of shape \(2,\), from 0.0 to 4.0",
        line=line_of(roots, "np.sqrt"),
    )
    with debug_nans():
        run(ZERO + 1.0)


def test_the_adjoint_that_came_in_is_shown():
    found(lambda: grad(roots)(ZERO), r"adjoint of result 1: float64 of shape \(2,\), all 2.0")
    found(lambda: tapead.jvp(roots, (ZERO,), (X[1:],)), r"tangent of operand 1: .* from 1.0 to 2.0")


def power(x):
    return np.sum(x**1.5)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (tapead.hessian(power), "the columns of the tangent of the adjoint of power"),
        (lambda x: tapead.hvp(power, (x,), (np.ones(2),)), "the adjoint of the tangent of power"),
        (tapead.hessian_diag(power), "the columns of the tangent of the tangent of power"),
        (lambda x: grad(lambda x: np.sum(grad(power)(x)))(x), "the adjoint of the adjoint of power"),
    ],
)
def test_derivatives_of_second_order(run, words):
    """The gradient of x**1.5 at 0 is 0; its slope is not finite."""
    with debug_nans():
        np.testing.assert_allclose(grad(power)(ZERO), [0.0, 3.0])
    found(lambda: run(ZERO), f"{words}, recorded at", r"operand 1 of power", line=line_of(power, "x**1.5"))


def test_an_adjoint_of_zero_contributes_zero():
    f = lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))  # noqa: E731
    with debug_nans():
        np.testing.assert_array_equal(grad(f)(ZERO), [0.0, 0.25])


def in_place_roots(x):
    y = tapead.numpy.zeros(2)
    y[0] = 1.0
    y[:] = np.sqrt(x)
    y[1] = y[1] * 3.0
    return np.sum(y)


def test_derivatives_through_memory():
    line = line_of(in_place_roots, "np.sqrt")
    found(lambda: grad(in_place_roots)(ZERO), "the adjoint of sqrt", line=line)
    found(lambda: tapead.jvp(in_place_roots, (ZERO,), (np.ones(2),)), "the tangent of sqrt", line=line)
    found(lambda: tapead.jacfwd(in_place_roots)(ZERO), "the columns of the tangent of sqrt", line=line)


def test_an_adjoint_that_is_too_large():
    f = lambda x: np.sum(x * 1e200) * 1e200  # noqa: E731
    found(lambda: grad(f)(np.zeros(2)), "the adjoint of multiply", r"constant operand 2 of multiply: float64 1e\+200")


def test_linear_maps_check_what_they_are_given():
    with debug_nans():
        _, pullback = tapead.vjp(lambda x: {"y": 2.0 * x}, X)
        _, linear = tapead.linearize(lambda x: 2.0 * x, X)
        with pytest.raises(FloatingPointError, match=r"the cotangent\['y'\] is not finite"):
            pullback({"y": np.array([1.0, np.nan, 1.0])})
        with pytest.raises(FloatingPointError, match=r"the tangent\[0\] is not finite"):
            linear(np.array([1.0, np.nan, 1.0]))
        with pytest.raises(ValueError, match="shape"):
            linear(np.ones(2))


def test_maps_are_looked_into_if_they_were_made_with_the_switch_on():
    _, early = tapead.vjp(roots, ZERO)
    found(lambda: early(1.0), "linear map", "made before debug_nans was switched on")
    x = ZERO.copy()
    with debug_nans():
        _, late = tapead.vjp(roots, x)
        x[:] = 1.0  # the map is one at the point as it was
        with pytest.raises(FloatingPointError, match="the adjoint of sqrt"):
            late(1.0)
    np.testing.assert_array_equal(late(1.0)[0], [np.inf, 0.5])


# ---- Tape ------------------------------------------------------------------------------------------------------------


def test_tape():
    with debug_nans():
        with tapead.Tape() as tape:
            x = tape.variable(ZERO)
            y = np.sqrt(x)
            z = np.sum(y * y)
        listed = str(tape)
        with pytest.raises(FloatingPointError, match="the adjoint of sqrt, recorded"):
            tape.backward(y, np.ones(2))
        assert str(tape) == listed
        tape.backward(y, np.array([0.0, 1.0]))
        np.testing.assert_array_equal(x.grad, [0.0, 0.25])
        tape.backward(z)
        np.testing.assert_array_equal(x.grad, [0.0, 1.0])
        with tapead.Tape() as tape:
            x = tape.variable(-ZERO)
            with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="sqrt, recorded"):
                np.sqrt(x)
            with pytest.raises(FloatingPointError, match="variable 1 is not finite"):
                tape.variable(np.nan)


def test_tape_that_is_written_to_after_backward():
    with debug_nans(), tapead.Tape() as tape:
        x = tape.variable(X)
        y = x * 1.0
        y[0] = x[1] * x[2]
        tape.backward(np.sum(y))
        np.testing.assert_array_equal(x.grad, [0.0, 1.0 + 2.0, 1.0 + 1.0])
        y[1] = y[0] * x[0]
        tape.backward(np.sum(y))
        np.testing.assert_array_equal(x.grad, [2.0, 2.0 * 1.5, 1.0 + 1.5])


def test_tape_opened_before():
    with tapead.Tape() as tape:
        x = tape.variable(ZERO)
        y = np.sum(np.sqrt(x))
    found(lambda: tape.backward(y), "the gradient by variable 0 is not finite", "off when the tape was opened")


def test_tape_refuses_rules_as_without_the_switch():
    twice = tapead.custom_vjp(lambda x: 2.0 * x)
    twice.defvjp(lambda x: (2.0 * x, None), lambda _, d: (2.0 * d,))
    with debug_nans(), tapead.Tape() as tape, pytest.raises(NotImplementedError, match=r"tapead\.Tape cannot use"):
        twice(tape.variable(1.0))


# ---- rules of the user's, primitives ---------------------------------------------------------------------------------


@tapead.custom_vjp
def halved(x):
    return x / 2.0


def halved_backward(x, d):
    return (d / (2.0 * x) * x,)


halved.defvjp(lambda x: (x / 2.0, x), halved_backward)


@tapead.custom_jvp
def doubled(x):
    return 2.0 * x


def doubled_rule(primals, tangents):
    return doubled(*primals), np.log(primals[0]) * tangents[0]


doubled.defjvp(doubled_rule)


def test_rules_are_looked_into():
    line = line_of(halved_backward, "d / (2.0")
    found(lambda: grad(lambda x: np.sum(halved(x)))(ZERO), "divide, recorded at .* in halved_backward", line=line)
    line = line_of(doubled_rule, "np.log")
    found(lambda: tapead.jvp(doubled, (ZERO,), (ZERO,)), "log, recorded at .* in doubled_rule", line=line)
    found(lambda: grad(lambda x: np.sum(doubled(x)))(ZERO), "adjoint of multiply, .* in doubled_rule", line=line)
    with debug_nans():
        np.testing.assert_array_equal(grad(lambda x: np.sum(halved(x)))(X), [0.5, 0.5, 0.5])
        np.testing.assert_allclose(grad(lambda x: np.sum(doubled(x)))(X), np.log(X))
        np.testing.assert_allclose(tapead.jvp(doubled, (X,), (X,))[1], np.log(X) * X)


def test_checkpoints():
    f = tapead.checkpoint(roots)
    found(lambda: grad(lambda x: 3.0 * f(x))(ZERO), "the adjoint of sqrt", line=line_of(roots, "np.sqrt"))
    with debug_nans():
        np.testing.assert_allclose(grad(lambda x: 3.0 * f(x))(X), 3.0 / np.sqrt(X))


def test_primitives():
    root = tapead.primitive(lambda x: x**0.5, partials=(lambda x, z: 0.5 / z,), name="root_of_one")
    with debug_nans():
        np.testing.assert_allclose(grad(lambda x: np.sum(root(x)))(X), 0.5 / np.sqrt(X))
        np.testing.assert_array_equal(grad(lambda x: np.sum(np.where(x > 0, root(x), 0.0)))(ZERO), [0.0, 0.25])
    found(lambda: grad(lambda x: np.sum(root(x)))(ZERO), "the adjoint of root_of_one")
    found(lambda: grad(lambda x: np.sum(root(x)))(-X), "root_of_one, recorded", "3 of 3 NaN")


def test_primitives_of_arrays():
    def value(out, x):
        for i in range(x.size):
            out[i] = 2.0 * x[i]

    def reverse(d, out, x, dx):
        for i in range(x.size):
            dx[i] += 2.0 * d[i] / (x[i] * x[i]) * (x[i] * x[i])

    twice = tapead.primitive(value, reverse=reverse, name="twice_of_arrays")
    with debug_nans():
        np.testing.assert_allclose(grad(lambda x: np.sum(twice(x)))(X), [2.0, 2.0, 2.0])
    found(lambda: grad(lambda x: np.sum(twice(x)))(ZERO), "the adjoint of twice_of_arrays", "1 of 2 NaN")


def test_a_gradient_that_cannot_be_written_is_swept():
    """The tape's rule for det needs an inverse; the sweeps do not."""
    a = np.ones((3, 3))
    with debug_nans():
        np.testing.assert_allclose(grad(np.linalg.det)(a), np.zeros((3, 3)), atol=1e-12)
    f = lambda a: np.sum(np.sqrt(a[0])) + np.linalg.det(a)  # noqa: E731
    singular = np.array([[0.0, 1.0], [0.0, 1.0]])
    found(lambda: grad(f)(singular), "gradient 0 of <lambda> is not finite", "cannot be written .* [Ss]ingular")


# ---- as without it ---------------------------------------------------------------------------------------------------


def network(p, x):
    h = np.tanh(x @ p["w"] + p["b"])
    y = tapead.numpy.zeros(h.shape)
    y[:, ::2] = h[:, ::2]
    if np.sum(h) > 0.0:
        y[:, 1] = h[:, 1] ** 2
    return np.mean(y**2) + 0.1 * np.linalg.norm(p["w"]), {"h": h, "n": 3}


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for key in tree for leaf in leaves(tree[key])]
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, list | tuple) else [tree]


def same(run):
    """Assert that a run gives the same with the switch on: numbers, types, shapes, dtypes."""
    expected = run()
    with debug_nans():
        got = run()
    assert str(type(got)) == str(type(expected))
    pairs = list(zip(leaves(got), leaves(expected), strict=True))
    for x, y in pairs:
        assert type(x) is type(y)
        assert getattr(x, "dtype", None) == getattr(y, "dtype", None)
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-14)
    assert pairs


P = {"w": np.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": np.array([0.1, -0.2, 0.3, 0.0])}
B = np.linspace(-1.0, 2.0, 15).reshape(5, 3)
scalar = lambda x: np.sum(np.sin(x) * x) / (1.0 + x[0] ** 2)  # noqa: E731
SAME = {
    "has_aux": lambda: value_and_grad(network, has_aux=True)(P, B),
    "argnums": lambda: grad(lambda x, y: np.sum(x * y), argnums=(1, 0))(X, X + 1.0),
    "names": lambda: grad(lambda x, k=2: np.sum(x**k))(X, k=3),
    "numbers": lambda: value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, np.float32(3.0)),
    "arrays without axes": lambda: value_and_grad(lambda x: x * x)(np.array(2.0)),
    "float32": lambda: value_and_grad(lambda x: np.sum(x * np.float32(2.0)))(X.astype(np.float32)),
    "jvp": lambda: tapead.jvp(scalar, (X,), (X,)),
    "jvp with aux": lambda: tapead.jvp(lambda x: network(P, x), (B,), (B,), has_aux=True),
    "vjp": lambda: tapead.vjp(np.sin, X)[1](X),
    "vjp value": lambda: tapead.vjp(lambda x: {"y": np.sin(x), "z": 2.0 * x[0]}, X)[0],
    "vjp with aux": lambda: tapead.vjp(lambda x: network(P, x), B, has_aux=True)[2],
    "linearize": lambda: tapead.linearize(lambda x, y: (x * y, y), X, 2.0)[1](X, 1.0),
    "jacobian": lambda: tapead.jacobian(np.cumsum)(X),
    "jacrev": lambda: tapead.jacrev(lambda p: p["x"] @ p["a"])({"x": X, "a": A}),
    "hessian": lambda: tapead.hessian(scalar)(X),
    "hessian with aux": lambda: tapead.hessian(lambda x: network(P, x), has_aux=True)(B),
    "hvp": lambda: tapead.hvp(scalar, (X,), (X,)),
    "hessian_diag": lambda: tapead.hessian_diag(scalar)(X),
    "laplacian": lambda: tapead.laplacian(scalar)(X),
    "linear algebra": lambda: value_and_grad(lambda a: np.sum(np.linalg.cholesky(a) @ np.linalg.inv(a)))(A),
    "forward through cholesky": lambda: tapead.jvp(np.linalg.cholesky, (A,), (A,)),
    "closed over": lambda: grad(lambda x: grad(lambda y: x[0] * np.sum(x * y**2))(2.0))(X),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_when_all_is_finite(name):
    same(SAME[name])


def test_out_is_written_to():
    vg = value_and_grad(lambda x: np.sum(x**2))
    out = np.zeros(3)
    with debug_nans():
        _, gradient = vg(X, out=out)
        assert gradient is out
        with pytest.raises(ValueError, match="overlaps"):
            vg(X, out=X)
    np.testing.assert_array_equal(out, 2 * X)


def test_errors_are_as_without_it():
    with debug_nans():
        with pytest.raises(tapead.TapeadError, match="has no rule"):
            grad(lambda x: np.sum(np.fft.fft(x)))(X)
        with pytest.raises(TypeError, match="only float64 and float32"):
            grad(lambda x, y: x)(1, 2.0)
        with pytest.raises(np.linalg.LinAlgError, match=f"not positive definite.*{re.escape(__file__)}"):
            grad(lambda a: np.sum(np.linalg.cholesky(a)))(-A)
        with pytest.raises(TypeError, match="profile times replays"):
            tapead.profile(grad(scalar), X)
        with pytest.raises(TypeError, match="explain accounts for replays"):
            tapead.explain(grad(scalar), X)


# ---- the switch ------------------------------------------------------------------------------------------------------


def test_switch():
    assert debug_nans() is not None
    assert watching()
    debug_nans(False)
    assert not watching()


def test_the_former_state_comes_back():
    with debug_nans(infinite=False):
        with debug_nans(False):
            assert not watching()
            assert np.isnan(grad(lambda x: np.sum(np.log(x)))(np.full(2, np.nan))).all()
        with debug_nans():
            pass
        grad(np.sum)(np.array([np.inf]))  # infinities still pass
    with pytest.raises(ZeroDivisionError), debug_nans():
        raise ZeroDivisionError
    assert not watching()
    again = debug_nans()
    for _ in range(2):
        with again:
            assert watching()
        assert not watching()


@pytest.mark.parametrize("wrong", [1, None, "yes", np.sum])
def test_anything_but_true_and_false_is_refused(wrong):
    with pytest.raises(TypeError, match="True or False"):
        debug_nans(wrong)
    with pytest.raises(TypeError, match="True or False"):
        debug_nans(infinite=wrong)


WARM = {
    "grad": (lambda: grad(roots), lambda f, x: f(x)),
    "out=": (lambda: value_and_grad(roots), lambda f, x: f(x, out=np.empty(2))[1]),
    "tree": (lambda: grad(lambda p: roots(p["x"])), lambda f, x: f({"x": x})["x"]),
    "jacobian": (lambda: tapead.jacobian(roots), lambda f, x: f(x)),
    "tree of jacobian": (lambda: tapead.jacobian(lambda p: roots(p["x"])), lambda f, x: f({"x": x})["x"]),
}


@pytest.mark.parametrize("name", WARM)
def test_a_warm_function_notices(name):
    make, call = WARM[name]
    f = make()
    runs = []
    for _ in range(3):
        np.testing.assert_array_equal(call(f, ZERO), [np.inf, 0.5])
        found(lambda: call(f, ZERO), "sqrt, recorded")
        with debug_nans():
            np.testing.assert_allclose(call(f, ZERO + 1.0), [1.0, 5**-0.5])
        runs.append(f.traces_kept)
    assert runs == [1, 1, 1]


@pytest.mark.parametrize("make", [lambda: grad(scalar), lambda: tapead.jacobian(scalar)])
@pytest.mark.parametrize("called", [False, True])
def test_compiled_code_takes_the_calls_again(make, called):
    f = make()
    for _ in range(3):
        f(X)
    binding = f._binding
    with debug_nans():
        assert f._binding is not binding
        if called:
            f(X)
            assert f._binding is not binding
    f(X)
    assert f._binding is binding


def test_functions_do_not_live_longer_for_the_switch():
    f = grad(lambda x: np.sum(x**2))
    for _ in range(3):
        f(X)
    ended = []
    import weakref

    weakref.finalize(f, ended.append, True)
    del f
    gc.collect()
    assert ended
    with debug_nans():
        pass


def test_each_call_runs_the_function():
    calls = []

    def f(x):
        calls.append(1)
        return np.sum(x**2)

    g = grad(f)
    with debug_nans():
        for _ in range(3):
            g(X)
    assert len(calls) == 3
    assert g.traces_kept == 0


def test_other_threads_get_right_results_while_it_is_switched():
    shared = value_and_grad(lambda x: np.sum(np.sin(x) * x))
    tree = tapead.jacobian(lambda p: p["x"] * np.sin(p["x"][0]))
    wrong, ended = [], threading.Event()

    def work(k):
        x = np.linspace(0.1, 1.0, 5) + k
        own = grad(lambda x: np.sum(np.exp(-x)))
        slope = np.diag(np.full(5, np.sin(x[0])))
        slope[:, 0] += x * np.cos(x[0])
        try:
            while not ended.is_set():
                np.testing.assert_allclose(shared(x)[1], np.cos(x) * x + np.sin(x), rtol=1e-12)
                np.testing.assert_allclose(own(x), -np.exp(-x), rtol=1e-12)
                np.testing.assert_allclose(tree({"x": x})["x"], slope, rtol=1e-12, atol=1e-14)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        with debug_nans():
            pass
    ended.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
