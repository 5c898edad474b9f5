"""Tapes on other numbers: every op, by mpmath and by SymPy, gives NumPy's values or is refused."""

import mpmath
import numpy as np
import pytest
import sympy
from test_ops import ORACLE, sample

import tapead
import tapead.numpy as tnp
from tapead.dictionary import sympy_numbers
from tapead.dispatch import record as do
from tapead.interpreter import Interpreter, evaluator, record
from tapead.kernels.elementwise import FUNCTIONS
from tapead.kernels.table import OPS, ROWS, Structural
from tapead.operations import Operations, of_expression, of_tape
from tapead.reference import Precise, mpmath_numbers

NUMBERS = {"mpmath": mpmath_numbers, "sympy": sympy_numbers}
kinds = pytest.mark.parametrize("kind", NUMBERS)
SAMPLED = [op for op in OPS.values() if isinstance(op, Structural) and op.samples(np.random.default_rng(0))]
#: structural ops that arrays of objects cannot do: none else may be refused
REFUSED = {"cholesky", "solve_triangular", "solve", "slogdet", "det"}


def plain(array):
    """Make floats of numbers and truth values of any kind."""
    return np.vectorize(lambda v: float(bool(v) if v in (True, False) else v), [float])(array)


def on_numbers(function, operands, kind):
    """Evaluate what a function records on its own operands, as numbers of a kind; give floats."""
    recorded = record(function, *operands)
    numbers = NUMBERS[kind]()
    interpreter = Interpreter(recorded.tape, numbers)
    for i, storage in recorded.inputs.items():
        flat = np.asarray(recorded.leaves[i]).reshape(-1).tolist()
        interpreter.put(storage, [numbers.convert(v) for v in flat])
    interpreter.run()
    return [plain(interpreter.get(b)) for b in recorded.outputs]


@kinds
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_elementwise_ops_are_their_expressions(row, kind):
    operands = sample(row)
    (got,) = on_numbers(lambda *x: do(row.name, *x), operands, kind)
    np.testing.assert_allclose(got, row.numpy(*operands).astype(float), rtol=1e-13)


@kinds
def test_every_function_of_the_table_is_known(kind):
    assert {*FUNCTIONS, "where", "abs"} - NUMBERS[kind]().functions.keys() == set()


@pytest.mark.parametrize("name", [name for name in ORACLE if name not in ("deg2rad", "rad2deg")])
def test_mpmath_is_precise(name):
    row = OPS[name]
    with mpmath.workdps(50):
        operands = [mpmath.mpf(x[0]) for x in sample(row)]
        got = evaluator(row.value, mpmath_numbers())(dict(zip("xyw", operands, strict=False)))
        assert abs(got - ORACLE[name](*operands)) <= mpmath.mpf("1e-45")


@kinds
@pytest.mark.parametrize("op", SAMPLED, ids=lambda op: op.name)
def test_structural_ops_give_what_numpy_gives_or_are_refused(op, kind):
    for operands, parameters in op.samples(np.random.default_rng(3)):
        if op.name in REFUSED:
            if all(np.size(x) for x in operands):
                with pytest.raises(
                    tapead.errors.TapeadNotImplementedError, match=rf"{op.name} has no rule .*test_interp"
                ):
                    on_numbers(lambda *x, p=parameters: do(op.name, *x, **p), operands, kind)
            continue
        got = on_numbers(lambda *x, p=parameters: do(op.name, *x, **p), operands, kind)
        made = op.numpy(*operands, **parameters)
        for mine, expected in zip(got, made if isinstance(made, tuple) else (made,), strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-14)


def written(x):
    y = tnp.zeros((2, 3))
    y[0] = x[::-1]
    y[1, 1:] = x[0] * x[:2]
    first = y[1, 1] + 0
    y[1] += y[0]
    y[np.array([0, 1]), np.array([2, 0])] = x[1] ** 2
    return y, first, np.concatenate([x, y[:, 0]]), y.T @ y, np.cumsum(x), np.mean(y, axis=0)


def chosen(x):
    order = np.sort(x)
    return order, np.where(x > 0, x, -x), np.count_nonzero(x > 0), np.max(x), np.clip(x, -1, 1), (x > 0) * x, x[x > 0]


def converted(x):
    return np.sum(x.astype(np.int64)), (x != 0).astype(float), np.argmax(x), x.astype(bool) & (x > 0)


@kinds
@pytest.mark.parametrize("function", [written, chosen, converted])
def test_programs(function, kind):
    x = np.array([1.7, -0.3, 0.6])
    expected = function(x)
    for got, value in zip(on_numbers(function, [x], kind), expected, strict=True):
        np.testing.assert_allclose(got, np.asarray(value, float), rtol=1e-14)


@kinds
def test_what_is_left_of_nothing(kind):
    for got, value in zip(
        on_numbers(lambda x: (np.sum(x), np.prod(x), np.ones((2, 0)) @ np.outer(x, [1.0, 2.0])), [np.empty(0)], kind),
        (0.0, 1.0, np.zeros((2, 2))),
        strict=True,
    ):
        np.testing.assert_array_equal(got, value)


@kinds
def test_gradients_written_on_the_tape(kind):
    def loss(x):
        return np.sum(np.tanh(x[:2] * x[1:])) / x[0]

    x = np.array([0.3, -0.4, 0.9])
    (got,) = on_numbers(tapead.grad(loss), [x], kind)
    np.testing.assert_allclose(got, tapead.grad(loss)(x), rtol=1e-13)


def test_rules_of_ones_own_are_what_their_function_does():
    @tapead.custom_vjp
    def twice(x):
        return 2 * x

    twice.defvjp(lambda x: (2 * x, None), lambda _, d: (2 * d,))
    (got,) = on_numbers(lambda x: np.sin(twice(x)), [np.array([0.3, 0.4])], "sympy")
    np.testing.assert_allclose(got, np.sin([0.6, 0.8]))


def test_primitives_of_ones_own_are_refused():
    half = tapead.primitive(lambda x: 0.5 * x, partials=(lambda x: 0.5,), name="half_of_it")
    with pytest.raises(tapead.errors.TapeadNotImplementedError, match=r"half_of_it has no rule for numbers of mpmath"):
        on_numbers(half, [np.ones(2)], "mpmath")


def test_indices_that_are_no_numbers_are_refused():
    numbers = sympy_numbers()
    recorded = record(lambda x, y: y[(x * 3).astype(np.int64)], np.array([0.4, 0.0]), np.array([1.0, 2.0]))
    interpreter = Interpreter(recorded.tape, numbers)
    for storage in recorded.inputs.values():
        interpreter.put(storage, sympy.symbols(f"x{storage}_:2", real=True))
    with pytest.raises(tapead.errors.TapeadNotImplementedError, match="gather has no rule for numbers of SymPy"):
        interpreter.run()


@pytest.mark.parametrize(
    ("expression", "values", "expected"),
    [
        ("log(x)", (0.0,), -np.inf),
        ("log(x)", (-1.0,), np.nan),
        ("log1p(x)", (-1.0,), -np.inf),
        ("sqrt(x)", (-1.0,), np.nan),
        ("arcsin(x)", (2.0,), np.nan),
        ("arctanh(x)", (-1.0,), -np.inf),
        ("1.0 / x", (0.0,), np.inf),
        ("x / y", (0.0, 0.0), np.nan),
        ("x / y", (-1.0, 0.0), -np.inf),
        ("power(x, y)", (0.0, -1.0), np.inf),
        ("power(x, y)", (-8.0, 0.5), np.nan),
        ("power(x, y)", (-8.0, 3.0), -512.0),
        ("cbrt(x)", (-8.0,), -2.0),
        ("floor(x)", (-np.inf,), -np.inf),
        ("rint(x)", (2.5,), 2.0),
        ("rint(x)", (np.inf,), np.inf),
        ("maximum(x, y)", (np.nan, 1.0), np.nan),
        ("fmax(x, y)", (np.nan, 1.0), 1.0),
        ("fmin(x, y)", (2.0, np.nan), 2.0),
        ("logaddexp(x, y)", (-np.inf, -np.inf), -np.inf),
        ("logaddexp(x, y)", (800.0, 0.0), 800.0),
        ("sin(x)", (np.inf,), np.nan),
        ("exp(x)", (np.nan,), np.nan),
    ],
)
def test_mpmath_outside_of_the_domain(expression, values, expected):
    numbers = mpmath_numbers()
    named = dict(zip("xy", map(numbers.convert, values), strict=False))
    np.testing.assert_allclose(float(evaluator(expression, numbers)(named)), expected)


def test_numbers_that_leave_the_tape_are_refused():
    with pytest.raises(tapead.TapeadError, match="derivative could flow through it"):
        record(lambda x: float(x) * 2, 1.0)
    with pytest.raises(tapead.TapeadError, match="takes numbers off the tape"):
        record(lambda x: x * np.asarray(np.floor(x) > 0), np.ones(2))
    with pytest.raises(TypeError, match="returned str"):
        record(lambda x: (x, "more"), 1.0)


def test_integers_and_options_stay_as_they_are():
    recorded = record(lambda x, n, how: x**n if how == "power" else x, np.float64(2.0), 3, "power")
    assert list(recorded.inputs) == [0]
    assert len(recorded.outputs) == 1


# ---- slopes in high precision ------------------------------------------------------------------------------------


def test_slopes_to_forty_digits():
    precise = Precise(record(lambda x: np.sin(x[0]) * np.exp(x[1]), np.array([0.5, 0.25])))
    with mpmath.workdps(60):
        expected = [mpmath.cos(0.5) * mpmath.exp(0.25), mpmath.sin(0.5) * mpmath.exp(0.25)]
        for got, value in zip(precise.partials([0, 1]), expected, strict=True):
            assert 0 < abs(got - value) < mpmath.mpf("1e-38")


def test_slopes_are_of_one_array():
    with pytest.raises(ValueError, match="of one array"):
        Precise(record(lambda x, y: x * y, 1.0, 2.0))


# ---- operations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (lambda x: x * x + 1.0, [(5,)], Operations(additions=5, multiplications=5)),
        (lambda x: np.sum(np.exp(x)), [(3, 4)], Operations(additions=11, functions=12)),
        (lambda x: np.sum(x, axis=0), [(3, 4)], Operations(additions=8)),
        (lambda a, b: a @ b, [(3, 4), (4, 5)], Operations(additions=45, multiplications=60)),
        (lambda a, b: a @ b, [(7, 3, 4), (4,)], Operations(additions=63, multiplications=84)),
        (lambda x: np.cumsum(x, axis=1), [(3, 4)], Operations(additions=9)),
        (lambda x: np.prod(x), [(6,)], Operations(multiplications=5)),
        (lambda x: np.max(x), [(6,)], Operations(choices=5)),
        (lambda x: np.where(x > 0, x, -x), [(6,)], Operations(choices=3 * 6)),
        (lambda x: np.concatenate([x[::-1], x]), [(6,)], Operations()),
        (lambda x: (np.sin(x), np.sin(x), np.cos(x))[:2], [(6,)], Operations(functions=6)),
    ],
)
def test_operations_of_tapes(function, shapes, expected):
    rng = np.random.default_rng(0)
    assert of_tape(record(function, *(rng.uniform(1, 2, shape) for shape in shapes))) == expected


def test_operations_that_are_not_known_are_refused():
    with pytest.raises(
        tapead.errors.TapeadNotImplementedError, match=r"operations of cholesky cannot .*test_interpreter"
    ):
        of_tape(record(np.linalg.cholesky, np.eye(3)))


def test_every_row_is_counted():
    for row in ROWS:
        assert min(vars(of_expression(row.value)).values()) >= 0
    assert of_expression(OPS["hypot"].value) == Operations(functions=1)
    assert of_expression(OPS["clip"].value) == Operations(choices=2)
    assert of_expression(OPS["negative"].value) == Operations()
