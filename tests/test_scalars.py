"""Scalar runs: single numbers and very small arrays in one switch."""

import numpy as np
import pytest

import tapead
from tapead import check_grads
from tapead.dispatch import record
from tapead.kernels.op import has_lanes
from tapead.kernels.table import OPS, Elementwise
from tapead.program import Program
from tapead.record import Recording


def program_of(function, *arguments):
    """Record a function and plan it, differentiated by all arguments."""
    recording = Recording(replays=True)
    with recording:
        inside = [recording.enter(argument, levels=1) for argument in arguments]
        target = function(*inside)
    inputs = [recording.storage_of[x.buffer] for x in inside]
    return Program(recording, inputs, [target.buffer], target.buffer, range(len(inputs)))


def softmax_of_four(x):
    e = np.exp(np.stack([x[0] * x[1], x[1], x[2] + x[0], x[3]]) - np.max(x))
    p = e / np.sum(e)
    return p[0] * p[2] - p[3]


def operand_twice(x):
    y = x[0] * x[0]
    z = y + y
    return z * z - x[1] * z


def product_read_twice(x):
    y = x[0] * x[1]
    return np.sin(y + x[2]) + (x[3] - y)


def products_into_sums(x):
    return (x[0] * x[1] + x[2]) * (x[2] - x[1] * x[3]) + (x[0] * x[3] - x[1])


def product_spread_over_a_vector(x):
    return np.sum((x[0] * x[1] + x) * (x - x[2] * x[3]))


def sums_of_many(x):
    return (x[0] + x[1] + x[2] + x[3] + x[0]) * ((x[0] + x[1]) + (x[2] + x[3]))


def copies(x):
    y = np.stack([x[0] * x[1], x[2], x[2], x[3]])
    return np.sum(y * y[::-1]) + y[0] + (y[1] + x[0])


def assigned(x):
    y = x * x
    before = y[1] * x[0]
    y[1] = before + y[2]
    y[2:] = y[1] * x[:2]
    return np.sum(y * x) + before


def assigned_beyond_the_slab(x):
    y = np.zeros_like(x, shape=300) + x[0]
    y[5] = y[6] * x[1]
    y[5] = y[5] * y[7] + x[2]
    return y[5] * y[6] + y[299]


def small_matrix(x):
    m = x.reshape(2, 2)
    return np.sum(m.T * m) + np.sum(m * m[0]) * m[1, 0]


def divided_by_their_sum(x):
    e = np.exp(x)
    p = e / np.sum(e)
    return np.sum(p * p[::-1]) + p[0] * np.sqrt(x[3])


def steps_of_three(x):
    y = 0.5 * x[:3]
    for _ in range(5):
        y = y - 0.1 * (2 * (y - x[1:]) + y**3)
    return np.sum(y**2) - y[1]


def slices_between_others(x):
    y = np.concatenate([x, x[::-1] * 3, x[:2]])
    return np.sum(y[1:4] * y[3:6]) + np.sum((y[6:8] - y[7:9]) ** 2) + y[4] * y[9]


def constants_of_some_numbers(x):
    return np.sum(np.array([1, 2, 3]) * x[:3] - np.array([0.5, np.inf])[0] * x[1:]) + np.sum(np.arange(4.0) / x)


def choices(x):
    y = np.where(x > 0, x * x, x[0])
    return np.sum(np.where(np.array([True, False, True, False]), y, np.exp(x)) * y)


def sines_and_cosines(x):
    y = np.sin(x[:2]) * np.cos(x[2:])
    z = np.sin(x[0] * x[1])
    return np.cos(z) * z + np.sum(np.sin(y)) * np.cos(x[2])


FORMULAS = [
    divided_by_their_sum,
    steps_of_three,
    slices_between_others,
    constants_of_some_numbers,
    choices,
    sines_and_cosines,
    softmax_of_four,
    operand_twice,
    product_read_twice,
    products_into_sums,
    product_spread_over_a_vector,
    sums_of_many,
    copies,
    assigned,
    assigned_beyond_the_slab,
    small_matrix,
]
AT = np.array([0.3, -0.7, 1.1, 0.4])


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda f: f.__name__)
def test_gradients_of_small_programs(formula):
    check_grads(formula, (AT,))
    value_and_grad = tapead.value_and_grad(formula)
    value_and_grad(AT)
    again, gradient = value_and_grad(2 * AT)  # replayed
    fresh = tapead.value_and_grad(formula)(2 * AT)
    assert again == fresh[0]
    assert np.array_equal(gradient, fresh[1])


@pytest.mark.parametrize(
    "formula", [f for f in FORMULAS if f is not assigned_beyond_the_slab], ids=lambda f: f.__name__
)
def test_float32_agrees_with_float64(formula):
    value, gradient = tapead.value_and_grad(formula)(AT.astype(np.float32))
    expected, slopes = tapead.value_and_grad(formula)(AT)
    assert gradient.dtype == np.float32
    assert np.allclose(value, expected, rtol=1e-5)
    assert np.allclose(gradient, slopes, rtol=1e-4, atol=1e-5)


def test_classes_mixed_round_as_numpy_does():
    def mixed(x):
        narrow = (x[0] * x[1]).astype(np.float32)
        wide = narrow.astype(np.float64) * x[2]
        return wide + (narrow * narrow).astype(np.float64)

    value, gradient = tapead.value_and_grad(mixed)(AT)
    assert value == mixed(AT)
    narrow = float(np.float32(AT[0] * AT[1]))
    slope = AT[2] + 2 * narrow
    assert np.allclose(gradient, [slope * AT[1], slope * AT[0], narrow, 0.0], rtol=1e-6)


def test_guards_within_a_run():
    def branching(x):
        y = x[0] * x[1]
        z = y + x[2] if y > 0 else y * x[3]
        return z * 3 if z < 1 else z * z

    value_and_grad = tapead.value_and_grad(branching)
    for at in (AT, -AT, np.abs(AT), AT[::-1].copy(), AT):
        value, gradient = value_and_grad(at)
        expected, slopes = tapead.value_and_grad(branching)(at)
        assert value == branching(at) == expected
        assert np.array_equal(gradient, slopes)


def test_extremes_share_among_ties():
    gradient = tapead.grad(lambda x: np.max(x) * 3)(np.array([1.0, 2.0, 2.0, 2.0]))
    assert np.allclose(gradient, [0, 1, 1, 1])
    assert np.isnan(tapead.value_and_grad(lambda x: np.min(x) * 3)(np.array([1.0, np.nan, 2.0]))[0])


def test_an_adjoint_of_zero_contributes_zero():
    gradient = tapead.grad(lambda x: np.where(x[0] > 0, x[0], np.sqrt(x[1]) * x[0]))(np.array([1.0, 0.0]))
    assert gradient.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("formula", [softmax_of_four, copies, assigned, small_matrix], ids=lambda f: f.__name__)
def test_small_programs_are_one_row(formula):
    program = program_of(formula, AT)
    assert [row[:2] for row in program.plan.rows] == [("scalars_f8", "forward"), ("scalars_f8", "reverse")]


def stacked_with_a_sum_of_rows(x):
    squares = x[:2] * x[2:]
    return np.sum(np.stack([squares, np.sum(ROWS[:2] * squares[:, None], axis=1)]).T * np.arange(4.0).reshape(2, 2))


def numbers_stacked_with_sums(x):
    y = np.stack([x[0] * x[1], np.sum(np.sin(ROWS * x[2])), x[1], np.tanh(np.mean(ROWS * x[0]))])
    return np.sum(y * y[::-1]) + y[1] * y[0]


ROWS = np.linspace(0.1, 1.0, 400).reshape(4, 100)


@pytest.mark.parametrize("formula", [stacked_with_a_sum_of_rows, numbers_stacked_with_sums], ids=lambda f: f.__name__)
def test_what_several_rows_write_is_read_by_one_run(formula):
    check_grads(formula, (AT,))
    assert np.isclose(tapead.value_and_grad(formula)(AT)[0], formula(AT))


def test_long_loops():
    def loop(x):
        y = x
        for _ in range(50_000):
            y = y * 0.9999 + x
        return y

    value, gradient = tapead.value_and_grad(loop)(1.5)
    assert value == loop(1.5)
    assert np.isclose(gradient, value / 1.5)
    assert program_of(loop, 1.5).plan.kinds.count("forward") == 1


ON_LANES = [op for op in OPS.values() if isinstance(op, Elementwise) and has_lanes(op) and op.domains]


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("op", ON_LANES, ids=lambda op: op.name)
def test_lanes_agree_with_numbers_one_by_one(op, dtype, n):
    rng = np.random.default_rng(op.code)
    operands = [rng.uniform(*domain, n).astype(dtype) for domain in op.domains]
    factors = np.arange(1, n + 1, dtype=dtype)
    factors[1] = 0  # an adjoint of zero

    def together(*operands):
        return np.sum(factors * record(op.name, *operands))

    def apart(*operands):
        made = [record(op.name, *[x[i] for x in operands]) for i in range(n)]
        return sum(factors[i] * made[i] for i in range(n))

    where = tuple(range(len(operands)))
    value, slopes = tapead.value_and_grad(together, where)(*operands)
    expected, others = tapead.value_and_grad(apart, where)(*operands)
    near = 8 * np.finfo(dtype).eps
    assert np.allclose(value, expected, rtol=near, atol=near)
    for slope, other in zip(slopes, others, strict=True):
        assert np.allclose(slope, other, rtol=near, atol=0)


def test_what_fills_up_lanes_stays_apart():
    def beside_nan(x):
        y = x * x[::-1]  # longer than lanes
        return np.sum(np.exp(y[1:4] / (1 + y[1:4])) * y[1:4])

    x = np.array([np.nan, 0.5, 0.25, 0.5, 1.0, np.inf])
    x[[0, 5]] = np.nan, np.inf
    value, gradient = tapead.value_and_grad(beside_nan)(x)
    expected, slopes = tapead.value_and_grad(beside_nan)(np.array([0.0, 0.5, 0.25, 0.5, 1.0, 0.0]))
    assert value == expected
    assert np.array_equal(gradient, slopes)


def test_small_vectors_are_one_instruction_each():
    program = program_of(steps_of_three, AT)
    place = next(row[2] for row in program.plan.rows if row[1] == "forward")
    assert program.pool[place + 1] < len(program.tape)


@pytest.mark.parametrize("repeats", [1, 40])
def test_a_way_back_that_comes_before_the_way_forward(repeats):
    def tail(x, y):
        total = np.sum(np.exp(x) * x)
        for _ in range(repeats):
            y = 0.5 * y[::-1] * np.cos(y[0]) + 0.3 * np.sin(y) * np.max(np.stack([y[2], y[0]]))
        return total + np.sum(y)

    x, y = np.linspace(-1.0, 1.0, 100), np.array([0.3, -0.7, 1.1])
    check_grads(tail, (x, y))
    gradient = tapead.grad(tail, (0, 1))(x, y)
    _, slopes = tapead.value_and_grad(tail, (0, 1))(x, y)
    assert np.array_equal(gradient[1], slopes[1])
    if repeats == 1:
        plain = tapead.grad(lambda x, y: np.sum(np.exp(x) * x) + np.sin(y[0]) + np.sum(y[::-1] * y), (0, 1))
        assert np.allclose(plain(x, y)[1], 2 * y[::-1] + [np.cos(y[0]), 0, 0], rtol=1e-15)
        assert "1 of them both sweeps at a stroke" in str(tapead.explain(plain, x, y))
