"""Formulas: functions to SymPy and back, the gradient of the textbook, and what it costs."""

import subprocess
import sys

import numpy as np
import pytest
import sympy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_ops import sample

import tapead
from tapead import symbolic
from tapead.dictionary import NUMPY
from tapead.dispatch import record as do
from tapead.errors import TapeadNotImplementedError, TapeadTypeError, TapeadValueError
from tapead.interpreter import record
from tapead.kernels.table import ROWS
from tapead.nested import grad_on_tape
from tapead.operations import Operations, of_tape

DIFFERENTIABLE = [row for row in ROWS if row.differentiable]
#: rows whose partials are not the derivative of their value: no derivative is to flow through them
STOPPED = {"stop"}


def product(theta):
    p = theta[0]
    for i in range(1, len(theta)):
        p = p * theta[i]
    return p


# ---- there -------------------------------------------------------------------------------------------------------


def test_the_course_s_function():
    f = symbolic.expression(lambda x1, x2: np.log(x1) + x1 * x2 - np.sin(x2), 2.0, 5.0)
    x1, x2 = f.symbols
    assert f.expression == sympy.log(x1) + x1 * x2 - sympy.sin(x2)
    assert f.derivative(x1).expression == x2 + 1 / x1
    assert f.gradient().expression == (x2 + 1 / x1, x1 - sympy.cos(x2))
    assert f.derivative(x1, x2).expression == 1
    assert f.latex() == r"x_{1} x_{2} + \log{\left(x_{1} \right)} - \sin{\left(x_{2} \right)}"
    assert f._repr_latex_() == rf"$\displaystyle {f.latex()}$"
    assert repr(f) == "Symbolic(x1*x2 + log(x1) - sin(x2))"


def names(f):
    return str(symbolic._each(f.symbols, lambda s: s, lists=True))


@pytest.mark.parametrize(
    ("function", "arguments", "options", "expected"),
    [
        (lambda x: x, (1.0,), {}, "(x,)"),
        (lambda x: x, (np.ones(3),), {}, "([x0, x1, x2],)"),
        (lambda x1: x1, (np.ones(2),), {}, "([x1_0, x1_1],)"),
        (lambda w: w, (np.ones((2, 2)),), {}, "([[w0_0, w0_1], [w1_0, w1_1]],)"),
        (lambda p: p["a"], ({"a": 1.0, "b": np.ones(1)},), {}, "({'a': p_a, 'b': [p_b0]},)"),
        (lambda x, n: x**n, (1.0, 3), {}, "(x, 3)"),
        (lambda x, y: x * y, (1.0, 2.0), {"names": ["u", "v"]}, "(u, v)"),
        (lambda *x: x[0] * x[1], (1.0, 2.0), {}, "(x1, x2)"),
        (np.sin, (1.0,), {}, None),
    ],
)
def test_names_of_symbols(function, arguments, options, expected):
    f = symbolic.expression(function, *arguments, **options)
    if expected is None:
        assert len(f.symbols) == 1
    else:
        assert names(f) == expected
    assert all(s.is_real for s in symbolic._elements(f.symbols) if isinstance(s, sympy.Symbol))


@pytest.mark.parametrize("wrong", [["a"], ["a", 3], ["a", ""], "a"])
def test_names_that_do_not_fit(wrong):
    with pytest.raises(TapeadValueError, match="names must be 2 strings"):
        symbolic.expression(lambda x, y: x * y, 1.0, 2.0, names=wrong)


def test_names_that_meet():
    with pytest.raises(TapeadValueError, match="two symbols would be called x0"):
        symbolic.expression(lambda x, x0: x[0] * x0, np.ones(1), 2.0)


def test_arrays_and_trees():
    f = symbolic.expression(lambda x: {"outer": np.outer(x, x), "norm": np.sqrt(x @ x)}, np.ones(2))
    x0, x1 = f.symbols[0]
    assert f.expression["outer"].tolist() == [[x0**2, x0 * x1], [x0 * x1, x1**2]]
    assert f.expression["norm"] == sympy.sqrt(x0**2 + x1**2)
    assert f.derivative(x1).expression["outer"].tolist() == [[0, x0], [x0, 2 * x1]]
    assert str(f) == "{'outer': [[x0**2, x0*x1], [x0*x1, x1**2]], 'norm': sqrt(x0**2 + x1**2)}"
    assert r"\quad" in f.latex()


def test_arguments_that_are_no_symbols():
    f = symbolic.expression(lambda x, n, how: x**n if how == "power" else x, 2.0, 3, "power")
    (x, n, how) = f.symbols
    assert (n, how) == (3, "power")
    assert f.gradient().expression == 3 * x**2
    assert symbolic.function(f)(2.0, 3, "power") == 8.0
    g = symbolic.expression(lambda p: p["x"] ** p["n"], {"x": 2.0, "n": 2})
    assert g.gradient().expression == {"x": 2 * g.symbols[0]["x"], "n": 0}


def test_choices_become_formulas():
    f = symbolic.expression(lambda x, y: np.where(x < y, np.maximum(x, 0), np.minimum(x, abs(y))), 1.0, 2.0)
    x, y = f.symbols
    assert f.expression == sympy.Piecewise((sympy.Max(x, 0), x < y), (sympy.Min(x, sympy.Abs(y)), True))


def test_constants_are_exact_where_they_are_short():
    f = symbolic.expression(lambda x: 0.75 * x + 0.1 + np.deg2rad(x), 1.0)
    (x,) = f.symbols
    assert f.expression == sympy.Rational(3, 4) * x + sympy.Float("0.1") + sympy.pi * x / 180


def test_a_branch_is_that_of_the_examples():
    def branched(x):
        return x * x if x > 0 else -x

    for start, expected in ((2.0, "x**2"), (-2.0, "-x")):
        assert str(symbolic.expression(branched, start)) == expected


def test_what_cannot_be_a_formula():
    with pytest.raises(
        TapeadNotImplementedError, match=r"cholesky has no rule for numbers of SymPy, at .*test_symbolic"
    ):
        symbolic.expression(lambda a: np.linalg.cholesky(a), np.eye(2))
    with pytest.raises(TapeadNotImplementedError, match="argmax has no rule"):
        symbolic.expression(lambda x: x[np.argmax(x)], np.ones(3))
    with pytest.raises(TapeadTypeError, match="derivative could flow"):
        symbolic.expression(lambda x: float(x), 1.0)
    with pytest.raises(TapeadTypeError, match="expected a function"):
        symbolic.expression(3.0, 1.0)


def test_what_cannot_be_differentiated():
    f = symbolic.expression(lambda x: (x[0] * x[1], x[0] > 0), np.ones(2))
    with pytest.raises(TapeadTypeError, match="that of one expression"):
        f.gradient()
    with pytest.raises(TapeadTypeError, match=r"takes symbols of the formula \(x0, x1\), not 'x0'"):
        f.derivative("x0")
    with pytest.raises(TapeadTypeError, match="takes symbols"):
        f.derivative()
    with pytest.raises(TapeadTypeError, match="truth values have no derivative"):
        f.derivative(f.symbols[0][0])


# ---- every op there and back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_op_comes_back(row):
    operands = [x[:3] for x in sample(row)]
    formula = symbolic.expression(lambda *x: do(row.name, *x), *(x[0] for x in operands))
    back = symbolic.function(formula)
    np.testing.assert_allclose(
        np.asarray(back(*operands), float), np.asarray(row.numpy(*operands), float), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("row", [row for row in DIFFERENTIABLE if row.name not in STOPPED], ids=lambda row: row.name)
def test_sympy_s_derivative_is_tapead_s(row):
    operands = [x[0] for x in sample(row)]
    formula = symbolic.expression(lambda *x: do(row.name, *x), *operands)
    back = symbolic.function(formula)
    for i, (partial, symbol) in enumerate(zip(row.partials, formula.symbols, strict=True)):
        if partial is None:
            continue
        slope = tapead.grad(lambda *x: do(row.name, *x), i)(*operands)
        np.testing.assert_allclose(symbolic.function(formula.derivative(symbol))(*operands), slope, rtol=1e-12)
        np.testing.assert_allclose(tapead.grad(back, i)(*operands), slope, rtol=1e-12)


#: what random functions are made of, and the centre and radius that keep its operands in their domains
SMOOTH = [
    row for row in DIFFERENTIABLE if row.name not in ("where", "mask", "chain", "floor_divide", "remainder", "fmod")
]


def squashed(u, domain):
    low, high = domain
    return (low + high) / 2 + (high - low) / 2 * np.sin(u)


def random_function(seed):
    """Draw a function of two numbers: three ops, each of operands made before, pressed into its domain."""
    rng = np.random.default_rng(seed)
    steps = []
    for k in range(3):
        row = SMOOTH[rng.integers(len(SMOOTH))]
        steps.append((row, rng.integers(0, 2 + k, row.arity)))

    def f(x, y):
        made = [x, y]
        for row, sources in steps:
            made.append(do(row.name, *(squashed(made[s], d) for s, d in zip(sources, row.domains, strict=True))))
        return made[-1] * x + made[-2]

    return f, rng.uniform(-1, 1, 2)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
@example(2_500_800_872)  # the absolute value of what SymPy does not know to be real
def test_random_functions(seed):
    f, (x, y) = random_function(seed)
    formula = symbolic.expression(f, x, y)
    value, slopes = tapead.value_and_grad(f, (0, 1))(x, y)
    back = symbolic.function(formula)
    np.testing.assert_allclose(back(x, y), value, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(tapead.grad(back, (0, 1))(x, y), slopes, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(symbolic.function(formula.gradient())(x, y), slopes, rtol=1e-7, atol=1e-9)


def test_structured_functions_come_back():
    def loss(p, x):
        z = np.maximum(p["w"] @ x + p["b"], 0)
        return np.log(np.sum(np.exp(z))) + np.mean(np.cumsum(z) ** 2)

    rng = np.random.default_rng(2)
    p, x = {"w": rng.normal(size=(2, 3)), "b": rng.normal(size=2)}, rng.normal(size=3)
    formula = symbolic.expression(loss, p, x)
    back = symbolic.function(formula)
    np.testing.assert_allclose(back(p, x), loss(p, x))
    slopes, mine = tapead.grad(loss)(p, x), tapead.grad(back)(p, x)
    by_sympy = symbolic.function(formula.gradient())(p, x)[0]
    for name in p:
        np.testing.assert_allclose(mine[name], slopes[name], rtol=1e-12)
        np.testing.assert_allclose(by_sympy[name], slopes[name], rtol=1e-12)


# ---- back --------------------------------------------------------------------------------------------------------

x, y = sympy.symbols("x y", real=True)

#: SymPy's own functions that no op of the table becomes, or that are worth their own look
EXPRESSIONS = [
    sympy.sec(x) + sympy.csc(x) + sympy.cot(x),
    sympy.sech(x) + sympy.csch(x) + sympy.coth(x),
    sympy.Heaviside(x - y) * x,
    sympy.Mod(x, 2) + sympy.erf(y),
    sympy.pi * x + sympy.E * y + sympy.GoldenRatio + sympy.Rational(1, 3),
    x ** sympy.Rational(-1, 2) + x ** sympy.Rational(1, 3) + y**-2 + y**5 + 2**x + x**y,
    sympy.Piecewise((x, x > y), (y**2, sympy.And(y > 0, x < 3)), (1, True)),
    sympy.Piecewise((sympy.log(x - y), x > y), (sympy.log(y - x), True)),
    sympy.Max(x, y, 1) - sympy.Min(x, y, sympy.Rational(1, 2)),
    sympy.atan2(y, x) + sympy.sqrt(x**2 + y**2),
    sympy.Integer(3),
]


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_expressions_become_functions(expression):
    f = symbolic.function(expression, [x, y])
    for at in ((0.7, 1.3), (1.6, 0.4)):
        place = {x: at[0], y: at[1]}
        np.testing.assert_allclose(f(*at), float(expression.subs(place)), rtol=1e-12)
        slopes = tapead.grad(f, (0, 1))(*at)
        expected = [
            float(expression.diff(s).subs(place).doit().replace(sympy.DiracDelta, lambda u: 0))
            if not expression.has(sympy.Mod)
            else e
            for s, e in ((x, 1.0), (y, 2 / np.sqrt(np.pi) * np.exp(-(at[1] ** 2))))
        ]
        np.testing.assert_allclose(slopes, expected, rtol=1e-10, atol=1e-12)


def test_functions_act_on_arrays_element_by_element():
    f = symbolic.function(sympy.sin(x) * y, [x, y])
    a, b = np.linspace(0, 1, 6).reshape(2, 3), np.arange(3.0)
    np.testing.assert_allclose(f(a, b), np.sin(a) * b)
    np.testing.assert_allclose(tapead.grad(lambda a: np.sum(f(a, b)))(a), np.cos(a) * b)


def test_single_precision_stays():
    f = symbolic.function(sympy.sin(x) * y + sympy.Rational(1, 3), [x, y])
    a = np.linspace(0, 1, 4, dtype=np.float32)
    assert f(a, a).dtype == np.float32
    assert tapead.grad(lambda a: np.sum(f(a, a)))(a).dtype == np.float32


def test_second_derivatives():
    f = symbolic.function(sympy.sin(x * y) + sympy.Max(x, y) ** 3, [[x, y]])
    at = np.array([0.4, 0.7])
    hessian = sympy.hessian(sympy.sin(x * y) + y**3, (x, y)).subs({x: 0.4, y: 0.7})
    np.testing.assert_allclose(tapead.hessian(f)(at), np.array(hessian.tolist(), float), rtol=1e-12)


def test_matrices_and_lists_become_arrays():
    f = symbolic.function(sympy.Matrix([[x, y], [1, x * y]]), [[x, y]])
    np.testing.assert_array_equal(f(np.array([2.0, 3.0])), [[2, 3], [1, 6]])
    np.testing.assert_array_equal(symbolic.function([x, 1], x)(np.ones(4)), np.ones((2, 4)))
    np.testing.assert_array_equal(tapead.jacobian(f)(np.array([2.0, 3.0]))[1, 1], [3, 2])
    first, second = symbolic.function((x, y**2), [x, y])(1.0, 3.0)
    assert (first, second) == (1.0, 9.0)


def test_parts_that_occur_twice_are_computed_once():
    f = symbolic.function(sympy.sin(x * y) ** 2 + sympy.exp(sympy.sin(x * y)), [x, y])
    assert of_tape(record(f, 0.3, 0.4)) == Operations(additions=1, multiplications=2, functions=2)


def test_what_is_left_out_of_a_domain_does_no_harm():
    f = symbolic.function(sympy.Piecewise((sympy.sqrt(x), x > 0), (0, True)), [x])
    assert (f(-1.0), f(4.0)) == (0.0, 2.0)
    assert (tapead.grad(f)(-1.0), tapead.grad(f)(4.0)) == (0.0, 0.25)
    assert np.isnan(symbolic.function(sympy.Piecewise((1, x > 0)), [x])(-1.0))


def test_derivatives_of_steps():
    f = symbolic.expression(lambda x: np.floor(x * x) * x + np.sign(x) + np.ceil(x) + abs(x), 1.3)
    slope = symbolic.function(f.gradient())
    assert slope(1.3) == 1.0 + 1.0
    assert slope(-0.5) == 0.0 - 1.0


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        (sympy.gamma(x), "gamma"),
        (sympy.besselj(0, x) + 1, "besselj"),
        (sympy.I * x, "ImaginaryUnit"),
        (sympy.zoo, "ComplexInfinity"),
        (sympy.Integral(sympy.exp(x**2), (x, 0, y)), "Integral"),
        (sympy.Function("f")(x), "f"),
        (sympy.DiracDelta(x, 1), "DiracDelta"),
        (sympy.Piecewise((sympy.zeta(x), x > 1), (0, True)), "zeta"),
    ],
    ids=str,
)
def test_functions_without_a_rule_are_named(expression, name):
    with pytest.raises(TapeadNotImplementedError, match=rf"SymPy's {name} has no rule|{name} have no rule"):
        symbolic.function(expression, [x, y])


def test_every_counterpart_exists_in_sympy():
    for name in NUMPY:
        assert hasattr(sympy, name)


def test_arguments_that_do_not_fit():
    with pytest.raises(TapeadValueError, match=r"no argument: y"):
        symbolic.function(x * y, [x])
    with pytest.raises(TapeadTypeError, match="needs symbols"):
        symbolic.function(x * y)
    with pytest.raises(TapeadTypeError, match="a str is no SymPy expression"):
        symbolic.function("x*y", [x, y])
    with pytest.raises(TapeadTypeError, match="takes 2 arguments, not 1"):
        symbolic.function(x * y, [x, y])(1.0)
    with pytest.raises(TapeadValueError, match=r"has shape \(3,\); its symbols have \(2,\)"):
        symbolic.function(x * y, [[x, y]])(np.ones(3))


# ---- what it costs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4, 8, 13, 30])
def test_the_product_of_the_slides(n):
    theta = np.linspace(0.5, 1.5, n)
    formula = symbolic.expression(product, theta)
    assert formula.operations() == Operations(multiplications=n - 1)
    naive = formula.gradient()
    assert naive.operations() == Operations(multiplications=n * (n - 2))

    def both(theta):
        value, _, (slopes,) = grad_on_tape(product, (theta,), {}, (0,), False)
        return value, slopes

    reverse = of_tape(record(both, theta))
    assert 3 * n - 4 <= reverse.multiplications <= 3 * n
    assert reverse.functions == 0
    np.testing.assert_allclose(symbolic.function(naive)(theta), tapead.grad(product)(theta))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (x + y - 1, Operations(additions=2)),
        (-x, Operations()),
        (x - y, Operations(additions=1)),
        (x / y, Operations(multiplications=1)),
        (1 / (x * y), Operations(multiplications=2)),
        (1 / x, Operations(multiplications=1)),
        (x**3, Operations(multiplications=2)),
        (x / y**2, Operations(multiplications=2)),
        (sympy.sqrt(x) * y, Operations(multiplications=1, functions=1)),
        (x**y, Operations(functions=1)),
        (sympy.exp(x) + sympy.exp(x) * y, Operations(additions=1, multiplications=1, functions=2)),
        (sympy.Max(x, y, 0), Operations(choices=2)),
        (sympy.Piecewise((x, x > y), (y, True)), Operations(choices=2)),
    ],
    ids=str,
)
def test_operations_of_formulas(expression, expected):
    assert symbolic.Symbolic(expression, (x, y)).operations() == expected


def test_sympy_is_imported_when_it_is_used_only():
    code = "import sys, tapead; tapead.symbolic; assert not {'sympy', 'mpmath'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_sympy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    message = r'tapead.symbolic needs SymPy, which is not installed: pip install "tapead\[symbolic\]"'
    with pytest.raises(ModuleNotFoundError, match=message):
        symbolic.expression(lambda x: x, 1.0)
