"""numerical_grad against closed forms, and what check_grads accepts."""

from collections import namedtuple

import expect
import numpy as np
import pytest

import tapead
from tapead import check_grads, numerical_grad

X = np.array([0.3, -1.2, 2.5])
TOLERANCE = {
    ("forward", np.float64): 1e-6,
    ("central", np.float64): 1e-8,
    ("forward", np.float32): 1e-2,
    ("central", np.float32): 1e-3,
    ("complex", np.float64): 1e-15,
    ("complex", np.float32): 1e-6,
}
METHODS = ("forward", "central", "complex")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", METHODS)
def test_numerical_grad_of_closed_forms(method, dtype):
    tolerance = TOLERANCE[method, dtype]
    x = X.astype(dtype)
    gradient = numerical_grad(lambda x: np.sum(np.sin(x) * x), x, method=method)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, np.cos(X) * X + np.sin(X), atol=tolerance)


@pytest.mark.parametrize("method", ["forward", "central"])
def test_the_step_is_relative_for_large_components(method):
    x = np.array([1e6, 1e-3])
    gradient = numerical_grad(lambda x: x[0] ** 2 + np.sin(x[1]), x, method=method)
    np.testing.assert_allclose(gradient[0], 2e6, rtol=1e-7)
    # f is about 1e12 here: what the small component does is lost in the rounding of f, whatever the step.
    gradient = numerical_grad(lambda x: x[0] + np.sin(x[1]), x, method=method)
    np.testing.assert_allclose(gradient, [1.0, np.cos(1e-3)], rtol=1e-2)


def test_eps_is_the_step():
    # (f(2.5) - f(2)) / 0.5 and (f(2.5) - f(1.5)) / 1 of the cube.
    assert numerical_grad(lambda x: x**3, 2.0, method="forward", eps=0.5) == pytest.approx(15.25)
    assert numerical_grad(lambda x: x**3, 2.0, method="central", eps=0.5) == pytest.approx(12.25)


def test_the_order_of_the_error():
    """Halving the step halves the error of forward differences and quarters that of central ones."""
    for method, factor in (("forward", 2.0), ("central", 4.0)):
        wrong = [abs(numerical_grad(np.exp, 0.0, method=method, eps=h) - 1.0) for h in (1e-2, 5e-3)]
        assert wrong[0] / wrong[1] == pytest.approx(factor, rel=0.01)


def test_numerical_grad_keeps_the_structure():
    Pair = namedtuple("Pair", "w b")
    x = {"p": Pair(np.ones((2, 3)), 0.5), "q": [np.float32(2.0), None, (np.array(3.0),)]}

    def f(x):
        return np.sum(x["p"].w ** 2) * x["p"].b + x["q"][0] * x["q"][2][0]

    gradient = numerical_grad(f, x)
    assert type(gradient["p"]) is Pair
    assert gradient["q"][1] is None
    np.testing.assert_allclose(gradient["p"].w, np.ones((2, 3)), atol=1e-8)
    assert gradient["p"].b == pytest.approx(6.0)
    assert gradient["q"][0] == pytest.approx(3.0, rel=1e-3)
    assert gradient["q"][0].dtype == np.float32
    assert gradient["q"][2][0] == pytest.approx(2.0)


#: functions and their slopes, element by element
CLOSED = [
    (lambda x: np.sum(np.exp(x)), np.exp),
    (lambda x: np.sum(np.log(x * x + 1)), lambda x: 2 * x / (x * x + 1)),
    (lambda x: np.sum(x**3), lambda x: 3 * x**2),
    (lambda x: np.sum(np.sin(10 * x)), lambda x: 10 * np.cos(10 * x)),
    (lambda x: 1e6 + np.sum(np.sin(x)), np.cos),
    (lambda x: np.sum(1 / (1 + np.exp(-x))), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
    (lambda x: np.sum(2 * x), lambda x: np.full_like(x, 2.0)),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", range(len(CLOSED)))
def test_the_error_is_estimated(case, method, dtype):
    """The true error is at most three times the estimate, and the estimate, at its largest, is not far above it."""
    f, slope = CLOSED[case]
    x = np.array([0.3, -1.2, 2.5, 7.0, 0.01]).astype(dtype)
    gradient, error = numerical_grad(f, x, method=method, with_error=True)
    np.testing.assert_array_equal(gradient, numerical_grad(f, x, method=method))
    assert error.shape == x.shape
    assert error.dtype == dtype
    true = np.abs(gradient.astype(float) - slope(x.astype(float)))
    assert (true <= 3 * error.astype(float)).all()
    assert np.max(error) <= 1e3 * np.max(true) + 20 * np.finfo(dtype).eps * np.max(np.abs(gradient))


def test_the_estimate_grows_with_the_step():
    for method in ("forward", "central"):
        errors = [numerical_grad(np.exp, 0.5, method=method, eps=h, with_error=True) for h in (1e-1, 1e-2)]
        for gradient, error in errors:
            assert abs(gradient - np.exp(0.5)) <= 3 * error
        assert errors[0][1] > 5 * errors[1][1]


def test_errors_have_the_structure():
    gradient, error = numerical_grad(lambda p: np.sum(p["a"] ** 2) * p["b"], {"a": X, "b": 0.5}, with_error=True)
    assert error.keys() == gradient.keys()
    assert error["a"].shape == X.shape
    assert np.ndim(error["b"]) == 0


@pytest.mark.parametrize("x", [1e-30, 1e-200, 1e200, 3.0, -5.0])
def test_the_complex_step_is_exact_for_numbers_large_and_small(x):
    assert numerical_grad(lambda x: 3 * x + 1, x, method="complex") == pytest.approx(3.0, rel=1e-15)
    assert numerical_grad(lambda x: x / 7, x, method="complex") == pytest.approx(1 / 7)


def test_the_complex_step_keeps_structure_and_count():
    calls = []

    def f(p):
        calls.append(p)
        return np.sum(np.exp(p["w"]) * p["b"])

    p = {"w": np.arange(6.0).reshape(2, 3), "b": np.float32(0.5)}
    gradient = numerical_grad(f, p, method="complex")
    np.testing.assert_allclose(gradient["w"], 0.5 * np.exp(p["w"]), rtol=1e-15)
    assert gradient["b"].dtype == np.float32
    assert gradient["b"] == pytest.approx(np.sum(np.exp(p["w"])), rel=1e-6)
    assert len(calls) == 7 + 4


def test_eps_is_the_complex_step():
    # Im (2 + i h)³ / h = 12 - h²
    assert numerical_grad(lambda x: x**3, 2.0, method="complex", eps=0.5) == pytest.approx(11.75)


def halved(x):
    y = np.zeros(len(x))
    y[:] = x / 2
    return np.sum(y)


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: np.sum(np.abs(x)), ["imaginary", "central"]),
        (lambda x: np.sum(x.real), ["imaginary"]),
        (lambda x: np.linalg.norm(x), ["imaginary"]),
        (lambda x: 1.0, ["depend"]),
        (lambda x: float(x[0]), ["imaginary"]),
        (halved, ["imaginary"]),
        (lambda x: np.sum(np.abs(x)) + np.sum(x), ["imaginary", "differences"]),
        (lambda x: np.sum(np.conj(x) * x), ["imaginary", "differences"]),
        (lambda x: np.sum(np.floor(x)), ["cannot take"]),
        (lambda x: np.sum(np.sign(x) * x), ["imaginary"]),
    ],
)
def test_the_complex_step_refuses_what_is_not_analytic(f, words):
    with expect.error(TypeError, "complex", *words):
        numerical_grad(f, X, method="complex")


def test_the_complex_step_passes_what_only_looks_wild():
    """Steps that are too long for differences say so themselves."""
    gradient = numerical_grad(lambda x: np.sum(np.sin(1e5 * x)), X, method="complex")
    np.testing.assert_allclose(gradient, 1e5 * np.cos(1e5 * X), rtol=1e-10)
    assert numerical_grad(lambda x: 1e12 + x, 1.0, method="complex") == 1.0


def test_numerical_grad_leaves_its_argument_alone():
    x = X.copy()
    seen = []

    def f(x):
        seen.append(x)
        x *= 2
        return np.sum(x)

    numerical_grad(f, x)
    np.testing.assert_array_equal(x, X)
    assert all(array is not x for array in seen)


def test_any_layout_and_no_element():
    x = np.arange(12.0).reshape(3, 4).T[::2]
    np.testing.assert_allclose(numerical_grad(lambda x: np.sum(x**2), x), 2 * x, atol=1e-7)
    assert numerical_grad(lambda x: 1.0, np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("f", "x", "kind", "word"),
    [
        (np.sum, np.array([1, 2]), TypeError, "int"),
        (np.sum, 3, TypeError, "int"),
        (np.sum, "three", TypeError, "str"),
        (np.sum, np.array([1j]), TypeError, "complex"),
        (np.sum, np.array([None]), TypeError, "object"),
        (lambda x: x, X, ValueError, r"\(3,\)"),
        (lambda x: None, X, TypeError, "None"),
        (lambda x: "one", X, TypeError, "str"),
        (lambda x: np.sum(x) * 1j, X, TypeError, "complex"),
    ],
)
def test_numerical_grad_refuses(f, x, kind, word):
    with expect.error(kind, word):
        numerical_grad(f, x)


@pytest.mark.parametrize("eps", [0, -1e-3, np.inf, np.nan, "small"])
def test_a_step_is_positive(eps):
    with expect.error(ValueError, "eps"):
        numerical_grad(np.sum, X, eps=eps)
    with expect.error(ValueError, "eps"):
        check_grads(np.sum, (X,), eps=eps)


def test_unknown_method():
    with expect.error(ValueError, "backward", "forward", "central", "complex"):
        numerical_grad(np.sum, X, method="backward")


@pytest.mark.parametrize(
    ("args", "settings", "kind", "word"),
    [
        (X, {}, TypeError, "tuple"),
        ([X], {}, TypeError, "tuple"),
        ((), {}, TypeError, "float"),
        ((3,), {}, TypeError, "float"),
        ((np.array([1, 2]), "a", None), {}, TypeError, "float"),
        ((X,), {"order": 0}, ValueError, "order"),
        ((X,), {"order": 1.5}, ValueError, "order"),
        ((X,), {"order": -1}, ValueError, "order"),
        ((X,), {"directions": 0}, ValueError, "directions"),
        ((X,), {"modes": ("fwd", "reverse")}, ValueError, "modes"),
        ((X,), {"modes": "forward"}, ValueError, "modes"),
        ((X,), {"modes": ()}, ValueError, "modes"),
        ((X,), {"modes": None}, ValueError, "modes"),
        ((X,), {"argnums": 1}, ValueError, "argnums"),
        ((X,), {"argnums": "x"}, ValueError, "argnums"),
    ],
)
def test_check_grads_refuses(args, settings, kind, word):
    with expect.error(kind, word):
        check_grads(np.sum, args, **settings)


def test_check_grads_refuses_what_is_no_scalar_function():
    with pytest.raises((TypeError, ValueError), match=r"\(3,\)"):
        check_grads(np.sin, (X,))


def test_check_error_is_a_tapead_error():
    assert issubclass(tapead.check.CheckError, tapead.TapeadError)
    assert issubclass(tapead.check.CheckError, AssertionError)
