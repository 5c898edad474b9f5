"""Formulas as text: what they compute, the order they compute it in, and all that they refuse."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapead
from tapead.errors import ExpressionError, TapeadTypeError
from tapead.expression import DEEPEST, LONGEST, parse
from tapead.kernels.elementwise import ROWS
from tapead.vocabulary import CONSTANTS, FUNCTIONS

COURSE = "log(x1) + x1*x2 - sin(x2)"


def refusal(text):
    """Give the message of the refusal of a formula and the column of the mark, counted in the line shown."""
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    message, shown, mark = str(caught.value).split("\n")
    assert mark.strip() == "^"
    return message, shown[2:], mark.index("^") - 2


# ---- what they compute -------------------------------------------------------------------------------------


def test_the_formula_of_the_course():
    f = parse(COURSE)
    assert f.names == ("x1", "x2")
    assert f.text == COURSE
    assert f(2.0, 5.0) == math.log(2) + 10 - math.sin(5)
    assert tapead.grad(f, argnums=(0, 1))(2.0, 5.0) == (5.5, 2 - np.cos(5.0))


def test_operations_are_recorded_in_the_order_of_their_depth():
    with tapead.Tape() as tape:
        parse(COURSE)(tape.variable(2.0), tape.variable(5.0))
    ops = [line.split(" = ")[1].split("  ")[0] for line in str(tape).splitlines()]
    assert ops == ["input", "input", "log(v1)", "v1 * v2", "sin(v2)", "v3 + v4", "v6 - v5"]


def test_equal_parts_stay_apart():
    assert len(parse("sin(x) + sin(x)").steps) == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2.0), ("pi", math.pi), ("e", math.e), ("2**10", 1024.0), ("7 // 2", 3.0), ("-7 % 3", 2.0), ("1/4", 0.25)],
)
def test_numbers_alone_are_computed_at_once(text, value):
    f = parse(text)
    assert (f.names, f.steps, f.constants) == ((), (), (value,))
    assert f() == value
    assert type(f()) is float


def test_constant_parts_are_numbers_on_the_tape():
    f = parse("2*pi*x + exp(1)*(3 > 2)")
    assert len(f.steps) == 2
    assert f(1.0) == 2 * math.pi + math.exp(1)


def test_constants_take_the_precision_of_the_values():
    assert parse("2*x + 1")(np.ones(2, np.float32)).dtype == np.float32


def test_every_row_of_the_op_table_can_be_called_but_for_those_of_rules():
    assert {row.name for row in ROWS} - set(FUNCTIONS) <= {"cubed", "norm_root", "stop", "after", "chain", "mask"}
    assert not set(CONSTANTS) & set(FUNCTIONS)


ROWS_CALLED = [row for row in ROWS if row.name in FUNCTIONS]


@pytest.mark.parametrize("row", ROWS_CALLED, ids=[row.name for row in ROWS_CALLED])
def test_rows_compute_as_numpy_does(row):
    values = [np.linspace(*domain, 5) for domain in row.domains]
    letters = "xyw"[: row.arity]
    f = parse(f"{row.name}({', '.join(letters)})")
    assert f.names == tuple(letters)
    if row.name == "where":
        values[0] = values[0] > 0.5
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(f(*values), row.numpy(*values))


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("sum(x*w)", lambda x, w: np.sum(x * w)),
        ("dot(x, w)", lambda x, w: np.dot(x, w)),
        ("x @ w", lambda x, w: x @ w),
        ("mean(x) - max(w) + min(x)*prod(w)", lambda x, w: np.mean(x) - np.max(w) + np.min(x) * np.prod(w)),
        ("norm(outer(x, w))", lambda x, w: np.linalg.norm(np.outer(x, w))),
        ("logsumexp(x + w)", lambda x, w: np.log(np.sum(np.exp(x + w)))),
        ("where(x <= w, abs(x), ln(w))", lambda x, w: np.where(x <= w, np.abs(x), np.log(w))),
        ("sum(softmax(x)**2) + var(w)", lambda x, w: np.sum((np.exp(x) / np.sum(np.exp(x))) ** 2) + np.var(w)),
    ],
)
def test_functions_of_arrays(text, reference):
    x, w = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.25, 3.0])
    f = parse(text)
    np.testing.assert_allclose(f(x, w), reference(x, w), rtol=1e-14)
    total = tapead.grad(lambda x, w: np.sum(f(x, w)), argnums=(0, 1))(x, w)
    assert [g.shape for g in total] == [(3,), (3,)]


def test_lines_and_blanks():
    f = parse("  log(x1)\n\t+ x1*x2\r\n- sin(x2) ")
    assert f(2.0, 5.0) == parse(COURSE)(2.0, 5.0)


def test_names_of_other_alphabets():
    assert parse("θ1*ψ").names == ("θ1", "ψ")


def test_a_wrong_number_of_values():
    with pytest.raises(TapeadTypeError, match=r"takes 2 values \(x1, x2\), 1 are given"):
        parse(COURSE)(1.0)
    with pytest.raises(TapeadTypeError, match="takes no values"):
        parse("2")(1.0)
    with pytest.raises(TapeadTypeError, match="a formula is a str, not int"):
        parse(3)


@pytest.mark.parametrize("values", [(np.ones(3), np.ones(4)), (np.ones((2, 3)), np.ones((2, 3)))])
def test_shapes_that_do_not_fit_mark_the_operation(values):
    f = parse("sum(a) + a @ b")
    for call in (f, lambda a, b: tapead.grad(lambda a, b: np.sum(f(a, b)))(a, b)):
        with pytest.raises(ExpressionError) as caught:
            call(*values)
        message, shown, mark = str(caught.value).split("\n")
        assert "matmul" in message
        assert ".py" not in message
        assert shown[mark.index("^")] == "@"


# ---- what they refuse --------------------------------------------------------------------------------------

#: formula -> part of the message, and the part of the formula that the mark stands under
INJECTIONS = {
    "__import__('os').system('id')": ("attributes", "."),
    "__import__('os')": ("two underscores", "__import__"),
    "__builtins__": ("two underscores", "__builtins__"),
    "x + __name__": ("two underscores", "__name__"),
    "x.__class__": ("attributes", "."),
    "().__class__.__base__.__subclasses__()": ("attributes", ".__subclasses__"),
    "sin.__globals__": ("attributes", "."),
    "x.real": ("attributes", "."),
    "x.tofile('/tmp/x')": ("attributes", "."),
    "x[0]": ("subscripts", "["),
    "x[0:1]": ("subscripts", "["),
    "eval('1')": ("unknown function eval", "eval"),
    "exec('1')": ("unknown function exec", "exec"),
    "compile('1', '', 'eval')": ("unknown function compile", "compile"),
    "open('/etc/passwd')": ("unknown function open", "open"),
    "input()": ("unknown function input", "input"),
    "breakpoint()": ("unknown function breakpoint", "breakpoint"),
    "getattr(x, y)": ("unknown function getattr", "getattr"),
    "globals()": ("unknown function globals", "globals"),
    "exit(0)": ("unknown function exit", "exit"),
    "load(x)": ("unknown function load", "load"),
    "fromfile(x)": ("unknown function fromfile", "fromfile"),
    "lambda: 0": ("lambda", "lambda"),
    "(lambda x: x)(1)": ("lambda", "lambda"),
    "(x := 1)": (":=", "x"),
    "[i for i in x]": ("comprehensions", "["),
    "{i for i in x}": ("comprehensions", "{"),
    "{i: i for i in x}": ("comprehensions", "{"),
    "sum(i for i in x)": ("comprehensions", "(i"),
    "[1, 2]": ("lists", "["),
    "(1, 2)": ("tuples", "("),
    "{1, 2}": ("sets", "{"),
    "{1: 2}": ("dictionaries", "{"),
    "'x'": ("strings", "'"),
    "b'x'": ("strings", "b"),
    "f'{x}'": ("strings", "f"),
    "f'{__import__(\"os\")}'": ("strings", "f"),
    "x if y else z": ("use where", "if"),
    "x and y": ("use logical_and", "and"),
    "x or y": ("use logical_or", "or"),
    "not x": ("use logical_not", "not"),
    "x & y": ("use logical_and", "&"),
    "x | y": ("use logical_or", "|"),
    "x ^ y": ("use a ** b", "^"),
    "~x": ("use logical_not", "~"),
    "x << y": ("<<", "<<"),
    "x >> y": (">>", ">>"),
    "x is y": ("compare with ==", "is"),
    "x is not y": ("compare with !=", "is"),
    "x in y": ("in is refused", "in"),
    "x not in y": ("not in is refused", "not"),
    "a < b < c": ("a chain of comparisons", "< c"),
    "sin(*x)": ("starred", "*"),
    "sin(**x)": ("keywords", "**"),
    "sum(x, axis=0)": ("keywords", "axis"),
    "await x": ("await", "await"),
    "(yield)": ("yield", "yield"),
    "9**9**9": ("too large", "**9**"),
    "x + 10**400": ("too large", "**"),
    "1e999 * x": ("too large", "1e999"),
    "0x" + 400 * "f": ("too large", "0x"),
    "exp(1000)": ("too large", "exp"),
    "0/0": ("not a number", "/"),
    "log(-1)*x": ("not a number", "log"),
    "1j*x": ("complex numbers", "1j"),
    "True": ("True is refused", "True"),
    "None": ("None is refused", "None"),
    "...": ("Ellipsis is refused", "..."),
    "x = 1": ("malformed", "="),
    "x; y": ("malformed", ";"),
    "import os": ("malformed", "import"),
    "del x": ("malformed", "del"),
    "x\0y": ("a null byte", "?y"),
    "x # y": ("a comment", "#"),
    "x \\\n + y": ("malformed", None),
    "\ud800 + x": ("malformed", "?"),
    "x(y)": ("unknown function x", "x"),
    "2(x)": ("write * for a product", "2"),
    "2x": ("write * for a product", "2"),
    "sin + x": ("sin is a function", "sin"),
    "sin(x)(y)": ("write * for a product", "sin"),
}


@pytest.mark.parametrize("text", INJECTIONS)
def test_what_is_no_formula_is_refused_and_marked(text):
    wanted, under = INJECTIONS[text]
    message, shown, column = refusal(text)
    assert wanted in message
    if under is not None:
        assert shown[column:].startswith(under)


def test_there_are_many():
    assert len(INJECTIONS) >= 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logg(x)", "unknown function logg; nearest: log"),
        ("Sin(x)", "unknown function Sin; nearest: sin"),
        ("arctan(x, y)", "arctan takes 1 argument, 2 given"),
        ("arctan2(x)", "arctan2 takes 2 arguments, 1 given"),
        ("max(x, y)", "use maximum"),
        ("where(x)", "where takes 3 arguments, 1 given"),
        ("zzzzzz(x)", "unknown function zzzzzz"),
        ("outer(1, 2)", "this gives an array"),
    ],
)
def test_functions_that_are_unknown_or_called_wrongly(text, said):
    assert said in refusal(text)[0]


@pytest.mark.parametrize(
    ("text", "column"),
    [("x +", 3), ("x + )", 4), ("(x", 0), ("x y", 2), ("θθ + sin(ψ)[0]", 11), ("log(x) + 3 $ x", 11)],
)
def test_malformed_formulas_are_marked(text, column):
    assert refusal(text)[2] == column


@pytest.mark.parametrize("text", ["", " \n "])
def test_empty(text):
    with pytest.raises(ExpressionError, match="empty"):
        parse(text)


def test_too_long():
    assert "too long" in refusal("x" * (LONGEST + 1))[0]
    assert parse("x" * LONGEST).names == ("x" * LONGEST,)


@pytest.mark.parametrize(
    "text",
    ["-" * 9000 + "x", "x" + "+x" * 4900, "(" * 4000 + "x", "sin(" * 190 + "x" + "+1)" * 190, "x**" * 3000 + "x"],
)
def test_too_deep(text):
    message, shown, column = refusal(text)
    assert "deeply" in message or "parenthes" in message
    assert len(shown) < 100
    assert column <= len(shown)


def test_as_deep_as_allowed():
    assert parse("x" + "+x" * (DEEPEST - 1))(1.0) == DEEPEST


def test_a_long_formula_is_shown_around_the_place():
    text = "+".join(f"x{i}" for i in range(60)) + "+nope(x)+" + "+".join(f"y{i}" for i in range(60))
    message, shown, column = refusal(text)
    assert "nope" in message
    assert shown.startswith("...")
    assert shown.endswith("...")
    assert shown[column:].startswith("nope(x)")


def test_the_parser_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ("1or x", "'\\d'", "1(x)", "x is 1"):
            refusal(text)


# ---- at random ---------------------------------------------------------------------------------------------

ONE = ("sin", "cos", "tanh", "exp", "arctan", "sqrt", "log", "expm1", "abs", "square")
TWO = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": np.power, "%": np.remainder}
NAMES = "xyz"
POINTS = st.tuples(*[st.floats(0.25, 3.0)] * 3)


# A random formula is a pair: its text, and the same as a function of a dictionary of NumPy values.
def number(text):
    return text, lambda values: np.float64(text)


def variable(name):
    return name, lambda values: values[name]


def applied(name, part):
    text, of = part
    return f"{name}({text})", lambda values: getattr(np, name)(of(values))


def joined(left, sign, right):
    (a, of_a), (b, of_b) = left, right
    return f"({a}) {sign} ({b})", lambda values: TWO[sign](of_a(values), of_b(values))


def first_products(a, b, c):
    (x, of_x), (y, of_y), (z, of_z) = a, b, c
    text = f"-({x}) + ({y})*({z})"
    return text, lambda values: np.add(np.negative(of_x(values)), np.multiply(of_y(values), of_z(values)))


def formulas(functions, signs, leaves):
    numbers = st.sampled_from(["0.5", "1", "2", "3.25", "1e-2", "7"]).map(number)
    return st.recursive(
        st.sampled_from(NAMES).map(variable) | numbers,
        lambda parts: st.one_of(
            st.builds(applied, st.sampled_from(functions), parts),
            st.builds(joined, parts, st.sampled_from(signs), parts),
            st.builds(first_products, parts, parts, parts),
        ),
        max_leaves=leaves,
    )


def parsed(text):
    """Read a formula, or give None where a part of numbers alone is not finite."""
    try:
        return parse(text)
    except ExpressionError as error:
        if "this part is" not in str(error):
            raise
        return None


@given(formulas(ONE, [*TWO], 12), POINTS)
def test_formulas_agree_with_numpy(formula, point):
    text, reference = formula
    f = parsed(text)
    if f is None:
        return
    for values in (map(np.float64, point), (np.array([v, 1.0, v]) for v in point)):
        by_name = dict(zip(NAMES, values, strict=True))
        with np.errstate(all="ignore"):
            made, wanted = f(*[by_name[name] for name in f.names]), reference(by_name)
        np.testing.assert_array_equal(made, wanted)


def symbolic_value(text, values):
    sympy = pytest.importorskip("sympy")
    own = {"arctan": sympy.atan, "abs": sympy.Abs, "expm1": lambda x: sympy.exp(x) - 1}
    exact = {name: sympy.Float(value, 40) for name, value in values.items()}
    return float(sympy.N(sympy.sympify(text, locals=own | exact), 30))


# Bounded functions, sums and products only: what a random formula loses to rounding stays small.
@settings(max_examples=50)
@given(formulas(["sin", "cos", "tanh", "arctan", "abs"], ["+", "-", "*"], 8), POINTS)
def test_formulas_agree_with_sympy(formula, point):
    f = parse(formula[0])
    values = dict(zip(NAMES, point, strict=True))
    made = float(f(*[values[name] for name in f.names]))
    assert made == pytest.approx(symbolic_value(formula[0], values), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        COURSE,
        "-x**2",
        "2**-x",
        "x**y**z",
        "x/y/z",
        "x - y - z",
        "x - (y - z)",
        "-x*-y",
        "2*x**3/-z",
        "log(exp(x) + exp(y))/sqrt(z)",
        "expm1(x) - exp(x)*e",
        "1e2*x + .5*y - 3.*z + pi",
        "(x + y)*(x - y)/(z*z + 1)",
        "sqrt(sqrt(x)*sqrt(y))**-1.5",
    ],
)
def test_signs_bind_as_in_sympy(text):
    f = parse(text)
    values = dict(zip(f.names, (1.25, 0.75, 2.5), strict=False))
    wanted = symbolic_value(text.replace("*e", "*E"), values)
    assert float(f(*values.values())) == pytest.approx(wanted, rel=1e-14)


JUNK = st.text(
    st.sampled_from("xyzsincoslogpie0123456789.()[]{}+-*/%@<>=!&|^~,:;'\"\\#_ \n\tθ\0lambdaifelsenotandor"), max_size=60
)


@settings(max_examples=500)
@given(JUNK | st.text(max_size=60))
def test_junk_is_refused_or_read_but_never_crashes(text):
    try:
        f = parse(text)
    except ExpressionError as error:
        lines = str(error).split("\n")
        assert len(lines) in (1, 3)
        assert all(line.isprintable() for line in lines)
    else:
        assert f.text == " ".join(f.text.split("\n"))


@given(
    st.lists(
        st.sampled_from(["sin", "log", "x", "y", "(", ")", "+", "-", "**", "*", "1", "2.5", ",", "where", "<", "@"])
    )
)
def test_shuffled_tokens_never_crash(tokens):
    try:
        f = parse(" ".join(tokens))
        with np.errstate(all="ignore"):
            f(*[1.5] * len(f.names))
    except ExpressionError:
        pass
