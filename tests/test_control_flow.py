"""Python control flow on values: the branch of the moment is the one differentiated, at every call."""

import math

import expect
import numpy as np
import pytest

import tapead
from tapead import stop_gradient

X = np.array([0.3, 1.2, 2.5])
Y = np.array([-0.7, 0.1, 1.9])
W = np.array([1.0, -2.0, 0.5])
RANDOM = np.random.default_rng(0).uniform(-2.0, 2.0, (12, 3))


FUNCTIONS = []
LEAVING = []


def case(cases):
    def add(f):
        cases.append(f)
        return f

    return add


@case(FUNCTIONS)
def if_else(x):
    if x[0] > 0.5:
        return x[0] ** 2
    elif x[0] < -0.5:
        return np.sin(x[1])
    else:
        return x[1] * x[2]


@case(FUNCTIONS)
def ternary(x):
    return x[0] if x[1] > x[2] else x[1] * 3.0


@case(FUNCTIONS)
def early_return(x):
    for xi in x:
        if xi < 0:
            return xi**2
    return np.sum(x)


@case(FUNCTIONS)
def comparisons(x):
    total = 0.0
    if x[0] >= 0.1:
        total = total + x[0] ** 2
    if x[1] <= 0.15:
        total = total + x[1] ** 3
    if x[2] == x[0]:
        total = total + 100.0
    if x[2] != x[0]:
        total = total + x[0] * x[2]
    if not x[0] < x[1]:
        total = total - x[1]
    return total + 0.0 * x[0]


@case(FUNCTIONS)
def chained_comparison(x):
    return x[0] ** 2 if -1.0 < x[0] < 1.0 else x[1]


@case(FUNCTIONS)
def logic_words(x):
    if (x[0] > 0 and x[1] > 0) or not x[2] > 0:
        return x[0] * x[1]
    return x[2] ** 2


@case(FUNCTIONS)
def truth_of_a_number(x):
    y = np.maximum(x[0], 0.0)
    return x[1] ** 2 if y else x[2] * 2.0


@case(FUNCTIONS)
def builtin_max_and_min(x):
    return max(x[0], x[1], x[2]) ** 2 - min(x) + max(x[0], 0.5)


@case(FUNCTIONS)
def builtin_sorted(x):
    low, middle, high = sorted(x)
    return low * 1.0 + middle**2 + high**3


@case(FUNCTIONS)
def builtin_any_and_all(x):
    if any(xi < -1.0 for xi in x):
        return x[0] ** 2
    return x[1] ** 3 if all(x > 0) else x[2]


@case(FUNCTIONS)
def numpy_any_and_all(x):
    if np.any(x < -1.0):
        return x[0] ** 2
    if (x > 0).all():
        return x[1] ** 3
    return x[2]


@case(FUNCTIONS)
def assertion(x):
    assert x[0] < 100.0
    return np.sum(x**2)


@case(FUNCTIONS)
def while_by_value(x):
    y = np.abs(x[0]) + 0.1
    while y < 3.0:
        y = y * 1.7 + 0.1 * np.abs(x[1])
    return y


@case(FUNCTIONS)
def newton_until_convergence(x):
    """√(1 + x²): as many steps as it takes."""
    target, y = 1.0 + x[0] ** 2, 1.0
    while True:
        step = (y * y - target) / (2 * y)
        y = y - step
        if np.abs(step) < 1e-13:
            return y


@case(FUNCTIONS)
def for_with_break_and_continue(x):
    total = 0.0 * x[0]
    for xi in x:
        if xi < 0:
            continue
        total = total + xi**2
        if total > 2.0:
            break
    else:
        total = total * 3.0
    return total


@case(FUNCTIONS)
def recursion(x):
    def halve(y):
        return y if y < 0.5 else halve(y / 2.0) + y**2

    return halve(np.abs(x[0])) * x[1]


@case(FUNCTIONS)
def bisection(x):
    """A root of y³ + y = x by bisection, then one Newton step that carries the derivative."""
    low, high = -3.0, 3.0
    for _ in range(20):
        middle = 0.5 * (low + high)
        if middle**3 + middle < x[0]:
            low = middle
        else:
            high = middle
    y = 0.5 * (low + high)
    return y - (y**3 + y - x[0]) / (3 * y**2 + 1)


@case(FUNCTIONS)
def dictionary_of_branches(x):
    pieces = {True: lambda: x[0] ** 2, False: lambda: -x[0]}
    return pieces[bool(x[0] > 0)]()


@case(FUNCTIONS)
def index_by_a_truth_value(x):
    return [x[1], x[2]][int(x[0] > 0)] ** 2


@case(FUNCTIONS)
def index_by_argmax(x):
    return x[int(np.argmax(x))] ** 2 + x[np.argmin(x)]


@case(FUNCTIONS)
def index_by_floor(x):
    k = int(np.floor(x[0] + 2.0)) % 3
    return x[k] ** 2


@case(FUNCTIONS)
def range_of_floor(x):
    total = 0.0 * x[0]
    for k in range(int(np.floor(np.abs(x[0]) * 3))):
        total = total + x[1] ** (k + 1)
    return total


@case(FUNCTIONS)
def range_of_a_count(x):
    total = 0.0 * x[0]
    for _ in range(np.sum(x > 0)):
        total = total + x[0] * x[1]
    return total


@case(FUNCTIONS)
def order_by_argsort(x):
    return sum((k + 1) * x[i] ** 2 for k, i in enumerate(np.argsort(x)))


@case(FUNCTIONS)
def number_of_a_stopped_value(x):
    scale = float(stop_gradient(x[0]))
    return scale * scale * 0.0 + math.floor(scale) * x[1]


@case(FUNCTIONS)
def sign_as_a_number(x):
    return float(np.sign(x[0])) * x[1] ** 2


@case(FUNCTIONS)
def python_round(x):
    return float(np.round(x[0] * 0.9)) * x[1]


@case(FUNCTIONS)
def list_of_truth_values(x):
    return sum(xi for xi, keep in zip(x, (x > 0).tolist(), strict=True) if keep) + 0.0 * x[0]


@case(FUNCTIONS)
def array_of_truth_values(x):
    keep = np.flatnonzero(np.asarray(x > 0))
    return np.sum(x[keep] ** 2) + 0.0 * x[0]


@case(FUNCTIONS)
def nonzero_of_a_mask(x):
    (keep,) = np.nonzero(x > 0)
    return np.sum(x[keep] ** 2) + 0.0 * x[0]


@case(FUNCTIONS)
def mask(x):
    return np.sum(x[x > 0] ** 2) + 0.0 * x[0]


@case(FUNCTIONS)
def size_of_a_selection(x):
    positive = x[x > 0]
    return np.sum(positive) / len(positive) if len(positive) else x[0] * 0.0


@case(FUNCTIONS)
def isfinite_of_a_value(x):
    return np.sum(x) if np.isfinite(x[0]) else 0.0 * x[0]


@case(FUNCTIONS)
def plain_array_by_order(x):
    return np.sum(W[np.argsort(x)] * x)


@case(FUNCTIONS)
def plain_array_by_argmax(x):
    return np.sum(W[np.argmax(x)] * x)


@case(FUNCTIONS)
def plain_array_by_mask(x):
    return np.sum(W[x > 0] * x[x > 0]) + 0.0 * x[0]


@case(FUNCTIONS)
def plain_array_filled_by_mask(x):
    a = np.zeros(3)
    a[x > 0] = 2.0
    return np.sum(a * x)


@pytest.mark.parametrize("f", FUNCTIONS)
def test_every_branch_at_every_call(f):
    """Values and gradients at random points, in an order that goes back and forth between branches."""
    expect.right(f, X, Y, -X, X, *RANDOM, Y, rtol=1e-5)


def test_a_scalar_with_two_branches_and_its_kink():
    vg = tapead.value_and_grad(lambda x: x**2 if x > 1 else 3 * x)
    for x, gradient in [
        (2.0, 4.0),
        (0.5, 3.0),
        (3.0, 6.0),
        (1.0, 3.0),
        (np.nextafter(1.0, 2.0), 2.0),
        (-1.0, 3.0),
    ]:
        assert vg(x)[1] == pytest.approx(gradient)


def test_a_guard_fails_after_many_that_hold():
    def f(x):
        y, shrunk = x, 0
        for k in range(50):
            if y < k:
                y = y + 0.01
            else:
                y, shrunk = y * 0.99, shrunk + 1
        return y, shrunk

    for x in (0.25, 10.3, 49.7, 60.1, 25.25, 0.25):
        vg = tapead.value_and_grad(f, has_aux=True)
        vg(1.0)
        expected, shrunk = f(x)
        (value, aux), gradient = vg(x)
        assert aux == shrunk
        assert value == pytest.approx(expected, rel=1e-14)
        assert gradient == pytest.approx(0.99**shrunk, rel=1e-13)


def test_nan_goes_the_way_that_python_goes():
    vg = tapead.value_and_grad(lambda x: x * 2.0 if x > 0 else x * 3.0)
    assert vg(1.0)[1] == 2.0
    value, gradient = vg(math.nan)
    assert math.isnan(value)
    assert gradient == 3.0
    assert vg(2.0)[1] == 2.0


def test_the_truth_of_a_vector_is_ambiguous():
    def f(x):
        return x[0] if x > 0 else x[1]

    with pytest.raises(ValueError, match="ambiguous"):
        f(X)
    with expect.error(ValueError, "ambiguous", line=(f, "return x[0] if")):
        tapead.grad(f)(X)


def test_an_empty_array_has_no_truth():
    def f(x):
        return x[0] if x[:0] > 0 else x[1]

    with expect.error(ValueError):
        tapead.grad(f)(X)


def test_exceptions_by_value():
    """A guard may lead to a raise: the user's exception, and the other branch afterwards."""

    def f(x):
        if x < 0:
            raise ArithmeticError("negative")
        return np.sqrt(x)

    vg = tapead.value_and_grad(f)
    for _ in range(3):
        assert vg(4.0) == (2.0, 0.25)
        with pytest.raises(ArithmeticError, match="negative"):
            vg(-1.0)


def test_branches_taken_by_exceptions():
    def f(x):
        try:
            if x > 1:
                raise LookupError
            return x**2
        except LookupError:
            return x**3

    expect.right(f, 0.5, 2.0, 0.7, 1.5)


def test_arguments_that_are_not_differentiated_may_leave():
    """The second argument decides, as a number, what is computed: guarded by its value."""

    def f(x, t):
        n = int(t)
        return np.sum(x**n) * math.floor(float(t))

    vg = tapead.value_and_grad(f)
    for t in (2.0, 3.5, 2.9, 1.0, 2.0):
        value, gradient = vg(X, t)
        assert value == pytest.approx(np.sum(X ** int(t)) * math.floor(t))
        np.testing.assert_allclose(gradient, int(t) * X ** (int(t) - 1) * math.floor(t))


def test_a_whole_array_that_is_not_differentiated_may_leave():
    def f(x, labels):
        chosen = [i for i, label in enumerate(labels.tolist()) if label]
        return np.sum(x[chosen] ** 2)

    vg = tapead.value_and_grad(f)
    for labels in ([0, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 1]):
        labels = np.array(labels)
        np.testing.assert_allclose(vg(X, labels)[1], 2 * X * labels)


def test_integer_arrays_steer():
    def f(x, k):
        return x[k[0]] ** 2 if k[1] > 2 else x[k[1]] * 3.0

    vg = tapead.value_and_grad(f)
    for k in ([0, 5], [1, 2], [2, 7], [2, 0]):
        expected = np.zeros(3)
        if k[1] > 2:
            expected[k[0]] = 2 * X[k[0]]
        else:
            expected[k[1]] = 3.0
        np.testing.assert_allclose(vg(X, np.array(k))[1], expected)


@case(LEAVING)
def leaves_by_float(x):
    return float(x[0]) * x[1]


@case(LEAVING)
def leaves_by_int(x):
    return x[int(x[0])]


@case(LEAVING)
def leaves_by_item(x):
    return x[0].item() * x[1]


@case(LEAVING)
def leaves_by_tolist(x):
    return x.tolist()[0] * x[1]


@case(LEAVING)
def leaves_by_math(x):
    return math.exp(x[0])


@case(LEAVING)
def leaves_by_math_sqrt(x):
    return np.sum(x) + math.sqrt(x[1])


@case(LEAVING)
def leaves_by_complex(x):
    return complex(x[0]).real * x[0]


@case(LEAVING)
def leaves_by_numpy_float(x):
    return np.float64(x[0]) * x[1]


@case(LEAVING)
def leaves_by_range(x):
    return sum(x[0] for _ in range(x[1]))


@case(LEAVING)
def leaves_by_math_floor(x):
    return math.floor(x[1]) * x[0]


@pytest.mark.parametrize("f", LEAVING)
def test_a_value_with_a_derivative_does_not_leave(f):
    """A TypeError with the line; math.floor has no derivative to lose and may be right instead."""
    try:
        expect.right(f, X, Y)
    except TypeError:
        pass
    else:
        assert f is leaves_by_math_floor
        return
    with expect.error(TypeError, line=(f, "return")):
        tapead.grad(f)(X)


@pytest.mark.parametrize(
    ("f", "fix"),
    [
        (leaves_by_float, "stop_gradient"),
        (leaves_by_item, "stop_gradient"),
        (leaves_by_math, r"np\.exp"),
        (leaves_by_math_sqrt, r"np\.(exp|sqrt)"),
    ],
)
def test_the_error_names_the_fix(f, fix):
    with expect.error(TypeError, fix):
        tapead.grad(f)(X)


def test_a_value_is_no_index():
    with pytest.raises((TypeError, IndexError)):
        tapead.grad(lambda x: W[x[0]] * x[1])(X)


def test_the_fix_of_float_works():
    gradient = tapead.grad(lambda x: float(stop_gradient(x[0])) * x[1])
    for x in (X, Y, X):
        np.testing.assert_allclose(gradient(x), [0.0, x[0], 0.0])


def test_a_stopped_vector_may_leave_and_is_not_stale():
    def f(x):
        weights = np.asarray(stop_gradient(x).tolist())
        return np.sum(weights * x)

    vg = tapead.value_and_grad(f)
    for x in (X, Y, X):
        np.testing.assert_allclose(vg(x)[1], x)


def test_explain_names_the_line_that_leaves():
    def f(x):
        weights = stop_gradient(x).tolist()
        return np.sum(np.array(weights) * x)

    vg = tapead.value_and_grad(f)
    vg(X)
    number, file = expect.line_number(f, ".tolist()")
    account = str(tapead.explain(vg, X))
    assert file in account
    assert str(number) in account


def test_caught_errors_of_leaving_values_are_not_silent():
    """Code that catches the TypeError gets no number from it, so the gradient stays right."""

    def f(x):
        try:
            scale = float(x[0])
        except TypeError:
            scale = 2.0
        return scale * x[1]

    def reference(x):
        return 2.0 * x[1]

    expect.right_or_error(f, X, Y, reference=reference)


def counted(f):
    def counting(*args):
        counting.runs += 1
        return f(*args)

    counting.runs = 0
    return counting


def test_replays_do_not_run_the_function():
    f = counted(lambda x: x[0] ** 2 if x[0] > 0 else x[1])
    vg = tapead.value_and_grad(f)
    for x in RANDOM:
        vg(x)
    assert f.runs <= 2
    runs = f.runs
    for x in RANDOM:
        vg(x)
    assert f.runs == runs


def test_the_number_of_traces_is_bounded_and_the_oldest_goes():
    """64 traces are kept: the last 64 branches replay, the first one is traced again."""
    f = counted(lambda x: x * int(np.floor(stop_gradient(x))) + x**2)
    vg = tapead.value_and_grad(f)

    def check(k):
        value, gradient = vg(k + 0.5)
        assert value == pytest.approx((k + 0.5) * k + (k + 0.5) ** 2)
        assert gradient == pytest.approx(k + 2 * (k + 0.5))

    for k in range(100):
        check(k)
    assert f.runs == 100
    for k in range(99, 99 - 64, -1):
        check(k)
    assert f.runs == 100
    check(0)
    assert f.runs == 101


def test_signatures_have_traces_of_their_own():
    f = counted(lambda x: np.sum(x**2))
    vg = tapead.value_and_grad(f)
    for n in (1, 2, 3, 2, 1, 3):
        x = np.arange(1.0, n + 1)
        np.testing.assert_allclose(vg(x)[1], 2 * x)
    assert f.runs == 3


def test_many_guards_with_few_traces():
    """A function of many guards, all of which hold, is one trace."""

    def body(x):
        y = x[0]
        for xi in x:
            y = y + xi if xi > -100.0 else y - xi
        return y

    f = counted(body)
    vg = tapead.value_and_grad(f)
    for x in np.random.default_rng(1).standard_normal((5, 200)):
        value, gradient = vg(x)
        assert value == pytest.approx(x[0] + np.sum(x))
        np.testing.assert_allclose(gradient, np.r_[2.0, np.ones(199)])
    assert f.runs == 1
