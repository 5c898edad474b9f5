"""The way of a call from Python to the sweeps: compiled where the arguments are like the last ones, general elsewhere."""

import tracemalloc

import numpy as np
import pytest
from test_layers import python

from tapead import grad, jacobian, jvp, value_and_grad
from tapead.api import Differentiated
from tapead.kernels import objects
from tapead.plan import IN_PLACE
from tapead.replayed import replayed
from tapead.tree import flatten, reader

LARGE = IN_PLACE // 8 + 3
needs_readable = pytest.mark.skipif(not objects.readable(), reason="objects of this interpreter are not read in place")


def squares(x):
    return np.sum(x**2)


@pytest.fixture
def general_calls(monkeypatch):
    """Count the calls that come to the general way."""
    calls = []
    general = Differentiated._call

    def counted(self, *arguments):
        calls.append(arguments[0])
        return general(self, *arguments)

    monkeypatch.setattr(Differentiated, "_call", counted)
    return calls


@needs_readable
@pytest.mark.parametrize("n", [0, 1, 10, LARGE])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_calls_like_the_last_one_are_compiled(n, dtype, general_calls):
    x, out = np.linspace(0.0, 1.0, n, dtype=dtype), np.empty(n, dtype)
    vg = value_and_grad(squares)
    vg(x)
    for point in (x, x + 1, -x):
        value, gradient = vg(point)
        assert type(value) is dtype
        assert value == pytest.approx(squares(point), rel=1e-6)
        assert gradient.dtype == dtype
        np.testing.assert_array_equal(gradient, 2 * point)
        again, same = vg(point, out=out)
        assert again == value
        assert same is out
        np.testing.assert_array_equal(out, gradient)
    assert len(general_calls) == 1


@needs_readable
def test_a_value_of_nan_stays_on_the_compiled_way(general_calls):
    vg = value_and_grad(squares)
    vg(np.ones(3))
    for _ in range(3):
        value, gradient = vg(np.array([1.0, np.nan, 2.0]))
        assert np.isnan(value)
        np.testing.assert_array_equal(gradient, [2.0, np.nan, 4.0])
    assert len(general_calls) == 1


@needs_readable
def test_numbers_and_trees_are_compiled(general_calls):
    both = value_and_grad(lambda a, b: a * b + a, argnums=(0, 1))
    tree = grad(lambda p, k: np.sum(p["w"] ** 2) * p["b"][0] * k)
    point = {"w": np.arange(3.0), "b": (2.0, [])}
    for _ in range(3):
        assert both(2.0, 3.0) == (8.0, (4.0, 2.0))
        found = tree(point, 2)
        np.testing.assert_array_equal(found["w"], 8 * point["w"])
        assert found["b"] == (10.0, [])
    assert len(general_calls) == 2


X = np.arange(1.0, 5.0)
FROZEN = X.copy()
FROZEN.flags.writeable = False
OTHERS = {
    "strided": np.repeat(X, 2)[::2],
    "reversed": X[::-1].copy()[::-1],
    "byte order": X.astype(X.dtype.newbyteorder()),
    "unaligned": np.frombuffer(b"0" + X.tobytes(), np.uint8)[1:].view(np.float64),
    "read-only": FROZEN,
    "subclass": X.view(np.recarray),
    "matrix": X.reshape(2, 2),
    "longer": np.arange(1.0, 9.0),
    "float32": X.astype(np.float32),
    "Fortran": np.asfortranarray(X.reshape(2, 2)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_arguments_unlike_the_last_ones(other):
    """Whatever comes after a warm call is seen for what it is, and the next one too."""
    vg = value_and_grad(squares)
    for _ in range(2):
        for x in (X, other, X):
            value, gradient = vg(x)
            assert value == pytest.approx(np.sum(np.asarray(x) ** 2))
            np.testing.assert_array_equal(gradient, 2 * np.asarray(x))


@pytest.mark.parametrize("n", [4, LARGE])
def test_out_that_does_not_fit_is_refused_after_a_warm_call(n):
    vg, x = value_and_grad(squares), np.ones(n)
    memory, frozen = np.zeros(2 * n), np.empty(n)
    frozen.flags.writeable = False
    for _ in range(2):
        vg(x, out=np.empty(n))
        for out in (np.empty(n + 1), np.empty(n, np.float32), np.empty(2 * n)[::2], frozen, x):
            with pytest.raises(ValueError, match="out="):
                vg(x, out=out)
        with pytest.raises(ValueError, match="overlaps"):
            vg(memory[:n], out=memory[n - 1 : -1])
        with pytest.raises(TypeError, match="out="):
            vg(x, out=[0.0] * n)


def test_an_argument_twice_and_large_gradients_in_place():
    vg = value_and_grad(lambda x, y: np.sum(x * y) + x[2] * y[-1], argnums=(0, 1))
    x = np.linspace(0.0, 1.0, LARGE)
    out = np.full(LARGE, np.nan), np.full(LARGE, np.nan)
    for _ in range(3):
        vg(x, x, out=out)
        expected = x.copy()
        expected[2] += x[-1]
        np.testing.assert_allclose(out[0], expected)
        expected = x.copy()
        expected[-1] += x[2]
        np.testing.assert_allclose(out[1], expected)


def test_an_element_of_a_large_argument_as_the_value():
    vg, x = value_and_grad(lambda x: x[3]), np.arange(float(LARGE))
    for _ in range(3):
        value, gradient = vg(x)
        assert value == 3.0
        assert np.flatnonzero(gradient).tolist() == [3]


def test_branches_are_taken_after_warm_calls():
    vg = value_and_grad(lambda x: np.sum(x**2) if x[0] > 0 else np.sum(x))
    for sign in (1, 1, -1, -1, 1, -1):
        np.testing.assert_array_equal(vg(sign * X)[1], 2 * X if sign > 0 else np.ones(4))
        assert vg.last.guards


@pytest.mark.parametrize("n", [10, LARGE])
def test_a_call_with_out_allocates_the_number_only(n):
    vg, x, out = value_and_grad(squares), np.ones(n), np.empty(n)
    for _ in range(3):
        vg(x, out=out)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        vg(x, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < (1_000 if n == 10 else x.nbytes // 4)


def test_a_function_that_is_gone_leaves_its_results():
    vg = value_and_grad(squares)
    vg(X)
    call = vg.__call__
    del vg
    value, gradient = call(X)
    assert value == 30.0
    np.testing.assert_array_equal(gradient, 2 * X)


def test_without_reading_objects(monkeypatch):
    """Where objects cannot be read in place, everything goes the general way."""
    monkeypatch.setattr(objects, "readable", lambda: False)
    vg, out = Differentiated(squares, 0, False, True, 64), np.empty(4)
    for _ in range(3):
        assert vg(X, out=out)[0] == 30.0
        np.testing.assert_array_equal(out, 2 * X)


def test_readers_give_what_flattening_gives():
    tree = ({"b": 1.0, "a": [X, (2.0, 3)]}, [], {})
    leaves: list = []
    read = reader(flatten(tree)[1])
    assert read.read(tree, leaves)
    assert [id(leaf) for leaf in leaves] == [id(leaf) for leaf in flatten(tree)[0]]
    for other in (
        ({"b": 1.0, "c": [X, (2.0, 3)]}, [], {}),
        ({"b": 1.0, "a": [X, [2.0, 3]]}, [], {}),
        ({"b": 1.0, "a": [X, (2.0, 3)]}, [1], {}),
        ({"b": 1.0, "a": [X, (2.0, 3)], "d": 1}, [], {}),
    ):
        assert not read.read(other, [])
    assert reader(flatten((None, X))[1]) is None


LIGHT = """
import sys, numba
from numba.core import dispatcher, event
made, make = [], dispatcher.Dispatcher.__init__
dispatcher.Dispatcher.__init__ = lambda self, function, *rest, **more: (made.append(function), make(self, function, *rest, **more))[1]
before, compiled = set(sys.modules), event.RecordingListener()
with event.install_listener("numba:compile", compiled):
    import tapead
new = {name.partition(".")[0] for name in set(sys.modules) - before}
lazy = {name for name in set(sys.modules) - before if name.startswith("numpy.")}
assert not compiled.buffer, compiled.buffer
assert not made, made
assert not new & {"scipy", "jax", "torch", "casadi", "matplotlib", "sklearn"}, new
assert not lazy & {"numpy.f2py", "numpy.testing", "numpy.ma"}, lazy
"""


def test_importing_compiles_nothing_and_imports_little():
    run = python(LIGHT)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("n", [40, 50])  # 12,800 and 20,000 bytes: copied from where they lie, or written where they go
def test_large_results_are_arrays_of_their_own(n):
    w = np.linspace(-0.02, 0.02, n * n).reshape(n, n)
    x, y = np.linspace(0.1, 2.0, n), np.linspace(-1.0, 0.5, n)

    def expected(x):
        return (1 - np.tanh(w @ x) ** 2)[:, None] * w

    j = jacobian(lambda x: np.tanh(w @ x))
    found = [j(x), j(x), j(y), j(x)]
    for at, made in zip([x, x, y, x], found, strict=True):
        assert made.base is None
        assert made.flags.carray
        np.testing.assert_allclose(made, expected(at), rtol=1e-12)
    found[1][...] = 0.0
    np.testing.assert_allclose(j(x), found[0], rtol=0)


def test_large_results_that_are_one_or_share_memory():
    x = np.linspace(0.0, 1.0, 5000)

    def several(x):
        y = x * 2.0
        return y, y, y[1:], x, np.full(4000, 3.0), y[::2] * 1.0

    value, tangents = jvp(several, (x,), (x,))
    for _ in range(3):
        again, moved = jvp(several, (x + 1.0,), (x,))
    for k, (a, b, c, d) in enumerate(zip(value, tangents, again, moved, strict=True)):
        np.testing.assert_allclose(c, several(x + 1.0)[k])
        np.testing.assert_allclose(a, several(x)[k])
        np.testing.assert_allclose(b, d)
    arrays = [*value, *tangents, *again, *moved]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_large_results_of_a_call_that_takes_another_branch():
    x = np.linspace(0.0, 1.0, 3000)
    j = replayed(lambda x: x * 2.0 if np.sum(x) > 0 else x * 3.0, "branches")
    for at, factor in ((x, 2.0), (x, 2.0), (-x, 3.0), (x, 2.0), (-x, 3.0)):
        np.testing.assert_array_equal(j(at), factor * at)
