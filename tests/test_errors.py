"""Bad input gets a clear error, and nothing is lost: the engine is usable after every one of them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import expect
import numpy as np
import pytest

import tapead
from tapead import grad, value_and_grad
from tapead.record import live_recordings

X = np.array([0.3, 1.2, 2.5])
Y = np.array([-0.7, 0.1, 1.9])


@pytest.fixture(autouse=True)
def still_usable():
    """After every error here an old function and a new one give right gradients."""
    old = value_and_grad(lambda x: np.sum(np.sin(x)))
    np.testing.assert_allclose(old(X)[1], np.cos(X))
    yield
    np.testing.assert_allclose(old(Y)[1], np.cos(Y))
    np.testing.assert_allclose(grad(lambda x: x[0] * x[1] ** 2)(X), [X[1] ** 2, 2 * X[0] * X[1], 0.0])


# What the function returns


@pytest.mark.parametrize(
    ("f", "shape"),
    [
        (lambda x: x, r"\(3,\)"),
        (lambda x: np.sin(x[:2]), r"\(2,\)"),
        (lambda x: np.outer(x, x), r"\(3, 3\)"),
        (lambda x: np.ones(4), r"\(4,\)"),
        (lambda x: x[:0], r"\(0,\)"),
    ],
)
def test_output_that_is_no_scalar(f, shape):
    """The shape, and what to do: use a seed, or a Jacobian."""
    with expect.error((TypeError, ValueError), shape, "seed|jacobian"):
        grad(f)(X)


def test_an_argument_that_the_output_does_not_depend_on_has_gradient_zero():
    np.testing.assert_array_equal(grad(lambda x: 1.0)(X), np.zeros(3))
    np.testing.assert_array_equal(grad(lambda x, y: np.sum(y))(X, Y), np.zeros(3))


class Something:
    pass


@pytest.mark.parametrize(
    ("output", "word"),
    [
        (None, "None"),
        ("loss", "str"),
        ({"loss": 1.0}, "dict"),
        ([1.0, 2.0], "list"),
        (Something(), "Something"),
        (np.array(["a"]), "str|U1|array"),
        (len, "builtin|function"),
        (np.array(None), "object|None|array"),
        (1j, "complex"),
    ],
)
def test_output_that_is_no_number(output, word):
    with expect.error(TypeError, word):
        grad(lambda x: output)(X)


def test_a_forgotten_return():
    def f(x):
        np.sum(x)

    with expect.error(TypeError, "None"):
        grad(f)(X)


def test_traced_values_in_a_structure_are_no_number():
    with expect.error(TypeError, "dict"):
        grad(lambda x: {"loss": np.sum(x)})(X)
    with expect.error(TypeError, "tuple|has_aux"):
        grad(lambda x: (np.sum(x), x))(X)


@pytest.mark.parametrize("output", [1.0, None, (1.0,), (1.0, 2.0, 3.0)])
def test_aux_needs_a_pair(output):
    with expect.error((TypeError, ValueError), "has_aux|pair|aux"):
        grad(lambda x: output, has_aux=True)(X)


# What is differentiated


@pytest.mark.parametrize(
    ("x", "word"),
    [
        (3, "int"),
        (True, "bool"),
        (np.array([1, 2, 3]), "int64"),
        (np.int32(3), "int"),
        (np.array([True, False]), "bool"),
        ("three", "str"),
        (np.array(["a", "b"]), "str|U1"),
        (np.array([1.0, None], dtype=object), "object"),
        (np.array([np.ones(2), "a"], dtype=object), "object"),
        (Something(), "Something|object"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime"),
        ({"a": X, "n": 3}, "int"),
        ([X, "name"], "str"),
        (len, "function|builtin"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_inputs_that_cannot_be_differentiated(x, word):
    with expect.error(TypeError, word):
        grad(lambda x: 1.0)(x)


def test_integer_input_says_how_to_go_on():
    with expect.error(TypeError, "int", "float"):
        grad(lambda x: x**2)(3)


@pytest.mark.parametrize("x", [1j, np.complex128(1.0), np.array([1j, 2.0]), np.ones(2, np.complex64), {"z": 1j}])
def test_complex_input_is_not_supported_yet(x):
    with expect.error((TypeError, NotImplementedError), "complex", "not supported yet"):
        grad(lambda x: 1.0)(x)


def test_nothing_to_differentiate():
    """A structure without a float: zero gradients of nothing, or an error that says so."""
    for empty in ({}, [], None, ()):
        try:
            assert grad(lambda x: 1.0)(empty) == empty
        except tapead.TapeadError as problem:
            if "differentiate" not in str(problem):
                raise


@pytest.mark.parametrize("argnums", [3, -4, 10, (0, 3), (1, -5)])
def test_argnums_out_of_range(argnums):
    with expect.error((ValueError, IndexError, TypeError), "argnums", "3"):
        grad(lambda x, y, z: np.sum(x), argnums=argnums)(X, X, X)


@pytest.mark.parametrize("argnums", ["x", 1.0, None, (0, "y"), (0.0,), True, slice(0, 1)])
def test_argnums_of_a_wrong_kind(argnums):
    with expect.error(TypeError, "argnums"):
        grad(lambda x, y: np.sum(x), argnums=argnums)(X, X)


@pytest.mark.parametrize("argnums", [(0, 0), (0, 1, 0), (0, -2), ()])
def test_argnums_twice_or_none(argnums):
    with expect.error((TypeError, ValueError), "argnums"):
        grad(lambda x, y: np.sum(x), argnums=argnums)(X, X)


def test_no_arguments_at_all():
    with expect.error((TypeError, ValueError, IndexError), "argnums|argument"):
        grad(lambda: 1.0)()


def test_wrong_arguments_are_pythons_own_error():
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        grad(lambda x, y: x)(1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        grad(lambda x: x)(1.0, z=2.0)


@pytest.mark.parametrize("f", [None, 3, "f", X])
def test_what_is_no_function(f):
    with expect.error(TypeError, "function|callable"):
        grad(f)(X)


# Shapes and rules


def broadcast_mismatch(x):
    y = x[:2] * 2.0
    return np.sum(x + y)


def matmul_mismatch(x):
    return np.sum(np.ones((2, 4)) @ x)


def dot_mismatch(x):
    return np.dot(x, x[:2])


def reshape_mismatch(x):
    return np.sum(x.reshape(2, 2))


def concatenate_mismatch(x):
    return np.sum(np.concatenate([np.outer(x, x), x]))


def axis_mismatch(x):
    return np.sum(np.sum(x, axis=1))


def stack_mismatch(x):
    return np.sum(np.stack([x, x[:2]]))


def index_mismatch(x):
    return x[3]


def indices_mismatch(x):
    return x[0, 0]


def solve_mismatch(x):
    return np.sum(np.linalg.solve(np.ones((2, 3)), x))


def einsum_mismatch(x):
    return np.einsum("ij,j->i", x, x)[0]


def where_mismatch(x):
    return np.sum(np.where(x > 0, x, x[:2]))


MISMATCHES = [
    (broadcast_mismatch, ValueError, "operands could not be broadcast together", "np.sum(x + y)"),
    (matmul_mismatch, ValueError, "mismatch|not aligned|core dimension", "@ x"),
    (dot_mismatch, ValueError, "not aligned|do not match", "np.dot"),
    (reshape_mismatch, ValueError, "cannot reshape array of size 3", "x.reshape"),
    (concatenate_mismatch, ValueError, "dimensions|axes", "np.concatenate"),
    (axis_mismatch, (ValueError, IndexError), "axis 1 is out of bounds", "axis=1"),
    (stack_mismatch, ValueError, "same shape", "np.stack"),
    (index_mismatch, IndexError, "index 3 is out of bounds", "x[3]"),
    (indices_mismatch, IndexError, "too many indices", "x[0, 0]"),
    (solve_mismatch, ValueError, "square|mismatch", "np.linalg.solve"),
    (einsum_mismatch, ValueError, "einsum|subscript|dimension", "np.einsum"),
    (where_mismatch, ValueError, "broadcast", "np.where"),
]


@pytest.mark.parametrize(("f", "kind", "words", "line"), MISMATCHES)
def test_mismatches_have_numpys_message_and_the_line(f, kind, words, line):
    with pytest.raises(kind, match=words):
        f(X)
    with expect.error(kind, words, line=(f, line)):
        grad(f)(X)


def no_rule_for_fft(x):
    y = x * 2.0
    return np.sum(np.fft.fft(y).real)


def no_rule_for_eigvals(x):
    return np.linalg.eigvals(np.outer(x, x))[0]


def no_rule_for_a_ufunc(x):
    return np.sum(np.heaviside(x, 0.5) + np.spacing(x))


def no_rule_for_a_reduction(x):
    return np.logaddexp.reduce(x) + np.hypot.accumulate(x)[2]


def no_rule_for_unwrap(x):
    return np.sum(np.unwrap(x))


@pytest.mark.parametrize(
    ("f", "name", "line"),
    [
        (no_rule_for_fft, "fft", "np.fft.fft"),
        (no_rule_for_eigvals, "eigvals", "eigvals(np"),
        (no_rule_for_a_ufunc, "heaviside|spacing", "np.heaviside"),
        (no_rule_for_a_reduction, "logaddexp|hypot|accumulate", "np.logaddexp"),
        (no_rule_for_unwrap, "unwrap", "np.unwrap"),
    ],
)
def test_a_function_without_a_rule_is_named_with_the_line(f, name, line):
    with expect.error(NotImplementedError, name, line=(f, line)):
        grad(f)(X)


def test_the_nearest_is_named():
    with expect.error(NotImplementedError, "eigvals", r"nearest"):
        grad(no_rule_for_eigvals)(X)


# A traced value that leaves its trace

kept = []


def keeping(x):
    kept[:] = [x, x * 2.0]
    return np.sum(x**2)


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize(
    "use",
    [
        lambda t: t + 1.0,
        lambda t: np.sin(t),
        lambda t: t[0],
        lambda t: np.sum(t),
        lambda t: t @ X,
        lambda t: t.sum(),
        lambda t: bool(t[0] > 0),
        lambda t: np.concatenate([t, t]),
    ],
)
def test_a_leaked_value_outside_of_any_trace(use, k):
    grad(keeping)(X)
    with expect.error((TypeError, ValueError, RuntimeError), "trace|tape"):
        use(kept[k])


def test_a_leaked_value_cannot_be_assigned_to():
    grad(keeping)(X)
    with expect.error((TypeError, ValueError, RuntimeError), "trace|tape"):
        kept[1][0] = 1.0


def test_a_leaked_value_in_another_trace():
    grad(keeping)(X)

    def f(x):
        return np.sum(x * kept[1])

    with expect.error((TypeError, ValueError, RuntimeError), "trace|tape", line=(f, "return")):
        grad(f)(X)


def test_a_leaked_value_in_a_later_trace_of_the_same_function():
    def f(x):
        if kept:
            return np.sum(kept[0] * x)
        kept.append(x)
        return np.sum(x)

    kept.clear()
    vg = value_and_grad(f)
    vg(X)
    with expect.error((TypeError, ValueError, RuntimeError), "trace|tape"):
        vg(X[:2])


def test_a_leaked_value_as_output_or_argument():
    grad(keeping)(X)
    with expect.error((TypeError, ValueError, RuntimeError), "trace|tape"):
        grad(lambda x: kept[1][0])(X)
    with expect.error((TypeError, ValueError, RuntimeError), "trace|tape|traced"):
        grad(lambda x: np.sum(x))(kept[1])


def test_a_leaked_value_of_a_finished_tape():
    with tapead.Tape() as tape:
        x = tape.variable(X)
        y = np.sum(x**2)
    tape.backward(y)
    with expect.error((TypeError, ValueError, RuntimeError), "trace|tape"):
        y * 2.0


def test_a_leaked_value_can_still_be_printed():
    grad(keeping)(X)
    assert isinstance(repr(kept[0]), str)


# out=


@pytest.mark.parametrize(
    ("out", "kind", "word"),
    [
        (np.zeros(4), ValueError, r"\(4,\)"),
        (np.zeros((3, 1)), ValueError, r"\(3, 1\)"),
        (np.zeros(()), ValueError, r"\(\)"),
        (np.zeros(3, np.float32), (TypeError, ValueError), "float32"),
        (np.zeros(3, int), (TypeError, ValueError), "int64"),
        (np.zeros(3, ">f8"), (TypeError, ValueError), ">f8|byte order|dtype|native"),
        (np.zeros(6)[::2], ValueError, "contiguous"),
        (np.zeros(3)[::-1], ValueError, "contiguous"),
        ([0.0, 0.0, 0.0], (TypeError, ValueError), "out"),
        (5.0, TypeError, "float"),
        ("out", TypeError, "str"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_out_that_does_not_fit(out, kind, word):
    vg = value_and_grad(lambda x: np.sum(x**2))
    for _ in range(2):  # the first call traces, the second replays
        with expect.error(kind, "out", word):
            vg(X, out=out)
        np.testing.assert_allclose(vg(X)[1], 2 * X)


def test_out_that_is_read_only():
    out = np.zeros(3)
    out.flags.writeable = False
    with expect.error(ValueError, "out", "read-only|writeable|written"):
        value_and_grad(lambda x: np.sum(x**2))(X, out=out)
    np.testing.assert_array_equal(out, np.zeros(3))


def test_out_that_overlaps_an_input():
    memory = np.arange(1.0, 7.0)
    vg = value_and_grad(lambda x, y: np.sum(x**2 * y))
    for x, y, out in (
        (memory[:3], Y, memory[:3]),
        (memory[:3], Y, memory[1:4]),
        (memory[1:4], Y, memory[:3]),
        (X, memory[:3], memory[2:5]),
    ):
        before = memory.copy()
        with expect.error(ValueError, "out", "overlap|share"):
            vg(x, y, out=out)
        np.testing.assert_array_equal(memory, before)
    vg(memory[:3], Y, out=memory[3:])
    np.testing.assert_allclose(memory[3:], 2 * memory[:3] * Y)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_out_that_overlaps_the_only_input_of_a_warm_call(shift):
    memory = np.arange(1.0, 9.0)
    vg = value_and_grad(lambda x: np.sum(x**2))
    vg(memory[:3], out=memory[5:])
    for x, out in ((memory[:3], memory[shift : shift + 3]), (memory[shift : shift + 3], memory[:3])):
        before = memory.copy()
        with expect.error(ValueError, "out", "overlap|share"):
            vg(x, out=out)
        np.testing.assert_array_equal(memory, before)
    vg(memory[:3], out=memory[3:6])
    np.testing.assert_allclose(memory[3:6], 2 * memory[:3])


def test_out_with_a_scalar_argument():
    with expect.error((TypeError, ValueError), "out"):
        value_and_grad(lambda x: x**2)(2.0, out=np.empty(3))


# Exceptions of the user


class Trouble(Exception):
    pass


@pytest.mark.parametrize("kind", [Trouble, ValueError, TypeError, ZeroDivisionError, StopIteration, MemoryError])
def test_exceptions_pass_through_unchanged(kind):
    problem = kind("the user's own")

    def f(x):
        y = np.sin(x)
        raise problem
        return y

    for _ in range(2):
        with pytest.raises(kind) as caught:
            grad(f)(X)
        assert caught.value is problem
        assert not isinstance(caught.value, tapead.TapeadError)
        assert caught.value.args == ("the user's own",)
        assert getattr(caught.value, "__notes__", []) == []


def test_exceptions_pass_through_nested_gradients():
    problem = Trouble()

    def inner(y):
        if y > 1:
            raise problem
        return y**2

    second = grad(grad(inner))
    with pytest.raises(Trouble) as caught:
        second(2.0)
    assert caught.value is problem
    assert second(0.5) == pytest.approx(2.0)


def test_an_exception_once_does_not_spoil_the_function():
    state = {"fail": True}

    def f(x):
        if state["fail"]:
            raise Trouble
        return np.sum(x**2)

    vg = value_and_grad(f)
    with pytest.raises(Trouble):
        vg(X)
    state["fail"] = False
    np.testing.assert_allclose(vg(X)[1], 2 * X)


def test_the_users_line_is_in_the_traceback():
    def f(x):
        return np.sum(x) * (1 / len([]))

    with pytest.raises(ZeroDivisionError) as caught:
        grad(f)(X)
    names = [entry.name for entry in caught.traceback]
    assert "f" in names


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_inside_a_trace_passes(kind):
    def f(x):
        y = np.sin(x)
        if interrupts:
            interrupts.pop()
            raise kind
        return np.sum(y)

    interrupts = [1]
    vg = value_and_grad(f)
    with pytest.raises(kind):
        vg(X)
    np.testing.assert_allclose(vg(X)[1], np.cos(X))


def test_an_interrupt_inside_a_nested_trace_passes():
    def inner(y):
        if interrupts:
            interrupts.pop()
            raise KeyboardInterrupt
        return y**3

    interrupts = [1]
    with pytest.raises(KeyboardInterrupt):
        grad(grad(inner))(2.0)
    assert grad(grad(inner))(2.0) == pytest.approx(12.0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
@pytest.mark.parametrize("case", ["replay", "trace", "branches", "threads"])
def test_ctrl_c_at_any_moment_of_a_call(case, monkeypatch):
    """KeyboardInterrupts at many moments of tracing and replaying calls leave right gradients behind."""
    swallowed = []  # by Python, which lets no exception out of the callback of a weak reference
    monkeypatch.setattr(sys, "unraisablehook", lambda what: swallowed.append(what.exc_type))

    def function():
        if case == "branches":
            return value_and_grad(lambda x: np.sum(x**2) if x[0] > 0 else np.sum(x**3))
        return value_and_grad(lambda x: np.sum(np.sin(x) * x))

    def truth(x):
        if case == "branches":
            return 2 * x if x[0] > 0 else 3 * x**2
        return np.cos(x) * x + np.sin(x)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    def work_elsewhere():
        while not done.is_set():
            np.testing.assert_allclose(vg(Y)[1], truth(Y))

    vg, done = function(), threading.Event()
    vg(X)
    other = threading.Thread(target=work_elsewhere)
    if case == "threads":
        other.start()
    before = signal.signal(signal.SIGALRM, interrupt)
    hits = 0
    try:
        for k in range(60):
            delay = 1e-5 + 3e-5 * k
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                stop = time.perf_counter() + 0.5
                while time.perf_counter() < stop:
                    if case == "trace":
                        vg = function()
                    vg(X if k % 2 else Y)
            except KeyboardInterrupt:
                hits += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            for x in (X, Y):
                np.testing.assert_allclose(vg(x)[1], truth(x))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        done.set()
        if case == "threads":
            other.join(30)
    assert hits + len(swallowed) == 60
    assert set(swallowed) <= {KeyboardInterrupt}
    assert hits > 50
    assert not other.is_alive()
    assert not live_recordings()


# The cache folder and memory

SMALL = """
import numpy as np, tapead
gradient = tapead.grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
assert gradient.tolist() == [2.0, 4.0], gradient
print("right")
"""


@pytest.mark.parametrize("folder", ["missing", "a file", "read-only"])
def test_a_cache_folder_that_cannot_be_used(tmp_path, folder):
    """Kernels are compiled without being kept, or the error names the folder."""
    place = tmp_path / "cache"
    if folder == "missing":
        place = place / "below" / "nothing"
    elif folder == "a file":
        place.write_text("not a folder")
    else:
        if os.geteuid() == 0:
            pytest.skip("nothing is read-only to root")
        place.mkdir()
        place.chmod(0o500)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(place), "PYTHONWARNINGS": "default"}
    run = subprocess.run(
        [sys.executable, "-c", SMALL],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if run.returncode:
        assert re.search(r"tapead\.errors\.\w+: .*" + re.escape(str(place)), run.stderr), run.stderr
    else:
        assert run.stdout.strip() == "right"


def test_no_space_for_the_values():
    """More than any machine has: a MemoryError that says how much was asked for."""

    def f(x):
        whole = np.broadcast_to(x[:, None], (3, 2**52))
        return np.sum(np.sin(whole) * whole)

    with pytest.raises(MemoryError) as caught:
        grad(f)(X)
    assert re.search(r"\d", str(caught.value))
    assert re.search(r"bytes|[KMGTPE]i?B", str(caught.value))


ARENA = """
import resource
import numpy as np, tapead
from tapead import TapeadError

def f(x):
    for _ in range(40):
        x = np.cumsum(np.sin(x)) / 1e6
    return np.sum(x)

tapead.grad(f)(np.ones(10))  # kernels and threads are there before the limit is
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * resource.getpagesize()
vg = tapead.value_and_grad(f)
resource.setrlimit(resource.RLIMIT_AS, (size + 250_000_000, -1))
try:
    vg(np.ones(1_000_000))
except MemoryError as problem:
    print("MemoryError", isinstance(problem, TapeadError), problem)
else:
    print("enough")
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert tapead.grad(lambda x: x @ x)(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits address space by setrlimit")
def test_no_space_for_the_arena():
    """320 MB of values under a limit of 250 MB: enough by reuse, or a MemoryError with the bytes."""
    run = subprocess.run([sys.executable, "-c", ARENA], capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr
    if run.stdout.startswith("MemoryError"):
        assert re.search(r"[\d,_.]+ ?(bytes|[KMGT]i?B)", run.stdout), run.stdout


def test_every_error_derives_from_tapead_error_and_a_builtin():
    import builtins

    from tapead import errors

    own = [e for e in vars(errors).values() if isinstance(e, type) and e.__module__ == errors.__name__]
    assert len(own) > 3
    others = {e for e in vars(builtins).values() if isinstance(e, type)} | {np.linalg.LinAlgError}
    for e in own:
        assert issubclass(e, tapead.TapeadError)
        if e is not tapead.TapeadError:
            assert (set(e.__mro__) & others) - {Exception, BaseException, object}, f"{e} has no built-in"


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda m: np.sum(np.linalg.inv(m)), np.zeros((2, 2))),
        (lambda m: np.sum(np.linalg.solve(m, np.ones(2))), np.ones((2, 2))),
        (lambda m: np.sum(np.linalg.cholesky(m)), -np.eye(2)),
    ],
)
def test_singular_matrices_raise_in_the_trace_and_in_a_replay(f, x):
    vg = value_and_grad(f)
    with expect.error(np.linalg.LinAlgError):
        vg(x)
    good = np.array([[2.0, 0.5], [0.5, 1.0]])
    vg(good)
    with expect.error(np.linalg.LinAlgError):
        vg(x)
    np.testing.assert_allclose(vg(good)[1], grad(f)(good), rtol=1e-14)
