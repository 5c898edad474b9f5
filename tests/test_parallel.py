"""Several threads on one gradient: the same numbers, whoever does the work; and a pool that outlives what is done to it."""

import os
import subprocess
import sys
import threading
import warnings
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_programs import MODEST, functions, points, programs
from test_sweeps import recorded
from test_threads import in_a_fork, in_threads, needs_fork

import tapead
import tapead.numpy as tnp
from tapead import value_and_grad
from tapead.kernels.constants import ADD, ADJOINT, DIRECT, F8, PACK, PART, SPLAT, TAKE, TILE
from tapead.kernels.pool import BUSY, TICKET
from tapead.parallel import pool_table
from tapead.plan import Planner
from tapead.splitting import Access, split

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _as_before():
    """Leave the process with as many threads as it had."""
    with tapead.threads(tapead.get_threads()):
        yield


def jobs():
    """Count the rows that have been shared so far."""
    return int(pool_table()[TICKET]) >> 16


def results(f, arguments, count, wrt=None):
    """Give value and gradients by a number of threads, as a flat list; demand the same bits at every call."""
    vg = value_and_grad(f, wrt if wrt is not None else tuple(range(len(arguments))))
    found = []
    with tapead.threads(count):
        for _ in range(4):
            value, gradients = vg(*arguments)
            found.append([value, *gradients])
    for other in found[1:]:
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found[0], other, strict=True))
    return found[0]


def agree(f, *arguments, shared=True, rtol=1e-11):
    """Demand that 1, 2 and 3 threads give the same but for rounding, and that rows were shared."""
    alone, before = results(f, arguments, 1), jobs()
    for count in (2, 3):
        for a, b in zip(alone, results(f, arguments, count), strict=True):
            np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol)
    assert (jobs() > before) == shared


def draw(*shape, dtype=np.float64):
    return np.random.default_rng(sum(shape)).uniform(0.2, 1.2, shape).astype(dtype)


def loss(x, y):
    return np.sum(np.sin(x) * y + (x - y) ** 2 * np.exp(-x))


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


# ---- the same results --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2 * PART - 1, 2 * PART, 2 * PART + 1, 3 * PART + TILE + 1, 5 * PART - 7, 100_003])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sizes(n, dtype):
    agree(
        loss,
        draw(n, dtype=dtype),
        draw(n, dtype=dtype),
        shared=n >= 2 * PART,
        rtol=1e-4 if dtype == np.float32 else 1e-11,
    )


BROADCASTS = {
    "number": ((), (40_000,)),
    "one element": ((1,), (40_000,)),
    "row": ((50,), (1000, 50)),
    "long row": ((1000,), (50, 1000)),
    "column": ((1000, 1), (1000, 50)),
    "long column": ((20_000, 1), (20_000, 3)),
    "a few columns": ((3, 1), (3, 20_000)),
    "middle": ((40, 1, 10), (40, 100, 10)),
    "outer": ((300, 1), (1, 200)),
    "row and column": ((1, 1, 30), (200, 10, 1)),
    "transposed": ((50, 1000), (1000, 50)),
}


@pytest.mark.parametrize("shapes", BROADCASTS.values(), ids=BROADCASTS.keys())
def test_broadcast_operands(shapes):
    def f(x, y):
        x = x.T if shapes == BROADCASTS["transposed"] else x
        return np.sum(np.sin(x * y) * y + x)

    alone = results(f, [draw(*shape) for shape in shapes], 1)
    for count in (2, 3):
        for a, b in zip(alone, results(f, [draw(*shape) for shape in shapes], count), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-11)


def test_small_targets_are_shared_rows():
    agree(lambda w, x: np.sum(np.tanh(x * w)), draw(50), draw(1000, 50))
    agree(lambda w, x: np.sum(np.tanh(x * w)), draw(2000, 1), draw(2000, 50))


@pytest.mark.parametrize("axis", [0, 1, None])
def test_sums_over_axes(axis):
    agree(lambda x: np.sum(np.sum(np.exp(x) * x, axis=axis) ** 2), draw(600, 90))


def stencil(x):
    inner = x[1:-1, 1:-1]
    return np.sum((x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4.0 * inner) ** 2)


def test_views_that_overlap():
    agree(rosenbrock, draw(50_001))
    agree(lambda x: np.sum((x[::2] - x[1::2]) ** 2 * x[1::2]), draw(100_000))
    agree(lambda x: np.sum((x[3:] * x[:-3] - x[1:-2]) ** 2), draw(50_000))
    agree(stencil, draw(400, 130))


def test_large_adjoints_are_cleared_by_all():
    """Overlapping views of a large array: its adjoint is zeroed in parts, then added to, at every call."""
    x = draw(1_200_000)
    before = jobs()
    results(rosenbrock, [x], 2)
    assert jobs() - before == 8
    agree(rosenbrock, x)


def test_views_that_overlap_anyhow():
    for f, x in (
        (lambda x: np.sum(x[::-1] * x**2), draw(50_000)),
        (lambda x: np.sum(np.sin(x) * x.T), draw(200, 200)),
        (lambda x: np.sum(x[:25_000] * x[25_000:] ** 2), draw(50_000)),
        (lambda x: np.sum(x[0] * np.exp(x) + x[:, :1] * x), draw(200, 250)),
    ):
        alone = results(f, [x], 1)
        for count in (2, 3):
            for a, b in zip(alone, results(f, [x], count), strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-11)


def test_programs_that_write():
    def f(x):
        y = tnp.zeros(x.size)
        y[:] = x * 3.0
        a = np.sin(y)
        y[1:] = a[:-1] * y[1:] + 1.0
        return np.sum(a * y)

    agree(f, draw(40_000))


@given(program=programs(sizes=st.sampled_from([2 * PART - 1, 2 * PART, 2 * PART + TILE + 3, 4 * PART + 1])))
@settings(MODEST, max_examples=25)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_programs(program):
    source, size = program
    f, x = functions(source, size)[0], points(size, 1)[0]
    alone = results(f, [x], 1)
    for count in (2, 3):
        for a, b in zip(alone, results(f, [x], count), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-11)


def test_nan_and_infinity_flow():
    x = draw(50_000)
    x[[7, 49_999]] = np.nan, np.inf
    agree(lambda x: np.sum(x[1:] * x[:-1] ** 2), x)


# ---- what may be shared ------------------------------------------------------------------------------------------------


def rows(f, x):
    """Give the header words of a program's blocks."""
    tape, source, target = recorded(f, x)
    plan = Planner(tape, [target], target, [source]).make()
    return [list(plan.pool[place : place + 11]) for _, direction, place in plan.rows if direction == "block"]


def test_rosenbrock_reaches_one_element_into_the_next_part():
    (row,) = rows(rosenbrock, draw(50_000))
    assert row[8:10] == [row[2], 1]


def test_a_reversed_view_is_not_shared():
    assert any(row[8] == 0 for row in rows(lambda x: np.sum(x[::-1] * x**2), draw(50_000)))


def elements(space, key):
    """List the elements that a key reaches, in the order of the index space."""
    return [key[1] + sum(i * s for i, s in zip(index, key[2], strict=True)) for index in product(*map(range, space))]


@st.composite
def accesses(draw):
    space = draw(st.sampled_from([(96,), (12, 8), (8, 12), (4, 6, 4), (128,)]))
    full = [int(np.prod(space[k + 1 :])) for k in range(len(space))]
    made = []
    for _ in range(draw(st.integers(1, 4))):
        strides = [draw(st.sampled_from([s, s, s, 0, 2 * s, -s, s + 1])) for s in full]
        if draw(st.booleans()) and len(space) > 1:
            strides = strides[::-1]
        storage, offset = draw(st.integers(0, 1)), draw(st.sampled_from([0, 1, 2, 5, 96, 300]))
        kind = draw(st.sampled_from([PACK, ADD])) if any(strides) else SPLAT
        mode, stores = draw(st.sampled_from([ADJOINT, ADJOINT, 0, ADJOINT | TAKE])), draw(st.booleans())
        kind = DIRECT if strides == full and draw(st.booleans()) else kind
        mode = mode & ~TAKE if stores or kind != PACK else mode
        made.append(Access((storage, 1000 + offset, tuple(strides), F8), kind, mode, stores))
    return space, made


@given(accesses())
@MODEST
def test_no_two_parts_meet(case):
    """Element by element: what one part writes at a time, no other part reads or writes."""
    space, made = case
    (unit, overlap, _), private = split(space, 4, made)
    if unit == 0:
        return
    n = int(np.prod(space))
    reached = [elements(space, access.key) for access in made]
    for parts in range(2, n // (4 * max(unit, overlap)) + 1):
        bounds = [n * k // parts // unit * unit for k in range(parts)] + [n]
        ranges = [slice(bounds[k], bounds[k + 1] - (overlap if k < parts - 1 else 0)) for k in range(parts)]
        for a, b in combinations(range(parts), 2):
            for one, other in ((a, b), (b, a)):
                for i, j in product(range(len(made)), repeat=2):
                    x, y = made[i], made[j]
                    if x.key[0] != y.key[0] or (x.mode ^ y.mode) & ADJOINT or not x.writes or i in private:
                        continue
                    if j in private and y.stores:
                        continue
                    assert not set(reached[i][ranges[one]]) & set(reached[j][ranges[other]])
                for i in private:  # whoever reads a target of sums would read it too early
                    for j, y in enumerate(made):
                        if not y.stores and made[i].key[0] == y.key[0] and not (made[i].mode ^ y.mode) & ADJOINT:
                            assert not set(reached[i]) & set(reached[j])


# ---- many callers ------------------------------------------------------------------------------------------------------


def test_who_finds_the_pool_busy_gets_the_same_bits():
    arguments = [draw(50_000), draw(50_000)]
    shared, before = results(loss, arguments, 2), jobs()
    pool_table()[BUSY] = 1
    try:
        alone = results(loss, arguments, 2)
    finally:
        pool_table()[BUSY] = 0
    assert jobs() == before
    assert all(np.array_equal(a, b) for a, b in zip(shared, alone, strict=True))


def test_callers_at_once():
    vg = value_and_grad(loss, (0, 1))
    cases = [(draw(n), draw(n)) for n in (20_000, 30_000, 40_000, 50_000)]
    with tapead.threads(2):
        expected = [vg(*case) for case in cases]

        def work(k):
            for _ in range(100):
                value, gradients = vg(*cases[k % 4])
                assert value == expected[k % 4][0]
                assert all(np.array_equal(a, b) for a, b in zip(gradients, expected[k % 4][1], strict=True))

        in_threads(work, 6)


def test_the_number_changes_while_others_call():
    vg = value_and_grad(loss, (0, 1))
    x, y = draw(40_000), draw(40_000)
    value, (dx, dy) = vg(x, y)
    done = threading.Event()

    def work(k):
        if k == 0:
            for n in [1, 2, 3, 4] * 25:
                tapead.set_threads(n)
                vg(x, y)
            done.set()
        while not done.is_set():
            found, (fx, fy) = vg(x, y)
            assert found == pytest.approx(value, rel=1e-12)
            assert np.array_equal(fx, dx)
            assert np.array_equal(fy, dy)

    in_threads(work, 3)


@needs_fork
def test_a_forked_child_has_threads_of_its_own():
    arguments = [draw(50_000), draw(50_000)]
    with tapead.threads(2):
        expected = results(loss, arguments, 2)

        def work():
            assert tapead.get_threads() == 2
            assert sum(thread.name.startswith("tapead-") for thread in threading.enumerate()) == 1
            before = jobs()
            found = results(loss, arguments, 2)
            assert jobs() > before
            assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))

        in_a_fork(work)
        assert all(np.array_equal(a, b) for a, b in zip(expected, results(loss, arguments, 2), strict=True))


@needs_fork
def test_fork_while_the_pool_works():
    vg = value_and_grad(loss, (0, 1))
    x, y = draw(60_000), draw(60_000)
    with tapead.threads(2):
        expected = vg(x, y)[0]
        done = threading.Event()

        def call():
            while not done.is_set():
                vg(x, y)

        def work():
            for _ in range(5):
                assert vg(x, y)[0] == expected

        caller = threading.Thread(target=call)
        caller.start()
        try:
            for _ in range(5):
                in_a_fork(work)
        finally:
            done.set()
            caller.join()


EXITS = {
    "idle": "",
    "at work": "import threading\nthreading.Thread(target=lambda: [vg(x) for _ in iter(int, 1)], daemon=True).start()\n",
    "by an error": "raise SystemExit(3)\n",
    "forked": "import os\npid = os.fork()\nif pid == 0:\n    vg(x)\n    raise SystemExit(0)\nassert os.waitpid(pid, 0)[1] == 0\n",
}


@pytest.mark.parametrize("case", EXITS)
def test_processes_end(case):
    if case == "forked" and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; import conftest\n"
        "import numpy as np, tapead\n"
        "tapead.set_threads(3)\n"
        "vg = tapead.value_and_grad(lambda x: np.sum(np.sin(x) * x))\n"
        "x = np.linspace(0.0, 1.0, 50_000)\n"
        "vg(x)\n"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code + EXITS[case]], capture_output=True, text=True, timeout=120)
        assert done.returncode == (3 if case == "by an error" else 0), done.stderr
        assert "rror" not in done.stderr


# ---- the setting -------------------------------------------------------------------------------------------------------


def test_one_thread_is_the_default():
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; import conftest\n"
        "import tapead, threading\n"
        "print(tapead.get_threads(), threading.active_count())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "1 1\n", done.stderr


def test_the_context_restores():
    before = tapead.get_threads()
    with tapead.threads(3):
        assert tapead.get_threads() == 3
        with tapead.threads(2):
            assert tapead.get_threads() == 2
        assert tapead.get_threads() == 3
        with pytest.raises(ZeroDivisionError), tapead.threads(5):
            raise ZeroDivisionError
        assert tapead.get_threads() == 3
    assert tapead.get_threads() == before


def test_blas_has_as_many():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    from scipy.linalg import cython_blas  # noqa: F401 (loads the library)

    def counts():
        return {
            lib["filepath"]: lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"
        }

    before = counts()
    with tapead.threads(2):
        assert [path for path, n in counts().items() if n == 2]
    assert counts() == before


@pytest.mark.parametrize("use", [tapead.set_threads, lambda n: tapead.threads(n).__enter__()])
def test_misuse(use):
    before = tapead.get_threads()
    for n in (2.0, "2", None, True, np.float64(2)):
        with pytest.raises(TypeError, match="number of threads must be an int"):
            use(n)
    for n in (0, -1):
        with pytest.raises(ValueError, match="number of threads must be at least 1"):
            use(n)
    assert tapead.get_threads() == before
    with tapead.threads(np.int64(2)):
        assert tapead.get_threads() == 2


def test_more_threads_than_anybody_has():
    x, y = draw(50_000), draw(50_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agree_with = results(loss, [x, y], 1)
        for a, b in zip(agree_with, results(loss, [x, y], 12), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-11)
